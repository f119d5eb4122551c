# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import matches as m
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    ADMISSION_MASK,
    BANNED,
    BLOCKED,
    CHAIN_GATE,
    CHAIN_HOST,
    CHAIN_JUDGE,
    CHAIN_MAIN,
    CHAIN_PRE,
    CHAIN_RATE,
    CHAIN_UA,
    FAMILIES,
    GATE_SLOTS,
    HOST_SLOTS,
    IPV4,
    IPV6,
    JAILS,
    OFFENDERS,
    PRE_SLOTS,
    RATE_SLOTS,
    WATCHED,
    Family,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import (
    Member,
    Policy,
    Selector,
    assemble,
    choose_generation,
    generations,
    read_policy,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Option, Rule, parse_rule
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import parse_save, render_chains
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter.strategies import MASKS, host_member, member, policies, selectors

SIP = (Selector("udp", "5060:5061"), Selector("tcp", "5060:5061"))
Chains = dict[str, dict[str, tuple[Rule, ...]]]


def ua_policy(family: Family = IPV4, mask: int = ADMISSION_MASK, pattern: bytes = b"sipcli") -> Policy:
    return Policy(family, "filter", {CHAIN_UA: member(CHAIN_UA, family, SIP, OFFENDERS, pattern)}, mask)


def with_member_of(policy: Policy, slot: str, feeds: str = "") -> Policy:
    return policy.with_member(slot, member(slot, policy.family, SIP, feeds))


@given(selectors, st.lists(st.sampled_from([m.string(b"x"), m.in_set("y")]), max_size=2))
def test_selector_read_is_the_inverse_of_rule(selector: Selector, more: list) -> None:
    assert Selector.read(selector.rule("X", *more)) == selector


@pytest.mark.parametrize(
    "rule",
    [
        Rule("X"),
        Rule("X", (m.ports("5060"),)),
        Rule("X", header=(m.protocol("udp"),)),
        Rule("X", (m.string(b"x"), m.ports("5060")), header=(m.protocol("udp"),)),
        Rule("X", (m.ports("5060"),), header=(Option("-p", ("udp",), True),)),
        Rule("X", (m.ports("5060"),), header=(m.source("192.0.2.7/32"), m.protocol("udp"))),
        Rule("X", (replace(m.ports("5060"), options=(Option("--sports", ("5060",)),)),), header=(m.protocol("udp"),)),
    ],
    ids=Rule.render,
)
def test_selector_does_not_read_what_it_did_not_write(rule: Rule) -> None:
    assert Selector.read(rule) is None


@given(policies(), st.data())
def test_read_policy_is_the_inverse_of_assemble(policy: Policy, data: st.DataObject) -> None:
    generation = data.draw(st.sampled_from(generations(policy.mask)))
    tables = assemble(policy, generation)
    read, found = read_policy(policy.family, tables, policy.table)
    assert (read.family, read.members, read.drops) == (policy.family, policy.members, policy.drops)
    assert read.knows == (policy.knows and bool(policy.members or policy.drops))
    assert list(read.members) == [slot for slot in (*HOST_SLOTS, *RATE_SLOTS, *GATE_SLOTS) if slot in policy.members]
    if policy.members:
        assert read.table == policy.table
    if policy.members.keys() & set(GATE_SLOTS):
        assert (read.mask, found) == (policy.mask, generation)
    else:
        assert found == 0
    assert assemble(replace(read, mask=policy.mask), generation) == tables


@given(policies(), st.data())
def test_assembled_chains_survive_the_kernels_text(policy: Policy, data: st.DataObject) -> None:
    tables = assemble(policy, data.draw(st.sampled_from(generations(policy.mask))))
    read = parse_save(render_chains(tables))
    assert {name: table.chains for name, table in read.tables.items()} == tables
    assert all(table.hooked() and not table.foreign for table in read.tables.values())


@given(policies(), st.randoms())
def test_assemble_does_not_depend_on_the_order_of_members(policy: Policy, random: Random) -> None:
    slots = list(policy.members)
    random.shuffle(slots)
    shuffled = replace(policy, members={slot: policy.members[slot] for slot in slots})
    generation = generations(policy.mask)[0]
    assert assemble(shuffled, generation) == assemble(policy, generation)
    assert render_chains(assemble(shuffled, generation)) == render_chains(assemble(policy, generation))


@given(policies())
def test_assembled_rules_lead_only_to_chains_that_exist(policy: Policy) -> None:
    known = {"ACCEPT", "DROP", "RETURN", "SET", "CONNMARK", ""}
    for chains in assemble(policy, generations(policy.mask)[0]).values():
        for name, rules in chains.items():
            assert all(rule.chain == name for rule in rules)
            assert all(rule.target in chains or rule.target in known for rule in rules)


def targets(rules: tuple[Rule, ...]) -> list[str]:
    return [rule.target for rule in rules]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_assemble_keeps_the_fixed_order(family: Family) -> None:
    policy = Policy(family)
    for slot, feeds in ((CHAIN_UA, OFFENDERS), (CHAIN_GATE, ""), (CHAIN_RATE, "")):
        policy = with_member_of(policy, slot, feeds)
    policy = policy.with_member(CHAIN_HOST, host_member()).with_drop(WATCHED).with_drop(BLOCKED)
    policy = policy.with_drop(BANNED).with_drop(JAILS)
    tables = assemble(policy, 0x4000000)
    main, judge, pre = tables["filter"][CHAIN_MAIN], tables["filter"][CHAIN_JUDGE], tables["raw"][CHAIN_PRE]
    assert targets(main) == [CHAIN_RATE, CHAIN_RATE, "RETURN", CHAIN_HOST, "CONNMARK", CHAIN_JUDGE, CHAIN_JUDGE]
    # trusted, a response, the gate, the signatures, observed; and then the admission
    assert targets(judge) == ["RETURN", "RETURN", *[CHAIN_GATE] * 2, *[CHAIN_UA] * 2, "RETURN", "CONNMARK"]
    assert [rule.matches[0] for rule in pre] == [m.in_set(base + family.suffix) for base in PRE_SLOTS]
    trusted = m.in_set("sipguard-trusted" + family.suffix)
    assert judge[0].matches == (trusted,)
    for name, chain in tables["raw"].items():
        if name != CHAIN_PRE:
            assert (chain[0].matches, chain[0].target) == ((trusted,), "RETURN")


def test_assemble_drops_only_sip_of_a_learned_offender() -> None:
    policy = ua_policy().with_drop(BANNED)
    raw = assemble(policy, 0x4000000)["raw"]
    offenders, banned = (raw[rule.target] for rule in raw[CHAIN_PRE])
    assert [rule.matches for rule in offenders[1:]] == [(m.ports("5060:5061"),)] * 2
    assert [(rule.header, rule.matches) for rule in banned[1:]] == [((), ())]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_assemble_notes_the_watched_and_drops_nothing_of_them(family: Family) -> None:
    raw = assemble(Policy(family).with_drop(WATCHED), 0x4000000)["raw"]
    (look,) = raw[CHAIN_PRE]
    assert look.matches == (m.in_set("sipguard-watched" + family.suffix),)
    assert targets(raw[look.target]) == ["RETURN", "SET"]
    added = {option.name: option.values for option in raw[look.target][1].target_options}
    assert added["--add-set"] == ("sipguard-observed" + family.suffix, "src")


@pytest.mark.parametrize("slot", [CHAIN_UA, CHAIN_RATE, CHAIN_HOST])
def test_assemble_refuses_a_member_that_accepts(slot: str) -> None:
    """What it accepted, no member behind it would see."""
    accepting = Member(slot, SIP, {slot: (Rule(slot, (), "RETURN"), Rule(slot, (m.in_set("x"),), "ACCEPT"))})
    with pytest.raises(SipguardError, match=f"a rule of {slot} accepts"):
        assemble(ua_policy().with_member(slot, accepting), 0x4000000)


own_chains = st.sampled_from(
    [CHAIN_PRE, CHAIN_MAIN, CHAIN_JUDGE, CHAIN_UA, f"{CHAIN_UA}-HIT", CHAIN_RATE, CHAIN_HOST, "SIPGUARD-OLD"]
)
WORDS = """
    ! -i -o -s -p -m -j -g -x - udp tcp eth0 multiport --dports 5060 set --match-set --add-set src sipguard-banned4 connmark --mark
    0x4000000/0xc000000 0x1/0x7fffffff -1/-4 0x1 / mark string --string RETURN ACCEPT CONNMARK SET --set-xmark SIPGUARD-JUDGE
    SIPGUARD-UA SIPGUARD-RATE SIPGUARD-HOST
"""
words = st.one_of(
    st.sampled_from(WORDS.split()),
    st.text(max_size=4).map(lambda text: '"' + text.replace("\\", "").replace('"', "") + '"'),
)
lines = st.builds(lambda chain, rest: " ".join(["-A", chain, *rest]), own_chains, st.lists(words, max_size=12))


@given(st.lists(lines, max_size=8), st.sampled_from(["filter", "mangle", "raw"]), st.sampled_from(FAMILIES))
def test_read_policy_never_fails_whatever_stands_in_our_chains(found: list[str], table: str, family: Family) -> None:
    tables: Chains = {"filter": {}, "mangle": {}, "raw": {}}
    for rule in map(parse_rule, found):
        tables[table][rule.chain] = (*tables[table].get(rule.chain, ()), rule)
    policy, generation = read_policy(family, tables, "filter")
    assert generation == 0 or generation in generations(policy.mask)
    assert choose_generation(tables, ua_policy(family)) in generations(ADMISSION_MASK)
    assert all(member.feeds("x") in (True, False) for member in policy.members.values())


@pytest.mark.parametrize(
    "line", ["-A SIPGUARD -i -x -j ACCEPT", "-A SIPGUARD -i -x -p udp -m multiport --dports 5060 -j SIPGUARD-UA"]
)
def test_read_policy_reads_an_interface_that_looks_like_an_option(line: str) -> None:
    live = edited(LIVE, CHAIN_MAIN, (parse_rule(line), *LIVE["filter"][CHAIN_MAIN]))
    policy, generation = read_policy(IPV4, live, "filter")
    assert (list(policy.members), generation) == ([CHAIN_UA], 0x4000000)
    assert choose_generation(live, ua_policy()) == 0x8000000


def test_assemble_is_empty_without_members() -> None:
    assert assemble(Policy(IPV4), 0x4000000) == {}


def test_assemble_has_no_raw_hook_without_anything_to_drop() -> None:
    policy = Policy(IPV4).with_member(CHAIN_UA, member(CHAIN_UA, IPV4, SIP))
    assert list(assemble(policy, 0x4000000)) == ["filter"]


def test_assemble_drops_sets_that_no_rule_feeds_without_any_member() -> None:
    policy = Policy(IPV6).with_drop(BLOCKED)
    tables = assemble(policy, 0x4000000)
    assert {name: list(chains) for name, chains in tables.items()} == {"raw": [CHAIN_PRE, "SIPGUARD-PRE-ALL"]}
    assert tables["raw"][CHAIN_PRE][0].matches == (m.in_set("sipguard-blocked6"),)
    assert assemble(policy.with_drop(BLOCKED, False), 0x4000000) == {}


@pytest.mark.parametrize("table", ["filter", "mangle"])
def test_host_policy_stands_behind_the_admitted_in_the_table_of_all(table: str) -> None:
    policy = replace(ua_policy(), table=table).with_member(CHAIN_HOST, host_member())
    tables = assemble(policy, 0x4000000)
    assert sorted(tables) == sorted(["raw", table])
    assert targets(tables[table][CHAIN_MAIN])[:2] == ["RETURN", CHAIN_HOST]
    assert {CHAIN_HOST, CHAIN_UA} <= tables[table].keys()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_client_hello_that_passed_the_gate_admits_on_its_ports_only(family: Family) -> None:
    tls = Selector("tcp", "5061")
    gate = replace(member(CHAIN_GATE, family, SIP), handshakes=(tls,))
    judge = assemble(Policy(family).with_member(CHAIN_GATE, gate), 0x4000000)["filter"][CHAIN_JUDGE]
    assert judge[-1] == m.set_connmark(tls.rule(CHAIN_JUDGE, m.client_hello(family)), 0x4000000, 0xC000000)


def test_an_aside_leads_straight_below_the_slot_and_costs_offenders_nothing() -> None:
    made = member(CHAIN_RATE, IPV4, SIP, OFFENDERS)
    (inner,) = set(made.chains) - {CHAIN_RATE}
    policy = Policy(IPV4).with_member(CHAIN_RATE, replace(made, asides=((Selector("tcp", "22"), inner),)))
    tables = assemble(policy, 0x4000000)
    assert tables["filter"][CHAIN_MAIN][-1] == replace(Selector("tcp", "22").rule(CHAIN_MAIN), target=inner)
    assert all("22" not in rule.render() for chain in tables["raw"].values() for rule in chain)


def test_assemble_does_not_judge_for_limits_alone() -> None:
    tables = assemble(with_member_of(Policy(IPV6), CHAIN_RATE), 0x4000000)
    assert targets(tables["filter"][CHAIN_MAIN]) == [CHAIN_RATE, CHAIN_RATE]
    assert CHAIN_JUDGE not in tables["filter"]


def test_with_member_fills_and_empties_one_slot() -> None:
    policy = with_member_of(ua_policy(), CHAIN_RATE)
    assert sorted(policy.members) == [CHAIN_RATE, CHAIN_UA]
    assert list(policy.with_member(CHAIN_UA, None).members) == [CHAIN_RATE]
    assert policy.with_member(CHAIN_GATE, None) == policy


def test_member_knows_whether_it_rejects() -> None:
    gentle = member(CHAIN_UA, IPV4, SIP)
    chains = {**gentle.chains, "SIPGUARD-UA-STOP": (Rule("SIPGUARD-UA-STOP", (), "REJECT"),)}
    assert gentle.rejects() is False
    assert replace(gentle, chains=chains).rejects() is True


@pytest.mark.parametrize(
    ("mask", "values"),
    [
        (0x0C000000, (0x4000000, 0x8000000, 0xC000000)),
        (0x3, (1, 2, 3)),
        (0x300, (0x100, 0x200, 0x300)),
        (0x7, (1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_generations_are_all_values_of_the_mask(mask: int, values: tuple[int, ...]) -> None:
    assert generations(mask) == values


@pytest.mark.parametrize("mask", MASKS, ids=hex)
def test_generations_stay_within_the_mask(mask: int) -> None:
    values = generations(mask)
    assert len(values) == 2 ** mask.bit_count() - 1 == len(set(values))
    assert all(0 < value == value & mask for value in values)


def edited(tables: Chains, chain: str, rules: tuple[Rule, ...]) -> Chains:
    return {name: {**chains, chain: rules} if chain in chains else chains for name, chains in tables.items()}


@pytest.mark.parametrize("mask", MASKS, ids=hex)
def test_choose_generation_keeps_it_while_nothing_changes(mask: int) -> None:
    for generation in generations(mask):
        live = assemble(ua_policy(mask=mask), generation)
        assert choose_generation(live, ua_policy(mask=mask)) == generation


@pytest.mark.parametrize("mask", MASKS, ids=hex)
def test_choose_generation_takes_the_next_for_other_signatures_and_wraps_around(mask: int) -> None:
    values = generations(mask)
    for generation, following in pairwise((*values, values[0])):
        live = assemble(ua_policy(mask=mask), generation)
        assert choose_generation(live, ua_policy(mask=mask, pattern=b"other")) == following


def test_choose_generation_starts_anew_without_rules() -> None:
    assert choose_generation({}, ua_policy()) == 0x4000000
    assert choose_generation({"raw": {}, "filter": {}}, ua_policy()) == 0x4000000


@pytest.mark.parametrize(("start", "expected"), [(0xC000000, 0xC000000), (0, 0x4000000), (0x10000000, 0x4000000)])
def test_choose_generation_begins_with_that_of_a_file_where_no_rules_are_live(start: int, expected: int) -> None:
    assert choose_generation({}, replace(ua_policy(), start=start)) == expected
    assert choose_generation(LIVE, replace(ua_policy(), start=start)) == 0x4000000


def test_choose_generation_starts_anew_under_another_mask() -> None:
    live = assemble(ua_policy(), 0x8000000)
    assert choose_generation(live, ua_policy(mask=0x300)) == 0x100
    # The same value is one of a wider mask's as well.
    assert choose_generation(live, ua_policy(mask=0x1C000000)) == 0x4000000


LIVE = assemble(ua_policy(), 0x4000000)
EDITS: dict[str, Chains] = {
    "a signature removed": edited(LIVE, CHAIN_UA, ()),
    "a rule put into SIPGUARD": edited(LIVE, CHAIN_MAIN, (Rule(CHAIN_MAIN, (), "ACCEPT"), *LIVE["filter"][CHAIN_MAIN])),
    "judging turned off": edited(LIVE, CHAIN_JUDGE, (Rule(CHAIN_JUDGE, (), "RETURN"),)),
    "an admission of somebody's own": edited(
        LIVE, CHAIN_JUDGE, (*LIVE["filter"][CHAIN_JUDGE], m.set_connmark(Rule(CHAIN_JUDGE), 0x4000000, 0xC000000))
    ),
    "a chain of the signatures missing": {
        "raw": LIVE["raw"],
        "filter": {name: rules for name, rules in LIVE["filter"].items() if name != "SIPGUARD-UA-HIT"},
    },
    "another table": {"raw": LIVE["raw"], "mangle": LIVE["filter"]},
}


@pytest.mark.parametrize("edit", EDITS)
def test_choose_generation_takes_the_next_when_somebody_edited(edit: str) -> None:
    assert choose_generation(EDITS[edit], ua_policy()) == 0x8000000


@pytest.mark.parametrize(
    "main",
    [
        (),
        (Rule(CHAIN_MAIN, (m.connmark(0x4000000, 0xC000000),), "ACCEPT"),),
        (Rule(CHAIN_MAIN, (m.connmark(0, 0xC000000),), "RETURN"),),
        (Rule(CHAIN_MAIN, (m.connmark(0x5000000, 0xC000000),), "RETURN"),),
        (Rule(CHAIN_MAIN, (m.connmark(1, 0x7FFFFFFF),), "RETURN"),),
        (
            Rule(
                CHAIN_MAIN,
                (replace(m.connmark(1, 3), options=(Option("--mark", ("0x4000000",)),)),),
                "RETURN",
            ),
        ),
    ],
    ids=["emptied", "accepts", "generation 0", "outside of the mask", "huge mask", "no mask"],
)
def test_choose_generation_starts_anew_when_the_admission_is_none_of_ours(main: tuple[Rule, ...]) -> None:
    assert choose_generation(edited(LIVE, CHAIN_MAIN, main), ua_policy()) == 0x4000000


def test_choose_generation_changes_with_the_host_policy() -> None:
    live = assemble(ua_policy().with_member(CHAIN_HOST, host_member()), 0x8000000)
    assert choose_generation(live, ua_policy().with_member(CHAIN_HOST, host_member())) == 0x8000000
    assert choose_generation(live, ua_policy()) == 0xC000000
    assert choose_generation(live, ua_policy().with_member(CHAIN_HOST, host_member(2222))) == 0xC000000


def test_choose_generation_ignores_limits() -> None:
    made = member(CHAIN_RATE, IPV4, SIP)
    (inner,) = set(made.chains) - {CHAIN_RATE}
    limited = ua_policy().with_member(CHAIN_RATE, replace(made, asides=((Selector("tcp", "22"), inner),)))
    live = assemble(limited, 0x8000000)
    assert choose_generation(live, ua_policy()) == 0x8000000
    assert choose_generation(assemble(ua_policy(), 0x8000000), limited) == 0x8000000


def test_read_policy_leaves_out_what_nobody_owns() -> None:
    live = edited(LIVE, CHAIN_UA, LIVE["filter"][CHAIN_UA])
    live["filter"]["SIPGUARD-OLD"] = ()
    read, generation = read_policy(IPV4, live, "filter")
    assert (list(read.members), generation) == ([CHAIN_UA], 0x4000000)
    assert assemble(read, generation) == LIVE


@pytest.mark.parametrize("line", ["-A SIPGUARD-UA -s 192.0.2.7/32 -j ACCEPT", "-A SIPGUARD-UA word"])
def test_read_policy_leaves_out_rules_that_no_member_writes(line: str) -> None:
    live = edited(LIVE, CHAIN_UA, (parse_rule(line), *LIVE["filter"][CHAIN_UA]))
    assert read_policy(IPV4, live, "filter") == (ua_policy(), 0x4000000)
    assert choose_generation(live, ua_policy()) == 0x8000000


def test_read_policy_falls_back_to_the_given_table() -> None:
    assert read_policy(IPV6, {}, "mangle") == (Policy(IPV6, "mangle"), 0)
