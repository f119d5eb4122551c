# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.sipguard.pbx.plugins.modules import sip_trust
from tests.unit.plugins.hosts import BareHost


@pytest.mark.parametrize(
    ("options", "option", "value", "right"),
    [
        ({"sources": ["192.0.2.300"]}, "sources", "'192.0.2.300'", "an address (192.0.2.7), a network"),
        ({"sources": ["192.0.2.7", "192.0.2.1/24"]}, "sources", "'192.0.2.1/24'", "192.0.2.0/24 would be right"),
        ({"sources": ["0.0.0.0/0"]}, "sources", "'0.0.0.0/0'", "it means every address there is"),
        ({"sources": ["::/0"]}, "sources", "'::/0'", "it means every address there is"),
        (
            {"sources": ["192.0.2.20-192.0.2.10"]},
            "sources",
            "'192.0.2.20-192.0.2.10'",
            "or a range (192.0.2.10-192.0.2.20)",
        ),
        ({"sources": ["localhost"]}, "sources", "'localhost'", "it is a name"),
        ({"sources": [""]}, "sources", "''", "an address (192.0.2.7)"),
        (
            {"sources": ["192.0.2.0/24"], "must_include": ["198.51.100.7"]},
            "sources",
            "['192.0.2.0/24']",
            "198.51.100.7, from which this host is administered, has to be among them",
        ),
        ({"sources": ["0.0.0.0/1", "128.0.0.0/1"]}, "sources", "'128.0.0.0/1'", "together they mean every address"),
        ({"sources": ["%eth0"]}, "sources", "'%eth0'", "the address without its zone would be right"),
        ({"sources": ["::ffff:1.2.3.4"]}, "sources", "'::ffff:1.2.3.4'", "its IPv4 form would be right"),
        ({"sources": ["adac.de"]}, "sources", "'adac.de'", "it is a name"),
        ({"must_include": ["localhost"]}, "must_include", "'localhost'", "it is a name"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
def test_bad_option_fails_before_the_host_is_touched(
    host: BareHost, options: dict[str, Any], option: str, value: str, right: str, check: bool
) -> None:
    result = host.run_module("sip_trust", options, check=check)
    assert result["failed"] is True
    assert result["msg"].startswith(f"{option}: ")
    assert value in result["msg"]
    assert right in result["msg"]
    assert (host.read, host.refused) == ([], [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "gone"}, ["state", "present, absent", "gone"]),
        ({"families": ["ipv5"]}, ["families", "ipv4, ipv6", "ipv5"]),
        ({"source": ["192.0.2.7"]}, ["source"]),
    ],
)
def test_option_that_ansible_refuses_is_named(host: BareHost, options: dict[str, Any], words: list[str]) -> None:
    result = host.run_module("sip_trust", options)
    assert result["failed"] is True
    assert [word for word in words if word not in result["msg"]] == []
    assert (host.read, host.refused) == ([], [])


def test_check_mode_reports_and_only_reads(host: BareHost) -> None:
    result = host.run_module(
        "sip_trust",
        {"sources": ["192.0.2.128/25", "192.0.2.0/25", "2001:db8::7"], "must_include": ["192.0.2.9"]},
        check=True,
    )
    documented = yaml.safe_load(sip_trust.RETURN).keys()
    assert result.keys() - {"invocation", "warnings"} == (documented - {"resolved"}) | {"changed", "diff"}
    assert result["trusted"] == {"ipv4": ["192.0.2.0/24"], "ipv6": ["2001:db8::7"]}
    assert (result["changed"], result["persisted"]) == (True, False)
    assert result["diff"] == {"before": "", "after": "sipguard-trusted4 192.0.2.0/24\nsipguard-trusted6 2001:db8::7\n"}
    assert (host.read, host.refused) == (["ipset list -terse"], [])


def test_check_mode_sees_past_packages_that_are_still_to_be_installed(host: BareHost) -> None:
    result = host.run_module("sip_trust", {"sources": ["192.0.2.0/24"]}, check=True, commands=False)
    assert (result.get("failed"), result["changed"], result["persisted"]) == (None, True, False)
    assert result["trusted"] == {"ipv4": ["192.0.2.0/24"], "ipv6": []}
    assert result["diff"] == {"before": "", "after": "sipguard-trusted4 192.0.2.0/24\n"}
    assert (host.read, host.refused) == ([], [])


def test_sources_of_a_family_that_is_not_wanted_are_left_out(host: BareHost) -> None:
    options = {"sources": ["192.0.2.7", "2001:db8::7"], "families": ["ipv6"]}
    assert host.run_module("sip_trust", options, check=True)["trusted"] == {"ipv4": [], "ipv6": ["2001:db8::7"]}


def test_absent_where_nothing_is_changes_nothing(host: BareHost) -> None:
    result = host.run_module("sip_trust", {"state": "absent", "sources": ["192.0.2.7"]}, check=True)
    assert (result["changed"], result["trusted"]) == (False, {"ipv4": [], "ipv6": []})
