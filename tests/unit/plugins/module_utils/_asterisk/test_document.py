# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files are kept byte for byte, whatever is in them. That they are read as Asterisk reads them: tests/asterisk/test_grammar.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.document import (
    Damage,
    Directive,
    Document,
    Odd,
    Option,
    Section,
    Statement,
    decode,
    encode,
    unclosed,
)
from tests.asterisk.configurations import configurations, lines

BLANK = bytes(range(1, 33)).decode()
anything = st.one_of(st.binary(), configurations(), st.lists(lines).map(lambda each: "\r\n".join(each).encode()))


def parsed(data: bytes) -> Document:
    return Document.parse("x.conf", data)


STATEMENTS: dict[str, tuple[bytes, list[Statement]]] = {
    "an option": (b"[a]\nk=v\n", [Section(1, "a", None), Option(2, "k", "v")]),
    "an arrow": (b"\tk => v ; c\n", [Option(1, "k", "v")]),
    "an addition": (b"k += v \n", [Option(1, "k", " v", True)]),
    "a section with flags": (b"[a](!,b)x\n", [Section(1, "a", ("!", "b"))]),
    "an escaped semicolon": (b"k=a\\;b;c\n", [Option(1, "k", "a;b")]),
    "an inline block comment": (b"k=a;-- x --;b\n", [Option(1, "k", "ab")]),
    "a block comment": (b";--\nk=v\n--;\nl=w\n", [Option(4, "l", "w")]),
    "a line of comment that looks like one": (b";--- k\nk=v\n", [Option(2, "k", "v")]),
    "an include": (b'#include "a b.conf" ; c\n', [Directive(1, "include", "a b.conf")]),
    "an exec": (b"#EXEC /bin/x\n", [Directive(1, "exec", "/bin/x")]),
    "an unknown directive": (b"#x\n", [Odd(1, "a directive that Asterisk does not know")]),
    "no sign": (b"x\n", [Odd(1, "no equal sign", True)]),
    "no bracket": (b"[x\nk=v\n", [Damage(1, "a section's name without a closing ]", True)]),
    "an end without a beginning": (
        b"k=v --; x\n",
        [Damage(1, "the end of a block comment (--;) that never began", False)],
    ),
    "a NUL": (b"k=v\n\0", [Damage(2, "a NUL byte", False)]),
    "other bytes": (b"k=\xff\n", [Option(1, "k", "\udcff")]),
    "a mark of byte order": (b"\xef\xbb\xbf[a]\n", [Section(1, "a", None)]),
    "a long line": (b"k=" + b"x" * 8190 + b"\n", [Odd(1, "a line of more than 8190 bytes, which Asterisk skips")]),
}


@pytest.mark.parametrize(("data", "statements"), STATEMENTS.values(), ids=STATEMENTS)
def test_statements(data: bytes, statements: list[Statement]) -> None:
    assert parsed(data).statements == statements


@given(anything)
def test_render_is_the_inverse_of_parse(data: bytes) -> None:
    assert parsed(data).render() == data


@given(anything)
def test_statements_are_in_order_and_one_a_line(data: bytes) -> None:
    document = parsed(data)
    numbers = [each.line for each in document.statements]
    assert numbers == sorted(set(numbers))
    assert all(1 <= number <= len(document.lines) for number in numbers if document.lines)


@given(st.binary())
def test_every_byte_has_its_text(data: bytes) -> None:
    assert encode(decode(data)) == data


@given(anything, st.sampled_from([b"new", b"a b", b"x\\;y"]))
def test_a_value_is_where_it_is_said_to_be(data: bytes, new: bytes) -> None:
    """Whatever stands in its place is then the value, and nothing else in the file is another."""
    document = parsed(data)
    for option in (each for each in document.statements if isinstance(each, Option)):
        span = document.value_span(option)
        if span is None:
            continue
        raw = document.lines[option.line - 1]
        changed = list(document.lines)
        changed[option.line - 1] = raw[: span.start] + new + raw[span.end :]
        if len(changed[option.line - 1]) > 8000:
            continue
        after = parsed(b"".join(changed)).statements
        wanted = [
            Option(each.line, each.name, new.replace(b"\\;", b";").decode(), each.append) if each == option else each
            for each in document.statements
        ]
        assert [_stripped(each) for each in after] == [_stripped(each) for each in wanted]


def _stripped(statement: Statement) -> Statement:
    """An addition keeps the blanks before its value."""
    if isinstance(statement, Option):
        return Option(statement.line, statement.name, statement.value.strip(BLANK), statement.append)
    return statement


@pytest.mark.parametrize(
    ("data", "line", "goes_on"),
    [
        (b"a=b ;-- c\nd\n--;\n", 1, True),
        (b"a=b ;-- c\nd\n--;\n", 3, False),
        (b"a=b ;-- c", 1, True),
        (b"a=b ; c", 1, False),
    ],
)
def test_where_a_block_comment_goes_on(data: bytes, line: int, goes_on: bool) -> None:
    assert parsed(data).goes_on(line) is goes_on


@pytest.mark.parametrize(
    ("raw", "inside"), [(b"a ;-- b", True), (b"a ;-- b --;", False), (b"a ; ;-- b", False), (b"--;", True)]
)
def test_the_beginning_of_a_line(raw: bytes, inside: bool) -> None:
    assert unclosed(raw) is inside
