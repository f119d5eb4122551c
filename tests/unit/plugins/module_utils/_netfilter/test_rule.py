# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import matches as m
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import (
    Option,
    Rule,
    parse_rule,
    quote,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter import samples

names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,27}", fullmatch=True)
numbers = st.integers(0, 0xFFFFFFFF)
patterns = st.one_of(
    st.binary(min_size=1, max_size=128),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128).map(str.encode),
)
ports = st.lists(st.integers(1, 65535).map(str), min_size=1, max_size=15).map(",".join)
words = st.sampled_from([b"SIP/2.0 ", b"INVITE sip:", b"abcd"])

product_matches = st.one_of(
    st.builds(m.string, patterns, ignore_case=st.booleans(), negated=st.booleans()),
    st.builds(m.ports, ports),
    st.builds(m.in_set, names, negated=st.booleans()),
    st.builds(m.connmark, numbers, numbers, negated=st.booleans()),
    st.builds(m.packet_mark, numbers, numbers),
    st.builds(lambda text: m.comment("prefix " + text), st.text()),
    st.builds(m.starts_with, st.sampled_from(FAMILIES), st.sampled_from(["udp", "tcp"]), words),
)
headers = st.lists(
    st.one_of(
        st.sampled_from(["udp", "tcp"]).map(m.protocol),
        st.sampled_from(["eth0", "wg+", "enp0s31f6.7"]).map(m.interface),
        st.sampled_from(["192.0.2.7/32", "2001:db8::/32"]).map(m.source),
    ),
    max_size=3,
    unique_by=lambda option: option.name,
).map(tuple)
plain_rules = st.builds(
    Rule,
    names,
    st.lists(product_matches, max_size=4).map(tuple),
    st.one_of(st.sampled_from(["", "DROP", "RETURN"]), names),
    header=headers,
)
learning = st.builds(m.learn, names, st.sampled_from(["udp", "tcp"]), names, st.integers(1, 2147483))
rejecting = st.builds(
    lambda rule, how: Rule(rule.chain, rule.matches, "REJECT", (Option("--reject-with", (how,)),), rule.header),
    plain_rules,
    st.sampled_from(["tcp-reset", "icmp-port-unreachable", "icmp6-adm-prohibited"]),
)
gotos = st.builds(lambda rule, name: Rule(rule.chain, rule.matches, name, (), rule.header, True), plain_rules, names)
product_rules = st.one_of(
    plain_rules,
    gotos,
    learning,
    rejecting,
    st.builds(m.set_connmark, plain_rules, numbers, numbers),
    st.builds(m.set_packet_mark, plain_rules, numbers, numbers),
)


@given(product_rules)
def test_parse_rule_is_the_inverse_of_render(rule: Rule) -> None:
    assert parse_rule(rule.render()) == rule


@given(product_rules)
def test_render_stays_on_one_line_without_control_characters(rule: Rule) -> None:
    assert rule.render().isprintable()


# Lines that iptables-save prints, and what they mean: each is read into the value, and the value is written as the line.
LINES = [
    ("-A SIPGUARD", Rule("SIPGUARD")),
    ("-A X -j DROP", Rule("X", target="DROP")),
    ("-A X -g Y", Rule("X", target="Y", goto=True)),
    (
        "-A X -s 192.0.2.0/24 -i eth0 -p udp -j Y",
        Rule("X", (), "Y", (), (m.source("192.0.2.0/24"), m.interface("eth0"), m.protocol("udp"))),
    ),
    ("-A X ! -s 192.0.2.7/32 -j Y", Rule("X", (), "Y", (), (Option("-s", ("192.0.2.7/32",), True),))),
    ('-A X -m string --string "-" --algo bm -j Y', Rule("X", (m.string(b"-"),), "Y")),
    ('-A X -m string --string "!" --algo bm -j Y', Rule("X", (m.string(b"!"),), "Y")),
    ('-A X -m string --string "-j" --algo bm -j Y', Rule("X", (m.string(b"-j"),), "Y")),
    (
        '-A X -m string ! --string "say \\"hi\\"" --algo bm --icase',
        Rule("X", (m.string(b'say "hi"', ignore_case=True, negated=True),)),
    ),
    ('-A X -m string --hex-string "|0d0a|" --algo bm -j Y', Rule("X", (m.string(b"\r\n"),), "Y")),
    ('-A X -m string --hex-string "|5c|" --algo bm -j Y', Rule("X", (m.string(b"\\"),), "Y")),
    ('-A X -m string --string "a\\\\b" --algo bm -j Y', Rule("X", (m.string(b"a\\b"),), "Y")),
    ('-A X -m string --string "\\\\\\"" --algo bm -j Y', Rule("X", (m.string(b'\\"'),), "Y")),
    ("-A X -i -x -j Y", Rule("X", (), "Y", (), (m.interface("-x"),))),
    ("-A X ! -i -x -p udp", Rule("X", header=(Option("-i", ("-x",), True), m.protocol("udp")))),
    ("-A X -m comment --comment plain -j Y", Rule("X", (m.comment("plain"),), "Y")),
    ('-A X -m comment --comment "two words" -j Y', Rule("X", (m.comment("two words"),), "Y")),
    ('-A X -m comment --comment "x;y" -j Y', Rule("X", (m.comment("x;y"),), "Y")),
    (
        "-A X -m set ! --match-set sipguard-trusted4 src -j Y",
        Rule("X", (m.in_set("sipguard-trusted4", negated=True),), "Y"),
    ),
    ("-A X -m connmark ! --mark 0x0/0xc000000", Rule("X", (m.connmark(0, 0xC000000, negated=True),))),
    (
        "-A X -j SET --add-set sipguard-offenders6 src --exist --timeout 3600",
        Rule(
            "X",
            (),
            "SET",
            (
                Option("--add-set", ("sipguard-offenders6", "src")),
                Option("--exist"),
                Option("--timeout", ("3600",)),
            ),
        ),
    ),
]


@pytest.mark.parametrize(("line", "rule"), LINES, ids=[line for line, _rule in LINES])
def test_rule_and_line_are_the_same(line: str, rule: Rule) -> None:
    assert parse_rule(line) == rule
    assert rule.render() == line


def test_parse_rule_drops_the_search_end_that_old_releases_print() -> None:
    old = '-A X -m string --string "sipcli" --algo bm --to 65535 --icase -j Y'
    assert parse_rule(old) == Rule("X", (m.string(b"sipcli", ignore_case=True),), "Y")


def test_parse_rule_keeps_a_search_end_that_somebody_chose() -> None:
    line = '-A X -m string --string "sipcli" --algo bm --to 200 -j Y'
    assert parse_rule(line) != Rule("X", (m.string(b"sipcli"),), "Y")
    assert parse_rule(line).render() == line


def foreign_lines() -> list[str]:
    """Every rule of ufw, fail2ban and Docker that any captured release printed."""
    lines = {
        line
        for sample in ("enforce", "reject")
        for _family, text in samples.saved(sample).values()
        for line in text.splitlines()
        if line.startswith("-A ") and "SIPGUARD" not in line
    }
    return sorted(lines)


@pytest.mark.parametrize("line", foreign_lines())
def test_rules_of_other_programs_in_our_chains_can_be_written_back(line: str) -> None:
    # iptables 1.8.7 nft prints a second blank after --rsource, 1.8.13 one before a comment: blanks mean nothing here.
    assert parse_rule(line).render().split() == line.split()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "-A",
        ":SIPGUARD - [0:0]",
        "-N SIPGUARD",
        "word",
    ],
)
def test_parse_rule_refuses_what_is_no_rule(line: str) -> None:
    with pytest.raises(SipguardError, match="not a rule of iptables-save"):
        parse_rule(line)


@pytest.mark.parametrize(
    "line",
    ["-A X word", '-A X -m comment --comment "never closed', '-A X "-j" Y', '-A X "!" -j Y'],
)
def test_rule_that_cannot_be_read_is_kept_as_it_stands(line: str) -> None:
    rule = parse_rule(line)
    assert (rule.chain, rule.render()) == ("X", line)
    assert (rule.matches, rule.target, rule.header) == ((), "", ())
    assert rule != Rule("X")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_parse_rule_reads_whatever_stands_behind_a_chain(text: str) -> None:
    rule = parse_rule(f"-A X {text}")
    assert rule.chain == "X"
    assert not rule.unread or rule.render() == f"-A X {text}"


@pytest.mark.parametrize(
    ("printed", "meant"),
    [("17", "udp"), ("6", "tcp"), ("58", "ipv6-icmp"), ("icmpv6", "ipv6-icmp"), ("igmp", "2"), ("gre", "47"), ("vrrp", "112"),
     ("50", "esp"), ("udp", "udp"), ("132", "132")],
)  # fmt: skip
def test_protocols_have_one_form_however_they_are_printed(printed: str, meant: str) -> None:
    """By number without /etc/protocols (1.8.7), or always (1.8.13, where iptables has no name of its own), else by name."""
    assert parse_rule(f"-A X -p {printed} -j RETURN") == Rule("X", (), "RETURN", header=(m.protocol(meant),))
    assert parse_rule(f"-A X ! -p {printed} -j RETURN").header == (replace(m.protocol(meant), negated=True),)


@pytest.mark.parametrize(
    ("value", "option", "written"),
    [
        ("eth0", "-i", "eth0"),
        ("0x100/0x300", "--mark", "0x100/0x300"),
        ("", "--comment", '""'),
        ("a_b-C9", "--comment", "a_b-C9"),
        ("a.b", "--comment", '"a.b"'),
        ("it's", "--comment", '"it\\\'s"'),
        ("it's", "--string", '"it\'s"'),
        ('say "hi"', "--string", '"say \\"hi\\""'),
        ("back\\slash", "--comment", '"back\\\\slash"'),
        ("plain", "--string", '"plain"'),
        ("[UFW BLOCK] ", "--log-prefix", '"[UFW BLOCK] "'),
    ],
)
def test_quote_writes(value: str, option: str, written: str) -> None:
    assert quote(value, option) == written


def test_match_finds_the_first_of_a_name() -> None:
    first, second = m.string(b"one"), m.string(b"two")
    rule = Rule("X", (m.ports("5060"), first, second))
    assert rule.match("string") == first
    assert rule.match("u32") is None
