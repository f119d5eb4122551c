# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a server does: the last good copy goes on dropping, and nobody else is dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness.command import sipguard
from tests.integration.harness.feed_server import Authority, FeedServer, Page
from tests.integration.harness.feeds import HTML, LISTED, TWIN, feed, feeds, passes, read, refresh, status, text
from tests.integration.harness.lab import Lab


@pytest.fixture(scope="module")
def fed() -> Iterator[tuple[Lab, FeedServer]]:
    """A PBX with the feeds ``bad``, with the listed addresses, and ``twin``; for tests that leave it so."""
    lab = Lab("nft")
    with FeedServer({"/bad": Page(text(*LISTED)), "/twin": Page(text(TWIN))}, host=lab.pbx) as made:
        feeds(lab, feed("bad", made, timeout=1), feed("twin", made, max_change=1000))
        yield lab, made
    lab.close()


FAILURES: dict[str, tuple[Page, str]] = {
    "not found": (Page(HTML, status=404), "404"),
    "bad gateway": (Page(HTML, status=502), "502"),
    "unavailable": (Page("", status=503), "503"),
    "reset": (Page(text(*LISTED), behaviour="reset", validators=False), "broken off"),
    "cut": (Page(text(*LISTED), behaviour="cut", validators=False), "cut short"),
    "silent": (Page(text(*LISTED), behaviour="silent", validators=False), "too long"),
    "slow": (Page(text(*LISTED) * 9, behaviour="drip", validators=False), "too long"),
    "no web server": (Page("", behaviour="no http"), "not that of a web server"),
    "redirected": (Page("", status=302, headers={"Location": "file:///etc/passwd"}), "redirects"),
    "web page": (Page(HTML), "web page"),
    "nothing": (Page(""), "empty"),
    "comments only": (Page("# TOTAL: 0\n; nobody\n"), "is empty"),
    "junk": (Page(text(LISTED[0], "a", "b", "942.180.233.122")), "mostly junk"),
    "private only": (Page(text("10.0.0.1", "192.168.1.0/24")), "nothing that may be blocked"),
    "shrinks": (Page(text(*LISTED[:2])), "shrinks from 5 to 2"),
    "grows": (Page(text(*LISTED, *(f"198.18.203.{number}" for number in range(9)))), "grows from 5 to 14"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_keeps_the_old_copy(fed: tuple[Lab, FeedServer], name: str) -> None:
    lab, server = fed
    page, reason = FAILURES[name]
    before = read(lab, "/var/lib/sipguard/lists/bad")
    newcomer = "198.18.204.1"
    server.serve("/bad", page)
    server.serve("/twin", Page(text(TWIN, newcomer)))
    said = refresh(lab, status=1)
    assert re.search(rf"sipguard: bad: failed: .*{reason}", said), said
    assert read(lab, "/var/lib/sipguard/lists/bad") == before
    assert not any(passes(lab, address) for address in (LISTED[0], LISTED[4], TWIN, newcomer))
    assert passes(lab, "198.18.204.2")
    code, found = status(lab)
    assert code == 1
    assert reason in found["lists"]["bad"]["problem"]
    assert not found["lists"]["twin"]["problem"]
    server.serve("/bad", Page(text(*LISTED)))
    server.serve("/twin", Page(text(TWIN)))
    refresh(lab)
    assert status(lab)[0] == 0
    assert passes(lab, newcomer)


def test_change_of_size_is_accepted_once_when_asked(fed: tuple[Lab, FeedServer]) -> None:
    lab, server = fed
    server.serve("/bad", Page(text(LISTED[0])))
    assert "5 before" in refresh(lab, "bad", "--accept-change")
    assert passes(lab, LISTED[1])
    assert not passes(lab, LISTED[0])
    server.serve("/bad", Page(text(*LISTED)))
    refresh(lab, "bad", status=1)
    assert sipguard(lab, "feeds", "status").returncode == 1
    refresh(lab, "bad", "--accept-change")
    assert not passes(lab, LISTED[1])
    assert sipguard(lab, "feeds", "status").returncode == 0


def test_too_much_of_the_internet_is_refused_even_when_asked(fed: tuple[Lab, FeedServer]) -> None:
    lab, server = fed
    server.serve("/bad", Page(text(*LISTED, *(f"{number}.0.0.0/9" for number in range(30, 100)))))
    assert "more than one 8th" in refresh(lab, "bad", "--accept-change", status=1)
    assert not passes(lab, LISTED[0])
    assert passes(lab, "198.18.204.2")
    server.serve("/bad", Page(text(*LISTED)))
    refresh(lab)


def test_certificate_that_has_expired_keeps_the_old_copy(nft_lab: Lab, tmp_path: Path) -> None:
    lab = nft_lab
    authority = Authority(tmp_path)
    page = {"/sip": Page(text(*LISTED))}
    with FeedServer(page, host=lab.pbx, context=authority.context("127.0.0.1")) as server:
        wanted = {"name": "sip", "kind": "url", "url": server.url("/sip"), "ca_file": str(authority.file)}
        assert feeds(lab, wanted)["feeds"]["sip"]["outcome"] == "fetched"
        port = server.port
    with FeedServer(page, host=lab.pbx, port=port, context=authority.context("127.0.0.1", days=-1)):
        assert "certificate" in refresh(lab, status=1)
    assert not passes(lab, LISTED[0])
    # Nobody there at all.
    assert "does not accept connections" in refresh(lab, status=1)
    assert status(lab)[1]["lists"]["sip"]["failures"] == 2
    assert not passes(lab, LISTED[0])
    assert passes(lab, TWIN)


def test_unknown_name_is_refused(fed: tuple[Lab, FeedServer]) -> None:
    assert "no feed 'nobody'; it has: bad, twin" in refresh(fed[0], "nobody", status=2)
