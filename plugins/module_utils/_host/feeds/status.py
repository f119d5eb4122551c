# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fresh the lists of a host are: for people, for programs, and as warnings of a module."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..._netfilter import blocklist
from ..._netfilter.backend import has_family
from ..._netfilter.engine import Engine
from ..._netfilter.lists import NamedList
from ..._netfilter.names import CHAIN_PRE, FAMILIES
from ..._netfilter.persist import Store
from ..._netfilter.runner import Runner
from ..._sip.errors import SipguardError
from ..exceptions import shields
from ..restore import live_rules
from ..switch import when
from . import units
from .feed import Feed
from .renew import usable
from .schedule import STALE, next_attempt, stretched
from .settings import FeedStore, State

__all__ = ["feed_facts", "status", "warnings"]

_SHOWN = 3
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def _age(seconds: float) -> str:
    """A time for people: two of the largest unit and more of it, or the next smaller unit."""
    for unit, size in _UNITS:
        if seconds >= 2 * size or size == 1:
            return f"{int(seconds // size)} {unit}"
    raise AssertionError(seconds)


def feed_facts(feed: Feed, state: State, named: NamedList | None, now: float) -> dict[str, Any]:
    """What there is to say of one feed; times in seconds since the epoch, ``age`` in seconds since it was last known to be current.

    ``problem`` is "" when all is well.
    """
    good = usable(feed, named)
    since = state.succeeded or state.first
    problem = ""
    if state.failures:
        often = f"{state.failures} times" if state.failures > 1 else "once"
        problem = f"has failed {often} since {when(state.failing)}: {state.error}"
    elif since and now - since > STALE * stretched(feed):
        what = "refreshed" if state.succeeded else "fetched"
        problem = f"has not been {what} for {_age(now - since)}" + (f": {state.error}" if state.error else "")
    elif state.cut_short:
        problem = f"is being refreshed since {when(state.began)}, or that refresh was cut short"
    return {
        "url": feed.shown_url,
        "every": feed.every,
        "succeeded": state.succeeded,
        "attempted": state.began,
        "age": int(now - state.succeeded) if state.succeeded else -1,
        "next": int(next_attempt(feed, state, now, usable=good)),
        "failures": state.failures,
        "error": state.error,
        "copied": good,
        "problem": problem,
        # A refresh that is at work is no failure.
        "failed": bool(problem) and (bool(state.failures) or not state.cut_short),
    }


def warnings(store: FeedStore, now: float | None = None) -> list[str]:
    """A sentence for each feed that is not as fresh as it should be. Raises SipguardError when the settings cannot be read."""
    moment = time.time() if now is None else now
    lists = store.lists.read_all()[0]
    states = store.states()
    found = []
    for feed in store.feeds():
        named = lists.get(feed.name)
        facts = feed_facts(feed, states.get(feed.name, State()), named, moment)
        if facts["failed"]:
            copy = "nothing of it is in force"
            if named is not None and facts["copied"]:
                copy = f"its copy of {when(named.updated)} with {named.count} entries is in force"
            found.append(f"the feed {feed.name} {facts['problem']}; {copy}")
    return found


def status(runner: Runner, store: FeedStore | None = None) -> tuple[dict[str, Any], str, int]:
    """Everything about every list, the same as text, and the exit status: 1 when a feed has failed or is out of date, or a list
    is damaged, the sets are not what the lists say, or no rule looks into them. Raises SipguardError when the settings cannot be read."""
    place = store or FeedStore()
    now = time.time()
    feeds = {feed.name: feed for feed in place.feeds()}
    states = place.states()
    lists, errors = place.lists.read_all()
    rows: dict[str, Any] = {}
    for name in sorted({*lists, *feeds}):
        named = lists.get(name)
        row: dict[str, Any] = {"kind": "feed" if name in feeds else "static"}
        if named is not None and named.kind == "feed" and name not in feeds:
            row["kind"] = "file"
        if named is not None:
            row.update(
                mode=named.mode,
                entries=named.count,
                source=named.source,
                updated=named.updated,
                report=dict(named.report),
            )
        if name in feeds:
            row.update(feed_facts(feeds[name], states.get(name, State()), named, now))
        rows[name] = row
    if feeds and not units.installed():
        errors.append("nothing refreshes the feeds by itself: their timer is not installed; run the playbook again")
    left_out: list[dict[str, Any]] = []
    try:
        if lists:
            loaded = _compare(runner, place, lists, now)
            left_out = loaded.left_out
            unheeded = _unheeded(runner, loaded.members)
            if unheeded:
                errors.append(
                    f"no rule looks into {', '.join(unheeded)}, so nobody in there is stopped or noted: 'sipguard repair', or run the "
                    "playbook again"
                )
            if loaded.changed:
                errors.append("the sets do not hold what the lists say: 'sipguard feeds refresh' loads them")
    except SipguardError as error:
        errors.append(str(error))
    found = {"lists": rows, "left_out": left_out, "errors": errors}
    bad = bool(errors) or any(row.get("failed") for row in rows.values())
    return found, "\n".join(_text(found, now)), int(bad)


def _unheeded(runner: Runner, names: Iterable[str]) -> list[str]:
    """Those of the sets that no rule looks into: somebody has flushed the rules, or a change of them was taken back."""
    engine = Engine(runner, Store().backend())
    snapshot = engine.snapshot()
    heeded: set[str] = set()
    for family in engine.families:
        live = live_rules(snapshot, family)
        rules = live.own_chains("raw").get(CHAIN_PRE, ()) if live.table("raw").hooks else ()
        heeded.update(name for rule in rules for name in rule.sets())
    return [name for name in names if name not in heeded]


def _compare(runner: Runner, store: FeedStore, lists: Mapping[str, NamedList], now: float) -> blocklist.Loaded:
    """What loading the lists would come to."""
    return blocklist.fill(
        runner,
        {name: each.unexpired(now) for name, each in lists.items()},
        shields(runner, directory=store.gathered),
        [family for family in FAMILIES if has_family(family)],
        directory=store.lists.directory,
        check=True,
    )


def _text(found: Mapping[str, Any], now: float) -> Iterator[str]:
    if not found["lists"] and not found["errors"]:
        yield "no lists"
    for name, row in found["lists"].items():
        words = [row["kind"], row.get("mode", "no list"), f"{row.get('entries', 0)} entries"]
        if row["kind"] == "feed":
            words.append(f"fetched {_age(row['age'])} ago" if row["age"] >= 0 else "never fetched")
            words.append("due now" if row["next"] <= now else f"next in {_age(row['next'] - now)}")
        elif row.get("updated"):
            words.append(f"made {_age(now - row['updated'])} ago")
        if row.get("problem"):
            words.append(row["problem"])
        elif row.get("error"):
            words.append(row["error"])
        yield f"{name}: {', '.join(words)}"
        report = row.get("report", {})
        for key, what in (("junk", "are junk"), ("refused", "were refused"), ("wide", "are large networks")):
            if report.get(key):
                yield f"  lines that {what}: {report[key]}"
        for example in report.get("examples", ())[:_SHOWN]:
            yield f"  line {example['line']}: {example['text']}: {example['why']}"
    for item in found["left_out"]:
        yield f"left out of {', '.join(item['lists'])}: {item['network']} ({item['why']})"
    for error in found["errors"]:
        yield f"error: {error}"
