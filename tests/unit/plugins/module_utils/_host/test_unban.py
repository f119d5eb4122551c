# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import cli
from ansible_collections.sipguard.pbx.plugins.module_utils._host.unban import unban
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import CommandError, Completed
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

ADDRESS = "203.0.113.9"
BASES = ("offenders", "banned", "observed")


@pytest.fixture
def listed(host: FakeHost) -> FakeHost:
    """A host on which two addresses of each family are in every set that names single ones, and one is trusted."""
    for suffix, family, addresses in (
        ("4", "inet", (ADDRESS, "203.0.113.10")),
        ("6", "inet6", ("2001:db8::9", "2001:db8::10")),
    ):
        for base in BASES:
            made = f"hash:ip family {family} maxelem 9 timeout 1"
            host.sets[f"sipguard-{base}{suffix}"] = (made, dict.fromkeys(addresses, " timeout 5"))
    host.sets["sipguard-trusted4"] = ("hash:net family inet maxelem 9", {"203.0.113.10": ""})
    host.sets["sipguard-blocked4"] = ("hash:net family inet maxelem 9", {"203.0.113.8/29": ""})
    return host


def members(host: FakeHost) -> dict[str, list[str]]:
    return {name: sorted(entries) for name, (dummy, entries) in host.sets.items()}


@pytest.mark.parametrize(
    ("address", "learned_only", "removed"),
    [
        (ADDRESS, False, ["sipguard-offenders4", "sipguard-banned4", "sipguard-observed4"]),
        (ADDRESS, True, ["sipguard-offenders4", "sipguard-observed4"]),
        ("2001:db8::9", False, ["sipguard-offenders6", "sipguard-banned6", "sipguard-observed6"]),
        ("203.0.113.11", False, []),
        ("::1", True, []),
    ],
)
def test_unban_takes_an_address_out_of(listed: FakeHost, address: str, learned_only: bool, removed: list[str]) -> None:
    before = members(listed)
    findings, text, status = unban(listed, [ipaddress.ip_address(address)], learned_only=learned_only)
    assert status == 0
    assert findings[address]["removed"] == removed
    assert members(listed) == {
        name: [entry for entry in entries if name not in removed or entry != address]
        for name, entries in before.items()
    }
    assert text.splitlines()[0] == f"{address}: " + (
        f"taken out of {', '.join(removed)}" if removed else "nothing to take it out of"
    )


def test_unban_says_what_still_stops_the_address(listed: FakeHost) -> None:
    findings, text, status = unban(listed, [ipaddress.ip_address(ADDRESS), ipaddress.ip_address("203.0.113.10")])
    assert status == 0
    assert (findings[ADDRESS]["stopped"], list(findings[ADDRESS]["found"])) == (True, ["sipguard-blocked"])
    assert f"{ADDRESS}: STOPPED\n  on a blocklist as 203.0.113.8/29: " in text
    # Trust is nothing that a ban could be lifted from.
    assert (findings["203.0.113.10"]["stopped"], len(findings["203.0.113.10"]["found"])) == (False, 2)


def test_unban_on_a_host_without_sets(host: FakeHost) -> None:
    findings, dummy, status = unban(host, [ipaddress.ip_address(ADDRESS)])
    assert (findings[ADDRESS]["removed"], status) == ([], 0)


def test_unban_that_ipset_refuses_is_an_error(listed: FakeHost) -> None:
    def refuse(argv: object, stdin: str) -> Completed | None:
        return Completed(1, "", "ipset v7.17: Kernel error received: Busy\n") if stdin.startswith("del ") else None

    listed.interfere = refuse
    with pytest.raises(CommandError, match=r"ipset failed: .*Kernel error received: Busy"):
        unban(listed, [ipaddress.ip_address(ADDRESS)])


@pytest.fixture
def command(listed: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.setattr(cli, "HostRunner", lambda: listed)
    monkeypatch.setattr(cli, "Store", lambda: Store(str(tmp_path / "sipguard")))
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    return listed


def test_command_takes_several_addresses(command: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["unban", "--json", ADDRESS, "2001:0DB8::0:9"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {address: len(found["removed"]) for address, found in findings.items()} == {ADDRESS: 3, "2001:db8::9": 3}
    assert cli.main(["unban", "--learned", "203.0.113.10"]) == 0
    assert capsys.readouterr().out.startswith("203.0.113.10: taken out of sipguard-offenders4, sipguard-observed4\n")
    assert members(command)["sipguard-banned4"] == ["203.0.113.10"]


@pytest.mark.parametrize("wrong", ["192.0.2", "localhost", "203.0.113.0/24", "", "fe80::1%eth0", "203.0.113.9 -exist"])
def test_command_changes_nothing_when_one_is_no_address(
    command: FakeHost, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    before = members(command)
    assert cli.main(["unban", ADDRESS, wrong]) == 2
    assert capsys.readouterr() == (
        "",
        f"sipguard: {wrong!r} is not an address; 192.0.2.7 or 2001:db8::7 would be right\n",
    )
    assert members(command) == before
    assert command.calls == []
