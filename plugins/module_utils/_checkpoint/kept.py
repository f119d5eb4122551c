# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a host before a run: one archive on the host itself, root's alone, because it holds secrets of Asterisk."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .._asterisk import freepbx
from .._asterisk.transaction import write_private
from .._host.sipban import settings as _sipban
from .._sip.errors import OptionError, SipguardError
from . import files
from .files import Entry
from .places import GROWING, PATTERNS, Unit

__all__ = ["FOLDER", "LOCK_TIMEOUT", "Archive", "Kept", "changed", "paths", "user"]

FOLDER = "/var/backups/sipguard"
LOCK_TIMEOUT = 60  # s
_NAME = re.compile(r"checkpoint-[0-9a-f]{16}\.tar\.gz")
_MOST = 5
_LONGEST = 7 * 86400  # s that one of a run that never came to its end is kept
_UNFINISHED = re.compile(r"\.sipguard-[0-9a-f]+\.tmp")
_COOKIE = re.compile(r"[0-9a-f]{16}\Z")
_ABOUT, _RULES = "about.json", "rules.json"


@dataclass(frozen=True)
class Kept:
    """A checkpoint: files by path, the rules as `State.render` wrote them, and what else can be brought back."""

    entries: dict[str, Entry] = field(default_factory=dict)
    rules: str = ""
    health: dict[str, Any] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    folders: dict[str, list[int]] = field(default_factory=dict)  # of all files, and ours: mode, owner, group
    # `Record.mark` of the switch's journal; None: not known.
    journal: dict[str, Any] | None = None
    user: list[int] | None = None  # its number and its group's
    config_dir: str = "/etc/asterisk"
    freepbx: dict[str, Any] = field(default_factory=dict)


class Archive:
    """Those of one host. ``folder`` is where they are."""

    def __init__(self, folder: str = FOLDER) -> None:
        self._folder = folder

    def write(self, cookie: str, kept: Kept) -> None:
        """Raises SipguardError."""
        about = {
            "health": kept.health,
            "units": {name: vars(unit) for name, unit in kept.units.items()},
            "folders": kept.folders,
            "journal": kept.journal,
            "user": kept.user,
            "config_dir": kept.config_dir,
            "freepbx": kept.freepbx,
        }
        path = self._path(cookie)
        try:
            write_private(path, files.pack(kept.entries, {_ABOUT: json.dumps(about), _RULES: kept.rules}))
        except OSError as error:
            raise SipguardError(f"cannot write {path}: {error.strerror}; nothing was changed") from error
        self.forget_older()

    def read(self, cookie: str) -> Kept:
        """Raises SipguardError where there is none, or a damaged one."""
        path = self._path(cookie)
        try:
            with open(path, "rb") as stream:
                data = stream.read()
        except FileNotFoundError:
            raise SipguardError(
                f"there is no checkpoint {cookie} on this host; it was dropped, or never taken"
            ) from None
        except OSError as error:
            raise SipguardError(f"cannot read {path}: {error.strerror}") from error
        entries, notes = files.unpack(data)
        try:
            about = json.loads(notes[_ABOUT])
            return Kept(
                entries,
                notes[_RULES],
                about["health"],
                {name: Unit(**unit) for name, unit in about["units"].items()},
                about["folders"],
                about.get("journal"),
                about["user"],
                about["config_dir"],
                about["freepbx"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SipguardError(f"{path} is damaged: {type(error).__name__}") from error

    def drop(self, cookie: str) -> bool:
        """Forget a checkpoint; whether there was one. Raises SipguardError."""
        path = self._path(cookie)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise SipguardError(f"cannot remove {path}: {error.strerror}") from error
        return True

    def forget_older(self) -> None:
        """Remove those that runs which were killed have left, but none of a run that may be at work beside this one."""
        with contextlib.suppress(OSError):
            os.chmod(self._folder, 0o700)
        kept = {}
        for name in os.listdir(self._folder):
            path = os.path.join(self._folder, name)
            with contextlib.suppress(OSError):  # another run may drop its own
                age = time.time() - os.lstat(path).st_mtime
                if _UNFINISHED.fullmatch(name) and age > 3600:
                    os.unlink(path)
                elif _NAME.fullmatch(name):
                    kept[path] = age
        newest = sorted(kept, key=kept.__getitem__)[:_MOST]
        for path, age in kept.items():
            if path not in newest or age > _LONGEST:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def _path(self, cookie: str) -> str:
        if not _COOKIE.match(cookie):
            raise OptionError("cookie", cookie, "the cookie that state 'taken' returned would be right")
        return os.path.join(self._folder, f"checkpoint-{cookie}.tar.gz")


def paths(config_dir: str) -> list[str]:
    """What a run may change, as far as it is there now."""
    return sorted({*files.find(PATTERNS), *files.tree(config_dir)})


def changed(kept: Kept, now: Iterable[str]) -> tuple[list[str], list[str]]:
    """Paths that are not as they were, and what is wrong with those that cannot be looked at.

    What FreePBX has made since is its own, as the flag of its firewall that somebody has switched on.
    """
    found, problems = files.differing(kept.entries, now)
    pbx = freepbx.detect()
    left = set(files.find(GROWING))
    if pbx is not None:
        left |= {path for path in found if path not in kept.entries and pbx.keeps(path)}
    return [path for path in found if path not in left], problems


def user() -> list[int] | None:
    """Number and group of sipband's user, None where there is none."""
    try:
        found = pwd.getpwnam(_sipban.USER)
    except KeyError:
        return None
    return [found.pw_uid, found.pw_gid]
