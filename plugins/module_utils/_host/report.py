# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``sipguard status`` finds out; nothing here changes anything."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from .._netfilter import sets
from .._netfilter.engine import Engine
from .._netfilter.names import (
    FAMILIES,
    JAILS,
    OBSERVED,
    OBSERVING,
    PROTECTED,
    UNMANAGED,
    UNPROTECTED,
    Family,
    is_own_set,
)
from .._netfilter.persist import Store, boot_loader
from .._netfilter.policy import Member
from .._netfilter.rule import parse_rule
from .._netfilter.ruleset import HOOKS, Ruleset, parse_save
from .._netfilter.runner import Runner, output
from .._sip.errors import SipguardError
from .jails import jail_sets
from .restore import damage, policy_of
from .sipban.client import LISTENS, hears, tell
from .sipban.units import SERVICE

__all__ = ["status"]

_COUNTED = re.compile(r"\[(\d+):\d+\] (-A .*)")
_TOP = 5


def status(runner: Runner, store: Store) -> tuple[dict[str, Any], str, int]:
    """Findings, the same as text, and the exit status: 0 when the kernel holds what the host is meant to have."""
    files = {family: _on_disk(store, family) for family in FAMILIES}
    backends = {found[1] for found in files.values() if isinstance(found, tuple)}
    engine = Engine(runner, backends.pop() if len(backends) == 1 else "auto")
    headers = sets.read_headers(runner)
    families = {family.name: _family_status(engine, files[family], family) for family in engine.families}
    states = {found["state"] for found in families.values()} - {UNMANAGED}
    report = {
        "protected": states == {PROTECTED},
        "observing": OBSERVING in states and states <= {PROTECTED, OBSERVING},
        "backend": engine.backend.name,
        "families": families,
        "boot": boot_loader() or "",
        "repair": _repairs(runner),
        "sipband": _sipband(),
        "sets": {name: headers[name].entries for name in _shown(runner, headers)},
    }
    well = (report["protected"] or report["observing"]) and report["sipband"] in ("", LISTENS)
    return report, _status_text(report), 0 if well else 1


def _sipband() -> str:
    """What sipband does, in a few words; "" where there is none."""
    if not os.path.exists(SERVICE):
        return ""
    found = tell("status")
    if found is None:
        return "does not run, or does not answer (systemctl status sipband)"
    return hears(found)


def _shown(runner: Runner, headers: Mapping[str, sets.SetHeader]) -> list[str]:
    """Our sets, and in the place of the lists the sets of fail2ban's jails that stand in them."""
    lists = [JAILS + family.suffix for family in FAMILIES]
    own = sorted(name for name in headers if is_own_set(name) and name not in lists)
    jails = {name for found in jail_sets(runner, headers).values() for name in found if name in headers}
    return own + sorted(jails)


def _repairs(runner: Runner) -> bool:
    """Whether the service that puts back what others flush is running."""
    systemctl = runner.which("systemctl")
    if systemctl is None or not os.path.isdir("/run/systemd/system"):
        return False
    return runner.run([systemctl, "is-active", "--quiet", "sipguard-repair.service"]).returncode == 0


def _on_disk(store: Store, family: Family) -> tuple[Ruleset, str] | SipguardError | None:
    """A family's file for the next boot; one that is damaged must not hide what the kernel does now."""
    try:
        return store.read_rules(family)
    except SipguardError as error:
        return error


def _family_status(
    engine: Engine, on_disk: tuple[Ruleset, str] | SipguardError | None, family: Family
) -> dict[str, Any]:
    lines = output(engine.runner, [engine.backend.command(family, "save"), "--counters"]).split("\n")
    counted = [found.groups() for line in lines if (found := _COUNTED.match(line))]
    live = parse_save("\n".join(_COUNTED.sub(r"\2", line) for line in lines))
    policy = policy_of(family, live)
    stopped = observed = 0
    signatures: dict[str, int] = {}
    for packets, line in counted:
        if not line.startswith("-A SIPGUARD"):
            continue
        rule = parse_rule(line)
        if rule.target in ("DROP", "REJECT"):
            stopped += int(packets)
        if rule.target == "SET" and any(
            option.values[:1] == (OBSERVED + family.suffix,) for option in rule.target_options
        ):
            observed += int(packets)
        remark = rule.match("comment")
        if remark is not None and int(packets):
            name = remark.options[0].values[0]
            signatures[name] = signatures.get(name, 0) + int(packets)
    top = sorted(signatures.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
    return {
        "state": _state(live, on_disk, family),
        "table": policy.table,
        "members": list(policy.members),
        "stopping": [slot for slot, member in policy.members.items() if _stops(member)],
        "tls_ports": sorted({each.ports for member in policy.members.values() for each in member.handshakes}),
        "rules": sum(len(rules) for name in HOOKS for rules in live.own_chains(name).values()),
        "stopped_packets": stopped,
        "observed_packets": observed,
        "top": [{"signature": name, "packets": packets} for name, packets in top],
    }


def _stops(member: Member) -> bool:
    """Whether it drops or rejects anything; one that observes does not."""
    return any(rule.target in ("DROP", "REJECT") for rules in member.chains.values() for rule in rules)


def _state(live: Ruleset, on_disk: tuple[Ruleset, str] | SipguardError | None, family: Family) -> str:
    """Whether the live rules are whole, stop anything at all, and are those of the next boot."""
    policy = policy_of(family, live)
    if not policy.members and not policy.drops:
        return UNMANAGED if on_disk is None else UNPROTECTED
    missing = damage(family, live)
    if missing:
        return f"edited by somebody, or damaged: {', '.join(missing)}"
    for name, hook in HOOKS.items():
        table = live.table(name)
        if hook.chain in table.chains and not table.hooked():
            before = table.before_hook[0] if table.before_hook else hook.render()
            return f"not first in {hook.builtin} of table {name}: {before} stands there; the next run puts it right"
    if isinstance(on_disk, SipguardError):
        return f"not safe at the next boot: {on_disk}"
    if on_disk is not None and policy_of(family, on_disk[0]) != policy:
        return "not as at the next boot"
    stops = any(
        rule.target in ("DROP", "REJECT")
        for name in HOOKS
        for found in live.own_chains(name).values()
        for rule in found
    )
    return PROTECTED if stops else OBSERVING


def _status_text(report: dict[str, Any]) -> str:
    head = (
        "protected"
        if report["protected"]
        else "OBSERVING, nothing is stopped"
        if report["observing"]
        else "NOT PROTECTED"
    )
    lines = [f"sipguard: {head} (iptables-{report['backend']})"]
    for name, found in report["families"].items():
        lines.append(
            f"  {name}: {found['state']}, {found['rules']} rules in {found['table']}, "
            f"{found['stopped_packets']} packets stopped, {found['observed_packets']} observed"
        )
        lines += [f"    {entry['packets']:>8}  {entry['signature']}" for entry in found["top"]]
    if report["sipband"]:
        lines.append(f"  sipband: {report['sipband']}")
    lines += [f"  {name}: {entries} entries" for name, entries in report["sets"].items()]
    boot = f"loaded by {report['boot']}" if report["boot"] else "NOTHING loads the rules"
    flushed = "put back by sipguard-repair.service" if report["repair"] else "not put back"
    lines.append(f"  at boot: {boot}; rules that another program flushes: {flushed}")
    return "\n".join(lines)
