# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From settings to edits: the fewest lines that make sip.conf or pjsip.conf say what is wanted.

A value that is good enough stays. A line that is wrong for most who inherit it is changed where it stands, in its template; an option
that the objects of a template lack is added there once. Whatever differs for one object goes into that object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .._sip.errors import OptionError, SipguardError
from .catalogue import ObjectException, Setting, for_object
from .edit import Edits
from .freepbx import FreePBX
from .objects import Conditions, is_guest, lines_of, names_of, objects_of
from .placing import Case, Change, Placing, heirs_of
from .proof import Members, NotProven, prove, require_editable
from .tree import Category, ConfigDirectory, Place, Tree, fold, shown

__all__ = ["Plan", "make", "make_sections"]

# Written down even where Asterisk's default says the same: whoever reads the file shall see it.
_EXPLICIT = ("general", "global")
# Sections of which there is one, and which may be missing.
_ONCE = ("general", "global", "system")


@dataclass
class Plan:
    """``files``: name -> new content, of the files that change. ``left`` are sentences about what could not be set here.

    ``wanted``: scope -> section -> its settings. ``names``: scope -> the objects that have to be there afterwards.
    """

    tree: Tree
    changes: list[Change] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    wanted: dict[str, dict[str, list[Setting]]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)


def make(
    directory: ConfigDirectory,
    tree: Tree,
    driver: str,
    settings: Iterable[Setting],
    exceptions: Sequence[ObjectException] = (),
    host: FreePBX | None = None,
) -> Plan:
    """The plan that makes ``tree`` say what ``settings`` want. Raises SipguardError where that cannot be proven."""
    require_editable(tree)
    settings = list(settings)
    try:
        return _make(directory, tree, driver, settings, exceptions, host, True)
    except NotProven:
        # templates may be entangled; a line in each object is long and plain
        return _make(directory, tree, driver, settings, exceptions, host, False)


def _make(
    directory: ConfigDirectory,
    tree: Tree,
    driver: str,
    settings: list[Setting],
    exceptions: Sequence[ObjectException],
    host: FreePBX | None,
    shared: bool,
) -> Plan:
    objects = objects_of(tree, driver)
    work = Placing(tree, driver, host, Edits(tree.files), [], [], heirs_of(tree), shared)
    conditions = Conditions(tree, driver, objects)
    special = _matching(exceptions)
    members: Members = {}
    wanted: dict[str, dict[str, list[Setting]]] = {}
    for scope, categories in objects.items():
        usual = [each for each in settings if each.scope == scope]
        for category in categories:
            matching = special(category.name) if scope not in _EXPLICIT else []
            mine = for_object(usual, matching, scope, category.name) if matching else usual
            applied = [each for each in mine if conditions.hold(category, each)]
            if applied:
                wanted.setdefault(scope, {})[category.name] = applied
            for setting in applied:
                members.setdefault((scope, setting.option), []).append((category, setting))
    added: set[str] = set()
    for scope in _ONCE:
        empty = Category(scope, Place(tree.name, 0))
        missing = [each for each in settings if each.scope == scope and conditions.hold(empty, each)]
        if missing and not objects.get(scope) and (scope == "general") == (driver == "chan_sip"):
            work.add_section(scope, missing)
            added.add(scope)
            wanted.setdefault(scope, {})[scope] = missing
    general = _general(objects, wanted)
    for (scope, option), each in members.items():
        if option == "guests":
            _guests(work, each)
        else:
            _enforce(work, each, scope in _EXPLICIT, general if scope == "peer" else {})
    order = {name: number for number, name in enumerate(tree.files)}
    changes = sorted(work.changes, key=lambda each: (order.get(each.file, len(order)), each.file, each.line))
    # the endpoints of which the plan makes templates
    gone = {each.section for each in work.changes if each.option == "guests"}
    names = {
        scope: [each.name for each in found if scope != "endpoint" or each.name not in gone]
        for scope, found in objects.items()
    }
    made = Plan(tree, changes, work.finish(), work.left, wanted, names)
    if made.files:
        prove(directory, tree, made.files, members, added)
    return made


def _matching(exceptions: Sequence[ObjectException]) -> Callable[[str], list[ObjectException]]:
    """Which exceptions are about a name, in their order; quick where there are thousands of plain names."""
    plain: dict[str, list[int]] = {}
    patterns: list[int] = []
    for number, each in enumerate(exceptions):
        if any(sign in each.name for sign in "*?["):
            patterns.append(number)
        else:
            plain.setdefault(each.name, []).append(number)

    def matching(name: str) -> list[ObjectException]:
        found = plain.get(name, []) + [number for number in patterns if exceptions[number].matches(name)]
        return [exceptions[number] for number in sorted(found)]

    return matching


def make_sections(
    directory: ConfigDirectory,
    tree: Tree,
    sections: Sequence[tuple[str, Sequence[Setting]]],
    host: FreePBX | None = None,
) -> Plan:
    """The plan that gives single sections, by name, these options; for files other than those of the channel drivers.

    A list (lines of one option, in order) is only ever written where there is none. Raises SipguardError.
    """
    require_editable(tree)
    work = Placing(tree, "", host, Edits(tree.files), [], [], heirs_of(tree), False)
    members: Members = {}
    added: set[str] = set()
    for name, settings in sections:
        category = tree.first(name)
        if category is None:
            work.add_section(name, settings)
            added.add(name)
            continue
        for setting in settings:
            members[f"{setting.scope} {name}", setting.option] = [(category, setting)]
    for each in members.values():
        _enforce(work, each, True, {})
    made = Plan(tree, work.changes, work.finish(), work.left)
    if made.files:
        prove(directory, tree, made.files, members, added)
    return made


def _general(
    objects: dict[str, list[Category]], wanted: dict[str, dict[str, list[Setting]]]
) -> dict[str, tuple[str, ...]]:
    """What chan_sip's [general] will say, by option: that counts for a peer that says nothing itself."""
    found: dict[str, tuple[str, ...]] = {}
    for category in objects.get("general", ()):
        for each in category.variables:
            found[fold(each.name)] = (*found.get(fold(each.name), ()), each.value)
    for settings in wanted.get("general", {}).values():
        for setting in settings:
            names = names_of(setting)
            said = [value for name in names for value in found.get(name, ())]
            if not said or not setting.satisfied(*said):
                found.update(dict.fromkeys(names, setting.lines))
            else:
                found.update(dict.fromkeys(names, tuple(said)))
    return found


def _enforce(
    work: Placing,
    members: list[tuple[Category, Setting]],
    explicit: bool,
    general: Mapping[str, tuple[str, ...]],
) -> None:
    """One option of one scope, for all sections that it is wanted of.

    ``explicit``: also where Asterisk's default would do. ``general``: what counts for a section that says nothing, by option.
    """
    names = names_of(members[0][1])
    every = {id(each): lines_of(each, names) for each in (*work.tree.objects(), *(each for each, dummy in members))}
    wrong: list[tuple[Category, Setting]] = []
    for category, setting in members:
        lines = every[id(category)]
        good = setting.satisfied(*([each.value for each in lines] or general.get(names[0], ())))
        if not good or (not lines and explicit):
            wrong.append((category, setting))
    if not wrong:
        return
    # who lives by which line
    users: dict[Place, list[Category]] = {}
    for each in work.tree.objects():
        if every[id(each)]:
            users.setdefault(every[id(each)][-1].place, []).append(each)
    case = Case({id(category): setting for category, setting in members}, every, users)
    # what most want first: it is that which templates shall say
    often = Counter(setting.lines for dummy, setting in wrong)
    for category, setting in sorted(wrong, key=lambda each: -often[each[1].lines]):
        lines = every[id(category)]
        if id(category) in case.done:
            continue
        if not lines:
            work.fill(category, setting, case)
        elif setting.kind == "list":
            raise OptionError(
                f"{shown(category.name)} {setting.option}",
                len(lines),
                "the section has lines of it already; take them out by hand first",
            )
        else:
            work.correct(category, setting, lines[-1], case)


def _guests(work: Placing, members: list[tuple[Category, Setting]]) -> None:
    """Endpoints that take in strangers become templates, of which Asterisk builds nothing."""
    for category, setting in members:
        if not is_guest(category):
            continue
        why = work.may_edit(category.place.file)
        if work.host is not None and why:
            work.left.append(
                f"{category.place}: the endpoint {shown(category.name)} takes in strangers; FreePBX makes it, so set its allowguest to no"
            )
            continue
        if why or len(category.parts) > 1:
            why = why or "its section is written in several places"
            raise SipguardError(
                f"{category.place}: the endpoint {shown(category.name)} takes in strangers, but {why}; remove it by hand"
            )
        work.edits.make_template(category.place)
        work.note(category.place, category.name, setting, "an endpoint", "a template")
