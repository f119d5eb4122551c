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
