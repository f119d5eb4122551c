# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ranges of addresses that come with the collection: published by others, dated, reviewed, and none of them on by default."""

from __future__ import annotations

__all__ = ["RANGE_PRESETS", "RangeEntry", "RangePreset", "details", "range_preset"]

from ..errors import OptionError
from ._table import RangeEntry, RangePreset
from .elektronikbasteln import PRESETS as _ELEKTRONIKBASTELN
from .voipsupport import PRESETS as _VOIPSUPPORT

_PRESETS = {preset.name: preset for preset in (*_VOIPSUPPORT, *_ELEKTRONIKBASTELN)}

RANGE_PRESETS: tuple[str, ...] = tuple(_PRESETS)


def details(name: object) -> RangePreset:
    """A preset with its source, dates, tier and warning.

    :raises OptionError: there is no preset of that name.
    """
    if not isinstance(name, str) or name not in _PRESETS:
        raise OptionError("presets", name, f"one of {', '.join(RANGE_PRESETS)} would be right")
    return _PRESETS[name]


def range_preset(name: object) -> tuple[RangeEntry, ...]:
    """A preset's entries, in the author's order.

    :raises OptionError: there is no preset of that name.
    """
    return details(name).entries
