# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sip_probe: what it sends, what it makes of every kind of answer, and what a protected PBX lets it see."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.integration.harness.lab import PBX, Host, Lab
from tests.integration.harness.modules import environment, finish, module_process, run_module
from tests.integration.harness.netns import Namespace

COLLECTION = "ansible_collections.sipguard.pbx"
PORT = 5080
SILENCE = 0.6  # s; long enough for one repetition over UDP, which comes after half a second


# -- a peer that does as it is told


def field(request: bytes, name: str) -> str:
    found = re.search(rf"^{name}: (.*)\r$", request.decode(), re.MULTILINE)
    assert found, (name, request)
    return found[1]


def reply(request: bytes, status: str = "200 OK", *lines: str, body: str = "", **changed: str) -> bytes:
    """An answer to the request as PJSIP writes it; ``changed`` are headers that are not what they should be."""
    via = field(request, "Via").replace(";rport", ";received=203.0.113.9;rport=4711")
    headers = {"Via": via, "From": field(request, "From"), "To": f"{field(request, 'To')};tag=peer"}
    headers |= {"Call-ID": field(request, "Call-ID"), "CSeq": field(request, "CSeq")}
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    head = [f"SIP/2.0 {status}", *(f"{name}: {value}" for name, value in headers.items()), *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", body]).encode()


class Line(Protocol):
    """Where a script sends its answers."""

    def __call__(self, data: bytes, /) -> object: ...


# What the peer does about its n-th request (from 0).
Script = Callable[[int, bytes, Line], object]


class Peer:
    """A SIP server at one address and port of a namespace, over UDP, TCP or TLS. ``received`` is what it was asked, in order."""

    def __init__(
        self, host: Namespace, address: str, transport: str, script: Script, context: ssl.SSLContext | None = None
    ) -> None:
        self.received: list[bytes] = []
        self.ended = ""  # how the last connection ended
        self.server_names: list[str | None] = []
        self._news = threading.Condition()
        self._script = script
        self._context = context
        if context is not None:
            context.sni_callback = lambda sock, name, context: self.server_names.append(name)
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        self._sock = host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind((address, PORT))
        self._closing = False
        self._served: list[threading.Thread] = []
        if transport != "udp":
            self._sock.listen(8)
        self._thread = threading.Thread(
            target=self._datagrams if transport == "udp" else self._connections, daemon=True
        )
        self._thread.start()

    def _datagrams(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closing:
                data, peer = self._sock.recvfrom(65535)
                if not self._closing:
                    self._take(data, lambda answer, peer=peer: self._sock.sendto(answer, peer))

    def _connections(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closing:
                connection, dummy = self._sock.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                thread.start()
                self._served.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            buffer = b""
            while data := connection.recv(65535):
                buffer += data
                while (end := buffer.find(b"\r\n\r\n")) >= 0:
                    length = re.search(rb"Content-Length: (\d+)", buffer[:end])
                    size = end + 4 + (int(length[1]) if length else 0)
                    if len(buffer) < size:
                        break
                    whole, buffer = buffer[:size], buffer[size:]
                    self._take(whole, connection.sendall)
            self._end("closed")
        except ConnectionResetError:
            self._end("reset")
        except OSError as error:
            self._end(type(error).__name__)
        finally:
            connection.close()

    def _end(self, how: str) -> None:
        with self._news:
            self.ended = how
            self._news.notify_all()

    def _take(self, data: bytes, send: Line) -> None:
        with self._news:
            self.received.append(data)
            number = len(self.received) - 1
            self._news.notify_all()
        self._script(number, data, send)

    def methods(self) -> list[str]:
        return [data.split(b" ", 1)[0].decode() for data in self.received]

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Whether the condition, about what was received or how a connection ended, becomes true."""
        with self._news:
            return self._news.wait_for(condition, 5)

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in accept or recvfrom
        self._thread.join()
        for thread in self._served:
            thread.join()
        self._sock.close()


@pytest.fixture(scope="module")
def probe_lab() -> Iterator[Lab]:
    """One laboratory for all that needs no rules."""
    made = Lab("nft")
    yield made
    made.close()


class Stage:
    """Peers on the PBX, and questions to them from the phone."""

    def __init__(self, lab: Lab, transport: str, family: int) -> None:
        self.lab, self.transport, self.family = lab, transport, family
        self._peers: list[Peer] = []

    def peer(self, script: Script, context: ssl.SSLContext | None = None) -> Peer:
        made = Peer(self.lab.pbx, PBX[self.family], self.transport, script, context)
        self._peers.append(made)
        return made

    def ask(self, **options: Any) -> dict[str, Any]:
        """The module's result, failed or not."""
        options = {"host": PBX[self.family], "port": PORT, "transport": self.transport, **options}
        return run_module(self.lab.phone.namespace, "sip_probe", options)

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


@pytest.fixture
def stage(probe_lab: Lab, transport: str, family: int) -> Iterator[Stage]:
    made = Stage(probe_lab, transport, family)
    yield made
    made.close()


@pytest.fixture
def udp(probe_lab: Lab) -> Iterator[Stage]:
    made = Stage(probe_lab, "udp", 6)
    yield made
    made.close()


@pytest.fixture
def tcp(probe_lab: Lab) -> Iterator[Stage]:
    made = Stage(probe_lab, "tcp", 4)
    yield made
    made.close()


def says(*answers: bytes | str) -> Script:
    """Answers each request with the next of ``answers``: bytes as they are, a text as the status of a right answer."""

    def script(number: int, request: bytes, send: Line) -> None:
        answer = answers[min(number, len(answers) - 1)]
        send(answer if isinstance(answer, bytes) else reply(request, answer))

    return script


def mute(number: int, request: bytes, send: Line) -> None:
    """Says nothing."""


def own_address(family: int) -> str:
    return {4: "10.255.1.2", 6: "fd00:1::2"}[family]


# -- answers


def test_answer_is_told_with_all_that_is_known(stage: Stage) -> None:
    peer = stage.peer(
        lambda number, request, send: send(reply(request, "401 Unauthorized", "Server: A \x1b[1mPBX\x07 22"))
    )
    result = stage.ask(profile="phone", domain="tel.example.org", user="1001")
    assert (result["changed"], result["answered"], result["silent"], result["outcome"]) == (
        False,
        True,
        False,
        "answered",
    )
    assert (result["status"], result["reason"], result["answer"]) == (401, "Unauthorized", "SIP/2.0 401 Unauthorized")
    assert (result["received"], result["rport"], result["server"]) == ("203.0.113.9", 4711, "A [1mPBX 22")
    assert result["source"] == own_address(stage.family)
    assert result["latency_ms"] > 0
    assert (result["address"], result["port"], result["request"]) == (
        PBX[stage.family],
        PORT,
        "REGISTER sip:tel.example.org SIP/2.0",
    )
    here = f"[{result['source']}]" if stage.family == 6 else result["source"]
    via = f"SIP/2.0/{stage.transport.upper()} {here}:{result['source_port']};branch=z9hG4bK"
    assert [field(each, "Via").startswith(via) for each in peer.received] == [True]
    assert field(peer.received[0], "User-Agent").startswith("Yealink SIP-T46U ")


@pytest.mark.parametrize(
    ("profile", "line", "agent"),
    [
        ("phone", "REGISTER sip:tel.example.org SIP/2.0", "Yealink SIP-T46U 108.86.0.90"),
        ("trunk", "OPTIONS sip:{address} SIP/2.0", "Oracle SBC"),
        ("scanner", "OPTIONS sip:100@{address} SIP/2.0", "friendly-scanner"),
    ],
)
def test_pbx_receives_what_each_of_them_would_send(stage: Stage, profile: str, line: str, agent: str) -> None:
    peer = stage.peer(says("404 Not Found"))
    domain = {"domain": "tel.example.org"} if profile == "phone" else {}
    assert stage.ask(profile=profile, **domain)["status"] == 404
    address = f"[{PBX[6]}]" if stage.family == 6 else PBX[4]
    assert peer.received[0].split(b"\r\n")[0].decode() == line.format(address=address)
    assert field(peer.received[0], "User-Agent") == agent
    assert not any(name in peer.received[0] for name in (b"Authorization", b"Expires"))


def test_question_is_repeated_over_udp_only(stage: Stage) -> None:
    second = [mute, says("200 OK")]
    peer = stage.peer(lambda number, request, send: second[min(number, 1)](number, request, send))
    result = stage.ask(timeout=1.5)
    if stage.transport == "udp":
        assert result["status"] == 200
        assert result["latency_ms"] > 400  # from the first request on
        assert len(peer.received) == 2
        assert peer.received[0] == peer.received[1]
    else:
        assert (result["outcome"], result["silent"], len(peer.received)) == ("silent", True, 1)


def test_provisional_answer_is_waited_over(stage: Stage) -> None:
    def script(number: int, request: bytes, send: Line) -> None:
        send(reply(request, "100 Trying"))
        send(reply(request, "200 OK"))

    stage.peer(script)
    assert stage.ask()["status"] == 200


def test_provisional_answer_alone_is_an_answer(stage: Stage) -> None:
    peer = stage.peer(says("100 Trying"))
    result = stage.ask(timeout=SILENCE)
    assert (result["answered"], result["status"], len(peer.received)) == (True, 100, 1)


def test_silence_is_told_and_nothing_of_the_question_stays_on_its_way(stage: Stage) -> None:
    peer = stage.peer(mute)
    result = stage.ask(timeout=SILENCE, expect="silence")
    assert (result["answered"], result["silent"], result["outcome"]) == (False, True, "silent")
    assert {result[name] for name in ("status", "reason", "latency_ms", "received", "rport", "server", "answer")} == {
        None
    }
    assert result["source"] == own_address(stage.family)
    if stage.transport == "tcp":
        # Otherwise the kernel would send a dropped request again for minutes, and a scanner's be learned again and again.
        assert peer.wait(lambda: peer.ended != "")
        assert peer.ended == "reset"


def branch_of(request: bytes) -> str:
    return field(request, "Via").partition("branch=")[2].split(";")[0]


UNRELATED: dict[str, Callable[[bytes], bytes]] = {
    "another call": lambda request: reply(request, Call_ID="another"),
    "another transaction": lambda request: reply(request, Via=field(request, "Via").replace("z9hG4bK", "z9hG4bK0")),
    "another method": lambda request: reply(request, CSeq="1 INVITE"),
    "another number": lambda request: reply(request, CSeq="2 OPTIONS"),
    "no Via": lambda request: reply(request).replace(b"Via:", b"X:"),
    "the question itself": lambda request: request,
    "a request": lambda request: reply(request).replace(b"SIP/2.0 200 OK", b"OPTIONS sip:x SIP/2.0"),
    "no status": lambda request: reply(request, "999 What"),
    "something else": lambda request: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "bytes": lambda request: bytes(range(256)) + b"\r\n\r\n",
}


def of_its_kind(then: str = "") -> Script:
    """Answers as the user that is asked for says, and then rightly, if there is a status."""

    def script(number: int, request: bytes, send: Line) -> None:
        kind = list(UNRELATED)[int(request.split(b"@")[0].rpartition(b":")[2])]
        send(UNRELATED[kind](request))
        if then:
            send(reply(request, then))

    return script


def asked_for_all_kinds(stage: Stage, script: Script, timeout: float) -> dict[str, dict[str, Any]]:
    stage.peer(script)
    base = {"host": PBX[stage.family], "port": PORT, "transport": stage.transport, "timeout": timeout}
    questions = [{**base, "user": str(number)} for number in range(len(UNRELATED))]
    answers = run_module(stage.lab.phone.namespace, "sip_probe", {"questions": questions})["answers"]
    return dict(zip(UNRELATED, answers, strict=True))


def test_what_is_no_answer_to_the_question_is_none(stage: Stage) -> None:
    for kind, result in asked_for_all_kinds(stage, of_its_kind(), 2).items():
        told = (result["answered"], result["silent"], result["outcome"], result["received"])
        assert told == (False, False, "unrelated", None), kind


def test_right_answer_behind_it_counts(stage: Stage) -> None:
    for kind, result in asked_for_all_kinds(stage, of_its_kind("486 Busy Here"), 20).items():
        assert result["status"] == 486, kind


def test_keepalives_are_no_answer_and_break_no_silence(stage: Stage) -> None:
    def script(number: int, request: bytes, send: Line) -> None:
        send(b"\r\n\r\n")
        send(b"\r\n")

    stage.peer(script)
    assert stage.ask(timeout=SILENCE, expect="silence")["outcome"] == "silent"


def test_stream_may_come_in_pieces_and_hold_more_than_the_answer(tcp: Stage) -> None:
    def script(number: int, request: bytes, send: Line) -> None:
        theirs = b"NOTIFY sip:x SIP/2.0\r\nl: 22\r\n\r\nSIP/2.0 200 not yours!"
        for byte in b"\r\n\r\n" + theirs + reply(request, "200 OK", body="some text"):
            send(bytes([byte]))

    tcp.peer(script)
    assert tcp.ask()["status"] == 200


@pytest.mark.parametrize("endless", [b"x" * 70000, b"SIP/2.0 200 OK\r\nContent-Length: 999999999\r\n\r\n"])
def test_endless_message_is_given_up(tcp: Stage, endless: bytes) -> None:
    def script(number: int, request: bytes, send: Line) -> None:
        with contextlib.suppress(OSError):
            send(endless)

    tcp.peer(script)
    result = tcp.ask(timeout=30)
    assert (result["outcome"], result["error"]) == ("unrelated", "longer than 65535 bytes")


# -- no answer


def test_refusal_is_not_silence(stage: Stage) -> None:
    """Nobody listens: ICMP port unreachable, or a reset."""
    result = stage.ask()
    assert (result["answered"], result["silent"], result["outcome"]) == (False, False, "refused")
    assert (result["error"], result["source"]) == ("Connection refused", own_address(stage.family))
    failed = stage.ask(expect="silence")
    assert failed["failed"] is True
    assert failed["outcome"] == "refused"
    assert failed["msg"].endswith(
        f"over {stage.transport.upper()} to {PBX[stage.family]} port {PORT}: silence was expected, "
        "but it was refused (Connection refused): nothing listens there, or a firewall rejects it"
    )


REJECTS = {
    (4, "icmp-port-unreachable"): ("refused", "refused"),
    (4, "icmp-admin-prohibited"): ("unreachable", "unreachable"),
    (4, "icmp-host-unreachable"): ("unreachable", "unreachable"),
    (6, "icmp6-port-unreachable"): ("refused", "refused"),
    (6, "icmp6-adm-prohibited"): ("unreachable", "unreachable"),
    (6, "icmp6-addr-unreachable"): ("unreachable", "unreachable"),
}


def test_rejection_by_a_firewall_is_told_as_what_it_is(nft_lab: Lab) -> None:
    for (family, kind), outcomes in REJECTS.items():
        rule = ["INPUT", "-s", own_address(family), "-j", "REJECT", "--reject-with", kind]
        nft_lab.iptables("-A", *rule, family=family)
        base = {"host": PBX[family], "port": PORT, "timeout": 10}
        questions = [{**base, "transport": transport} for transport in ("udp", "tcp")]
        answers = run_module(nft_lab.phone.namespace, "sip_probe", {"questions": questions})["answers"]
        assert tuple(each["outcome"] for each in answers) == outcomes, kind
        nft_lab.iptables("-D", *rule, family=family)
    reset = ["INPUT", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"]
    nft_lab.iptables("-A", *reset)
    with contextlib.closing(Stage(nft_lab, "tcp", 4)) as stage:
        assert stage.ask(timeout=10)["outcome"] == "refused"


def test_dropped_packets_are_silence(nft_lab: Lab, transport: str, family: int) -> None:
    nft_lab.iptables("-A", "INPUT", "-s", own_address(family), "-j", "DROP", family=family)
    with contextlib.closing(Stage(nft_lab, transport, family)) as stage:
        result = stage.ask(timeout=SILENCE, expect="silence")
    assert (result["silent"], result["outcome"]) == (True, "silent" if transport == "udp" else "timeout")


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_connection_that_ends_instead_of_an_answer(tcp: Stage, reset: bool) -> None:
    def script(number: int, request: bytes, send: Line) -> None:
        connection: socket.socket = send.__self__  # type: ignore[attr-defined]
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    tcp.peer(script)
    result = tcp.ask(expect="any")
    assert (result["outcome"], result["silent"]) == ("closed", False)


def test_expectation_that_is_not_met_fails_with_a_sentence(udp: Stage) -> None:
    udp.peer(says("403 {{ Forbidden }}"))
    result = udp.ask(profile="scanner", expect="silence")
    assert (result["failed"], result["status"]) == (True, 403)
    assert result["msg"] == (
        "OPTIONS as a scanner over UDP to 2001:db8::1 port 5080: silence was expected, but it answered 403 {{ Forbidden }}"
    )
    assert udp.ask(expect="answer")["answered"] is True


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key that nobody has signed but itself."""
    folder = tmp_path_factory.mktemp("tls")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", "2", "-subj", "/CN=pbx.example.org", "-keyout", "key", "-out", "cert"]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def tls(probe_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(probe_lab, "tls", request.param)
    yield made
    made.close()


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate / "cert", certificate / "key")
    return made


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"profile": "phone", "domain": "tel.example.org"}, "tel.example.org"),
        ({"domain": "tel.example.org", "server_name": "other.example.org"}, "other.example.org"),
        ({"domain": "tel.example.org", "server_name": ""}, None),
        ({"profile": "phone"}, None),  # an address is no server name (RFC 6066)
        ({"profile": "trunk"}, None),
        ({"profile": "scanner"}, None),
        ({"profile": "scanner", "server_name": "scanner.invalid"}, "scanner.invalid"),
    ],
)
def test_tls_is_answered_and_the_server_name_is_the_one_meant(
    tls: Stage, context: ssl.SSLContext, options: dict[str, Any], name: str | None
) -> None:
    peer = tls.peer(says("401 Unauthorized"), context)
    result = tls.ask(**options)
    assert (result["status"], peer.server_names) == (401, [name])
    assert field(peer.received[0], "Via").startswith("SIP/2.0/TLS ")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_of_long_ago_is_answered_too(tls: Stage, context: ssl.SSLContext) -> None:
    """TLS 1.0 alone, as Asterisk offers it unless it is told otherwise."""
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1
    tls.peer(says("401 Unauthorized"), context)
    assert tls.ask(domain="pbx.example.org")["status"] == 401


def test_tls_that_wants_a_certificate_of_us_is_told(tls: Stage, context: ssl.SSLContext, certificate: Path) -> None:
    """As a provider with mutual authentication would; with TLS 1.3 it says so when the handshake is over for us."""
    context.load_verify_locations(certificate / "cert")
    context.verify_mode = ssl.CERT_REQUIRED
    tls.peer(says("200 OK"), context)
    result = tls.ask()
    # Its alert, or the reset behind it, whichever is read first.
    assert (result["outcome"], result["silent"]) in (("tls_failed", False), ("closed", False))


def test_tls_certificate_counts_when_it_shall(tls: Stage, context: ssl.SSLContext) -> None:
    tls.peer(says("200 OK"), context)
    result = tls.ask(tls_verify=True, domain="pbx.example.org")
    assert (result["outcome"], result["error"]) == ("tls_failed", "self-signed certificate")


def test_tls_certificate_that_is_trusted_is_right(tls: Stage, context: ssl.SSLContext, certificate: Path) -> None:
    tls.peer(says("200 OK"), context)
    options = {
        "host": PBX[tls.family],
        "port": PORT,
        "transport": "tls",
        "tls_verify": True,
        "domain": "pbx.example.org",
    }
    trusting = {"SSL_CERT_FILE": str(certificate / "cert")}
    result = run_module(tls.lab.phone.namespace, "sip_probe", options, env=trusting)
    assert result["status"] == 200
    result = run_module(
        tls.lab.phone.namespace, "sip_probe", {**options, "server_name": "other.example.org"}, env=trusting
    )
    assert result["outcome"] == "tls_failed"
    assert "other.example.org" in result["error"]


def test_tls_where_none_is_spoken(probe_lab: Lab) -> None:
    for plain, outcome in ((b"SIP/2.0 400 Bad Request\r\n\r\n", "tls_failed"), (b"", "timeout")):
        with contextlib.closing(Stage(probe_lab, "tcp", 4)) as stage:
            peer = stage.peer(mute)
            peer._serve = _plain(plain)  # type: ignore[method-assign, assignment]
            assert stage.ask(transport="tls", timeout=SILENCE if not plain else 5)["outcome"] == outcome


def _plain(answer: bytes) -> Callable[[socket.socket], None]:
    """A server that knows nothing of TLS: answers anything with ``answer``, until the other side goes."""

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while connection.recv(65535):
                connection.sendall(answer)

    return serve


# -- calls


def call(stage: Stage, *answers: Sequence[str], **options: Any) -> tuple[dict[str, Any], Peer]:
    """Call somebody at a peer that answers the n-th kind of request it gets with these statuses."""
    kinds: list[str] = []

    def script(number: int, request: bytes, send: Line) -> None:
        method = request.split(b" ", 1)[0].decode()
        if method == "ACK" or method in kinds:
            return
        kinds.append(method)
        for status in answers[len(kinds) - 1] if len(kinds) <= len(answers) else ():
            # "487" and a late "200" are about the call, whatever asked for them.
            about = invite[0] if status.endswith("call") else request
            if method == "INVITE":
                invite.append(request)
            send(reply(about, status.removesuffix(" call"), "Contact: <sip:600@peer.example.org:5080>"))

    invite: list[bytes] = []
    peer = stage.peer(script)
    return stage.ask(method="INVITE", user="600", domain="tel.example.org", **options), peer


def test_call_that_is_refused_is_acknowledged(stage: Stage) -> None:
    result, peer = call(stage, ["100 Trying", "401 Unauthorized"])
    assert result["status"] == 401
    assert peer.wait(lambda: peer.methods() == ["INVITE", "ACK"])
    invite, ack = peer.received
    assert branch_of(ack) == branch_of(invite)
    assert field(ack, "To") == f"{field(invite, 'To')};tag=peer"
    assert b"\r\na=inactive\r\n" in invite
    assert "warnings" not in result


def test_call_that_rings_is_cancelled(stage: Stage) -> None:
    result, peer = call(stage, ["100 Trying", "180 Ringing"], ["200 OK", "487 Request Terminated call"])
    assert (result["answered"], result["status"], result["reason"]) == (True, 180, "Ringing")
    assert peer.wait(lambda: peer.methods() == ["INVITE", "CANCEL", "ACK"])
    invite, cancel, ack = peer.received
    assert {branch_of(request) for request in peer.received} == {branch_of(invite)}
    assert field(cancel, "To") == field(invite, "To")
    assert field(ack, "CSeq") == "1 ACK"
    assert "warnings" not in result


def test_call_that_is_answered_is_ended(stage: Stage) -> None:
    result, peer = call(stage, ["200 OK"], ["200 OK"])
    assert result["status"] == 200
    assert peer.methods() == ["INVITE", "ACK", "BYE"]
    ack, bye = peer.received[1:]
    assert [request.split(b"\r\n")[0] for request in (ack, bye)] == [
        b"ACK sip:600@peer.example.org:5080 SIP/2.0",
        b"BYE sip:600@peer.example.org:5080 SIP/2.0",
    ]
    assert len({branch_of(request) for request in peer.received}) == 3
    assert field(bye, "CSeq") == "2 BYE"
    assert "warnings" not in result


def test_call_that_is_answered_while_it_is_being_cancelled_is_ended(stage: Stage) -> None:
    result, peer = call(stage, ["180 Ringing"], ["200 OK", "200 OK call"], ["200 OK"])
    assert result["status"] == 180
    assert peer.methods() == ["INVITE", "CANCEL", "ACK", "BYE"]
    assert "warnings" not in result


@pytest.mark.parametrize(
    ("answers", "warning"),
    [
        ((["183 Session Progress"], ["200 OK"]), "the call was cancelled, and the PBX did not confirm it"),
        ((["200 OK"],), "the call was answered and ended, and the PBX did not confirm its end"),
    ],
)
def test_call_whose_end_is_not_confirmed_is_told(tcp: Stage, answers: Sequence[Sequence[str]], warning: str) -> None:
    result, dummy = call(tcp, *answers, timeout=1)
    assert result["answered"] is True
    said = [each if isinstance(each, str) else each["event"]["msg"] for each in result["warnings"]]
    assert said == [f"INVITE over TCP to 192.0.2.1 port 5080: {warning}"]


# -- several questions, and how they are asked


def test_rounds_are_asked_one_after_the_other(udp: Stage) -> None:
    peer = udp.peer(lambda number, request, send: None if b"OPTIONS" in request[:7] else send(reply(request)))
    base = {"host": PBX[6], "port": PORT, "timeout": SILENCE}
    rounds = [
        {**base, "method": "REGISTER", "user": "last", "round": 3},
        {**base, "user": "silent", "round": 1},
        {**base, "user": "silent", "round": 1},
    ]
    result = run_module(udp.lab.phone.namespace, "sip_probe", {"questions": rounds})
    assert [(each["method"], each["outcome"]) for each in result["answers"]] == [
        ("REGISTER", "answered"),
        ("OPTIONS", "silent"),
        ("OPTIONS", "silent"),
    ]
    assert peer.methods()[:2] == ["OPTIONS", "OPTIONS"]
    assert peer.methods()[-1] == "REGISTER"
    # What the PBX has said of one question is known for all of them.
    assert result["sources"] == ["203.0.113.9"]
    assert "answered" not in result


def test_questions_that_get_another_answer_are_all_named(udp: Stage) -> None:
    udp.peer(says("200 OK"))
    base = {"host": PBX[6], "port": PORT}
    wrong = {**base, "expect": "silence"}
    result = run_module(
        udp.lab.phone.namespace, "sip_probe", {"questions": [base, wrong, {**wrong, "profile": "trunk"}]}
    )
    assert result["failed"] is True
    assert [part.split(":")[0] for part in result["msg"].split("; ")] == [
        "OPTIONS over UDP to 2001",
        "OPTIONS as a trunk over UDP to 2001",
    ]
    assert [each["status"] for each in result["answers"]] == [200, 200, 200]


def test_source_and_port_are_the_ones_wanted(stage: Stage) -> None:
    source = "198.51.100.77" if stage.family == 4 else "2001:db8:1::77"
    plain = "32" if stage.family == 4 else "128 nodad"
    address = f"{source}/{plain}"
    stage.lab.phone.namespace.ip([f"addr add {address} dev lo"])
    peer = stage.peer(says("200 OK"))
    result = stage.ask(source=source, source_port=6060)
    stage.lab.phone.namespace.ip([f"addr del {address.removesuffix(' nodad')} dev lo"])
    assert (result["status"], result["source"], result["source_port"]) == (200, source, 6060)
    assert f"{source}]:6060;" in field(peer.received[0], "Via") or f"{source}:6060;" in field(peer.received[0], "Via")


def test_check_mode_asks_as_well(udp: Stage) -> None:
    udp.peer(says("200 OK"))
    options = {"host": PBX[6], "port": PORT}
    result = run_module(udp.lab.phone.namespace, "sip_probe", options, check=True)
    assert (result["status"], result["changed"]) == (200, False)


def test_no_privilege_is_needed(stage: Stage) -> None:
    stage.peer(says("200 OK"))
    options = {"host": PBX[stage.family], "port": PORT, "transport": stage.transport}
    without = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    with module_process(stage.lab.phone.namespace, "sip_probe", options, prefix=without) as process:
        assert finish(process)["status"] == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one of the following is required: host, questions"),
        ({"host": "192.0.2.1", "questions": []}, "mutually exclusive: host|questions"),
        ({"host": "192.0.2.1", "transport": "sctp"}, "value of transport must be one of: udp, tcp, tls"),
        (
            {"host": "192.0.2.1:5060"},
            "host: '192.0.2.1:5060' cannot be used; an address (192.0.2.7, 2001:db8::7) or a name",
        ),
        (
            {"questions": [{"host": "192.0.2.1"}, {"host": "192.0.2.1", "port": 0}]},
            "questions[1].port: 0 cannot be used",
        ),
        (
            {"host": "192.0.2.1", "source": "192.0.2.99"},
            "source: '192.0.2.99' cannot be used; it cannot be spoken from",
        ),
        ({"host": "192.0.2.1", "method": "INVITE"}, "user: None cannot be used; an INVITE calls somebody"),
    ],
)
def test_bad_options_are_refused_with_what_would_be_right(probe_lab: Lab, options: dict[str, Any], said: str) -> None:
    result = run_module(probe_lab.phone.namespace, "sip_probe", options)
    assert result["failed"] is True
    assert said in result["msg"]
    assert "Traceback" not in result["msg"]


# -- a protected PBX


def sipguard(lab: Lab, *argv: str) -> subprocess.CompletedProcess[str]:
    """The command, as the PBX runs it."""
    command = [sys.executable, "-m", f"{COLLECTION}.plugins.module_utils._host.cli", *argv]
    return subprocess.run(
        lab.pbx.argv(*command), env=environment(), cwd="/", text=True, capture_output=True, check=False
    )


ATTACKER = {4: "10.255.3.2", 6: "fd00:3::2"}


def ask_both(host: Host, transport: str, **options: Any) -> list[dict[str, Any]]:
    """The answers of the PBX over IPv4 and IPv6; a failure is none here."""
    base = {"transport": transport, "timeout": SILENCE if options.get("expect") == "silence" else 20, **options}
    result = run_module(
        host.namespace, "sip_probe", {"questions": [{**base, "host": PBX[family]} for family in (4, 6)]}
    )
    assert not result.get("failed"), result
    answers: list[dict[str, Any]] = result["answers"]
    return answers


def test_protected_pbx_answers_phones_and_not_scanners_and_forgets_on_demand(lab: Lab, transport: str) -> None:
    lab.blocklist()
    for profile, expect in (("phone", "answer"), ("trunk", "answer"), ("scanner", "silence"), ("phone", "silence")):
        ask_both(lab.attacker, transport, profile=profile, expect=expect)
    assert all(lab.member("sipguard-offenders", address) for address in ATTACKER.values())
    done = sipguard(lab, "unban", "--learned", "--json", *ATTACKER.values())
    assert (done.returncode, done.stderr) == (0, "")
    assert {address: found["removed"] for address, found in json.loads(done.stdout).items()} == {
        ATTACKER[4]: ["sipguard-offenders4"],
        ATTACKER[6]: ["sipguard-offenders6"],
    }
    ask_both(lab.attacker, transport, profile="phone", expect="answer")
    # Nothing of the scanner's question was still on its way.
    assert not any(lab.member("sipguard-offenders", address) for address in ATTACKER.values())
    lab.trust(*ATTACKER.values())
    ask_both(lab.attacker, transport, profile="scanner", expect="answer")


def test_info_says_what_stops_whom(lab: Lab) -> None:
    lab.blocklist(families=["ipv4"])
    lab.trust("10.255.3.0/24")
    ask_both(lab.phone, "udp", profile="scanner", timeout=SILENCE)
    addresses = ["10.255.1.2", "10.255.3.2", "2001:db8::9"]
    result = run_module(lab.pbx, "sipguard_info", {"addresses": addresses})
    assert (result["changed"], result["protected"], result["observing"]) == (False, True, False)
    assert result["backend"] == lab.backend
    assert {name: each["stopping"] for name, each in result["families"].items()} == {
        "ipv4": ["SIPGUARD-UA"],
        "ipv6": [],
    }
    assert {address: list(found["found"]) for address, found in result["addresses"].items()} == {
        "10.255.1.2": ["sipguard-offenders"],
        "10.255.3.2": ["sipguard-trusted"],
        "2001:db8::9": [],
    }
    assert [found["stopped"] for found in result["addresses"].values()] == [True, False, False]
    lab.blocklist(mode="observe")
    before = lab.snapshot()
    result = run_module(lab.pbx, "sipguard_info", {}, check=True)
    assert (result["protected"], result["observing"]) == (False, True)
    assert {(*each["members"], *each["stopping"]) for each in result["families"].values()} == {("SIPGUARD-UA",)}
    result = run_module(lab.pbx, "sipguard_info", {"addresses": ["10.0.0.0/8"]})
    assert result["msg"] == "addresses: '10.0.0.0/8' cannot be used; an address (192.0.2.7, 2001:db8::7) would be right"
    assert lab.snapshot() == before


def test_unban_takes_out_what_it_says_and_nothing_else(nft_lab: Lab) -> None:
    nft_lab.blocklist()
    nft_lab.trust("203.0.113.0/24")
    for made in (
        ["banned4", "hash:net", "timeout", "600", "comment"],
        ["observed4", "hash:ip", "timeout", "600"],
        ["blocked4", "hash:net"],
    ):
        nft_lab.pbx.run("ipset", "create", f"sipguard-{made[0]}", *made[1:])
    for name in ("offenders4", "banned4", "observed4", "blocked4"):
        for address in ("203.0.113.9", "198.51.100.9", "198.51.100.10"):
            nft_lab.pbx.run("ipset", "add", f"sipguard-{name}", address)
    nft_lab.pbx.run("ipset", "add", "sipguard-offenders6", "2001:db8::9")
    before = nft_lab.sets().splitlines()

    def gone() -> list[str]:
        return [line for line in before if line not in nft_lab.sets().splitlines()]

    done = sipguard(nft_lab, "unban", "--learned", "198.51.100.9")
    assert gone() == ["add sipguard-observed4 198.51.100.9", "add sipguard-offenders4 198.51.100.9"]
    done = sipguard(nft_lab, "unban", "198.51.100.9", "2001:0db8::0009", "203.0.113.9", "192.0.2.99")
    assert (done.returncode, done.stderr) == (0, "")
    assert gone() == [
        "add sipguard-banned4 198.51.100.9",
        "add sipguard-banned4 203.0.113.9",
        "add sipguard-observed4 198.51.100.9",
        "add sipguard-observed4 203.0.113.9",
        "add sipguard-offenders4 198.51.100.9",
        "add sipguard-offenders4 203.0.113.9",
        "add sipguard-offenders6 2001:db8::9",
    ]
    assert done.stdout.splitlines()[:3] == [
        "198.51.100.9: taken out of sipguard-banned4",
        "198.51.100.9: not stopped",
        "  blocked, although no list has it, which the next refresh or run puts right: no rule drops that set now, see sipguard status "
        "(sipguard-blocked4)",
    ]
    assert "2001:db8::9: taken out of sipguard-offenders6\n" in done.stdout
    assert "192.0.2.99: nothing to take it out of\n" in done.stdout
    after = nft_lab.sets()
    assert sipguard(nft_lab, "unban", "198.51.100.9").returncode == 0
    assert sipguard(nft_lab, "unban", "198.51.100.10", "198.51.100.1/24").returncode == 2
    assert nft_lab.sets() == after
