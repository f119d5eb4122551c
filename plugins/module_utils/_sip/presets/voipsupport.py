# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""voipsupport's list, as published: substrings that name the header, hence prefixes here. Tier: published.

Its author's notes of protocols (most on UDP and TCP, a few on UDP alone) are not kept: every rule covers both.
"""

from __future__ import annotations

__all__ = ["SIGNATURES"]

from ._table import published

_SOURCE = "voipsupport, iptables rules against SIP scanners for Asterisk and FreePBX"

SIGNATURES = published(
    "voipsupport",
    _SOURCE,
    (
        ("User-Agent: friendly-scanner", "sipvicious"),
        ("User-Agent: sipcli", "sipcli, a command-line caller"),
        ("User-Agent: sipvicious", "sipvicious"),
        ("User-Agent: VaxSIPUserAgent", "VaxVoIP SDK, the base of many fraud diallers"),
        ("sip:a'or'3=3--@", "SQL injection in the user part"),
        ("User-Agent: PolycomSoundPointIP SPIP_550 UA 3.3.2.0413", "poses as a Polycom phone, whose own has hyphens"),
        ("User-Agent: Avaya IP Phone 1120E", "poses as an Avaya phone; stops the real one too"),
        ("User-Agent: Cisco-SIPGateway/IOS-15.2.4.M5", "poses as a Cisco gateway; stops the real one too"),
        ("User-Agent: PolycomVVX-VVX_401-UA5.4.1.18405", "poses as a Polycom phone, whose own has a slash"),
        ("User-Agent: eyeBeam release 3006o stamp 17551", "poses as a softphone of 2006; stops the real one too"),
        ("User-Agent: owenee", "scanner of unknown make"),
        ("User-Agent: Custom", "scanner of unknown make; an ordinary word"),
        ("User-Agent: SIP", "scanner of unknown make; stops SIP.js and others too"),
        ("User-Agent: gazllove", "scanner of unknown make"),
        ("User-Agent: pplsip", "sippts"),
        ("User-Agent: sip-scan", "sip-scan"),
        ("User-Agent: sipsak", "sipsak, a test tool"),
        ("User-Agent: sundayddr", "modified sipvicious"),
        ("User-Agent: iWar", "iWar, a war dialler"),
        ("User-Agent: CSipSimple", "Android softphone; stops the real one too"),
        ("User-Agent: SIVuS", "SIVuS, a vulnerability scanner"),
        ("User-Agent: Gulp", "scanner of unknown make"),
        ("User-Agent: sipv", "sipvicious"),
        ("User-Agent: smap", "smap, a fingerprinting scanner"),
        ("User-Agent: friendly-request", "modified sipvicious"),
        ("User-Agent: VaxIPUserAgent", "VaxVoIP SDK"),
        ("User-Agent: siparmyknife", "SIP Army Knife, a fuzzer"),
        ("User-Agent: Test", "test scripts; an ordinary word"),
    ),
)
