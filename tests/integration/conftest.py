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

# Where most of the time goes, the longest first: whoever begins with them is not left alone with one at the end.
_LONG = (
    "test_convergence.py",
    "test_bans.py",
    "test_blocklist_boot.py",
    "test_coexistence.py",
    "test_persistence.py",
    "test_blocklist.py",
    "test_switch_back.py",
    "test_switch.py",
    "test_known.py",
    "test_switch_exact.py",
    "test_blocklist_feed.py",
    "test_probe.py",
    "test_host_policy.py",
    "test_options.py",
    "test_repair.py",
    "test_gate_tls.py",
    "test_signatures.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first (``--no-loadscope-reorder`` keeps xdist from sorting them by their numbers of tests)."""
    rank = {name: number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


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
