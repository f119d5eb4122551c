#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: freepbx_setting
short_description: Change FreePBX's own settings the way FreePBX does
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    Settings that FreePBX keeps in its database and writes into generated files cannot be changed in those files. This module reads and
    writes them with FreePBX's own PHP classes, and leaves C(Apply Config) to be done or does it.
  - The values are read back after writing. If they did not arrive, or cannot be applied, the earlier ones are put back.
  - Values never appear in the process list, and FreePBX's credentials never in any output.
  - >-
    A transport of PJSIP keeps its address, its port and its TLS until Asterisk is restarted, unless V(pjsip_allow_reload) is V(yes), which
    FreePBX advises against. RV(restart_needed) says what waits, and M(sipguard.pbx.asterisk_restart) knows of it.
options:
  settings:
    description:
      - Settings by section, then by FreePBX's own name for them. Whatever is not named stays as it is.
      - >-
        C(sipsettings) are those of the page C(Asterisk SIP Settings), tabs General and PJSIP, such as V(allowguest), V(allowanon),
        V(pjsip_identifers_order) (a list), V(method), V(verify_client), V(externip), V(localnets) or V(tlsport-0.0.0.0).
      - >-
        C(chan_sip) are those of its chan_sip tab, such as V(allowguest), V(tlsenable) or V(maxexpiry). What FreePBX has no field for
        belongs in C(sip_general_custom.conf).
      - C(advanced) are Advanced Settings by their keyword, such as V(SIPUSERAGENT).
      - >-
        C(firewall) are those of the page C(Firewall), tab C(Advanced), each V(enabled) or V(disabled): V(customrules), V(safemode),
        V(import_hosts), V(lefilter), V(masq), V(rejectpackets), V(id_service), V(id_sync_fw). FreePBX's firewall reads them by itself,
        without C(Apply Config).
      - >-
        A value of V(null) removes the stored value, so that FreePBX's default counts. RV(before) has this shape: given as O(settings), it
        restores what was.
    type: dict
    required: true
  reload:
    description:
      - Run C(fwconsole reload) if something was changed, or if FreePBX still has changes to apply, those of its pages included.
      - Without it, FreePBX shows C(Apply Config) and Asterisk goes on with what it has.
    type: bool
    default: false
requirements:
  - FreePBX 17 on the host, with its PHP
  - root
attributes:
  check_mode:
    description: Can run in check mode, reads only, and says then what it would change.
    support: full
  diff_mode:
    description: Returns the settings before and after.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian
seealso:
  - module: sipguard.pbx.asterisk_restart
"""

EXAMPLES = r"""
- name: No guests, no anonymous calls, and nothing about versions to strangers
  sipguard.pbx.freepbx_setting:
    settings:
      sipsettings:
        allowguest: "no"
        allowanon: "No"
        pjsip_identifers_order: [ip, username, header]
      advanced:
        SIPUSERAGENT: PBX
    reload: true
  register: sip_settings

- name: What it was before
  sipguard.pbx.freepbx_setting:
    settings: "{{ sip_settings.before }}"
    reload: true
"""

RETURN = r"""
before:
  description: The settings that were named, as they were stored. A value is null if none was.
  returned: success
  type: dict
  sample:
    sipsettings: {allowguest: "yes", allowanon: null}
after:
  description: The same settings now.
  returned: success
  type: dict
  sample:
    sipsettings: {allowguest: "no", allowanon: null}
reloaded:
  description: Whether C(fwconsole reload) was run.
  returned: success
  type: bool
restart_needed:
  description: >-
    What the Asterisk that runs will follow only after a restart, of this run and of earlier ones. After O(reload) these are options of
    transports that have changed, whoever changed them; without it, settings that will need a restart once they are applied.
  returned: success
  type: list
  elements: str
  sample: ["pjsip.transports.conf [0.0.0.0-tls] method"]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._asterisk import freepbx, freepbx_settings, freepbx_transports, notes
from ..module_utils._asterisk.cli import Cli
from ..module_utils._netfilter.runner import HostRunner
from ..module_utils._sip.errors import SipguardError


def main() -> None:
    """Options -> what FreePBX has -> the difference -> FreePBX's database."""
    module = AnsibleModule(
        argument_spec=dict(
            settings=dict(type="dict", required=True),
            reload=dict(type="bool", default=False),
        ),
        supports_check_mode=True,
    )
    try:
        done, restart_needed = _apply(module)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    texts = {name: freepbx_settings.diff_text(getattr(done, name)) for name in ("before", "after")}
    module.exit_json(
        changed=done.changed,
        diff=texts if done.changed else {"before": "", "after": ""},
        before=done.before,
        after=done.after,
        reloaded=done.reloaded,
        restart_needed=restart_needed,
    )


def _apply(module: AnsibleModule) -> tuple[freepbx_settings.Applied, list[str]]:
    """What was done, and what waits for a restart. Raises SipguardError with nothing changed."""
    found = freepbx.detect()
    if found is None:
        raise SipguardError("FreePBX was not found on this host: there is no /etc/freepbx.conf, or no fwconsole")
    options = module.params
    transports: dict[str, freepbx_transports.Options] = {}
    done = freepbx_settings.apply(
        found,
        HostRunner(),
        options["settings"],
        reload=options["reload"],
        check=module.check_mode,
        # Thousands of telephones stand in the same files: they are read only where something is going to be applied.
        before_reload=lambda: transports.update(freepbx_transports.read(found.config_dir)),
    )
    told = list(done.transports)
    try:
        if done.reloaded:
            told = freepbx_transports.waiting(transports, freepbx_transports.read(found.config_dir))
        return done, _note(Cli(HostRunner(), found.config_dir), [] if module.check_mode else told)
    except SipguardError as error:
        # The settings are what they should be.
        module.warn(f"what waits for a restart of Asterisk could not be written down: {error}")
        return done, told


def _note(cli: Cli, told: list[str]) -> list[str]:
    """Write down what waits; all that does. Without Asterisk nothing does. Raises SipguardError."""
    if not cli.running():
        return []
    notes.add(cli, notes.RESTART, told)
    return notes.read(cli, notes.RESTART)


if __name__ == "__main__":
    main()
