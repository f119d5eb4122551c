# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import inspection
from ansible_collections.sipguard.pbx.plugins.module_utils._host.emergency import Settings
from ansible_collections.sipguard.pbx.plugins.module_utils._host.inspection import (
    inspect,
    parse_os_release,
    unsupported,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._host.ssh import SshConnection
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import netlink
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import BOOT_SETTINGS, Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost
from tests.unit.plugins.module_utils._netfilter.samples import FIXTURES

# debian-11, -12 and -sid are the files of those systems; of the others only the lines that identify the distribution.
RELEASES = {
    "debian-11": ("debian", "11"),
    "debian-12": ("debian", "12"),
    "debian-13": ("debian", "13"),
    "debian-sid": ("debian", ""),
    "raspbian-12": ("raspbian", "12"),
    "ubuntu-22.04": ("ubuntu", "22.04"),
    "ubuntu-24.04": ("ubuntu", "24.04"),
    "debian-10": ("debian", "10"),
    "raspbian-10": ("raspbian", "10"),
    "ubuntu-20.04": ("ubuntu", "20.04"),
    "rocky-9": ("rocky", "9.4"),
    "sangoma-7": ("sangoma", "7"),
}


def release(name: str) -> dict[str, str]:
    return parse_os_release((FIXTURES / "os-release" / name).read_text(encoding="utf-8"))


def test_captured_files_are_those_of_the_table() -> None:
    assert {path.name for path in (FIXTURES / "os-release").iterdir()} == RELEASES.keys()


@pytest.mark.parametrize("name", RELEASES)
def test_parse_os_release_reads(name: str) -> None:
    found = release(name)
    assert (found["ID"], found.get("VERSION_ID", "")) == RELEASES[name]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('X="a b"', "a b"),
        ("X='a b'", "a b"),
        ("X=a", "a"),
        ("X=", ""),
        ('X="https://example.com/?a=b"', "https://example.com/?a=b"),
        ("#X=a\nX=b", "b"),
        ("nothing\nX=a", "a"),
    ],
)
def test_parse_os_release_takes_quotes_off(line: str, value: str) -> None:
    assert parse_os_release(line + "\n") == {"X": value}


SUPPORTED = ("debian-11", "debian-12", "debian-13", "debian-sid", "raspbian-12", "ubuntu-22.04", "ubuntu-24.04")


@pytest.mark.parametrize("name", RELEASES)
def test_unsupported_knows_what_can_be_managed(name: str) -> None:
    assert (unsupported(release(name)) is None) is (name in SUPPORTED)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ubuntu-20.04", "Ubuntu 20.04.6 LTS is not supported: it has to be one of debian 11/12/13, "),
        ("debian-10", "Debian GNU/Linux 10 (buster) is not supported: "),
        ("sangoma-7", "Sangoma Linux 7 are not supported: its Python 2.7, "),
        ("sangoma-7", "move the PBX to FreePBX 17"),
    ],
)
def test_unsupported_says_why(name: str, sentence: str) -> None:
    assert sentence in (unsupported(release(name)) or "")


def test_unsupported_names_a_system_that_says_nothing_of_itself() -> None:
    assert (unsupported({}) or "").startswith("this system is not supported")


@pytest.mark.parametrize(
    ("came_to", "said", "kept", "found"),
    [
        ([], "", [], ["22"]),
        ([2222], "", [], ["2222"]),
        # OpenSSH 8.4 and 10 spell it in two ways; "port" is there even where no address has it.
        ([], "port 22\nlistenaddress [::]:2222\nlistenaddress 0.0.0.0:2222\n", [], ["2222"]),
        ([], "Port 22\nListenAddress 192.0.2.1:22\nListenAddress [2001:db8::1]:2222\n", ["22"], ["22", "2222"]),
        # By sshd's command line, or by another server beside it.
        ([], "port 22\nlistenaddress 0.0.0.0:22\n", ["2222"], ["22", "2222"]),
        ([2022], "listenaddress 0.0.0.0:443\nlistenaddress 0.0.0.0:22\n", ["9"], ["22", "443", "2022"]),
        # By cron, beside another server for SSH: what an earlier run knew.
        ([], "", ["2222"], ["2222"]),
        ([], "listenaddress nonsense\n", ["2222"], ["2222"]),
    ],
)
def test_ports_of_ssh_are_known_whoever_starts_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, came_to: list[int], said: str, kept: list[str], found: list[str]
) -> None:
    monkeypatch.setattr(
        inspection, "ssh_connections", lambda: [SshConnection("192.0.2.7", 50000, port) for port in came_to]
    )
    store = Store(str(tmp_path))
    if kept:
        store.write(BOOT_SETTINGS, Settings(ssh_ports=tuple(kept)).render())
    monkeypatch.setattr(inspection, "Store", lambda: store)
    host = FakeHost(commands={"sshd"} if said else set())
    host.interfere = lambda argv, stdin: Completed(0, said, "") if argv[1:] == ["-T"] else None
    assert inspect(host).ssh_ports == found


def test_inspect_names_missing_packages_once(host: FakeHost) -> None:
    assert inspect(host).missing_packages == []
    host.commands = {"iptables"}
    assert inspect(host).missing_packages == ["ipset", "iptables"]


def test_inspect_names_missing_extensions_of_each_family(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "has_family", lambda family: True)
    monkeypatch.setattr(inspection, "_may_change_netfilter", lambda: True)
    monkeypatch.setattr(
        netlink,
        "has_extension",
        lambda name, is_target, version: (name, version) not in {("u32", 6), ("SET", 6), ("u32", 4)},
    )
    problems = [problem for problem in inspect(host).problems if "extensions" in problem]
    assert [problem.split(":")[0] for problem in problems] == [
        "this kernel lacks the ipv4 netfilter extensions u32",
        "this kernel lacks the ipv6 netfilter extensions u32, SET",
    ]


def test_what_only_keeps_it_from_coming_keeps_nobody_from_removing_it(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "has_family", lambda family: True)
    monkeypatch.setattr(inspection, "unsupported", lambda release: "an old release")
    monkeypatch.setattr(netlink, "has_extension", lambda name, is_target, version: False)
    monkeypatch.setattr(inspection, "_may_change_netfilter", lambda: True)
    assert len(inspect(host).problems) == 3
    assert inspect(host, removing=True).problems == []
    monkeypatch.setattr(inspection, "_may_change_netfilter", lambda: False)
    assert len(inspect(host, removing=True).problems) == 1


_ON_DISK = "/dev/mmcblk0p2 / ext4 rw 0 0\nproc /proc proc rw 0 0\n"
_IN_MEMORY = "overlay / overlay rw,lowerdir=/lower,upperdir=/upper/data 0 0\n"


@pytest.mark.parametrize(
    ("cmdline", "mounts", "forgets"),
    [
        ("boot=overlay console=tty1 root=PARTUUID=1-02\n", _IN_MEMORY, True),
        ("console=tty1 overlayroot=tmpfs\n", _IN_MEMORY, True),
        ("console=tty1 overlayroot=disabled\n", _ON_DISK, False),
        # a container
        ("console=tty1\n", _IN_MEMORY, False),
        ("", "", False),
    ],
)
def test_a_host_that_forgets_what_is_written_is_refused(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, cmdline: str, mounts: str, forgets: bool
) -> None:
    files = {"/proc/cmdline": cmdline, "/proc/self/mounts": mounts}
    monkeypatch.setattr(inspection, "_read", lambda path: files.get(path, ""))
    assert any("switch the overlay off" in problem for problem in inspect(host).problems) is forgets
    assert not any("overlay" in problem for problem in inspect(host, removing=True).problems)


def test_inspect_does_not_blame_a_kernel_that_cannot_be_asked(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_may_change_netfilter", lambda: True)
    monkeypatch.setattr(netlink, "has_extension", lambda name, is_target, version: None)
    assert not any("extensions" in problem for problem in inspect(host).problems)


def test_extensions_asked_for_are_those_that_rules_use() -> None:
    from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import parse_save

    rules = [
        rule
        for path in (FIXTURES / "rulesets").glob("[eor][nbe][fsj]*.v?")
        for table in parse_save(path.read_text()).tables.values()
        for chain in table.chains.values()
        for rule in chain
    ]
    assert {match.name for rule in rules for match in rule.matches} == {*inspection._MATCHES}
    targets = {rule.target for rule in rules if rule.target.isupper() and not rule.target.startswith("SIPGUARD")}
    assert targets - {"DROP", "RETURN"} == {*inspection._TARGETS}
