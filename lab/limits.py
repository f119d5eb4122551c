# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's limits that many containers on one machine run into: raised while a fleet is up, and given back afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .paths import LabError, locked

__all__ = ["WANTED", "raise_for", "release"]

# fs.inotify(7): counted for each user, so all containers of root share them. systemd holds some 10 instances on each host.
WANTED = {"fs/inotify/max_user_instances": 8192, "fs/inotify/max_user_watches": 524288}

_SYS = Path("/proc/sys")
_HELD = Path("/run/sipguard-lab.limits")


def raise_for(project: str, sysctl: Path = _SYS, held: Path = _HELD) -> None:
    """Raise what is too low, remember what it was and for whom it was raised; LabError where that is not allowed."""
    try:
        if not held.exists() and all(_value(sysctl, key) >= most for key, most in WANTED.items()):
            return
        with locked(held.with_name(held.name + ".lock")):
            known = _read(held)
            before = {key: _value(sysctl, key) for key in WANTED} | known["before"]
            known = {"before": before, "projects": sorted({*known["projects"], project})}
            held.write_text(json.dumps(known), encoding="ascii")
            for key, most in WANTED.items():
                if _value(sysctl, key) < most:
                    (sysctl / key).write_text(f"{most}\n", encoding="ascii")
    except OSError as error:
        wanted = " ".join(f"{key.replace('/', '.')}={most}" for key, most in WANTED.items())
        raise LabError(f"a fleet needs higher limits, and they cannot be set ({error}): sysctl -w {wanted}") from error


def release(project: str, sysctl: Path = _SYS, held: Path = _HELD) -> None:
    """Give the limits back with the last project that has raised them; what somebody else has set meanwhile stays."""
    if project not in _read(held)["projects"]:
        return
    with locked(held.with_name(held.name + ".lock")):
        known = _read(held)
        left = [each for each in known["projects"] if each != project]
        if left:
            held.write_text(json.dumps({"before": known["before"], "projects": left}), encoding="ascii")
            return
        for key, value in known["before"].items():
            if value < WANTED[key] == _value(sysctl, key):
                (sysctl / key).write_text(f"{value}\n", encoding="ascii")
        held.unlink(missing_ok=True)


def _value(sysctl: Path, key: str) -> int:
    return int((sysctl / key).read_text(encoding="ascii"))


def _read(held: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(held.read_text(encoding="ascii"))
        return known
    except FileNotFoundError:
        return {"before": {}, "projects": []}
