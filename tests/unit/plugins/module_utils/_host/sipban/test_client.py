# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import argparse
import asyncio
import io
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import client
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.commands import HELP
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.control import Control
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._host.sipban.fake_guard import FakeGuard

MODULE = client.__name__
NETWORK = ipaddress.ip_network("203.0.113.7")
WITHOUT = "bans go on in the kernel: 'sipguard why ADDRESS' and 'sipguard unban ADDRESS' work without it"
LIMIT = 8.0  # s; a test that hangs fails


class Served:
    """A sipband in a thread of its own; ``do`` has its loop do something."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.guard = FakeGuard()
        self._loop = asyncio.new_event_loop()
        self._control = Control(self.guard, self.path)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._control.start(), self._loop).result(LIMIT)

    def do(self, what: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return what()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(LIMIT)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._control.close(), self._loop).result(LIMIT)

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ask(self, *words: str) -> int:
        return client.main(["--socket", self.path, *words])

    def process(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """The command itself, and Ctrl-C at work: what a script puts into the background has it ignored, and hands that on."""
        return subprocess.Popen(
            [sys.executable, "-m", MODULE, "--socket", self.path, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **more,
        )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path / "control")
    yield server
    server.close()


@pytest.mark.parametrize(
    ("words", "status", "out"),
    [
        ("block 203.0.113.7 1h by hand", 0, "203.0.113.7 block\n"),
        ("unblock 203.0.113.7", 1, "203.0.113.7 is not previously blocked\n"),
        ("block x", 1, "x don't seems like a valid address\n"),
        ("block", 0, ""),
        ("ping", 0, "Asterisk answered after 1.2 ms\n"),
        ("wl --json", 0, '[\n  "192.0.2.1",\n  "2001:db8::/32"\n]\n'),
        ("--json ping", 0, '{\n  "seconds": 0.00123\n}\n'),
        ("unblock --json", 1, '{\n  "error": "ip address missing"\n}\n'),
        ("block 203.0.113.7 --json", 0, '{\n  "203.0.113.7": {\n    "outcome": "blocked",\n    "said": "203.0.113.7 block"\n  }\n}\n'),
    ],
)  # fmt: skip
def test_words_are_asked_and_the_answer_is_shown(
    served: Served, capsys: pytest.CaptureFixture[str], words: str, status: int, out: str
) -> None:
    assert served.ask(*words.split()) == status
    assert capsys.readouterr() == (out, "")


def test_sipguard_bans_is_the_same(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="sipguard")
    client.add_parser(parser.add_subparsers(dest="command"))
    shown = {}
    for words in (
        "block 203.0.113.7 2h -v --json=x",
        "--json block",
        "unblock 203.0.113.7",
        "",
        "help",
        "--help",
        "-h",
    ):
        options = parser.parse_args(["bans", "--socket", served.path, *words.split()])
        assert options.command == "bans"
        assert client.run(options) == 0
        shown[words] = capsys.readouterr().out
    assert shown["block 203.0.113.7 2h -v --json=x"] == "203.0.113.7 block\n"
    assert served.guard.asked == [(NETWORK, 7200, "-v --json=x")]
    assert json.loads(shown["--json block"])[0]["reason"] == "-v --json=x"
    assert shown["unblock 203.0.113.7"] == "203.0.113.7 unblocked\n"
    assert shown[""] == shown["help"] == shown["--help"] == shown["-h"]
    assert shown[""].startswith("usage: sipguard bans [--json] VERB [WORD ...]\n\n")


def test_sipguard_bans_leaves_its_complaints_to_sipguard(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser(prog="sipguard")
    client.add_parser(parser.add_subparsers(dest="command"))
    options = parser.parse_args(["bans", "--socket", str(tmp_path / "none"), "block"])
    with pytest.raises(SipguardError, match="sipband does not run"):
        client.run(options)


def test_help_needs_no_sipband(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["help"], ["-h"], ["--help"]):
        assert client.main(["--socket", str(tmp_path / "none"), *words]) == 0
        out = capsys.readouterr().out
        assert out.startswith("usage: sipbanctl [--json] VERB [WORD ...]\n       sipbanctl -i ")
        assert out.endswith(HELP + "\n")


def test_a_list_may_be_long(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.do(lambda: served.guard.fill(5000))
    assert served.ask("block") == 0
    assert len(capsys.readouterr().out.split("\n")) == 5001
    assert served.ask("block", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 5000


def test_two_at_once(served: Served) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(served.process("block", "203.0.113.7").communicate, None, LIMIT) for dummy in range(4)]
    said = sorted(each.result()[0] for each in done)
    assert said == ["203.0.113.7 block\n"] + ["203.0.113.7 previously blocked\n"] * 3


@pytest.mark.parametrize("kind", ["missing", "dead", "no directory"])
def test_without_sipband_it_says_what_works_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / ("x/control" if kind == "no directory" else "control")
    if kind == "dead":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    assert client.main(["--socket", str(path), "block"]) == 2
    said = f"sipbanctl: sipband does not run (systemctl status sipband); {WITHOUT}\n"
    assert capsys.readouterr() == ("", said)


def test_a_socket_that_cannot_be_reached_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.main(["--socket", str(tmp_path / ("x" * 120)), "block"]) == 2
    assert "sipband cannot be reached on " in capsys.readouterr().err


def test_who_is_not_root_is_told_so(served: Served) -> None:
    # Root's capabilities get past the mode of the socket; nobody's do not.
    become = "import os\nif os.getuid() == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    Path(served.path).chmod(0)
    script = f"from {MODULE} import main\n{become}raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "--socket", served.path, "block"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"sipbanctl: only root may talk to sipband; {WITHOUT}\n"


@pytest.mark.parametrize("words", ["-x", "--socket", "--jsonx block", "-i\x1b"])
def test_odd_options_are_refused(capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert client.main(words.split()) == 2
    said = capsys.readouterr().err
    assert "is no option of sipbanctl; 'sipbanctl help' tells what there is\n" in said
    assert said.strip().isprintable()


def test_too_much_is_refused_by_sipband(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert served.ask("block", "203.0.113.7", "1h", "x" * 500000) == 2
    assert capsys.readouterr().err == "sipbanctl: a request has at most 65536 bytes\n"


def serve_once(path: Path, reply: bytes) -> threading.Thread:
    """Something that is no sipband."""
    link = socket.socket(socket.AF_UNIX)
    link.bind(str(path))
    link.listen()

    def work() -> None:
        with link:
            peer, dummy = link.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(reply)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"", "sipband has hung up without an answer; journalctl -u sipband may say why"),
        (b'{"ok": true, "te', "sipband has hung up without an answer; journalctl -u sipband may say why"),
        (b"\xff\n", "what answers is no sipband of this version; 'systemctl restart sipband' would be right"),
        (b"[]\n", "what answers is no sipband of this version; 'systemctl restart sipband' would be right"),
        (b'{"ok": true}\n', "what answers is no sipband of this version; 'systemctl restart sipband' would be right"),
    ],
)
def test_an_answer_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], reply: bytes, said: str) -> None:
    thread = serve_once(tmp_path / "control", reply)
    assert client.main(["--socket", str(tmp_path / "control"), "ping"]) == 2
    thread.join()
    assert capsys.readouterr() == ("", f"sipbanctl: {said}\n")


def test_nothing_that_a_terminal_obeys_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "a\x1b[2J\nb\r\u202ec\udcff \u00e4"
    for words, shown in (([], "a\\x1b[2J\nb\\r\\u202ec\\udcff \u00e4\n"), (["--json"], '"a\\u001b[2J'), (["x"], "")):
        path = tmp_path / f"control{len(words)}{'x' in words}"
        reply = {"ok": True, "text": text, "data": text}
        if "x" in words:
            reply["error"] = True
        thread = serve_once(path, json.dumps(reply).encode() + b"\n")
        client.main(["--socket", str(path), "ping", *words])
        thread.join()
        out, err = capsys.readouterr()
        assert out.startswith(shown)
        assert (out + err).replace("\n", "").isprintable()


def test_an_encoding_that_has_little(tmp_path: Path) -> None:
    path = tmp_path / "control"
    thread = serve_once(path, '{"ok": true, "text": "h\u00e4ngt \u20ac", "data": 1}\n'.encode())
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "--socket", str(path), "ping"],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    thread.join()
    assert done.stdout == b"h\xe4ngt \\u20ac\n"


@pytest.mark.parametrize("as_json", [True, False])
def test_follow_shows_lines_until_it_is_stopped(served: Served, as_json: bool) -> None:
    with served.process("follow", *(["--json"] if as_json else [])) as process:
        while not served.do(lambda: list(served.guard.listeners)):
            assert process.poll() is None
        served.do(lambda: served.guard.block(NETWORK, 60, "by hand"))
        stream = process.stdout
        assert stream is not None
        line = stream.readline()
        if as_json:
            assert json.loads(line)["address"] == "203.0.113.7"
        else:
            assert line.endswith("] BLOCK => 203.0.113.7 (by hand)\n")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=LIMIT) == ("", "")
        assert process.returncode == 0


def test_follow_says_when_sipband_ends(served: Served) -> None:
    with served.process("follow") as process:
        while not served.do(lambda: list(served.guard.listeners)):
            assert process.poll() is None
        served.stop()
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (2, "")
    assert err == "sipbanctl: sipband has ended the conversation: it has been stopped, or this reads too slowly\n"


def test_who_has_read_enough_hears_no_complaint(served: Served) -> None:
    served.do(lambda: served.guard.fill(20000))
    with served.process("block") as process:
        stream = process.stdout
        assert stream is not None
        assert stream.readline().endswith("10.0.0.0\n")
        stream.close()
        error = process.stderr
        assert error is not None
        assert error.read() == ""
    assert process.returncode == 0


def test_a_console_of_lines(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "block 203.0.113.7 5m\n\nblock 203.0.113.7\nunblock 203.0.113.7\nunblock 203.0.113.7\nquit\nflush\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert served.ask("-i") == 1
    assert capsys.readouterr().out.split("\n") == [
        "203.0.113.7 block",
        "203.0.113.7 previously blocked",
        "203.0.113.7 unblocked",
        "203.0.113.7 is not previously blocked",
        "",
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("ping\n"))
    assert served.ask("-i") == 0
    served.stop()
    monkeypatch.setattr(sys, "stdin", io.StringIO("ping\nping\n"))
    assert served.ask("-i") == 2
    assert capsys.readouterr().err.count("sipband does not run") == 2


def test_a_console_on_a_terminal(served: Served) -> None:
    ours, theirs = os.openpty()
    with served.process("-i", stdin=theirs) as process:
        os.close(theirs)
        os.write(ours, b"block 203.0.113.7\nexit\n")
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
    os.close(ours)
    assert out.replace("sipban> ", "").strip() == "203.0.113.7 block"
    assert out.count("sipban> ") == 2


def test_little_is_imported() -> None:
    script = f"import sys, {MODULE}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    found = set(done.stdout.split())
    assert not found & {"asyncio", "ipaddress", "subprocess", "typing_extensions", "dataclasses"}
