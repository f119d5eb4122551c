# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory of fail2ban's configuration: our files in it, other people's sections, and a copy to try a change on.

Later files win: jail.conf, jail.d/*.conf, jail.local, jail.d/*.local (jail.conf(5)). Ours are *.conf, so whatever the administrator
says in a *.local file, of our jails too, counts.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .._netfilter.persist import replace_file
from .._sip.errors import OptionError, SipguardError

__all__ = ["DIRECTORY", "Section", "Tree", "check_files", "enabled_jails", "sections"]

DIRECTORY = "/etc/fail2ban"
_FOLDERS = ("action.d", "fail2ban.d", "filter.d", "jail.d")
_NAME = re.compile(rf"(?:{'|'.join(re.escape(folder) for folder in _FOLDERS)})/sipguard[a-z0-9-]{{0,40}}\.conf")
_MAX_SIZE = 1048576  # bytes
# The package's own choice for its jail of sshd, nobody's decision.
_PACKAGED = "defaults-debian.conf"
# What fail2ban's own test lets pass, and its server does not (server/utils.py, str2seconds).
_TIME = re.compile(r"(\d+)\s*([a-z]*)\s*")
_UNITS = {
    "": 1,
    "s": 1,
    "sec": 1,
    "m": 60,
    "min": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
    "w": 604800,
    "week": 604800,
}
_UNITS |= {"mo": 2629746, "month": 2629746, "y": 31556952, "year": 31556952}
_LONGEST = 315569520  # s, ten years
_TIMES = ("bantime", "bantime.maxtime", "bantime.rndtime", "findtime", "dbpurgeage")
_OUR_ACTION = re.compile(r"sipguard(?:\[name=([^\],]*)\])?")
_MAX_NAME = 25  # jail-NAME4 in 31 characters (IPSET_MAXNAMELEN, include/uapi/linux/netfilter/ipset/ip_set.h)
_COUNT = re.compile(r"[1-9]\d{0,8}")
_TRUE = ("1", "on", "true", "yes")


def check_files(files: object, option: str) -> dict[str, str]:
    """Path below the directory -> text. Raises OptionError."""
    if not isinstance(files, Mapping):
        raise OptionError(option, files, "a dictionary of paths and texts would be right")
    for path, text in files.items():
        if not isinstance(path, str) or not _NAME.fullmatch(path):
            raise OptionError(option, path, f"sipguard*.conf in one of {', '.join(_FOLDERS)} would be right")
        if not isinstance(text, str) or not text.endswith("\n") or "\0" in text or len(text) > _MAX_SIZE:
            raise OptionError(f"{option}.{path}", "(its text)", "lines of text, at most 1 MiB, would be right")
        if path.startswith(("jail.d/", "fail2ban.d/")):
            _check_values(text, f"{option}.{path}")
    return {str(path): str(text) for path, text in files.items()}


def _seconds(text: str) -> int:
    """Of "600", "10m", "1d 12h", "2 weeks"; 0 for what is no time."""
    total, at = 0, 0
    while at < len(text):
        found = _TIME.match(text, at)
        unit = _UNITS.get(found[2], _UNITS.get(found[2].rstrip("s") or "s")) if found else None
        if found is None or unit is None or len(found[1]) > 12:
            return 0
        total, at = total + int(found[1]) * unit, found.end()
    return total


def _check_values(text: str, what: str) -> None:
    """Raise SipguardError for times and numbers that are none; what is interpolated is left to fail2ban."""
    for name, options in sections(text, what).items():
        for key, value in options.items():
            value = value.replace("%(__name__)s", name)
            if "%(" in value:
                continue
            if key in _TIMES and not (0 < _seconds(value) <= _LONGEST or (key == "bantime" and value == "-1")):
                raise OptionError(
                    f"{what} [{name}] {key}",
                    value,
                    "a time such as 600, 10m, 1h or 7d would be right, at most ten years",
                )
            named = _OUR_ACTION.fullmatch(value.strip()) if key == "action" else None
            if named and len((named[1] or "").strip() or name) > _MAX_NAME:
                raise OptionError(
                    f"{what} [{name}] {key}",
                    value,
                    f"a name of at most {_MAX_NAME} characters would be right: sets are called by it",
                )
            if key == "bantime" and _seconds(value) > _seconds(options.get("bantime.maxtime", value)):
                raise OptionError(
                    f"{what} [{name}] {key}",
                    value,
                    f"at most bantime.maxtime ({options['bantime.maxtime']}) would be right",
                )
            if key == "maxretry" and not _COUNT.fullmatch(value):
                raise OptionError(f"{what} [{name}] {key}", value, "a number of 1 or more would be right")


def sections(text: str, what: str) -> dict[str, dict[str, str]]:
    """Sections of a configuration file, nothing interpolated. Raises SipguardError."""
    parser = configparser.RawConfigParser(strict=False, default_section="", allow_no_value=True)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise SipguardError(f"{what}: {' '.join(str(error).split())}") from error
    return {name: {key: value or "" for key, value in parser.items(name)} for name in parser.sections()}


def enabled_jails(files: Mapping[str, str]) -> list[str]:
    """Jails that are on in these files."""
    return [
        name
        for path, text in sorted(files.items())
        if path.startswith("jail.d/")
        for name, options in sections(text, path).items()
        if options.get("enabled", "").lower() in _TRUE
    ]


@dataclass(frozen=True)
class Section:
    """A jail that somebody else has written something about."""

    name: str
    file: str
    options: Mapping[str, str]

    @property
    def filter(self) -> str:
        """By name; a jail without one has the filter of its own name (jail.conf)."""
        return (self.options.get("filter") or self.name).partition("[")[0].strip()

    @property
    def counts(self) -> bool:
        """Whether it is read after our files, so that it has the last word."""
        path = pathlib.PurePath(self.file)
        return path.suffix == ".local" or path.name > "sipguard"

    @property
    def off(self) -> bool:
        return self.options.get("enabled", "true").lower() not in _TRUE


class Tree:
    """One directory of configuration."""

    def __init__(self, directory: str = DIRECTORY) -> None:
        self._root = pathlib.Path(directory)

    @property
    def directory(self) -> str:
        return str(self._root)

    def exists(self) -> bool:
        return self._root.is_dir()

    def own(self) -> dict[str, str]:
        """Our files as they are. Raises SipguardError."""
        found = {}
        for folder in _FOLDERS:
            for path in sorted((self._root / folder).glob("sipguard*.conf")):
                try:
                    found[f"{folder}/{path.name}"] = path.read_text(encoding="utf-8", errors="backslashreplace")
                except OSError as error:
                    raise SipguardError(f"cannot read {path}: {error}") from error
        return found

    def foreign(self) -> list[Section]:
        """What the administrator, or another program, says of jails. What cannot be read fails fail2ban's own test."""
        paths = [self._root / "jail.local", *sorted((self._root / "jail.d").glob("*"))]
        found = []
        for path in paths:
            if path.suffix not in (".conf", ".local") or path.name == _PACKAGED or path.match("sipguard*.conf"):
                continue
            with contextlib.suppress(OSError, SipguardError):
                text = path.read_text(encoding="utf-8", errors="replace")
                for name, options in sections(text, str(path)).items():
                    found.append(Section(name, str(path), options))
        return found

    @contextlib.contextmanager
    def staged(self, files: Mapping[str, str]) -> Iterator[str]:
        """A directory that looks as this one would with ``files`` for ours; everything else in it is a link, no copy."""
        with tempfile.TemporaryDirectory(prefix="sipguard-") as aside:
            root = pathlib.Path(aside)
            try:
                for path in self._root.iterdir():
                    if path.name not in _FOLDERS:
                        (root / path.name).symlink_to(path)
                for folder in _FOLDERS:
                    (root / folder).mkdir()
                    for path in (self._root / folder).glob("*"):
                        if not path.match("sipguard*.conf"):
                            (root / folder / path.name).symlink_to(path)
                for name, text in files.items():
                    (root / name).write_text(text, encoding="utf-8")
            except OSError as error:
                raise SipguardError(f"cannot try out {self._root}: {error}") from error
            yield aside

    def put(self, files: Mapping[str, str], gone: Iterable[str]) -> None:
        """Make our files these. Raises SipguardError; what has been written until then stays written."""
        try:
            for name, text in sorted(files.items()):
                (self._root / name).parent.mkdir(mode=0o755, exist_ok=True)
                replace_file(self._root / name, text, 0o644)
            for name in gone:
                (self._root / name).unlink(missing_ok=True)
        except OSError as error:
            raise SipguardError(f"cannot write {self._root}: {error}") from error
        for folder in _FOLDERS:  # of a run that was killed
            for path in (self._root / folder).glob(".sipguard*.new"):
                with contextlib.suppress(OSError):
                    os.unlink(path)
