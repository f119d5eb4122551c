#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sipguard_host
short_description: Put the command sipguard and its boot unit on a host
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    Installs the very code that the other modules run (standard library only) as C(/usr/local/lib/sipguard), the command
    C(/usr/local/sbin/sipguard), and C(sipguard-restore.service), which loads sets and rules at boot before the network is up.
  - The unit is enabled, not started. At the next boot it loads what the modules have written to C(/etc/sipguard).
options:
  state:
    description:
      - V(present) installs everything.
      - V(absent) takes it away. Rules that are loaded stay loaded until the next boot; remove them with their own modules first.
    type: str
    choices: [present, absent]
    default: present
requirements:
  - Python 3.9 as C(/usr/bin/python3) on the host
  - systemd
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
"""

EXAMPLES = r"""
- name: Make the rules survive a reboot
  sipguard.pbx.sipguard_host:

- name: Remove the command and the unit
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

from ..module_utils._host.install import Installation
from ..module_utils._netfilter.runner import HostRunner
from ..module_utils._sip.errors import SipguardError


def main() -> None:
    """State -> files -> the difference -> the host."""
    module = AnsibleModule(
        argument_spec=dict(state=dict(type="str", default="present", choices=["present", "absent"])),
        supports_check_mode=True,
    )
    try:
        installation = Installation(HostRunner())
        act = installation.install if module.params["state"] == "present" else installation.remove
        report = act(module.check_mode)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=report.changed, diff={"before": report.before, "after": report.after}, version=report.version
    )


if __name__ == "__main__":
    main()
