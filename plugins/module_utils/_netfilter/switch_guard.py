# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change that waits to be confirmed, and why a module of a run whose timer has fired must not go on: nobody would confirm it."""

from __future__ import annotations

import json
import pathlib
import time
from dataclasses import asdict, dataclass

from .._sip.errors import SipguardError

__all__ = ["PENDING", "STATE_DIRECTORY", "Pending", "boot_identity", "now", "read_pending", "require_armed"]

STATE_DIRECTORY = "/var/lib/sipguard"
PENDING = "pending.json"

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_identity() -> str:
    """What is another one after every start of this host; a container has the boot id of its machine, but a PID 1 of its own."""
    identity = ""
    for path, word in ((_BOOT_ID, 0), ("/proc/1/stat", 19)):  # 19: starttime, counted from the state (proc(5))
        try:
            text = pathlib.Path(path).read_text(encoding="ascii", errors="replace")
            identity += "/" + text.rpartition(")")[2].split()[word]
        except (OSError, IndexError):
            continue
    return identity


def now() -> float:
    """Seconds since the host was started. Nobody can set this clock, and it goes on while the host is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Pending:
    """A change under the timer.

    ``armed`` and ``deadline`` are in seconds since the epoch, for people; ``until`` is the deadline by ``now`` of the start of the
    host that ``boot`` names. ``number`` grows with each change. ``connections`` are those over which it was armed, ``state`` the
    digest of the state it goes back to, ``kind`` what a confirmation makes of that one.
    """

    cookie: str
    number: int
    armed: float
    deadline: float
    boot: str
    until: float
    connections: tuple[str, ...]
    state: str
    kind: str

    def left(self) -> float:
        """Seconds until the deadline, negative after it. After a restart of the host there has never been a longer one."""
        return self.until - now() if self.boot == boot_identity() else float("-inf")

    def render(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def parse(cls, text: str) -> Pending:
        """The inverse of ``render``. Raises ValueError."""
        try:
            found = json.loads(text)
            return cls(
                str(found["cookie"]),
                int(found["number"]),
                float(found["armed"]),
                float(found["deadline"]),
                str(found["boot"]),
                float(found["until"]),
                tuple(str(connection) for connection in found["connections"]),
                str(found["state"]),
                str(found["kind"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


def read_pending(directory: str = STATE_DIRECTORY) -> Pending | None:
    """The change that waits to be confirmed, None when there is none. Raises SipguardError when its file is damaged."""
    path = pathlib.Path(directory) / PENDING
    try:
        return Pending.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SipguardError(
            f"{path} is damaged ({error}): a change of the rules waited to be confirmed; "
            "'sipguard rollback' brings back the last confirmed ones"
        ) from error


def require_armed(cookie: str) -> None:
    """Raise SipguardError unless the timer of the run with this cookie is still going; "" is a run without one.

    To be called with the host's lock held, before anything is changed: what is changed then, the timer still takes back.
    """
    if not cookie:
        return
    pending = read_pending()
    if pending is None or pending.cookie != cookie or pending.left() <= 0:
        raise SipguardError(
            f"the rollback timer of this run ({cookie}) has run out, or somebody has taken the run back, and the rules are what they "
            "were before it; nothing was changed: run again, with more seconds where the host is slow (pbx_firewall_confirm_within)"
        )
