# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Asterisk's manager interface would say if very much happened, at a rate of our choice: a program in the network of a PBX.

It lets anybody log in, answers pings, and does what the lines on its standard input say: ``steady RATE SECONDS TURN``,
``flat EVENTS TURN`` or ``bans IPV4 IPV6``. When everything has been sent it prints how many events there were, and seconds, as JSON.
"""

from __future__ import annotations

import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator

__all__ = ["GUESSERS", "LOUD", "STRIKES", "bans", "mixture"]

GUESSERS = 20000  # who guess now and then, below the threshold; three of ten over IPv6
LOUD = 200  # who guess so often that they are banned
STRIKES = 5
_PHONES = 2000
_EVERY = 33  # one of so many guesses is of a loud one
_PIECE = 50  # events that are sent at once
_TURNS = 5  # as many sources as turns can use are set aside
_TOGETHER = 1000  # sources that guess at the same time, when all of them are to be banned
_TV = "2026-11-22T00:49:49.531+0000"
_PING = "Ping: Pong\r\nTimestamp: 1795308590.132474\r\n"


def _event(name: str, severity: str, account: str, session: str, remote: str, extras: str) -> bytes:
    """As Asterisk 16 and 22 write it. ``remote`` is address family, transport, address and port."""
    local = f"{remote[:9]}192.0.2.10/5061" if remote[3] == "4" else f"{remote[:9]}2001:db8::10/5061"
    return (
        f"Event: {name}\r\nPrivilege: security,all\r\nEventTV: {_TV}\r\nSeverity: {severity}\r\nService: PJSIP\r\n"
        f"EventVersion: 1\r\nAccountID: {account}\r\nSessionID: {session}\r\nLocalAddress: {local}\r\n"
        f"RemoteAddress: {remote}\r\n{extras}\r\n"
    ).encode()


def _address(number: int, version: int) -> str:
    """The address of a source, always the same; each of IPv6 in a /64 of its own."""
    if version == 4:
        return f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::7"


def _remote(number: int, transport: str, version: int) -> str:
    return f"IPV{version}/{transport}/{_address(number, version)}/{40000 + number % 20000}"


def _guess(number: int, version: int) -> bytes:
    session = f"{number:x}-4dd12200@{version}"
    extras = (
        f"Challenge: 1795308600/{number:032x}\r\nResponse: 63e2b0a1c9d84f7763e2b0a1c9d84f77\r\nExpectedResponse: \r\n"
    )
    return _event("ChallengeResponseFailed", "Error", "1001", session, _remote(number, "TLS", version), extras)


def _telephone(number: int) -> Iterator[bytes]:
    """One registration."""
    remote = _remote(0x1F000 + number, "TLS" if number % 2 else "UDP", 4)
    session = f"{number:x}-b07b14b3f6ff4d5b"
    yield _event(
        "ChallengeSent", "Informational", "<unknown>", session, remote, f"Challenge: 1795308600/{number:032x}\r\n"
    )
    yield _event("SuccessfulAuth", "Informational", f"{1000 + number}", session, remote, "UsingPassword: 1\r\n")


def mixture(count: int, turn: int) -> Iterator[bytes]:
    """So many events, six of ten of telephones that log in, the others guesses. Each turn has guessers of its own."""
    phones = itertools.cycle(range(_PHONES))
    guesses = 0

    def everything() -> Iterator[bytes]:
        nonlocal guesses
        while True:
            for dummy in range(3):
                yield from _telephone(next(phones))
            for dummy in range(4):
                among, loud = divmod(guesses, _EVERY)
                number = (
                    _TURNS * GUESSERS + turn * LOUD + among % LOUD if not loud else turn * GUESSERS + guesses % GUESSERS
                )
                yield _guess(number, 6 if number % 10 < 3 else 4)
                guesses += 1

    return itertools.islice(everything(), count)


def bans(ipv4: int, ipv6: int) -> Iterator[bytes]:
    """Five guesses of each of so many sources, who take turns."""
    sources = [(number, 4) for number in range(ipv4)] + [(number, 6) for number in range(ipv6)]
    for start in range(0, len(sources), _TOGETHER):
        for dummy in range(STRIKES):
            for number, version in sources[start : start + _TOGETHER]:
                yield _guess(number, version)


class _Source:
    """The last connection counts."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 5038))
        self._there = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._link: socket.socket

    def run(self) -> None:
        """Accept for ever."""
        while True:
            link, dummy = self._server.accept()
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._talk, args=(link,), daemon=True).start()

    def _talk(self, link: socket.socket) -> None:
        """Answer whatever is asked."""
        link.sendall(b"Asterisk Call Manager/11.0.0\r\n")
        with link, link.makefile("r", newline="\r\n") as file:
            asked: dict[str, str] = {}
            for line in file:
                name, dummy, value = line.rstrip("\r\n").partition(": ")
                if name:
                    asked[name] = value
                    continue
                action = asked.get("Action", "")
                more = {"Challenge": "Challenge: 211651903\r\n", "Ping": _PING}.get(action, "")
                with self._one_at_a_time:
                    link.sendall(f"Response: Success\r\nActionID: {asked.get('ActionID', '')}\r\n{more}\r\n".encode())
                if action == "Login":
                    self._link = link
                    self._there.set()
                asked = {}

    def send(self, events: Iterable[bytes], rate: float = 0.0) -> tuple[int, float]:
        """How many events it were, and in how many seconds. ``rate``: at most so many in a second, 0 for no limit."""
        self._there.wait()
        begun = time.monotonic()
        sent = 0
        pieces = iter(events)
        while True:
            piece = list(itertools.islice(pieces, _PIECE))
            if not piece:
                return sent, time.monotonic() - begun
            if rate:
                time.sleep(max(0.0, begun + sent / rate - time.monotonic()))
            with self._one_at_a_time:
                self._link.sendall(b"".join(piece))
            sent += len(piece)


def main() -> None:
    """Until the input ends."""
    source = _Source()
    threading.Thread(target=source.run, daemon=True).start()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        what, *words = line.split()
        numbers = [int(word) for word in words]
        if what == "steady":
            done = source.send(mixture(numbers[0] * numbers[1], numbers[2]), numbers[0])
        elif what == "flat":
            done = source.send(mixture(*numbers))
        else:
            done = source.send(bans(*numbers))
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
