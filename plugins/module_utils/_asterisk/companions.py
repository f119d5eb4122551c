# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""logger.conf for who reads Asterisk's log, and manager.conf for who listens to its events. Both only on request.

Asterisk's plain log can be forged by what a stranger writes into a header: a decoded line feed begins a line of its own. The files that
are set up here therefore keep notices and warnings apart from security events, and these are written as JSON, in which it cannot. (A
telephone that has logged in can still forge a notice by the number it dials.)
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pwd
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .._sip.errors import OptionError
from .catalogue import Setting
from .freepbx import FreePBX
from .planner import Plan, make_sections
from .proof import require_editable
from .settings import Satisfied
from .transaction import open_folder_of
from .tree import ConfigDirectory, Tree, is_true, load

__all__ = [
    "LOG_FILES",
    "Logger",
    "Manager",
    "parse_logger",
    "parse_manager",
    "plan_logger",
    "plan_manager",
    "prepare_files",
    "reachable_at",
    "secret_of",
]

LOG_FILES = {"sipguard-notices": "[json]notice,warning", "sipguard-security": "[json]security"}
_DATE = "%F %T"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_FORMATS = ("", "[default]", "[json]", "[plain]")
_LEVELS = ("notice", "warning", "error", "debug", "verbose", "dtmf", "fax", "security")
_WITH_YEAR = re.compile(r"%[FYcDGx+]")
_USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}")
_SECRET = re.compile(r"[A-Za-z0-9_.~+/=-]{16,128}")
_LOOPBACK = ("127.0.0.1/255.255.255.255", "::1/128")


@dataclass(frozen=True)
class Logger:
    """Log files below Asterisk's log directory (name -> levels as in logger.conf), and the format of dates."""

    files: Mapping[str, str]
    dateformat: str


@dataclass(frozen=True)
class Manager:
    """A user of the manager interface who may read security events from this host, and nothing else.

    Without a ``secret`` the host keeps the one it has, or makes one.
    """

    user: str
    secret: str


def parse_logger(options: object) -> Logger:
    """The option ``logger``. Raises OptionError."""
    given = _mapping(options, "logger", ("files", "dateformat"))
    files = given.get("files")
    files = LOG_FILES if files is None else _mapping(files, "logger.files")
    for name, levels in files.items():
        if not _FILE_NAME.fullmatch(str(name)):
            raise OptionError("logger.files", name, "a file name of letters, digits, dots and hyphens would be right")
        _check_levels(str(name), levels)
    dateformat = given.get("dateformat", _DATE)
    if not isinstance(dateformat, str) or not dateformat.isprintable() or len(dateformat) > 60:
        raise OptionError("logger.dateformat", dateformat, "a format of strftime such as '%F %T' would be right")
    return Logger({str(name): str(levels) for name, levels in files.items()}, dateformat)


def _check_levels(name: str, levels: object) -> None:
    match = re.fullmatch(r"(\[[a-z]+\])?(.*)", levels) if isinstance(levels, str) else None
    words = match.group(2).split(",") if match else []
    good = match is not None and (match.group(1) or "") in _FORMATS
    for word in words:
        good = good and re.sub(r"\([0-9]\)$", "", word) in _LEVELS
    if not good:
        raise OptionError(
            f"logger.files.{name}",
            levels,
            f"levels of {', '.join(_LEVELS)} would be right, with [json] before them or not",
        )


def parse_manager(options: object) -> Manager:
    """The option ``manager``. Raises OptionError, never with the secret."""
    given = _mapping(options, "manager", ("user", "secret"))
    user, secret = given.get("user", "sipguard"), given.get("secret") or ""
    if not isinstance(user, str) or not _USER_NAME.fullmatch(user) or user.lower() == "general":
        raise OptionError("manager.user", user, "a name of letters, digits, hyphens and underscores would be right")
    if not isinstance(secret, str) or (secret and not _SECRET.fullmatch(secret)):
        raise OptionError("manager.secret", "(hidden)", "16 to 128 letters, digits and signs of _.~+/=- would be right")
    return Manager(user, secret)


def _mapping(value: object, name: str, keys: tuple[str, ...] = ()) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise OptionError(name, value, "a dictionary would be right")
    for key in value:
        if keys and key not in keys:
            raise OptionError(name, key, f"one of {', '.join(keys)} would be right")
    return {str(key): each for key, each in value.items()}


def plan_logger(directory: ConfigDirectory, logger: Logger, host: FreePBX | None) -> Plan:
    """Log files that can be read by a program. Raises SipguardError."""
    tree = load(directory, "logger.conf")
    general: list[Setting] = []
    if logger.dateformat:
        found = tree.first("general")
        # the first one counts, so what FreePBX generates cannot be changed behind it; any date with a year will do
        date = found.first("dateformat") if found else None
        if date is None or (host is None and not _WITH_YEAR.search(date.value)):
            why = "a date without its year is ambiguous"
            general.append(_setting("logger.conf", "general", "dateformat", logger.dateformat, why))
    why = "notices apart from security events, and these as JSON, so that no stranger writes a line of his own"
    files = [_setting("logger.conf", "logfiles", name, levels, why) for name, levels in logger.files.items()]
    sections = [("general", general), ("logfiles", files)]
    return make_sections(directory, tree, [each for each in sections if each[1]], host)


def prepare_files(directory: str, names: Iterable[str], user: str) -> None:
    """Make the log files, for Asterisk's user and its group alone: answers to challenges are written into one of them.

    Asterisk itself would make them readable by everybody, and keeps the mode of files that are there. Nothing is made in a folder in
    which that user may make nothing.
    """
    with contextlib.suppress(OSError, KeyError):
        entry = pwd.getpwnam(user)
        folder = open_folder_of(directory, entry.pw_uid, entry.pw_gid)
        try:
            for name in names:
                flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                with contextlib.suppress(OSError):
                    file = os.open(name, flags, 0o640, dir_fd=folder)
                    try:
                        about = os.fstat(file)
                        if stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
                            os.fchown(file, entry.pw_uid, entry.pw_gid)
                            os.fchmod(file, 0o640)
                    finally:
                        os.close(file)
        finally:
            os.close(folder)


def secret_of(tree: Tree, manager: Manager) -> str:
    """The user's secret: the one that is wanted, else the one that the host has, else a new one."""
    user = tree.first(manager.user)
    old = user.last("secret") if user else None
    return manager.secret or (old.value if old and len(old.value) >= 16 else secrets.token_urlsafe(32))


def plan_manager(directory: ConfigDirectory, manager: Manager, secret: str, host: FreePBX | None) -> Plan:
    """A user with that secret for security events, and AMI on loopback where it was off. Raises SipguardError."""
    tree = load(directory, "manager.conf")
    require_editable(tree)
    section = tree.first("general")
    enabled = section.last("enabled") if section else None
    general: list[Setting] = []
    listens = section.last("bindaddr") if section else None
    bind = listens.value if listens else ""
    if enabled is None or not is_true(enabled.value):
        why = "sipguard listens to security events; from this host alone"
        general = [
            _setting("manager.conf", "general", "enabled", "yes", why, kind="bool", default="no"),
            _setting("manager.conf", "general", "bindaddr", "127.0.0.1", why),
        ]
        bind = ""
    why = "reads security events and may do nothing"
    mine = [
        _setting("manager.conf", "user", "secret", secret, "nobody knows it but this host"),
        _setting("manager.conf", "user", "deny", "", why, kind="list", values=("0.0.0.0/0.0.0.0", "::/0")),
        _setting("manager.conf", "user", "permit", "", why, kind="list", values=_permitted(bind)),
        _setting("manager.conf", "user", "read", "security", why),
        _setting("manager.conf", "user", "write", "", why),
    ]
    sections = [("general", general), (manager.user, mine)]
    return make_sections(directory, tree, [each for each in sections if each[1]], host)


def reachable_at(bind: str) -> str:
    """The address at which AMI can be reached from this host when it listens to ``bind``."""
    # Asterisk leaves out a port that stands there.
    found = re.fullmatch(r"\[(.*)\](?::[0-9]+)?|([0-9.]+):[0-9]+", bind)
    try:
        address = ipaddress.ip_address((found[1] or found[2]) if found else bind)
    except ValueError:
        return "127.0.0.1"
    if address.is_unspecified:
        return "127.0.0.1"
    return str(address)


def _permitted(bind: str) -> tuple[str, ...]:
    """This host alone, by every address under which it calls itself."""
    own = ipaddress.ip_address(reachable_at(bind))
    if own.is_loopback:
        return _LOOPBACK
    return (*_LOOPBACK, f"{own}/{'255.255.255.255' if own.version == 4 else '128'}")


def _setting(
    file: str,
    scope: str,
    option: str,
    value: str,
    why: str,
    kind: str = "text",
    values: tuple[str, ...] = (),
    default: str = "",
) -> Setting:
    return Setting(
        f"{file}.{scope}.{option}",
        file,
        scope,
        option,
        value,
        why,
        "",
        kind=kind,
        values=values,
        default=default,
        satisfied_by=Satisfied(),
    )
