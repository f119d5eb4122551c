# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the PBX received: listens on UDP and TCP, keeps every payload, answers requests with 200 OK."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from .netns import Namespace

__all__ = ["Received", "Sink"]


@dataclass
class Received:
    """One datagram, or everything so far from one TCP connection."""

    transport: str
    source: str
    source_port: int
    port: int
    payload: bytes = b""
    answered: int = field(default=0, repr=False)  # bytes of a TCP stream that have had their answer


class Sink:
    """A SIP server on `ports` of `addresses` in a namespace, run by a thread of this process."""

    def __init__(self, host: Namespace, addresses: Iterable[str], ports: Iterable[int]) -> None:
        self._records: list[Received] = []
        self._news = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._wake, wake = os.pipe()
        self._stop = wake
        self._selector.register(self._wake, selectors.EVENT_READ)
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for port in ports:
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    sock = host.socket(family, kind)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind((address, port))
                    sock.setblocking(False)
                    if kind == socket.SOCK_STREAM:
                        sock.listen(64)
                    self._selector.register(sock, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            ready = [key for key, dummy in self._selector.select()]
            if any(key.fd == self._wake for key in ready):
                return
            # Streams first, and all datagrams at once: when one is told of, everything that arrived before it has been told of too.
            datagrams = []
            for key in sorted(ready, key=lambda key: key.fileobj.type == socket.SOCK_DGRAM):  # type: ignore[union-attr]
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if key.data is not None:
                    self._read(sock, key.data)
                elif sock.type == socket.SOCK_STREAM:
                    self._accept(sock)
                else:
                    datagrams += self._receive(sock)
            self._tell(*(record for dummy, record in datagrams))
            for sock, record in datagrams:
                if _is_request(record.payload):
                    with contextlib.suppress(OSError):
                        sock.sendto(_answer(record.payload), (record.source, record.source_port))

    @staticmethod
    def _receive(sock: socket.socket) -> list[tuple[socket.socket, Received]]:
        found = []
        with contextlib.suppress(OSError):  # BlockingIOError at last
            while True:
                payload, peer = sock.recvfrom(65535)
                found.append((sock, Received("udp", peer[0], peer[1], sock.getsockname()[1], payload)))
        return found

    def _accept(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, peer = sock.accept()
            connection.setblocking(False)
            record = Received("tcp", peer[0], peer[1], sock.getsockname()[1])
            self._tell(record)
            self._selector.register(connection, selectors.EVENT_READ, record)
            self._read(connection, record)

    def _read(self, sock: socket.socket, record: Received) -> None:
        try:
            data = sock.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(sock)
            sock.close()
            return
        with self._news:
            record.payload += data
            self._news.notify_all()
        while (end := record.payload.find(b"\r\n\r\n", record.answered)) >= 0:
            message = record.payload[record.answered : end + 4].lstrip(b"\r\n")
            record.answered = end + 4
            if _is_request(message):
                with contextlib.suppress(OSError):
                    sock.sendall(_answer(message))

    def _tell(self, *records: Received) -> None:
        with self._news:
            self._records += records
            self._news.notify_all()

    def send(self, payload: bytes, peer: tuple[str, int], port: int = 5060) -> None:
        """Sends a datagram to `peer` from one of the server's own ports, as a PBX that calls somebody."""
        family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
        for key in list(self._selector.get_map().values()):
            sock = key.fileobj
            if not isinstance(sock, socket.socket) or (sock.family, sock.type) != (family, socket.SOCK_DGRAM):
                continue
            if sock.getsockname()[1] == port:
                sock.sendto(payload, peer)
                return
        raise AssertionError(f"no socket on port {port}")

    def all(self) -> list[Received]:
        """Everything received so far."""
        with self._news:
            return list(self._records)

    def has(self, token: bytes) -> bool:
        """Whether something with `token` in it has been received."""
        return any(token in record.payload for record in self.all())

    def wait(self, token: bytes, seconds: float = 5) -> bool:
        """Whether something with `token` in it is received within that time."""
        end = time.monotonic() + seconds
        with self._news:
            while not any(token in record.payload for record in self._records):
                if not self._news.wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    return False
        return True

    def close(self) -> None:
        """Ends the thread and closes every socket."""
        os.write(self._stop, b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        os.close(self._wake)
        os.close(self._stop)


def _is_request(payload: bytes) -> bool:
    return payload.split(b"\r\n", 1)[0].endswith(b" SIP/2.0")


def _answer(payload: bytes) -> bytes:
    kept = (b"via:", b"from:", b"to:", b"call-id:", b"cseq:")
    lines = [line for line in payload.split(b"\r\n")[1:] if line.lower().startswith(kept)]
    return b"\r\n".join([b"SIP/2.0 200 OK", *lines, b"Server: test", b"Content-Length: 0", b"", b""])
