# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Beside other firewall programs, the real ones: what they do to us, what we do to them (nothing), and what brings ours back.

The repair service is off here, so that the state it would find can be seen; ``sipguard repair`` is the same by hand.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.integration.harness import rules

from .machine import Machine
from .neighbours import Neighbours

# A scanner, a phone, and a trusted source that calls itself a scanner
OPEN, WHOLE = (True, True, True), (False, True, True)
# Answers every datagram, over both families.
ANSWER = """
import socket
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.bind(("::", 5060))
while True:
    sock.sendto(b"SIP/2.0 200 OK\\r\\n\\r\\n", sock.recvfrom(65535)[1])
"""
FAIL2BAN = """\
[DEFAULT]
banaction = {action}
[sshd]
enabled = true
backend = systemd
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Machine]:
    made = Machine("coexistence", "debian12")
    for names in (("ufw",), ("firewalld", "nftables")):
        made.install(*names)
    server = made.start("python3", "-c", ANSWER)
    yield made
    server.send_signal(signal.SIGKILL)
    server.wait()
    made.close()


@pytest.fixture(scope="module")
def neighbours(host: Machine) -> Neighbours:
    return Neighbours(host)


@pytest.fixture
def guarded(host: Machine, neighbours: Neighbours) -> Iterator[Machine]:
    """Our rules, and nobody else's."""
    host.apply("sipguard_host", repair=False)
    host.apply("sip_trust", sources=[*neighbours.trusted.values()])
    host.apply("sip_ua_blocklist", learn_for=0)
    yield host
    host.call("ufw", "--force", "disable")
    host.run("systemctl", "stop", "firewalld.service", "fail2ban.service")
    host.run("nft", "flush", "ruleset")


def own(host: Machine) -> dict[int, str]:
    return {family: rules.own_part(host.save(family)) for family in (4, 6)}


def foreign(host: Machine) -> str:
    """Everybody else's rules: those that iptables shows, and the tables that are nft's only."""
    shown = "\n".join(rules.foreign_part(host.save(family)) for family in (4, 6))
    native = "" if host.call("nft", "list", "table", "inet", "firewalld").returncode else "inet firewalld"
    return shown + host.run("nft", "--stateless", "list", "table", *native.split()) if native else shown


def change_everything(host: Machine) -> None:
    """One run of each kind: another policy, none at all, the first one again."""
    assert host.apply("sip_ua_blocklist", learn_for=0, user_agents=["evilbot/1.0"])["changed"]
    assert host.apply("sip_ua_blocklist", state="absent")["changed"]
    assert host.apply("sip_ua_blocklist", learn_for=0)["changed"]


def is_whole(host: Machine) -> bool:
    """What the command says, and the modules in check mode."""
    said = host.run("sipguard", "repair")
    status = host.call("sipguard", "status")
    differs = host.apply("sip_ua_blocklist", check=True, learn_for=0)["changed"]
    return said == "sipguard: nothing was missing\n" and status.returncode == 0 and not differs


def test_ufw_leaves_ours_and_we_leave_its(guarded: Machine, neighbours: Neighbours) -> None:
    host = guarded
    before = own(host)
    for command in ("allow 5060/udp", "--force enable", "reload", "allow 5070/tcp"):
        host.run("ufw", *command.split())
        assert own(host) == before
        assert is_whole(host)
    theirs = foreign(host)
    assert "-A INPUT -j ufw-before-input" in theirs
    change_everything(host)
    assert (foreign(host), own(host)) == (theirs, before)
    # Ours came last now, and stand first all the same: what ufw accepts has been judged.
    first = next(line for line in host.save().splitlines() if line.startswith("-A INPUT "))
    assert first == "-A INPUT -j SIPGUARD"
    assert neighbours.hears(WHOLE, WHOLE)
    host.run("ufw", "disable")
    assert own(host) == before
    assert is_whole(host)


def test_ufw_that_manages_the_built_in_chains_flushes_ours(guarded: Machine, neighbours: Neighbours) -> None:
    host = guarded
    host.run("sed", "-i", "s/^MANAGE_BUILTINS=.*/MANAGE_BUILTINS=yes/", "/etc/default/ufw")
    before = own(host)
    host.run("ufw", "allow", "5060/udp")
    host.run("ufw", "--force", "enable")
    theirs = foreign(host)
    assert "-A INPUT -j SIPGUARD" not in host.save()
    assert neighbours.hears(OPEN, OPEN)
    assert "missing: ipv4: " in host.run("sipguard", "repair")
    assert (foreign(host), own(host)) == (theirs, before)
    assert is_whole(host)
    assert neighbours.hears(WHOLE, WHOLE)
    host.run("sed", "-i", "s/^MANAGE_BUILTINS=.*/MANAGE_BUILTINS=no/", "/etc/default/ufw")


def test_netfilter_persistent_is_refused_beside_ufw(guarded: Machine) -> None:
    before = guarded.files("/etc/systemd/system", "/usr/share", "/usr/local", "/etc/sipguard")
    for check in (True, False):
        message = guarded.module("sipguard_host", check, persistence="netfilter-persistent")["msg"]
        assert "ufw is installed" in message
        assert "systemd" in message
    assert guarded.files("/etc/systemd/system", "/usr/share", "/usr/local", "/etc/sipguard") == before
    found = guarded.apply("sip_host_info")
    assert found["netfilter_persistent"] is False
    assert any("ufw is installed" in sentence for sentence in found["persistence_conflicts"])


@pytest.mark.parametrize(
    ("backend", "by"), [("nftables", "repair"), ("nftables", "run"), ("iptables", "repair")], ids=str
)
def test_firewalld_flushes_ours_at_each_reload(guarded: Machine, neighbours: Neighbours, backend: str, by: str) -> None:
    """It empties the tables of iptables even where its own rules are those of nftables."""
    host = guarded
    before = own(host)
    host.run("sed", "-i", f"s/^FirewallBackend=.*/FirewallBackend={backend}/", "/etc/firewalld/firewalld.conf")
    host.run("systemctl", "start", "firewalld.service")
    host.run("firewall-cmd", "--permanent", "--add-port=5060/udp")
    host.run("firewall-cmd", "--reload")
    theirs = foreign(host)
    assert ("-A INPUT -j INPUT_direct" if backend == "iptables" else "table inet firewalld") in theirs
    assert own(host) == {4: "", 6: ""}
    assert neighbours.hears(OPEN, OPEN)
    if by == "repair":
        assert "missing: ipv4: SIPGUARD-UA\n" in host.run("sipguard", "repair")
    else:
        assert host.apply("sip_ua_blocklist", learn_for=0)["changed"]
    assert (foreign(host), own(host)) == (theirs, before)
    assert is_whole(host)
    assert neighbours.hears(WHOLE, WHOLE)
    change_everything(host)
    assert (foreign(host), own(host)) == (theirs, before)
    assert "5060/udp" in host.run("firewall-cmd", "--list-ports")


@pytest.mark.parametrize("action", ["iptables-multiport", "iptables-ipset-proto6", "nftables"])
def test_fail2ban_stands_before_ours_and_neither_minds(guarded: Machine, neighbours: Neighbours, action: str) -> None:
    host = guarded
    before = own(host)
    host.write("/etc/fail2ban/jail.local", FAIL2BAN.format(action=action))
    host.run("systemctl", "restart", "fail2ban.service")
    host.run("timeout", "10", "sh", "-c", "until fail2ban-client ping; do sleep 0.1; done")
    host.run("fail2ban-client", "set", "sshd", "banip", "203.0.113.5", "2001:db8::5")
    assert own(host) == before
    assert host.run("sipguard", "repair") == "sipguard: nothing was missing\n"
    # A rule of the ipset action rejects by itself, in the first place; the others only lead to a chain of fail2ban's.
    assert is_whole(host)
    theirs = foreign(host), host.run("nft", "list", "tables"), host.run("fail2ban-client", "status", "sshd")
    assert "203.0.113.5" in theirs[2]
    assert ("-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd" in theirs[0]) is (action == "iptables-multiport")
    change_everything(host)
    again = foreign(host), host.run("nft", "list", "tables"), host.run("fail2ban-client", "status", "sshd")
    assert (again, own(host)) == (theirs, before)
    assert neighbours.hears(WHOLE, WHOLE)
    host.run("fail2ban-client", "set", "sshd", "unbanip", "203.0.113.5")
    host.run("systemctl", "stop", "fail2ban.service")
    assert own(host) == before
    assert is_whole(host)
    assert "f2b-" not in host.save(4) + host.save(6)
