# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the kernel, plan, apply, read back: the one way in which rules and sets of ours ever change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .._sip.errors import OptionError, SipguardError
from . import freepbx_rules, netlink, sets
from .backend import Backend, detect, has_family, note_hiding, read_other
from .lock import DEFAULT_LOCK_TIMEOUT
from .names import FAMILIES, Family
from .options import Common
from .persist import Store, boot_warning, rules_file
from .plan import FamilyPlan, Plan, TableScript, plan_family, plan_sets
from .policy import Member, Policy, read_policy
from .rule import Rule
from .ruleset import HOOKS, Ruleset, parse_save, render_chains
from .runner import Completed, Runner, explain, output

__all__ = ["DEFAULT_LOCK_TIMEOUT", "Engine", "Outcome", "Snapshot", "with_member"]


@dataclass
class Snapshot:
    """The live state, read with one save command a family and one ipset command."""

    rulesets: dict[Family, Ruleset]
    headers: dict[str, sets.SetHeader]
    # The backend that is not used, when it holds rules too.
    other: tuple[Backend, dict[Family, Ruleset]] | None = None

    def policy(self, family: Family, fallback: str) -> Policy:
        """The policy that the family's live chains amount to (an empty one in table ``fallback`` when there are none)."""
        tables = {name: table.chains for name, table in self.rulesets[family].tables.items() if name in HOOKS}
        return read_policy(family, tables, fallback)[0]


@dataclass
class Outcome:
    """What a run did, or in check mode would have done."""

    changed: bool
    before: str
    after: str
    rules: dict[str, int]
    persisted: bool
    warnings: list[str]

    def result(self) -> dict[str, object]:
        """The common part of a module's result."""
        return {
            "changed": self.changed,
            # The same, for a role that asks in check mode and may not say "changed" of it.
            "differs": self.changed,
            # Hundreds of lines that are the same on both sides are of no use to anybody, on the wire least of all.
            "diff": {"before": self.before, "after": self.after} if self.changed else {"before": "", "after": ""},
            "rules": self.rules,
            "persisted": self.persisted,
        }


class Engine:
    """Rules and sets of one host. ``families`` are those its kernel has; ``lock_timeout`` is in seconds."""

    def __init__(
        self,
        runner: Runner,
        backend: str = "auto",
        lock_timeout: int = DEFAULT_LOCK_TIMEOUT,
        store: Store | None = None,
    ) -> None:
        self.runner = runner
        self.families = tuple(family for family in FAMILIES if has_family(family))
        self.backend: Backend = detect(runner, backend, self.families)
        self.store = store or Store()
        self._lock_timeout = lock_timeout

    def snapshot(self, expected: Iterable[Member] = ()) -> Snapshot:
        """Read everything there is. ``expected`` are members that are most likely in it, which saves reading them anew.

        Raises SipguardError when it cannot be read.
        """
        known = {rule.render(): rule for member in expected for rules in member.chains.values() for rule in rules}
        rulesets = {}
        for family in self.families:
            rulesets[family] = parse_save(output(self.runner, [self.backend.command(family, "save")]), known)
            note_hiding(rulesets[family], family)
        headers = sets.read_headers(self.runner)
        return Snapshot(rulesets, headers, read_other(self.runner, self.backend, self.families))

    def plan(self, snapshot: Snapshot, targets: Mapping[Family, Policy]) -> Plan:
        """What has to be done so that each family's rules are its target."""
        plan = Plan([plan_family(self.backend, snapshot.rulesets[family], targets[family]) for family in self.families])
        if snapshot.other is not None:
            backend, rulesets = snapshot.other
            for family, ruleset in rulesets.items():
                left = plan_family(backend, ruleset, Policy(family))
                plan.evictions += left.scripts
                for item in plan.families:
                    if item.family == family:
                        item.foreign += [f"{line} (iptables-{backend.name})" for line in left.foreign]
        plan_sets(plan, snapshot.headers)
        return plan

    def converge(self, targets: Mapping[Family, Policy], snapshot: Snapshot, *, persist: bool, check: bool) -> Outcome:
        """Bring the host to ``targets`` and say what that changed. ``check`` only says it."""
        plan = self.plan(snapshot, targets)
        files = {
            rules_file(item.family): self.store.rules_text(item.after, self.backend.name) for item in plan.families
        }
        outdated = [name for name, text in files.items() if persist and self.store.differs(name, text)]
        # Whatever persists: FreePBX loads its files as often as it likes while the host runs.
        blocks, unfollowed = freepbx_rules.follow(
            {item.family: item.target.get(freepbx_rules.TABLE, {}) for item in plan.families}
        )
        behind = [block.path for block in blocks]
        outcome = Outcome(
            changed=plan.changed or bool(outdated) or bool(blocks),
            before=_text((item.family, item.sets_before, item.before) for item in plan.families)
            + _leftovers(plan)
            + _files(outdated, "outdated")
            + _files(behind, "outdated", "loaded by FreePBX"),
            after=_text((item.family, item.sets_after, item.after) for item in plan.families)
            + _files(outdated, "as above")
            + _files(behind, "as above", "loaded by FreePBX"),
            rules={
                item.family.name: sum(len(rules) for chains in item.target.values() for rules in chains.values())
                for item in plan.families
            },
            persisted=all(text is None or text == self.store.read(name) for name, text in files.items()),
            warnings=unfollowed,
        )
        written = persist and any(files.values())
        found = [_other_warning(snapshot), boot_warning() if written and not check else None]
        outcome.warnings += [warning for warning in found if warning]
        if check:
            return outcome
        if plan.changed:
            self.apply(plan)
            outcome.warnings += self._read_back(plan)
        for name in outdated:
            self.store.write(name, files[name])
        # The rules are in the kernel by now, so what fails is a warning.
        outcome.warnings += freepbx_rules.write_all(blocks)
        outcome.persisted = all(text is None or text == self.store.read(name) for name, text in files.items())
        return outcome

    def apply(self, plan: Plan) -> None:
        """Carry a plan out. Every script is tried with --test first; when one fails all the same, those before it are taken back.

        Raises SipguardError; the kernel's rules are then as they were.
        """
        self._require_extensions(plan)
        created = [wanted.name for wanted in plan.create_sets]
        done: list[TableScript] = []
        try:
            sets.restore(self.runner, "".join(f"{wanted.create()}\n" for wanted in plan.create_sets))
            for script in plan.scripts:
                self._restore(script, script.do, test=True)
            for item in plan.families:
                self._clear_marks(item.family, item.clear_before)
            for script in plan.scripts:
                self._restore(script, script.do)
                done.append(script)
        except SipguardError:
            for script in reversed(done):
                self._restore(script, script.undo)
            self._destroy(created)
            raise
        for item in plan.families:
            self._clear_marks(item.family, item.clear_after)
        self._destroy(plan.destroy_sets)

    def _destroy(self, names: Sequence[str]) -> None:
        live = sets.read_headers(self.runner) if names else {}
        sets.restore(self.runner, "".join(f"destroy {name}\n" for name in names if name in live))

    @staticmethod
    def _clear_marks(family: Family, which: tuple[int, int | None] | None) -> None:
        if which is not None:
            try:
                netlink.clear_marks(family.version, *which)
            except OSError as error:
                raise SipguardError(f"cannot clear the marks of {family.name} conversations: {error}") from error

    def _restore(self, script: TableScript, text: str, test: bool = False) -> None:
        command = script.backend.command(script.family, "restore")
        argv = [command, "--noflush", "--wait", str(self._lock_timeout)]
        if test:
            argv.append("--test")
        done = self.runner.run(argv, text)
        if done.returncode != 0:
            raise self._explain(argv, done)

    def _explain(self, argv: Sequence[str], done: Completed) -> SipguardError:
        """The command's own words, with what to do about them where that is known."""
        said = done.stderr
        if "xtables lock" in said:
            return SipguardError(
                f"another program has held the xtables lock for {self._lock_timeout} s; nothing was changed: "
                "see which one with 'fuser /run/xtables.lock', or raise lock_timeout"
            )
        return explain(argv, done)

    def _require_extensions(self, plan: Plan) -> None:
        """Ask the kernel for each match and target before anything is touched, so that the error can name what is missing."""
        for item in plan.families:
            if not item.scripts:
                continue
            rules = [rule for chains in item.target.values() for found in chains.values() for rule in found]
            for name, is_target in _extensions(rules):
                if netlink.has_extension(name, is_target, item.family.version) is False:
                    kind = "target" if is_target else "match"
                    raise SipguardError(
                        f"this kernel has no xtables {kind} '{name}' for {item.family.name} (module xt_{name}); nothing was changed: "
                        "install the kernel's extra modules (Ubuntu: linux-modules-extra), or boot a kernel that has it"
                    )

    def _read_back(self, plan: Plan) -> list[str]:
        """Compare what the kernel now shows with the plan.

        Raises SipguardError when a chain or hook of ours is not there; a rule that is only printed differently is a warning.
        """
        warnings = []
        for item in plan.families:
            if not item.scripts:
                continue
            ruleset = parse_save(output(self.runner, [self.backend.command(item.family, "save")]))
            live = {name: ruleset.own_chains(name) for name in HOOKS if ruleset.own_chains(name)}
            if live == item.target and all(ruleset.table(name).hooked() for name in item.target):
                continue
            warnings.append(_difference(item, ruleset, live))
        return warnings


def _other_warning(snapshot: Snapshot) -> str | None:
    """A sentence about other people's rules in the backend that is not used."""
    if snapshot.other is None:
        return None
    backend, rulesets = snapshot.other
    for family, ruleset in rulesets.items():
        if any(table.foreign for table in ruleset.tables.values()):
            return (
                f"this host also has {family.name} rules in the {backend.name} backend ({family.binary}-{backend.name}-save shows "
                "them); each packet has to pass both, and this run manages the other one only"
            )
    return None


def _text(parts: Iterable[tuple[Family, list[str], str]]) -> str:
    """Our part of each family for a diff: sets by the command that makes them, then the rules."""
    text = ""
    for family, names, rules in parts:
        made = "".join(f"{sets.spec(name).create()}\n" for name in sorted(names))
        text += f"# {family.name}\n{made}{rules}" if made or rules else ""
    return text


def _leftovers(plan: Plan) -> str:
    """What is left of us in the other backend stands in a diff by name only."""
    return "".join(
        f"# left over in {script.family.binary}-{script.backend.name}: table {script.table}\n"
        for script in plan.evictions
    )


def _files(names: Sequence[str], state: str, when: str = "next boot") -> str:
    """Files for the next boot stand in a diff by name only: their content is the rules above."""
    return "".join(f"# {when}: {name}: {state}\n" for name in names)


def _difference(item: FamilyPlan, ruleset: Ruleset, live: Mapping[str, Mapping[str, tuple[Rule, ...]]]) -> str:
    for name, chains in item.target.items():
        missing = [chain for chain in chains if len(live.get(name, {}).get(chain, ())) != len(chains[chain])]
        if missing or not ruleset.table(name).hooked():
            raise SipguardError(
                f"the {item.family.name} rules of table {name} were gone again right after they had been loaded "
                f"({', '.join(missing) or 'the hook'}): another firewall program is at work on this host; stop it and run again"
            )
    shown, wanted = render_chains(live).splitlines(), item.after.splitlines()
    line = next((pair for pair in zip(shown, wanted) if pair[0] != pair[1]), ("", ""))
    return f"iptables shows a rule in another form than expected, so the next run would report a change: {line[0]!r} for {line[1]!r}"


def _extensions(rules: Iterable[Rule]) -> list[tuple[str, bool]]:
    """Matches and targets (true) that the kernel must know for these rules."""
    found: dict[tuple[str, bool], None] = {}
    for rule in rules:
        for match in rule.matches:
            found[match.name, False] = None
        if rule.target in ("SET", "CONNMARK", "MARK", "REJECT"):
            found[rule.target, True] = None
    return list(found)


def with_member(
    engine: Engine, snapshot: Snapshot, slot: str, members: Mapping[Family, Member], common: Common
) -> dict[Family, Policy]:
    """Each family's live policy with one slot filled from ``members`` (a family that is not there: emptied).

    Table and mask belong to all members together, so the others come along. Raises OptionError when one of them cannot.
    """
    targets = {}
    for family in engine.families:
        live = snapshot.policy(family, common.table)
        target = live.with_member(slot, members.get(family))
        if not common.present and target.members:  # what stays keeps its place
            targets[family] = target
            continue
        others = [name for name, other in target.members.items() if name != slot and other.rejects()]
        if common.table == "mangle" and others:
            raise OptionError(
                "table",
                "mangle",
                f"{others[0]} rejects, which exists in the filter table only: make it drop first, or use 'filter'",
            )
        targets[family] = replace(target, table=common.table, mask=common.mask)
    return targets
