# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's inputs are the same thing in both places that list them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest

from tests.unit.repository.checkout import load_yaml, names, roles

ROLES = roles()


def specified(role: Path) -> dict[str, Any]:
    options: dict[str, Any] = load_yaml(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return options


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_role_options_are_those_with_defaults(role: Path) -> None:
    assert sorted(specified(role)) == sorted(load_yaml(role / "defaults/main.yml"))


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_role_defaults_agree(role: Path) -> None:
    """A default that is computed ("{{ ... }}") need not be repeated in the specification, where it is text only."""
    defaults = load_yaml(role / "defaults/main.yml")
    differences = {
        name: (option.get("default"), defaults.get(name))
        for name, option in specified(role).items()
        if option.get("default") != defaults.get(name)
        and not ("default" not in option and isinstance(defaults.get(name), str) and "{{" in defaults[name])
    }
    assert differences == {}


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_role_lists_say_what_they_hold(role: Path) -> None:
    lists = {name: option for name, option in specified(role).items() if option["type"] == "list"}
    assert [name for name, option in lists.items() if "elements" not in option] == []


@pytest.mark.parametrize(
    ("asked", "folder"),
    [
        ({}, "/var/log/asterisk"),
        ({"__pbx_asterisk": {"skipped": True}}, "/var/log/asterisk"),
        ({"__pbx_asterisk": {"log_directory": ""}}, "/var/log/asterisk"),
        ({"__pbx_asterisk": {"log_directory": "/srv/logs"}}, "/srv/logs"),
    ],
    ids=["alone", "skipped", "no-asterisk", "elsewhere"],
)
def test_fail2ban_reads_where_asterisk_writes(asked: dict[str, Any], folder: str) -> None:
    (role,) = (each for each in ROLES if each.name == "pbx_fail2ban")
    defaults = load_yaml(role / "defaults/main.yml")
    for name, file in (("pbx_fail2ban_log", "notices"), ("pbx_fail2ban_security_log", "security")):
        assert jinja2.Environment().from_string(defaults[name]).render(asked) == f"{folder}/sipguard-{file}"


def test_no_role_says_itself_whether_it_only_looks() -> None:
    """A keyword of a task would overrule check_mode and diff of the play, the role or the block that it stands in."""
    files = [path for role in ROLES for path in (role / "tasks").glob("*.yml")]
    assert len(files) > 20
    said = re.compile(r"^ *(check_mode|diff): (?!true$|false$)", re.MULTILINE)
    assert [str(path) for path in files if said.search(path.read_text(encoding="utf-8"))] == []
