# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIPGUARD-RATE: how many packets one source may send.

::

    SIPGUARD-RATE           trusted: leave; over a limit on any packet -> STOP      (where there is such a limit)
                            may be a request with a limited method -> SIPGUARD-RATE-REQUEST
    SIPGUARD-RATE-NET       over a limit on any packet of a network -> STOP         (all chains above and below end here then)
    SIPGUARD-RATE-REQUEST   trusted: leave
                            the request line begins with a limited method -> SIPGUARD-RATE-<METHOD>
                            what begins oddly -> SIPGUARD-RATE-ODD
    SIPGUARD-RATE-ODD       a limited method and a blank stand anywhere -> SIPGUARD-RATE-<METHOD>
    SIPGUARD-RATE-<METHOD>  over the limit -> STOP
    SIPGUARD-RATE-SSH       new connections only. trusted: leave; over the limit -> STOP
    SIPGUARD-RATE-BAN<s>    instead of STOP where a limit bans: never to be learned -> STOP; learn the source; -> STOP
    SIPGUARD-RATE-SEEN      instead of STOP in observe mode: note the source, return
    SIPGUARD-RATE-STOP      DROP or REJECT

Packets of conversations that have long been admitted are counted too, and what is over the limit is dropped here: a limit
that only lets the others fall through is undone by the first rule further down that accepts whatever is established.

Networks are counted behind addresses, and only what is left: one address over its limit does not use up its neighbours' share.

A method is recognised by its first four letters where the payload begins (``matches.starts_with``). A payload that begins
with white space or a control character, which parsers skip (RFC 3261 section 7.5; chan_sip skips all below 33), and an IPv6
packet with extension headers cannot be placed this way; those few are searched. Whatever no limit is about leaves after one
look at its first four bytes.

Trust comes before each table of sources, and not only before each verdict: a full hashlimit table drops whoever is not in it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._sip.addresses import Network, collapse, parse_networks, parse_port
from .._sip.errors import OptionError, SipguardError
from .._sip.limit_presets import LIMIT_PRESETS, STANDARD
from .._sip.methods import parse_method
from . import matches as m
from .names import CHAIN_RATE, MAX_TIMEOUT, OFFENDERS, TRUSTED, Family
from .options import Common, port_lists, verdict
from .policy import Member, Selector
from .rates import Rate, parse_rate
from .rule import Match, Option, Rule

__all__ = ["PER", "TABLE_SIZE", "Limit", "RatePolicy", "member", "read_options", "warnings"]

REQUEST_CHAIN = CHAIN_RATE + "-REQUEST"
ODD_CHAIN = CHAIN_RATE + "-ODD"
NET_CHAIN = CHAIN_RATE + "-NET"
SSH_CHAIN = CHAIN_RATE + "-SSH"
BAN_CHAIN = CHAIN_RATE + "-BAN"
SEEN_CHAIN = CHAIN_RATE + "-SEEN"
STOP_CHAIN = CHAIN_RATE + "-STOP"

ANY, SSH = "any", "SSH"
HASHLIMIT, RECENT = "hashlimit", "recent"
SOURCE, SOURCE_NET, HOST = "source", "source_net", "host"
# What counts as one source, as prefix lengths for IPv4 and IPv6. Whoever has one IPv6 address has the 2^64 of its network, which
# phones of a site share, so that both are counted; nobody shares SSH with strangers, and it goes by HOST.
PER = {SOURCE: {4: 32, 6: 128}, SOURCE_NET: {4: 24, 6: 64}, HOST: {4: 32, 6: 64}}

# Sources a hashlimit table holds; the kernel needs 120 bytes for each (struct dsthash_ent), so a full one is 15 MiB.
TABLE_SIZE = 131072
MAX_HITS = 20  # ip_pkt_list_tot of xt_recent, where it is not found out by the kernel itself (before 3.19)
MIN_BURST = 5

_PARAMETERS = "/sys/module/xt_recent/parameters"
_SOURCES = 100  # ip_list_tot of xt_recent unless told otherwise
_ENOUGH_SOURCES = 4096
_NEW_CONNECTION = Match("tcp", (Option("--tcp-flags", ("FIN,SYN,RST,ACK", "SYN")),))
_BLANKS = (b" ", b"\t")
_U32_VALUES = 10  # XT_U32_MAXSIZE


@dataclass(frozen=True)
class Limit:
    """At most ``rate`` packets of one source. ``burst`` is in packets, 0 with engine recent; ``ban_for`` in seconds, 0 for none."""

    method: str
    rate: Rate
    burst: int
    engine: str
    per: str
    ban_for: int
    origin: str

    def key(self) -> tuple[object, ...]:
        """What makes it another limit than all others: two with the same key would count in one table."""
        return (self.method, self.rate.saved(), self.burst, self.engine, self.per)

    def result(self) -> dict[str, object]:
        return {
            "method": self.method,
            "rate": str(self.rate),
            "burst": self.burst or None,
            "engine": self.engine,
            "per": self.per,
            "ban_for": self.ban_for,
            "origin": self.origin,
        }


@dataclass(frozen=True)
class RatePolicy:
    """What sip_ratelimit was asked for, in values. ``ssh_ports`` is in the form of multiport."""

    limits: tuple[Limit, ...]
    ssh: tuple[Limit, ...]
    ssh_ports: str
    never: tuple[Network, ...]

    def result(self) -> dict[str, object]:
        """The module's own results."""
        ssh = [{"rate": str(limit.rate), "burst": limit.burst, "origin": limit.origin} for limit in self.ssh]
        return {
            "limits": [limit.result() for limit in self.limits],
            "ssh": [{**entry, "ports": self.ssh_ports.split(",")} for entry in ssh],
        }


def read_options(options: Mapping[str, Any]) -> RatePolicy:
    """The module's own options as values; where it shall be absent, none of them is looked at. Raises OptionError."""
    if options["state"] == "absent":
        return RatePolicy((), (), "", ())
    presets, own_ssh = options["presets"], options["ssh"]
    if not (presets or options["limits"] or own_ssh):
        presets = [STANDARD]
    limits: list[Limit] = []
    ssh: list[Limit] = []
    for name in presets:
        if name not in LIMIT_PRESETS:
            raise OptionError("presets", name, f"one of {', '.join(LIMIT_PRESETS)} would be right")
        limits += [_read_limit(entry, name) for entry in LIMIT_PRESETS[name].limits]
        entry = LIMIT_PRESETS[name].ssh
        if entry is not None and own_ssh is None:
            ssh.append(_read_ssh(entry, name))
    limits += [_read_limit(entry, "limits") for entry in options["limits"]]
    if own_ssh is not None:
        ssh.append(_read_ssh(own_ssh, "ssh"))
    never = [network for entry in options["never"] for network in parse_networks(entry, "never")]
    return RatePolicy(
        _distinct(limits),
        _distinct(ssh),
        _ssh_ports((own_ssh or {}).get("ports", ["22"]), options["ports"]) if ssh else "",
        tuple(network for version in (4, 6) for network in collapse(never, version, "never")),
    )


def _read_limit(entry: Mapping[str, Any], origin: str) -> Limit:
    rate = parse_rate(entry["rate"], "limits.rate")
    engine = entry.get("engine") or HASHLIMIT
    ban_for = entry.get("ban_for") or 0
    if not 0 <= ban_for <= MAX_TIMEOUT:
        raise OptionError("limits.ban_for", ban_for, f"0 (off) to {MAX_TIMEOUT} seconds would be right")
    burst = _read_burst(entry.get("burst"), rate, "limits.burst") if engine == HASHLIMIT else 0
    if engine == RECENT and entry.get("burst") is not None:
        raise OptionError(
            "limits.burst", entry["burst"], "engine recent has none: leave it out, or use engine hashlimit"
        )
    if engine == RECENT and rate.count > MAX_HITS:
        right = f"at most {MAX_HITS}/{rate.unit} with engine recent, or engine hashlimit, would be right"
        raise OptionError("limits.rate", entry["rate"], right)
    return Limit(_read_method(entry["method"]), rate, burst, engine, entry.get("per") or SOURCE, ban_for, origin)


def _read_method(name: object) -> str:
    if isinstance(name, str) and name.strip().lower() == ANY:
        return ANY
    try:
        return parse_method(name, "limits.method")
    except OptionError as error:
        raise OptionError(error.option, error.value, f"{error.expected}, or {ANY}") from error


def _read_burst(burst: int | None, rate: Rate, option: str) -> int:
    if burst is None:
        return min(max(rate.count, MIN_BURST), rate.max_burst)
    if not rate.min_burst <= burst <= rate.max_burst:
        raise OptionError(option, burst, f"{rate.min_burst} to {rate.max_burst} packets would be right for {rate}")
    return burst


def _read_ssh(entry: Mapping[str, Any], origin: str) -> Limit:
    rate = parse_rate(entry["rate"], "ssh.rate")
    return Limit(SSH, rate, _read_burst(entry.get("burst"), rate, "ssh.burst"), HASHLIMIT, HOST, 0, origin)


def _distinct(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    """Each limit once, in order."""
    found: dict[tuple[object, ...], Limit] = {}
    for limit in limits:
        first = found.setdefault(limit.key(), limit)
        if first.ban_for != limit.ban_for:
            raise OptionError(
                "limits.ban_for",
                limit.ban_for,
                f"the same limit is there with {first.ban_for}: one of them would be right",
            )
    return tuple(found.values())


def _ssh_ports(entries: Sequence[object], sip: Sequence[object]) -> str:
    taken = [parse_port(entry, "ports") for entry in sip]
    ports = [parse_port(entry, "ssh.ports") for entry in entries]
    for first, last in ports:
        if any(first <= other_last and other_first <= last for other_first, other_last in taken):
            raise OptionError("ssh.ports", entries, "SSH and SIP (option ports) on different ports would be right")
    lists = port_lists(ports)
    if not ports or len(lists) != 1:
        right = f"1 to {m.MULTIPORT_SLOTS} ports would be right, of which a range counts as two"
        raise OptionError("ssh.ports", entries, right)
    return lists[0]


def warnings(wanted: RatePolicy, parameters: str = _PARAMETERS) -> list[str]:
    """What an administrator should know of this host's xt_recent before he relies on it.

    Raises SipguardError when it was loaded with parameters under which the kernel would refuse a limit.
    """
    recent = [limit for limit in wanted.limits if limit.engine == RECENT]
    if not recent:
        return []
    hits, sources = _parameter(parameters, "ip_pkt_list_tot", 0), _parameter(parameters, "ip_list_tot", _SOURCES)
    most = max(limit.rate.count for limit in recent)
    if 0 < hits < most:
        raise SipguardError(
            f"this host's xt_recent was loaded with ip_pkt_list_tot={hits}, so engine recent cannot count to {most}; nothing was "
            "changed: use engine hashlimit, or load the module with another value"
        )
    if sources >= _ENOUGH_SOURCES:
        return []
    return [
        f"engine recent keeps {sources} sources for each limit (ip_list_tot of xt_recent): whoever forges more than that has those "
        "over the limit forgotten; engine hashlimit does not"
    ]


def _parameter(directory: str, name: str, fallback: int) -> int:
    """A parameter of the module as it is loaded; ``fallback`` where it cannot be read, or is not loaded yet."""
    try:
        with open(f"{directory}/{name}", encoding="ascii") as handle:
            return int(handle.read())
    except (OSError, ValueError):
        return fallback


def member(common: Common, wanted: RatePolicy, family: Family) -> Member:
    """The rules of one family."""
    by_method: dict[str, list[Limit]] = {}
    for limit in wanted.limits:
        by_method.setdefault(limit.method, []).append(limit)
    everything = by_method.pop(ANY, [])
    networks = [limit for limit in everything if limit.per == SOURCE_NET]
    sources = [limit for limit in everything if limit.per == SOURCE]
    transports = tuple(dict.fromkeys(selector.protocol for selector in common.selectors))
    trusted = m.in_set(TRUSTED + family.suffix)

    chains: dict[str, tuple[Rule, ...]] = {CHAIN_RATE: ()}
    if everything:
        chains[CHAIN_RATE] = (Rule(CHAIN_RATE, (trusted,), "RETURN"), *_checks(common, CHAIN_RATE, sources, family))
    if by_method:
        chains[CHAIN_RATE] += tuple(_candidates(family, transports, tuple(by_method)))
        leave = [] if everything else [Rule(REQUEST_CHAIN, (trusted,), "RETURN")]
        chains[REQUEST_CHAIN] = (*leave, *_requests(family, transports, tuple(by_method)))
        chains[ODD_CHAIN] = tuple(
            Rule(ODD_CHAIN, (m.string(method.encode() + blank, True, across_fragments=True),), chain, goto=True)
            for method, chain in ((method, _method_chain(method)) for method in by_method)
            for blank in _BLANKS
        )
    for method, limits in by_method.items():
        chains[_method_chain(method)] = tuple(_checks(common, _method_chain(method), limits, family))
    if networks:
        chains = {name: (*rules, Rule(name, (), NET_CHAIN, goto=True)) for name, rules in chains.items()}
        chains[NET_CHAIN] = tuple(_checks(common, NET_CHAIN, networks, family))

    asides: list[tuple[Selector, str]] = []
    if wanted.ssh:
        asides = [
            (Selector("tcp", wanted.ssh_ports, interface), SSH_CHAIN)
            for interface in dict.fromkeys(selector.interface for selector in common.selectors)
        ]
        new, header = (_NEW_CONNECTION,), (m.protocol("tcp"),)
        chains[SSH_CHAIN] = (
            Rule(SSH_CHAIN, (*new, trusted), "RETURN", header=header),
            *_checks(common, SSH_CHAIN, wanted.ssh, family, new, header),
        )
    chains.update(_verdicts(common, wanted, family))
    return Member(CHAIN_RATE, common.selectors if wanted.limits else (), chains, tuple(asides))


def _method_chain(method: str) -> str:
    return f"{CHAIN_RATE}-{method}"


def _candidates(family: Family, transports: Sequence[str], methods: Sequence[str]) -> Iterable[Rule]:
    """All that may be a request with one of the methods, and little else, at the price of one look."""
    for transport in transports:
        header = (m.protocol(transport),)
        # Bit 0x20 is taken off, so that letters of either case are one: space becomes 0, and digits and signs go with it. TLS
        # records (0x14 to 0x17) are left out, so that an encrypted conversation costs no more than another.
        others = ["0x0:0x1fffffff"] if transport == "udp" else ["0x0:0x13ffffff", "0x18000000:0x1fffffff"]
        words = [_first_word(method) for method in methods]
        for start in range(0, len(words), _U32_VALUES - len(others)):
            values = ",".join([*others, *words[start : start + _U32_VALUES - len(others)]])
            found = m.payload(family, transport, (0, "&0xdfdfdfdf", values))
            yield Rule(CHAIN_RATE, (found,), REQUEST_CHAIN, header=header, goto=True)
        if family.version == 6:
            yield Rule(CHAIN_RATE, (_extended(transport),), REQUEST_CHAIN, header=header, goto=True)


def _first_word(method: str) -> str:
    first = method[:4].encode()
    low, high = (int.from_bytes(first.ljust(4, filling), "big") for filling in (b"\0", b"\xff"))
    return f"0x{low:x}" if low == high else f"0x{low:x}:0x{high:x}"


def _requests(family: Family, transports: Sequence[str], methods: Sequence[str]) -> Iterable[Rule]:
    """Which of the methods it is."""
    for transport in transports:
        header = (m.protocol(transport),)
        for method in methods:
            begins = m.starts_with(family, transport, method[:4].encode(), ignore_case=True)
            yield Rule(REQUEST_CHAIN, (begins,), _method_chain(method), header=header, goto=True)
        blank = m.payload(family, transport, (0, ">>0x18", "0x1:0x20"))
        yield Rule(REQUEST_CHAIN, (blank,), ODD_CHAIN, header=header, goto=True)
        if family.version == 6:
            yield Rule(REQUEST_CHAIN, (_extended(transport),), ODD_CHAIN, header=header, goto=True)


def _extended(transport: str) -> Match:
    """An IPv6 packet in which another header stands behind that of IP than that of the transport."""
    others = "0x0:0x10,0x12:0xff" if transport == "udp" else "0x0:0x5,0x7:0xff"
    return Match("u32", (Option("--u32", (f"0x4>>0x8&0xff={others}",)),))


def _checks(
    common: Common,
    chain: str,
    limits: Sequence[Limit],
    family: Family,
    only: tuple[Match, ...] = (),
    header: tuple[Option, ...] = (),
) -> list[Rule]:
    """The rules that count. What one limit drops is not counted by those behind it, nor by a recent list, which so recovers."""
    recent = [limit for limit in limits if limit.engine == RECENT]
    rules = []
    for limit in sorted(limits, key=lambda limit: (limit.engine != RECENT, limit.per != SOURCE)):
        over = _above(limit, family)
        whose = " from a network" if limit.per == SOURCE_NET else ""
        remark = m.comment(f"{limit.method} over {limit.rate}{whose}")
        rules.append(Rule(chain, (*only, over, remark), _over_chain(common, limit), header=header, goto=True))
    return [*rules, *(Rule(chain, (*only, _recent(limit, family)), header=header) for limit in recent)]


def _over_chain(common: Common, limit: Limit) -> str:
    if common.observe:
        return SEEN_CHAIN
    return f"{BAN_CHAIN}{limit.ban_for}" if limit.ban_for else STOP_CHAIN


def _above(limit: Limit, family: Family) -> Match:
    """The source has sent more than the limit lets through, this packet included."""
    if limit.engine == RECENT:
        window = (Option("--seconds", (str(limit.rate.seconds),)), Option("--hitcount", (str(limit.rate.count),)))
        return _recent(limit, family, "--rcheck", window)
    rate, seconds = limit.rate.saved()
    # A bucket that is full again need not be kept, and one that is not must be.
    expire = -(-limit.burst * limit.rate.period // 1000000) * 1000
    options = {
        "above": rate,
        "burst": str(limit.burst),
        "mode": "srcip",
        "name": _table(limit, family, rate.replace("/", ""), limit.burst, TABLE_SIZE, expire),
        "htable-max": str(TABLE_SIZE),
    }
    if expire != seconds * 1000:  # the default, which is not printed
        options["htable-expire"] = str(expire)
    prefix = PER[limit.per][family.version]
    if prefix != family.max_prefix:
        options["srcmask"] = str(prefix)
    return Match("hashlimit", tuple(Option(f"--hashlimit-{name}", (value,)) for name, value in options.items()))


def _recent(limit: Limit, family: Family, command: str = "--set", window: tuple[Option, ...] = ()) -> Match:
    table = _table(limit, family, limit.rate.count, limit.rate.seconds)
    everywhere = "0.0.0.0" if family.version == 4 else "::"
    mask = str(ipaddress.ip_network((everywhere, PER[limit.per][family.version])).netmask)
    return Match(
        "recent",
        (Option(command), *window, Option("--name", (table,)), Option("--mask", (mask,)), Option("--rsource")),
    )


def _table(limit: Limit, family: Family, *parameters: object) -> str:
    """The name of the kernel's table of sources, with everything that decides how it counts.

    A table is found by its name alone: a second rule of that name, or a changed one, would go on with the first one's numbers.
    xt_recent does not even tell the families apart, and keeps one mask for both.
    """
    words = (limit.method.lower(), *parameters, PER[limit.per][family.version])
    return "-".join([f"sipguard{family.suffix}", *(str(word) for word in words)])


def _verdicts(common: Common, wanted: RatePolicy, family: Family) -> dict[str, tuple[Rule, ...]]:
    """What becomes of packets over a limit."""
    if common.observe:
        return {SEEN_CHAIN: (m.note(SEEN_CHAIN, family),)}
    chains = {STOP_CHAIN: tuple(verdict(common, family, STOP_CHAIN))}
    transports = dict.fromkeys(selector.protocol for selector in common.selectors)
    for seconds in sorted({limit.ban_for for limit in wanted.limits if limit.ban_for}):
        chain = f"{BAN_CHAIN}{seconds}"
        spared = [network for network in wanted.never if network.version == family.version]
        chains[chain] = (
            *(Rule(chain, (), STOP_CHAIN, header=(m.source(str(network)),), goto=True) for network in spared),
            *(m.learn(chain, transport, OFFENDERS + family.suffix, seconds) for transport in transports),
            Rule(chain, (), STOP_CHAIN, goto=True),
        )
    return chains
