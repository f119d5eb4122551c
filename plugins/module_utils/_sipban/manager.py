# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user under which sipband listens to Asterisk, as manager.conf has it."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .._asterisk.companions import reachable_at
from .._asterisk.tree import ConfigDirectory, is_true, load
from .._sip.errors import SipguardError

__all__ = ["ManagerUser", "read_user"]

_PORT = 5038
_ENOUGH = {"security", "all"}


@dataclass(frozen=True)
class ManagerUser:
    """``lacking`` is why it cannot be used, "" when it can; ``rights`` is what it may do besides reading security events.

    ``web``: AMI can be used over HTTP as well.
    """

    host: str = "127.0.0.1"
    port: int = _PORT
    secret: str = field(default="", repr=False)
    lacking: str = ""
    rights: str = ""
    web: bool = False


def read_user(config_dir: str, name: str) -> ManagerUser:
    """Raises SipguardError when the file cannot be read."""
    tree = load(ConfigDirectory(config_dir), "manager.conf")
    if tree.fatal is not None:
        raise SipguardError(f"Asterisk would not load its manager.conf: {tree.fatal}")
    general, user = tree.first("general"), tree.first(name)

    def said(option: str, default: str) -> str:
        found = general.last(option) if general else None
        return found.value if found else default

    port = said("port", str(_PORT))
    host = reachable_at(said("bindaddr", "0.0.0.0"))
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise SipguardError(f"manager.conf: port={port!r} is no port")
    if not is_true(said("enabled", "no")):
        return ManagerUser(host, int(port), lacking="AMI is off (manager.conf)")
    secret = user.last("secret") if user else None
    if user is None or secret is None or not secret.value:
        return ManagerUser(host, int(port), lacking=f"AMI has no user {name} (manager.conf)")
    # The last one counts, and Asterisk takes a blank after a comma for a part of the word.
    read, write = (found.value.split(",") if found else [] for found in (user.last("read"), user.last("write")))
    lacking = "" if _ENOUGH.intersection(read) else f"AMI's user {name} may not read security events (manager.conf)"
    if not lacking and not _admits([each.value for each in user.all("permit")], host):
        lacking = f"AMI listens to {host} alone, from which its user {name} may not come (manager.conf)"
    more = sorted({word.strip() for word in (*read, *write)} - {"security", ""})
    return ManagerUser(host, int(port), secret.value, lacking, ", ".join(more), is_true(said("webenabled", "no")))


def _admits(permits: Sequence[str], host: str) -> bool:
    """Whether nothing is said of who may come, or something of the address that this host comes from: an address with a mask."""
    own = ipaddress.ip_address(host)
    if own.is_loopback or not permits:
        return True
    for entry in ",".join(permits).split(","):
        with contextlib.suppress(ValueError):
            network = ipaddress.ip_network(entry.strip(), strict=False)
            if own.version == network.version and own in network:
                return True
    return False
