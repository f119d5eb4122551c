# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One fleet, one list of bans: through the local API (LAPI) of a CrowdSec that is the administrator's own.

Out go the bans that this PBX has decided on by evidence of its own, as decisions with their duration, under a scenario that names
the machine. In come everybody's decisions, except those under that scenario. What came in is never published: `publish` is only for
evidence of one's own. So nothing can go round, and two PBXs that ban the same address by themselves stay two decisions, each with its
own end.

What was found out with the LAPI of 1.4.6, and holds for later ones as far as their sources tell:
- An alert needs each of the fields of `_alert`, empty ones too; what is missing is answered by 500 "validation failure".
- A decision ends `duration` after the alert's ``stop_at``: a PBX whose clock is late would publish what has run out. So the time of
  the answer's Date is used.
- Of several decisions for one value (as text) only the longest is told, and one is told as deleted when none is left, for 2 s again.
- ``deleted`` also holds what has come to its natural end; with startup=true, everything that has, as long as the database keeps it.
- Up to 1.4 a longer decision of an origin that was not asked for hides those of the others.
- Which machine a decision is of is not told, and any machine may delete any decision: hence the scenario of one's own, both ways.
- What is being stored while a look is answered is lost: made before the look, seen only after it (3 of 40,000, in waves of bans).
  So all is asked for again soon after anything new, and from time to time.
- The stream's "new since" is kept for each key: two PBXs with the same key take decisions away from each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import http.client
import ipaddress
import itertools
import json
import math
import re
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

from ..._sip.addresses import Network
from ..._sip.errors import OptionError, SipguardError
from .values import Address, parse_address

__all__ = ["FOREVER", "CrowdSec", "Fleet", "parse_duration"]

FOREVER = 5 * 365 * 86400  # seconds; the LAPI knows no ban without an end

_QUEUE = 10_000
_SOON = 6  # looks after something new, everything is asked for again ...
_SHARE = 30  # ... which is to take no more than a part of the time
_STANDING = 200_000  # decisions of others
_OBJECTS = _STANDING + 64
_BODY = 32 << 20  # bytes, more than _STANDING decisions
_BATCH = 100  # the LAPI stores that many in 60 ms
_TIMEOUT = 10.0  # seconds for each step of a conversation
_DEADLINE = 60.0  # seconds for all of it
_PAUSES = (1.0, 60.0)
_SLACK = 5.0  # seconds; what ends that close to its time has run out, and has not been taken back
_WARNING, _NOTICE = 4, 5  # syslog(3)
_KERNEL = 2_147_483  # seconds, the longest timeout of a member of a set
_WIDEST = {4: 16, 6: 32}  # the shortest prefix that is taken from others
_PORTS = {"http": 80, "https": 443}
_NEAR = tuple(
    ipaddress.ip_network(text)
    for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10")
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_SCENARIO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,99}\Z")
_ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}\Z")
_DURATION = re.compile(r"(-?)((?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:h|m|s|ms|us|\u00b5s|\u03bcs|ns))+)\Z")
_PART = re.compile(r"([0-9.]+)([a-z\u00b5\u03bc]+)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class CrowdSec:
    """Where the LAPI is, and what is taken from it. Raises OptionError when something of it cannot be used.

    Https is required but for loopback and private addresses, or with ``allow_http``; ``ca_file`` is for a certificate of one's own
    authority.
    ``origins`` are those whose decisions are taken, () for all, which may be the community's tens of thousands. ``origin`` is what is
    published under, and is taken too; cscli of 1.4 shows no decision of an origin that it does not know.
    ``interval`` and ``full_every`` are seconds between two looks, and between two at everything; ``max_seconds`` is for how long
    one look may ban: what is longer is renewed at half time while it stands.
    """

    url: str
    machine_id: str
    scenario: str = "sipguard/sipban"
    origin: str = "crowdsec"
    origins: tuple[str, ...] = ("crowdsec", "cscli", "cscli-import")
    interval: float = 10.0
    full_every: float = 300.0
    ca_file: str = ""
    max_seconds: int = 7 * 86400
    allow_http: bool = False

    def __post_init__(self) -> None:
        self.parts()
        if not _WORD.match(self.machine_id):
            raise OptionError("machine_id", self.machine_id, "letters, digits, _ . and -, at most 64, would be right")
        if not _SCENARIO.match(self.scenario):
            raise OptionError("scenario", self.scenario, "a name such as sipguard/sipban would be right")
        for origin in (self.origin, *self.origins):
            if not _ORIGIN.match(origin):
                raise OptionError("origins", origin, "a name such as sipguard, cscli or crowdsec would be right")
        if not 1 <= self.interval <= 3600:
            raise OptionError("interval", self.interval, "1 to 3600 seconds would be right")
        if not self.interval <= self.full_every <= 86400:
            raise OptionError("full_every", self.full_every, "seconds from interval to 86400 would be right")
        if not 60 <= self.max_seconds <= _KERNEL:
            raise OptionError("max_seconds", self.max_seconds, f"60 to {_KERNEL} seconds would be right")

    def parts(self) -> tuple[bool, str, int]:
        """Whether TLS is spoken, host and port."""
        expected = "http://ADDRESS:8080 or https://NAME:8080 would be right"
        try:
            parts = urllib.parse.urlsplit(self.url)
            host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        except (KeyError, ValueError):
            raise OptionError("url", self.url, expected) from None
        known = f"{parts.scheme}://{parts.netloc}" in (self.url, self.url.rstrip("/"))
        if not known or "@" in parts.netloc or not re.match(r"[A-Za-z0-9.:-]+\Z", host):
            raise OptionError("url", "(hidden)" if "@" in self.url else self.url, expected)
        address = parse_address(host)
        near = host == "localhost" or (address is not None and any(address in network for network in _NEAR))
        if parts.scheme == "http" and not near and not self.allow_http:
            raise OptionError(
                "url", self.url, "http is only for addresses of loopback and private networks; https would be right"
            )
        return parts.scheme == "https", host, port

    @property
    def taken(self) -> tuple[str, ...]:
        """The origins whose decisions are taken, () for all."""
        return tuple(dict.fromkeys((self.origin, *self.origins))) if self.origins else ()

    @property
    def own(self) -> str:
        """The scenario of what this machine publishes."""
        return f"{self.scenario}/{self.machine_id}"


def parse_duration(text: object) -> float | None:
    """Go's way of writing a duration, "3h59m58.1s" or "-974.976µs", in seconds; None for what is none."""
    found = _DURATION.match(text) if isinstance(text, str) and len(text) <= 80 else None
    if found is None:
        return None
    seconds = 0.0
    for number, unit in _PART.findall(found[2]):
        seconds += float(number) * _UNITS[unit]
    return -seconds if found[1] else seconds


def _printable(text: object, most: int = 80) -> str:
    """For log lines and comments of sets, which may hold no quotation marks."""
    return "".join(char if " " <= char <= "~" and char != '"' else "?" for char in str(text)[:most])


def _network(what: Address | Network) -> Network:
    """A network; what is IPv4 in IPv6, as the kernel sees it."""
    if isinstance(what, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return what
    return ipaddress.ip_network(getattr(what, "ipv4_mapped", None) or what)


def _value(network: Network) -> str:
    """A network as the LAPI is told; it compares texts."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _own_values(pairs: list[tuple[str, Any]]) -> object:
    """An object of the list of alerts while it is read: of an alert the values of its decisions, None for what has ended."""
    found = dict(pairs)
    if "decisions" in found:
        return found["decisions"] or []
    if "message" in found:
        return found
    return found.get("value") if (parse_duration(found.get("duration")) or 0) > 0 else None


class _Row(NamedTuple):
    """A decision, as far as it is of interest; ``seconds`` below 0 when it has ended."""

    value: str
    range: bool
    seconds: float
    origin: str
    scenario: str


def _row(pairs: list[tuple[str, Any]]) -> _Row | dict[str, Any] | bool | None:
    """An object of the stream's answer while it is read, so that nothing but rows is kept.

    None for what is not for us, False for nonsense.
    """
    found = dict(pairs)
    if not found.keys().isdisjoint(("new", "deleted", "message")):
        return found
    texts = [found.get(key) for key in ("value", "scope", "type", "origin", "scenario")]
    seconds = parse_duration(found.get("duration"))
    if seconds is None or not all(isinstance(text, str) and len(text) <= 256 for text in texts):
        return False
    value, scope, kind, origin, scenario = (str(text) for text in texts)
    if kind.lower() != "ban" or scope.lower() not in ("ip", "range") or found.get("simulated"):
        return None
    # there are few origins and scenarios, and perhaps a hundred thousand rows
    return _Row(value, scope.lower() == "range", seconds, sys.intern(origin), sys.intern(scenario))


def _read_network(row: _Row) -> Network | None:
    """The network of a decision; None for what is none, for what is nobody's, and for what is too wide."""
    try:
        if row.range and "/" in row.value:
            network: Network = ipaddress.ip_network(row.value, strict=False)
        else:
            address = parse_address(row.value.partition("/")[0] if row.value.endswith(("/32", "/128")) else row.value)
            if address is None:
                return None
            network = ipaddress.ip_network(address)
    except ValueError:
        return None
    if network.prefixlen < _WIDEST[network.version]:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        return None
    nobody = network.is_loopback or network.is_multicast or network.is_unspecified
    return None if nobody or network.network_address in ipaddress.ip_network("0.0.0.0/8") else network


class _Trouble(Exception):
    """Something does not work: ``kind`` away, password, key, or strange; the text goes on "CrowdSec URL ..."."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def _strange(where: str, status: int, answer: object) -> _Trouble:
    said = answer.get("message", "") if isinstance(answer, dict) else ""
    return _Trouble("strange", f"answers {status} {_printable(said)}".rstrip() + f" {where}; it is asked again")


class _Refused(Exception):
    """The LAPI wants nothing of what this request held, ever."""


class _Side:
    """Publishing, or listening: since when it has been in which trouble, and when to try again (monotonic seconds)."""

    def __init__(self) -> None:
        self.asked = False
        self.kind = ""
        self.text = ""
        self.due = 0.0
        self._pause = 0.0

    def fine(self) -> None:
        self.asked, self.kind, self.text, self._pause = True, "", "", 0.0

    def failed(self, trouble: _Trouble) -> None:
        least, most = _PAUSES
        self.asked, self.kind, self.text = True, trouble.kind, str(trouble)
        self._pause = min(most, max(least, self._pause * 2))
        self.due = time.monotonic() + self._pause


# What becomes of an object of JSON.
_Hook = Optional[Callable[[list[tuple[str, Any]]], object]]
# What is called in the loop, with what.
_Call = tuple[Callable[..., None], tuple[Any, ...]]


def _hang_up(line: socket.socket, late: threading.Event | None = None) -> None:
    """Ends what a thread waits for on it, and lets it know why; below TLS, which is the other thread's."""
    if late is not None:
        late.set()
    with contextlib.suppress(OSError):  # it is closed already
        socket.socket.shutdown(line, socket.SHUT_RDWR)


class _Ban(NamedTuple):
    network: Network
    until: float  # monotonic
    reason: str


def _ban(network: Network, seconds: int, reason: str) -> _Ban:
    return _Ban(network, time.monotonic() + (min(seconds, FOREVER) if seconds > 0 else FOREVER), _printable(reason))


class Fleet:
    """The conversation with the LAPI, in a thread of its own; local bans never wait for it.

    `password` and `key` read the machine's password and the bouncer's key, anew each time, in the thread; they may raise OSError and
    SipguardError. on_ban(network, seconds, comment), on_unban(network) and say(priority of syslog(3), line) are called in the event
    loop `loop`.

    on_ban says what stands at the LAPI, made by somebody else; it may be said again with another time, also a shorter one.
    on_unban says that nothing stands there any more, before the time that on_ban told; a natural end is not told. The caller keeps bans
    of his own evidence, and white lists, whatever is said, and never publishes what came in by on_ban.
    `standing` is what had come in before a restart, with the seconds left, so that on_unban can come for it.
    `own` are the bans that were to be published and hold still, as for `publish`: what of them is not at the LAPI goes there, and what
    is there under our name besides is taken back, once, before anything else goes out. None leaves everything as it is there.
    """

    def __init__(
        self,
        settings: CrowdSec,
        password: Callable[[], str],
        key: Callable[[], str],
        on_ban: Callable[[Network, int, str], None],
        on_unban: Callable[[Network], None],
        say: Callable[[int, str], None],
        loop: asyncio.AbstractEventLoop,
        standing: Iterable[tuple[Network, int]] = (),
        own: Iterable[tuple[Network, int, str]] | None = None,
    ) -> None:
        self._settings = settings
        self._secrets = {"password": password, "key": key}
        self._on_ban = on_ban
        self._on_unban = on_unban
        self._say = say
        self._loop = loop
        now = time.monotonic()
        # The LAPI's text -> its end as far as the caller was told, monotonic seconds.
        self._standing = {_value(network): now + seconds for network, seconds in standing}
        self._queue: OrderedDict[str, _Ban] = OrderedDict()
        self._withdrawals: OrderedDict[str, None] = OrderedDict()
        # What is compared with the LAPI at first.
        self._own = None if own is None else {_value(each[0]): _ban(*each) for each in own}
        self._counts = dict.fromkeys(
            ("sent", "withdrawn", "received", "lifted", "dropped", "expired", "refused", "invalid", "crowded"), 0
        )
        self._lock = threading.Condition()
        self._stopping = False
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        # the rest belongs to the thread
        self._push = _Side()
        self._pull = _Side()
        self._said: tuple[str, ...] | None = None
        self._token = ""
        self._logged_in = False
        self._full_due = 0.0
        self._full_took = 0.0
        self._context: ssl.SSLContext | None = None
        self._offset = 0.0  # seconds that the LAPI's clock is ahead

    # -- for the caller, from any thread

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="crowdsec", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, within two seconds; what is still queued waits for the next one's `own`."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
            if self._socket is not None:
                _hang_up(self._socket)
        if self._thread is not None:
            # longer only while a name is looked up; nothing is handed over any more then
            self._thread.join(2)

    def publish(self, what: Address | Network, seconds: int, reason: str) -> None:
        """A ban by evidence of one's own, or by hand, goes to the others; 0 seconds for one without an end. Never blocks."""
        network = _network(what)
        value = _value(network)
        with self._lock:
            self._queue.pop(value, None)
            self._queue[value] = _ban(network, seconds, reason)
            self._bound(self._queue, "dropped")
            self._lock.notify_all()

    def withdraw(self, what: Address | Network) -> None:
        """Takes back what this machine has published about an address; decisions of others stay. Never blocks."""
        value = _value(_network(what))
        with self._lock:
            self._queue.pop(value, None)
            if self._own:
                self._own.pop(value, None)
            self._withdrawals[value] = None
            self._bound(self._withdrawals, "dropped")
            self._lock.notify_all()

    def withdraw_all(self) -> None:
        """Takes back everything that this machine has ever published. Never blocks."""
        with self._lock:
            self._queue.clear()
            self._own = None
            self._withdrawals.clear()
            self._withdrawals[""] = None
            self._lock.notify_all()

    def status(self) -> dict[str, Any]:
        """Flat, for people and metrics: reachable, said (why not, else ""), queued, standing (of others), and counters.

        sent and withdrawn: what the LAPI took of ours; received and lifted: what the caller was told; dropped: the queue was full;
        expired: ran out while queued; refused: the LAPI did not want it; invalid: of others, too wide or no address; crowded: too many.
        """
        with self._lock:
            troubles = list(dict.fromkeys(side.text for side in (self._pull, self._push) if side.text))
            return {
                "reachable": self._said == (),
                "said": "; ".join(troubles) if self._said is not None else "not asked yet",
                "queued": len(self._queue) + len(self._withdrawals),
                "standing": len(self._standing),
                **self._counts,
            }

    # -- the thread

    def _bound(self, waiting: OrderedDict[str, Any], counter: str) -> None:
        while len(waiting) > _QUEUE:
            waiting.popitem(last=False)
            self._counts[counter] += 1

    def _count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._stopping:
                    waits = self._next() - time.monotonic()
                    if waits <= 0:
                        break
                    self._lock.wait(waits)
                if self._stopping:
                    return
            now = time.monotonic()
            # First what is new here, then what is new there; the one may work without the other.
            if self._wants_push() and now >= self._push.due:
                self._try(self._push, self._send)
            if now >= self._pull.due and not self._stopping:
                self._try(self._pull, self._look)

    def _wants_push(self) -> bool:
        # Logging in once tells about a wrong password before the first ban.
        return bool(self._queue or self._withdrawals or not self._logged_in)

    def _next(self) -> float:
        return min(self._pull.due, self._push.due) if self._wants_push() else self._pull.due

    def _try(self, side: _Side, step: Callable[[], None]) -> None:
        try:
            step()
        except _Trouble as trouble:
            with self._lock:
                side.failed(trouble)
        else:
            with self._lock:
                back = side.kind == "away"
                side.fine()
                if side is self._pull:
                    side.due = time.monotonic() + self._settings.interval
                    if not self._wants_push():
                        self._push.fine()
                    elif self._push.kind == "away":
                        self._push.due = 0.0
                elif back:
                    self._pull.due = min(self._pull.due, time.monotonic())
        if not self._stopping:
            self._report()

    def _report(self) -> None:
        """One line when the situation is another."""
        sides = [side for side in (self._pull, self._push) if side.kind]
        now = tuple(sorted({side.kind for side in sides}))
        if now == self._said or not (now or (self._pull.asked and self._push.asked)):
            return
        with self._lock:
            self._said = now
        texts = dict.fromkeys(side.text for side in sides)
        line = f"CrowdSec {self._settings.url} {'; '.join(texts) or 'reached'}"
        self._hand_over([(self._say, (_WARNING if sides else _NOTICE, line))])

    def _hand_over(self, calls: Iterable[_Call]) -> None:
        """Has the loop make the calls, a few at a time: it has other things to do, and it is waited for."""
        rest = iter(calls)
        while not self._stopping and (some := list(itertools.islice(rest, 200))):
            done = threading.Event()

            def run(some: list[_Call], done: threading.Event) -> None:
                try:
                    for call, arguments in some:
                        if not self._stopping:
                            call(*arguments)
                finally:
                    done.set()

            try:
                self._loop.call_soon_threadsafe(run, some, done)
            except RuntimeError:  # the loop is closed
                self._stopping = True
            while not self._stopping and not done.wait(0.5):
                pass

    # -- out

    def _send(self) -> None:
        if not self._logged_in:
            self._login()
            self._compare()
            self._logged_in = True
        while self._withdrawals and not self._stopping:
            with self._lock:
                value = next(iter(self._withdrawals))
            path = f"/v1/decisions?{urllib.parse.urlencode(self._own_filter(value))}"
            try:
                answer = self._as_machine("DELETE", path, None)
                deleted = answer.get("nbDeleted", "0") if isinstance(answer, dict) else "0"
                self._count("withdrawn", int(deleted) if re.match(r"[0-9]{1,9}\Z", str(deleted)) else 0)
            except _Refused:
                self._count("refused")
            with self._lock:
                self._withdrawals.pop(value, None)
            if not self._turn():
                return
        while self._queue and not self._stopping:
            self._send_batch()
            if not self._turn():
                return

    def _compare(self) -> None:
        """Makes good what a sipband that ended had still to say."""
        if self._own is None:
            return
        query = {"scenario": self._settings.own, "has_active_decision": "true", "limit": "0"}
        try:
            answer = self._as_machine("GET", f"/v1/alerts?{urllib.parse.urlencode(query)}", None, _own_values)
        except _Refused:
            answer = False
        except _Trouble as trouble:
            if trouble.kind != "strange":
                raise
            answer = False  # what is new shall go out all the same
        with self._lock:
            own, self._own = self._own or {}, None
            if answer is not None and not isinstance(answer, list):
                return
            rows = [value for values in answer or () if isinstance(values, list) for value in values]
            there = {value for value in rows if isinstance(value, str)}
            self._withdrawals.update(dict.fromkeys(there - own.keys() - self._queue.keys()))
            missing = own.keys() - there - self._queue.keys() - self._withdrawals.keys()
            self._queue.update((value, ban) for value, ban in own.items() if value in missing)
            self._bound(self._withdrawals, "dropped")
            self._bound(self._queue, "dropped")

    def _turn(self) -> bool:
        """Whether there is time left before the next look is due."""
        return bool(self._pull.kind) or time.monotonic() < self._pull.due

    def _own_filter(self, value: str) -> dict[str, str]:
        # 1.4.6 refuses a filter that it does not know ("scope"), rather than to delete more than was meant.
        found = {"scenario": self._settings.own, "origin": self._settings.origin, "type": "ban"}
        return {"value": value, **found} if value else found

    def _send_batch(self) -> None:
        now = time.monotonic()
        batch: dict[str, _Ban] = {}
        with self._lock:
            for value, ban in list(self._queue.items()):
                if ban.until - now < 1:
                    del self._queue[value]
                    self._counts["expired"] += 1
                elif len(batch) < _BATCH:
                    batch[value] = ban
                else:
                    break
        if batch:
            self._post(list(batch.items()))

    def _post(self, batch: list[tuple[str, _Ban]]) -> None:
        now = time.monotonic()
        sent = True
        try:
            answer = self._as_machine("POST", "/v1/alerts", [self._alert(value, ban, now) for value, ban in batch])
            if not isinstance(answer, list):
                raise _strange("to POST /v1/alerts", 200, answer)
        except _Refused:
            sent = False
            if len(batch) > 1:  # all, because of one
                half = len(batch) // 2
                self._post(batch[:half])
                self._post(batch[half:])
                return
        with self._lock:
            self._counts["sent" if sent else "refused"] += len(batch)
            for value, ban in batch:
                if self._queue.get(value) is ban:  # nothing newer has come
                    del self._queue[value]

    def _alert(self, value: str, ban: _Ban, now: float) -> dict[str, Any]:
        single = ban.network.prefixlen == ban.network.max_prefixlen
        scope = "Ip" if single else "Range"
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self._offset))
        decision = {
            "origin": self._settings.origin,
            "type": "ban",
            "scope": scope,
            "value": value,
            "duration": f"{int(ban.until - now)}s",
            "scenario": self._settings.own,
        }
        return {
            "scenario": self._settings.own,
            "scenario_hash": "",
            "scenario_version": "",
            "message": f"{self._settings.machine_id}: {ban.reason}",
            "events_count": 1,
            "start_at": at,
            "stop_at": at,
            "capacity": 0,
            "leakspeed": "0",
            "simulated": False,
            "events": [],
            "source": {"scope": scope, "value": value, "ip" if single else "range": value},
            "decisions": [decision],
        }

    def _login(self) -> None:
        mine = {"machine_id": self._settings.machine_id, "password": self._secret("password"), "scenarios": []}
        status, answer = self._ask("POST", "/v1/watchers/login", mine, {})
        if status in (401, 403):
            raise _Trouble(
                "password", f"refuses machine {self._settings.machine_id} or its password (see cscli machines list)"
            )
        token = answer.get("token") if status == 200 and isinstance(answer, dict) else None
        if not isinstance(token, str) or not re.match(r"[A-Za-z0-9._=-]{1,8192}\Z", token):
            raise _strange("at the login", status, answer)
        self._token = token

    def _as_machine(self, method: str, path: str, body: object, hook: _Hook = None) -> object:
        """The answer to a request that needs a login; logs in where there is none any more.

        Raises _Refused when trying again is of no use, and _Trouble.
        """
        for attempt in range(2):
            if not self._token or attempt:
                self._login()
            status, answer = self._ask(method, path, body, {"Authorization": f"Bearer {self._token}"}, hook)
            if status != 401:
                break
        if 200 <= status < 300:
            return answer
        if status == 401:
            self._token = ""
            raise _Trouble("password", f"refuses machine {self._settings.machine_id} in spite of its login")
        # 1.4.6 answers 500 where others answer 400
        if status in (400, 404, 413, 422) or "validation failure" in str(answer) or "invalid filter" in str(answer):
            raise _Refused
        raise _strange(f"to {method} {path.partition('?')[0]}", status, answer)

    # -- in

    def _look(self) -> None:
        # What a lost answer has told will not be told again: after any trouble, everything.
        started = time.monotonic()
        full = bool(self._pull.kind) or started >= self._full_due
        query = {"startup": "true" if full else "false", "scopes": "Ip,Range"}
        if self._settings.taken:
            query["origins"] = ",".join(self._settings.taken)
        path = f"/v1/decisions/stream?{urllib.parse.urlencode(query)}"
        status, answer = self._ask("GET", path, None, {"X-Api-Key": self._secret("key")}, _row)
        if status in (401, 403):
            raise _Trouble("key", "refuses the key of the bouncer (see cscli bouncers list)")
        where = "to GET /v1/decisions/stream"
        if status != 200 or not isinstance(answer, dict):
            raise _strange(where, status, answer)
        new, deleted = ([] if answer.get(name) is None else answer[name] for name in ("new", "deleted"))
        if not isinstance(new, list) or not isinstance(deleted, list):
            raise _strange(where, status, answer)
        now = time.monotonic()
        # without the lock, for which publish() would have to wait: nobody else changes any of this
        for value in [value for value, until in self._standing.items() if until <= now]:
            del self._standing[value]
        # What is in both has been banned again.
        self._hand_over(self._gone(deleted, now))
        before = self._counts["received"]
        self._hand_over(self._come(new, now))
        if full:
            self._full_took = time.monotonic() - started
            self._full_due = now + self._settings.full_every
        if self._counts["received"] > before:
            soon = max(_SOON * self._settings.interval, _SHARE * self._full_took)
            self._full_due = min(self._full_due, now + soon)

    def _gone(self, rows: list[Any], now: float) -> Iterator[_Call]:
        """What is to be lifted: no decision stands there for these values, whoever made them; most have just run out."""
        for row in rows:
            network = _read_network(row) if isinstance(row, _Row) else None
            if network is None:
                continue
            lifted = self._standing.pop(row.value, 0.0) > now + _SLACK
            # the same network may stand there under another text
            others = {str(network), str(network.network_address), f"{network.network_address}/{network.max_prefixlen}"}
            single = network.prefixlen == network.max_prefixlen
            if lifted and not any(text in self._standing for text in (others if single else {str(network)})):
                self._counts["lifted"] += 1
                yield self._on_unban, (network,)

    def _come(self, rows: list[Any], now: float) -> Iterator[_Call]:
        """What is to be banned, and was not yet told, or not with that end."""
        most = self._settings.max_seconds
        for row in rows:
            if not isinstance(row, _Row):
                self._counts["invalid"] += row is not None
                continue
            if row.scenario == self._settings.own or row.seconds <= 0:
                continue
            if self._settings.taken and row.origin not in self._settings.taken:
                continue
            network = _read_network(row)
            if network is None:
                self._counts["invalid"] += 1
                continue
            seconds = min(math.ceil(row.seconds), most)
            until = now + seconds
            before = self._standing.get(row.value)
            if before is None and len(self._standing) >= _STANDING:
                self._counts["crowded"] += 1
                continue
            if before is not None:
                told = before > now + most / 2 if row.seconds >= most else abs(before - until) <= _SLACK
                if told:
                    continue
            self._standing[row.value] = until
            self._counts["received"] += 1
            yield self._on_ban, (network, seconds, self._comment(row))

    def _comment(self, row: _Row) -> str:
        prefix = f"{self._settings.scenario}/"
        if row.scenario.startswith(prefix):
            return _printable(f"fleet: {row.scenario[len(prefix) :]}")
        return _printable(f"{row.origin}: {row.scenario}")

    # -- both

    def _secret(self, which: str) -> str:
        try:
            found = self._secrets[which]().strip()
        except (OSError, ValueError, SipguardError) as error:
            # the ValueError of a decoder has the secret in it
            reason = str(error) if isinstance(error, SipguardError) else getattr(error, "strerror", None)
            raise _Trouble(which, f"is not asked: no {which} ({_printable(reason or 'unreadable', 200)})") from None
        # A header takes nothing else, and would say what it does not take.
        if not re.match(r"[!-~]{1,512}\Z", found):
            raise _Trouble(which, f"is not asked: the {which} is empty, or has blanks or other than ASCII in it")
        return found

    def _ask(
        self,
        method: str,
        path: str,
        body: object,
        headers: dict[str, str],
        hook: _Hook = None,
    ) -> tuple[int, object]:
        """Status and JSON of an answer, None where it is none. A connection for each; raises _Trouble when there is no answer."""
        text = b"" if body is None else json.dumps(body).encode()
        every = {"User-Agent": "sipguard/1.0", "Accept": "application/json", "Connection": "close", **headers}
        if text:
            every["Content-Type"] = "application/json"
        connection = self._connect()
        timer: threading.Timer | None = None
        late = threading.Event()
        try:
            connection.connect()
            line = connection.sock
            with self._lock:
                if self._stopping:
                    raise OSError("stopped")
                self._socket = line
            timer = threading.Timer(_DEADLINE, _hang_up, (line, late))
            timer.daemon = True
            timer.start()
            connection.request(method, path, text or None, every)
            response = connection.getresponse()
            if (response.length or 0) > _BODY:
                raise _Trouble("strange", f"answers with more than {_BODY >> 20} MiB")
            data = response.read(_BODY + 1)
            if len(data) > _BODY:
                raise _Trouble("strange", f"answers with more than {_BODY >> 20} MiB")
            if late.is_set() or response.length:
                raise OSError("cut off")
            self._set_clock(response.headers.get("Date", ""))
        except (OSError, http.client.HTTPException) as error:
            verify = getattr(error, "verify_message", "")
            reason = _printable(verify or getattr(error, "strerror", None) or str(error) or type(error).__name__)
            if late.is_set():  # whatever hanging up looks like from here
                reason = f"not in {_DEADLINE:.0f} seconds"
            raise _Trouble("away", f"does not answer ({reason}); bans stay on this PBX until it does") from None
        finally:
            if timer is not None:
                timer.cancel()
            with self._lock:
                self._socket = None
            connection.close()
        if data.count(b"{") + data.count(b"[") > _OBJECTS:
            # What json makes of it would be many times as large, and nothing else of sipband would run meanwhile.
            raise _Trouble("strange", f"answers with more than {_STANDING} decisions")
        try:
            words = data.decode()
            del data  # it may be large
            return response.status, json.loads(words, object_pairs_hook=hook)
        except (ValueError, RecursionError):
            return response.status, None

    def _connect(self) -> http.client.HTTPConnection:
        tls, host, port = self._settings.parts()
        if not tls:
            return http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._settings.ca_file or None)
            except (OSError, ValueError) as error:
                reason = _printable(getattr(error, "strerror", None) or type(error).__name__)
                where = _printable(self._settings.ca_file)
                raise _Trouble("away", f"is not asked: {where} cannot be used as ca_file ({reason})") from None
        return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=self._context)

    def _set_clock(self, date: str) -> None:
        try:
            offset = email.utils.parsedate_to_datetime(date).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return
        self._offset = offset if abs(offset) > 2 else 0.0  # the header knows no fractions
