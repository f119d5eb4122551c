# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asterisk's command line, asked by ``asterisk -rx``, one process for each question (about 15 ms).

As Asterisk 16.28 and 22.10 behave:

- Not running: exit status 1, ``Unable to connect to remote asterisk`` on standard error, nothing of use on standard output.
- Unknown command, unknown object, a reload that went wrong: exit status 0, and words on standard output. So the status says nothing.
- A host without a network card prints a remark about the "global EID" before every answer, on standard output.
- The text is cut into words at blanks; quotes and backslashes in it are taken away. Names that hold such characters cannot be asked for.
- ``sip show users`` and ``pjsip show auth`` print passwords in clear. They are never called.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field

from .._sip.errors import OptionError, SipguardError
from .runner import Completed, Runner, within

__all__ = ["Cli", "NoSuchCommand", "NotRunning", "Version", "clean"]

_TIME_LIMIT = 30  # seconds for one command
_TIMED_OUT = (124, 137)  # timeout(1): ended, killed
_CONFIG_DIR = "/etc/asterisk"
_REMARK = "No ethernet interface"
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_DIRECTORIES = {
    "astetcdir": (_CONFIG_DIR, "Configuration directory"),
    "astlogdir": ("/var/log/asterisk", "Log directory"),
    "astrundir": ("/var/run/asterisk", "Run/Sockets directory"),
    "astdatadir": ("/usr/share/asterisk", "Data directory"),
}


class NotRunning(SipguardError):
    """No Asterisk answers."""


class NoSuchCommand(SipguardError):
    """Asterisk does not know the command, mostly because the module that has it is not loaded."""


@dataclass(frozen=True, order=True)
class Version:
    """Compares by number; ``text`` is Asterisk's own, such as ``16.28.0~dfsg-0+deb11u10`` or ``certified/18.9-cert4``."""

    major: int
    minor: int = 0
    patch: int = 0
    text: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """From what ``core show version`` or ``asterisk -V`` prints; None when that is no version."""
        said = re.search(r"\bAsterisk (\S+)", text)
        numbers = re.search(r"(?:^|[/-])(\d+)(?:\.(\d+))?(?:\.(\d+))?", said[1]) if said else None
        if said is None or numbers is None:
            return None
        major, minor, patch = (int(number or 0) for number in numbers.groups())
        return cls(major, minor, patch, said[1])


def clean(text: str, limit: int = 80) -> str:
    """Text of unknown origin as it may be shown: ASCII, without control characters, cut."""
    return ascii(text)[1:-1][:limit]


class Cli:
    """Questions to the Asterisk whose configuration is in ``config_dir``. Every method may raise NotRunning or SipguardError."""

    def __init__(self, runner: Runner, config_dir: str = _CONFIG_DIR) -> None:
        self._runner = runner
        self.config_dir = config_dir.rstrip("/") or "/"

    # -- one command

    def _run(self, *argv: str) -> Completed:
        asterisk = self._runner.which("asterisk")
        if asterisk is None:
            raise NotRunning("the command asterisk was not found: is Asterisk installed on this host?")
        done = self._runner.run([*within(self._runner, _TIME_LIMIT), asterisk, *argv])
        if done.returncode in _TIMED_OUT:
            raise SipguardError(f"Asterisk has not answered {clean(argv[-1])!r} within {_TIME_LIMIT} seconds")
        return done

    def command(self, text: str) -> str:
        """What Asterisk answers. Raises NotRunning, or NoSuchCommand. Names in ``text`` have to come from `argument`."""
        where = [] if self.config_dir == _CONFIG_DIR else ["-C", f"{self.config_dir}/asterisk.conf"]
        done = self._run(*where, "-rx", text)
        lines = [line for line in _ESCAPES.sub("", done.stdout).splitlines() if not line.startswith(_REMARK)]
        if done.returncode != 0 or "Unable to connect to remote asterisk" in done.stdout + done.stderr:
            raise NotRunning(
                "Asterisk does not answer on its control socket: it is not running, or this user may not ask it"
            )
        if lines and lines[0].startswith("No such command '"):
            raise NoSuchCommand(f"Asterisk knows no command {clean(text)!r}: its module is not loaded")
        return "\n".join(lines)

    @staticmethod
    def usable(name: str) -> bool:
        """Whether a name can be part of a command: no blanks, quotes, backslashes or control characters."""
        return bool(name) and len(name) <= 200 and name.isprintable() and not re.search(r"[\s\"'\\;]", name)

    @classmethod
    def argument(cls, name: str) -> str:
        """``name``, when it can be part of a command; else OptionError."""
        if not cls.usable(name):
            raise OptionError(
                "name", clean(name), "Asterisk cannot be asked for a name with blanks, quotes or control characters"
            )
        return name

    # -- the process

    def running(self) -> bool:
        """Whether Asterisk answers."""
        try:
            self.command("core show version")
        except NotRunning:
            return False
        return True

    def version(self) -> Version | None:
        """Of the Asterisk that runs; when none does, of the program; None without one."""
        try:
            return Version.parse(self.command("core show version"))
        except NotRunning:
            if self._runner.which("asterisk") is None:
                return None
            return Version.parse(self._run("-V").stdout)

    def identity(self) -> str:
        """Differs after a restart: the process, its start in clock ticks, and the time of day at which Asterisk began.

        ``core restart`` begins anew within the same process.
        """
        pid, began = self.pid(), self._settings().get("Startup time", "")
        if pid is not None:
            with (
                contextlib.suppress(OSError, IndexError),
                open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat,
            ):
                return f"{pid}.{stat.read().rpartition(')')[2].split()[19]}.{began}"
        return began

    def pid(self) -> int | None:
        """The number of Asterisk's process, None when it cannot be known."""
        path = self._settings().get("PID file", "")
        try:
            with open(path, encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError):
            return None

    def modules(self) -> frozenset[str]:
        """The names of the modules that run, without ``.so``."""
        found = re.findall(r"^(\S+) .* \d+ +Running +\S", self.command("module show"), re.MULTILINE)
        return frozenset(name[: -len(".so")] if name.endswith(".so") else name for name in found)

    def channels(self) -> int:
        """How many channels there are; each side of a call is one."""
        found = re.search(r"^(\d+) active channels?$", self.command("core show channels count"), re.MULTILINE)
        if found is None:
            raise SipguardError("Asterisk does not say how many channels there are")
        return int(found[1])

    # -- folders

    def _settings(self) -> dict[str, str]:
        pairs = (line.partition(":") for line in self.command("core show settings").splitlines())
        return {label.strip(): value.strip() for label, dummy, value in pairs}

    def directories(self) -> dict[str, str]:
        """astetcdir, astlogdir, astrundir and astdatadir, as the Asterisk that runs has them, else as asterisk.conf says."""
        found = {name: default for name, (default, dummy) in _DIRECTORIES.items()}
        found["astetcdir"] = self.config_dir
        try:
            settings = self._settings()
        except NotRunning:
            found.update(self._configured())
            return found
        for name, (dummy, label) in _DIRECTORIES.items():
            found[name] = settings.get(label) or found[name]
        return found

    def _configured(self) -> dict[str, str]:
        path = os.path.join(self.config_dir, "asterisk.conf")
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
        except OSError:
            return {}
        names = "|".join(_DIRECTORIES)
        found = re.findall(rf"^[ \t]*({names})[ \t]*=>?[ \t]*([^;\n]*?)[ \t]*(?:;.*)?$", text, re.MULTILINE)
        return {name: value for name, value in found if value.startswith("/")}
