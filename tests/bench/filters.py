# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a line of Asterisk's log costs fail2ban: our filters beside the one that comes with it, and very long lines."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fail2ban.corpus_cases import render
from tests.fail2ban.filters import HARNESS, IMAGES, in_image

__all__ = ["Figures", "Long", "Speed", "log", "measure", "table"]

GOAL = 1.5  # times the lines a second of fail2ban's own filter
LONG_GOAL = 2.6  # 64 KiB to 32 KiB; quadratic is 4
LINES = 4000
SIZES = (16, 32, 64)  # KiB
LEAST = 2e-3  # s: of a line that takes less, it is the memory and the clock that are measured

THEIRS = "asterisk"
OURS = {
    "notices": ("sipguard-asterisk", "sipguard-asterisk[mode=login]", "sipguard-asterisk[mode=scan]"),
    "security": (
        "sipguard-asterisk-security",
        "sipguard-asterisk-security[mode=stream]",
        "sipguard-asterisk-security[mode=udp]",
        "sipguard-asterisk-security[chan_sip=yes]",
        "sipguard-asterisk-challenge",
    ),
}

# Of a hundred lines so many of each kind; WHO and WHOM are addresses, ID is a Call-ID.
_NOTICES = {
    "res_pjsip/pjsip_distributor.c log_failed_request NOTICE: Request 'REGISTER' from '\"NUM\" <sip:NUM@192.0.2.10>' failed for "
    "'WHO:PORT' (callid: ID) - No matching endpoint found": 30,
    "res_pjsip/pjsip_distributor.c log_failed_request NOTICE: Request 'INVITE' from '<sip:NUM@192.0.2.10>' failed for "
    "'WHO:PORT' (callid: ID) - No matching endpoint found": 10,
    "res_pjsip/pjsip_distributor.c log_failed_request NOTICE: Request 'REGISTER' from '<sip:NUM@192.0.2.10>' failed for "
    "'WHO:PORT' (callid: ID) - Failed to authenticate": 15,
    "chan_sip.c handle_request_register NOTICE: Registration from '\"NUM\" <sip:NUM@192.0.2.10>' failed for 'WHO:PORT' - "
    "Wrong password": 10,
    "res_pjsip_session.c new_invite NOTICE:  NUM: Call (UDP:WHO:PORT) to extension 'NUM' rejected because extension not found "
    "in context 'phones'.": 5,
    "res_pjsip/pjsip_options.c contact_status NOTICE: Contact NUM/sip:NUM@WHO:PORT is now Unreachable.  RTT: 0.000 msec": 8,
    "chan_sip.c sip_poke_noanswer NOTICE: Peer 'NUM' is now UNREACHABLE!  Last qualify: 23": 5,
    "chan_sip.c retrans_pkt WARNING: Timeout on ID on non-critical invite transaction.": 5,
    "res_rtp_asterisk.c ast_rtp_read NOTICE: Unknown RTP codec 126 received from 'WHO:PORT'": 5,
    "app_dial.c dial_exec_full WARNING: Unable to create channel of type 'PJSIP' (cause 20 - Subscriber absent)": 7,
}
_EVENT = (
    'res_security_log.c security_event_stasis_cb SECURITY: SecurityEvent="{}",EventTV="2026-03-05T07:08:09.788+0000",Severity="{}",'
    'Service="PJSIP",EventVersion="1",AccountID="NUM",SessionID="ID",LocalAddress="IPV4/UDP/192.0.2.10/5060",'
    'RemoteAddress="IPV4/UDP/WHO/PORT"{}'
)
_SECURITY = {
    _EVENT.format("ChallengeSent", "Informational", ',Challenge=""'): 45,
    _EVENT.format("SuccessfulAuth", "Informational", ',UsingPassword="1"'): 20,
    _EVENT.format("InvalidAccountID", "Error", ""): 20,
    _EVENT.format(
        "ChallengeResponseFailed",
        "Error",
        ',Challenge="1795295159/091156a8d53bd88e15173de7e9551379",Response="7883f5c18acb273e386a904a4f40b941",ExpectedResponse=""',
    ): 15,
}
_MIXES: Mapping[str, Mapping[str, int]] = {"notices": _NOTICES, "security": _SECURITY}

# What a sender can make long, by log; {} is the place.
_PLACES = {
    "notices": (
        "chan_sip.c handle_request_register NOTICE: Registration from '{}' failed for '198.51.100.7:5060' - Nothing",
        "res_pjsip/pjsip_distributor.c log_failed_request NOTICE: Request 'REGISTER' from '{}' failed for '198.51.100.7:5060' "
        "(callid: x) - Nothing",
        "res_pjsip/pjsip_distributor.c log_failed_request NOTICE: Request 'REGISTER' from '<sip:x@h>' failed for "
        "'198.51.100.7:5060' (callid: {}) - Nothing",
        "res_pjsip/pjsip_distributor.c log_failed_request NOTICE: Request '{}' from '<sip:x@h>' failed for "
        "'198.51.100.7:5060' (callid: x) - Nothing",
        "res_pjsip_session.c new_invite NOTICE:  {}",
        "res_pjsip_session.c new_invite NOTICE:  anonymous: Call (UDP:198.51.100.7:5060) to extension '{}' rejected",
        "chan_iax2.c register_verify NOTICE: No registration for peer '{}' (from nobody)",
        "chan_iax2.c register_verify NOTICE: Host 198.51.100.7 failed MD5 authentication for '{}",
        "manager.c authenticate NOTICE: 198.51.100.7 failed to authenticate as '{}",
        "manager.c authenticate NOTICE: {}",
        'Ext. x{} @ default WARNING: "Rejecting unknown SIP connection from nobody"',
        'Ext. x @ default WARNING: "Rejecting unknown SIP connection from {}"',
    ),
    "security": (
        _EVENT.format("InvalidAccountID", "Error", "").replace("NUM", "{}") + "x",
        _EVENT.format("ChallengeResponseFailed", "Error", ',Challenge="1",Response="{}",ExpectedResponse="') + "x",
        _EVENT.format("FailedACL", "Error", ',ACLName="x"').replace("NUM", "anonymous").replace("ID", "{}"),
        _EVENT.format("ChallengeSent", "Informational", ',Challenge="{}').replace("UDP", "TCP"),
        _EVENT.format("SuccessfulAuth", "Informational", "").replace("NUM", "{}").replace("UDP", "TCP"),
    ),
}
_RUNS = (
    "x",
    "'",
    '"',
    "\\",
    '\\"',
    " ",
    "' ",
    "1",
    "1.1.1.1",
    "1:",
    ":",
    "(",
    ") - ",
    "\t",
    "' failed for '",
    "' failed for '198.51.100.7:5060' (callid: ",
    "' failed for '198.51.100.7:5060' - ",
    "' from '",
    "' (from ",
    " (198.51.100.7:5060)",
    "' rejected because extension not found in context '",
    '"Rejecting unknown SIP connection from ',
    '"Rejecting unknown SIP connection from 198.51.100.7"',
    " != ",
    '",RemoteAddress="',
    '",SessionID="',
    '",LocalAddress="IPV4/UDP/192.0.2.10/5060',
    '",LocalAddress="IPV4/UDP/192.0.2.10/5060",RemoteAddress="IPV4/UDP/198.51.100.7/5060',
    '",LocalAddress="IPV4/UDP/192.0.2.10/5060",RemoteAddress="IPV4/TCP/198.51.100.7/5060",Challenge="',
    ',Module="x"',
)
# Lines that are not Asterisk's at all, or only begin so.
_BARE = ("", "[", "[2026-03-05 07:08:09] ", "[2026-03-05 07:08:09] NOTICE[1] ", '{"hostname":"', "2026-03-05 07:08:09 ")

_LONG_FOR_THEIRS = f"{_BARE[2]!r} {' '!r}"

_MEASURE = (
    HARNESS
    + r"""
import logging, statistics
logging.disable(logging.CRITICAL)
asked = json.load(sys.stdin)
made = {}
for text in asked['filters']:
    made[text] = load(text, '/etc/fail2ban' if text == asked['theirs'] else '/filters')
lines = {form: [{'text': line} for line in each] for form, each in asked['lines'].items()}
def timed(text, form):
    begun = time.process_time()
    hits = sum(len(feed(made[text], line)) for line in lines[form])
    return len(lines[form]) / (time.process_time() - begun), hits
speeds = [(text, form) for text in made for form in lines if text != asked['theirs'] or form == 'file']
found = {'version': version, 'speeds': [], 'long': []}
for turn in range(asked['rounds'] + 1):
    for text, form in speeds:
        rate, hits = timed(text, form)
        if turn:
            found['speeds'].append([turn, text, form, rate, hits])
for name, sizes in asked['long'].items():
    for text in made:
        if text == asked['theirs'] and name not in asked['long_for_theirs']:
            continue
        # what looks steep may be a disturbance: it is measured again, for longer
        for repeats in (1,) if text == asked['theirs'] else (3, 20, 50):
            took = []
            for line in sizes:
                best = 1e9
                for dummy in range(repeats):
                    begun = time.perf_counter()
                    feed(made[text], {'text': line})
                    best = min(best, time.perf_counter() - begun)
                took.append(best)
            if took[-1] < asked['least'] or took[-1] < 2.4 * took[-2]:
                break
        found['long'].append([text, name, took])
json.dump(found, sys.stdout)
"""
)


@dataclass(frozen=True)
class Speed:
    """Lines a second (medians) of one filter on one log in one format, and what that is to fail2ban's own on the plain file."""

    log: str
    filter: str
    form: str
    lines: float
    hits: int
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Long:
    """The worst of the long lines of one filter: milliseconds by ``SIZES``, and the worst ratio of 64 KiB to 32 KiB with its line."""

    log: str
    filter: str
    slowest: str
    took: tuple[float, ...]
    steepest: str
    ratio: float


@dataclass
class Figures:
    """By version of fail2ban."""

    speeds: dict[str, list[Speed]] = field(default_factory=dict)
    longs: dict[str, list[Long]] = field(default_factory=dict)


def log(name: str, form: str, lines: int = LINES) -> list[str]:
    """A made-up log (``notices`` or ``security``) in a format of the corpus, the same messages every time."""
    pick = random.Random(lines)
    mix = _MIXES[name]
    found = []
    for entry in pick.choices(list(mix), list(mix.values()), k=lines):
        values = {
            "NUM": str(pick.randrange(100, 9999)),
            "WHO": f"198.51.100.{pick.randrange(256)}"
            if pick.random() < 0.95
            else f"[2001:db8::{pick.randrange(1, 9999):x}]",
            "PORT": str(pick.randrange(1024, 65536)),
            "ID": f"{pick.getrandbits(128):032x}",
        }
        if name == "security" and "[" in values["WHO"]:
            values["WHO"] = values["WHO"].strip("[]")
            entry = entry.replace("IPV4", "IPV6")
        for word, value in values.items():
            entry = entry.replace("SessionID", "Session\0").replace("AccountID", "Account\0").replace(word, value)
            entry = entry.replace("\0", "ID")
        found.append(render(form, entry).text)
    return found


def _long(name: str) -> dict[str, list[str]]:
    """Lines of ``SIZES`` by what they are."""
    found = {}
    for run in _RUNS:
        for number, place in enumerate(_PLACES[name]):
            for form in ("json", "file"):
                found[f"{form} {number} {run!r}"] = [
                    render(form, place.replace("{}", run * (size * 1024 // len(run)))).text for size in SIZES
                ]
        for bare in _BARE:
            found[f"{bare!r} {run!r}"] = [bare + run * (size * 1024 // len(run)) for size in SIZES]
    return found


def _steepness(took: Sequence[float]) -> float:
    """What 64 KiB are to 32 KiB; 2 for what is too quick to be measured, as it was not too quick if it were steep."""
    return took[-1] / took[-2] if took[-1] > LEAST else 2.0


def _version(name: str, version: str, rounds: int, lines: int) -> tuple[list[Speed], list[Long]]:
    asked: dict[str, Any] = {
        "theirs": THEIRS,
        "filters": [THEIRS, *OURS[name]],
        "lines": {form: log(name, form, lines) for form in ("json", "file")},
        "rounds": rounds,
        "long": _long(name),
        "least": LEAST,
        # seconds for a line: one is enough
        "long_for_theirs": [_LONG_FOR_THEIRS],
    }
    answer = in_image(version, _MEASURE, asked, seconds=1800)
    rates: dict[tuple[str, str], dict[int, float]] = {}
    hits = {}
    for turn, text, form, rate, count in answer["speeds"]:
        rates.setdefault((text, form), {})[turn] = rate
        hits[text, form] = count
    theirs = rates[THEIRS, "file"]
    speeds = []
    for (text, form), each in rates.items():
        low, ratio, high = statistics.quantiles([rate / theirs[turn] for turn, rate in each.items()], n=4)
        speeds.append(Speed(name, text, form, statistics.median(each.values()), hits[text, form], ratio, low, high))
    longs = []
    for text in asked["filters"]:
        taken = [(what, took) for each, what, took in answer["long"] if each == text]
        slowest, took = max(taken, key=lambda each: each[1][-1])
        steepest, steep = max(taken, key=lambda each: (each[1][-1] > LEAST) * each[1][-1] / each[1][-2])
        longs.append(Long(name, text, slowest, tuple(1000 * each for each in took), steepest, _steepness(steep)))
    return speeds, longs


def measure(rounds: int = 5, lines: int = LINES, versions: Sequence[str] = tuple(IMAGES)) -> Figures:
    """All figures; ``rounds`` of ``lines`` for each filter, one after the other in each round."""
    found = Figures()
    for version in versions:
        for name in OURS:
            speeds, longs = _version(name, version, rounds, lines)
            found.speeds.setdefault(version, []).extend(speeds)
            found.longs.setdefault(version, []).extend(longs)
    return found


def table(found: Figures) -> str:
    """The figures for people."""
    lines = []
    for version, speeds in found.speeds.items():
        lines += [
            f"fail2ban {version}",
            f"{'log':10}{'filter':48}{'format':8}{'lines/s':>10}{'x theirs':>10}{'quartiles':>14}",
        ]
        for speed in speeds:
            said = ""
            if speed.filter != THEIRS:
                said = f"   goal {GOAL:g}: {'reached' if speed.ratio >= GOAL else 'missed'}"
            lines.append(
                f"{speed.log:10}{speed.filter:48}{speed.form:8}{speed.lines:10,.0f}{speed.ratio:10.2f}"
                f"{f'{speed.low:.2f}-{speed.high:.2f}':>14}{said}"
            )
        lines += [
            "",
            f"{'log':10}{'filter':48}" + "".join(f"{f'{size} KiB ms':>12}" for size in SIZES) + f"{'64/32':>8}",
        ]
        for each in found.longs[version]:
            said = f"   goal {LONG_GOAL:g}: {'reached' if each.ratio <= LONG_GOAL else f'missed by {each.steepest}'}"
            figures = "".join(f"{took:12.2f}" for took in each.took)
            lines.append(
                f"{each.log:10}{each.filter:48}{figures}{each.ratio:8.2f}{'' if each.filter == THEIRS else said}"
            )
        lines.append("")
    return "\n".join(lines)
