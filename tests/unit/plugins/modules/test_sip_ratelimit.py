# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.sipguard.pbx.plugins.modules import sip_ratelimit
from tests.unit.plugins.hosts import BareHost

REGISTER = {"method": "REGISTER", "rate": "12/minute"}

# An option, its value, and what the message has to say of it: the option, the value and what would be right.
BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({"limits": [{**REGISTER, "rate": "12"}]}, "limits.rate", "'12'", "such as 12/minute, would be right"),
    ({"limits": [{**REGISTER, "burst": 0}]}, "limits.burst", "0", "1 to 8640 packets would be right for 12/minute"),
    ({"limits": [{**REGISTER, "method": "REGISTRATE"}]}, "limits.method", "'REGISTRATE'", "PUBLISH, or any"),
    ({"limits": [{**REGISTER, "engine": "recent", "burst": 5}]}, "limits.burst", "5", "use engine hashlimit"),
    ({"presets": ["strict"]}, "presets", "'strict'", "one of standard, hostfirewall, dos-filter would be right"),
    ({"ssh": {"rate": "1/s", "ports": ["5060"]}}, "ssh.ports", "['5060']", "SSH and SIP (option ports) on different ports"),
    ({"never": ["192.0.2.1/24"]}, "never", "'192.0.2.1/24'", "192.0.2.0/24 would be right"),
    ({"ports": ["70000"]}, "ports", "'70000'", "a port from 1 to 65535"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "option", "value", "right"), BAD, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
def test_bad_option_fails_before_the_host_is_touched(
    host: BareHost, options: dict[str, Any], option: str, value: str, right: str, check: bool
) -> None:
    result = host.run_module("sip_ratelimit", options, check=check)
    assert result["failed"] is True
    assert result["msg"].startswith(f"{option}: {value} ")
    assert right in result["msg"]
    assert (host.read, host.refused) == ([], [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limits": [{"rate": "1/s"}]}, ["limits", "method"]),
        ({"limits": [{"method": "any"}]}, ["limits", "rate"]),
        ({"limits": [{**REGISTER, "ratee": "1/s"}]}, ["limits", "ratee"]),
        ({"limits": [{**REGISTER, "engine": "limit"}]}, ["engine", "hashlimit, recent", "limit"]),
        ({"limits": [{**REGISTER, "per": "port"}]}, ["per", "source, source_net", "port"]),
        ({"limits": [{**REGISTER, "ban_for": "an hour"}]}, ["ban_for", "an hour", "int"]),
        ({"ssh": {}}, ["ssh", "rate"]),
        ({"ssh": {"rate": "1/s", "port": 22}}, ["ssh", "port"]),
    ],
    ids=str,
)
def test_option_that_ansible_refuses_is_named(host: BareHost, options: dict[str, Any], words: list[str]) -> None:
    result = host.run_module("sip_ratelimit", options)
    assert result["failed"] is True
    assert [word for word in words if word not in result["msg"]] == []
    assert (host.read, host.refused) == ([], [])


def test_check_mode_reports_and_only_reads(host: BareHost) -> None:
    result = host.run_module(
        "sip_ratelimit",
        {
            "presets": ["dos-filter"],
            "limits": [{**REGISTER, "ban_for": 60}, {"method": "invite", "rate": "20/h", "engine": "recent", "per": "source_net"}],
            "ssh": {"rate": "60/min", "ports": [2222]},
        },
        check=True,
    )  # fmt: skip
    assert yaml.safe_load(sip_ratelimit.RETURN).keys() <= result.keys()
    common = {"engine": "hashlimit", "per": "source", "ban_for": 0}
    assert result["limits"] == [
        {**common, "method": "any", "rate": "5/second", "burst": 30, "origin": "dos-filter"},
        {**common, "method": "REGISTER", "rate": "12/minute", "burst": 12, "ban_for": 60, "origin": "limits"},
        {
            "method": "INVITE",
            "rate": "20/hour",
            "burst": None,
            "engine": "recent",
            "per": "source_net",
            "ban_for": 0,
            "origin": "limits",
        },
    ]
    assert result["ssh"] == [{"rate": "60/minute", "burst": 60, "origin": "ssh", "ports": ["2222"]}]
    assert result["changed"] is True
    assert result["persisted"] is False
    after = result["diff"]["after"]
    assert result["rules"] == {
        family: part.count("\n-A ") for family, part in zip(("ipv4", "ipv6"), after.split("# ipv6\n"), strict=True)
    }
    assert '--comment "SSH over 60/minute"' in after
    assert any("engine recent keeps" in str(warning) for warning in result["warnings"])
    assert host.read[:3] == ["iptables-nft-save ", "ip6tables-nft-save ", "ipset list -terse"]
    assert host.refused == []


def test_nothing_said_is_the_standard(host: BareHost) -> None:
    said: list[dict[str, Any]] = [{}, {"presets": ["standard"]}, {"presets": [], "limits": []}]
    for options in said:
        result = host.run_module("sip_ratelimit", options, check=True)
        assert {limit["origin"] for limit in result["limits"]} == {"standard"}
        assert result["ssh"] == []


@pytest.mark.parametrize(
    "options",
    [{"presets": ["hostfirewall"]}, *(options for options, option, *dummy in BAD if option != "ports")],
    ids=str,
)
def test_absent_where_nothing_is_changes_nothing(host: BareHost, options: dict[str, Any]) -> None:
    """And what it would have had to do is not looked at."""
    result = host.run_module("sip_ratelimit", {"state": "absent", **options}, check=True)
    assert (result["limits"], result["ssh"]) == ([], [])
    assert (result["changed"], result["rules"], result["persisted"]) == (False, {"ipv4": 0, "ipv6": 0}, True)
    assert result["diff"] == {"before": "", "after": ""}
    assert not any("recent" in str(warning) for warning in result.get("warnings", []))


def test_run_whose_rollback_timer_has_run_out_changes_nothing(host: BareHost) -> None:
    result = host.run_module("sip_ratelimit", {"switch": "no-such-cookie"}, check=True)
    assert result["failed"] is True
    assert "no-such-cookie" in result["msg"]
    assert (host.read, host.refused) == ([], [])
