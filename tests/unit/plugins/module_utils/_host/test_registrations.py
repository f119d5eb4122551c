# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is registered, by what Asterisk's database says, and what becomes of it."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host import registrations
from ansible_collections.sipguard.pbx.plugins.module_utils._host.registrations import (
    known,
    learn,
    parse_chan_sip,
    parse_pjsip,
    registered,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.settings import Settings
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.sets import spec
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

FOUR, SIX = ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("2001:db8::7")


def contact(uri: str, **more: object) -> str:
    """A line of ``database show registrar/contact``, as Asterisk 16 and 22 print it."""
    value = json.dumps({"via_addr": "10.0.0.9", "qualify_timeout": "3.0", "uri": uri, "via_port": 5060, **more})
    return f"/registrar/contact/1001;@3b9c6bd8a3d5c2f7a9e1: {value}\n"


def peer(value: str) -> str:
    return f"{'/SIP/Registry/1001':<50}: {value:<25}\n"


CONTACTS = (
    contact("sip:1001@192.0.2.7:5060^3Btransport=tcp^3Bob")
    + contact("sips:1001@[2001:db8::7]:5061^3Btransport=tls")
    + "2 results found.\n"
)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sip:1001@192.0.2.7:5060", FOUR),
        ("sip:1001@192.0.2.7", FOUR),
        ("sip:192.0.2.7", FOUR),
        ("SIPS:1001@192.0.2.7^3Btransport=tls", FOUR),
        ("sip:1001@[2001:db8::7]:5060^3Bob", SIX),
        ("sip:1001@[2001:DB8:0::7]", SIX),
        ("sip:1001@[::ffff:192.0.2.7]:5060", FOUR),
        ("sip:a:b@192.0.2.7:5060", FOUR),
        ("sip:1001@192.0.2.7:5060^3Bx-ast-orig-host=203.0.113.9:5060", FOUR),
        # The user part is a stranger's choice.
        ("sip:203.0.113.9:5060^3Bx=y@192.0.2.7", FOUR),
        ("sip:203.0.113.9^3Bx@192.0.2.7", FOUR),
        ("sip:203.0.113.9;x@192.0.2.7:5060;transport=udp", FOUR),
        ("sip:1001@192.0.2.7;x=1@203.0.113.9", None),
        ("sip:203.0.113.9@x@192.0.2.7", None),
        ("sip:1001@pbx.example.org:5060", None),
        ("sip:1001@[fe80::1%eth0]", None),
        ("sip:1001@[2001:db8::7", None),
        ("sip:1001@192.0.2.256", None),
        ("sip:1001@192.0.2.7 add sipguard-trusted4 0.0.0.0/1", FOUR),
        ("sip:", None),
        ("tel:1001", None),
        ("", None),
    ],
)
def test_address_of_a_contact(uri: str, address: object) -> None:
    assert parse_pjsip(contact(uri)) == ([] if address is None else [address])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0 results found.\n",
        "/registrar/contact/1001;@x: {broken\n",
        "/registrar/contact/1001;@x: []\n",
        "/registrar/contact/1001;@x: 7\n",
        '/registrar/contact/1001;@x: {"uri": null}\n',
        '/registrar/contact/1001;@x: {"url": "sip:a@192.0.2.7"}\n',
        '/somewhere/else: {"uri": "sip:a@192.0.2.7"}\n',
        'Unable to connect to remote asterisk: {"uri": "sip:a@192.0.2.7"}\n',
    ],
)
def test_what_is_no_contact_is_left_out(text: str) -> None:
    assert parse_pjsip(text) == []
    assert parse_pjsip(text + CONTACTS) == [FOUR, SIX]


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("192.0.2.7:5060:3600:1001:sip:1001@203.0.113.9:5060", FOUR),
        ("192.0.2.7:5060:3600:1001", FOUR),
        ("[2001:db8::7]:5060:3600:1001:sip:1001@[2001:db8::9]", SIX),
        ("[::ffff:192.0.2.7]:5060:120:1001:sip:1001@10.0.0.1", FOUR),
        (":5060:3600:1001:sip:x", None),
        ("192.0.2.7", None),
        ("nobody:5060:3600", None),
        ("[192.0.2.7:5060:3600", None),
        ("", None),
    ],
)
def test_address_of_a_peer(value: str, address: object) -> None:
    assert parse_chan_sip(peer(value)) == ([] if address is None else [address])


@given(st.text())
def test_nothing_that_is_printed_is_a_surprise(text: str) -> None:
    for line in (text, contact(text), peer(text)):
        for address in parse_pjsip(line) + parse_chan_sip(line):
            assert ipaddress.ip_address(str(address)) == address


# -- asked of a host


class Asterisk(FakeHost):
    """A host in memory with an Asterisk that answers by command."""

    def __init__(self, answers: dict[str, Completed], commands: Sequence[str] = ("asterisk", "timeout")) -> None:
        super().__init__()
        self.commands |= set(commands)
        self.answers = answers
        self.asked: list[list[str]] = []
        self.interfere = self.answer
        for name in ("sipguard-known4", "sipguard-known6"):
            self.sets[name] = (spec(name).create().split(" ", 2)[2], {})

    def answer(self, argv: Sequence[str], stdin: str) -> Completed | None:
        if "-rx" not in argv:
            return None
        self.asked.append(list(argv))
        return self.answers.get(argv[-1], Completed(1, "", "Unable to connect to remote asterisk"))

    def known(self) -> dict[str, str]:
        return {member: rest for name in sorted(self.sets) for member, rest in self.sets[name][1].items()}


PJSIP, CHAN_SIP = "database show registrar/contact", "database show SIP/Registry"


@pytest.fixture
def asterisk() -> Asterisk:
    old = peer("192.0.2.7:5060:3600:1001:x") + peer("198.51.100.1:5060:3600:1002:x") + peer("127.0.0.1:5060:60:1:x")
    return Asterisk({PJSIP: Completed(0, CONTACTS, ""), CHAN_SIP: Completed(0, old, "")})


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        registrations, "Settings", type("Here", (), {"read": staticmethod(lambda: Settings(known_for=77))})
    )


def test_registered_are_those_of_both_drivers_each_once(asterisk: Asterisk) -> None:
    assert registered(asterisk) == [FOUR, SIX, ipaddress.ip_address("198.51.100.1")]
    assert [argv[0] for argv in asterisk.asked] == ["/nowhere/timeout"] * 2


def test_without_asterisk_nobody_is_registered() -> None:
    assert registered(Asterisk({}, commands=())) == []
    # and one that does not run, or hangs
    assert registered(Asterisk({})) == []
    assert registered(Asterisk({PJSIP: Completed(124, CONTACTS, "")})) == []


def test_without_timeout_it_is_asked_all_the_same() -> None:
    host = Asterisk({PJSIP: Completed(0, CONTACTS, "")}, commands=("asterisk",))
    assert registered(host) == [FOUR, SIX]
    assert host.asked[0] == ["/nowhere/asterisk", "-rx", PJSIP]


@pytest.mark.usefixtures("settings")
def test_who_is_registered_is_made_known(asterisk: Asterisk) -> None:
    assert learn(asterisk) == ["3 registered telephones known"]
    rest = " timeout 77 -exist"
    assert asterisk.known() == {"192.0.2.7": rest, "198.51.100.1": rest, "2001:db8::7": rest}
    assert learn(asterisk, [FOUR]) == ["1 registered telephone known"]
    assert learn(asterisk, []) == ["0 registered telephones known"]


@pytest.mark.usefixtures("settings")
def test_without_its_set_nobody_is_made_known(asterisk: Asterisk) -> None:
    del asterisk.sets["sipguard-known6"]
    with pytest.raises(SipguardError, match=r"^there is no set sipguard-known6: run the role pbx_sipban$"):
        learn(asterisk)
    assert asterisk.known() == {}


def test_nobody_is_made_known_where_that_is_off(asterisk: Asterisk, monkeypatch: pytest.MonkeyPatch) -> None:
    off = type("Here", (), {"read": staticmethod(lambda: Settings(known_for=0))})
    monkeypatch.setattr(registrations, "Settings", off)
    with pytest.raises(SipguardError, match=r"pbx_sipban_known_for is 0$"):
        learn(asterisk)


def test_known_are_the_members_of_both_sets(asterisk: Asterisk) -> None:
    assert known(asterisk) == {}
    asterisk.sets["sipguard-known4"][1]["192.0.2.7"] = " timeout 60"
    asterisk.sets["sipguard-known6"][1]["2001:db8::7"] = " timeout 0"
    assert known(asterisk) == {"192.0.2.7": 60, "2001:db8::7": 0}
    del asterisk.sets["sipguard-known4"]
    assert known(asterisk) == {"2001:db8::7": 0}
    assert known(FakeHost()) == {}
