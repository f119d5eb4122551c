# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.exceptions import Exceptions, Exempt
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

EXEMPT = [
    Exempt(ipaddress.ip_address("203.0.113.7"), 1777888530, 0, "ticket 4711: the \\ 'branch' ü"),
    Exempt(ipaddress.ip_address("2001:db8::7"), 1777888530, 1777892130, ""),
]


def test_exceptions_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    exceptions = Exceptions(str(folder))
    assert exceptions.read() == {}
    exceptions.write(EXEMPT)
    assert list(exceptions.read(now=1777888530).values()) == EXEMPT
    assert (folder / "exceptions").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    exceptions.write(EXEMPT)
    assert [path.name for path in folder.iterdir()] == ["exceptions"]
    exceptions.write(())
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("now", "count"), [(1777892129, 2), (1777892130, 1), (9999999999, 1)])
def test_exception_ends_by_itself(tmp_path: Path, now: int, count: int) -> None:
    Exceptions(str(tmp_path)).write(EXEMPT)
    assert len(Exceptions(str(tmp_path)).read(now)) == count


@pytest.mark.parametrize(
    ("exempt", "text"),
    [
        (EXEMPT[0], "excepted by sipguard unban since 2026-05-04: ticket 4711: the \\ 'branch' ü"),
        (EXEMPT[1], "excepted by sipguard unban since 2026-05-04 until 2026-05-04"),
    ],
)
def test_exception_is_told_to_people(exempt: Exempt, text: str) -> None:
    assert exempt.describe() == text


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "garbage\n",
        lambda text: text[:-2],
        lambda text: text.replace("\t", " ", 1),
        lambda text: text.replace("203.0.113.7", "203.0.113.256"),
        lambda text: text.replace("\t0\t", "\tsoon\t"),
    ],
)
def test_damaged_file_is_an_error(tmp_path: Path, damage: Callable[[str], str]) -> None:
    Exceptions(str(tmp_path)).write(EXEMPT)
    file = tmp_path / "exceptions"
    file.write_text(damage(file.read_text()))
    with pytest.raises(SipguardError, match=r"exceptions is damaged: .*; remove it, and unban again"):
        Exceptions(str(tmp_path)).read()


def test_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(SipguardError, match="cannot write"):
        Exceptions(str(tmp_path / "data")).write(EXEMPT)
