# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names everything in the kernel goes by, and their fixed order. Nothing else in the product spells them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ADMISSION_MASK",
    "BANNED",
    "BLOCKED",
    "CHAIN_GATE",
    "CHAIN_HOST",
    "CHAIN_JUDGE",
    "CHAIN_KNOWN",
    "CHAIN_MAIN",
    "CHAIN_PRE",
    "CHAIN_PRE_ALL",
    "CHAIN_PRE_NOTE",
    "CHAIN_PRE_SIP",
    "CHAIN_RATE",
    "CHAIN_UA",
    "FAMILIES",
    "FILTER_TABLES",
    "GATE_SLOTS",
    "HARMLESS_BEFORE_HOOK",
    "HOST_SLOTS",
    "IPV4",
    "IPV6",
    "JAILS",
    "KNOWN",
    "MAX_TIMEOUT",
    "NAMED",
    "OBSERVED",
    "OBSERVING",
    "OFFENDERS",
    "PRE_SLOTS",
    "PROTECTED",
    "RATE_SLOTS",
    "TRUSTED",
    "UNMANAGED",
    "UNPROTECTED",
    "WATCHED",
    "Family",
    "is_own_chain",
    "is_own_set",
]

# What is said of a family, here so that a filter on the controller can know the words without the whole engine.
PROTECTED, OBSERVING, UNPROTECTED = "protected", "observing", "unprotected"
UNMANAGED = "not managed"  # left out of "families", or nothing was ever set up


@dataclass(frozen=True)
class Family:
    """One of the two address families.

    ``suffix`` ends the name of each set ("4"), ``binary`` begins the name of each command ("iptables"),
    ``inet`` is the name ipset uses, ``max_prefix`` is the length of a single address in bits.
    """

    name: str
    suffix: str
    binary: str
    inet: str
    version: int
    max_prefix: int


IPV4 = Family("ipv4", "4", "iptables", "inet", 4, 32)
IPV6 = Family("ipv6", "6", "ip6tables", "inet6", 6, 128)
FAMILIES = (IPV4, IPV6)

# The hook in raw PREROUTING sees a packet before conntrack does; the other one judges it in INPUT.
CHAIN_PRE = "SIPGUARD-PRE"
CHAIN_PRE_SIP = "SIPGUARD-PRE-SIP"
CHAIN_PRE_ALL = "SIPGUARD-PRE-ALL"
CHAIN_PRE_NOTE = "SIPGUARD-PRE-NOTE"
CHAIN_MAIN = "SIPGUARD"
CHAIN_JUDGE = "SIPGUARD-JUDGE"
# Nothing leads there: it says that known sources are spared, also while no other rule does.
CHAIN_KNOWN = "SIPGUARD-KNOWN"
FILTER_TABLES = ("filter", "mangle")

# Members of SIPGUARD, in the order in which a packet meets them. Limits see every packet; the gate and the
# signatures only those of a conversation that has not been admitted yet.
CHAIN_RATE = "SIPGUARD-RATE"
CHAIN_GATE = "SIPGUARD-GATE"
CHAIN_UA = "SIPGUARD-UA"
# The host's own policy sees every packet, SIP or not, but those of an admitted conversation.
CHAIN_HOST = "SIPGUARD-HOST"
HOST_SLOTS = (CHAIN_HOST,)
RATE_SLOTS = (CHAIN_RATE,)
GATE_SLOTS = (CHAIN_GATE, CHAIN_UA)

# Sets, without the family's suffix.
TRUSTED = "sipguard-trusted"
OFFENDERS = "sipguard-offenders"
OBSERVED = "sipguard-observed"
BANNED = "sipguard-banned"
# Sources that have just authenticated.
KNOWN = "sipguard-known"
BLOCKED = "sipguard-blocked"
# Lists of the sets that fail2ban fills, one for each of its jails (roles/pbx_fail2ban/files/action.d/sipguard.conf).
JAILS = "sipguard-jails"
# Sources on lists that only observe.
WATCHED = "sipguard-watched"
# Flows that have named a domain of ours: source address and port.
NAMED = "sipguard-named"

# The longest time a member of a set can have, in seconds (ipset(8): 2^32 milliseconds halved, for the kernel's timers).
MAX_TIMEOUT = 2147483

# What SIPGUARD-PRE drops, in this order; and what it only notes, last.
PRE_SLOTS = (OFFENDERS, BANNED, JAILS, BLOCKED, WATCHED)

# Two bits of the connection mark: 0 = not judged, 1 to 3 = admitted under that generation of the policy.
ADMISSION_MASK = 0x0C000000

# fail2ban puts its own jumps first whenever it starts, and they only ever return or reject: no reason to fight for the place.
HARMLESS_BEFORE_HOOK = ("f2b-", "fail2ban-")


def is_own_chain(name: str) -> bool:
    """Whether the chain is ours to change."""
    return name == CHAIN_MAIN or name.startswith(CHAIN_MAIN + "-")


def is_own_set(name: str) -> bool:
    """Whether the set is ours to change."""
    return name.startswith("sipguard-")
