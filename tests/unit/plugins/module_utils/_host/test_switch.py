# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import switch as module
from ansible_collections.sipguard.pbx.plugins.module_utils._host.journal import Outcome
from ansible_collections.sipguard.pbx.plugins.module_utils._host.switch import Switch, check_seconds
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import lock, netlink, state, switch_guard, trust
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import IPV4, IPV6
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.state import capture
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError
from tests.unit.plugins.hosts import CACHE
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

OLD, NEW = ("192.0.2.7 40001",), ("192.0.2.7 40002",)
HOLD = "import fcntl, sys\nfile = open(sys.argv[1], 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()"


class Place:
    """A host in memory with a switch; ``started`` are the cookies whose timers were started."""

    def __init__(self, host: FakeHost, root: Path) -> None:
        self.host = host
        self.files = str(root / "etc")
        self.switch = Switch(host, str(root / "states"), self.files)
        self.started: list[str] = []
        self.said: list[str] = []

    def trust(self, *members: str) -> None:
        """A change: who is trusted, in the kernel and on disk."""
        wanted = {IPV4: list(members), IPV6: []}
        trust.converge(self.host, Store(self.files), wanted, present=True, persist=True, check=False)

    def trusted(self) -> set[str]:
        return set(self.host.sets.get("sipguard-trusted4", ("", {}))[1])

    def keep(self, *members: str) -> None:
        """A confirmed change."""
        cookie = self.switch.arm(60, OLD)[0].cookie
        self.trust(*members)
        self.switch.confirm(cookie, NEW)

    def watch(self, cookie: str, ready: Callable[[], None] = lambda: None) -> None:
        self.switch.watch(cookie, ready, self.said.append)


@pytest.fixture
def place(host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(netlink, "nft_rule_tables", lambda version: {"filter"})
    monkeypatch.setattr(state, "has_family", lambda family: True)
    monkeypatch.setattr(module, "COMMAND", sys.executable)
    monkeypatch.setattr(module, "_PAUSES", (0, 0, 0))
    made = Place(host, tmp_path)
    monkeypatch.setattr(module, "_start_watch", lambda runner, cookie: made.started.append(cookie))
    return made


# -- arming and confirming


def test_the_timer_runs_before_anything_changes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def start(runner: FakeHost, cookie: str) -> None:
        pending = place.switch.journal.pending()
        assert pending is not None
        seen.append((pending.cookie == cookie, place.switch.journal.state(pending.state).files))

    place.trust("192.0.2.1")
    monkeypatch.setattr(module, "_start_watch", start)
    pending, taken_back = place.switch.arm(60, OLD)
    assert taken_back == []
    assert len(pending.cookie) == 16
    assert [found[0] for found in seen] == [True]
    assert "192.0.2.1" in seen[0][1]["sets"]
    assert pending.connections == OLD
    assert 59 < pending.left() <= 60


def test_a_timer_that_does_not_start_leaves_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(runner: FakeHost, cookie: str) -> None:
        raise SipguardError("no timer")

    monkeypatch.setattr(module, "_start_watch", start)
    with pytest.raises(SipguardError, match="no timer"):
        place.switch.arm(60, OLD)
    assert place.switch.journal.pending() is None
    assert [outcome.why for outcome in place.switch.journal.record().outcomes] == [
        "because its timer could not be started"
    ]


def test_each_change_has_a_cookie_of_its_own(place: Place) -> None:
    for source in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        place.keep(source)
    assert len(set(place.started)) == 3


@pytest.mark.parametrize("seconds", [10, 60, 3600])
def test_seconds_that_are_right(seconds: int) -> None:
    assert check_seconds(seconds) == seconds


@pytest.mark.parametrize("seconds", [-1, 0, 9, 3601])
def test_seconds_that_are_wrong(seconds: int) -> None:
    with pytest.raises(OptionError, match=rf"^seconds: {seconds} cannot be used; 10 to 3600 seconds would be right"):
        check_seconds(seconds)


def test_confirmation_that_proves_nothing_is_refused(place: Place) -> None:
    cookie = place.switch.arm(60, (*OLD, "192.0.2.8 1"))[0].cookie
    for over in (OLD, (*NEW, *OLD)):
        with pytest.raises(
            SipguardError, match=r"over the connection over which it was made \(.*192\.0\.2\.7 40001\).* proves nothing"
        ):
            place.switch.confirm(cookie, over)
    assert place.switch.confirm(cookie, NEW).said == f"change {cookie} is confirmed"


def test_confirmation_that_is_too_late_is_refused(place: Place) -> None:
    cookie = place.switch.arm(0, OLD)[0].cookie
    with pytest.raises(SipguardError, match="its time ran out at"):
        place.switch.confirm(cookie, NEW)
    assert place.switch.journal.pending() is not None


def test_damaged_state_cannot_be_confirmed(place: Place) -> None:
    """It could not be gone back to later, and the timer still goes back to the one in its memory."""
    place.trust("192.0.2.1")
    pending = place.switch.arm(60, OLD)[0]
    path = Path(place.switch.journal.directory) / f"state-{pending.state}.json"
    path.write_text("{}")
    with pytest.raises(SipguardError, match="is damaged"):
        place.switch.confirm(pending.cookie, NEW)
    assert place.switch.journal.pending() == pending


def test_connections_are_those_of_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [sys.executable, "-c", f"from {module.__name__} import connections; print(*connections(), sep='\\n')"]
    env = {"PYTHONPATH": str(CACHE), "SSH_CONNECTION": "2001:db8::9%eth0 40001 2001:db8::1 22"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    assert "2001:db8::9 40001" in done.stdout.splitlines()


# -- going back


def test_going_back_that_fails_leaves_the_host_as_it_was(place: Place) -> None:
    place.keep("192.0.2.1")
    place.keep("192.0.2.2")
    before = place.switch.journal.record()
    refused = []

    def refuse(argv: Sequence[str], stdin: str) -> Completed | None:
        if argv[0].endswith("ipset") and "192.0.2.1" in stdin:
            refused.append(stdin)
            return Completed(1, "", "ipset v7: no\n")
        return None

    place.host.interfere = refuse
    for seconds in (0, 60):
        with pytest.raises(
            SipguardError, match=r"nothing was brought back, the host is as it was: set sipguard-trusted4: .*no"
        ):
            place.switch.rollback(seconds=seconds, over=OLD)
    assert len(refused) == 2
    assert place.trusted() == {"192.0.2.2"}
    assert place.switch.journal.pending() is None
    assert place.switch.journal.record().history == before.history
    assert "192.0.2.2" in (Path(place.files) / "sets").read_text()


@pytest.mark.parametrize("seconds", [0, 60])
def test_going_back_uses_the_history_up(place: Place, seconds: int) -> None:
    for source in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        place.keep(source)
    for left in ({"192.0.2.2"}, {"192.0.2.1"}, set()):
        report = place.switch.rollback(seconds=seconds, over=OLD)
        assert report.changed
        assert (report.pending is not None) is bool(seconds)
        if report.pending:
            place.switch.confirm(report.pending.cookie, NEW)
        assert place.trusted() == left
    with pytest.raises(SipguardError, match="there is nothing to go back to"):
        place.switch.rollback()


def test_going_back_to_what_is_confirmed_uses_nothing_up(place: Place) -> None:
    place.keep("192.0.2.1")
    place.keep("192.0.2.2")
    history = place.switch.journal.record().history
    for seconds in (0, 60):
        place.trust("192.0.2.9")
        report = place.switch.rollback(seconds=seconds, over=OLD)
        assert "was not as confirmed" in report.said
        if report.pending:
            place.switch.confirm(report.pending.cookie, NEW)
        assert place.trusted() == {"192.0.2.2"}
        assert place.switch.journal.record().history == history


def test_check_mode_goes_nowhere(place: Place) -> None:
    place.keep("192.0.2.1")
    place.host.read_only = True
    report = place.switch.rollback(seconds=60, check=True)
    assert report.changed
    assert "-192.0.2.1" not in report.before
    assert "add sipguard-trusted4 192.0.2.1\n" in report.before
    assert "192.0.2.1" not in report.after
    assert place.switch.journal.pending() is None


# -- the process that waits


def test_watch_ends_with_its_change(place: Place) -> None:
    place.trust("192.0.2.1")
    cookie = place.switch.arm(60, OLD)[0].cookie
    place.trust("192.0.2.2")

    def confirm() -> None:
        place.switch.confirm(cookie, NEW)

    place.watch(cookie, confirm)
    assert place.trusted() == {"192.0.2.2"}
    assert place.said == []


def test_watch_goes_back_when_the_time_has_run_out(place: Place) -> None:
    place.trust("192.0.2.1")
    cookie = place.switch.arm(0.05, OLD)[0].cookie
    place.trust("192.0.2.2")
    place.watch(cookie)
    assert place.trusted() == {"192.0.2.1"}
    (said,) = place.said
    assert said.startswith(f"change {cookie} was not confirmed in time and is taken back: ")
    assert place.switch.journal.pending() is None


def test_watch_needs_none_of_its_files_any_more(place: Place) -> None:
    place.trust("192.0.2.1")
    cookie = place.switch.arm(0.05, OLD)[0].cookie
    place.trust("192.0.2.2")

    def remove() -> None:
        for path in Path(place.switch.journal.directory).iterdir():
            path.unlink()

    place.watch(cookie, remove)
    assert place.trusted() == {"192.0.2.1"}


def test_watch_comes_second_to_whoever_had_the_lock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.trust("192.0.2.1")
    cookie = place.switch.arm(0, OLD)[0].cookie

    def before_the_lock(seconds: float) -> None:
        place.switch.rollback(cookie)
        place.trust("192.0.2.3")

    monkeypatch.setattr(time, "sleep", before_the_lock)
    place.watch(cookie)
    assert place.trusted() == {"192.0.2.3"}
    assert place.said == []


@pytest.mark.parametrize("failures", [1, 3])
def test_watch_tries_again(place: Place, failures: int) -> None:
    place.trust("192.0.2.1")
    cookie = place.switch.arm(0.05, OLD)[0].cookie
    place.trust("192.0.2.2")
    left = [OSError(12, "Cannot allocate memory"), None, OSError(12, "Cannot allocate memory")][:failures]

    def fail(argv: Sequence[str], stdin: str) -> Completed | None:
        if not argv[0].endswith("ipset") or stdin == "" or not left:
            return None
        error = left.pop()
        if error is not None:
            raise error
        return Completed(1, "", "ipset v7: no\n")

    place.host.interfere = fail
    place.watch(cookie)
    assert left == []
    assert place.trusted() == {"192.0.2.1"}
    assert len(place.said) == failures + 1
    assert all("cannot be taken back" in said for said in place.said[:-1])


def test_watch_gives_up_in_the_end_and_leaves_the_change_pending(place: Place) -> None:
    place.trust("192.0.2.1")
    cookie = place.switch.arm(0.05, OLD)[0].cookie
    place.trust("192.0.2.2")
    place.host.interfere = lambda argv, stdin: Completed(1, "", "no\n") if stdin else None
    place.watch(cookie)
    assert len(place.said) == 4
    assert place.switch.journal.pending() is not None


def test_watch_does_without_a_lock_that_nobody_lets_go(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """And comes back with it: whoever has it may still change something."""
    place.trust("192.0.2.1")
    cookie = place.switch.arm(0.05, OLD)[0].cookie
    place.trust("192.0.2.2")
    monkeypatch.setattr(module, "_LOCK_TIMEOUT", 0)
    argv = [sys.executable, "-c", HOLD, lock.LOCK_FILE]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        seen: list[set[str]] = []

        def complain(said: str) -> None:
            seen.append(place.trusted())
            if len(seen) == 2:
                place.trust("192.0.2.3")
                holder.kill()
                holder.wait()

        place.switch.watch(cookie, lambda: None, complain)
    assert seen[:2] == [{"192.0.2.2"}, {"192.0.2.1"}]
    assert place.trusted() == {"192.0.2.1"}
    assert place.switch.journal.record().outcome(cookie) is not None


def test_watch_that_cannot_write_down_what_it_did_has_done_it(place: Place) -> None:
    place.keep("192.0.2.1")
    cookie = place.switch.arm(0.05, OLD)[0].cookie
    place.trust("192.0.2.2")

    def damage() -> None:
        (Path(place.switch.journal.directory) / "record.json").write_text("{")

    place.watch(cookie, damage)
    assert place.trusted() == {"192.0.2.1"}
    (said,) = place.said
    assert "record.json is damaged" in said


@pytest.mark.parametrize("cookie", ["", "0123456789abcdef"])
def test_watch_of_no_change(place: Place, cookie: str) -> None:
    place.switch.arm(60, OLD)
    with pytest.raises(SipguardError, match="is pending"):
        place.watch(cookie)


def test_a_timer_of_old_leaves_a_later_change_alone(place: Place) -> None:
    """Even when the record was lost in between."""
    for source in ("192.0.2.5", "192.0.2.4", "192.0.2.1"):
        place.keep(source)
    first = place.switch.arm(0.05, OLD)[0].cookie

    def go_on() -> None:
        (Path(place.switch.journal.directory) / "pending.json").unlink()
        (Path(place.switch.journal.directory) / "record.json").unlink(missing_ok=True)
        place.keep("192.0.2.2")

    place.watch(first, go_on)
    assert place.trusted() == {"192.0.2.2"}
    assert place.said == []


# -- what starts it


class Systemd:
    """A runner that has systemd-run, which says no when told to."""

    def __init__(self, returncode: int) -> None:
        self.argv: list[str] = []
        self._returncode = returncode

    def which(self, command: str) -> str | None:
        return f"/usr/bin/{command}"

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        self.argv = list(argv)
        return Completed(self._returncode, "", "Failed to connect to bus\n" if self._returncode else "")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sipguard"
    monkeypatch.setattr(module, "COMMAND", str(path))
    return path


def _write(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_systemd_starts_it_where_it_can(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_systemd_is_ours", lambda: True)
    runner = Systemd(0)
    module._start_watch(runner, "c0ffee")
    assert runner.argv[0] == "/usr/bin/systemd-run"
    assert "--unit=sipguard-rollback-c0ffee" in runner.argv
    assert "--service-type=notify" in runner.argv
    assert runner.argv[-3:] == [str(command), "watch", "c0ffee"]


def test_a_process_of_its_own_where_systemd_says_no(
    command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_systemd_is_ours", lambda: True)
    _write(command, f'ps -o sid= -p $$ >{tmp_path}/sid; echo "$@" >{tmp_path}/argv; echo ready')
    module._start_watch(Systemd(1), "c0ffee")
    assert (tmp_path / "argv").read_text() == "watch c0ffee\n"
    assert int((tmp_path / "sid").read_text()) != os.getsid(0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot start"),
        ("exit 0", "it ended at once"),
        ("echo Traceback >&2; exit 1", "Traceback"),
        ("echo usage: sipguard; exit 2", "usage: sipguard"),
        ("sleep 60", "it says nothing"),
    ],
    ids=["missing", "silent", "broken", "old", "hanging"],
)
def test_a_timer_that_does_not_start_is_said(
    command: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    monkeypatch.setattr(module, "_systemd_is_ours", lambda: True)
    monkeypatch.setattr(module, "_START_TIMEOUT", 0.2 if text == "sleep 60" else 30)
    if text is not None:
        _write(command, text.replace("sleep", "exec sleep"))
    with pytest.raises(SipguardError, match=rf"nothing was changed: systemd-run failed: .*; .*{said}"):
        module._start_watch(Systemd(1), "c0ffee")


def test_systemd_of_another_place_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda path: True)
    monkeypatch.setattr(os.path, "samefile", lambda one, other: other != "/etc")
    assert not module._systemd_is_ours()
    monkeypatch.setattr(os.path, "samefile", lambda one, other: True)
    assert module._systemd_is_ours()
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    assert not module._systemd_is_ours()


# -- at boot


def test_nothing_happens_at_an_ordinary_boot(place: Place) -> None:
    assert place.switch.settle_at_boot() == ([], [])
    place.keep("192.0.2.1")
    assert place.switch.settle_at_boot() == ([], [])
    place.switch.arm(60, OLD)
    assert place.switch.settle_at_boot() == ([], [])


def _restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "id").write_text("another\n")
    monkeypatch.setattr(switch_guard, "_BOOT_ID", str(tmp_path / "id"))


def test_files_of_a_change_that_was_pending_are_put_back(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.trust("192.0.2.1")
    before = (Path(place.files) / "sets").read_bytes()
    cookie = place.switch.arm(60, OLD)[0].cookie
    place.trust("192.0.2.2")
    _restart(tmp_path, monkeypatch)
    place.host.read_only = True
    done, errors = place.switch.settle_at_boot()
    assert errors == []
    assert len(done) == 1
    assert cookie in done[0]
    assert "file sets" in done[0]
    assert (Path(place.files) / "sets").read_bytes() == before
    assert place.switch.settle_at_boot() == ([], [])


def test_damaged_record_does_not_keep_the_files_from_being_put_back(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.keep("192.0.2.1")
    place.switch.arm(60, OLD)
    place.trust("192.0.2.2")
    (Path(place.switch.journal.directory) / "record.json").write_text("{")
    _restart(tmp_path, monkeypatch)
    done, errors = place.switch.settle_at_boot()
    assert errors == []
    assert "record.json is damaged" in done[1]
    assert "192.0.2.1" in (Path(place.files) / "sets").read_text()


@pytest.mark.parametrize("lost", ["files", "everything"])
def test_unconfirmed_files_are_said(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    place.keep("192.0.2.1")
    pending = place.switch.arm(60, OLD)[0]
    place.trust("192.0.2.2")
    _restart(tmp_path, monkeypatch)
    if lost == "files":
        monkeypatch.setattr(Store, "write", _no_space)
    else:
        for path in Path(place.switch.journal.directory).glob("state-*"):
            path.unlink()
    done, errors = place.switch.settle_at_boot()
    assert done == []
    (error,) = errors
    assert error.startswith("a change that nobody confirmed may be loaded: ")
    assert place.switch.journal.pending() == pending


def _no_space(store: Store, name: str, text: str | None) -> None:
    raise SipguardError("cannot write: No space left on device")


# -- what people see


def test_situation(place: Place) -> None:
    found, text = place.switch.situation()
    assert (found["pending"], text) == (None, "sipguard: no change is pending")
    place.keep("192.0.2.1")
    pending = place.switch.arm(60, OLD)[0]
    place.switch.rollback(pending.cookie)
    waiting = place.switch.arm(60, OLD)[0]
    found, text = place.switch.situation()
    assert found["pending"]["cookie"] == waiting.cookie
    assert found["pending"]["connections"] == list(OLD)
    assert 58 <= found["pending"]["seconds_left"] <= 60
    assert [ended["confirmed"] for ended in found["ended"]] == [True, False]
    lines = text.splitlines()
    assert lines[0].startswith(f"sipguard: change {waiting.cookie} has to be confirmed until ")
    assert lines[1] == "  armed over the connection of 192.0.2.7 40001"
    assert lines[3] == "  'sipguard rollback' can go back 1 times"
    assert lines[-1].endswith(f": {pending.cookie} taken back, because that was asked for")


def test_outcomes_are_told(place: Place) -> None:
    pending = place.switch.arm(60, OLD)[0]
    record = place.switch.journal.record()
    record.outcomes.append(Outcome("c0ffee", False, 0.0, "because so"))
    record.number = 1
    place.switch.journal.close(record)
    with pytest.raises(
        SipguardError, match=r"c0ffee cannot be confirmed: it was taken back at 1970-01-01 00:00:00 UTC, because so"
    ):
        place.switch.confirm("c0ffee", NEW)
    assert pending.cookie not in place.switch.situation()[1]


# -- the command that waits

_WATCH = f"""
import sys
import time
from {module.__name__.rsplit(".", 1)[0]} import cli
from {module.__name__} import Switch
cli.Switch = lambda runner: Switch(runner, *sys.argv[2:4])
sys.exit(cli.main(["watch", sys.argv[1]]))
"""


def test_watch_tells_systemd_that_it_is_ready(place: Place, tmp_path: Path) -> None:
    cookie = place.switch.arm(60, OLD)[0].cookie
    argv = [sys.executable, "-c", _WATCH, cookie, place.switch.journal.directory, place.files]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        link.settimeout(30)
        env = {"PYTHONPATH": str(CACHE), "NOTIFY_SOCKET": str(tmp_path / "notify"), "JOURNAL_STREAM": "1:1"}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert link.recv(64) == b"READY=1"
            place.switch.confirm(cookie, NEW)
            assert process.communicate(timeout=30) == ("", "")
            assert process.returncode == 0


def test_watch_says_on_its_output_that_it_is_ready(place: Place) -> None:
    cookie = place.switch.arm(60, OLD)[0].cookie
    argv = [sys.executable, "-c", _WATCH, cookie, place.switch.journal.directory, place.files]
    with subprocess.Popen(argv, env={"PYTHONPATH": str(CACHE)}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.read() == "", "nobody can be kept waiting by it"
        assert process.poll() is None
        place.switch.confirm(cookie, NEW)
        assert process.wait(timeout=30) == 0


def test_watch_without_a_change_ends_with_2(place: Place) -> None:
    argv = [sys.executable, "-c", _WATCH, "c0ffee", place.switch.journal.directory, place.files]
    done = subprocess.run(argv, env={"PYTHONPATH": str(CACHE)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "sipguard: no change c0ffee is pending\n")


def test_capture_is_what_the_host_is(place: Place) -> None:
    place.trust("192.0.2.1")
    assert capture(place.host, place.files).sets["sipguard-trusted4"].members == {"192.0.2.1": None}
