# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bans of a fleet, against a scripted local API. The real one is in tests/asterisk/test_crowdsec.py."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import crowdsec
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.crowdsec import (
    CrowdSec,
    Fleet,
    parse_duration,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import Network
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError

from .lapi_peer import LapiPeer, Loop, answer, cut, drip, eventually, huge, silent

STREAM, LOGIN, ALERTS, DELETE = (
    "GET /v1/decisions/stream",
    "POST /v1/watchers/login",
    "POST /v1/alerts",
    "DELETE /v1/decisions",
)
WARNING, NOTICE = 4, 5
X = ipaddress.ip_address("198.51.100.7")
X_NET = ipaddress.ip_network("198.51.100.7/32")


def settings(url: str, machine: str = "pbx1", **more: Any) -> CrowdSec:
    made = CrowdSec(url=url, machine_id=machine, **more)
    # sooner than anybody may ask in earnest
    object.__setattr__(made, "interval", 0.05)
    return made


class Pbx:
    """A Fleet with what it has called."""

    def __init__(self, asked: CrowdSec, loop: Loop, **more: Any) -> None:
        machine = asked.machine_id
        self.bans: list[tuple[Network, int, str]] = []
        self.unbans: list[Network] = []
        self.lines: list[tuple[int, str]] = []
        self.fails = False
        given: dict[str, Any] = {
            "password": lambda: f"password-of-{machine}\n",
            "key": lambda: f"key-of-{machine}\n",
            **more,
        }
        self.fleet = Fleet(
            asked,
            on_ban=self._on_ban,
            on_unban=self.unbans.append,
            say=lambda priority, line: self.lines.append((priority, line)),
            loop=loop.loop,
            **given,
        )
        self.fleet.start()

    def _on_ban(self, network: Network, seconds: int, comment: str) -> None:
        self.bans.append((network, seconds, comment))
        if self.fails:
            raise SipguardError("the set is full")

    def status(self, name: str) -> Any:
        return self.fleet.status()[name]


Make = Callable[..., Pbx]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience than in earnest."""
    monkeypatch.setattr(crowdsec, "_PAUSES", (0.05, 0.2))
    monkeypatch.setattr(crowdsec, "_TIMEOUT", 0.4)


@pytest.fixture
def lapi() -> Iterator[LapiPeer]:
    made = LapiPeer()
    yield made
    made.stop()


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop.running() as made:
        yield made


@pytest.fixture
def make(lapi: LapiPeer, loop: Loop) -> Iterator[Make]:
    """Makes PBXs of the fleet."""
    made: list[Pbx] = []

    def one(machine: str = "pbx1", secrets: dict[str, Any] | None = None, url: str = "", **more: Any) -> Pbx:
        made.append(Pbx(settings(url or lapi.url, machine, **more), loop, **(secrets or {})))
        return made[-1]

    yield one
    for each in made:
        each.fleet.stop()


def reached(pbx: Pbx) -> bool:
    return eventually(lambda: pbx.status("reachable"))


def polls(lapi: LapiPeer, more: int = 3) -> bool:
    """Whether so many more looks come."""
    until = len(lapi.seen(STREAM)) + more
    return eventually(lambda: len(lapi.seen(STREAM)) >= until)


# -- settings and texts


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.5:8080",
        "http://127.0.0.1:8080",
        "http://localhost:8080/",
        "http://192.168.1.1",
        "http://172.31.255.1:8080",
        "http://[::1]:8080",
        "http://[fd00::5]:8080",
        "https://lapi.example.org:8080",
        "https://203.0.113.5",
    ],
)
def test_urls_that_can_be_used(url: str) -> None:
    assert CrowdSec(url=url, machine_id="pbx1").url == url


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"url": "http://203.0.113.5:8080"}, "https would be right"),
        ({"url": "http://lapi.example.org:8080"}, "https would be right"),
        ({"url": "http://[2001:db8::5]:8080"}, "https would be right"),
        ({"url": "ftp://10.0.0.5"}, "http://ADDRESS:8080 or https://NAME:8080 would be right"),
        ({"url": "10.0.0.5:8080"}, "http://ADDRESS:8080 or https://NAME:8080 would be right"),
        ({"url": "http://10.0.0.5:8080/v1"}, "would be right"),
        ({"url": "http://10.0.0.5:99999"}, "would be right"),
        ({"url": "http://10.0.0.5:8080?x=y"}, "would be right"),
        ({"url": "http://user:geheim@10.0.0.5:8080"}, "(hidden)"),
        ({"url": "http://10.0.0.5\r\nX: y"}, "would be right"),
        ({"machine_id": ""}, "machine_id"),
        ({"machine_id": "a b"}, "machine_id"),
        ({"machine_id": "x" * 65}, "machine_id"),
        ({"scenario": "a'b"}, "scenario"),
        ({"origins": ("a,b",)}, "origins"),
        ({"interval": 0.5}, "interval"),
        ({"interval": float("nan")}, "interval"),
        ({"full_every": 5}, "full_every"),
        ({"max_seconds": 10**9}, "max_seconds"),
    ],
)
def test_settings_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError) as caught:
        CrowdSec(**{"url": "http://10.0.0.5:8080", "machine_id": "pbx1", **change})
    text = str(caught.value)
    assert says in text
    assert "geheim" not in text
    assert "\n" not in text


def test_http_may_be_allowed_everywhere() -> None:
    assert CrowdSec(url="http://lapi.example.org:8080", machine_id="pbx1", allow_http=True).allow_http


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3h59m58.1s", 14398.1),
        ("59m59.639351581s", 3599.639351581),
        ("848.525808ms", 0.848525808),
        ("-974.976\u00b5s", -0.000974976),
        ("-3.003371759s", -3.003371759),
        ("35063h10m24s", 126227424.0),
        ("0s", 0.0),
        ("15ns", 15e-9),
        ("", None),
        ("5", None),
        ("s", None),
        ("1.s", None),
        ("+5s", None),
        ("--5s", None),
        ("5s ", None),
        ("5s\n", None),
        ("1e5s", None),
        ("5d", None),
        ("\u0665s", None),
        ("1h" * 60, None),
        ("9999999999h", None),
        (3600, None),
        (None, None),
        (["5s"], None),
    ],
)
def test_duration(text: object, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


# -- both ways


def test_a_ban_arrives_at_the_other_and_not_back(lapi: LapiPeer, make: Make) -> None:
    one, two = make("pbx1"), make("pbx2")
    one.fleet.publish(X, 3600, "wrong password")
    assert eventually(lambda: bool(two.bans))
    network, seconds, comment = two.bans[0]
    assert (network, comment) == (X_NET, "fleet: pbx1")
    assert 3590 <= seconds <= 3600
    assert polls(lapi, 6)
    assert len(two.bans) == 1
    assert one.bans == []
    assert one.status("sent") == two.status("received") == 1
    assert [alert["message"] for what, dummy, body, dummy in lapi.requests if what == ALERTS for alert in body] == [
        "pbx1: wrong password"
    ]


@pytest.mark.parametrize(
    ("what", "value", "scope"),
    [
        ("198.51.100.7", "198.51.100.7", "Ip"),
        ("198.51.100.7/32", "198.51.100.7", "Ip"),
        ("198.51.100.0/24", "198.51.100.0/24", "Range"),
        ("2001:db8::7", "2001:db8::7", "Ip"),
        ("2001:db8::7/128", "2001:db8::7", "Ip"),
        ("2001:db8::/48", "2001:db8::/48", "Range"),
        ("::ffff:198.51.100.7", "198.51.100.7", "Ip"),
    ],
)
def test_what_is_published_of_an_address(lapi: LapiPeer, make: Make, what: str, value: str, scope: str) -> None:
    pbx = make()
    pbx.fleet.publish(ipaddress.ip_network(what) if "/" in what else ipaddress.ip_address(what), 600, "x")
    assert eventually(lambda: pbx.status("sent") == 1)
    (found,) = lapi.decisions
    wanted = {"value": value, "scope": scope, "origin": "crowdsec", "scenario": "sipguard/sipban/pbx1", "type": "ban"}
    assert wanted.items() <= found.items()


def test_the_same_address_banned_by_both_does_not_grow(lapi: LapiPeer, make: Make) -> None:
    one, two = make("pbx1"), make("pbx2")
    assert reached(one)
    assert reached(two)
    one.fleet.publish(X, 3600, "x")
    two.fleet.publish(X, 1800, "y")
    assert eventually(lambda: bool(two.bans))
    assert eventually(lambda: two.status("sent") == 1)
    assert polls(lapi, 20)
    assert one.bans == []
    assert [each[1] <= 3600 for each in two.bans] == [True]
    assert len(lapi.decisions) == 2
    # each its own end: the longer one goes, the other stays, and nobody is told that it went
    one.fleet.withdraw(X)
    assert eventually(lambda: one.status("withdrawn") == 1)
    assert polls(lapi, 6)
    assert [each["scenario"] for each in lapi.active(str(X))] == ["sipguard/sipban/pbx2"]
    assert two.unbans == []


def test_a_ban_taken_back_is_told_once(lapi: LapiPeer, make: Make) -> None:
    one, two = make("pbx1"), make("pbx2")
    one.fleet.publish(X, 3600, "x")
    assert eventually(lambda: bool(two.bans))
    lapi.add("198.51.100.99", 600, scenario="sipguard/sipban/pbx3", origin="crowdsec")
    one.fleet.withdraw(X)
    assert eventually(lambda: bool(two.unbans))
    assert polls(lapi, 6)  # the decision is told as deleted for two seconds
    assert two.unbans == [X_NET]
    assert two.status("lifted") == 1
    assert one.unbans == []
    assert lapi.active("198.51.100.99")


def test_withdrawing_leaves_what_others_have_published(lapi: LapiPeer, make: Make) -> None:
    pbx = make()
    others = [lapi.add(str(X), 7200), lapi.add(str(X), 100, scenario="sipguard/sipban/pbx2", origin="crowdsec")]
    pbx.fleet.publish(X, 3600, "x")
    assert eventually(lambda: pbx.status("sent") == 1)
    pbx.fleet.withdraw(X)
    assert eventually(lambda: pbx.status("withdrawn") == 1)
    assert lapi.active(str(X)) == others


def test_all_of_ones_own_is_withdrawn_at_once(lapi: LapiPeer, make: Make) -> None:
    pbx = make()
    stays = lapi.add("203.0.113.1", 3600, scenario="sipguard/sipban/pbx2", origin="crowdsec")
    for number in range(250):
        pbx.fleet.publish(ipaddress.ip_address(f"198.51.100.{number}"), 3600, "x")
    assert eventually(lambda: pbx.status("sent") == 250)
    pbx.fleet.withdraw_all()
    assert eventually(lambda: pbx.status("withdrawn") == 250)
    assert len(lapi.seen(DELETE)) == 1
    assert [each for each in lapi.decisions if each["until"] > time.time()] == [stays]


def test_a_ban_without_an_end_is_published_with_a_late_one(lapi: LapiPeer, make: Make) -> None:
    pbx = make()
    pbx.fleet.publish(X, 0, "x")
    assert eventually(lambda: pbx.status("sent") == 1)
    assert lapi.active(str(X))[0]["until"] - time.time() > 4 * 365 * 86400


def test_a_burst_goes_in_batches(lapi: LapiPeer, make: Make) -> None:
    pbx = make()
    lapi.fault(LOGIN, answer(500, "{}"))  # they wait together
    assert eventually(lambda: "500" in pbx.status("said"))
    for number in range(1000):
        pbx.fleet.publish(ipaddress.ip_address("198.18.0.0") + number, 3600, "x")
    assert eventually(lambda: pbx.status("sent") == 1000)
    assert 10 <= len(lapi.seen(ALERTS)) < 40
    assert pbx.status("queued") == 0


def test_of_two_bans_of_an_address_in_the_queue_the_later_counts(lapi: LapiPeer, make: Make) -> None:
    lapi.stop()
    pbx = make()
    pbx.fleet.publish(X, 600, "x")
    pbx.fleet.publish(X, 7200, "x")
    lapi.start()
    assert eventually(lambda: pbx.status("sent") == 1)
    assert 7000 < lapi.active(str(X))[0]["until"] - time.time() <= 7200


def test_a_ban_withdrawn_while_queued_is_not_sent(lapi: LapiPeer, make: Make) -> None:
    lapi.stop()
    pbx = make()
    pbx.fleet.publish(X, 600, "x")
    pbx.fleet.withdraw(X)
    lapi.start()
    assert eventually(lambda: pbx.status("queued") == 0)
    assert lapi.seen(ALERTS) == []


# -- what comes in


@pytest.mark.parametrize(
    ("decision", "network"),
    [
        ({"value": "198.51.100.7"}, "198.51.100.7/32"),
        ({"value": "198.51.100.7/32", "scope": "Range"}, "198.51.100.7/32"),
        ({"value": "198.51.100.0/24"}, "198.51.100.0/24"),
        ({"value": "198.51.100.9/24"}, "198.51.100.0/24"),
        ({"value": "198.51.0.0/16"}, "198.51.0.0/16"),
        ({"value": "2001:db8::7"}, "2001:db8::7/128"),
        ({"value": "2001:DB8:0::/48"}, "2001:db8::/48"),
        ({"value": "::ffff:198.51.100.7"}, "198.51.100.7/32"),
        ({"value": "198.51.100.7", "scope": "ip", "type": "Ban"}, "198.51.100.7/32"),
        ({"value": "198.51.100.7", "origin": "crowdsec", "scenario": "crowdsecurity/ssh-bf"}, "198.51.100.7/32"),
    ],
)
def test_a_decision_that_is_taken(lapi: LapiPeer, make: Make, decision: dict[str, Any], network: str) -> None:
    lapi.add(**{"seconds": 3600, **decision})
    pbx = make()
    assert eventually(lambda: bool(pbx.bans))
    assert str(pbx.bans[0][0]) == network


@pytest.mark.parametrize(
    ("decision", "invalid"),
    [
        ({"value": "0.0.0.0/0"}, 1),
        ({"value": "::/0"}, 1),
        ({"value": "198.0.0.0/15"}, 1),
        ({"value": "2001:db8::/31"}, 1),
        ({"value": "::ffff:0:0/100"}, 1),
        ({"value": "127.0.0.1"}, 1),
        ({"value": "::1"}, 1),
        ({"value": "0.0.0.0"}, 1),
        ({"value": "224.0.0.1"}, 1),
        ({"value": "fe80::1%eth0"}, 1),
        ({"value": "198.51.100.256"}, 1),
        ({"value": "; reboot"}, 1),
        ({"value": "198.51.100.7\n"}, 1),
        ({"value": "x" * 300}, 1),
        ({"value": 7, "scope": "Ip"}, 1),
        ({"value": None, "scope": "Ip"}, 1),
        ({"value": "198.51.100.7", "scope": "Country"}, 0),
        ({"value": "198.51.100.7", "type": "captcha"}, 0),
        ({"value": "198.51.100.7", "simulated": True}, 0),
        ({"value": "198.51.100.7", "scenario": "sipguard/sipban/pbx1"}, 0),
    ],
)
def test_a_decision_that_is_not_taken(
    lapi: LapiPeer, make: Make, monkeypatch: pytest.MonkeyPatch, decision: dict[str, Any], invalid: int
) -> None:
    scope = {"scope": "Range" if "/" in str(decision["value"]) else "Ip"}
    row = {"id": 1, "duration": "1h", "type": "ban", "origin": "cscli", "scenario": "manual", **scope, **decision}
    last = {**row, "value": "203.0.113.1", "type": "ban", "scope": "Ip", "scenario": "manual", "simulated": False}
    monkeypatch.setattr(lapi, "_stream", lambda *dummy: (200, {"new": [row, last], "deleted": []}))
    pbx = make()
    assert eventually(lambda: bool(pbx.bans))
    assert {str(network) for network, *dummy in pbx.bans} == {"203.0.113.1/32"}
    assert bool(pbx.status("invalid")) == bool(invalid)


@pytest.mark.parametrize(
    ("origins", "values", "asked"),
    [
        (("cscli",), {"198.51.100.1"}, "crowdsec,cscli"),
        (("CAPI",), {"198.51.100.2"}, "crowdsec,CAPI"),
        ((), {"198.51.100.1", "198.51.100.2"}, ""),
    ],
)
def test_only_the_origins_asked_for(
    lapi: LapiPeer, make: Make, origins: tuple[str, ...], values: set[str], asked: str
) -> None:
    lapi.add("198.51.100.1", 3600)
    lapi.add("198.51.100.2", 3600, origin="CAPI")
    pbx = make(origins=origins)
    assert reached(pbx)
    assert polls(lapi)
    assert {str(network.network_address) for network, *dummy in pbx.bans} == values
    assert lapi.seen(STREAM)[0].get("origins", "") == asked


def test_a_comment_is_printable_and_short(lapi: LapiPeer, make: Make) -> None:
    lapi.add(str(X), 3600, scenario='x"\r\nBLOCK => 192.0.2.1\x1b[31m\u202e' + "y" * 200)
    pbx = make()
    assert eventually(lambda: bool(pbx.bans))
    comment = pbx.bans[0][2]
    assert re.fullmatch(r"[ -!#-~]{1,80}", comment)
    assert comment.startswith("cscli: x???BLOCK => 192.0.2.1?[31m?y")


def test_a_long_decision_is_cut_and_renewed(lapi: LapiPeer, make: Make) -> None:
    lapi.add(str(X), 86400)
    pbx = make(max_seconds=60, full_every=10)
    assert eventually(lambda: bool(pbx.bans))
    assert pbx.bans[0][1] == 60
    # many looks at everything, and nothing new is told before half time
    object.__setattr__(pbx.fleet._settings, "full_every", 0.0)
    pbx.fleet._full_due = 0.0
    assert eventually(lambda: [query["startup"] for query in lapi.seen(STREAM)].count("true") > 8)
    assert len(pbx.bans) == 1
    with pbx.fleet._lock:
        pbx.fleet._standing[str(X)] -= 31
    assert eventually(lambda: len(pbx.bans) == 2)
    assert pbx.bans[1][1] == 60


def test_a_natural_end_is_not_told(lapi: LapiPeer, make: Make) -> None:
    lapi.add(str(X), 0.4)
    pbx = make()
    assert eventually(lambda: bool(pbx.bans))
    assert eventually(lambda: not lapi.active(str(X)))
    assert polls(lapi, 5)
    assert pbx.unbans == []
    assert pbx.status("standing") == 0


def test_a_network_written_in_two_ways_goes_with_the_last_of_them(lapi: LapiPeer, make: Make) -> None:
    lapi.add("198.51.100.7", 3600)
    ranged = lapi.add("198.51.100.7/32", 3600)
    pbx = make()
    assert eventually(lambda: pbx.status("standing") == 2)
    ranged["until"] = time.time()
    assert polls(lapi, 5)
    assert pbx.unbans == []
    lapi.decisions[0]["until"] = time.time()
    assert eventually(lambda: pbx.unbans == [X_NET])


def test_what_stood_before_a_restart_can_be_lifted(lapi: LapiPeer, make: Make) -> None:
    lapi.add(str(X), 3600)["until"] = time.time() - 10
    lapi.add("198.51.100.8", 3600)
    known = ipaddress.ip_network("198.51.100.8/32")
    pbx = make(secrets={"standing": [(X_NET, 3000), (known, 3600)]})
    assert eventually(lambda: pbx.unbans == [X_NET])
    assert polls(lapi)
    assert pbx.bans == []


def test_no_more_than_there_is_room_for(lapi: LapiPeer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowdsec, "_STANDING", 10)
    for number in range(15):
        lapi.add(f"198.51.100.{number}", 3600)
    pbx = make()
    assert eventually(lambda: pbx.status("crowded") == 5)
    assert pbx.status("standing") == 10


def test_the_loop_gets_time_between_many_decisions(lapi: LapiPeer, make: Make, loop: Loop) -> None:
    rows = [
        {"duration": "1h", "type": "ban", "scope": "Ip", "origin": "cscli", "scenario": "x", "value": str(X + number)}
        for number in range(5000)
    ]
    lapi._stream = lambda *dummy: (200, {"new": rows, "deleted": None})  # type: ignore[method-assign]
    seen: list[int] = []
    pbx = make()

    def look() -> None:
        seen.append(len(pbx.bans))
        loop.loop.call_soon(look)

    loop.loop.call_soon_threadsafe(look)
    assert eventually(lambda: len(pbx.bans) == 5000)
    steps = sorted(set(seen))
    assert max(after - before for before, after in itertools.pairwise(steps)) <= 400


def test_a_caller_who_fails_stops_nothing(lapi: LapiPeer, make: Make, loop: Loop) -> None:
    lapi.add(str(X), 3600)
    pbx = make()
    pbx.fails = True
    assert eventually(lambda: bool(loop.failed))
    lapi.add("203.0.113.1", 3600)
    assert eventually(lambda: len(pbx.bans) == 2)


# -- faults


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (answer(500, '{"message": "database is locked"}'), "answers 500 database is locked"),
        (answer(502, "<html>Bad Gateway</html>"), "answers 502"),
        (answer(301, ""), "answers 301"),
        (answer(200, "<html>"), "answers 200"),
        (answer(200, '"text"'), "answers 200"),
        (answer(200, '{"new": {"a": 1}}'), "answers 200"),
        (answer(200, "[" * 100_000), "answers 200"),
        (answer(200, b"\xff\xfe\x00"), "answers 200"),
        (answer(500, '{"message": "\x1b[31m"}'), "answers 500"),
        (cut, "cut off"),
        (silent, "timed out"),
        (drip, "not in 0 seconds"),
        (huge(200_000, told=True), "more than 0 MiB"),
        (huge(200_000, told=False), "more than 0 MiB"),
    ],
)
def test_trouble_is_said_once_and_everything_is_asked_for_afterwards(
    lapi: LapiPeer, make: Make, monkeypatch: pytest.MonkeyPatch, fault: Any, says: str
) -> None:
    monkeypatch.setattr(crowdsec, "_BODY", 150_000)
    monkeypatch.setattr(crowdsec, "_DEADLINE", 0.5)
    pbx = make()
    assert reached(pbx)
    assert polls(lapi)
    lapi.fault(STREAM, fault, fault, fault)
    assert eventually(lambda: len(pbx.lines) == 2)
    assert not pbx.status("reachable")
    assert says in pbx.status("said")
    lapi.add(str(X), 3600)
    assert eventually(lambda: len(pbx.lines) == 3)
    assert eventually(lambda: bool(pbx.bans))
    assert [priority for priority, dummy in pbx.lines] == [NOTICE, WARNING, NOTICE]
    assert says in pbx.lines[1][1]
    assert all(line.startswith(f"CrowdSec {lapi.url} ") and line.isprintable() for dummy, line in pbx.lines)
    assert pbx.lines[2] == pbx.lines[0] == (NOTICE, f"CrowdSec {lapi.url} reached")
    asked = [query["startup"] for query in lapi.seen(STREAM)]
    assert asked.count("true") >= 4
    assert "false" in asked


def test_everything_is_asked_for_from_time_to_time(lapi: LapiPeer, make: Make) -> None:
    pbx = make(full_every=10)
    assert reached(pbx)
    assert polls(lapi)
    assert [query["startup"] for query in lapi.seen(STREAM)].count("true") == 1
    pbx.fleet._full_due = 0.0
    assert eventually(lambda: [query["startup"] for query in lapi.seen(STREAM)].count("true") == 2)


def test_what_was_being_stored_during_a_look_comes_soon_after(lapi: LapiPeer, make: Make) -> None:
    pbx = make()
    assert reached(pbx)
    assert polls(lapi)
    lapi.add(str(X), 3600)["created"] = 0.0  # as the LAPI tells it: before the last look
    lapi.add(str(X + 1), 3600)
    assert eventually(lambda: len(pbx.bans) == 2)
    assert [query["startup"] for query in lapi.seen(STREAM)].count("true") == 2


def test_a_login_that_has_run_out_is_made_again(lapi: LapiPeer, make: Make) -> None:
    pbx = make()
    pbx.fleet.publish(X, 600, "x")
    assert eventually(lambda: pbx.status("sent") == 1)
    lapi.tokens.clear()
    pbx.fleet.publish(X + 1, 600, "x")
    assert eventually(lambda: pbx.status("sent") == 2)
    assert len(lapi.seen(LOGIN)) == 2
    assert [line for dummy, line in pbx.lines] == [f"CrowdSec {lapi.url} reached"]


def test_a_lapi_that_goes_and_comes_back_gets_the_queue_with_the_time_that_is_left(lapi: LapiPeer, make: Make) -> None:
    one, two = make("pbx1"), make("pbx2")
    assert reached(one)
    assert reached(two)
    lapi.stop()
    assert eventually(lambda: len(one.lines) == 2)
    one.fleet.publish(X, 600, "x")
    one.fleet.publish(X + 1, 2, "gone before anybody hears of it")
    assert one.status("queued") == 2
    assert eventually(lambda: one.fleet._queue[str(X + 1)].until - time.monotonic() < 1)
    lapi.start()
    assert eventually(lambda: one.status("sent") == 1)
    assert one.status("expired") == 1
    assert eventually(lambda: bool(two.bans))
    assert 590 <= two.bans[0][1] < 600
    assert eventually(lambda: [len(pbx.lines) for pbx in (one, two)] == [3, 3])
    assert "does not answer (Connection refused); bans stay on this PBX until it does" in one.lines[1][1]


def test_a_wrong_password_is_one_line_and_decisions_still_come_in(lapi: LapiPeer, make: Make) -> None:
    lapi.add(str(X), 600)
    pbx = make(secrets={"password": lambda: "wrong-secret"})
    pbx.fleet.publish(X + 1, 600, "x")
    assert eventually(lambda: len(lapi.seen(LOGIN)) >= 4)
    assert pbx.lines == [
        (
            WARNING,
            f"CrowdSec {lapi.url} refuses machine pbx1 or its password (see cscli machines list)",
        )
    ]
    assert eventually(lambda: bool(pbx.bans))
    assert pbx.status("queued") == 1
    lapi.machines["pbx1"] = "wrong-secret"
    assert eventually(lambda: pbx.status("sent") == 1)
    assert reached(pbx)
    assert len(pbx.lines) == 2


def test_a_wrong_key_is_one_line_and_bans_still_go_out(lapi: LapiPeer, make: Make) -> None:
    pbx = make(secrets={"key": lambda: "wrong-secret"})
    pbx.fleet.publish(X, 600, "x")
    assert eventually(lambda: pbx.status("sent") == 1)
    assert polls(lapi, 4)
    assert pbx.lines == [(WARNING, f"CrowdSec {lapi.url} refuses the key of the bouncer (see cscli bouncers list)")]


def _unreadable() -> str:
    raise SipguardError("cannot read /etc/sipguard/crowdsec-key: Permission denied; run the role pbx_sipban again")


def _missing() -> str:
    raise FileNotFoundError(2, "No such file or directory", "/etc/x")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (_unreadable, "cannot read /etc/sipguard/crowdsec-key: Permission denied"),
        (_missing, "No such file or directory"),
        (lambda: "", "is empty"),
        (lambda: "top\nsecret", "has blanks"),
        (lambda: "topsecr\u00e9t", "other than ASCII"),
        (b"topsecret\xff".decode, "unreadable"),
    ],
)
def test_a_secret_that_cannot_be_used(lapi: LapiPeer, make: Make, key: Any, says: str) -> None:
    pbx = make(secrets={"key": key})
    assert eventually(lambda: bool(pbx.lines))
    assert says in pbx.lines[0][1]
    assert "secr" not in pbx.lines[0][1]
    assert lapi.seen(STREAM) == []


def test_secrets_are_in_no_line_and_no_address(lapi: LapiPeer, make: Make) -> None:
    pbx = make()
    pbx.fleet.publish(X, 600, "x")
    assert eventually(lambda: pbx.status("sent") == 1)
    assert polls(lapi)
    told = repr([pbx.lines, pbx.fleet.status(), pbx.fleet._settings, vars(pbx.fleet)["_queue"]])
    told += repr([(what, query) for what, query, dummy, dummy in lapi.requests])
    assert "password-of" not in told
    assert "key-of" not in told


def test_the_oldest_give_way_when_the_queue_is_full(lapi: LapiPeer, make: Make) -> None:
    lapi.stop()
    pbx = make()
    for number in range(10_003):
        pbx.fleet.publish(ipaddress.ip_address("198.18.0.0") + number, 3600, "x")
    assert pbx.status("queued") == 10_000
    assert pbx.status("dropped") == 3
    assert next(iter(pbx.fleet._queue)) == "198.18.0.3"


def test_one_ban_that_is_not_wanted_does_not_hold_up_the_others(lapi: LapiPeer, make: Make) -> None:
    lapi.stop()
    pbx = make()
    for number in range(50):
        pbx.fleet.publish(ipaddress.ip_address(f"203.0.113.{number}"), 3600, "x")
    lapi.unwanted = {"203.0.113.7"}
    lapi.start()
    assert eventually(lambda: pbx.status("queued") == 0)
    assert (pbx.status("sent"), pbx.status("refused")) == (49, 1)
    assert reached(pbx)


def test_an_answer_that_is_none_does_not_count_as_sent(lapi: LapiPeer, make: Make) -> None:
    pbx = make()
    assert reached(pbx)
    lapi.fault(ALERTS, answer(200, "<html>log in to the hotel's network</html>"))
    pbx.fleet.publish(X, 600, "x")
    assert eventually(lambda: len(pbx.lines) == 2)
    assert eventually(lambda: pbx.status("sent") == 1)
    assert lapi.active(str(X))


@pytest.mark.parametrize("clock", [-7200.0, 7200.0])
def test_clocks_that_disagree(lapi: LapiPeer, make: Make, clock: float) -> None:
    lapi.clock = clock
    one, two = make("pbx1"), make("pbx2")
    one.fleet.publish(X, 600, "x")
    assert eventually(lambda: bool(two.bans))
    assert 597 <= two.bans[0][1] <= 602


@pytest.mark.parametrize("fault", [silent, drip])
def test_stop_waits_for_nobody(lapi: LapiPeer, make: Make, monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    monkeypatch.setattr(crowdsec, "_TIMEOUT", 60.0)
    lapi.fault(STREAM, fault)
    pbx = make()
    assert eventually(lambda: bool(lapi.seen(STREAM)))
    # Its thread has ended when it comes back, although the LAPI would take a minute.
    pbx.fleet.stop()
    assert pbx.fleet._thread is not None
    assert not pbx.fleet._thread.is_alive()
    assert pbx.lines == []


def test_nothing_is_called_after_stop(lapi: LapiPeer, make: Make, loop: Loop) -> None:
    rows = [
        {"duration": "1h", "type": "ban", "scope": "Ip", "origin": "cscli", "scenario": "x", "value": str(X + number)}
        for number in range(20_000)
    ]
    lapi._stream = lambda *dummy: (200, {"new": rows, "deleted": None})  # type: ignore[method-assign]
    pbx = make()
    assert eventually(lambda: bool(pbx.bans))
    stopped: list[int] = []

    def stop() -> None:
        pbx.fleet.stop()
        stopped.append(len(pbx.bans))

    loop.loop.call_soon_threadsafe(stop)
    assert eventually(lambda: bool(stopped))
    assert pbx.fleet._thread is not None
    assert not pbx.fleet._thread.is_alive()
    turned = threading.Event()
    loop.loop.call_soon_threadsafe(turned.set)
    assert turned.wait(5)
    assert [len(pbx.bans)] == stopped
    assert stopped[0] < len(rows)


def test_a_loop_that_is_closed_ends_the_thread(lapi: LapiPeer, make: Make, loop: Loop) -> None:
    pbx = make()
    assert reached(pbx)
    loop.close()
    lapi.stop()
    assert pbx.fleet._thread is not None
    pbx.fleet._thread.join(5)
    assert not pbx.fleet._thread.is_alive()


def test_publishing_never_blocks(lapi: LapiPeer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowdsec, "_TIMEOUT", 60.0)
    lapi.fault(LOGIN, silent)
    pbx = make()
    assert eventually(lambda: bool(lapi.seen(LOGIN)))
    started = time.monotonic()
    for number in range(1000):
        pbx.fleet.publish(X + number, 600, "x")
    pbx.fleet.withdraw(X)
    pbx.fleet.status()
    # Whoever waits for the LAPI waits for a minute.
    assert time.monotonic() - started < 30


def test_two_threads_may_publish(lapi: LapiPeer, make: Make) -> None:
    pbx = make()

    def work(first: str) -> None:
        for number in range(300):
            pbx.fleet.publish(ipaddress.ip_address(first) + number, 600, "x")

    threads = [threading.Thread(target=work, args=(first,)) for first in ("198.18.0.0", "198.19.0.0")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert eventually(lambda: pbx.status("sent") == 600)
    assert len({each["value"] for each in lapi.decisions}) == 600


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lapi.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "lapi.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def tls_lapi(certificate: Path) -> Iterator[LapiPeer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    made = LapiPeer(context)
    yield made
    made.stop()


def test_https_with_ones_own_certificate(tls_lapi: LapiPeer, make: Make, certificate: Path) -> None:
    one = make("pbx1", url=tls_lapi.url, ca_file=str(certificate))
    two = make("pbx2", url=tls_lapi.url, ca_file=str(certificate))
    one.fleet.publish(X, 600, "x")
    assert eventually(lambda: bool(two.bans))


def test_https_with_a_certificate_that_nobody_knows(tls_lapi: LapiPeer, make: Make) -> None:
    pbx = make(url=tls_lapi.url)
    assert eventually(lambda: bool(pbx.lines))
    assert re.search(r"does not answer \(self.signed certificate\)", pbx.lines[0][1])
    assert tls_lapi.requests == []


def test_https_without_the_file_of_the_authority(tls_lapi: LapiPeer, make: Make) -> None:
    pbx = make(url=tls_lapi.url, ca_file="/nonexistent/ca.pem")
    assert eventually(lambda: bool(pbx.lines))
    assert "/nonexistent/ca.pem cannot be used as ca_file (No such file or directory)" in pbx.lines[0][1]
