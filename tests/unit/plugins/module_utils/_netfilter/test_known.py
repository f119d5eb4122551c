# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies that spare known sources: what their rules are, how they are found again, and what becomes of the set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import matches as m
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.engine import Engine
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    BANNED,
    BLOCKED,
    CHAIN_GATE,
    CHAIN_HOST,
    CHAIN_JUDGE,
    CHAIN_KNOWN,
    CHAIN_MAIN,
    CHAIN_PRE_ALL,
    CHAIN_PRE_SIP,
    CHAIN_RATE,
    CHAIN_UA,
    FAMILIES,
    IPV4,
    JAILS,
    OFFENDERS,
    Family,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import (
    Policy,
    Selector,
    assemble,
    choose_generation,
    generations,
    read_policy,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Rule
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import parse_save, render_chains
from tests.unit.plugins.module_utils._netfilter import known_samples, samples
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost
from tests.unit.plugins.module_utils._netfilter.strategies import member, policies

GENERATION = known_samples.GENERATION
RELEASES = [f"{release}_{backend}" for release in ("1.8.7", "1.8.9", "1.8.13") for backend in ("legacy", "nft")]
SIP = (Selector("udp", "5060"),)
both = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
Chains = dict[str, dict[str, tuple[Rule, ...]]]


def looking(tables: Chains, family: Family = IPV4) -> list[Rule]:
    """Every rule that looks into the set."""
    name = f"sipguard-known{family.suffix}"
    return [rule for chains in tables.values() for rules in chains.values() for rule in rules if name in rule.sets()]


def without(rule: Rule) -> Rule:
    """The rule as it is where nobody is known."""
    return replace(rule, matches=tuple(each for each in rule.matches if "sipguard-known" not in each.render()))


# -- the text


@both
def test_ruleset_is_the_golden_one(family: Family) -> None:
    assert render_chains(assemble(known_samples.policy(family), GENERATION)) == known_samples.golden(family)


@both
@pytest.mark.parametrize("release", RELEASES)
def test_every_release_prints_what_the_policy_wants(release: str, family: Family) -> None:
    path = samples.FIXTURES / "saved" / f"iptables-save_{release}_known.v{family.version}"
    live = {
        name: table.chains
        for name, table in parse_save(path.read_text(encoding="utf-8")).tables.items()
        if table.chains
    }
    wanted = known_samples.policy(family)
    assert live == assemble(wanted, GENERATION)
    assert read_policy(family, live, "filter") == (wanted, GENERATION)


@given(policies())
def test_flag_changes_the_jumps_of_limits_and_signatures_and_nothing_else(policy: Policy) -> None:
    generation = generations(policy.mask)[0]
    plain, knowing = (assemble(policy.with_known(flag), generation) for flag in (False, True))
    assert looking(plain, policy.family) == []
    found = {name: dict(chains) for name, chains in knowing.items()}
    carriers = [name for name, chains in found.items() if chains.pop(CHAIN_KNOWN, None)]
    assert len(carriers) == bool(plain)
    if CHAIN_PRE_SIP in found.get("raw", {}):
        trusted, known, *drops = found["raw"][CHAIN_PRE_SIP]
        assert (known.matches, known.target) == ((m.in_set(policy.set_name("sipguard-known")),), "RETURN")
        found["raw"][CHAIN_PRE_SIP] = (trusted, *drops)
    spared = {rule.target for rule in looking(found, policy.family)}
    assert spared == {CHAIN_RATE, CHAIN_UA} & policy.members.keys()
    assert {
        name: {chain: tuple(map(without, rules)) for chain, rules in chains.items()} for name, chains in found.items()
    } == plain


@both
def test_what_strangers_can_forge_is_no_business_of_known_sources(family: Family) -> None:
    tables = assemble(known_samples.policy(family), GENERATION)
    unknown = m.in_set(f"sipguard-known{family.suffix}", negated=True)
    main, judge = tables["filter"][CHAIN_MAIN], tables["filter"][CHAIN_JUDGE]
    for target, chain, spares in (
        (CHAIN_RATE, main, True),
        (f"{CHAIN_RATE}-SSH", main, False),
        (f"{CHAIN_UA}-MADDR", main, False),
        (CHAIN_HOST, main, False),
        (CHAIN_JUDGE, main, False),
        (CHAIN_GATE, judge, False),
        (CHAIN_UA, judge, True),
    ):
        jumps = [rule for rule in chain if rule.target == target]
        assert jumps
        assert all((unknown in rule.matches) is spares for rule in jumps), target
    assert looking({"raw": {CHAIN_PRE_ALL: tables["raw"][CHAIN_PRE_ALL]}}, family) == []


def test_nothing_is_known_where_there_is_nothing_else() -> None:
    assert assemble(Policy(IPV4).with_known(), GENERATION) == {}


# -- found again


@both
def test_one_rule_is_enough_to_find_the_flag(family: Family) -> None:
    whole = assemble(known_samples.policy(family), GENERATION)
    rules = looking(whole, family)
    assert len(rules) == 6
    for kept in rules:
        damaged = {
            table: {
                name: tuple(
                    rule if rule == kept else without(rule) for rule in chain if rule == kept or not _only(rule)
                )
                for name, chain in chains.items()
            }
            for table, chains in whole.items()
        }
        assert looking(damaged, family) == [kept]
        policy, generation = read_policy(family, damaged, "filter")
        assert policy == known_samples.policy(family)
        assert assemble(policy, generation) == whole


def _only(rule: Rule) -> bool:
    """Whether looking into the set is all that the rule does."""
    return rule.target == "RETURN" and any("sipguard-known" in each.render() for each in rule.matches)


@both
def test_somebodys_own_rule_below_a_member_turns_nothing_on(family: Family) -> None:
    made = member(CHAIN_RATE, family, SIP)
    own = Rule(CHAIN_RATE, (m.in_set(f"sipguard-known{family.suffix}"),), "RETURN")
    policy = Policy(family).with_member(
        CHAIN_RATE, replace(made, chains={**made.chains, CHAIN_RATE: (own, *made.chains[CHAIN_RATE])})
    )
    assert read_policy(family, assemble(policy, GENERATION), "filter")[0] == policy


@pytest.mark.parametrize("drop", ["", BANNED])
def test_flag_outlives_the_members_that_honour_it(drop: str) -> None:
    policy = Policy(IPV4).with_member(CHAIN_RATE, member(CHAIN_RATE, IPV4, SIP)).with_known()
    policy = policy.with_drop(drop) if drop else policy
    policy = policy.with_member(CHAIN_GATE, member(CHAIN_GATE, IPV4, SIP))
    for slot, wanted in ((CHAIN_RATE, None), (CHAIN_UA, member(CHAIN_UA, IPV4, SIP, OFFENDERS))):
        policy = policy.with_member(slot, wanted)
        read, dummy = read_policy(IPV4, assemble(policy, GENERATION), "filter")
        assert read == policy
        assert read.knows


# -- generations


@pytest.mark.parametrize(
    ("slots", "judges"),
    [
        ([CHAIN_UA], True),
        ([CHAIN_UA, CHAIN_GATE, CHAIN_RATE], True),
        ([CHAIN_GATE], False),
        ([CHAIN_GATE, CHAIN_RATE], False),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_who_was_spared_by_signatures_is_judged_again(slots: list[str], judges: bool, before: bool) -> None:
    policy = Policy(IPV4).with_known(before)
    for slot in slots:
        policy = policy.with_member(slot, member(slot, IPV4, SIP))
    live = assemble(policy, GENERATION)
    assert choose_generation(live, policy) == GENERATION
    changed = choose_generation(live, policy.with_known(not before))
    assert (changed != GENERATION) is judges
    # Limits and bans are no change of what is judged, whether somebody is known or not.
    for other in (policy.with_member(CHAIN_RATE, member(CHAIN_RATE, IPV4, SIP, OFFENDERS)), policy.with_drop(BLOCKED)):
        assert choose_generation(live, other) == GENERATION


# -- the set


@pytest.fixture
def knowing(host: FakeHost, tmp_path: Path) -> tuple[FakeHost, Engine]:
    """A host whose policy knows, with somebody in the set."""
    engine = Engine(host, store=Store(str(tmp_path)))
    targets = {family: known_samples.policy(family) for family in FAMILIES}
    engine.converge(targets, engine.snapshot(), persist=True, check=False)
    host.sets["sipguard-known4"][1]["203.0.113.7"] = " timeout 3000"
    return host, engine


def converge(engine: Engine, change: dict[str, bool] | None = None, slots: dict[str, None] | None = None) -> bool:
    """Whether a run with some parts changed changes anything."""
    snapshot = engine.snapshot()
    targets = {}
    for family in FAMILIES:
        policy = snapshot.policy(family, "filter")
        for slot in slots or {}:
            policy = policy.with_member(slot, None)
        for base, wanted in (change or {}).items():
            policy = policy.with_known(wanted) if base == "known" else policy.with_drop(base, wanted)
        targets[family] = policy
    return engine.converge(targets, snapshot, persist=True, check=False).changed


def test_set_keeps_its_members_while_rules_come_and_go(knowing: tuple[FakeHost, Engine]) -> None:
    host, engine = knowing
    assert converge(engine) is False
    for change, slots in (
        ({JAILS: True}, {}),
        ({}, {CHAIN_RATE: None}),
        ({}, {CHAIN_UA: None, CHAIN_GATE: None}),
        ({BANNED: False}, {}),
    ):
        assert converge(engine, change, slots)
        assert host.sets["sipguard-known4"][1] == {"203.0.113.7": " timeout 3000"}
    assert converge(engine) is False


def test_set_goes_with_the_flag_whatever_it_holds(knowing: tuple[FakeHost, Engine]) -> None:
    host, engine = knowing
    assert converge(engine, {"known": False})
    assert not {"sipguard-known4", "sipguard-known6"} & host.sets.keys()
    assert "sipguard-known" not in str(host.tables["iptables"].tables)
    assert converge(engine, {"known": False}) is False
    assert converge(engine, {"known": True})
    assert host.sets["sipguard-known4"][1] == {}


def test_set_goes_with_the_last_rule(knowing: tuple[FakeHost, Engine]) -> None:
    host, engine = knowing
    engine.converge({family: Policy(family) for family in FAMILIES}, engine.snapshot(), persist=True, check=False)
    assert not {"sipguard-known4", "sipguard-known6"} & host.sets.keys()
