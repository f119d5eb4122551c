# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting this package, its command and its boot unit on the host: every file as a value, compared, then replaced in one moment."""

from __future__ import annotations

import hashlib
import importlib.util
import pathlib
import re
import shutil
import sys
from dataclasses import dataclass

from .._netfilter.persist import BOOT_UNIT, replace_file
from .._netfilter.runner import CommandError, Runner
from .._sip.errors import SipguardError
from . import cli as _command  # what the command imports is what gets installed

__all__ = ["COMMAND", "LIBRARY", "UNIT", "Installation", "Report"]

LIBRARY = "/usr/local/lib/sipguard"
COMMAND = "/usr/local/sbin/sipguard"
UNIT = BOOT_UNIT
WANTED = "/etc/systemd/system/multi-user.target.wants/sipguard-restore.service"

# The command itself must be loaded, and with it all it needs.
_LOADED = (_command.__name__,)
_NOT_LOADED = 5  # systemctl's exit status for a unit that systemd does not know (LSB: program is not installed)
_PACKAGES = ("_sip", "_netfilter", "_host")
_COMMAND_TEXT = """\
#!/usr/bin/python3 -I
# Written by sipguard.pbx. Changes made here are overwritten.
import sys

sys.dont_write_bytecode = True
sys.path.append("/usr/local/lib")
from sipguard._host.cli import main

sys.exit(main())
"""
# Other firewalls that start early flush what they find, so ours comes after them, and before the first packet.
_UNIT_TEXT = """\
# Written by sipguard.pbx. Changes made here are overwritten; use 'systemctl edit' for additions.
[Unit]
Description=SIP firewall of sipguard.pbx (sets, then rules)
Documentation=https://github.com/sipguard/pbx
DefaultDependencies=no
Wants=network-pre.target
After=local-fs.target systemd-modules-load.service systemd-sysctl.service netfilter-persistent.service nftables.service ufw.service
Before=network-pre.target shutdown.target asterisk.service freepbx.service
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/sipguard restore
# CAP_SYS_MODULE: iptables-legacy loads the modules of its tables by itself.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_MODULE
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Report:
    """What an installation changed; ``before`` and ``after`` are listings for a diff."""

    changed: bool
    before: str
    after: str
    version: str


def _sources() -> dict[str, str]:
    """This package's own files, relative path -> text, wherever Python has loaded them from (a directory, or Ansible's archive)."""
    root = __name__.rsplit(".", 2)[0]
    files = {"__init__.py": ""}
    for name in sorted(sys.modules):
        if not any(name == f"{root}.{package}" or name.startswith(f"{root}.{package}.") for package in _PACKAGES):
            continue
        found = importlib.util.find_spec(name)
        if found is None or found.loader is None:
            raise SipguardError(f"cannot find the source of {name}")
        is_package = found.submodule_search_locations is not None
        path = name[len(root) + 1 :].replace(".", "/")
        text = found.loader.get_source(name)  # type: ignore[attr-defined]
        files[f"{path}/__init__.py" if is_package else f"{path}.py"] = text or ""
    return files


class Installation:
    """Everything of ours on the host that is not rules. ``root`` is "/" or, for an image, the directory it is built in."""

    def __init__(self, runner: Runner, root: str = "/") -> None:
        self._runner = runner
        self._root = pathlib.Path(root)
        self._sources = _sources()
        joined = "\0".join(f"{path}\0{text}" for path, text in sorted(self._sources.items()))
        self.version = hashlib.sha256(joined.encode()).hexdigest()[:12]

    def _at(self, path: str) -> pathlib.Path:
        return self._root / path.lstrip("/")

    def _wanted(self) -> dict[str, tuple[str, int]]:
        """Files outside the library: path -> text and mode."""
        return {COMMAND: (_COMMAND_TEXT, 0o755), UNIT: (_UNIT_TEXT, 0o644)}

    def _library_is_right(self) -> bool:
        link = self._at(LIBRARY)
        if not link.is_symlink() or not link.resolve().is_dir():
            return False
        tree = link.resolve()
        there = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
        return there == set(self._sources) and all(
            (tree / path).read_bytes() == text.encode() for path, text in self._sources.items()
        )

    def _listing(self) -> list[str]:
        """What of ours is on the host, one line each; lines that are not in ``_complete`` have to be changed."""
        listing = []
        library = self._at(LIBRARY)
        if library.exists() and not library.is_symlink():
            raise SipguardError(f"{library} is a directory that sipguard did not make; move it away and run again")
        current = library.resolve() if library.is_symlink() else None
        if current is not None:
            listing.append(f"{LIBRARY} ({self.version if self._library_is_right() else 'another version'})")
        for path, (text, mode) in self._wanted().items():
            file = self._at(path)
            if file.exists():
                right = file.read_bytes() == text.encode() and file.stat().st_mode & 0o7777 == mode
                listing.append(path if right else f"{path} (edited)")
        wanted = self._at(WANTED)
        if wanted.is_symlink():
            listing.append(WANTED if str(wanted.readlink()) == UNIT else f"{WANTED} (edited)")
        return listing + [f"{tree} (left over)" for tree in self._trees() if tree != current]

    def _complete(self) -> list[str]:
        return [f"{LIBRARY} ({self.version})", *self._wanted(), WANTED]

    def install(self, check: bool) -> Report:
        """Put everything in place; raises SipguardError with the file that could not be written."""
        before, after = self._listing(), self._complete()
        if before != after and not check:
            try:
                if not self._library_is_right():
                    self._install_library()
                for old in self._trees():
                    if old != self._at(LIBRARY).resolve():
                        shutil.rmtree(old)
                for path, (text, mode) in self._wanted().items():
                    file = self._at(path)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    replace_file(file, text, mode)
                wanted = self._at(WANTED)
                wanted.parent.mkdir(parents=True, exist_ok=True)
                self._link(wanted, UNIT)
            except OSError as error:
                raise SipguardError(f"cannot install sipguard on this host: {error}") from error
            self._systemctl("daemon-reload")
        return self._report(before, after)

    def remove(self, check: bool) -> Report:
        """Take everything away again."""
        before = self._listing()
        if before and not check:
            # It stays "active" otherwise, as a unit without a file. Stopping it changes no rule.
            self._systemctl("stop", pathlib.Path(UNIT).name, tolerated=_NOT_LOADED)
            try:
                for path in (WANTED, UNIT, COMMAND, LIBRARY):
                    self._at(path).unlink(missing_ok=True)
                for tree in self._trees():
                    shutil.rmtree(tree)
            except OSError as error:
                raise SipguardError(f"cannot remove sipguard from this host: {error}") from error
            self._systemctl("daemon-reload")
        return self._report(before, [])

    def _report(self, before: list[str], after: list[str]) -> Report:
        return Report(
            before != after,
            "".join(f"{line}\n" for line in before),
            "".join(f"{line}\n" for line in after),
            self.version,
        )

    def _trees(self) -> list[pathlib.Path]:
        """Directories of this package in any version, whole or not; somebody else's may have a similar name."""
        link = self._at(LIBRARY)
        name = re.compile(re.escape(link.name) + r"-[0-9a-f]{12}(\.new)?")
        return [
            path for path in sorted(link.parent.glob(f"{link.name}-*")) if name.fullmatch(path.name) and path.is_dir()
        ]

    def _install_library(self) -> None:
        link = self._at(LIBRARY)
        tree = link.with_name(f"{link.name}-{self.version}")
        fresh = tree.with_name(f"{tree.name}.new")
        for unfinished in (fresh, tree):
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
        for path, text in self._sources.items():
            file = fresh / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            file.chmod(0o644)
        for directory in (fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
            directory.chmod(0o755)  # whatever the umask
        fresh.replace(tree)
        self._link(link, tree.name)

    @staticmethod
    def _link(link: pathlib.Path, target: str) -> None:
        temporary = link.with_name(f".{link.name}.new")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)

    def _systemctl(self, *arguments: str, tolerated: int = 0) -> None:
        """Tell the running systemd; there is none while an image is built. One exit status besides 0 may be ``tolerated``."""
        systemctl = self._runner.which("systemctl")
        if str(self._root) != "/" or systemctl is None or not pathlib.Path("/run/systemd/system").is_dir():
            return
        argv = [systemctl, *arguments]
        done = self._runner.run(argv)
        if done.returncode not in (0, tolerated):
            raise CommandError(argv, done)
