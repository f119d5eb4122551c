# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written about feeds, what is read of it when it is damaged, and what changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.feed import read_feed
from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.protocols import Memory
from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.renew import blank
from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.settings import (
    FeedStore,
    State,
    plan,
    read_options,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.lists import NamedList
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError

KEY = "k3y-of-nobody"
VOIPBL = read_feed({"name": "voipbl", "kind": "voipbl"})
APIBAN = read_feed({"name": "apiban", "kind": "apiban"})
STATE = State(1, 2, 3, 4, 5, 6, "no", 7, True, Memory(etag='"1"', source="x"))


@pytest.fixture
def store(tmp_path: Path) -> FeedStore:
    return FeedStore(str(tmp_path / "etc"), str(tmp_path / "lib"))


def apply(store: FeedStore, *wanted: str) -> None:
    feeds = [feed for feed in (VOIPBL, APIBAN) if feed.name in wanted]
    plan(store, feeds, {"apiban": KEY} if "apiban" in wanted else {}).write(store)


def test_state_is_read_as_it_was_written() -> None:
    assert State.parse(json.loads(json.dumps(STATE.render()))) == STATE


@pytest.mark.parametrize("name", STATE.render())
@pytest.mark.parametrize("value", [None, "text", [1], {"a": 1}])
def test_state_that_nobody_has_written_is_none(name: str, value: object) -> None:
    data = {**STATE.render(), name: value}
    assert State.parse(data) in (State(), replace(STATE, error="text"), replace(STATE, memory=Memory()))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"voipbl": 1}', "[" * 99999, "\x00"])
def test_damaged_states_count_as_none(store: FeedStore, tmp_path: Path, text: str) -> None:
    apply(store, "voipbl")
    store.write_states({"voipbl": STATE})
    assert store.states() == {"voipbl": STATE}
    (tmp_path / "lib/feeds.json").write_text(text)
    assert set(store.states().values()) <= {State()}


def test_files_are_for_root_alone_and_go(store: FeedStore, tmp_path: Path) -> None:
    apply(store, "voipbl", "apiban")
    store.write_states({"voipbl": STATE})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"feeds.json", "feed-keys.json", "voipbl", "apiban"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert [path.name for path in files if KEY in path.read_text()] == ["feed-keys.json"]
    apply(store)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("text", ["{", "[]", '{"apiban": 1}'])
def test_damaged_keys_are_said_without_one(store: FeedStore, tmp_path: Path, text: str) -> None:
    apply(store, "apiban")
    path = tmp_path / "etc/feed-keys.json"
    path.write_text(text + KEY if text == "{" else text)
    with pytest.raises(SipguardError, match=r"feed-keys\.json is damaged") as caught:
        store.keys()
    assert KEY not in str(caught.value)
    change = plan(store, [APIBAN], {"apiban": KEY})
    assert change.settings
    assert change.doubts == [str(caught.value)]
    change.write(store)
    assert not plan(store, [APIBAN], {"apiban": KEY}).changed


@pytest.mark.parametrize("text", ["{", '{"format": 9, "feeds": []}'])
def test_damaged_feeds_are_written_anew(store: FeedStore, tmp_path: Path, text: str) -> None:
    apply(store, "voipbl")
    (tmp_path / "etc/feeds.json").write_text(text)
    change = plan(store, [VOIPBL], {})
    assert (change.settings, len(change.doubts)) == (True, 1)
    # Whose list it is, is known without the settings.
    assert plan(store, [], {}).gone == ["voipbl"]
    change.write(store)
    assert not plan(store, [VOIPBL], {}).changed


def test_plan_shows_what_changes_but_no_key(store: FeedStore) -> None:
    first = plan(store, [VOIPBL, APIBAN], {"apiban": KEY})
    assert (first.settings, first.edited, first.gone, first.before) == (True, ["voipbl", "apiban"], [], "")
    assert "  key: set\n" in first.after
    first.write(store)
    again = plan(store, [VOIPBL, APIBAN], {"apiban": KEY})
    assert (again.changed, again.before, again.after) == (False, "", "")
    store.write_states({"voipbl": STATE, "apiban": STATE, "gone": STATE})
    other = plan(store, [VOIPBL, APIBAN], {"apiban": "another"})
    assert (other.settings, other.edited) == (True, [])
    assert "  key: set\n" in other.before
    assert "  key: changed\n" in other.after
    assert not [words for words in (first.after, other.before, other.after) if KEY in words or "another" in words]
    # What failed with the other key says nothing about this one.
    assert other.states["voipbl"] == STATE
    assert (other.states["apiban"].failures, other.states["apiban"].succeeded) == (0, STATE.succeeded)
    assert "gone" not in other.states


def test_lists_of_others_stay(store: FeedStore) -> None:
    apply(store, "voipbl")
    store.lists.write(NamedList("mine", source="the inventory").with_words(["192.0.2.1"]))
    store.lists.write(NamedList("file", kind="feed", source="/srv/list.txt"))
    change = plan(store, [], {})
    assert (change.gone, sorted(change.lists)) == (["voipbl"], ["file", "mine"])
    with pytest.raises(OptionError, match="another name"):
        plan(store, [replace(VOIPBL, name="file")], {})


def test_list_takes_its_settings_at_once_and_keeps_its_entries(store: FeedStore) -> None:
    apply(store, "voipbl")
    store.lists.write(replace(blank(VOIPBL), digest="x", updated=5).with_words(["198.51.100.7"]))
    change = plan(store, [replace(VOIPBL, mode="observe", never=("192.0.2.0/255.255.255.0", "192.0.2.7"))], {})
    named = change.lists["voipbl"]
    assert change.edited == ["voipbl"]
    assert (named.mode, named.never, named.body) == ("observe", ("192.0.2.0/24", "192.0.2.7"), "198.51.100.7\n")
    assert named.updated == 5


def test_options_become_feeds() -> None:
    options: list[dict[str, Any]] = [
        {"name": "a", "kind": "voipbl", "url": None, "mode": "enforce"},
        {"name": "b", "kind": "blocklist_de"},
    ]
    found = read_options(options, {}, ["192.0.2.1"], {"mode": "observe", "proxy": "none"})
    assert [(feed.mode, feed.proxy, feed.never) for feed in found] == [
        ("enforce", "none", ("192.0.2.1",)),
        ("observe", "none", ("192.0.2.1",)),
    ]
