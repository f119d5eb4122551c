# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions of the whole product: one small tree, caught once in each entry point."""

from __future__ import annotations

__all__ = ["OptionError", "SipguardError"]


class SipguardError(Exception):
    """Something an administrator must read. The message is one sentence and says what to do about it."""


class OptionError(SipguardError):
    """An option's value cannot be used. Raised before anything on the host has been touched."""

    def __init__(self, option: str, value: object, expected: str) -> None:
        self.option = option
        self.value = value
        self.expected = expected
        super().__init__(f"{option}: {value!r} cannot be used; {expected}")
