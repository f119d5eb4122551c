# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local API as CrowdSec 1.4.6 has it, as far as sipband talks to it, that can also misbehave; and an event loop to be called in."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import re
import ssl
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["LapiPeer", "Loop", "answer", "cut", "drip", "eventually", "huge", "silent"]

PATIENCE = 10.0  # seconds

# What an alert must have, see pkg/models/localapi_swagger.yaml of CrowdSec 1.4.6; found with the real one.
_REQUIRED = (
    "scenario",
    "scenario_hash",
    "scenario_version",
    "message",
    "events_count",
    "start_at",
    "stop_at",
    "capacity",
    "leakspeed",
    "simulated",
    "events",
    "source",
)
_REQUIRED_DECISION = ("origin", "type", "scope", "value", "duration", "scenario")

Fault = Callable[["_Handler"], None]


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def answer(status: int, body: bytes | str) -> Fault:
    """That status, with that body."""
    return lambda handler: handler.reply(status, body.encode() if isinstance(body, str) else body)


def cut(handler: _Handler) -> None:
    """The connection ends in the middle of the body."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"new": [')


def silent(handler: _Handler) -> None:
    """Nothing comes until the other side hangs up, or the peer is closed."""
    while not handler.peer.closing.is_set():
        with contextlib.suppress(TimeoutError):
            if not handler.connection.recv(1):
                return


def drip(handler: _Handler) -> None:
    """A header without an end, a byte each 20 ms: no step takes long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    with contextlib.suppress(OSError):
        while not handler.peer.closing.wait(0.02):
            handler.wfile.write(b"x")


def huge(size: int, told: bool) -> Fault:
    """A body of so many bytes, its length told before or not."""

    def misbehave(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header(*(("Content-Length", str(size)) if told else ("Connection", "close")))
        handler.end_headers()
        with contextlib.suppress(OSError):
            for dummy in range(0, size, 1 << 16):
                handler.wfile.write(b" " * (1 << 16))

    return misbehave


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 0.2
    peer: LapiPeer

    def log_message(self, *dummy: object) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return email.utils.formatdate(time.time() + self.peer.clock, usegmt=True)

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        with self.peer.lock:
            self.peer.requests.append((f"{self.command} {parts.path}", query, body, dict(self.headers)))
            waiting = self.peer.faults.get(f"{self.command} {parts.path}")
            fault = waiting.popleft() if waiting else None
        if fault is not None:
            fault(self)
            self.close_connection = True
            return
        with self.peer.lock:
            status, said = self.peer.respond(f"{self.command} {parts.path}", query, body, self.headers)
        self.reply(status, json.dumps(said).encode())

    do_GET = do_POST = do_DELETE = _do


class LapiPeer:
    """Machines with their passwords, keys with their last pull, decisions. Listens on a port of its own of 127.0.0.1.

    ``faults`` maps "GET /v1/decisions/stream" and the like to what is done with the next requests instead of answering.
    ``clock`` is by how many seconds its clock is ahead; ``unwanted`` are values that make it refuse an alert.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.machines = {"pbx1": "password-of-pbx1", "pbx2": "password-of-pbx2"}
        self.keys = {"key-of-pbx1": 0.0, "key-of-pbx2": 0.0}
        self.tokens: dict[str, str] = {}
        self.decisions: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, str], Any, dict[str, str]]] = []
        self.faults: dict[str, deque[Fault]] = {}
        self.unwanted: set[str] = set()
        self.clock = 0.0
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self.port = 0
        self._context = context
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens, on the port of before; logins of before are worth nothing."""
        self.closing.clear()
        self.tokens.clear()
        handler = type("Handler", (_Handler,), {"peer": self})
        server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        server.handle_error = lambda *dummy: None  # type: ignore[method-assign]
        server.daemon_threads = True
        if self._context:
            server.socket = self._context.wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Nobody listens any more."""
        self.closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def fault(self, what: str, *faults: Fault) -> None:
        """Misbehaves at the next requests of that kind."""
        with self.lock:
            self.faults.setdefault(what, deque()).extend(faults)

    def seen(self, what: str) -> list[dict[str, str]]:
        """The queries of the requests of that kind."""
        with self.lock:
            return [query for name, query, dummy, dummy in self.requests if name == what]

    def add(self, value: str, seconds: float, **more: Any) -> dict[str, Any]:
        """A decision that somebody else makes."""
        now = time.time() + self.clock
        made = {
            "id": len(self.decisions) + 1,
            "value": value,
            "scope": "Range" if "/" in value else "Ip",
            "type": "ban",
            "origin": "cscli",
            "scenario": "manual 'ban' from 'admin'",
            **more,
            "until": now + seconds,
            "created": now,
        }
        with self.lock:
            self.decisions.append(made)
        return made

    def active(self, value: str) -> list[dict[str, Any]]:
        """What stands for a value, the longest first."""
        now = time.time() + self.clock
        with self.lock:
            found = [each for each in self.decisions if each["value"] == value and each["until"] > now]
        return sorted(found, key=lambda each: each["until"], reverse=True)

    # -- answers

    def respond(self, what: str, query: Mapping[str, str], body: Any, headers: Message[str, str]) -> tuple[int, Any]:
        if what == "POST /v1/watchers/login":
            if self.machines.get(body["machine_id"]) != body["password"]:
                return 401, {"code": 401, "message": "incorrect Username or Password"}
            token = f"token-{len(self.requests)}"
            self.tokens[token] = body["machine_id"]
            return 200, {"code": 200, "expire": "2030-01-01T00:00:00Z", "token": token}
        if what == "GET /v1/decisions/stream":
            key = headers.get("X-Api-Key", "")
            return self._stream(key, query) if key in self.keys else (403, {"message": "access forbidden"})
        machine = self.tokens.get((headers.get("Authorization") or "").removeprefix("Bearer "))
        if machine is None:
            return 401, {"code": 401, "message": "Token is expired"}
        if what == "POST /v1/alerts":
            return self._alerts(body)
        if what == "DELETE /v1/decisions":
            return self._delete(query)
        return 404, {"message": "not found"}

    def _alerts(self, body: Any) -> tuple[int, Any]:
        for number, alert in enumerate(body):
            missing = [name for name in _REQUIRED if alert.get(name) is None]
            missing += [name for each in alert["decisions"] for name in _REQUIRED_DECISION if not each.get(name)]
            missing += [each["value"] for each in alert["decisions"] if each["value"] in self.unwanted]
            if missing:
                return 500, {"message": f"validation failure list:\n{number}.{missing[0]} in body is required"}
        for alert in body:
            at = time.strptime(alert["stop_at"], "%Y-%m-%dT%H:%M:%SZ")
            stop = email.utils.mktime_tz((*at[:9], 0))
            for each in alert["decisions"]:
                found = re.fullmatch(r"([0-9]+)s", each["duration"])
                assert found, each
                seconds = stop + int(found[1]) - (time.time() + self.clock)
                rest = {name: each[name] for name in ("scope", "type", "origin", "scenario")}
                self.add(each["value"], seconds, **rest)
        return 201, [str(number + 1) for number, dummy in enumerate(body)]

    def _delete(self, query: Mapping[str, str]) -> tuple[int, Any]:
        unknown = set(query) - {"value", "scenario", "origin", "type", "scopes", "ip", "range", "contains"}
        if unknown:
            return 500, {"message": f"'{unknown.pop()}' doesn't exist: invalid filter"}
        now = time.time() + self.clock
        found = [
            each
            for each in self.decisions
            if each["until"] > now and all(each[name] == value for name, value in query.items())
        ]
        for each in found:
            each["until"] = now
        return 200, {"nbDeleted": str(len(found))}

    def _stream(self, key: str, query: Mapping[str, str]) -> tuple[int, Any]:
        now, since = time.time() + self.clock, self.keys[key]
        full = query.get("startup") == "true"
        origins = query["origins"].split(",") if "origins" in query else []
        new, deleted = [], []
        for each in self.decisions:
            if origins and each["origin"] not in origins:
                continue
            longest = self.active(each["value"])[:1]
            row = {name: each[name] for name in each if name not in ("until", "created")}
            row["duration"] = f"{each['until'] - now:.6f}s"
            if each["until"] > now and (full or each["created"] > since) and longest == [each]:
                new.append(row)
            elif each["until"] <= now and (full or each["until"] > since - 2) and not longest:
                deleted.append(row)
        self.keys[key] = now
        return 200, {"new": new or None, "deleted": deleted or None}


class Loop:
    """An event loop at work in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.failed: list[Mapping[str, Any]] = []
        self.loop.set_exception_handler(lambda dummy, context: self.failed.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Loop]:
        made = cls()
        try:
            yield made
        finally:
            made.close()
