# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asterisk's own settings: it asks strangers for a password, wherever they come from, and says what it was told."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.where("lab_asterisk_tests")

PHONE = "Yealink SIP-T46U 108.86.0.90"


@pytest.fixture
def chan_sip(host: Any) -> bool:
    """Whether the host speaks with chan_sip."""
    return "chan_sip.so" in host.check_output("asterisk -rx 'module show like chan_sip.so'")


def test_call_without_a_password_is_refused_even_from_a_trusted_address(neighbours: Any, way: Any) -> None:
    caller = neighbours.caller(way, neighbours.trusted(way.family))
    caller.ask(PHONE, "INVITE")
    assert caller.answer().split()[1] == "401"


def test_asterisk_says_what_it_was_told(host: Any, chan_sip: bool) -> None:
    said = host.check_output("asterisk -rx %s", "sip show settings" if chan_sip else "pjsip show settings")
    lines = [" ".join(line.split()) for line in said.splitlines()]
    for line in (
        ["Allow unknown access: No", "SIP Transfer mode: closed", "User Agent: PBX"]
        if chan_sip
        else ["user_agent : PBX"]
    ):
        assert line in lines, said


def test_phones_and_trunk_are_still_there(host: Any, chan_sip: bool) -> None:
    said = host.check_output("asterisk -rx %s", "sip show peers" if chan_sip else "pjsip show endpoints")
    for name in ("1001", "1002", "carrier"):
        assert name in said
    assert "anonymous" not in said


def test_every_line_of_ours_says_so(host: Any, chan_sip: bool) -> None:
    name = "/etc/asterisk/sip.conf" if chan_sip else "/etc/asterisk/pjsip.conf"
    if host.file("/etc/freepbx.conf").exists:
        name = "/etc/asterisk/pjsip_custom_post.conf"
    file = host.file(name)
    assert "; sipguard" in file.content_string
    assert (file.user, file.group, oct(file.mode)) == ("asterisk", "asterisk", "0o640")
