# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import matches as m
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import IPV4, IPV6
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Option, Rule
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import CommandError
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.sets import (
    fill_script,
    leftover_script,
    member_text,
    parse_terse,
    read_headers,
    read_members,
    restore,
    sets_in_rules,
    spec,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost
from tests.unit.plugins.module_utils._netfilter.samples import FIXTURES

OURS = [line.split()[1] for line in (FIXTURES / "rulesets/sets").read_text().splitlines() if line.startswith("create")]
RELEASES = sorted((FIXTURES / "saved").glob("ipset-list_*"))


@pytest.mark.parametrize("name", OURS)
def test_spec_makes_the_sets_that_were_loaded(name: str) -> None:
    assert spec(name).create() in (FIXTURES / "rulesets/sets").read_text().splitlines()
    assert spec(name).create("other") == spec(name).create().replace(name, "other")


@pytest.mark.parametrize("name", ["sipguard-trusted", "sipguard-trusted5", "trusted4", "sipguard-offenders4-new", ""])
def test_spec_refuses(name: str) -> None:
    with pytest.raises(SipguardError, match="is not a set of sipguard"):
        spec(name)


@pytest.mark.parametrize(("entries", "maxelem"), [(0, 1024), (682, 1024), (684, 1026), (100_000, 150_000)])
def test_spec_leaves_room_to_grow(entries: int, maxelem: int) -> None:
    assert spec("sipguard-trusted6", entries).maxelem == maxelem


def test_captured_lists_are_those_of_all_releases() -> None:
    assert [path.name for path in RELEASES] == ["ipset-list_7.10", "ipset-list_7.17", "ipset-list_7.24"]


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: path.name)
def test_parse_terse_reads_every_release(path: Path) -> None:
    found = parse_terse(path.read_text())
    assert list(found) == OURS
    assert all(header.fits(spec(name)) for name, header in found.items())
    assert {name: header.maxelem for name, header in found.items()} == {name: spec(name).maxelem for name in OURS}
    assert {name: header.entries for name, header in found.items() if header.entries} == {
        "sipguard-trusted4": 2,
        "sipguard-offenders4": 1,
        "sipguard-trusted6": 1,
    }
    # Those that the rules name which were loaded last, observe.v4 and reject.v6 of each backend.
    assert found["sipguard-trusted4"].references == found["sipguard-observed4"].references == 2
    assert found["sipguard-offenders4"].references == 0


@pytest.mark.parametrize(
    ("header", "fits"),
    [
        ("Type: hash:net\nHeader: family inet hashsize 1024 maxelem 5000", True),
        ("Type: hash:ip\nHeader: family inet hashsize 1024 maxelem 1024", False),
        ("Type: hash:net\nHeader: family inet6 hashsize 1024 maxelem 1024", False),
        ("Type: hash:net\nHeader: family inet hashsize 1024 maxelem 1024 timeout 0", False),
    ],
)
def test_header_fits_the_set_that_is_wanted(header: str, fits: bool) -> None:
    assert parse_terse(f"Name: x\n{header}\n")["x"].fits(spec("sipguard-trusted4")) is fits


def test_parse_terse_reads_nothing_from_nothing() -> None:
    assert parse_terse("") == {}


def test_sets_in_rules_names_each_set_once_in_order() -> None:
    add = (Option("--add-set", ("c", "src")), Option("--exist"))
    rules = [
        Rule("X", (m.in_set("b"), m.string(b"a"), m.in_set("a", negated=True)), "Y"),
        Rule("X", (m.in_set("a"),), "SET", add),
        Rule("X", (), "SET", (Option("--del-set", ("d", "src")),)),
    ]
    assert sets_in_rules(rules) == ["b", "a", "c", "d"]


@pytest.mark.parametrize(
    ("network", "text"),
    [
        ("192.0.2.7/32", "192.0.2.7"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:db8::7/128", "2001:db8::7"),
        ("2001:db8::/32", "2001:db8::/32"),
    ],
)
def test_member_text_is_what_ipset_prints(network: str, text: str) -> None:
    assert member_text(ipaddress.ip_network(network)) == text


members4 = st.sets(st.ip_addresses(v=4).map(str), max_size=5)


@given(members4, st.none() | members4, st.booleans())
def test_fill_script_makes_the_set_hold_exactly_the_members(
    wanted: set[str], before: set[str] | None, leftover: bool
) -> None:
    host = FakeHost()
    made = "hash:net family inet maxelem 1024"
    if before is not None:
        host.sets["sipguard-trusted4"] = (made, dict.fromkeys(before, ""))
    if leftover:
        host.sets["sipguard-trusted4-new"] = (made, {"192.0.2.99": ""})
    host.sets["foreign"] = (made, {"198.51.100.1": ""})
    restore(host, fill_script(spec("sipguard-trusted4"), sorted(wanted), read_headers(host)))
    assert read_members(host, "sipguard-trusted4") == dict.fromkeys(wanted, 0)
    assert host.sets.keys() == {"sipguard-trusted4", "foreign"}
    assert read_members(host, "foreign") == {"198.51.100.1": 0}


def test_fill_script_grows_the_set() -> None:
    host = FakeHost()
    host.sets["sipguard-trusted4"] = ("hash:net family inet maxelem 1024", {})
    members = [str(ipaddress.IPv4Address(number)) for number in range(1, 2001)]
    restore(host, fill_script(spec("sipguard-trusted4", len(members)), members, read_headers(host)))
    assert read_headers(host)["sipguard-trusted4"].maxelem == 3000


def test_leftover_script_takes_only_what_a_killed_run_left() -> None:
    host = FakeHost()
    host.sets["sipguard-trusted4-new"] = ("hash:net family inet maxelem 1024", {})
    assert leftover_script(spec("sipguard-trusted4"), read_headers(host)) == "destroy sipguard-trusted4-new\n"
    assert leftover_script(spec("sipguard-trusted6"), read_headers(host)) == ""


def test_read_members_tells_how_long_each_has_left() -> None:
    host = FakeHost()
    host.sets["sipguard-offenders4"] = (
        "hash:ip family inet maxelem 65536 timeout 3600",
        {"203.0.113.9": " timeout 12", "203.0.113.10": " timeout 0"},
    )
    assert read_members(host, "sipguard-offenders4") == {"203.0.113.9": 12, "203.0.113.10": 0}


def test_restore_of_nothing_starts_nothing() -> None:
    host = FakeHost()
    restore(host, "")
    assert host.calls == []


def test_restore_says_what_ipset_says() -> None:
    with pytest.raises(
        CommandError, match=r"^ipset failed: ipset: Error in line 1: the set sipguard-x exists or does not$"
    ):
        restore(FakeHost(), "destroy sipguard-x\n")


def test_sets_cannot_be_read_without_ipset() -> None:
    host = FakeHost()
    host.commands.discard("ipset")
    with pytest.raises(SipguardError, match="install the package 'ipset'"):
        read_headers(host)


def test_family_of_a_set_is_in_its_name() -> None:
    assert (spec("sipguard-trusted4").family, spec("sipguard-trusted6").family) == (IPV4, IPV6)
