# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts and the cable between them: a PBX under one policy, and whoever speaks to it."""

from __future__ import annotations

from typing import Any

from tests.integration.harness.modules import run_module
from tests.integration.harness.netns import Namespace

__all__ = ["FRESH", "PEER", "Pair"]

PEER = "10.99.0.1"
# Addresses of which each datagram of somebody new takes the next one; all of them are the peer's.
FRESH = "10.128.0.0/9"
_PBX_MAC, _PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


class Pair:
    """`pbx` (with files of its own) and `peer`, back to back."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self._addresses = 0
        self._fresh = 0
        self.pbx = Namespace("pbx", private_files=True)
        self.peer = Namespace("peer")
        self.pbx.ip(
            [
                "link set lo up",
                f"link add eth0 address {_PBX_MAC} type veth peer name eth0 address {_PEER_MAC} netns {self.peer.name}",
                "addr add 10.99.0.254/24 dev eth0",
                "link set eth0 up",
            ]
        )
        self.peer.ip(
            [
                "link set lo up",
                f"addr add {PEER}/24 dev eth0",
                "link set eth0 up",
                f"route add local {FRESH} dev lo",
            ]
        )
        self.pbx.ip(
            [f"route add {FRESH} via {PEER}", f"neigh replace {PEER} lladdr {_PEER_MAC} dev eth0 nud permanent"]
        )

    def listener(self) -> str:
        """One more address of the PBX, so that every kind of traffic has a receiver of its own on the same port."""
        self._addresses += 1
        address = f"10.99.0.{100 + self._addresses}"
        self.pbx.ip([f"addr add {address}/24 dev eth0"])
        self.peer.ip([f"neigh replace {address} lladdr {_PBX_MAC} dev eth0 nud permanent"])
        return address

    def caller(self) -> str:
        """One more address of the peer."""
        self._addresses += 1
        address = f"10.99.0.{100 + self._addresses}"
        self.peer.ip([f"addr add {address}/24 dev eth0"])
        self.pbx.ip([f"neigh replace {address} lladdr {_PEER_MAC} dev eth0 nud permanent"])
        return address

    def newcomers(self) -> str:
        """The first of half a million addresses nobody has spoken from."""
        self._fresh += 1
        return f"10.{120 + 8 * self._fresh}.0.1"

    def restore(self, rules: str) -> None:
        """Loads IPv4 rules."""
        self.pbx.run(f"iptables-{self.backend}-restore", "-w", stdin=rules)

    def module(self, name: str, **options: Any) -> dict[str, Any]:
        """The result of a module run that must succeed."""
        result = run_module(self.pbx, name, options)
        assert not result.get("failed"), result
        return result

    def close(self) -> None:
        """Removes both."""
        self.pbx.close()
        self.peer.close()
