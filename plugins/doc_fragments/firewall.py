# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options, results and notes that the firewall modules have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of module_utils/_netfilter/options.py."""

    DOCUMENTATION = r"""
options:
  state:
    description:
      - V(present) makes the rules what the options say.
      - V(absent) removes what this module made, and with the last of sipguard's rules also its hooks, sets and files.
    type: str
    choices: [present, absent]
    default: present
  mode:
    description:
      - V(enforce) stops what matches.
      - >-
        V(observe) stops nothing. It counts in the rules' counters what would have been stopped, and keeps each source for a week
        in the sets C(sipguard-observed4) and C(sipguard-observed6), so that new rules can run for a while before they bite.
    type: str
    choices: [enforce, observe]
    default: enforce
  families:
    description:
      - Address families that get these rules. A family left out has none of them afterwards.
      - A family that the host's kernel does not have is passed over.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  action:
    description: What happens to a packet that is to be stopped. V(reject) tells a scanner that somebody is there.
    type: str
    choices: [drop, reject]
    default: drop
  reject_with:
    description:
      - The answer under O(action=reject), by its IPv4 name. IPv6 gets the one that means the same.
      - V(tcp-reset) is for TCP. UDP then gets V(icmp-port-unreachable).
    type: str
    choices: [icmp-port-unreachable, icmp-admin-prohibited, icmp-host-unreachable, tcp-reset]
    default: icmp-port-unreachable
  table:
    description:
      - The table whose INPUT chain leads to the rules. All of sipguard's modules share one, so the last one that runs decides.
      - V(mangle) is for hosts on which another program (FreePBX's firewall) flushes the filter table.
    type: str
    choices: [filter, mangle]
    default: filter
  backend:
    description: Which iptables to use. V(auto) takes what the command C(iptables) is on the host.
    type: str
    choices: [auto, nft, legacy]
    default: auto
  persist:
    description:
      - Write the rules to C(/etc/sipguard) for the next boot.
      - They are loaded there by C(sipguard-restore.service), which M(sipguard.pbx.sipguard_host) installs.
    type: bool
    default: true
  lock_timeout:
    description: How many seconds to wait for another program that holds the xtables lock.
    type: int
    default: 30
  switch:
    description:
      - The cookie of the dead-man's switch (M(sipguard.pbx.sipguard_switch)) under which this run changes the rules.
      - >-
        The module fails, and changes nothing, unless that cookie is still pending: what is changed after the timer has run out
        would stay, and nobody would confirm it. Empty means that no switch is used.
    type: str
    default: ""
  mark_mask:
    description:
      - >-
        The bits of the connection mark that hold which generation of the rules has admitted a conversation:
        two to eight neighbouring bits that nothing else on the host uses. The other bits are never touched.
    type: str
    default: "0x0c000000"
requirements:
  - iptables 1.8 (nft or legacy) and ipset 7 on the host
  - root, or CAP_NET_ADMIN and CAP_NET_RAW in a container
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change.
    support: full
  diff_mode:
    description: Returns the rules before and after as iptables-save prints them.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
"""
    # What selects the traffic, for all modules but those that all traffic meets.
    SELECTION = r"""
options:
  ports:
    description:
      - Destination ports to look at, each a port (V(5060)) or a range (V(5060:5061)).
      - The payload of TLS is encrypted. What the rules search for can only be found on ports with plain SIP.
    type: list
    elements: str
    default: ["5060:5061"]
  protocols:
    description: Transports to look at.
    type: list
    elements: str
    choices: [udp, tcp]
    default: [udp, tcp]
  interfaces:
    description: Network interfaces to look at, such as V(eth0) or V(wg+). Empty means all.
    type: list
    elements: str
    default: []
"""
