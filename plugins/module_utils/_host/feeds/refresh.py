# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refreshing feeds: fetch each that is due, keep the old copy of each that fails, then load the sets once.

Order of what is written: the list, its state, the sets. Whatever ends a refresh in between, the next one finds lists and sets that are
whole, and fetches again what it has no note of.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ..._netfilter import blocklist
from ..._netfilter.backend import has_family
from ..._netfilter.engine import DEFAULT_LOCK_TIMEOUT
from ..._netfilter.lists import NamedList
from ..._netfilter.lock import exclusive
from ..._netfilter.names import FAMILIES
from ..._netfilter.runner import Runner
from ..._sip.errors import SipguardError
from ..exceptions import read_lists, shields
from ..switch import when
from .feed import Feed
from .protocols import FeedError
from .renew import Copy, renew, usable
from .schedule import asked_for, next_attempt
from .settings import FeedStore, State

__all__ = ["FAILED", "FETCHED", "LOCK_FILE", "NOT_DUE", "UNCHANGED", "WAITS", "Refreshed", "Result", "alone", "refresh"]

FETCHED, UNCHANGED, NOT_DUE, FAILED, WAITS = "fetched", "unchanged", "not due", "failed", "waits"
LOCK_FILE = "/run/sipguard-feeds.lock"
_POLL = 0.1  # s


@dataclass(frozen=True)
class Result:
    """What came of one feed. ``outcome`` is one of the words above, ``said`` the same as a sentence.

    ``before`` and ``after`` count entries; ``copied``: there is a copy of the feed in force; ``changed``: its list was written.
    """

    name: str
    outcome: str
    said: str
    before: int = 0
    after: int = 0
    copied: bool = True
    changed: bool = False
    accepted: dict[str, Any] = field(default_factory=dict)


@dataclass
class Refreshed:
    """What came of all of them. ``errors`` are sentences about what concerns no single feed; ``busy``: another refresh is at work."""

    results: list[Result] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    loaded: blocklist.Loaded = field(default_factory=blocklist.Loaded)
    busy: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing failed; a feed that waits because its server has asked for it has not."""
        return not self.errors and all(result.outcome != FAILED for result in self.results)

    @property
    def changed(self) -> bool:
        return self.loaded.changed or any(result.changed for result in self.results)

    def result(self) -> dict[str, Any]:
        """For programs."""
        return {
            "busy": self.busy,
            "errors": self.errors,
            "feeds": {result.name: vars(result) for result in self.results},
            "members": self.loaded.members,
            "left_out": self.loaded.left_out,
        }


@contextlib.contextmanager
def alone(wait: float, path: str = LOCK_FILE) -> Iterator[bool]:
    """Keep other refreshes away; false when one is still at work after ``wait`` seconds. Raises SipguardError."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SipguardError(f"cannot lock {path}: {error}") from error
    try:
        deadline = time.monotonic() + wait
        got = _try(handle)
        while not got and time.monotonic() < deadline:
            time.sleep(_POLL)
            got = _try(handle)
        yield got
    finally:
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def refresh(
    runner: Runner,
    names: Collection[str] = (),
    due: bool = False,
    accept_change: bool = False,
    *,
    patient: bool = True,
    wait: float = 0,
    store: FeedStore | None = None,
    lock_timeout: int = DEFAULT_LOCK_TIMEOUT,
) -> Refreshed:
    """Refresh the feeds of these names (default: all), with ``due`` only those whose time has come, and load the sets.

    ``accept_change`` takes what changes by more than it should. Without ``patient`` a feed that has never been fetched is tried
    however short ago it failed. ``wait`` is how many seconds another refresh is waited for. What a feed does wrong is told in its
    result; raises SipguardError when there is no such feed, or the settings cannot be read.
    """
    place = store or FeedStore()
    with alone(wait) as got:
        if not got:
            return Refreshed(busy=True)
        run = _Run(runner, place, due, accept_change, patient, lock_timeout)
        feeds = place.feeds()
        unknown = [name for name in names if all(name != feed.name for feed in feeds)]
        if unknown:
            there = ", ".join(feed.name for feed in feeds) or "none"
            raise SipguardError(f"this host has no feed {', '.join(map(ascii, unknown))}; it has: {there}")
        done = Refreshed([run.one(feed) for feed in feeds if not names or feed.name in names])
        if feeds or place.lists.names():
            run.load(done)
        return done


class _Run:
    """One refresh. The host's lock is held only while something is written."""

    def __init__(
        self, runner: Runner, store: FeedStore, due: bool, accept_change: bool, patient: bool, lock_timeout: int
    ) -> None:
        self._runner = runner
        self._store = store
        self._due = due
        self._accept_change = accept_change
        self._patient = patient
        self._lock_timeout = lock_timeout

    def one(self, feed: Feed) -> Result:
        """Fetch a feed if it is time, and write its list and its state."""
        now = int(time.time())
        old, doubts = self._read(feed)
        state = self._store.states().get(feed.name, State())
        if state.cut_short:
            doubts.append(f"its refresh of {when(state.began)} did not come to its end")
        good = usable(feed, old)
        moment = next_attempt(feed, state, now, usable=good, patient=self._patient)
        count = old.count if old is not None else 0
        waits = asked_for(state, now) > 0
        if waits or (self._due and moment > now):
            until = when(state.not_before if waits else moment)
            said = f"the server wants to be left alone until {until}" if waits else f"not due until {until}"
            return self._stays(feed, old, WAITS if waits else NOT_DUE, [said, *doubts], count)
        state = replace(state, first=state.first or now, began=now, ended=0)
        try:
            self._note(feed, state)
            copy = renew(
                feed,
                self._store.keys().get(feed.name, ""),
                old,
                state.memory,
                whole=state.whole,
                now=now,
                accept_change=self._accept_change,
            )
            self._keep(feed, copy, old, state)
        except SipguardError as error:
            return self._failed(feed, old, state, error, doubts)
        changed = copy.named is not old
        than = f"{count} before" if changed and good else "new" if changed else "as before"
        said = f"{copy.named.count} entries, {than}"
        return Result(
            feed.name,
            FETCHED if changed else UNCHANGED,
            "; ".join([said, *copy.notes, *doubts]),
            count,
            copy.named.count,
            changed=changed,
            accepted=dict(copy.named.report),
        )

    def _read(self, feed: Feed) -> tuple[NamedList | None, list[str]]:
        """The list, None without one that is whole; and what is wrong with it."""
        try:
            return self._store.lists.read(feed.name), []
        except SipguardError:
            return None, ["its list was damaged"]

    def _require(self, feed: Feed) -> None:
        """Raise SipguardError when the feed has gone, or become another one, in the meantime."""
        if feed not in self._store.feeds():
            raise SipguardError(f"the settings of the feed {feed.name} were changed while it was fetched")

    def _note(self, feed: Feed, state: State) -> None:
        with exclusive(self._lock_timeout):
            self._write(feed, state)

    def _write(self, feed: Feed, state: State) -> None:
        self._require(feed)
        self._store.write_states({**self._store.states(), feed.name: state})

    def _keep(self, feed: Feed, copy: Copy, old: NamedList | None, state: State) -> None:
        with exclusive(self._lock_timeout):
            self._require(feed)
            if copy.named is not old:
                self._store.lists.write(copy.named)
            ended = int(time.time())
            done = State(state.first, state.began, ended, ended, memory=copy.memory, whole=copy.whole)
            self._write(feed, done)

    def _failed(
        self, feed: Feed, old: NamedList | None, state: State, error: SipguardError, doubts: list[str]
    ) -> Result:
        now = int(time.time())
        wait = error.retry_after if isinstance(error, FeedError) and error.temporary else 0
        state = replace(state, ended=now, error=str(error), not_before=now + wait if wait else 0)
        if not wait:
            state = replace(state, failures=state.failures + 1, failing=state.failing or now)
        said = [str(error), *doubts]
        try:
            self._note(feed, state)
        except SipguardError as problem:
            if str(problem) != str(error):
                said.append(str(problem))
        return self._stays(feed, old, WAITS if wait else FAILED, said, old.count if old is not None else 0)

    def _stays(self, feed: Feed, old: NamedList | None, outcome: str, said: list[str], before: int) -> Result:
        """The result for a feed that was not fetched; its entries go on to expire."""
        left = old.unexpired(time.time()) if old is not None else None
        changed = left is not old
        if left is not None and changed:
            try:
                with exclusive(self._lock_timeout):
                    if feed in self._store.feeds():
                        self._store.lists.write(left)
            except SipguardError as error:
                outcome, changed = FAILED, False
                said = [*said, str(error)]
        after = left.count if left is not None else 0
        report = dict(old.report) if old is not None else {}
        return Result(feed.name, outcome, "; ".join(said), before, after, usable(feed, old), changed, report)

    def load(self, done: Refreshed) -> None:
        """Make the sets hold what the lists say, those of nobody's feed too."""
        try:
            with exclusive(self._lock_timeout):
                lists, damaged = read_lists(self._store.gathered)
                done.errors += damaged
                done.loaded = blocklist.fill(
                    self._runner,
                    lists,
                    shields(self._runner, directory=self._store.gathered),
                    [family for family in FAMILIES if has_family(family)],
                    directory=self._store.lists.directory,
                    check=False,
                    keep=bool(damaged),
                )
        except SipguardError as error:
            done.errors.append(f"the sets stay as they were: {error}")
