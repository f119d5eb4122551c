# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import commands
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.commands import Answer, event_text, shown
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import Entry
from tests.unit.plugins.module_utils._host.sipban.fake_guard import FakeGuard

MOMENT = 1560340910  # 2019-06-12 12:01:50 in UTC


@pytest.fixture
def guard() -> FakeGuard:
    return FakeGuard()


@pytest.fixture
def utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def ask(guard: FakeGuard, command: str) -> Answer:
    return asyncio.run(commands.answer(guard, command.split()))


@pytest.mark.parametrize(
    ("before", "command", "ok", "text"),
    [
        ("", "block 203.0.113.7", True, "203.0.113.7 block"),
        ("block 203.0.113.7", "block 203.0.113.7", True, "203.0.113.7 previously blocked"),
        ("block 203.0.113.7", "unblock 203.0.113.7", True, "203.0.113.7 unblocked"),
        ("", "unblock 203.0.113.7", False, "203.0.113.7 is not previously blocked"),
        ("", "BLOCK 2001:DB8:0::7", True, "2001:db8::7 block"),
        ("", "block 203.0.113.0/24", True, "203.0.113.0/24 block"),
        ("", "block 203.0.113.6-203.0.113.8", True, "203.0.113.6/31 block\n203.0.113.8 block"),
        ("", "block 192.0.2.1", False, "192.0.2.1 cannot be banned: it is trusted"),
        ("", "block", True, ""),
        ("", "block 300.0.113.7", False, "300.0.113.7 don't seems like a valid address"),
        ("", "unblock evil.example", False, "evil.example don't seems like a valid address"),
        ("", "why 203.0.113.0/24", False, "203.0.113.0/24 don't seems like a valid address"),
        ("", "block \x1b[2J", False, "\\x1b[2J don't seems like a valid address"),
        (
            "",
            "block 203.0.113.7/24",
            False,
            "203.0.113.7/24 don't seems like a valid address\n"
            "the address has bits behind its prefix; 203.0.113.0/24 would be right",
        ),
        ("", "unblock", False, "ip address missing"),
        ("", "why", False, "ip address missing"),
        ("", "unblock 203.0.113.7 203.0.113.8", False, "one address at a time, and nothing was done; unblock ADDRESS would be right"),
        (
            "",
            "block 203.0.113.7 203.0.113.8",
            False,
            "one address at a time, and nothing was done; block ADDRESS [TIME] [REASON] would be right",
        ),
        ("block 203.0.113.7", "flush", True, "1 ban dumped and removed"),
        ("flush", "restore", True, "0 bans restored"),
        ("", "restore", False, "no dump file to restore rules: /var/lib/sipban/sipban.dump"),
        ("", "ping", True, "Asterisk answered after 1.2 ms"),
        ("", "uptime", True, "Uptime 1 day 01:01:01"),
        ("", "wl", True, "192.0.2.1\n2001:db8::/32"),
        ("", "status", True, "uptime     1 day 01:01:01\nami        yes\nbans ipv4  0\nbans ipv6  0\nami said"),
        ("", "top", True, ""),
        ("", "why 203.0.113.7", True, "203.0.113.7 is not blocked"),
        ("", "whois 203.0.113.7", False, "sipband asks no whois server; 'why ADDRESS' says what this host knows"),
        ("", "save", False, "bans are kept by themselves; 'flush' writes the dump file"),
        ("", "reboot\x07", False, "reboot\\x07 is no command; use 'help' for more commands"),
        ("", "follow me", False, "follow stands alone"),
    ],
)  # fmt: skip
def test_what_is_answered(guard: FakeGuard, before: str, command: str, ok: bool, text: str) -> None:
    if before:
        ask(guard, before)
    found = ask(guard, command)
    assert (found.ok, found.text) == (ok, text)


@pytest.mark.parametrize(
    ("words", "seconds", "reason"),
    [
        ("", None, ""),
        ("0", 0, ""),
        ("2h", 7200, ""),
        ('30m a "bad" one', 1800, "a 'bad' one"),
        ("scans since monday", None, "scans since monday"),
    ],
)
def test_time_and_reason_are_handed_on(guard: FakeGuard, words: str, seconds: int | None, reason: str) -> None:
    assert ask(guard, f"block 203.0.113.7 {words}").ok
    assert guard.asked == [(ipaddress.ip_network("203.0.113.7"), seconds, reason)]


@pytest.mark.parametrize("words", ["1.5h", "-1", "99w", "2147484", "7y", ".5", "1h \x00", f"1h {'x' * 256}"])
def test_a_time_or_reason_that_is_none_blocks_nobody(guard: FakeGuard, words: str) -> None:
    found = asyncio.run(commands.answer(guard, ["block", "203.0.113.7", *words.split(" ")]))
    assert not found.ok
    assert "would be right" in found.text
    assert not guard.asked


@pytest.mark.parametrize("verb", ["flush", "restore", "ping", "uptime", "wl", "status"])
def test_who_names_an_address_to_a_verb_without_one_changes_nothing(guard: FakeGuard, verb: str) -> None:
    guard.fill(3)
    found = ask(guard, f"{verb} 10.0.0.1")
    assert not found.ok
    assert found.text.startswith(f"{verb} stands alone, and nothing was done; ")
    assert len(guard.live) == 3


@pytest.mark.parametrize("command", ["block", "block 203.0.113.7", "unblock 203.0.113.7", "flush", "ping", "status"])
def test_a_fault_is_an_answer(guard: FakeGuard, command: str) -> None:
    guard.broken = "the set is full\x1b[0m"
    found = ask(guard, command)
    assert (found.ok, found.text) == (False, "the set is full\\x1b[0m")
    assert found.data == {"error": found.text}


def test_without_words_it_helps(guard: FakeGuard) -> None:
    assert ask(guard, "").text == ask(guard, "help").text == commands.HELP
    for verb in (
        "block",
        "unblock",
        "flush",
        "restore",
        "ping",
        "uptime",
        "wl",
        "status",
        "top",
        "follow",
        "why",
        "exit/quit",
    ):
        assert f"\n{verb}" in commands.HELP


@pytest.mark.usefixtures("utc")
def test_the_list_of_bans(guard: FakeGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: float(MOMENT))
    ask(guard, "block 203.0.113.9 0 by hand")
    ask(guard, "block 203.0.113.8 1h")
    ask(guard, "block 2001:db8:bad::/48 60")
    found = ask(guard, "block")
    assert found.text == (
        "[2019-06-12 12:02:50] 2001:db8:bad::/48\n[2019-06-12 13:01:50] 203.0.113.8\n[until unblocked    ] 203.0.113.9"
    )
    assert found.data == [
        {"entry": "2001:db8:bad::/48", "seconds_left": 60, "reason": "", "until": MOMENT + 60},
        {"entry": "203.0.113.8", "seconds_left": 3600, "reason": "", "until": MOMENT + 3600},
        {"entry": "203.0.113.9", "seconds_left": 0, "reason": "by hand", "until": 0},
    ]


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1700])
def test_the_list_is_one_line_of_json_made_of_small_pieces(guard: FakeGuard, count: int) -> None:
    guard.fill(count)
    found = ask(guard, "block")
    pieces = list(found.json_pieces())
    assert max(map(len, pieces)) < 70000
    assert json.loads("".join(pieces)) == {"ok": True, "text": found.text, "data": found.data}
    assert "\n" not in "".join(pieces)
    assert len(found.text.split("\n")) == max(1, count)
    assert "".join(found.text_pieces()) == found.text


def test_other_answers_are_json_too(guard: FakeGuard) -> None:
    ask(guard, "block 203.0.113.7 0 h\u00e4ngt")
    found = ask(guard, "why 203.0.113.7")
    (line,) = found.json_pieces()
    assert line.isascii()
    assert json.loads(line)["data"]["banned"] == {"entry": "203.0.113.7", "seconds_left": 0, "reason": "h\u00e4ngt"}


def test_status_is_no_when_nothing_is_heard(guard: FakeGuard) -> None:
    guard.hears = False
    found = ask(guard, "status")
    assert not found.ok
    assert "ami        no" in found.text


def test_top(guard: FakeGuard) -> None:
    guard.rows = [
        {"address": "203.0.113.77", "events": {"InvalidPassword": 12, "ChallengeSent": 3}, "bans": 2, "banned": True, "known": False},
        {"address": "2001:db8::7", "events": {"FailedACL\x1b": 1}, "bans": 0, "banned": False, "known": True},
    ]  # fmt: skip
    assert ask(guard, "top").text == (
        "203.0.113.77  InvalidPassword 12, ChallengeSent 3; 2 bans; blocked\n2001:db8::7   FailedACL\\x1b 1; known"
    )
    assert ask(guard, "top 1").data == guard.rows[:1]
    for wrong in ("0", "1001", "x", "1 2", "\u0663", "99999"):
        assert not ask(guard, f"top {wrong}").ok, wrong


@pytest.mark.usefixtures("utc")
def test_why(guard: FakeGuard) -> None:
    network = ipaddress.ip_network("203.0.113.7")
    guard.live[network] = Entry(network, 3660, "sipban: InvalidPassword\x1b")
    guard.report = {
        "trusted": True,
        "whitelisted": True,
        "known": True,
        "evidence": {"InvalidPassword": {"count": 3, "of": 5, "seconds": 600}},
        "history": {"bans": 2, "last": MOMENT},
    }
    assert ask(guard, "why 203.0.113.7").text.split("\n") == [
        "203.0.113.7 is blocked for 1 h 1 min (sipban: InvalidPassword\\x1b)",
        "it is trusted, and never blocked",
        "it is on the white list, and never blocked",
        "it has authenticated a short time ago",
        "InvalidPassword: 3 of 5 within 10 min",
        "2 bans until now, the last [2019-06-12 12:01:50]",
    ]
    guard.report = {"banned": {"entry": "203.0.113.0/24", "seconds_left": 0, "reason": ""}, "history": {"bans": 0}}
    assert ask(guard, "why ::ffff:203.0.113.8").text == "203.0.113.8 is blocked until unblocked, in 203.0.113.0/24"


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({"what": "unblock", "address": "203.0.113.7"}, "UNBLOCK => 203.0.113.7"),
        (
            {"what": "block", "address": "203.0.113.7", "seconds": 60, "reason": "x\ny"},
            "BLOCK => 203.0.113.7 (x\\ny) seconds=60",
        ),
        ({"what": "white list", "address": "192.0.2.1", "why": "trusted"}, "WHITE LIST => 192.0.2.1 why=trusted"),
        ({"what": "flush"}, "FLUSH"),
    ],
)
def test_events_read_as_the_published_log(event: dict[str, object], line: str) -> None:
    assert event_text({"at": MOMENT + 0.5, **event}) == f"[2019-06-12 12:01:50] {line}"


@given(st.text(max_size=300))
def test_what_is_shown_is_harmless(text: str) -> None:
    found = shown(text)
    assert found.isprintable()
    assert len(found) <= 80


@given(st.lists(st.text(min_size=1), max_size=4))
def test_no_words_raise_anything(words: list[str]) -> None:
    found = asyncio.run(commands.answer(FakeGuard(), words))
    assert found.text.replace("\n", "").isprintable()
    json.loads("".join(found.json_pieces()))
