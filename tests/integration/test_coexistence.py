# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not ours stays byte for byte, whatever we do; and when we go, nothing of ours is left."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.harness import command, rules, sip
from tests.integration.harness.lab import NETWORKS, Lab
from tests.integration.harness.netns import Namespace
from tests.integration.harness.sink import Sink


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


@pytest.mark.parametrize(
    "remark",
    ["a\u2028*raw\u2028COMMIT\u2028b", "a\x85-A INPUT -j SIPGUARD\x0c:SIPGUARD - [0:0]", "a\udcffb"],
    ids=["line_separator", "next_line", "latin1"],
)
def test_foreign_comment_that_looks_like_lines(lab: Lab, remark: str) -> None:
    for family in (4, 6):
        lab.iptables("-I", "FORWARD", "-m", "comment", "--comment", remark, "-j", "RETURN", family=family)
    before = _foreign_rules(lab)
    assert "COMMIT" in remark or any(remark in saved for saved in before.values())
    lab.four_runs("sip_ua_blocklist")
    assert _foreign_rules(lab) == before
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    assert lab.reaches(lab.phone, sip.request())
    lab.four_runs("sip_ua_blocklist", state="absent")
    assert _foreign_rules(lab) == before
    assert lab.sets() == ""


def _foreign_rules(lab: Lab) -> dict[int, str]:
    return {family: rules.foreign_part(lab.save(family)) for family in (4, 6)}


def test_unreadable_comment_in_a_chain_of_ours_is_replaced(lab: Lab) -> None:
    lab.blocklist()
    whole = {family: rules.own_part(lab.save(family)) for family in (4, 6)}
    for family in (4, 6):
        lab.iptables("-I", "SIPGUARD", "-m", "comment", "--comment", "a\udcff\u2028b", "-j", "RETURN", family=family)
    lab.four_runs("sip_ua_blocklist")
    assert {family: rules.own_part(lab.save(family)) for family in (4, 6)} == whole


# iptables has no words for a rule of this kind, and so does not show the table any more.
NATIVE = "add rule {family} {table} {chain} ct state new counter meta l4proto udp @th,16,16 5 drop"


def _ruleset(lab: Lab) -> str:
    return re.sub(r"packets \d+ bytes \d+", "", lab.pbx.run("nft", "list", "ruleset"))


def _add_native_rule(lab: Lab, table: str, chain: str, family: int = 4) -> None:
    lab.iptables("-t", table, "-A", chain, "-s", "192.0.2.200" if family == 4 else "2001:db8::200", family=family)
    lab.pbx.run("nft", NATIVE.format(family="ip" if family == 4 else "ip6", table=table, chain=chain))


@pytest.mark.parametrize("family_name", ["ip", "ip6"])
def test_native_rule_in_the_filter_table(nft_lab: Lab, family_name: str) -> None:
    lab = nft_lab
    _add_native_rule(lab, "filter", "INPUT", 6 if family_name == "ip6" else 4)
    before = _ruleset(lab)
    message = lab.refused("sip_ua_blocklist")
    for said in ("filter", f"nft list table {family_name} filter", "mangle"):
        assert said in message, message
    assert _ruleset(lab) == before
    lab.four_runs("sip_ua_blocklist", table="mangle")
    for family in (4, 6):
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)
        assert lab.reaches(lab.phone, sip.request(), "udp", family)
    lab.four_runs("sip_ua_blocklist", state="absent")
    listed = _ruleset(lab)
    assert "SIPGUARD" not in listed
    assert listed.count("ct state new") == 1


def test_native_rule_in_the_raw_table(nft_lab: Lab) -> None:
    _add_native_rule(nft_lab, "raw", "PREROUTING")
    before = _ruleset(nft_lab)
    message = nft_lab.refused("sip_ua_blocklist")
    assert "nft list table ip raw" in message
    assert _ruleset(nft_lab) == before


@pytest.mark.parametrize("chain", ["INPUT", "SIPGUARD"])
@pytest.mark.parametrize(
    "options",
    [{"state": "absent"}, {"table": "mangle"}, {"user_agents": ["evilbot/1.0"]}, {"backend": "legacy"}],
    ids=["absent", "mangle", "changed", "legacy"],
)
def test_native_rule_beside_ours(nft_lab: Lab, options: dict[str, Any], chain: str) -> None:
    """Our own rules are in the table that iptables does not show any more: nothing may be left there unsaid."""
    lab = nft_lab
    lab.blocklist()
    lab.pbx.run("nft", NATIVE.format(family="ip", table="filter", chain=chain))
    before = _ruleset(lab)
    message = lab.refused("sip_ua_blocklist", **options)
    assert "nft list table ip filter" in message
    assert "mangle" not in message
    assert _ruleset(lab) == before
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    handle = next(line for line in lab.pbx.run("nft", "-a", "list", "ruleset").split("\n") if "ct state new" in line)
    lab.pbx.run("nft", f"delete rule ip filter {chain} handle {handle.split()[-1]}")
    lab.four_runs("sip_ua_blocklist", **options)
    gone = options.get("state") == "absent"
    assert lab.reaches(lab.attacker, sip.request(sip.SCANNER)) is gone
    assert ("SIPGUARD" in _ruleset(lab)) is not (gone or options.get("backend") == "legacy")


@pytest.mark.parametrize("other", [False, True], ids=["same_backend", "other_backend"])
@pytest.mark.parametrize(
    "use",
    [
        ["-m", "set", "--match-set", "sipguard-offenders4", "src", "-j", "DROP"],
        ["-p", "udp", "--dport", "9", "-j", "SET", "--add-set", "sipguard-offenders4", "src"],
    ],
    ids=["match", "target"],
)
def test_absent_with_a_foreign_look_into_a_set_says_which(lab: Lab, use: list[str], other: bool) -> None:
    lab.blocklist()
    backend = {"nft": "legacy", "legacy": "nft"}[lab.backend] if other else lab.backend
    lab.pbx.run(f"iptables-{backend}", "-A", "FORWARD", *use)
    message = lab.refused("sip_ua_blocklist", state="absent")
    assert "-A FORWARD " in message
    assert "sipguard-offenders4" in message
    assert (f"iptables-{backend}" in message) is other
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    assert not lab.blocklist()["changed"]
    lab.pbx.run(f"iptables-{backend}", "-D", "FORWARD", *use)
    lab.four_runs("sip_ua_blocklist", state="absent")
    assert lab.sets() == ""
    for family in (4, 6):
        assert "SIPGUARD" not in lab.save(family)


# -- Docker

# What dockerd 24 writes for one container with "-p 5061:5060/udp" on its default bridge.
DOCKER = {
    "nat": """\
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p udp -m udp --dport 5060 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p udp -m udp --dport 5061 -j DNAT --to-destination 172.17.0.2:5060
""",
    "filter": """\
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p udp -m udp --dport 5060 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
""",
}


@contextlib.contextmanager
def _container(lab: Lab) -> Iterator[Sink]:
    """What listens in a container of the PBX, whose port 5060 is published as 5061."""
    container = Namespace("container")
    lab.pbx.ip(
        [
            "link add docker0 type bridge",
            "addr add 172.17.0.1/16 dev docker0",
            "link set docker0 up",
            f"link add veth0 type veth peer name eth0 netns {container.name}",
            "link set veth0 master docker0",
            "link set veth0 up",
        ]
    )
    container.ip(["addr add 172.17.0.2/16 dev eth0", "link set eth0 up", "route add default via 172.17.0.1"])
    lab.pbx.sysctl({"net/ipv4/ip_forward": "1"})
    for table, rules_of_docker in DOCKER.items():
        lab.restore(f"*{table}\n{rules_of_docker}COMMIT\n")
    sink = Sink(container, ["172.17.0.2"], [5060])
    try:
        yield sink
    finally:
        sink.close()
        container.close()


def test_port_that_docker_publishes_passes_input_by_and_not_raw(lab: Lab) -> None:
    with _container(lab) as container:
        before = _foreign_rules(lab)
        assert "-A DOCKER ! -i docker0 -p udp" in before[4]
        lab.blocklist()
        lab.four_runs("sip_ua_blocklist", user_agents=["evilbot/1.0"])
        assert _foreign_rules(lab) == before
        assert lab.pbx.run("sysctl", "-n", "net.ipv4.ip_forward") == "1\n"
        # Nobody judges what goes to a container: signatures, limits and gate stand in INPUT.
        published = lab.attacker.udp(port=5061)
        heard = sip.request(sip.SCANNER)
        published.send(heard.wire)
        assert container.wait(heard.token)
        # Whoever has been caught at the host's own port is dropped in raw, which comes before that.
        own, again = lab.attacker.udp(source=published.source), sip.request(sip.SCANNER)
        assert not lab.passes(own, again)
        assert lab.member("sipguard-offenders", published.source)
        published.send(again.wire)
        lab.barrier()
        phone, call = lab.phone.udp(port=5061), sip.request()
        phone.send(call.wire)
        assert container.wait(call.token)
        assert not container.has(again.token)


# -- FreePBX's firewall

# A few chains of it, in its order; it owns the filter table, and walks only INPUT of IPv4 to find intruders.
FREEPBX = """\
*filter
:fpbxfirewall - [0:0]
:fpbx-rtp - [0:0]
:fpbxsignalling - [0:0]
:fpbxreject - [0:0]
:fpbxlogdrop - [0:0]
-I INPUT -j fpbxfirewall
-A fpbxfirewall -i lo -j ACCEPT
-A fpbxfirewall -p tcp -m connmark ! --mark 0x20 -m state --state RELATED,ESTABLISHED -j ACCEPT
-A fpbxfirewall -j fpbx-rtp
-A fpbxfirewall -j fpbxsignalling
-A fpbxfirewall -p tcp -m multiport --dports 5060,5061 -j ACCEPT
-A fpbxfirewall -p udp -m multiport --dports 5060,5061 -j ACCEPT
-A fpbxfirewall -j fpbxreject
-A fpbxfirewall -j fpbxlogdrop
-A fpbx-rtp -p udp -m udp --dport 10000:20000 -j ACCEPT
-A fpbxsignalling -p udp -m udp --dport 5060 -j MARK --set-xmark 0x1/0xffffffff
-A fpbxlogdrop -j DROP
COMMIT
"""


def _freepbx_start(lab: Lab) -> None:
    """What its start, stop, restart and reset do: everything in filter and nat goes, of both families, and it builds its own."""
    for family in (4, 6):
        for words in ("-F", "-X", "-t nat -F", "-t nat -X"):
            lab.iptables(*words.split(), family=family)
        lab.restore(FREEPBX, family)


def _freepbx_cycle(lab: Lab) -> bool:
    """What it does every half a minute; whether it has found a rule of somebody else's above its own, and so has started anew."""
    for line in lab.pbx.run(f"iptables-{lab.backend}", "-w", "-S", "INPUT").splitlines():
        if line == "-A INPUT -j fpbxfirewall":
            return False
        if line.startswith("-A INPUT ") and "fail2ban" not in line and "f2b" not in line:
            break
    _freepbx_start(lab)
    return True


def test_freepbx_removes_us_from_filter_again_and_again_and_never_from_mangle(lab: Lab) -> None:
    command.install(lab)
    _freepbx_start(lab)
    before = _foreign_rules(lab)
    lab.trust(*NETWORKS["trunk"].values())
    lab.blocklist(table="filter")
    assert _foreign_rules(lab) == before
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    for dummy in range(2):
        assert _freepbx_cycle(lab), "it tolerates us, so this test shows nothing"
        assert _foreign_rules(lab) == before
        assert lab.reaches(lab.attacker, sip.request(sip.SCANNER))
        assert "missing: ipv4: SIPGUARD-UA" in command.repair(lab)
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
    lab.four_runs("sip_ua_blocklist", table="mangle")
    assert _foreign_rules(lab) == before
    whole = {family: rules.own_part(lab.save(family)) for family in (4, 6)}
    assert not _freepbx_cycle(lab)
    _freepbx_start(lab)
    assert {family: rules.own_part(lab.save(family)) for family in (4, 6)} == whole
    assert _foreign_rules(lab) == before
    assert command.repair(lab) == "sipguard: nothing was missing\n"
    assert not lab.blocklist(table="mangle")["changed"]
    for family in (4, 6):
        for transport in ("udp", "tcp"):
            assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family)
            assert lab.reaches(lab.phone, sip.request(), transport, family)
