# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manager events from bytes: what Asterisk writes is read, and what strangers write into it is not."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.stream import BLOCK, TEXT, Stream
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import Response, SecurityEvent
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
TRUE = "198.51.100.7"
VICTIM = "203.0.113.99"
LIMIT = 36  # of PJSIP's AccountID
BARRIER = "c0ffee"


def event(
    name: str = "InvalidAccountID",
    service: str = "PJSIP",
    account: bytes | None = b"1001",
    address: str = TRUE,
    *,
    kind: str = "",
    transport: str = "TCP",
    port: int = 40000,
    session: bytes = b"4dd12200",
    before: bytes = b"",
    extras: bytes = b"",
) -> bytes:
    """A security event as Asterisk 16 and 22 write it; `kind` is IPV4 or IPV6."""
    kind = kind or ("IPV6" if ":" in address else "IPV4")
    return b"".join(
        [
            f"Event: {name}\r\nPrivilege: security,all\r\n".encode(),
            before,
            b"EventTV: 2026-11-22T00:49:49.531+0000\r\nSeverity: Error\r\n",
            f"Service: {service}\r\nEventVersion: 1\r\n".encode(),
            b"" if account is None else b"AccountID: " + account + b"\r\n",
            b"SessionID: " + session + b"\r\n",
            f"LocalAddress: {kind}/{transport}/127.0.0.1/5060\r\n".encode(),
            f"RemoteAddress: {kind}/{transport}/{address}/{port}\r\n".encode(),
            extras,
            b"\r\n",
        ]
    )


def response(action_id: str = BARRIER, status: str = "Success") -> bytes:
    return f"Response: {status}\r\nActionID: {action_id}\r\nPing: Pong\r\nTimestamp: 1795308590.132474\r\n\r\n".encode()


def fed(*pieces: bytes, barrier: str = "") -> tuple[Stream, list[SecurityEvent | Response]]:
    """A stream that has read these pieces, and all that came out."""
    stream = Stream()
    if barrier:
        stream.barrier(barrier)
    return stream, [item for piece in (BANNER, *pieces) for item in stream.feed(piece)]


def addresses(items: Iterable[SecurityEvent | Response]) -> list[str]:
    return [str(item.address) for item in items if isinstance(item, SecurityEvent)]


def counted(stream: Stream) -> dict[str, int]:
    return {name: count for name, count in stream.counters.items() if count}


# -- what Asterisk writes


def test_event_of_pjsip() -> None:
    extras = b"Challenge: 1795308600/3f4d\r\nResponse: 63e2\r\nExpectedResponse: \r\n"
    stream, items = fed(event("ChallengeResponseFailed", extras=extras))
    assert items == [
        SecurityEvent(
            "ChallengeResponseFailed",
            "PJSIP",
            "1001",
            "4dd12200",
            "TCP",
            ipaddress.ip_address(TRUE),
            {"Challenge": "1795308600/3f4d", "Response": "63e2", "ExpectedResponse": ""},
        )
    ]
    assert stream.version == "11.0.0"
    assert not stream.suspect
    assert counted(stream) == {"events": 1}


@pytest.mark.parametrize("transport", ["UDP", "TCP", "TLS", "WS", "WSS"])
@pytest.mark.parametrize(
    ("address", "kind", "read"),
    [
        (TRUE, "IPV4", TRUE),
        ("2001:db8::7", "IPV6", "2001:db8::7"),
        (f"::ffff:{TRUE}", "IPV6", TRUE),
    ],
)
def test_addresses(address: str, kind: str, read: str, transport: str) -> None:
    dummy, items = fed(event(address=address, kind=kind, transport=transport))
    assert addresses(items) == [read]
    assert [item.transport for item in items if isinstance(item, SecurityEvent)] == [transport]


@pytest.mark.parametrize(
    ("address", "kind", "transport", "port"),
    [
        ("999.1.1.1", "IPV4", "TCP", 1),
        (TRUE, "IPV6", "TCP", 1),
        ("2001:db8::7", "IPV4", "TCP", 1),
        (TRUE, "IPV4", "SCTP", 1),
        (TRUE, "IPV4", "TCP/UDP", 1),
        (TRUE, "IPV4", "TCP", 65536),
        ("fe80::1%eth0", "IPV6", "TCP", 1),
        ("(null)", "IPV6", "TCP", 1),
        ("", "IPV4", "TCP", 1),
    ],
)
def test_addresses_that_are_none(address: str, kind: str, transport: str, port: int) -> None:
    stream, items = fed(event(address=address, kind=kind, transport=transport, port=port), event())
    assert addresses(items) == [TRUE]
    assert counted(stream) == {"events": 1, "forged_address": 1}


@pytest.mark.parametrize(
    "before",
    [
        b"Timestamp: 1795308590.132474\r\n",
        b"SystemName: pbx-1\r\n",
        b"SequenceNumber: 7\r\nFile: manager.c\r\nLine: 3\r\nFunc: f\r\n",
        b"Timestamp: 1.000001\r\nSequenceNumber: 7\r\nFile: a\r\nLine: 3\r\nFunc: f\r\nSystemName: x\r\n",
    ],
)
def test_headers_that_options_of_asterisk_add(before: bytes) -> None:
    assert addresses(fed(event(before=before))[1]) == [TRUE]


def test_bad_format_has_its_account_last() -> None:
    extras = b"RequestType: Action: NONE\r\nSessionTV: 2026-11-22T00:49:49.531+0000\r\nAccountID: sipban\r\n"
    wire = event("RequestBadFormat", "AMI", None, extras=extras)
    assert [item.account for item in fed(wire)[1] if isinstance(item, SecurityEvent)] == ["sipban"]
    assert fed(event("RequestBadFormat", "AMI", extras=extras))[1] == []
    assert fed(event("FailedACL", "AMI", None, extras=extras))[1] == []


@pytest.mark.parametrize("account", [b"", b"<unknown>", b"sip:9@example.org", "tél".encode(), b"\xff\xfe", b"a" * 79])
def test_accounts(account: bytes) -> None:
    stream, items = fed(event(account=account))
    assert [item.account.encode("utf-8", "surrogateescape") for item in items if isinstance(item, SecurityEvent)] == [
        account
    ]
    assert not stream.suspect


def test_long_values_are_cut() -> None:
    (item,) = fed(event(session=b"s" * 60000, extras=b"Response: " + b"r" * 9000 + b"\r\n"))[1]
    assert isinstance(item, SecurityEvent)
    assert item.session == "s" * TEXT
    assert item.extras == {"Response": "r" * TEXT}


def test_a_carriage_return_in_credentials_hides_nobody() -> None:
    wire = event("ChallengeResponseFailed", extras=b"Challenge: a\r\r\nResponse: b\r X: y\r\nExpectedResponse: \r\n")
    stream, items = fed(wire, event())
    assert addresses(items) == [TRUE, TRUE]
    assert not stream.suspect


# -- banner


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"A\r\n",
        b"Asterisk Call Manager/\r\n",
        b"Asterisk Call Manager/" + b"1" * 100,
        b"\r\n",
        b"\xff",
    ],
)
def test_another_service(said: bytes) -> None:
    with pytest.raises(SipguardError, match="manager interface"):
        Stream().feed(said)


def test_banner_byte_by_byte() -> None:
    stream = Stream()
    assert [stream.feed(bytes([byte])) for byte in BANNER[:-1]] == [[]] * (len(BANNER) - 1)
    assert stream.version == ""
    assert addresses(stream.feed(BANNER[-1:] + event())) == [TRUE]


# -- injection


def injected(*headers: str) -> bytes:
    return ("x\r\n" + "\r\n".join(headers)).encode()


def forged(service: str = "PJSIP") -> bytes:
    return event("InvalidPassword", service, b"x", VICTIM, transport="TLS")


SECOND_ADDRESS = injected(f"RemoteAddress: IPV4/TLS/{VICTIM}/1")
# Both halves look whole.
HALVES = (
    b"x\r\nSessionID: 0x1\r\nLocalAddress: IPV4/TLS/192.0.2.1/1\r\nRemoteAddress: IPV4/TLS/"
    + VICTIM.encode()
    + b"/1\r\n\r\n"
    + forged()[:-2]
    + b"\r\n"
    + event(account=b"x").rpartition(b"SessionID")[0][:-2]
)


def test_line_feeds_in_an_account_of_pjsip_hide_nobody() -> None:
    accounts = [
        b"a\r\nX: y",
        b"\r\n\r\n",
        b"\r\n(:\r\nActionID: c0ffee\r\n",
        b"\r\n\r\n\r\n\r\n\r\n",
        b"a\nb\rc",
        SECOND_ADDRESS[:LIMIT],
        b"\r\nSessionID: \r\nLocalAddress: ",
        b"Event: x\r\n\r\nResponse: Success\r\n\r\n",
    ]
    pieces = [
        piece for number, account in enumerate(accounts) for piece in (event(account=account, port=number), event())
    ]
    stream, items = fed(*pieces)
    assert addresses(items) == [TRUE] * len(pieces)
    assert counted(stream) == {"events": len(pieces), "mended": len(accounts)}
    assert not stream.suspect


def test_no_headers_fit_into_an_account_of_pjsip() -> None:
    """Neither can the three headers behind AccountID be brought in, nor an event of one's own."""
    assert len(b"\r\nSessionID: \r\nLocalAddress: \r\nRemoteAddress: ") > LIMIT
    least = b"\r\n\r\n" + event("FailedACL", "SIP", b"", "1.1.1.1", session=b"", port=1)
    assert len(least) > LIMIT


@pytest.mark.parametrize("service", ["SIP", "AMI"])
def test_what_follows_an_event_that_can_hold_everything_is_not_believed(service: str) -> None:
    stream, items = fed(event(service=service, account=HALVES), event())
    assert [item.service for item in items if isinstance(item, SecurityEvent)] == [service]
    assert stream.counters["injected"] == 3  # the forged one, what is left of the true one, and the honest one after it
    assert stream.suspect
    stream.barrier(BARRIER)
    assert stream.feed(event()) == []
    assert addresses(stream.feed(response() + event())) == [TRUE]
    assert not stream.suspect


def test_events_of_chan_sip_pass_in_quarantine() -> None:
    stream, items = fed(event(service="SIP"), event(service="SIP", account=b"2"), event())
    assert [item.account for item in items if isinstance(item, SecurityEvent)] == ["1001", "2"]
    assert stream.suspect


@pytest.mark.parametrize(
    "answer",
    [
        response("0"),
        b"Response: Success\r\n\r\n",
        b"Response: Success\r\nActionID: 0\r\nActionID: c0ffee\r\n\r\n",
        b"Response: Success\r\nX: y\n\r\nActionID: c0ffee\r\n\r\n",
        b"Event: x\r\nResponse: Success\r\nActionID: c0ffee\r\n\r\n",
    ],
)
def test_answers_that_are_none(answer: bytes) -> None:
    stream, items = fed(event(service="SIP"), answer, event(), barrier=BARRIER)
    assert len(items) == 1
    assert not stream.suspect  # the answer under way will end it
    assert addresses(stream.feed(response() + event())) == [TRUE]


def test_a_forged_answer_opens_a_quarantine() -> None:
    stream, items = fed(response(), event())
    assert items == []
    assert stream.suspect
    assert counted(stream) == {"malformed": 1, "injected": 1}


def test_a_later_block_needs_no_second_barrier_but_a_later_one_opens_a_quarantine() -> None:
    stream, dummy = fed(event(service="SIP"))
    stream.barrier(BARRIER)
    stream.feed(event(service="SIP", account=HALVES))
    assert addresses(stream.feed(response() + event())) == [TRUE]
    stream.feed(event(service="SIP"))
    assert stream.suspect


def test_an_answer_after_a_line_feed_too_many_is_found() -> None:
    stream, dummy = fed(event(service="SIP"))
    stream.barrier(BARRIER)
    items = stream.feed(event(service="SIP", extras=b"Challenge: x\r\n\r\n") + response() + event())
    assert addresses(items)[-1] == TRUE
    assert BARRIER in [item.action_id for item in items if isinstance(item, Response)]


@pytest.mark.parametrize(
    ("wire", "counter"),
    [
        (event(service="SIP", account=SECOND_ADDRESS), "duplicate"),
        (event(service="SIP", account=b"x\r\nX: y"), "malformed"),
        (event(service="SIP", account=b"x\ny"), "malformed"),
        (event(service="SIP", account=b"x\ry"), "malformed"),
        (event(service="SIP", extras=b"ACLName: a\r\nACLName: b\r\n"), "duplicate"),
        (event(service="SIP", extras=f"RemoteAddress: IPV4/TLS/{VICTIM}/1\r\n".encode()), "duplicate"),
        (event(account=b"x" * 30 + b"\r\n" + b"y" * 30), "malformed"),
        (event(before=b"X: y\r\n"), "malformed"),
        (event().replace(b"security,all", b"security"), "malformed"),
        (event().replace(b"SessionID", b"Session"), "malformed"),
        (event().replace(b"T00:49", b" 00:49"), "malformed"),
        (b"\r\n\r\n", "malformed"),
        (b"what?\r\n\r\n", "malformed"),
        (b"Event: Newchannel\r\nPrivilege: call,all\r\nChannel: PJSIP/1\r\n\r\n", "ignored"),
        (b"Event: Hangup\r\nChanVariable(x): a=b\r\nChanVariable(x): c=d\r\n\r\n", "ignored"),
        (b"Event: Newchannel\r\nno header\r\n\r\n", "malformed"),
        (b"X: " + b"y" * BLOCK + b"\r\n\r\n", "too_long"),
    ],
)
def test_what_is_discarded_opens_a_quarantine(wire: bytes, counter: str) -> None:
    stream, items = fed(wire, event())
    assert items == []
    assert stream.suspect
    assert counted(stream) == {counter: 1, "injected": 1}
    stream.barrier(BARRIER)
    assert addresses(stream.feed(response() + event())) == [TRUE]


def test_memory_is_bounded() -> None:
    stream = fed()[0]
    for dummy in range(200):
        stream.feed(b"x" * 65536)
        assert len(stream._buffer) <= BLOCK + 65536
    assert counted(stream) == {"too_long": 1}
    stream.barrier(BARRIER)
    assert addresses(stream.feed(b"\r\n\r\n" + response() + event())) == [TRUE]


# -- properties

FRAGMENTS = st.sampled_from(
    [
        b"\r\n",
        b"\r\n\r\n",
        b"\r\n(:\r\nActionID: c0ffee\r\n",
        b"\r",
        b"\n",
        b"\r\n\r",
        b": ",
        b"\xff",
        b"AccountID: ",
        b"\r\nSessionID: ",
        b"\r\nLocalAddress: IPV4/TCP/192.0.2.1/5060",
        f"\r\nRemoteAddress: IPV4/TLS/{VICTIM}/1".encode(),
        f"\r\nSessionID: \r\nLocalAddress: IPV4/\r\nRemoteAddress: IPV4/TLS/{VICTIM}/1".encode(),
        event().partition(b"SessionID")[0],
        b"Response: Success",
        response("0"),
        response(BARRIER),
        forged(),
        forged("AMI"),
        HALVES,
    ]
)
HOSTILE = st.lists(st.one_of(FRAGMENTS, st.binary(max_size=12)), max_size=6).map(b"".join)


@given(st.one_of(st.binary(max_size=300), HOSTILE, st.lists(HOSTILE, max_size=4).map(b"".join)), st.data())
@settings(deadline=None)
def test_division_of_the_bytes_does_not_matter(wire: bytes, data: st.DataObject) -> None:
    whole, expected = fed(wire, barrier=BARRIER)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    pieces = [wire[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(wire)])]
    divided, found = fed(*pieces, barrier=BARRIER)
    single, one_by_one = fed(*(bytes([byte]) for byte in wire), barrier=BARRIER)
    assert found == one_by_one == expected
    assert divided.counters == single.counters == whole.counters
    assert divided.suspect == single.suspect == whole.suspect


def without_line_feeds(text: bytes) -> bytes:
    """What Asterisk does not decode may hold CR, but no line feed."""
    return text.replace(b"\n", b"")


class Writer:
    """An honest Asterisk: whole events one after the other, with strangers' words in them, and answers in between."""

    def __init__(self) -> None:
        self.addresses = (f"198.51.{number // 250}.{number % 250 + 1}" for number in itertools.count())
        self.written: list[tuple[str, str, str]] = []  # name, service and address of each event

    def piece(self, service: str, words: bytes) -> bytes:
        if service == "other":
            return b"Event: VarSet\r\nPrivilege: dialplan,all\r\nValue: " + words + b"\r\nChannel: x\r\n\r\n"
        address = next(self.addresses)
        limit = LIMIT if service == "PJSIP" else None
        names = {
            "PJSIP": "InvalidAccountID",
            "SIP": "ChallengeSent",
            "AMI": "InvalidPassword",
            "answer": "ChallengeResponseFailed",
        }
        name = names[service]
        if service == "answer":
            service = "PJSIP"
            extras = b"Challenge: 1\r\nResponse: " + without_line_feeds(words)[:255] + b"\r\nExpectedResponse: \r\n"
            wire = event(name, service, b"1001", address, session=without_line_feeds(words), extras=extras)
        else:
            wire = event(name, service, words[:limit], address)
        self.written.append((name, service, address))
        return wire


PIECES = st.lists(st.tuples(st.sampled_from(["PJSIP", "answer", "SIP", "AMI", "other"]), HOSTILE), max_size=12)


def told(items: Iterable[SecurityEvent | Response]) -> list[tuple[str, str, str]]:
    return [(item.name, item.service, str(item.address)) for item in items if isinstance(item, SecurityEvent)]


@given(PIECES, st.data())
@settings(deadline=None, max_examples=400)
def test_nobody_can_write_an_event_of_pjsip(pieces: list[tuple[str, bytes]], data: st.DataObject) -> None:
    """Every event of PJSIP that comes out is one that Asterisk wrote, with its own name and address."""
    writer, stream = Writer(), Stream()
    stream.feed(BANNER)
    wire = b""
    items: list[SecurityEvent | Response] = []
    numbers = itertools.count()
    asked: list[str] = []

    def read(size: int) -> None:
        nonlocal wire
        items.extend(stream.feed(wire[:size]))
        wire = wire[size:]
        if stream.suspect:
            asked.append(f"unguessable{next(numbers)}")
            stream.barrier(asked[-1])

    for service, words in pieces:
        wire += writer.piece(service, words)
        while data.draw(st.booleans()) and asked:
            wire += response(asked.pop(0))
        read(data.draw(st.integers(0, len(wire))))
    read(len(wire))
    # whatever happened, a short while later honest events come through
    while asked:
        wire += response(asked.pop(0))
        read(len(wire))
    assert not stream.suspect
    read_so_far = len(items)
    wire += writer.piece("PJSIP", b"1001")
    read(len(wire))
    assert told(items[read_so_far:]) == writer.written[-1:]
    left = iter(each for each in writer.written if each[1] == "PJSIP")
    assert all(each in left for each in told(items) if each[1] == "PJSIP")  # in their order, too


@given(st.lists(st.tuples(st.sampled_from(["PJSIP", "answer"]), HOSTILE), max_size=12), st.integers(1, 400))
@settings(deadline=None)
def test_nobody_can_hide_an_event_of_pjsip(pieces: list[tuple[str, bytes]], size: int) -> None:
    """Without chan_sip every event comes out, whatever is written into it, and there is never a quarantine."""
    writer = Writer()
    wire = b"".join(writer.piece(service, words) for service, words in pieces)
    stream, items = fed(*(wire[start : start + size] for start in range(0, len(wire), size)))
    assert told(items) == writer.written
    assert not stream.suspect
