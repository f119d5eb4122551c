#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sip_ban
short_description: Ban single addresses for a time, and let them in again
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - >-
    A host hears nothing of a banned address, on any port, not even in conversations that are running. The kernel drops its packets
    before connection tracking, and ends the ban by itself.
  - >-
    Trusted sources (M(sipguard.pbx.sip_trust)) are never stopped, and cannot be banned. Neither can the host's own addresses, gateways
    and resolvers, nor the address from which somebody is connected by SSH.
  - Bans survive a reboot, with the time they have left (C(/var/lib/sipguard/bans)).
options:
  addresses:
    description:
      - Addresses (V(203.0.113.7), V(2001:db8::7)) and networks (V(203.0.113.0/24)).
      - A network has to be a /16 or smaller, in IPv6 a /32 or smaller.
      - It has to be empty with O(state=cleared).
    type: list
    elements: str
    default: []
  state:
    description:
      - V(banned) bans O(addresses), unless they are banned already with at least nine tenths of O(time) left.
      - >-
        V(unbanned) takes them out of the bans, and out of what was learned and observed. An address that a blocklist names gets an
        exception, so that no refresh of the list brings the block back. An address in a banned network cannot be unbanned by itself.
      - V(cleared) removes every ban and every exception, with the rules, sets and files.
    type: str
    choices: [banned, unbanned, cleared]
    default: banned
  time:
    description:
      - >-
        How long a ban lasts, or with O(state=unbanned) an exception from blocklists: seconds (V(90)), V(30m), V(1h), V(7d), at most
        2147483 seconds (24 days). V(0) means until somebody takes it back.
      - The default is V(1d) for a ban, and V(0) for an exception.
    type: str
  reason:
    description:
      - Why, in one line of at most 255 bytes, for C(sipguard why). Double quotes become single ones.
    type: str
    default: ""
  backend:
    description: Which iptables to use. V(auto) takes that of sipguard's rules for the next boot, else what the command C(iptables) is.
    type: str
    choices: [auto, nft, legacy]
    default: auto
  persist:
    description: Write rules and bans for the next boot.
    type: bool
    default: true
  lock_timeout:
    description: How many seconds to wait for another program that holds the xtables lock, or for another run.
    type: int
    default: 30
  switch:
    description:
      - The cookie of the dead-man's switch (M(sipguard.pbx.sipguard_switch)) under which this run changes the rules.
      - The module fails, and changes nothing, unless that cookie is still pending. Empty means that no switch is used.
    type: str
    default: ""
requirements:
  - iptables 1.8 (nft or legacy) and ipset 7 on the host
  - root, or CAP_NET_ADMIN in a container
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change.
    support: full
  diff_mode:
    description: Returns the bans, exceptions and rules that change, before and after.
    support: full
  idempotent:
    description: A second run with the same options changes nothing, as long as a tenth of O(time) is not over.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
seealso:
  - module: sipguard.pbx.sip_blocklist
  - module: sipguard.pbx.sip_trust
  - module: sipguard.pbx.sipguard_info
"""

EXAMPLES = r"""
- name: Ban an address for a week
  sipguard.pbx.sip_ban:
    addresses: 203.0.113.66
    time: 7d
    reason: guesses passwords

- name: Let it in again, whatever stopped it
  sipguard.pbx.sip_ban:
    addresses: [203.0.113.66]
    state: unbanned
    reason: the branch in Graz, ticket 4711

- name: Leave no ban behind
  sipguard.pbx.sip_ban:
    state: cleared
"""

RETURN = r"""
bans:
  description:
    - With O(state=banned), what bans each of O(addresses) now.
    - >-
      C(entry) is the address, or the network in which it lies. C(seconds_left) is 0 for a ban that lasts until somebody takes it back.
  returned: success
  type: dict
  sample:
    203.0.113.66: {entry: 203.0.113.66, seconds_left: 604800, reason: guesses passwords}
removed:
  description: With O(state=unbanned), the sets that each of O(addresses) was taken out of.
  returned: success
  type: dict
  sample:
    203.0.113.66: [sipguard-banned4, sipguard-offenders4]
exceptions:
  description:
    - >-
      With O(state=unbanned), the exceptions of O(addresses) from blocklists, in seconds since the epoch. C(until) is 0 for one that
      lasts for ever.
    - With O(state=banned), the exceptions that a ban has ended.
  returned: success
  type: dict
  sample:
    203.0.113.66: {address: 203.0.113.66, since: 1777888530, until: 0, reason: "the branch in Graz, ticket 4711"}
refused:
  description: Why addresses were not banned or unbanned, a sentence each. Nothing was changed then.
  returned: when an address must not be banned, or cannot be unbanned
  type: dict
  sample:
    192.0.2.1: "192.0.2.1 cannot be banned: it is a gateway of this host"
said:
  description: A few words about each of O(addresses).
  returned: success
  type: dict
  sample:
    203.0.113.66: banned for 7 d
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

from ..module_utils._host import bans, protected
from ..module_utils._host.unban import unban
from ..module_utils._netfilter.engine import Engine
from ..module_utils._netfilter.lock import check_timeout, exclusive
from ..module_utils._netfilter.persist import Store
from ..module_utils._netfilter.runner import runner_for
from ..module_utils._netfilter.switch_guard import require_armed
from ..module_utils._sip.errors import OptionError, SipguardError


def main() -> None:
    """Options -> addresses -> the difference to the live sets -> kernel and files."""
    module = AnsibleModule(
        argument_spec=dict(
            addresses=dict(type="list", elements="str", default=[]),
            state=dict(type="str", default="banned", choices=["banned", "unbanned", "cleared"]),
            time=dict(type="str"),
            reason=dict(type="str", default=""),
            backend=dict(type="str", default="auto", choices=["auto", "nft", "legacy"]),
            persist=dict(type="bool", default=True),
            lock_timeout=dict(type="int", default=30),
            switch=dict(type="str", default=""),
        ),
        supports_check_mode=True,
    )
    try:
        done = _apply(module)
    except bans.Refusal as error:
        module.fail_json(msg=str(error), refused=error.refused)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in done.warnings:
        module.warn(warning)
    module.exit_json(
        changed=done.changed,
        differs=done.changed,
        diff={"before": done.before, "after": done.after} if done.changed else {"before": "", "after": ""},
        bans=done.bans,
        removed=done.removed,
        exceptions={address: each.result() for address, each in done.exceptions.items()},
        said=done.said,
        persisted=done.persisted,
    )


def _apply(module: AnsibleModule) -> bans.Done:
    """Raises SipguardError, or bans.Refusal, with nothing changed."""
    options = module.params
    state, check, persist = options["state"], module.check_mode, options["persist"]
    time = options["time"]
    seconds = bans.parse_time(time if time is not None else bans.DEFAULT_TIME if state == "banned" else "0")
    reason = bans.parse_reason(options["reason"])
    networks = bans.parse_targets(options["addresses"], "addresses")
    if networks and state == "cleared":
        raise OptionError("addresses", options["addresses"], "none would be right with state 'cleared'")
    if not networks and state != "cleared":
        raise OptionError("addresses", [], "at least one address is needed")
    check_timeout(options["lock_timeout"])
    runner = runner_for(check)
    backend = Store().backend() if options["backend"] == "auto" else options["backend"]
    with exclusive(options["lock_timeout"], not check):
        require_armed(options["switch"])
        if state == "unbanned":
            return unban(
                runner,
                networks,
                seconds=seconds,
                reason=reason,
                persist=persist,
                check=check,
                backend=backend,
                lock_timeout=options["lock_timeout"],
            )
        if state == "banned":
            bans.require_bannable(networks, protected.find(runner, sessions=False))
        engine = Engine(runner, backend, options["lock_timeout"])
        if state == "cleared":
            return bans.clear(engine, persist=persist, check=check)
        return bans.ban(engine, networks, seconds, reason, persist=persist, check=check)


if __name__ == "__main__":
    main()
