# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import limits
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    CHAIN_MAIN,
    CHAIN_RATE,
    FAMILIES,
    IPV4,
    IPV6,
    Family,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import assemble, read_policy
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Rule, parse_rule
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import parse_save, render_chains
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.limit_presets import LIMIT_PRESETS
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.methods import METHODS
from tests.unit.plugins.module_utils._netfilter import samples
from tests.unit.plugins.module_utils._netfilter.limit_samples import (
    GENERATION,
    SAMPLE,
    limit,
    member,
    options,
    policy,
)

RELEASES = [f"{version}_{backend}" for version in ("1.8.7", "1.8.9", "1.8.13") for backend in ("nft", "legacy")]
REQUEST, ODD, SSH, SEEN, STOP = (f"SIPGUARD-RATE-{name}" for name in ("REQUEST", "ODD", "SSH", "SEEN", "STOP"))

both = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def rendered(rules: Sequence[Rule]) -> list[str]:
    return [rule.render() for rule in rules]


# -- the text


@both
def test_ruleset_is_the_golden_one(family: Family) -> None:
    text = render_chains(assemble(policy(family, **SAMPLE), GENERATION))
    assert text == (samples.FIXTURES / "rulesets" / f"limits.v{family.version}").read_text(encoding="utf-8")


@both
@pytest.mark.parametrize("release", RELEASES)
def test_every_release_prints_what_the_policy_wants(release: str, family: Family) -> None:
    path = samples.FIXTURES / "saved" / f"iptables-save_{release}_limits.v{family.version}"
    tables = parse_save(path.read_text(encoding="utf-8")).tables
    wanted = policy(family, **SAMPLE)
    live = {name: table.chains for name, table in tables.items() if table.chains}
    assert live == assemble(wanted, GENERATION)
    assert read_policy(family, live, "filter")[0] == wanted


# -- options


def read(**given: Any) -> limits.RatePolicy:
    return limits.read_options(options(**given))


def summary(found: limits.RatePolicy) -> list[tuple[object, ...]]:
    return [(each.method, str(each.rate), each.burst, each.origin) for each in (*found.limits, *found.ssh)]


STANDARD = [
    ("REGISTER", "4/second", 300, "standard"),
    ("REGISTER", "20/second", 1500, "standard"),
    ("INVITE", "2/second", 150, "standard"),
    ("INVITE", "10/second", 750, "standard"),
    ("any", "100/second", 1000, "standard"),
]
OWN_SSH = {"rate": "3/min", "burst": None, "ports": ["2222"]}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, STANDARD),
        ({"presets": ["standard"]}, STANDARD),
        ({"limits": [limit()]}, [("REGISTER", "12/minute", 12, "limits")]),
        ({"ssh": OWN_SSH}, [("SSH", "3/minute", 5, "ssh")]),
        ({"presets": ["standard"], "limits": [limit("bye")]}, [*STANDARD, ("BYE", "12/minute", 12, "limits")]),
        ({"presets": ["standard"], "ssh": OWN_SSH}, [*STANDARD, ("SSH", "3/minute", 5, "ssh")]),
        ({"presets": ["dos-filter"], "ssh": OWN_SSH}, [("any", "5/second", 30, "dos-filter"), ("SSH", "3/minute", 5, "ssh")]),
        ({"presets": ["dos-filter", "dos-filter"]}, [("any", "5/second", 30, "dos-filter"), ("SSH", "3/minute", 10, "dos-filter")]),
        (
            {"presets": ["hostfirewall"]},
            [
                ("REGISTER", "12/minute", 0, "hostfirewall"),
                ("INVITE", "12/minute", 0, "hostfirewall"),
                ("any", "6/second", 5, "hostfirewall"),
            ],
        ),
        (
            {"presets": ["standard", "dos-filter"]},
            [*STANDARD, ("any", "5/second", 30, "dos-filter"), ("SSH", "3/minute", 10, "dos-filter")],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_read_options_makes_the_effective_list(given: dict[str, Any], found: list[tuple[object, ...]]) -> None:
    assert summary(read(**given)) == found


@pytest.mark.parametrize(
    ("rate", "burst"),
    [
        ("1/minute", 5),
        ("12/minute", 12),
        ("5/s", 5),
        ("2/day", 1),
        ("6/hour", 6),
        ("1000000/s", 1000000),
        ("20000/s", 20000),
    ],
)
def test_read_options_has_a_burst_for_every_rate(rate: str, burst: int) -> None:
    assert read(limits=[limit(rate=rate)]).limits[0].burst == burst


def test_read_options_leaves_out_what_is_there_twice() -> None:
    alike = [limit(), limit("register", "12/min"), limit(rate="720/hour", burst=12), limit(burst=12)]
    assert len(read(limits=alike).limits) == 1
    other = [limit(per="source_net"), limit("INVITE"), limit(burst=13), limit(rate="13/minute"), limit(engine="recent")]
    assert len(read(limits=alike + other).limits) == 6


@pytest.mark.parametrize(
    ("given", "option", "value", "right"),
    [
        ({"limits": [limit(rate="12")]}, "limits.rate", "12", "such as 12/minute"),
        ({"limits": [limit(burst=0)]}, "limits.burst", 0, "1 to 8640 packets would be right for 12/minute"),
        ({"limits": [limit(burst=8641)]}, "limits.burst", 8641, "1 to 8640 packets"),
        ({"limits": [limit(rate="1000/s", burst=9)]}, "limits.burst", 9, "10 to 1000000 packets"),
        ({"limits": [limit("REGISTRATE")]}, "limits.method", "REGISTRATE", "PUBLISH, or any"),
        ({"limits": [limit(engine="recent", rate="21/minute")]}, "limits.rate", "21/minute", "at most 20/minute with engine recent"),
        ({"limits": [limit(engine="recent", burst=5)]}, "limits.burst", 5, "engine recent has none"),
        ({"limits": [limit(ban_for=-1)]}, "limits.ban_for", -1, "0 (off) to 2147483 seconds"),
        ({"limits": [limit(ban_for=2147484)]}, "limits.ban_for", 2147484, "0 (off) to 2147483 seconds"),
        ({"limits": [limit(), limit(ban_for=60)]}, "limits.ban_for", 60, "the same limit is there with 0"),
        ({"presets": ["strict"]}, "presets", "strict", "one of standard, hostfirewall, dos-filter"),
        ({"ssh": {**OWN_SSH, "rate": "1"}}, "ssh.rate", "1", "such as 12/minute"),
        ({"ssh": {**OWN_SSH, "burst": 0}}, "ssh.burst", 0, "1 to 2160 packets would be right for 3/minute"),
        ({"ssh": {**OWN_SSH, "ports": ["70000"]}}, "ssh.ports", "70000", "1 to 65535"),
        ({"ssh": {**OWN_SSH, "ports": []}}, "ssh.ports", [], "1 to 15 ports"),
        ({"ssh": {**OWN_SSH, "ports": ["22", "5000:5060"]}}, "ssh.ports", ["22", "5000:5060"], "on different ports"),
        ({"presets": ["dos-filter"], "ports": ["20:30"]}, "ssh.ports", ["22"], "on different ports"),
        ({"never": ["sip.example.com"]}, "never", "sip.example.com", "it is a name"),
    ],
    ids=str,
)  # fmt: skip
def test_read_options_refuses(given: dict[str, Any], option: str, value: object, right: str) -> None:
    with pytest.raises(OptionError) as error:
        read(**given)
    assert (error.value.option, error.value.value) == (option, value)
    assert right in error.value.expected
    assert read(**given, state="absent") == limits.RatePolicy((), (), "", ())


# -- the way of a packet

METHOD = st.sampled_from([*METHODS, "any"])
hashlimits = st.builds(
    limit,
    METHOD,
    st.sampled_from(["12/minute", "60/minute", "1/second", "700/min", "2/day", "3000/second"]),
    per=st.sampled_from(["source", "source_net"]),
)
recents = st.builds(limit, METHOD, st.sampled_from(["12/minute", "20/hour", "2/day"]), engine=st.just("recent"),
                    per=st.sampled_from(["source", "source_net"]))  # fmt: skip
policies = st.fixed_dictionaries(
    {
        "limits": st.lists(st.one_of(hashlimits, recents), max_size=12),
        "ssh": st.sampled_from([None, OWN_SSH]),
        "mode": st.sampled_from(["enforce", "observe"]),
        "protocols": st.sampled_from([["udp"], ["tcp"], ["udp", "tcp"]]),
        "presets": st.lists(st.sampled_from(list(LIMIT_PRESETS)), max_size=2),
    }
)


@given(policies, st.sampled_from(FAMILIES))
def test_whoever_is_trusted_has_left_before_any_table(given: dict[str, Any], family: Family) -> None:
    """A full hashlimit table drops by itself whoever is not in it, whatever its rule leads to."""
    chains = assemble(policy(family, **given), GENERATION)["filter"]
    met: set[str] = set()

    def walk(chain: str, trusted_left: bool) -> None:
        for rule in chains[chain]:
            names = {match.name for match in rule.matches}
            if names & {"hashlimit", "recent"}:
                assert trusted_left, rule.render()
                met.add(rule.render())
            # what one of the matches besides the set is about, all rules of this chain behind it are about too
            others = [(match, rule.header) for match in rule.matches if match.name != "set"]
            if rule.target == "RETURN" and rule.sets() == [f"sipguard-trusted{family.suffix}"]:
                rest = chains[chain][chains[chain].index(rule) + 1 :]
                assert all(
                    (match, header) in [(m, after.header) for m in after.matches]
                    for match, header in others
                    for after in rest
                )
                trusted_left = True
            if rule.target in chains:
                walk(rule.target, trusted_left)

    walk(CHAIN_MAIN, False)
    every = {
        rule.render() for rules in chains.values() for rule in rules if rule.match("hashlimit") or rule.match("recent")
    }
    assert met == every != set()


@given(policies, st.sampled_from(FAMILIES))
def test_each_limit_has_tables_of_its_own(given: dict[str, Any], family: Family) -> None:
    rules = [rule for rules in member(family, **given).chains.values() for rule in rules]
    hashes = [match for rule in rules for match in rule.matches if match.name == "hashlimit"]
    recent = [match for rule in rules for match in rule.matches if match.name == "recent"]
    names = [option.values[0] for match in hashes for option in match.options if option.name == "--hashlimit-name"]
    wanted = read(**given)
    assert len(hashes) == len(set(names)) == sum(each.engine == "hashlimit" for each in (*wanted.limits, *wanted.ssh))
    lists = [option.values[0] for match in recent for option in match.options if option.name == "--name"]
    assert len(lists) == 2 * len(set(lists)) == 2 * sum(each.engine == "recent" for each in wanted.limits)
    for name in (*names, *lists):
        assert re.fullmatch(rf"sipguard{family.suffix}-[a-z0-9-]{{1,80}}", name)


@both
@pytest.mark.parametrize(
    "change", [{"rate": "13/minute"}, {"burst": 13}, {"per": "source_net"}, {"method": "INVITE"}], ids=str
)
def test_whatever_is_changed_makes_another_table(family: Family, change: dict[str, Any]) -> None:
    """A restore goes on with a table it finds by name, with the numbers of the rule that is about to go."""

    def table(**more: Any) -> str:
        text = render_chains(assemble(policy(family, limits=[limit(**more)]), GENERATION))
        return re.findall(r"--hashlimit-name (\S+)", text)[0]

    assert table(burst=12) != table(**{"burst": 12, **change})


@given(policies, st.sampled_from(FAMILIES))
def test_rules_can_be_read_back(given: dict[str, Any], family: Family) -> None:
    wanted = policy(family, **given)
    tables = assemble(wanted, GENERATION)
    for chains in tables.values():
        for rules in chains.values():
            assert [parse_rule(rule.render()) for rule in rules] == list(rules)
    assert read_policy(family, tables, "filter")[0] == wanted


@both
def test_over_a_limit_is_the_end_and_not_a_way_round(family: Family) -> None:
    """Nothing accepts, and what is over a limit does not come back from where it is sent."""
    chains = member(family, **SAMPLE).chains
    for rules in chains.values():
        for rule in rules:
            over = [match for match in rule.matches if match.name == "hashlimit" or "--hitcount" in match.render()]
            assert not over or rule.goto
            assert rule.target != "ACCEPT"
    assert [rule.target for rule in chains[STOP]] == ["REJECT", "REJECT"]
    for name, rules in chains.items():
        if name.startswith("SIPGUARD-RATE-BAN"):
            assert (rules[-1].target, rules[-1].goto, rules[-1].matches, rules[-1].header) == (STOP, True, (), ())


@both
def test_ban_spares_never_and_learns_a_tcp_source_after_its_handshake_only(family: Family) -> None:
    given: dict[str, Any] = {"limits": [limit(ban_for=600), limit("INVITE")], "never": ["192.0.2.7", "2001:db8::/32"]}
    made = member(family, **given)
    chain = "SIPGUARD-RATE-BAN600"
    spared = "192.0.2.7/32" if family.version == 4 else "2001:db8::/32"
    learn = f"-j SET --add-set sipguard-offenders{family.suffix} src --exist --timeout 600"
    assert rendered(made.chains[chain]) == [
        f"-A {chain} -s {spared} -g {STOP}",
        f"-A {chain} -p udp {learn}",
        f"-A {chain} -p tcp -m conntrack --ctstatus ASSURED {learn}",
        f"-A {chain} -g {STOP}",
    ]
    assert [rule.target for rule in made.chains["SIPGUARD-RATE-REGISTER"]] == [chain]
    assert [rule.target for rule in made.chains["SIPGUARD-RATE-INVITE"]] == [STOP]
    assert made.feeds(f"sipguard-offenders{family.suffix}")
    assert not member(family, limits=[limit()], never=given["never"]).feeds(f"sipguard-offenders{family.suffix}")


@both
def test_observe_stops_nothing(family: Family) -> None:
    tables = assemble(policy(family, **{**SAMPLE, "mode": "observe", "action": "drop"}), GENERATION)
    rules = [rule for chains in tables.values() for found in chains.values() for rule in found]
    assert {rule.target for rule in rules} & {"DROP", "REJECT"} == set()
    assert list(tables) == ["filter"]
    assert {rule.target for rule in rules if rule.match("hashlimit")} == {SEEN}
    assert rendered(tables["filter"][SEEN]) == [
        f"-A {SEEN} -j SET --add-set sipguard-observed{family.suffix} src --exist --timeout 604800"
    ]


def test_recent_is_asked_first_and_told_last() -> None:
    """What another limit drops is not written down, and a packet over the recent limit costs nobody a token."""
    rules = member(IPV4, limits=[limit(), limit(engine="recent"), limit(rate="1/s")]).chains["SIPGUARD-RATE-REGISTER"]
    said = [
        ("--rcheck" if "--rcheck" in text else "--set" if "--set" in text else "hashlimit") for text in rendered(rules)
    ]
    assert said == ["--rcheck", "hashlimit", "hashlimit", "--set"]


@both
@pytest.mark.parametrize("method", ["REGISTER", "any"])
def test_networks_are_counted_behind_addresses(family: Family, method: str) -> None:
    """Whatever way a packet takes, and in whatever order the limits are written."""
    given = [limit(method, per="source_net"), limit(), limit("any", "1/s"), limit("any", "2/s", engine="recent")]
    chains = assemble(policy(family, limits=given), GENERATION)["filter"]

    def ways(chain: str) -> Iterator[list[str]]:
        """The prefixes for which the tables count that a packet meets, for every way on which nothing drops it."""
        met: list[str] = []
        for rule in chains[chain]:
            hashes = rule.match("hashlimit")
            if hashes is not None:
                (name,) = [option.values[0] for option in hashes.options if option.name == "--hashlimit-name"]
                met.append(name.rpartition("-")[2])
            elif rule.target in chains and rule.goto and rule.target != STOP:
                yield from ([*met, *further] for further in ways(rule.target))
                if not (rule.matches or rule.header):
                    return
        yield met

    address, network = ("32", "24") if family.version == 4 else ("128", "64")
    found = list(ways(CHAIN_RATE))
    assert [address, address, network] in found
    assert all(way == sorted(way, key=lambda prefix: prefix != address) for way in found)
    if method == "any":
        assert {way[-1] for way in found} == {network}


def test_ssh_counts_new_connections_on_the_interfaces_given() -> None:
    made = member(IPV4, ssh=OWN_SSH, interfaces=["eth0", "wg+"], protocols=["udp"])
    assert made.selectors == ()
    assert made.chains[CHAIN_RATE] == ()
    assert [(selector.protocol, selector.ports, selector.interface, chain) for selector, chain in made.asides] == [
        ("tcp", "2222", "eth0", SSH),
        ("tcp", "2222", "wg+", SSH),
    ]
    assert all(" -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN " in text for text in rendered(made.chains[SSH]))


# -- which packets are looked at


def u32(expression: str, packet: bytes) -> bool:
    """xt_u32 for tests of IPv4 and UDP: ``0x0>>0x16&0x3c@OFFSET OPERATIONS=VALUES`` (kernel: net/netfilter/xt_u32.c)."""
    found = re.fullmatch(r"0x0>>0x16&0x3c@0x8(&|>>)(0x[0-9a-f]+)=(.*)", expression)
    assert found, expression
    if len(packet) < 4:
        return False
    word = int.from_bytes(packet[:4], "big")
    value = word & int(found[2], 16) if found[1] == "&" else word >> int(found[2], 16)
    ranges = [(part.split(":") * 2)[:2] for part in found[3].split(",")]
    return any(int(low, 16) <= value <= int(high, 16) for low, high in ranges)


def led_to(chain: str, rules: dict[str, tuple[Rule, ...]], packet: bytes) -> str:
    """The chain to which the u32 rules of one chain lead a UDP packet, "" for none."""
    for rule in rules[chain]:
        match = rule.match("u32")
        if match is not None and u32(match.options[0].values[0], packet):
            return rule.target
    return ""


@given(
    st.lists(st.sampled_from(METHODS), min_size=1, unique=True),
    st.sampled_from(METHODS),
    st.randoms(),
    st.binary(max_size=9),
)
def test_limited_methods_are_found_and_others_leave_at_once(
    limited: list[str], method: str, dice: Any, rest: bytes
) -> None:
    rules = dict(member(IPV4, limits=[limit(each) for each in limited], protocols=["udp"]).chains)
    spelled = "".join(dice.choice((char, char.lower())) for char in method).encode() + b" sip:" + rest
    if method in limited:
        assert led_to(CHAIN_RATE, rules, spelled) == REQUEST
        assert led_to(REQUEST, rules, spelled) == f"SIPGUARD-RATE-{method}"
    else:
        assert led_to(CHAIN_RATE, rules, spelled) == ""


@given(st.integers(1, 32), st.binary(min_size=3, max_size=9))
def test_what_a_parser_may_skip_is_searched(first: int, rest: bytes) -> None:
    rules = dict(member(IPV4, limits=[limit()], protocols=["udp"]).chains)
    packet = bytes([first]) + rest
    assert (led_to(CHAIN_RATE, rules, packet), led_to(REQUEST, rules, packet)) == (REQUEST, ODD)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\r\n",
        b"\0",
        b"SIP/2.0 200 OK",
        b"ACK sip:",
        b"BYE sip:",
        b"REFER sip:",
        b"INFO sip:",
        b"\x80\0\0\0",
        b"xREGISTER",
    ],
)
def test_what_no_limit_is_about_leaves_after_one_look(packet: bytes) -> None:
    rules = dict(member(IPV4, limits=[limit(), limit("INVITE")], protocols=["udp"]).chains)
    assert len(rules[CHAIN_RATE]) == 1
    assert led_to(CHAIN_RATE, rules, packet) == ""


@pytest.mark.parametrize("packet", [b"\0\1\0\x08!\x12\xa4B", bytes(4)], ids=["stun", "zeros"])
def test_keep_alives_are_not_searched(packet: bytes) -> None:
    rules = dict(member(IPV4, limits=[limit()], protocols=["udp"]).chains)
    assert led_to(REQUEST, rules, packet) == ""


def test_tls_records_leave_after_one_look() -> None:
    rules = member(IPV6, limits=[limit()], protocols=["tcp"]).chains[CHAIN_RATE]
    values = rendered(rules)[0].split("&0xdfdfdfdf=")[1].split('"')[0]
    ranges = [(part.split(":") * 2)[:2] for part in values.split(",")]
    for kind in range(0x14, 0x18):
        word = kind << 24 | 0x030000
        assert not any(int(low, 16) <= word <= int(high, 16) for low, high in ranges)


# -- xt_recent as it is loaded


def parameters(directory: Path, **given: object) -> str:
    for name, value in given.items():
        (directory / name).write_text(f"{value}\n")
    return str(directory)


RECENT = {"limits": [limit(engine="recent"), limit("INVITE", "20/hour", engine="recent")]}


@pytest.mark.parametrize(
    ("given", "sources"),
    [({"ip_list_tot": 100}, "100"), ({"ip_list_tot": 512, "ip_pkt_list_tot": 20}, "512"), ({}, "100")],
)
def test_warnings_say_how_little_recent_remembers(tmp_path: Path, given: dict[str, int], sources: str) -> None:
    (warning,) = limits.warnings(read(**RECENT), parameters(tmp_path, **given))
    assert f"keeps {sources} sources" in warning
    assert "hashlimit" in warning


def test_warnings_say_nothing_where_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert limits.warnings(read(**RECENT), parameters(tmp_path, ip_list_tot=4096, ip_pkt_list_tot=254)) == []
    assert limits.warnings(read(), parameters(tmp_path, ip_list_tot=1, ip_pkt_list_tot=1)) == []


def test_warnings_refuse_what_this_kernel_would(tmp_path: Path) -> None:
    with pytest.raises(
        SipguardError, match=r"ip_pkt_list_tot=19, so engine recent cannot count to 20; nothing was changed"
    ):
        limits.warnings(read(**RECENT), parameters(tmp_path, ip_pkt_list_tot=19))
