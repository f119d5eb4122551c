# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scripts have in common that write one page each from the collection's own code."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["ROOT", "cell", "write_or_check"]

ROOT = Path(__file__).resolve().parents[2]


def cell(text: str) -> str:
    """Return text as the plain text of a cell."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|" else char for char in text)


def write_or_check(page: Path, text: Callable[[], str], source: str) -> int:
    """Write the page, or with --check on the command line say whether it is what ``source`` says; the exit status.

    ``text`` may import the collection by its full name, wherever the checkout lies.
    """
    script = f"docs/bin/{Path(sys.argv[0]).name}"
    parser = argparse.ArgumentParser(description=f"Write {page.relative_to(ROOT)} from {source}.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is out of date")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as tree:
        namespace = Path(tree, "ansible_collections", "sipguard")
        namespace.mkdir(parents=True)
        (namespace / "pbx").symlink_to(ROOT)
        sys.path.insert(0, tree)
        sys.dont_write_bytecode = True
        made = text()
    if not check:
        page.write_text(made, encoding="utf-8")
        return 0
    if page.is_file() and page.read_text(encoding="utf-8") == made:
        return 0
    print(f"{page.relative_to(ROOT)} isn't what {source} says; run {script}", file=sys.stderr)
    return 1
