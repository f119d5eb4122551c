# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two User-Agent rules of the published host firewall, as published. Tier: published."""

from __future__ import annotations

__all__ = ["SIGNATURES"]

from ._table import published

_SOURCE = "host firewall for Asterisk with ipset, recent and hashlimit, published rule set"

SIGNATURES = published(
    "hostfirewall",
    _SOURCE,
    (
        ("User-Agent: VaxSIPUserAgent", "VaxVoIP SDK, the base of many fraud diallers"),
        ("User-Agent: friendly-scanner", "sipvicious"),
    ),
)
