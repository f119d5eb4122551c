# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps what it generates, and how it says what it is doing."""

from __future__ import annotations

import contextlib
import fcntl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CACHE", "CHECKOUT", "LAB", "LabError", "locked", "progress", "say"]

LAB = Path(__file__).resolve().parent
CHECKOUT = LAB.parent
CACHE = CHECKOUT / ".cache" / "lab"

_PROGRESS_SECONDS = 10


class LabError(Exception):
    """Something the lab cannot do; the text is a sentence for the person at the terminal."""


def say(text: str) -> None:
    """One line of progress, on standard error so that standard output stays what was asked for."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Say ``what`` now, every 10 s with the seconds that have passed, and when it is done."""
    started = time.monotonic()
    done = threading.Event()

    def ticker() -> None:
        while not done.wait(_PROGRESS_SECONDS):
            say(f"  {what} ... {time.monotonic() - started:.0f} s")

    thread = threading.Thread(target=ticker, daemon=True)
    say(f"  {what} ...")
    thread.start()
    try:
        yield
    except BaseException:
        say(f"  {what}: failed after {time.monotonic() - started:.1f} s")
        raise
    else:
        say(f"  {what}: {time.monotonic() - started:.1f} s")
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (created if missing); wait for whoever has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"  waiting for another lab command ({path.name})")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
