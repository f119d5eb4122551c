# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The telephones and the manager client that the tests with Asterisk build on; the modules' runs in a container."""

from __future__ import annotations

import itertools

from .harness import Pbx
from .test_live import DIALPLAN, PHONE, pjsip


def test_a_telephone_logs_in_and_a_stranger_does_not(pbx: Pbx) -> None:
    pbx.boot({"pjsip.conf": pjsip(), "extensions.conf": DIALPLAN})
    for source, transport in itertools.product(("127.0.0.2", "198.51.100.7", "::1", "2001:db8::7"), ("udp", "tcp")):
        phone = pbx.sip(source, transport, user="1001", password="jK4-first-phone")
        assert [phone.register().status, phone.options().status] == [200] * 2, (source, transport)
        assert [phone.invite("600").status, phone.bye().status] == [200] * 2, (source, transport)
        wrong = pbx.sip(source, transport, user="1001", password="wrong")
        assert [wrong.register().status, wrong.invite("600").status] == [401] * 2, (source, transport)
        assert pbx.sip(source, transport).options().status == 401, (source, transport)


def test_one_telephone_calls_another_and_the_manager_hears_of_it(pbx: Pbx) -> None:
    second = PHONE.partition("[1001](phone)")[2].replace("1001", "1002")
    pbx.boot(
        {
            "pjsip.conf": pjsip(f"[1002](phone){second}"),
            "extensions.conf": "[phones]\nexten => _100X,1,Dial(${PJSIP_DIAL_CONTACTS(${EXTEN})},30)\n",
            "manager.conf": "[general]\nenabled=yes\nbindaddr=127.0.0.1\n[spy]\nsecret=Hh2-manager\nread=security\n",
        }
    )
    manager = pbx.ami()
    assert manager.login("spy", "Hh2-manager")["Response"] == "Success"
    caller, called = (
        pbx.sip(f"127.0.0.{host}", user=user, password="jK4-first-phone") for host, user in ((2, "1001"), (3, "1002"))
    )
    assert called.register().status == 200
    assert caller.call("1002", called).status == 200
    assert pbx.cli("core show channels count").startswith("2 active channels")
    assert caller.bye().status == 200
    called.reply(called.receive("BYE"), 200, "OK")
    # the manager's own login, the second telephone's registration, the first one's call
    assert [manager.event("SuccessfulAuth")["AccountID"] for dummy in range(3)] == ["spy", "1002", "1001"]


def test_a_module_runs_with_the_python_of_the_container(pbx: Pbx) -> None:
    before = pbx.check(["ls", "-A", "/root"])
    message = pbx.refused("sip_ban", {"addresses": ["nonsense"]})
    assert "addresses" in message
    assert "nonsense" in message
    # the file with the arguments is gone
    assert pbx.check(["ls", "-A", "/root"]) == before


def test_the_files_are_as_given_and_nothing_is_left_of_the_last_test(pbx: Pbx) -> None:
    pbx.boot({"pjsip.conf": pjsip(), "sub/more.conf": b"; \xff\n"})
    assert pbx.check(["stat", "-c", "%a %U:%G", "/etc/asterisk/pjsip.conf"]) == "640 asterisk:asterisk\n"
    assert pbx.read_bytes("sub/more.conf") == b"; \xff\n"
    assert "Asterisk Ready" in pbx.log()
    before = pbx.snapshot()
    pbx.write("pjsip.conf", pjsip())
    assert before != pbx.snapshot()
    pbx.reset()
    assert not pbx.running()
    assert pbx.log() == ""
    assert pbx.check(["ls", "-A", "/etc/asterisk"]).split() == ["asterisk.conf", "logger.conf", "modules.conf"]


def test_a_crash_is_a_stop(pbx: Pbx) -> None:
    pbx.boot({"pjsip.conf": pjsip()})
    pbx.kill()
    assert not pbx.running()
    assert "Unable to connect" in pbx.cli("core show version")
    pbx.start()
    assert pbx.running()
