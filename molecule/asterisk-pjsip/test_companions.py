# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes with Asterisk's settings on request: log files for fail2ban, a user for security events, a guard for outbound calls."""

from __future__ import annotations

import json
from typing import Any


def test_security_events_are_json_in_a_file_of_their_own(host: Any, neighbours: Any, udp: Any, eventually: Any) -> None:
    caller = neighbours.caller(udp(4), neighbours.trusted(4))
    caller.ask("Yealink SIP-T46U 108.86.0.90", "INVITE")
    assert caller.answer().split()[1] == "401"

    def logged() -> bool:
        lines = host.check_output("cat /var/log/asterisk/sipguard-security").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return any(f"/{caller.source}/" in event["logmsg"]["message"] for event in events)

    assert eventually(logged)
    assert "SecurityEvent" not in host.check_output("cat /var/log/asterisk/sipguard-notices")


def test_log_files_are_rotated(host: Any) -> None:
    said = host.run("logrotate --debug /etc/logrotate.d/sipguard-asterisk")
    assert said.rc == 0, said.stderr
    assert "/var/log/asterisk/sipguard-security" in said.stdout + said.stderr


def test_user_of_the_manager_interface_may_read_security_events_and_nothing_else(host: Any) -> None:
    said = host.check_output("asterisk -rx 'manager show user sipguard'")
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "read perm: security" in lines
    assert "write perm: <none>" in lines
    assert host.check_output("ss -Hlnt 'sport = :5038'").split()[3] == "127.0.0.1:5038"


def test_guard_is_in_the_dialplan(host: Any) -> None:
    said = host.check_output("asterisk -rx 'dialplan show sipguard-guard'")
    assert "sipguard-guard" in said
    assert "There is no existence" not in said
