# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sipband's heart for tests of what talks to it: it keeps bans in a dictionary, and tells its listeners."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import Address, Entry
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import Network
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

BAN_TIME = 3600
TRUSTED = ipaddress.ip_network("192.0.2.1")


class Blocked(NamedTuple):
    outcome: str
    said: str


class FakeGuard:
    """``broken`` makes everything that can fail do so, with this sentence."""

    def __init__(self) -> None:
        self.live: dict[Network, Entry] = {}
        self.dump: dict[Network, Entry] | None = None
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self.asked: list[tuple[Network, int | None, str]] = []
        self.broken = ""
        self.hears = True
        self.rows: list[dict[str, Any]] = []
        self.report: dict[str, Any] = {}

    def fill(self, count: int) -> None:
        """So many bans, of 10.0.0.0 and what follows."""
        for number in range(count):
            network = ipaddress.ip_network((0x0A000000 + number, 32))
            self.live[network] = Entry(network, 1000 + number, "sipban: InvalidPassword")

    def tell(self, what: str, network: Network, **more: Any) -> None:
        for listener in list(self.listeners):
            listener({"at": time.time(), "what": what, "address": str(network.network_address), **more})

    def block(self, network: Network, seconds: int | None, reason: str) -> Blocked:
        self._check()
        self.asked.append((network, seconds, reason))
        if network == TRUSTED:
            return Blocked("refused", f"{network.network_address} cannot be banned: it is trusted")
        if network in self.live:
            return Blocked("previously", "")
        self.live[network] = Entry(network, BAN_TIME if seconds is None else seconds, reason)
        self.tell("block", network, reason=reason)
        return Blocked("blocked", "")

    def unblock(self, network: Network) -> bool:
        self._check()
        if self.live.pop(network, None) is None:
            return False
        self.tell("unblock", network)
        return True

    def bans(self) -> list[Entry]:
        self._check()
        return sorted(self.live.values(), key=lambda each: (each.left == 0, each.left))

    def flush(self) -> int:
        self._check()
        self.dump, self.live = self.live, {}
        return len(self.dump)

    def restore(self) -> int:
        self._check()
        if self.dump is None:
            raise SipguardError("no dump file to restore rules: /var/lib/sipban/sipban.dump")
        self.live, self.dump = self.dump, None
        return len(self.live)

    async def ping(self) -> float:
        self._check()
        return 0.00123

    def uptime(self) -> float:
        return 90061.5

    def whitelist(self) -> list[str]:
        return ["192.0.2.1", "2001:db8::/32"]

    def status(self) -> dict[str, Any]:
        self._check()
        return {"uptime": 90061, "ami": self.hears, "bans": {"ipv4": len(self.live), "ipv6": 0}, "ami_said": ""}

    def top(self, count: int) -> list[dict[str, Any]]:
        return self.rows[:count]

    def why(self, address: Address) -> dict[str, Any]:
        self._check()
        entry = self.live.get(ipaddress.ip_network(address))
        return {"address": str(address), "banned": entry, "trusted": False, **self.report}

    def follow(self, listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def _check(self) -> None:
        if self.broken:
            raise SipguardError(self.broken)
