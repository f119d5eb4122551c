# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's limits are raised while a fleet is up, and given back afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import fleet, limits
from lab.paths import LabError

INSTANCES, WATCHES = limits.WANTED


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    """Where the limits are, with the kernel's own values, and where it is written down what they were."""
    for key, value in ((INSTANCES, 128), (WATCHES, 700000)):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_text(f"{value}\n")
    return tmp_path, tmp_path / "held"


def values(sysctl: Path) -> tuple[int, int]:
    return int((sysctl / INSTANCES).read_text()), int((sysctl / WATCHES).read_text())


def test_only_what_is_too_low_is_raised_and_given_back(paths: tuple[Path, Path]) -> None:
    limits.raise_for("one", *paths)
    assert values(paths[0]) == (limits.WANTED[INSTANCES], 700000)
    limits.raise_for("one", *paths)
    limits.release("one", *paths)
    assert values(paths[0]) == (128, 700000)
    assert not paths[1].exists()


def test_limits_stay_while_another_fleet_needs_them(paths: tuple[Path, Path]) -> None:
    limits.raise_for("one", *paths)
    # They are high enough for the second, which must not lose them with the first.
    limits.raise_for("two", *paths)
    limits.release("one", *paths)
    assert values(paths[0])[0] == limits.WANTED[INSTANCES]
    limits.release("two", *paths)
    assert values(paths[0]) == (128, 700000)


def test_limits_of_somebody_else_stay(paths: tuple[Path, Path]) -> None:
    limits.raise_for("one", *paths)
    (paths[0] / INSTANCES).write_text("20000\n")
    limits.release("one", *paths)
    assert values(paths[0])[0] == 20000


def test_a_machine_with_high_limits_of_its_own_is_left_alone(paths: tuple[Path, Path]) -> None:
    (paths[0] / INSTANCES).write_text("9000\n")
    limits.raise_for("one", *paths)
    assert not paths[1].exists()
    limits.release("one", *paths)
    assert values(paths[0]) == (9000, 700000)


def test_limits_that_cannot_be_set_are_an_error_with_the_remedy(paths: tuple[Path, Path]) -> None:
    with pytest.raises(LabError, match=r"sysctl -w fs\.inotify\.max_user_instances=8192"):
        limits.raise_for("one", paths[0], paths[0] / INSTANCES / "no folder")


@pytest.mark.parametrize("count", [0, -1, fleet.MOST + 1])
def test_a_fleet_of_no_size_is_refused(count: int) -> None:
    with pytest.raises(LabError, match=f"1 to {fleet.MOST} hosts"):
        fleet.hosts(count)


def test_hosts_of_a_fleet_have_names_and_addresses_of_their_own() -> None:
    hosts = fleet.hosts(fleet.MOST)
    assert hosts[0].name == "fleet001"
    assert len({host.name for host in hosts}) == len({host.suffix for host in hosts}) == fleet.MOST
    assert {host.suffix for host in hosts} == set(range(100, 250))
