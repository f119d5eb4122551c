#!/usr/bin/python
# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sipguard_checkpoint
short_description: Remember what a host was like before a run, see whether it is worse, and go back
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - Writes down, on the host and for root alone, everything that the roles of this collection may change, which is the collection's
    rules, sets and files, Asterisk's configuration, settings of FreePBX, and which units run.
  - Compares what the host does now with what it did then. Only what is worse counts, so a host on which Asterisk did not run before
    is none the worse.
  - Brings all of it back. What was banned meanwhile stays banned, bans and exceptions that were cleared come back, and packages
    that were installed stay installed. C(sipguard rollback) then leads to what was there before the run.
  - Asterisk's configuration comes back as a whole, so whatever somebody else has changed in it meanwhile goes. FreePBX has it in its
    database all the same. Where files that it generates come back older, its pages say "Apply Config"; files that it has made since stay.
options:
  state:
    description:
      - V(taken) writes the host down, and forgets what runs have left that never came to their end, after a week or when there are
        more than four. It fails, before anything is changed, where a disk is full.
      - V(compared) says what is worse.
      - V(restored) goes back, and keeps what was written down.
      - V(dropped) forgets it.
    type: str
    required: true
    choices: [taken, compared, restored, dropped]
  cookie:
    description: What O(state=taken) returned. Required otherwise.
    type: str
  config_dir:
    description: The directory of Asterisk's configuration.
    type: path
    default: /etc/asterisk
  ports:
    description: Ports and ranges of ports. If something listens to one of them before and nothing does afterwards, that is worse.
    type: list
    elements: str
    default: ["5060:5061"]
  freepbx_settings:
    description:
      - >-
        Settings of FreePBX that the run may change, as in M(sipguard.pbx.freepbx_setting). Their values are written down. Whether
        FreePBX's firewall loads custom rules is so in any case.
      - Without FreePBX they mean nothing.
    type: dict
    default: {}
attributes:
  check_mode:
    description: In check mode nothing is written down or brought back. O(state=restored) says what would be.
    support: full
  diff_mode:
    description: What V(restored) brings back is listed.
    support: full
seealso:
  - module: sipguard.pbx.sipguard_switch
    description: Goes back by itself when nobody can get in any more.
"""

EXAMPLES = r"""
- name: Change a PBX, and go back where that makes it worse
  block:
    - name: Remember what it was like
      sipguard.pbx.sipguard_checkpoint:
        state: taken
      register: checkpoint

    - name: Harden Asterisk
      sipguard.pbx.asterisk_sip_hardening:

    - name: See whether it is worse
      sipguard.pbx.sipguard_checkpoint:
        state: compared
        cookie: "{{ checkpoint.cookie }}"
      register: compared
      failed_when: compared is failed or compared.wrong | length > 0

    - name: Forget what it was like
      sipguard.pbx.sipguard_checkpoint:
        state: dropped
        cookie: "{{ checkpoint.cookie }}"
  rescue:
    - name: Go back
      sipguard.pbx.sipguard_checkpoint:
        state: restored
        cookie: "{{ checkpoint.cookie }}"

- name: Remember what a PBX on other ports was like
  sipguard.pbx.sipguard_checkpoint:
    state: taken
    ports: ["5080", "5081"]
"""

RETURN = r"""
cookie:
  description: The checkpoint. Empty in check mode.
  returned: success
  type: str
  sample: 5f0c3a9d1b7e2468
wrong:
  description: What the host did when the checkpoint was taken and does no more, a sentence each. With O(state=compared).
  returned: success
  type: list
  elements: str
  sample: ["Asterisk ran before and now does not run: see 'journalctl -u asterisk'"]
health:
  description: What the host does now. With V(taken) and V(compared).
  returned: success
  type: dict
  sample: {asterisk: runs, ports: ["tcp 5060", "udp 5060"], jails: [sshd], sipband: listens to Asterisk, failed: []}
done:
  description: What was brought back, or in check mode would be. With O(state=restored).
  returned: success
  type: list
  elements: str
  sample: [file /etc/asterisk/pjsip.conf, Asterisk was reloaded]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._checkpoint.kept import Archive
from ..module_utils._netfilter.runner import HostRunner
from ..module_utils._sip.addresses import parse_port
from ..module_utils._sip.errors import SipguardError


def _ports(entries: list[str]) -> tuple[int, ...]:
    """Each port of ports and ranges. Raises OptionError."""
    ranges = [parse_port(entry, "ports") for entry in entries]
    return tuple(sorted({port for first, last in ranges for port in range(first, last + 1)}))


def _act(options: dict[str, Any], check: bool) -> dict[str, Any]:
    state, cookie = options["state"], options["cookie"] or ""
    found: dict[str, Any] = {"cookie": cookie, "wrong": [], "health": {}, "done": [], "changed": False}
    found["diff"] = {"before": "", "after": ""}
    if state == "dropped":
        if not check:
            Archive().drop(cookie)
        return found
    # Only here: what a run asks of a host at its end shall load no more than it needs.
    from ..module_utils._checkpoint.checkpoint import Checkpoint, Request

    request = Request(options["config_dir"].rstrip("/") or "/", _ports(options["ports"]), options["freepbx_settings"])
    checkpoint = Checkpoint(HostRunner(), request)
    if state == "taken" and check:
        checkpoint.require_space()
    elif state == "taken":
        # A run that changes nothing on the host must not be called a change for what it writes down and forgets again.
        found["cookie"], found["health"] = checkpoint.take()
    elif check and not cookie:
        pass
    elif state == "compared":
        found["wrong"], found["health"] = checkpoint.compare(cookie)
    else:
        found["done"] = checkpoint.restore(cookie, check)
        found["changed"] = bool(found["done"])
        found["diff"]["after"] = "".join(f"brought back: {each}\n" for each in found["done"])
    return found


def main() -> None:
    """State -> checkpoint -> what it says."""
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", required=True, choices=["taken", "compared", "restored", "dropped"]),
            cookie=dict(type="str"),
            config_dir=dict(type="path", default="/etc/asterisk"),
            ports=dict(type="list", elements="str", default=["5060:5061"]),
            freepbx_settings=dict(type="dict", default={}),
        ),
        required_if=[
            ("state", "compared", ["cookie"]),
            ("state", "restored", ["cookie"]),
            ("state", "dropped", ["cookie"]),
        ],
        supports_check_mode=True,
    )
    try:
        found = _act(module.params, module.check_mode)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**found)


if __name__ == "__main__":
    main()
