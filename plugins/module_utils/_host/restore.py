# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading what is on disk: sets first, then rules. Each family by itself, so that one damaged file costs one family only."""

from __future__ import annotations

from .._netfilter import trust
from .._netfilter.engine import Engine
from .._netfilter.names import FAMILIES
from .._netfilter.persist import Store
from .._netfilter.policy import read_policy
from .._netfilter.ruleset import HOOKS
from .._netfilter.runner import Runner
from .._sip.errors import SipguardError

__all__ = ["restore"]


def restore(runner: Runner, store: Store) -> tuple[list[str], list[str]]:
    """Bring the kernel to what the files say; what is already right stays untouched.

    Returns what was done and what went wrong, a sentence each. Rules of a family without a file are left alone.
    """
    done: list[str] = []
    errors: list[str] = []
    try:
        members = trust.read_file(store)
        if members is not None:
            outcome = trust.converge(runner, store, members, present=True, persist=False, check=False)
            done.append(f"trusted sources {'loaded' if outcome.changed else 'unchanged'}")
    except SipguardError as error:
        errors.append(str(error))
    for family in FAMILIES:
        try:
            found = store.read_rules(family)
            if found is None:
                continue
            ruleset, backend = found
            engine = Engine(runner, backend)
            if family not in engine.families:
                done.append(f"{family.name} rules not loaded: this kernel has no {family.name}")
                continue
            snapshot = engine.snapshot()
            tables = {name: ruleset.own_chains(name) for name in HOOKS}
            targets = {other: snapshot.policy(other, "filter") for other in engine.families}
            targets[family] = read_policy(family, tables, "filter")[0]
            outcome = engine.converge(targets, snapshot, persist=False, check=False)
            done.append(
                f"{family.name} rules {'loaded' if outcome.changed else 'unchanged'}: {outcome.rules[family.name]}"
            )
        except SipguardError as error:
            errors.append(f"{family.name} is not protected: {error}")
    if not done and not errors:
        done.append("nothing to load: /etc/sipguard holds no rules")
    return done, errors
