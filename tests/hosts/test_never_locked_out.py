# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change that shuts Ansible out is taken back by the host itself, whatever becomes of the controller."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from .harness import Controller, LabHost, eventually

# A blunder that no check can see: what is looked for on the "SIP" ports is what every SSH client says first.
BLUNDER: dict[str, Any] = {
    "pbx_sip_ports": ["22"],
    "pbx_firewall_ua_payloads": ["SSH-2.0-OpenSSH"],
    "pbx_admins": [],
    "pbx_firewall_require_admin": False,
    "pbx_firewall_limits_list": [{"method": "REGISTER", "rate": "10/second"}],
    "pbx_firewall_confirm_within": 40,
}


def agents(*names: str) -> dict[str, Any]:
    return {"pbx_firewall_ua_user_agents": list(names)}


def test_a_host_that_shuts_ansible_out_comes_back_as_it_was(controller: Controller, fleet: list[LabHost]) -> None:
    host = fleet[0]
    before = host.state()
    process = controller.start("harden-pbx.yml", host, **BLUNDER)
    assert eventually(lambda: "SSH-2.0-OpenSSH" in host.rules())
    assert not host.lets_in(), "the blunder shuts nobody out, so this test shows nothing"
    assert host.pending()
    assert eventually(host.lets_in)
    assert host.state() == before
    assert not host.pending()
    # The controller's new connection hangs until the host is back, or is given up before: in neither case is anything confirmed.
    output = process.communicate(timeout=300)[0]
    assert process.returncode != 0
    assert "unreachable=1" in output or "its time had run out" in output, output
    assert host.state() == before
    again = controller.harden(host)
    assert "changed=0" in again.stdout, again.stdout


def test_a_playbook_that_is_killed_leaves_a_host_as_it_was(controller: Controller, fleet: list[LabHost]) -> None:
    host = fleet[0]
    before = host.state()
    process = controller.start("harden-pbx.yml", host, **BLUNDER)
    assert eventually(lambda: "SSH-2.0-OpenSSH" in host.rules())
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert eventually(lambda: not host.pending())
    assert host.state() == before
    assert host.lets_in()


def test_two_controllers_at_once_each_confirm_their_own_change(
    controller: Controller, fleet: list[LabHost], tmp_path: Path
) -> None:
    host = fleet[0]
    other_place = tmp_path / "other"
    other_place.mkdir()
    other = Controller(other_place, fleet)
    processes = [
        controller.start("harden-pbx.yml", host, **agents("alpha-agent")),
        other.start("harden-pbx.yml", host, **agents("beta-agent")),
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert not host.pending()
    assert ("alpha-agent" in host.rules()) != ("beta-agent" in host.rules())
    timers = host.run("systemctl", "list-timers", "--all", "sipguard-rollback-*")
    assert "sipguard-rollback-" not in timers


def test_a_blunder_stops_at_the_first_host_of_a_series(controller: Controller, fleet: list[LabHost]) -> None:
    before = [host.state() for host in fleet]
    done = controller.harden(pbx_serial=1, **BLUNDER)
    assert done.returncode != 0
    assert [name for name in ("one", "two") if re.search(rf"^{name} ", done.stdout, re.MULTILINE)] == ["one"]
    assert fleet[1].state() == before[1]
    assert eventually(fleet[0].lets_in)
    assert fleet[0].state() == before[0]


def test_a_series_of_good_changes_goes_through(controller: Controller, fleet: list[LabHost]) -> None:
    done = controller.harden(pbx_serial=1, **agents("gamma-agent"))
    assert done.returncode == 0, done.stdout
    assert all("gamma-agent" in host.rules() and not host.pending() for host in fleet)


def test_the_state_before_is_brought_back_on_purpose(controller: Controller, fleet: list[LabHost]) -> None:
    before = [host.state() for host in fleet]
    assert controller.harden(**agents("delta-agent")).returncode == 0
    assert all("delta-agent" in host.rules() for host in fleet)
    done = controller.play("rollback.yml")
    assert done.returncode == 0, done.stdout
    assert [host.state() for host in fleet] == before


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"pbx_firewall_confirm_within": 0}, ["0", "10", "3600"]),
        (
            {"pbx_firewall_gate": True, "pbx_sip_domains": ["sip:tel.example.com"]},
            ["sip:tel.example.com", "tel.example.com"],
        ),
        ({"pbx_firewall_limits_list": [{"method": "REGISTER", "rate": "12"}]}, ["'12'", "12/minute"]),
        ({"pbx_firewall_host_policy": [{"name": "crm", "from": "lan"}]}, ["crm", "ports"]),
        ({"pbx_trunks": ["no-such-trunk.invalid"]}, ["no-such-trunk.invalid"]),
    ],
    ids=["timer", "domain", "rate", "service", "trunk"],
)
def test_a_bad_variable_is_named_before_anything_has_changed(
    controller: Controller, fleet: list[LabHost], variables: dict[str, Any], said: list[str]
) -> None:
    host = fleet[0]
    before = host.state()
    # Something else would change in the same run.
    done = controller.harden(host, **variables, **agents("epsilon-agent"))
    assert done.returncode != 0
    assert all(word in done.stdout for word in said), done.stdout
    assert "changed=0" in done.stdout
    assert host.state() == before
