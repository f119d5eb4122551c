# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIPGUARD-HOST: what this host offers, and to whom; everything else is stopped.

::

    SIPGUARD-HOST             the host's own: lo, answers to what it asked for -> leave
                              services for everyone -> leave (media and SIP: most packets go no further)
                              protected sources to the ports of SSH -> leave
                              DHCP, multicast membership, what a conntrack helper expects -> leave
                              services for addresses that they name themselves -> leave
                              ICMP -> SIPGUARD-HOST-ICMP, anything else -> the first word
      SIPGUARD-HOST-ICMP      what a host cannot live without -> leave; -> the first word
      SIPGUARD-HOST-LAN       a port that is offered to the lan -> SIPGUARD-HOST-LAN-S; -> the next word
      SIPGUARD-HOST-LAN-S     an address of the lan -> leave; -> the next word
      SIPGUARD-HOST-STOP      DROP or REJECT (observe: note the source, mark, return)

Every step is a goto, so RETURN always leads back to SIPGUARD: what is allowed there meets the gate, the signatures and then
other people's rules. Each word has its addresses once and its ports once, however many services it has; ports come first, so
that a stray packet walks through no list of addresses.

A conversation is asked for by the host when its first packet was the host's own. ESTABLISHED alone says nothing: whoever
got in before would stay in for as long as he keeps talking. A packet that conntrack calls invalid is nobody's answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._sip.addresses import Network, collapse, parse_networks, parse_port
from .._sip.errors import OptionError
from .._sip.services import EVERYONE, NOBODY, WORDS, Service, read_lists, read_services
from . import matches as m
from . import openers
from .names import CHAIN_HOST, Family
from .options import Common, port_lists, verdict
from .policy import Member
from .rule import Match, Option, Rule

__all__ = ["HostPolicy", "correct_openers", "member", "read_options", "warnings"]

ICMP_CHAIN = CHAIN_HOST + "-ICMP"
STOP_CHAIN = CHAIN_HOST + "-STOP"

_ECHO_REQUEST = {4: "8", 6: "128"}
# Unreachable, packet too big (IPv4: unreachable), time exceeded, parameter problem: answers that must not get lost (RFC 4890,
# section 4.3.1; RFC 792), by type and not by state, because an untracked packet may be what they are about.
_ERRORS = {4: ("3", "11", "12"), 6: ("1", "2", "3", "4")}
# Multicast listeners (130 to 132, 143), routers and neighbours (133 to 136): RFC 4890, section 4.4.1. conntrack ignores them.
_LOCAL = {4: (), 6: ("130", "131", "132", "143", "133", "134", "135", "136")}
_IGMP = "2"
# Portless protocols as rule.py has them.
_NUMBERS = {"gre": "47", "vrrp": "112"}


@dataclass(frozen=True)
class HostPolicy:
    """What sip_host_policy was asked for, in values.

    ``words`` are the addresses of each word and list by name, ``protect`` sources that always reach ``ssh_ports``.
    """

    services: Mapping[str, Service]
    words: Mapping[str, Sequence[Network]]
    protect: Sequence[Network]
    ssh_ports: Sequence[tuple[int, int]]

    def sources(self, service: Service, family: Family) -> list[Network]:
        """The addresses of one family that a service is open to, those of everyone aside."""
        found = [network for word in service.words for network in self.words.get(word, ())]
        return [network for network in (*found, *service.networks) if network.version == family.version]

    def protected(self, family: Family) -> list[Network]:
        """Of ``protect`` those that the service ssh leaves out: the others would have rules that change with whoever is connected."""
        ssh = self.services["ssh"]
        mine = [source for source in self.protect if source.version == family.version]
        if not all(ssh.offers("tcp", first, last) for first, last in self.ssh_ports):
            return mine
        if EVERYONE in ssh.words:
            return []
        admitted = self.sources(ssh, family)
        return [source for source in mine if not any(source.subnet_of(network) for network in admitted)]  # type: ignore[arg-type]

    def open_to(self, service: Service, families: Sequence[Family]) -> bool:
        """Whether anybody gets in."""
        return EVERYONE in service.words or any(self.sources(service, family) for family in families)


def read_options(options: Mapping[str, Any], common: Common) -> HostPolicy:
    """The module's own options as values. Raises OptionError."""
    words = {word: _networks(options[word], word) for word in WORDS}
    lists = read_lists(options["lists"])
    services = read_services(options["services"], options["ssh_ports"], lists)
    ssh_ports = [*services["ssh"].ports, *(parse_port(port, "ssh_ports") for port in options["ssh_ports"])]
    wanted = HostPolicy(services, {**words, **lists}, _networks(options["protect"], "protect"), ssh_ports)
    for service in services.values():
        _require_family(service, common)
    if common.present and not common.observe and options["require_ssh"]:
        _require_ssh(wanted, common)
    return wanted


def _networks(entries: Sequence[str], option: str) -> list[Network]:
    return [network for entry in entries for network in parse_networks(entry, option)]


def _require_family(service: Service, common: Common) -> None:
    versions = {family.version for family in common.families}
    for network in service.networks:
        if network.version not in versions:
            raise OptionError(
                f"services[{service.name}].from",
                str(network),
                f"families has {' and '.join(family.name for family in common.families)} only: an address of that family, "
                "or the other family as well, would be right",
            )


def _require_ssh(wanted: HostPolicy, common: Common) -> None:
    ssh = wanted.services["ssh"]
    if wanted.protect or wanted.open_to(ssh, common.families):
        return
    raise OptionError(
        "services[ssh].from",
        ssh.describe()["from"],
        "nobody could ever log in over SSH: name addresses in admins, lan or protect, or others in 'from'; or, for a host that is "
        "administered in another way, set require_ssh to false",
    )


def warnings(wanted: HostPolicy, changes: Sequence[Mapping[str, Any]], common: Common) -> list[str]:
    """Sentences for what is hardly meant: a service that the administrator names, closed to everyone by words without addresses."""
    families = " and ".join(family.name for family in common.families)
    found = []
    for name in dict.fromkeys(change["name"] for change in changes):
        service = wanted.services[name]
        if service.words != (NOBODY,) and not wanted.open_to(service, common.families):
            found.append(
                f"the service {name} is closed to everyone: it is open to {', '.join(service.words)} only, and no {families} "
                "address is named there"
            )
    if common.observe and not wanted.protect and not wanted.open_to(wanted.services["ssh"], common.families):
        found.append(
            "in enforce mode nobody could log in over SSH: no address is named for the service ssh, nor in protect"
        )
    return found


def correct_openers(wanted: HostPolicy, families: Iterable[Family]) -> list[str]:
    """Tell connection tracking who opened what is running, see openers.py; returns sentences about what could not be done."""

    def offered(port: int) -> bool:
        return any(service.offers("udp", port) for service in wanted.services.values())

    for family in families:
        try:
            openers.correct(family.version, offered)
        except OSError as error:
            return [
                f"connections of the host's own that were running before may be cut: connection tracking says {error}"
            ]
    return []


@dataclass(frozen=True)
class _Opening:
    """The traffic of one protocol that a service, or several, consist of."""

    header: tuple[Option, ...]
    matches: tuple[Match, ...] = ()

    def rule(self, chain: str, target: str, source: Network | None = None) -> Rule:
        header = self.header if source is None else (m.source(str(source)), *self.header)
        return Rule(chain, self.matches, target, header=header, goto=target != "RETURN")


def _openings(services: Sequence[Service], family: Family) -> list[_Opening]:
    """As few rules as they need: the ports of all of them together for udp and tcp, one for each other protocol."""
    found = []
    for protocol in ("udp", "tcp"):
        ranges = [ports for service in services if protocol in service.protocols for ports in service.ports]
        if ranges:
            found += [_Opening((m.protocol(protocol),), (m.ports(ports),)) for ports in port_lists(ranges)]
    others = dict.fromkeys(
        protocol for service in services for protocol in service.protocols if protocol not in ("udp", "tcp")
    )
    for protocol in others:
        if protocol == "icmp":
            found.append(_Opening((_icmp(family),), (_icmp_type(family, _ECHO_REQUEST[family.version]),)))
        else:
            found.append(_Opening((m.protocol(_NUMBERS.get(protocol, protocol)),)))
    return found


def _icmp(family: Family) -> Option:
    return m.protocol("icmp" if family.version == 4 else "ipv6-icmp")


def _icmp_type(family: Family, number: str) -> Match:
    if family.version == 4:
        return Match("icmp", (Option("--icmp-type", (number,)),))
    return Match("icmp6", (Option("--icmpv6-type", (number,)),))


def member(common: Common, wanted: HostPolicy, family: Family) -> Member:
    """The rules of one family."""
    groups = {}
    for word, networks in wanted.words.items():
        openings = _openings([service for service in wanted.services.values() if word in service.words], family)
        sources = collapse(networks, family.version, word)
        if openings and sources:
            groups[word] = (openings, sources)
    names = [f"{CHAIN_HOST}-{word.upper()}" for word in groups]
    following = dict(zip([ICMP_CHAIN, *names], [*names, STOP_CHAIN]))
    first = following[ICMP_CHAIN]
    chains = {
        CHAIN_HOST: (*_entry(wanted, family), Rule(CHAIN_HOST, (), first, goto=True)),
        ICMP_CHAIN: (*_icmp_rules(family), Rule(ICMP_CHAIN, (), first, goto=True)),
        STOP_CHAIN: tuple(_stop(common, family)),
    }
    for name, (openings, sources) in zip(names, groups.values()):
        who, after = name + "-S", following[name]
        chains[name] = (*(opening.rule(name, who) for opening in openings), Rule(name, (), after, goto=True))
        chains[who] = (
            *(Rule(who, (), "RETURN", header=(m.source(str(source)),)) for source in sources),
            Rule(who, (), after, goto=True),
        )
    return Member(CHAIN_HOST, (), chains)


def _entry(wanted: HostPolicy, family: Family) -> list[Rule]:
    back = Rule(CHAIN_HOST, (), "RETURN")
    asked = Match("conntrack", (Option("--ctstate", ("ESTABLISHED",)), Option("--ctdir", ("REPLY",))))
    expected = Match("conntrack", (Option("--ctstatus", ("EXPECTED",)),))
    rules = [replace(back, header=(m.interface("lo"),)), replace(back, matches=(asked,))]
    public = [service for service in wanted.services.values() if EVERYONE in service.words]
    rules += [opening.rule(CHAIN_HOST, "RETURN") for opening in _openings(public, family)]
    for source in collapse(wanted.protected(family), family.version, "protect"):
        for ports in port_lists(wanted.ssh_ports):
            rules.append(_Opening((m.protocol("tcp"),), (m.ports(ports),)).rule(CHAIN_HOST, "RETURN", source))
    rules.append(_dhcp(back, family))
    if family.version == 4:
        rules.append(replace(back, header=(m.protocol(_IGMP),)))
    rules.append(replace(back, matches=(expected,)))
    for service in wanted.services.values():
        for source in collapse(service.networks, family.version, f"services[{service.name}].from"):
            rules += [opening.rule(CHAIN_HOST, "RETURN", source) for opening in _openings([service], family)]
    rules.append(Rule(CHAIN_HOST, (), ICMP_CHAIN, header=(_icmp(family),), goto=True))
    return rules


def _dhcp(back: Rule, family: Family) -> Rule:
    """Answers of a DHCP server, which come from another address than the one that was asked (RFC 2131, RFC 8415)."""
    server, client = ("67", "68") if family.version == 4 else ("547", "546")
    ports = Match("udp", (Option("--sport", (server,)), Option("--dport", (client,))))
    local = () if family.version == 4 else (m.source("fe80::/10"),)
    return replace(back, matches=(ports,), header=(*local, m.protocol("udp")))


def _icmp_rules(family: Family) -> list[Rule]:
    numbers = _ERRORS[family.version] + _LOCAL[family.version]
    return [Rule(ICMP_CHAIN, (_icmp_type(family, number),), "RETURN", header=(_icmp(family),)) for number in numbers]


def _stop(common: Common, family: Family) -> list[Rule]:
    if not common.observe:
        return verdict(common, family, STOP_CHAIN)
    return [m.note(STOP_CHAIN, family), m.set_packet_mark(Rule(STOP_CHAIN), common.mask, common.mask)]
