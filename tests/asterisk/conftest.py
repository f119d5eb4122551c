# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One container of each Asterisk for all tests; every test finds it stopped, with a bare configuration and without logs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .harness import IMAGES, Pbx, remove_stale


@pytest.fixture(scope="session")
def clean_machine() -> None:
    """Containers of earlier runs that crashed are gone; and we may make some."""
    assert os.geteuid() == 0, "the tests with Asterisk enter the namespaces of containers: run them as root"
    remove_stale()


@pytest.fixture(scope="session")
def container16(clean_machine: None) -> Iterator[Pbx]:
    """Asterisk 16, for the whole run."""
    with Pbx("16") as made:
        yield made


@pytest.fixture(scope="session")
def container22(clean_machine: None) -> Iterator[Pbx]:
    """Asterisk 22, for the whole run."""
    with Pbx("22") as made:
        yield made


@pytest.fixture
def pbx16(container16: Pbx) -> Pbx:
    """Asterisk 16, fresh: chan_sip and PJSIP, whichever is configured."""
    container16.reset()
    return container16


@pytest.fixture
def pbx22(container22: Pbx) -> Pbx:
    """Asterisk 22, fresh: PJSIP."""
    container22.reset()
    return container22


@pytest.fixture(params=list(IMAGES))
def pbx(request: pytest.FixtureRequest) -> Pbx:
    """Each Asterisk, fresh."""
    made: Pbx = request.getfixturevalue(f"container{request.param}")
    made.reset()
    return made
