# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.plugins.hosts import BareHost, run_task


def run(host: BareHost, **options: Any) -> tuple[dict[str, Any], str]:
    """The task's result, ``failed`` always in it, and what Ansible said beside it. A resolver out of reach gets one second."""
    done = run_task(host, "sip_domain_gate", {"domains": ["tel.example.com"], **options})
    assert "=> " in done.stdout, done.stderr
    state, dummy, text = done.stdout.partition("=> ")
    return {**json.loads(text), "failed": "FAILED" in state}, " ".join(done.stderr.split())


def _trunks(result: dict[str, Any], without: dict[str, Any]) -> tuple[int, int]:
    """How many rules each family has more than without any trunk."""
    four, six = (result["rules"][family] - without["rules"][family] for family in ("ipv4", "ipv6"))
    return four, six


def test_names_become_addresses_on_the_controller(host: BareHost) -> None:
    result, said = run(host, trunks=["192.0.2.0/24", "localhost", "localhost"])
    assert (result["failed"], result["resolved"].keys()) == (False, {"localhost"})
    addresses = result["resolved"]["localhost"]
    assert "127.0.0.1" in addresses
    six = sum(":" in address for address in addresses)
    assert _trunks(result, run(host)[0]) == (1 + len(addresses) - six, six)
    assert said.count("sip_domain_gate: localhost needs no domain as " + ", ".join(addresses) + "; run again when") == 1
    assert host.refused == []


def test_trunks_without_names_reach_the_module_as_they_are(host: BareHost) -> None:
    without = run(host)[0]
    for trunks, count in (([], (0, 0)), (None, (0, 0)), ("203.0.113.7, 2001:db8::7,203.0.113.9", (2, 1))):
        result, said = run(host, trunks=trunks)
        assert result["failed"] is False
        assert _trunks(result, without) == count
        assert "resolved" not in result
        assert "needs no domain as" not in said


@pytest.mark.parametrize(
    ("trunks", "message"),
    [
        (["192.0.2.7", "x.invalid"], "trunks: 'x.invalid' cannot be used; the controller cannot resolve it ("),
        (["192.0.2.300"], "trunks: '192.0.2.300' cannot be used; an address (192.0.2.7), a network"),
        ([{"name": "sip.example"}], "trunks: {'name': 'sip.example'} cannot be used; an address, a network, a range"),
        ({"name": "sip.example"}, "trunks: {'name': 'sip.example'} cannot be used; a list of addresses"),
    ],
    ids=str,
)
def test_bad_trunks_fail_before_the_host_is_touched(host: BareHost, trunks: object, message: str) -> None:
    result, dummy = run(host, trunks=trunks)
    assert result["failed"] is True
    assert result["msg"].startswith(message)
    assert (host.read, host.refused) == ([], [])
