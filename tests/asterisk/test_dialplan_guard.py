# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard against toll fraud with real calls: what reaches the trunk, what does not, and what the logs say about it."""

from __future__ import annotations

import dataclasses
import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import dialplan_guard as guards

from .ami import Ami
from .harness import PJSIP_TRANSPORTS, Pbx, eventually
from .phone import SDP, Phone

_numbers = itertools.count(1)
FILE = "extensions_sipguard.conf"
PIN = "482913"
WRONG = "739164"
PASSWORD = "lab-only-5e1f"
TRUNK = "198.51.100.7"

PJSIP = f"""{PJSIP_TRANSPORTS}
[100]
type=endpoint
context=phones
auth=100
aors=100
allow=!all,alaw
[100]
type=auth
auth_type=userpass
username=100
password={PASSWORD}
[100]
type=aor
max_contacts=1
[carrier]
type=endpoint
context=none
aors=carrier
allow=!all,alaw
[carrier]
type=aor
contact=sip:{TRUNK}:5070
"""

# A carrier that takes every call; somebody who waits; whoever calls the guard in a way of his own.
EXTENSIONS = """[general]
[globals]
[carrier]
exten => _.,1,Answer()
 same => n,Wait(60)
exten => h,1,Hangup()
[hold]
exten => s,1,Answer()
 same => n,Wait(60)
[judge]
exten => _.,1,Gosub(sipguard-guard,s,1)
 same => n,UserEvent(Passed,Number: ${SIPGUARD_NUMBER},Class: ${SIPGUARD_CLASS},Options: ${SIPGUARD_DIAL},Limit: ${TIMEOUT(absolute)})
exten => h,1,Hangup()
[given]
exten => _.,1,Gosub(sipguard-guard,s,1(${EXTEN}))
 same => n,UserEvent(Passed,Number: ${SIPGUARD_NUMBER},Class: ${SIPGUARD_CLASS},Options: ${SIPGUARD_DIAL},Limit: ${TIMEOUT(absolute)})
exten => h,1,Hangup()
"""
MANAGER = "[general]\nenabled=yes\nbindaddr=127.0.0.1\n[tests]\nsecret=tests\nread=all\nwrite=all\n"
DE = guards.Guard(country="de", trunk="Local/{number}@carrier/n", contexts=["phones"])


def boot(pbx: Pbx, guard: guards.Guard, **files: str) -> None:
    made = {
        "pjsip.conf": PJSIP,
        "manager.conf": MANAGER,
        "extensions.conf": guards.with_include(EXTENSIONS.encode(), FILE),
        FILE: guards.render(guard, FILE, "0f" * 16),
    }
    if guard.pin:
        made[guards.pin_file(FILE)] = guards.render_pin(guard.pin, "a5" * 16)
    pbx.boot({**made, **{name.replace("_", "."): text for name, text in files.items()}})


def manager(pbx: Pbx) -> Ami:
    ami = pbx.ami()
    assert ami.login("tests", "tests")["Response"] == "Success"
    return ami


def start(ami: Ami, number: str, context: str = "phones") -> str:
    """A call to `number` by a Local channel, which is a caller to the dialplan; the unique id of that channel."""
    number_of_call = f"{next(_numbers):06}"  # none may begin with another
    ident = f"dialplan-{number_of_call}"
    headers = {
        "Channel": f"Local/{number}@{context}/n",
        "ChannelId": f"caller-{number_of_call}",
        "OtherChannelId": ident,
    }
    answer = ami.action("Originate", Application="Wait", Data="60", Async="true", CallerID="Alice <100>", **headers)
    assert answer["Response"] == "Success"
    return ident


def ended(ami: Ami, ident: str) -> str:
    """The number that the guard has let through, or `cause N` with which it has hung up."""
    while (event := ami.event("Hangup"))["Uniqueid"] != ident:
        pass
    passed = [each for each in ami.events if each.get("UserEvent") == "Passed" and each["Uniqueid"] == ident]
    ami.events.clear()
    return passed[0]["Number"] if passed else f"cause {event['Cause']}"


def outcome(ami: Ami, number: str, context: str = "judge") -> str:
    """What becomes of a call, see `ended`."""
    return ended(ami, start(ami, number, context))


def refusals(pbx: Pbx) -> list[str]:
    return [line.partition("call refused: ")[2] for line in pbx.log().splitlines() if "call refused" in line]


def trunks(pbx: Pbx) -> int:
    """Calls that have reached the carrier's context."""
    return sum(
        line.startswith("Local/") and "@carrier" in line.split("!")[0] and ";2" in line
        for line in pbx.cli("core show channels concise").splitlines()
    )


def place(phone: Phone, called: str, trunk: Phone) -> str:
    """A call that the carrier takes; the number for which it was asked."""
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(phone.invite, called)
        invite = trunk.receive("INVITE")
        trunk.reply(invite, 200, "OK", SDP)
        assert answer.result().status == 200
    return invite.first.split()[1].partition("@")[0].removeprefix("sip:")


def telephone(pbx: Pbx) -> Phone:
    return pbx.sip(user="100", password=PASSWORD)


def carrier(pbx: Pbx) -> Phone:
    return pbx.sip(TRUNK, source_port=5070, name="carrier")


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
    boot(pbx, dataclasses.replace(DE, allowed=["+44", "0900 555", "+1"], blocked=["004470"]))
    ami = manager(pbx)
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
    ("us", "411", "cause 21"),
    ("us", "1010288011442071234567", "cause 21"),
    ("us", "00", "cause 21"),
    ("at", "012345678", "012345678"),
    ("at", "0900123456", "cause 21"),
    ("at", "+43 (0)930 123456", "cause 21"),
    ("at", "0049301234567", "cause 21"),
    ("at", "10050900123456", "cause 21"),
    ("at", "133", "133"),
    ("ch", "0441234567", "0441234567"),
    ("ch", "0041906123456", "cause 21"),
    ("ch", "1811", "cause 21"),
    ("ch", "117", "117"),
    ("ch", "1414", "1414"),
    ("gb", "02071234567", "02071234567"),
    ("gb", "01189123456", "01189123456"),  # Reading, no directory enquiries
    ("gb", "118118", "cause 21"),
    ("gb", "09061234567", "cause 21"),
    ("gb", "07012345678", "cause 21"),
    ("gb", "07712345678", "07712345678"),
    ("gb", "14109061234567", "cause 21"),
    ("gb", "999", "999"),
]


def test_countries(pbx: Pbx) -> None:
    found = {}
    for country in dict.fromkeys(country for country, dummy, dummy in COUNTRIES):
        boot(pbx, dataclasses.replace(DE, country=country))
        ami = manager(pbx)
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


@pytest.mark.parametrize("context", ["judge", "given"])
def test_injection(pbx: Pbx, context: str) -> None:
    boot(pbx, DE)
    ami = manager(pbx)
    found = {number: outcome(ami, number, context) for number in [*INJECTIONS, "0301234567", "112"]}
    assert found == {**dict.fromkeys(INJECTIONS, "cause 28"), "0301234567": "0301234567", "112": "112"}


def test_calls_over_sip(pbx: Pbx) -> None:
    boot(pbx, dataclasses.replace(DE, trunk="PJSIP/{number}@carrier", allowed=["+44"], access_digit="9"))
    phone, trunk = telephone(pbx), carrier(pbx)
    for dialled, wanted in (
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
    guard = dataclasses.replace(
        DE,
        pin=PIN,
        pin_for="all",
        prefix="7799",
        max_calls=1,
        max_calls_per_caller=1,
        hours=["mon 00:00-00:01"],
        access_digit="0",
        emergency=["19222"],
    )
    boot(pbx, guard)
    ami = manager(pbx)
    for number in ("112", "0112", "110", "911", "19222", "077990301234567"):
        start(ami, number)
    assert eventually(lambda: trunks(pbx) == 5), pbx.cli("core show channels")
    assert outcome(ami, "0 7799 112") == "112"
    assert outcome(ami, "0112") == "112"
    assert outcome(ami, "077990301234567") == "cause 21"


def test_duration_limit_ends_calls(pbx: Pbx) -> None:
    boot(pbx, dataclasses.replace(DE, trunk="PJSIP/{number}@carrier", max_duration=2))
    phone, trunk = telephone(pbx), carrier(pbx)
    assert phone.call("0301234567", trunk).status == 200
    trunk.receive("BYE")
    assert phone.receive("BYE").method == "BYE"


def test_duration_limit_stays_after_a_transfer(pbx: Pbx) -> None:
    boot(pbx, dataclasses.replace(DE, trunk="PJSIP/{number}@carrier", max_duration=3))
    phone, trunk = telephone(pbx), carrier(pbx)
    ami = manager(pbx)
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
    boot(
        pbx,
        DE,
        extensions_conf=guards.with_include(
            (
                EXTENSIONS + "[short]\nexten => _.,1,Set(TIMEOUT(absolute)=50)\n same => n,Goto(judge,${EXTEN},1)\n"
            ).encode(),
            FILE,
        ).decode(),
    )
    ami = manager(pbx)
    limits = []
    for context in ("judge", "short"):
        start(ami, "0301234567", context)
        limits.append(float(ami.event("UserEvent")["Limit"]))
    assert 3500 < limits[0] <= 3600
    assert 0 < limits[1] <= 50


def test_cap_on_all_calls(pbx: Pbx) -> None:
    boot(pbx, dataclasses.replace(DE, max_calls=3))
    ami = manager(pbx)
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


def test_cap_counts_transferred_calls(pbx: Pbx) -> None:
    boot(pbx, dataclasses.replace(DE, trunk="PJSIP/{number}@carrier", max_calls=1))
    phone, trunk = telephone(pbx), carrier(pbx)
    ami = manager(pbx)
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
    boot(pbx, dataclasses.replace(DE, max_calls=1))
    ami = manager(pbx)
    start(ami, "0301234567")
    assert eventually(lambda: trunks(pbx) == 1)
    leg = {"Channel": "Local/s@late/n", "Application": "Wait", "Data": "60", "Async": "true"}
    pbx.write(
        "extensions.conf",
        pbx.read("extensions.conf")
        + "\n[late]\nexten => s,1,Dial(Local/089@carrier/n,,b(sipguard-leg^s^1(x)))\n same => n,UserEvent(Ended,Status: ${DIALSTATUS})\n",
    )
    pbx.cli("dialplan reload")
    ami.action("Originate", **leg)
    assert ami.event("UserEvent")["Status"] == "CHANUNAVAIL"
    assert trunks(pbx) == 1


def test_cap_for_each_caller(pbx: Pbx) -> None:
    boot(pbx, dataclasses.replace(DE, trunk="PJSIP/{number}@carrier", max_calls_per_caller=1))
    phone, trunk = telephone(pbx), carrier(pbx)
    assert phone.call("0301234567", trunk).status == 200
    assert pbx.sip("127.0.0.9", user="100", password=PASSWORD).invite("089123456").status == 503
    assert outcome(manager(pbx), "089123456") == "089123456"  # another caller
    phone.bye()
    trunk.reply(trunk.receive("BYE"), 200, "OK")
    assert phone.call("089123456", trunk).status == 200


def test_hours(pbx: Pbx) -> None:
    day = pbx.check(["date", "+%a"]).strip().lower()
    other = "mon" if day != "mon" else "tue"
    for hours, wanted in ((f"{day} 00:00-23:59", "0301234567"), (f"{other} 00:00-23:59", "cause 21")):
        boot(pbx, dataclasses.replace(DE, hours=[hours]))
        assert outcome(manager(pbx), "0301234567") == wanted


def test_prefix(pbx: Pbx) -> None:
    boot(pbx, dataclasses.replace(DE, prefix="*77*", allowed=["+44"]))
    ami = manager(pbx)
    cases = {
        "*77*00442071234567": "00442071234567",
        "00442071234567": "cause 21",
        "*78*00442071234567": "cause 21",
        "*77*0900123456": "cause 21",
        "0301234567": "0301234567",
        "*77*0301234567": "0301234567",
    }
    assert {number: outcome(ami, number) for number in cases} == cases


def enter(ami: Ami, channel: str, digits: str) -> None:
    """Keys pressed as soon as the caller is asked."""
    while "GET DATA" not in ami.event("AGIExecStart")["Command"]:
        pass
    for digit in f"{digits}#":
        assert ami.action("PlayDTMF", Channel=channel, Digit=digit)["Response"] == "Success"


def asked(ami: Ami, entered: list[str]) -> str:
    """What becomes of a call during which these PINs are entered: the number that passes, or the cause."""
    ident = start(ami, "00442071234567", "judge")
    while (event := ami.event("Newchannel"))["Uniqueid"] != ident.replace("dialplan", "caller"):
        pass
    for digits in entered:
        enter(ami, event["Channel"], digits)
    return ended(ami, ident)


def test_pin(pbx: Pbx) -> None:
    boot(pbx, dataclasses.replace(DE, pin=PIN, allowed=["+44"]))
    ami = manager(pbx)
    assert asked(ami, [PIN]) == "00442071234567"
    assert asked(ami, [WRONG, PIN]) == "00442071234567"
    assert refusals(pbx) == []
    assert asked(ami, [WRONG, WRONG, WRONG]) == "cause 21"
    assert "no right PIN in three attempts, caller 100, channel Local/00442071234567@judge" in refusals(pbx)[0]
    # a moment later nobody is asked, but whoever needs no PIN may call
    assert asked(ami, []) == "cause 21"
    assert "a wrong PIN was entered a moment ago" in refusals(pbx)[1]
    assert outcome(ami, "0301234567") == "0301234567"
    assert outcome(ami, "112") == "112"
