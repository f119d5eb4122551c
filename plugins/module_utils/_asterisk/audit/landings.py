# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where phones and trunks enter the dialplan, and the dialplan with their names in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..tree import Place, fold
from . import objects
from .context import Context, Section, tokens
from .dialplan import Dialplan, read

__all__ = ["Landings", "landings"]


@dataclass
class Landings:
    """``phones``, ``trunks`` and ``outside`` are contexts; ``outside`` are those of trunks that are not in a private network.

    ``addresses`` are the hosts of trunks, in lower case.
    """

    plan: Dialplan
    phones: dict[str, Place] = field(default_factory=dict)
    trunks: set[str] = field(default_factory=set)
    outside: dict[str, Place] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)


def landings(context: Context) -> Landings:
    if "landings" not in context.memory:
        context.memory["landings"] = _landings(context)
    made: Landings = context.memory["landings"]
    return made


def _landings(context: Context) -> Landings:
    made = Landings(read(context.tree("extensions.conf")))
    trunks: set[str] = set()
    phones: set[str] = set()
    if context.pjsip:
        _pjsip(context, made, trunks, phones)
    if context.chan_sip:
        _chan_sip(context, made, trunks, phones)
    if context.iax:
        for peer in context.sections("iax.conf"):
            host = fold(peer.value("host"))
            if fold(peer.value("type")) in ("peer", "friend") and host and host != "dynamic":
                trunks.add(peer.name)
                made.addresses.add(host)
            if fold(peer.value("type")) in ("user", "friend"):
                for variable in peer.all("context"):
                    made.phones.setdefault(variable.value, variable.place)
    made.plan.trunks, made.plan.phones = frozenset(trunks), frozenset(phones - trunks)
    made.plan.addresses = frozenset(made.addresses)
    return made


def _pjsip(context: Context, made: Landings, trunks: set[str], phones: set[str]) -> None:
    found = objects.pjsip(context)
    trunks.update(found.trunks)
    contacts: dict[str, list[str]] = {}
    for aor in found.of("aor"):
        contacts.setdefault(aor.name, []).extend(_host(each.value) for each in aor.all("contact"))
    registering = {each.value("endpoint") for each in found.of("registration")}
    for endpoint in found.of("endpoint"):
        where = endpoint.value("context", default="default")
        if endpoint.name in found.trunks:
            hosts = [host for aor in endpoint.value("aors").split(",") for host in contacts.get(aor.strip(), ())]
            hosts += [
                word
                for each in found.identifies(endpoint)
                for value in each.all("match")
                for word in tokens(value.value)
            ]
            made.trunks.add(where)
            made.addresses.update(hosts)
            own = endpoint.last("outbound_auth") or endpoint.name in registering
            if own or not (found.inbound_auths.get(endpoint.name) or _private(hosts)):
                made.outside.setdefault(where, endpoint.where("context"))
        else:
            phones.add(endpoint.name)
            if found.inbound_auths.get(endpoint.name):
                made.phones.setdefault(where, endpoint.where("context"))


def _chan_sip(context: Context, made: Landings, trunks: set[str], phones: set[str]) -> None:
    default = context.first("sip.conf").value("context", default="default")
    for peer in objects.sip_peers(context):
        where = peer.value("context", default=default)
        if objects.sip_is_trunk(peer):
            trunks.add(peer.name)
            made.trunks.add(where)
            made.addresses.add(fold(peer.value("host")))
            if _registers(peer) or not _private([peer.value("host")]):
                made.outside.setdefault(where, peer.where("context"))
        else:
            phones.add(peer.name)
            made.phones.setdefault(where, peer.where("context"))


def _registers(peer: Section) -> bool:
    return bool(peer.all("callbackextension", "remotesecret"))


def _host(uri: str) -> str:
    """The host of a SIP address, without port and parameters."""
    rest = re.sub(r"^sips?:", "", uri.strip(), flags=re.IGNORECASE).rpartition("@")[2]
    return fold(re.sub(r"[;?].*|:\d+(?=$|[;?])", "", rest))


def _private(hosts: list[str]) -> bool:
    """Whether all of the hosts are addresses of private networks: a gateway or a fixed phone, not a provider."""
    found = [objects.network(each) for each in hosts]
    return bool(found) and all(each is not None and objects.private(each) for each in found)
