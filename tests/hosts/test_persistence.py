# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PBX under systemd is rebooted, with whole files and with damaged ones, whichever way they are loaded.

One host for all tests; each says itself what it has to hold when it goes down.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.harness import rules

from .harness import eventually
from .machine import Machine
from .neighbours import Neighbours

FILES = "/etc/sipguard"
PATIENCE = 60.0  # s
# Rules and a set of somebody else, which fail2ban has made while the host was running.
BAN = "-N f2b-sshd; iptables -A f2b-sshd -s 203.0.113.5 -j REJECT; iptables -I INPUT -p tcp --dport 22 -j f2b-sshd"


OPEN, WHOLE, CLOSED = (True, True, True), (False, True, True), (False, False, True)


@pytest.fixture(scope="module")
def host() -> Iterator[Machine]:
    made = Machine("persistence", "debian11-asterisk16")
    made.install("iptables-persistent")
    yield made
    made.close()


@pytest.fixture(scope="module")
def neighbours(host: Machine) -> Neighbours:
    return Neighbours(host)


@pytest.fixture
def guarded(host: Machine, neighbours: Neighbours) -> Machine:
    """Rules that learn nothing, so that one address can be a scanner and a phone in turn."""
    host.apply("sipguard_host")
    host.apply("sip_host_policy", state="absent")
    host.apply("sip_trust", sources=[*neighbours.trusted.values()])
    host.apply("sip_ua_blocklist", learn_for=0)
    assert neighbours.hears(WHOLE, WHOLE)
    return host


def own(host: Machine) -> dict[int, str]:
    return {family: rules.own_part(host.save(family)) for family in (4, 6)}


def when(host: Machine, unit: str, what: str) -> int:
    """When something happened to a unit, in microseconds."""
    return int(host.run("systemctl", "show", "--value", "-p", f"{what}TimestampMonotonic", unit))


def journal(host: Machine, unit: str) -> list[dict[str, Any]]:
    """What a unit has said since the boot; systemd's own lines left out."""
    said = host.run("journalctl", "--boot", "--unit", unit, "--output=json", "--no-pager")
    lines = [json.loads(line) for line in said.splitlines()]
    return [line for line in lines if str(line["MESSAGE"]).startswith("sipguard: ")]


def has_failed(host: Machine, unit: str, sentence: str) -> bool:
    """Whether a unit has failed, and has said why in a critical line."""
    assert host.run("systemctl", "show", "--value", "-p", "ActiveState", unit) == "failed\n"
    return any(line["PRIORITY"] == "2" and sentence in line["MESSAGE"] for line in journal(host, unit))


LOADERS = {"systemd": "sipguard-restore.service", "netfilter-persistent": "netfilter-persistent.service"}


@pytest.mark.parametrize("mode", LOADERS)
def test_reboot_brings_back_our_rules_whatever_somebody_has_saved(
    guarded: Machine, neighbours: Neighbours, mode: str
) -> None:
    """Among what was saved: rules of ours of another time, with sets of ours, and a ban that fail2ban had made."""
    host, unit = guarded, LOADERS[mode]
    before = own(host)
    for check, changes in ((True, mode != "systemd"), (False, mode != "systemd"), (True, False), (False, False)):
        assert host.apply("sipguard_host", check, persistence=mode)["changed"] is changes
    host.apply("sip_ua_blocklist", persist=False, user_agents=["evilbot/1.0"])
    host.run("sh", "-c", f"iptables {BAN}")
    host.run("netfilter-persistent", "save")
    host.run("sh", "-c", "iptables -D INPUT -p tcp --dport 22 -j f2b-sshd")
    saved = host.run("cat", "/etc/iptables/rules.v4")
    assert "evilbot" in saved
    assert "sipguard-offenders4" in saved
    assert "evilbot" not in host.run("cat", f"{FILES}/rules.v4")
    armed = host.apply("sipguard_switch", state="armed", seconds=600)["cookie"] if mode != "systemd" else ""
    if armed:
        host.apply("sip_ua_blocklist", switch=armed, learn_for=0, user_agents=["unconfirmed/1.0"])
    host.restart()
    assert own(host) == before
    assert "-A f2b-sshd -s 203.0.113.5/32" in host.save()
    assert neighbours.hears(WHOLE, WHOLE)
    assert host.run("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""
    assert 0 < when(host, unit, "ActiveEnter") <= when(host, "asterisk.service", "InactiveExit")
    assert [line["MESSAGE"] for line in journal(host, unit) if "rules loaded" in line["MESSAGE"]]
    assert host.run("systemctl", "is-active", "sipguard-repair.service") == "active\n"
    assert host.call("sipguard", "pending").returncode == 0
    status = host.run("sipguard", "status")
    assert f"at boot: loaded by {mode}; rules that another program flushes: put back" in status
    units = host.run("systemctl", "list-unit-files", "--plain", "--no-legend", "sipguard-*")
    assert ("sipguard-restore.service" in units) is (mode == "systemd")
    host.run(
        "sh", "-c", "rm /etc/iptables/rules.v?; iptables -F f2b-sshd; iptables -D INPUT -p tcp --dport 22 -j f2b-sshd"
    )
    host.run("iptables", "-X", "f2b-sshd")


def test_reboot_with_damaged_files_leaves_a_host_that_only_ssh_reaches(
    guarded: Machine, neighbours: Neighbours
) -> None:
    host = guarded
    host.apply("sipguard_host", on_boot_failure="close", host_policy=True)
    host.run("sh", "-c", f"truncate --size=-100 {FILES}/rules.v4; rm {FILES}/rules.v6")
    host.restart()
    unit = "sipguard-restore.service"
    assert has_failed(host, unit, "ipv4 is not protected: /etc/sipguard/rules.v4 is damaged")
    assert has_failed(
        host, unit, "ipv6 is not protected: /etc/sipguard/rules.v6 is missing; everything but SSH is closed"
    )
    listener = host.start("python3", "-m", "http.server", "--bind", "::", "8080")
    assert neighbours.hears(CLOSED, CLOSED)
    for family in (4, 6):
        assert neighbours.connects(family, 22)
        assert not neighbours.connects(family, 8080)
    assert host.run("systemctl", "is-active", "asterisk.service", "sipguard-repair.service") == "active\nactive\n"
    assert "NOT PROTECTED" in host.call("sipguard", "status").stdout
    host.apply("sip_ua_blocklist", learn_for=0)
    host.apply("sip_host_policy", state="absent")
    assert neighbours.hears(WHOLE, WHOLE)
    assert eventually_connects(neighbours)
    listener.terminate()
    listener.wait(PATIENCE)


def eventually_connects(neighbours: Neighbours) -> bool:
    end = time.monotonic() + PATIENCE
    while not all(neighbours.connects(family, 8080) for family in (4, 6)):
        if time.monotonic() > end:
            return False
    return True


def test_reboot_with_a_damaged_file_costs_one_family_and_is_said(guarded: Machine, neighbours: Neighbours) -> None:
    host = guarded
    host.apply("sipguard_host", persistence="netfilter-persistent", on_boot_failure="fail")
    host.run("dd", "if=/dev/urandom", f"of={FILES}/rules.v4", "bs=1k", "count=8")
    host.restart()
    assert has_failed(host, "netfilter-persistent.service", "ipv4 is not protected: /etc/sipguard/rules.v4 is damaged")
    assert neighbours.hears(OPEN, WHOLE)

    def said() -> bool:
        lines = journal(host, "sipguard-repair.service")
        return any(line["PRIORITY"] == "2" and "ipv4 is not protected: " in line["MESSAGE"] for line in lines)

    # the service starts beside the rest of the boot
    assert eventually(said)
    host.apply("sip_ua_blocklist", learn_for=0)
    assert neighbours.hears(WHOLE, WHOLE)


FLUSHES = {
    "iptables": "iptables -F; iptables -X; ip6tables -F; ip6tables -X; iptables -t nat -F",
    "nft": "nft flush ruleset || { iptables -F; iptables -X; iptables -t raw -F; iptables -t raw -X; }",
    "netfilter-persistent": "netfilter-persistent flush",
}


@pytest.mark.parametrize("name", FLUSHES)
def test_service_puts_back_what_is_flushed(guarded: Machine, neighbours: Neighbours, name: str) -> None:
    host = guarded
    before = own(host)
    host.run("sh", "-c", FLUSHES[name])
    end = time.monotonic() + PATIENCE
    while own(host) != before:
        assert time.monotonic() < end, "not put back in time"
    assert neighbours.hears(WHOLE, WHOLE)
    last = journal(host, "sipguard-repair.service")[-1]
    assert last["PRIORITY"] == "4"
    assert re.search(r"missing were ipv4: .*rules loaded", last["MESSAGE"])


def test_modes_leave_nothing_of_each_other(host: Machine) -> None:
    folders = ["/etc/systemd/system", "/usr/share/netfilter-persistent", "/usr/local", FILES, "/var/lib/sipguard"]
    for name in ("sip_ua_blocklist", "sip_trust", "sip_host_policy"):
        host.apply(name, state="absent")
    host.apply("sipguard_host", state="absent")
    host.run("systemctl", "reset-failed")
    before = host.files(*folders)
    assert "sipguard" not in before
    seen: dict[str, str] = {}
    for mode in itertools.chain(["systemd", "netfilter-persistent", "none"] * 2):
        runs = [host.apply("sipguard_host", check, persistence=mode) for check in (True, False, True, False)]
        assert [run["changed"] for run in runs] == [True, True, False, False]
        assert runs[0]["diff"] == runs[1]["diff"]
        assert seen.setdefault(mode, host.files(*folders)) == host.files(*folders)
        running = host.call("systemctl", "is-active", "sipguard-repair.service").stdout
        assert (running == "active\n") is (mode != "none")
    gone = [host.apply("sipguard_host", check, state="absent") for check in (True, False, True, False)]
    assert [run["changed"] for run in gone] == [True, True, False, False]
    assert host.files(*folders) == before
    assert host.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "sipguard*") == ""
    assert host.run("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""
