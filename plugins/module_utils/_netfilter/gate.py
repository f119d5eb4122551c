# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of sip_domain_gate: who names a domain of this PBX passes, who names something else is stopped.

What comes here is not trusted, not of an admitted conversation, and no response over UDP (see policy.py)::

    SIPGUARD-GATE           trunks: leave; a flow that the PBX itself opened (UDP): leave; TLS -> SIPGUARD-GATE-TLS
                            a domain of ours stands somewhere -> SIPGUARD-GATE-NAMED, else -> SIPGUARD-GATE-OTHER
    SIPGUARD-GATE-NAMED     it stands in a SIP address, up to its end -> SIPGUARD-GATE-PASS, else -> SIPGUARD-GATE-OTHER
    SIPGUARD-GATE-PASS      remember the flow in the set sipguard-named, and leave
    SIPGUARD-GATE-OTHER     flow remembered: leave; nothing that could be (part of) a request: leave (or -> STOP)
                            else -> SIPGUARD-GATE-HIT
    SIPGUARD-GATE-TLS       a ClientHello -> SIPGUARD-GATE-HELLO; no SIP to be read: leave (or -> STOP); else as on any port
    SIPGUARD-GATE-HELLO     server name of ours -> PASS, of others -> HIT, none to be found: leave (or -> STOP)
    SIPGUARD-GATE-HIT       learn the source (TCP: after a handshake only) -> SIPGUARD-GATE-STOP (observe: note it, mark, return)
    SIPGUARD-GATE-STOP      DROP or REJECT

Every jump but the engine's own is a goto: whoever leaves one of these chains leaves the gate.

A flow that has named a domain is through the gate, whatever the rest of its packets say: the second half of a request over
TCP, a BYE to the PBX's bare address after conntrack has forgotten the conversation, or after another module's rules have changed.
(The set knows the source and its port only. So nothing but a name gets a flow remembered: what a TLS port lets pass unread
must not open the other ports.)

What is, or continues, a request cannot be told from its first bytes on TCP: PJSIP takes a stream apart at its empty lines and
passes over what it cannot read (pjsip/src/pjsip/sip_transport.c). So all but keep-alives has to name a domain. A datagram is one
message, and begins with anything but a zero: chan_sip skips control characters before a request line, and answers unknown methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._sip.addresses import Network, collapse, parse_networks, parse_port
from .._sip.domains import parse_domains
from .._sip.errors import OptionError
from .._sip.methods import parse_method
from . import matches as m
from .names import CHAIN_GATE, MAX_TIMEOUT, NAMED, OFFENDERS, Family
from .options import Common, port_lists, verdict
from .policy import Member, Selector
from .rule import Match, Option, Rule

__all__ = ["GatePolicy", "member", "passes_less", "read_options"]

NAMED_CHAIN = CHAIN_GATE + "-NAMED"
PASS_CHAIN = CHAIN_GATE + "-PASS"
OTHER_CHAIN = CHAIN_GATE + "-OTHER"
TLS_CHAIN = CHAIN_GATE + "-TLS"
HELLO_CHAIN = CHAIN_GATE + "-HELLO"
HIT_CHAIN = CHAIN_GATE + "-HIT"
STOP_CHAIN = CHAIN_GATE + "-STOP"

# What stands before and behind the domain of a SIP address, the most frequent first (RFC 3261 section 25.1). No quotation mark:
# that ends a display name, or a parameter of the credentials.
_BEFORE = (b"@", b"sip:", b"sips:")
_BEHIND = (b">", b" ", b";", b":", b"\r", b"\n", b"?", b",", b"\t")
# Lengths of server names that are recognised; of others no more can be said than of none.
_NAME_LENGTHS = range(1, 128)
# What scanners begin with. Nothing else is learned: a phone that was cut off sends answers, halves and BYE.
_LEARNED = ("REGISTER", "INVITE", "OPTIONS")
_REMEMBERED_FOR = 7 * 24 * 3600  # s
_ANY = "0x0:0xffffffff"
_MAX_HEADER = 15  # words of an IPv4 header


@dataclass(frozen=True)
class GatePolicy:
    """What sip_domain_gate was asked for, in values.

    ``methods`` empty means every request; ``tls_ports`` are lists in the form of multiport; ``learn_for`` is in seconds.
    """

    domains: Sequence[str]
    methods: Sequence[str]
    trunks: Sequence[Network]
    selectors: tuple[Selector, ...]
    handshakes: tuple[Selector, ...]
    tls_ports: Sequence[str]
    sni: bool
    stop_unreadable: bool
    stop_other: bool
    learn_for: int
    never: Sequence[Network]


def read_options(options: Mapping[str, Any], common: Common) -> GatePolicy:
    """The module's own options as values. Raises OptionError."""
    if not 0 <= options["learn_for"] <= MAX_TIMEOUT:
        raise OptionError("learn_for", options["learn_for"], f"0 (off) to {MAX_TIMEOUT} seconds would be right")
    domains = parse_domains(options["domains"], "domains")
    if common.present and not domains:
        raise OptionError("domains", [], "the domain of the telephones' addresses, such as tel.example.com, is needed")
    tls = [parse_port(entry, "tls_ports") for entry in options["tls_ports"]]
    if all(selector.protocol != "tcp" for selector in common.selectors):
        tls = []
    plain = [parse_port(entry, "ports") for entry in options["ports"]]
    interfaces = dict.fromkeys(selector.interface for selector in common.selectors)
    tls_ports = port_lists(tls) if tls else []
    return GatePolicy(
        domains,
        list(dict.fromkeys(parse_method(name, "methods") for name in options["methods"])),
        _networks(options, "trunks"),
        tuple(
            Selector(protocol, ports, interface)
            for interface in interfaces
            for protocol in dict.fromkeys(selector.protocol for selector in common.selectors)
            # One list for both: a packet must not come by twice.
            for ports in port_lists(plain + tls if protocol == "tcp" and options["sni"] else plain)
        ),
        tuple(Selector("tcp", ports, interface) for interface in interfaces for ports in tls_ports),
        tls_ports,
        options["sni"],
        options["sni"] and options["tls_unreadable"] == "drop",
        options["other_traffic"] == "drop",
        options["learn_for"],
        _networks(options, "never"),
    )


def _networks(options: Mapping[str, Any], name: str) -> list[Network]:
    found = [network for entry in options[name] for network in parse_networks(entry, name)]
    return [network for version in (4, 6) for network in collapse(found, version, name)]


def member(common: Common, wanted: GatePolicy, family: Family) -> Member:
    """The rules of one family."""
    chains = {
        CHAIN_GATE: _entry(wanted, family),
        NAMED_CHAIN: _named(wanted),
        PASS_CHAIN: [_remember(PASS_CHAIN, NAMED + family.suffix, "src,src")],
        OTHER_CHAIN: _other(common, wanted, family),
        HIT_CHAIN: _hit(common, wanted, family),
        STOP_CHAIN: [] if common.observe else verdict(common, family, STOP_CHAIN),
    }
    if wanted.tls_ports:
        chains[TLS_CHAIN] = _tls(common, wanted, family)
        if wanted.sni:
            chains[HELLO_CHAIN] = _hello(common, wanted)
    return Member(
        CHAIN_GATE,
        wanted.selectors,
        {name: tuple(rules) for name, rules in chains.items()},
        handshakes=wanted.handshakes,
    )


def passes_less(live: Member | None, wanted: Member) -> bool:
    """Whether something lets a flow pass under the live rules that would not under the wanted ones."""
    if live is None:
        return False
    kept, there = (
        {rule for rules in side.chains.values() for rule in rules if rule.target == PASS_CHAIN}
        for side in (wanted, live)
    )
    return not there <= kept


def _remember(chain: str, name: str, fields: str) -> Rule:
    options = (Option("--add-set", (name, fields)), Option("--exist"), Option("--timeout", (str(_REMEMBERED_FOR),)))
    return Rule(chain, (), "SET", options)


def _remembered(family: Family) -> Match:
    return m.in_set(NAMED + family.suffix, fields="src,src")


def _to_pass(chain: str, *matches: Match) -> Rule:
    return Rule(chain, matches, PASS_CHAIN, goto=True)


def _to_stop(common: Common, chain: str, *matches: Match, remark: str) -> Rule:
    """Stopped, but never learned: nothing tells that it is an attack."""
    return Rule(chain, (*matches, m.comment(remark)), HIT_CHAIN if common.observe else STOP_CHAIN, goto=True)


def _entry(wanted: GatePolicy, family: Family) -> list[Rule]:
    trunks = [network for network in wanted.trunks if network.version == family.version]
    rules = [Rule(CHAIN_GATE, (), "RETURN", header=(m.source(str(network)),)) for network in trunks]
    if any(selector.protocol == "udp" for selector in wanted.selectors):
        # A connection of ours over TCP has no SIP port on this side. And nobody registers at whoever calls him: a REGISTER comes
        # from an attack that was running when conntrack first came to see the answer to it.
        ours = Match("conntrack", (Option("--ctdir", ("REPLY",)),))
        register = _not(m.starts_with(family, "udp", b"REGISTER", ignore_case=True))
        rules.append(Rule(CHAIN_GATE, (ours, register), "RETURN", header=(m.protocol("udp"),)))
    for ports in wanted.tls_ports:
        rules.append(Rule(CHAIN_GATE, (m.ports(ports),), TLS_CHAIN, header=(m.protocol("tcp"),), goto=True))
    return rules + _search(CHAIN_GATE, wanted)


def _search(chain: str, wanted: GatePolicy) -> list[Rule]:
    """One search for each domain: the dearer ones are for packets that hold one."""
    found = [m.string(domain.encode("ascii"), ignore_case=True, across_fragments=True) for domain in wanted.domains]
    return [
        *(Rule(chain, (match,), NAMED_CHAIN, goto=True) for match in found),
        Rule(chain, (), OTHER_CHAIN, goto=True),
    ]


def _named(wanted: GatePolicy) -> list[Rule]:
    rules = [
        _to_pass(NAMED_CHAIN, m.string(before + domain.encode("ascii") + behind, True, across_fragments=True))
        for domain in wanted.domains
        for behind in _BEHIND
        for before in _BEFORE
    ]
    return [*rules, Rule(NAMED_CHAIN, (), OTHER_CHAIN, goto=True)]


def _other(common: Common, wanted: GatePolicy, family: Family) -> list[Rule]:
    rules = [Rule(OTHER_CHAIN, (_remembered(family),), "RETURN")]
    for transport in dict.fromkeys(selector.protocol for selector in wanted.selectors):
        header = (m.protocol(transport),)
        if transport == "tcp":
            rules += [Rule(OTHER_CHAIN, each, "RETURN", header=header) for each in _no_payload(family)]
        for each in _keep_alives(family) if transport == "tcp" else _no_message(family):
            rule = (
                _to_stop(common, OTHER_CHAIN, *each, remark="gate: no request")
                if wanted.stop_other
                else Rule(OTHER_CHAIN, each, "RETURN")
            )
            rules.append(replace(rule, header=header))
        for method in wanted.methods:
            for lead in (b"", b"\r\n", b"\r\n\r\n"):
                begins = m.starts_with(family, transport, lead + method.encode("ascii"), ignore_case=True)
                rules.append(replace(_to_hit(OTHER_CHAIN, begins), header=header))
    return rules if wanted.methods else [*rules, _to_hit(OTHER_CHAIN)]


def _to_hit(chain: str, *matches: Match, remark: str = "gate: no domain of ours") -> Rule:
    return Rule(chain, (*matches, m.comment(remark)), HIT_CHAIN, goto=True)


def _no_message(family: Family) -> list[tuple[Match, ...]]:
    """Datagrams that are no request: up to four bytes (empty, CRLF, CRLF CRLF), and those that begin with a zero, as STUN does."""
    length = m.payload(family, "udp", (-4, ">>0x10", "0x8:0xc"))
    return [(length,), (m.payload(family, "udp", (0, ">>0x18", "0x0")),)]


def _no_payload(family: Family) -> list[tuple[Match, ...]]:
    """Segments without payload: there is no byte behind the header, whatever options it has. One for each size of IP header."""
    sizes = range(5, _MAX_HEADER + 1) if family.version == 4 else (0,)
    return [(_guard(family, size), _not(_end(family, -3, "", _ANY, size))) for size in sizes]


def _keep_alives(family: Family) -> list[tuple[Match, ...]]:
    """Segments of CRLF CRLF or CRLF and nothing else (RFC 5626 section 4.4.1)."""
    ping = m.payload(family, "tcp", (0, "", "0xd0a0d0a"))
    pong = _end(family, -2, "&0xffff", "0xd0a")
    return [(ping, _not(m.payload(family, "tcp", (1, "", _ANY)))), (pong, _not(_end(family, -1, "", _ANY)))]


def _guard(family: Family, size: int) -> Match:
    """An IPv4 header of ``size`` words; an IPv6 header with TCP right behind it."""
    return Match("u32", (Option("--u32", (_guard_text(family, size),)),))


def _guard_text(family: Family, size: int) -> str:
    return f"0x0>>0x18&0xf=0x{size:x}" if family.version == 4 else "0x4>>0x8&0xff=0x6"


def _end(family: Family, offset: int, operations: str, values: str, size: int = 5) -> Match:
    """As ``matches.payload``, for TCP and an offset below 0: the four bytes end in a payload that is shorter than four.

    u32 reads nothing behind its last ``@`` unless there are four bytes, so the IP header's size has to be known.
    """
    start = 4 * size if family.version == 4 else 40
    test = f"0x{start + 12:x}>>0x1a&0x3c@0x{start + offset:x}{operations}={values}"
    return Match("u32", (Option("--u32", (f"{_guard_text(family, size)}&&{test}",)),))


def _not(match: Match) -> Match:
    return replace(match, options=tuple(replace(option, negated=True) for option in match.options))


def _tls(common: Common, wanted: GatePolicy, family: Family) -> list[Rule]:
    hello = m.client_hello(family)
    rules = [Rule(TLS_CHAIN, (hello,), HELLO_CHAIN, goto=True) if wanted.sni else Rule(TLS_CHAIN, (hello,), "RETURN")]
    if wanted.stop_unreadable:
        binary = m.payload(family, "tcp", (0, ">>0x18", "0x0:0x8,0xb:0xc,0xe:0x1f,0x7f:0xff"))
        rules += [
            Rule(TLS_CHAIN, (_remembered(family),), "RETURN"),
            _to_stop(common, TLS_CHAIN, binary, remark=_UNREADABLE),
        ]
    else:
        # A connection older than these rules; what is in the middle of its records may begin with any byte.
        sip = m.string(b"SIP/2.0", ignore_case=True, negated=True, across_fragments=True)
        rules.append(Rule(TLS_CHAIN, (sip,), "RETURN"))
    return rules + _search(TLS_CHAIN, wanted)


_UNREADABLE = "gate: TLS without a server name"


def _hello(common: Common, wanted: GatePolicy) -> list[Rule]:
    """By the extension server_name (RFC 6066 section 3), which is the same nine bytes before each name of one length."""
    rules = []
    for domain in wanted.domains:
        name = b"\0" + len(domain).to_bytes(2, "big") + domain.encode("ascii")
        rules.append(_to_pass(HELLO_CHAIN, m.string(name, ignore_case=True, across_fragments=True)))
    for length in _NAME_LENGTHS:
        extension = bytes((0, 0, 0, length + 5, 0, length + 3, 0, 0, length))
        rules.append(_to_hit(HELLO_CHAIN, m.string(extension), remark="gate: server name not ours"))
    if wanted.stop_unreadable:
        rules.append(_to_stop(common, HELLO_CHAIN, remark=_UNREADABLE))
    return rules


def _hit(common: Common, wanted: GatePolicy, family: Family) -> list[Rule]:
    if common.observe:
        return [m.note(HIT_CHAIN, family), m.set_packet_mark(Rule(HIT_CHAIN), common.mask, common.mask)]
    rules = []
    if wanted.learn_for:
        nets = [network for network in wanted.never if network.version == family.version]
        rules += [Rule(HIT_CHAIN, (), STOP_CHAIN, header=(m.source(str(net)),), goto=True) for net in nets]
        for transport in dict.fromkeys(selector.protocol for selector in wanted.selectors):
            known = [m.starts_with(family, transport, method.encode("ascii"), True) for method in _LEARNED]
            if transport == "tcp" and wanted.tls_ports and wanted.sni:
                known.append(m.client_hello(family))
            learn = m.learn(HIT_CHAIN, transport, OFFENDERS + family.suffix, wanted.learn_for)
            rules += [replace(learn, matches=(begins, *learn.matches)) for begins in known]
    rules.append(Rule(HIT_CHAIN, (), STOP_CHAIN, goto=True))
    return rules
