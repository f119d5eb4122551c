# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asterisk's log files as fail2ban needs them: there, written to, and with dates that the filters read.

A file that is missing keeps fail2ban from starting at all, whoever's jail names it; one that nobody writes to, or with other dates,
bans nobody without a word.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Sequence

from .._asterisk.cli import Cli
from .._asterisk.effective import Effective
from .._asterisk.tree import ConfigDirectory, load
from .._netfilter.runner import Runner
from .._sip.errors import OptionError, SipguardError

__all__ = ["check_dates", "missing"]

_TAIL = 65536  # bytes
# A line of Asterisk's, as JSON or not (main/logger.c), begins with a date.
_DATED = re.compile(
    r'^(?:\{"hostname": *"[^"]{0,255}", *"timestamp": *"(?P<json>[^"]{0,80})"'
    r"|\[(?P<plain>[^\]]{0,80})\] ?(?:NOTICE|WARNING|ERROR|SECURITY|VERBOSE|DEBUG|DTMF|FAX)\b)",
    re.MULTILINE,
)
_READ = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?|[A-Z][a-z]{2} [ 0-3]\d \d\d:\d\d:\d\d"
)
_DATE = "%b %e %T"  # without dateformat (main/logger.c)
_SHOWN = 35  # characters of a path that "logger show channels" prints


def missing(runner: Runner, paths: Sequence[str]) -> list[str]:
    """Those that are not there, or to which the Asterisk that runs does not write. Raises OptionError for what is no file."""
    found = []
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            found.append(path)
            continue
        if not stat.S_ISREG(mode):
            raise OptionError("logs", path, "a log file of Asterisk's would be right")
    try:
        written = Effective(Cli(runner)).log_channels()
    except SipguardError:  # it does not run, or answers otherwise: nothing is known
        written = {}
    shown = {os.path.realpath(path) if len(path) < _SHOWN else path for path in written}
    if shown:
        found += [path for path in paths if path not in found and not _among(path, shown)]
    return found


def _among(path: str, shown: set[str]) -> bool:
    return os.path.realpath(path) in shown or any(len(each) >= _SHOWN and path.startswith(each) for each in shown)


def _mended(directory: str, since: float) -> bool:
    """Whether somebody has given Asterisk dates that the filters read since then (seconds since the epoch)."""
    try:
        if os.stat(f"{directory}/logger.conf").st_mtime <= since:
            return False
    except OSError:
        return False
    general = load(ConfigDirectory(directory), "logger.conf").first("general")
    said = general.first("dateformat") if general else None
    # %q is Asterisk's own, fractions of a second
    example = time.strftime(re.sub(r"%\d?q", "0", said.value if said else _DATE), time.gmtime(0))
    return _READ.fullmatch(example) is not None


def check_dates(paths: Sequence[str], directory: str = "/etc/asterisk") -> None:
    """Raise OptionError for a file whose last lines begin with a date that the filters cannot read, and the next ones will as well."""
    for path in paths:
        try:
            with open(path, "rb") as stream:
                about = os.fstat(stream.fileno())
                stream.seek(max(0, about.st_size - _TAIL))
                text = stream.read(_TAIL).decode("latin-1")
        except OSError:
            continue
        dates = [found["json"] or found["plain"] or "" for found in _DATED.finditer(text)]
        date = dates[-1] if dates else ""
        if dates and not _READ.fullmatch(date) and not _mended(directory, about.st_mtime):
            raise OptionError(
                "logs",
                path,
                f"its lines begin with {ascii(date)[:40]}; dateformat=%F %T in [general] of logger.conf would be right",
            )
