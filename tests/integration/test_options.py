# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each option of the two modules changes what gets through, and nothing else does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.harness import sip
from tests.integration.harness.lab import NETWORKS, WAYS, Lab
from tests.integration.harness.modules import environment

COLLECTION = "ansible_collections.sipguard.pbx"


def test_blocklist_four_runs(lab: Lab) -> None:
    result = lab.four_runs("sip_ua_blocklist", user_agents=["sipcli"], payloads=["sip:nm@nm"])
    assert result["rules"]["ipv4"] > 0
    assert result["rules"]["ipv6"] > 0


def test_blocklist_change_four_runs(lab: Lab) -> None:
    lab.blocklist()
    lab.four_runs("sip_ua_blocklist", user_agents=["evilbot/1.0"], interfaces=["attacker"], learn_for=0)


def test_trust_four_runs(lab: Lab) -> None:
    lab.four_runs("sip_trust", sources=["203.0.113.0/24", "198.51.100.7", "2001:db8:3::/64"])
    lab.four_runs("sip_trust", sources=["203.0.113.0/24"])
    lab.four_runs("sip_trust", state="absent")


def test_trust_taken_away_is_judged(lab: Lab, transport: str, family: int) -> None:
    lab.trust(*NETWORKS["trunk"].values())
    lab.blocklist()
    flow = lab.trunk.flow(transport, family)
    assert lab.passes(flow, sip.request(sip.SCANNER))
    lab.trust()
    assert not lab.passes(flow, sip.request(sip.SCANNER))


def test_trust_before_and_after_the_blocklist_is_the_same(nft_lab: Lab) -> None:
    nft_lab.blocklist()
    nft_lab.trust(*NETWORKS["trunk"].values())
    for family in (4, 6):
        assert nft_lab.reaches(nft_lab.trunk, sip.request(sip.SCANNER), "udp", family)
        assert not nft_lab.reaches(nft_lab.attacker, sip.request(sip.SCANNER), "udp", family)


def test_trust_of_an_offender_lets_it_pass(lab: Lab, transport: str, family: int) -> None:
    lab.blocklist()
    source = lab.trunk.address(family)
    assert not lab.reaches(lab.trunk, sip.request(sip.SCANNER), transport, family, source=source)
    assert not lab.reaches(lab.trunk, sip.request(), transport, family, source=source)
    lab.trust(source)
    assert lab.reaches(lab.trunk, sip.request(), transport, family, source=source)


def test_learn_for_zero_judges_each_message(lab: Lab) -> None:
    lab.blocklist(learn_for=0)
    for transport, family in WAYS:
        source = lab.attacker.address(family)
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family, source=source)
        assert lab.reaches(lab.attacker, sip.request(), transport, family, source=source)
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family, source=source)


def test_learn_for_is_the_time_in_the_set(nft_lab: Lab) -> None:
    nft_lab.blocklist(learn_for=86400)
    source = nft_lab.attacker.address()
    assert not nft_lab.reaches(nft_lab.attacker, sip.request(sip.SCANNER), source=source)
    listed = nft_lab.pbx.run("ipset", "list", "sipguard-offenders4").splitlines()
    remaining = [int(line.split()[2]) for line in listed if line.startswith(f"{source} timeout ")]
    assert remaining
    assert 86000 < remaining[0] <= 86400


def test_never_dropped_but_not_learned(lab: Lab) -> None:
    lab.blocklist(never=list(NETWORKS["phone"].values()))
    for transport, family in WAYS:
        source = lab.phone.address(family)
        assert not lab.reaches(lab.phone, sip.request(sip.SCANNER), transport, family, source=source)
        assert not lab.member("sipguard-offenders", source)
        assert lab.reaches(lab.phone, sip.request(), transport, family, source=source)
        attacker = lab.attacker.address(family)
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family, source=attacker)
        assert lab.member("sipguard-offenders", attacker)


def test_observe_drops_nothing_and_records(lab: Lab, transport: str, family: int) -> None:
    lab.blocklist(mode="observe", payloads=["sip:nm@nm"])
    scanner, odd, nmap, phone = (lab.attacker.address(family) for dummy in range(4))
    seen = lab.packets("SIPGUARD-UA-HIT", family)
    assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family, source=scanner)
    counted = lab.packets("SIPGUARD-UA-HIT", family)
    assert counted > seen
    assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family, source=scanner)
    assert lab.packets("SIPGUARD-UA-HIT", family) > counted
    assert lab.reaches(lab.attacker, sip.request(sip.SCANNER, header=b"user-agent:"), transport, family, source=odd)
    assert lab.reaches(lab.attacker, sip.request(uri="sip:nm@nm"), transport, family, source=nmap)
    assert lab.reaches(lab.attacker, sip.request(), transport, family, source=phone)
    assert [lab.member("sipguard-observed", source) for source in (scanner, odd, nmap, phone)] == [
        True,
        True,
        True,
        False,
    ]
    assert "sipguard-offenders" not in lab.sets()


def test_observe_then_enforce_cuts_what_was_observed(lab: Lab, transport: str, family: int) -> None:
    lab.blocklist(mode="observe")
    flow = lab.attacker.flow(transport, family)
    assert lab.passes(flow, sip.request(sip.SCANNER))
    assert lab.passes(flow, sip.request(sip.SCANNER))
    lab.blocklist()
    assert not lab.passes(flow, sip.request(sip.SCANNER))


def test_enforce_then_observe_four_runs(lab: Lab) -> None:
    lab.blocklist()
    source = lab.attacker.address()
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), source=source)
    lab.four_runs("sip_ua_blocklist", mode="observe")
    assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), source=source)


def test_missing_user_agent_dropped_when_asked_for(lab: Lab) -> None:
    lab.blocklist(missing_user_agent=True)
    for transport, family in WAYS:
        assert not lab.reaches(lab.attacker, sip.request(None), transport, family)
        assert lab.reaches(lab.phone, sip.request(), transport, family)
        assert lab.reaches(lab.phone, sip.request(header=b"user-agent:"), transport, family)
        assert lab.reaches(lab.phone, sip.response(sip.PHONE, header=b"Server: "), transport, family)


def test_missing_user_agent_keep_alive_passes(lab: Lab) -> None:
    lab.blocklist(missing_user_agent=True)
    for transport, family in WAYS:
        flow = lab.phone.flow(transport, family)
        flow.send(b"\r\n\r\n")
        assert lab.passes(flow, sip.request())


def test_no_user_agent_off_lets_an_empty_one_pass(lab: Lab) -> None:
    lab.blocklist(no_user_agent=False)
    for transport, family in WAYS:
        assert lab.reaches(lab.phone, sip.request(""), transport, family)
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family)


def test_ignore_case_off(nft_lab: Lab) -> None:
    nft_lab.blocklist(presets=[], user_agents=["EvilBot/1"], ignore_case=False)
    assert not nft_lab.reaches(nft_lab.attacker, sip.request("EvilBot/1.2"))
    assert nft_lab.reaches(nft_lab.attacker, sip.request("evilbot/1.2"))


def test_interfaces_only_there(lab: Lab) -> None:
    lab.blocklist(interfaces=["attacker"])
    for transport, family in WAYS:
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family)
        assert lab.reaches(lab.phone, sip.request(sip.SCANNER), transport, family)


def test_ports_only_those(lab: Lab) -> None:
    lab.blocklist(ports=["5061", "5065:5070"], learn_for=0)
    for transport, family in WAYS:
        for port, passes in ((5060, True), (5061, False), (5070, False)):
            assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family, port=port) is passes
            assert lab.reaches(lab.phone, sip.request(), transport, family, port=port)


def test_offender_keeps_what_is_not_sip(lab: Lab) -> None:
    lab.blocklist(ports=["5060"])
    for transport, family in WAYS:
        source = lab.attacker.address(family)
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family, source=source)
        assert lab.reaches(lab.attacker, sip.request(), transport, family, source=source, port=5070)


def test_families_only_those(lab: Lab, family: int) -> None:
    lab.blocklist(families=[f"ipv{family}"])
    for version in (4, 6):
        passes = version != family
        assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", version) is passes


def _status(lab: Lab) -> tuple[int, dict[str, Any], str]:
    """Exit status and findings of `sipguard status`, as the host runs it."""
    command = f"{COLLECTION}.plugins.module_utils._host.cli"
    argv = lab.pbx.argv(sys.executable, "-m", command, "status")
    done = [
        subprocess.run([*argv, *more], env=environment(), cwd="/", text=True, capture_output=True, check=False)
        for more in (["--json"], [])
    ]
    assert done[0].returncode == done[1].returncode
    assert not done[0].stderr + done[1].stderr
    return done[0].returncode, json.loads(done[0].stdout), done[1].stdout


def test_families_one_then_both_and_the_status_of_each(lab: Lab) -> None:
    assert _status(lab)[0] == 1
    for options, states in (
        ({"families": ["ipv4"]}, {"ipv4": "protected", "ipv6": "not managed"}),
        ({}, {"ipv4": "protected", "ipv6": "protected"}),
        ({"families": ["ipv6"]}, {"ipv4": "not managed", "ipv6": "protected"}),
    ):
        lab.four_runs("sip_ua_blocklist", **options)
        code, found, text = _status(lab)
        assert {name: family["state"] for name, family in found["families"].items()} == states
        assert (code, found["protected"], found["backend"]) == (0, True, lab.backend)
        assert text.startswith(f"sipguard: protected (iptables-{lab.backend})\n")
        for family in (4, 6):
            passes = states[f"ipv{family}"] != "protected"
            assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family) is passes
            assert lab.reaches(lab.phone, sip.request(), "udp", family)
    lab.iptables("-D", "INPUT", "-j", "SIPGUARD", family=6)
    code, found, text = _status(lab)
    assert (code, found["protected"]) == (1, False)
    assert text.startswith("sipguard: NOT PROTECTED")
    lab.blocklist(mode="observe")
    code, found, text = _status(lab)
    assert (code, found["protected"], found["observing"]) == (0, False, True)
    lab.four_runs("sip_ua_blocklist", state="absent")
    assert _status(lab)[0] == 1


def test_protocols_only_those(lab: Lab, transport: str) -> None:
    lab.blocklist(protocols=[transport])
    for spoken, family in WAYS:
        passes = spoken != transport
        assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), spoken, family) is passes


def test_mangle_survives_a_flushed_filter(lab: Lab, transport: str, family: int) -> None:
    lab.four_runs("sip_ua_blocklist", table="mangle")
    lab.iptables("-F", family=family)
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family)
    assert lab.reaches(lab.phone, sip.request(), transport, family)


def test_table_moved_four_runs(lab: Lab) -> None:
    lab.blocklist()
    lab.four_runs("sip_ua_blocklist", table="mangle")
    lab.four_runs("sip_ua_blocklist", table="filter")
    for family in (4, 6):
        saved = lab.save(family)
        assert saved.count("-j SIPGUARD\n") == 1
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)


def test_reject_is_seen_by_the_sender(lab: Lab) -> None:
    lab.four_runs("sip_ua_blocklist", action="reject", reject_with="tcp-reset", learn_for=0)
    for transport, family in WAYS:
        flow = lab.attacker.flow(transport, family)
        flow.send(sip.request(sip.SCANNER).wire)
        with pytest.raises(ConnectionRefusedError if transport == "udp" else ConnectionResetError):
            flow.answer()
        assert lab.reaches(lab.phone, sip.request(), transport, family)
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family)


@pytest.mark.parametrize("reject_with", ["icmp-port-unreachable", "icmp-admin-prohibited", "icmp-host-unreachable"])
def test_reject_with_four_runs(lab: Lab, reject_with: str) -> None:
    lab.four_runs("sip_ua_blocklist", action="reject", reject_with=reject_with, learn_for=0)
    for family in (4, 6):
        flow = lab.attacker.udp(family)
        flow.send(sip.request(sip.SCANNER).wire)
        # what kind of unreachable it was, a socket learns only for ports; that nothing got through is the point
        assert not lab.passes(flow, sip.request(sip.SCANNER))


def test_reject_and_learn_answers_once(lab: Lab, family: int) -> None:
    """A learned source is dropped in raw without a word: no answer for anybody to reflect."""
    lab.blocklist(action="reject")
    flow = lab.attacker.udp(family)
    flow.send(sip.request(sip.SCANNER).wire)
    with pytest.raises(ConnectionRefusedError):
        flow.answer()
    assert not lab.passes(flow, sip.request(sip.SCANNER))
    assert flow.answer(0.01) == b""


def test_drop_is_silent(lab: Lab) -> None:
    lab.blocklist(learn_for=0)
    for transport, family in WAYS:
        flow = lab.attacker.flow(transport, family)
        assert not lab.passes(flow, sip.request(sip.SCANNER))
        assert flow.answer(0.01) == b""


def test_mark_mask_keeps_foreign_bits(lab: Lab, transport: str, family: int) -> None:
    """A program that uses the mark for itself (policy routing) finds its bits as it left them."""
    lab.iptables("-t", "mangle", "-A", "PREROUTING", "-j", "CONNMARK", "--set-xmark", "0x11/0x11", family=family)
    lab.blocklist(mark_mask="0x0c000000")
    flow = lab.phone.flow(transport, family)
    assert lab.passes(flow, sip.request())
    lab.blocklist(user_agents=["evilbot/1.0"])
    assert lab.passes(flow, sip.request())
    tracked = lab.pbx.run("conntrack", "-L", "-f", f"ipv{family}", "-s", flow.source)
    marks = [int(word.removeprefix("mark=")) for word in tracked.split() if word.startswith("mark=")]
    assert marks
    assert all(mark & 0x11 == 0x11 for mark in marks)
    assert all(mark & ~0x0C000011 == 0 for mark in marks)


def test_mark_mask_of_ones_own(lab: Lab) -> None:
    lab.four_runs("sip_ua_blocklist", mark_mask="0x30")
    for transport, family in WAYS:
        flow = lab.phone.flow(transport, family)
        assert lab.passes(flow, sip.request())
        assert lab.passes(flow, sip.request())
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family)
        assert "0xc000000" not in lab.save(family)


def test_persist_off_writes_nothing(nft_lab: Lab) -> None:
    nft_lab.trust("203.0.113.0/24", persist=False)
    assert nft_lab.blocklist(persist=False)["persisted"] is False
    assert nft_lab.files() == {}


def test_persist_is_a_change_of_its_own(nft_lab: Lab) -> None:
    nft_lab.blocklist(persist=False)
    nft_lab.four_runs("sip_ua_blocklist", persist=True)
    assert nft_lab.files()


def test_other_backend_in_use_is_said(lab: Lab) -> None:
    other = {"nft": "legacy", "legacy": "nft"}[lab.backend]
    assert not lab.blocklist(persist=False).get("warnings")
    lab.pbx.run(f"iptables-{other}", "-A", "INPUT", "-s", "192.0.2.200", "-j", "DROP")
    before = lab.save(4, other)
    warnings = lab.blocklist(persist=False).get("warnings", [])
    assert any(f"iptables-{other}-save" in str(warning) for warning in warnings)
    assert lab.save(4, other) == before
