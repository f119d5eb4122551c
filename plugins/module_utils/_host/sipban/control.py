# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unix socket through which root talks to sipband: a line of JSON to ask, ``{"words": ["block", "203.0.113.7"]}``, a line as answer.

``{"ok": ..., "text": ..., "data": ...}`` is an answer; with ``"error": true`` nobody has been asked. ``follow`` is answered by a line with
``"follow": true``, and then by a line for everything that happens, until the client sends anything, or leaves.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import socket
import struct
from collections.abc import Mapping
from typing import Any

from ..._sip.errors import SipguardError
from .commands import FOLLOW, Guard, answer, event_text

__all__ = ["MAX_BACKLOG", "MAX_CLIENTS", "MAX_REQUEST", "Control"]

MAX_CLIENTS = 16
MAX_REQUEST = 65536  # bytes
MAX_BACKLOG = 262144  # bytes that a follower has not read yet
_PATIENCE = 30.0
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid (unix(7))


class Control:
    """The server. ``patience``: seconds for a request to arrive, and for an answer to be read."""

    def __init__(self, guard: Guard, path: str, patience: float = _PATIENCE) -> None:
        self._guard = guard
        self._path = pathlib.Path(path)
        self._patience = patience
        self._uids = {0, os.geteuid()}
        self._clients: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._server: asyncio.AbstractServer | None = None
        self._made = (0, 0)

    async def start(self) -> None:
        """Listen; the directory has to exist. Raises SipguardError when another sipband does already, or when it cannot be done."""
        self._make_room()
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)  # from its first moment on it is nobody else's
        try:
            link.bind(str(self._path))
        except OSError as error:
            link.close()
            raise SipguardError(f"cannot listen on {self._path}: {error.strerror or error}") from error
        finally:
            os.umask(mask)
        self._made = self._identity()
        self._server = await asyncio.start_unix_server(self._client, sock=link, limit=MAX_REQUEST)

    async def close(self) -> None:
        """Send everybody away, and take the socket away."""
        if self._server is None:
            return
        self._server.close()
        # The socket of a sipband that has been started meanwhile stays.
        if self._identity() == self._made:
            self._path.unlink(missing_ok=True)
        clients = list(self._clients)
        for client, writer in self._clients.items():
            # To cancel alone is not enough: before Python 3.12, wait_for swallows it when what it waits for has just come.
            writer.transport.abort()
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        self._server = None

    def _identity(self) -> tuple[int, int]:
        try:
            found = self._path.lstat()
        except OSError:
            return 0, 0
        return found.st_dev, found.st_ino

    def _make_room(self) -> None:
        """Take away the socket of a sipband that has been killed."""
        if self._path.exists() and not self._path.is_socket():
            raise SipguardError(f"cannot listen on {self._path}: something else is there; remove it")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.setblocking(False)
            try:
                link.connect(str(self._path))
            except FileNotFoundError:
                return
            except ConnectionRefusedError:
                self._path.unlink(missing_ok=True)
                return
            except OSError as error:
                # BlockingIOError: somebody listens, and has no time.
                if not isinstance(error, BlockingIOError):
                    raise SipguardError(f"cannot listen on {self._path}: {error.strerror or error}") from error
        raise SipguardError(f"another sipband answers on {self._path}; stop it first")

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # never so in a coroutine
            return
        self._clients[task] = writer
        try:
            refusal = self._refusal(writer)
            if refusal:
                await self._error(writer, refusal)
                return
            while await self._request(reader, writer):
                pass
        except asyncio.IncompleteReadError:
            pass  # has nothing more to ask, but may still read
        except (OSError, asyncio.TimeoutError):
            # Gone, or does not read its answer. What is still to be sent must not be waited for.
            writer.transport.abort()
        finally:
            self._clients.pop(task, None)
            writer.close()

    def _refusal(self, writer: asyncio.StreamWriter) -> str:
        link = writer.get_extra_info("socket")
        dummy, uid, dummy = _CREDENTIALS.unpack(
            link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid not in self._uids:
            return "only root may talk to sipband"
        if len(self._clients) > MAX_CLIENTS:
            return f"sipband talks to {MAX_CLIENTS} others already; try again later"
        return ""

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether there may be another."""
        try:
            line = await asyncio.wait_for(reader.readuntil(b"\n"), self._patience)
        except asyncio.LimitOverrunError:
            await self._error(writer, f"a request has at most {MAX_REQUEST} bytes")
            return False
        except asyncio.TimeoutError:
            await self._error(writer, f"no request has come within {self._patience:g} s")
            return False
        words = _words(line)
        if words is None:
            await self._error(writer, 'that is no request; {"words": ["help"]} would be right')
            return False
        if [word.lower() for word in words] == [FOLLOW]:
            await self._follow(reader, writer)
            return False
        given = await answer(self._guard, words)
        for piece in given.json_pieces():
            writer.write(piece.encode("ascii"))
            await asyncio.wait_for(writer.drain(), self._patience)
            await asyncio.sleep(0)  # drain alone does not let others have their turn
        writer.write(b"\n")
        await asyncio.wait_for(writer.drain(), self._patience)
        return True

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = writer.transport

        def tell(event: Mapping[str, Any]) -> None:
            if transport.is_closing():
                return
            if transport.get_write_buffer_size() > MAX_BACKLOG:
                transport.abort()
                return
            writer.write(_line({"ok": True, "text": event_text(event), "data": dict(event)}))

        stop = self._guard.follow(tell)
        try:
            writer.write(_line({"ok": True, "text": "", "data": None, "follow": True}))
            await reader.read(1)
        finally:
            stop()

    async def _error(self, writer: asyncio.StreamWriter, text: str) -> None:
        writer.write(_line({"ok": False, "text": text, "data": {"error": text}, "error": True}))
        await asyncio.wait_for(writer.drain(), self._patience)


def _words(line: bytes) -> list[str] | None:
    try:
        request = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):  # the latter for a line of brackets
        return None
    words = request.get("words") if isinstance(request, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        return None
    return words


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, default=str).encode("ascii") + b"\n"
