# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that name a domain of the PBX get through, all others do not: whatever they are, however they are spelled or cut up."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest

from tests.integration.harness import packets, sip
from tests.integration.harness.lab import NETWORKS, PBX, Host, Lab, UdpFlow

GATE = "sip_domain_gate"
OURS = "pbx.example.org"
METHODS = ["REGISTER", "INVITE", "OPTIONS", "ACK", "BYE", "CANCEL", "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "UPDATE"]
METHODS += ["PRACK", "INFO", "PUBLISH", "register", "FOO"]
# A binding request without attributes (RFC 8489 section 5), its transaction to follow.
STUN = bytes.fromhex("000100002112a442")
TRUSTED = {4: "198.51.100.249", 6: "2001:db8:1::ffff"}

# What a scanner knows of its victim, or makes up.
OTHERS = (PBX[4], "[2001:db8::1]", "192.0.2.1:5060", "evil.example.net", "1.1.1.1")

# Where a telephone may put the domain: request line, host of To and From, more header lines. What is not given names the address.
NAMED: dict[str, dict[str, str]] = {
    "registrar": {"uri": f"sip:{OURS}"},
    "upper_case": {"uri": f"sip:{OURS.upper()}"},
    "upper_case_scheme": {"uri": f"SIP:{OURS}"},
    "sips": {"uri": f"sips:{OURS}"},
    "sips_user_upper": {"uri": f"SIPS:100@{OURS.title()}"},
    "user": {"uri": f"sip:100@{OURS}"},
    "user_and_password": {"uri": f"sip:100:secret@{OURS}"},
    "port": {"uri": f"sip:100@{OURS}:5070"},
    "registrar_port": {"uri": f"sip:{OURS}:5060"},
    "parameter": {"uri": f"sip:100@{OURS};transport=tcp"},
    "registrar_parameter": {"uri": f"sip:{OURS};lr"},
    "headers": {"uri": f"sip:100@{OURS}?Subject=x"},
    "second_domain": {"uri": "sip:tel.example.com"},
    "outbound_proxy": {"host": OURS},
    "outbound_proxy_upper_case": {"host": OURS.upper()},
    "without_brackets": {"more": f"P-Preferred-Identity: sip:100@{OURS}\r\n"},
    "compact_header": {"more": f"t:<sip:100@{OURS}>\r\n"},
    "folded_header": {"more": f"Route:\r\n\t<sip:{OURS};lr>\r\n"},
    "header_upper_case": {"more": f"ROUTE : <SIP:{OURS}>\r\n"},
    "list": {"more": f"Route: sip:{OURS}, sip:192.0.2.1\r\n"},
    "end_of_line": {"more": f"Route: sip:{OURS}\n"},
    "end_of_a_folded_line": {"more": f"Route: sip:{OURS}\r\n ;lr\r\n"},
}
# The domain is in the packet, and yet nobody has named it as the host of a SIP address.
TRAPS: dict[str, dict[str, str]] = {
    "display_name": {"more": f'P-Asserted-Identity: "{OURS}" <sip:100@192.0.2.1>\r\n'},
    "display_name_with_user": {"more": f'P-Asserted-Identity: "100@{OURS}" <sip:100@192.0.2.1>\r\n'},
    "via": {"more": f"Via: SIP/2.0/UDP {OURS}:5060;branch=z9hG4bK1\r\n"},
    "any_header": {"more": f"X: {OURS}\r\n"},
    "any_header_alone": {"more": f"X:{OURS}\r\n"},
    "user_agent": {"more": f"Server: {OURS} 1.0\r\n"},
    "call_id": {"more": f"In-Reply-To: 4711-{OURS}\r\n"},
    "realm": {"more": f'Authorization: Digest realm="{OURS}", username="100"\r\n'},
    "session_description": {"body": f"v=0\r\no=- 1 1 IN IP4 {OURS}\r\ns=-\r\nc=IN IP4 {OURS}\r\nt=0 0\r\n"},
    "longer_before": {"uri": f"sip:100@x{OURS}"},
    "longer_before_dot": {"uri": f"sip:100@x.{OURS}"},
    "longer_before_registrar": {"uri": f"sip:x{OURS}"},
    "longer_behind": {"uri": f"sip:100@{OURS}x"},
    "longer_behind_dot": {"uri": f"sip:100@{OURS}.evil.org"},
    "longer_behind_dash": {"uri": f"sip:{OURS}-evil.org"},
    "inside": {"uri": f"sip:100@x{OURS}.evil.org"},
    "inside_registrar": {"uri": f"sip:notsip.{OURS}.attacker.tld"},
    "user_part": {"uri": f"sip:{OURS}@192.0.2.1"},
    "parameter": {"uri": f"sip:192.0.2.1;x={OURS}"},
    "other_scheme": {"uri": f"http://{OURS}/"},
    "parts_apart": {"uri": f"sip:100@{OURS}.evil.org", "more": f"X: {OURS}>\r\n"},
}
# Request lines that programs read differently, or not at all, in the manner of RFC 4475; HOST is where the domain would be.
ODD: dict[str, bytes] = {
    "escaped_method": b"RE%47IST%45R sip:HOST SIP/2.0",
    "interesting_method": b"!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)@HOST SIP/2.0",
    "brackets": b"INVITE <sip:user@HOST> SIP/2.0",
    "two_spaces": b"INVITE  sip:user@HOST  SIP/2.0",
    "tabs": b"INVITE\tsip:user@HOST\tSIP/2.0",
    "space_before": b" INVITE sip:user@HOST SIP/2.0",
    "line_before": b"\r\nINVITE sip:user@HOST SIP/2.0",
    "lines_before": b"\r\n\r\n\r\n\r\nINVITE sip:user@HOST SIP/2.0",
    "bare_line_before": b"\nINVITE sip:user@HOST SIP/2.0",
    "control_before": b"\x01\x02INVITE sip:user@HOST SIP/2.0",
    "binary_before": b"\xff\xfeINVITE sip:user@HOST SIP/2.0",
    "stun_answer_before": b"\x01\x01INVITE sip:user@HOST SIP/2.0",
    "method_mismatch": b"NEWMETHOD sip:user@HOST SIP/2.0",
    "unknown_scheme": b"OPTIONS nobodyKnowsThisScheme:totallyopaquecontent@HOST SIP/2.0",
    "other_scheme": b"OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0",
    "small_letters": b"register sip:HOST sip/2.0",
    "no_version": b"REGISTER sip:HOST",
    "other_version": b"OPTIONS sip:HOST SIP/7.0",
    "no_blank_in_front_of_version": b"OPTIONS <sip:HOST>SIP/2.0",
    "trailing_blank": b"OPTIONS sip:HOST SIP/2.0 ",
    "no_uri": b"REGISTER",
}


@pytest.fixture(scope="module")
def policy(backend: str) -> Iterator[Lab]:
    """The gate never changes here, and every message comes from an address of its own."""
    lab = Lab(backend)
    lab.trust(*TRUSTED.values())
    lab.apply(GATE, domains=[OURS, "Tel.Example.COM."], trunks=list(NETWORKS["trunk"].values()))
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def quiet(backend: str) -> Iterator[Lab]:
    """The same gate, for whoever counts what it stops: no connection is left open here that would send anything again."""
    lab = Lab(backend)
    lab.apply(GATE, domains=[OURS])
    yield lab
    lab.close()


def _received(lab: Lab, host: Host, messages: Sequence[sip.Request], transport: str, family: int) -> list[bool]:
    """Which of the messages the PBX receives, each over a flow of its own."""
    flows = [host.flow(transport, family) for dummy in messages]
    for flow, message in zip(flows, messages, strict=True):
        flow.send(message.wire)
    lab.barrier()
    for flow in flows:
        flow.close()
    return [lab.sink.has(message.token) for message in messages]


def _made(given: dict[str, str]) -> sip.Request:
    return sip.request(
        uri=given.get("uri", "sip:192.0.2.1"),
        host=given.get("host", "192.0.2.1"),
        more=given.get("more", "").encode(),
        body=given.get("body", "").encode(),
    )


def _scan(method: str = "REGISTER", where: str = "192.0.2.1", **more: bytes) -> sip.Request:
    """What names no domain of ours."""
    return sip.request(method=method, uri=f"sip:{where}", host=where, **more)


def _reached(lab: Lab, flow: UdpFlow) -> list[bytes]:
    """What the PBX received from the flow's address, by datagram or connection."""
    return [record.payload for record in lab.sink.all() if record.source == flow.source]


def _await_stops(lab: Lab, family: int, count: int) -> None:
    """Returns when that many packets have been stopped."""
    for dummy in range(500):
        if lab.packets("SIPGUARD-GATE-STOP", family) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("nothing was stopped")


@pytest.mark.parametrize("where", OTHERS)
def test_every_method_without_the_domain(policy: Lab, transport: str, family: int, where: str) -> None:
    scans = [_scan(method, where) for method in METHODS]
    scans += [sip.request(method=method, uri=f"sips:100@{where}", host=where) for method in METHODS[:3]]
    assert _received(policy, policy.attacker, scans, transport, family) == [False] * len(scans)


def test_every_method_with_the_domain(policy: Lab, transport: str, family: int) -> None:
    calls = [sip.request(method=method, uri=f"sip:100@{OURS}", host="192.0.2.1") for method in METHODS]
    assert _received(policy, policy.attacker, calls, transport, family) == [True] * len(calls)


def test_domain_in_a_sip_address(policy: Lab, transport: str, family: int) -> None:
    messages = [_made(given) for given in NAMED.values()]
    passed = _received(policy, policy.attacker, messages, transport, family)
    assert [name for name, each in zip(NAMED, passed, strict=True) if not each] == []


def test_domain_elsewhere(policy: Lab, transport: str, family: int) -> None:
    messages = [_made(given) for given in TRAPS.values()]
    assert all(OURS.encode() in message.wire for message in messages)
    passed = _received(policy, policy.attacker, messages, transport, family)
    assert [name for name, each in zip(TRAPS, passed, strict=True) if each] == []


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_odd_request_lines(policy: Lab, transport: str, family: int, line_end: bytes) -> None:
    def spelled(line: bytes, host: str) -> sip.Request:
        plain = _scan(where=host)
        wire = line.replace(b"HOST", host.encode()) + plain.wire[plain.wire.index(b"\r\n") :]
        return sip.Request(plain.token, wire.replace(b"\r\n", line_end))

    attacks = [spelled(line, "192.0.2.1") for line in ODD.values()]
    passed = _received(policy, policy.attacker, attacks, transport, family)
    assert [name for name, each in zip(ODD, passed, strict=True) if each] == []
    twins = [spelled(line, OURS) for line in ODD.values()]
    passed = _received(policy, policy.attacker, twins, transport, family)
    assert [name for name, each in zip(ODD, passed, strict=True) if not each] == []


def test_trunk_needs_no_domain(policy: Lab, transport: str, family: int) -> None:
    messages = [_scan("INVITE"), _scan("OPTIONS"), _scan("BYE")]
    assert _received(policy, policy.trunk, messages, transport, family) == [True] * 3


def test_trusted_source_needs_no_domain(policy: Lab, transport: str, family: int) -> None:
    for dummy in range(2):
        assert policy.reaches(policy.phone, _scan("INVITE"), transport, family, source=TRUSTED[family])
    assert not policy.reaches(policy.phone, _scan("INVITE"), transport, family)


def test_later_requests_of_an_admitted_conversation(policy: Lab, transport: str, family: int) -> None:
    phone, stranger = policy.phone.flow(transport, family), policy.phone.flow(transport, family)
    assert policy.passes(phone, sip.request(uri=f"sip:{OURS}"))
    for method in ("ACK", "BYE", "NOTIFY", "INVITE"):
        assert policy.passes(phone, _scan(method))
    assert not policy.passes(stranger, _scan("BYE"))


def test_keep_alives(policy: Lab, transport: str, family: int) -> None:
    """They pass in front of the first request, behind it, and admit nobody."""
    number = sip.request().token.ljust(12, b"-")[-12:]
    alive = [b"\r\n\r\n", b"\r\n"] + ([STUN + number, b"\0", b""] if transport == "udp" else [])
    flow = policy.phone.flow(transport, family)
    flow.send(*alive)
    policy.barrier()
    received = _reached(policy, flow)
    assert received == alive if transport == "udp" else received == [b"\r\n\r\n\r\n"]
    if transport == "udp":
        assert not policy.passes(flow, _scan())
    assert policy.passes(flow, sip.request())
    before = len(b"".join(_reached(policy, flow)))
    flow.send(*alive, STUN + number)
    policy.barrier()
    assert len(b"".join(_reached(policy, flow))) == before + len(b"".join(alive)) + 20


def test_long_white_space_is_no_keep_alive(policy: Lab, transport: str, family: int) -> None:
    flow = policy.attacker.flow(transport, family)
    flow.send(b"\r\n\r\n\r\n\r\n")
    policy.barrier()
    assert not any(_reached(policy, flow))


def test_binary_over_tcp_is_no_keep_alive(policy: Lab, family: int) -> None:
    """PJSIP passes over what it cannot read up to an empty line, and reads on behind it."""
    smuggled = _scan()
    flow = policy.attacker.flow("tcp", family)
    assert not policy.passes(flow, smuggled, b"\xff\r\nContent-Length: 0\r\n\r\n" + smuggled.wire)
    named = sip.request()
    flow = policy.attacker.flow("tcp", family)
    assert policy.passes(flow, named, b"\xff\r\nContent-Length: 0\r\n\r\n" + named.wire)


def test_answer_over_tcp_brings_nothing_along(policy: Lab, family: int) -> None:
    smuggled = _scan()
    flow = policy.attacker.flow("tcp", family)
    assert not policy.passes(flow, smuggled, sip.response(sip.PHONE, host="192.0.2.1").wire + smuggled.wire)


# -- calls of the PBX's own


def test_dialog_that_the_pbx_began(policy: Lab, family: int) -> None:
    """Answers, and requests to its address, come back on the flow that it opened; from another port they are a stranger's."""
    peer = policy.attacker.udp(family, source_port=5060)
    policy.sink.send(_scan("INVITE").wire, (peer.source, 5060))
    assert peer.answer().startswith(b"INVITE")
    answer = sip.response(sip.PHONE, host="192.0.2.1")
    assert policy.passes(peer, answer)
    for method in ("BYE", "INVITE", "OPTIONS", "NOTIFY"):
        assert policy.passes(peer, _scan(method))
    other = policy.attacker.udp(family, source=peer.source, source_port=5070)
    assert not policy.passes(other, _scan("INVITE"))
    assert policy.passes(other, sip.response(sip.PHONE, host="192.0.2.1"))


def test_nobody_registers_at_who_calls_him(policy: Lab, family: int) -> None:
    """A running attack whose answer was the first packet that conntrack saw looks like a flow of the PBX."""
    peer = policy.attacker.udp(family, source_port=5060)
    policy.sink.send(b"SIP/2.0 401 Unauthorized\r\n\r\n", (peer.source, 5060))
    assert peer.answer().startswith(b"SIP/2.0 401")
    assert not policy.passes(peer, _scan("REGISTER"))
    assert not policy.passes(peer, _scan("register"))
    assert policy.passes(peer, sip.request(method="REGISTER"))


# -- cut up

CUTS = [1, 3, 4, 8, 13, len(f"REGISTER sip:{OURS}"), len(f"REGISTER sip:{OURS} SIP/2.0\r\n"), 200, -4, -1]


@pytest.mark.parametrize("cut", CUTS)
def test_request_in_two_segments(quiet: Lab, family: int, cut: int) -> None:
    for named in (True, False):
        message = sip.request() if named else _scan()
        flow = quiet.attacker.flow("tcp", family)
        stopped = quiet.packets("SIPGUARD-GATE-STOP", family)
        flow.send(message.wire[:cut], message.wire[cut:])
        if named:
            # a half that came before the name was known is sent again
            assert quiet.sink.wait(message.wire), f"cut at {cut}"
        else:
            _await_stops(quiet, family, stopped + 3)  # both halves, and once more
            assert _reached(quiet, flow) == [b""], f"cut at {cut}"
        flow.close()


def test_attack_in_segments_of_one_byte(quiet: Lab, family: int) -> None:
    message = _scan()
    flow = quiet.attacker.flow("tcp", family)
    stopped = quiet.packets("SIPGUARD-GATE-STOP", family)
    flow.send(*(message.wire[place : place + 1] for place in range(len(message.wire))))
    _await_stops(quiet, family, stopped + 11)  # the first window (RFC 6928), and once more
    assert _reached(quiet, flow) == [b""]
    flow.close()


@pytest.mark.parametrize("payload", [b"R", b"RE", b"REG", b"REGI", b"\r\nR", b"\r\n\r\nR", b"\n\r", b"\0"], ids=repr)
@pytest.mark.parametrize("flags", ["ack", "psh ack", "syn", "fin ack"])
def test_no_segment_is_too_small(quiet: Lab, family: int, payload: bytes, flags: str) -> None:
    source, stopped = quiet.attacker.address(family), quiet.packets("SIPGUARD-GATE-STOP", family)
    made = [packets.segment(source, PBX[family], 5060, flags.split(), piece) for piece in (b"", payload)]
    packets.send(quiet.attacker.namespace, made[:1], PBX[family])
    quiet.barrier()
    assert quiet.packets("SIPGUARD-GATE-STOP", family) == stopped, "a segment without payload was stopped"
    packets.send(quiet.attacker.namespace, made[1:], PBX[family])
    quiet.barrier()
    assert quiet.packets("SIPGUARD-GATE-STOP", family) == stopped + 1


@pytest.mark.parametrize("words", range(1, 11))
def test_tcp_behind_ipv4_options(quiet: Lab, words: int) -> None:
    source, options = quiet.attacker.address(), b"\x01" * (4 * words)
    stopped, expected = quiet.packets("SIPGUARD-GATE-STOP"), 0
    for payload in (b"", b"R", b"REG", b"REGISTER sip:192.0.2.1 SIP/2.0\r\n\r\n"):
        plain = packets.segment(source, PBX[4], 5060, ["ack"], payload)
        packets.send(quiet.attacker.namespace, [packets.packet(source, PBX[4], 6, plain[20:], options)], PBX[4])
        quiet.barrier()
        expected += bool(payload)
        assert quiet.packets("SIPGUARD-GATE-STOP") == stopped + expected, payload


def test_datagram_behind_ipv4_options(policy: Lab) -> None:
    # An option nobody knows (RFC 4727). At the place where the payload of an ordinary packet begins, it is no request.
    options = bytes([0x1E, 20]) + b"A" * 6 + b"\0" * 8 + b"B" * 4

    def passes(message: sip.Request) -> bool:
        source = policy.attacker.address()
        datagram = packets.udp(source, PBX[4], 5060, message.wire)
        return policy.raw_passes(policy.attacker, message, [packets.packet(source, PBX[4], 17, datagram, options)])

    assert not passes(_scan())
    assert passes(sip.request())
    assert passes(sip.response(sip.PHONE, host="192.0.2.1"))
    alive = sip.request().token.ljust(12, b"-")[-12:]
    assert passes(sip.Request(alive, STUN + alive))


@pytest.mark.parametrize("extension", packets.EXTENSIONS)
@pytest.mark.parametrize(
    "content", [b"AAAA" + b"\0" * 8, b"AAAASIP/2.0 ", b"\0" * 12], ids=["binary", "answer", "short"]
)
def test_datagram_behind_an_ipv6_extension_header(policy: Lab, extension: str, content: bytes) -> None:
    def passes(message: sip.Request) -> bool:
        source = policy.attacker.address(6)
        datagram = packets.udp(source, PBX[6], 5060, message.wire)
        made = packets.extended(source, PBX[6], extension, content, datagram)
        return policy.raw_passes(policy.attacker, message, [made], 6)

    assert not passes(_scan())
    assert passes(sip.request())


@pytest.mark.parametrize("size", [8, 48, 256])
@pytest.mark.parametrize("order", ["in_order", "backwards"])
def test_fragments(policy: Lab, family: int, size: int, order: str) -> None:
    def passes(message: sip.Request) -> bool:
        source = policy.attacker.address(family)
        made = packets.fragments(source, PBX[family], packets.udp(source, PBX[family], 5060, message.wire), size)
        return policy.raw_passes(policy.attacker, message, made[:: -1 if order == "backwards" else 1], family)

    # the name is nowhere but in the request line, and with eight bytes in no fragment as a whole
    assert passes(sip.request(host="192.0.2.1"))
    assert not passes(_scan())
    assert not passes(_made(TRAPS["inside"]))
