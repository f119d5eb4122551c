# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which code may import which, and in which Python it is written."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.repository.checkout import TOP, modules, names

MODULE_UTILS = TOP / "plugins/module_utils"
OURS = "ansible_collections.sipguard.pbx.plugins.module_utils"

# What each package of module_utils may import of the others. A package not named here has no place in the order.
ALLOWED: dict[str, set[str]] = {
    "_sip": set(),
    "_netfilter": {"_sip"},
    "_asterisk": {"_sip"},
    "_host": {"_sip", "_netfilter", "_asterisk"},
    "_fail2ban": {"_sip", "_netfilter", "_asterisk", "_host"},
    "_sipban": {"_sip", "_netfilter", "_asterisk", "_host"},
    "_checkpoint": {"_sip", "_netfilter", "_asterisk", "_host"},
}

PLUGINS = sorted((TOP / "plugins").rglob("*.py"))
UTILS = sorted(MODULE_UTILS.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a file imports, wherever in it; relative names are resolved."""
    package = ".".join(["ansible_collections.sipguard.pbx", *path.relative_to(TOP).parent.parts])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def is_standard(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names


def test_packages_are_those_of_the_order() -> None:
    packages = {path.name for path in MODULE_UTILS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages <= set(ALLOWED)
    assert {path.name for path in MODULE_UTILS.glob("*.py")} <= {"__init__.py"}


@pytest.mark.parametrize("path", UTILS, ids=names(UTILS))
def test_module_utils_import_downwards_only(path: Path) -> None:
    package = path.relative_to(MODULE_UTILS).parts[0]
    wrong = []
    for line, name in imports(path):
        if is_standard(name):
            continue
        if not name.startswith(f"{OURS}."):
            wrong.append(f"line {line}: {name} is not in the standard library")
        elif name.removeprefix(f"{OURS}.").split(".")[0] not in {package, *ALLOWED.get(package, set())}:
            wrong.append(f"line {line}: {package} must not import {name}")
    assert wrong == []


@pytest.mark.parametrize("path", UTILS, ids=names(UTILS))
def test_module_utils_import_each_other_relatively(path: Path) -> None:
    """On a managed host the same files are a package of another name."""
    absolute = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            absolute += [alias.name for alias in node.names if alias.name.startswith("ansible_collections")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ansible_collections"):
            absolute.append(node.module or "")
    assert absolute == []


@pytest.mark.parametrize("path", modules(), ids=names(modules()))
def test_modules_import_what_a_managed_host_has(path: Path) -> None:
    """Ansible sends a module with ansible.module_utils and with ours; nothing else travels."""
    wrong = [
        f"line {line}: {name}"
        for line, name in imports(path)
        if not is_standard(name) and not name.startswith(("ansible.module_utils.", f"{OURS}."))
    ]
    assert wrong == []


@pytest.mark.parametrize("path", PLUGINS, ids=names(PLUGINS))
def test_plugins_are_written_in_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 9))
