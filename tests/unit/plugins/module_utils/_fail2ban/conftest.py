# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host in memory, and nothing of the real one in its place."""

from __future__ import annotations

from tests.unit.plugins.module_utils._netfilter.memory import host, marks

__all__ = ["host", "marks"]
