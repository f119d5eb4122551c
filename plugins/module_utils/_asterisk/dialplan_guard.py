# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guard against toll fraud, as text: options -> the include file for extensions.conf, and the program that asks for the PIN.

What the dialplan is careful about:

- What somebody dials may hold any character. It is never part of an expression or of arguments before it is known to be digits: LEN,
  CUT and FILTER take it as it is, and a number that FILTER would change is refused. Without an argument the guard reads the calling
  extension from the stack (STACK_PEEK), so that a comma in it cannot become a second argument.
- In an expression two numbers are compared as numbers, 0112 equal to 112: each side begins with an n.
- Read(), ReadExten() and Authenticate() with a literal password show digits at verbose 3, in variables (AMI's VarSet) or in the arguments
  of the application; Authenticate() with a file of hashes does not, but knows only MD5 without a salt. AGI's GET DATA shows nothing, so
  a small program asks for the PIN, compares its scrypt, and tells the dialplan no more than right or wrong.
- A call counts from before it is dialled until both of its legs are gone. The caller's channel is in one group and the trunk's leg in
  another, which it joins before it is dialled; the leg stays after the caller has transferred the call and hung up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from .._sip.errors import OptionError
from .dialplan_numbers import COUNTRIES, EMERGENCY, RISKY, Country, canonical_prefix

__all__ = [
    "CONTEXTS",
    "PIN_FOR",
    "SALT_BYTES",
    "Guard",
    "is_ours",
    "masked",
    "pin_file",
    "render",
    "render_pin",
    "reused_pin_salt",
    "reused_prefix_salt",
    "with_include",
    "without_include",
]

CONTEXTS = ("sipguard-guard", "sipguard-leg", "sipguard-numbers", "sipguard-outbound")
PIN_FOR = ("international", "all", "none")
SALT_BYTES = 16
PYTHON = "/usr/bin/python3"

_HEAD = "Written by sipguard.pbx (asterisk_dialplan_guard). Changes made here are overwritten."
# Seconds before somebody who has entered a wrong PIN is asked again, in another call.
_PIN_PAUSE = 60
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}  # 16 MiB and some 50 ms for each try
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,70}")
_TRUNK = re.compile(r"[A-Za-z0-9]+/[A-Za-z0-9/@._:+-]*\{number\}[A-Za-z0-9/@._:+-]*")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True)
class Guard:
    """The options, checked: the constructor raises OptionError. Durations are seconds; 0 and the empty text mean "no limit"."""

    country: str
    access_digit: str = ""
    international: str = "block"
    premium: str = "block"
    blocked: Sequence[str] = ()
    allowed: Sequence[str] = ()
    emergency: Sequence[str] = ()
    pin: str = field(default="", repr=False)
    prefix: str = field(default="", repr=False)
    pin_for: str = "international"
    max_duration: int = 3600
    max_calls: int = 0
    max_calls_per_caller: int = 0
    hours: Sequence[str] = ()
    announcement: str = ""
    trunk: str = ""
    contexts: Sequence[str] = ()

    def __post_init__(self) -> None:
        _choice("country", self.country, tuple(COUNTRIES))
        _choice("international", self.international, ("allow", "block"))
        _choice("premium", self.premium, ("allow", "block"))
        _choice("pin_for", self.pin_for, PIN_FOR)
        if not re.fullmatch(r"[0-9]?", self.access_digit):
            raise OptionError("access_digit", self.access_digit, "one digit is expected, or nothing")
        for number in self.emergency:
            if not re.fullmatch(r"[0-9]{2,6}", number):
                raise OptionError("emergency", number, "a number of 2 to 6 digits is expected, as it is dialled")
        for option in ("blocked", "allowed"):
            for prefix in getattr(self, option):
                canonical_prefix(option, prefix, self.plan)
        self._check_secrets()
        for option, lowest, highest in (
            ("max_duration", 0, 86400),
            ("max_calls", 0, 10000),
            ("max_calls_per_caller", 0, 10000),
        ):
            value = getattr(self, option)
            if not lowest <= value <= highest:
                raise OptionError(option, value, f"a number from {lowest} to {highest} is expected")
        for hours in self.hours:
            _time_range(hours)
        if self.announcement and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_/.-]{0,99}", self.announcement):
            raise OptionError(
                "announcement", self.announcement, "the name of a sound file without its ending is expected"
            )
        if self.trunk and not (_TRUNK.fullmatch(self.trunk) and self.trunk.count("{number}") == 1):
            raise OptionError(
                "trunk", self.trunk, "one dial string with {number} in it is expected, such as 'PJSIP/{number}@carrier'"
            )
        for context in self.contexts:
            if not _NAME.fullmatch(context) or context in (*CONTEXTS, "general", "globals"):
                raise OptionError("contexts", context, "the name of a context of the phones is expected")
        if self.contexts and not self.trunk:
            raise OptionError("contexts", list(self.contexts), "a 'trunk' is needed for the context that they include")

    def _check_secrets(self) -> None:
        # The messages show no value: these are secrets.
        if self.pin and not re.fullmatch(r"[0-9]{6,20}", self.pin):
            raise OptionError("pin", "********", "6 to 20 digits are expected")
        if self.pin and (
            len(set(self.pin)) < 3 or self.pin in "01234567890123456789" or self.pin in "98765432109876543210"
        ):
            raise OptionError(
                "pin",
                "********",
                "a PIN that nobody tries first is expected, not one digit repeated or digits in their order",
            )
        if self.prefix and not re.fullmatch(r"[0-9*#]{3,12}", self.prefix):
            raise OptionError("prefix", "********", "3 to 12 digits, stars or hashes are expected")

    @property
    def plan(self) -> Country:
        return COUNTRIES[self.country]

    @property
    def emergency_numbers(self) -> tuple[str, ...]:
        """Those that nothing ever stops, longest first, each once."""
        return tuple(
            sorted(
                {*EMERGENCY, *self.plan.emergency, *self.plan.advice, *self.emergency},
                key=lambda number: (-len(number), number),
            )
        )

    @property
    def first_extensions(self) -> dict[str, str]:
        """Extension -> emergency number, for those that come before what the phones' contexts hold: of the country, and of the options."""
        return self._dialled({*self.plan.emergency, *self.emergency})

    def _dialled(self, numbers: Collection[str]) -> dict[str, str]:
        """Extension -> number: as it is, and behind the access digit, unless that is a number of its own."""
        ordered = [number for number in self.emergency_numbers if number in numbers]
        found = {number: number for number in ordered}
        for number in ordered if self.access_digit else ():
            found.setdefault(f"{self.access_digit}{number}", number)
        return found


def _choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise OptionError(option, value, f"one of {', '.join(choices)} is expected")


def _time_range(text: str) -> str:
    """ "mon-fri 08:00-18:00" as the condition of GotoIfTime: times, days of the week, days of the month, months."""
    found = _HOURS.fullmatch(text)
    if not found or any(day and day not in _DAYS for day in found.group(1, 2)):
        raise OptionError(
            "hours", text, "times of the day are expected, with days of the week before them: 'mon-fri 08:00-18:00'"
        )
    first, last, *clock = found.groups()
    if clock[:2] >= clock[2:]:
        raise OptionError("hours", text, "the second time has to be later than the first; a night is two entries")
    days = f"{first}-{last}" if last else first or "*"
    return f"{clock[0]}:{clock[1]}-{clock[2]}:{clock[3]},{days},*,*"


def is_ours(data: bytes) -> bool:
    """Whether a file was written here."""
    return _HEAD.encode() in data.partition(b"\n")[0]


def pin_file(file: str) -> str:
    """The program that asks for the PIN: "extensions_sipguard.conf" -> "extensions_sipguard.agi"."""
    return f"{file.rpartition('.')[0]}.agi"


# -- verdicts on numbers

ORDINARY, DEAR = "ordinary", "dear"


def verdicts(guard: Guard) -> dict[str, str]:
    """Pattern of the first digits -> what becomes of the number; the most precise pattern decides, as Asterisk matches.

    `ordinary` and `dear` may pass, the latter after the PIN; everything else names why not.
    """
    plan = guard.plan
    abroad = DEAR if guard.international == "allow" else "no-international"
    premium = DEAR if guard.premium == "allow" else "no-premium"
    # Both permissions are needed: their price is that of a premium number.
    risky = abroad if premium == DEAR else "no-premium"
    table = {"[0-9]": ORDINARY, "[*#]": "no-code", "+X": abroad, "+0": "no-invalid", f"+{plan.code}": ORDINARY}
    table["+1[01]"] = "no-invalid"  # area codes of the North American plan begin with 2 to 9
    if plan.trunk == "0":
        table[f"+{plan.code}0"] = "no-invalid"
    table.update((prefix, "no-code") for prefix in plan.codes)
    table.update((prefix, premium) for prefix in plan.premium)
    table.update((prefix, risky) for prefixes, dummy in RISKY for prefix in prefixes)
    blocked = [canonical_prefix("blocked", prefix, plan) for prefix in guard.blocked]
    table.update((prefix, "no-blocked") for prefix in blocked)
    for text in guard.allowed:
        prefix = canonical_prefix("allowed", text, plan)
        table[prefix] = ORDINARY if _ordinary(prefix, plan) else DEAR
    return table


def _ordinary(prefix: str, plan: Country) -> bool:
    """Whether an exception is a national number at the ordinary rate: those need no PIN where foreign ones do."""
    dear = [*plan.premium, *(each for prefixes, dummy in RISKY for each in prefixes)]
    if any(re.match(each.replace("+", r"\+").replace("X", "[0-9]").replace("N", "[2-9]"), prefix) for each in dear):
        return False
    return prefix.startswith(f"+{plan.code}") or prefix[0].isdigit()


# -- rendering

_RAW = r"-0-9A-Za-z*#+.=_\x20\x28\x29\x3b"  # \x3b is the semicolon before parameters (RFC 3966)
_DIALLED = r"-0-9*#+.\x20\x28\x29"  # visual separators among them
_NOTHING: Mapping[str, Collection[str]] = MappingProxyType({})


class _Lines:
    """The priorities of one extension."""

    def __init__(self, pattern: str) -> None:
        self.lines = [f"exten => {pattern},1,NoOp()"]

    def add(self, application: str, label: str = "") -> None:
        self.lines.append(f" same => n{f'({label})' if label else ''},{application}")

    def local(self, name: str, value: str, label: str = "") -> None:
        self.add(f"Set(LOCAL({name})={value})", label)

    def refuse_if(self, condition: str, why: str) -> None:
        self.add(f"GotoIf($[{condition}]?{why})")


def render(guard: Guard, file: str, prefix_salt: str = "", taken: Mapping[str, Collection[str]] = _NOTHING) -> str:
    """The include file named ``file``. ``prefix_salt`` is needed with a prefix, see ``reused_prefix_salt``.

    ``taken``: context of the phones -> extensions that it has itself, which are not written a second time.
    """
    out = [f"; {_HEAD}", ";"]
    out += _explanation(guard)
    out += ["", "[sipguard-guard]", *_guard(guard, file, prefix_salt)]
    out += ["", "; The trunk's leg of a call, before it is dialled.", "[sipguard-leg]", *_leg(guard)]
    out += ["", "; The first digits decide, the most precise line before others.", "[sipguard-numbers]"]
    out += [f"exten => {_pattern(prefix)},1,Return({verdict})" for prefix, verdict in sorted(verdicts(guard).items())]
    if guard.trunk:
        out += ["", "[sipguard-outbound]", *_outbound(guard)]
    for context in dict.fromkeys(guard.contexts):
        out += ["", f"[{context}]", "include => sipguard-outbound"]
        # A pattern of the context itself comes before what it includes, but not before an extension in full. With extenpatternmatchnew
        # it may come before that, but not before a pattern without wildcards. One priority only: when somebody adds the same extension,
        # one of the two is taken as a whole.
        for extension, number in guard.first_extensions.items():
            full = () if extension in taken.get(context, ()) else (extension, f"_{extension}")
            out += [
                f"exten => {each},1,Goto(sipguard-outbound,{number},1)" for each in (*full, _with_parameters(extension))
            ]
    return "\n".join(out) + "\n"


def _pattern(prefix: str) -> str:
    return f"_{prefix[:-1]}" if prefix.endswith("$") else f"_{prefix}!"


def _with_parameters(extension: str) -> str:
    """The pattern of an extension with parameters behind it (RFC 3966), which PJSIP leaves in the extension."""
    return f"_{extension}\\;!"


def _explanation(guard: Guard) -> list[str]:
    lines = [
        "; Before a Dial of your own:",
        ";     same => n,Gosub(sipguard-guard,s,1)",
        ";     same => n,Dial(PJSIP/${SIPGUARD_NUMBER}@trunk,,${SIPGUARD_DIAL})",
        "; It judges the extension that calls it, or a number that is given: Gosub(sipguard-guard,s,1(${OUTNUM})). It hangs up when the",
        "; call must not be made. SIPGUARD_NUMBER is what it has judged; SIPGUARD_DIAL are options of Dial, to follow the trunk's leg.",
    ]
    if guard.trunk:
        lines.append("; Or, in the context of the phones: include => sipguard-outbound")
    return lines


def _guard(guard: Guard, file: str, prefix_salt: str) -> list[str]:
    say = _Lines("s")
    _read(say)
    _emergency(say, guard)
    if guard.access_digit:
        say.add(f'GotoIf($["${{given}}" = "1" | "n${{clean:0:1}}" != "n{guard.access_digit}"]?inside)')
        say.local("clean", "${clean:1}")
        _emergency(say, guard)
        say.add("NoOp()", "inside")
    if guard.prefix:
        length = len(guard.prefix)
        digest = prefix_digest(guard.prefix, prefix_salt)
        say.local("proved", "0")
        say.add(f'GotoIf($["${{SHA1({prefix_salt}${{clean:0:{length}}})}}" != "{digest}"]?unproved)')
        say.local("proved", "1")
        say.local("clean", f"${{clean:{length}}}")
        _emergency(say, guard)
        say.add("NoOp()", "unproved")
    # Who calls: the channel's name without the number at its end.
    say.local("id", "${FILTER(-0-9A-Za-z/._,${CHANNEL:0:-9})}")
    say.add('GotoIf($["${CHANNEL(channeltype)}" != "Local"]?named)')
    say.local("id", "${FILTER(-0-9A-Za-z/._,${CHANNEL:0:-11})}")
    say.add("NoOp()", "named")
    if guard.hours:
        for hours in guard.hours:
            say.add(f"GotoIfTime({_time_range(hours)}?open)")
        say.add("Goto(closed)")
        say.add("NoOp()", "open")
    _normalise(say, guard)
    _verdict(say)
    _secrets(say, guard, file)
    _caps(say, guard)
    if guard.max_duration:
        # A shorter limit that is set already stays.
        say.local("left", "${TIMEOUT(absolute)}")
        say.add(f"GotoIf($[0${{CUT(left,.,1)}} > 0 & 0${{CUT(left,.,1)}} < {guard.max_duration}]?limited)")
        say.add(f"Set(TIMEOUT(absolute)={guard.max_duration})")
        say.add("NoOp()", "limited")
    say.add("Set(SIPGUARD_NUMBER=${clean})")
    say.add("Set(SIPGUARD_CLASS=${class})")
    limit = f"S({guard.max_duration})" if guard.max_duration else ""
    say.add(f"Set(SIPGUARD_DIAL=i{limit}b(sipguard-leg^s^1(${{id}})))")
    say.add("Return()")
    say.add("Set(SIPGUARD_NUMBER=${clean})", "emergency")
    say.add("Set(SIPGUARD_CLASS=emergency)")
    say.add("Set(SIPGUARD_DIAL=)")
    say.add("Set(TIMEOUT(absolute)=0)")
    say.add("Return()")
    _refusals(say, guard)
    return say.lines


def _read(say: _Lines) -> None:
    """raw -> clean, which holds digits, plus, star and hash only; given: 1 with an argument."""
    say.local("given", "0")
    say.local("raw", "${STACK_PEEK(1,e)}")
    say.add("GotoIf($[0${ARGC} = 0]?taken)")
    say.local("given", "1")
    say.local("raw", "${ARG1}")
    say.refuse_if("${ARGC} > 1", "invalid")
    say.local("number", r"${CUT(raw,\;,1)}", "taken")
    say.local("clean", "${FILTER(0-9*#+,${number})}")
    say.refuse_if(f"${{LEN(${{raw}})}} != ${{LEN(${{FILTER({_RAW},${{raw}})}})}}", "invalid")
    say.refuse_if(f"${{LEN(${{number}})}} != ${{LEN(${{FILTER({_DIALLED},${{number}})}})}}", "invalid")


def _emergency(say: _Lines, guard: Guard) -> None:
    for number in guard.emergency_numbers:
        say.add(f'GotoIf($["n${{clean}}" = "n{number}"]?emergency)')


def _normalise(say: _Lines, guard: Guard) -> None:
    """clean -> judged, in the form of dialplan_numbers; also: another reading of the same digits that has to be allowed too."""
    plan = guard.plan
    say.local("also", "")
    say.local("judged", "${clean}")
    say.refuse_if("${LEN(${clean})} > 32", "invalid")
    say.add('GotoIf($["n${clean}" =~ "^n[*#][0-9*#]+$"]?judge)')
    say.refuse_if('!("n${clean}" =~ "^n[+]?[0-9]+$")', "invalid")
    say.add('GotoIf($["${clean:0:1}" = "+"]?abroad)')
    for prefix in plan.international:
        say.local("judged", f"+${{clean:{len(prefix)}}}")
        say.add(f'GotoIf($["n${{clean:0:{len(prefix)}}}" = "n{prefix}"]?abroad)')
    say.local(
        "judged",
        f"+{plan.code if plan.code != plan.trunk else ''}${{clean:{0 if plan.code == plan.trunk else len(plan.trunk)}}}",
    )
    say.add(f'GotoIf($["n${{clean:0:{len(plan.trunk)}}}" = "n{plan.trunk}"]?judge)')
    say.local("judged", "${clean}")
    special = [prefix for prefix in (*plan.codes, *plan.premium) if prefix[0] != "+"]
    if special:
        say.add(f'GotoIf($["n${{clean}}" =~ "{"|".join(f"^n{prefix}" for prefix in special)}"]?judge)')
    if plan.code == plan.trunk:
        say.local("judged", f"+{plan.code}${{clean}}")
        say.add("GotoIf($[${LEN(${clean})} = 10]?judge)")
        say.local("judged", "${clean}")
    say.add(f"GotoIf($[${{LEN(${{clean}})}} < {plan.full}]?judge)")
    say.local("also", f"+{plan.code}${{clean}}")
    say.local("judged", "+${clean}")
    if plan.code == plan.trunk:
        say.add("NoOp()", "abroad")
    else:
        # +49 (0) 30: the zero of the national form is often written behind the country code
        size = len(plan.code) + 2
        say.add(f'GotoIf($["${{judged:0:{size}}}" != "+{plan.code}0"]?judge)', "abroad")
        say.local("judged", f"+{plan.code}${{judged:{size}}}")


def _verdict(say: _Lines) -> None:
    say.add('GotoIf($["${also}" = ""]?decide)', "judge")
    say.add("Gosub(sipguard-numbers,${also},1)")
    say.local("class", "${GOSUB_RETVAL}")
    say.add('GotoIf($["${class:0:3}" = "no-"]?forbidden)')
    say.add("Gosub(sipguard-numbers,${judged},1)", "decide")
    say.local("class", "${GOSUB_RETVAL}")
    say.add(f'GotoIf($["${{class}}" != "{ORDINARY}" & "${{class}}" != "{DEAR}"]?forbidden)')


def _secrets(say: _Lines, guard: Guard, file: str) -> None:
    if guard.pin_for == "none" or not (guard.pin or guard.prefix):
        return
    if guard.pin_for == "international":
        say.add(f'GotoIf($["${{class}}" = "{ORDINARY}"]?known)')
    if guard.prefix:
        say.add('GotoIf($["${proved}" != "1"]?unproven)')
    if guard.pin:
        # One question at a time and caller, so that many calls at once are not many tries.
        say.add("Set(GROUP(sipguard-pin)=${id})")
        say.refuse_if("${GROUP_COUNT(${id}@sipguard-pin)} > 1", "asking")
        say.refuse_if("0${DB(sipguard/${id})} > ${EPOCH}", "pause")
        say.add("Set(SIPGUARD_PIN=)")
        say.add("Answer()")
        say.add(f"AGI({PYTHON},-I,${{ASTETCDIR}}/{pin_file(file)},${{id}})")
        say.add('GotoIf($["${SIPGUARD_PIN}" != "right"]?pin)')
        say.add("Set(GROUP(sipguard-pin)=)")
    say.add("NoOp()", "known")


def _caps(say: _Lines, guard: Guard) -> None:
    # Joined first and counted then: of two at the same moment each sees the other.
    say.add("Set(GROUP(sipguard)=out)")
    say.add("Set(GROUP(sipguard-caller)=${id})")
    for highest, group, categories, label in _groups(guard, "${id}"):
        own, leg = (f"${{GROUP_COUNT({group}@{category})}}" for category in categories)
        say.refuse_if(f"{own} > {highest} | {leg} >= {highest}", label)


def _groups(guard: Guard, caller: str) -> list[tuple[int, str, tuple[str, str], str]]:
    """The caps that are set: highest number, group, its categories (callers, trunk legs), label of the refusal."""
    caps = [
        (guard.max_calls, "out", ("sipguard", "sipguard-leg"), "full"),
        (guard.max_calls_per_caller, caller, ("sipguard-caller", "sipguard-leg-of"), "own"),
    ]
    return [cap for cap in caps if cap[0]]


def _leg(guard: Guard) -> list[str]:
    say = _Lines("s")
    say.add("Set(GROUP(sipguard-leg)=out)")
    say.add("Set(GROUP(sipguard-leg-of)=${ARG1})")
    for highest, group, categories, dummy in _groups(guard, "${ARG1}"):
        say.refuse_if(f"${{GROUP_COUNT({group}@{categories[1]})}} > {highest}", "full")
    say.add("Return()")
    say.add("SoftHangup(${CHANNEL})", "full")
    say.add("Return()")
    return say.lines


# label, sentence for the log, cause (Q.850): 21 call rejected, 28 invalid number format, 34 no circuit available
_REFUSALS = (
    ("invalid", "this is no number that can be dialled", 28),
    ("closed", "outside of the hours", 21),
    ("forbidden", "numbers of this kind are not allowed (${class:3})", 21),
    ("unproven", "without the prefix", 21),
    ("asking", "another call of this caller is being asked for the PIN", 21),
    ("pause", "a wrong PIN was entered a moment ago", 21),
    ("pin", "no right PIN in three attempts", 21),
    ("full", "too many calls at once", 34),
    ("own", "too many calls of this caller at once", 34),
)


def _refusals(say: _Lines, guard: Guard) -> None:
    for label, why, cause in _REFUSALS:
        say.local("why", why, label)
        say.local("cause", str(cause))
        say.add("Goto(refuse)")
    say.local("caller", "${FILTER(-0-9A-Za-z*#+._,${CALLERID(num)})}", "refuse")
    # With a secret prefix, a number that is refused may be a mistyped prefix. A Local channel has the number in its name.
    full = "${FILTER(-0-9A-Za-z/._@,${CHANNEL})}"
    number = "" if guard.prefix else ", number ${judged:0:40}"
    say.local("channel", "${CHANNEL(channeltype)}" if guard.prefix else full)
    say.local("address", "unknown")
    say.add('GotoIf($["${CHANNEL(channeltype)}" = "SIP"]?sip)')
    say.add('GotoIf($["${CHANNEL(channeltype)}" != "PJSIP"]?log)')
    say.local("channel", full)
    say.local("address", "${CHANNEL(pjsip,remote_addr)}")
    say.add("Goto(log)")
    say.local("channel", full, "sip")
    say.local("address", "${CHANNEL(recvip)}")
    say.add(
        f"Log(NOTICE,sipguard: call refused: ${{why}}, caller ${{caller:0:40}}, channel ${{channel:0:80}}, address ${{address}}{number})",
        "log",
    )
    if guard.announcement:
        say.add("Progress()")
        say.add(f"Playback({guard.announcement},noanswer)")
    say.add("Hangup(${cause})")


def _outbound(guard: Guard) -> list[str]:
    lines: list[str] = []
    # Not even through the guard: nothing in it can lose them.
    for extension, number in guard._dialled(guard.emergency_numbers).items():
        for each in (extension, _with_parameters(extension)):
            lines += [
                f"exten => {each},1,Set(TIMEOUT(absolute)=0)",
                f" same => n,Dial({guard.trunk.replace('{number}', number)})",
                " same => n,Hangup(${HANGUPCAUSE})",
            ]
    patterns = [f"_{guard.access_digit}.", "_+."] if guard.access_digit else ["_[0-9+]."]
    codes = [prefix for prefix in (guard.prefix, *guard.allowed) if prefix[:1] in ("*", "#")]
    if codes:
        patterns.append(f"_{guard.access_digit}[*#]." if guard.access_digit else "_[*#].")
    for pattern in dict.fromkeys(patterns):
        say = _Lines(pattern)
        say.add("Gosub(sipguard-guard,s,1)")
        say.add(f"Dial({guard.trunk.replace('{number}', '${SIPGUARD_NUMBER}')},,${{SIPGUARD_DIAL}})")
        say.add("Hangup(${HANGUPCAUSE})")
        lines += say.lines
    return lines


# -- secrets


def prefix_digest(prefix: str, salt: str) -> str:
    """What the dialplan computes with SHA1()."""
    return hashlib.sha1(f"{salt}{prefix}".encode(), usedforsecurity=False).hexdigest()


def reused_prefix_salt(text: str, prefix: str) -> str | None:
    """The salt of an include file written before, when the file is for this prefix."""
    found = re.search(r"SHA1\(([0-9a-f]{32})\$\{clean:0:(\d+)\}\)\}\" != \"([0-9a-f]{40})\"", text)
    if found and int(found[2]) == len(prefix) and hmac.compare_digest(found[3], prefix_digest(prefix, found[1])):
        return found[1]
    return None


def masked(text: str) -> str:
    """A file with the digests of its secrets blotted out, to be shown: short secrets are soon guessed from them."""
    return re.sub(r"\b(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})\b", "********", text)


def _scrypt(pin: str, salt: bytes) -> bytes:
    return hashlib.scrypt(pin.encode(), salt=salt, **_SCRYPT)


def reused_pin_salt(text: str, pin: str) -> str | None:
    """The salt of a program written before, when it asks for this PIN."""
    found = re.search(r'^SALT = "([0-9a-f]{32})"\nDIGEST = "([0-9a-f]{64})"$', text, re.MULTILINE)
    if found and hmac.compare_digest(bytes.fromhex(found[2]), _scrypt(pin, bytes.fromhex(found[1]))):
        return found[1]
    return None


def render_pin(pin: str, salt: str) -> str:
    """The AGI program that asks for the PIN; ``salt`` is 32 hexadecimal digits."""
    return _PROGRAM.format(
        head=_HEAD,
        salt=salt,
        digest=_scrypt(pin, bytes.fromhex(salt)).hex(),
        scrypt=", ".join(f"{key}={value}" for key, value in _SCRYPT.items()),
        pause=_PIN_PAUSE,
    )


_PROGRAM = """# {head}
# Asterisk runs it, as the dialplan of sipguard says (AGI). It asks for the PIN and tells the dialplan whether it was right.
import hashlib
import hmac
import signal
import sys
import time

SALT = "{salt}"
DIGEST = "{digest}"


def command(line):
    print(line, flush=True)
    return sys.stdin.readline().strip()


def right(digits):
    found = hashlib.scrypt(digits.encode(), salt=bytes.fromhex(SALT), {scrypt})
    return hmac.compare_digest(found, bytes.fromhex(DIGEST))


# A caller who hangs up after a wrong PIN has made a wrong attempt all the same.
signal.signal(signal.SIGHUP, signal.SIG_IGN)
while sys.stdin.readline().strip():
    pass
for prompt in ("agent-pass", "auth-incorrect", "auth-incorrect"):
    answer = command("GET DATA %s 10000 20" % prompt)
    digits = answer[len("200 result=") :].partition(" ")[0]
    if not answer.startswith("200 result=") or digits == "-1":
        break
    if digits and right(digits):
        command("DATABASE DEL sipguard %s" % sys.argv[1])
        command("SET VARIABLE SIPGUARD_PIN right")
        break
    if digits:
        command("DATABASE PUT sipguard %s %d" % (sys.argv[1], time.time() + {pause}))
"""


# -- the line that includes the file


def with_include(data: bytes, file: str) -> bytes:
    """A configuration file that includes ``file`` at its end; as it is when it includes it already."""
    if _include_line(data, file):
        return data
    line = b'#include "%s"' % file.encode()
    # A last line without an end keeps having none, so that the line can go without a trace.
    return data + line + b"\n" if not data or data.endswith(b"\n") else data + b"\n" + line


def without_include(data: bytes, file: str) -> bytes:
    """The reverse of ``with_include``, byte for byte."""
    found = _include_line(data, file)
    if not found:
        return data
    start, end = found.span()
    if not found.group().endswith(b"\n"):
        start = max(start - 1, 0)
    return data[:start] + data[end:]


def _include_line(data: bytes, file: str) -> re.Match[bytes] | None:
    return re.search(rb'(?m)^#include "%s"(?:\n|\Z)' % re.escape(file.encode()), data)
