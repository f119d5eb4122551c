# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published rules of an Asterisk host, for iptables-restore; and what counts behind every rule."""

from __future__ import annotations

import json

__all__ = ["SETS", "counters", "published", "reached"]

# The sets that the rules name. They are empty: what would fill them is not part of the rules.
SETS = ("create fail2ban-ASTERISK hash:ip -exist", "create voip_bl hash:net -exist")

_SIP = "--dport 5060:5061"
_REFUSE = "-j REJECT --reject-with icmp-port-unreachable"


def _says(text: str) -> str:
    return f'-m string --string "{text}" --algo bm'


def published(lan: str, proxy: str) -> str:
    """The INPUT chain in its published order for the site's own network ``lan`` and its provider's ``proxy``; IPv4 only, as it is."""
    sip = f"-p udp {_SIP}"
    rules = [
        *(
            f"-p {protocol} -m multiport --dports 5060,5061 -m set --match-set fail2ban-ASTERISK src {_REFUSE}"
            for protocol in ("udp", "tcp")
        ),
        "-p tcp --dport 22 -j fail2ban-ssh",
        "-m set --match-set voip_bl src -j DROP",
        "-i lo -j ACCEPT",
        *(f"-p udp --dport {ports} -j ACCEPT" for ports in ("10000:20000", "2727", "4569")),
        *(f"-s {lan} -p {protocol} {_SIP} -j ACCEPT" for protocol in ("udp", "tcp")),
        f"-s {proxy} {sip} -j ACCEPT",
        f"{sip} {_says('User-Agent: VaxSIPUserAgent')} -j DROP",
        f"{sip} {_says('User-Agent: friendly-scanner')} {_REFUSE}",
    ]
    for method, name in (("REGISTER", "VOIP"), ("INVITE", "VOIPINV")):
        recent = f"{sip} {_says(f'{method} sip:')} -m recent --name {name} --rsource"
        rules += [f"{recent} --set", f"{recent} --update --seconds 60 --hitcount 12 --rttl -j DROP"]
    limit = (
        "-m hashlimit --hashlimit-upto 6/sec --hashlimit-burst 5 --hashlimit-mode srcip,dstport --hashlimit-name sip"
    )
    rules += [f"-p {protocol} {_SIP} {limit} -j ACCEPT" for protocol in ("tcp", "udp")]
    rules.append(f"-s {lan} -p icmp -j ACCEPT")
    rules += [
        f"-s {lan} -p tcp --dport {port} -j ACCEPT"
        for port in (137, 138, 139, 445, 10000, 22, 123, 5038, 58080, 55050, 514)
    ]
    rules += [f"-s {lan} -p udp --dport {port} -j ACCEPT" for port in (123, 514)]
    rules += [f"-p tcp --dport {port} -j ACCEPT" for port in (80, 443)]
    rules += ["-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-j DROP"]
    lines = ["*filter", ":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", ":fail2ban-ssh -"]
    return "\n".join([*lines, *(f"-A INPUT {rule}" for rule in rules), "COMMIT", ""])


def counters(attackers: str) -> str:
    """For nft: counts what of ``attackers`` gets past every rule of the INPUT hook to the SIP port; what it had counted is forgotten."""
    table = "table ip bench"
    hook = "type filter hook input priority 400;"
    rule = f"ip saddr {attackers} udp dport 5060 counter"
    return f"{table}\ndelete {table}\n{table} {{\nchain reached {{\n{hook}\n{rule}\n}}\n}}\n"


def reached(listing: str) -> int:
    """The packets in ``listing``, which is `nft -j list table ip bench`."""
    rules = [item["rule"] for item in json.loads(listing)["nftables"] if "rule" in item]
    return sum(part["counter"]["packets"] for rule in rules for part in rule["expr"] if "counter" in part)
