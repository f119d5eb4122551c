# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events that the benchmark of sipband makes, how it finds the first packet dropped, and what it makes of what it sees."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.judge import challenge_of
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.settings import DEFAULT_THRESHOLDS
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.stream import Stream
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import STREAMS, Address, SecurityEvent
from tests.bench import ami_source, one_strike, sipban
from tests.bench.guessing import RETRIES, until_dropped
from tests.bench.sipban import Figures, Latency, Load, Memory

GUESS = "ChallengeResponseFailed"


def read(wire: Iterator[bytes]) -> list[SecurityEvent]:
    """The events as sipband reads them; none of them is anything else to it."""
    stream = Stream()
    found = stream.feed(b"Asterisk Call Manager/11.0.0\r\n" + b"".join(wire))
    events = [each for each in found if isinstance(each, SecurityEvent)]
    assert {name for name, count in stream.counters.items() if count} == {"events"}
    assert len(events) == len(found)
    return events


def guesses(events: list[SecurityEvent]) -> Counter[Address]:
    return Counter(each.address for each in events if each.name == GUESS)


def test_strikes_are_what_sipband_bans_for() -> None:
    assert DEFAULT_THRESHOLDS[GUESS].count == ami_source.STRIKES == RETRIES


def test_mixture_is_of_telephones_and_of_many_who_guess_below_the_threshold() -> None:
    events = read(ami_source.mixture(sipban.RATE * 20, 0))
    names = Counter(each.name for each in events)
    assert names == {"ChallengeSent": 30000, "SuccessfulAuth": 30000, GUESS: 40000}
    counts = guesses(events)
    loud = {address for address, count in counts.items() if count >= ami_source.STRIKES}
    assert len(loud) == ami_source.LOUD
    assert len(counts) - len(loud) > 0.97 * ami_source.GUESSERS
    assert max(count for address, count in counts.items() if address not in loud) < ami_source.STRIKES
    assert 0.28 < sum(address.version == 6 for address in counts) / len(counts) < 0.32
    assert all(each.transport in STREAMS and challenge_of(each) for each in events if each.name == GUESS)
    phones = {each.address for each in events if each.name == "SuccessfulAuth"}
    assert len(phones) == 2000
    assert phones.isdisjoint(counts)


def test_mixture_of_another_turn_has_other_guessers() -> None:
    first, second = (guesses(read(ami_source.mixture(50000, turn))) for turn in (0, 1))
    assert first.keys().isdisjoint(second)


def test_bans_are_of_as_many_sources_and_each_of_ipv6_has_a_network_of_its_own() -> None:
    counts = guesses(read(ami_source.bans(2100, 900)))
    assert Counter(address.version for address in counts) == {4: 2100, 6: 900}
    assert set(counts.values()) == {ami_source.STRIKES}
    assert len({int(address) >> 64 for address in counts if address.version == 6}) == 900


@pytest.mark.parametrize(
    ("event", "struck"),
    [
        (b"Event: InvalidPassword\r\nService: SIP\r\nRemoteAddress: IPV4/UDP/198.51.100.7/5060\r\nChallenge: 1", True),
        (b"Event: ChallengeResponseFailed\r\nService: PJSIP\r\nRemoteAddress: IPV4/UDP/198.51.100.7/5060", True),
        (b"Event: ChallengeSent\r\nService: SIP\r\nRemoteAddress: IPV4/UDP/198.51.100.7/5060\r\nChallenge: 1", False),
        (b"Event: SuccessfulAuth\r\nService: AMI\r\nRemoteAddress: IPV4/TCP/127.0.0.1/5060", False),
    ],
)
def test_stand_in_strikes_at_a_guess(event: bytes, struck: bool) -> None:
    found = one_strike.STRIKE.search(event.decode())
    assert (found[1] if found else "") == ("198.51.100.7" if struck else "")


class Loopback:
    """Neighbours on the loopback."""

    def __init__(self, port: int) -> None:
        self._port = port

    def at(self, number: int) -> dict[int, str]:
        return {4: f"127.0.0.{number}"}

    def reaching(self, source: dict[int, str], family: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((source[family], 0))
        sock.settimeout(10)
        sock.connect(("127.0.0.1", self._port))
        return sock


@contextmanager
def registrar(is_deaf: Callable[[float], bool]) -> Iterator[Loopback]:
    """Refuses everybody, until it is deaf to them, which depends on the seconds since the last wrong password."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def serve() -> None:
        guessed = time.monotonic()
        while True:
            data, sender = server.recvfrom(65535)
            if not data:
                return
            if b"\r\nAuthorization: " in data:
                guessed = time.monotonic()
            elif data.startswith(b"OPTIONS ") and is_deaf(time.monotonic() - guessed):
                continue
            lines = [line for line in data.split(b"\r\n") if line.startswith((b"Call-ID:", b"CSeq:", b"From:", b"To:"))]
            challenge = b'WWW-Authenticate: Digest realm="lab", nonce="1795308600/c0ffee"'
            server.sendto(b"\r\n".join([b"SIP/2.0 401 Unauthorized", *lines, challenge, b"", b""]), sender)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Loopback(server.getsockname()[1])
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", server.getsockname())
        thread.join()
        server.close()


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2])
def test_first_packet_dropped_is_found(delay: float) -> None:
    with registrar(lambda since: since >= delay) as neighbours:
        found = until_dropped(neighbours, 7, step=0.001, quiet=0.3)
    # Its clock begins a moment after the registrar's, and other work may come in between.
    assert delay - 0.01 < found < delay + 0.5


def test_a_packet_that_was_lost_before_is_none_that_was_dropped() -> None:
    with registrar(lambda since: 0.02 < since < 0.04 or since >= 0.1) as neighbours:
        found = until_dropped(neighbours, 7, step=0.001, quiet=0.3)
    assert 0.09 < found < 0.6


def test_rates_are_of_full_seconds() -> None:
    samples = [(0.0, 0), (0.5, 2000), (1.0, 5000), (1.6, 6000), (2.0, 9000), (2.4, 9500)]
    assert sipban.counted(samples) == pytest.approx([5000, 4000])
    assert sipban.counted(samples[:2]) == []


def test_late_is_what_was_not_counted_a_second_after_the_end() -> None:
    samples = [(9.0, 700), (10.5, 800), (11.0, 900), (11.5, 1000)]
    assert sipban.late(samples, 1000, 10.0) == 100
    assert sipban.late(samples, 1000, 10.4) == 0


LOAD = Load(100_000, 20.0, 0, 4980.0, 50e-6, [0.001, 0.003], [0.002, 0.004])
MEMORY = Memory(
    bans=dict(sipban.BANS),
    remembered=100_000,
    idle=20.0,
    resident=60.0,
    peak=61.0,
    listed=60.0,
    restarted=40.0,
    banning=20.0,
    listing=2.0,
    listing_ping=0.1,
    status=0.004,
    starting=5.0,
)
LATENCY = Latency("Asterisk 16", {sipban.SIPBAND: [0.002, 0.05, 0.09], sipban.FAIL2BAN: [0.1, 0.2, 0.3]})


def said(figures: Figures, *starts: str) -> list[str]:
    """What stands behind the goal in the lines that begin so."""
    lines = [line for line in sipban.table(figures).splitlines() if line.startswith(starts)]
    return [line.partition("goal")[2].rpartition(": ")[2] for line in lines]


@pytest.mark.parametrize(("median", "verdict"), [(0.05, "reached"), (0.0501, "MISSED")])
def test_goal_of_latency_is_for_sipband(median: float, verdict: str) -> None:
    latency = Latency("Asterisk 22", {**LATENCY.seconds, sipban.SIPBAND: [0.002, median, 0.09]})
    assert said(Figures([latency], LOAD, LOAD, MEMORY), "Asterisk 22") == [verdict, ""]


def test_latency_is_compared_with_fail2ban() -> None:
    lines = sipban.table(Figures([LATENCY], LOAD, LOAD, MEMORY)).splitlines()
    assert lines[1].split()[3:10] == ["50.0", "ms", "2.0", "ms", "90.0", "ms", "0.250"]


@pytest.mark.parametrize(
    ("load", "verdict"),
    [
        (LOAD, "reached"),
        (replace(LOAD, late=1), "MISSED"),
        (replace(LOAD, seconds=20.3), "MISSED"),
    ],
)
def test_goal_of_events_is_that_none_is_late(load: Load, verdict: str) -> None:
    assert said(Figures([LATENCY], load, LOAD, MEMORY), "5000 a second") == [verdict]


def test_goal_of_memory_is_for_whatever_was_done() -> None:
    assert said(Figures([LATENCY], LOAD, LOAD, MEMORY), "resident with all", "the most") == [
        "reached",
        "MISSED",
        "reached",
        "reached",
    ]


@pytest.mark.parametrize("missing", [0, 1])
def test_goal_of_bans_is_that_all_of_them_are_there(missing: int) -> None:
    bans = {"ipv4": 70000 - missing, "ipv6": 30000}
    verdict = "MISSED" if missing else "reached"
    assert said(Figures([LATENCY], LOAD, LOAD, replace(MEMORY, bans=bans)), "until all") == [verdict]


def test_every_event_is_whole() -> None:
    for each in itertools.chain(ami_source.mixture(20, 0), ami_source.bans(2, 2)):
        assert each.endswith(b"\r\n\r\n")
        assert each.count(b"\r\n\r\n") == 1
