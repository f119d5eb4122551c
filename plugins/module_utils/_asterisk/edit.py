# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of configuration files that touch nothing but the lines they are about, and that can be taken back.

Each line that we write ends with a remark, ``; sipguard`` where there was none before and ``; sipguard: was TEXT`` where there was
one. That tells an administrator who has done it, and it is all that ``revert`` needs: there is no state file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .._sip.errors import SipguardError
from .document import Document, Option, Section, decode, encode
from .tree import Place

__all__ = ["Edits", "Marked", "marked", "option_line", "reverted"]

_MARK = b" ; sipguard"
_WAS = _MARK + b": was "
# the line before had no end until we added ours
_JOINED = _MARK + b": the line before had no end"
_HEADER = re.compile(rb"[^\]]*\]")


def _refuse(place: Place | str, why: str) -> SipguardError:
    return SipguardError(f"{place}: {why}; edit this line by hand")


def _escaped(value: str) -> str:
    """A value as it stands in a file: a semicolon would begin a comment."""
    return value.replace(";", "\\;")


def option_line(option: str, value: str, like: bytes = b"", ending: bytes = b"\n") -> bytes:
    """One whole line with our mark; ``like`` is a line whose spacing around the sign it copies."""
    match = re.match(rb"[^=;\[]*?([ \t]*)=>?([ \t]*)[^ \t]", like)
    before, after = (match.group(1), match.group(2)) if match else (b"", b"")
    if len(before) > 1:
        before = b" "  # a column of its own, which a longer name would break
    return encode(option) + before + b"=" + after + encode(_escaped(value)) + _MARK + ending


@dataclass
class Edits:
    """What is to be done to the files of a tree; ``apply`` gives their new contents."""

    files: dict[str, Document]
    _values: dict[Place, tuple[str, bool]] = field(default_factory=dict)
    _templates: set[Place] = field(default_factory=set)
    _inserts: dict[Place, list[bytes]] = field(default_factory=dict)
    _appends: dict[str, list[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._values or self._templates or self._inserts or self._appends)

    @property
    def touched(self) -> set[str]:
        """The names of the files that change."""
        return {place.file for place in (*self._values, *self._templates, *self._inserts)} | set(self._appends)

    def replace(self, place: Place, value: str, remember: bool = True) -> None:
        """Give the option at ``place`` another value; ``remember`` is False for a secret, which no remark may keep."""
        self._values[place] = (value, remember)

    def make_template(self, place: Place) -> None:
        """Make the section whose header is at ``place`` a template: Asterisk then builds no object of it, and its text stays."""
        self._templates.add(place)

    def insert(self, header: Place, option: str, value: str) -> None:
        """Add an option at the end of the section whose header is at ``header``."""
        document = self.files[header.file]
        place = Place(header.file, _end_of_section(document, header.line))
        line = document.lines[place.line - 1]
        like = line if place.line != header.line else b""
        new = option_line(option, value, like, b"\r\n" if line.endswith(b"\r\n") else b"\n")
        self._inserts.setdefault(place, []).append(new)

    def append(self, file: str, lines: Iterable[bytes]) -> None:
        """Add whole lines at the end of a file, which may be a new one."""
        self._appends.setdefault(file, []).extend(lines)

    def apply(self) -> dict[str, bytes]:
        """File name -> new content, of the files that change. Raises SipguardError for a line that cannot be edited safely."""
        return {name: self._apply(name) for name in sorted(self.touched)}

    def _apply(self, name: str) -> bytes:
        document = self.files.get(name) or Document(name, [], [])
        options = {each.line: each for each in document.statements if isinstance(each, Option)}
        lines = list(document.lines)
        for place, (value, remember) in self._values.items():
            if place.file == name:
                lines[place.line - 1] = _replaced(document, options[place.line], place, value, remember)
        for place in self._templates:
            if place.file == name:
                lines[place.line - 1] = _templated(lines[place.line - 1], place)
        for place in sorted((each for each in self._inserts if each.file == name), reverse=True):
            lines[place.line : place.line] = _joined(lines[: place.line], self._inserts[place])
            if not lines[place.line - 1].endswith(b"\n"):
                lines[place.line - 1] += b"\n"
        appended = self._appends.get(name, [])
        if appended:
            if document.depth:
                raise _refuse(name, "its last comment (;--) never ends")
            appended = _joined(lines, appended)
            if lines and not lines[-1].endswith(b"\n"):
                lines[-1] += b"\n"
            lines += appended
        return b"".join(lines)


def _joined(before: list[bytes], new: list[bytes]) -> list[bytes]:
    """Our lines, the first of which says so when the line before them has no end yet."""
    if not before or before[-1].endswith(b"\n"):
        return new
    return [new[0].replace(_MARK, _JOINED, 1), *new[1:]]


def _end_of_section(document: Document, header: int) -> int:
    """The line after which an option still belongs to the section at line ``header``."""
    end = header
    inside = False
    for statement in document.statements:
        if statement.line == header:
            inside = True
        elif inside and isinstance(statement, Section):
            break
        elif inside and isinstance(statement, Option) and not document.states.get(statement.line + 1):
            end = statement.line
    if end == header and document.states.get(header + 1):
        raise _refuse(Place(document.path, header), "a block comment begins in this line")
    return end


def _replaced(document: Document, option: Option, place: Place, value: str, remember: bool) -> bytes:
    raw = document.lines[place.line - 1]
    span = document.value_span(option)
    if span is None or document.states.get(place.line) or document.states.get(place.line + 1):
        raise _refuse(place, "a block comment (;-- --;) cuts it in pieces")
    body, ending = _without_ending(raw)
    new = encode(_escaped(value))
    if _MARK in body or not remember:
        # what it was before us stays written
        return raw[: span.start] + new + raw[span.end :]
    return raw[: span.start] + new + body[span.end :] + _WAS + raw[span.start : span.end] + ending


def _templated(raw: bytes, place: Place) -> bytes:
    body, ending = _without_ending(raw)
    match = _HEADER.match(body)
    if not match or b";" in match.group() or b";--" in body:
        raise _refuse(place, "a comment cuts the section's name in pieces")
    end = match.end()
    made = body[:end] + b"(!," + body[end + 1 :] if body[end : end + 1] == b"(" else body[:end] + b"(!)" + body[end:]
    return made + _WAS + body + ending


def _without_ending(raw: bytes) -> tuple[bytes, bytes]:
    for ending in (b"\r\n", b"\n"):
        if raw.endswith(ending):
            return raw[: -len(ending)], ending
    return raw, b""


def reverted(document: Document) -> bytes:
    """The file as it would be without us: lines that we added are gone, values and headers that we changed are back.

    A section that we began stays if somebody has written into it since.
    """
    made: list[bytes] = []
    options = {each.line: each for each in document.statements if isinstance(each, Option)}
    kept = _kept(document)
    for number, raw in enumerate(document.lines, 1):
        body, ending = _without_ending(raw)
        mark = body.rfind(_MARK)
        left, remark = body[:mark], body[mark:]
        if mark < 0 or document.states.get(number):
            made.append(raw)
        elif number in kept:
            made.append(left + ending)
        elif remark in (_MARK, _JOINED):
            if remark == _JOINED and made:
                made[-1] = _without_ending(made[-1])[0]
        elif remark.startswith(_WAS):
            option = options.get(number)
            span = document.value_span(option) if option else None
            was = remark[len(_WAS) :]
            made.append((was if span is None else left[: span.start] + was + left[span.end :]) + ending)
        else:
            made.append(raw)
    return b"".join(made)


def _kept(document: Document) -> set[int]:
    """The lines of sections that we began and that hold options of somebody else: their headers and types."""
    kept: set[int] = set()
    ours: set[int] = set()
    for statement in document.statements:
        marked = _without_ending(document.lines[statement.line - 1])[0].endswith((_MARK, _JOINED))
        if isinstance(statement, Section):
            ours = {statement.line} if marked else set()
        elif ours and marked and isinstance(statement, Option) and statement.name == "type":
            ours.add(statement.line)
        elif ours and not marked:
            kept |= ours
    return kept


@dataclass(frozen=True)
class Marked:
    """A line of ours: what it says (``now``), and what it says without us (``was``, None where it is gone then)."""

    number: int
    section: str
    option: str
    now: str
    was: str | None


def marked(document: Document) -> list[Marked]:
    """Our lines in a file. Secrets are not shown."""
    found: list[Marked] = []
    section = ""
    for statement in document.statements:
        body = _without_ending(document.lines[statement.line - 1])[0]
        mark = body.rfind(_MARK)
        remark = body[mark:] if mark >= 0 else b""
        was = decode(remark[len(_WAS) :]) if remark.startswith(_WAS) else None
        if isinstance(statement, Section):
            section = statement.name
            if was is not None:
                found.append(Marked(statement.line, section, "section", decode(body[:mark]), was))
        elif isinstance(statement, Option) and remark:
            hidden = statement.name in ("secret", "password")
            value = "***" if hidden else statement.value
            found.append(Marked(statement.line, section, statement.name, value, was))
    return found
