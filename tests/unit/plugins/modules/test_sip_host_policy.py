# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.plugins.hosts import BareHost

SITE: dict[str, Any] = {"lan": ["192.0.2.0/24", "2001:db8::/64"]}


def services(*entries: Any) -> dict[str, Any]:
    return {**SITE, "services": list(entries)}


# An option, its value, and what the message has to say of it: the option, the value and what would be right.
BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({}, "services[ssh].from", "['admins', 'lan']", "name addresses in admins, lan or protect"),
    (services({"name": "ssh", "from": "nobody"}), "services[ssh].from", "['nobody']", "set require_ssh to false"),
    (services({"name": "web", "from": "lan"}), "services[web].ports", "[]", "needs a port, such as 8088"),
    (services({"name": "web", "ports": ["8088"]}), "services", "'web'", "needs 'from': everyone, nobody, lan"),
    (services({"name": "ssh", "ports": ["70000"]}), "services[ssh].ports", "'70000'", "a port from 1 to 65535"),
    (services({"name": "ssh", "from": "wan"}), "services[ssh].from", "'wan'", "one of everyone, nobody, lan, admins"),
    (services({"name": "ssh", "from": []}), "services[ssh].from", "[]", "nobody closes a service"),
    (services({"name": "ssh", "from": "lan,nobody"}), "services[ssh].from", "['lan', 'nobody']", "nobody stands alone"),
    (services({"name": "ssh", "from": "sip.example.com"}), "services[ssh].from", "'sip.example.com'", "it is a name"),
    (services({"name": "Web"}), "services[].name", "'Web'", "such as web-gui, would be right"),
    (
        {**services({"name": "ssh", "from": "2001:db8::/64"}), "families": ["ipv4"]},
        "services[ssh].from",
        "'2001:db8::/64'",
        "families has ipv4 only",
    ),
    ({"lan": ["192.0.2.1/24"]}, "lan", "'192.0.2.1/24'", "192.0.2.0/24 would be right"),
    ({"lan": ["0.0.0.0/1", "128.0.0.0/1"]}, "lan", "'0.0.0.0/1'", "together they mean every address there is"),
    ({**SITE, "lists": {"lan": ["192.0.2.7"]}}, "lists", "'lan'", "at most 12 small letters"),
    ({**SITE, "lists": {"branch": ["192.0.2.300"]}}, "lists[branch]", "'192.0.2.300'", "an address (192.0.2.7)"),
    ({**SITE, "ssh_ports": ["0"]}, "ssh_ports", "'0'", "a port from 1 to 65535"),
    ({**SITE, "protect": ["::/0"]}, "protect", "'::/0'", "every address there is"),
    ({**SITE, "families": []}, "families", "[]", "at least one entry is needed"),
    ({**SITE, "table": "mangle", "action": "reject"}, "action", "'reject'", "'drop', or table 'filter'"),
    ({**SITE, "mark_mask": "0x5"}, "mark_mask", "'0x5'", "such as 0x0c000000, would be right"),
]


@pytest.mark.parametrize(("options", "option", "value", "right"), BAD, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
def test_bad_option_fails_before_the_host_is_touched(
    host: BareHost, options: dict[str, Any], option: str, value: str, right: str, check: bool
) -> None:
    result = host.run_module("sip_host_policy", options, check=check)
    assert result["failed"] is True
    assert result["msg"].startswith(f"{option}: ")
    assert value in result["msg"]
    assert right in result["msg"]
    assert (host.read, host.refused) == ([], [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (services({"name": "ssh", "form": "lan"}), ["services", "form", "from, name, ports, protocols"]),
        (services({"ports": ["22"]}), ["services", "name"]),
        (services({"name": "x", "protocols": ["sctp"]}), ["protocols", "sctp", "udp, tcp, icmp"]),
        (services("ssh"), ["dictionary requested"]),
        ({**SITE, "lists": ["192.0.2.7"]}, ["lists", "dict"]),
        ({**SITE, "ports": ["5060"]}, ["ports"]),
        ({**SITE, "mode": "watch"}, ["mode", "enforce, observe", "watch"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_option_that_ansible_refuses_is_named(host: BareHost, options: dict[str, Any], words: list[str]) -> None:
    result = host.run_module("sip_host_policy", options)
    assert result["failed"] is True
    assert [word for word in words if word not in result["msg"]] == []
    assert (host.read, host.refused) == ([], [])


def test_check_mode_reports_and_only_reads(host: BareHost) -> None:
    options = {
        **services({"name": "ami", "from": "phones"}, {"name": "rtp", "ports": "10000:10999"}),
        "ssh_ports": ["2222"],
    }
    result = host.run_module("sip_host_policy", options, check=True)
    assert result["changed"] is True
    assert result["services"]["ssh"] == {"ports": ["2222"], "protocols": ["tcp"], "from": ["admins", "lan"]}
    assert result["services"]["rtp"] == {"ports": ["10000:10999"], "protocols": ["udp"], "from": ["everyone"]}
    assert "the service ami is closed to everyone: it is open to phones only" in str(result["warnings"])
    after = result["diff"]["after"]
    assert result["rules"] == {
        family: part.count("\n-A ") for family, part in zip(("ipv4", "ipv6"), after.split("# ipv6\n"), strict=True)
    }
    assert "-A SIPGUARD-HOST-LAN -p tcp -m multiport --dports 80,123,443,2222 -g SIPGUARD-HOST-LAN-S\n" in after
    assert host.read[:3] == ["iptables-nft-save ", "ip6tables-nft-save ", "ipset list -terse"]
    assert host.refused == []


def test_absent_where_nothing_is_changes_nothing(host: BareHost) -> None:
    result = host.run_module("sip_host_policy", {"state": "absent"}, check=True)
    assert (result["changed"], result["rules"], result["persisted"]) == (False, {"ipv4": 0, "ipv6": 0}, True)
    assert result["diff"] == {"before": "", "after": ""}
