# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What attackers, and people who only mistype, send to Asterisk: SIP, IAX2 and the manager interface, each from an address of its own."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tests.asterisk.harness import Pbx
from tests.asterisk.phone import SDP, Message

__all__ = ["DOMAIN", "FIRST_PACKET_NONCE", "Caller", "Iax", "Request", "credentials", "escaped", "say_to_ami"]

DOMAIN = "pbx.example.org"
FIRST_PACKET_NONCE = "1700000000/0123456789abcdef0123456789abcdef"  # has the form of PJSIP's; nobody was given it
_PATIENCE = 3.0  # seconds


def escaped(text: str) -> str:
    """A text as a SIP URI's user part may hold it: everything but letters and digits as %xx."""
    return "".join(f"%{byte:02x}" if not chr(byte).isalnum() or byte > 127 else chr(byte) for byte in text.encode())


@dataclass(frozen=True)
class Request:
    """A SIP request; headers as they stand on the wire, surrogates for bytes that are no UTF-8."""

    method: str = "REGISTER"
    user: str = "nobody"
    uri: str = f"sip:{DOMAIN}"
    sender: str = ""  # From without its tag
    to: str = ""
    call_id: str = ""
    via: str = ";rport"  # parameters of Via besides the branch
    sent_by: str = ""  # of Via
    contact: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    number: int = 1  # in CSeq
    unique: str = field(default_factory=lambda: uuid.uuid4().hex)

    def wire(self, address: str, transport: str) -> bytes:
        """The bytes of the request, from `address` (host:port)."""
        number = self.number
        own = f"<sip:{self.user}@{DOMAIN}>"
        body = SDP if self.method == "INVITE" else ""
        branch = f"z9hG4bK{self.unique}{number}"
        lines = [
            f"{self.method} {self.uri} SIP/2.0",
            f"Via: SIP/2.0/{transport.upper()} {self.sent_by or address}{self.via};branch={branch}",
            "Max-Forwards: 70",
            f"From: {self.sender or own};tag={self.tag}",
            f"To: {self.to or (own if self.method == 'REGISTER' else f'<{self.uri}>')}",
            f"Call-ID: {self.call_id or self.unique}",
            f"CSeq: {number} {self.method}",
            f"Contact: {self.contact or f'<sip:x@{address}>'}",
            *(["Content-Type: application/sdp"] if body else []),
            *(f"{name}: {value}" for name, value in self.headers),
            f"Content-Length: {len(body)}",
            "",
            body,
        ]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape")

    def ack(self, address: str, transport: str, to: str) -> bytes:
        """The ACK of a call that was refused; `to` is To of the answer."""
        refused = replace(self, to=to, headers=()).wire(address, transport)
        first, *lines = refused.decode("utf-8", "surrogateescape").partition("\r\n\r\n")[0].split("\r\n")
        kept = [line for line in lines if not line.startswith(("Content-", "Contact:", "CSeq:"))]
        text = [f"ACK{first[len(self.method) :]}", *kept, f"CSeq: {self.number} ACK", "Content-Length: 0", "", ""]
        return "\r\n".join(text).encode("utf-8", "surrogateescape")


def credentials(
    challenge: str, request: Request, user: str = "", password: str = "wrong", **other: str
) -> tuple[str, str]:
    """Name and value of the header that answers a challenge (MD5); `other` fields stand there instead of the true ones."""
    given = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm, nonce = given.get("realm", "asterisk"), given.get("nonce", FIRST_PACKET_NONCE)
    user = user or request.user

    def md5(text: str) -> str:
        return hashlib.md5(text.encode("utf-8", "surrogateescape")).hexdigest()

    first, second = md5(f"{user}:{realm}:{password}"), md5(f"{request.method}:{request.uri}")
    answer = {"username": user, "realm": realm, "nonce": nonce, "uri": request.uri}
    if "qop" in given:
        answer |= {"response": md5(f"{first}:{nonce}:00000001:c0ffee:auth:{second}"), "cnonce": "c0ffee"}
    else:
        answer["response"] = md5(f"{first}:{nonce}:{second}")
    if "opaque" in given:
        answer["opaque"] = given["opaque"]
    answer |= other
    bare = ", algorithm=MD5" + (", qop=auth, nc=00000001" if "qop" in given else "")
    return "Authorization", "Digest " + ", ".join(f'{name}="{value}"' for name, value in answer.items()) + bare


class Caller:
    """One socket of a sender of SIP."""

    def __init__(self, pbx: Pbx, source: str, port: int, transport: str = "udp", source_port: int = 0) -> None:
        self.transport = transport
        self.source = source
        family = 6 if ":" in source else 4
        self.sock = pbx.socket(
            family, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM, source, source_port
        )
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(("::1" if family == 6 else "127.0.0.1", port))
        host, number = self.sock.getsockname()[:2]
        self.address = f"[{host}]:{number}" if family == 6 else f"{host}:{number}"

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.sock.close()

    def send(self, request: Request) -> None:
        """Sends a request, and waits for nothing."""
        self.sock.sendall(request.wire(self.address, self.transport))

    def answer(self) -> Message:
        """The next final answer; status 0 when none comes."""
        try:
            while True:
                data = self.sock.recv(65535)
                while self.transport == "tcp" and data and b"\r\n\r\n" not in data:
                    data += self.sock.recv(65535)
                if not data:
                    return Message("")
                message = Message.parse(data)
                if message.status >= 200:
                    return message
        except (TimeoutError, ConnectionError):
            return Message("")

    def ask(self, request: Request) -> Message:
        """The final answer to a request."""
        self.send(request)
        answer = self.answer()
        if request.method == "INVITE" and answer.status >= 300:
            self.sock.sendall(request.ack(self.address, self.transport, answer.header("to")))
        return answer

    def log_in(self, request: Request, user: str = "", password: str = "wrong", **other: str) -> Message:
        """The answer to a request after its challenge was answered as `credentials` does."""
        first = self.ask(request)
        challenge = first.header("www-authenticate") or first.header("proxy-authenticate")
        if not challenge:
            return first
        name, value = credentials(challenge, request, user, password, **other)
        if first.status == 407:
            name = "Proxy-Authorization"
        return self.ask(replace(request, headers=(*request.headers, (name, value)), number=2))


class Iax:
    """A client of IAX2 (RFC 5456) that can only fail to register."""

    _REGREQ, _REGAUTH, _CALLTOKEN, _ACK = 13, 14, 40, 4
    _USERNAME, _MD5, _REFRESH, _TOKEN = 6, 16, 19, 54

    def __init__(self, pbx: Pbx, source: str) -> None:
        self.sock = pbx.socket(4, socket.SOCK_DGRAM, source)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(("127.0.0.1", 4569))
        self._out = self._in = self._other = 0

    def __enter__(self) -> Iax:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.sock.close()

    def _send(self, kind: int, elements: Iterable[tuple[int, bytes]]) -> None:
        head = struct.pack("!HHIBBBB", 0x8001, self._other, 20 + self._out, self._out, self._in, 6, kind)
        self.sock.sendall(head + b"".join(bytes([name, len(value)]) + value for name, value in elements))

    def _receive(self) -> tuple[int, Mapping[int, bytes]]:
        while True:
            data = self.sock.recv(4096)
            source, dummy, dummy, out, dummy, dummy, kind = struct.unpack("!HHIBBBB", data[:12])
            rest, found = data[12:], {}
            while rest:
                found[rest[0]] = rest[2 : 2 + rest[1]]
                rest = rest[2 + rest[1] :]
            if kind == self._CALLTOKEN:
                return kind, found
            self._other = source & 0x7FFF
            if kind != self._ACK:
                self._in = (out + 1) & 0xFF
                return kind, found

    def token(self, name: bytes) -> bytes:
        """The token that a peer of this address has to return before anything else."""
        self._send(self._REGREQ, [(self._USERNAME, name), (self._REFRESH, b"\0\x3c"), (self._TOKEN, b"")])
        return self._receive()[1][self._TOKEN]

    def register(self, name: bytes, token: bytes | None = None) -> int:
        """The kind of the frame that ends an attempt with a wrong password; `token` instead of one's own, empty for none."""
        elements = [(self._USERNAME, name), (self._REFRESH, b"\0\x3c")]
        given = self.token(name) if token is None else token
        self._send(self._REGREQ, [*elements, *([(self._TOKEN, given)] if given else [])])
        kind = self._receive()[0]
        if kind == self._REGAUTH:
            self._out = 1
            self._send(self._REGREQ, [*elements, (self._MD5, b"0" * 32)])
            kind = self._receive()[0]
        return kind


def say_to_ami(pbx: Pbx, source: str, name: bytes) -> socket.socket:
    """A login to the manager interface whose answer (a second later) nobody waits for; the socket is to be closed."""
    sock = pbx.socket(4, socket.SOCK_STREAM, source)
    sock.connect(("127.0.0.1", 5038))
    sock.sendall(b"Action: Login\r\nUsername: " + name + b"\r\nSecret: wrong\r\n\r\n")
    return sock
