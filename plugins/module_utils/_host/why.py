# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``sipguard why`` finds out: everything that stops an address, in the order a packet meets it. Nothing here changes anything."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._netfilter import blocklist, sets
from .._netfilter.engine import Engine
from .._netfilter.lists import ENFORCE, NamedList, shown
from .._netfilter.names import (
    BANNED,
    BLOCKED,
    CHAIN_GATE,
    CHAIN_HOST,
    CHAIN_JUDGE,
    CHAIN_MAIN,
    CHAIN_PRE,
    CHAIN_PRE_SIP,
    CHAIN_RATE,
    CHAIN_UA,
    FAMILIES,
    HARMLESS_BEFORE_HOOK,
    JAILS,
    KNOWN,
    OBSERVED,
    OFFENDERS,
    TRUSTED,
    WATCHED,
    Family,
)
from .._netfilter.persist import Store
from .._netfilter.policy import Member, Policy
from .._netfilter.rule import Rule
from .._netfilter.ruleset import Ruleset
from .._netfilter.runner import Runner
from .._netfilter.switch_guard import STATE_DIRECTORY
from .._sip.errors import OptionError, SipguardError
from .bans import Ban, containing, read_live, span
from .counted import over
from .exceptions import Address, Exceptions, Exempt, read_lists
from .jails import jail_name
from .reach import Reach, reach
from .restore import live_rules, policy_of

__all__ = ["Finding", "Scene", "parse_address", "why"]

_ALL = "all its packets are dropped"
_JUDGES = {CHAIN_GATE: "the domain gate", CHAIN_UA: "signatures"}
# What spares known sources.
_SPARING = {CHAIN_RATE: "limits", CHAIN_UA: "signatures", CHAIN_PRE_SIP: "learned offences"}


def parse_address(text: str, option: str = "addresses") -> Address:
    """One address. Raises OptionError."""
    try:
        address = ipaddress.ip_address(text.strip())
        if "%" in text:
            raise ValueError("the kernel's sets know no zones")
    except ValueError:
        raise OptionError(option, text, "an address (192.0.2.7, 2001:db8::7) would be right") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        raise OptionError(option, text, "the kernel sees such an address as IPv4: its IPv4 form would be right")
    return address


@dataclass(frozen=True)
class Finding:
    """One thing that concerns the address. ``stops``: nothing of it, or none of its SIP, gets through because of this."""

    what: str
    text: str
    stops: bool = False
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def result(self) -> dict[str, Any]:
        return {"what": self.what, "stops": self.stops, "text": self.text, **self.details}


@dataclass
class _View:
    """One family: its policy, the chains of the policy's table, the sets that SIPGUARD-PRE looks into, members of sets by name.

    ``spared`` is what passes over known sources: CHAIN_RATE, CHAIN_UA, CHAIN_PRE_SIP.
    """

    policy: Policy
    chains: dict[str, tuple[Rule, ...]]
    looked_up: frozenset[str]
    members: dict[str, dict[str, int]]
    spared: frozenset[str] = frozenset()


class Scene:
    """A host as it is now, read once for any number of addresses."""

    def __init__(self, runner: Runner, directory: str = STATE_DIRECTORY, proc: str = "/proc") -> None:
        """Raises SipguardError when the kernel cannot be read; files that cannot be are findings."""
        self._runner, self._proc = runner, proc
        self._views: dict[Family, _View] = {}
        engine = Engine(runner, Store().backend())
        snapshot = engine.snapshot()
        self._headers = snapshot.headers
        self._bans = read_live(runner, self._headers)
        for family in engine.families:
            live = live_rules(snapshot, family)
            policy = policy_of(family, live)
            # What the rules do, and not what they were meant to: somebody may have flushed the table.
            rules = live.own_chains("raw").get(CHAIN_PRE, ()) if live.table("raw").hooks else ()
            looked_up = frozenset(name for rule in rules for name in rule.sets())
            spared = frozenset(_spared(live, policy))
            self._views[family] = _View(policy, live.own_chains(policy.table), looked_up, {}, spared)
        self._lists: dict[str, NamedList] = {}
        self._exceptions: dict[Address, Exempt] = {}
        self._problems: list[str] = []
        try:
            self._lists, self._problems = read_lists(directory)
            self._exceptions = Exceptions(directory).read()
        except SipguardError as error:
            self._problems.append(str(error))

    def explain(self, address: Address) -> tuple[dict[str, Any], str, int]:
        """Findings, the same as text, and the exit status: 0 when nothing stops the address, 1 when something does."""
        family = next(family for family in FAMILIES if family.version == address.version)
        view = self._views.get(family) or _View(Policy(family), {}, frozenset(), {})
        trusted = self._entry(view, TRUSTED, address)
        if self._entry(view, KNOWN, address) is None:
            view = replace(view, spared=frozenset())
        found = list(self._findings(view, address, trusted is not None))
        stopped = any(each.stops for each in found)
        entries = {each.details["base"]: dict(each.details) for each in found if "base" in each.details}
        findings = [each.result() for each in found]
        for finding in findings:
            finding.pop("base", None)
        report = {
            "address": str(address),
            "stopped": stopped,
            "found": {base: {name: each[name] for name in each if name != "base"} for base, each in entries.items()},
            "findings": findings,
        }
        return report, _text(address, stopped, found, bool(entries)), int(stopped)

    def _findings(self, view: _View, address: Address, trusted: bool) -> Iterator[Finding]:
        yield from self._in_sets(view, address, trusted)
        yield from self._in_lists(view, address, trusted)
        yield from self._limits(view, address, trusted)
        yield from self._host_policy(view, address, trusted)
        yield from self._judges(view, trusted)
        observed = self._entry(view, OBSERVED, address)
        if observed is not None:
            yield self._in_set(view, OBSERVED, observed, "seen in observe mode", "what it sent would have been stopped")
        yield from self._foreign(address)
        yield from (Finding("problem", problem) for problem in self._problems)

    # -- the sets that SIPGUARD-PRE looks into

    def _in_sets(self, view: _View, address: Address, trusted: bool) -> Iterator[Finding]:
        entry = self._entry(view, TRUSTED, address)
        if entry is not None:
            effect = "never judged, limited, learned, banned or blocked"
            yield self._in_set(view, TRUSTED, entry, f"trusted as {entry[0]}", effect)
        entry = self._entry(view, KNOWN, address)
        if entry is not None:
            words = [word for chain, word in _SPARING.items() if chain in view.spared]
            effect = f"spared by {_listed(words)}" if words else "no rule spares known sources now"
            head = f"known because it has logged in, {_left(entry[1])}"
            yield self._in_set(view, KNOWN, entry, head, effect, spared_by=words)
        entry = self._entry(view, OFFENDERS, address)
        if entry is not None:
            spared = CHAIN_PRE_SIP in view.spared and not trusted
            effect = "stops nothing, because it is known" if spared else "its SIP packets are dropped"
            head = f"learned as an offender, {span(entry[1])} left"
            yield self._in_set(view, OFFENDERS, entry, head, effect, not (trusted or spared))
        found = self._bans[view.policy.family]
        member = next(containing(found, ipaddress.ip_network(address)), None)
        if member is not None:
            yield self._ban(view, found[member], address, trusted)
        yield from self._jailed(view, address, trusted)

    def _jailed(self, view: _View, address: Address, trusted: bool) -> Iterator[Finding]:
        """What fail2ban's jails have, as far as they ban with our action."""
        listed = view.policy.set_name(JAILS)
        for name in self._members(view, listed):
            entry = self._member(view, name, address)
            if entry is None:
                continue
            stops = not trusted and listed in view.looked_up
            left = f"{span(entry[1])} left" if entry[1] else "until it is unbanned"
            inside = "" if entry[0] == str(address) else f" as part of {entry[0]}"
            effect = _ALL if stops or trusted else "no rule drops that set now, see sipguard status"
            text = f"banned{inside} by fail2ban's jail {shown(jail_name(name))}, {left}: {effect} ({shown(name)})"
            details = {"base": JAILS, "jail": jail_name(name), "set": name, "entry": entry[0], "seconds_left": entry[1]}
            yield Finding("jailed", text, stops, details)

    def _ban(self, view: _View, ban: Ban, address: Address, trusted: bool) -> Finding:
        inside = "" if ban.member == str(address) else f" as part of {ban.member}"
        left = f"{span(ban.left)} left" if ban.left else "until somebody unbans it"
        head = f"banned{inside}, {left}" + (f", reason '{ban.reason}'" if ban.reason else "")
        return self._in_set(view, BANNED, (ban.member, ban.left), head, _ALL, not trusted, reason=ban.reason)

    def _in_set(
        self,
        view: _View,
        base: str,
        entry: tuple[str, int],
        head: str,
        effect: str,
        stops: bool = False,
        **more: Any,
    ) -> Finding:
        """A finding about a member of a set that says what comes of it, as far as a rule looks into the set."""
        name = view.policy.set_name(base)
        if stops and name not in view.looked_up:
            effect, stops = "no rule drops that set now, see sipguard status", False
        details = {"base": base, "set": name, "entry": entry[0], "seconds_left": entry[1], **more}
        return Finding(_WHAT[base], f"{head}: {effect} ({name})", stops, details)

    def _entry(self, view: _View, base: str, address: Address) -> tuple[str, int] | None:
        """The member of a set in which an address lies, and the seconds that it has left."""
        return self._member(view, view.policy.set_name(base), address)

    def _member(self, view: _View, name: str, address: Address) -> tuple[str, int] | None:
        members = self._members(view, name)
        member = next(containing(members, ipaddress.ip_network(address)), None)
        return None if member is None else (member, members[member])

    def _members(self, view: _View, name: str) -> dict[str, int]:
        if name not in view.members:
            there = name in self._headers and self._headers[name].entries
            view.members[name] = sets.read_members(self._runner, name) if there else {}
        return view.members[name]

    def _test(self, name: str, address: Address) -> bool:
        """Whether the kernel says that a set has an address. Of the wrong family it would be looked up as a name."""
        header = self._headers.get(name)
        if header is None or not header.entries or header.inet != ("inet" if address.version == 4 else "inet6"):
            return False
        argv = [self._runner.which("ipset") or "ipset", "--quiet", "test", name, str(address)]
        return self._runner.run(argv).returncode == 0

    # -- lists

    def _in_lists(self, view: _View, address: Address, trusted: bool) -> Iterator[Finding]:
        exempt = self._exceptions.get(address)
        named = blocklist.find(self._lists, address.version, int(address))
        blocked = self._test(view.policy.set_name(BLOCKED), address)
        for each in named:
            yield self._in_list(view, each, blocked, trusted)
        if exempt is not None:
            yield Finding("exception", exempt.describe(), False, {"exception": exempt.result()})
        surprise = (
            "it is excepted" if exempt else "" if any(each.mode == ENFORCE for each in named) else "no list has it"
        )
        if blocked and surprise:
            head = f"blocked, although {surprise}, which the next refresh or run puts right"
            yield self._in_set(view, BLOCKED, (str(address), 0), head, _ALL, not trusted)

    def _in_list(self, view: _View, each: blocklist.Found, blocked: bool, trusted: bool) -> Finding:
        """What one list says of the address."""
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(each.updated))
        kind, verb = ("feed", "fetched") if each.kind == "feed" else ("list", "written")
        remark = f"{verb} {when}" + (f", note '{shown(each.note)}'" if each.note else "")
        head = f"on the {kind} {each.name} as {shown(each.entry)} ({remark})"
        facts = {"list": each.name, "kind": each.kind, "mode": each.mode, "note": each.note, "updated": each.updated}
        if each.mode != ENFORCE:
            return Finding("watched", f"{head}: noted, not stopped (mode observe)", False, facts)
        if not blocked:
            return Finding("listed", f"{head}: not blocked", False, facts)
        return self._in_set(view, BLOCKED, (each.entry, 0), head, _ALL, not trusted, **facts)

    # -- what comes behind

    def _limits(self, view: _View, address: Address, trusted: bool) -> Iterator[Finding]:
        only = _aside(view.policy) if CHAIN_RATE in view.spared else None
        for each in [] if trusted else over(view.chains, view.policy.family, address, self._proc, only):
            verb = "is dropped" if each.enforced else "would be dropped (mode observe)"
            yield Finding("limit", f"over a limit now, {each.what}: what is more {verb}", False, {"table": each.table})

    def _host_policy(self, view: _View, address: Address, trusted: bool) -> Iterator[Finding]:
        if CHAIN_HOST not in view.policy.members:
            return
        found: Reach = reach(view.chains, address, lambda name: self._has(view, name, address))
        details = {"allowed": found.result() if found.stopped else {}}
        if not found.stopped:
            yield Finding("host", "host policy: nothing is stopped", False, details)
            return
        allowed = found.describe()
        if allowed:
            yield Finding("host", f"host policy: it reaches {allowed}; everything else is dropped", False, details)
        else:
            also = ", trusted or not" if trusted else ""
            yield Finding("host", f"host policy: it reaches no service{also}; everything is dropped", True, details)

    def _has(self, view: _View, name: str, address: Address) -> bool:
        if name == view.policy.set_name(TRUSTED):
            return self._entry(view, TRUSTED, address) is not None
        return self._test(name, address)

    def _judges(self, view: _View, trusted: bool) -> Iterator[Finding]:
        slots = [slot for slot in _JUDGES if slot not in view.spared]
        members = {slot: view.policy.members[slot] for slot in slots if slot in view.policy.members}
        if trusted or not members:
            return
        names = [_JUDGES[slot] + ("" if _stops(each) else " (mode observe)") for slot, each in members.items()]
        ports = ", ".join(dict.fromkeys(each.ports for member in members.values() for each in member.selectors))
        text = f"each new conversation to {ports} is judged by what it sends: {' and '.join(names)}"
        yield Finding("judged", text, False, {"members": list(members)})

    def _foreign(self, address: Address) -> Iterator[Finding]:
        for name in sorted(self._headers):
            if not name.startswith(HARMLESS_BEFORE_HOOK) or self._headers[name].type not in ("hash:ip", "hash:net"):
                continue
            if self._test(name, address):
                text = f"in the set {shown(name)} of fail2ban, which is not sipguard's"
                yield Finding("foreign", text, False, {"set": name})


_WHAT = {
    TRUSTED: "trusted",
    KNOWN: "known",
    OFFENDERS: "learned",
    BANNED: "banned",
    BLOCKED: "blocked",
    WATCHED: "watched",
    OBSERVED: "observed",
}


def _spared(live: Ruleset, policy: Policy) -> Iterator[str]:
    """What passes over known sources, by what its rules do now."""
    chains, raw = live.own_chains(policy.table), live.own_chains("raw")
    known = policy.set_name(KNOWN)
    for chain, slot in ((CHAIN_MAIN, CHAIN_RATE), (CHAIN_JUDGE, CHAIN_UA)):
        jumps = [rule for rule in chains.get(chain, ()) if rule.target == slot]
        if jumps and all(known in rule.sets() for rule in jumps):
            yield slot
    if any(rule.target == "RETURN" and known in rule.sets() for rule in raw.get(CHAIN_PRE_SIP, ())):
        yield CHAIN_PRE_SIP


def _aside(policy: Policy) -> frozenset[str]:
    """Chains of limits to which packets come that are no SIP: nobody who is known is spared by those."""
    member = policy.members.get(CHAIN_RATE)
    return frozenset(chain for dummy, chain in member.asides) if member is not None else frozenset()


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _left(seconds: int) -> str:
    return f"{span(seconds)} left" if seconds else "for ever"


def _stops(member: Member) -> bool:
    return any(rule.target in ("DROP", "REJECT") for rules in member.chains.values() for rule in rules)


def _text(address: Address, stopped: bool, found: list[Finding], in_sets: bool) -> str:
    lines = [f"{address}: {'STOPPED' if stopped else 'not stopped'}"]
    if not in_sets:
        lines.append("  in none of sipguard's sets")
    lines += [f"  {each.text}" for each in found]
    if (
        found
        and found[0].what == "trusted"
        and any(each.what in ("learned", "banned", "blocked", "jailed") for each in found)
    ):
        lines.append("  trust comes first, so learned, banned and blocked entries stop nothing")
    return "\n".join(lines)


def why(runner: Runner, address: Address, directory: str = STATE_DIRECTORY) -> tuple[dict[str, Any], str, int]:
    """``Scene.explain`` for one address."""
    return Scene(runner, directory).explain(address)
