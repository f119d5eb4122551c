# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a line goes: into the section, the template or, on FreePBX, the custom file that is the administrator's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from .._sip.errors import SipguardError
from .catalogue import Setting
from .document import encode
from .edit import Edits, option_line
from .freepbx import FreePBX, place_for
from .tree import Category, Place, Tree, Variable

__all__ = ["Change", "Placing", "Wants", "heirs_of"]

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
            "file": self.file,
            "section": self.section,
            "option": self.option,
            "before": self.before,
            "after": self.after,
            "why": self.why,
            "source": self.source,
            "restart": self.restart,
        }


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

    def may_edit(self, file: str) -> str:
        """Why not; empty when it may be edited."""
        if file.startswith("/"):
            return f"{file} is outside of the configuration directory"
        if self.host is not None:
            return self.host.may_edit(file).why
        return ""

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
        self.note(variable.place, category.name, setting, variable.value, setting.value)

    def add(self, category: Category, setting: Setting, before: Variable | None) -> None:
        """Write the option into that section, behind what it says now."""
        scope = setting.scope
        if self.host is not None and not (category.template and not self.may_edit(category.parts[-1].file)):
            where = place_for(self.tree.name, scope)
            header = where.header(self.tree, category.name) or ""
            place = Place(where.file, 0)
            for value in setting.lines:
                self.additions.setdefault((where.file, header), []).append(option_line(setting.option, value, b"a = b"))
                self.note(place, category.name, setting, before.value if before else None, value)
            return
        for part in reversed(category.parts):
            why = self.may_edit(part.file)
            if not why:
                for value in setting.lines:
                    self.edits.insert(part, setting.option, value)
                    self.note(part, category.name, setting, before.value if before else None, value)
                return
        raise SipguardError(f"{category.place}: {why}; set {setting.option} there by hand")

    def add_section(self, name: str, settings: Iterable[Setting]) -> None:
        """Begin a section that is missing, with these options in their order."""
        for setting in settings:
            file, header = self.tree.name, f"[{name}]"
            if self.host is not None:
                where = place_for(self.tree.name, setting.scope)
                file, header = where.file, where.header(self.tree, name) or ""
            for value in setting.lines:
                self.additions.setdefault((file, header), []).append(option_line(setting.option, value))
                self.note(Place(file, 0), name, setting, None, value)

    def finish(self) -> dict[str, bytes]:
        for (file, header), lines in self.additions.items():
            why = self.may_edit(file)
            if why:
                raise SipguardError(why)
            opening: list[bytes] = []
            if header:
                opening = [encode(header) + b" ; sipguard\n"]
                if self.driver == "pjsip" and header in ("[global]", "[system]"):
                    opening.append(option_line("type", header[1:-1]))
            self.edits.append(file, [*opening, *lines])
        return self.edits.apply()

    def correct(
        self, category: Category, setting: Setting, line: Variable, wants: Wants, users: list[Category]
    ) -> set[int]:
        """A line is wrong for this section: change it where it stands unless most who live by it want it as it is."""
        odd = [each for each in users if id(each) not in wants or not wants[id(each)].satisfied(setting.value)]
        alone = line.place.file == category.place.file and not line.inherited
        if line.added or self.may_edit(line.place.file) or not (alone or self.shared) or len(odd) * 2 > len(users):
            self.add(category, setting, line)
            return {id(category)}
        self.replace(category, line, setting)
        for each in odd:
            own = wants.get(id(each))
            self.add(each, own if own is not None else replace(setting, value=line.value, why=_LEFT), line)
        return {id(each) for each in users} | {id(category)}

    def fill(self, category: Category, setting: Setting, wants: Wants) -> set[int]:
        """Nothing says the option for this section: say it in its template where that is right for most heirs, else in itself."""
        for base in category.inherits if self.shared and setting.kind != "list" else ():
            heirs = self.heirs[id(base)]
            if not base.template or any(id(each) not in wants for each in heirs) or self.may_edit(base.parts[-1].file):
                continue
            odd = [each for each in heirs if not wants[id(each)].satisfied(setting.value)]
            if len(odd) * 2 > len(heirs):
                continue
            self.add(base, setting, None)
            for each in odd:
                self.add(each, wants[id(each)], None)
            return {id(each) for each in heirs}
        self.add(category, setting, None)
        return {id(category)}


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
