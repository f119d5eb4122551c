# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which options an Asterisk knows: what its own documentation says, else the tables that come with the collection.

PJSIP discards a whole object for one option it does not know (main/config_options.c), chan_sip overlooks it without a word.
"""

from __future__ import annotations

__all__ = [
    "DOCUMENTATION",
    "DRIVERS",
    "NO_CHAN_SIP",
    "SCOPES",
    "Documented",
    "Option",
    "anywhere",
    "check",
    "documented",
    "known",
    "option",
]

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from .._sip.errors import OptionError
from .settings._setting import shown
from .settings.names import CHAN_SIP, PJSIP

DOCUMENTATION = "/usr/share/asterisk/documentation"
DRIVERS = ("chan_sip", "pjsip")
# The kinds of sections, as the catalogue names them, by driver.
SCOPES = {
    "chan_sip": ("general", "peer"),
    "pjsip": ("global", "endpoint", "aor", "auth", "transport", "system", "acl", "identify"),
}
NO_CHAN_SIP = (21, 0)  # the first version without the module

# {type of object in pjsip.conf: {option: what the documentation says about it}}
Documented = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Option:
    """An option's name, kind (bool, int, list, or text) and the first version of each branch with it, none for all."""

    name: str
    kind: str = "text"
    since: tuple[tuple[int, int], ...] = ()

    def there_in(self, version: tuple[int, int]) -> bool:
        """Whether that version has it."""
        if not self.since or version[0] > self.since[-1][0]:
            return True
        return any(version[0] == major and version[1] >= minor for major, minor in self.since)


def documented(directory: str = DOCUMENTATION) -> dict[str, dict[str, str]]:
    """What the XML documentation of a host says about pjsip.conf: {type: {option: synopsis}}.

    Empty when there is none, or it cannot be read. Takes about 50 ms.
    """
    from xml.etree import ElementTree

    found: dict[str, dict[str, str]] = {}
    try:
        names = sorted(name for name in os.listdir(directory) if name.startswith("core-") and name.endswith(".xml"))
        for name in names:
            for file in ElementTree.parse(os.path.join(directory, name)).getroot().iter("configFile"):
                if file.get("name") != "pjsip.conf":
                    continue
                for kind in file.iter("configObject"):
                    options = found.setdefault(kind.get("name", ""), {})
                    for each in kind.iter("configOption"):
                        synopsis = " ".join((each.findtext("synopsis") or "").split())
                        options.setdefault(each.get("name", "").lower(), synopsis)
    except (OSError, ElementTree.ParseError):
        return {}
    return found


@cache
def _table(driver: str, scope: str) -> dict[str, Option]:
    """The collection's own table of one kind of section."""
    table = {}
    for entry in (CHAN_SIP if driver == "chan_sip" else PJSIP).get(scope, "").split():
        rest, dummy, since = entry.partition("@")
        name, dummy, kind = rest.partition(":")
        versions = tuple(
            sorted((int(major), int(minor)) for major, minor in (each.split(".") for each in since.split("/") if each))
        )
        table[name] = Option(name, kind or "text", versions)
    return table


def known(driver: str, scope: str, version: tuple[int, int], host: Documented | None = None) -> frozenset[str]:
    """The names of the options of that kind of section, in lower case; none when there is no such section.

    :param version: major and minor of Asterisk, such as (16, 28).
    :param host: what `documented` has read there, if it could.
    """
    if driver == "chan_sip" and version >= NO_CHAN_SIP:
        return frozenset()
    if driver == "pjsip" and host and scope in host:
        return frozenset(host[scope])
    return frozenset(name for name, each in _table(driver, scope).items() if each.there_in(version))


def option(name: str, driver: str, scope: str) -> Option:
    """What the tables say about an option, or a plain Option when only the host's documentation knows it."""
    return _table(driver, scope).get(name.lower()) or Option(name.lower())


def anywhere(name: str, driver: str, scopes: tuple[str, ...]) -> bool:
    """Whether some supported version has the option in a section of one of those kinds."""
    return any(name in _table(driver, scope) for scope in scopes)


def check(
    name: object, driver: str, scope: str, version: tuple[int, int], host: Documented | None = None, where: str = ""
) -> str:
    """The name of an option as Asterisk compares it, in lower case.

    :param where: what it is part of, for the message.
    :raises OptionError: this version does not know it there; the message names what looks like it.
    """
    import difflib

    where = where or f"{driver}.{scope}"
    if not isinstance(name, str) or not name.strip():
        raise OptionError(where, shown(name), "the name of an option is needed")
    low = name.strip().lower()
    names = known(driver, scope, version, host)
    # Sorcery takes any option that begins with @ as one of the user's own (main/sorcery.c).
    if low in names or (driver == "pjsip" and low[0] == "@" and low[1:].isidentifier()):
        return low
    dotted = ".".join(str(part) for part in version)
    if driver == "chan_sip" and version >= NO_CHAN_SIP:
        raise OptionError(where, shown(name), f"Asterisk {dotted} has no chan_sip")
    newer = _table(driver, scope).get(low)
    if newer and newer.since:
        versions = " and ".join(f"{major}.{minor}" for major, minor in newer.since)
        raise OptionError(where, shown(name), f"Asterisk {dotted} does not have it yet, it came with {versions}")
    near = difflib.get_close_matches(low, sorted(names), n=3)
    hint = f"; {' or '.join(near)} may be meant" if near else ""
    raise OptionError(where, shown(name), f"Asterisk {dotted} knows no such option there{hint}")
