# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager interface that does what a test says, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import Awaitable, Callable

__all__ = ["BANNER", "USER", "Call", "Peer"]

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
USER = "sipban"
CHALLENGE = "211651903"


class Call:
    """One connection that has been accepted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.actions: list[dict[str, str]] = []

    async def action(self, *names: str) -> dict[str, str]:
        """The next action, which must have one of these names; at the end of the connection the test ends, too."""
        block = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        found = dict(line.split(": ", 1) for line in block.split("\r\n") if line)
        self.actions.append(found)
        assert not names or found["Action"] in names, found
        return found

    def answer(self, action: dict[str, str], status: str = "Success", **headers: str) -> None:
        lines = [f"Response: {status}", f"ActionID: {action['ActionID']}", *(f"{k}: {v}" for k, v in headers.items())]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send(self, wire: bytes) -> None:
        self.writer.write(wire)

    async def log_in(self, secret: str, *, told: bool = True) -> bool:
        """Banner, challenge and login; `told` of security events, and so of this very login."""
        self.send(BANNER)
        challenge = await self.action("Challenge")
        self.answer(challenge, Challenge=CHALLENGE)
        login = await self.action("Login")
        right = hashlib.md5(f"{CHALLENGE}{secret}".encode()).hexdigest()
        if (login["Username"], login["Key"]) != (USER, right):
            self.answer(login, "Error", Message="Authentication failed")
            return False
        self.answer(login, Message="Authentication accepted")
        if told and login["Events"] == "security":
            self.send(self.own_event())
        return True

    def own_event(self) -> bytes:
        host, port = self.writer.get_extra_info("peername")[:2]
        return (
            "Event: SuccessfulAuth\r\nPrivilege: security,all\r\nEventTV: 2026-11-22T00:49:49.531+0000\r\n"
            f"Severity: Informational\r\nService: AMI\r\nEventVersion: 1\r\nAccountID: {USER}\r\n"
            "SessionID: 0x7fb5f80015a0\r\nLocalAddress: IPV4/TCP/127.0.0.1/5038\r\n"
            f"RemoteAddress: IPV4/TCP/{host}/{port}\r\nUsingPassword: 0\r\nSessionTV: 2026-11-22T00:49:49.531+0000\r\n\r\n"
        ).encode()

    async def pong(self) -> None:
        """Answers pings until the connection ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.answer(await self.action("Ping"), Ping="Pong", Timestamp="1795308590.132474")

    async def ended(self) -> None:
        """Waits until the other side has ended the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


class Peer:
    """A port on which every connection is treated by `script`, which may be changed; a connection ends with its script.

    What goes wrong in a script is raised by `close`.
    """

    def __init__(self, script: Callable[[Call], Awaitable[object]]) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.port = 0
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listens, on the port of the first time."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Listens no more and cuts every connection."""
        assert self._server is not None
        self._server.close()
        for call in self.calls:
            call.writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        failures = [task for task in self._tasks if task.done() and not task.cancelled() and task.exception()]
        await self.shut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in failures:
            task.result()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        call = Call(reader, writer)
        self.calls.append(call)
        try:
            await self.script(call)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other side has had enough
        finally:
            writer.close()
