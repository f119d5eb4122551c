# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host offers what its table of services says, to whom it says, and everything else to nobody."""

from __future__ import annotations

import itertools
import os
import re
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.harness import packets, rules, sip
from tests.integration.harness.lab import NETWORKS, PBX, Host, Lab
from tests.integration.harness.services import MARKER, Ear, Probe, arrived, echo_arrives, services_lab

NAME = "sip_host_policy"
LAN = list(NETWORKS["phone"].values())
TRUNKS = list(NETWORKS["trunk"].values())
# Addresses of the attacker's network, so that it is the address that counts.
ADMIN = {4: "198.18.77.7", 6: "2001:db8:bad:0:77::7"}
SITE: dict[str, Any] = {"lan": LAN, "trunks": TRUNKS, "admins": list(ADMIN.values())}


def table(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    """Changes to the table, and the port of the markers."""
    return [*entries, MARKER]


@pytest.fixture
def host_lab(backend: str) -> Iterator[Lab]:
    """A PBX that listens on every port of the table."""
    made = services_lab(backend)
    yield made
    made.close()


@pytest.fixture
def nft_host_lab() -> Iterator[Lab]:
    """The same for what does not depend on the backend."""
    made = services_lab("nft")
    yield made
    made.close()


def sources(lab: Lab, family: int) -> dict[str, tuple[Host, str]]:
    """A host and an address of each kind that the table knows, and a stranger's."""
    return {
        "lan": (lab.phone, lab.phone.address(family)),
        "admin": (lab.attacker, ADMIN[family]),
        "trunk": (lab.trunk, lab.trunk.address(family)),
        "outside": (lab.attacker, lab.attacker.address(family)),
    }


def who_gets_in(lab: Lab, transport: str, ports: list[int], family: int) -> dict[int, set[str]]:
    """For each port the kinds of sources that reach it."""
    probes = {
        Probe(host, source, transport, port): kind
        for kind, (host, source) in sources(lab, family).items()
        for port in ports
    }
    found: dict[int, set[str]] = {port: set() for port in ports}
    for probe in arrived(lab, probes):
        found[probe.port].add(probes[probe])
    return found


ALL = {"lan", "admin", "trunk", "outside"}
NOBODY: set[str] = set()
OFFERED = {
    "udp": {
        **dict.fromkeys((5060, 10000, 15000, 20000), ALL),
        123: {"lan"},
        4569: {"trunk"},
        **dict.fromkeys((22, 53, 68, 80, 137, 138, 139, 443, 445, 514, 546, 2727, 5061, 9999, 20001, 40000), NOBODY),
    },
    "tcp": {
        **dict.fromkeys((5060, 5061), ALL),
        **dict.fromkeys((22, 80, 443), ALL - {"trunk", "outside"}),
        123: {"lan"},
        **dict.fromkeys((137, 139, 445, 514, 2222, 3306, 4569, 5038, 10000, 15000, 40000, 55050, 58080), NOBODY),
    },
}


def test_each_service_for_each_kind_of_source(host_lab: Lab, family: int) -> None:
    host_lab.apply(NAME, **SITE, services=table())
    for transport, expected in OFFERED.items():
        assert who_gets_in(host_lab, transport, list(expected), family) == expected
    for kind, (host, source) in sources(host_lab, family).items():
        assert echo_arrives(host_lab, host, source) is (kind != "outside"), kind


def test_everything_arrives_without_it(nft_host_lab: Lab, family: int) -> None:
    """The twin of the drops above: it is the policy that stops them."""
    for transport, expected in OFFERED.items():
        assert who_gets_in(nft_host_lab, transport, list(expected), family) == dict.fromkeys(expected, ALL)
    assert all(echo_arrives(nft_host_lab, *source) for source in sources(nft_host_lab, family).values())


def test_changes_to_the_table(host_lab: Lab, family: int) -> None:
    outsider = host_lab.attacker.address(family)
    host_lab.apply(
        NAME,
        **SITE,
        lists={"monitoring": [outsider]},
        ssh_ports=["2222"],
        services=table(
            {"name": "sip", "from": ["lan", "trunks"]},
            {"name": "ami", "from": ["monitoring", "trunks"]},
            {"name": "web", "ports": ["8088", "3306"], "from": [outsider, "admins"]},
            {"name": "http", "from": ["everyone"]},
            {"name": "icmp", "from": ["everyone"]},
            {"name": "ntp", "protocols": ["udp"]},
        ),
    )
    tcp = who_gets_in(host_lab, "tcp", [22, 80, 123, 2222, 5038, 5060, 5061, 8088, 3306], family)
    assert tcp == {
        22: set(),
        80: ALL,
        123: set(),
        2222: {"lan", "admin"},
        5038: {"trunk"},
        5060: {"lan", "trunk"},
        5061: ALL,
        8088: {"admin"},
        3306: {"admin"},
    }
    assert who_gets_in(host_lab, "udp", [123, 5060], family) == {123: {"lan"}, 5060: {"lan", "trunk"}}
    named = [Probe(host_lab.attacker, outsider, "tcp", port) for port in (22, 5038, 8088, 3306)]
    assert [probe.port for probe in arrived(host_lab, named)] == [5038, 8088, 3306]
    assert echo_arrives(host_lab, host_lab.attacker, host_lab.attacker.address(family))


def test_protected_source_always_reaches_ssh(host_lab: Lab, family: int) -> None:
    protected, other = host_lab.attacker.address(family), host_lab.attacker.address(family)
    host_lab.apply(
        NAME,
        protect=[protected],
        ssh_ports=["2222"],
        services=table({"name": "ssh", "ports": ["22"], "from": ["nobody"]}),
    )
    ports = (22, 80, 2222, 5038)
    tries = [Probe(host_lab.attacker, source, "tcp", port) for source in (protected, other) for port in ports]
    assert [(probe.source, probe.port) for probe in arrived(host_lab, tries)] == [(protected, 22), (protected, 2222)]


def test_neighbours_are_found(host_lab: Lab) -> None:
    """Address resolution of IPv6 is ICMP: without it nothing at all arrives."""
    lab = host_lab
    lab.apply(NAME, services=table(), require_ssh=False)
    flow = lab.phone.udp(6, port=5070)
    flow.send(sip.request().wire)
    assert flow.answer().startswith(b"SIP/2.0 200 OK")
    lab.pbx.ip(["neigh del fd00:1::2 dev phone"])
    lab.phone.namespace.ip(["neigh del fd00:1::1 dev eth0"])
    flow.send(sip.request().wire)
    assert flow.answer().startswith(b"SIP/2.0 200 OK")
    found = [lab.pbx.run("ip", "-6", "neigh", "show", "fd00:1::2"), lab.phone.namespace.run("ip", "-6", "neigh")]
    assert all(re.search(r"REACHABLE|DELAY|STALE|PROBE", text) for text in found), found
    # It was asked, and not known for ever: the links' entries are permanent in a laboratory.
    assert "PERMANENT" not in found[0]


def test_path_mtu_is_learned(host_lab: Lab, family: int) -> None:
    """Also about a conversation that connection tracking has never seen (RFC 1191, RFC 8201)."""
    lab = host_lab
    lab.apply(NAME, services=table({"name": "sip", "from": ["nobody"]}), require_ssh=False)
    target = lab.phone.address(family)
    router = {4: "10.255.1.2", 6: "fd00:1::2"}[family]
    quoted = packets.packet(PBX[family], target, 17, packets.udp(PBX[family], target, 5060, b"x" * 64, 5070))
    kind, code, rest = (3, 4, struct.pack("!HH", 0, 1300)) if family == 4 else (2, 0, struct.pack("!I", 1300))
    before = lab.pbx.run("ip", f"-{family}", "route", "get", target, "from", PBX[family])
    assert "mtu 1300" not in before
    packets.send(lab.phone.namespace, [packets.icmp(router, PBX[family], kind, code, rest + quoted)], PBX[family])
    lab.barrier()
    assert "mtu 1300" in lab.pbx.run("ip", f"-{family}", "route", "get", target, "from", PBX[family])


def test_dhcp_server_answers(host_lab: Lab, family: int) -> None:
    """From another address than the one that was asked, so it is no answer to connection tracking."""
    lab = host_lab
    lab.apply(NAME, services=table(), require_ssh=False)
    server, client = ((67, 68), (547, 546))[family == 6]
    link_local = {4: "10.255.1.2", 6: "fe80::7"}[family]
    for source, source_port, port, let_in in (
        (link_local, server, client, True),
        (link_local, server, 53, False),
        (link_local, 5060, client, False),
        (lab.phone.address(family), server, client, family == 4),
    ):
        message = sip.request()
        datagram = packets.udp(source, PBX[family], port, message.wire, source_port)
        assert lab.raw_passes(lab.phone, message, [packets.packet(source, PBX[family], 17, datagram)], family) is let_in


def test_multicast_listeners_are_asked(host_lab: Lab) -> None:
    """A switch forgets a group nobody reports any more (RFC 3376, RFC 3810): the router's question has to arrive."""
    lab = host_lab
    lab.apply(NAME, services=table(), require_ssh=False)
    token = os.urandom(8)
    for family, protocol, whole in (
        (4, 2, packets.packet("10.255.1.2", PBX[4], 2, b"\x11\0" + token)),
        (4, 1, packets.icmp("10.255.1.2", PBX[4], 17, 0, token)),
        (6, 58, packets.icmp("fe80::7", PBX[6], 130, 0, bytes(4) + token)),
        (6, 58, packets.icmp("fe80::7", PBX[6], 137, 0, bytes(4) + token)),
    ):
        ear = Ear(lab, family, protocol)
        expected = protocol == 2 or (family == 6 and whole[40] == 130)
        assert ear.hears(lab.phone, [whole], token, family) is expected
        ear.close()


@pytest.mark.parametrize("number", [47, 50, 112], ids=["gre", "esp", "vrrp"])
def test_protocols_without_ports(host_lab: Lab, family: int, number: int) -> None:
    lab, name = host_lab, {47: "gre", 50: "esp", 112: "vrrp"}[number]
    lab.apply(NAME, **SITE, services=table({"name": "tunnel", "protocols": [name], "from": ["lan"]}))
    for host, let_in in ((lab.phone, True), (lab.attacker, False)):
        token = os.urandom(8)
        ear = Ear(lab, family, number)
        whole = packets.packet(host.address(family), PBX[family], number, bytes(8) + token + bytes(8))
        assert ear.hears(host, [whole], token, family) is let_in
        ear.close()


@pytest.mark.parametrize("flags", [["syn", "fin"], ["ack"], ["rst"], ["fin", "ack"]], ids="+".join)
def test_segments_of_no_connection_obey_the_table(host_lab: Lab, family: int, flags: list[str]) -> None:
    """What connection tracking calls invalid or takes up in the middle is nobody's answer."""
    lab = host_lab
    lab.apply(NAME, **SITE, services=table())
    for port, let_in in ((5061, True), (5038, False)):
        token = os.urandom(8)
        ear = Ear(lab, family, socket.IPPROTO_TCP)
        whole = packets.segment(lab.attacker.address(family), PBX[family], port, flags, token)
        assert ear.hears(lab.attacker, [whole], token, family) is let_in
        ear.close()


def test_fragments_of_an_offered_service(host_lab: Lab, family: int) -> None:
    lab = host_lab
    lab.apply(NAME, **SITE, services=table({"name": "sip", "from": ["lan"]}))
    for host, let_in in ((lab.phone, True), (lab.attacker, False)):
        source, message = host.address(family), sip.request(body=b"x" * 600)
        datagram = packets.udp(source, PBX[family], 5060, message.wire)
        assert lab.raw_passes(host, message, packets.fragments(source, PBX[family], datagram, 256), family) is let_in


def test_extension_headers_open_nothing(host_lab: Lab) -> None:
    lab = host_lab
    lab.apply(NAME, **SITE, services=table({"name": "sip", "from": ["lan"]}))
    for extension, (host, let_in) in itertools.product(
        ("hop_by_hop", "destination"), ((lab.phone, True), (lab.attacker, False))
    ):
        source, message = host.address(6), sip.request()
        datagram = packets.udp(source, PBX[6], 5060, message.wire)
        whole = packets.extended(source, PBX[6], extension, b"", datagram)
        assert lab.raw_passes(host, message, [whole], 6) is let_in


def test_observe_counts_notes_and_stops_nothing(host_lab: Lab, family: int) -> None:
    lab = host_lab
    lab.four_runs(NAME, **SITE, mode="observe", services=table({"name": "sip", "from": ["lan"]}))
    phone, stranger = lab.phone.address(family), lab.attacker.address(family)
    tries = [
        Probe(lab.phone, phone, "udp", 5060),
        Probe(lab.attacker, stranger, "udp", 5060),
        Probe(lab.attacker, stranger, "tcp", 5038),
    ]
    assert arrived(lab, tries) == tries
    assert lab.member("sipguard-observed", stranger)
    assert not lab.member("sipguard-observed", phone)
    assert lab.packets("SIPGUARD-HOST-STOP", family) >= 4
    lab.apply(NAME, **SITE, services=table({"name": "sip", "from": ["lan"]}))
    assert arrived(lab, tries) == tries[:1]


def test_reject_says_so_at_once(host_lab: Lab, family: int) -> None:
    lab = host_lab
    lab.four_runs(NAME, **SITE, action="reject", services=table())
    flow = lab.attacker.udp(family, port=4569)
    flow.send(sip.request().wire)
    with pytest.raises(ConnectionRefusedError):
        flow.answer()


@pytest.mark.parametrize("table_name", ["filter", "mangle"])
def test_four_runs_and_absent_leave_others_alone(host_lab: Lab, table_name: str) -> None:
    lab = host_lab
    for family, lan, banned, reject in (
        (4, "172.17.0.0/16", "203.0.113.200/32", "icmp-port-unreachable"),
        (6, "fd17::/64", "2001:db8:3::c8/128", "icmp6-port-unreachable"),
    ):
        lab.restore(rules.FOREIGN.format(lan=lan, banned=banned, reject=reject), family)
    before = {family: rules.foreign_part(lab.save(family)) for family in (4, 6)}
    given = {"table": table_name, "protect": ["192.0.2.7", "2001:db8::7"], "lists": {"branch_2": ["192.0.2.9"]}}
    lab.four_runs(
        NAME,
        **SITE,
        **given,
        services=table(
            {"name": "ami", "from": ["branch_2", "2001:db8::9"]},
            {"name": "tunnel", "protocols": ["esp", "gre", "vrrp"], "from": ["everyone"]},
            {"name": "many", "ports": [str(port) for port in range(7000, 7040, 2)], "from": ["lan"]},
        ),
    )
    assert {family: rules.foreign_part(lab.save(family)) for family in (4, 6)} == before
    lab.four_runs(NAME, **SITE, table=table_name, services=table())
    lab.four_runs(NAME, state="absent")
    assert {family: rules.foreign_part(lab.save(family)) for family in (4, 6)} == before
    assert lab.sets() == ""
    assert lab.files() == {}


def test_only_the_families_that_are_asked_for(host_lab: Lab) -> None:
    lab = host_lab
    lab.apply(NAME, **SITE, services=table(), families=["ipv4"])
    tries = [Probe(lab.attacker, lab.attacker.address(family), "tcp", 5038) for family in (4, 6)]
    assert arrived(lab, tries) == tries[1:]


@pytest.mark.parametrize(
    ("table_name", "policy_first"),
    [("filter", False), ("mangle", True)],
    ids=["filter-policy_last", "mangle-policy_first"],
)
def test_together_with_signatures_and_trust(host_lab: Lab, table_name: str, policy_first: bool) -> None:
    """What the policy lets in still meets the signatures; trust opens nothing; the order of the runs does not matter."""
    lab = host_lab
    trusted = {family: lab.trunk.address(family) for family in (4, 6)}
    lab.trust(*trusted.values())
    runs: list[tuple[str, dict[str, Any]]] = [
        ("sip_ua_blocklist", {"table": table_name, "learn_for": 0}),
        (NAME, {**SITE, "table": table_name, "services": table({"name": "sip", "from": ["lan", "trunks"]})}),
    ]
    for name, given in runs[:: -1 if policy_first else 1]:
        lab.four_runs(name, **given)
    for name, given in runs:
        assert not lab.apply(name, **given)["changed"]
    for transport, family in itertools.product(("udp", "tcp"), (4, 6)):
        assert lab.reaches(lab.phone, sip.request(), transport, family)
        assert not lab.reaches(lab.phone, sip.request(sip.SCANNER), transport, family)
        assert not lab.reaches(lab.attacker, sip.request(), transport, family)
        assert lab.reaches(lab.trunk, sip.request(sip.SCANNER), transport, family, source=trusted[family])
        assert not lab.reaches(lab.trunk, sip.request(), transport, family, source=trusted[family], port=3306)
    lab.four_runs(NAME, state="absent")
    assert lab.reaches(lab.attacker, sip.request())
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))


def test_learned_source_loses_sip_only(nft_host_lab: Lab) -> None:
    lab = nft_host_lab
    lab.apply(NAME, **SITE, services=table())
    lab.blocklist()
    source = lab.phone.address()
    assert not lab.reaches(lab.phone, sip.request(sip.SCANNER), source=source)
    assert not lab.reaches(lab.phone, sip.request(), source=source)
    assert lab.reaches(lab.phone, sip.request(), "tcp", source=source, port=22)


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nobody_logs_in": (
        {"services": [{"name": "ssh", "from": ["nobody"]}]},
        ["services[ssh].from", "nobody", "protect"],
    ),
    "no_port": ({"services": [{"name": "web", "from": ["lan"]}]}, ["services[web].ports", "8088"]),
    "port_70000": ({"services": [{"name": "sip", "ports": ["70000"]}]}, ["services[sip].ports", "70000", "65535"]),
    "unknown_word": ({"services": [{"name": "sip", "from": ["wan"]}]}, ["services[sip].from", "wan", "everyone"]),
    "unknown_key": ({"services": [{"name": "sip", "form": ["lan"]}]}, ["form"]),
    "other_family": (
        {"services": [{"name": "ami", "from": ["2001:db8::/64"]}], "families": ["ipv4"]},
        ["services[ami].from", "2001:db8::/64", "ipv4"],
    ),
    "bits_behind_the_prefix": ({"admins": ["192.0.2.1/24"]}, ["admins", "192.0.2.0/24"]),
    "reject_in_mangle": ({"table": "mangle", "action": "reject"}, ["action", "reject", "drop"]),
}


@pytest.fixture(scope="module")
def policy(backend: str) -> Iterator[Lab]:
    """A laboratory with a policy in force, which no refusal may touch."""
    lab = Lab(backend)
    lab.apply(NAME, **SITE, services=table())
    yield lab
    lab.close()


@pytest.mark.parametrize("case", BAD)
def test_bad_input_refused(policy: Lab, case: str) -> None:
    given, said = BAD[case]
    message = policy.refused(NAME, **{**SITE, **given})
    assert [text for text in said if text not in message] == [], message
