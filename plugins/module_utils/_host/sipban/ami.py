# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to Asterisk's manager interface, kept up for ever."""

from __future__ import annotations

import asyncio
import collections
import hashlib
import os
import random
import secrets
import syslog
import time
from collections.abc import Callable

from ..._sip.errors import SipguardError
from .stream import Stream
from .values import Address, Response, SecurityEvent, parse_address

__all__ = ["Ami"]

_CHUNK = 64 * 1024  # bytes read at a time


class _Failure(Exception):
    """Why this attempt is over, for the log."""


class Ami:
    """Logs in, hands on events, and begins anew whenever that ends.

    ``secret`` is called at each attempt and may raise SipguardError or OSError. ``on_event`` must not raise. ``say`` gets
    a priority of syslog and one line, once whenever the situation changes.

    All times are in seconds: ``ping_every`` between two pings, ``patience`` for each answer, ``pauses`` the first and the
    longest pause between attempts, ``lasting`` how long a login must last for the pauses to begin anew, ``told_within``
    how long the event of our own login may take.

    ``connected``: logged in now. ``hears``: and Asterisk tells this user of security events. ``said``, ``since`` (seconds since the
    epoch): the situation last told.
    """

    def __init__(
        self,
        host: str,
        port: int,
        user: str,
        secret: Callable[[], str],
        on_event: Callable[[SecurityEvent], None],
        say: Callable[[int, str], None],
        *,
        ping_every: float = 60.0,
        patience: float = 10.0,
        pauses: tuple[float, float] = (0.2, 30.0),
        lasting: float = 5.0,
        told_within: float = 5.0,
    ) -> None:
        if not user.isprintable() or not user:
            raise SipguardError(f"{ascii(user)[:80]} is no name of an AMI user")
        self.host, self.port, self.user = host, port, user
        self.connected = False
        self.hears = False
        self.said = ""
        self.since = time.time()
        self._secret, self._on_event, self._say = secret, on_event, say
        self._ping_every, self._patience, self._pauses = ping_every, patience, pauses
        self._lasting, self._told_within = lasting, told_within
        self._totals: collections.Counter[str] = collections.Counter({**Stream().counters, "logins": 0})
        self._connection: _Connection | None = None

    def counters(self) -> dict[str, int]:
        """What the streams of all connections have counted, and ``logins``."""
        totals = self._totals.copy()
        if self._connection is not None:
            totals.update(self._connection.stream.counters)
        return dict(totals)

    async def run(self) -> None:
        """For ever."""
        pause = self._pauses[0]
        while True:
            began = time.monotonic()
            logins = self._totals["logins"]
            try:
                await self._attempt()
            except _Failure as failure:
                self._tell(syslog.LOG_ERR, str(failure))
            if self._totals["logins"] > logins and time.monotonic() - began >= self._lasting:
                pause = self._pauses[0]
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(pause * 2, self._pauses[1])

    async def ping(self) -> float:
        """Seconds that Asterisk takes to answer. Raises SipguardError."""
        if self._connection is None or not self.connected:
            raise SipguardError(f"not logged in to AMI: {self.said}" if self.said else "not logged in to AMI")
        began = time.monotonic()
        if await self._connection.send("Ping") is None:
            raise SipguardError("AMI has not answered")
        return time.monotonic() - began

    # -- one attempt

    @property
    def _where(self) -> str:
        return f"AMI at {self.host}:{self.port}"

    def _tell(self, priority: int, text: str) -> None:
        if text != self.said:
            self.said, self.since = text, time.time()
            self._say(priority, text)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opening = asyncio.ensure_future(asyncio.open_connection(self.host, self.port, limit=_CHUNK))
        try:
            await asyncio.wait([opening], timeout=self._patience)
            if not opening.done():
                raise _Failure(f"{self._where} cannot be reached: no answer within {self._patience:g} s")
            return opening.result()
        except OSError as error:
            number = error.errno or 0  # none of several errors; below 0, of the resolver
            reason = os.strerror(number) if number > 0 else error.strerror or type(error).__name__
            raise _Failure(
                f"{self._where} cannot be reached ({reason}): does Asterisk run, and is enabled=yes in manager.conf?"
            ) from error
        finally:
            opening.cancel()

    async def _attempt(self) -> None:
        """One connection, from its beginning to its end, which is always a _Failure."""
        try:
            secret = self._secret()
        except (OSError, ValueError, SipguardError) as error:
            raise _Failure(
                f"the secret of the AMI user {self.user} cannot be read: {ascii(str(error))[:200]}"
            ) from error
        reader, writer = await self._connect()
        connection = self._connection = _Connection(writer, self._patience)
        jobs = [asyncio.ensure_future(job) for job in (self._read(connection, reader), self._talk(connection, secret))]
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in jobs:
                if job.done():
                    job.result()
        finally:
            self.connected = self.hears = False
            self._connection = None
            self._totals.update(connection.stream.counters)
            connection.close()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _read(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        stream = connection.stream
        while True:
            try:
                data = await reader.read(_CHUNK)
                if not data:
                    raise ConnectionError
            except OSError as error:
                if connection.unanswered:
                    raise _Failure(f"{self._where} does not answer: nothing within {self._patience:g} s") from error
                raise _Failure(connection.stage.format(where=self._where)) from error
            try:
                found = stream.feed(data)
            except SipguardError as error:
                raise _Failure(f"{self._where}: {error}") from error
            if stream.version:
                connection.greeted.set()
            for item in found:
                if isinstance(item, Response):
                    connection.answer(item)
                elif not self._is_own(connection, item):
                    self._on_event(item)
            # Any of them shows that this user is told of security events; the first is that of our own login.
            if any(count and name != "responses" for name, count in stream.counters.items()):
                connection.heard.set()
            self._end_quarantine(connection)
            # A peer that always has more must not keep everybody else waiting: reading from a full buffer does not.
            await asyncio.sleep(0)

    def _end_quarantine(self, connection: _Connection) -> None:
        if self.connected and connection.stream.suspect:
            connection.send("Ping")

    def _is_own(self, connection: _Connection, event: SecurityEvent) -> bool:
        """Whether this is the event of our own login, which is no news to anybody."""
        who = (event.name, event.service, event.account, event.address)
        own = not connection.own_seen and who == ("SuccessfulAuth", "AMI", self.user, connection.address)
        connection.own_seen |= own
        return own

    async def _talk(self, connection: _Connection, secret: str) -> None:
        if not await _within(connection.greeted, self._patience):
            raise _Failure(f"{self._where} accepts the connection and says nothing within {self._patience:g} s")
        await self._log_in(connection, secret)
        self.connected = True
        self._totals["logins"] += 1
        connection.stage = "{where} has ended the connection: does Asterisk restart?"
        self._end_quarantine(connection)
        text = f"logged in to {self._where} as {self.user}"
        self.hears = await _within(connection.heard, self._told_within)
        if self.hears:
            self._tell(syslog.LOG_INFO, text)
        else:
            self._tell(
                syslog.LOG_WARNING,
                f"{text}, but Asterisk tells this user of no security events:"
                " it needs read=security in manager.conf, and neither disabledevents nor eventfilter may hide them",
            )
        while True:
            await asyncio.sleep(self._ping_every)
            await self._ask(connection, "Ping")

    async def _log_in(self, connection: _Connection, secret: str) -> None:
        """By challenge, so that the secret is not on the wire."""
        answer = await self._ask(connection, "Challenge", AuthType="MD5")
        challenge = answer.headers.get("challenge", "")
        if answer.status != "Success" or not challenge:
            raise _Failure(f"{self._where} gives no challenge: {_message(answer)}")
        key = hashlib.md5((challenge + secret).encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
        refused = (
            f"AMI refuses the user {self.user}: its secret is not the one of manager.conf, there is no such user,"
            " or it may not log in from this address (permit, deny)"
        )
        # Some releases close without a word.
        connection.stage = refused
        answer = await self._ask(connection, "Login", Username=self.user, AuthType="MD5", Key=key, Events="security")
        if answer.status != "Success":
            message = _message(answer)
            raise _Failure(refused if "uthentication" in message else f"AMI refuses the user {self.user}: {message}")

    async def _ask(self, connection: _Connection, action: str, **headers: str) -> Response:
        answer = await connection.send(action, **headers)
        if answer is None:
            raise _Failure(f"{self._where} does not answer: nothing within {self._patience:g} s")
        return answer


class _Connection:
    """One connection, and the actions under way on it."""

    def __init__(self, writer: asyncio.StreamWriter, patience: float) -> None:
        self.stream = Stream()
        self.greeted, self.heard = asyncio.Event(), asyncio.Event()
        # What it means when the other side hangs up now.
        self.stage = "{where} hangs up at once: is this address permitted, and authlimit high enough?"
        self.unanswered = False
        self.own_seen = False
        name = writer.get_extra_info("sockname")
        self.address: Address | None = parse_address(name[0]) if name else None
        self._writer = writer
        self._patience = patience
        self._waiting: dict[str, tuple[asyncio.Future[Response | None], asyncio.TimerHandle]] = {}

    def send(self, action: str, **headers: str) -> asyncio.Future[Response | None]:
        """Sends an action and does not wait. Without an answer in time the connection is given up, and the answer is None.

        There is no waiting for the socket: we send no more than a few actions before an answer is due.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Response | None] = loop.create_future()
        if self._writer.is_closing():
            future.set_result(None)
            return future
        action_id = secrets.token_hex(8)
        self._waiting[action_id] = (future, loop.call_later(self._patience, self._give_up))
        lines = [f"Action: {action}", f"ActionID: {action_id}", *(f"{name}: {text}" for name, text in headers.items())]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape"))
        self.stream.barrier(action_id)
        return future

    def answer(self, response: Response) -> None:
        """Hands the answer to who waits for it."""
        future, timer = self._waiting.pop(response.action_id, (None, None))
        if future is None or timer is None:  # given up meanwhile
            return
        timer.cancel()
        if not future.done():  # who waited may have been cancelled
            future.set_result(response)

    def _give_up(self) -> None:
        self.unanswered = True
        self.close()

    def close(self) -> None:
        """Ends the connection now; nobody waits for an answer any more."""
        self._writer.transport.abort()
        for future, timer in self._waiting.values():
            timer.cancel()
            if not future.done():
                future.set_result(None)
        self._waiting.clear()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event comes in time. (Before Python 3.12 asyncio.wait_for may swallow a cancellation.)"""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiting], timeout=seconds)
    finally:
        waiting.cancel()
    return event.is_set()


def _message(answer: Response) -> str:
    """What the other side gives as its reason, fit for a log."""
    return ascii(answer.headers.get("message", answer.status))[1:-1][:80]
