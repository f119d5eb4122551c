# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A conversation is judged once per generation of the policy: what runs is judged again when the policy changes."""

from __future__ import annotations

from tests.integration.harness import sip
from tests.integration.harness.lab import Lab, UdpFlow


def _talk(flow: UdpFlow, user_agent: str) -> None:
    """Two requests, each with its answer: conntrack calls that established."""
    for dummy in range(2):
        flow.send(sip.request(user_agent).wire)
        assert flow.answer().startswith(b"SIP/2.0 200 OK")


def test_running_attack_cut_by_the_first_application(lab: Lab, transport: str, family: int) -> None:
    # conntrack is at work before we are, as on a host with a stateful firewall
    lab.iptables("-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT", family=family)
    attack, call = lab.attacker.flow(transport, family), lab.phone.flow(transport, family)
    _talk(attack, sip.SCANNER)
    _talk(call, sip.PHONE)
    lab.blocklist()
    assert not lab.passes(attack, sip.request(sip.SCANNER))
    assert not lab.passes(attack, sip.request())
    assert lab.passes(call, sip.request())


def test_running_attack_untracked_before_cut(lab: Lab, transport: str, family: int) -> None:
    attack, call = lab.attacker.flow(transport, family), lab.phone.flow(transport, family)
    _talk(attack, sip.SCANNER)
    _talk(call, sip.PHONE)
    lab.blocklist()
    assert not lab.passes(attack, sip.request(sip.SCANNER))
    assert lab.passes(call, sip.request())


def test_running_attack_cut_by_a_later_signature(lab: Lab, transport: str, family: int) -> None:
    lab.blocklist()
    attack, call = lab.attacker.flow(transport, family), lab.phone.flow(transport, family)
    _talk(attack, "evilbot/1.0")
    _talk(call, sip.PHONE)
    lab.blocklist(user_agents=["evilbot/"])
    assert not lab.passes(attack, sip.request("evilbot/1.0"))
    _talk(call, sip.PHONE)
    assert lab.passes(call, sip.request())


def test_idle_conversation_judged_after_any_number_of_changes(lab: Lab, transport: str, family: int) -> None:
    """Two bits count to three: a conversation that slept through all generations is not taken for one of the newest."""
    lab.blocklist()
    attacks = [lab.attacker.flow(transport, family) for dummy in range(5)]
    for attack in attacks:
        _talk(attack, "evilbot/1.0")
    for number in range(4):
        lab.blocklist(user_agents=[f"otherbot/{n}" for n in range(number + 1)])
    lab.blocklist(user_agents=["evilbot/"])
    for attack in attacks:
        assert not lab.passes(attack, sip.request("evilbot/1.0"))


def test_each_change_judges_again(lab: Lab, transport: str, family: int) -> None:
    bots = [f"evilbot{letter}/1.0" for letter in "abcde"]
    lab.blocklist()
    attacks = [lab.attacker.flow(transport, family) for dummy in bots]
    call = lab.phone.flow(transport, family)
    for number, bot in enumerate(bots):
        for attack, agent in zip(attacks[number:], bots[number:], strict=True):
            _talk(attack, agent)
        _talk(call, sip.PHONE)
        lab.blocklist(user_agents=bots[: number + 1])
        assert not lab.passes(attacks[number], sip.request(bot))
    _talk(call, sip.PHONE)


def test_unchanged_run_admits_on(lab: Lab, transport: str, family: int) -> None:
    lab.blocklist(learn_for=0)
    flow = lab.phone.flow(transport, family)
    assert lab.passes(flow, sip.request())
    # admitted: not looked at again, by design, until the policy changes
    assert lab.passes(flow, sip.request(sip.SCANNER))
    before = lab.snapshot()
    assert not lab.blocklist(learn_for=0)["changed"]
    assert lab.snapshot() == before
    assert lab.passes(flow, sip.request(sip.SCANNER))
    lab.blocklist(learn_for=0, user_agents=["evilbot/"])
    assert not lab.passes(flow, sip.request(sip.SCANNER))


def test_policy_gone_and_back_judges_again(lab: Lab, transport: str, family: int) -> None:
    lab.blocklist(learn_for=0)
    flow = lab.phone.flow(transport, family)
    assert lab.passes(flow, sip.request())
    lab.blocklist(state="absent")
    assert lab.passes(flow, sip.request(sip.SCANNER))
    lab.blocklist(learn_for=0)
    assert not lab.passes(flow, sip.request(sip.SCANNER))
