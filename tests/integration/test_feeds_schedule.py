# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When feeds are fetched, what of them, and packets all the while."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.harness import sip
from tests.integration.harness.feed_server import FeedServer, Page, Site
from tests.integration.harness.feeds import (
    LISTED,
    TWIN,
    age,
    feed,
    feeds,
    passes,
    refresh,
    status,
    text,
)
from tests.integration.harness.lab import Lab
from tests.integration.harness.modules import environment


@pytest.fixture
def server(nft_lab: Lab) -> Iterator[FeedServer]:
    """A server on the loopback interface of the PBX of ``nft_lab``."""
    with FeedServer({"/twin": Page(text(TWIN))}, host=nft_lab.pbx) as made:
        yield made


@pytest.fixture(scope="module")
def fed() -> Iterator[tuple[Lab, FeedServer]]:
    """A PBX with the feeds ``bad``, with the listed addresses, and ``twin``; for tests that leave it so."""
    lab = Lab("nft")
    with FeedServer({"/bad": Page(text(*LISTED)), "/twin": Page(text(TWIN))}, host=lab.pbx) as made:
        feeds(lab, feed("bad", made), feed("twin", made))
        yield lab, made
    lab.close()


# -- when


def test_due_unchanged_and_backing_off(nft_lab: Lab, server: FeedServer) -> None:
    lab = nft_lab
    feeds(lab, feed("twin", server, every=3600))
    written = lab.pbx.run("stat", "-c", "%Y %i", "/var/lib/sipguard/lists/twin")
    assert refresh(lab, "--due") == ""
    assert len(server.requests) == 1
    age(lab, 3600 + 360)
    assert "twin: unchanged" in refresh(lab, "--due")
    assert lab.pbx.run("stat", "-c", "%Y %i", "/var/lib/sipguard/lists/twin") == written
    server.serve("/twin", Page("", status=500))
    age(lab, 3600 + 360)
    for wait in (300, 600, 1200, 2400, 3600, 3600):
        asked = len(server.requests)
        refresh(lab, "--due", status=1)
        assert len(server.requests) == asked + 1
        age(lab, wait - 30)
        assert refresh(lab, "--due") == ""
        assert len(server.requests) == asked + 1
        age(lab, 31)
    code, found = status(lab)
    assert (code, found["lists"]["twin"]["failures"]) == (1, 6)
    assert not passes(lab, TWIN)
    server.serve("/twin", Page(text(TWIN)))
    refresh(lab, "--due")
    assert status(lab)[0] == 0
    # A timer that nobody has started is seen too.
    age(lab, 4 * 3600)
    code, found = status(lab)
    assert (code, found["lists"]["twin"]["failures"]) == (1, 0)
    assert "has not been refreshed for 4 h" in found["lists"]["twin"]["problem"]


@pytest.mark.parametrize("damage", ["cut", "gone", "other url"])
def test_copy_that_is_not_there_is_fetched_whole(nft_lab: Lab, server: FeedServer, damage: str) -> None:
    lab = nft_lab
    wanted = feed("twin", server)
    feeds(lab, wanted)
    path = "/var/lib/sipguard/lists/twin"
    if damage == "cut":
        lab.pbx.run("truncate", "-s", "-3", path)
        assert status(lab)[0] == 1
    elif damage == "gone":
        lab.pbx.run("rm", path)
    else:
        server.serve("/elsewhere", Page(text(*LISTED)))
        feeds(lab, feed("twin", server, "/elsewhere"), refresh="never")
        assert not passes(lab, TWIN)
    refresh(lab, "--due")
    assert "if-none-match" not in server.requests[-1].headers
    assert status(lab)[0] == 0
    assert passes(lab, TWIN) is (damage == "other url")
    assert passes(lab, LISTED[0]) is (damage != "other url")


def test_set_that_somebody_flushed_is_filled_again(fed: tuple[Lab, FeedServer]) -> None:
    lab = fed[0]
    lab.pbx.run("ipset", "flush", "sipguard-blocked4")
    assert status(lab)[0] == 1
    assert passes(lab, LISTED[0])
    refresh(lab, "--due")
    assert not passes(lab, LISTED[0])
    assert status(lab)[0] == 0


# As often as it is told, without starting Python each time.
_AGAIN = """
import sys
sys.path.append("/usr/local/lib")
from sipguard._host.cli import main
sys.exit(max(main(["feeds", "refresh"]) for dummy in range(int(sys.argv[1]))))
"""


def test_no_packet_meets_half_a_list(nft_lab: Lab) -> None:
    lab = nft_lab
    numbers = itertools.count()

    def site() -> Site:
        # Each answer leaves another tenth of a thousand networks out; the listed ones are in all of them.
        turn = next(numbers)
        others = [f"198.19.{n // 250}.{n % 250}" for n in range(1000) if n % 10 != turn % 10]
        return Site({"/sip": Page(text(*LISTED[:4], *others))})

    with FeedServer(source=site, host=lab.pbx) as server:
        feeds(lab, feed("sip", server))
        blocked = lab.attacker.udp(4, source=LISTED[0])
        allowed = lab.attacker.udp(4, source=TWIN)
        stopped: list[sip.Request] = []
        argv = lab.pbx.argv("/usr/bin/python3", "-I", "-c", _AGAIN, "50")
        with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                first, second = sip.request(), sip.request()
                blocked.send(first.wire)
                allowed.send(second.wire)
                assert lab.sink.wait(second.token), f"lost after {len(stopped)} requests"
                stopped.append(first)
            said = process.communicate()[0]
    assert (process.returncode, said.count("sip: fetched"), said.count("sipguard-blocked4: ")) == (0, 50, 50)
    lab.barrier()
    assert len(stopped) > 500
    assert not [message for message in stopped if lab.sink.has(message.token)]
