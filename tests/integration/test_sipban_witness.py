# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness sees real challenges leave, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.witness import GROUP, TABLE, Witness
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.netlink import AF
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.integration.harness.netns import Namespace, in_namespace

HERE = {4: "192.0.2.1", 6: "2001:db8::1"}
PEERS = {4: ("198.51.100.7", "198.51.100.8"), 6: ("2001:db8:1::7", "2001:db8:1::8")}
SAVES = [f"ip{six}tables-{kind}save" for six in ("", "6") for kind in ("", "nft-", "legacy-")]
LONE_CAPABILITY = (
    "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs",
    "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin",
)  # fmt: skip


class Host:
    """A PBX that says what it is told to say, and its peers, in one namespace."""

    def __init__(self) -> None:
        self.namespace = Namespace("witness")
        addresses = [*HERE.values(), *PEERS[4], *PEERS[6]]
        nodad = {False: "", True: " nodad"}
        self.namespace.ip(["link set lo up", *(f"addr add {each} dev lo{nodad[':' in each]}" for each in addresses)])
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.namespace.close)
        self.sockets = {address: self._stack.enter_context(self._socket(address)) for address in addresses}

    def _socket(self, address: str) -> socket.socket:
        made = self.namespace.socket(AF[6 if ":" in address else 4], socket.SOCK_DGRAM)
        made.bind((address, 5060))
        end = time.monotonic() + 10
        while True:
            try:
                # The kernel makes the route to a new address of its own a moment later.
                made.connect((address, 5060))
                break
            except OSError:
                if time.monotonic() > end:
                    raise
        made.close()
        made = self.namespace.socket(AF[6 if ":" in address else 4], socket.SOCK_DGRAM)
        made.bind((address, 5060))
        return made

    def close(self) -> None:
        self._stack.close()

    def witness(self, **options: Any) -> Witness:
        return self._stack.enter_context(
            contextlib.closing(in_namespace(self.namespace.name, lambda: Witness(**options)))
        )

    def say(self, to: str, payload: bytes) -> None:
        """The PBX sends a datagram; returns when it has arrived."""
        self.sockets[HERE[6 if ":" in to else 4]].sendto(payload, (to, 5060))
        peer = self.sockets[to]
        peer.settimeout(5)
        assert peer.recv(1 << 16) == payload

    def tables(self) -> list[str]:
        found = json.loads(self.namespace.run("nft", "--json", "list", "tables"))["nftables"]
        return [each["table"]["name"] for each in found if "table" in each]

    def rules(self) -> str:
        return "".join(f"{each}\n{self.namespace.run(each)}" for each in SAVES)


def challenge(nonce: str, status: str = "401 Unauthorized", header: str = "WWW-Authenticate", via: str = "x") -> bytes:
    return (
        f"SIP/2.0 {status}\r\nVia: SIP/2.0/UDP {via}\r\nCall-ID: 1\r\n"
        f'{header}: Digest realm="asterisk",nonce="{nonce}",opaque="0",algorithm=MD5,qop="auth"\r\n'
        "Content-Length:  0\r\n\r\n"
    ).encode()


def knows(witness: Witness, address: str, nonce: str) -> bool:
    return witness.knows(ip_address(address), nonce)


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


@pytest.fixture(params=[True, False], ids=["owned", "not owned"])
def owned(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_knows_exactly_what_has_gone_to_whom(host: Host, family: int, owned: bool) -> None:
    witness = host.witness(owned=owned)
    assert witness.owned is owned
    one, other = PEERS[family]
    host.say(one, challenge("1/a"))
    host.say(other, challenge("2/b", "407 Proxy Authentication Required", "Proxy-Authenticate"))
    host.say(other, challenge("3/c", "200 OK"))
    host.say(other, challenge("4/d", "403 Forbidden"))
    host.say(one, b"REGISTER sip:x SIP/2.0\r\n\r\n" + challenge("5/e"))
    expected = {(one, "1/a"), (other, "2/b")}
    for peer in (one, other):
        for nonce in ("1/a", "2/b", "3/c", "4/d", "5/e", "", "1", "1/A", "\udcff"):
            assert knows(witness, peer, nonce) is ((peer, nonce) in expected)
    assert (witness.seen, witness.unreadable, witness.lost) == (2, 0, 0)


def test_challenges_over_streams_are_none_of_its_business(host: Host, family: int) -> None:
    witness = host.witness()
    one = PEERS[family][0]
    with (
        host.namespace.socket(AF[family], socket.SOCK_STREAM) as listening,
        host.namespace.socket(AF[family], socket.SOCK_STREAM) as calling,
    ):
        listening.bind((one, 5060))
        listening.listen()
        calling.connect((one, 5060))
        calling.sendall(challenge("tcp"))
        accepted, dummy = listening.accept()
        assert accepted.recv(1 << 16) == challenge("tcp")
        accepted.close()
    assert not knows(witness, one, "tcp")
    assert witness.seen == witness.unreadable == 0


def test_a_challenge_behind_much_that_a_stranger_has_written(host: Host, family: int) -> None:
    witness = host.witness()
    for size in (100, 2000, 3000, 9000, 40000):
        host.say(PEERS[family][0], challenge(f"n{size}", via="v" * size))
        assert knows(witness, PEERS[family][0], f"n{size}")
    assert (witness.seen, witness.unreadable) == (5, 0)


def test_what_cannot_be_read_is_counted(host: Host) -> None:
    witness = host.witness()
    host.say(PEERS[4][0], challenge('a",nonce="b'))
    assert not knows(witness, PEERS[4][0], "a")
    assert not knows(witness, PEERS[4][0], "b")
    assert (witness.seen, witness.unreadable) == (0, 1)


def test_knows_for_a_while(host: Host) -> None:
    now = [1000.0]
    witness = host.witness(clock=lambda: now[0], lifetime=300)
    host.say(PEERS[4][0], challenge("n"))
    assert knows(witness, PEERS[4][0], "n")
    now[0] += 300
    assert knows(witness, PEERS[4][0], "n")
    now[0] += 1
    assert not knows(witness, PEERS[4][0], "n")


def test_an_event_loop_is_told(host: Host) -> None:
    witness = host.witness()
    assert select.select([witness], [], [], 0)[0] == []
    host.say(PEERS[4][0], challenge("n"))
    assert select.select([witness], [], [], 5)[0] == [witness]
    witness.drain()
    assert select.select([witness], [], [], 0)[0] == []
    assert witness.seen == 1


def test_a_flood_is_survived(host: Host) -> None:
    now = [1000.0]
    witness = host.witness(clock=lambda: now[0])
    source, count = host.sockets[HERE[4]], 0
    while witness.lost == 0 and count < 500_000:
        for dummy in range(20_000):  # more than the buffer holds, and nobody reads
            source.sendto(challenge(f"flood/{count}", via="v" * 1000), (PEERS[4][1], 5060))
            count += 1
        witness.drain()
    assert witness.lost > 0
    assert 1000 < witness.seen < count
    # What was lost may have been the other copy of any of them, so for a moment none proves anything.
    host.say(PEERS[4][0], challenge("at once"))
    assert not knows(witness, PEERS[4][0], "at once")
    now[0] += 3
    host.say(PEERS[4][0], challenge("afterwards"))
    assert knows(witness, PEERS[4][0], "afterwards")


def test_the_rules_are_as_described(host: Host) -> None:
    host.witness()
    listing = host.namespace.run("nft", "list", "table", "inet", TABLE)
    assert "type filter hook output priority raw; policy accept;" in listing
    log = f"log group {GROUP} snaplen 65535 queue-threshold 1"
    rules = [line.strip() for line in listing.splitlines() if "log" in line]
    assert [rule.split("@th,64,88 ")[0] for rule in rules] == ["meta l4proto udp ", "meta l4proto udp "]
    assert [int(rule.split("@th,64,88 ")[1].split()[0], 16).to_bytes(11, "big") for rule in rules] == [
        b"SIP/2.0 401",
        b"SIP/2.0 407",
    ]
    assert all(rule.endswith(log) for rule in rules)
    assert "owner" in listing


def test_closing_leaves_nothing_behind(host: Host, owned: bool) -> None:
    before = host.rules()
    witness = host.witness(owned=owned)
    host.say(PEERS[4][0], challenge("n"))
    assert host.tables() == [TABLE]
    assert host.rules() == before
    witness.close()
    assert host.tables() == []
    assert host.rules() == before
    again = host.witness(owned=owned)
    assert not knows(again, PEERS[4][0], "n")


def test_rules_of_others_stay_as_they_are(host: Host, owned: bool) -> None:
    for tool in ("iptables-nft", "ip6tables-nft"):
        host.namespace.run(tool, "-A", "OUTPUT", "-p", "udp", "--dport", "53", "-j", "ACCEPT")
        host.namespace.run(tool, "-t", "raw", "-A", "PREROUTING", "-p", "tcp", "-j", "ACCEPT")
    host.namespace.run("nft", "add table inet filter { chain input { type filter hook input priority 0; }; }")

    def save() -> str:
        # the comments have the time of day
        return "\n".join(line for line in host.rules().split("\n") if not line.startswith("#"))

    others = host.namespace.run("nft", "list", "ruleset")
    before = save()
    assert before.count("-j ACCEPT") == 8
    witness = host.witness(owned=owned)
    assert save() == before
    assert host.namespace.run("nft", "list", "ruleset").startswith(others)
    witness.close()
    assert save() == before
    assert host.namespace.run("nft", "list", "ruleset") == others


_PROGRAM = """
import os, sys, time
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.witness import Witness
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from ipaddress import ip_address
try:
    witness = Witness(owned=sys.argv[1] == "True")
except SipguardError as error:
    sys.exit(str(error))
print(os.getuid(), flush=True)
for line in sys.stdin:
    address, nonce = line.split()
    print(witness.knows(ip_address(address), nonce), witness.ensure(), flush=True)
"""


@contextlib.contextmanager
def process(host: Host, *prefix: str, owned: bool = True) -> Iterator[tuple[subprocess.Popen[str], Callable[..., str]]]:
    """A process that has a witness, and what it answers to a line."""
    argv = host.namespace.argv(*prefix, sys.executable, "-Bc", _PROGRAM, str(owned))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        stdin, stdout = running.stdin, running.stdout
        assert stdin is not None
        assert stdout is not None

        def ask(*words: str) -> str:
            print(*words, file=stdin, flush=True)
            return stdout.readline().strip()

        try:
            assert stdout.readline().strip().isdigit()
            yield running, ask
        finally:
            running.kill()


def test_a_killed_process_leaves_no_table(host: Host) -> None:
    with process(host) as (running, dummy):
        assert host.tables() == [TABLE]
        running.kill()
        running.wait()
    assert host.tables() == []


def test_what_a_killed_process_left_is_replaced(host: Host) -> None:
    with process(host, owned=False) as (running, dummy):
        running.kill()
        running.wait()
    assert host.tables() == [TABLE]
    host.say(PEERS[4][0], challenge("nobody listens"))
    for owned in (False, True):
        witness = host.witness(owned=owned)
        assert not witness.ensure()
        host.say(PEERS[4][0], challenge("n"))
        assert knows(witness, PEERS[4][0], "n")
        witness.drain()
        assert witness.seen == 1
        host.namespace.run("nft", "list", "table", "inet", TABLE)
        if owned:
            witness.close()
        else:
            witness._log.close()  # as if it had been killed
            witness._link.close()
            witness.close = lambda: None  # type: ignore[method-assign]
    assert host.tables() == []


def test_owned_it_survives_that_others_flush_everything(host: Host) -> None:
    with process(host) as (dummy, ask):
        host.namespace.run("nft", "flush", "ruleset")
        host.say(PEERS[4][0], challenge("n"))
        assert ask(PEERS[4][0], "n") == "True False"
        assert not host.namespace.succeeds("nft", "delete", "table", "inet", TABLE)


@pytest.mark.parametrize("command", ["flush ruleset", f"delete table inet {TABLE}", f"flush chain inet {TABLE} output"])
def test_not_owned_it_is_put_back(host: Host, command: str) -> None:
    witness = host.witness(owned=False)
    assert not witness.ensure()
    host.namespace.run("nft", command)
    host.say(PEERS[4][0], challenge("missed"))
    assert witness.ensure()
    assert not witness.ensure()
    host.say(PEERS[4][0], challenge("n"))
    assert not knows(witness, PEERS[4][0], "missed")
    assert knows(witness, PEERS[4][0], "n")
    assert witness.seen == 1


def test_only_one_at_a_time(host: Host, owned: bool) -> None:
    host.witness(owned=owned)
    with pytest.raises(SipguardError, match=f"already listens to NFLOG group {GROUP}$"):
        host.witness(owned=owned)
    with pytest.raises(SipguardError, match="another sipband") if owned else contextlib.nullcontext():
        host.witness(owned=owned, group=GROUP + 1)


def test_the_capability_to_administer_the_network_is_enough(host: Host, family: int) -> None:
    with process(host, *LONE_CAPABILITY) as (running, ask):
        host.say(PEERS[family][0], challenge("n"))
        assert ask(PEERS[family][0], "n") == "True False"
        assert ask(PEERS[family][1], "n") == "False False"
        status = Path(f"/proc/{running.pid}/status").read_text()
        assert "CapEff:\t0000000000001000" in status
        assert "Uid:\t0\t" not in status


def test_without_any_capability_there_is_one_clear_line(host: Host) -> None:
    bare = [word.replace(",+net_admin", "") for word in LONE_CAPABILITY]
    argv = host.namespace.argv(*bare, sys.executable, "-Bc", _PROGRAM, "True")
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stderr == "challenges cannot be watched without CAP_NET_ADMIN\n"
    assert host.tables() == []
