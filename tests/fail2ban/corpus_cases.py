# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The corpus: what a sender makes Asterisk log, and whose address may be found in it.

A file of ``corpus/`` holds sections (``## what they are about``) of cases, which are separated by empty lines; ``#`` begins a comment.
A case is a line that says what must come out, and one with what is logged::

    CLASS [ADDRESS] [FORMAT ...] -- why
    FILE FUNCTION LEVEL: message

CLASS is the evidence (``login``, ``scan``; ``stream``, ``udp``), the option that must be set for it (``callers``, ``options``,
``chan_sip``), or ``none``.
FORMATs, all by default, are those of ``FORMATS``; with ``raw`` the second line is the whole line of the log.
``{{LF}}``, ``{{U+2028}}``, ``{{0xFF}}`` and ``{{text*60000}}`` stand for themselves.

A section begins with what is found; each ``none`` in it is like one of those but for what its "why" says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FORMATS", "STAMP", "Case", "Line", "read", "render"]

STAMP = 1772694489  # 2026-03-05 07:08:09 UTC
FORMATS = (
    "json",
    "file",
    "plain",
    "syslog",
    "syslog-iso",
    "journal",
    "journal-date",
    "json-short",
    "file-short",
    "file-fraction",
)

_FOLDER = Path(__file__).with_name("corpus")
_CLASSES = ("login", "scan", "stream", "udp", "options", "callers", "chan_sip", "none")
_ENTRY = re.compile(r"(\S+\.c|pjproject|Ext\. .*?) (@ \S+|\S+) ([A-Z]+): (.*)", re.DOTALL)


@dataclass(frozen=True)
class Line:
    """One line of a log, without its end, and whether it came from the journal, which has the date beside it."""

    text: str
    journal: bool = False


@dataclass(frozen=True)
class Case:
    """One case in one format: ``evidence`` is its class, ``address`` empty for ``none``."""

    where: str
    section: str
    evidence: str
    address: str
    form: str
    why: str
    line: Line


def _expanded(text: str) -> str:
    def value(found: re.Match[str]) -> str:
        word = found[1]
        if word == "LF":
            return "\n"
        if word.startswith("U+"):
            return chr(int(word[2:], 16))
        if word.startswith("0x"):
            return bytes([int(word, 16)]).decode("utf-8", "surrogateescape")
        repeated, dummy, times = word.rpartition("*")
        return repeated * int(times)

    return re.sub(r"\{\{(.+?)\}\}", value, text)


def render(form: str, entry: str) -> Line:
    """What Asterisk (and syslog, and journald) write for ``FILE FUNCTION LEVEL: message``, at ``STAMP``."""
    found = _ENTRY.fullmatch(entry)
    assert found, entry
    file, function, level, message = found.groups()
    call = "[C-0000002a]" if "session" in file or file.startswith("Ext.") else ""
    iso, short, with_line = "2026-03-05 07:08:09", "Mar  5 07:08:09", f"{file}:123"
    if form.startswith("json"):
        # the order and the separators of Asterisk's main/logger.c
        return Line(
            json.dumps(
                {
                    "hostname": "pbx" if form == "json-short" else "",
                    "timestamp": short if form == "json-short" else iso,
                    "identifiers": {"lwp": 58, "callid": call},
                    "logmsg": {
                        "location": {"filename": file, "function": function, "line": 123},
                        "level": level,
                        "message": f"{message}\n",
                    },
                },
                separators=(",", ":"),
                ensure_ascii=False,
            )
        )
    syslog = f"asterisk[310]: {level}[58]{call}: {with_line} in {function}: {message}"
    forms = {
        "file": f"[{iso}] {level}[58]{call} {file}: {message}",
        "file-short": f"[{short}] {level}[58]{call} {file}: {message}",
        "file-fraction": f"[{iso}.123] {level}[58]{call} {file}: {message}",
        "plain": f"[{iso}] {level}[58]{call}: {with_line} {function}: {message}",
        "syslog": f"{short} pbx {syslog}",
        "syslog-iso": f"2026-03-05T07:08:09.123456+00:00 pbx {syslog}",
        "journal": f"pbx {syslog}",
        "journal-date": f"pbx asterisk[310]: [{short}] {level}[58]{call}: {with_line} {function}: {message}",
    }
    return Line(forms[form], form.startswith("journal"))


def _cases(path: Path) -> Iterator[Case]:
    section = ""
    head: tuple[int, str] | None = None
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if text.startswith("## "):
            section = text[3:]
        elif not text or text.startswith("#"):
            assert head is None, f"{path.name}:{number}: a case has two lines"
        elif head is None:
            head = number, text
        else:
            (start, words), head = head, None
            left, dashes, why = words.partition(" -- ")
            evidence, *more = left.split()
            assert dashes, f"{path.name}:{start}: why?"
            assert evidence in _CLASSES, f"{path.name}:{start}: {evidence}"
            address = "" if evidence == "none" else more.pop(0)
            for form in more or FORMATS:
                entry = _expanded(text)
                line = Line(entry) if form == "raw" else render(form, entry)
                yield Case(f"{path.name}:{start}", section, evidence, address, form, why, line)


def read(name: str) -> list[Case]:
    """Every case of ``corpus/NAME.txt``, once for each of its formats."""
    return list(_cases(_FOLDER / f"{name}.txt"))
