# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job over connections that are no network: inside the host itself, and through the container engine.

There is no SSH peer, so nobody has to be among the administrators, and the confirmation needs no other connection.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness.lab import Lab

from .harness import CHECKOUT, PROJECT, LabHost

CACHE = CHECKOUT / ".cache"
VARIABLES: dict[str, Any] = {
    "pbx_sip_domains": ["pbx.example.test"],
    "pbx_firewall_gate": True,
    "pbx_firewall_gate_mode": "observe",
    "pbx_firewall_host_policy": [{"name": "ssh", "from": "everyone"}],
}


@pytest.fixture(scope="session")
def podman_plugin() -> str:
    """The connection plugin of containers.podman, taken out of the package ``ansible`` that PyPI has: its full name."""
    place = CACHE / "ansible_collections/containers/podman"
    if not (place / "plugins/connection/podman.py").exists():
        wheels = CACHE / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--dest", str(wheels), "ansible==12.3.0"], check=True)
        with zipfile.ZipFile(wheels / "ansible-12.3.0-py3-none-any.whl") as wheel:
            wheel.extractall(
                CACHE, [name for name in wheel.namelist() if name.startswith("ansible_collections/containers/podman/")]
            )
    return "containers.podman.podman"


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., str]:
    """Run the main job on one host, reached as these variables say; what it prints."""

    def run(*prefix: str, **reach: Any) -> str:
        inventory = tmp_path / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": {"pbx": {**reach, **VARIABLES}}}}), encoding="utf-8")
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory)]
        done = subprocess.run(
            [*prefix, *argv, str(CHECKOUT / "playbooks/harden-pbx.yml")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(CACHE),
                "ANSIBLE_HOME": str(tmp_path / "ansible"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PIPELINING": "1",
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_local(play: Callable[..., str]) -> None:
    lab = Lab("nft")
    try:
        reach = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
        first = play(*lab.pbx.argv(), **reach)
        assert "Confirm over a new one" in first
        assert "-A SIPGUARD -j SIPGUARD-HOST" in lab.save(4)
        assert not json.loads(lab.pbx.run("sipguard", "pending", "--json"))["pending"]
        assert "changed=0" in play(*lab.pbx.argv(), **reach)
    finally:
        lab.close()


def test_container(play: Callable[..., str], fleet: list[LabHost], podman_plugin: str, tmp_path: Path) -> None:
    host = fleet[1]
    # The lab runs its engine in a mount namespace of its own.
    engine = tmp_path / "podman"
    engine.write_text(f'#!/bin/sh\ncd {CHECKOUT} && exec {sys.executable} -m lab engine --project {PROJECT} -- "$@"\n')
    engine.chmod(0o755)
    reach = {
        "ansible_connection": podman_plugin,
        "ansible_host": host.info["container"],
        "ansible_podman_executable": str(engine),
        "ansible_user": "root",  # so that nobody has to become root
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    assert "Confirm over a new one" in play(**reach)
    assert "-A SIPGUARD -j SIPGUARD-HOST" in host.rules()
    assert not host.pending()
