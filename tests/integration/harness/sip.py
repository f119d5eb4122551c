# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIP requests as they stand on the wire."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

__all__ = ["PHONE", "SCANNER", "Request", "request", "response"]

SCANNER = "friendly-scanner"
PHONE = "Yealink SIP-T46S 66.85.0.5"

_tokens = itertools.count()


@dataclass(frozen=True)
class Request:
    """A message and the token in it that no other message of this run carries."""

    token: bytes
    wire: bytes

    def split(self, at: bytes) -> tuple[bytes, bytes]:
        """The message in two, the second starting with the first occurrence of `at`."""
        position = self.wire.index(at)
        return self.wire[:position], self.wire[position:]


def request(
    user_agent: str | bytes | None = PHONE,
    *,
    method: str = "REGISTER",
    uri: str = "sip:pbx.example.org",
    host: str = "pbx.example.org",
    header: bytes = b"User-Agent: ",
    more: bytes = b"",
    body: bytes = b"",
) -> Request:
    """A request.

    `host` is that of the addresses in From and To; `user_agent` None leaves the header out, `header` is its name as spelled,
    colon and blanks included; `more` are further header lines, each with its CRLF.
    """
    token = f"t{os.getpid()}x{next(_tokens)}z".encode()
    lines = [
        f"{method} {uri} SIP/2.0".encode(),
        b"Via: SIP/2.0/UDP 192.0.2.99:5060;branch=z9hG4bK" + token + b";rport",
        b"Max-Forwards: 70",
        f'From: "Alice" <sip:100@{host}>;tag=7f3a'.encode(),
        f"To: <sip:100@{host}>".encode(),
        b"Call-ID: " + token,
        f"CSeq: 1 {method}".encode(),
        b"Contact: <sip:100@192.0.2.99:5060>",
    ]
    if user_agent is not None:
        lines.append(header + (user_agent if isinstance(user_agent, bytes) else user_agent.encode()))
    head = b"\r\n".join(lines) + b"\r\n" + more
    return Request(token, head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)


def response(user_agent: str, *, host: str = "pbx.example.org", header: bytes = b"User-Agent: ") -> Request:
    """A 200 OK as a called phone or a provider sends it."""
    made = request(user_agent, method="INVITE", host=host, header=header)
    return Request(made.token, made.wire.replace(b"INVITE sip:pbx.example.org SIP/2.0", b"SIP/2.0 200 OK", 1))
