# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls through the guard of the dialplan: a PBX with a phone, a carrier, and contexts that call the guard."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import dialplan_guard as guards

from .ami import Ami
from .harness import PJSIP_TRANSPORTS, Pbx
from .phone import SDP, Phone

__all__ = [
    "DE",
    "EXTENSIONS",
    "FILE",
    "PASSWORD",
    "PIN",
    "WRONG",
    "asked",
    "boot",
    "carrier",
    "configuration",
    "enter",
    "guard",
    "manager",
    "outcome",
    "place",
    "refusals",
    "start",
    "switch",
    "telephone",
    "trunks",
]

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
 same => n,UserEvent(Passed,Number: ${SIPGUARD_NUMBER},Class: ${SIPGUARD_CLASS},Limit: ${TIMEOUT(absolute)})
exten => h,1,Hangup()
[given]
exten => _.,1,Gosub(sipguard-guard,s,1(${EXTEN}))
 same => n,UserEvent(Passed,Number: ${SIPGUARD_NUMBER},Class: ${SIPGUARD_CLASS},Limit: ${TIMEOUT(absolute)})
exten => h,1,Hangup()
[twice]
exten => _X.,1,Gosub(sipguard-guard,s,1)
 same => n,Goto(judge,${EXTEN},1)
[short]
exten => _.,1,Set(TIMEOUT(absolute)=50)
 same => n,Goto(judge,${EXTEN},1)
[late]
exten => _X.,1,Dial(Local/${EXTEN}@carrier/n,,b(sipguard-leg^s^1(late)))
 same => n,UserEvent(Ended,Status: ${DIALSTATUS})
"""
MANAGER = "[general]\nenabled=yes\nbindaddr=127.0.0.1\n[tests]\nsecret=tests\nread=all\nwrite=all\n"
DE = guards.Guard(country="de", trunk="Local/{number}@carrier/n", contexts=["phones"])


def guard(**options: Any) -> guards.Guard:
    """The guard of a German PBX with a carrier that takes every call."""
    return dataclasses.replace(DE, **options)


def _files(guard: guards.Guard) -> dict[str, str]:
    made = {FILE: guards.render(guard, FILE, "0f" * 16)}
    if guard.pin:
        made[guards.pin_file(FILE)] = guards.render_pin(guard.pin, "a5" * 16)
    return made


def configuration(guard: guards.Guard) -> dict[str, str]:
    """Everything below /etc/asterisk, with the guard included."""
    included = guards.with_include(EXTENSIONS.encode(), FILE).decode()
    return {"pjsip.conf": PJSIP, "manager.conf": MANAGER, "extensions.conf": included, **_files(guard)}


def boot(pbx: Pbx, guard: guards.Guard, more: Mapping[str, str] = MappingProxyType({})) -> Ami:
    """Asterisk with the guard; the manager of it. `more` are further files, or others."""
    pbx.boot({**configuration(guard), **more})
    return manager(pbx)


def switch(pbx: Pbx, guard: guards.Guard) -> None:
    """Another guard for the Asterisk that runs."""
    for name, text in _files(guard).items():
        pbx.write(name, text)
    pbx.cli("dialplan reload")


def manager(pbx: Pbx) -> Ami:
    ami = pbx.ami()
    assert ami.login("tests", "tests")["Response"] == "Success"
    return ami


def start(ami: Ami, number: str, context: str = "phones", caller: str = "Alice <100>") -> str:
    """A call to `number` by a Local channel, which is a caller to the dialplan; the unique id of that channel."""
    number_of_call = f"{next(_numbers):06}"  # none may begin with another
    ident = f"dialplan-{number_of_call}"
    headers = {
        "Channel": f"Local/{number}@{context}/n",
        "ChannelId": f"caller-{number_of_call}",
        "OtherChannelId": ident,
    }
    answer = ami.action("Originate", Application="Wait", Data="60", Async="true", CallerID=caller, **headers)
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
    return [
        line.partition("call refused: ")[2]
        for line in pbx.log().splitlines()
        if " NOTICE[" in line and "call refused" in line
    ]


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


def enter(ami: Ami, channel: str, digits: str) -> None:
    """Keys pressed as soon as the caller is asked."""
    while "GET DATA" not in ami.event("AGIExecStart")["Command"]:
        pass
    for digit in f"{digits}#":
        assert ami.action("PlayDTMF", Channel=channel, Digit=digit)["Response"] == "Success"


def asked(ami: Ami, entered: list[str], number: str = "00442071234567") -> str:
    """What becomes of a call during which these PINs are entered, see `ended`."""
    ident = start(ami, number, "judge")
    while (event := ami.event("Newchannel"))["Uniqueid"] != ident.replace("dialplan", "caller"):
        pass
    for digits in entered:
        enter(ami, event["Channel"], digits)
    return ended(ami, ident)
