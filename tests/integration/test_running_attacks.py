# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A conversation is judged once per generation of the policy: what runs is judged again when the policy changes."""

from __future__ import annotations

from tests.integration.harness import sip
from tests.integration.harness.lab import WAYS, Host, Lab, UdpFlow


def _talk(flow: UdpFlow, user_agent: str) -> None:
    """Two requests, each with its answer: conntrack calls that established."""
    for dummy in range(2):
        flow.send(sip.request(user_agent).wire)
        assert flow.answer().startswith(b"SIP/2.0 200 OK")


def _flows(host: Host) -> list[UdpFlow]:
    """One flow of each transport and family."""
    return [host.flow(transport, family) for transport, family in WAYS]


def test_running_attack_cut_by_the_first_application(lab: Lab) -> None:
    # conntrack is at work before we are, as on a host with a stateful firewall
    for family in (4, 6):
        state = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED"]
        lab.iptables("-A", "INPUT", *state, "-j", "ACCEPT", family=family)
    attacks, calls = _flows(lab.attacker), _flows(lab.phone)
    for attack, call in zip(attacks, calls, strict=True):
        _talk(attack, sip.SCANNER)
        _talk(call, sip.PHONE)
    lab.blocklist()
    for attack, call in zip(attacks, calls, strict=True):
        assert not lab.passes(attack, sip.request(sip.SCANNER))
        assert not lab.passes(attack, sip.request())
        assert lab.passes(call, sip.request())


def test_running_attack_untracked_before_cut(lab: Lab) -> None:
    attacks, calls = _flows(lab.attacker), _flows(lab.phone)
    for attack, call in zip(attacks, calls, strict=True):
        _talk(attack, sip.SCANNER)
        _talk(call, sip.PHONE)
    lab.blocklist()
    for attack, call in zip(attacks, calls, strict=True):
        assert not lab.passes(attack, sip.request(sip.SCANNER))
        assert lab.passes(call, sip.request())


def test_running_attack_cut_by_a_later_signature(lab: Lab) -> None:
    lab.blocklist()
    attacks, calls = _flows(lab.attacker), _flows(lab.phone)
    for attack, call in zip(attacks, calls, strict=True):
        _talk(attack, "evilbot/1.0")
        _talk(call, sip.PHONE)
    lab.blocklist(user_agents=["evilbot/"])
    for attack, call in zip(attacks, calls, strict=True):
        assert not lab.passes(attack, sip.request("evilbot/1.0"))
        _talk(call, sip.PHONE)
        assert lab.passes(call, sip.request())


def test_idle_conversation_judged_after_any_number_of_changes(lab: Lab) -> None:
    """Two bits count to three: a conversation that slept through all generations is not taken for one of the newest."""
    lab.blocklist()
    attacks = [attack for dummy in range(5) for attack in _flows(lab.attacker)]
    for attack in attacks:
        _talk(attack, "evilbot/1.0")
    for number in range(4):
        lab.blocklist(user_agents=[f"otherbot/{n}" for n in range(number + 1)])
    lab.blocklist(user_agents=["evilbot/"])
    for attack in attacks:
        assert not lab.passes(attack, sip.request("evilbot/1.0"))


def test_each_change_judges_again(lab: Lab) -> None:
    bots = [f"evilbot{letter}/1.0" for letter in "abcde"]
    lab.blocklist()
    attacks = [_flows(lab.attacker) for dummy in bots]
    calls = _flows(lab.phone)
    for number, bot in enumerate(bots):
        for flows, agent in zip(attacks[number:], bots[number:], strict=True):
            for attack in flows:
                _talk(attack, agent)
        for call in calls:
            _talk(call, sip.PHONE)
        lab.blocklist(user_agents=bots[: number + 1])
        for attack in attacks[number]:
            assert not lab.passes(attack, sip.request(bot))
    for call in calls:
        _talk(call, sip.PHONE)


def test_unchanged_run_admits_on(lab: Lab) -> None:
    lab.blocklist(learn_for=0)
    flows = _flows(lab.phone)
    for flow in flows:
        assert lab.passes(flow, sip.request())
        # admitted: not looked at again, by design, until the policy changes
        assert lab.passes(flow, sip.request(sip.SCANNER))
    before = lab.snapshot()
    assert not lab.blocklist(learn_for=0)["changed"]
    assert lab.snapshot() == before
    for flow in flows:
        assert lab.passes(flow, sip.request(sip.SCANNER))
    lab.blocklist(learn_for=0, user_agents=["evilbot/"])
    for flow in flows:
        assert not lab.passes(flow, sip.request(sip.SCANNER))


def test_policy_gone_and_back_judges_again(lab: Lab) -> None:
    lab.blocklist(learn_for=0)
    flows = _flows(lab.phone)
    for flow in flows:
        assert lab.passes(flow, sip.request())
    lab.blocklist(state="absent")
    for flow in flows:
        assert lab.passes(flow, sip.request(sip.SCANNER))
    lab.blocklist(learn_for=0)
    for flow in flows:
        assert not lab.passes(flow, sip.request(sip.SCANNER))
