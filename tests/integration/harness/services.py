# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes of what a PBX host offers: many at once, each from a source of its own, and which of them arrived."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import packets, sip
from .lab import PBX, PORTS, Host, Lab, TcpFlow

__all__ = ["MARKER", "MARKER_PORT", "SERVICE_PORTS", "Ear", "Probe", "arrived", "echo_arrives", "services_lab"]

# Where the markers of a lab go whose SIP ports are closed to strangers, as a service of the host policy.
MARKER_PORT = 5070
MARKER = {"name": "marker", "ports": [str(MARKER_PORT)], "protocols": ["udp"], "from": ["everyone"]}
# Every port of the table, the corners of ranges, and some that are nobody's.
SERVICE_PORTS = (
    *(22, 53, 68, 80, 123, 137, 138, 139, 443, 445, 514, 546, 2222, 2727, 3306, 4569, 5038, 8088, 9999, 10000, 15000, 20000),
    *(20001, 40000, 55050, 58080),
    *PORTS,
)  # fmt: skip


def services_lab(backend: str) -> Lab:
    """A laboratory whose PBX listens on all of them."""
    return Lab(backend, SERVICE_PORTS, MARKER_PORT)


@dataclass(frozen=True)
class Probe:
    """Somebody tries one port from one address."""

    host: Host
    source: str
    transport: str
    port: int

    @property
    def family(self) -> int:
        return 6 if ":" in self.source else 4


def arrived(lab: Lab, probes: Iterable[Probe]) -> list[Probe]:
    """Those of the probes that the PBX received: a datagram, or a connection with something on it."""
    tries = []
    for probe in probes:
        message = sip.request()
        if probe.transport == "udp":
            flow = probe.host.udp(probe.family, source=probe.source, port=probe.port)
            flow.send(message.wire)
        else:
            flow = probe.host.tcp(probe.family, source=probe.source, port=probe.port)
        tries.append((probe, flow, message))
    lab.barrier()
    for dummy, flow, message in tries:
        if isinstance(flow, TcpFlow) and flow.connected():
            flow.send(message.wire)
    lab.barrier()
    found = [probe for probe, dummy, message in tries if lab.sink.has(message.token)]
    for opened in tries:
        opened[1].close()
    return found


class Ear:
    """What of one protocol the PBX's kernel hands to whoever listens: packets that have come through INPUT."""

    def __init__(self, lab: Lab, family: int, protocol: int) -> None:
        self._lab = lab
        self._sock = lab.pbx.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_RAW, protocol)
        self._sock.setblocking(False)

    def hears(self, host: Host, whole: Sequence[bytes], token: bytes, family: int) -> bool:
        """Whether the packets, sent by a host, let something with `token` in it arrive."""
        packets.send(host.namespace, whole, PBX[family])
        self._lab.barrier()
        found = False
        while True:
            try:
                found |= token in self._sock.recv(65535)
            except BlockingIOError:
                return found

    def close(self) -> None:
        """Closes the socket."""
        self._sock.close()


def echo_arrives(lab: Lab, host: Host, source: str) -> bool:
    """Whether an echo request ("ping") arrives."""
    family = 6 if ":" in source else 4
    message = sip.request()
    kind, protocol = (8, socket.IPPROTO_ICMP) if family == 4 else (128, socket.IPPROTO_ICMPV6)
    ear = Ear(lab, family, protocol)
    try:
        whole = packets.icmp(source, PBX[family], kind, 0, b"\0\7\0\1" + message.token)
        return ear.hears(host, [whole], message.token, family)
    finally:
        ear.close()
