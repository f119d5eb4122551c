# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of a plan: the new files, read as Asterisk reads them, say what was asked for and otherwise what they said before."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from .._sip.errors import SipguardError
from .catalogue import Setting
from .objects import is_guest, lines_of, names_of
from .tree import Category, ConfigDirectory, Tree, fold, load, shown

__all__ = ["Members", "NotProven", "prove", "require_editable"]

# (scope, option) -> the sections it is wanted of
Members = dict[tuple[str, str], list[tuple[Category, Setting]]]


class NotProven(SipguardError):
    """The files are too entangled for this plan."""


def require_editable(tree: Tree) -> None:
    """Raise SipguardError for a configuration that Asterisk refuses, or that nobody can be sure about."""
    if tree.fatal:
        raise SipguardError(f"{tree.fatal}: Asterisk refuses {tree.name} as a whole because of it; put it right first")
    if tree.unsure:
        raise SipguardError(
            f"{tree.unsure}: what Asterisk makes of {tree.name} cannot be told from the files, so nothing is edited; put it right first"
        )


def prove(
    directory: ConfigDirectory, old: Tree, files: Mapping[str, bytes], members: Members, added: Collection[str]
) -> None:
    """Read the new ``files`` as Asterisk would, and compare. Raises SipguardError for anything that was not asked for.

    ``added`` are the names of sections that are new.
    """
    new = load(ConfigDirectory(directory.path, {**directory.held, **files}), old.name)
    require_editable(new)
    names: dict[int, tuple[str, ...]] = {}

    def named(setting: Setting) -> tuple[str, ...]:
        return names.get(id(setting)) or names.setdefault(id(setting), names_of(setting))

    mine: dict[int, dict[str, Setting]] = {}
    guests: set[int] = set()
    for each in members.values():
        for category, setting in each:
            if setting.kind == "guests":
                guests |= {id(category)} if is_guest(category) else set()
            else:
                mine.setdefault(id(category), {}).update(dict.fromkeys(named(setting), setting))
    general = new.first("general") if old.name == "sip.conf" else None
    touched = {name for found in mine.values() for name in found}
    left = iter(new.categories)
    for before in old.categories:
        after = _following(left, before.name, added)
        if after is None or (before.template != after.template and id(before) not in guests):
            raise _not_proven(old, f"the section {shown(before.name)}")
        asked = mine.get(id(before), {})
        # what a template says counts in those who inherit it
        but = touched if before.template else asked
        if _others(before, but) != _others(after, but):
            raise _not_proven(old, f"the section {shown(before.name)}")
        if before.template or after.template:
            continue
        for setting in asked.values():
            was = [each.value for each in lines_of(before, named(setting))]
            now = [each.value for each in lines_of(after, named(setting))]
            if not now and general is not None and general is not after:
                # a peer of chan_sip that says nothing itself
                now = [each.value for each in lines_of(general, named(setting))]
            kept = not was or not setting.satisfied(*was) or was[-1] == now[-1]
            if not kept or not setting.satisfied(*now):
                raise _not_proven(old, f"{setting.option} of {shown(before.name)}")
    for after in left:
        if after.name not in added:
            raise _not_proven(old, f"a section {shown(after.name)}")


def _following(categories: Iterator[Category], name: str, added: Collection[str]) -> Category | None:
    for each in categories:
        if each.name == name:
            return each
        if each.name not in added:
            return None
    return None


def _others(category: Category, but: Collection[str]) -> list[tuple[str, str]]:
    return [(each.name, each.value) for each in category.variables if fold(each.name) not in but]


def _not_proven(tree: Tree, what: str) -> NotProven:
    return NotProven(
        f"{tree.name}: {what} would become something that nobody asked for; the files are too entangled to be edited, do it by hand"
    )
