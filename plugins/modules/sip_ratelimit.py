#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sip_ratelimit
short_description: Limit how much SIP one source may send
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    Counts in the kernel what each source sends to the SIP ports, by method or altogether, over UDP and TCP, IPv4 and IPv6,
    and drops what is over the limit. Nothing else happens to the source, unless a limit bans.
  - >-
    Every packet is counted, those of admitted and established conversations too. A method is recognised where the request line
    begins, whatever its case and whatever options the packet's headers have, and not in a body or in the value of a header.
  - >-
    New SSH connections can be limited as well (O(ssh)). An established one is never touched.
  - >-
    Trusted sources (M(sipguard.pbx.sip_trust)) are never limited, not even when somebody fills the kernel's tables with forged
    sources. Nor are those that have just logged in, where M(sipguard.pbx.sipban_service) knows them; limits on SSH hold for them.
extends_documentation_fragment:
  - sipguard.pbx.firewall
  - sipguard.pbx.firewall.selection
options:
  presets:
    description:
      - Limits that come with the collection. Several are added up, and so are the O(limits) of one's own.
      - >-
        V(standard) lets a site of 60 telephones behind one address register twice over at once: 4 REGISTER a second with a burst of
        300, 2 INVITE a second with a burst of 150, and 100 packets a second with a burst of 1000. A network may send five times as
        many REGISTER and INVITE.
      - >-
        V(hostfirewall) and V(dos-filter) are limits as their authors published them. A site of a few dozen telephones behind one
        address does not get through them after an outage.
      - V(hostfirewall) is 12 REGISTER and 12 INVITE in 60 seconds with O(limits[].engine=recent), and 6 packets a second with a burst of 5.
      - V(dos-filter) is 5 packets a second with a burst of 30, and 3 new SSH connections a minute with a burst of 10.
      - Where neither this nor O(limits) nor O(ssh) says anything, it is V(standard).
    type: list
    elements: str
    default: []
  limits:
    description:
      - Limits of one's own. A packet has to be within each of them.
    type: list
    elements: dict
    default: []
    suboptions:
      method:
        description: A method of SIP such as V(REGISTER), or V(any) for every packet to the SIP ports, answers and keep-alives included.
        type: str
        required: true
      rate:
        description:
          - How many packets in which time, such as V(12/minute).
          - Units are V(second), V(minute), V(hour) and V(day), or V(s), V(sec), V(min), V(h) and V(d).
        type: str
        required: true
      burst:
        description:
          - How many packets may come at once after a silence. By default the count of the rate, and at least 5.
          - At least what the rate lets through in a hundredth of a second, at most what it does in 12 hours, and at most 1000000.
          - Not with O(limits[].engine=recent).
        type: int
      engine:
        description:
          - V(hashlimit) is a token bucket for each source. It fills up again at the rate.
          - >-
            V(recent) counts the packets of the last second, minute, hour or day, at most 20 of them, and remembers 100 sources unless the
            kernel's module was loaded with other parameters. It is there for rule sets that were published with it.
        type: str
        choices: [hashlimit, recent]
        default: hashlimit
      per:
        description:
          - What counts as one source.
          - V(source) is a single address.
          - V(source_net) is an IPv4 network of 24 bits, and an IPv6 network of 64 bits, of which a single host can use every address.
          - What is over a limit on the single address is not counted for its network.
        type: str
        choices: [source, source_net]
        default: source
      ban_for:
        description:
          - >-
            For how many seconds a source over the limit is dropped altogether on the SIP ports. V(0) only drops what is over the limit, so
            that it recovers by itself.
          - >-
            The source of a UDP packet can be forged, so that a limit that bans lets anybody have somebody else banned. Put whoever must
            never be shut out this way into M(sipguard.pbx.sip_trust) or O(never).
        type: int
        default: 0
  ssh:
    description:
      - A limit on new SSH connections of one source, trusted ones excepted. It takes the place of what O(presets) say about SSH.
      - It looks at TCP on the O(interfaces) given, whatever O(protocols) are, and never bans.
      - One source is here an IPv4 address, or an IPv6 network of 64 bits.
      - V(standard) says nothing about SSH.
    type: dict
    suboptions:
      rate:
        description: As in O(limits[].rate).
        type: str
        required: true
      burst:
        description: As in O(limits[].burst).
        type: int
      ports:
        description: The ports of SSH, none of which may be one of O(ports).
        type: list
        elements: str
        default: ["22"]
  never:
    description:
      - Addresses and networks that are never banned, whatever is sent in their name. They are limited like others.
      - Names are not allowed.
    type: list
    elements: str
    default: []
seealso:
  - module: sipguard.pbx.sip_trust
notes:
  - The kernel counts packets, not requests. Over TCP one packet may hold several requests, or none that begins in it.
"""

EXAMPLES = r"""
- name: Limit what a single source can send
  sipguard.pbx.sip_ratelimit:

- name: See for a week whom the limits would hit
  sipguard.pbx.sip_ratelimit:
    mode: observe

- name: The standard limits, and one on SSH
  sipguard.pbx.sip_ratelimit:
    presets: [standard]
    ssh:
      rate: 10/minute
      burst: 30

- name: A PBX with a few telephones, and SSH on another port
  sipguard.pbx.sip_ratelimit:
    limits:
      - method: REGISTER
        rate: 30/minute
        burst: 60
      - method: INVITE
        rate: 20/minute
        burst: 20
      - method: any
        rate: 20/second
        burst: 200
    ssh:
      rate: 6/minute
      burst: 20
      ports: ["2222"]

- name: The standard limits, and an hour of silence for whoever asks for OPTIONS all the time
  sipguard.pbx.sip_ratelimit:
    presets: [standard]
    limits:
      - method: OPTIONS
        rate: 60/minute
        burst: 120
        ban_for: 3600
    never:
      - 198.51.100.0/24

- name: Take everything away again
  sipguard.pbx.sip_ratelimit:
    state: absent
"""

RETURN = r"""
limits:
  description: The limits that reach the kernel. None with O(state=absent).
  returned: always
  type: list
  elements: dict
  contains:
    method:
      description: The method, or any.
      type: str
      returned: always
    rate:
      description: Packets in a unit of time.
      type: str
      returned: always
    burst:
      description: Packets that may come at once, null with engine recent.
      type: int
      returned: always
    engine:
      description: hashlimit or recent.
      type: str
      returned: always
    per:
      description: source or source_net.
      type: str
      returned: always
    ban_for:
      description: Seconds for which a source is banned, 0 for not at all.
      type: int
      returned: always
    origin:
      description: The preset or option it came from.
      type: str
      returned: always
  sample:
    - {"method": "REGISTER", "rate": "4/second", "burst": 300, "engine": "hashlimit", "per": "source", "ban_for": 0, "origin": "standard"}
ssh:
  description: The limits on new SSH connections.
  returned: always
  type: list
  elements: dict
  contains:
    rate:
      description: Connections in a unit of time.
      type: str
      returned: always
    burst:
      description: Connections that may come at once.
      type: int
      returned: always
    origin:
      description: The preset or option it came from.
      type: str
      returned: always
    ports:
      description: The ports it looks at.
      type: list
      elements: str
      returned: always
  sample:
    - {"rate": "10/minute", "burst": 30, "origin": "ssh", "ports": ["22"]}
rules:
  description: How many rules sipguard has per family, all its modules together.
  returned: always
  type: dict
  sample: {"ipv4": 24, "ipv6": 26}
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

from ..module_utils._netfilter import limits
from ..module_utils._netfilter.engine import Engine, with_member
from ..module_utils._netfilter.lock import exclusive
from ..module_utils._netfilter.names import CHAIN_RATE
from ..module_utils._netfilter.options import ARGUMENTS, read_common
from ..module_utils._netfilter.runner import runner_for
from ..module_utils._netfilter.switch_guard import require_armed
from ..module_utils._sip.errors import SipguardError


def main() -> None:
    """Options -> limits -> rules -> plan -> kernel."""
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            presets=dict(type="list", elements="str", default=[]),
            limits=dict(
                type="list",
                elements="dict",
                default=[],
                options=dict(
                    method=dict(type="str", required=True),
                    rate=dict(type="str", required=True),
                    burst=dict(type="int"),
                    engine=dict(type="str", default="hashlimit", choices=["hashlimit", "recent"]),
                    per=dict(type="str", default="source", choices=["source", "source_net"]),
                    ban_for=dict(type="int", default=0),
                ),
            ),
            ssh=dict(
                type="dict",
                options=dict(
                    rate=dict(type="str", required=True),
                    burst=dict(type="int"),
                    ports=dict(type="list", elements="str", default=["22"]),
                ),
            ),
            never=dict(type="list", elements="str", default=[]),
        ),
        supports_check_mode=True,
    )
    options = module.params
    try:
        common = read_common(options)
        wanted = limits.read_options(options)
        warnings = limits.warnings(wanted)
        engine = Engine(runner_for(module.check_mode), options["backend"], options["lock_timeout"])
        members = {family: limits.member(common, wanted, family) for family in common.families if common.present}
        with exclusive(options["lock_timeout"], not module.check_mode):
            require_armed(options["switch"])
            snapshot = engine.snapshot(members.values())
            targets = with_member(engine, snapshot, CHAIN_RATE, members, common)
            outcome = engine.converge(targets, snapshot, persist=options["persist"], check=module.check_mode)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in [*warnings, *outcome.warnings]:
        module.warn(warning)
    module.exit_json(**wanted.result(), **outcome.result())


if __name__ == "__main__":
    main()
