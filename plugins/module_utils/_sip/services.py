# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a PBX host offers, and to whom: the table that sip_host_policy starts from, and what an administrator changes in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .addresses import Network, is_name, parse_networks, parse_port
from .errors import OptionError

__all__ = ["DEFAULTS", "EVERYONE", "NOBODY", "PROTOCOLS", "WORDS", "Service", "read_lists", "read_services"]

EVERYONE, NOBODY = "everyone", "nobody"
# Words of the inventory; each stands for the addresses of an option of that name.
WORDS = ("lan", "admins", "trunks", "phones")
_PORTED = ("udp", "tcp")
PROTOCOLS = (*_PORTED, "icmp", "esp", "gre", "vrrp")

_KNOWN = ("admins", "lan", "trunks", "phones")
# Name, ports, protocols, from. Ports as IANA and the makers have them.
_TABLE: tuple[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    ("sip", ("5060",), ("udp", "tcp"), (EVERYONE,)),
    ("sips", ("5061",), ("tcp",), (EVERYONE,)),
    ("rtp", ("10000:20000",), ("udp",), (EVERYONE,)),  # Asterisk's rtp.conf
    ("iax2", ("4569",), ("udp",), ("trunks",)),
    ("mgcp", ("2727",), ("udp",), (NOBODY,)),
    ("ssh", ("22",), ("tcp",), ("admins", "lan")),
    ("http", ("80",), ("tcp",), ("admins", "lan")),
    ("https", ("443",), ("tcp",), ("admins", "lan")),
    ("ntp", ("123",), ("udp", "tcp"), ("lan",)),
    ("syslog", ("514",), ("udp", "tcp"), (NOBODY,)),
    ("ami", ("5038",), ("tcp",), (NOBODY,)),
    ("webmin", ("10000",), ("tcp",), (NOBODY,)),
    ("netbios", ("137:139",), ("udp", "tcp"), (NOBODY,)),
    ("samba", ("445",), ("tcp",), (NOBODY,)),
    ("isymphony", ("55050", "58080"), ("tcp",), (NOBODY,)),
    ("icmp", (), ("icmp",), _KNOWN),
)


@dataclass(frozen=True)
class Service:
    """One line of the table.

    ``ports`` are first and last of each range, for udp and tcp; icmp means the echo request. ``words`` are EVERYONE, NOBODY, those
    of WORDS and names of lists; ``networks`` are the addresses that were named beside them.
    """

    name: str
    ports: tuple[tuple[int, int], ...]
    protocols: tuple[str, ...]
    words: tuple[str, ...]
    networks: tuple[Network, ...] = ()

    def offers(self, protocol: str, port: int, last: int | None = None) -> bool:
        """Whether this is its port, or these from ``port`` to ``last`` are, whoever asks."""
        end = port if last is None else last
        return protocol in self.protocols and any(low <= port and end <= high for low, high in self.ports)

    def describe(self) -> dict[str, list[str]]:
        """As text, for a result."""
        return {
            "ports": [str(first) if first == last else f"{first}:{last}" for first, last in self.ports],
            "protocols": list(self.protocols),
            "from": [*self.words, *(str(network) for network in self.networks)],
        }


def _default(name: str, ports: Sequence[str], protocols: tuple[str, ...], words: tuple[str, ...]) -> Service:
    return Service(name, tuple(parse_port(port, "ports") for port in ports), protocols, words)


DEFAULTS: dict[str, Service] = {line[0]: _default(*line) for line in _TABLE}

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
# A list gives its name to two chains, and a chain's name has at most 28 characters (XT_EXTENSION_MAXNAMELEN).
_LIST_NAME = re.compile(r"[a-z][a-z0-9_]{0,11}\Z")
_TAKEN = (EVERYONE, NOBODY, *WORDS, "icmp", "stop")


def read_lists(lists: Mapping[object, object]) -> dict[str, list[Network]]:
    """The option ``lists``: name -> networks. Raises OptionError."""
    found: dict[str, list[Network]] = {}
    for name, entries in lists.items():
        if not isinstance(name, str) or not _LIST_NAME.match(name) or name in _TAKEN:
            raise OptionError(
                "lists",
                name,
                "a name of at most 12 small letters, digits and _, such as branch_2, that is none of "
                f"{', '.join(_TAKEN)} would be right",
            )
        found[name] = [network for entry in _as_list(entries) for network in parse_networks(entry, f"lists[{name}]")]
    return found


def _as_list(value: object) -> list[object]:
    """What Ansible makes of text for a list; it does not look into a mapping of lists."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",")]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def read_services(
    entries: Iterable[Mapping[str, Any]], ssh_ports: Sequence[object], lists: Iterable[str]
) -> dict[str, Service]:
    """The table of this host: DEFAULTS, ssh on ``ssh_ports`` (none: as in the table), changed by ``entries`` in their order.

    An entry has ``name``, and of ``ports``, ``protocols`` and ``from`` what it changes; None and left out are the same.
    ``lists`` are names that may stand in ``from``. Raises OptionError.
    """
    table = dict(DEFAULTS)
    if ssh_ports:
        table["ssh"] = replace(table["ssh"], ports=_ports(ssh_ports, "ssh_ports"))
    known = (EVERYONE, NOBODY, *WORDS, *lists)
    for entry in entries:
        name = entry["name"]
        if not isinstance(name, str) or not _NAME.match(name):
            raise OptionError(
                "services[].name", name, "a name of small letters, digits, - and _, such as web-gui, would be right"
            )
        if name not in table and entry.get("from") is None:
            raise OptionError(
                "services", name, f"the table has no such service, so it needs 'from': {', '.join(known)}, or addresses"
            )
        table[name] = _changed(table.get(name, Service(name, (), ("tcp",), ())), entry, known)
    for service in table.values():
        _check(service)
    return table


def _changed(service: Service, entry: Mapping[str, Any], known: Sequence[str]) -> Service:
    option = f"services[{service.name}]"
    if entry.get("ports") is not None:
        service = replace(service, ports=_ports(entry["ports"], f"{option}.ports"))
    if entry.get("protocols") is not None:
        for protocol in entry["protocols"]:
            if protocol not in PROTOCOLS:
                raise OptionError(f"{option}.protocols", protocol, f"one of {', '.join(PROTOCOLS)} would be right")
        service = replace(service, protocols=tuple(dict.fromkeys(entry["protocols"])))
    if entry.get("from") is not None:
        words, networks = _sources(entry["from"], f"{option}.from", known)
        service = replace(service, words=words, networks=networks)
    return service


def _ports(entries: Iterable[object], option: str) -> tuple[tuple[int, int], ...]:
    return tuple(parse_port(entry, option) for entry in entries)


def _sources(entries: Sequence[str], option: str, known: Sequence[str]) -> tuple[tuple[str, ...], tuple[Network, ...]]:
    if not entries:
        raise OptionError(
            option, entries, f"{NOBODY} closes a service; one of {', '.join(known)}, or addresses, would be right"
        )
    for alone in (EVERYONE, NOBODY):
        if alone in entries and len(entries) > 1:
            raise OptionError(option, entries, f"{alone} stands alone: leave it out, or the others")
    words: dict[str, None] = {}
    networks: list[Network] = []
    for entry in entries:
        if entry in known:
            words[entry] = None
        elif is_name(entry) and "." not in entry:
            raise OptionError(option, entry, f"one of {', '.join(known)}, or addresses, would be right")
        else:
            networks += parse_networks(entry, option)
    return tuple(words), tuple(networks)


def _check(service: Service) -> None:
    option = f"services[{service.name}]"
    if not service.protocols:
        raise OptionError(f"{option}.protocols", [], f"at least one of {', '.join(PROTOCOLS)} is needed")
    if not service.ports and any(protocol in _PORTED for protocol in service.protocols):
        raise OptionError(
            f"{option}.ports", [], "a service over udp or tcp needs a port, such as 8088, or a range, such as 5060:5061"
        )
    if service.ports and not any(protocol in _PORTED for protocol in service.protocols):
        ports = service.describe()["ports"]
        raise OptionError(
            f"{option}.ports", ports, f"{service.protocols[0]} has no ports: without them it would be right"
        )
