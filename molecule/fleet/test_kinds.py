# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each host of the fleet follows its own variables, those of its kind, and those of all."""

from __future__ import annotations

import json
from typing import Any

import pytest

PHONE = "Yealink SIP-T46U 108.86.0.90"
SCANNER = "friendly-scanner"


@pytest.fixture
def name(host: Any) -> str:
    """The host's name in the inventory."""
    return str(host.ansible.get_variables()["inventory_hostname"])


@pytest.mark.parametrize(
    ("user_agent", "stopped_at"),
    [
        (SCANNER, {"canary22", "fleet16", "fleet12"}),
        ("fleet-auditor", {"canary22", "fleet16"}),
        ("plain-auditor", {"fleet12"}),
    ],
)
def test_a_scanner_is_stopped_where_it_is_listed(
    neighbours: Any, way: Any, name: str, user_agent: str, stopped_at: set[str]
) -> None:
    caller = neighbours.caller(way)
    caller.ask(user_agent)
    assert caller.silence() if name in stopped_at else caller.answer().startswith("SIP/2.0 ")


def test_a_phone_is_answered_everywhere(neighbours: Any, way: Any) -> None:
    phone = neighbours.caller(way)
    phone.ask(PHONE)
    assert phone.answer().startswith("SIP/2.0 ")


def test_the_gate_asks_for_the_domain_where_it_is_on(neighbours: Any, way: Any, name: str) -> None:
    stranger = neighbours.caller(way, domain="other.example.test")
    stranger.ask(PHONE)
    assert stranger.silence() if name == "canary22" else stranger.answer().startswith("SIP/2.0 ")


def test_each_kind_has_what_is_for_it(host: Any, name: str) -> None:
    found = json.loads(host.check_output("sipguard status --json"))
    assert found["protected"]
    assert found["sipband"] == ("" if name == "fleet12" else "listens to Asterisk")
    assert ("5070" in host.check_output("iptables-save")) == (name == "fleet16")
    assert host.file("/etc/asterisk").exists == (name != "fleet12")
