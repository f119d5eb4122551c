# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import cli, repair, verbs
from ansible_collections.sipguard.pbx.plugins.module_utils._host.emergency import Settings
from ansible_collections.sipguard.pbx.plugins.module_utils._host.switch import Switch
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from tests.unit.plugins.module_utils._netfilter import samples
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(str(tmp_path / "sipguard"))
    found.write("boot.json", Settings().render())
    return found


@pytest.fixture(autouse=True)
def here(host: FakeHost, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs on the host in memory, and not under systemd."""
    monkeypatch.setattr(cli, "HostRunner", lambda: host)
    monkeypatch.setattr(cli, "Store", lambda: store)
    monkeypatch.setattr(verbs, "DIRECTORY", f"{store.directory}-data")
    for part in (cli, repair):
        monkeypatch.setattr(part, "Switch", lambda runner: Switch(runner, f"{store.directory}-switch", store.directory))
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)


@pytest.fixture
def persisted(store: Store) -> None:
    for family in FAMILIES:
        store.write(f"rules.v{family.version}", store.rules_text(samples.golden("enforce", family), "nft"))


@pytest.mark.parametrize("address", ["192.0.2", "localhost", "192.0.2.0/24", "", "192.0.2.7:5060", "192.0.2.007"])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_why_refuses_what_is_no_address(
    address: str, more: list[str], host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["why", address, *more]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"sipguard: {address!r} is not an address; 192.0.2.7 or 2001:db8::7 would be right\n")
    assert host.calls == []


@pytest.mark.parametrize("words", [["why"], ["exceptions", "remove"]])
def test_ipv4_written_as_ipv6_is_refused(words: list[str], host: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be looked for among the IPv6 addresses, and reported as not stopped."""
    assert cli.main([*words, "::ffff:203.0.113.9"]) == 2
    said = "sipguard: the kernel sees '::ffff:203.0.113.9' as IPv4; 203.0.113.9 would be right\n"
    assert capsys.readouterr() == ("", said)
    assert host.calls == []


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["why"], ["status", "extra"], ["restore", "--json"]])
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert "usage: sipguard" in capsys.readouterr().err


@pytest.mark.parametrize(("address", "status"), [("203.0.113.9", 1), ("203.0.113.10", 0)])
def test_why_answers_with_its_status(
    host: FakeHost, persisted: None, address: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["restore"]) == 0
    capsys.readouterr()
    host.sets["sipguard-offenders4"] = ("hash:ip family inet maxelem 9 timeout 1", {"203.0.113.9": " timeout 5"})
    assert cli.main(["why", address]) == status
    assert capsys.readouterr().out.startswith(f"{address}: {'STOPPED' if status else 'not stopped'}\n")
    assert cli.main(["why", "--json", address]) == status
    assert json.loads(capsys.readouterr().out)["stopped"] is bool(status)


def test_status_answers_with_its_status(persisted: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 1
    assert capsys.readouterr().out.startswith("sipguard: NOT PROTECTED")
    assert cli.main(["restore"]) == 0
    assert "sipguard: ipv6 rules loaded: " in capsys.readouterr().out
    assert cli.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["protected"] is True


@pytest.mark.parametrize("command", [["status"], ["why", "192.0.2.7"]])
@pytest.mark.parametrize(("stream", "prefix"), [("", ""), ("8:12345", "<2>")])
def test_errors_end_with_2_and_reach_the_journal(
    host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    stream: str,
    prefix: str,
) -> None:
    if stream:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    host.interfere = lambda argv, stdin: Completed(1, "", "Kernel error received: Operation not permitted\n")
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{prefix}sipguard: ")
    assert err.count("\n") == 1


def test_restore_fails_loudly(persisted: None, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.write("rules.v4", "garbage\n")
    assert cli.main(["restore"]) == 2
    out, err = capsys.readouterr()
    assert "sipguard: ipv6 rules loaded" in out
    assert err.startswith("sipguard: ipv4 is not protected: ")


def test_repair_says_what_it_did_and_fails_loudly(
    persisted: None, store: Store, host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["repair"]) == 0
    out = capsys.readouterr().out
    assert "sipguard: missing: ipv4: SIPGUARD-UA\n" in out
    assert "sipguard: ipv6 rules loaded: " in out
    assert cli.main(["repair"]) == 0
    assert capsys.readouterr() == ("sipguard: nothing was missing\n", "")
    store.write("rules.v4", "garbage\n")
    host.tables["iptables"].tables.clear()
    assert cli.main(["repair"]) == 2
    out, err = capsys.readouterr()
    assert "sipguard: missing: ipv4: every rule" in out
    assert err.startswith("sipguard: ipv4 is not protected: ")


def test_restore_of_sets_touches_no_rule(persisted: None, host: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["restore", "--sets"]) == 0
    assert "sipguard: sipguard-offenders4 created\n" in capsys.readouterr().out
    assert {"sipguard-trusted4", "sipguard-offenders6"} <= host.sets.keys()
    assert not any("tables" in call for call in host.calls)


@pytest.mark.parametrize(("stream", "prefix"), [("", ""), ("8:12345", "<4>")])
def test_watch_tells_the_journal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stream: str, prefix: str
) -> None:
    if stream:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    monkeypatch.setattr(repair, "watch", lambda runner, store, log: log(repair.WARNING, "missing were some"))
    assert cli.main(["repair", "--watch"]) == 0
    assert capsys.readouterr().err == f"{prefix}sipguard: missing were some\n"
