# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's addresses and gateways, asked of the kernel by rtnetlink (rtnetlink(7))."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from .netlink import attributes

__all__ = ["addresses", "gateways"]

_ROUTE = 0  # NETLINK_ROUTE
_GETADDR, _GETROUTE = 22, 26
_REQUEST_DUMP = 0x1 | 0x300
_ERROR, _DONE = 2, 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 5, 9, 18
_IFADDRMSG, _RTMSG, _RTNEXTHOP = 8, 12, 8  # sizes of the structures before the attributes
_SIZES = {4: socket.AF_INET, 16: socket.AF_INET6}


def _dump(message: int) -> Iterator[bytes]:
    """Every object of one kind: its structure and attributes. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _ROUTE) as link:
        link.settimeout(10)
        link.bind((0, 0))
        # An address family of 0 asks for all of them; the rest of the structure stays empty.
        link.send(struct.pack("=IHHII", 16 + _RTMSG, message, _REQUEST_DUMP, 1, 0) + bytes(_RTMSG))
        while True:
            data = link.recv(1 << 18)
            position = 0
            while position + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, position)
                content = data[position + 16 : position + length]
                position += (length + 3) & ~3
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    raise OSError(code, os.strerror(code))
                yield content


def _text(packed: bytes) -> str:
    """An address, "" for what is none of IPv4 or IPv6."""
    return socket.inet_ntop(_SIZES[len(packed)], packed) if len(packed) in _SIZES else ""


def addresses() -> list[str]:
    """Every address of every interface, both families. Raises OSError."""
    found = []
    for content in _dump(_GETADDR):
        parts = attributes(content[_IFADDRMSG:])
        # On a point-to-point link the local one is ours, and the other is the peer's (rtnetlink(7)).
        found.append(_text(parts.get(_IFA_LOCAL) or parts.get(_IFA_ADDRESS, b"")))
    return list(dict.fromkeys(address for address in found if address))


def gateways() -> list[str]:
    """The next hop of every route that has one, both families. Raises OSError."""
    found = []
    for content in _dump(_GETROUTE):
        parts = attributes(content[_RTMSG:])
        found.append(_text(parts.get(_RTA_GATEWAY, b"")))
        found.append(_text(parts.get(_RTA_VIA, b"")[2:]))
        hops = parts.get(_RTA_MULTIPATH, b"")
        while len(hops) >= _RTNEXTHOP:
            length = struct.unpack_from("=H", hops)[0]
            if length < _RTNEXTHOP:
                break
            found.append(_text(attributes(hops[_RTNEXTHOP:length]).get(_RTA_GATEWAY, b"")))
            hops = hops[(length + 3) & ~3 :]
    return list(dict.fromkeys(address for address in found if address))
