# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On TLS ports the server name of a real ClientHello is the gate; what follows it is encrypted and is not looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.harness import sip
from tests.integration.harness.lab import NETWORKS, Lab, UdpFlow
from tests.integration.harness.tls import client_hello

GATE = "sip_domain_gate"
OURS = "pbx.example.org"
TLS = 5061


@pytest.fixture(scope="module")
def accept(backend: str) -> Iterator[Lab]:
    """The gate as it is by default."""
    lab = Lab(backend)
    lab.apply(GATE, domains=[OURS, "tel.example.com"])
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def drop(backend: str) -> Iterator[Lab]:
    """A gate that wants to read a server name, but from trunks."""
    lab = Lab(backend)
    lab.apply(GATE, domains=[OURS], tls_unreadable="drop", trunks=list(NETWORKS["trunk"].values()))
    yield lab
    lab.close()


def _name(length: int) -> str:
    """A server name of so many bytes."""
    return ".".join(["a" * 60] * 4)[-length:].strip(".").rjust(length, "b")


def _scan() -> sip.Request:
    """Plain text that names no domain of ours."""
    return sip.request(uri="sip:192.0.2.1", host="192.0.2.1")


def _record() -> sip.Request:
    """A record of application data that goes on in the next segment, whose first byte may be any."""
    token = sip.request().token
    return sip.Request(token, b"\x17\x03\x03\x10\x00" + bytes(range(256)) + token)


def _rest() -> sip.Request:
    """What follows in the same record, and looks like text from its first byte on."""
    token = sip.request().token
    return sip.Request(token, b"Q" + token + bytes(range(200, 256)))


def _goes_on(lab: Lab, flow: UdpFlow) -> bool:
    """Whether the rest of the connection gets through."""
    return all(lab.passes(flow, message) for message in (_record(), _rest(), _rest()))


def _hello_passes(lab: Lab, server_name: str | None, family: int, *, port: int = TLS) -> bool:
    """Whether a connection gets through that begins with this server name, as a whole."""
    flow = lab.attacker.flow("tcp", family, port=port)
    passed = lab.passes(flow, client_hello(server_name))
    goes_on = _goes_on(lab, flow) if passed else False
    flow.close()
    assert passed == goes_on
    return passed


@pytest.mark.parametrize("name", [OURS, OURS.upper(), "Pbx.Example.Org", "tel.example.com"])
def test_server_name_of_ours(accept: Lab, family: int, name: str) -> None:
    assert _hello_passes(accept, name, family)


@pytest.mark.parametrize(
    "name",
    [f"x{OURS}", f"{OURS}x", f"{OURS}.evil.net", f"x.{OURS}", "pbx-example.org", "evil.example.net"],
)
def test_server_name_of_others(accept: Lab, family: int, name: str) -> None:
    assert not _hello_passes(accept, name, family)


@pytest.mark.parametrize("length", [1, 2, 4, len(OURS), 31, 63, 64, 100, 127])
def test_server_name_of_others_of_any_length(accept: Lab, family: int, length: int) -> None:
    name = _name(length)
    assert len(name) == length
    assert not _hello_passes(accept, name, family)


@pytest.mark.parametrize("name", [None, _name(128), _name(200)], ids=["none", "128", "200"])
def test_no_readable_server_name(accept: Lab, drop: Lab, family: int, name: str | None) -> None:
    assert _hello_passes(accept, name, family)
    assert not _hello_passes(drop, name, family)


def test_hello_in_two_segments(accept: Lab, drop: Lab, family: int) -> None:
    for lab, passes in ((accept, True), (drop, False)):
        flow, hello = lab.attacker.flow("tcp", family, port=TLS), client_hello(OURS)
        cut = hello.wire.index(OURS.encode()) - 5
        assert lab.passes(flow, hello, hello.wire[:cut], hello.wire[cut:]) is passes
        flow.close()


def test_readable_server_name_under_drop(drop: Lab, family: int) -> None:
    assert _hello_passes(drop, OURS, family)
    assert not _hello_passes(drop, "evil.example.net", family)


@pytest.mark.parametrize("name", [OURS, None])
def test_admitted_by_its_first_message(nft_lab: Lab, name: str | None) -> None:
    """What is encrypted is not searched: it would cost, and find nothing."""
    nft_lab.apply(GATE, domains=[OURS])
    for family in (4, 6):
        flow = nft_lab.phone.flow("tcp", family, port=TLS)
        assert nft_lab.passes(flow, client_hello(name))
        judged = nft_lab.packets("SIPGUARD-GATE-TLS", family)
        assert judged
        assert _goes_on(nft_lab, flow)
        assert nft_lab.packets("SIPGUARD-GATE-TLS", family) == judged


def test_trunk_needs_no_server_name(drop: Lab, family: int) -> None:
    flow = drop.trunk.flow("tcp", family, port=TLS)
    assert drop.passes(flow, client_hello(None))
    assert _goes_on(drop, flow)


def test_plain_text_on_a_tls_port(accept: Lab, drop: Lab, transport: str, family: int) -> None:
    for lab in (accept, drop):
        assert not lab.reaches(lab.attacker, _scan(), transport, family, port=TLS)
        assert lab.reaches(lab.attacker, sip.request(uri=f"sips:{OURS}", host="192.0.2.1"), transport, family, port=TLS)


@pytest.mark.parametrize("name", [None, OURS, "evil.example.net"])
def test_tls_on_a_plain_port(accept: Lab, family: int, name: str | None) -> None:
    assert not _hello_passes(accept, name, family, port=5060)


def test_unread_connection_does_not_open_the_plain_port(accept: Lab, family: int) -> None:
    """The same source port, to another port of the PBX."""
    tls = accept.attacker.flow("tcp", family, port=TLS, source_port=40000)
    assert accept.passes(tls, client_hello(None))
    plain = accept.attacker.flow("tcp", family, source=tls.source, source_port=40000)
    assert not accept.passes(plain, _scan())


@pytest.mark.parametrize("unreadable", ["accept", "drop"])
def test_connections_go_on_when_other_rules_change(nft_lab: Lab, unreadable: str) -> None:
    nft_lab.apply(GATE, domains=[OURS], tls_unreadable=unreadable)
    flows = [nft_lab.phone.flow("tcp", family, port=TLS) for family in (4, 6)]
    unread = [nft_lab.phone.flow("tcp", family, port=TLS) for family in (4, 6)]
    for flow in flows:
        assert nft_lab.passes(flow, client_hello(OURS))
    for flow in unread:
        assert nft_lab.passes(flow, client_hello(None)) is (unreadable == "accept")
    nft_lab.blocklist()
    for flow in flows:
        assert _goes_on(nft_lab, flow)
    for flow in unread if unreadable == "accept" else []:
        assert _goes_on(nft_lab, flow)


@pytest.mark.parametrize("options", [{}, {"sni": False}, {"tls_unreadable": "drop"}, {"tls_ports": []}], ids=str)
def test_connections_from_before_the_gate(nft_lab: Lab, options: dict[str, object]) -> None:
    """By default they go on: nobody can read any more whom they asked for. Without TLS ports, no such byte could be SIP."""
    flows = [nft_lab.phone.flow("tcp", family, port=TLS) for family in (4, 6)]
    for flow in flows:
        assert nft_lab.passes(flow, client_hello(OURS))
    nft_lab.apply(GATE, domains=[OURS], **options)
    for flow in flows:
        goes_on = nft_lab.passes(flow, _record())
        assert goes_on is (options in ({}, {"sni": False}))
        assert not goes_on or _goes_on(nft_lab, flow)


def test_sni_off(lab: Lab) -> None:
    lab.four_runs(GATE, domains=[OURS], sni=False, other_traffic="drop", tls_unreadable="drop")
    for family in (4, 6):
        assert _hello_passes(lab, "evil.example.net", family)
        assert _hello_passes(lab, None, family)
        assert not lab.reaches(lab.attacker, _scan(), "tcp", family, port=TLS)


@pytest.mark.parametrize("ports", [["5060"], ["5060:5061"], ["5060", "5070"]], ids=str)
def test_tls_ports_in_ports_or_not(lab: Lab, ports: list[str]) -> None:
    lab.four_runs(GATE, domains=[OURS], ports=ports, tls_ports=["5061", "5070"])
    for port in (5061, 5070):
        assert not _hello_passes(lab, "evil.example.net", 4, port=port)
        assert _hello_passes(lab, OURS, 6, port=port)


def test_udp_only_leaves_tls_alone(lab: Lab) -> None:
    lab.four_runs(GATE, domains=[OURS], protocols=["udp"])
    for family in (4, 6):
        assert _hello_passes(lab, "evil.example.net", family)
        assert lab.reaches(lab.attacker, _scan(), "tcp", family)
        assert not lab.reaches(lab.attacker, _scan(), "udp", family)


def test_tcp_only(lab: Lab) -> None:
    lab.four_runs(GATE, domains=[OURS], protocols=["tcp"])
    for family in (4, 6):
        assert not _hello_passes(lab, "evil.example.net", family)
        assert not lab.reaches(lab.attacker, _scan(), "tcp", family)
        assert lab.reaches(lab.attacker, _scan(), "udp", family)


def test_observed_server_names(lab: Lab) -> None:
    lab.apply(GATE, domains=[OURS], mode="observe", tls_unreadable="drop")
    for family in (4, 6):
        sources = {name: lab.attacker.address(family) for name in ("evil.example.net", None, OURS)}
        for name, source in sources.items():
            assert lab.passes(lab.attacker.flow("tcp", family, port=TLS, source=source), client_hello(name))
            assert lab.member("sipguard-observed", source) is (name != OURS)


def test_learned_server_names(lab: Lab) -> None:
    lab.apply(GATE, domains=[OURS], learn_for=3600, tls_unreadable="drop")
    for family in (4, 6):
        sources = {name: lab.attacker.address(family) for name in ("evil.example.net", None, OURS)}
        for name, source in sources.items():
            flow = lab.attacker.flow("tcp", family, port=TLS, source=source)
            assert lab.passes(flow, client_hello(name)) is (name == OURS)
            assert lab.member("sipguard-offenders", source) is (name == "evil.example.net")
