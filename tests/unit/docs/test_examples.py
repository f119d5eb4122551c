# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventories of docs/examples for one host, a mixed estate, hosts that pull, and a fleet: read by Ansible itself, from a copy."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import parse_networks
from tests.unit.repository.checkout import TOP, load_yaml, roles, tool

EXAMPLES = TOP / "docs/examples"
HOSTS = {"one-pbx": 1, "mixed": 6, "pull": 3, "fleet": 300}
# Of the inventory's vocabulary, and of playbooks: what no role has among its own variables.
WORD = re.compile(r"`(pbx_[a-z_]+)`")


def run(example: Path, home: Path, *argv: str, **environment: str) -> str:
    """What a command of Ansible prints; nothing of it, not even a log, lands in the checkout."""
    env = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(TOP / ".cache"),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        **environment,
    }
    command = [tool(argv[0]), "--inventory", "hosts.yml", *argv[1:]]
    done = subprocess.run(command, env=env, cwd=example, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=sorted(HOSTS))
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one example, as an administrator begins with."""
    return Path(shutil.copytree(EXAMPLES / request.param, tmp_path / request.param))


def variables(example: Path, home: Path) -> dict[str, dict[str, Any]]:
    """Host -> all its variables, groups' included."""
    shown = run(example, home, "ansible-inventory", "--list")
    found: dict[str, dict[str, Any]] = json.loads(shown)["_meta"]["hostvars"]
    return found


def test_every_example_is_tested() -> None:
    assert {path.parent.name for path in EXAMPLES.glob("*/hosts.yml")} == {*HOSTS, "inventory"}


def test_example_says_what_a_run_needs(example: Path, tmp_path: Path) -> None:
    found = variables(example, tmp_path)
    assert len(found) == HOSTS[example.name]
    assert all(host["pbx_admins"] and host["pbx_trunks"] for host in found.values())
    for word in ("pbx_admins", "pbx_lan", "pbx_trunks", "pbx_phones"):
        for host in found.values():
            assert all(parse_networks(entry, word) for entry in host.get(word, []))


def test_example_sets_only_variables_that_somebody_reads(example: Path, tmp_path: Path) -> None:
    known = set(WORD.findall((TOP / "docs/guides/inventory.md").read_text(encoding="utf-8")))
    for role in roles():
        known |= set(load_yaml(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"])
    used = {name for host in variables(example, tmp_path).values() for name in host if name.startswith("pbx_")}
    assert used
    assert used <= known


def test_example_is_accepted_by_the_roles(example: Path, tmp_path: Path) -> None:
    """Each host's variables against the specification of each role: of the roles only what is tagged always."""
    play = [{"hosts": "all", "gather_facts": False, "roles": [f"sipguard.pbx.{role.name}" for role in roles()]}]
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps(play), encoding="utf-8")
    shown = run(
        *(example, tmp_path, "ansible-playbook", "--connection", "local", "--tags", "always"),
        *("--limit", "all[0:5]", "--forks", "2", str(playbook)),
    )
    good = [line for line in shown.splitlines() if f" ok={len(roles())} " in line and " failed=0 " in line]
    assert len(good) == min(6, HOSTS[example.name])


def test_kinds_of_the_mixed_estate_differ(tmp_path: Path) -> None:
    found = variables(Path(shutil.copytree(EXAMPLES / "mixed", tmp_path / "mixed")), tmp_path)
    assert {name for name, host in found.items() if host.get("pbx_platform") == "freepbx"} == {"office.example.com"}
    assert {name for name, host in found.items() if host.get("pbx_firewall_mode") == "observe"} == {
        "branch2.example.com"
    }
    assert {name for name, host in found.items() if "pbx_firewall_gate" not in host} == {"monitor.example.com"}


def test_settings_of_the_fleet_are_ansibles_own(tmp_path: Path) -> None:
    """Every line of ansible.cfg is one that Ansible reads, and none of them writes into the folder."""
    folder = Path(shutil.copytree(EXAMPLES / "fleet", tmp_path / "fleet"))
    written = configparser.ConfigParser()
    written.read(folder / "ansible.cfg")
    shown = subprocess.run(
        [tool("ansible-config"), "dump", "--only-changed", "--type", "all", "--format", "json"],
        env={**os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    read = shown.count(str(folder / "ansible.cfg"))
    assert read >= sum(len(written[section]) for section in written.sections())
    assert not written.has_option("defaults", "log_path")


def test_units_of_the_pull_name_files_that_are_there() -> None:
    folder = EXAMPLES / "pull"
    service = (folder / "sipguard-pull.service").read_text(encoding="utf-8")
    command = next(line for line in service.splitlines() if line.startswith("ExecStart=")).split()
    assert {name for name in command if name.endswith(".yml")} == {"hosts.yml", "local.yml"}
    assert all((folder / name).is_file() for name in command if name.endswith(".yml"))
    assert load_yaml(folder / "local.yml")[0]["ansible.builtin.import_playbook"] == "sipguard.pbx.harden_pbx"
