# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges of addresses, compared with what the standard library's ipaddress makes of them."""

from __future__ import annotations

import ipaddress
import itertools
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import Network
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.ranges import (
    BITS,
    NotARange,
    Range,
    bogons,
    count,
    covers,
    expand,
    kernel_lengths,
    merge,
    merged,
    networks,
    pack,
    pack_addresses,
    parse_range,
    subtract,
    text,
    touches,
    widest,
)

VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])

# Few addresses, so that ranges meet; and the ends of each family, where numbers overflow.
near = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))
some = st.lists(near, max_size=12)
versions = st.sampled_from([4, 6])


@st.composite
def wide(draw: st.DrawFn) -> tuple[int, list[Range]]:
    """A version and ranges anywhere in it."""
    version = draw(versions)
    number = st.integers(0, (1 << BITS[version]) - 1)
    found = draw(st.lists(st.tuples(number, number).map(lambda pair: (min(pair), max(pair))), max_size=6))
    return version, found


def inside(ranges: Iterable[Range]) -> set[int]:
    return {address for first, last in ranges for address in range(first, last + 1)}


def made(version: int, number: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return (ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address)(number)


def network(version: int, address: int, prefix: int) -> Network:
    return (ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network)((address, prefix))


def fewest(version: int, ranges: Iterable[Range]) -> list[Network]:
    """What the standard library makes of ranges."""
    found: list[Network] = []
    for first, last in ranges:
        found += ipaddress.summarize_address_range(made(version, first), made(version, last))
    return list(ipaddress.collapse_addresses(found))  # type: ignore[type-var]


# -- parse


def is_mapped(version: int, first: int) -> bool:
    return version == 6 and ipaddress.IPv6Address(first).ipv4_mapped is not None


@given(versions, st.data())
def test_parse_range_reads_every_network(version: int, data: st.DataObject) -> None:
    prefix = data.draw(st.integers(0, BITS[version]))
    address = data.draw(st.integers(0, (1 << prefix) - 1)) << BITS[version] - prefix
    whole = network(version, address, prefix)
    spellings = [str(whole), str(whole).upper(), whole.exploded if version == 6 else whole.with_netmask]
    if prefix == BITS[version]:
        spellings.append(str(whole.network_address))
    for word in spellings:
        if is_mapped(version, address):
            with pytest.raises(NotARange, match="no packet comes from"):
                parse_range(word)
        else:
            assert parse_range(word) == (version, int(whole[0]), int(whole[-1]))


@given(wide(), st.sampled_from(["-", " - ", " -", "-   "]))
def test_parse_range_reads_every_range(found: tuple[int, list[Range]], dash: str) -> None:
    version, ranges = found
    for first, last in ranges:
        if not is_mapped(version, first):
            word = f"{made(version, first)}{dash}{made(version, last)}"
            assert parse_range(word) == (version, first, last)


def test_parse_range_reads_the_longest_spelling() -> None:
    longest = "1111:2222:3333:4444:5555:6666:255.255.255.255"
    assert parse_range(f"{longest} - {longest}")[0] == 6


# What an address could nearly be.
odd = st.text("0123456789.:/- abf%\t\n\0\u0661", max_size=24)
parts = st.lists(
    st.sampled_from(["1.2.3.4", "2001:db8::", "10", "/", "-", ".", ":", "0", " ", "24", "255.255.255.0"]), max_size=6
)


def read_or_refused(word: str) -> tuple[int, int, int] | str:
    try:
        return parse_range(word)
    except NotARange as error:
        return str(error)


@given(st.text() | odd | parts.map("".join))
def test_parse_range_reads_nothing_that_ipaddress_does_not(word: str) -> None:
    found = read_or_refused(word)
    if isinstance(found, str):
        assert 0 < len(found) < 80
        return
    version, first, last = found
    ends = [made(version, first), made(version, last)]
    if "-" in word:
        assert [ipaddress.ip_address(part.strip(" ")) for part in word.split("-")] == ends
    else:
        assert [ipaddress.ip_network(word)[0], ipaddress.ip_network(word)[-1]] == ends


BAD = {
    "": "not an address",
    " ": "not an address",
    "-": "not an address",
    "/": "not an address",
    "/24": "not an address",
    "1.2.3": "not an address",
    "1.2.3.4.5": "not an address",
    "1.2.3.4 ": "not an address",
    " 1.2.3.4": "not an address",
    " 1.2.3.4 - 1.2.3.9 ": "not an address",
    "16909060": "not an address",
    "1.2.3.": "not an address",
    ".1.2.3": "not an address",
    "1..3.4": "not an address",
    "1.2.3.+4": "not an address",
    "1.2.3.-4": "not an address",
    "010.001.001.001": "octal",
    "1.2.3.04": "octal",
    "00.0.0.0": "octal",
    "1.2.3.256": "above 255",
    "1.2.3.4294967297": "above 255",
    "0x7f.1": "a name, or a word",
    "0x7f.0.0.1": "a name, or a word",
    "example.com": "a name, or a word",
    "localhost": "a name, or a word",
    "xn--nxasmq6b.example": "a name, or a word",
    "1.2.3.0/25.example": "a name, or a word",
    "1.2.3.4/": "a prefix length",
    "1.2.3.4/033": "a prefix length",
    "1.2.3.4/032": "a prefix length",
    "1.2.3.4/33": "a prefix length",
    "1.2.3.4/-1": "not an address",
    "1.2.3.4/+32": "a prefix length",
    "1.2.3.4/ 32": "a prefix length",
    "1.2.3.4/32/32": "a prefix length",
    "1.2.3.4/1e1": "a prefix length",
    "1.2.3.4/\u0663\u0662": "a prefix length",
    "2001:db8::/129": "a prefix length",
    "2001:db8::/ffff::": "a prefix length",
    "1.2.3.4/24": "behind the prefix",
    "1.2.3.4/0": "behind the prefix",
    "1.2.3.4/255.255.255.0": "behind the prefix",
    "2001:db8::1/64": "behind the prefix",
    "1.2.3.0/255.0.255.0": "gaps",
    "1.2.3.0/0.0.0.255": "gaps",
    "1.2.3.0/255.255.255.256": "above 255",
    "1.2.3.0/255.255.255.00": "octal",
    "2001:db8::/255.255.255.0": "a prefix length",
    "fe80::1%eth0": "zone",
    "fe80::1%25eth0/64": "zone",
    "::ffff:1.2.3.4": "no packet comes from",
    "::ffff:0:0/96": "no packet comes from",
    "::ffff:1.2.3.4-::ffff:1.2.3.9": "no packet comes from",
    "1.2.3.9-1.2.3.4": "before its beginning",
    "1.2.3.4-1.2.3": "not an address",
    "1.2.3.4-9": "not an address",
    "1.2.3.4-": "not an address",
    "-1.2.3.4": "not an address",
    "1.2.3.4-1.2.3.5-1.2.3.6": "not an address",
    "1.2.3.0/24-1.2.4.0/24": "not an address",
    "1.2.3.4-2001:db8::": "from one address family to the other",
    "1.2.3.4\t-\t1.2.3.9": "not an address",
    "1.2.3.4\n-1.2.3.9": "not an address",
    "1.2.3.4\u2028-\u20281.2.3.9": "not an address",
    "1.2.3.4\u00a0-\u00a01.2.3.9": "not an address",
    "1.2.3.4\0": "not an address",
    "\0": "not an address",
    "1.2.3.4/3\0": "a prefix length",
    "\ud800": "not an address",
    "1.2.3.\ud800": "not an address",
    "\u0661.\u0662.\u0663.\u0664": "not an address",
    "1.2.3.\u00b2": "not an address",
    "\uff11.\uff12.\uff13.\uff14": "not an address",
    "1\u30022\u30023\u30024": "not an address",
    "[2001:db8::1]": "not an address",
    "2001:db8::1::2": "not an address",
    ":::": "not an address",
    "12345::": "not an address",
    "2001:db8": "not an address",
    "1.2.3.4" + " " * 100 + "- 1.2.3.9": "too long",
    "1." * 1_000_000: "too long",
    "9" * 1_000_000: "too long",
    "1.2.3.4/" + "0" * 1_000_000: "too long",
}


@pytest.mark.parametrize("word", BAD, ids=lambda word: ascii(word[:40]))
def test_parse_range_refuses(word: str) -> None:
    with pytest.raises(NotARange, match=BAD[word]):
        parse_range(word)


@given(
    st.lists(st.ip_addresses(v=4).map(str) | st.sampled_from(["192.0.2.0/24", "x", "", "2001:db8::1", "\0", "\ud800"]))
)
def test_pack_addresses_takes_plain_addresses_and_hands_back_the_rest(words: list[str]) -> None:
    found: list[int] = []
    rest = list(pack_addresses(words, found))
    plain = [word for word in words if word.count(".") == 3 and "/" not in word]
    assert rest == [word for word in words if word not in plain]
    assert found == [pack(int(ipaddress.IPv4Address(word)), int(ipaddress.IPv4Address(word))) for word in plain]


@given(versions, st.data())
def test_text_is_what_ipset_prints(version: int, data: st.DataObject) -> None:
    prefix = data.draw(st.integers(0, BITS[version]))
    address = data.draw(st.integers(0, (1 << prefix) - 1)) << BITS[version] - prefix
    word = text(address, prefix, version)
    assert ("/" in word) is (prefix != BITS[version])
    if not is_mapped(version, address):
        assert parse_range(word) == (version, address, address | (1 << BITS[version] - prefix) - 1)


# -- reckoning


@given(some)
def test_merge_keeps_the_addresses_in_order_and_apart(ranges: list[Range]) -> None:
    found = merge(ranges)
    assert inside(found) == inside(ranges)
    assert all(later[0] > earlier[1] + 1 for earlier, later in itertools.pairwise(found))
    assert count(found) == len(inside(ranges))
    assert list(merged(pack(*part) for part in ranges)) == found


@given(some, some)
def test_subtract_leaves_exactly_what_is_in_no_hole(ranges: list[Range], holes: list[Range]) -> None:
    left = list(subtract(merge(ranges), merge(holes)))
    assert inside(left) == inside(ranges) - inside(holes)
    assert merge(left) == left


@given(wide(), st.data())
def test_subtract_at_the_ends_of_a_family(found: tuple[int, list[Range]], data: st.DataObject) -> None:
    version, ranges = found
    whole = (0, (1 << BITS[version]) - 1)
    rest = list(subtract([whole], merge(ranges)))
    assert count(rest) + count(merge(ranges)) == 1 << BITS[version]
    assert merge([*rest, *ranges]) == [whole]
    assert not list(subtract(merge(ranges), [whole]))
    assert list(subtract(merge(ranges), [])) == merge(ranges)


@given(some, near)
def test_touches_and_covers(ranges: list[Range], part: Range) -> None:
    parts = merge(ranges)
    packed = [pack(*each) for each in parts]
    assert touches(packed, *part) is bool(inside(parts) & inside([part]))
    assert covers(parts, part) is (inside([part]) <= inside(parts))


@given(wide())
def test_touches_and_covers_anywhere(found: tuple[int, list[Range]]) -> None:
    version, ranges = found
    parts = merge(ranges)
    for first, last in ranges:
        assert touches([pack(*each) for each in parts], first, last)
        assert covers(parts, (first, last))
    for first, last in subtract([(0, (1 << BITS[version]) - 1)], parts):
        assert not touches([pack(*each) for each in parts], first, last)
        assert not covers(parts, (first, first))


@given(wide())
def test_networks_are_the_fewest(found: tuple[int, list[Range]]) -> None:
    version, ranges = found
    parts = merge(ranges)
    made_of = [network(version, address, prefix) for address, prefix in networks(parts, version)]
    assert made_of == fewest(version, parts)
    for first, last in ranges:
        alone = fewest(version, [(first, last)])
        assert widest(first, last, version) == min(each.prefixlen for each in alone)


@VERSIONS
def test_networks_of_everything(version: int) -> None:
    assert list(networks([(0, (1 << BITS[version]) - 1)], version)) == [(0, 0)]


REGISTRY = [
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.1.1",
    "172.31.255.255",
    "192.168.0.1",
    "224.0.0.1",
    "255.255.255.255",
]
REGISTRY += ["0.0.0.0", "192.0.0.8", "::1", "::", "fe80::1", "fc00::1", "fd00::1", "ff02::1", "64:ff9b::1"]
PUBLIC = [
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
]
PUBLIC += ["192.169.0.0", "223.255.255.255", "192.0.1.0", "2000::", "2001:4860::1", "3fff:ffff::", "2002::1"]


@pytest.mark.parametrize(("addresses", "inner"), [(REGISTRY, True), (PUBLIC, False)], ids=["reserved", "public"])
def test_bogons_are_what_has_no_place_on_the_internet(addresses: list[str], inner: bool) -> None:
    for word in addresses:
        version, first, last = parse_range(word)
        assert covers(bogons(version), (first, last)) is inner, word


@VERSIONS
def test_bogons_are_merged(version: int) -> None:
    assert merge(bogons(version)) == bogons(version)


# -- prefix lengths for the kernel


def size(found: Counter[int], kept: tuple[int, ...]) -> int:
    """How many networks there are when each is split into those of the next length that is kept."""
    return sum(many << min(length for length in kept if length >= each) - each for each, many in found.items())


small = st.dictionaries(st.integers(18, 32), st.integers(1, 3000), min_size=1, max_size=6).map(Counter)


@given(small)
def test_kernel_lengths_are_the_fewest_that_may_be_had(found: Counter[int]) -> None:
    kept = kernel_lengths(found)
    lengths = sorted(found)
    total = sum(found.values())
    if total < 1000:
        assert list(kept) == lengths
        return
    assert list(kept) == sorted(kept)
    assert size(found, kept) <= total * 2
    choices = [
        (*chosen, lengths[-1])
        for number in range(len(lengths))
        for chosen in itertools.combinations(lengths[:-1], number)
    ]
    affordable = [chosen for chosen in choices if size(found, chosen) <= total * 2]
    assert len(kept) == min(map(len, affordable))
    assert size(found, kept) == min(size(found, chosen) for chosen in affordable if len(chosen) == len(kept))


def test_kernel_lengths_of_every_length_there_is() -> None:
    found = Counter(dict.fromkeys(range(1, 129), 20))
    kept = kernel_lengths(found)
    assert size(found, kept) <= 128 * 20 * 2
    assert len(kept) < 128


@given(versions, st.data())
def test_expand_keeps_the_addresses(version: int, data: st.DataObject) -> None:
    bits = BITS[version]
    prefix = data.draw(st.integers(max(0, bits - 40), bits))
    address = data.draw(st.integers(0, (1 << prefix) - 1)) << bits - prefix
    longer = data.draw(st.lists(st.integers(prefix, min(bits, prefix + 8)), min_size=1))
    shorter = data.draw(st.lists(st.integers(0, max(0, prefix - 1)), max_size=3)) if prefix else []
    lengths = sorted({*longer, *shorter})
    parts = list(expand(address, prefix, lengths, version))
    assert {length for dummy, length in parts} == {min(length for length in lengths if length >= prefix)}
    ends = [(first, first | (1 << bits - length) - 1) for first, length in parts]
    assert merge(ends) == [(address, address | (1 << bits - prefix) - 1)]
    assert count(merge(ends)) == sum(last - first + 1 for first, last in ends)
