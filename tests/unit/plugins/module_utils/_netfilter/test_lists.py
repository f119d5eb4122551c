# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import lists as module
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.lists import (
    Accepted,
    Criteria,
    Entry,
    Lists,
    NamedList,
    accept,
    check_coverage,
    check_growth,
    check_name,
    check_plausible,
    check_size_change,
    diff_text,
    shown,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError

# -- one list, and its file

line_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
words = st.sampled_from(["192.0.2.7", "198.51.100.0/24", "203.0.113.4-203.0.113.9", "2001:db8::/48"])
entries = st.builds(Entry, words, st.integers(0, 2**40), line_text)
named_lists = st.builds(
    NamedList,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}\Z"),
    kind=st.sampled_from(["static", "feed"]),
    source=st.text(),
    mode=st.sampled_from(["enforce", "observe"]),
    updated=st.integers(0, 2**40),
    digest=st.text(),
    never=st.lists(words, max_size=3).map(tuple),
    allow_private=st.booleans(),
    report=st.dictionaries(st.text(), st.integers() | st.text(), max_size=3),
)


@given(entries)
def test_entry_render_and_parse_are_inverses(entry: Entry) -> None:
    line = entry.render()
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    assert Entry.parse(line[:-1]) == entry


def _writable(named: NamedList) -> bool:
    """Whether its texts can be in a file at all: a lone surrogate cannot."""
    try:
        named.render().encode()
    except UnicodeEncodeError:
        return False
    return True


@given(named_lists, st.lists(entries, max_size=5))
def test_list_render_and_parse_are_inverses(named: NamedList, found: list[Entry]) -> None:
    made = named.with_entries(found)
    assert _writable(made)
    assert NamedList.parse(made.render()) == made
    assert list(made.entries()) == found
    assert made.count == len(found)


WHOLE = NamedList("voipbl", "feed", "https://voipbl.org/update/", updated=7, never=("192.0.2.1",)).with_entries(
    [Entry("192.0.2.7"), Entry("198.51.100.0/24", 1800000000), Entry("203.0.113.4-203.0.113.9", 0, "scans every night")]
)
TEXT = WHOLE.render()


@given(st.integers(0, len(TEXT) - 1))
def test_cut_file_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"missing|changed"):
        NamedList.parse(TEXT[:size])


@given(st.integers(0, len(TEXT) - 1), st.characters(max_codepoint=126))
def test_changed_file_is_refused(place: int, character: str) -> None:
    changed = TEXT[:place] + character + TEXT[place + 1 :]
    if changed != TEXT:
        with pytest.raises(ValueError, match=r"missing|changed"):
            NamedList.parse(changed)


@pytest.mark.parametrize(
    "text", ["", "\n", "# end\n", "# end \n", "\0" * 4096, "192.0.2.7\n", TEXT + TEXT, TEXT + "\n", TEXT[1:]]
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"missing|changed"):
        NamedList.parse(text)


def _sealed(meta: object, body: str) -> str:
    text = f"{TEXT.splitlines(keepends=True)[0]}# {json.dumps(meta)}\n{body}"
    return f"{text}# end {module._digest(text)}\n"


META = json.loads(TEXT.splitlines()[1][2:])


@pytest.mark.parametrize(
    "meta",
    [
        {**META, "count": 2},
        {**META, "colour": "red"},
        {},
        [],
        7,
        {**META, "never": 7},
        {**META, "body": "x", "name": None, "a": 1},
    ],
    ids=["count", "more", "nothing", "list", "number", "never", "body"],
)
def test_whole_file_of_another_release_is_refused(meta: object) -> None:
    assert NamedList.parse(_sealed(META, WHOLE.body)) == WHOLE
    with pytest.raises(ValueError, match=r"Error|entries"):
        NamedList.parse(_sealed(meta, WHOLE.body))


def test_fingerprint_is_of_everything() -> None:
    changes: list[dict[str, Any]] = [
        {"name": "x"},
        {"mode": "observe"},
        {"never": ()},
        {"allow_private": True},
        {"updated": 8},
        {"body": ""},
    ]
    prints = {WHOLE.fingerprint, *(replace(WHOLE, **change).fingerprint for change in changes)}
    assert len(prints) == len(changes) + 1


@pytest.mark.parametrize(
    ("now", "left"),
    [(1799999999, [0, 1, 2]), (1800000000, [0, 2]), (2**40, [0, 2])],
)
def test_unexpired_leaves_what_lasts(now: int, left: list[int]) -> None:
    found = list(WHOLE.entries())
    lasting = WHOLE.unexpired(now)
    assert list(lasting.entries()) == [found[place] for place in left]
    assert lasting.count == len(left)
    assert (lasting is WHOLE) is (len(left) == 3)


# -- the directory


@pytest.fixture
def store(tmp_path: Path) -> Lists:
    return Lists(str(tmp_path / "lib/lists"))


def test_written_list_is_read_again_and_private(store: Lists) -> None:
    assert (store.names(), store.read("voipbl"), store.read_all()) == ([], None, ({}, []))
    store.write(WHOLE)
    store.write(replace(WHOLE, name="a.b"))
    assert store.names() == ["a.b", "voipbl"]
    assert store.read("voipbl") == WHOLE
    assert store.read_all() == ({"a.b": replace(WHOLE, name="a.b"), "voipbl": WHOLE}, [])
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in store.directory.iterdir()} == {0o600}
    store.put("a.b", None)
    store.put("a.b", None)
    assert store.names() == ["voipbl"]
    store.clear()
    assert store.names() == ["voipbl"]
    store.remove("voipbl")
    store.clear()
    assert not store.directory.exists()
    store.clear()


def _overwrite(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": _overwrite(TEXT[:-40].encode()),
    "empty": _overwrite(b""),
    "edited": _overwrite(TEXT.replace("192.0.2.7", "0.0.0.0").encode()),
    "added": _overwrite(TEXT.replace("192.0.2.7\n", "192.0.2.7\n192.0.2.8\n").encode()),
    "bytes": _overwrite(bytes(range(256)) * 16),
    "latin1": _overwrite(TEXT.encode() + b"\xe4\n"),
    "other_name": _overwrite(replace(WHOLE, name="apiban").render().encode()),
    "hostile_name": _overwrite(replace(WHOLE, name="\x1b[2J../../etc/passwd").render().encode()),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_list_is_said_and_costs_no_other(store: Lists, name: str) -> None:
    other = replace(WHOLE, name="other")
    store.write(WHOLE)
    store.write(other)
    DAMAGE[name](store.directory / "voipbl")
    with pytest.raises(SipguardError, match=r"^the list voipbl is damaged .*lists/voipbl: .* writes it anew$") as said:
        store.read("voipbl")
    assert "\x1b" not in str(said.value)
    found, errors = store.read_all()
    assert found == {"other": other}
    assert errors == [str(said.value)]
    store.write(WHOLE)
    assert store.read_all() == ({"other": other, "voipbl": WHOLE}, [])


def test_other_things_in_the_directory_are_left_alone(store: Lists) -> None:
    store.write(WHOLE)
    (store.directory / "folder").mkdir()
    (store.directory / ".hidden").write_text("")
    (store.directory / "a b").write_text("")
    (store.directory / "nothing").symlink_to("/nonexistent")
    assert store.names() == ["voipbl"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", ".x", "-x", "a b", "ä", "a\n", "a\0", "x" * 65, "%s", "*"]
)
def test_name_that_is_no_file_name_is_refused(store: Lists, name: str) -> None:
    with pytest.raises(OptionError, match="letters, digits"):
        check_name(name)
    for act in (store.read, store.remove):
        with pytest.raises(OptionError):
            act(name)
    with pytest.raises(OptionError):
        store.write(replace(WHOLE, name=name))


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "x" * 64, "voipbl.new"])
def test_name_is_taken(name: str) -> None:
    assert check_name(name) == name


def test_list_that_cannot_be_written_is_what_it_was(store: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(WHOLE)

    def full(dummy: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(SipguardError, match=r"^cannot write .*lists/voipbl: .*No space left"):
            store.write(replace(WHOLE, mode="observe"))
    assert store.read("voipbl") == WHOLE
    assert [path.name for path in store.directory.iterdir()] == ["voipbl"]


def test_leftover_of_a_killed_run_goes_with_the_list(store: Lists) -> None:
    store.write(WHOLE)
    (store.directory / ".voipbl.new").write_text("half")
    assert store.names() == ["voipbl"]
    store.write(WHOLE)
    assert [path.name for path in store.directory.iterdir()] == ["voipbl"]
    (store.directory / ".voipbl.new").write_text("half")
    store.remove("voipbl")
    assert list(store.directory.iterdir()) == []


# -- what is accepted


TAKEN = {
    "192.0.2.7": "192.0.2.7",
    "  192.0.2.7\t": "192.0.2.7",
    "192.0.2.7\r": "192.0.2.7",
    "\ufeff192.0.2.7": "192.0.2.7",
    "192.0.2.7 # said somebody": "192.0.2.7",
    "192.0.2.7;SBL1": "192.0.2.7",
    "192.0.2.7:5060": "192.0.2.7",
    "[2001:db8:1::7]:5060": "2001:db8:1::7",
    "[2001:DB8:1::7]:5060 # x": "2001:DB8:1::7",
    "192.0.2.0/24": "192.0.2.0/24",
    "192.0.2.0/255.255.255.0": "192.0.2.0/255.255.255.0",
    "192.0.2.4 - 192.0.2.9": "192.0.2.4 - 192.0.2.9",
    "2001:db8::/32 ; a comment": "2001:db8::/32",
}
NOTHING = ["", "   ", "\t\r", "# 192.0.2.7", ";192.0.2.7", "// 192.0.2.7", "\ufeff", "\ufeff# x", "  # x"]
JUNK = [
    "example.com",
    "010.0.0.1",
    "192.0.2.256",
    "192.0.2.7 192.0.2.8",
    "192.0.2.7,192.0.2.8",
    "192.0.2.7:99999999",
    "192.0.2.7:",
    "2001:db8::1]:5060",
    "[192.0.2.7]",
    "fe80::1%eth0",
    "::ffff:8.8.8.8",
    "\x1b[2J\x1b]0;owned\x07",
    "\x1b[31m8.8.8.8\x1b[0m",
    "$(reboot)",
    "`reboot`",
    "8.8.8.8$(reboot)",
    "8.8.8.8\x00",
    "8.8.8.8|x",
    "-exist",
    "create sipguard-blocked4 hash:ip",
    "add sipguard-trusted4 8.8.8.8",
    "flush",
    "add sipguard-blocked4-new 0.0.0.0/1 nomatch",
    "8.8.8.8 nomatch",
    "8.8.8.8 timeout 0",
    "*filter",
    "-A INPUT -j ACCEPT",
    "<html><head><title>502 Bad Gateway</title></head>",
    '{"ipaddress": ["8.8.8.8"]}',
    '"8.8.8.8"',
    "8.8.8.8\u202e",
    "\ud8008.8.8.8",
    "A" * (1 << 20),
    "8.8.8.8" * (1 << 17),
    "8.8.8.8" + " " * (1 << 20) + "-8.8.8.9",
]


@pytest.mark.parametrize("line", TAKEN, ids=ascii)
def test_accept_takes(line: str) -> None:
    found = accept([line], Criteria())
    assert (list(found.words), found.junk, found.refused) == ([TAKEN[line]], 0, 0)


@pytest.mark.parametrize("line", NOTHING, ids=ascii)
def test_accept_passes_over(line: str) -> None:
    assert accept([line], Criteria()) == Accepted()


@pytest.mark.parametrize("line", JUNK, ids=lambda line: ascii(line[:40]))
def test_accept_counts_and_shows_junk_and_takes_none_of_it(line: str) -> None:
    found = accept(["192.0.2.7", line, "192.0.2.8"], Criteria())
    assert list(found.words) == ["192.0.2.7", "192.0.2.8"]
    assert (found.junk, found.refused) == (1, 0)
    (example,) = found.examples
    assert example["line"] == 2
    assert len(example["text"]) <= 80
    assert example["text"].isascii()
    assert example["text"].isprintable()
    assert example["why"]


@given(st.lists(st.text() | st.sampled_from([*TAKEN, *JUNK[:30]]), max_size=8))
def test_accepted_words_are_what_may_be_in_a_file(lines: list[str]) -> None:
    found = accept(lines, Criteria(allow_private=True))
    made = NamedList("x").with_words(found.words)
    assert NamedList.parse(made.render()) == made
    assert [entry.word for entry in made.entries()] == list(found.words)
    assert all(word.isascii() and word.isprintable() for word in found.words)


def test_accept_shows_the_first_and_counts_all() -> None:
    found = accept([f"junk{number}" for number in range(1000)], Criteria())
    assert found.junk == 1000
    assert [example["line"] for example in found.examples] == list(range(1, 11))
    assert found.summary()["junk"] == 1000


@pytest.mark.parametrize("line", ["junk", "10.0.0.1", "8.0.0.0/8"])
def test_accept_gives_up_on_what_is_nothing_but_junk(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty megabytes of it would keep a small host busy for an hour."""
    monkeypatch.setattr(module, "_MAX_JUNK", 3)
    assert accept([*["192.0.2.7", line] * 3], Criteria()).words == {"192.0.2.7": None}
    with pytest.raises(SipguardError, match=r"^it has more than 3 lines that cannot be blocked; nothing was changed$"):
        accept([*["192.0.2.7", line] * 4, ""], Criteria())
    assert accept(["#", "", "192.0.2.7"] * 9, Criteria()).words == {"192.0.2.7": None}


def test_accept_takes_each_once_in_order() -> None:
    found = accept(["192.0.2.9", "192.0.2.7", "192.0.2.9", "192.0.2.9:5060", "192.0.2.7 # x"], Criteria())
    assert list(found.words) == ["192.0.2.9", "192.0.2.7"]
    assert (found.junk, found.refused) == (0, 0)


WIDTHS: list[tuple[str, Criteria, str]] = [
    ("8.0.0.0/8", Criteria(), "wider than /9"),
    ("8.0.0.0/255.0.0.0", Criteria(), "wider than /9"),
    ("0.0.0.0/0", Criteria(), "wider than /9"),
    ("0.0.0.0-255.255.255.255", Criteria(), "wider than /9"),
    ("0.0.0.0/0", Criteria(1, 1, True), "wider than /1"),
    ("8.0.0.0-8.255.255.255", Criteria(), "wider than /9"),
    ("7.255.255.255-9.0.0.0", Criteria(), "wider than /9"),
    ("8.0.0.0/9", Criteria(), "large"),
    ("8.0.0.1-8.127.255.255", Criteria(), "large"),
    ("8.8.0.0/16", Criteria(), "large"),
    ("8.8.0.0/17", Criteria(), ""),
    ("8.8.0.0/17", Criteria(24), "wider than /24"),
    ("8.8.8.0/24", Criteria(24), ""),
    ("8.8.8.8", Criteria(32), ""),
    ("8.8.8.8-8.8.8.9", Criteria(32), "wider than /32"),
    ("8.8.8.8-8.8.8.8", Criteria(32), ""),
    ("2a00::/19", Criteria(), "wider than /20"),
    ("::/0", Criteria(1, 1, True), "wider than /1"),
    ("2a00::-2a00:1fff:ffff:ffff:ffff:ffff:ffff:ffff", Criteria(), "wider than /20"),
    ("2a00::/20", Criteria(), "large"),
    ("2a00::/32", Criteria(), "large"),
    ("2a00::/33", Criteria(), ""),
    ("2a00::/33", Criteria(9, 48), "wider than /48"),
    ("2a00::1", Criteria(9, 128), ""),
]


@pytest.mark.parametrize(("word", "criteria", "why"), WIDTHS)
def test_accept_looks_at_the_width(word: str, criteria: Criteria, why: str) -> None:
    found = accept([word], criteria)
    refused = why.startswith("wider")
    assert (list(found.words), found.refused, found.junk) == ([] if refused else [word], int(refused), 0)
    assert found.wide == (why == "large")
    assert [why in example["why"] for example in found.examples] == ([True] if why else [])


PRIVATE = [
    "10.0.0.1",
    "10.0.0.0/24",
    "127.0.0.1",
    "192.168.1.0/24",
    "172.16.0.0-172.16.0.9",
    "100.64.0.1",
    "169.254.1.1",
]
PRIVATE += [
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "240.0.0.0/16",
    "::1",
    "fe80::1",
    "fd00::/48",
    "ff02::1",
    "64:ff9b::1",
]


@pytest.mark.parametrize("word", PRIVATE)
def test_accept_refuses_private_and_reserved(word: str) -> None:
    found = accept([word], Criteria())
    assert (list(found.words), found.refused, found.junk) == ([], 1, 0)
    assert found.examples == [{"line": 1, "text": word, "why": "private or reserved"}]
    assert list(accept([word], Criteria(allow_private=True)).words) == [word]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, 20), "min_prefix: 0"),
        ((33, 20), "min_prefix: 33"),
        ((9, 0), "min_prefix_ipv6: 0"),
        ((9, 129), "min_prefix_ipv6: 129"),
    ],
)
def test_criteria_are_prefix_lengths(arguments: tuple[int, int], said: str) -> None:
    with pytest.raises(OptionError, match=f"^{said} cannot be used; a prefix length from 1 to"):
        Criteria(*arguments)


# -- what is no list as a whole


@pytest.mark.parametrize(
    ("given_words", "said"),
    [
        ([f"{number}.0.0.0/9" for number in range(1, 64)], ""),
        ([f"{number}.{half}.0.0/9" for number in range(1, 34) for half in (0, 128)], "more than one 8th of all IPv4"),
        (["0.0.0.0/3"], ""),
        (["0.0.0.0/3", "64.0.0.0-64.0.0.1"], "more than one 8th of all IPv4"),
        (["2000::/6"], ""),
        (["2000::/6", "2400::/127"], "more than one 64th of all IPv6"),
        (["8.0.0.0/9"] * 100, ""),
    ],
)
def test_coverage(given_words: list[str], said: str) -> None:
    if said:
        with pytest.raises(SipguardError, match=f"^a feed would block {said} addresses; nothing was changed$"):
            check_coverage(given_words, "a feed")
    else:
        check_coverage(given_words, "a feed")


def test_ranges_that_come_to_too_many_networks_are_refused() -> None:
    """Each of these is written in forty characters, and costs the kernel a hundred and twenty-six entries."""
    bombs = [f"2a00:0:{number:x}::1-2a00:0:{number:x}:0:ffff:ffff:ffff:fffe" for number in range(8100)]
    check_coverage(bombs[:7900], "a feed")
    with pytest.raises(
        SipguardError, match=r"^a feed has more than 1000000 entries, and is no list of attackers; nothing"
    ):
        check_coverage(bombs, "a feed")


def test_feed_of_more_entries_than_a_host_has_memory_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ENTRIES", 3)
    few = [f"192.0.2.{number}" for number in range(3)]
    assert len(accept([*few, *few], Criteria()).words) == 3
    check_coverage(few, "a feed")
    with pytest.raises(SipguardError, match="is no list of attackers"):
        accept([*few, "192.0.2.3"], Criteria())
    with pytest.raises(SipguardError, match="is no list of attackers"):
        check_coverage([*few, "192.0.2.3"], "sources")


PLAUSIBLE: dict[str, tuple[str, str]] = {
    "list": ("# a list\n192.0.2.7\n", ""),
    "half_junk": ("192.0.2.7\njunk\n", ""),
    "refused_too": ("192.0.2.7\n10.0.0.1\njunk\njunk2\n", ""),
    "bracketed": ("[2001:db8:1::7]:5060\n", ""),
    "empty": ("", "is empty"),
    "blank": ("\n\n  \r\n", "is empty"),
    "comments": ("# nothing today\n; really\n", "is empty"),
    "page": ("<!DOCTYPE html>\n<p>192.0.2.7\n192.0.2.8\n192.0.2.9\n", "is a page or a document"),
    "page_behind_blanks": ("\ufeff \r\n<html>\n192.0.2.8\n192.0.2.9\n192.0.2.10\n", "is a page or a document"),
    "json": ("{\n192.0.2.7\n192.0.2.8\n192.0.2.9\n", "is a page or a document"),
    "json_array": ('["192.0.2.7",\n "192.0.2.8"]\n', "is mostly junk (2 lines, line 1: "),
    "error": ("Too many requests\n", "is mostly junk (1 lines, line 1: Too many requests: a name, or a word)"),
    "mostly_junk": ("192.0.2.7\nx\ny\n", "is mostly junk (2 lines, line 2: x: a name, or a word)"),
    "all_private": ("10.0.0.1\n10.0.0.2\n", "has nothing that may be blocked (line 1: 10.0.0.1: private or reserved)"),
    "all_wide": ("8.0.0.0/8\n", "has nothing that may be blocked (line 1: 8.0.0.0/8: wider than /9)"),
}


@pytest.mark.parametrize("name", PLAUSIBLE)
def test_plausible(name: str) -> None:
    text, said = PLAUSIBLE[name]
    found = accept(text.splitlines(), Criteria())
    if not said:
        check_plausible("the feed x", text, found)
        return
    with pytest.raises(SipguardError) as error:
        check_plausible("the feed x", text, found)
    assert str(error.value).startswith(f"the feed x {said}")
    assert str(error.value).endswith("; nothing was changed")


@pytest.mark.parametrize(
    ("before", "after", "limit", "verb"),
    [
        (0, 100000, 50, ""),
        (100, 150, 50, ""),
        (100, 50, 50, ""),
        (100, 151, 50, "grows from 100 to 151"),
        (100, 49, 50, "shrinks from 100 to 49"),
        (100, 0, 99, "shrinks from 100 to 0"),
        (100, 100000, 0, ""),
        (3, 4, 33, "grows from 3 to 4"),
        (3, 4, 34, ""),
        (100, 100, 1, ""),
        (1, 3, 200, ""),
    ],
)
def test_size_change(before: int, after: int, limit: int, verb: str) -> None:
    if not verb:
        check_size_change("the feed x", before, after, limit)
        return
    with pytest.raises(SipguardError, match=f"^the feed x {verb} entries, by more than {limit} %; nothing was changed"):
        check_size_change("the feed x", before, after, limit)


@given(st.text())
def test_shown_is_short_printable_ascii(text: str) -> None:
    found = shown(text)
    assert len(found) <= 80
    assert found.isascii()
    assert found == "" or found.isprintable()


# -- diff


def test_diff_text_shows_what_comes_and_goes() -> None:
    after = replace(WHOLE, mode="observe").with_entries([Entry("192.0.2.7"), Entry("192.0.2.8")])
    head = "list voipbl: {} entries from https://voipbl.org/update/, mode {}\n"
    gone = "  198.51.100.0/24\t1800000000\n  203.0.113.4-203.0.113.9\t0\tscans every night\n"
    assert diff_text(WHOLE, after) == (head.format(3, "enforce") + gone, head.format(2, "observe") + "  192.0.2.8\n")
    assert diff_text(None, after)[0] == ""
    assert diff_text(after, None)[1] == ""
    assert diff_text(WHOLE, WHOLE) == diff_text(None, None) == ("", "")


def test_diff_text_is_not_longer_than_somebody_reads() -> None:
    many = WHOLE.with_words([f"192.0.2.{number}" for number in range(100)])
    dummy, text = diff_text(None, many, 3)
    assert text.splitlines()[1:] == ["  192.0.2.0", "  192.0.2.1", "  192.0.2.2", "  and 97 more"]


@pytest.mark.parametrize(
    ("known", "addresses", "max_change", "refused"),
    [
        (1000, 70_000_000, 50, True),
        (1000, 70_000_000, 0, False),
        (1000, 900_000, 50, False),  # still little
        (60_000_000, 120_000_000, 50, False),  # still the same kind of list
        (0, 120_000_000, 50, False),  # nothing to be compared with
    ],
)
def test_list_that_blocks_a_multiple_of_the_addresses(
    known: int, addresses: int, max_change: int, refused: bool
) -> None:
    with pytest.raises(SipguardError, match="--accept-change") if refused else contextlib.nullcontext():
        check_growth("the feed x", {"addresses": known}, addresses, max_change)


def test_coverage_counts_ipv4_addresses() -> None:
    words = ["192.0.2.1", "192.0.2.0/24", "198.51.100.0-198.51.100.9", "2001:db8::/32", "2001:db9::1"]
    assert check_coverage(words[1:], "it") == 256 + 10
    assert check_coverage(["203.0.113.5", *words[2:]], "it") == 1 + 10
