# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets made by hand: to have somebody else learned, or to get past a signature. Beside each attack what must still work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.harness import packets, sip
from tests.integration.harness.lab import PBX, Lab

# Segments of one forged connection: flags, whether the scanner's request is in it, whether the checksum is wrong.
FORGED: dict[str, list[tuple[str, bool, bool]]] = {
    "psh_ack": [("psh ack", True, False)],
    "ack": [("ack", True, False)],
    "syn": [("syn", True, False)],
    "syn_fin": [("syn fin", True, False)],
    "no_flags": [("", True, False)],
    "fin": [("fin", True, False)],
    "fin_ack": [("fin ack", True, False)],
    "rst": [("rst", True, False)],
    "syn_ack": [("syn ack", True, False)],
    "all_flags": [("fin syn rst psh ack", True, False)],
    "bad_checksum": [("psh ack", True, True)],
    "bad_checksum_syn": [("syn", True, True)],
    "twice": [("psh ack", True, False), ("psh ack", True, False)],
    "harmless_first": [("psh ack", False, False), ("psh ack", True, False)],
    "handshake_guessed": [("syn", False, False), ("ack", False, False), ("psh ack", True, False)],
}
# What stands in a header's option at the place where the payload of an ordinary packet begins.
RESPONSE_THERE = {"hop_by_hop": b"AAAASIP/2.0 BBBBBBBB", "destination": b"AAAASIP/2.0 BBBBBBBB"}
AGENTS = {"anywhere": sip.SCANNER, "prefix": "sipsak 0.9.7", "exact": "NiceGuy"}


@pytest.fixture(scope="module")
def policy(backend: str) -> Iterator[Lab]:
    """The policy never changes here, and every message comes from an address of its own."""
    lab = Lab(backend)
    lab.blocklist()
    yield lab
    lab.close()


@pytest.mark.parametrize("forged", FORGED)
def test_forged_segment_does_not_get_its_source_learned(policy: Lab, family: int, forged: str) -> None:
    victim, target = policy.phone.address(family), PBX[family]
    message, before, seq, made = sip.request(sip.SCANNER), policy.packets("SIPGUARD-UA-STOP", family), 1000, []
    for flags, loaded, bad in FORGED[forged]:
        payload = message.wire if loaded else b"" if forged == "handshake_guessed" else b"\r\n\r\n"
        made.append(packets.segment(victim, target, 5060, flags.split(), payload, seq=seq, bad=bad))
        seq += len(payload) + ("syn" in flags)
    assert not policy.raw_passes(policy.attacker, message, made, family)
    assert policy.packets("SIPGUARD-UA-STOP", family) > before, "the segment was never judged"
    assert not policy.member("sipguard-offenders", victim)
    for transport in ("udp", "tcp"):
        assert policy.reaches(policy.phone, sip.request(), transport, family, source=victim)


def test_scanner_on_a_real_connection_is_learned(policy: Lab, family: int) -> None:
    source = policy.attacker.address(family)
    assert not policy.reaches(policy.attacker, sip.request(sip.SCANNER), "tcp", family, source=source)
    assert policy.member("sipguard-offenders", source)


@pytest.mark.parametrize("extension", RESPONSE_THERE)
def test_response_faked_in_an_extension_header(policy: Lab, extension: str) -> None:
    scanner, phone = policy.attacker.address(6), policy.phone.address(6)

    def passes(source: str, message: sip.Request) -> bool:
        datagram = packets.udp(source, PBX[6], 5060, message.wire)
        made = packets.extended(source, PBX[6], extension, RESPONSE_THERE[extension], datagram)
        assert made[48:56] == b"SIP/2.0 "
        host = policy.attacker if source == scanner else policy.phone
        return policy.raw_passes(host, message, [made], 6)

    assert not passes(scanner, sip.request(sip.SCANNER))
    assert policy.member("sipguard-offenders", scanner)
    assert passes(phone, sip.request())
    assert passes(phone, sip.response(sip.PHONE))
    assert not policy.member("sipguard-offenders", phone)


def test_response_faked_in_an_ipv4_option(policy: Lab) -> None:
    scanner, phone = policy.attacker.address(), policy.phone.address()
    # an option nobody knows (RFC 4727), 28 bytes behind the beginning of the header: there an ordinary payload begins
    options = bytes([0x1E, 20]) + b"A" * 6 + b"SIP/2.0 " + b"B" * 4

    def passes(source: str, message: sip.Request) -> bool:
        made = packets.packet(source, PBX[4], 17, packets.udp(source, PBX[4], 5060, message.wire), options)
        assert made[28:36] == b"SIP/2.0 "
        return policy.raw_passes(policy.attacker if source == scanner else policy.phone, message, [made])

    assert not passes(scanner, sip.request(sip.SCANNER))
    assert policy.member("sipguard-offenders", scanner)
    assert passes(phone, sip.request())
    assert passes(phone, sip.response(sip.SCANNER))


@pytest.mark.parametrize("order", ["in_order", "backwards"])
def test_fragments_of_eight_bytes(policy: Lab, family: int, order: str) -> None:
    """Distinctive words are found all the same; for the others see docs/guides/limits.md."""
    scanner, phone = policy.attacker.address(family), policy.phone.address(family)
    for host, source, message in (
        (policy.attacker, scanner, sip.request(sip.SCANNER)),
        (policy.phone, phone, sip.request()),
    ):
        made = packets.fragments(source, PBX[family], packets.udp(source, PBX[family], 5060, message.wire), 8)
        assert not any(sip.SCANNER.encode() in fragment for fragment in made)
        if order == "backwards":
            made.reverse()
        assert policy.raw_passes(host, message, made, family) is (host is policy.phone)
    assert policy.member("sipguard-offenders", scanner)
    assert not policy.member("sipguard-offenders", phone)


@pytest.mark.parametrize("border", [b"\nUser-Agent", b"-Agent", b": fr", b"friendly", b"endly", b"scanner", b"nner"])
def test_two_fragments_with_the_border_there(policy: Lab, family: int, border: bytes) -> None:
    for agent, host in ((sip.SCANNER, policy.attacker), (sip.PHONE.replace(" ", " friendly "), policy.phone)):
        source = host.address(family)
        plain = sip.request(agent)
        # what stands in front is made longer until the border is at a multiple of eight, counted with the UDP header
        at = plain.wire.find(border if border in plain.wire else b"friendly")
        message = sip.Request(
            plain.token, plain.wire.replace(b"Max-Forwards: 70", b"Max-Forwards: " + b"0" * (-at % 8) + b"70")
        )
        at += -at % 8
        datagram = packets.udp(source, PBX[family], 5060, message.wire)
        made = packets.fragments(source, PBX[family], datagram, at + 8)
        assert len(made) == 2
        assert policy.raw_passes(host, message, made, family) is (host is policy.phone)


def test_response_in_fragments_passes(policy: Lab, family: int) -> None:
    """A listed phone may answer our calls, however its answer comes."""
    source, message = policy.phone.address(family), sip.response(sip.SCANNER)
    datagram = packets.udp(source, PBX[family], 5060, message.wire)
    assert policy.raw_passes(policy.phone, message, packets.fragments(source, PBX[family], datagram, 8), family)


@pytest.mark.parametrize("end", [b"\n", b"\r"], ids=["lf", "cr"])
@pytest.mark.parametrize("agent", AGENTS)
def test_other_line_ends(policy: Lab, transport: str, family: int, agent: str, end: bytes) -> None:
    """Asterisk takes them for the end of a line too: LF in chan_sip and PJSIP, CR in PJSIP."""

    def ended(made: sip.Request) -> sip.Request:
        return sip.Request(made.token, made.wire.replace(b"\r\n", end))

    assert not policy.reaches(policy.attacker, ended(sip.request(AGENTS[agent])), transport, family)
    phone = sip.request(more=b"Subject: Test\r\nOrganization: PBX\r\n")
    assert policy.reaches(policy.phone, ended(phone), transport, family)


@pytest.mark.parametrize("end", [b"\n", b"\r"], ids=["lf", "cr"])
def test_other_line_ends_admit_nobody(policy: Lab, transport: str, family: int, end: bytes) -> None:
    first = sip.request()
    flow = policy.attacker.flow(transport, family)
    assert policy.passes(flow, sip.Request(first.token, first.wire.replace(b"\r\n", end)))
    assert not policy.passes(flow, sip.request(sip.SCANNER))
