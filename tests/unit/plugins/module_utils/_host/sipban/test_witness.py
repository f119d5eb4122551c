# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading challenges, and remembering them within bounds. Packets of a real kernel: tests/integration/test_sipban_witness.py."""

from __future__ import annotations

import ipaddress
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.witness import Nonces, read_challenge

HERE = {4: "192.0.2.1", 6: "2001:db8::1"}
PHONE = {4: "198.51.100.7", 6: "2001:db8:1::7"}
PJSIP = b'WWW-Authenticate: Digest realm="asterisk",nonce="1795300000/0123456789abcdef",opaque="5c",algorithm=MD5,qop="auth"'
CHAN_SIP = b'WWW-Authenticate: Digest algorithm=MD5, realm="asterisk", nonce="3b2a4c9e"'


def response(*headers: bytes, status: bytes = b"401 Unauthorized") -> bytes:
    return b"\r\n".join(
        [b"SIP/2.0 " + status, b"Via: SIP/2.0/UDP 198.51.100.7", *headers, b"Content-Length: 0", b"", b""]
    )


def udp(payload: bytes) -> bytes:
    return struct.pack(">HHHH", 5060, 5062, 8 + len(payload), 0) + payload


def packet(payload: bytes, version: int = 4, to: str = "", protocol: int = 17, options: bytes = b"") -> bytes:
    """An IP packet; ``options`` are those of IPv4, or extension headers of IPv6 (``protocol`` then names the first one)."""
    source, target = (ipaddress.ip_address(each).packed for each in (HERE[version], to or PHONE[version]))
    body = options + udp(payload)
    if version == 6:
        return struct.pack(">IHBB", 6 << 28, len(body), protocol, 64) + source + target + body
    first = 4 << 4 | (20 + len(options)) // 4
    return struct.pack(">BBHHHBBH", first, 0, 20 + len(body), 1, 0x4000, 64, protocol, 0) + source + target + body


def nonces(*headers: bytes, **others: bytes) -> list[bytes] | None:
    found = read_challenge(packet(response(*headers, **others)))
    return None if found is None else found.nonces


@pytest.mark.parametrize("version", [4, 6])
def test_read_challenge_tells_where_it_goes(version: int) -> None:
    found = read_challenge(packet(response(PJSIP), version))
    assert found == (ipaddress.ip_address(PHONE[version]).packed, [b"1795300000/0123456789abcdef"])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([CHAN_SIP], [b"3b2a4c9e"]),
        ([PJSIP, PJSIP.replace(b"MD5", b"SHA-256").replace(b"0123", b"4567")],
         [b"1795300000/0123456789abcdef", b"1795300000/4567456789abcdef"]),
        ([b'www-AUTHENTICATE \t:dIGEST  NONCE = "n" , realm="x"'], [b"n"]),
        ([b'Proxy-Authenticate: Digest nonce="p"'], [b"p"]),
        ([b'WWW-Authenticate: Digest realm="a",\r\n nonce="folded"'], [b"folded"]),
        ([b'WWW-Authenticate: Digest realm="a \\" , nonce=\\"b", nonce="c\\"d"'], [b'c"d']),
        ([b'WWW-Authenticate: Digest realm="a",nonce="' + b"n" * 256 + b'"'], [b"n" * 256]),
    ],
)  # fmt: skip
def test_read_challenge_takes_the_nonce_of_each_header(headers: list[bytes], expected: list[bytes]) -> None:
    assert nonces(*headers) == expected
    assert nonces(*headers, status=b"407 Proxy Authentication Required") == expected


@pytest.mark.parametrize(
    "header",
    [
        b"X: nothing",
        b'WWW-Authenticate: Basic nonce="n"',
        b'WWW-Authenticate: Digest realm="asterisk"',
        b"WWW-Authenticate: Digest nonce=n",
        b'WWW-Authenticate: Digest nonce=""',
        b'WWW-Authenticate: Digest nonce="a b"',
        b'WWW-Authenticate: Digest nonce="\xff"',
        b'WWW-Authenticate: Digest nonce="a", nonce="b"',
        b'WWW-Authenticate: Digest realm="a" nonce="b"',
        b'WWW-Authenticate: Digest realm="a, nonce="b"',
        b'WWW-Authenticate: Digest nonce="n',
        b'WWW-Authenticate: Digest nonce="' + b"n" * 257 + b'"',
        b'WWW-Authenticate: Digest nonce="n"\rX: y',
        # what a stranger can make the PBX repeat is no header of its own
        b'From: "x\r\n WWW-Authenticate: Digest nonce=\\"forged\\"" <sip:1@192.0.2.1>',
        b'From: "x\nWWW-Authenticate: Digest nonce="forged"',
        b'From: "x\rWWW-Authenticate: Digest nonce="forged"',
        b'Call-ID: WWW-Authenticate: Digest nonce="forged"',
        b'X-WWW-Authenticate: Digest nonce="forged"',
        b'Content-Length: 70\r\n\r\nWWW-Authenticate: Digest nonce="in the body"',
    ],
)
def test_read_challenge_refuses_what_is_not_well_formed(header: bytes) -> None:
    assert nonces(header) is None


def test_read_challenge_refuses_all_of_a_response_with_one_bad_header() -> None:
    assert nonces(PJSIP, b'WWW-Authenticate: Digest nonce="a", nonce="b"') is None


def test_read_challenge_reads_a_bounded_number_of_headers() -> None:
    found = nonces(*(b'WWW-Authenticate: Digest nonce="%d"' % number for number in range(1000)))
    assert found == [b"%d" % number for number in range(16)]


@pytest.mark.parametrize("status", [b"200 OK", b"403 Forbidden", b"4011 x", b"401", b"40 1 "])
def test_read_challenge_refuses_other_responses(status: bytes) -> None:
    assert nonces(PJSIP, status=status) is None


def test_read_challenge_finds_udp_behind_options() -> None:
    assert read_challenge(packet(response(PJSIP), options=bytes(8))) is not None
    destination, hop = struct.pack(">BB6x", 17, 0), struct.pack(">BB14x", 60, 1)
    assert read_challenge(packet(response(PJSIP), 6, protocol=0, options=hop + destination)) is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x45",
        packet(response(PJSIP), protocol=6),
        packet(response(PJSIP), 6, protocol=6),
        # a routing header: who gets it in the end is not who it is sent to
        packet(response(PJSIP), 6, protocol=43, options=struct.pack(">BB6x", 17, 0)),
        packet(response(PJSIP), 6, protocol=44, options=struct.pack(">BB6x", 17, 0)),
        packet(response(PJSIP), 6, protocol=0, options=struct.pack(">BB6x", 17, 255)),
        b"\x41" + packet(response(PJSIP))[1:],
        b"\x55" + packet(response(PJSIP))[1:],
        packet(response(PJSIP))[:6] + b"\x20\x00" + packet(response(PJSIP))[8:],
        packet(response(PJSIP))[:6] + b"\x00\x01" + packet(response(PJSIP))[8:],
    ],
)
def test_read_challenge_refuses_other_packets(raw: bytes) -> None:
    assert read_challenge(raw) is None


@given(st.sampled_from([4, 6]), st.integers(0), st.integers(0, 255))
def test_read_challenge_survives_whatever_becomes_of_a_packet(version: int, where: int, value: int) -> None:
    whole = packet(response(PJSIP, CHAN_SIP), version)
    position = where % len(whole)
    read_challenge(whole[:position])
    read_challenge(whole[:position] + bytes([value]) + whole[position + 1 :])


@given(st.binary(max_size=200))
def test_read_challenge_survives_anything(rest: bytes) -> None:
    read_challenge(rest)
    read_challenge(packet(b"SIP/2.0 401 x\r\nWWW-Authenticate: Digest " + rest + b"\r\n"))
    read_challenge(packet(rest, 6, protocol=0, options=rest[:64]))


@pytest.mark.parametrize("filler", [b"\r\nwww-authenticate:", b' a="', b"\r\n ", b"\\", b"a=b,", b", "])
def test_read_challenge_takes_no_longer_for_what_is_made_to_take_long(filler: bytes) -> None:
    # Anything quadratic would need minutes here.
    for start in (b"", b"\r\nWWW-Authenticate: Digest ", b'\r\nWWW-Authenticate: Digest realm="'):
        read_challenge(packet(b"SIP/2.0 401 x" + start + filler * (60000 // len(filler))))


# -- remembering


def test_nonces_count_for_their_address_and_for_a_while() -> None:
    known = Nonces(lifetime=300)
    known.add(b"aaaa", b"one", 1000.0)
    assert known.knows(b"aaaa", b"one", 1300.0)
    assert not known.knows(b"aaaa", b"one", 1300.1)
    assert not known.knows(b"bbbb", b"one", 1000.0)
    assert not known.knows(b"aaaa", b"two", 1000.0)


def test_nonces_that_go_out_again_when_their_time_is_over_count_again() -> None:
    known = Nonces(lifetime=300)
    for when in (0.0, 1.0, 400.0):
        known.add(b"aaaa", b"one", when)
        assert len(known) == 1
    assert known.knows(b"aaaa", b"one", 700.0)


def test_nonces_give_their_memory_back() -> None:
    known = Nonces(lifetime=300)
    for number in range(100):
        known.add(b"aaaa", b"%d" % number, float(number))
    known.forget(350.0)
    assert len(known) == 50
    known.forget(1000.0)
    assert len(known) == 0
    assert not known._found
    assert not known._order


def test_nonces_of_one_address_all_count() -> None:
    """PJSIP takes each for half a minute, and gives out one a second."""
    known = Nonces()
    for number in range(300):
        known.add(b"aaaa", b"%d" % number, float(number))
    assert all(known.knows(b"aaaa", b"%d" % number, 299.0) for number in range(300))


@pytest.mark.parametrize("order", [(b"aaaa", b"bbbb"), (b"bbbb", b"aaaa"), (b"aaaa", b""), (b"", b"aaaa")])
def test_a_nonce_that_went_to_two_addresses_proves_nothing(order: tuple[bytes, bytes]) -> None:
    """One that somebody else may have read: a challenge that maddr= has sent elsewhere, or a request that was sent again."""
    known = Nonces()
    added = [known.add(address, b"one", 0.0) for address in (*order, order[0])]
    assert added[1:] == [False, False]
    assert not known.knows(b"aaaa", b"one", 1.0)
    assert not known.knows(b"bbbb", b"one", 1.0)
    assert not known.knows(b"", b"one", 1.0)


def test_nonces_make_room_by_forgetting_the_oldest_of_all() -> None:
    known = Nonces(most=64)
    for number in range(80):
        known.add(struct.pack(">I", number // 2), b"%d" % number, 0.0)
    assert [n for n in range(80) if known.knows(struct.pack(">I", n // 2), b"%d" % n, 0.0)] == list(range(16, 80))


def test_nonces_can_all_be_forgotten() -> None:
    known = Nonces()
    known.add(b"aaaa", b"one", 0.0)
    known.clear()
    assert not known.knows(b"aaaa", b"one", 0.0)
    assert known.add(b"bbbb", b"one", 0.0)
    assert known.knows(b"bbbb", b"one", 0.0)


@given(
    st.lists(
        st.tuples(st.sampled_from([b"aaaa", b"bbbb", b"c" * 16]), st.integers(0, 9), st.integers(0, 40)), max_size=80
    )
)
def test_nonces_agree_with_a_plain_list(steps: list[tuple[bytes, int, int]]) -> None:
    known = Nonces(lifetime=100, most=8)
    plain: dict[int, tuple[int, set[bytes]]] = {}  # nonce -> when, and where it went
    now = 0
    for address, number, passed in steps:
        now += passed
        known.add(address, b"%d" % number, now)
        plain = {each: found for each, found in plain.items() if now - found[0] <= 100}
        if number not in plain and len(plain) == 8:
            del plain[next(iter(plain))]
        plain.setdefault(number, (now, set()))[1].add(address)
        assert len(known) == len(plain)
        for each in (b"aaaa", b"bbbb", b"c" * 16):
            expected = {n for n, (dummy, where) in plain.items() if where == {each}}
            assert {n for n in range(10) if known.knows(each, b"%d" % n, now)} == expected


def test_nonces_of_a_flood_stay_within_their_memory() -> None:
    tracemalloc.start()
    try:
        known = Nonces()
        for number in range(140000):
            known.add(number.to_bytes(16, "big"), b"x" * 250 + b"%d" % number, 0.0)
        used, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(known) == 65536
    assert used < 20 << 20, used
    assert most < 25 << 20, most
