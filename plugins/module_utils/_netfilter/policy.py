# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the members' rules come together in SIPGUARD-PRE and SIPGUARD, and how they are found there again.

A *member* is what one module contributes: a chain of its own (with sub-chains) and the traffic that is led to it.
The policy is put together anew from all members each time, so the order can never depend on who ran last::

    raw PREROUTING -> SIPGUARD-PRE     one rule per dropping set in use: its sources -> one of the next two
      SIPGUARD-PRE-SIP                 trusted, known: leave; SIP: drop (learned offenders)
      SIPGUARD-PRE-ALL                 trusted: leave; drop (bans, blocklists)
      SIPGUARD-PRE-NOTE                trusted: leave; remember as observed (blocklists that only observe)
    INPUT -> SIPGUARD                  limits, unless known (they see every packet; whoever is trusted leaves before any is counted)
                                       what is never let in, in an admitted conversation either
                                       conversation admitted under this generation: leave
                                       host policy
                                       any older admission: forgotten
                                       SIP -> SIPGUARD-JUDGE
      SIPGUARD-JUDGE                   trusted: leave
                                       a response over UDP: leave (it asks for nothing, and admits nobody)
                                       gate; signatures, unless known
                                       observed: leave (counted, not admitted)
                                       a whole request that nobody objected to: admit the conversation
                                       the first message of TLS that the gate let pass: admit the connection

The order is that of cost (docs/benchmarks.md): a packet of an admitted conversation meets one set, the one of the
offenders, and one connection mark; media meets that set and misses two port lists; trust is only looked up where
somebody would otherwise be judged or dropped.

Known is who has just authenticated, where a policy ``knows``. That spares him what goes by an address or a header alone, because a
forged packet has both: limits, signatures, what was learned. Bans, blocklists and the gate stop him like anybody.

A conversation is admitted by a packet that holds the end of a request line and the end of the headers: a keep-alive, a
STUN packet or half a request admits nobody. Admission is a value in masked bits of the connection mark, the generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from .._sip.errors import SipguardError
from . import matches as m
from .names import (
    ADMISSION_MASK,
    CHAIN_GATE,
    CHAIN_JUDGE,
    CHAIN_KNOWN,
    CHAIN_MAIN,
    CHAIN_PRE,
    CHAIN_PRE_ALL,
    CHAIN_PRE_NOTE,
    CHAIN_PRE_SIP,
    CHAIN_UA,
    GATE_SLOTS,
    HOST_SLOTS,
    KNOWN,
    OFFENDERS,
    PRE_SLOTS,
    RATE_SLOTS,
    TRUSTED,
    WATCHED,
    Family,
)
from .rule import Match, Option, Rule

__all__ = [
    "HEADERS_END",
    "REQUEST_LINE_END",
    "RESPONSE",
    "Member",
    "Policy",
    "Selector",
    "assemble",
    "choose_generation",
    "generations",
    "read_policy",
]

REQUEST_LINE_END = b" SIP/2.0\r\n"
HEADERS_END = b"\r\n\r\n"
RESPONSE = b"SIP/2.0 "


@dataclass(frozen=True)
class Selector:
    """The traffic a member looks at: ``protocol`` udp or tcp, destination ``ports`` "5060:5061,5070", one interface or "" for all."""

    protocol: str
    ports: str
    interface: str = ""

    def rule(self, chain: str, *more: Match) -> Rule:
        header: tuple[Option, ...] = (m.protocol(self.protocol),)
        if self.interface:
            header = (m.interface(self.interface), *header)
        return Rule(chain, (m.ports(self.ports), *more), header=header)

    @classmethod
    def read(cls, rule: Rule) -> Selector | None:
        """The inverse of ``rule``: None for anything this class did not write."""
        multiport = rule.match("multiport")
        values = {option.name: option.values for option in rule.header}
        if multiport is None:
            return None
        try:
            selector = cls(values["-p"][0], multiport.options[0].values[0], values.get("-i", ("",))[0])
        except (IndexError, KeyError):
            return None
        written = selector.rule(rule.chain)
        return selector if (written.header, written.matches[0]) == (rule.header, rule.matches[0]) else None


@dataclass(frozen=True)
class Member:
    """What one module puts into one family: its slot's chain, the chains below it, and the traffic led there.

    ``asides`` lead traffic straight to a chain below the slot's own, every packet of it, whatever has been admitted (a limit on SSH,
    which is no SIP). ``handshakes`` are ports
    with TLS, where what is in the slot has to judge a connection by its ClientHello, because nothing else of it can be read.
    """

    slot: str
    selectors: tuple[Selector, ...]
    chains: Mapping[str, tuple[Rule, ...]] = field(hash=False)
    asides: tuple[tuple[Selector, str], ...] = ()
    handshakes: tuple[Selector, ...] = ()

    def feeds(self, set_name: str) -> bool:
        """Whether a rule of this member adds sources to the set."""
        return any(
            option.name == "--add-set" and option.values[:1] == (set_name,)
            for rules in self.chains.values()
            for rule in rules
            for option in rule.target_options
        )

    def rejects(self) -> bool:
        """Whether it answers with REJECT, which exists in the filter table only."""
        return any(rule.target == "REJECT" for rules in self.chains.values() for rule in rules)


@dataclass(frozen=True)
class Policy:
    """Everything one family judges: members by slot, the table they share, the mask of the admission bits.

    ``drops`` are base names of sets that SIPGUARD-PRE looks into although no rule feeds them: bans and blocklists, filled from
    outside. ``knows`` says that limits and signatures spare the sources in the set of those that have just authenticated.
    ``start`` is the generation to begin with where no rules are live, 0 for the first: that of a file that is loaded at boot.
    """

    family: Family
    table: str = "filter"
    members: Mapping[str, Member] = field(default_factory=dict, hash=False)
    mask: int = ADMISSION_MASK
    drops: frozenset[str] = frozenset()
    knows: bool = False
    start: int = field(default=0, compare=False)

    def with_member(self, slot: str, member: Member | None) -> Policy:
        """This policy with one slot filled anew, or emptied."""
        members = {name: other for name, other in self.members.items() if name != slot}
        if member is not None:
            members[slot] = member
        return replace(self, members=members)

    def with_drop(self, base: str, wanted: bool = True) -> Policy:
        """This policy with one set dropped on its own account, or no longer."""
        return replace(self, drops=self.drops | {base} if wanted else self.drops - {base})

    def with_known(self, wanted: bool = True) -> Policy:
        """This policy with known sources spared, or no longer."""
        return replace(self, knows=wanted)

    def set_name(self, base: str) -> str:
        return base + self.family.suffix

    def dropped_sets(self) -> tuple[str, ...]:
        """Base names of the sets that SIPGUARD-PRE has to drop: what is in ``drops``, and what some member feeds."""
        return tuple(
            base
            for base in PRE_SLOTS
            if base in self.drops or any(mem.feeds(self.set_name(base)) for mem in self.members.values())
        )


def generations(mask: int) -> tuple[int, ...]:
    """Every value an admission can have under this mask, in order of use: all combinations of its bits but none."""
    low = mask & -mask
    count = 1 << bin(mask).count("1")
    return tuple(step * low for step in range(1, count))


def _selectors(policy: Policy, slots: Iterable[str]) -> list[Selector]:
    found: list[Selector] = []
    for slot in slots:
        for selector in policy.members[slot].selectors if slot in policy.members else ():
            if selector not in found:
                found.append(selector)
    return found


def assemble(policy: Policy, generation: int) -> dict[str, dict[str, tuple[Rule, ...]]]:
    """All our chains of one family: table -> chain -> rules. Empty when there is no member.

    ``generation`` is one of ``generations(policy.mask)``.
    """
    if not policy.members and not policy.drops:
        return {}
    for member in policy.members.values():
        if any(rule.target == "ACCEPT" for rules in member.chains.values() for rule in rules):
            # It would end the packet's way before the other members have seen it.
            raise SipguardError(f"a rule of {member.slot} accepts; what a member lets through, it has to return")
    trusted, known = (m.in_set(policy.set_name(base)) for base in (TRUSTED, KNOWN))
    unknown = (m.in_set(policy.set_name(KNOWN), negated=True),) if policy.knows else ()
    everyone = _selectors(policy, RATE_SLOTS + GATE_SLOTS)
    raw: dict[str, tuple[Rule, ...]] = {CHAIN_PRE: ()}
    for base in policy.dropped_sets():
        # A forged source must not cost its owner more than SIP: a resolver that "attacked" us still answers.
        chain = {OFFENDERS: CHAIN_PRE_SIP, WATCHED: CHAIN_PRE_NOTE}.get(base, CHAIN_PRE_ALL)
        raw[CHAIN_PRE] += (Rule(CHAIN_PRE, (m.in_set(policy.set_name(base)),), chain),)
        if base == OFFENDERS:
            # Nor may a forged packet cut off a telephone that has logged in.
            verdicts = [Rule(chain, (known,), "RETURN")] if policy.knows else []
            verdicts += [replace(selector.rule(chain), target="DROP") for selector in everyone]
        else:
            verdicts = [m.note(chain, policy.family) if base == WATCHED else Rule(chain, (), "DROP")]
        raw[chain] = (Rule(chain, (trusted,), "RETURN"), *verdicts)

    main: list[Rule] = []
    for slot in RATE_SLOTS:
        main += [replace(each.rule(CHAIN_MAIN, *unknown), target=slot) for each in _selectors(policy, (slot,))]
        asides = policy.members[slot].asides if slot in policy.members else ()
        main += [replace(selector.rule(CHAIN_MAIN), target=chain) for selector, chain in asides]
    for slot in GATE_SLOTS:
        asides = policy.members[slot].asides if slot in policy.members else ()
        main += [replace(selector.rule(CHAIN_MAIN), target=chain) for selector, chain in asides]
    own: dict[str, tuple[Rule, ...]] = {}
    judged = _selectors(policy, GATE_SLOTS)
    if judged:
        main.append(Rule(CHAIN_MAIN, (m.connmark(generation, policy.mask),), "RETURN"))
    main += [Rule(CHAIN_MAIN, (), slot) for slot in HOST_SLOTS if slot in policy.members]
    if judged:
        main.append(m.set_connmark(Rule(CHAIN_MAIN, (m.connmark(0, policy.mask, negated=True),)), 0, policy.mask))
        main += [replace(selector.rule(CHAIN_MAIN), target=CHAIN_JUDGE) for selector in judged]
        judge = [Rule(CHAIN_JUDGE, (trusted,), "RETURN")]
        if any(selector.protocol == "udp" for selector in judged):
            # A datagram is one message. On TCP a request may follow in the same segment; and an answer to a connection
            # of ours does not come to a SIP port.
            answer = m.starts_with(policy.family, "udp", RESPONSE)
            judge.append(Rule(CHAIN_JUDGE, (answer,), "RETURN", header=(m.protocol("udp"),)))
        for slot in GATE_SLOTS:
            spare = unknown if slot == CHAIN_UA else ()
            judge += [replace(each.rule(CHAIN_JUDGE, *spare), target=slot) for each in _selectors(policy, (slot,))]
        judge.append(Rule(CHAIN_JUDGE, (m.packet_mark(policy.mask, policy.mask),), "RETURN"))
        whole_request = (m.string(REQUEST_LINE_END), m.string(HEADERS_END))
        judge.append(m.set_connmark(Rule(CHAIN_JUDGE, whole_request), generation, policy.mask))
        handshakes = [selector for mem in policy.members.values() for selector in mem.handshakes]
        hello = m.client_hello(policy.family)
        judge += [m.set_connmark(each.rule(CHAIN_JUDGE, hello), generation, policy.mask) for each in handshakes]
        own[CHAIN_JUDGE] = tuple(judge)
    tables: dict[str, dict[str, tuple[Rule, ...]]] = {}
    if raw[CHAIN_PRE]:  # without anything to drop there is no need to make each packet pass another hook
        tables["raw"] = raw
    if main:
        tables[policy.table] = {**own, CHAIN_MAIN: tuple(main)}
        for member in policy.members.values():
            tables[policy.table].update(member.chains)
    if policy.knows and tables:
        # Else whoever took the last limit away would have taken the set, and forgotten what the next one has to spare. In raw no
        # firewall that flushes filter at its own start (FreePBX) reaches it.
        remark = m.comment("spared by limits and signatures")
        place = tables["raw" if "raw" in tables else policy.table]
        place[CHAIN_KNOWN] = (Rule(CHAIN_KNOWN, (known, remark), "RETURN"),)
    return tables


def read_policy(
    family: Family, tables: Mapping[str, Mapping[str, tuple[Rule, ...]]], fallback: str
) -> tuple[Policy, int]:
    """The policy and the generation that live chains amount to; what nobody owns is left out and so goes away.

    ``fallback`` is the table of a policy that has no chains yet; generation 0 means that there is none.
    """
    table = next((name for name in ("mangle", "filter") if CHAIN_MAIN in tables.get(name, {})), fallback)
    chains = tables.get(table, {})
    leading = (*chains.get(CHAIN_MAIN, ()), *chains.get(CHAIN_JUDGE, ()))
    members: dict[str, Member] = {}
    for slot in HOST_SLOTS + RATE_SLOTS + GATE_SLOTS:
        owned = {
            # What no member writes (see assemble), somebody else put there.
            name: tuple(rule for rule in rules if not rule.unread and rule.target != "ACCEPT")
            for name, rules in chains.items()
            if name == slot or name.startswith(slot + "-")
        }
        if slot not in owned:
            continue
        jumps = [Selector.read(rule) for rule in leading if rule.target == slot]
        members[slot] = Member(
            slot,
            tuple(dict.fromkeys(jump for jump in jumps if jump is not None)),
            owned,
            _read_asides(slot, leading),
            _read_handshakes(family, leading) if slot == CHAIN_GATE else (),
        )
    generation, mask = _read_generation(chains.get(CHAIN_MAIN, ()))
    looked_up = {name for rule in tables.get("raw", {}).get(CHAIN_PRE, ()) for name in rule.sets()}
    # Offenders are fed by rules; every other set there is filled from outside.
    drops = frozenset(base for base in PRE_SLOTS if base != OFFENDERS and base + family.suffix in looked_up)
    # One of the rules is enough: where others are missing, the next run puts them back.
    knowing = [*leading, *chains.get(CHAIN_KNOWN, ())]
    knowing += (rule for name in (CHAIN_PRE_SIP, CHAIN_KNOWN) for rule in tables.get("raw", {}).get(name, ()))
    knows = any(KNOWN + family.suffix in rule.sets() for rule in knowing)
    return Policy(family, table, members, mask, drops, knows), generation


def _read_asides(slot: str, leading: Iterable[Rule]) -> tuple[tuple[Selector, str], ...]:
    found = [(Selector.read(rule), rule.target) for rule in leading if rule.target.startswith(slot + "-")]
    return tuple((selector, chain) for selector, chain in found if selector is not None)


def _read_handshakes(family: Family, leading: Iterable[Rule]) -> tuple[Selector, ...]:
    hello = m.client_hello(family)
    found = [Selector.read(rule) for rule in leading if rule.target == "CONNMARK" and hello in rule.matches]
    return tuple(selector for selector in found if selector is not None)


def _read_generation(main: Iterable[Rule]) -> tuple[int, int]:
    """Generation and mask that SIPGUARD lets pass; generation 0 where it has no such rule, or not one of ours."""
    for rule in main:
        mark = rule.match("connmark")
        if mark is None or rule.target != "RETURN":
            continue
        try:
            value, mask = (int(part, 16) for part in mark.options[0].values[0].split("/"))
        except (IndexError, ValueError):
            continue
        # A mask of ours has at most eight bits (options.py), and all values of a larger one are too many to list.
        if mask > 0 and bin(mask).count("1") <= 8 and value in generations(mask):
            return value, mask
    return 0, ADMISSION_MASK


def _judged(table: str, tables: Mapping[str, Mapping[str, tuple[Rule, ...]]]) -> dict[str, tuple[Rule, ...]]:
    """What decides about admission: all but the limits, which see every packet anyway."""
    return {
        name: tuple(rule for rule in rules if not rule.target.startswith(RATE_SLOTS))
        for name, rules in tables.get(table, {}).items()
        if not name.startswith((*RATE_SLOTS, CHAIN_KNOWN))
    }


def choose_generation(live: Mapping[str, Mapping[str, tuple[Rule, ...]]], target: Policy) -> int:
    """The generation under which ``target`` admits: the live one while nothing that is judged changes, else the next.

    Compared with the rules as they really are, so that a conversation admitted by rules that somebody edited is judged again.
    """
    policy, generation = read_policy(target.family, live, target.table)
    values = generations(target.mask)
    if generation not in values or policy.mask != target.mask:
        return target.start if target.start in values else values[0]
    if _judged(target.table, live) == _judged(target.table, assemble(target, generation)):
        return generation
    return values[(values.index(generation) + 1) % len(values)]
