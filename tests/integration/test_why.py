# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an address is stopped, compared with what really becomes of its packets."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.integration.harness import sip
from tests.integration.harness.command import install, sipguard
from tests.integration.harness.lab import Lab
from tests.integration.harness.modules import run_module

STRANGER = {4: "198.18.7.7", 6: "2001:db8:bad::7:7"}
OTHER = {4: "198.18.7.8", 6: "2001:db8:bad::7:8"}
NOW = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
TODAY = r"\d{4}-\d\d-\d\d"


def why(lab: Lab, address: str) -> dict[str, Any]:
    """What sipguard_info says of an address; it must not change anything."""
    before = lab.snapshot()
    result = run_module(lab.pbx, "sipguard_info", {"addresses": [address]})
    assert not result.get("failed"), result
    assert lab.snapshot() == before
    found: dict[str, Any] = result["addresses"][address]
    return found


def findings(lab: Lab, address: str) -> list[tuple[str, str]]:
    return [(each["what"], each["text"]) for each in why(lab, address)["findings"]]


def test_everything_at_once_in_the_order_of_a_packet(nft_lab: Lab) -> None:
    lab = nft_lab
    lab.apply("sip_domain_gate", domains=["pbx.example.org"], learn_for=600)
    lab.blocklist(mode="observe")
    lab.apply("sip_host_policy", lan=["203.0.113.0/24"], require_ssh=False)
    lab.apply("sip_blocklist", name="hoster", sources=[{"value": "198.18.0.0/17", "note": "as\x1b[2J seen"}])
    lab.apply("sip_blocklist", name="weekly", mode="observe", sources=["198.18.7.0-198.18.7.9"])
    lab.apply("sip_ban", addresses=["198.18.7.0/24"], time="1h", reason="a quarrel")
    lab.pbx.run("ipset", "add", "sipguard-offenders4", STRANGER[4], "timeout", "600")
    lab.pbx.run("ipset", "add", "sipguard-observed4", STRANGER[4], "timeout", "600")
    for name, kind in (("f2b-sshd", "hash:ip"), ("fail2ban-x", "hash:net"), ("mine", "hash:ip")):
        lab.pbx.run("ipset", "create", name, kind)
        lab.pbx.run("ipset", "add", name, STRANGER[4])
    lab.pbx.run("ipset", "create", "f2b-six", "hash:ip", "family", "inet6")
    lab.pbx.run("ipset", "add", "f2b-six", STRANGER[6])
    install(lab)
    done = sipguard(lab, "why", STRANGER[4])
    wanted = [
        r"198\.18\.7\.7: STOPPED",
        r"  learned as an offender, (10 min|9 min( \d+ s)?) left: its SIP packets are dropped \(sipguard-offenders4\)",
        r"  banned as part of 198\.18\.7\.0/24, (1 h|59 min( \d+ s)?) left, reason 'a quarrel': all its packets are dropped "
        r"\(sipguard-banned4\)",
        rf"  on the list hoster as 198\.18\.0\.0/17 \(written {NOW}, note 'as\\+x1b\[2J seen'\): all its packets are dropped "
        r"\(sipguard-blocked4\)",
        rf"  on the list weekly as 198\.18\.7\.0-198\.18\.7\.9 \(written {NOW}\): noted, not stopped \(mode observe\)",
        r"  host policy: it reaches sip, sips, rtp \(udp 5060, 10000-20000; tcp 5060-5061\); everything else is dropped",
        r"  each new conversation to 5060:5061 is judged by what it sends: the domain gate and signatures \(mode observe\)",
        r"  seen in observe mode: what it sent would have been stopped \(sipguard-observed4\)",
        r"  in the set f2b-sshd of fail2ban, which is not sipguard's",
        r"  in the set fail2ban-x of fail2ban, which is not sipguard's",
    ]
    lines = done.stdout.splitlines()
    assert (len(lines), done.returncode, done.stderr) == (len(wanted), 1, ""), lines
    assert [line for each, line in zip(wanted, lines, strict=True) if not re.fullmatch(each, line)] == []
    lab.trust("198.18.7.7")
    done = sipguard(lab, "why", STRANGER[4])
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[:2] == [
        "198.18.7.7: not stopped",
        "  trusted as 198.18.7.7: never judged, limited, learned, banned or blocked (sipguard-trusted4)",
    ]
    assert lines[-1] == "  trust comes first, so learned, banned and blocked entries stop nothing"
    assert not any("is judged by" in line for line in lines)
    done = sipguard(lab, "why", STRANGER[6])
    assert (done.returncode, done.stdout.splitlines()[:2]) == (
        0,
        [f"{STRANGER[6]}: not stopped", "  in none of sipguard's sets"],
    )
    assert done.stdout.endswith("\n  in the set f2b-six of fail2ban, which is not sipguard's\n")


def test_what_is_said_is_what_happens_to_packets(lab: Lab, family: int) -> None:
    lab.apply("sip_ban", addresses=[STRANGER[family]])
    for address in (STRANGER[family], OTHER[family]):
        heard = lab.reaches(lab.attacker, sip.request(), family=family, source=address)
        assert why(lab, address)["stopped"] is not heard
    # Somebody flushes the table: the set is still there, and stops nobody.
    lab.iptables("-t", "raw", "-F", family=family)
    assert lab.reaches(lab.attacker, sip.request(), family=family, source=STRANGER[family])
    found = why(lab, STRANGER[family])
    assert found["stopped"] is False
    assert "no rule drops that set now, see sipguard status" in found["findings"][0]["text"]


def test_lists_exceptions_and_sets_that_nobody_has_filled(nft_lab: Lab) -> None:
    lab = nft_lab
    lab.apply("sip_blocklist", name="hoster", sources=["198.18.7.0/24"])
    assert why(lab, STRANGER[4])["stopped"] is True
    lab.apply("sip_ban", addresses=[STRANGER[4]], state="unbanned", reason="ticket 4711")
    found = why(lab, STRANGER[4])
    assert found["stopped"] is False
    texts = [each["text"] for each in found["findings"]]
    assert re.fullmatch(rf"on the list hoster as 198\.18\.7\.0/24 \(written {NOW}\): not blocked", texts[0])
    assert re.fullmatch(rf"excepted by sipguard unban since {TODAY}: ticket 4711", texts[1])
    lab.pbx.run("ipset", "add", "sipguard-blocked4", STRANGER[4])
    lab.pbx.run("ipset", "add", "sipguard-blocked4", "198.18.99.99")
    assert "blocked, although it is excepted, " in why(lab, STRANGER[4])["findings"][2]["text"]
    found = why(lab, "198.18.99.99")
    assert (found["stopped"], len(found["findings"])) == (True, 1)
    assert "blocked, although no list has it, " in found["findings"][0]["text"]
    lab.pbx.run("sh", "-c", "echo garbage >/var/lib/sipguard/lists/hoster")
    found = why(lab, OTHER[4])
    assert (found["stopped"], [each["what"] for each in found["findings"]]) == (True, ["blocked", "problem"])
    assert "the list hoster is damaged" in found["findings"][1]["text"]


LIMITS = {
    "hashlimit": {"method": "REGISTER", "rate": "3/minute", "burst": 5, "engine": "hashlimit"},
    "network": {"method": "any", "rate": "5/minute", "burst": 5, "engine": "hashlimit", "per": "source_net"},
    "recent": {"method": "REGISTER", "rate": "5/minute", "engine": "recent"},
}


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.parametrize("limit", LIMITS)
def test_limit_is_named_while_a_source_is_over_it(nft_lab: Lab, family: int, limit: str, mode: str) -> None:
    lab = nft_lab
    lab.apply("sip_ratelimit", limits=[LIMITS[limit]], presets=[], mode=mode)
    loud = lab.attacker.udp(family, source=STRANGER[family])
    calm = lab.phone.udp(family)
    for dummy in range(8):
        loud.send(sip.request().wire)
    assert lab.passes(calm, sip.request())
    found = why(lab, STRANGER[family])
    assert found["stopped"] is False
    texts = [each["text"] for each in found["findings"] if each["what"] == "limit"]
    name = "any" if limit == "network" else "REGISTER"
    rate = "3/minute" if limit == "hashlimit" else "5/minute"
    whose = " from a network" if limit == "network" else ""
    verb = "is dropped" if mode == "enforce" else "would be dropped (mode observe)"
    assert texts == [f"over a limit now, {name} over {rate}{whose}: what is more {verb}"]
    assert [each for each in why(lab, calm.source)["findings"] if each["what"] == "limit"] == []


def test_host_policy_says_what_gets_through(lab: Lab, family: int) -> None:
    services = [
        {"name": "console", "ports": ["5070"], "protocols": ["udp", "tcp"], "from": ["trunks", "branch"]},
        {"name": "sip", "from": ["trunks"]},
        {"name": "own", "ports": ["7000:7009"], "from": ["198.18.7.8", "2001:db8:bad::7:8"]},
    ]
    lab.marker_port = 5061
    lab.apply(
        "sip_host_policy",
        services=[*services, {"name": "marker", "ports": ["5061"], "protocols": ["udp"], "from": ["everyone"]}],
        trunks=["203.0.113.0/24", "2001:db8:3::/64"],
        lists={"branch": ["198.18.7.7", "2001:db8:bad::7:7"]},
        require_ssh=False,
    )
    strangers = {"udp": ["5061", "10000:20000"], "tcp": ["5061"]}
    cases = {
        ("trunk", lab.trunk.address(family)): {
            "udp": ["4569", "5060:5061", "5070", "10000:20000"],
            "tcp": ["5060:5061", "5070"],
            "ping": [],
        },
        ("branch", STRANGER[family]): {"udp": ["5061", "5070", "10000:20000"], "tcp": ["5061", "5070"]},
        ("own", OTHER[family]): {"udp": ["5061", "10000:20000"], "tcp": ["5061", "7000:7009"]},
        ("anybody", lab.attacker.address(family)): strangers,
    }
    for (who, address), allowed in cases.items():
        found = [each for each in why(lab, address)["findings"] if each["what"] == "host"]
        assert [each["allowed"] for each in found] == [allowed], address
        host = lab.trunk if "trunk" in who else lab.attacker
        for transport in ("udp", "tcp"):
            for port in (5060, 5061, 5070):
                heard = lab.reaches(host, sip.request(), transport, family, source=address, port=port)
                ends = [(ports.partition(":")[0], ports.rpartition(":")[2]) for ports in allowed[transport]]
                inside = any(int(first) <= port <= int(last) for first, last in ends)
                assert heard is inside, (address, transport, port)


def test_host_policy_that_lets_a_source_reach_nothing_stops_it(nft_lab: Lab) -> None:
    nobody = [{"name": name, "from": ["lan"]} for name in ("sip", "sips", "rtp")]
    nft_lab.apply("sip_host_policy", services=nobody, lan=["203.0.113.0/24"], require_ssh=False)
    found = why(nft_lab, STRANGER[4])
    assert (found["stopped"], [each["text"] for each in found["findings"]]) == (
        True,
        ["host policy: it reaches no service; everything is dropped"],
    )
    assert why(nft_lab, "203.0.113.9")["stopped"] is False
    nft_lab.apply("sip_host_policy", services=nobody, mode="observe")
    assert findings(nft_lab, STRANGER[4]) == [("host", "host policy: nothing is stopped")]


def test_host_without_anything_has_nothing_to_say(nft_lab: Lab) -> None:
    assert why(nft_lab, STRANGER[4]) == {"address": STRANGER[4], "stopped": False, "found": {}, "findings": []}
