# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``sipguard restore`` on a host that is as it should be. It would repair one that is not: these tests come last."""

from __future__ import annotations

from typing import Any


def test_restoring_by_hand_changes_nothing(host: Any, traits: dict[str, Any], state: Any, read_state: Any) -> None:
    done = host.check_output("sipguard restore")
    assert "loaded" not in done
    listed = "pbx_blocklists_static" in traits
    assert done.count("unchanged") == 3 + listed  # the trusted, the rules of each family, and what is listed
    assert read_state() == state
