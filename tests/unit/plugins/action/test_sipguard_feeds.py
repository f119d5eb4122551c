# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The friends that the role hands to both modules may be named by names; only what is never blocked may."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.plugins.hosts import BareHost, run_task

FEED = {"name": "ours", "kind": "url", "url": "https://lists.example.org/sip.txt"}


def run(host: BareHost, module: str, **options: Any) -> tuple[dict[str, Any], str]:
    """The task's result, ``failed`` always in it, and what Ansible said beside it."""
    done = run_task(host, module, options)
    assert "=> " in done.stdout, done.stderr
    state, dummy, text = done.stdout.partition("=> ")
    return {**json.loads(text), "failed": "FAILED" in state}, " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("module", "options"),
    [("sipguard_feeds", {"feeds": [FEED]}), ("sip_blocklist", {"name": "ours", "sources": ["203.0.113.9"]})],
)
def test_names_of_those_who_are_never_blocked_become_addresses(
    host: BareHost, module: str, options: dict[str, Any]
) -> None:
    result, said = run(host, module, never=["192.0.2.0/24", "localhost"], **options)
    assert "cannot be used" not in result.get("msg", "")
    assert "127.0.0.1" in result["resolved"]["localhost"]
    assert f"{module}: localhost is never blocked as " in said


@pytest.mark.parametrize(
    ("module", "options"),
    [("sipguard_feeds", {"feeds": [FEED]}), ("sip_blocklist", {"name": "ours", "sources": ["203.0.113.9"]})],
)
def test_name_that_cannot_be_resolved_fails_before_the_host_is_touched(
    host: BareHost, module: str, options: dict[str, Any]
) -> None:
    result, dummy = run(host, module, never=["x.invalid"], **options)
    assert result["failed"] is True
    assert result["msg"].startswith("never: 'x.invalid' cannot be used; the controller cannot resolve it (")
    assert (host.read, host.refused) == ([], [])


def test_what_is_to_be_blocked_is_not_named_by_a_name(host: BareHost) -> None:
    result, dummy = run(host, "sip_blocklist", name="ours", sources=["localhost"])
    assert result["failed"] is True
    assert result["msg"].startswith("sources: 'localhost' cannot be used; it is a name")
