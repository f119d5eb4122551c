# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named lists of blocked sources: who is not heard any more, who still is, and who never stops being heard."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.range_presets import RANGE_PRESETS, range_preset
from tests.integration.harness import sip
from tests.integration.harness.lab import NETWORKS, PBX, PORTS, WAYS, Lab
from tests.integration.harness.rules import FOREIGN, FOREIGN_NFT, FOREIGN_SETS, foreign_part

MODULE = "sip_blocklist"
LISTED = {4: "198.18.200.0/24", 6: "2001:db8:bad::f000/116"}
GATEWAY = {4: "10.255.3.2", 6: "fd00:3::2"}  # towards the attacker
# What is read from options is the same whatever the rules are loaded with.
NFT = pytest.mark.parametrize("backend", ["nft"], indirect=True, scope="session")
_numbers = itertools.count(1)


def listed(family: int, number: int = 0) -> str:
    """A listed source, by default one that nobody has used yet."""
    number = number or next(_numbers) % 200 + 1
    return f"198.18.200.{number}" if family == 4 else f"2001:db8:bad::f{number:03x}"


def neighbour(family: int) -> str:
    """A source right beside the listed ones."""
    number = next(_numbers) % 200 + 1
    return f"198.18.201.{number}" if family == 4 else f"2001:db8:bad::e{number:03x}"


def heard(lab: Lab, source: str, transport: str = "udp", port: int = 5060) -> bool:
    return lab.reaches(lab.attacker, sip.request(), transport, 6 if ":" in source else 4, source=source, port=port)


def run(lab: Lab, name: str, *sources: str, **options: Any) -> dict[str, Any]:
    return lab.apply(MODULE, name=name, sources=list(sources), **options)


def blocks_listed(lab: Lab) -> bool:
    """Whether listed sources are not heard, and their neighbours are."""
    for family in (4, 6):
        assert heard(lab, neighbour(family))
    found = {heard(lab, listed(family)) for family in (4, 6)}
    assert len(found) == 1
    return not found.pop()


@pytest.fixture(scope="module")
def host(backend: str) -> Iterator[Lab]:
    made = Lab(backend)
    yield made
    made.close()


@pytest.fixture
def pbx(host: Lab) -> Iterator[Lab]:
    """A PBX without a list; and without one again afterwards, with nothing of it left."""
    before = host.snapshot()
    yield host
    host.trust(state="absent")
    host.apply(MODULE, state="absent")
    after = host.snapshot()
    for key in (4, 6):
        for backend in ("nft", "legacy"):
            assert foreign_part(after[key, backend]) == foreign_part(before[key, backend])
            assert "SIPGUARD" not in after[key, backend]
    assert (after["sets"], after["files"]) == (before["sets"], before["files"])
    assert not host.pbx.succeeds("test", "-e", "/var/lib/sipguard/lists")


# -- packets


def test_listed_source_is_not_heard_on_any_port(pbx: Lab) -> None:
    lab = pbx
    result = lab.four_runs(MODULE, name="hosters", sources=list(LISTED.values()))
    assert result["members"] == {"sipguard-blocked4": 1, "sipguard-blocked6": 1}
    assert (result["entries"], result["left_out"]) == (2, [])
    for transport, family in WAYS:
        for port in PORTS:
            assert not heard(lab, listed(family), transport, port)
            assert heard(lab, neighbour(family), transport, port)
    lab.four_runs(MODULE, name="hosters", state="absent")
    for transport, family in WAYS:
        assert heard(lab, listed(family), transport)


def test_conversation_admitted_before_is_not_heard_any_more(pbx: Lab) -> None:
    lab = pbx
    lab.blocklist()
    flows = {}
    for transport, family in WAYS:
        for source in (listed(family), neighbour(family)):
            flow = lab.attacker.flow(transport, family, source=source)
            assert lab.passes(flow, sip.request())
            assert lab.passes(flow, sip.request(sip.SCANNER)), "it is not admitted"
            flows[transport, source] = flow
    run(lab, "hosters", *LISTED.values())
    for flow in flows.values():
        inside = any(ipaddress.ip_address(flow.source) in ipaddress.ip_network(net) for net in LISTED.values())
        assert lab.passes(flow, sip.request()) is not inside
    lab.apply("sip_ua_blocklist", state="absent")
    assert blocks_listed(lab)


@NFT
@pytest.mark.parametrize(
    ("sources", "inside", "outside"),
    [
        (["198.18.200.7"], ["198.18.200.7"], ["198.18.200.6", "198.18.200.8"]),
        (["198.18.200.0/255.255.255.128"], ["198.18.200.1", "198.18.200.127"], ["198.18.200.128"]),
        (["198.18.200.10-198.18.200.20"], ["198.18.200.10", "198.18.200.20"], ["198.18.200.9", "198.18.200.21"]),
        (
            ["198.18.200.4", "198.18.200.5", "198.18.200.6-198.18.200.7"],
            ["198.18.200.7"],
            ["198.18.200.3", "198.18.200.8"],
        ),
        (["2001:DB8:bad::f07"], ["2001:db8:bad::f07"], ["2001:db8:bad::f06"]),
        (["2001:db8:bad::f10 - 2001:db8:bad::f1f"], ["2001:db8:bad::f1f"], ["2001:db8:bad::f20"]),
    ],
    ids=["address", "mask", "range", "merged", "ipv6", "ipv6_range"],
)
def test_every_notation_blocks_exactly_what_it_says(
    pbx: Lab, sources: list[str], inside: list[str], outside: list[str]
) -> None:
    run(pbx, "x", *sources)
    assert [heard(pbx, source) for source in inside] == [False] * len(inside)
    assert [heard(pbx, source) for source in outside] == [True] * len(outside)


# -- several lists


def test_lists_live_side_by_side_and_go_one_by_one(pbx: Lab) -> None:
    lab = pbx
    run(lab, "one", "198.18.200.0/25", "198.18.200.200")
    before = lab.files()
    lab.four_runs(MODULE, name="two", sources=["198.18.200.64/26", "198.18.200.128/26"])
    assert {path: lab.files()[path] for path in before} == before
    for number in (1, 100, 150, 200):
        assert not heard(lab, listed(4, number))
    assert heard(lab, listed(4, 220))
    lab.four_runs(MODULE, name="one", state="absent")
    assert [heard(lab, listed(4, number)) for number in (1, 100, 150, 200)] == [True, False, False, True]
    run(lab, "two", "198.18.200.220")
    assert [heard(lab, listed(4, number)) for number in (100, 150, 220)] == [True, True, False]
    lab.apply(MODULE, name="nobody_has_heard_of_it", state="absent")
    assert not heard(lab, listed(4, 220))


def test_absent_without_a_name_removes_every_list(pbx: Lab) -> None:
    run(pbx, "one", LISTED[4])
    run(pbx, "two", LISTED[6], mode="observe")
    pbx.four_runs(MODULE, state="absent")
    assert heard(pbx, listed(4))
    assert "sipguard" not in pbx.sets()


def test_mode_changes_there_and_back(pbx: Lab) -> None:
    lab = pbx
    for mode in ("observe", "enforce", "observe"):
        lab.four_runs(MODULE, name="hosters", sources=list(LISTED.values()), mode=mode)
        assert blocks_listed(lab) is (mode == "enforce")
        other = "sipguard-blocked" if mode == "observe" else "sipguard-watched"
        assert other not in lab.sets() + lab.save(4) + lab.save(6)


def test_observe_notes_and_drops_nothing(pbx: Lab) -> None:
    lab = pbx
    lab.trust(listed(4, 240), listed(6, 240))
    run(lab, "candidates", *LISTED.values(), mode="observe")
    for transport, family in WAYS:
        for port in PORTS:
            source, beside, trusted = listed(family), neighbour(family), listed(family, 240)
            assert heard(lab, source, transport, port)
            assert lab.member("sipguard-observed", source)
            assert heard(lab, beside, transport, port)
            assert heard(lab, trusted, transport, port)
            assert not lab.member("sipguard-observed", beside)
            assert not lab.member("sipguard-observed", trusted)


def test_observed_by_one_list_and_blocked_by_another_is_blocked(pbx: Lab) -> None:
    run(pbx, "candidates", *LISTED.values(), mode="observe")
    run(pbx, "hosters", listed(4, 7))
    assert not heard(pbx, listed(4, 7))
    assert heard(pbx, listed(4, 8))


# -- who is never blocked


def test_host_gateways_and_trusted_are_never_blocked(pbx: Lab) -> None:
    """The list names everything there is around the host; each that is protected has to be heard, and its neighbour must not be."""
    lab = pbx
    lab.trust(listed(4, 44), listed(6, 44))
    everything = [
        "192.0.2.0/24",
        "10.255.0.0/16",
        "127.0.0.0/9",
        "2001:db8::/32",
        "fd00::/20",
        "fe80::/20",
        *LISTED.values(),
    ]
    result = lab.four_runs(MODULE, name="all", sources=everything, allow_private=True)
    left_out = {found["network"]: found["why"] for found in result["left_out"]}
    for family in (4, 6):
        assert left_out[PBX[family]] == "an address of this host"
        assert left_out[GATEWAY[family]] == "a gateway of this host"
        assert left_out[listed(family, 44)] == "trusted"
        assert not lab.member("sipguard-blocked", PBX[family])
        assert not lab.member("sipguard-blocked", GATEWAY[family])
        assert heard(lab, listed(family, 44))
        assert not heard(lab, listed(family, 45))
        assert heard(lab, GATEWAY[family])
    assert {tuple(found["lists"]) for found in result["left_out"]} == {("all",)}
    for address in ("127.0.0.1", "127.0.1.1", "127.0.0.53", "::1", "fe80::1"):
        assert not lab.member("sipguard-blocked", address)
    assert lab.member("sipguard-blocked", "192.0.2.2")
    assert lab.member("sipguard-blocked", "10.255.9.9")


@NFT
def test_resolvers_are_never_blocked(pbx: Lab) -> None:
    lab = pbx
    lines = [
        f"nameserver {listed(4, 53)}",
        f"nameserver {listed(6, 53)}%attacker",
        f"nameserver ::ffff:{listed(4, 54)}",
        "nameserver",
        "nameserver dns.example.com",
        f"# nameserver {listed(4, 55)}",
        "nameserver \x1b[2J",
    ]
    lab.pbx.run("tee", "/etc/resolv.conf", stdin="\n".join(lines))
    result = run(lab, "hosters", *LISTED.values())
    assert [(found["network"], found["why"]) for found in result["left_out"]] == [
        (listed(4, 53), "a resolver of this host"),
        (listed(6, 53), "a resolver of this host"),
        (listed(4, 54), "a resolver of this host"),
    ]
    assert [heard(lab, listed(4, number)) for number in (52, 53, 54, 55)] == [False, True, True, False]
    assert heard(lab, listed(6, 53))
    lab.pbx.run("tee", "/etc/resolv.conf", stdin="")
    assert run(lab, "hosters", *LISTED.values())["changed"]
    assert not heard(lab, listed(4, 53))


@pytest.mark.parametrize("family", [4, 6])
def test_peer_of_the_ssh_connection_is_never_blocked(pbx: Lab, family: int) -> None:
    lab = pbx
    peer = listed(family, 22)
    env = {"SSH_CONNECTION": f"{peer} 40000 {PBX[family]} 22"}
    result = run(lab, "hosters", *LISTED.values(), env=env)
    assert result["left_out"] == [{"network": peer, "why": "the peer of an SSH connection", "lists": ["hosters"]}]
    assert heard(lab, peer)
    assert not heard(lab, listed(family, 23))
    assert not run(lab, "hosters", *LISTED.values(), env=env)["changed"]


@NFT
@pytest.mark.parametrize("words", ["junk 1 x 2", "::ffff:198.18.200.22 1 x 2", " 1 x 2", "198.18.200.22/8 1 x 2"])
def test_odd_words_about_the_ssh_connection_harm_nobody(pbx: Lab, words: str) -> None:
    run(pbx, "hosters", LISTED[4], env={"SSH_CONNECTION": words})
    assert heard(pbx, listed(4, 22)) is words.startswith("::ffff:")
    assert not heard(pbx, listed(4, 23))


def test_never_of_one_list_is_for_all_of_them(pbx: Lab) -> None:
    lab = pbx
    run(lab, "hosters", *LISTED.values())
    assert not heard(lab, listed(4, 9))
    lab.four_runs(MODULE, name="other", sources=["203.0.113.77"], never=[f"{listed(4, 8)}/31", listed(6, 9)])
    assert [heard(lab, listed(4, number)) for number in (7, 8, 9, 10)] == [False, True, True, False]
    assert heard(lab, listed(6, 9))
    run(lab, "other", "203.0.113.77")
    assert not heard(lab, listed(4, 9))


def test_trust_given_later_is_heard_at_once(pbx: Lab) -> None:
    """Without another run of the list: the rule asks for it."""
    run(pbx, "hosters", *LISTED.values())
    assert not heard(pbx, listed(4, 60))
    pbx.trust(listed(4, 60))
    assert heard(pbx, listed(4, 60))
    assert not heard(pbx, listed(4, 61))


@NFT
def test_exception_holds_in_every_run(pbx: Lab) -> None:
    """What ``sipguard unban`` has let through is not blocked again by the next run."""
    lab = pbx
    run(lab, "hosters", *LISTED.values())
    lab.apply("sip_ban", addresses=[listed(4, 70)], state="unbanned")
    assert heard(lab, listed(4, 70))
    assert not run(lab, "hosters", *LISTED.values())["changed"]
    run(lab, "hosters", *LISTED.values(), "203.0.113.77")
    assert heard(lab, listed(4, 70))
    assert not heard(lab, listed(4, 71))
    lab.apply("sip_ban", state="cleared")


# -- what is on the lists that come along


@NFT
@pytest.mark.parametrize("name", RANGE_PRESETS)
def test_preset_is_loaded(pbx: Lab, name: str) -> None:
    result = pbx.four_runs(MODULE, name=name, presets=[name])
    assert result["entries"] == len({entry.value for entry in range_preset(name)})
    for entry in range_preset(name):
        first = entry.value.partition("-")[0].partition("/")[0]
        assert pbx.member("sipguard-blocked", first)
        assert not pbx.member("sipguard-blocked", "198.18.200.1")


# -- others' rules and sets


def test_rules_and_sets_of_others_stay_as_they_are(lab: Lab) -> None:
    lab.pbx.run("ipset", "restore", stdin=FOREIGN_SETS)
    for family, reject in ((4, "icmp-port-unreachable"), (6, "icmp6-port-unreachable")):
        banned, lan = ("203.0.113.200", "172.17.0.0/16") if family == 4 else ("2001:db8:3::200", "fd00:17::/64")
        lab.restore(FOREIGN.format(reject=reject, banned=banned, lan=lan), family)
    if lab.backend == "nft":
        lab.pbx.run("nft", "-f", "-", stdin=FOREIGN_NFT)

    def foreign() -> dict[str, str]:
        own = ("create sipguard-", "add sipguard-")
        saved = {f"{family}": foreign_part(lab.save(family)) for family in (4, 6)}
        nft = lab.pbx.run("nft", "list", "table", "inet", "custom") if lab.backend == "nft" else ""
        kept = [line for line in lab.pbx.run("ipset", "save").splitlines() if not line.startswith(own)]
        sets = "\n".join(line.partition(" timeout ")[0] if line.startswith("add ") else line for line in kept)
        return {**saved, "sets": sets, "nft": "\n".join(line for line in nft.splitlines() if "counter" not in line)}

    before = foreign()
    run(lab, "hosters", *LISTED.values(), "203.0.113.128/25")
    assert foreign() == before
    run(lab, "candidates", "203.0.113.0/24", mode="observe")
    assert foreign() == before
    lab.apply(MODULE, name="hosters", state="absent")
    assert foreign() == before
    lab.apply(MODULE, state="absent")
    assert foreign() == before


@NFT
@pytest.mark.parametrize(
    ("name", "made", "mode"),
    [
        ("sipguard-blocked4", "hash:ip", "enforce"),
        ("sipguard-blocked6", "hash:net family inet", "enforce"),
        ("sipguard-blocked4", "hash:net timeout 600", "enforce"),
        ("sipguard-blocked4", "hash:net comment", "enforce"),
        ("sipguard-watched4", "list:set", "observe"),
    ],
)
def test_set_of_our_name_but_another_kind_is_refused(pbx: Lab, name: str, made: str, mode: str) -> None:
    lab = pbx
    lab.pbx.run("ipset", "create", name, *made.split())
    message = lab.refused(MODULE, name="hosters", sources=list(LISTED.values()), mode=mode)
    assert message.startswith(f"the set {name} exists, but as {made.partition(' ')[0]}")
    assert message.endswith(f"; remove it with 'ipset destroy {name}' and run again")
    assert heard(lab, listed(4))
    lab.pbx.run("ipset", "destroy", name)
    run(lab, "hosters", *LISTED.values())
    assert blocks_listed(lab)


def test_refused_by_the_rules_before_a_set_is_filled(nft_lab: Lab) -> None:
    """What iptables cannot show, it cannot change; a set that is filled all the same would be left behind."""
    nft_lab.iptables("-t", "raw", "-A", "PREROUTING", "-p", "udp", "--dport", "53", "-j", "NOTRACK")
    nft_lab.pbx.run("nft", "add rule ip raw PREROUTING ct state new counter meta l4proto udp @th,16,16 5 accept")
    before = nft_lab.sets(), nft_lab.files()
    result = nft_lab.module(MODULE, name="hosters", sources=list(LISTED.values()))
    assert result.get("failed"), result
    assert "raw" in result["msg"]
    assert (nft_lab.sets(), nft_lab.files()) == before


@NFT
def test_leftover_of_somebody_else_is_no_obstacle(pbx: Lab) -> None:
    """A set aside that a killed run has left, whatever it was."""
    pbx.pbx.run("ipset", "create", "sipguard-blocked4-new", "hash:ip")
    run(pbx, "hosters", *LISTED.values())
    assert "-new" not in pbx.sets()
    assert blocks_listed(pbx)


@NFT
def test_sets_of_another_size_are_made_anew(pbx: Lab) -> None:
    """The size of a set is that of its list, so a list can never be too long for it."""
    lab = pbx
    run(lab, "hosters", *LISTED.values())
    many = [f"9.{high}.{low}.1" for high in range(10) for low in range(256)]
    run(lab, "hosters", *many, LISTED[4])
    made = next(line for line in lab.sets().splitlines() if line.startswith("create sipguard-blocked4 "))
    assert int(made.partition(" maxelem ")[2].split()[0]) > len(many) > 2000
    assert lab.member("sipguard-blocked", "9.9.255.1")
    assert not heard(lab, listed(4))
    run(lab, "hosters", LISTED[4])
    assert not heard(lab, listed(4))
    assert lab.sets().count("add sipguard-blocked4 ") == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"name": "../x", "sources": []}, "name: '../x' cannot be used"),
    "no_sources": ({"name": "x"}, "a list of sources, or the file of a feed"),
    "both": ({"name": "x", "sources": [], "feed": "/x"}, "mutually exclusive"),
    "no_name": ({"sources": ["8.8.8.8"]}, "missing: name"),
    "word": ({"name": "x", "sources": ["8.8.8.8", "example.com"]}, "sources: 'example.com' cannot be used"),
    "octal": ({"name": "x", "sources": ["010.8.8.8"]}, "octal"),
    "wide": ({"name": "x", "sources": ["8.0.0.0/8"]}, "wider than /9"),
    "everything": ({"name": "x", "sources": ["0.0.0.0/1"], "min_prefix": 1}, "more than one 8th"),
    "min_prefix": ({"name": "x", "sources": [], "min_prefix": 0}, "min_prefix: 0 cannot be used"),
    "never": ({"name": "x", "sources": [], "never": ["all"]}, "never: 'all' cannot be used"),
    "lock": ({"name": "x", "sources": [], "lock_timeout": 0}, "lock_timeout: 0 cannot be used"),
    "two_lines": ({"name": "x", "sources": ["8.8.8.8\n8.8.8.9"]}, "cannot be used"),
    "two_lines_around": ({"name": "x", "sources": ["8.8.8.8\n-\n8.8.8.9"]}, "cannot be used"),
}


@NFT
def test_bad_options_are_refused(pbx: Lab) -> None:
    run(pbx, "hosters", *LISTED.values())
    for options, said in REFUSED.values():
        assert said in pbx.refused(MODULE, **options)
    assert blocks_listed(pbx)


@NFT
def test_list_of_nobody_blocks_nobody(pbx: Lab) -> None:
    result = pbx.four_runs(MODULE, name="empty", sources=[])
    assert result["members"] == {"sipguard-blocked4": 0, "sipguard-blocked6": 0}
    for family in (4, 6):
        assert heard(pbx, listed(family))


@NFT
def test_networks_of_the_tests_are_no_bogons(pbx: Lab) -> None:
    """Otherwise what is tested here would not be blocked for the wrong reason."""
    run(pbx, "hosters", *NETWORKS["trunk"].values())
    assert pbx.member("sipguard-blocked", "203.0.113.1")
    assert pbx.member("sipguard-blocked", "2001:db8:3::1")
