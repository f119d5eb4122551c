# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The PIN of the guard: who gets through, and where its digits are written down."""

from __future__ import annotations

import re
import socket
import struct
import time
from typing import Any

import pytest

from .ami import Ami
from .dialplan_calls import (
    EXTENSIONS,
    FILE,
    PIN,
    WRONG,
    asked,
    boot,
    configuration,
    enter,
    guard,
    manager,
    outcome,
    refusals,
    start,
    telephone,
    trunks,
)
from .harness import Pbx, eventually
from .phone import SDP

# Everything is written down that can be.
LOUD = {
    "asterisk.conf": "[options]\nentityid=00:00:5e:00:53:01\nnocolor=yes\nverbose=5\ndebug=5\n",
    "logger.conf": "[general]\ndateformat=%F %T\n[logfiles]\n"
    "full => notice,warning,error,verbose,security,debug\nkeys => dtmf\n",
    "cdr.conf": "[general]\nenable=yes\nunanswered=yes\n[csv]\nloguniqueid=yes\n",
    "cdr_custom.conf": "[mappings]\n"
    "Own.csv => ${CDR(dst)},${CDR(lastapp)},${CDR(lastdata)},${CDR(accountcode)},${CDR(userfield)}\n",
}


def loud(pbx: Pbx, **options: Any) -> Ami:
    pbx.reset({**configuration(guard(**options)), **LOUD})
    pbx.check(["install", "-d", "-o", "asterisk", "/var/log/asterisk/cdr-csv", "/var/log/asterisk/cdr-custom"])
    pbx.start()
    pbx.cli("core set verbose 5")
    pbx.cli("core set debug 5")
    return manager(pbx)


def records(pbx: Pbx) -> str:
    """Both kinds of call records, once each has one."""
    paths = ("cdr-csv/Master.csv", "cdr-custom/Own.csv")
    assert eventually(lambda: all(pbx.log(path) for path in paths))
    return "".join(pbx.log(path) for path in paths)


def test_pin(pbx: Pbx) -> None:
    ami = boot(pbx, guard(pin=PIN, allowed=["+44"]))
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


def test_pin_of_a_caller_who_hangs_up(pbx: Pbx) -> None:
    """One wrong attempt for each call, and no third one, would make as many attempts as there are calls."""
    ami = boot(pbx, guard(pin=PIN, allowed=["+44"]))
    ident = start(ami, "00442071234567", "judge")
    while (event := ami.event("Newchannel"))["Uniqueid"] != ident.replace("dialplan", "caller"):
        pass
    enter(ami, event["Channel"], WRONG)
    ami.action("Hangup", Channel=event["Channel"])
    assert eventually(lambda: "/sipguard/" in pbx.cli("database show sipguard"))
    assert eventually(lambda: "0 active channels" in pbx.cli("core show channels"))
    ami.events.clear()
    assert asked(ami, []) == "cause 21"
    assert "a wrong PIN was entered a moment ago" in refusals(pbx)[0]


def test_pin_is_asked_for_in_one_call_at_a_time(pbx: Pbx) -> None:
    ami = boot(pbx, guard(pin=PIN, allowed=["+44"]))
    start(ami, "00442071234567", "judge")
    assert ami.event("AGIExecStart")["Command"].startswith("GET DATA")
    assert outcome(ami, "00442071234567") == "cause 21"
    assert "another call of this caller" in refusals(pbx)[0]
    assert outcome(ami, "0301234567") == "0301234567"


def test_without_a_way_to_ask_calls_are_refused(pbx: Pbx) -> None:
    ami = boot(pbx, guard(pin=PIN, allowed=["+44"]), {"extensions_sipguard.agi": "no program\n"})
    assert outcome(ami, "00442071234567") == "cause 21"
    pbx.cli("module unload res_agi.so")
    assert outcome(ami, "00442071234567").startswith("cause")
    assert outcome(ami, "0301234567") == "0301234567"
    assert outcome(ami, "112") == "112"


class Keys:
    """A telephone's keys, as RTP events (RFC 4733), from where its SDP says that its sound comes from."""

    sdp = SDP.replace("AVP 8 0", "AVP 8 101").replace(
        "a=sendrecv", "a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendrecv"
    )

    def __init__(self, pbx: Pbx, answer: str) -> None:
        found = re.search(r"m=audio (\d+)", answer)
        assert found
        self._target = ("127.0.0.1", int(found[1]))
        self._sock = pbx.socket(4, socket.SOCK_DGRAM, "127.0.0.1", 40000)
        self._sequence, self._time = 100, 1000

    def press(self, digits: str) -> None:
        for digit in digits:
            self._time += 3200
            for step in (1, 2, 3, 4, 5, 6, 6, 6):
                self._sequence += 1
                header = struct.pack("!BBHII", 0x80, 101 | (0x80 if step == 1 else 0), self._sequence, self._time, 7)
                event = struct.pack("!BBH", "0123456789*#".index(digit), 10 | (0x80 if step == 6 else 0), step * 160)
                self._sock.sendto(header + event, self._target)
                time.sleep(0.02)  # that is how long 160 samples last

    def close(self) -> None:
        self._sock.close()


def test_pin_is_written_nowhere(pbx: Pbx) -> None:
    ami = loud(pbx, pin=PIN, allowed=["+44"])
    phone = telephone(pbx)
    answer = phone.invite("00442071234567", body=Keys.sdp)
    assert answer.status == 200
    keys = Keys(pbx, answer.body)
    for entered in (WRONG, PIN):
        while "GET DATA" not in ami.event("AGIExecStart")["Command"]:
            pass
        keys.press(f"{entered}#")
    assert eventually(lambda: trunks(pbx) == 1)
    keys.close()
    phone.bye()
    written = records(pbx) + pbx.log() + pbx.cli("dialplan show") + pbx.cli("database show") + pbx.read(FILE)
    ami.action("Ping")
    events = repr(ami.events)
    assert "GET DATA" in events
    for secret in (PIN, WRONG):
        assert secret not in written
        assert secret not in events
        assert secret not in pbx.read("extensions_sipguard.agi")
    # what cannot be hidden, as the documentation says: single digits, from those who ask for them
    typed = f"{WRONG}#{PIN}#"
    assert "".join(re.findall(r"DTMF begin '(.)' received", pbx.log("keys"))) == typed
    assert "".join(re.findall(r"BEGIN DTMF Frame: \d+ \((.)\)", pbx.log())) == typed
    assert "".join(each["Digit"] for each in ami.events if each.get("Event") == "DTMFBegin") == typed
    pbx.cli("agi set debug on")
    assert asked(ami, [PIN]) == "00442071234567"
    assert eventually(lambda: f"200 result={PIN}" in pbx.log())


def test_prefix_is_part_of_the_dialled_number(pbx: Pbx) -> None:
    """As the documentation says: whoever records numbers records it."""
    ami = loud(pbx, prefix="7799", allowed=["+44"])
    assert outcome(ami, "779900442071234567") == "00442071234567"
    assert outcome(ami, "778900442071234567") == "cause 21"
    assert "Executing [779900442071234567@judge:1]" in pbx.log()
    assert "779900442071234567" in records(pbx)
    # but nowhere by itself, and not in the line about a refusal: that may be a mistyped prefix
    assert not re.search(r"\b7799\b", pbx.log() + pbx.cli("dialplan show") + pbx.read(FILE))
    refusal = [line for line in pbx.log().splitlines() if " NOTICE[" in line and "call refused" in line]
    assert len(refusal) == 1
    assert "7789" not in refusal[0]


@pytest.mark.parametrize(
    ("application", "shown"),
    [
        (f"Read(code,,{len(PIN)})", f"User entered '{PIN}'"),
        (f"Authenticate({PIN})", f'Authenticate("Local/1@asking-00000000;2", "{PIN}")'),
    ],
    ids=["Read", "Authenticate"],
)
def test_what_other_applications_write_down(pbx: Pbx, application: str, shown: str) -> None:
    """Why the guard has a program of its own for the question."""
    context = f"[asking]\nexten => 1,1,Answer()\n same => n,{application}\n"
    ami = boot(pbx, guard(), {**LOUD, "extensions.conf": EXTENSIONS + context})
    start(ami, "1", "asking")
    while not ami.event("Newexten")["Application"].startswith(application[:4]):
        pass
    for digit in f"{PIN}#":
        ami.action("PlayDTMF", Channel="Local/1@asking-00000000;1", Digit=digit)
    assert eventually(lambda: shown in pbx.log())
