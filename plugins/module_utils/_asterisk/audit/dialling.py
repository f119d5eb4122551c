# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that leave through a trunk: who can make them, and what asks first. No pattern is shown, because one may hold a secret prefix."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..dialplan_numbers import COUNTRIES, RISKY
from ..tree import Place, fold
from . import guests, objects
from .context import Context
from .dialplan import MAYBE, NO, YES, Dialplan, Extension, Out, Step, calls, has_password, inner, split, wild
from .finding import CRITICAL, HIGH, INFO, LOW, MEDIUM, Findings, Kind, kind
from .landings import landings

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
RISKY_NUMBERS = kind(
    "risky-numbers-unrestricted",
    MEDIUM,
    "Numbers that are known for fraud can be called",
    "Satellite telephones and some countries are where fraud earns its money. The Caribbean (+1 876, +1 809 and others) is dialled like "
    "a national number from North America.",
    "Refuse these prefixes by patterns of their own, ask for a PIN, or use the guard of this collection (sipguard-*), which knows them.",
)
THROUGH = kind(
    "trunk-reaches-trunk",
    HIGH,
    "Callers from outside get out again",
    "The context of a trunk leads, by its includes, jumps or a number that is read, to a Dial of a trunk with a number that the caller "
    "chooses: whoever calls you telephones at your expense.",
    "Let the contexts of trunks reach phones alone, or forward to fixed numbers; ask with Authenticate before everything else.",
)
PASSWORD = kind(
    "password-in-dialplan",
    MEDIUM,
    "A password stands in the dialplan",
    "user:password@host in Dial is shown by dialplan show, in the log and in the records of calls.",
    "Make a peer or an endpoint with outbound_auth of it, and dial that by its name.",
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
_LOCAL = "2345678"
# patterns as North America writes them: 1 and ten digits, or the ten digits alone
_AMERICAN = re.compile(r"_[+89]?(?:1(?:[2-9NnXx\[]|[.!]$)|(?:[Nn]|\[2-9\])[Xx]{2}(?:[Nn]|\[2-9\]|[Xx]{7}$))")


def _risky() -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """For each risky prefix numbers as they are dialled abroad, and as North America dials them, if they are among its own."""
    made = []
    for prefixes, dummy in RISKY:
        for prefix in prefixes:
            digits = prefix[1:] + _LOCAL
            abroad = tuple(front + digits for front in ("00", "011", "+", "000", "900", "9011"))
            home = tuple(front + each for each in (digits, digits[1:]) for front in ("", "9", "8"))
            made.append((abroad, (*home, f"+{digits}") if prefix.startswith("+1") else ()))
    return tuple(made)


def _premium_numbers() -> dict[str, frozenset[str]]:
    """Premium numbers by country, as they are dialled there."""
    made: dict[str, frozenset[str]] = {}
    for code, country in COUNTRIES.items():
        numbers: set[str] = set()
        for each in country.premium:
            whole = each.endswith("$")
            prefix = each.rstrip("$").replace("N", "2").replace("X", "2")
            if not prefix.startswith("+"):
                numbers.update((prefix,) if whole else (prefix, prefix + "22", prefix + "222"))
                continue
            rest = prefix[1 + len(country.code) :]
            # North America dials the ten digits with 1 before them or without it; others after a 0, and in two lengths
            lengths = (len(rest),) if whole else (10,) if country.trunk == "1" else (country.full, country.full + 1)
            for length in lengths:
                number = (rest + "23456789012")[: max(length, len(rest))]
                numbers.add(country.trunk + number)
                if country.trunk == "1":
                    numbers.add(number)
        made[code] = frozenset(numbers)
    return made


_RISKY, _PREMIUM = _risky(), _premium_numbers()
_PROBES = frozenset(
    [
        *_ABROAD,
        *(number for abroad, home in _RISKY for number in (*abroad, *home)),
        *(front + number for numbers in _PREMIUM.values() for number in numbers for front in ("", "9", "0")),
    ]
)


def check(context: Context, findings: Findings) -> None:
    tree = context.tree("extensions.conf")
    if not tree.exists:
        return
    found = landings(context)
    plan = found.plan
    # FreePBX asks for the PIN of a route in ways that cannot be seen here
    least = MAYBE if context.freepbx else NO
    reported = _guests(context, plan, findings, least)
    _defaults(context, plan, reported, findings, least)
    _phones(plan, found.phones, findings, least)
    _through(plan, found.outside, findings, least)
    _limits(plan, {*found.phones, *reported}, findings, least)
    _everywhere(plan, found.trunks, findings)
    for each in plan.contexts.values():
        if each.switched:
            findings.add(ELSEWHERE, each.name, each.place)


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
    seen: dict[tuple[str, ...], _Dear] = {}
    for name in phones:
        # thousands of contexts include the same ones, and differ in the extension of a phone alone
        key = tuple(
            each.name for each in plan.closure(name) if each.patterns() or not _PROBES.isdisjoint(each.extensions)
        )
        if key not in seen:
            seen[key] = _dear(plan, name, least)
        dear = seen[key]
        _report(INTERNATIONAL, name, dear.international, findings, least, (HIGH, LOW))
        _report(RISKY_NUMBERS, name, dear.risky, findings, least, (MEDIUM, LOW))
        for context, extension in plan.patterns(name):
            if wild(extension.pattern):
                outs = _without_prefix(plan, context.name, extension)
                cheap = [each for each in outs if each.limited and not dear.any]
                detail = "international and premium numbers cannot be called, and calls are limited"
                _report(PIN, name, cheap, findings, least, (LOW, LOW), detail)
                _report(PIN, name, [each for each in outs if each not in cheap], findings, least, (MEDIUM, LOW))


@dataclass(frozen=True)
class _Dear:
    """The calls from a context to numbers that cost much, and whether nothing guards one of them or one to a premium number."""

    international: list[Out]
    risky: list[Out]
    any: bool


def _dear(plan: Dialplan, name: str, least: int) -> _Dear:
    international = [
        out
        for number in _ABROAD
        for context, pattern, outs in _reached(plan, name, number)
        for out in outs
        if _is_abroad(out, number, context, pattern)
    ]
    told = {each.place for each in international}
    risky = []
    for abroad, home in _RISKY:
        for number in (*abroad, *home):
            for context, pattern, outs in _reached(plan, name, number):
                for out in outs:
                    arrives = (
                        _is_american(out, number, pattern)
                        if number in home
                        else _is_abroad(out, number, context, pattern)
                    )
                    if arrives and out.place not in told:
                        risky.append(out)
    some = bool(_open([*international, *risky], least)) or _premium(plan, name, least)
    return _Dear(list(dict.fromkeys(international)), list(dict.fromkeys(risky)), some)


def _reached(plan: Dialplan, name: str, number: str) -> list[tuple[str, str, list[Out]]]:
    """The context and pattern that a number gets, and the calls to a trunk that they lead to; nothing when there are none."""
    chosen = plan.chosen(name, number)
    if not chosen or not wild(chosen[1].pattern):
        return []
    return [(chosen[0].name, chosen[1].pattern, _without_prefix(plan, chosen[0].name, chosen[1]))]


def _premium(plan: Dialplan, name: str, least: int) -> bool:
    """Whether premium numbers can be called from a context, in whichever country it is of those whose patterns look like it."""
    american = any(_AMERICAN.match(each.pattern) for dummy, each in plan.patterns(name) if wild(each.pattern))
    return all(
        any(
            _open((out for out in outs if _is_home(out, front + number, number)), least)
            for number in numbers
            for front in ("", "9", "0")
            for dummy, dummy2, outs in _reached(plan, name, front + number)
        )
        for code, numbers in _PREMIUM.items()
        if american == (code == "us")
    )


def _through(plan: Dialplan, outside: dict[str, Place], findings: Findings, least: int) -> None:
    """Calls from a trunk that leave through one."""
    for name in outside:
        for out, sure in _open(plan.outs(name), least):
            if out.chosen:
                findings.add(THROUGH, name, out.place, severity=HIGH if sure else MEDIUM, detail=_doubt(sure)[2:])


def _arrived(out: Out, number: str) -> str:
    """What reaches the trunk when a number is dialled; "" if that cannot be told."""
    cuts = re.sub(r"\$\{FILTER\([^,{}]*,(\$\{EXTEN[^{}]*\})\)\}", r"\1", out.number)
    dialled = re.sub(r"\$\{EXTEN(?::(\d{1,2}))?\}", lambda cut: number[int(cut[1] or 0) :], cuts)
    return "" if "${" in dialled else dialled


def _is_home(out: Out, dialled: str, number: str) -> bool:
    """Whether a national number arrives as such, with or without the digit for a line. What cannot be told is taken for it."""
    arrived = _arrived(out, dialled) or number
    return number in (arrived, arrived[1:])


def _is_american(out: Out, number: str, pattern: str) -> bool:
    """Whether a number of the Caribbean arrives as one: the plan has to be that of North America."""
    plain = _AMERICAN.match(pattern) or re.match(r"\+?1\$\{", out.number)
    return bool(plain) and (_arrived(out, number) or number).endswith(number[-10:])


def _is_abroad(out: Out, number: str, context: str, pattern: str) -> bool:
    """Whether what reaches the trunk begins as an international number does."""
    dialled = _arrived(out, number)
    # where a jump led elsewhere, it may have cut the number already
    told = [dialled] if dialled and out.context == context else [dialled or number, (dialled or number)[1:]]
    # with 0 before every national number, 011 is a town and 00 is what goes abroad
    american = not pattern.startswith("_0") or pattern.startswith("_011")
    return any(each.startswith(("00", "+")) or (american and each.startswith("011")) for each in told)


def _report(
    found: Kind,
    name: str,
    outs: Iterable[Out],
    findings: Findings,
    least: int,
    severities: tuple[str, str],
    detail: str = "",
) -> None:
    for out, sure in _open(outs, least):
        findings.add(found, name, out.place, severity=severities[0 if sure else 1], detail=detail or _doubt(sure)[2:])


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
                if any(
                    has_password(technology, rest) for each in _inside(step) for technology, rest, dummy in calls(each)
                ):
                    findings.add(PASSWORD, context.name, step.place)
                if step.app == "dial":
                    _dial(plan, context.name, step, loose, context.name in from_trunk, findings)


def _inside(step: Step) -> list[Step]:
    """A step, or those that it runs on a condition."""
    if step.app not in ("execif", "tryexec", "exec"):
        return [step]
    return [replace(step, app=app, args=args) for app, args in inner(step.app, step.args)]


def _dial(plan: Dialplan, name: str, step: Step, loose: bool, from_trunk: bool, findings: Findings) -> None:
    parts = split(step.args)
    flags = _flags(parts[2] if len(parts) > 2 else "")
    leaves, sure = False, False
    for technology, rest, certain in calls(step):
        number, known = plan.leads(technology, rest)
        leaves, sure = leaves or bool(number), sure or (known and certain)
    if loose and "${EXTEN" in parts[0] and "FILTER(" not in parts[0]:
        findings.add(INJECTION, name, step.place)
    if (leaves and "t" in flags) or (from_trunk and not leaves and "T" in flags):
        findings.add(TRANSFER, name, step.place, severity=MEDIUM if sure or not leaves else LOW)


def _flags(options: str) -> str:
    """The letters of Dial's options without their arguments."""
    kept, depth = [], 0
    for char in options:
        depth += (char in "({") - (char in ")}")
        if depth <= 0 and char.isalpha():
            kept.append(char)
    return "".join(kept)
