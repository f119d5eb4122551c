#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sip_domain_gate
short_description: Let SIP requests pass only if they name a domain of the PBX
version_added: 0.2.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    Telephones are configured with the domain of their PBX and name it in what they send. Scanners go through addresses, and know
    nothing but the address. Requests of every method that name none of O(domains) are dropped: in the kernel, over UDP, TCP
    and, by the server name, TLS, IPv4 and IPv6.
  - >-
    A domain counts where it is the host of a SIP address, C(sip:tel.example.com) or C(sips:100@tel.example.com:5061), up to its end
    and in any case. It does not count in a display name, a Via, the session description or as a part of another name.
  - >-
    Who needs no domain are trusted sources (M(sipguard.pbx.sip_trust)), O(trunks), whoever answers, or calls back on, a flow that
    the PBX has opened (UDP), and whoever has named a domain from the same address and port within a week: later requests of a
    dialog name the address of the PBX.
  - This is no authentication. Whoever knows the domain passes. It takes away the noise of those who do not.
  - Begin with O(mode=observe), and look at who would have been stopped.
extends_documentation_fragment:
  - sipguard.pbx.firewall
  - sipguard.pbx.firewall.selection
options:
  domains:
    description:
      - >-
        The domains, as they stand in the addresses of the telephones: V(tel.example.com), without scheme, user or port. Needed unless
        O(state=absent).
      - A sub-domain is a domain of its own. An internationalised one is written in its ASCII form (V(xn--...)).
      - An address, or a single word, is refused. Scanners know the one, and too many packets hold the other.
    type: list
    elements: str
    default: []
  methods:
    description:
      - Methods of the requests that have to name a domain. Empty means every request, and whatever else could be one.
      - >-
        With it, whatever does not plainly begin with one of them passes: other methods, spellings that only some programs read as a
        request, and over TCP the pieces of a request that was cut up.
    type: list
    elements: str
    default: []
  trunks:
    description:
      - >-
        Addresses, networks, ranges and names of providers and other PBXs, which name this host's address or a number where a
        telephone names the domain. Unlike trusted sources they are judged by everything but the gate.
      - Names are resolved on the controller when the task runs, with a warning, because their addresses can change.
    type: list
    elements: str
    default: []
  tls_ports:
    description:
      - >-
        TCP ports with TLS, in O(ports) or not. A connection is judged there by the server name of its ClientHello, as the rest of it is
        encrypted. They are looked at if O(protocols) holds V(tcp).
      - Name ports with nothing but TLS. On a port with plain SIP as well, whoever begins like TLS passes unless O(tls_unreadable=drop).
    type: list
    elements: str
    default: ["5061"]
  sni:
    description:
      - Whether the server name decides on O(tls_ports). V(false) lets every TLS connection pass the gate.
    type: bool
    default: true
  tls_unreadable:
    description:
      - >-
        What happens to a TLS connection without a readable server name: there is none, as some telephones send none, it is longer than
        127 bytes, or it is not in the first segment. V(drop) also cuts connections that are older than the rules.
      - A server name that is none of O(domains) is stopped either way.
    type: str
    choices: [accept, drop]
    default: accept
  other_traffic:
    description:
      - >-
        What happens to what cannot be a request, before its flow has been admitted: keep-alives (up to four bytes over UDP, CRLF and
        double CRLF over TCP) and datagrams that begin with a zero, such as questions of STUN.
    type: str
    choices: [accept, drop]
    default: accept
  learn_for:
    description:
      - For how many seconds a source that was stopped is dropped altogether on the SIP ports. V(0) turns learning off.
      - Only requests that begin with REGISTER, INVITE or OPTIONS, and server names of others, get their source learned.
      - The source of a UDP packet can be forged, and a telephone with a mistake in its configuration is no attacker.
    type: int
    default: 0
  never:
    description: Addresses and networks that are never learned, whatever is sent in their name. Names are not allowed.
    type: list
    elements: str
    default: []
  trusted_callers:
    description:
      - The sources that will be trusted, for a playbook that fills the sets later. Nothing is done with them, see below.
      - >-
        The module warns when it enforces and knows nobody who calls without naming the domain: O(trunks) is empty, and so is this option,
        or, if it is left out, so are the sets of M(sipguard.pbx.sip_trust).
    type: list
    elements: str
seealso:
  - module: sipguard.pbx.sip_trust
  - module: sipguard.pbx.sip_ua_blocklist
notes:
  - A request that is whole and has passed gets its conversation admitted, which is not looked at again until the rules change.
  - The search is no parser. Whoever knows the domain can put it where it counts and still send the request somewhere else.
"""

EXAMPLES = r"""
- name: Watch for a week who does not name the domain
  sipguard.pbx.sip_domain_gate:
    domains: [tel.example.com]
    trunks: [sip.provider.example]
    mode: observe

- name: Stop who does not
  sipguard.pbx.sip_domain_gate:
    domains: [tel.example.com]
    trunks:
      - 198.51.100.0/25
      - 2001:db8:7::/64

- name: A PBX whose telephones all send a server name
  sipguard.pbx.sip_domain_gate:
    domains: [tel.example.com, tel.example.org]
    tls_ports: ["5061", "5063"]
    tls_unreadable: drop

- name: Gate registrations and calls only
  sipguard.pbx.sip_domain_gate:
    domains: [tel.example.com]
    methods: [REGISTER, INVITE]

- name: Take the gate away again
  sipguard.pbx.sip_domain_gate:
    state: absent
"""

RETURN = r"""
domains:
  description: The domains as they reach the kernel.
  returned: always
  type: list
  elements: str
  sample: [tel.example.com]
resolved:
  description: The addresses that names stood for.
  returned: when a trunk is a name
  type: dict
  sample: {"sip.provider.example": ["198.51.100.10"]}
rules:
  description: How many rules sipguard has per family, all its modules together.
  returned: always
  type: dict
  sample: {"ipv4": 211, "ipv6": 201}
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

from ..module_utils._netfilter import gate, sets
from ..module_utils._netfilter.engine import Engine, with_member
from ..module_utils._netfilter.lock import exclusive
from ..module_utils._netfilter.names import CHAIN_GATE, FAMILIES, NAMED, TRUSTED
from ..module_utils._netfilter.options import ARGUMENTS, read_common
from ..module_utils._netfilter.runner import runner_for
from ..module_utils._netfilter.switch_guard import require_armed
from ..module_utils._sip.errors import SipguardError

NOBODY_ELSE = (
    "the gate drops every request that names none of its domains, and nobody is known who may send one: a provider's trunk names the "
    "address of this host instead; put trunks into 'trunks', or trust them with sip_trust (pbx_trunks, in the role pbx_firewall)"
)


def main() -> None:
    """Options -> rules -> plan -> kernel."""
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            domains=dict(type="list", elements="str", default=[]),
            methods=dict(type="list", elements="str", default=[]),
            trunks=dict(type="list", elements="str", default=[]),
            tls_ports=dict(type="list", elements="str", default=["5061"]),
            sni=dict(type="bool", default=True),
            tls_unreadable=dict(type="str", default="accept", choices=["accept", "drop"]),
            other_traffic=dict(type="str", default="accept", choices=["accept", "drop"]),
            learn_for=dict(type="int", default=0),
            never=dict(type="list", elements="str", default=[]),
            trusted_callers=dict(type="list", elements="str"),
        ),
        supports_check_mode=True,
    )
    options = module.params
    try:
        common = read_common(options)
        wanted = gate.read_options(options, common)
        engine = Engine(runner_for(module.check_mode), options["backend"], options["lock_timeout"])
        members = {family: gate.member(common, wanted, family) for family in common.families if common.present}
        with exclusive(options["lock_timeout"], not module.check_mode):
            require_armed(options["switch"])
            snapshot = engine.snapshot(members.values())
            targets = with_member(engine, snapshot, CHAIN_GATE, members, common)
            stale = [
                NAMED + family.suffix
                for family in targets
                if family in members
                and gate.passes_less(snapshot.policy(family, common.table).members.get(CHAIN_GATE), members[family])
            ]
            outcome = engine.converge(targets, snapshot, persist=options["persist"], check=module.check_mode)
            if not module.check_mode:
                sets.restore(engine.runner, "".join(f"flush {name}\n" for name in stale))
    except SipguardError as error:
        module.fail_json(msg=str(error))
    callers = options["trusted_callers"]
    if callers is None:
        trusted = (snapshot.headers.get(TRUSTED + family.suffix) for family in FAMILIES)
        callers = [header.name for header in trusted if header is not None and header.entries]
    if common.present and not common.observe and not wanted.trunks and not callers:
        module.warn(NOBODY_ELSE)
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(domains=list(wanted.domains), **outcome.result())


if __name__ == "__main__":
    main()
