# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import backend as module
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import netlink
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.backend import detect, has_family, read_other
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4, IPV6
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import CommandError, Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost


@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_detect_takes_what_iptables_is(host: FakeHost, kind: str) -> None:
    host.backend = kind
    found = detect(host, "auto", FAMILIES)
    assert found.name == kind
    assert found.command(IPV4, "save") == f"/nowhere/iptables-{kind}-save"
    assert found.command(IPV6, "restore") == f"/nowhere/ip6tables-{kind}-restore"
    assert host.calls == ["iptables --version"]


@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_detect_takes_what_is_asked_for(host: FakeHost, kind: str) -> None:
    host.backend = "legacy" if kind == "nft" else "nft"
    assert detect(host, kind, FAMILIES).name == kind
    assert host.calls == []


def test_detect_finds_the_binary_behind_a_link(host: FakeHost, tmp_path: Path) -> None:
    """Debian's way: iptables -> /etc/alternatives/iptables -> iptables-nft -> xtables-nft-multi."""
    (tmp_path / "xtables-legacy-multi").touch()
    (tmp_path / "iptables-legacy").symlink_to("xtables-legacy-multi")
    (tmp_path / "iptables").symlink_to("iptables-legacy")
    there = host.which
    host.which = lambda command: str(tmp_path / "iptables") if command == "iptables" else there(command)  # type: ignore[method-assign]
    assert detect(host, "auto", FAMILIES).name == "legacy"
    assert host.calls == []


def test_detect_uses_plain_commands_where_they_are_of_that_backend(host: FakeHost) -> None:
    host.commands = {command for command in host.commands if "nft" not in command}
    assert detect(host, "nft", FAMILIES).command(IPV6, "save") == "/nowhere/ip6tables-save"


def test_detect_refuses_plain_commands_of_the_other_backend(host: FakeHost) -> None:
    host.commands = {command for command in host.commands if "legacy" not in command}
    with pytest.raises(SipguardError, match="iptables-save of the legacy backend is not installed"):
        detect(host, "legacy", FAMILIES)


def test_detect_refuses_a_host_without_iptables(host: FakeHost) -> None:
    host.commands = {"ipset"}
    with pytest.raises(SipguardError, match="install the package 'iptables'"):
        detect(host, "auto", FAMILIES)


def test_detect_does_not_need_commands_of_a_family_that_is_not_there(host: FakeHost) -> None:
    host.commands = {command for command in host.commands if not command.startswith("ip6")}
    assert detect(host, "auto", (IPV4,)).name == "nft"
    with pytest.raises(SipguardError, match="ip6tables-save"):
        detect(host, "auto", FAMILIES)


OTHERS = "*filter\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n"


@pytest.fixture
def legacy_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[int, Path]:
    """What the kernel says of legacy tables: none is loaded."""
    files = {4: tmp_path / "ip_tables_names", 6: tmp_path / "ip6_tables_names"}
    for file in files.values():
        file.touch()
    monkeypatch.setattr(module, "_LEGACY_TABLES", {version: str(file) for version, file in files.items()})
    return files


def test_read_other_starts_nothing_where_no_legacy_table_is_loaded(
    host: FakeHost, legacy_tables: dict[int, Path]
) -> None:
    legacy_tables[6].unlink()
    host.other_backend["iptables"].restore(OTHERS)
    assert read_other(host, detect(host, "nft", FAMILIES), FAMILIES) is None
    assert host.calls == []


def test_read_other_reads_the_families_that_use_legacy(host: FakeHost, legacy_tables: dict[int, Path]) -> None:
    legacy_tables[6].write_text("filter\n")
    host.other_backend["ip6tables"].restore(OTHERS)
    found = read_other(host, detect(host, "nft", FAMILIES), FAMILIES)
    assert found is not None
    backend, rulesets = found
    assert (backend.name, list(rulesets)) == ("legacy", [IPV6])
    assert rulesets[IPV6].table("filter").foreign == ["-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"]
    assert host.calls == ["ip6tables-legacy-save"]


@pytest.mark.parametrize(
    ("tables", "read"), [(set(), False), ({"inet_firewall"}, False), ({"filter"}, True), ({"raw", "x"}, True)]
)
def test_read_other_asks_the_kernel_for_nft_rules(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, tables: set[str], read: bool
) -> None:
    host.backend = "legacy"
    monkeypatch.setattr(netlink, "nft_rule_tables", lambda version: tables if version == 6 else set())
    found = read_other(host, detect(host, "legacy", FAMILIES), FAMILIES)
    assert host.calls == ["ip6tables-nft-save"] * read
    assert (found is not None) is read
    if found is not None:
        assert (found[0].name, list(found[1])) == ("nft", [IPV6])


def test_read_other_passes_over_a_backend_that_is_not_installed(host: FakeHost) -> None:
    host.commands = {command for command in host.commands if "legacy" not in command}
    assert read_other(host, detect(host, "nft", FAMILIES), FAMILIES) is None


def test_read_other_that_cannot_be_read_is_an_error(host: FakeHost) -> None:
    backend = detect(host, "nft", FAMILIES)
    host.interfere = lambda argv, stdin: Completed(4, "", "legacy-save: cannot be read\n")
    with pytest.raises(CommandError, match="iptables-legacy-save failed: legacy-save: cannot be read"):
        read_other(host, backend, FAMILIES)


def test_has_family_is_always_true_for_ipv4() -> None:
    assert has_family(IPV4) is True
    assert has_family(IPV6) is Path("/proc/net/if_inet6").exists()
