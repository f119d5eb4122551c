# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PBX and the hosts around it, the modules run on it, and the question whether a message got through."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import select
import socket
import struct
from collections.abc import Iterable
from typing import Any

from . import packets, sip
from .modules import run_module
from .netns import Namespace
from .sink import Sink

__all__ = ["PBX", "WAYS", "Host", "Lab", "TcpFlow", "UdpFlow"]

PBX = {4: "192.0.2.1", 6: "2001:db8::1"}
PORTS = (5060, 5061, 5070)
# Transport and family of whatever is said.
WAYS = tuple(itertools.product(("udp", "tcp"), (4, 6)))
# Peers own whole networks: every test, and every marker, speaks from an address nobody has used before.
NETWORKS = {
    "phone": {4: "198.51.100.0/24", 6: "2001:db8:1::/64"},
    "trunk": {4: "203.0.113.0/24", 6: "2001:db8:3::/64"},
    "attacker": {4: "198.18.0.0/16", 6: "2001:db8:bad::/64"},
}
_FREEBIND = {4: (socket.IPPROTO_IP, 15), 6: (socket.IPPROTO_IPV6, 78)}  # IP_FREEBIND, IPV6_FREEBIND
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_TIMEOUT = 5.0  # seconds after which a thing that must happen counts as not having happened


def _mac(link: int, end: int) -> str:
    return f"02:00:00:00:{link:02x}:{end:02x}"


class UdpFlow:
    """A socket that keeps its source port, connected to the PBX."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @property
    def source(self) -> str:
        """The source address."""
        return str(self._sock.getsockname()[0])

    def send(self, *payloads: bytes) -> None:
        """Sends each of `payloads` as a datagram."""
        for payload in payloads:
            # an ICMP error about an earlier datagram is told here
            with contextlib.suppress(OSError):
                self._sock.send(payload)
                continue
            self._sock.send(payload)

    def answer(self, seconds: float = _TIMEOUT) -> bytes:
        """The next datagram from the PBX; empty when none comes, ConnectionRefusedError when ICMP says so."""
        self._sock.settimeout(seconds)
        try:
            return self._sock.recv(65535)
        except TimeoutError:
            return b""

    def close(self) -> None:
        """Closes the socket."""
        self._sock.close()


class TcpFlow(UdpFlow):
    """A TCP connection to the PBX; each payload travels in a segment of its own."""

    def __init__(self, sock: socket.socket, peer: tuple[Any, ...]) -> None:
        super().__init__(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # a closed connection shall leave nothing that is sent again later
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(peer)

    def connected(self, seconds: float = 0) -> bool:
        """Whether the handshake is complete, or becomes so within that time."""
        writable = select.select([], [self._sock], [], seconds)[1]
        return bool(writable) and self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0

    def send(self, *payloads: bytes) -> None:
        self._sock.settimeout(_TIMEOUT)
        for payload in payloads:
            self._sock.sendall(payload)


class Host:
    """A peer of the PBX, with a network of addresses to speak from."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.namespace = Namespace(role)
        self._numbers = {family: itertools.count(2) for family in (4, 6)}
        self._sockets: list[UdpFlow] = []

    def address(self, family: int = 4) -> str:
        """An address of this host that nobody has used yet."""
        network = NETWORKS[self.role][family]
        number = next(self._numbers[family])
        if family == 6:
            return network.replace("::/64", f"::{number:x}")
        first = network.split("/")[0].rsplit(".", 2)[0]
        third = int(network.split(".")[2]) + number // 250
        return f"{first}.{third}.{number % 250 + 1}"

    def _socket(self, kind: int, family: int, source: str | None, source_port: int) -> socket.socket:
        sock = self.namespace.socket(_FAMILY[family], kind)
        sock.setsockopt(*_FREEBIND[family], 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source or self.address(family), source_port))
        return sock

    def udp(self, family: int = 4, *, source: str | None = None, source_port: int = 0, port: int = 5060) -> UdpFlow:
        """A UDP flow to the PBX, by default from an unused address."""
        sock = self._socket(socket.SOCK_DGRAM, family, source, source_port)
        sock.connect((PBX[family], port))
        self._sockets.append(flow := UdpFlow(sock))
        return flow

    def tcp(self, family: int = 4, *, source: str | None = None, source_port: int = 0, port: int = 5060) -> TcpFlow:
        """A TCP connection to the PBX, by default from an unused address; not waited for."""
        sock = self._socket(socket.SOCK_STREAM, family, source, source_port)
        self._sockets.append(flow := TcpFlow(sock, (PBX[family], port)))
        return flow

    def flow(
        self, transport: str, family: int, *, source: str | None = None, source_port: int = 0, port: int = 5060
    ) -> UdpFlow:
        """A flow of either transport. A TCP connection has been established, or an AssertionError says it has not."""
        if transport == "udp":
            return self.udp(family, source=source, source_port=source_port, port=port)
        made = self.tcp(family, source=source, source_port=source_port, port=port)
        assert made.connected(_TIMEOUT), "no TCP connection"
        return made

    def close(self) -> None:
        """Closes every socket and removes the namespace."""
        for sock in self._sockets:
            sock.close()
        self.namespace.close()


class Lab:
    """PBX, phone, trunk and attacker, each a host of its own, on links of their own (named after the peer).

    The PBX listens on `ports`; the marker of `barrier` goes to `marker_port`, which has to be open to strangers.
    """

    def __init__(self, backend: str = "nft", ports: Iterable[int] = PORTS, marker_port: int = 5060) -> None:
        self.backend = backend
        self.marker_port = marker_port
        with contextlib.ExitStack() as undo:
            self.pbx = Namespace("pbx", private_files=True)
            undo.callback(self.pbx.close)
            self.phone, self.trunk, self.attacker = (Host(role) for role in ("phone", "trunk", "attacker"))
            for host in self._hosts:
                undo.callback(host.close)
            self._connect()
            self.sink = Sink(self.pbx, PBX.values(), ports)
            undo.callback(self.sink.close)
            self._await_links()
            self._undo = undo.pop_all()

    @property
    def _hosts(self) -> tuple[Host, Host, Host]:
        return self.phone, self.trunk, self.attacker

    def _connect(self) -> None:
        no_dad = {"net/ipv6/conf/default/accept_dad": "0"}  # an address can be used at once
        unlimited = {"net/ipv4/icmp_ratelimit": "0", "net/ipv6/icmp/ratelimit": "0"}  # ICMP that answers every packet
        self.pbx.sysctl({**no_dad, **unlimited})
        pbx = ["link set lo up", f"addr add {PBX[4]}/32 dev lo", f"addr add {PBX[6]}/128 dev lo nodad"]
        for number, host in enumerate(self._hosts, 1):
            host.namespace.sysctl(no_dad)
            pbx += [
                f"link add {host.role} address {_mac(number, 1)} type veth"
                f" peer name eth0 address {_mac(number, 2)} netns {host.namespace.name}",
                f"addr add 10.255.{number}.1/30 dev {host.role}",
                f"addr add fd00:{number}::1/64 dev {host.role} nodad",
                f"link set {host.role} up",
            ]
        self.pbx.ip(pbx)
        for number, host in enumerate(self._hosts, 1):
            host.namespace.ip(
                [
                    "link set lo up",
                    f"addr add 10.255.{number}.2/30 dev eth0",
                    f"addr add fd00:{number}::2/64 dev eth0 nodad",
                    "link set eth0 up",
                    f"neigh replace 10.255.{number}.1 lladdr {_mac(number, 1)} dev eth0 nud permanent",
                    f"neigh replace fd00:{number}::1 lladdr {_mac(number, 1)} dev eth0 nud permanent",
                    f"route add default via 10.255.{number}.1",
                    f"route add default via fd00:{number}::1",
                    *(f"route add local {net} dev lo" for net in NETWORKS[host.role].values()),
                ]
            )
        self.pbx.ip(
            [
                line
                for number, host in enumerate(self._hosts, 1)
                for line in (
                    f"neigh replace 10.255.{number}.2 lladdr {_mac(number, 2)} dev {host.role} nud permanent",
                    f"neigh replace fd00:{number}::2 lladdr {_mac(number, 2)} dev {host.role} nud permanent",
                    f"route add {NETWORKS[host.role][4]} via 10.255.{number}.2",
                    f"route add {NETWORKS[host.role][6]} via fd00:{number}::2",
                )
            ]
        )

    def _await_links(self) -> None:
        """Returns when every host has had an answer over both families; links come up by and by."""
        for host in self._hosts:
            for family in (4, 6):
                probe = host.udp(family)
                for dummy in range(500):
                    with contextlib.suppress(OSError):
                        probe.send(sip.request(method="OPTIONS").wire)
                    if probe.answer(0.01):
                        break
                else:
                    raise AssertionError(f"no way from {host.role} to the PBX over IPv{family}")

    def close(self) -> None:
        """Removes everything."""
        self._undo.close()

    # -- modules

    def module(
        self, name: str, /, *, check: bool = False, env: dict[str, str] | None = None, **options: Any
    ) -> dict[str, Any]:
        """The result of a module run on the PBX, failed or not."""
        return run_module(self.pbx, name, self.options(name, **options), check=check, env=env)

    def options(self, name: str, /, **options: Any) -> dict[str, Any]:
        """The options of a module, with this laboratory's backend where the module has a choice."""
        return options if name == "sip_trust" else {"backend": self.backend, **options}

    def apply(self, name: str, /, **options: Any) -> dict[str, Any]:
        """The result of a module run that must succeed."""
        result = self.module(name, **options)
        assert not result.get("failed"), result
        return result

    def blocklist(self, **options: Any) -> dict[str, Any]:
        """Applies `sip_ua_blocklist`."""
        return self.apply("sip_ua_blocklist", **options)

    def trust(self, *sources: str, **options: Any) -> dict[str, Any]:
        """Applies `sip_trust`."""
        return self.apply("sip_trust", sources=list(sources), **options)

    def refused(self, name: str, /, **options: Any) -> str:
        """The message with which a module run fails; the kernel and the files are asserted to be as before."""
        before = self.snapshot()
        result = self.module(name, **options)
        assert result.get("failed"), result
        assert self.snapshot() == before
        assert "Traceback" not in result["msg"]
        return str(result["msg"])

    def four_runs(self, name: str, /, **options: Any) -> dict[str, Any]:
        """Check, real, check again, real again, with what each must say and leave; the result of the first real run."""
        before = self.snapshot()
        check = self.module(name, check=True, **options)
        assert self.snapshot() == before, "a check run changed something"
        real = self.apply(name, **options)
        after = self.snapshot()
        check_again = self.module(name, check=True, **options)
        real_again = self.apply(name, **options)
        assert self.snapshot() == after, "an unchanged run changed something"
        runs = (check, real, check_again, real_again)
        assert [run.get("changed") for run in runs] == [True, True, False, False], runs
        assert check["diff"] == real["diff"]
        assert check_again["diff"] == real_again["diff"]
        return real

    # -- what the kernel holds

    def save(self, family: int, backend: str | None = None) -> str:
        """The rules of a family without counters and time."""
        tool = f"ip{'6' if family == 6 else ''}tables-{backend or self.backend}-save"
        lines = [line for line in self.pbx.run(tool).split("\n") if not line.startswith("#")]
        return "\n".join(re.sub(r"\[\d+:\d+\]", "[0:0]", line) for line in lines)

    def sets(self) -> str:
        """The sets and their members without remaining times, sorted."""
        saved = re.sub(r"^(add .*) timeout \d+", r"\1", self.pbx.run("ipset", "save"), flags=re.M)
        return "\n".join(sorted(saved.splitlines()))

    def packets(self, chain: str, family: int = 4) -> int:
        """How many packets the rules of one of our chains have seen."""
        saved = self.pbx.run(f"ip{'6' if family == 6 else ''}tables-{self.backend}-save", "-c")
        return sum(int(count) for count in re.findall(rf"^\[(\d+):\d+\] -A {re.escape(chain)} ", saved, flags=re.M))

    def files(self) -> dict[str, str]:
        """What lies in /etc/sipguard and /var/lib/sipguard, by path; states to go back to, and notes that only save work, aside.

        FreePBX's files of custom rules count as well.
        """
        find = "find etc/sipguard var/lib/sipguard etc/firewall-4.rules etc/firewall-6.rules -type f"
        find += " ! -name .loaded ! -name .glance ! -name 'state-*' ! -name record.json ! -name pending.json"
        find += " -exec sha256sum {} + 2>/dev/null || :"
        listing = self.pbx.run("sh", "-c", f"cd /; {find}")
        return {line.split(None, 1)[1]: line.split()[0] for line in listing.splitlines()}

    def snapshot(self) -> dict[Any, Any]:
        """Everything a module could have changed."""
        rules: dict[Any, Any] = {
            (family, backend): self.save(family, backend) for family in (4, 6) for backend in ("nft", "legacy")
        }
        return {**rules, "sets": self.sets(), "files": self.files()}

    def member(self, name: str, address: str) -> bool:
        """Whether `address` is in the set `name` (without its family suffix)."""
        return self.pbx.succeeds("ipset", "test", f"{name}{6 if ':' in address else 4}", address)

    def restore(self, rules: str, family: int = 4) -> None:
        """Loads rules beside those that are there, as another program would."""
        self.pbx.run(f"ip{'6' if family == 6 else ''}tables-{self.backend}-restore", "--noflush", "-w", stdin=rules)

    def iptables(self, *argv: str, family: int = 4) -> None:
        """Runs iptables, as another program or a person would."""
        self.pbx.run(f"ip{'6' if family == 6 else ''}tables-{self.backend}", "-w", *argv)

    # -- what gets through

    def barrier(self) -> None:
        """Returns when everything sent so far has been received or dropped.

        A marker goes the way of the attacker, from an address nobody has judged yet, and is waited for; one from every
        processor, because each has a queue of its own for what crosses a veth.
        """
        allowed = os.sched_getaffinity(0)
        try:
            for cpu in allowed:
                os.sched_setaffinity(0, {cpu})
                marker = sip.request(method="OPTIONS")
                flow = self.attacker.udp(port=self.marker_port)
                flow.send(marker.wire)
                assert self.sink.wait(marker.token, _TIMEOUT), "the marker did not arrive"
                flow.close()
        finally:
            os.sched_setaffinity(0, allowed)

    def raw_passes(self, host: Host, message: sip.Request, made: Iterable[bytes], family: int = 4) -> bool:
        """Whether the PBX receives `message` sent as these whole packets."""
        packets.send(host.namespace, made, PBX[family])
        self.barrier()
        return self.sink.has(message.token)

    def passes(self, flow: UdpFlow, message: sip.Request, *segments: bytes) -> bool:
        """Whether the PBX receives `message` sent over `flow` (as `segments`, when given)."""
        flow.send(*(segments or (message.wire,)))
        self.barrier()
        return self.sink.has(message.token)

    def reaches(
        self,
        host: Host,
        message: sip.Request,
        transport: str = "udp",
        family: int = 4,
        *,
        source: str | None = None,
        port: int = 5060,
    ) -> bool:
        """Whether the PBX receives `message` sent over a new flow, by default from an unused address."""
        if transport == "udp":
            return self.passes(host.udp(family, source=source, port=port), message)
        flow = host.tcp(family, source=source, port=port)
        self.barrier()
        return flow.connected() and self.passes(flow, message)
