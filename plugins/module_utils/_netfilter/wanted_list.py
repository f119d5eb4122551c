# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of sip_blocklist, read into one named list, or refused before anything is touched."""

from __future__ import annotations

import hashlib
import json
import pathlib
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._sip import ranges
from .._sip.errors import OptionError, SipguardError
from .lists import (
    DISTRIBUTED,
    Accepted,
    Criteria,
    Entry,
    NamedList,
    Sieve,
    accept,
    check_coverage,
    check_growth,
    check_name,
    check_plausible,
    check_size_change,
    shown,
)

__all__ = ["Wanted", "read_never", "read_options"]

_EXPECTED = (
    "an address (192.0.2.7), a network (192.0.2.0/24, 192.0.2.0/255.255.255.0, 2001:db8::/32) or a range "
    "(192.0.2.10-192.0.2.20) would be right"
)
_MAX_FILE = 64 * 1024 * 1024  # bytes


@dataclass
class Wanted:
    """``named`` is None for a list that shall go."""

    named: NamedList | None = None
    warnings: list[str] = field(default_factory=list)


def read_never(words: Sequence[str], option: str = "never") -> tuple[str, ...]:
    """Sources that no list may block. Raises OptionError."""
    for word in words:
        try:
            version, first, last = ranges.parse_range(word.strip())
        except ranges.NotARange as error:
            raise OptionError(option, word, f"it is {error}; {_EXPECTED}") from None
        if last - first == (1 << ranges.BITS[version]) - 1:
            raise OptionError(
                option, word, f"it means every address there is, and no list would do anything; {_EXPECTED}"
            )
    return tuple(dict.fromkeys(word.strip() for word in words))


def read_options(options: Mapping[str, Any], live: NamedList | None) -> Wanted:
    """What is wanted; ``live`` is the list of this name as it is, which stays as it is when nothing has changed. Raises SipguardError."""
    if options["name"] is not None:
        check_name(options["name"])
    if options["state"] == "absent":
        return Wanted()
    if options["sources"] is None and options["presets"] is None and options["feed"] is None:
        raise OptionError("sources", None, "a list of sources, or the file of a feed in 'feed', is needed")
    if options["max_change"] < 0:
        raise OptionError(
            "max_change", options["max_change"], "0 (everything is allowed) or a percentage would be right"
        )
    criteria = Criteria(options["min_prefix"], options["min_prefix_ipv6"], options["allow_private"])
    named = NamedList(
        options["name"],
        mode=options["mode"],
        never=read_never(options["never"]),
        allow_private=options["allow_private"],
    )
    distributed = str(options["feed"] or "").startswith(f"{DISTRIBUTED}/")
    if live is not None and live.fetched and not distributed:
        raise OptionError(
            "name",
            options["name"],
            f"it is the list of a feed that this host fetches from {live.source}; another name would be right",
        )
    if options["feed"] is not None:
        return _from_feed(options, criteria, named, live)
    found = _published(options["presets"]) if options["presets"] else []
    found += [pair for source in options["sources"] or () for pair in _sources(source)]
    return _from_sources(found, criteria, named, live)


def _published(names: Sequence[str]) -> list[tuple[str, str]]:
    """The sources of presets, each with its note. Raises OptionError."""
    # Only here, because a run that changes nothing shall load no more than it needs.
    from .._sip.range_presets import range_preset

    return [(entry.value, f"{name}: {entry.note}") for name in names for entry in range_preset(name)]


def _from_sources(
    sources: Sequence[tuple[str, str]], criteria: Criteria, named: NamedList, live: NamedList | None
) -> Wanted:
    accepted = Accepted()
    sieve = Sieve(criteria)
    entries = []
    for number, (word, note) in enumerate(sources, start=1):
        try:
            version, first, last = ranges.parse_range(word)
        except ranges.NotARange as error:
            raise OptionError("sources", word, f"it is {error}; {_EXPECTED}") from None
        if sieve.too_wide(version, first, last):
            raise OptionError(
                "sources",
                word,
                f"it is {sieve.too_wide(version, first, last)}; smaller networks, or another min_prefix, would be right",
            )
        if word in accepted.words:
            continue
        if sieve.objection(version, first, last):
            accepted.refused += 1
            accepted.mention(number, word, sieve.objection(version, first, last))
            continue
        if sieve.is_wide(version, first, last):
            accepted.wide += 1
            accepted.mention(number, word, "taken, but a large network")
        accepted.words[word] = None
        entries.append(Entry(word, note=note))
    addresses = check_coverage(accepted.words, "sources")
    report = {**accepted.summary(), "addresses": addresses}
    wanted = replace(named, kind="static", source="the inventory", report=report).with_entries(entries)
    warnings = [
        f"sources: {found['text']} was left out: it is {found['why']} (allow_private would take it)"
        for found in accepted.examples
        if not found["why"].startswith("taken")
    ]
    return Wanted(_as_it_is(wanted, live), warnings)


def _sources(source: object) -> list[tuple[str, str]]:
    """One entry of the option as sources, each with its note. Raises OptionError."""
    expected = "a dictionary with 'value', a source or a list of them, and 'note' would be right"
    values, note = source, ""
    if isinstance(source, Mapping):
        if set(source) - {"value", "note"}:
            raise OptionError("sources", dict(source), expected)
        values, note = source.get("value"), shown(" ".join(str(source.get("note") or "").split()))
        if not isinstance(values, (str, list)):
            raise OptionError("sources", dict(source), expected)
    found = []
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, Mapping):
            found += [(word, mine or note) for word, mine in _sources(value)]
        elif isinstance(value, str):
            found.append((value.strip(), note))
        else:
            raise OptionError("sources", value, f"it is no text; {_EXPECTED}")
    return found


def _as_it_is(wanted: NamedList, live: NamedList | None) -> NamedList:
    """The live list when the wanted one is the same but for when it was made."""
    if live is not None and replace(live, updated=0) == wanted:
        return live
    return replace(wanted, updated=int(time.time()))


def _from_feed(options: Mapping[str, Any], criteria: Criteria, named: NamedList, live: NamedList | None) -> Wanted:
    path = pathlib.Path(options["feed"])
    what = f"feed: {path}"
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device never ends
            raise OptionError("feed", str(path), "it is no ordinary file; a file on the host would be right")
        if found.st_size > _MAX_FILE:
            raise SipguardError(f"{what} has more than {_MAX_FILE} bytes; nothing was changed")
        raw = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        why = error.strerror if isinstance(error, OSError) else error
        raise OptionError("feed", str(path), f"it cannot be read ({why}); a file on the host would be right") from error
    recipe = json.dumps([criteria.min_prefix, criteria.min_prefix_ipv6, criteria.allow_private])
    wanted = replace(named, kind="feed", source=str(path), digest=hashlib.sha256(recipe.encode() + raw).hexdigest())
    if live is not None and live.digest == wanted.digest:
        same = replace(wanted, body=live.body, count=live.count, report=live.report)
        return Wanted(_as_it_is(same, live), _junk(what, same.report))
    text = raw.decode("utf-8", "backslashreplace")
    accepted = accept(text.splitlines(), criteria)
    check_plausible(what, text, accepted)
    check_size_change(what, live.count if live is not None else 0, len(accepted.words), options["max_change"])
    addresses = check_coverage(accepted.words, what)
    check_growth(what, live.report if live is not None else {}, addresses, options["max_change"])
    wanted = replace(wanted, report={**accepted.summary(), "addresses": addresses}).with_words(accepted.words)
    return Wanted(_as_it_is(wanted, live), _junk(what, wanted.report))


def _junk(what: str, report: Mapping[str, Any]) -> list[str]:
    """A sentence about lines that were not taken, if there were any."""
    if not report.get("junk") and not report.get("refused"):
        return []
    first = "; ".join(f"line {found['line']}: {found['text']} ({found['why']})" for found in report["examples"][:3])
    return [
        f"{what}: {report['junk']} lines are junk and {report['refused']} were refused, and are not loaded: {first}"
    ]
