# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures: decoding, entries of the options, and what the kernel would find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.signatures import (
    ANYWHERE,
    EXACT,
    MATCHES,
    PAYLOAD,
    PREFIX,
    Signature,
    decode,
    fold,
    parse_entry,
    signature_hits,
    strip_header,
)


def request(agent_line: str) -> bytes:
    return (
        "REGISTER sip:pbx.example.com SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1\r\n"
        'From: "Ann" <sip:201@pbx.example.com>;tag=1\r\n'
        f"{agent_line}"
        "Content-Length: 0\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("written", "wire"),
    [
        ("plain", "plain"),
        ("Z%203.14", "Z 3.14"),
        ("AGFEO%20SIP%20V3.00.15%20b%20%20", "AGFEO SIP V3.00.15 b  "),
        ("100% sure", "100% sure"),
        ("50%zz", "50%zz"),
        ("%2", "%2"),
        ("%2520", "%20"),
        ("caf%C3%A9", "café"),
        ("caf%c3%a9", "café"),
        ("raw%FFbyte", "raw%FFbyte"),
        ("a%0d%0ab", "a\r\nb"),
    ],
)
def test_decode_table(written: str, wire: str) -> None:
    assert decode(written) == wire


@given(st.text())
def test_decode_leaves_text_without_percent_alone(text: str) -> None:
    text = text.replace("%", "")
    assert decode(text) == text


@given(st.text(st.characters(codec="utf-8")))
def test_decode_undoes_full_escaping(text: str) -> None:
    assert decode("".join(f"%{byte:02X}" for byte in text.encode())) == text


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("User-Agent: sipcli", "sipcli"),
        ("user-agent:sipcli", "sipcli"),
        (" USER-AGENT :\tsipcli ", "sipcli "),
        ("sipcli", "sipcli"),
        ("My User-Agent: sipcli", "My User-Agent: sipcli"),
        ("User-Agent:", ""),
    ],
)
def test_strip_header_table(text: str, bare: str) -> None:
    assert strip_header(text) == bare


@pytest.mark.parametrize(
    ("match", "needle"),
    [
        (EXACT, b"\r\nUser-Agent: x\r\n"),
        (PREFIX, b"\r\nUser-Agent: x"),
        (ANYWHERE, b"x"),
        (PAYLOAD, b"x"),
    ],
)
def test_needle_of_each_match(match: str, needle: bytes) -> None:
    assert Signature("x", match).needle == needle


def test_needle_is_utf8() -> None:
    assert Signature("é", PAYLOAD).needle == b"\xc3\xa9"


def test_fold_is_the_kernels_toupper() -> None:
    assert fold(b"aZ09-\xe9\xff\xdf\xf7") == b"AZ09-\xc9\xdf\xbf\xf7"
    assert fold(b"aZ", ignore_case=False) == b"aZ"


@pytest.mark.parametrize(
    ("match", "value", "line", "hit"),
    [
        (EXACT, "cisco", "User-Agent: cisco\r\n", True),
        (EXACT, "cisco", "User-Agent: Cisco\r\n", True),
        (EXACT, "cisco", "User-Agent: Cisco-CP8841/12.6.1\r\n", False),
        (EXACT, "-", "User-Agent: -\r\n", True),
        (EXACT, "-", "User-Agent: a-b\r\n", False),
        (PREFIX, "sipcli", "User-Agent: sipcli/v1.8\r\n", True),
        (PREFIX, "sipcli", "User-Agent: my sipcli\r\n", False),
        (PREFIX, "sipcli", "X-Note: User-Agent: sipcli\r\n", False),
        (PREFIX, "sipcli", "user-agent: SIPCLI/v1.8\r\n", True),
        (PREFIX, "sipcli", "User-Agent:sipcli/v1.8\r\n", False),
        (ANYWHERE, "friendly-scanner", "User-agent:friendly-scanner\r\n", True),
        (ANYWHERE, "friendly-scanner", "User-Agent:\t  Friendly-Scanner\r\n", True),
        (ANYWHERE, "friendly-scanner", "User-Agent:\r\n friendly-scanner\r\n", True),
        (ANYWHERE, "friendly-scanner", "Subject: friendly-scanner\r\n", False),
        (PAYLOAD, "friendly-scanner", "Subject: friendly-scanner\r\n", True),
        (PAYLOAD, "sip:nm@nm", "", False),
    ],
)
def test_hits_in_the_kernels_sense(match: str, value: str, line: str, hit: bool) -> None:
    assert signature_hits(Signature(value, match), request(line)) is hit


def test_hits_minds_case_when_told_to() -> None:
    scanner = Signature("friendly-scanner", ANYWHERE)
    assert not signature_hits(scanner, request("User-Agent: Friendly-Scanner\r\n"), ignore_case=False)
    assert signature_hits(scanner, request("User-Agent: friendly-scanner\r\n"), ignore_case=False)
    assert not signature_hits(scanner, request("User-agent: friendly-scanner\r\n"), ignore_case=False)


def test_entry_names_the_written_form() -> None:
    assert Signature("Z 3", written="Z%203").entry == "Z%203"
    assert Signature("Z 3").entry == "Z 3"


@pytest.mark.parametrize(
    ("entry", "option", "expected"),
    [
        ("sipcli", "user_agents", Signature("sipcli", PREFIX, origin="user_agents")),
        (
            "User-Agent: sipcli",
            "user_agents",
            Signature("sipcli", PREFIX, origin="user_agents", written="User-Agent: sipcli"),
        ),
        ("Z%203", "user_agents", Signature("Z 3", PREFIX, origin="user_agents", written="Z%203")),
        (
            {"value": "cisco", "match": "exact", "note": "seen in March"},
            "user_agents",
            Signature("cisco", EXACT, "seen in March", origin="user_agents"),
        ),
        ({"value": "bad"}, "user_agents", Signature("bad", PREFIX, origin="user_agents")),
        (
            {"value": "bad", "match": None, "note": None},
            "user_agents",
            Signature("bad", PREFIX, origin="user_agents"),
        ),
        ("sip:nm@nm", "payloads", Signature("sip:nm@nm", PAYLOAD, origin="payloads")),
        (
            "User-Agent: Nmap NSE",
            "payloads",
            Signature("User-Agent: Nmap NSE", PAYLOAD, origin="payloads"),
        ),
    ],
)
def test_parse_entry_table(entry: object, option: str, expected: Signature) -> None:
    assert parse_entry(entry, option) == expected


@pytest.mark.parametrize(
    ("entry", "option", "says"),
    [
        (3000, "user_agents", "quote numbers"),
        (None, "user_agents", "quote numbers"),
        (["sipcli"], "user_agents", "mapping with value"),
        ({}, "user_agents", "mapping with value"),
        ({"match": "exact"}, "user_agents", "mapping with value"),
        ({"value": 5}, "user_agents", "quote numbers"),
        ({"value": "x", "match": "payload"}, "user_agents", "one of exact, prefix, anywhere"),
        ({"value": "x", "match": "regex"}, "user_agents", "one of exact, prefix, anywhere"),
        ({"value": "x", "match": "prefix"}, "payloads", "one of payload"),
        ({"value": "x", "note": 7}, "user_agents", "note must be text"),
        ({"value": "x", "mach": "exact"}, "user_agents", "not mach"),
    ],
)
def test_parse_entry_refuses_wrong_forms(entry: object, option: str, says: str) -> None:
    with pytest.raises(OptionError, match=says) as caught:
        parse_entry(entry, option)
    assert caught.value.option == option
    assert caught.value.value is entry


def test_matches_are_the_four() -> None:
    assert MATCHES == ("exact", "prefix", "anywhere", "payload")
