# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Asterisk that runs does not know yet, kept over runs of ours and forgotten with that process.

A note is a file of root's with texts and the identity of the process they are about.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence

from .._sip.errors import SipguardError
from .cli import Cli
from .transaction import write_private

__all__ = ["RESTART", "UNREAD", "add", "forget", "read"]

# files that were written and that Asterisk may not have read
UNREAD = "/var/lib/sipguard/asterisk-unread"
# settings that it follows only after a restart
RESTART = "/var/lib/sipguard/asterisk-restart"


def read(cli: Cli, note: str) -> list[str]:
    """The texts, none when they are about a process that is gone. Raises NotRunning."""
    try:
        with open(note, encoding="utf-8") as file:
            noted: Mapping[str, object] = json.load(file)
        texts = noted["texts"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if not isinstance(texts, list) or noted.get("process") != cli.identity():
        return []
    return [str(each) for each in texts]


def add(cli: Cli, note: str, texts: Sequence[str]) -> None:
    """Note more texts. Raises SipguardError."""
    found = read(cli, note)
    new = [each for each in texts if each not in found]
    if new:
        try:
            write_private(note, (json.dumps({"process": cli.identity(), "texts": [*found, *new]}) + "\n").encode())
        except OSError as error:
            raise SipguardError(f"{note}: {error.strerror or error}") from error


def forget(note: str) -> None:
    """There is nothing to be known any more."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(note)
