# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.message import (
    MAX_MESSAGE,
    Request,
    Response,
    Via,
    ack,
    answers,
    bye,
    cancel,
    clean,
    parse_response,
    parse_via,
    take,
    uri,
)

INVITE = Request(
    "INVITE",
    "sip:600@pbx.example.org",
    (
        ("Via", "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKabc;rport"),
        ("Max-Forwards", "70"),
        ("To", "<sip:600@pbx.example.org>"),
        ("From", "<sip:alice@pbx.example.org>;tag=1"),
        ("Call-ID", "f00d"),
        ("CSeq", "1 INVITE"),
    ),
    b"v=0\r\n",
)
# Asterisk 16 with chan_sip and 22 with PJSIP, their order of headers and parameters.
ANSWER = (
    b"SIP/2.0 401 Unauthorized\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKabc;received=203.0.113.9;rport=40112\r\n"
    b"From: <sip:alice@pbx.example.org>;tag=1\r\nTo: <sip:600@pbx.example.org>;tag=as5a\r\n"
    b"Call-ID: f00d\r\nCSeq: 1 INVITE\r\nServer: Asterisk PBX 16.28.0~dfsg-0+deb11u10\r\nContent-Length: 0\r\n\r\n"
)
COMPACT = (
    b"sip/2.0 200 \r\nv:SIP / 2.0 / UDP [2001:db8::9]:5060 ;rport=40112;received=2001:db8::9;branch=z9hG4bKabc\r\n"
    b"f: <sip:alice@pbx.example.org>;tag=1\r\nt: <sip:600@pbx.example.org>\r\n ;tag=2\r\n"
    b"i : f00d\r\ncseq: 1   INVITE\r\nm: <sip:600@192.0.2.1:5060>\r\nl: 0\r\n\r\n"
)


def test_render_is_the_message_on_the_wire() -> None:
    assert INVITE.render() == (
        b"INVITE sip:600@pbx.example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKabc;rport\r\n"
        b"Max-Forwards: 70\r\nTo: <sip:600@pbx.example.org>\r\nFrom: <sip:alice@pbx.example.org>;tag=1\r\n"
        b"Call-ID: f00d\r\nCSeq: 1 INVITE\r\nContent-Length: 5\r\n\r\nv=0\r\n"
    )


@pytest.mark.parametrize(
    ("user", "host", "text"),
    [
        ("", "192.0.2.1", "sip:192.0.2.1"),
        ("100", "pbx.example.org", "sip:100@pbx.example.org"),
        ("100", "2001:db8::1", "sip:100@[2001:db8::1]"),
        ("", "2001:db8::1", "sip:[2001:db8::1]"),
    ],
)
def test_uri_has_brackets_where_they_belong(user: str, host: str, text: str) -> None:
    assert uri(user, host) == text


def read(data: bytes) -> Response:
    response = parse_response(data)
    assert response is not None
    return response


def test_parse_response_reads_what_asterisk_sends() -> None:
    response = read(ANSWER)
    assert (response.status, response.reason) == (401, "Unauthorized")
    assert response.first("server") == "Asterisk PBX 16.28.0~dfsg-0+deb11u10"
    assert response.first("absent") == ""
    assert parse_via(response.first("via")) == Via("z9hG4bKabc", "203.0.113.9", 40112)
    assert answers(response, INVITE)


def test_parse_response_reads_compact_names_folded_lines_and_blanks() -> None:
    response = read(b"\r\n\r\n" + COMPACT)
    assert (response.status, response.reason) == (200, "")
    assert response.first("to") == "<sip:600@pbx.example.org> ;tag=2"
    assert parse_via(response.first("via")) == Via("z9hG4bKabc", "2001:db8::9", 40112)
    assert answers(response, INVITE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"OPTIONS sip:x SIP/2.0\r\n\r\n",
        b"SIP/2.0 200 OK",
        b"SIP/2.0 200 OK\r\nVia: x\r\n",
        b"SIP/2.0 200 OK\n\n",
        b"SIP/2.0 200\r\n\r\n",
        b"SIP/2.0 2000 OK\r\n\r\n",
        b"SIP/2.0 099 OK\r\n\r\n",
        b"SIP/2.0 700 OK\r\n\r\n",
        b"SIP/3.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b" SIP/2.0 200 OK\r\n\r\n",
        b"SIP/2.0 200 OK\r\n folded\r\n\r\n",
        b"SIP/2.0 200 OK\r\nno colon\r\n\r\n",
        b"SIP/2.0 200 OK\r\n: no name\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n" + b"x" * MAX_MESSAGE,
    ],
)
def test_parse_response_knows_what_is_none(data: bytes) -> None:
    assert parse_response(data) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"branch=z9hG4bKabc", b"branch=z9hG4bKabcd"),
        (b"branch=z9hG4bKabc", b"branch=z9hG4bKABC"),
        (b"branch=z9hG4bKabc;", b""),
        (b"Via: ", b"X-Via: "),
        (b"Via: ", b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKother\r\nVia: "),
        (b"Call-ID: f00d", b"Call-ID: f00d2"),
        (b"Call-ID: f00d", b"Call-ID: f00d\r\nCall-ID: f00d"),
        (b"Call-ID: f00d\r\n", b""),
        (b"1 INVITE", b"2 INVITE"),
        (b"1 INVITE", b"1 BYE"),
    ],
)
def test_answers_refuses_what_answers_something_else(old: bytes, new: bytes) -> None:
    assert ANSWER.count(old) == 1
    assert not answers(read(ANSWER.replace(old, new)), INVITE)


@pytest.mark.parametrize(
    ("value", "via"),
    [
        ("SIP/2.0/TCP pbx.example.org;branch=a", Via("a")),
        ("SIP/2.0/TLS [2001:db8::9];branch=a;received=[2001:db8::7]", Via("a", "2001:db8::7")),
        ("SIP/2.0/UDP 192.0.2.9:5060", Via()),
        ("SIP/2.0/UDP 192.0.2.9;rport;branch=a", Via("a")),
        ("SIP/2.0/UDP 192.0.2.9;rport=65536;branch=a", Via("a")),
        ("SIP/2.0/UDP 192.0.2.9;rport=-1;received=localhost;branch=a", Via("a")),
        ("SIP/2.0/UDP 192.0.2.9;received=192.0.2.7;ipset;branch=a", Via("a", "192.0.2.7")),
        ("SIP/2.0/UDP 192.0.2.9;branch=a, SIP/2.0/UDP 192.0.2.8;branch=b;rport=1", Via("a")),
        ("SIP/2.0/UDP", None),
        ("SIP/2.0/UDP 192.0.2.9 x", None),
        ("UDP 192.0.2.9;branch=a", None),
        ("", None),
    ],
)
def test_parse_via_reads_the_first_value(value: str, via: Via | None) -> None:
    assert parse_via(value) == via


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Asterisk PBX 22", "Asterisk PBX 22"),
        ("a\x1b[31mb\x07\x00c", "a[31mbc"),
        ("a\r\n\tb", "a b"),
        ("a\u202eb\u2028c\ud800\x9bd", "abcd"),
        ("  \u00fcber  ", "\u00fcber"),
        ("x" * 11, "x" * 10),
    ],
)
def test_clean_leaves_what_can_be_printed(text: str, cleaned: str) -> None:
    assert clean(text, 10 if text.startswith("xx") else 100) == cleaned


@pytest.mark.parametrize(
    ("stream", "whole", "rest"),
    [
        (b"", b"", b""),
        (b"\r\n\r\n", b"", b""),
        (b"SIP/2.0 200 OK\r\n", b"", b"SIP/2.0 200 OK\r\n"),
        (b"\r\n\r\nA\r\n\r\nB", b"A\r\n\r\n", b"B"),
        (b"A\r\nContent-Length: 2\r\n\r\nxyB", b"A\r\nContent-Length: 2\r\n\r\nxy", b"B"),
        (b"A\r\nl :2 \r\nC: d\r\n\r\nxyB", b"A\r\nl :2 \r\nC: d\r\n\r\nxy", b"B"),
        (b"A\r\nContent-Length: 3\r\n\r\nxy", b"", b"A\r\nContent-Length: 3\r\n\r\nxy"),
        (b"A\r\nContent-Length: x\r\n\r\nB", b"A\r\nContent-Length: x\r\n\r\n", b"B"),
    ],
)
def test_take_finds_the_end_of_a_message(stream: bytes, whole: bytes, rest: bytes) -> None:
    assert take(stream) == (whole, rest)


@pytest.mark.parametrize(
    "stream",
    [b"x" * (MAX_MESSAGE + 1), b"A\r\nContent-Length: 65535\r\n\r\n", b"A\r\nContent-Length: 999999999\r\n\r\n"],
)
def test_take_refuses_what_never_ends(stream: bytes) -> None:
    with pytest.raises(ValueError, match="longer than 65535 bytes"):
        take(stream)


@given(st.lists(st.sampled_from([ANSWER, COMPACT, b"\r\n\r\n"]), max_size=4), st.lists(st.integers(1, 40)))
def test_take_does_not_care_how_a_stream_was_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream, buffer, found = b"".join(messages), b"", []
    while stream or buffer.strip(b"\r\n"):
        size = cuts.pop() if cuts else 4096
        buffer, stream = buffer + stream[:size], stream[size:]
        whole, buffer = take(buffer)
        while whole:
            found.append(whole)
            whole, buffer = take(buffer)
    assert found == [message for message in messages if message.strip()]


@given(
    st.integers(100, 699),
    st.text(max_size=30),
    st.dictionaries(st.from_regex("X-[a-z]{1,8}", fullmatch=True), st.text(max_size=30)),
)
def test_parse_response_reads_back_what_was_written(status: int, reason: str, headers: dict[str, str]) -> None:
    lines = [f"SIP/2.0 {status} {clean(reason)}", *(f"{name}: {clean(value)}" for name, value in headers.items())]
    response = read("\r\n".join([*lines, "", ""]).encode())
    assert (response.status, response.reason) == (status, clean(reason))
    assert response.headers == tuple((name.lower(), clean(value)) for name, value in headers.items())


# Bytes that look like answers, so that every part of the reading gets its turn.
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [
                    *ANSWER.splitlines(keepends=True),
                    *COMPACT.splitlines(keepends=True),
                    b"Record-Route: <sip:a;lr>,<sip:b\r\n",
                    b"Via: SIP/2.0/UDP [::]:;;=;,\r\n",
                    b"\r\n",
                ]
            ),
            st.binary(max_size=40),
        )
    )
)
def test_no_bytes_can_break_the_reading(parts: list[bytes]) -> None:
    data = b"".join(parts)
    whole, rest = take(data)
    assert (whole + rest) in data or data.strip(b"\r\n") == b""
    for message in (data, b"SIP/2.0 200 OK\r\n" + data + b"\r\n\r\n"):
        response = parse_response(message)
        if response is None:
            continue
        assert all(text.isprintable() for pair in response.headers for text in pair)
        assert response.reason.isprintable()
        assert answers(response, INVITE) in (True, False)
        # What a hostile answer gets us to send is still one request of ours.
        for request in (ack(INVITE, response, "z9hG4bKx"), bye(INVITE, response, "z9hG4bKx")):
            head = request.render().partition(b"\r\n\r\n")[0]
            lines = head.decode().split("\r\n")
            assert lines[0].split(" ")[::2] == [request.method, "SIP/2.0"]
            assert [line.partition(":")[0] for line in lines[1:]] == [
                *(name for name, dummy in request.headers),
                "Content-Length",
            ]


def test_cancel_belongs_to_the_transaction_of_the_invite() -> None:
    request = cancel(INVITE)
    assert (request.method, request.uri, request.header("CSeq")) == ("CANCEL", INVITE.uri, "1 CANCEL")
    assert all(request.header(name) == INVITE.header(name) for name in ("Via", "To", "From", "Call-ID"))
    assert request.body == b""


def test_ack_of_a_refusal_belongs_to_the_transaction_and_has_the_other_sides_tag() -> None:
    request = ack(INVITE, read(ANSWER), "z9hG4bKnew")
    assert (request.method, request.uri, request.header("CSeq")) == ("ACK", INVITE.uri, "1 ACK")
    assert request.header("Via") == INVITE.header("Via")
    assert request.header("To") == "<sip:600@pbx.example.org>;tag=as5a"


def test_ack_and_bye_of_an_answered_call_go_where_the_answer_says() -> None:
    routes = b"Record-Route: <sip:p1.example.org;lr>, <sip:p2.example.org;lr>\r\nRecord-Route: <sip:p3.example.org;x=a,b>\r\n"
    response = read(COMPACT.replace(b"l: 0\r\n", routes))
    for request, sequence in (
        (ack(INVITE, response, "z9hG4bKnew"), "1 ACK"),
        (bye(INVITE, response, "z9hG4bKnew"), "2 BYE"),
    ):
        assert (request.uri, request.header("CSeq")) == ("sip:600@192.0.2.1:5060", sequence)
        assert request.header("Via") == "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKnew;rport"
        assert [value for name, value in request.headers if name == "Route"] == [
            "<sip:p3.example.org;x=a,b>",
            "<sip:p2.example.org;lr>",
            "<sip:p1.example.org;lr>",
        ]


@pytest.mark.parametrize("contact", [b"*", b"", b"<tel:+1>", b"<sip:a b@c>x", b"\x01<sip:>"])
def test_bye_goes_to_whom_was_called_when_the_answer_says_nothing_usable(contact: bytes) -> None:
    response = read(COMPACT.replace(b"<sip:600@192.0.2.1:5060>", contact))
    assert bye(INVITE, response, "z9hG4bKnew").uri in (INVITE.uri, "sip:a")
