# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outside world as three things: run a command, find a command, talk to the kernel's netfilter by netlink."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .._sip.errors import SipguardError

__all__ = [
    "NEEDED",
    "NO_RIGHTS",
    "CommandError",
    "Completed",
    "FreshHost",
    "HostRunner",
    "Runner",
    "explain",
    "output",
    "runner_for",
]

# The commands without which nothing can be done.
NEEDED = ("iptables", "ip6tables", "ipset")
# A non-interactive PATH often lacks these.
_EXTRA_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")


NO_RIGHTS = "netfilter cannot be changed without root (or CAP_NET_ADMIN, in a container); become root ('become: true' in a play)"
_NO_RIGHTS = ("you must be root", "Permission denied", "Operation not permitted")


@dataclass(frozen=True)
class Completed:
    returncode: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """What the engine needs of a host; tests pass one of their own."""

    def which(self, command: str) -> str | None:
        """Absolute path of a command, or None."""

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        """Run to the end and return what came of it, whatever the exit status."""


class CommandError(SipguardError):
    """A command said no. The message carries the command's own words."""

    def __init__(self, argv: Sequence[str], completed: Completed) -> None:
        self.completed = completed
        said = " ".join((completed.stderr or completed.stdout).split()) or f"exit status {completed.returncode}"
        super().__init__(f"{os.path.basename(argv[0])} failed: {said}")


def explain(argv: Sequence[str], completed: Completed) -> SipguardError:
    """The error for a command that failed: what to do about it where that is known, else the command's own words."""
    said = completed.stderr
    if any(words in said for words in _NO_RIGHTS):
        return SipguardError(NO_RIGHTS)
    return CommandError(argv, completed)


def output(runner: Runner, argv: Sequence[str], stdin: str = "") -> str:
    """What a command prints. Raises SipguardError when it fails."""
    done = runner.run(argv, stdin)
    if done.returncode != 0:
        raise explain(argv, done)
    return done.stdout


class FreshHost:
    """A host on which nothing is installed yet, as check mode sees it: every command is there, and shows nothing."""

    def which(self, command: str) -> str | None:
        return command

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        return Completed(0, "nf_tables" if "--version" in argv else "", "")


def runner_for(check: bool) -> Runner:
    """The host; in check mode, while iptables or ipset are still to be installed, what it will be like then."""
    host = HostRunner()
    return FreshHost() if check and not all(host.which(command) for command in NEEDED) else host


class HostRunner:
    """The host itself: argument lists only, never a shell; messages in English whatever the locale."""

    def __init__(self) -> None:
        path = os.environ.get("PATH", os.defpath).split(os.pathsep)
        self._path = os.pathsep.join([*path, *(extra for extra in _EXTRA_PATH if extra not in path)])
        self._environment = dict(os.environ, LC_ALL="C", PATH=self._path)

    def which(self, command: str) -> str | None:
        return shutil.which(command, path=self._path)

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
            env=self._environment,
        )
        return Completed(done.returncode, done.stdout, done.stderr)
