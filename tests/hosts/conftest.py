# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts for all tests, who controls them, and what they hold; see ``harness.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Controller, LabHost, lab


@pytest.fixture(scope="session")
def fleet() -> Iterator[list[LabHost]]:
    """Plain Debian hosts under systemd, with iptables and ipset and without any rule."""
    lab("down")
    yield [LabHost(name, "debian12") for name in ("one", "two")]
    lab("down")


@pytest.fixture
def controller(fleet: list[LabHost], tmp_path: Path) -> Controller:
    """A controller, whose fleet has been hardened and whose change of it is confirmed."""
    made = Controller(tmp_path, fleet)
    done = made.harden()
    assert done.returncode == 0, done.stdout
    return made
