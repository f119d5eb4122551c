# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a host the roles of this collection may write, and how its units stood."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .._host.places import FEEDS_SERVICE, FEEDS_TIMER, LIBRARY, REPAIR_UNIT, SETS_UNIT, UNIT
from .._host.sipban import settings as _sipban
from .._host.sipban import units as _sipban_units
from .._netfilter.persist import BOOT_PLUGIN, DIRECTORY
from .._netfilter.runner import Runner, output
from .._netfilter.switch_guard import STATE_DIRECTORY

__all__ = ["GROWING", "OWN_FOLDERS", "OWN_UNITS", "PATTERNS", "WATCHED_UNITS", "Unit", "units"]

_UNITS = "/etc/systemd/system"
# What is ours wherever it is, by the names we give.
PATTERNS = (
    "/usr/local/sbin/sipguard",
    _sipban_units.PROGRAM,
    _sipban_units.CONTROLLER,
    LIBRARY,
    f"{LIBRARY}-*/**",
    f"{_UNITS}/sipguard-*",
    _sipban_units.SERVICE,
    f"{_UNITS}/*.wants/sipguard-*",
    f"{_UNITS}/*.wants/sipband.service",
    f"{_UNITS}/*.wants/netfilter-persistent.service",
    f"{_UNITS}/netfilter-persistent.service.d/sipguard.conf",
    f"{os.path.dirname(BOOT_PLUGIN)}/*-sipguard",
    f"{DIRECTORY}/*",
    f"{STATE_DIRECTORY}/lists/*",
    f"{STATE_DIRECTORY}/distributed/*",
    f"{STATE_DIRECTORY}/feeds.json",
    f"{_sipban.DIRECTORY}/*",
    "/etc/fail2ban/*/sipguard*",
    "/etc/logrotate.d/sipguard-asterisk",
    "/etc/firewall-4.rules",
    "/etc/firewall-6.rules",
)
# What grows while a host runs comes back only where it is gone: going back must not forget whom a host has banned meanwhile, nor
# whom it had banned before somebody had everything taken away. (The journal of confirmed changes has a way back of its own.)
GROWING = (
    f"{STATE_DIRECTORY}/bans",
    f"{STATE_DIRECTORY}/exceptions",
    f"{_sipban.STATE}/**",
)
# Folders that go when they were not there before.
OWN_FOLDERS = (_sipban.DIRECTORY, _sipban.STATE, DIRECTORY, STATE_DIRECTORY)


def _name(path: str) -> str:
    return os.path.basename(path)


# Ours, in the order in which they are stopped: first what would put back what is taken away.
OWN_UNITS = (
    _name(REPAIR_UNIT),
    _name(FEEDS_TIMER),
    _name(FEEDS_SERVICE),
    _name(_sipban_units.KNOWN_TIMER),
    _name(_sipban_units.SERVICE),
    _name(UNIT),
    _name(SETS_UNIT),
)
WATCHED_UNITS = (*OWN_UNITS, "fail2ban.service", "asterisk.service")


@dataclass(frozen=True)
class Unit:
    """How systemd sees a unit, in its own words."""

    loaded: bool
    active: bool
    enabled: bool
    state: str = ""


def units(runner: Runner, names: Iterable[str] = WATCHED_UNITS) -> Mapping[str, Unit]:
    """Units by name; nothing on a host without a running systemd. Raises SipguardError."""
    if not os.path.isdir("/run/systemd/system"):
        return {}
    asked = ["systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState", "--", *names]
    found = {}
    for block in output(runner, asked).split("\n\n"):
        said = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if said.get("Id"):
            found[said["Id"]] = Unit(
                said.get("LoadState") == "loaded",
                said.get("ActiveState") in ("active", "activating", "reloading"),
                said.get("UnitFileState") == "enabled",
                said.get("ActiveState", ""),
            )
    return found
