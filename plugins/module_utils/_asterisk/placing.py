# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a line goes: into the section, the template or, on FreePBX, the custom file that is the administrator's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from .._sip.errors import SipguardError
from .catalogue import Setting
from .document import encode
from .edit import Edits, option_line
from .freepbx import CustomPlace, FreePBX, place_for
from .tree import Category, Place, Tree, Variable, fold, shown

__all__ = ["Case", "Change", "Placing", "Wants", "heirs_of"]

_LEFT = "as it was; its template says something else now"
# No remark, change or diff ever holds their values.
_SECRETS = ("secret", "password")
_HIDDEN = "***"

# section (by identity) -> what it wants of one option
Wants = dict[int, Setting]


@dataclass(frozen=True)
class Change:
    """One line that becomes another. ``before`` is what counted until now, None where nothing said it; ``after`` is None
    where nothing says it any more."""

    file: str
    line: int
    section: str
    option: str
    before: str | None
    after: str | None
    why: str
    source: str
    restart: bool

    def result(self) -> dict[str, object]:
        return {
            "file": shown(self.file),
            "section": shown(self.section),
            "option": self.option,
            "before": None if self.before is None else shown(self.before),
            "after": None if self.after is None else shown(self.after),
            "why": self.why,
            "source": self.source,
            "restart": self.restart,
        }


@dataclass
class Case:
    """One option of one scope: who wants what of it, what each section says of it now, and who lives by which line.

    ``done`` are the sections that have been seen to; ``alone`` the lines and templates that are not changed for all who use them.
    """

    wants: Wants
    lines: Mapping[int, list[Variable]]
    users: Mapping[Place, list[Category]]
    done: set[int] = field(default_factory=set)
    alone: set[tuple[object, tuple[str, ...]]] = field(default_factory=set)

    def agree(self, category: Category, setting: Setting) -> bool:
        """Whether the section wants just that, and does not have something good already."""
        own = self.wants.get(id(category))
        return own is not None and own.lines == setting.lines and not self.content(category)

    def content(self, category: Category) -> bool:
        own = self.wants.get(id(category))
        return own is None or own.satisfied(*(each.value for each in self.lines.get(id(category), ())))


@dataclass
class Placing:
    tree: Tree
    driver: str
    host: FreePBX | None
    edits: Edits
    changes: list[Change]
    left: list[str]
    # the objects that inherit from a template, directly or not
    heirs: dict[int, list[Category]]
    # whether lines that several objects share may be written
    shared: bool
    # (section without a header of its own, option lines) by file and header text, for FreePBX
    additions: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    _closed: dict[str, str] = field(default_factory=dict)
    _by_name: dict[str, list[Category]] = field(default_factory=dict)

    def may_edit(self, file: str) -> str:
        """Why not; empty when it may be edited."""
        if file not in self._closed:
            self._closed[file] = ""
            if file.startswith("/"):
                self._closed[file] = f"{shown(file)} is outside of the configuration directory"
            elif self.host is not None:
                self._closed[file] = self.host.may_edit(file).why
        return self._closed[file]

    def _header(self, where: CustomPlace, name: str) -> str:
        if not self._by_name:
            for each in self.tree.categories:
                self._by_name.setdefault(fold(each.name), []).append(each)
        return where.header(Tree(self.tree.name, categories=self._by_name.get(fold(name), [])), name) or ""

    def note(self, place: Place, section: str, setting: Setting, before: str | None, after: str) -> None:
        if setting.option in _SECRETS:
            before, after = before and _HIDDEN, _HIDDEN
        self.changes.append(
            Change(
                place.file,
                place.line,
                section,
                setting.option,
                before,
                after,
                setting.why,
                setting.source,
                setting.reload == "restart",
            )
        )

    def replace(self, category: Category, variable: Variable, setting: Setting) -> None:
        self.edits.replace(variable.place, setting.value, remember=setting.option not in _SECRETS)
        self.note(variable.place, _owner(category, variable.place).name, setting, variable.value, setting.value)

    def add(self, category: Category, setting: Setting, before: Variable | None) -> None:
        """Write the option into that section, behind what it says now (``before``)."""
        scope = setting.scope
        if self.host is not None and not (category.template and not self.may_edit(category.parts[-1].file)):
            where = place_for(self.tree.name, scope)
            header = self._header(where, category.name)
            place = Place(where.file, 0)
            for value in setting.lines:
                self.additions.setdefault((where.file, header), []).append(option_line(setting.option, value, b"a = b"))
                self.note(place, category.name, setting, before.value if before else None, value)
            return
        for part in reversed(category.parts):
            why = self.may_edit(part.file)
            if not why:
                # what an included file says would win over a line before the #include
                late = before is not None and before.place.file != part.file
                for value in setting.lines:
                    self.edits.insert(part, setting.option, value, late)
                    self.note(part, category.name, setting, before.value if before else None, value)
                return
        raise SipguardError(f"{category.place}: {why}; set {setting.option} there by hand")

    def add_section(self, name: str, settings: Iterable[Setting]) -> None:
        """Begin a section that is missing, with these options in their order."""
        for setting in settings:
            file, header = self.tree.name, f"[{name}]"
            if self.host is not None:
                where = place_for(self.tree.name, setting.scope)
                file, header = where.file, self._header(where, name)
            for value in setting.lines:
                self.additions.setdefault((file, header), []).append(option_line(setting.option, value))
                self.note(Place(file, 0), name, setting, None, value)

    def finish(self) -> dict[str, bytes]:
        for (file, header), lines in self.additions.items():
            why = self.may_edit(file)
            if why:
                raise SipguardError(why)
            if header:
                opening = [encode(header) + b" ; sipguard\n"]
                if self.driver == "pjsip" and header in ("[global]", "[system]"):
                    opening.append(option_line("type", header[1:-1]))
                self.edits.append(file, [*opening, *lines])
            else:
                # such a file is included inside of the section, which ends where it begins one of its own
                self.edits.prepend(file, lines)
        return self.edits.apply()

    def correct(self, category: Category, setting: Setting, line: Variable, case: Case) -> None:
        """A line is wrong for this section: change it where it stands unless most who live by it want it as it is."""
        key = (line.place, setting.lines)
        mine = line.place.file == category.place.file and not line.inherited
        if key not in case.alone:
            users = [each for each in case.users.get(line.place, ()) if id(each) not in case.done]
            odd = [each for each in users if not case.agree(each, setting)]
            asked = all(id(each) in case.wants for each in users)
            if (
                asked
                and not (line.added or self.may_edit(line.place.file) or (odd and len(odd) * 2 >= len(users)))
                and (mine or self.shared)
            ):
                self.replace(category, line, setting)
                for each in odd:
                    self.add(each, self._own(each, line, case), line)
                case.done |= {id(each) for each in users} | {id(category)}
                return
            if not mine or self.shared:
                case.alone.add(key)
        self.add(category, setting, line)
        case.done.add(id(category))

    @staticmethod
    def _own(category: Category, line: Variable, case: Case) -> Setting:
        """What a section says itself when a line that it lives by becomes another."""
        own = case.wants[id(category)]
        if case.content(category) and own.value != line.value:
            return replace(own, value=line.value, why=_LEFT)
        return own

    def fill(self, category: Category, setting: Setting, case: Case) -> None:
        """Nothing says the option for this section: say it in its template where that is right for most heirs, else in itself."""
        for base in category.inherits if self.shared and setting.kind != "list" else ():
            key = (id(base), setting.lines)
            if key in case.alone:
                continue
            heirs = [
                each for each in self.heirs[id(base)] if id(each) not in case.done and not case.lines.get(id(each))
            ]
            odd = [each for each in heirs if not case.agree(each, setting)]
            if (
                not base.template
                or any(id(each) not in case.wants for each in self.heirs[id(base)])
                or self.may_edit(base.parts[-1].file)
                or (odd and len(odd) * 2 >= len(heirs))
            ):
                case.alone.add(key)
                continue
            self.add(base, setting, None)
            for each in odd:
                self.add(each, case.wants[id(each)], None)
            case.done |= {id(each) for each in heirs}
            return
        self.add(category, setting, None)
        case.done.add(id(category))


def _owner(category: Category, place: Place) -> Category:
    """The section that a line stands in, of those that this one inherits from; itself where it is its own."""
    for base in category.inherits:
        if any(each.place == place for each in base.variables):
            return _owner(base, place)
    return category


def heirs_of(tree: Tree) -> dict[int, list[Category]]:
    found: dict[int, list[Category]] = {}
    for each in tree.objects():
        bases: dict[int, Category] = {}
        todo = list(each.inherits)
        while todo:
            base = todo.pop()
            bases[id(base)] = base
            todo += base.inherits
        for base in bases.values():
            found.setdefault(id(base), []).append(each)
    return found
