# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts whose Asterisk answers with what a real one of that release has printed (tests/unit/fixtures/asterisk)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from tests.unit.plugins.module_utils._netfilter.samples import FIXTURES

__all__ = ["DOWN", "RELEASES", "Console"]

RELEASES = ("16.28", "22.10")
DOWN = Completed(
    1,
    "No ethernet interface found for seeding global EID. You will have to set it manually.\n",
    "Unable to connect to remote asterisk (does /var/run/asterisk/asterisk.ctl exist?)\n",
)


class Console:
    """A runner. `answers` come before the fixtures; `asked` are the commands, without the time limit around them."""

    def __init__(
        self, release: str, answers: Mapping[str, Completed | str] | None = None, installed: bool = True
    ) -> None:
        self.release = release
        self.answers = dict(answers or {})
        self.installed = installed
        self.asked: list[list[str]] = []

    def which(self, command: str) -> str | None:
        return f"/usr/sbin/{command}" if self.installed or command != "asterisk" else None

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        assert argv[0] == "/usr/sbin/timeout"
        assert argv[3] == "/usr/sbin/asterisk"
        self.asked.append(list(argv[4:]))
        command = argv[-1]
        answer = self.answers.get(command, "")
        if isinstance(answer, Completed):
            return answer
        path = FIXTURES / "asterisk" / f"{self.release}-{command.replace(' ', '-')}.txt"
        if command in self.answers or path.exists():
            return Completed(0, answer or path.read_text(encoding="utf-8"), "")
        return Completed(0, f"No such command '{command}' (type 'core show help' for other possible commands)\n", "")
