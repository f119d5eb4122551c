# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges a list of signatures before any of it reaches the kernel: what stays, what another covers, what would hurt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

__all__ = ["LintResult", "lint"]

from .signatures import (
    ANYWHERE,
    MAX_NEEDLE,
    PAYLOAD,
    SAFE,
    Signature,
    decode,
    fold,
    strip_header,
)
from .signatures import PAYLOADS as PAYLOADS_OPTION
from .signatures import USER_AGENTS as USER_AGENTS_OPTION


@dataclass(frozen=True)
class LintResult:
    """The three fates of an entry; ``covered`` and ``refused`` name entries as they were written."""

    effective: tuple[Signature, ...]
    covered: dict[str, str]
    refused: dict[str, str]


def lint(
    signatures: Sequence[Signature],
    *,
    exclude: Sequence[str] = (),
    allow_broad: bool = False,
    ignore_case: bool = True,
) -> LintResult:
    """Sort signatures into effective (in the given order), covered (entry -> covering entry), refused (entry -> why).

    ``exclude`` takes entries of presets out of the list, written or decoded, in any case; one that names none is fine.
    ``allow_broad`` admits what would hit ordinary traffic, but never what nearly every request contains.
    The result is a fixed point: linting ``effective`` again changes nothing.
    """
    unwanted = _spellings(exclude)
    accepted: list[Signature] = []
    refused: dict[str, str] = {}
    for given in signatures:
        signature = _decoded(given)
        if unwanted and _from_preset(signature) and not unwanted.isdisjoint(_spellings((signature.entry,))):
            continue
        reason = _unusable(signature) or _too_broad(signature, ignore_case, allow_broad)
        if reason:
            refused[signature.entry] = reason
        else:
            accepted.append(signature)
    effective, covered = _uncovered(accepted, ignore_case)
    return LintResult(effective, covered, refused)


def _decoded(signature: Signature) -> Signature:
    # An entry that has been decoded carries its written form: decoding it again could change its meaning.
    value = signature.value if signature.written else decode(signature.value)
    return signature if value == signature.value else replace(signature, value=value, written=signature.value)


def _from_preset(signature: Signature) -> bool:
    return signature.origin not in (USER_AGENTS_OPTION, PAYLOADS_OPTION)


def _spellings(entries: Iterable[str]) -> set[str]:
    forms: set[str] = set()
    for entry in entries:
        bare = strip_header(entry)
        forms.update((entry.lower(), bare.lower(), decode(bare).lower()))
    return forms


def _too_broad(signature: Signature, ignore_case: bool, allow_broad: bool) -> str:
    if signature.tier == SAFE and ignore_case and _from_preset(signature):
        return ""  # judged when the preset was written: the unit tests hold each of its lines against the same traffic
    # All the ordinary traffic there is takes longer to load than everything else here together.
    from .breadth import broad

    return broad(signature, ignore_case, allow_broad)


def _unusable(signature: Signature) -> str:
    value = signature.value
    if not value.strip():
        return "is empty; an empty User-Agent header has an option of its own, no_user_agent"
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in value):
        return "contains a line break or another control character"
    try:
        size = len(signature.needle)
    except UnicodeEncodeError:
        return "is not valid Unicode text"
    if size > MAX_NEEDLE:
        around = size - len(value.encode("utf-8"))
        extra = f" with the {around} of the header around it" if around else ""
        return f"has {size} bytes{extra}; the kernel searches for at most {MAX_NEEDLE}"
    return ""


def _uncovered(accepted: list[Signature], ignore_case: bool) -> tuple[tuple[Signature, ...], dict[str, str]]:
    needles = [fold(signature.needle, ignore_case) for signature in accepted]

    def covers(one: int, other: int) -> bool:
        """Every packet in which ``other`` is found holds ``one`` as well."""
        if accepted[one].match == ANYWHERE and accepted[other].match == PAYLOAD:
            return False
        return needles[one] in needles[other]

    # Most needles occur once among all of them, in themselves: only the others need a look at every pair.
    joined = b"\0".join(needles)
    dropped: set[int] = set()
    for one, needle in enumerate(needles):
        if joined.find(needle, joined.find(needle) + 1) < 0:
            continue
        for other in range(len(needles)):
            equal = needle == needles[other] and accepted[one].match == accepted[other].match
            if one != other and covers(one, other) and (one < other or not equal):
                dropped.add(other)
    kept = [place for place in range(len(accepted)) if place not in dropped]
    covered = {
        accepted[place].entry: next(accepted[by].entry for by in kept if covers(by, place)) for place in sorted(dropped)
    }
    return tuple(accepted[place] for place in kept), covered
