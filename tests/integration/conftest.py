# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests: a laboratory of namespaces per test, for each backend, family and transport."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.integration.harness.lab import Lab
from tests.integration.harness.netns import remove_stale


@pytest.fixture(scope="session", autouse=True)
def root() -> None:
    """Namespaces of earlier runs that crashed are gone; and we may make some."""
    assert os.geteuid() == 0, "the integration tests make network namespaces: run them as root"
    remove_stale()


@pytest.fixture(scope="session", params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest) -> str:
    """The iptables backend."""
    return str(request.param)


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    """The IP version."""
    return int(request.param)


@pytest.fixture(params=["udp", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """The transport."""
    return str(request.param)


@pytest.fixture
def lab(backend: str) -> Iterator[Lab]:
    """A laboratory nobody else uses."""
    made = Lab(backend)
    yield made
    made.close()


@pytest.fixture
def nft_lab() -> Iterator[Lab]:
    """A laboratory for what does not depend on the backend."""
    made = Lab("nft")
    yield made
    made.close()


@pytest.fixture
def legacy_lab() -> Iterator[Lab]:
    """A laboratory for what only iptables-legacy has."""
    made = Lab("legacy")
    yield made
    made.close()
