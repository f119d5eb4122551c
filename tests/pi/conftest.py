# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Pi for all tests, which tell its story in the order in which they stand; figures are printed at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import pi as lab_pi

from .harness import Figures, Site

_FIGURES = Figures()


@pytest.fixture(scope="session")
def figures() -> Figures:
    return _FIGURES


@pytest.fixture(scope="session")
def site(figures: Figures) -> Iterator[Site]:
    """A Pi that has just been switched on for the first time."""
    image = lab_pi.build()
    with tempfile.TemporaryDirectory(prefix="sgpi") as folder, lab_pi.network() as tap:
        machine = lab_pi.Pi(image, Path(folder), tap)
        try:
            with figures.step("first boot"):
                machine.switch_on()
            yield Site(machine, Path(folder), figures)
        finally:
            machine.switch_off()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("the Pi")
    for line in _FIGURES.table():
        terminalreporter.line(line)
