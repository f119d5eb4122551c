# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a feed to its list: fetched, sifted, compared with the copy there is. Nothing is written here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from ..._netfilter import sets
from ..._netfilter.lists import (
    Accepted,
    Criteria,
    Entry,
    NamedList,
    accept,
    check_coverage,
    check_growth,
    check_plausible,
    check_size_change,
)
from ..._sip.addresses import parse_networks
from .feed import Feed
from .protocols import Fetched, Memory, fetch

__all__ = ["Copy", "blank", "dressed", "renew", "usable"]

# What comes piece by piece may grow by so many at once, whatever part of it they are; and by anything until all of it has come.
_FEW = 250
_GOES_ON = "the next run goes on"  # so says a note of protocols.fetch when not all of it has come yet


@dataclass(frozen=True)
class Copy:
    """What a feed says now. ``named`` is the old list itself when nothing has changed; ``whole``: all of it has come."""

    named: NamedList
    memory: Memory
    whole: bool
    notes: tuple[str, ...] = ()


def _recipe(feed: Feed) -> str:
    """Short, and another one when what is fetched, or what of it is taken, is something else."""
    parts = [feed.kind, feed.url, feed.api, feed.dataset, feed.min_prefix, feed.min_prefix_ipv6, feed.allow_private]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def usable(feed: Feed, old: NamedList | None) -> bool:
    """Whether a list is a copy of this feed, as it is set up today."""
    return old is not None and old.digest.startswith(f"{_recipe(feed)}:")


def dressed(feed: Feed, named: NamedList) -> NamedList:
    """A list with everything that the feed's settings say of it, its entries as they are."""
    never = dict.fromkeys(sets.member_text(network) for word in feed.never for network in parse_networks(word, "never"))
    return replace(
        named,
        name=feed.name,
        kind="feed",
        source=feed.shown_url,
        mode=feed.mode,
        never=tuple(never),
        allow_private=feed.allow_private,
    )


def blank(feed: Feed) -> NamedList:
    """The list of a feed that has not been fetched yet."""
    return dressed(feed, NamedList(feed.name))


def renew(
    feed: Feed, key: str, old: NamedList | None, memory: Memory, *, whole: bool, now: int, accept_change: bool
) -> Copy:
    """Fetch and sift. ``memory`` and ``whole`` are those of the last time, ``now`` is in seconds since the epoch.

    A list that is missing, or of something else, is not built upon: all of the feed is fetched. Raises SipguardError when the feed
    cannot be fetched, or is not to be believed.
    """
    before = old if old is not None and usable(feed, old) else None
    kept = before.unexpired(now) if before is not None else blank(feed)
    # Where nothing is left, as after a clock was far ahead, "nothing new" would leave it so.
    fetched = fetch(feed, key, memory if kept.count else Memory())
    if fetched.unchanged:
        named = replace(dressed(feed, kept), digest=kept.digest or f"{_recipe(feed)}:")
    else:
        named = _sift(feed, fetched, kept, whole=whole, now=now, accept_change=accept_change)
    same = before is not None and replace(named, updated=before.updated) == before
    named = before if before is not None and same else replace(named, updated=now)
    return Copy(named, fetched.memory, not any(_GOES_ON in note for note in fetched.notes), tuple(fetched.notes))


def _sift(feed: Feed, fetched: Fetched, kept: NamedList, *, whole: bool, now: int, accept_change: bool) -> NamedList:
    what = f"the feed {feed.name}"
    accepted = accept(fetched.lines, Criteria(feed.min_prefix, feed.min_prefix_ipv6, feed.allow_private))
    # A few new addresses, none of which may be blocked, are no reason to stop.
    if accepted.words or accepted.junk or not fetched.additive:
        check_plausible(what, next((line for line in fetched.lines if line.strip()), ""), accepted)
    entries = _merged(feed, accepted, kept, additive=fetched.additive, now=now) if feed.keep_for else None
    if not accept_change and not fetched.additive:
        lasting = sum(1 for entry in kept.entries() if not entry.expires)
        check_size_change(what, lasting, len(accepted.words), feed.max_change)
    elif not accept_change and whole and entries is not None and len(entries) > kept.count + _FEW:
        check_size_change(what, kept.count, len(entries), feed.max_change)
    addresses = check_coverage(accepted.words if entries is None else entries, what)
    check_growth(what, kept.report, addresses, 0 if accept_change else feed.max_change)
    named = replace(dressed(feed, kept), report={**accepted.summary(), "addresses": addresses})
    named = named.with_words(accepted.words) if entries is None else named.with_entries(entries.values())
    return replace(named, digest=f"{_recipe(feed)}:{hashlib.sha256(named.body.encode()).hexdigest()}")


def _merged(feed: Feed, accepted: Accepted, kept: NamedList, *, additive: bool, now: int) -> dict[str, Entry]:
    """Every entry by its word.

    What comes on top expires some time after it was last reported; what a whole list names stays as long as it does, and for some
    time after.
    """
    until = now + feed.keep_for
    entries = {entry.word: entry for entry in kept.entries()}
    if not additive:
        entries = {word: entry if entry.expires else replace(entry, expires=until) for word, entry in entries.items()}
    for word in accepted.words:
        entries[word] = Entry(word, until if additive else 0)
    return entries
