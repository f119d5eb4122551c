# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things of ours are on a host: what is written there is said elsewhere, and only loaded where it is needed."""

from __future__ import annotations

from .._netfilter.persist import BOOT_UNIT, DIRECTORY

__all__ = [
    "COMMAND",
    "FEEDS",
    "FEEDS_SERVICE",
    "FEEDS_TIMER",
    "FEEDS_WANTED",
    "KEYS",
    "LIBRARY",
    "REPAIR_UNIT",
    "SETS_UNIT",
    "UNIT",
]

COMMAND = "/usr/local/sbin/sipguard"
FEEDS, KEYS = f"{DIRECTORY}/feeds.json", f"{DIRECTORY}/feed-keys.json"
FEEDS_SERVICE = "/etc/systemd/system/sipguard-feeds.service"
FEEDS_TIMER = "/etc/systemd/system/sipguard-feeds.timer"
# The link that enables the timer.
FEEDS_WANTED = "/etc/systemd/system/timers.target.wants/sipguard-feeds.timer"
LIBRARY = "/usr/local/lib/sipguard"
UNIT = BOOT_UNIT
SETS_UNIT = "/etc/systemd/system/sipguard-sets.service"
REPAIR_UNIT = "/etc/systemd/system/sipguard-repair.service"
