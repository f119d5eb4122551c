# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources that have just authenticated, in the kernel: what spares them and what does not, and what becomes of the rules and the set."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.integration.harness import command, sip
from tests.integration.harness.command import boot, install, repair, sipguard
from tests.integration.harness.floods import sent, somebody, through, widen
from tests.integration.harness.lab import WAYS, Host, Lab
from tests.integration.harness.modules import environment

BURST = 5
LIMITS = [{"method": "REGISTER", "rate": "10/hour", "burst": BURST, "ban_for": 600}]
OURS, THEIRS = "pbx.example.org", "192.0.2.1"
# As the service that fills the set will turn it on and off.
TURN = """
import json, sys
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.engine import Engine
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import BANNED
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import HostRunner

on, check = sys.argv[2] == "on", sys.argv[3] == "check"
engine = Engine(HostRunner(), sys.argv[1])
snapshot = engine.snapshot()
targets = {
    family: snapshot.policy(family, "filter").with_drop(BANNED, on).with_known(on) for family in engine.families
}
print(json.dumps(engine.converge(targets, snapshot, persist=True, check=check).changed))
"""


def turn(lab: Lab, to: str = "on", mode: str = "real") -> bool:
    """Whether turning it on or off has changed anything."""
    argv = lab.pbx.argv(sys.executable, "-c", TURN, lab.backend, to, mode)
    done = subprocess.run(argv, cwd="/", env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return bool(json.loads(done.stdout))


def know(lab: Lab, *addresses: str, seconds: int = 600) -> None:
    for address in addresses:
        name = f"sipguard-known{6 if ':' in address else 4}"
        lab.pbx.run("ipset", "add", name, address, "timeout", str(seconds), "-exist")


@pytest.fixture(scope="module")
def policy(backend: str) -> Iterator[Lab]:
    """Limits and signatures never change here; sets do, by addresses that no other test has."""
    lab = widen(Lab(backend))
    turn(lab)
    lab.blocklist()
    lab.apply("sip_ratelimit", limits=LIMITS)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def gated(backend: str) -> Iterator[Lab]:
    """A gate and signatures."""
    lab = Lab(backend)
    lab.blocklist(no_maddr=True)
    lab.apply("sip_domain_gate", domains=[OURS], learn_for=600)
    turn(lab)
    yield lab
    lab.close()


def test_known_source_is_over_no_limit(policy: Lab, transport: str, family: int) -> None:
    known, twin = (somebody(policy.attacker, family) for dummy in range(2))
    know(policy, known)
    requests = [[sip.request() for dummy in range(2 * BURST)] for dummy in range(2)]
    flows = [policy.attacker.flow(transport, family, source=source) for source in (known, twin)]
    assert all(through(policy, flows[0], requests[0]))
    assert through(policy, flows[1], requests[1]) == [True] * BURST + [False] * BURST
    assert not policy.member("sipguard-offenders", known)
    assert policy.member("sipguard-offenders", twin)


def test_known_source_was_not_even_counted(policy: Lab, family: int) -> None:
    source = somebody(policy.attacker, family)
    know(policy, source)
    assert sent(policy, policy.attacker, 2 * BURST, source) == 2 * BURST
    policy.pbx.run("ipset", "del", f"sipguard-known{family}", source)
    assert sent(policy, policy.attacker, 2 * BURST, source) == BURST


def test_known_source_may_call_itself_what_it_likes(policy: Lab, transport: str, family: int) -> None:
    known, twin = (somebody(policy.phone, family) for dummy in range(2))
    know(policy, known)
    for method in ("OPTIONS", "INVITE"):
        message = sip.request(sip.SCANNER, method=method)
        assert policy.reaches(policy.phone, message, transport, family, source=known)
    assert not policy.member("sipguard-offenders", known)
    assert not policy.reaches(policy.phone, sip.request(sip.SCANNER), transport, family, source=twin)
    assert policy.member("sipguard-offenders", twin)
    assert not policy.reaches(policy.phone, sip.request(), transport, family, source=twin)


def test_known_source_is_not_deaf_because_it_was_learned(policy: Lab, transport: str, family: int) -> None:
    """As when somebody sends one forged packet with a scanner's name, or the telephone had not logged in yet."""
    known, twin = (somebody(policy.phone, family) for dummy in range(2))
    for source in (known, twin):
        assert not policy.reaches(policy.phone, sip.request(sip.SCANNER), "udp", family, source=source)
        assert policy.member("sipguard-offenders", source)
    know(policy, known)
    assert policy.reaches(policy.phone, sip.request(), transport, family, source=known)
    assert not policy.reaches(policy.phone, sip.request(), transport, family, source=twin)


def test_who_is_known_no_longer_is_judged_like_anybody(policy: Lab, transport: str, family: int) -> None:
    source = somebody(policy.phone, family)
    know(policy, source, seconds=2)
    assert policy.reaches(policy.phone, sip.request(sip.SCANNER, method="OPTIONS"), transport, family, source=source)
    name = f"sipguard-known{family}"
    deadline = time.monotonic() + 10
    while policy.pbx.succeeds("ipset", "test", name, source):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    scanner = sip.request(sip.SCANNER, method="OPTIONS")
    assert not policy.reaches(policy.phone, scanner, transport, family, source=source)
    assert policy.member("sipguard-offenders", source)


def test_banned_source_stays_banned_though_known(policy: Lab, transport: str, family: int) -> None:
    source = somebody(policy.phone, family)
    know(policy, source)
    assert policy.reaches(policy.phone, sip.request(), transport, family, source=source)
    policy.pbx.run("ipset", "add", f"sipguard-banned{family}", source)
    assert not policy.reaches(policy.phone, sip.request(), transport, family, source=source)
    policy.pbx.run("ipset", "del", f"sipguard-banned{family}", source)
    assert policy.reaches(policy.phone, sip.request(), transport, family, source=source)


def test_gate_stops_known_sources_too(gated: Lab, transport: str, family: int) -> None:
    source = gated.phone.address(family)
    know(gated, source)
    elsewhere = sip.request(uri=f"sip:{THEIRS}", host=THEIRS)
    assert not gated.reaches(gated.phone, elsewhere, transport, family, source=source)
    scanner = sip.request(sip.SCANNER)
    assert gated.reaches(gated.phone, scanner, transport, family, source=source)
    assert not gated.reaches(gated.phone, sip.request(sip.SCANNER), transport, family)


def test_known_source_cannot_forge_addresses(gated: Lab, transport: str, family: int) -> None:
    source = gated.phone.address(family)
    know(gated, source)
    forged = sip.request(more=b"Via: SIP/2.0/UDP 192.0.2.98:5060;branch=z9hG4bKx;rport;maddr=203.0.113.99\r\n")
    assert not gated.reaches(gated.phone, forged, transport, family, source=source)
    assert gated.reaches(gated.phone, sip.request(), transport, family, source=source)


# -- rules and the set


OTHERS = {4: "-s 203.0.113.77/32 -p udp -j ACCEPT", 6: "-s 2001:db8:3::77/128 -p udp -j ACCEPT"}


def foreign(lab: Lab) -> str:
    """Everybody else's rules and sets."""
    text = "\n".join(lab.save(family) for family in (4, 6))
    lines = [line for line in text.splitlines() if "SIPGUARD" not in line]
    return "\n".join(lines + [line for line in lab.sets().splitlines() if "sipguard-" not in line])


@pytest.fixture
def busy(lab: Lab) -> Lab:
    """A host with rules and a set of its own, limits, signatures and a gate."""
    for family, rule in OTHERS.items():
        lab.restore(f"*filter\n:MINE - [0:0]\n-A INPUT {rule}\n-A MINE -j RETURN\nCOMMIT\n", family)
    lab.pbx.run("ipset", "create", "mine", "hash:ip")
    lab.blocklist()
    lab.apply("sip_ratelimit", limits=LIMITS)
    lab.apply("sip_domain_gate", domains=[OURS])
    return lab


def four_turns(lab: Lab, to: str) -> None:
    """Check, real, check again, real again."""
    before = lab.snapshot()
    assert turn(lab, to, "check")
    assert lab.snapshot() == before, "a check run changed something"
    assert turn(lab, to)
    after = lab.snapshot()
    assert not turn(lab, to, "check")
    assert not turn(lab, to)
    assert lab.snapshot() == after, "an unchanged run changed something"


def looking(lab: Lab) -> int:
    """How many rules look into the set."""
    return sum(lab.save(family).count("--match-set sipguard-known") for family in (4, 6))


def test_on_and_off_are_idempotent_and_leave_nothing(busy: Lab) -> None:
    others, before = foreign(busy), busy.snapshot()
    four_turns(busy, "on")
    # two jumps to the limits, two to the signatures, what was learned, and the one that says so
    assert looking(busy) == 2 * 6
    assert foreign(busy) == others
    know(busy, "198.51.100.9", "2001:db8:1::9")
    four_turns(busy, "off")
    assert "sipguard-known" not in str(busy.snapshot())
    generation = re.compile(r"0x[48c]000000/0xc000000")
    after = busy.snapshot()
    for family in (4, 6):
        key = (family, busy.backend)
        assert generation.sub("", after[key]) == generation.sub("", before[key])
    # The set of the banned belongs to whoever fills it.
    assert re.sub(r"^create sipguard-banned.*\n", "", after["sets"], flags=re.M) == before["sets"]


def test_every_other_module_keeps_the_flag_and_whom_it_knows(busy: Lab) -> None:
    others = foreign(busy)
    turn(busy)
    know(busy, "198.51.100.9", "2001:db8:1::9")
    held = re.findall(r"^add sipguard-known.*$", busy.sets(), flags=re.M)
    assert len(held) == 2
    for name, options in (
        ("sip_ratelimit", {"limits": LIMITS}),
        ("sip_ua_blocklist", {}),
        ("sip_domain_gate", {"domains": [OURS]}),
    ):
        assert busy.apply(name, **options)["changed"] is False
    for name in ("sip_ratelimit", "sip_ua_blocklist", "sip_domain_gate"):
        busy.four_runs(name, state="absent")
        assert re.findall(r"^add sipguard-known.*$", busy.sets(), flags=re.M) == held
    assert looking(busy) == 2
    busy.four_runs("sip_ratelimit", limits=LIMITS)
    assert looking(busy) == 2 * 4, "and the one for what a limit learns"
    assert re.findall(r"^add sipguard-known.*$", busy.sets(), flags=re.M) == held
    assert foreign(busy) == others
    assert not turn(busy)
    busy.apply("sip_ratelimit", state="absent")
    turn(busy, "off")
    assert foreign(busy) == others
    assert "sipguard-known" not in str(busy.snapshot())


def test_part_of_the_rules_is_made_whole_by_whatever_runs_next(busy: Lab) -> None:
    turn(busy)
    whole = {family: busy.save(family) for family in (4, 6)}
    for family in (4, 6):
        match = ["-m", "set", "--match-set", f"sipguard-known{family}", "src"]
        busy.iptables("-t", "raw", "-D", "SIPGUARD-PRE-SIP", *match, "-j", "RETURN", family=family)
        busy.iptables("-t", "raw", "-F", "SIPGUARD-KNOWN", family=family)
        busy.iptables("-t", "raw", "-X", "SIPGUARD-KNOWN", family=family)
    assert busy.apply("sip_ratelimit", limits=LIMITS)["changed"] is True
    assert {family: busy.save(family) for family in (4, 6)} == whole


def _scans(lab: Lab, host: Host, ways: dict[tuple[str, int], str]) -> list[bool]:
    """Which of the sources is heard with a scanner's name."""
    return [
        lab.reaches(host, sip.request(sip.SCANNER), transport, family, source=source)
        for (transport, family), source in ways.items()
    ]


def test_who_was_spared_is_judged_again_when_it_is_turned_off(lab: Lab) -> None:
    lab.blocklist()
    turn(lab)
    flows = []
    for transport, family in WAYS:
        flow = lab.phone.flow(transport, family)
        know(lab, flow.source)
        assert lab.passes(flow, sip.request(sip.SCANNER))
        flows.append(flow)
    turn(lab, "off")
    assert not any(lab.passes(flow, sip.request(sip.SCANNER)) for flow in flows)


def test_who_was_stopped_is_not_admitted_by_turning_it_on(lab: Lab) -> None:
    lab.blocklist(learn_for=0)
    flows = [lab.attacker.flow(transport, family) for transport, family in WAYS]
    assert not any(lab.passes(flow, sip.request(sip.SCANNER)) for flow in flows)
    turn(lab)
    assert not any(lab.passes(flow, sip.request(sip.SCANNER)) for flow in flows)


def test_boot_makes_the_rules_and_the_set_anew(lab: Lab) -> None:
    install(lab)
    lab.blocklist()
    turn(lab)
    rules, known = looking(lab), lab.phone.address(4)
    know(lab, known)
    done = boot(lab)
    assert done.returncode == 0, done.stdout + done.stderr
    assert looking(lab) == rules
    assert lab.pbx.run("ipset", "list", "-name").count("sipguard-known") == 2
    assert not lab.member("sipguard-known", known)
    assert not turn(lab)
    assert sipguard(lab, "status").returncode == 0
    ways = {way: lab.phone.address(way[1]) for way in WAYS}
    know(lab, *ways.values())
    assert all(_scans(lab, lab.phone, ways))


def test_flushed_rules_are_put_back_and_the_set_is_not_touched(lab: Lab) -> None:
    install(lab)
    lab.blocklist()
    turn(lab)
    know(lab, "198.51.100.9")
    rules = looking(lab)
    for family in (4, 6):
        for table in ("filter", "raw"):
            lab.iptables("-t", table, "-F", family=family)
    assert looking(lab) == 0
    repair(lab)
    assert looking(lab) == rules
    assert lab.member("sipguard-known", "198.51.100.9")
    assert sipguard(lab, "status").returncode == 0


def test_why_says_that_a_source_is_known(lab: Lab) -> None:
    install(lab)
    lab.blocklist()
    lab.apply("sip_ratelimit", limits=LIMITS)
    turn(lab)
    for family in (4, 6):
        source = lab.phone.address(family)
        assert not lab.reaches(lab.phone, sip.request(sip.SCANNER), "udp", family, source=source)
        assert command.sipguard(lab, "why", source).returncode == 1
        know(lab, source)
        done = sipguard(lab, "why", source, "--json")
        assert done.returncode == 0, done.stdout
        known, learned = json.loads(done.stdout)["findings"][:2]
        assert (known["what"], known["entry"], known["set"]) == ("known", source, f"sipguard-known{family}")
        assert 590 <= known["seconds_left"] <= 600
        assert known["spared_by"] == ["limits", "signatures", "learned offences"]
        assert (learned["what"], learned["stops"]) == ("learned", False)
        said = sipguard(lab, "why", source).stdout
        assert "known because it has logged in, " in said
    status = sipguard(lab, "status")
    assert status.returncode == 0, status.stdout
    assert "sipguard-known4: 1 entries" in status.stdout


def test_set_of_somebody_else_is_refused(nft_lab: Lab) -> None:
    nft_lab.blocklist()
    nft_lab.pbx.run("ipset", "create", "sipguard-known6", "hash:net", "family", "inet6")
    before = nft_lab.snapshot()
    with pytest.raises(AssertionError, match="the set sipguard-known6 exists, but as hash:net"):
        turn(nft_lab)
    assert nft_lab.snapshot() == before


def test_set_that_somebody_elses_rule_needs_is_not_taken_away(nft_lab: Lab) -> None:
    nft_lab.blocklist()
    turn(nft_lab)
    nft_lab.restore("*filter\n-A INPUT -m set --match-set sipguard-known4 src -j LOG\nCOMMIT\n")
    before = nft_lab.snapshot()
    with pytest.raises(AssertionError, match="the set sipguard-known4 cannot be removed: this rule, which is not ours"):
        turn(nft_lab, "off")
    assert nft_lab.snapshot() == before
