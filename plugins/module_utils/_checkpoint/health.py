# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host does its work: few questions, asked before a run and after it, so that only what the run has broken counts."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .._asterisk.cli import Cli
from .._host.fail2ban import Fail2ban
from .._host.listeners import listeners
from .._host.sipban.client import hears, tell
from .._host.sipban.units import SERVICE
from .._netfilter.runner import Runner
from .._sip.errors import SipguardError
from .places import units

__all__ = ["NEEDED_SPACE", "Health", "examine", "short_of_space", "worse"]

# Bytes. What the roles write is about 3 MB; a list of feeds may be as much again, twice while it is replaced.
NEEDED_SPACE = 16 << 20
_WRITTEN = ("/etc", "/var/lib", "/usr/local")
_OWN_JAILS = "/etc/fail2ban/jail.d/sipguard*.conf"
_SECTION = re.compile(r"^\[([^\]\n]+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Health:
    """``asterisk`` is "" where none is installed, "runs", or what is wrong. ``ports`` are such as "udp 5060".

    ``jails`` are fail2ban's that run, None while its server does not answer, and ``own_jails`` those that our files speak of: the run
    may take them away. ``sipband`` is as `sipguard status` says it.
    """

    asterisk: str = ""
    ports: list[str] = field(default_factory=list)
    jails: list[str] | None = None
    own_jails: list[str] = field(default_factory=list)
    sipband: str = ""
    failed: list[str] = field(default_factory=list)

    def text(self) -> dict[str, Any]:
        return asdict(self)


def examine(runner: Runner, config_dir: str, ports: Iterable[int]) -> Health:
    """The host as it is now. Raises SipguardError."""
    found = units(runner)
    return Health(
        _asterisk(runner, config_dir),
        sorted(listeners(ports)),
        _jails(runner),
        _own_jails(),
        _sipband(),
        sorted(name for name, unit in found.items() if unit.state == "failed"),
    )


def _asterisk(runner: Runner, config_dir: str) -> str:
    if runner.which("asterisk") is None:
        return ""
    try:
        return "runs" if Cli(runner, config_dir).running() else "does not run"
    except SipguardError as error:
        return str(error)


def _jails(runner: Runner) -> list[str] | None:
    server = Fail2ban(runner)
    if not server.installed():
        return None
    found = server.jails()
    return None if found is None else sorted(found)


def _own_jails() -> list[str]:
    found: set[str] = set()
    for path in glob.glob(_OWN_JAILS):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            found.update(_SECTION.findall(file.read()))
    return sorted(found - {"DEFAULT"})


def _sipband() -> str:
    if not os.path.exists(SERVICE):
        return ""
    found = tell("status")
    if found is None:
        return "does not answer"
    return hears(found)


def worse(before: Mapping[str, Any], after: Health) -> list[str]:
    """What a host did before, as `Health.text` tells, and does no more; a sentence each, with what to do."""
    found = []
    if before["asterisk"] == "runs" and after.asterisk != "runs":
        found.append(f"Asterisk ran before and now {after.asterisk or 'is gone'}: see 'journalctl -u asterisk'")
    lost = sorted(set(before["ports"]) - set(after.ports))
    if lost:
        found.append(f"nothing listens to {', '.join(lost)} any more: see 'asterisk -rx \"pjsip show transports\"'")
    theirs = set(before["jails"] or ()) - set(before["own_jails"])
    gone = sorted(theirs - set(after.jails or ()))
    if gone:
        if after.jails is None:
            found.append("fail2ban answered before and does not any more: see 'journalctl -u fail2ban'")
        else:
            found.append(f"fail2ban's jails {', '.join(gone)} ran before and do not any more: see 'fail2ban-client -t'")
    failed = sorted(set(after.failed) - set(before["failed"]))
    if failed:
        found.append(f"{', '.join(failed)} failed: see 'systemctl status {failed[0]}'")
    return found


def short_of_space(paths: Iterable[str] = _WRITTEN, needed: int = NEEDED_SPACE) -> list[str]:
    """Folders in which there is less room than a run needs, a sentence each."""
    found = {}
    for path in paths:
        try:
            about, device = os.statvfs(path), os.stat(path).st_dev
        except OSError:
            continue
        free = about.f_bavail * about.f_frsize
        if free < needed:
            found[device] = (
                f"the disk of {path} is full: {free >> 20} MiB are free, {needed >> 20} MiB are needed; make room "
                "('journalctl --vacuum-size=50M', old recordings and logs), then run again"
            )
        elif about.f_files and about.f_favail < 1000:
            found[device] = f"the disk of {path} has {about.f_favail} free inodes left; remove files, then run again"
    return list(found.values())
