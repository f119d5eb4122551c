# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard against toll fraud with real calls: what reaches the trunk, and what does not."""

from __future__ import annotations

import dataclasses
import re

from .dialplan_calls import (
    EXTENSIONS,
    FILE,
    PASSWORD,
    PIN,
    boot,
    carrier,
    guard,
    manager,
    outcome,
    place,
    refusals,
    start,
    switch,
    telephone,
    trunks,
)
from .harness import Pbx, eventually

GERMANY = [
    # a number and every other way to write it
    ("0301234567", "0301234567"),
    ("+49301234567", "+49301234567"),
    ("0049301234567", "0049301234567"),
    ("+49 (0)30 123-4567", "+490301234567"),
    ("1234567", "1234567"),
    ("115", "115"),
    ("0900123456", "cause 21"),
    ("+49900123456", "cause 21"),
    ("0049900123456", "cause 21"),
    ("+49(0)900123456", "cause 21"),
    ("+49 0 900 123456", "cause 21"),
    ("49900123456", "cause 21"),
    ("9001234567", "cause 21"),
    ("+49009001234", "cause 21"),
    ("0000900123456", "cause 21"),
    ("24712345", "24712345"),  # as the guide says: in Berlin, for all that anybody can tell
    ("0900555123", "0900555123"),  # the exception
    ("+49900555123", "+49900555123"),
    ("118331", "cause 21"),
    ("01371234567", "cause 21"),
    ("00331234567", "cause 21"),
    ("+331234567", "cause 21"),
    ("33123456789", "cause 21"),
    ("00442071234567", "00442071234567"),
    ("+442071234567", "+442071234567"),
    ("442071234567", "442071234567"),
    ("+4470123456789", "cause 21"),  # an own block, more precise than the exception
    ("0013055551234", "0013055551234"),
    ("0018765551234", "cause 21"),  # Jamaica, in the midst of an allowed +1
    ("+8816123456", "cause 21"),
    ("010130900123456", "cause 21"),  # another carrier's network
    ("*21*0900123456#", "cause 21"),
    ("0301234567*1", "cause 28"),
    ("110", "110"),
    ("112", "112"),
    ("911", "911"),
    ("112;phone-context=+49", "112"),
    ("1-1-2", "112"),
    ("00112", "cause 21"),
    # what is no number
    ("030123&SIP", "cause 28"),
    ("112&SIP", "cause 28"),
    ("112,1", "cause 28"),
    ('112"', "cause 28"),
    ("112)", "112"),
    ("030${EPOCH}", "cause 28"),
    ("0301'2", "cause 28"),
    ("030$[1+1]", "cause 28"),
    ("1" * 33, "cause 28"),
    ("+", "cause 28"),
]


def test_notations_of_a_country(pbx: Pbx) -> None:
    ami = boot(pbx, guard(allowed=["+44", "0900 555", "+1"], blocked=["004470"]))
    assert {number: outcome(ami, number) for number, dummy in GERMANY} == dict(GERMANY)


COUNTRIES = [
    ("us", "12125551234", "12125551234"),
    ("us", "2125551234", "2125551234"),
    ("us", "5551234", "5551234"),
    ("us", "911", "911"),
    ("us", "011442071234567", "cause 21"),
    ("us", "01442071234567", "cause 21"),
    ("us", "442071234567", "cause 21"),
    ("us", "18765551234", "cause 21"),
    ("us", "8765551234", "cause 21"),
    ("us", "19005551234", "cause 21"),
    ("us", "9005551234", "cause 21"),
    ("us", "12129761234", "cause 21"),
    ("us", "12125551212", "cause 21"),
    ("us", "5551212", "cause 21"),
    ("us", "15551212", "cause 21"),
    ("us", "9765551", "cause 21"),
    ("us", "19765551", "cause 21"),
    ("us", "9775551", "9775551"),
    ("us", "5551213", "5551213"),
    ("us", "411", "cause 21"),
    ("us", "1010288011442071234567", "cause 21"),
    ("us", "00", "cause 21"),
    ("at", "012345678", "012345678"),
    ("at", "0900123456", "cause 21"),
    ("at", "+43 (0)930 123456", "cause 21"),
    ("at", "0049301234567", "cause 21"),
    ("at", "10050900123456", "cause 21"),
    ("at", "010050900123456", "cause 21"),
    ("at", "900123456", "cause 21"),
    ("at", "12345678", "12345678"),
    ("at", "133", "133"),
    ("ch", "0441234567", "0441234567"),
    ("ch", "0041906123456", "cause 21"),
    ("ch", "900123456", "cause 21"),
    ("ch", "1811", "cause 21"),
    ("ch", "01811", "cause 21"),
    ("ch", "00411811", "cause 21"),
    ("ch", "+411811", "cause 21"),
    ("ch", "10740", "cause 21"),
    ("ch", "010740", "cause 21"),
    ("ch", "0107", "cause 21"),
    ("ch", "117", "117"),
    ("ch", "1414", "1414"),
    ("gb", "02071234567", "02071234567"),
    ("gb", "01189123456", "01189123456"),  # Reading, no directory enquiries
    ("gb", "+441189123456", "+441189123456"),
    ("gb", "118118", "cause 21"),
    ("gb", "0118118", "cause 21"),
    ("gb", "+44118118", "cause 21"),
    ("gb", "0044118118", "cause 21"),
    ("gb", "0044118118999", "cause 21"),
    ("gb", "09061234567", "cause 21"),
    ("gb", "9061234567", "cause 21"),
    ("gb", "71234567", "71234567"),
    ("gb", "07012345678", "cause 21"),
    ("gb", "07712345678", "07712345678"),
    ("gb", "14109061234567", "cause 21"),
    ("gb", "999", "999"),
]


def test_countries(pbx: Pbx) -> None:
    ami = boot(pbx, guard(country="us"))
    found = {}
    for country in dict.fromkeys(country for country, dummy, dummy in COUNTRIES):
        switch(pbx, guard(country=country))
        found.update({(country, number): outcome(ami, number) for each, number, dummy in COUNTRIES if each == country})
    assert found == {(country, number): wanted for country, number, wanted in COUNTRIES}


# What a caller might dial to make two calls of one, to be judged by something else than is dialled, or to run a function.
INJECTIONS = [
    "030&0900123456",
    "112,0900123456",
    "112(0900,1)",
    "030${SHELL(id)}",
    "112,0900)&SIP",
    '"112",0900',
    "[112,0900",
    "112\\,0900",
]


def test_injection(pbx: Pbx) -> None:
    ami = boot(pbx, guard())
    wanted = {**dict.fromkeys(INJECTIONS, "cause 28"), "0301234567": "0301234567", "112": "112"}
    for context in ("judge", "given"):
        assert {number: outcome(ami, number, context) for number in wanted} == wanted


def test_hostile_caller(pbx: Pbx) -> None:
    ami = boot(pbx, guard())
    start(ami, "0900123456", "judge", '"A,B) & (C" <1,2)&${EPOCH}>')
    assert eventually(lambda: bool(refusals(pbx)))
    assert re.search(
        r"\(premium\), caller [0-9A-Z]*, channel Local/0900123456@judge-\w+, address unknown", refusals(pbx)[0]
    )


def test_announcement_to_whoever_is_refused(pbx: Pbx) -> None:
    ami = boot(pbx, guard(announcement="vm-goodbye"))
    assert outcome(ami, "0900123456") == "cause 21"
    assert "vm-goodbye" not in pbx.log()  # as Asterisk would say of a sound that it cannot play
    switch(pbx, guard(announcement="no-such-sound"))
    assert outcome(ami, "0900123456") == "cause 21"
    assert "no-such-sound" in pbx.log()


def test_caller_of_chan_sip(pbx16: Pbx) -> None:
    peer = (
        f"[general]\nudpbindaddr=127.0.0.1:5062\n[200]\ntype=friend\nhost=dynamic\nsecret={PASSWORD}\ncontext=phones\n"
    )
    ami = boot(pbx16, guard(max_calls_per_caller=1), {"sip.conf": peer})
    phone = pbx16.sip(port=5062, user="200", password=PASSWORD)
    assert phone.invite("0301234567").status == 200
    assert pbx16.sip("127.0.0.9", port=5062, user="200", password=PASSWORD).invite("089123456").status == 503
    assert "caller 200, channel SIP/200-" in refusals(pbx16)[0]
    assert "address 127.0.0.9" in refusals(pbx16)[0]
    assert outcome(ami, "089123456") == "089123456"


def test_calls_over_sip(pbx: Pbx) -> None:
    boot(pbx, guard(trunk="PJSIP/{number}@carrier", allowed=["+44"], access_digit="9"))
    phone, trunk = telephone(pbx), carrier(pbx)
    for dialled, wanted in (
        ("112;phone-context=+49", "112"),
        ("9112;phone-context=+49", "112"),
        ("90301234567", "0301234567"),
        ("900442071234567", "00442071234567"),
        ("112", "112"),
        ("9112", "112"),
    ):
        assert place(phone, dialled, trunk) == wanted
        phone.bye()
        trunk.reply(trunk.receive("BYE"), 200, "OK")
    hostile = [
        "90301234567&PJSIP%2F0900123456%40carrier",
        "9030%2c0900123456",
        "90301234567%26Local%2f0900123456%40carrier",
    ]
    refused = {
        called: phone.invite(called).status for called in ("900331234567", "+331234567", "90900123456", *hostile)
    }
    assert refused == {"900331234567": 403, "+331234567": 403, "90900123456": 403, **dict.fromkeys(hostile, 484)}
    # the trunk's next request is the next call that is allowed: nothing else was sent
    assert place(phone, "9089123456", trunk) == "089123456"
    assert pbx.log().count("call refused") == 6
    assert all(f"address {phone.address}" in line for line in refusals(pbx))


def test_emergency_calls_pass_whatever_else_is_set(pbx: Pbx) -> None:
    everything = guard(pin=PIN, pin_for="all", prefix="7799", max_calls=1, max_calls_per_caller=1)
    everything = dataclasses.replace(
        everything, hours=[_other_day(pbx)], access_digit="0", emergency=["19222"], blocked=["1", "9"], max_duration=1
    )
    ami = boot(pbx, everything)
    for number in ("112", "0112", "110", "911", "19222", "077990301234567"):
        start(ami, number)
    assert eventually(lambda: trunks(pbx) == 5), pbx.cli("core show channels")
    passing = ("112", "0112", "0 7799 112", "0-112", "112;phone-context=+49")
    assert {number: outcome(ami, number) for number in passing} == {**dict.fromkeys(passing, "112")}
    assert outcome(ami, "077990301234567") == "cause 21"
    start(ami, "112", "short")  # a limit from elsewhere is taken off
    assert ami.event("UserEvent")["Limit"] == "0"


def phones(pattern: str) -> str:
    return f"[phones]\nexten => {pattern},1,UserEvent(Passed,Number: house-${{EXTEN}})\n same => n,Hangup(17)\n"


def test_emergency_calls_pass_the_telephones_own_patterns(pbx: Pbx) -> None:
    ami = boot(pbx, own := guard(trunk="PJSIP/{number}@carrier", access_digit="0", prefix="*77"))
    include = f'#include "{FILE}"\n'
    phone, trunk = telephone(pbx), carrier(pbx)
    dialled = {"112": "112", "110": "110", "0112": "112", "0110": "110", "1-1-2": "112", "0*77112": "112"}
    dialled.update({f"{number};phone-context=+49": dialled[number] for number in ("112", "0110")})
    for pattern in ("_1XX", "_XXX", "_X.", "_[01].", "_1[1]-X"):
        # Asterisk makes one context of both sections, whichever comes first; the other way to match orders patterns in its own way
        for text in (
            EXTENSIONS + phones(pattern) + include,
            EXTENSIONS.replace("[general]", "[general]\nextenpatternmatchnew=yes") + include + phones(pattern),
        ):
            pbx.write("extensions.conf", text)
            switch(pbx, own)
            assert "already in use" not in pbx.log()
            for number, wanted in dialled.items():
                if number.startswith("0*") and pattern in ("_X.", "_[01]."):
                    continue  # no extension in full: that would need the prefix
                assert place(phone, number, trunk) == wanted, (pattern, number)
                phone.bye()
                trunk.reply(trunk.receive("BYE"), 200, "OK")
    pbx.write("extensions.conf", EXTENSIONS + include + phones("_1XX"))
    switch(pbx, own)
    house = [str(number) for number in range(101, 200) if number not in (110, 112)]
    assert {number: outcome(ami, number, "phones") for number in house} == {n: f"house-{n}" for n in house}


def test_duration_limit_ends_calls(pbx: Pbx) -> None:
    boot(pbx, guard(trunk="PJSIP/{number}@carrier", max_duration=2))
    phone, trunk = telephone(pbx), carrier(pbx)
    assert phone.call("0301234567", trunk).status == 200
    trunk.receive("BYE")
    assert phone.receive("BYE").method == "BYE"


def test_duration_limit_stays_after_a_transfer(pbx: Pbx) -> None:
    ami = boot(pbx, guard(trunk="PJSIP/{number}@carrier", max_duration=3))
    phone, trunk = telephone(pbx), carrier(pbx)
    assert phone.call("0301234567", trunk).status == 200
    moved = ami.action(
        "BlindTransfer",
        Channel=re.findall(r"PJSIP/100-\w+", pbx.cli("core show channels concise"))[0],
        Context="hold",
        Exten="s",
    )
    assert moved["Response"] == "Success"
    assert phone.receive("BYE").method == "BYE"
    assert "!hold!" in pbx.cli("core show channels concise")
    assert trunk.receive("BYE").method == "BYE"


def test_a_shorter_limit_stays(pbx: Pbx) -> None:
    ami = boot(pbx, guard())
    limits = []
    for context in ("judge", "short"):
        start(ami, "0301234567", context)
        limits.append(float(ami.event("UserEvent")["Limit"]))
    assert 3500 < limits[0] <= 3600
    assert 0 < limits[1] <= 50


def test_cap_on_all_calls(pbx: Pbx) -> None:
    ami = boot(pbx, guard(max_calls=3))
    for dummy in range(9):  # all at once
        start(ami, "0301234567")
    assert eventually(lambda: len(refusals(pbx)) >= 6)
    assert eventually(lambda: trunks(pbx) == 9 - len(refusals(pbx)))
    assert trunks(pbx) <= 3
    while trunks(pbx) < 3:
        start(ami, "0301234567")
        assert eventually(lambda: trunks(pbx) + len(refusals(pbx)) > 9)
    assert outcome(ami, "0301234567") == "cause 34"
    assert outcome(ami, "112") == "112"
    victim = re.findall(r"^(Local/0301234567@phones\S*?;2)!", pbx.cli("core show channels concise"), re.MULTILINE)[0]
    ami.action("Hangup", Channel=victim)
    assert eventually(lambda: trunks(pbx) == 2)
    assert outcome(ami, "0301234567") == "0301234567"


def test_cap_counts_a_second_attempt_once(pbx: Pbx) -> None:
    """A dialplan that tries another trunk, and asks the guard again."""
    ami = boot(pbx, guard(max_calls=1, max_calls_per_caller=1))
    assert outcome(ami, "0301234567", "twice") == "0301234567"
    start(ami, "0301234567")
    assert eventually(lambda: trunks(pbx) == 1)
    assert outcome(ami, "0301234567", "twice") == "cause 34"


def test_cap_counts_transferred_calls(pbx: Pbx) -> None:
    ami = boot(pbx, guard(trunk="PJSIP/{number}@carrier", max_calls=1))
    phone, trunk = telephone(pbx), carrier(pbx)
    assert phone.call("0301234567", trunk).status == 200
    channel = re.findall(r"PJSIP/100-\w+", pbx.cli("core show channels concise"))[0]
    ami.action("BlindTransfer", Channel=channel, Context="hold", Exten="s")
    phone.receive("BYE")
    assert outcome(ami, "0301234567") == "cause 34"
    ami.action("Hangup", Channel=re.findall(r"PJSIP/carrier-\w+", pbx.cli("core show channels concise"))[0])
    assert eventually(lambda: "PJSIP/carrier" not in pbx.cli("core show channels concise"))
    assert outcome(ami, "0301234567") == "0301234567"


def test_cap_of_the_leg_itself(pbx: Pbx) -> None:
    """Calls that passed the guard together: the leg that is too many is not dialled."""
    ami = boot(pbx, guard(max_calls=1))
    start(ami, "0301234567")
    assert eventually(lambda: trunks(pbx) == 1)
    start(ami, "089123456", "late")
    assert ami.event("UserEvent")["Status"] == "CHANUNAVAIL"
    assert trunks(pbx) == 1
    switch(pbx, guard(max_calls=2))
    start(ami, "089123456", "late")
    assert eventually(lambda: trunks(pbx) == 2)


def test_cap_for_each_caller(pbx: Pbx) -> None:
    boot(pbx, guard(trunk="PJSIP/{number}@carrier", max_calls_per_caller=1))
    phone, trunk = telephone(pbx), carrier(pbx)
    assert phone.call("0301234567", trunk).status == 200
    assert pbx.sip("127.0.0.9", user="100", password=PASSWORD).invite("089123456").status == 503
    assert outcome(manager(pbx), "089123456") == "089123456"  # another caller
    phone.bye()
    trunk.reply(trunk.receive("BYE"), 200, "OK")
    assert phone.call("089123456", trunk).status == 200


def _other_day(pbx: Pbx) -> str:
    """A time that is not now, nor soon."""
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    today = days.index(pbx.check(["date", "+%a"]).strip().lower())
    return f"{days[(today + 3) % 7]} 00:00-23:59"


def test_hours(pbx: Pbx) -> None:
    ami = boot(pbx, guard(hours=[_other_day(pbx)]))
    assert outcome(ami, "0301234567") == "cause 21"
    switch(pbx, guard(hours=[_other_day(pbx), "00:00-23:59"]))
    assert outcome(ami, "0301234567") == "0301234567"


def test_prefix(pbx: Pbx) -> None:
    ami = boot(pbx, guard(prefix="*77*", allowed=["+44"]))
    cases = {
        "*77*00442071234567": "00442071234567",
        "00442071234567": "cause 21",
        "*78*00442071234567": "cause 21",
        "*77*0900123456": "cause 21",
        "0301234567": "0301234567",
        "*77*0301234567": "0301234567",
    }
    assert {number: outcome(ami, number) for number in cases} == cases
