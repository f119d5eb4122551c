# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who talks to a host of the lab: this machine, from addresses of its own on the host's network."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Neighbours"]

SCANNER, PHONE = "friendly-scanner", "Yealink SIP-T46U 108.86.0.90"
SILENCE, PATIENCE = 1.0, 60.0  # s


class _Reachable(Protocol):
    @property
    def info(self) -> Mapping[str, Any]:
        """Where it is: ``address`` and ``address6``."""


class Neighbours:
    """Two addresses of this machine on the host's network: one that is trusted, one that is not."""

    def __init__(self, host: _Reachable) -> None:
        self._targets = {4: str(host.info["address"]), 6: str(host.info["address6"])}
        self.trusted = {family: self._neighbour(family, 201) for family in (4, 6)}
        self.stranger = {family: self._neighbour(family, 202) for family in (4, 6)}

    def at(self, number: int) -> dict[int, str]:
        """One more address of either family, with that number in the host's network."""
        return {family: self._neighbour(family, number) for family in (4, 6)}

    def reaching(
        self,
        source: dict[int, str],
        family: int,
        kind: int = socket.SOCK_DGRAM,
        port: int = 5060,
        patience: float = PATIENCE,
    ) -> socket.socket:
        """A socket that is bound to an address of this machine, and connected to the host."""
        sock = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, kind)
        self._bind(sock, family, source)
        sock.settimeout(patience)
        sock.connect((self._targets[family], port))
        return sock

    def _neighbour(self, family: int, number: int) -> str:
        target = self._targets[family]
        return target[: target.rindex(":" if family == 6 else ".") + 1] + str(number)

    def _bind(self, sock: socket.socket, family: int, source: dict[int, str]) -> None:
        """Have the address and bind to it; the bridge it is on goes whenever its last host goes down."""
        argv = ["ip", "-j", "route", "get", self._targets[4]]
        route = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        options = ["preferred_lft", "0", *(["nodad"] if family == 6 else [])]
        address = f"{source[family]}/{128 if family == 6 else 32}"
        argv = ["ip", "address", "replace", address, "dev", json.loads(route)[0]["dev"], *options]
        subprocess.run(argv, check=True)
        sock.bind((source[family], 0))

    def is_answered(self, source: dict[int, str], family: int, user_agent: str, patience: float) -> bool:
        """Whether Asterisk answers an OPTIONS request over UDP, which is sent again until ``patience`` seconds are over."""
        target, call = self._targets[family], uuid.uuid4().hex
        with self.reaching(source, family) as sock:
            here, there = (f"[{name}]" if family == 6 else name for name in (source[family], target))
            lines = [
                f"OPTIONS sip:{there} SIP/2.0",
                f"Via: SIP/2.0/UDP {here}:{sock.getsockname()[1]};branch=z9hG4bK{call};rport",
                "Max-Forwards: 70",
                f"From: <sip:100@{there}>;tag={call[:8]}",
                f"To: <sip:100@{there}>",
                f"Call-ID: {call}",
                "CSeq: 1 OPTIONS",
                f"Contact: <sip:100@{here}>",
                f"User-Agent: {user_agent}",
                "Content-Length: 0",
            ]
            sock.settimeout(0.5)
            end = time.monotonic() + patience
            while time.monotonic() < end:
                with contextlib.suppress(OSError):
                    sock.send(("\r\n".join(lines) + "\r\n\r\n").encode())
                    return sock.recv(65535).startswith(b"SIP/2.0 ")
        return False

    def connects(self, family: int, port: int) -> bool:
        """Whether a connection from the stranger's address comes about."""
        with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET) as sock:
            self._bind(sock, family, self.stranger)
            sock.settimeout(SILENCE)
            return sock.connect_ex((self._targets[family], port)) == 0

    def hears(self, *expected: tuple[bool, bool, bool]) -> bool:
        """Whether a scanner, a phone, and a trusted source that calls itself a scanner are answered as expected, over IPv4 and IPv6."""
        callers = ((self.stranger, SCANNER), (self.stranger, PHONE), (self.trusted, SCANNER))
        for family, answers in zip((4, 6), expected, strict=True):
            for (source, user_agent), answered in zip(callers, answers, strict=True):
                if self.is_answered(source, family, user_agent, PATIENCE if answered else SILENCE) is not answered:
                    return False
        return True
