# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.sipguard.pbx.plugins.modules import sip_ban
from tests.unit.plugins.hosts import BareHost


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "addresses: [] cannot be used; at least one address is needed"),
        ({"addresses": [], "state": "unbanned"}, "addresses: [] cannot be used"),
        ({"addresses": ["pbx.example.org"]}, "it is a name"),
        ({"addresses": ["203.0.113.7"], "state": "cleared"}, "none would be right with state 'cleared'"),
        ({"addresses": ["203.0.113.7"], "time": "soon"}, "time: 'soon' cannot be used; a time such as 90, 30m"),
        ({"addresses": ["203.0.113.7"], "time": "30d"}, "at most 2147483 seconds (24 days), or 0"),
        ({"addresses": ["203.0.113.7"], "reason": "a\x07b"}, "reason: \"'a\\\\x07b'\" cannot be used"),
        ({"addresses": ["203.0.113.7"], "lock_timeout": 3601}, "lock_timeout: 3601 cannot be used"),
        ({"addresses": ["203.0.113.7"], "state": "off"}, "banned, unbanned, cleared"),
        ({"addresses": ["203.0.113.7"], "backend": "ebtables"}, "auto, nft, legacy"),
    ],
)
@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
def test_bad_option_fails_before_the_host_is_touched(
    host: BareHost, options: dict[str, Any], said: str, check: bool
) -> None:
    result = host.run_module("sip_ban", options, check=check)
    assert result["failed"] is True
    assert said in result["msg"]
    assert (host.read, host.refused) == ([], [])


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"addresses": "203.0.113.7, 2001:db8::7"}, True),
        ({"addresses": ["203.0.113.7"], "state": "unbanned"}, False),
        ({"state": "cleared"}, False),
    ],
)
def test_check_mode_only_reads_and_returns_what_is_documented(
    host: BareHost, options: dict[str, Any], changed: bool
) -> None:
    result = host.run_module("sip_ban", options, check=True)
    documented = yaml.safe_load(sip_ban.RETURN).keys() - {"refused"}
    assert result.keys() - {"invocation"} == documented | {"changed", "diff"}
    assert (result["changed"], result["differs"]) == (changed, changed)
    assert host.refused == []


def test_refusal_says_so_for_each_address(host: BareHost) -> None:
    result = host.run_module("sip_ban", {"addresses": ["203.0.113.7", "127.0.0.1", "ff02::1"]}, check=True)
    assert list(result["refused"]) == ["127.0.0.1", "ff02::1"]
    assert result["msg"] == "; ".join([*result["refused"].values(), "nothing was changed"])
