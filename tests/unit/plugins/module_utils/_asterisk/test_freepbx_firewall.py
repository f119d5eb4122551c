# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.freepbx import FreePBX
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.freepbx_firewall import (
    Firewall,
    Host,
    Jail,
    look,
    read,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

FREEPBX = FreePBX("/nonexistent", "/usr/sbin/fwconsole", "17.0.19")
STATE = {
    "status": True,
    "responsive": True,
    "settings": {"customrules": "enabled", "lefilter": "disabled", "unheard": "of"},
    "managed": {"pjsip": True, "chansip": False, "iax": False},
    "zones": {"pjsip": ["internal", "external"], "chansip": None, "iax": []},
}
# fail2ban 1.0.2
CLIENT = {
    "status": "Status\n|- Number of jail:\t3\n`- Jail list:\tasterisk-iptables, recidive, sshd\n",
    "status asterisk-iptables": "`- Actions\n   |- Currently banned:\t2\n   `- Banned IP list:\t203.0.113.7 2001:db8::8 a-name\n",
    "status recidive": "`- Actions\n   |- Currently banned:\t0\n   `- Banned IP list:\t\n",
    "status sshd": "`- Actions\n   |- Currently banned:\t1\n   `- Banned IP list:\t203.0.113.9\n",
    "get asterisk-iptables actions": "The jail asterisk-iptables has the following actions:\niptables-allports, sendmail\n",
    "get asterisk-iptables action iptables-allports name": "SIP\n",
    "get sshd actions": "The jail sshd has the following actions:\nsipguard\n",
}
BANNED = (ipaddress.ip_network("203.0.113.7"), ipaddress.ip_network("2001:db8::8"))
ADDRESSES = """\
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
2: eth0    inet 192.0.2.1/24 brd 192.0.2.255 scope global eth0\\       valid_lft forever
2: eth0    inet6 2001:db8::1/64 scope global \\       valid_lft forever
3: odd    inet nonsense
"""
RULES = "*filter\n-A INPUT -j fpbxfirewall\n-A fpbxinterfaces -i eth0 -j zone-trusted\nCOMMIT\n"


class Commands:
    """Answers by command and arguments; None fails, what is not there is no command."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def which(self, command: str) -> str | None:
        return f"/bin/{command}" if command in self.answers else None

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        answer = self.answers[argv[0].rpartition("/")[2]]
        if isinstance(answer, dict):
            answer = answer.get(" ".join(argv[1:]))
        return Completed(1, "", "no") if answer is None else Completed(0, answer, "")


def php(state: Any) -> str:
    return "PHP Deprecated: whatever\n\nsipguard-answer:" + json.dumps({"stage": "done", "firewall": state}) + "\n"


def commands(**given: Any) -> Commands:
    found = {
        "php": php(STATE),
        "iptables-save": RULES,
        "ip6tables-save": "",
        "ip": ADDRESSES,
        "fail2ban-client": CLIENT,
        **given,
    }
    return Commands(**{name: answer for name, answer in found.items() if answer != "missing"})


def test_everything_that_is_there() -> None:
    host = look(FREEPBX, commands())
    assert host.firewall is not None
    assert host.firewall.status
    assert host.firewall.responsive
    assert host.firewall.managed == {"pjsip"}
    assert host.firewall.zones == {"pjsip": ("internal", "external"), "chansip": ("internal",), "iax": ()}
    on = {name for name in host.firewall.settings if host.firewall.on(name)}
    assert on == {"customrules", "safemode", "masq", "id_service", "id_sync_fw", "import_hosts"}
    assert host.built(4)
    assert not host.built(6)
    assert 6 in host.rules
    assert list(host.interfaces()) == [("eth0", "trusted")]
    assert ("eth0", ipaddress.ip_address("2001:db8::1")) in host.addresses
    assert len(host.addresses) == 3
    assert host.jails == (Jail("asterisk-iptables", BANNED, ("fail2ban-SIP", "f2b-SIP")),)
    assert host.version == "17.0.19"


@pytest.mark.parametrize("answer", ["missing", None], ids=["missing", "failing"])
def test_nothing_has_to_be_there(answer: str | None) -> None:
    names = ("php", "iptables-save", "ip6tables-save", "ip", "fail2ban-client")
    assert look(FREEPBX, commands(**dict.fromkeys(names, answer))) == Host(version="17.0.19")


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        "text",
        {"status": "1", "settings": [], "managed": [], "zones": "x"},
        {"settings": {"customrules": ["enabled"], "safemode": None}, "zones": {"pjsip": [None, 7, "internal"]}},
    ],
)
def test_whatever_is_in_the_database(state: Any) -> None:
    found = read(FREEPBX, commands(php=php(state)))
    if not isinstance(state, dict):
        assert found is None
        return
    assert found is not None
    assert not found.status
    assert not found.on("customrules")
    assert found.on("safemode")
    assert found.zones["pjsip"] in (("other", "internal"), ("internal",))


def test_freepbx_that_does_not_answer() -> None:
    with pytest.raises(SipguardError, match="PHP ended before"):
        read(FREEPBX, commands(php="Fatal error"))
    assert look(FREEPBX, commands(php="Fatal error")).firewall is None


def test_defaults_are_those_of_freepbx() -> None:
    firewall = Firewall()
    assert not firewall.on("customrules")
    assert not firewall.on("rejectpackets")
    assert firewall.on("import_hosts")
    assert firewall.on("lefilter")


def test_rules_are_read_after_the_bans() -> None:
    """Who is banned in between has a rule that is not looked for, and not the other way round."""
    asked = []

    class Heard(Commands):
        def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
            asked.append(argv[0].rpartition("/")[2])
            return super().run(argv, stdin)

    look(FREEPBX, Heard(**commands().answers))
    assert asked.index("iptables-save") > max(n for n, each in enumerate(asked) if each == "fail2ban-client")
