# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import (
    collapse,
    is_name,
    parse_networks,
    parse_port,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError


@given(st.ip_addresses())
def test_parse_networks_reads_every_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    mapped = address.version == 6 and address.ipv4_mapped is not None
    if "%" not in str(address) and not mapped:
        assert parse_networks(str(address), "sources") == [ipaddress.ip_network(address)]


@given(st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_parse_networks_reads_a_range_as_exactly_its_addresses(first: int, more: int) -> None:
    last = min(first + more, 2**32 - 1)
    networks = parse_networks(f"{ipaddress.IPv4Address(first)}-{ipaddress.IPv4Address(last)}", "sources")
    assert [int(address) for network in networks for address in network] == list(range(first, last + 1))
    assert list(ipaddress.collapse_addresses(networks)) == networks  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("192.0.2.7", ["192.0.2.7/32"]),
        (" 192.0.2.7\n", ["192.0.2.7/32"]),
        ("192.0.2.0/24", ["192.0.2.0/24"]),
        ("192.0.2.0/255.255.255.0", ["192.0.2.0/24"]),
        ("2001:DB8::/32", ["2001:db8::/32"]),
        ("::1", ["::1/128"]),
        ("192.0.2.10-192.0.2.13", ["192.0.2.10/31", "192.0.2.12/31"]),
        ("192.0.2.10 - 192.0.2.10", ["192.0.2.10/32"]),
        ("2001:db8::-2001:db8::ff", ["2001:db8::/120"]),
        ("128.0.0.0/1", ["128.0.0.0/1"]),
    ],
)
def test_parse_networks_reads(text: str, networks: list[str]) -> None:
    assert [str(network) for network in parse_networks(text, "sources")] == networks


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("192.0.2", "an address (192.0.2.7), a network"),
        ("192.0.2.256", "an address (192.0.2.7), a network"),
        ("192.0.2.0/33", "an address (192.0.2.7), a network"),
        ("192.0.2.07", "an address (192.0.2.7), a network"),
        ("192.0.2.7/", "an address (192.0.2.7), a network"),
        ("192.0.2.7:5060", "an address (192.0.2.7), a network"),
        ("192.0.2.7,192.0.2.8", "an address (192.0.2.7), a network"),
        ("[2001:db8::7]", "an address (192.0.2.7), a network"),
        ("2001:db8::/129", "an address (192.0.2.7), a network"),
        ("2001:db8:::7", "an address (192.0.2.7), a network"),
        ("192.0.2.20-192.0.2.10", "or a range (192.0.2.10-192.0.2.20)"),
        ("192.0.2.10-2001:db8::7", "or a range (192.0.2.10-192.0.2.20)"),
        ("192.0.2.10-20", "or a range (192.0.2.10-192.0.2.20)"),
        ("-", "an address (192.0.2.7), a network"),
        ("", "an address (192.0.2.7), a network"),
        ("  ", "an address (192.0.2.7), a network"),
        (None, "an address (192.0.2.7), a network"),
        (3221225991, "an address (192.0.2.7), a network"),
        (["192.0.2.7"], "an address (192.0.2.7), a network"),
        ("192.0.2.1/24", "192.0.2.0/24 would be right"),
        ("2001:db8::1/64", "2001:db8::/64 would be right"),
        ("sip.example.com", "it is a name"),
        ("adac.de", "it is a name"),
        ("fe80::1%eth0", "the kernel's sets know no zones"),
        ("%eth0", "the kernel's sets know no zones"),
        ("fe80::1%eth0-fe80::2%eth0", "the kernel's sets know no zones"),
        ("::ffff:1.2.3.4", "its IPv4 form would be right"),
        ("::ffff:1.2.3.0/120", "its IPv4 form would be right"),
        ("::ffff:1.2.3.4-::ffff:1.2.3.9", "its IPv4 form would be right"),
        ("localhost", "it is a name"),
        ("pbx-1.example", "it is a name"),
        ("0.0.0.0/0", "it means every address there is"),
        ("::/0", "it means every address there is"),
        ("0.0.0.0-255.255.255.255", "it means every address there is"),
    ],
)
def test_parse_networks_refuses(value: Any, right: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_networks(value, "sources")
    assert (error.value.option, error.value.value) == ("sources", value)
    assert right in error.value.expected
    assert str(error.value) == f"sources: {value!r} cannot be used; {error.value.expected}"


@given(st.text(max_size=20))
def test_parse_networks_reads_or_refuses_whatever_it_gets(text: str) -> None:
    networks = []
    message = ""
    try:
        networks = parse_networks(text, "sources")
    except OptionError as error:
        message = str(error)
    assert bool(networks) is not bool(message)
    assert all(network.prefixlen for network in networks)
    assert message == "" or repr(text) in message


@pytest.mark.parametrize(
    ("value", "ports"),
    [
        ("5060", (5060, 5060)),
        (5060, (5060, 5060)),
        ("5060:5061", (5060, 5061)),
        ("1:65535", (1, 65535)),
        (" 7 ", (7, 7)),
    ],
)
def test_parse_port_reads(value: object, ports: tuple[int, int]) -> None:
    assert parse_port(value, "ports") == ports


@pytest.mark.parametrize(
    "value", ["70000", "0", "5061:5060", "5060-5061", ":", "5060:", "5060:5061:5062", "sip", "", -1, 5060.0, True, None]
)
def test_parse_port_refuses(value: object) -> None:
    with pytest.raises(
        OptionError, match="a port from 1 to 65535, or a range such as 5060:5061, would be right"
    ) as error:
        parse_port(value, "ports")
    assert (error.value.option, error.value.value) == ("ports", value)


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "sip.example.com",
        "sip.example.com.",
        "pbx-1",
        "x.invalid",
        "a_b.c",
        "g0",
        "adac.de",
        "dead.beef",
        "10.0.0.a",
    ],
)
def test_is_name_of_a_name(text: str) -> None:
    assert is_name(text) is True


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.7",
        "192.0.2",
        "2001:db8::7",
        "192.0.2.10-192.0.2.20",
        "-",
        "a b",
        "a..b",
        ".",
        "dead",
        "1234",
        "2001:db8::dead",
        "1.2.3.4",
        "x\n",
    ],
)
def test_is_name_of_something_else(text: str) -> None:
    assert is_name(text) is False


def test_collapse_keeps_one_family_in_order() -> None:
    texts = ("192.0.2.128/25", "2001:db8::/33", "192.0.2.0/25", "192.0.2.9/32", "2001:db8:8000::/33", "10.0.0.0/8")
    networks = [ipaddress.ip_network(text) for text in texts]
    assert [str(network) for network in collapse(networks, 4, "sources")] == ["10.0.0.0/8", "192.0.2.0/24"]
    assert [str(network) for network in collapse(networks, 6, "sources")] == ["2001:db8::/32"]
    assert collapse([], 4, "sources") == []


@pytest.mark.parametrize(
    ("texts", "version"),
    [
        (("0.0.0.0/1", "128.0.0.0/1"), 4),
        (("0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2"), 4),
        (("::/1", "192.0.2.7/32", "8000::/1"), 6),
    ],
)
def test_collapse_refuses_every_address_there_is_in_pieces(texts: tuple[str, ...], version: int) -> None:
    networks = [ipaddress.ip_network(text) for text in texts]
    with pytest.raises(OptionError, match="together they mean every address there is") as error:
        collapse(networks, version, "never")
    assert error.value.option == "never"
    assert error.value.value == [str(network) for network in networks if network.version == version]
    assert collapse(networks[1:], version, "never")


def test_option_error_is_caught_with_the_others() -> None:
    error = OptionError("ports", "70000", "5060 would be right")
    assert isinstance(error, SipguardError)
    assert str(error) == "ports: '70000' cannot be used; 5060 would be right"
