# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import matches as m
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import IPV4, IPV6, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Match


def searched(match: Match) -> bytes:
    """The bytes that the kernel is given to search for."""
    option = match.options[0]
    value = option.values[0]
    if option.name == "--string":
        return value.encode("ascii")
    assert value[0] == value[-1] == "|"
    return bytes.fromhex(value[1:-1])


@given(st.binary(min_size=1, max_size=128))
def test_string_searches_exactly_the_pattern(pattern: bytes) -> None:
    assert searched(m.string(pattern)) == pattern


@given(st.text())
def test_comment_is_short_and_harmless(text: str) -> None:
    (option,) = m.comment(text).options
    (value,) = option.values
    assert len(value) == min(len(text), 80)
    assert value.isascii()
    assert value == "" or value.isprintable()
    assert not set(value) & set("\\\"'`")


def u32(expression: str, packet: bytes) -> bool:
    """xt_u32 in a few lines: whether the packet (from its network header on) passes (kernel: net/netfilter/xt_u32.c)."""

    def word(offset: int) -> int | None:
        return struct.unpack_from(">I", packet, offset)[0] if offset + 4 <= len(packet) else None

    for test in expression.split("&&"):
        place, wanted = test.split("=")
        base = 0
        value: int | None = None
        for step in place.split("@"):
            ops = step.replace(">>", " >> ").replace("&", " & ").split()
            value = word(base + int(ops[0], 16))
            for name, number in zip(ops[1::2], ops[2::2], strict=True):
                if value is None:
                    return False
                value = value >> int(number, 16) if name == ">>" else value & int(number, 16)
            if value is None:
                return False
            base += value
        if value != int(wanted, 16):
            return False
    return True


def packet(family: Family, transport: str, payload: bytes, ip_options: int = 0, tcp_options: int = 0) -> bytes:
    """An IP packet; the options are given in words of four bytes, IPv4 and TCP only."""
    if transport == "udp":
        body = struct.pack(">HHHH", 5060, 5060, 8 + len(payload), 0) + payload
    else:
        head = struct.pack(">HHIIBBHHH", 5060, 5060, 1, 1, (5 + tcp_options) << 4, 0x18, 512, 0, 0)
        body = head + b"\1" * 4 * tcp_options + payload
    number = 17 if transport == "udp" else 6
    if family.version == 6:
        return struct.pack(">IHBB", 6 << 28, len(body), number, 64) + b"\x20" * 32 + body
    size = 20 + 4 * ip_options + len(body)
    fixed = struct.pack(">BBHHHBBHII", 0x40 | (5 + ip_options), 0, size, 1, 0, 64, number, 0, 0x0A000001, 0x0A000002)
    return fixed + b"\1" * 4 * ip_options + body


PACKETS = [
    (IPV4, "udp", 0, 0),
    (IPV4, "udp", 3, 0),
    (IPV4, "tcp", 0, 0),
    (IPV4, "tcp", 2, 3),
    (IPV4, "tcp", 0, 10),
    (IPV6, "udp", 0, 0),
    (IPV6, "tcp", 0, 0),
    (IPV6, "tcp", 0, 3),
]


@pytest.mark.parametrize(("family", "transport", "ip_options", "tcp_options"), PACKETS)
def test_starts_with_reads_the_payload(family: Family, transport: str, ip_options: int, tcp_options: int) -> None:
    expression = m.starts_with(family, transport, b"SIP/2.0 ").options[0].values[0]
    for payload, found in (
        (b"SIP/2.0 200 OK\r\n", True),
        (b"SIP/2.0 ", True),
        (b"SIP/2.0", False),
        (b"SIP/2.1 200 OK\r\n", False),
        (b"xSIP/2.0 200 OK\r\n", False),
        (b"OPTIONS sip:x SIP/2.0 \r\n", False),
        (b"", False),
    ):
        assert u32(expression, packet(family, transport, payload, ip_options, tcp_options)) is found, payload


def test_every_builder_renders_one_match_in_words_a_shell_would_keep() -> None:
    rendered = [
        m.in_set("sipguard-trusted4", negated=True).render(),
        m.packet_mark(0x300, 0x300).render(),
        m.ports("5060:5061,5070").render(),
    ]
    assert [shlex.split(text) for text in rendered] == [
        ["-m", "set", "!", "--match-set", "sipguard-trusted4", "src"],
        ["-m", "mark", "--mark", "0x300/0x300"],
        ["-m", "multiport", "--dports", "5060:5061,5070"],
    ]
