#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: asterisk_restart
short_description: Restart Asterisk in a maintenance window, while nobody speaks
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - Transports and a few other settings are read when Asterisk starts, and only then. This module restarts it without ending a call.
  - >-
    Outside of O(window), and where a call goes on for longer than O(patience), nothing happens: RV(restarted) is false then, and
    RV(reason) says why. That is no error; the next run may find a better moment.
  - A host whose Asterisk does not run, or has none, is left alone.
options:
  config_dir:
    description: Asterisk's configuration directory.
    type: path
    default: /etc/asterisk
  window:
    description: When it may be restarted, by the host's own clock, such as V(02:00-04:30). It may go past midnight. Empty means always.
    type: str
    default: ""
  force:
    description: >-
      Restart it even if nothing waits for it, as far as M(sipguard.pbx.asterisk_sip_hardening) and M(sipguard.pbx.freepbx_setting) have
      written down.
    type: bool
    default: false
  patience:
    description: How many seconds to wait for the last call to end. 0 to 86400.
    type: int
    default: 60
requirements:
  - Asterisk 16 to 22 on the host
  - root
attributes:
  check_mode:
    description: Can run in check mode and says then whether it would restart it now.
    support: full
  diff_mode:
    description: Returns whether Asterisk goes on or begins anew.
    support: full
  idempotent:
    description: A second run restarts nothing, because nothing waits for it any more. With O(force=true) each run restarts Asterisk.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
seealso:
  - module: sipguard.pbx.asterisk_sip_hardening
  - module: sipguard.pbx.freepbx_setting
"""

EXAMPLES = r"""
- name: Restart Asterisk at night, if it has to be and nobody speaks
  sipguard.pbx.asterisk_restart:
    window: 02:00-04:30
    patience: 600
"""

RETURN = r"""
restarted:
  description: Whether Asterisk was restarted; in check mode, whether it would be.
  returned: success
  type: bool
reason:
  description: Why it was not; empty where it was.
  returned: success
  type: str
  sample: it is 14:05 on the host, and the window is 02:00-04:30
"""

import datetime

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._asterisk import notes
from ..module_utils._asterisk.cli import Cli
from ..module_utils._asterisk.restart import Window, restart
from ..module_utils._netfilter.runner import runner_for
from ..module_utils._sip.errors import OptionError, SipguardError


def main() -> None:
    """Options -> the time of day -> calls -> restart."""
    module = AnsibleModule(
        argument_spec=dict(
            config_dir=dict(type="path", default="/etc/asterisk"),
            window=dict(type="str", default=""),
            force=dict(type="bool", default=False),
            patience=dict(type="int", default=60),
        ),
        supports_check_mode=True,
    )
    try:
        needed, restarted, reason = _apply(module)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=restarted,
        restarted=restarted,
        reason=reason,
        diff={"before": "".join(f"{each} waits for a restart\n" for each in needed if restarted), "after": ""},
    )


def _apply(module: AnsibleModule) -> tuple[list[str], bool, str]:
    """What waits for a restart, whether there was one, and else why not. Raises SipguardError."""
    patience = module.params["patience"]
    if not 0 <= patience <= 86400:
        raise OptionError("patience", patience, "0 to 86400 seconds would be right")
    window = Window.parse(module.params["window"])
    cli = Cli(runner_for(module.check_mode), module.params["config_dir"])
    if not cli.running():
        return [], False, "Asterisk does not run"
    needed = notes.read(cli, notes.RESTART)
    if not needed and not module.params["force"]:
        return [], False, "nothing waits for a restart"
    now = datetime.datetime.now().time()
    if not window.contains(now):
        return needed, False, f"it is {now:%H:%M} on the host, and the window is {module.params['window']}"
    if module.check_mode:
        free = not cli.channels()
        return needed, free, "" if free else "somebody speaks"
    if restart(cli, patience):
        return needed, True, ""
    return needed, False, f"somebody has been speaking for {patience} s"


if __name__ == "__main__":
    main()
