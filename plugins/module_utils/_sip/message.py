# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIP messages as values (RFC 3261): requests that are sent, responses that are read.

A response is hostile until it has been read here: what is not a response by the grammar is None, and no value that comes
out holds a character that a terminal or a further request could take for anything but text.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

__all__ = [
    "MAX_MESSAGE",
    "Request",
    "Response",
    "Via",
    "ack",
    "answers",
    "bye",
    "cancel",
    "clean",
    "parse_response",
    "parse_via",
    "take",
    "uri",
]

# Bytes; no datagram is longer, and no answer to a question of ours needs to be.
MAX_MESSAGE = 65535
_MAX_VALUE = 2048  # characters of one header
_MAX_ROUTES = 10
_CRLF, _END = b"\r\n", b"\r\n\r\n"

_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2}) ([^\r\n]*)\Z", re.IGNORECASE)
_HEADER = re.compile(rb"([A-Za-z0-9.!%*_+`'~-]+)[ \t]*:(.*)\Z", re.DOTALL)
_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n|\Z)", re.IGNORECASE)
_VIA = re.compile(
    r"SIP ?/ ?2\.0 ?/ ?[A-Z0-9-]+ +(?:\[[0-9A-F:.]+\]|[^;:, \[\]]+)(?: ?: ?[0-9]{1,5})? ?([;,].*)?\Z", re.IGNORECASE
)
_CONTACT = re.compile(r"(?:[^<>]*<)?(sips?:[!-;=?-~]+)", re.IGNORECASE)

# RFC 3261 section 7.3.3, those that are read here.
_COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length"}


@dataclass(frozen=True)
class Request:
    """A request; ``headers`` in their order, Content-Length left out."""

    method: str
    uri: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def header(self, name: str) -> str:
        return next(value for key, value in self.headers if key == name)

    @property
    def first_line(self) -> str:
        return f"{self.method} {self.uri} SIP/2.0"

    def render(self) -> bytes:
        lines = [self.first_line, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, f"Content-Length: {len(self.body)}", "", ""]).encode() + self.body


@dataclass(frozen=True)
class Response:
    """A response; names of ``headers`` are long and in small letters, values without anything that cannot be printed."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = field(default=())

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def first(self, name: str) -> str:
        """The value of the first header of that name, or ""."""
        return next(iter(self.values(name)), "")


@dataclass(frozen=True)
class Via:
    """What is read of a Via header: which transaction it is about, and what the answering side added (RFC 3581)."""

    branch: str = ""
    received: str = ""
    rport: int = 0


def clean(text: str, limit: int = _MAX_VALUE) -> str:
    """Text for a person's terminal: blanks for white space, nothing that is not printable, at most ``limit`` characters."""
    return "".join(c for c in re.sub(r"[\t\r\n]+", " ", text[: 2 * limit]) if c.isprintable()).strip()[:limit]


def uri(user: str, host: str) -> str:
    """A SIP URI; an IPv6 address gets its brackets."""
    where = f"[{host}]" if ":" in host else host
    return f"sip:{user}@{where}" if user else f"sip:{where}"


def take(buffer: bytes) -> tuple[bytes, bytes]:
    """The first whole message of a stream and what stands behind it; b"" while it is not complete (RFC 3261, 18.3).

    Raises ValueError when the message is longer than MAX_MESSAGE.
    """
    buffer = buffer.lstrip(_CRLF)  # keep-alives
    end = buffer.find(_END)
    size = len(buffer) + 1
    if end >= 0:
        found = _LENGTH.search(buffer, 0, end)
        size = end + len(_END) + (int(found[1]) if found else 0)
    if size > MAX_MESSAGE:
        raise ValueError(f"longer than {MAX_MESSAGE} bytes")
    return (buffer[:size], buffer[size:]) if size <= len(buffer) else (b"", buffer)


def parse_response(data: bytes) -> Response | None:
    """A datagram, or a message of a stream, as a response. None for everything else."""
    head, end, dummy = data.lstrip(_CRLF).partition(_END)
    first, *lines = re.split(rb"\r\n(?![ \t])", head)  # a line that begins with a blank continues the one before
    status = _STATUS_LINE.match(first)
    if not end or len(data) > MAX_MESSAGE or status is None:
        return None
    headers = []
    for line in lines:
        found = _HEADER.match(line)
        if found is None:
            return None
        name = found[1].decode().lower()
        headers.append((_COMPACT.get(name, name), clean(found[2].replace(_CRLF, b"").decode("utf-8", "replace"))))
    return Response(int(status[1]), clean(status[2].decode("utf-8", "replace"), 200), tuple(headers))


def parse_via(value: str) -> Via | None:
    """The first of the values of a Via header, None when it is none. An address or port that is none is left out."""
    found = _VIA.match(value)
    if found is None:
        return None
    pairs = [part.split("=", 1) for part in (found[1] or "").split(",", 1)[0].split(";")[1:]]
    parameters = {pair[0].strip().lower(): pair[-1].strip() for pair in pairs if len(pair) == 2}
    rport = parameters.get("rport", "")
    port = int(rport) if re.fullmatch("[0-9]{1,5}", rport) and int(rport) < 65536 else 0
    return Via(parameters.get("branch", ""), _address(parameters.get("received", "")), port)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]").partition("%")[0]))
    except ValueError:
        return ""


def answers(response: Response, request: Request) -> bool:
    """Whether it is an answer to this very request: branch, Call-ID and CSeq are the ones that were sent (RFC 3261, 17.1.3)."""
    ours, theirs = parse_via(request.header("Via")), parse_via(response.first("via"))
    if ours is None or theirs is None or theirs.branch != ours.branch or len(response.values("call-id")) != 1:
        return False
    same_call = response.first("call-id") == request.header("Call-ID")
    return same_call and response.first("cseq").split() == request.header("CSeq").split()


def cancel(invite: Request) -> Request:
    """The CANCEL of a call that has not been answered (RFC 3261, 9.1)."""
    return _same_transaction(invite, "CANCEL", invite.header("To"))


def ack(invite: Request, response: Response, branch: str) -> Request:
    """The ACK of a final answer: part of the transaction when it is a refusal (RFC 3261, 17.1.1.3), else with a new branch (13.2.2.4)."""
    if response.status >= 300:
        return _same_transaction(invite, "ACK", response.first("to") or invite.header("To"))
    return _in_dialog(invite, response, branch, "1 ACK")


def bye(invite: Request, response: Response, branch: str) -> Request:
    """The end of a call that ``response`` has answered (RFC 3261, 15.1.1)."""
    return _in_dialog(invite, response, branch, "2 BYE")


def _same_transaction(invite: Request, method: str, to: str) -> Request:
    number = invite.header("CSeq").split()[0]
    return Request(method, invite.uri, _headers(invite, invite.header("Via"), to, f"{number} {method}"))


def _in_dialog(invite: Request, response: Response, branch: str, sequence: str) -> Request:
    via = re.sub(r"branch=[^;]*", f"branch={branch}", invite.header("Via"))
    found = _CONTACT.match(response.first("contact"))
    routes = tuple(("Route", value) for value in reversed(_routes(response)))
    headers = _headers(invite, via, response.first("to") or invite.header("To"), sequence)
    return Request(sequence.split()[1], found[1] if found else invite.uri, (headers[0], *routes, *headers[1:]))


def _headers(invite: Request, via: str, to: str, sequence: str) -> tuple[tuple[str, str], ...]:
    return (
        ("Via", via),
        ("Max-Forwards", "70"),
        ("To", to),
        ("From", invite.header("From")),
        ("Call-ID", invite.header("Call-ID")),
        ("CSeq", sequence),
    )


def _routes(response: Response) -> list[str]:
    """The URIs of all Record-Route headers in order; a comma inside angle brackets belongs to its URI."""
    return re.findall(r"<[^<>]+>", ",".join(response.values("record-route")))[:_MAX_ROUTES]
