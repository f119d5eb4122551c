# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import host_policy
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    CHAIN_HOST,
    FAMILIES,
    IPV4,
    IPV6,
    Family,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.options import BASE_ARGUMENTS, Common, read_common
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import Policy, assemble, read_policy
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Rule
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import parse_save, render_chains
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.services import DEFAULTS
from tests.unit.plugins.module_utils._netfilter import samples

_OWN_DEFAULTS: dict[str, Any] = {
    "services": [],
    **{word: [] for word in ("lan", "admins", "trunks", "phones", "protect", "ssh_ports")},
    "lists": {},
    "require_ssh": True,
}
LAN = ["192.0.2.0/25", "2001:db8:a::/64"]
ADMINS = ["192.0.2.200", "2001:db8:b::7"]
TRUNKS = ["198.51.100.10-198.51.100.13", "2001:db8:c::/64"]
SITE: dict[str, Any] = {"lan": LAN, "admins": ADMINS, "trunks": TRUNKS}


def read(**given: Any) -> tuple[Common, host_policy.HostPolicy]:
    shared = {name: argument["default"] for name, argument in BASE_ARGUMENTS.items()}
    options = {**shared, **_OWN_DEFAULTS, **given}
    common = read_common(options)
    return common, host_policy.read_options(options, common)


def chains(family: Family = IPV4, **given: Any) -> dict[str, tuple[Rule, ...]]:
    common, wanted = read(**given)
    return dict(host_policy.member(common, wanted, family).chains)


@dataclass(frozen=True)
class Packet:
    """What the rules look at. ``port`` is the destination's, for ICMP the type."""

    source: str
    protocol: str
    port: int = 0
    source_port: int = 40000
    interface: str = "eth0"
    state: str = "NEW"
    reply: bool = False
    expected: bool = False

    @property
    def family(self) -> Family:
        return IPV6 if ":" in self.source else IPV4


def _spec(packet: Packet, text: str) -> bool:
    ranges = [(part.split(":") * 2)[:2] for part in text.split(",")]
    return any(int(first) <= packet.port <= int(last) for first, last in ranges)


def _holds(rule: Rule, packet: Packet) -> bool:
    """Raises AssertionError for anything that no rule of a host policy has."""
    for option in rule.header:
        (value,) = option.values
        assert not option.negated
        if option.name == "-i":
            found = packet.interface == value
        elif option.name == "-s":
            found = ipaddress.ip_address(packet.source) in ipaddress.ip_network(value)
        else:
            assert option.name == "-p"
            found = packet.protocol == value
        if not found:
            return False
    for match in rule.matches:
        values = {option.name: option.values[0] for option in match.options}
        if match.name == "multiport":
            found = _spec(packet, values["--dports"])
        elif match.name == "udp":
            found = (str(packet.source_port), str(packet.port)) == (values["--sport"], values["--dport"])
        elif match.name in ("icmp", "icmp6"):
            (found,) = (str(packet.port) == value for value in values.values())
        else:
            assert match.name == "conntrack"
            tests = {
                "--ctstate": packet.state == values.get("--ctstate"),
                "--ctdir": packet.reply == (values.get("--ctdir") == "REPLY"),
                "--ctstatus": packet.expected and values.get("--ctstatus") == "EXPECTED",
            }
            found = all(tests[name] for name in values)
        if not found:
            return False
    return True


def passes(rules: Mapping[str, tuple[Rule, ...]], packet: Packet) -> bool:
    """Whether the packet comes back to SIPGUARD. Every step has to be a goto, or a RETURN would lead to the wrong chain."""
    chain, steps = CHAIN_HOST, 0
    while True:
        steps += 1
        assert steps < 100, "the chains go round in circles"
        for rule in rules[chain]:
            if not _holds(rule, packet):
                continue
            if rule.target == "RETURN":
                return True
            if rule.target in ("DROP", "REJECT"):
                return False
            if rule.goto:
                chain = rule.target
                break
            assert rule.target in ("SET", "MARK")
        else:
            return True


def allowed(packet: Packet, **given: Any) -> bool:
    return passes(chains(packet.family, **given), packet)


INSIDE = {4: "192.0.2.5", 6: "2001:db8:a::5"}
ADMIN = {4: "192.0.2.200", 6: "2001:db8:b::7"}
TRUNK = {4: "198.51.100.13", 6: "2001:db8:c::1"}
OUTSIDE = {4: "203.0.113.66", 6: "2001:db8:bad::1"}

# Protocol, port, and who gets in there under the table as it comes.
OFFERED = [
    ("udp", 5060, "lan admin trunk outside"),
    ("tcp", 5060, "lan admin trunk outside"),
    ("tcp", 5061, "lan admin trunk outside"),
    ("udp", 5061, ""),
    ("udp", 10000, "lan admin trunk outside"),
    ("udp", 20000, "lan admin trunk outside"),
    ("udp", 9999, ""),
    ("udp", 20001, ""),
    ("udp", 4569, "trunk"),
    ("tcp", 22, "lan admin"),
    ("tcp", 80, "lan admin"),
    ("tcp", 443, "lan admin"),
    ("udp", 443, ""),
    ("udp", 123, "lan"),
    ("tcp", 123, "lan"),
    ("icmp", 8, "lan admin trunk"),
    *(("udp", port, "") for port in (137, 138, 445, 514, 2727, 53, 67, 68, 546)),
    *(("tcp", port, "") for port in (137, 139, 445, 514, 5038, 10000, 55050, 58080, 3306, 1, 65535)),
    *((protocol, 0, "") for protocol in ("esp", "47", "112", "132")),
]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("protocol", "port", "who"), OFFERED)
def test_table_lets_in_whom_it_names(protocol: str, port: int, who: str, version: int) -> None:
    if protocol == "icmp" and version == 6:
        protocol, port = "ipv6-icmp", 128
    sources = {"lan": INSIDE, "admin": ADMIN, "trunk": TRUNK, "outside": OUTSIDE}
    found = [name for name, source in sources.items() if allowed(Packet(source[version], protocol, port), **SITE)]
    assert found == who.split()


STATES = [
    ({"state": "ESTABLISHED", "reply": True}, True),
    ({"state": "ESTABLISHED"}, False),
    ({"state": "NEW"}, False),
    ({"state": "RELATED"}, False),
    ({"state": "RELATED", "expected": True}, True),
    ({"state": "ESTABLISHED", "expected": True}, True),
    ({"state": "INVALID"}, False),
    ({"state": "UNTRACKED"}, False),
    ({"interface": "lo"}, True),
    ({"interface": "lo0"}, False),
]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("state", "passed"), STATES, ids=str)
def test_only_answers_to_the_host_itself_need_no_service(state: dict[str, Any], passed: bool, version: int) -> None:
    for protocol, port in (("tcp", 40000), ("udp", 40000), ("tcp", 22)):
        assert allowed(Packet(OUTSIDE[version], protocol, port, **state), **SITE) is passed


@pytest.mark.parametrize("state", ["NEW", "ESTABLISHED", "INVALID", "UNTRACKED"])
def test_a_service_is_offered_whatever_the_state(state: str) -> None:
    assert allowed(Packet(INSIDE[4], "tcp", 22, state=state), **SITE)


NEEDED = {4: {3, 11, 12}, 6: {1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 143}}


@pytest.mark.parametrize("version", [4, 6])
def test_icmp_that_a_host_cannot_live_without(version: int) -> None:
    rules = chains(FAMILIES[version == 6], require_ssh=False)
    protocol = "icmp" if version == 4 else "ipv6-icmp"
    found = {number for number in range(256) if passes(rules, Packet(OUTSIDE[version], protocol, number))}
    assert found == NEEDED[version]


@pytest.mark.parametrize(
    ("packet", "passed"),
    [
        (Packet("10.0.0.1", "udp", 68, 67), True),
        (Packet("10.0.0.1", "udp", 67, 68), False),
        (Packet("10.0.0.1", "udp", 68, 68), False),
        (Packet("fe80::1", "udp", 546, 547), True),
        (Packet("2001:db8::1", "udp", 546, 547), False),
        (Packet("fe80::1", "udp", 547, 546), False),
        (Packet("10.0.0.1", "2"), True),
        (Packet("fe80::1", "2"), False),
    ],
)
def test_dhcp_and_multicast(packet: Packet, passed: bool) -> None:
    assert allowed(packet, require_ssh=False) is passed


def test_protected_sources_reach_ssh_and_nothing_else() -> None:
    given = {
        "services": [{"name": "ssh", "from": ["nobody"], "ports": ["22"]}],
        "protect": ["203.0.113.66", "2001:db8:bad::/64"],
        "ssh_ports": ["2222"],
    }
    for source in (OUTSIDE[4], OUTSIDE[6]):
        assert [port for port in (21, 22, 80, 2222, 5038) if allowed(Packet(source, "tcp", port), **given)] == [
            22,
            2222,
        ]
        assert not allowed(Packet(source, "udp", 22), **given)
    assert not allowed(Packet(INSIDE[4], "tcp", 22), **given, lan=LAN)


@pytest.mark.parametrize(
    "services", [[], [{"name": "ssh", "from": ["everyone"]}], [{"name": "ssh", "from": ["192.0.2.0/24"]}]]
)
def test_rules_do_not_change_with_whoever_of_the_administrators_is_connected(services: list[dict[str, Any]]) -> None:
    quiet = chains(**SITE, services=services, ssh_ports=["22"])
    for connected in ([ADMINS[0]], ["192.0.2.7"], [ADMINS[0], "192.0.2.8"]):
        assert chains(**SITE, services=services, ssh_ports=["22"], protect=connected) == quiet
    # Who comes to a port of which the service knows nothing has rules of his own.
    other = [*services, {"name": "ssh", "ports": ["22"]}]
    assert allowed(Packet(ADMINS[0], "tcp", 2222), **SITE, services=other, ssh_ports=["2222"], protect=[ADMINS[0]])
    assert not allowed(Packet(ADMINS[0], "tcp", 2222), **SITE, services=other, ssh_ports=["2222"])


def test_addresses_beside_words() -> None:
    given = {"services": [{"name": "ami", "from": ["lan", "203.0.113.66", "2001:db8:bad::1"]}], **SITE}
    for version in (4, 6):
        assert allowed(Packet(INSIDE[version], "tcp", 5038), **given)
        assert allowed(Packet(OUTSIDE[version], "tcp", 5038), **given)
        assert not allowed(Packet(OUTSIDE[version], "tcp", 22), **given)
        assert not allowed(Packet(ADMIN[version], "tcp", 5038), **given)


def test_rules_are_networks_and_services_and_not_their_product() -> None:
    sources = [f"10.0.{number}.0/25" for number in range(100)]
    table = [{"name": f"s{number}", "ports": [str(3 * number + 1)], "from": ["lan"]} for number in range(60)]
    rules = chains(lan=sources, services=table)
    assert len(rules["SIPGUARD-HOST-LAN-S"]) == 100 + 1
    assert sum(len(found) for found in rules.values()) < 130
    offered = [port for port in range(1, 200) if passes(rules, Packet("10.0.99.1", "tcp", port))]
    assert offered == sorted({22, 80, 123, *range(1, 180, 3)})
    assert all(
        len(match.options[0].values[0].split(",")) <= 15
        for found in rules.values()
        for rule in found
        for match in rule.matches
        if match.name == "multiport"
    )


def test_word_without_addresses_has_no_chain() -> None:
    assert sorted(chains(admins=ADMINS)) == [
        "SIPGUARD-HOST",
        "SIPGUARD-HOST-ADMINS",
        "SIPGUARD-HOST-ADMINS-S",
        "SIPGUARD-HOST-ICMP",
        "SIPGUARD-HOST-STOP",
    ]
    assert "SIPGUARD-HOST-ADMINS" not in chains(IPV6, admins=["192.0.2.7"])


def test_longest_chain_name_is_one_that_the_kernel_takes() -> None:
    names = chains(lists={"a23456789012": ["192.0.2.7"]}, services=[{"name": "ssh", "from": ["a23456789012"]}])
    assert max(len(name) for name in names) == 28


def test_observe_notes_and_stops_nothing() -> None:
    rules = chains(mode="observe", action="reject", **SITE)
    assert not {rule.target for found in rules.values() for rule in found} & {"DROP", "REJECT"}
    assert [rule.render() for rule in rules["SIPGUARD-HOST-STOP"]] == [
        "-A SIPGUARD-HOST-STOP -j SET --add-set sipguard-observed4 src --exist --timeout 604800",
        "-A SIPGUARD-HOST-STOP -j MARK --set-xmark 0xc000000/0xc000000",
    ]
    enforced = chains(**SITE)
    assert {name: found for name, found in rules.items() if name != "SIPGUARD-HOST-STOP"} == {
        name: found for name, found in enforced.items() if name != "SIPGUARD-HOST-STOP"
    }


# Everything that can be in a host policy; its text is in tests/unit/fixtures/rulesets/host.v4 and host.v6.
EVERYTHING: dict[str, Any] = {
    **SITE,
    "lists": {"branch_2": ["192.0.2.128/26", "2001:db8:d::/64"]},
    "protect": ["203.0.113.7", "2001:db8:e::7"],
    "ssh_ports": ["2222"],
    "services": [
        {"name": "ami", "from": ["branch_2", "203.0.113.9", "2001:db8:e::9"]},
        {"name": "tunnel", "protocols": ["esp", "gre", "vrrp"], "from": ["everyone"]},
        {"name": "pair", "protocols": ["vrrp", "icmp"], "from": ["branch_2", "203.0.113.8", "2001:db8:e::8"]},
        {"name": "many", "ports": [str(port) for port in range(7000, 7040, 2)], "from": ["lan"]},
    ],
}


def host_tables(family: Family) -> dict[str, dict[str, tuple[Rule, ...]]]:
    common, wanted = read(**EVERYTHING)
    return assemble(Policy(family).with_member(CHAIN_HOST, host_policy.member(common, wanted, family)), 0x4000000)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_ruleset_is_the_golden_one(family: Family) -> None:
    assert render_chains(host_tables(family)) == samples.golden("host", family)


@pytest.mark.parametrize(
    "release", sorted({path.name for path in samples.FIXTURES.glob("saved/iptables-save_*_host.v?")})
)
def test_every_release_of_iptables_prints_it_so_that_the_next_run_changes_nothing(release: str) -> None:
    family = FAMILIES[release.endswith("v6")]
    saved = parse_save((samples.FIXTURES / "saved" / release).read_text(encoding="utf-8"))
    assert {name: table.chains for name, table in saved.tables.items() if table.chains} == host_tables(family)


def test_every_release_of_iptables_is_there() -> None:
    found = {tuple(path.name.split("_")[1:]) for path in samples.FIXTURES.glob("saved/iptables-save_*_host.v?")}
    assert found == {
        (version, backend, name)
        for version in ("1.8.7", "1.8.9", "1.8.13")
        for backend in ("nft", "legacy")
        for name in ("host.v4", "host.v6")
    }


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_policy_is_found_again_in_its_rules(family: Family) -> None:
    common, wanted = read(**EVERYTHING)
    policy = Policy(family).with_member(CHAIN_HOST, host_policy.member(common, wanted, family))
    assert read_policy(family, assemble(policy, 0x4000000), "filter")[0] == policy


WORDS = ("lan", "admins", "trunks", "phones", "mon")
_networks = st.lists(
    st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "192.0.2.0/24", "2001:db8::/32", "2001:db8::7"]),
    max_size=3,
)
_sources = st.one_of(
    st.sampled_from([["everyone"], ["nobody"]]),
    st.lists(st.sampled_from([*WORDS, "10.1.2.3", "192.0.2.0/24", "2001:db8::7"]), min_size=1, max_size=4, unique=True),
)
_entries = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from([*DEFAULTS, "web", "other"]),
            "ports": st.lists(st.sampled_from(["22", "80:90", "5060", "10000:20000"]), min_size=1, max_size=3),
            "protocols": st.lists(st.sampled_from(["udp", "tcp", "icmp", "gre"]), min_size=1, unique=True).filter(
                lambda chosen: {"udp", "tcp"} & set(chosen)
            ),
            "from": _sources,
        }
    ),
    max_size=6,
)
_packets = st.builds(
    Packet,
    st.sampled_from(["10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.9", "203.0.113.1", "2001:db8::7", "2001:db8::8", "2001:db9::1"]),
    st.sampled_from(["udp", "tcp", "icmp", "47"]),
    st.sampled_from([8, 22, 80, 85, 90, 91, 123, 443, 514, 4569, 5038, 5060, 10000, 20000, 40000]),
)  # fmt: skip


@given(_entries, st.fixed_dictionaries(dict.fromkeys(WORDS, _networks)), _networks, st.lists(_packets, max_size=12))
def test_rules_let_in_exactly_what_the_table_says(
    entries: list[dict[str, Any]], words: dict[str, list[str]], protect: list[str], packets: list[Packet]
) -> None:
    """The rules walked like the kernel does, against the table read like a person does."""
    given = {
        **{word: addresses for word, addresses in words.items() if word != "mon"},
        "lists": {"mon": words["mon"]},
        "services": entries,
        "protect": protect,
        "require_ssh": False,
    }
    table = {name: service.describe() for name, service in read(**given)[1].services.items()}
    rules = {family: chains(family, **given) for family in FAMILIES}

    def within(source: str, entry: str) -> bool:
        address, network = ipaddress.ip_address(source), ipaddress.ip_network(entry)
        return address.version == network.version and address in network

    def may(source: str, service: dict[str, list[str]]) -> bool:
        if service["from"] == ["everyone"]:
            return True
        entries = [entry for word in service["from"] for entry in words.get(word, [word] if "/" in word else [])]
        return any(within(source, entry) for entry in entries)

    for packet in packets:
        protocol = {"47": "gre"}.get(packet.protocol, packet.protocol)
        wanted = any(
            protocol in service["protocols"]
            and may(packet.source, service)
            and (
                protocol == "gre"
                or (protocol == "icmp" and packet.port == 8)
                or (protocol in ("udp", "tcp") and _spec(packet, ",".join(service["ports"])))
            )
            for service in table.values()
        ) or (
            protocol == "tcp"
            and _spec(packet, ",".join(table["ssh"]["ports"]))
            and any(within(packet.source, entry) for entry in protect)
        )
        real = packet
        if packet.family is IPV6 and protocol == "icmp":
            real = replace(packet, protocol="ipv6-icmp", port=128 if packet.port == 8 else 200)
        assert passes(rules[packet.family], real) is wanted, packet


@pytest.mark.parametrize(
    "given",
    [{}, {"lan": []}, {"services": [{"name": "ssh", "from": ["nobody"]}], **SITE},
     {"services": [{"name": "ssh", "from": ["phones"]}], **SITE}, {"admins": ["192.0.2.7"], "families": ["ipv6"]}],
    ids=str,
)  # fmt: skip
def test_table_that_lets_nobody_log_in_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(
        OptionError, match="nobody could ever log in over SSH: name addresses in admins, lan or protect"
    ) as error:
        read(**given)
    assert error.value.option == "services[ssh].from"
    for more in ({"mode": "observe"}, {"state": "absent"}, {"require_ssh": False}, {"protect": ["192.0.2.7"]}):
        read(**{**given, **more})


def test_address_of_a_family_that_is_not_managed_is_refused_where_it_is_meant() -> None:
    entry = {"name": "ami", "from": ["2001:db8::/64"]}
    with pytest.raises(
        OptionError, match=r"services\[ami\].from: '2001:db8::/64' cannot be used; families has ipv4 only"
    ):
        read(**SITE, services=[entry], families=["ipv4"])
    read(**SITE, families=["ipv4"])  # in the inventory's words there are both


@pytest.mark.parametrize("option", ["lan", "admins", "trunks", "phones", "protect"])
@pytest.mark.parametrize("entry", ["192.0.2.300", "192.0.2.1/24", "::/0", "sip.example.com"])
def test_address_that_cannot_be_used_is_refused(option: str, entry: str) -> None:
    with pytest.raises(OptionError) as error:
        read(**{option: ["192.0.2.7", entry]})
    assert (error.value.option, error.value.value) == (option, entry)


def warned(**given: Any) -> list[str]:
    common, wanted = read(**given)
    return host_policy.warnings(wanted, given.get("services", []), common)


def test_service_that_is_closed_without_a_word_is_named() -> None:
    entries = [
        {"name": "ami", "from": ["phones"]},
        {"name": "iax2", "ports": ["4570"]},
        {"name": "ntp", "from": ["nobody"]},
    ]
    assert warned(lan=LAN, services=[*entries, {"name": "sip", "from": ["lan", "phones"]}]) == [
        "the service ami is closed to everyone: it is open to phones only, and no ipv4 and ipv6 address is named there",
        "the service iax2 is closed to everyone: it is open to trunks only, and no ipv4 and ipv6 address is named there",
    ]
    assert warned(
        lan=["192.0.2.0/24"], families=["ipv6"], require_ssh=False, services=[{"name": "ami", "from": ["lan"]}]
    ) == ["the service ami is closed to everyone: it is open to lan only, and no ipv6 address is named there"]


def test_table_without_changes_warns_of_nothing() -> None:
    assert warned(admins=ADMINS) == []
    assert warned(**SITE) == []


def test_observing_warns_of_what_enforcing_would_refuse() -> None:
    assert warned(mode="observe") == [
        "in enforce mode nobody could log in over SSH: no address is named for the service ssh, nor in protect"
    ]
    assert warned(mode="observe", protect=["192.0.2.7"]) == []
