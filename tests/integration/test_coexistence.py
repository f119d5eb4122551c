# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not ours stays byte for byte, whatever we do; and when we go, nothing of ours is left."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.harness import rules, sip
from tests.integration.harness.lab import NETWORKS, Lab


def _furnish(lab: Lab) -> None:
    lab.pbx.run("ipset", "restore", stdin=rules.FOREIGN_SETS)
    lab.pbx.run("nft", "-f", "-", stdin=rules.FOREIGN_NFT)
    for family, lan, banned, reject in (
        (4, "172.17.0.0/16", "203.0.113.200/32", "icmp-port-unreachable"),
        (6, "fd17::/64", "2001:db8:3::c8/128", "icmp6-port-unreachable"),
    ):
        text = rules.FOREIGN.format(lan=lan, banned=banned, reject=reject)
        if family == 4:
            text = text.replace("-A INPUT -j ufw", "-A INPUT -m set --match-set apiban src -j DROP\n-A INPUT -j ufw")
        lab.restore(text, family)


def _foreign(lab: Lab) -> dict[str, Any]:
    state: dict[str, Any] = {
        f"{family}{backend}": rules.foreign_part(lab.save(family, backend))
        for family in (4, 6)
        for backend in ("nft", "legacy")
    }
    state["sets"] = [line for line in lab.sets().splitlines() if " sipguard-" not in line]
    state["nft"] = lab.pbx.run("nft", "list", "table", "inet", "custom").split("counter packets")[0]
    return state


def test_foreign_rules_untouched(lab: Lab) -> None:
    _furnish(lab)
    before = _foreign(lab)
    lab.trust(*NETWORKS["trunk"].values())
    assert _foreign(lab) == before
    lab.four_runs("sip_ua_blocklist", user_agents=["sipcli"])
    assert _foreign(lab) == before
    lab.four_runs("sip_ua_blocklist", table="mangle")
    assert _foreign(lab) == before
    lab.four_runs("sip_ua_blocklist", table="mangle", mode="observe")
    assert _foreign(lab) == before
    lab.four_runs("sip_ua_blocklist", state="absent")
    assert _foreign(lab) == before
    lab.four_runs("sip_trust", state="absent")
    assert _foreign(lab) == before


def test_foreign_rules_keep_their_counters(lab: Lab) -> None:
    lab.iptables("-A", "INPUT", "-s", "198.51.100.0/24", "-m", "comment", "--comment", "counted")
    assert lab.reaches(lab.phone, sip.request())

    def counted() -> str:
        saved = lab.pbx.run(f"iptables-{lab.backend}-save", "-c")
        return next(line for line in saved.splitlines() if "counted" in line).split("]")[0]

    before = counted()
    assert not before.startswith("[0:")
    lab.blocklist()
    assert counted() == before


def test_own_rules_keep_their_counters_when_nothing_changes(lab: Lab) -> None:
    lab.blocklist()
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    before = lab.packets("SIPGUARD-UA-STOP")
    assert before
    lab.blocklist()
    assert lab.packets("SIPGUARD-UA-STOP") == before


def test_blocked_among_foreign_rules(lab: Lab, transport: str, family: int) -> None:
    _furnish(lab)
    lab.blocklist()
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family)
    assert lab.reaches(lab.phone, sip.request(), transport, family)


@pytest.mark.parametrize(
    "order", [("sip_ua_blocklist", "sip_trust"), ("sip_trust", "sip_ua_blocklist")], ids=["trust_last", "trust_first"]
)
def test_absent_leaves_nothing(lab: Lab, order: tuple[str, str]) -> None:
    before = lab.snapshot()
    lab.trust(*NETWORKS["trunk"].values())
    lab.blocklist()
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    for name in order:
        lab.four_runs(name, state="absent")
    after = lab.snapshot()
    assert after["sets"] == before["sets"] == ""
    assert after["files"] == before["files"] == {}
    assert not lab.pbx.succeeds("test", "-e", "/etc/sipguard")
    for family in (4, 6):
        for backend in ("nft", "legacy"):
            assert rules.foreign_part(after[family, backend]) == ""
            assert "SIPGUARD" not in after[family, backend]
        assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)


def test_absent_on_a_bare_host_changes_nothing(lab: Lab) -> None:
    before = lab.snapshot()
    assert not lab.blocklist(state="absent")["changed"]
    assert not lab.trust(state="absent")["changed"]
    assert lab.snapshot() == before


def test_absent_with_a_foreign_reference_says_which(lab: Lab) -> None:
    lab.blocklist()
    lab.iptables("-A", "FORWARD", "-p", "udp", "--dport", "5060", "-j", "SIPGUARD")
    message = lab.refused("sip_ua_blocklist", state="absent")
    assert "SIPGUARD" in message
    assert "FORWARD" in message
