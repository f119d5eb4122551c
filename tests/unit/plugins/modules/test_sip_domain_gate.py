# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.sipguard.pbx.plugins.modules import sip_domain_gate
from tests.unit.plugins.hosts import BareHost

OURS = {"domains": ["tel.example.com"]}

# An option, its value, and what the message has to say of it: the option, the value and what would be right.
BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({}, "domains", "[]", "the domain of the telephones' addresses, such as tel.example.com, is needed"),
    ({"domains": ["sip:tel.example.com"]}, "domains", "'sip:tel.example.com'", "the domain alone, tel.example.com"),
    ({"domains": ["tel example.com"]}, "domains", "'tel example.com'", "it has a space in it"),
    ({"domains": ["192.0.2.1"]}, "domains", "'192.0.2.1'", "every scanner knows an address"),
    ({**OURS, "methods": ["CALL"]}, "methods", "'CALL'", "a method of SIP would be right: REGISTER, INVITE"),
    ({**OURS, "trunks": ["sip.example.com"]}, "trunks", "'sip.example.com'", "it is a name"),
    ({**OURS, "trunks": ["0.0.0.0/1", "128.0.0.0/1"]}, "trunks", "'0.0.0.0/1'", "together they mean every address"),
    ({**OURS, "never": ["192.0.2.300"]}, "never", "'192.0.2.300'", "an address (192.0.2.7), a network"),
    ({**OURS, "tls_ports": ["0"]}, "tls_ports", "'0'", "a port from 1 to 65535"),
    ({**OURS, "ports": ["0"]}, "ports", "'0'", "a port from 1 to 65535"),
    ({**OURS, "learn_for": -1}, "learn_for", "-1", "0 (off) to 2147483 seconds would be right"),
    (
        {**OURS, "table": "mangle", "action": "reject"},
        "action",
        "'reject'",
        "'drop', or table 'filter', would be right",
    ),
]


@pytest.mark.parametrize(("options", "option", "value", "right"), BAD, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
def test_bad_option_fails_before_the_host_is_touched(
    host: BareHost, options: dict[str, Any], option: str, value: str, right: str, check: bool
) -> None:
    result = host.run_module("sip_domain_gate", options, check=check)
    assert result["failed"] is True
    assert result["msg"].startswith(f"{option}: ")
    assert value in result["msg"]
    assert right in result["msg"]
    assert (host.read, host.refused) == ([], [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls_unreadable": "reject"}, ["tls_unreadable", "accept, drop", "reject"]),
        ({"other_traffic": "learn"}, ["other_traffic", "accept, drop", "learn"]),
        ({"sni": "perhaps"}, ["sni", "perhaps"]),
        ({"domain": "tel.example.com"}, ["domain"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_option_that_ansible_refuses_is_named(host: BareHost, options: dict[str, Any], words: list[str]) -> None:
    result = host.run_module("sip_domain_gate", {**OURS, **options})
    assert result["failed"] is True
    assert [word for word in words if word not in result["msg"]] == []
    assert (host.read, host.refused) == ([], [])


def test_check_mode_reports_and_only_reads(host: BareHost) -> None:
    result = host.run_module("sip_domain_gate", {"domains": ["Tel.Example.COM.", "tel.example.com"]}, check=True)
    documented = yaml.safe_load(sip_domain_gate.RETURN).keys() - {"resolved"}
    assert documented <= result.keys()
    assert result.keys() - documented <= {"invocation", "warnings", "changed", "diff"}
    assert (result["changed"], result["persisted"], result["domains"]) == (True, False, ["tel.example.com"])
    after = result["diff"]["after"]
    assert result["rules"] == {
        family: part.count("\n-A ") for family, part in zip(("ipv4", "ipv6"), after.split("# ipv6\n"), strict=True)
    }
    assert after.count("create sipguard-named") == 2
    assert host.read[:3] == ["iptables-nft-save ", "ip6tables-nft-save ", "ipset list -terse"]
    assert host.refused == []


def test_check_mode_sees_past_packages_that_are_still_to_be_installed(host: BareHost) -> None:
    result = host.run_module("sip_domain_gate", OURS, check=True, commands=False)
    assert (result.get("failed"), result["changed"], result["persisted"]) == (None, True, False)
    assert (host.read, host.refused) == ([], [])


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({}, True),
        ({"trusted_callers": []}, True),
        ({"trusted_callers": ["sip.provider.example"]}, False),
        ({"trunks": ["203.0.113.7"]}, False),
        ({"trunks": ["203.0.113.7"], "trusted_callers": []}, False),
        ({"mode": "observe"}, False),
        ({"state": "absent"}, False),
    ],
    ids=str,
)
def test_warning_of_a_gate_that_lets_no_provider_call(host: BareHost, options: dict[str, Any], warned: bool) -> None:
    result = host.run_module("sip_domain_gate", {**OURS, **options}, check=True)
    assert (sip_domain_gate.NOBODY_ELSE in str(result.get("warnings")).replace('\\"', '"')) is warned


def test_absent_needs_no_domain_and_changes_nothing_where_nothing_is(host: BareHost) -> None:
    result = host.run_module("sip_domain_gate", {"state": "absent"}, check=True)
    assert (result["changed"], result["rules"], result["domains"]) == (False, {"ipv4": 0, "ipv6": 0}, [])
    assert result["diff"] == {"before": "", "after": ""}
