# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import sets, trust
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.engine import Outcome
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4, IPV6
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import parse_networks
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

MADE4 = "hash:net family inet maxelem 1024"
MADE6 = "hash:net family inet6 maxelem 1024"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "sipguard"))


def wanted(*sources: str) -> trust.Members:
    return trust.wanted_members([net for source in sources for net in parse_networks(source, "sources")], FAMILIES)


def held(host: FakeHost) -> dict[str, set[str]]:
    return {name: set(members) for name, (_made, members) in host.sets.items()}


def run(
    host: FakeHost, store: Store, *sources: str, present: bool = True, persist: bool = True, check: bool = False
) -> Outcome:
    host.read_only = check
    try:
        return trust.converge(host, store, wanted(*sources), present=present, persist=persist, check=check)
    finally:
        host.read_only = False


@pytest.mark.parametrize(
    ("sources", "ipv4", "ipv6"),
    [
        ((), [], []),
        (("192.0.2.7",), ["192.0.2.7"], []),
        (("192.0.2.0/25", "192.0.2.128/25", "192.0.2.9"), ["192.0.2.0/24"], []),
        (("192.0.2.10-192.0.2.11", "2001:db8::/64"), ["192.0.2.10/31"], ["2001:db8::/64"]),
        (("198.51.100.1", "192.0.2.1"), ["192.0.2.1", "198.51.100.1"], []),
    ],
)
def test_wanted_members_are_as_few_as_possible(sources: tuple[str, ...], ipv4: list[str], ipv6: list[str]) -> None:
    assert wanted(*sources) == {IPV4: ipv4, IPV6: ipv6}


def test_wanted_members_leaves_out_a_family_that_is_not_wanted() -> None:
    networks = parse_networks("192.0.2.7", "sources") + parse_networks("2001:db8::7", "sources")
    assert trust.wanted_members(networks, [IPV6]) == {IPV4: [], IPV6: ["2001:db8::7"]}


@pytest.mark.parametrize("needed", ["192.0.2.7", "192.0.2.0/25", "2001:db8::1"])
def test_require_is_content_with_what_is_trusted(needed: str) -> None:
    trust.require([ipaddress.ip_network(text) for text in ("192.0.2.0/24", "2001:db8::/32")], [needed])


@pytest.mark.parametrize("needed", ["198.51.100.7", "192.0.2.0/23", "2001:db9::1"])
def test_require_refuses_what_is_not(needed: str) -> None:
    networks = [ipaddress.ip_network(text) for text in ("192.0.2.0/24", "2001:db8::/32")]
    with pytest.raises(
        OptionError, match=rf"sources: \['192.0.2.0/24', .*{needed}, from which this host is administered"
    ):
        trust.require(networks, [needed])


def test_require_refuses_a_name() -> None:
    with pytest.raises(OptionError, match="must_include: 'localhost' cannot be used; it is a name"):
        trust.require([], ["localhost"])


def test_converge_runs_four_times(host: FakeHost, store: Store) -> None:
    """Check, real, check again, real again."""
    sources = ("192.0.2.0/24", "198.51.100.7", "2001:db8:7::/64")
    first = run(host, store, *sources, check=True)
    assert held(host) == {}
    assert store.read("sets") is None
    second = run(host, store, *sources)
    assert held(host) == {
        "sipguard-trusted4": {"192.0.2.0/24", "198.51.100.7"},
        "sipguard-trusted6": {"2001:db8:7::/64"},
    }
    assert (
        (first.changed, first.before, first.after)
        == (second.changed, second.before, second.after)
        == (
            True,
            "",
            "sipguard-trusted4 192.0.2.0/24\nsipguard-trusted4 198.51.100.7\nsipguard-trusted6 2001:db8:7::/64\n",
        )
    )
    assert (first.persisted, second.persisted) == (False, True)
    third = run(host, store, *sources, check=True)
    host.calls.clear()
    fourth = run(host, store, *sources)
    assert (third.changed, fourth.changed) == (False, False)
    assert [call for call in host.calls if "restore" in call] == []
    assert third.before == third.after == fourth.before == fourth.after == second.after


addresses = st.lists((st.ip_addresses(v=4) | st.ip_addresses(v=6, network="2000::/3")).map(str), max_size=4)


@given(addresses, addresses)
def test_converge_makes_the_sets_hold_exactly_the_sources(before: list[str], after: list[str]) -> None:
    host, store = FakeHost(), Store("/nonexistent/sipguard")
    run(host, store, *before, persist=False)
    outcome = run(host, store, *after, persist=False)
    live = trust.read_live(host, sets.read_headers(host))
    assert {family: set(members) for family, members in live.items()} == {
        family: set(members) for family, members in wanted(*after).items()
    }
    assert outcome.changed is (outcome.before != outcome.after)
    assert not any(name.endswith("-new") for name in host.sets)


def test_converge_makes_empty_sets_that_rules_can_name(host: FakeHost, store: Store) -> None:
    assert run(host, store).changed is True
    assert held(host) == {"sipguard-trusted4": set(), "sipguard-trusted6": set()}
    assert store.read("sets") is None
    assert run(host, store).changed is False


def test_converge_writes_what_it_can_read(host: FakeHost, store: Store) -> None:
    sources = ("192.0.2.0/24", "198.51.100.7", "2001:db8::/32")
    run(host, store, *sources)
    assert trust.read_file(store) == wanted(*sources)


def test_converge_without_persist_leaves_the_file_alone(host: FakeHost, store: Store) -> None:
    run(host, store, "192.0.2.7")
    outcome = run(host, store, "192.0.2.8", persist=False)
    assert (outcome.changed, outcome.persisted) == (True, False)
    assert trust.read_file(store) == wanted("192.0.2.7")


def test_converge_writes_a_file_that_is_missing_or_edited(host: FakeHost, store: Store) -> None:
    run(host, store, "192.0.2.7", persist=False)
    assert run(host, store, "192.0.2.7", check=True).changed is True
    assert run(host, store, "192.0.2.7").changed is True
    store.write("sets", "add sipguard-trusted4 203.0.113.9\n")
    assert run(host, store, "192.0.2.7").changed is True
    assert trust.read_file(store) == wanted("192.0.2.7")


def test_absent_removes_sets_that_nothing_needs(host: FakeHost, store: Store) -> None:
    run(host, store, "192.0.2.7", "2001:db8::7")
    for check in (True, False):
        outcome = run(host, store, present=False, check=check)
        assert (outcome.changed, outcome.after) == (True, "")
    assert held(host) == {}
    assert store.read("sets") is None
    assert run(host, store, present=False).changed is False


def test_absent_empties_sets_that_rules_name(host: FakeHost, store: Store) -> None:
    run(host, store, "192.0.2.7")
    host.tables["iptables"].restore(
        "*filter\n:SIPGUARD - [0:0]\n-A SIPGUARD -m set --match-set sipguard-trusted4 src -j RETURN\nCOMMIT\n",
        list(host.sets),
    )
    run(host, store, present=False)
    assert held(host) == {"sipguard-trusted4": set()}
    assert run(host, store, present=False).changed is False


def test_converge_clears_away_what_a_killed_run_left(host: FakeHost, store: Store) -> None:
    run(host, store, "192.0.2.7")
    host.sets["sipguard-trusted4-new"] = (MADE4, {"203.0.113.9": ""})
    assert run(host, store, "192.0.2.7").changed is True
    assert held(host) == {"sipguard-trusted4": {"192.0.2.7"}, "sipguard-trusted6": set()}


def test_absent_clears_away_what_a_killed_run_left(host: FakeHost, store: Store) -> None:
    host.sets["sipguard-trusted4"] = (MADE4, {"192.0.2.7": ""})
    host.sets["sipguard-trusted4-new"] = (MADE4, {"203.0.113.9": ""})
    host.sets["sipguard-trusted6-new"] = (MADE6, {})
    run(host, store, present=False)
    assert held(host) == {}


def test_converge_refuses_a_set_made_of_something_else(host: FakeHost, store: Store) -> None:
    host.sets["sipguard-trusted6"] = ("hash:ip family inet6 maxelem 1024", {"2001:db8::7": ""})
    with pytest.raises(
        SipguardError, match=r"sipguard-trusted6 exists, but as hash:ip; .*'ipset destroy sipguard-trusted6'"
    ):
        run(host, store, "192.0.2.7")
    assert held(host) == {"sipguard-trusted6": {"2001:db8::7"}}
    assert store.read("sets") is None


@pytest.mark.parametrize(
    "text",
    [
        "add sipguard-trusted4\n",
        "add sipguard-offenders4 192.0.2.7\n",
        "del sipguard-trusted4 192.0.2.7\n",
        "add sipguard-trusted4 192.0.2\n",
        "add sipguard-trusted4 192.0.2.7 timeout 5\n",
        "add sipguard-trusted4 0.0.0.0/0\n",
        "create sipguard-trusted4 hash:net\n",
    ],
)
def test_read_file_refuses_a_damaged_file(store: Store, text: str) -> None:
    whole = "# a remark\n\nadd sipguard-trusted4 192.0.2.1\n{}# end\n"
    store.write("sets", whole.format(text))
    with pytest.raises(SipguardError, match="sets"):
        trust.read_file(store)
    store.write("sets", whole.format(""))
    assert trust.read_file(store) == wanted("192.0.2.1")


def test_read_file_refuses_a_file_without_its_end(host: FakeHost, store: Store) -> None:
    """Cut anywhere, between two lines even: half of the trusted sources would be locked out at the next boot."""
    run(host, store, "192.0.2.0/24", "198.51.100.7", "2001:db8::/32")
    text = store.read("sets") or ""
    for size in range(len(text)):
        store.write("sets", text[:size])
        with pytest.raises(SipguardError, match="sets for the next boot is damaged: its end is missing"):
            trust.read_file(store)
    store.write("sets", text)
    assert trust.read_file(store) == wanted("192.0.2.0/24", "198.51.100.7", "2001:db8::/32")


def test_wanted_members_are_never_every_address_there_is() -> None:
    with pytest.raises(OptionError, match=r"sources: .* together they mean every address there is"):
        wanted("0.0.0.0/1", "128.0.0.0/1")
