# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is needed of a host: find a command and run it. Modules give what _netfilter has for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Completed", "Runner", "within"]


class Completed(Protocol):
    """What came of a command."""

    @property
    def returncode(self) -> int: ...

    @property
    def stdout(self) -> str: ...

    @property
    def stderr(self) -> str: ...


class Runner(Protocol):
    """Commands of a host; ``which`` gives the absolute path or None, ``run`` raises nothing for an exit status."""

    def which(self, command: str) -> str | None: ...

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed: ...


def within(runner: Runner, seconds: int) -> list[str]:
    """What stands before a command that has to end in time: timeout(1)."""
    return [runner.which("timeout") or "timeout", "--kill-after=5", str(seconds)]
