# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what each host was asked, and how it ended, into the file named by the environment variable FLEET_COUNTS."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: fleet_counts
type: aggregate
short_description: What each host was asked
description: The play's recap of each host and the modules that ran on it, as a JSON mapping in the file named by FLEET_COUNTS.
"""

# What runs on the controller alone. (Each of them costs the controller as much as any other task, skipped or not.)
_CONTROLLER = {"assert", "debug", "fail", "include_role", "include_tasks", "meta", "set_fact", "validate_argument_spec"}


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """A list of modules for each host; one entry per task, also for a loop."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "fleet_counts"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, list[str]] = {}

    def v2_runner_on_ok(self, result: Any) -> None:
        action = str(result._task.action)
        if action.rpartition(".")[2] not in _CONTROLLER:
            self._modules.setdefault(str(result._host.get_name()), []).append(action)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        counts = {
            host: {**stats.summarize(host), "modules": self._modules.get(host, [])} for host in sorted(stats.processed)
        }
        Path(os.environ["FLEET_COUNTS"]).write_text(json.dumps(counts), encoding="utf-8")
