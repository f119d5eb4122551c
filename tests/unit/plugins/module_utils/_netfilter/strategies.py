# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypothesis strategies for policies with any members, those of modules to come included."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import matches as m
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    BANNED,
    BLOCKED,
    CHAIN_GATE,
    CHAIN_HOST,
    FAMILIES,
    GATE_SLOTS,
    HOST_SLOTS,
    OBSERVED,
    OFFENDERS,
    RATE_SLOTS,
    Family,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import Member, Policy, Selector
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Option, Rule

__all__ = ["MASKS", "families", "host_member", "member", "members", "policies", "selectors"]

MASKS = (0x0C000000, 0x3, 0x300, 0xFF000000, 0x7)

families = st.sampled_from(FAMILIES)
selectors = st.builds(
    Selector,
    st.sampled_from(["udp", "tcp"]),
    st.sampled_from(["5060:5061", "5060", "5060:5061,5070", "1:65535"]),
    st.sampled_from(["", "eth0", "wg+"]),
)


def member(slot: str, family: Family, chosen: tuple[Selector, ...], feeds: str = "", pattern: bytes = b"x") -> Member:
    """A member with a chain of its own and one below it; ``feeds`` is the base name of a learned set it adds sources to."""
    inner = slot + "-HIT"
    add = (Option("--add-set", (feeds + family.suffix, "src")), Option("--exist"), Option("--timeout", ("60",)))
    hit = (Rule(inner, (), "SET", add),) if feeds else ()
    return Member(
        slot,
        chosen,
        {slot: (Rule(slot, (m.string(pattern),), inner, goto=True),), inner: (*hit, Rule(inner, (), "DROP"))},
    )


def host_member(port: int = 22) -> Member:
    """The host's own policy: it sees every packet, so it has no selectors."""
    returns = replace(Selector("tcp", str(port)).rule(CHAIN_HOST), target="RETURN")
    return Member(CHAIN_HOST, (), {CHAIN_HOST: (returns, Rule(CHAIN_HOST, (), "DROP"))})


@st.composite
def members(draw: st.DrawFn, slot: str, family: Family) -> Member:
    chosen = draw(st.lists(selectors, min_size=1, max_size=3, unique=True))
    feeds = draw(st.sampled_from(["", OFFENDERS, OBSERVED]))
    made = member(slot, family, tuple(chosen), feeds, draw(st.binary(min_size=1, max_size=6)))
    if slot == CHAIN_GATE:
        tcp = [selector for selector in chosen if selector.protocol == "tcp"]
        return replace(made, handshakes=tuple(draw(st.lists(st.sampled_from(tcp), unique=True)) if tcp else ()))
    if slot in RATE_SLOTS and draw(st.booleans()):
        (inner,) = set(made.chains) - {slot}
        return replace(made, asides=((draw(selectors), inner),))
    return made


@st.composite
def policies(draw: st.DrawFn, family: Family | None = None) -> Policy:
    """Any policy."""
    of = family or draw(families)
    policy = Policy(of, draw(st.sampled_from(["filter", "mangle"])), {}, draw(st.sampled_from(MASKS)))
    for slot in draw(st.permutations([*RATE_SLOTS, *GATE_SLOTS])):
        if draw(st.booleans()):
            policy = policy.with_member(slot, draw(members(slot, of)))
    if draw(st.booleans()):
        (slot,) = HOST_SLOTS
        policy = policy.with_member(slot, host_member(draw(st.integers(1, 65535))))
    for base in draw(st.sets(st.sampled_from([BANNED, BLOCKED]))):
        policy = policy.with_drop(base)
    return policy.with_known(draw(st.booleans()))
