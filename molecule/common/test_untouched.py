# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host holds what it held before sipguard came, byte for byte, and nothing more."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("part", ["rules4", "rules6", "sets", "files"])
def test_host_is_as_it_was(state: Any, before: Any, part: str) -> None:
    assert getattr(state, part).splitlines() == getattr(before, part).splitlines()


def test_no_unit_is_known(host: Any) -> None:
    assert host.check_output("systemctl list-units --all --plain --no-legend 'sipguard*'") == ""
