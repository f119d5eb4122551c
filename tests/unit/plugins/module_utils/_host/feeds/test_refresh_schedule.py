# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a feed is asked again, and the units that ask."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds import units
from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.feed import Feed, read_feed
from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.schedule import (
    asked_for,
    next_attempt,
    stretched,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.settings import State
from ansible_collections.sipguard.pbx.plugins.module_utils._host.install import Installation
from tests.integration.harness.modules import collection_path
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

SECRET = "https://lists.example.org/sip.txt?token=s3cret"
FEED = read_feed({"name": "sip", "kind": "url", "url": SECRET, "every": 3600})
NOW = 1_800_000_000
GOOD = State(first=1, began=NOW - 60, ended=NOW - 50, succeeded=NOW - 50)
FAILED = replace(GOOD, ended=NOW, failures=1, failing=NOW)


def test_fleet_does_not_ask_in_the_same_minute() -> None:
    feed = replace(FEED, every=21600)
    delays = [stretched(feed, f"{machine:032x}") for machine in range(720)]
    assert min(delays) >= 21600
    assert max(delays) < 21600 * 1.1
    # A tenth of six hours has 36 minutes, of which each would get 20.
    assert max(Counter(int(delay // 60) for delay in delays).values()) < 45
    assert len(Counter(int(delay // 60) for delay in delays)) == 36


def test_host_asks_at_its_own_time_always() -> None:
    assert stretched(FEED, "a") == stretched(FEED, "a") != stretched(FEED, "b")
    assert stretched(FEED, "a") != stretched(replace(FEED, name="other"), "a")
    assert stretched(FEED) == stretched(FEED)


# state, whether there is a copy, whether patient; when the next attempt is, relative to now
ATTEMPTS: dict[str, tuple[State, bool, bool, float]] = {
    "never": (State(), False, True, -NOW),
    "good": (GOOD, True, True, stretched(FEED) - 50),
    "copy lost": (GOOD, False, True, -NOW),
    "clock was ahead": (replace(GOOD, succeeded=NOW + 9999), True, True, -NOW),
    "failed once": (FAILED, True, True, 300),
    "failed once, impatient": (FAILED, True, False, 300),
    "failed three times": (replace(FAILED, failures=3), True, True, 1200),
    "failed for ever": (replace(FAILED, failures=10**6), True, True, 3600),
    "never, and failed": (replace(FAILED, succeeded=0), False, True, 300),
    "never, and failed, impatient": (replace(FAILED, succeeded=0), False, False, -NOW),
    "cut short": (replace(GOOD, ended=0), True, True, 240),
    "told to wait": (replace(GOOD, not_before=NOW + 80000), True, True, 80000),
    "told to wait, and never": (State(not_before=NOW + 90), False, False, 90),
    "told to wait by a clock that was ahead": (State(not_before=NOW + 90000), False, False, -NOW),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_next_attempt(name: str) -> None:
    state, usable, patient, expected = ATTEMPTS[name]
    assert next_attempt(FEED, state, NOW, usable=usable, patient=patient) - NOW == pytest.approx(expected)
    assert bool(asked_for(state, NOW)) is (name in ("told to wait", "told to wait, and never"))


@pytest.mark.parametrize(("every", "least", "most"), [((60,), 60, 66), ((600, 86400), 600, 660), ((86400,), 900, 900)])
def test_timer_comes_as_often_as_the_most_urgent_feed(every: tuple[int, ...], least: int, most: int) -> None:
    assert least <= units.interval(replace(FEED, every=seconds) for seconds in every) <= most


def texts(*feeds: Feed) -> dict[str, str]:
    return units.texts(feeds)


def test_units_hold_no_secret_and_every_time_limit() -> None:
    assert texts() == {}
    found = texts(FEED, replace(FEED, name="other", timeout=400))
    assert sorted(found) == [units.SERVICE, units.TIMER]
    assert not [text for text in found.values() if "s3cret" in text or "example.org" in text]
    assert "\nExecStart=/usr/local/sbin/sipguard feeds refresh --due\n" in found[units.SERVICE]
    limit = re.search(r"^TimeoutStartSec=(\d+)$", found[units.SERVICE], re.M)
    assert limit
    assert int(limit[1]) > 520


def test_units_come_change_and_go(tmp_path: Path) -> None:
    installation = Installation(FakeHost(), str(tmp_path))
    link = tmp_path / units.WANTED.lstrip("/")

    def listing() -> list[str]:
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir())

    before: list[str] = []
    for wanted in (texts(FEED), texts(replace(FEED, every=60)), {}):
        would = installation.install_feeds(wanted, check=True)
        assert listing() == before
        assert installation.install_feeds(wanted, check=False) == would
        assert would.changed
        assert not installation.install_feeds(wanted, check=False).changed
        before = listing()
        assert before == sorted(path.lstrip("/") for path in (*wanted, *([units.WANTED] if wanted else [])))
    installation.install_feeds(texts(FEED), check=False)
    assert str(link.readlink()) == units.TIMER
    report = installation.remove(check=False)
    assert {units.SERVICE, units.TIMER, units.WANTED} <= set(report.before.splitlines())
    assert listing() == []


def test_command_loads_nothing_for_the_network_before_it_fetches() -> None:
    code = (
        "import sys, ansible_collections.sipguard.pbx.plugins.module_utils._host.cli\n"
        "print(*{'ssl', 'http.client', 'urllib.request'} & set(sys.modules))"
    )
    argv = [sys.executable, "-S", "-c", code]
    done = subprocess.run(argv, env={"PYTHONPATH": str(collection_path())}, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
