# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses and ports as administrators write them, read into values, or refused with what would be right."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Union

__all__ = ["Network", "collapse", "is_name", "parse_networks", "parse_port"]

from .errors import OptionError

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

_EXPECTED = (
    "an address (192.0.2.7), a network (192.0.2.0/24, 2001:db8::/32) or a range (192.0.2.10-192.0.2.20) would be right"
)
_MAPPED = ipaddress.ip_network("::ffff:0:0/96")
_NAME = re.compile(r"(?=.*[A-Za-z_])[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?\Z")


def parse_port(text: object, option: str) -> tuple[int, int]:
    """A port or a range of ports, "5060", 5060 or "5060:5061", as its first and last port.

    Raises OptionError.
    """
    expected = "a port from 1 to 65535, or a range such as 5060:5061, would be right"
    words = str(text).strip().split(":")
    if isinstance(text, bool) or len(words) > 2 or not all(re.fullmatch(r"[0-9]{1,5}", word) for word in words):
        raise OptionError(option, text, expected)
    first, last = int(words[0]), int(words[-1])
    if not 1 <= first <= last <= 65535:
        raise OptionError(option, text, expected)
    return first, last


def is_name(text: str) -> bool:
    """Whether the text looks like a host name rather than like an address with a mistake in it."""
    return bool(_NAME.match(text)) and ("." in text or not re.fullmatch(r"[0-9a-fA-F]*", text))


def parse_networks(text: object, option: str) -> list[Network]:
    """One entry as networks: an address and a network give one, a range "a-b" as few as possible.

    Raises OptionError for a name, for bits set behind the prefix, for anything that is no address, and for all addresses there are.
    """
    if not isinstance(text, str) or not text.strip():
        raise OptionError(option, text, _EXPECTED)
    word = text.strip()
    if "%" in word:
        raise OptionError(option, text, "the kernel's sets know no zones: the address without its zone would be right")
    try:
        if "-" in word and not is_name(word):
            first, last = (ipaddress.ip_address(part.strip()) for part in word.split("-", 1))
            networks: list[Network] = list(ipaddress.summarize_address_range(first, last))
        else:
            networks = [ipaddress.ip_network(word)]
    except (ValueError, TypeError) as error:
        if is_name(word):
            raise OptionError(option, text, f"it is a name; {_EXPECTED}") from error
        if "host bits set" in str(error):
            right = ipaddress.ip_network(word, strict=False)
            raise OptionError(
                option, text, f"the address has bits behind its prefix; {right} would be right"
            ) from error
        raise OptionError(option, text, _EXPECTED) from error
    if any(network.version == 6 and network.subnet_of(_MAPPED) for network in networks):  # type: ignore[arg-type]
        raise OptionError(option, text, "the kernel sees such an address as IPv4: its IPv4 form would be right")
    if any(network.prefixlen == 0 for network in networks):
        raise OptionError(option, text, "it means every address there is; " + _EXPECTED)
    return list(networks)


def collapse(networks: Iterable[Network], version: int, option: str) -> list[Network]:
    """The networks of one address family, in order, none inside another.

    Raises OptionError when together they are all the addresses there are.
    """
    wanted = [network for network in networks if network.version == version]
    found: list[Network] = list(ipaddress.collapse_addresses(wanted))  # type: ignore[type-var]
    if any(network.prefixlen == 0 for network in found):
        raise OptionError(option, [str(network) for network in wanted], "together they mean every address there is")
    return found
