# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The laboratory itself: what it says is true, before anything of ours is in the way."""

from __future__ import annotations

from tests.integration.harness import sip
from tests.integration.harness.lab import Lab


def test_reaches_without_rules_everybody(lab: Lab, transport: str, family: int) -> None:
    for host in (lab.phone, lab.trunk, lab.attacker):
        assert lab.reaches(host, sip.request(sip.SCANNER), transport, family)


def test_flow_is_answered(lab: Lab, transport: str, family: int) -> None:
    flow = lab.phone.flow(transport, family)
    for dummy in range(3):
        flow.send(sip.request().wire)
        assert flow.answer().startswith(b"SIP/2.0 200 OK")


def test_reaches_dropped_by_a_rule_not(lab: Lab, transport: str, family: int) -> None:
    message = sip.request(sip.SCANNER)
    lab.iptables("-A", "INPUT", "-m", "string", "--string", sip.SCANNER, "--algo", "bm", "-j", "DROP", family=family)
    assert not lab.reaches(lab.attacker, message, transport, family)
    assert lab.reaches(lab.attacker, sip.request(), transport, family)


def test_reaches_source_dropped_not(lab: Lab, transport: str, family: int) -> None:
    source = lab.attacker.address(family)
    lab.iptables("-A", "INPUT", "-s", source, "-j", "DROP", family=family)
    assert not lab.reaches(lab.attacker, sip.request(), transport, family, source=source)
    assert lab.reaches(lab.attacker, sip.request(), transport, family)
