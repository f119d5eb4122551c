# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a feed is to be asked again: not by a whole fleet in the same minute, and less often the longer it fails."""

from __future__ import annotations

import hashlib
import pathlib
import socket

from .feed import Feed
from .settings import State

__all__ = ["STALE", "asked_for", "next_attempt", "stretched"]

# A feed is out of date after so many of its intervals.
STALE = 3
_SHARE = 0.1  # of its interval, by which it is stretched at most
_FIRST_RETRY = 300  # s
_LONGEST_WAIT = 86400  # s, the most that a server can ask for
_MACHINE = "/etc/machine-id"


def _machine() -> str:
    try:
        return pathlib.Path(_MACHINE).read_text(encoding="ascii", errors="replace").strip() or socket.gethostname()
    except OSError:
        return socket.gethostname()


def stretched(feed: Feed, machine: str | None = None) -> float:
    """The feed's interval on this host, in seconds: always the same here, and another one on each host."""
    seed = f"{_machine() if machine is None else machine}\n{feed.name}"
    share = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") / (1 << 32)
    return feed.every * (1 + _SHARE * share)


def asked_for(state: State, now: float) -> int:
    """Until when the server wants to be left alone, in seconds since the epoch; 0: it does not."""
    return state.not_before if now < state.not_before <= now + _LONGEST_WAIT else 0


def next_attempt(feed: Feed, state: State, now: float, *, usable: bool, patient: bool = True) -> float:
    """When the feed is due, in seconds since the epoch; not later than ``now``: it is.

    ``usable``: there is a copy of what the feed is today. Without one it is due at once, unless it keeps failing and ``patient`` is
    true. What was cut short is tried again soon. What the server has asked for counts in any case. A clock that was wrong delays nothing.
    """
    due = state.succeeded + stretched(feed) if usable and state.succeeded <= now else 0.0
    if state.cut_short:
        due = min(due, state.began + _FIRST_RETRY)
    elif state.failures and state.ended <= now and (usable or patient):
        due = state.ended + min(feed.every, _FIRST_RETRY * 2 ** min(state.failures - 1, 20))
    return max(due, asked_for(state, now))
