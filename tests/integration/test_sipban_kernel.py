# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sipband changes in the kernel, as ipset and connection tracking themselves see it."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network, ip_address, ip_network
from typing import TypeVar

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import kernel
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.kernel import SetFull, SetMissing, Sets
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.values import Entry
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import netlink
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import MAX_TIMEOUT
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.sets import spec
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import Network
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.integration.harness import sip
from tests.integration.harness.lab import PBX, Host, Lab
from tests.integration.harness.netns import Namespace, in_namespace, run

T = TypeVar("T")

NETWORKS = {
    4: ["198.51.100.7", "198.51.100.128/25", "203.0.113.0/24", "128.0.0.0/1"],
    6: ["2001:db8::7", "2001:db8:1::/48", "2001:db8:2::/127", "8000::/1"],
}
LONE_CAPABILITY = (
    "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs",
    "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin",
)  # fmt: skip


class Host7:
    """A namespace with our sets."""

    def __init__(self) -> None:
        self.namespace = Namespace("sets")
        for name in ("sipguard-banned4", "sipguard-banned6", "sipguard-known4", "sipguard-known6"):
            self.ipset(*spec(name).create().split())
        self.sets = in_namespace(self.namespace.name, Sets)

    def ipset(self, *argv: str) -> str:
        return self.namespace.run("ipset", *argv)

    def inside(self, act: Callable[[], T]) -> T:
        return in_namespace(self.namespace.name, act)

    def members(self, name: str) -> list[Entry]:
        return self.inside(lambda: list(self.sets.members(name)))

    def saved(self, name: str) -> dict[str, tuple[int, str]]:
        """What ipset has to say: seconds and comment by member."""
        pattern = rf'^add {name} (\S+) timeout (\d+)(?: comment "(.*)")?$'
        return {m[1]: (int(m[2]), m[3] or "") for m in re.finditer(pattern, self.ipset("save", name), flags=re.M)}

    def close(self) -> None:
        self.sets.close()
        self.namespace.close()


@pytest.fixture
def host() -> Iterator[Host7]:
    made = Host7()
    yield made
    made.close()


def about(seconds: int) -> range:
    """A time that a busy machine may have let pass a little of."""
    return range(max(1, seconds - 30), seconds + 1) if seconds else range(1)


# -- sets


def test_add_is_what_ipset_sees(host: Host7, family: int) -> None:
    banned = f"sipguard-banned{family}"
    comments = ["", "InvalidPassword PJSIP", "grüße, 世界", "it's"]
    for text, comment in zip(NETWORKS[family], comments, strict=True):
        host.sets.add(banned, ip_network(text), 3600, comment)
    saved = host.saved(banned)
    assert sorted(saved) == sorted(NETWORKS[family])
    assert [saved[text][1] for text in NETWORKS[family]] == comments
    assert all(left in about(3600) for left, dummy in saved.values())
    assert {entry.member: (entry.left in about(3600), entry.comment) for entry in host.members(banned)} == {
        text: (True, comment) for text, comment in zip(NETWORKS[family], comments, strict=True)
    }
    assert host.sets.entries(banned) == 4


def test_members_are_what_ipset_added(host: Host7, family: int) -> None:
    banned = f"sipguard-banned{family}"
    host.ipset("add", banned, NETWORKS[family][0], "timeout", "0", "comment", "by hand")
    host.ipset("add", banned, NETWORKS[family][1], "timeout", "90")
    found = {entry.member: entry for entry in host.members(banned)}
    assert found[NETWORKS[family][0]][1:] == (0, "by hand")
    assert found[NETWORKS[family][1]].left in about(90)
    assert found[NETWORKS[family][1]].comment == ""


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (60, 60), (MAX_TIMEOUT, MAX_TIMEOUT), (10**12, MAX_TIMEOUT)])
def test_add_time(host: Host7, family: int, seconds: int, expected: int) -> None:
    banned = f"sipguard-banned{family}"
    host.sets.add(banned, ip_network(NETWORKS[family][0]), seconds)
    assert host.saved(banned)[NETWORKS[family][0]][0] in about(expected)


def test_add_refuses_a_time_that_is_over(host: Host7) -> None:
    with pytest.raises(SipguardError, match="for -1 seconds"):
        host.sets.add("sipguard-banned4", ip_network("192.0.2.1"), -1)
    assert host.members("sipguard-banned4") == []


def test_add_replaces(host: Host7, family: int) -> None:
    banned = f"sipguard-banned{family}"
    network = ip_network(NETWORKS[family][1])
    for seconds, comment in ((60, "first"), (6000, "longer"), (90, "shorter"), (0, "for ever"), (50, "")):
        host.sets.add(banned, network, seconds, comment)
        ((left, said),) = host.saved(banned).values()
        assert left in about(seconds)
        assert said == comment


def test_add_known_without_comment(host: Host7, family: int) -> None:
    known = f"sipguard-known{family}"
    for comment in ("", "not kept"):
        host.sets.add(known, ip_network(NETWORKS[family][0]), 60, comment)
    assert list(host.saved(known)) == [NETWORKS[family][0]]
    ((network, left, said),) = host.members(known)
    assert network == ip_network(NETWORKS[family][0])
    assert left in about(60)
    assert said == ""


@pytest.mark.parametrize(
    ("comment", "kept"),
    [
        ('a "b" \n add sipguard-trusted4 0.0.0.0/1\r\0\x1b', "a 'b' ? add sipguard-trusted4 0.0.0.0/1???"),
        ("ü" * 200, "ü" * 127),
        ("x" * 255, "x" * 255),
        ("\udc80\u2028", "??"),
        ("back\\slash\\", "back\\slash\\"),
    ],
)
def test_comments_can_be_saved_and_restored(host: Host7, comment: str, kept: str) -> None:
    host.sets.add("sipguard-banned4", ip_network("192.0.2.1"), 0, comment)
    (entry,) = host.members("sipguard-banned4")
    assert entry.comment == kept
    saved = host.ipset("save", "sipguard-banned4")
    host.ipset("destroy", "sipguard-banned4")
    host.namespace.run("ipset", "restore", stdin=saved)
    assert host.members("sipguard-banned4") == [Entry(ip_network("192.0.2.1"), 0, kept)]


def test_remove(host: Host7, family: int) -> None:
    banned = f"sipguard-banned{family}"
    one, around = (ip_network(text) for text in NETWORKS[family][:2])
    host.sets.add(banned, one, 60)
    host.sets.add(banned, around, 60)
    assert host.sets.remove(banned, around)
    assert not host.sets.remove(banned, around)
    assert list(host.saved(banned)) == [NETWORKS[family][0]]
    assert not host.sets.remove("sipguard-nowhere", one)


def test_holds_what_a_packet_would_match(host: Host7, family: int) -> None:
    banned, known = f"sipguard-banned{family}", f"sipguard-known{family}"
    one, around = (ip_network(text) for text in NETWORKS[family][:2])
    host.sets.add(banned, one, 60)
    host.sets.add(banned, around, 60)
    host.sets.add(known, one, 60)
    inside = ip_address(int(around.network_address) + 77)
    assert host.sets.holds(banned, one.network_address)
    assert host.sets.holds(banned, inside)
    assert not host.sets.holds(banned, one.network_address + 1)
    assert host.sets.holds(known, one.network_address)
    assert not host.sets.holds(known, inside)
    assert not host.sets.holds("sipguard-nowhere", inside)


def test_holds_no_longer_than_its_time(host: Host7) -> None:
    host.sets.add("sipguard-banned4", ip_network("192.0.2.1"), 1)
    address = ip_address("192.0.2.1")
    assert any(not host.sets.holds("sipguard-banned4", address) for dummy in range(2_000_000))
    assert host.members("sipguard-banned4") == []


def test_flush(host: Host7) -> None:
    host.sets.add("sipguard-banned4", ip_network("192.0.2.1"), 0)
    host.sets.add("sipguard-known4", ip_network("192.0.2.1"), 0)
    host.sets.flush("sipguard-banned4")
    host.sets.flush("sipguard-nowhere")
    assert host.saved("sipguard-banned4") == {}
    assert list(host.saved("sipguard-known4")) == ["192.0.2.1"]


def test_missing_set(host: Host7) -> None:
    name = "sipguard-nowhere"
    with pytest.raises(SetMissing, match="the set sipguard-nowhere is not there"):
        host.sets.add(name, ip_network("192.0.2.1"), 60)
    with pytest.raises(SetMissing):
        host.sets.add_many(name, [Entry(ip_network("192.0.2.1"), 60, "")])
    assert host.members(name) == []
    assert host.sets.entries(name) is None
    host.ipset("destroy", "sipguard-banned4")
    host.ipset(*spec("sipguard-banned4").create().split())
    host.sets.add("sipguard-banned4", ip_network("192.0.2.1"), 60)  # another set of the name, the same socket


@pytest.mark.parametrize("many", [False, True])
def test_full_set(host: Host7, many: bool) -> None:
    host.ipset("create", "tiny", "hash:net", "timeout", "60", "comment", "maxelem", "2")
    entries = [Entry(ip_network(f"192.0.2.{number}"), 60, "x") for number in (1, 2, 3)]
    if not many:
        for entry in entries[:2]:
            host.sets.add("tiny", *entry)
        entries = entries[2:]
    with pytest.raises(SetFull, match="the set tiny is full"):
        host.sets.add_many("tiny", entries) if many else host.sets.add("tiny", *entries[0])
    assert len(host.saved("tiny")) == 2
    assert host.sets.entries("tiny") == 2
    host.sets.add("tiny", ip_network("192.0.2.1"), 50, "can still be replaced")
    assert host.saved("tiny")["192.0.2.1"][1] == "can still be replaced"


def test_set_of_another_type_or_family(host: Host7) -> None:
    host.ipset("create", "other", "list:set")
    host.ipset("create", "timeless", "hash:net")
    one: Network = ip_network("192.0.2.1")
    for name, network in (("other", one), ("timeless", one), ("sipguard-banned6", one)):
        with pytest.raises(SipguardError, match=f"^set {name}: adding 192.0.2.1/32 failed: [a-z ]*$"):
            host.sets.add(name, network, 60)
    assert not host.sets.holds("sipguard-banned6", ip_address("192.0.2.1"))
    with pytest.raises(SipguardError, match="no network of that size"):
        host.sets.add("sipguard-banned4", ip_network("0.0.0.0/0"), 60)


def many(count: int) -> Iterator[Entry]:
    for number in range(count):
        yield Entry(IPv4Network((0xC6120000 + number, 32)), 86400, "InvalidPassword PJSIP" if number % 2 else "")


def test_a_hundred_thousand_members(host: Host7) -> None:
    count = 100_000
    assert host.sets.add_many("sipguard-banned4", many(count)) == count
    assert host.sets.entries("sipguard-banned4") == count
    saved = host.saved("sipguard-banned4")
    assert {member: comment for member, (dummy, comment) in saved.items()} == {e.member: e.comment for e in many(count)}
    assert {left in about(86400) for left, dummy in saved.values()} == {True}
    found = {(entry.member, entry.comment) for entry in host.members("sipguard-banned4")}
    assert found == {(entry.member, entry.comment) for entry in many(count)}
    assert host.sets.holds("sipguard-banned4", ip_address("198.18.100.100"))


def test_a_late_answer_is_not_taken_for_another(host: Host7) -> None:
    host.sets.add("sipguard-banned4", ip_network("192.0.2.1"), 60)
    link = host.sets._link
    for address, held in (("192.0.2.2", False), ("192.0.2.1", True)) * 3:
        # a question whose asker has given up, with the other answer
        other = ip_address("192.0.2.1" if not held else "192.0.2.2").packed
        head = struct.pack(">BBH", netlink.AF[4], 0, 0)
        link._socket.send(link._message(6 << 8 | 11, 4, head, kernel._test_head("sipguard-banned4", 4) + other))
        assert host.sets.holds("sipguard-banned4", ip_address(address)) is held
    link._socket.send(link._message(6 << 8 | 7, 0x300, head, kernel._of("sipguard-banned4")))  # a dump nobody reads
    with contextlib.suppress(SipguardError):
        host.sets.entries("sipguard-banned4")  # one dump at a time; what is left of the other one is read here
    assert host.sets.entries("sipguard-banned4") == 1


def test_members_are_not_held_in_memory(host: Host7) -> None:
    host.sets.add_many("sipguard-banned4", many(20_000))

    def read() -> tuple[int, int]:
        tracemalloc.start()
        try:
            seen = sum(1 for dummy in host.sets.members("sipguard-banned4"))
            return seen, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    seen, most = host.inside(read)
    assert seen == 20_000
    assert most < 1 << 20


def test_sets_can_be_changed_while_they_are_read(host: Host7) -> None:
    host.sets.add_many("sipguard-banned4", many(5000))

    def read() -> int:
        for number, entry in enumerate(host.sets.members("sipguard-banned4")):
            assert host.sets.holds("sipguard-banned4", entry.network.network_address)
            if number % 10 == 0:
                assert host.sets.remove("sipguard-banned4", entry.network)
        return host.sets.entries("sipguard-banned4") or 0

    assert host.inside(read) == 4500


def test_members_can_be_left_unread(host: Host7) -> None:
    host.sets.add_many("sipguard-banned4", many(5000))
    assert len(host.inside(lambda: list(itertools.islice(host.sets.members("sipguard-banned4"), 3)))) == 3
    # the set is not held any longer: it can be swapped
    host.ipset(*spec("sipguard-banned4").create("sipguard-banned4-new").split())
    host.ipset("swap", "sipguard-banned4-new", "sipguard-banned4")
    assert host.sets.entries("sipguard-banned4") == 0


# -- conversations


def sources(lab: Lab) -> list[str]:
    """Who began a conversation, and with whom it was begun, of all there are."""

    def read() -> list[str]:
        found = []
        for version, kinds in ((4, (1, 2)), (6, (3, 4))):
            for entry in netlink.conversations(version):
                addresses = netlink.attributes(netlink.attributes(entry[1])[1])
                found += [socket.inet_ntop(netlink.AF[version], addresses[kind]) for kind in kinds]
        return found

    return in_namespace(lab.pbx.name, read)


def end(lab: Lab, addresses: Iterable[str]) -> int:
    return in_namespace(lab.pbx.name, lambda: kernel.end_conversations([ip_address(each) for each in addresses]))


def talk(lab: Lab, host: Host, transport: str, family: int) -> str:
    """Have a conversation with the PBX; the address from which."""
    flow = host.udp(family) if transport == "udp" else host.tcp(family)
    assert lab.passes(flow, sip.request())
    return flow.source


@pytest.fixture
def tracking(nft_lab: Lab) -> Lab:
    for family in (4, 6):
        nft_lab.iptables("-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT", family=family)
    return nft_lab


def made_up(lab: Lab, count: int) -> None:
    """So many conversations that it is worth having the kernel look for those that are wanted."""

    def make() -> None:
        link = netlink.Link()
        target = socket.inet_aton("192.0.2.200")
        for number in range(count):
            source = struct.pack(">I", 0x0A000000 + number)
            payload = b"".join(
                netlink.attribute(
                    kind | 0x8000,
                    netlink.attribute(1 | 0x8000, netlink.attribute(1, begin) + netlink.attribute(2, end))
                    + netlink.attribute(
                        2 | 0x8000,
                        netlink.attribute(1, b"\x11")
                        + netlink.attribute(2, struct.pack(">H", 5060))
                        + netlink.attribute(3, struct.pack(">H", 5060)),
                    ),
                )
                for kind, begin, end in ((1, source, target), (2, target, source))
            )
            assert link.code(1, 0, netlink.AF[4], payload + netlink.attribute(7, struct.pack(">I", 600)), 0x400) == 0
        link.close()

    in_namespace(lab.pbx.name, make)


@pytest.mark.parametrize("how", ["all are read", "filtered", "filter ignored", "filter refused"])
def test_end_conversations(tracking: Lab, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how != "all are read":
        made_up(tracking, 20_000)
    if how == "filter ignored":  # a kernel before 5.8 tells of everything
        monkeypatch.setattr(kernel, "_source_filter", lambda packed, direction: b"")
    if how == "filter refused":  # EINVAL: a filter without what to look for
        flags = netlink.attribute(1, struct.pack("=I", 1))
        monkeypatch.setattr(kernel, "_source_filter", lambda packed, direction: netlink.attribute(25 | 0x8000, flags))
    ways = [(transport, family) for transport in ("udp", "tcp") for family in (4, 6)]
    theirs = [talk(tracking, tracking.attacker, *way) for way in ways]
    neighbours = [talk(tracking, tracking.attacker, *way) for way in ways]
    # and those that the PBX has begun
    for family in (4, 6):
        theirs.append(tracking.attacker.address(family))
        sock = tracking.pbx.socket(netlink.AF[family], socket.SOCK_DGRAM)
        sock.bind((PBX[family], 0))
        sock.sendto(b"\r\n\r\n", (theirs[-1], 5060))
        sock.close()
    before = sources(tracking)
    assert set(before) > {*theirs, *neighbours}
    assert end(tracking, theirs[:1]) == 1
    assert end(tracking, theirs) == len(theirs) - 1
    assert end(tracking, theirs) == 0
    after = sources(tracking)
    assert not set(after) & set(theirs)
    assert set(after) >= set(neighbours)
    assert len(before) - len(after) == 2 * len(theirs)


def test_end_conversations_of_hundreds_at_once(tracking: Lab) -> None:
    made_up(tracking, 3000)
    theirs = talk(tracking, tracking.attacker, "udp", 6)
    assert end(tracking, [theirs, *(str(ip_address(0x0A000000 + number)) for number in range(500))]) == 501
    assert sources(tracking).count("192.0.2.200") == 2500
    assert end(tracking, ["192.0.2.200"]) == 2500


def test_end_conversations_in_every_zone(tracking: Lab) -> None:
    sources_of = [tracking.attacker.address(4) for dummy in range(3)]
    for zone, source in enumerate(sources_of[:2], 1):
        for chain, option in (("PREROUTING", "-s"), ("OUTPUT", "-d")):
            tracking.iptables("-t", "raw", "-A", chain, option, source, "-j", "CT", "--zone", str(zone))
    flow = tracking.attacker.udp(4, source=sources_of[0])
    assert tracking.passes(flow, sip.request())
    other = tracking.attacker.udp(4, source=sources_of[1])
    assert tracking.passes(other, sip.request())
    for source in sources_of[:2]:
        assert source in sources(tracking)
    assert end(tracking, [sources_of[0]]) == 1
    assert sources_of[0] not in sources(tracking)
    assert end(tracking, sources_of[1:]) == 1


def test_end_conversations_without_any(host: Host7) -> None:
    assert host.inside(lambda: kernel.end_conversations([])) == 0
    assert host.inside(lambda: kernel.end_conversations([ip_address("192.0.2.1"), ip_address("2001:db8::1")])) == 0


# -- with one capability, as another user

_ALONE = """
import os, sys
from ipaddress import ip_address, ip_network
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.kernel import Sets, end_conversations
assert os.getuid() != 0
sets = Sets()
sets.add("sipguard-banned4", ip_network("192.0.2.7"), 60, "alone")
assert sets.holds("sipguard-banned4", ip_address("192.0.2.7"))
assert [entry.comment for entry in sets.members("sipguard-banned4")] == ["alone"]
assert sets.entries("sipguard-banned4") == 1
assert sets.remove("sipguard-banned4", ip_network("192.0.2.7"))
print(end_conversations([ip_address(sys.argv[1])]))
"""


def test_the_capability_to_administer_the_network_is_enough(tracking: Lab) -> None:
    tracking.pbx.run("ipset", *spec("sipguard-banned4").create().split())
    source = talk(tracking, tracking.attacker, "udp", 4)
    said = tracking.pbx.run(*LONE_CAPABILITY, sys.executable, "-Bc", _ALONE, source)
    assert said == "1\n"
    assert source not in sources(tracking)


def test_without_any_capability_there_is_one_clear_line(host: Host7) -> None:
    program = """
from ipaddress import ip_address, ip_network
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import kernel
for act in (lambda: kernel.Sets().add("sipguard-banned4", ip_network("192.0.2.7"), 60),
            lambda: kernel.Sets().holds("sipguard-banned4", ip_address("192.0.2.7")),
            lambda: list(kernel.Sets().members("sipguard-banned4")),
            lambda: kernel.end_conversations([ip_address("192.0.2.7")])):
    try:
        act()
    except kernel.SipguardError as error:
        print(error)
"""
    bare = [word.replace(",+net_admin", "") for word in LONE_CAPABILITY]
    said = run(*host.namespace.argv(*bare, sys.executable, "-Bc", program))
    assert said.splitlines() == [
        "set sipguard-banned4: adding 192.0.2.7/32 failed: Operation not permitted",
        "set sipguard-banned4: looking for 192.0.2.7 failed: Operation not permitted",
        "set sipguard-banned4: reading it failed: Operation not permitted",
        "conversations cannot be ended: Operation not permitted",
    ]
