# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two units that refresh the feeds of a host by themselves. Neither holds an address of a feed, or a secret."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

from ..._netfilter.switch_guard import STATE_DIRECTORY
from ..places import COMMAND, FEEDS_SERVICE, FEEDS_TIMER, FEEDS_WANTED
from .feed import Feed
from .schedule import stretched

__all__ = ["SERVICE", "TIMER", "WANTED", "installed", "interval", "texts"]

SERVICE, TIMER, WANTED = FEEDS_SERVICE, FEEDS_TIMER, FEEDS_WANTED

# The timer asks what is due at least so often, s: else a feed of every four hours beside one of every six would wait for eight.
_LONGEST, _SHORTEST = 900, 60
_HEAD = """\
# Written by sipguard.pbx. Changes made here are overwritten; use 'systemctl edit' for additions.
[Unit]
Documentation=https://github.com/sipguard/pbx
"""


def installed() -> bool:
    """Whether anything of them is on this host."""
    return any(os.path.lexists(path) for path in (SERVICE, TIMER, WANTED))


def interval(feeds: Iterable[Feed]) -> int:
    """Seconds between the end of one run of the unit and the next."""
    return int(max(_SHORTEST, min([_LONGEST, *(stretched(feed) for feed in feeds)])))


def texts(feeds: Iterable[Feed]) -> dict[str, str]:
    """Path -> text of both; of none without feeds."""
    wanted = list(feeds)
    if not wanted:
        return {}
    seconds = interval(wanted)
    # Each feed has its own time limit; the rest is for the sets, and for another run that holds the lock.
    limit = sum(feed.timeout for feed in wanted) + 300
    service = f"""\
{_HEAD}Description=Refreshes the feeds of sipguard.pbx that are due
Wants=network-online.target
After=network-online.target sipguard-restore.service

[Service]
Type=oneshot
ExecStart={COMMAND} feeds refresh --due
TimeoutStartSec={limit}
UMask=0077
Nice=10
# What comes from outside is read here: no rights but those on sets, no files but the lists.
CapabilityBoundingSet=CAP_NET_ADMIN
NoNewPrivileges=yes
ProtectSystem=strict
# Made where it has been lost, so that everything is fetched anew.
StateDirectory={pathlib.PurePath(STATE_DIRECTORY).name}
StateDirectoryMode=0700
ReadWritePaths=/run
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
MemoryMax=512M
"""
    timer = f"""\
{_HEAD}Description=Refreshes the feeds of sipguard.pbx

[Timer]
OnBootSec={_SHORTEST}
OnUnitInactiveSec={seconds}
RandomizedDelaySec={seconds // 10}
AccuracySec=1

[Install]
WantedBy=timers.target
"""
    return {SERVICE: service, TIMER: timer}
