# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sipband writes down, a line for each ban and unban, so that a reboot or a cut of the power loses neither bans nor what they grow by.

The kernel's sets are what decides while the host runs; nothing here is read back into them but at boot (_host/bans.py, restore_bans),
by root, who takes the file for what it is: one that a process with few rights has written. Lines, with tabs in between::

    ban    time  member  until  number  reason     seconds since the epoch, the time to the microsecond, so that it is plain what came
                                                   before the picture of the bans; until 0: for ever; number 0: not for proven evidence
    unban  time  member                            member "*": all of them
    was    time  member  number                    a ban that is over, and still makes the next one longer
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..._netfilter.sets import member_text
from ..._sip.addresses import Network
from ..._sip.errors import SipguardError

__all__ = ["ALL", "BAN", "PATH", "UNBAN", "WAS", "Ledger", "Line", "last_lines", "read_lines", "written"]

PATH = "/var/lib/sipban/bans"
BAN, UNBAN, WAS = "ban", "unban", "was"
ALL = "*"
_HEAD = "# sipband's ledger. Changes made here are overwritten.\n"
_MOST = 64 << 20  # bytes; no honest ledger is as large
_LINE = 1024  # bytes
_MEMBERS = 1 << 19  # as many as both sets can hold; three million would take root 2 GB at boot
_REASON = 255  # bytes; IPSET_MAX_COMMENT_SIZE
_FIELDS = {BAN: 6, UNBAN: 3, WAS: 4}


class Line(NamedTuple):
    """One line. ``network`` None means all; times in seconds since the epoch."""

    what: str
    when: float
    network: Network | None
    until: int = 0
    number: int = 0
    reason: str = ""

    def render(self) -> str:
        member = ALL if self.network is None else member_text(self.network)
        words = [self.what, f"{self.when:.6f}", member]
        if self.what == BAN:
            words += [str(self.until), str(self.number), _plain(self.reason)]
        elif self.what == WAS:
            words.append(str(self.number))
        return "\t".join(words) + "\n"


def _plain(text: str) -> str:
    """A reason as one field, and as a comment that ipset restore takes: printable, without quotes, as long as the kernel can keep."""
    shown = text
    if not text.isprintable() or '"' in text:
        shown = "".join(char if char.isprintable() and char != '"' else "?" for char in text)
    return shown.encode("utf-8", "replace")[:_REASON].decode("utf-8", "ignore")


def _number(text: str) -> int:
    # Python reads more as a number than is one here: "1_0", "+1", digits of other scripts.
    if not (text.isascii() and text.isdigit()) or len(text) > 13:
        raise ValueError(text)
    return int(text)


def _time(text: str) -> float:
    whole, dot, rest = text.partition(".")
    if dot and (not (rest.isascii() and rest.isdigit()) or len(rest) > 6):
        raise ValueError(text)
    return _number(whole) + (int(rest) / 10 ** len(rest) if dot else 0)


def _network(text: str) -> Network:
    # Three times as fast, and nearly all of them are single addresses.
    if "/" not in text:
        address = ipaddress.ip_address(text)
        return type(ipaddress.ip_network(address))((int(address), address.max_prefixlen))
    return ipaddress.ip_network(text)


def _parse(text: str) -> Line | None:
    """None for what is no line of ours, or not whole: the last one before a cut of the power may be torn."""
    words = text.split("\t")
    if not words or len(words) != _FIELDS.get(words[0], 0):
        return None
    try:
        when = _time(words[1])
        numbers = [_number(words[index]) for index in (3, 4) if index < len(words)]
        network = None if words[0] == UNBAN and words[2] == ALL else _network(words[2])
    except ValueError:
        return None
    # Behind a "%" an IPv6 address may say anything, and root hands it to ipset.
    if max([when, *numbers]) >= 1 << 40 or "%" in words[2]:
        return None
    if words[0] == BAN:
        return Line(BAN, when, network, numbers[0], numbers[1], _plain(words[5]))
    return Line(words[0], when, network, 0, numbers[0] if words[0] == WAS else 0)


def read_lines(path: str) -> Iterator[Line]:
    """Every whole line; none without a file. Raises SipguardError when it cannot be read, or is no file of this kind."""
    try:
        # Whoever has taken over sipband could put a pipe or a link here, and root reads it at boot.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SipguardError(f"cannot read {path}: {error.strerror}") from error
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode) or about.st_size > _MOST:
        os.close(handle)
        raise SipguardError(f"{path} is no ledger of sipband; remove it")
    with os.fdopen(handle, "rb") as file:
        try:
            while True:
                raw = file.readline(_LINE)
                if not raw:
                    return
                if raw.endswith(b"\n"):
                    line = _parse(raw[:-1].decode("utf-8", "replace"))
                    if line is not None:
                        yield line
        except OSError as error:
            raise SipguardError(f"cannot read {path}: {error.strerror}") from error


def last_lines(path: str) -> dict[str, Line]:
    """The last ban or unban of each member, as ipset prints it, and of "*" where all of them have gone. Raises SipguardError."""
    found: dict[str, Line] = {}
    for line in read_lines(path):
        if line.what == WAS:
            continue
        if line.network is None:
            found.clear()
            found[ALL] = line
        else:
            found[member_text(line.network)] = line
            if len(found) > _MEMBERS:
                raise SipguardError(f"{path} is no ledger of sipband; remove it")
    return found


def written(path: str) -> int:
    """When the file was last written, seconds since the epoch; 0 without one."""
    try:
        return int(os.lstat(path).st_mtime)
    except OSError:
        return 0


class Ledger:
    """The file, open for more lines. What cannot be written is told once, and bans nobody less: the kernel has them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines = 0
        self.kept = 0  # lines that it had when it was written anew
        self.problem = ""
        self._handle = -1
        self._torn = False

    def open(self) -> None:
        """Raises SipguardError."""
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._handle = os.open(self.path, flags, 0o600)
            if os.fstat(self._handle).st_size == 0:
                os.write(self._handle, _HEAD.encode())
            else:
                self._mend()
        except OSError as error:
            raise SipguardError(f"cannot write {self.path}: {error.strerror}") from error

    def _mend(self) -> None:
        """End a line that was torn, so that the next one is not torn with it."""
        with open(self.path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                os.write(self._handle, b"\n")

    def add(self, line: Line) -> None:
        """In one write, so that a kill leaves it whole or out."""
        try:
            data = b"\n" * self._torn + line.render().encode("utf-8", "replace")
            written = os.write(self._handle, data)
            # A disk that is full may have taken a part of it.
            self._torn = written < len(data)
            if self._torn:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.lines += 1
            self.problem = ""
        except OSError as error:
            self.problem = (
                f"cannot write {self.path}: {error.strerror}; bans are in force, but may be forgotten at the next boot"
            )

    def sync(self) -> None:
        """Onto the disk; may take a while."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.fdatasync(self._handle)

    def rewrite(self, lines: Iterable[Line]) -> None:
        """Replace everything in one moment. Raises SipguardError, and then the old file goes on."""
        fresh = f"{self.path}.new"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                with open(handle, "w", encoding="utf-8", errors="replace", closefd=False) as file:
                    file.write(_HEAD)
                    count = 0
                    for line in lines:
                        file.write(line.render())
                        count += 1
                os.fsync(handle)
                os.replace(fresh, self.path)
            except BaseException:
                os.close(handle)
                raise
        except OSError as error:
            raise SipguardError(f"cannot write {self.path}: {error.strerror}") from error
        self.close()
        self._handle, self.lines, self.kept, self._torn = handle, count, count, False

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
