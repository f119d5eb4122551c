# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host has just come up, and Ansible has not been there since."""

from __future__ import annotations

from typing import Any

import pytest


def _when(host: Any, unit: str, what: str) -> int:
    """When something happened to the unit, in microseconds since the kernel started."""
    return int(host.check_output("systemctl show --value -p %sTimestampMonotonic %s", what, unit))


def test_unit_has_loaded_everything(host: Any) -> None:
    unit = host.service("sipguard-restore.service")
    assert unit.is_running, host.run("journalctl --no-pager --boot --unit sipguard-restore.service").stdout
    assert unit.systemd_properties["Result"] == "success"


@pytest.mark.where("lab_pbx_unit")
def test_protection_comes_before_the_pbx(host: Any, traits: dict[str, Any]) -> None:
    done = _when(host, "sipguard-restore.service", "ActiveEnter")
    assert 0 < done <= _when(host, traits["lab_pbx_unit"], "InactiveExit")
