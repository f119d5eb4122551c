# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The member that docs/architecture.md writes in full, and the other places it names: each keeps its own, whoever runs last."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import matches as m
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import sets
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.backend import Backend
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    BANNED,
    BLOCKED,
    CHAIN_HOST,
    CHAIN_MAIN,
    CHAIN_PRE,
    CHAIN_RATE,
    FAMILIES,
    IPV4,
    KNOWN,
    WATCHED,
    Family,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.options import ARGUMENTS, read_common
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.plan import plan_family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import (
    Member,
    Policy,
    assemble,
    read_policy,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Rule
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import parse_save, render_chains
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.user_agents import UserAgentPolicy
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.user_agents import member as signatures
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.presets import preset
from tests.unit.repository.checkout import TOP

COMMON = read_common({name: option["default"] for name, option in ARGUMENTS.items()})
ENGINE = plan_family.__module__.rpartition(".")[0]
GENERATION = 0x04000000


def documented_member() -> Callable[..., Member]:
    """``member`` of the first Python block of the page, run as a module of the engine's package."""
    page = (TOP / "docs/architecture.md").read_text(encoding="utf-8")
    block = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    namespace: dict[str, Any] = {"__name__": f"{ENGINE}.example", "__package__": ENGINE}
    exec(compile(block, "docs/architecture.md", "exec"), namespace)
    found: Callable[..., Member] = namespace["member"]
    return found


def host_member(family: Family) -> Member:
    rules = (
        Rule(CHAIN_HOST, (m.in_set("sipguard-trusted" + family.suffix),), "RETURN"),
        Rule(CHAIN_HOST, (), "DROP"),
    )
    return Member(CHAIN_HOST, (), {CHAIN_HOST: rules})


def everything(family: Family, table: str) -> Policy:
    wanted = UserAgentPolicy(preset("scanners"), True, True, False, 3600, [])
    members = {
        CHAIN_HOST: host_member(family),
        CHAIN_RATE: documented_member()(COMMON, family),
        "SIPGUARD-UA": signatures(COMMON, wanted, family),
    }
    return Policy(family, table, members).with_drop(BANNED).with_drop(BLOCKED).with_drop(WATCHED)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("table", ["filter", "mangle"])
def test_every_part_is_found_again_in_the_rules(family: Family, table: str) -> None:
    policy = everything(family, table)
    saved = parse_save(render_chains(assemble(policy, GENERATION)))
    tables = {name: found.chains for name, found in saved.tables.items()}
    assert read_policy(family, tables, "filter") == (policy, GENERATION)
    assert plan_family(Backend("nft", {}), saved, policy).scripts == []


@pytest.mark.parametrize("table", ["filter", "mangle"])
def test_parts_stand_in_the_order_of_the_page(table: str) -> None:
    tables = assemble(everything(IPV4, table), GENERATION)
    assert [rule.target for rule in tables["raw"][CHAIN_PRE]] == [
        "SIPGUARD-PRE-SIP",
        "SIPGUARD-PRE-ALL",
        "SIPGUARD-PRE-ALL",
        "SIPGUARD-PRE-NOTE",
    ]
    order = [
        "SIPGUARD-RATE",
        "SIPGUARD-RATE",
        "RETURN",
        "SIPGUARD-HOST",
        "CONNMARK",
        "SIPGUARD-JUDGE",
        "SIPGUARD-JUDGE",
    ]
    assert [rule.target for rule in tables[table][CHAIN_MAIN]] == order
    assert sorted(tables) == sorted(["raw", table])


def test_bans_stand_alone() -> None:
    policy = Policy(IPV4).with_drop(BANNED)
    tables = assemble(policy, GENERATION)
    assert sorted(tables) == ["raw"]
    assert read_policy(IPV4, tables, "filter") == (policy, 0)
    assert assemble(policy.with_drop(BANNED, False), GENERATION) == {}


@pytest.mark.parametrize(("part", "judges"), [(CHAIN_HOST, True), (CHAIN_RATE, False), (BANNED, False)])
def test_only_what_is_judged_once_starts_a_new_generation(part: str, judges: bool) -> None:
    policy = everything(IPV4, "filter")
    saved = parse_save(render_chains(assemble(policy, GENERATION)))
    changed = policy.with_drop(BANNED, False) if part == BANNED else policy.with_member(part, None)
    plan = plan_family(Backend("nft", {}), saved, changed)
    assert plan.scripts
    assert (plan.generation != GENERATION) == judges


@pytest.mark.parametrize("base", [BANNED, KNOWN, BLOCKED, WATCHED])
def test_sets_of_other_parts_are_specified(base: str) -> None:
    assert [sets.spec(base + family.suffix).timeout is None for family in FAMILIES] == [base in (BLOCKED, WATCHED)] * 2
