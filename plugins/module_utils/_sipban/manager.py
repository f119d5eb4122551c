# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user under which sipband listens to Asterisk, as manager.conf has it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

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
    host = _reachable(said("bindaddr", "0.0.0.0"))
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
    more = sorted({word.strip() for word in (*read, *write)} - {"security", ""})
    return ManagerUser(host, int(port), secret.value, lacking, ", ".join(more), is_true(said("webenabled", "no")))


def _reachable(bind: str) -> str:
    """The address at which AMI can be reached from this host."""
    # Asterisk leaves out a port that stands there.
    found = re.fullmatch(r"\[(.*)\](?::[0-9]+)?|([0-9.]+):[0-9]+", bind)
    try:
        address = ipaddress.ip_address((found[1] or found[2]) if found else bind)
    except ValueError:
        return "127.0.0.1"
    if address.is_unspecified:
        return "127.0.0.1"
    return str(address)
