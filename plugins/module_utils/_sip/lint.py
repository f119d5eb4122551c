# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges a list of signatures before any of it reaches the kernel: what stays, what another covers, what would hurt."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

__all__ = ["MIN_ANCHORED", "MIN_LOOSE", "LintResult", "lint"]

from .ordinary import GENERIC, MAKERS, MESSAGES, USER_AGENTS
from .signatures import (
    ANYWHERE,
    EXACT,
    HEADER,
    MAX_NEEDLE,
    PAYLOAD,
    PREFIX,
    Signature,
    decode,
    fold,
    signature_hits,
    strip_header,
)
from .signatures import PAYLOADS as PAYLOADS_OPTION
from .signatures import USER_AGENTS as USER_AGENTS_OPTION

# Letters and digits a pattern needs. Where a value begins, four do not come about by chance. Anywhere in a packet they
# do: in an SDES key, a nonce or an ICE password a given word of n letters stands at one place in 32**n, and a message
# has about a thousand such places: with four letters one message in a thousand, with six one in a million.
MIN_ANCHORED = 4
MIN_LOOSE = 6


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
        reason = _unusable(signature) or _broad(signature, ignore_case, allow_broad)
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


def _broad(signature: Signature, ignore_case: bool, allow_broad: bool) -> str:
    # One search through everything ordinary tells whether any of it is hit; only then is it worth asking what.
    if fold(signature.needle, ignore_case) in _ordinary(ignore_case):
        hit = [(name, packet) for name, packet in MESSAGES if signature_hits(signature, packet, ignore_case)]
        if sum(map(_is_request, hit)) * 2 >= sum(map(_is_request, MESSAGES)):
            return "is part of nearly every SIP request there is, allow_broad or not"
        if not allow_broad:
            for agent in USER_AGENTS:
                if signature_hits(signature, _agent_header(agent), ignore_case):
                    return f"would also stop {agent!r}"
            if hit:
                return f"would also stop ordinary traffic: {hit[0][0]}"
    return "" if allow_broad or signature.match == EXACT else _vague(signature)


def _vague(signature: Signature) -> str:
    """Say what an inexact pattern would hit of which no sample is at hand."""
    text = strip_header(signature.value).strip().lower()
    instead = "" if signature.match == PAYLOAD else ", or match: exact"
    maker = next((maker for maker in MAKERS if text.startswith(maker.lower())), "")
    if maker:
        return f"begins as products of {maker} do; only match: exact tells one value from all of theirs"
    if text in GENERIC:
        return f"is a word that anybody's own client may use; say more{instead}"
    least = MIN_ANCHORED if signature.match == PREFIX else MIN_LOOSE
    if sum(char.isalnum() for char in signature.value) < least:
        where = "the beginning of a User-Agent" if signature.match == PREFIX else "text anywhere in a packet"
        return f"is too short for {where}: at least {least} letters or digits{instead}"
    return ""


def _is_request(message: tuple[str, bytes]) -> bool:
    return not message[1].startswith(b"SIP/2.0 ")


def _agent_header(agent: str) -> bytes:
    return HEADER + agent.encode("utf-8") + b"\r\n"


@functools.lru_cache(maxsize=2)
def _ordinary(ignore_case: bool) -> bytes:
    # No needle contains NUL, so none can match across two samples.
    samples = [_agent_header(agent) for agent in USER_AGENTS] + [packet for _name, packet in MESSAGES]
    return fold(b"\0".join(samples), ignore_case)


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
            if one != other and covers(one, other) and (one < other or not covers(other, one)):
                dropped.add(other)
    kept = [place for place in range(len(accepted)) if place not in dropped]
    covered = {
        accepted[place].entry: next(accepted[by].entry for by in kept if covers(by, place)) for place in sorted(dropped)
    }
    return tuple(accepted[place] for place in kept), covered
