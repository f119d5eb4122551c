# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of sipband tell each other: addresses as the kernel sees them, and many bans in little memory."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import (
    Entries,
    Entry,
    Packed,
    parse_address,
)


def packed(network: str, left: int, comment: str) -> Packed:
    found = ip_network(network)
    return Packed(found.network_address.packed, found.prefixlen, left, comment)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::7", "2001:db8::7"),
        # The kernel sees what comes to a socket of both families as IPv4.
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_an_address_is_read_as_the_kernel_sees_it(text: str, address: str) -> None:
    assert parse_address(text) == ip_address(address)


@pytest.mark.parametrize("text", ["", "999.1.1.1", "010.1.1.1", "192.0.2.7/32", "fe80::1%eth0", "pbx.example.com", "1"])
def test_what_is_none_is_none(text: str) -> None:
    assert parse_address(text) is None


def test_many_are_sorted_by_the_time_they_have_left() -> None:
    given = [
        packed("203.0.113.9/32", 0, ""),
        packed("2001:db8::/64", 60, "same"),
        packed("203.0.113.8/32", 60, "same"),
        packed("203.0.113.7/32", 2147483, "other"),
        packed("198.51.100.0/24", 60, "same"),
        packed("192.0.2.1/32", 5, "with \N{GREEK SMALL LETTER MU}"),
    ]
    found = Entries(given)
    assert len(found) == 6
    assert list(found) == [
        Entry(ip_network("192.0.2.1/32"), 5, "with \N{GREEK SMALL LETTER MU}"),
        Entry(ip_network("198.51.100.0/24"), 60, "same"),
        Entry(ip_network("203.0.113.8/32"), 60, "same"),
        Entry(ip_network("2001:db8::/64"), 60, "same"),
        Entry(ip_network("203.0.113.7/32"), 2147483, "other"),
        Entry(ip_network("203.0.113.9/32"), 0, ""),
    ]
    assert found[1:3] == list(found)[1:3]
    assert found[-1] == list(found)[-1]
    assert list(Entries([])) == []
