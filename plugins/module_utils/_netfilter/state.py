# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything of ours on a host at one moment, as it stands: rules, places of the hooks, sets, files. And back to it, exactly.

Nothing is understood or put right here. A rule of ours that somebody has edited comes back edited, because that is how the host
was. Other people's rules and sets are neither kept nor touched.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from .._sip.errors import SipguardError
from . import freepbx_rules, netlink, sets
from .backend import BACKENDS, Backend, detect, has_family, in_use, note_hiding
from .names import (
    ADMISSION_MASK,
    BANNED,
    BLOCKED,
    CHAIN_MAIN,
    FAMILIES,
    JAILS,
    KNOWN,
    WATCHED,
    Family,
    is_own_chain,
    is_own_set,
)
from .persist import BOOT_SETTINGS, DIRECTORY, SETS_FILE, Store, rules_file
from .plan import change_script
from .policy import read_policy
from .rule import Rule, parse_rule
from .ruleset import HOOKS, Ruleset, Table, parse_save
from .runner import Runner, output
from .switch_guard import boot_identity, now

__all__ = ["Back", "SetState", "State", "TableState", "bring_back", "capture", "differences", "put_files"]

_VERSION = 1
_LOCK_TIMEOUT = 30  # s, for the xtables lock
_ASIDE = "-new"  # as in sets.py, so that the next run clears away what a killed one has left
_TIMEOUT = re.compile(r" timeout (\d+)")
_SLACK = 2  # s by which the remaining time of a member may differ and still be the same
# Filled by somebody else while the host runs.
_FILLED_FROM_OUTSIDE = (BANNED, BLOCKED, JAILS, KNOWN, WATCHED)
# What they hold is in files of their own, may be a hundred thousand members, and is no part of any state to go back to.
_KEPT_ELSEWHERE = (BANNED, BLOCKED, JAILS, WATCHED)
_FILES = (*(rules_file(family) for family in FAMILIES), SETS_FILE)
# Ports and choices for a boot that fails change with the rules, but are no part of what a host does now, and belong to what is
# installed: they are put back, and never taken away.
_KEPT_FILES = (*_FILES, BOOT_SETTINGS)


@dataclass(frozen=True)
class TableState:
    """Our part of one table: each chain's rules as iptables-save prints them, and the places of our hooks, counted from 1.

    ``before`` are the lines of others that stood in the built-in chain before the last hook: a place means something as long as
    those are there.
    """

    chains: Mapping[str, tuple[str, ...]]
    hooks: tuple[int, ...] = ()
    before: tuple[str, ...] = ()

    def hooked(self) -> bool:
        """Whether the hook stood where it belongs."""
        return Table("", hooks=list(self.hooks), before_hook=list(self.before)).hooked()

    def judging(self) -> list[str]:
        """Chains and rules, whatever the generation."""
        lines = [line for name, rules in sorted(self.chains.items()) for line in (f":{name}", *rules)]
        return _without_generation(lines)

    def rules(self) -> dict[str, tuple[Rule, ...]]:
        return {name: tuple(Rule(name, unread=line) for line in lines) for name, lines in self.chains.items()}


@dataclass(frozen=True)
class SetState:
    """One set: the words that create it, behind its name, and its members.

    Members are words as ipset prints them -> seconds they had left, None where the set has no timeouts. ``members`` None stands for
    whatever the set holds.
    """

    made: str
    members: Mapping[str, int | None] | None


# Backend -> family -> table.
Rules = Mapping[str, Mapping[str, Mapping[str, TableState]]]


@dataclass(frozen=True)
class State:
    """Everything of ours. ``at`` is in seconds since the start of the host that ``boot`` names, ``taken`` in seconds since the epoch.

    ``exact`` is false for what is kept for longer: what sets learn, or are filled with all the time, is left as it is then.
    """

    rules: Rules = field(default_factory=dict)
    sets: Mapping[str, SetState] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    at: float = 0
    boot: str = ""
    taken: float = 0
    exact: bool = True
    # Families whose file of FreePBX's custom rules has a block of ours; None: nobody has looked.
    blocks: tuple[str, ...] | None = None
    # FreePBX's setting "customrules", "" where it is not stored; None: nobody has looked. Whoever captures it brings it back.
    custom_rules: str | None = None
    # What the blocks say of who switched it on (`freepbx_rules.memory`), and the digest of the lines of others in these files; None:
    # nobody has looked, or a file cannot be read.
    memory: tuple[str, ...] | None = None
    others: str | None = None

    @property
    def custom_rules_on(self) -> bool | None:
        """Whether FreePBX loads custom rules; None: nobody has looked."""
        return None if self.custom_rules is None else self.custom_rules == "enabled"

    def lasting(self) -> State:
        """What is worth keeping for longer than minutes: without the members that sets gain and lose all the time."""
        return replace(
            self,
            exact=False,
            sets={
                name: replace(found, members=None) if " timeout " in f"{found.made} " else found
                for name, found in self.sets.items()
            },
        )

    def elapsed(self) -> float:
        """Seconds since it was taken."""
        return now() - self.at if self.boot == boot_identity() else max(0.0, time.time() - self.taken)

    def render(self) -> str:
        return json.dumps({"version": _VERSION, **vars(self)}, default=vars, separators=(",", ":")) + "\n"

    @classmethod
    def parse(cls, text: str) -> State:
        """The inverse of ``render``. Raises ValueError."""
        try:
            found = json.loads(text)
            if found["version"] != _VERSION:
                raise ValueError(f"version {found['version']}")
            return cls(
                {
                    backend: {
                        family: {
                            name: TableState(
                                {chain: tuple(lines) for chain, lines in table["chains"].items()},
                                tuple(table["hooks"]),
                                tuple(table["before"]),
                            )
                            for name, table in tables.items()
                        }
                        for family, tables in families.items()
                    }
                    for backend, families in found["rules"].items()
                },
                {name: SetState(made["made"], made["members"]) for name, made in found["sets"].items()},
                dict(found["files"]),
                float(found["at"]),
                str(found["boot"]),
                float(found["taken"]),
                bool(found["exact"]),
                None if found.get("blocks") is None else tuple(str(name) for name in found["blocks"]),
                None if found.get("custom_rules") is None else str(found["custom_rules"]),
                None if found.get("memory") is None else tuple(str(flag) for flag in found["memory"]),
                None if found.get("others") is None else str(found["others"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error

    def listing(self) -> str:
        """For a diff: rules as iptables-save text, sets with the members that last, files by the digest of what is in them."""
        lines = []
        for backend, family, name, table in self.tables():
            lines.append(f"# {family}, iptables-{backend}, table {name}")
            lines += [f":{chain} - [0:0]" for chain in sorted(table.chains)]
            lines += [line for chain in sorted(table.chains) for line in table.chains[chain]]
            lines += [f"-I {HOOKS[name].builtin} {place} -j {HOOKS[name].chain}" for place in table.hooks]
        for name, found in sorted(self.lasting().sets.items()):
            lines.append(f"create {name} {found.made}")
            lines += [f"add {name} {member}" for member in sorted(found.members or ())]
        lines += [
            f"# {DIRECTORY}/{name}: {hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
            for name, text in sorted(self.files.items())
        ]
        lines += [f"# a block of these rules in FreePBX's file of {name}" for name in self.blocks or ()]
        if self.custom_rules is not None:
            lines.append(f"# FreePBX's custom rules are {'on' if self.custom_rules_on else 'off'}")
        return "".join(line + "\n" for line in lines)

    def tables(self) -> Iterator[tuple[str, str, str, TableState]]:
        """Every table that holds anything: backend, family, table."""
        for backend, families in sorted(self.rules.items()):
            for family, tables in sorted(families.items()):
                for name, table in sorted(tables.items()):
                    yield backend, family, name, table


@dataclass
class Back:
    """What came of going back: what was brought back, what is to be known, and what failed, a few words each."""

    done: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Live:
    """One family's rules in one backend, rules of ours verbatim."""

    backend: Backend
    family: Family
    ruleset: Ruleset


def _families() -> tuple[Family, ...]:
    return tuple(family for family in FAMILIES if has_family(family))


def _read(runner: Runner, wanted: State) -> list[_Live]:
    """Every backend and family in which there is anything of anybody's, or shall be.

    The others are not asked: iptables-legacy would load its tables. Raises SipguardError.
    """
    found = []
    for name in BACKENDS:
        families = tuple(
            family for family in _families() if wanted.rules.get(name, {}).get(family.name) or in_use(name, family)
        )
        if not families:
            continue
        try:
            backend = detect(runner, name, families)
        except SipguardError:
            if wanted.rules.get(name):
                raise
            continue  # its commands are not installed, so what is in it is not ours
        for family in families:
            found.append(_Live(backend, family, _save(runner, backend, family)))
    return found


def _save(runner: Runner, backend: Backend, family: Family) -> Ruleset:
    text = output(runner, [backend.command(family, "save")])
    verbatim = {}
    for line in text.split("\n"):
        words = line.strip().split(" ", 2)
        if words[0] == "-A" and len(words) > 1 and is_own_chain(words[1]):
            verbatim[line.strip()] = Rule(words[1], unread=line.strip())
    ruleset = parse_save(text, verbatim)
    note_hiding(ruleset, family)
    return ruleset


def _others_in(table: Table) -> list[str]:
    """Other people's lines of the built-in chain that leads to ours."""
    return [line for line in table.foreign if line.startswith(f"-A {HOOKS[table.name].builtin} ")]


def _unseen(live: _Live, name: str) -> str:
    """Why a table cannot be dealt with, for people."""
    inet = "ip" if live.family.version == 4 else "ip6"
    return (
        f"table {name} of {live.family.name} holds rules that were written with nft, so that iptables cannot show it: see "
        f"'nft list table {inet} {name}' and move them to a table of their own"
    )


def capture(runner: Runner, files: str = DIRECTORY) -> State:
    """Everything of ours as it stands, ``files`` being the directory of what the host loads at boot. Raises SipguardError."""
    rules: dict[str, dict[str, dict[str, TableState]]] = {}
    for live in _read(runner, State()):
        if live.ruleset.hiding:
            raise SipguardError(_unseen(live, live.ruleset.hiding[0]))
        for name in HOOKS:
            table = live.ruleset.table(name)
            if not table.chains and not table.hooks:
                continue
            chains = {chain: tuple(rule.render() for rule in found) for chain, found in table.chains.items()}
            last = table.hooks[-1] - len(table.hooks) if table.hooks else 0
            rules.setdefault(live.backend.name, {}).setdefault(live.family.name, {})[name] = TableState(
                chains, tuple(table.hooks), tuple(_others_in(table)[:last])
            )
    blocks = tuple(family.name for family in freepbx_rules.present(FAMILIES))
    return State(
        rules,
        _read_sets(runner),
        _read_files(files),
        now(),
        boot_identity(),
        time.time(),
        blocks=blocks,
        memory=tuple(sorted(freepbx_rules.memory(FAMILIES))),
        others=_read_others(),
    )


def _read_others() -> str | None:
    try:
        return freepbx_rules.others(FAMILIES).digest
    except SipguardError:
        return None


def _read_sets(runner: Runner) -> dict[str, SetState]:
    names = [name for name in sets.read_headers(runner) if is_own_set(name) and not name.endswith(_ASIDE)]
    return {name: _made_anew(name) if name[:-1] in _KEPT_ELSEWHERE else _read_set(runner, name) for name in names}


def _made_anew(name: str) -> SetState:
    return SetState(sets.spec(name).create().partition(f" {name} ")[2], None)


def _read_set(runner: Runner, name: str) -> SetState:
    made = ""
    members: dict[str, int | None] = {}
    for line in output(runner, [runner.which("ipset") or "ipset", "save", name]).split("\n"):
        verb, dummy, rest = line.partition(f" {name} ")
        if verb == "create":
            made = rest
        elif verb == "add":
            timeout = _TIMEOUT.search(rest)
            members[_TIMEOUT.sub("", rest, count=1)] = int(timeout[1]) if timeout else None
    return SetState(made.strip(), members)


def _read_files(directory: str) -> dict[str, str]:
    """What the modules have written for the next boot; bytes that are no UTF-8 are escaped. Raises SipguardError."""
    found = {}
    for name in _KEPT_FILES:
        path = pathlib.Path(directory) / name
        try:
            found[name] = path.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SipguardError(f"cannot read {path}: {error}") from error
    return found


def differences(live: State, wanted: State) -> list[str]:
    """What of the configuration is not as wanted, a few words each; what sets learn or are filled with all the time is not asked.

    A hook counts as right wherever it does its work: others may put theirs before it. Nor does the generation count, which begins
    anew when the host does.
    """
    found = []
    parts = {(backend, family, name) for state in (live, wanted) for backend, family, name, dummy in state.tables()}
    for backend, family, name in sorted(parts):
        here, there = (state.rules.get(backend, {}).get(family, {}).get(name) for state in (live, wanted))
        if here is None or there is None or here.judging() != there.judging():
            found.append(f"{family} rules of table {name} (iptables-{backend})")
        elif here.hooks != there.hooks and not (here.hooked() and there.hooked()):
            found.append(f"{family} hook of table {name} (iptables-{backend})")
    ours, theirs = live.lasting().sets, wanted.lasting().sets
    for name in sorted({*ours, *theirs}):
        here_and_there = [found_in[name].members if name in found_in else () for found_in in (ours, theirs)]
        if name[:-1] not in _FILLED_FROM_OUTSIDE and here_and_there[0] != here_and_there[1]:
            found.append(f"set {name}")
    for name in _FILES:
        texts = [state.files.get(name, "") for state in (live, wanted)]
        if _without_generation(texts[0].split("\n")) != _without_generation(texts[1].split("\n")):
            found.append(f"file {name}")
    if live.blocks is not None and wanted.blocks is not None and live.blocks != wanted.blocks:
        found.append("the blocks in FreePBX's files")
    setting = (live.custom_rules_on, wanted.custom_rules_on)
    # An administrator may switch it on or off for rules of his own, which is no concern of ours while it loads none of ours.
    if None not in setting and setting[0] != setting[1] and (wanted.exact or (setting[1] and wanted.blocks)):
        found.append("FreePBX's setting customrules")
    return found


def _without_generation(lines: Iterable[str]) -> list[str]:
    """Rules without the value under which they admit."""
    found = list(lines)
    main = tuple(parse_rule(line) for line in found if line.startswith(f"-A {CHAIN_MAIN} "))
    policy, generation = read_policy(FAMILIES[0], {"filter": {CHAIN_MAIN: main}}, "filter")
    if not generation:
        return found
    mark = re.compile(rf"( connmark --mark| CONNMARK --set-xmark) 0x{generation:x}/0x{policy.mask:x}(?= |$)")
    return [mark.sub(r"\1 admitted", line) for line in found]


def bring_back(runner: Runner, wanted: State, files: str = DIRECTORY, *, switched_on: bool = False) -> Back:
    """Make everything of ours what it was. Each table is one change of its own, and what fails does not keep the rest from coming back.

    ``switched_on`` says that FreePBX's custom rules were off and have been switched on for it. To be called with the host's lock held.
    Raises SipguardError when the host cannot even be read.
    """
    back = Back()
    live = _read(runner, wanted)
    headers = sets.read_headers(runner)
    touched = _fill_sets(runner, wanted, headers, back)
    masks = {(item.family, mask) for item in live for mask in _masks(item, wanted)}
    scripts = [
        (item, name, text)
        for item in live
        for name in HOOKS
        for text in [_table_script(item, name, wanted, back)]
        if text
    ]
    # What comes back is there before what goes, so that no packet meets neither.
    scripts.sort(key=lambda script: not _wanted_table(script[0], script[1], wanted).chains)
    for item, name, text in scripts:
        _load(runner, item, name, text, back)
    if not back.problems:  # a rule that could not be taken back needs what it looks into
        touched += _destroy_surplus(runner, wanted, back)
    if scripts or touched:
        for family, mask in sorted(masks, key=lambda pair: (pair[0].version, pair[1])):
            try:
                netlink.clear_marks(family.version, mask)
            except OSError as error:
                back.problems.append(f"cannot clear the marks of {family.name} conversations: {error}")
    done, problems = put_files(wanted, files)
    back.done += done
    back.problems += problems
    if scripts and not back.problems:
        _read_back(runner, wanted, back)
    _put_blocks(runner, wanted, back, switched_on)
    return back


def _put_blocks(runner: Runner, wanted: State, back: Back, switched_on: bool) -> None:
    """FreePBX's files have our rules where they had them, and the rules are those that are in the kernel now."""
    there = freepbx_rules.present(FAMILIES)
    kept = there if wanted.blocks is None else [family for family in FAMILIES if family.name in wanted.blocks]
    if not there and not kept:
        return
    chains: dict[Family, dict[str, tuple[Rule, ...]]] = {}
    for item in _read(runner, wanted):
        verbatim = item.ruleset.own_chains(freepbx_rules.TABLE)
        if verbatim:
            chains[item.family] = {
                name: tuple(parse_rule(rule.render()) for rule in rules) for name, rules in verbatim.items()
            }
    targets = {
        family: chains.get(family, {}) if family in kept else None
        for family in FAMILIES
        if family in kept or family in there
    }
    # Who switched custom rules on is known best by what is there, unless everything becomes what it was a moment ago.
    memory = frozenset(wanted.memory) if wanted.exact and wanted.memory is not None else None
    if switched_on:
        memory = (freepbx_rules.memory(FAMILIES) if memory is None else memory) | {freepbx_rules.ENABLED}
    changes, problems = freepbx_rules.settle(targets, memory=memory)
    problems += freepbx_rules.write_all(changes)
    back.done += [f"file {change.path}" for change in changes]
    back.notes += problems


def _wanted_table(live: _Live, name: str, wanted: State) -> TableState:
    return wanted.rules.get(live.backend.name, {}).get(live.family.name, {}).get(name) or TableState({})


def _places(table: Table, wanted: TableState) -> list[int]:
    """Where our hooks have to stand. Where the rules before them are no longer the same, a number means nothing: first is always right."""
    if tuple(_others_in(table)[: len(wanted.before)]) == wanted.before:
        return list(wanted.hooks)
    return [1] if wanted.hooks else []


def _table_script(live: _Live, name: str, wanted: State, back: Back | None = None) -> str:
    """What turns one table into what is wanted, "" for nothing; what is in the way is added to ``back``."""
    target = _wanted_table(live, name, wanted)
    if name in live.ruleset.unreadable:
        if back is not None and (target.chains or name in live.ruleset.hiding):
            back.problems.append(_unseen(live, name))
        return ""
    table = live.ruleset.table(name)
    after = target.rules()
    for chain in table.chains:
        references = table.references(chain) if chain not in after else []
        if references:  # it cannot go, but it can be empty
            after[chain] = ()
            if back is not None:
                back.notes.append(
                    f"chain {chain} of table {name} stays, empty: this rule, which is not ours, leads to it: {references[0]}"
                )
    return change_script(name, table.chains, after, table.hooks, _places(table, target))


def _load(runner: Runner, live: _Live, name: str, text: str, back: Back) -> None:
    argv = [live.backend.command(live.family, "restore"), "--noflush", "--wait", str(_LOCK_TIMEOUT)]
    what = f"{live.family.name} rules of table {name} (iptables-{live.backend.name})"
    try:
        output(runner, [*argv, "--test"], text)
        output(runner, argv, text)
        back.done.append(what)
    except SipguardError as error:
        back.problems.append(f"{what}: {error}")


def _masks(live: _Live, wanted: State) -> Iterator[int]:
    """The bits of the connection mark in which the rules there are, and those that are wanted, keep admissions."""
    for name in HOOKS:
        for lines in (
            [rule.render() for rule in live.ruleset.table(name).chains.get(CHAIN_MAIN, ())],
            _wanted_table(live, name, wanted).chains.get(CHAIN_MAIN, ()),
        ):
            if lines:
                rules = tuple(parse_rule(line) for line in lines)
                yield read_policy(live.family, {name: {CHAIN_MAIN: rules}}, name)[0].mask
    yield ADMISSION_MASK


def _read_back(runner: Runner, wanted: State, back: Back) -> None:
    for item in _read(runner, wanted):
        for name in HOOKS:
            if _table_script(item, name, wanted):
                back.problems.append(
                    f"the {item.family.name} rules of table {name} were changed again right after they had been brought back: "
                    "another firewall program is at work on this host"
                )


def _fill_sets(runner: Runner, wanted: State, headers: Mapping[str, sets.SetHeader], back: Back) -> list[str]:
    """Make every set that is wanted hold its members, in one moment each; returns the names of those that changed."""
    touched = []
    elapsed = wanted.elapsed()
    for name, target in sorted(wanted.sets.items()):
        # Who has authenticated since has done so under whatever rules.
        if name in headers and (target.members is None or name[:-1] == KNOWN):
            continue
        members = _remaining(target.members or {}, elapsed)
        if name in headers and _same_members(_read_set(runner, name).members or {}, members):
            continue
        try:
            sets.restore(runner, _set_script(name, target.made, members, headers))
            touched.append(name)
            back.done.append(f"set {name}")
        except SipguardError as error:
            back.problems.append(f"set {name}: {error}")
    return touched


def _remaining(members: Mapping[str, int | None], elapsed: float) -> dict[str, int | None]:
    """Members that have time left now, 0 being for ever."""
    left: dict[str, int | None] = {}
    for member, seconds in members.items():
        if not seconds:
            left[member] = seconds
        elif seconds > elapsed:
            left[member] = seconds - int(elapsed)
    return left


def _same_members(live: Mapping[str, int | None], wanted: Mapping[str, int | None]) -> bool:
    return live.keys() == wanted.keys() and all(
        abs((live[member] or 0) - (seconds or 0)) <= _SLACK for member, seconds in wanted.items()
    )


def _set_script(name: str, made: str, members: Mapping[str, int | None], headers: Mapping[str, sets.SetHeader]) -> str:
    aside = name + _ASIDE if name in headers else name
    lines = [f"destroy {aside}"] if aside != name and aside in headers else []
    lines.append(f"create {aside} {made}")
    for member, seconds in members.items():
        words, dummy, options = member.partition(" ")
        timeout = "" if seconds is None else f" timeout {seconds}"
        lines.append(f"add {aside} {words}{timeout}" + (f" {options}" if options else ""))
    if aside != name:
        lines += [f"swap {aside} {name}", f"destroy {aside}"]
    return "".join(line + "\n" for line in lines)


def _destroy_surplus(runner: Runner, wanted: State, back: Back) -> list[str]:
    """Destroy sets of ours that are not wanted; one into which somebody else's rules look is emptied."""
    touched = []
    for name, header in sets.read_headers(runner).items():
        if not is_own_set(name) or name in wanted.sets or (name[:-1] in _KEPT_ELSEWHERE and header.entries):
            continue
        if not wanted.exact and name[:-1] in _FILLED_FROM_OUTSIDE and name[:-1] != KNOWN:
            continue
        verb = "flush" if header.references else "destroy"
        if header.references:
            back.notes.append(f"set {name} stays, empty: a rule that is not ours looks into it")
        try:
            sets.restore(runner, f"{verb} {name}\n")
            touched.append(name)
            back.done.append(f"set {name}")
        except SipguardError as error:
            back.problems.append(f"set {name}: {error}")
    return touched


def put_files(wanted: State, directory: str = DIRECTORY) -> tuple[list[str], list[str]]:
    """Make the files for the next boot what they were; returns what was done and what failed, a few words each."""
    done: list[str] = []
    problems: list[str] = []
    store = Store(directory)
    try:
        live = _read_files(directory)
        for name in _KEPT_FILES:
            text = wanted.files.get(name)
            if text is None and name not in _FILES:
                continue
            if live.get(name) == text and not store.differs(name, text):
                continue
            if text is not None and _is_garbage(text):
                continue  # it was of no use, and whatever is there now is none the worse
            store.write(name, text)
            done.append(f"file {name}")
    except SipguardError as error:
        problems.append(str(error))
    return done, problems


def _is_garbage(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
