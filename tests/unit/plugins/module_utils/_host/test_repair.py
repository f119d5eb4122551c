# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import repair as module
from ansible_collections.sipguard.pbx.plugins.module_utils._host.emergency import Settings
from ansible_collections.sipguard.pbx.plugins.module_utils._host.repair import MANY, PAUSE, Watcher, repair
from ansible_collections.sipguard.pbx.plugins.module_utils._host.restore import restore
from ansible_collections.sipguard.pbx.plugins.module_utils._host.switch import Switch
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from tests.unit.plugins.module_utils._netfilter import samples
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

SETS = "add sipguard-trusted4 192.0.2.0/24\n# end\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """What a host keeps for its next boot; nobody has ever changed it under a timer."""
    found = Store(str(tmp_path / "sipguard"))
    found.write("boot.json", Settings().render())
    found.write("sets", SETS)
    for family in FAMILIES:
        found.write(f"rules.v{family.version}", found.rules_text(samples.golden("enforce", family), "nft"))
    monkeypatch.setattr(module, "Switch", lambda runner: Switch(runner, str(tmp_path / "switch"), found.directory))
    return found


@pytest.fixture
def guarded(host: FakeHost, store: Store) -> FakeHost:
    assert restore(host, store)[1] == []
    host.calls.clear()
    return host


def flush(host: FakeHost, *binaries: str) -> None:
    for binary in binaries or ("iptables", "ip6tables"):
        host.tables[binary].tables.pop("filter")


def test_whole_host_is_left_alone(guarded: FakeHost, store: Store) -> None:
    guarded.read_only = True
    result = repair(guarded, store)
    assert (result.missing, result.done, result.errors) == ([], [], [])


def test_flush_is_repaired_and_said(guarded: FakeHost, store: Store) -> None:
    flush(guarded, "ip6tables")
    result = repair(guarded, store)
    assert result.missing == ["ipv6: chains of table raw", "ipv6: SIPGUARD-UA"]
    assert [line.split(":")[0] for line in result.done] == ["ipv6 rules loaded"]
    assert result.errors == []
    assert repair(guarded, store).missing == []


def test_run_that_is_not_to_last_is_no_damage(guarded: FakeHost, store: Store) -> None:
    """The files say something else, but what stands there is whole."""
    for family in FAMILIES:
        store.write(f"rules.v{family.version}", store.rules_text(samples.golden("reject", family), "nft"))
    guarded.read_only = True
    assert repair(guarded, store).missing == []


def test_emptied_trusted_sources_are_damage(guarded: FakeHost, store: Store) -> None:
    guarded.sets["sipguard-trusted4"][1].clear()
    result = repair(guarded, store)
    assert result.missing == ["ipv4: the trusted sources"]
    assert guarded.sets["sipguard-trusted4"][1].keys() == {"192.0.2.0/24"}


def test_trusted_sources_of_a_run_that_is_not_to_last_are_left_alone(guarded: FakeHost, store: Store) -> None:
    members = guarded.sets["sipguard-trusted4"][1]
    members.clear()
    members["198.51.100.7"] = ""
    assert repair(guarded, store).missing == []
    assert members.keys() == {"198.51.100.7"}


@pytest.mark.parametrize("mode", ["fail", "close"])
def test_flushed_family_without_a_file_is_said(guarded: FakeHost, store: Store, tmp_path: Path, mode: str) -> None:
    store.write("boot.json", Settings(mode).render())
    (tmp_path / "sipguard/rules.v4").unlink()
    flush(guarded, "iptables")
    guarded.tables["iptables"].tables.pop("raw")
    result = repair(guarded, store)
    assert "ipv4: every rule, and the file to load them from" in result.missing
    assert len(result.errors) == 1
    assert "rules.v4 is missing" in result.errors[0]
    again = repair(guarded, store)
    assert bool(again.missing) is (mode == "fail")  # what was closed is whole


def test_repair_that_another_program_undoes_at_once_is_an_error(guarded: FakeHost, store: Store) -> None:
    flush(guarded)

    def undo(argv: object, stdin: str) -> Completed | None:
        guarded.tables["ip6tables"].tables.pop("filter", None)
        return None

    guarded.interfere = undo
    assert any("were gone again" in error for error in repair(guarded, store).errors)


# -- again and again


class Clock:
    """Time, and the fingerprint of the kernel, as the test has them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.print = 0

    def monotonic(self) -> float:
        return self.now

    def read(self) -> tuple[object, ...]:
        return (self.print,)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "monotonic", found.monotonic)
    monkeypatch.setattr(module, "Fingerprint", lambda: found)
    return found


@pytest.fixture
def said() -> list[tuple[int, str]]:
    return []


@pytest.fixture
def watcher(guarded: FakeHost, store: Store, clock: Clock, said: list[tuple[int, str]]) -> Watcher:
    """One that has had its first look."""
    made = Watcher(guarded, store, lambda priority, text: said.append((priority, text)))
    made.look()
    assert said == []
    guarded.calls.clear()
    return made


def test_nothing_is_started_while_the_fingerprint_stays(watcher: Watcher, guarded: FakeHost, clock: Clock) -> None:
    flush(guarded)  # which would change it
    for dummy in range(5):
        clock.now += 100
        watcher.look()
    assert guarded.calls == []


def test_change_of_others_is_looked_at_once(watcher: Watcher, guarded: FakeHost, clock: Clock) -> None:
    clock.print += 1
    watcher.look()
    assert guarded.calls
    guarded.calls.clear()
    clock.now += 100
    watcher.look()
    assert guarded.calls == []


def test_flush_is_repaired_and_logged(
    watcher: Watcher, guarded: FakeHost, clock: Clock, said: list[tuple[int, str]]
) -> None:
    flush(guarded)
    clock.print += 1
    watcher.look()
    ((priority, text),) = said
    assert priority == module.WARNING
    assert text.startswith("missing were ipv4: chains of table raw, ipv4: SIPGUARD-UA, ipv6: ")
    assert "ipv4 rules loaded: " in text


def test_expensive_look_is_not_taken_all_the_time(
    watcher: Watcher, guarded: FakeHost, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(argv: object, stdin: str) -> None:
        clock.now += 0.05

    guarded.interfere = slow
    clock.print += 1
    watcher.look()
    took = clock.now - 1000
    assert took > 0.1
    looks = 0
    for dummy in range(20):
        clock.now += 1
        clock.print += 1
        guarded.calls.clear()
        watcher.look()
        looks += bool(guarded.calls)
    assert 2 <= looks <= 6


def test_quarrel_is_said_and_slows_down(
    watcher: Watcher, guarded: FakeHost, clock: Clock, said: list[tuple[int, str]]
) -> None:
    for dummy in range(MANY):
        flush(guarded)
        clock.print += 1
        clock.now += 10
        watcher.look()
    critical = [text for priority, text in said if priority == module.CRITICAL]
    assert len(critical) == 1
    assert f"removed our rules {MANY} times within 10 minutes" in critical[0]
    assert "sipguard-repair.service" in critical[0]
    flush(guarded)
    clock.print += 1
    guarded.calls.clear()
    clock.now += PAUSE - 1
    watcher.look()
    assert guarded.calls == []
    clock.now += 2
    watcher.look()
    assert repair(guarded, watcher._store).missing == []
    clock.now += 700  # long ago
    said.clear()
    flush(guarded)
    clock.print += 1
    watcher.look()
    assert [priority for priority, text in said] == [module.WARNING]


def test_failure_is_logged_once_and_tried_again(
    watcher: Watcher, guarded: FakeHost, clock: Clock, store: Store, said: list[tuple[int, str]]
) -> None:
    text = store.read("rules.v4")
    store.write("rules.v4", "garbage\n")
    flush(guarded, "iptables")
    guarded.tables["iptables"].tables.pop("raw")
    clock.print += 1
    for dummy in range(4):
        clock.now += PAUSE + 1
        watcher.look()
    assert [priority for priority, text in said] == [module.WARNING, module.CRITICAL]
    assert "ipv4: every rule, and the file to load them from: nothing was put back" in said[0][1]
    store.write("rules.v4", text)
    said.clear()
    clock.now += PAUSE + 1
    watcher.look()
    assert [priority for priority, text in said] == [module.WARNING]
    assert "ipv4 rules loaded" in said[0][1]


def test_host_that_cannot_be_read_is_said_and_tried_again(
    watcher: Watcher, guarded: FakeHost, clock: Clock, said: list[tuple[int, str]]
) -> None:
    guarded.interfere = lambda argv, stdin: Completed(1, "", "Kernel error received: no memory\n")
    for dummy in range(3):
        clock.print += 1
        clock.now += PAUSE + 1
        watcher.look()
    assert [priority for priority, text in said] == [module.CRITICAL]
    guarded.interfere = None
    clock.now += PAUSE + 1
    guarded.calls.clear()
    watcher.look()
    assert guarded.calls
