# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a signature stops and what it lets pass: one policy, every spelling, both backends, families and transports.

The policy never changes here, and every message comes from an address of its own, so one laboratory serves all tests.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.harness import sip
from tests.integration.harness.lab import NETWORKS, Lab

# Spellings of the header's name that RFC 3261 section 7.3.1 allows, up to the value.
SPELLINGS = {
    "usual": b"User-Agent: ",
    "lower_case": b"user-agent: ",
    "upper_case": b"USER-AGENT: ",
    "no_space": b"User-Agent:",
    "two_spaces": b"User-Agent:  ",
    "tab": b"User-Agent:\t",
    "space_before_colon": b"User-Agent : ",
    "space_only_before_colon": b"User-Agent :",
    "folded": b"User-Agent:\r\n ",
    "folded_after_space": b"User-Agent: \r\n ",
    "lower_case_no_space": b"user-agent:",
}
# What does not begin a request, and so must not admit a conversation.
HARMLESS = {
    "crlf": b"\r\n\r\n",
    "stun": bytes.fromhex("000100002112a442") + bytes(range(12)),
    "garbage": bytes(range(1, 200)),
    "half_a_request": b"OPTIONS sip:pbx.example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.99\r\n",
    "response": b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nContent-Length: 0\r\n\r\n",
}


@pytest.fixture(scope="module")
def policy(backend: str) -> Iterator[Lab]:
    lab = Lab(backend)
    lab.trust(*NETWORKS["trunk"].values())
    lab.blocklist(
        user_agents=["sipcli", {"value": "cisco", "match": "exact"}, {"value": "-", "match": "exact"}],
        payloads=["sip:nm@nm", "sip:a'or'3=3--@"],
    )
    yield lab
    lab.close()


@pytest.mark.parametrize(
    "agent", ["friendly-scanner", "Friendly-Scanner", "sipcli/v1.8", "SIPCLI", "cisco", "CISCO", "-"]
)
def test_scanner_dropped(policy: Lab, transport: str, family: int, agent: str) -> None:
    assert not policy.reaches(policy.attacker, sip.request(agent), transport, family)


@pytest.mark.parametrize(
    "agent",
    [
        sip.PHONE,
        "Cisco-CP8841/12.6.1",
        "Cisco/SPA504G-7.6.2c",
        "-x",
        "Asterisk PBX 18.10.0",
        "my sipcli",
        "Zoiper v2.10.19",
        "Linphone Desktop/5.0.18 (Debian) LinphoneCore/5.2.98",
    ],
)
def test_phone_passes(policy: Lab, transport: str, family: int, agent: str) -> None:
    assert policy.reaches(policy.phone, sip.request(agent), transport, family)


@pytest.mark.parametrize("agent", ["friendly-scanner", "sipcli/v1.8", "cisco"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_scanner_spelled_oddly_dropped(policy: Lab, transport: str, family: int, spelling: str, agent: str) -> None:
    assert not policy.reaches(policy.attacker, sip.request(agent, header=SPELLINGS[spelling]), transport, family)


@pytest.mark.parametrize("agent", [sip.PHONE, "Cisco-CP8841/12.6.1"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_phone_spelled_oddly_passes(policy: Lab, transport: str, family: int, spelling: str, agent: str) -> None:
    assert policy.reaches(policy.phone, sip.request(agent, header=SPELLINGS[spelling]), transport, family)


@pytest.mark.parametrize("uri", ["sip:nm@nm", "sip:a'or'3=3--@192.0.2.1"])
def test_payload_dropped(policy: Lab, transport: str, family: int, uri: str) -> None:
    assert not policy.reaches(policy.attacker, sip.request(method="OPTIONS", uri=uri), transport, family)


@pytest.mark.parametrize("uri", ["sip:nm@pbx.example.org", "sip:a'or@192.0.2.1"])
def test_payload_like_passes(policy: Lab, transport: str, family: int, uri: str) -> None:
    assert policy.reaches(policy.phone, sip.request(method="OPTIONS", uri=uri), transport, family)


@pytest.mark.parametrize("header", [b"User-Agent: ", b"User-Agent:", b"user-agent: "])
def test_empty_user_agent_dropped(policy: Lab, transport: str, family: int, header: bytes) -> None:
    assert not policy.reaches(policy.attacker, sip.request("", header=header), transport, family)


def test_missing_user_agent_passes(policy: Lab, transport: str, family: int) -> None:
    assert policy.reaches(policy.phone, sip.request(None), transport, family)


def test_signature_in_another_header_passes(policy: Lab, transport: str, family: int) -> None:
    message = sip.request(more=b"X-Seen: User-Agent: sipcli\r\nSubject: cisco\r\n")
    assert policy.reaches(policy.phone, message, transport, family)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_exact_signature_in_another_header_of_an_odd_phone_passes(policy: Lab, transport: str, spelling: str) -> None:
    message = sip.request(header=SPELLINGS[spelling], more=b"Subject: Test\r\nOrganization: PBX\r\nX-Seen: sipsak\r\n")
    for family in (4, 6):
        assert policy.reaches(policy.phone, message, transport, family)


@pytest.mark.parametrize("name", ["sip-scania.example", "applsip.example", "sipclient.example"])
def test_signature_inside_a_name_passes(policy: Lab, transport: str, name: str) -> None:
    message = sip.request(more=f"P-Asserted-Identity: <sip:u@pbx.{name}>\r\n".encode())
    assert policy.reaches(policy.phone, message, transport)


def test_signature_in_the_body_of_a_phone_passes(policy: Lab, transport: str, family: int) -> None:
    assert policy.reaches(policy.phone, sip.request(method="MESSAGE", body=b"is sipcli a scanner?"), transport, family)


@pytest.mark.parametrize("header", [b"User-Agent: ", b"Server: "])
def test_response_passes(policy: Lab, family: int, header: bytes) -> None:
    """A listed phone may answer our calls."""
    assert policy.reaches(policy.phone, sip.response(sip.SCANNER, header=header), "udp", family)


@pytest.mark.parametrize("header", [b"User-Agent: ", b"Server: "])
def test_response_over_a_connection_passes(policy: Lab, transport: str, family: int, header: bytes) -> None:
    """Over TCP a response only ever comes on a connection that began with a request."""
    flow = policy.phone.flow(transport, family)
    assert policy.passes(flow, sip.request())
    assert policy.passes(flow, sip.response(sip.SCANNER, header=header))


def test_trusted_passes_and_is_not_learned(policy: Lab, transport: str, family: int) -> None:
    source = policy.trunk.address(family)
    for agent in (sip.SCANNER, "sipcli", "", sip.PHONE):
        assert policy.reaches(policy.trunk, sip.request(agent), transport, family, source=source)
    assert not policy.member("sipguard-offenders", source)


def test_offender_learned(policy: Lab, transport: str, family: int) -> None:
    source, other = policy.attacker.address(family), policy.attacker.address(family)
    assert policy.reaches(policy.attacker, sip.request(), transport, family, source=source)
    assert not policy.reaches(policy.attacker, sip.request(sip.SCANNER), transport, family, source=source)
    assert policy.member("sipguard-offenders", source)
    for any_transport in ("udp", "tcp"):
        assert not policy.reaches(policy.attacker, sip.request(), any_transport, family, source=source)
        assert policy.reaches(policy.attacker, sip.request(), any_transport, family, source=other)


def test_offender_admitted_before_is_cut(policy: Lab, transport: str, family: int) -> None:
    source = policy.attacker.address(family)
    admitted = policy.attacker.flow(transport, family, source=source)
    assert policy.passes(admitted, sip.request())
    assert not policy.reaches(policy.attacker, sip.request(sip.SCANNER), "udp", family, source=source)
    assert not policy.passes(admitted, sip.request())


@pytest.mark.parametrize("first", HARMLESS)
def test_scanner_after_harmless_start_dropped(policy: Lab, transport: str, family: int, first: str) -> None:
    flow = policy.attacker.flow(transport, family)
    flow.send(HARMLESS[first])
    assert not policy.passes(flow, sip.request(sip.SCANNER))


@pytest.mark.parametrize("first", HARMLESS)
def test_phone_after_harmless_start_passes(policy: Lab, transport: str, family: int, first: str) -> None:
    flow = policy.phone.flow(transport, family)
    flow.send(HARMLESS[first])
    assert policy.passes(flow, sip.request())


@pytest.mark.parametrize(
    "boundary", [b"Via:", b"Max-Forwards:", b"Contact:", b"User-Agent:", b"Content-Length:", b"\r\nUser-Agent:"]
)
def test_scanner_in_two_segments_dropped(policy: Lab, family: int, boundary: bytes) -> None:
    message = sip.request(sip.SCANNER)
    flow = policy.attacker.flow("tcp", family)
    policy.passes(flow, message, *message.split(boundary))
    assert not any(sip.SCANNER.encode() in got.payload for got in policy.sink.all() if got.source == flow.source)


@pytest.mark.parametrize("boundary", [b"Via:", b"User-Agent:", b"Content-Length:", b"pbx.example.org"])
def test_phone_in_two_segments_passes(policy: Lab, family: int, boundary: bytes) -> None:
    message = sip.request()
    flow = policy.phone.flow("tcp", family)
    assert policy.passes(flow, message, *message.split(boundary))
    assert message.wire in b"".join(got.payload for got in policy.sink.all() if got.source == flow.source)
