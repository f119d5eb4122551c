# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each host follows its own variables (inventory/hosts.yml), and its group's where it has none."""

from __future__ import annotations

from typing import Any

import pytest

PHONE = "Yealink SIP-T46U 108.86.0.90"
SCANNER = "friendly-scanner"


@pytest.fixture
def name(host: Any) -> str:
    """The host's name in the inventory."""
    return str(host.ansible.get_variables()["inventory_hostname"])


@pytest.mark.parametrize(("user_agent", "stopped_at"), [("acme-auditor", "pbx16"), ("branch-auditor", "branch16")])
def test_user_agent_is_stopped_where_it_is_listed(
    neighbours: Any, way: Any, name: str, user_agent: str, stopped_at: str
) -> None:
    caller = neighbours.caller(way)
    caller.ask(user_agent)
    assert caller.silence() if name == stopped_at else caller.answer().startswith("SIP/2.0 ")


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(("port", "open_at"), [(8443, ["pbx16", "branch16"]), (8444, ["branch16"])])
def test_port_is_shut_where_a_host_policy_does_not_open_it(
    neighbours: Any, name: str, family: int, port: int, open_at: list[str]
) -> None:
    """Nobody listens there: where a packet gets through, the host itself says so."""
    assert neighbours.refuses(family, port) == (name in open_at)


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_port_is_guarded_where_it_is_listed(neighbours: Any, udp: Any, name: str, family: int) -> None:
    phone, scanner = (neighbours.caller(udp(family), port=5070) for dummy in range(2))
    phone.ask(PHONE)
    with pytest.raises(ConnectionRefusedError):  # nobody listens, and nobody stops the request
        phone.answer()
    scanner.ask(SCANNER)
    if name == "pbx16":
        assert scanner.silence()
    else:
        with pytest.raises(ConnectionRefusedError):
            scanner.answer()
