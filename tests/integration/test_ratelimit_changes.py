# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits come, change and go: beside the rules of others, beside our own, and in the kernel's tables of sources."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rates import Rate
from tests.integration.harness import rules, sip
from tests.integration.harness.floods import deliver, sent, somebody, through, widen
from tests.integration.harness.lab import WAYS, Lab
from tests.integration.harness.modules import environment
from tests.integration.harness.netns import Namespace

LIMIT = "sip_ratelimit"


def _limit(method: str = "REGISTER", burst: int = 5, rate: str = "10/hour", **more: Any) -> dict[str, Any]:
    return {"method": method, "rate": rate, "burst": burst, **more}


def _apply(lab: Lab, *limits: dict[str, Any], **options: Any) -> dict[str, Any]:
    return lab.apply(LIMIT, limits=list(limits), **options)


METHODS = ("REGISTER", "INVITE", "OPTIONS", "ACK", "BYE", "CANCEL", "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "UPDATE",
           "PRACK", "INFO", "PUBLISH", "any")  # fmt: skip
POLICIES: dict[str, dict[str, Any]] = {
    "standard": {},
    "hostfirewall": {"presets": ["hostfirewall"]},
    "dos-filter": {"presets": ["dos-filter"], "ports": ["5060", "5080"]},
    "all_presets_rejecting": {
        "presets": ["standard", "hostfirewall", "dos-filter"],
        "action": "reject",
        "reject_with": "tcp-reset",
        "interfaces": ["phone", "wg+"],
    },
    "every_method": {
        "limits": [
            {"method": method, "rate": "20/minute", "engine": engine, "per": per, "ban_for": ban_for}
            for engine, per, ban_for in (
                ("recent", "source", 0),
                ("hashlimit", "source_net", 60),
                ("recent", "source_net", 2147483),
            )
            for method in METHODS
        ],
        "never": ["198.51.100.0/24", "2001:db8:1::/64"],
        "table": "mangle",
        "protocols": ["tcp"],
    },
    "observing": {"mode": "observe", "limits": [_limit(ban_for=60), _limit("any", 500, "700/minute")]},
    "ssh_only": {"ssh": {"rate": "2/day", "burst": 1, "ports": ["22", "2222:2230"]}},
}


def _foreign(lab: Lab) -> dict[str, str]:
    kept = {f"{family}": rules.foreign_part(lab.save(family)) for family in (4, 6)}
    return {**kept, "sets": "\n".join(line for line in lab.sets().splitlines() if " sipguard-" not in line)}


def _kernel_tables(lab: Lab) -> str:
    return lab.pbx.run("ls", "/proc/net/ipt_hashlimit", "/proc/net/ip6t_hashlimit", "/proc/net/xt_recent")


def test_each_policy_four_runs_beside_others_and_away_again(lab: Lab) -> None:
    lab.pbx.run("ipset", "restore", stdin=rules.FOREIGN_SETS)
    for family, lan, banned, reject in (
        (4, "172.17.0.0/16", "203.0.113.200/32", "icmp-port-unreachable"),
        (6, "fd17::/64", "2001:db8:3::c8/128", "icmp6-port-unreachable"),
    ):
        lab.restore(rules.FOREIGN.format(lan=lan, banned=banned, reject=reject), family)
    before = _foreign(lab)
    for options in POLICIES.values():
        result = lab.four_runs(LIMIT, **options)
        assert "another form" not in str(result.get("warnings"))
        assert _foreign(lab) == before
        assert "sipguard4-" in _kernel_tables(lab)
    lab.four_runs(LIMIT, state="absent")
    assert _foreign(lab) == before
    assert lab.files() == {}
    assert " sipguard-" not in lab.sets()
    assert "sipguard" not in _kernel_tables(lab)
    for family in (4, 6):
        assert "SIPGUARD" not in re.sub("SIPGUARDIAN", "", lab.save(family))


def test_beside_the_blocklist_and_after_it(lab: Lab) -> None:
    """Each module fills its own place, and takes only that away."""
    lab.blocklist()
    without = lab.snapshot()
    lab.four_runs(LIMIT)
    with_both = lab.snapshot()
    assert not lab.blocklist()["changed"]
    assert lab.snapshot() == with_both
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    assert lab.reaches(lab.phone, sip.request())
    lab.four_runs(LIMIT, state="absent")
    assert lab.snapshot()[4, lab.backend] == without[4, lab.backend]


def test_admitted_conversation_is_limited_and_a_change_of_limits_judges_nobody_again(lab: Lab) -> None:
    widen(lab)
    lab.blocklist(learn_for=0)
    for transport, family in WAYS:
        _apply(lab, _limit(burst=50, rate="60/hour"))
        flow = lab.phone.flow(transport, family, source=somebody(lab.phone, family))
        assert lab.passes(flow, sip.request(method="OPTIONS"))
        _apply(lab, _limit())
        # admitted under the same generation as before, so not looked at
        assert lab.passes(flow, sip.request(sip.SCANNER, method="OPTIONS"))
        assert through(lab, flow, [sip.request() for dummy in range(7)]) == [True] * 5 + [False] * 2


def test_established_is_no_way_round(lab: Lab, transport: str, family: int) -> None:
    """Rules of others that accept what is established stand behind ours: 200 packets, five pass."""
    widen(lab)
    lab.iptables("-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT", family=family)
    source = somebody(lab.attacker, family)
    flow = lab.attacker.flow(transport, family, source=source)
    for dummy in range(2):
        flow.send(sip.request(method="OPTIONS").wire)
        assert flow.answer().startswith(b"SIP/2.0 200 OK")
    _apply(lab, _limit())
    if transport == "udp":
        assert deliver(lab, family, [flow] * 200) == 5
    else:
        assert through(lab, flow, [sip.request() for dummy in range(20)]) == [True] * 5 + [False] * 15
    assert lab.reaches(lab.phone, sip.request(), transport, family, source=somebody(lab.phone, family))


def test_changed_rate_takes_effect_at_once(lab: Lab) -> None:
    """The kernel goes on with a table it finds by name, whatever the new rule says."""
    source = lab.attacker.address()
    _apply(lab, _limit(burst=2))
    assert sent(lab, lab.attacker, 10, source) == 2
    lab.four_runs(LIMIT, limits=[_limit(burst=30)])
    assert sent(lab, lab.attacker, 50, source) == 30
    lab.four_runs(LIMIT, limits=[_limit(burst=2)])
    assert sent(lab, lab.attacker, 10, source) == 2
    lab.four_runs(LIMIT, limits=[_limit(burst=200, rate="20000/second")])
    assert sent(lab, lab.attacker, 50, source) == 50


def test_unchanged_limit_forgives_nobody(lab: Lab) -> None:
    source = lab.attacker.address()
    _apply(lab, _limit(burst=3))
    assert sent(lab, lab.attacker, 10, source) == 3
    assert not _apply(lab, _limit(burst=3))["changed"]
    assert sent(lab, lab.attacker, 10, source) == 0
    _apply(lab, _limit(burst=3), _limit("INVITE", 4), action="reject")
    assert sent(lab, lab.attacker, 10, source) == 0
    assert sent(lab, lab.attacker, 10, source, "INVITE") == 4


def test_limits_that_are_alike_do_not_share_a_table(lab: Lab, family: int) -> None:
    """Two methods, two times for one method, two networks, two families: each counts for itself."""
    widen(lab)
    _apply(
        lab,
        _limit("INVITE", 4),
        _limit("REGISTER", 6, per="source_net"),
        _limit("REGISTER", 4),
        _limit("OPTIONS", 4, "20/hour"),
        _limit("any", 15, "20/hour"),
    )
    source = somebody(lab.phone, family)
    neighbour = source[:-1] + "9" if family == 6 else lab.phone.address()
    assert [sent(lab, lab.phone, 10, source, method) for method in ("INVITE", "REGISTER")] == [4, 4]
    # two are left for the network, and of the fifteen of any kind the first source has used all it can
    assert sent(lab, lab.phone, 10, neighbour) == 2
    assert sent(lab, lab.phone, 10, source, "OPTIONS") == 0
    assert sent(lab, lab.phone, 10, neighbour, "OPTIONS") == 4


def test_limits_come_back_at_the_next_boot(lab: Lab) -> None:
    lab.apply(LIMIT, presets=["standard", "hostfirewall"], limits=[_limit(ban_for=60)])
    before = [lab.save(family) for family in (4, 6)]
    for family in (4, 6):
        for table in ("raw", "filter"):
            lab.iptables("-t", table, "-F", family=family)
            lab.iptables("-t", table, "-X", family=family)
    command = "ansible_collections.sipguard.pbx.plugins.module_utils._host.cli"
    argv = lab.pbx.argv(sys.executable, "-m", command, "restore")
    done = subprocess.run(argv, env=environment(), cwd="/", text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [lab.save(family) for family in (4, 6)] == before
    assert sent(lab, lab.attacker, 10, lab.attacker.address()) == 5


# -- what cannot be done

BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "rate_without_unit": ({"limits": [_limit(rate="12")]}, ["limits.rate", "'12'", "12/minute"]),
    "rate_zero": ({"limits": [_limit(rate="0/minute")]}, ["limits.rate", "'0/minute'", "12/minute"]),
    "rate_of_months": ({"limits": [_limit(rate="1/month")]}, ["limits.rate", "1/month", "day"]),
    "rate_too_fast": ({"limits": [_limit(rate="1000001/second")]}, ["limits.rate", "1000001/second", "1000000/second"]),
    "rate_too_slow": ({"limits": [_limit(rate="1/day")]}, ["limits.rate", "1/day", "2/day"]),
    "burst_zero": ({"limits": [_limit(burst=0)]}, ["limits.burst", "0", "1 to 120"]),
    "burst_too_large": ({"limits": [_limit(burst=121)]}, ["limits.burst", "121", "1 to 120"]),
    "burst_below_a_tick": ({"limits": [_limit(burst=9, rate="1000/s")]}, ["limits.burst", "9", "10 to 1000000"]),
    "burst_beyond_iptables": ({"limits": [_limit(burst=1000001, rate="1000/s")]}, ["limits.burst", "1000001", "10 to 1000000"]),
    "method": ({"limits": [_limit("REGISTRATE")]}, ["limits.method", "REGISTRATE", "REGISTER", "any"]),
    "preset": ({"presets": ["strict"]}, ["presets", "strict", "standard"]),
    "key": ({"limits": [_limit(ratee="1/s")]}, ["limits", "ratee", "rate"]),
    "no_method": ({"limits": [{"rate": "1/s"}]}, ["limits", "method"]),
    "no_rate": ({"limits": [{"method": "any"}]}, ["limits", "rate"]),
    "recent_counts_to_twenty": (
        {"limits": [{"method": "INVITE", "rate": "21/minute", "engine": "recent"}]},
        ["limits.rate", "21/minute", "20", "hashlimit"],
    ),
    "recent_has_no_burst": ({"limits": [_limit(engine="recent")]}, ["limits.burst", "5", "hashlimit"]),
    "engine": ({"limits": [_limit(engine="connlimit")]}, ["engine", "connlimit", "hashlimit, recent"]),
    "per": ({"limits": [_limit(per="port")]}, ["per", "port", "source, source_net"]),
    "ban_negative": ({"limits": [_limit(ban_for=-1)]}, ["limits.ban_for", "-1", "2147483"]),
    "ban_too_long": ({"limits": [_limit(ban_for=2147484)]}, ["limits.ban_for", "2147484", "2147483"]),
    "twice_with_another_ban": ({"limits": [_limit(), _limit(ban_for=60)]}, ["limits.ban_for", "60", "0"]),
    "ssh_without_rate": ({"ssh": {"burst": 5}}, ["ssh", "rate"]),
    "ssh_rate": ({"ssh": {"rate": "ten"}}, ["ssh.rate", "ten", "12/minute"]),
    "ssh_burst": ({"ssh": {"rate": "10/hour", "burst": 0}}, ["ssh.burst", "0", "1 to 120"]),
    "ssh_port_too_high": ({"ssh": {"rate": "1/s", "ports": ["70000"]}}, ["ssh.ports", "70000", "65535"]),
    "ssh_ports_none": ({"ssh": {"rate": "1/s", "ports": []}}, ["ssh.ports", "[]", "1 to 15"]),
    "ssh_ports_too_many": (
        {"ssh": {"rate": "1/s", "ports": [str(port) for port in range(22, 54, 2)]}},
        ["ssh.ports", "52", "1 to 15"],
    ),
    "ssh_port_of_sip": ({"ssh": {"rate": "1/s", "ports": ["5000:5060"]}}, ["ssh.ports", "5000:5060", "SIP"]),
    "ssh_key": ({"ssh": {"rate": "1/s", "ban_for": 5}}, ["ssh", "ban_for"]),
    "never_a_name": ({"never": ["pbx.example.org"]}, ["never", "pbx.example.org", "address"]),
    "reject_in_mangle": ({"action": "reject", "table": "mangle"}, ["action", "filter"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def policy() -> Iterator[Lab]:
    """A laboratory with limits in force, which no refusal may touch."""
    lab = Lab("nft")
    lab.apply(LIMIT)
    yield lab
    lab.close()


@pytest.mark.parametrize("case", BAD)
def test_bad_input_refused(policy: Lab, case: str) -> None:
    options, said = BAD[case]
    message = policy.refused(LIMIT, **options)
    assert [text for text in said if text not in message] == [], message


# -- what iptables-save prints


def test_rates_are_printed_as_foreseen(backend: str) -> None:
    """A thousand rates, of all magnitudes, with what the real tool makes of them."""
    dice = random.Random(20)
    rates = [Rate(count, unit) for unit in ("second", "minute", "hour", "day") for count in range(1, 101)]
    while len(rates) < 1000:
        unit = dice.choice(["second", "minute", "hour", "day"])
        rates.append(Rate(int(10 ** dice.uniform(0, 6)), unit))
    host = Namespace("rates")
    try:
        lines = [
            f"-A INPUT -m hashlimit --hashlimit-above {rate.saved()[0]} --hashlimit-burst 1 --hashlimit-mode srcip"
            f" --hashlimit-name r{number} --hashlimit-htable-size 16 -j DROP"
            for number, rate in enumerate(rates)
        ]
        host.run(f"iptables-{backend}-restore", stdin="*filter\n" + "\n".join(lines) + "\nCOMMIT\n")
        saved = host.run(f"iptables-{backend}-save").splitlines()
        assert [line for line in saved if line.startswith("-A")] == lines
        # and loaded as they were written, they come out the same
        written = [
            line.replace(rate.saved()[0], str(rate), 1).replace(f"r{number} ", f"w{number} ")
            for number, (rate, line) in enumerate(zip(rates, lines, strict=True))
        ]
        host.run(f"iptables-{backend}-restore", stdin="*filter\n" + "\n".join(written) + "\nCOMMIT\n")
        saved = host.run(f"iptables-{backend}-save").splitlines()
        printed = [line.split()[5] for line in saved if line.startswith("-A")]
        assert printed == [rate.saved()[0] for rate in rates]
    finally:
        host.close()
