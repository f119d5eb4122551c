# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host loads at its next boot: our own chains, and who is trusted. Nothing that is running is decided by these files."""

from __future__ import annotations

import contextlib
import os
import pathlib

from .._sip.errors import SipguardError
from .names import Family
from .ruleset import Ruleset, parse_save

__all__ = ["BOOT_UNIT", "DIRECTORY", "SETS_FILE", "Store", "boot_warning", "replace_file", "rules_file"]

DIRECTORY = "/etc/sipguard"
SETS_FILE = "sets"
BOOT_UNIT = "/etc/systemd/system/sipguard-restore.service"
_HEAD = "# Written by sipguard.pbx for the next boot (sipguard restore). Own chains only. Changes made here are overwritten.\n"
_BACKEND = "# backend: "


def rules_file(family: Family) -> str:
    """Name of a family's file: rules.v4 or rules.v6."""
    return f"rules.v{family.version}"


def boot_warning() -> str | None:
    """A sentence for whoever writes files that nothing loads, None where the boot unit is installed."""
    if pathlib.Path(BOOT_UNIT).exists():
        return None
    return f"nothing on this host loads {DIRECTORY} at boot: install sipguard-restore.service with sipguard.pbx.sipguard_host"


def _temporary(path: pathlib.Path) -> pathlib.Path:
    # Always the same name, so that the next run finds what a killed one has left.
    return path.with_name(f".{path.name}.new")


def replace_file(path: pathlib.Path, text: str, mode: int) -> None:
    """Make a file hold ``text`` in one moment; its folder has to exist. Raises OSError."""
    temporary = _temporary(path)
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


class Store:
    """The directory of those files: 0700, files 0600, each replaced in one moment."""

    def __init__(self, directory: str = DIRECTORY) -> None:
        self._directory = pathlib.Path(directory)

    def read(self, name: str) -> str | None:
        """A file's text, None when it is not there. Raises SipguardError when it cannot be read."""
        try:
            return (self._directory / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise SipguardError(f"cannot read {self._directory / name}: {error}") from error

    def differs(self, name: str, text: str | None) -> bool:
        """Whether ``write`` has anything to do."""
        return self.read(name) != text or _temporary(self._directory / name).exists()

    def write(self, name: str, text: str | None) -> None:
        """Make a file hold ``text`` (None: not exist). Raises SipguardError."""
        if not self.differs(name, text):
            return
        path = self._directory / name
        try:
            if text is None:
                _temporary(path).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # somebody else's file may be left in it
                    self._directory.rmdir()
                return
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, text, 0o600)
        except OSError as error:
            raise SipguardError(f"cannot write {path}: {error}") from error

    @staticmethod
    def rules_text(rules: str, backend: str) -> str | None:
        """The file for one family's chains, given as iptables-save text; None when there are none."""
        return f"{_HEAD}{_BACKEND}{backend}\n{rules}" if rules else None

    def read_rules(self, family: Family) -> tuple[Ruleset, str] | None:
        """What one family's file holds, with the backend it is for; None when there is no file.

        Raises SipguardError when it is not whole, or not ours.
        """
        text = self.read(rules_file(family))
        if text is None:
            return None
        path = self._directory / rules_file(family)
        backend = next((line[len(_BACKEND) :] for line in text.splitlines() if line.startswith(_BACKEND)), "")
        try:
            ruleset = parse_save(text)
        except SipguardError as error:
            raise SipguardError(f"{path} is damaged: {error}") from error
        foreign = [line for table in ruleset.tables.values() for line in table.foreign]
        chains = [rules for table in ruleset.tables.values() for rules in table.chains.values()]
        foreign += [rule.unread for rules in chains for rule in rules if rule.unread]
        if not backend or foreign or not ruleset.tables:
            what = f"a line that is not ours: {foreign[0]}" if foreign else "no rules of ours"
            raise SipguardError(f"{path} is damaged: it holds {what}")
        return ruleset, backend
