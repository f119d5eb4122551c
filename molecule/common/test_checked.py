# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last run was one in check mode, on a host without sipguard."""

from __future__ import annotations


def test_run_says_what_it_would_change(last_run: dict[str, int]) -> None:
    assert last_run["changed"] > 0
    assert last_run["failed"] == last_run["unreachable"] == 0
