# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PBX as far as the network sees one: answers every SIP request with 200, UDP and TCP, IPv4 and IPv6, and notes it.

    python3 stand_in.py PORT FILE

Each message that arrives is appended to FILE as it came. systemd is told when the ports are open (Type=notify).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from typing import cast

# What a response repeats of its request (RFC 3261 section 8.2.6.2).
_COPIED = re.compile(r"^(?:via|from|to|call-id|cseq) *:.*$", re.IGNORECASE | re.MULTILINE)


def answer(request: str) -> bytes:
    """The response to a request, nothing to what is none."""
    first, dummy, rest = request.partition("\r\n")
    if not first.endswith(" SIP/2.0"):
        return b""
    copied = [line.rstrip() for line in _COPIED.findall(rest.partition("\r\n\r\n")[0])]
    copied = [
        line + ";tag=stand-in" if line.lower().startswith("to") and ";tag=" not in line else line for line in copied
    ]
    return "\r\n".join(["SIP/2.0 200 OK", *copied, "Server: stand-in", "Content-Length: 0", "", ""]).encode()


class Listener(asyncio.DatagramProtocol):
    """Both transports: a datagram is a message, and so is what one read of a connection brings up to the headers' end."""

    def __init__(self, noted: str) -> None:
        self._noted = noted
        self._transport: asyncio.DatagramTransport | None = None

    def _hear(self, data: bytes) -> bytes:
        text = data.decode(errors="replace")
        with open(self._noted, "a", encoding="utf-8") as file:
            file.write(text)
        return answer(text)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response = self._hear(data)
        if response and self._transport:
            self._transport.sendto(response, addr)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                writer.write(self._hear(request))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # the other side has gone, or says what is no SIP
        finally:
            writer.close()


async def main(port: int, noted: str) -> None:
    loop = asyncio.get_running_loop()
    for address in ("0.0.0.0", "::"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        await loop.create_datagram_endpoint(lambda: Listener(noted), sock=sock)
        await asyncio.start_server(Listener(noted).converse, address, port, family=family)
    if told := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"READY=1", told.replace("@", "\0", 1))
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
