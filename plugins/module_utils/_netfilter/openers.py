# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who opened the conversations that are going on: connection tracking is told where it only guessed.

SIPGUARD-HOST lets answers in, and goes by which side opened the conversation. Connection tracking takes that to be the side whose
packet it happened to see first (nf_conntrack_tcp_loose; UDP knows nothing else). For what was running before it began to look, a
download would be cut, or a session stay that should not. So, once, when the rules have come or changed:

- a TCP connection to a port on which the host listens was opened by the other side, every other one by the host;
- a UDP conversation to a port that is no service's is forgotten: the host's next packet opens it. On the ports of services
  nothing is forgotten, or the host's next question would let back in whoever has just lost access.

What is translated (NAT), and what belongs to another zone, is left alone. Attributes: kernel include/uapi/linux/netfilter/
nfnetlink_conntrack.h, nf_conntrack_common.h, nf_conntrack_tcp.h; /proc/net/tcp: Documentation/networking/proc_net_tcp.rst.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .netlink import AF, attribute, attributes, change, conversations

__all__ = ["Connection", "correct", "parse_sockets"]

_CTNETLINK, _NEW, _DELETE = 1, 0, 2
_CREATE_EXCLUSIVELY = 0x600  # NLM_F_CREATE, NLM_F_EXCL
_NESTED = 0x8000
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOINFO, _TIMEOUT, _MARK, _ZONE = 1, 2, 3, 4, 7, 8, 18
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP = {4: (1, 2), 6: (3, 4)}  # source and destination
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_PROTOINFO_TCP, _TCP_STATE, _TCP_FLAGS_ORIGINAL, _TCP_FLAGS_REPLY = 1, 1, 4, 5
_TCP_CONNTRACK_ESTABLISHED = 3
_BE_LIBERAL = 0x08  # sequence numbers are not known, as with any connection that is picked up on its way
_EXPECTED, _SEEN_REPLY, _ASSURED, _CONFIRMED, _NAT = 0x1, 0x2, 0x4, 0x8, 0x30
_FIVE_DAYS = 432000  # s, the kernel's own nf_conntrack_tcp_timeout_established
_TCP, _UDP = 6, 17
_ESTABLISHED, _LISTEN = "01", "0A"
_MAPPED = b"\0" * 10 + b"\xff" * 2

# Packed address and port.
End = tuple[bytes, int]


@dataclass(frozen=True)
class Connection:
    """An established TCP connection of this host, by its two ends."""

    version: int
    ours: End
    theirs: End


def parse_sockets(text: str) -> tuple[list[Connection], set[int]]:
    """What /proc/net/tcp or tcp6 shows: established connections beyond the host itself, and ports on which somebody listens."""
    connections: list[Connection] = []
    listening: set[int] = set()
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 4:
            continue
        ours, theirs = _end(words[1]), _end(words[2])
        if words[3] == _LISTEN:
            listening.add(ours[1])
        elif words[3] == _ESTABLISHED and not _is_loopback(theirs[0]):
            connections.append(Connection(4 if len(theirs[0]) == 4 else 6, ours, theirs))
    return connections, listening


def _end(word: str) -> tuple[bytes, int]:
    address, dummy, port = word.partition(":")
    # Words of 32 bits, each printed as the number it is on this machine.
    packed = b"".join(struct.pack("=I", int(address[place : place + 8], 16)) for place in range(0, len(address), 8))
    return packed[12:] if packed.startswith(_MAPPED) else packed, int(port, 16)


def _is_loopback(address: bytes) -> bool:
    return address[0] == 127 if len(address) == 4 else address == b"\0" * 15 + b"\1"


def correct(
    version: int, offered: Callable[[int], bool], sockets: Iterable[str] = ("/proc/net/tcp", "/proc/net/tcp6")
) -> int:
    """Correct one address family; returns how many conversations that changed. Raises OSError where the kernel refuses.

    ``offered`` says whether a UDP port is that of a service.
    """
    connections: list[Connection] = []
    listening: set[int] = set()
    for path in sockets:
        more, ports = parse_sockets(_read(path))
        connections += [one for one in more if one.version == version]
        listening |= ports
    # Opener and other side of each connection, as it should be.
    opened = [(one.theirs, one.ours) if one.ours[1] in listening else (one.ours, one.theirs) for one in connections]
    known, changed = _look(version, {*opened, *((other, opener) for opener, other in opened)}, offered)
    for opener, other in opened:
        wrong = known.get((other, opener))
        if (opener, other) in known or (wrong is not None and not _is_plain(wrong)):
            continue
        if wrong is not None:
            _try(_DELETE, version, attribute(_TUPLE_ORIG | _NESTED, wrong[_TUPLE_ORIG]))
        mark = (wrong or {}).get(_MARK, b"\0" * 4)
        changed += _try(_NEW, version, _established(version, opener, other, mark), _CREATE_EXCLUSIVELY)
    return changed


def _look(
    version: int, wanted: set[tuple[End, End]], offered: Callable[[int], bool]
) -> tuple[dict[tuple[End, End], dict[int, bytes]], int]:
    """Entries of the TCP connections that are wanted, and how many UDP conversations have been forgotten on the way."""
    known: dict[tuple[End, End], dict[int, bytes]] = {}
    local: dict[bytes, bool] = {}
    forgotten = 0
    for entry in conversations(version):
        ends = _ends(entry, version)
        if ends is None:
            continue
        protocol, opener, other = ends
        if protocol == _TCP and (opener, other) in wanted:
            known[opener, other] = entry
        if protocol != _UDP or offered(other[1]) or not _is_plain(entry):
            continue
        if other[0] not in local:
            local[other[0]] = _is_local(other[0], version)
        if local[other[0]]:
            forgotten += _try(_DELETE, version, attribute(_TUPLE_ORIG | _NESTED, entry[_TUPLE_ORIG]))
    return known, forgotten


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as handle:
            return handle.read()
    except OSError:  # a kernel without IPv6
        return ""


def _ends(entry: Mapping[int, bytes], version: int) -> tuple[int, End, End] | None:
    """Protocol, opener and other side, as connection tracking has them; None for what has no ports."""
    levels = attributes(entry.get(_TUPLE_ORIG, b""))
    address, proto = attributes(levels.get(_TUPLE_IP, b"")), attributes(levels.get(_TUPLE_PROTO, b""))
    source, target = _IP[version]
    if not {_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT} <= proto.keys() or not {source, target} <= address.keys():
        return None
    ports = [struct.unpack_from(">H", proto[kind])[0] for kind in (_PROTO_SRC_PORT, _PROTO_DST_PORT)]
    return proto[_PROTO_NUM][0], (address[source], ports[0]), (address[target], ports[1])


def _is_plain(entry: Mapping[int, bytes]) -> bool:
    """Neither translated, nor expected by a helper, nor of another zone."""
    status = struct.unpack(">I", entry.get(_STATUS, b"\0" * 4))[0]
    return not status & (_NAT | _EXPECTED) and _ZONE not in entry


def _is_local(address: bytes, version: int) -> bool:
    """Whether the host has the address: what it can bind to. A conversation that only passes through is not its own."""
    with socket.socket(AF[version], socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((socket.inet_ntop(AF[version], address), 0))
        except OSError:
            return False
    return True


def _established(version: int, opener: End, other: End, mark: bytes) -> bytes:
    """The payload that makes connection tracking know of an established TCP connection."""

    def one_way(kind: int, source: End, target: End) -> bytes:
        address = b"".join(attribute(number, end[0]) for number, end in zip(_IP[version], (source, target)))
        proto = attribute(_PROTO_NUM, bytes([_TCP]))
        proto += attribute(_PROTO_SRC_PORT, struct.pack(">H", source[1]))
        proto += attribute(_PROTO_DST_PORT, struct.pack(">H", target[1]))
        return attribute(
            kind | _NESTED, attribute(_TUPLE_IP | _NESTED, address) + attribute(_TUPLE_PROTO | _NESTED, proto)
        )

    liberal = bytes([_BE_LIBERAL, _BE_LIBERAL])
    state = attribute(_TCP_STATE, bytes([_TCP_CONNTRACK_ESTABLISHED]))
    state += attribute(_TCP_FLAGS_ORIGINAL, liberal) + attribute(_TCP_FLAGS_REPLY, liberal)
    payload = one_way(_TUPLE_ORIG, opener, other) + one_way(_TUPLE_REPLY, other, opener)
    payload += attribute(_STATUS, struct.pack(">I", _SEEN_REPLY | _ASSURED | _CONFIRMED))
    payload += attribute(_TIMEOUT, struct.pack(">I", _FIVE_DAYS))
    payload += attribute(_PROTOINFO | _NESTED, attribute(_PROTOINFO_TCP | _NESTED, state))
    return payload + attribute(_MARK, mark)


def _try(message: int, version: int, payload: bytes, flags: int = 0) -> int:
    """1 when it worked, 0 when the conversation ended meanwhile, or is known under other addresses."""
    try:
        change(_CTNETLINK, message, AF[version], payload, flags)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EEXIST):
            raise
        return 0
    return 1
