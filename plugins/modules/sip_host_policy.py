#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sip_host_policy
short_description: The host's own firewall, which services it offers and to whom
version_added: 0.2.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    Lets in what a table of services allows, and what the host itself has asked for. Everything else that is addressed to the host is
    stopped.
  - >-
    A running conversation that somebody else has opened has to meet a changed table like a new one. Downloads, DNS and registrations
    of the host's own go on.
  - >-
    It lets in what a host cannot live without, whatever the table says: ICMP errors, IPv6 neighbours, routers and multicast listeners,
    the answers of a DHCP server, and what a connection tracking helper expects.
  - >-
    What it lets in goes on to the gate, the signatures and the rules of other programs. It opens nothing that another firewall has
    closed. It also holds for trusted sources (M(sipguard.pbx.sip_trust)). The limits of M(sipguard.pbx.sip_ratelimit) come before it.
extends_documentation_fragment:
  - sipguard.pbx.firewall
options:
  services:
    description:
      - Changes to the table, in order. An entry changes the service of its name, and a new name adds a service.
      - >-
        The table without changes: V(sip), V(sips), V(rtp) for everyone, V(iax2) for the trunks, V(ssh), V(http) and V(https) for
        admins and lan, V(ntp) for the lan, V(icmp) for all four words, and V(mgcp), V(syslog), V(ami), V(webmin), V(netbios), V(samba)
        and V(isymphony) for nobody.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the service, small letters, digits, V(-) and V(_).
        type: str
        required: true
      ports:
        description: Ports and ranges, such as V(8088) and V(10000:20000). What is left out stays as it is in the table.
        type: list
        elements: str
      protocols:
        description:
          - Protocols. V(icmp) is the echo request ("ping") of both address families.
          - What is left out stays as it is in the table. For a new service it is V(tcp).
        type: list
        elements: str
        choices: [udp, tcp, icmp, esp, gre, vrrp]
      from:
        description:
          - Who may use it. V(everyone) and V(nobody) stand alone.
          - >-
            Otherwise any of V(lan), V(admins), V(trunks), V(phones), the names of O(lists), and addresses, networks, ranges and names
            with a dot, which are resolved on the controller.
          - What is left out stays as it is in the table. A new service needs it.
        type: list
        elements: str
  lan:
    description: Addresses, networks, ranges and names that the word V(lan) stands for. Those of a family that is not managed are left out.
    type: list
    elements: str
    default: []
  admins:
    description: The same for V(admins).
    type: list
    elements: str
    default: []
  trunks:
    description: The same for V(trunks).
    type: list
    elements: str
    default: []
  phones:
    description: The same for V(phones).
    type: list
    elements: str
    default: []
  lists:
    description: Words of your own, each a name of at most 12 small letters, digits and V(_), with a list of addresses like O(lan).
    type: dict
    default: {}
  protect:
    description:
      - Addresses that always reach SSH, whatever the table says.
      - The role pbx_firewall gives those from which Ansible is connected, RV(sipguard.pbx.sip_host_info#module:ssh_peers).
    type: list
    elements: str
    default: []
  ssh_ports:
    description:
      - >-
        Ports on which SSH really listens. They are the ports of the service V(ssh) unless O(services) says otherwise, and O(protect)
        reaches them in any case.
      - Empty means V(22).
    type: list
    elements: str
    default: []
  require_ssh:
    description: Refuse a table under which nobody could ever log in over SSH.
    type: bool
    default: true
seealso:
  - module: sipguard.pbx.sip_trust
  - module: sipguard.pbx.sip_ratelimit
notes:
  - What is forwarded, such as to the published ports of containers, does not come by here.
  - >-
    Connection tracking cannot know who opened a conversation that was running before it began. When the rules come or change in enforce
    mode, it is told for the host's TCP connections, and forgets UDP conversations to ports that are no service's.
"""

EXAMPLES = r"""
- name: Watch for a week what the table would stop
  sipguard.pbx.sip_host_policy:
    lan: [192.168.10.0/24, "2001:db8:10::/64"]
    admins: [192.0.2.7]
    mode: observe

- name: A PBX for the site and its trunk, managed over SSH on another port
  sipguard.pbx.sip_host_policy:
    lan: [192.168.10.0/24]
    admins: [192.0.2.7]
    trunks: [sip.provider.example]
    lists:
      monitoring: [198.51.100.20, 198.51.100.21]
    ssh_ports: ["2222"]
    services:
      - name: sip
        from: [lan, trunks]
      - name: rtp
        ports: ["10000:10999"]
      - name: zabbix
        ports: ["10050"]
        from: monitoring
      - name: ntp
        from: nobody
    protect: [192.0.2.7]

- name: Take it away again
  sipguard.pbx.sip_host_policy:
    state: absent
"""

RETURN = r"""
services:
  description: The table as it is now, by name.
  returned: always
  type: dict
  sample: {"ssh": {"ports": ["22"], "protocols": ["tcp"], "from": ["admins", "lan"]}}
resolved:
  description: The addresses that names stood for.
  returned: when a source is a name
  type: dict
  sample: {"sip.provider.example": ["198.51.100.10"]}
rules:
  description: How many rules sipguard has per family, all its modules together.
  returned: always
  type: dict
  sample: {"ipv4": 31, "ipv6": 40}
differs:
  description: >-
    Whether the host was not yet what the options say. The same as C(changed), for a role that asks in check mode and may not call
    that a change.
  returned: always
  type: bool
persisted:
  description: Whether the files for the next boot hold exactly what the kernel does.
  returned: always
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._netfilter import host_policy
from ..module_utils._netfilter.engine import Engine, with_member
from ..module_utils._netfilter.lock import exclusive
from ..module_utils._netfilter.names import CHAIN_HOST
from ..module_utils._netfilter.options import BASE_ARGUMENTS, read_common
from ..module_utils._netfilter.runner import runner_for
from ..module_utils._netfilter.switch_guard import require_armed
from ..module_utils._sip.errors import SipguardError


def main() -> None:
    """Options -> services -> rules -> plan -> kernel."""
    module = AnsibleModule(
        argument_spec=dict(
            BASE_ARGUMENTS,
            services=dict(
                type="list",
                elements="dict",
                default=[],
                options={
                    "name": dict(type="str", required=True),
                    "ports": dict(type="list", elements="str"),
                    "protocols": dict(
                        type="list", elements="str", choices=["udp", "tcp", "icmp", "esp", "gre", "vrrp"]
                    ),
                    "from": dict(type="list", elements="str"),
                },
            ),
            lan=dict(type="list", elements="str", default=[]),
            admins=dict(type="list", elements="str", default=[]),
            trunks=dict(type="list", elements="str", default=[]),
            phones=dict(type="list", elements="str", default=[]),
            lists=dict(type="dict", default={}),
            protect=dict(type="list", elements="str", default=[]),
            ssh_ports=dict(type="list", elements="str", default=[]),
            require_ssh=dict(type="bool", default=True),
        ),
        supports_check_mode=True,
    )
    options = module.params
    try:
        common = read_common(options)
        wanted = host_policy.read_options(options, common)
        engine = Engine(runner_for(module.check_mode), options["backend"], options["lock_timeout"])
        members = {family: host_policy.member(common, wanted, family) for family in common.families if common.present}
        warnings = host_policy.warnings(wanted, options["services"], common) if common.present else []
        with exclusive(options["lock_timeout"], not module.check_mode):
            require_armed(options["switch"])
            snapshot = engine.snapshot(members.values())
            targets = with_member(engine, snapshot, CHAIN_HOST, members, common)
            outcome = engine.converge(targets, snapshot, persist=options["persist"], check=module.check_mode)
            if members and outcome.changed and not (common.observe or module.check_mode):
                warnings += host_policy.correct_openers(wanted, members)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in [*warnings, *outcome.warnings]:
        module.warn(warning)
    module.exit_json(
        services={name: service.describe() for name, service in wanted.services.items()}, **outcome.result()
    )


if __name__ == "__main__":
    main()
