# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting this package, its command and its units on the host: every file as a value, compared, then replaced in one moment."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._netfilter.lock import DEFAULT_LOCK_TIMEOUT, exclusive
from .._netfilter.persist import (
    BOOT_PLUGIN,
    BOOT_SETTINGS,
    DIRECTORY,
    FILES,
    MANIFEST,
    NETFILTER_PERSISTENT,
    Store,
    replace_file,
)
from .._netfilter.runner import CommandError, Completed, Runner
from .._netfilter.switch_guard import STATE_DIRECTORY, read_pending
from .._sip.errors import OptionError, SipguardError
from .emergency import Settings
from .inspection import persistence_conflicts
from .places import (
    COMMAND,
    FEEDS,
    FEEDS_SERVICE,
    FEEDS_TIMER,
    FEEDS_WANTED,
    KEYS,
    LIBRARY,
    REPAIR_UNIT,
    SETS_UNIT,
    UNIT,
)
from .sipban import units as _sipban_units

if TYPE_CHECKING:  # Ansible's archive brings along whatever is imported anywhere. Nobody needs it loaded.
    from . import cli
    from .sipban import console, crowdsec, daemon

    _ARCHIVED = (cli, console, crowdsec, daemon)

__all__ = ["COMMAND", "LIBRARY", "PERSISTENCE", "REPAIR_UNIT", "UNIT", "Installation", "Report", "Setup"]

PERSISTENCE = ("systemd", "netfilter-persistent", "none")
_UNITS = "/etc/systemd/system"
SETS_PLUGIN = f"{pathlib.PurePath(BOOT_PLUGIN).parent}/12-sipguard"
DROP_IN = f"{_UNITS}/netfilter-persistent.service.d/sipguard.conf"
_PACKAGED_UNIT = "/lib/systemd/system/netfilter-persistent.service"

# What gets installed: the programs, what they load when they are asked for it, and all that these import.
_PROGRAMS = ("_host.cli", "_host.install", "_host.sipban.daemon", "_host.sipban.console", "_host.sipban.crowdsec")
_IMPORT = re.compile(r"^[ \t]*from (\.+)([\w.]*) import (?:\(([^)]*)\)|(.*))$", re.MULTILINE)
_NAME = re.compile(r"(\w+)(?: as \w+)?[ \t]*(?:#.*)?(?:,|$)", re.MULTILINE)
_TOP = pathlib.PurePath(__file__).parent.parent
_NOT_LOADED = 5  # systemctl's exit status for a unit that systemd does not know (LSB: program is not installed)
_COMMAND_TEXT = """\
#!/usr/bin/python3 -I
# Written by sipguard.pbx. Changes made here are overwritten.
import sys

sys.dont_write_bytecode = True
sys.path.append("/usr/local/lib")
from sipguard._host.cli import main

sys.exit(main())
"""
_UNIT_HEAD = """\
# Written by sipguard.pbx. Changes made here are overwritten; use 'systemctl edit' for additions.
[Unit]
Documentation=https://github.com/sipguard/pbx
"""
# CAP_SYS_MODULE: iptables-legacy loads the modules of its tables by itself.
_RIGHTS = """\
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_MODULE
NoNewPrivileges=yes
"""
# What sipband has written down is its own user's. (Containers mostly lack CAP_DAC_READ_SEARCH.)
_RIGHTS_AND_READING = _RIGHTS.replace("\n", " CAP_DAC_OVERRIDE\n", 1)
# Other firewalls that start early flush what they find, so ours comes after them, and before the first packet.
_UNIT_TEXT = f"""\
{_UNIT_HEAD}Description=SIP firewall of sipguard.pbx (sets, then rules)
DefaultDependencies=no
Wants=network-pre.target
After=local-fs.target systemd-modules-load.service systemd-sysctl.service
After=netfilter-persistent.service nftables.service ufw.service firewalld.service
Before=network-pre.target shutdown.target asterisk.service freepbx.service
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={COMMAND} restore
{_RIGHTS_AND_READING}
[Install]
WantedBy=multi-user.target
"""
# Rules of ours that somebody has saved with netfilter-persistent name sets of ours, and without these it would load nothing at all.
_SETS_UNIT_TEXT = f"""\
{_UNIT_HEAD}Description=Sets of sipguard.pbx, before netfilter-persistent loads saved rules that name them
DefaultDependencies=no
ConditionPathExists={NETFILTER_PERSISTENT}
After=local-fs.target systemd-modules-load.service
Before=netfilter-persistent.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={COMMAND} restore --sets
{_RIGHTS}
[Install]
WantedBy=multi-user.target
"""
_REPAIR_UNIT_TEXT = f"""\
{_UNIT_HEAD}Description=Puts the SIP firewall of sipguard.pbx back when another program flushes it
After=sipguard-restore.service netfilter-persistent.service

[Service]
Type=simple
ExecStart={COMMAND} repair --watch
Restart=always
RestartSec=30
# A repair that has begun is carried out.
KillMode=mixed
Nice=10
{_RIGHTS}ProtectSystem=yes
ProtectHome=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""
# run-parts(8) starts the plugins of netfilter-persistent in the order of their names: 10-ipset, ours, 15-ip4tables, 25-ip6tables, ours.
_PLUGIN_TEXT = """\
#!/bin/sh
# Written by sipguard.pbx. Changes made here are overwritten.
# {what}
# Nothing is done for save, which would store other people's rules as well, nor for flush: sipguard-repair.service takes
# it for an accident, and has to be stopped first by whoever means it.
case "$1" in
start | restart | reload | force-reload) exec {command} ;;
esac
"""
_SETS_PLUGIN_TEXT = _PLUGIN_TEXT.format(what="Sets that saved rules may name.", command=f"{COMMAND} restore --sets")
_BOOT_PLUGIN_TEXT = _PLUGIN_TEXT.format(
    what="The rules of /etc/sipguard, after all saved ones.", command=f"{COMMAND} restore"
)
_DROP_IN_TEXT = """\
# Written by sipguard.pbx. Changes made here are overwritten.
[Unit]
After=nftables.service firewalld.service
Before=asterisk.service freepbx.service
"""


def _wants(unit: str) -> str:
    return f"{_UNITS}/multi-user.target.wants/{pathlib.PurePath(unit).name}"


_File = tuple[str, int]  # text and mode
_ALWAYS: dict[str, _File] = {COMMAND: (_COMMAND_TEXT, 0o755)}
_BY_MODE: dict[str, dict[str, _File]] = {
    "systemd": {UNIT: (_UNIT_TEXT, 0o644), SETS_UNIT: (_SETS_UNIT_TEXT, 0o644)},
    "netfilter-persistent": {
        SETS_PLUGIN: (_SETS_PLUGIN_TEXT, 0o755),
        BOOT_PLUGIN: (_BOOT_PLUGIN_TEXT, 0o755),
        DROP_IN: (_DROP_IN_TEXT, 0o644),
    },
    "none": {},
}
_REPAIR: dict[str, _File] = {REPAIR_UNIT: (_REPAIR_UNIT_TEXT, 0o644)}
_EVERY_FILE = {**_ALWAYS, **_BY_MODE["systemd"], **_BY_MODE["netfilter-persistent"], **_REPAIR}
# Units of ours, in the order in which they are stopped, each with the link that enables it.
_ENABLED = {unit: _wants(unit) for unit in (REPAIR_UNIT, UNIT, SETS_UNIT)}


@dataclass(frozen=True)
class Setup:
    """What a host is meant to have: ``persistence`` is one of PERSISTENCE; without it there is nothing to repair from either."""

    persistence: str = "systemd"
    repair: bool = True
    settings: Settings = field(default_factory=Settings)

    @property
    def repairs(self) -> bool:
        return self.repair and self.persistence != "none"

    def files(self) -> dict[str, _File]:
        """Path -> text and mode, the library and boot.json aside."""
        return {**_ALWAYS, **_BY_MODE[self.persistence], **(_REPAIR if self.repairs else {})}

    def links(self) -> dict[str, str]:
        """Links that have to lead somewhere: path -> target."""
        found = {link: unit for unit, link in _ENABLED.items() if unit in self.files()}
        if self.persistence == "netfilter-persistent":
            found[_wants(_PACKAGED_UNIT)] = _PACKAGED_UNIT
        return found


@dataclass(frozen=True)
class Report:
    """What an installation changed; ``before`` and ``after`` are listings for a diff."""

    changed: bool
    before: str
    after: str
    version: str


_RUNNING, _STOPPED = "sipguard-repair.service (running)", "sipguard-repair.service (stopped)"
_TIMER_RUNNING, _TIMER_STOPPED = "sipguard-feeds.timer (running)", "sipguard-feeds.timer (stopped)"
# What a host gathers while it runs.
_DATA = [
    f"{DIRECTORY}/{prefix}{name}{suffix}" for name in (*FILES, MANIFEST) for prefix, suffix in (("", ""), (".", ".new"))
]
for _path in map(pathlib.PurePath, (FEEDS, KEYS)):
    _DATA += [str(_path), str(_path.with_name(f".{_path.name}.new"))]
_DATA.append(STATE_DIRECTORY)
# Units of the feeds, in the order in which they are stopped: their text depends on the feeds there are.
_FEED_UNITS = (FEEDS_TIMER, FEEDS_SERVICE)


def _settings_line(text: str) -> str:
    return f"{DIRECTORY}/{BOOT_SETTINGS}: {' '.join(text.split())}"


def _sources() -> dict[str, str]:
    """The programs' own files, relative path -> text, from wherever Python finds them (a directory, or Ansible's archive).

    Imports are followed in the text: to load the programs would cost a module that changes nothing most of its time.
    """
    files = {"__init__.py": ""}
    for name in _PROGRAMS:
        _gather(tuple(name.split(".")), files)
        if f"{name.replace('.', '/')}.py" not in files:
            raise SipguardError(f"cannot find the source of {name}")
    return files


def _gather(parts: tuple[str, ...], files: dict[str, str]) -> None:
    """Add the module or package of that name, if there is one, with the packages it is in and all that it imports."""
    name = "/".join(parts)
    for path, package in ((f"{name}.py", parts[:-1]), (f"{name}/__init__.py", parts)):
        if path in files:
            return
        try:
            # importlib's find_spec would compile every file that it finds in an archive.
            files[path] = __spec__.loader.get_data(str(_TOP / path)).decode()  # type: ignore[union-attr]
        except OSError:
            continue
        if parts[:-1]:
            _gather(parts[:-1], files)
        for dots, module, several, one in _IMPORT.findall(files[path]):
            source = (*package[: len(package) + 1 - len(dots)], *filter(None, module.split(".")))
            if source:
                _gather(source, files)
            if f"{'/'.join(source)}.py" not in files:  # of a package: what is imported may be a module
                for imported in _NAME.findall(several or one):
                    _gather((*source, imported), files)
        return


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

    def _library_is_right(self) -> bool:
        link = self._at(LIBRARY)
        if not link.is_symlink() or not link.resolve().is_dir():
            return False
        tree = link.resolve()
        there = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
        return there == set(self._sources) and all(
            (tree / path).read_bytes() == text.encode() for path, text in self._sources.items()
        )

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """The host's lock, held no longer than files are written that other runs write as well."""
        return exclusive(DEFAULT_LOCK_TIMEOUT, str(self._root) == "/")

    @property
    def _store(self) -> Store:
        return Store(str(self._at(DIRECTORY)))

    def _listing(self) -> list[str]:
        """What of ours is on the host, one line each; lines that are not in ``_complete`` have to be changed."""
        listing = []
        library = self._at(LIBRARY)
        if library.exists() and not library.is_symlink():
            raise SipguardError(f"{library} is a directory that sipguard did not make; move it away and run again")
        current = library.resolve() if library.is_symlink() else None
        if current is not None:
            listing.append(f"{LIBRARY} ({self.version if self._library_is_right() else 'another version'})")
        for path, (text, mode) in _EVERY_FILE.items():
            file = self._at(path)
            if file.exists():
                right = file.read_bytes() == text.encode() and file.stat().st_mode & 0o7777 == mode
                listing.append(path if right else f"{path} (edited)")
        for unit, path in _ENABLED.items():
            link = self._at(path)
            if link.is_symlink():
                listing.append(path if str(link.readlink()) == unit else f"{path} (edited)")
        return listing + [f"{tree} (left over)" for tree in self._trees() if tree != current]

    def _here(self, setup: Setup) -> list[str]:
        """The same, with what is ours only as long as it is wanted."""
        listing = self._listing()
        foreign = [path for path in setup.links() if path not in _ENABLED.values()]
        listing += [path for path in foreign if self._at(path).is_symlink()]
        text = self._store.read(BOOT_SETTINGS)
        if text is not None:
            whole = not self._store.differs(BOOT_SETTINGS, text)
            listing.append(_settings_line(text) + ("" if whole else " (damaged)"))
        if setup.repairs and self._is_booted() and self._at(REPAIR_UNIT).exists():
            listing.append(_RUNNING if self._is_running(REPAIR_UNIT) else _STOPPED)
        return listing

    def _complete(self, setup: Setup) -> list[str]:
        files, links = setup.files(), setup.links()
        listing = [f"{LIBRARY} ({self.version})", *(path for path in _EVERY_FILE if path in files)]
        listing += [*(link for link in _ENABLED.values() if link in links)]
        listing += [link for link in links if link not in _ENABLED.values()]
        listing.append(_settings_line(setup.settings.render()))
        return listing + ([_RUNNING] if setup.repairs and self._is_booted() else [])

    def install(self, setup: Setup, check: bool) -> Report:
        """Put everything in place; raises SipguardError with the file that could not be written."""
        if setup.persistence == "netfilter-persistent":
            self._require_netfilter_persistent(check)
        before, after = self._here(setup), self._complete(setup)
        if before != after and not check:
            files, links = setup.files(), setup.links()
            changed = set(before) ^ set(after)
            self._stop([unit for unit in _ENABLED if unit not in files and self._at(unit).exists()])
            try:
                self._install_code()
                with self._alone():
                    self._store.write(BOOT_SETTINGS, setup.settings.render())
                self._write(files)
                for path, target in links.items():
                    link = self._at(path)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    if path in _ENABLED.values() or not link.is_symlink():
                        self._link(link, target)
                self._unlink([path for path in (*_ENABLED.values(), *_EVERY_FILE) if path not in {**files, **links}])
            except OSError as error:
                raise SipguardError(f"cannot install sipguard on this host: {error}") from error
            if any(line.startswith(_UNITS) for line in changed):
                self._systemctl("daemon-reload")
            if setup.repairs and changed - {line for line in changed if line.startswith(DIRECTORY)}:
                self._systemctl("restart", pathlib.PurePath(REPAIR_UNIT).name)
        return self._report(before, after)

    def install_command(self, check: bool) -> Report:
        """Put the code and the command in place, and leave units and settings as they are. Raises SipguardError."""
        code = (*_ALWAYS, LIBRARY)
        before = [line for line in self._listing() if line.startswith(code)]
        after = [f"{LIBRARY} ({self.version})", *_ALWAYS]
        if before != after and not check:
            try:
                self._install_code()
                self._write(_ALWAYS)
            except OSError as error:
                raise SipguardError(f"cannot install sipguard on this host: {error}") from error
        return self._report(before, after)

    def install_feeds(self, wanted: Mapping[str, str], check: bool) -> Report:
        """Make the units of the feeds what is wanted (path -> text), with the timer running; without any they go.

        Raises SipguardError.
        """
        link, timer = self._at(FEEDS_WANTED), self._at(FEEDS_TIMER)
        before = []
        for path in _FEED_UNITS:
            file = self._at(path)
            if file.exists():
                before.append(path if file.read_bytes() == wanted.get(path, "").encode() else f"{path} (outdated)")
        if link.is_symlink():
            before.append(FEEDS_WANTED)
        if timer.exists() and self._is_booted():
            before.append(_TIMER_RUNNING if self._is_running(FEEDS_TIMER) else _TIMER_STOPPED)
        after = [*(path for path in _FEED_UNITS if path in wanted), *([FEEDS_WANTED] if wanted else [])]
        after += [_TIMER_RUNNING] if wanted and self._is_booted() else []
        if before != after and not check:
            if not wanted:
                self._stop(list(_FEED_UNITS))
            try:
                self._write({path: (text, 0o644) for path, text in wanted.items()})
                if wanted and not link.is_symlink():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    self._link(link, FEEDS_TIMER)
                self._unlink([] if wanted else [FEEDS_WANTED, *_FEED_UNITS])
            except OSError as error:
                raise SipguardError(f"cannot install the units of the feeds: {error}") from error
            self._systemctl("daemon-reload")
            if wanted:
                self._systemctl("restart", pathlib.PurePath(FEEDS_TIMER).name)
            else:
                self._forget_failures()
        return self._report(before, after)

    def _forget_failures(self) -> None:
        """A unit that is gone would stay among those that have failed."""
        if self._is_booted():
            self._run("reset-failed", pathlib.PurePath(FEEDS_SERVICE).name)

    def _install_code(self) -> None:
        if not self._library_is_right():
            self._install_library()
        for old in self._trees():
            if old != self._at(LIBRARY).resolve():
                shutil.rmtree(old)

    def _write(self, files: Mapping[str, _File]) -> None:
        for path, (text, mode) in files.items():
            file = self._at(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists() or file.read_bytes() != text.encode() or file.stat().st_mode & 0o7777 != mode:
                replace_file(file, text, mode)

    def remove(self, check: bool) -> Report:
        """Take everything away again; raises SipguardError as long as a change of the rules waits to be confirmed."""
        if str(self._root) == "/":
            pending = read_pending()
            if pending is not None and pending.left() > 0:
                raise SipguardError(
                    f"the change {pending.cookie} of the rules waits to be confirmed, and without sipguard nobody could take it back: "
                    "'sipguard confirm' or 'sipguard rollback' first"
                )
        if self._at(_sipban_units.SERVICE).exists():
            raise SipguardError(
                "sipband runs on this host with sipguard's library: take it away first (pbx_sipban_state: absent)"
            )
        units = [path for path in (*_FEED_UNITS, FEEDS_WANTED) if os.path.lexists(self._at(path))]
        before = self._listing() + units + [path for path in _DATA if self._at(path).exists()]
        if before and not check:
            # They stay "active" otherwise, as units without a file. Stopping them changes no rule.
            self._stop([*(path for path in _FEED_UNITS if path in units), *_ENABLED])
            try:
                with self._alone():
                    self._unlink([*_ENABLED.values(), *_EVERY_FILE, *units, LIBRARY, *_DATA])
                for tree in self._trees():
                    shutil.rmtree(tree)
                with contextlib.suppress(OSError):  # somebody else's file may be left in it
                    self._at(DIRECTORY).rmdir()
            except OSError as error:
                raise SipguardError(f"cannot remove sipguard from this host: {error}") from error
            self._systemctl("daemon-reload")
            if units:
                self._forget_failures()
        return self._report(before, [])

    def _require_netfilter_persistent(self, check: bool) -> None:
        """Raise OptionError unless it would load our plugins at boot; in check mode the package may still be missing."""
        masked = self._at(f"{_UNITS}/netfilter-persistent.service")
        if masked.is_symlink() and str(masked.readlink()) == "/dev/null":
            problem = "netfilter-persistent.service is masked on this host: 'systemctl unmask' it, or use 'systemd'"
        elif self._at(NETFILTER_PERSISTENT).exists():
            return
        elif persistence_conflicts(str(self._root)):
            problem = persistence_conflicts(str(self._root))[0]
        elif check:
            return
        else:
            problem = "the package 'netfilter-persistent' is not installed on this host: install it, or use 'systemd'"
        raise OptionError("persistence", "netfilter-persistent", problem)

    def _unlink(self, paths: list[str]) -> None:
        for path in paths:
            file = self._at(path)
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else's drop-in may be there as well
            self._at(DROP_IN).parent.rmdir()

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

    def _stop(self, units: list[str]) -> None:
        for unit in units:
            self._systemctl("stop", pathlib.PurePath(unit).name, tolerated=_NOT_LOADED)

    def _is_booted(self) -> bool:
        """Whether a systemd runs here; there is none while an image is built."""
        return (
            str(self._root) == "/"
            and self._runner.which("systemctl") is not None
            and pathlib.Path("/run/systemd/system").is_dir()
        )

    def _is_running(self, unit: str) -> bool:
        return self._run("is-active", "--quiet", pathlib.PurePath(unit).name)[1].returncode == 0

    def _run(self, *arguments: str) -> tuple[list[str], Completed]:
        argv = [self._runner.which("systemctl") or "systemctl", *arguments]
        return argv, self._runner.run(argv)

    def _systemctl(self, *arguments: str, tolerated: int = 0) -> None:
        """Tell the running systemd. One exit status besides 0 may be ``tolerated``."""
        if not self._is_booted():
            return
        argv, done = self._run(*arguments)
        if done.returncode not in (0, tolerated):
            raise CommandError(argv, done)
