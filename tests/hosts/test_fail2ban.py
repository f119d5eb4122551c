# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role pbx_fail2ban on whole PBXs: Asterisk 16 with fail2ban 0.11.2, and 22 with 1.1.1. Who guesses is banned, and comes back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.asterisk.phone import Message
from tests.fail2ban.attacks import Request, credentials

from .harness import CHECKOUT, eventually
from .machine import CACHE, Machine
from .neighbours import Neighbours

IMAGES = {"pbx16": "debian11-asterisk16", "pbx22": "sid-asterisk22"}
PASSWORD = "pT4v-Zq81-mWx6-Hn30"  # of the lab's telephone 1001
ROLE = """
- hosts: all
  become: true
  gather_facts: false
  roles: [sipguard.pbx.pbx_fail2ban]
"""
FRIEND = ["203.0.113.7", "2001:db8:7::/64"]
# A jail of somebody else's, and rules and a set of his.
OTHERS = (
    "[theirs]\nenabled = true\nfilter = nginx-http-auth\nbackend = polling\nlogpath = /var/log/theirs.log\n"
    "banaction = iptables-multiport\n"
)
JAILS = {"sipguard-asterisk", "sipguard-scan", "sipguard-security", "sipguard-security-udp", "sshd"}


class Caller:
    """Somebody with addresses of his own, next to one PBX."""

    def __init__(self, neighbours: Neighbours, number: int) -> None:
        self._neighbours, self.source = neighbours, neighbours.at(number)

    def logs_in(self, family: int, password: str = PASSWORD, user: str = "1001", answers: bool = True) -> int:
        """Status of the last answer to a REGISTER; 0 for silence, which is taken at its word where none is expected."""
        with self._neighbours.reaching(self.source, family) as sock:
            sock.settimeout(10 if answers else 0.8)
            host, port = sock.getsockname()[:2]
            here = f"[{host}]:{port}" if family == 6 else f"{host}:{port}"
            request = Request(user=user, uri="sip:sip.lab.example")
            try:
                sock.send(request.wire(here, "udp"))
                answer = Message.parse(sock.recv(65535))
                if answer.status == 401:
                    header = credentials(answer.header("www-authenticate"), request, password=password)
                    sock.send(replace(request, headers=(header,), number=2).wire(here, "udp"))
                    answer = Message.parse(sock.recv(65535))
                    while answer.status < 200:
                        answer = Message.parse(sock.recv(65535))
            except OSError:
                return 0
            return answer.status


@dataclass
class Site:
    """Two PBXs and their controller; ``runs`` are the first four runs of the role, ``before`` what was there before them."""

    hosts: dict[str, Machine]
    folder: Path
    runs: list[subprocess.CompletedProcess[str]] = field(default_factory=list)
    before: dict[str, tuple[str, ...]] = field(default_factory=dict)
    checked: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def play(self, playbook: str, *argv: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """A playbook by its path, or by its name in the collection."""
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.folder / "inventory.json")]
        return subprocess.run(
            [*command, "--diff", "-e", json.dumps(variables), *argv, playbook],
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(CACHE),
                "ANSIBLE_HOME": str(self.folder / "ansible"),
                "ANSIBLE_NOCOLOR": "1",
            },
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )

    def role(self, *argv: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        return self.play(str(self.folder / "role.yml"), *argv, **variables)

    def on(self, host: Machine, *argv: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """The role on one of them."""
        return self.role("-l", self.name(host), *argv, **variables)

    def name(self, host: Machine) -> str:
        return next(name for name, each in self.hosts.items() if each is host)


def changed(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: int(count) for name, count in re.findall(r"^(\S+) +: .*changed=(\d+)", done.stdout, re.MULTILINE)}


def state(host: Machine) -> tuple[str, ...]:
    """Everything that the role could change, times aside."""
    sets = re.sub(r" timeout \d+| initval \w+", "", host.run("ipset", "save", "-sorted"))
    return (
        host.save(4),
        host.save(6),
        sets,
        host.files("/etc/fail2ban", "/etc/asterisk", "/etc/sipguard", "/etc/systemd/system", "/etc/logrotate.d"),
        host.call("systemctl", "is-active", "fail2ban").stdout,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("fail2ban")
    hosts = {name: Machine(f"f2b{name}", image) for name, image in IMAGES.items()}
    inventory = {name: host.info["ansible"] for name, host in hosts.items()}
    for host in hosts.values():
        host.write("/etc/fail2ban/jail.d/theirs.conf", OTHERS)
        host.run("touch", "/var/log/theirs.log", "/var/log/auth.log")
        # with Debian's own jail for SSH
        host.run("systemctl", "start", "fail2ban")
        host.run("iptables", "-A", "INPUT", "-s", "192.0.2.200", "-j", "DROP")
    (folder / "inventory.json").write_text(
        json.dumps({"all": {"hosts": inventory, "vars": {"pbx_fail2ban_ignore": FRIEND}}})
    )
    (folder / "role.yml").write_text(ROLE)
    made = Site(hosts, folder)
    made.before = {name: state(host) for name, host in hosts.items()}
    made.runs.append(made.role("--check"))
    made.checked = {name: state(host) for name, host in hosts.items()}
    made.runs += [made.role(), made.role("--check"), made.role()]
    yield made
    for host in hosts.values():
        host.close()


@pytest.fixture(params=IMAGES)
def host(site: Site, request: pytest.FixtureRequest) -> Iterator[Machine]:
    found = site.hosts[request.param]
    yield found
    found.run("fail2ban-client", "unban", "--all")


@pytest.fixture
def neighbours(host: Machine) -> Neighbours:
    return Neighbours(host)


def jails(host: Machine) -> set[str]:
    said = re.search(r"Jail list:\s*(.*)", host.run("fail2ban-client", "status"))
    assert said
    return set(said[1].split(", "))


def actions(host: Machine) -> dict[str, str]:
    said = {name: host.run("fail2ban-client", "get", name, "actions") for name in jails(host)}
    return {name: text.strip().splitlines()[-1] for name, text in said.items()}


def guess(caller: Caller, family: int) -> None:
    for dummy in range(5):
        assert caller.logs_in(family, "wrong") in (401, 403)


def banned(host: Machine, address: str) -> list[str]:
    """The jails that say so."""
    return re.findall(r"'([\w-]+)'", host.run("fail2ban-client", "banned", address))


def is_dropped(host: Machine, address: str) -> bool:
    """Whether the kernel has it, which is a moment after fail2ban says so."""
    return f" {address} timeout" in host.run("ipset", "save")


def test_four_runs(site: Site) -> None:
    check, real, check_again, real_again = (changed(done) for done in site.runs)
    assert site.checked == site.before
    assert all(check.values())
    assert all(real.values())
    assert not any(check_again.values())
    assert not any(real_again.values())
    assert "+jail sipguard-asterisk: on" in site.runs[0].stdout


def test_jails_run_beside_those_of_others_and_foreign_rules_stay(site: Site, host: Machine) -> None:
    assert actions(host) == {**dict.fromkeys(JAILS, "sipguard"), "theirs": "iptables-multiport"}
    assert "-A INPUT -s 192.0.2.200/32 -j DROP" in host.save(4)
    assert host.run("systemctl", "is-enabled", "fail2ban") == "enabled\n"
    for address in FRIEND:
        assert address in host.run("fail2ban-client", "get", "sipguard-asterisk", "ignoreip")


@pytest.mark.parametrize("family", [4, 6])
def test_five_wrong_passwords_ban_and_unban_brings_back(host: Machine, neighbours: Neighbours, family: int) -> None:
    guesser, phone = Caller(neighbours, 210 + family), Caller(neighbours, 220 + family)
    address = guesser.source[family]
    assert phone.logs_in(family) == 200
    assert guesser.logs_in(family) == 200
    guess(guesser, family)
    assert eventually(lambda: is_dropped(host, address), 10)
    assert banned(host, address) == ["sipguard-asterisk"]
    assert guesser.logs_in(family, answers=False) == 0
    assert phone.logs_in(family) == 200
    assert "banned by fail2ban's jail sipguard-asterisk" in host.call("sipguard", "why", address).stdout
    host.run("fail2ban-client", "unban", address)
    assert guesser.logs_in(family) == 200


def test_every_way_to_unban(site: Site, host: Machine, neighbours: Neighbours) -> None:
    caller = Caller(neighbours, 230)
    address = caller.source[4]
    name = site.name(host)
    ways = (
        lambda: host.run("fail2ban-client", "set", "sipguard-asterisk", "unbanip", address),
        lambda: host.run("sipguard", "unban", address),
        lambda: changed(site.play("sipguard.pbx.unban", "-l", name, pbx_unban_addresses=address)),
    )
    for way in ways:
        host.run("fail2ban-client", "set", "sipguard-asterisk", "banip", address)
        host.run("fail2ban-client", "set", "sipguard-scan", "banip", address)
        assert eventually(lambda: host.run("ipset", "save").count(f" {address} ") == 2, 10)
        assert caller.logs_in(4, answers=False) == 0
        way()
        if way is ways[0]:
            # One jail's unban is none of the other's.
            assert caller.logs_in(4, answers=False) == 0
            host.run("fail2ban-client", "set", "sipguard-scan", "unbanip", address)
        assert banned(host, address) == []
        assert caller.logs_in(4) == 200


def test_ban_survives_whatever_happens(site: Site, host: Machine, neighbours: Neighbours) -> None:
    caller, phone = Caller(neighbours, 240), Caller(neighbours, 241)
    for family in (4, 6):
        guess(caller, family)
        assert eventually(lambda family=family: is_dropped(host, caller.source[family]), 10)  # type: ignore[misc]

    def holds() -> bool:
        return all(caller.logs_in(family, answers=False) == 0 for family in (4, 6))

    def is_back() -> bool:
        done = host.call("fail2ban-client", "status", "sipguard-asterisk").stdout
        return all(caller.source[family] in done for family in (4, 6)) and "jail-sipguard-asterisk6" in host.run(
            "ipset", "save", "sipguard-jails6"
        )

    assert holds()
    host.run("systemctl", "restart", "fail2ban")
    assert eventually(is_back, 20)
    assert holds()
    host.run("systemctl", "kill", "--signal=KILL", "fail2ban")
    assert holds()  # with nobody there to know of it
    host.run("systemctl", "reset-failed", "fail2ban")
    host.run("systemctl", "start", "fail2ban")
    assert eventually(is_back, 20)
    host.run("iptables", "-F")
    host.run("iptables", "-t", "raw", "-F")
    assert eventually(lambda: "-j SIPGUARD-PRE" in host.save(4), 20)
    assert holds()
    host.run("iptables", "-A", "INPUT", "-s", "192.0.2.200", "-j", "DROP")
    assert any(changed(site.on(host, pbx_fail2ban_max_retry=4)).values())
    assert holds()
    host.restart()
    assert eventually(lambda: host.call("fail2ban-client", "ping").returncode == 0, 60)
    assert eventually(is_back, 20)
    assert eventually(lambda: phone.logs_in(4, answers=False) == 200, 60)
    assert holds()
    host.run("iptables", "-A", "INPUT", "-s", "192.0.2.200", "-j", "DROP")
    assert all(changed(site.on(host)).values())


def test_killed_while_banning_leaves_nothing_for_ever(host: Machine) -> None:
    host.run("fail2ban-client", "set", "sipguard-scan", "banip", "203.0.113.50")
    assert eventually(lambda: "203.0.113.50" in host.run("ipset", "save"), 10)
    left = re.search(r"203\.0\.113\.50 timeout (\d+)", host.run("ipset", "save"))
    assert left
    assert 0 < int(left[1]) <= 600


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("jail.local", "[sshd\nenabled = true\n", "jail.local"),
        # fail2ban's own test lets this pass, and a reload with it leaves every jail idle
        ("jail.local", "[theirs]\nfilter =\nfailregex = ^broken line$\n", "jail theirs, addfailregex: "),
        ("jail.local", "[theirs]\nlogpath = /var/log/nowhere.log\n", "log file for '?theirs'? jail"),
    ],
    ids=["syntax", "expression", "log"],
)
def test_what_others_have_broken_is_told_and_the_server_goes_on(
    site: Site, host: Machine, path: str, text: str, words: str
) -> None:
    host.write(f"/etc/fail2ban/{path}", text)
    before, running = state(host), host.run("fail2ban-client", "status")
    said = site.on(host, pbx_fail2ban_max_retry=7)
    host.run("rm", f"/etc/fail2ban/{path}")
    after = state(host)
    assert said.returncode == 2
    found = re.search(
        r"fail2ban's configuration in /etc/fail2ban is wrong with or without sipguard: (.*?); nothing", said.stdout
    )
    assert found
    assert re.search(words, found[1])
    assert "Traceback" not in said.stdout
    assert [*after[:3], after[4]] == [*before[:3], before[4]]
    assert host.run("fail2ban-client", "status") == running
    assert host.run("fail2ban-client", "get", "sipguard-asterisk", "maxretry") == "5\n"


def test_dates_that_nobody_can_read_are_told(site: Site, host: Machine) -> None:
    host.write("/var/log/asterisk/own", "[21.11.2026 10:00:00] NOTICE[1] chan_sip.c: something\n")
    before = state(host)
    said = site.on(host, pbx_fail2ban_log="/var/log/asterisk/own", pbx_fail2ban_logger=False)
    assert said.returncode == 2
    assert "dateformat=%F %T in [general] of logger.conf would be right" in said.stdout
    assert state(host) == before


def test_jail_of_somebody_else_for_ssh_stays_the_only_one(site: Site, host: Machine) -> None:
    text = "[sshd]\nenabled = false\n[ssh-own]\nenabled = true\nfilter = sshd\nbackend = systemd\n"
    host.write("/etc/fail2ban/jail.local", text)
    name = site.name(host)
    done = site.on(host)
    assert changed(done)[name]
    assert "jail.local has a jail [sshd] of its own" in re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert jails(host) == (JAILS - {"sshd"}) | {"theirs", "ssh-own"}
    assert "sipguard" not in actions(host)["ssh-own"]
    host.run("rm", "/etc/fail2ban/jail.local")
    assert changed(site.on(host))[name]
    assert actions(host) == {**dict.fromkeys(JAILS, "sipguard"), "theirs": "iptables-multiport"}


def test_absent_leaves_nothing_but_what_others_have(site: Site) -> None:
    for host in site.hosts.values():
        host.run("fail2ban-client", "set", "sipguard-asterisk", "banip", "203.0.113.51", "2001:db8::51")
        assert eventually(lambda host=host: "2001:db8::51" in host.run("ipset", "save"), 10)  # type: ignore[misc]
    assert all(changed(site.role(pbx_fail2ban_state="absent")).values())
    for host in site.hosts.values():
        assert "sipguard" not in host.run("ipset", "save") + host.save(4) + host.save(6)
        assert "jail-" not in host.run("ipset", "save")
        assert host.run("find", "/etc/fail2ban", "-name", "*sipguard*") == ""
        assert "-A INPUT -s 192.0.2.200/32 -j DROP" in host.save(4)
    assert not any(changed(site.role(pbx_fail2ban_state="absent")).values())
    for host in site.hosts.values():
        assert set(actions(host)) == {"sshd", "theirs"}
        assert re.fullmatch("(nf|ip)tables.*", actions(host)["sshd"])
