# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example of a published rule set as variables; that its rules do the same: tests/integration/test_host_policy_published.py."""

from __future__ import annotations

from typing import Any

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.services import DEFAULTS, read_services
from tests.unit.repository.checkout import TOP, load_yaml

VARIABLES: dict[str, Any] = load_yaml(TOP / "docs/examples/published-host-firewall.yml")


def test_example_sets_only_variables_that_the_role_reads() -> None:
    defaults = load_yaml(TOP / "roles/pbx_firewall/defaults/main.yml")
    read = "\n".join(str(value) for value in defaults.values())
    assert {name for name in VARIABLES if name not in defaults and f"{{{{ {name} |" not in read} == set()


def test_example_changes_services_of_the_table_only() -> None:
    entries = VARIABLES["pbx_firewall_host_policy"]
    table = read_services(entries, (), ())
    assert table.keys() == DEFAULTS.keys()
    assert all(table[entry["name"]] != DEFAULTS[entry["name"]] for entry in entries if entry["name"] != "sip")


def test_guide_has_the_table_as_it_is() -> None:
    page = (TOP / "docs/guides/host-firewall.md").read_text(encoding="utf-8")
    for service in DEFAULTS.values():
        told = service.describe()
        ports = ", ".join(told["ports"]) or "-"
        line = f"| `{service.name}` | {ports} | {', '.join(told['protocols'])} | {', '.join(told['from'])} |"
        assert line in page
