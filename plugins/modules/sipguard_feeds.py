#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sipguard_feeds
short_description: Have a host fetch lists of attackers by itself, and drop what they name
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - Makes the host fetch exactly O(feeds), by C(sipguard-feeds.timer) and C(sipguard feeds refresh), each into a named list of its own.
  - >-
    All lists together, those of M(sipguard.pbx.sip_blocklist) too, are loaded into the sets C(sipguard-blocked4) and
    C(sipguard-blocked6), without whom they must never hit.
  - >-
    A feed that cannot be fetched, is empty, a web page, mostly junk, or another size than before, changes nothing: its last good copy
    stays, the unit fails, and C(sipguard feeds status) says why. The other feeds go on.
  - Installs the command C(sipguard) and its code, as M(sipguard.pbx.sipguard_host) does. Without feeds it installs nothing.
options:
  state:
    description:
      - V(present) makes the feeds exactly those named.
      - V(absent) removes all feeds with their lists, keys and units. Other lists stay.
    type: str
    choices: [present, absent]
    default: present
  feeds:
    description: The feeds of this host. One that is not named goes, with its list.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the feed and its list are called; up to 40 letters, digits, V(-) and V(_).
        type: str
        required: true
      kind:
        description: How the server is asked. V(url) is any text with one source a line.
        type: str
        choices: [voipbl, apiban, blocklist_de, url]
        required: true
      url:
        description:
          - Where it is fetched from, over https. Needed for O(feeds[].kind=url); the others know their address.
          - >-
            What stands behind a C(?) is left out of errors, diffs and C(sipguard feeds status). But Ansible shows and logs the options of a
            module, this one among them, so a secret does not belong there.
        type: str
      every:
        description:
          - How many seconds after a good refresh the next one is due. Each host adds up to a tenth of it, always the same.
          - By default 21600 (V(voipbl)), 600 (V(apiban)), 7200 (V(blocklist_de)) and 86400 (V(url)).
        type: int
      mode:
        description: What this feed does, when it is not O(mode).
        type: str
        choices: [enforce, observe]
      max_change:
        description: The number of entries may change by so many per cent at once, by default 50; more changes nothing and fails.
        type: int
      min_prefix:
        description: IPv4 networks with a shorter prefix are refused, by default than 9.
        type: int
      min_prefix_ipv6:
        description: The same for IPv6, by default 20.
        type: int
      allow_private:
        description: Whether private and reserved addresses are taken, by default not.
        type: bool
      never:
        description: What no list of this host may block, whatever it says.
        type: list
        elements: str
      api:
        description: The version of the protocol of O(feeds[].kind=apiban), 1 or 2 (the default).
        type: int
      dataset:
        description: What is asked of version 2 of that protocol, by default V(sip).
        type: str
        choices: [sip, http, all]
      keep_for:
        description:
          - How many seconds an entry stays after the feed has last named it.
          - By default 604800 for O(feeds[].kind=apiban), else 0, which is until the feed no longer names it.
        type: int
      ca_file:
        description: A file on the host with the authorities to trust, instead of those of the system.
        type: path
      proxy:
        description: As O(proxy), for this feed.
        type: str
      allow_http:
        description: Whether it may be fetched over http, so that whoever is on the way can change it; by default not.
        type: bool
      timeout:
        description: How many seconds a refresh may take in all, by default 120.
        type: int
      max_size:
        description: How many bytes the list may have, by default 16 MiB.
        type: int
  keys:
    description:
      - The key of each feed that needs one (O(feeds[].kind=apiban)), by the feed's name.
      - They are kept in C(/etc/sipguard/feed-keys.json), for root only, and shown nowhere.
    type: dict
    default: {}
  refresh:
    description:
      - V(due) fetches in this run what is due or has never been fetched. V(always) fetches all, V(never) leaves it to the timer.
      - >-
        A feed that fails without ever having been fetched fails the module, after everything else has been set up. When there is a
        copy it is a warning.
    type: str
    choices: [due, always, never]
    default: due
  mode:
    description:
      - V(enforce) drops.
      - V(observe) drops nothing and remembers sources that would have been dropped in C(sipguard-observed4) and C(sipguard-observed6).
    type: str
    choices: [enforce, observe]
    default: enforce
  never:
    description:
      - What no list of this host may block, whatever it says.
      - Names are resolved on the controller when the task runs, with a warning.
    type: list
    elements: str
    default: []
  proxy:
    description: The address of a proxy, without a password, or V(none). Empty stands for what the environment says.
    type: str
    default: ""
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
    description: Seconds to wait for another run, another refresh, and the xtables lock.
    type: int
    default: 30
requirements:
  - iptables 1.8 and ipset 7 on the host
  - Python 3.9 as C(/usr/bin/python3) on the host
  - systemd, for the timer
  - root, or CAP_NET_ADMIN in a container
attributes:
  check_mode:
    description: Can run in check mode and says then what it would change. It fetches nothing then.
    support: full
  diff_mode:
    description: Returns settings, units and rules before and after; of a key, whether there is one. What is fetched is no part of it.
    support: full
  idempotent:
    description: A second run changes nothing, unless a feed is due and has changed.
    support: full
  platform:
    description: Hosts it runs on.
    support: full
    platforms: debian, linux
seealso:
  - module: sipguard.pbx.sip_blocklist
  - module: sipguard.pbx.sip_feed
"""

EXAMPLES = r"""
- name: Watch for a week whom these lists would hit
  sipguard.pbx.sipguard_feeds:
    feeds:
      - {name: voipbl, kind: voipbl}
      - {name: apiban, kind: apiban}
      - {name: ours, kind: url, url: "https://lists.example.com/sip.txt", every: 3600}
    keys:
      apiban: "{{ vault_apiban_key }}"
    mode: observe

- name: Fetch nothing any more
  sipguard.pbx.sipguard_feeds:
    state: absent
"""

RETURN = r"""
differs:
  description: >-
    Whether the host was not yet what the options say. The same as C(changed), for a role that asks in check mode and may not call
    that a change.
  returned: always
  type: bool
feeds:
  description: >-
    Of each feed its C(entries), how many seconds ago it was last known to be current (C(age), -1 is never), the last C(error), what
    this run made of it (C(outcome), empty when nothing was asked), and what of the last answer was taken (C(accepted)).
  returned: always
  type: dict
  sample:
    voipbl: {entries: 97480, age: 12, error: "", outcome: fetched, accepted: {entries: 97480, junk: 0, refused: 3, wide: 1, examples: []}}
lists:
  description: Every list of this host, with the number of its C(entries), its C(kind), its C(mode), and the C(source) it is from.
  returned: always
  type: dict
  sample:
    voipbl: {entries: 97480, kind: feed, mode: enforce, source: "https://voipbl.org/update/"}
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
  returned: when there are feeds, or were some
  type: dict
  sample: {"ipv4": 91, "ipv6": 91}
persisted:
  description: Whether the files for the next boot hold exactly these rules.
  returned: when there are feeds, or were some
  type: bool
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.feeds import units
from ..module_utils._host.feeds.feed import Feed
from ..module_utils._host.feeds.settings import FEED_ARGUMENTS, Change, FeedStore, State, plan, read_options
from ..module_utils._netfilter.lock import check_timeout, exclusive
from ..module_utils._netfilter.runner import Runner, runner_for
from ..module_utils._sip.errors import SipguardError

if TYPE_CHECKING:  # A host without feeds loads nothing of what only those need.
    from ..module_utils._host.feeds.refresh import Refreshed
    from ..module_utils._host.install import Installation, Report
    from ..module_utils._netfilter import blocklist
    from ..module_utils._netfilter.lists import NamedList


def _set_up(
    runner: Runner, store: FeedStore, change: Change, installation: Installation, options: dict[str, Any], check: bool
) -> tuple[blocklist.Loaded, dict[str, Any], list[Report]]:
    """Everything but fetching, and the timer, which would fetch beside us."""
    from ..module_utils._host.exceptions import shields
    from ..module_utils._netfilter import blocklist
    from ..module_utils._netfilter.engine import Engine

    engine = Engine(runner, options["backend"], options["lock_timeout"])
    protected = shields(runner)
    reports = [installation.install_command(check) if change.feeds else installation.install_feeds({}, check)]
    if not check:
        change.write(store)
    now = time.time()
    loaded, result = blocklist.converge(
        engine,
        {name: named.unexpired(now) for name, named in change.lists.items()},
        protected,
        directory=store.lists.directory,
        persist=options["persist"],
        check=check,
    )
    if not check and not change.lists:
        store.lists.clear()
    return loaded, result, reports


def _facts(store: FeedStore, feeds: list[Feed], change: Change, done: Refreshed, check: bool) -> dict[str, Any]:
    """What there is to say of feeds and lists, in check mode as they would be."""
    from ..module_utils._host.feeds.status import feed_facts

    live = store.lists.read_all()[0]
    lists = {**live, **change.lists} if check else {**change.lists, **live}
    states = store.states()
    outcomes = {result.name: result.outcome for result in done.results}
    found: dict[str, Any] = {}
    for feed in feeds:
        named = lists.get(feed.name)
        facts = feed_facts(feed, states.get(feed.name, State()), named, time.time())
        found[feed.name] = {
            "entries": named.count if named is not None else 0,
            "age": facts["age"],
            "error": facts["error"],
            "outcome": outcomes.get(feed.name, ""),
            "accepted": dict(named.report) if named is not None else {},
        }
    return {"feeds": found, "lists": _kept({name: named for name, named in lists.items() if name not in change.gone})}


def _kept(lists: Mapping[str, NamedList]) -> dict[str, Any]:
    return {
        name: {"entries": named.count, "kind": named.kind, "source": named.source, "mode": named.mode}
        for name, named in lists.items()
    }


def main() -> None:
    """Options -> the difference to the host's feeds -> settings, lists, sets and rules -> a refresh -> the timer."""
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", default="present", choices=["present", "absent"]),
            feeds=dict(type="list", elements="dict", default=[], options=FEED_ARGUMENTS),
            keys=dict(type="dict", default={}, no_log=True),
            refresh=dict(type="str", default="due", choices=["due", "always", "never"]),
            mode=dict(type="str", default="enforce", choices=["enforce", "observe"]),
            never=dict(type="list", elements="str", default=[]),
            proxy=dict(type="str", default=""),
            backend=dict(type="str", default="auto", choices=["auto", "nft", "legacy"]),
            persist=dict(type="bool", default=True),
            lock_timeout=dict(type="int", default=30),
        ),
        supports_check_mode=True,
    )
    options = module.params
    store = FeedStore()
    try:
        check_timeout(options["lock_timeout"])
        present = options["state"] == "present"
        keys = {name: str(key) for name, key in options["keys"].items()} if present else {}
        feeds = []
        if present:
            defaults = {"mode": options["mode"], "proxy": options["proxy"]}
            feeds = read_options(options["feeds"], keys, options["never"], defaults)
        if not feeds and not store.exists() and not units.installed() and not plan(store, feeds, keys).changed:
            there = _kept(store.lists.read_all()[0])
            diff = {"before": "", "after": ""}
            module.exit_json(changed=False, differs=False, members={}, left_out=[], feeds={}, lists=there, diff=diff)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    _run(module, store, feeds, keys)


def _run(module: AnsibleModule, store: FeedStore, feeds: list[Feed], keys: dict[str, str]) -> None:
    """The way from feeds to a host that has them."""
    from ..module_utils._host.feeds.refresh import FAILED, WAITS, Refreshed, refresh
    from ..module_utils._host.feeds.status import warnings
    from ..module_utils._host.install import Installation

    options, check = module.params, module.check_mode
    done = Refreshed()
    try:
        runner = runner_for(check)
        installation = Installation(runner)
        with exclusive(options["lock_timeout"], not check):
            change = plan(store, feeds, keys)
            loaded, result, reports = _set_up(runner, store, change, installation, options, check)
        if feeds and not check and options["refresh"] != "never":
            wait = options["lock_timeout"]
            due = options["refresh"] == "due"
            done = refresh(runner, due=due, patient=False, wait=wait, store=store, lock_timeout=wait)
            loaded = loaded if done.busy else done.loaded
        if feeds:
            reports.append(installation.install_feeds(units.texts(feeds), check))
        facts = _facts(store, feeds, change, done, check)
        later = warnings(store) if not check else []
    except SipguardError as error:
        module.fail_json(msg=str(error))
    changed = change.changed or result["changed"] or any(report.changed for report in reports)
    facts["changed"] = facts["differs"] = changed or done.changed
    facts["diff"] = {
        "before": change.before
        + "".join(report.before for report in reports if report.changed)
        + result["diff"]["before"],
        "after": change.after + "".join(report.after for report in reports if report.changed) + result["diff"]["after"],
    }
    facts.update(members=loaded.members, left_out=loaded.left_out, persisted=result["persisted"], rules=result["rules"])
    failed = [each for each in done.results if each.outcome == FAILED and not each.copied]
    later = [words for words in later if not words.startswith(tuple(f"the feed {each.name} " for each in failed))]
    later += [
        f"the feed {each.name}: {each.said}" for each in done.results if each.outcome == WAITS and not each.copied
    ]
    later += ["another refresh is at work, so this run has fetched nothing"] if done.busy else []
    for warning in (*change.doubts, *result["warnings"], *later):
        module.warn(warning)
    problems = [each.said for each in failed] + [error for error in done.errors if error not in change.doubts]
    if problems:
        module.fail_json(msg="; ".join(problems), **facts)
    module.exit_json(**facts)


if __name__ == "__main__":
    main()
