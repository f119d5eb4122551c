# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a checkpoint keeps of FreePBX and brings back, and how an Asterisk that has died is started again."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import freepbx
from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint import files, kept
from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint import going_back as module
from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint.checkpoint import Checkpoint, Request
from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint.going_back import GoingBack
from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint.health import Health
from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint.kept import Kept
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import freepbx_rules
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.state import State
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._asterisk.consoles import DOWN
from tests.unit.plugins.module_utils._asterisk.php import FakePhp, install

ON, OFF = "enabled", "disabled"


class Pbx(FakePhp):
    """A host with systemd. ``units`` are those that are loaded; what is started of ``working`` brings Asterisk up, after two looks."""

    def __init__(self, **stored: dict[str, Any]) -> None:
        super().__init__(**stored)
        self.units: set[str] = set()
        self.working: set[str] = set()
        self._left: int | None = None
        self.done: list[str] = []

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        words = [os.path.basename(argv[0]), *argv[1:]]
        if words[0] == "timeout":
            words = [os.path.basename(argv[3]), *argv[4:]]
        if words[0] == "asterisk":
            if self._left is None or self._left > 0:
                self._left = None if self._left is None else self._left - 1
                return DOWN
            return Completed(0, "Asterisk 22.10.0\n", "")
        if words[:2] == ["systemctl", "show"]:
            states = {True: "loaded", False: "not-found"}
            names = words[words.index("--") + 1 :]
            return Completed(0, "\n".join(f"Id={name}\nLoadState={states[name in self.units]}\n" for name in names), "")
        if words[0] not in ("systemctl", "fwconsole"):
            return super().run(argv, stdin)
        self.done.append(" ".join(words))
        if words[1] == "restart" and words[-1] not in self.units:
            return Completed(5, "", f"Failed to restart {words[-1]}: Unit {words[-1]} not found.\n")
        if words[1] in ("restart", "start") and words[-1] in self.working:
            self._left = 2
        return Completed(0, "", "") if words[0] == "systemctl" else super().run(argv, stdin)


def going_back(host: FakePhp, before: dict[str, Any] | None = None, asterisk: str = "runs") -> GoingBack:
    kept = Kept(rules=State().render(), health=Health(asterisk).text(), freepbx=before or {})
    return GoingBack(host, kept)


def written_down(host: FakePhp, **settings: dict[str, Any]) -> dict[str, Any]:
    return Checkpoint(host, Request(freepbx=settings))._freepbx_settings()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system on which FreePBX is looked for."""
    monkeypatch.setattr(freepbx, "detect", partial(freepbx.detect, str(tmp_path)))
    return tmp_path


@pytest.fixture
def command(root: Path) -> str:
    """FreePBX is there, with this command."""
    return install(root)


# -- whether it loads custom rules


class Order(GoingBack):
    """What has nothing to do with FreePBX is only noted."""

    def __init__(self, host: FakePhp, before: dict[str, Any]) -> None:
        super().__init__(host, going_back(host, before)._kept)
        self.host = host

    def _take_back_pending(self) -> None:
        """Nothing is pending."""

    def _rules(self) -> None:
        self.host.asked.append("rules")

    def _files(self) -> list[str]:
        self.host.asked.append("files")
        return []

    def _asterisk(self, put_back: list[str]) -> None:
        """It runs."""

    def _leftovers(self) -> None:
        """None."""


@pytest.mark.parametrize(
    ("before", "now", "order"),
    [
        (ON, OFF, ['write firewall.customrules="enabled"', "rules", "files"]),
        (ON, None, ['write firewall.customrules="enabled"', "rules", "files"]),
        (OFF, ON, ["rules", "files", 'write firewall.customrules="disabled"']),
        (None, ON, ["rules", "files", "write firewall.customrules=null"]),
        (ON, ON, ["rules", "files"]),
        (OFF, OFF, ["rules", "files"]),
        (None, OFF, ["rules", "files"]),
    ],
)
def test_it_is_on_for_as_long_as_our_rules_are_there(
    before: str | None,
    now: str | None,
    order: list[str],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "units", lambda runner: {})
    monkeypatch.setattr(
        "ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.lock.LOCK_FILE", f"{tmp_path}/lock"
    )
    php = FakePhp(firewall={"customrules": before} if before else {})
    kept = written_down(php)
    assert kept == {"firewall": {"customrules": before}}
    php.stored["firewall"] = {"customrules": now} if now else {}
    php.asked.clear()
    # Somebody's changes on other pages are not applied for it.
    php.need_reload = True
    done = Order(php, kept).carry_out()
    assert [each for each in php.asked if each != "read"] == order
    assert done == (["FreePBX's setting customrules"] if len(order) == 3 else [])
    assert (php.custom_rules == ON) is (before == ON)


@pytest.mark.parametrize("comes_back", [True, False])
def test_it_is_switched_on_for_no_lines_but_those_of_then(
    comes_back: bool, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are a part of the checkpoint; what cannot be put back may hold whatever any user of the host has written."""
    monkeypatch.setattr(
        freepbx_rules, "rules_path", lambda family, directory="": f"{tmp_path}/firewall-{family.version}.rules"
    )
    path = tmp_path / "firewall-4.rules"
    path.write_text("-A INPUT -s 192.0.2.9 -j DROP\n")
    entry = files.look(str(path))
    assert entry
    state = State(others=freepbx_rules.others(FAMILIES).digest)
    php = FakePhp()
    kept = Kept({str(path): entry}, state.render(), Health("").text(), freepbx={"firewall": {"customrules": ON}})
    back = GoingBack(php, kept)
    path.write_text("-P INPUT DROP\n")
    if not comes_back:
        monkeypatch.setattr(back, "_put", lambda path: False)
    back._custom_rules(on=True)
    assert (php.custom_rules == ON) is comes_back
    if comes_back:
        assert path.read_text() == "-A INPUT -s 192.0.2.9 -j DROP\n"
        assert back._problems == []
    else:
        assert back._problems[0].startswith("FreePBX's setting customrules: it stays off, because 1 line of")


def test_it_is_kept_beside_what_the_inventory_names(command: str) -> None:
    php = FakePhp(firewall={"customrules": ON, "safemode": OFF}, chan_sip={"maxexpiry": ""})
    wanted: dict[str, Any] = {"firewall": {"safemode": True}, "chan_sip": {"maxexpiry": 600}}
    kept = written_down(php, **wanted)
    assert kept == {"firewall": {"customrules": ON, "safemode": OFF}, "chan_sip": {"maxexpiry": ""}}
    assert written_down(php, firewall={"customrules": False}) == {"firewall": {"customrules": ON}}
    php.stored["firewall"] = {"customrules": OFF, "safemode": ON}
    php.stored["chan_sip"] = {"maxexpiry": "600"}
    back = going_back(php, kept)
    back._custom_rules(on=True)
    back._freepbx([])
    assert (back._done, back._problems) == (["FreePBX's setting customrules", "FreePBX's settings"], [])
    assert php.stored["firewall"] == {"customrules": ON, "safemode": OFF}
    assert php.stored["chan_sip"] == {"maxexpiry": ""}
    assert not php.need_reload


def test_one_that_does_not_answer_keeps_no_run_from_beginning(command: str) -> None:
    """As long as the run asks nothing of FreePBX."""
    php = FakePhp()
    php.down = True
    assert written_down(php) == {}
    with pytest.raises(SipguardError, match="PHP ended before"):
        written_down(php, chan_sip={"maxexpiry": 600})
    back = going_back(php, {"firewall": {"customrules": ON}})
    back._custom_rules(on=True)
    back._freepbx([])
    assert back._done == []
    assert len(back._problems) == 1
    assert back._problems[0].startswith("FreePBX's setting customrules: PHP ended before")


def test_without_freepbx_or_its_firewall_nothing_is_kept(root: Path) -> None:
    php = FakePhp(firewall={"customrules": ON})
    assert written_down(php, chan_sip={"maxexpiry": 600}) == {}
    assert php.asked == []
    install(root)
    php.firewall = False
    assert written_down(php) == {}


def test_a_checkpoint_of_an_earlier_release_leaves_it_alone(command: str) -> None:
    php = FakePhp(firewall={"customrules": ON})
    back = going_back(php, {"chan_sip": {"maxexpiry": "3600"}})
    for on in (True, False):
        back._custom_rules(on=on)
    back._freepbx([])
    assert php.custom_rules == ON
    assert back._done == ["FreePBX's settings"]


# -- an Asterisk that ran, and does not any more


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs on this host; and no time passes."""
    isdir = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/run/systemd/system" or isdir(path))
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))


STARTS = [
    # FreePBX, units that are loaded, what starts Asterisk
    (True, {"freepbx.service", "asterisk.service"}, "freepbx.service"),
    (True, {"freepbx.service"}, "freepbx.service"),
    (True, {"asterisk.service"}, "start"),
    (True, set(), "start"),
    (False, {"asterisk.service", "freepbx.service"}, "asterisk.service"),
]


def brought_up(loaded: set[str], *working: str) -> tuple[Pbx, GoingBack]:
    """A host with these units on which Asterisk has died, after going back."""
    host = Pbx()
    host.units, host.working = loaded, set(working)
    back = going_back(host)
    back._asterisk([])
    return host, back


@pytest.mark.parametrize(("has_freepbx", "loaded", "starts"), STARTS)
def test_it_is_started_by_what_starts_it_here(
    has_freepbx: bool, loaded: set[str], starts: str, root: Path, systemd: None
) -> None:
    if has_freepbx:
        install(root)
    host, back = brought_up(loaded, starts)
    assert (back._done, back._problems) == (["Asterisk was started"], [])
    unit = [f"systemctl reset-failed {starts}", f"systemctl restart {starts}"]
    assert host.done == (["fwconsole start"] if starts == "start" else unit)


@pytest.mark.parametrize(("has_freepbx", "loaded", "starts"), STARTS)
def test_one_that_does_not_come_up_is_a_problem(
    has_freepbx: bool, loaded: set[str], starts: str, root: Path, systemd: None
) -> None:
    if has_freepbx:
        install(root)
    dummy, back = brought_up(loaded)
    assert (back._done, back._problems) == ([], ["Asterisk does not answer 90 s after it was started: see its log"])


@pytest.mark.parametrize("loaded", [set(), {"freepbx.service"}], ids=str)
def test_one_that_nothing_starts_is_a_problem(loaded: set[str], root: Path, systemd: None) -> None:
    host, back = brought_up(loaded)
    assert host.done == []
    assert back._done == []
    assert "there is no asterisk.service to start it" in back._problems[0]


def test_a_unit_that_cannot_be_started_is_a_problem(root: Path, systemd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Pbx()
    host.units = {"asterisk.service"}
    show = host.run

    def run(argv: Sequence[str], stdin: str = "") -> Completed:
        return Completed(1, "", "Job failed.\n") if "restart" in argv else show(argv, stdin)

    monkeypatch.setattr(host, "run", run)
    back = going_back(host)
    back._asterisk([])
    assert (back._done, back._problems) == ([], ["systemctl failed: Job failed."])


def test_one_that_runs_or_did_not_run_before_is_not_started(command: str, systemd: None) -> None:
    host = Pbx()
    host.units = host.working = {"freepbx.service"}
    for health in ("does not run", ""):
        going_back(host, asterisk=health)._asterisk([])
    host._left = 0
    going_back(host)._asterisk([])
    assert host.done == []


# -- what it has generated since


@pytest.mark.parametrize(
    ("name", "now", "asked"),
    [
        ("pjsip.endpoint.conf", "3600", ["pending"]),
        ("pjsip.endpoint.conf", "600", ['write chan_sip.maxexpiry="3600"', "fwconsole reload"]),
        ("pjsip_custom_post.conf", "3600", []),
        ("extensions_sipguard.conf", "3600", []),
    ],
)
def test_older_files_of_its_own_are_to_be_applied_again(
    name: str, now: str, asked: list[str], command: str, root: Path
) -> None:
    """Unless settings of ours went back, after which FreePBX has generated its files anew."""
    php = FakePhp(chan_sip={"maxexpiry": now})
    back = going_back(php, {"chan_sip": {"maxexpiry": "3600"}})
    back._freepbx([f"{root}/etc/asterisk/{name}", "/etc/fail2ban/jail.d/x.conf"])
    assert [each for each in php.asked if each != "read"] == asked
    assert back._problems == []


def test_without_settings_of_ours_they_are_to_be_applied_all_the_same(command: str, root: Path) -> None:
    php = FakePhp()
    going_back(php)._freepbx([f"{root}/etc/asterisk/sip_additional.conf"])
    assert php.asked == ["pending"]
    assert php.need_reload


def test_nothing_is_asked_where_nothing_came_back(command: str) -> None:
    php = FakePhp()
    going_back(php)._freepbx([])
    assert php.asked == []


def test_what_it_has_made_since_stays(command: str, root: Path, tmp_path: Path) -> None:
    """The flag of its firewall, a backup; not a custom file of a run."""
    folder = root / "etc/asterisk"
    folder.mkdir()
    new = [
        folder / name
        for name in ("firewall.enabled", "pjsip.new.conf", "pjsip_custom.conf", "extensions_sipguard.conf")
    ]
    for path in new:
        path.write_text("x")
    found, problems = kept.changed(Kept(rules=""), map(str, new))
    assert (found, problems) == (sorted(map(str, new[2:])), [])
    (root / "etc/freepbx.conf").unlink()
    assert kept.changed(Kept(rules=""), map(str, new))[0] == sorted(map(str, new))
