# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkout as the checks of this folder see it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

__all__ = ["TOP", "files", "load_yaml", "modules", "names", "playbooks", "roles", "tool"]

TOP = Path(__file__).resolve().parents[3]


def files() -> list[Path]:
    """Every file that belongs to the project: tracked by git, or new and not ignored."""
    command = ["git", "-C", str(TOP), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    paths = (TOP / name for name in listed.split("\0") if name)
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def names(paths: list[Path]) -> list[str]:
    """Names relative to the checkout, as identifiers of parametrised cases."""
    return [path.relative_to(TOP).as_posix() for path in paths]


def modules() -> list[Path]:
    """The files of all modules."""
    return sorted(path for path in (TOP / "plugins/modules").glob("*.py") if path.name != "__init__.py")


def roles() -> list[Path]:
    """The folders of all roles."""
    return sorted(path for path in (TOP / "roles").glob("*") if path.is_dir())


def playbooks() -> list[Path]:
    """The files of all playbooks."""
    return sorted((TOP / "playbooks").glob("*.yml"))


def load_yaml(path: Path) -> Any:
    """The one YAML document of a file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def tool(name: str) -> str:
    """The path of a command that lives beside the running Python, such as ansible-doc."""
    return str(Path(sys.executable).parent / name)
