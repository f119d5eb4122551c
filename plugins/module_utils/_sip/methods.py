# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods of SIP requests."""

from __future__ import annotations

__all__ = ["METHODS", "parse_method"]

from .errors import OptionError

# IANA "SIP Parameters", Methods: RFC 3261 (the first six), 6665, 3515, 3428, 3311, 3262, 6086, 3903.
METHODS = (
    "REGISTER",
    "INVITE",
    "OPTIONS",
    "ACK",
    "BYE",
    "CANCEL",
    "SUBSCRIBE",
    "NOTIFY",
    "REFER",
    "MESSAGE",
    "UPDATE",
    "PRACK",
    "INFO",
    "PUBLISH",
)


def parse_method(name: object, option: str) -> str:
    """A method's name as SIP writes it, in capitals, from any case. Raises OptionError for one that does not exist."""
    method = name.strip().upper() if isinstance(name, str) else ""
    if method not in METHODS:
        raise OptionError(option, name, "a method of SIP would be right: " + ", ".join(METHODS))
    return method
