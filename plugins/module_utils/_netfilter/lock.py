# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time: what one has read must not be changed by another before it writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from .._sip.errors import OptionError, SipguardError

__all__ = ["DEFAULT_LOCK_TIMEOUT", "LOCK_FILE", "check_timeout", "exclusive"]

DEFAULT_LOCK_TIMEOUT = 30  # s
LOCK_FILE = "/run/sipguard.lock"
_POLL = 0.05  # s
_MAX_TIMEOUT = 3600  # s


def check_timeout(seconds: int) -> None:
    """Raise OptionError for a time that nobody can wait."""
    if not 1 <= seconds <= _MAX_TIMEOUT:
        raise OptionError("lock_timeout", seconds, f"1 to {_MAX_TIMEOUT} seconds would be right")


@contextlib.contextmanager
def exclusive(timeout: int, wanted: bool = True) -> Iterator[None]:
    """Hold this host's lock, which the kernel frees with the process, whatever ends it.

    Waits ``timeout`` seconds for another run; not ``wanted`` (check mode) does nothing. Raises SipguardError.
    """
    if not wanted:
        yield
        return
    try:
        handle = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SipguardError(f"cannot lock {LOCK_FILE}: {error}; it takes root ('become: true')") from error
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SipguardError(
                        f"another run of sipguard has been at work on this host for {timeout} s; nothing was changed"
                    ) from None
                time.sleep(_POLL)
        yield
    finally:
        os.close(handle)
