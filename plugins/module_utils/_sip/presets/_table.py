# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the tables of this directory become signatures."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["published", "table"]

from ..signatures import PAYLOAD, PREFIX, Signature, decode, strip_header


def table(origin: str, tier: str, rows: Iterable[tuple[str, str, str, str]]) -> tuple[Signature, ...]:
    """Build signatures from rows of (match, value, what sends it, source)."""
    return tuple(Signature(value, match, note, source, tier, origin) for match, value, note, source in rows)


def published(
    origin: str, source: str, lines: Iterable[tuple[str, str]], *, anchored: bool = True
) -> tuple[Signature, ...]:
    """Build signatures from lines of (string as published, what it is), in the author's order, mistakes included.

    Where the author's rules name the header (``anchored``), ``User-Agent: x`` becomes the prefix ``x``. Every other
    string is what it is in the author's rule: text anywhere in the packet.
    """
    found = []
    for written, note in lines:
        bare = strip_header(written) if anchored else written
        match = PAYLOAD if bare == written else PREFIX
        value = decode(bare)
        written = "" if value == written else written
        found.append(Signature(value, match, note, source, "published", origin, written))
    return tuple(found)
