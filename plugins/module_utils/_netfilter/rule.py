# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rule as a value: what iptables-save prints for it, and back.

``render`` writes the form in which iptables-save of 1.8.7 to 1.8.13 (nft and legacy) lists the rule; ``parse`` reads it.
The two are inverses for every rule this product writes. A rule of ours that somebody edited into something else still
parses (options are kept as they stand), so it can be shown in a diff and replaced.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

from .._sip.errors import SipguardError

__all__ = ["Match", "Option", "Rule", "parse_rule", "quote"]

# xtables_save_string() leaves a value bare when it has only these characters.
_BARE = re.compile(r"[-_0-9A-Za-z]+\Z")
# These extensions print their value in quotes whatever it is.
_ALWAYS_QUOTED = frozenset({"--string", "--hex-string", "--u32"})
_ESCAPED = {"comment": "\\\"'", "default": '\\"'}
_TOKEN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))', re.DOTALL)
_UNESCAPE = re.compile(r"\\([\\\"'])")
_HEADER = frozenset({"-s", "-d", "-i", "-o", "-p", "-f"})
_STRING_END = "65535"
# Protocols that are printed in several ways: by number where /etc/protocols is missing, or was never asked (1.8.13), by a name
# elsewhere. Here they have the form that every release reads without that file.
_PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "50": "esp", "58": "ipv6-icmp", "icmpv6": "ipv6-icmp"}
_PROTOCOLS.update({"igmp": "2", "gre": "47", "vrrp": "112"})


@dataclass(frozen=True)
class Option:
    """One option of a match or target: ``! --match-set sipguard-trusted4 src``. ``name`` carries its dashes."""

    name: str
    values: tuple[str, ...] = ()
    negated: bool = False

    def render(self) -> str:
        words = ["!"] if self.negated else []
        words.append(self.name)
        words += [quote(value, self.name) for value in self.values]
        return " ".join(words)


@dataclass(frozen=True)
class Match:
    """One ``-m NAME`` with its options, in the order in which the kernel lists them."""

    name: str
    options: tuple[Option, ...] = ()

    def render(self) -> str:
        return " ".join(["-m", self.name, *(option.render() for option in self.options)])


@dataclass(frozen=True)
class Rule:
    """One rule of one chain.

    ``header`` holds -s, -d, -i, -o and -p; ``goto`` is true for -g; ``target`` is "" for a rule that only counts.
    """

    chain: str
    matches: tuple[Match, ...] = ()
    target: str = ""
    target_options: tuple[Option, ...] = ()
    header: tuple[Option, ...] = ()
    goto: bool = False
    # The whole line of a rule that is none of ours, although it stands in a chain of ours: to be shown, and replaced.
    unread: str = ""

    def render(self) -> str:
        """The rule as iptables-save prints it (without counters)."""
        return self._text

    @functools.cached_property
    def _text(self) -> str:
        if self.unread:
            return self.unread
        words = ["-A", self.chain]
        words += [option.render() for option in self.header]
        words += [match.render() for match in self.matches]
        if self.target:
            words += ["-g" if self.goto else "-j", self.target]
            words += [option.render() for option in self.target_options]
        return " ".join(words)

    def match(self, name: str) -> Match | None:
        """The first match of that name."""
        return next((match for match in self.matches if match.name == name), None)

    def sets(self) -> list[str]:
        """Names of the sets it looks into or adds to."""
        options = [option for match in self.matches if match.name == "set" for option in match.options]
        names = ("--match-set", "--add-set", "--del-set")
        return [
            option.values[0] for option in (*options, *self.target_options) if option.name in names and option.values
        ]


def quote(value: str, option: str = "") -> str:
    """Quote a value as iptables-save does for that option."""
    if option not in _ALWAYS_QUOTED and (
        _BARE.match(value) if option == "--comment" else not re.search(r"[\s\"'\\]", value)
    ):
        return value or '""'
    special = _ESCAPED["comment" if option == "--comment" else "default"]
    return '"' + "".join("\\" + char if char in special else char for char in value) + '"'


def _tokens(line: str) -> list[tuple[str, bool]]:
    """Words of a saved line; the flag says that the word stood in quotes (so that "-" is a value, never an option)."""
    words: list[tuple[str, bool]] = []
    position = 0
    line = line.strip()
    while position < len(line):
        found = _TOKEN.match(line, position)
        if found is None:
            raise SipguardError(f"cannot read this line of iptables-save: {line!r}")
        quoted, bare = found.groups()
        words.append((_UNESCAPE.sub(r"\1", quoted), True) if quoted is not None else (bare, False))
        position = found.end()
    return words


def _canonical(match: Match) -> Match:
    """Undo what single releases print differently for the same rule."""
    if match.name == "string":  # 1.8.7 prints the default end of the search window, later ones do not
        options = tuple(o for o in match.options if not (o.name == "--to" and o.values == (_STRING_END,)))
        return replace(match, options=options)
    return match


@functools.lru_cache(maxsize=4096)  # the two families have most of their rules in common
def parse_rule(line: str) -> Rule:
    """Read one ``-A CHAIN ...`` line of iptables-save.

    A line that cannot be read comes back as a rule with ``unread``. Raises SipguardError for a line that is no rule.
    """
    try:
        return _read(line)
    except (SipguardError, IndexError):
        words = line.split(" ", 2)
        if len(words) < 2 or words[0] != "-A":
            raise SipguardError(f"not a rule of iptables-save: {line!r}") from None
        return Rule(words[1], unread=line)


def _read(line: str) -> Rule:
    words = _tokens(line)
    if len(words) < 2 or words[0][0] != "-A":
        raise SipguardError(f"not a rule of iptables-save: {line!r}")
    chain = words[1][0]
    header: list[Option] = []
    matches: list[Match] = []
    target, goto = "", False
    target_options: tuple[Option, ...] = ()
    current: list[Option] = header
    groups: list[tuple[str, list[Option]]] = []
    negated = False
    position = 2
    while position < len(words):
        word, quoted = words[position]
        position += 1
        if word == "!" and not quoted:
            negated = True
            continue
        if quoted or not word.startswith("-"):
            raise SipguardError(f"cannot read {word!r} in this line of iptables-save: {line!r}")
        values: list[str] = []
        while position < len(words) and (
            words[position][1] or (word in _HEADER and not values) or not _is_option(words[position][0])
        ):
            values.append(words[position][0])
            position += 1
        if word == "-m":
            current = []
            groups.append((values[0] if values else "", current))
        elif word in ("-j", "-g"):
            target, goto = (values[0] if values else ""), word == "-g"
            current = []
            groups.append(("", current))
        else:
            if word == "-p":
                values = [_PROTOCOLS.get(value, value) for value in values]
            (header if word in _HEADER else current).append(Option(word, tuple(values), negated))
        negated = False
    for name, options in groups:
        if name:
            matches.append(_canonical(Match(name, tuple(options))))
        else:
            target_options = tuple(options)
    return Rule(chain, tuple(matches), target, target_options, tuple(header), goto)


def _is_option(word: str) -> bool:
    return word == "!" or (word.startswith("-") and len(word) > 1 and not word[1].isdigit())
