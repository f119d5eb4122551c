# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which challenges went to which address: proof that somebody who speaks UDP has got our packets.

Anybody can write any source address on a datagram. But whoever answers with a nonce that has left this host to that very
address has read what was sent there. The kernel shows us the challenges as they leave: a table of our own in nftables
has a rule that logs them to us (NFLOG). It decides nothing about any packet.

Message layouts: kernel include/uapi/linux/netfilter/nf_tables.h and nfnetlink_log.h.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from ..._netfilter.netlink import Link, attribute, attributes
from ..._sip.errors import SipguardError
from .values import Address

__all__ = ["GROUP", "TABLE", "Challenge", "Nonces", "Witness", "read_challenge"]

TABLE = "sipguard-witness"
GROUP = 5060
LIFETIME = 300.0  # seconds

_MAX_NONCE = 256  # bytes
_MAX_CHALLENGES = 16  # of one response; PJSIP sends one for each algorithm
_MOST = 65536
_BLIND = 2.0  # seconds; longer than PJSIP gives out one nonce
_LOOSE = re.compile(rb'nonce[ \t]*=[ \t]*"([^"]{1,256})"', re.IGNORECASE)

# Of an answer. What an attacker has written (Via, From, To, Call-ID) comes back before the challenge, so all of it is copied.
_COPY = 0xFFFF
_RECEIVE_BUFFER = 4 << 20  # bytes; a challenge takes 1 to 2 KiB of it
_AT_ONCE = 16384  # more than that buffer holds
_MESSAGE = 0x11000  # bytes; a whole packet and what is said about it

_UDP = 17
_OPTIONS = (0, 60)  # hop-by-hop and destination options of IPv6
_STATUS = re.compile(rb"SIP/2\.0 (?:401|407) ")
# One line, or several when the next ones begin with a blank. A bare CR or LF ends the reading: our own software sends none.
_CHALLENGE = re.compile(
    rb"\r\n(?:www|proxy)-authenticate[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?=\r\n)", re.IGNORECASE
)
_DIGEST = re.compile(rb"[ \t]*digest[ \t]+", re.IGNORECASE)
_PARAMETER = re.compile(
    rb"[ \t]*([a-z0-9!#$%&'*+.^_`|~-]+)[ \t]*=[ \t]*"
    rb"(?:\"([^\"\\]*(?:\\.[^\"\\]*)*)\"|[^\s\",]+)[ \t]*(?:,|$)",
    re.IGNORECASE | re.DOTALL,
)
_FOLD = re.compile(rb"\r\n[ \t]+")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_PRINTABLE = re.compile(rb"[!-~]+")

_NESTED = 0x8000
_NLM_F_CREATE, _NLM_F_APPEND = 0x400, 0x800
_ULOG, _NFTABLES = 4, 10
_INET = 1

_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _GETRULE = 0, 1, 2, 3, 6, 7
_TABLE_NAME, _TABLE_FLAGS, _TABLE_F_OWNER = 1, 2, 2
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY, _LOCAL_OUT, _RAW = 1, 2, 3, -300
_ACCEPT = 1
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _ELEMENT = 1, 2, 4, 1
_EXPR_NAME, _EXPR_DATA = 1, 2
_CHAIN = "output"
_CHALLENGES = (b"SIP/2.0 401", b"SIP/2.0 407")

_PACKET, _CONFIG = 0, 1
_CFG_CMD, _CFG_MODE, _CFG_TIMEOUT, _CFG_QTHRESH = 1, 2, 4, 5
_CMD_BIND, _COPY_PACKET = 1, 2
_PAYLOAD = 9
_SO_RCVBUFFORCE = 33
_NETLINK_NETFILTER = 12
_NLM_F_REQUEST, _NLM_F_ACK = 1, 4
_NLMSG_ERROR = 2


class Challenge(NamedTuple):
    """A challenge on its way: the packed address it goes to, and its nonces."""

    address: bytes
    nonces: list[bytes]


def _udp(packet: bytes) -> tuple[bytes, int] | None:
    """The packed destination of a UDP packet, and where its UDP header begins; None for what is none, or is not in one piece."""
    if len(packet) < 28:
        return None
    if packet[0] >> 4 == 4:
        header = 4 * (packet[0] & 15)
        in_pieces = (packet[6] & 0x3F) | packet[7]
        return None if header < 20 or packet[9] != _UDP or in_pieces else (packet[16:20], header)
    if packet[0] >> 4 != 6:
        return None
    kind, header = packet[6], 40
    while kind in _OPTIONS and header + 8 <= len(packet):
        kind, header = packet[header], header + 8 * (packet[header + 1] + 1)
    return (packet[24:40], header) if kind == _UDP else None


def _nonce(value: bytes) -> bytes | None:
    """The nonce of the value of one header, None when it is not exactly what the standard says (RFC 3261, 20.44 and 25.1)."""
    value = _FOLD.sub(b" ", value)
    start = _DIGEST.match(value)
    if start is None:
        return None
    found: bytes | None = None
    position = start.end()
    while position < len(value):
        parameter = _PARAMETER.match(value, position)
        if parameter is None:
            return None
        position = parameter.end()
        if parameter[1].lower() == b"nonce":
            if found is not None or parameter[2] is None:
                return None
            found = _ESCAPED.sub(rb"\1", parameter[2])
    if found is None or len(found) > _MAX_NONCE or not _PRINTABLE.fullmatch(found):
        return None
    return found


def read_challenge(packet: bytes) -> Challenge | None:
    """Read an IP packet (version 4 or 6) that holds a 401 or 407 response over UDP; None for what is none, or not well formed."""
    found = _udp(packet)
    if found is None:
        return None
    address, header = found
    if header + 8 > len(packet):
        return None
    length = struct.unpack_from(">H", packet, header + 4)[0]
    message = packet[header + 8 : header + length]
    if not _STATUS.match(message):
        return None
    end = message.find(b"\r\n\r\n")
    head = message if end < 0 else message[: end + 2]
    nonces: list[bytes] = []
    for challenge in islice(_CHALLENGE.finditer(head), _MAX_CHALLENGES):
        nonce = _nonce(challenge[1])
        if nonce is None:
            return None
        nonces.append(nonce)
    return Challenge(address, nonces) if nonces else None


class Nonces:
    """Which nonces went to one address and to no other. Bounded: the oldest make room.

    PJSIP makes the same nonce for whatever comes within a second from, seemingly, one address; and ``maddr=`` in a Via header has a
    challenge sent elsewhere. So a nonce that has gone to two addresses may have been read at either, and proves nothing.
    Times are seconds of any clock that does not go back.
    """

    def __init__(self, lifetime: float = LIFETIME, most: int = _MOST) -> None:
        self._lifetime = lifetime
        self._most = most
        # A hash of the nonce (its length must not decide how much memory is taken): when, and the packed address, b"" after two.
        self._found: dict[int, tuple[float, bytes]] = {}
        self._order: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._found)

    def add(self, address: bytes, nonce: bytes, now: float) -> bool:
        """Remember a nonce that went to a packed address (b"": nobody knows where); False when it has gone to another as well."""
        self.forget(now)
        key = hash(nonce)
        old = self._found.get(key)
        if old is None:
            while len(self._order) >= self._most:
                del self._found[self._order.popleft()]
            self._found[key] = (now, address)
            self._order.append(key)
        elif old[1] != address:
            self._found[key] = (old[0], b"")
        return bool(address) and self._found[key][1] == address

    def forget(self, now: float) -> None:
        """Give back the memory of those whose time is over."""
        while self._order and now - self._found[self._order[0]][0] > self._lifetime:
            del self._found[self._order.popleft()]

    def clear(self) -> None:
        """Forget all of them."""
        self._found.clear()
        self._order.clear()

    def knows(self, address: bytes, nonce: bytes, now: float) -> bool:
        """Whether the nonce went to the packed address, not too long ago, and to nobody else."""
        when, owner = self._found.get(hash(nonce), (0.0, b""))
        return bool(owner) and owner == address and now - when <= self._lifetime


def _number(value: int) -> bytes:
    return struct.pack(">I", value & 0xFFFFFFFF)


def _name(value: str) -> bytes:
    return value.encode("ascii") + b"\0"


def _expression(name: str, *parts: tuple[int, bytes]) -> bytes:
    data = b"".join(attribute(kind, payload) for kind, payload in parts)
    inside = attribute(_EXPR_NAME, _name(name)) + attribute(_EXPR_DATA | _NESTED, data)
    return attribute(_ELEMENT | _NESTED, inside)


def _equals(value: bytes) -> bytes:
    """Compare register 1 (NFTA_CMP_SREG, _OP, _DATA) with a value."""
    return _expression("cmp", (1, _number(1)), (2, _number(0)), (3 | _NESTED, attribute(1, value)))


def _rule(beginning: bytes, group: int) -> bytes:
    """``meta l4proto udp @th,64,88 <beginning> log group <group> snaplen 65535 queue-threshold 1``"""
    expressions = [
        _expression("meta", (1, _number(1)), (2, _number(16))),  # NFTA_META_DREG, _KEY: NFT_META_L4PROTO
        _equals(bytes([_UDP])),
        # NFTA_PAYLOAD_DREG, _BASE: NFT_PAYLOAD_TRANSPORT_HEADER, _OFFSET, _LEN
        _expression("payload", (1, _number(1)), (2, _number(2)), (3, _number(8)), (4, _number(len(beginning)))),
        _equals(beginning),
        # NFTA_LOG_GROUP, _SNAPLEN, _QTHRESHOLD
        _expression("log", (1, struct.pack(">H", group)), (3, _number(_COPY)), (4, struct.pack(">H", 1))),
    ]
    return (
        attribute(_RULE_TABLE, _name(TABLE))
        + attribute(_RULE_CHAIN, _name(_CHAIN))
        + attribute(_RULE_EXPRESSIONS | _NESTED, b"".join(expressions))
    )


class Witness:
    """Sees the challenges that leave this host, from its making until ``close()`` or the end of the process.

    Where the kernel can (Linux 5.12), the table belongs to this process: it vanishes with it, and nobody else can remove it.
    ``owned=False`` does without. ``clock`` tells seconds and never goes back.

    Raises SipguardError when the kernel cannot show us the packets, or another process already has them.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        lifetime: float = LIFETIME,
        group: int = GROUP,
        owned: bool = True,
    ) -> None:
        self.seen = 0  # challenges that could be read
        self.unreadable = 0  # that could not
        self.lost = 0  # times when more came than there was place for
        self.shared = 0  # that went to a second address
        self.nonces = Nonces(lifetime)
        self.owned = owned
        self._clock = clock
        self._blind_until = clock()
        self._group = group
        self._log = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._link = Link()
        try:
            self._log.bind((0, 0))
            self._log.settimeout(10)
            with contextlib.suppress(OSError):
                self._log.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
            # The binding lasts exactly as long as its socket. It also tells whether another process is at work already.
            self._listen()
            self._log.setblocking(False)
            self._make_table()
        except BaseException:
            self._log.close()
            self._link.close()
            raise

    def close(self) -> None:
        """Remove the table. Nothing is known any more."""
        with contextlib.suppress(OSError):
            self._link.batch(_NFTABLES, [(_DELTABLE, _INET, 0, attribute(_TABLE_NAME, _name(TABLE)))])
        self._link.close()
        self._log.close()

    def _listen(self) -> None:
        parts = (
            attribute(_CFG_CMD, bytes([_CMD_BIND])),
            attribute(_CFG_MODE, struct.pack(">IBB", _COPY, _COPY_PACKET, 0))
            + attribute(_CFG_TIMEOUT, _number(1))  # hundredths of a second
            + attribute(_CFG_QTHRESH, _number(1)),  # one packet, one message, at once
        )
        for part in parts:
            body = struct.pack(">BBH", 0, 0, self._group) + part
            head = struct.pack("=IHHII", 16 + len(body), _ULOG << 8 | _CONFIG, _NLM_F_REQUEST | _NLM_F_ACK, 0, 0)
            try:
                self._log.send(head + body)
                code = self._answer()
            except OSError as error:
                raise SipguardError(
                    f"the kernel does not answer about NFLOG: {error.strerror or 'timed out'}"
                ) from error
            if code in (errno.EBUSY, errno.EEXIST) or (code == errno.EPERM and self._may()):
                raise SipguardError(
                    f"another process, perhaps another sipband, already listens to NFLOG group {self._group}"
                )
            if code == errno.EPERM:
                raise SipguardError("challenges cannot be watched without CAP_NET_ADMIN")
            if code:
                raise SipguardError(f"challenges cannot be watched: this kernel has no nfnetlink_log ({_words(code)})")

    def _may(self) -> bool:
        """Whether it is not for want of CAP_NET_ADMIN that something is refused."""
        try:
            list(self._link.dump(_NFTABLES, _GETTABLE, _INET))
        except OSError as error:
            return error.errno != errno.EPERM
        return True

    def _answer(self) -> int:
        while True:
            data = self._log.recv(1 << 16)
            if struct.unpack_from("=H", data, 4)[0] == _NLMSG_ERROR:
                return -int(struct.unpack_from("=i", data, 16)[0])

    def _make_table(self) -> None:
        try:
            if self.owned:
                try:
                    self._replace_table(_TABLE_F_OWNER)
                    return
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                        raise
                    self.owned = False
            self._replace_table(0)
        except OSError as error:
            if error.errno == errno.EPERM:
                words = f"the table {TABLE} of nftables belongs to another process, perhaps another sipband"
                raise SipguardError(
                    words if self._may() else "challenges cannot be watched without CAP_NET_ADMIN"
                ) from error
            words = _words(error.errno)
            raise SipguardError(
                f"challenges cannot be watched: this kernel has no nf_tables with log ({words})"
            ) from error

    def _replace_table(self, flags: int) -> None:
        """Make the table. What an earlier process may have left of that name goes first: made if need be, removed, made."""
        named = attribute(_TABLE_NAME, _name(TABLE))
        chain = (
            attribute(_CHAIN_TABLE, _name(TABLE))
            + attribute(_CHAIN_NAME, _name(_CHAIN))
            + attribute(
                _CHAIN_HOOK | _NESTED,
                attribute(_HOOK_NUMBER, _number(_LOCAL_OUT)) + attribute(_HOOK_PRIORITY, _number(_RAW)),
            )
            + attribute(_CHAIN_POLICY, _number(_ACCEPT))
            + attribute(_CHAIN_TYPE, _name("filter"))
        )
        add = _NLM_F_CREATE | _NLM_F_APPEND
        self._link.batch(
            _NFTABLES,
            [
                (_NEWTABLE, _INET, _NLM_F_CREATE, named),
                (_DELTABLE, _INET, 0, named),
                (_NEWTABLE, _INET, _NLM_F_CREATE, named + attribute(_TABLE_FLAGS, _number(flags))),
                (_NEWCHAIN, _INET, _NLM_F_CREATE, chain),
                *((_NEWRULE, _INET, add, _rule(beginning, self._group)) for beginning in _CHALLENGES),
            ],
        )

    def _is_complete(self) -> bool:
        only = attribute(_RULE_TABLE, _name(TABLE)) + attribute(_RULE_CHAIN, _name(_CHAIN))
        try:
            # Kernels before 4.15 tell of every rule; and asking for those of a table that is not there is no error.
            rules = [attributes(rule) for rule in self._link.dump(_NFTABLES, _GETRULE, _INET, only)]
        except OSError:
            return False
        return sum(rule.get(_RULE_TABLE) == _name(TABLE) for rule in rules) == len(_CHALLENGES)

    def ensure(self) -> bool:
        """Put the table back when somebody has removed it, or its rules; whether that was so. To be called every few seconds.

        Raises SipguardError when the kernel refuses.
        """
        if self._is_complete():
            return False
        self._make_table()
        return True

    def fileno(self) -> int:
        """The socket that becomes readable when there is something for ``drain()``; the same one until ``close()``."""
        return self._log.fileno()

    def drain(self) -> None:
        """Read what has come."""
        now = self._clock()
        self.nonces.forget(now)
        for dummy in range(_AT_ONCE):
            try:
                data = self._log.recv(_MESSAGE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise SipguardError(f"challenges cannot be read: {error.strerror}") from error
                # What was lost may have been the second copy of any of them, or of one that is still to come.
                self.lost += 1
                self.nonces.clear()
                self._blind_until = now + _BLIND
                continue
            self._take(data, now)

    def _take(self, data: bytes, now: float) -> None:
        position = 0
        while position + 20 <= len(data):
            length, kind = struct.unpack_from("=IH", data, position)
            if length < 16:
                return
            if kind == _ULOG << 8 | _PACKET:
                payload = attributes(data[position + 20 : position + length]).get(_PAYLOAD, b"")
                challenge = read_challenge(payload)
                if challenge is None:
                    self.unreadable += 1
                    challenge = Challenge(b"", _LOOSE.findall(payload))
                else:
                    self.seen += 1
                for nonce in challenge.nonces if now >= self._blind_until else ():
                    self.shared += not self.nonces.add(challenge.address, nonce, now)
            position += (length + 3) & ~3

    def knows(self, address: Address, nonce: str) -> bool:
        """Whether a challenge with this nonce has gone to this address, over UDP, within the lifetime of a nonce."""
        self.drain()
        return self.nonces.knows(address.packed, nonce.encode("utf-8", "surrogateescape"), self._clock())


def _words(code: int | None) -> str:
    return errno.errorcode.get(code or errno.ETIMEDOUT, str(code))
