# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.netlink import attribute, attributes


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40), max_size=6))
def test_attributes_is_the_inverse_of_attribute(found: dict[int, bytes]) -> None:
    assert attributes(b"".join(attribute(kind, payload) for kind, payload in found.items())) == found


@given(st.integers(0, 0x3FFF), st.binary(max_size=40))
def test_attribute_is_padded_to_four_bytes_and_tells_its_own_length(kind: int, payload: bytes) -> None:
    raw = attribute(kind, payload)
    length, shown = struct.unpack_from("=HH", raw)
    assert (length, shown, len(raw) % 4) == (4 + len(payload), kind, 0)
    assert len(raw) - length < 4
    assert set(raw[length:]) <= {0}


def test_attributes_takes_the_flags_off_the_type() -> None:
    assert attributes(attribute(1 | 0x8000, b"nested")) == {1: b"nested"}
    assert attributes(attribute(8 | 0x4000, b"\0\0\0\1")) == {8: b"\0\0\0\1"}


def test_attributes_reads_nested_levels_one_at_a_time() -> None:
    inner = attribute(1, b"\xc0\x00\x02\x07") + attribute(2, b"\x13\xc4")
    assert attributes(attributes(attribute(1 | 0x8000, inner))[1]) == {1: b"\xc0\x00\x02\x07", 2: b"\x13\xc4"}


@pytest.mark.parametrize("rest", [b"", b"\0", b"\0\0\0", b"\0\0\0\0", b"\3\0\1\0", b"\0\0\1\0abcd"])
def test_attributes_ends_at_what_is_no_attribute(rest: bytes) -> None:
    assert attributes(attribute(3, b"kept") + rest) == {3: b"kept"}
