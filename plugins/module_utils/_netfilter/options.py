# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that all firewall modules share, read into values or refused before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._sip.addresses import parse_port
from .._sip.errors import OptionError
from . import matches as m
from .lock import check_timeout
from .names import FAMILIES, FILTER_TABLES, Family
from .policy import Selector
from .rule import Option, Rule

__all__ = ["ARGUMENTS", "BASE_ARGUMENTS", "REJECT_WITH", "Common", "port_lists", "read_common", "verdict"]

_IPV6_NAME = {
    "icmp-port-unreachable": "icmp6-port-unreachable",
    "icmp-admin-prohibited": "icmp6-adm-prohibited",
    "icmp-host-unreachable": "icmp6-addr-unreachable",
}
REJECT_WITH = (*_IPV6_NAME, "tcp-reset")

# The parts of an argument_spec that belong to these options; documented in plugins/doc_fragments/firewall.py.
BASE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "mode": {"type": "str", "default": "enforce", "choices": ["enforce", "observe"]},
    "families": {"type": "list", "elements": "str", "default": ["ipv4", "ipv6"], "choices": ["ipv4", "ipv6"]},
    "action": {"type": "str", "default": "drop", "choices": ["drop", "reject"]},
    "reject_with": {"type": "str", "default": "icmp-port-unreachable", "choices": list(REJECT_WITH)},
    "table": {"type": "str", "default": "filter", "choices": list(FILTER_TABLES)},
    "backend": {"type": "str", "default": "auto", "choices": ["auto", "nft", "legacy"]},
    "persist": {"type": "bool", "default": True},
    "lock_timeout": {"type": "int", "default": 30},
    "switch": {"type": "str", "default": ""},
    "mark_mask": {"type": "str", "default": "0x0c000000"},
}
# With what selects the traffic of a module that looks at some of it only.
ARGUMENTS: dict[str, dict[str, Any]] = {
    **BASE_ARGUMENTS,
    "ports": {"type": "list", "elements": "str", "default": ["5060:5061"]},
    "protocols": {"type": "list", "elements": "str", "default": ["udp", "tcp"], "choices": ["udp", "tcp"]},
    "interfaces": {"type": "list", "elements": "str", "default": []},
}


@dataclass(frozen=True)
class Common:
    """The shared options as values; no selectors for a module that has no options to select traffic."""

    present: bool
    observe: bool
    selectors: tuple[Selector, ...]
    families: tuple[Family, ...]
    action: str
    reject_with: str
    table: str
    mask: int


def read_common(options: Mapping[str, Any]) -> Common:
    """Read what Ansible has already checked for type and choice. Raises OptionError."""
    table, action = options["table"], options["action"]
    if table == "mangle" and action == "reject":
        raise OptionError(
            "action", action, "REJECT exists in the filter table only: 'drop', or table 'filter', would be right"
        )
    check_timeout(options["lock_timeout"])
    for name in ("ports", "protocols", "families"):
        if name in options and not options[name]:
            raise OptionError(name, options[name], "at least one entry is needed; leave the option out for its default")
    return Common(
        present=options["state"] == "present",
        observe=options["mode"] == "observe",
        selectors=_selectors(options) if "ports" in options else (),
        families=tuple(family for family in FAMILIES if family.name in options["families"]),
        action=action,
        reject_with=options["reject_with"],
        table=table,
        mask=_mask(options["mark_mask"]),
    )


def _selectors(options: Mapping[str, Any]) -> tuple[Selector, ...]:
    return tuple(
        Selector(protocol, ports, interface)
        for interface in _interfaces(options["interfaces"])
        for protocol in dict.fromkeys(options["protocols"])
        for ports in port_lists(parse_port(entry, "ports") for entry in options["ports"])
    )


def port_lists(ranges: Iterable[tuple[int, int]]) -> list[str]:
    """Port lists in the form of multiport, each within its 15 slots; overlapping and adjoining ranges become one."""
    merged: list[list[int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    lists: list[list[str]] = [[]]
    slots = 0
    for first, last in merged:
        needed = 1 if first == last else 2
        if slots + needed > m.MULTIPORT_SLOTS:
            lists.append([])
            slots = 0
        lists[-1].append(str(first) if first == last else f"{first}:{last}")
        slots += needed
    return [",".join(words) for words in lists]


def _interfaces(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        # IFNAMSIZ is 16 with the final zero; a trailing + stands for any ending (iptables(8)).
        if not re.fullmatch(r"[A-Za-z0-9_.:@][A-Za-z0-9_.:@-]{0,14}\+?", name) or len(name) > 15:
            raise OptionError(
                "interfaces", name, "the name of a network interface, such as eth0 or wg+, would be right"
            )
    return tuple(dict.fromkeys(names)) or ("",)


def _mask(text: str) -> int:
    expected = "a mask of at least two neighbouring bits, such as 0x0c000000, would be right"
    try:
        mask = int(text, 0)
    except ValueError as error:
        raise OptionError("mark_mask", text, expected) from error
    low = mask & -mask
    if not 0 < mask <= 0xFFFFFFFF or bin(mask // low).count("0") != 1 or mask // low < 3 or mask // low > 0xFF:
        raise OptionError("mark_mask", text, expected + " (at most eight)")
    return mask


def verdict(common: Common, family: Family, chain: str) -> list[Rule]:
    """The rules that end a packet's way: DROP, or REJECT in the words of its family and protocol."""
    if common.action == "drop":
        return [Rule(chain, (), "DROP")]
    icmp = "icmp-port-unreachable" if common.reject_with == "tcp-reset" else common.reject_with
    word = icmp if family.version == 4 else _IPV6_NAME[icmp]
    rules = [Rule(chain, (), "REJECT", (Option("--reject-with", (word,)),))]
    if common.reject_with == "tcp-reset":
        rules.insert(0, Rule(chain, (), "REJECT", (Option("--reject-with", ("tcp-reset",)),), (m.protocol("tcp"),)))
    return rules
