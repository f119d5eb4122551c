# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Asterisk 16 and 22 really print (tests/unit/fixtures/asterisk), read into trunks, and the warnings that come of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.flows import (
    Trunk,
    cold_flows,
    parse_pjsip_aor,
    parse_pjsip_aors,
    parse_sip_peers,
    trunks,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from tests.unit.plugins.module_utils._netfilter.samples import FIXTURES

RELEASES = ("16", "22")
PJSIP = [
    Trunk("cold-trunk", "trunk.example.net", 0, "qualify_frequency"),
    Trunk("cold-trunk", "2001:db8::10", 0, "qualify_frequency"),
    Trunk("provider", "203.0.113.10", 300, "qualify_frequency"),
]
# The name of a third one is longer than the column, so how often it is asked cannot be found out.
CHAN_SIP = [Trunk("silent", "203.0.113.21", 0, "qualifyfreq"), Trunk("v6trunk", "2001:db8::21", 60, "qualifyfreq")]


class Console:
    """A host whose Asterisk prints what one of those releases did."""

    def __init__(self, release: str, installed: bool = True) -> None:
        self.release = release
        self.installed = installed

    def which(self, command: str) -> str | None:
        return f"/usr/sbin/{command}" if self.installed else None

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        path = FIXTURES / "asterisk" / f"{self.release}-{argv[2].replace(' ', '-')}.txt"
        if path.exists():
            return Completed(0, path.read_text(encoding="utf-8"), "")
        return Completed(0, f"No such command '{argv[2]}' (type 'core show help' for other possible commands)\n", "")


def printed(release: str, command: str) -> str:
    return Console(release).run(["asterisk", "-rx", command]).stdout


@pytest.mark.parametrize("release", RELEASES)
def test_aors_with_configured_contacts_are_trunks_and_phones_are_not(release: str) -> None:
    assert parse_pjsip_aors(printed(release, "pjsip show aors")) == ["cold-trunk", "provider"]
    assert parse_pjsip_aor("alice", printed(release, "pjsip show aor alice")) == []


def test_peers_with_an_address_are_trunks_and_phones_are_not() -> None:
    assert parse_sip_peers(printed("16", "sip show peers")) == [
        ("other-trunk-with-a-very-l", "203.0.113.20", True),
        ("silent", "203.0.113.21", False),
        ("v6trunk", "2001:db8::21", True),
    ]


@pytest.mark.parametrize(("release", "expected"), [("16", PJSIP + CHAN_SIP), ("22", PJSIP)])
def test_trunks_of_a_running_asterisk(release: str, expected: list[Trunk]) -> None:
    assert trunks(Console(release)) == expected


def test_trunks_without_asterisk() -> None:
    assert trunks(Console("16", installed=False)) == []


@pytest.mark.parametrize(
    "text", ["", "No such command 'sip show peers'", "Name/username Host Dyn\n", "\0\n\x1b[1mAor:"]
)
def test_anything_else_holds_no_trunk(text: str) -> None:
    assert (parse_sip_peers(text), parse_pjsip_aors(text), parse_pjsip_aor("x", text)) == ([], [], [])


@pytest.mark.parametrize(
    ("contact", "hosts"),
    [
        ("sip:203.0.113.10", ["203.0.113.10"]),
        ("SIPS:user@trunk.example.net:5061", ["trunk.example.net"]),
        ("sip:trunk.example.net;transport=udp", ["trunk.example.net"]),
        ("sip:trunk.example.net;transport=TCP", []),  # a connection, not a conversation that goes cold
        ("sip:trunk.example.net;transport=tls;lr", []),
        ("", []),
    ],
)
def test_contacts(contact: str, hosts: list[str]) -> None:
    found = parse_pjsip_aor("x", f" contact           : {contact}\n qualify_frequency : 30\n")
    assert [trunk.host for trunk in found] == hosts


@pytest.mark.parametrize(
    ("interval", "callers", "warned"),
    [
        (0, [], True),
        (300, [], True),
        (120, [], True),
        (119, [], False),
        (0, ["203.0.113.0/24"], False),
        (0, ["203.0.113.1-203.0.113.20"], False),
        (0, ["2001:db8::/32", "198.51.100.1"], True),
        (0, ["trunk.example.net"], True),
    ],
)
def test_a_cold_trunk_is_named_unless_it_may_call_anyway(interval: int, callers: list[str], warned: bool) -> None:
    found = cold_flows([Trunk("provider", "203.0.113.10", interval, "qualify_frequency")], callers, 120)
    assert len(found) == warned
    assert all("provider (203.0.113.10)" in line and "pbx_trunks" in line and "120" in line for line in found)


def test_a_trunk_known_by_name() -> None:
    trunk = Trunk("provider", "Trunk.Example.net", 0, "qualifyfreq")
    assert cold_flows([trunk], ["trunk.example.net."], 120) == []
    assert len(cold_flows([trunk], ["example.net"], 120)) == 1
