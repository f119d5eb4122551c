# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is, and what it lacks before sipguard can protect it. Reads only."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

from .._netfilter import netlink
from .._netfilter.backend import has_family
from .._netfilter.names import FAMILIES
from .._netfilter.persist import NETFILTER_PERSISTENT, Store, boot_loader
from .._netfilter.runner import NO_RIGHTS, Runner
from .._sip.errors import SipguardError
from .emergency import Settings
from .ssh import ssh_connections, ssh_peers

__all__ = [
    "Inspection",
    "inspect",
    "parse_os_release",
    "persistence_conflicts",
    "unsupported",
]

# Command -> Debian package that has it.
_COMMANDS = {"iptables": "iptables", "ip6tables": "iptables", "ipset": "ipset"}
_MATCHES = ("set", "string", "connmark", "mark", "multiport", "u32", "conntrack", "comment")
_TARGETS = ("SET", "CONNMARK", "MARK", "REJECT")
_RELEASES = {
    "debian": ("11", "12", "13", ""),  # testing and unstable have no VERSION_ID
    "raspbian": ("11", "12", "13"),
    "ubuntu": ("22.04", "24.04"),
}
_SSH = "22"
_UFW = "usr/sbin/ufw"
_CAP_NET_ADMIN = 12  # include/uapi/linux/capability.h


@dataclass(frozen=True)
class Inspection:
    """Findings; ``problems`` are sentences, one for each thing that has to be put right by hand."""

    platform: str
    distribution: str
    missing_packages: list[str]
    ssh_peers: list[str]
    ssh_ports: list[str]
    netfilter_persistent: bool
    boot_loader: str
    persistence_conflicts: list[str]
    problems: list[str]


def inspect(runner: Runner, removing: bool = False) -> Inspection:
    """``removing`` leaves out the problems that only keep sipguard from coming: what has come must be able to go."""
    release = parse_os_release(_read("/etc/os-release"))
    problems = []
    refusal = unsupported(release)
    if refusal and not removing:
        problems.append(refusal)
    if not _may_change_netfilter():
        problems.append(NO_RIGHTS)
    elif not removing:
        problems += _kernel_problems()
    if not removing and _forgets():
        problems.append(
            "the root file system is an overlay in memory, and nothing written to it outlives a boot: switch the overlay off "
            "(raspi-config, Performance Options), boot, run again, and switch it on again"
        )
    missing = sorted({package for command, package in _COMMANDS.items() if runner.which(command) is None})
    return Inspection(
        "freepbx" if os.path.exists("/etc/freepbx.conf") else "asterisk",
        f"{release.get('ID', 'unknown')} {release.get('VERSION_ID', '')}".strip(),
        missing,
        ssh_peers(),
        _ssh_ports(runner),
        os.path.exists(NETFILTER_PERSISTENT),
        boot_loader() or "",
        persistence_conflicts(),
        problems,
    )


def persistence_conflicts(root: str = "/") -> list[str]:
    """Why netfilter-persistent must not be installed on the host whose files are below ``root``, a sentence each."""
    if not (pathlib.Path(root) / _UFW).exists():
        return []
    return [
        "ufw is installed, and in Debian it and netfilter-persistent exclude each other: apt would remove ufw, and its rules would be "
        "gone at the next boot; persistence 'systemd' works beside ufw"
    ]


def parse_os_release(text: str) -> dict[str, str]:
    """Variables of os-release(5), quotes taken off."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def unsupported(release: Mapping[str, str]) -> str | None:
    """Why a host cannot be managed, None when it can."""
    name, version = release.get("ID", ""), release.get("VERSION_ID", "")
    if name == "sangoma":
        return (
            "FreePBX 15 and 16 on Sangoma Linux 7 are not supported: its Python 2.7, kernel 3.10 and iptables 1.4 reached their "
            "end of life in 2024; move the PBX to FreePBX 17 (Debian 12)"
        )
    if version in _RELEASES.get(name, ()):
        return None
    known = ", ".join(f"{other} {'/'.join(filter(None, versions))}" for other, versions in _RELEASES.items())
    return f"{release.get('PRETTY_NAME') or 'this system'} is not supported: it has to be one of {known}"


def _kernel_problems() -> list[str]:
    problems = []
    for family in FAMILIES:
        if not has_family(family):
            continue
        extensions = [(name, False) for name in _MATCHES] + [(name, True) for name in _TARGETS]
        absent = [name for name, target in extensions if netlink.has_extension(name, target, family.version) is False]
        if absent:
            problems.append(
                f"this kernel lacks the {family.name} netfilter extensions {', '.join(absent)}: "
                "install its extra modules (Ubuntu: linux-modules-extra), or boot a kernel that has them"
            )
    return problems


def _forgets() -> bool:
    """Whether the host was booted with an overlay over its root (raspi-config; the package overlayroot), as containers are not."""
    words = _read("/proc/cmdline").split()
    asked = "boot=overlay" in words or any(word.startswith("overlayroot=") for word in words)
    return asked and any(line.split()[1:3] == ["/", "overlay"] for line in _read("/proc/self/mounts").splitlines())


def _ssh_ports(runner: Runner) -> list[str]:
    """The ports to which Ansible's connections came, or did in an earlier run, and those that sshd is configured for.

    Who starts a run on the host itself (cron, ansible-pull) has no connection, and must not shut the port that others come to: not
    every port is in sshd's configuration (its command line, a socket of systemd, another server).
    """
    found = {connection.server_port for connection in ssh_connections()}
    if not found:
        with contextlib.suppress(SipguardError):
            found = {int(port) for port in Settings.read(Store()).ssh_ports if port.isdigit()}
    sshd = runner.which("sshd")
    if sshd is not None:
        # All of its configuration, whether said or by default (sshd(8), -T): "listenaddress [::]:22".
        for line in runner.run([sshd, "-T"]).stdout.splitlines():
            name, dummy, value = line.partition(" ")
            port = value.rpartition(":")[2]
            if name.lower() == "listenaddress" and port.isdigit():
                found.add(int(port))
    return [str(port) for port in sorted(found)] or [_SSH]


def _may_change_netfilter() -> bool:
    status = parse_os_release(_read("/proc/self/status").replace(":\t", "="))
    return bool(int(status.get("CapEff", "0"), 16) >> _CAP_NET_ADMIN & 1)


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
