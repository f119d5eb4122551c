# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import jails
from ansible_collections.sipguard.pbx.plugins.module_utils._host.fail2ban import Fail2ban, Jail
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import sets
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

# As fail2ban 0.11.2 and 1.1.1 print them.
SHELL = """\
Fail2Ban v0.11.2 reads log file that contains password failure report
and bans the corresponding IP addresses using firewall rules.

fail2ban> Status
|- Number of jail:\t4
`- Jail list:\tsipguard-asterisk, sshd, own, other
fail2ban> The jail sipguard-asterisk has the following actions:
sipguard
fail2ban> False
fail2ban> No actions for jail sshd
fail2ban> False
fail2ban> The jail own has the following actions:
iptables-allports, mail
fail2ban> True
fail2ban> Sorry but the jail 'gone' does not exist
fail2ban> Sorry but the jail 'gone' does not exist
"""
DOWN = "2026-11-21 21:06:41,388 fail2ban                [201]: ERROR   [Errno 111] Connection refused\n"
NO_LOG = (
    "2026-11-21 21:05:47,552 fail2ban.configreader   [13]: WARNING 'allowipv6' not defined in 'Definition'. Using default one: 'auto'\n"
    "2026-11-21 21:05:47,558 fail2ban                [13]: ERROR   Failed during configuration: Have not found any log file for sshd jail\n"
    "2026-11-21 21:05:47,558 fail2ban                [13]: ERROR   ERROR: test configuration failed\n"
)
SYNTAX = (
    "2026-11-21 22:05:58,900 fail2ban                [875]: ERROR   Failed during configuration: File contains no section headers.\n"
    "file: '/etc/fail2ban/jail.local', line: 1\n"
    "'[sshd\\n'\n"
    "ERROR: test configuration failed\n"
)
CRASH = "Traceback (most recent call last):\n  File \"x\", line 1\nModuleNotFoundError: No module named 'asynchat'\n"


def server(answers: dict[str, Completed]) -> FakeHost:
    """A host whose fail2ban-client answers to these words."""
    made = FakeHost()
    made.commands |= {"fail2ban-client"}
    made.interfere = lambda argv, stdin: answers.get(" ".join(argv[1:])) if argv[0].endswith("client") else None
    return made


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.11.2\n", (0, 11, 2)), ("1.0.2\n", (1, 0, 2)), ("1.1.1\n", (1, 1, 1)), ("x\n1.1.0.dev1\n", (1, 1, 0))],
)
def test_version(text: str, version: tuple[int, ...]) -> None:
    assert Fail2ban(server({"-V": Completed(0, text, "")})).version() == version


def test_version_of_one_that_does_not_start() -> None:
    with pytest.raises(SipguardError, match="does not work on this host: ModuleNotFoundError: No module named"):
        Fail2ban(server({"-V": Completed(1, "", CRASH)})).version()


@pytest.mark.parametrize(
    ("text", "jails"),
    [
        (
            f"{SHELL}fail2ban> ",
            {
                "sipguard-asterisk": Jail(("sipguard",)),
                "sshd": Jail(()),
                "own": Jail(("iptables-allports", "mail"), idle=True),
                "other": Jail(),
            },
        ),
        ("Fail2Ban v1.0.2\n\nfail2ban> Status\n|- Number of jail:\t0\n`- Jail list:\t\nfail2ban> ", {}),
        ("Fail2Ban v1.0.2\n\nfail2ban> ", None),
        ("", None),
    ],
)
def test_jails(text: str, jails: dict[str, Jail] | None) -> None:
    host = server({"-i": Completed(255, text, DOWN)})
    assert Fail2ban(host).jails(["sipguard-asterisk", "sshd", "own", "gone"]) == jails


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (Completed(0, "OK: configuration test is successful\n", ""), ""),
        (Completed(255, "", NO_LOG), "Failed during configuration: Have not found any log file for sshd jail"),
        (
            Completed(255, "", SYNTAX),
            "Failed during configuration: File contains no section headers. file: '/etc/fail2ban/jail.local', line: 1 '[sshd\\\\n'",
        ),
        (Completed(1, "", CRASH), "ModuleNotFoundError: No module named 'asynchat'"),
        (Completed(7, "", ""), "exit status 7"),
        (Completed(1, "", "bad \x1b[31m ü\n"), "bad \\x1b[31m \\xfc"),
    ],
)
def test_objection(done: Completed, said: str) -> None:
    assert Fail2ban(server({"-c /aside -t": done})).objection("/aside") == said


@pytest.mark.parametrize(
    ("done", "jails"),
    [
        (Completed(0, "[['sshd', 'own'], []]\n", ""), [["sshd", "own"], []]),
        (Completed(255, "", DOWN), None),
        (Completed(0, "[['sshd']]\n", ""), None),
        (Completed(0, "__import__('os')\n", ""), None),
        (Completed(0, "", ""), None),
    ],
)
def test_banning(done: Completed, jails: list[list[str]] | None) -> None:
    assert Fail2ban(server({"banned 192.0.2.1 192.0.2.2": done})).banning(["192.0.2.1", "192.0.2.2"]) == jails


def test_banning_without_fail2ban_asks_nobody() -> None:
    host = FakeHost()
    assert Fail2ban(host).banning(["192.0.2.1"]) == [[]]
    assert host.calls == []


@pytest.fixture
def jailing() -> FakeHost:
    """A host on which one jail bans an address, and no server knows of it."""
    host = server({})
    host.interfere = lambda argv, stdin: Completed(255, "", DOWN) if argv[0].endswith("client") else None
    host.sets["jail-sshd4"] = ("hash:net family inet maxelem 262144 timeout 0 comment", {"192.0.2.1": " timeout 60"})
    host.sets["sipguard-jails4"] = ("list:set size 64", {"jail-sshd4": ""})
    return host


@pytest.mark.parametrize("check", [True, False])
def test_unban_without_a_server_takes_it_out_of_the_set(jailing: FakeHost, check: bool) -> None:
    jailing.read_only = check
    found = jails.unban(jailing, [ipaddress.ip_network("192.0.2.1"), ipaddress.ip_network("2001:db8::1")], check=check)
    assert found == ({"192.0.2.1": ["sshd"]}, False)
    assert bool(jailing.sets["jail-sshd4"][1]) is check


def test_jail_sets_are_those_of_the_lists(jailing: FakeHost) -> None:
    found = jails.jail_sets(jailing, sets.read_headers(jailing))
    assert {family.version: names for family, names in found.items()} == {4: ["jail-sshd4"], 6: []}
    assert jails.jail_name("jail-sshd4") == "sshd"
    assert jails.jail_name("other") == "other"
