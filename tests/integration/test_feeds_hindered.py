# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A refresh that is killed, overtaken, or has no disk or network: the last good copy goes on dropping."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.harness.command import sipguard
from tests.integration.harness.feed_server import FeedServer, Page
from tests.integration.harness.feeds import (
    LISTED,
    TWIN,
    age,
    exists,
    feed,
    feeds,
    hanging,
    passes,
    read,
    refresh,
    status,
    text,
)
from tests.integration.harness.lab import Lab


@pytest.fixture
def server(nft_lab: Lab) -> Iterator[FeedServer]:
    """A server on the loopback interface of the PBX of ``nft_lab``."""
    with FeedServer({"/twin": Page(text(TWIN))}, host=nft_lab.pbx) as made:
        yield made


def test_refresh_that_was_killed(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    server.serve("/bad", Page(text(*LISTED)))
    feeds(lab, feed("bad", server), feed("twin", server))
    server.serve("/bad", Page(text(*LISTED[:4]), behaviour="silent"))
    with hanging(lab, server):
        # Another one beside it has nothing to do, and changes nothing.
        assert "another refresh is at work" in refresh(lab, "--due")
        assert status(lab)[1]["lists"]["bad"]["problem"].startswith("is being refreshed")
    assert not any(passes(lab, address) for address in (LISTED[0], LISTED[4], TWIN))
    assert "or that refresh was cut short" in sipguard(lab, "feeds", "status").stdout
    server.serve("/bad", Page(text(*LISTED[:4])))
    assert refresh(lab, "--due") == ""  # what killed it may kill it again
    age(lab, 301)
    assert "did not come to its end" in refresh(lab, "--due")
    assert passes(lab, LISTED[4])
    assert not passes(lab, LISTED[0])
    assert "cut short" not in sipguard(lab, "feeds", "status").stdout


def test_feed_that_goes_while_it_is_fetched_does_not_come_back(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    server.serve("/bad", Page(text(*LISTED) * 2))
    feeds(lab, feed("bad", server, timeout=60), feed("twin", server))
    server.serve("/bad", Page(text(*LISTED[:4]), behaviour="drip"))
    with hanging(lab, server) as process:
        feeds(lab, feed("twin", server), refresh="never")
        out = process.communicate()[0]
    assert "were changed while it was fetched" in out
    assert process.returncode == 1
    assert not exists(lab, "/var/lib/sipguard/lists/bad")
    assert passes(lab, LISTED[0])
    assert not passes(lab, TWIN)


def test_disk_that_is_full(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    lab.pbx.run("mkdir", "-p", "/var/lib/sipguard")
    lab.pbx.run("mount", "-t", "tmpfs", "-o", "size=64k", "sipguard-test", "/var/lib/sipguard")
    server.serve("/bad", Page(text(*LISTED)))
    feeds(lab, feed("bad", server), feed("twin", server))
    before = read(lab, "/var/lib/sipguard/lists/bad")
    server.serve(
        "/bad", Page(text(*LISTED, *(f"198.18.{100 + number // 250}.{number % 250}" for number in range(9000))))
    )
    said = refresh(lab, "--accept-change", status=1)
    assert "bad: failed: cannot write /var/lib/sipguard/lists/bad" in said
    assert "No space left" in said
    assert "twin: unchanged" in said
    assert read(lab, "/var/lib/sipguard/lists/bad") == before
    assert status(lab)[0] == 1
    assert not any(passes(lab, address) for address in (*LISTED, TWIN))
    assert passes(lab, "198.18.100.9")
    # Not even the state can be written.
    lab.pbx.succeeds("dd", "if=/dev/zero", "of=/var/lib/sipguard/filler", "bs=1k")
    server.serve("/bad", Page(text(*LISTED[:4])))
    assert "No space left" in refresh(lab, status=1)
    assert not passes(lab, LISTED[4])
    lab.pbx.run("rm", "/var/lib/sipguard/filler")
    refresh(lab)
    assert passes(lab, LISTED[4])
    assert not passes(lab, LISTED[0])
    assert status(lab)[0] == 0


def test_host_without_a_network_keeps_its_lists(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    feeds(lab, feed("twin", server, timeout=1))
    lab.pbx.run("ipset", "flush", "sipguard-blocked4")
    lab.pbx.ip(["link set lo down"])
    said = refresh(lab, status=1)
    assert "twin: failed" in said
    assert lab.member("sipguard-blocked", TWIN)
