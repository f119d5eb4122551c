# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every part has its page, every page its part, every source file its licence; and no trace of one machine in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.repository.checkout import TOP, files, modules, names, playbooks, roles

FILES = files()

PAGES = {
    "modules": {path.stem for path in modules()},
    "roles": {path.name for path in roles()},
    # A playbook for use by path may stand beside the one with the collection's kind of name.
    "playbooks": {path.stem.replace("-", "_") for path in playbooks()},
}

SUFFIXES = {".c", ".j2", ".py", ".sh", ".yaml", ".yml"}
SOURCES = [
    path for path in FILES if path.stat().st_size and (path.suffix in SUFFIXES or path.read_bytes()[:2] == b"#!")
]

# Built so that this file does not contain what it looks for.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.}])/(?:work|farm|tmp/w)/|\.\./shared\b",
    "a package registry's host": r"\b(?:pypi|pythonhosted|npmjs|docker|quay|ghcr|galaxy\.ansible)\.(?:org|io|com)\b",
}


@pytest.mark.parametrize("kind", sorted(PAGES))
def test_documentation_has_a_page_for_each_part(kind: str) -> None:
    assert {path.stem for path in (TOP / "docs" / kind).glob("*.md")} == PAGES[kind]


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_source_names_its_licence(path: Path) -> None:
    head = "\n".join(path.read_text(encoding="utf-8").splitlines()[:8])
    assert "Copyright (c)" in head
    # In two pieces: the line as a whole is what licence scanners read as this file's own.
    assert "SPDX-License" + "-Identifier: GPL-3.0-or-later" in head


@pytest.mark.parametrize("what", sorted(FORBIDDEN))
def test_files_do_not_contain(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{path.relative_to(TOP)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []
