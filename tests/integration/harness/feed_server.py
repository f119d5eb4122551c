# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server of feeds that behaves as the real ones do, or as badly as it is told to; and a proxy.

In a test: ``FeedServer({"/list": Page("192.0.2.1\\n")})``. On a host that is a namespace: the program at the end of this file.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gzip
import hashlib
import http.server
import inspect
import ipaddress
import itertools
import json
import socket
import ssl
import struct
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .netns import Namespace

__all__ = ["Apiban", "Authority", "FeedServer", "Page", "Proxy", "Received", "Site", "voipbl"]

MODIFIED = "Tue, 06 Jan 2026 10:00:00 GMT"
BATCH = 250
# How a page can be sent; "" is as it should be.
BEHAVIOURS = (
    "",
    "bomb",  # a small packed body that unpacks to very much
    "chunks cut",  # chunked, without the last chunk
    "cut",  # a Content-Length of more than what comes
    "drip",  # a byte every 20 ms
    "drip head",  # the same, beginning with the status
    "endless",  # a body that never ends
    "no http",
    "packed twice",  # two packed files, one behind the other
    "packed cut",  # a packed body without its end
    "reset",  # instead of an answer
    "reset half-way",
    "silent",  # never a byte
    "unsized",  # no length: the end of the connection is that of the body
    "unsized cut",  # the same, but a TLS connection does not say goodbye
)


@dataclass
class Page:
    """What is under one path."""

    body: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    behaviour: str = ""
    validators: bool = True  # ETag and Last-Modified, and 304 for those who come back with them
    etag: str = ""  # instead of one made from the body


@dataclass
class Apiban:
    """APIBAN below /api/, versions 1 and 2. The n-th address, from 0, has the ID 101 + n; batches are of 250, oldest first."""

    key: str
    addresses: list[Any] = field(default_factory=list)
    paging: str = ""  # "same", "circle", "endless": IDs that lead nowhere
    allowed: int | None = None  # how many requests there may be before 429
    retry_after: str = ""
    answer: Any = None  # said instead of a batch
    status: int = 200  # of that answer

    def reply(self, key: str, cursor: str, number: int) -> tuple[int, Any]:
        """Status and body for the request with that number, from 1."""
        if key != self.key:
            return 403, {"ipaddress": "none", "ID": "unauthorized"}
        if self.allowed is not None and number > self.allowed:
            return 429, {"ipaddress": "rate limit exceeded", "ID": "none"}
        if self.answer is not None:
            return self.status, self.answer
        if not cursor.isdigit():
            return 400, {"ipaddress": "bad request", "ID": "none"}
        start = max(int(cursor) - 100, 0)
        if self.paging == "endless":
            return 200, {"ipaddress": [str(ipaddress.ip_address(0x5DB80000 + start))], "ID": str(start + 101)}
        batch = self.addresses[start : start + BATCH]
        if not batch:
            return 400, {"ipaddress": ["no new bans"], "ID": "none"}
        following = {"same": int(cursor), "circle": 100 if start else 100 + len(batch)}
        return 200, {"ipaddress": batch, "ID": str(following.get(self.paging, 100 + start + len(batch)))}


@dataclass
class Site:
    """Everything a server has."""

    pages: dict[str, Page] = field(default_factory=dict)
    apiban: Apiban | None = None

    @classmethod
    def load(cls, path: Path) -> Site:
        """A directory, each file at its path; or a JSON file {"pages": {path: fields of Page}, "apiban": fields of Apiban}."""
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if file.is_file()]
            return cls({f"/{file.relative_to(path)}": Page(file.read_text(encoding="utf-8")) for file in files})
        data = json.loads(path.read_text(encoding="utf-8"))
        pages = {name: Page(**fields) for name, fields in data.get("pages", {}).items()}
        return cls(pages, Apiban(**data["apiban"]) if data.get("apiban") else None)


@dataclass(frozen=True)
class Received:
    """One request; the names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


def voipbl(entries: list[str], count: int | None = None) -> str:
    """A list as VoIPBL writes it; ``count`` is what its first line says."""
    return "\n".join([f"# TOTAL NETBLOCK: {len(entries) if count is None else count}", *entries, ""])


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FeedServer

    def log_message(self, *dummy: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        number = self.server.record(Received(self.command, self.path, headers, body.decode()))
        site = self.server.site()
        page = site.pages.get(self.path) or site.pages.get(self.path.partition("?")[0])
        words = self.path.strip("/").split("/")
        if page is not None:
            self._send_page(page)
        elif site.apiban and words[0] == "api" and len(words) > 1:
            self._send_apiban(site.apiban, words[1:], body, number)
        else:
            self._send(404, {"Content-Type": "text/html"}, b"<html><body>Not found</body></html>")

    def _send_apiban(self, apiban: Apiban, words: list[str], body: bytes, number: int) -> None:
        if self.command == "POST" and words == ["get"]:
            asked = json.loads(body)
            assert asked["set"] in ("sip", "http", "all"), asked
            status, answer = apiban.reply(self.headers["Authorization"].removeprefix("Bearer "), asked["id"], number)
        elif self.command == "GET" and words[1:2] == ["banned"] and len(words) <= 3:
            cursor = words[2] if len(words) == 3 else "100"
            status, answer = apiban.reply(urllib.parse.unquote(words[0]), cursor, number)
        else:
            status, answer = 404, {"ipaddress": "none", "ID": "none"}
        headers = {"Content-Type": "application/json"}
        if status == 429 and apiban.retry_after:
            headers["Retry-After"] = apiban.retry_after
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self._send(status, headers, text.encode())

    def _send_page(self, page: Page) -> None:
        data = page.body.encode("utf-8", "surrogateescape")
        headers = {"Content-Type": "text/plain", **page.headers}
        if page.validators and page.status == 200:
            etag = page.etag or f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            headers.update({"ETag": etag, "Last-Modified": MODIFIED})
            wanted = self.headers.get("If-None-Match")
            if wanted == etag or (wanted is None and self.headers.get("If-Modified-Since") == MODIFIED):
                self._send(304, {"ETag": etag}, None)
                return
        if page.behaviour:
            with contextlib.suppress(OSError):  # the client may well have had enough
                self._misbehave(page, headers, data)
        else:
            if "gzip" in self.headers.get("Accept-Encoding", "") and "Content-Encoding" not in headers and data:
                data = gzip.compress(data)
                headers["Content-Encoding"] = "gzip"
            self._send(page.status, headers, data)

    def _misbehave(self, page: Page, headers: dict[str, str], data: bytes) -> None:
        match page.behaviour:
            case "cut":
                self._send(page.status, {**headers, "Content-Length": str(len(data))}, data[: len(data) // 2])
            case "chunks cut":
                chunk = f"{len(data):x}\r\n".encode() + data + b"\r\n"
                self._send(page.status, {**headers, "Transfer-Encoding": "chunked"}, chunk)
            case "packed cut":
                self._send(page.status, {**headers, "Content-Encoding": "gzip"}, gzip.compress(data)[:-12])
            case "packed twice":
                half = len(data) // 2
                packed = gzip.compress(data[:half]) + gzip.compress(data[half:])
                self._send(page.status, {**headers, "Content-Type": "application/gzip"}, packed)
            case "bomb":
                self._send(page.status, {**headers, "Content-Encoding": "gzip"}, gzip.compress(bytes(1 << 25)))
            case "drip":
                self._send(page.status, {**headers, "Content-Length": str(len(data))}, None)
                self._drip(data)
            case "drip head":
                self._drip(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
            case "endless":
                self._send(page.status, {**headers, "Connection": "close"}, None)
                while not self.server.stopping.is_set():
                    self.wfile.write(b"192.0.2.1\n" * 1000)
            case "unsized" | "unsized cut":
                self._send(page.status, {**headers, "Connection": "close"}, None)
                self.wfile.write(data)
                if page.behaviour == "unsized" and isinstance(self.connection, ssl.SSLSocket):
                    self.connection.unwrap()
            case "no http":
                self.wfile.write(b"220 mail.example.org ESMTP\r\n")
            case "reset" | "reset half-way":
                if page.behaviour == "reset half-way":
                    self._send(page.status, {**headers, "Content-Length": str(len(data))}, data[: len(data) // 2])
                # With a linger of no time, close() sends a RST (socket(7)).
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.rfile.close()  # it holds the connection too
                self.connection.close()
            case "silent":
                self.server.stopping.wait()
            case _:
                raise AssertionError(page.behaviour)

    def _drip(self, data: bytes) -> None:
        for byte in data:
            if self.server.stopping.wait(0.02):
                return
            self.wfile.write(bytes([byte]))

    def _send(self, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        self.send_response(status)
        known = {name.lower() for name in headers}
        for name, value in headers.items():
            self.send_header(name, value)
        if not known & {"content-length", "transfer-encoding", "connection"}:
            self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if body:
            self.wfile.write(body)


class FeedServer(http.server.ThreadingHTTPServer):
    """A server on a free port of ``address``, in a namespace or not, over TLS or not, run by threads of this process.

    ``site`` can be changed at any time. ``requests`` is what came, in order.
    """

    daemon_threads = True

    def __init__(
        self,
        pages: Mapping[str, Page] | None = None,
        apiban: Apiban | None = None,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        host: Namespace | None = None,
        context: ssl.SSLContext | None = None,
        source: Callable[[], Site] | None = None,
        log: Callable[[Received], None] | None = None,
    ) -> None:
        self._site = Site(dict(pages or {}), apiban)
        self._source = source
        self._log = log
        self._context = context
        self._lock = threading.Lock()
        self.requests: list[Received] = []
        self.stopping = threading.Event()
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Handler, bind_and_activate=False)
        if host is not None:
            self.socket.close()
            self.socket = host.socket(self.address_family, socket.SOCK_STREAM)
        self.server_bind()
        self.server_activate()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self) -> FeedServer:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.close()

    def server_bind(self) -> None:
        """Without the name of the address, which the base class looks up."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Each connection has its own thread, in which its handshake can fail by itself."""
        with contextlib.suppress(OSError):
            if self._context is None:
                super().finish_request(request, client_address)
                return
            with self._context.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Only what is wrong with the server itself is worth a word."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def url(self, path: str = "", name: str = "") -> str:
        """The address of a page; ``name`` is what to call the host."""
        host = name or str(self.server_address[0])
        return f"{'https' if self._context else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}{path}"

    def site(self) -> Site:
        """What is there at this moment."""
        return self._source() if self._source else self._site

    def serve(self, path: str, page: Page) -> None:
        """Put a page there, instead of the one that was."""
        self._site.pages[path] = page

    def record(self, request: Received) -> int:
        """Note the request, and say how many there have been."""
        with self._lock:
            self.requests.append(request)
            if self._log:
                self._log(request)
            return len(self.requests)

    def close(self) -> None:
        """End it, with whatever is still being sent."""
        self.stopping.set()
        self.shutdown()
        self.server_close()


class _ProxyHandler(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def log_message(self, *dummy: object) -> None:
        pass

    def _admit(self) -> bool:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(Received(self.command, self.path, headers, ""))
        if self.server.refuse:
            self.send_error(self.server.refuse, self.server.phrase)
        return not self.server.refuse

    def do_CONNECT(self) -> None:
        if not self._admit():
            return
        host, port = self.path.rsplit(":", 1)
        with socket.create_connection((host.strip("[]"), int(port))) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(there, self.connection), daemon=True)
            back.start()
            _pump(self.connection, there)
            back.join()

    def do_GET(self) -> None:
        if not self._admit():
            return
        parts = urllib.parse.urlsplit(self.path)
        with socket.create_connection((parts.hostname or "", parts.port or 80)) as there:
            lines = [f"GET {parts.path} HTTP/1.0", *(f"{name}: {value}" for name, value in self.headers.items())]
            there.sendall("\r\n".join([*lines, "", ""]).encode())
            _pump(there, self.connection)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Proxy(http.server.ThreadingHTTPServer):
    """A proxy on a free port of loopback: CONNECT for https, GET for http. With ``refuse`` it answers nothing but that status."""

    daemon_threads = True

    def __init__(self, refuse: int = 0, phrase: str = "") -> None:
        self.refuse = refuse
        self.phrase = phrase
        self.requests: list[Received] = []
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that is gone is nobody's business."""


class Authority:
    """Signs certificates; its own is in ``file``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers: Iterator[int] = itertools.count()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sipguard test authority")])
        builder = self._builder(self._name, self._key.public_key(), self._name, self._key.public_key(), days=1)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        usage = dict.fromkeys(inspect.signature(x509.KeyUsage).parameters, False)
        builder = builder.add_extension(x509.KeyUsage(**{**usage, "key_cert_sign": True}), critical=True)
        self.file = directory / "ca.pem"
        self.file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _builder(
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        issuer: x509.Name,
        issuer_key: ec.EllipticCurvePublicKey,
        days: int,
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
            # Python 3.13 insists on these two (ssl.VERIFY_X509_STRICT).
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        )

    def files(self, *names: str, days: int = 1, self_signed: bool = False) -> tuple[Path, Path]:
        """A certificate for these names and addresses, and its key. ``days`` are from now; one of -1 has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "feeds.example.org")])
        signer, signer_name = (key, subject) if self_signed else (self._key, self._name)
        builder = self._builder(subject, key.public_key(), signer_name, signer.public_key(), days)
        places: list[x509.GeneralName] = []
        for name in names:
            try:
                places.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                places.append(x509.DNSName(name))
        builder = builder.add_extension(x509.SubjectAlternativeName(places), critical=False)
        certificate = builder.sign(signer, hashes.SHA256())
        stem = self._directory / f"server{next(self._numbers)}"
        paths = stem.with_suffix(".crt"), stem.with_suffix(".key")
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    def context(self, *names: str, days: int = 1, self_signed: bool = False) -> ssl.SSLContext:
        """What a server with such a certificate needs."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*self.files(*names, days=days, self_signed=self_signed))
        return made


def main() -> None:
    """Serve until the standard input ends. The port is printed; what is served is read anew for each request."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("serve", type=Path, help="a directory or a JSON file, see Site.load")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, help="where requests are written, each as a line of JSON")
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    options = parser.parse_args()
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)

    def log(request: Received) -> None:
        if options.log:
            with options.log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(vars(request)) + "\n")

    with FeedServer(
        address=options.address,
        port=options.port,
        context=context,
        source=lambda: Site.load(options.serve),
        log=log,
    ) as server:
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
