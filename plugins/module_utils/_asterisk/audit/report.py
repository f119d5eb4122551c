# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings for people, for programs and for pipelines: a table, plain values, and a decision."""

from __future__ import annotations

import fnmatch
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..._sip.errors import OptionError
from .finding import SEVERITIES, Finding, first_few, show
from .run import kinds

__all__ = ["Waiver", "as_dict", "fails", "parse_waivers", "table", "waive"]

_WIDTH = 120
_MOST = 20


@dataclass(frozen=True)
class Waiver:
    """A finding that somebody accepts. ``subject`` is a glob, ``*`` for all of them; ``reason`` is why."""

    id: str
    subject: str
    reason: str


def parse_waivers(entries: Iterable[object]) -> list[Waiver]:
    """Waivers from values like ``{"waive": "weak-secret:lab-*", "reason": "no trunk there"}``. Raises OptionError."""
    names = {each.id for each in kinds()}
    made = []
    for entry in entries:
        what = entry.get("waive") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or set(entry) - {"waive", "reason"} or not isinstance(what, str):
            raise OptionError("waive", "an entry", "each needs 'waive', an id or id:subject, and 'reason'")
        reason = entry.get("reason")
        if not isinstance(reason, str) or not reason.strip():
            raise OptionError("waive", show(what), "a reason has to be given")
        name, dummy, subject = what.partition(":")
        if not fnmatch.filter(names, name):
            raise OptionError("waive", show(what), "there is no finding of that id; docs/audit-findings.md names them")
        made.append(Waiver(name, subject or "*", show(reason.strip())))
    return made


def waive(findings: Iterable[Finding], waivers: Sequence[Waiver]) -> list[Finding]:
    """The findings, with what is accepted in findings of their own that say why."""
    made: list[Finding] = []
    for finding in findings:
        reasons: dict[str, list[int]] = {}
        for index, subject in enumerate(finding.subjects):
            reason = ""
            for each in waivers:
                if fnmatch.fnmatchcase(finding.id, each.id) and fnmatch.fnmatchcase(subject, each.subject):
                    reason = each.reason
                    break
            reasons.setdefault(reason, []).append(index)
        for reason, indexes in sorted(reasons.items()):
            made.append(
                replace(
                    finding,
                    subjects=tuple(finding.subjects[index] for index in indexes),
                    places=tuple(finding.places[index] for index in indexes),
                    waived=reason,
                )
            )
    return made


def fails(findings: Iterable[Finding], at: str = "high") -> bool:
    """Whether a finding that nobody accepts is of that severity or a worse one. Raises OptionError."""
    if at not in SEVERITIES:
        raise OptionError("fail_at", show(at), f"one of {', '.join(SEVERITIES)} would be right")
    return any(not each.waived and SEVERITIES.index(each.severity) <= SEVERITIES.index(at) for each in findings)


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda each: (bool(each.waived), SEVERITIES.index(each.severity), each.id, each.detail))


def as_dict(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Plain values for JSON, by severity and id, waived ones last. At most 20 subjects and places each; ``count`` is how many there are."""
    return [
        {
            "id": each.id,
            "severity": each.severity,
            "title": each.title,
            "detail": each.detail,
            "why": each.why,
            "remedy": each.remedy,
            "subject": each.subject,
            "subjects": list(dict.fromkeys(each.subjects))[:_MOST],
            "places": list(dict.fromkeys(each.places))[:_MOST],
            "count": each.count,
            "waived": each.waived,
        }
        for each in _sorted(findings)
    ]


def table(findings: Iterable[Finding]) -> str:
    """The findings for a terminal of 120 columns: severity, id, where, what, remedy. Ends with a line of counts."""
    lines = []
    counts = dict.fromkeys((*SEVERITIES, "waived"), 0)
    for each in _sorted(findings):
        severity = "waived" if each.waived else each.severity
        counts[severity] += 1
        lines.append(f"{severity.upper():<9} {each.id}  {first_few(each.places)}")
        lines += _wrapped("", f"{each.title}{f' ({each.detail})' if each.detail else ''}: {each.subject}.")
        lines += _wrapped("accepted: ", each.waived) if each.waived else _wrapped("do: ", each.remedy)
    said = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    lines = [part for line in lines for part in _fitted(line)]
    return "\n".join([*lines, said or "nothing was found", ""])


def _wrapped(head: str, text: str) -> list[str]:
    indent = " " * 10
    return textwrap.wrap(
        head + text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=True,
    )


def _fitted(line: str) -> list[str]:
    return (
        [line]
        if len(line) <= _WIDTH
        else textwrap.wrap(line, _WIDTH, subsequent_indent=" " * 10, break_on_hyphens=False)
    )
