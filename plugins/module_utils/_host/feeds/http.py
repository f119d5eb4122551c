# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to a server that may be slow, broken or hostile. Nothing it answers gets into a message, but numbers and host names."""

from __future__ import annotations

import io
import re
import socket
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ..._sip.errors import SipguardError
from .feed import Feed

if TYPE_CHECKING:
    import http.client
    import urllib.request

__all__ = ["USER_AGENT", "Answer", "Client", "FeedError"]

USER_AGENT = "sipguard"
MAX_REDIRECTS = 5

_CHUNK = 65536  # bytes
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_LONGEST_WAIT = 86400  # s


class FeedError(SipguardError):
    """A feed could not be fetched. ``temporary``: it may well work at the next try, which should wait ``retry_after`` seconds."""

    def __init__(self, message: str, *, temporary: bool, retry_after: int = 0) -> None:
        self.temporary = temporary
        self.retry_after = retry_after
        super().__init__(message)


@dataclass(frozen=True)
class Answer:
    """``headers`` have lower-case names; ``body`` is unpacked, and empty unless it was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def retry_after(self, default: int) -> int:
        """How many seconds the server wants to be left alone (RFC 9110 section 10.2.3, as a number), at most a day."""
        text = self.headers.get("retry-after", "").strip()
        return min(int(text), _LONGEST_WAIT) if re.fullmatch(r"[0-9]{1,9}", text) else default


class _Deadline:
    """One end for everything, not for each read: who sends one byte a minute must not keep a refresh for days."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left. Raises TimeoutError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def connect(self, address: tuple[str, int], *options: object) -> socket.socket:
        """As socket.create_connection, whose time is for each address of a name."""
        problem: OSError | None = None
        # The resolver's own limits apply here: seconds, and nothing of it can be interrupted.
        for family, kind, protocol, dummy, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(min(self.left(), 20))
                sock.connect(place)
                sock.settimeout(self.left())
            except OSError as error:
                sock.close()
                problem = error
                self.left()
            else:
                return sock  # its time is that of the handshake now; reads set their own
        raise problem or OSError("no address")


class _Reader(io.RawIOBase):
    """What a connection brings, until the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: _Deadline) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class Client:
    """Everything one refresh of a feed asks for, within ``feed.timeout`` seconds from now and ``feed.max_size`` bytes."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._deadline = _Deadline(feed.timeout)
        self._room = feed.max_size
        self._opener: urllib.request.OpenerDirector | None = None

    def request(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        body: bytes | None = None,
        secret: bool = False,
        errors: bool = False,
        limit: int = 0,
    ) -> Answer:
        """What the server answers, whatever the status, after redirects. POST with a ``body``, else GET.

        ``secret``: the URL or the headers hold one, so that no other server may get the request.
        ``errors``: the body counts with every status, not with 200 only. ``limit``: bytes for this answer, 0 for those of the feed.
        Raises FeedError.
        """
        for dummy in range(MAX_REDIRECTS + 1):
            answer = self._exchange(url, headers, body, errors, limit or self._feed.max_size)
            target = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not target:
                return answer
            if body is not None and answer.status not in (307, 308):
                raise FeedError("the server redirects in a way that would lose the question", temporary=False)
            url = self._redirected(url, target, secret)
        raise FeedError("the server redirects in circles", temporary=True)

    def _redirected(self, url: str, target: str, secret: bool) -> str:
        try:
            found = urljoin(url, target)
            old, new = urlsplit(url), urlsplit(found)
            old_place, new_place = ((part.hostname, part.port or _PORTS.get(part.scheme)) for part in (old, new))
        except ValueError:
            raise FeedError("the server redirects to something that is no address", temporary=True) from None
        if new.scheme not in _PORTS or (new.scheme == "http" and (old.scheme == "https" or not self._feed.allow_http)):
            raise FeedError("the server redirects away from https", temporary=False)
        if not re.fullmatch(r"[!-~]{1,2000}", found) or not new.hostname or "@" in new.netloc:
            raise FeedError("the server redirects to something that is no address", temporary=True)
        upgraded = old_place == (new.hostname, 80) and new_place[1] == 443
        if secret and old_place != new_place and not upgraded:
            raise FeedError("the server redirects to another one, which must not get the key", temporary=False)
        return found

    def _exchange(self, url: str, headers: Mapping[str, str], body: bytes | None, errors: bool, limit: int) -> Answer:
        import http.client
        import ssl
        import urllib.error
        import urllib.request

        if self._opener is None:
            self._opener = self._make_opener()
        request = urllib.request.Request(url, body, {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", **headers})
        # No exception of the libraries is kept as a cause: their texts may hold the URL, and with it a key.
        why, temporary = "", True
        try:
            with self._opener.open(request, timeout=self._deadline.left()) as response:
                found = {name.lower(): value for name, value in response.headers.items()}
                wanted = errors or response.status == 200
                data = self._read(response, found, limit) if wanted else b""
                return Answer(response.status, found, data)
        except (OSError, ValueError, http.client.HTTPException, zlib.error) as caught:
            # urllib wraps what happens before the answer, and nothing after it.
            error = caught.reason if isinstance(caught, urllib.error.URLError) else caught
            if isinstance(error, ssl.SSLCertVerificationError):
                why, temporary = f"its certificate is not good: {_clean(error.verify_message)}", False
            elif isinstance(error, (TimeoutError, socket.timeout)):
                why = "it took too long"
            elif isinstance(error, socket.gaierror):
                why = "the name of the server, or of the proxy, is not known"
            elif (
                isinstance(error, (http.client.IncompleteRead, zlib.error, ssl.SSLEOFError))
                # What some versions of Python have instead of an SSLEOFError.
                or getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING"
            ):
                why = "the answer was cut short"
            elif isinstance(error, ConnectionRefusedError):
                why = "the server, or the proxy, does not accept connections"
            elif isinstance(error, ConnectionError):
                why = "the connection was broken off"
            elif isinstance(error, http.client.HTTPException):
                why = "the answer was not that of a web server"
            elif isinstance(error, ValueError):
                why, temporary = "the address of the server, or of the proxy, cannot be used", False
            elif refused := re.match(r"Tunnel connection failed: ([0-9]{3})\b", str(error)):
                why = f"the proxy refused with status {refused[1]}"
            elif isinstance(error, ssl.SSLError):
                why = f"TLS failed: {_clean(error.reason or 'no reason given')}"
            else:
                why = f"the network failed: {_clean(getattr(error, 'strerror', None) or type(error).__name__)}"
        raise FeedError(why, temporary=temporary)

    def _read(self, response: http.client.HTTPResponse, headers: Mapping[str, str], limit: int) -> bytes:
        """The body, unpacked, of which no more is ever held than is allowed."""
        coding = headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip", "x-gzip", ""):
            raise FeedError("the answer is packed in a way that nobody asked for", temporary=True)
        limit = min(limit, self._room)
        data = bytearray()
        came = 0
        unpack = None
        while chunk := response.read(_CHUNK):
            # A packed file says so by its first bytes too (RFC 1952 section 2.3.1).
            if came == 0 and (coding.endswith("gzip") or chunk.startswith(b"\x1f\x8b")):
                unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
            came += len(chunk)
            while unpack and chunk:
                if unpack.eof:
                    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)  # several files, one behind the other
                data += unpack.decompress(chunk, limit + 1 - len(data))
                chunk = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
                if len(data) > limit:
                    break
            if unpack is None:
                data += chunk
            if len(data) > limit or came > limit:
                raise FeedError(f"the answer is longer than {limit} bytes", temporary=False)
        length = headers.get("content-length", "")
        if (unpack and not unpack.eof) or (re.fullmatch(r"[0-9]{1,18}", length) and came < int(length)):
            raise FeedError("the answer was cut short", temporary=True)
        self._room -= len(data)
        return bytes(data)

    def _make_opener(self) -> urllib.request.OpenerDirector:
        """https, and http where the feed allows it; no files, no redirects of its own, every status an answer."""
        # All of this takes a tenth of a second on a small machine, and most runs of the command fetch nothing.
        import http.client
        import ssl
        import urllib.request

        deadline = self._deadline

        class Response(http.client.HTTPResponse):
            def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
                super().__init__(sock, *arguments, **options)
                self.fp: Any = io.BufferedReader(_Reader(self.fp.detach(), sock, deadline))

        class Plain(http.client.HTTPConnection):
            response_class = Response

            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                self._create_connection = deadline.connect

        class Secure(http.client.HTTPSConnection):
            response_class = Response

            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                self._create_connection = deadline.connect

            def connect(self) -> None:
                super().connect()
                self.sock.suppress_ragged_eofs = False  # type: ignore[union-attr]

        class PlainHandler(urllib.request.HTTPHandler):
            def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(Plain, req)

        class SecureHandler(urllib.request.HTTPSHandler):
            def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(Secure, req, context=context)

        try:
            context = ssl.create_default_context(cafile=self._feed.ca_file or None)
        except (OSError, ssl.SSLError):
            raise FeedError(f"the file of certificates {self._feed.ca_file} cannot be read", temporary=False) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Else an answer without a length could be cut by anybody on the way (RFC 9112 section 9.8). Python has two switches for it.
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        proxy = self._feed.proxy
        proxies = None if proxy == "" else {} if proxy == "none" else {"http": proxy, "https": proxy}
        opener = urllib.request.OpenerDirector()
        opener.add_handler(urllib.request.ProxyHandler(proxies))
        opener.add_handler(SecureHandler(context=context))
        opener.add_handler(urllib.request.UnknownHandler())
        if self._feed.allow_http:
            opener.add_handler(PlainHandler())
        return opener


def _clean(text: str) -> str:
    return ascii(text)[1:-1][:80]
