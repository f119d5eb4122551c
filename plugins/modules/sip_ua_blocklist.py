#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sip_ua_blocklist
short_description: Stop SIP scanners by what they say of themselves
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    Drops SIP requests whose User-Agent header, or whose payload, is that of a known scanner: in the kernel,
    over UDP and TCP, IPv4 and IPv6.
    Its source is learned and then dropped before the connection tracking costs anything.
  - >-
    A conversation is judged until one whole request of it has been admitted, and again whenever the rules have changed,
    so an attack that was already running is cut as well, and an admitted conversation costs next to nothing.
  - >-
    The list is checked before it reaches the kernel. Entries that would also stop ordinary telephones are refused and named,
    entries that another one covers are left out and named.
  - Trusted sources (M(sipguard.pbx.sip_trust)) are never looked at, nor are those that have just logged in, where
    M(sipguard.pbx.sipban_service) knows them.
extends_documentation_fragment:
  - sipguard.pbx.firewall
  - sipguard.pbx.firewall.selection
options:
  presets:
    description:
      - Lists that come with the collection. Each entry has its source in the documentation.
      - V(scanners) is safe everywhere. No real phone, client or trunk matches it.
      - V(aggressive) also stops impersonations of old devices, and with them the last of those devices.
      - >-
        V(voipsupport), V(elektronikbasteln) and V(hostfirewall) are lists as their authors published them. Their dangerous entries
        are refused unless O(allow_broad) is set.
    type: list
    elements: str
    default: [scanners]
  user_agents:
    description:
      - User-Agents of your own, each a value, or a mapping of C(value), C(match) and C(note).
      - >-
        C(match) is V(prefix) (the header's value begins with it, as does a bare value), V(exact) (it is the whole value)
        or V(anywhere) (the packet has a User-Agent header, and the value stands somewhere in the packet).
    type: list
    elements: raw
    default: []
  payloads:
    description: Text that is looked for anywhere in a packet, such as V(sip:nm@nm).
    type: list
    elements: str
    default: []
  exclude:
    description: Entries of presets to leave out, by their value.
    type: list
    elements: str
    default: []
  allow_broad:
    description:
      - Let entries through that hit ordinary traffic. What nearly every SIP request contains is refused all the same.
    type: bool
    default: false
  ignore_case:
    description: Whether upper and lower case are the same.
    type: bool
    default: true
  no_user_agent:
    description: Stop requests whose User-Agent header is there but empty.
    type: bool
    default: true
  missing_user_agent:
    description: Stop requests that have no User-Agent header at all. Some real devices and trunks send none.
    type: bool
    default: false
  learn_for:
    description:
      - For how many seconds a source that was hit is dropped altogether on the SIP ports. V(0) turns learning off.
      - The source of a UDP packet can be forged. Put whoever must never be shut out this way into M(sipguard.pbx.sip_trust) or O(never).
    type: int
    default: 3600
  never:
    description: Addresses and networks that are never learned, whatever is sent in their name. Names are not allowed.
    type: list
    elements: str
    default: []
  no_maddr:
    description:
      - >-
        Also drop each packet with C(maddr=), in any case, of whoever is not trusted, and in conversations that were admitted before.
        chan_sip takes the address in its security events from there, so that a stranger could have somebody else banned.
      - Over TCP it can be cut in two, and in TLS it cannot be seen.
    type: bool
    default: false
seealso:
  - module: sipguard.pbx.sip_trust
notes:
  - A signature that a scanner splits over two TCP segments, or sends inside TLS, cannot be found by the kernel.
"""

EXAMPLES = r"""
- name: Stop known scanners
  sipguard.pbx.sip_ua_blocklist:

- name: Watch for a week what a longer list would stop
  sipguard.pbx.sip_ua_blocklist:
    presets: [scanners, aggressive]
    mode: observe

- name: Add signatures from one's own log
  sipguard.pbx.sip_ua_blocklist:
    user_agents:
      - gazllove
      - value: cisco
        match: exact
        note: Real Cisco devices send longer values
    payloads:
      - "sip:nm@nm"
    ports: ["5060", "5080"]

- name: A host whose filter table belongs to FreePBX
  sipguard.pbx.sip_ua_blocklist:
    table: mangle

- name: Take everything away again
  sipguard.pbx.sip_ua_blocklist:
    state: absent
"""

RETURN = r"""
patterns:
  description: The entries that reach the kernel, in order.
  returned: always
  type: list
  elements: dict
  contains:
    value:
      description: The text that is looked for.
      type: str
      returned: always
    match:
      description: One of exact, prefix, anywhere and payload.
      type: str
      returned: always
    origin:
      description: The preset or option it came from.
      type: str
      returned: always
  sample: [{"value": "friendly-scanner", "match": "anywhere", "origin": "scanners"}]
covered:
  description: Entries that were left out because another one finds whatever they would find, with that one.
  returned: always
  type: dict
  sample: {"sipcli/v1.8": "sipcli"}
refused:
  description: Entries of presets that were refused, each with the reason. A refused entry of one's own is an error instead.
  returned: always
  type: dict
  sample: {"-": "nearly every SIP request contains it"}
rules:
  description: How many rules sipguard has per family, all its modules together.
  returned: always
  type: dict
  sample: {"ipv4": 91, "ipv6": 91}
differs:
  description: >-
    Whether the host was not yet what the options say. The same as C(changed), for a role that asks in check mode and may not call
    that a change.
  returned: always
  type: bool
persisted:
  description: Whether the files for the next boot hold exactly what the kernel does.
  returned: always
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._netfilter import user_agents
from ..module_utils._netfilter.engine import Engine, with_member
from ..module_utils._netfilter.lock import exclusive
from ..module_utils._netfilter.names import CHAIN_UA
from ..module_utils._netfilter.options import ARGUMENTS, read_common
from ..module_utils._netfilter.runner import runner_for
from ..module_utils._netfilter.switch_guard import require_armed
from ..module_utils._sip.errors import SipguardError
from ..module_utils._sip.selection import select


def main() -> None:
    """Options -> signatures -> rules -> plan -> kernel."""
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            presets=dict(type="list", elements="str", default=["scanners"]),
            user_agents=dict(type="list", elements="raw", default=[]),
            payloads=dict(type="list", elements="str", default=[]),
            exclude=dict(type="list", elements="str", default=[]),
            allow_broad=dict(type="bool", default=False),
            ignore_case=dict(type="bool", default=True),
            no_user_agent=dict(type="bool", default=True),
            missing_user_agent=dict(type="bool", default=False),
            learn_for=dict(type="int", default=3600),
            never=dict(type="list", elements="str", default=[]),
            no_maddr=dict(type="bool", default=False),
        ),
        supports_check_mode=True,
    )
    options = module.params
    try:
        common = read_common(options)
        chosen = select(options)
        engine = Engine(runner_for(module.check_mode), options["backend"], options["lock_timeout"])
        wanted = user_agents.read_options(options, chosen.effective)
        members = {family: user_agents.member(common, wanted, family) for family in common.families if common.present}
        with exclusive(options["lock_timeout"], not module.check_mode):
            require_armed(options["switch"])
            snapshot = engine.snapshot(members.values())
            targets = with_member(engine, snapshot, CHAIN_UA, members, common)
            outcome = engine.converge(targets, snapshot, persist=options["persist"], check=module.check_mode)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(
        patterns=[{"value": entry.value, "match": entry.match, "origin": entry.origin} for entry in chosen.effective],
        covered=chosen.covered,
        refused=chosen.refused,
        **outcome.result(),
    )


if __name__ == "__main__":
    main()
