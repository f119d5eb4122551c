# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host policy comes, or changes, while traffic runs: what others opened has to meet it, what the host asked for goes on."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import netlink
from tests.integration.harness import sip
from tests.integration.harness.lab import NETWORKS, PBX, Host, Lab
from tests.integration.harness.netns import in_namespace
from tests.integration.harness.services import MARKER, MARKER_PORT

NAME = "sip_host_policy"
LAN = list(NETWORKS["phone"].values())
SIP_FOR_THE_LAN = [{"name": "sip", "from": ["lan"]}, MARKER]
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_FREEBIND = {4: (socket.IPPROTO_IP, 15), 6: (socket.IPPROTO_IPV6, 78)}


def track(lab: Lab) -> None:
    """Connection tracking at work, as on a host with a stateful firewall."""
    for family in (4, 6):
        lab.iptables(
            "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT", family=family
        )


def switch_on(lab: Lab, services: list[dict[str, Any]] | None = None, **given: Any) -> None:
    lab.apply(NAME, **{"lan": LAN, "services": SIP_FOR_THE_LAN if services is None else services, **given})


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """The markers keep clear of the SIP ports, which are closed to strangers here."""
    lab.marker_port = MARKER_PORT
    return lab


@pytest.fixture
def nft_lab(nft_lab: Lab) -> Lab:
    """The same for what connection tracking does, whoever has loaded the rules."""
    nft_lab.marker_port = MARKER_PORT
    return nft_lab


@pytest.fixture(params=["tracked", "untracked"])
def before(request: pytest.FixtureRequest) -> Callable[[Lab], None]:
    """Whether connection tracking knew of what was running before."""
    return track if request.param == "tracked" else lambda lab: None


class Speaker:
    """One end of a conversation, a socket of the PBX or of a peer."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def hears(self, lab: Lab, say: Callable[[bytes], object]) -> bool:
        """Whether this end receives what the other one says."""
        token = sip.request().token
        say(token)
        lab.barrier()
        self.sock.setblocking(False)
        found = b""
        try:
            while more := self.sock.recv(65535):
                found += more
        except BlockingIOError:
            pass
        return token in found


def server(host: Host | Lab, address: str, port: int, kind: int) -> socket.socket:
    """A bound socket of a host, listening if it is one that does."""
    family = 6 if ":" in address else 4
    space = host.pbx if isinstance(host, Lab) else host.namespace
    sock = space.socket(_FAMILY[family], kind)
    sock.setsockopt(*_FREEBIND[family], 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(8)
    return sock


def connect(host: Host | Lab, address: str, target: tuple[str, int]) -> socket.socket:
    """A TCP connection from a host, from one of its addresses."""
    family = 6 if ":" in address else 4
    space = host.pbx if isinstance(host, Lab) else host.namespace
    sock = space.socket(_FAMILY[family], socket.SOCK_STREAM)
    sock.setsockopt(*_FREEBIND[family], 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.bind((address, 0))
    sock.settimeout(5)
    sock.connect(target)
    return sock


def accept(listener: socket.socket) -> socket.socket:
    listener.settimeout(5)
    return listener.accept()[0]


def test_conversation_of_somebody_who_lost_access_is_cut(lab: Lab, transport: str, family: int) -> None:
    track(lab)
    attack, call = (host.flow(transport, family) for host in (lab.attacker, lab.phone))
    for flow in (attack, call):
        for dummy in range(2):
            flow.send(sip.request().wire)
            assert flow.answer().startswith(b"SIP/2.0 200 OK")
    switch_on(lab, [MARKER])  # SIP is everyone's
    assert lab.passes(attack, sip.request())
    switch_on(lab)
    assert not lab.passes(attack, sip.request())
    assert lab.passes(call, sip.request())
    switch_on(lab, [{"name": "sip", "from": ["nobody"]}, MARKER])
    assert not lab.passes(call, sip.request())


def test_first_application_cuts_too(lab: Lab, transport: str, family: int, before: Callable[[Lab], None]) -> None:
    before(lab)
    attack, call = (host.flow(transport, family) for host in (lab.attacker, lab.phone))
    for flow in (attack, call):
        flow.send(sip.request().wire)
        assert flow.answer().startswith(b"SIP/2.0 200 OK")
    switch_on(lab)
    assert not lab.passes(attack, sip.request())
    assert lab.passes(call, sip.request())


def test_admitted_conversation_meets_a_changed_policy(lab: Lab, transport: str, family: int) -> None:
    """Whoever was admitted by the judge skips the policy, until it changes."""
    lab.blocklist(learn_for=0)
    switch_on(lab, [MARKER])
    attack, call = (host.flow(transport, family) for host in (lab.attacker, lab.phone))
    assert lab.passes(attack, sip.request())
    assert lab.passes(call, sip.request())
    switch_on(lab)
    assert not lab.passes(attack, sip.request())
    assert lab.passes(call, sip.request())


def test_session_is_cut_although_the_host_speaks_first(
    nft_lab: Lab, family: int, before: Callable[[Lab], None]
) -> None:
    """Events of the manager interface: connection tracking, fresh at work, sees the host's packet before the other side's."""
    lab = nft_lab
    before(lab)
    listener = server(lab, PBX[family], 5038, socket.SOCK_STREAM)
    ends = {}
    for host in (lab.attacker, lab.phone):
        theirs = connect(host, host.address(family), (PBX[family], 5038))
        ends[host.role] = (Speaker(theirs), Speaker(accept(listener)))
    switch_on(lab, [{"name": "ami", "from": ["lan"]}, MARKER])
    for role, goes_on in (("attacker", False), ("phone", True)):
        theirs_end, ours = ends[role]
        ours.sock.send(b"Event: 1\r\n")
        assert select.select([theirs_end.sock], [], [], 5)[0]
        assert ours.hears(lab, theirs_end.sock.send) is goes_on
    assert lab.module(NAME, lan=LAN, services=[{"name": "ami", "from": ["lan"]}, MARKER])["changed"] is False


@pytest.mark.parametrize("seen", ["opened", "underway", "never"])
def test_download_of_the_host_goes_on(nft_lab: Lab, family: int, seen: str) -> None:
    """The other side speaks first, whether connection tracking saw who opened it, saw it under way, or did not see it."""
    lab = nft_lab
    if seen == "opened":
        track(lab)
    listener = server(lab.attacker, lab.attacker.address(family), 8080, socket.SOCK_STREAM)
    ours = Speaker(connect(lab, PBX[family], listener.getsockname()[:2]))
    theirs = accept(listener)
    if seen == "underway":
        track(lab)
        assert ours.hears(lab, theirs.send)
    for services in (SIP_FOR_THE_LAN, [MARKER]):
        switch_on(lab, services)
        assert ours.hears(lab, theirs.send)
        assert Speaker(theirs).hears(lab, ours.sock.send)
    assert not is_answered(lab, family, ours.sock.getsockname()[1])  # what nobody asked for has no way in


def is_answered(lab: Lab, family: int, port: int) -> bool:
    """Whether a stranger who knocks at a port is told anything, be it a refusal."""
    flow = lab.attacker.tcp(family, port=port)
    lab.barrier()
    return bool(select.select([], [flow._sock], [], 0)[1])


@pytest.mark.parametrize("seen", ["opened", "never"])
def test_questions_of_the_host_are_answered(nft_lab: Lab, family: int, seen: str) -> None:
    lab = nft_lab
    if seen == "opened":
        track(lab)
    resolver = server(lab.attacker, lab.attacker.address(family), 53, socket.SOCK_DGRAM)
    question = Speaker(server(lab, PBX[family], 0, socket.SOCK_DGRAM))
    question.sock.sendto(b"before", resolver.getsockname()[:2])
    switch_on(lab)
    for dummy in range(2):
        question.sock.sendto(b"now", resolver.getsockname()[:2])
        assert question.hears(lab, lambda token: resolver.sendto(token, question.sock.getsockname()[:2]))
    other = server(lab.attacker, lab.attacker.address(family), 53, socket.SOCK_DGRAM)
    assert not question.hears(lab, lambda token: other.sendto(token, question.sock.getsockname()[:2]))


def test_registration_of_the_host_goes_on(nft_lab: Lab, family: int, before: Callable[[Lab], None]) -> None:
    """Its provider answers, and calls, over the conversation that the host opened; from nowhere else."""
    lab = nft_lab
    before(lab)
    address = lab.trunk.address(family)
    provider, elsewhere = (lab.trunk.udp(family, source=address, source_port=port) for port in (5060, 5062))
    lab.sink.send(sip.request().wire, (address, 5060))
    switch_on(lab)
    lab.sink.send(sip.request().wire, (address, 5060))
    for message in (sip.response(sip.PHONE), sip.request(method="INVITE"), sip.request(method="OPTIONS")):
        assert lab.passes(provider, message)
    assert not lab.passes(elsewhere, sip.request(method="INVITE"))


def test_question_of_the_host_lets_nobody_back_in(nft_lab: Lab, family: int) -> None:
    """Asterisk goes on asking a telephone that is still registered (qualify): its conversation remains the telephone's own."""
    lab = nft_lab
    track(lab)
    source = lab.attacker.address(family)
    phone = lab.attacker.udp(family, source=source, source_port=5060)
    assert lab.passes(phone, sip.request())
    assert phone.answer().startswith(b"SIP/2.0 200 OK")
    switch_on(lab)
    lab.sink.send(sip.request(method="OPTIONS").wire, (source, 5060))
    assert not lab.passes(phone, sip.response(sip.PHONE))
    assert not lab.passes(phone, sip.request())


def test_tunnel_of_the_host_goes_on(nft_lab: Lab, family: int) -> None:
    """A UDP conversation that was under way, whose other side happened to be seen first, to a port that is no service's."""
    lab = nft_lab
    track(lab)
    ours = Speaker(server(lab, PBX[family], 51820, socket.SOCK_DGRAM))
    theirs = server(lab.attacker, lab.attacker.address(family), 51820, socket.SOCK_DGRAM)
    stranger = server(lab.attacker, lab.attacker.address(family), 51820, socket.SOCK_DGRAM)
    for peer in (theirs, stranger):
        peer.connect((PBX[family], 51820))
        assert ours.hears(lab, peer.send)
        ours.sock.sendto(b"answer", peer.getsockname()[:2])
    switch_on(lab)
    ours.sock.sendto(b"keep-alive", theirs.getsockname()[:2])
    assert ours.hears(lab, theirs.send)
    assert not ours.hears(lab, stranger.send)


def test_protected_session_goes_on(nft_lab: Lab, family: int, before: Callable[[Lab], None]) -> None:
    lab = nft_lab
    before(lab)
    listener = server(lab, PBX[family], 22, socket.SOCK_STREAM)
    address = lab.attacker.address(family)
    theirs = connect(lab.attacker, address, (PBX[family], 22))
    ours = Speaker(accept(listener))
    switch_on(lab, [{"name": "ssh", "from": ["nobody"]}, MARKER], protect=[address])
    assert ours.hears(lab, theirs.send)
    assert Speaker(theirs).hears(lab, ours.sock.send)


def test_marks_of_others_stay_on_a_corrected_conversation(nft_lab: Lab) -> None:
    lab = nft_lab
    listener = server(lab.attacker, lab.attacker.address(), 8080, socket.SOCK_STREAM)
    ours = Speaker(connect(lab, PBX[4], listener.getsockname()[:2]))
    theirs = accept(listener)
    lab.iptables("-t", "mangle", "-A", "PREROUTING", "-j", "CONNMARK", "--set-xmark", "0x5/0x7")
    assert ours.hears(lab, theirs.send)
    lab.iptables("-t", "mangle", "-F", "PREROUTING")
    switch_on(lab)
    port = struct.pack(">H", ours.sock.getsockname()[1])

    def marks() -> list[bytes]:
        found = (entry for entry in netlink.conversations(4) if port in entry[1])
        return [entry.get(8, b"") for entry in found]

    assert in_namespace(lab.pbx.name, marks) == [b"\0\0\0\5"]
    assert ours.hears(lab, theirs.send)


def test_what_a_helper_expects_is_let_in(lab: Lab) -> None:
    """Active FTP: the server opens the connection that the host has told it to open."""
    argv = ["-t", "raw", "-A", "OUTPUT", "-p", "tcp", "--dport", "21", "-j", "CT", "--helper", "ftp"]
    lab.iptables(*argv)
    switch_on(lab)
    address = lab.attacker.address()
    listener = server(lab.attacker, address, 21, socket.SOCK_STREAM)
    control = connect(lab, PBX[4], (address, 21))
    theirs = Speaker(accept(listener))
    data = server(lab, PBX[4], 0, socket.SOCK_STREAM)
    port = data.getsockname()[1]
    told = f"PORT {PBX[4].replace('.', ',')},{port >> 8},{port & 255}\r\n".encode()
    assert theirs.hears(lab, lambda token: control.send(b"USER " + token + b"\r\n"))
    control.send(told)
    assert theirs.hears(lab, lambda token: control.send(b"NOOP " + token + b"\r\n"))
    assert not is_answered(lab, 4, port)
    upload = connect(lab.attacker, address, (PBX[4], port))
    ours = Speaker(accept(data))
    for dummy in range(2):
        assert ours.hears(lab, upload.send)
