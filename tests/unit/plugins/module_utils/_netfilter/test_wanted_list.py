# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.lists import Entry, NamedList
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.wanted_list import Wanted, read_options
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.range_presets import RANGE_PRESETS, range_preset

DEFAULTS: dict[str, Any] = {
    "state": "present",
    "name": "hosters",
    "sources": None,
    "presets": None,
    "feed": None,
    "mode": "enforce",
    "never": [],
    "min_prefix": 9,
    "min_prefix_ipv6": 20,
    "max_change": 50,
    "allow_private": False,
}


def wanted(live: NamedList | None = None, **options: Any) -> Wanted:
    if isinstance(options.get("feed"), Path):
        options["feed"] = str(options["feed"])
    return read_options({**DEFAULTS, **options}, live)


def named(live: NamedList | None = None, **options: Any) -> NamedList:
    found = wanted(live, **options).named
    assert found is not None
    return found


# -- sources


def test_sources_become_entries_as_they_are_written() -> None:
    sources: Sequence[object] = [
        " 192.0.2.7 ",
        {"value": "198.51.100.0/255.255.255.0", "note": "scans  every\tnight\n"},
        {"value": "203.0.113.4 - 203.0.113.9"},
        "192.0.2.7",
        {"value": "2001:db8::/48", "note": None},
    ]
    found = wanted(sources=sources, mode="observe", never=[" 192.0.2.9 ", "192.0.2.9"])
    assert found.warnings == []
    assert found.named is not None
    assert list(found.named.entries()) == [
        Entry("192.0.2.7"),
        Entry("198.51.100.0/255.255.255.0", 0, "scans every night"),
        Entry("203.0.113.4 - 203.0.113.9"),
        Entry("2001:db8::/48"),
    ]
    kept = found.named
    assert (kept.kind, kept.mode, kept.never, kept.count) == ("static", "observe", ("192.0.2.9",), 4)
    assert kept.updated > 1_700_000_000


def test_no_sources_is_a_list_too() -> None:
    assert named(sources=[]).count == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("example.com", "a name, or a word"),
        ("010.0.0.1", "octal"),
        ("8.8.8.8/24", "behind the prefix"),
        ("8.0.0.0/8", "wider than /9"),
        ("", "not an address"),
        ("192.0.2.7\n192.0.2.8", "not an address"),
        ("192.0.2.4\n-\n192.0.2.9", "not an address"),
        ("192.0.2.4\t-192.0.2.9", "not an address"),
        (7, "no text"),
        (None, "no text"),
        ([7], "no text"),
        ([["192.0.2.7", None]], "no text"),
        ({"value": ["192.0.2.7", 7]}, "no text"),
        ({}, "a dictionary with 'value', a source or a list of them"),
        ({"note": "x"}, "a dictionary with 'value', a source or a list of them"),
        ({"value": 7}, "a dictionary with 'value', a source or a list of them"),
        ({"value": "192.0.2.7", "reason": "x"}, "a dictionary with 'value', a source or a list of them"),
        ({"value": "192.0.2"}, "not an address"),
    ],
)
def test_source_that_is_none_is_refused(source: object, said: str) -> None:
    with pytest.raises(OptionError, match=r"^sources: .* cannot be used; .* would be right") as error:
        wanted(sources=["192.0.2.7", source])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("word", ["10.0.0.1", "fe80::1", "192.168.0.0/24"])
def test_private_source_is_left_out_and_said(word: str) -> None:
    found = wanted(sources=["192.0.2.7", word])
    assert found.named is not None
    assert [entry.word for entry in found.named.entries()] == ["192.0.2.7"]
    assert found.warnings == [f"sources: {word} was left out: it is private or reserved (allow_private would take it)"]
    kept = wanted(sources=["192.0.2.7", word], allow_private=True)
    assert kept.warnings == []
    assert kept.named is not None
    assert kept.named.allow_private
    assert kept.named.count == 2


def test_large_source_is_taken_and_reported() -> None:
    found = wanted(sources=["8.8.0.0/16", "20.33.0.0-20.128.255.255", "8.9.0.0/24"])
    assert found.named is not None
    assert found.named.report["wide"] == 2
    assert found.warnings == []


def test_sources_that_are_half_the_internet_are_refused() -> None:
    with pytest.raises(SipguardError, match="sources would block more than one 8th"):
        wanted(sources=["0.0.0.0/1"], min_prefix=1)


@pytest.mark.parametrize("note", ["\x1b[31mred", "ä\u202e", "x" * 500, "a\tb\nc\x00d"])
def test_note_is_one_line_of_ascii(note: str) -> None:
    (entry,) = named(sources=[{"value": "192.0.2.7", "note": note}]).entries()
    assert entry.note
    assert entry.note.isascii()
    assert entry.note.isprintable()
    assert len(entry.note) <= 80


def test_sources_of_a_list_in_a_list() -> None:
    sources = [{"value": ["192.0.2.7", {"value": "192.0.2.8", "note": "mine"}], "note": "all"}, ["192.0.2.9"]]
    assert list(named(sources=sources).entries()) == [
        Entry("192.0.2.7", note="all"),
        Entry("192.0.2.8", note="mine"),
        Entry("192.0.2.9"),
    ]


@pytest.mark.parametrize("name", RANGE_PRESETS)
def test_every_preset_is_taken_whole_and_says_where_it_is_from(name: str) -> None:
    found = wanted(presets=[name], sources=["192.0.2.7"])
    assert found.warnings == []
    assert found.named is not None
    kept = list(found.named.entries())
    assert [entry.word for entry in kept] == [*dict.fromkeys(entry.value for entry in range_preset(name)), "192.0.2.7"]
    assert all(entry.note.startswith(f"{name}: ") for entry in kept[:-1])


def test_preset_that_nobody_knows_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^presets: 'all' cannot be used; one of "):
        wanted(presets=["all"])


@pytest.mark.parametrize(
    "change",
    [
        {"sources": ["192.0.2.8"]},
        {"sources": ["192.0.2.7", "192.0.2.8"]},
        {"sources": [{"value": "192.0.2.7", "note": "x"}]},
        {"mode": "observe"},
        {"never": ["192.0.2.9"]},
        {"allow_private": True},
    ],
)
def test_list_that_is_the_same_stays_as_it_is(change: dict[str, Any]) -> None:
    first = replace(named(sources=["192.0.2.7"]), updated=7)
    assert named(first, sources=["192.0.2.7"]) is first
    assert named(first, **{"sources": ["192.0.2.7"], **change}) != first


# -- options that cannot be


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"^sources: None cannot be used; a list of sources, or the file of a feed in 'feed', is needed$"),
        ({"sources": [], "name": "../x"}, r"^name: '../x' cannot be used"),
        ({"state": "absent", "name": ""}, r"^name: '' cannot be used"),
        ({"sources": [], "max_change": -1}, r"^max_change: -1 cannot be used"),
        ({"sources": [], "min_prefix": 0}, r"^min_prefix: 0 cannot be used"),
        ({"sources": [], "min_prefix_ipv6": 129}, r"^min_prefix_ipv6: 129 cannot be used"),
        ({"sources": [], "never": ["example.com"]}, r"^never: 'example.com' cannot be used; it is a name, or a word"),
        ({"sources": [], "never": ["8.8.8.8/24"]}, r"^never: '8.8.8.8/24' cannot be used; it is bits set behind"),
        (
            {"sources": [], "never": ["0.0.0.0/0"]},
            r"^never: '0.0.0.0/0' cannot be used; it means every address there is",
        ),
        ({"sources": [], "never": ["::/0"]}, r"^never: '::/0' cannot be used; it means every address there is"),
    ],
)
def test_bad_option_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        wanted(**options)


def test_absent_wants_no_list() -> None:
    assert wanted(state="absent") == Wanted()
    assert wanted(state="absent", name=None) == Wanted()


def test_list_that_the_host_fetches_is_not_taken_over() -> None:
    live = NamedList("voipbl", "feed", "https://voipbl.org/update/")
    with pytest.raises(
        OptionError, match=r"^name: 'voipbl' cannot be used; it is the list of a feed .*https://voipbl.org"
    ):
        wanted(live, name="voipbl", sources=[])
    assert wanted(live, name="voipbl", state="absent") == Wanted()


# -- a feed


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "feed.txt"
    found.write_text("# a list\r\n192.0.2.7\r\n198.51.100.0/24 ; x\n\n", encoding="utf-8-sig")
    return found


def test_feed_becomes_a_list(file: Path) -> None:
    found = wanted(feed=file)
    assert found.named is not None
    assert [entry.word for entry in found.named.entries()] == ["192.0.2.7", "198.51.100.0/24"]
    assert (found.named.kind, found.named.source, found.warnings) == ("feed", str(file), [])
    assert named(replace(found.named, updated=7), feed=file).updated == 7


def test_feed_that_has_not_changed_is_not_read_line_by_line(file: Path) -> None:
    """The body of the list that is there is taken; an option that sifts otherwise, and one that does not, are told apart."""
    live = replace(named(feed=file), body="203.0.113.1\n203.0.113.2\n")
    assert named(live, feed=file) is live
    assert named(live, feed=file, mode="observe").body == live.body
    assert "192.0.2.7" in named(live, feed=file, min_prefix=16).body
    assert "192.0.2.7" in named(live, feed=file, allow_private=True).body
    file.write_text("192.0.2.7\n192.0.2.8\n")
    assert named(live, feed=file).body == "192.0.2.7\n192.0.2.8\n"


def test_junk_in_a_feed_is_a_warning_each_time(file: Path) -> None:
    file.write_bytes(b"192.0.2.7\n192.0.2.8\n192.0.2.9\n\x1b[2J\n\xff\xfe\n10.0.0.1\n")
    found = wanted(feed=file)
    assert found.warnings == [
        f"feed: {file}: 2 lines are junk and 1 were refused, and are not loaded: line 4: \\x1b[2J (a name, or a word); "
        "line 5: \\\\xff\\\\xfe (a name, or a word); line 6: 10.0.0.1 (private or reserved)"
    ]
    again = wanted(found.named, feed=file)
    assert again == Wanted(found.named, found.warnings)


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "page": (b"<html><body>502 Bad Gateway</body></html>\n", "is a page or a document"),
    "junk": (b"one\ntwo\n192.0.2.7\n", "is mostly junk"),
    "utf16": ("192.0.2.7\n192.0.2.8\n".encode("utf-16"), "is mostly junk"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + bytes(range(200, 256)), "is mostly junk"),
    "grows": (b"".join(b"192.0.2.%d\n" % number for number in range(4)), "grows from 2 to 4"),
}


@pytest.mark.parametrize("name", ["empty", "page", "junk", "utf16", "gzip", "grows"])
def test_feed_that_is_not_to_be_believed_is_refused(file: Path, name: str) -> None:
    live = named(feed=file)
    content, said = REFUSED[name]
    file.write_bytes(content)
    with pytest.raises(SipguardError, match=said) as error:
        wanted(live, feed=file)
    assert "nothing was changed" in str(error.value)
    assert str(file) in str(error.value)


def test_max_change_is_for_feeds_and_what_was_there_before(file: Path) -> None:
    live = named(feed=file)
    file.write_bytes(REFUSED["grows"][0])
    assert named(None, feed=file).count == 4
    assert named(live, feed=file, max_change=0).count == 4
    assert named(live, feed=file, max_change=100).count == 4
    assert named(live, sources=[f"192.0.2.{number}" for number in range(9)]).count == 9


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_pipe, _device, _folder])
def test_feed_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "feed")
    with pytest.raises(OptionError, match=r"^feed: '.*' cannot be used; it is no ordinary file; a file on the host"):
        wanted(feed=tmp_path / "feed")


@pytest.mark.parametrize("path", ["/nonexistent/feed", "/etc/passwd/feed", "\0", "x" * 300])
def test_feed_that_is_missing_is_refused(path: str) -> None:
    with pytest.raises(
        OptionError, match=r"cannot be used; it cannot be read \(.+\); a file on the host would be right"
    ):
        wanted(feed=path)


def test_feed_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    huge = tmp_path / "feed"
    with huge.open("wb") as handle:
        handle.truncate(1 << 40)
    with pytest.raises(SipguardError, match="has more than 67108864 bytes; nothing was changed"):
        wanted(feed=huge)
