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
from .document import Directive, Document, Option, Section, decode, encode, unclosed
from .tree import Place

__all__ = ["Edits", "Marked", "marked", "option_line", "reverted"]

_BOM = b"\xef\xbb\xbf"
_BLANK = bytes(range(1, 33))
_HIDDEN = "***"
_MARK = b" ; sipguard"
_WAS = _MARK + b": was "
# the line before had no end until we added ours
_JOINED = _MARK + b": the line before had no end"
_HEADER = re.compile(rb"\[[^\];]*\](?:\([^);]*\))?")
# No diff shows their values, whoever has written the remark.
_SECRET = re.compile(r"(?i)secret|passw|md5|digest|token|cred$|^auth$|^register$|^pin$")


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
    # by file and line
    _values: dict[str, dict[int, tuple[str, bool]]] = field(default_factory=dict)
    _templates: dict[str, set[int]] = field(default_factory=dict)
    _inserts: dict[str, dict[int, list[bytes]]] = field(default_factory=dict)
    _appends: dict[str, list[bytes]] = field(default_factory=dict)
    _ends: dict[str, dict[int, tuple[int, int]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.touched)

    @property
    def touched(self) -> set[str]:
        """The names of the files that change."""
        return {*self._values, *self._templates, *self._inserts, *self._appends}

    def replace(self, place: Place, value: str, remember: bool = True) -> None:
        """Give the option at ``place`` another value; ``remember`` is False for a secret, which no remark may keep."""
        self._values.setdefault(place.file, {})[place.line] = (value, remember)

    def make_template(self, place: Place) -> None:
        """Make the section whose header is at ``place`` a template: Asterisk then builds no object of it, and its text stays."""
        self._templates.setdefault(place.file, set()).add(place.line)

    def insert(self, header: Place, option: str, value: str, late: bool = False) -> None:
        """Add an option to the section whose header is at ``header``: behind its last option, or with ``late`` behind what it includes."""
        document = self.files[header.file]
        if header.file not in self._ends:
            self._ends[header.file] = _ends_of_sections(document)
        line = self._ends[header.file][header.line][late]
        if document.goes_on(line):
            raise _refuse(header, "a block comment begins in this line")
        before = document.lines[line - 1]
        like = before if line != header.line else b""
        new = option_line(option, value, like, b"\r\n" if before.endswith(b"\r\n") else b"\n")
        lines = self._inserts.setdefault(header.file, {}).setdefault(line, [])
        if new not in lines:  # of a file that is included twice there are two sections with one header
            lines.append(new)

    def append(self, file: str, lines: Iterable[bytes]) -> None:
        """Add whole lines at the end of a file, which may be a new one."""
        self._appends.setdefault(file, []).extend(lines)

    def prepend(self, file: str, lines: Iterable[bytes]) -> None:
        """Add whole lines before the first section of a file."""
        document = self.files.get(file)
        first = [each.line for each in document.statements if isinstance(each, Section)] if document else []
        if not first or document is None:
            self.append(file, lines)
            return
        if first[0] == 1 and document.lines[0].startswith(_BOM):
            raise _refuse(file, "it begins with a mark of byte order")
        if document.states.get(first[0]):
            raise _refuse(Place(file, first[0]), "a block comment ends in this line")
        self._inserts.setdefault(file, {}).setdefault(first[0] - 1, []).extend(lines)

    def apply(self) -> dict[str, bytes]:
        """File name -> new content, of the files that change. Raises SipguardError for a line that cannot be edited safely."""
        return {name: self._apply(name) for name in sorted(self.touched)}

    def _apply(self, name: str) -> bytes:
        document = self.files.get(name) or Document(name, [], [])
        lines = list(document.lines)
        values = self._values.get(name)
        if values:
            options = {each.line: each for each in document.statements if isinstance(each, Option)}
            for line, (value, remember) in values.items():
                lines[line - 1] = _replaced(document, options[line], Place(name, line), value, remember)
        for line in self._templates.get(name, ()):
            lines[line - 1] = _templated(document, Place(name, line))
        made: list[bytes] = []
        inserts = self._inserts.get(name, {})
        _extend(made, inserts.get(0, []))
        for number, raw in enumerate(lines, 1):
            made.append(raw)
            if number in inserts:
                _extend(made, inserts[number])
        if self._appends.get(name):
            if document.depth:
                raise _refuse(name, "its last comment (;--) never ends")
            new = self._appends[name]
            if document.lines and document.lines[0].endswith(b"\r\n"):
                new = [line[:-1] + b"\r\n" for line in new]
            _extend(made, new)
        return b"".join(made)


def _extend(made: list[bytes], new: list[bytes]) -> None:
    """Add our lines, the first of which says so when the line before them has no end yet."""
    if made and new and not made[-1].endswith(b"\n"):
        made[-1] += b"\n"
        new = [new[0].replace(_MARK, _JOINED, 1), *new[1:]]
    made += new


def _ends_of_sections(document: Document) -> dict[int, tuple[int, int]]:
    """Line of a header -> the lines behind which an option still belongs to its section: its last option, and its last #include."""
    ends: dict[int, tuple[int, int]] = {}
    header = 0
    for statement in document.statements:
        if isinstance(statement, Section):
            header = statement.line
            ends[header] = (header, header)
        elif header and isinstance(statement, (Option, Directive)) and not document.goes_on(statement.line):
            last = statement.line if isinstance(statement, Option) else ends[header][0]
            ends[header] = (last, statement.line)
    return ends


def _replaced(document: Document, option: Option, place: Place, value: str, remember: bool) -> bytes:
    raw = document.lines[place.line - 1]
    span = document.value_span(option)
    if span is None or document.states.get(place.line) or document.goes_on(place.line):
        raise _refuse(place, "a block comment (;-- --;) cuts it in pieces")
    new = encode(_escaped(value))
    start = span.start
    if not new:
        # the blanks before a value go with it, or nobody would know where they were
        start = len(raw[:start].rstrip(_BLANK))
    remark = _remark(document, place.line)[1]
    if remark or not remember:
        # what it was before us stays written
        return raw[:start] + new + raw[span.end :]
    body, ending = _without_ending(raw)
    return raw[:start] + new + body[span.end :] + _WAS + raw[start : span.end] + ending


def _templated(document: Document, place: Place) -> bytes:
    raw = document.lines[place.line - 1]
    body, ending = _without_ending(raw)
    match = _HEADER.search(body)
    if not match or b";--" in body or document.states.get(place.line):
        raise _refuse(place, "a comment cuts the section's name in pieces")
    name, paren, flags = match.group().partition(b"(")
    header = name + (b"(!," + flags if paren else b"(!)")
    if _remark(document, place.line)[1]:
        return body[: match.start()] + header + body[match.end() :] + ending
    return body[: match.start()] + header + body[match.end() :] + _WAS + match.group() + ending


def _without_ending(raw: bytes) -> tuple[bytes, bytes]:
    for ending in (b"\r\n", b"\n"):
        if raw.endswith(ending):
            return raw[: -len(ending)], ending
    return raw, b""


def _remark(document: Document, line: int) -> tuple[bytes, bytes]:
    """What a line says before our remark, and the remark; empty where it is none of ours, as in a block comment."""
    body = _without_ending(document.lines[line - 1])[0]
    at = body.rfind(_MARK)
    if at < 0 or document.states.get(line) or document.goes_on(line) or unclosed(body[:at]):
        return body, b""
    remark = body[at:]
    if remark == _WAS.rstrip():
        remark = _WAS  # somebody's editor has taken the blank away
    if remark in (_MARK, _JOINED) or remark.startswith(_WAS):
        return body[:at], remark
    return body, b""


def reverted(document: Document) -> bytes:
    """The file as it would be without us: lines that we added are gone, values and headers that we changed are back.

    A section that we began stays if somebody has written into it since, and so does a line that somebody has made a comment.
    """
    made: list[bytes] = []
    statements = {each.line: each for each in document.statements}
    kept = _kept(document)
    joined = False
    for number, raw in enumerate(document.lines, 1):
        statement = statements.get(number)
        if _MARK in raw and isinstance(statement, (Option, Section)):
            left, remark = _remark(document, number)
            if remark and number not in kept and not remark.startswith(_WAS):
                joined = (joined or remark == _JOINED) and bool(made)
                continue
            raw = _restored(document, statement, raw, left, remark)
        made.append(raw)
        joined = False
    if joined:
        made[-1] = made[-1][:-1]
    return b"".join(made)


def _restored(document: Document, statement: Option | Section, raw: bytes, left: bytes, remark: bytes) -> bytes:
    """One line without our remark."""
    ending = _without_ending(raw)[1]
    was = remark[len(_WAS) :]
    if not remark:
        return raw
    if not remark.startswith(_WAS):
        return left + ending
    if isinstance(statement, Section):
        match = _HEADER.search(left)
        return raw if match is None else left[: match.start()] + was + left[match.end() :] + ending
    span = document.value_span(statement)
    return raw if span is None else left[: span.start] + was + left[span.end :] + ending


def _kept(document: Document) -> set[int]:
    """The lines of sections that we began and that hold options of somebody else: their headers and types."""
    kept: set[int] = set()
    ours: set[int] = set()
    for statement in document.statements:
        marked = _MARK in document.lines[statement.line - 1] and _remark(document, statement.line)[1] in (
            _MARK,
            _JOINED,
        )
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
        left, remark = _remark(document, statement.line) if _MARK in document.lines[statement.line - 1] else (b"", b"")
        was = decode(remark[len(_WAS) :]) if remark.startswith(_WAS) else None
        if isinstance(statement, Section):
            section = statement.name
            if was is not None:
                found.append(Marked(statement.line, section, "section", decode(left), was))
        elif isinstance(statement, Option) and remark:
            now = statement.value
            if _SECRET.search(statement.name):
                now, was = _HIDDEN, was and _HIDDEN
            found.append(Marked(statement.line, section, statement.name, now, was))
    return found
