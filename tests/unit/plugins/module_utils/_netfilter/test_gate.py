# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import gate
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4, IPV6, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.options import read_common
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import Selector, assemble, read_policy
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Rule
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import parse_save, render_chains
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.sets import sets_in_rules
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from tests.unit.plugins.module_utils._netfilter import samples
from tests.unit.plugins.module_utils._netfilter.gate_samples import GENERATION, SAMPLES, member, options, policy
from tests.unit.plugins.module_utils._netfilter.kernel import Kernel

GATE, NAMED, PASS, OTHER, TLS, HELLO, HIT, STOP = (
    f"SIPGUARD-GATE{name}" for name in ("", "-NAMED", "-PASS", "-OTHER", "-TLS", "-HELLO", "-HIT", "-STOP")
)
RELEASES = [f"{release}_{backend}" for release in ("1.8.7", "1.8.9", "1.8.13") for backend in ("legacy", "nft")]

both = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def rendered(rules: Iterable[Rule]) -> list[str]:
    return [rule.render() for rule in rules]


def chains(family: Family = IPV4, **given: Any) -> dict[str, tuple[Rule, ...]]:
    return dict(member(family, **given).chains)


def read(**given: Any) -> gate.GatePolicy:
    whole = options(**given)
    return gate.read_options(whole, read_common(whole))


# -- the text


@both
def test_ruleset_is_the_golden_one(family: Family) -> None:
    text = render_chains(assemble(policy(family, **SAMPLES[family]), GENERATION))
    assert text == (samples.FIXTURES / "rulesets" / f"gate.v{family.version}").read_text(encoding="utf-8")


@both
@pytest.mark.parametrize("release", RELEASES)
def test_every_release_prints_what_the_policy_wants(release: str, family: Family) -> None:
    path = samples.FIXTURES / "saved" / f"iptables-save_{release}_gate.v{family.version}"
    tables = parse_save(path.read_text(encoding="utf-8")).tables
    wanted = policy(family, **SAMPLES[family])
    live = {name: table.chains for name, table in tables.items() if table.chains}
    assert live == assemble(wanted, GENERATION)
    assert read_policy(family, live, "filter")[0] == wanted


def test_options_decide_which_rules_there_are() -> None:
    """One option at a time against the same rules, so that a wrong default cannot hide in a golden text."""
    usual = chains()
    for given, changed in (
        ({"domains": ["tel.example.org"]}, {GATE, NAMED, TLS, HELLO}),
        ({"methods": ["REGISTER"]}, {OTHER}),
        ({"trunks": ["203.0.113.7"]}, {GATE}),
        ({"tls_ports": ["5062"]}, {GATE}),
        ({"tls_ports": []}, {GATE, TLS, HELLO}),
        ({"sni": False}, {TLS, HELLO}),
        ({"tls_unreadable": "drop"}, {TLS, HELLO}),
        ({"other_traffic": "drop"}, {OTHER}),
        ({"learn_for": 60}, {HIT}),
        ({"never": ["192.0.2.7"]}, set()),
        ({"action": "reject"}, {STOP}),
        ({"mode": "observe"}, {HIT, STOP}),
    ):
        other = chains(**given)
        assert {name for name in usual if usual[name] != other.get(name)} == changed, given
        assert set(other) <= set(usual)


@both
def test_observe_stops_and_learns_nothing(family: Family) -> None:
    given = {
        "mode": "observe",
        "learn_for": 60,
        "tls_unreadable": "drop",
        "other_traffic": "drop",
        "never": ["192.0.2.7"],
    }
    tables = assemble(policy(family, **given), GENERATION)
    rules = [rule for table in tables.values() for found in table.values() for rule in found]
    assert {rule.target for rule in rules} & {"DROP", "REJECT", STOP} == set()
    assert sets_in_rules(rules) == [f"sipguard-{name}{family.suffix}" for name in ("trusted", "named", "observed")]
    assert list(tables) == ["filter"]


@both
@pytest.mark.parametrize("given", [{}, *SAMPLES.values()], ids=["default", "gate.v4", "gate.v6"])
def test_every_way_leaves_the_gate(family: Family, given: dict[str, Any]) -> None:
    """All jumps are gotos, no chain leads back to one that leads to it, and each of them is led to."""
    made = chains(family, **given)
    jumps = {name: {rule.target for rule in rules if rule.target in made} for name, rules in made.items()}
    assert all(rule.goto for rules in made.values() for rule in rules if rule.target in made)
    reached = [GATE]
    for name in reached:
        reached += [target for target in sorted(jumps[name]) if target not in reached]
        assert name not in jumps[name]
    assert set(reached) == set(made)
    order = [GATE, TLS, HELLO, NAMED, PASS, OTHER, HIT, STOP]
    assert all(order.index(name) < order.index(target) for name in made for target in jumps[name])


@both
def test_every_search_survives_fragments_and_case(family: Family) -> None:
    """But that for server names of others, of which whoever wants to hide one sends none."""
    for name, rules in chains(family, **SAMPLES[family]).items():
        for rule in rules:
            if "-m string" in rule.render() and rule.target != HIT:
                assert "--algo kmp --icase" in rule.render(), (name, rule)


# -- the names


def _kernel(*domains: str) -> Kernel:
    made = chains(domains=list(domains))
    return Kernel({NAMED: [line for line in rendered(made[NAMED]) if OTHER not in line], PASS: []}, PASS)


@pytest.mark.parametrize("before", [b"@", b"sip:", b"sips:", b"SIP:", b"sip:100@"])
@pytest.mark.parametrize("behind", [b">", b" ", b";", b":", b"\r", b"\n", b"?", b",", b"\t"])
def test_named_in_a_sip_address(before: bytes, behind: bytes) -> None:
    kernel = _kernel("other.example.net", "tel.example.com")
    assert kernel.hit(NAMED, b"INVITE " + before + b"Tel.example.COM" + behind + b"SIP/2.0") is not None


@pytest.mark.parametrize("before", [b" ", b'"', b"=", b"/", b"x", b".", b"-", b"@x.", b"sip:x", b"\n"])
@pytest.mark.parametrize("behind", [b">", b" ", b":", b"\r\n"])
def test_not_named_by_what_stands_before(before: bytes, behind: bytes) -> None:
    assert _kernel("tel.example.com").hit(NAMED, b"X: " + before + b"tel.example.com" + behind) is None


@pytest.mark.parametrize("behind", [b"", b".", b"x", b"-", b'"', b"@", b".evil.org>", b"%00", b"\0", b"/"])
def test_not_named_by_what_stands_behind(behind: bytes) -> None:
    assert _kernel("tel.example.com").hit(NAMED, b"X: sip:100@tel.example.com" + behind) is None


@pytest.mark.parametrize("length", [4, 99, 100])
def test_no_search_is_longer_than_the_kernel_allows(length: int) -> None:
    domain = ("a" * 60 + "." + "b" * 60)[: length - 3] + ".de"
    for rules in chains(domains=[domain]).values():
        for rule in rules:
            for match in rule.matches:
                if match.name == "string":
                    text = match.options[0].values[0]
                    assert 1 <= (len(text) if match.options[0].name == "--string" else (len(text) - 2) // 2) <= 128


def test_server_names_of_every_length_are_told_apart() -> None:
    found = [line.split("|")[1] for line in rendered(chains()[HELLO]) if "not ours" in line]
    assert len(set(found)) == 127
    for length in (1, 20, 127):
        # type, length of the extension, of the list, type of the name, length of the name (RFC 6066 section 3)
        name = b"\0" + length.to_bytes(2, "big")
        listed = (length + 3).to_bytes(2, "big") + name
        assert (b"\0\0" + (length + 5).to_bytes(2, "big") + listed).hex() in found
    assert rendered(chains()[HELLO])[0].split("|")[1] == (b"\0\0\x0ftel.example.com").hex()


# -- ports, protocols, families


@pytest.mark.parametrize(
    ("given", "selectors", "handshakes"),
    [
        ({}, ["udp 5060:5061", "tcp 5060:5061"], ["tcp 5061"]),
        ({"ports": ["5060"]}, ["udp 5060", "tcp 5060:5061"], ["tcp 5061"]),
        ({"ports": ["5060"], "sni": False}, ["udp 5060", "tcp 5060"], ["tcp 5061"]),
        ({"ports": ["5060"], "tls_ports": ["5063", "5070:5080"]}, ["udp 5060", "tcp 5060,5063,5070:5080"], ["tcp 5063,5070:5080"]),
        ({"tls_ports": []}, ["udp 5060:5061", "tcp 5060:5061"], []),
        ({"protocols": ["udp"]}, ["udp 5060:5061"], []),
        ({"protocols": ["tcp"]}, ["tcp 5060:5061"], ["tcp 5061"]),
        ({"interfaces": ["eth0", "wg+"], "ports": ["5060"]},
         ["udp 5060 eth0", "tcp 5060:5061 eth0", "udp 5060 wg+", "tcp 5060:5061 wg+"], ["tcp 5061 eth0", "tcp 5061 wg+"]),
    ],
    ids=str,
)  # fmt: skip
def test_traffic_that_is_led_here(given: dict[str, Any], selectors: list[str], handshakes: list[str]) -> None:
    made = member(IPV4, **given)
    assert made.selectors == tuple(Selector(*words.split()) for words in selectors)
    assert made.handshakes == tuple(Selector(*words.split()) for words in handshakes)
    # the same as that of the signatures, where the ports are: a packet comes by once
    if "ports" not in given:
        assert made.selectors == read_common(options(**given)).selectors


def test_rules_are_those_of_the_protocols() -> None:
    for protocol, other in (("udp", "tcp"), ("tcp", "udp")):
        made = chains(protocols=[protocol], learn_for=60, methods=["REGISTER"])
        lines = [line for rules in made.values() for line in rendered(rules)]
        assert not any(f"-p {other}" in line for line in lines)
        assert any(f"-p {protocol}" in line for line in lines)
        assert (TLS in made) is (protocol == "tcp")
        assert any("--ctdir" in line for line in lines) is (protocol == "udp")


def test_only_over_udp_has_the_pbx_opened_a_flow_to_its_own_port() -> None:
    found = [line for line in rendered(chains()[GATE]) if "--ctdir" in line]
    assert [line.split(" -m ")[0] for line in found] == [f"-A {GATE} -p udp"]
    assert all(line.endswith("-j RETURN") for line in found)


@both
def test_trunks_are_those_of_the_family(family: Family) -> None:
    trunks = ["203.0.113.7", "198.51.100.0/25", "198.51.100.128/25", "2001:db8:3::1-2001:db8:3::2"]
    found = [line.split()[3] for line in rendered(chains(family, trunks=trunks)[GATE]) if " -s " in line]
    expected = {IPV4: ["198.51.100.0/24", "203.0.113.7/32"], IPV6: ["2001:db8:3::1/128", "2001:db8:3::2/128"]}
    assert found == expected[family]


# -- learning


def test_hit_learns_what_scanners_send_and_tcp_after_its_handshake_only() -> None:
    never = ["192.0.2.7", "2001:db8::7"]
    hit = rendered(chains(learn_for=600, never=never)[HIT])
    assert hit[0] == f"-A {HIT} -s 192.0.2.7/32 -g {STOP}"
    assert hit[-1] == f"-A {HIT} -g {STOP}"
    learning = [
        line for line in hit[1:-1] if line.endswith("-j SET --add-set sipguard-offenders4 src --exist --timeout 600")
    ]
    assert learning == hit[1:-1]
    assert [line.split()[3] for line in learning] == ["udp"] * 3 + ["tcp"] * 4
    assert all("-m u32 --u32 " in line for line in learning)
    assert ["--ctstatus ASSURED" in line for line in learning] == [False] * 3 + [True] * 4
    assert (
        len(rendered(chains(learn_for=600, sni=False)[HIT]))
        == len(rendered(chains(learn_for=600, tls_ports=[])[HIT]))
        == 7
    )


def test_hit_without_learning_names_no_set_and_nobody() -> None:
    assert rendered(chains(never=["192.0.2.7"])[HIT]) == [f"-A {HIT} -g {STOP}"]
    assert "raw" not in assemble(policy(IPV4), GENERATION)
    assert "raw" in assemble(policy(IPV4, learn_for=1), GENERATION)


# -- what a change means for flows that are remembered


@pytest.mark.parametrize(
    ("before", "after", "less"),
    [
        ({}, {}, False),
        ({"domains": ["a.example"]}, {"domains": ["b.example"]}, True),
        ({"domains": ["a.example", "b.example"]}, {"domains": ["b.example"]}, True),
        ({"domains": ["a.example"]}, {"domains": ["b.example", "a.example"]}, False),
        ({"mode": "observe"}, {}, False),
        ({}, {"trunks": ["203.0.113.7"], "learn_for": 60, "other_traffic": "drop", "methods": ["REGISTER"]}, False),
        ({}, {"sni": False}, True),
        ({"sni": False}, {}, False),
    ],
    ids=str,
)  # fmt: skip
def test_passes_less(before: dict[str, Any], after: dict[str, Any], less: bool) -> None:
    assert gate.passes_less(member(IPV4, **before), member(IPV4, **after)) is less
    assert not gate.passes_less(None, member(IPV4, **after))


# -- bad input


@pytest.mark.parametrize(
    ("given", "option", "value"),
    [
        ({"domains": []}, "domains", []),
        ({"domains": ["tel.example.com", "pbx"]}, "domains", "pbx"),
        ({"methods": ["INVITE", "CALL"]}, "methods", "CALL"),
        ({"trunks": ["sip.example.com"]}, "trunks", "sip.example.com"),
        ({"trunks": ["192.0.2.1/24"]}, "trunks", "192.0.2.1/24"),
        ({"never": ["localhost"]}, "never", "localhost"),
        ({"tls_ports": ["5061:5060"]}, "tls_ports", "5061:5060"),
        ({"learn_for": -1}, "learn_for", -1),
        ({"learn_for": 2147484}, "learn_for", 2147484),
    ],
    ids=str,
)
def test_read_options_refuses(given: dict[str, Any], option: str, value: object) -> None:
    with pytest.raises(OptionError) as error:
        read(**given)
    assert (error.value.option, error.value.value) == (option, value)


def test_read_options_in_values() -> None:
    found = read(
        domains=["B.example.", "a.example", "b.example"], methods=["invite", "INVITE", "bye"], learn_for=2147483
    )
    assert (found.domains, found.methods, found.learn_for) == (["b.example", "a.example"], ["INVITE", "BYE"], 2147483)
    assert read(state="absent", domains=[]).domains == []
    assert [read(sni=sni, tls_unreadable="drop").stop_unreadable for sni in (True, False)] == [True, False]
