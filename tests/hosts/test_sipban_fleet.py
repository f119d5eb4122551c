# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two whole PBXs that share bans through a real CrowdSec (Debian's 1.4.6) on a third host, set up by the role pbx_sipban."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .harness import eventually
from .machine import Machine, lab
from .neighbours import Neighbours
from .site import Caller, Site, changed, speak
from .test_sipban import ROLE, Callers, Journal, answers, ask, is_banned, left, main_pid, state

PROJECT = "sbfleet"  # the machines have one network
IMAGES = {"pbx16": "debian11-asterisk16", "pbx22": "sid-asterisk22"}
SECRETS = {
    "pbx16": ("of-pbx16-jK4mZ0xQ2w", "key16-8fD3nV7bS1"),
    "pbx22": ("of-pbx22-uR9cL5yT6p", "key22-4hG2kM8zE7"),
}
FRIEND = "203.0.113.77"  # on the white list of pbx22 only
AT_ONCE, SOON, BACK = (
    2.0,
    8.0,
    60.0,
)  # s: without the fleet; by two looks of 1 s on a busy machine; with the longest pause
FILES = ("/etc/sipban/crowdsec-password", "/etc/sipban/crowdsec-key")
DEBIANS = {"use_wal": True}  # as the package has it in the same file


class Node(Machine):
    """A host in the one lab of all of them; two labs never hear of each other."""

    def __init__(self, name: str, image: str) -> None:
        self.project, self.image = PROJECT, image
        self.info = json.loads(lab(PROJECT, "host-up", name, "--image", image))
        self._find()
        self._put_code()


class Lapi(Node):
    """CrowdSec, as its package starts it, with nothing but its local API at the host's address."""

    def __init__(self, name: str, image: str) -> None:
        super().__init__(name, image)
        address = self.info["address"]
        self.url = f"http://{address}:8080"
        local = {
            "api": {"server": {"listen_uri": f"{address}:8080", "online_client": None}},
            "prometheus": {"enabled": False},
            "db_config": DEBIANS,
        }
        self.write("/etc/crowdsec/config.yaml.local", json.dumps(local))
        self.run("sed", "-i", f"s/127.0.0.1/{address}/", "/etc/crowdsec/local_api_credentials.yaml")
        command = "/usr/bin/crowdsec -c /etc/crowdsec/config.yaml"
        self.write(
            "/etc/systemd/system/crowdsec.service.d/lapi.conf", f"[Service]\nExecStart=\nExecStart={command} -no-cs\n"
        )
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "enable", "--quiet", "crowdsec")
        for machine, (password, key) in SECRETS.items():
            self.cscli("machines", "add", machine, "--password", password, "-f", "/dev/null")
            self.cscli("bouncers", "add", machine, "-k", key)
        self.serve()

    def cscli(self, *argv: str) -> str:
        return self.run("cscli", *argv)

    def serve(self) -> None:
        """Starts it, and returns when it listens."""
        self.run("systemctl", "start", "crowdsec")

        def listens() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex((str(self.info["address"]), 8080)) == 0

        assert eventually(listens, 20)

    def decisions(self, value: str) -> list[tuple[str, str]]:
        """Machine and duration of every decision that stands for that text; `cscli decisions list` tells only one of them."""
        alerts = json.loads(self.cscli("alerts", "list", "--limit", "1000", "-o", "json")) or []
        return [
            (alert["machine_id"], each["duration"])
            for alert in alerts
            for each in alert["decisions"] or []
            if each["value"] == value and not each["duration"].startswith("-")
        ]

    def pulls(self) -> dict[str, str]:
        """When each PBX has last asked."""
        return {each["name"]: each["last_pull"] for each in json.loads(self.cscli("bouncers", "list", "-o", "json"))}

    def is_asked(self, times: int) -> bool:
        """Whether every PBX asks so many times more, in time."""
        for dummy in range(times):
            before = self.pulls()
            if not eventually(lambda before=before: all(self.pulls()[name] != at for name, at in before.items()), SOON):  # type: ignore[misc]
                return False
        return True


@dataclass
class Fleet:
    """The PBXs under one controller, and who carries bans from one to the other."""

    site: Site
    lapi: Lapi
    inventory: dict[str, dict[str, Any]]

    def prepare(self, site: Site, **wrong: dict[str, Any]) -> None:
        """The inventory; ``wrong`` is what is different of which host."""
        hosts = {name: {**found, **wrong.get(name, {})} for name, found in self.inventory.items()}
        site.prepare(ROLE, hosts, pbx_sipban_crowdsec_url=self.lapi.url, pbx_sipban_crowdsec_interval=1)

    def others(self, host: Machine) -> Machine:
        return next(each for each in self.site.hosts.values() if each is not host)

    def state(self) -> dict[str, Any]:
        return {name: state(host) for name, host in self.site.hosts.items()}


def shared(host: Machine) -> dict[str, Any]:
    """What sipband says of the fleet."""
    found: dict[str, Any] = ask(host, "status")["fleet"]
    return found


def is_reached(host: Machine, seconds: float = SOON) -> bool:
    return eventually(lambda: answers(host) and shared(host)["reachable"] and not shared(host)["queued"], seconds)


def reason(host: Machine, address: str) -> str:
    """Why it is banned, "" when it is not."""
    found = ask(host, "why", address)["banned"]
    return "" if found is None else str(found["reason"])


def is_free(host: Machine, address: str, seconds: float = SOON) -> bool:
    return eventually(lambda: left(host, address) is None, seconds)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    lab(PROJECT, "down")
    hosts: dict[str, Machine] = {name: Node(name, image) for name, image in IMAGES.items()}
    lapi = Lapi("lapi", "debian12-crowdsec")
    site = Site(hosts, tmp_path_factory.mktemp("fleet"))
    inventory = {
        name: {
            **host.info["ansible"],
            "pbx_sipban_crowdsec_password": SECRETS[name][0],
            "pbx_sipban_crowdsec_key": SECRETS[name][1],
            "pbx_sipban_white_list": [FRIEND] if name == "pbx22" else [],
        }
        for name, host in hosts.items()
    }
    made = Fleet(site, lapi, inventory)
    speak(hosts["pbx16"], "pjsip")
    made.prepare(site)
    for host in hosts.values():
        for command in ("iptables", "ip6tables"):
            for table, chain in (("filter", "INPUT"), ("raw", "PREROUTING")):  # somebody else's
                host.run(command, "-t", table, "-A", chain, "-p", "udp", "--dport", "9", "-j", "DROP")
    site.before = made.state()
    site.runs.append(site.role("-vvv", "--check"))
    site.checked = made.state()
    for argv in ([], ["--check"], []):
        site.runs.append(site.role("-vvv", *argv))
    yield made
    lab(PROJECT, "down")


@pytest.fixture(params=IMAGES)
def host(fleet: Fleet, request: pytest.FixtureRequest) -> Machine:
    return fleet.site.hosts[request.param]


@pytest.fixture
def other(fleet: Fleet, host: Machine) -> Machine:
    return fleet.others(host)


@pytest.fixture(scope="module")
def callers() -> Callers:
    return Callers()


@pytest.fixture
def guesser(host: Machine, callers: Callers) -> Caller:
    return callers(host)


def at(host: Machine, caller: Caller) -> Caller:
    """The same one, who turns to another PBX."""
    return Caller(Neighbours(host), int(caller.source[4].rpartition(".")[2]))


# -- cases


def test_four_runs(fleet: Fleet) -> None:
    check, real, check_again, real_again = (changed(done) for done in fleet.site.runs)
    assert fleet.site.checked == fleet.site.before
    assert all(check.values())
    assert all(real.values())
    assert not any(check_again.values())
    assert not any(real_again.values())
    for done in fleet.site.runs[:2]:
        for path in FILES:
            assert f"+{path}" in done.stdout
    for host in fleet.site.hosts.values():
        assert is_reached(host)


def test_secrets_stay_where_they_belong(fleet: Fleet, host: Machine) -> None:
    name = fleet.site.name(host)
    everything = "".join(done.stdout + done.stderr for done in fleet.site.runs)
    everything += host.run("ps", "axwwe") + host.run("journalctl", "--no-pager", "--output=export")
    everything += host.run("cat", "/etc/sipban/settings.json", "/run/sipban/sipban.prom")
    everything += host.run("sipbanctl", "status") + host.run("sipbanctl", "--json", "status")
    assert f'"crowdsec_machine": "{name}"' in everything
    for path, secret in zip(FILES, SECRETS[name], strict=True):
        assert host.run("cat", path) == f"{secret}\n"
        assert host.run("stat", "-c", "%a %U %G", path) == "640 root sipban\n"
        assert secret not in everything
    holders = host.call(
        "grep", "-rlFe", SECRETS[name][0], "-e", SECRETS[name][1], "/etc", "/var", "/root", "/tmp", "/usr/local"
    )
    assert set(holders.stdout.split()) == set(FILES)


@pytest.mark.parametrize(("name", "family"), [("pbx16", 4), ("pbx22", 6)])
def test_ban_reaches_the_other_and_does_not_come_back(fleet: Fleet, callers: Callers, name: str, family: int) -> None:
    host = fleet.site.hosts[name]
    other = fleet.others(host)
    guesser, phone = callers(host), callers(other)
    address = guesser.source[family]
    before = shared(host), shared(other)
    guesser.guesses(family)
    assert is_banned(host, address, AT_ONCE)
    assert is_banned(other, address, SOON)
    here, there = left(host, address) or 0, left(other, address) or 0
    assert abs(here - there) <= 3
    assert reason(other, address) == f"sipban: crowdsec: fleet: {name}"
    assert guesser.logs_in(family, answers=False) == 0
    assert at(other, guesser).logs_in(family, answers=False) == 0
    assert phone.logs_in(family) == 200

    # soon after something new both ask for everything again
    assert fleet.lapi.is_asked(7)
    assert [machine for machine, dummy in fleet.lapi.decisions(address)] == [name]
    assert "crowdsec" not in reason(host, address)
    after = shared(host), shared(other)
    assert [after[0][what] - before[0][what] for what in ("sent", "received")] == [1, 0]
    assert [after[1][what] - before[1][what] for what in ("sent", "received")] == [0, 1]
    assert ask(other, "why", address)["history"]["bans"] == 0

    assert ask(host, "unblock", address)
    assert is_free(other, address)
    assert fleet.lapi.decisions(address) == []
    assert at(other, guesser).logs_in(family) == 200


def test_unban_by_sipguard_frees_both(fleet: Fleet, host: Machine, other: Machine) -> None:
    address = "198.51.100.20"
    host.run("sipbanctl", "block", address, "900")
    assert is_banned(other, address, SOON)
    assert 850 < (left(other, address) or 0) <= 900
    assert reason(other, address) == f"sipban: crowdsec: fleet: {fleet.site.name(host)}"
    host.run("sipguard", "unban", address)
    assert is_free(other, address)
    assert fleet.lapi.decisions(address) == []


def test_both_ban_by_themselves_and_each_forgives_for_itself(fleet: Fleet, callers: Callers) -> None:
    host, other = fleet.site.hosts.values()
    guesser = callers(host)
    address = guesser.source[4]
    fleet.lapi.run("systemctl", "stop", "crowdsec")
    for each in (host, other):
        at(each, guesser).guesses(4)
        assert is_banned(each, address, AT_ONCE)
    fleet.lapi.serve()
    for each in (host, other):
        assert is_reached(each, BACK)
    assert fleet.lapi.is_asked(3)
    assert {machine for machine, dummy in fleet.lapi.decisions(address)} == set(IMAGES)
    assert not any("crowdsec" in reason(each, address) for each in (host, other))
    for each in (host, other):
        assert ask(each, "unblock", address)
        assert eventually(lambda each=each: not shared(each)["queued"], SOON)  # type: ignore[misc]
        assert fleet.lapi.is_asked(3)
        assert left(each, address) is None
        assert (left(other, address) is None) is (each is other)
    assert fleet.lapi.decisions(address) == []


def test_decisions_of_the_administrator_hold_everywhere(fleet: Fleet) -> None:
    hosts = fleet.site.hosts
    for value in ("203.0.113.30", "2001:db8::30"):
        fleet.lapi.cscli("decisions", "add", "--ip", value, "--duration", "30m", "--reason", "by hand")
    fleet.lapi.cscli("decisions", "add", "--range", "198.18.7.0/24", "--duration", "30m")
    for value in ("203.0.113.30", "2001:db8::30", "198.18.7.0/24"):
        for host in hosts.values():
            assert is_banned(host, value, SOON)
            assert 1700 < (left(host, value) or 0) <= 1801
    for host in hosts.values():
        assert reason(host, "203.0.113.30") == "sipban: crowdsec: cscli: by hand"
        assert reason(host, "198.18.7.9").startswith("sipban: crowdsec: cscli: ")
    fleet.lapi.cscli("decisions", "delete", "--ip", "203.0.113.30")
    fleet.lapi.cscli("decisions", "delete", "--ip", "2001:db8::30")
    fleet.lapi.cscli("decisions", "delete", "--range", "198.18.7.0/24")
    for value in ("203.0.113.30", "2001:db8::30", "198.18.7.0/24"):
        for host in hosts.values():
            assert is_free(host, value)


def test_friends_of_one_pbx_are_banned_on_the_other_only(fleet: Fleet) -> None:
    here, there = (fleet.site.hosts[name] for name in ("pbx16", "pbx22"))
    trusted = "198.51.100.40"
    there.run("ipset", "add", "sipguard-trusted4", trusted)
    kept = sum(ask(there, "status")["kept"].values())
    values = (FRIEND, trusted, there.info["address"])
    for value in values:
        fleet.lapi.cscli("decisions", "add", "--ip", value)
    for value in ("203.0.113.76/30", "198.51.100.0/26"):  # with a friend in it
        fleet.lapi.cscli("decisions", "add", "--range", value)
    for value in (*values, "203.0.113.76/30", "198.51.100.0/26"):
        assert is_banned(here, value, SOON), value
    assert fleet.lapi.is_asked(2)
    assert "203.0.113" not in there.run("ipset", "save")
    assert not [value for value in (*values, "198.51.100.0/26") if left(there, value)]
    assert sum(ask(there, "status")["kept"].values()) >= kept + 5
    fleet.lapi.cscli("decisions", "delete", "--all")
    for value in (*values, "203.0.113.76/30", "198.51.100.0/26"):
        assert is_free(here, value)
    there.run("ipset", "del", "sipguard-trusted4", trusted)


def test_without_crowdsec_bans_stay_local_and_arrive_later(
    fleet: Fleet, host: Machine, other: Machine, callers: Callers
) -> None:
    assert is_reached(host)
    journals = Journal(host), Journal(other)
    guessers = [callers(host), callers(host)]
    fleet.lapi.run("systemctl", "kill", "--signal=KILL", "crowdsec")
    for each in guessers:
        each.guesses(4)
        assert is_banned(host, each.source[4], AT_ONCE)
        assert each.logs_in(4, answers=False) == 0
    for journal in journals:
        assert journal.says("does not answer"), journal.lines()
    found = shared(host)
    assert (found["reachable"], found["queued"]) == (False, 2)
    assert "does not answer" in host.call("sipbanctl", "status").stdout
    assert left(other, guessers[0].source[4]) is None
    fleet.lapi.serve()
    for each in guessers:
        assert is_banned(other, each.source[4], BACK)
    for journal in journals:
        assert journal.says(f"CrowdSec {fleet.lapi.url} reached", BACK)
        assert sum("CrowdSec" in line for line in journal.lines()) == 2
    for each in guessers:
        assert ask(host, "unblock", each.source[4])
        assert is_free(other, each.source[4])


@pytest.mark.parametrize(("name", "kill"), [("pbx16", True), ("pbx22", False)], ids=["killed", "restarted"])
def test_restart_keeps_what_came_in_and_can_still_lift_it(
    fleet: Fleet, callers: Callers, name: str, kill: bool
) -> None:
    other = fleet.site.hosts[name]
    host = fleet.others(other)
    guesser = callers(host)
    address = guesser.source[4]
    guesser.guesses(4)
    assert is_banned(other, address, SOON)
    pid = main_pid(other)
    other.run(*(("kill", "-KILL", str(pid)) if kill else ("systemctl", "restart", "sipband")))
    assert left(other, address)
    assert eventually(lambda: main_pid(other) not in (0, pid) and is_reached(other), 20)
    assert fleet.lapi.is_asked(2)
    assert reason(other, address) == f"sipban: crowdsec: fleet: {fleet.site.name(host)}"
    assert [machine for machine, dummy in fleet.lapi.decisions(address)] == [fleet.site.name(host)]
    assert ask(host, "unblock", address)
    assert is_free(other, address)


@pytest.mark.parametrize(("name", "kill"), [("pbx16", True), ("pbx22", False)], ids=["killed", "restarted"])
def test_restart_loses_nothing_that_was_still_to_be_told(fleet: Fleet, callers: Callers, name: str, kill: bool) -> None:
    host = fleet.site.hosts[name]
    other = fleet.others(host)
    guesser, forgiven = callers(host), "198.51.100.50"
    host.run("sipbanctl", "block", forgiven)
    assert is_banned(other, forgiven, SOON)
    fleet.lapi.run("systemctl", "stop", "crowdsec")
    guesser.guesses(4)
    assert is_banned(host, guesser.source[4], AT_ONCE)
    assert ask(host, "unblock", forgiven)
    pid = main_pid(host)
    host.run(*(("kill", "-KILL", str(pid)) if kill else ("systemctl", "restart", "sipband")))
    assert eventually(lambda: main_pid(host) not in (0, pid) and answers(host), 20)
    fleet.lapi.serve()
    assert is_banned(other, guesser.source[4], BACK)
    assert is_free(other, forgiven, BACK)
    assert [machine for machine, dummy in fleet.lapi.decisions(guesser.source[4])] == [name]
    assert ask(host, "unblock", guesser.source[4])
    assert is_free(other, guesser.source[4])


def test_wrong_secrets_are_told_and_local_bans_go_on(fleet: Fleet, callers: Callers, tmp_path: Path) -> None:
    hosts = fleet.site.hosts
    # what one cannot say, and what the other cannot hear
    mute, deaf = hosts["pbx16"], hosts["pbx22"]
    words = {
        "pbx16": "refuses machine pbx16 or its password (see cscli machines list)",
        "pbx22": "refuses the key of the bouncer (see cscli bouncers list)",
    }
    journals = {name: Journal(host) for name, host in hosts.items()}
    guessers = {name: callers(host) for name, host in hosts.items()}
    wrong = Site(hosts, tmp_path)
    secret = "not-this-one-0X"
    fleet.prepare(wrong, pbx16={"pbx_sipban_crowdsec_password": secret}, pbx22={"pbx_sipban_crowdsec_key": secret})
    done = wrong.role("-vvv")
    assert all(changed(done).values())
    assert secret not in done.stdout + done.stderr
    assert done.stdout.count("bans are not shared: refuses ") + done.stderr.count("bans are not shared: refuses ") >= 2
    for name, host in hosts.items():
        assert journals[name].says(words[name])
        guessers[name].guesses(4)
        assert is_banned(host, guessers[name].source[4], AT_ONCE)
        assert words[name] in host.call("sipbanctl", "status").stdout
        assert words[name] in shared(host)["said"]
        assert shared(host)["reachable"] is False
        assert secret not in host.run("journalctl", "--no-pager", "--output=export")
    # the other half goes on
    assert is_banned(mute, guessers["pbx22"].source[4], SOON)
    assert left(deaf, guessers["pbx16"].source[4]) is None
    for journal in journals.values():
        assert sum("CrowdSec" in line for line in journal.lines()) == 1

    assert all(changed(fleet.site.role()).values())
    for name, host in hosts.items():
        assert is_reached(host)
        assert journals[name].says(f"CrowdSec {fleet.lapi.url} reached")
        assert ask(host, "unblock", guessers[name].source[4])
    for host in hosts.values():
        for guesser in guessers.values():
            assert is_free(host, guesser.source[4])


def test_without_it_again_bans_are_local(fleet: Fleet, callers: Callers) -> None:
    host = fleet.site.hosts["pbx16"]
    variables = {"pbx_sipban_crowdsec_url": ""}
    assert all(changed(fleet.site.on(host, **variables)).values())
    assert not any(changed(fleet.site.on(host, "--check", **variables)).values())
    assert host.run("find", "/etc/sipban", "-name", "*crowdsec*") == ""
    assert '"crowdsec_url": ""' in host.run("cat", "/etc/sipban/settings.json")
    assert shared(host) == {}
    guesser = callers(host)
    guesser.guesses(4)
    assert is_banned(host, guesser.source[4], AT_ONCE)
    assert fleet.lapi.decisions(guesser.source[4]) == []


def test_absent_leaves_nothing(fleet: Fleet) -> None:
    fleet.lapi.cscli("decisions", "add", "--ip", "203.0.113.32")
    assert is_banned(fleet.site.hosts["pbx22"], "203.0.113.32", SOON)
    assert all(changed(fleet.site.role(pbx_sipban_state="absent")).values())
    assert not any(changed(fleet.site.role("--check", pbx_sipban_state="absent")).values())
    for name, found in fleet.state().items():
        for what in ("rules", "rules6", "sets", "users", "service"):
            assert found[what] == fleet.site.before[name][what], (name, what)
        # what loads sipguard's rules at boot is not this role's to take away
        assert "sipban" not in found["files"]
