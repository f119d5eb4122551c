# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the two iptables this host uses, and whether the other one holds rules as well."""

from __future__ import annotations

import os
import pathlib
import socket
from dataclasses import dataclass

from .._sip.errors import SipguardError
from . import netlink
from .names import BLOCKED, FAMILIES, TRUSTED, WATCHED, Family
from .ruleset import HOOKS, Ruleset, parse_save
from .runner import Runner, output

__all__ = ["BACKENDS", "Backend", "Fingerprint", "detect", "has_family", "note_hiding", "read_other"]

BACKENDS = ("nft", "legacy")
_TABLES = frozenset({"filter", "mangle", "nat", "raw", "security"})
_LEGACY_TABLES = {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}
# IPT_SO_GET_INFO and IP6T_SO_GET_INFO, and the size of struct ipt_getinfo, which begins with the table's name
# (include/uapi/linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h).
_GET_INFO, _INFO_SIZE = 64, 84


@dataclass(frozen=True)
class Backend:
    """One of "nft" and "legacy", with the commands that speak to it."""

    name: str
    commands: dict[tuple[str, str], str]

    def command(self, family: Family, tool: str) -> str:
        """Absolute path of "save" or "restore" for a family."""
        return self.commands[family.binary, tool]


def _kind(runner: Runner, path: str) -> str:
    """Whether an iptables binary is "nft" or "legacy": by the multi-call binary behind it, else by what it says of itself."""
    real = os.path.basename(os.path.realpath(path))
    for name in BACKENDS:
        if name in real:
            return name
    return "nft" if "nf_tables" in runner.run([path, "--version"]).stdout else "legacy"


def detect(runner: Runner, wanted: str, families: tuple[Family, ...]) -> Backend:
    """The backend to use: ``wanted`` is "nft", "legacy" or "auto" (what the command iptables is on this host).

    Raises SipguardError when iptables, or the backend asked for, is not installed.
    """
    plain = runner.which("iptables")
    if wanted == "auto":
        if plain is None:
            raise SipguardError("iptables is not installed on this host; install the package 'iptables'")
        name = _kind(runner, plain)
    else:
        name = wanted
    commands: dict[tuple[str, str], str] = {}
    for family in families:
        for tool in ("save", "restore"):
            path = runner.which(f"{family.binary}-{name}-{tool}")
            if path is None:
                path = runner.which(f"{family.binary}-{tool}")
                if path is None or _kind(runner, path) != name:
                    raise SipguardError(
                        f"{family.binary}-{tool} of the {name} backend is not installed on this host; "
                        "install the package 'iptables', or set 'backend' to what is there"
                    )
            commands[family.binary, tool] = path
    return Backend(name, commands)


def has_family(family: Family) -> bool:
    """Whether the kernel speaks this address family at all (a kernel booted with ipv6.disable=1 does not)."""
    return family.version == 4 or os.path.exists("/proc/net/if_inet6")


def note_hiding(ruleset: Ruleset, family: Family) -> None:
    """Find out which of the tables that iptables cannot show hold chains of ours."""
    if ruleset.unreadable:
        found = netlink.nft_rule_chains(family.version)
        ruleset.hiding = [
            name for name, hook in HOOKS.items() if name in ruleset.unreadable and (name, hook.chain) in found
        ]


def read_other(
    runner: Runner, backend: Backend, families: tuple[Family, ...]
) -> tuple[Backend, dict[Family, Ruleset]] | None:
    """The backend that is not used, with its rules, when it holds any: the kernel would apply them as well.

    None when it is empty, which is found out without starting a command.
    """
    other = "nft" if backend.name == "legacy" else "legacy"
    used = tuple(family for family in families if in_use(other, family))
    if not used:
        return None
    try:
        found = detect(runner, other, used)
    except SipguardError:
        return None  # its commands are not even installed
    rulesets = {}
    for family in used:
        rulesets[family] = parse_save(output(runner, [found.command(family, "save")]))
        note_hiding(rulesets[family], family)
    return found, rulesets


def in_use(name: str, family: Family) -> bool:
    if name == "nft":
        return bool(netlink.nft_rule_tables(family.version) & _TABLES)
    return bool(_legacy_tables(family))


def _legacy_tables(family: Family) -> list[str]:
    try:
        return pathlib.Path(_LEGACY_TABLES[family.version]).read_text(encoding="ascii").split()
    except OSError:
        return []


# Sets that are filled from files, and so can be filled again.
_KEPT = (TRUSTED, BLOCKED, WATCHED)


class Fingerprint:
    """What is another one as soon as somebody has changed rules or emptied a set of ours, read without starting a command.

    A legacy table has no counter of its changes: its size and the offsets of its built-in chains have to do, which no flush leaves
    as they were.
    """

    def __init__(self) -> None:
        # Only whoever watches needs it, and it is large.
        import ctypes

        self._ctypes = ctypes
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = netlink.Watch()
        self._families = [family for family in FAMILIES if has_family(family)]
        self._sockets = {
            family: socket.socket(netlink.AF[family.version], socket.SOCK_DGRAM) for family in self._families
        }

    def read(self) -> tuple[object, ...]:
        """Values that say nothing by themselves; to be compared with those of another time."""
        return (
            self._watch.generation(),
            *(self._watch.entries(base + family.suffix) for base in _KEPT for family in self._families),
            *(self._legacy(family) for family in self._families),
        )

    def _legacy(self, family: Family) -> tuple[bytes, ...]:
        # Only tables that are there: the question would make others.
        return tuple(self._info(family, name) for name in _legacy_tables(family))

    def _info(self, family: Family, table: str) -> bytes:
        level = socket.IPPROTO_IP if family.version == 4 else socket.IPPROTO_IPV6
        data = self._ctypes.create_string_buffer(table.encode("ascii"), _INFO_SIZE)
        size = self._ctypes.c_uint32(_INFO_SIZE)
        handle = self._sockets[family].fileno()
        if self._libc.getsockopt(handle, level, _GET_INFO, data, self._ctypes.byref(size)):
            return os.strerror(self._ctypes.get_errno()).encode()
        return bytes(data.raw)
