#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sipguard_host
short_description: Put the command sipguard on a host, and what loads and repairs the rules there
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    Installs the very code that the other modules run (standard library only) as C(/usr/local/lib/sipguard), the command
    C(/usr/local/sbin/sipguard), what loads sets and rules at boot before the network is up, and C(sipguard-repair.service), which
    puts them back when another program flushes them.
  - What loads them is enabled, not started. At the next boot it loads what the modules have written to C(/etc/sipguard).
  - Another way of loading takes the files of the one before away.
options:
  state:
    description:
      - V(present) installs everything.
      - >-
        V(absent) takes it away, with everything in C(/etc/sipguard) and C(/var/lib/sipguard). Rules that are loaded stay loaded until
        the next boot; remove them with their own modules first. It is refused while a change waits to be confirmed.
    type: str
    choices: [present, absent]
    default: present
  part:
    description:
      - V(all) is everything.
      - >-
        V(command) is the code and the command alone; units and settings stay as they are, and the other options are of no account. It is
        what M(sipguard.pbx.sipguard_switch) needs before anything is changed.
    type: str
    choices: [all, command]
    default: all
  persistence:
    description:
      - V(systemd) loads with units of our own, after other firewalls have started.
      - >-
        V(netfilter-persistent) loads with two plugins of the Debian package of that name, which has to be installed. It excludes
        ufw. Neither ever saves anybody's rules.
      - V(none) installs the command and its code only. Nothing is loaded at boot, and nothing is repaired.
    type: str
    choices: [systemd, netfilter-persistent, none]
    default: systemd
  on_boot_failure:
    description:
      - >-
        What happens when a file for the boot is missing or damaged. In either case what can be loaded is loaded, the unit fails,
        and the journal has a critical line.
      - V(fail) leaves the family whose file it is as open as it would be without sipguard.
      - >-
        V(close) closes O(ports) of that family to everybody but loopback and trusted sources; with O(host_policy) it closes
        everything but SSH, answers, and what IPv6 cannot live without.
    type: str
    choices: [fail, close]
    default: fail
  ports:
    description: The SIP ports to close, each a port or a range of ports.
    type: list
    elements: str
    default: ["5060:5061"]
  ssh_ports:
    description:
      - The ports of SSH, which stay open.
      - An empty list, which is what a run over another connection knows, stands for those of the run before.
    type: list
    elements: str
    default: ["22"]
  host_policy:
    description: Whether the host has a policy of its own for all ports (M(sipguard.pbx.sip_host_policy)), and is to be closed as a whole.
    type: bool
    default: false
  repair:
    description:
      - >-
        Whether C(sipguard-repair.service) puts hooks and chains back within seconds when another program flushes them. Rules that are
        whole are left alone, whatever the files say.
      - Nothing is repaired under O(persistence=none).
    type: bool
    default: true
requirements:
  - Python 3.9 as C(/usr/bin/python3) on the host
  - systemd
  - netfilter-persistent, for O(persistence=netfilter-persistent)
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change.
    support: full
  diff_mode:
    description: Returns the files before and after, by name and version.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
seealso:
  - module: sipguard.pbx.sipguard_switch
  - module: sipguard.pbx.sip_host_info
"""

EXAMPLES = r"""
- name: Make the rules survive a reboot, and other programs
  sipguard.pbx.sipguard_host:

- name: Load them with netfilter-persistent, and close a host whose rules got lost
  sipguard.pbx.sipguard_host:
    persistence: netfilter-persistent
    on_boot_failure: close
    host_policy: true
    ssh_ports: ["2222"]

- name: Remove the command and the units
  sipguard.pbx.sipguard_host:
    state: absent
"""

RETURN = r"""
version:
  description: A short digest of the installed code.
  returned: always
  type: str
  sample: 3f2a9b0c4d5e
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.emergency import ON_BOOT_FAILURE, Settings
from ..module_utils._host.install import PERSISTENCE, Installation, Setup
from ..module_utils._netfilter.persist import Store
from ..module_utils._netfilter.runner import HostRunner
from ..module_utils._sip.errors import SipguardError


def main() -> None:
    """State -> files -> the difference -> the host."""
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", default="present", choices=["present", "absent"]),
            part=dict(type="str", default="all", choices=["all", "command"]),
            persistence=dict(type="str", default="systemd", choices=list(PERSISTENCE)),
            on_boot_failure=dict(type="str", default="fail", choices=list(ON_BOOT_FAILURE)),
            ports=dict(type="list", elements="str", default=["5060:5061"]),
            ssh_ports=dict(type="list", elements="str", default=["22"]),
            host_policy=dict(type="bool", default=False),
            repair=dict(type="bool", default=True),
        ),
        supports_check_mode=True,
    )
    options = module.params
    try:
        installation = Installation(HostRunner())
        if options["state"] == "absent":
            report = installation.remove(module.check_mode)
        elif options["part"] == "command":
            report = installation.install_command(module.check_mode)
        else:
            ssh_ports = options["ssh_ports"] or Settings.known(Store()).ssh_ports
            settings = Settings.read_options(
                options["on_boot_failure"], options["ports"], ssh_ports, options["host_policy"]
            )
            setup = Setup(options["persistence"], options["repair"], settings)
            report = installation.install(setup, module.check_mode)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=report.changed, diff={"before": report.before, "after": report.after}, version=report.version
    )


if __name__ == "__main__":
    main()
