# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a PBX one thing, and finding out what comes back.

A question is put like a phone, a trunk or a scanner would, without credentials and without leaving anything behind: a
REGISTER without Contact only asks for bindings (RFC 3261, 10.2.3), a call that rings is cancelled, one that is answered is
ended, and a connection without an answer is reset, so that nothing of it is sent again later.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from . import message
from .addresses import is_name
from .errors import OptionError
from .message import Request, Response

__all__ = [
    "ANSWERED",
    "ANY",
    "CLOSED",
    "EXPECTATIONS",
    "FAMILIES",
    "METHODS",
    "OUTCOMES",
    "PROFILES",
    "REFUSED",
    "SILENT",
    "TIMEOUT",
    "TLS_FAILED",
    "TRANSPORTS",
    "UNREACHABLE",
    "UNRELATED",
    "Finding",
    "Question",
    "ask",
    "ask_all",
    "build",
    "read_host",
    "read_question",
    "require_timeout",
    "require_user",
    "result",
    "sources",
    "unmet",
    "words",
]

METHODS = ("OPTIONS", "REGISTER", "INVITE")
UDP, TCP, TLS = TRANSPORTS = ("udp", "tcp", "tls")
ANY, ANSWER, SILENCE = EXPECTATIONS = ("any", "answer", "silence")
FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}

ANSWERED = "answered"  # a response to this request
SILENT = "silent"  # sent, and nothing came back
TIMEOUT = "timeout"  # TCP or TLS: nobody answered the connection, so nothing could be sent
REFUSED = "refused"  # ICMP port unreachable; TCP reset in answer to the connection
UNREACHABLE = "unreachable"  # no way there, or ICMP says so
CLOSED = "closed"  # TCP or TLS: the other side ended the connection instead of answering
TLS_FAILED = "tls_failed"  # the other side speaks no TLS, or another one, or has the wrong certificate
UNRELATED = "unrelated"  # something came, but no response to this request
OUTCOMES = (ANSWERED, SILENT, TIMEOUT, REFUSED, UNREACHABLE, CLOSED, TLS_FAILED, UNRELATED)

MAX_QUESTIONS = 200
_MAX_TIMEOUT = 60.0
# RFC 3261, 17.1.1.1 and 17.1.2.1, in seconds.
_T1, _T2 = 0.5, 4.0
# Linux, include/uapi/linux/in.h and in6.h: every ICMP error is told, not only the one about the port.
_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}

# RFC 3261, 25.1: user, with its parameters. "%" only as an escape.
_USER = re.compile(r"(?:[A-Za-z0-9_.!~*'()&=+$,;?/-]|%[0-9A-Fa-f]{2}){1,128}\Z")


@dataclass(frozen=True)
class Profile:
    """Who is imitated: what is not said otherwise."""

    method: str
    user: str
    user_agent: str


PROFILES = {
    # The name stands in the PBX's log, so it shall be one that can be recognised.
    "": Profile("OPTIONS", "", "sipguard"),
    "phone": Profile("REGISTER", "sipguard", "Yealink SIP-T46U 108.86.0.90"),
    "trunk": Profile("OPTIONS", "", "Oracle SBC"),
    # EnableSecurity/sipvicious, libs/svhelper.py: what its svmap sends.
    "scanner": Profile("OPTIONS", "100", "friendly-scanner"),
}
_SCANNER = '"sipvicious"<sip:100@1.1.1.1>'


@dataclass(frozen=True)
class Question:
    """One request to be sent, with nothing left to be decided. ``timeout`` is in seconds, ``round`` says when it is asked."""

    profile: str
    host: str
    family: str
    port: int
    transport: str
    method: str
    domain: str
    user: str
    user_agent: str
    source: str
    source_port: int
    timeout: float
    tls_verify: bool
    server_name: str
    expect: str
    round: int = 1

    def __str__(self) -> str:
        who = f"{self.method} as a {self.profile}" if self.profile else self.method
        return f"{who} over {self.transport.upper()} to {self.host} port {self.port}"


@dataclass
class Finding:
    """What came of a question. ``latency_ms`` is the time from the first request to the first answer.

    ``source`` and ``source_port`` are our own end, ``received`` and ``rport`` the same as the PBX saw it ("" and 0 when it
    did not say).
    """

    outcome: str
    address: str
    source: str = ""
    source_port: int = 0
    status: int = 0
    reason: str = ""
    latency_ms: float = 0.0
    received: str = ""
    rport: int = 0
    server: str = ""
    error: str = ""
    request: str = ""
    answer: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def answered(self) -> bool:
        return self.outcome == ANSWERED

    @property
    def silent(self) -> bool:
        return self.outcome in (SILENT, TIMEOUT)


class _Failed(Exception):
    """The conversation is over; ``outcome`` is one of OUTCOMES."""

    def __init__(self, outcome: str, words: str = "") -> None:
        super().__init__(words)
        self.outcome = outcome


# -- reading


def read_question(options: Mapping[str, Any], where: str = "") -> Question:
    """The module's options as a question; ``where`` begins the names of options in an error. Raises OptionError."""
    profile = PROFILES[options["profile"] or ""]
    transport, method = options["transport"], options["method"] or profile.method
    host = read_host(options["host"], f"{where}host", zone=True)
    domain = read_host(options["domain"] or host.partition("%")[0], f"{where}domain")
    user = profile.user if options["user"] is None else options["user"]
    require_user(user, f"{where}user")
    if method == "INVITE" and not options["user"]:
        raise OptionError(
            f"{where}user", options["user"], "an INVITE calls somebody: the number to call would be right"
        )
    user_agent = profile.user_agent if options["user_agent"] is None else options["user_agent"]
    if user_agent != message.clean(user_agent, 200):
        raise OptionError(f"{where}user_agent", user_agent, "at most 200 characters that can be printed would be right")
    if options["source"]:
        read_host(options["source"], f"{where}source", zone=True, names=False)
    require_timeout(options["timeout"], f"{where}timeout")
    server_name = domain if options["server_name"] is None and options["profile"] not in ("trunk", "scanner") else ""
    return Question(
        profile=options["profile"] or "",
        host=host,
        family=options["family"],
        port=_port(options["port"], f"{where}port", 1)
        if options["port"] is not None
        else 5061
        if transport == TLS
        else 5060,
        transport=transport,
        method=method,
        domain=domain,
        user=user,
        user_agent=user_agent,
        source=(options["source"] or "").strip("[]"),
        source_port=_port(options["source_port"], f"{where}source_port", 0),
        timeout=options["timeout"],
        tls_verify=options["tls_verify"],
        server_name=read_host(options["server_name"], f"{where}server_name") if options["server_name"] else server_name,
        expect=options["expect"],
        round=options.get("round", 1),
    )


def require_user(user: str, option: str) -> None:
    """Raises OptionError for what cannot stand before the @ of a SIP address."""
    if user and not _USER.match(user):
        raise OptionError(option, user, "the user part of a SIP address, such as 1001 or alice, would be right")


def require_timeout(seconds: float, option: str) -> None:
    """Raises OptionError."""
    if not 0 < seconds <= _MAX_TIMEOUT:
        raise OptionError(option, seconds, f"more than 0 and at most {_MAX_TIMEOUT:g} seconds would be right")


def read_host(text: str, option: str, *, zone: bool = False, names: bool = True) -> str:
    """A name or an address, without brackets. Raises OptionError."""
    word = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ipaddress.ip_address(word if zone else word.replace("%", " "))
    except ValueError:
        if not names or not is_name(word) or len(word) > 253:
            right = "an address (192.0.2.7, 2001:db8::7)" + (" or a name (pbx.example.com)" if names else "")
            raise OptionError(option, text, f"{right} would be right") from None
    return word


def _port(value: int, option: str, least: int) -> int:
    if not least <= value <= 65535:
        raise OptionError(option, value, f"a port from {least or 1} to 65535 would be right")
    return value


# -- asking


def ask_all(questions: Sequence[Question]) -> list[Finding]:
    """What comes of each question, in their order. Those of a round are asked at the same time, round after round.

    Raises OptionError for a name that cannot be resolved, before anything has been sent, and for a source that cannot be used.
    """
    if len(questions) > MAX_QUESTIONS:
        raise OptionError("questions", len(questions), f"at most {MAX_QUESTIONS} questions at a time would be right")
    peers = [_resolve(question) for question in questions]
    if len(questions) == 1:
        return [ask(questions[0], peers[0])]
    from concurrent.futures import ThreadPoolExecutor

    findings: dict[int, Finding] = {}
    for turn in sorted({question.round for question in questions}):
        indices = [index for index, question in enumerate(questions) if question.round == turn]
        with ThreadPoolExecutor(max_workers=len(indices)) as pool:
            asked = [questions[index] for index in indices]
            findings.update(zip(indices, pool.map(ask, asked, [peers[index] for index in indices])))
    return [findings[index] for index in range(len(questions))]


def _resolve(question: Question) -> tuple[Any, ...]:
    """Family and socket address of the PBX. Raises OptionError."""
    wanted = FAMILIES[question.family]
    if question.source:
        wanted = socket.AF_INET6 if ":" in question.source else socket.AF_INET
        if FAMILIES[question.family] not in (socket.AF_UNSPEC, wanted):
            raise OptionError("source", question.source, f"an address of the family {question.family} would be right")
    kind = socket.SOCK_DGRAM if question.transport == UDP else socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(question.host, question.port, wanted, kind)
    except (OSError, UnicodeError) as error:
        family = {socket.AF_INET: " as an IPv4 address", socket.AF_INET6: " as an IPv6 address"}.get(wanted, "")
        raise OptionError(
            "host", question.host, f"it cannot be reached by that name{family} ({error}); an address would be right"
        ) from error
    return found[0][0], found[0][4]


def ask(question: Question, peer: tuple[Any, ...]) -> Finding:
    """Send one request and wait for what comes; ``peer`` is family and socket address. Raises OptionError for the source."""
    finding = Finding(SILENT, str(peer[1][0]))
    deadline = time.monotonic() + question.timeout
    try:
        with _open(question, peer, deadline) as line:
            finding.source, finding.source_port = line.local
            request = build(question, *line.local)
            finding.request = message.clean(request.first_line, 200)
            response = _converse(line, request, finding, deadline, question.timeout)
            if response is not None:
                _describe(finding, response)
            elif line.heard:
                raise _Failed(UNRELATED)
    except _Failed as failed:
        finding.outcome, finding.error = failed.outcome, str(failed)
        finding.source = finding.source or question.source or _way_out(peer)
    return finding


def _way_out(peer: tuple[Any, ...]) -> str:
    """The address of ours that the kernel would ask this peer from; "" when there is no way. Nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(peer[0], socket.SOCK_DGRAM) as sock:
        sock.connect(peer[1])
        return str(sock.getsockname()[0]).partition("%")[0]
    return ""


def _describe(finding: Finding, response: Response) -> None:
    finding.outcome, finding.status, finding.reason = ANSWERED, response.status, response.reason
    finding.answer = f"SIP/2.0 {response.status} {response.reason}"
    finding.server = message.clean(response.first("server") or response.first("user-agent"), 200)
    via = message.parse_via(response.first("via"))
    if via is not None:
        # Without "received" the PBX saw the address that the Via already names (RFC 3261, 18.2.1): ours.
        finding.received, finding.rport = via.received or finding.source, via.rport


def build(question: Question, source: str, source_port: int) -> Request:
    """The request as the profile would write it. ``source`` goes into Via and Contact."""
    here = f"[{source}]:{source_port}" if ":" in source else f"{source}:{source_port}"
    contact = f"<sip:{question.user or 'sipguard'}@{here};transport={question.transport}>"
    target = message.uri("" if question.method == "REGISTER" else question.user, question.domain)
    if question.method == "REGISTER":
        to = sender = f"<{message.uri(question.user, question.domain)}>"
    elif question.profile == "scanner":
        to = sender = _SCANNER
    else:
        home = question.domain if question.profile == "phone" else source
        to, sender = f"<{target}>", f"<{message.uri('sipguard', home)}>"
    headers = [
        ("Via", f"SIP/2.0/{question.transport.upper()} {here};branch={_branch()};rport"),
        ("Max-Forwards", "70"),
        ("To", to),
        ("From", f"{sender};tag={secrets.token_hex(8)}"),
        ("User-Agent", question.user_agent),
        ("Call-ID", secrets.token_hex(12)),
        # A REGISTER without Contact changes no binding, even where the PBX asks for no password.
        ("Contact", contact if question.method != "REGISTER" else ""),
        ("CSeq", f"1 {question.method}"),
        ("Accept", "application/sdp" if question.method == "OPTIONS" else ""),
    ]
    body = b""
    if question.method == "INVITE":
        version = "IP6" if ":" in source else "IP4"
        lines = ["v=0", f"o=- 1 1 IN {version} {source}", "s=-", f"c=IN {version} {source}", "t=0 0"]
        # Nobody shall send media: port 9 is "discard".
        body = "".join(f"{line}\r\n" for line in [*lines, "m=audio 9 RTP/AVP 0 8", "a=inactive"]).encode()
        headers.append(("Content-Type", "application/sdp"))
    return Request(question.method, target, tuple((name, value) for name, value in headers if value), body)


def _branch() -> str:
    return f"z9hG4bK{secrets.token_hex(10)}"  # the cookie of RFC 3261, 8.1.1.7


# -- transactions


def _converse(line: _Line, request: Request, finding: Finding, deadline: float, timeout: float) -> Response | None:
    """The answer to the request; a call that it has started is over when this returns, at most ``timeout`` seconds later."""
    sent = time.monotonic()
    response = _transact(line, request, deadline, 101 if request.method == "INVITE" else 200)
    if response is not None:
        finding.latency_ms = round((line.first_answer - sent) * 1000, 3)
        if request.method == "INVITE":
            try:
                _end_call(line, request, response, finding, time.monotonic() + timeout)
            except _Failed as failed:
                finding.warnings.append(f"the PBX answered the call, which could not be ended: {failed}")
    return response


def _end_call(line: _Line, invite: Request, response: Response, finding: Finding, deadline: float) -> None:
    """A call that rings is cancelled, one that is refused is acknowledged, one that is answered is acknowledged and ended."""
    final: Response | None = response
    if response.status < 200:
        final = _transact(line, message.cancel(invite), deadline, 200, about=invite)
    if final is None or final.status < 200:
        finding.warnings.append("the call was cancelled, and the PBX did not confirm it")
        return
    line.send(message.ack(invite, final, _branch()).render())
    if final.status < 300 and _transact(line, message.bye(invite, final, _branch()), deadline, 200) is None:
        finding.warnings.append("the call was answered and ended, and the PBX did not confirm its end")


def _transact(
    line: _Line, request: Request, deadline: float, enough: int, about: Request | None = None
) -> Response | None:
    """Send a request and wait for a response to it, or to ``about``, whose status is at least ``enough``.

    A lower one is returned when nothing better comes. Over UDP the request is sent again as RFC 3261 says, until it is answered.
    """
    wire = request.render()
    line.send(wire)
    interval, best = _T1, None
    again = time.monotonic() + interval
    while (now := time.monotonic()) < deadline:
        repeats = not line.reliable and (best is None or about is not None)
        if repeats and now >= again:
            line.send(wire)
            interval = 2 * interval if request.method == "INVITE" else min(2 * interval, _T2)
            again = now + interval
        data = line.receive(min(deadline, again) if repeats else deadline)
        response = message.parse_response(data) if data else None
        if response is not None and message.answers(response, about or request):
            line.first_answer = line.first_answer or time.monotonic()
            if response.status >= enough:
                return response
            best = response
    return best


# -- transports


class _Line:
    """A socket to the PBX that whole messages go through. ``heard`` says whether anything has come back but keep-alives."""

    reliable = False

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.heard = False
        self.first_answer = 0.0  # time.monotonic(), 0 before
        address, port = sock.getsockname()[:2]
        self.local = (str(address).partition("%")[0], int(port))

    def send(self, data: bytes) -> None:
        with _told():
            self._sock.send(data)

    def receive(self, until: float) -> bytes:
        """One message, whatever it is; b"" when none has come in time. Raises _Failed."""
        with _told():
            data = _receive(self._sock, until)
        self._hear(data)
        return data

    def _hear(self, data: bytes) -> None:
        # Asterisk keeps connections alive with empty lines (RFC 5626, 3.5.1), whatever became of the request.
        self.heard = self.heard or bool(data.strip(b"\r\n"))


class _Stream(_Line):
    """The same over TCP and TLS, where a message may come in pieces."""

    reliable = True

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        with _told():
            self._sock.sendall(data)

    def receive(self, until: float) -> bytes:
        while True:
            try:
                whole, self._buffer = message.take(self._buffer)
            except ValueError as error:
                raise _Failed(UNRELATED, str(error)) from error
            if whole:
                return whole
            with _told():
                data = _receive(self._sock, until, closed=True)
            if not data:
                return b""
            self._hear(data)
            self._buffer += data


def _receive(sock: socket.socket, until: float, *, closed: bool = False) -> bytes:
    """What is there, or comes in time; b"" otherwise. With ``closed``, nothing at all means that the other side has gone."""
    left = until - time.monotonic()
    if left <= 0:
        return b""
    sock.settimeout(left)
    try:
        data = sock.recv(message.MAX_MESSAGE)
    except socket.timeout:
        return b""
    if not data and closed:
        raise _Failed(CLOSED, "the other side closed the connection")
    return data


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the kernel says about a conversation, as an outcome."""
    try:
        yield
    except socket.timeout as error:
        raise _Failed(TIMEOUT) from error
    except ConnectionRefusedError as error:
        raise _Failed(REFUSED, error.strerror or "") from error
    except (ConnectionResetError, BrokenPipeError) as error:
        raise _Failed(CLOSED, error.strerror or "") from error
    except OSError as error:
        if type(error).__module__ == "ssl":
            raise _tls_failure(error) from error
        raise _Failed(UNREACHABLE, error.strerror or str(error)) from error


def _tls_failure(error: Any) -> _Failed:
    """An ssl.SSLError as an outcome. It may come after the handshake: with TLS 1.3 that is when a missing certificate is told."""
    if type(error).__name__ == "SSLEOFError":
        return _Failed(CLOSED, "the other side closed the connection")
    said = getattr(error, "verify_message", "") or error.reason or str(error)
    return _Failed(TLS_FAILED, message.clean(said, 200))


@contextlib.contextmanager
def _open(question: Question, peer: tuple[Any, ...], deadline: float) -> Iterator[_Line]:
    """The way to the PBX, connected. Raises _Failed, and OptionError for a source that cannot be used."""
    family, address = peer
    stream = question.transport != UDP
    with _told():
        sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    try:
        if stream:
            # Closed with a reset: what has not been answered must not be sent again when nobody waits for it any more.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif sys.platform == "linux":
            sock.setsockopt(*_RECVERR[family], 1)
        if question.source or question.source_port:
            _bind(sock, question)
        with _told():
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            sock.connect(address)
            if question.transport == TLS:
                sock = _encrypt(sock, question, deadline)
        yield _Stream(sock) if stream else _Line(sock)
    finally:
        sock.close()


def _bind(sock: socket.socket, question: Question) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    anywhere = "::" if sock.family == socket.AF_INET6 else "0.0.0.0"
    try:
        found = socket.getaddrinfo(question.source or anywhere, question.source_port, sock.family, sock.type)
        sock.bind(found[0][4])
    except OSError as error:
        option, value = ("source", question.source) if question.source else ("source_port", question.source_port)
        words = error.strerror or str(error)
        raise OptionError(
            option, value, f"it cannot be spoken from ({words}); one of this host would be right"
        ) from error


def _encrypt(sock: socket.socket, question: Question, deadline: float) -> socket.socket:
    import ssl  # it takes longer to load than all the rest

    context = ssl.create_default_context()
    if not question.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # Asterisk still offers TLS 1.0 alone unless it is told otherwise (res_pjsip, transport, method), and phones take it.
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    name = question.server_name or (question.host.partition("%")[0] if question.tls_verify else None)
    sock.settimeout(max(0.001, deadline - time.monotonic()))
    return context.wrap_socket(sock, server_hostname=name)


# -- saying


def unmet(question: Question, finding: Finding) -> str:
    """A sentence when what came is not what was expected, else ""."""
    if {ANY: True, ANSWER: finding.answered, SILENCE: finding.silent}[question.expect]:
        return ""
    expected = "an answer" if question.expect == ANSWER else "silence"
    return f"{question}: {expected} was expected, but {words(finding, question.timeout)}"


def words(finding: Finding, timeout: float) -> str:
    """What came of a question, as the rest of a sentence. ``timeout`` is the question's, in seconds."""
    because = f" ({finding.error})" if finding.error else ""
    return {
        ANSWERED: f"it answered {finding.status} {finding.reason}".rstrip(),
        SILENT: f"nothing came back within {timeout:g} s",
        TIMEOUT: f"nobody answered the connection within {timeout:g} s",
        REFUSED: f"it was refused{because}: nothing listens there, or a firewall rejects it",
        UNREACHABLE: f"there is no way to it{because}",
        CLOSED: f"the connection was closed instead of an answer{because}",
        TLS_FAILED: f"TLS failed{because}",
        UNRELATED: f"something came back that is no answer to it{because}",
    }[finding.outcome]


def sources(findings: Sequence[Finding]) -> list[str]:
    """The addresses from which the PBX has seen us ask, and our own where none of its answers says so."""
    told = {finding.address: finding.received for finding in findings if finding.received}
    return sorted({seen for each in findings if (seen := told.get(each.address) or each.source)})


def result(question: Question, finding: Finding) -> dict[str, Any]:
    """Question and finding as the module returns them; None for what is not known."""
    known = {name: value or None for name, value in asdict(finding).items() if name != "warnings"}
    return {
        "profile": question.profile or None,
        "method": question.method,
        "transport": question.transport,
        "host": question.host,
        "port": question.port,
        "answered": finding.answered,
        "silent": finding.silent,
        **known,
    }
