# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.services import (
    DEFAULTS,
    PROTOCOLS,
    Service,
    read_lists,
    read_services,
)


def described(
    *entries: dict[str, Any], ssh_ports: tuple[object, ...] = (), lists: tuple[str, ...] = ()
) -> dict[str, Any]:
    return {name: service.describe() for name, service in read_services(entries, ssh_ports, lists).items()}


TABLE = {
    "sip": (["5060"], ["udp", "tcp"], ["everyone"]),
    "sips": (["5061"], ["tcp"], ["everyone"]),
    "rtp": (["10000:20000"], ["udp"], ["everyone"]),
    "iax2": (["4569"], ["udp"], ["trunks"]),
    "mgcp": (["2727"], ["udp"], ["nobody"]),
    "ssh": (["22"], ["tcp"], ["admins", "lan"]),
    "http": (["80"], ["tcp"], ["admins", "lan"]),
    "https": (["443"], ["tcp"], ["admins", "lan"]),
    "ntp": (["123"], ["udp", "tcp"], ["lan"]),
    "syslog": (["514"], ["udp", "tcp"], ["nobody"]),
    "ami": (["5038"], ["tcp"], ["nobody"]),
    "webmin": (["10000"], ["tcp"], ["nobody"]),
    "netbios": (["137:139"], ["udp", "tcp"], ["nobody"]),
    "samba": (["445"], ["tcp"], ["nobody"]),
    "isymphony": (["55050", "58080"], ["tcp"], ["nobody"]),
    "icmp": ([], ["icmp"], ["admins", "lan", "trunks", "phones"]),
}


def test_table_without_changes() -> None:
    assert described() == {
        name: {"ports": ports, "protocols": protocols, "from": words}
        for name, (ports, protocols, words) in TABLE.items()
    }


def test_what_administers_the_host_is_open_to_nobody_unknown() -> None:
    """Only telephony is offered to the internet unless somebody says so."""
    assert [name for name, service in DEFAULTS.items() if "everyone" in service.words] == ["sip", "sips", "rtp"]


@pytest.mark.parametrize("key", ["ports", "protocols", "from"])
def test_entry_changes_only_what_it_names(key: str) -> None:
    given = {"ports": ["8088"], "protocols": ["udp"], "from": ["phones"]}
    changed = described({"name": "http", key: given[key], **{other: None for other in given if other != key}})
    assert changed == {**described(), "http": {**described()["http"], key: given[key]}}


def test_later_entries_change_what_earlier_ones_left() -> None:
    entries = (
        {"name": "web", "ports": ["8088"], "from": ["lan"]},
        {"name": "web", "from": ["everyone"]},
        {"name": "web", "ports": ["8089"]},
    )
    assert described(*entries)["web"] == {"ports": ["8089"], "protocols": ["tcp"], "from": ["everyone"]}


def test_sources_may_be_mixed() -> None:
    entry = {"name": "ami", "from": ["lan", "branch_2", "192.0.2.7", "192.0.2.10-192.0.2.11", "2001:db8::/64", "lan"]}
    assert described(entry, lists=("branch_2",))["ami"]["from"] == [
        "lan",
        "branch_2",
        "192.0.2.7/32",
        "192.0.2.10/31",
        "2001:db8::/64",
    ]


def test_ssh_listens_where_it_is_said_to() -> None:
    assert described(ssh_ports=("2222",))["ssh"]["ports"] == ["2222"]
    assert described({"name": "ssh", "ports": ["22"]}, ssh_ports=("2222",))["ssh"]["ports"] == ["22"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_makes_a_service(protocol: str) -> None:
    ports = {"ports": ["7000"]} if protocol in ("udp", "tcp") else {}
    entry = {"name": "new", "protocols": [protocol], "from": ["lan"], **ports}
    assert described(entry)["new"]["protocols"] == [protocol]


@pytest.mark.parametrize(
    ("protocol", "port", "offered"),
    [("udp", 10000, True), ("udp", 15000, True), ("udp", 20000, True), ("udp", 9999, False), ("udp", 20001, False),
     ("udp", 4569, True), ("tcp", 15000, False)],
)  # fmt: skip
def test_offers(protocol: str, port: int, offered: bool) -> None:
    service = Service("x", ((4569, 4569), (10000, 20000)), ("udp",), ())
    assert service.offers(protocol, port) is offered


BAD: list[tuple[dict[str, Any], str, object, str]] = [
    ({"name": ""}, "services[].name", "", "such as web-gui"),
    ({"name": "Web GUI"}, "services[].name", "Web GUI", "small letters, digits, - and _"),
    ({"name": "-x"}, "services[].name", "-x", "such as web-gui"),
    ({"name": "SSH"}, "services[].name", "SSH", "small letters"),
    ({"name": "web", "ports": ["8088"]}, "services", "web", "so it needs 'from': everyone, nobody, lan, admins, trunks, phones, branch"),
    ({"name": "web", "from": ["lan"]}, "services[web].ports", [], "a service over udp or tcp needs a port, such as 8088"),
    ({"name": "web", "from": ["lan"], "ports": []}, "services[web].ports", [], "needs a port"),
    ({"name": "ssh", "ports": []}, "services[ssh].ports", [], "needs a port"),
    ({"name": "icmp", "ports": ["7"]}, "services[icmp].ports", ["7"], "icmp has no ports: without them"),
    ({"name": "ssh", "ports": ["70000"]}, "services[ssh].ports", "70000", "a port from 1 to 65535"),
    ({"name": "ssh", "ports": ["22", "30:20"]}, "services[ssh].ports", "30:20", "a range such as 5060:5061"),
    ({"name": "ssh", "ports": ["ssh"]}, "services[ssh].ports", "ssh", "a port from 1 to 65535"),
    ({"name": "ssh", "protocols": ["sctp"]}, "services[ssh].protocols", "sctp", "one of udp, tcp, icmp, esp, gre, vrrp"),
    ({"name": "ssh", "protocols": []}, "services[ssh].protocols", [], "at least one of udp, tcp, icmp"),
    ({"name": "ssh", "from": []}, "services[ssh].from", [], "nobody closes a service"),
    ({"name": "ssh", "from": ["wan"]}, "services[ssh].from", "wan", "one of everyone, nobody, lan, admins, trunks, phones, branch"),
    ({"name": "ssh", "from": ["LAN"]}, "services[ssh].from", "LAN", "one of everyone, nobody, lan"),
    ({"name": "ssh", "from": ["localhost"]}, "services[ssh].from", "localhost", "or addresses, would be right"),
    ({"name": "ssh", "from": ["nobody", "lan"]}, "services[ssh].from", ["nobody", "lan"], "nobody stands alone"),
    ({"name": "ssh", "from": ["lan", "everyone"]}, "services[ssh].from", ["lan", "everyone"], "everyone stands alone"),
    ({"name": "ssh", "from": ["192.0.2.300"]}, "services[ssh].from", "192.0.2.300", "an address (192.0.2.7), a network"),
    ({"name": "ssh", "from": ["192.0.2.1/24"]}, "services[ssh].from", "192.0.2.1/24", "192.0.2.0/24 would be right"),
    ({"name": "ssh", "from": ["0.0.0.0/0"]}, "services[ssh].from", "0.0.0.0/0", "every address there is"),
    ({"name": "ssh", "from": ["pbx.example.com"]}, "services[ssh].from", "pbx.example.com", "it is a name"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "option", "value", "right"), BAD, ids=lambda value: str(value)[:40])
def test_entry_that_cannot_be_used(entry: dict[str, Any], option: str, value: object, right: str) -> None:
    with pytest.raises(OptionError) as error:
        described(entry, lists=("branch",))
    assert (error.value.option, error.value.value) == (option, value)
    assert right in str(error.value)


def test_mistake_is_found_although_a_later_entry_mends_it() -> None:
    with pytest.raises(OptionError, match=r"services\[ssh\].ports: '70000' cannot be used"):
        described({"name": "ssh", "ports": ["70000"]}, {"name": "ssh", "ports": ["22"]})


@pytest.mark.parametrize("port", ["0", "70000", "ssh"])
def test_ssh_port_that_cannot_be_used(port: str) -> None:
    with pytest.raises(OptionError, match=rf"ssh_ports: '{port}' cannot be used; a port from 1 to 65535"):
        described(ssh_ports=(port,))


def test_lists_are_read() -> None:
    found = read_lists({"branch_2": ["192.0.2.0/24", "2001:db8::7"], "text": "192.0.2.7, 192.0.2.8", "none": []})
    assert {name: [str(network) for network in networks] for name, networks in found.items()} == {
        "branch_2": ["192.0.2.0/24", "2001:db8::7/128"],
        "text": ["192.0.2.7/32", "192.0.2.8/32"],
        "none": [],
    }


@pytest.mark.parametrize(
    "name",
    ["lan", "everyone", "nobody", "icmp", "stop", "Branch", "2nd", "branch-2", "a.b", "thirteen_long", "", 7, None],
)
def test_list_with_a_name_that_cannot_be_used(name: object) -> None:
    with pytest.raises(
        OptionError, match="a name of at most 12 small letters, digits and _, such as branch_2"
    ) as error:
        read_lists({name: ["192.0.2.7"]})
    assert (error.value.option, error.value.value) == ("lists", name)


@pytest.mark.parametrize("entries", [["192.0.2.300"], ["sip.example.com"], [7], {"a": 1}, None, 7, [None], ""])
def test_list_with_entries_that_cannot_be_used(entries: object) -> None:
    with pytest.raises(OptionError, match=r"an address \(192.0.2.7\), a network") as error:
        read_lists({"branch": entries})
    assert error.value.option == "lists[branch]"
