# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports of this host somebody listens to, as the kernel says: no program has to be installed for it."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["listeners"]

_TABLES = (
    ("udp", "udp", "07"),
    ("udp6", "udp", "07"),
    ("tcp", "tcp", "0A"),
    ("tcp6", "tcp", "0A"),
)  # state: see tcp_states.h


def listeners(ports: Iterable[int]) -> set[str]:
    """Which of the ports something listens to, whatever its address, as "udp 5060" (proc(5), /proc/net/tcp)."""
    wanted = set(ports)
    found = set()
    for table, protocol, state in _TABLES:
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:
            continue
        for row in rows:
            port = int(row[1].rpartition(":")[2], 16)
            if row[3] == state and port in wanted:
                found.add(f"{protocol} {port}")
    return found
