# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a user gets it: built, installed, and reduced to what an installed collection may rely on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.repository.checkout import TOP, modules, roles, tool

KEPT = {"meta", "playbooks", "plugins", "roles"}


@dataclass(frozen=True)
class Installed:
    """An installed collection: ``root`` is its folder, ``shipped`` the names of all files it came with."""

    root: Path
    shipped: tuple[str, ...]
    env: dict[str, str]

    def run(self, *argv: str) -> str:
        """Run one of Ansible's commands far from the checkout and in an empty network of its own; it must succeed."""
        command = ["unshare", "--net", tool(argv[0]), *argv[1:]]
        done = subprocess.run(
            command, env=self.env, cwd=self.root.parents[3], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{argv}:\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    base = tmp_path_factory.mktemp("installed")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    env |= {
        "ANSIBLE_COLLECTIONS_PATH": str(base / "collections"),
        "ANSIBLE_HOME": str(base / "home"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
    }
    galaxy = [tool("ansible-galaxy"), "collection"]
    for argv in (
        [*galaxy, "build", "--output-path", str(base), str(TOP)],
        [*galaxy, "install", "--offline", "--no-deps", "--collections-path", str(base / "collections"), "*.tar.gz"],
    ):
        command = [str(next(base.glob(word))) if word.startswith("*") else word for word in argv]
        done = subprocess.run(command, env=env, cwd=base, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    root = base / "collections/ansible_collections/sipguard/pbx"
    shipped = tuple(entry["name"] for entry in json.loads((root / "FILES.json").read_text())["files"])
    for path in root.iterdir():
        if path.name in KEPT:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return Installed(root, shipped, env)


def test_installed_collection_ships_no_development_files(installed: Installed) -> None:
    top = {name.split("/")[0] for name in installed.shipped} - {"."}
    documents = {"CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"}
    assert top <= KEPT | documents | {"changelogs", "docs"}


@pytest.mark.parametrize(
    ("kind", "parts"),
    [("module", [path.stem for path in modules()]), ("role", [path.name for path in roles()])],
    ids=["module", "role"],
)
def test_installed_parts_have_documentation(kind: str, parts: list[str], installed: Installed) -> None:
    wanted = [f"sipguard.pbx.{part}" for part in parts]
    assert sorted(json.loads(installed.run("ansible-doc", "--json", "--type", kind, *wanted))) == sorted(wanted)


def test_installed_module_runs_in_check_mode(installed: Installed) -> None:
    """A host without any rule: the plan is to make them all, and nothing is made."""
    shown = installed.run(
        *("ansible", "localhost", "--connection", "local", "--check", "--diff"),
        *("--extra-vars", "ansible_python_interpreter=/usr/bin/python3"),
        *("--module-name", "sipguard.pbx.sip_ua_blocklist", "--args", '{"presets": ["scanners"]}'),
    )
    assert "localhost | CHANGED =>" in shown
    assert "SIPGUARD-UA" in shown


def test_installed_playbook_is_found_by_its_name(installed: Installed) -> None:
    shown = installed.run("ansible-playbook", "--syntax-check", "sipguard.pbx.harden_pbx")
    assert shown.split() == ["playbook:", str(installed.root / "playbooks/harden_pbx.yml")]
