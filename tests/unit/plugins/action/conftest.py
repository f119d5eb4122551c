# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin runs in a real Ansible, its module on a host of a few commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.plugins.hosts import BareHost, bare_host


@pytest.fixture
def host(tmp_path: Path) -> BareHost:
    return bare_host(tmp_path)
