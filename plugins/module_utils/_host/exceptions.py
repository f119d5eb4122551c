# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses that no blocklist of this host may block, because somebody said so: /var/lib/sipguard/exceptions.

A line each: address, since, until (both in seconds since the epoch, until 0: for ever), reason, with tabs in between.
"""

from __future__ import annotations

import ipaddress
import pathlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from .._netfilter import blocklist
from .._netfilter.engine import Engine
from .._netfilter.lists import Lists, NamedList
from .._netfilter.persist import replace_file
from .._netfilter.runner import Runner
from .._netfilter.sets import SetHeader
from .._netfilter.switch_guard import STATE_DIRECTORY
from .._sip.errors import SipguardError
from .protected import Protected, find

__all__ = ["Address", "Exceptions", "Exempt", "day", "read_lists", "reload", "shields"]

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

_NAME = "exceptions"
_HEAD = "# Written by sipguard.pbx: what no blocklist may block. Taken back with 'sipguard exceptions remove'.\n"
_END = "# end\n"


def day(moment: float) -> str:
    """A moment, in seconds since the epoch, as a day of UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


@dataclass(frozen=True)
class Exempt:
    """One exception; ``since`` and ``until`` in seconds since the epoch, ``until`` 0 for ever."""

    address: Address
    since: int
    until: int
    reason: str

    def render(self) -> str:
        return f"{self.address}\t{self.since}\t{self.until}\t{self.reason}\n"

    @classmethod
    def parse(cls, line: str) -> Exempt:
        """The inverse of ``render``, without the line's end. Raises ValueError."""
        address, since, until, reason = line.split("\t", 3)
        return cls(ipaddress.ip_address(address), int(since), int(until), reason)

    def describe(self) -> str:
        """For people, without the address."""
        until = f" until {day(self.until)}" if self.until else ""
        return f"excepted by sipguard unban since {day(self.since)}{until}" + (
            f": {self.reason}" if self.reason else ""
        )

    def shield(self) -> Protected:
        """As that which must not be blocked."""
        return Protected(str(self.address), self.describe())

    def result(self) -> dict[str, Any]:
        """For programs."""
        return {"address": str(self.address), "since": self.since, "until": self.until, "reason": self.reason}


class Exceptions:
    """The file: 0600, replaced in one moment. Those whose time has run out are not there any more."""

    def __init__(self, directory: str = STATE_DIRECTORY) -> None:
        self._path = pathlib.Path(directory) / _NAME

    def read(self, now: float | None = None) -> dict[Address, Exempt]:
        """Every exception by its address. Raises SipguardError when the file cannot be read, or is damaged."""
        moment = time.time() if now is None else now
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise SipguardError(f"cannot read {self._path}: {error}") from error
        if not text.startswith(_HEAD) or not text.endswith(_END):
            raise SipguardError(f"{self._path} is damaged: its beginning or its end is missing; {self._remedy()}")
        try:
            found = [Exempt.parse(line) for line in text[len(_HEAD) : -len(_END)].splitlines()]
        except ValueError as error:
            raise SipguardError(f"{self._path} is damaged: {error}; {self._remedy()}") from error
        return {each.address: each for each in found if not each.until or each.until > moment}

    def _remedy(self) -> str:
        return "remove it, and unban again who must not be blocked"

    def write(self, wanted: Iterable[Exempt]) -> None:
        """Make the file hold exactly these; without any there is none. Raises SipguardError, and the file is what it was."""
        lines = [each.render() for each in wanted]
        try:
            if not lines:
                self._path.unlink(missing_ok=True)
                return
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path, _HEAD + "".join(lines) + _END, 0o600)
        except OSError as error:
            raise SipguardError(f"cannot write {self._path}: {error}") from error

    def exists(self) -> bool:
        """Whether there is a file, damaged or not."""
        return self._path.exists()


def read_lists(directory: str = STATE_DIRECTORY) -> tuple[dict[str, NamedList], list[str]]:
    """Every list, without the entries whose time has run out; and what is wrong with those that cannot be read."""
    found, errors = Lists(f"{directory}/lists").read_all()
    now = time.time()
    return {name: each.unexpired(now) for name, each in found.items()}, errors


def shields(
    runner: Runner,
    exempt: Iterable[Exempt] | None = None,
    directory: str = STATE_DIRECTORY,
    headers: Mapping[str, SetHeader] | None = None,
) -> list[Protected]:
    """Everything that no list of this host may block: what is protected, and the exceptions (by default those of the file).

    ``headers`` are those of the live sets, if they are known. Raises SipguardError.
    """
    kept = Exceptions(directory).read().values() if exempt is None else exempt
    return [*find(runner, headers), *(each.shield() for each in kept)]


def reload(
    engine: Engine,
    exempt: Iterable[Exempt],
    *,
    persist: bool = True,
    check: bool = False,
    directory: str = STATE_DIRECTORY,
) -> dict[str, Any]:
    """Load the blocklists with these exceptions: the common part of a module's result. Unchanged it costs a digest.

    Without any list nothing is touched. Raises SipguardError.
    """
    lists, errors = read_lists(directory)
    if not lists:
        return {"changed": False, "diff": {"before": "", "after": ""}, "persisted": True, "warnings": errors}
    protected = shields(engine.runner, exempt)
    folder = pathlib.Path(directory) / "lists"
    result = blocklist.converge(
        engine, lists, protected, directory=folder, persist=persist, check=check, keep=bool(errors)
    )[1]
    return {**result, "warnings": [*errors, *result["warnings"]]}
