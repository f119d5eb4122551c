#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: asterisk_sip_hardening
short_description: Harden the SIP configuration of Asterisk, and audit all of it
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    Gives C(sip.conf) (chan_sip) and C(pjsip.conf) (PJSIP) the settings of a profile, each with a reason and a source
    (C(docs/asterisk-settings.md) lists them). Nothing but the lines in question changes; comments, templates, includes and spacing stay
    byte for byte. Each line of ours ends with the remark C(; sipguard), and a replaced value stays written there.
  - >-
    What O(profile), O(settings) and O(exceptions) do not want any more goes, and what stood there before us comes back.
  - >-
    A setting that all phones get from a template is written into the template. A peer, endpoint or AOR that says something else itself
    is corrected, unless it is one of O(exceptions).
  - >-
    The files are written together, with owner and mode kept and a backup made; Asterisk reads just what changed; no call is dropped.
    Then its own words are read back. If it complains, loses an object, or says something else, the old files are put back and read again.
  - Configurations that Asterisk refuses, or that cannot be proven to keep their meaning (an active C(#exec)), are not edited.
  - >-
    The audit reads the whole configuration, with the dialplan, and reports what is weak, with file and line, reason and remedy. It never
    shows a secret.
  - On FreePBX nothing but its C(*_custom*.conf) files is written.
  - A host without Asterisk is left alone.
options:
  config_dir:
    description: Asterisk's configuration directory.
    type: path
    default: /etc/asterisk
  state:
    description:
      - V(absent) takes out every line of ours, and writes back what was there before. A backup is made as well.
    type: str
    choices: [present, absent]
    default: present
  profile:
    description:
      - V(baseline) is what no honest phone, trunk or user notices. V(strict) adds the rest of the published advice, such as no transfers.
    type: str
    choices: [baseline, strict]
    default: baseline
  drivers:
    description: Which drivers to look after. Empty means those that this Asterisk has loaded and that have a configuration.
    type: list
    elements: str
    choices: [chan_sip, pjsip]
    default: []
  settings:
    description:
      - >-
        Your own settings, on top of the profile: C(sip) with C(general) and C(peer), C(pjsip) with C(global), C(endpoint), C(aor),
        C(auth), C(transport), C(system), C(acl), C(identify), each a dictionary of options and values. V(null) leaves an option alone.
      - Options that this version of Asterisk does not know are refused.
      - >-
        Strangers that PJSIP takes in through an endpoint named C(anonymous) are kept out; C(guests) set to V(null) below C(endpoint)
        leaves it alone.
    type: dict
    default: {}
  exceptions:
    description:
      - What is different for peers, endpoints and AORs of certain names. The last one that matches counts.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name, or a pattern such as V(trunk-*).
        type: str
        required: true
      settings:
        description: Options and values. Names of either driver will do (C(allowtransfer), C(allow_transfer)). V(null) leaves one alone.
        type: dict
        required: true
  logger:
    description:
      - >-
        If given, log files for programs such as fail2ban: C(files), a dictionary of file names and levels as in C(logger.conf), and
        C(dateformat) for dates that have no year (V(%F %T), empty leaves it alone). C({}) means C(sipguard-notices) with
        C([json]notice,warning) and C(sipguard-security) with C([json]security). As JSON, because what a stranger writes into a header can
        begin a line of its own in a plain log, but not there.
    type: dict
  manager:
    description:
      - >-
        If given, a user of the manager interface that may read security events from this host and nothing else: C(user) (default
        V(sipguard)) and C(secret). Without a secret the host makes one and keeps it.
      - The manager interface is turned on, on loopback alone, if it was off.
    type: dict
    suboptions:
      user:
        description: The user's name.
        type: str
        default: sipguard
      secret:
        description: Its secret, of 16 to 128 letters, digits and signs of C(_.~+/=-).
        type: str
  only:
    description:
      - The parts that this run looks after; every other one stays as it is. V(settings) are those of the drivers.
      - Without it a part that is not asked for is taken back.
    type: list
    elements: str
    choices: [settings, logger, manager]
    default: [settings, logger, manager]
  audit_only:
    description: Change nothing, and only look.
    type: bool
    default: false
  audit:
    description: Return RV(findings).
    type: bool
    default: true
  min_secret_length:
    description: Secrets that are shorter are a finding. 1 to 128.
    type: int
    default: 12
  common_secrets:
    description: A file on the host with secrets that everybody knows, one a line, besides the built-in ones.
    type: path
  waive:
    description:
      - >-
        Findings that are accepted, each a dictionary with C(waive), an id (V(short-names)) or an id and the name of what it is about
        (V(weak-secret:lab-*)), and C(reason). They are still returned, with the reason.
    type: list
    elements: dict
    default: []
    suboptions:
      waive:
        description: The id of a finding, or V(id:subject). Both may be patterns.
        type: str
        required: true
      reason:
        description: Why it is accepted.
        type: str
        required: true
  fail_at:
    description: Fail when a finding that is not waived has this severity or a higher one. V(never) only reports.
    type: str
    choices: [critical, high, medium, low, info, never]
    default: never
  reload:
    description:
      - Let Asterisk read what changed, and read it back. V(false) only edits files, for an image or a stopped Asterisk.
      - Where Asterisk does not run, settings are refused, because nobody could see what it makes of them. O(logger), O(manager) and
        O(state=absent) are written all the same, for its next start.
    type: bool
    default: true
  backup:
    description: Keep the files as they were in a new folder below O(backup_dir). The ten newest are kept.
    type: bool
    default: true
  backup_dir:
    description: Where backups go. It is made readable by root alone.
    type: path
    default: /var/backups/sipguard/asterisk
  lock_timeout:
    description: How many seconds to wait for another run.
    type: int
    default: 30
requirements:
  - Asterisk 16 to 22 on the host
  - root
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change. The findings are then those of the changed configuration.
    support: full
  diff_mode:
    description: Returns the options that change, with file and section, before and after. Never a secret.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
seealso:
  - module: sipguard.pbx.asterisk_dialplan_guard
  - module: sipguard.pbx.freepbx_setting
"""

EXAMPLES = r"""
- name: Give Asterisk the settings that nobody notices
  sipguard.pbx.asterisk_sip_hardening:

- name: Everything that the published advice says, but let the reception transfer calls
  sipguard.pbx.asterisk_sip_hardening:
    profile: strict
    settings:
      pjsip:
        global: {user_agent: switchboard}
    exceptions:
      - name: "1001"
        settings: {allow_transfer: true}

- name: Only look, and fail for what is high or critical
  sipguard.pbx.asterisk_sip_hardening:
    audit_only: true
    fail_at: high
    waive:
      - waive: short-names
        reason: the numbers are on the doors

- name: Log files for fail2ban, and nothing else
  sipguard.pbx.asterisk_sip_hardening:
    logger: {}
    only: [logger]
    audit: false
"""

RETURN = r"""
version:
  description: Asterisk's own version, empty where there is none.
  returned: success
  type: str
  sample: 22.10.1
drivers:
  description: The drivers that were looked after.
  returned: success
  type: list
  elements: str
  sample: [pjsip]
freepbx:
  description: Whether the configuration is FreePBX's.
  returned: success
  type: bool
guard:
  description: Whether the file of M(sipguard.pbx.asterisk_dialplan_guard) is there, under its usual name.
  returned: success
  type: bool
log_directory:
  description: Where Asterisk writes its logs.
  returned: success
  type: str
  sample: /var/log/asterisk
log_user:
  description: Whose these log files are, and whose they have to be when they are rotated; empty where there is no Asterisk.
  returned: success
  type: str
  sample: asterisk
log_group:
  description: That user's group.
  returned: success
  type: str
  sample: asterisk
missing_packages:
  description: What O(logger) needs besides, by the names of Debian's packages.
  returned: success
  type: list
  elements: str
  sample: [logrotate]
settings:
  description:
    - Every line that changes. C(before) is what counted until now and null where nothing said it, C(after) is null where nothing says
      it any more.
    - C(restart) says whether only a restart of Asterisk brings it into effect.
  returned: success
  type: list
  elements: dict
  sample:
    - file: pjsip.conf
      section: global
      option: user_agent
      before: null
      after: PBX
      why: The default tells every stranger the exact version, and with it the known holes.
      source: XML documentation, res_pjsip
      restart: false
effective:
  description:
    - What Asterisk itself says afterwards, by file and section, of the options in question.
    - Of hundreds of objects, it is a sample. Empty in check mode with changes, and with O(reload=false).
  returned: success
  type: dict
  sample:
    pjsip.conf global: {user_agent: PBX}
findings:
  description:
    - What is weak, worst first. C(severity) is critical, high, medium, low or info. C(places) are files and lines.
    - At most 20 subjects and places each; C(count) is how many there are. C(waived) is the reason for which one is accepted.
  returned: when O(audit) or O(audit_only) is true
  type: list
  elements: dict
  sample:
    - id: weak-secret
      severity: high
      title: Weak secret
      detail: ""
      why: Whoever guesses it calls at your cost.
      remedy: Give it a long random one.
      subject: "1001"
      subjects: ["1001"]
      places: ["pjsip.conf:12"]
      count: 1
      waived: ""
table:
  description: The findings as a table for a terminal.
  returned: when O(audit) or O(audit_only) is true
  type: str
  sample: "high  weak-secret  ..."
reloaded:
  description: The commands with which Asterisk read what changed.
  returned: success
  type: list
  elements: str
  sample: ["module reload res_pjsip.so"]
restart_needed:
  description: What the Asterisk that runs will follow only after a restart.
  returned: success
  type: list
  elements: str
  sample: ["pjsip.conf [tls] method"]
running:
  description: Whether Asterisk runs.
  returned: success
  type: bool
backup:
  description: The folder with the files as they were; empty where nothing was changed.
  returned: success
  type: str
  sample: /var/backups/sipguard/asterisk/20261121T180000Z
differs:
  description: >-
    Whether the host was not yet what the options say. The same as C(changed), for a role that asks in check mode and may not call
    that a change.
  returned: success
  type: bool
"""

import gc
import os
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._netfilter.lock import check_timeout, exclusive
from ..module_utils._netfilter.runner import HostRunner, runner_for
from ..module_utils._sip.errors import SipguardError

# What a host without Asterisk says.
_NOTHING: dict[str, Any] = {
    "changed": False,
    "differs": False,
    "diff": {"before": "", "after": ""},
    "version": "",
    "drivers": [],
    "freepbx": False,
    "guard": False,
    "log_directory": "",
    "log_user": "",
    "log_group": "",
    "missing_packages": [],
    "settings": [],
    "effective": {},
    "reloaded": [],
    "restart_needed": [],
    "running": False,
    "backup": "",
}


def main() -> None:
    """Options -> the host's configuration -> the difference -> files, Asterisk and findings."""
    # thousands of sections that all live until the end: looking for garbage among them takes a third of the time
    gc.disable()
    module = AnsibleModule(
        argument_spec=dict(
            config_dir=dict(type="path", default="/etc/asterisk"),
            state=dict(type="str", default="present", choices=["present", "absent"]),
            profile=dict(type="str", default="baseline", choices=["baseline", "strict"]),
            drivers=dict(type="list", elements="str", default=[], choices=["chan_sip", "pjsip"]),
            settings=dict(type="dict", default={}),
            exceptions=dict(
                type="list",
                elements="dict",
                default=[],
                options=dict(name=dict(type="str", required=True), settings=dict(type="dict", required=True)),
            ),
            logger=dict(type="dict"),
            manager=dict(
                type="dict",
                options=dict(user=dict(type="str", default="sipguard"), secret=dict(type="str", no_log=True)),
            ),
            only=dict(
                type="list",
                elements="str",
                default=["settings", "logger", "manager"],
                choices=["settings", "logger", "manager"],
            ),
            audit_only=dict(type="bool", default=False),
            audit=dict(type="bool", default=True),
            min_secret_length=dict(type="int", default=12, no_log=False),
            common_secrets=dict(type="path", no_log=False),
            waive=dict(
                type="list",
                elements="dict",
                default=[],
                options=dict(waive=dict(type="str", required=True), reason=dict(type="str", required=True)),
            ),
            fail_at=dict(type="str", default="never", choices=["critical", "high", "medium", "low", "info", "never"]),
            reload=dict(type="bool", default=True),
            backup=dict(type="bool", default=True),
            backup_dir=dict(type="path", default="/var/backups/sipguard/asterisk"),
            lock_timeout=dict(type="int", default=30),
        ),
        supports_check_mode=True,
    )
    if HostRunner().which("asterisk") is None and not os.path.isdir(module.params["config_dir"]):
        module.exit_json(**_NOTHING)
    try:
        result, warnings, failing = _apply(module)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in warnings:
        module.warn(warning)
    if failing:
        module.fail_json(
            msg=f"the audit has findings of severity {module.params['fail_at']} or higher: {failing}", **result
        )
    module.exit_json(**result)


def _apply(module: AnsibleModule) -> tuple[dict[str, Any], list[str], str]:
    """The module's result, warnings, and the ids of findings for which it has to fail. Raises SipguardError."""
    # Not at the top: a host without Asterisk has no use for it, and compiling it takes a Raspberry Pi a second.
    from ..module_utils._asterisk import freepbx_firewall, hardening

    options = module.params
    check = module.check_mode or options["audit_only"]
    check_timeout(options["lock_timeout"])
    audit = _Audit(options) if options["audit"] or options["audit_only"] else None
    request = hardening.Request(
        config_dir=options["config_dir"],
        state=options["state"],
        profile=options["profile"],
        drivers=options["drivers"],
        settings=options["settings"],
        exceptions=options["exceptions"],
        logger=options["logger"],
        manager=options["manager"],
        only=options["only"],
        reload=options["reload"],
        backup=options["backup"],
        backup_dir=options["backup_dir"],
    )
    with exclusive(options["lock_timeout"], not check):
        asterisk = hardening.find(runner_for(check), request)
        outcome = hardening.Outcome() if options["audit_only"] else hardening.harden(asterisk, request, check)
    result: dict[str, Any] = {
        "changed": outcome.changed,
        "differs": outcome.changed,
        "diff": {"before": outcome.before, "after": outcome.after},
        "version": asterisk.version.text if asterisk.version else "",
        "drivers": list(asterisk.drivers),
        "freepbx": asterisk.host is not None,
        "guard": os.path.lexists(asterisk.directory.full("extensions_sipguard.conf")),
        "log_directory": asterisk.log_directory,
        "log_user": asterisk.log_owner[0],
        "log_group": asterisk.log_owner[1],
        "missing_packages": [
            each for each in ("logrotate",) if options["logger"] is not None and HostRunner().which(each) is None
        ],
        "settings": [each.result() for each in outcome.changes],
        "effective": outcome.effective,
        "reloaded": outcome.reloaded,
        "restart_needed": outcome.restart_needed,
        "running": asterisk.running,
        "backup": outcome.backup,
    }
    failing = ""
    if audit is not None and (asterisk.version is not None or asterisk.drivers):
        found = audit.run(
            # in check mode, the configuration as it would be
            outcome.files if check else {},
            version=asterisk.number if asterisk.version else None,
            drivers=asterisk.drivers if asterisk.running else (),
            freepbx=asterisk.host is not None,
            run_user=asterisk.user,
            host=freepbx_firewall.look(asterisk.host, HostRunner()) if asterisk.host else freepbx_firewall.Host(),
        )
        failing = found.pop("failing")
        result.update(found)
    return result, outcome.warnings, failing


class _Audit:
    """The audit's part; its options are checked before anything is changed. Raises SipguardError."""

    def __init__(self, options: dict[str, Any]) -> None:
        from ..module_utils._asterisk.audit import report
        from ..module_utils._asterisk.audit.context import Context, read_common
        from ..module_utils._asterisk.tree import ConfigDirectory

        self._waivers = report.parse_waivers(options["waive"])
        self._fail_at = options["fail_at"]
        self._context = Context(
            ConfigDirectory(os.path.normpath(options["config_dir"])),
            min_secret_length=options["min_secret_length"],
            common_secrets=read_common(options["common_secrets"]) if options["common_secrets"] else frozenset(),
        )

    def run(self, files: dict[str, bytes], **about: Any) -> dict[str, Any]:
        """``findings``, ``table``, and ``failing``, the ids of those for which the run has to fail."""
        from ..module_utils._asterisk.audit import report
        from ..module_utils._asterisk.audit.run import run
        from ..module_utils._asterisk.tree import ConfigDirectory

        directory = ConfigDirectory(self._context.directory.path, files)
        found = report.waive(run(replace(self._context, directory=directory, **about)), self._waivers)
        bad = [each.id for each in found if self._fail_at != "never" and report.fails([each], self._fail_at)]
        return {
            "findings": report.as_dict(found),
            "table": report.table(found),
            "failing": ", ".join(dict.fromkeys(bad)),
        }


if __name__ == "__main__":
    main()
