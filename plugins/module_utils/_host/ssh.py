# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is connected to this host over SSH: those through whom this process was started, and those who are logged in."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pathlib
from typing import NamedTuple

__all__ = ["SshConnection", "logged_in", "ssh_connections", "ssh_peers"]

# systemd-logind keeps a file for each session; whoever only knocks at the door has none.
_SESSIONS = "/run/systemd/sessions"


class SshConnection(NamedTuple):
    """One SSH connection as the host sees it: the client's address and port, and the port it came to."""

    client: str
    client_port: int
    server_port: int


def ssh_connections() -> list[SshConnection]:
    """The SSH connections over which this process was started: sudo drops the variable, so its parents are asked as well."""
    found: dict[SshConnection, None] = {}
    pid = os.getpid()
    while pid > 1:
        environment = dict(entry.split("=", 1) for entry in _read(f"/proc/{pid}/environ").split("\0") if "=" in entry)
        words = environment.get("SSH_CONNECTION", "").split(" ")  # client, its port, server, its port (ssh(1))
        if len(words) == 4 and words[1].isdigit() and words[3].isdigit():
            found[SshConnection(words[0].split("%")[0], int(words[1]), int(words[3]))] = None
        # The second field, the command's name, may hold blanks and brackets; the parent stands two behind its end.
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0
    return list(found)


def ssh_peers() -> list[str]:
    """The addresses at the other ends of ``ssh_connections``."""
    return list(dict.fromkeys(connection.client for connection in ssh_connections()))


def logged_in() -> list[str]:
    """Where those come from who are logged in from elsewhere; what is no address there is passed over."""
    found = []
    for path in pathlib.Path(_SESSIONS).glob("*"):
        try:
            # Beside each is a pipe that tells of its end, and would be waited for.
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        except OSError:  # it has just ended
            continue
        if "STATE=closing" in lines:
            continue
        for line in lines:
            name, dummy, value = line.partition("=")
            if name == "REMOTE_HOST":
                with contextlib.suppress(ValueError):
                    found.append(str(ipaddress.ip_address(value.strip('"').partition("%")[0])))
    return found


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
