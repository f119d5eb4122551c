# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each option of the gate changes what gets through; switching it on, changing it and taking it away does what it says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.harness import sip
from tests.integration.harness.lab import NETWORKS, PBX, WAYS, Lab, UdpFlow
from tests.integration.harness.rules import FOREIGN, FOREIGN_SETS, foreign_part

GATE = "sip_domain_gate"
OURS = "pbx.example.org"
STUN = bytes.fromhex("000100002112a442")
REJECT = {4: "icmp-port-unreachable", 6: "icmp6-port-unreachable"}
LAN = {4: "198.51.100.0/24", 6: "2001:db8:1::/64"}


def _gate(lab: Lab, **options: Any) -> dict[str, Any]:
    return lab.apply(GATE, **{"domains": [OURS], **options})


def _scan(method: str = "REGISTER") -> sip.Request:
    return sip.request(method=method, uri="sip:192.0.2.1", host="192.0.2.1")


def _passes(lab: Lab, make: Callable[[], sip.Request]) -> list[bool]:
    """Whether such a message gets through, over each transport and family."""
    return [lab.reaches(lab.attacker, make(), *way) for way in WAYS]


def test_four_runs(lab: Lab) -> None:
    result = lab.four_runs(GATE, domains=[OURS, "Tel.Example.COM.", OURS.upper()], trunks=["203.0.113.0/24"])
    assert result["domains"] == [OURS, "tel.example.com"]
    assert all(count > 100 for count in result["rules"].values())
    lab.four_runs(
        GATE, domains=["tel.example.com"], methods=["register"], learn_for=60, tls_ports=[], families=["ipv4"]
    )
    for family, passed in ((4, False), (6, True)):
        assert lab.reaches(lab.attacker, _scan(), "udp", family) is passed
    lab.four_runs(GATE, state="absent")
    assert _passes(lab, _scan) == [True] * 4


def test_nothing_is_left_behind(lab: Lab) -> None:
    for family in (4, 6):
        lab.restore(FOREIGN.format(reject=REJECT[family], lan=LAN[family], banned=NETWORKS["trunk"][family]), family)
    lab.pbx.run("ipset", "restore", stdin=FOREIGN_SETS)
    foreign, sets = {family: foreign_part(lab.save(family)) for family in (4, 6)}, lab.sets()
    for options in ({}, {"mode": "observe"}, {"learn_for": 60, "table": "mangle"}):
        _gate(lab, **options)
        assert {family: foreign_part(lab.save(family)) for family in (4, 6)} == foreign
    lab.apply(GATE, state="absent")
    assert {family: foreign_part(lab.save(family)) for family in (4, 6)} == foreign
    assert not any("SIPGUARD-" in lab.save(family) for family in (4, 6))
    assert lab.sets() == sets
    assert lab.files() == {}


def test_gate_and_signatures_are_the_same_in_either_order(nft_lab: Lab) -> None:
    _gate(nft_lab)
    nft_lab.blocklist()
    both = nft_lab.snapshot()
    assert not _gate(nft_lab)["changed"]
    nft_lab.blocklist(state="absent")
    nft_lab.apply(GATE, state="absent")
    nft_lab.blocklist()
    _gate(nft_lab)
    again = nft_lab.snapshot()
    assert {key: sorted(str(value).splitlines()) for key, value in again.items() if key not in ("sets", "files")} == {
        key: sorted(str(value).splitlines()) for key, value in both.items() if key not in ("sets", "files")
    }
    for way in WAYS:
        assert not nft_lab.reaches(nft_lab.attacker, sip.request(sip.SCANNER), *way)
        assert not nft_lab.reaches(nft_lab.attacker, _scan(), *way)
        assert nft_lab.reaches(nft_lab.attacker, sip.request(), *way)


# -- switching on


def _flows(lab: Lab) -> list[UdpFlow]:
    return [lab.attacker.flow(*way) for way in WAYS]


@pytest.mark.parametrize("before", ["nothing", "conntrack", "blocklist", "observe"])
def test_running_attack_is_cut(lab: Lab, before: str) -> None:
    if before == "conntrack":
        for family in (4, 6):
            state = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED"]
            lab.iptables("-A", "INPUT", *state, "-j", "ACCEPT", family=family)
    if before == "blocklist":
        lab.blocklist()
    if before == "observe":
        _gate(lab, mode="observe")
    attacks, calls = _flows(lab), _flows(lab)
    for attack, call in zip(attacks, calls, strict=True):
        for dummy in range(2):
            attack.send(_scan().wire)
            assert attack.answer().startswith(b"SIP/2.0 200")
            call.send(sip.request().wire)
            assert call.answer().startswith(b"SIP/2.0 200")
    _gate(lab)
    for attack, call in zip(attacks, calls, strict=True):
        if before == "observe":  # whoever has named the domain meanwhile is known
            assert lab.passes(call, sip.response(sip.PHONE, host="192.0.2.1"))
            assert lab.passes(call, _scan("BYE"))
        assert lab.passes(call, sip.request())
        assert lab.passes(call, _scan("BYE"))
        assert not lab.passes(attack, _scan())
        assert not lab.passes(attack, _scan("BYE"))


def test_named_flow_survives_the_rules_of_others(nft_lab: Lab) -> None:
    """A call is not cut off by a longer list of signatures: its BYE names the address of the PBX."""
    _gate(nft_lab)
    calls = _flows(nft_lab)
    for call in calls:
        assert nft_lab.passes(call, sip.request())
    for agents in (["evilbot/1"], ["evilbot/2"], ["evilbot/3"], ["evilbot/4"]):
        nft_lab.blocklist(user_agents=agents)
    for call in calls:
        assert nft_lab.passes(call, sip.response(sip.PHONE, host="192.0.2.1"))
        assert nft_lab.passes(call, _scan("BYE"))
    for attack in _flows(nft_lab):
        assert not nft_lab.passes(attack, _scan("BYE"))


def test_more_domains_cut_nobody_off_and_fewer_do(nft_lab: Lab) -> None:
    other, trunks = "tel.example.com", list(NETWORKS["attacker"].values())  # markers come from there
    _gate(nft_lab, trunks=trunks)
    calls = [nft_lab.phone.flow(*way) for way in WAYS]
    for call in calls:
        assert nft_lab.passes(call, sip.request())
    _gate(nft_lab, trunks=trunks, domains=[OURS, other])
    for call in calls:
        assert nft_lab.passes(call, _scan("BYE"))
    _gate(nft_lab, trunks=trunks, domains=[other])
    assert "add sipguard-named" not in nft_lab.sets()
    for call in calls:
        assert not nft_lab.passes(call, _scan("BYE"))
    for way in WAYS:
        assert not nft_lab.reaches(nft_lab.phone, sip.request(), *way)
        assert nft_lab.reaches(nft_lab.phone, sip.request(uri=f"sip:{other}"), *way)


# -- options


def test_methods(lab: Lab) -> None:
    lab.four_runs(GATE, domains=[OURS], methods=["REGISTER", "invite"])
    for method, lead, passed in (
        ("REGISTER", b"", False),
        ("register", b"", False),
        ("INVITE", b"", False),
        ("INVITE", b"\r\n", False),
        ("Invite", b"\r\n\r\n", False),
        ("OPTIONS", b"", True),
        ("BYE", b"", True),
    ):
        for make, expected in ((_scan, passed), (sip.request, True)):
            flows = _flows(lab)
            messages = [make(method=method) for dummy in flows]
            for flow, message in zip(flows, messages, strict=True):
                flow.send(lead + message.wire)
            lab.barrier()
            assert [lab.sink.has(message.token) for message in messages] == [expected] * 4, (method, lead)


@pytest.mark.parametrize("choice", ["accept", "drop"])
def test_other_traffic(nft_lab: Lab, choice: str) -> None:
    _gate(nft_lab, other_traffic=choice, learn_for=60)
    for transport, family in WAYS:
        flow = nft_lab.phone.flow(transport, family)
        token = sip.request().token.ljust(12, b"-")[-12:]
        alive = [b"\r\n\r\n", b"\r\n"] + ([b"", STUN + token] if transport == "udp" else [])
        flow.send(*alive)
        nft_lab.barrier()
        got = b"".join(record.payload for record in nft_lab.sink.all() if record.source == flow.source)
        assert got == (b"".join(alive) if choice == "accept" else b"")
        assert not nft_lab.member("sipguard-offenders", flow.source)
        assert nft_lab.passes(flow, sip.request())
        assert nft_lab.passes(flow, sip.Request(token, STUN + token))


def test_interfaces(nft_lab: Lab) -> None:
    nft_lab.four_runs(GATE, domains=[OURS], interfaces=["attacker"])
    for way in WAYS:
        assert not nft_lab.reaches(nft_lab.attacker, _scan(), *way)
        assert nft_lab.reaches(nft_lab.phone, _scan(), *way)


def test_ports(nft_lab: Lab) -> None:
    nft_lab.four_runs(GATE, domains=[OURS], ports=["5070"], tls_ports=[])
    for transport, family in WAYS:
        assert not nft_lab.reaches(nft_lab.attacker, _scan(), transport, family, port=5070)
        assert nft_lab.reaches(nft_lab.attacker, _scan(), transport, family, port=5060)
        assert nft_lab.reaches(nft_lab.attacker, _scan(), transport, family, port=5061)


@pytest.mark.parametrize("table", ["filter", "mangle"])
def test_table(lab: Lab, table: str) -> None:
    lab.four_runs(GATE, domains=[OURS], table=table)
    assert _passes(lab, _scan) == [False] * 4
    assert _passes(lab, sip.request) == [True] * 4


def test_reject(lab: Lab) -> None:
    lab.four_runs(GATE, domains=[OURS], action="reject")
    for family in (4, 6):
        scan, call = lab.attacker.udp(family), lab.attacker.udp(family)
        scan.send(_scan().wire)
        with pytest.raises(ConnectionRefusedError):
            scan.answer()
        call.send(sip.request().wire)
        assert call.answer().startswith(b"SIP/2.0 200")


@pytest.mark.parametrize(
    "entry", [["203.0.113.0/24", "2001:db8:3::/64"], ["203.0.113.0-203.0.113.255", "2001:db8:3::-2001:db8:3::ffff"]]
)
def test_trunks(nft_lab: Lab, entry: list[str]) -> None:
    nft_lab.four_runs(GATE, domains=[OURS], trunks=entry)
    nft_lab.blocklist()
    for way in WAYS:
        assert nft_lab.reaches(nft_lab.trunk, _scan("INVITE"), *way)
        assert not nft_lab.reaches(nft_lab.attacker, _scan("INVITE"), *way)
        # a trunk is let through by the gate alone
        assert not nft_lab.reaches(nft_lab.trunk, sip.request(sip.SCANNER), *way)


# -- learning, observing


def test_learned(lab: Lab) -> None:
    _gate(lab, learn_for=3600, never=[NETWORKS["phone"][4], NETWORKS["phone"][6]])
    for method, (transport, family) in itertools.product(("REGISTER", "invite", "OPTIONS"), WAYS):
        scanner, phone = lab.attacker.address(family), lab.phone.address(family)
        for host, source, learned in ((lab.attacker, scanner, True), (lab.phone, phone, False)):
            assert not lab.reaches(host, _scan(method), transport, family, source=source)
            assert lab.member("sipguard-offenders", source) is learned
            assert lab.reaches(host, sip.request(), transport, family, source=source) is not learned


def test_what_a_cut_off_phone_sends_is_not_learned(nft_lab: Lab) -> None:
    _gate(nft_lab, learn_for=3600)
    for transport, family in WAYS:
        answer = sip.response(sip.PHONE, host="192.0.2.1")
        half = sip.request()
        messages = [_scan("BYE"), _scan("ACK"), sip.Request(half.token, half.wire[80:-8].replace(OURS.encode(), b"x"))]
        for message in [*messages, *([answer] if transport == "tcp" else [])]:
            source = nft_lab.phone.address(family)
            assert not nft_lab.reaches(nft_lab.phone, message, transport, family, source=source)
            assert not nft_lab.member("sipguard-offenders", source)


def test_not_learned_by_default(nft_lab: Lab) -> None:
    _gate(nft_lab)
    for transport, family in WAYS:
        source = nft_lab.attacker.address(family)
        assert not nft_lab.reaches(nft_lab.attacker, _scan(), transport, family, source=source)
        assert nft_lab.reaches(nft_lab.attacker, sip.request(), transport, family, source=source)
    assert "offenders" not in nft_lab.sets()


def test_observe(lab: Lab) -> None:
    lab.four_runs(GATE, domains=[OURS], mode="observe", other_traffic="drop", learn_for=60)
    for transport, family in WAYS:
        scanner, phone = lab.attacker.flow(transport, family), lab.attacker.flow(transport, family)
        for dummy in range(2):
            seen = lab.packets("SIPGUARD-GATE-HIT", family)
            assert lab.passes(scanner, _scan())
            assert lab.packets("SIPGUARD-GATE-HIT", family) > seen, "it was admitted"
            assert lab.passes(phone, sip.request())
        assert lab.passes(phone, _scan("BYE"))
        assert lab.member("sipguard-observed", scanner.source)
        assert not lab.member("sipguard-observed", phone.source)
    assert "offenders" not in lab.sets()


def test_status_says_what_was_stopped(lab: Lab) -> None:
    _gate(lab)
    scan = _scan()
    assert not lab.reaches(lab.attacker, scan)
    saved = lab.pbx.run(f"iptables-{lab.backend}-save", "-c")
    hits = [line for line in saved.splitlines() if '--comment "gate: no domain of ours"' in line]
    assert [line.split("]")[0] for line in hits] == [f"[1:{28 + len(scan.wire)}"]


# -- warnings, refusals


def test_warning_when_nobody_else_is_known(nft_lab: Lab) -> None:
    def warned(**options: Any) -> bool:
        said = [str(warning) for warning in _gate(nft_lab, **options).get("warnings", [])]
        return any("trunks" in text and "pbx_trunks" in text and "sip_trust" in text for text in said)

    assert warned()
    assert not warned(mode="observe")
    assert not warned(trunks=["203.0.113.7"])
    assert not warned(trusted_callers=["203.0.113.7"])
    assert "pbx_trunks" not in str(nft_lab.apply(GATE, state="absent"))
    nft_lab.trust("203.0.113.7")
    assert not warned()
    assert warned(trusted_callers=[])


LONG = "a" * 60 + "." + "b" * 40 + ".org"
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "none": ({"domains": []}, ["domains", "[]", "tel.example.com"]),
    "left_out": ({}, ["domains", "[]", "tel.example.com"]),
    "space": ({"domains": [OURS, "tel example.com"]}, ["domains", "tel example.com", "space"]),
    "scheme": ({"domains": ["sip:tel.example.com"]}, ["domains", "sip:tel.example.com", "alone, tel.example.com"]),
    "user": ({"domains": ["100@tel.example.com"]}, ["domains", "100@tel.example.com", "alone, tel.example.com"]),
    "port": ({"domains": ["tel.example.com:5060"]}, ["domains", "tel.example.com:5060", "alone, tel.example.com"]),
    "address": ({"domains": [PBX[4]]}, ["domains", PBX[4], "every scanner"]),
    "address6": ({"domains": [f"[{PBX[6]}]"]}, ["domains", PBX[6], "every scanner"]),
    "single_label": ({"domains": ["pbx"]}, ["domains", "pbx", "single word"]),
    "wildcard": ({"domains": ["*.example.com"]}, ["domains", "*.example.com", "wildcard"]),
    "umlaut": ({"domains": ["büro.example.com"]}, ["domains", "büro.example.com", "xn--bro-hoa.example.com"]),
    "too_long": ({"domains": [LONG]}, ["domains", LONG, "100"]),
    "method": ({"methods": ["REGISTRE"]}, ["methods", "REGISTRE", "REGISTER"]),
    "trunk": ({"trunks": ["203.0.113.300"]}, ["trunks", "203.0.113.300", "address"]),
    "trunk_name": ({"trunks": ["sip.example.com"]}, ["trunks", "sip.example.com", "name"]),
    "trunk_everybody": ({"trunks": ["0.0.0.0/0"]}, ["trunks", "0.0.0.0/0", "every address"]),
    "never": ({"never": ["sip.example.com"]}, ["never", "sip.example.com", "name"]),
    "tls_port": ({"tls_ports": ["70000"]}, ["tls_ports", "70000", "65535"]),
    "learn_for": ({"learn_for": -1}, ["learn_for", "-1"]),
    "choice": ({"tls_unreadable": "reject"}, ["tls_unreadable", "reject", "accept"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def policy() -> Iterator[Lab]:
    """A gate in force, which no refusal may touch."""
    lab = Lab("nft")
    _gate(lab, trunks=["203.0.113.0/24"])
    yield lab
    lab.close()


@pytest.mark.parametrize("case", BAD)
def test_bad_input_refused(policy: Lab, case: str) -> None:
    options, said = BAD[case]
    message = policy.refused(GATE, **({} if case == "left_out" else {"domains": [OURS]} | options))
    assert [text for text in said if text not in message] == [], message
