#!/usr/bin/python
# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fail2ban's configuration as far as it is sipguard's, and the rule that drops whom its jails ban."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fail2ban_jails
short_description: Give fail2ban jails, filters and actions that are tried before it sees them
version_added: 1.0.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - Puts files of its own into C(action.d), C(fail2ban.d), C(filter.d) and C(jail.d) of fail2ban, and touches nobody else's.
  - >-
    What fail2ban would make of them is asked of C(fail2ban-client -t) in a copy aside. When it objects, nothing has changed. When the
    server does not run the new jails afterwards, the files are put back and it reads the old ones again.
  - >-
    The server is reloaded, not restarted, and started where it did not run. Bans and jails that stay the same go on through a reload.
  - >-
    Jails that ban with the action C(sipguard) (from the role P(sipguard.pbx.pbx_fail2ban#role)) fill sets of the kernel that a rule in
    raw PREROUTING drops, before conntrack and out of reach of whoever flushes the filter table. The module makes that rule.
  - >-
    Whoever is trusted (M(sipguard.pbx.sip_trust)), the host itself, its gateways and its resolvers are written into the variable
    C(sipguard_ignoreip), for every jail's C(ignoreip).
options:
  files:
    description:
      - >-
        The files, by their path below O(config_dir): C(sipguard*.conf) in C(action.d), C(fail2ban.d), C(filter.d) or C(jail.d). Files
        of such names that are not among them are removed.
      - >-
        A jail whose name does not begin with C(sipguard) is left out, with a warning, where somebody else has written about it, or
        about one with the same filter, in C(jail.local) or C(jail.d).
    type: dict
    default: {}
  asterisk_files:
    description: More such files, for hosts that have an Asterisk.
    type: dict
    default: {}
  logs:
    description:
      - The log files of Asterisk's that O(asterisk_files) read. The module fails when one is not there, or Asterisk does not write to it.
    type: list
    elements: path
    default: []
  ignore:
    description: Addresses and networks that no jail may ban, besides those that are known. Names are resolved on the controller.
    type: list
    elements: str
    default: []
  state:
    description: With V(absent) the files, the sets and the rule go. Whatever else fail2ban does goes on.
    type: str
    choices: [present, absent]
    default: present
  config_dir:
    description: The directory of fail2ban's configuration.
    type: path
    default: /etc/fail2ban
  backend:
    description: Which iptables to use. V(auto) takes that of sipguard's rules for the next boot, else what the command C(iptables) is.
    type: str
    choices: [auto, nft, legacy]
    default: auto
  persist:
    description: Write the rule for the next boot. Bans are kept by fail2ban itself.
    type: bool
    default: true
  lock_timeout:
    description: How many seconds to wait for another program that holds the xtables lock, or for another run.
    type: int
    default: 30
requirements:
  - fail2ban 0.11.2 or later on the host
  - iptables 1.8 (nft or legacy) and ipset 7 on the host
  - root
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change, packages and log files that are missing among it.
    support: full
  diff_mode:
    description: Returns the lines of files, the rules and the jails that change.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
seealso:
  - module: sipguard.pbx.asterisk_sip_hardening
  - module: sipguard.pbx.sip_ban
  - module: sipguard.pbx.sip_trust
"""

EXAMPLES = r"""
- name: A jail for the web server that bans as sipguard does
  sipguard.pbx.fail2ban_jails:
    files:
      action.d/sipguard.conf: "{{ lookup('ansible.builtin.file', 'sipguard-action.conf') }}"
      jail.d/sipguard-web.conf: |
        [sipguard-web]
        enabled = true
        filter = nginx-http-auth
        logpath = /var/log/nginx/error.log
        action = sipguard[name=web]
        ignoreip = %(sipguard_ignoreip)s

- name: Leave nothing behind
  sipguard.pbx.fail2ban_jails:
    state: absent
"""

RETURN = r"""
version:
  description: The version of fail2ban, empty where it is not installed.
  returned: success
  type: str
  sample: 1.0.2
jails:
  description: The jails of O(files) and O(asterisk_files) that are on.
  returned: success
  type: list
  elements: str
  sample: [sipguard-asterisk, sipguard-scan, sshd]
ignored:
  description: Addresses and networks that no jail bans.
  returned: success
  type: list
  elements: str
  sample: [127.0.0.0/8, 192.0.2.0/24]
left_out:
  description: Jails that were left out, because somebody else has written about them.
  returned: success
  type: list
  elements: str
  sample: [sshd]
asterisk:
  description: Whether the host has an Asterisk.
  returned: success
  type: bool
missing_packages:
  description: What has to be installed first, by the names of Debian's packages. Only in check mode is that no error.
  returned: success
  type: list
  elements: str
  sample: [fail2ban]
wished_packages:
  description: >-
    What fail2ban works better with and has not: without python3-pyinotify it looks at its files every few seconds, without
    python3-systemd a jail that reads the journal is left out.
  returned: success
  type: list
  elements: str
  sample: [python3-pyinotify]
missing_logs:
  description: Those of O(logs) that are not there, or to which Asterisk does not write. Only in check mode is that no error.
  returned: success
  type: list
  elements: path
  sample: [/var/log/asterisk/sipguard-notices]
done:
  description: What became of the server.
  returned: success
  type: list
  elements: str
  sample: [reloaded]
boot:
  description: What loads the rule at boot, empty for nothing.
  returned: success
  type: str
  sample: systemd
differs:
  description: >-
    Whether the host was not yet what the options say. The same as C(changed), for a role that asks in check mode and may not call
    that a change.
  returned: success
  type: bool
persisted:
  description: Whether the files for the next boot say what the kernel does.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._fail2ban.apply import Outcome, Request, apply
from ..module_utils._fail2ban.tree import check_files
from ..module_utils._netfilter.lock import check_timeout, exclusive
from ..module_utils._netfilter.runner import HostRunner, runner_for
from ..module_utils._sip.errors import SipguardError


def main() -> None:
    """Options -> files -> fail2ban's own opinion -> rule, files, server."""
    module = AnsibleModule(
        argument_spec=dict(
            files=dict(type="dict", default={}),
            asterisk_files=dict(type="dict", default={}),
            logs=dict(type="list", elements="path", default=[]),
            ignore=dict(type="list", elements="str", default=[]),
            state=dict(type="str", default="present", choices=["present", "absent"]),
            config_dir=dict(type="path", default="/etc/fail2ban"),
            backend=dict(type="str", default="auto", choices=["auto", "nft", "legacy"]),
            persist=dict(type="bool", default=True),
            lock_timeout=dict(type="int", default=30),
        ),
        supports_check_mode=True,
    )
    try:
        done = _apply(module)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in done.warnings:
        module.warn(warning)
    module.exit_json(
        changed=done.changed,
        differs=done.changed,
        diff={"before": done.before, "after": done.after},
        version=done.version,
        jails=done.jails,
        ignored=done.ignored,
        left_out=done.left_out,
        asterisk=done.asterisk,
        missing_packages=done.missing_packages,
        wished_packages=done.wished_packages,
        missing_logs=done.missing_logs,
        done=done.done,
        boot=done.boot,
        persisted=done.persisted,
    )


def _apply(module: AnsibleModule) -> Outcome:
    """Raises SipguardError, with nothing changed."""
    options = module.params
    check_timeout(options["lock_timeout"])
    request = Request(
        state=options["state"],
        files=check_files(options["files"], "files"),
        asterisk_files=check_files(options["asterisk_files"], "asterisk_files"),
        logs=options["logs"],
        ignore=options["ignore"],
        config_dir=options["config_dir"],
        backend=options["backend"],
        persist=options["persist"],
        lock_timeout=options["lock_timeout"],
    )
    with exclusive(options["lock_timeout"], not module.check_mode):
        return apply(HostRunner(), runner_for(module.check_mode), request, module.check_mode)


if __name__ == "__main__":
    main()
