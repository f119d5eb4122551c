# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of sipband as values: compared with what is there, replaced each in one moment, and put back."""

from __future__ import annotations

import contextlib
import grp
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import unified_diff

from .._sip.errors import SipguardError

__all__ = ["File", "Files", "Link"]


@dataclass(frozen=True)
class File:
    """``group`` is a name, "" for root's. A ``secret`` one's text stands in no diff."""

    text: str
    mode: int = 0o644
    group: str = ""
    secret: bool = False


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class _There:
    text: str
    mode: int
    group: int
    link: bool


def _gid(group: str) -> int:
    """-1 for a group that is still to be made."""
    if not group:
        return 0
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return -1


class Files:
    """Those that may exist (``every``), and those that shall."""

    def __init__(self, every: Iterable[str], wanted: Mapping[str, File | Link]) -> None:
        """Raises SipguardError when one of them cannot be read."""
        self.wanted = dict(wanted)
        self.before: dict[str, _There] = {}
        for path in dict.fromkeys([*every, *wanted]):
            found = _look(path)
            if found is not None:
                self.before[path] = found

    def text(self, path: str) -> str | None:
        """What is there."""
        found = self.before.get(path)
        return None if found is None or found.link else found.text

    def outdated(self) -> list[str]:
        """Paths that have to be written or removed."""
        return [path for path in dict.fromkeys([*self.wanted, *self.before]) if not self._right(path)]

    def _right(self, path: str) -> bool:
        there, want = self.before.get(path), self.wanted.get(path)
        if there is None or want is None:
            return there is None and want is None
        if isinstance(want, Link):
            return there.link and there.text == want.target
        return (there.link, there.text, there.mode, there.group) == (False, want.text, want.mode, _gid(want.group))

    def diff(self) -> tuple[str, str]:
        """Names of files that come or go, and the lines that change in others; of secrets the names alone."""
        before, after = [], []
        for path in self.outdated():
            there, want = self.before.get(path), self.wanted.get(path)
            removed: list[str] = []
            added: list[str] = []
            if there is not None and isinstance(want, File) and not want.secret and not there.link:
                lines = list(unified_diff(there.text.splitlines(), want.text.splitlines(), lineterm="", n=0))[2:]
                removed = [f"  {line[1:]}\n" for line in lines if line[0] == "-"]
                added = [f"  {line[1:]}\n" for line in lines if line[0] == "+"]
            if there is not None:
                before += [f"{path}\n", *removed]
            if want is not None:
                after += [f"{path}{'' if there is None or removed or added else ' (changed)'}\n", *added]
        return "".join(before), "".join(after)

    def write(self) -> None:
        """Raises SipguardError."""
        for path in self.outdated():
            want = self.wanted.get(path)
            _put(path, want if want is None or isinstance(want, Link) else (want.text, want.mode, _gid(want.group)))

    def undo(self) -> None:
        """What was there before. Raises SipguardError."""
        for path in dict.fromkeys([*self.wanted, *self.before]):
            there = self.before.get(path)
            if there is None:
                _put(path, None)
            else:
                _put(path, Link(there.text) if there.link else (there.text, there.mode, there.group))


def _look(path: str) -> _There | None:
    try:
        about = os.lstat(path)
        if stat.S_ISLNK(about.st_mode):
            return _There(os.readlink(path), 0, 0, True)
        if not stat.S_ISREG(about.st_mode):
            raise SipguardError(f"{path} is no file; move it away and run again")
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return _There(file.read(), stat.S_IMODE(about.st_mode), about.st_gid, False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SipguardError(f"cannot read {path}: {error.strerror}") from error


def _put(path: str, what: Link | tuple[str, int, int] | None) -> None:
    """Nobody can read a file before it has its own mode and group."""
    fresh = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.new")
    try:
        if what is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        if isinstance(what, Link):
            os.symlink(what.target, fresh)
        else:
            text, mode, group = what
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                file.write(text)
                file.flush()
                os.fchown(handle, 0, max(group, 0))
                os.fchmod(handle, mode)
                os.fsync(handle)
        os.replace(fresh, path)
    except OSError as error:
        raise SipguardError(f"cannot write {path}: {error.strerror}") from error
