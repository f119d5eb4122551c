#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sipguard_switch
short_description: Take changes of the rules back by itself unless they are confirmed over a new connection
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    A dead-man's switch for the firewall. V(armed) keeps the state of everything that sipguard has on the host and starts a timer.
    Then the rules are changed. V(confirmed), over a connection that was made after the change, stops the timer. Otherwise the host
    goes back by itself to the exact state before, without the controller.
  - >-
    The state is all chains, hooks, sets and files of sipguard as they stand. Rules of others are neither kept nor touched.
  - >-
    The role C(pbx_firewall) does all of this. The module is for playbooks that run the firewall modules themselves.
options:
  state:
    description:
      - >-
        V(armed) waits until no other change is pending, keeps the state, and starts the timer. The module returns when it is running.
      - V(confirmed) keeps the change of O(cookie). It fails over the connection over which the change was armed.
      - >-
        V(rolled_back) goes back. With O(cookie), to the state before that change, if it is still pending. Without, to the state before
        whatever change is pending; with none pending, to the last confirmed state, if the host is not in it; else to the state before
        the last confirmed change.
      - V(settled) waits until no change is pending.
    type: str
    choices: [armed, confirmed, rolled_back, settled]
    required: true
  cookie:
    description:
      - The change that is meant, as O(state=armed) returned it. Every change has one of its own.
      - Required for O(state=confirmed).
    type: str
    default: ""
  seconds:
    description:
      - For O(state=armed), how much time there is between arming and the confirmation, 10 to 3600 seconds.
      - >-
        For O(state=rolled_back), the same for going back to a state of long ago, which may shut the controller out just like going
        forward. It is used when no change is pending. RV(cookie) is then what has to be confirmed.
    type: int
    default: 120
  new_connection:
    description:
      - For O(state=confirmed), refuse the SSH connection over which the change was armed.
      - >-
        Turn it off where Ansible runs on the host itself, in somebody's SSH session. That session goes on through whatever rules
        there are, so the confirmation then only proves that the run came to its end.
    type: bool
    default: true
requirements:
  - iptables 1.8 (nft or legacy) and ipset 7 on the host
  - root, or CAP_NET_ADMIN and CAP_NET_RAW in a container
  - the command sipguard on the host, installed by M(sipguard.pbx.sipguard_host)
attributes:
  check_mode:
    description: Can run in check mode. It starts, confirms and waits for nothing then, and says what going back would change.
    support: full
  diff_mode:
    description: Returns rules, sets and files before and after going back.
    support: full
  idempotent:
    description:
      - Confirming or taking back the same change again changes nothing.
      - Each O(state=armed) is another change, and each O(state=rolled_back) without a cookie goes back one more.
    support: partial
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
notes:
  - C(changed) speaks of rules, sets and files. Arming, confirming and waiting change none of them.
  - >-
    What counts as another connection is the address and port of the SSH client. Without SSH (connection plugins local, docker, podman)
    nothing can be cut off, and nothing is compared.
seealso:
  - module: sipguard.pbx.sipguard_host
"""

EXAMPLES = r"""
- name: Change the rules under the switch
  block:
    - name: Start the timer
      sipguard.pbx.sipguard_switch:
        state: armed
        seconds: 60
      register: switch

    - name: Stop known scanners
      sipguard.pbx.sip_ua_blocklist:
        switch: "{{ switch.cookie }}"

    - name: Close the connection that was there before the change
      ansible.builtin.meta: reset_connection

    - name: Keep the change
      sipguard.pbx.sipguard_switch:
        state: confirmed
        cookie: "{{ switch.cookie }}"

- name: Bring back the last confirmed rules, or those before them
  sipguard.pbx.sipguard_switch:
    state: rolled_back
  register: back

- name: Close the connection
  ansible.builtin.meta: reset_connection

- name: Keep what was brought back
  sipguard.pbx.sipguard_switch:
    state: confirmed
    cookie: "{{ back.cookie }}"
  when: back.cookie != ''
"""

RETURN = r"""
cookie:
  description: The change that has to be confirmed. Empty when nothing has to be, and in check mode.
  returned: success
  type: str
  sample: 5f0c3a9d1b7e2468
deadline:
  description: Until when it has to be confirmed. Empty when nothing has to be.
  returned: success
  type: str
  sample: "2026-05-04 10:15:30 UTC"
said:
  description: What was done, in a sentence.
  returned: success
  type: str
  sample: "change 5f0c3a9d1b7e2468 is confirmed"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.switch import Report, Switch, check_seconds, connections, when
from ..module_utils._netfilter.runner import HostRunner
from ..module_utils._sip.errors import OptionError, SipguardError


def _act(options: dict[str, Any], check: bool) -> Report:
    switch = Switch(HostRunner())
    state, cookie, seconds = options["state"], options["cookie"], check_seconds(options["seconds"])
    if state == "rolled_back":
        return switch.rollback(cookie, seconds, connections(), check)
    if state == "confirmed" and not cookie:
        raise OptionError("cookie", cookie, "the cookie that state 'armed' returned would be right")
    if check:
        return Report("nothing is armed, confirmed or waited for in check mode")
    if state == "confirmed":
        return switch.confirm(cookie, connections() if options["new_connection"] else ())
    if state == "settled":
        taken_back = switch.settle()
        return Report("; ".join(taken_back) or "no change is pending", bool(taken_back))
    pending, taken_back = switch.arm(seconds, connections())
    said = [*taken_back, f"change {pending.cookie} has to be confirmed until {when(pending.deadline)}"]
    return Report("; ".join(said), bool(taken_back), pending=pending)


def main() -> None:
    """State -> switch -> what it says."""
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", required=True, choices=["armed", "confirmed", "rolled_back", "settled"]),
            cookie=dict(type="str", default=""),
            seconds=dict(type="int", default=120),
            new_connection=dict(type="bool", default=True),
        ),
        supports_check_mode=True,
    )
    try:
        report = _act(module.params, module.check_mode)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=report.changed,
        diff={"before": report.before, "after": report.after},
        cookie=report.pending.cookie if report.pending else "",
        deadline=when(report.pending.deadline) if report.pending else "",
        said=report.said,
    )


if __name__ == "__main__":
    main()
