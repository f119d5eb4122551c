# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a host cannot do without: its own addresses, its gateways and resolvers, and whoever is connected to it over SSH."""

from __future__ import annotations

import pathlib

from .._netfilter import routing
from .._sip.errors import SipguardError
from .ssh import logged_in, ssh_peers

__all__ = ["GATEWAY", "OWN", "RESOLVER", "SSH", "surroundings"]

OWN, GATEWAY, RESOLVER = "an address of this host", "a gateway of this host", "a resolver of this host"
SSH = "the peer of an SSH connection"

_RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


def surroundings(*, sessions: bool = True) -> list[tuple[str, str]]:
    """Addresses as the host has them, each with why it matters, in a few words.

    Without ``sessions`` of everybody who is logged in only the caller counts. Raises SipguardError when it cannot be found out.
    """
    try:
        facts = [(address, OWN) for address in routing.addresses()]
        facts += [(address, GATEWAY) for address in routing.gateways()]
    except OSError as error:
        raise SipguardError(f"cannot read this host's addresses and routes: {error}") from error
    facts += [(address, RESOLVER) for address in _resolvers()]
    facts += [(address, SSH) for address in (*ssh_peers(), *(logged_in() if sessions else ()))]
    return facts


def _resolvers() -> list[str]:
    """Name servers of this host (resolv.conf(5)); what is no address there is of no use to anybody."""
    found = []
    for path in _RESOLVERS:
        try:
            text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                found.append(words[1].partition("%")[0])
    return found
