# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's inputs are the same thing in both places that list them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
