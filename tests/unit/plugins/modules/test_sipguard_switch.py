# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.sipguard.pbx.plugins.modules import sipguard_switch
from tests.unit.plugins.hosts import BareHost


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"state": "armed", "seconds": 0}, "seconds: 0 cannot be used; 10 to 3600 seconds would be right"),
        ({"state": "armed", "seconds": 3601}, "seconds: 3601 cannot be used"),
        ({"state": "armed", "seconds": "soon"}, "seconds"),
        ({"state": "rolled_back", "seconds": -5}, "seconds: -5 cannot be used"),
        ({"state": "confirmed"}, "cookie: '' cannot be used; the cookie that state 'armed' returned would be right"),
        ({"state": "off"}, "armed, confirmed, rolled_back, settled"),
        ({}, "state"),
    ],
)
@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
def test_bad_option_fails_before_the_host_is_touched(
    host: BareHost, options: dict[str, Any], said: str, check: bool
) -> None:
    result = host.run_module("sipguard_switch", options, check=check)
    assert result["failed"] is True
    assert said in result["msg"]
    assert (host.read, host.refused) == ([], [])


@pytest.mark.parametrize("state", ["armed", "confirmed", "settled"])
def test_check_mode_does_nothing_and_returns_what_is_documented(host: BareHost, state: str) -> None:
    result = host.run_module("sipguard_switch", {"state": state, "cookie": "c0ffee"}, check=True)
    documented = yaml.safe_load(sipguard_switch.RETURN).keys()
    assert result.keys() - {"invocation"} == documented | {"changed", "diff"}
    assert (result["changed"], result["cookie"], result["deadline"]) == (False, "", "")
    assert (host.read, host.refused) == ([], [])
