# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of the dialplan's guard. What it does is tested with calls, in tests/asterisk."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import dialplan_guard as guards
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.dialplan_numbers import (
    COUNTRIES,
    EMERGENCY,
    RISKY,
    canonical_prefix,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError

FILE = "extensions_sipguard.conf"
PIN = "482913"
SALT = "0f" * 16


def render(**options: Any) -> str:
    return guards.render(guards.Guard(**{"country": "de", **options}), FILE, SALT)


BAD = [
    ("country", "xx"),
    ("access_digit", "00"),
    ("access_digit", "*"),
    ("international", "yes"),
    ("premium", ""),
    ("blocked", ["0900,1"]),
    ("blocked", [""]),
    ("blocked", ["_X."]),
    ("allowed", ["+0"]),
    ("allowed", ["00"]),
    ("allowed", ["+44\n[phones]"]),
    ("emergency", ["1"]),
    ("emergency", ["112)"]),
    ("pin", "12345"),
    ("pin", "111111"),
    ("pin", "123456"),
    ("pin", "987654"),
    ("pin", "48291x"),
    ("prefix", "77"),
    ("prefix", "12a4"),
    ("pin_for", "some"),
    ("max_duration", -1),
    ("max_duration", 86401),
    ("max_calls", -1),
    ("max_calls_per_caller", 10001),
    ("hours", ["08:00"]),
    ("hours", ["18:00-08:00"]),
    ("hours", ["mon-xyz 08:00-18:00"]),
    ("hours", ["08:00-24:00"]),
    ("announcement", "a,b"),
    ("announcement", "../x"),
    ("trunk", "PJSIP/carrier"),
    ("trunk", "PJSIP/{number}@carrier&PJSIP/1@carrier"),
    ("trunk", "PJSIP/{number}@carrier,60"),
    ("trunk", "PJSIP/{number}{number}@carrier"),
    ("trunk", "PJSIP/${X}{number}@carrier"),
    ("contexts", ["phones"]),  # without a trunk
]


@pytest.mark.parametrize(("option", "value"), BAD, ids=ascii)
def test_bad_option(option: str, value: Any) -> None:
    with pytest.raises(OptionError) as raised:
        render(**{option: value})
    assert raised.value.option == option
    if option in ("pin", "prefix"):
        assert value not in str(raised.value)


@pytest.mark.parametrize("context", ["general", "sipguard-guard", "a]b", ""])
def test_bad_context(context: str) -> None:
    with pytest.raises(OptionError):
        render(trunk="PJSIP/{number}@carrier", contexts=[context])
    assert "[phones]\ninclude => sipguard-outbound\n" in render(trunk="PJSIP/{number}@carrier", contexts=["phones"])


PREFIXES = [
    ("de", "0900", "+49900"),
    ("de", "0044", "+44"),
    ("de", "+1 (876)", "+1876"),
    ("de", "118", "118"),
    ("de", "*21*", "*21*"),
    ("us", "1900", "+1900"),
    ("us", "900", "+1900"),
    ("us", "01144", "+44"),
    ("us", "411", "411"),
    ("us", "0", "0"),
]


@pytest.mark.parametrize(("country", "text", "wanted"), PREFIXES)
def test_prefix_in_the_form_that_is_judged(country: str, text: str, wanted: str) -> None:
    assert canonical_prefix("blocked", text, COUNTRIES[country]) == wanted


VERDICTS = [
    # options, prefix, verdict
    ({}, "+X", "no-international"),
    ({}, "+49", "ordinary"),
    ({}, "+49900", "no-premium"),
    ({}, "+1876", "no-premium"),
    ({"international": "allow"}, "+X", "dear"),
    ({"international": "allow"}, "+1876", "no-premium"),
    ({"premium": "allow"}, "+49900", "dear"),
    ({"premium": "allow"}, "+1876", "no-international"),
    ({"premium": "allow", "international": "allow"}, "+1876", "dear"),
    ({"allowed": ["+44"]}, "+44", "dear"),
    ({"allowed": ["+1"]}, "+1876", "no-premium"),
    ({"allowed": ["+1876"]}, "+1876", "dear"),
    ({"allowed": ["0900555"]}, "+49900555", "dear"),
    ({"allowed": ["030"]}, "+4930", "ordinary"),
    ({"blocked": ["030"]}, "+4930", "no-blocked"),
    ({"blocked": ["030"], "allowed": ["+49 30"]}, "+4930", "ordinary"),
    ({}, "+4910", "no-code"),
    ({"blocked": ["2"]}, "2", "no-blocked"),
    ({"country": "gb", "blocked": ["0118"]}, "+44118", "no-blocked"),
]


@pytest.mark.parametrize(("options", "prefix", "verdict"), VERDICTS)
def test_verdict_on_prefix(options: dict[str, Any], prefix: str, verdict: str) -> None:
    assert f"exten => _{prefix}!,1,Return({verdict})\n" in render(**options)


@pytest.mark.parametrize("country", COUNTRIES)
def test_emergency_numbers_come_before_everything(country: str) -> None:
    text = render(
        country=country,
        trunk="PJSIP/{number}@carrier",
        prefix="7799",
        pin=PIN,
        max_calls=1,
        access_digit="0",
        emergency=["19222"],
    )
    body = text.partition("[sipguard-guard]\n")[2]
    first = re.search("SHA1|GROUP|GotoIfTime|AGI|sipguard-numbers|DB", body)
    assert first
    for number in (*EMERGENCY, *COUNTRIES[country].emergency, "19222"):
        assert f'"n{number}"]?emergency)' in body[: first.start()]
        assert f"exten => {number},1,Set(TIMEOUT(absolute)=0)\n same => n,Dial(PJSIP/{number}@carrier)\n" in body
        assert f"exten => 0{number},1,Set(TIMEOUT(absolute)=0)\n same => n,Dial(PJSIP/{number}@carrier)\n" in body


def extensions(context: str, text: str) -> dict[str, str]:
    """Extension -> what its first priority does."""
    body = text.partition(f"\n[{context}]\n")[2].partition("\n[")[0]
    return dict(re.findall(r"^exten => (.*?),1,(.*)$", body, re.MULTILINE))


def test_emergency_numbers_are_extensions_of_the_phones_context() -> None:
    options: dict[str, Any] = {"trunk": "PJSIP/{number}@carrier", "contexts": ["phones"], "access_digit": "0"}
    wanted = {
        f"{before}{digit}{number}{after}": f"Goto(sipguard-outbound,{number},1)"
        for number in ("110", "112", "19222")
        for digit in ("", "0")
        for before, after in (("", ""), ("_", ""), ("_", r"\;!"))
    }
    assert extensions("phones", render(**options, emergency=["19222"])) == wanted
    guard = guards.Guard("de", **options, emergency=["19222"])
    text = guards.render(guard, FILE, SALT, {"phones": {"112", "0110"}, "others": {"110"}})
    assert extensions("phones", text) == {key: wanted[key] for key in wanted.keys() - {"112", "_112", "0110", "_0110"}}


def test_a_number_with_access_digit_that_is_a_number_itself() -> None:
    text = render(
        country="us", trunk="PJSIP/{number}@carrier", contexts=["phones"], access_digit="9", emergency=["11", "88"]
    )
    phones, outbound = extensions("phones", text), extensions("sipguard-outbound", text)
    assert [phones[each] for each in ("911", "9911", "988", "11")] == [
        f"Goto(sipguard-outbound,{number},1)" for number in ("911", "911", "988", "11")
    ]
    assert len(re.findall("^exten => 911,1,", text, re.MULTILINE)) == 2  # once in each context
    assert "988" in outbound


@pytest.mark.parametrize("country", COUNTRIES)
def test_first_extensions_are_emergency_numbers_of_the_country(country: str) -> None:
    guard = guards.Guard(country)
    assert set(guard.first_extensions) == set(COUNTRIES[country].emergency)
    assert not set(COUNTRIES[country].advice) & set(guard.first_extensions)
    assert {*guard.first_extensions, *COUNTRIES[country].advice, *EMERGENCY} == set(guard.emergency_numbers)


def test_every_list_has_a_source_and_is_well_formed() -> None:
    for country in COUNTRIES.values():
        assert country.source
        for prefix in (*country.premium, *country.codes):
            assert re.fullmatch(r"\+?[0-9NX]+\$?", prefix)
            assert not prefix.startswith("+") or prefix.startswith(f"+{country.code}")
    for prefixes, source in RISKY:
        assert source
        assert all(re.fullmatch(r"\+[0-9]+", prefix) for prefix in prefixes)


def test_every_label_is_there_once() -> None:
    text = render(prefix="7799", pin=PIN, max_calls=1, max_calls_per_caller=1, hours=["08:00-09:00"], access_digit="0")
    guard = text.partition("[sipguard-guard]\n")[2].partition("[sipguard-leg]")[0]
    labels = re.findall(r"same => n\((\w+)\)", guard)
    assert len(labels) == len(set(labels))
    assert set(re.findall(r"\?(\w+)\)\n", guard)) | set(re.findall(r",Goto\((\w+)\)", guard)) <= set(labels)


def test_no_line_holds_an_unescaped_semicolon() -> None:
    text = render(prefix="7799", pin=PIN, hours=["08:00-09:00"], trunk="PJSIP/{number}@carrier", announcement="a/b")
    assert [line for line in text.splitlines() if not line.startswith(";") and re.search(r"(?<!\\);", line)] == []


def test_secrets_are_in_no_text() -> None:
    text = render(prefix="7799", pin=PIN)
    program = guards.render_pin(PIN, SALT)
    for secret in (PIN, "7799"):
        assert secret not in text.replace(SALT, "")
        assert secret not in program
    assert not re.search("[0-9a-f]{32}", guards.masked(text + program))
    assert PIN not in repr(guards.Guard("de", pin=PIN, prefix="7799"))
    assert "7799" not in repr(guards.Guard("de", pin=PIN, prefix="7799"))
    assert guards.is_ours(text.encode())
    assert guards.is_ours(program.encode())
    assert not guards.is_ours(b"; my own\n" + text.encode())


def test_salt_stays_with_its_secret() -> None:
    text, program = render(prefix="7799"), guards.render_pin(PIN, SALT)
    assert guards.reused_prefix_salt(text, "7799") == SALT
    assert guards.reused_prefix_salt(text, "7798") is None
    assert guards.reused_prefix_salt(text, "779") is None
    assert guards.reused_prefix_salt("", "7799") is None
    assert guards.reused_pin_salt(program, PIN) == SALT
    assert guards.reused_pin_salt(program, "482914") is None
    assert guards.reused_pin_salt("", PIN) is None


def test_program_is_python() -> None:
    compile(guards.render_pin(PIN, SALT), "program", "exec")


@given(st.binary(max_size=60) | st.sampled_from([b"", b"\n", b"[a]\n", b"[a]", b"x\r\n"]))
def test_include_line_comes_and_goes(data: bytes) -> None:
    once = guards.with_include(data, FILE)
    assert once.count(b'#include "extensions_sipguard.conf"') == 1
    assert guards.with_include(once, FILE) == once
    assert guards.without_include(once, FILE) == data
    assert guards.without_include(data, FILE) == data


def test_include_line_goes_from_the_middle() -> None:
    data = guards.with_include(b"[a]\n", FILE) + b"[b]\n"
    assert guards.with_include(data, FILE) == data
    assert guards.without_include(data, FILE) == b"[a]\n[b]\n"
    assert guards.without_include(b'#include "other.conf"\n', FILE) == b'#include "other.conf"\n'
