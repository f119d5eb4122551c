# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes (task, seconds, changed) of every task into the file named by the environment variable TASK_TIMES."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_times
type: aggregate
short_description: How long each task took
description: Seconds from the start of a task to its result, as a JSON list in the file named by TASK_TIMES.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """One entry per task; for a loop, one for the whole loop."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._times: list[tuple[str, float, bool]] = []
        self._start = 0.0

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._start = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        seconds = time.monotonic() - self._start
        self._times.append((result._task.get_name(), seconds, bool(result._result.get("changed"))))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        Path(os.environ["TASK_TIMES"]).write_text(json.dumps(self._times))
