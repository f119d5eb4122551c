# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From security events to bans: what counts, how often it has to happen, and how long a ban lasts.

Nobody is banned for one mistake, and nobody for what somebody else can do in his name. An event is *proven* when its source address
cannot be a false one: it came over TCP, TLS or a web socket; or it tells of an answer over UDP to a challenge of PJSIP's that was seen
going out to that very address and to no other (witness.py). chan_sip's events are never proven, as maddr= in a Via header chooses their
address on every transport. All else counts only where the operator asks for it.

Whoever has one IPv6 address has all those of its /64, so proven evidence also counts for that network as a whole, where it takes more.
"""

from __future__ import annotations

import collections
import ipaddress
import itertools
from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..._sip.addresses import Network
from .settings import KINDS, Settings, Threshold
from .values import AMI, CHAN_SIP, STREAMS, Address, SecurityEvent

__all__ = ["SUCCESS", "History", "Judge", "Kind", "Verdict", "challenge_of", "counted_kind"]

SUCCESS = "SuccessfulAuth"
_CHALLENGE = "ChallengeSent"
# What a telephone of ours gets whose old registration has not run out yet: its password was right.
_OWN_ACL = "registrar_attempt_exceeds_maximum_configured_contacts"
# With the nonce that the sender gave.
_ANSWER = "ChallengeResponseFailed"
_NUMBERS = {name: number for number, name in enumerate(KINDS)}
_MOST = 24576  # (source, kind) pairs of each family that are watched at a time
_MOST_HISTORY = 200000  # sources: some 26 MB
_V6 = 1 << 128  # tells an IPv6 address from an IPv4 one of the same number
_NET = 1 << 129  # and a /64 from the first address in it
_NET_PREFIX = 64
_NET_FACTOR = 4  # telephones of one site share a /64, as they share an address of IPv4


class Kind(NamedTuple):
    """What is counted on its own: a kind of event, proven or not."""

    name: str
    proven: bool


class Verdict(NamedTuple):
    """Enough is enough. ``network`` is whom it is about: one address, or a /64 of IPv6.

    ``seconds`` is how long the ban lasts, ``number`` which one it is for this source, ``within`` in seconds.
    """

    network: Network
    kind: Kind
    events: int
    within: int
    seconds: int
    number: int

    def reason(self, event: SecurityEvent) -> str:
        """For people: what the kernel keeps beside the address. Nothing of it is a stranger's word."""
        proof = "" if self.kind.proven else ", unproven"
        times = f"{self.events} {self.kind.name}" if self.events > 1 else self.kind.name
        return f"{times} in {self.within} s ({event.service} over {event.transport}{proof})"


def counted_kind(event: SecurityEvent) -> bool:
    """Whether the event says anything against its source, the kind aside."""
    if event.name != "FailedACL":
        return True
    # One packet that names a wrong domain makes chan_sip tell it of whatever address is in it.
    return event.service != CHAN_SIP and event.extras.get("ACLName") != _OWN_ACL


def challenge_of(event: SecurityEvent) -> str:
    """The nonce that the sender has answered, "" for none.

    That of chan_sip says nothing of its source: whoever repeats a request from another address, or over TCP, gets the same one.
    """
    return event.extras.get("Challenge", "") if event.name == _ANSWER and event.service != CHAN_SIP else ""


def _key(address: Address) -> int:
    return int(address) | _V6 if isinstance(address, ipaddress.IPv6Address) else int(address)


def _net_key(address: ipaddress.IPv6Address) -> int:
    return int(address) >> _NET_PREFIX << _NET_PREFIX | _V6 | _NET


def _is_net(key: int) -> bool:
    return key >= _NET


def _pair(source: int, kind: Kind) -> int:
    """One small object instead of three."""
    return source << 4 | _NUMBERS[kind.name] << 1 | kind.proven


def _unpair(pair: int) -> tuple[int, Kind]:
    return pair >> 4, Kind(KINDS[pair >> 1 & 7], bool(pair & 1))


def _network_of(key: int) -> Network:
    if _is_net(key):
        return ipaddress.IPv6Network((key & (_V6 - 1), _NET_PREFIX))
    return ipaddress.ip_network(_address(key))


def _address(key: int) -> Address:
    return ipaddress.IPv6Address(key ^ _V6) if key & _V6 else ipaddress.IPv4Address(key)


class History:
    """How often each source has been banned for proven evidence, and when last (seconds since the epoch).

    Numbers instead of objects: a hundred thousand sources are some 13 MB.
    """

    _SHIFT = 40

    def __init__(self) -> None:
        self._found: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._found)

    def get(self, address: Address) -> tuple[int, int]:
        """Count and time of the last one; (0, 0) for nobody."""
        packed = self._found.get(_key(address), 0)
        return packed >> self._SHIFT, packed & ((1 << self._SHIFT) - 1)

    def set(self, address: Address, count: int, when: int) -> None:
        """The one that was set least recently goes where there are too many."""
        key = _key(address)
        self._found.pop(key, None)
        if len(self._found) >= _MOST_HISTORY:
            del self._found[next(iter(self._found), key)]
        self._found[key] = count << self._SHIFT | when

    def forget(self, address: Address) -> None:
        self._found.pop(_key(address), None)

    def expire(self, before: int) -> int:
        """Forget who was last banned before that time; how many."""
        low = (1 << self._SHIFT) - 1
        old = [key for key, packed in self._found.items() if packed & low < before]
        for key in old:
            del self._found[key]
        return len(old)

    def snapshot(self) -> Iterator[tuple[Address, int, int]]:
        """Address, count, time of the last one. What changes meanwhile may be missed."""
        for key in list(self._found):
            packed = self._found.get(key, 0)
            if packed:
                yield _address(key), packed >> self._SHIFT, packed & ((1 << self._SHIFT) - 1)


class Judge:
    """Counts evidence in sliding windows. ``clock`` never goes back (seconds), ``wall`` is seconds since the epoch."""

    def __init__(
        self, settings: Settings, history: History, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.history = history
        self._clock, self._wall = clock, wall
        # Source and kind as one number (_pair) -> times of its events, the least recently heard of first.
        # A plain dict would look for its first one among all those that have gone before.
        # Whoever has 2^64 addresses of IPv6 must not make it forget those of IPv4.
        self._rooms: tuple[collections.OrderedDict[int, array[float]], ...] = (
            collections.OrderedDict(),
            collections.OrderedDict(),
        )

    def threshold(self, kind: Kind) -> Threshold | None:
        """None where this kind bans nobody."""
        found = self.settings.thresholds.get(kind.name)
        return found if found and found.count and (kind.proven or self.settings.unproven) else None

    def proven_by_itself(self, event: SecurityEvent) -> bool:
        """Whether the event's transport alone tells that its address is true."""
        if event.service == CHAN_SIP or (event.service == AMI and self.settings.ami_web):
            return False
        return event.transport in STREAMS

    def count(self, event: SecurityEvent, proven: bool) -> Verdict | None:
        """Count one event that ``counted_kind`` has nothing against; a verdict when it was one too many."""
        kind = Kind(event.name, proven)
        threshold = self.threshold(kind)
        if threshold is None:
            return None
        verdict = self._one(_key(event.address), kind, threshold.count, threshold.seconds)
        if proven and isinstance(event.address, ipaddress.IPv6Address):
            wider = self._one(_net_key(event.address), kind, threshold.count * _NET_FACTOR, threshold.seconds)
            verdict = wider or verdict
        return verdict

    def _room(self, source: int) -> collections.OrderedDict[int, array[float]]:
        return self._rooms[bool(source & _V6)]

    def _one(self, source: int, kind: Kind, most: int, seconds: int) -> Verdict | None:
        """One more event of one source."""
        now, key = self._clock(), _pair(source, kind)
        room = self._room(source)
        times = room.pop(key, None)
        if times is None:
            times = array("d")
            if len(room) >= _MOST:
                room.popitem(last=False)
        room[key] = times
        times.append(now)
        while times[0] <= now - seconds:
            del times[0]
        if len(times) < most:
            return None
        network = _network_of(source)
        return Verdict(network, kind, len(times), round(now - times[0]), *self._sentence(network, kind.proven))

    def _sentence(self, network: Network, proven: bool) -> tuple[int, int]:
        """Seconds, and which ban this is."""
        settings = self.settings
        if not proven:
            return settings.ban_time_unproven, 1
        count, last = self.history.get(network.network_address)
        if count and last + settings.remember < self._wall():
            count = 0
        # A power of two beyond the longest time there is needs no computing.
        return min(settings.ban_time << min(count, 32), settings.ban_time_max), count + 1

    def banned(self, verdict: Verdict) -> None:
        """It was carried out: the source begins anew, and the next ban is longer."""
        self.acquit(verdict)
        if verdict.kind.proven:
            self.history.set(verdict.network.network_address, verdict.number, int(self._wall()))

    def acquit(self, verdict: Verdict) -> None:
        """Forget the evidence of a verdict, whatever came of it."""
        if verdict.network.prefixlen < verdict.network.max_prefixlen:
            key = _key(verdict.network.network_address) | _NET
            self._room(key).pop(_pair(key, verdict.kind), None)
        else:
            self.absolve(verdict.network.network_address)

    def succeeded(self, address: Address) -> None:
        """The source has logged in: no challenge of before was in vain."""
        keys = [_key(address), *([_net_key(address)] if isinstance(address, ipaddress.IPv6Address) else [])]
        for proven in (True, False):
            for key in keys:
                self._room(key).pop(_pair(key, Kind(_CHALLENGE, proven)), None)

    def absolve(self, address: Address) -> None:
        """Forget all evidence against a source. What it added to that against its /64 stays."""
        key = _key(address)
        for name in self.settings.thresholds:
            for proven in (True, False):
                self._room(key).pop(_pair(key, Kind(name, proven)), None)

    def against(self, address: Address) -> dict[str, tuple[int, Threshold]]:
        """What counts against a source at this time, by kind ("... unproven" for such); with the threshold of each."""
        found = {}
        key = _key(address)
        for name in self.settings.thresholds:
            for proven in (True, False):
                kind = Kind(name, proven)
                threshold = self.threshold(kind)
                times = self._room(key).get(_pair(key, kind), ())
                if threshold and times:
                    live = sum(time > self._clock() - threshold.seconds for time in times)
                    if live:
                        found[name if proven else f"{name} unproven"] = (live, threshold)
        return found

    def top(self, count: int) -> list[tuple[Address, dict[str, int]]]:
        """The sources with most evidence against them."""
        sums: dict[int, dict[str, int]] = {}
        for pair, times in itertools.chain.from_iterable(room.items() for room in self._rooms):
            key, kind = _unpair(pair)
            if _is_net(key):
                continue
            threshold = self.threshold(kind)
            live = sum(time > self._clock() - threshold.seconds for time in times) if threshold else 0
            if live:
                each = sums.setdefault(key, {})
                each[kind.name] = each.get(kind.name, 0) + live
        ranked = sorted(sums.items(), key=lambda item: -sum(item[1].values()))[: max(count, 0)]
        return [(_address(key), events) for key, events in ranked]

    def prune(self) -> None:
        """Give back the memory of windows that are over; some times a minute is enough."""
        now = self._clock()
        for room in self._rooms:
            over = []
            for key, times in room.items():
                threshold = self.threshold(_unpair(key)[1])
                if threshold is None or times[-1] <= now - threshold.seconds:
                    over.append(key)
            for key in over:
                del room[key]
