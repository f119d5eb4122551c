# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One family's rules as iptables-save shows them: our chains as values, everybody else's lines as they stand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .._sip.errors import SipguardError
from .names import CHAIN_MAIN, CHAIN_PRE, HARMLESS_BEFORE_HOOK, is_own_chain
from .rule import Rule, parse_rule

__all__ = ["HOOKS", "Chains", "Hook", "Ruleset", "Table", "parse_save", "render_chains"]

# iptables-nft-save says so in a comment, and leaves the table out (iptables/nft.c).
_INCOMPATIBLE = re.compile(r"# Table [`']([^`']+)' is incompatible")

# Our chains of one table: name -> rules in order.
Chains = Mapping[str, "tuple[Rule, ...]"]


@dataclass(frozen=True)
class Hook:
    """The one rule by which a built-in chain leads to ours."""

    builtin: str
    chain: str

    def render(self, command: str = "-A") -> str:
        return f"{command} {self.builtin} -j {self.chain}"


HOOKS = {
    "raw": Hook("PREROUTING", CHAIN_PRE),
    "filter": Hook("INPUT", CHAIN_MAIN),
    "mangle": Hook("INPUT", CHAIN_MAIN),
}


@dataclass
class Table:
    """One table: ``chains`` are ours; ``foreign`` holds every other rule line, in order, hooks left out.

    ``hooks`` are the places of our hook rules in the built-in chain, counted from 1; ``before_hook`` are the lines that a packet
    meets there before the first of them.
    """

    name: str
    chains: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    hooks: list[int] = field(default_factory=list)
    before_hook: list[str] = field(default_factory=list)

    def hooked(self) -> bool:
        """Whether the hook stands exactly once, with nothing before it that could let a packet past us."""
        return len(self.hooks) == 1 and all(_is_harmless(line) for line in self.before_hook)

    def references(self, chain: str) -> list[str]:
        """Foreign rules that lead to a chain of ours, which the kernel therefore would not let go."""
        wanted = (f"-j {chain}", f"-g {chain}")
        return [line for line in self.foreign if any(f" {want} " in f"{line} " for want in wanted)]


@dataclass
class Ruleset:
    """All tables of one family."""

    tables: dict[str, Table] = field(default_factory=dict)
    # Tables that iptables-nft cannot show, because somebody wrote to them with nft.
    unreadable: list[str] = field(default_factory=list)
    # Those of them that hold chains of ours.
    hiding: list[str] = field(default_factory=list)

    def table(self, name: str) -> Table:
        return self.tables.get(name) or Table(name)

    def own_chains(self, table: str) -> dict[str, tuple[Rule, ...]]:
        return dict(self.table(table).chains)


def _is_harmless(line: str) -> bool:
    """Whether a rule before our hook lets nothing past us: what is dropped there (fail2ban's ipset actions) need not be judged."""
    target = line.rsplit(" -j ", 1)[-1]
    return target.startswith(HARMLESS_BEFORE_HOOK) or target.split(" ")[0] in ("DROP", "REJECT")


def parse_save(text: str, known: Mapping[str, Rule] | None = None) -> Ruleset:
    """Read the output of iptables-save or ip6tables-save (or one of our own files, whose hooks are written ``-I``).

    ``known`` are rules by their line that need not be read anew. Raises SipguardError when the text is no such output.
    """
    ruleset = Ruleset()
    table: Table | None = None
    rules: dict[str, list[Rule]] = {}
    for raw in text.split("\n"):
        line = raw.strip()
        incompatible = _INCOMPATIBLE.match(line)
        if incompatible:
            ruleset.unreadable.append(incompatible[1])
        if not line or line.startswith("#"):
            continue
        if line.startswith("*"):
            table = Table(line[1:])
            rules = {}
            ruleset.tables[table.name] = table
        elif line == "COMMIT":
            if table is not None:
                table.chains = {name: tuple(found) for name, found in rules.items()}
            table = None
        elif table is None:
            raise SipguardError(f"cannot read this line of iptables-save, it stands outside of any table: {line!r}")
        elif line.startswith(":"):
            name = line[1:].split(" ", 1)[0]
            if is_own_chain(name):
                rules.setdefault(name, [])
        else:
            _add_rule(table, rules, line, known or {})
    if table is not None:
        raise SipguardError(f"the rules of table {table.name} end in the middle: there is no COMMIT")
    return ruleset


def _add_rule(table: Table, rules: dict[str, list[Rule]], line: str, known: Mapping[str, Rule]) -> None:
    words = line.split(" ", 2)
    if len(words) > 1 and is_own_chain(words[1]) and words[0] == "-A":
        rules.setdefault(words[1], []).append(known.get(line) or parse_rule(line))
        return
    hook = HOOKS.get(table.name)
    if hook is not None and line in (hook.render("-A"), hook.render("-I")):
        built_in = sum(other.startswith(f"-A {hook.builtin} ") for other in table.foreign)
        table.hooks.append(built_in + len(table.hooks) + 1)
        return
    if hook is not None and not table.hooks and line.startswith(f"-A {hook.builtin} "):
        table.before_hook.append(line)
    table.foreign.append(line)


def render_chains(tables: Mapping[str, Chains], hooked: Mapping[str, bool] | None = None) -> str:
    """Our chains of a family as iptables-save text, hooks last; ``hooked`` says per table whether the hook stands (default: all do)."""
    lines: list[str] = []
    for name in sorted(tables):
        chains = tables[name]
        if not chains:
            continue
        lines.append(f"*{name}")
        lines += [f":{chain} - [0:0]" for chain in sorted(chains)]
        lines += [rule.render() for chain in sorted(chains) for rule in chains[chain]]
        hook = HOOKS.get(name)
        if hook is not None and hook.chain in chains and (hooked is None or hooked.get(name, True)):
            lines.append(hook.render("-I"))
        lines.append("COMMIT")
    return "".join(line + "\n" for line in lines)
