# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For those who know their peers. Tier: aggressive. Each note says who may be hurt.

All of it is exact, or text that only one tool writes; what it hits besides scanners are old or rare real products.
What is in wide use is not even here (``Cisco-SIPGateway/IOS-12.x``, ``Asterisk PBX``, ``FreeSWITCH``), spoofed or not.
"""

from __future__ import annotations

__all__ = ["SIGNATURES"]

from ._table import table

_ELEKTRONIKBASTELN = "elektronikbasteln, published list"
_VOIPSUPPORT = "voipsupport, published list"
_FRAUD = "UserAd/data_science, VoIPfraud/en.md (fraud honeypot, 296 sources)"
_SIPTABLES = "paulseward/sip-hardening, siptables.sh"
_SMARTVOX = "Smartvox, 'How to spot hacker INVITE requests', 2017"
_KAZOO = "2600hz/kazoo-configs-kamailio#85 and #95, kamailio/sanity.cfg"

SIGNATURES = table(
    "aggressive",
    "aggressive",
    (
        ("exact", "eyeBeam release 3006o stamp 17551", "fraud diallers; hurts that build of eyeBeam (2006)", _FRAUD),
        ("exact", "eyeBeam release 3007n stamp 17816", "fraud diallers; hurts that build of eyeBeam (2006)", _FRAUD),
        ("exact", "eyeBeam release 3004t stamp 16741", "fraud diallers; hurts that build of eyeBeam (2006)", _FRAUD),
        (
            "exact",
            "eyeBeam release 3015c stamp 27107",
            "fraud diallers; hurts that build of eyeBeam (2006)",
            "suspect user agents of Pexip's policy examples",
        ),
        ("exact", "Cisco-SIPGateway/IOS-15.2.4.M5", "hurts Cisco gateways with that IOS: some trunks", _VOIPSUPPORT),
        ("exact", "Avaya IP Phone 1120E", "hurts 1120E phones whose firmware leaves out its version", _VOIPSUPPORT),
        ("exact", "Avaya one-X Deskphone", "hurts Avaya phones that leave out their version", _ELEKTRONIKBASTELN),
        ("exact", "Avaya J129 IP Phone", "hurts Avaya phones that leave out their version", _ELEKTRONIKBASTELN),
        (
            "exact",
            "Avaya Communicator for iPhone",
            "hurts Avaya clients that leave out their version",
            _ELEKTRONIKBASTELN,
        ),
        ("exact", "Linksys-SPA942", "hurts SPA942 phones of that firmware", _ELEKTRONIKBASTELN),
        ("exact", "Linksys/SPA942", "hurts SPA942 phones set not to tell their version", _ELEKTRONIKBASTELN),
        ("exact", "PhonerLite/2.95", "hurts PhonerLite 2.95", _ELEKTRONIKBASTELN),
        ("exact", "FPBX-2.11.0(11.8.1)", "hurts FreePBX 2.11 with Asterisk 11.8.1 (2014)", _ELEKTRONIKBASTELN),
        ("exact", "FreePBX 1.8", "hurts PBXs whose administrator chose that name", _SMARTVOX),
        ("exact", "AGFEO SIP V3.00.15 b  ", "hurts AGFEO systems of that firmware", _ELEKTRONIKBASTELN),
        ("exact", "Z 3.14.38765 rv2.8.3", "hurts Zoiper 3.14", _ELEKTRONIKBASTELN),
        (
            "exact",
            "Alcatel-Lucent 5060 MGC-89.3.0.7.0.4",
            "hurts carriers' gateways of that release",
            _ELEKTRONIKBASTELN,
        ),
        ("exact", "SylkServer-5.2.0", "hurts SylkServer 5.2.0", _ELEKTRONIKBASTELN),
        ("exact", "DX800A/41.175.00.000.000", "hurts Gigaset DX800A of that firmware", _ELEKTRONIKBASTELN),
        ("exact", "Ozeki VoIP SIP SDK v1.3.6", "hurts applications built on that SDK", _ELEKTRONIKBASTELN),
        ("exact", "Sphairon-SL5501-4.38.2.04.01", "hurts routers of that firmware", _ELEKTRONIKBASTELN),
        ("exact", "3CXPhoneSystem 15.0.59950.0 (59299)", "hurts 3CX 15 of that build", _ELEKTRONIKBASTELN),
        ("exact", "Yealink SIP-T21P_E2 52.80.0.130", "hurts Yealink T21P E2 of that firmware", _ELEKTRONIKBASTELN),
        (
            "exact",
            "PolycomVVX-VVX_300-UA/4.1.6.4835 v11.0.0",
            "hurts Polycom VVX 300 of that firmware",
            _ELEKTRONIKBASTELN,
        ),
        ("exact", "PortSIP VoIP SDK 11.2", "fraud diallers; hurts applications built on that SDK", _KAZOO),
        ("exact", "SimpleSIP V4.3", "hurts users of that softphone, if there are any", _SMARTVOX),
        ("exact", "Custom SIP Phone", "hurts clients that were never given a name", _SIPTABLES),
        ("exact", "MGKsip release 1110", "unknown; hurts that softphone, if it exists", _ELEKTRONIKBASTELN),
        ("exact", "OpenEndPBX", "unknown; hurts that PBX, if it exists", _ELEKTRONIKBASTELN),
        ("exact", "Zed-1.5", "unknown", _ELEKTRONIKBASTELN),
        ("exact", "Mm-21.3", "unknown", _ELEKTRONIKBASTELN),
        ("payload", "s=portsip.com", "fraud diallers; hurts everything built on the PortSIP SDK", _KAZOO),
        (
            "payload",
            "sipp <sip:",
            "SIPp's default From, compact form too; hurts your own load tests",
            _ELEKTRONIKBASTELN,
        ),
        (
            "payload",
            "Subject: Performance Test",
            "SIPp's default scenarios; hurts your own load tests",
            "SIPp, embedded scenarios",
        ),
        (
            "payload",
            "sip:carol@chicago.com",
            "replayed example of RFC 3261; hurts test tools that use it",
            _ELEKTRONIKBASTELN,
        ),
    ),
)
