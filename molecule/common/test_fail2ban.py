# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fail2ban: its jails run and ban with sipguard's action, and whom they ban is not heard until he is unbanned."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.where("lab_jails")

PHONE = "Yealink SIP-T46U 108.86.0.90"


@pytest.fixture
def jail(traits: dict[str, Any]) -> str:
    """The jail that is tried."""
    return str(traits["lab_jails"][0])


def test_jails_ban_with_our_action(host: Any, traits: dict[str, Any], eventually: Any) -> None:
    for jail in traits["lab_jails"]:
        # at a boot it is among the last services to come up
        assert eventually(
            lambda jail=jail: host.run("fail2ban-client get %s actions", jail).stdout.endswith(":\nsipguard\n")
        ), jail


def test_whom_a_jail_bans_is_not_heard(host: Any, neighbours: Any, way: Any, eventually: Any, jail: str) -> None:
    banned, twin = neighbours.stranger(way.family), neighbours.stranger(way.family)
    host.check_output("fail2ban-client set %s banip %s", jail, banned)
    assert eventually(lambda: f" {banned} timeout" in host.check_output("ipset save"))
    if way.transport == "udp":
        caller = neighbours.caller(way, banned)
        caller.ask(PHONE)
        assert caller.silence()
    else:
        assert not neighbours.connects(banned)
    for source in (twin, banned):
        if source == banned:
            host.check_output("fail2ban-client unban %s", banned)
        caller = neighbours.caller(way, source)
        caller.ask(PHONE)
        assert caller.answer() != ""


def test_nobody_who_is_needed_can_be_banned(host: Any, neighbours: Any, jail: str) -> None:
    said = host.check_output("fail2ban-client get %s ignoreip", jail)
    for family in (4, 6):
        assert neighbours.trusted(family) in said
