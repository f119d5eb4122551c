# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of Asterisk's manager interface."""

from __future__ import annotations

import itertools
import socket

__all__ = ["Ami"]

_PATIENCE = 5.0  # seconds after which an answer counts as not coming


class Ami:
    """One connection. A message is a dict of its headers, the last of a name winning."""

    def __init__(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self._sock = sock
        self._numbers = itertools.count(1)
        self.events: list[dict[str, str]] = []
        sock.settimeout(_PATIENCE)
        sock.connect(address)
        self._file = sock.makefile("rb")
        self.banner = self._file.readline().decode().strip()

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def _message(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while True:
            line = self._file.readline()
            if not line:
                raise ConnectionError("the manager interface has hung up")
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            if not text and found:
                return found
            name, colon, value = text.partition(": ")
            if colon or text.endswith(":"):
                found[name.rstrip(":")] = value

    def action(self, name: str, **headers: str) -> dict[str, str]:
        """The response to an action; events that come before it are kept in `events`."""
        number = str(next(self._numbers))
        lines = [f"Action: {name}", f"ActionID: {number}", *(f"{key}: {value}" for key, value in headers.items())]
        self._sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while True:
            message = self._message()
            if "Response" in message and message.get("ActionID") == number:
                return message
            self.events.append(message)

    def login(self, user: str, secret: str, events: str = "on") -> dict[str, str]:
        return self.action("Login", Username=user, Secret=secret, Events=events)

    def event(self, name: str) -> dict[str, str]:
        """The next event of that name, waited for."""
        while True:
            for message in self.events:
                if message.get("Event") == name:
                    self.events.remove(message)
                    return message
            self.events.append(self._message())
