# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is counted as which method, and what is not. Buckets of five that fill up so slowly that nothing here can be late."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.integration.harness import packets, sip
from tests.integration.harness.floods import sent, somebody, through, widen
from tests.integration.harness.lab import NETWORKS, PBX, Host, Lab

SLOW = "10/hour"
BURST = 5
LIMITS = [{"method": method, "rate": SLOW, "burst": BURST} for method in ("REGISTER", "INVITE", "ack")]


@pytest.fixture(scope="module")
def policy(backend: str) -> Iterator[Lab]:
    """The policy never changes here, and every flood comes from an address of its own."""
    lab = widen(Lab(backend))
    lab.trust(*NETWORKS["trunk"].values(), "2001:db8:3::/48")
    lab.apply("sip_ratelimit", limits=LIMITS)
    yield lab
    lab.close()


def _left(lab: Lab, host: Host, source: str, method: str = "REGISTER") -> int:
    """How many requests of the source still pass, at most two bucketfuls."""
    return sent(lab, host, 2 * BURST, source, method)


def test_flood_is_cut_to_the_burst(policy: Lab, transport: str, family: int) -> None:
    source = somebody(policy.attacker, family)
    flow = policy.attacker.flow(transport, family, source=source)
    passed = through(policy, flow, [sip.request() for dummy in range(2 * BURST)])
    assert passed == [True] * BURST + [False] * BURST
    # the same source by the other transport, and from another port
    assert _left(policy, policy.attacker, source) == 0
    # what is not limited, and who is somebody else
    assert _left(policy, policy.attacker, source, "OPTIONS") == 2 * BURST
    assert policy.reaches(policy.phone, sip.request(), transport, family, source=somebody(policy.phone, family))


def test_each_method_has_a_bucket_of_its_own(policy: Lab, family: int) -> None:
    source = somebody(policy.attacker, family)
    for method in ("REGISTER", "INVITE", "ACK"):
        assert _left(policy, policy.attacker, source, method) == BURST
        assert _left(policy, policy.attacker, source, method) == 0


def test_trusted_source_is_never_limited(policy: Lab, transport: str, family: int) -> None:
    flow = policy.trunk.flow(transport, family)
    assert all(through(policy, flow, [sip.request() for dummy in range(3 * BURST)]))


# How a request line may be written so that somebody still takes it for a REGISTER.
SPELLINGS = {
    "lower_case": (b"REGISTER sip:", b"register sip:"),
    "mixed_case": (b"REGISTER sip:", b"RegIsTeR SIP:"),
    "tab": (b"REGISTER sip:", b"REGISTER\tsip:"),
    "two_blanks": (b"REGISTER sip:", b"REGISTER  sip:"),
    "crlf_first": (b"REGISTER", b"\r\nREGISTER"),
    "keep_alive_first": (b"REGISTER", b"\r\n\r\nregister"),
    "line_feed_first": (b"REGISTER", b"\nREGISTER"),
    "blanks_first": (b"REGISTER", b"     REGISTER"),
    "tab_first": (b"REGISTER", b"\tREGISTER"),
    "control_character_first": (b"REGISTER", b"\x01REGISTER"),
    "blank_line_of_blanks_first": (b"REGISTER sip:", b" \r\n\tregister\tsip:"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_oddly_written_request_is_counted(policy: Lab, transport: str, family: int, spelling: str) -> None:
    source = somebody(policy.attacker, family)
    plain = [sip.request() for dummy in range(BURST + 1)]
    odd = [sip.Request(message.token, message.wire.replace(*SPELLINGS[spelling], 1)) for message in plain]
    passed = through(policy, policy.attacker.flow(transport, family, source=source), odd)
    assert passed == [True] * BURST + [False]
    assert _left(policy, policy.attacker, source) == 0
    assert _left(policy, policy.attacker, source, "INVITE") == BURST


def _not_a_register(kind: str) -> bytes:
    register = b"REGISTER sip:pbx.example.org SIP/2.0\r\n"
    invite = sip.request(
        method="OPTIONS", body=register, more=b"Subject: REGISTER sip:x\r\n" + register[:-2] + b": x\r\n"
    )
    return {
        "body_and_header": invite.wire,
        "response": sip.response(sip.PHONE).wire.replace(b"INVITE", b"REGISTER"),
        "keep_alive": b"\r\n",
        "keep_alive_ping": b"\r\n\r\n",
        "zeros": bytes(4),
        "stun": struct.pack("!HHI", 1, 12, 0x2112A442) + b"REGISTER sip" + b"\x80\x22\x00\x08REGISTER",
        "rtp": b"\x80\x00" + b"REGISTER sip:x" * 4,
    }[kind]


@pytest.mark.parametrize(
    "kind", ["body_and_header", "response", "keep_alive", "keep_alive_ping", "zeros", "stun", "rtp"]
)
def test_what_is_no_register_is_not_counted(policy: Lab, transport: str, family: int, kind: str) -> None:
    source = somebody(policy.phone, family)
    flow = policy.phone.flow(transport, family, source=source)
    flow.send(*[_not_a_register(kind)] * (2 * BURST))
    policy.barrier()
    assert _left(policy, policy.phone, source) == BURST


def test_ipv4_options_do_not_hide_a_request(policy: Lab) -> None:
    source = somebody(policy.attacker, 4)
    for number in range(2 * BURST):
        message = sip.request()
        # an option nobody knows (RFC 4727), in which a request of another method seems to begin
        options = bytes([0x1E, 4 * (1 + number)]) + b"OPTIONS sip:x SIP/2.0 ------------"[: 4 * number + 2]
        made = packets.packet(source, PBX[4], 17, packets.udp(source, PBX[4], 5060, message.wire), options)
        assert policy.raw_passes(policy.attacker, message, [made]) is (number < BURST)
    assert _left(policy, policy.attacker, source) == 0


@pytest.mark.parametrize("extension", ["hop_by_hop", "destination"])
def test_ipv6_extension_headers_do_not_hide_a_request(policy: Lab, extension: str) -> None:
    source = somebody(policy.attacker, 6)
    for number in range(2 * BURST):
        message = sip.request()
        datagram = packets.udp(source, PBX[6], 5060, message.wire)
        made = packets.extended(source, PBX[6], extension, b"AAAAOPTIONS sip:x SIP/2.0 ------", datagram)
        assert made[48:55] == b"OPTIONS"
        assert policy.raw_passes(policy.attacker, message, [made], 6) is (number < BURST)
    assert _left(policy, policy.attacker, source) == 0
    assert _left(policy, policy.attacker, source, "INVITE") == BURST


def test_source_is_a_single_address(policy: Lab, family: int) -> None:
    source = somebody(policy.attacker, family)
    neighbour = source[:-1] + "3" if family == 6 else policy.attacker.address(4)
    assert _left(policy, policy.attacker, source) == BURST
    assert _left(policy, policy.attacker, neighbour) == BURST


def test_several_requests_in_one_segment_count_once(policy: Lab, family: int) -> None:
    """Packets are counted, not requests: see docs/guides/rate-limits.md."""
    source = somebody(policy.phone, family)
    flow = policy.phone.flow("tcp", family, source=source)
    messages = [sip.request() for dummy in range(3)]
    flow.send(b"".join(message.wire for message in messages))
    assert all(policy.sink.wait(message.token) for message in messages)
    assert _left(policy, policy.phone, source) == BURST - 1


def test_request_that_begins_in_another_segment_is_not_counted(policy: Lab, family: int) -> None:
    source = somebody(policy.phone, family)
    flow = policy.phone.flow("tcp", family, source=source)
    for dummy in range(2):
        message = sip.request()
        assert policy.passes(flow, message, *message.split(b"EGISTER sip:"))
    assert _left(policy, policy.phone, source) == BURST
