# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains of a PBX as administrators write them, read into what stands on the wire, or refused with what would be right."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

__all__ = ["MAX_DOMAIN", "parse_domain", "parse_domains"]

from .errors import OptionError

# What is searched for has a scheme before it and a delimiter behind, and 128 bytes together (XT_STRING_MAX_PATTERN_SIZE).
MAX_DOMAIN = 100

_EXAMPLE = "a domain as it stands in the addresses of the telephones, such as tel.example.com, would be right"
# RFC 1123 section 2.1; RFC 3261 section 25.1 has the last label begin with a letter.
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"({_LABEL}\.)+(?=[a-z]){_LABEL}\Z")
_SCHEME = re.compile(r"(sips?|tel|https?|wss?):/*", re.IGNORECASE)


def parse_domain(text: object, option: str) -> str:
    """One domain in small letters, without the final dot. Raises OptionError."""
    if not isinstance(text, str) or not text.strip():
        raise OptionError(option, text, _EXAMPLE)
    word = text.strip().lower()
    word = word[:-1] if word.endswith(".") else word
    if text.isascii() and _DOMAIN.match(word):
        if len(word) > MAX_DOMAIN:
            raise OptionError(option, text, f"the kernel can search for one of at most {MAX_DOMAIN} bytes")
        return word
    raise OptionError(option, text, _right(word))


def _right(word: str) -> str:
    """What is wrong with the word, and what would be right."""
    if _is_address(word):
        return f"every scanner knows an address it has reached, so it tells nobody apart; {_EXAMPLE}"
    bare = _bare(word)
    if bare != word:
        if _DOMAIN.match(bare):
            return f"the domain alone, {bare}, would be right"
        return _right(bare) if bare else _EXAMPLE
    if re.search(r"\s", word):
        return "it has a space in it; each domain as an entry of its own, such as tel.example.com, would be right"
    if "*" in word:
        return "a wildcard cannot be searched for; each domain as an entry of its own, such as tel.example.com, would be right"
    if not word.isascii():
        ascii_form = _a_label(word)
        return "on the wire it stands in its ASCII form; " + (
            f"{ascii_form} would be right" if ascii_form else _EXAMPLE
        )
    if re.fullmatch(_LABEL, word):
        return f"a single word stands in too many packets; {_EXAMPLE}"
    return _EXAMPLE


def _bare(word: str) -> str:
    """Without scheme, user, port, parameters and whatever else an address has around its domain."""
    word = _SCHEME.sub("", word.strip("<>\"'"), count=1).rpartition("@")[2]
    return word.partition("]")[0] + "]" if word.startswith("[") else re.split(r"[:;/?,]", word, maxsplit=1)[0]


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word.strip("[]"))
    except ValueError:
        return False
    return True


def _a_label(word: str) -> str:
    """The ASCII form of an internationalised name (IDNA 2003, the one Python knows), "" where there is none."""
    try:
        found = word.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
    return found if _DOMAIN.match(found) else ""


def parse_domains(entries: Iterable[object], option: str) -> list[str]:
    """Every domain once, in the order given. Raises OptionError."""
    return list(dict.fromkeys(parse_domain(entry, option) for entry in entries))
