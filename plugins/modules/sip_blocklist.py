#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sip_blocklist
short_description: Drop everything from the sources on a named list
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - Keeps one named list of sources on the host. Several live side by side, and each goes away by itself.
  - >-
    All lists together are loaded into the sets C(sipguard-blocked4) and C(sipguard-blocked6), which are filled aside and swapped: no
    packet is judged against half of them. What comes from them is dropped in table raw, whatever its protocol and port, before
    conntrack sees it.
  - >-
    Never loaded are private and reserved addresses, this host's own, its gateways and resolvers, the peers of its SSH connections,
    trusted sources, O(never), and what C(sipguard unban) has let through.
  - A list that has not changed is not loaded again.
options:
  state:
    description:
      - V(present) makes the list hold exactly O(sources) or what O(feed) holds.
      - >-
        V(absent) removes the list of this O(name); without a name, every list there is but those of feeds, which
        M(sipguard.pbx.sipguard_feeds) removes.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - What the list is called, also in C(sipguard why).
      - Needed unless O(state=absent).
    type: str
  sources:
    description:
      - >-
        Each an address (V(192.0.2.7)), a network (V(192.0.2.0/24), V(192.0.2.0/255.255.255.0), V(2001:db8::/32)) or a range
        (V(192.0.2.10-192.0.2.20)), or a dictionary with such a C(value), or a list of them, and a C(note) that says why it is there.
      - Names are refused, and so is a number with a leading zero, which some read as octal.
      - Excludes O(feed).
    type: list
    elements: raw
  presets:
    description:
      - Published ranges to be added to O(sources), by name; see the page L(on them,https://github.com/sipguard/pbx/blob/main/docs/range-presets.md).
      - Most contain other people's customers, so none is a default.
      - Excludes O(feed).
    type: list
    elements: str
  feed:
    description:
      - A file on the host, with one source a line. What is behind V(#) or V(;) is a comment, a port is left out.
      - Lines that are anything else are counted as junk, shown, and never loaded.
      - Excludes O(sources).
    type: path
  mode:
    description:
      - V(enforce) drops.
      - V(observe) drops nothing and remembers sources that would have been dropped in C(sipguard-observed4) and C(sipguard-observed6).
    type: str
    choices: [enforce, observe]
    default: enforce
  never:
    description:
      - What no list of this host may block, whatever it says. Written as O(sources).
      - Names are resolved on the controller when the task runs, with a warning.
    type: list
    elements: str
    default: []
  min_prefix:
    description:
      - IPv4 networks with a shorter prefix are refused; with the default of 9, a /8 and all that is wider.
      - Those of /16 and wider are taken and reported.
    type: int
    default: 9
  min_prefix_ipv6:
    description: The same for IPv6; those of /32 and wider are reported.
    type: int
    default: 20
  max_change:
    description:
      - >-
        The number of entries in O(feed) may change by so many per cent from one run to the next; more changes nothing and fails.
        V(0) allows everything.
      - A list that blocks more than ten times the addresses it did, and a million more, is not taken either.
      - So does an empty file, and one that is mostly junk, whatever this says.
    type: int
    default: 50
  allow_private:
    description: Whether the list may hold private and reserved addresses.
    type: bool
    default: false
  backend:
    description: Which iptables to use; V(auto) is the one that the command C(iptables) stands for.
    type: str
    choices: [auto, nft, legacy]
    default: auto
  persist:
    description:
      - Write the rules that look into the sets to C(/etc/sipguard) for the next boot.
      - Lists are always kept, and at a boot that loads them (C(sipguard restore)) they block, whatever was written.
    type: bool
    default: true
  lock_timeout:
    description: Seconds to wait for another run, and for the xtables lock.
    type: int
    default: 30
requirements:
  - iptables 1.8 and ipset 7 on the host
  - root, or CAP_NET_ADMIN in a container
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change.
    support: full
  diff_mode:
    description: Returns the entries that come and go, as far as they are not too many, and the size of the sets.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
seealso:
  - module: sipguard.pbx.sipguard_feeds
  - module: sipguard.pbx.sip_ban
  - module: sipguard.pbx.sip_trust
"""

EXAMPLES = r"""
- name: Drop two ranges that nobody of ours calls from
  sipguard.pbx.sip_blocklist:
    name: hosters
    sources:
      - value: 185.53.88.0/24
        note: scans every night
      - 45.134.144.0-45.134.144.255

- name: See for a week whom a list would hit
  sipguard.pbx.sip_blocklist:
    name: candidates
    feed: /root/candidates.txt
    mode: observe

- name: Remove it
  sipguard.pbx.sip_blocklist:
    name: candidates
    state: absent
"""

RETURN = r"""
differs:
  description: >-
    Whether the host was not yet what the options say. The same as C(changed), for a role that asks in check mode and may not call
    that a change.
  returned: always
  type: bool
entries:
  description: How many entries the list has.
  returned: always
  type: int
accepted:
  description: >-
    How many C(entries) were taken, how many lines were C(junk), how many were C(refused) as too wide or private, how many are C(wide),
    how many IPv4 C(addresses) they are together, and the first of them as C(examples).
  returned: always
  type: dict
  sample:
    entries: 2
    junk: 1
    refused: 0
    wide: 0
    addresses: 2
    examples: [{line: 3, text: example.com, why: "a name, or a word"}]
members:
  description: How many networks each set holds, all lists together.
  returned: always
  type: dict
  sample: {"sipguard-blocked4": 98000, "sipguard-blocked6": 12}
left_out:
  description: Protected networks that lists name, why they are protected, and by which lists.
  returned: always
  type: list
  elements: dict
  sample: [{"network": "192.0.2.1", "why": "a gateway of this host", "lists": ["voipbl"]}]
rules:
  description: The number of sipguard's rules of each family, C(ipv4) and C(ipv6).
  returned: always
  type: dict
  sample: {"ipv4": 91, "ipv6": 91}
persisted:
  description: Whether the files for the next boot hold exactly these rules.
  returned: always
  type: bool
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.glance import Glance
from ..module_utils._netfilter.lock import check_timeout, exclusive
from ..module_utils._sip.errors import SipguardError


def _run(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """Options -> one list -> all lists -> the difference to the live sets -> filling them. Raises SipguardError."""
    # Only here, because a run that finds nothing to do shall load no more than it needs.
    from ..module_utils._host import exceptions
    from ..module_utils._netfilter import blocklist
    from ..module_utils._netfilter.engine import Engine
    from ..module_utils._netfilter.lists import Lists, diff_text
    from ..module_utils._netfilter.runner import runner_for
    from ..module_utils._netfilter.wanted_list import read_options

    store = Lists()
    # Without the commands nothing of it can be in the kernel, and the files can go.
    runner = runner_for(check or options["state"] == "absent")
    lists, errors = exceptions.read_lists()
    wanted = read_options(options, lists.get(options["name"] or ""))
    every = [name for name in store.names() if name not in lists or not lists[name].fetched]
    names = [wanted.named.name] if wanted.named else [options["name"]] if options["name"] else every
    before = {name: lists.pop(name, None) for name in names}
    after = {wanted.named.name: wanted.named} if wanted.named else {}
    lists.update(after)
    # One that is damaged cannot be read, but can go.
    there = set(store.names())
    edited = [name for name in names if before[name] != after.get(name) or (name in there and not before[name])]
    engine = Engine(runner, options["backend"], options["lock_timeout"])
    snapshot = engine.snapshot()
    shields = exceptions.shields(runner, headers=snapshot.headers)
    if not check:
        # First, because what is in the kernel can be made from the files at any time, but not the other way round.
        for name in edited:
            store.put(name, after.get(name))
    try:
        loaded, result = blocklist.converge(
            engine,
            lists,
            shields,
            directory=store.directory,
            persist=options["persist"],
            check=check,
            keep=any(name not in edited for name in there if name not in lists),
            snapshot=snapshot,
        )
    except SipguardError:
        for name in edited if not check else ():
            store.put(name, before[name])
        raise
    if not check and not lists:
        store.clear()
    texts = [diff_text(before[name], after.get(name)) for name in edited]
    result["diff"] = {
        side: "".join(text[index] for text in texts) + result["diff"][side]
        for index, side in enumerate(("before", "after"))
    }
    result["changed"] = result["differs"] = bool(edited) or result["changed"]
    result["warnings"] = [*errors, *wanted.warnings, *result["warnings"]]
    return {
        **result,
        "accepted": dict(wanted.named.report) if wanted.named else {},
        "entries": wanted.named.count if wanted.named else 0,
        "members": loaded.members,
        "left_out": loaded.left_out,
    }


def main() -> None:
    """A glance; and if that is not enough, the run."""
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", default="present", choices=["present", "absent"]),
            name=dict(type="str"),
            sources=dict(type="list", elements="raw"),
            presets=dict(type="list", elements="str"),
            feed=dict(type="path"),
            mode=dict(type="str", default="enforce", choices=["enforce", "observe"]),
            never=dict(type="list", elements="str", default=[]),
            min_prefix=dict(type="int", default=9),
            min_prefix_ipv6=dict(type="int", default=20),
            max_change=dict(type="int", default=50),
            allow_private=dict(type="bool", default=False),
            backend=dict(type="str", default="auto", choices=["auto", "nft", "legacy"]),
            persist=dict(type="bool", default=True),
            lock_timeout=dict(type="int", default=30),
        ),
        mutually_exclusive=[("sources", "feed"), ("presets", "feed")],
        required_if=[("state", "present", ("name",))],
        supports_check_mode=True,
    )
    options, check = module.params, module.check_mode
    try:
        check_timeout(options["lock_timeout"])
        with exclusive(options["lock_timeout"], not check):
            glance = Glance(options)
            known = glance.known()
            result = known or _run(options, check)
            if known is None and not check:
                unchanged = {"changed": False, "differs": False, "diff": {"before": "", "after": ""}}
                glance.remember({**result, **unchanged})
    except SipguardError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
