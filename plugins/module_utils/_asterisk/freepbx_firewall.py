# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FreePBX's firewall: what it is told to do, and what of it is on the host. Reads only.

Its module is FreePBX's `firewall`; file names here are those of its repository. What it is told is in its store
(`kvstore_FreePBX_modules_Firewall`): `status`, `responsivefw`, `advancedsettings`, zones of a service in `servicesettings` and whether
the responsive firewall manages it in `rfw`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._sip.errors import SipguardError
from .freepbx import FreePBX
from .freepbx_api import Api
from .freepbx_settings import FIREWALL_DEFAULTS
from .runner import Runner

__all__ = ["RULES_FILES", "Firewall", "Host", "Jail", "look", "read"]

# Firewall.class.php, $filesCustomRules.
RULES_FILES = ("/etc/firewall-4.rules", "/etc/firewall-6.rules")
# Services.class.php, "defzones": where a service is open as long as nobody has chosen.
_ZONES = {"pjsip": ("other", "internal"), "chansip": ("internal",), "iax": ("internal",)}

# drivers/Iptables.class.php: one rule for each interface.
_INTERFACE = re.compile(r"-A fpbxinterfaces -i (\S+)(?: .*)? -j zone-(\w+)")
_ADDRESS = re.compile(r"^\d+:\s+(\S+)\s+inet6?\s+(\S+)")
_BANNED = re.compile(r"Banned IP list:[ \t]*(.*)")
_JAILS = re.compile(r"Jail list:\s*(.*)")
_COMMANDS = {4: "iptables", 6: "ip6tables"}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TARGET = re.compile(r" -[jg] (\S+)")
_SOURCE = re.compile(r"(?<!!) -s (\S+) ")
# Sets, and lists of the match recent, which hold the addresses themselves.
_HELD = re.compile(r" --(?:match-set|name) (\S+) ")

Address = Any  # an IPv4Address or IPv6Address
Network = Any  # an IPv4Network or IPv6Network


@dataclass(frozen=True)
class Firewall:
    """What FreePBX's firewall is told to do.

    ``settings`` are its advanced settings, FreePBX's defaults filled in. ``managed`` are the services that the responsive firewall
    watches, ``zones`` is where each service is open to everybody: internal, other, external.
    """

    status: bool = False
    responsive: bool = False
    settings: Mapping[str, str] = field(default_factory=lambda: dict(FIREWALL_DEFAULTS))
    managed: frozenset[str] = frozenset()
    zones: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(_ZONES))

    def on(self, setting: str) -> bool:
        return self.settings.get(setting) == "enabled"


@dataclass(frozen=True)
class Jail:
    """A jail of fail2ban's that bans by iptables: its name, whom it has banned, and names that its chain may have."""

    name: str
    banned: tuple[Network, ...]
    chains: tuple[str, ...]


@dataclass(frozen=True)
class Host:
    """What there is on the host. None is what could not be found out.

    ``rules`` are the lines of iptables-save and ip6tables-save, by version of IP; ``addresses`` are (interface, address); ``version`` is
    FreePBX's.
    """

    firewall: Firewall | None = None
    rules: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    addresses: tuple[tuple[str, Address], ...] = ()
    jails: tuple[Jail, ...] = ()
    version: str = ""

    def interfaces(self) -> Iterable[tuple[str, str]]:
        """Interfaces and the zones that they are in, as the rules of IPv4 have it."""
        for line in self.rules.get(4, ()):
            found = _INTERFACE.match(line)
            if found:
                yield found[1], found[2]

    def built(self, version: int) -> bool:
        """Whether FreePBX's chains stand in that family's INPUT."""
        return any(line.startswith("-A INPUT ") and "-j fpbxfirewall" in line for line in self.rules.get(version, ()))

    def stops(self, version: int, jail: Jail) -> bool:
        """Whether whom the jail has banned in that family meets a rule that says so: INPUT leads there, and the rule is there.

        Below FreePBX's own jump INPUT is never reached, because its chains end with a drop. Of a set it is enough that INPUT asks it:
        FreePBX flushes rules, and no sets.
        """
        banned = [each for each in jail.banned if each.version == version]
        lists = {*jail.chains, *(f"{each}6" for each in jail.chains)}
        reached = set()
        for rule in self._chain(version, "INPUT") if banned else ():
            target, held = _TARGET.search(rule), _HELD.search(rule)
            if held and held[1] in lists:
                return True
            if target and target[1] == "fpbxfirewall":
                break
            if target and target[1] in jail.chains:
                reached.add(target[1])
        stopped = {_network(found) for chain in reached for found in self._sources(version, chain)}
        return stopped.issuperset(banned)

    def _chain(self, version: int, name: str) -> Iterator[str]:
        """The rules of a chain of table filter, in order."""
        table = "filter"
        for line in self.rules.get(version, ()):
            if line.startswith("*"):
                table = line[1:].strip()
            elif table == "filter" and line.startswith(f"-A {name} "):
                yield line

    def _sources(self, version: int, name: str) -> Iterator[str]:
        """Whom the rules of a chain are about that do not let pass."""
        for rule in self._chain(version, name):
            source, target = _SOURCE.search(rule), _TARGET.search(rule)
            if source and target and target[1] not in ("ACCEPT", "RETURN"):
                yield source[1]


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def read(freepbx: FreePBX, runner: Runner) -> Firewall | None:
    """What the firewall is told to do; None where FreePBX has no such module. Raises SipguardError when FreePBX does not answer."""
    return _firewall(Api(freepbx, runner).firewall())


def _firewall(state: Any) -> Firewall | None:
    """From what PHP has said, whatever is in the database."""
    if not isinstance(state, dict):
        return None
    stored = _dictionary(state.get("settings"))
    settings = {
        name: value if isinstance(value, str) else default
        for name, default in FIREWALL_DEFAULTS.items()
        for value in [stored.get(name)]
    }
    zones = dict(_ZONES)
    for service, found in _dictionary(state.get("zones")).items():
        if isinstance(found, list):
            zones[service] = tuple(zone for zone in found if isinstance(zone, str))
    managed = frozenset(service for service, on in _dictionary(state.get("managed")).items() if on is True)
    return Firewall(state.get("status") is True, state.get("responsive") is True, settings, managed, zones)


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def look(freepbx: FreePBX, runner: Runner) -> Host:
    """Everything that can be found out; what cannot is left out, because a host must not need it to be audited."""
    try:
        firewall = read(freepbx, runner)
    except SipguardError:
        firewall = None
    # First whom fail2ban has banned, then the rules: who is banned meanwhile must not look as if a rule were missing.
    jails = _jails(runner)
    rules = {version: _output(runner, f"{command}-save") for version, command in _COMMANDS.items()}
    return Host(
        firewall,
        {version: tuple(text.splitlines()) for version, text in rules.items() if text is not None},
        _addresses(runner),
        jails,
        freepbx.version or "",
    )


def _output(runner: Runner, command: str, *arguments: str) -> str | None:
    """What a command prints; None when it is not there, or fails."""
    path = runner.which(command)
    if path is None:
        return None
    try:
        done = runner.run([path, *arguments])
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _text(runner: Runner, command: str, *arguments: str) -> str:
    return _output(runner, command, *arguments) or ""


def _addresses(runner: Runner) -> tuple[tuple[str, Address], ...]:
    found = []
    for line in _text(runner, "ip", "-o", "addr").splitlines():
        match = _ADDRESS.match(line)
        if match:
            try:
                found.append((match[1], ipaddress.ip_interface(match[2]).ip))
            except ValueError:
                continue
    return tuple(found)


def _jails(runner: Runner) -> tuple[Jail, ...]:
    """Jails that have banned somebody by iptables. Before its first ban a jail has no chain (fail2ban: actionstart_on_demand)."""
    listed = _JAILS.search(_text(runner, "fail2ban-client", "status"))
    made = []
    for name in listed[1].split(",") if listed else ():
        name = name.strip()
        if not _NAME.fullmatch(name):
            continue
        said = _BANNED.search(_text(runner, "fail2ban-client", "status", name))
        # what a jail bans may be no address, such as the name of a user
        banned = tuple(found for found in map(_network, said[1].split() if said else ()) if found is not None)
        if not banned:
            continue
        for action in _text(runner, "fail2ban-client", "get", name, "actions").strip().split("\n")[-1].split(","):
            action = action.strip()
            if action.startswith("iptables") and _NAME.fullmatch(action):
                chain = _text(runner, "fail2ban-client", "get", name, "action", action, "name").strip() or name
                # Sangoma's actions and fail2ban's own.
                made.append(Jail(name, banned, (f"fail2ban-{chain}", f"f2b-{chain}")))
    return tuple(made)
