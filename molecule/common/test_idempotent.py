# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last run found nothing to do."""

from __future__ import annotations


def test_run_changes_nothing(last_run: dict[str, int]) -> None:
    assert last_run["ok"] > 0
    assert last_run["changed"] == last_run["failed"] == last_run["unreachable"] == 0
