# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One setting: what it shall be, where it stands, why, and when a value that is already there is good enough."""

from __future__ import annotations

__all__ = ["CONDITIONS", "PROFILES", "Satisfied", "Setting", "line", "shown"]

import re
from dataclasses import dataclass

from ..._sip.errors import OptionError

PROFILES = ("baseline", "strict")

# What Asterisk takes for true (main/utils.c, ast_true) and for false (ast_false). It takes any other word for false, silently.
_TRUE = frozenset(("yes", "true", "y", "t", "1", "on"))
_FALSE = frozenset(("no", "false", "n", "f", "0", "off"))

# The vocabulary of Setting.when. Each word has to hold of the section that the setting is applied to.
CONDITIONS: dict[str, str] = {
    "ca_list": "the transport names the certificates it trusts (`ca_list_file` or `ca_list_path`)",
    "domains": "sip.conf names at least one `domain`",
    "identified": "the endpoint has no `auth`, and an `identify` section names it",
    "no_websockets": "neither sip.conf's [general] nor a peer names `ws` or `wss` as a transport",
    "own_line": "the peer, or a template of it, says something about the option itself; otherwise [general] speaks for it",
    "registers": "somebody registers there: a peer with `host=dynamic`, an AOR with `max_contacts` over 0, an endpoint with such an AOR",
    "single_contact": "the AOR's `max_contacts` is 1",
    "tls": "TLS is spoken: `tlsenable` in sip.conf, `protocol=tls` in the transport",
}

# The longest line that Asterisk reads is 8191 bytes, with the option's name (main/config.c); a character is at most four.
_LONGEST = 2000
# "16.28", "PBX/18", "Asterisk 22", "GIT-master", and the way the catalogue writes the default.
_VERSION = re.compile(r"\d\.\d|/v?\d|asterisk[^\d]{0,5}\d|\bgit-|<version>", re.IGNORECASE)


@dataclass(frozen=True)
class Satisfied:
    """Which values are as good as the wanted one, or better."""

    values: tuple[str, ...] = ()
    at_least: int | None = None
    at_most: int | None = None
    no_version: bool = False  # any text that does not tell a version

    def text(self) -> str:
        """The same in words; empty when nothing else is good enough."""
        said = [" or ".join(self.values)] if self.values else []
        if self.at_least is not None and self.at_most is not None:
            said.append(f"{self.at_least} to {self.at_most}")
        elif self.at_least is not None:
            said.append(f"{self.at_least} or more")
        elif self.at_most is not None:
            said.append(f"{self.at_most} or less")
        if self.no_version:
            said.append("anything without a version")
        return ", ".join(said)


@dataclass(frozen=True)
class Setting:
    """An option of a section of that kind (`scope`), with the value it shall have.

    `kind` is how its value reads: bool, choice, int, text, flags (words joined by commas), list (a line for each of
    `values`), or guests (no option at all: whether strangers are answered). Numbers are seconds unless `why` says
    otherwise. `default` is what Asterisk 16 to 22 does without the option. `since` and `until` are versions, the latter the
    first without the option. `when` are words of CONDITIONS, all of which have to hold.
    """

    id: str
    file: str
    scope: str
    option: str
    value: str
    why: str
    source: str
    profile: str = "baseline"
    aliases: tuple[str, ...] = ()
    default: str = ""
    kind: str = "text"
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    since: tuple[int, int] | None = None
    until: tuple[int, int] | None = None
    reload: str = "module"
    satisfied_by: Satisfied = Satisfied()
    when: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    @property
    def driver(self) -> str:
        """chan_sip or pjsip."""
        return "chan_sip" if self.file == "sip.conf" else "pjsip"

    @property
    def lines(self) -> tuple[str, ...]:
        """The values to be written, one a line."""
        return self.values if self.kind == "list" else (self.value,)

    def satisfied(self, *found: str) -> bool:
        """Whether what a section says is good enough: the values of the option's lines in order, none when it is not there.

        For guests: the names of the endpoints that take strangers in.
        """
        if self.kind == "guests":
            return not found
        if self.kind == "list":
            return found == self.values
        value = found[-1] if found else self.default
        if self.kind == "bool":
            return (value.lower() in _TRUE) == (self.value in _TRUE)
        by = self.satisfied_by
        if self.kind in ("choice", "flags"):
            return _word(value) == self.value or _word(value) in by.values
        if self.kind == "int":
            if value.lower() == self.value or value.lower() in by.values:
                return True
            if (by.at_least is None and by.at_most is None) or not re.fullmatch(r"[0-9]{1,9}", value):
                return False
            low = 0 if by.at_least is None else by.at_least
            return low <= int(value) and (by.at_most is None or int(value) <= by.at_most)
        return value == self.value or (by.no_version and not _VERSION.search(value))

    def check(self, value: object, name: str = "") -> str:
        """A value as somebody gives it, as Asterisk shall read it; for a list its values joined by commas.

        :param value: text, a number, or true and false as YAML has them; for flags and lists a list of such too.
        :param name: what the option is called in the message, by default the setting's id.
        :raises OptionError: Asterisk would misunderstand the value, or take it for something else without a word.
        """
        return ",".join(self.read(value, name))

    def read(self, value: object, name: str = "") -> tuple[str, ...]:
        """The same, one text for each line that has to be written."""
        name = name or self.id
        if self.kind == "guests":
            if _boolean(value, name) == "yes":
                raise OptionError(
                    name, shown(value), "guests are let in by an endpoint of your own; null would leave it alone"
                )
            return ("no",)
        if self.kind == "list":
            entries = list(value) if isinstance(value, (list, tuple)) else [value]
            if not entries:
                raise OptionError(name, [], "at least one value is needed; null would leave the option as it is")
            return tuple(line(entry, name, empty=False) for entry in entries)
        if self.kind == "flags":
            return (self._flags(value, name),)
        if self.kind == "bool":
            return (_boolean(value, name),)
        text = line(value, name)
        if self.kind == "int":
            return (self._number(value, text, name),)
        if self.kind == "choice":
            text = _word(text)
            if text not in self.choices:
                raise OptionError(name, shown(value), f"one of {', '.join(self.choices)} would be right")
        return (text,)

    def _flags(self, value: object, name: str) -> str:
        entries = value if isinstance(value, (list, tuple)) else line(value, name).split(",")
        # A blank behind a comma makes chan_sip overlook the word.
        words = [_word(line(entry, name)) for entry in entries]
        for word in words:
            if word not in self.choices:
                raise OptionError(name, shown(value), f"any of {', '.join(self.choices)} would be right")
        if not words or (len(words) > 1 and {"yes", "no"} & set(words)):
            raise OptionError(name, shown(value), "yes and no stand alone")
        return ",".join(dict.fromkeys(words))

    def _number(self, value: object, text: str, name: str) -> str:
        low, high = 0 if self.minimum is None else self.minimum, 2147483647 if self.maximum is None else self.maximum
        if re.fullmatch(r"-?[0-9]{1,10}", text) and low <= int(text) <= high and not isinstance(value, bool):
            return str(int(text))
        if self.choices and _word(text) in self.choices:
            return _word(text)
        right = f"a whole number from {low}" + (f" to {high}" if self.maximum is not None else "")
        raise OptionError(name, shown(value), f"{' or '.join((*self.choices, right))} would be right")


def _boolean(value: object, name: str) -> str:
    """yes or no.

    :raises OptionError: Asterisk would take the word for no, whatever it means.
    """
    word = line(value, name).lower()
    if word in _TRUE:
        return "yes"
    if word in _FALSE:
        return "no"
    raise OptionError(name, shown(value), "yes or no would be right; Asterisk takes any other word for no")


def line(value: object, name: str, *, empty: bool = True) -> str:
    """The text of a value that has to stand on one line.

    :raises OptionError: it cannot stand there, or is no single value.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (str, int, float)):
        raise OptionError(name, shown(value), "one value is needed: text, a number, or yes and no")
    text = str(value)
    if not text.isprintable():
        raise OptionError(name, shown(value), "a value is one line of text without control characters")
    text = text.strip()
    if len(text) > _LONGEST:
        raise OptionError(name, shown(value), f"at most {_LONGEST} characters would be right")
    if text.startswith(">"):
        raise OptionError(name, shown(value), "Asterisk would read the > as part of the line's =>")
    if not text and not empty:
        raise OptionError(name, shown(value), "a value is needed")
    return text


def shown(value: object) -> object:
    """A value fit for a message: short, and without anything that a terminal obeys."""
    if isinstance(value, (bool, int, float)):
        return value
    text = ascii(value) if isinstance(value, str) else ascii(str(value))
    return _Shown(text if len(text) <= 80 else f"{text[:77]}...")


class _Shown(str):
    """Text that already has its quotes."""

    def __repr__(self) -> str:
        return str(self)


def _word(text: str) -> str:
    """A word in lower case; what Asterisk takes for true and false as yes and no."""
    low = text.lower()
    return "yes" if low in _TRUE else "no" if low in _FALSE else low
