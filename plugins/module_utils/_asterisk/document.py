# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One configuration file of Asterisk, read the way Asterisk reads it and kept byte for byte.

The grammar is that of ``process_text_line`` and ``config_text_file_load`` in Asterisk's main/config.c: a line is cut at its comment,
stripped, and then parsed. Text is UTF-8 with surrogates for other bytes, so that every byte has one place in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Union

__all__ = [
    "Damage",
    "Directive",
    "Document",
    "Odd",
    "Option",
    "Section",
    "Span",
    "Statement",
    "decode",
    "encode",
    "unclosed",
]

# fgets() with a buffer of 8192 bytes
_LINE_LIMIT = 8191
_MAX_NESTED_COMMENTS = 128
_CATEGORY_LIMIT = 79
_BOM = b"\xef\xbb\xbf"
# what ast_strip() takes away: every character below 33
_BLANK = bytes(range(1, 33))
_BLANK_TEXT = _BLANK.decode("ascii")
# isspace() in the C locale
_SPACE = b" \t\n\v\f\r"


def decode(data: bytes) -> str:
    """Bytes of a file as text; ``encode`` is the inverse."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Section:
    """``[name](flags)``. ``flags`` are what stands between the parentheses, in order and as written; None where there are none."""

    line: int
    name: str
    flags: tuple[str, ...] | None


@dataclass(frozen=True)
class Option:
    """``name = value``, ``name => value`` or ``name += value`` (``append``; its value is not stripped at its beginning)."""

    line: int
    name: str
    value: str
    append: bool = False


@dataclass(frozen=True)
class Directive:
    """``#include``, ``#tryinclude`` or ``#exec`` (``kind``, lower case) with its target without quotes."""

    line: int
    kind: str
    target: str


@dataclass(frozen=True)
class Odd:
    """A line that Asterisk warns of and otherwise ignores; ``placed``: it has to stand in a section all the same."""

    line: int
    text: str
    placed: bool = False


@dataclass(frozen=True)
class Damage:
    """``fatal``: here Asterisk stops to read. Otherwise what Asterisk makes of it is not sure, and the file is not edited."""

    line: int
    text: str
    fatal: bool


Statement = Union[Section, Option, Directive, Odd, Damage]


@dataclass(frozen=True)
class Span:
    """Where a text lies in a line's bytes: ``line[start:end]``."""

    start: int
    end: int


@dataclass
class Document:
    """A file's lines, what they say, and the depth of block comments with which the next file of the same pattern would begin.

    ``states``: line number -> depth of block comments at its beginning, where that is not 0.
    """

    path: str
    lines: list[bytes]
    statements: list[Statement]
    states: dict[int, int] = field(default_factory=dict)
    depth: int = 0

    @classmethod
    def parse(cls, path: str, data: bytes, depth: int = 0, first: bool = True) -> Document:
        """``depth`` and ``first``: a pattern's files are one stream for Asterisk, in which a comment may go on and only one mark of byte
        order counts."""
        lines = data.split(b"\n")
        last = lines.pop()
        lines = [line + b"\n" for line in lines]
        if last:
            lines.append(last)
        made = cls(path, lines, [], {}, depth)
        if b"\0" in data:
            made.statements.append(Damage(data[: data.index(b"\0")].count(b"\n") + 1, "a NUL byte", False))
            return made
        made._read(first)
        return made

    def render(self) -> bytes:
        """The file's content; of an unchanged document, what was parsed."""
        return b"".join(self.lines)

    # -- what the lines say

    def _read(self, first: bool) -> None:
        depth = self.depth
        add = self.statements.append
        for number, raw in enumerate(self.lines, 1):
            if len(raw) >= _LINE_LIMIT and (len(raw) > _LINE_LIMIT or not raw.endswith(b"\n")):
                add(Odd(number, "a line of more than 8190 bytes, which Asterisk skips"))
                continue
            if number == 1 and first and raw.startswith(_BOM):
                raw = raw[len(_BOM) :]
            if depth:
                self.states[number] = depth
            if b";" not in raw:
                if depth:
                    continue
                text = raw.strip(_BLANK)
            else:
                text = raw.strip(_BLANK)
                if not depth and b"--" not in raw and b"\\;" not in raw:
                    # nothing but a plain comment: nearly every line that has one
                    text = text.partition(b";")[0].strip(_BLANK)
                else:
                    kept, depth, sure = _without_comments(raw, depth)
                    if not sure:
                        add(Damage(number, "the end of a block comment (--;) that never began", False))
                        return
                    text = bytes(kept.text).strip(_BLANK)
            if text:
                statement = _parse(number, decode(text))
                add(statement)
                if isinstance(statement, Damage) and statement.fatal:
                    break
        self.depth = depth

    # -- where something is

    def goes_on(self, line: int) -> bool:
        """Whether a block comment goes on behind that line."""
        return bool(self.depth if line == len(self.lines) else self.states.get(line + 1))

    def value_span(self, option: Option) -> Span | None:
        """Where the option's value lies in its line, without blanks around it; None where a comment cuts it in pieces."""
        raw = self.lines[option.line - 1]
        kept = _without_comments(raw, self.states.get(option.line, 0))[0]
        text, places = kept.text, kept.places
        first = len(text) - len(text.lstrip(_BLANK))
        # an escaped first character is never the sign
        sign = text.index(b"=", first + 2 if text[first : first + 1] == b"\\" else first)
        begin = sign + 1
        if not option.append and text[begin : begin + 1] == b">":
            begin += 1
        while begin < len(text) and text[begin] in _BLANK:
            begin += 1
        end = len(text)
        while end > begin and text[end - 1] in _BLANK:
            end -= 1
        if begin == end:
            # an empty value goes right behind the sign
            place = places[sign] + 1
            if not option.append and raw[place : place + 1] == b">":
                place += 1
            return Span(place, place)
        # an escaped semicolon is one character of the value and two bytes of the line
        start, stop = places[begin] - (text[begin : begin + 1] == b";"), places[end - 1] + 1
        between = raw[start:stop].replace(b"\\;", b";")
        return Span(start, stop) if between == bytes(text[begin:end]) else None


def unclosed(raw: bytes) -> bool:
    """Whether the end of this beginning of a line is inside of a block comment, or cannot be read."""
    dummy, depth, sure = _without_comments(raw, 0)
    return bool(depth) or not sure


@dataclass
class _Kept:
    """What is left of a line without its comments, and where each byte of it came from."""

    text: bytearray
    places: list[int]


def _without_comments(raw: bytes, depth: int) -> tuple[_Kept, int, bool]:
    """The line without comments, the depth of block comments after it, and whether Asterisk's own reading is well defined."""
    buf = bytearray(raw)
    places = list(range(len(raw)))
    begin: int | None = None if depth else 0
    cut: int | None = None  # where the kept text ends, like a NUL in C
    scan = 0
    while True:
        at = buf.find(b";", scan)
        if at < 0:
            break
        if at > scan and buf[at - 1] == 0x5C:
            # an escaped semicolon: the backslash goes
            del buf[at - 1], places[at - 1]
            scan = at
        elif buf[at + 1 : at + 3] == b"--" and buf[at + 3 : at + 4] != b"-":
            if depth >= _MAX_NESTED_COMMENTS:
                return _Kept(bytearray(), []), depth, False
            if begin is not None and cut is None:
                cut = at
            scan = at + 3
            depth += 1
        elif at >= scan + 2 and buf[at - 2 : at] == b"--":
            if not depth:
                return _Kept(bytearray(), []), depth, False
            depth -= 1
            scan = at + 1
            if not depth:
                if begin is None:
                    begin = scan
                elif cut is not None:
                    # what follows the comment moves up to where it began
                    del buf[cut:scan], places[cut:scan]
                    scan, cut = cut, None
        elif not depth:
            cut = at
            while cut > scan and buf[cut - 1] in _SPACE:
                cut -= 1
            break
        else:
            scan = at + 1
    if begin is None:
        return _Kept(bytearray(), []), depth, True
    end = len(buf) if cut is None else cut
    return _Kept(buf[begin:end], places[begin:end]), depth, True


_DIRECTIVE = re.compile(r"#([^\x01-\x20]*)[\x01-\x20]*(.*)", re.DOTALL)


def _parse(line: int, text: str) -> Statement:
    """One stripped line that is not empty."""
    head = text[0]
    if head == "[":
        return _section(line, text)
    if head == "#":
        return _directive(line, text)
    skip = 0
    if head == "\\":
        # an escaped first character, which a name may then begin with
        if len(text) < 2 or ord(text[1]) < 33:
            return Damage(line, "a backslash that escapes nothing", True)
        if ord(text[1]) >= 128:
            # whether a byte is negative depends on the processor
            return Damage(line, "a backslash before a character that is not ASCII", False)
        text = text[1:]
        skip = 1
    at = text.find("=", skip)
    if at < 0:
        return Odd(line, "no equal sign", True)
    if at > skip and text[at - 1] == "+":
        name, value, append = text[: at - 1], text[at + 1 :], True
    else:
        value = text[at + 1 :]
        if value.startswith(">"):
            value = value[1:]
        name, value, append = text[:at], value.strip(_BLANK_TEXT), False
    name = name.strip(_BLANK_TEXT)
    if not name:
        return Odd(line, "no name before the equal sign", True)
    return Option(line, name, value, append)


def _section(line: int, text: str) -> Statement:
    name, closed, rest = text[1:].partition("]")
    if not closed:
        return Damage(line, "a section's name without a closing ]", True)
    if len(encode(name)) > _CATEGORY_LIMIT:
        return Damage(line, f"a section's name of more than {_CATEGORY_LIMIT} bytes", False)
    if not rest.startswith("("):
        return Section(line, name, None)
    inside, closed, dummy = rest[1:].partition(")")
    if not closed:
        return Damage(line, "a section's options without a closing )", True)
    return Section(line, name, tuple(inside.split(",")))


def _directive(line: int, text: str) -> Statement:
    match = _DIRECTIVE.match(text)
    kind, target = (match.group(1).lower(), match.group(2).strip(_BLANK_TEXT)) if match else ("", "")
    if kind not in ("include", "tryinclude", "exec"):
        return Odd(line, "a directive that Asterisk does not know")
    if not target:
        return Odd(line, f"#{kind} without a target")
    for opening, closing in (('"', '"'), ("<", ">")):
        if target[0] == opening and len(target) > 1 and target[-1] == closing:
            target = target[1:-1]
            break
    return Directive(line, kind, target)
