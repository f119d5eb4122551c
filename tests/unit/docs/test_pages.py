# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links lead somewhere, code blocks are what they say, and what the pages name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.sipguard.pbx.plugins.module_utils._host import cli
from tests.unit.repository.checkout import TOP, files, load_yaml, names, roles

PAGES = [path for path in files() if path.suffix == ".md"]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be linked to, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    plain = (re.sub(r"[^\w\- ]", "", heading.replace("`", "")) for heading in HEADING.findall(text))
    return {heading.strip().lower().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_page_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _dummy, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_page_yaml_can_be_read(page: Path) -> None:
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "yaml":
            assert yaml.safe_load(block), block


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_page_names_only_variables_that_the_role_has(page: Path) -> None:
    named = set(re.findall(r"\bpbx_firewall_[a-z_]*[a-z]\b", page.read_text(encoding="utf-8")))
    assert named <= set(load_yaml(TOP / "roles/pbx_firewall/defaults/main.yml"))


def test_pages_name_only_commands_that_the_host_has() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    code = re.findall(r"`([^`\n]+)`", text)
    code += [line for language, block in FENCE.findall(text) if language == "console" for line in block.splitlines()]
    commands = {found[1] for line in code if (found := re.match(r" *(?:\$ )?(?:ssh \S+ )?sipguard ([a-z]+)", line))}
    assert commands >= {"status", "why", "restore", "unban", "pending", "confirm", "rollback", "repair"}
    for command in commands:
        try:
            status: object = cli.main([command, "--help"])
        except SystemExit as ended:
            status = ended.code
        assert status == 0


def test_every_page_can_be_reached_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [TOP / "README.md", TOP / "docs/index.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        waiting += [page.parent / link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8"))]
    assert {page for page in PAGES if (TOP / "docs") in page.parents} <= reached


def test_inventory_page_has_every_word_that_roles_read() -> None:
    """The vocabulary is what the defaults of roles fall back to: pbx_lan, pbx_trunks, ..."""
    read = set()
    for role in roles():
        read |= set(
            re.findall(r"\{\{ (pbx_[a-z_]+) \| default", (role / "defaults/main.yml").read_text(encoding="utf-8"))
        )
    # A role may follow a variable of another one, which that role's own page explains.
    read -= {word for word in read if word.startswith(tuple(f"{role.name}_" for role in roles()))}
    page = (TOP / "docs/guides/inventory.md").read_text(encoding="utf-8")
    assert read
    assert {word for word in read if f"| `{word}` |" not in page} == set()
