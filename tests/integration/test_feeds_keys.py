# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds that come piece by piece: keys that nobody sees, servers that want to be left alone, entries that age."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness.command import sipguard
from tests.integration.harness.feed_server import Apiban, FeedServer, Page
from tests.integration.harness.feeds import (
    FILES,
    KEY,
    LISTED,
    TWIN,
    UNITS,
    age,
    feed,
    feeds,
    hanging,
    passes,
    read,
    refresh,
    text,
)
from tests.integration.harness.lab import Lab


@pytest.fixture
def server(nft_lab: Lab) -> Iterator[FeedServer]:
    """A server on the loopback interface of the PBX of ``nft_lab``."""
    with FeedServer({"/twin": Page(text(TWIN))}, host=nft_lab.pbx) as made:
        yield made


@pytest.mark.parametrize("api", [1, 2])
def test_apiban_key_is_nowhere_to_be_seen(nft_lab: Lab, server: FeedServer, api: int) -> None:
    lab = nft_lab
    site = server.site()
    site.apiban = Apiban(KEY, addresses=[LISTED[0]])
    wanted = {"name": "ban", "kind": "apiban", "api": api, "url": server.url("/api/"), "allow_http": True}
    shown = []
    for check in (True, False):
        result = lab.module("sipguard_feeds", check=check, feeds=[wanted], keys={"ban": KEY})
        assert not result.get("failed"), result
        shown.append(json.dumps({name: value for name, value in result.items() if name != "invocation"}))
        assert "  key: set\n" in result["diff"]["after"]
    assert not passes(lab, LISTED[0])
    # What is new comes on top.
    site.apiban.addresses.append(LISTED[1])
    shown.append(refresh(lab))
    assert not any(passes(lab, address) for address in LISTED[:2])
    # A wrong key, and one that is right again.
    site.apiban.key = "another"
    shown.append(refresh(lab, status=1))
    assert "its key is not accepted" in shown[-1]
    wrong = lab.apply("sipguard_feeds", feeds=[wanted], keys={"ban": "another"})
    assert "  key: changed\n" in wrong["diff"]["after"]
    assert wrong["feeds"]["ban"]["error"] == ""
    site.apiban.key = KEY
    changed = lab.apply("sipguard_feeds", feeds=[wanted], keys={"ban": KEY}, refresh="always")
    shown.append(json.dumps({name: value for name, value in changed.items() if name != "invocation"}))
    # Too many requests: it waits, and does not even ask.
    site.apiban.allowed, site.apiban.retry_after = 0, "77"
    shown.append(refresh(lab))
    assert "ban: waits" in shown[-1]
    asked = len(server.requests)
    assert "wants to be left alone" in refresh(lab)
    assert len(server.requests) == asked
    shown += [sipguard(lab, "feeds", "status", *words).stdout for words in ((), ("--json",))]
    shown += [read(lab, path) for path in (FILES[0], FILES[2], *UNITS, "/var/lib/sipguard/lists/ban")]
    assert not [words for words in shown if KEY in words]
    assert KEY in read(lab, FILES[1])
    assert lab.pbx.run("stat", "-c", "%a", *FILES).split() == ["600"] * 3


def test_key_is_in_no_process_list(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    server.site().apiban = Apiban(KEY, addresses=[LISTED[0]])
    wanted = {"name": "ban", "kind": "apiban", "api": 1, "url": server.url("/api/"), "allow_http": True}
    feeds(lab, wanted, keys={"ban": KEY})
    server.serve(f"/api/{KEY}/banned/101", Page("", behaviour="silent"))
    with hanging(lab, server) as process:
        seen = (
            b"".join(Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ", "comm"))
            + lab.pbx.run("ps", "-eo", "args").encode()
        )
        assert b"feeds" in seen
        assert KEY.encode() not in seen


def test_entries_age_out_even_when_fetching_fails(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    server.site().apiban = Apiban(KEY, addresses=LISTED[:2])
    wanted = {"name": "ban", "kind": "apiban", "url": server.url("/api/"), "allow_http": True, "keep_for": 7200}
    feeds(lab, wanted, feed("twin", server), keys={"ban": KEY})
    age(lab, 4000)
    # Reported again, so it stays for longer.
    server.site().apiban.addresses.append(LISTED[1])  # type: ignore[union-attr]
    refresh(lab)
    assert not any(passes(lab, address) for address in LISTED[:2])
    server.site().apiban.answer = "no json"  # type: ignore[union-attr]
    age(lab, 4000)
    refresh(lab, status=1)
    assert passes(lab, LISTED[0])
    assert not passes(lab, LISTED[1])
    age(lab, 4000)
    refresh(lab, "--due", "twin")  # only the other one is asked, and this one not even due
    assert passes(lab, LISTED[1])
    assert not passes(lab, TWIN)


def test_entries_stay_for_a_time_after_a_list_has_dropped_them(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    server.serve("/bad", Page(text(*LISTED[:3])))
    feeds(lab, feed("bad", server, keep_for=3600))
    server.serve("/bad", Page(text(*LISTED[:2])))
    refresh(lab)
    assert not passes(lab, LISTED[2])
    age(lab, 3700)
    refresh(lab)
    assert passes(lab, LISTED[2])
    assert not passes(lab, LISTED[1])
