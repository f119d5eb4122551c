# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks look at: Asterisk's configuration, read once, and what is known about the host beside it."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..._sip.errors import OptionError
from ..freepbx_firewall import Host
from ..tree import Category, ConfigDirectory, Place, Tree, Variable, fold, is_true, load

__all__ = ["Context", "Section", "is_boolean", "loopback", "port_of", "read_common", "tokens"]

_FALSE = ("no", "false", "n", "f", "0", "off")
_MAX_COMMON = 16 * 1024 * 1024


class Section:
    """A category with its options by name, so that thousands of them are looked through quickly."""

    __slots__ = ("name", "options", "place", "variables")

    def __init__(self, name: str, place: Place, variables: Iterable[Variable] = ()) -> None:
        self.name = name
        self.place = place
        self.variables = list(variables)
        self.options: dict[str, list[Variable]] = {}
        for each in self.variables:
            self.options.setdefault(fold(each.name), []).append(each)

    @classmethod
    def of(cls, category: Category) -> Section:
        return cls(category.name, category.place, category.variables)

    def last(self, *names: str) -> Variable | None:
        """The option's last value; of aliases that of the first name that is there."""
        for name in names:
            found = self.options.get(name)
            if found:
                return found[-1]
        return None

    def value(self, *names: str, default: str = "") -> str:
        found = self.last(*names)
        return found.value if found else default

    def all(self, *names: str) -> list[Variable]:
        return [each for name in names for each in self.options.get(name, ())]

    def true(self, name: str, default: bool = False) -> bool:
        found = self.last(name)
        return is_true(found.value) if found else default

    def where(self, *names: str) -> Place:
        """Where the option is set, else where the section begins."""
        found = self.last(*names)
        return found.place if found else self.place


def is_boolean(value: str) -> bool:
    """Whether Asterisk's ast_true() or ast_false() knows the word."""
    return is_true(value) or fold(value) in _FALSE


def tokens(value: str) -> list[str]:
    """The words of a comma list, in lower case and without blanks around them."""
    return [word for word in (part.strip().lower() for part in value.split(",")) if word]


def port_of(value: str, default: int) -> int:
    """The port of ``host:port``, ``[v6]:port`` or a number; ``default`` when there is none."""
    value = value.strip()
    match = re.search(r"(?:^|[\]\w.*]:)(\d{1,5})$", value)
    if match and (":" not in value or value.count(":") == 1 or "]" in value) and match[1].isascii():
        return int(match[1])
    return default


def loopback(address: str) -> bool:
    """Whether an address (``127.0.0.1``, ``[::1]:5038``, ``localhost``) is this host's alone."""
    host = address.strip().lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_common(path: str) -> frozenset[str]:
    """Well-known secrets, one a line, from a file on the host. Raises OptionError when it cannot be read."""
    try:
        with open(path, "rb") as handle:
            data = handle.read(_MAX_COMMON + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise OptionError("common_secrets", path, f"it has to be a readable file ({reason})") from error
    if len(data) > _MAX_COMMON:
        raise OptionError("common_secrets", path, "it has to be a file of at most 16 MiB")
    return frozenset(line.strip().lower() for line in data.decode("utf-8", "replace").splitlines() if line.strip())


@dataclass
class Context:
    """``version``: (major, minor) of Asterisk, if known. ``drivers``: chan_sip, pjsip; empty means what modules.conf would load.

    ``run_user``: who Asterisk runs as, if known. ``root``: where files outside of the configuration are looked for. ``host``: what was
    found out about FreePBX's firewall.
    """

    directory: ConfigDirectory
    version: tuple[int, int] | None = None
    drivers: tuple[str, ...] = ()
    freepbx: bool = False
    min_secret_length: int = 12
    common_secrets: frozenset[str] = field(default=frozenset(), repr=False)
    run_user: str = ""
    today: datetime.date = field(default_factory=datetime.date.today)
    root: str = "/"
    host: Host = field(default_factory=Host)
    loader: Callable[[ConfigDirectory, str], Tree] = load
    _trees: dict[str, Tree] = field(default_factory=dict, repr=False)
    _sections: dict[str, list[Section]] = field(default_factory=dict, repr=False)
    memory: dict[str, Any] = field(default_factory=dict, repr=False)  # what the checks have worked out

    def __post_init__(self) -> None:
        if not 1 <= self.min_secret_length <= 128:
            raise OptionError("min_secret_length", self.min_secret_length, "it has to be a number from 1 to 128")

    def tree(self, name: str) -> Tree:
        if name not in self._trees:
            self._trees[name] = self.loader(self.directory, name)
        return self._trees[name]

    @property
    def trees(self) -> list[Tree]:
        """Every configuration that has been looked at and exists."""
        return [tree for tree in self._trees.values() if tree.exists]

    def sections(self, name: str) -> list[Section]:
        """The objects of a configuration file, without templates."""
        if name not in self._sections:
            self._sections[name] = [Section.of(each) for each in self.tree(name).objects()]
        return self._sections[name]

    def first(self, name: str, section: str = "general") -> Section:
        """The first section of that name; an empty one at line 1 when there is none."""
        for each in self.sections(name):
            if fold(each.name) == section:
                return each
        return Section(section, Place(name, 1))

    def loads(self, module: str) -> bool:
        """Whether modules.conf would have Asterisk load a module (without .so), as far as it is there to be loaded."""
        if not self.tree("modules.conf").exists:
            return True  # not a host's whole configuration: nothing says no
        modules = self.first("modules.conf", "modules")

        def named(*options: str) -> bool:
            return any(each.value.strip().removesuffix(".so") == module for each in modules.all(*options))

        if named("noload"):
            return False
        return modules.true("autoload") or named("load", "preload", "require", "preload-require")

    @property
    def chan_sip(self) -> bool:
        """Whether chan_sip is in use: named as a driver, else loaded with a sip.conf in a version that has it."""
        if self.drivers:
            return "chan_sip" in self.drivers
        if self.version and self.version[0] >= 21:
            return False
        return self.tree("sip.conf").exists and self.loads("chan_sip")

    @property
    def pjsip(self) -> bool:
        if self.drivers:
            return "pjsip" in self.drivers
        return self.tree("pjsip.conf").exists and self.loads("chan_pjsip")

    @property
    def iax(self) -> bool:
        return self.tree("iax.conf").exists and self.loads("chan_iax2")

    def full(self, name: str) -> str:
        return self.directory.full(name)

    def outside(self, path: str) -> str:
        """A file of the host outside of the configuration."""
        return os.path.join(self.root, path.lstrip("/"))
