# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sections of sip.conf and pjsip.conf by what they are, and what is true of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .catalogue import Setting
from .tree import Category, Tree, Variable, fold, is_true

__all__ = ["Conditions", "is_guest", "lines_of", "names_of", "objects_of"]

_CHAN_SIP_TYPES = ("peer", "friend", "user")


def objects_of(tree: Tree, driver: str) -> dict[str, list[Category]]:
    """The sections by scope; for chan_sip ``general`` and ``peer``, for PJSIP the types of its objects."""
    found: dict[str, list[Category]] = {}
    if driver == "chan_sip":
        general = tree.first("general")
        found["general"] = [general] if general else []
        found["peer"] = [
            each
            for each in tree.objects()
            if fold(each.name) not in ("general", "authentication") and _first(each, "type") in _CHAN_SIP_TYPES
        ]
        return found
    for each in tree.objects():
        kinds = {variable.value for variable in each.all("type")}
        if not kinds and fold(each.name) == "global":
            kinds = {"global"}
        if len(kinds) == 1:
            found.setdefault(kinds.pop(), []).append(each)
    # of several Asterisk uses the last
    for kind in ("global", "system"):
        found[kind] = found.get(kind, [])[-1:]
    return found


def _first(category: Category, option: str) -> str:
    variable = category.first(option)
    return fold(variable.value) if variable else ""


class Conditions:
    """Whether the words of catalogue.CONDITIONS hold of a section."""

    def __init__(self, tree: Tree, driver: str, objects: dict[str, list[Category]]) -> None:
        self._driver = driver
        self._objects = objects
        self._registering = {each.name for each in objects.get("aor", ()) if _number(each.last("max_contacts")) > 0}
        self._by_address = {
            variable.value for each in objects.get("identify", ()) for variable in each.all("endpoint")[-1:]
        }
        self._words: dict[str, Callable[[Category, Setting], bool]] = {
            "ca_list": lambda each, dummy: bool(each.last("ca_list_file") or each.last("ca_list_path")),
            "domains": lambda dummy, dummy2: any(general.all("domain") for general in objects.get("general", ())),
            "identified": self._identified,
            "no_websockets": lambda dummy, dummy2: not self._websockets(),
            "own_line": lambda each, setting: bool(lines_of(each, names_of(setting))),
            "registers": self._registers,
            "single_contact": lambda each, dummy: _number(each.last("max_contacts")) == 1,
            "tls": self._tls,
        }

    def hold(self, category: Category, setting: Setting) -> bool:
        return all(self._words[word](category, setting) for word in setting.when)

    def _websockets(self) -> bool:
        return any(
            fold(word.strip()) in ("ws", "wss")
            for scope in ("general", "peer")
            for each in self._objects.get(scope, ())
            for variable in each.all("transport")
            for word in variable.value.split(",")
        )

    def _registers(self, category: Category, setting: Setting) -> bool:
        if self._driver == "chan_sip":
            return _last(category, "host") == "dynamic"
        if setting.scope == "aor":
            return category.name in self._registering
        variable = category.last("aors")
        return variable is not None and any(name.strip() in self._registering for name in variable.value.split(","))

    def _identified(self, category: Category, dummy: Setting) -> bool:
        return not category.all("auth") and category.name in self._by_address

    def _tls(self, category: Category, setting: Setting) -> bool:
        if self._driver == "chan_sip":
            variable = category.last("tlsenable")
            return variable is not None and is_true(variable.value)
        return _last(category, "protocol") in ("tls", "wss")


def _last(category: Category, option: str) -> str:
    variable = category.last(option)
    return fold(variable.value) if variable else ""


def _number(variable: Variable | None) -> int:
    return int(variable.value) if variable is not None and variable.value.isdecimal() else 0


def names_of(setting: Setting) -> tuple[str, ...]:
    return (fold(setting.option), *(fold(alias) for alias in setting.aliases))


def lines_of(category: Category, names: Sequence[str]) -> list[Variable]:
    if len(names) == 1:
        return category.all(names[0])
    found = [each for name in names for each in category.all(name)]
    if len(found) > 1:
        return [each for each in category.variables if fold(each.name) in names]
    return found


def is_guest(category: Category) -> bool:
    return category.name == "anonymous" or category.name.startswith("anonymous@")
