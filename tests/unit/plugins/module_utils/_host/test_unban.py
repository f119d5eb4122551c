# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import bans, cli, verbs
from ansible_collections.sipguard.pbx.plugins.module_utils._host.unban import unban
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.lists import Lists, NamedList
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import CommandError, Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import parse_networks
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

ADDRESS = "203.0.113.9"
LEARNED = ("offenders", "observed")


@pytest.fixture
def listed(host: FakeHost) -> FakeHost:
    """A host on which two addresses of each family are in every set that names single ones, and one is trusted."""
    for suffix, family, addresses in (
        ("4", "inet", (ADDRESS, "203.0.113.10")),
        ("6", "inet6", ("2001:db8::9", "2001:db8::10")),
    ):
        for base in LEARNED:
            made = f"hash:ip family {family} maxelem 9 timeout 1"
            host.sets[f"sipguard-{base}{suffix}"] = (made, dict.fromkeys(addresses, " timeout 5"))
        made = f"hash:net family {family} maxelem 9 timeout 1 comment"
        host.sets[f"sipguard-banned{suffix}"] = (made, dict.fromkeys(addresses, ' timeout 5000 comment "why"'))
    host.sets["sipguard-banned4"][1]["198.51.100.0/24"] = " timeout 0"
    host.sets["sipguard-trusted4"] = ("hash:net family inet maxelem 9", {"203.0.113.10": ""})
    return host


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def members(host: FakeHost) -> dict[str, list[str]]:
    return {name: sorted(entries) for name, (dummy, entries) in host.sets.items()}


@pytest.mark.parametrize(
    ("address", "learned_only", "removed"),
    [
        (ADDRESS, False, ["sipguard-banned4", "sipguard-offenders4", "sipguard-observed4"]),
        (ADDRESS, True, ["sipguard-offenders4", "sipguard-observed4"]),
        ("2001:db8::9", False, ["sipguard-banned6", "sipguard-offenders6", "sipguard-observed6"]),
        ("198.51.100.0/24", False, ["sipguard-banned4"]),
        ("203.0.113.11", False, []),
        ("::1", True, []),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_unban_takes_an_address_out_of(
    listed: FakeHost, data: str, address: str, learned_only: bool, removed: list[str], check: bool
) -> None:
    before = members(listed)
    listed.read_only = check
    networks = parse_networks(address, "address")
    done = unban(listed, networks, learned_only=learned_only, check=check, directory=data)
    assert done.removed == {address: removed}
    assert done.said == {address: f"taken out of {', '.join(removed)}" if removed else "nothing to take it out of"}
    assert members(listed) == {
        name: [entry for entry in entries if check or name not in removed or entry != address]
        for name, entries in before.items()
    }
    if not check:
        assert not unban(listed, networks, learned_only=learned_only, directory=data).changed


def test_unban_of_a_network_takes_out_what_was_learned_inside(listed: FakeHost, data: str) -> None:
    done = unban(listed, parse_networks("203.0.113.8/29", "address"), directory=data)
    assert done.removed == {"203.0.113.8/29": ["sipguard-offenders4", "sipguard-observed4"]}
    assert members(listed)["sipguard-offenders4"] == []
    # Bans are taken away as they were made.
    assert members(listed)["sipguard-banned4"] == ["198.51.100.0/24", "203.0.113.10", ADDRESS]


@pytest.mark.parametrize(
    ("network", "named"),
    [("203.0.113.0/28", True), ("203.0.113.9/32", False), ("198.18.0.0/24", False), ("192.0.2.8/29", True)],
)
def test_unban_of_a_network_says_which_lists_still_name_it(
    listed: FakeHost, data: str, network: str, named: bool
) -> None:
    Lists(f"{data}/lists").write(NamedList("voipbl").with_words(["203.0.113.0-203.0.113.3", "192.0.2.0/24"]))
    done = unban(listed, parse_networks(network, "address"), check=True, directory=data)
    assert ["still named by voipbl" in said for said in done.said.values()] == [named]


@pytest.mark.parametrize("inside", ["198.51.100.7", "198.51.100.0/25"])
def test_unban_inside_a_banned_network_names_it_and_changes_nothing(listed: FakeHost, data: str, inside: str) -> None:
    before = members(listed)
    with pytest.raises(bans.Refusal) as error:
        unban(listed, [*parse_networks(ADDRESS, "address"), *parse_networks(inside, "address")], directory=data)
    assert error.value.refused == {
        inside: f"{inside} is banned as part of 198.51.100.0/24: unban 198.51.100.0/24, or trust {inside}"
    }
    assert members(listed) == before
    assert unban(listed, parse_networks(inside, "address"), learned_only=True, directory=data).changed is False


def test_unban_on_a_host_without_sets(host: FakeHost, data: str) -> None:
    done = unban(host, parse_networks(ADDRESS, "address"), directory=data)
    assert (done.removed, done.changed) == ({ADDRESS: []}, False)


def test_unban_that_ipset_refuses_is_an_error(listed: FakeHost, data: str) -> None:
    def refuse(argv: object, stdin: str) -> Completed | None:
        return Completed(1, "", "ipset v7.17: Kernel error received: Busy\n") if stdin.startswith("del ") else None

    listed.interfere = refuse
    with pytest.raises(CommandError, match=r"ipset failed: .*Kernel error received: Busy"):
        unban(listed, parse_networks(ADDRESS, "address"), directory=data)


def test_unban_reads_the_exceptions_before_it_changes_anything(listed: FakeHost, data: str) -> None:
    Path(data).mkdir()
    (Path(data) / "exceptions").write_text("garbage\n")
    before = members(listed)
    with pytest.raises(Exception, match=r"exceptions is damaged"):
        unban(listed, parse_networks(ADDRESS, "address"), directory=data)
    assert members(listed) == before


@pytest.fixture
def command(listed: FakeHost, tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.setattr(cli, "HostRunner", lambda: listed)
    monkeypatch.setattr(cli, "Store", lambda: Store(str(tmp_path / "sipguard")))
    monkeypatch.setattr(verbs, "DIRECTORY", data)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    return listed


def test_command_takes_several_addresses(command: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["unban", "--json", ADDRESS, "2001:0DB8::0:9"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {address: len(found["removed"]) for address, found in findings.items()} == {ADDRESS: 3, "2001:db8::9": 3}
    assert cli.main(["unban", "--learned", "203.0.113.10"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "203.0.113.10: taken out of sipguard-offenders4, sipguard-observed4",
        "203.0.113.10: not stopped",
    ]
    assert members(command)["sipguard-banned4"] == ["198.51.100.0/24", "203.0.113.10"]


@pytest.mark.parametrize("wrong", ["192.0.2", "localhost", "203.0.113.1/24", "", "fe80::1%eth0", "203.0.113.9 -exist"])
@pytest.mark.parametrize("verb", ["ban", "unban"])
def test_command_changes_nothing_when_one_is_no_address(
    command: FakeHost, capsys: pytest.CaptureFixture[str], verb: str, wrong: str
) -> None:
    before = members(command)
    assert cli.main([verb, ADDRESS, wrong]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"sipguard: address: {wrong!r} cannot be used; ")
    assert members(command) == before
    assert command.calls == []
