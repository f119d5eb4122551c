# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host loads at its next boot: our own chains, and who is trusted. Nothing that is running is decided by these files."""

from __future__ import annotations

import contextlib
import os
import pathlib

from .._sip.errors import SipguardError
from .names import FAMILIES, Family
from .ruleset import Ruleset, parse_save

__all__ = [
    "BOOT_PLUGIN",
    "BOOT_SETTINGS",
    "BOOT_UNIT",
    "DIRECTORY",
    "FILES",
    "MANIFEST",
    "NETFILTER_PERSISTENT",
    "SETS_FILE",
    "Store",
    "boot_loader",
    "boot_warning",
    "replace_file",
    "rules_file",
]

DIRECTORY = "/etc/sipguard"
SETS_FILE = "sets"
# What to do when one of the others cannot be used, see _host/emergency.py.
BOOT_SETTINGS = "boot.json"
FILES = ("rules.v4", "rules.v6", SETS_FILE, BOOT_SETTINGS)
# Which of the files there have to be: without it, one that got lost would look like one that was never needed.
MANIFEST = "manifest"
BOOT_UNIT = "/etc/systemd/system/sipguard-restore.service"
NETFILTER_PERSISTENT = "/usr/sbin/netfilter-persistent"
# It runs its plugins in the order of their names; Debian's own for IPv6 is 25-ip6tables.
BOOT_PLUGIN = "/usr/share/netfilter-persistent/plugins.d/90-sipguard"
_HEAD = "# Written by sipguard.pbx for the next boot (sipguard restore). Own chains only. Changes made here are overwritten.\n"
_MANIFEST_HEAD = (
    "# Written by sipguard.pbx: the files there have to be at the next boot. Changes made here are overwritten.\n"
)
_BACKEND = "# backend: "
_END = "# end\n"


def rules_file(family: Family) -> str:
    """Name of a family's file: rules.v4 or rules.v6."""
    return f"rules.v{family.version}"


def boot_loader() -> str | None:
    """What loads the files at boot: "systemd" (a unit of ours) or "netfilter-persistent" (a plugin of ours); None: nothing does."""
    if pathlib.Path(BOOT_UNIT).exists():
        return "systemd"
    if pathlib.Path(BOOT_PLUGIN).exists() and pathlib.Path(NETFILTER_PERSISTENT).exists():
        return "netfilter-persistent"
    return None


def boot_warning() -> str | None:
    """A sentence for whoever writes files that nothing loads, None where something does."""
    if boot_loader() is not None:
        return None
    return f"nothing on this host loads {DIRECTORY} at boot: install what does with sipguard.pbx.sipguard_host"


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

    @property
    def directory(self) -> str:
        return str(self._directory)

    def read(self, name: str) -> str | None:
        """A file's text, None when it is not there. Raises SipguardError when it cannot be read."""
        try:
            # Bytes that are no text are text that nobody has written, so that the next run finds a difference and repairs it.
            return (self._directory / name).read_text(encoding="utf-8", errors="backslashreplace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SipguardError(f"cannot read {self._directory / name}: {error}") from error

    def listed(self) -> frozenset[str]:
        """Names of the files there have to be. Raises SipguardError when that is not known any more."""
        text = self.read(MANIFEST)
        if text is None:
            return frozenset()
        if not text.endswith(_END):
            raise SipguardError(f"{self._directory / MANIFEST} is damaged: its end is missing")
        return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))

    def _listed_or_there(self) -> frozenset[str]:
        try:
            return self.listed()
        except SipguardError:
            # Whatever was listed, what is there is all that is left of it.
            return frozenset(name for name in FILES if (self._directory / name).exists())

    def differs(self, name: str, text: str | None) -> bool:
        """Whether ``write`` has anything to do."""
        if self.read(name) != text or _temporary(self._directory / name).exists():
            return True
        try:
            return (name in self.listed()) != (text is not None)
        except SipguardError:
            return True

    def write(self, name: str, text: str | None) -> None:
        """Make a file hold ``text`` (None: not exist). Raises SipguardError."""
        if not self.differs(name, text):
            return
        path = self._directory / name
        try:
            if text is None:
                self._list(self._listed_or_there() - {name})
                _temporary(path).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # somebody else's file may be left in it
                    self._directory.rmdir()
                return
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, text, 0o600)
            self._list(self._listed_or_there() | {name})
        except OSError as error:
            raise SipguardError(f"cannot write {path}: {error}") from error

    def _list(self, names: frozenset[str]) -> None:
        path = self._directory / MANIFEST
        if not names:
            _temporary(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            return
        text = _MANIFEST_HEAD + "".join(f"{name}\n" for name in sorted(names)) + _END
        if self._directory.is_dir() and self.read(MANIFEST) != text:
            replace_file(path, text, 0o600)

    @staticmethod
    def rules_text(rules: str, backend: str) -> str | None:
        """The file for one family's chains, given as iptables-save text; None when there are none."""
        return f"{_HEAD}{_BACKEND}{backend}\n{rules}{_END}" if rules else None

    def backend(self) -> str:
        """The backend of the files, as far as they can be read, else "auto": what the host's own commands have to work with."""
        for family in FAMILIES:
            with contextlib.suppress(SipguardError):
                found = self.read_rules(family)
                if found is not None:
                    return found[1]
        return "auto"

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
            if not text.endswith(_END):
                raise SipguardError("its end is missing")
        except SipguardError as error:
            raise SipguardError(f"{path} is damaged: {error}") from error
        foreign = [line for table in ruleset.tables.values() for line in table.foreign]
        chains = [rules for table in ruleset.tables.values() for rules in table.chains.values()]
        foreign += [rule.unread for rules in chains for rule in rules if rule.unread]
        if not backend or foreign or not ruleset.tables:
            what = f"a line that is not ours: {foreign[0]}" if foreign else "no rules of ours"
            raise SipguardError(f"{path} is damaged: it holds {what}")
        return ruleset, backend
