# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to AMI against a scripted peer: whatever that one does, the connection comes back and the log says what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import syslog
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.ami import Ami
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import SecurityEvent
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._host.sipban.ami_peer import BANNER, USER, Call, Peer

SECRET = "jK4-secret"
LIMIT = 10.0  # s; a test that hangs fails
LOGGED_IN = "logged in to AMI at 127.0.0.1:{port} as sipban"


def event(account: str = "1001", service: str = "PJSIP", address: str = "198.51.100.7") -> bytes:
    return (
        "Event: InvalidAccountID\r\nPrivilege: security,all\r\nEventTV: 2026-11-22T00:49:49.531+0000\r\nSeverity: Error\r\n"
        f"Service: {service}\r\nEventVersion: 1\r\nAccountID: {account}\r\nSessionID: 4dd1\r\n"
        f"LocalAddress: IPV4/TCP/127.0.0.1/5060\r\nRemoteAddress: IPV4/TCP/{address}/40000\r\n\r\n"
    ).encode()


class Client:
    """An Ami and all it told."""

    def __init__(self, port: int, **options: Any) -> None:
        self.events: list[SecurityEvent] = []
        self.log: list[tuple[int, str]] = []
        self.secret = SECRET
        given = {"patience": 2.0, "pauses": (0.001, 0.004), "told_within": 2.0, **options}
        self._news = asyncio.Condition()
        self.ami = Ami("127.0.0.1", port, USER, lambda: self.secret, self._take, self._say, **given)

    def _take(self, event: SecurityEvent) -> None:
        self.events.append(event)

    def _say(self, priority: int, text: str) -> None:
        self.log.append((priority, text))

    @property
    def accounts(self) -> list[str]:
        return [event.account for event in self.events]

    @property
    def said(self) -> list[str]:
        return [text for dummy, text in self.log]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.0005)


@asynccontextmanager
async def connected(script: Callable[[Call], Awaitable[object]], **options: Any) -> AsyncIterator[tuple[Peer, Client]]:
    """A peer, and an Ami that speaks to it."""
    peer = Peer(script)
    await peer.open()
    client = Client(peer.port, **options)
    task = asyncio.ensure_future(client.ami.run())
    try:
        yield peer, client
        assert not task.done() or task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await peer.close()
    assert not client.ami.connected


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), LIMIT))


async def honest(call: Call) -> None:
    assert await call.log_in(SECRET)
    await call.pong()


def test_login_by_challenge_and_events() -> None:
    async def script(call: Call) -> None:
        await call.log_in(SECRET)
        call.answer(await call.action("Ping"))
        call.send(event("1") + event("2"))
        await call.pong()

    async def test() -> None:
        async with connected(script) as (peer, client):
            await client.until(lambda: client.accounts == ["1", "2"])
            assert client.log == [(syslog.LOG_INFO, LOGGED_IN.format(port=peer.port))]
            assert client.ami.said == client.said[0]
            assert abs(client.ami.since - time.time()) < 5
            assert client.ami.connected
            (call,) = peer.calls
            assert [action["Action"] for action in call.actions] == ["Challenge", "Login", "Ping"]
            assert SECRET not in str(call.actions)
            assert 0 < await client.ami.ping() < 1
            counters = client.ami.counters()
            assert (counters["events"], counters["injected"], counters["logins"]) == (3, 0, 1)

    run(test)


def test_events_in_the_middle_of_our_own_login_are_not_lost_for_ever() -> None:
    """The event of the own login begins a quarantine; the answer to the Ping ends it."""

    async def script(call: Call) -> None:
        await call.log_in(SECRET)
        call.answer(await call.action("Ping"))
        call.send(event("after"))
        await call.pong()

    async def test() -> None:
        async with connected(script) as (dummy, client):
            await client.until(lambda: client.accounts == ["after"])

    run(test)


def test_one_byte_at_a_time() -> None:
    async def script(call: Call) -> None:
        write = call.writer.write

        def slowly(wire: bytes) -> None:
            pending.extend(wire)

        async def drip() -> None:
            while True:
                if pending:
                    write(bytes([pending.pop(0)]))
                await asyncio.sleep(0)

        pending = bytearray()
        call.send = slowly  # type: ignore[method-assign]
        dripping = asyncio.ensure_future(drip())
        try:
            await call.log_in(SECRET)
            call.answer(await call.action("Ping"))
            call.send(event("slow"))
            await call.pong()
        finally:
            dripping.cancel()

    async def test() -> None:
        async with connected(script) as (dummy, client):
            await client.until(lambda: client.accounts == ["slow"])

    run(test)


def test_silence_after_accept() -> None:
    async def test() -> None:
        async with connected(Call.ended, patience=0.02) as (peer, client):
            await client.until(lambda: len(peer.calls) > 2)
            assert client.log == [
                (
                    syslog.LOG_ERR,
                    f"AMI at 127.0.0.1:{peer.port} accepts the connection and says nothing within 0.02 s",
                )
            ]
            peer.script = honest
            await client.until(lambda: client.ami.connected)

    run(test)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"\xff" * 100000])
def test_another_service(said: bytes) -> None:
    async def script(call: Call) -> None:
        call.send(said)
        await call.ended()

    async def test() -> None:
        async with connected(script) as (peer, client):
            await client.until(lambda: len(peer.calls) > 2)
            where = f"AMI at 127.0.0.1:{peer.port}"
            assert client.said == [f"{where}: what answers there is not Asterisk's manager interface"]

    run(test)


def test_wrong_secret_then_the_right_one() -> None:
    async def test() -> None:
        async with connected(honest_or_not) as (peer, client):
            client.secret = "wrong"
            await client.until(lambda: len(peer.calls) > 3)
            client.secret = SECRET
            await client.until(lambda: client.ami.connected and len(client.log) > 1)
            refused, logged_in = client.log[-2:]
            assert refused[0] == syslog.LOG_ERR
            assert refused[1].startswith("AMI refuses the user sipban: its secret is not the one of manager.conf")
            assert logged_in[1] == LOGGED_IN.format(port=peer.port)
            assert len(client.log) <= 3  # the first attempt may have been with the right one

    async def honest_or_not(call: Call) -> None:
        if await call.log_in(SECRET):
            await call.pong()

    run(test)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SipguardError("no secret\n in x"), "the secret of the AMI user sipban cannot be read: 'no secret\\n in x'"),
        (
            FileNotFoundError(2, "No such file"),
            "the secret of the AMI user sipban cannot be read: '[Errno 2] No such file'",
        ),
    ],
)
def test_unreadable_secret(error: Exception, said: str) -> None:
    async def test() -> None:
        attempts = 0

        def secret() -> str:
            nonlocal attempts
            attempts += 1
            raise error

        log: list[str] = []
        ami = Ami("127.0.0.1", 1, USER, secret, print, lambda dummy, text: log.append(text), pauses=(0.001, 0.001))
        task = asyncio.ensure_future(ami.run())
        while attempts < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        assert log == [said]

    run(test)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"Response: Error\r\nActionID: {id}\r\nMessage: Login Already In Use\r\n\r\n", "Login Already In Use"),
        (b"Response: Error\r\nActionID: {id}\r\nMessage: a\x1b[31m\xff\r\n\r\n", "a\\x1b[31m\\udcff"),
        (b"Response: Goodbye\r\nActionID: {id}\r\n\r\n", "Goodbye"),
    ],
)
def test_refusals(answer: bytes, said: str) -> None:
    async def script(call: Call) -> None:
        call.send(BANNER)
        call.answer(await call.action("Challenge"), Challenge="1")
        call.send(answer.replace(b"{id}", (await call.action("Login"))["ActionID"].encode()))
        await call.ended()

    async def test() -> None:
        async with connected(script) as (peer, client):
            await client.until(lambda: len(peer.calls) > 2)
            assert client.said == [f"AMI refuses the user sipban: {said}"]

    run(test)


@pytest.mark.parametrize(
    "garbage",
    [b"\r\n\r\n", b"Response: Success\r\n\r\n", b"\xff\x00" * 70000, b"Response: Success\r\nActionID: 1\r\n\r\n"],
)
@pytest.mark.parametrize("action", ["Challenge", "Login"])
def test_garbage_for_an_answer(action: str, garbage: bytes) -> None:
    async def script(call: Call) -> None:
        call.send(BANNER)
        if action == "Login":
            call.answer(await call.action("Challenge"), Challenge="1")
        await call.action(action)
        call.send(garbage)
        await call.ended()

    async def test() -> None:
        async with connected(script, patience=0.05) as (peer, client):
            await client.until(lambda: len(peer.calls) > 1 and bool(client.log))
            assert client.said == [f"AMI at 127.0.0.1:{peer.port} does not answer: nothing within 0.05 s"]
            peer.script = honest
            await client.until(lambda: client.ami.connected)

    run(test)


def test_no_challenge() -> None:
    async def script(call: Call) -> None:
        call.send(BANNER)
        call.answer(await call.action("Challenge"), "Error", Message="Must specify AuthType")
        await call.ended()

    async def test() -> None:
        async with connected(script) as (peer, client):
            await client.until(lambda: bool(client.log))
            assert client.said == [f"AMI at 127.0.0.1:{peer.port} gives no challenge: Must specify AuthType"]

    run(test)


def test_cut_off_in_the_middle_of_an_event() -> None:
    async def script(call: Call) -> None:
        await call.log_in(SECRET)
        call.answer(await call.action("Ping"))
        call.send(event("1") + event("half")[:-20])
        peer_of_test[0].script = second

    async def second(call: Call) -> None:
        await call.log_in(SECRET)
        call.answer(await call.action("Ping"))
        call.send(event("2"))
        await call.pong()

    peer_of_test: list[Peer] = []

    async def test() -> None:
        async with connected(script) as (peer, client):
            peer_of_test.append(peer)
            await client.until(lambda: client.accounts == ["1", "2"])
            assert client.ami.counters()["logins"] == 2
            assert f"AMI at 127.0.0.1:{peer.port} has ended the connection: does Asterisk restart?" in client.said

    run(test)


def test_asterisk_restarts() -> None:
    async def test() -> None:
        async with connected(honest) as (peer, client):
            logged_in = LOGGED_IN.format(port=peer.port)
            await client.until(lambda: client.said == [logged_in])
            await peer.shut()
            await client.until(lambda: "refused" in client.ami.said)
            assert not client.ami.connected
            with pytest.raises(SipguardError, match=r"not logged in to AMI: AMI at .* cannot be reached"):
                await client.ami.ping()
            await peer.open()
            await client.until(lambda: client.ami.said == logged_in)
            where = f"AMI at 127.0.0.1:{peer.port}"
            gone = f"{where} cannot be reached (Connection refused): does Asterisk run, and is enabled=yes in manager.conf?"
            ended = f"{where} has ended the connection: does Asterisk restart?"
            # each once, however many attempts there were
            assert client.said == [logged_in, ended, gone, logged_in]
            assert await client.ami.ping() < 1

    run(test)


def test_hangs_up_at_once() -> None:
    async def script(call: Call) -> None:
        pass

    async def test() -> None:
        async with connected(script) as (peer, client):
            await client.until(lambda: len(peer.calls) > 3)
            assert client.said == [
                f"AMI at 127.0.0.1:{peer.port} hangs up at once: is this address permitted, and authlimit high enough?"
            ]

    run(test)


def test_pauses_double_and_begin_anew() -> None:
    async def test() -> None:
        moments: list[float] = []

        async def refuse(call: Call) -> None:
            moments.append(time.monotonic())

        async with connected(refuse, pauses=(0.02, 0.64), lasting=0.0) as (peer, client):
            await client.until(lambda: len(moments) > 5)
            gaps = [second - first for first, second in itertools.pairwise(moments)]
            pauses = (0.02, 0.04, 0.08, 0.16, 0.32)
            assert all(gap >= least * 0.75 for gap, least in zip(gaps, pauses, strict=False)), gaps
            peer.script = honest
            await client.until(lambda: client.ami.connected)
            peer.script = refuse
            del moments[:]
            await client.until(lambda: bool(peer.calls[-1].actions))
            begin = time.monotonic()
            peer.calls[-1].writer.transport.abort()
            await client.until(lambda: len(moments) > 0)
            # The longest pause takes 0.48 s at least, and the first one a twentieth of that.
            assert moments[0] - begin < 0.64 * 0.75

    run(test)


def test_user_without_the_right_to_security_events() -> None:
    async def script(call: Call) -> None:
        await call.log_in(SECRET, told=False)
        await call.pong()

    async def test() -> None:
        async with connected(script, told_within=0.02) as (dummy, client):
            await client.until(lambda: bool(client.log))
            ((priority, text),) = client.log
            assert priority == syslog.LOG_WARNING
            assert "it needs read=security in manager.conf" in text
            assert client.ami.connected
            assert await client.ami.ping() < 1

    run(test)


def test_the_own_login_is_no_news_but_that_of_others_is() -> None:
    async def script(call: Call) -> None:
        await call.log_in(SECRET)
        call.answer(await call.action("Ping"))
        call.send(call.own_event())
        await call.pong()

    async def test() -> None:
        async with connected(script) as (dummy, client):
            await client.until(lambda: len(client.events) > 0)
            assert client.accounts == [USER]

    run(test)


def test_regular_ping() -> None:
    async def test() -> None:
        async with connected(honest, ping_every=0.005) as (peer, client):
            await client.until(lambda: bool(peer.calls) and len(peer.calls[0].actions) > 8)
            assert len(peer.calls) == 1

    run(test)


def test_no_answer_to_a_ping() -> None:
    async def script(call: Call) -> None:
        await call.log_in(SECRET, told=False)
        await call.ended()

    async def test() -> None:
        async with connected(script, ping_every=0.01, patience=0.05, told_within=0.01) as (peer, client):
            await client.until(lambda: len(peer.calls) > 1)
            assert f"AMI at 127.0.0.1:{peer.port} does not answer: nothing within 0.05 s" in client.said

    run(test)


def test_nobody_waits_for_ever_for_a_ping() -> None:
    async def script(call: Call) -> None:
        await call.log_in(SECRET)
        call.answer(await call.action("Ping"))
        await call.action("Ping")

    async def test() -> None:
        async with connected(script) as (dummy, client):
            await client.until(lambda: client.ami.connected and client.ami.counters()["responses"] == 3)
            with pytest.raises(SipguardError, match="AMI has not answered"):
                await client.ami.ping()

    run(test)


def test_quarantine_has_one_barrier_at_a_time() -> None:
    released = asyncio.Event
    gate: list[asyncio.Event] = []

    async def script(call: Call) -> None:
        gate.append(released())
        await call.log_in(SECRET)
        call.answer(await call.action("Ping"))
        for number in range(50):
            call.send(event(str(number), "SIP"))
        barrier = await call.action("Ping")
        await gate[0].wait()
        call.send(event("not believed") + event("50", "SIP"))
        call.answer(barrier)
        call.send(event("believed"))
        await call.pong()

    async def test() -> None:
        async with connected(script) as (peer, client):
            await client.until(lambda: len(client.events) == 50)
            gate[0].set()
            await client.until(lambda: "believed" in client.accounts)
            assert client.accounts == [*map(str, range(51)), "believed"]
            assert [action["Action"] for action in peer.calls[0].actions] == ["Challenge", "Login", "Ping", "Ping"]
            assert len({action["ActionID"] for action in peer.calls[0].actions}) == 4
            assert client.ami.counters()["injected"] == 1

    run(test)


def test_barrier_that_is_never_answered_ends_the_connection() -> None:
    async def script(call: Call) -> None:
        await call.log_in(SECRET)
        await call.ended()

    async def test() -> None:
        async with connected(script, patience=0.03) as (peer, client):
            await client.until(lambda: len(peer.calls) > 1)

    run(test)


@pytest.mark.parametrize("flood", [event("flood") * 500, b"\xff" * 65536, b"\r\n" * 32768, event("x", "SIP") * 500])
def test_a_flood_starves_nobody(flood: bytes) -> None:
    async def script(call: Call) -> None:
        await call.log_in(SECRET)
        with contextlib.suppress(ConnectionError):
            for dummy in range(100):
                call.send(flood)
                await call.writer.drain()
        await call.pong()

    async def test() -> None:
        async with connected(script) as peer_and_client:
            client = peer_and_client[1]
            await client.until(lambda: client.ami.connected)
            longest = 0.0
            for dummy in range(100):
                # What the loop itself works in one turn; how long that takes is the machine's business.
                before = time.thread_time()
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - before)
            assert longest < 0.25

    run(test)


def test_a_peer_that_reads_nothing() -> None:
    """Nothing of ours waits for the socket; the missing answer ends the connection."""

    async def script(call: Call) -> None:
        await call.log_in(SECRET, told=False)
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        call.send(event("x", "SIP") * 10)
        await asyncio.sleep(LIMIT)

    async def test() -> None:
        async with connected(script, patience=0.05) as (peer, client):
            await client.until(lambda: len(peer.calls) > 1)
            assert len(client.events) >= 10

    run(test)


def test_cancelled_while_it_connects() -> None:
    async def test() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            client = Client(full.getsockname()[1])
            task = asyncio.ensure_future(client.ami.run())
            await client.until(lambda: bool(client.log))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(test)


@pytest.mark.parametrize("user", ["", "a\r\nAction: Originate", "a\x00"])
def test_no_name(user: str) -> None:
    with pytest.raises(SipguardError, match="is no name of an AMI user"):
        Ami("127.0.0.1", 5038, user, str, print, print)
