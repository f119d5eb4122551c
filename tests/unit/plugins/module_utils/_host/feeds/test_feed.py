# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds as options and as the file feeds.json."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.feed import KINDS, Feed, parse, read_feed, render
from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.protocols import Memory
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError

LIST = {"name": "ours", "kind": "url", "url": "https://lists.example.org/sip.txt"}
APIBAN = {"name": "apiban", "kind": "apiban"}


@pytest.mark.parametrize(
    ("kind", "url", "every", "keep_for", "api", "dataset"),
    [
        ("voipbl", "https://voipbl.org/update/", 21600, 0, 0, ""),
        ("apiban", "https://apiban.org/api/", 600, 604800, 2, "sip"),
        ("blocklist_de", "https://lists.blocklist.de/lists/sip.txt", 7200, 0, 0, ""),
    ],
)
def test_kind_brings_its_defaults(kind: str, url: str, every: int, keep_for: int, api: int, dataset: str) -> None:
    feed = read_feed({"name": kind, "kind": kind})
    assert feed == Feed(kind, kind, url, every, keep_for=keep_for, api=api, dataset=dataset)


def test_any_url_is_fetched_once_a_day() -> None:
    assert read_feed(LIST) == Feed("ours", "url", "https://lists.example.org/sip.txt", 86400)


def test_options_that_are_none_are_those_left_out() -> None:
    """So does Ansible pass what nobody has given."""
    none: dict[str, Any] = dict.fromkeys(
        ["url", "every", "mode", "never", "api", "dataset", "keep_for", "proxy", "timeout"]
    )
    assert read_feed({**none, "name": "voipbl", "kind": "voipbl"}) == read_feed({"name": "voipbl", "kind": "voipbl"})


EVERYTHING = {
    "name": "Far-away_2",
    "kind": "apiban",
    "url": "http://[2001:db8::1]:8080/api",
    "every": 60,
    "mode": "observe",
    "max_change": 1000,
    "min_prefix": 16,
    "min_prefix_ipv6": 32,
    "allow_private": True,
    "never": ["192.0.2.1", " 2001:db8::/32"],
    "api": 1,
    "dataset": "all",
    "keep_for": 3600,
    "ca_file": "/etc/ssl/ours.pem",
    "proxy": "http://proxy.example.org:3128",
    "allow_http": True,
    "timeout": 1,
    "max_size": 1024,
}


def test_every_option_is_taken() -> None:
    feed = read_feed(EVERYTHING)
    assert vars(feed) == {**EVERYTHING, "never": ("192.0.2.1", "2001:db8::/32")}


def test_file_gives_back_what_was_written() -> None:
    feeds = [read_feed({"name": kind, "kind": kind, "url": LIST["url"] if kind == "url" else None}) for kind in KINDS]
    feeds.append(read_feed(EVERYTHING))
    text = render(feeds)
    assert parse(text) == feeds
    assert render(parse(text)) == text
    assert parse(render([])) == []


@pytest.mark.parametrize(
    ("base", "changes", "option", "said"),
    [
        (LIST, {"name": None}, "feeds.name", "letters, digits"),
        (LIST, {"name": ""}, "feeds.name", "letters, digits"),
        (LIST, {"name": "../../etc/passwd"}, "feeds.name", "letters, digits"),
        (LIST, {"name": ".hidden"}, "feeds.name", "letters, digits"),
        (LIST, {"name": "two words"}, "feeds.name", "letters, digits"),
        (LIST, {"name": "end\n"}, "feeds.name", "letters, digits"),
        (LIST, {"name": "n" * 41}, "feeds.name", "up to 40"),
        (LIST, {"name": 7}, "feeds.name", "letters, digits"),
        (LIST, {"kind": None}, "feeds[ours].kind", "voipbl, apiban, blocklist_de, url"),
        (LIST, {"kind": "VoIPBL"}, "feeds[ours].kind", "one of"),
        (LIST, {"kind": ["url"]}, "feeds[ours].kind", "one of"),
        (LIST, {"apikey": "secret"}, "feeds[ours]", "a feed has"),
        (LIST, {"url": None}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": ""}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "lists.example.org/sip.txt"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "file:///etc/shadow"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "ftp://lists.example.org/x"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "https:///x"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "https://lists.example.org:0/x"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "https://lists.example.org:99999/x"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "https://[2001:db8::1/x"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "https://lists.example.org/a b"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "https://lists.example.org/\r\nX: y"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "https://lïsts.example.org/x"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "https://lists.example.org/x#y"}, "feeds[ours].url", "https://lists.example.org"),
        (LIST, {"url": "http://lists.example.org/x"}, "feeds[ours].url", "allow_http"),
        (APIBAN, {"url": "https://apiban.org/api/?key=1"}, "feeds[apiban].url", "without a '?'"),
        (LIST, {"every": 59}, "feeds[ours].every", "60 to 2592000 seconds"),
        (LIST, {"every": 2592001}, "feeds[ours].every", "60 to 2592000 seconds"),
        (LIST, {"every": "daily"}, "feeds[ours].every", "60 to 2592000 seconds"),
        (LIST, {"every": True}, "feeds[ours].every", "60 to 2592000 seconds"),
        (LIST, {"mode": "drop"}, "feeds[ours].mode", "enforce, observe"),
        (LIST, {"max_change": -1}, "feeds[ours].max_change", "0 to 1000 per cent"),
        (LIST, {"max_change": 1001}, "feeds[ours].max_change", "0 to 1000 per cent"),
        (LIST, {"min_prefix": 0}, "feeds[ours].min_prefix", "1 to 32 bits"),
        (LIST, {"min_prefix": 33}, "feeds[ours].min_prefix", "1 to 32 bits"),
        (LIST, {"min_prefix_ipv6": 0}, "feeds[ours].min_prefix_ipv6", "1 to 128 bits"),
        (LIST, {"min_prefix_ipv6": 129}, "feeds[ours].min_prefix_ipv6", "1 to 128 bits"),
        (LIST, {"allow_private": "yes"}, "feeds[ours].allow_private", "true or false"),
        (LIST, {"allow_http": 1}, "feeds[ours].allow_http", "true or false"),
        (LIST, {"never": "192.0.2.1"}, "feeds[ours].never", "a list"),
        (LIST, {"never": ["trunk.example.org"]}, "feeds[ours].never", "it is a name"),
        (LIST, {"never": ["192.0.2.1/24"]}, "feeds[ours].never", "192.0.2.0/24 would be right"),
        (LIST, {"never": [1]}, "feeds[ours].never", "an address"),
        (LIST, {"api": 1}, "feeds[ours].api", "kind apiban"),
        (LIST, {"dataset": "sip"}, "feeds[ours].dataset", "kind apiban"),
        (APIBAN, {"api": 3}, "feeds[apiban].api", "1 or 2"),
        (APIBAN, {"api": "2"}, "feeds[apiban].api", "1 or 2"),
        (APIBAN, {"dataset": "voip"}, "feeds[apiban].dataset", "sip, http, all"),
        (APIBAN, {"keep_for": 0}, "feeds[apiban].keep_for", "grow for ever"),
        (LIST, {"keep_for": 3599}, "feeds[ours].keep_for", "3600 to 2592000 seconds would be right, or 0"),
        (LIST, {"keep_for": -1}, "feeds[ours].keep_for", "or 0"),
        (LIST, {"keep_for": False}, "feeds[ours].keep_for", "or 0"),
        (LIST, {"ca_file": "ours.pem"}, "feeds[ours].ca_file", "full path"),
        (LIST, {"ca_file": "/ours\0.pem"}, "feeds[ours].ca_file", "full path"),
        (LIST, {"proxy": "proxy.example.org:3128"}, "feeds[ours].proxy", "http://proxy.example.org:3128"),
        (LIST, {"proxy": "https://proxy.example.org"}, "feeds[ours].proxy", "http://proxy.example.org:3128"),
        (LIST, {"proxy": "socks5://proxy.example.org"}, "feeds[ours].proxy", "http://proxy.example.org:3128"),
        (LIST, {"proxy": "http://proxy.example.org/way"}, "feeds[ours].proxy", "http://proxy.example.org:3128"),
        (LIST, {"proxy": False}, "feeds[ours].proxy", "http://proxy.example.org:3128"),
        (LIST, {"timeout": 0}, "feeds[ours].timeout", "1 to 3600 seconds"),
        (LIST, {"timeout": 3601}, "feeds[ours].timeout", "1 to 3600 seconds"),
        (LIST, {"max_size": 1023}, "feeds[ours].max_size", "1024 to 268435456 bytes"),
        (LIST, {"max_size": 268435457}, "feeds[ours].max_size", "1024 to 268435456 bytes"),
    ],
)
def test_bad_option_is_named_with_what_would_be_right(
    base: dict[str, Any], changes: dict[str, Any], option: str, said: str
) -> None:
    with pytest.raises(OptionError) as caught:
        read_feed({**base, **changes})
    assert caught.value.option == option
    assert said in caught.value.expected


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "https://me:hunter2@lists.example.org/x"},
        {"url": "https://me:hunter2@lists.example.org:99999/x"},
        {"url": "https://me:hunter2|@lists.example.org/x"},
        {"proxy": "http://me:hunter2@proxy.example.org:3128"},
    ],
)
def test_password_in_an_address_is_refused_and_not_repeated(changes: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="a name and a password do not belong") as caught:
        read_feed({**LIST, **changes})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://lists.example.org/sip.txt?token=hunter2",
        "https://lists.example.org/sip.txt?token=hunter2|",
        "ftp://lists.example.org/sip.txt?token=hunter2",
        "https://lists.example.org:0/sip.txt?token=hunter2",
        "https://lists.example.org:x/sip.txt?token=hunter2",
    ],
)
def test_query_of_an_address_is_not_repeated_when_it_is_refused(url: str) -> None:
    with pytest.raises(OptionError, match=r"lists\.example\.org") as caught:
        read_feed({**LIST, "url": url})
    assert "hunter2" not in str(caught.value)


def test_query_is_not_shown() -> None:
    feed = read_feed({**LIST, "url": "https://lists.example.org/sip.txt?token=hunter2"})
    assert feed.shown_url == "https://lists.example.org/sip.txt"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("[" * 100000, "damaged"),
        ('{"format": 1, "feeds": {}}', "damaged"),
        ('{"format": 1, "feeds": ["voipbl"]}', "damaged"),
        ('{"format": 1, "feeds": [], "more": 1}', "damaged"),
        ('{"format": 2, "feeds": []}', "another version"),
        (json.dumps({"format": 1, "feeds": [LIST, LIST]}), "ours twice"),
        (json.dumps({"format": 1, "feeds": [{**LIST, "every": 1}]}), r"feeds.json\[ours\].every"),
        (json.dumps({"format": 1, "feeds": [{**LIST, "key": "x"}]}), r"feeds.json\[ours\]"),
    ],
)
def test_damaged_file_is_an_error(text: str, said: str) -> None:
    with pytest.raises(SipguardError, match=said):
        parse(text)


def test_memory_gives_back_what_was_written() -> None:
    memory = Memory('W/"x"', "Tue, 06 Jan 2026 10:00:00 GMT", "1767693600", "0123456789abcdef")
    assert Memory.parse(json.loads(json.dumps(memory.render()))) == memory


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "etag",
        {},
        {"etag": "x"},
        {**Memory().render(), "more": ""},
        {"etag": 'x"\r\nX: y', "modified": "Tue\n", "cursor": "../check/1", "source": ""},
        {"etag": 1, "modified": None, "cursor": ["100"], "source": {}},
        {"etag": "x" * 257, "modified": "ü", "cursor": "1" * 65, "source": ""},
    ],
)
def test_memory_that_nobody_wrote_is_none(data: object) -> None:
    assert Memory.parse(data) == Memory()
