# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each option of sip_ratelimit does to packets, and what becomes of the kernel's tables when a limit changes."""

from __future__ import annotations

import math
import re
import time
from typing import Any

import pytest

from tests.integration.harness import packets, sip
from tests.integration.harness.floods import deliver, forge, sent, somebody, through, widen
from tests.integration.harness.lab import PBX, Host, Lab

LIMIT = "sip_ratelimit"


def _limit(method: str = "REGISTER", burst: int = 5, rate: str = "10/hour", **more: Any) -> dict[str, Any]:
    return {"method": method, "rate": rate, "burst": burst, **more}


def _recent(method: str = "REGISTER", rate: str = "12/hour", **more: Any) -> dict[str, Any]:
    return {"method": method, "rate": rate, "engine": "recent", **more}


@pytest.fixture
def wide(lab: Lab) -> Lab:
    """A laboratory whose peers have many IPv6 networks."""
    return widen(lab)


def _apply(lab: Lab, *limits: dict[str, Any], **options: Any) -> dict[str, Any]:
    return lab.apply(LIMIT, limits=list(limits), **options)


def test_any_counts_whatever_comes(wide: Lab, family: int) -> None:
    _apply(wide, _limit("any", 6))
    source = somebody(wide.attacker, family)
    flow = wide.attacker.udp(family, source=source)
    flow.send(b"\r\n\r\n", sip.response(sip.PHONE).wire, b"x", b"")
    assert sent(wide, wide.attacker, 10, source, "BYE") == 2
    assert wide.reaches(wide.phone, sip.request(), "udp", family, source=somebody(wide.phone, family))
    assert sent(wide, wide.attacker, 10, source, port=5070) == 10


def test_source_net(wide: Lab, family: int) -> None:
    _apply(
        wide,
        _limit(per="source_net"),
        _limit("INVITE", per="source_net", rate="12/hour", engine="recent") | {"burst": None},
    )
    first, near, far = {
        4: ("198.18.40.2", "198.18.40.200", "198.18.41.2"),
        6: ("2001:db8:bad:fff0::2", "2001:db8:bad:fff0:ffff:ffff:ffff:3", "2001:db8:bad:fff1::2"),
    }[family]
    for method, most in (("REGISTER", 5), ("INVITE", 12)):
        assert sent(wide, wide.attacker, 4, first, method) == 4
        assert sent(wide, wide.attacker, 30, near, method) == most - 4
        assert sent(wide, wide.attacker, 30, far, method) == most


@pytest.mark.parametrize("method", ["REGISTER", "any"])
def test_flooding_address_does_not_use_up_what_its_network_may_send(wide: Lab, family: int, method: str) -> None:
    # not where the harness sends its markers from
    _apply(wide, _limit(method, 12, per="source_net"), _limit(), interfaces=["phone"])
    network = {4: "198.51.100.", 6: "2001:db8:1:fff0::"}[family]
    assert [sent(wide, wide.phone, 40, f"{network}{number}") for number in (2, 3, 4, 5)] == [5, 5, 2, 0]


@pytest.mark.parametrize("size", [8, 48])
def test_fragments_do_not_hide_a_request(wide: Lab, family: int, size: int) -> None:
    """IPv6 fragments are put together by connection tracking, which is at work where anything is judged."""
    wide.blocklist(learn_for=0)
    _apply(wide, _limit(burst=3))
    source = somebody(wide.attacker, family)
    for number in range(6):
        message = sip.request()
        datagram = packets.udp(source, PBX[family], 5060, message.wire)
        made = packets.fragments(source, PBX[family], datagram, size)
        assert wide.raw_passes(wide.attacker, message, made, family) is (number < 3)


# -- engine recent


def _list_size() -> int:
    with open("/sys/module/xt_recent/parameters/ip_list_tot", encoding="ascii") as handle:
        return int(handle.read())


def test_recent_lets_the_hitcount_pass_and_recovers_by_itself(wide: Lab, transport: str, family: int) -> None:
    result = _apply(wide, _recent(), never=["192.0.2.9"])
    assert any(f"keeps {_list_size()} sources" in str(warning) for warning in result["warnings"])
    source = somebody(wide.attacker, family)
    flow = wide.attacker.flow(transport, family, source=source)
    assert through(wide, flow, [sip.request() for dummy in range(15)]) == [True] * 12 + [False] * 3
    assert sent(wide, wide.attacker, 40, source) == 0
    # what is dropped is not written down, so an hour after the twelve there are none
    stamps = wide.pbx.run("cat", f"/proc/net/xt_recent/sipguard{family}-register-12-3600-{32 if family == 4 else 128}")
    assert [len(line.split("oldest_pkt: ")[1].split(",")) for line in stamps.splitlines()] == [12]
    assert wide.reaches(wide.phone, sip.request(), transport, family, source=somebody(wide.phone, family))


def test_recent_keeps_families_and_networks_apart(wide: Lab) -> None:
    """xt_recent has one list of a name, and one mask for it, whichever family asks."""
    _apply(wide, _recent(), _recent("INVITE", per="source_net"))
    sources = {family: somebody(wide.attacker, family) for family in (6, 4)}
    others = {family: somebody(wide.attacker, family) for family in (6, 4)}
    for family in (6, 4):
        assert sent(wide, wide.attacker, 20, sources[family]) == 12
        assert sent(wide, wide.attacker, 20, others[family]) == 12
    neighbour = sources[6][:-1] + "3"
    assert sent(wide, wide.attacker, 20, neighbour) == 12
    assert sent(wide, wide.attacker, 8, sources[6], "INVITE") == 8
    assert sent(wide, wide.attacker, 20, neighbour, "INVITE") == 4


def test_forged_sources_free_a_flooder_from_a_recent_list_but_from_no_bucket(lab: Lab) -> None:
    """The reason why hashlimit is the default; docs/guides/rate-limits.md says so."""
    _apply(lab, _recent(), _limit("INVITE", 12))
    source = lab.attacker.address()
    for method in ("REGISTER", "INVITE"):
        assert sent(lab, lab.attacker, 20, source, method) == 12
    forged = [lab.attacker.address() for dummy in range(_list_size())]
    for method, passes in (("REGISTER", 12), ("INVITE", 0)):
        assert sent(lab, lab.attacker, 5, source, method) == 0
        forge(lab, forged, method)
        assert sent(lab, lab.attacker, 20, source, method) == passes


# -- who is never stopped, and who is banned


@pytest.mark.parametrize("limit", [_limit(), _recent(), _limit("any")], ids=["hashlimit", "recent", "any"])
def test_trust_comes_and_goes(wide: Lab, limit: dict[str, Any]) -> None:
    _apply(wide, limit)
    for family in (4, 6):
        source = somebody(wide.trunk, family)
        wide.trust(source)
        assert sent(wide, wide.trunk, 40, source) == 40
        wide.trust()
        # nothing was counted meanwhile
        assert sent(wide, wide.trunk, 40, source) == limit.get("burst", 12)


@pytest.mark.parametrize("method", ["REGISTER", "any"])
def test_full_table_drops_strangers_but_nobody_trusted(lab: Lab, method: str) -> None:
    """The kernel drops whoever has no place in a full table, without asking the rule; so trust has to come first."""
    trusted, known, stranger = (lab.trunk.address(), lab.phone.address(), lab.phone.address())
    lab.trust(trusted)
    _apply(lab, _limit(method))
    small = re.sub(r"(--hashlimit-name )(\S+) --hashlimit-htable-max \d+", r"\1small --hashlimit-htable-size 16 "
                   r"--hashlimit-htable-max 16", lab.save(4))  # fmt: skip
    lab.pbx.run(f"iptables-{lab.backend}-restore", "-w", stdin=small)
    known_flow, stranger_flow, trusted_flow = (
        host.udp(source=source) for host, source in ((lab.phone, known), (lab.phone, stranger), (lab.trunk, trusted))
    )
    messages = {name: sip.request() for name in ("first", "known", "stranger", "trusted")}
    known_flow.send(messages["first"].wire)
    assert lab.sink.wait(messages["first"].token)
    for source in [lab.attacker.address() for dummy in range(40)]:
        datagram = packets.udp(source, PBX[4], 5060, sip.request().wire)
        packets.send(lab.attacker.namespace, [packets.packet(source, PBX[4], 17, datagram)], PBX[4])
    # a marker from the attacker's side tells that they have all been seen; its port has no limit
    marker = sip.request(method="OPTIONS")
    for flow, name in ((known_flow, "known"), (stranger_flow, "stranger"), (trusted_flow, "trusted")):
        flow.send(messages[name].wire)
    flow = lab.attacker.udp(port=5070)
    flow.send(marker.wire)
    assert lab.sink.wait(marker.token)
    assert lab.sink.wait(messages["trusted"].token)
    assert lab.sink.wait(messages["known"].token)
    assert not lab.sink.has(messages["stranger"].token)


def test_ban_for(wide: Lab, transport: str, family: int) -> None:
    _apply(wide, _limit(ban_for=86400), _limit("INVITE"))
    source = somebody(wide.attacker, family)
    # over a limit that does not ban
    assert sent(wide, wide.attacker, 20, source, "INVITE") == 5
    assert not wide.member("sipguard-offenders", source)
    flow = wide.attacker.flow(transport, family, source=source)
    assert through(wide, flow, [sip.request() for dummy in range(6)]) == [True] * 5 + [False]
    assert wide.member("sipguard-offenders", source)
    assert sent(wide, wide.attacker, 5, source, "OPTIONS") == 0
    listed = wide.pbx.run("ipset", "list", f"sipguard-offenders{family}").splitlines()
    assert [86000 < int(line.split()[2]) <= 86400 for line in listed if line.startswith(f"{source} ")] == [True]
    # the ban is for SIP
    assert sent(wide, wide.attacker, 5, source, port=5070) == 5
    # trust ends it at once
    wide.trust(source)
    assert sent(wide, wide.attacker, 5, source, "OPTIONS") == 5


def test_ban_spares_never_and_the_trusted(wide: Lab, family: int) -> None:
    trusted, spared = somebody(wide.trunk, family), somebody(wide.phone, family)
    wide.trust(trusted)
    _apply(wide, _limit(ban_for=600), never=[spared])
    assert sent(wide, wide.trunk, 20, trusted) == 20
    assert sent(wide, wide.phone, 20, spared) == 5
    assert not wide.member("sipguard-offenders", trusted)
    assert not wide.member("sipguard-offenders", spared)
    assert sent(wide, wide.phone, 5, spared, "INVITE") == 5


def test_forged_connection_bans_nobody(wide: Lab, family: int) -> None:
    _apply(wide, _limit(burst=1, ban_for=600))
    victim = somebody(wide.phone, family)
    made = [
        packets.segment(victim, PBX[family], 5060, ["psh", "ack"], sip.request().wire, seq=seq)
        for seq in range(1000, 6000, 1000)
    ]
    packets.send(wide.attacker.namespace, made, PBX[family])
    wide.barrier()
    assert wide.packets("SIPGUARD-RATE-STOP", family) == 4
    assert not wide.member("sipguard-offenders", victim)


def test_observe_stops_nothing_and_says_whom_it_would_have_stopped(wide: Lab) -> None:
    _apply(wide, _limit(ban_for=600), _limit("any", 30), mode="observe")
    for family in (4, 6):
        over, over_any, within = (somebody(wide.attacker, family) for dummy in range(3))
        assert sent(wide, wide.attacker, 6, over) == 6
        assert sent(wide, wide.attacker, 40, over_any, "OPTIONS") == 40
        assert sent(wide, wide.attacker, 5, within) == 5
        found = [wide.member("sipguard-observed", source) for source in (over, over_any, within)]
        assert found == [True, True, False]
        assert wide.packets("SIPGUARD-RATE-SEEN", family) == 11
    assert "sipguard-offenders" not in wide.sets()
    assert "-j DROP" not in wide.save(4)


def test_reject_is_seen_by_the_sender(lab: Lab) -> None:
    _apply(lab, _limit(burst=1), action="reject")
    flow = lab.attacker.udp()
    flow.send(sip.request().wire)
    assert flow.answer().startswith(b"SIP/2.0 200 OK")
    flow.send(sip.request().wire)
    with pytest.raises(ConnectionRefusedError):
        flow.answer()


def test_ports_protocols_and_interfaces(wide: Lab) -> None:
    _apply(wide, _limit(), ports=["5061"], protocols=["udp"], interfaces=["attacker"])
    for family in (4, 6):
        source = somebody(wide.attacker, family)
        assert sent(wide, wide.attacker, 10, source, port=5060) == 10
        tcp = wide.attacker.flow("tcp", family, source=source, port=5061)
        assert all(through(wide, tcp, [sip.request() for dummy in range(10)]))
        assert sent(wide, wide.phone, 10, somebody(wide.phone, family), port=5061) == 10
        assert sent(wide, wide.attacker, 10, source, port=5061) == 5


# -- the standard limits


def test_standard_lets_a_site_of_sixty_phones_through_twice_over(wide: Lab, family: int) -> None:
    """After an outage all register at once, each with a challenge in between, and then once more; and all of them call."""
    wide.apply(LIMIT)
    site = somebody(wide.phone, family)
    # one address for all over IPv4; over IPv6 each has its own, in the site's network
    sources = [site if family == 4 else site[:-1] + f"{number + 2:x}" for number in range(60)]
    flows = [wide.phone.udp(family, source=source) for source in sources]
    for dummy in range(2):
        assert deliver(wide, family, [flow for flow in flows for dummy in range(2)]) == 120
    assert deliver(wide, family, [flow for flow in flows for dummy in range(2)], "INVITE") == 120
    for flow in flows:
        flow.send(b"\r\n\r\n")
    assert deliver(wide, family, flows, "BYE") == 60


@pytest.mark.parametrize(
    ("method", "burst", "a_second"), [("REGISTER", 300, 4), ("INVITE", 150, 2), ("BYE", 1000, 100)]
)
def test_standard_cuts_a_flood_from_one_source(wide: Lab, family: int, method: str, burst: int, a_second: int) -> None:
    wide.apply(LIMIT)
    source, twin = somebody(wide.attacker, family), somebody(wide.phone, family)
    flow = wide.attacker.udp(family, source=source)
    begin = time.monotonic()
    passed = deliver(wide, family, [flow] * (burst + 200), method)
    assert burst <= passed <= burst + math.ceil(a_second * (time.monotonic() - begin))
    assert sent(wide, wide.phone, 10, twin, method) == 10


@pytest.mark.parametrize(("method", "burst", "a_second"), [("REGISTER", 1500, 20), ("INVITE", 750, 10)])
def test_standard_cuts_a_flood_from_one_network(wide: Lab, family: int, method: str, burst: int, a_second: int) -> None:
    """Over IPv6 each packet has another address; over IPv4 there are no more than 250."""
    wide.apply(LIMIT)
    network = {4: "198.18.40.", 6: "2001:db8:bad:fff0::"}[family]
    begin, passed = time.monotonic(), 0
    for start in range(0, burst + 200, 50):
        numbers = range(start, start + 50)
        sources = [f"{network}{number:x}:1" if family == 6 else f"{network}{number % 250 + 1}" for number in numbers]
        flows = [wide.attacker.udp(family, source=source) for source in sources]
        passed += deliver(wide, family, flows, method)
        for flow in flows:
            flow.close()
    assert burst <= passed <= burst + math.ceil(a_second * (time.monotonic() - begin))
    assert sent(wide, wide.phone, 10, somebody(wide.phone, family), method) == 10


def test_standard_leaves_ssh_alone(wide: Lab) -> None:
    assert wide.apply(LIMIT)["ssh"] == []
    assert "SIPGUARD-RATE-SSH" not in wide.save(4)


# -- SSH

SSH_PORT = 5070  # a port of the sink, which answers there as everywhere


def _connects(lab: Lab, host: Host, source: str) -> bool:
    flow = host.tcp(6 if ":" in source else 4, source=source, port=SSH_PORT)
    lab.barrier()
    return flow.connected()


def test_ssh_limits_new_connections_only(wide: Lab, family: int) -> None:
    source, twin, trusted = somebody(wide.attacker, family), somebody(wide.phone, family), somebody(wide.trunk, family)
    wide.trust(trusted)
    session = wide.attacker.flow("tcp", family, source=source, port=SSH_PORT)
    result = wide.apply(LIMIT, ssh={"rate": "10/hour", "burst": 3, "ports": [str(SSH_PORT)]})
    assert result["limits"] == []
    assert result["ssh"] == [{"rate": "10/hour", "burst": 3, "origin": "ssh", "ports": [str(SSH_PORT)]}]
    assert [_connects(wide, wide.attacker, source) for dummy in range(6)] == [True] * 3 + [False] * 3
    assert all(_connects(wide, wide.trunk, trusted) for dummy in range(6))
    # over IPv6 another address of the same network is no other source
    neighbour = source[:-1] + "3" if family == 6 else wide.attacker.address(4)
    assert _connects(wide, wide.attacker, neighbour) is (family == 4)
    assert _connects(wide, wide.phone, twin)
    # the session goes on however many packets it has
    assert all(through(wide, session, [sip.request() for dummy in range(20)]))
    # the same source may telephone, and other protocols may use the port's number
    assert sent(wide, wide.attacker, 5, source) == 5
    assert sent(wide, wide.attacker, 5, source, port=SSH_PORT) == 5
    assert "sipguard-offenders" not in wide.sets()


def test_ssh_beside_limits_on_sip(wide: Lab) -> None:
    wide.four_runs(
        LIMIT,
        limits=[_limit(ban_for=600)],
        ssh={"rate": "10/hour", "burst": 2, "ports": [str(SSH_PORT)]},
        interfaces=["attacker"],
    )
    for family in (4, 6):
        source = somebody(wide.attacker, family)
        assert [_connects(wide, wide.attacker, source) for dummy in range(4)] == [True, True, False, False]
        assert not wide.member("sipguard-offenders", source)
        assert sent(wide, wide.attacker, 6, source) == 5
        # elsewhere nobody is limited
        other = somebody(wide.phone, family)
        assert all(_connects(wide, wide.phone, other) for dummy in range(4))


def test_ssh_observed(wide: Lab) -> None:
    wide.apply(LIMIT, ssh={"rate": "10/hour", "burst": 2, "ports": [str(SSH_PORT)]}, mode="observe")
    source = wide.attacker.address()
    assert all(_connects(wide, wide.attacker, source) for dummy in range(4))
    assert wide.member("sipguard-observed", source)
