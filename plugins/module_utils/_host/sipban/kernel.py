# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sipband changes in the kernel: members of sets, and the conversations of those it has banned.

All of it by netlink, a few system calls each; CAP_NET_ADMIN is all it takes.
Message layouts: kernel include/uapi/linux/netfilter/ipset/ip_set.h and nfnetlink_conntrack.h.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import struct
from collections.abc import Collection, Iterable, Iterator

from ..._netfilter.names import MAX_TIMEOUT
from ..._netfilter.netlink import AF, Link, attribute, attributes
from ..._sip.addresses import Network
from ..._sip.errors import SipguardError
from .values import Address, Entry, Packed

__all__ = ["SetFull", "SetMissing", "Sets", "comment_text", "end_conversations"]

_NESTED, _NET_BYTEORDER = 0x8000, 0x4000
_NLM_F_EXCL = 0x200  # adding what is there, or removing what is not, is an error
_IPSET, _CTNETLINK = 6, 1

_CMD_FLUSH, _CMD_LIST, _CMD_ADD, _CMD_DEL, _CMD_TEST = 4, 7, 9, 10, 11
_PROTOCOL, _SETNAME, _FLAGS, _DATA, _ADT, _LINENO = 1, 2, 6, 7, 8, 9
_IP, _CIDR, _TIMEOUT, _ELEMENTS, _COMMENT = 1, 3, 6, 24, 26
_PROTOCOL_6 = b"\6"
# Everything that stands before an address: that it is one, and of which family.
_BEFORE = {
    version: struct.pack("=HHHH", 8 + width, _IP | _NESTED, 4 + width, kind | _NET_BYTEORDER)
    for version, width, kind in ((4, 4, 1), (6, 16, 2))
}
_ERR_EXIST, _ERR_COMMENT, _ERR_FULL = 4103, 4112, 4352
_WORDS = {
    4097: "it is of another kind or family",
    4104: "it takes no network of that size",
    4107: "its members have no time limit",
    4109: "it holds no IPv6 addresses",
    4110: "it holds no IPv4 addresses",
    _ERR_COMMENT: "its members have no comment",
}
_COMMENT_SIZE = 255  # bytes
_JUST_HEADER = attribute(_FLAGS, struct.pack(">I", 1 << 2))

_CT_GET, _CT_DELETE = 1, 2
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 2, 12, 18, 25
_CTA_TUPLE_IP = 1
_CTA_IP_SRC = {4: 1, 6: 3}
_TUPLE = struct.Struct("=HHHHHH")  # the heads of a tuple, of its addresses, and of the source among them
_CTA_FILTER_IP_SRC = struct.pack("=I", 1)
_CTA_FILTER_FLAGS = {_CTA_TUPLE_ORIG: 1, _CTA_TUPLE_REPLY: 2}
_CT_GET_STATS, _CTA_STATS_ENTRIES = 5, 1
# Conversations that are read in the time in which the kernel looks through its table, full or empty, once more.
_FEW = 2000
_NO_CONNTRACK = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOENT)


class SetFull(SipguardError):
    """A set has no place left."""


class SetMissing(SipguardError):
    """A set is not there."""


def _error(name: str, code: int, doing: str) -> SipguardError:
    if code == errno.ENOENT:
        return SetMissing(f"the set {name} is not there; run 'sipguard restore'")
    if code == _ERR_FULL:
        return SetFull(f"the set {name} is full; {doing} failed")
    words = _WORDS.get(code) or (os.strerror(code) if code < 4096 else f"ipset error {code}")
    return SipguardError(f"set {name}: {doing} failed: {words}")


@functools.lru_cache(maxsize=64)
def _of(name: str) -> bytes:
    return attribute(_PROTOCOL, _PROTOCOL_6) + attribute(_SETNAME, name.encode("ascii") + b"\0")


@functools.lru_cache(maxsize=64)
def _test_head(name: str, version: int) -> bytes:
    length = 4 + len(_BEFORE[version]) + (4 if version == 4 else 16)
    return _of(name) + struct.pack("=HH", length, _DATA | _NESTED) + _BEFORE[version]


def _place(network: Network) -> bytes:
    found = _BEFORE[network.version] + network.network_address.packed
    # Sets of single addresses know no prefix length; those of networks take an address without one for a single one.
    if network.prefixlen < network.max_prefixlen:
        found += attribute(_CIDR, bytes([network.prefixlen]))
    return found


def comment_text(text: str) -> str:
    """A comment as the kernel can keep it and ``ipset save`` can print it: one line, no double quotes, at most 255 bytes."""
    shown = "".join(char if char.isprintable() else "?" for char in text).replace('"', "'")
    return shown.encode("utf-8", "replace")[:_COMMENT_SIZE].decode("utf-8", "ignore")


def _element(network: Network, seconds: int, comment: str) -> bytes:
    if seconds < 0:
        raise SipguardError(f"{network} cannot be a member of a set for {seconds} seconds")
    data = _place(network) + attribute(_TIMEOUT | _NET_BYTEORDER, struct.pack(">I", min(seconds, MAX_TIMEOUT)))
    if comment:
        data += attribute(_COMMENT, comment_text(comment).encode() + b"\0")
    return attribute(_DATA | _NESTED, data)


def _read(element: bytes) -> Packed:
    found = attributes(element)
    packed = found[_IP][4:]
    prefix = found[_CIDR][0] if _CIDR in found else 8 * len(packed)
    left = struct.unpack(">I", found[_TIMEOUT])[0] if _TIMEOUT in found else 0
    return Packed(packed, prefix, left, found.get(_COMMENT, b"").rstrip(b"\0").decode("utf-8", "replace"))


def _elements(payload: bytes) -> Iterator[bytes]:
    position = 0
    while position + 4 <= len(payload):
        length = struct.unpack_from("=H", payload, position)[0]
        if length < 4:
            return
        yield payload[position + 4 : position + length]
        position += (length + 3) & ~3


class Sets:
    """Sets of addresses. One socket stays open, so that a question costs two system calls.

    Each method raises SipguardError with the kernel's reason, also when the kernel does not answer.
    """

    def __init__(self) -> None:
        self._link = Link()

    def close(self) -> None:
        """Close the socket."""
        self._link.close()

    def _code(self, name: str, message: int, version: int, payload: bytes, flags: int = 0) -> int:
        try:
            return self._link.code(_IPSET, message, AF[version], payload, flags)
        except OSError as error:
            raise SipguardError(f"set {name}: the kernel does not answer: {error.strerror or 'timed out'}") from error

    def add(self, name: str, network: Network, seconds: int, comment: str = "") -> None:
        """Add a member, or replace it with its time and comment. ``seconds`` 0: for ever; more than a set can: as long as it can.

        The comment is left out where the set keeps none. Raises SetFull and SetMissing.
        """
        code = self._code(name, _CMD_ADD, network.version, _of(name) + _element(network, seconds, comment))
        if code == _ERR_COMMENT:
            code = self._code(name, _CMD_ADD, network.version, _of(name) + _element(network, seconds, ""))
        if code:
            raise _error(name, code, f"adding {network}")

    def add_many(self, name: str, entries: Iterable[Entry]) -> int:
        """Add members, or replace them, hundreds a message, and return how many. ``entries`` are of the family of the set.

        Raises SetFull and SetMissing; some of them are then in the set.
        """
        head, end = _of(name), attribute(_LINENO, bytes(4))  # the kernel wants it beside several at once
        some: list[bytes] = []
        count, size, version = 0, 0, 4

        def send() -> None:
            payload = head + attribute(_ADT | _NESTED, b"".join(some)) + end
            code = self._code(name, _CMD_ADD, version, payload)
            if code:
                raise _error(name, code, f"adding {len(some)} members")

        for entry in entries:
            element = _element(*entry)
            if size + len(element) > 0xF000:  # the 16 bits of an attribute's length
                send()
                some.clear()
                size = 0
            some.append(element)
            count, size, version = count + 1, size + len(element), entry.network.version
        if some:
            send()
        return count

    def remove(self, name: str, network: Network) -> bool:
        """Take a member away. False: it was none, or there is no such set."""
        payload = _of(name) + attribute(_DATA | _NESTED, _place(network))
        code = self._code(name, _CMD_DEL, network.version, payload, _NLM_F_EXCL)
        if code in (_ERR_EXIST, errno.ENOENT):
            return False
        if code:
            raise _error(name, code, f"removing {network}")
        return True

    def flush(self, name: str) -> None:
        """Take all members away. A set that is not there has none."""
        code = self._code(name, _CMD_FLUSH, 4, _of(name))
        if code not in (0, errno.ENOENT):
            raise _error(name, code, "emptying it")

    def holds(self, name: str, address: Address) -> bool:
        """Whether a packet from the address would match: it, or a network around it, is a member. False without such a set."""
        version = address.version
        code = self._code(name, _CMD_TEST, version, _test_head(name, version) + address.packed)
        if code == 0:
            return True
        if code in (_ERR_EXIST, errno.ENOENT):
            return False
        raise _error(name, code, f"looking for {address}")

    def members(self, name: str) -> Iterator[Entry]:
        """All members, in the order in which the kernel keeps them, as they arrive; none without such a set."""
        return (found.entry() for found in self.packed(name))

    def packed(self, name: str) -> Iterator[Packed]:
        """The same without what makes each of them large.

        The set can be changed meanwhile, but neither swapped nor destroyed: read on without long pauses.
        """
        link = Link()  # its own: a dump and other questions do not share a socket
        try:
            for content in link.dump(_IPSET, _CMD_LIST, 0, _of(name)):
                for element in _elements(attributes(content).get(_ADT, b"")):
                    yield _read(element)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise _error(name, error.errno or errno.ETIMEDOUT, "reading it") from error
        finally:
            link.close()

    def entries(self, name: str) -> int | None:
        """How many members there are, None without such a set."""
        try:
            found = [attributes(content) for content in self._link.dump(_IPSET, _CMD_LIST, 0, _of(name) + _JUST_HEADER)]
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise _error(name, error.errno or errno.ETIMEDOUT, "counting its members") from error
        for header in found:
            if _DATA in header:
                return int(struct.unpack(">I", attributes(header[_DATA])[_ELEMENTS])[0])
        return None


def _sources(conversation: bytes) -> list[bytes]:
    """The packed source addresses of a conversation: of its beginner, and of whom it was begun with.

    Read where the kernel puts them, attribute after attribute: there may be hundreds of thousands of conversations.
    """
    found: list[bytes] = []
    position = 0
    while len(found) < 2 and position + _TUPLE.size <= len(conversation):
        length, kind, dummy, dummy, source, dummy = _TUPLE.unpack_from(conversation, position)
        if length < 4:
            break
        if kind & ~_NESTED in _CTA_FILTER_FLAGS:
            found.append(conversation[position + _TUPLE.size : position + _TUPLE.size - 4 + source])
        position += (length + 3) & ~3
    return found


def _version(packed: bytes) -> int:
    return 4 if len(packed) == 4 else 6


def _source_filter(packed: bytes, direction: int) -> bytes:
    """What makes the kernel (5.8 or later) tell only of conversations whose source in this direction is the address."""
    source = attribute(_CTA_TUPLE_IP | _NESTED, attribute(_CTA_IP_SRC[_version(packed)], packed))
    flags = b"".join(
        attribute(kind, _CTA_FILTER_IP_SRC if which == direction else bytes(4))
        for which, kind in _CTA_FILTER_FLAGS.items()
    )
    return attribute(direction | _NESTED, source) + attribute(_CTA_FILTER | _NESTED, flags)


class _Endings:
    """The end of the conversations of some addresses."""

    def __init__(self, wanted: Collection[bytes], reading: Link, deleting: Link) -> None:
        self.ended = 0
        self._wanted = frozenset(wanted)
        self._reading = reading
        self._deleting = deleting

    def _end(self, found: dict[int, bytes], family: int) -> None:
        payload = attribute(_CTA_TUPLE_ORIG | _NESTED, found[_CTA_TUPLE_ORIG])
        for kind in (_CTA_ZONE, _CTA_ID):
            if kind in found:
                payload += attribute(kind, found[kind])
        code = self._deleting.code(_CTNETLINK, _CT_DELETE, family, payload)
        if code == 0:
            self.ended += 1
        elif code != errno.ENOENT:  # it has ended by itself meanwhile
            raise OSError(code, os.strerror(code))

    def _read(self, family: int = 0, only: bytes = b"") -> bool:
        """Delete those of our addresses among what the kernel tells of; whether it told of any others.

        A kernel before 5.8 takes no notice of the filter: nothing may be deleted just because the kernel has told of it.
        """
        others = False
        for content in self._reading.dump(_CTNETLINK, _CT_GET, family, only):
            sources = _sources(content)
            if self._wanted.isdisjoint(sources):
                others = True
            else:
                self._end(attributes(content), AF[_version(sources[0])])
        return others

    def _read_filtered(self) -> bool:
        """Whether the kernel could be asked for each address. It has to look through its whole table each time."""
        for packed in self._wanted:
            for direction in _CTA_FILTER_FLAGS:
                try:
                    others = self._read(AF[_version(packed)], _source_filter(packed, direction))
                except OSError as error:
                    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                        return False
                    raise
                if others:
                    return False
        return True

    def run(self) -> None:
        total = struct.unpack(">I", self._reading.one(_CTNETLINK, _CT_GET_STATS, 0)[_CTA_STATS_ENTRIES])[0]
        if total < _FEW * (2 * len(self._wanted) - 1) or not self._read_filtered():
            self._read()


def end_conversations(addresses: Iterable[Address]) -> int:
    """Make connection tracking forget every conversation that one of the addresses began, or that was begun with it.

    Returns how many there were; 0 in a kernel without connection tracking. Takes some 10 ms, hardly more for hundreds of
    addresses than for one; can be called in a thread of its own. Raises SipguardError where the kernel refuses.
    """
    wanted = {address.packed for address in addresses}
    if not wanted:
        return 0
    with contextlib.closing(Link()) as reading, contextlib.closing(Link()) as deleting:
        endings = _Endings(wanted, reading, deleting)
        try:
            endings.run()
        except OSError as error:
            if error.errno not in _NO_CONNTRACK:
                raise SipguardError(f"conversations cannot be ended: {error.strerror or 'timed out'}") from error
        return endings.ended
