# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wherever a run that changes a list was killed: nobody is blocked who is on none, and the next run makes it right."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import sip
from tests.integration.harness.command import install, sipguard
from tests.integration.harness.killing import killed
from tests.integration.harness.lab import Lab

MODULE = "sip_blocklist"
ONE, OTHER = {4: "198.18.200.0/24", 6: "2001:db8:bad::f000/116"}, {4: "198.18.210.0/24", 6: "2001:db8:bad::d000/116"}
BOTH = list(ONE.values())


def of(listed: dict[int, str], family: int) -> str:
    """A source on a list."""
    return listed[family].replace("0/24", "7").replace("000/116", "007")


def heard(lab: Lab, source: str) -> bool:
    return lab.reaches(lab.attacker, sip.request(), "udp", 6 if ":" in source else 4, source=source)


def sets_without_chance(lab: Lab) -> str:
    """The sets without the random start of their hash, and its size, which depends on how they were filled."""
    return re.sub(r" (initval|hashsize) \S+", "", lab.sets())


def end(lab: Lab) -> tuple[Any, ...]:
    return sets_without_chance(lab), lab.save(4), lab.save(6), sorted(lab.files())


# From which state to which, whether a source of both is blocked all the time, and how many deeds lie between two moments.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], bool, int]] = {
    "entries": ({"sources": BOTH}, {"sources": [of(ONE, 4), of(ONE, 6), "203.0.113.9"]}, True, 1),
    "coming": ({"state": "absent"}, {"sources": BOTH}, False, 1),
    "going": ({"sources": BOTH}, {"state": "absent"}, False, 1),
    "mode": ({"sources": BOTH}, {"sources": BOTH, "mode": "observe"}, False, 3),
}


@pytest.mark.parametrize("name", CHANGES)
def test_killed_at_any_moment_and_made_right_by_the_next_run(nft_lab: Lab, tmp_path: Path, name: str) -> None:
    """From one state of a list to another, killed before a deed; the other list blocks all the time."""
    lab = nft_lab
    first, second, blocks_always, step = CHANGES[name]
    lab.apply(MODULE, name="other", sources=list(OTHER.values()))
    lab.apply(MODULE, name="one", **second)
    goal = end(lab)
    for at in itertools.count(1, step):
        lab.apply(MODULE, name="one", **first)
        died = killed(lab, tmp_path, at, MODULE, {"name": "one", **second})
        family = 4 if at % 2 else 6
        assert not heard(lab, of(OTHER, family)), at
        assert heard(lab, lab.attacker.address(family)), at
        assert not blocks_always or not heard(lab, of(ONE, family)), at
        lab.apply(MODULE, name="one", **second)
        assert end(lab) == goal, at
        if not died:
            break
    assert at >= 6


def test_killed_before_the_first_list_and_booted(nft_lab: Lab, tmp_path: Path) -> None:
    """From nothing: a boot after a run that was killed loads what there is, and leaves nothing half done."""
    lab = nft_lab
    install(lab)
    for at in itertools.count(1, 4):
        died = killed(lab, tmp_path, at, MODULE, {"name": "one", "sources": BOTH})
        lab.pbx.run("sh", "-ec", "nft flush ruleset; ipset destroy")
        done = sipguard(lab, "restore")
        assert (done.returncode, done.stderr) == (0, ""), at
        assert heard(lab, lab.attacker.address(4)), at
        lab.apply(MODULE, name="one", sources=BOTH)
        assert not heard(lab, of(ONE, 4)), at
        assert "-new" not in lab.sets(), at
        assert not any(".new" in path for path in lab.files()), at
        lab.apply(MODULE, state="absent")
        if not died:
            break
    assert at >= 6
