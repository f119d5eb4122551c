# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that stand in for this machine's kernel, so that no test depends on it, or changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import backend, engine, lock, netlink, persist
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

__all__ = ["Marks", "host", "marks"]


class Marks:
    """The kernel's connection marks: what was cleared, as (IP version, mask, value). ``refuse`` makes the kernel say no."""

    def __init__(self) -> None:
        self.cleared: list[tuple[int, int, int | None]] = []
        self.refuse = False

    def clear(self, version: int, mask: int, value: int | None = None) -> int:
        if self.refuse:
            raise PermissionError(1, "Operation not permitted")
        self.cleared.append((version, mask, value))
        return 0


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> Marks:
    found = Marks()
    monkeypatch.setattr(netlink, "clear_marks", found.clear)
    return found


@pytest.fixture
def host(marks: Marks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHost:
    """A host with both families, both backends and the boot unit, whose kernel knows every extension and holds no rules."""
    monkeypatch.setattr(netlink, "has_extension", lambda name, is_target, version: True)
    monkeypatch.setattr(netlink, "nft_rule_tables", lambda version: set())
    monkeypatch.setattr(netlink, "nft_rule_chains", lambda version: set())
    monkeypatch.setattr(engine, "has_family", lambda family: True)
    names = tmp_path / "proc-tables"
    names.write_text("filter\n", encoding="ascii")
    monkeypatch.setattr(backend, "_LEGACY_TABLES", {4: str(names), 6: str(names)})
    unit = tmp_path / "sipguard-restore.service"
    unit.touch()
    monkeypatch.setattr(persist, "BOOT_UNIT", str(unit))
    monkeypatch.setattr(lock, "LOCK_FILE", str(tmp_path / "sipguard.lock"))
    return FakeHost()
