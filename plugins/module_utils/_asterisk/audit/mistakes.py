# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that do not mean what they seem to, and Asterisk's silence about them."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

from ..options import SCOPES, known, option
from ..options import anywhere as known_anywhere
from ..tree import Place, Tree, fold
from . import objects
from .context import Context, Section, is_boolean
from .finding import HIGH, LOW, MEDIUM, Findings, kind

__all__ = ["check", "check_files"]

SPACE = kind(
    "list-with-space",
    MEDIUM,
    "A blank in a list that may have none",
    "chan_sip does not take blanks away between the words of nat, directmedia and insecure: in nat=force_rport, comedia the second word "
    "is lost without a sound.",
    "Write the list without blanks: nat=force_rport,comedia.",
)
NAT = kind(
    "nat-yes",
    LOW,
    "nat=yes is an old word",
    "It is deprecated, and means force_rport and comedia at once.",
    "Write nat=force_rport,comedia.",
)
QUALIFY = kind(
    "qualify-word",
    MEDIUM,
    "qualify takes yes, no or milliseconds only",
    "Every other word, true and on among them, turns it off.",
    "Write qualify=yes or a number.",
)
BOOLEAN = kind(
    "boolean-word",
    MEDIUM,
    "A word that is neither yes nor no",
    "Every word that is not yes, true, y, t, 1 or on means no, without a warning.",
    "Write yes or no.",
)
TYPE = kind(
    "unknown-type",
    HIGH,
    "A PJSIP section of a type that does not exist",
    "type= is compared in lower case only: type=Endpoint is overlooked, and the endpoint is not there.",
    "Write the type as the documentation does: type=endpoint.",
)
HEADER = kind(
    "section-space",
    HIGH,
    "A blank between ] and (",
    "Asterisk overlooks the parentheses then: what the section should inherit is missing, or the template is an object.",
    "Put the parenthesis right behind the bracket.",
)
SECOND = kind(
    "second-general",
    MEDIUM,
    "A second [general]",
    "Asterisk reads the first one only; every line below the second has no effect.",
    "Put the lines into the first, or write (+) right behind the bracket of the second.",
)
UNKNOWN = kind(
    "unknown-option",
    HIGH,
    "An option that PJSIP does not know",
    "One unknown option and Asterisk drops the whole object; in [global] every setting falls back to its default.",
    "Correct or remove the option.",
)
DUPLICATE = kind(
    "duplicate-object",
    HIGH,
    "Two PJSIP objects of the same name and type",
    "Asterisk then loads no object of that type at all after a restart, and keeps the old ones on a reload.",
    "Remove one, or move its lines into the other.",
)
MISSING = kind(
    "missing-object",
    MEDIUM,
    "An endpoint names an auth or an AOR that does not exist",
    "Without the auth nobody is let in as the endpoint, without the AOR it cannot register or be called; Asterisk says so only when it is "
    "too late.",
    "Correct the name in auth= or aors=, or write the object.",
)
ORDER = kind(
    "acl-order",
    MEDIUM,
    "permit and deny that do not restrict",
    "The last line that matches decides, and what none matches is let in. permit alone restricts nobody; a deny of everything behind the "
    "permit shuts out everybody.",
    "Write deny=0.0.0.0/0.0.0.0 first, permit= behind it.",
)
MISSPELT = kind(
    "misspelt-option",
    MEDIUM,
    "An option of chan_sip that does not exist",
    "chan_sip overlooks it without a word, so what it should protect is open.",
    "Correct the name.",
)
VERY = kind(
    "insecure-very",
    MEDIUM,
    "insecure=very and yes are no longer known",
    "They went with Asterisk 1.6: the line has no effect but a warning, and calls of that peer are refused or asked for a secret.",
    "Write insecure=port,invite, for a peer with a fixed host only.",
)
REFUSED = kind(
    "file-refused",
    HIGH,
    "A file that Asterisk refuses as a whole",
    "A reload keeps the old configuration and says so in the log only. After the next restart the module is not there.",
    "Correct the line, reload, and look into the log.",
)
IGNORED = kind(
    "line-ignored",
    LOW,
    "A line that Asterisk does not take as it stands",
    "It has no effect, or one that cannot be told from the file.",
    "Correct or remove the line.",
)

_NEWEST = (23, 0)
_PJSIP_SCOPES = SCOPES["pjsip"]
_LISTS = ("nat", "directmedia", "canreinvite", "insecure")
# Options whose loss opens something; those that look like them and are none are reported.
_PROTECTING = (
    "allowguest",
    "alwaysauthreject",
    "autocreatepeer",
    "allowtransfer",
    "allowoverlap",
    "allowsubscribe",
    "contactdeny",
    "contactpermit",
    "contactacl",
    "deny",
    "permit",
    "secret",
    "md5secret",
    "insecure",
    "auth_options_requests",
    "auth_message_requests",
    "tlsdontverifyserver",
    "call-limit",
)
_SIP_BOOLEANS = (
    "allowguest",
    "alwaysauthreject",
    "allowtransfer",
    "allowsubscribe",
    "allowexternaldomains",
    "autodomain",
    "auth_options_requests",
    "auth_message_requests",
    "accept_outofcall_message",
    "match_auth_username",
    "promiscredir",
    "tlsenable",
    "tlsdontverifyserver",
    "tcpenable",
    "websocket_enabled",
    "authfailureevents",
)
_SPACED = re.compile(rb"^\s*\[[^\];]*\]\s+\([^;)]*\)")
_GENERAL_FILES = ("sip.conf", "iax.conf", "manager.conf", "http.conf", "rtp.conf", "ari.conf", "voicemail.conf")


def check(context: Context, findings: Findings) -> None:
    if context.chan_sip:
        _chan_sip(context, findings)
    if context.pjsip:
        _pjsip(context, findings)
    for name in _GENERAL_FILES:
        for each in context.tree(name).named("general")[1:]:
            findings.add(SECOND, name, each.place)


def check_files(context: Context, findings: Findings) -> None:
    """What is wrong with files as such: of every configuration that has been looked at by now."""
    for tree in context.trees:
        for problem in tree.problems:
            findings.add(REFUSED if problem.fatal else IGNORED, tree.name, problem.place, detail=problem.text)
        for category in tree.categories:
            for place in category.parts:
                if _is_spaced(tree, place):
                    findings.add(HEADER, category.name, place)


def _is_spaced(tree: Tree, place: Place) -> bool:
    document = tree.files.get(place.file)
    lines = document.lines if document else []
    return 0 < place.line <= len(lines) and _SPACED.match(lines[place.line - 1]) is not None


def _chan_sip(context: Context, findings: Findings) -> None:
    for section in context.sections("sip.conf"):
        name = section.name
        general = fold(name) == "general"
        peer = bool(section.options.get("type"))
        if not general and not peer:
            continue
        for option_name, variables in section.options.items():
            if _misspelt(option_name):
                findings.add(MISSPELT, f"{name}, {option_name}", variables[-1].place)
        for each in section.all(*_LISTS):
            if re.search(r",\s+\S", each.value):
                findings.add(SPACE, f"{name}, {each.name}", each.place)
        if fold(section.value("nat")) == "yes":
            findings.add(NAT, name, section.where("nat"))
        if {fold(word.strip()) for word in section.value("insecure").split(",")} & {"very", "yes", "true", "1"}:
            findings.add(VERY, name, section.where("insecure"))
        qualify = section.last("qualify")
        if qualify is not None and not (fold(qualify.value) in ("yes", "no") or qualify.value.isdigit()):
            findings.add(QUALIFY, name, qualify.place)
        for option_name in _SIP_BOOLEANS:
            _boolean(section, option_name, findings)
        _order(section, ("deny", "permit"), findings)
        _order(section, ("contactdeny", "contactpermit"), findings)


@lru_cache(maxsize=4096)
def _misspelt(name: str) -> bool:
    if known_anywhere(name, "chan_sip", ("general", "peer")):
        return False
    return bool(difflib.get_close_matches(name.replace("_", ""), _PROTECTING, 1, 0.86))


@lru_cache(maxsize=4096)
def _option(name: str) -> str:
    """The name if it is one, or nearly. Anything else may be a secret whose line has been broken."""
    names = {each for scope in _PJSIP_SCOPES for each in known("pjsip", scope, _NEWEST)} | {
        *_PROTECTING,
        *_SIP_BOOLEANS,
    }
    return name if difflib.get_close_matches(name, names, 1, 0.75) else "an option"


def _boolean(section: Section, name: str, findings: Findings) -> None:
    found = section.last(name)
    if found is not None and found.value and not is_boolean(found.value):
        findings.add(BOOLEAN, f"{section.name}, {name}", found.place)


def _order(section: Section, names: tuple[str, str], findings: Findings) -> None:
    """Rules in the order of the file; includes could change it, so both names have to be in one file."""
    denies, permits = section.all(names[0]), section.all(names[1])
    if not permits or section.last("acl", "contactacl", "contact_acl"):
        return
    order = {id(each): number for number, each in enumerate(section.variables)}
    whole = [each for found, each in objects.networks(denies) if objects.covers_all(found)]
    if not denies:
        findings.add(ORDER, section.name, permits[-1].place, detail=f"{names[1]} without {names[0]}")
    elif whole and max(order[id(each)] for each in whole) > max(order[id(each)] for each in permits):
        findings.add(ORDER, section.name, whole[-1].place, detail=f"{names[0]} of everything behind {names[1]}")


def _pjsip(context: Context, findings: Findings) -> None:
    made = objects.pjsip(context)
    for section in made.unknown:
        findings.add(TYPE, section.name, section.where("type"))
    _missing(context, made, findings)
    for type_name, sections in made.objects.items():
        seen: set[str] = set()
        names = known("pjsip", type_name, context.version) if context.version else frozenset()
        booleans: dict[str, bool] = {}
        for section in sections:
            if section.name in seen and type_name != "global":
                findings.add(DUPLICATE, f"{section.name}, {type_name}", section.place)
            seen.add(section.name)
            for name, variables in section.options.items():
                if names and name not in names and not name.startswith("@"):
                    findings.add(UNKNOWN, f"{section.name}, {_option(name)}", variables[-1].place)
                if name not in booleans:
                    booleans[name] = option(name, "pjsip", type_name).kind == "bool"
                if booleans[name]:
                    _boolean(section, name, findings)
            if type_name in ("endpoint", "acl"):
                _order(section, ("deny", "permit"), findings)
                _order(section, ("contact_deny", "contact_permit"), findings)


def _missing(context: Context, made: objects.Pjsip, findings: Findings) -> None:
    elsewhere = {
        fold(name)
        for section in context.sections("sorcery.conf")
        for name, variables in section.options.items()
        if any(fold(each.value.partition(",")[0].strip()) != "config" for each in variables)
    }
    for option_name, kind_name in (("auth", "auth"), ("aors", "aor")):
        if any(name == kind_name or name.startswith(kind_name + "/") for name in elsewhere):
            continue  # in a database, maybe
        there = {each.name for each in made.of(kind_name)}
        for endpoint in made.of("endpoint"):
            found = endpoint.last(option_name)
            if found and any(name.strip() and name.strip() not in there for name in found.value.split(",")):
                findings.add(MISSING, f"{endpoint.name}, {option_name}", found.place)
