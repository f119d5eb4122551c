# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Just enough netlink to ask netfilter what no command tells without being installed: rules of nftables, marks of conversations.

Message layouts: kernel include/uapi/linux/netlink.h, netfilter/nfnetlink.h, nfnetlink_conntrack.h, nf_tables.h, nf_tables_compat.h.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from itertools import islice

__all__ = [
    "AF",
    "Link",
    "Watch",
    "add_networks",
    "attribute",
    "attributes",
    "change",
    "clear_marks",
    "conversations",
    "dump",
    "has_extension",
    "nft_rule_chains",
    "nft_rule_tables",
    "request",
    "set_digest",
]

AF = {4: socket.AF_INET, 6: socket.AF_INET6}

_NETLINK_NETFILTER = 12
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_BATCH_BEGIN, _BATCH_END = 16, 17
_NLA_TYPE_MASK = 0x3FFF
_SUBSYS_CTNETLINK, _SUBSYS_IPSET, _SUBSYS_NFTABLES, _SUBSYS_NFT_COMPAT = 1, 6, 10, 11
_CT_NEW, _CT_GET = 0, 1
_CTA_TUPLE_ORIG, _CTA_MARK, _CTA_ZONE, _CTA_MARK_MASK = 1, 8, 18, 21
_NLA_F_NESTED = 0x8000
_NFT_MSG_GETRULE, _NFT_MSG_GETGEN = 7, 16
_NFTA_GEN_ID = 1
_NFTA_RULE_TABLE, _NFTA_RULE_CHAIN = 1, 2
# include/uapi/linux/netfilter/ipset/ip_set.h
_IPSET_CMD_LIST, _IPSET_CMD_ADD = 7, 9
_IPSET_ATTR_IP, _IPSET_ATTR_CIDR, _IPSET_ATTR_LINENO = 1, 3, 9
_IPSET_ATTR_ADDRESS = {4: 1, 6: 2}
_NET_BYTEORDER = 0x4000
_IPSET_PROTOCOL, _IPSET_LIST_HEADER = 6, 1 << 2
(
    _IPSET_ATTR_PROTOCOL,
    _IPSET_ATTR_SETNAME,
    _IPSET_ATTR_FLAGS,
    _IPSET_ATTR_DATA,
    _IPSET_ATTR_ADT,
    _IPSET_ATTR_ELEMENTS,
) = 1, 2, 6, 7, 8, 24
_COMPAT_GET = 0
_NFTA_COMPAT_NAME, _NFTA_COMPAT_REV, _NFTA_COMPAT_TYPE = 1, 2, 3


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def attributes(payload: bytes) -> dict[int, bytes]:
    """Attributes of one level by type (flags taken off)."""
    found: dict[int, bytes] = {}
    position = 0
    while position + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, position)
        if length < 4:
            break
        found[kind & _NLA_TYPE_MASK] = payload[position + 4 : position + length]
        position += (length + 3) & ~3
    return found


class _Socket:
    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.settimeout(10)

    def __enter__(self) -> _Socket:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def talk(self, subsystem: int, message: int, family: int, flags: int, payload: bytes) -> Iterator[bytes]:
        body = struct.pack("=BBH", family, 0, 0) + payload
        kind = subsystem << 8 | message
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | flags, 1, 0) + body)
        while True:
            data = self._socket.recv(1 << 18)
            position = 0
            while position + 16 <= len(data):
                length, answer = struct.unpack_from("=IH", data, position)
                content = data[position + 16 : position + length]
                position += (length + 3) & ~3
                if answer == _NLMSG_DONE:
                    return
                if answer == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield content[4:]
                if not flags & (_NLM_F_DUMP | _NLM_F_ACK):
                    return


def dump(subsystem: int, message: int, family: int, payload: bytes = b"") -> list[bytes]:
    """All objects of one kind, each as its attributes. Raises OSError with the kernel's reason."""
    with _Socket() as link:
        return list(link.talk(subsystem, message, family, _NLM_F_DUMP, payload))


def request(subsystem: int, message: int, family: int, payload: bytes) -> list[bytes]:
    """One request that is answered by one object. Raises OSError with the kernel's reason."""
    with _Socket() as link:
        return list(link.talk(subsystem, message, family, 0, payload))


def change(subsystem: int, message: int, family: int, payload: bytes, flags: int = 0) -> None:
    """One request that is answered by nothing but whether it worked. Raises OSError with the kernel's reason."""
    with _Socket() as link:
        list(link.talk(subsystem, message, family, _NLM_F_ACK | flags, payload))


def nft_rule_tables(version: int) -> set[str]:
    """Names of the nftables tables of one address family (4 or 6) that hold any rule; empty where the kernel has no nftables."""
    return {table for table, chain in nft_rule_chains(version)}


def nft_rule_chains(version: int) -> set[tuple[str, str]]:
    """The nftables chains of one address family that hold any rule, as (table, chain)."""
    try:
        rules = [attributes(rule) for rule in dump(_SUBSYS_NFTABLES, _NFT_MSG_GETRULE, AF[version])]
    except OSError:
        return set()
    return {(_name(rule, _NFTA_RULE_TABLE), _name(rule, _NFTA_RULE_CHAIN)) for rule in rules}


def _name(found: dict[int, bytes], kind: int) -> str:
    return found.get(kind, b"").rstrip(b"\0").decode("ascii", "replace")


def has_extension(name: str, is_target: bool, version: int) -> bool | None:
    """Whether the kernel has an xtables match or target, loading its module on the way. None: it cannot be asked.

    This is the question iptables-nft asks before it uses an extension; it changes no rule.
    """
    payload = attribute(_NFTA_COMPAT_NAME, name.encode("ascii") + b"\0")
    payload += attribute(_NFTA_COMPAT_REV, struct.pack(">I", 0))
    payload += attribute(_NFTA_COMPAT_TYPE, struct.pack(">I", int(is_target)))
    try:
        return bool(request(_SUBSYS_NFT_COMPAT, _COMPAT_GET, AF[version], payload))
    except OSError as error:
        # EPROTONOSUPPORT: the extension exists, but no longer in revision 0.
        if error.errno == errno.EPROTONOSUPPORT:
            return True
        return False if error.errno == errno.ENOENT else None


def conversations(version: int) -> Iterator[dict[int, bytes]]:
    """What connection tracking knows of one address family, each with its attributes; none where the kernel has no tracking.

    Raises OSError where the kernel refuses.
    """
    try:
        return map(attributes, dump(_SUBSYS_CTNETLINK, _CT_GET, AF[version]))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOENT):
            return iter(())
        raise


def clear_marks(version: int, mask: int, value: int | None = None) -> int:
    """Clear the masked bits of the mark of each conversation that has ``value`` in them (None: anything but 0).

    Returns how many there were. The other bits of a mark stay as they are. Raises OSError where the kernel refuses.
    """
    cleared = 0
    entries = conversations(version)
    with _Socket() as link:
        for found in entries:
            bits = struct.unpack(">I", found.get(_CTA_MARK, b"\0\0\0\0"))[0] & mask
            if bits == 0 or value not in (None, bits) or _CTA_TUPLE_ORIG not in found:
                continue
            payload = attribute(_CTA_TUPLE_ORIG | _NLA_F_NESTED, found[_CTA_TUPLE_ORIG])
            if _CTA_ZONE in found:
                payload += attribute(_CTA_ZONE, found[_CTA_ZONE])
            payload += attribute(_CTA_MARK, struct.pack(">I", 0))
            payload += attribute(_CTA_MARK_MASK, struct.pack(">I", mask))
            try:
                list(link.talk(_SUBSYS_CTNETLINK, _CT_NEW, AF[version], _NLM_F_ACK, payload))
                cleared += 1
            except OSError as error:
                if error.errno != errno.ENOENT:  # the conversation ended meanwhile
                    raise
    return cleared


def _of_set(name: str) -> bytes:
    return attribute(_IPSET_ATTR_PROTOCOL, bytes([_IPSET_PROTOCOL])) + attribute(
        _IPSET_ATTR_SETNAME, name.encode("ascii") + b"\0"
    )


def set_digest(name: str) -> str | None:
    """A digest of a set's members in the order in which the kernel keeps them; None when it is not there, or may not be read.

    The same digest means the same members; the same members in another order have another one.
    """
    digest = hashlib.sha256()
    try:
        with _Socket() as link:
            for content in link.talk(_SUBSYS_IPSET, _IPSET_CMD_LIST, 0, _NLM_F_DUMP, _of_set(name)):
                # The first message has the set's own properties besides, among them how many rules look into it.
                digest.update(attributes(content).get(_IPSET_ATTR_ADT, b""))
    except OSError:
        return None
    return digest.hexdigest()


def add_networks(name: str, version: int, networks: Iterable[tuple[int, int]]) -> None:
    """Add networks, address and prefix length, to a set, some thousands a message.

    Raises OSError with the kernel's reason; some of them are then in the set.
    """
    width = 4 if version == 4 else 16
    # Everything around the address is the same for each network of one prefix length.
    tails = [attribute(_IPSET_ATTR_CIDR, bytes([prefix])) for prefix in range(8 * width + 1)]
    inside = struct.pack("=HH", 4 + width, _IPSET_ATTR_ADDRESS[version] | _NET_BYTEORDER)
    head = struct.pack("=HH", 4 + len(inside) + width, _IPSET_ATTR_IP | _NLA_F_NESTED) + inside
    head = struct.pack("=HH", 4 + len(head) + width + len(tails[0]), _IPSET_ATTR_DATA | _NLA_F_NESTED) + head
    # As many at a time as the 16 bits of an attribute's length allow.
    most = 0xF000 // (len(head) + width + len(tails[0]))
    end = attribute(_IPSET_ATTR_LINENO, bytes(4))  # the kernel wants it beside several at once
    elements = (head + address.to_bytes(width, "big") + tails[prefix] for address, prefix in networks)
    for some in iter(lambda: b"".join(islice(elements, most)), b""):
        payload = _of_set(name) + attribute(_IPSET_ATTR_ADT | _NLA_F_NESTED, some) + end
        change(_SUBSYS_IPSET, _IPSET_CMD_ADD, AF[version], payload)


class Watch:
    """For questions that are asked again and again: one socket that stays open, so that each costs two system calls."""

    def __init__(self) -> None:
        self._link = _Socket()

    def _ask(self, subsystem: int, message: int, flags: int, payload: bytes = b"") -> dict[int, bytes] | None:
        """The attributes of the first object of the answer, None where the kernel has no such thing."""
        try:
            found = list(self._link.talk(subsystem, message, 0, flags, payload))
        except OSError:
            return None
        return attributes(found[0]) if found else None

    def generation(self) -> bytes | None:
        """What is another one after every change of the rules of nftables (and so of iptables-nft), whoever makes it."""
        found = self._ask(_SUBSYS_NFTABLES, _NFT_MSG_GETGEN, 0)
        return None if found is None else found.get(_NFTA_GEN_ID)

    def entries(self, set_name: str) -> int | None:
        """How many entries a set has, None when it is not there."""
        payload = _of_set(set_name) + attribute(_IPSET_ATTR_FLAGS, struct.pack(">I", _IPSET_LIST_HEADER))
        found = self._ask(_SUBSYS_IPSET, _IPSET_CMD_LIST, _NLM_F_DUMP, payload)
        if found is None or _IPSET_ATTR_DATA not in found:
            return None
        return int(struct.unpack(">I", attributes(found[_IPSET_ATTR_DATA])[_IPSET_ATTR_ELEMENTS])[0])


class Link:
    """One socket for a long life: an answer that came too late for its question is never taken for the answer to another.

    Each method raises TimeoutError (socket.timeout in Python 3.9; it has no errno) when the kernel does not answer,
    and can be used again after that.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.settimeout(seconds)
        self._sequence = 0

    def close(self) -> None:
        """What the kernel keeps for as long as this socket is open ends with it."""
        self._socket.close()

    def _message(self, kind: int, flags: int, head: bytes, payload: bytes) -> bytes:
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        length = 16 + len(head) + len(payload)
        return struct.pack("=IHHII", length, kind, _NLM_F_REQUEST | flags, self._sequence, 0) + head + payload

    def _answers(self, first: int) -> Iterator[tuple[int, int, bytes]]:
        """Sequence number, type and content of what the kernel says to the messages from that number to the latest one."""
        while True:
            data = self._socket.recv(1 << 16)
            position = 0
            while position + 16 <= len(data):
                length, answer, dummy, sequence = struct.unpack_from("=IHHI", data, position)
                if length < 16:
                    break
                if first <= sequence <= self._sequence:
                    yield sequence, answer, data[position + 16 : position + length]
                position += (length + 3) & ~3

    def code(self, subsystem: int, message: int, family: int, payload: bytes, flags: int = 0, resource: int = 0) -> int:
        """One request, and how it ended: 0, or a number of errno, or (from 4096 on) one of the subsystem's own errors."""
        head = struct.pack(">BBH", family, 0, resource)
        self._socket.send(self._message(subsystem << 8 | message, _NLM_F_ACK | flags, head, payload))
        for dummy, answer, content in self._answers(self._sequence):
            if answer == _NLMSG_ERROR:
                return -int(struct.unpack_from("=i", content)[0])
        raise AssertionError  # never: the answers end with a TimeoutError

    def one(self, subsystem: int, message: int, family: int, payload: bytes = b"") -> dict[int, bytes]:
        """The attributes of one object. Raises OSError with the kernel's reason."""
        head = struct.pack(">BBH", family, 0, 0)
        self._socket.send(self._message(subsystem << 8 | message, 0, head, payload))
        for dummy, answer, content in self._answers(self._sequence):
            if answer != _NLMSG_ERROR:
                return attributes(content[4:])
            code = -struct.unpack_from("=i", content)[0]
            raise OSError(code, os.strerror(code))
        raise AssertionError  # never: the answers end with a TimeoutError

    def dump(self, subsystem: int, message: int, family: int, payload: bytes = b"") -> Iterator[bytes]:
        """The objects of one kind, each as its attributes, as they arrive. Raises OSError with the kernel's reason.

        It has to be read to its end before the link is asked anything else.
        """
        head = struct.pack(">BBH", family, 0, 0)
        self._socket.send(self._message(subsystem << 8 | message, _NLM_F_DUMP, head, payload))
        for dummy, answer, content in self._answers(self._sequence):
            if answer in (_NLMSG_ERROR, _NLMSG_DONE):
                # The end of a dump has a result as well.
                code = -struct.unpack_from("=i", content)[0] if len(content) >= 4 else 0
                if code > 0:
                    raise OSError(code, os.strerror(code))
                return
            yield content[4:]

    def batch(self, subsystem: int, messages: Iterable[tuple[int, int, int, bytes]]) -> None:
        """Requests (message, family, flags, payload) that the kernel carries out all or none. Raises OSError with its reason."""
        frame = struct.pack(">BBH", 0, 0, subsystem)
        parts = [self._message(_BATCH_BEGIN, 0, frame, b"")]
        first = self._sequence
        for message, family, flags, payload in messages:
            head = struct.pack(">BBH", family, 0, 0)
            parts.append(self._message(subsystem << 8 | message, _NLM_F_ACK | flags, head, payload))
        last = self._sequence
        parts.append(self._message(_BATCH_END, 0, frame, b""))
        self._socket.send(b"".join(parts))
        for sequence, answer, content in self._answers(first):
            if answer != _NLMSG_ERROR:
                continue
            code = -struct.unpack_from("=i", content)[0]
            if code:
                raise OSError(code, os.strerror(code))
            if sequence == last:
                return
