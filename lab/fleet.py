# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many cheap hosts at once: containers with systemd, SSH and a netfilter of their own, all of one image."""

from __future__ import annotations

from . import limits
from .hosts import Host, Lab
from .paths import LabError

__all__ = ["IMAGE", "MOST", "down", "hosts", "up"]

IMAGE = "debian12"
MOST = 150  # the last part of their addresses is 100 to 249
_FIRST_SUFFIX = 99
_PREFIX = "fleet"


def hosts(count: int, image: str = IMAGE) -> list[Host]:
    """The fleet's first ``count`` hosts, ``fleet001`` and so on; LabError for more than MOST of them, or none."""
    if not 1 <= count <= MOST:
        raise LabError(f"fleet-up {count}: 1 to {MOST} hosts expected")
    return [Host(f"{_PREFIX}{number:03}", image, _FIRST_SUFFIX + number) for number in range(1, count + 1)]


def up(lab: Lab, count: int, image: str = IMAGE) -> None:
    """Bring that many hosts up, from whatever is there; the caller holds the lock. More than asked for stay."""
    wanted = hosts(count, image)
    if not wanted[0].managed:
        raise LabError(f"--image {image}: it has neither systemd nor SSH")
    taken = {int(have["suffix"]): name for name, have in lab.containers().items()}
    for host in wanted:
        if taken.get(host.suffix, host.name) != host.name:
            raise LabError(f"{taken[host.suffix]} has the address of {host.name}: use another --project for the fleet")
    limits.raise_for(lab.project)
    lab.up(wanted)


def down(lab: Lab) -> None:
    """Remove the fleet and give the limits back; the lab itself goes with its last host."""
    have = lab.containers()
    fleet = [name for name in have if name.startswith(_PREFIX)]
    if len(fleet) == len(have):
        lab.down()
        return
    lab.remove_hosts(fleet)
    limits.release(lab.project)
