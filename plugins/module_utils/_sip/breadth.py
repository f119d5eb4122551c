# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges one pattern by the ordinary traffic it would hit: real products' values and whole messages of theirs."""

from __future__ import annotations

import functools

from .ordinary import GENERIC, MAKERS, MESSAGES, USER_AGENTS
from .signatures import EXACT, HEADER, PAYLOAD, PREFIX, Signature, fold, signature_hits, strip_header

__all__ = ["MIN_ANCHORED", "MIN_LOOSE", "broad"]

# Letters and digits a pattern needs. Where a value begins, four do not come about by chance. Anywhere in a packet they
# do: in an SDES key, a nonce or an ICE password a given word of n letters stands at one place in 32**n, and a message
# has about a thousand such places: with four letters one message in a thousand, with six one in a million.
MIN_ANCHORED = 4
MIN_LOOSE = 6


def broad(signature: Signature, ignore_case: bool, allow_broad: bool) -> str:
    """Why a pattern would stop ordinary traffic as well; "" when it would not, or when it may."""
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
