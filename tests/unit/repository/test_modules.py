# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module says of itself, as ansible-doc reads it with all fragments put in."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.repository.checkout import TOP, modules, names, tool

MODULES = modules()


@pytest.fixture(scope="module")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``ansible-doc --json`` prints of all modules: name -> doc, examples, return, metadata."""
    env = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(TOP / ".cache"),
        "ANSIBLE_HOME": str(tmp_path_factory.mktemp("ansible")),
    }
    command = [tool("ansible-doc"), "--json", "--type", "module", *(f"sipguard.pbx.{path.stem}" for path in MODULES)]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True, cwd=TOP)
    printed: dict[str, Any] = json.loads(done.stdout)
    return {name.removeprefix("sipguard.pbx."): value for name, value in printed.items()}


def options(spec: dict[str, Any], key: str, within: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every option or result with those inside it; ``key`` is what holds the inner ones, "suboptions" or "contains"."""
    for name, option in spec.items():
        yield f"{within}{name}", option
        yield from options(option.get(key) or {}, key, f"{within}{name}.")


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_module_documentation_is_complete(path: Path, documentation: dict[str, Any]) -> None:
    about = documentation[path.stem]
    assert about["doc"]["module"] == path.stem
    assert about["doc"]["short_description"]
    assert about["return"], "RETURN is empty"


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_module_examples_are_tasks_with_names(path: Path, documentation: dict[str, Any]) -> None:
    tasks = yaml.safe_load(documentation[path.stem]["examples"])
    assert tasks
    assert [task for task in tasks if not task.get("name")] == []
    assert any(f"sipguard.pbx.{path.stem}" in task for task in tasks)


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
@pytest.mark.parametrize("attribute", ["check_mode", "diff_mode"])
def test_module_supports(path: Path, attribute: str, documentation: dict[str, Any]) -> None:
    attributes = documentation[path.stem]["doc"].get("attributes") or {}
    # A module that only tells, or asks, has no difference to show.
    expected = "none" if attribute == "diff_mode" and path.stem.endswith(("_info", "_probe")) else "full"
    assert (attributes.get(attribute) or {}).get("support") == expected


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_module_lists_say_what_they_hold(path: Path, documentation: dict[str, Any]) -> None:
    about = documentation[path.stem]
    found = [*options(about["doc"].get("options") or {}, "suboptions"), *options(about["return"] or {}, "contains")]
    assert [name for name, option in found if option.get("type") == "list" and not option.get("elements")] == []
