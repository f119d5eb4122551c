# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of sipban_service."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.sipguard.pbx.plugins.plugin_utils.resolve import run_with_addresses


class ActionModule(ActionBase):
    """Run the module with addresses in the place of the names in ``white_list``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        return run_with_addresses(self, result, "white_list", "is never banned as", task_vars)
