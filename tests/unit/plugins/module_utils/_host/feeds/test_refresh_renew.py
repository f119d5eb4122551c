# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a server says to a list: pieces that come on top, whole lists, and what neither is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.feed import Feed, read_feed
from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.protocols import Memory
from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.renew import Copy, blank, renew, usable
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.integration.harness.feed_server import Apiban, FeedServer, Page

KEY = "k3y"
NOW = 1_800_000_000
WEEK = 604800


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer({}, Apiban(KEY)) as made:
        yield made


def addresses(count: int, begin: int = 0) -> list[str]:
    return [f"203.0.{number // 250}.{number % 250}" for number in range(begin, begin + count)]


def apiban(server: FeedServer, **options: Any) -> Feed:
    return read_feed({"name": "ban", "kind": "apiban", "url": server.url("/api/"), "allow_http": True, **options})


def plain(server: FeedServer, *words: str, **options: Any) -> Feed:
    server.serve("/list", Page("".join(f"{word}\n" for word in words)))
    return read_feed({"name": "list", "kind": "url", "url": server.url("/list"), "allow_http": True, **options})


def again(feed: Feed, last: Copy | None = None, *, now: int = NOW, accept_change: bool = False) -> Copy:
    """What comes after ``last``; without one, for the first time."""
    last = last or Copy(blank(feed), Memory(), False)
    return renew(feed, KEY, last.named, last.memory, whole=last.whole, now=now, accept_change=accept_change)


def expiries(copy: Copy) -> dict[str, int]:
    return {entry.word: entry.expires - NOW for entry in copy.named.entries()}


def test_pieces_come_on_top_and_age(server: FeedServer) -> None:
    feed, site = apiban(server), server.site()
    assert site.apiban
    site.apiban.addresses = addresses(2)
    first = again(feed)
    assert expiries(first) == {"203.0.0.0": WEEK, "203.0.0.1": WEEK}
    assert again(feed, first, now=NOW + 9).named is first.named
    site.apiban.addresses += ["203.0.0.1", "203.0.0.2", "10.0.0.1"]
    second = again(feed, first, now=NOW + 100)
    assert expiries(second) == {"203.0.0.0": WEEK, "203.0.0.1": WEEK + 100, "203.0.0.2": WEEK + 100}
    assert second.named.report["refused"] == 1
    third = again(feed, second, now=NOW + WEEK)
    assert list(expiries(third)) == ["203.0.0.1", "203.0.0.2"]
    # Nothing that may be blocked is no failure, when there are but a few.
    site.apiban.addresses += ["10.0.0.1"]
    assert again(feed, third, now=NOW + WEEK).named.count == 2


def test_all_pieces_are_fetched_again_after_a_clock_that_was_far_ahead(server: FeedServer) -> None:
    feed, site = apiban(server), server.site()
    assert site.apiban
    site.apiban.addresses = addresses(2)
    first = again(feed)
    assert again(feed, first, now=NOW + 9).memory.cursor == first.memory.cursor
    # The refresh itself was ahead, or the one before it, which has left an empty list behind.
    empty = replace(first, named=first.named.unexpired(NOW + 9 * WEEK))
    assert empty.named.count == 0
    for last, now in ((first, NOW + 9 * WEEK), (empty, NOW)):
        assert again(feed, last, now=now).named.count == 2


def test_more_lines_than_any_list_has_are_not_taken_apart(server: FeedServer) -> None:
    feed = plain(server, "198.18.0.1", *[""] * 2_000_001, "198.18.0.2")
    with pytest.raises(SipguardError, match="has more than 2000000 lines"):
        again(feed)


def test_pieces_grow_by_anything_until_all_have_come_and_not_after(server: FeedServer) -> None:
    feed, site = apiban(server), server.site()
    assert site.apiban
    site.apiban.addresses, site.apiban.allowed = addresses(900), 1
    first = again(feed)
    assert (first.named.count, first.whole) == (250, False)
    site.apiban.allowed = None
    second = again(feed, first)
    assert (second.named.count, second.whole) == (900, True)
    site.apiban.addresses += addresses(451, 900)
    with pytest.raises(SipguardError, match="grows from 900 to 1351"):
        again(feed, second)
    assert again(feed, second, accept_change=True).named.count == 1351
    del site.apiban.addresses[1350:]
    assert again(feed, second).named.count == 1350


def test_nothing_at_all_is_a_good_answer_of_apiban(server: FeedServer) -> None:
    feed = apiban(server)
    first = again(feed)
    assert (first.named.count, usable(feed, first.named), first.named.updated) == (0, True, NOW)
    assert again(feed, first, now=NOW + 9).named is first.named


def test_same_list_is_the_old_one_even_when_the_server_does_not_say_so(server: FeedServer) -> None:
    feed = plain(server, *addresses(3))
    first = again(feed)
    server.serve("/list", Page("# another day\n" + "".join(f"{word}\n" for word in addresses(3)), validators=False))
    assert again(feed, first, now=NOW + 9).named is first.named
    changed = again(replace(feed, mode="observe"), first, now=NOW + 9)
    assert (changed.named.mode, changed.named.body) == ("observe", first.named.body)


@pytest.mark.parametrize("options", [{"min_prefix": 24}, {"min_prefix_ipv6": 48}, {"allow_private": True}])
def test_list_of_other_criteria_is_fetched_whole(server: FeedServer, options: dict[str, Any]) -> None:
    first = again(plain(server, *addresses(9), "10.0.0.1", "203.0.113.0/24"))
    other = plain(server, "203.0.113.0/24", "10.0.0.1", **options)
    assert not usable(other, first.named)
    found = again(other, first)
    assert "if-none-match" not in server.requests[-1].headers
    assert found.named.count == 1 + bool(options.get("allow_private"))
    # Nothing to compare its size with, either; the next one has.
    with pytest.raises(SipguardError, match="grows"):
        again(plain(server, *addresses(20), **options), found)


def test_entries_that_a_list_no_longer_names_stay_for_a_time(server: FeedServer) -> None:
    feed = plain(server, *addresses(4), keep_for=3600)
    first = again(feed)
    assert set(expiries(first).values()) == {-NOW}
    plain(server, *addresses(3))
    second = again(feed, first, now=NOW + 10)
    assert expiries(second)["203.0.0.3"] == 3610
    assert again(feed, second, now=NOW + 3609).named is second.named
    third = again(feed, second, now=NOW + 3611)
    assert list(expiries(third)) == addresses(3)
    # Those that only stay are none to compare with.
    plain(server, *addresses(1))
    with pytest.raises(SipguardError, match="shrinks from 3 to 1"):
        again(feed, second)


def test_too_much_of_the_internet_is_refused_even_when_asked(server: FeedServer) -> None:
    feed = plain(server, *(f"{number}.0.0.0/9" for number in range(30, 99)))
    with pytest.raises(SipguardError, match="more than one 8th"):
        again(feed, accept_change=True)
