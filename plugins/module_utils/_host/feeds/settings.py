# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host knows about its feeds: which there are, their keys, and how the last refresh of each went; and how that is changed.

The feeds and the keys are settings (/etc/sipguard), a file each so that no key is ever shown with a feed. The rest is gathered
(/var/lib/sipguard): when it is lost, or damaged, everything is fetched anew. Of a key nothing is shown but whether there is one.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..._netfilter.lists import DISTRIBUTED, Lists, NamedList
from ..._netfilter.persist import DIRECTORY, replace_file
from ..._netfilter.switch_guard import STATE_DIRECTORY
from ..._sip.errors import OptionError, SipguardError
from ..places import FEEDS, KEYS
from . import feed as feed_file
from .feed import APIBAN, DATASETS, KINDS, MODES, Feed, read_feed
from .protocols import Memory
from .renew import blank, dressed

__all__ = ["FEEDS", "FEED_ARGUMENTS", "KEYS", "STATES", "Change", "FeedStore", "State", "plan", "read_options"]

STATES = f"{STATE_DIRECTORY}/feeds.json"

_TEXT, _NUMBER, _FLAG = {"type": "str"}, {"type": "int"}, {"type": "bool"}
# The part of an argument_spec that describes a feed; what is not given is read_feed's to say.
FEED_ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "kind": {"type": "str", "required": True, "choices": list(KINDS)},
    "url": _TEXT,
    "every": _NUMBER,
    "mode": {"type": "str", "choices": list(MODES)},
    "max_change": _NUMBER,
    "min_prefix": _NUMBER,
    "min_prefix_ipv6": _NUMBER,
    "allow_private": _FLAG,
    "never": {"type": "list", "elements": "str"},
    "api": _NUMBER,
    "dataset": {"type": "str", "choices": list(DATASETS)},
    "keep_for": _NUMBER,
    "ca_file": {"type": "path"},
    "proxy": _TEXT,
    "allow_http": _FLAG,
    "timeout": _NUMBER,
    "max_size": _NUMBER,
}


@dataclass(frozen=True)
class State:
    """How a feed is doing; all times in seconds since the epoch, 0: never.

    ``first`` is the first attempt, ``began`` and ``ended`` are those of the last one, ``succeeded`` that of the last good one.
    ``failures`` counts those in a row since ``failing``, ``error`` says what the last one was. ``not_before`` is what the server has
    asked for. ``whole`` is false while a feed that comes piece by piece has not been read to its end.
    """

    first: int = 0
    began: int = 0
    ended: int = 0
    succeeded: int = 0
    failing: int = 0
    failures: int = 0
    error: str = ""
    not_before: int = 0
    whole: bool = False
    memory: Memory = field(default_factory=Memory)

    @property
    def cut_short(self) -> bool:
        """Whether the last attempt did not come to its end; or it is at work."""
        return self.began > 0 and self.ended == 0

    def render(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "memory": self.memory.render()}

    @classmethod
    def parse(cls, data: object) -> State:
        """The inverse of ``render``; of what it has not written, nothing is known."""
        if not isinstance(data, dict) or set(data) != {each.name for each in fields(cls)}:
            return cls()
        made = cls(**{**data, "memory": Memory.parse(data["memory"])})
        fresh = cls()
        right = all(isinstance(value, type(getattr(fresh, name))) for name, value in vars(made).items())
        return made if right else fresh


class FeedStore:
    """The three files, 0600, each replaced in one moment, and the lists."""

    def __init__(self, settings: str = DIRECTORY, gathered: str = STATE_DIRECTORY) -> None:
        self.gathered = gathered
        self.lists = Lists(f"{gathered}/lists")
        self._feeds, self._keys = (pathlib.Path(settings) / pathlib.PurePath(path).name for path in (FEEDS, KEYS))
        self._states = pathlib.Path(gathered) / pathlib.PurePath(STATES).name

    def feeds(self) -> list[Feed]:
        """Every feed of this host. Raises SipguardError when they cannot be read."""
        text = self.feeds_text()
        return [] if text is None else feed_file.parse(text)

    def feeds_text(self) -> str | None:
        """The same as it is written, None when there is no file. Raises SipguardError."""
        return _read(self._feeds)

    def write_feeds(self, feeds: Iterable[Feed]) -> None:
        """Without any there is no file. Raises SipguardError."""
        wanted = list(feeds)
        _write(self._feeds, feed_file.render(wanted) if wanted else None)

    def keys(self) -> dict[str, str]:
        """The keys by the name of their feed. Raises SipguardError when they cannot be read; it never holds one."""
        text = _read(self._keys)
        try:
            found = json.loads(text) if text is not None else {}
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise SipguardError(f"{self._keys} is damaged; run the playbook again")
        return found

    def write_keys(self, keys: Mapping[str, str]) -> None:
        """Without any there is no file. Raises SipguardError."""
        _write(self._keys, json.dumps(dict(keys), indent=1, sort_keys=True) + "\n" if keys else None)

    def states(self) -> dict[str, State]:
        """The state of each feed that has one. Raises SipguardError when the file cannot be read."""
        try:
            found = json.loads(_read(self._states) or "{}")
        except (ValueError, RecursionError):
            found = {}
        return {name: State.parse(data) for name, data in found.items()} if isinstance(found, dict) else {}

    def write_states(self, states: Mapping[str, State]) -> None:
        """Without any there is no file. Raises SipguardError."""
        found = {name: state.render() for name, state in states.items()}
        _write(self._states, json.dumps(found, indent=1, sort_keys=True) + "\n" if found else None)

    def exists(self) -> bool:
        """Whether any of the files is there."""
        return any(path.exists() for path in (self._feeds, self._keys, self._states))


def _read(path: pathlib.Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="backslashreplace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SipguardError(f"cannot read {path}: {error}") from error


def _write(path: pathlib.Path, text: str | None) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        if text is None:
            for file in (path, temporary):
                file.unlink(missing_ok=True)
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, text, 0o600)
    except OSError as error:
        with contextlib.suppress(OSError):  # on a full disk, what is left of it would be in the way
            temporary.unlink(missing_ok=True)
        raise SipguardError(f"cannot write {path}: {error}") from error


def read_options(
    options: Sequence[Mapping[str, Any]], keys: Mapping[str, str], never: Sequence[str], defaults: Mapping[str, Any]
) -> list[Feed]:
    """The feeds that options ask for; ``defaults`` are for what a feed does not say. Raises OptionError."""
    feeds: list[Feed] = []
    for entry in options:
        given = {**defaults, **{name: value for name, value in entry.items() if value is not None}}
        feed = read_feed({**given, "never": [*given.get("never", ()), *never]})
        if any(feed.name == other.name for other in feeds):
            raise OptionError("feeds", feed.name, "it is there twice; one feed of a name would be right")
        feeds.append(feed)
    for name in keys:
        if all(name != feed.name for feed in feeds):
            raise OptionError("keys", name, "there is no feed of that name in 'feeds'")
    for feed in feeds:
        if feed.kind == APIBAN and not keys.get(feed.name):
            raise OptionError("keys", f"{feed.name}: (none)", "it needs a key (pbx_blocklists_apiban_key)")
    return feeds


@dataclass
class Change:
    """What has to be done. ``lists`` are those of the host afterwards, ``edited`` those of them to be written, ``gone`` go.

    ``before`` and ``after`` are for a diff; ``doubts`` are sentences about files that were damaged.
    """

    feeds: list[Feed]
    keys: dict[str, str]
    lists: dict[str, NamedList]
    edited: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)
    settings: bool = False
    before: str = ""
    after: str = ""
    doubts: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return self.settings or bool(self.edited or self.gone)

    def write(self, store: FeedStore) -> None:
        """Carry it out, the settings first: lists that are left over without them go with the next run. Raises SipguardError."""
        if self.settings:
            store.write_keys(self.keys)
            store.write_feeds(self.feeds)
        for name in self.edited:
            store.lists.write(self.lists[name])
            pathlib.Path(DISTRIBUTED, name).unlink(missing_ok=True)  # fetched by the host itself from now on
        for name in self.gone:
            store.lists.remove(name)
        if store.states() != self.states or not self.states:
            store.write_states(self.states)


def plan(store: FeedStore, feeds: Sequence[Feed], keys: Mapping[str, str]) -> Change:
    """What has to be done so that the host has exactly these feeds. Raises SipguardError."""
    lists, errors = store.lists.read_all()
    change = Change(list(feeds), dict(keys), lists)
    old_feeds, old_keys = _old(store, change)
    damaged = bool(change.doubts)
    there = set(store.lists.names())
    wanted = {feed.name: feed for feed in feeds}
    for feed in feeds:
        named = lists.get(feed.name)
        if named is not None and not named.fetched and not named.source.startswith(f"{DISTRIBUTED}/"):
            raise OptionError(
                "feeds",
                feed.name,
                f"there is a list of that name which is no feed of this host ({named.source}); another name would be right",
            )
        fresh = blank(feed) if named is None else dressed(feed, named)
        # A list that is damaged stays, so that the next refresh says so and makes it anew.
        if fresh != named and not (named is None and feed.name in there):
            change.edited.append(feed.name)
            lists[feed.name] = fresh
    for name in sorted(there):
        ours = name in old_feeds if name not in lists else lists[name].fetched
        if ours and name not in wanted:
            change.gone.append(name)
            lists.pop(name, None)
    change.doubts += [error for error in errors if all(f"list {name} " not in error for name in change.gone)]
    change.states = {name: state for name, state in store.states().items() if name in wanted}
    for name, state in change.states.items():
        if wanted[name] != old_feeds.get(name) or keys.get(name) != old_keys.get(name):
            # What has failed with other settings says nothing about these.
            change.states[name] = replace(state, failing=0, failures=0, error="", not_before=0)
    change.settings = list(feeds) != list(old_feeds.values()) or dict(keys) != old_keys or damaged
    if change.settings:
        change.before, change.after = _lines(old_feeds.values(), old_keys, {}), _lines(feeds, keys, old_keys)
    change.after += "".join(
        f"list {name}: empty until it is fetched\n" for name in change.edited if not lists[name].digest
    )
    change.before += "".join(f"list {name}\n" for name in change.gone)
    return change


def _old(store: FeedStore, change: Change) -> tuple[dict[str, Feed], dict[str, str]]:
    """Feeds and keys there are; what is damaged counts as nothing."""
    feeds: dict[str, Feed] = {}
    keys: dict[str, str] = {}
    try:
        feeds = {feed.name: feed for feed in store.feeds()}
    except SipguardError as error:
        change.doubts.append(str(error))
    try:
        keys = store.keys()
    except SipguardError as error:
        change.doubts.append(str(error))
    return feeds, keys


def _lines(feeds: Iterable[Feed], keys: Mapping[str, str], old: Mapping[str, str]) -> str:
    text = ""
    for feed in feeds:
        facts = {**asdict(feed), "url": feed.shown_url}
        text += f"feed {feed.name}: {json.dumps(facts, sort_keys=True)}\n"
        if keys.get(feed.name):
            text += f"  key: {'changed' if old.get(feed.name, keys[feed.name]) != keys[feed.name] else 'set'}\n"
    return text
