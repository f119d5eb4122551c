# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading what is on disk: sets first, then rules. Each family by itself, so that one damaged file costs one family only."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .._netfilter import blocklist, netlink, sets, trust
from .._netfilter.backend import has_family
from .._netfilter.engine import Engine, Snapshot
from .._netfilter.lists import Lists
from .._netfilter.names import BANNED, BLOCKED, FAMILIES, JAILS, WATCHED, Family
from .._netfilter.persist import BOOT_SETTINGS, FILES, MANIFEST, SETS_FILE, Store, boot_loader, rules_file
from .._netfilter.policy import Policy, assemble, generations, read_policy
from .._netfilter.ruleset import HOOKS, Ruleset
from .._netfilter.runner import Runner
from .._sip.errors import SipguardError
from . import bans, exceptions, protected
from .emergency import Settings, closed

__all__ = ["create_sets", "damage", "drops_wanted", "live_rules", "policy_of", "restore", "restore_outside"]

# Where netfilter-persistent keeps what somebody has saved; chains of ours may be among it.
_SAVED = ("/etc/iptables/rules.v4", "/etc/iptables/rules.v6")
# Nothing is written here, and a file that cannot be read must not keep a host from being closed.
_NOWHERE = Store("/nonexistent")
# Filled by somebody else than lists.
_BANS = (BANNED, JAILS)
_SET_NAME = re.compile(r"--(?:match|add|del)-set (sipguard-\S+)")


def restore(runner: Runner, store: Store, doubts: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Bring the kernel to what the files say; what is already right stays untouched.

    Returns what was done and what went wrong, a sentence each. Rules of a family that never had a file are left alone. ``doubts``
    say why the files may be those of a change that nobody has confirmed. A family that nothing protects afterwards is closed
    where boot.json says so.
    """
    done: list[str] = []
    errors = list(doubts)
    settings, listed = _settings(store, errors)
    try:
        members = trust.read_file(store)
        if members is not None:
            outcome = trust.converge(runner, store, members, present=True, persist=False, check=False)
            done.append(f"trusted sources {'loaded' if outcome.changed else 'unchanged'}")
        elif SETS_FILE in listed:
            errors.append(f"nobody is trusted: {store.directory}/{SETS_FILE} is missing")
    except SipguardError as error:
        errors.append(str(error))
    for family in FAMILIES:
        try:
            if doubts and settings.on_boot_failure == "close":
                raise SipguardError("its file may be that of a change that nobody has confirmed")
            said = _load(runner, store, family)
            if said is None and rules_file(family) in listed:
                raise SipguardError(f"{store.directory}/{rules_file(family)} is missing")
            done += [said] if said else []
        except SipguardError as error:
            problem = f"{family.name} is not protected: {error}"
            if settings.on_boot_failure == "close":
                problem += _close(runner, store, settings, family)
            errors.append(problem)
    found = restore_outside(runner)
    done += found[0]
    errors += found[1]
    if not done and not errors:
        done.append("nothing to load: /etc/sipguard holds no rules")
    return done, errors


def restore_outside(runner: Runner) -> tuple[list[str], list[str]]:
    """What is no part of the rules' files: lists, bans, and the rules that look into their sets, whatever state has been brought back.

    Returns what was done and what went wrong, a sentence each; nothing is asked of a host that has neither.
    """
    done: list[str] = []
    errors: list[str] = []
    _load_lists(runner, done, errors)
    try:
        done += bans.restore_bans(runner)
    except SipguardError as error:
        errors.append(f"the bans are not loaded: {error}")
    try:
        _ensure_drops(runner, done)
    except SipguardError as error:
        errors.append(f"banned and blocked sources are not dropped: {error}")
    return done, errors


def drops_wanted(family: Family, headers: Mapping[str, sets.SetHeader]) -> frozenset[str]:
    """Base names of the sets into which a rule has to look, because lists fill them or somebody is banned."""
    found = {base: headers.get(base + family.suffix) for base in _BANS}
    names = {base for base, header in found.items() if header is not None and header.entries}
    listed = blocklist.filled(Lists().directory)
    return frozenset(names | {base for base in (BLOCKED, WATCHED) if base + family.suffix in listed})


def _ensure_drops(runner: Runner, done: list[str]) -> None:
    """Add the rules for sets that are filled, where they are missing. Raises SipguardError."""
    watch = netlink.Watch()
    if not Lists().names() and not any(watch.entries(base + family.suffix) for base in _BANS for family in FAMILIES):
        return
    engine = Engine(runner, Store().backend())
    snapshot = engine.snapshot()
    targets = {}
    for family in engine.families:
        policy = snapshot.policy(family, "filter")
        targets[family] = replace(policy, drops=policy.drops | drops_wanted(family, snapshot.headers))
    # Not before the rules themselves: a host that loads nothing at boot has no file to be kept up to date.
    outcome = engine.converge(targets, snapshot, persist=boot_loader() is not None, check=False)
    if outcome.changed:
        done.append("the rules that drop banned and blocked sources are there again")


def _load_lists(runner: Runner, done: list[str], errors: list[str]) -> None:
    """Fill the sets of blocked sources from the lists of this host; they come last, because what trusts and what drops has to be there."""
    kept = Lists()
    try:
        lists, damaged = exceptions.read_lists()
        errors += damaged
        if not lists:
            return
        shields = protected.find_at_boot(runner, blocklist.remembered(kept.directory))
        shields += [each.shield() for each in exceptions.Exceptions().read().values()]
        families = [family for family in FAMILIES if has_family(family)]
        loaded = blocklist.fill(
            runner, lists, shields, families, directory=kept.directory, check=False, keep=bool(damaged)
        )
        verb = "loaded" if loaded.changed else "unchanged"
        done.append(f"blocked sources {verb}: {sum(loaded.members.values())} networks from {len(lists)} lists")
    except SipguardError as error:
        errors.append(f"the blocklists are not loaded: {error}")


def _settings(store: Store, errors: list[str]) -> tuple[Settings, frozenset[str]]:
    """boot.json, and which files there have to be; what is wrong with the two is added to ``errors``."""
    listed, settings = frozenset(FILES), Settings(on_boot_failure="close")
    installed = boot_loader() is not None
    try:
        listed = store.listed()
        if BOOT_SETTINGS not in listed and (installed or store.read(BOOT_SETTINGS) is not None):
            listed = frozenset(FILES)
            raise SipguardError(f"{store.directory}/{MANIFEST} is missing, or not all of it is there")
    except SipguardError as error:
        errors.append(str(error))
    try:
        # Without them nobody has installed anything that would run at boot.
        settings = Settings.read(store) if installed or BOOT_SETTINGS in listed else Settings()
    except SipguardError as error:
        errors.append(str(error))
    return settings, listed


def _load(runner: Runner, store: Store, family: Family) -> str | None:
    """Load one family's rules; returns what was done, None without a file. Raises SipguardError."""
    found = store.read_rules(family)
    if found is None:
        return None
    ruleset, backend = found
    engine = Engine(runner, backend, store=_NOWHERE)
    if family not in engine.families:
        return f"{family.name} rules not loaded: this kernel has no {family.name}"
    return _converge(engine, policy_of(family, ruleset), "loaded")


def _converge(engine: Engine, target: Policy, verb: str) -> str:
    engine.families = (target.family,)  # whatever became of the other one
    outcome = engine.converge({target.family: target}, engine.snapshot(), persist=False, check=False)
    name = target.family.name
    return f"{name} rules {verb if outcome.changed else 'unchanged'}: {outcome.rules[name]}"


def _close(runner: Runner, store: Store, settings: Settings, family: Family) -> str:
    """Close a family, unless rules of ours stand there whole; returns the end of a sentence about it."""
    try:
        engine = Engine(runner, store.backend(), store=_NOWHERE)
        if family not in engine.families:
            return "; this kernel does not have it"
        live = live_rules(engine.snapshot(), family)
        if policy_of(family, live).members and not damage(family, live):
            return "; the rules that stand are left alone"
        _converge(engine, closed(settings, family), "closed")
    except SipguardError as error:
        return f"; and it could not be closed: {error}"
    who = (
        "everything but SSH is closed"
        if settings.host_policy
        else "the SIP ports are closed to all but trusted sources"
    )
    return f"; {who} until its rules are there again"


def policy_of(family: Family, ruleset: Ruleset) -> Policy:
    """What our chains in a rule set, or in a file, amount to."""
    policy, generation = read_policy(family, {name: ruleset.own_chains(name) for name in HOOKS}, "filter")
    return replace(policy, start=generation)


def live_rules(snapshot: Snapshot, family: Family) -> Ruleset:
    """The rules of the backend that holds any of ours; of the one in use when neither does."""
    live = snapshot.rulesets[family]
    other = snapshot.other[1].get(family) if snapshot.other else None
    if other is not None and not _holds_ours(live) and _holds_ours(other):
        return other
    return live


def _holds_ours(ruleset: Ruleset) -> bool:
    return bool(ruleset.hiding) or any(ruleset.own_chains(name) for name in HOOKS)


def damage(family: Family, live: Ruleset, on_disk: Ruleset | None = None) -> list[str]:
    """What is missing of our rules, a few words each; nothing when they are whole.

    They are whole when they are what this product would write for the policy they amount to, whatever the file says. Compared
    with it is only what a flush leaves no trace of: parts that are gone altogether, and chains that are empty. A hook that has lost
    the first place to somebody is no damage, one that stands twice is.
    """
    if live.hiding:
        return []  # somebody wrote to the table with nft; iptables cannot show it, and nothing can be said
    tables = {name: live.own_chains(name) for name in HOOKS if live.own_chains(name)}
    policy, generation = read_policy(family, tables, "filter")
    wanted = assemble(policy, generation or generations(policy.mask)[0])
    found = []
    for name in HOOKS:
        if tables.get(name, {}) != wanted.get(name, {}):
            found.append(f"chains of table {name}")
        elif name in wanted and not live.table(name).hooks:
            found.append(f"the hook in {HOOKS[name].builtin} of table {name}")
        # FreePBX loads its file although the rules are there again, and limits count twice.
        elif len(live.table(name).hooks) > 1:
            found.append(f"one hook only in {HOOKS[name].builtin} of table {name}")
    if on_disk is None:
        return found
    meant = policy_of(family, on_disk)
    found += [slot for slot in meant.members if slot not in policy.members]
    found += [f"the drop of {base}" for base in sorted(meant.drops - policy.drops)]
    chains = {chain: rules for part in tables.values() for chain, rules in part.items()}
    for table in on_disk.tables.values():
        found += [f"the rules of {chain}" for chain, rules in table.chains.items() if rules and chains.get(chain) == ()]
    return found


def create_sets(runner: Runner, store: Store) -> tuple[list[str], list[str]]:
    """Make every set that rules may name which are loaded before ours, and fill those of trusted sources.

    A saved rule that names a missing set keeps iptables-restore from loading any rule. Returns what was done and what went wrong.
    """
    done: list[str] = []
    errors: list[str] = []
    try:
        members = trust.read_file(store)
        if members is not None:
            trust.converge(runner, store, members, present=True, persist=False, check=False)
            done.append("trusted sources loaded")
    except SipguardError as error:
        errors.append(str(error))
    try:
        texts = [store.read(rules_file(family)) or "" for family in FAMILIES] + [_text(path) for path in _SAVED]
        specs = {name: _spec(name) for text in texts for name in _SET_NAME.findall(text)}
        wanted = [spec for spec in specs.values() if spec is not None]
        headers = sets.read_headers(runner) if wanted else {}
        missing = [spec for spec in wanted if spec.name not in headers]
        sets.restore(runner, "".join(f"{spec.create()}\n" for spec in missing))
        done += [f"{spec.name} created" for spec in missing]
    except SipguardError as error:
        errors.append(str(error))
    return done, errors


def _spec(name: str) -> sets.SetSpec | None:
    try:
        return sets.spec(name)
    except SipguardError:
        return None  # somebody else's, or of another release


def _text(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
