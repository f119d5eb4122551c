# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers of the tests with Asterisk, for these tests too."""

from __future__ import annotations

from tests.asterisk.conftest import clean_machine, container16, container22

__all__ = ["clean_machine", "container16", "container22"]
