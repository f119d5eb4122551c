# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A feed in a file: hostile ones, ones that are not to be believed, large ones, and ones that change under traffic."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.netlink import set_digest
from tests.integration.harness import sip
from tests.integration.harness.lab import Lab
from tests.integration.harness.netns import in_namespace

MODULE = "sip_blocklist"
FEED = "/etc/feed.txt"
LISTED = [f"198.18.200.{number}" for number in range(100)]
LARGE = 100_000


def heard(lab: Lab, source: str) -> bool:
    return lab.reaches(lab.attacker, sip.request(), "udp", 6 if ":" in source else 4, source=source)


def write(lab: Lab, *lines: str) -> None:
    lab.pbx.run("tee", FEED, stdin="".join(f"{line}\n" for line in lines))


def run(lab: Lab, **options: Any) -> dict[str, Any]:
    return lab.apply(MODULE, name="feed", feed=FEED, **options)


def kept(lab: Lab) -> tuple[Any, ...]:
    """What must be the same when nothing has been written: the sets as the kernel keeps them, and the files with their times."""
    names = ("sipguard-blocked4", "sipguard-blocked6")
    digests = in_namespace(lab.pbx.name, lambda: [set_digest(name) for name in names])
    assert None not in digests
    headers = [
        line for line in lab.sets().splitlines() if line.startswith("create sipguard")
    ]  # with the start of the hash
    stat = lab.pbx.run("sh", "-c", "find /var/lib/sipguard /etc/sipguard -type f -exec stat -c '%n %i %y' {} + | sort")
    assert "/var/lib/sipguard/lists/feed " in stat
    return digests, headers, stat


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    made = Lab("nft")
    yield made
    made.close()


@pytest.fixture
def pbx(host: Lab) -> Iterator[Lab]:
    yield host
    host.apply(MODULE, state="absent")
    assert "sipguard" not in host.sets()


def test_feed_is_loaded_and_followed(pbx: Lab) -> None:
    lab = pbx
    write(
        lab,
        "\ufeff# a feed",
        *LISTED,
        "2001:db8:bad::f00/120 ; scans\r",
        "[2001:db8:bad::e01]:5060",
        "198.18.201.7:5062 # x",
    )
    result = lab.four_runs(MODULE, name="feed", feed=FEED)
    assert (result["entries"], result["accepted"]["junk"], result["accepted"]["refused"]) == (103, 0, 0)
    for source in (LISTED[0], LISTED[99], "198.18.201.7", "2001:db8:bad::f42", "2001:db8:bad::e01"):
        assert not heard(lab, source)
    for source in ("198.18.200.100", "198.18.201.8", "2001:db8:bad::e02"):
        assert heard(lab, source)
    write(lab, *LISTED[10:])
    assert run(lab)["changed"]
    assert heard(lab, LISTED[9])
    assert not heard(lab, LISTED[10])


HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "$(touch /tmp/owned)",
    "`reboot`",
    "; touch /tmp/owned",
    "create sipguard-trusted4 hash:net",
    "add sipguard-trusted4 198.18.201.1",
    "flush",
    "destroy",
    "quit",
    "198.18.201.2 nomatch",
    "198.18.201.2\x00",
    "-A INPUT -j ACCEPT",
    "COMMIT",
    "localhost",
    "example.com",
    "010.001.001.001",
    "::ffff:198.18.201.3",
    "198.18.201.4/24",
    "A" * (1 << 20),
    "198.18.201.5" + " " * (1 << 20) + "-198.18.201.6",
]


def test_hostile_lines_are_counted_and_shown_and_never_loaded(pbx: Lab) -> None:
    lab = pbx
    write(lab, *HOSTILE, *LISTED)
    result = run(lab)
    # What begins with a semicolon is a comment.
    assert (result["entries"], result["accepted"]["junk"]) == (100, len(HOSTILE) - 1)
    assert result["members"]["sipguard-blocked6"] == 0
    assert lab.sets().count("add sipguard-") == result["members"]["sipguard-blocked4"]
    for example in result["accepted"]["examples"]:
        assert len(example["text"]) <= 80
        assert example["text"].isascii()
        assert example["text"].isprintable()
    (warning,) = [str(found) for found in result["warnings"] if FEED in str(found)]
    assert f"{len(HOSTILE) - 1} lines are junk" in warning
    assert "\x1b" not in warning
    assert len(warning) < 1000
    for number in range(1, 7):
        assert heard(lab, f"198.18.201.{number}")
    assert not heard(lab, LISTED[0])
    assert not run(lab)["changed"]
    assert "add sipguard-trusted" not in lab.sets()


UNBELIEVABLE: dict[str, tuple[str, str]] = {
    "empty": ("", "is empty"),
    "comments": ("# maintenance\n", "is empty"),
    "html": ("<!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>\n", "is a page or a document"),
    "html_with_addresses": ("<html>\n" + "\n".join(LISTED), "is a page or a document"),
    "json": ('{"error": "rate limit"}\n', "is a page or a document"),
    "words": ("Too many requests\nTry again later\n", "is mostly junk"),
    "mostly_junk": ("\n".join([*LISTED[:40], *(f"junk{number}" for number in range(41))]), "is mostly junk"),
    "shrunk": ("\n".join(LISTED[:49]), "shrinks from 100 to 49 entries"),
    "grown": (
        "\n".join(f"9.0.{high}.{low}" for high in range(2) for low in range(76)),
        "grows from 100 to 152 entries",
    ),
    "private": ("\n".join(f"10.0.0.{number}" for number in range(100)), "has nothing that may be blocked"),
    "everything": (
        "\n".join(f"{number}.{half}.0.0/9" for number in range(1, 75) for half in (0, 128)),
        "more than one 8th",
    ),
}


def test_feed_that_is_not_to_be_believed_changes_nothing(pbx: Lab) -> None:
    lab = pbx
    write(lab, *LISTED)
    run(lab)
    for name, (text, said) in UNBELIEVABLE.items():
        lab.pbx.run("tee", FEED, stdin=text)
        message = lab.refused(MODULE, name="feed", feed=FEED)
        assert said in message, name
        assert FEED in message, name
        assert "nothing was changed" in message, name
    for script, said in (
        ("rm", "No such file"),
        ("mkdir", "no ordinary file"),
        ("rmdir", ""),
        ("mkfifo", "no ordinary file"),
    ):
        lab.pbx.run(script, FEED)
        if said:
            assert said in lab.refused(MODULE, name="feed", feed=FEED)
    lab.pbx.run("rm", FEED)
    assert not heard(lab, LISTED[0])
    assert heard(lab, "198.18.200.100")
    write(lab, *LISTED[:49])
    assert run(lab, max_change=0)["changed"]
    assert heard(lab, LISTED[50])


def test_large_feed_is_loaded_and_an_unchanged_one_writes_nothing(pbx: Lab) -> None:
    """Mostly single addresses, as feeds are, with networks of every length among them."""
    lab = pbx
    singles = [f"{11 + number % 80}.{number >> 13}.{number >> 5 & 255}.{number & 31}" for number in range(LARGE - 480)]
    nets = [f"{130 + place}.{length}.0.0/{length}" for place in range(30) for length in range(17, 33)]
    write(lab, *singles, *nets)
    result = run(lab)
    assert result["entries"] == len({*singles, *nets}) == LARGE
    members = result["members"]["sipguard-blocked4"]
    assert members > 50_000
    for word in (singles[0], singles[-1], "130.17.0.1", "155.24.0.255", "150.32.0.0"):
        assert lab.member("sipguard-blocked", word), word
    for word in ("8.8.8.8", "130.17.128.0", "155.24.1.0", "150.32.0.1"):
        assert not lab.member("sipguard-blocked", word), word
    lengths = {line.partition("/")[2] for line in lab.sets().splitlines() if line.startswith("add sipguard-blocked4 ")}
    assert len(lengths) <= 4
    before = kept(lab)
    again = run(lab)
    assert not again["changed"]
    assert again["members"] == result["members"]
    assert kept(lab) == before
    write(lab, *singles[100:], *nets, *LISTED)
    changed = run(lab)
    assert changed["changed"]
    assert not lab.member("sipguard-blocked", singles[0])
    assert lab.member("sipguard-blocked", LISTED[0])
    assert "sipguard-blocked4-new" not in lab.sets()
    # By another list: the sets are made of both.
    lab.apply(MODULE, name="small", sources=["203.0.113.9"])
    assert lab.member("sipguard-blocked", "203.0.113.9")
    assert lab.member("sipguard-blocked", LISTED[0])


class Talkers(threading.Thread):
    """Sources that never stop speaking."""

    def __init__(self, lab: Lab, sources: dict[str, str]) -> None:
        super().__init__()
        self.sent = 0
        self._flows = {
            token: lab.attacker.udp(6 if ":" in source else 4, source=source) for source, token in sources.items()
        }
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.wait(0.002):
            for token, flow in self._flows.items():
                # No request, so that nobody answers, and each can be told from all others.
                flow.send(f"{token} {self.sent}.".encode())
            self.sent += 1

    def stop(self) -> None:
        self._enough.set()
        self.join()


def test_no_packet_is_judged_against_half_a_set(pbx: Lab) -> None:
    """Fifty changes, by turns of the entries before and behind the one that is listed all the time."""
    lab = pbx
    always = {4: "198.18.200.7", 6: "2001:db8:bad::f07"}
    never = {4: "198.18.201.7", 6: "2001:db8:bad::e07"}
    filler = [f"9.{number >> 8}.{number & 255}.1" for number in range(3000)]
    write(lab, *filler, *always.values())
    run(lab)
    mark = f"z{os.getpid()}-"
    tokens = {source: f"{mark}always{version}" for version, source in always.items()}
    tokens |= {source: f"{mark}never{version}" for version, source in never.items()}
    talkers = Talkers(lab, tokens)
    talkers.start()
    try:
        for number in range(50):
            write(
                lab,
                *filler[number * 50 :: 1 + number % 2],
                *always.values(),
                *(f"9.200.{number}.{low}" for low in range(100)),
            )
            assert run(lab, max_change=0)["changed"]
    finally:
        talkers.stop()
    lab.barrier()
    assert talkers.sent > 500
    records = lab.sink.all()
    for version in (4, 6):
        last = f"{tokens[never[version]]} {talkers.sent - 1}.".encode()
        assert lab.sink.wait(last)
        wanted = {f"{tokens[never[version]]} {number}.".encode() for number in range(talkers.sent)}
        found = {record.payload for record in records if record.source == never[version]}
        assert wanted <= found, len(wanted - found)
        assert not [record for record in records if record.source == always[version]]
