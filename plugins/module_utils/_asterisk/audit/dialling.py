# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that leave through a trunk: who can make them, and what asks first. No pattern is shown, because one may hold a secret prefix."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..tree import Place, fold
from . import guests, objects
from .context import Context
from .dialplan import MAYBE, NO, YES, Dialplan, Extension, Out, read, split, wild
from .finding import CRITICAL, HIGH, INFO, LOW, MEDIUM, Findings, Kind, kind

__all__ = ["check"]

GUEST = kind(
    "guest-can-dial-out",
    CRITICAL,
    "Strangers can call at your expense",
    "A context that a request without a secret gets into leads, by its includes and jumps, to a Dial of a trunk.",
    "Give guests a context that ends every call: exten => _X.,1,Hangup(21).",
)
DEFAULT = kind(
    "default-context-dials-out",
    MEDIUM,
    "The context of whoever has none can dial out",
    "What names no context of its own gets this one: a forgotten line, a new peer, a user of another channel driver.",
    "Let the default context end every call, and name a context in every endpoint.",
)
PIN = kind(
    "pstn-without-pin",
    MEDIUM,
    "The public network without a PIN or a secret prefix",
    "Whoever has taken over one phone calls numbers that pay him, until the credit is used up.",
    "Let Authenticate, or the guard of this collection (sipguard-*), ask first; or use a secret prefix of four characters or more.",
)
INTERNATIONAL = kind(
    "international-unrestricted",
    HIGH,
    "International numbers without restriction",
    "Numbers that begin with 00, 011 or + are what stolen phones call: premium numbers abroad cost several euros a minute.",
    "Refuse them by patterns of their own (_00X., _011X., _+X.) with exceptions for the countries that are called, or ask for a PIN.",
)
LIMIT = kind(
    "no-call-limit",
    MEDIUM,
    "Calls to a trunk may last for ever",
    "A hung or a hijacked call goes on, and costs, until somebody notices.",
    "Set TIMEOUT(absolute), or option L() or S() of Dial.",
)
CATCH_ALL = kind(
    "catch-all-pattern",
    LOW,
    "The pattern _. takes everything",
    "It also takes i, t, h and s, and every character that a SIP address may hold: loops and surprises come from that.",
    "Use _X. or, better, patterns of the length of real numbers.",
)
SHELL = kind(
    "dialplan-shell-injection",
    HIGH,
    "What a caller sends reaches a shell",
    "System, TrySystem and SHELL run a shell; the number or name that a caller sends can hold any character.",
    "Filter it first: ${FILTER(0-9,${EXTEN})}. Asterisk's README-SERIOUSLY.bestpractices says how.",
)
INJECTION = kind(
    "dialplan-injection",
    MEDIUM,
    "What a caller sends reaches Dial unfiltered",
    "A pattern that ends in . or ! takes any character; & in a number makes Dial call something else besides (AST-2010-002).",
    "Dial ${FILTER(0-9+,${EXTEN})}, or use patterns of a fixed length.",
)
DISA = kind(
    "disa-without-password",
    HIGH,
    "DISA without a password",
    "DISA gives a caller a dial tone in a context of the PBX. Without a password that is everybody who calls.",
    "Give DISA a password, or remove it.",
)
TRANSFER = kind(
    "transfer-from-outside",
    MEDIUM,
    "Whoever is outside may transfer the call",
    "Option t lets the called party transfer, T the caller: on a call over a trunk that is somebody outside, and the new call is yours.",
    "On calls to a trunk leave t out, on calls from a trunk T.",
)
ELSEWHERE = kind(
    "dialplan-elsewhere",
    INFO,
    "A part of the dialplan that is not read here",
    "AEL, Lua and switches to other dialplans are not judged.",
    "Check by hand who reaches a trunk from there.",
)

_ABROAD = (
    "00447700900123",
    "011447700900123",
    "+447700900123",
    "900447700900123",
    "9011447700900123",
    "000447700900123",
    "9+447700900123",
)
_SECRET_PREFIX = 4


def check(context: Context, findings: Findings) -> None:
    tree = context.tree("extensions.conf")
    if not tree.exists:
        return
    plan = read(tree)
    phones: dict[str, Place] = {}
    trunk_contexts: set[str] = set()
    names: tuple[set[str], set[str]] = set(), set()
    _landings(context, phones, trunk_contexts, names)
    plan.trunks, plan.phones = frozenset(names[0]), frozenset(names[1] - names[0])
    # FreePBX asks for the PIN of a route in ways that cannot be seen here
    least = MAYBE if context.freepbx else NO
    reported = _guests(context, plan, findings, least)
    _defaults(context, plan, reported, findings, least)
    _phones(plan, phones, findings, least)
    _limits(plan, {*phones, *reported}, findings, least)
    _everywhere(plan, trunk_contexts, findings)
    for each in plan.contexts.values():
        if each.switched:
            findings.add(ELSEWHERE, each.name, each.place)


def _landings(
    context: Context, phones: dict[str, Place], trunk_contexts: set[str], names: tuple[set[str], set[str]]
) -> None:
    """Contexts in which phones and trunks land, and the names of both."""
    trunks, others = names
    if context.pjsip:
        made = objects.pjsip(context)
        trunks.update(made.trunks)
        for endpoint in made.of("endpoint"):
            where = endpoint.value("context", default="default")
            if endpoint.name in made.trunks:
                trunk_contexts.add(where)
            else:
                others.add(endpoint.name)
                if made.inbound_auths.get(endpoint.name):
                    phones.setdefault(where, endpoint.where("context"))
    if context.chan_sip:
        default = context.first("sip.conf").value("context", default="default")
        for peer in objects.sip_peers(context):
            where = peer.value("context", default=default)
            if objects.sip_is_trunk(peer):
                trunks.add(peer.name)
                trunk_contexts.add(where)
            else:
                others.add(peer.name)
                phones.setdefault(where, peer.where("context"))
    if context.iax:
        for peer in context.sections("iax.conf"):
            host = fold(peer.value("host"))
            if fold(peer.value("type")) in ("peer", "friend") and host and host != "dynamic":
                trunks.add(peer.name)
            if fold(peer.value("type")) in ("user", "friend"):
                for variable in peer.all("context"):
                    phones.setdefault(variable.value, variable.place)


def _open(outs: Iterable[Out], least: int) -> list[tuple[Out, bool]]:
    """The calls that nothing surely guards, and whether both that and the trunk are sure."""
    return [(each, each.sure and max(each.guard, least) == NO) for each in outs if each.guard != YES]


def _worst(outs: Iterable[tuple[Out, bool]]) -> tuple[Out, bool] | None:
    return min(outs, key=lambda each: not each[1], default=None)


def _guests(context: Context, plan: Dialplan, findings: Findings, least: int) -> set[str]:
    reported = set()
    for name, who, dummy in guests.contexts(context):
        found = _worst(_open(plan.outs(name), least))
        reported.add(name)
        if found:
            findings.add(
                GUEST,
                name,
                found[0].place,
                detail=f"{who} land there" + _doubt(found[1]),
                severity=CRITICAL if found[1] else HIGH,
            )
    return reported


def _doubt(sure: bool) -> str:
    return "" if sure else "; not sure, it depends on the call"


def _defaults(context: Context, plan: Dialplan, reported: set[str], findings: Findings, least: int) -> None:
    names = {}
    if context.chan_sip:
        general = context.first("sip.conf")
        names[general.value("context", default="default")] = general.where("context")
    if context.pjsip:
        for endpoint in objects.pjsip(context).of("endpoint"):
            if not endpoint.value("context"):
                names.setdefault("default", endpoint.place)
    for name, place in names.items():
        found = _worst(_open(plan.outs(name), least))
        if found and name not in reported:
            findings.add(DEFAULT, name, place, detail=_doubt(found[1])[2:], severity=MEDIUM if found[1] else LOW)


def _phones(plan: Dialplan, phones: dict[str, Place], findings: Findings, least: int) -> None:
    for name in phones:
        for context, extension in plan.patterns(name):
            if wild(extension.pattern):
                _report(PIN, name, _without_prefix(plan, context.name, extension), findings, least, (MEDIUM, LOW))
        for number in _ABROAD:
            chosen = plan.chosen(name, number)
            if chosen and wild(chosen[1].pattern):
                outs = _without_prefix(plan, chosen[0].name, chosen[1])
                abroad = [each for each in outs if _is_abroad(each, number, chosen[0].name, chosen[1].pattern)]
                _report(INTERNATIONAL, name, abroad, findings, least, (HIGH, LOW))


def _is_abroad(out: Out, number: str, context: str, pattern: str) -> bool:
    """Whether what reaches the trunk begins as an international number does."""
    cuts = re.sub(r"\$\{FILTER\([^,{}]*,(\$\{EXTEN[^{}]*\})\)\}", r"\1", out.number)
    dialled = re.sub(r"\$\{EXTEN(?::(\d{1,2}))?\}", lambda cut: number[int(cut[1] or 0) :], cuts)
    # where a jump led elsewhere, it may have cut the number already
    told = [dialled] if out.context == context else [dialled, dialled[1:]]
    if "${" in dialled:
        told = [number, number[1:]]
    # with 0 before every national number, 011 is a town and 00 is what goes abroad
    american = not pattern.startswith("_0") or pattern.startswith("_011")
    return any(each.startswith(("00", "+")) or (american and each.startswith("011")) for each in told)


def _report(
    found: Kind, name: str, outs: Iterable[Out], findings: Findings, least: int, severities: tuple[str, str]
) -> None:
    for out, sure in _open(outs, least):
        findings.add(found, name, out.place, severity=severities[0 if sure else 1], detail=_doubt(sure)[2:])


def _without_prefix(plan: Dialplan, context: str, extension: Extension) -> list[Out]:
    """The calls that an extension leads to, but for those for which a prefix was dialled that is long enough to be a secret."""
    prefix = re.match(r"_?[^XxZzNn\[.!]*", extension.pattern)
    length = len(prefix[0].lstrip("_")) if prefix else 0
    made = []
    for out in plan.outs(context, extension.pattern):
        cut = re.search(r"\$\{EXTEN:(\d{1,3})", out.number)
        if not (cut and length >= int(cut[1]) >= _SECRET_PREFIX):
            made.append(out)
    return made


def _limits(plan: Dialplan, names: set[str], findings: Findings, least: int) -> None:
    for name in sorted(names):
        for out in plan.outs(name):
            if not out.limited:
                sure = out.sure and least == NO
                findings.add(LIMIT, out.context, out.place, severity=MEDIUM if sure else LOW, detail=_doubt(sure)[2:])


def _everywhere(plan: Dialplan, trunk_contexts: set[str], findings: Findings) -> None:
    """What is a mistake in any context."""
    from_trunk = {context.name for name in trunk_contexts for context in plan.closure(name)}
    for context in plan.contexts.values():
        for extension in context.extensions.values():
            if extension.pattern in ("_.", "_!"):
                findings.add(CATCH_ALL, context.name, extension.place)
            loose = extension.pattern.startswith("_") and extension.pattern[-1] in ".!"
            for step in extension.steps:
                args = step.args
                runs = step.app in ("system", "trysystem") or "SHELL(" in args
                named = "${CALLERID(" in args or (loose and "${EXTEN" in args)
                if runs and named and "FILTER(" not in args:
                    findings.add(SHELL, context.name, step.place)
                if step.app == "disa" and fold(split(args)[0]) in ("", "no-password"):
                    findings.add(DISA, context.name, step.place)
                if step.app == "dial":
                    _dial(plan, context.name, args, step.place, loose, context.name in from_trunk, findings)


def _dial(
    plan: Dialplan, name: str, args: str, place: Place, loose: bool, from_trunk: bool, findings: Findings
) -> None:
    parts = split(args)
    flags = _flags(parts[2] if len(parts) > 2 else "")
    leaves, sure = False, False
    for device in split(parts[0], "&"):
        technology, dummy, rest = device.partition("/")
        number, certain = plan.leads(fold(technology), rest)
        leaves, sure = leaves or bool(number), sure or certain
    if loose and "${EXTEN" in parts[0] and "FILTER(" not in parts[0]:
        findings.add(INJECTION, name, place)
    if (leaves and "t" in flags) or (from_trunk and not leaves and "T" in flags):
        findings.add(TRANSFER, name, place, severity=MEDIUM if sure or not leaves else LOW)


def _flags(options: str) -> str:
    """The letters of Dial's options without their arguments."""
    kept, depth = [], 0
    for char in options:
        depth += (char in "({") - (char in ")}")
        if depth <= 0 and char.isalpha():
            kept.append(char)
    return "".join(kept)
