#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: asterisk_dialplan_guard
short_description: Guard the way from Asterisk's dialplan to the public network
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    Writes an include file for the dialplan with a guard that you call before a C(Dial) of your own (C(Gosub(sipguard-guard,s,1))), and,
    with O(trunk), a context C(sipguard-outbound) that the context of the phones can include.
  - >-
    The guard returns when the call may go out, and hangs up when not: foreign and premium numbers, a PIN or a secret prefix, a limit on
    the duration and on the number of calls, hours. Emergency numbers always pass.
  - >-
    A number is judged in every notation in which a carrier might take it. Characters that are not part of a number are refused before
    anything else looks at them.
  - The PIN and the prefix stand in no file. There is a salted hash of each, which the diff does not show.
options:
  config_dir:
    description: Asterisk's configuration directory.
    type: path
    default: /etc/asterisk
  file:
    description: Name of the include file. A file of this name that somebody else has written is not replaced.
    type: str
    default: extensions_sipguard.conf
  include_into:
    description:
      - The file at whose end the line C(#include) is added. On FreePBX it has to be V(extensions_custom.conf).
      - Empty means that no file is changed, because you include O(file) yourself.
    type: str
    default: extensions.conf
  country:
    description: Where the PBX stands, which says how numbers are written and which of them are premium. Needed with O(state=present).
    type: str
    choices: [at, ch, de, gb, us]
  access_digit:
    description: The digit that is dialled for an outside line. Empty means none.
    type: str
    default: ""
  international:
    description: Numbers abroad.
    type: str
    choices: [allow, block]
    default: block
  premium:
    description: Premium numbers and directory enquiries of the country, satellites, and destinations abroad that are known for fraud.
    type: str
    choices: [allow, block]
    default: block
  blocked:
    description: First digits of further numbers that must not be called (V(+4470), V(0180)).
    type: list
    elements: str
    default: []
  allowed:
    description:
      - First digits of numbers that may be called all the same (V(+44), V(0900 555)).
      - >-
        They win over O(blocked), O(premium) and O(international), but not over an entry with more digits: V(+1) allows the USA and
        leaves the area codes of the Caribbean blocked.
    type: list
    elements: str
    default: []
  emergency:
    description:
      - Emergency numbers besides 110, 112, 144, 911, 999 and those of O(country). Nothing stops them.
      - Name one of those five here if it is not one of O(country) and has to come before the patterns of O(contexts) all the same.
    type: list
    elements: str
    default: []
  pin:
    description: What the caller has to enter, 6 to 20 digits.
    type: str
  prefix:
    description:
      - What has to be dialled before the number, 3 to 12 digits, stars or hashes. No number may begin with it.
      - It is part of the dialled number, and so of everything that records that. O(pin) is not.
    type: str
  pin_for:
    description:
      - Which calls need O(pin) and O(prefix).
      - V(international) means what is not an ordinary national number, premium numbers and their exceptions included.
    type: str
    choices: [international, all, none]
    default: international
  max_duration:
    description: Seconds after which a call is ended. V(0) means no limit.
    type: int
    default: 3600
  max_calls:
    description: How many calls may go out at once. V(0) means no limit.
    type: int
    default: 0
  max_calls_per_caller:
    description: How many of them may come from one endpoint or peer. V(0) means no limit.
    type: int
    default: 0
  hours:
    description: When calls may go out, in the host's own time (V(mon-fri 07:00-19:00), V(08:00-12:00)). Empty means always.
    type: list
    elements: str
    default: []
  announcement:
    description: A sound file that whoever is refused hears, without its ending. Empty means none.
    type: str
    default: ""
  trunk:
    description: The dial string of the trunk with C({number}) in it. Empty means that there is no context C(sipguard-outbound).
    type: str
    default: ""
  contexts:
    description:
      - Contexts of the phones that are to include C(sipguard-outbound). What they hold themselves is matched first.
      - >-
        Not so emergency numbers of O(country) and O(emergency): they become extensions of these contexts, which come before a pattern
        such as C(_1XX). An emergency number that a context has itself stays as it is, with a warning if it does not lead to the guard.
    type: list
    elements: str
    default: []
  state:
    description: V(absent) removes the file, the program that asks for the PIN, and the line that includes the file.
    type: str
    choices: [present, absent]
    default: present
  reload:
    description:
      - Let Asterisk read the dialplan again, and ask it whether the guard is there. If not, the files become what they were.
      - V(false) only changes files, for an image or an Asterisk that is stopped.
    type: bool
    default: true
requirements:
  - C(/usr/bin/python3) and Asterisk's module C(res_agi), with O(pin)
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change.
    support: full
  diff_mode:
    description: Returns the include file and the line that includes it, before and after, with hashes blotted out.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian
seealso:
  - module: sipguard.pbx.asterisk_sip_hardening
"""

EXAMPLES = r"""
- name: Nothing abroad but the United Kingdom, and that with a PIN
  sipguard.pbx.asterisk_dialplan_guard:
    country: de
    access_digit: "0"
    allowed: ["+44"]
    pin: "{{ pbx_pin }}"
    max_calls: 4
    trunk: PJSIP/{number}@carrier
    contexts: [phones]

- name: On FreePBX, for a hook of its own
  sipguard.pbx.asterisk_dialplan_guard:
    country: us
    include_into: extensions_custom.conf
    max_calls_per_caller: 2

- name: Take it away
  sipguard.pbx.asterisk_dialplan_guard:
    state: absent
"""

RETURN = r"""
file:
  description: The include file.
  returned: success
  type: str
  sample: /etc/asterisk/extensions_sipguard.conf
contexts:
  description: The contexts in the include file.
  returned: success
  type: list
  elements: str
  sample: [sipguard-guard, sipguard-leg, sipguard-numbers, sipguard-outbound]
reloaded:
  description: Whether Asterisk has read the dialplan again.
  returned: success
  type: bool
backup:
  description: Folder with the files as they were before. Empty when nothing was changed.
  returned: success
  type: str
  sample: /var/backups/sipguard/asterisk/20260503T101500Z
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._asterisk import guard_files
from ..module_utils._asterisk.dialplan_guard import Guard
from ..module_utils._netfilter.lock import exclusive
from ..module_utils._netfilter.runner import HostRunner
from ..module_utils._sip.errors import OptionError, SipguardError

_LOCK_TIMEOUT = 30  # seconds


def main() -> None:
    """Options -> the texts -> the difference to the files -> files and dialplan."""
    module = AnsibleModule(
        argument_spec=dict(
            config_dir=dict(type="path", default="/etc/asterisk"),
            file=dict(type="str", default="extensions_sipguard.conf"),
            include_into=dict(type="str", default="extensions.conf"),
            country=dict(type="str", choices=["at", "ch", "de", "gb", "us"]),
            access_digit=dict(type="str", default=""),
            international=dict(type="str", default="block", choices=["allow", "block"]),
            premium=dict(type="str", default="block", choices=["allow", "block"]),
            blocked=dict(type="list", elements="str", default=[]),
            allowed=dict(type="list", elements="str", default=[]),
            emergency=dict(type="list", elements="str", default=[]),
            pin=dict(type="str", no_log=True),
            prefix=dict(type="str", no_log=True),
            pin_for=dict(type="str", default="international", choices=["international", "all", "none"], no_log=False),
            max_duration=dict(type="int", default=3600),
            max_calls=dict(type="int", default=0),
            max_calls_per_caller=dict(type="int", default=0),
            hours=dict(type="list", elements="str", default=[]),
            announcement=dict(type="str", default=""),
            trunk=dict(type="str", default=""),
            contexts=dict(type="list", elements="str", default=[]),
            state=dict(type="str", default="present", choices=["present", "absent"]),
            reload=dict(type="bool", default=True),
        ),
        supports_check_mode=True,
    )
    try:
        result = _apply(module)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


def _apply(module: AnsibleModule) -> dict[str, Any]:
    """The result. Raises SipguardError with nothing changed."""
    given = dict(module.params)
    place = guard_files.Place(given.pop("config_dir"), given.pop("file"), given.pop("include_into"))
    state, reload = given.pop("state"), given.pop("reload")
    guard = None
    if state == "present":
        if given["country"] is None:
            raise OptionError("country", None, "one of at, ch, de, gb, us is needed")
        guard = Guard(**{**given, "pin": given["pin"] or "", "prefix": given["prefix"] or ""})
    with exclusive(_LOCK_TIMEOUT, not module.check_mode):
        return guard_files.apply(place, guard, HostRunner(), reload=reload, check=module.check_mode)


if __name__ == "__main__":
    main()
