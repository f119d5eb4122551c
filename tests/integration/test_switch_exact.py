# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes back is what was there, to the byte: rules, places, sets, files; and what others did meanwhile stays."""

from __future__ import annotations

import re

from tests.integration.harness import rules, sip
from tests.integration.harness.lab import NETWORKS, Lab
from tests.integration.harness.switch import Switches, exact

TRUNK = list(NETWORKS["trunk"].values())
F2B = "*filter\n:f2b-asterisk - [0:0]\n-I INPUT -p udp -m multiport --dports 5060,5061 -j f2b-asterisk\n-A f2b-asterisk -j RETURN\nCOMMIT\n"


def _both(lab: Lab, *argv: str) -> None:
    for family in (4, 6):
        lab.iptables(*argv, family=family)


def test_edited_rules_come_back_edited(lab: Lab) -> None:
    """What somebody did to our rules before is part of what the host was; the place of a hook as well."""
    switches = Switches(lab)
    for family in (4, 6):
        lab.restore(F2B, family)
    lab.trust(*TRUNK)
    lab.blocklist()
    _both(lab, "-I", "SIPGUARD-UA", "-m", "comment", "--comment", "by \"hand\", \\ 'so'", "-m", "limit", "-j", "RETURN")
    _both(lab, "-A", "SIPGUARD-UA-STOP", "-p", "udp", "--dport", "5060:5070", "-j", "LOG", "--log-prefix", "sip: drop ")
    _both(lab, "-N", "SIPGUARD-OWN")
    _both(lab, "-A", "SIPGUARD-OWN", "-p", "tcp", "!", "--syn", "-m", "mac", "--mac-source", "02:00:00:00:00:01")
    _both(lab, "-D", "INPUT", "-j", "SIPGUARD")
    _both(lab, "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    _both(lab, "-A", "INPUT", "-j", "SIPGUARD")
    before = exact(lab)
    cookie = switches.arm(60)
    lab.blocklist(switch=cookie, table="mangle", mode="observe")
    assert exact(lab) != before
    switches.apply("rolled_back", cookie=cookie)
    assert exact(lab) == before


def test_everything_comes_back_after_a_change_of_the_backend(lab: Lab) -> None:
    other = {"nft": "legacy", "legacy": "nft"}[lab.backend]
    switches = Switches(lab)
    lab.trust(*TRUNK)
    lab.blocklist()
    before = exact(lab)
    cookie = switches.arm(60)
    lab.blocklist(switch=cookie, backend=other)
    assert "SIPGUARD" not in lab.save(4)
    switches.apply("rolled_back", cookie=cookie)
    assert exact(lab) == before
    for family in (4, 6):
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)
        assert lab.reaches(lab.phone, sip.request(), "udp", family)


def test_first_rules_of_all_go_without_a_trace(lab: Lab) -> None:
    switches = Switches(lab)
    before = exact(lab)
    cookie = switches.arm(60)
    lab.trust(*TRUNK, switch=cookie)
    lab.blocklist(switch=cookie)
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    switches.apply("rolled_back", cookie=cookie)
    assert exact(lab) == before
    assert before["sets"] == ""
    assert lab.reaches(lab.attacker, sip.request(sip.SCANNER))


def test_rules_that_were_taken_away_come_back(lab: Lab) -> None:
    switches = Switches(lab)
    lab.trust(*TRUNK)
    lab.blocklist()
    before = exact(lab)
    cookie = switches.arm(60)
    lab.blocklist(switch=cookie, state="absent")
    lab.trust(switch=cookie, state="absent")
    assert lab.sets() == ""
    switches.apply("rolled_back", cookie=cookie)
    assert exact(lab) == before
    assert lab.reaches(lab.trunk, sip.request(sip.SCANNER))


def _times(lab: Lab, name: str) -> dict[str, int]:
    listed = re.findall(rf"^add {name} (\S+) timeout (\d+)", lab.pbx.run("ipset", "save"), flags=re.M)
    return {member: int(seconds) for member, seconds in listed}


def test_learned_sources_keep_the_time_they_had_left(lab: Lab) -> None:
    switches = Switches(lab)
    lab.blocklist()
    for member in ("203.0.113.20 timeout 500", "203.0.113.21 timeout 0", "203.0.113.22 timeout 1"):
        lab.pbx.run("ipset", "add", "sipguard-offenders4", *member.split())
    before = exact(lab)
    cookie = switches.arm(60)
    lab.pbx.run("ipset", "flush", "sipguard-offenders4")
    lab.pbx.run("ipset", "add", "sipguard-offenders4", "198.51.100.9")
    lab.pbx.run("ipset", "add", "sipguard-offenders4", "203.0.113.20", "timeout", "9000")
    lab.pbx.run("ipset", "create", "sipguard-banned4", "hash:ip", "timeout", "60")
    while lab.member("sipguard-offenders", "203.0.113.22") or _pending_for(switches) < 2:
        pass
    switches.apply("rolled_back", cookie=cookie)
    times = _times(lab, "sipguard-offenders4")
    assert times.keys() == {"203.0.113.20", "203.0.113.21"}, "a second is over, and whoever was learned since is free"
    assert 0 < times["203.0.113.20"] < 500
    assert times["203.0.113.21"] == 0
    assert "sipguard-banned4" not in lab.sets()
    assert {**exact(lab), "sets": ""} == {**before, "sets": ""}


def _pending_for(switches: Switches) -> int:
    pending = switches.situation()["pending"]
    assert isinstance(pending, dict)
    return 60 - int(pending["seconds_left"])


def test_going_far_back_leaves_what_was_learned_since(nft_lab: Lab) -> None:
    lab = nft_lab
    switches = Switches(lab)
    lab.blocklist()
    for source in ("203.0.113.1", "203.0.113.2"):
        switches.keep(lambda cookie, source=source: lab.trust(source, switch=cookie))
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), source="198.18.7.7")
    switches.sipguard("rollback")
    assert lab.member("sipguard-trusted", "203.0.113.1")
    assert not lab.member("sipguard-trusted", "203.0.113.2")
    assert lab.member("sipguard-offenders", "198.18.7.7")


def test_conversations_are_judged_again(lab: Lab) -> None:
    """Also one that was admitted under the very generation that comes back."""
    switches = Switches(lab)
    lab.blocklist()
    cookie = switches.arm(60)
    flows = []
    for presets in (["voipsupport"], ["scanners"], ["voipsupport"]):
        lab.blocklist(switch=cookie, presets=presets, exclude=["friendly-scanner"], learn_for=0)
        for family in (4, 6):
            flow = lab.attacker.udp(family)
            assert lab.passes(flow, sip.request(sip.SCANNER))
            flows.append(flow)
    switches.apply("rolled_back", cookie=cookie)
    for flow in flows:
        assert not lab.passes(flow, sip.request(sip.SCANNER))
    assert lab.reaches(lab.phone, sip.request())


# -- whatever others did meanwhile


def test_rules_of_others_stay_as_they_are_now(lab: Lab) -> None:
    switches = Switches(lab)
    lab.trust(*TRUNK)
    lab.blocklist()
    own = {family: rules.own_part(lab.save(family)) for family in (4, 6)}
    cookie = switches.arm(60)
    lab.blocklist(switch=cookie, state="absent")
    lab.pbx.run("ipset", "restore", stdin=rules.FOREIGN_SETS)
    for family in (4, 6):
        lab.restore(F2B, family)
    _both(lab, "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
    _both(lab, "-t", "raw", "-A", "PREROUTING", "-p", "udp", "--dport", "53", "-j", "NOTRACK")
    foreign = [rules.foreign_part(lab.save(family)) for family in (4, 6)]
    switches.apply("rolled_back", cookie=cookie)
    assert [rules.foreign_part(lab.save(family)) for family in (4, 6)] == foreign
    assert {family: rules.own_part(lab.save(family)) for family in (4, 6)} == own
    assert "add apiban 203.0.113.202" in lab.sets()
    assert not lab.blocklist()["changed"], "the hook stands where it belongs"


def test_hook_behind_others_that_are_gone_comes_first(lab: Lab) -> None:
    switches = Switches(lab)
    lab.blocklist()
    for family in (4, 6):
        lab.restore(F2B, family)
    cookie = switches.arm(60)
    for family in (4, 6):
        lab.iptables("-F", family=family)
        lab.iptables("-X", "f2b-asterisk", family=family)
        lab.iptables("-A", "INPUT", "-p", "udp", "-j", "ACCEPT", family=family)
    assert lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    switches.apply("rolled_back", cookie=cookie)
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    assert "-A INPUT -j SIPGUARD\n-A INPUT -p udp -j ACCEPT" in lab.save(4)


def test_foreign_rules_that_need_ours_do_not_keep_the_host_locked(lab: Lab) -> None:
    switches = Switches(lab)
    cookie = switches.arm(60)
    lab.blocklist(switch=cookie)
    lab.iptables("-A", "FORWARD", "-p", "udp", "-j", "SIPGUARD-UA")
    lab.iptables("-A", "FORWARD", "-m", "set", "--match-set", "sipguard-offenders4", "src", "-j", "DROP")
    lab.pbx.run("ipset", "add", "sipguard-offenders4", "203.0.113.20")
    said = switches.apply("rolled_back", cookie=cookie)["said"]
    assert "chain SIPGUARD-UA of table filter stays, empty" in said
    assert "set sipguard-offenders4 stays, empty" in said
    assert re.findall(r"^-A SIPGUARD.*|^-A INPUT.*", lab.save(4), flags=re.M) == []
    assert "SIPGUARD" not in lab.save(6)
    assert not lab.member("sipguard-offenders", "203.0.113.20")


def test_table_that_iptables_cannot_show_costs_that_table_only(nft_lab: Lab) -> None:
    """Loudly, and again as soon as it can be shown."""
    lab = nft_lab
    switches = Switches(lab)
    lab.blocklist()
    before = exact(lab)
    cookie = switches.arm(60)
    lab.blocklist(switch=cookie, user_agents=["evilbot/1.0"])
    changed = exact(lab)
    lab.pbx.run("nft", "add rule ip filter INPUT ct state new counter meta l4proto udp @th,16,16 5 drop")
    message = switches.module("rolled_back", cookie=cookie)["msg"]
    assert "not everything could be brought back" in message
    assert "nft list table ip filter" in message
    assert exact(lab)[6, "nft"] == before[6, "nft"] != changed[6, "nft"]
    assert switches.situation()["pending"]["cookie"] == cookie
    handle = next(line for line in lab.pbx.run("nft", "-a", "list", "ruleset").split("\n") if "ct state new" in line)
    lab.pbx.run("nft", f"delete rule ip filter INPUT handle {handle.split()[-1]}")
    switches.apply("rolled_back", cookie=cookie)
    assert exact(lab) == before
    assert "nft list table" in (_unseen_is_refused(lab, switches))


def _unseen_is_refused(lab: Lab, switches: Switches) -> str:
    """What is said when a state cannot even be kept."""
    lab.pbx.run("nft", "add rule ip filter INPUT ct state new counter meta l4proto udp @th,16,16 5 drop")
    message: str = switches.module("armed")["msg"]
    assert switches.situation()["pending"] is None
    return message
