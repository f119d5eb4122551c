# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations nobody would write, as hypothesis strategies: every rule of the grammar beside every other."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["configurations", "lines"]

_NAMES = st.sampled_from(["a", "A", "bb", "general", "1001", "type", "x y", "#a", "[z", "ü"])
_SECTIONS = st.sampled_from(["a", "A", "general", "General", "1001", "t", "x y"])
_BLANKS = st.sampled_from(["", "", " ", "\t", "  ", "\r"])
_WORDS = st.sampled_from(
    ["1", "yes", "a,b", '"q"', "x=y", ">", "+", "[a]", "(!)", "\\;", "\\", "--", ";", ";--", "--;", ";---", "é", "\x01"]
)
_VALUES = st.lists(_WORDS, max_size=3).map("".join)
_SIGNS = st.sampled_from(["=", "=", "=>", "+=", " = ", " => ", " += ", "\t=", "= >"])
_FLAGS = st.sampled_from(
    ["", "", "", "(!)", "(t)", "(a)", "(+)", "(!,a)", "(a,t)", "(a, t)", " (t)", "(+,a)", "(a,+)", "(", "(+type=1)"]
)
_COMMENTS = st.sampled_from(
    ["", "", "", ";c", " ; c", ";-- x", ";-- x --;", "--;", ";--- c", "; \\; c", ";;", ";--;--;"]
)
_NOISE = st.sampled_from(
    [
        "",
        " ",
        ";",
        "; c",
        ";--",
        "--;",
        "; --;",
        "x",
        "#unknown",
        "#include",
        "]",
        "[",
        "\\",
        "\\[a=b",
        "\\\\=c",
        "=v",
        "+=v",
    ]
)


@st.composite
def _options(draw: st.DrawFn) -> str:
    return "".join(draw(part) for part in (_BLANKS, _NAMES, _SIGNS, _VALUES, _BLANKS, _COMMENTS))


@st.composite
def _headers(draw: st.DrawFn) -> str:
    return "".join(["[", draw(_SECTIONS), "]", draw(_FLAGS), draw(_BLANKS), draw(_COMMENTS)])


lines = st.one_of(_options(), _options(), _options(), _headers(), _headers(), _NOISE)


@st.composite
def configurations(draw: st.DrawFn) -> bytes:
    """A file's content that begins with two sections, so that most of what follows is read."""
    body = draw(st.lists(lines, max_size=14))
    start = draw(st.sampled_from(["[a]\n[t](!)\ntype=1\n", "\ufeff[a]\n[t](!)\n", "[t](!)\n[general]\n", ""]))
    end = draw(st.sampled_from(["\n", "", "\r\n"]))
    return (start + "\n".join(body) + end).encode()
