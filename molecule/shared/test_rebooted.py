# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host has just come up, and Ansible has not been there since."""

from __future__ import annotations

from typing import Any


def _started(host: Any, unit: str) -> int:
    """When the unit began to start, in microseconds since the kernel did."""
    return int(host.check_output("systemctl show --value -p InactiveExitTimestampMonotonic %s", unit))


def test_unit_has_loaded_everything(host: Any) -> None:
    unit = host.service("sipguard-restore.service")
    assert unit.is_running
    assert unit.systemd_properties["Result"] == "success"


def test_protection_comes_before_the_pbx(host: Any) -> None:
    done = int(host.check_output("systemctl show --value -p ActiveEnterTimestampMonotonic sipguard-restore.service"))
    assert 0 < done <= _started(host, "asterisk.service")


def test_nobody_is_an_offender_any_more(host: Any) -> None:
    for name in ("sipguard-offenders4", "sipguard-offenders6"):
        assert "\nadd " not in host.check_output("ipset save %s", name)
