# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every filter, by every fail2ban: what the corpus says must be found is found, once, and nothing else is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache

import pytest

from .corpus_cases import STAMP, Case, Line, read, render
from .filters import IMAGES, Found, run

NOTICES = "sipguard-asterisk"
SECURITY = "sipguard-asterisk-security"
CHALLENGE = "sipguard-asterisk-challenge"

# Which evidence counts, by what is written in a jail.
WANTED = {
    "notices": {
        NOTICES: {"login", "scan"},
        f"{NOTICES}[mode=login]": {"login"},
        f"{NOTICES}[mode=scan]": {"scan"},
        f"{NOTICES}[mode=all]": {"login", "scan"},
        f"{NOTICES}[options=yes]": {"login", "scan", "options"},
        f"{NOTICES}[mode=login, authenticated_callers=yes, options=yes]": {"login"},
        f"{NOTICES}[authenticated_callers=yes]": {"login", "scan", "callers"},
    },
    "security": {
        SECURITY: {"stream", "udp"},
        f"{SECURITY}[mode=stream]": {"stream"},
        f"{SECURITY}[mode=udp]": {"udp"},
        f"{SECURITY}[mode=stream, chan_sip=yes]": {"stream"},
        f"{SECURITY}[mode=udp, chan_sip=yes]": {"udp", "chan_sip"},
        f"{SECURITY}[chan_sip=yes]": {"stream", "udp", "chan_sip"},
    },
}
CORPORA = list(WANTED)
EVERY = pytest.mark.parametrize(("corpus", "version"), [(name, version) for name in CORPORA for version in IMAGES])


@cache
def found_by(corpus: str, version: str) -> Found:
    lines = [{"text": case.line.text, "journal": case.line.journal} for case in read(corpus)]
    return run(version, list(WANTED[corpus]), lines)


def results(corpus: str, version: str) -> Iterator[tuple[str, Case, bool, list[tuple[int, str, float]]]]:
    """Filter, case, whether its address must be found, and what was found."""
    for text, wanted in WANTED[corpus].items():
        for case, found in zip(read(corpus), found_by(corpus, version).found[text], strict=True):
            yield text, case, case.evidence in wanted, found


def named(text: str, case: Case, found: object) -> str:
    return f"{case.where} {text} {case.form} ({case.why}): {found}\n    {case.line.text[:400]}"


@EVERY
def test_every_address_is_found_once(corpus: str, version: str) -> None:
    wrong = [
        named(text, case, found)
        for text, case, wanted, found in results(corpus, version)
        if wanted and [each[1] for each in found] != [case.address]
    ]
    assert not wrong, "\n".join(wrong[:20])


@EVERY
def test_nothing_else_is_found(corpus: str, version: str) -> None:
    wrong = [named(text, case, found) for text, case, wanted, found in results(corpus, version) if not wanted and found]
    assert not wrong, "\n".join(wrong[:20])


@EVERY
def test_the_date_of_every_line_is_read(corpus: str, version: str) -> None:
    wrong = []
    for text, case, wanted, found in results(corpus, version):
        if wanted and case.form != "raw":
            # without a year it is the last such day
            seen, meant = time.gmtime(found[0][2]), time.gmtime(STAMP)
            if seen[1:6] != meant[1:6] or ("short" not in case.form and case.form != "syslog" and seen != meant):
                wrong.append(named(text, case, found))
    assert not wrong, "\n".join(wrong[:20])


@EVERY
def test_every_regex_finds_something(corpus: str, version: str) -> None:
    for text in WANTED[corpus]:
        found = [each[3] for each in results(corpus, version) if each[0] == text]
        used = {hit[0] for hits in found for hit in hits}
        assert used == set(range(found_by(corpus, version).regexes[text])), text


def test_corpus_has_a_twin_for_every_negative() -> None:
    cases = [case for name in CORPORA for case in read(name)]
    negative = [case for case in cases if case.evidence == "none"]
    assert len({case.where for case in negative}) >= 60
    assert {case.section for case in negative} <= {case.section for case in cases if case.evidence != "none"}
    assert len({case.line for case in cases}) == len(cases)


def _event(name: str, number: int, address: str = "198.51.100.7", transport: str = "TCP", more: str = "") -> Line:
    family = "6" if ":" in address else "4"
    what = {"ChallengeSent": ',Challenge=""', "SuccessfulAuth": ',UsingPassword="1"'}.get(name, "")
    return render(
        "json",
        f'res_security_log.c security_event_stasis_cb SECURITY: SecurityEvent="{name}",EventTV="2026-03-05T07:08:'
        f'{number // 1000:02}.{number % 1000:03}+0000",Severity="Informational",Service="PJSIP",EventVersion="1",'
        f'AccountID="<unknown>",SessionID="same{more}",LocalAddress="IPV{family}/{transport}/192.0.2.10/5060",'
        f'RemoteAddress="IPV{family}/{transport}/{address}/{number + 1024}"{what}',
    )


def _counted(version: str, lines: list[Line], options: str = "") -> list[str]:
    asked = [{"text": line.text} for line in lines]
    text = f"{CHALLENGE}[{options}]" if options else CHALLENGE
    found = run(version, [text], asked, every=False).found[text]
    return [each[1] for line in found for each in line]


@pytest.mark.parametrize("version", IMAGES)
def test_challenges_count_without_a_success_between_them(version: str) -> None:
    challenge, success, forged = "ChallengeSent", "SuccessfulAuth", '",RemoteAddress="IPV4/TCP/203.0.113.9/1'
    phone = [_event(name, number) for number in range(50) for name in (challenge, success)]
    scanner = [_event(challenge, number, "2001:db8::7", more=forged) for number in range(100, 112)]
    other = [_event(challenge, 200, "198.51.100.8"), _event("InvalidAccountID", 201, "198.51.100.8")]
    assert _counted(version, [*phone, *scanner, *other, *phone]) == ["2001:db8::7"] * 11


@pytest.mark.parametrize("version", IMAGES)
def test_challenges_of_udp_count_if_asked_for(version: str) -> None:
    scanner = [_event("ChallengeSent", number, transport="UDP") for number in range(5)]
    streams = [
        _event("ChallengeSent", number, "198.51.100.9", each) for number, each in enumerate(("TLS", "WS", "WSS"))
    ]
    assert _counted(version, [*scanner, *streams]) == ["198.51.100.9"] * 2
    assert _counted(version, [*scanner, *streams], "udp=yes") == ["198.51.100.7"] * 4 + ["198.51.100.9"] * 2


@pytest.mark.parametrize("version", IMAGES)
def test_telephones_behind_one_address_may_count(version: str) -> None:
    # What has been counted stays counted: three that are challenged before the first has answered, and the first success.
    names = ["ChallengeSent"] * 3 + ["SuccessfulAuth"] * 3 + ["ChallengeSent", "SuccessfulAuth"]
    assert len(_counted(version, [_event(name, number) for number, name in enumerate(names)])) == 3
