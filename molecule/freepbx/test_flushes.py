# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever FreePBX's firewall flushes: the scanner is not heard, and the phone registers and calls."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.asterisk.phone import Phone

SCANNER = "friendly-scanner"
LOG = "/var/log/asterisk/firewall.log"
RUNNING, CYCLE, GONE = "Firewall is running", "Cycle done", "Rules are gone"
NUMBER, PASSWORD = "1001", "pT4v-Zq81-mWx6-Hn30"


@pytest.fixture
def follow(host: Any, eventually: Any) -> Any:
    """Run a command, and wait for what FreePBX's firewall then writes into its log."""

    def run(command: str, said: str) -> None:
        host.check_output("truncate -s 0 %s", LOG)
        host.check_output(command)
        # a rebuild may first wait for 5 s, and stop and start fail2ban
        assert any(eventually(lambda: host.run("grep -qF %s %s", said, LOG).rc == 0) for dummy in range(4)), (
            host.check_output("cat %s", LOG)
        )

    return run


@pytest.fixture(autouse=True)
def again(follow: Any) -> Iterator[None]:
    """Its rules are in force afterwards."""
    yield
    follow("fwconsole firewall restart", RUNNING)


def flush(host: Any, follow: Any, eventually: Any, how: str) -> None:
    if how == "restart":
        follow("fwconsole firewall restart", RUNNING)
    elif how == "stop":
        host.check_output("fwconsole firewall stop")
        assert eventually(lambda: host.run("iptables -w 5 -S fpbxfirewall").rc != 0)
    elif how == "reset":
        host.check_output("iptables -w 5 -I INPUT -p udp --dport 7778 -j ACCEPT")
        follow("kill -HUP $(cat /run/voipfirewalld.pid)", CYCLE)
        assert "There is an invading rule above us" in host.file(LOG).content_string
    elif how == "corrupted":
        host.check_output("iptables -w 5 -F")
        follow("kill -HUP $(cat /run/voipfirewalld.pid)", RUNNING)
    else:
        host.check_output("fwconsole firewall disable")
        follow("kill -HUP $(cat /run/voipfirewalld.pid)", GONE)
        follow("fwconsole start" if how == "disabled-start" else "fwconsole job", GONE)


@pytest.mark.parametrize("how", ["restart", "stop", "reset", "disabled-start", "disabled-job", "corrupted"])
def test_scanner_is_stopped_and_phone_is_served(
    host: Any, neighbours: Any, heard: Any, eventually: Any, udp: Any, follow: Any, how: str
) -> None:
    flush(host, follow, eventually, how)
    built = host.run("iptables -w 5 -S fpbxfirewall").rc == 0
    assert built is (how in ("restart", "reset", "corrupted"))
    for family in (4, 6):
        scanner = neighbours.caller(udp(family))
        scanner.ask(SCANNER)
        line = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        line.bind((neighbours.stranger(family), 0))
        phone = Phone(line, (neighbours.target(family), 5060), user=NUMBER, password=PASSWORD)
        try:
            assert phone.register().status == 200
            assert phone.invite("600").status == 200
            assert phone.bye().status == 200
            assert phone.register(0).status == 200
        finally:
            phone.close()
        assert scanner.silence()
        assert not heard(scanner)
    done = host.run("sipguard status")
    assert done.rc == 0, done.stdout


def own(state: Any) -> dict[str, list[str]]:
    """Our lines of a state's rules and sets."""
    texts = {name: getattr(state, name) for name in ("rules4", "rules6", "sets")}
    return {name: [line for line in text.splitlines() if "SIPGUARD" in line.upper()] for name, text in texts.items()}


@pytest.mark.parametrize("how", ["restart", "stop", "disabled-job"])
def test_flush_leaves_every_rule_and_set_of_ours(
    host: Any, state: Any, read_state: Any, follow: Any, eventually: Any, how: str
) -> None:
    ours = own(state)
    assert all(ours.values())
    flush(host, follow, eventually, how)
    assert own(read_state()) == ours
    assert host.check_output("sipguard repair") == "sipguard: nothing was missing"
