# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rules of SIPGUARD-HOST let one source reach, found by walking them with all traffic that it could send."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Union

from .._netfilter.names import CHAIN_HOST
from .._netfilter.rule import Match, Rule
from .._sip.services import DEFAULTS

__all__ = ["Reach", "reach"]

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Chains = Mapping[str, "tuple[Rule, ...]"]
# First and last port of what is left of each protocol; one that has no ports has the single one 0.
Traffic = dict[str, "list[tuple[int, int]]"]

_PORTED = ("udp", "tcp")
_PING = "ping"
_ECHO = {"8": _PING, "128": _PING}  # RFC 792, RFC 4443
_ICMP = ("icmp", "ipv6-icmp")
_NAMES = {"47": "gre", "112": "vrrp"}
_DEPTH = 16  # a chain that leads to itself does not come through iptables; nobody nests deeper by hand


@dataclass
class Reach:
    """``allowed`` is what a new conversation of the source may go to, ``stopped`` whether anything else is dropped or rejected."""

    allowed: Traffic = field(default_factory=dict)
    stopped: bool = False

    def describe(self) -> str:
        """ "sip, ssh (udp 5060; tcp 22, 5060), ping"; "" for nothing."""
        parts = []
        for protocol, ranges in self.allowed.items():
            if protocol in _PORTED:
                each = (str(first) if first == last else f"{first}-{last}" for first, last in ranges)
                parts.append(f"{protocol} {', '.join(each)}")
        names = ", ".join(name for name, service in DEFAULTS.items() if self._has(service.protocols, service.ports))
        ports = "; ".join(parts)
        words = [f"{names} ({ports})" if names else ports] if parts else []
        words += [_NAMES.get(protocol, protocol) for protocol in self.allowed if protocol not in _PORTED]
        return ", ".join(words)

    def _has(self, protocols: Iterable[str], ports: Iterable[tuple[int, int]]) -> bool:
        """Whether all of a service is allowed."""
        wanted = [(protocol, port) for protocol in protocols for port in ports]
        return bool(wanted) and all(
            any(low <= first and last <= high for low, high in self.allowed.get(protocol, ()))
            for protocol, (first, last) in wanted
        )

    def result(self) -> dict[str, list[str]]:
        """For programs: protocol -> ports, first and last with a colon between; none for a protocol without ports."""
        return {
            protocol: [
                str(first) if first == last else f"{first}:{last}" for first, last in ranges if protocol in _PORTED
            ]
            for protocol, ranges in self.allowed.items()
        }


def reach(chains: Chains, address: Address, in_set: Callable[[str], bool]) -> Reach:
    """Walk SIPGUARD-HOST for a source; ``in_set`` says whether a set has it.

    What is no new conversation from elsewhere is passed over: loopback, answers to the host's own, ICMP errors.
    """
    found = Reach()
    protocols = {name for rules in chains.values() for rule in rules for name in (_protocol(rule),) if name}
    everything: Traffic = {protocol: [(0, 65535)] for protocol in _PORTED}
    everything[_PING] = [(0, 0)]
    everything.update({name: [(0, 0)] for name in sorted(protocols) if name.isdigit() or name == "esp"})
    everything.pop("2", None)  # multicast membership is no conversation
    _Walk(chains, address, in_set, found).chain(CHAIN_HOST, everything, 0)
    found.allowed = {name: _merged(found.allowed[name]) for name in everything if found.allowed.get(name)}
    return found


@dataclass
class _Walk:
    chains: Chains
    address: Address
    in_set: Callable[[str], bool]
    found: Reach

    def chain(self, name: str, traffic: Traffic, depth: int) -> None:
        """Take traffic through a chain. All of ours are reached by a goto, so whoever comes to an end, or returns, is through."""
        for rule in self.chains.get(name, ()) if depth < _DEPTH else ():
            part = self._part(rule, traffic)
            if not any(part.values()):
                continue
            if rule.target in ("DROP", "REJECT"):
                self.found.stopped = True
            elif rule.target == "RETURN":
                self._allow(part)
            elif rule.target in self.chains:
                self.chain(rule.target, part, depth + 1)
            else:
                continue  # it only counts, or marks
            traffic = _without(traffic, part)
        self._allow(traffic)

    def _allow(self, traffic: Traffic) -> None:
        for protocol, ranges in traffic.items():
            self.found.allowed.setdefault(protocol, []).extend(ranges)

    def _part(self, rule: Rule, traffic: Traffic) -> Traffic:
        """What of the traffic the rule matches."""
        part = dict(traffic)
        for option in rule.header:
            if option.name == "-s":
                inside = self.address in ipaddress.ip_network(option.values[0], strict=False)
                if inside == option.negated:
                    return {}
            elif option.name == "-p" and not option.negated:
                wanted = _PING if option.values[0] in _ICMP else option.values[0]
                part = {wanted: part.get(wanted, [])}
            elif option.name in ("-i", "-o", "-f") and option.values[:1] == ("lo",):
                return {}
        for match in rule.matches:
            part = self._matched(match, part)
        return part

    def _matched(self, match: Match, part: Traffic) -> Traffic:
        for option in match.options:
            value = option.values[0] if option.values else ""
            if match.name == "set" and option.name == "--match-set":
                if self.in_set(value) == option.negated:
                    return {}
            elif match.name == "iprange" and option.name == "--src-range":
                first, last = (ipaddress.ip_address(word) for word in value.split("-"))
                if (int(first) <= int(self.address) <= int(last)) == option.negated:
                    return {}
            elif option.name in ("--dports", "--dport") and not option.negated:
                ranges = [_range(word) for word in value.split(",")]
                part = {protocol: _common(mine, ranges) for protocol, mine in part.items() if protocol in _PORTED}
            elif option.name in ("--icmp-type", "--icmpv6-type"):
                wanted = _ECHO.get(value, "")
                part = {protocol: mine for protocol, mine in part.items() if protocol == wanted}
            elif match.name != "comment":
                return {}  # an answer, a connection that was expected, a DHCP server
        return part


def _protocol(rule: Rule) -> str:
    return next((option.values[0] for option in rule.header if option.name == "-p" and option.values), "")


def _range(word: str) -> tuple[int, int]:
    first, dummy, last = word.partition(":")
    return int(first), int(last or first)


def _common(mine: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    wanted = list(others)
    return [
        (max(first, low), min(last, high))
        for first, last in mine
        for low, high in wanted
        if max(first, low) <= min(last, high)
    ]


def _without(traffic: Traffic, part: Traffic) -> Traffic:
    left: Traffic = {}
    for protocol, ranges in traffic.items():
        for low, high in part.get(protocol, ()):
            ranges = [
                (first, last)
                for begun, ended in ranges
                for first, last in ((begun, min(ended, low - 1)), (max(begun, high + 1), ended))
                if first <= last
            ]
        left[protocol] = ranges
    return left


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
