# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before sipguard comes: somebody else's rules are there, none of ours, and all of it is noted for later comparison."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("part", ["rules4", "rules6", "sets"])
def test_host_has_rules_of_others_and_none_of_ours(state: Any, traits: dict[str, Any], part: str) -> None:
    text = getattr(state, part)
    assert traits["lab_others"].get(part, "") in text
    assert "sipguard" not in text.lower()


def test_state_is_noted(state: Any, noted: Path) -> None:
    noted.write_text(json.dumps(asdict(state)), encoding="utf-8")
    assert "sipguard" not in state.files
