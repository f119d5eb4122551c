#!/usr/bin/python
# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sipband on the host: its user, its files, its service, and the rules that drop whom it bans and spare whom it knows."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sipban_service
short_description: Ban in the instant in which Asterisk tells of a wrong password
version_added: 1.0.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    Installs C(sipband), a service that listens to the security events of Asterisk's manager interface (AMI) and bans who gets it wrong
    too often. It runs as a user of its own, whose only right is to change the kernel's packet filter, and on AMI it may read security
    events and nothing else.
  - >-
    Bans are members of the sets C(sipguard-banned4) and C(-6) with the time they have left, as M(sipguard.pbx.sip_ban) makes them: they
    go on without the service, and after a reboot.
  - >-
    Nobody is banned for evidence that somebody else can make up in his name. An event counts when it came over TCP, TLS or a web
    socket; or over UDP with an answer to a challenge that the service saw going out to that very address. O(unproven) lets the rest
    count as well.
  - >-
    Who has logged in is put into the sets C(sipguard-known4) and C(-6) for O(known_for); limits and signatures let these sources pass,
    and the service never bans them. Nor does it ban who is trusted (M(sipguard.pbx.sip_trust)), who is in O(white_list), the host
    itself, its gateways and its resolvers.
  - >-
    When the service cannot log in to AMI with what the host's C(manager.conf) says, everything is put back as it was.
options:
  state:
    description: >-
      With V(absent) the service, its files, its user, the bans it has made and the rules for them go. Bans of M(sipguard.pbx.sip_ban)
      stay.
    type: str
    choices: [present, absent]
    default: present
  manager_user:
    description: >-
      The user of AMI, as M(sipguard.pbx.asterisk_sip_hardening) makes it with its option C(manager). Its secret, and where AMI listens,
      are read from C(manager.conf) on the host.
    type: str
    default: sipguard
  config_dir:
    description: The directory of Asterisk's configuration.
    type: path
    default: /etc/asterisk
  thresholds:
    description:
      - >-
        How many events of a kind from one source within how many seconds end in a ban, as a mapping with C(count) and C(seconds) by
        kind. A C(count) of 0 leaves that kind out. Kinds that are not given keep their default.
      - >-
        V(ChallengeResponseFailed) and V(InvalidPassword) are wrong passwords (5 in 600), V(InvalidAccountID) are unknown users (10 in
        600), V(FailedACL) is who comes from where he may not (10 in 600), V(ChallengeSent) is who was asked for a password and has not
        logged in since (100 in 60).
    type: dict
    default: {}
  ban_time:
    description:
      - How long the first ban lasts, such as V(3600), V(60m) or V(1h). Each further one lasts twice as long, up to O(ban_time_max).
      - Without it V(1h), or what the configuration of O(published) says.
    type: str
  ban_time_max:
    description: How long a ban lasts at most.
    type: str
    default: 7d
  ban_time_unproven:
    description: How long a ban for unproven evidence lasts. It never grows, as its victim may be innocent.
    type: str
    default: 10m
  remember:
    description: For how long a ban makes the next one longer.
    type: str
    default: 3w
  unproven:
    description: >-
      Whether evidence counts that may have come from a false address: requests over UDP without an answer to a challenge, and all of
      chan_sip's. Somebody who sends such packets in the name of a stranger's telephone then bans that telephone.
    type: bool
    default: false
  known_for:
    description: >-
      For how long a source that has logged in is known, V(0) for not at all. It should be longer than the time after which telephones
      register again.
    type: str
    default: 2h
  white_list:
    description: Addresses and networks that are never banned, besides the trusted. Names are resolved on the controller.
    type: list
    elements: str
    default: []
  console_port:
    description: >-
      The port on 127.0.0.1 of a telnet console with the commands of the published SIPban, V(0) for none. It asks for the token that the
      host keeps in C(/etc/sipban/console-token).
    type: int
    default: 0
  published:
    description: >-
      A C(sipban.conf) of the published SIPban on the host that is taken over: its ban time, its white list, and once the bans of its
      dump.
    type: path
  crowdsec:
    description: >-
      Shares bans with other PBXs through the local API (LAPI) of a CrowdSec. Bans go out as decisions, the decisions of others come in
      as bans.
    type: dict
    suboptions:
      url:
        description: Where the LAPI is, such as V(https://crowdsec.example.net:8080).
        type: str
        required: true
      machine:
        description: The machine's name there (C(cscli machines add)).
        type: str
        required: true
      password:
        description: The machine's password.
        type: str
        required: true
      key:
        description: The key of a bouncer of this host's own (C(cscli bouncers add)).
        type: str
        required: true
      interval:
        description: How often it is asked for the decisions of others, in seconds.
        type: int
        default: 10
      ca_file:
        description: The certificates to trust, if not those of the host.
        type: path
      max_time:
        description: How long a ban that comes in lasts at most.
        type: str
        default: 1d
      allow_http:
        description: Whether C(http) may be used outside of this host and private networks, where everybody can read the password.
        type: bool
        default: false
  metrics_dir:
    description: >-
      The directory of node_exporter's textfile collector. Where it is there, it gets a link to the metrics of sipband.
    type: path
    default: /var/lib/prometheus/node-exporter
  backend:
    description: Which iptables to use. V(auto) takes that of sipguard's rules for the next boot, else what the command C(iptables) is.
    type: str
    choices: [auto, nft, legacy]
    default: auto
  persist:
    description: Write the rules for the next boot.
    type: bool
    default: true
  lock_timeout:
    description: How many seconds to wait for another program that holds the xtables lock, or for another run.
    type: int
    default: 30
requirements:
  - Asterisk 16 or later and systemd on the host
  - iptables 1.8 (nft or legacy) and ipset 7 on the host
  - root
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change, packages and the user of AMI that are missing among it.
    support: full
  diff_mode:
    description: Returns the files, settings, rules and bans that change; of secrets the names of their files.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
seealso:
  - module: sipguard.pbx.asterisk_sip_hardening
  - module: sipguard.pbx.sip_ban
  - module: sipguard.pbx.sip_trust
"""

EXAMPLES = r"""
- name: A user of AMI that may read security events
  sipguard.pbx.asterisk_sip_hardening:
    manager: {}
    only: [manager]

- name: Ban who guesses passwords, after three of them
  sipguard.pbx.sipban_service:
    thresholds:
      ChallengeResponseFailed: {count: 3, seconds: 600}
      InvalidPassword: {count: 3, seconds: 600}
    white_list: [192.0.2.0/24]

- name: Take over what the published SIPban knows, with its console
  sipguard.pbx.sipban_service:
    published: /etc/sipban.conf
    console_port: 4451

- name: Leave nothing behind
  sipguard.pbx.sipban_service:
    state: absent
"""

RETURN = r"""
asterisk:
  description: Whether the host has an Asterisk.
  returned: success
  type: bool
ami:
  description: What the service says of its connection to AMI; empty in check mode.
  returned: success
  type: str
  sample: connected to 127.0.0.1:5038
missing_packages:
  description: What has to be installed first, by the names of Debian's packages. Only in check mode is that no error.
  returned: success
  type: list
  elements: str
  sample: [ipset]
missing_manager:
  description: Why the user of AMI cannot be used, empty when it can. Only in check mode is that no error.
  returned: success
  type: str
  sample: AMI is off (manager.conf)
imported:
  description: How many bans of the published SIPban's dump were taken over.
  returned: success
  type: int
ignored:
  description: Options of the published SIPban that have no counterpart here, and why.
  returned: success
  type: dict
  sample: {"iptables.chain": "bans are members of sipguard's own sets"}
done:
  description: What became of the service.
  returned: success
  type: list
  elements: str
  sample: [started]
boot:
  description: What loads the rules at boot, empty for nothing.
  returned: success
  type: str
  sample: systemd
alone:
  description: With O(state=absent) whether nothing else on the host needs the command C(sipguard) and its units any more.
  returned: success
  type: bool
differs:
  description: >-
    Whether the host was not yet what the options say. The same as C(changed), for a role that asks in check mode and may not call
    that a change.
  returned: success
  type: bool
persisted:
  description: Whether the files for the next boot say what the kernel does.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._netfilter.lock import check_timeout, exclusive
from ..module_utils._netfilter.runner import HostRunner, runner_for
from ..module_utils._sip.errors import SipguardError
from ..module_utils._sipban.apply import Outcome, Request, apply
from ..module_utils._sipban.options import read_settings


def main() -> None:
    """Options -> settings -> user, files, rules, service -> what the service says."""
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", default="present", choices=["present", "absent"]),
            manager_user=dict(type="str", default="sipguard"),
            config_dir=dict(type="path", default="/etc/asterisk"),
            thresholds=dict(type="dict", default={}),
            ban_time=dict(type="str"),
            ban_time_max=dict(type="str", default="7d"),
            ban_time_unproven=dict(type="str", default="10m"),
            remember=dict(type="str", default="3w"),
            unproven=dict(type="bool", default=False),
            known_for=dict(type="str", default="2h"),
            white_list=dict(type="list", elements="str", default=[]),
            console_port=dict(type="int", default=0),
            published=dict(type="path"),
            crowdsec=dict(
                type="dict",
                options=dict(
                    url=dict(type="str", required=True),
                    machine=dict(type="str", required=True),
                    password=dict(type="str", required=True, no_log=True),
                    key=dict(type="str", required=True, no_log=True),
                    interval=dict(type="int", default=10),
                    ca_file=dict(type="path"),
                    max_time=dict(type="str", default="1d"),
                    allow_http=dict(type="bool", default=False),
                ),
            ),
            metrics_dir=dict(type="path", default="/var/lib/prometheus/node-exporter"),
            backend=dict(type="str", default="auto", choices=["auto", "nft", "legacy"]),
            persist=dict(type="bool", default=True),
            lock_timeout=dict(type="int", default=30),
        ),
        supports_check_mode=True,
    )
    try:
        done = _apply(module)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in done.warnings:
        module.warn(warning)
    module.exit_json(
        changed=done.changed,
        differs=done.changed,
        diff={"before": done.before, "after": done.after},
        asterisk=done.asterisk,
        ami=done.ami,
        missing_packages=done.missing_packages,
        missing_manager=done.missing_manager,
        imported=done.imported,
        ignored=done.ignored,
        done=done.done,
        boot=done.boot,
        alone=done.alone,
        persisted=done.persisted,
    )


def _apply(module: AnsibleModule) -> Outcome:
    """Raises SipguardError, with nothing changed."""
    options = module.params
    check_timeout(options["lock_timeout"])
    present = options["state"] == "present"
    crowdsec = options["crowdsec"] or {}
    request = Request(
        state=options["state"],
        **({"wanted": read_settings(options)} if present else {}),
        ban_time_given=options["ban_time"] is not None,
        config_dir=options["config_dir"],
        manager_user=options["manager_user"],
        published=options["published"] or "",
        crowdsec_password=crowdsec.get("password", ""),
        crowdsec_key=crowdsec.get("key", ""),
        metrics_dir=(options["metrics_dir"] or "").rstrip("/"),
        backend=options["backend"],
        persist=options["persist"],
        lock_timeout=options["lock_timeout"],
    )
    with exclusive(options["lock_timeout"], not module.check_mode):
        return apply(HostRunner(), runner_for(module.check_mode), request, module.check_mode)


if __name__ == "__main__":
    main()
