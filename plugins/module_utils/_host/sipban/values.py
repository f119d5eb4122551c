# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of sipband tell each other."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Union, overload

from ..._netfilter.sets import member_text
from ..._sip.addresses import Network

__all__ = [
    "AMI",
    "CHAN_SIP",
    "OURS",
    "STREAMS",
    "Address",
    "Entries",
    "Entry",
    "Packed",
    "Response",
    "SecurityEvent",
    "parse_address",
]

# How the reason of each of its bans begins, beside the address in the kernel.
OURS = "sipban: "

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

# Transports on which nobody gets far with an address that is not his own.
STREAMS = frozenset({"TCP", "TLS", "WS", "WSS"})
# The service of chan_sip's events. Their address can be chosen by the sender (maddr= in Via), and their AccountID may hold line feeds.
CHAN_SIP = "SIP"
# That of the manager interface's own.
AMI = "AMI"


class SecurityEvent(NamedTuple):
    """One of Asterisk's security events, as AMI tells it; everything in it but ``name`` and ``service`` may be a stranger's words.

    ``transport`` is UDP or one of STREAMS; ``extras`` are the headers after RemoteAddress, such as Challenge or ACLName.
    """

    name: str
    service: str
    account: str
    session: str
    transport: str
    address: Address
    extras: Mapping[str, str]


class Response(NamedTuple):
    """The answer to one of our own actions: ``status`` Success, Error or Goodbye; ``headers`` by their names in lower case."""

    status: str
    action_id: str
    headers: Mapping[str, str]


class Entry(NamedTuple):
    """A member of a set: ``left`` in seconds, 0 for ever."""

    network: Network
    left: int
    comment: str

    @property
    def member(self) -> str:
        """As ipset prints it."""
        return member_text(self.network)


class Packed(NamedTuple):
    """The same as it comes from the kernel: the address as 4 or 16 bytes."""

    address: bytes
    prefix: int
    left: int
    comment: str

    def entry(self) -> Entry:
        """For use."""
        if len(self.address) == 4:
            return Entry(ipaddress.IPv4Network((self.address, self.prefix)), self.left, self.comment)
        return Entry(ipaddress.IPv6Network((self.address, self.prefix)), self.left, self.comment)


class Entries(Sequence[Entry]):
    """Many of them, sorted by the time they have left (those for ever last), then by address; some 80 bytes each."""

    _FORM = struct.Struct(">?IB16sBI")

    def __init__(self, packed: Iterable[Packed]) -> None:
        comments: dict[str, int] = {}
        self._rows = sorted(
            self._FORM.pack(
                not each.left,
                each.left,
                len(each.address),
                each.address,
                each.prefix,
                comments.setdefault(each.comment, len(comments)),
            )
            for each in packed
        )
        self._comments = list(comments)

    def __len__(self) -> int:
        return len(self._rows)

    def _entry(self, row: bytes) -> Entry:
        dummy, left, size, address, prefix, comment = self._FORM.unpack(row)
        return Packed(address[:size], prefix, left, self._comments[comment]).entry()

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self._entry(row) for row in self._rows[index]]
        return self._entry(self._rows[index])


def parse_address(text: str) -> Address | None:
    """An address as the kernel sees it (IPv4 in IPv6 as IPv4); None for what is none, or only means something on one link."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if "%" in text:
            return None
        return address.ipv4_mapped or address
    return address
