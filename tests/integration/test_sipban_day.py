# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A day of a PBX in some seconds: telephones that make mistakes, and scanners that do not want to be found, with the real kernel's sets."""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.guard import Guard, Outside
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.judge import History
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.kernel import Sets
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.ledger import Ledger, last_lines, read_lines
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.settings import Settings
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import Address, SecurityEvent
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.sets import spec
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import Network
from tests.integration.harness.netns import Namespace, in_namespace

DAY = 86400.0
EPOCH = 1_800_000_000
# When sipband is killed, and whether it writes its ledger anew when it is back.
RESTARTS = ((6.3 * 3600, False), (12.1 * 3600, True), (12.3 * 3600, False), (18.7 * 3600, True))
PASSWORD, ANSWER, ACCOUNT = "InvalidPassword", "ChallengeResponseFailed", "InvalidAccountID"
ACL, CHALLENGE, SUCCESS = "FailedACL", "ChallengeSent", "SuccessfulAuth"
# What somebody does next, after so many seconds; None for nothing that Asterisk would tell.
Course = Iterator[tuple[float, SecurityEvent | None]]
STREAM = ("TCP", "TLS")


class Simulated(Sets):
    """The kernel's sets, whose members run out by the clock of the day."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._due: dict[tuple[str, Network], float] = {}
        self._heap: list[tuple[float, int, str, Network]] = []
        self._numbers = itertools.count()

    def add(self, name: str, network: Network, seconds: int, comment: str = "") -> None:
        super().add(name, network, seconds, comment)
        self._due[name, network] = self.now + seconds
        heapq.heappush(self._heap, (self.now + seconds, next(self._numbers), name, network))

    def until(self, now: float) -> None:
        """Take out what is over."""
        self.now = now
        while self._heap and self._heap[0][0] <= now:
            due, dummy, name, network = heapq.heappop(self._heap)
            if self._due.get((name, network)) == due:
                del self._due[name, network]
                self.remove(name, network)

    def ends(self, name: str, network: Network) -> float:
        return self._due[name, network]

    def expected(self, name: str) -> set[Network]:
        return {network for base, network in self._due if base == name}


@dataclass
class Scanner:
    """Somebody who is up to no good. ``limit`` events are one too many, None where that must never be so."""

    behaviour: str
    kind: str
    transports: tuple[str, ...]
    pause: tuple[float, float]
    limit: int | None
    source: Callable[[], Address]
    network: Network | None = None
    proven: bool = False
    extras: dict[str, str] = field(default_factory=dict)
    service: str = "PJSIP"
    count: int = 0
    bans: list[int] = field(default_factory=list)


class Day:
    """Everybody who speaks to the PBX, and its guard."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.kernel = Simulated()
        self.path, self.dump = str(folder / "bans"), str(folder / "dump")
        self.settings = Settings()
        self.nonces: set[tuple[Address, str]] = set()
        self.told: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.guard = self.start()
        self.telephones: set[Address] = set()
        self.scanners: list[Scanner] = []
        self.events: Counter[str] = Counter()
        self.largest = 0
        self._numbers = itertools.count()
        self._queue: list[tuple[float, int, Course, Scanner | None, SecurityEvent | None]] = []

    def start(self, *, shorten: bool = False) -> Guard:
        """As after kill -9: what is known is in the kernel and in the ledger."""
        self.ledger = Ledger(self.path)
        outside = Outside(
            lambda priority, text: self.said.append(text),
            lambda address: None,
            witness=self,
            own=lambda: frozenset({ip_address("192.0.2.1"), ip_address("2001:db8::1")}),
            clock=lambda: self.now,
            wall=lambda: EPOCH + self.now,
        )
        guard = Guard(self.settings, self.kernel, self.ledger, self.dump, outside)
        guard.remember(read_lines(self.path))
        self.ledger.open()
        if shorten:
            self.ledger.rewrite(guard.lines())
        guard.follow(self.told.append)
        return guard

    shared = 0

    def knows(self, address: Address, nonce: str) -> bool:
        """The witness: what was sent to that address."""
        return (address, nonce) in self.nonces

    # -- telephones

    def add_telephones(self, count: int, places: list[list[Address]]) -> None:
        for number in range(count):
            self.enter(self.telephone(f"{1000 + number}", places[number % len(places)], number // len(places)))
        self.telephones |= {address for place in places for address in place}

    def telephone(self, name: str, place: list[Address], number: int) -> Course:
        """It registers for an hour or less, is given a wrong password now and then, and some travel."""
        draw = self.random
        address = place[number % len(place)]
        transport = draw.choice(("UDP", "UDP", *STREAM))
        travels = draw.random() < 0.1
        yield draw.uniform(0, 1800), None
        while True:
            mistakes = draw.choice((1, 2)) if draw.random() < 0.01 else 0
            for good in [False] * mistakes + [True]:
                nonce = f"{draw.getrandbits(64):x}"
                self.nonces.add((address, nonce))
                said = {"Challenge": nonce, "ReceivedChallenge": nonce}
                yield draw.uniform(1, 8), _event(CHALLENGE, address, transport, name)
                yield 0.05, _event(SUCCESS if good else ANSWER, address, transport, name, **({} if good else said))
                self.nonces.discard((address, nonce))
            if draw.random() < 0.02:  # it starts anew, and subscribes to what its keys show
                for dummy in range(24):
                    yield 0.1, _event(CHALLENGE, address, transport, name)
                    yield 0.05, _event(SUCCESS, address, transport, name)
            yield draw.uniform(120, 3500), None
            if travels and draw.random() < 0.2:
                address = ip_address(f"198.51.101.{draw.randrange(1, 255)}")
                self.telephones.add(address)

    # -- scanners

    def add_scanner(self, scanner: Scanner) -> None:
        self.scanners.append(scanner)
        self.enter(self.scan(scanner), scanner)

    def scan(self, scanner: Scanner) -> Course:
        draw = self.random
        yield draw.uniform(0, 3 * 3600), None
        while True:
            address, extras = scanner.source(), dict(scanner.extras)
            if scanner.kind in (PASSWORD, ANSWER):
                nonce = f"{draw.getrandbits(64):x}"
                extras |= {"Challenge": nonce, "ReceivedChallenge": nonce}
                if scanner.proven:
                    self.nonces.add((address, nonce))
            transport = draw.choice(scanner.transports)
            account = f"{draw.randrange(10000)}"
            event = SecurityEvent(scanner.kind, scanner.service, account, "0x1", transport, address, extras)
            yield draw.uniform(*scanner.pause), event

    # -- the course of the day

    def enter(self, course: Course, scanner: Scanner | None = None) -> None:
        self.plan(0.0, course, scanner, None)

    def plan(self, at: float, course: Course, scanner: Scanner | None, event: SecurityEvent | None) -> None:
        heapq.heappush(self._queue, (at, next(self._numbers), course, scanner, event))

    def run(self) -> None:
        """Until midnight."""
        restarts, refresh = list(RESTARTS), 0.0
        while self._queue[0][0] < DAY:
            self.now, dummy, course, scanner, event = heapq.heappop(self._queue)
            self.kernel.until(self.now)
            if restarts and self.now >= restarts[0][0]:
                self.restart(shorten=restarts.pop(0)[1])
            if self.now >= refresh:
                refresh = self.now + 30
                self.guard.refresh()
            if event is not None:
                banned = self.banned(event.address)
                if banned is not None:
                    # Its packets are dropped; it tries again when the ban is over.
                    assert scanner is not None, f"the telephone {event.address} is banned"
                    self.plan(banned + self.random.uniform(1, 3600), course, scanner, None)
                    continue
                self.deliver(event, scanner)
            pause, following = next(course)
            self.plan(self.now + pause, course, scanner, following)

    def banned(self, address: Address) -> float | None:
        """When the ban of an address ends."""
        name = f"sipguard-banned{address.version}"
        if not self.kernel.holds(name, address):
            return None
        prefixes = (32,) if address.version == 4 else (128, 64)
        networks = [ip_network((address, prefix), strict=False) for prefix in prefixes]
        return max(self.kernel.ends(name, each) for each in networks if each in self.kernel.expected(name))

    def deliver(self, event: SecurityEvent, scanner: Scanner | None) -> None:
        self.events[event.name] += 1
        before = len(self.told)
        self.guard.on_event(event)
        self.largest = max(self.largest, sum(map(len, self.guard.judge._rooms)))
        blocked = [each for each in self.told[before:] if each["what"] != "known"]
        if scanner is None or scanner.limit is None:
            # Nor is there anything that it would be banned for, were it not spared.
            assert blocked == []
            return
        scanner.count += 1
        assert scanner.count <= scanner.limit + 1, f"{scanner.behaviour} goes on"
        if not blocked:
            return
        (ban,) = blocked
        assert scanner.count == scanner.limit, f"{scanner.behaviour}: {ban} after {scanner.count} events"
        assert ip_network(ban["address"]) == scanner.network
        scanner.bans.append(ban["seconds"])
        scanner.count = 0
        for dummy in range(self.random.randrange(4)):  # what is on its way
            self.guard.on_event(event)
        assert [each for each in self.told[before:] if each["what"] != "known"] == blocked

    def restart(self, *, shorten: bool) -> None:
        self.ledger.close()
        self.guard = self.start(shorten=shorten)
        # Evidence is in memory alone.
        for scanner in self.scanners:
            scanner.count = 0


def _event(name: str, address: Address, transport: str, account: str, **extras: str) -> SecurityEvent:
    return SecurityEvent(name, "PJSIP", account, "0x2", transport, address, extras)


def places() -> list[list[Address]]:
    """Twenty sites: eighteen behind an address of IPv4, two with telephones that have addresses of their own."""
    found: list[list[Address]] = [[ip_address(f"198.51.100.{number}")] for number in range(1, 19)]
    for site in (1, 2):
        found.append([ip_address(f"2001:db8:1:{site}::{number:x}") for number in range(1, 11)])
    return found


def attack(day: Day) -> None:
    """Three hundred scanners."""
    draw = day.random
    numbers = itertools.count(1)

    def add(
        count: int,
        behaviour: str,
        kind: str,
        pause: tuple[float, float],
        limit: int | None,
        *,
        prefix: str = "198.18.",
        **more: Any,
    ) -> None:
        for dummy in range(count):
            number = next(numbers)
            tail = f"{number >> 8}.{number & 255}" if "." in prefix else f"{number:x}::{draw.randrange(1, 1 << 16):x}"
            address = ip_address(prefix + tail)
            given = {"transports": STREAM, "source": functools.partial(ip_address, str(address)), **more}
            day.add_scanner(Scanner(behaviour, kind, pause=pause, limit=limit, network=ip_network(address), **given))

    def hop(count: int, behaviour: str, pause: tuple[float, float], limit: int | None) -> None:
        for dummy in range(count):
            network = ip_network(f"2001:db8:ab:{next(numbers):x}::/64")

            def anywhere(first: int = int(network.network_address)) -> Address:
                return IPv6Address(first | draw.getrandbits(64))

            day.add_scanner(Scanner(behaviour, PASSWORD, STREAM, pause, limit, anywhere, network))

    # Telephones that are here, and some that are not, which nobody would know.
    victims = [address for place in places() for address in place]
    victims += [ip_address(f"198.51.102.{number}") for number in range(1, 40)]
    day.telephones |= set(victims)

    def forge(count: int, kind: str, **more: Any) -> None:
        add(
            count,
            f"forges {kind}",
            kind,
            (20, 60),
            None,
            transports=("UDP",),
            source=lambda: draw.choice(victims),
            **more,
        )

    add(84, "guesses fast", PASSWORD, (0.2, 5), 5)
    add(30, "guesses over IPv6", PASSWORD, (0.2, 5), 5, prefix="2001:db8:bad:")
    add(40, "looks for users", ACCOUNT, (0.5, 20), 10, transports=("TLS",))
    add(20, "guesses over UDP", ANSWER, (1, 60), 5, transports=("UDP",), proven=True)
    add(20, "asks for challenges", CHALLENGE, (0.05, 0.4), 100, transports=("TCP",))
    add(1, "asks for challenges, patiently", CHALLENGE, (2.07, 2.08), None, transports=("TCP",))
    add(20, "guesses just slowly enough", PASSWORD, (150.5, 152), None)
    add(20, "guesses not quite slowly enough", PASSWORD, (140, 149), 5)
    add(10, "comes from where it may not", ACL, (1, 50), 10, extras={"ACLName": "office"})
    add(
        5,
        "is refused by the registrar",
        ACL,
        (20, 40),
        None,
        extras={"ACLName": "registrar_attempt_exceeds_maximum_configured_contacts"},
    )
    hop(20, "hops in its network", (0.5, 10), 20)
    hop(10, "hops in its network, patiently", (31.7, 33), None)
    forge(5, PASSWORD)
    forge(5, ANSWER)
    forge(4, CHALLENGE)
    forge(4, ACCOUNT)
    forge(2, PASSWORD, service="SIP")
    assert len(day.scanners) == 300


@pytest.mark.parametrize("seed", [1, 2])
def test_a_day_of_a_pbx(tmp_path: Path, seed: int) -> None:
    namespace = Namespace("day")
    try:
        for base in ("trusted", "banned", "known"):
            for family in (4, 6):
                namespace.run("ipset", *spec(f"sipguard-{base}{family}").create().split())
        in_namespace(namespace.name, lambda: a_day(seed, tmp_path))
    finally:
        namespace.close()


def a_day(seed: int, folder: Path) -> None:
    day = Day(seed, folder)
    day.add_telephones(200, places())
    attack(day)
    day.run()
    # it was a day
    assert day.events[SUCCESS] > 200 * 24 / 2
    assert day.events[ANSWER] > 100
    assert sum(day.events.values()) > 100_000
    # each of them was found, and found again, and each ban was twice as long
    for scanner in day.scanners:
        expected = [3600 << number for number in range(len(scanner.bans))]
        assert scanner.bans == expected, scanner.behaviour
        if scanner.limit is None:
            assert scanner.bans == [], scanner.behaviour
        else:
            assert 3 <= len(scanner.bans) <= 5, scanner.behaviour
    # and nobody else, in any book
    allowed = {scanner.network for scanner in day.scanners if scanner.limit is not None}
    banned = {ip_network(each["address"]) for each in day.told if each["what"] == "block"}
    assert banned == allowed
    assert not any(
        address in network for address in day.telephones for network in banned if address.version == network.version
    )
    # the kernel, the ledger and the guard agree
    for family in (4, 6):
        name = f"sipguard-banned{family}"
        assert {each.network for each in day.kernel.members(name)} == day.kernel.expected(name)
    live = day.kernel.expected("sipguard-banned4") | day.kernel.expected("sipguard-banned6")
    of_ledger = {line.network for line in last_lines(day.path).values() if line.until > EPOCH + day.now}
    assert of_ledger == live
    replayed = day.start().history
    # Who was banned while the ledger was written anew counts from then.
    told, meant = history(replayed), history(day.guard.history)
    assert {address: count for address, (count, dummy) in told.items()} == {
        address: count for address, (count, dummy) in meant.items()
    }
    assert all(told[address][1] >= when for address, (dummy, when) in meant.items())
    assert len(replayed) == len(allowed)
    # within bounds
    assert day.largest < 2000
    assert day.guard.status()["failed"] == 0


def history(found: History) -> dict[Address, tuple[int, int]]:
    return {address: (count, when) for address, count, when in found.snapshot()}
