# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of addresses: what each of ours is made of, which are there, and scripts for ipset restore.

A set is filled aside and swapped in, so no packet is ever judged against half of it.
"""

from __future__ import annotations

import io
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .._sip.errors import SipguardError
from .names import BANNED, BLOCKED, FAMILIES, JAILS, KNOWN, NAMED, OBSERVED, OFFENDERS, TRUSTED, WATCHED, Family
from .rule import Rule
from .runner import Runner, output

__all__ = [
    "LEARNED",
    "Network",
    "SetHeader",
    "SetSpec",
    "aside",
    "fill_script",
    "leftover_script",
    "member_text",
    "parse_terse",
    "read_headers",
    "read_members",
    "restore",
    "sets_in_rules",
    "spec",
]

Network = "ipaddress.IPv4Network | ipaddress.IPv6Network"

# Filled by the kernel itself, worth nothing after the rules that fill them are gone.
LEARNED = (OFFENDERS, OBSERVED, NAMED)
_LEARNED_TIMEOUT = 3600  # s; only the default of the set, every rule that adds says its own
_LEARNED_SIZE = 65536
_BANNED_SIZE = 262144
_MIN_SIZE = 1024
_LIST = "list:set"
_LIST_SIZE = 64  # jails; a list of sets is as large as it was made
_ASIDE = "-new"


@dataclass(frozen=True)
class SetSpec:
    """How a set is made. ``timeout`` is in seconds, None for a set whose members stay."""

    name: str
    type: str
    family: Family
    maxelem: int
    timeout: int | None = None
    # A full set of learned sources makes room for the newest one instead of refusing it (ipset(8), forceadd).
    forceadd: bool = False
    # Each member can say in words why it is there.
    comment: bool = False

    @property
    def inet(self) -> str:
        """The family as the kernel says it; a list of sets has none."""
        return "" if self.type == _LIST else self.family.inet

    def create(self, name: str = "") -> str:
        if self.type == _LIST:
            return f"create {name or self.name} {self.type} size {self.maxelem}"
        words = ["create", name or self.name, self.type, "family", self.family.inet, "maxelem", str(self.maxelem)]
        if self.timeout is not None:
            words += ["timeout", str(self.timeout)]
        if self.comment:
            words.append("comment")
        if self.forceadd:
            words.append("forceadd")
        return " ".join(words)


@dataclass(frozen=True)
class SetHeader:
    """A live set without its members."""

    name: str
    type: str
    inet: str
    maxelem: int
    has_timeout: bool
    references: int
    entries: int
    has_comment: bool = False

    @classmethod
    def of(cls, wanted: SetSpec) -> SetHeader:
        """That of a set which has just been made."""
        timed = wanted.timeout is not None
        return cls(wanted.name, wanted.type, wanted.inet, wanted.maxelem, timed, 0, 0, wanted.comment)

    def fits(self, wanted: SetSpec) -> bool:
        """Whether the set can serve as ``wanted`` (its size aside)."""
        mine = (self.type, self.inet, self.has_timeout, self.has_comment)
        return mine == (wanted.type, wanted.inet, wanted.timeout is not None, wanted.comment)


def spec(name: str, entries: int = 0) -> SetSpec:
    """The make of one of our sets by its full name; ``entries`` is what it has to hold.

    Raises SipguardError for a name that is none of ours.
    """
    for family in FAMILIES:
        base = name[: -len(family.suffix)]
        if not name.endswith(family.suffix):
            continue
        if base in LEARNED:
            kind = "hash:ip,port" if base == NAMED else "hash:ip"
            return SetSpec(name, kind, family, _LEARNED_SIZE, _LEARNED_TIMEOUT, forceadd=True)
        if base == BANNED:
            return SetSpec(
                name, "hash:net", family, max(_BANNED_SIZE, entries * 3 // 2), _LEARNED_TIMEOUT, comment=True
            )
        if base == KNOWN:
            return SetSpec(name, "hash:ip", family, max(_LEARNED_SIZE, entries * 3 // 2), _LEARNED_TIMEOUT)
        if base == JAILS:
            return SetSpec(name, _LIST, family, _LIST_SIZE)
        if base in (TRUSTED, BLOCKED, WATCHED):
            return SetSpec(name, "hash:net", family, max(_MIN_SIZE, entries * 3 // 2))
    raise SipguardError(f"{name} is not a set of sipguard")


def sets_in_rules(rules: Iterable[Rule]) -> list[str]:
    """Names of the sets that rules look into or add to, each once, in order."""
    return list(dict.fromkeys(name for rule in rules for name in rule.sets()))


def parse_terse(text: str) -> dict[str, SetHeader]:
    """Read ``ipset list -terse``."""
    found: dict[str, SetHeader] = {}
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "Name" not in fields:
            continue
        words = fields.get("Header", "").split()
        header = {word: words[index + 1] for index, word in enumerate(words[:-1])}
        found[fields["Name"]] = SetHeader(
            fields["Name"],
            fields.get("Type", ""),
            header.get("family", ""),
            int(header.get("maxelem", "0")),
            "timeout" in words,
            int(fields.get("References", "0")),
            int(fields.get("Number of entries", "0")),
            "comment" in words,
        )
    return found


def _ipset(runner: Runner) -> str:
    command = runner.which("ipset")
    if command is None:
        raise SipguardError("ipset is not installed on this host; install the package 'ipset'")
    return command


def read_headers(runner: Runner) -> dict[str, SetHeader]:
    """Every set of this host by name, members left out, with one command."""
    return parse_terse(output(runner, [_ipset(runner), "list", "-terse"]))


def read_members(runner: Runner, name: str) -> dict[str, int]:
    """Members of one set as the kernel prints them, with the seconds each has left (0: for ever)."""
    members: dict[str, int] = {}
    for line in output(runner, [_ipset(runner), "save", name]).split("\n"):
        words = line.split()
        if words[:2] == ["add", name]:
            members[words[2]] = int(words[words.index("timeout") + 1]) if "timeout" in words else 0
    return members


def member_text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """A network as ipset prints it: a single address without its prefix length."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def aside(name: str) -> str:
    """What a set is called while it is filled, before it is swapped in."""
    return name + _ASIDE


def leftover_script(wanted: SetSpec, live: Mapping[str, SetHeader]) -> str:
    """What a run that was killed between swapping and destroying has left to do."""
    left = aside(wanted.name)
    return f"destroy {left}\n" if left in live else ""


def fill_script(wanted: SetSpec, members: Iterable[str], live: Mapping[str, SetHeader]) -> str:
    """A script that makes the set hold exactly ``members``, in one moment: filled aside, swapped, the old one destroyed."""
    fresh = aside(wanted.name)
    script = io.StringIO()  # there may be half a million members
    script.write(leftover_script(wanted, live))
    if wanted.name not in live:
        script.write(f"{wanted.create()}\n")
    script.write(f"{wanted.create(fresh)}\n")
    script.writelines(f"add {fresh} {member}\n" for member in members)
    script.write(f"swap {fresh} {wanted.name}\ndestroy {fresh}\n")
    return script.getvalue()


def restore(runner: Runner, script: str) -> None:
    """Run one script; ipset stops at the first line that fails. Raises SipguardError with ipset's own words."""
    if script:
        output(runner, [_ipset(runner), "restore"], script)
