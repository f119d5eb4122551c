# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may talk to the PBX without saying a secret."""

from __future__ import annotations

from collections.abc import Iterator

from ..tree import Place, fold
from . import objects
from .context import Context, Section, tokens
from .dialplan import YES
from .finding import CRITICAL, HIGH, LOW, MEDIUM, Findings, kind
from .landings import landings

__all__ = ["check", "contexts"]

GUESTS = kind(
    "guest-access",
    HIGH,
    "Guests may call",
    "allowguest is on unless it is turned off: an INVITE of anybody enters the context of strangers, and tells them by the answer "
    "which extensions there are.",
    "Set allowguest=no in [general] of sip.conf.",
)
ENUMERATION = kind(
    "username-enumeration",
    HIGH,
    "Strangers can find out which names exist",
    "With alwaysauthreject=no the answer to a wrong name differs from that to a wrong secret, so only secrets are left to guess.",
    "Set alwaysauthreject=yes in [general] of sip.conf.",
)
AUTOCREATE = kind(
    "autocreate-peer",
    CRITICAL,
    "Anybody may register under any name",
    "autocreatepeer makes a peer of everybody who registers, without a secret.",
    "Set autocreatepeer=no in [general] of sip.conf.",
)
INSECURE = kind(
    "insecure-peer",
    HIGH,
    "A peer without a fixed address is not asked for its secret",
    "insecure=invite takes every INVITE that names the peer; only a fixed host tells then who is allowed to.",
    "Remove insecure, or give the peer type=peer and a fixed host.",
)
INSECURE_ALL = kind(
    "insecure-for-all",
    HIGH,
    "Peers are not asked for their secret, because [general] says so",
    "insecure=invite in [general] holds for every peer without a line of its own: a From header with the peer's name, from any address, "
    "is enough to call as it.",
    "Remove insecure from [general]; write it in the peers of providers alone, with type=peer and a fixed host.",
)
NO_SECRET = kind(
    "peer-without-secret",
    HIGH,
    "A peer has no secret, and no address of its own",
    "Whoever uses the name is taken for this peer.",
    "Give it a secret, or type=peer with a fixed host.",
)
ANONYMOUS = kind(
    "anonymous-endpoint",
    HIGH,
    "An endpoint for everybody",
    "An endpoint named anonymous, or anonymous@domain, takes every request that nobody else owns. Leaving anonymous out of "
    "endpoint_identifier_order does not turn that off: identifiers that are not named there are asked last.",
    "Remove the endpoint, or noload res_pjsip_endpoint_identifier_anonymous.so.",
)
IDENTIFY = kind(
    "identify-wide",
    CRITICAL,
    "An endpoint without auth is matched by nearly any address",
    "Everything from these addresses is taken for the endpoint's, and nobody is asked for a secret.",
    "Name the addresses of the provider in match=, or give the endpoint an auth=.",
)
UNAUTHENTICATED = kind(
    "endpoint-without-auth",
    HIGH,
    "An endpoint without auth is found by its name",
    "identify_by is username,ip unless it is set: a From header with the endpoint's name, from any address, is enough to call as it.",
    "Set identify_by=ip where an identify names the addresses; give every other endpoint an auth=.",
)
OPTIONS = kind(
    "options-unauthenticated",
    MEDIUM,
    "OPTIONS of strangers tell which endpoints exist",
    "allow_unauthenticated_options answers for names that exist and not for others.",
    "Remove allow_unauthenticated_options.",
)
SIP_OPTIONS = kind(
    "options-answered",
    LOW,
    "OPTIONS of strangers are answered",
    "Every scanner begins with an OPTIONS; an answer tells it that a PBX is here, and which extensions are.",
    "Set auth_options_requests=yes in [general] of sip.conf, or drop strangers in the firewall.",
)
IAX = kind(
    "iax-without-secret",
    HIGH,
    "An IAX user without a secret",
    "A call that names no user gets the first one without a secret; the sample configuration has such a user.",
    "Remove the user, or give it a secret or auth=rsa with inkeys.",
)
CALL_TOKEN = kind(
    "iax-call-token",
    MEDIUM,
    "IAX without call tokens",
    "The token proves that an address is real. Without it, forged addresses use up the numbers of calls.",
    "Set requirecalltoken=yes, and keep calltokenoptional to single addresses of old peers.",
)

# wider than this nobody can say who it is
_WIDE = {4: 12, 6: 24}


def check(context: Context, findings: Findings) -> None:
    if context.chan_sip:
        _chan_sip(context, findings)
    if context.pjsip:
        _pjsip(objects.pjsip(context), context, findings)
    if context.iax:
        _iax(context, findings)


def contexts(context: Context) -> Iterator[tuple[str, str, Place]]:
    """The dialplan contexts in which guests land: context, who they are, where that is said."""
    if context.chan_sip:
        general = context.first("sip.conf")
        landing = general.value("context", default="default")
        if general.true("allowguest", True) or fold(general.value("autocreatepeer")) == "persist":
            yield landing, "guests of chan_sip", general.where("context")
        elif general.true("autocreatepeer"):
            yield landing, "peers that create themselves", general.where("context")
        for peer in objects.sip_peers(context):
            if _blank(peer) or _insecure(peer) or _inherits(general, peer):
                yield peer.value("context", default=landing), "a peer without a secret", peer.where("context")
    if context.pjsip:
        made = objects.pjsip(context)
        for endpoint in made.of("endpoint"):
            if _anonymous(endpoint, context) or _by_name(endpoint) or _wide(made, endpoint):
                yield (
                    endpoint.value("context", default="default"),
                    "an endpoint without auth",
                    endpoint.where("context"),
                )
    if context.iax:
        for user in _iax_guests(context):
            for variable in user.all("context"):
                yield variable.value, "an IAX user without a secret", variable.place


def _blank(peer: Section) -> bool:
    return (
        objects.sip_is_open(peer)
        and not peer.value("secret")
        and not peer.value("md5secret")
        and not objects.restricted(peer)
    )


def _insecure(peer: Section) -> bool:
    words = tokens(peer.value("insecure"))
    return "invite" in words and objects.sip_is_open(peer) and not objects.restricted(peer)


def _inherits(general: Section, peer: Section) -> bool:
    """Whether [general] says that a peer is not asked for its secret. Any line of its own counts instead, insecure=no too.

    chan_sip takes no blanks away between the words, and knows very and yes no longer.
    """
    return (
        "invite" in fold(general.value("insecure")).split(",")
        and not peer.last("insecure")
        and objects.sip_is_open(peer)
        and not objects.restricted(peer)
    )


def _insecure_all(context: Context, general: Section, findings: Findings) -> None:
    peers = [peer for peer in objects.sip_peers(context) if _inherits(general, peer)]
    default = general.value("context", default="default")
    plan = landings(context).plan
    worst = any(
        fold(peer.value("host")) == "dynamic"
        or any(each.guard != YES for each in plan.outs(peer.value("context", default=default)))
        for peer in peers
    )
    for peer in peers:
        findings.add(INSECURE_ALL, peer.name, general.where("insecure"), severity=CRITICAL if worst else HIGH)


def _chan_sip(context: Context, findings: Findings) -> None:
    general = context.first("sip.conf")
    _insecure_all(context, general, findings)
    if general.true("allowguest", True):
        findings.add(GUESTS, "chan_sip", general.where("allowguest"))
    if not general.true("alwaysauthreject", True):
        findings.add(ENUMERATION, "chan_sip", general.where("alwaysauthreject"))
    if general.true("autocreatepeer") or fold(general.value("autocreatepeer")) == "persist":
        findings.add(AUTOCREATE, "chan_sip", general.where("autocreatepeer"))
    # only yes has an effect, and a later no does not take it back
    if not any(fold(each.value) == "yes" for each in general.all("auth_options_requests")):
        findings.add(SIP_OPTIONS, "chan_sip", general.where("auth_options_requests"))
    for peer in objects.sip_peers(context):
        if _blank(peer):
            findings.add(NO_SECRET, peer.name, peer.where("secret"))
        elif _insecure(peer):
            findings.add(INSECURE, peer.name, peer.where("insecure"))


def _anonymous(endpoint: Section, context: Context) -> bool:
    name = fold(endpoint.name)
    return (
        (name == "anonymous" or name.startswith("anonymous@"))
        and not endpoint.value("auth")
        and context.loads("res_pjsip_endpoint_identifier_anonymous")
    )


def _by_name(endpoint: Section) -> bool:
    if endpoint.value("auth") or fold(endpoint.name).partition("@")[0] == "anonymous":
        return False
    return bool({"username", "auth_username"} & set(tokens(endpoint.value("identify_by", default="username,ip")))) and (
        not objects.restricted(endpoint)
    )


def _wide(made: objects.Pjsip, endpoint: Section) -> list[tuple[Section, Place, bool]]:
    """The identify objects that match too much for an endpoint that nobody asks for a secret: identify, place, whether all."""
    if endpoint.value("auth") or objects.restricted(endpoint):
        return []
    return [
        (identify, variable.place, objects.covers_all(found))
        for identify in made.identifies(endpoint)
        for found, variable in objects.networks(identify.all("match"))
        if found.prefixlen <= _WIDE[found.version] and not objects.private(found)
    ]


def _pjsip(made: objects.Pjsip, context: Context, findings: Findings) -> None:
    sealed = any(objects.restricted(each) for each in made.of("acl"))
    for endpoint in made.of("endpoint"):
        if _anonymous(endpoint, context):
            findings.add(ANONYMOUS, endpoint.name, endpoint.place)
        elif _by_name(endpoint):
            findings.add(
                UNAUTHENTICATED,
                endpoint.name,
                endpoint.where("identify_by"),
                severity=LOW if sealed else "",
                detail="an acl object of the whole server limits who can" if sealed else "",
            )
        for identify, place, every in _wide(made, endpoint):
            findings.add(IDENTIFY, identify.name, place, severity=CRITICAL if every else HIGH)
        if endpoint.true("allow_unauthenticated_options"):
            findings.add(OPTIONS, endpoint.name, endpoint.where("allow_unauthenticated_options"))


def _iax_users(context: Context) -> list[Section]:
    return [each for each in context.sections("iax.conf") if fold(each.value("type")) in ("user", "peer", "friend")]


def _iax_guests(context: Context) -> list[Section]:
    return [
        each
        for each in _iax_users(context)
        if fold(each.value("type")) in ("user", "friend")
        and not each.value("secret", "dbsecret")
        and not ("rsa" in tokens(each.value("auth")) and each.value("inkeys"))
        and not objects.restricted(each)
    ]


def _iax(context: Context, findings: Findings) -> None:
    for each in _iax_guests(context):
        findings.add(IAX, each.name, each.place)
    general = context.first("iax.conf")
    for variable in general.all("calltokenoptional"):
        if any(objects.covers_all(found) for found, dummy in objects.networks([variable])):
            findings.add(CALL_TOKEN, "calltokenoptional", variable.place)
    for each in _iax_users(context):
        if fold(each.value("requirecalltoken")) == "no":
            findings.add(CALL_TOKEN, each.name, each.where("requirecalltoken"))
