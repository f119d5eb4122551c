# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scanner is recognised by: one value, where it must stand, and how the kernel would find it."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "ANCHOR",
    "ANYWHERE",
    "EXACT",
    "HEADER",
    "MATCHES",
    "MAX_NEEDLE",
    "PAYLOAD",
    "PAYLOADS",
    "PREFIX",
    "SAFE",
    "USER_AGENTS",
    "Signature",
    "decode",
    "fold",
    "parse_entry",
    "signature_hits",
    "strip_header",
]

from .errors import OptionError

EXACT = "exact"
PREFIX = "prefix"
ANYWHERE = "anywhere"
PAYLOAD = "payload"
# The tier of signatures that no real phone, client or trunk matches.
SAFE = "safe"
MATCHES = (EXACT, PREFIX, ANYWHERE, PAYLOAD)

# The two options a signature of the administrator's own comes from; the origin of a preset's is the preset's name.
USER_AGENTS = "user_agents"
PAYLOADS = "payloads"

# The line break in front keeps text inside another header's value from matching. An ``anywhere`` does without:
# Asterisk takes a bare LF or CR for the end of a line too, and the header's name may be followed by anything.
HEADER = b"\r\nUser-Agent: "
ANCHOR = b"User-Agent"

# XT_STRING_MAX_PATTERN_SIZE of linux/netfilter/xt_string.h; one byte more and iptables refuses the whole restore.
MAX_NEEDLE = 128

_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_HEADER_NAME = re.compile(r"[ \t]*user-agent[ \t]*:[ \t]*", re.IGNORECASE)

# textsearch's TS_IGNORECASE folds with the kernel's toupper(), whose table (lib/ctype.c) knows Latin-1 too.
_LOWER = (*range(0x61, 0x7B), *range(0xDF, 0xF7), *range(0xF8, 0x100))
_FOLD = bytes(c - 32 if c in _LOWER else c for c in range(256))


@dataclass(frozen=True)
class Signature:
    """One pattern.

    ``value`` is text as it stands on the wire. With ``exact``, ``prefix`` and ``anywhere`` it is about requests that
    have a User-Agent header: the header's whole value, its beginning, or text anywhere in such a packet.
    With ``payload`` it is text anywhere in any packet.
    """

    value: str
    match: str = PREFIX
    note: str = ""
    source: str = ""
    tier: str = ""
    origin: str = ""
    written: str = ""

    @property
    def entry(self) -> str:
        """The entry as its author wrote it: what reports name it by."""
        return self.written or self.value

    @property
    def needle(self) -> bytes:
        """The bytes the kernel searches for; an ``anywhere`` also needs ``ANCHOR`` in the same packet."""
        value = self.value.encode("utf-8")
        if self.match == EXACT:
            return HEADER + value + b"\r\n"
        if self.match == PREFIX:
            return HEADER + value
        return value


def fold(data: bytes, ignore_case: bool = True) -> bytes:
    """Return the bytes as the kernel compares them."""
    return data.translate(_FOLD) if ignore_case else data


def signature_hits(signature: Signature, packet: bytes, ignore_case: bool = True) -> bool:
    """Tell whether the kernel's string match would find the signature in a packet that holds one whole message."""
    text = fold(packet, ignore_case)
    if signature.match == ANYWHERE and fold(ANCHOR, ignore_case) not in text:
        return False
    return fold(signature.needle, ignore_case) in text


def decode(text: str) -> str:
    """Undo ``%20`` and its like, once; a ``%`` without two hex digits, or escapes that are no UTF-8, stay."""

    def unescape(found: re.Match[str]) -> str:
        try:
            return bytes.fromhex(found[0].replace("%", "")).decode("utf-8")
        except UnicodeDecodeError:
            return found[0]

    return _ESCAPES.sub(unescape, text) if "%" in text else text


def strip_header(text: str) -> str:
    """Return the value of a published ``User-Agent: value``; other text comes back as it is."""
    return _HEADER_NAME.sub("", text, count=1) if _HEADER_NAME.match(text) else text


def parse_entry(entry: object, option: str) -> Signature:
    """Read one entry of the options ``user_agents`` or ``payloads``: text, or a mapping of value, match and note.

    Text in ``user_agents`` is a prefix. What the text says is judged by the lint, not here.
    :raises OptionError: the entry's form is wrong.
    """
    allowed = (PAYLOAD,) if option == PAYLOADS else (EXACT, PREFIX, ANYWHERE)
    match, note = (PAYLOAD if option == PAYLOADS else PREFIX), ""
    written = entry
    if isinstance(entry, dict):
        unknown = sorted(str(key) for key in entry if key not in ("value", "match", "note"))
        if unknown:
            raise OptionError(option, entry, f"an entry has value, match and note, not {', '.join(unknown)}")
        written = entry.get("value")
        match = match if entry.get("match") is None else entry["match"]
        note = "" if entry.get("note") is None else entry["note"]
        if match not in allowed:
            raise OptionError(option, entry, f"match must be one of {', '.join(allowed)}")
        if not isinstance(note, str):
            raise OptionError(option, entry, "note must be text")
    if not isinstance(written, str):
        raise OptionError(option, entry, "an entry is text (quote numbers), or a mapping with value, match and note")
    value = decode(written if option == PAYLOADS else strip_header(written))
    return Signature(value, match, note, origin=option, written="" if written == value else written)
