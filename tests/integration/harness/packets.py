# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets that no ordinary socket sends: forged TCP segments, header options, IPv6 extension headers, fragments."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from .netns import Namespace

__all__ = ["FLAGS", "extended", "fragments", "icmp", "packet", "segment", "send", "udp"]

FLAGS = {"fin": 0x01, "syn": 0x02, "rst": 0x04, "psh": 0x08, "ack": 0x10}
_HOP_BY_HOP, _ICMP, _TCP, _UDP, _FRAGMENT, _ICMP6, _DESTINATION = 0, 1, 6, 17, 44, 58, 60
EXTENSIONS = {"hop_by_hop": _HOP_BY_HOP, "destination": _DESTINATION}


def _binary(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _checksum(source: str, target: str, protocol: int, data: bytes) -> int:
    return _sum(_binary(source) + _binary(target) + struct.pack("!II", len(data), protocol) + data)


def _sum(data: bytes) -> int:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def packet(source: str, target: str, protocol: int, data: bytes, options: bytes = b"") -> bytes:
    """A whole packet of the addresses' family; `options` are those of an IPv4 header, a multiple of four bytes."""
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, len(data), protocol, 64) + _binary(source) + _binary(target) + data
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, 4 * words + len(data), 0, 0, 64, protocol, 0)
    return head + _binary(source) + _binary(target) + options + data


def udp(source: str, target: str, port: int, payload: bytes, source_port: int = 5060) -> bytes:
    """A datagram with its UDP header and checksum, without an IP header."""
    head = struct.pack("!HHH", source_port, port, 8 + len(payload))
    checksum = _checksum(source, target, _UDP, head + b"\0\0" + payload) or 0xFFFF
    return head + struct.pack("!H", checksum) + payload


def icmp(source: str, target: str, kind: int, code: int, rest: bytes) -> bytes:
    """An ICMP message of the addresses' family as a whole packet; `rest` is what stands behind its checksum."""
    message = struct.pack("!BBH", kind, code, 0) + rest
    if ":" in source:
        protocol, total = _ICMP6, _checksum(source, target, _ICMP6, message)
    else:
        protocol, total = _ICMP, _sum(message)
    return packet(source, target, protocol, message[:2] + struct.pack("!H", total) + message[4:])


def segment(
    source: str,
    target: str,
    port: int,
    flags: Iterable[str],
    payload: bytes = b"",
    *,
    seq: int = 1000,
    bad: bool = False,
) -> bytes:
    """A TCP segment from port 5060 as a whole packet, `bad` with a wrong checksum."""
    bits = sum(FLAGS[flag] for flag in flags)
    head = struct.pack("!HHIIBBH", 5060, port, seq, 5000 if bits & FLAGS["ack"] else 0, 5 << 4, bits, 65535)
    checksum = _checksum(source, target, _TCP, head + bytes(4) + payload) ^ int(bad)
    return packet(source, target, _TCP, head + struct.pack("!HH", checksum, 0) + payload)


def extended(source: str, target: str, extension: str, content: bytes, datagram: bytes) -> bytes:
    """An IPv6 packet with `content` in an option of an extension header between IP and UDP.

    The content begins 4 bytes behind the IP header; the option is one that everybody skips (RFC 4727).
    """
    content += b"\0" * (-(len(content) + 4) % 8)
    header = bytes([_UDP, (len(content) + 4) // 8 - 1, 0x1E, len(content)]) + content
    return packet(source, target, EXTENSIONS[extension], header + datagram)


def fragments(source: str, target: str, datagram: bytes, size: int) -> list[bytes]:
    """The datagram in fragments of `size` bytes, a multiple of eight, each a whole packet."""
    made = []
    for start in range(0, len(datagram), size):
        part, more = datagram[start : start + size], int(start + size < len(datagram))
        if ":" in source:
            made.append(packet(source, target, _FRAGMENT, struct.pack("!BBHI", _UDP, 0, start | more, 77) + part))
        else:
            whole = packet(source, target, _UDP, part)
            made.append(whole[:4] + struct.pack("!HH", 77, more << 13 | start // 8) + whole[8:])
    return made


def send(host: Namespace, packets: Iterable[bytes], target: str) -> None:
    """Sends whole packets from a host, which routes them to `target`."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with host.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for whole in packets:
            sock.sendto(whole, (target, 0))
