# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges of addresses as pairs of whole numbers: what a list of a hundred thousand of them is read into and reckoned with.

The standard library's ipaddress makes an object of each, which costs ten times the time and memory; on the hosts there is nothing
else (netaddr is no part of Debian's Python), and a feed is refreshed there without a controller. So it is done here, once, for both.
"""

from __future__ import annotations

import ipaddress
import socket
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "BITS",
    "NotARange",
    "Range",
    "bogons",
    "count",
    "covers",
    "expand",
    "kernel_lengths",
    "merge",
    "merged",
    "networks",
    "pack",
    "pack_addresses",
    "parse_range",
    "subtract",
    "text",
    "touches",
    "widest",
]

# First and last address of one family, both inside.
Range = tuple[int, int]
# Bits of an address by version.
BITS = {4: 32, 6: 128}

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_HALF = 128
_MASK = (1 << _HALF) - 1
_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96 (RFC 4291, 2.5.5.2)

# What can be nobody's address on the internet: RFC 6890 and its registry, but for the blocks set aside for documentation and
# benchmarks, which are nobody's anywhere, so that leaving them out would protect nobody.
_BOGONS_4 = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "224.0.0.0/3",
)
_GLOBAL_UNICAST = (0x2000 << 112, (0x4000 << 112) - 1)  # 2000::/3 (RFC 4291, 2.4)

# The longest spelling there is: a range of two IPv6 addresses with their last four bytes in dotted form, and blanks around the dash.
_LONGEST = 2 * 45 + 3

# Below so many networks the kernel gets as few as possible; above, as few prefix lengths as can be had for this share more.
_FEW, _ALLOWANCE = 1000, 2


class NotARange(ValueError):
    """The text is no address, network or range; the message says what is wrong with it, in a few words."""


def _address(word: str) -> tuple[int, int]:
    version = 6 if ":" in word else 4
    try:
        return version, int.from_bytes(socket.inet_pton(_FAMILIES[version], word), "big")
    except (OSError, ValueError):  # ValueError: a zero byte, or a lone surrogate
        pass
    parts = word.split(".")
    if len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts):
        if any(len(part) > 1 and part[0] == "0" for part in parts):
            raise NotARange("a number with a leading zero, which some read as octal")
        raise NotARange("a number above 255")
    if "%" in word:
        raise NotARange("an address with a zone, which the kernel's sets do not know")
    if any(character.isalpha() for character in word) and version == 4:
        raise NotARange("a name, or a word")
    raise NotARange("not an address")


def _prefix(word: str, version: int) -> int:
    bits = BITS[version]
    if "." in word and version == 4:
        mask = _address(word)[1]
        length = bin(mask).count("1")
        if mask != (1 << bits) - (1 << bits - length):
            raise NotARange("a mask with gaps")
        return length
    if not (word.isascii() and word.isdigit()) or len(word) > 3 or int(word) > bits or (word[0] == "0" and word != "0"):
        raise NotARange(f"a prefix length that is not 0 to {bits}")
    return int(word)


def parse_range(word: str) -> tuple[int, int, int]:
    """Version, first and last address of an address, a network or a range.

    ``192.0.2.7``, ``192.0.2.0/24``, ``192.0.2.0/255.255.255.0``, ``192.0.2.4-192.0.2.9``, and but for the mask the same in IPv6. Raises
    NotARange. Nothing is guessed: no octal numbers, no missing parts, no bits behind the prefix, no names.
    """
    try:  # nine of ten in a feed are this
        first = int.from_bytes(socket.inet_pton(socket.AF_INET, word), "big")
        return 4, first, first
    except (OSError, ValueError):
        pass
    if len(word) > _LONGEST:
        raise NotARange("too long for an address")
    head, dash, tail = word.partition("-")
    if dash:
        # Blanks only: a line end or a tab in an entry would make it two.
        version, first = _address(head.rstrip(" "))
        last_version, last = _address(tail.lstrip(" "))
        if version != last_version:
            raise NotARange("a range from one address family to the other")
        if first > last:
            raise NotARange("a range whose end comes before its beginning")
    else:
        head, slash, tail = word.partition("/")
        version, first = _address(head)
        last = first
        if slash:
            span = (1 << BITS[version] - _prefix(tail, version)) - 1
            if first & span:
                raise NotARange("bits set behind the prefix")
            last = first | span
    if version == 6 and first >> 32 == _MAPPED >> 32:
        raise NotARange("IPv4 written as IPv6, which no packet comes from")
    return version, first, last


def pack_addresses(words: Iterable[str], found: list[int]) -> Iterator[str]:
    """Add the packed ranges of all plain IPv4 addresses to ``found``; what is none, to be parsed, is yielded.

    Nine of ten entries of a feed are such, and a hundred thousand of them are to be read in a tenth of a second.
    """
    read, family = socket.inet_pton, socket.AF_INET
    for word in words:
        try:
            packed = read(family, word)
        except (OSError, ValueError):
            yield word
            continue
        address = int.from_bytes(packed, "big")
        found.append(address << _HALF | address)


def text(address: int, prefix: int, version: int) -> str:
    """A network as ipset prints it: a single address without its prefix length."""
    word = socket.inet_ntop(_FAMILIES[version], address.to_bytes(4 if version == 4 else 16, "big"))
    return word if prefix == BITS[version] else f"{word}/{prefix}"


def bogons(version: int) -> list[Range]:
    """What no source on the internet can have, merged."""
    if version == 6:
        return [(0, _GLOBAL_UNICAST[0] - 1), (_GLOBAL_UNICAST[1] + 1, (1 << 128) - 1)]
    found = [ipaddress.IPv4Network(word) for word in _BOGONS_4]
    return merge((int(network[0]), int(network[-1])) for network in found)


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The same addresses as few ranges, in order; those that touch become one."""
    return list(merged(pack(first, last) for first, last in ranges))


def pack(first: int, last: int) -> int:
    """A range as one number, which takes half the memory and sorts in the same order."""
    return first << _HALF | last


def merged(packed: Iterable[int]) -> Iterator[Range]:
    """As ``merge``, from packed ranges, one after the other."""
    begun, end = -1, -2
    for number in sorted(packed):
        first, last = number >> _HALF, number & _MASK
        if first > end + 1:
            if begun >= 0:
                yield begun, end
            begun, end = first, last
        elif last > end:
            end = last
    if begun >= 0:
        yield begun, end


def subtract(ranges: Iterable[Range], holes: Sequence[Range]) -> Iterator[Range]:
    """``ranges`` without any address of ``holes``; both merged."""
    index = 0
    for first, last in ranges:
        if index == len(holes) or last < holes[index][0]:
            yield first, last
            continue
        while index < len(holes) and holes[index][1] < first:
            index += 1
        at = index
        while at < len(holes) and holes[at][0] <= last:
            if holes[at][0] > first:
                yield first, holes[at][0] - 1
            first = holes[at][1] + 1
            at += 1
        if first <= last:
            yield first, last


def touches(packed: Sequence[int], first: int, last: int) -> bool:
    """Whether packed and merged ranges have any address from ``first`` to ``last``."""
    index = bisect_right(packed, pack(last, _MASK))
    return index > 0 and packed[index - 1] & _MASK >= first


def covers(ranges: Sequence[Range], part: Range) -> bool:
    """Whether all addresses of ``part`` are in ``ranges``, which are merged."""
    index = bisect_right(ranges, (part[0], 1 << 129))
    return index > 0 and ranges[index - 1][1] >= part[1]


def count(ranges: Iterable[Range]) -> int:
    """How many addresses there are in merged ranges."""
    return sum(last - first + 1 for first, last in ranges)


def networks(ranges: Iterable[Range], version: int) -> Iterator[tuple[int, int]]:
    """The fewest networks, address and prefix length, that hold the same addresses as merged ranges."""
    bits = BITS[version]
    for first, last in ranges:
        if first == last:
            yield first, bits
            continue
        while first <= last:
            # As large as the alignment of its first address and what is left allow.
            size = min((first & -first).bit_length() - 1 if first else bits, (last - first + 1).bit_length() - 1)
            yield first, bits - size
            first += 1 << size


def widest(first: int, last: int, version: int) -> int:
    """The shortest prefix length among the networks of one range."""
    # As many addresses hold a network of half that number wherever they begin, and one of that number if it fits.
    size = (last - first + 1).bit_length() - 1
    begin = -(-first >> size) << size
    return BITS[version] - size + (begin + (1 << size) - 1 > last)


def kernel_lengths(found: Counter[int]) -> tuple[int, ...]:
    """Prefix lengths, ascending, to load so many networks of each length with.

    The kernel looks into a set once for each prefix length there is in it, for every packet: sixteen lengths cost an admitted packet
    ten per cent, two cost it one (docs/benchmarks.md). So a large list is loaded with few lengths, shorter networks being split into longer
    ones, as long as that makes the set no more than twice as large.
    """
    lengths = sorted(found)
    total = sum(found.values())
    if total < _FEW:
        return tuple(lengths)
    # cheapest[i][k]: the fewest networks for the first i + 1 lengths with k of them kept, the last of those being the i-th.
    size = len(lengths)

    def cost(begin: int, end: int) -> int:
        return sum(found[lengths[at]] << lengths[end] - lengths[at] for at in range(begin, end + 1))

    best: list[dict[int, tuple[int, tuple[int, ...]]]] = []
    for end in range(size):
        best.append({1: (cost(0, end), (lengths[end],))})
        for before in range(end):
            more = cost(before + 1, end)
            for kept, (spent, chosen) in best[before].items():
                here = (spent + more, (*chosen, lengths[end]))
                if kept + 1 not in best[end] or here < best[end][kept + 1]:
                    best[end][kept + 1] = here
    affordable = [chosen for dummy, (spent, chosen) in sorted(best[-1].items()) if spent <= total * _ALLOWANCE]
    return affordable[0]


def expand(address: int, prefix: int, lengths: Sequence[int], version: int) -> Iterable[tuple[int, int]]:
    """One network as those of the next longer prefix length among ``lengths``, the last of which is not shorter than ``prefix``."""
    kept = lengths[bisect_left(lengths, prefix)]
    step = 1 << BITS[version] - kept
    return ((address + part * step, kept) for part in range(1 << kept - prefix))
