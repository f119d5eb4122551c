# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asterisk hears nobody who is on a list, whether the inventory or a feed names him; also after a reboot without the feed's server."""

from __future__ import annotations

from typing import Any

import pytest

PHONE = "Yealink SIP-T46U 108.86.0.90"
# Last parts of the addresses that the inventory names, and that the feed of prepare.yml holds.
LISTED, FED = 199, 198


WHOM = pytest.mark.parametrize("number", [LISTED, FED], ids=["inventory", "feed"])
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


@WHOM
@FAMILIES
def test_listed_source_is_not_heard(
    neighbours: Any, heard: Any, eventually: Any, udp: Any, family: int, number: int
) -> None:
    listed = neighbours.caller(udp(family), neighbours.stranger(family, number))
    phone = neighbours.caller(udp(family))
    listed.ask(PHONE)
    phone.ask(PHONE)
    assert phone.answer().startswith("SIP/2.0 ")
    assert listed.silence()
    assert eventually(lambda: heard(phone))
    assert not heard(listed)


@WHOM
@FAMILIES
def test_listed_source_gets_no_connection(neighbours: Any, family: int, number: int) -> None:
    assert neighbours.connects(neighbours.stranger(family))
    assert not neighbours.connects(neighbours.stranger(family, number))


def test_host_says_why(host: Any, neighbours: Any) -> None:
    said = host.run("sipguard why %s", neighbours.stranger(6, LISTED))
    assert said.rc == 1
    assert "the same one's other address" in said.stdout
    fed = host.run("sipguard why %s", neighbours.stranger(4, FED))
    assert fed.rc == 1
    assert "fixture" in fed.stdout


def test_host_refreshes_by_itself(host: Any) -> None:
    assert host.service("sipguard-feeds.timer").is_running
    assert host.service("sipguard-feeds.timer").is_enabled
    status = host.run("sipguard feeds status")
    assert "fixture" in status.stdout
    assert status.rc == 0, status.stdout


def test_host_has_no_open_files(host: Any) -> None:
    for path in ("/var/lib/sipguard", "/var/lib/sipguard/lists", "/etc/sipguard"):
        assert host.file(path).mode == 0o700
