#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sip_host_info
short_description: Find out what a host lacks before sipguard can protect it
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - Looks at the distribution, the rights, the kernel's netfilter extensions, the commands and the SSH connection. Changes nothing.
  - The kernel is asked for its extensions the way iptables asks, which may make it load their modules.
options:
  trunks:
    description:
      - >-
        Ask the running Asterisk for its trunks, and warn of each whose UDP conversation this host would forget between two of
        Asterisk's questions: M(sipguard.pbx.sip_domain_gate) would then stop its calls.
    type: bool
    default: false
  callers:
    description: Addresses, networks, ranges and names that may call without naming a domain. Their conversations may go cold.
    type: list
    elements: str
    default: []
  removing:
    description: Leave out of RV(problems) what only keeps sipguard from coming, an unsupported release or a kernel that lacks an extension.
    type: bool
    default: false
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
"""

EXAMPLES = r"""
- name: Look at the host
  sipguard.pbx.sip_host_info:
  register: host

- name: Stop when something is missing
  ansible.builtin.assert:
    that: host.problems | length == 0
    fail_msg: "{{ host.problems | join('; ') }}"
"""

RETURN = r"""
problems:
  description: What has to be put right by hand, one sentence each.
  returned: always
  type: list
  elements: str
missing_packages:
  description: Packages that have to be installed.
  returned: always
  type: list
  elements: str
  sample: [ipset]
platform:
  description: V(freepbx) or V(asterisk).
  returned: always
  type: str
distribution:
  description: The distribution and its version.
  returned: always
  type: str
  sample: debian 12
ssh_peers:
  description: The addresses from which Ansible reaches this host over SSH, empty for other connections.
  returned: always
  type: list
  elements: str
  sample: [192.0.2.7]
ssh_ports:
  description:
    - The ports of this host to which they came, and those that sshd's configuration names.
    - Where nobody came over SSH, those that C(/etc/sipguard/boot.json) holds from an earlier run as well. V(22) where none is known.
  returned: always
  type: list
  elements: str
  sample: ["22"]
netfilter_persistent:
  description: Whether Debian's package netfilter-persistent is installed.
  returned: always
  type: bool
boot_loader:
  description: What loads sipguard's files at boot, V(systemd) or V(netfilter-persistent); empty when nothing does.
  returned: always
  type: str
persistence_conflicts:
  description: Why it must not be installed, one sentence each.
  returned: always
  type: list
  elements: str
cold_trunks:
  description: What was warned of under O(trunks), one sentence for each trunk.
  returned: always
  type: list
  elements: str
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host import flows
from ..module_utils._host.inspection import inspect
from ..module_utils._netfilter.runner import HostRunner
from ..module_utils._sip.errors import SipguardError


def main() -> None:
    """The host -> findings."""
    module = AnsibleModule(
        argument_spec=dict(
            trunks=dict(type="bool", default=False),
            callers=dict(type="list", elements="str", default=[]),
            removing=dict(type="bool", default=False),
        ),
        supports_check_mode=True,
    )
    runner = HostRunner()
    cold: list[str] = []
    try:
        if module.params["trunks"]:
            cold = flows.cold_flows(flows.trunks(runner), module.params["callers"], flows.udp_timeout())
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in cold:
        module.warn(warning)
    module.exit_json(changed=False, cold_trunks=cold, **asdict(inspect(runner, module.params["removing"])))


if __name__ == "__main__":
    main()
