# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-builder makes of execution-environment.yml, and what it reads in the installed collection."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.unit.repository.checkout import TOP, load_yaml, tool


def run(*argv: str, cwd: Path) -> str:
    done = subprocess.run([tool(argv[0]), *argv[1:]], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the definition and the tarball, as the guide has it; ``context`` is what was made of them."""
    made = tmp_path_factory.mktemp("environment")
    shutil.copy(TOP / "execution-environment.yml", made)
    run("ansible-galaxy", "collection", "build", "--output-path", str(made), str(TOP), cwd=made)
    run("ansible-builder", "create", cwd=made)
    return made


def test_tarball_of_this_version_is_what_gets_installed(folder: Path) -> None:
    version = load_yaml(TOP / "galaxy.yml")["version"]
    (built,) = folder.glob("*.tar.gz")
    assert built.name == f"sipguard-pbx-{version}.tar.gz"
    (wanted,) = yaml.safe_load((folder / "context/_build/requirements.yml").read_text(encoding="utf-8"))["collections"]
    assert (folder / "context/_build" / wanted["name"]).read_bytes() == built.read_bytes()
    assert wanted["type"] == "file"


def test_image_gets_ansible_that_the_collection_may_run_on(folder: Path) -> None:
    lines = (folder / "context/Containerfile").read_text(encoding="utf-8").splitlines()
    (wanted,) = {line for line in lines if line.startswith("ARG ANSIBLE_INSTALL_REFS=")}
    assert f"ansible-core{load_yaml(TOP / 'meta/runtime.yml')['requires_ansible'].removesuffix('.0')}" in wanted


def test_builder_finds_what_the_installed_collection_asks_for(folder: Path, tmp_path: Path) -> None:
    (built,) = folder.glob("*.tar.gz")
    place = tmp_path / "collections"
    argv = ["collection", "install", "--offline", "--force", "--collections-path", str(place), str(built)]
    run("ansible-galaxy", *argv, cwd=tmp_path)
    found = yaml.safe_load(run("ansible-builder", "introspect", str(place), cwd=tmp_path).partition("---")[2])
    system = "\n".join(found["system"])
    assert "openssh-client [platform:dpkg]" in system
    assert "openssh-clients [platform:rpm]" in system
    assert not found.get("python")
