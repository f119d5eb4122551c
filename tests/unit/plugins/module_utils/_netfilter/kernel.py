# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel does with rules that search for strings, in a few lines: iptables-save text in, the rule that hit out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Kernel"]


@dataclass(frozen=True)
class _Search:
    """One ``-m string``."""

    pattern: bytes
    ignore_case: bool
    negated: bool


@dataclass(frozen=True)
class _Step:
    text: str
    searches: tuple[_Search, ...]
    target: str
    goto: bool


def _pattern(option: str, value: str) -> bytes:
    if option == "--string":
        return value.encode()
    plain_and_hex = re.split(r"\|([0-9a-f]*)\|", value)
    return b"".join(bytes.fromhex(part) if place % 2 else part.encode() for place, part in enumerate(plain_and_hex))


def _step(line: str) -> _Step:
    """Raises AssertionError for anything but string, comment and a target: nothing may be passed over silently."""
    words = shlex.split(line)[2:]
    searches: list[_Search] = []
    target, goto, negated = "", False, False
    while words:
        word = words.pop(0)
        if word == "!":
            negated = True
            continue
        if word == "-m":
            assert words.pop(0) in ("string", "comment"), line
        elif word in ("--string", "--hex-string"):
            searches.append(_Search(_pattern(word, words.pop(0)), False, negated))
        elif word == "--icase":
            last = searches.pop()
            searches.append(_Search(last.pattern.upper(), True, last.negated))
        elif word in ("--algo", "--comment"):
            words.pop(0)
        else:
            assert word in ("-j", "-g"), line
            target, goto = words.pop(0), word == "-g"
        negated = False
    return _Step(line, tuple(searches), target, goto)


class Kernel:
    """Chains as lines; ``stop`` is the chain in which a packet's way ends here."""

    def __init__(self, chains: Mapping[str, Sequence[str]], stop: str) -> None:
        self._chains = {name: [_step(line) for line in lines] for name, lines in chains.items() if name != stop}
        self._stop = stop

    def hit(self, chain: str, packet: bytes) -> str | None:
        """The rule that leads the packet to ``stop``; None when it comes back from ``chain``."""
        upper = packet.upper()
        found = self._walk(chain, packet, upper)
        return found.text if found else None

    def _walk(self, chain: str, packet: bytes, upper: bytes) -> _Step | None:
        for step in self._chains[chain]:
            if not all(
                (search.pattern in (upper if search.ignore_case else packet)) is not search.negated
                for search in step.searches
            ):
                continue
            if step.target == self._stop:
                return step
            if step.target == "RETURN":
                return None
            found = self._walk(step.target, packet, upper)
            if found or step.goto:
                return found
        return None
