# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever others did to our rules, and wherever a run was killed: the next run brings everything back."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import sip
from tests.integration.harness.killing import killed
from tests.integration.harness.lab import NETWORKS, Lab
from tests.integration.harness.modules import finish, module_process
from tests.integration.harness.rules import own_part

UA = "sip_ua_blocklist"


def _own(lab: Lab) -> dict[tuple[int, str], str]:
    return {
        (family, backend): own_part(lab.save(family, backend)) for family in (4, 6) for backend in ("nft", "legacy")
    }


def _both(act: Callable[[Lab, int], None]) -> Callable[[Lab], None]:
    def damage(lab: Lab) -> None:
        for family in (4, 6):
            act(lab, family)

    return damage


def _accept_established_first(lab: Lab, family: int) -> None:
    lab.iptables("-I", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT", family=family)


def _notrack_first(lab: Lab, family: int) -> None:
    lab.iptables("-t", "raw", "-I", "PREROUTING", "-p", "tcp", "--dport", "22", "-j", "ACCEPT", family=family)


def _duplicate_hook(lab: Lab, family: int) -> None:
    lab.iptables("-A", "INPUT", "-j", "SIPGUARD", family=family)


def _no_hook(lab: Lab, family: int) -> None:
    lab.iptables("-D", "INPUT", "-j", "SIPGUARD", family=family)


def _no_raw_hook(lab: Lab, family: int) -> None:
    lab.iptables("-t", "raw", "-D", "PREROUTING", "-j", "SIPGUARD-PRE", family=family)


def _rule_added(lab: Lab, family: int) -> None:
    lab.iptables("-I", "SIPGUARD-UA", "-j", "RETURN", family=family)


def _rule_removed(lab: Lab, family: int) -> None:
    lab.iptables("-D", "SIPGUARD-UA-STOP", "1", family=family)


def _rules_reordered(lab: Lab, family: int) -> None:
    lab.iptables("-D", "SIPGUARD", "1", family=family)


def _chain_emptied(lab: Lab, family: int) -> None:
    lab.iptables("-F", "SIPGUARD-UA-HEADER", family=family)


def _chain_added(lab: Lab, family: int) -> None:
    lab.iptables("-N", "SIPGUARD-UA-OLD", family=family)
    lab.iptables("-A", "SIPGUARD-UA-OLD", "-j", "ACCEPT", family=family)
    lab.iptables("-I", "SIPGUARD-UA", "-j", "SIPGUARD-UA-OLD", family=family)


def _filter_flushed(lab: Lab, family: int) -> None:
    lab.iptables("-F", family=family)
    lab.iptables("-X", family=family)


def _everything_flushed(lab: Lab, family: int) -> None:
    for table in ("raw", "mangle", "filter"):
        lab.iptables("-t", table, "-F", family=family)
        lab.iptables("-t", table, "-X", family=family)


def _sets_deleted(lab: Lab) -> None:
    _both(_everything_flushed)(lab)
    lab.pbx.run("ipset", "destroy")


def _nft_ruleset_flushed(lab: Lab) -> None:
    lab.pbx.run("nft", "flush", "ruleset")


DAMAGE: dict[str, Callable[[Lab], None]] = {
    "accept_established_first": _both(_accept_established_first),
    "rule_before_the_raw_hook": _both(_notrack_first),
    "duplicate_hook": _both(_duplicate_hook),
    "no_hook": _both(_no_hook),
    "no_raw_hook": _both(_no_raw_hook),
    "rule_added": _both(_rule_added),
    "rule_removed": _both(_rule_removed),
    "admission_removed": _both(_rules_reordered),
    "chain_emptied": _both(_chain_emptied),
    "chain_added": _both(_chain_added),
    "filter_flushed": _both(_filter_flushed),
    "everything_flushed": _both(_everything_flushed),
    "sets_deleted": _sets_deleted,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_repaired(lab: Lab, damage: str) -> None:
    lab.blocklist()
    whole = _own(lab)
    DAMAGE[damage](lab)
    attack = lab.attacker.flow("udp", 4)
    attack.send(sip.request(sip.SCANNER).wire)
    lab.four_runs("sip_ua_blocklist")
    assert _own(lab) == whole
    for family, transport in itertools.product((4, 6), ("udp", "tcp")):
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family)
        assert lab.reaches(lab.phone, sip.request(), transport, family)
    assert not lab.passes(attack, sip.request(sip.SCANNER))


def test_ruleset_flushed_by_nft_repaired(nft_lab: Lab) -> None:
    nft_lab.blocklist()
    whole = _own(nft_lab)
    _nft_ruleset_flushed(nft_lab)
    nft_lab.four_runs("sip_ua_blocklist")
    assert _own(nft_lab) == whole
    assert not nft_lab.reaches(nft_lab.attacker, sip.request(sip.SCANNER))


def test_sets_emptied_trust_repaired(lab: Lab) -> None:
    lab.trust(*NETWORKS["trunk"].values())
    lab.blocklist()
    lab.pbx.run("ipset", "flush", "sipguard-trusted4")
    lab.pbx.run("ipset", "add", "sipguard-trusted6", "2001:db8:bad::/64")
    lab.four_runs("sip_trust", sources=list(NETWORKS["trunk"].values()))
    for family in (4, 6):
        assert lab.reaches(lab.trunk, sip.request(sip.SCANNER), "udp", family)
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)


def test_fail2ban_first_is_tolerated(lab: Lab) -> None:
    """fail2ban puts its jump first whenever it starts; to fight for the place would be a change in every run."""
    lab.blocklist()
    for family, reject in ((4, "icmp-port-unreachable"), (6, "icmp6-port-unreachable")):
        lab.restore(
            "*filter\n:f2b-asterisk - [0:0]\n-I INPUT -p udp -m multiport --dports 5060,5061 -j f2b-asterisk\n"
            f"-A f2b-asterisk -s {'192.0.2.77' if family == 4 else '2001:db8::77'} -j REJECT --reject-with {reject}\n"
            "-A f2b-asterisk -j RETURN\nCOMMIT\n",
            family,
        )
    before = lab.snapshot()
    assert not lab.blocklist()["changed"]
    assert lab.snapshot() == before
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))


def test_set_of_another_kind_is_said(nft_lab: Lab) -> None:
    nft_lab.pbx.run("ipset", "create", "sipguard-offenders4", "hash:net")
    message = nft_lab.refused("sip_ua_blocklist")
    assert "sipguard-offenders4" in message
    assert "hash:net" in message


def _moments(lab: Lab, folder: Path, first: dict[str, Any], second: dict[str, Any], check: Callable[[], None]) -> int:
    """Kills the change from one policy to the other, and back, before every deed; returns how many there were.

    `check` is called in each state in between. The run that follows must come to the same end as one that was let live.
    """
    lab.blocklist(**first)
    ends = []
    for options in (second, first):
        lab.blocklist(**options)
        ends.append((_own(lab), _definitions(lab.sets()), lab.files().keys()))
    moments = 0
    for at in itertools.count(1):
        died = []
        for options, end in zip((second, first), ends, strict=True):
            died.append(killed(lab, folder, at, "sip_ua_blocklist", options))
            check()
            lab.blocklist(**options)
            assert (_own(lab), _definitions(lab.sets()), lab.files().keys()) == end, at
        moments += sum(died)
        if not any(died):
            break
    return moments


def _definitions(sets: str) -> list[str]:
    """The sets without members and without the random start of their hash."""
    return [line.split(" initval ")[0] for line in sets.splitlines() if line.startswith("create ")]


def test_killed_while_changing_signatures(lab: Lab, tmp_path: Path) -> None:
    """Nothing in between is more open than what was there before: what both policies stop is stopped all the time."""
    offender = lab.attacker.address()

    def check() -> None:
        for family in (4, 6):
            assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)
            assert lab.reaches(lab.phone, sip.request(), "udp", family)
        assert not lab.reaches(lab.attacker, sip.request(), source=offender)

    lab.blocklist()
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), source=offender)
    assert _moments(lab, tmp_path, {}, {"user_agents": ["evilbot/1.0"]}, check) >= 12


def test_killed_while_moving_to_another_table(nft_lab: Lab, tmp_path: Path) -> None:
    lab = nft_lab

    def check() -> None:
        for family in (4, 6):
            assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)
            assert lab.reaches(lab.phone, sip.request(), "udp", family)

    assert _moments(lab, tmp_path, {"table": "filter"}, {"table": "mangle"}, check) >= 12


def test_killed_while_coming_and_going(nft_lab: Lab, tmp_path: Path) -> None:
    lab = nft_lab

    def check() -> None:
        for family in (4, 6):
            assert lab.reaches(lab.phone, sip.request(), "udp", family)

    assert _moments(lab, tmp_path, {"state": "present"}, {"state": "absent"}, check) >= 12


def test_killed_while_switching_the_backend(nft_lab: Lab, tmp_path: Path) -> None:
    """nft to legacy and back: at no moment is anything more open, and nothing is left over in the other one."""
    lab = nft_lab
    offender = lab.attacker.address()
    lab.blocklist()
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), source=offender)

    def check() -> None:
        for family in (4, 6):
            assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)
            assert lab.reaches(lab.phone, sip.request(), "udp", family)
        assert not lab.reaches(lab.attacker, sip.request(), source=offender)

    assert _moments(lab, tmp_path, {"backend": "nft"}, {"backend": "legacy"}, check) >= 12


@pytest.mark.parametrize("observe", [False, True], ids=["enforce", "observe"])
def test_backend_switched_and_back(lab: Lab, observe: bool) -> None:
    mode = "observe" if observe else "enforce"
    other = {"nft": "legacy", "legacy": "nft"}[lab.backend]
    lab.trust(*NETWORKS["trunk"].values())
    lab.blocklist(mode=mode)
    first, sets, files = _own(lab), lab.sets(), lab.files()
    for backend in (other, lab.backend):
        lab.four_runs("sip_ua_blocklist", mode=mode, backend=backend)
        unused = {"nft": "legacy", "legacy": "nft"}[backend]
        for family in (4, 6):
            assert "SIPGUARD" in lab.save(family, backend)
            assert "SIPGUARD" not in lab.save(family, unused)
            assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family) is observe
            assert lab.reaches(lab.phone, sip.request(), "udp", family)
            assert lab.reaches(lab.trunk, sip.request(sip.SCANNER), "udp", family)
    assert _own(lab) == first
    assert _definitions(lab.sets()) == _definitions(sets)
    assert lab.files() == files


def _at_once(lab: Lab, *runs: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of modules that were started together."""
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(module_process(lab.pbx, name, lab.options(name, **options))) for name, options in runs
        ]
        return [finish(process) for process in processes]


def _whole(lab: Lab) -> None:
    """Hooked once in each family, and nothing of a change in between."""
    for family in (4, 6):
        assert lab.save(family).count("-j SIPGUARD\n") == 1
        assert lab.save(family).count("-j SIPGUARD-PRE\n") == 1
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)
        assert lab.reaches(lab.phone, sip.request(), "udp", family)


def test_two_of_the_same_at_once(lab: Lab) -> None:
    results = _at_once(lab, (UA, {}), (UA, {}), (UA, {}))
    assert sorted(result["changed"] for result in results) == [False, False, True], results
    assert not lab.blocklist()["changed"]
    _whole(lab)


def test_two_that_disagree_at_once(lab: Lab) -> None:
    for dummy in range(3):
        results = _at_once(lab, (UA, {"presets": ["scanners", "aggressive"]}), (UA, {"state": "absent"}))
        assert not any(result.get("failed") for result in results), results
        saved = "".join(lab.save(family) for family in (4, 6))
        assert ("SIPGUARD" in saved) is ("sipguard-offenders" in lab.sets()) is ("etc/sipguard/rules.v4" in lab.files())
        lab.blocklist()
        assert not lab.blocklist()["changed"]
        _whole(lab)


def test_trust_and_blocklist_at_once(lab: Lab) -> None:
    one, two = ({"sources": [source]} for source in ("203.0.113.7", "203.0.113.8"))
    results = _at_once(lab, ("sip_trust", one), ("sip_trust", two), (UA, {}))
    assert not any(result.get("failed") for result in results), results
    trusted = [source for source in ("203.0.113.7", "203.0.113.8") if lab.member("sipguard-trusted", source)]
    assert len(trusted) == 1, "the last one wins, whole"
    assert f"add sipguard-trusted4 {trusted[0]}" in lab.pbx.run("cat", "/etc/sipguard/sets")
    assert not lab.trust(trusted[0])["changed"]
    assert not lab.blocklist()["changed"]
    _whole(lab)
