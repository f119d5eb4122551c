# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restart in the window and without a call, and none otherwise."""

from __future__ import annotations

import datetime
import json

from .harness import PJSIP_TRANSPORTS, Pbx, eventually

MODULE = "asterisk_restart"
FILES = {
    "pjsip.conf": f"{PJSIP_TRANSPORTS}[1001]\ntype=endpoint\ncontext=phones\ndisallow=all\nallow=alaw\n",
    "extensions.conf": "[phones]\nexten => 600,1,Answer()\n same => n,Wait(60)\n",
}


def began(pbx: Pbx) -> str:
    return next(line for line in pbx.cli("core show settings").splitlines() if "Startup time" in line)


def up_for(pbx: Pbx) -> int:
    return int(pbx.cli("core show uptime seconds").split("System uptime:")[1].split()[0])


def test_restarts_when_nobody_speaks(pbx: Pbx) -> None:
    pbx.boot(FILES)
    # so that the restart is in another second
    assert eventually(lambda: up_for(pbx) >= 2)
    assert pbx.apply(MODULE, {"force": True}, check=True)["restarted"]
    before = began(pbx)
    assert pbx.apply(MODULE, {})["reason"] == "nothing waits for a restart"
    result = pbx.apply(MODULE, {"force": True})
    assert result["restarted"]
    assert result["changed"]
    assert result["reason"] == ""
    assert began(pbx) != before
    assert pbx.running()


def test_a_call_is_never_ended(pbx: Pbx) -> None:
    pbx.boot(FILES)
    phone = pbx.sip("127.0.0.2", user="1001", name="1001")
    assert phone.invite("600").status == 200
    before = began(pbx)
    assert pbx.apply(MODULE, {"force": True}, check=True)["reason"] == "somebody speaks"
    result = pbx.apply(MODULE, {"patience": 1, "force": True})
    assert not result["restarted"]
    assert not result["changed"]
    assert "somebody has been speaking" in result["reason"]
    assert "1 active call" in pbx.cli("core show channels count")
    assert began(pbx) == before
    # new calls are still taken
    assert pbx.sip("127.0.0.3", user="1001", name="1001").invite("600").status == 200
    waiting = pbx.spawn(pbx.module_argv(MODULE, {"patience": 60, "force": True}))
    for line in (phone.bye(),):
        assert line.status == 200
    pbx.cli("channel request hangup all")
    assert json.loads(waiting.communicate(timeout=60)[0])["restarted"]
    assert began(pbx) != before


def test_the_window_counts(pbx: Pbx) -> None:
    pbx.boot(FILES)
    before = began(pbx)
    now = datetime.datetime.strptime(pbx.check(["date", "+%H:%M"]).strip(), "%H:%M")
    later = [now + datetime.timedelta(hours=hours) for hours in (2, 3)]
    shut = f"{later[0]:%H:%M}-{later[1]:%H:%M}"
    result = pbx.apply(MODULE, {"window": shut, "force": True})
    assert not result["changed"]
    assert shut in result["reason"]
    assert began(pbx) == before
    open_now = f"{later[1]:%H:%M}-{later[0]:%H:%M}"
    assert pbx.apply(MODULE, {"window": open_now, "force": True}, check=True)["restarted"]


def test_bad_options_and_no_asterisk(pbx: Pbx) -> None:
    for options, words in (
        ({"window": "night"}, ["window", "night", "02:00-04:30"]),
        ({"window": "02:00-02:00"}, ["window"]),
        ({"patience": -1}, ["patience", "86400"]),
    ):
        said = pbx.refused(MODULE, options)
        assert all(word in said for word in words), said
    result = pbx.apply(MODULE, {})
    assert not result["changed"]
    assert result["reason"] == "Asterisk does not run"
