# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings that come with the collection; each has a value, a reason, the versions that know it and a public source."""

from __future__ import annotations

__all__ = ["CONDITIONS", "PROFILES", "SETTINGS", "Satisfied", "Setting"]

from ._setting import CONDITIONS, PROFILES, Satisfied, Setting
from .pjsip import SETTINGS as _PJSIP
from .sip import SETTINGS as _SIP

SETTINGS: tuple[Setting, ...] = (*_SIP, *_PJSIP)
