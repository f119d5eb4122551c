# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds that a host fetches by itself: set up, changed, taken away."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import sip
from tests.integration.harness.command import sipguard
from tests.integration.harness.feed_server import Apiban, FeedServer, Page
from tests.integration.harness.feeds import (
    FILES,
    HTML,
    KEY,
    LISTED,
    TWIN,
    UNITS,
    exists,
    feed,
    feeds,
    passes,
    refresh,
    status,
    text,
)
from tests.integration.harness.lab import NETWORKS, PBX, Lab
from tests.integration.harness.modules import run_module


@pytest.fixture
def server(nft_lab: Lab) -> Iterator[FeedServer]:
    """A server on the loopback interface of the PBX of ``nft_lab``."""
    with FeedServer({"/twin": Page(text(TWIN))}, host=nft_lab.pbx) as made:
        yield made


# -- the module


def test_four_runs_fetch_once_and_drop(lab: Lab) -> None:
    with FeedServer({"/sip": Page(text(*LISTED))}, host=lab.pbx) as server:
        assert all(passes(lab, address) for address in LISTED)
        checked = lab.module("sipguard_feeds", check=True, feeds=[feed("sip", server)])
        assert checked["changed"] is checked["differs"] is True
        assert not server.requests
        result = lab.four_runs("sipguard_feeds", feeds=[feed("sip", server)])
        assert len(server.requests) == 1
        assert result["feeds"]["sip"]["entries"] == result["lists"]["sip"]["entries"] == 5
        assert result["feeds"]["sip"]["outcome"] == "fetched"
        assert result["members"] == {"sipguard-blocked4": 4, "sipguard-blocked6": 1}
        assert not any(passes(lab, address) for address in LISTED)
        assert passes(lab, TWIN)
        assert all(exists(lab, path) for path in UNITS)
        again = lab.apply("sipguard_feeds", feeds=[feed("sip", server)], refresh="always")
        assert (again["changed"], again["feeds"]["sip"]["outcome"]) == (False, "unchanged")
        assert server.requests[-1].headers["if-none-match"]
        # Without feeds there is nothing of them left, and a second run has nothing to do.
        lab.four_runs("sipguard_feeds", state="absent")
        assert all(passes(lab, address) for address in LISTED)
        assert not any(exists(lab, path) for path in (*FILES, *UNITS, "/var/lib/sipguard/lists"))


def test_nothing_is_installed_for_no_feeds(nft_lab: Lab) -> None:
    before = nft_lab.snapshot()
    for state in ("present", "absent"):
        result = nft_lab.apply("sipguard_feeds", state=state)
        assert (result["changed"], result["differs"], result["feeds"]) == (False, False, {})
    assert nft_lab.snapshot() == before
    assert not any(exists(nft_lab, path) for path in ("/usr/local/sbin/sipguard", "/var/lib/sipguard", *UNITS))


def test_feed_goes_alone_and_other_lists_stay(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    server.serve("/bad", Page(text(*LISTED)))
    lab.apply("sip_blocklist", name="mine", sources=["198.18.202.1"])
    feeds(lab, feed("bad", server), feed("twin", server))
    result = feeds(lab, feed("twin", server))
    assert (result["changed"], sorted(result["lists"])) == (True, ["mine", "twin"])
    assert passes(lab, LISTED[0])
    assert not passes(lab, TWIN)
    assert not passes(lab, "198.18.202.1")
    result = lab.apply("sipguard_feeds", feeds=[])
    assert (result["changed"], list(result["lists"])) == (True, ["mine"])
    assert passes(lab, TWIN)
    assert not passes(lab, "198.18.202.1")
    assert "another name" in lab.refused("sipguard_feeds", feeds=[feed("mine", server)])


def test_mode_and_never_change_without_a_fetch(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    feeds(lab, feed("twin", server))
    asked = len(server.requests)
    result = feeds(lab, feed("twin", server, mode="observe"))
    assert (result["changed"], result["members"]) == (True, {"sipguard-watched4": 1, "sipguard-watched6": 0})
    assert passes(lab, TWIN)
    assert lab.member("sipguard-observed", TWIN)
    feeds(lab, feed("twin", server), never=[TWIN])
    assert passes(lab, TWIN)
    feeds(lab, feed("twin", server))
    assert not passes(lab, TWIN)
    assert len(server.requests) == asked


def test_first_fetch_that_fails_fails_after_everything_is_set_up(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    server.serve("/bad", Page("", status=502))
    result = lab.module("sipguard_feeds", feeds=[feed("bad", server), feed("twin", server)])
    assert result["failed"]
    assert "the feed bad " in result["msg"]
    assert "502" in result["msg"]
    assert result["changed"]
    assert not passes(lab, TWIN)
    assert all(exists(lab, path) for path in UNITS)
    # The timer waits for longer each time, whoever runs the module does not.
    asked = len(server.requests)
    assert "bad: not due" not in refresh(lab, "--due", status=0)
    assert len(server.requests) == asked
    server.serve("/bad", Page(text(*LISTED)))
    assert feeds(lab, feed("bad", server), feed("twin", server))["feeds"]["bad"]["outcome"] == "fetched"
    # Later it is a warning, and says what is in force.
    server.serve("/bad", Page("", status=502))
    result = feeds(lab, feed("bad", server), feed("twin", server), refresh="always")
    assert re.search("the feed bad has failed once since .* with 5 entries is in force", json.dumps(result["warnings"]))
    assert not passes(lab, LISTED[0])


def test_protected_sources_are_left_out_and_said(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    trunk = lab.trunk.address(4)
    lab.trust(NETWORKS["trunk"][4])
    server.serve("/bad", Page(text(PBX[4], trunk, "10.255.1.2", "10.0.6.66", "942.180.233.122", LISTED[0])))
    result = feeds(lab, feed("bad", server))
    assert {item["network"] for item in result["left_out"]} == {PBX[4], NETWORKS["trunk"][4]}
    assert (result["feeds"]["bad"]["accepted"]["junk"], result["feeds"]["bad"]["accepted"]["refused"]) == (1, 2)
    assert lab.reaches(lab.trunk, sip.request(), source=trunk)
    assert not passes(lab, LISTED[0])
    code, found = status(lab)
    assert code == 0
    assert len(found["left_out"]) == 2
    assert "942.180.233.122" in sipguard(lab, "feeds", "status").stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"feeds": [{"name": "../x", "kind": "voipbl"}]}, "letters, digits"),
        ({"feeds": [{"name": "x", "kind": "url"}]}, "url"),
        ({"feeds": [{"name": "x", "kind": "voipbl"}, {"name": "x", "kind": "blocklist_de"}]}, "twice"),
        ({"feeds": [{"name": "x", "kind": "apiban"}]}, "needs a key"),
        ({"feeds": [{"name": "x", "kind": "voipbl"}], "keys": {"y": KEY}}, "no feed of that name"),
        ({"feeds": [{"name": "x", "kind": "voipbl"}], "never": ["nobody.example"]}, "never"),
        ({"feeds": [{"name": "x", "kind": "voipbl"}], "lock_timeout": 0}, "lock_timeout"),
    ],
)
def test_bad_options_change_nothing(nft_lab: Lab, options: dict[str, Any], expected: str) -> None:
    message = nft_lab.refused("sipguard_feeds", **options)
    assert expected in message
    assert KEY not in message


# -- taking it away


def test_host_that_forgets_sipguard_forgets_its_feeds(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    server.site().apiban = Apiban(KEY, addresses=[LISTED[0]])
    wanted = {"name": "ban", "kind": "apiban", "url": server.url("/api/"), "allow_http": True}
    feeds(lab, wanted, feed("twin", server), keys={"ban": KEY})
    assert all(exists(lab, path) for path in (*FILES, *UNITS))
    for check in (True, False):
        result = run_module(lab.pbx, "sipguard_host", {"state": "absent"}, check=check)
        assert {*FILES[:2], *UNITS} <= set(result["diff"]["before"].splitlines())
    assert not any(
        exists(lab, path) for path in (*FILES, *UNITS, "/etc/systemd/system/timers.target.wants/sipguard-feeds.timer")
    )
    # the lab's containers, if there are some, are other hosts
    other = ("-path", "/var/lib/containers", "-prune", "-o")
    assert "sipguard" not in lab.pbx.run("find", "/usr/local", "/var/lib", *other, "-name", "sipguard*", "-print")


# -- once, for many hosts


def test_sip_feed_fetches_for_others(nft_lab: Lab, server: FeedServer, tmp_path: Path) -> None:
    lab = nft_lab
    server.serve("/bad", Page(text(*LISTED, "junk")))
    options = {"feed": feed("bad", server), "directory": str(tmp_path / "feeds")}
    runs = [run_module(lab.pbx, "sip_feed", options, check=check) for check in (True, False, True, False)]
    assert [run["changed"] for run in runs] == [True, True, False, False]
    assert [run["entries"] for run in runs] == [0, 5, 5, 5]
    path = Path(runs[1]["path"])
    assert path.read_text() == text(*LISTED, "# end of bad: 5 entries")
    assert len(server.requests) == 2
    assert server.requests[-1].headers["if-none-match"]
    lab.apply("sip_blocklist", name="bad", feed=str(path))
    assert not passes(lab, LISTED[4])
    server.serve("/bad", Page(HTML))
    failing = run_module(lab.pbx, "sip_feed", options)
    assert (failing["changed"], failing["digest"]) == (False, runs[1]["digest"])
    assert "web page" in json.dumps(failing["warnings"])
    assert run_module(lab.pbx, "sip_feed", {**options, "directory": str(tmp_path / "new")})["failed"]
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
