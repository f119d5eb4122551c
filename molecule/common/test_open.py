# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host without sipguard: everybody is answered. Without this the silence of a protected host would prove nothing."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("user_agent", ["friendly-scanner", "Yealink SIP-T46U 108.86.0.90"])
def test_anybody_is_answered(neighbours: Any, heard: Any, eventually: Any, way: Any, user_agent: str) -> None:
    caller = neighbours.caller(way)
    caller.ask(user_agent)
    assert caller.answer().startswith("SIP/2.0 ")
    assert eventually(lambda: heard(caller))


@pytest.mark.where("lab_asterisk_tests")
def test_strangers_call_reaches_the_dialplan(neighbours: Any, way: Any) -> None:
    caller = neighbours.caller(way)
    caller.ask("Yealink SIP-T46U 108.86.0.90", "INVITE")
    assert caller.answer().split()[1] == "200"


def test_sipvicious_finds_the_host(scanned: dict[int, bool]) -> None:
    assert scanned == {4: True, 6: True}
