# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of rtnetlink as they stand in its messages (rtnetlink(7)); the kernel's own are met in tests/integration."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import routing
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.netlink import attribute

GETADDR, GETROUTE = 22, 26
ADDRESS, LOCAL, LABEL = 1, 2, 3
DESTINATION, GATEWAY, MULTIPATH, VIA = 1, 5, 9, 18


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def interface_address(*attributes: bytes) -> bytes:
    return bytes(8) + b"".join(attributes)


def route(*attributes: bytes) -> bytes:
    return bytes(12) + b"".join(attributes)


def hop(*attributes: bytes) -> bytes:
    inside = b"".join(attributes)
    return struct.pack("=HBBi", 8 + len(inside), 0, 0, 2) + inside


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[bytes]]:
    made: dict[int, list[bytes]] = {GETADDR: [], GETROUTE: []}

    def dump(message: int) -> Iterable[bytes]:
        return iter(made[message])

    monkeypatch.setattr(routing, "_dump", dump)
    return made


def test_addresses_are_ours_and_not_the_peers(answers: dict[int, list[bytes]]) -> None:
    answers[GETADDR] = [
        interface_address(
            attribute(ADDRESS, packed("127.0.0.1")), attribute(LOCAL, packed("127.0.0.1")), attribute(LABEL, b"lo\0")
        ),
        # a point-to-point link
        interface_address(attribute(ADDRESS, packed("203.0.113.1")), attribute(LOCAL, packed("192.0.2.7"))),
        # IPv6 has no local address beside it
        interface_address(attribute(ADDRESS, packed("2001:db8::7"))),
        interface_address(attribute(ADDRESS, packed("2001:db8::7"))),
        interface_address(attribute(LABEL, b"eth0\0")),
        interface_address(attribute(ADDRESS, b"\1\2\3")),
        b"",
    ]
    assert routing.addresses() == ["127.0.0.1", "192.0.2.7", "2001:db8::7"]


def test_gateways_are_the_next_hops_of_every_kind(answers: dict[int, list[bytes]]) -> None:
    answers[GETROUTE] = [
        route(attribute(DESTINATION, packed("198.51.100.0"))),
        route(attribute(DESTINATION, packed("0.0.0.0")), attribute(GATEWAY, packed("192.0.2.1"))),
        route(attribute(GATEWAY, packed("fe80::1"))),
        # an IPv4 route by way of an IPv6 neighbour
        route(attribute(VIA, struct.pack("=H", socket.AF_INET6) + packed("fe80::2"))),
        route(
            attribute(
                MULTIPATH,
                hop(attribute(GATEWAY, packed("192.0.2.2"))) + hop() + hop(attribute(GATEWAY, packed("192.0.2.3"))),
            )
        ),
        route(attribute(GATEWAY, packed("192.0.2.1"))),
        b"",
    ]
    assert routing.gateways() == ["192.0.2.1", "fe80::1", "fe80::2", "192.0.2.2", "192.0.2.3"]


@pytest.mark.parametrize(
    "attributes",
    [
        attribute(MULTIPATH, bytes(8)),  # a hop that says it is empty: it would be read for ever
        attribute(MULTIPATH, struct.pack("=HBBi", 7, 0, 0, 0)),
        attribute(MULTIPATH, b"\1\2\3"),
        attribute(MULTIPATH, struct.pack("=HBBi", 60000, 0, 0, 0)),
        attribute(VIA, b""),
        attribute(VIA, b"\1"),
        attribute(GATEWAY, b""),
        attribute(GATEWAY, bytes(5)),
        b"\1\0\5\0",
        b"\xff\xff\5\0",
        b"\0",
    ],
    ids=ascii,
)
def test_message_that_is_cut_names_no_gateway(answers: dict[int, list[bytes]], attributes: bytes) -> None:
    answers[GETROUTE] = [route(attributes)]
    assert routing.gateways() == []


def test_the_kernel_answers() -> None:
    """Of this machine nothing is known but that it has a loopback address, or no interface at all."""
    found = routing.addresses()
    assert all(socket.inet_pton(socket.AF_INET6 if ":" in word else socket.AF_INET, word) for word in found)
    assert len(set(found)) == len(found)
    assert isinstance(routing.gateways(), list)
