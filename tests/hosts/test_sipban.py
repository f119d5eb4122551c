# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role pbx_sipban on whole PBXs: Asterisk 16 with chan_sip, and 22 with PJSIP. Who guesses is banned, and nobody else."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import eventually
from .machine import Machine
from .neighbours import Neighbours
from .site import Caller, Site, changed, machines, speak

IMAGES = {"pbx16": "debian11-asterisk16", "pbx22": "sid-asterisk22"}
ROLE = "sipguard.pbx.pbx_sipban"
FRIENDS = 250  # the neighbour on the white list
NET_ADMIN = 1 << 12  # linux/capability.h
SVCRACK = ("svcrack", "-u", "1001", "-r", "1000-9999")
SVWAR = ("svwar", "-m", "REGISTER", "-e", "2000-9999", "--force")
SCANNERS = {"svcrack": "ASipOfRedWine", "svwar": "TakeASip"}

# -- what is there


def rules(host: Machine, family: int) -> str:
    """Without empty tables: iptables never takes a table away again."""
    tables = re.split(r"^(?=\*)", host.save(family) + "\n", flags=re.MULTILINE)
    return "".join(sorted(table for table in tables if re.search(r"^-|^:\S+ -", table, re.MULTILINE)))


def state(host: Machine) -> dict[str, str]:
    """Everything that the role could change, times aside."""
    folders = (
        "/etc/asterisk",
        "/etc/sipguard",
        "/etc/sipban",
        "/etc/systemd/system",
        "/usr/local/sbin",
        "/var/lib/sipban",
    )
    return {
        "rules": rules(host, 4),
        "rules6": rules(host, 6),
        "sets": re.sub(r" timeout \d+| initval \w+", "", "\n".join(sorted(host.run("ipset", "save").splitlines()))),
        "files": host.files(*folders),
        "users": host.run("getent", "passwd") + host.run("getent", "group"),
        "service": host.call("systemctl", "is-active", "sipband", "sipguard-known.timer").stdout,
    }


def ask(host: Machine, *words: str) -> Any:
    """What sipband answers, for programs."""
    return json.loads(host.call("sipbanctl", "--json", *words).stdout)


def answers(host: Machine) -> bool:
    """Whether sipband does, and hears Asterisk."""
    return host.call("sipbanctl", "status").returncode == 0


def heard(host: Machine) -> int:
    """How many events sipband has been told."""
    return sum(ask(host, "status")["events"].values())


def left(host: Machine, address: str) -> int | None:
    """Seconds for which the kernel still drops what the address sends; None when it does not."""
    found = re.search(rf"^add sipguard-banned[46] {address} timeout (\d+)", host.run("ipset", "save"), re.MULTILINE)
    return int(found[1]) if found else None


def is_banned(host: Machine, address: str, seconds: float = 10) -> bool:
    return eventually(lambda: left(host, address) is not None, seconds)


class Journal:
    """What sipband, or systemd of it, has said since."""

    _ARGV = ("journalctl", "--unit=sipband", "--output=cat", "--no-pager", "--quiet")

    def __init__(self, host: Machine) -> None:
        self._host = host
        # A cursor of another unit would make Debian 11's journalctl leave out the first line that follows.
        self._cursor = host.run(*self._ARGV, "--lines=1", "--show-cursor").rpartition("cursor: ")[2].strip()

    def lines(self) -> list[str]:
        return self._host.run(*self._ARGV, f"--after-cursor={self._cursor}").splitlines()

    def says(self, text: str, seconds: float = 10) -> bool:
        """Whether that stands in exactly one line, as soon as it stands there at all."""
        assert eventually(lambda: text in "\n".join(self.lines()), seconds), (text, self.lines())
        return sum(text in line for line in self.lines()) == 1


def main_pid(host: Machine) -> int:
    return int(host.run("systemctl", "show", "--value", "--property=MainPID", "sipband"))


# -- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(machines("sb", IMAGES), tmp_path_factory.mktemp("sipban"))
    inventory = {
        name: {
            **host.info["ansible"],
            "pbx_sipban_white_list": list(Neighbours(host).at(FRIENDS).values()),
        }
        for name, host in made.hosts.items()
    }
    speak(made.hosts["pbx16"], "pjsip")
    made.prepare(ROLE, inventory)
    for host in made.hosts.values():
        host.run("iptables", "-A", "INPUT", "-s", "192.0.2.200", "-j", "DROP")
        host.run("ipset", "create", "theirs", "hash:ip")
    made.before = {name: state(host) for name, host in made.hosts.items()}
    made.runs.append(made.role("--check"))
    made.checked = {name: state(host) for name, host in made.hosts.items()}
    made.runs += [made.role(), made.role("--check"), made.role()]
    yield made
    for host in made.hosts.values():
        host.close()


@pytest.fixture(params=IMAGES)
def host(site: Site, request: pytest.FixtureRequest) -> Machine:
    return site.hosts[request.param]


class Callers:
    """New ones, each with an address that nobody has used before."""

    def __init__(self) -> None:
        self._numbers = itertools.count(110)

    def __call__(self, host: Machine, transport: str = "udp") -> Caller:
        return Caller(Neighbours(host), next(self._numbers), transport)


@pytest.fixture(scope="module")
def callers() -> Callers:
    return Callers()


@pytest.fixture
def caller(host: Machine, callers: Callers) -> Caller:
    return callers(host)


# -- cases


def test_four_runs(site: Site) -> None:
    check, real, check_again, real_again = (changed(done) for done in site.runs)
    assert site.checked == site.before
    assert all(check.values())
    assert all(real.values())
    assert not any(check_again.values()), site.runs[2].stdout
    assert not any(real_again.values()), site.runs[3].stdout
    for done in site.runs[:2]:
        for line in (
            "+user sipban",
            "+/etc/sipban/ami-secret",
            "+/etc/sipban/settings.json",
            "+/etc/systemd/system/sipband.service",
            "+sipband.service: running",
            "+-A SIPGUARD-PRE -m set --match-set sipguard-banned4 src",
        ):
            assert line in done.stdout, line


def test_secret_is_the_hosts_own_and_stays_there(site: Site, host: Machine) -> None:
    secret = host.run("cat", "/etc/sipban/ami-secret").strip()
    assert len(secret) >= 32
    everything = "".join(done.stdout + done.stderr for done in site.runs)
    everything += host.run("ps", "axwwe") + host.run("journalctl", "--no-pager", "--output=export")
    assert secret not in everything
    section = host.run("cat", "/etc/asterisk/manager.conf").partition("[sipguard]")[2]
    options = dict(re.findall(r"^(\w+) *= *([^;\s]*)", section, re.MULTILINE))
    assert options["secret"] == secret
    assert (options["read"], options["write"]) == ("security", "")
    assert host.run("stat", "-c", "%a %U %G", "/etc/sipban/ami-secret") == "640 root sipban\n"


def test_service_has_one_right(host: Machine) -> None:
    pid = main_pid(host)
    found = dict(re.findall(r"^(\w+):\s+(\S+)", host.run("cat", f"/proc/{pid}/status"), re.MULTILINE))
    for rights in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(found[rights], 16) == NET_ADMIN, rights
    assert found["NoNewPrivs"] == "1"
    assert host.run("stat", "-c", "%U", f"/proc/{pid}").strip() == "sipban"
    # In a container systemd may make nothing read-only, so the rights of its user have to do.
    assert host.run("systemctl", "show", "--value", "--property=ProtectSystem", "sipband") == "strict\n"
    for path in ("/etc/sipban-test", "/etc/sipban/settings.json", "/usr/local/sbin/sipband", "/var/lib/sipban-test"):
        assert host.call("runuser", "-u", "sipban", "--", "touch", path).returncode, path


@pytest.mark.parametrize(
    ("name", "family", "transport"),
    [(name, family, "udp") for name in IMAGES for family in (4, 6)] + [("pbx22", family, "tcp") for family in (4, 6)],
)
def test_five_wrong_passwords_ban(site: Site, callers: Callers, name: str, family: int, transport: str) -> None:
    host = site.hosts[name]
    guesser, phone = callers(host, transport), callers(host)
    address = guesser.source[family]
    assert phone.logs_in(family) == 200
    guesser.guesses(family)
    assert is_banned(host, address)
    assert 3500 < (left(host, address) or 0) <= 3600
    # nothing of him gets through to Asterisk any more
    before = heard(host)
    for dummy in range(3):
        assert guesser.logs_in(family, answers=False) == 0
    assert phone.logs_in(family) == 200
    assert heard(host) <= before + 3  # the telephone's

    listed = {entry["entry"]: entry for entry in ask(host, "block")}
    assert listed[address]["reason"].endswith(f"over {transport.upper()})")
    assert address in host.run("sipguard", "bans", "block")
    assert "sipban: 5 " in host.call("sipguard", "why", address).stdout
    assert ask(host, "why", address)["banned"]["entry"] == address

    way = ("sipguard", "unban", address) if family == 4 else ("sipbanctl", "unblock", address)
    host.run(*way)
    assert left(host, address) is None
    assert ask(host, "why", address)["banned"] is None
    assert address not in host.run("sipguard", "bans", "block")
    assert "sipban: " not in host.call("sipguard", "why", address).stdout
    assert guesser.logs_in(family) == 200


def test_one_mistake_is_no_ban(host: Machine, caller: Caller) -> None:
    address = caller.source[4]
    caller.guesses(4, 1)
    assert eventually(lambda: any(each["count"] == 1 for each in ask(host, "why", address)["evidence"].values()))
    assert left(host, address) is None


def test_who_has_logged_in_is_never_banned(host: Machine, caller: Caller) -> None:
    journal = Journal(host)
    address = caller.source[4]
    caller.guesses(4, 3)
    assert caller.logs_in(4) == 200
    if "16" in host.image:
        # chan_sip's events can be made up by others, so Asterisk's own list of telephones is looked at
        host.run("systemctl", "start", "sipguard-known")
    assert eventually(lambda: ask(host, "why", address)["known"], 10)
    assert address in host.run("sipguard", "known")
    caller.guesses(4, 12)
    assert journal.says(f"WHITE LIST => {address} (has logged in")
    assert left(host, address) is None
    assert caller.logs_in(4) == 200


@pytest.mark.parametrize("who", ["trusted", "on the white list", "this host needs it"])
def test_friends_are_never_banned(host: Machine, caller: Caller, who: str) -> None:
    journal = Journal(host)
    if who != "trusted":
        caller = Caller(Neighbours(host), FRIENDS if who == "on the white list" else 1)
    address = caller.source[4]
    if who == "trusted":
        host.run("ipset", "add", "sipguard-trusted4", address)
    if who == "this host needs it":
        host.run("ip", "route", "add", "default", "via", address)
        host.run("systemctl", "restart", "sipband")
        assert eventually(lambda: answers(host), 10)
    caller.guesses(4)
    assert journal.says(f"WHITE LIST => {address} ({who}")
    assert left(host, address) is None
    assert host.call("sipbanctl", "block", address).returncode == 1
    if who == "trusted":
        host.run("ipset", "del", "sipguard-trusted4", address)
    if who == "this host needs it":
        host.run("ip", "route", "del", "default")


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_is_banned_for_what_others_say_in_his_name(host: Machine, callers: Callers, family: int) -> None:
    victim = callers(host)
    before, unproven = heard(host), ask(host, "status")["unproven"]
    victim.is_spoken_for(family, 50)
    assert eventually(lambda: heard(host) >= before + 100, 20)
    assert ask(host, "status")["unproven"] >= unproven + 50
    assert left(host, victim.source[family]) is None
    assert victim.logs_in(family) == 200


def scanner(host: Machine, source: Caller, tool: str, *arguments: str, home: Path) -> subprocess.Popen[str]:
    """sipvicious, from an address of this machine."""
    source.logs_in(4, "wrong")  # puts the address on this machine
    # Its own option for the address is read, and forgotten.
    program = (
        f"import functools, sys; from sipvicious import {tool} as tool; name = {SCANNERS[tool]!r}; sys.argv[0] = {tool!r};"
        f"setattr(tool, name, functools.partial(getattr(tool, name), bindingip={source.source[4]!r})); tool.main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments, str(host.info["address"])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HOME": str(home)},
    )


def scan(host: Machine, source: Caller, tool: str, *arguments: str, home: Path) -> None:
    """A scanner that is banned before it is through."""
    with scanner(host, source, tool, *arguments, home=home) as running:
        try:
            assert is_banned(host, source.source[4]), ask(host, "status")
            assert running.poll() is None
        finally:
            running.kill()


def test_a_challenge_that_went_to_two_addresses_proves_nothing(host: Machine, callers: Callers) -> None:
    """PJSIP's is the same for all that comes from one address within a second, and maddr= sends it to somebody else."""
    victim, thief = callers(host), callers(host)
    before = ask(host, "status")["diverted"]

    def divert() -> bool:
        victim.asks_for_challenges("", f";maddr={thief.source[4]}")
        return bool(ask(host, "status")["diverted"] > before)

    assert eventually(divert, 20)


def test_svcrack_is_banned(host: Machine, caller: Caller, tmp_path: Path) -> None:
    scan(host, caller, *SVCRACK, home=tmp_path)


def test_unproven_bans_are_short_and_do_not_grow(site: Site, callers: Callers) -> None:
    assert all(changed(site.role(pbx_sipban_unproven=True)).values())
    for host in site.hosts.values():
        victim = callers(host)
        address = victim.source[4]
        for dummy in range(2):
            victim.is_spoken_for(4, 60)
            assert is_banned(host, address)
            assert 500 < (left(host, address) or 0) <= 600
            assert "unproven" in ask(host, "why", address)["banned"]["reason"]
            host.run("ipset", "del", "sipguard-banned4", address)
    assert all(changed(site.role()).values())


def test_svwar_finds_nothing(host: Machine, callers: Callers, tmp_path: Path) -> None:
    """Both Asterisks answer every number alike, so that svwar gives up by itself after its first ones."""
    source = callers(host)
    with scanner(host, source, *SVWAR, home=tmp_path) as running:
        try:
            assert "found nothing" in running.communicate(timeout=60)[0]
        finally:
            running.kill()
    assert left(host, source.source[4]) is None


def test_killed_sipband_is_back_and_loses_nothing(host: Machine, callers: Callers) -> None:
    first, second = callers(host), callers(host)
    first.guesses(4)
    assert is_banned(host, first.source[4])
    pid = main_pid(host)
    host.run("kill", "-KILL", str(pid))
    assert left(host, first.source[4])
    assert first.logs_in(4, answers=False) == 0
    assert eventually(lambda: main_pid(host) not in (0, pid) and answers(host), 10)
    second.guesses(4)
    assert is_banned(host, second.source[4])
    assert {first.source[4], second.source[4]} <= {entry["entry"] for entry in ask(host, "block")}


def test_sipband_that_hangs_is_replaced(host: Machine, caller: Caller) -> None:
    drop_in = "/etc/systemd/system/sipband.service.d"
    host.write(f"{drop_in}/test.conf", "[Service]\nWatchdogSec=2\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "sipband")
    pid = main_pid(host)
    host.run("kill", "-STOP", str(pid))
    assert eventually(lambda: main_pid(host) not in (0, pid) and answers(host), 30)
    host.run("rm", "-r", drop_in)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "sipband")
    assert eventually(lambda: answers(host), 10)
    caller.guesses(4)
    assert is_banned(host, caller.source[4])


def test_asterisk_that_restarts_under_attack_is_heard_again(host: Machine, callers: Callers) -> None:
    attackers = [callers(host) for dummy in range(3)]

    def ends_banned(attacker: Caller) -> bool:
        attacker.logs_in(4, "wrong", answers=False)
        return left(host, attacker.source[4]) is not None

    before = main_pid(host)
    host.run("systemctl", "kill", "--signal=KILL", "asterisk")
    with contextlib.suppress(AssertionError):
        host.run("systemctl", "start", "asterisk")
    assert eventually(lambda: ends_banned(attackers[0]), 60)
    host.run("asterisk", "-rx", "manager reload")
    assert eventually(lambda: ends_banned(attackers[1]), 30)
    host.run("systemctl", "restart", "asterisk")
    assert eventually(lambda: ends_banned(attackers[2]), 60)
    assert main_pid(host) == before
    assert callers(host).logs_in(4) == 200


def meanwhile(work: Callable[[], object]) -> Callable[[], None]:
    """Do it again and again, until what is returned is called."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            # the network goes away with the host
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                work()

    thread = threading.Thread(target=run)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join()

    return end


def test_reboot_keeps_bans_and_what_they_grow_by(host: Machine, callers: Callers) -> None:
    guesser, forgiven, late, phone = (callers(host) for dummy in range(4))
    for each in (guesser, forgiven):
        each.guesses(4)
        assert is_banned(host, each.source[4])
    guesser.guesses(6)
    assert is_banned(host, guesser.source[6])
    host.run("systemctl", "stop", "sipband")
    host.run("sipguard", "unban", forgiven.source[4])
    # who is banned now stands in sipband's ledger alone
    host.run("systemctl", "start", "sipband")
    assert eventually(lambda: answers(host), 30)
    late.guesses(4)
    assert is_banned(host, late.source[4])
    lasts, at = left(host, guesser.source[4]) or 0, time.monotonic()
    got: list[int] = []
    end = meanwhile(lambda: got.append(guesser.logs_in(4, answers=False)))
    try:
        host.restart()
        assert eventually(lambda: phone.logs_in(4, answers=False) == 200, 60)
        assert eventually(lambda: answers(host), 30)
    finally:
        end()
    # not even in the moment in which Asterisk had begun to answer
    assert set(got) == {0}
    assert lasts - (time.monotonic() - at) - 5 <= (left(host, guesser.source[4]) or 0) <= lasts
    assert left(host, guesser.source[6])
    assert left(host, late.source[4])
    assert left(host, forgiven.source[4]) is None
    assert forgiven.logs_in(4) == 200
    assert host.call("systemctl", "is-failed", "sipguard-restore").returncode != 0
    # over, but not forgotten
    host.run("ipset", "del", "sipguard-banned4", guesser.source[4])
    assert ask(host, "why", guesser.source[4])["history"]["bans"] == 1
    guesser.guesses(4)
    assert is_banned(host, guesser.source[4])
    assert 7100 < (left(host, guesser.source[4]) or 0) <= 7200
    host.run("iptables", "-A", "INPUT", "-s", "192.0.2.200", "-j", "DROP")
    host.run("ipset", "create", "theirs", "hash:ip")


def test_without_ami_bans_hold_and_the_role_repairs(site: Site, callers: Callers) -> None:
    guessers = {}
    for host in site.hosts.values():
        guesser = guessers[host.image] = callers(host)
        guesser.guesses(4)
        assert is_banned(host, guesser.source[4])
        host.write("/etc/sipban/ami-secret", "wrong\n")
        journal = Journal(host)
        host.run("systemctl", "restart", "sipband")
        assert journal.says("AMI refuses the user sipguard"), journal.lines()
        assert ask(host, "status")["ami"] is False
        assert guesser.logs_in(4, answers=False) == 0
        # Asterisk ends no conversation that goes on when it is told so by a reload, and 16 then cannot be told otherwise by another.
        host.run("sed", "-i", r"s/^enabled *=.*/enabled = no/", "/etc/asterisk/manager.conf")
        journal = Journal(host)
        host.run("systemctl", "restart", "asterisk")
        assert journal.says("is enabled=yes in manager.conf?", 60), journal.lines()
        assert guesser.logs_in(4, answers=False) == 0
        assert ask(host, "unblock", guesser.source[4])[guesser.source[4]]["unblocked"]
    assert all(changed(site.role()).values())
    assert not any(changed(site.role()).values())
    for host in site.hosts.values():
        assert ask(host, "status")["ami"] is True
        guessers[host.image].guesses(4)
        assert is_banned(host, guessers[host.image].source[4])


def test_full_set_and_flushed_rules(host: Machine, callers: Callers) -> None:
    journal, pid = Journal(host), main_pid(host)
    first, second = callers(host), callers(host)
    small = ("hash:net", "family", "inet", "maxelem", "1", "timeout", "900", "comment")
    host.run("ipset", "create", "small", *small)
    host.run("ipset", "add", "small", "203.0.113.99")
    host.run("ipset", "swap", "small", "sipguard-banned4")
    for each in (first, second):
        each.guesses(4)
    assert journal.says("full"), journal.lines()
    assert left(host, first.source[4]) is None
    first.guesses(6)
    assert is_banned(host, first.source[6])
    host.run("ipset", "swap", "small", "sipguard-banned4")
    host.run("ipset", "destroy", "small")
    # what somebody else may do
    host.run("ipset", "flush")
    for table in ("filter", "raw"):
        host.run("iptables", "-t", table, "-F")
    assert eventually(lambda: "-j SIPGUARD-PRE" in host.save(4), 20)
    second.guesses(4)
    assert is_banned(host, second.source[4])
    assert second.logs_in(4, answers=False) == 0
    assert main_pid(host) == pid
    host.run("iptables", "-A", "INPUT", "-s", "192.0.2.200", "-j", "DROP")


CONF = """\
[ami]
port = "5038"
user = "sipban"
pass = "a-secret-of-theirs"
[control]
port = "4451"
[timer]
ban = "7200"
[iptables]
chain = "INPUT"
rule = "REJECT"
white_list = "/etc/sipban.wl"
dump = "/etc/sipban.dump"
"""


def console(host: Machine, *lines: str) -> str:
    """What the console says to lines that are sent at once."""
    script = (
        "import socket, sys\n"
        "with socket.create_connection(('127.0.0.1', 4451), 10) as link:\n"
        "    link.sendall(sys.stdin.buffer.read())\n"
        "    print(link.makefile('rb').read().decode())\n"
    )
    return host.run("python3", "-I", "-c", script, stdin="".join(f"{line}\r\n" for line in lines).encode())


def test_published_bans_are_taken_over_once_and_its_console_is_there(site: Site, callers: Callers) -> None:
    until = int(time.time()) + 5000
    for host in site.hosts.values():
        assert "4451" not in host.run("ss", "-Hlnt")
        host.write("/etc/sipban.conf", CONF)
        host.write("/etc/sipban.wl", "# ours\n203.0.113.8\n203.0.113.16/28\n")
        host.write(
            "/etc/sipban.dump", f"# [2026-11-20 10:00:00]\n203.0.113.90,{until}\n203.0.113.91,{until}\n203.0.113.92,1\n"
        )
    variables = {"pbx_sipban_import": "/etc/sipban.conf", "pbx_sipban_console_port": 4451}
    done = site.role(**variables)
    assert all(changed(done).values())
    assert "a-secret-of-theirs" not in done.stdout + done.stderr
    for host in site.hosts.values():
        assert 4800 < (left(host, "203.0.113.90") or 0) <= 5000
        assert left(host, "203.0.113.92") is None
        assert {"203.0.113.8", "203.0.113.16/28"} <= set(ask(host, "wl"))
        assert host.run("ss", "-Hlnt", "sport = :4451").split()[3] == "127.0.0.1:4451"

        token = host.run("cat", "/etc/sipban/console-token").strip()
        assert token not in done.stdout + done.stderr
        refused = console(host, "nonsense", "nonsense", "nonsense", "block 203.0.113.93")
        assert "wrong token" in refused
        assert left(host, "203.0.113.93") is None
        said = console(
            host, token, "block 203.0.113.93", "block 203.0.113.93", "unblock 203.0.113.91", "unblock x", "exit"
        )
        for answer in (
            "203.0.113.93 block",
            "203.0.113.93 previously blocked",
            "203.0.113.91 unblocked",
            "x don't seems like a valid address",
        ):
            assert answer in said
        assert 7000 < (left(host, "203.0.113.93") or 0) <= 7200
        assert left(host, "203.0.113.91") is None
    assert not any(changed(site.role(**variables)).values())
    before = {}
    for name, host in site.hosts.items():
        assert left(host, "203.0.113.90")
        assert left(host, "203.0.113.91") is None
        host.write("/etc/sipban.dump", f"# [2026-11-20 10:00:00]\n203.0.113.94,{until}\n203.0.113.x,{until}\n")
        before[name] = state(host)
    done = site.role(**variables)
    assert done.returncode == 2
    told = re.findall(r"^fatal: .*/etc/sipban.dump, line 3: '203.0.113.x,", done.stdout, re.MULTILINE)
    assert len(told) == len(site.hosts), done.stdout
    assert "Traceback" not in done.stdout
    assert before == {name: state(host) for name, host in site.hosts.items()}
    for host in site.hosts.values():
        host.run("rm", "/etc/sipban.conf", "/etc/sipban.wl", "/etc/sipban.dump")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "thresholds": ({"pbx_sipban_thresholds": {"InvalidColour": {"count": 5, "seconds": 60}}}, "thresholds: "),
    "time": ({"pbx_sipban_ban_time": "soon"}, "ban_time: "),
    "list": ({"pbx_sipban_white_list": ["x"]}, "white_list: "),
    "port": ({"pbx_sipban_console_port": 70000}, "console_port: "),
    "file": ({"pbx_sipban_import": "/etc/nowhere.conf"}, "/etc/nowhere.conf"),
    "known": ({"pbx_sipban_known_for": "-1"}, "known_for: "),
}


def test_what_is_wrong_is_told_and_changes_nothing(site: Site) -> None:
    host = site.hosts["pbx22"]
    wrong = Site({"pbx22": host}, site.folder / "wrong")
    wrong.folder.mkdir()
    wrong.prepare(ROLE, {name: {**host.info["ansible"], **variables} for name, (variables, dummy) in WRONG.items()})
    before = state(host)
    done = wrong.role()
    assert state(host) == before
    assert done.returncode == 2
    assert "Traceback" not in done.stdout
    for name, (dummy, words) in WRONG.items():
        said = re.findall(rf'^(?:fatal|failed): \[{name}\].*?"msg": "(.*?)"', done.stdout, re.MULTILINE | re.DOTALL)
        assert len(said) == 1, (name, done.stdout)
        assert words in said[0], (name, said)


def test_chan_sip_proves_nothing(site: Site, callers: Callers) -> None:
    """Its address is the sender's choice, and its challenges are those of whoever repeats a request."""
    host = site.hosts["pbx16"]
    speak(host, "chan_sip")
    assert eventually(lambda: answers(host), 30)
    liar, victim = callers(host), callers(host)
    before = ask(host, "status")["events"].get("SIP InvalidPassword", 0)
    for dummy in range(10):
        assert liar.logs_in(4, "wrong", via=f";rport;maddr={victim.source[4]}") in (401, 403)
    assert eventually(lambda: ask(host, "status")["events"].get("SIP InvalidPassword", 0) >= before + 10)
    assert left(host, victim.source[4]) is None
    assert victim.logs_in(4) == 200
    guessers = [callers(host), callers(host, "tcp")]
    for guesser in guessers:
        guesser.guesses(4)
        assert left(host, guesser.source[4]) is None
    assert changed(site.role("-l", "pbx16", pbx_sipban_unproven=True))["pbx16"]
    for guesser in guessers:
        guesser.guesses(4)
        assert is_banned(host, guesser.source[4])
        assert (left(host, guesser.source[4]) or 0) <= 600
    assert changed(site.role("-l", "pbx16"))["pbx16"]
    speak(host, "pjsip")
    assert eventually(lambda: answers(host), 30)


def test_absent_leaves_nothing_but_bans_by_hand(site: Site) -> None:
    kept, gone = site.hosts["pbx16"], site.hosts["pbx22"]
    for host in site.hosts.values():
        host.run("sipbanctl", "block", "203.0.113.60")
    kept.run("sipguard", "ban", "203.0.113.61", "2001:db8::61")
    assert all(changed(site.role(pbx_sipban_state="absent")).values())
    assert left(kept, "203.0.113.60") is None
    assert left(kept, "203.0.113.61")
    assert left(kept, "2001:db8::61")
    assert "--match-set sipguard-banned4 src" in kept.save(4)
    assert not any(changed(site.role("--check", pbx_sipban_state="absent")).values())
    # An earlier test has switched AMI off, and what was there is put back.
    gone.run("sed", "-i", "s/^enabled = no/enabled = yes/", "/etc/asterisk/manager.conf")
    after = state(gone)
    for what, before in site.before["pbx22"].items():
        assert sorted(set(after[what].splitlines()) ^ set(before.splitlines())) == [], what
    for what in ("users", "service"):
        assert state(kept)[what] == site.before["pbx16"][what]


def test_main_job_brings_it_and_takes_it_away(site: Site, callers: Callers, tmp_path: Path) -> None:
    host = site.hosts["pbx22"]
    before = state(host)
    everything = {
        "pbx_admins": [host.info["controller"], host.info["controller6"]],
        "pbx_sip_domains": ["sip.lab.example"],
        "pbx_firewall_gate": True,
        "pbx_firewall_host_policy": True,
    }

    def job(**more: Any) -> dict[str, int]:
        return changed(site.play("sipguard.pbx.harden_pbx", "-l", "pbx22", **everything, **more))

    assert all(job().values())
    guesser, phone = callers(host), callers(host)
    assert phone.logs_in(4) == 200
    guesser.guesses(4)
    assert is_banned(host, guesser.source[4])
    assert phone.logs_in(4) == 200
    assert not any(job().values())
    assert all(job(pbx_firewall_state="absent").values())
    after = state(host)
    for what in ("rules", "rules6", "sets", "users", "service"):
        assert after[what] == before[what], what
    assert "sipban" not in after["files"]
