# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named lists of sources to be blocked, a file each: what is accepted into one, and how it is kept.

What comes from outside is hostile: each line is an address, a network or a range, or it is counted as junk and never loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from .._sip import ranges
from .._sip.errors import OptionError, SipguardError
from .persist import replace_file
from .switch_guard import STATE_DIRECTORY

__all__ = [
    "DIRECTORY",
    "DISTRIBUTED",
    "Accepted",
    "Criteria",
    "Entry",
    "Lists",
    "NamedList",
    "Sieve",
    "accept",
    "check_coverage",
    "check_growth",
    "check_name",
    "check_plausible",
    "check_size_change",
    "diff_text",
    "shown",
]

DIRECTORY = f"{STATE_DIRECTORY}/lists"
# Where the role puts what the controller has fetched.
DISTRIBUTED = f"{STATE_DIRECTORY}/distributed"
ENFORCE, OBSERVE = "enforce", "observe"

_HEAD = "# Written by sipguard.pbx: one list of blocked sources. Changes made here are overwritten.\n"
_END = "# end "  # and a digest of everything before it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_EXAMPLES = 10
_SHOWN = 80
# Shorter ones are taken, and reported.
_WIDE = {4: 16, 6: 32}
# Of a feed as a whole: more of the internet than this is no list of attackers; and more entries, or more networks that its ranges
# come to (one range of IPv6 to as many as 254), a small host has no memory for.
_MAX_SHARE = {4: 8, 6: 64}
_MAX_ENTRIES = 1_000_000
# To find out what is wrong with a line takes longer than to read one that is right.
_MAX_JUNK = 100_000
_TOO_MANY = f"more than {_MAX_ENTRIES} entries, and is no list of attackers"
# From one time to the next: so many times the addresses, and so many more, are another list.
_MAX_GROWTH, _MUCH = 10, 1 << 20
_COMMENTS = ("#", ";", "//")
_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|(\d+\.\d+\.\d+\.\d+)):\d{1,5}\Z", re.ASCII)


def check_name(name: str, option: str = "name") -> str:
    """The name of a list, which is also that of its file. Raises OptionError."""
    if not _NAME.match(name):
        raise OptionError(
            option,
            name,
            "a name of letters, digits, '-', '_' and '.', which begins with a letter or digit, would be right",
        )
    return name


def shown(text: str) -> str:
    """What somebody else has written, as it may be shown: printable ASCII, cut."""
    word = ascii(text)[1:-1]
    return word if len(word) <= _SHOWN else word[: _SHOWN - 3] + "..."


@dataclass(frozen=True)
class Entry:
    """One line of a list: ``word`` as it was written, ``expires`` in seconds since the epoch (0: never), why it is there."""

    word: str
    expires: int = 0
    note: str = ""

    def render(self) -> str:
        if self.note:
            return f"{self.word}\t{self.expires}\t{self.note}\n"
        return f"{self.word}\t{self.expires}\n" if self.expires else f"{self.word}\n"

    @classmethod
    def parse(cls, line: str) -> Entry:
        """The inverse of ``render``, without the line's end."""
        word, dummy, rest = line.partition("\t")
        expires, dummy, note = rest.partition("\t")
        return cls(word, int(expires or 0), note)


@dataclass(frozen=True)
class Criteria:
    """What a list may hold: networks of at least these prefix lengths; private and reserved ones only if ``allow_private``."""

    min_prefix: int = 9
    min_prefix_ipv6: int = 20
    allow_private: bool = False

    def __post_init__(self) -> None:
        for option, value, bits in (
            ("min_prefix", self.min_prefix, 32),
            ("min_prefix_ipv6", self.min_prefix_ipv6, 128),
        ):
            if not 1 <= value <= bits:
                raise OptionError(option, value, f"a prefix length from 1 to {bits} would be right")

    def shortest(self, version: int) -> int:
        return self.min_prefix if version == 4 else self.min_prefix_ipv6


@dataclass
class Accepted:
    """What was taken: ``words`` as they were written, each once, in order; ``wide`` counts those that are large networks.

    Of what was not taken, ``junk`` counts the lines that are no range, ``refused`` those that are too wide, or private. Of both and of
    the large ones the first are among the ``examples``, as line number, text and reason.
    """

    words: dict[str, None] = field(default_factory=dict)
    wide: int = 0
    junk: int = 0
    refused: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def mention(self, number: int, text: str, why: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append({"line": number, "text": shown(text), "why": why})

    def summary(self) -> dict[str, Any]:
        """For people and programs."""
        return {
            "entries": len(self.words),
            "junk": self.junk,
            "refused": self.refused,
            "wide": self.wide,
            "examples": self.examples,
        }


def _clean(line: str) -> str:
    """A line without comment and port, "" when nothing is left."""
    word = line.strip("\ufeff \t\r\n\f\v")
    if word.startswith(_COMMENTS):
        return ""
    for mark in ("#", ";"):
        word = word.partition(mark)[0]
    word = word.strip()
    found = _PORT.match(word)
    return (found[1] or found[2]) if found else word


class Sieve:
    """Whether a range may be in a list."""

    def __init__(self, criteria: Criteria) -> None:
        self._criteria = criteria
        self._bogons = {} if criteria.allow_private else {version: ranges.bogons(version) for version in ranges.BITS}

    def too_wide(self, version: int, first: int, last: int) -> str:
        """How wide it may be, when it is wider; else ""."""
        shortest = self._criteria.shortest(version)
        if first != last and ranges.widest(first, last, version) < shortest:
            return f"wider than /{shortest}"
        return ""

    def objection(self, version: int, first: int, last: int) -> str:
        """Why not, "" when it may."""
        wide = self.too_wide(version, first, last)
        if wide:
            return wide
        if self._bogons and ranges.covers(self._bogons[version], (first, last)):
            return "private or reserved"
        return ""

    @staticmethod
    def is_wide(version: int, first: int, last: int) -> bool:
        return first != last and ranges.widest(first, last, version) <= _WIDE[version]


def accept(lines: Iterable[str], criteria: Criteria) -> Accepted:
    """Read lines of a feed. Raises SipguardError for more entries than a small host has memory for."""
    found = Accepted()
    sieve = Sieve(criteria)
    for number, line in enumerate(lines, start=1):
        if found.junk + found.refused > _MAX_JUNK:
            raise SipguardError(f"it has more than {_MAX_JUNK} lines that cannot be blocked; nothing was changed")
        word = line.strip()
        if not word or word.startswith(_COMMENTS):
            continue
        try:
            version, first, last = ranges.parse_range(word)
        except ranges.NotARange:
            word = _clean(word)
            if not word:
                continue
            try:
                version, first, last = ranges.parse_range(word)
            except ranges.NotARange as error:
                found.junk += 1
                found.mention(number, line.strip(), str(error))
                continue
        if word in found.words:
            continue
        objection = sieve.objection(version, first, last)
        if objection:
            found.refused += 1
            found.mention(number, word, objection)
            continue
        if sieve.is_wide(version, first, last):
            found.wide += 1
            found.mention(number, word, "taken, but a large network")
        found.words[word] = None
        if len(found.words) > _MAX_ENTRIES:
            raise SipguardError(f"it has {_TOO_MANY}; nothing was changed")
    return found


def check_coverage(words: Iterable[str], what: str) -> int:
    """Raise SipguardError when together they are an unreasonable part of all addresses, or too many networks for a small host.

    Returns about how many IPv4 addresses they are: one that stands alone and in a network as well counts twice.
    """
    by_version: dict[int, list[ranges.Range]] = {4: [], 6: []}
    total = alone = 0
    for word in words:
        # Most are single addresses, which need not be read again to be counted.
        if "/" not in word and "-" not in word:
            total += 1
            alone += ":" not in word
            continue
        version, first, last = ranges.parse_range(word)
        by_version[version].append((first, last))
    for version, found in by_version.items():
        whole = 1 << ranges.BITS[version]
        together = ranges.merge(found)
        if ranges.count(together) > whole // _MAX_SHARE[version]:
            raise SipguardError(
                f"{what} would block more than one {_MAX_SHARE[version]}th of all IPv{version} addresses; nothing was changed"
            )
        total += sum(1 for dummy in islice(ranges.networks(together, version), _MAX_ENTRIES + 1))
    if total > _MAX_ENTRIES:
        raise SipguardError(f"{what} has {_TOO_MANY}; nothing was changed")
    return alone + ranges.count(ranges.merge(by_version[4]))


def check_growth(what: str, before: Mapping[str, Any], addresses: int, max_change: int) -> None:
    """Raise SipguardError when a list of about as many entries suddenly blocks a multiple of the addresses.

    ``before`` is the report of the list that is there; ``max_change`` 0 allows everything.
    """
    known = before.get("addresses", 0)
    if max_change and known and addresses > known * _MAX_GROWTH and addresses - known > _MUCH:
        raise SipguardError(
            f"{what} blocks {addresses} IPv4 addresses instead of {known}; nothing was changed: look at it, and accept it once "
            "('sipguard feeds refresh NAME --accept-change'), or set max_change to 0"
        )


def check_plausible(what: str, text: str, accepted: Accepted) -> None:
    """Raise SipguardError for what is no list at all: nothing, an error page, or mostly junk."""
    problem = ""
    if text.lstrip("\ufeff \t\r\n")[:1] in ("<", "{"):
        problem = "is a page or a document, no list"
    elif not accepted.words and not accepted.junk and not accepted.refused:
        problem = "is empty"
    elif accepted.junk > len(accepted.words) + accepted.refused:
        problem = f"is mostly junk ({accepted.junk} lines, {_first(accepted)})"
    elif not accepted.words:
        problem = f"has nothing that may be blocked ({_first(accepted)})"
    if problem:
        raise SipguardError(f"{what} {problem}; nothing was changed")


def _first(accepted: Accepted) -> str:
    found = accepted.examples[0]
    return f"line {found['line']}: {found['text']}: {found['why']}"


def check_size_change(what: str, before: int, after: int, max_change: int) -> None:
    """Raise SipguardError when the number of entries changes by more than ``max_change`` per cent; 0 allows everything.

    A list that had nothing has nothing to be compared with.
    """
    if not before or not max_change:
        return
    change = abs(after - before) * 100 / before
    if change > max_change:
        verb = "shrinks" if after < before else "grows"
        raise SipguardError(
            f"{what} {verb} from {before} to {after} entries, by more than {max_change} %; nothing was changed: look at it, and "
            "accept it once ('sipguard feeds refresh NAME --accept-change'), or raise max_change"
        )


@dataclass(frozen=True)
class NamedList:
    """One list. ``kind`` is "static" or "feed", ``source`` says for people where it comes from, ``updated`` is in seconds since the epoch.

    ``digest`` is that of what it was made from. ``body`` holds its entries, a line each. ``never`` is what no list of this host may
    block, whatever it says.
    """

    name: str
    kind: str = "static"
    source: str = ""
    mode: str = ENFORCE
    updated: int = 0
    digest: str = ""
    never: tuple[str, ...] = ()
    allow_private: bool = False
    count: int = 0
    # What was accepted and what was not (Accepted.summary), when it was made.
    report: Mapping[str, Any] = field(default_factory=dict, hash=False)
    body: str = field(default="", repr=False)

    def with_entries(self, entries: Iterable[Entry]) -> NamedList:
        lines = [entry.render() for entry in entries]
        return replace(self, body="".join(lines), count=len(lines))

    def with_words(self, words: Collection[str]) -> NamedList:
        """The same for entries that are nothing but words."""
        return replace(self, body="".join(f"{word}\n" for word in words), count=len(words))

    def entries(self) -> Iterator[Entry]:
        start = 0
        while start < len(self.body):
            end = self.body.index("\n", start)
            yield Entry.parse(self.body[start:end])
            start = end + 1

    def render(self) -> str:
        text = self._text()
        return f"{text}{_END}{_digest(text)}\n"

    def _text(self) -> str:
        meta = {name: value for name, value in vars(self).items() if name != "body"}
        return f"{_HEAD}# {json.dumps(meta, sort_keys=True)}\n{self.body}"

    @classmethod
    def parse(cls, text: str) -> NamedList:
        """The inverse of ``render``. Raises ValueError."""
        whole, end, digest = text.rpartition(_END)
        if not whole.startswith(_HEAD) or not end:
            raise ValueError("its beginning or its end is missing")
        if digest != f"{_digest(whole)}\n":
            raise ValueError("somebody has changed it")
        meta, dummy, body = whole[len(_HEAD) :].partition("\n")
        found = json.loads(meta[2:])
        try:
            made = cls(**{**found, "never": tuple(found["never"]), "body": body})
        except (KeyError, TypeError) as error:  # of another release
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if body.count("\n") != made.count:
            raise ValueError("it has not as many entries as it says")
        return made

    @property
    def fetched(self) -> bool:
        """Whether this host fetches it by itself."""
        return self.kind == "feed" and self.source.startswith(("http://", "https://"))

    @property
    def fingerprint(self) -> str:
        """Of everything in it."""
        return _digest(self._text())

    def unexpired(self, now: float) -> NamedList:
        """Without the entries whose time has run out."""
        if "\t" not in self.body:
            return self
        left = [entry for entry in self.entries() if not entry.expires or entry.expires > now]
        return self if len(left) == self.count else self.with_entries(left)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Lists:
    """The directory of the lists: 0700, files 0600, each replaced in one moment."""

    def __init__(self, directory: str = DIRECTORY) -> None:
        self.directory = pathlib.Path(directory)

    def names(self) -> list[str]:
        """Of every list there is, in order. Raises SipguardError."""
        try:
            return sorted(path.name for path in self.directory.iterdir() if _NAME.match(path.name) and path.is_file())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SipguardError(f"cannot read {self.directory}: {error}") from error

    def read(self, name: str) -> NamedList | None:
        """A list, None when there is none of that name. Raises SipguardError when its file cannot be read, or is damaged."""
        path = self.directory / check_name(name)
        try:
            found = NamedList.parse(path.read_text(encoding="utf-8"))
            if found.name != name:
                raise ValueError(f"it is the list {shown(found.name)}")
            return found
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise SipguardError(
                f"the list {name} is damaged ({path}: {error}); what it had blocked stays blocked until the next boot, and the next "
                "refresh (of a feed) or run of the playbook (of any other) writes it anew"
            ) from error

    def read_all(self) -> tuple[dict[str, NamedList], list[str]]:
        """Every list that can be read, by name, and what is wrong with the others, a sentence each."""
        found: dict[str, NamedList] = {}
        errors = []
        for name in self.names():
            try:
                read = self.read(name)
            except SipguardError as error:
                errors.append(str(error))
                continue
            if read is not None:
                found[name] = read
        return found, errors

    def write(self, wanted: NamedList) -> None:
        """Raises SipguardError; the file is then what it was."""
        path = self.directory / check_name(wanted.name)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, wanted.render(), 0o600)
        except OSError as error:
            with contextlib.suppress(OSError):  # half a file on a disk that is full
                path.with_name(f".{wanted.name}.new").unlink(missing_ok=True)
            raise SipguardError(f"cannot write {path}: {error}") from error

    def put(self, name: str, wanted: NamedList | None) -> None:
        """Make a list what it shall be, None: not exist. Raises SipguardError."""
        if wanted is None:
            self.remove(name)
        else:
            self.write(wanted)

    def remove(self, name: str) -> None:
        """Raises SipguardError."""
        path = self.directory / check_name(name)
        try:
            for file in (path, path.with_name(f".{name}.new")):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise SipguardError(f"cannot remove {path}: {error}") from error

    def clear(self) -> None:
        """Remove the directory when no list is left in it. Raises SipguardError."""
        if self.names():
            return
        for path in self.directory.glob(".*"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else's file may be in it, or it may never have been there
            self.directory.rmdir()


def diff_text(before: NamedList | None, after: NamedList | None, limit: int = 50) -> tuple[str, str]:
    """Two texts for a diff: what a list is, and the entries that come or go, at most ``limit`` of each."""
    if before == after:
        return "", ""
    entries: list[Mapping[str, None]] = [
        dict.fromkeys(found.body.splitlines()) if found is not None else {} for found in (before, after)
    ]
    texts = []
    for found, mine, other in ((before, entries[0], entries[1]), (after, entries[1], entries[0])):
        lines = []
        if found is not None:
            lines.append(f"list {found.name}: {found.count} entries from {found.source}, mode {found.mode}")
            only = [line for line in mine if line not in other]
            lines += [f"  {line}" for line in only[:limit]]
            lines += [f"  and {len(only) - limit} more"] if len(only) > limit else []
        texts.append("".join(f"{line}\n" for line in lines))
    return texts[0], texts[1]
