# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does when the files for its boot cannot be used: boot.json, and the rules that close it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .._netfilter import matches as m
from .._netfilter.names import CHAIN_HOST, TRUSTED, Family
from .._netfilter.options import port_lists
from .._netfilter.persist import BOOT_SETTINGS, Store
from .._netfilter.policy import Member, Policy
from .._netfilter.rule import Match, Option, Rule
from .._sip.addresses import parse_port
from .._sip.errors import OptionError, SipguardError

__all__ = ["ON_BOOT_FAILURE", "Settings", "closed"]

ON_BOOT_FAILURE = ("fail", "close")
_REMARK = "closed: the rules for the boot could not be loaded"


@dataclass(frozen=True)
class Settings:
    """boot.json: ``ports`` are those of SIP, ``host_policy`` says that the host has a policy of its own for all ports."""

    on_boot_failure: str = "fail"
    ports: tuple[str, ...] = ("5060:5061",)
    ssh_ports: tuple[str, ...] = ("22",)
    host_policy: bool = False

    @classmethod
    def read_options(
        cls, on_boot_failure: str, ports: Sequence[str], ssh_ports: Sequence[str], host_policy: bool
    ) -> Settings:
        """From a module's options; without ``ssh_ports`` their default. Raises OptionError."""
        for name, entries in (("ports", ports), ("ssh_ports", ssh_ports)):
            for entry in entries:
                parse_port(entry, name)
        if not ports:
            raise OptionError(
                "ports", list(ports), "at least one entry is needed; leave the option out for its default"
            )
        return cls(on_boot_failure, tuple(map(str, ports)), tuple(map(str, ssh_ports)) or cls.ssh_ports, host_policy)

    def render(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def known(cls, store: Store) -> Settings:
        """From the file as far as it is there and whole, else the defaults."""
        try:
            return cls.read(store)
        except SipguardError:
            return cls()

    @classmethod
    def read(cls, store: Store) -> Settings:
        """From the file. Raises SipguardError when it is missing or not as it was written."""
        text = store.read(BOOT_SETTINGS)
        if text is None:
            raise SipguardError(f"{store.directory}/{BOOT_SETTINGS} is missing")
        try:
            found = json.loads(text)
            settings = cls.read_options(
                found["on_boot_failure"], found["ports"], found["ssh_ports"], found["host_policy"] is True
            )
            if settings.render() != text or settings.on_boot_failure not in ON_BOOT_FAILURE:
                raise ValueError("it is not as it was written")
        except (KeyError, TypeError, ValueError, OptionError) as error:
            raise SipguardError(f"{store.directory}/{BOOT_SETTINGS} is damaged: {error}") from error
        return settings


def closed(settings: Settings, family: Family) -> Policy:
    """Rules under which nobody but loopback and trusted sources reaches the SIP ports; with a host policy, nobody anything but SSH.

    They stand where the host's own policy has its place, and so go when that one comes back. In mangle nothing that flushes filter
    at its own start (FreePBX) reaches them.
    """
    drop = Rule(CHAIN_HOST, (m.comment(_REMARK),), "DROP")
    trusted = m.in_set(TRUSTED + family.suffix)
    sip = [(m.protocol(protocol), m.ports(ports)) for protocol in ("udp", "tcp") for ports in _lists(settings.ports)]
    rules = [Rule(CHAIN_HOST, (), "RETURN", header=(m.interface("lo"),))]
    if settings.host_policy:
        rules += [Rule(CHAIN_HOST, (ports, trusted), "RETURN", header=(protocol,)) for protocol, ports in sip]
        # Answers to what the host itself has asked, whoever else was talking before; and errors that belong to them.
        for options in (
            (Option("--ctstate", ("ESTABLISHED",)), Option("--ctdir", ("REPLY",))),
            (Option("--ctstate", ("RELATED",)),),
        ):
            rules.append(Rule(CHAIN_HOST, (Match("conntrack", options),), "RETURN"))
        if family.version == 6:
            # Neighbours, routers and errors; and the answer of a DHCP server, which conntrack takes for no answer (RFC 8415).
            dhcp = Match("udp", (Option("--sport", ("547",)), Option("--dport", ("546",))))
            rules.append(Rule(CHAIN_HOST, (), "RETURN", header=(m.protocol("ipv6-icmp"),)))
            rules.append(Rule(CHAIN_HOST, (dhcp,), "RETURN", header=(m.source("fe80::/10"), m.protocol("udp"))))
        for ssh_ports in _lists(settings.ssh_ports):
            rules.append(Rule(CHAIN_HOST, (m.ports(ssh_ports),), "RETURN", header=(m.protocol("tcp"),)))
        rules.append(drop)
    else:
        rules.append(Rule(CHAIN_HOST, (trusted,), "RETURN"))
        for protocol, ports in sip:
            rules.append(Rule(CHAIN_HOST, (ports, *drop.matches), "DROP", header=(protocol,)))
    return Policy(family, "mangle", {CHAIN_HOST: Member(CHAIN_HOST, (), {CHAIN_HOST: tuple(rules)})})


def _lists(ports: Sequence[str]) -> list[str]:
    return port_lists(parse_port(entry, "ports") for entry in ports)
