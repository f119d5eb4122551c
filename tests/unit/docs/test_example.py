# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example inventory, read by Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.filter.run import variable_objections
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import parse_networks, parse_port
from tests.unit.repository.checkout import TOP, load_yaml, roles, tool

INVENTORY = TOP / "docs/examples/inventory/hosts.yml"
HOSTS = ["freepbx.example.com", "pbx-graz.example.com", "pbx-lyon.example.com", "pbx1.example.com"]


def run(tmp_path: Path, *argv: str) -> str:
    env = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(TOP / ".cache"),
        "ANSIBLE_HOME": str(tmp_path),
        "ANSIBLE_NOCOLOR": "true",
    }
    command = [tool(argv[0]), "--inventory", str(INVENTORY), *argv[1:]]
    done = subprocess.run(command, env=env, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Host -> all its variables, groups' included."""
    shown = run(tmp_path_factory.mktemp("ansible"), "ansible-inventory", "--list")
    found: dict[str, dict[str, Any]] = json.loads(shown)["_meta"]["hostvars"]
    return found


def test_example_gives_each_host_its_own_words(variables: dict[str, dict[str, Any]]) -> None:
    assert sorted(variables) == HOSTS
    assert all(host["pbx_admins"] and host["pbx_trunks"] and host["pbx_lan"] for host in variables.values())
    assert [name for name in HOSTS if variables[name].get("pbx_firewall_mode") == "observe"] == HOSTS[1:3]
    assert variables["freepbx.example.com"]["pbx_platform"] == "freepbx"
    assert variables["pbx1.example.com"]["pbx_phones"] == ["203.0.113.77"]


@pytest.mark.parametrize("word", ["pbx_admins", "pbx_lan", "pbx_trunks", "pbx_phones"])
def test_example_names_only_addresses_that_can_be_used(word: str, variables: dict[str, dict[str, Any]]) -> None:
    entries = [entry for host in variables.values() for entry in host.get(word, [])]
    assert entries
    assert all(parse_networks(entry, word) for entry in entries)


def test_example_names_only_ports_that_can_be_used(variables: dict[str, dict[str, Any]]) -> None:
    assert all(parse_port(port, "ports") for host in variables.values() for port in host["pbx_sip_ports"])


def test_example_sets_only_variables_that_roles_have(variables: dict[str, dict[str, Any]]) -> None:
    for role in roles():
        known = set(load_yaml(role / "defaults/main.yml"))
        used = {name for host in variables.values() for name in host if name.startswith(f"{role.name}_")}
        assert used
        assert used <= known


def test_example_is_accepted_as_it_stands(variables: dict[str, dict[str, Any]]) -> None:
    """By the check with which the main job begins."""
    assert {name: variable_objections(host) for name, host in variables.items()} == {name: [] for name in HOSTS}
