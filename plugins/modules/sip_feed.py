#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sip_feed
short_description: Fetch a list of attackers once, for many hosts
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - Fetches one feed into a directory, mostly on the controller (C(delegate_to) V(localhost)), and asks only for what has changed.
  - >-
    What comes is judged as M(sipguard.pbx.sipguard_feeds) does it. What was accepted is written to a plain text file, to be copied to
    the hosts and given to M(sipguard.pbx.sip_blocklist) as its O(sipguard.pbx.sip_blocklist#module:feed).
  - If the feed fails and there is a copy, that one is returned, with a warning.
  - It needs no root.
options:
  feed:
    description: The feed, as one of O(sipguard.pbx.sipguard_feeds#module:feeds). What concerns a host alone is of no account here.
    type: dict
    required: true
    suboptions:
      name:
        description: What the feed and its file are called; up to 40 letters, digits, V(-) and V(_).
        type: str
        required: true
      kind:
        description: How the server is asked.
        type: str
        choices: [voipbl, apiban, blocklist_de, url]
        required: true
      url:
        description: Where it is fetched from.
        type: str
      every:
        description: Of no account here; the feed is asked in each run, unless its server wants to be left alone.
        type: int
      mode:
        description: Of no account here.
        type: str
        choices: [enforce, observe]
      max_change:
        description: By how many per cent the number of entries may change at once.
        type: int
      min_prefix:
        description: The shortest prefix of an IPv4 network.
        type: int
      min_prefix_ipv6:
        description: The shortest prefix of an IPv6 network.
        type: int
      allow_private:
        description: Whether private and reserved addresses are taken.
        type: bool
      never:
        description: Of no account here.
        type: list
        elements: str
      api:
        description: The version of APIBAN's protocol.
        type: int
      dataset:
        description: What is asked of version 2 of it.
        type: str
        choices: [sip, http, all]
      keep_for:
        description: How many seconds an entry stays after the feed has last named it.
        type: int
      ca_file:
        description: A file with the authorities to trust, instead of those of the system.
        type: path
      proxy:
        description: The address of a proxy, without a password, or V(none).
        type: str
      allow_http:
        description: Whether it may be fetched over http.
        type: bool
      timeout:
        description: How many seconds it may take in all.
        type: int
      max_size:
        description: How many bytes the list may have.
        type: int
  key:
    description: The key of the feed, if it needs one. It is neither stored nor shown.
    type: str
    default: ""
  directory:
    description: Where the file is kept, with what is needed to ask for changes only. It is made, for nobody else to read.
    type: path
    default: ~/.cache/sipguard/feeds
  accept_change:
    description: Take a list whose size has changed by more than O(feed.max_change).
    type: bool
    default: false
  max_age:
    description:
      - A copy that was fetched no more than so many seconds ago is good enough, and nobody is asked.
      - So one server is asked once for all hosts of a play.
    type: int
    default: 0
attributes:
  check_mode:
    description: >-
      Can run in check mode. It fetches nothing then, returns the copy there is, and C(changed) says whether there is none yet.
    support: full
  diff_mode:
    description: Returns the number of entries before and after.
    support: full
  idempotent:
    description: A second run changes nothing, unless the feed has changed.
    support: full
  platform:
    description: Where it runs.
    support: full
    platforms: posix
seealso:
  - module: sipguard.pbx.sip_blocklist
  - module: sipguard.pbx.sipguard_feeds
"""

EXAMPLES = r"""
- name: Fetch VoIPBL once
  sipguard.pbx.sip_feed:
    feed: {name: voipbl, kind: voipbl}
  delegate_to: localhost
  become: false
  run_once: true
  register: voipbl

- name: Hand it out
  ansible.builtin.copy:
    src: "{{ voipbl.path }}"
    dest: /var/lib/voipbl.txt
    mode: "0600"

- name: Drop what it names
  sipguard.pbx.sip_blocklist:
    name: voipbl
    feed: /var/lib/voipbl.txt
"""

RETURN = r"""
path:
  description: The file, one entry a line; its last line is a comment that says how many there are.
  returned: success
  type: str
  sample: /root/.cache/sipguard/feeds/voipbl.txt
entries:
  description: How many entries it has.
  returned: success
  type: int
digest:
  description: The SHA-256 of the file, empty when there is none.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
accepted:
  description: How many lines of the feed were C(entries), C(junk), C(refused) and C(wide), and the first of them as C(examples).
  returned: success
  type: dict
"""

import hashlib
import pathlib
import time
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.feeds.feed import Feed, read_feed
from ..module_utils._host.feeds.protocols import FeedError
from ..module_utils._host.feeds.refresh import alone
from ..module_utils._host.feeds.renew import blank, renew, usable
from ..module_utils._host.feeds.schedule import asked_for
from ..module_utils._host.feeds.settings import FEED_ARGUMENTS, FeedStore, State
from ..module_utils._netfilter.lists import NamedList
from ..module_utils._netfilter.persist import replace_file
from ..module_utils._sip.errors import SipguardError

_PATIENCE = 300  # s, for another run that fetches into the same directory


def _read(store: FeedStore, feed: Feed) -> NamedList | None:
    try:
        return store.lists.read(feed.name)
    except SipguardError:  # damaged: as if it had never been fetched
        return None


def _fetch(store: FeedStore, feed: Feed, key: str, accept_change: bool, max_age: int) -> tuple[NamedList, str]:
    """The list of the feed, and why it is not a new one. Raises SipguardError when there is none at all."""
    now = int(time.time())
    old, states = _read(store, feed), store.states()
    state = states.get(feed.name, State())
    if old is not None and usable(feed, old) and 0 <= now - state.succeeded < max_age:
        return old.unexpired(now), ""
    problem = ""
    try:
        if asked_for(state, now):
            raise FeedError(
                f"the feed {feed.name} was not asked: its server wants to be left alone for {state.not_before - now} s",
                temporary=True,
            )
        copy = renew(feed, key, old, state.memory, whole=state.whole, now=now, accept_change=accept_change)
        if copy.named is not old:
            store.lists.write(copy.named)
        state = State(now, now, now, now, memory=copy.memory, whole=copy.whole)
        found: NamedList = copy.named
    except SipguardError as error:
        problem = str(error)
        if isinstance(error, FeedError) and error.retry_after:
            state = replace(state, not_before=now + error.retry_after)
        found = old if old is not None else blank(feed)
    store.write_states({**states, feed.name: state})
    if problem and not usable(feed, found):
        raise SipguardError(problem)
    return found.unexpired(now), problem


def _text(named: NamedList) -> str:
    words = "".join(f"{entry.word}\n" for entry in named.entries())
    return f"{words}# end of {named.name}: {named.count} entries\n"


def main() -> None:
    """Options -> feed -> its list -> a file."""
    module = AnsibleModule(
        argument_spec=dict(
            feed=dict(type="dict", required=True, options=FEED_ARGUMENTS),
            key=dict(type="str", default="", no_log=True),
            directory=dict(type="path", default="~/.cache/sipguard/feeds"),
            accept_change=dict(type="bool", default=False),
            max_age=dict(type="int", default=0),
        ),
        supports_check_mode=True,
    )
    options = module.params
    folder = pathlib.Path(options["directory"])
    store = FeedStore(str(folder), str(folder))
    problem = ""
    try:
        feed = read_feed(options["feed"], "feed")
        path = folder / f"{feed.name}.txt"
        old = path.read_text(encoding="ascii", errors="replace") if path.exists() else None
        if module.check_mode:
            named = _read(store, feed) or blank(feed)
            text = old
        else:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with alone(_PATIENCE, str(folder / ".lock")) as got:
                if not got:
                    raise SipguardError(f"another run has been fetching into {folder} for {_PATIENCE} s")
                named, problem = _fetch(store, feed, options["key"], options["accept_change"], options["max_age"])
                text = _text(named)
                if text != old:
                    replace_file(path, text, 0o600)
    except OSError as error:
        module.fail_json(msg=f"cannot write below {folder}: {error}")
    except SipguardError as error:
        module.fail_json(msg=str(error))
    if problem:
        module.warn(f"{problem}; the copy there is, with {named.count} entries, is used")
    lines = [len(found.splitlines()) - 1 if found else 0 for found in (old, text)]
    result: dict[str, Any] = {
        "changed": text is None or text != old,
        "path": str(path),
        "entries": lines[1],
        "digest": hashlib.sha256(text.encode()).hexdigest() if text is not None else "",
        "accepted": dict(named.report),
        "diff": {"before": f"{lines[0]} entries\n", "after": f"{lines[1]} entries\n"} if text != old else {},
    }
    module.exit_json(**result)


if __name__ == "__main__":
    main()
