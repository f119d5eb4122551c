# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit finds: kinds of findings, and findings that merge everything with the same cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..tree import Place

__all__ = [
    "CRITICAL",
    "HIGH",
    "INFO",
    "LOW",
    "MEDIUM",
    "SEVERITIES",
    "Finding",
    "Findings",
    "Kind",
    "first_few",
    "kind",
    "kinds",
    "show",
]

CRITICAL, HIGH, MEDIUM, LOW, INFO = SEVERITIES = ("critical", "high", "medium", "low", "info")
_SHOWN = 80


@dataclass(frozen=True)
class Kind:
    """A kind of finding. ``severity`` is the usual one; what is less or more sure or severe says so itself."""

    id: str
    severity: str
    title: str
    why: str
    remedy: str


_KINDS: dict[str, Kind] = {}


def kinds() -> Iterator[Kind]:
    """Every kind that has been declared, by severity and then id."""
    return iter(sorted(_KINDS.values(), key=lambda each: (SEVERITIES.index(each.severity), each.id)))


def kind(name: str, severity: str, title: str, why: str, remedy: str) -> Kind:
    """Declare a kind; its ``name`` is its stable id."""
    if name in _KINDS:
        raise ValueError(f"{name} is declared twice")
    made = _KINDS[name] = Kind(name, severity, title, why, remedy)
    return made


def show(text: str) -> str:
    """A name from a file, as it may be shown: ASCII without control characters, at most 80 of them."""
    shown = ascii(text)[1:-1]
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


@dataclass(frozen=True)
class Finding:
    """``subjects`` and ``places`` go together, one place ("file:line", or just a file) for each subject.

    ``detail`` is the cause where a kind has several. ``waived`` is the reason why somebody accepts it.
    """

    id: str
    severity: str
    title: str
    why: str
    remedy: str
    subjects: tuple[str, ...]
    places: tuple[str, ...]
    detail: str = ""
    waived: str = ""

    @property
    def subject(self) -> str:
        """The subjects in one line, the first few by name."""
        return first_few(self.subjects)

    @property
    def count(self) -> int:
        return len(self.subjects)


def first_few(texts: Iterable[str], most: int = 5) -> str:
    """``a, b, c and 7 more``; what comes twice is named once."""
    each = list(dict.fromkeys(texts))
    more = len(each) - most
    return ", ".join(each[:most]) + (f" and {more} more" if more > 0 else "")


class Findings:
    """Collects what the checks say; one finding for each kind, severity and detail."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], dict[tuple[str, str], None]] = {}

    def add(
        self,
        found: Kind,
        subject: str,
        place: Place | str,
        *,
        detail: str = "",
        severity: str = "",
    ) -> None:
        """``detail`` is our own text and never anything from a file; ``subject`` is a name, never a value."""
        where = place if isinstance(place, str) else f"{place.file}:{place.line}"
        self._found.setdefault((found.id, severity or found.severity, detail), {})[show(subject), show(where)] = None

    def all(self) -> list[Finding]:
        """By severity, then id."""
        made = []
        for (name, severity, detail), where in self._found.items():
            each = _KINDS[name]
            made.append(
                Finding(
                    name,
                    severity,
                    each.title,
                    each.why,
                    each.remedy,
                    tuple(subject for subject, dummy in where),
                    tuple(place for dummy, place in where),
                    detail,
                )
            )
        return sorted(made, key=lambda each: (SEVERITIES.index(each.severity), each.id, each.detail))
