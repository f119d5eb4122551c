# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading security events: our own client of the manager interface beside panoramisk, at the same work in the same run.

Each client is a process of its own that logs in to a peer here, and does the least with an event that a ban takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CLIENTS", "EVENTS", "GOAL", "Figure", "Findings", "child", "measure", "table"]

EVENTS = 20_000
GOAL = 15.0  # us of processor time an event
CLIENTS = ("own", "panoramisk")
PANORAMISK = "1.4"

_CHECKOUT = Path(__file__).resolve().parents[2]
_OURS = "plugins/module_utils/_host/sipban"
_VICTIM = "203.0.113.99"
_LAST = "198.51.100.255"  # whoever reads its event has read everything
_ENDLESS = 16 * 1024 * 1024  # bytes without an empty line
_PATIENCE = 120.0  # s


@dataclass(frozen=True)
class Figure:
    """What one client takes for an event, in microseconds of its processor's time; events a second of the wall's; KiB it grew by."""

    client: str
    cost: float
    rate: float
    grown: int
    lines: int  # of its code


@dataclass(frozen=True)
class Findings:
    """``seen``: by case and client, the addresses that were handed to its user, with their service.

    ``endless``: KiB that a client grew by while no event ended.
    """

    figures: list[Figure]
    seen: dict[str, dict[str, list[str]]]
    endless: dict[str, int]


def _event(account: bytes = b"1001", address: str = "198.51.100.7", service: str = "PJSIP") -> bytes:
    """As Asterisk 22 writes it."""
    return (
        b"Event: ChallengeResponseFailed\r\nPrivilege: security,all\r\nEventTV: 2026-11-22T00:50:00.491+0000\r\n"
        + f"Severity: Error\r\nService: {service}\r\nEventVersion: 1\r\nAccountID: ".encode()
        + account
        + b"\r\nSessionID: 2a77576f1e274f0c857e00871908de28\r\nLocalAddress: IPV4/TCP/192.0.2.1/5060\r\n"
        + f"RemoteAddress: IPV4/TCP/{address}/40000\r\nChallenge: 1795308600/d5d5caa7a1e631c55e682f4e475bd2bf\r\n".encode()
        + b"Response: 63e29192882dc89f5f520c98ccf0f780\r\nExpectedResponse: \r\n\r\n"
    )


_HALVES = (
    f"x\r\nSessionID: 1\r\nLocalAddress: IPV4/TCP/192.0.2.1/1\r\nRemoteAddress: IPV4/TCP/{_VICTIM}/1\r\n\r\n".encode()
    + _event(address=_VICTIM)
    + _event().partition(b"AccountID")[0]
    + b"AccountID: x"
)
# The service that lets AccountID be as long as it likes is the manager itself, by way of HTTP.
_CASES = {
    "an honest event": _event(),
    "a second RemoteAddress within 36 characters": _event(f"\r\nRemoteAddress: IPV4/U/{_VICTIM}".encode()),
    "two events in one AccountID": _event(_HALVES, service="AMI"),
    "an empty line in AccountID": _event(b"x\r\n\r\n"),
    "invalid UTF-8": _event(b"\xff\xfe"),
    "no address": _event(address="999.1.1.1"),
}


class _Peer:
    """One connection: a login, then what is to be read, answers to pings, and again and again the event that ends it all.

    (Our own client passes over that one in a quarantine.)
    """

    def __init__(self, wire: bytes) -> None:
        self._wire = wire
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        sock = self._listener.accept()[0]
        with contextlib.suppress(ConnectionError), sock, sock.makefile("rb") as lines:
            sock.sendall(b"Asterisk Call Manager/11.0.0\r\n")
            action: dict[str, str] = {}
            for line in lines:
                name, colon, value = line.decode().strip().partition(": ")
                if colon:
                    action[name] = value
                    continue
                more = {"Challenge": "Challenge: 1\r\n", "Ping": "Ping: Pong\r\n"}.get(action["Action"], "")
                sock.sendall(f"Response: Success\r\nActionID: {action['ActionID']}\r\n{more}\r\n".encode())
                if action["Action"] == "Login":
                    sock.sendall(self._wire + _event(address=_LAST))
                    threading.Thread(target=self._repeat, args=(sock,), daemon=True).start()
                action = {}

    def _repeat(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not self._closed.wait(0.05):
                sock.sendall(_event(address=_LAST))

    def close(self) -> None:
        self._closed.set()
        self._listener.close()
        self._thread.join(1)


class _Tally:
    """What a client was told. Ends the process when it has been told everything."""

    def __init__(self) -> None:
        self.begun = (0.0, 0.0)
        self.size = _size()
        self.seen: list[str] = []
        self.count = 0

    def take(self, service: str, address: str) -> None:
        if not self.count:
            self.begun = (time.process_time(), time.perf_counter())
        self.count += 1
        if address == _LAST:
            now = (time.process_time(), time.perf_counter())
            used, wall = (end - begin for end, begin in zip(now, self.begun, strict=True))
            told = {"count": self.count, "used": used, "wall": wall, "grown": _peak() - self.size, "seen": self.seen}
            print(json.dumps(told), flush=True)
            os._exit(0)
        if len(self.seen) < 10:
            self.seen.append(f"{address} ({service})")


def _size() -> int:
    """KiB resident now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def _peak() -> int:
    """KiB resident at the most."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def _own(port: int) -> None:
    from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.ami import Ami

    tally = _Tally()
    ami = Ami(
        "127.0.0.1",
        port,
        "bench",
        lambda: "secret",
        lambda event: tally.take(event.service, str(event.address)),
        lambda *dummy: None,
    )
    asyncio.run(ami.run())


def _panoramisk(port: int) -> None:
    panoramisk = importlib.import_module("panoramisk")  # not among the requirements: measure() brings it
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    manager = panoramisk.Manager(loop=loop, host="127.0.0.1", port=port, username="bench", secret="secret")
    tally = _Tally()

    def take(dummy: Any, event: Any) -> None:
        remote = event.RemoteAddress
        for each in remote if isinstance(remote, list) else [remote]:
            parts = each.split("/")
            tally.take(event.Service, parts[2] if len(parts) > 2 else each)

    manager.register_event("*", take)
    manager.connect()
    loop.run_forever()


def child(client: str, port: int) -> None:
    """One client; prints what it was told and ends when it has read everything."""
    run: Callable[[int], None] = {"own": _own, "panoramisk": _panoramisk}[client]
    run(port)


def _run(client: str, wire: bytes, packages: str) -> dict[str, Any]:
    """What a client says of these events."""
    peer = _Peer(wire)
    try:
        path = os.pathsep.join([str(_CHECKOUT), str(_CHECKOUT / ".cache"), packages])
        program = f"from tests.bench import ami_clients; ami_clients.child({client!r}, {peer.port})"
        argv = [sys.executable, "-c", program]
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=_PATIENCE)
        if done.returncode or not done.stdout:
            raise RuntimeError(done.stderr[-2000:])
        told: dict[str, Any] = json.loads(done.stdout)
        return told
    finally:
        peer.close()


@contextmanager
def _packages() -> Iterator[str]:
    """A folder with panoramisk."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, f"panoramisk=={PANORAMISK}"]
        subprocess.run(argv, check=True)
        yield folder


def _lines(files: list[Path]) -> int:
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def measure(repeats: int) -> Findings:
    """Medians of `repeats` runs of each client, in turns."""
    wire = b"".join(_event(address=f"198.51.{number // 250}.{number % 250}") for number in range(EVENTS))
    with _packages() as packages:
        runs: dict[str, list[dict[str, Any]]] = {client: [] for client in CLIENTS}
        for dummy in range(repeats):
            for client in CLIENTS:
                runs[client].append(_run(client, wire, packages))
        sizes = {
            "own": _lines([_CHECKOUT / _OURS / name for name in ("stream.py", "ami.py", "values.py")]),
            "panoramisk": _lines([*Path(packages, "panoramisk").glob("*.py")]),
        }
        figures = []
        for client, found in runs.items():
            if any(each["count"] != EVENTS + 1 for each in found):
                raise RuntimeError(f"{client} has not read every event")
            used, wall, grown = (statistics.median(each[name] for each in found) for name in ("used", "wall", "grown"))
            figures.append(Figure(client, used / EVENTS * 1e6, EVENTS / wall, int(grown), sizes[client]))
        seen = {
            case: {client: _run(client, wire, packages)["seen"] for client in CLIENTS} for case, wire in _CASES.items()
        }
        endless = _event() + b"Event: x\r\nX: " + b"y" * _ENDLESS + b"\r\n\r\n"
        held = {client: _run(client, endless, packages)["grown"] for client in CLIENTS}
    return Findings(figures, seen, held)


def table(findings: Findings) -> str:
    """For people."""
    lines = [f"{'':14}{'us an event':>14}{'events a second':>18}{'grown by':>12}{'lines of code':>16}"]
    for each in findings.figures:
        lines.append(f"{each.client:14}{each.cost:14.1f}{each.rate:18.0f}{each.grown / 1024:8.1f} MiB{each.lines:16}")
    own, other = findings.figures
    verdict = "reached" if own.cost <= GOAL else "MISSED"
    lines.append(f"own: {other.cost / own.cost:.1f} times as fast; goal {GOAL:g} us: {verdict}")
    lines.append(f"\nAddresses handed on; the sender is 198.51.100.7, and {_VICTIM} never sent anything:\n")
    lines.append(f"{'':46}{CLIENTS[0]:24}{CLIENTS[1]}")
    for case, seen in findings.seen.items():
        lines.append(f"{case:46}" + "".join(f"{', '.join(seen[client]) or '-':24}" for client in CLIENTS).rstrip())
    grown = "".join(f"{f'grows by {findings.endless[client] / 1024:.1f} MiB':24}" for client in CLIENTS)
    lines.append(f"{f'{_ENDLESS // 1024 // 1024} MiB without an empty line':46}{grown}")
    return "\n".join(lines)
