#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sip_trust
short_description: Name the sources that sipguard never judges, limits, learns or drops
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - Makes the sets C(sipguard-trusted4) and C(sipguard-trusted6) hold exactly the sources that are named.
  - Trust comes before every rule of sipguard. It does not open a port that another firewall has closed.
  - The sets are filled aside and swapped in, so no packet is judged against half of them.
  - Names are resolved on the controller when the task runs, with a warning, because their addresses can change without anybody noticing.
options:
  state:
    description:
      - V(present) makes the sets hold exactly O(sources).
      - V(absent) empties them, and removes them unless other rules of sipguard need them.
    type: str
    choices: [present, absent]
    default: present
  sources:
    description:
      - Addresses (V(192.0.2.7)), networks (V(192.0.2.0/24), V(2001:db8::/32)), ranges (V(192.0.2.10-192.0.2.20)) and names.
      - The internet as a whole (V(0.0.0.0/0), V(::/0)) is refused.
    type: list
    elements: str
    default: []
  must_include:
    description:
      - >-
        Addresses that have to be among O(sources), or the module fails and changes nothing: those from which the host is administered,
        such as RV(sipguard.pbx.sip_host_info#module:ssh_peers).
    type: list
    elements: str
    default: []
  families:
    description: Address families to keep sources of. Sources of the other family are left out.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  persist:
    description: Write the sources to C(/etc/sipguard/sets) for the next boot.
    type: bool
    default: true
  switch:
    description:
      - The cookie of the dead-man's switch (M(sipguard.pbx.sipguard_switch)) under which this run changes the sources.
      - The module fails, and changes nothing, unless that cookie is still pending. Empty means that no switch is used.
    type: str
    default: ""
requirements:
  - ipset 7 on the host
  - root, or CAP_NET_ADMIN in a container
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change.
    support: full
  diff_mode:
    description: Returns the members before and after.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
seealso:
  - module: sipguard.pbx.sip_ua_blocklist
"""

EXAMPLES = r"""
- name: Trust the office, the trunk and whoever administers the host
  sipguard.pbx.sip_trust:
    sources:
      - 192.0.2.0/24
      - 2001:db8:7::/64
      - 198.51.100.10-198.51.100.13
      - sip.provider.example

- name: Trust nobody any more
  sipguard.pbx.sip_trust:
    state: absent
"""

RETURN = r"""
trusted:
  description: What the sets hold, as few networks as possible.
  returned: always
  type: dict
  sample: {"ipv4": ["192.0.2.0/24"], "ipv6": ["2001:db8:7::/64"]}
resolved:
  description: The addresses that names stood for.
  returned: when a source is a name
  type: dict
  sample: {"sip.provider.example": ["198.51.100.10"]}
differs:
  description: >-
    Whether the host was not yet what the options say. The same as C(changed), for a role that asks in check mode and may not call
    that a change.
  returned: always
  type: bool
persisted:
  description: Whether the file for the next boot holds exactly these sources.
  returned: always
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._netfilter import trust
from ..module_utils._netfilter.engine import DEFAULT_LOCK_TIMEOUT
from ..module_utils._netfilter.lock import exclusive
from ..module_utils._netfilter.names import FAMILIES
from ..module_utils._netfilter.persist import Store
from ..module_utils._netfilter.runner import runner_for
from ..module_utils._netfilter.switch_guard import require_armed
from ..module_utils._sip.addresses import parse_networks
from ..module_utils._sip.errors import SipguardError


def main() -> None:
    """Options -> networks -> the difference to the live sets -> one ipset restore."""
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", default="present", choices=["present", "absent"]),
            sources=dict(type="list", elements="str", default=[]),
            must_include=dict(type="list", elements="str", default=[]),
            families=dict(type="list", elements="str", default=["ipv4", "ipv6"], choices=["ipv4", "ipv6"]),
            persist=dict(type="bool", default=True),
            switch=dict(type="str", default=""),
        ),
        supports_check_mode=True,
    )
    options = module.params
    present = options["state"] == "present"
    try:
        networks = [network for entry in options["sources"] for network in parse_networks(entry, "sources")]
        trust.require(networks, options["must_include"])
        families = [family for family in FAMILIES if family.name in options["families"]]
        wanted = trust.wanted_members(networks if present else [], families)
        with exclusive(DEFAULT_LOCK_TIMEOUT, not module.check_mode):
            require_armed(options["switch"])
            outcome = trust.converge(
                runner_for(module.check_mode),
                Store(),
                wanted,
                present=present,
                persist=options["persist"],
                check=module.check_mode,
            )
    except SipguardError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        differs=outcome.changed,
        diff={"before": outcome.before, "after": outcome.after},
        trusted={family.name: list(wanted[family]) for family in FAMILIES},
        persisted=outcome.persisted,
    )


if __name__ == "__main__":
    main()
