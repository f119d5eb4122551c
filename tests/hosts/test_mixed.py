# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/examples/mixed: hosts of every kind, hardened by one run from that inventory, each as its group says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from .harness import CHECKOUT, Controller, LabHost, eventually, lab

EXAMPLE = CHECKOUT / "docs/examples/mixed/hosts.yml"
# The first part of the name in the inventory, and what is there.
IMAGES = {
    "old": "debian11-asterisk16",
    "new": "sid-asterisk22",
    "office": "sid-asterisk22-freepbx17",
    "branch1": "debian12",
    "branch2": "debian12",
    "monitor": "debian12",
}
PBXS = ("old", "new", "office")
# As the 32-bit Raspberry Pi OS says of itself.
RASPBIAN = 'PRETTY_NAME="Raspbian GNU/Linux 12 (bookworm)"\nNAME="Raspbian GNU/Linux"\nVERSION_ID="12"\nID=raspbian\nID_LIKE=debian\n'
DOMAIN = ".example.com"


class Office(Controller):
    """The example's controller, whose host names lead to the lab."""

    def __init__(self, folder: Path, hosts: dict[str, LabHost]) -> None:
        super().__init__(folder, [*hosts.values()], DOMAIN)
        self.options = ["-i", str(EXAMPLE)]
        self.hosts = hosts
        info = hosts["new"].info
        # the controller's own addresses; and the lab has no way to the publisher of a feed
        self._instead = {"pbx_admins": [info["controller"], info["controller6"]], "pbx_blocklists_feeds": []}

    def said(self, playbook: str, **variables: Any) -> str:
        """What a run prints that has to end well."""
        done = self.play(playbook, **self._instead, **variables)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def changed(self, **variables: Any) -> dict[str, int]:
        """Host -> how much a run of the main job has changed there."""
        recap = self.said("harden-pbx.yml", **variables).rpartition("PLAY RECAP")[2]
        found = re.findall(rf"^(\w+){re.escape(DOMAIN)}\s*:.*changed=(\d+)", recap, re.MULTILINE)
        return {name: int(number) for name, number in found}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """The hosts as they come, and a controller."""
    lab("down")
    hosts = {name: LabHost(name, image) for name, image in IMAGES.items()}
    hosts["branch1"].run("sh", "-c", f"rm /etc/os-release; printf '%s' '{RASPBIAN}' >/etc/os-release")
    for name in PBXS:
        assert eventually(partial(answers, hosts[name])), name
    yield Office(tmp_path_factory.mktemp("office"), hosts)
    lab("down")


def answers(host: LabHost) -> bool:
    """Whether an Asterisk does."""
    return host.run("asterisk", "-rx", "core show version").startswith("Asterisk ")


def status(host: LabHost) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.run("sipguard", "status", "--json"))
    return found


def test_where_nothing_has_ever_come_nothing_has_to_go(office: Office) -> None:
    """And no command is there that it would take."""
    host = office.hosts["branch1"]
    commands = "cd /usr/sbin; for each in iptables ip6tables ipset; do mv"
    host.run("sh", "-ec", f"{commands} $each $each.away; done")
    assert host.run("sh", "-c", "command -v iptables ip6tables ipset") == ""
    try:
        assert office.changed(pbx_hosts="branch1.example.com", pbx_firewall_state="absent") == {"branch1": 0}
    finally:
        host.run("sh", "-ec", f"{commands} $each.away $each; done")


def test_one_inventory_hardens_hosts_of_every_kind(office: Office) -> None:
    hosts = office.hosts
    first = office.changed()
    assert set(first) == set(IMAGES)
    assert all(first.values()), first
    assert office.changed() == dict.fromkeys(IMAGES, 0)

    found = {name: status(host) for name, host in hosts.items()}
    assert {name for name in IMAGES if found[name]["protected"]} == {*IMAGES} - {"branch2"}
    assert found["branch2"]["observing"]
    tables = {name: {family["table"] for family in each["families"].values()} for name, each in found.items()}
    assert tables == {name: {"mangle" if name == "office" else "filter"} for name in IMAGES}
    members = {name: set(each["families"]["ipv4"]["members"]) for name, each in found.items()}
    assert {name for name in IMAGES if "SIPGUARD-GATE" in members[name]} == {*IMAGES} - {"monitor"}
    assert {name for name in IMAGES if "SIPGUARD-HOST" in members[name]} == {"monitor"}
    assert {name for name in IMAGES if "5160:5161" in hosts[name].rules()} == {"office"}
    jails = {name: host.run("sh", "-c", "ls /etc/fail2ban/jail.d 2>/dev/null") for name, host in hosts.items()}
    assert {name for name in IMAGES if "sipguard-asterisk.conf" in jails[name]} == {*PBXS}
    assert {name for name in IMAGES if hosts[name].run("systemctl", "is-active", "sipband").strip() == "active"} == {
        *PBXS
    }
    # the profile strict, and the exception from it
    assert "allow_transfer=no" in hosts["new"].run("cat", "/etc/asterisk/pjsip.conf").replace(" ", "")
    assert "allow_subscribe" not in hosts["new"].run("cat", "/etc/asterisk/pjsip.conf")


def test_each_pbx_answers_a_phone_and_no_scanner(office: Office) -> None:
    """Asked by the host that is no PBX, a stranger to all of them."""
    said = office.said("verify.yml", pbx_hosts="pbx", pbx_verify_from="monitor.example.com")
    rows = re.findall(r'"(phone|scanner)\s+(UDP|TCP)\s+(\S+):\d+\s+(.*?)\s+(right|WRONG|-)', said)
    of = {host.info["address"]: name for name, host in office.hosts.items()}
    seen = {(of[address], who, transport): verdict for who, transport, address, dummy, verdict in rows}
    for name in PBXS:
        assert seen[name, "phone", "UDP"] == "right", said
        assert seen[name, "scanner", "UDP"] == "right", said
    assert {seen[name, "phone", "UDP"] for name in ("branch1", "branch2")} == {"-"}


def test_everything_goes_again(office: Office) -> None:
    office.changed(pbx_firewall_state="absent")
    assert not [name for name, host in office.hosts.items() if "SIPGUARD" in host.rules()]
    assert office.changed(pbx_firewall_state="absent") == dict.fromkeys(IMAGES, 0)
