# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits that come with the collection, in the words of sip_ratelimit's own options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LIMIT_PRESETS", "STANDARD", "LimitPreset"]


@dataclass(frozen=True)
class LimitPreset:
    """``limits`` and ``ssh`` are what could stand in the options of the same name; ``source`` says where the numbers are from."""

    source: str
    limits: tuple[Mapping[str, Any], ...]
    ssh: Mapping[str, Any] | None = None


STANDARD = "standard"
LIMIT_PRESETS: dict[str, LimitPreset] = {
    STANDARD: LimitPreset(
        "calculated for a site of 60 telephones behind one address, see docs/guides/rate-limits.md",
        (
            {"method": "REGISTER", "rate": "4/second", "burst": 300},
            {"method": "REGISTER", "per": "source_net", "rate": "20/second", "burst": 1500},
            {"method": "INVITE", "rate": "2/second", "burst": 150},
            {"method": "INVITE", "per": "source_net", "rate": "10/second", "burst": 750},
            {"method": "any", "rate": "100/second", "burst": 1000},
        ),
    ),
    # Its REGISTER and INVITE lists counted the packet before they compared, so that the twelfth was dropped; here it passes.
    "hostfirewall": LimitPreset(
        "hostfirewall, a published iptables rule set of an Asterisk host",
        (
            {"method": "REGISTER", "rate": "12/minute", "engine": "recent"},
            {"method": "INVITE", "rate": "12/minute", "engine": "recent"},
            {"method": "any", "rate": "6/second", "burst": 5},
        ),
    ),
    "dos-filter": LimitPreset(
        "elektronikbasteln, article on Asterisk on a Raspberry Pi, its chains dos-filter-sip-external and dos-filter-ssh",
        ({"method": "any", "rate": "5/second", "burst": 30},),
        {"rate": "3/minute", "burst": 10},
    ),
}
