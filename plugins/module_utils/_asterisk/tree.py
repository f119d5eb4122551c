# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration as Asterisk sees it: includes followed, templates inherited, additions made.

It does what ``process_text_line`` in Asterisk's main/config.c does, in the same order, and remembers for every variable the file and
line it comes from. What Asterisk does only by accident, or what cannot be known from files (``#exec``), is a problem that says so.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import stat
from dataclasses import dataclass, field

from .._sip.errors import SipguardError
from .document import Damage, Directive, Document, Odd, Option, Section, Statement

__all__ = ["Category", "ConfigDirectory", "Place", "Problem", "Tree", "Variable", "fold", "is_true", "load", "shown"]

_MAX_INCLUDE_LEVEL = 10
# What no honest configuration has, and what a hostile one could make endless: bytes of a file, files read, inherited variables.
_LARGEST = 64 << 20
_MOST_FILES = 20000
_MOST_VARIABLES = 5_000_000
_TRUE = ("yes", "true", "y", "t", "1", "on")
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
# a filter of (+filter) that means the same as a regular expression of POSIX and of Python
_PLAIN_FILTER = re.compile(r"[A-Za-z0-9_/ ^$-]*")


@functools.lru_cache(maxsize=16384)
def fold(text: str) -> str:
    """As strcasecmp() in the C locale compares: ASCII letters alone lose their case."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def is_true(value: str) -> bool:
    """Asterisk's ast_true(): these words are true, every other is not."""
    return fold(value) in _TRUE


def shown(text: str) -> str:
    """Text of a configuration as it may be shown: what a terminal obeys or nothing can decode is escaped, and it is cut."""
    if text.isascii() and text.isprintable():
        return text[:80]
    return ascii(text)[1:-1][:80]


@dataclass(frozen=True, order=True)
class Place:
    """``file`` as below the configuration directory, or absolute outside of it; ``line`` from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}"


class Variable:
    """A name and its value, both as Asterisk has them. ``place`` is the line that wrote it, ``added`` those of later ``+=``."""

    __slots__ = ("added", "inherited", "name", "place", "value")

    def __init__(
        self, name: str, value: str, place: Place, inherited: bool = False, added: tuple[Place, ...] = ()
    ) -> None:
        self.name = name
        self.value = value
        self.place = place
        self.inherited = inherited
        self.added = added

    def __repr__(self) -> str:
        return f"Variable({self.name!r} at {self.place})"  # never the value: it may be a secret


class Category:
    """A section. ``variables`` in Asterisk's order: inherited ones where they were inherited, then its own, then those of ``(+)``.

    ``parts`` are the headers that make it, the first being its own; ``inherits`` the categories it inherits from, ``bases`` their names.
    """

    __slots__ = ("_index", "inherits", "name", "parts", "template", "variables")

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.parts = [place]
        self.template = False
        self.inherits: list[Category] = []
        self.variables: list[Variable] = []
        self._index: dict[str, list[Variable]] | None = None

    @property
    def place(self) -> Place:
        return self.parts[0]

    @property
    def bases(self) -> tuple[str, ...]:
        return tuple(base.name for base in self.inherits)

    def all(self, option: str) -> list[Variable]:
        """All variables of that name; to be asked only of a category that has been read to its end."""
        if self._index is None:
            self._index = {}
            for each in self.variables:
                self._index.setdefault(fold(each.name), []).append(each)
        return self._index.get(fold(option), [])

    def last(self, option: str) -> Variable | None:
        found = self.all(option)
        return found[-1] if found else None

    def first(self, option: str) -> Variable | None:
        found = self.all(option)
        return found[0] if found else None

    def __repr__(self) -> str:
        return f"Category({self.name!r} at {self.place})"


@dataclass(frozen=True)
class Problem:
    """``fatal``: Asterisk refuses the whole configuration. ``unsure``: what Asterisk makes of it cannot be told from the files."""

    place: Place
    text: str
    fatal: bool = False
    unsure: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True)
class ConfigDirectory:
    """Asterisk's astetcdir, read and never written. ``held`` are contents that count instead of those on disk (name -> bytes)."""

    path: str
    held: dict[str, bytes] = field(default_factory=dict)

    def full(self, name: str) -> str:
        return os.path.normpath(os.path.join(self.path, name))

    def short(self, path: str) -> str:
        """The name below the directory, or the path itself outside of it."""
        path = os.path.normpath(path)
        return (
            os.path.relpath(path, self.path) if path.startswith(os.path.join(os.path.normpath(self.path), "")) else path
        )

    def read(self, name: str) -> bytes | None:
        """The file's content; None if it is none or cannot be read, as Asterisk does. Raises SipguardError on an error of the disk."""
        short = self.short(self.full(name))
        if short in self.held:
            return self.held[short]
        path = self.full(name)
        if not os.path.isfile(path):
            return None
        try:
            # a pipe that somebody puts there in this moment must not hold us
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as stream:
                data = stream.read(_LARGEST + 1) if stat.S_ISREG(os.fstat(handle).st_mode) else None
        except (FileNotFoundError, PermissionError):
            return None
        except OSError as error:
            raise SipguardError(f"{shown(path)}: {error.strerror or error}") from error
        if data is not None and len(data) > _LARGEST:
            raise SipguardError(f"{shown(path)}: more than {_LARGEST >> 20} MiB, which is no configuration")
        return data

    def matching(self, target: str) -> list[str]:
        """The files that an #include means, in glob()'s order."""
        names: list[str] = []
        for pattern in _braces(self.full(target)):
            if any(sign in pattern for sign in "*?["):
                names += sorted(glob.glob(pattern))
            else:
                names.append(pattern)
        return [self.short(name) for name in names]

    @property
    def runs_exec(self) -> bool:
        """Whether ``#exec`` is allowed (asterisk.conf, execincludes)."""
        data = self.read("asterisk.conf")
        if data is None or b"execincludes" not in data.lower():
            return False
        found = False
        for category in load(self, "asterisk.conf", runs_exec=False).objects():
            if fold(category.name) == "options":
                for variable in category.all("execincludes"):
                    found = is_true(variable.value)
        return found


def _braces(pattern: str) -> list[str]:
    """GLOB_BRACE: ``a{b,c}`` is ``ab`` and ``ac``."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    made: list[str] = []
    for choice in match.group(1).split(","):
        made += _braces(pattern[: match.start()] + choice + pattern[match.end() :])
    return made


@dataclass
class Tree:
    """``files`` are all documents read, by the name that places use; ``broken`` those of which Asterisk reads only a part."""

    name: str
    exists: bool = False
    categories: list[Category] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    files: dict[str, Document] = field(default_factory=dict)

    def objects(self) -> list[Category]:
        """The categories that are no templates."""
        return [each for each in self.categories if not each.template]

    def named(self, name: str) -> list[Category]:
        wanted = fold(name)
        return [each for each in self.categories if not each.template and fold(each.name) == wanted]

    def first(self, name: str) -> Category | None:
        """The category that ast_variable_retrieve() looks into."""
        found = self.named(name)
        return found[0] if found else None

    @property
    def fatal(self) -> Problem | None:
        """Why Asterisk refuses the configuration as a whole."""
        for each in self.problems:
            if each.fatal:
                return each
        return None

    @property
    def unsure(self) -> Problem | None:
        """Why nobody can be sure what Asterisk makes of it."""
        for each in self.problems:
            if each.unsure:
                return each
        return None


class _Stop(Exception):
    """Asterisk stops to read: the whole configuration at level 1, else just this file."""


class _Endless(Exception):
    """We stop to read: nobody would wait for the end."""


class _Loader:
    def __init__(self, directory: ConfigDirectory, name: str, runs_exec: bool) -> None:
        self.directory = directory
        self.runs_exec = runs_exec
        self.tree = Tree(name)
        self.by_name: dict[str, list[Category]] = {}
        self.current: Category | None = None
        self.level = 0
        self.read = self.inherited = 0

    def problem(self, place: Place, text: str, fatal: bool = False, unsure: bool = False) -> None:
        self.tree.problems.append(Problem(place, text, fatal, unsure))

    def file(self, target: str) -> int:
        """Read what ``target`` means; returns the number of files. Raises _Stop where Asterisk stops."""
        category = self.current
        depth = count = 0
        for number, name in enumerate(self.directory.matching(target)):
            data = self.directory.read(name)
            if data is None:
                continue
            count += 1
            self.read += 1
            if self.read > _MOST_FILES:
                self.problem(Place(name, 1), f"more than {_MOST_FILES} included files", unsure=True)
                raise _Endless
            document = Document.parse(name, data, depth, not number)
            before = self.tree.files.setdefault(name, document)
            if before.statements != document.statements:
                self.problem(
                    Place(name, 1), "read twice, and differently: a comment of another file goes on in it", unsure=True
                )
            depth = document.depth
            for statement in document.statements:
                category = self.statement(name, statement, category)
        return count

    def statement(self, name: str, statement: Statement, category: Category | None) -> Category | None:
        place = Place(name, statement.line)
        if isinstance(statement, Option) or (isinstance(statement, Odd) and statement.placed):
            if category is None:
                self.problem(place, "an option before any section", fatal=True)
                raise _Stop
            if isinstance(statement, Option):
                self.option(place, statement, category)
                return category
        if isinstance(statement, Section):
            return self.section(place, statement)
        if isinstance(statement, Directive):
            self.directive(place, statement)
            return category
        if isinstance(statement, Odd):
            self.problem(place, statement.text)
        elif isinstance(statement, Damage):
            self.problem(place, statement.text, fatal=statement.fatal, unsure=not statement.fatal)
            if statement.fatal:
                raise _Stop
        return category

    def find(self, name: str, templates: bool) -> Category | None:
        for each in self.by_name.get(fold(name), ()):
            if templates or not each.template:
                return each
        return None

    def section(self, place: Place, statement: Section) -> Category:
        category = Category(statement.name, place)
        new: Category | None = category
        for flag in statement.flags or ():
            if flag == "!":
                category.template = True
            elif flag.startswith("+"):
                found = self.filtered(place, statement.name, flag[1:])
                if found is None:
                    self.problem(
                        place, "an addition, (+), to a section that does not exist before this line", fatal=True
                    )
                    raise _Stop
                if new is not None:
                    found.template = found.template or new.template
                    found.variables += new.variables
                    found.inherits += new.inherits
                    found.parts.append(place)
                    self.current = found
                    new = None
                category = found
            else:
                if not flag:
                    self.problem(place, "an empty name between the parentheses", unsure=True)
                base = self.find(flag, templates=True)
                if base is None:
                    self.problem(place, "inheritance from a section that does not exist before this line", fatal=True)
                    raise _Stop
                if base is category:
                    self.problem(place, "a section that inherits from itself, at which Asterisk hangs", unsure=True)
                    continue
                self.inherited += len(base.variables)
                if self.inherited > _MOST_VARIABLES:
                    self.problem(place, f"more than {_MOST_VARIABLES} inherited options", unsure=True)
                    raise _Endless
                category.inherits.append(base)
                category.variables += [
                    Variable(each.name, each.value, each.place, True, each.added) for each in base.variables
                ]
        if new is not None:
            self.tree.categories.append(new)
            self.by_name.setdefault(fold(new.name), []).append(new)
            self.current = new
        return category

    def filtered(self, place: Place, name: str, text: str) -> Category | None:
        """The category that ``(+text)`` means; main/config.c, does_category_match()."""
        if not name:
            self.problem(place, "an addition to a section without a name", unsure=True)
        if not text:
            return self.find(name, templates=False)
        for each in self.by_name.get(fold(name), ()):
            found, templates = True, False
            for part in text.split("&"):
                left, sign, right = part.strip().partition("=")
                if not sign or not _PLAIN_FILTER.fullmatch(left) or not _PLAIN_FILTER.fullmatch(right):
                    self.problem(place, "a filter that is no plain NAME=VALUE", unsure=True)
                    return None
                if left == "TEMPLATES":
                    templates = each.template
                    found = found and (fold(right) == "include" or (fold(right) == "restrict" and each.template))
                    continue
                found = found and any(
                    re.search(left, variable.name) and re.search(right, variable.value) for variable in each.variables
                )
            if found and (templates or not each.template):
                return each
        return None

    def option(self, place: Place, statement: Option, category: Category) -> None:
        if not statement.append:
            category.variables.append(Variable(statement.name, statement.value, place))
            return
        last: Variable | None = None
        for each in category.variables:
            if each.name == statement.name:
                last = each
        if last is None:
            category.variables.append(Variable(statement.name, _strip(statement.value), place))
            return
        # ast_variable_update() replaces the first of that name and value, whichever was meant
        old = fold(last.value)
        for index, each in enumerate(category.variables):
            if fold(each.name) == fold(last.name) and (not old or fold(each.value) == old):
                value = _strip(last.value + statement.value)
                category.variables[index] = Variable(last.name, value, each.place, each.inherited, (*each.added, place))
                return

    def directive(self, place: Place, statement: Directive) -> None:
        if statement.kind == "exec":
            if self.runs_exec:
                self.problem(place, "#exec: what the program says is part of the configuration", unsure=True)
            else:
                self.problem(place, "#exec, which Asterisk ignores without execincludes=yes in asterisk.conf")
            return
        if self.level > _MAX_INCLUDE_LEVEL:
            count = 0
        else:
            self.level += 1
            try:
                count = self.file(statement.target)
            except _Stop:
                # Asterisk goes on behind the #include as if nothing had happened, one level deeper for good
                self.problem(place, "the rest of the included file, which Asterisk does not read", unsure=True)
                self._demote()
                return
            self.level -= 1
        if not count and statement.kind == "include":
            self.problem(place, "an #include of a file that does not exist", fatal=True)
            raise _Stop

    def _demote(self) -> None:
        """What stops an included file does not stop the configuration."""
        self.tree.problems = [
            Problem(each.place, each.text, False, True) if each.fatal else each for each in self.tree.problems
        ]


def _strip(text: str) -> str:
    return text.strip("".join(map(chr, range(1, 33))))


def load(directory: ConfigDirectory, name: str, runs_exec: bool | None = None) -> Tree:
    """The configuration ``name`` ("pjsip.conf"). Raises SipguardError only when the disk fails."""
    loader = _Loader(directory, name, directory.runs_exec if runs_exec is None else runs_exec)
    loader.level = 1
    try:
        loader.tree.exists = loader.file(name) > 0
    except (_Stop, _Endless):
        loader.tree.exists = True
    return loader.tree
