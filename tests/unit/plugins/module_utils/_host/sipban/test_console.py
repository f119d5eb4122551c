# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import console
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.console import Console, Lines
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._host.sipban.fake_guard import FakeGuard

TOKEN = "0123456789abcdef0123"
NETWORK = ipaddress.ip_network("203.0.113.7")
LIMIT = 8.0  # s; a test that hangs fails
WELCOME = "Sipban\r\nuse 'help' for more commands\r\nsipban> "

Talk = Callable[[FakeGuard, Console, list[str]], Awaitable[None]]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def at(cls, server: Console, token: str = "") -> Client:
        client = cls(*await asyncio.open_connection("127.0.0.1", server.port))
        if token:
            assert await client.until("token: ") == "token: "
            assert await client.ask(token) == WELCOME
        return client

    async def ask(self, line: str) -> str:
        await self.send(line.encode() + b"\r\n")
        return await self.until("sipban> ")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until(self, end: str) -> str:
        return (await self.reader.readuntil(end.encode())).decode()

    async def rest(self) -> str:
        try:
            return (await self.reader.read()).decode()
        except ConnectionResetError:
            return ""


def run(talk: Talk, *, bans: int = 0, idle: float = 600.0, door: float = 30.0, delay: float = 0.0) -> list[str]:
    """A console while ``talk`` lasts; what it has logged."""
    said: list[str] = []
    guard = FakeGuard()
    guard.fill(bans)

    async def conversation() -> None:
        server = Console(
            guard, 0, lambda: TOKEN, lambda priority, text: said.append(f"{priority} {text}"), idle, door, delay
        )
        await server.start()
        try:
            await talk(guard, server, said)
        finally:
            await server.close()

    asyncio.run(asyncio.wait_for(conversation(), LIMIT))
    return said


def test_the_console_is_the_published_one() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        client = await Client.at(server, TOKEN)
        assert await client.ask("block 203.0.113.7") == "203.0.113.7 block\r\n\r\nsipban> "
        assert await client.ask("block 203.0.113.7") == "203.0.113.7 previously blocked\r\n\r\nsipban> "
        assert (await client.ask("block")).endswith("] 203.0.113.7\r\n\r\nsipban> ")
        assert await client.ask("unblock 203.0.113.7") == "203.0.113.7 unblocked\r\n\r\nsipban> "
        assert await client.ask("unblock 203.0.113.7") == "203.0.113.7 is not previously blocked\r\n\r\nsipban> "
        assert await client.ask("block 1.2.3") == "1.2.3 don't seems like a valid address\r\n\r\nsipban> "
        assert await client.ask("wl") == "192.0.2.1\r\n2001:db8::/32\r\n\r\nsipban> "
        assert await client.ask("") == "sipban> "
        assert "\r\nunblock ADDRESS " in await client.ask("help")
        await client.send(b"exit\r\n")
        assert await client.rest() == ""
        other = await Client.at(server, TOKEN)
        await other.send(b"QUIT\n")
        assert await other.rest() == ""

    assert run(talk) == []


def test_commands_may_come_from_a_pipe() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        client = await Client.at(server)
        await client.send(f"{TOKEN}\nblock\nblock\n".encode())
        client.writer.write_eof()
        assert (await client.rest()).count("\r\n") == 2 + 2 * 5001

    run(talk, bans=5000)


def test_two_sessions_at_once_share_the_bans() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        one, two = await Client.at(server, TOKEN), await Client.at(server, TOKEN)
        await one.ask("block 203.0.113.7")
        assert (await two.ask("block 203.0.113.7")).startswith("203.0.113.7 previously blocked")

    run(talk)


def test_it_listens_on_this_host_only() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        with socket.socket() as link, pytest.raises(ConnectionRefusedError):
            link.connect(("127.0.0.2", server.port))
        with pytest.raises(SipguardError, match="the console cannot listen on"):
            await Console(guard, server.port, lambda: TOKEN, lambda priority, text: None).start()

    run(talk)


def test_three_wrong_tokens_end_it() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        client = await Client.at(server)
        await client.send(f"wrong\r\n{TOKEN}x\r\n\r\n{TOKEN}\r\n".encode())
        assert await client.rest() == "token: wrong token\r\n" * 3
        patient = await Client.at(server)
        await patient.send(f"\x00\xff\r\n{TOKEN}\r\n".encode("latin-1"))
        assert await patient.until("sipban> ") == f"token: wrong token\r\ntoken: {WELCOME}"

    said = run(talk)
    assert len(said) == 4
    assert all(line.startswith("4 console: wrong token from 127.0.0.1, port ") for line in said)
    assert TOKEN not in "".join(said)


def test_wrong_tokens_delay_everybody_and_hanging_up_does_not_help() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for number in range(3):
            hasty = await Client.at(server)
            await hasty.until("token: ")
            await hasty.send(b"guess\r\n")
            while len(said) < number + 1:
                await asyncio.sleep(0.001)
            hasty.writer.close()
        await Client.at(server, TOKEN)
        assert loop.time() - begin >= 3 * 0.05

    assert len(run(talk, delay=0.05)) == 3


def test_few_may_stand_at_the_door() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        crowd = [await Client.at(server) for dummy in range(console.MAX_SESSIONS)]
        for client in crowd:
            await client.until("token: ")
        late = await Client.at(server)
        assert await late.rest() == "too many are asking; try again later\r\n"
        assert await crowd[0].ask(TOKEN) == WELCOME
        assert await (await Client.at(server)).until("token: ")

    run(talk)


def test_four_sessions_are_enough() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        sessions = [await Client.at(server, TOKEN) for dummy in range(console.MAX_SESSIONS)]
        late = await Client.at(server)
        await late.send(f"{TOKEN}\r\n".encode())
        assert await late.rest() == "token: 4 sessions are open already; try again later\r\n"
        await sessions[0].send(b"quit\r\n")
        await sessions[0].rest()
        await Client.at(server, TOKEN)

    run(talk)


def test_who_says_nothing_is_sent_away() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        silent, idle = await Client.at(server), await Client.at(server, TOKEN)
        assert await silent.rest() == "token: \r\ntoo long without a word\r\n"
        await idle.send(b"uptim")
        assert await idle.rest() == "\r\ntoo long without a word\r\n"

    run(talk, idle=0.1, door=0.05)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("data", [b"x" * 100000, b"\xff\xfb\x01" * 20000, b"\xff\xfa" + b"x" * 60000, b"\x00" * 60000])
def test_a_huge_line_ends_it(inside: bool, data: bytes) -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        client = await Client.at(server, TOKEN if inside else "")
        client.writer.write(data)
        rest = await client.rest()
        # What has not been read makes TCP forget the last word, sometimes.
        assert rest.removeprefix("token: ") in ("", "\r\na line has at most 1024 bytes\r\n")
        assert "Uptime" in await (await Client.at(server, TOKEN)).ask("uptime")

    run(talk)


def test_binary_rubbish_is_no_command() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        client = await Client.at(server, TOKEN)
        await client.send(b"\x1b]0;x\x07 \xe2\x80\xae\xff\xff\r\n")
        assert await client.until("sipban> ") == (
            "\\x1b]0;x\\x07 is no command; use 'help' for more commands\r\n\r\nsipban> "
        )

    run(talk)


def test_follow_goes_on_until_a_line_comes() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        one, two = await Client.at(server, TOKEN), await Client.at(server, TOKEN)
        await one.send(b"follow\r\n")
        assert await one.until("stop\r\n") == "press Enter to stop\r\n"
        await two.ask("block 203.0.113.7 1h by two")
        assert (await one.until("\r\n")).endswith("] BLOCK => 203.0.113.7 (by two)\r\n")
        assert await one.ask("") == "sipban> "
        assert not guard.listeners
        await two.send(b"follow\r\n")
        await two.until("stop\r\n")
        two.writer.close()
        while guard.listeners:
            await asyncio.sleep(0)
        assert (await two.reader.read()) == b""
        assert (await one.ask("follow now")).startswith("follow stands alone")

    run(talk)


def test_a_follower_that_never_reads_is_dropped() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        client = await Client.at(server, TOKEN)
        await client.send(b"follow\r\n")
        await client.until("stop\r\n")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        told = 0
        while guard.listeners:
            guard.tell("block", NETWORK, reason="x" * 200)
            told += 1
            await asyncio.sleep(0)
        assert told < 100000  # what the kernel keeps, at most 6 MiB of it, comes on top of the backlog

    run(talk)


def test_who_does_not_read_his_list_is_dropped() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        deaf, other = await Client.at(server, TOKEN), await Client.at(server, TOKEN)
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await deaf.send(b"block\r\n" * 20)
        assert "Uptime" in await other.ask("uptime")
        while server._inside:
            await asyncio.sleep(0.001)

    run(talk, bans=20000, idle=0.2)


def test_closing_sends_everybody_away() -> None:
    async def talk(guard: FakeGuard, server: Console, said: list[str]) -> None:
        outside, inside, following = (
            await Client.at(server),
            await Client.at(server, TOKEN),
            await Client.at(server, TOKEN),
        )
        await following.send(b"follow\r\n")
        await following.until("stop\r\n")
        await outside.until("token: ")
        await server.close()
        for client in (outside, inside, following):
            assert await client.rest() == ""
        assert not guard.listeners
        with socket.socket() as link, pytest.raises(ConnectionRefusedError):
            link.connect(("127.0.0.1", server.port))

    run(talk)


@pytest.mark.parametrize("token", ["", "short", "x" * 15])
def test_without_a_token_worth_its_name_there_is_no_console(token: str) -> None:
    with pytest.raises(SipguardError, match="at least 16 characters would be right"):
        asyncio.run(Console(FakeGuard(), 0, lambda: token, lambda priority, text: None).start())


def test_the_token_is_read_anew_and_without_one_nobody_is_let_in() -> None:
    tokens = [TOKEN]
    said: list[str] = []

    def read() -> str:
        if not tokens:
            raise SipguardError("cannot read /etc/sipguard/sipban.token: No such file or directory")
        return tokens[0]

    async def talk() -> None:
        server = Console(FakeGuard(), 0, read, lambda priority, text: said.append(text), delay=0.0)
        await server.start()
        tokens[0] = "f" * 32
        await Client.at(server, "f" * 32)
        tokens.clear()
        client = await Client.at(server)
        await client.send(b"\r\n\r\n\r\n")
        assert await client.rest() == "token: wrong token\r\n" * 3
        await server.close()

    asyncio.run(asyncio.wait_for(talk(), LIMIT))
    assert said == ["console: nobody is let in: cannot read /etc/sipguard/sipban.token: No such file or directory"] * 3


# -- bytes into lines

NEGOTIATION = (
    b"\xff\xfd\x03",  # DO SUPPRESS-GO-AHEAD
    b"\xff\xfb\x18",  # WILL TERMINAL-TYPE
    b"\xff\xfa\x18\x00xterm\r\n\xff\xffx\xff\xf0",  # a subnegotiation
    b"\xff\xf1",  # NOP
    b"\xff\xf4\xff\xfd\x06",  # interrupt, DO TIMING-MARK
)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a\r\nb\nc\r\x00d\r\n", [b"a", b"b", b"c", b"d"]),
        (b"\r\n\r\n\n\r", [b"", b"", b"", b""]),
        (b"a", []),
        (b"a\xff\xffb\r\n", [b"a\xffb"]),
        (b"".join(NEGOTIATION) + b"x\r\n", [b"x"]),
        (b"pi" + b"ng".join(NEGOTIATION) + b"\r\n", [b"pi" + b"ng" * 4]),
        (b"x" * 1024 + b"\r\n", [b"x" * 1024]),
    ],
)
def test_lines_are_found(data: bytes, lines: list[bytes]) -> None:
    assert Lines().feed(data) == lines
    one = Lines()
    assert [line for byte in data for line in one.feed(bytes([byte]))] == lines


@given(st.lists(st.tuples(st.binary(max_size=20), st.sampled_from(NEGOTIATION)), max_size=20))
def test_negotiation_changes_no_line(parts: list[tuple[bytes, bytes]]) -> None:
    plain = [(text.replace(b"\xff", b"").replace(b"\r", b""), said) for text, said in parts]
    mixed = b"".join(text + said for text, said in plain) + b"\n"
    assert Lines().feed(mixed) == b"".join(text for text, dummy in plain).replace(b"\x00", b"").split(b"\n")


@pytest.mark.parametrize("data", [b"x" * 1025, b"\xff\xfa" * 3000, b"\x00" * 5000])
def test_lines_have_an_end(data: bytes) -> None:
    with pytest.raises(SipguardError, match="a line has at most 1024 bytes"):
        Lines().feed(data)
