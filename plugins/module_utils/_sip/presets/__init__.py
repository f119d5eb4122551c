# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists of signatures that come with the collection; each line has a source, a match and a tier."""

from __future__ import annotations

__all__ = ["PRESETS", "preset"]

from ..errors import OptionError
from ..signatures import Signature
from .aggressive import SIGNATURES as _AGGRESSIVE
from .elektronikbasteln import SIGNATURES as _ELEKTRONIKBASTELN
from .hostfirewall import SIGNATURES as _HOSTFIREWALL
from .scanners import SIGNATURES as _SCANNERS
from .voipsupport import SIGNATURES as _VOIPSUPPORT

PRESETS: dict[str, tuple[Signature, ...]] = {
    "scanners": _SCANNERS,
    "aggressive": _AGGRESSIVE,
    "voipsupport": _VOIPSUPPORT,
    "elektronikbasteln": _ELEKTRONIKBASTELN,
    "hostfirewall": _HOSTFIREWALL,
}


def preset(name: object) -> tuple[Signature, ...]:
    """Return a preset's signatures.

    :raises OptionError: there is no preset of that name.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise OptionError("presets", name, f"one of {', '.join(PRESETS)} would be right")
    return PRESETS[name]
