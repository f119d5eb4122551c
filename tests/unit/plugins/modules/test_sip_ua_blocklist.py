# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.sipguard.pbx.plugins.modules import sip_ua_blocklist
from tests.unit.plugins.hosts import BareHost

# An option, its value, and what the message has to say of it: the option, the value and what would be right.
BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({"ports": ["70000"]}, "ports", "'70000'", "a port from 1 to 65535, or a range such as 5060:5061, would be right"),
    ({"ports": ["5061:5060"]}, "ports", "'5061:5060'", "a range such as 5060:5061, would be right"),
    ({"ports": []}, "ports", "[]", "at least one entry is needed"),
    ({"protocols": []}, "protocols", "[]", "at least one entry is needed"),
    ({"interfaces": ["eth0/1"]}, "interfaces", "'eth0/1'", "such as eth0 or wg+, would be right"),
    ({"interfaces": ["-x"]}, "interfaces", "'-x'", "such as eth0 or wg+, would be right"),
    ({"never": ["0.0.0.0/1", "128.0.0.0/1"]}, "never", "'0.0.0.0/1'", "together they mean every address there is"),
    ({"mark_mask": "0x5"}, "mark_mask", "'0x5'", "such as 0x0c000000, would be right"),
    ({"lock_timeout": 0}, "lock_timeout", "0", "1 to 3600 seconds would be right"),
    ({"learn_for": 2147484}, "learn_for", "2147484", "0 (off) to 2147483 seconds would be right"),
    ({"table": "mangle", "action": "reject"}, "action", "'reject'", "'drop', or table 'filter', would be right"),
    ({"presets": ["scaners"]}, "presets", "'scaners'", "one of scanners, aggressive, "),
    ({"user_agents": ["-"]}, "user_agents", "'-'", "match: exact"),
    ({"user_agents": ["x" * 129]}, "user_agents", "'" + "x" * 129 + "'", "the kernel searches for at most 128"),
    ({"payloads": ["x" * 129]}, "payloads", "'" + "x" * 129 + "'", "the kernel searches for at most 128"),
    ({"user_agents": [{"value": "x", "match": "suffix"}]}, "user_agents", "'suffix'", "one of exact, prefix, anywhere"),
    ({"never": ["sip.example.com"]}, "never", "'sip.example.com'", "it is a name; an address (192.0.2.7), a network"),
    ({"never": ["192.0.2.300"]}, "never", "'192.0.2.300'", "an address (192.0.2.7), a network"),
    ({"never": ["192.0.2.1/24"]}, "never", "'192.0.2.1/24'", "192.0.2.0/24 would be right"),
]


@pytest.mark.parametrize(("options", "option", "value", "right"), BAD, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
def test_bad_option_fails_before_the_host_is_touched(
    host: BareHost, options: dict[str, Any], option: str, value: str, right: str, check: bool
) -> None:
    result = host.run_module("sip_ua_blocklist", options, check=check)
    assert result["failed"] is True
    assert result["msg"].startswith(f"{option}: ")
    assert value in result["msg"]
    assert right in result["msg"]
    assert (host.read, host.refused) == ([], [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"table": "nat"}, ["table", "filter, mangle", "nat"]),
        ({"mode": "watch"}, ["mode", "enforce, observe", "watch"]),
        ({"families": ["ipv5"]}, ["families", "ipv4, ipv6", "ipv5"]),
        ({"protocols": ["sctp"]}, ["protocols", "udp, tcp", "sctp"]),
        ({"action": "accept"}, ["action", "drop, reject", "accept"]),
        ({"learn_for": "an hour"}, ["learn_for", "an hour", "int"]),
        ({"no_such_option": 1}, ["no_such_option"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_option_that_ansible_refuses_is_named(host: BareHost, options: dict[str, Any], words: list[str]) -> None:
    result = host.run_module("sip_ua_blocklist", options)
    assert result["failed"] is True
    assert [word for word in words if word not in result["msg"]] == []
    assert (host.read, host.refused) == ([], [])


def test_check_mode_reports_and_only_reads(host: BareHost) -> None:
    result = host.run_module(
        "sip_ua_blocklist",
        {
            "presets": ["hostfirewall"],
            "user_agents": ["VaxSIP", {"value": "-", "match": "exact", "note": "one's own log"}],
            "payloads": ["sip:nm@nm"],
            "exclude": ["no such entry"],
        },
        check=True,
    )
    documented = yaml.safe_load(sip_ua_blocklist.RETURN).keys()
    assert result.keys() - {"invocation", "warnings"} == documented | {"changed", "diff"}
    assert result["changed"] is True
    assert result["patterns"] == [
        {"value": "friendly-scanner", "match": "prefix", "origin": "hostfirewall"},
        {"value": "VaxSIP", "match": "prefix", "origin": "user_agents"},
        {"value": "-", "match": "exact", "origin": "user_agents"},
        {"value": "sip:nm@nm", "match": "payload", "origin": "payloads"},
    ]
    assert result["covered"] == {"User-Agent: VaxSIPUserAgent": "VaxSIP"}
    assert result["refused"] == {}
    assert result["persisted"] is False
    assert (
        result["diff"]["before"].replace("# next boot: rules.v4: outdated\n# next boot: rules.v6: outdated\n", "") == ""
    )
    after = result["diff"]["after"]
    assert result["rules"] == {
        family: part.count("\n-A ") for family, part in zip(("ipv4", "ipv6"), after.split("# ipv6\n"), strict=True)
    }
    assert '--comment "exact -"' in after
    assert host.read[:3] == ["iptables-nft-save ", "ip6tables-nft-save ", "ipset list -terse"]
    assert host.refused == []


def test_check_mode_sees_past_packages_that_are_still_to_be_installed(host: BareHost) -> None:
    result = host.run_module("sip_ua_blocklist", {"presets": ["scanners"]}, check=True, commands=False)
    assert (result.get("failed"), result["changed"], result["persisted"]) == (None, True, False)
    assert all(result["rules"].values())
    assert "-A SIPGUARD-UA-HEADER " in result["diff"]["after"]
    assert (host.read, host.refused) == ([], [])


def test_real_run_without_packages_says_which_is_missing(host: BareHost) -> None:
    result = host.run_module("sip_ua_blocklist", {}, commands=False)
    assert result["failed"] is True
    assert "install the package 'iptables'" in result["msg"]


def test_refused_entries_of_a_preset_are_reported(host: BareHost) -> None:
    result = host.run_module("sip_ua_blocklist", {"presets": ["elektronikbasteln"]}, check=True)
    values = {pattern["value"] for pattern in result["patterns"]}
    assert result["refused"]
    assert all(isinstance(why, str) and why for why in result["refused"].values())
    assert values
    assert not values & result["refused"].keys()
    assert {pattern["origin"] for pattern in result["patterns"]} == {"elektronikbasteln"}


def test_absent_where_nothing_is_changes_nothing(host: BareHost) -> None:
    result = host.run_module("sip_ua_blocklist", {"state": "absent"}, check=True)
    assert (result["changed"], result["rules"], result["persisted"]) == (False, {"ipv4": 0, "ipv6": 0}, True)
    assert result["diff"] == {"before": "", "after": ""}


def test_host_that_refuses_is_named(host: BareHost) -> None:
    (host.root / "bin" / "ipset").write_text("#!/bin/sh\necho 'ipset v7.17: Kernel error received: no' >&2\nexit 1\n")
    result = host.run_module("sip_ua_blocklist", {}, check=True)
    assert result["msg"] == "ipset failed: ipset v7.17: Kernel error received: no"
