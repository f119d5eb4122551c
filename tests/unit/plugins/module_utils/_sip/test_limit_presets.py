# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterator

import yaml

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.limit_presets import LIMIT_PRESETS, STANDARD
from ansible_collections.sipguard.pbx.plugins.modules import sip_ratelimit
from tests.unit.repository.checkout import TOP

GUIDE = (TOP / "docs/guides/rate-limits.md").read_text(encoding="utf-8")


def rows() -> Iterator[str]:
    """The presets as the guide has them in its table."""
    for name, preset in LIMIT_PRESETS.items():
        for limit in preset.limits:
            burst = limit.get("burst", "")
            per, engine = limit.get("per", "source"), limit.get("engine", "hashlimit")
            yield f"| `{name}` | {limit['method']} | {per} | {limit['rate']} | {burst} | {engine} |"
        if preset.ssh is not None:
            yield f"| `{name}` | SSH |  | {preset.ssh['rate']} | {preset.ssh['burst']} | hashlimit |"


def test_guide_has_every_limit_of_every_preset() -> None:
    table = [line for line in GUIDE.splitlines() if line.startswith(tuple(f"| `{name}` |" for name in LIMIT_PRESETS))]
    assert table == list(rows())


def test_guide_says_where_each_preset_is_from() -> None:
    assert all(preset.source for preset in LIMIT_PRESETS.values())
    assert [name for name, preset in LIMIT_PRESETS.items() if name != STANDARD and preset.source not in GUIDE] == []


def test_documentation_names_every_preset() -> None:
    said = " ".join(yaml.safe_load(sip_ratelimit.DOCUMENTATION)["options"]["presets"]["description"])
    assert [name for name in LIMIT_PRESETS if f"V({name})" not in said] == []


def test_standard_is_what_a_site_of_sixty_telephones_needs() -> None:
    """The arithmetic of the guide: each registers with a challenge, twice over, and a quarter more; calls once a minute."""
    numbers = {
        (limit["method"], limit.get("per", "source")): (limit["rate"], limit["burst"])
        for limit in LIMIT_PRESETS[STANDARD].limits
    }
    for per, phones in (("source", 60), ("source_net", 5 * 60)):
        assert numbers["REGISTER", per] == (f"{phones * 2 // 30}/second", phones * 2 * 2 * 5 // 4)
        assert numbers["INVITE", per] == (f"{phones * 2 // 60}/second", phones * 2 * 5 // 4)


def test_standard_looks_at_sip_only() -> None:
    assert LIMIT_PRESETS[STANDARD].ssh is None
