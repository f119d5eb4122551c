# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIPGUARD-UA: scanner signatures as rules.

::

    SIPGUARD-UA             has a User-Agent header -> SIPGUARD-UA-HEADER
                            a whole request without one (if asked for) -> HIT
                            payload signatures -> HIT
    SIPGUARD-UA-HEADER      signatures of the header in its usual spelling -> HIT
                            the header is spelled oddly -> SIPGUARD-UA-ODD
    SIPGUARD-UA-ODD         the same signatures behind each odd spelling, whatever ends the lines -> HIT
    SIPGUARD-UA-HIT         never to be learned -> STOP; learn the source (TCP: after a handshake only); -> STOP
                            (observe: note the source, mark, return)
    SIPGUARD-UA-MADDR       every packet, of admitted conversations too. trusted: leave; names an address with maddr= -> STOP
                            (observe: note the source, return)
    SIPGUARD-UA-STOP        DROP or REJECT

The kernel searches bytes, it does not parse: RFC 3261 section 7.3.1 lets a header's name be written in any case and its
colon stand among blanks, tabs and folded lines. Distinctive words are therefore looked for anywhere in a packet that has
the header. What is only meant at the beginning of its value is tried there, and behind every spelling in ODD_SPELLINGS:
wherever else it stands in a packet, it may be anybody's subject line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._sip.addresses import Network, collapse, parse_networks
from .._sip.errors import OptionError
from .._sip.signatures import ANCHOR, ANYWHERE, EXACT, HEADER, PAYLOAD, Signature
from . import matches as m
from .names import CHAIN_UA, MAX_TIMEOUT, OFFENDERS, TRUSTED, Family
from .options import Common, verdict
from .policy import HEADERS_END, REQUEST_LINE_END, Member
from .rule import Match, Rule

__all__ = ["ODD_SPELLINGS", "UserAgentPolicy", "member", "read_options"]

HEADER_CHAIN = CHAIN_UA + "-HEADER"
ODD_CHAIN = CHAIN_UA + "-ODD"
HIT_CHAIN = CHAIN_UA + "-HIT"
MADDR_CHAIN = CHAIN_UA + "-MADDR"
STOP_CHAIN = CHAIN_UA + "-STOP"

# What may stand between the header's name and its value instead of ": ". The last one is the usual spelling, for headers whose
# lines do not end in CRLF: Asterisk takes a bare LF (chan_sip, PJSIP) or CR (PJSIP) for the end of a line too.
ODD_SPELLINGS = (b":", b":\t", b":  ", b" : ", b" :", b":\r\n ", b": \r\n ", b": ")
# A header in its usual spelling whose value begins with more white space.
_ODD_AFTER_USUAL = tuple(HEADER + more for more in (b" ", b"\t", b"\r\n ", b"\r\n\t"))
_EMPTY = (ANCHOR + b":\r\n", ANCHOR + b": \r\n")
_FOLDS = (b" ", b"\t")
# As chan_sip looks for it in the top Via (channels/chan_sip.c, check_via): in any case, no blank before the sign.
_MADDR = b"maddr="


@dataclass(frozen=True)
class UserAgentPolicy:
    """What sip_ua_blocklist was asked for, in values. ``learn_for`` is in seconds, 0 turns learning off."""

    signatures: Sequence[Signature]
    ignore_case: bool
    empty_header: bool
    missing_header: bool
    learn_for: int
    never: Sequence[Network]
    no_maddr: bool = False


def read_options(options: Mapping[str, Any], signatures: Sequence[Signature]) -> UserAgentPolicy:
    """The module's own options as values, with the signatures that were chosen by them. Raises OptionError."""
    if not 0 <= options["learn_for"] <= MAX_TIMEOUT:
        raise OptionError("learn_for", options["learn_for"], f"0 (off) to {MAX_TIMEOUT} seconds would be right")
    never = [network for entry in options["never"] for network in parse_networks(entry, "never")]
    return UserAgentPolicy(
        signatures,
        options["ignore_case"],
        options["no_user_agent"],
        options["missing_user_agent"],
        options["learn_for"],
        [network for version in (4, 6) for network in collapse(never, version, "never")],
        options["no_maddr"],
    )


def member(common: Common, wanted: UserAgentPolicy, family: Family) -> Member:
    """The rules of one family."""
    more = {MADDR_CHAIN: tuple(_maddr(common, family))} if wanted.no_maddr else {}
    return Member(
        CHAIN_UA,
        common.selectors,
        {
            **more,
            CHAIN_UA: tuple(_entry(common, wanted, family)),
            HEADER_CHAIN: tuple(_header(wanted)),
            ODD_CHAIN: tuple(_odd(wanted)),
            HIT_CHAIN: tuple(_hit(common, wanted, family)),
            STOP_CHAIN: () if common.observe else tuple(verdict(common, family, STOP_CHAIN)),
        },
        asides=tuple((selector, MADDR_CHAIN) for selector in common.selectors) if wanted.no_maddr else (),
    )


def _to_hit(chain: str, matches: Sequence[Match], remark: str) -> Rule:
    return Rule(chain, (*matches, m.comment(remark)), HIT_CHAIN, goto=True)


def _entry(common: Common, wanted: UserAgentPolicy, family: Family) -> list[Rule]:
    anchor = m.string(ANCHOR, ignore_case=True, across_fragments=True)
    rules = [Rule(CHAIN_UA, (anchor,), HEADER_CHAIN)]
    if common.observe:
        rules.append(Rule(CHAIN_UA, (m.packet_mark(common.mask, common.mask),), "RETURN"))
    if wanted.missing_header:
        # All headers in one packet, or the missing one may just be in the next segment.
        missing = m.string(ANCHOR, ignore_case=True, negated=True, across_fragments=True)
        whole = (m.string(REQUEST_LINE_END), m.string(HEADERS_END), missing)
        rules.append(_to_hit(CHAIN_UA, whole, "no User-Agent header"))
    rules += [
        _to_hit(CHAIN_UA, (m.string(signature.needle, wanted.ignore_case),), f"payload {signature.value}")
        for signature in wanted.signatures
        if signature.match == PAYLOAD
    ]
    return rules


def _maddr(common: Common, family: Family) -> list[Rule]:
    """Nobody is learned from it: the packet's own source may be as false as the other one."""
    found = m.string(_MADDR, ignore_case=True, across_fragments=True)
    trusted = Rule(MADDR_CHAIN, (m.in_set(TRUSTED + family.suffix),), "RETURN")
    if common.observe:
        note = m.note(MADDR_CHAIN, family)
        return [trusted, replace(note, matches=(found, *note.matches))]
    return [trusted, Rule(MADDR_CHAIN, (found, m.comment("maddr=")), STOP_CHAIN, goto=True)]


def _header(wanted: UserAgentPolicy) -> list[Rule]:
    rules = []
    for signature in wanted.signatures:
        if signature.match != PAYLOAD:
            # Words that only scanners have are worth the dearer search, which finds them however the packet was cut up.
            found = m.string(signature.needle, wanted.ignore_case, across_fragments=signature.match == ANYWHERE)
            rules.append(_to_hit(HEADER_CHAIN, (found,), f"{signature.match} {signature.value}"))
    if wanted.empty_header:
        for pattern in _EMPTY:
            unfolded = [m.string(pattern + fold, ignore_case=True, negated=True) for fold in _FOLDS]
            rules.append(_to_hit(HEADER_CHAIN, (m.string(pattern, ignore_case=True), *unfolded), "empty User-Agent"))
    if any(signature.match not in (PAYLOAD, ANYWHERE) for signature in wanted.signatures):
        rules.append(Rule(HEADER_CHAIN, (m.string(HEADER, ignore_case=True, negated=True),), ODD_CHAIN, goto=True))
        rules += [
            Rule(HEADER_CHAIN, (m.string(odd, ignore_case=True),), ODD_CHAIN, goto=True) for odd in _ODD_AFTER_USUAL
        ]
    return rules


def _odd(wanted: UserAgentPolicy) -> list[Rule]:
    rules = []
    for signature in wanted.signatures:
        if signature.match in (PAYLOAD, ANYWHERE):
            continue
        value = signature.value.encode("utf-8")
        ending = b"\r" if signature.match == EXACT else b""
        patterns = [ANCHOR + spelling + value + ending for spelling in ODD_SPELLINGS]
        if signature.match == EXACT:
            patterns.append(ANCHOR + b": " + value + b"\n")
        for pattern in patterns:
            # The limit of xt_string; a value this long is not what anybody spells oddly.
            match = m.string(pattern[: m.MAX_PATTERN], wanted.ignore_case)
            rules.append(_to_hit(ODD_CHAIN, (match,), f"{signature.match} {signature.value}"))
    return rules


def _hit(common: Common, wanted: UserAgentPolicy, family: Family) -> list[Rule]:
    if common.observe:
        return [m.note(HIT_CHAIN, family), m.set_packet_mark(Rule(HIT_CHAIN), common.mask, common.mask)]
    rules = []
    if wanted.learn_for:
        nets = [network for network in wanted.never if network.version == family.version]
        rules += [Rule(HIT_CHAIN, (), STOP_CHAIN, header=(m.source(str(net)),), goto=True) for net in nets]
        transports = dict.fromkeys(selector.protocol for selector in common.selectors)
        rules += [
            m.learn(HIT_CHAIN, transport, OFFENDERS + family.suffix, wanted.learn_for) for transport in transports
        ]
    rules.append(Rule(HIT_CHAIN, (), STOP_CHAIN, goto=True))
    return rules
