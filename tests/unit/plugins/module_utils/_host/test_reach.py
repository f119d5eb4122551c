# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.emergency import Settings, closed
from ansible_collections.sipguard.pbx.plugins.module_utils._host.reach import Reach, reach
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import host_policy
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import CHAIN_HOST, IPV4, IPV6, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.options import BASE_ARGUMENTS, read_common
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Rule, parse_rule

OPTIONS: dict[str, Any] = {
    **{name: argument.get("default") for name, argument in BASE_ARGUMENTS.items()},
    "services": [
        {"name": "monitoring", "ports": ["10050", "161"], "protocols": ["udp", "tcp"], "from": ["198.18.7.0/24"]},
        {"name": "tunnel", "protocols": ["gre", "esp"], "from": ["trunks"]},
    ],
    "lan": ["192.168.10.0/24", "2001:db8:10::/64"],
    "admins": ["192.0.2.7"],
    "trunks": ["203.0.113.0/24"],
    "phones": [],
    "lists": {},
    "protect": ["198.51.100.9"],
    "ssh_ports": ["2222"],
    "require_ssh": True,
}
PUBLIC = "sip, sips, rtp (udp 5060, 10000-20000; tcp 5060-5061)"


def policy(family: Family, **options: Any) -> dict[str, tuple[Rule, ...]]:
    wanted = {**OPTIONS, **options}
    common = read_common(wanted)
    return dict(host_policy.member(common, host_policy.read_options(wanted, common), family).chains)


def asked(chains: Mapping[str, tuple[Rule, ...]], address: str, *sets: str) -> Reach:
    return reach(chains, ipaddress.ip_address(address), lambda name: name in sets)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("198.18.9.9", PUBLIC),
        ("192.168.10.40", "sip, sips, rtp, http, https, ntp (udp 123, 5060, 10000-20000; tcp 80, 123, 443, 2222, 5060-5061), ping"),
        ("192.0.2.7", "sip, sips, rtp, http, https (udp 5060, 10000-20000; tcp 80, 443, 2222, 5060-5061), ping"),
        ("203.0.113.9", "sip, sips, rtp, iax2 (udp 4569, 5060, 10000-20000; tcp 5060-5061), ping, gre, esp"),
        ("198.51.100.9", "sip, sips, rtp (udp 5060, 10000-20000; tcp 2222, 5060-5061)"),
        ("198.18.7.9", "sip, sips, rtp (udp 161, 5060, 10000-20000; tcp 161, 5060-5061, 10050)"),
    ],
)  # fmt: skip
def test_host_policy_lets_a_source_reach(address: str, said: str) -> None:
    found = asked(policy(IPV4), address)
    assert (found.describe(), found.stopped) == (said, True)


def test_host_policy_of_the_other_family() -> None:
    assert asked(policy(IPV6), "2001:db8:10::9").describe().endswith("), ping")
    assert asked(policy(IPV6), "2001:db8:11::9").describe() == PUBLIC


def test_nothing_is_stopped_in_observe_mode() -> None:
    found = asked(policy(IPV4, mode="observe"), "198.18.9.9")
    assert found.stopped is False
    assert found.result()["tcp"] == ["0:65535"]


def test_source_that_reaches_nothing() -> None:
    services = [{"name": name, "from": ["lan"]} for name in ("sip", "sips", "rtp")]
    found = asked(policy(IPV4, services=services), "198.18.9.9")
    assert (found.describe(), found.allowed, found.stopped) == ("", {}, True)


@pytest.mark.parametrize("host_policy_too", [True, False])
def test_rules_of_an_emergency_are_read_as_well(host_policy_too: bool) -> None:
    settings = Settings(ports=("5060:5061",), ssh_ports=("22",), host_policy=host_policy_too)
    chains = dict(closed(settings, IPV4).members[CHAIN_HOST].chains)
    stranger, friend = asked(chains, "198.18.9.9"), asked(chains, "198.18.9.9", "sipguard-trusted4")
    if host_policy_too:
        assert stranger.describe() == "ssh (tcp 22)"
        assert friend.describe() == "sip, sips, ssh (udp 5060-5061; tcp 22, 5060-5061)"
    else:
        assert stranger.result()["udp"] == ["0:5059", "5062:65535"]
        assert (friend.stopped, friend.result()["udp"]) == (False, ["0:65535"])


@pytest.mark.parametrize(
    ("rule", "inside"),
    [
        ("-s 198.18.0.0/16", True),
        ("-s 198.19.0.0/16", False),
        ("! -s 198.19.0.0/16", True),
        ("-m set --match-set known src", True),
        ("-m set --match-set other src", False),
        ("-m set ! --match-set other src", True),
        ("-m iprange --src-range 198.18.9.1-198.18.9.9", True),
        ("-m iprange --src-range 198.18.9.1-198.18.9.8", False),
        ("-m iprange ! --src-range 198.18.9.1-198.18.9.8", True),
        ("-i lo", False),
        ("-m conntrack --ctstate ESTABLISHED --ctdir REPLY", False),
    ],
)
def test_rule_somebody_has_added_is_asked_for_the_source(rule: str, inside: bool) -> None:
    chains = {CHAIN_HOST: (parse_rule(f"-A {CHAIN_HOST} {rule} -j RETURN"), parse_rule(f"-A {CHAIN_HOST} -j DROP"))}
    found = asked(chains, "198.18.9.9", "known")
    assert (found.allowed.get("udp") == [(0, 65535)]) is inside


def test_chain_that_leads_to_itself_comes_to_an_end() -> None:
    chains = {CHAIN_HOST: (parse_rule(f"-A {CHAIN_HOST} -g {CHAIN_HOST}"),)}
    assert asked(chains, "198.18.9.9").stopped is False
