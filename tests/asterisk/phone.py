# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A SIP telephone of a few methods (RFC 3261, RFC 2617, RFC 8760): registers, calls, is called, or is a stranger."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["SDP", "Message", "Phone"]

_PATIENCE = 5.0  # seconds after which an answer counts as not coming
_DIGESTS = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256, "SHA-512-256": lambda data: hashlib.new("sha512_256", data)}

SDP = "\r\n".join(
    [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        "m=audio 40000 RTP/AVP 8 0",
        "a=sendrecv",
        "",
    ]
)


@dataclass(frozen=True)
class Message:
    """A request or a response. Of a response `status` is its code; it is 0 of a request, and of an answer that never came."""

    first: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    status: int = field(init=False)

    def __post_init__(self) -> None:
        words = self.first.split(" ", 2)
        object.__setattr__(self, "status", int(words[1]) if words[0] == "SIP/2.0" else 0)

    @classmethod
    def parse(cls, wire: bytes) -> Message:
        head, dummy, body = wire.decode("utf-8", "surrogateescape").partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return cls(first, tuple((name.strip().lower(), value.strip()) for name, dummy, value in pairs), body)

    @property
    def method(self) -> str:
        """The method of a request; of a response that of the request it answers."""
        return self.first.split(" ", 1)[0] if not self.status else self.header("cseq").split()[-1]

    def all(self, name: str) -> list[str]:
        """Every value of a header, by its lower-case name."""
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str:
        """The first value of a header, empty without it."""
        return (self.all(name) or [""])[0]

    @property
    def branch(self) -> str:
        found = re.search(r";branch=([^;,\s]+)", self.header("via"))
        return found[1] if found else ""


class Phone:
    """One socket of a telephone. `user` and `password` answer challenges; without them a 401 is the answer."""

    def __init__(
        self,
        sock: socket.socket,
        target: tuple[str, int],
        *,
        user: str = "",
        password: str = "",
        name: str = "",
        domain: str = "pbx.example.org",
    ) -> None:
        self.user, self.password, self.name, self.domain = user, password, name or user or "stranger", domain
        self.target = target
        self._sock = sock
        self._stream = sock.type == socket.SOCK_STREAM
        self._buffer = b""
        self._received: list[Message] = []
        self._cseq = 0
        self._seen: set[str] = set()
        self._dialog: tuple[str, str, str, str] | None = None
        sock.settimeout(_PATIENCE)
        sock.connect(target)
        host, port = sock.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def contact(self) -> str:
        return f"<sip:{self.name}@{self.address}{';transport=tcp' if self._stream else ''}>"

    def close(self) -> None:
        self._sock.close()

    # -- the wire

    def send(self, wire: bytes) -> None:
        """Sends bytes as they are."""
        self._sock.sendall(wire)

    def _build(self, first: str, headers: Iterable[tuple[str, str]], body: str) -> bytes:
        lines = [first, *(f"{name}: {value}" for name, value in headers)]
        data = body.encode("utf-8", "surrogateescape")
        return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode("utf-8", "surrogateescape") + data

    def _read(self, end: float) -> Message | None:
        """The next message of the wire, None when none comes until `end`."""
        while True:
            if self._stream:
                head = re.match(rb"(?s)(?:\r\n)*(.*?\r\n\r\n)", self._buffer)
                if head:
                    length = re.search(rb"(?im)^content-length:\s*(\d+)", head[1])
                    size = head.end() + (int(length[1]) if length else 0)
                    if len(self._buffer) >= size:
                        wire, self._buffer = self._buffer[head.start(1) : size], self._buffer[size:]
                        return Message.parse(wire)
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._sock.settimeout(left)
            try:
                data = self._sock.recv(65535)
            except (TimeoutError, ConnectionError):
                return None
            if self._stream:
                if not data:
                    return None
                self._buffer += data
            elif data.strip():
                return Message.parse(data)

    def receive(self, method: str, patience: float = _PATIENCE) -> Message:
        """The next request of that method from the PBX; OPTIONS, NOTIFY and a change of the call are answered with 200 on the way."""
        end = time.monotonic() + patience
        while True:
            for message in self._received:
                if message.method == method:
                    self._received.remove(message)
                    return message
            read = self._read(end)
            assert read is not None, f"no {method} came"
            self._take(read)

    def _take(self, message: Message) -> None:
        """Keeps a request that is new. A response here is a retransmission."""
        key = f"{message.method} {message.branch}"
        if message.status or key in self._seen:
            return
        self._seen.add(key)
        if message.method in ("OPTIONS", "NOTIFY"):
            self.reply(message, 200, "OK")
        elif message.method == "INVITE" and ";tag=" in message.header("to"):
            self.reply(message, 200, "OK", SDP)
        else:
            self._received.append(message)

    def reply(self, request: Message, status: int, reason: str, body: str = "") -> None:
        """Answers a request; a `body` is taken for SDP."""
        headers = [
            (name.title(), value) for name, value in request.headers if name in ("via", "from", "call-id", "cseq")
        ]
        to = request.header("to")
        headers.append(("To", to if ";tag=" in to or status == 100 else f"{to};tag=answer{self.name}"))
        headers += [("Contact", self.contact)] + ([("Content-Type", "application/sdp")] if body else [])
        self.send(self._build(f"SIP/2.0 {status} {reason}", headers, body))

    # -- requests

    def request(
        self,
        method: str,
        uri: str = "",
        *,
        to: str = "",
        headers: Iterable[tuple[str, str]] = (),
        body: str = "",
        call_id: str = "",
        from_tag: str = "",
        from_name: str = "",
        authenticate: bool = True,
        patience: float = _PATIENCE,
    ) -> Message:
        """The final answer to a request, after the challenge where there are `user` and `password`; status 0 when none comes.

        `to` is the address in To with its brackets and tag, the request's own URI by default.
        """
        uri = uri or f"sip:{self.domain}"
        call_id = call_id or uuid.uuid4().hex
        source = f"<sip:{from_name or self.name}@{self.domain}>;tag={from_tag or uuid.uuid4().hex[:8]}"
        more = list(headers)
        challenged = False
        while True:
            self._cseq += 1
            branch = f"z9hG4bK{uuid.uuid4().hex}"
            via = f"SIP/2.0/{'TCP' if self._stream else 'UDP'} {self.address};rport;branch={branch}"
            common = [
                ("Via", via),
                ("Max-Forwards", "70"),
                ("From", source),
                ("To", to or f"<{uri}>"),
                ("Call-ID", call_id),
            ]
            typed = [("Content-Type", "application/sdp")] if body else []
            contact = [("Contact", self.contact)]
            lines = [*common, ("CSeq", f"{self._cseq} {method}"), *contact, *typed, *more]
            self.send(self._build(f"{method} {uri} SIP/2.0", lines, body))
            answer = self._final(branch, patience)
            if method == "INVITE" and answer.status >= 300:
                acked = [*common[:3], ("To", answer.header("to")), common[4], ("CSeq", f"{self._cseq} ACK")]
                self.send(self._build(f"ACK {uri} SIP/2.0", acked, ""))
            challenge = answer.header("www-authenticate") or answer.header("proxy-authenticate")
            if answer.status not in (401, 407) or challenged or not (authenticate and self.user and challenge):
                break
            challenged = True
            name = "Authorization" if answer.status == 401 else "Proxy-Authorization"
            more.append((name, self._credentials(challenge, method, uri)))
        if method == "INVITE" and 200 <= answer.status < 300:
            contact_uri = re.search(r"<([^>]+)>", answer.header("contact"))
            self._dialog = (contact_uri[1] if contact_uri else uri, source, answer.header("to"), call_id)
            acked = [
                ("Via", via.replace(branch, f"z9hG4bK{uuid.uuid4().hex}")),
                ("Max-Forwards", "70"),
                ("From", source),
                ("To", answer.header("to")),
                ("Call-ID", call_id),
                ("CSeq", f"{self._cseq} ACK"),
            ]
            self.send(self._build(f"ACK {self._dialog[0]} SIP/2.0", acked, ""))
        return answer

    def _final(self, branch: str, patience: float) -> Message:
        end = time.monotonic() + patience
        while True:
            message = self._read(end)
            if message is None:
                return Message("")
            if message.status >= 200 and message.branch == branch:
                return message
            if not message.status:
                self._take(message)

    def _credentials(self, challenge: str, method: str, uri: str) -> str:
        given = {
            key.lower(): quoted or bare for key, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', challenge)
        }
        algorithm = given.get("algorithm", "MD5")

        def digest(text: str) -> str:
            return str(_DIGESTS[algorithm.upper()](text.encode()).hexdigest())

        ha1, ha2 = digest(f"{self.user}:{given['realm']}:{self.password}"), digest(f"{method}:{uri}")
        parts = {"username": self.user, "realm": given["realm"], "nonce": given["nonce"], "uri": uri}
        text = f"{ha1}:{given['nonce']}:{ha2}"
        bare = f", algorithm={algorithm}"
        if "auth" in given.get("qop", "").split(","):
            parts["cnonce"] = "c0ffee"
            bare += ", qop=auth, nc=00000001"
            text = f"{ha1}:{given['nonce']}:00000001:c0ffee:auth:{ha2}"
        parts["response"] = digest(text)
        if "opaque" in given:
            parts["opaque"] = given["opaque"]
        return "Digest " + ", ".join(f'{key}="{value}"' for key, value in parts.items()) + bare

    def register(self, expires: int = 300) -> Message:
        """REGISTER of this telephone's own contact; `expires` 0 takes it away."""
        own = f"<sip:{self.name}@{self.domain}>"
        return self.request("REGISTER", f"sip:{self.domain}", to=own, headers=[("Expires", str(expires))])

    def options(self, called: str = "") -> Message:
        """OPTIONS for the PBX itself, or for somebody there."""
        return self.request("OPTIONS", f"sip:{called}@{self.domain}" if called else "")

    def invite(
        self, called: str, *, body: str = SDP, patience: float = _PATIENCE, authenticate: bool = True
    ) -> Message:
        """A call; once it is answered, `bye` ends it."""
        return self.request(
            "INVITE", f"sip:{called}@{self.domain}", body=body, patience=patience, authenticate=authenticate
        )

    def call(self, called: str, other: Phone) -> Message:
        """A call that the telephone `other` takes; its answer as it reached this one."""
        answers: list[Message] = []
        thread = threading.Thread(target=lambda: answers.append(self.invite(called)))
        thread.start()
        other.reply(other.receive("INVITE"), 200, "OK", SDP)
        thread.join()
        return answers[0]

    def start_invite(self, called: str) -> None:
        """Sends the INVITE of somebody who need not log in, and does not wait for an answer."""
        uri, token = f"sip:{called}@{self.domain}", uuid.uuid4().hex
        self._cseq += 1
        lines = [
            ("Via", f"SIP/2.0/{'TCP' if self._stream else 'UDP'} {self.address};rport;branch=z9hG4bK{token}"),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{self.name}@{self.domain}>;tag={token[:8]}"),
            ("To", f"<{uri}>"),
            ("Call-ID", token),
            ("CSeq", f"{self._cseq} INVITE"),
            ("Contact", self.contact),
            ("Content-Type", "application/sdp"),
        ]
        self.send(self._build(f"INVITE {uri} SIP/2.0", lines, SDP))

    def refer(self, to: str) -> Message:
        """Asks to transfer the call of the last `invite`."""
        return self._in_dialog(
            "REFER", [("Refer-To", f"<sip:{to}@{self.domain}>"), ("Referred-By", f"<sip:{self.name}@{self.domain}>")]
        )

    def bye(self) -> Message:
        """Ends the call of the last `invite`."""
        return self._in_dialog("BYE")

    def _in_dialog(self, method: str, headers: Iterable[tuple[str, str]] = ()) -> Message:
        assert self._dialog is not None, "there is no call"
        uri, source, to, call_id = self._dialog
        tag = source.rpartition(";tag=")[2]
        return self.request(method, uri, to=to, call_id=call_id, from_tag=tag, headers=headers)
