# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module that writes the guard: files, dialplan, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

from .dialplan_calls import EXTENSIONS, FILE, PIN, WRONG, asked, configuration, guard, manager, outcome
from .harness import Pbx

MODULE = "asterisk_dialplan_guard"

OPTIONS: dict[str, Any] = {
    "country": "de",
    "allowed": ["+44"],
    "trunk": "Local/{number}@carrier/n",
    "contexts": ["phones"],
}


def test_module(pbx: Pbx) -> None:
    bare = {name: text for name, text in configuration(guard()).items() if name != FILE}
    pbx.boot({**bare, "extensions.conf": EXTENSIONS})
    before = pbx.check(["ls", "/etc/asterisk"])
    options = {**OPTIONS, "pin": PIN, "prefix": "7799"}
    made = pbx.four_runs(MODULE, options)
    assert made["reloaded"]
    assert made["contexts"] == ["sipguard-guard", "sipguard-leg", "sipguard-numbers", "sipguard-outbound", "phones"]
    assert pbx.read("extensions.conf") == f'{EXTENSIONS}#include "{FILE}"\n'
    assert (
        pbx.check(["stat", "-c", "%U %a", f"/etc/asterisk/{FILE}", "/etc/asterisk/extensions_sipguard.agi"]).split()
        == ["asterisk", "640"] * 2
    )
    text = repr(made) + pbx.read(FILE) + pbx.read("extensions_sipguard.agi")
    assert PIN not in text
    assert "7799" not in text
    assert not re.search("[0-9a-f]{40}", repr(made))
    ami = manager(pbx)
    assert asked(ami, [PIN], "779900442071234567") == "00442071234567"
    assert outcome(ami, "00442071234567") == "cause 21"
    # another PIN is another hash, at once
    changed = pbx.apply(MODULE, {**options, "pin": WRONG})
    assert changed["changed"]
    assert not changed["reloaded"]
    # without it the program goes
    pbx.apply(MODULE, OPTIONS)
    assert outcome(ami, "00442071234567") == "00442071234567"
    assert "extensions_sipguard.agi" not in pbx.check(["ls", "/etc/asterisk"])
    gone = pbx.four_runs(MODULE, {"state": "absent"})
    assert gone["reloaded"]
    assert pbx.read("extensions.conf") == EXTENSIONS
    assert pbx.check(["ls", "/etc/asterisk"]) == before
    assert "Context 'sipguard" not in pbx.cli("dialplan show")


def test_emergency_numbers_of_the_phones_context_itself(pbx: Pbx) -> None:
    bare = {name: text for name, text in configuration(guard()).items() if name != FILE}
    own = (
        "[phones]\nexten => _1XX,1,Hangup(17)\nexten => 112,hint,PJSIP/100\nexten => 110/200,1,Hangup(17)\ninclude => hall\n"
        "{}[hall]\nexten => 110,1,Hangup(17)\n"
    )
    pbx.boot({**bare, "extensions.conf": EXTENSIONS + own.format("")})
    options = {**OPTIONS, "access_digit": "0"}
    made = pbx.apply(MODULE, options)
    assert [each["event"]["msg"] if isinstance(each, dict) else each for each in made["warnings"]] == [
        "extensions.conf:30: [phones] has the emergency number 110/200 itself, and that does not lead to the guard; see to it that such"
        " calls get through, or remove it",
        "extensions.conf:33: [phones] does not reach the emergency number 110 of [hall] any more, but the trunk of the guard; to have it"
        " otherwise, write it into [phones]",
    ]
    assert re.search(r"'112' =>\s+hint.*\n\s+1\. Goto\(sipguard-outbound,112,1\)", pbx.cli("dialplan show 112@phones"))
    for mine, warnings in (
        ("exten => 112,1,Dial(PJSIP/gate)\n same => n,Hangup()\n", 3),
        ("exten => _1-1[2],1,Dial(PJSIP/gate)\n", 3),
        ("exten => 112,1,Gosub(sipguard-guard,s,1)\n same => n,Dial(PJSIP/112@gate)\n", 2),
    ):
        pbx.write("extensions.conf", f'{EXTENSIONS}{own.format(mine)}#include "{FILE}"\n')
        assert pbx.apply(MODULE, options)["changed"]
        assert len(pbx.apply(MODULE, options)["warnings"]) == warnings
        assert not pbx.apply(MODULE, options, check=True)["changed"]
        assert "already in use" not in pbx.log()
        shown = pbx.cli("dialplan show 112@phones")
        assert "'112' =>" in shown or "'_1-1[2]' =>" in shown
        assert "sipguard-outbound,112" not in shown.partition("Include")[0]
        assert "sipguard-outbound,112" in pbx.cli("dialplan show 0112@phones")
        pbx.write("extensions.conf", f'{EXTENSIONS}{own.format("")}#include "{FILE}"\n')
        assert pbx.apply(MODULE, options)["changed"]
    # somebody adds it later: Asterisk takes the first of the two as a whole
    pbx.write(
        "extensions.conf", f'{EXTENSIONS}#include "{FILE}"\n[phones]\nexten => 112,1,Hangup(17)\n same => n,Hangup()\n'
    )
    pbx.cli("dialplan reload")
    assert "1. Goto(sipguard-outbound,112,1)" in pbx.cli("dialplan show 112@phones")


def test_a_dialplan_that_is_not_taken_over_is_put_back(pbx: Pbx) -> None:
    bare = {name: text for name, text in configuration(guard()).items() if name != FILE}
    pbx.boot({**bare, "extensions.conf": EXTENSIONS})
    kept = pbx.apply(MODULE, OPTIONS)["backup"]
    pbx.cli("module unload pbx_config.so")
    before = pbx.read(FILE)
    refused = pbx.module(MODULE, {**OPTIONS, "max_calls": 3})
    assert "files are as they were" in refused["msg"]
    assert pbx.read(FILE) == before
    assert pbx.check(["ls", kept.rpartition("/")[0]]).split()[-1] == kept.rpartition("/")[2]
    pbx.cli("module load pbx_config.so")
    assert pbx.apply(MODULE, {**OPTIONS, "max_calls": 3})["reloaded"]
    assert pbx.check(["find", "/etc/asterisk", "-name", ".sipguard-*"]) == ""


def test_module_refuses(pbx: Pbx) -> None:
    bare = {name: text for name, text in configuration(guard()).items() if name != FILE}
    pbx.boot({**bare, "extensions.conf": EXTENSIONS, "own.conf": "[own]\n"})
    cases = [
        ({}, "country"),
        ({**OPTIONS, "trunk": "PJSIP/{number}@carrier&PJSIP/900@carrier"}, "trunk"),
        ({**OPTIONS, "file": "own.conf"}, "was not written by this module"),
        ({**OPTIONS, "file": "../x.conf"}, "file"),
        ({**OPTIONS, "include_into": "missing.conf"}, "it is not in /etc/asterisk"),
        ({**OPTIONS, "include_into": "own.conf"}, "would not include"),
        ({**OPTIONS, "pin": "1234"}, "6 to 20 digits"),
    ]
    for options, words in cases:
        message = pbx.refused(MODULE, options)
        assert words in message
        assert "1234" not in message
    pbx.write("extensions.conf", EXTENSIONS + ";-- a comment\n")
    assert "would not include" in pbx.refused(MODULE, OPTIONS)
    pbx.write("extensions.conf", EXTENSIONS + "#include gone.conf\n")
    assert "Asterisk refuses the dialplan" in pbx.refused(MODULE, OPTIONS)
    pbx.write("extensions.conf", EXTENSIONS)
    pbx.stop()
    assert "Asterisk does not run" in pbx.refused(MODULE, OPTIONS)
    assert pbx.apply(MODULE, {**OPTIONS, "reload": False})["changed"]
    pbx.start()
    assert outcome(manager(pbx), "112") == "112"
    pbx.stop()
    taken = pbx.four_runs(MODULE, {"state": "absent"})
    assert "it reads that when it starts" in str(taken["warnings"])
    assert pbx.read("extensions.conf") == EXTENSIONS
