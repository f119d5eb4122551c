# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with sipguard: what is on it, and what it does on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

SCANNER = "friendly-scanner"
PHONE = "Yealink SIP-T46U 108.86.0.90"
FAMILIES = {"iptables": 4, "ip6tables": 6}


@pytest.fixture(params=FAMILIES)
def iptables(request: pytest.FixtureRequest) -> str:
    """The command of each family."""
    return str(request.param)


# -- what is on the host


@pytest.mark.parametrize(
    ("path", "kind", "mode"),
    [
        ("/etc/sipguard", "directory", 0o700),
        ("/etc/sipguard/rules.v4", "file", 0o600),
        ("/etc/sipguard/rules.v6", "file", 0o600),
        ("/etc/sipguard/sets", "file", 0o600),
        ("/usr/local/sbin/sipguard", "file", 0o755),
        ("/usr/local/lib/sipguard/_netfilter/engine.py", "file", 0o644),
        ("/etc/systemd/system/sipguard-restore.service", "file", 0o644),
    ],
)
def test_file_is_there_and_its_mode_is_right(host: Any, path: str, kind: str, mode: int) -> None:
    file = host.file(path)
    assert getattr(file, f"is_{kind}")
    assert (oct(file.mode), file.user, file.group) == (oct(mode), "root", "root")


def test_unit_is_enabled_and_nothing_has_failed(host: Any) -> None:
    assert host.service("sipguard-restore.service").is_enabled
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


@pytest.mark.parametrize(("builtin", "chain"), [("PREROUTING", "SIPGUARD-PRE"), ("INPUT", "SIPGUARD")])
def test_hook_stands_once_and_before_all_but_fail2ban(
    host: Any, traits: dict[str, Any], iptables: str, builtin: str, chain: str
) -> None:
    table = "raw" if builtin == "PREROUTING" else traits["lab_input_table"]
    rules = host.check_output("%s-save -t %s", iptables, table).splitlines()
    assert any(line.startswith(f"-A {chain} ") for line in rules)
    in_builtin = [line for line in rules if line.startswith(f"-A {builtin} ") and "-j f2b-" not in line]
    assert in_builtin[0] == f"-A {builtin} -j {chain}"
    assert in_builtin.count(in_builtin[0]) == 1


@pytest.mark.parametrize("name", ["sipguard-trusted", "sipguard-offenders"])
def test_set_is_there_and_in_use(host: Any, iptables: str, name: str) -> None:
    listed = host.check_output("ipset list -terse %s%s", name, str(FAMILIES[iptables]))
    assert "References: 0" not in listed


def test_rules_and_sets_of_others_are_as_they_were(state: Any, before: Any, traits: dict[str, Any]) -> None:
    assert state.foreign() == before.foreign()
    for part, word in traits["lab_others"].items():
        # the comparison would hold as well if there were nothing to compare
        assert word in getattr(state.foreign(), part)


def test_status_says_protected(host: Any) -> None:
    done = host.run("sipguard status --json")
    assert done.rc == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["protected"]
    assert {name: family["state"] for name, family in found["families"].items()} == {
        "ipv4": "protected",
        "ipv6": "protected",
    }


def test_controller_is_trusted(host: Any, neighbours: Any, iptables: str) -> None:
    address = neighbours.trusted(FAMILIES[iptables])
    done = host.run("sipguard why %s", address)
    assert done.rc == 0
    assert f"trusted as {address}" in done.stdout


# -- what it does on the wire


def test_scanner_is_not_heard_where_a_phone_is_answered(
    host: Any, neighbours: Any, heard: Any, eventually: Any, way: Any
) -> None:
    scanner, phone = neighbours.caller(way), neighbours.caller(way)
    scanner.ask(SCANNER)
    phone.ask(PHONE)
    assert phone.answer().startswith("SIP/2.0 ")
    assert scanner.silence()
    assert eventually(lambda: heard(phone))
    assert not heard(scanner)
    assert host.run("sipguard why %s", scanner.source).rc == 1
    assert host.run("sipguard why %s", phone.source).rc == 0


def test_scanner_that_comes_back_as_a_phone_is_dropped(
    host: Any, neighbours: Any, eventually: Any, way: Any, udp: Any
) -> None:
    scanner = neighbours.caller(way)
    scanner.ask(SCANNER)
    assert eventually(lambda: host.run("sipguard why %s", scanner.source).rc == 1)
    disguised = neighbours.caller(udp(way.family), scanner.source)
    disguised.ask(PHONE)
    assert disguised.silence()


def test_controller_is_answered_whatever_it_says(neighbours: Any, way: Any) -> None:
    controller = neighbours.caller(way, neighbours.trusted(way.family))
    controller.ask(SCANNER)
    assert controller.answer().startswith("SIP/2.0 ")


def test_sipvicious_finds_nothing(scanned: dict[int, bool]) -> None:
    assert scanned == {4: False, 6: False}
