# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From named lists to the kernel: all of them together, without whom they must not stop, in four sets that are filled aside and swapped.

A run that finds nothing to do neither reads a list line by line nor writes a set: it compares a digest of what goes in with the one
of the last time, and a digest of what the kernel holds with the one it had then. The kernel decides; without the note of the last
time everything is worked out anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from .._sip import ranges
from .._sip.errors import SipguardError
from . import netlink, sets
from .engine import Engine, Snapshot
from .lists import ENFORCE, NamedList
from .names import BLOCKED, FAMILIES, WATCHED, Family
from .persist import replace_file
from .policy import Policy
from .runner import Runner

__all__ = [
    "Found",
    "Loaded",
    "Protects",
    "converge",
    "fill",
    "filled",
    "find",
    "missing",
    "remembered",
    "remove_sets",
    "touching",
]

_NOTE = ".loaded"
_BASES = {BLOCKED: True, WATCHED: False}  # whether lists in mode enforce go into it
_VERSION = 1


class Protects(Protocol):
    """A network that must not be blocked, and why (see _host/protected.py)."""

    @property
    def network(self) -> str: ...

    @property
    def why(self) -> str: ...

    def range(self) -> tuple[int, int, int]: ...


@dataclass
class Loaded:
    """What the sets hold now, and what that changed.

    ``members`` counts them by set, ``left_out`` are protected networks that some list names: network, why, names of the lists.
    ``before`` and ``after`` are for a diff.
    """

    changed: bool = False
    members: dict[str, int] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class _Note:
    """What was loaded the last time: digests of what went in, of what came out of it, and of what the kernel held then, by set."""

    inputs: str
    wanted: Mapping[str, str]
    kernel: Mapping[str, str]
    members: Mapping[str, int]
    left_out: Sequence[Mapping[str, Any]]
    protected: Sequence[Sequence[str]]
    version: int = _VERSION

    @classmethod
    def read(cls, directory: pathlib.Path) -> _Note | None:
        """None when there is none that can be used."""
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            note = cls(**json.loads((directory / _NOTE).read_text(encoding="utf-8")))
            return note if note.version == _VERSION and note.is_whole() else None
        return None

    def is_whole(self) -> bool:
        """Whether it is what ``write`` writes. Raises ValueError and TypeError when it is not, as reading it does."""
        for network, dummy in self.protected:
            ranges.parse_range(network)
        maps = (self.wanted, self.kernel, self.members, *self.left_out)
        return all(isinstance(each, dict) for each in maps) and all(isinstance(n, int) for n in self.members.values())

    def write(self, directory: pathlib.Path) -> None:
        with contextlib.suppress(OSError):  # it only saves work
            replace_file(directory / _NOTE, json.dumps(asdict(self)), 0o600)


def _inputs(lists: Mapping[str, NamedList], protected: Iterable[Protects], families: Iterable[Family]) -> str:
    """A digest of everything that decides about the members."""
    digest = hashlib.sha256()
    for name in sorted(lists):
        digest.update(f"{name} {lists[name].fingerprint}\n".encode())
    for item in sorted(f"{item.network} {item.why}" for item in protected):
        digest.update(f"{item}\n".encode())
    digest.update(" ".join(family.name for family in families).encode())
    return digest.hexdigest()


def _kernel(names: Iterable[str]) -> dict[str, str]:
    digests = {name: netlink.set_digest(name) for name in names}
    return {name: digest for name, digest in digests.items() if digest is not None}


def _wanted_sets(lists: Mapping[str, NamedList], families: Iterable[Family]) -> list[str]:
    """Names of the sets there have to be: those of a mode in which there is any list, empty or not."""
    return [
        base + family.suffix
        for base, enforces in _BASES.items()
        if any((each.mode == ENFORCE) == enforces for each in lists.values())
        for family in families
    ]


def _packed(named: NamedList) -> dict[int, list[int]]:
    """A list's ranges by version, packed and merged. Raises SipguardError for a list with a line that is no range."""
    found: dict[int, list[int]] = {version: [] for version in ranges.BITS}
    try:
        rest = ranges.pack_addresses(named.body.splitlines(), found[4])
        for line in rest:
            version, first, last = ranges.parse_range(line.partition("\t")[0])
            found[version].append(ranges.pack(first, last))
    except ranges.NotARange as error:
        raise SipguardError(
            f"the list {named.name} is damaged: {error}; the next refresh or run writes it anew"
        ) from error
    return {version: [ranges.pack(*part) for part in ranges.merged(mine)] for version, mine in found.items()}


class _Work:
    """The members of every set, worked out from the lists; packed ranges throughout, because there may be half a million.

    Raises SipguardError.
    """

    def __init__(self, lists: Mapping[str, NamedList], protected: Sequence[Protects]) -> None:
        self._lists = lists
        self._packed = {name: _packed(lists[name]) for name in sorted(lists)}
        shields = [(item, item.range()) for item in protected]
        self.left_out = list(self._left_out(shields))
        holes = [found for dummy, found in shields]
        holes += [ranges.parse_range(word) for named in lists.values() for word in named.never]
        self._holes = {
            version: ranges.merge((first, last) for kind, first, last in holes if kind == version)
            for version in ranges.BITS
        }

    def _left_out(self, shields: Iterable[tuple[Protects, tuple[int, int, int]]]) -> Iterator[dict[str, Any]]:
        for item, (version, first, last) in shields:
            names = [name for name, found in self._packed.items() if ranges.touches(found[version], first, last)]
            if names:
                yield {"network": item.network, "why": item.why, "lists": names}

    def members(self, base: str, family: Family, kept: Iterable[str] = ()) -> _Members:
        """Of one set; ``kept`` are members that stay as well, but for what is protected."""
        version = family.version
        mine = [each for each in self._lists.values() if (each.mode == ENFORCE) == _BASES[base]]
        public, private = (
            [part for each in mine if each.allow_private is allowed for part in self._packed[each.name][version]]
            for allowed in (False, True)
        )
        private += [ranges.pack(first, last) for dummy, first, last in map(ranges.parse_range, kept)]
        holes = self._holes[version]
        if private:
            known = ranges.subtract(ranges.merged(public), ranges.bogons(version))
            public = [*private, *(ranges.pack(*part) for part in known)]
        else:
            holes = ranges.merge([*holes, *ranges.bogons(version)])
        networks = ranges.networks(ranges.subtract(ranges.merged(public), holes), version)
        packed = [address << 8 | prefix for address, prefix in networks]
        return _Members(version, packed)


class _Members:
    """What one set is to hold: networks as address and prefix length in one number each."""

    def __init__(self, version: int, packed: list[int]) -> None:
        self._version, self._packed = version, packed
        found = Counter(number & 0xFF for number in packed)
        self._lengths = ranges.kernel_lengths(found)
        self.count = sum(
            many << self._lengths[bisect_left(self._lengths, length)] - length for length, many in found.items()
        )

    def digest(self) -> str:
        width = (ranges.BITS[self._version] + 8) // 8
        return hashlib.sha256(b"".join(number.to_bytes(width, "big") for number in self._packed)).hexdigest()

    def networks(self) -> Iterator[tuple[int, int]]:
        """Address and prefix length of each, as they are loaded."""
        version, single = self._version, ranges.BITS[self._version]
        for number in self._packed:
            prefix = number & 0xFF
            if prefix == single:
                yield number >> 8, prefix
            else:
                yield from ranges.expand(number >> 8, prefix, self._lengths, version)

    def words(self) -> Iterator[str]:
        """The same as ipset prints them."""
        return (ranges.text(address, prefix, self._version) for address, prefix in self.networks())


def _load(runner: Runner, target: sets.SetSpec, wanted: _Members, live: Mapping[str, sets.SetHeader]) -> None:
    """Fill a set aside and swap it in. Raises SipguardError; the set is then what it was.

    ipset makes and swaps the sets, but does not fill them: it takes each member through the resolver's functions, which is five
    times as slow as telling the kernel ourselves, and would be most of a refresh.
    """
    aside = sets.aside(target.name)
    script = sets.leftover_script(target, live)
    # As large as it will be: growing from ipset's 1024 means to sort everything in again and again. The kernel rounds up.
    size = max(1024, wanted.count // 4)
    sets.restore(runner, f"{script}{target.create(aside)} hashsize {size}\n")
    try:
        netlink.add_networks(aside, target.family.version, wanted.networks())
    except OSError as error:
        sets.restore(runner, f"destroy {aside}\n")
        raise SipguardError(f"cannot fill the set {aside}: {error}") from error
    script = f"{target.create()}\n" if target.name not in live else ""
    sets.restore(runner, f"{script}swap {aside} {target.name}\ndestroy {aside}\n")


def fill(
    runner: Runner,
    lists: Mapping[str, NamedList],
    protected: Sequence[Protects],
    families: Sequence[Family],
    *,
    directory: pathlib.Path,
    check: bool,
    keep: bool = False,
    admit: Callable[[], None] = lambda: None,
) -> Loaded:
    """Make the sets hold what the lists say, ``directory`` being where the note is kept. Sets that no list needs are left alone.

    With ``keep`` nothing is taken out of them but what is protected: some list cannot be read, and nobody knows what was in it.
    ``admit`` is called before anything is changed, and raises SipguardError where something stands against it.

    Raises SipguardError with ipset's own words; the sets are then what they were.
    """
    names = _wanted_sets(lists, families)
    inputs = _inputs(lists, protected, families) + ("+" if keep else "")
    note = _Note.read(directory)
    kernel = _kernel(names)
    # Without a digest of each nothing is known: it may not be allowed to read them.
    known = note is not None and names != [] and list(kernel) == names and kernel == dict(note.kernel)
    if note is not None and known and note.inputs == inputs:
        left = [aside for aside in map(sets.aside, names) if netlink.set_digest(aside) is not None]
        if left and not check:  # of a run that was killed
            sets.restore(runner, "".join(f"destroy {name}\n" for name in left))
        return Loaded(False, dict(note.members), [dict(item) for item in note.left_out])
    admit()
    headers = sets.read_headers(runner)
    for name in names:
        header = headers.get(name)
        if header is not None and not header.fits(sets.spec(name)):
            raise SipguardError(
                f"the set {name} exists, but as {header.type}; remove it with 'ipset destroy {name}' and run again"
            )
    work = _Work(lists, protected)
    loaded = Loaded(left_out=work.left_out)
    digests: dict[str, str] = {}
    for name in names:
        family = next(each for each in families if name.endswith(each.suffix))
        kept = sets.read_members(runner, name) if keep and name in headers else ()
        wanted = work.members(name[: -len(family.suffix)], family, kept)
        digests[name] = wanted.digest()
        loaded.members[name] = wanted.count
        target = sets.spec(name, wanted.count)
        header = headers.get(name)
        here = header.entries if header is not None else 0
        if note is not None and known:
            same = header is not None and note.wanted.get(name) == digests[name]
        else:
            same = (
                here == wanted.count
                and header is not None
                and sets.read_members(runner, name).keys() == set(wanted.words())
            )
        if same:
            if not check:
                sets.restore(runner, sets.leftover_script(target, headers))
            continue
        loaded.changed = True
        loaded.before += f"{name}: {here} members\n" if header is not None else ""
        loaded.after += f"{name}: {wanted.count} members\n"
        if not check:
            _load(runner, target, wanted, headers)
    if not check and names:
        shields = [[item.network, item.why] for item in protected]
        _Note(inputs, digests, _kernel(names), loaded.members, loaded.left_out, shields).write(directory)
    return loaded


def remembered(directory: pathlib.Path) -> list[tuple[str, str]]:
    """What was protected the last time, network and why: at boot a host does not know its addresses and gateways yet."""
    note = _Note.read(directory)
    return [(str(network), str(why)) for network, why in note.protected] if note is not None else []


def filled(directory: pathlib.Path) -> frozenset[str]:
    """Names of the sets that the lists fill, as far as that is known."""
    note = _Note.read(directory)
    return frozenset(note.members) if note is not None else frozenset()


def missing(headers: Mapping[str, sets.SetHeader], directory: pathlib.Path) -> list[str]:
    """Names of the sets that somebody has emptied or destroyed since they were filled."""
    note = _Note.read(directory)
    members = note.members if note is not None else {}
    return [name for name, count in members.items() if count and (name not in headers or not headers[name].entries)]


def converge(
    engine: Engine,
    lists: Mapping[str, NamedList],
    protected: Sequence[Protects],
    *,
    directory: pathlib.Path,
    persist: bool,
    check: bool,
    keep: bool = False,
    snapshot: Snapshot | None = None,
) -> tuple[Loaded, dict[str, Any]]:
    """The sets, and the rules that look into them; the second is the common part of a module's result.

    ``keep`` as for ``fill``; ``snapshot`` is that of the engine, if it has just been taken. Raises SipguardError.
    """
    needed = {name[:-1] for name in _wanted_sets(lists, engine.families)}
    snapshot = snapshot or engine.snapshot()
    targets: dict[Family, Policy] = {}
    for family in engine.families:
        policy = snapshot.policy(family, "filter")
        for base in _BASES:
            policy = policy.with_drop(base, base in needed)
        targets[family] = policy

    def admit() -> None:
        engine.plan(snapshot, targets)  # what cannot be done is refused before any set is filled

    loaded = fill(
        engine.runner, lists, protected, engine.families, directory=directory, check=check, keep=keep, admit=admit
    )
    for name, count in loaded.members.items():
        # They are there now, or would be but for check mode; the plan of the rules shall not make them.
        snapshot.headers.setdefault(name, sets.SetHeader.of(sets.spec(name, count)))
    outcome = engine.converge(targets, snapshot, persist=persist, check=check)
    unneeded = [base + family.suffix for base in _BASES if base not in needed for family in FAMILIES]
    gone = remove_sets(engine.runner, [name for name in unneeded if name in snapshot.headers], check=check)
    loaded.changed |= gone
    result = outcome.result()
    result["changed"] = result["differs"] = outcome.changed or loaded.changed
    result["diff"] = {
        "before": loaded.before + (outcome.before if outcome.changed else ""),
        "after": loaded.after + (outcome.after if outcome.changed else ""),
    }
    result["warnings"] = outcome.warnings
    return loaded, result


def remove_sets(runner: Runner, names: Sequence[str], *, check: bool) -> bool:
    """Destroy sets that no rule looks into any more; whether there were any. Raises SipguardError with ipset's own words."""
    if names and not check:
        headers = sets.read_headers(runner)
        leftovers = "".join(sets.leftover_script(sets.spec(name), headers) for name in names)
        sets.restore(runner, leftovers + "".join(f"destroy {name}\n" for name in names if name in headers))
    return bool(names)


@dataclass(frozen=True)
class Found:
    """An entry of a list that names an address."""

    name: str
    kind: str
    source: str
    mode: str
    updated: int
    entry: str
    expires: int
    note: str


def touching(lists: Mapping[str, NamedList], version: int, first: int, last: int) -> list[str]:
    """Names of the lists that have any address from ``first`` to ``last``. Raises SipguardError for a damaged one."""
    return [name for name in sorted(lists) if ranges.touches(_packed(lists[name])[version], first, last)]


def find(lists: Mapping[str, NamedList], version: int, address: int) -> list[Found]:
    """Every list that names an address, with the first of its entries that does; what protects the address is not asked."""
    found = []
    for name in sorted(lists):
        named = lists[name]
        for entry in named.entries():
            try:
                kind, first, last = ranges.parse_range(entry.word)
            except ranges.NotARange:
                continue
            if kind == version and first <= address <= last:
                found.append(
                    Found(
                        name,
                        named.kind,
                        named.source,
                        named.mode,
                        named.updated,
                        entry.word,
                        entry.expires,
                        entry.note,
                    )
                )
                break
    return found
