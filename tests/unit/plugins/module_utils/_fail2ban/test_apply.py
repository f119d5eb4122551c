# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run against a fail2ban in memory that reads its directory; the real one is in tests/hosts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._fail2ban import apply as applying
from ansible_collections.sipguard.pbx.plugins.module_utils._fail2ban.apply import ADDRESSES, Outcome, Request
from ansible_collections.sipguard.pbx.plugins.module_utils._fail2ban.tree import Tree, sections
from ansible_collections.sipguard.pbx.plugins.module_utils._host import protected
from ansible_collections.sipguard.pbx.plugins.module_utils._host.protected import Protected
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

FILES = {
    "action.d/sipguard.conf": "[Definition]\nactionban = x\n",
    "jail.d/sipguard-sshd.conf": "[sshd]\nenabled = true\nfilter = sshd\naction = sipguard[name=sshd]\n",
}
ASTERISK = {"jail.d/sipguard-asterisk.conf": "[sipguard-asterisk]\nenabled = true\n"}


@dataclass
class Server:
    """fail2ban-client over a directory. ``jails`` None: no server. ``loads``: whether it really runs what it has read."""

    root: Path
    host: FakeHost
    jails: dict[str, list[str]] | None = None
    version: str = "1.0.2"
    loads: bool = True
    objection: str = ""
    idle: bool = False
    reloads: int = 0
    said: list[str] = field(default_factory=list)

    def read(self) -> dict[str, list[str]]:
        """Jails and their actions as they are written."""
        found: dict[str, list[str]] = {}
        for path in [*sorted((self.root / "jail.d").glob("*.conf")), self.root / "jail.local"]:
            for name, options in sections(path.read_text(), "").items() if path.exists() else ():
                if options.get("enabled") == "true":
                    found[name] = [options.get("action", "iptables").partition("[")[0]]
        return found

    def answer(self, argv: Sequence[str], stdin: str) -> Completed | None:
        if any(word.endswith("/asterisk") for word in argv):
            return Completed(1, "", "Unable to connect to remote asterisk\n")
        if not argv[0].endswith("fail2ban-client"):
            return None
        words = list(argv[1:])
        self.said.append(" ".join(words))
        if words == ["-V"]:
            return Completed(0, self.version + "\n", "")
        if words[-1] == "-t":
            text = "".join(path.read_text() for path in sorted(Path(words[1]).rglob("*.*")) if path.is_file())
            wrong = self.objection if self.objection and self.objection in text else ""
            return Completed(
                255 if wrong else 0, "", f"x y fail2ban [1]: ERROR   cannot read {wrong} of sshd\n" if wrong else ""
            )
        if words == ["-i"]:
            if self.jails is None:
                return Completed(255, "", "nobody\n")
            said = f"Fail2Ban v1\n\nfail2ban> Status\n`- Jail list:\t{', '.join(self.jails)}\n"
            for name, what in re.findall(r"^get (\S+) (actions|idle)$", stdin, flags=re.M):
                actions = self.jails.get(name, [])
                told = (
                    f"The jail {name} has the following actions:\n{', '.join(actions)}"
                    if actions
                    else f"No actions for jail {name}"
                )
                said += f"fail2ban> {told if what == 'actions' else self.idle}\n"
            return Completed(255, f"{said}fail2ban> ", "EOF\n")
        if words[-1] == "-d":
            return Completed(0, "", "")
        if words in (["reload"], ["start"]):
            self.reloads += 1
            self.idle = False
            if self.loads:
                read = self.read()
                # A jail that gets another action has none.
                old = self.jails or {}
                self.jails = {name: found if old.get(name, found) == found else [] for name, found in read.items()}
            else:
                self.jails = self.jails or {}
            return Completed(0, "OK\n", "")
        if words[:2] == ["reload", "--restart"]:
            assert self.jails is not None
            self.jails[words[2]] = self.read()[words[2]]
            return Completed(0, "OK\n", "")
        if words[0] == "stop":
            if words[1:]:
                assert self.jails is not None
                del self.jails[words[1]]
            else:
                self.jails = None
            return Completed(0, "", "")
        raise AssertionError(words)


@pytest.fixture
def server(host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    root = tmp_path / "fail2ban"
    for folder in ("action.d", "filter.d", "jail.d", "fail2ban.d"):
        (root / folder).mkdir(parents=True)
    made = Server(root, host)
    host.commands |= {"fail2ban-client", "iptables", "ip6tables", "ipset"}
    host.interfere = made.answer
    found = [Protected("192.0.2.1", "a gateway of this host"), Protected("127.0.0.0/8", "loopback")]
    found += [Protected("203.0.113.99", "the peer of an SSH connection"), Protected("2001:db8::/64", "trusted")]
    monkeypatch.setattr(protected, "find", lambda *dummy, **more: found)
    monkeypatch.setattr(applying, "Store", lambda: Store(str(tmp_path / "etc")))
    monkeypatch.setattr(applying._Job, "_systemd", lambda self: False)
    monkeypatch.setattr(applying, "_PATIENCE", 0.1)
    monkeypatch.setattr(applying, "_POLL", 0.01)
    return made


def run(server: Server, check: bool = False, **options: Any) -> Outcome:
    given: dict[str, Any] = {"files": FILES, "config_dir": str(server.root), "persist": False, **options}
    server.host.read_only = check
    return applying.apply(server.host, server.host, Request(**given), check)


def state(server: Server) -> tuple[object, ...]:
    return (Tree(str(server.root)).own(), server.jails, dict(server.host.sets), server.host.tables["iptables"].save())


def test_four_runs(server: Server) -> None:
    before = state(server)
    check = run(server, check=True)
    assert check.changed
    assert state(server) == before
    real = run(server)
    assert (real.before, real.after) == (check.before, check.after)
    assert real.done == ["started"]
    assert server.jails == {"sshd": ["sipguard"]}
    assert not run(server, check=True).changed
    again = run(server)
    assert (again.changed, again.done, server.reloads) == (False, [], 1)


def test_whoever_is_needed_is_never_banned_but_not_who_is_logged_in(server: Server) -> None:
    done = run(server, ignore=["198.51.100.0/25", "198.51.100.128/25", "2001:db8::1"])
    assert done.ignored == ["127.0.0.0/8", "192.0.2.1", "198.51.100.0/24", "2001:db8::/64"]
    text = Tree(str(server.root)).own()[ADDRESSES]
    assert f"sipguard_ignoreip = {' '.join(done.ignored)}\n" in text


def test_jail_that_is_off_in_the_server_is_a_difference(server: Server) -> None:
    run(server)
    server.jails = {}
    assert run(server, check=True).after == "jail sshd: on\n"
    assert run(server).done == ["reloaded"]
    assert server.jails == {"sshd": ["sipguard"]}


def test_server_that_runs_is_reloaded_and_not_started(server: Server) -> None:
    server.jails = {"own": ["iptables"]}
    assert run(server).done == ["reloaded"]
    assert "start" not in server.said


@pytest.mark.parametrize(
    ("objection", "words"),
    [
        ("actionban", "does not take sipguard's jails: cannot read actionban"),
        ("own", "wrong with or without sipguard: cannot read own"),
    ],
)
@pytest.mark.parametrize("running", [True, False])
def test_what_fail2ban_objects_to_changes_nothing(server: Server, objection: str, words: str, running: bool) -> None:
    (server.root / "jail.local").write_text("[own]\n")
    server.jails = {"own": ["iptables"]} if running else None
    server.objection = objection
    before = state(server)
    for check in (True, False):
        with pytest.raises(SipguardError, match=words):
            run(server, check)
        assert state(server) == before


def test_jail_that_ran_with_another_action_gets_ours(server: Server) -> None:
    server.jails = {"sshd": ["iptables"]}
    assert run(server, check=True).before.endswith("jail sshd: bans with iptables\n")
    run(server)
    assert server.jails == {"sshd": ["sipguard"]}
    server.jails = {"sshd": []}
    assert run(server, check=True).before == "jail sshd: bans with nothing\n"
    run(server)
    assert server.jails == {"sshd": ["sipguard"]}
    assert not run(server).changed


def test_jails_that_a_reload_has_left_idle_are_a_difference(server: Server) -> None:
    run(server)
    server.idle = True
    assert run(server, check=True).before == "jail sshd: reads nothing\n"
    run(server)
    assert not server.idle


def test_set_that_somebody_has_taken_out_of_its_list_is_put_back(server: Server) -> None:
    run(server)
    server.host.sets["jail-sshd4"] = ("hash:net family inet maxelem 262144 timeout 0 comment", {"192.0.2.7": ""})
    assert run(server, check=True).before == "jail-sshd4: not in sipguard-jails4\n"
    run(server)
    assert "jail-sshd4" in server.host.sets["sipguard-jails4"][1]
    assert not run(server).changed
    server.host.sets["jail-sshd6"] = ("hash:ip family inet6", {})
    with pytest.raises(SipguardError, match="the set jail-sshd6 exists, but is none that sipguard's action has made"):
        run(server)


def test_server_that_does_not_answer_is_left_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying._Job, "_active", lambda self: True)
    before = state(server)
    with pytest.raises(SipguardError, match="fail2ban runs, but does not answer; nothing was changed"):
        run(server)
    assert state(server) == before


@pytest.mark.parametrize("line", ["enabled = false", "action = mine"])
def test_what_the_administrator_says_of_our_jails_is_not_missed(server: Server, line: str) -> None:
    files = {"jail.d/sipguard.conf": "[sipguard-web]\nenabled = true\naction = sipguard[name=web]\n"}
    (server.root / "jail.local").write_text(f"[sipguard-web]\n{line}\n")
    server.jails = {"sipguard-web": ["mine"]} if "action" in line else {}
    done = run(server, check=True, files=files)
    assert "jail sipguard-web" not in done.before + done.after.replace("[sipguard-web]", "")


def test_what_is_read_before_our_files_does_not_count(server: Server) -> None:
    (server.root / "jail.d/aaa.conf").write_text("[sipguard-web]\nenabled = false\n")
    files = {"jail.d/sipguard.conf": "[sipguard-web]\nenabled = true\naction = sipguard[name=web]\n"}
    assert "jail sipguard-web: on\n" in run(server, check=True, files=files).after


def test_jail_that_is_somebody_elses_again_gets_its_action_back(server: Server) -> None:
    run(server)
    (server.root / "jail.local").write_text("[sshd]\nenabled = true\naction = mine\n")
    run(server)
    assert server.jails == {"sshd": ["mine"]}


@pytest.mark.parametrize("running", [True, False])
def test_server_that_does_not_run_the_jails_gets_its_files_back(server: Server, running: bool) -> None:
    server.jails, server.loads = ({"own": ["iptables"]} if running else None), False
    before = state(server)
    with pytest.raises(SipguardError, match="does not run the jails sshd, so its files were put back"):
        run(server)
    assert state(server)[0] == before[0]
    assert server.jails == ({"own": ["iptables"]} if running else None)
    assert "SIPGUARD-PRE" not in server.host.tables["iptables"].save()


def test_missing_package_is_told_in_check_mode_and_an_error_otherwise(server: Server) -> None:
    server.host.commands -= {"fail2ban-client"}
    found = run(server, check=True)
    assert found.missing_packages == ["fail2ban"]
    assert found.wished_packages == ["python3-pyinotify", "python3-systemd"]
    assert "package fail2ban\n" in found.after
    assert "jail sshd: on\n" in found.after
    with pytest.raises(SipguardError, match="packages are missing: fail2ban"):
        run(server)


def test_missing_log_is_told_in_check_mode_and_an_error_otherwise(server: Server, tmp_path: Path) -> None:
    server.host.commands |= {"asterisk"}
    options: dict[str, Any] = {"asterisk_files": ASTERISK, "logs": [str(tmp_path / "none")]}
    found = run(server, check=True, **options)
    assert found.missing_logs == [str(tmp_path / "none")]
    with pytest.raises(SipguardError, match=r"Asterisk does not write .*/none: logger\.conf needs a line"):
        run(server, **options)


def test_host_without_asterisk_gets_the_rest(server: Server, tmp_path: Path) -> None:
    done = run(server, asterisk_files=ASTERISK, logs=[str(tmp_path / "none")])
    assert (done.asterisk, done.jails) == (False, ["sshd"])


@pytest.mark.parametrize("version", ["0.10.2", "0.9.6"])
def test_old_fail2ban_is_refused(server: Server, version: str) -> None:
    server.version = version
    with pytest.raises(SipguardError, match=f"fail2ban {version} is too old: 0.11.2 or later would be right"):
        run(server)


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("[sshd]\nmaxretry = 3\n", ["sshd"]),
        ("[ssh-iptables]\nfilter = sshd[mode=aggressive]\n", ["sshd"]),
        ("[sipguard-asterisk]\nmaxretry = 3\n", []),
        ("[other]\nfilter = nginx\n", []),
    ],
)
def test_jail_of_others_goes_before_ours(server: Server, text: str, left_out: list[str]) -> None:
    (server.root / "jail.local").write_text(text)
    done = run(server)
    assert done.left_out == left_out
    assert ("jail.d/sipguard-sshd.conf" in Tree(str(server.root)).own()) is not bool(left_out)


def test_files_that_are_not_wanted_any_more_go(server: Server) -> None:
    run(server, files={**FILES, "filter.d/sipguard-old.conf": "x\n"})
    done = run(server)
    assert done.changed
    assert "filter.d/sipguard-old.conf" in done.before
    assert "filter.d/sipguard-old.conf" not in Tree(str(server.root)).own()


def test_refused_entry_of_ignore_names_the_option(server: Server) -> None:
    with pytest.raises(OptionError, match="ignore"):
        run(server, ignore=["not an address!"])


@pytest.mark.parametrize("running", [True, False])
def test_absent_leaves_nothing(server: Server, running: bool) -> None:
    (server.root / "jail.local").write_text("[own]\nenabled = true\n")
    server.jails = {"own": ["iptables"]} if running else None
    before = state(server)
    run(server)
    server.host.sets["jail-sshd4"] = ("hash:net family inet", {"192.0.2.7": ""})
    server.host.sets["sipguard-jails4"][1]["jail-sshd4"] = ""
    assert run(server, check=True, state="absent").changed
    assert run(server, state="absent").changed
    # somebody's own jail keeps it running
    assert state(server)[:3] == (before[0], {"own": ["iptables"]}, before[2])
    assert "SIPGUARD" not in server.host.tables["iptables"].save()
    assert not run(server, state="absent").changed


def test_absent_stops_what_was_stopped_before(server: Server) -> None:
    run(server)
    assert "# Before sipguard fail2ban was stopped.\n" in Tree(str(server.root)).own()[ADDRESSES]
    run(server, ignore=["198.51.100.7"])
    assert run(server, state="absent").done == ["stopped"]
    assert server.jails is None


def test_absent_stops_our_jails_of_a_server_that_could_not_start_without_us(server: Server) -> None:
    (server.root / "jail.local").write_text("[own]\nenabled = true\n")
    server.jails = {"own": ["iptables"]}
    run(server)
    server.objection = "own"
    done = run(server, state="absent")
    assert server.jails == {"own": ["iptables"]}
    assert (
        "does not load (cannot read own of sshd); what else it does goes on until it is restarted" in done.warnings[0]
    )


@pytest.mark.parametrize("wished", [True, False])
def test_jail_that_cannot_read_the_journal_is_left_out(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wished: bool
) -> None:
    (tmp_path / "fail2ban").mkdir(exist_ok=True)
    (tmp_path / "pyinotify.py").touch()
    if not wished:
        (tmp_path / "systemd").mkdir()
    monkeypatch.setattr(applying, "_MODULES", str(tmp_path))
    files = {**FILES, "jail.d/sipguard-journal.conf": "[sipguard-journal]\nenabled = true\nbackend = systemd\n"}
    done = run(server, files=files)
    assert done.wished_packages == (["python3-systemd"] if wished else [])
    assert done.left_out == (["sipguard-journal"] if wished else [])
