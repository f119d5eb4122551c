# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who must not be blocked or banned on this host, whatever a list says: the host itself, and those without whom it is no use."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .._netfilter import sets
from .._netfilter.names import FAMILIES, TRUSTED
from .._netfilter.runner import Runner
from .._sip import ranges
from .surroundings import GATEWAY, OWN, RESOLVER, surroundings

__all__ = ["ALWAYS", "Protected", "find", "find_at_boot"]

# What a host still has when it has been restarted.
_LASTING = (OWN, GATEWAY, RESOLVER)
# A list may hold private and reserved addresses if somebody says so; but never those without which no host works: programs that
# talk to each other, and the neighbours of IPv6, which find each other from link-local addresses (RFC 4861, 4.1 to 4.3).
ALWAYS = {
    "127.0.0.0/8": "loopback",
    "::/127": "loopback",
    "fe80::/10": "link-local, which IPv6 cannot do without",
}


@dataclass(frozen=True)
class Protected:
    """A network as ipset prints it, and why it is protected, in a few words."""

    network: str
    why: str

    def range(self) -> tuple[int, int, int]:
        """Version, first and last address."""
        return ranges.parse_range(self.network)


def find(
    runner: Runner, headers: Mapping[str, sets.SetHeader] | None = None, *, sessions: bool = True
) -> list[Protected]:
    """Each network once, under the first reason; ``headers`` are those of the live sets, if they are known.

    Without ``sessions`` of everybody who is logged in only the caller counts: a ban is meant, and may be for an intruder. Raises
    SipguardError when it cannot be found out.
    """
    found: dict[str, str] = {}
    for address, why in surroundings(sessions=sessions):
        network = _plain(address)
        if network:
            found.setdefault(network, why)
    found.update(ALWAYS)
    if runner.which("ipset"):
        headers = sets.read_headers(runner) if headers is None else headers
        for family in FAMILIES:
            name = TRUSTED + family.suffix
            if name in headers and headers[name].entries:
                for member in sets.read_members(runner, name):
                    found.setdefault(member, "trusted")
    return [Protected(network, why) for network, why in found.items()]


def find_at_boot(runner: Runner, remembered: Iterable[tuple[str, str]]) -> list[Protected]:
    """The same before the network is up, with what was protected the last time. Raises SipguardError."""
    found = {item.network: item for item in (Protected(*pair) for pair in remembered) if item.why in _LASTING}
    found.update((item.network, item) for item in find(runner))
    return list(found.values())


def _plain(address: str) -> str:
    """An address as ipset prints it, "" for what is none; of IPv4 written as IPv6 it is the IPv4 that packets come from."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
