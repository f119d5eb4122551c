# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc/net shows. What is made of it is a matter of the kernel: tests/integration/test_host_policy_running.py."""

from __future__ import annotations

import socket
import sys

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.openers import Connection, parse_sockets

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TAIL = "00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0\n"


def word(address: str, port: int) -> str:
    """An end as the kernel of this machine prints it: 32-bit words as numbers."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    words = [int.from_bytes(packed[place : place + 4], sys.byteorder) for place in range(0, len(packed), 4)]
    return f"{''.join(f'{number:08X}' for number in words)}:{port:04X}"


def line(ours: tuple[str, int], theirs: tuple[str, int], state: str) -> str:
    return f"   0: {word(*ours)} {word(*theirs)} {state} {TAIL}"


def end(address: str, port: int) -> tuple[bytes, int]:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address), port


def test_the_machines_own_sockets_are_read() -> None:
    """The form is the kernel's: a real listener and a real connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with open("/proc/net/tcp", encoding="ascii") as handle:
            assert port in parse_sockets(handle.read())[1]
    assert word("127.0.0.1", port).endswith(f":{port:04X}")


@pytest.mark.parametrize(("ours", "theirs"), [("192.0.2.1", "203.0.113.7"), ("2001:db8::1", "2001:db8:3::7")])
def test_established_connection(ours: str, theirs: str) -> None:
    found, listening = parse_sockets(HEAD + line((ours, 22), (theirs, 40000), "01"))
    assert found == [Connection(6 if ":" in ours else 4, end(ours, 22), end(theirs, 40000))]
    assert listening == set()


def test_ipv4_on_a_socket_for_both_families_is_ipv4() -> None:
    found, dummy = parse_sockets(HEAD + line(("::ffff:192.0.2.1", 22), ("::ffff:203.0.113.7", 40000), "01"))
    assert found == [Connection(4, end("192.0.2.1", 22), end("203.0.113.7", 40000))]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1"])
def test_the_hosts_talk_with_itself_is_left_out(address: str) -> None:
    assert parse_sockets(HEAD + line((address, 22), (address, 40000), "01")) == ([], set())


@pytest.mark.parametrize("state", ["02", "03", "04", "06", "07", "08", "0B"])
def test_other_states_are_left_out(state: str) -> None:
    assert parse_sockets(HEAD + line(("192.0.2.1", 22), ("203.0.113.7", 40000), state)) == ([], set())


def test_listening_ports() -> None:
    text = HEAD + line(("0.0.0.0", 22), ("0.0.0.0", 0), "0A") + line(("127.0.0.1", 5038), ("0.0.0.0", 0), "0A")
    assert parse_sockets(text) == ([], {22, 5038})


@pytest.mark.parametrize("text", ["", HEAD, HEAD + "\n", HEAD + "   0:\n"])
def test_nothing(text: str) -> None:
    assert parse_sockets(text) == ([], set())
