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
    done = run_task(host, "sip_trust", options)
    assert "=> " in done.stdout, done.stderr
    state, dummy, text = done.stdout.partition("=> ")
    result: dict[str, Any] = {**json.loads(text), "failed": "FAILED" in state}
    assert result["failed"] is (done.returncode != 0)
    return result, " ".join(done.stderr.split())


def test_names_become_addresses_on_the_controller(host: BareHost) -> None:
    result, said = run(host, sources=["192.0.2.0/24", "localhost"])
    assert result["resolved"].keys() == {"localhost"}
    addresses = result["resolved"]["localhost"]
    assert "127.0.0.1" in addresses
    assert result["failed"] is False
    assert sorted([*result["trusted"]["ipv4"], *result["trusted"]["ipv6"]]) == sorted(["192.0.2.0/24", *addresses])
    assert f"sip_trust: localhost is trusted as {', '.join(addresses)}; run again when its addresses change" in said
    assert (host.read, host.refused) == (["ipset list -terse"], [])


def test_name_that_cannot_be_resolved_fails_before_the_host_is_touched(host: BareHost) -> None:
    result, _said = run(host, sources=["192.0.2.7", "x.invalid"])
    assert result["failed"] is True
    assert result["msg"].startswith("sources: 'x.invalid' cannot be used; the controller cannot resolve it (")
    assert result["msg"].endswith("an address would be right")
    assert (host.read, host.refused) == ([], [])


@pytest.mark.parametrize(
    ("sources", "trusted"),
    [
        (["192.0.2.10-192.0.2.11", "2001:db8::/32"], {"ipv4": ["192.0.2.10/31"], "ipv6": ["2001:db8::/32"]}),
        ([], {"ipv4": [], "ipv6": []}),
        (None, {"ipv4": [], "ipv6": []}),
        ("192.0.2.7, 2001:db8::7", {"ipv4": ["192.0.2.7"], "ipv6": ["2001:db8::7"]}),
    ],
)
def test_sources_without_names_reach_the_module_as_they_are(
    host: BareHost, sources: list[str] | str | None, trusted: dict[str, list[str]]
) -> None:
    result, said = run(host, sources=sources)
    assert (result["failed"], result["trusted"]) == (False, trusted)
    assert "resolved" not in result
    assert "sip_trust:" not in said


def test_names_in_a_string_become_addresses_too(host: BareHost) -> None:
    result, dummy = run(host, sources="192.0.2.7, localhost")
    assert result["failed"] is False
    assert result["resolved"].keys() == {"localhost"}
    assert {"192.0.2.7", "127.0.0.1"} <= set(result["trusted"]["ipv4"])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([{"name": "sip.example"}], "sources: {'name': 'sip.example'} cannot be used; an address, a network, a range"),
        (["192.0.2.7", None], "sources: None cannot be used; an address, a network, a range or a name, as text"),
        ({"name": "sip.example"}, "sources: {'name': 'sip.example'} cannot be used; a list of addresses"),
    ],
    ids=str,
)
def test_sources_that_are_no_text_fail_before_the_host_is_touched(
    host: BareHost, sources: object, message: str
) -> None:
    result, dummy = run(host, sources=sources)
    assert result["failed"] is True
    assert result["msg"].startswith(message)
    assert (host.read, host.refused) == ([], [])


def test_mistake_in_an_address_is_left_to_the_module(host: BareHost) -> None:
    result, _said = run(host, sources=["192.0.2.300"])
    assert result["failed"] is True
    assert result["msg"].startswith("sources: '192.0.2.300' cannot be used; an address (192.0.2.7), a network")
    assert (host.read, host.refused) == ([], [])
