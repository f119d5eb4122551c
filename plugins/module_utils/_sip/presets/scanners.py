# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The default list. Tier: safe. No phone, client, PBX or trunk in use may ever be stopped by an entry of it.

How an entry matches follows from its word:

- invented words of at least six letters: ``anywhere``, so that an odd spelling of the header line (``User-agent:x``,
  two blanks, a tab, a folded line) does not help the attacker;
- short or less odd names of tools: ``prefix``;
- ordinary words, and what poses as something else: ``exact``, which nothing but the scanner sends;
- text that tools put elsewhere, and that survives a changed User-Agent: ``payload``.

Left out on purpose: names of real clients and makers however often scanners borrow them (CSipSimple, eyeBeam, FPBX,
Cisco-SIPGateway, PortSIP, Zoiper builds; see ``aggressive``), and SIPp, with which administrators test their own PBX.
sipsak is listed: both published lists have it. A host that monitors with sipsak belongs among the trusted ones.
"""

from __future__ import annotations

__all__ = ["SIGNATURES"]

from ._table import table

_BOTH = "voipsupport and elektronikbasteln, published lists"
_VOIPSUPPORT = "voipsupport, published list"
_ELEKTRONIKBASTELN = "elektronikbasteln, published list"
_SIPVICIOUS = "EnableSecurity/sipvicious, libs/svhelper.py and svmap.py"
_SIPPTS = "Pepelux/sippts"
_KAZOO = "2600hz/kazoo-configs-kamailio, kamailio/sanity.cfg"
_SIPTABLES = "paulseward/sip-hardening, siptables.sh (strings of a honeypot)"
_EMERGING = "Emerging Threats rule {}, lcpdn/docs-suricata"
_PEXIP = "suspect user agents of Pexip's log tools and policy examples"
_SMARTVOX = "Smartvox, 'How to spot hacker INVITE requests', 2016 and 2017"

SIGNATURES = table(
    "scanners",
    "safe",
    (
        ("anywhere", "friendly-scanner", "sipvicious, as it comes", _SIPVICIOUS),
        ("anywhere", "friendly-request", "modified sipvicious", _BOTH),
        ("anywhere", "sipvicious", "sipvicious: User-Agent, or display name in From", _SIPVICIOUS),
        ("anywhere", "sundayddr", "modified sipvicious of the Sality botnet", _EMERGING.format(2011766)),
        ("anywhere", "sundayaddr", "the same, another spelling", _SIPTABLES),
        ("anywhere", "siparmyknife", "SIP Army Knife, a fuzzer", _BOTH),
        ("anywhere", "sipfurious", "SIPfurious, a scanner", _ELEKTRONIKBASTELN),
        ("anywhere", "VaxSIPUserAgent", "VaxVoIP SDK, the base of many fraud diallers", _BOTH),
        ("anywhere", "VaxIPUserAgent", "VaxVoIP SDK", _BOTH),
        ("anywhere", "sipptk", "sippts, older releases (sipscan.pl)", _SIPPTS),
        # Not "sipcli" anywhere: with case ignored it is part of "SipClient".
        ("anywhere", "sipcli/v", "sipcli, a command-line caller", _BOTH),
        ("anywhere", "erafsadfasfa", "scanner of unknown make", _ELEKTRONIKBASTELN),
        ("anywhere", "fgfdhgfxjfhyjhkj", "scanner of unknown make", _SIPTABLES),
        ("anywhere", "A2billingPBXooooPoPcisco", "scanner of unknown make, FOXOA2billing... too", _ELEKTRONIKBASTELN),
        ("prefix", "sipsak", "sipsak, a test tool", _BOTH),
        # Not anywhere: they are parts of names ("sip-scania.example", "applsip.example").
        ("prefix", "sip-scan", "sip-scan", _BOTH),
        ("prefix", "pplsip", "sippts, as it comes", _SIPPTS),
        ("prefix", "SIVuS", "SIVuS, a vulnerability scanner", _BOTH),
        ("prefix", "iWar", "iWar, a war dialler", _BOTH),
        ("prefix", "smap", "smap, a fingerprinting scanner", _BOTH),
        ("prefix", "Gulp", "scanner of unknown make", _BOTH),
        ("prefix", "sipscan", "sipscan", _SIPTABLES),
        ("prefix", "Nmap NSE", "nmap's SIP scripts", _ELEKTRONIKBASTELN),
        ("prefix", "owenee", "scanner of unknown make", _VOIPSUPPORT),
        ("prefix", "gazllove", "scanner of unknown make", _VOIPSUPPORT),
        ("prefix", "ppslip", "sippts, misspelt by its users", _ELEKTRONIKBASTELN),
        ("prefix", "ppIsip", "sippts, misspelt by its users", _ELEKTRONIKBASTELN),
        ("prefix", "UsaAirport", "scanner of unknown make", _PEXIP),
        ("prefix", "aaaaaaaa", "scanner of unknown make", _SIPTABLES),
        ("prefix", "FourCats", "scanner of unknown make", _SIPTABLES),
        ("exact", "sipcli", "sipcli, without its version", _BOTH),
        ("exact", "sipv", "sipvicious, shortened", _BOTH),
        ("exact", "NiceGuy", "scanner of unknown make", _KAZOO),
        ("exact", "dr.pes", "scanner of unknown make", _SIPTABLES),
        ("exact", "A_B_C", "scanner of unknown make", _SIPTABLES),
        ("exact", "China", "scanner of unknown make", _SIPTABLES),
        ("exact", "Asterix PBX", "poses as Asterisk and misspells it", _SIPTABLES),
        ("exact", "cisco", "poses as Cisco, whose devices send longer values", _PEXIP),
        ("exact", "ciscovoipswichpbx", "scanner of unknown make", _PEXIP),
        (
            "exact",
            "PolycomSoundPointIP SPIP_550 UA 3.3.2.0413",
            "poses as a Polycom, which has hyphens",
            "voipsupport, published list; seen in InnovateAsterisk/Browser-Phone#301",
        ),
        ("exact", "PolycomVVX-VVX_401-UA5.4.1.18405", "poses as a Polycom, which has a slash", _VOIPSUPPORT),
        ("exact", "Test Agent", "test scripts", _BOTH + " (voipsupport: Test)"),
        ("exact", "TestAgent", "test scripts", _ELEKTRONIKBASTELN),
        ("exact", "Test", "test scripts", _BOTH),
        ("exact", "Custom", "scanner of unknown make", _VOIPSUPPORT),
        ("exact", "SIP", "scanner of unknown make", _VOIPSUPPORT),
        ("exact", "SIP Call", "scanner of unknown make", _SMARTVOX),
        ("exact", "VOIP", "scanner of unknown make", "SikkerAPI blog, 'SIP Campaign Observed Across 39 Sensors', 2026"),
        ("exact", "PBX", "scanner of unknown make", _ELEKTRONIKBASTELN),
        ("exact", "ims", "scanner of unknown make", _ELEKTRONIKBASTELN),
        ("exact", "x", "scanner of unknown make", _SIPTABLES),
        ("exact", "-", "scanner of unknown make", _ELEKTRONIKBASTELN),
        ("exact", "0000000000", "scanner of unknown make", _ELEKTRONIKBASTELN),
        ("payload", '"sipvicious"', "sipvicious, whose compact form (-c) has no User-Agent", _SIPVICIOUS),
        ("payload", "sip:100@1.1.1.1", "sipvicious and its kin, default From", _SIPVICIOUS + "; " + _SMARTVOX),
        ("payload", "sip:123@1.1.1.1", "sipvicious, default Contact", _SIPVICIOUS),
        ("payload", '"sipsscuser"', "modified sipvicious, From", _EMERGING.format(2012204)),
        ("payload", 'ccxllrlflgig"<sip:100', "modified sipvicious, From", _EMERGING.format(2011422)),
        ("payload", "sip:thisisthecanary@", "scanner of SIP phones, Request-URI", "Emerging Threats, VoIP rules"),
        ("payload", "<sip:smap@", "smap, From", "Emerging Threats, VoIP rules"),
        (
            "payload",
            ";tag=70c00e8c",
            "Metasploit's SIP modules, tag of From",
            "rapid7/metasploit-framework, SIP options and enumerator modules",
        ),
        ("payload", "s=SIPPTS", "sippts, session name", _SIPPTS),
        ("payload", "o=sipcli-Session", "sipcli, session origin", "KaplanSoft SipCLI, its SDP"),
        (
            "payload",
            "<sip:nm@nm>",
            "nmap's service probe, From and Contact",
            "nmap, nmap-service-probes (SIPOptions); State of Security, SIP probes captured in 2013",
        ),
        ("payload", "<sip:nm2@nm2>", "nmap's service probe, To", "nmap, nmap-service-probes (SIPOptions)"),
        ("payload", "sip:a'or'3=3--@", "SQL injection in the user part", _VOIPSUPPORT),
    ),
)
