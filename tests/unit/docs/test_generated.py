# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generated pages: current, and noticed when they are not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.repository.checkout import TOP

END = "<!-- End of what docs/bin/pages.py writes. -->\n"


def run(top: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(top / "docs/bin/pages.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the generator reads and writes, as a checkout of its own."""
    for name in ("docs", "plugins", "roles", "meta", "galaxy.yml"):
        source = TOP / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    place = tmp_path / ".cache/ansible_collections/sipguard"
    place.mkdir(parents=True)
    (place / "pbx").symlink_to(tmp_path)
    return tmp_path


def test_pages_are_current() -> None:
    done = run(TOP, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_changed_description_is_noticed_then_written(copy: Path) -> None:
    module = copy / "plugins/modules/sip_host_info.py"
    module.write_text(
        module.read_text(encoding="utf-8").replace("Changes nothing.", "Alters nothing."), encoding="utf-8"
    )
    page = copy / "docs/modules/sip_host_info.md"
    before = page.read_text(encoding="utf-8")
    noticed = run(copy, "--check")
    assert noticed.returncode == 1
    assert "docs/modules/sip_host_info.md is not current" in noticed.stderr
    assert page.read_text(encoding="utf-8") == before
    assert run(copy).returncode == 0
    after = page.read_text(encoding="utf-8")
    assert "Alters nothing." in after
    assert after.partition(END)[2] == before.partition(END)[2] != ""
    assert run(copy, "--check").returncode == 0


def test_changed_default_of_a_role_is_noticed(copy: Path) -> None:
    specs = copy / "roles/pbx_firewall/meta/argument_specs.yml"
    specs.write_text(specs.read_text(encoding="utf-8").replace("default: 3600", "default: 60"), encoding="utf-8")
    noticed = run(copy, "--check")
    pages = ("docs/roles/pbx_firewall.md", "roles/pbx_firewall/README.md")
    assert noticed.stderr == "".join(f"{page} is not current: run 'make docs'\n" for page in pages)


def test_page_of_a_new_module_is_made(copy: Path) -> None:
    page = copy / "docs/modules/sip_trust.md"
    page.unlink()
    assert run(copy).returncode == 0
    assert page.read_text(encoding="utf-8").startswith("# sip_trust: name the sources")


def test_page_without_marks_is_refused(copy: Path) -> None:
    page = copy / "docs/modules/sip_trust.md"
    page.write_text("# By hand\n", encoding="utf-8")
    assert "docs/modules/sip_trust.md: it has to hold each of the two marks once" in run(copy).stderr
    assert page.read_text(encoding="utf-8") == "# By hand\n"
