# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a preset of address ranges is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ADDRESSES", "HOSTERS", "RangeEntry", "RangePreset", "noted"]

# Ranges that hold other people's customers; single sources, seen once, most likely somebody else's by now.
HOSTERS, ADDRESSES = "hosters", "addresses"


@dataclass(frozen=True)
class RangeEntry:
    """``value`` as its author wrote it, in a form that ``ranges.parse_range`` reads; ``note`` is one line for people."""

    value: str
    note: str


@dataclass(frozen=True)
class RangePreset:
    """``published`` says in words what is known of the date, ``reviewed`` is a date (ISO 8601), ``warning`` says who sits in the ranges."""

    name: str
    source: str
    published: str
    reviewed: str
    tier: str
    warning: str
    entries: tuple[RangeEntry, ...]


def noted(note: str, values: Iterable[str]) -> tuple[RangeEntry, ...]:
    """Entries that share one note, in the author's order."""
    return tuple(RangeEntry(value, note) for value in values)
