# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ami against Asterisk 16 and 22: guesses are told with their true address, and what strangers write into them deceives nobody."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.ami import Ami
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import SecurityEvent
from tests.fail2ban.attacks import DOMAIN, Caller, Request, credentials, escaped
from tests.integration.harness.netns import in_namespace

from .harness import PJSIP_TRANSPORTS, Pbx, eventually

SECRET = "Hh2-manager"
PASSWORD = "jK4-first-phone"
VICTIM = "203.0.113.99"  # who never sent anything
PORTS = {"SIP": 5060, "PJSIP": 5070}
HTTP = 8088

MANAGER = f"""\
[general]
enabled=yes
webenabled=yes
bindaddr=127.0.0.1
{{more}}
[sipban]
secret={SECRET}
deny=0.0.0.0/0.0.0.0
permit=127.0.0.1/255.255.255.255
read={{read}}
write=
"""
PHONE = f"""\
[1001]
type=endpoint
context=phones
disallow=all
allow=alaw
auth=1001
aors=1001
[1001]
type=auth
auth_type=userpass
username=1001
password={PASSWORD}
[1001]
type=aor
max_contacts=1
"""
CHAN_SIP = f"""\
[general]
udpbindaddr=[::]:5060
tcpenable=yes
tcpbindaddr=[::]:5060
alwaysauthreject=yes
allowguest=no
[1001]
type=friend
host=dynamic
secret={PASSWORD}
context=phones
"""


def boot(pbx: Pbx, *, read: str = "security", more: str = "", system: str = "") -> None:
    files = {
        "pjsip.conf": PJSIP_TRANSPORTS.replace(":5060", f":{PORTS['PJSIP']}") + PHONE,
        "manager.conf": MANAGER.format(read=read, more=more),
        "http.conf": f"[general]\nenabled=yes\nbindaddr=0.0.0.0\nbindport={HTTP}\n",
        "extensions.conf": "[phones]\nexten => 600,1,Answer()\n",
    }
    if pbx.version == "16":
        files["sip.conf"] = CHAN_SIP
    if system:
        files["asterisk.conf"] = f"[options]\nentityid=00:00:5e:00:53:01\nsystemname={system}\n"
    pbx.boot(files)


def services(pbx: Pbx) -> list[str]:
    return ["SIP", "PJSIP"] if pbx.version == "16" else ["PJSIP"]


class Listener:
    """An Ami in the network of the PBX, in a thread of its own."""

    def __init__(self, pbx: Pbx, secret: str = SECRET) -> None:
        self.pbx = pbx
        self.secret = secret
        self.events: list[SecurityEvent] = []
        self.log: list[str] = []
        self.ami: Ami
        self._hosts = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=in_namespace, args=(pbx.netns, lambda: asyncio.run(self._main())))
        self._thread.start()
        assert self._started.wait(10)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.ami = Ami(
            "127.0.0.1",
            5038,
            "sipban",
            lambda: self.secret,
            self.events.append,
            lambda dummy, text: self.log.append(text),
            pauses=(0.05, 0.2),
            told_within=2.0,
        )
        running = asyncio.ensure_future(self.ami.run())
        self._started.set()
        await self._stop.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def ping(self) -> float:
        return asyncio.run_coroutine_threadsafe(self.ami.ping(), self._loop).result(10)

    def logged_in(self) -> bool:
        return eventually(lambda: self.ami.said.startswith("logged in"), pause=0.005)

    def address(self) -> str:
        """An address that nobody has had."""
        self._hosts += 1
        return f"198.51.100.{self._hosts}"

    def of(self, address: str, service: str = "") -> list[SecurityEvent]:
        return [each for each in self.events if str(each.address) == address and service in ("", each.service)]

    def names(self, address: str, service: str = "") -> list[str]:
        return [each.name for each in self.of(address, service)]

    def told(self, address: str, name: str, service: str = "", seconds: float = 20.0) -> bool:
        return eventually(lambda: name in self.names(address, service), seconds, pause=0.002)

    def discarded(self) -> int:
        counters = self.ami.counters()
        return sum(counters[name] for name in ("ignored", "malformed", "duplicate", "injected"))

    def discarded_since(self, before: int) -> bool:
        return eventually(lambda: self.discarded() > before, pause=0.002)

    def settled(self) -> None:
        """Everything that was sent before is told: an honest guess has come through, which takes the end of a quarantine."""
        source = self.address()

        def guessed() -> bool:
            with Caller(self.pbx, source, PORTS["PJSIP"], "tcp") as caller:
                assert caller.log_in(Request(user="1001")).status == 401
            return eventually(lambda: bool(self.of(source, "PJSIP")), seconds=0.2, pause=0.002)

        assert eventually(guessed), self.ami.counters()


@contextmanager
def listening(pbx: Pbx, secret: str = SECRET) -> Iterator[Listener]:
    listener = Listener(pbx, secret)
    try:
        yield listener
    finally:
        listener.close()


def forged(service: str = "PJSIP") -> str:
    """A whole event of a victim."""
    return (
        "Event: ChallengeResponseFailed\r\nPrivilege: security,all\r\nEventTV: 2026-11-22T00:49:49.531+0000\r\n"
        f"Severity: Error\r\nService: {service}\r\nEventVersion: 1\r\nAccountID: 1001\r\nSessionID: 4dd1\r\n"
        f"LocalAddress: IPV4/TLS/127.0.0.1/5061\r\nRemoteAddress: IPV4/TLS/{VICTIM}/40000\r\n"
        "Challenge: 1795308600/3f4d\r\nResponse: 63e2\r\nExpectedResponse: "
    )


TAIL = f"\r\nSessionID: 0x1\r\nLocalAddress: IPV4/TLS/127.0.0.1/5061\r\nRemoteAddress: IPV4/TLS/{VICTIM}/1"
HEAD = forged().partition("AccountID")[0].replace("ChallengeResponseFailed", "InvalidPassword")
LONG = {
    "another address": f"x\r\nRemoteAddress: IPV4/TLS/{VICTIM}/1",
    "all headers that follow": f"x{TAIL}",
    "pieces": f"x\r\n\r\nEvent: a\r\nRemoteAddress: IPV4/TLS/{VICTIM}/1\r\n\r\nX: y",
    "an event": f"x\r\n\r\n{forged()}\r\n\r\nX: ",
    "both halves whole": f"x{TAIL}\r\n\r\n{forged()}\r\n\r\n{HEAD}AccountID: x",
    "of the manager itself": f"x{TAIL}\r\n\r\n{forged('AMI')}\r\n\r\n{HEAD}AccountID: x",
    "an answer": f"x{TAIL}\r\n\r\nResponse: Success\r\nActionID: 1\r\nPing: Pong\r\n\r\n{forged()}\r\n\r\n{HEAD}AccountID: x",
}
SHORT = [
    "a\r\nX: y",
    f"\r\nRemoteAddress: IPV4/TLS/{VICTIM[:7]}/1",
    "\r\n\r\n",
    "\r\n\r\n\r\n\r\n\r\n",
    "\r\n\r\nResponse: Success\r\n\r\n",
    "\r\nSessionID: \r\nLocalAddress: ",
    "a\nb\rc",
]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_guesses_are_told_with_their_address(pbx: Pbx, transport: str) -> None:
    boot(pbx)
    with listening(pbx) as listener:
        assert listener.logged_in()
        assert listener.log == ["logged in to AMI at 127.0.0.1:5038 as sipban"]
        assert 0 < listener.ping() < 1
        for service in services(pbx):
            for source in ("198.51.100.201", "2001:db8::7"):
                with Caller(pbx, source, PORTS[service], transport) as caller:
                    caller.log_in(Request(user="1001"))
                wanted = {"SIP": "InvalidPassword", "PJSIP": "ChallengeResponseFailed"}[service]

                if service == "SIP" or not listener.told(source, wanted, service, 0.5):
                    listener.settled()  # what chan_sip says may cost the next one
                    with Caller(pbx, source, PORTS[service], transport) as caller:
                        caller.log_in(Request(user="1001"))
                assert listener.told(source, wanted, service), listener.events
                assert {each.transport for each in listener.of(source)} == {transport.upper()}
        counters = listener.ami.counters()
        assert [counters[name] for name in ("malformed", "duplicate", "ignored", "too_long")] == [0] * 4


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_line_feeds_in_an_account_of_pjsip(pbx: Pbx, transport: str) -> None:
    """Nobody else is accused, and nobody gets away: there is no quarantine that could hide him."""
    boot(pbx)
    with listening(pbx) as listener:
        assert listener.logged_in()
        listener.settled()
        before = listener.ami.counters()
        for text in [*SHORT, *LONG.values()]:
            for request in (Request(user=escaped(text)), Request(sender=f"<sip:{escaped(text)}@{DOMAIN}>")):
                source = listener.address()
                with Caller(pbx, source, PORTS["PJSIP"], transport) as caller:
                    assert caller.ask(request).status == 401, text
                assert listener.told(source, "ChallengeSent"), (text, listener.ami.counters())
                assert listener.names(source) == ["InvalidAccountID", "ChallengeSent"]
                account = listener.of(source)[0].account
                assert account == text[:36]
        after = listener.ami.counters()
        assert after["mended"] - before["mended"] == 2 * (len(SHORT) + len(LONG))
        assert [after[name] - before[name] for name in ("malformed", "duplicate", "injected", "forged_address")] == [
            0
        ] * 4
        assert {str(each.address)[:10] for each in listener.events} == {"198.51.100"}


def test_other_words_of_strangers_in_events_of_pjsip(pbx: Pbx) -> None:
    """Those that Asterisk does not decode: nothing but a lone CR can be brought in, and a Call-ID may be long."""
    boot(pbx)
    with listening(pbx) as listener:
        assert listener.logged_in()
        listener.settled()
        before = listener.ami.counters()
        words = escaped(LONG["an event"])[:250]
        for field, value in (
            ("response", words),
            ("nonce", words),
            ("username", words),
            ("response", '"a\r X: y"'),
            ("response", '"\r"'),
            ("response", '"' + "r" * 400 + '"'),
        ):
            source = listener.address()
            with Caller(pbx, source, PORTS["PJSIP"], "tcp") as caller:
                request = Request(user="1001", call_id=f"c%0d%0a{listener.address()}\tx")
                name, header = credentials(caller.ask(request).header("www-authenticate"), request)
                honest = re.search(rf'\b{field}="[^"]*"', header)
                assert honest is not None
                header = header.replace(honest[0], f"{field}={value}")
                assert caller.ask(replace(request, headers=((name, header),), number=2)).status == 401, header
            assert listener.told(source, "ChallengeResponseFailed"), (header, listener.ami.counters())
        source = listener.address()
        with Caller(pbx, source, PORTS["PJSIP"], "tcp") as caller:
            assert caller.ask(Request(call_id="c" * 20000)).status == 401
        assert listener.told(source, "ChallengeSent"), listener.ami.counters()
        after = listener.ami.counters()
        discarded = ("malformed", "duplicate", "injected", "forged_address", "too_long")
        assert [after[name] - before[name] for name in discarded] == [0] * 5


def test_line_feeds_in_an_account_of_chan_sip(pbx16: Pbx) -> None:
    """A REGISTER can bring them in, of what fits into 255 characters with every line feed as three; INVITE cannot."""
    boot(pbx16)
    with listening(pbx16) as listener:
        assert listener.logged_in()
        fit = 0
        for text, transport in itertools.product(LONG.values(), ("udp", "tcp")):
            user = escaped(text)
            for request in (
                Request(user=user),
                Request(to=f"<sip:{user}@{DOMAIN}>"),
                Request("INVITE", sender=f"<sip:{user}@{DOMAIN}>", uri=f"sip:600@{DOMAIN}"),
                Request("INVITE", uri=f"sip:{user}@{DOMAIN}"),
            ):
                before = listener.discarded()
                with Caller(pbx16, listener.address(), PORTS["SIP"], transport) as caller:
                    caller.send(request)
                    if len(user) < 200:
                        assert caller.answer().status == 401
                        if request.method == "REGISTER":
                            fit += 1
                            assert listener.discarded_since(before), text
                    listener.settled()
        assert fit == 3 * 4
        assert {each.service for each in listener.of(VICTIM)} <= {"SIP"}


def test_line_feeds_in_an_account_of_the_manager_by_http(pbx: Pbx) -> None:
    """Where webenabled=yes, the addresses of events of the manager itself are anybody's choice, too; those of others are not."""
    boot(pbx)
    with listening(pbx) as listener:
        assert listener.logged_in()
        for text in LONG.values():
            listener.settled()
            before = listener.discarded()
            with pbx.socket(4, socket.SOCK_STREAM, listener.address()) as sock:
                sock.connect(("127.0.0.1", HTTP))
                given = urllib.parse.quote(text)
                sock.sendall(f"GET /rawman?action=login&username={given}&secret=x HTTP/1.1\r\n\r\n".encode())
                assert sock.recv(4096)
            assert listener.discarded_since(before), text
        listener.settled()
        assert {each.service for each in listener.of(VICTIM)} == {"AMI"}


@pytest.mark.parametrize(
    ("more", "system"), [("timestampevents=yes\ndebug=yes\n", "pbx-1"), ("timestampevents=yes", ""), ("", "pbx 1")]
)
def test_headers_that_options_add(pbx: Pbx, more: str, system: str) -> None:
    boot(pbx, more=more, system=system)
    with listening(pbx) as listener:
        assert listener.logged_in()
        listener.settled()
        assert listener.ami.counters()["malformed"] == 0


def test_user_who_is_not_told(pbx: Pbx) -> None:
    """Nothing in the answers says so, but the event of the own login does not come."""
    boot(pbx, read="call")
    with listening(pbx) as listener:
        assert listener.logged_in()
        (line,) = listener.log
        assert "tells this user of no security events: it needs read=security" in line
        assert listener.ping() < 1


def test_user_who_is_told_more_than_he_needs(pbx: Pbx) -> None:
    boot(pbx, read="all")
    with listening(pbx) as listener:
        assert listener.logged_in()
        listener.settled()
        assert listener.ami.counters()["malformed"] == 0


def test_wrong_secret_and_restart(pbx: Pbx) -> None:
    boot(pbx)
    with listening(pbx, "wrong") as listener:
        assert eventually(lambda: listener.ami.said.startswith("AMI refuses the user sipban: its secret"), pause=0.01)
        listener.secret = SECRET
        assert listener.logged_in()
        pbx.kill()
        assert eventually(lambda: "Connection refused" in listener.ami.said, pause=0.005)
        pbx.start()
        assert listener.logged_in()
        listener.settled()
        assert len(listener.log) == 5, listener.log
