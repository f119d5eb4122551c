# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart Asterisk in a maintenance window and only while nobody speaks: no call is ever ended for it."""

from __future__ import annotations

import contextlib
import datetime
import re
import time
from dataclasses import dataclass

from .._sip.errors import OptionError, SipguardError
from .cli import Cli, NotRunning

__all__ = ["Window", "restart"]

_PAUSE = 0.5  # s between two looks
_BOOT = 90.0  # s in which Asterisk has to be back


@dataclass(frozen=True)
class Window:
    """A time of day on the host; ``end`` may be past midnight. Without both it is always open."""

    begin: datetime.time | None = None
    end: datetime.time | None = None

    @classmethod
    def parse(cls, text: str) -> Window:
        """From ``02:00-04:30``; empty is always. Raises OptionError."""
        if not text:
            return cls()
        match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", text)
        if not match or text[:5] == text[6:]:
            raise OptionError("window", text, "two times of day such as 02:00-04:30 would be right")
        hours = [int(part) for part in match.groups()]
        return cls(datetime.time(hours[0], hours[1]), datetime.time(hours[2], hours[3]))

    def contains(self, now: datetime.time) -> bool:
        if self.begin is None or self.end is None:
            return True
        if self.begin < self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end


def restart(cli: Cli, patience: int) -> bool:
    """Restart as soon as there is no call, at the latest in ``patience`` seconds; whether it was.

    Asterisk takes no new calls while it waits for the last one to end, as little as possible: it is told to only when there is none.
    Raises NotRunning, and SipguardError when it does not come back.
    """
    before = cli.identity()
    end = time.monotonic() + patience
    while cli.channels():
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE)
    # a call that comes in this very moment delays it
    cli.command("core restart when convenient")
    end = max(end, time.monotonic() + 5)
    while not _is_new(cli, before):
        if time.monotonic() >= end and _speaks(cli):
            cli.command("core abort shutdown")
            return False
        if time.monotonic() >= end + _BOOT:
            raise SipguardError(f"Asterisk has not come back within {_BOOT:.0f} s after a restart; see its log")
        time.sleep(_PAUSE)
    return True


def _is_new(cli: Cli, before: str) -> bool:
    with contextlib.suppress(NotRunning):
        return "fully booted" in cli.command("core waitfullybooted") and cli.identity() != before
    return False


def _speaks(cli: Cli) -> bool:
    with contextlib.suppress(NotRunning):
        return cli.channels() > 0
    return False
