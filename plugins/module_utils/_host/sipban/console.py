# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The console of the published SIPban, by telnet: on 127.0.0.1 only, and behind a token, since every user of the host gets that far."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from typing import Any

from ..._sip.errors import SipguardError
from .commands import FOLLOW, Guard, answer, event_text

__all__ = ["HOST", "MAX_BACKLOG", "MAX_LINE", "MAX_SESSIONS", "Console", "Lines"]

HOST = "127.0.0.1"
MAX_SESSIONS = 4  # let in; as many may stand at the door
MAX_LINE = 1024  # bytes
MAX_BACKLOG = 65536  # bytes that a follower has not read yet
_TRIES = 3
_MIN_TOKEN = 16  # characters
_WARNING = 4  # syslog(3)
_BANNER = "Sipban\nuse 'help' for more commands\n"
_PROMPT = "sipban> "

# Telnet (RFC 854)
_IAC, _SB, _SE = 255, 250, 240
_WITH_OPTION = frozenset(range(251, 255))  # WILL, WONT, DO, DONT
_CR, _LF = 13, 10


class Lines:
    """Bytes of a telnet client -> lines, without an end; what telnet says between the lines is left out."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._mood = ""  # "", "iac", "option", "sub" or "sub iac"
        self._last = 0
        self._since = 0  # bytes since the last line, whatever they were

    def feed(self, data: bytes) -> list[bytes]:
        """Raises SipguardError for a line that is too long, or a negotiation without an end."""
        found = []
        for byte in data:
            self._since += 1
            if not self._negotiates(byte):
                if byte == _CR or (byte == _LF and self._last != _CR):
                    found.append(bytes(self._line))
                    self._line.clear()
                    self._since = 0
                elif byte not in (0, _LF):
                    self._line.append(byte)
                self._last = byte
            if len(self._line) > MAX_LINE or self._since > 4 * MAX_LINE:
                raise SipguardError(f"a line has at most {MAX_LINE} bytes")
        return found

    def _negotiates(self, byte: int) -> bool:
        """Whether a byte is none of the line."""
        mood, self._mood = self._mood, ""
        if not mood:
            self._mood = "iac" if byte == _IAC else ""
            return byte == _IAC
        if mood == "iac":
            if byte == _SB:
                self._mood = "sub"
            elif byte in _WITH_OPTION:
                self._mood = "option"
            return byte != _IAC  # twice: the byte itself
        if mood == "sub":
            self._mood = "sub iac" if byte == _IAC else "sub"
        elif mood == "sub iac":
            self._mood = "" if byte == _SE else "sub"
        return True


class Console:
    """The server. ``token`` reads what opens it, and may raise SipguardError; ``say`` writes the log (priority as syslog's, text).

    Seconds: ``idle`` without a command, ``door`` for the token to come, ``delay`` after a wrong one.
    """

    def __init__(
        self,
        guard: Guard,
        port: int,
        token: Callable[[], str],
        say: Callable[[int, str], None],
        idle: float = 600.0,
        door: float = 30.0,
        delay: float = 1.0,
    ) -> None:
        self.port = port  # 0: any that is free, known once it has been started
        self._guard = guard
        self._token = token
        self._log = say
        self._idle, self._door, self._delay = idle, door, delay
        self._gate: asyncio.Semaphore | None = None
        self._outside, self._inside = 0, 0
        self._clients: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Listen. Raises SipguardError for a port that cannot be had, or a token that is none."""
        self._secret()
        self._gate = asyncio.Semaphore(1)  # Python 3.9 binds it to the loop that runs now
        try:
            self._server = await asyncio.start_server(self._client, HOST, self.port)
        except (OSError, OverflowError) as error:
            raise SipguardError(f"the console cannot listen on {HOST}, port {self.port}: {error}") from error
        self.port = int(self._server.sockets[0].getsockname()[1])

    def _secret(self) -> bytes:
        secret = self._token()
        if len(secret) < _MIN_TOKEN:
            raise SipguardError(f"the console's token is too short; at least {_MIN_TOKEN} characters would be right")
        return secret.encode()

    async def close(self) -> None:
        """Send everybody away."""
        if self._server is None:
            return
        self._server.close()
        clients = list(self._clients)
        for client, writer in self._clients.items():
            # To cancel alone is not enough: before Python 3.12, wait_for swallows it when what it waits for has just come.
            writer.transport.abort()
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        self._server = None

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # never so in a coroutine
            return
        self._clients[task] = writer
        session = _Session(reader, writer, self._idle)
        try:
            if await self._let_in(session, writer.get_extra_info("peername")):
                await self._converse(session)
        except asyncio.TimeoutError:
            if session.choked:
                writer.transport.abort()
            else:
                session.say("\ntoo long without a word\n")
        except SipguardError as error:
            session.say(f"\n{error}\n")
        except EOFError:
            pass  # has nothing more to ask, but may still read
        except OSError:
            writer.transport.abort()
        finally:
            self._clients.pop(task, None)
            writer.close()

    async def _let_in(self, session: _Session, peer: tuple[str, int]) -> bool:
        if self._outside >= MAX_SESSIONS:
            session.say("too many are asking; try again later\n")
            return False
        self._outside += 1
        try:
            for dummy in range(_TRIES):
                session.say("token: ")
                if await self._right(await session.line(self._door), peer):
                    return True
                session.say("wrong token\n")
        finally:
            self._outside -= 1
        return False

    async def _right(self, given: bytes, peer: tuple[str, int]) -> bool:
        # One at a time, and a wrong one keeps the gate shut: as many connections as somebody likes give him no more guesses, and
        # hanging up does not save him the time. No more can wait than stand at the door.
        if self._gate is None:  # never so once it listens
            return False
        async with self._gate:
            try:
                if hmac.compare_digest(given, self._secret()):
                    return True
                self._log(_WARNING, f"console: wrong token from {peer[0]}, port {peer[1]}")
            except SipguardError as error:
                self._log(_WARNING, f"console: nobody is let in: {error}")
            await asyncio.sleep(self._delay)
            return False

    async def _converse(self, session: _Session) -> None:
        if self._inside >= MAX_SESSIONS:
            session.say(f"{MAX_SESSIONS} sessions are open already; try again later\n")
            return
        self._inside += 1
        try:
            session.say(_BANNER + _PROMPT)
            while True:
                words = (await session.line(self._idle)).decode("utf-8", "replace").split()
                if words and words[0].lower() in ("exit", "quit"):
                    return
                if [word.lower() for word in words] == [FOLLOW]:
                    await self._follow(session)
                elif words:
                    given = await answer(self._guard, words)
                    for piece in given.text_pieces():
                        session.say(piece)
                        await session.drain()
                    session.say("\n\n")
                session.say(_PROMPT)
                await session.drain()
        finally:
            self._inside -= 1

    async def _follow(self, session: _Session) -> None:
        stop = self._guard.follow(session.tell)
        try:
            session.say("press Enter to stop\n")
            await session.line(None)
        finally:
            stop()


class _Session:
    """One client's side: lines in, text out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float) -> None:
        self._reader = reader
        self._writer = writer
        self._patience = patience
        self._lines = Lines()
        self._waiting: list[bytes] = []
        self.choked = False

    async def line(self, patience: float | None) -> bytes:
        """The next line. Raises EOFError, SipguardError when it is too long, asyncio.TimeoutError."""
        return await asyncio.wait_for(self._next(), patience)

    async def _next(self) -> bytes:
        while not self._waiting:
            data = await self._reader.read(MAX_LINE)
            if not data:
                raise EOFError
            self._waiting = self._lines.feed(data)
        return self._waiting.pop(0)

    def say(self, text: str) -> None:
        self._writer.write(text.replace("\n", "\r\n").encode("utf-8", "backslashreplace"))

    async def drain(self) -> None:
        """Raises asyncio.TimeoutError when the client does not read."""
        self.choked = True
        await asyncio.wait_for(self._writer.drain(), self._patience)
        self.choked = False
        await asyncio.sleep(0)  # drain alone does not let others have their turn

    def tell(self, event: Mapping[str, Any]) -> None:
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_BACKLOG:
            transport.abort()
            return
        self.say(event_text(event) + "\n")
