# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FreePBX's firewall: what it is told to do, what is on the host of it, and what opens the host behind its back."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator

from ..freepbx_firewall import RULES_FILES
from ..tree import fold, is_true
from .context import Context, Section, loopback
from .finding import CRITICAL, HIGH, INFO, LOW, MEDIUM, Findings, kind
from .objects import covers_all, network
from .secrets import is_freepbx_own

__all__ = ["check"]

WRITABLE = kind(
    "freepbx-rules-writable",
    HIGH,
    "FreePBX's custom firewall rules can be written by others than root",
    "They are loaded by root: whoever writes them decides who reaches the host. FreePBX 18 refuses such a file.",
    "chown root: and chmod 0644 the files, again after each fwconsole chown, which sets 0666; or switch custom rules off where nobody "
    "needs them.",
)
TRUSTED = kind(
    "freepbx-interface-trusted",
    HIGH,
    "A network interface is in FreePBX's trusted zone",
    "Nothing that comes in there is filtered. FreePBX puts every interface there whose zone it does not know, as with netplan.",
    "Choose the zone Internet for it: Connectivity, Firewall, Interfaces.",
)
RESPONSIVE = kind(
    "freepbx-responsive-bypassed",
    HIGH,
    "A service is open to the internet, and so the responsive firewall never sees it",
    "What the zone Internet allows is accepted before the responsive firewall's turn: scanners are not counted and not blocked.",
    "Take the service out of the zone Internet: Connectivity, Firewall, Services.",
)
HOSTS = kind(
    "freepbx-hosts-trusted",
    MEDIUM,
    "Addresses in /etc/hosts are trusted",
    "With import_hosts each address there is in FreePBX's trusted zone: every port is open to it.",
    "Remove other hosts' addresses from /etc/hosts, or set import_hosts to disabled (freepbx_setting, section firewall).",
)
FLAG = kind(
    "freepbx-flag-left",
    MEDIUM,
    "FreePBX's firewall is off, and still empties everybody's rules",
    "fwconsole firewall disable leaves firewall.enabled behind: every 15 minutes a job starts the firewall, which finds that it is off and "
    "flushes the tables filter and nat.",
    "Remove /etc/asterisk/firewall.enabled, or switch the firewall on.",
)
ANONYMOUS = kind(
    "freepbx-anonymous-calls",
    MEDIUM,
    "Calls of strangers are taken for incoming ones",
    "With ALLOW_SIP_ANON=yes a caller whom no trunk and no extension knows reaches the inbound routes, and what is behind them.",
    "Set Allow Anonymous Inbound SIP Calls to No: Settings, Asterisk SIP Settings (freepbx_setting: sipsettings.allowanon).",
)
MANAGER = kind(
    "freepbx-manager-user",
    HIGH,
    "The AMI user of FreePBX's firewall may log in from other hosts",
    "The secret of the user firewall is the same on every FreePBX and can be read on the internet; its ACL alone keeps others out.",
    "Give it its ACL back, deny 0.0.0.0/0.0.0.0 and permit 127.0.0.1/255.255.255.0 (Settings, Asterisk Manager Users), and let the AMI "
    "listen on 127.0.0.1. Leave its secret: the responsive firewall logs in with it.",
)
SAFE_MODE = kind(
    "freepbx-safe-mode",
    LOW,
    "FreePBX's firewall may stay away for five minutes",
    "In safe mode, two restarts within ten minutes leave the host without that firewall until it has been up for five minutes.",
    "Set safemode to disabled where the host is in reach otherwise (freepbx_setting, section firewall).",
)
IPV6 = kind(
    "freepbx-ipv6-open",
    HIGH,
    "FreePBX's firewall filters IPv4 only",
    "The host has addresses of IPv6, and its INPUT does not lead to FreePBX's chains: whoever comes over IPv6 passes them by.",
    "Run fwconsole firewall restart once at a quiet moment; if nothing changes, see firewall.log, or set disable_ipv6.",
)
BANS = kind(
    "freepbx-bans-lost",
    HIGH,
    "fail2ban has banned addresses, and no rule stops them",
    "FreePBX has flushed the jail's rules. What it brings back are chains without bans: fail2ban believes in its bans, and bans none of "
    "these addresses again.",
    "fail2ban-client reload --restart of the jail. Bans in sets, as of the role pbx_fail2ban, survive FreePBX's flushes.",
)
NEXT = kind(
    "freepbx-18-blocked",
    INFO,
    "FreePBX 18 would not take this host's rules over",
    "Its migration to nftables stops at custom rules that it cannot translate, and keeps the old tables while others' rules are in them.",
    "Translate these rules by hand when you upgrade; take sipguard's away before (pbx_firewall_state: absent) and bring them back after.",
)

# LegacyRulesMigrator.class.php of FreePBX 18: what it knows. rejsvc- are FreePBX's own, too.
_KNOWN = ("fpbx", "zone-", "fail2ban-", "f2b-", "lefilter", "masq-", "rejsvc-")
_BUILT_IN = ("INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING")
_TARGET = re.compile(r" -[jg] (\S+)")
# What iptables-translate turns into a rule of INPUT.
_TRANSLATED = re.compile(r"(-w ?\d* )?-A INPUT ")
_UNTRANSLATED = re.compile(r"-m (string|set|u32|recent|geoip|ipp2p)\b|(^| )-t (?!filter\b)")
_SERVICES = {"pjsip": "SIP (pjsip)", "chansip": "SIP (chan_sip)", "iax": "IAX"}


def check(context: Context, findings: Findings) -> None:
    if not context.freepbx:
        return
    _files(context, findings)
    variables = context.first("extensions.conf", "globals")
    if is_true(variables.value("allow_sip_anon")):
        findings.add(ANONYMOUS, "ALLOW_SIP_ANON", variables.where("allow_sip_anon"))
    _manager(context, findings)
    host, firewall = context.host, context.host.firewall
    for interface, zone in host.interfaces():
        if zone == "trusted" and interface != "lo":
            findings.add(TRUSTED, interface, "fpbxinterfaces")
    if firewall is not None:
        if firewall.responsive and firewall.status:
            for service in sorted(firewall.managed):
                if "external" in firewall.zones.get(service, ()):
                    findings.add(RESPONSIVE, _SERVICES.get(service, service), "FreePBX: firewall, services")
        if firewall.status and firewall.on("import_hosts"):
            for address, line in _remote_hosts(context):
                findings.add(HOSTS, address, f"/etc/hosts:{line}")
        if not firewall.status and os.path.lexists(context.full("firewall.enabled")):
            findings.add(FLAG, "firewall.enabled", context.full("firewall.enabled"))
        if firewall.status and firewall.on("safemode"):
            now = os.path.lexists(context.outside("/var/run/firewalld.safemode"))
            findings.add(
                SAFE_MODE,
                "safemode",
                "FreePBX: firewall, advanced settings",
                severity=HIGH if now else "",
                detail="it stays away just now" if now else "",
            )
    if host.built(4) and 6 in host.rules and not host.built(6):
        for interface, address in host.addresses:
            if address.version == 6 and not address.is_link_local and not address.is_loopback:
                findings.add(IPV6, interface, "ip6tables, INPUT")
    for jail in host.jails:
        for version in sorted(host.rules):
            if not host.stops(version, jail):
                findings.add(BANS, jail.name, "iptables" if version == 4 else "ip6tables")
    if not host.version.startswith("18"):
        _next(context, findings)


def _manager(context: Context, findings: Findings) -> None:
    settings = context.first("manager.conf")
    if not settings.true("enabled"):
        return
    address = settings.value("bindaddr", default="0.0.0.0")
    # rules of IPv4 say nothing about addresses of IPv6, which get in where no rule is about them
    versions = (4, 6) if address.count(":") > 1 else (4,)
    for user in context.sections("manager.conf"):
        if is_freepbx_own(context, user) and not _is_local(user, versions):
            findings.add(MANAGER, user.name, user.place, severity="" if loopback(address) else CRITICAL)


def _is_local(user: Section, versions: tuple[int, ...]) -> bool:
    """Whether a user's own rules, of which the last that fits counts, let in nobody but this host."""
    shut = dict.fromkeys((4, 6), False)
    for each in user.variables:
        if fold(each.name) not in ("deny", "permit"):
            continue
        for word in each.value.split(","):
            found = network(word)
            denies = (fold(each.name) == "deny") != word.strip().startswith("!")
            if found is None:
                shut = {version: denies and was for version, was in shut.items()}
            elif denies and covers_all(found):
                shut[found.version] = True
            elif not denies and not found.is_loopback:
                shut[found.version] = False
    return all(shut[version] for version in versions)


def _files(context: Context, findings: Findings) -> None:
    firewall = context.host.firewall
    unused = firewall is not None and not firewall.on("customrules")
    for path in (*RULES_FILES, "/etc/firewall.nft"):
        found = _status(context.outside(path))
        if found is None or (not found.st_mode & 0o022 and found.st_uid == _root(context)):
            continue
        loaded = path not in RULES_FILES or not unused
        findings.add(
            WRITABLE,
            path,
            path,
            severity="" if loaded else LOW,
            detail="" if loaded else "custom rules are off, so nobody loads them now",
        )


def _root(context: Context) -> int:
    """The owner that system files have: root's, or in a tree of tests that of the tree."""
    found = _status(context.root)
    return found.st_uid if found is not None and context.root != "/" else 0


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Lines that are no comments, blanks around them taken away, with their numbers."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            for number, line in enumerate(stream, 1):
                text = line.strip()
                if text and not text.startswith(("#", ";")):
                    yield number, text
    except OSError:
        return


def _remote_hosts(context: Context) -> Iterator[tuple[str, int]]:
    """Addresses of other hosts; none where it is not known which are this one's."""
    own = {address for dummy, address in context.host.addresses}
    for number, line in _lines(context.outside("/etc/hosts")) if own else ():
        try:
            address = ipaddress.ip_address(line.split()[0])
        except ValueError:
            continue
        local = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
        if not local and address not in own:
            yield str(address), number


def _next(context: Context, findings: Findings) -> None:
    for path in RULES_FILES:
        ours = False
        for number, line in _lines(context.outside(path)):
            if "SIPGUARD" in line:
                ours = True
            elif not _TRANSLATED.match(line) or _UNTRANSLATED.search(line):
                findings.add(NEXT, f"line {number}", f"{path}:{number}", detail="custom rules")
        if ours:
            findings.add(NEXT, "the block of sipguard", path, detail="custom rules")
    for version, lines in sorted(context.host.rules.items()):
        command = "iptables" if version == 4 else "ip6tables"
        for chain in dict.fromkeys(chain for line in lines for chain in _unknown(line)):
            findings.add(NEXT, f"chain {chain}", command, detail="rules of others")


def _unknown(line: str) -> Iterator[str]:
    """The chain of a line of iptables-save that FreePBX 18 does not know; nothing for one that it knows."""
    words = line.split(" ", 2)
    if line.startswith(":"):
        name = words[0][1:]
        if name not in _BUILT_IN and not name.startswith(_KNOWN):
            yield name
    elif words[0] == "-A" and len(words) > 1 and not words[1].startswith(_KNOWN):
        target = _TARGET.search(line)
        if words[1] not in _BUILT_IN or target is None or not target[1].startswith(_KNOWN):
            yield words[1]
