# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as somebody gets it who has no checkout: a tarball, and the oldest ansible-core that may run it.

All else here runs from the checkout, with a newer one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .harness import CHECKOUT
from .machine import Machine
from .neighbours import Neighbours
from .site import changed

ANSIBLE = "ansible-core~=2.18.0"
PLAYBOOK = "sipguard.pbx.harden_pbx"


@dataclass(frozen=True)
class Installation:
    """Somebody's own virtual environment and home; nothing in his environment leads to the checkout."""

    home: Path

    def run(self, *argv: str, alone: bool = False) -> subprocess.CompletedProcess[str]:
        """One of his commands, started in his home; ``alone``: without any network."""
        command = [*(["unshare", "--net"] if alone else []), str(self.home / "venv/bin" / argv[0]), *argv[1:]]
        system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {"HOME": str(self.home), "PATH": f"{self.home}/venv/bin:{system}", "LANG": "C.UTF-8"}
        # where his packages come from is the machine's matter
        env |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        return subprocess.run(command, cwd=self.home, env=env, capture_output=True, text=True, check=False)

    def says(self, *argv: str, alone: bool = False) -> str:
        """What one of his commands prints; an AssertionError when it fails."""
        done = self.run(*argv, alone=alone)
        assert done.returncode == 0, f"{argv}:\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """ansible-core, and what was built from the checkout and installed from the tarball, offline."""
    made = Installation(tmp_path_factory.mktemp("product"))
    galaxy = str(Path(sys.executable).with_name("ansible-galaxy"))
    argv = [galaxy, "collection", "build", "--output-path", str(made.home), str(CHECKOUT)]
    subprocess.run(argv, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", str(made.home / "venv")], check=True)
    made.says("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ANSIBLE)
    tarball = str(next(made.home.glob("sipguard-pbx-*.tar.gz")))
    made.says("ansible-galaxy", "collection", "install", "--offline", tarball, alone=True)
    return made


@pytest.fixture(scope="module")
def pbx() -> Iterator[Machine]:
    """A host with an Asterisk 22."""
    made = Machine("product", "sid-asterisk22")
    yield made
    made.close()


def test_tarball_is_what_is_found(installation: Installation) -> None:
    listed = json.loads(installation.says("ansible-galaxy", "collection", "list", "--format", "json", alone=True))
    assert list(listed) == [str(installation.home / ".ansible/collections/ansible_collections")]
    assert list(*listed.values()) == ["sipguard.pbx"]
    assert installation.says("ansible", "--version").startswith("ansible [core 2.18.")


def test_pbx_is_hardened_from_it(installation: Installation, pbx: Machine) -> None:
    neighbours = Neighbours(pbx)
    assert neighbours.hears((True, True, True), (True, True, True))
    reach = pbx.info["ansible"]
    admins = [pbx.info["controller"], pbx.info["controller6"], *neighbours.trusted.values()]
    # The stranger who is a scanner first and a telephone then has one address.
    variables = {"pbx_admins": admins, "pbx_firewall_learn_for": 0}
    inventory = {"all": {"hosts": {"pbx": reach}, "vars": variables}}
    (installation.home / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")

    play = ("ansible-playbook", "-i", "inventory.json", PLAYBOOK)
    first, second = (installation.run(*play) for dummy in range(2))
    assert changed(first)["pbx"] > 0
    assert changed(second)["pbx"] == 0, second.stdout
    assert "DEPRECATION" not in first.stderr

    assert neighbours.hears((False, True, True), (False, True, True))
    assert json.loads(pbx.run("sipguard", "status", "--json"))["protected"]

    gone = installation.run(*play, "-e", "pbx_firewall_state=absent")
    assert changed(gone)["pbx"] > 0
    assert neighbours.hears((True, True, True), (True, True, True))
