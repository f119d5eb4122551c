# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From settings to edits: the fewest lines that make sip.conf or pjsip.conf say what is wanted.

A value that is good enough stays. A line that is wrong for most who inherit it is changed where it stands, in its template; an option
that the objects of a template lack is added there once. Whatever differs for one object goes into that object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .._sip.errors import OptionError, SipguardError
from .catalogue import ObjectException, Setting, for_object
from .edit import Edits
from .freepbx import FreePBX
from .objects import Conditions, is_guest, lines_of, names_of, objects_of
from .placing import Change, Placing, heirs_of
from .proof import Members, NotProven, prove, require_editable
from .tree import Category, ConfigDirectory, Place, Tree, Variable

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
    members: Members = {}
    wanted: dict[str, dict[str, list[Setting]]] = {}
    for scope, categories in objects.items():
        usual = [each for each in settings if each.scope == scope]
        for category in categories:
            mine = usual
            if scope not in _EXPLICIT and any(each.matches(category.name) for each in exceptions):
                mine = for_object(settings, exceptions, scope, category.name)
            applied = [each for each in mine if conditions.hold(category, each)]
            if applied:
                wanted.setdefault(scope, {})[category.name] = applied
            for setting in applied:
                members.setdefault((scope, setting.option), []).append((category, setting))
    added: set[str] = set()
    for scope in _ONCE:
        missing = [each for each in settings if each.scope == scope and not each.when]
        if missing and not objects.get(scope) and (scope == "general") == (driver == "chan_sip"):
            work.add_section(scope, missing)
            added.add(scope)
            wanted.setdefault(scope, {})[scope] = missing
    for (scope, option), each in members.items():
        if option == "guests":
            _guests(work, each)
        else:
            _enforce(work, each, scope in _EXPLICIT)
    order = {name: number for number, name in enumerate(tree.files)}
    changes = sorted(work.changes, key=lambda each: (order.get(each.file, len(order)), each.file, each.line))
    names = {scope: [each.name for each in found if not _gone(each, work)] for scope, found in objects.items()}
    made = Plan(tree, changes, work.finish(), work.left, wanted, names)
    if made.files:
        prove(directory, tree, made.files, members, added)
    return made


def _gone(category: Category, work: Placing) -> bool:
    """Whether the plan makes a template of it."""
    return any(each.option == "guests" and each.section == category.name for each in work.changes)


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
        _enforce(work, each, True)
    made = Plan(tree, work.changes, work.finish(), work.left)
    if made.files:
        prove(directory, tree, made.files, members, added)
    return made


def _enforce(work: Placing, members: list[tuple[Category, Setting]], explicit: bool) -> None:
    """One option of one scope, for all sections that it is wanted of; ``explicit``: also where Asterisk's default would do."""
    names = names_of(members[0][1])
    wants = {id(category): setting for category, setting in members}
    wrong: list[tuple[Category, Setting, list[Variable]]] = []
    for category, setting in members:
        lines = lines_of(category, names)
        good = setting.satisfied(*(each.value for each in lines))
        if not good or (not lines and explicit):
            wrong.append((category, setting, lines))
    if not wrong:
        return
    # who lives by which line, and who has none
    users: dict[Place, list[Category]] = {}
    for each in work.tree.objects():
        lines = lines_of(each, names)
        if lines:
            users.setdefault(lines[-1].place, []).append(each)
    done: set[int] = set()
    for category, setting, lines in wrong:
        if id(category) in done:
            continue
        if not lines:
            done |= work.fill(category, setting, wants)
        elif setting.kind == "list":
            raise OptionError(
                f"{category.name} {setting.option}",
                len(lines),
                "the section has lines of it already; take them out by hand first",
            )
        else:
            done |= work.correct(category, setting, lines[-1], wants, users.get(lines[-1].place, []))


def _guests(work: Placing, members: list[tuple[Category, Setting]]) -> None:
    """Endpoints that take in strangers become templates, of which Asterisk builds nothing."""
    for category, setting in members:
        if not is_guest(category):
            continue
        why = work.may_edit(category.place.file)
        if work.host is not None and why:
            work.left.append(
                f"{category.place}: the endpoint {category.name} takes in strangers; FreePBX makes it, so set its allowguest to no"
            )
            continue
        if why or len(category.parts) > 1:
            why = why or "its section is written in several places"
            raise SipguardError(
                f"{category.place}: the endpoint {category.name} takes in strangers, but {why}; remove it by hand"
            )
        work.edits.make_template(category.place)
        work.note(category.place, category.name, setting, "an endpoint", "a template")
