# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""elektronikbasteln's addresses and ranges, as published. The two ranges of Microsoft are a preset of their own."""

from __future__ import annotations

__all__ = ["PRESETS"]

from ._table import ADDRESSES, HOSTERS, RangeEntry, RangePreset, noted

_SOURCE = "elektronikbasteln, article on Asterisk on a Raspberry Pi, its iptables rules"
_REVIEWED = "2026-11-21"
_SEEN = "seen attacking early in 2022 (elektronikbasteln)"

PRESETS = (
    RangePreset(
        "elektronikbasteln-addresses",
        _SOURCE,
        "early in 2022, when they were seen",
        _REVIEWED,
        ADDRESSES,
        "Single sources of early 2022, which their author blocked for ten days or more: who has these addresses today is unverified, "
        "and most likely not who attacked then.",
        (
            RangeEntry("92.204.184.94", _SEEN),
            RangeEntry("92.204.172.102", _SEEN),
            RangeEntry("193.46.255.40", _SEEN),
            RangeEntry("52.235.42.96", _SEEN),
            RangeEntry("20.36.8.51", _SEEN + ", in a range of Microsoft's"),
            RangeEntry("141.98.10.31", _SEEN),
            RangeEntry("104.149.132.74", _SEEN),
            RangeEntry("104.149.133.206", _SEEN),
            RangeEntry("104.149.138.66", _SEEN),
        ),
    ),
    RangePreset(
        "elektronikbasteln-ranges",
        _SOURCE,
        "undated",
        _REVIEWED,
        HOSTERS,
        "Three ranges without the name of an owner, from four addresses to a /19; whose they are, and who else sits in them, is "
        "unverified.",
        noted(
            "range without a name (elektronikbasteln, undated)",
            ("87.119.220.200-87.119.220.203", "45.134.144.0-45.134.144.255", "216.244.64.0-216.244.95.255"),
        ),
    ),
    RangePreset(
        "elektronikbasteln-microsoft",
        _SOURCE,
        "undated",
        _REVIEWED,
        HOSTERS,
        "Nine million addresses of Microsoft's. In them are Exchange Online (13.107.128.0/22), SharePoint (13.107.136.0/22) and, at least "
        "in 2022, media of Teams (13.107.64.0/18), says MicrosoftDocs/microsoft-365-docs, office-365-worldwide-endpoints.md; the rest is "
        "Azure, where anybody rents servers (unverified).",
        noted(
            "Microsoft (elektronikbasteln, undated)",
            ("20.33.0.0-20.128.255.255", "13.64.0.0-13.107.255.255"),
        ),
    ),
)
