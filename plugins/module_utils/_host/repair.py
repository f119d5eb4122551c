# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting back what another program has flushed: once, or whenever it happens.

What is whole is left alone, whatever the files say: the rules of a run with ``persist: false`` are no damage. What is not becomes
what the files say, by the code that runs at boot.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .._netfilter import blocklist, trust
from .._netfilter.backend import Fingerprint
from .._netfilter.engine import DEFAULT_LOCK_TIMEOUT, Engine
from .._netfilter.lists import Lists
from .._netfilter.lock import exclusive
from .._netfilter.names import FAMILIES, TRUSTED, Family
from .._netfilter.persist import Store, rules_file
from .._netfilter.ruleset import Ruleset
from .._netfilter.runner import Runner
from .._sip.errors import SipguardError
from .restore import damage, drops_wanted, live_rules, policy_of, restore
from .switch import Switch

__all__ = ["Repair", "repair", "watch"]

INTERVAL = 3.0  # s between two looks at the fingerprint
PAUSE = 60.0  # s until the next attempt after one that failed, or when somebody keeps flushing
MANY, WINDOW = 10, 600.0  # so many repairs within so many seconds are a quarrel with another program
# A look at the rules themselves may take this share of one processor while somebody changes rules of his own all the time, but
# never comes later than this.
_SHARE, _LATEST = 0.05, 6.0

WARNING, CRITICAL = 4, 2  # syslog(3)


@dataclass
class Repair:
    """What was missing, what was done about it and what went wrong, a sentence or a few words each."""

    missing: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def repair(runner: Runner, store: Store) -> Repair:
    """Look once, and put back what is gone. Raises SipguardError when it cannot be found out."""
    done = Switch(runner).settle_overdue()
    with exclusive(DEFAULT_LOCK_TIMEOUT):
        missing = list(_missing(runner, store))
        if not missing:
            return Repair([], done)
        loaded, errors = restore(runner, store)
        if not errors:
            errors = [f"still missing: {part}" for part in _missing(runner, store)]
        return Repair(missing, done + [line for line in loaded if " unchanged" not in line], errors)


def _missing(runner: Runner, store: Store) -> Iterator[str]:
    """What is missing in the kernel, a few words each. Raises SipguardError."""
    on_disk: dict[Family, Ruleset] = {}
    lost: set[Family] = set()
    backends = set()
    for family in FAMILIES:
        try:
            found = store.read_rules(family)
            if found is not None:
                on_disk[family] = found[0]
                backends.add(found[1])
            elif rules_file(family) in store.listed():
                lost.add(family)
        except SipguardError:
            lost.add(family)
    engine = Engine(runner, backends.pop() if len(backends) == 1 else "auto")
    snapshot = engine.snapshot()
    for family in engine.families:
        live = live_rules(snapshot, family)
        for part in damage(family, live, on_disk.get(family)):
            yield f"{family.name}: {part}"
        for base in sorted(drops_wanted(family, snapshot.headers) - policy_of(family, live).drops):
            yield f"{family.name}: the rule that looks into {base}"
        if family in lost and not live.hiding and not policy_of(family, live).members:
            yield f"{family.name}: every rule, and the file to load them from"
    if blocklist.missing(snapshot.headers, Lists().directory):
        yield "the blocked sources"
    try:
        members = trust.read_file(store) or {}
    except SipguardError:
        return
    for family, wanted in members.items():
        header = snapshot.headers.get(TRUSTED + family.suffix)
        if wanted and (header is None or not header.entries):
            yield f"{family.name}: the trusted sources"


def watch(runner: Runner, store: Store, log: Callable[[int, str], None]) -> None:
    """Look whenever the fingerprint changes, until a signal says that it is enough. ``log`` takes a priority and a sentence."""
    enough = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, enough)  # a repair that has begun is carried out
    watcher = Watcher(runner, store, log)
    while signal.sigtimedwait(enough, INTERVAL) is None:
        watcher.look()


class Watcher:
    """What is remembered from one look to the next."""

    def __init__(self, runner: Runner, store: Store, log: Callable[[int, str], None]) -> None:
        self._runner, self._store, self._log = runner, store, log
        self._fingerprint = Fingerprint()
        self._seen: tuple[object, ...] | None = None
        self._not_before = 0.0
        self._repairs: deque[float] = deque()
        self._errors: list[str] = []

    def look(self) -> None:
        """Repair if the fingerprint has changed since the last look, and it is not too soon."""
        began = time.monotonic()
        seen = self._fingerprint.read()
        if began < self._not_before or seen == self._seen:
            return
        try:
            result = repair(self._runner, self._store)
        except SipguardError as error:
            result = Repair(errors=[str(error)])
        took = time.monotonic() - began
        self._seen = None if result.errors else seen
        self._not_before = began + (PAUSE if result.errors else min(took / _SHARE, _LATEST))
        self._report(result)
        if result.missing and result.done:
            self._count(began)

    def _report(self, result: Repair) -> None:
        known = result.errors == self._errors
        self._errors = result.errors
        if result.missing and (result.done or not known):
            self._log(
                WARNING, f"missing were {', '.join(result.missing)}: {'; '.join(result.done) or 'nothing was put back'}"
            )
        elif result.done:
            self._log(WARNING, "; ".join(result.done))
        for error in () if known else result.errors:
            self._log(CRITICAL, error)

    def _count(self, now: float) -> None:
        self._repairs.append(now)
        while self._repairs[0] < now - WINDOW:
            self._repairs.popleft()
        if len(self._repairs) >= MANY:
            self._not_before = now + PAUSE
            self._log(
                CRITICAL,
                f"another program has removed our rules {len(self._repairs)} times within {WINDOW / 60:.0f} minutes; the next look "
                f"is in {PAUSE:.0f} s. Stop that program, use table 'mangle' beside FreePBX's firewall, or stop sipguard-repair.service",
            )
