# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark of floods makes of what sipp, nft and Asterisk say."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace

import pytest

from tests.bench import flood, flood_hosts, flood_rules
from tests.bench.flood import CALM, Attack, Sample

# The end of what sipp 3.6.1 leaves on its standard output; the screen before it is of the middle of the run.
SCREEN = """\
  Successful call        |       12                  |       47
  Failed call            |        0                  |        0
------------------------------ Test Terminated --------------------------------
----------------------------- Statistics Screen ------- [1-9]: Change Screen --
  Outgoing calls created |        0                  |      120
  Total Calls created    |                           |      120
-------------------------+---------------------------+--------------------------
  Successful call        |        3                  |      107
  Failed call            |        0                  |       13
"""

MANY = Attack(5000)
CALM_16 = Sample("16", "nothing", CALM, 100, 100, 0, 0, 0.05, 0.0)
OURS_16 = Sample("16", "ours", MANY, 100, 100, 1000, 0, 0.06, 0.0)


def test_calls_are_those_of_the_last_screen() -> None:
    assert flood.completed(SCREEN) == 107


def test_what_is_no_screen_is_not_counted_as_nothing() -> None:
    with pytest.raises(AssertionError, match="bind failed"):
        flood.completed("2026-11-21 sipp: bind failed\n")


def test_reached_is_the_counter_of_the_only_rule() -> None:
    # nft 1.0.6
    match = {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 5060}}
    rule = {"family": "ip", "table": "bench", "chain": "reached", "handle": 2}
    listing = [
        {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
        {"table": {"family": "ip", "name": "bench", "handle": 1}},
        {"chain": {"family": "ip", "table": "bench", "name": "reached", "handle": 1, "hook": "input", "prio": 400}},
        {"rule": rule | {"expr": [match, {"counter": {"packets": 29998, "bytes": 14721910}}]}},
    ]
    assert flood_rules.reached(json.dumps({"nftables": listing})) == 29998


def test_published_rules_come_in_their_published_order() -> None:
    rules = [line for line in flood_rules.published("192.0.2.0/28", "192.0.2.34").splitlines() if line.startswith("-A")]
    marks = [
        "fail2ban-ASTERISK",
        "voip_bl",
        "10000:20000",
        "192.0.2.34",
        "friendly-scanner",
        "REGISTER sip:",
        "INVITE sip:",
    ]
    marks += ["hashlimit", "5038", "--dport 443", "ESTABLISHED"]
    places = [next(number for number, rule in enumerate(rules) if mark in rule) for mark in marks]
    assert places == sorted(places)
    assert rules[-1] == "-A INPUT -j DROP"


@pytest.mark.parametrize("port", ["22", "5038", "10000", "445", "514"])
def test_published_rules_keep_the_sites_own_services_to_the_site(port: str) -> None:
    rules = flood_rules.published("192.0.2.0/28", "192.0.2.34").splitlines()
    accepting = [rule for rule in rules if f"--dport {port} " in rule and rule.endswith("ACCEPT")]
    assert accepting
    assert all("-s 192.0.2.0/28" in rule for rule in accepting)


def test_sources_are_nobodys_neighbours_and_never_the_same() -> None:
    network = ipaddress.ip_network(flood_hosts.ATTACKERS)
    found = [ipaddress.ip_address(flood_hosts.spread(flood_hosts.ATTACKERS, number)) for number in range(40000)]
    assert [str(address) for address in (*found[:2], found[16384])] == ["100.64.0.1", "100.64.1.1", "100.64.0.2"]
    assert len(set(found)) == len(found)
    assert all(address in network for address in found)
    assert len({int(address) // 256 for address in found[7000:12000]}) == 5000


def test_figures_pool_calls_and_compare_within_a_round() -> None:
    rounds = [
        [OURS_16, CALM_16],
        [replace(CALM_16, processor=0.10), replace(OURS_16, completed=97, reached=30, processor=0.11)],
        [CALM_16, replace(OURS_16, processor=0.20)],
    ]
    calm, ours = flood.figures(rounds)
    assert (calm.protection, calm.attack, calm.ratio, calm.reached) == ("nothing", "no attack", 1.0, 0.0)
    assert ours.completed == pytest.approx(0.99)
    assert ours.reached == pytest.approx(0.01)
    assert ours.processor == pytest.approx(0.11)
    assert (ours.low, ours.ratio, ours.high) == pytest.approx((1.1, 1.2, 4.0))


def test_figures_keep_attackers_who_know_the_domain_apart() -> None:
    informed = replace(OURS_16, attack=Attack(5000, informed=True), processor=0.5)
    ours = [figure for figure in flood.figures([[informed, OURS_16, CALM_16]]) if figure.protection == "ours"]
    assert [figure.attack for figure in ours] == ["5000 sources", "5000 sources, knows the domain"]
    assert [figure.ratio for figure in ours] == pytest.approx([1.2, 10.0])


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (OURS_16, "goal 99%: reached, 1.3 x calm: reached"),
        (replace(OURS_16, completed=98), "goal 99%: missed, 1.3 x calm: reached"),
        (replace(OURS_16, processor=0.07), "goal 99%: reached, 1.3 x calm: missed"),
    ],
)
def test_table_says_whether_a_goal_is_reached(sample: Sample, said: str) -> None:
    lines = flood.table(flood.figures([[CALM_16, sample]])).splitlines()
    assert [line.endswith(said) for line in lines if line.startswith("ours")] == [True]


def test_table_has_no_goal_for_others() -> None:
    assert "goal" not in flood.table(flood.figures([[CALM_16, replace(OURS_16, protection="fail2ban")]]))
