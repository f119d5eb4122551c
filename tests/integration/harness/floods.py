# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many messages of one source, and sources of which none has been counted with another."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from . import packets, sip
from .lab import NETWORKS, PBX, Host, Lab, TcpFlow, UdpFlow

__all__ = ["deliver", "forge", "sent", "settle", "somebody", "through", "widen"]

_AT_ONCE = 50  # datagrams that surely fit into the buffer of a socket
_networks = itertools.count(1)


def widen(lab: Lab) -> Lab:
    """Gives every peer 65,536 IPv6 networks of 64 bits instead of one."""
    for number, host in enumerate((lab.phone, lab.trunk, lab.attacker), 1):
        whole = NETWORKS[host.role][6].replace("/64", "/48")
        host.namespace.ip([f"route add local {whole} dev lo"])
        lab.pbx.ip([f"route add {whole} via fd00:{number}::2"])
    return lab


def somebody(host: Host, family: int) -> str:
    """An address of the host that nobody has used, over IPv6 in a network that nobody has used."""
    if family == 4:
        return host.address(4)
    return NETWORKS[host.role][6].replace("::/64", f":{next(_networks):x}::2")


def settle(lab: Lab, family: int, port: int = 5060) -> None:
    """Returns when the sink has told of every datagram that has come to that port.

    The barrier says that they lie in the socket; one more behind them, that they have been read.
    """
    lab.barrier()
    marker = sip.request(method="OPTIONS")
    flow = lab.attacker.udp(family, source=somebody(lab.attacker, family), port=port)
    flow.send(marker.wire)
    assert lab.sink.wait(marker.token), "the marker did not arrive"
    flow.close()


def through(lab: Lab, flow: UdpFlow, messages: Iterable[sip.Request]) -> list[bool]:
    """Which of the messages the PBX receives, sent one after the other over a flow.

    A TCP connection gets stuck at the first segment that is dropped; what should have come behind it counts as dropped.
    """
    found: list[bool] = []
    for message in messages:
        if isinstance(flow, TcpFlow) and not all(found):
            found.append(False)
            continue
        flow.send(message.wire)
        settle(lab, 6 if ":" in flow.source else 4)
        found.append(lab.sink.has(message.token))
    return found


def deliver(lab: Lab, family: int, flows: Sequence[UdpFlow], method: str = "REGISTER", port: int = 5060) -> int:
    """How many requests the PBX receives at a port, one datagram from each of the flows, in order."""
    passed = 0
    for start in range(0, len(flows), _AT_ONCE):
        messages = []
        for flow in flows[start : start + _AT_ONCE]:
            messages.append(sip.request(method=method))
            flow.send(messages[-1].wire)
        settle(lab, family, port)
        received = b"".join(record.payload for record in lab.sink.all()[-4 * _AT_ONCE :])
        passed += sum(message.token in received for message in messages)
    return passed


def sent(lab: Lab, host: Host, count: int, source: str, method: str = "REGISTER", port: int = 5060) -> int:
    """How many of `count` datagrams with a request from one source the PBX receives."""
    family = 6 if ":" in source else 4
    return deliver(lab, family, [host.udp(family, source=source, port=port)] * count, method, port)


def forge(lab: Lab, sources: Iterable[str], method: str = "REGISTER") -> None:
    """A datagram with a request from each of the sources, sent by the attacker."""
    for source in sources:
        target = PBX[6 if ":" in source else 4]
        datagram = packets.udp(source, target, 5060, sip.request(method=method).wire)
        packets.send(lab.attacker.namespace, [packets.packet(source, target, 17, datagram)], target)
    lab.barrier()
