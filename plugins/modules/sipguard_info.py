#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sipguard_info
short_description: Find out what sipguard does on a host, and to whom
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - What the commands C(sipguard status) and C(sipguard why) say, as values, whether or not the command is installed on the host.
  - A host without iptables or ipset is one on which nothing is managed.
options:
  addresses:
    description: Addresses of which to find out what stops them, as C(sipguard why) does.
    type: list
    elements: str
    default: []
  ports:
    description: Ports of which to find out whether anything listens to them.
    type: list
    elements: int
    default: []
requirements:
  - root, or CAP_NET_ADMIN in a container
attributes:
  check_mode:
    description: Can run in check mode. It never changes anything.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  idempotent:
    description: It never changes anything.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: linux
seealso:
  - module: sipguard.pbx.sip_probe
"""

EXAMPLES = r"""
- name: See what protects the host, and what it does to the controller
  sipguard.pbx.sipguard_info:
    addresses: [192.0.2.7]
  register: sipguard

- name: Stop where nothing protects it
  ansible.builtin.assert:
    that: sipguard.protected
"""

RETURN = r"""
protected:
  description: Whether every family that is managed is whole, and stops something.
  returned: always
  type: bool
observing:
  description: Whether everything is whole, and something only observes.
  returned: always
  type: bool
backend:
  description: V(nft) or V(legacy).
  returned: always
  type: str
families:
  description:
    - V(ipv4) and V(ipv6), as far as the kernel has them.
    - >-
      Each has its C(state), its C(table), its C(members), those of them that stop anything (C(stopping)),
      the ports on which a gate judges TLS by its server name (C(tls_ports)), the number of its C(rules),
      C(stopped_packets), C(observed_packets), and the signatures that hit most (C(top)).
  returned: always
  type: dict
  sample:
    ipv4:
      state: protected
      table: filter
      members: [SIPGUARD-RATE, SIPGUARD-UA]
      stopping: [SIPGUARD-RATE, SIPGUARD-UA]
      tls_ports: []
      rules: 91
      stopped_packets: 1204
      observed_packets: 0
      top: [{signature: anywhere friendly-scanner, packets: 1203}]
asterisk:
  description: Whether Asterisk is installed.
  returned: always
  type: bool
listening:
  description: Those of O(ports) to which something listens, each with its protocol.
  returned: always
  type: list
  elements: str
  sample: [tcp 5060, udp 5060]
sipband:
  description: What the service sipband does, in a few words; empty where there is none.
  returned: always
  type: str
  sample: listens to Asterisk
sets:
  description: Sipguard's sets and how many entries each has.
  returned: always
  type: dict
  sample: {"sipguard-offenders4": 3}
addresses:
  description:
    - >-
      Each of O(addresses) with C(stopped), whether something stops it altogether, and C(found), the sets it is in, each with its
      C(entry) and the C(seconds_left) (0 for ever).
    - >-
      C(findings) is everything that concerns it, in the order in which a packet meets it, each with C(what), C(stops) and a C(text)
      for people. C(what) is one of V(trusted), V(known), V(learned), V(banned), V(blocked), V(watched), V(listed), V(exception), V(limit),
      V(host), V(judged), V(observed), V(foreign) and V(problem).
  returned: always
  type: dict
  sample:
    203.0.113.66:
      address: 203.0.113.66
      stopped: true
      found:
        sipguard-banned: {set: sipguard-banned4, entry: 203.0.113.66, seconds_left: 86100, reason: password guessing}
      findings:
        - what: banned
          stops: true
          text: "banned, 23 h 55 min left, reason 'password guessing': all its packets are dropped (sipguard-banned4)"
          set: sipguard-banned4
          entry: 203.0.113.66
          seconds_left: 86100
          reason: password guessing
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host import report
from ..module_utils._host.listeners import listeners
from ..module_utils._host.why import Scene, parse_address
from ..module_utils._netfilter.persist import Store
from ..module_utils._netfilter.runner import runner_for
from ..module_utils._sip.errors import SipguardError


def main() -> None:
    """The host -> findings."""
    module = AnsibleModule(
        argument_spec=dict(
            addresses=dict(type="list", elements="str", default=[]), ports=dict(type="list", elements="int", default=[])
        ),
        supports_check_mode=True,
    )
    try:
        addresses = {entry: parse_address(entry) for entry in module.params["addresses"]}
        runner = runner_for(check=True)  # while nothing is installed, nothing is managed
        found = report.status(runner, Store())[0]
        scene = Scene(runner) if addresses else None
        why = {entry: scene.explain(address)[0] for entry, address in addresses.items()} if scene else {}
    except SipguardError as error:
        module.fail_json(msg=str(error))
    names = ("protected", "observing", "backend", "families", "sets", "sipband")
    asterisk = runner.which("asterisk") is not None
    listening = sorted(listeners(module.params["ports"]))
    module.exit_json(
        changed=False, addresses=why, asterisk=asterisk, listening=listening, **{name: found[name] for name in names}
    )


if __name__ == "__main__":
    main()
