# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""voipsupport's ranges, as published: two hosters, CIDRs and dotted masks side by side.

Its author dropped the second one's packets on UDP alone; here, as with every list, nothing of a range passes.
"""

from __future__ import annotations

__all__ = ["PRESETS"]

from ._table import HOSTERS, RangePreset, noted

_SOURCE = "voipsupport, iptables rules against SIP scanners for Asterisk and FreePBX"
_UNDATED = "undated"
_REVIEWED = "2026-11-21"

PRESETS = (
    RangePreset(
        "voipsupport-ponytelecom",
        _SOURCE,
        _UNDATED,
        _REVIEWED,
        HOSTERS,
        "Whole ranges of a French hoster, by its name today's Scaleway and Online (unverified): anybody rents servers there, so do "
        "PBXs, SIP providers, mirrors and monitoring.",
        noted(
            "hoster 'Ponytelecom' (voipsupport, undated)",
            (
                "62.210.0.0/16",
                "195.154.0.0/16",
                "212.129.0.0/18",
                "62.4.0.0/19",
                "212.83.128.0/19",
                "212.83.160.0/19",
                "212.47.224.0/19",
                "163.172.0.0/16",
                "51.15.0.0/16",
                "151.115.0.0/16",
            ),
        ),
    ),
    RangePreset(
        "voipsupport-vitox",
        _SOURCE,
        _UNDATED,
        _REVIEWED,
        HOSTERS,
        "Small ranges of one hoster, named VITOX TELECOM by the author; whose they are today, and who rents there, is unverified.",
        noted(
            "hoster 'VITOX TELECOM' (voipsupport, undated)",
            (
                "77.247.109.0/255.255.255.0",
                "185.53.88.0/24",
                "185.53.89.0/24",
                "37.49.224.0/24",
                "37.49.230.0/24",
                "37.49.231.0/24",
                "77.247.110.0/255.255.255.0",
            ),
        ),
    ),
)
