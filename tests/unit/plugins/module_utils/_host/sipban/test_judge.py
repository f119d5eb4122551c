# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts against a source, when it is enough, and how long a ban is."""

from __future__ import annotations

import ipaddress
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import judge
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.judge import (
    History,
    Judge,
    Kind,
    Verdict,
    challenge_of,
    counted_kind,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.settings import KINDS, Settings, Threshold
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import Address, SecurityEvent

EPOCH = 1_800_000_000
PASSWORD = "InvalidPassword"
SOURCE = ipaddress.ip_address("203.0.113.7")
SOURCES: list[Address] = [SOURCE, ipaddress.ip_address("2001:db8::7")]
MOST = 24576  # of each family


class Bench:
    """A judge with clocks that are moved by hand, together."""

    def __init__(self, history: History | None = None, **changes: object) -> None:
        self.now = 0.0
        self.history = history or History()
        settings = replace(Settings(), **changes)  # type: ignore[arg-type]
        self.judge = Judge(settings, self.history, lambda: self.now, lambda: EPOCH + self.now)

    def count(self, at: float, name: str = PASSWORD, source: Address = SOURCE, proven: bool = True) -> Verdict | None:
        self.now = at
        return self.judge.count(event(name, source), proven)

    def ban(self, at: float, source: Address = SOURCE) -> Verdict:
        """As many events as it takes, all at once."""
        for dummy in range(4):
            assert self.count(at, source=source) is None
        verdict = self.count(at, source=source)
        assert verdict is not None
        self.judge.banned(verdict)
        return verdict


def event(
    name: str = PASSWORD, source: Address = SOURCE, transport: str = "TLS", service: str = "PJSIP", **extras: str
) -> SecurityEvent:
    return SecurityEvent(name, service, "100", "0x1", transport, source, extras)


# -- thresholds over a window that slides


@pytest.mark.parametrize("source", SOURCES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_event_of_a_threshold_is_one_too_many(kind: str, source: Address) -> None:
    bench = Bench()
    limit = bench.judge.settings.thresholds[kind]
    for number in range(1, limit.count):
        assert bench.count(number / 1000, kind, source) is None
    verdict = bench.count(limit.count / 1000, kind, source)
    assert verdict == Verdict(ipaddress.ip_network(source), Kind(kind, True), limit.count, 0, 3600, 1)


@pytest.mark.parametrize(
    ("times", "enough"),
    [
        ((0.5, 0.5, 10), True),
        ((0, 5, 9.999), True),
        ((0.001, 5, 10), True),
        ((0, 5, 10), False),  # what was exactly ten seconds ago is over
        ((0, 5, 11), False),
        ((0, 11, 22), False),
        ((0, 6, 11), False),
        ((0, 6, 11, 12), True),
        ((0, 9, 18, 27, 27.5), True),
        ((0, 10, 20, 30, 40, 50), False),
    ],
)
def test_window_slides(times: tuple[float, ...], enough: bool) -> None:
    bench = Bench(thresholds={PASSWORD: Threshold(3, 10)})
    *before, last = times
    assert [bench.count(at) for at in before] == [None] * len(before)
    assert (bench.count(last) is not None) is enough


@given(
    st.lists(st.floats(0, 30, allow_nan=False, width=32), min_size=1, max_size=60),
    st.integers(1, 6),
    st.integers(1, 20),
)
def test_verdict_is_what_counting_by_hand_says(pauses: list[float], count: int, seconds: int) -> None:
    bench = Bench(thresholds={PASSWORD: Threshold(count, seconds)})
    now, kept = 0.0, []
    for pause in pauses:
        now += pause
        kept.append(now)
        live = [each for each in kept if each > now - seconds]
        verdict = bench.count(now)
        assert (verdict is not None) is (len(live) >= count)
        if verdict is not None:
            assert verdict.events == len(live)
            assert verdict.within == round(now - live[0])
            bench.judge.banned(verdict)
            kept.clear()


def test_one_event_is_enough_where_that_is_the_threshold() -> None:
    verdict = Bench(thresholds={PASSWORD: Threshold(1, 1)}).count(0)
    assert verdict is not None
    assert verdict.reason(event()) == "InvalidPassword in 0 s (PJSIP over TLS)"


def test_reason_says_what_how_often_and_how_sure() -> None:
    verdict = Verdict(ipaddress.ip_network(SOURCE), Kind(PASSWORD, False), 5, 61, 600, 1)
    said = verdict.reason(event(transport="UDP"))
    assert said == "5 InvalidPassword in 61 s (PJSIP over UDP, unproven)"


def test_kinds_and_sources_are_counted_apart() -> None:
    bench = Bench(unproven=True)
    for source in SOURCES:
        for name in (PASSWORD, "ChallengeResponseFailed"):
            for proven in (True, False):
                assert [bench.count(1, name, source, proven) for dummy in range(4)] == [None] * 4
    assert bench.judge.against(SOURCE) == {
        "InvalidPassword": (4, Threshold(5, 600)),
        "InvalidPassword unproven": (4, Threshold(5, 600)),
        "ChallengeResponseFailed": (4, Threshold(5, 600)),
        "ChallengeResponseFailed unproven": (4, Threshold(5, 600)),
    }
    verdict = bench.count(2, proven=False)
    assert verdict == Verdict(ipaddress.ip_network(SOURCE), Kind(PASSWORD, False), 5, 1, 600, 1)


def test_an_ipv4_source_is_not_the_ipv6_one_of_the_same_number() -> None:
    bench = Bench()
    for number in range(4):
        assert bench.count(number, source=ipaddress.ip_address(0xCB007107)) is None
        assert bench.count(number, source=ipaddress.IPv6Address(0xCB007107)) is None
    assert len(bench.judge.top(10)) == 2


@pytest.mark.parametrize("proven", [True, False])
def test_a_count_of_zero_leaves_a_kind_out(proven: bool) -> None:
    bench = Bench(thresholds={PASSWORD: Threshold(0, 10)}, unproven=True)
    assert [bench.count(0, proven=proven) for dummy in range(100)] == [None] * 100
    assert bench.judge.against(SOURCE) == {}


def test_unproven_evidence_counts_for_nothing_unless_asked_for() -> None:
    bench = Bench()
    assert [bench.count(0, proven=False) for dummy in range(1000)] == [None] * 1000
    assert bench.judge.against(SOURCE) == {}
    assert bench.judge.top(5) == []


# -- what is evidence


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        (event("FailedACL", ACLName="6001"), True),
        (event("FailedACL"), True),
        # A stranger, where guests are let in by an endpoint "anonymous"; a telephone of ours is known by its password.
        (event("FailedACL", ACLName="registrar_attempt_without_configured_aors"), True),
        (event("FailedACL", ACLName="registrar_requested_aor_not_found"), True),
        (event("FailedACL", ACLName="registrar_attempt_exceeds_maximum_configured_contacts"), False),
        (event("FailedACL", service="SIP", ACLName="domain_must_match"), False),
        (event("FailedACL", service="SIP"), False),
        (event("FailedACL", service="AMI", ACLName="acl"), True),
        (event(PASSWORD, service="SIP"), True),
        (event(PASSWORD, ACLName="registrar_"), True),
    ],
)
def test_an_acl_of_the_own_registrar_and_chan_sips_say_nothing(said: SecurityEvent, counts: bool) -> None:
    assert counted_kind(said) is counts


@pytest.mark.parametrize(
    ("said", "nonce"),
    [
        (event("ChallengeResponseFailed", Challenge="abc", Response="x"), "abc"),
        # chan_sip gives the same one to whoever repeats a request, from wherever.
        (event(PASSWORD, service="SIP", Challenge="ours", ReceivedChallenge="theirs"), ""),
        (event("ChallengeResponseFailed", service="SIP", Challenge="abc"), ""),
        (event(PASSWORD, Challenge="ours"), ""),
        (event("ChallengeSent", Challenge="abc"), ""),
        (event("InvalidAccountID", Challenge="abc"), ""),
    ],
)
def test_the_nonce_is_the_one_that_the_sender_has_answered(said: SecurityEvent, nonce: str) -> None:
    assert challenge_of(said) == nonce


@pytest.mark.parametrize("service", ["PJSIP", "AMI", "IAX2", "SIP"])
@pytest.mark.parametrize("transport", ["UDP", "TCP", "TLS", "WS", "WSS"])
def test_a_stream_proves_its_source_but_not_to_chan_sip(transport: str, service: str) -> None:
    proven = Bench().judge.proven_by_itself(event(transport=transport, service=service))
    assert proven is (transport != "UDP" and service != "SIP")


def test_success_takes_challenges_off_and_nothing_else() -> None:
    bench = Bench(unproven=True)
    for round_ in range(10):
        for dummy in range(29):
            assert bench.count(round_, "ChallengeSent") is None
            assert bench.count(round_, "ChallengeSent", proven=False) is None
        bench.judge.succeeded(SOURCE)
    for dummy in range(4):
        bench.count(10, PASSWORD)
    bench.count(10, "ChallengeSent", SOURCES[1])
    bench.judge.succeeded(SOURCE)
    assert list(bench.judge.against(SOURCE)) == [PASSWORD]
    assert list(bench.judge.against(SOURCES[1])) == ["ChallengeSent"]


# -- how long


def test_each_ban_is_twice_as_long_up_to_the_longest() -> None:
    bench = Bench(ban_time=100, ban_time_max=1000)
    found = [bench.ban(10_000 * number) for number in range(7)]
    assert [each.seconds for each in found] == [100, 200, 400, 800, 1000, 1000, 1000]
    assert [each.number for each in found] == [1, 2, 3, 4, 5, 6, 7]
    assert bench.history.get(SOURCE) == (7, EPOCH + 60_000)


def test_a_source_with_a_very_long_past_costs_no_arithmetic() -> None:
    bench = Bench()
    bench.history.set(SOURCE, 10**9, EPOCH)
    verdict = bench.ban(0)
    assert (verdict.seconds, verdict.number) == (7 * 86400, 10**9 + 1)


@pytest.mark.parametrize(("later", "seconds", "number"), [(1000, 200, 2), (1001, 100, 1)])
def test_the_past_is_forgotten_in_time(later: int, seconds: int, number: int) -> None:
    bench = Bench(ban_time=100, remember=1000)
    bench.ban(0)
    verdict = bench.ban(later)
    assert (verdict.seconds, verdict.number) == (seconds, number)


def test_a_ban_for_unproven_evidence_is_short_and_makes_none_longer() -> None:
    bench = Bench(unproven=True, ban_time_unproven=300)
    for round_ in range(3):
        verdicts = [bench.count(round_, proven=False) for dummy in range(5)]
        assert verdicts[:4] == [None] * 4
        assert verdicts[4] is not None
        assert (verdicts[4].seconds, verdicts[4].number) == (300, 1)
        bench.judge.banned(verdicts[4])
    assert bench.history.get(SOURCE) == (0, 0)
    bench.ban(9)
    assert bench.ban(10).number == 2
    assert [bench.count(11, proven=False) for dummy in range(5)][4].seconds == 300  # type: ignore[union-attr]


def test_after_a_ban_the_source_begins_anew() -> None:
    bench = Bench(unproven=True)
    bench.count(0, "InvalidAccountID")
    bench.count(0, "ChallengeSent", proven=False)
    bench.ban(0)
    assert bench.judge.against(SOURCE) == {}
    assert [bench.count(1) for dummy in range(4)] == [None] * 4


# -- the network of an IPv6 address

NEIGHBOURS: list[Address] = [ipaddress.ip_address((0x20010DB8 << 96) + number) for number in range(1, 200)]
HOPPED = ipaddress.ip_network("2001:db8::/64")


def test_who_hops_within_a_network_is_found_by_its_network() -> None:
    bench = Bench()
    for number in range(19):
        assert bench.count(number / 100, source=NEIGHBOURS[number]) is None
    verdict = bench.count(0.2, source=NEIGHBOURS[19])
    assert verdict == Verdict(HOPPED, Kind(PASSWORD, True), 20, 0, 3600, 1)
    bench.judge.banned(verdict)
    assert bench.history.get(HOPPED.network_address)[0] == 1
    for number in range(19):
        assert bench.count(1, source=NEIGHBOURS[30 + number]) is None
    again = bench.count(1, source=NEIGHBOURS[60])
    assert again is not None
    assert (again.network, again.seconds, again.number) == (HOPPED, 7200, 2)


def test_a_single_address_of_a_network_is_banned_alone() -> None:
    bench = Bench()
    verdict = bench.ban(0, NEIGHBOURS[0])
    assert verdict.network == ipaddress.ip_network(NEIGHBOURS[0])
    assert bench.judge.against(NEIGHBOURS[0]) == {}
    # what it has done still counts against its network
    verdicts = [bench.count(1, source=NEIGHBOURS[1 + number]) for number in range(15)]
    assert verdicts[:14] == [None] * 14
    assert verdicts[14] is not None
    assert verdicts[14].network == HOPPED


def test_unproven_evidence_never_counts_against_a_network() -> None:
    bench = Bench(unproven=True)
    assert [bench.count(0, source=each, proven=False) for each in NEIGHBOURS] == [None] * len(NEIGHBOURS)


def test_networks_are_told_apart() -> None:
    bench = Bench()
    for number in range(200):
        assert bench.count(0, source=NEIGHBOURS[0] + (number << 64)) is None


def test_ipv4_addresses_have_no_network() -> None:
    bench = Bench()
    for number in range(250):
        assert bench.count(0, source=ipaddress.ip_address(f"203.0.113.{number}")) is None


def test_a_success_takes_challenges_off_the_network() -> None:
    bench = Bench()
    for number in range(400):
        assert bench.count(0, "ChallengeSent", NEIGHBOURS[number % 100]) is None
        if number % 100 == 99:
            bench.judge.succeeded(NEIGHBOURS[number % 100])


def test_networks_are_no_sources_to_rank() -> None:
    bench = Bench()
    bench.count(0, source=NEIGHBOURS[0])
    assert bench.judge.top(10) == [(NEIGHBOURS[0], {PASSWORD: 1})]


# -- history


@given(
    st.dictionaries(
        st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
        st.tuples(st.integers(1, 1 << 40), st.integers(0, (1 << 40) - 1)),
        max_size=50,
    )
)
def test_history_gives_back_what_was_put_in(wanted: dict[Address, tuple[int, int]]) -> None:
    history = History()
    for address, (count, when) in wanted.items():
        history.set(address, 1, 1)
        history.set(address, count, when)
    assert {address: (count, when) for address, count, when in history.snapshot()} == wanted
    assert {address: history.get(address) for address in wanted} == wanted
    assert len(history) == len(wanted)
    for address in wanted:
        history.forget(address)
        history.forget(address)
        assert history.get(address) == (0, 0)
    assert len(history) == 0


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"])
def test_history_knows_the_first_and_the_last_address(text: str) -> None:
    history = History()
    history.set(ipaddress.ip_address(text), 3, 7)
    assert list(history.snapshot()) == [(ipaddress.ip_address(text), 3, 7)]


def test_history_forgets_what_is_old() -> None:
    history = History()
    for number, source in enumerate(SOURCES):
        history.set(source, 1, 1000 + number)
    assert history.expire(1000) == 0
    assert history.expire(1001) == 1
    assert [found[0] for found in history.snapshot()] == SOURCES[1:]


def test_history_changes_while_it_is_read() -> None:
    history = History()
    for number in range(100):
        history.set(ipaddress.IPv4Address(number + 1), 1, 1)
    seen = 0
    for found in history.snapshot():
        history.forget(found[0] + 1)
        history.set(found[0] + 1000, 1, 1)
        seen += 1
    assert seen == 50


def test_history_keeps_the_latest_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever has a /48 has 65536 networks to be banned with.
    monkeypatch.setattr(judge, "_MOST_HISTORY", 1000)
    history = History()
    first = ipaddress.IPv6Address("2001:db8::1")
    for number in range(1000):
        history.set(first + (number << 64), 1, EPOCH)
    history.set(first, 2, EPOCH)  # banned again: the second one is the oldest now
    history.set(SOURCE, 1, EPOCH)
    assert len(history) == 1000
    assert history.get(first) == (2, EPOCH)
    assert history.get(first + (1 << 64)) == (0, 0)
    assert history.get(first + (2 << 64)) == (1, EPOCH)
    assert history.get(SOURCE) == (1, EPOCH)


def test_history_of_a_hundred_thousand_is_small() -> None:
    tracemalloc.start()
    try:
        history = History()
        for number in range(100_000):
            history.set(ipaddress.IPv6Address((0x20010DB8 << 96) + number), 3, EPOCH)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used < 20 << 20


# -- bounds


def test_who_has_been_silent_longest_makes_room() -> None:
    bench = Bench()
    first = ipaddress.IPv4Address("10.0.0.0")
    for number in range(MOST):
        bench.count(0, source=first + number)
    assert sum(map(len, bench.judge._rooms)) == MOST
    bench.count(1, source=first)  # heard again: the second one is now the most silent
    bench.count(2, source=SOURCE)
    assert sum(map(len, bench.judge._rooms)) == MOST
    assert bench.judge.against(first)[PASSWORD][0] == 2
    assert bench.judge.against(first + 1) == {}
    assert bench.judge.against(first + 2)[PASSWORD][0] == 1
    assert bench.judge.against(SOURCE)[PASSWORD][0] == 1


def test_a_flood_of_sources_costs_no_more_than_its_bounds() -> None:
    bench = Bench(thresholds={"ChallengeSent": Threshold(30, 60)})
    tracemalloc.start()
    try:
        for number in range(MOST * 2):
            bench.count(0, "ChallengeSent", ipaddress.IPv6Address((0x20010DB8 << 96) + (number << 64)))
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert sum(map(len, bench.judge._rooms)) == MOST
    assert used < 16 << 20


def test_one_source_never_holds_more_than_its_threshold() -> None:
    bench = Bench()
    for number in range(1000):
        verdict = bench.count(number / 1000)
        if verdict is not None:
            bench.judge.absolve(SOURCE)
    assert sum(len(times) for room in bench.judge._rooms for times in room.values()) < 5


def test_prune_gives_back_what_is_over() -> None:
    bench = Bench(thresholds={PASSWORD: Threshold(5, 10), "InvalidAccountID": Threshold(5, 100)})
    bench.count(0)
    bench.count(0, "InvalidAccountID")
    bench.count(5, source=ipaddress.ip_address("203.0.113.8"))
    bench.now = 9.999
    bench.judge.prune()
    assert sum(map(len, bench.judge._rooms)) == 3
    bench.now = 10
    bench.judge.prune()
    assert sum(map(len, bench.judge._rooms)) == 2
    bench.now = 100
    bench.judge.prune()
    assert not any(bench.judge._rooms)


# -- questions


def test_against_tells_only_what_still_counts() -> None:
    bench = Bench(thresholds={PASSWORD: Threshold(5, 10)})
    bench.count(0)
    bench.count(4)
    bench.now = 9.5
    assert bench.judge.against(SOURCE) == {PASSWORD: (2, Threshold(5, 10))}
    bench.now = 10
    assert bench.judge.against(SOURCE) == {PASSWORD: (1, Threshold(5, 10))}
    bench.now = 14
    assert bench.judge.against(SOURCE) == {}


def test_top_ranks_by_all_the_evidence_that_counts() -> None:
    bench = Bench(unproven=True, thresholds={PASSWORD: Threshold(50, 10), "ChallengeSent": Threshold(50, 100)})
    for dummy in range(6):
        bench.count(0, PASSWORD)  # over by the time somebody asks
    for dummy in range(2):
        bench.count(10, "ChallengeSent")
        bench.count(10, PASSWORD, SOURCES[1], proven=True)
        bench.count(10, PASSWORD, SOURCES[1], proven=False)
    assert bench.judge.top(10) == [(SOURCES[1], {PASSWORD: 4}), (SOURCE, {"ChallengeSent": 2})]
    assert bench.judge.top(1) == [(SOURCES[1], {PASSWORD: 4})]
    assert bench.judge.top(0) == []
    assert bench.judge.top(-5) == []
