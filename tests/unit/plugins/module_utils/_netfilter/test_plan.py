# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.backend import Backend
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    BANNED,
    CHAIN_GATE,
    CHAIN_RATE,
    CHAIN_UA,
    IPV4,
    IPV6,
    OFFENDERS,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.plan import (
    FamilyPlan,
    Plan,
    plan_family,
    plan_sets,
    table_script,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import (
    Policy,
    Selector,
    assemble,
    generations,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Rule
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import HOOKS, parse_save
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.sets import SetHeader, parse_terse, spec
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter import samples
from tests.unit.plugins.module_utils._netfilter.fakes import BUILTIN, Tables
from tests.unit.plugins.module_utils._netfilter.strategies import member, policies

SIP = (Selector("udp", "5060:5061"),)
NFT = Backend("nft", {})
SETS = [
    f"sipguard-{name}{suffix}"
    for name in ("trusted", "offenders", "observed", "banned", "blocked", "known")
    for suffix in "46"
]

FOREIGN_CHAINS = ("f2b-sshd", "DOCKER-USER", "ufw-before-input", "SIPGUARDIAN")
FOREIGN_RULES = (
    "-j ACCEPT",
    "-i lo -j ACCEPT",
    "-p tcp -m tcp --dport 22 -j ACCEPT",
    '-p udp -m comment --comment "not ours: -j SIPGUARD" -j DROP',
    "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    '-m comment --comment "a\u2028b\x85c\x0cd" -j RETURN',
    "-i -x -j ACCEPT",
    "-p tcp -m multiport --dports 22 -j f2b-sshd",
)
EDITED_RULES = (
    "-j DROP",
    "-s 192.0.2.7/32 -j ACCEPT",
    '-m string --string "-" --algo kmp -j DROP',
    "-m limit --limit 5/min --limit-burst 3 -j RETURN",
    "-i -x -p udp -m multiport --dports 5060 -j RETURN",
    "-m connmark --mark 0x1/0x7fffffff -j RETURN",
    '-m comment --comment "a\u2028b\x0cc" -j RETURN',
    "word -j ACCEPT",
)


@st.composite
def lives(draw: st.DrawFn) -> Tables:
    """Tables of a host on which ours may be whole, half there, edited, hooked twice or not at all, others' rules around them."""
    wanted = draw(policies(IPV4))
    tables: dict[str, dict[str, list[str]]] = {}
    ours = assemble(wanted, draw(st.sampled_from(generations(wanted.mask)))) if draw(st.booleans()) else {}
    for name, hook in HOOKS.items():
        chains: dict[str, list[str]] = {chain: [] for chain in BUILTIN[name]}
        chains.update(
            {chain: draw(st.lists(st.sampled_from(FOREIGN_RULES[:-1]), max_size=2)) for chain in FOREIGN_CHAINS}
        )
        for chain, rules in ours.get(name, {}).items():
            chains[chain] = [rule.render().removeprefix(f"-A {chain}").lstrip() for rule in rules]
        for chain in [chain for chain in chains if chain.startswith("SIPGUARD")]:
            if draw(st.integers(0, 5)) == 0:
                place = draw(st.integers(0, len(chains[chain])))
                chains[chain].insert(place, draw(st.sampled_from(EDITED_RULES)))
            if draw(st.integers(0, 9)) == 0:
                remove(chains, chain)
        if draw(st.integers(0, 4)) == 0:
            chains["SIPGUARD-OLD"] = draw(st.lists(st.sampled_from(EDITED_RULES), max_size=2))
        builtin = st.sampled_from([*FOREIGN_RULES, *([f"-j {hook.chain}"] * 3 if hook.chain in chains else [])])
        chains[hook.builtin] = draw(st.lists(builtin, max_size=6))
        chains["OUTPUT"] = draw(st.lists(st.sampled_from(FOREIGN_RULES), max_size=2))
        if any(chains.values()) or draw(st.booleans()):
            tables[name] = chains
    return Tables(tables)


def remove(chains: dict[str, list[str]], chain: str) -> None:
    """Somebody deleted a chain, and first each rule that led to it."""
    del chains[chain]
    for name, rules in chains.items():
        chains[name] = [rule for rule in rules if not rule.endswith((f"-j {chain}", f"-g {chain}"))]


def foreign(tables: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, list[str]]]:
    """Everything that is not ours, as it stands; a table without any rule is as good as none."""
    found = {
        name: {
            chain: [rule for rule in rules if (chain, rule) != (HOOKS[name].builtin, f"-j {HOOKS[name].chain}")]
            for chain, rules in chains.items()
            if chain != "SIPGUARD" and not chain.startswith("SIPGUARD-")
        }
        for name, chains in tables.items()
    }
    return {name: chains for name, chains in found.items() if any(chains.values())}


def own(live: Tables) -> dict[str, dict[str, tuple[Rule, ...]]]:
    return {name: table.chains for name, table in parse_save(live.save()).tables.items() if table.chains}


@given(lives(), policies(IPV4))
def test_scripts_make_any_host_what_it_should_be_and_back(live: Tables, target: Policy) -> None:
    start = copy.deepcopy(live.tables)
    plan = plan_family(NFT, parse_save(live.save()), target)
    for script in plan.scripts:
        live.restore(script.do, SETS, test=True)
    assert live.tables == start
    for script in plan.scripts:
        live.restore(script.do, SETS)
    after = parse_save(live.save())
    assert own(live) == plan.target
    assert sum(len(table.hooks) for table in after.tables.values()) == len(plan.target)
    assert all(after.table(name).hooked() for name in plan.target)
    assert foreign(live.tables) == foreign(start)
    again = plan_family(NFT, after, target)
    assert (again.scripts, again.target) == ([], plan.target)
    assert (again.clear_before, again.clear_after) == (None, None)
    for script in reversed(plan.scripts):
        live.restore(script.undo, SETS)
    assert {name: live.tables[name] for name in start} == start
    assert not any(rules for name in live.tables.keys() - start.keys() for rules in live.tables[name].values())


@given(lives(), policies(IPV4), st.data())
def test_scripts_done_in_part_can_be_taken_back(live: Tables, target: Policy, data: st.DataObject) -> None:
    start = copy.deepcopy(live.tables)
    plan = plan_family(NFT, parse_save(live.save()), target)
    assume(plan.scripts)
    done = plan.scripts[: data.draw(st.integers(0, len(plan.scripts)))]
    for script in done:
        live.restore(script.do, SETS)
    for script in reversed(done):
        live.restore(script.undo, SETS)
    assert {name: live.tables[name] for name in start} == start


@given(lives(), policies(IPV4))
def test_diff_is_empty_exactly_when_nothing_is_done(live: Tables, target: Policy) -> None:
    plan = plan_family(NFT, parse_save(live.save()), target)
    twice = any(len(table.hooks) > 1 for table in parse_save(live.save()).tables.values())
    if not plan.scripts:
        assert plan.before == plan.after
    elif not twice:  # a hook that stands twice is not whole, and shown as missing
        assert plan.before != plan.after


def host(*policies_: Policy, generation: int = 0x4000000) -> Tables:
    """A host whose only rules are ours."""
    tables = Tables()
    for policy in policies_:
        for name, chains in assemble(policy, generation).items():
            lines = [f":{chain} - [0:0]" for chain in chains]
            lines += [rule.render() for rules in chains.values() for rule in rules]
            tables.restore("\n".join([f"*{name}", *lines, HOOKS[name].render("-I"), "COMMIT"]), SETS)
    return tables


def planned(live: Tables, target: Policy) -> FamilyPlan:
    return plan_family(NFT, parse_save(live.save()), target)


UA = Policy(IPV4, "filter", {CHAIN_UA: member(CHAIN_UA, IPV4, SIP, OFFENDERS)})


def test_script_leaves_unchanged_chains_alone() -> None:
    """Their counters would be lost, and a packet on its way through them would meet nothing."""
    other = UA.with_member(CHAIN_GATE, member(CHAIN_GATE, IPV4, SIP))
    (script,) = planned(host(UA), other).scripts
    assert script.table == "filter"
    declared = sorted(line.split()[0] for line in script.do.splitlines() if line.startswith(":"))
    assert declared == [":SIPGUARD", ":SIPGUARD-GATE", ":SIPGUARD-GATE-HIT", ":SIPGUARD-JUDGE"]
    assert "-I INPUT" not in script.do
    assert "-D INPUT" not in script.do


def test_script_adds_before_it_removes_when_the_table_changes() -> None:
    plan = planned(host(UA), Policy(IPV4, "mangle", UA.members))
    assert [script.table for script in plan.scripts] == ["mangle", "filter"]
    assert "-X SIPGUARD\n" in plan.scripts[1].do
    assert plan.before.startswith("*filter\n")
    assert plan.after.startswith("*mangle\n")


@pytest.mark.parametrize("line", ["-A FORWARD -p udp -j SIPGUARD", "-A DOCKER-USER -g SIPGUARD-UA"])
def test_table_script_refuses_to_take_a_chain_from_others(line: str) -> None:
    live = host(UA)
    live.restore(f"*filter\n:DOCKER-USER - [0:0]\n{line}\nCOMMIT\n")
    table = parse_save(live.save()).table("filter")
    with pytest.raises(
        SipguardError, match=r"SIPGUARD.* of table filter cannot be removed: .*not ours.*; remove that rule first"
    ) as error:
        table_script(table, {})
    assert line in str(error.value)
    assert table_script(table, table.chains) == ""


def test_table_script_refuses_only_for_chains_that_go() -> None:
    live = host(UA)
    live.restore("*filter\n-A FORWARD -j SIPGUARD\nCOMMIT\n")
    (script,) = planned(live, UA.with_member(CHAIN_GATE, member(CHAIN_GATE, IPV4, SIP))).scripts
    live.restore(script.do, SETS)
    assert live.tables["filter"]["FORWARD"] == ["-j SIPGUARD"]


def test_unread_rule_in_a_chain_of_ours_is_replaced_and_brought_back() -> None:
    live = host(UA)
    live.tables["filter"]["SIPGUARD-UA"].insert(0, "word -j ACCEPT")
    before = copy.deepcopy(live.tables)
    plan = planned(live, UA)
    (script,) = plan.scripts
    assert "-A SIPGUARD-UA word -j ACCEPT\n" in plan.before
    assert "word" not in plan.after
    live.restore(script.do, SETS)
    assert live.tables["raw"] == before["raw"]
    assert "word -j ACCEPT" not in live.rules()
    live.restore(script.undo, SETS)
    assert live.tables == before


INCOMPATIBLE = "# Table `{}' is incompatible, use 'nft' tool.\n"


@pytest.mark.parametrize(("table", "refused"), [("filter", True), ("raw", True), ("mangle", False), ("nat", False)])
def test_plan_refuses_a_table_that_iptables_cannot_show(table: str, refused: bool) -> None:
    ruleset = parse_save(INCOMPATIBLE.format(table))
    if not refused:
        assert plan_family(NFT, ruleset, UA).scripts
        return
    hint = ", or use table 'mangle'" if table == "filter" else ""
    with pytest.raises(SipguardError) as error:
        plan_family(NFT, ruleset, UA)
    assert f"table {table} of ipv4 holds rules that were written with nft" in str(error.value)
    assert f"'nft list table ip {table}'" in str(error.value)
    assert str(error.value).endswith(f"to a table of their own{hint}")
    assert plan_family(NFT, ruleset, EMPTY).scripts == []


EMPTY = Policy(IPV4)
LIMITED = Policy(IPV4, "filter", {CHAIN_RATE: member(CHAIN_RATE, IPV4, SIP)})
OTHER_MASK = Policy(IPV4, "filter", UA.members, 0x300)
CHANGED = UA.with_member(CHAIN_UA, member(CHAIN_UA, IPV4, SIP, OFFENDERS, b"other"))


@pytest.mark.parametrize(
    ("live", "target", "before", "after"),
    [
        (EMPTY, UA, (0xC000000, None), None),
        (LIMITED, UA, (0xC000000, None), None),
        (UA, UA, None, None),
        (UA, CHANGED, (0xC000000, 0x8000000), None),
        (UA, OTHER_MASK, (0xC000300, None), None),
        (UA, EMPTY, None, (0xC000000, None)),
        (UA, LIMITED, None, (0xC000000, None)),
        (OTHER_MASK, EMPTY, None, (0x300, None)),
        (EMPTY, LIMITED, None, None),
        (LIMITED, EMPTY, None, None),
    ],
)
def test_plan_clears_marks_that_would_admit_wrongly(
    live: Policy, target: Policy, before: tuple | None, after: tuple | None
) -> None:
    plan = planned(host(live, generation=generations(live.mask)[0]), target)
    assert (plan.clear_before, plan.clear_after) == (before, after)


def headers(*names: str, entries: Mapping[str, int] | None = None) -> dict[str, SetHeader]:
    made = [spec(name) for name in names]
    return {
        one.name: SetHeader(
            one.name,
            one.type,
            one.family.inet,
            one.maxelem,
            one.timeout is not None,
            0,
            (entries or {}).get(one.name, 0),
        )
        for one in made
    }


def sets_plan(live: Policy, target: Policy, found: Mapping[str, SetHeader]) -> Plan:
    plan = Plan([planned(host(live), target)])
    plan_sets(plan, found)
    return plan


OBSERVE = samples.policy(IPV4, **samples.SAMPLES["observe"])
ENFORCE = samples.policy(IPV4, **samples.SAMPLES["enforce"])
TRUSTED4, OFFENDERS4, OBSERVED4 = "sipguard-trusted4", "sipguard-offenders4", "sipguard-observed4"


@pytest.mark.parametrize(
    ("live", "target", "there", "created", "destroyed"),
    [
        (EMPTY, ENFORCE, [], [OFFENDERS4, TRUSTED4], []),
        (EMPTY, ENFORCE, [TRUSTED4], [OFFENDERS4], []),
        (ENFORCE, ENFORCE, [TRUSTED4, OFFENDERS4], [], []),
        (ENFORCE, OBSERVE, [TRUSTED4, OFFENDERS4], [OBSERVED4], [OFFENDERS4]),
        (OBSERVE, ENFORCE, [TRUSTED4, OBSERVED4], [OFFENDERS4], [OBSERVED4]),
        (ENFORCE, EMPTY, [TRUSTED4, OFFENDERS4], [], [OFFENDERS4, TRUSTED4]),
        (EMPTY, EMPTY, [], [], []),
    ],
)
def test_plan_sets_makes_what_is_needed_and_takes_what_is_not(
    live: Policy, target: Policy, there: list[str], created: list[str], destroyed: list[str]
) -> None:
    plan = sets_plan(live, target, headers(*there, "sipguard-offenders6"))
    assert sorted(wanted.name for wanted in plan.create_sets) == created
    assert plan.destroy_sets == destroyed
    assert sorted(plan.families[0].sets_before) == sorted(there)
    assert sorted(plan.families[0].sets_after) == sorted({*there, *created} - {*destroyed})


def test_plan_sets_keeps_trusted_sources_that_nobody_asks_for_now() -> None:
    assert sets_plan(ENFORCE, EMPTY, headers(TRUSTED4, entries={TRUSTED4: 1})).destroy_sets == []


USES = "-A INPUT -m set --match-set sipguard-offenders4 src -j LOG"


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        (USES, True),
        ("-A FORWARD -j SET --add-set sipguard-offenders4 src --exist", True),
        ("-A INPUT -m set --match-set sipguard-offenders4-mine src -j LOG", False),
        ("-A INPUT -m set --match-set sipguard-trusted4 src -j ACCEPT", False),
    ],
)
def test_plan_sets_refuses_to_take_a_set_from_others(line: str, refused: bool) -> None:
    live = host(ENFORCE)
    live.restore(f"*filter\n{line}\nCOMMIT\n", [*SETS, "sipguard-offenders4-mine"])
    found = headers(TRUSTED4, OFFENDERS4, entries={TRUSTED4: 1})
    for target in (EMPTY, OBSERVE):
        plan = Plan([planned(live, target)])
        assert plan.families[0].foreign == [line]
        if refused:
            with pytest.raises(SipguardError, match=r"set sipguard-offenders4 cannot be removed: .*not ours") as error:
                plan_sets(plan, found)
            assert line in str(error.value)
        else:
            plan_sets(plan, found)
    same = Plan([planned(live, ENFORCE)])
    plan_sets(same, found)
    assert same.changed is False


def test_plan_sets_refuses_a_set_made_of_something_else() -> None:
    found = parse_terse("Name: sipguard-trusted4\nType: hash:ip\nHeader: family inet hashsize 64 maxelem 9\n")
    with pytest.raises(SipguardError, match="'ipset destroy sipguard-trusted4'"):
        sets_plan(EMPTY, ENFORCE, found)


def test_plan_is_unchanged_only_without_any_difference() -> None:
    assert sets_plan(ENFORCE, ENFORCE, headers(TRUSTED4, OFFENDERS4)).changed is False
    assert sets_plan(ENFORCE, ENFORCE, headers(TRUSTED4, OFFENDERS4, OBSERVED4)).changed is True
    assert sets_plan(ENFORCE, ENFORCE, headers(OFFENDERS4)).changed is True
    assert sets_plan(EMPTY, ENFORCE, headers(TRUSTED4, OFFENDERS4)).changed is True
    same = sets_plan(ENFORCE, ENFORCE, headers(TRUSTED4, OFFENDERS4))
    same.evictions += planned(host(UA), EMPTY).scripts
    assert same.changed is True


def test_plan_carries_evictions_out_last() -> None:
    plan = sets_plan(EMPTY, ENFORCE, {})
    plan.evictions += plan_family(Backend("legacy", {}), parse_save(host(UA).save()), EMPTY).scripts
    assert [(script.backend.name, script.table) for script in plan.scripts] == [
        ("nft", "raw"),
        ("nft", "filter"),
        ("legacy", "raw"),
        ("legacy", "filter"),
    ]


def test_plan_knows_its_family() -> None:
    target = Policy(IPV6, "filter", {CHAIN_UA: member(CHAIN_UA, IPV6, SIP)}).with_drop(BANNED)
    plan = plan_family(NFT, parse_save(""), target)
    assert {script.family for script in plan.scripts} == {IPV6}
    assert "sipguard-banned6" in plan.after
    assert "sipguard-trusted6" in plan.after
