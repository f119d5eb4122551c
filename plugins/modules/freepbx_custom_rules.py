#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: freepbx_custom_rules
short_description: Let FreePBX's firewall load sipguard's rules whenever it has flushed them
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    FreePBX's firewall empties the tables filter and nat whenever it starts, stops or finds a rule that is not its own, and loads its
    custom rules (C(/etc/firewall-4.rules), C(/etc/firewall-6.rules)) when it has built its own. This module keeps sipguard's chains of
    table filter in these files, between two marks, and switches FreePBX's custom rules on.
  - >-
    There is only one set of rules. The block holds what is in the kernel, and follows by itself whenever another module, the boot, a
    repair or a rollback changes that. So one run of this module is enough, before or after the others.
  - >-
    It is of use where the other modules are given C(table=filter). The tables mangle and raw are never flushed by FreePBX,
    and are what the role uses there unless it is told otherwise.
  - >-
    Lines of others in these files stay byte for byte, and so does the mode. A file with the block becomes root's if it was not: FreePBX
    loads nothing of a file of anybody else's.
  - FreePBX's firewall is never restarted, and its chains are never changed.
options:
  state:
    description:
      - V(present) keeps the block.
      - >-
        V(absent) takes it away, and a file that was not there before with it. FreePBX's custom rules are switched off again if this
        module has switched them on. They stay on, with a warning, for lines of others that were added or changed since.
    type: str
    choices: [present, absent]
    default: present
  families:
    description: Address families whose file has the block. A family left out has none afterwards.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  enable:
    description:
      - >-
        Switch on C(Custom Firewall Rules) in FreePBX's settings if they are off. Without them FreePBX loads no block, and flushes table
        filter every half a minute while there is a rule above its own.
      - V(false) neither reads nor changes FreePBX's settings, for an image whose database does not run.
    type: bool
    default: true
  activate_others:
    description:
      - >-
        Lines of others in these files do nothing while FreePBX's custom rules are off, or the file is not root's. Without this option the
        module fails rather than have FreePBX load such lines too: drafts that somebody has forgotten could shut everybody out, or let
        strangers in, at the next start of its firewall.
      - V(true) says that they have been looked at and shall be loaded. With O(state=absent) custom rules then stay on for them.
    type: bool
    default: false
  backend:
    description: Which iptables to read the rules from. V(auto) takes what the command iptables is on the host, as FreePBX does.
    type: str
    choices: [auto, nft, legacy]
    default: auto
  lock_timeout:
    description: Seconds to wait for another run of sipguard.
    type: int
    default: 30
  switch:
    description:
      - The cookie of the dead-man's switch (M(sipguard.pbx.sipguard_switch)) under which this run changes the files.
      - The module fails, and changes nothing, unless that cookie is still pending. Empty means that no switch is used.
    type: str
    default: ""
notes:
  - >-
    FreePBX itself makes both files writable for every user of the host (mode 0666) with each C(fwconsole chown), and so at each start.
    While custom rules are on, whoever can write there can write root's rules. The module leaves the mode alone, because it would not
    last, and warns when it switches custom rules on.
requirements:
  - FreePBX 17 on the host, with its PHP and its module firewall
  - iptables 1.8 (nft or legacy)
  - root
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change.
    support: full
  diff_mode:
    description: Returns both files and FreePBX's setting before and after.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian
seealso:
  - module: sipguard.pbx.freepbx_setting
  - name: FreePBX and sipguard
    description: What FreePBX does to other people's rules, and which way to choose.
    link: https://github.com/sipguard/pbx/blob/main/docs/guides/freepbx.md
"""

EXAMPLES = r"""
- name: Have FreePBX bring sipguard's rules back itself
  sipguard.pbx.freepbx_custom_rules:

- name: Keep scanners out, by rules that FreePBX knows of
  sipguard.pbx.sip_ua_blocklist:
    table: filter

- name: The same beside rules of your own that were waiting in these files
  sipguard.pbx.freepbx_custom_rules:
    activate_others: true

- name: As if it had never been there
  sipguard.pbx.freepbx_custom_rules:
    state: absent
"""

RETURN = r"""
files:
  description: For each family whether its file has the block, and how many lines for iptables there are in it.
  returned: success
  type: dict
  sample:
    ipv4: {path: /etc/firewall-4.rules, present: true, lines: 118}
    ipv6: {path: /etc/firewall-6.rules, present: true, lines: 118}
custom_rules:
  description: FreePBX's setting C(customrules) afterwards. Empty where it was not looked at.
  returned: success
  type: str
  sample: enabled
differs:
  description: >-
    Whether the host was not yet what the options say. The same as C(changed), for a role that asks in check mode and may not call
    that a change.
  returned: success
  type: bool
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._asterisk import freepbx, freepbx_firewall, freepbx_settings
from ..module_utils._netfilter import freepbx_rules
from ..module_utils._netfilter.backend import detect
from ..module_utils._netfilter.engine import Engine
from ..module_utils._netfilter.lock import check_timeout, exclusive
from ..module_utils._netfilter.names import FAMILIES, Family
from ..module_utils._netfilter.ruleset import Chains
from ..module_utils._netfilter.runner import HostRunner, runner_for
from ..module_utils._netfilter.switch_guard import require_armed
from ..module_utils._sip.errors import SipguardError


def main() -> None:
    """Options -> the chains in the kernel -> the difference to FreePBX's files -> files and FreePBX's setting."""
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", default="present", choices=["present", "absent"]),
            families=dict(type="list", elements="str", default=["ipv4", "ipv6"], choices=["ipv4", "ipv6"]),
            enable=dict(type="bool", default=True),
            activate_others=dict(type="bool", default=False),
            backend=dict(type="str", default="auto", choices=["auto", "nft", "legacy"]),
            lock_timeout=dict(type="int", default=30),
            switch=dict(type="str", default=""),
        ),
        supports_check_mode=True,
    )
    options, check = module.params, module.check_mode
    try:
        check_timeout(options["lock_timeout"])
        with exclusive(options["lock_timeout"], not check):
            require_armed(options["switch"])
            work = _Work(options, check)
            if not check:
                work.carry_out()
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in work.warnings:
        module.warn(warning)
    module.exit_json(**work.result())


class _Work:
    """What has to be done, found out by being made. Raises SipguardError, and then nothing has changed."""

    def __init__(self, options: dict[str, Any], check: bool) -> None:
        self.warnings: list[str] = []
        self._present = options["state"] == "present"
        self._freepbx = freepbx.detect()
        if self._present and self._freepbx is None:
            raise SipguardError("FreePBX was not found on this host: there is no /etc/freepbx.conf, or no fwconsole")
        # Whoever has never switched anything on need not ask FreePBX, which takes a moment.
        memory = freepbx_rules.memory(FAMILIES)
        asking = options["enable"] and (self._present or freepbx_rules.ENABLED in memory)
        firewall = self._firewall() if asking else None
        self._before = self._after = firewall.settings["customrules"] if firewall else ""
        switching = self._present and firewall is not None and not firewall.on("customrules")
        others, activate = freepbx_rules.others(FAMILIES), options["activate_others"]
        if switching:
            self._switch_on(others, activate)
            memory = freepbx_rules.remember(others)
        chains = self._chains(options, check) if self._present else dict.fromkeys(FAMILIES)
        self._changes = {
            family: freepbx_rules.plan(family, wanted, memory=memory, adopt=activate)[0]
            for family, wanted in chains.items()
        }
        for family, change in self._changes.items():
            if change.skipped:
                raise SipguardError(
                    f"{change.path} is not root's, so FreePBX loads nothing of it; made root's, it would also have FreePBX load "
                    f"{freepbx_rules.others([family])}, which sipguard has not written: {_REMEDY}"
                )
        if not self._present and firewall is not None and firewall.on("customrules"):
            off, said = freepbx_rules.leaving(others, memory, activate)
            self.warnings += [said] if said else []
            self._after = "disabled" if off else self._before

    def _firewall(self) -> freepbx_firewall.Firewall | None:
        if self._freepbx is None:
            return None
        firewall = freepbx_firewall.read(self._freepbx, HostRunner())
        if self._present and firewall is None:
            raise SipguardError("this FreePBX has no firewall module, so nothing would load the rules")
        if self._present and firewall is not None and not firewall.status:
            raise SipguardError(
                "FreePBX's firewall is switched off: it would empty table filter and load no rules; switch it on, or keep sipguard's rules "
                "in table mangle, which needs no custom rules"
            )
        return firewall

    def _chains(self, options: dict[str, Any], check: bool) -> dict[Family, Chains | None]:
        """Our chains of table filter, None for a family that gets no block."""
        engine = Engine(runner_for(check), options["backend"], options["lock_timeout"])
        snapshot = engine.snapshot()
        loading = detect(runner_for(check), "auto", engine.families).name
        if loading != engine.backend.name:
            self.warnings.append(
                f"FreePBX loads its files with the command iptables, which is the {loading} backend, and the rules are in the "
                f"{engine.backend.name} one: each packet would have to pass both; leave backend at auto"
            )
        chains: dict[Family, Chains | None] = {}
        for family in engine.families:
            ruleset = snapshot.rulesets[family]
            if freepbx_rules.TABLE in ruleset.unreadable:
                raise SipguardError(
                    f"table filter of {family.name} holds rules that were written with nft, so that iptables cannot show it: move them to "
                    "a table of their own"
                )
            wanted = family.name in options["families"]
            chains[family] = ruleset.own_chains(freepbx_rules.TABLE) if wanted else None
            if wanted and not chains[family] and ruleset.own_chains("mangle"):
                self.warnings.append(
                    f"the {family.name} rules are in table mangle, which FreePBX never flushes; its file gets none until they are in "
                    "table filter"
                )
        return chains

    def _switch_on(self, others: freepbx_rules.Others, activate: bool) -> None:
        """Everything in the files becomes root's rules with it."""
        if others and not activate:
            raise SipguardError(
                f"FreePBX's custom rules are off; switched on, they would also have FreePBX load {others}, which sipguard has not "
                f"written: {_REMEDY}"
            )
        self._after = "enabled"
        for path, mode in freepbx_rules.writable(FAMILIES):
            self.warnings.append(
                f"{path} can be written by others than root (mode {mode:04o}, which FreePBX gives it at each start), and with custom rules "
                "on FreePBX runs each of its lines as root: see 'Who may write these files' in docs/guides/freepbx.md"
            )

    def carry_out(self) -> None:
        done: list[freepbx_rules.Change] = []
        try:
            for change in self._changes.values():
                change.write()
                done.append(change)
            if self._after != self._before and self._freepbx is not None:
                settings = {"firewall": {"customrules": self._after}}
                freepbx_settings.apply(self._freepbx, HostRunner(), settings, reload=False, check=False)
        except SipguardError:
            freepbx_rules.write_all(change.undo() for change in done)
            raise

    def result(self) -> dict[str, Any]:
        changed = self._before != self._after or any(change.changed for change in self._changes.values())
        files = {
            family.name: {
                "path": change.path,
                "present": self._present and freepbx_rules.parse(change.after or b"", change.path).flags is not None,
                "lines": freepbx_rules.count(change.after or b""),
            }
            for family, change in self._changes.items()
        }
        return {
            "changed": changed,
            "differs": changed,
            "diff": {"before": self._text("before"), "after": self._text("after")} if changed else _NO_DIFF,
            "files": files,
            "custom_rules": self._after,
        }

    def _text(self, side: str) -> str:
        setting = self._before if side == "before" else self._after
        text = f"# FreePBX: customrules = {setting}\n" if setting else ""
        for change in self._changes.values():
            found = change.before if side == "before" else change.after
            if change.changed:
                shown = "" if found is None else found.decode("utf-8", "replace")
                about = "" if found is not None else " (not there)"
                if side == "before" and change.owner and change.heir:
                    about = " (of user {} and group {}, so FreePBX loads nothing of it)".format(*change.owner)
                text += f"# {change.path}{about}\n{shown}"
        return text


_NO_DIFF = {"before": "", "after": ""}
_REMEDY = (
    "look at them, then remove them, or set activate_others (pbx_firewall_freepbx_rules_others in the role) to true"
)

if __name__ == "__main__":
    main()
