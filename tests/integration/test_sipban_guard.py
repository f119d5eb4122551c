# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes of events and of what somebody asks for, as ipset sees it."""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import bans
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.guard import (
    ALERT,
    NOTICE,
    WARNING,
    Blocked,
    Guard,
    Outside,
    own_addresses,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.kernel import Sets
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.ledger import (
    BAN,
    Ledger,
    Line,
    last_lines,
    read_lines,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.settings import Settings, Threshold
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import Address, SecurityEvent
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import MAX_TIMEOUT
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import HostRunner
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.sets import read_headers, spec
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import Network
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.integration.harness.netns import Namespace, in_namespace

EPOCH = 1_800_000_000
SOURCE = {4: "203.0.113.7", 6: "2001:db8:bad::7"}
NETWORK = {4: "203.0.113.0/24", 6: "2001:db8:bad::/64"}
OWN = {4: "192.0.2.1", 6: "2001:db8::1"}
PASSWORD = "InvalidPassword"


class Witness:
    """Who was sent which challenge."""

    def __init__(self) -> None:
        self.sent: set[tuple[Address, str]] = set()

    shared = 0

    def knows(self, address: Address, nonce: str) -> bool:
        return (address, nonce) in self.sent


class Fleet:
    """Whoever else wants to know."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def publish(self, network: Network, seconds: int, reason: str) -> None:
        self.told.append(("publish", str(network), seconds, reason))

    def withdraw(self, network: Network) -> None:
        self.told.append(("withdraw", str(network)))

    def withdraw_all(self) -> None:
        self.told.append(("withdraw all",))

    def status(self) -> dict[str, Any]:
        return {"reachable": True}


class Rig:
    """A namespace with our sets, and a guard in it whose clocks are moved by hand, together."""

    def __init__(self, folder: Path) -> None:
        self.namespace = Namespace("guard")
        for base in ("trusted", "banned", "known"):
            for family in (4, 6):
                self.ipset(*spec(f"sipguard-{base}{family}").create().split())
        self.kernel = in_namespace(self.namespace.name, Sets)
        folder = folder / "sipban"
        folder.mkdir()
        self.path, self.dump = str(folder / "bans"), str(folder / "sipban.dump")
        self.now = 1000.0
        self.said: list[tuple[int, str]] = []
        self.ended: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.witness, self.fleet = Witness(), Fleet()
        self.ledger = Ledger(self.path)

    def start(self, *, shorten: bool = False, **changes: Any) -> Guard:
        """A guard as the daemon makes it; what one of before has kept in memory is gone."""
        self.ledger.close()
        self.ledger = Ledger(self.path)
        outside = Outside(
            lambda priority, text: self.said.append((priority, text)),
            lambda address: self.ended.append(str(address)),
            witness=self.witness,
            fleet=self.fleet,
            own=lambda: frozenset(ip_address(each) for each in OWN.values()),
            clock=lambda: self.now,
            wall=lambda: EPOCH + self.now,
        )
        guard = Guard(replace(Settings(), **changes), self.kernel, self.ledger, self.dump, outside)
        guard.remember(read_lines(self.path))
        self.ledger.open()
        if shorten:
            self.ledger.rewrite(guard.lines())
        guard.follow(self.told.append)
        return guard

    def ipset(self, *argv: str) -> str:
        return self.namespace.run("ipset", *argv)

    def saved(self, name: str) -> dict[str, tuple[int, str]]:
        """What ipset has to say: seconds and comment by member."""
        pattern = rf'^add {name} (\S+)(?: timeout (\d+))?(?: comment "(.*)")?$'
        return {m[1]: (int(m[2] or 0), m[3] or "") for m in re.finditer(pattern, self.ipset("save", name), flags=re.M)}

    def banned(self) -> dict[str, tuple[int, str]]:
        return self.saved("sipguard-banned4") | self.saved("sipguard-banned6")

    def runs_out(self, member: str) -> None:
        """The kernel's time for a ban is over."""
        self.ipset("del", f"sipguard-banned{6 if ':' in member else 4}", member)

    def logged(self, priority: int = NOTICE) -> list[str]:
        found = [text for level, text in self.said if level == priority]
        self.said.clear()
        return found

    def close(self) -> None:
        self.ledger.close()
        self.kernel.close()
        self.namespace.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def inside(test: Callable[..., None]) -> Callable[..., None]:
    """The test runs in the namespace of its rig."""

    @functools.wraps(test)
    def run(rig: Rig, **given: Any) -> None:
        in_namespace(rig.namespace.name, lambda: test(rig, **given))

    return run


def event(name: str, source: str, transport: str = "TLS", service: str = "PJSIP", **extras: str) -> SecurityEvent:
    return SecurityEvent(name, service, "100", "0x7f", transport, ip_address(source), extras)


def wrong(guard: Guard, source: str, count: int = 5, transport: str = "TLS", name: str = PASSWORD) -> None:
    for dummy in range(count):
        guard.on_event(event(name, source, transport))


def about(seconds: int) -> range:
    """A time of which a busy machine may have let pass a little."""
    return range(max(1, seconds - 30), seconds + 1) if seconds else range(1)


# -- what Asterisk says


@inside
def test_wrong_passwords_end_in_a_ban(rig: Rig, family: int) -> None:
    guard, source = rig.start(), SOURCE[family]
    wrong(guard, source, 4)
    assert rig.banned() == {}
    rig.now += 30
    wrong(guard, source, 1)
    assert list(rig.banned()) == [source]
    left, comment = rig.banned()[source]
    assert left in about(3600)
    assert comment == "sipban: 5 InvalidPassword in 30 s (PJSIP over TLS)"
    assert rig.ended == [source]
    assert rig.logged() == [f"BLOCK => {source} (5 InvalidPassword in 30 s (PJSIP over TLS); for 1 h)"]
    assert [(each["what"], each["address"], each["seconds"]) for each in rig.told] == [("block", source, 3600)]
    assert rig.told[0]["at"] == EPOCH + 1030
    assert rig.fleet.told == [("publish", str(ip_network(source)), 3600, comment.removeprefix("sipban: "))]
    (line,) = read_lines(rig.path)
    assert line == Line(BAN, EPOCH + 1030, ip_network(source), EPOCH + 1030 + 3600, 1, comment)
    assert guard.status()["blocked"] == {PASSWORD: 1}


@inside
def test_bans_grow_and_the_ledger_knows_it_over_restarts(rig: Rig, family: int) -> None:
    source, found = SOURCE[family], []
    for number in range(9):
        guard = rig.start(shorten=number % 3 == 2, ban_time=600, ban_time_max=5000)
        wrong(guard, source)
        found.append(rig.banned()[source][0])
        assert guard.why(ip_address(source))["history"] == {"bans": number + 1, "last": EPOCH + int(rig.now)}
        if number % 2:
            rig.runs_out(source)
        else:  # it runs out while sipband is away
            rig.ipset("flush", f"sipguard-banned{family}")
        rig.now += 6000
    for left, expected in zip(found, (600, 1200, 2400, 4800, 5000, 5000, 5000, 5000, 5000), strict=True):
        assert left in about(expected)
    assert "for 10 min)" in rig.said[0][1]
    assert "for 20 min, its 2. ban)" in rig.said[1][1]
    rig.now += 21 * 86400
    guard = rig.start(ban_time=600)
    wrong(guard, source)
    assert rig.banned()[source][0] in about(600)


@inside
def test_one_that_hops_in_its_network_is_banned_with_it(rig: Rig) -> None:
    guard = rig.start()
    for number in range(20):
        assert rig.banned() == {}
        guard.on_event(event(PASSWORD, f"2001:db8:bad::{number + 1:x}"))
    assert list(rig.banned()) == ["2001:db8:bad::/64"]
    assert rig.ended == []
    # the second one is longer, also after a restart that was sudden, and one that has written the ledger anew
    for number, seconds in ((1, 7200), (2, 14400)):
        rig.runs_out("2001:db8:bad::/64")
        guard = rig.start(shorten=number == 2)
        for host in range(20):
            guard.on_event(event(PASSWORD, f"2001:db8:bad::{host + 1:x}"))
        assert rig.banned()["2001:db8:bad::/64"][0] in about(seconds)


@pytest.mark.parametrize("who", ["known", "trusted", "on the white list"])
@inside
def test_a_network_is_spared_for_one_in_it_and_its_addresses_are_not(rig: Rig, who: str) -> None:
    guard = rig.start(white_list=("2001:db8:bad::ffff",) if who == "on the white list" else ())
    if who != "on the white list":
        rig.ipset("add", f"sipguard-{who}6", "2001:db8:bad::ffff")
    for number in range(40):
        guard.on_event(event(PASSWORD, f"2001:db8:bad::{number + 1:x}"))
    assert rig.banned() == {}
    assert sum(guard.status()["kept"].values()) == 2
    wrong(guard, "2001:db8:bad::1", 9)
    assert list(rig.banned()) == ["2001:db8:bad::1"]


@pytest.mark.parametrize("who", ["trusted", "trusted network", "known", "white list", "own"])
@inside
def test_who_is_spared_is_never_banned(rig: Rig, family: int, who: str) -> None:
    source, network = SOURCE[family], NETWORK[family]
    if who == "own":
        source = OWN[family]
    why = {
        "trusted": "trusted",
        "trusted network": "trusted",
        "known": "has logged in",
        "white list": "on the white list",
        "own": "this host needs it",
    }[who]
    guard = rig.start(white_list=(network,) if who == "white list" else ())
    if who in ("trusted", "known"):
        rig.ipset("add", f"sipguard-{who}{family}", source)
    elif who == "trusted network":
        rig.ipset("add", f"sipguard-trusted{family}", network)
    wrong(guard, source, 12)
    assert rig.banned() == {}
    assert rig.fleet.told == []
    assert rig.ended == []
    assert guard.status()["kept"] == {why: 2}
    (line,) = rig.logged()  # and not one for each
    assert line.startswith(f"WHITE LIST => {source} ({why}; 5 InvalidPassword ")
    found = guard.why(ip_address(source))
    assert found["banned"] is None
    assert found["evidence"] == {PASSWORD: {"count": 2, "of": 5, "seconds": 600}}
    assert (found["trusted"], found["known"], found["whitelisted"]) == (
        why == "trusted",
        why == "has logged in",
        why == "on the white list",
    )


@pytest.mark.parametrize("source", ["127.0.0.1", "::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "fe80::7"])
@inside
def test_what_is_nobodys_address_is_never_banned(rig: Rig, source: str) -> None:
    guard = rig.start(unproven=True)
    for transport in ("TLS", "UDP"):
        wrong(guard, source, 50, transport)
    assert rig.banned() == {}


@inside
def test_what_may_be_forged_bans_nobody(rig: Rig, family: int) -> None:
    guard, source = rig.start(), SOURCE[family]
    for name in ("InvalidAccountID", PASSWORD, "ChallengeResponseFailed", "FailedACL", "ChallengeSent"):
        for service in ("PJSIP", "SIP"):
            for dummy in range(60):
                guard.on_event(event(name, source, "UDP", service, Challenge="n", ReceivedChallenge="n"))
    for dummy in range(60):  # maddr= chooses chan_sip's address on a stream as well
        guard.on_event(event(PASSWORD, source, "TCP", "SIP"))
        guard.on_event(
            event("FailedACL", source, "TLS", ACLName="registrar_attempt_exceeds_maximum_configured_contacts")
        )
        guard.on_event(event("FailedACL", source, "TCP", "SIP"))
        guard.on_event(event("RequestBadFormat", source))
    assert rig.banned() == {}
    assert guard.why(ip_address(source))["evidence"] == {}
    assert guard.status()["unproven"] > 0


@inside
def test_an_answer_to_a_challenge_that_went_there_is_proof(rig: Rig, family: int) -> None:
    guard, source = rig.start(), SOURCE[family]
    rig.witness.sent.add((ip_address(source), "abc"))
    for nonce in ("other", "", "abc", "abc", "abc", "abc"):
        guard.on_event(event("ChallengeResponseFailed", source, "UDP", Challenge=nonce))
    assert rig.banned() == {}
    guard.on_event(event("ChallengeResponseFailed", source, "UDP", Challenge="abc"))
    assert rig.banned()[source][1] == "sipban: 5 ChallengeResponseFailed in 0 s (PJSIP over UDP)"


@inside
def test_unproven_evidence_counts_where_it_is_asked_for(rig: Rig, family: int) -> None:
    guard, source = rig.start(unproven=True), SOURCE[family]
    for number in range(3):
        wrong(guard, source, 5, "UDP")
        left, comment = rig.banned()[source]
        assert left in about(600)
        assert comment == "sipban: 5 InvalidPassword in 0 s (PJSIP over UDP, unproven)"
        assert guard.why(ip_address(source))["history"] == {"bans": 0, "last": 0}
        rig.runs_out(source)
        rig.now += number
    assert rig.fleet.told == []  # nobody else is told of what may be a lie


@inside
def test_what_was_on_its_way_makes_no_second_ban(rig: Rig, family: int) -> None:
    guard, source = rig.start(), SOURCE[family]
    wrong(guard, source, 50)
    assert guard.status()["blocked"] == {PASSWORD: 1}
    assert guard.why(ip_address(source))["history"]["bans"] == 1
    assert len(list(read_lines(rig.path))) == 1
    assert len(rig.logged()) == 1


@inside
def test_what_somebody_else_has_banned_is_left_to_him(rig: Rig, family: int) -> None:
    guard, source = rig.start(), SOURCE[family]
    rig.ipset("add", f"sipguard-banned{family}", NETWORK[family], "timeout", "0", "comment", "by hand")
    wrong(guard, source, 10)
    assert rig.banned() == {NETWORK[family]: (0, "by hand")}
    assert guard.why(ip_address(source))["banned"] == {
        "entry": NETWORK[family],
        "seconds_left": 0,
        "reason": "by hand",
    }


@inside
def test_who_logs_in_is_known_and_asked_in_vain_no_more(rig: Rig, family: int) -> None:
    guard, source = rig.start(), SOURCE[family]
    wrong(guard, source, 29, name="ChallengeSent")
    guard.on_event(event("SuccessfulAuth", source))
    wrong(guard, source, 29, name="ChallengeSent")
    assert rig.banned() == {}
    known = rig.saved(f"sipguard-known{family}")
    assert list(known) == [source]
    assert known[source][0] in about(7200)
    assert [(each["what"], each["address"]) for each in rig.told] == [("known", source)]
    # a new login makes it known for longer; the same one does so once
    rig.ipset("add", f"sipguard-known{family}", source, "timeout", "50", "-exist")
    guard.on_event(event("SuccessfulAuth", source))
    assert rig.saved(f"sipguard-known{family}")[source][0] <= 50
    rig.now += 11
    guard.on_event(event("SuccessfulAuth", source))
    assert rig.saved(f"sipguard-known{family}")[source][0] in about(7200)


@pytest.mark.parametrize(("service", "changes"), [("AMI", {}), ("SIP", {}), ("PJSIP", {"known_for": 0})])
@inside
def test_not_every_success_makes_known(rig: Rig, family: int, service: str, changes: dict[str, Any]) -> None:
    guard = rig.start(**changes)
    guard.on_event(event("SuccessfulAuth", SOURCE[family], service=service))
    assert rig.saved(f"sipguard-known{family}") == {}


@inside
def test_challenges_without_a_login_are_a_signal_of_their_own(rig: Rig, family: int) -> None:
    guard = rig.start()
    wrong(guard, SOURCE[family], 100, "TCP", "ChallengeSent")
    assert rig.banned()[SOURCE[family]][1] == "sipban: 100 ChallengeSent in 0 s (PJSIP over TCP)"


# -- when the kernel does not take it


def tiny(rig: Rig, family: int) -> None:
    """A set in which one ban has a place."""
    name = f"sipguard-banned{family}"
    rig.ipset("destroy", name)
    rig.ipset(*spec(name).create().replace("maxelem 262144", "maxelem 1").split())


@inside
def test_a_full_set_is_told_and_the_next_event_counts(rig: Rig, family: int) -> None:
    tiny(rig, family)
    guard = rig.start()
    network = ip_network(NETWORK[family])
    for number in range(1, 4):
        wrong(guard, str(network.network_address + (number << (8 if family == 4 else 70))), 5)
    assert len(rig.banned()) == 1
    assert guard.status()["failed"] == 2
    (line,) = rig.logged(ALERT)
    assert re.search(rf"cannot be banned: the set sipguard-banned{family} is full; ", line)
    assert len(list(read_lines(rig.path))) == 1
    with pytest.raises(SipguardError, match="is full"):
        guard.block(ip_network("198.51.100.9" if family == 4 else "2001:db8:9::9"))
    guard.on_fleet_ban(ip_network("198.51.100.9" if family == 4 else "2001:db8:9::9"), 60, "x")
    assert guard.status()["failed"] == 3
    rig.ipset("flush", f"sipguard-banned{family}")
    wrong(guard, SOURCE[family])
    assert list(rig.banned()) == [SOURCE[family]]


@inside
def test_a_missing_set_is_told_and_sipband_goes_on(rig: Rig, family: int) -> None:
    for base in ("banned", "known", "trusted"):
        rig.ipset("destroy", f"sipguard-{base}{family}")
    guard, source = rig.start(shorten=True), SOURCE[family]
    wrong(guard, source, 12)
    (line,) = rig.logged(ALERT)
    assert line.endswith(f" cannot be banned: the set sipguard-banned{family} is not there; run 'sipguard restore'")
    guard.on_event(event("SuccessfulAuth", source))
    assert re.match(rf"{source} has logged in, but cannot be made known: ", rig.logged(WARNING)[0])
    assert list(guard.bans()) == []
    assert guard.unblock(ip_network(source)) is False
    assert guard.status()["bans"][f"ipv{family}"] is None
    assert guard.why(ip_address(source))["banned"] is None
    assert guard.flush() == 0
    for base in ("banned", "known"):
        rig.ipset(*spec(f"sipguard-{base}{family}").create().split())
    wrong(guard, source)
    assert list(rig.banned()) == [source]


# -- what somebody asks for


@inside
def test_block_and_unblock(rig: Rig, family: int) -> None:
    guard, source = rig.start(), SOURCE[family]
    network = ip_network(source)
    rig.ipset("add", f"sipguard-known{family}", source)
    assert guard.block(network, 90, "too loud") == Blocked("blocked", "")
    left, comment = rig.banned()[source]
    assert (left in about(90), comment) == (True, "sipban: blocked by hand: too loud")
    assert rig.saved(f"sipguard-known{family}") == {}
    assert guard.block(network, 90, "again") == Blocked("previously", "")
    assert guard.block(network, 30, "shorter") == Blocked("previously", "")
    assert guard.block(network) == Blocked("previously", "")
    assert guard.block(network, 9000, "longer") == Blocked("blocked", "")
    assert rig.banned()[source][0] in about(9000)
    assert guard.block(network, 0, "for ever") == Blocked("blocked", "")
    assert rig.banned()[source] == (0, "sipban: blocked by hand: for ever")
    assert guard.block(network, MAX_TIMEOUT * 9) == Blocked("previously", "")
    assert guard.unblock(network) is True
    assert rig.banned() == {}
    assert guard.unblock(network) is False
    assert rig.logged()[-1] == f"UNBLOCK => {source}"
    assert [each["what"] for each in rig.told] == ["block"] * 3 + ["unblock"]
    assert ("withdraw", str(network)) in rig.fleet.told


@inside
def test_block_networks(rig: Rig, family: int) -> None:
    guard, source, network = rig.start(), ip_network(SOURCE[family]), ip_network(NETWORK[family])
    assert guard.block(network, 60).outcome == "blocked"
    assert list(rig.banned()) == [NETWORK[family]]
    with pytest.raises(
        SipguardError, match=rf"^{SOURCE[family]} is banned as part of {NETWORK[family]}: unblock {NETWORK[family]}$"
    ):
        guard.unblock(source)
    assert guard.block(source, 600).outcome == "blocked"
    assert sorted(rig.banned()) == sorted([SOURCE[family], NETWORK[family]])
    assert guard.unblock(network)
    assert list(rig.banned()) == [SOURCE[family]]


REFUSED = {
    "127.0.0.1": "127.0.0.0/8 is ",
    "::1": "::/127 is ",
    "224.0.0.5": "224.0.0.0/4 is multicast",
    "ff02::5": "ff00::/8 is multicast",
    "fe80::/64": "fe80::/10 is ",
    "10.0.0.0/8": "it is larger than a /16",
    "2000::/16": "it is larger than a /32",
    "0.0.0.0": "0.0.0.0/8 is this network",
    "192.0.2.1": "it is an address that this host needs",
    "192.0.2.0/24": "192.0.2.1 is an address that this host needs",
    "2001:db8::/64": "2001:db8::1 is an address that this host needs",
    "203.0.113.200": "203.0.113.128/25 is on the white list",
    "203.0.113.0/24": "203.0.113.128/25 is on the white list",
    "198.51.100.7": "it is trusted",
    "198.51.100.0/24": "198.51.100.7 is trusted",
    "2001:db8:7::/48": "2001:db8:7::7 is trusted",
}


@pytest.mark.parametrize(("target", "why"), REFUSED.items())
@inside
def test_who_must_not_be_banned_is_refused(rig: Rig, target: str, why: str) -> None:
    rig.ipset("add", "sipguard-trusted4", "198.51.100.7")
    rig.ipset("add", "sipguard-trusted6", "2001:db8:7::7")
    guard = rig.start(white_list=("203.0.113.128/25",))
    done = guard.block(ip_network(target), 60, "x")
    assert done.outcome == "refused"
    assert done.said.startswith(f"{target} cannot be banned: {why}")
    guard.on_fleet_ban(ip_network(target), 60, "x")
    assert rig.banned() == {}
    assert list(read_lines(rig.path)) == []
    assert rig.fleet.told == []


@inside
def test_flush_and_restore(rig: Rig) -> None:
    guard = rig.start()
    for family in (4, 6):
        wrong(guard, SOURCE[family])
    guard.block(ip_network("203.0.113.0/24"), 0)
    guard.block(ip_network("198.51.100.9"), 60)
    before = rig.banned()
    assert [each.member for each in guard.bans()] == ["198.51.100.9", SOURCE[4], SOURCE[6], "203.0.113.0/24"]
    assert guard.flush() == 4
    assert rig.banned() == {}
    assert rig.logged()[-1] == f"FLUSH => 4 ({rig.dump} has them)"
    assert Path(rig.dump).stat().st_mode & 0o777 == 0o600
    # one is there again, one is over, one has become trusted
    guard.block(ip_network(SOURCE[4]), 5000)
    rig.now += 61
    rig.ipset("add", "sipguard-trusted6", SOURCE[6])
    assert guard.restore() == 1
    assert sorted(rig.banned()) == ["203.0.113.0/24", SOURCE[4]]
    assert rig.banned()[SOURCE[4]][0] in about(5000)
    assert rig.banned()["203.0.113.0/24"][0] == before["203.0.113.0/24"][0] == 0
    assert not Path(rig.dump).exists()
    with pytest.raises(SipguardError, match=rf"^no dump file to restore rules: {rig.dump}$"):
        guard.restore()


@inside
def test_a_flush_of_nobody_keeps_the_dump(rig: Rig) -> None:
    guard = rig.start()
    guard.block(ip_network("203.0.113.9"), 600)
    assert guard.flush() == 1
    assert guard.flush() == 0
    assert guard.restore() == 1


@inside
def test_a_flush_that_cannot_be_dumped_lets_nobody_in(rig: Rig) -> None:
    guard = rig.start()
    guard.block(ip_network("203.0.113.9"), 600)
    Path(rig.dump).mkdir()
    with pytest.raises(SipguardError, match=rf"^cannot write {rig.dump}: "):
        guard.flush()
    assert list(rig.banned()) == ["203.0.113.9"]


@pytest.mark.parametrize("text", ["", "garbage\n", "# [2026-01-01 00:00:00]\n203.0.113.9,1\n203.0.113.", "\0\0"])
@inside
def test_a_damaged_dump_brings_nothing_back(rig: Rig, text: str) -> None:
    guard = rig.start()
    Path(rig.dump).write_text(text)
    with pytest.raises(SipguardError, match=rf"^{rig.dump}(, line|:| is) "):
        guard.restore()
    assert rig.banned() == {}
    assert Path(rig.dump).exists()


@inside
def test_top_why_and_status(rig: Rig) -> None:
    guard = rig.start()
    wrong(guard, SOURCE[4], 5)
    rig.runs_out(SOURCE[4])
    wrong(guard, SOURCE[4], 2)
    wrong(guard, SOURCE[6], 3, name="InvalidAccountID")
    guard.on_event(event("SuccessfulAuth", SOURCE[6]))
    assert guard.top(10) == [
        {"address": SOURCE[6], "events": {"InvalidAccountID": 3}, "bans": 0, "banned": False, "known": True},
        {"address": SOURCE[4], "events": {PASSWORD: 2}, "bans": 1, "banned": False, "known": False},
    ]
    assert guard.top(1)[0]["address"] == SOURCE[6]
    assert guard.why(ip_address(SOURCE[4])) == {
        "address": SOURCE[4],
        "banned": None,
        "trusted": False,
        "known": False,
        "whitelisted": False,
        "evidence": {PASSWORD: {"count": 2, "of": 5, "seconds": 600}},
        "history": {"bans": 1, "last": EPOCH + 1000},
    }
    rig.now += 50
    found = guard.status()
    assert found["uptime"] == 50
    assert found["bans"] == {"ipv4": 0, "ipv6": 0}
    assert found["known"] == {"ipv4": 0, "ipv6": 1}
    assert found["events"] == {
        "PJSIP InvalidAccountID": 3,
        "PJSIP InvalidPassword": 7,
        "PJSIP SuccessfulAuth": 1,
    }
    assert (found["remembered"], found["failed"], found["ami"], found["fleet"]) == (1, 0, False, {"reachable": True})
    with pytest.raises(SipguardError, match=r"^there is no connection to AMI$"):
        asyncio.run(guard.ping())


@inside
def test_nobody_is_followed_after_leaving(rig: Rig) -> None:
    guard = rig.start()
    seen: list[dict[str, Any]] = []
    leave = guard.follow(seen.append)
    guard.block(ip_network("203.0.113.9"), 60)
    leave()
    leave()
    guard.unblock(ip_network("203.0.113.9"))
    assert [each["what"] for each in seen] == ["block"]


@inside
def test_unblock_forgets_the_past(rig: Rig, family: int) -> None:
    guard, source = rig.start(), SOURCE[family]
    wrong(guard, source)
    wrong(guard, source, 3)
    guard.unblock(ip_network(source))
    assert guard.why(ip_address(source))["evidence"] == {}
    for again in (guard, rig.start(), rig.start(shorten=True)):
        assert again.why(ip_address(source))["history"] == {"bans": 0, "last": 0}
    wrong(guard, source)
    assert rig.banned()[source][0] in about(3600)


# -- what the fleet says


@inside
def test_bans_of_the_fleet_come_and_go(rig: Rig, family: int) -> None:
    guard, network = rig.start(), ip_network(SOURCE[family])
    guard.on_fleet_ban(network, 900, "fleet: pbx2")
    left, comment = rig.banned()[SOURCE[family]]
    assert (left in about(900), comment) == (True, "sipban: crowdsec: fleet: pbx2")
    assert rig.logged() == [f"BLOCK => {SOURCE[family]} (crowdsec: fleet: pbx2)"]
    assert [(str(each), left in about(900)) for each, left in guard.of_the_fleet()] == [(str(network), True)]
    # said again, and for longer: no second line
    guard.on_fleet_ban(network, 905, "fleet: pbx2")
    guard.on_fleet_ban(network, 5000, "fleet: pbx2")
    guard.on_fleet_ban(network, 60, "fleet: pbx2")
    assert rig.banned()[SOURCE[family]][0] in about(5000)
    assert rig.logged() == []
    assert guard.status()["blocked"] == {"crowdsec": 1}
    assert guard.why(network.network_address)["history"]["bans"] == 0
    guard.on_fleet_unban(network)
    guard.on_fleet_unban(network)
    assert rig.banned() == {}
    assert rig.fleet.told == []  # never passed on, in neither direction


@pytest.mark.parametrize("seconds", [60, 3600, 86400, MAX_TIMEOUT])
@pytest.mark.parametrize("how", ["evidence", "by hand", "for ever", "somebody else"])
@inside
def test_a_ban_of_our_own_outlives_what_the_fleet_says(rig: Rig, family: int, seconds: int, how: str) -> None:
    guard, source = rig.start(), SOURCE[family]
    if how == "evidence":
        wrong(guard, source)
    elif how == "somebody else":
        rig.ipset("add", f"sipguard-banned{family}", source, "timeout", "3600", "comment", "sipguard ban")
    else:
        guard.block(ip_network(source), 0 if how == "for ever" else 3600)
    before = rig.banned()[source]
    guard.on_fleet_ban(ip_network(source), seconds, "fleet: pbx2")
    after = rig.banned()[source]
    assert after[0] >= before[0] - 5 or (how, after[0]) == ("for ever", 0)
    guard.on_fleet_unban(ip_network(source))
    assert source in rig.banned()


@inside
def test_after_a_restart_the_fleet_can_take_back_its_own(rig: Rig) -> None:
    guard = rig.start()
    guard.on_fleet_ban(ip_network(SOURCE[4]), 900, "fleet: pbx2")
    wrong(guard, SOURCE[6])
    again = rig.start(shorten=True)
    assert [str(each) for each, dummy in again.of_the_fleet()] == [f"{SOURCE[4]}/32"]
    for family in (4, 6):
        again.on_fleet_unban(ip_network(SOURCE[family]))
    assert list(rig.banned()) == [SOURCE[6]]


@pytest.mark.parametrize("who", ["trusted", "known", "white list", "own"])
@inside
def test_the_fleet_bans_nobody_who_is_spared_here(rig: Rig, family: int, who: str) -> None:
    source = OWN[family] if who == "own" else SOURCE[family]
    guard = rig.start(white_list=(source,) if who == "white list" else ())
    if who in ("trusted", "known"):
        rig.ipset("add", f"sipguard-{who}{family}", source)
    guard.on_fleet_ban(ip_network(source), 900, "fleet: pbx2")
    assert rig.banned() == {}


@inside
def test_what_the_fleet_takes_back_leaves_the_past_of_a_source(rig: Rig, family: int) -> None:
    guard, source = rig.start(), SOURCE[family]
    wrong(guard, source)
    rig.runs_out(source)
    guard.on_fleet_ban(ip_network(source), 900, "fleet: pbx2")
    guard.on_fleet_unban(ip_network(source))
    for again in (guard, rig.start(), rig.start(shorten=True)):
        assert again.why(ip_address(source))["history"]["bans"] == 1


# -- what survives


def booted(rig: Rig, folder: str) -> dict[str, tuple[int, str]]:
    """The bans after a reboot: the kernel has lost them all, and only files are left."""
    for family in (4, 6):
        rig.ipset("flush", f"sipguard-banned{family}")
    bans.restore_bans(HostRunner(), folder, rig.path)
    return rig.banned()


@pytest.mark.parametrize("shorten", [False, True])
@inside
def test_a_reboot_loses_no_ban(rig: Rig, tmp_path: Path, shorten: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: EPOCH + rig.now)
    guard = rig.start()
    for family in (4, 6):
        wrong(guard, SOURCE[family])
    guard.block(ip_network("198.51.100.0/24"), 0, "for ever, grüße 世界 it's")
    guard.on_fleet_ban(ip_network("198.51.100.9"), 60, 'a "quoted"\treason\n')
    guard.block(ip_network("198.51.100.10"), 600)
    guard.unblock(ip_network("198.51.100.10"))
    before = rig.banned()
    if shorten:
        rig.start(shorten=True)
    rig.now += 100
    after = booted(rig, str(tmp_path))
    assert sorted(after) == sorted(set(before) - {"198.51.100.9"})
    for member, (left, comment) in after.items():
        assert comment == before[member][1]
        assert left in (range(3400, 3501) if before[member][0] else range(1))


@pytest.mark.parametrize("shorten", [False, True])
@inside
def test_who_was_let_in_is_not_banned_again_by_a_picture_of_before(
    rig: Rig, tmp_path: Path, shorten: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: EPOCH + rig.now)
    guard = rig.start()
    for last in (7, 8):
        guard.block(ip_network(f"203.0.113.{last}"), 6000)
    # as 'sipguard ban' of something else takes one
    runner = HostRunner()
    bans.Picture(str(tmp_path)).write(bans.read_live(runner, read_headers(runner)))
    rig.now += 10
    guard.unblock(ip_network("203.0.113.7"))
    rig.now += 10
    if shorten:
        rig.start(shorten=True)
    rig.now += 10
    assert list(booted(rig, str(tmp_path))) == ["203.0.113.8"]


@inside
def test_comments_of_others_do_not_damage_the_ledger(rig: Rig) -> None:
    rig.kernel.add("sipguard-banned4", ip_network("203.0.113.9"), 0, "kept")
    rig.ipset("add", "sipguard-banned4", "203.0.113.10", "timeout", "0", "comment", "a\tb\x1b[2J")
    rig.start(shorten=True)
    found = last_lines(rig.path)
    assert found["203.0.113.9"].reason == "kept"
    assert found["203.0.113.10"].reason == "a?b?[2J"


@inside
def test_a_ledger_that_cannot_be_written_bans_nobody_less(rig: Rig) -> None:
    guard = rig.start()
    rig.ledger.close()  # as good as a disk that is gone
    wrong(guard, SOURCE[4])
    wrong(guard, SOURCE[6])
    assert len(rig.banned()) == 2
    (line,) = rig.logged(WARNING)
    assert line.startswith(f"cannot write {rig.path}: ")


@inside
def test_refresh_gives_back_memory_and_looks_at_its_own_addresses(rig: Rig) -> None:
    guard = rig.start(remember=1000)
    wrong(guard, SOURCE[4])
    wrong(guard, "198.51.100.9", 3)
    rig.now += 1001
    guard.refresh()
    assert guard.top(10) == []
    assert guard.status()["remembered"] == 0

    def fails() -> frozenset[Address]:
        raise SipguardError("cannot read this host's addresses and routes: gone")

    guard.outside.own = fails
    guard.refresh()
    assert rig.logged(WARNING) == ["cannot read this host's addresses and routes: gone"]
    wrong(guard, OWN[4], 9)
    assert OWN[4] not in rig.banned()


def test_own_addresses_are_those_of_the_host_and_its_gateways() -> None:
    namespace = Namespace("own")
    try:
        namespace.ip(
            [
                "link set lo up",
                "link add out type veth peer name far",
                "address add 192.0.2.1/24 dev out",
                "address add 2001:db8::1/64 dev out nodad",
                "link set far up",
                "link set out up",
                "route add default via 192.0.2.254",
                "route add default via 2001:db8::fe",
            ]
        )
        found = {str(each) for each in in_namespace(namespace.name, own_addresses)}
    finally:
        namespace.close()
    assert {"192.0.2.1", "2001:db8::1", "192.0.2.254", "2001:db8::fe"} <= found


@inside
def test_thresholds_of_ones_own(rig: Rig) -> None:
    guard = rig.start(thresholds={**Settings().thresholds, PASSWORD: Threshold(1, 10), "FailedACL": Threshold(0, 10)})
    wrong(guard, SOURCE[4], 500, name="FailedACL")
    assert rig.banned() == {}
    wrong(guard, SOURCE[4], 1)
    assert rig.banned()[SOURCE[4]][1] == "sipban: InvalidPassword in 0 s (PJSIP over TLS)"
