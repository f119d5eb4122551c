# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules as other programs leave them on a PBX host, and what is left of a rule set without ours."""

from __future__ import annotations

import re

__all__ = ["FOREIGN", "FOREIGN_NFT", "FOREIGN_SETS", "foreign_part", "own_part"]

FOREIGN_SETS = """\
create f2b-sshd hash:ip family inet timeout 600
add f2b-sshd 203.0.113.201
create apiban hash:ip family inet
add apiban 203.0.113.202
create sipguardian hash:net family inet
add sipguardian 203.0.113.128/25
"""

# fail2ban, ufw, Docker, a person's own; `{reject}` is the family's ICMP type
FOREIGN = """\
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 53 -j NOTRACK
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -p udp -m udp --sport 5060 -j DSCP --set-dscp 0x1a
-A INPUT -i lo -j MARK --set-xmark 0x1/0xffffffff
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s {lan} ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:SIPGUARDIAN - [0:0]
:f2b-asterisk - [0:0]
:ufw-before-input - [0:0]
-A INPUT -p udp -m multiport --dports 5060,5061 -j f2b-asterisk
-A INPUT -j ufw-before-input
-A INPUT -p tcp -m tcp --dport 22 -m comment --comment "a person's rule" -j ACCEPT
-A INPUT -s {banned} -j SIPGUARDIAN
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A DOCKER-USER -j RETURN
-A SIPGUARDIAN -j DROP
-A f2b-asterisk -s {banned} -j REJECT --reject-with {reject}
-A f2b-asterisk -j RETURN
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
COMMIT
"""

FOREIGN_NFT = """\
table inet custom {
    set blocked {
        type ipv4_addr
        elements = { 203.0.113.210 }
    }
    chain input {
        type filter hook input priority -5; policy accept;
        ip saddr @blocked counter drop
        udp dport 5060 counter accept
    }
}
"""

_OWN = re.compile(r"^:SIPGUARD[- ]|(^-A |-[jg] )SIPGUARD(-[A-Z0-9_-]+)?( |$)")
_GENERATION = re.compile(r"0x[48c]000000/0xc000000")


def _blocks(saved: str) -> list[list[str]]:
    blocks: list[list[str]] = []
    for line in saved.split("\n"):
        if line.startswith("*"):
            blocks.append([])
        if line and line != "COMMIT":
            blocks[-1].append(line)
    return blocks


def foreign_part(saved: str) -> str:
    """A saved rule set without our chains and hooks, and without tables in which nothing is said any more.

    The kernel offers no way to take a built-in table back once somebody has used it.
    """
    kept = []
    for block in _blocks(saved):
        lines = [line for line in block if not _OWN.search(line)]
        if any(not line.startswith(("*", ":")) or (line.startswith(":") and " ACCEPT " not in line) for line in lines):
            kept += lines
    return "\n".join(kept)


def own_part(saved: str) -> str:
    """Our chains and hooks in a saved rule set, whatever generation they are."""
    kept = []
    for block in _blocks(saved):
        lines = [line for line in block if _OWN.search(line)]
        kept += [block[0], *lines] if lines else []
    return _GENERATION.sub("GENERATION", "\n".join(kept))
