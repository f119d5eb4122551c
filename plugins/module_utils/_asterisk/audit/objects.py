# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoints, peers and users of a configuration, pjsip_wizard.conf's among them, and who of them is a trunk or a phone."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Union

from ..tree import Place, Variable, fold
from .context import Context, Section, tokens

__all__ = [
    "Pjsip",
    "covers_all",
    "network",
    "networks",
    "pjsip",
    "private",
    "restricted",
    "sip_is_open",
    "sip_is_trunk",
    "sip_peers",
]

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

_PRIVATE = tuple(
    ipaddress.ip_network(each)
    for each in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)

_TYPES = (
    "global",
    "system",
    "transport",
    "endpoint",
    "aor",
    "auth",
    "acl",
    "identify",
    "registration",
    "domain_alias",
    "contact",
    "resource_list",
    "inbound-publication",
    "outbound-publish",
    "asterisk-publication",
    "phoneprov",
)


@dataclass
class Pjsip:
    """Objects by type, then in the order of the files; ``unknown`` are sections whose type is none."""

    objects: dict[str, list[Section]] = field(default_factory=dict)
    unknown: list[Section] = field(default_factory=list)
    wizards: list[Section] = field(default_factory=list)
    trunks: dict[str, Section] = field(default_factory=dict)
    inbound_auths: dict[str, list[Section]] = field(default_factory=dict)
    _identified: dict[str, list[Section]] = field(default_factory=dict)

    def of(self, kind: str) -> list[Section]:
        return self.objects.get(kind, [])

    def identifies(self, endpoint: Section) -> list[Section]:
        """The identify objects that lead to an endpoint."""
        return self._identified.get(endpoint.name, [])

    def phones(self) -> list[Section]:
        """The endpoints that are no trunks."""
        return [each for each in self.of("endpoint") if each.name not in self.trunks]

    def option(self, kind: str, name: str, default: str) -> tuple[str, Place]:
        """A value of the only object of its type (global, system), and where it is set or would be."""
        for each in reversed(self.of(kind)):
            return each.value(name, default=default), each.where(name)
        return default, Place("pjsip.conf", 1)


def pjsip(context: Context) -> Pjsip:
    """What pjsip.conf and pjsip_wizard.conf make together."""
    if "pjsip" not in context.memory:
        context.memory["pjsip"] = _pjsip(context)
    made: Pjsip = context.memory["pjsip"]
    return made


def _pjsip(context: Context) -> Pjsip:
    made = Pjsip()
    for section in context.sections("pjsip.conf"):
        kind = section.value("type", default=fold(section.name) if fold(section.name) in ("global", "system") else "")
        if kind in _TYPES:
            made.objects.setdefault(kind, []).append(section)
        elif kind:
            made.unknown.append(section)
    for section in context.sections("pjsip_wizard.conf"):
        if section.value("type") == "wizard":
            made.wizards.append(section)
            for kind, each in _wizard(section):
                made.objects.setdefault(kind, []).append(each)
    for each in made.of("identify"):
        for variable in each.all("endpoint"):
            made._identified.setdefault(variable.value, []).append(each)
    _sort_out(made)
    return made


def _wizard(section: Section) -> list[tuple[str, Section]]:
    """The objects that a section of pjsip_wizard.conf stands for (Asterisk, res_pjsip_config_wizard)."""

    def part(kind: str, name: str, *more: tuple[str, str]) -> tuple[str, Section]:
        chosen = [Variable(option, value, section.place) for option, value in more]
        prefix = kind + "/"
        for option, variables in section.options.items():
            if option.startswith(prefix):
                chosen += [Variable(option[len(prefix) :], each.value, each.place) for each in variables]
        return kind.replace("inbound_auth", "auth").replace("outbound_auth", "auth"), Section(
            name, section.place, chosen
        )

    name = section.name
    endpoint = [("aors", name)]
    made = []
    if section.true("accepts_auth"):
        endpoint.append(("auth", f"{name}-iauth"))
        made.append(part("inbound_auth", f"{name}-iauth"))
    if section.true("sends_auth"):
        endpoint.append(("outbound_auth", f"{name}-oauth"))
        made.append(part("outbound_auth", f"{name}-oauth"))
    hosts = [word for each in section.all("remote_hosts") for word in tokens(each.value)]
    accepts = section.true("accepts_registrations")
    if hosts and not accepts:
        made.append(part("identify", f"{name}-identify", ("endpoint", name), *(("match", host) for host in hosts)))
    made.append(part("aor", name, *(("contact", f"sip:{host}") for host in hosts)))
    if section.true("sends_registrations"):
        made.append(part("registration", f"{name}-reg", ("endpoint", name)))
    made.append(part("endpoint", name, *endpoint))
    return made


def _sort_out(made: Pjsip) -> None:
    auths: dict[str, list[Section]] = {}
    for each in made.of("auth"):
        auths.setdefault(each.name, []).append(each)
    fixed = {each.name for each in made.of("aor") if each.last("contact")}
    registering = {each.value("endpoint") for each in made.of("registration")}
    for each in made.of("endpoint"):
        named = [auth for variable in each.all("auth") for auth in variable.value.split(",")]
        for name in named:
            for auth in auths.get(name.strip(), ()):
                made.inbound_auths.setdefault(each.name, []).append(auth)
        aors = {name.strip() for variable in each.all("aors") for name in variable.value.split(",")}
        if (
            each.last("outbound_auth")
            or each.name in registering
            or aors & fixed
            or (not named and made.identifies(each))
        ):
            made.trunks[each.name] = each


def sip_peers(context: Context) -> list[Section]:
    """The peers, users and friends of sip.conf."""
    return [each for each in context.sections("sip.conf") if _sip_type(each) and fold(each.name) != "general"]


def _sip_type(section: Section) -> str:
    # type= is read with "first wins", unlike every other option
    found = section.options.get("type")
    kind = fold(found[0].value) if found else ""
    return kind if kind in ("peer", "user", "friend") else ""


def sip_is_open(peer: Section) -> bool:
    """Whether requests from any address may be taken for this peer's: by its name, or after it has registered."""
    return _sip_type(peer) in ("user", "friend") or fold(peer.value("host")) == "dynamic"


def sip_is_trunk(peer: Section) -> bool:
    host = fold(peer.value("host"))
    return bool(host) and host != "dynamic" and _sip_type(peer) != "user"


@lru_cache(maxsize=65536)
def network(text: str) -> Network | None:
    """An address or network as Asterisk's access lists write it, with the length or the mask behind the slash."""
    text = text.strip().removeprefix("!")
    address, slash, mask = text.partition("/")
    address = address.strip("[]")
    try:
        return ipaddress.ip_network(f"{address}/{mask}" if slash else address, strict=False)
    except ValueError:
        return None


def networks(values: list[Variable]) -> list[tuple[Network, Variable]]:
    """The networks of a comma list in any of the values; names are left out."""
    made = []
    for each in values:
        for word in each.value.split(","):
            found = network(word)
            if found is not None:
                made.append((found, each))
    return made


def private(found: Network) -> bool:
    """Whether a network is nobody's on the internet: RFC 1918, RFC 4193 and the like."""
    return any(found.version == each.version and found.subnet_of(each) for each in _PRIVATE)  # type: ignore[arg-type]


def covers_all(found: Network) -> bool:
    return found.prefixlen == 0


def restricted(section: Section) -> bool:
    """Whether an access list of its own keeps strangers' addresses out."""
    if section.last("acl"):
        return True
    rules = [
        (variable.place.line, name, found)
        for name in ("deny", "permit")
        for found, variable in networks(section.all(name))
    ]
    return any(name == "deny" and covers_all(found) for dummy, name, found in rules)
