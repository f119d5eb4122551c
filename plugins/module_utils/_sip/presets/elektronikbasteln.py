# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""elektronikbasteln's list, as published: strings searched for anywhere in a packet. Tier: published.

Entries with ``%20`` never match as their author wrote them; here they are decoded. Several stop ordinary traffic
(``-`` stops every request there is): the lint refuses those by name, which is how this list can be used at all.
"""

from __future__ import annotations

__all__ = ["SIGNATURES"]

from ._table import published

_SOURCE = "elektronikbasteln, article on Asterisk on a Raspberry Pi, its iptables rules"
_IMPOSTOR = "poses as a real product; stops the real one too"
_UNKNOWN = "scanner of unknown make"

SIGNATURES = published(
    "elektronikbasteln",
    _SOURCE,
    (
        ("friendly-scanner", "sipvicious"),
        ("VaxSIPUserAgent", "VaxVoIP SDK, the base of many fraud diallers"),
        ("sundayddr", "modified sipvicious"),
        ("sipsak", "sipsak, a test tool"),
        ("sipvicious", "sipvicious"),
        ("iWar", "iWar, a war dialler"),
        ("sip-scan", "sip-scan"),
        ("sipcli", "sipcli, a command-line caller"),
        ("ppslip", "sippts, misspelt"),
        ("eyeBeam", _IMPOSTOR),
        ("sip:nm2@nm2", "nmap's service probe"),
        ("sip:n@n", "nmap's service probe, misread"),
        ("sip:nm@nm", "nmap's service probe"),
        ("VaxSIPUserAgent/3.1", "VaxVoIP SDK"),
        ("VaxSIPUserAgent/3.5", "VaxVoIP SDK"),
        ("sipcli/v1.8", "sipcli"),
        ("sipcli/v2.2", "sipcli"),
        ("sipcli/v", "sipcli"),
        ("CSipSimple", _IMPOSTOR),
        ("SIVuS", "SIVuS, a vulnerability scanner"),
        ("Gulp", _UNKNOWN),
        ("sipv", "sipvicious"),
        ("smap", "smap, a fingerprinting scanner"),
        ("friendly-request", "modified sipvicious"),
        ("VaxIPUserAgent", "VaxVoIP SDK"),
        ("siparmyknife", "SIP Army Knife, a fuzzer"),
        ("Test Agent", "test scripts"),
        ("TestAgent", "test scripts"),
        ("User-Agent: sipcli", "sipcli"),
        ("User-Agent: Nmap NSE", "nmap's SIP scripts"),
        ("From: sipp <sip:", "SIPp, a load generator"),
        ("From: sipp <sip:", "SIPp, a load generator"),
        ("User-Agent: VaxSIPUserAgent", "VaxVoIP SDK"),
        ("PortSip", "PortSIP SDK; stops its real clients too"),
        ("ppIsip", "sippts, misspelt"),
        ("pplsip", "sippts"),
        ("sip:carol@chicago.com", "an example of RFC 3261"),
        ("sipfurious", "SIPfurious, a scanner"),
        ("FPBX", _IMPOSTOR),
        ("MGKsip%20release%201110", _UNKNOWN),
        ("Cisco", _IMPOSTOR),
        ("Avaya%20IP%20Phone%201120E", _IMPOSTOR),
        ("Linksys-SPA942", _IMPOSTOR),
        ("ims", "stops every IMS trunk"),
        ("PhonerLite/2.95", _IMPOSTOR),
        ("Avaya%20one-X%20Deskphone", _IMPOSTOR),
        ("erafsadfasfa", _UNKNOWN),
        ("Cisco-SIPGateway/IOS-12.x", _IMPOSTOR),
        ("Cisco-SIPGateway", _IMPOSTOR),
        ("FPBX-2.11.0(11.8.1)", _IMPOSTOR),
        ("A2billingPBXooooPoPcisco", _UNKNOWN),
        ("Linksys/SPA942", _IMPOSTOR),
        ("AGFEO%20SIP%20V3.00.15%20b%20%20", _IMPOSTOR),
        ("Z%203.14.38765%20rv2.8.3", _IMPOSTOR),
        ("0000000000", "stops every Cisco phone (nil UUID of RFC 7989)"),
        ("Zed-1.5", _UNKNOWN),
        ("OpenEndPBX", _UNKNOWN),
        ("TEST", "an ordinary word"),
        ("Mm-21.3", _UNKNOWN),
        ("eyeBeam%20release%203007n%20stamp%2017816", _IMPOSTOR),
        ("-", "stops every SIP request there is"),
        ("Avaya%20J129%20IP%20Phone", _IMPOSTOR),
        ("cisco", "a scanner that calls itself so; stops every Cisco device too"),
        ("Linksys-SPA942", _IMPOSTOR),
        ("Alcatel-Lucent%205060%20MGC-89.3.0.7.0.4", _IMPOSTOR),
        ("PBX", "an ordinary word"),
        ("FreeSWITCH", _IMPOSTOR),
        ("Z%203.14.38765%20rv2.8.3", _IMPOSTOR),
        ("SylkServer-5.2.0", _IMPOSTOR),
        ("FOXOA2billingPBXooooPoPcisco", _UNKNOWN),
        ("Asterisk%20PBX", _IMPOSTOR),
        ("Avaya%20Communicator%20for%20iPhone", _IMPOSTOR),
        ("DX800A/41.175.00.000.000", _IMPOSTOR),
        ("Ozeki%20VoIP%20SIP%20SDK%20v1.3.6", _IMPOSTOR),
        ("Sphairon-SL5501-4.38.2.04.01", _IMPOSTOR),
        ("3CXPhoneSystem%2015.0.59950.0%20(59299)", _IMPOSTOR),
        ("Yealink%20SIP-T21P_E2%2052.80.0.130", _IMPOSTOR),
        ("PolycomVVX-VVX_300-UA/4.1.6.4835%20v11.0.0", _IMPOSTOR),
    ),
    anchored=False,
)
