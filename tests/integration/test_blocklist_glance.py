# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run sees at a glance that there is nothing to do; and whatever anybody has changed, it sees as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.harness.command import install, sipguard
from tests.integration.harness.feeds import LISTED, passes
from tests.integration.harness.lab import Lab

FEED = "/etc/listed.txt"
GLANCE = "/var/lib/sipguard/lists/.glance"


def _write(lab: Lab, path: str, text: str) -> None:
    lab.pbx.run("sh", "-c", f"cat > {path}", stdin=text)


def _run(lab: Lab, **options: Any) -> dict[str, Any]:
    return lab.apply("sip_blocklist", name="ours", feed=FEED, max_change=0, **options)


@pytest.fixture
def settled(lab: Lab) -> Lab:
    """A host on which a run has nothing to do."""
    install(lab)
    _write(lab, FEED, "\n".join(LISTED[:3]))
    assert _run(lab)["changed"]
    assert not _run(lab)["changed"]
    return lab


def _swap_member(lab: Lab) -> None:
    """The number of members stays."""
    lab.pbx.run("ipset", "del", "sipguard-blocked4", LISTED[0])
    lab.pbx.run("ipset", "add", "sipguard-blocked4", "198.18.250.1")


CHANGES: dict[str, Callable[[Lab], object]] = {
    "a member of the set": _swap_member,
    "the set is emptied": lambda lab: lab.pbx.run("ipset", "flush", "sipguard-blocked4"),
    "a set that is left over": lambda lab: lab.pbx.run("ipset", "create", "sipguard-blocked4-new", "hash:net"),
    "a rule": lambda lab: lab.iptables("-t", "raw", "-D", "SIPGUARD-PRE-ALL", "-j", "DROP"),
    "all rules": lambda lab: lab.iptables("-t", "raw", "-F"),
    "the feed": lambda lab: _write(lab, FEED, "\n".join(LISTED[:2])),
    "the list": lambda lab: lab.pbx.run("sed", "-i", f"s/{LISTED[0]}/198.18.250.2/", "/var/lib/sipguard/lists/ours"),
    "the file for the boot": lambda lab: lab.pbx.run("rm", "/etc/sipguard/rules.v4"),
    "whom the host trusts": lambda lab: lab.pbx.run("ipset", "add", "sipguard-trusted4", LISTED[1]),
    "an address of the host": lambda lab: lab.pbx.ip([f"addr add {LISTED[1]}/32 dev lo"]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_change_of_anything_is_seen(settled: Lab, what: str) -> None:
    CHANGES[what](settled)
    check = settled.module("sip_blocklist", check=True, name="ours", feed=FEED, max_change=0)
    # What is only left over from a run that was killed is cleared away without a word.
    assert check["changed"] is (what != "a set that is left over")
    assert _run(settled)["changed"] is check["changed"]
    again = _run(settled)
    assert not again["changed"]
    assert "sipguard-blocked4-new" not in settled.sets()
    listed = LISTED[:2] if what == "the feed" else LISTED[:3]
    spared = [LISTED[1]] if what in ("whom the host trusts", "an address of the host") else []
    stopped = [each for each in listed if each not in spared]
    assert again["members"]["sipguard-blocked4"] == len(stopped)
    assert not any(passes(settled, address) for address in stopped)


def test_other_options_are_another_run(settled: Lab) -> None:
    assert _run(settled, mode="observe")["changed"]
    assert _run(settled)["changed"]
    assert not _run(settled)["changed"]


def test_unchanged_run_returns_what_the_last_one_did(settled: Lab) -> None:
    first = _run(settled)
    second = _run(settled)
    assert {key: value for key, value in first.items() if key != "invocation"} == {
        key: value for key, value in second.items() if key != "invocation"
    }
    assert second["entries"] == second["accepted"]["entries"] == 3


@pytest.mark.parametrize("text", ["", "[]", '{"ours": 7}', '{"ours": {"seen": null, "result": {}}}', "\x00"])
def test_note_that_is_damaged_is_no_note(settled: Lab, text: str) -> None:
    _write(settled, GLANCE, text)
    run = _run(settled)
    assert not run["changed"]
    assert run["entries"] == 3


def test_exception_is_honoured_for_as_long_as_it_lasts(settled: Lab) -> None:
    done = sipguard(settled, "unban", LISTED[0], "--time", "2s")
    assert done.returncode == 0, done.stderr
    assert passes(settled, LISTED[0])
    while not _run(settled)["changed"]:
        pass
    assert not passes(settled, LISTED[0])
