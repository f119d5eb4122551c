# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The difference between what the kernel has and what it should have, as scripts for iptables-restore and ipset.

``changed``, check mode, ``--diff`` and what is really done all come from the same plan, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .._sip.errors import SipguardError
from .backend import Backend
from .names import CHAIN_JUDGE, KNOWN, TRUSTED, Family, is_own_set
from .policy import Policy, assemble, choose_generation, read_policy
from .rule import Rule
from .ruleset import HOOKS, Ruleset, Table, render_chains
from .sets import LEARNED, SetHeader, SetSpec, sets_in_rules, spec

__all__ = ["FamilyPlan", "Plan", "TableScript", "plan_family", "plan_sets", "table_script"]

# What is in them is worth nothing without rules.
_GO_WITH_RULES = (*LEARNED, KNOWN)


@dataclass(frozen=True)
class TableScript:
    """What turns one table into what it should be, and what turns it back: text for that backend's iptables-restore --noflush."""

    backend: Backend
    family: Family
    table: str
    do: str
    undo: str


@dataclass
class FamilyPlan:
    """Everything that changes in one family. ``before`` and ``after`` are our own part as iptables-save text."""

    family: Family
    policy: Policy
    generation: int
    target: dict[str, dict[str, tuple[Rule, ...]]]
    scripts: list[TableScript]
    before: str
    after: str
    # Everybody else's rules, as they stand.
    foreign: list[str] = field(default_factory=list)
    sets_before: list[str] = field(default_factory=list)
    sets_after: list[str] = field(default_factory=list)
    # Bits to clear in the marks of conversations: (mask, value), value None for all. Before the rules come, and after they have gone.
    clear_before: tuple[int, int | None] | None = None
    clear_after: tuple[int, int | None] | None = None


@dataclass
class Plan:
    """The whole change: families in order, sets to make first and to destroy last."""

    families: list[FamilyPlan]
    # What is left of us in the backend that is not used any more.
    evictions: list[TableScript] = field(default_factory=list)
    create_sets: list[SetSpec] = field(default_factory=list)
    destroy_sets: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.create_sets or self.destroy_sets or self.scripts)

    @property
    def scripts(self) -> list[TableScript]:
        """Every script in the order in which they are carried out: what is new first, what is left over last."""
        return [*(script for plan in self.families for script in plan.scripts), *self.evictions]


def table_script(live: Table, target: Mapping[str, tuple[Rule, ...]]) -> str:
    """One table's part of the change; "" when there is none. Chains that stay as they are keep their counters.

    Raises SipguardError when a chain that has to go is still used by a rule that is not ours.
    """
    for name in live.chains:
        for line in live.references(name) if name not in target else ():
            raise SipguardError(
                f"chain {name} of table {live.name} cannot be removed: this rule, which is not ours, leads to it: {line}; "
                "remove that rule first"
            )
    return change_script(live.name, live.chains, target, live.hooks, _hooks(live, target))


def _hooks(live: Table, target: Mapping[str, tuple[Rule, ...]]) -> list[int]:
    """Where our hooks shall stand: where the one that is right stands already, else first; nowhere without our chain."""
    if HOOKS[live.name].chain not in target:
        return []
    return live.hooks if live.hooked() else [1]


def change_script(
    table: str,
    before: Mapping[str, tuple[Rule, ...]],
    after: Mapping[str, tuple[Rule, ...]],
    hooks_before: list[int],
    hooks_after: list[int],
) -> str:
    """Text for iptables-restore --noflush that leads from one state of our part of a table to another; "" when they are the same."""
    gone = [name for name in before if name not in after]
    fresh = [name for name in after if before.get(name) != after[name]]
    rehook = hooks_before != hooks_after
    if not (gone or fresh or rehook):
        return ""
    hook = HOOKS[table]
    lines = [f"*{table}"]
    lines += [f":{name} - [0:0]" for name in (*fresh, *gone)]
    lines += [hook.render("-D")] * (len(hooks_before) if rehook else 0)
    lines += [rule.render() for name in fresh for rule in after[name]]
    if rehook:
        # The place is only ever another one than the first when an earlier state is brought back exactly.
        lines += [f"-I {hook.builtin} {place} -j {hook.chain}" for place in hooks_after]
    lines += [f"-X {name}" for name in gone]
    lines.append("COMMIT")
    return "".join(line + "\n" for line in lines)


def _undo(live: Table, target: Mapping[str, tuple[Rule, ...]]) -> str:
    """What brings ``live`` back after ``table_script`` has been carried out."""
    return change_script(live.name, target, live.chains, _hooks(live, target), live.hooks)


def plan_family(backend: Backend, live: Ruleset, target: Policy) -> FamilyPlan:
    """What has to change for one family so that its rules are ``target``."""
    own = {name: table.chains for name, table in live.tables.items() if name in HOOKS}
    policy, generation = read_policy(target.family, own, target.table)
    wanted_generation = choose_generation(own, target)
    wanted = assemble(target, wanted_generation)
    for name in live.unreadable:
        if name in wanted or name in live.hiding:
            raise SipguardError(
                f"table {name} of {target.family.name} holds rules that were written with nft, so that iptables cannot show it: see "
                f"'nft list table {'ip' if target.family.version == 4 else 'ip6'} {name}' and move them to a table of their own"
                + (", or use table 'mangle'" if name == "filter" and name not in live.hiding else "")
            )
    scripts = []
    for name in HOOKS:
        table = live.table(name)
        script = table_script(table, wanted.get(name, {}))
        if script:
            scripts.append(TableScript(backend, target.family, name, script, _undo(table, wanted.get(name, {}))))
    # What is added comes before what goes, so that a run that is killed in between leaves nothing more open than before.
    scripts.sort(key=lambda script: script.table not in wanted)
    before = render_chains(own, {name: live.table(name).hooked() for name in HOOKS})
    after = render_chains(wanted) if scripts else before
    foreign = [line for table in live.tables.values() for line in table.foreign]
    plan = FamilyPlan(target.family, target, wanted_generation, wanted, scripts, before, after, foreign)
    judges, judged = CHAIN_JUDGE in wanted.get(target.table, {}), generation != 0
    if judges and not judged:
        plan.clear_before = (target.mask, None)  # left over from rules that are no longer there
    elif judges and policy.mask != target.mask:
        plan.clear_before = (target.mask | policy.mask, None)
    elif judges and wanted_generation != generation:
        plan.clear_before = (target.mask, wanted_generation)  # idle since this generation's last turn
    elif judged and not judges:
        plan.clear_after = (policy.mask, None)
    return plan


def _refuse_foreign_use(name: str, family_plan: FamilyPlan) -> None:
    for line in family_plan.foreign:
        if f" {name} " in line:
            raise SipguardError(
                f"the set {name} cannot be removed: this rule, which is not ours, looks into it: {line}; remove that rule first"
            )


def plan_sets(plan: Plan, headers: Mapping[str, SetHeader]) -> None:
    """Add to the plan the sets its rules need and those that nothing needs any more.

    Raises SipguardError when a set that is needed exists, but is made of something else.
    """
    for family_plan in plan.families:
        suffix = family_plan.family.suffix
        rules = [rule for chains in family_plan.target.values() for found in chains.values() for rule in found]
        needed = sets_in_rules(rules)
        for name in needed:
            if not is_own_set(name):
                continue
            if name not in headers:
                plan.create_sets.append(spec(name))
            elif not headers[name].fits(spec(name)):
                raise SipguardError(
                    f"the set {name} exists, but as {headers[name].type} with other properties than sipguard's; "
                    f"remove it with 'ipset destroy {name}' and run again"
                )
        unneeded = []
        for base in (*_GO_WITH_RULES, TRUSTED):
            name = base + suffix
            if name in headers and name not in needed and (base in _GO_WITH_RULES or headers[name].entries == 0):
                unneeded.append(name)
        for name in unneeded:
            _refuse_foreign_use(name, family_plan)
        plan.destroy_sets += unneeded
        family_plan.sets_before = [name for name in (*needed, *unneeded) if name in headers]
        family_plan.sets_after = list(needed)
