# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The heart of sipband: what comes of events, and of what somebody asks for, in the kernel, in the ledger and in the log.

The kernel's sets sipguard-banned4 and -6 hold every ban with the time it has left; nothing here remembers whom they hold. So a ban outlives
sipband however it ends, and whoever else changes the sets (sipguard ban, sipguard unban, the module sip_ban) changes them for it as well.
"""

from __future__ import annotations

import collections
import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..._netfilter import sets as netfilter_sets
from ..._netfilter.names import BANNED, FAMILIES, KNOWN, MAX_TIMEOUT, TRUSTED
from ..._sip.addresses import Network
from ..._sip.errors import SipguardError
from .. import bans
from ..protected import ALWAYS, Protected
from ..surroundings import surroundings
from . import ledger as records
from . import published
from .judge import SUCCESS, History, Judge, Verdict, challenge_of, counted_kind
from .kernel import SetFull, Sets
from .ledger import Ledger, Line
from .settings import Settings
from .values import AMI, CHAN_SIP, OURS, Address, Entries, Entry, SecurityEvent

__all__ = ["ALERT", "INFO", "NOTICE", "OURS", "WARNING", "Blocked", "Guard", "Outside", "own_addresses"]

ALERT, WARNING, NOTICE, INFO = 1, 4, 5, 6  # syslog(3)
_BY_HAND = "blocked by hand"
_FLEET = "crowdsec: "
_OFTEN = 60.0  # s between two complaints about the same thing
_REFRESH = 10.0  # s in which a source that logs in again and again is made known once
_MOST_KNOWN = 4096
_MOST_SHARED = 10000  # as many as wait for a fleet that is away
_UNPROVEN = ", unproven)"  # see Verdict.reason


class Blocked(NamedTuple):
    """``outcome`` is blocked, previously or refused; ``said`` is why it was refused."""

    outcome: str
    said: str


class Challenges(Protocol):
    """Who was sent which challenge (witness.py)."""

    shared: int

    def knows(self, address: Address, nonce: str) -> bool: ...


class Fleet(Protocol):
    """Whoever else wants to know of bans (crowdsec.py)."""

    def publish(self, network: Network, seconds: int, reason: str) -> None: ...

    def withdraw(self, network: Network) -> None: ...

    def withdraw_all(self) -> None: ...

    def status(self) -> dict[str, Any]: ...


class Connection(Protocol):
    """The manager interface (ami.py)."""

    connected: bool
    hears: bool
    said: str

    def ping(self) -> Awaitable[float]: ...

    def counters(self) -> dict[str, int]: ...


@dataclass
class Outside:
    """Everything the guard speaks to besides the kernel's sets. ``end`` ends the conversations of an address, when it can."""

    say: Callable[[int, str], None]
    end: Callable[[Address], None]
    witness: Challenges | None = None
    fleet: Fleet | None = None
    ami: Connection | None = None
    own: Callable[[], frozenset[Address]] = frozenset
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass
class Counters:
    """Since the start. ``events`` by service and name; ``kept`` are those who would have been banned, by why they were not."""

    events: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    unproven: int = 0
    bans: collections.Counter[str] = field(default_factory=collections.Counter)
    kept: collections.Counter[str] = field(default_factory=collections.Counter)
    failed: int = 0


def own_addresses() -> frozenset[Address]:
    """Addresses without which this host is no use: its own, its gateways and resolvers, and those from where somebody is logged in."""
    found = set()
    for text, dummy in surroundings():
        try:
            found.add(ipaddress.ip_address(text))
        except ValueError:
            continue
    return frozenset(found)


def _network(address: Address) -> Network:
    return ipaddress.ip_network(address)


def _set(base: str, item: Address | Network) -> str:
    return f"{base}{item.version}"


class Guard:
    """One for each sipband."""

    def __init__(self, settings: Settings, kernel: Sets, ledger: Ledger, dump: str, outside: Outside) -> None:
        self.settings = settings
        self.outside = outside
        self.counters = Counters()
        self._kernel, self._ledger, self._dump = kernel, ledger, dump
        self._white = settings.networks()
        self._own = outside.own()
        self._started = outside.clock()
        self.history = History()
        self.judge = Judge(settings, self.history, outside.clock, outside.wall)
        self._made_known: dict[Address, float] = {}
        # Bans of the fleet, and when they end by our clock.
        self._of_fleet: dict[Network, float] = {}
        self._complained: dict[str, float] = {}
        self._listeners: list[Callable[[dict[str, Any]], None]] = []

    # -- what Asterisk says

    def on_event(self, event: SecurityEvent) -> None:
        """One event, once. Never raises SipguardError: what went wrong is told, and the next event counts."""
        self.counters.events[event.service, event.name] += 1
        address = event.address
        if address.is_loopback or address.is_multicast or address.is_unspecified:
            return
        if address.version == 6 and address.is_link_local:
            return  # IPv6 cannot do without its neighbours
        if event.name == SUCCESS:
            self._succeeded(event)
            return
        if event.name not in self.settings.thresholds or not counted_kind(event):
            return
        proven = self.judge.proven_by_itself(event) or self._witnessed(event)
        if not proven:
            self.counters.unproven += 1
        verdict = self.judge.count(event, proven)
        if verdict is not None:
            try:
                self._carry_out(verdict, event)
            except SipguardError as error:
                self.judge.acquit(verdict)
                self._failed(verdict.network, error)

    def _witnessed(self, event: SecurityEvent) -> bool:
        """Whether it tells of an answer to a challenge that went to its source and to nobody else."""
        nonce = challenge_of(event)
        if not nonce or self.outside.witness is None:
            return False
        try:
            return self.outside.witness.knows(event.address, nonce)
        except SipguardError as error:
            self._complain("witness", str(error))
            return False

    def _succeeded(self, event: SecurityEvent) -> None:
        # PJSIP's nonces hold for one source address, so that over UDP it takes an account of ours and a diverted challenge to make
        # somebody else known. With chan_sip the account is enough.
        if event.service == AMI or (event.service == CHAN_SIP and not self.settings.unproven):
            return
        address, now = event.address, self.outside.clock()
        self.judge.succeeded(address)
        if not self.settings.known_for or now - self._made_known.get(address, -_REFRESH) < _REFRESH:
            return
        self._made_known.pop(address, None)
        if len(self._made_known) >= _MOST_KNOWN:
            del self._made_known[next(iter(self._made_known), address)]
        self._made_known[address] = now
        try:
            fresh = not self._kernel.holds(_set(KNOWN, address), address)
            self._kernel.add(_set(KNOWN, address), _network(address), self.settings.known_for)
        except SipguardError as error:
            self._complain("known", f"{address} has logged in, but cannot be made known: {error}")
            return
        if fresh:
            self._tell("known", address, seconds=self.settings.known_for)

    def _carry_out(self, verdict: Verdict, event: SecurityEvent) -> None:
        """Ban, unless there is something for the source. Raises SipguardError."""
        network = verdict.network
        text = netfilter_sets.member_text(network)
        why = self._kept_network(network)
        if why:
            self.judge.acquit(verdict)
            self.counters.kept[why] += 1
            self._complain(f"kept {text}", f"WHITE LIST => {text} ({why}; {verdict.reason(event)})", NOTICE)
            self._tell("white list", network, why=why)
            return
        if self._covered(network) or self._banned(event.address) is not None:
            self.judge.acquit(verdict)  # what was on its way when the ban came is no new evidence
            return
        reason = OURS + verdict.reason(event)
        self._ban(network, verdict.seconds, reason, verdict.number if verdict.kind.proven else 0)
        self.judge.banned(verdict)
        self.counters.bans[verdict.kind.name] += 1
        number = f", its {verdict.number}. ban" if verdict.number > 1 else ""
        self.outside.say(NOTICE, f"BLOCK => {text} ({reason[len(OURS) :]}; for {bans.span(verdict.seconds)}{number})")
        if self.outside.fleet is not None and verdict.kind.proven:
            self.outside.fleet.publish(network, verdict.seconds, reason[len(OURS) :])

    def _kept_network(self, network: Network) -> str:
        """The same for a network: whether there is something for anybody in it. Raises SipguardError."""
        if network.prefixlen == network.max_prefixlen:
            return self._kept(network.network_address)
        try:
            self._require_bannable(network)
        except bans.Refusal:
            return "somebody in it is trusted"
        for each in self._kernel.members(_set(KNOWN, network)):
            if each.network.subnet_of(network):  # type: ignore[arg-type]
                return "somebody in it has logged in"
        return ""

    def _covered(self, network: Network) -> bool:
        """Whether it is banned, all of it. Raises SipguardError."""
        if not self._kernel.holds(_set(BANNED, network), network.network_address):
            return False
        if network.prefixlen == network.max_prefixlen:
            return True
        return any(network.subnet_of(each.network) for each in self._kernel.members(_set(BANNED, network)))  # type: ignore[arg-type]

    def _kept(self, address: Address) -> str:
        """Why the address is never banned for what it did, "" for no reason. Raises SipguardError."""
        if address in self._own:
            return "this host needs it"
        if any(address in network for network in self._white if network.version == address.version):
            return "on the white list"
        if self._kernel.holds(_set(TRUSTED, address), address):
            return "trusted"
        if self._kernel.holds(_set(KNOWN, address), address):
            return "has logged in"
        return ""

    def _ban(self, network: Network, seconds: int, reason: str, number: int) -> None:
        """Into the kernel, then into the ledger. Raises SipguardError."""
        self._of_fleet.pop(network, None)
        self._kernel.add(_set(BANNED, network), network, seconds, reason)
        now = self.outside.wall()
        self._write(Line(records.BAN, now, network, int(now) + seconds if seconds else 0, number, reason))
        if network.prefixlen == network.max_prefixlen:
            self.outside.end(network.network_address)
        self._tell("block", network, seconds=seconds, reason=reason)

    def _write(self, line: Line) -> None:
        self._ledger.add(line)
        if self._ledger.problem:
            self._complain("ledger", self._ledger.problem)

    def _banned(self, address: Address) -> str | None:
        return _set(BANNED, address) if self._kernel.holds(_set(BANNED, address), address) else None

    def _failed(self, what: Address | Network, error: SipguardError) -> None:
        self.counters.failed += 1
        topic = "full" if isinstance(error, SetFull) else "ban"
        self._complain(topic, f"{what} cannot be banned: {error}", ALERT)

    def _complain(self, topic: str, text: str, priority: int = WARNING) -> None:
        """A line, but not the same one again and again."""
        now = self.outside.clock()
        if now - self._complained.get(topic, -_OFTEN) < _OFTEN:
            return
        if len(self._complained) >= _MOST_KNOWN:
            self._complained.clear()
        self._complained[topic] = now
        self.outside.say(priority, text)

    def _tell(self, what: str, subject: Address | Network, **more: Any) -> None:
        if not self._listeners:
            return
        text = str(subject) if isinstance(subject, (ipaddress.IPv4Address, ipaddress.IPv6Address)) else ""
        text = text or netfilter_sets.member_text(subject)  # type: ignore[arg-type]
        for listener in list(self._listeners):
            listener({"at": round(self.outside.wall(), 3), "what": what, "address": text, **more})

    # -- what the fleet says

    def on_fleet_ban(self, network: Network, seconds: int, comment: str) -> None:
        """Somebody else has banned it. Any other ban of it stays as it is; this one is never passed on."""
        try:
            why = self._kept_network(network)
            if why:
                self.counters.kept[why] += 1
                text = netfilter_sets.member_text(network)
                self._complain(f"kept {text}", f"WHITE LIST => {text} ({why}; {_FLEET}{comment})", NOTICE)
                return
            self._require_bannable(network)
            now = self.outside.clock()
            until = self._of_fleet.get(network)
            if self._covered(network) if until is None else bans.lasts(max(int(until - now), 1), seconds):
                return
            self._ban(network, seconds, OURS + _FLEET + comment, 0)
            self._of_fleet[network] = now + seconds
            if until is None:  # and not what was said before, for some time more
                self.counters.bans["crowdsec"] += 1
                self.outside.say(NOTICE, f"BLOCK => {netfilter_sets.member_text(network)} ({_FLEET}{comment})")
        except bans.Refusal:
            self.counters.kept["trusted"] += 1
        except SipguardError as error:
            self._failed(network, error)

    def on_fleet_unban(self, network: Network) -> None:
        """Taken back there; a ban of our own stays."""
        try:
            if self._of_fleet.pop(network, None) is not None and self._unban(network):
                number, last = self.history.get(network.network_address)
                if number:  # its past is for us to forget, and the line that unbans it would
                    self._write(Line(records.WAS, last, network, 0, number))
        except SipguardError as error:
            self._complain("fleet", f"{netfilter_sets.member_text(network)} cannot be unbanned: {error}")

    def of_the_fleet(self) -> list[tuple[Network, int]]:
        """What came in before, with the seconds left. Raises SipguardError."""
        now = self.outside.clock()
        # In whatever order, and made into objects only as far as they are the fleet's: every start of sipband looks.
        packed = (each for family in FAMILIES for each in self._kernel.packed(BANNED + family.suffix))
        entries = (each.entry() for each in packed if each.comment.startswith(OURS + _FLEET))
        found = [(each.network, each.left) for each in entries]
        self._of_fleet = {network: now + left for network, left in found}
        return found

    def to_share(self) -> list[tuple[Network, int, str]]:
        """What the fleet is to know of: bans by proven evidence of our own and by hand, with the seconds left; those that last longest.

        Raises SipguardError.
        """
        found = (
            (each.network, each.left, each.comment[len(OURS) :])
            for each in self.bans()
            if each.left and each.comment.startswith(OURS) and not each.comment.startswith(OURS + _FLEET)
            if not each.comment.endswith(_UNPROVEN)
        )
        return list(collections.deque(found, _MOST_SHARED))

    def leave_fleet(self) -> None:
        """Nobody tells any more when bans of others are taken back, so they go. Raises SipguardError."""
        for network, dummy in self.of_the_fleet():
            self.on_fleet_unban(network)

    # -- what somebody asks for

    def block(self, network: Network, seconds: int | None = None, reason: str = "") -> Blocked:
        """By hand: also who has logged in. Raises SipguardError when the kernel does not take it."""
        try:
            self._require_bannable(network)
        except bans.Refusal as error:
            return Blocked("refused", "; ".join(error.refused.values()))
        wanted = self.settings.ban_time if seconds is None else seconds
        old = self._entry(network)
        if old is not None and (seconds is None or bans.lasts(old.left, wanted)):
            return Blocked("previously", "")
        said = f"{OURS}{_BY_HAND}" + (f": {reason}" if reason else "")
        self._ban(network, min(wanted, MAX_TIMEOUT), said.encode()[: bans.MAX_REASON].decode("utf-8", "ignore"), 0)
        if network.prefixlen == network.max_prefixlen:
            self._kernel.remove(_set(KNOWN, network), network)
            self.judge.absolve(network.network_address)
        self.counters.bans["by hand"] += 1
        self.outside.say(NOTICE, f"BLOCK => {netfilter_sets.member_text(network)} ({said[len(OURS) :]})")
        if self.outside.fleet is not None and wanted:
            self.outside.fleet.publish(network, wanted, said[len(OURS) :])
        return Blocked("blocked", "")

    def _require_bannable(self, network: Network) -> None:
        """Raises Refusal."""
        guarded = [Protected(str(address), "an address that this host needs") for address in self._own]
        guarded += [Protected(text, why) for text, why in ALWAYS.items()]
        guarded += [Protected(str(each), "on the white list") for each in self._white]
        if network.prefixlen == network.max_prefixlen:
            address = network.network_address
            if self._kernel.holds(_set(TRUSTED, network), address):
                guarded.append(Protected(str(address), "trusted"))
        else:
            guarded += [Protected(each.member, "trusted") for each in self._kernel.members(_set(TRUSTED, network))]
        bans.require_bannable([network], guarded)

    def _entry(self, network: Network) -> Entry | None:
        """The ban of exactly this member. Raises SipguardError."""
        if not self._kernel.holds(_set(BANNED, network), network.network_address):
            return None
        return next((each for each in self._kernel.members(_set(BANNED, network)) if each.network == network), None)

    def unblock(self, network: Network) -> bool:
        """Whether it was blocked. Its evidence and its earlier bans are forgotten either way, as somebody else may have unbanned it.

        Raises SipguardError for an address in a banned network.
        """
        there = self._unban(network)
        text = netfilter_sets.member_text(network)
        if not there and self._kernel.holds(_set(BANNED, network), network.network_address):
            for entry in self._kernel.members(_set(BANNED, network)):
                if network.subnet_of(entry.network):  # type: ignore[arg-type]
                    raise SipguardError(f"{text} is banned as part of {entry.member}: unblock {entry.member}")
        if self.history.get(network.network_address) != (0, 0) and not there:
            self._write(Line(records.UNBAN, self.outside.wall(), network))
        self._of_fleet.pop(network, None)
        self.history.forget(network.network_address)
        if network.prefixlen == network.max_prefixlen:
            self.judge.absolve(network.network_address)
        if there:
            self.outside.say(NOTICE, f"UNBLOCK => {text}")
        if self.outside.fleet is not None:
            self.outside.fleet.withdraw(network)
        return there

    def _unban(self, network: Network) -> bool:
        if not self._kernel.remove(_set(BANNED, network), network):
            return False
        self._write(Line(records.UNBAN, self.outside.wall(), network))
        self._tell("unblock", network)
        return True

    def bans(self) -> Sequence[Entry]:
        """By the time they end, those for ever last; may be called in a thread of its own. Raises SipguardError."""
        return Entries(each for family in FAMILIES for each in self._kernel.packed(BANNED + family.suffix))

    def flush(self) -> int:
        """Dump, then let everybody in; how many there were. Raises SipguardError, and then nobody is let in."""
        found, now = self.bans(), self.outside.wall()
        entries = [(each.network, int(now) + each.left if each.left else 0) for each in found]
        if entries:
            published.save_dump(self._dump, entries, int(now))
        for family in FAMILIES:
            self._kernel.flush(BANNED + family.suffix)
        self._write(Line(records.UNBAN, now, None))
        self._of_fleet.clear()
        if self.outside.fleet is not None:
            self.outside.fleet.withdraw_all()
        self.outside.say(NOTICE, f"FLUSH => {len(found)} ({self._dump} has them)")
        return len(found)

    def restore(self) -> int:
        """Bring back from the dump who has time left and is not banned, then delete it; how many. Raises SipguardError."""
        now, count = int(self.outside.wall()), 0
        there = {each.network for each in self.bans()}
        for network, until in published.load_dump(self._dump):
            left = min(until - now, MAX_TIMEOUT) if until else 0
            if (until and left <= 0) or network in there:
                continue
            try:
                self._require_bannable(network)
            except bans.Refusal as error:
                self.outside.say(NOTICE, f"WHITE LIST => {netfilter_sets.member_text(network)} ({error})")
                continue
            self._ban(network, left, f"{OURS}from the dump", 0)
            count += 1
        published.drop_dump(self._dump)
        self.outside.say(NOTICE, f"RESTORE => {count}")
        return count

    async def ping(self) -> float:
        """Seconds. Raises SipguardError."""
        if self.outside.ami is None:
            raise SipguardError("there is no connection to AMI")
        return await self.outside.ami.ping()

    def uptime(self) -> float:
        """Seconds."""
        return self.outside.clock() - self._started

    def whitelist(self) -> list[str]:
        """What is never banned by its setting; the trusted sets and who has logged in come on top."""
        return [netfilter_sets.member_text(each) for each in self._white]

    def follow(self, listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Call it for everything that happens; what comes back ends that."""
        self._listeners.append(listener)

        def leave() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return leave

    def status(self) -> dict[str, Any]:
        """For people and programs."""
        ami, counted = self.outside.ami, self.counters
        return {
            "uptime": round(self.uptime()),
            "ami": bool(ami and ami.connected),
            "ami_hears": bool(ami and ami.hears),
            "ami_said": ami.said if ami else "",
            "ami_counters": ami.counters() if ami else {},
            "bans": {family.name: self._kernel.entries(BANNED + family.suffix) for family in FAMILIES},
            "known": {family.name: self._kernel.entries(KNOWN + family.suffix) for family in FAMILIES},
            "events": {f"{service} {name}": count for (service, name), count in sorted(counted.events.items())},
            "unproven": counted.unproven,
            "unproven_counts": self.settings.unproven,
            "witness": self.outside.witness is not None,
            "diverted": self.outside.witness.shared if self.outside.witness is not None else 0,
            "blocked": dict(counted.bans),
            "kept": dict(counted.kept),
            "failed": counted.failed,
            "remembered": len(self.history),
            "fleet": self.outside.fleet.status() if self.outside.fleet is not None else {},
        }

    def top(self, count: int) -> list[dict[str, Any]]:
        """Whom most evidence is against."""
        return [
            {
                "address": str(address),
                "events": events,
                "bans": self.history.get(address)[0],
                "banned": self._banned(address) is not None,
                "known": self._kernel.holds(_set(KNOWN, address), address),
            }
            for address, events in self.judge.top(count)
        ]

    def why(self, address: Address) -> dict[str, Any]:
        """All that is known here of one address."""
        number, last = self.history.get(address)
        network = _network(address)
        entry = None
        for each in self._kernel.members(_set(BANNED, address)) if self._banned(address) else ():
            if network.subnet_of(each.network):  # type: ignore[arg-type]
                entry = {"entry": each.member, "seconds_left": each.left, "reason": each.comment}
        return {
            "address": str(address),
            "banned": entry,
            "trusted": self._kernel.holds(_set(TRUSTED, address), address),
            "known": self._kernel.holds(_set(KNOWN, address), address),
            "whitelisted": self._kept(address) == "on the white list",
            "evidence": {
                kind: {"count": count, "of": threshold.count, "seconds": threshold.seconds}
                for kind, (count, threshold) in self.judge.against(address).items()
            },
            "history": {"bans": number, "last": last},
        }

    # -- from time to time

    def refresh(self) -> None:
        """Look again at the host's own addresses; give back memory."""
        try:
            self._own = self.outside.own()
        except SipguardError as error:
            self._complain("own", str(error))
        self.judge.prune()
        now = self.outside.clock()
        self._of_fleet = {network: until for network, until in self._of_fleet.items() if until > now}
        self.history.expire(int(self.outside.wall()) - self.settings.remember)

    def remember(self, lines: Iterable[Line]) -> int:
        """What the ledger says of earlier bans; how many lines it has."""
        oldest, count = self.outside.wall() - self.settings.remember, 0
        for line in lines:
            count += 1
            if line.network is None:
                continue
            address = line.network.network_address
            if line.what == records.UNBAN:
                self.history.forget(address)
            elif line.number and line.when >= oldest:
                self.history.set(address, line.number, int(line.when))
        return count

    def lines(self) -> Iterator[Line]:
        """Everything that is worth keeping, for a ledger that has grown too long."""
        now = self.outside.wall()
        # Whoever is not among these was let in, and is not to come back from a picture of before.
        yield Line(records.UNBAN, now, None)
        told = set()  # numbers, as there may be a hundred thousand
        for family in FAMILIES:
            for each in self._kernel.members(BANNED + family.suffix):
                first = each.network.network_address
                number = self.history.get(first)[0]
                if number:
                    told.add((first.version, int(first)))
                until = int(now) + each.left if each.left else 0
                yield Line(records.BAN, now, each.network, until, number, each.comment)
        for address, number, when in self.history.snapshot():
            if (address.version, int(address)) not in told:
                yield Line(records.WAS, when, _network(address), 0, number)
