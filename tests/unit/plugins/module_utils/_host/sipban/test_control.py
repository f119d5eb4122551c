# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import gc
import ipaddress
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import control
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.control import Control
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._host.sipban.fake_guard import FakeGuard

NETWORK = ipaddress.ip_network("203.0.113.7")
LIMIT = 8.0  # s; a test that hangs fails


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def at(cls, path: Path) -> Client:
        return cls(*await asyncio.open_unix_connection(str(path), limit=1 << 26))

    async def ask(self, *words: str) -> dict[str, Any]:
        await self.send(json.dumps({"words": words}).encode() + b"\n")
        return await self.answer()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> dict[str, Any]:
        line = await self.reader.readline()
        assert line.endswith(b"\n"), line
        return json.loads(line)

    async def ended(self) -> bool:
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


def run(
    path: Path, talk: Callable[[FakeGuard, Control], Awaitable[None]], patience: float = 30.0, bans: int = 0
) -> FakeGuard:
    """A server on the path, while ``talk`` lasts."""
    guard = FakeGuard()
    guard.fill(bans)

    async def conversation() -> None:
        server = Control(guard, str(path), patience)
        await server.start()
        try:
            await talk(guard, server)
        finally:
            await server.close()

    asyncio.run(asyncio.wait_for(conversation(), LIMIT))
    return guard


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control"


def test_it_answers_two_clients_at_once(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        one, two = await Client.at(path), await Client.at(path)
        assert await one.ask("block", "203.0.113.7", "1h", "by one") == {
            "ok": True,
            "text": "203.0.113.7 block",
            "data": {"203.0.113.7": {"outcome": "blocked", "said": "203.0.113.7 block"}},
        }
        assert (await two.ask("block", "203.0.113.7"))["text"] == "203.0.113.7 previously blocked"
        assert (await one.ask("unblock", "203.0.113.7"))["ok"]
        assert not (await two.ask("unblock", "203.0.113.7"))["ok"]
        assert (await two.ask())["text"].startswith("Commands:")

    guard = run(path, talk)
    assert guard.asked[0] == (NETWORK, 3600, "by one")
    assert not path.exists()


def test_requests_may_come_in_pieces_and_together(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        client = await Client.at(path)
        for byte in b'{"words": ["upti':
            await client.send(bytes([byte]))
        await client.send(b'me"]}\n{"words": ["ping"]}\n')
        assert (await client.answer())["text"] == "Uptime 1 day 01:01:01"
        assert (await client.answer())["data"] == {"seconds": 0.00123}

    run(path, talk)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"block\n",
        b"\xff\xfe\x00\n",
        b"[" * 60000 + b"\n",
        b'{"words": "block"}\n',
        b'{"words": ["block", 7]}\n',
        b'{"words": [""]}\n',
        b"{}\n",
        b"[]\n",
        b"nul\x00l\n",
    ],
)
def test_what_is_no_request_is_told_so_and_ends_it(path: Path, line: bytes) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        client = await Client.at(path)
        await client.send(line)
        said = await client.answer()
        assert said["text"] == 'that is no request; {"words": ["help"]} would be right'
        assert (said["ok"], said["error"]) == (False, True)
        assert await client.ended()
        assert (await (await Client.at(path)).ask("uptime"))["ok"]

    run(path, talk)


def test_odd_words_are_answered(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        client = await Client.at(path)
        await client.send(b'{"words": ["block", "\\ud800\\u001b[2J"]}\n')
        assert (await client.answer())["text"] == "\\ud800\\x1b[2J don't seems like a valid address"

    run(path, talk)


def test_a_huge_request_is_not_kept(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        client = await Client.at(path)
        client.writer.write(b'{"words": ["' + b"x" * 1000000)
        assert (await client.answer())["text"] == "a request has at most 65536 bytes"
        assert await client.ended()

    run(path, talk)


def test_who_never_finishes_is_sent_away(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        slow, silent = await Client.at(path), await Client.at(path)
        await slow.send(b'{"words": [')
        for client in (slow, silent):
            assert (await client.answer())["text"] == "no request has come within 0.05 s"
            assert await client.ended()

    run(path, talk, patience=0.05)


def test_sixteen_clients_are_enough(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        clients = [await Client.at(path) for dummy in range(control.MAX_CLIENTS)]
        assert [(await client.ask("uptime"))["ok"] for client in clients] == [True] * len(clients)
        late = await Client.at(path)
        said = await late.answer()
        assert (said["text"], said["error"]) == ("sipband talks to 16 others already; try again later", True)
        assert await late.ended()
        assert (await clients[-1].ask("uptime"))["ok"]
        clients[0].writer.close()
        while True:  # until the server has seen that
            late = await Client.at(path)
            late.writer.write(b'{"words": ["uptime"]}\n')
            if (await late.answer())["ok"]:
                break

    run(path, talk)


def test_a_long_list_arrives_whole(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        said = await (await Client.at(path)).ask("block")
        assert len(said["data"]) == said["text"].count("\n") + 1 == 20000
        assert said["data"][-1]["entry"] == "10.0.78.31"

    run(path, talk, bans=20000)


def test_who_has_nothing_more_to_ask_still_gets_his_answers(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        client = await Client.at(path)
        await client.send(b'{"words": ["block"]}\n' * 2)
        client.writer.write_eof()
        for dummy in range(2):
            assert len((await client.answer())["data"]) == 5000
        assert await client.ended()

    run(path, talk, bans=5000)


def test_who_does_not_read_his_answer_is_dropped(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(path))
            deaf.sendall(b'{"words": ["block"]}\n')
            other = await Client.at(path)
            assert (await other.ask("uptime"))["ok"]
            while server._clients.keys() != {task for task in server._clients if task.done()}:
                await asyncio.wait(server._clients)
            got = 0
            while more := deaf.recv(65536):
                got += len(more)
            assert got < 1000000

    run(path, talk, patience=0.05, bans=20000)


def test_follow_tells_both_followers_until_they_leave(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        one, two, asking = await Client.at(path), await Client.at(path), await Client.at(path)
        for client in (one, two):
            assert await client.ask("follow") == {"ok": True, "text": "", "data": None, "follow": True}
        await asking.ask("block", "203.0.113.7", "1h", "a\u202eb")
        await asking.ask("block", "203.0.113.8", "1h", "he said 'x'")
        for client in (one, two):
            said = await client.answer()
            assert said["text"].endswith("BLOCK => 203.0.113.8 (he said 'x')")
            assert said["data"]["what"] == "block"
        one.writer.close()
        await two.send(b"\n")
        assert await two.ended()
        while guard.listeners:
            await asyncio.sleep(0)
        assert (await asking.ask("unblock", "203.0.113.8"))["ok"]

    run(path, talk)


def test_a_follower_that_never_reads_is_dropped_and_costs_little(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        good = await Client.at(path)
        await good.ask("follow")
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(path))
            deaf.sendall(b'{"words": ["follow"]}\n')
            while len(guard.listeners) < 2:
                await asyncio.sleep(0)
            told = 0
            while len(guard.listeners) == 2:
                guard.tell("block", NETWORK, reason="x" * 500)
                told += 1
                assert json.loads(await good.reader.readline())["ok"]
            kernel = deaf.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) + 2 * 262144
            assert told * 500 < control.MAX_BACKLOG + kernel
            assert guard.listeners

    run(path, talk)


def test_a_burst_that_nobody_can_read_in_time_is_bounded(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        client = await Client.at(path)
        await client.ask("follow")
        for dummy in range(20000):  # the loop has no turn in between
            guard.tell("block", NETWORK, reason="x" * 500)
        got = await client.reader.read()
        assert len(got) < 2 * control.MAX_BACKLOG + 1000000
        while guard.listeners:
            await asyncio.sleep(0)

    run(path, talk)


def test_the_socket_is_for_root_only(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    mask = os.umask(0)
    try:
        run(path, talk)
        assert os.umask(0) == 0
    finally:
        os.umask(mask)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """That anybody can enter."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


STRANGER = """\
import os, socket, sys
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
try:
    link.sendall(b'{"words": ["flush"]}\\n')
except OSError:
    pass
os.write(1, link.recv(65536))
"""


def test_another_user_is_refused_even_when_he_gets_in(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = open_directory / "control"
    # Whoever runs the tests: root becomes nobody, and everybody else asks a server that believes to be root's.
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    async def talk(guard: FakeGuard, server: Control) -> None:
        path.chmod(0o666)
        guard.fill(1)
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-I", "-S", "-c", STRANGER, str(path)],
            check=True,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        said = json.loads(done.stdout)
        assert (said["ok"], said["text"], said["error"]) == (False, "only root may talk to sipband", True)
        assert len(guard.live) == 1

    run(path, talk)


def test_the_socket_of_one_that_was_killed_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def talk(guard: FakeGuard, server: Control) -> None:
        assert (await (await Client.at(path)).ask("uptime"))["ok"]

    run(path, talk)


def test_a_second_sipband_is_refused_and_the_first_goes_on(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        second = Control(FakeGuard(), str(path))
        with pytest.raises(SipguardError, match="another sipband answers on"):
            await second.start()
        await second.close()
        assert (await (await Client.at(path)).ask("uptime"))["ok"]

    run(path, talk)


def test_a_first_one_without_time_is_not_replaced_either(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(SipguardError, match="another sipband answers on"):
            asyncio.run(Control(FakeGuard(), str(path)).start())
        assert path.is_socket()


def test_where_nobody_can_listen(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, said in (
        (file, "something else is there; remove it"),
        (tmp_path / "no" / "control", "No such file or directory"),
        (tmp_path / ("x" * 120), "too long"),
    ):
        with pytest.raises(SipguardError, match=f"cannot listen on .*{said}"):
            asyncio.run(Control(FakeGuard(), str(path)).start())
    assert file.exists()


def test_closing_sends_everybody_away_and_leaves_the_socket_of_another(path: Path) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        idle, following = await Client.at(path), await Client.at(path)
        assert (await idle.ask("uptime"))["ok"]
        await following.ask("follow")
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            await server.close()
            assert path.is_socket()
        assert await idle.ended()
        assert await following.ended()
        assert not guard.listeners

    run(path, talk)


def test_a_fault_in_one_conversation_leaves_the_others(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def talk(guard: FakeGuard, server: Control) -> None:
        guard.rows = [{}]  # no address: a fault that is ours
        unlucky, other = await Client.at(path), await Client.at(path)
        await unlucky.send(b'{"words": ["top"]}\n')
        assert await unlucky.ended()
        assert (await other.ask("uptime"))["ok"]

    run(path, talk)
    gc.collect()  # before Python 3.12, asyncio tells of it when it throws the task away
    assert "KeyError" in caplog.text
