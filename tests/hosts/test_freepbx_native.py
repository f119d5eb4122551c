# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our rules as FreePBX's custom rules: its own daemon (docs/freepbx-standin.md) flushes them and loads them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .machine import Machine
from .neighbours import Neighbours
from .site import Caller
from .test_coexistence import OPEN, WHOLE, own
from .test_freepbx_standin import RUNNING, advanced, awaits, cycle, log, rules

FILES = {4: "/etc/firewall-4.rules", 6: "/etc/firewall-6.rules"}
FOREIGN = "# an administrator's\n-A fpbxreject -p udp -m udp --dport 7777 -j DROP\n"
UA: dict[str, Any] = {"table": "filter", "learn_for": 0, "user_agents": ["evil (scanner)"]}


@pytest.fixture(scope="module")
def host() -> Iterator[Machine]:
    """FreePBX's firewall, custom rules of somebody's, and ours in table filter."""
    made = Machine("freepbxnative", "sid-asterisk22-freepbx17")
    advanced(made, "safemode", "disabled")
    for file in FILES.values():
        made.write(file, FOREIGN)
    neighbours = Neighbours(made)
    for source in (*neighbours.trusted.values(), str(made.info["controller"])):
        made.run("fwconsole", "firewall", "trust", f"{source}/{128 if ':' in source else 32}")
    awaits(made, RUNNING, "fwconsole", "firewall", "start")
    made.apply("sipguard_host", repair=False)
    made.apply("sip_trust", sources=[*neighbours.trusted.values()])
    yield made
    made.close()


@pytest.fixture(scope="module")
def neighbours(host: Machine) -> Neighbours:
    return Neighbours(host)


@pytest.fixture
def native(host: Machine) -> Iterator[Machine]:
    # FOREIGN is waiting there while custom rules are off.
    host.apply("freepbx_custom_rules", activate_others=True)
    host.apply("sip_ua_blocklist", **UA)
    yield host
    host.apply("freepbx_custom_rules", state="absent")
    host.apply("sip_ua_blocklist", table="filter", state="absent")


def forget(host: Machine) -> None:
    """The responsive firewall lets ten requests a minute through, and the neighbours have few addresses."""
    host.run("sh", "-c", "for each in /proc/net/xt_recent/*; do echo / >$each; done")


def is_whole(host: Machine, neighbours: Neighbours) -> bool:
    """What the modules say, and what is heard: a telephone logs in, a scanner is not answered."""
    forget(host)
    differs = host.apply("sip_ua_blocklist", check=True, **UA)["changed"]
    differs = differs or host.apply("freepbx_custom_rules", check=True)["changed"]
    served = all(Caller(neighbours, 203).logs_in(family) == 200 for family in (4, 6))
    return served and not differs and neighbours.hears(WHOLE, WHOLE)


def test_block_is_loaded_by_every_rebuild(native: Machine, neighbours: Neighbours) -> None:
    before = own(native)
    files = {family: native.run("cat", file) for family, file in FILES.items()}
    assert all(text.startswith(FOREIGN) or text.endswith(FOREIGN) for text in files.values())
    assert is_whole(native, neighbours)
    for command in (
        ["fwconsole", "firewall", "restart"],
        ["sh", "-c", "iptables -w 5 -F; kill -HUP $(cat /run/voipfirewalld.pid)"],
    ):
        awaits(native, RUNNING, *command)
        assert own(native) == before, log(native)
        assert "-p udp -m udp --dport 7777 -j DROP" in rules(native, "fpbxreject")
        assert is_whole(native, neighbours)
    assert {family: native.run("cat", file) for family, file in FILES.items()} == files


def test_file_that_is_not_roots_is_loaded_again(native: Machine) -> None:
    before = own(native)
    native.run("chown", "asterisk", *FILES.values())
    for options, changed in (({"check": True}, True), ({}, True), ({}, False)):
        assert native.apply("freepbx_custom_rules", activate_others=True, **options)["changed"] is changed
    assert native.run("stat", "-c", "%U %G", *FILES.values()) == "root root\n" * 2
    awaits(native, RUNNING, "fwconsole", "firewall", "restart")
    assert "not owned by root" not in log(native)
    assert own(native) == before


def test_cycle_takes_ours_for_no_invader(native: Machine, neighbours: Neighbours) -> None:
    before = own(native)
    cycle(native)
    assert "invading" not in log(native)
    assert own(native) == before
    assert rules(native, "INPUT")[0] == "-j SIPGUARD"
    assert is_whole(native, neighbours)


def test_without_it_a_rebuild_leaves_the_host_open(host: Machine, neighbours: Neighbours) -> None:
    host.apply("sip_ua_blocklist", **UA)
    awaits(host, RUNNING, "fwconsole", "firewall", "restart")
    forget(host)
    assert "SIPGUARD" not in "\n".join(rules(host, "INPUT"))
    assert neighbours.hears(OPEN, OPEN)
    host.apply("sip_ua_blocklist", table="filter", state="absent")


def test_drafts_of_others_stay_drafts(host: Machine) -> None:
    """A rebuild would shut out everybody."""
    drafts = f"{FOREIGN}-P INPUT DROP\n-I INPUT 1 -j DROP\n"
    for file in FILES.values():
        host.write(file, drafts)
    try:
        result = host.module("freepbx_custom_rules")
        assert result.get("failed"), result
        assert "3 lines of /etc/firewall-4.rules and 3 lines of /etc/firewall-6.rules" in result["msg"]
        awaits(host, RUNNING, "fwconsole", "firewall", "restart")
        assert rules(host, "INPUT")[0] != "-j DROP"
        assert {host.run("cat", file) for file in FILES.values()} == {drafts}
    finally:
        for file in FILES.values():
            host.write(file, FOREIGN)


def test_absent_leaves_what_was_there(host: Machine) -> None:
    for dummy in range(2):
        host.apply("freepbx_custom_rules", state="absent")
        assert {family: host.run("cat", file) for family, file in FILES.items()} == dict.fromkeys(FILES, FOREIGN)
