# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Matches and targets of netfilter in the kernel's saved form: the only place that knows their spelling."""

from __future__ import annotations

from .names import OBSERVED, Family
from .rule import Match, Option, Rule

__all__ = [
    "MAX_PATTERN",
    "MULTIPORT_SLOTS",
    "client_hello",
    "comment",
    "connmark",
    "in_set",
    "interface",
    "learn",
    "note",
    "packet_mark",
    "payload",
    "ports",
    "protocol",
    "set_connmark",
    "set_packet_mark",
    "source",
    "starts_with",
    "string",
]

_OBSERVED_FOR = 7 * 24 * 3600  # s
MULTIPORT_SLOTS = 15  # XT_MULTI_PORTS; a range takes two
MAX_PATTERN = 128  # XT_STRING_MAX_PATTERN_SIZE


def protocol(name: str) -> Option:
    return Option("-p", (name,))


def interface(name: str) -> Option:
    return Option("-i", (name,))


def source(network: str) -> Option:
    """``network`` with its prefix length, as ipaddress prints it."""
    return Option("-s", (network,))


def ports(spec: str) -> Match:
    """Destination ports, "5060:5061,5070", at most 15 slots."""
    return Match("multiport", (Option("--dports", (spec,)),))


def in_set(name: str, negated: bool = False, fields: str = "src") -> Match:
    """The packet's source address is in the set (``fields`` "src,src": its address and port)."""
    return Match("set", (Option("--match-set", (name, fields), negated),))


def string(pattern: bytes, ignore_case: bool = False, negated: bool = False, across_fragments: bool = False) -> Match:
    """``pattern`` stands somewhere in the packet (1 to 128 bytes).

    Boyer-Moore, unless the pattern has to be found ``across_fragments``: it misses one that lies across the border of two
    IP fragments (kernel: lib/ts_bm.c), whose place is the sender's choice. Knuth-Morris-Pratt does not, at three times the cost.
    """
    options = [_pattern(pattern, negated), Option("--algo", ("kmp" if across_fragments else "bm",))]
    if ignore_case:
        options.append(Option("--icase"))
    return Match("string", tuple(options))


def _pattern(pattern: bytes, negated: bool) -> Option:
    # As libxt_string lists it (is_hex_string() in libxt_string.c): as text when every byte is printable, and the last is no backslash.
    printable = all(0x20 <= byte < 0x7F for byte in pattern) and not pattern.endswith(b"\\")
    if printable:
        return Option("--string", (pattern.decode("ascii"),), negated)
    return Option("--hex-string", (f"|{pattern.hex()}|",), negated)


def connmark(value: int, mask: int, negated: bool = False) -> Match:
    return Match("connmark", (Option("--mark", (f"0x{value:x}/0x{mask:x}",), negated),))


def packet_mark(value: int, mask: int) -> Match:
    return Match("mark", (Option("--mark", (f"0x{value:x}/0x{mask:x}",)),))


def learn(chain: str, transport: str, set_name: str, seconds: int) -> Rule:
    """Put the packet's source into a set for some time; a TCP source only when its connection was really set up.

    A lone segment with a forged source may be tracked (nf_conntrack_tcp_loose), but is never "assured". It has to be this way
    round: a packet that conntrack calls invalid matches no conntrack option at all, negated or not (net/netfilter/xt_conntrack.c).
    """
    proven = (Match("conntrack", (Option("--ctstatus", ("ASSURED",)),)),) if transport == "tcp" else ()
    options = (Option("--add-set", (set_name, "src")), Option("--exist"), Option("--timeout", (str(seconds),)))
    return Rule(chain, proven, "SET", options, (protocol(transport),))


def note(chain: str, family: Family) -> Rule:
    """Remember for a week that the packet's source would have been stopped."""
    options = (
        Option("--add-set", (OBSERVED + family.suffix, "src")),
        Option("--exist"),
        Option("--timeout", (str(_OBSERVED_FOR),)),
    )
    return Rule(chain, (), "SET", options)


def comment(text: str) -> Match:
    """A remark for whoever reads the rules: printable ASCII, cut at 80 characters."""
    plain = "".join(char if " " <= char <= "~" and char not in "\\\"'`" else "." for char in text)
    return Match("comment", (Option("--comment", (plain[:80],)),))


def payload(family: Family, transport: str, *tests: tuple[int, str, str]) -> Match:
    """Each test holds for four bytes of the payload, whatever options the IPv4 or TCP header has: (offset, operations, values).

    ``operations`` and ``values`` are u32's, in hexadecimal: ``(0, ">>0x18", "0x21:0x7e")`` is a printable first byte. Bytes
    behind the packet's end match nothing. u32 walks from the network header. An IPv6 packet with extension headers does not
    match: its payload is somewhere else, and what stands at the usual place is the sender's choice.
    """
    if family.version == 4:
        head, base = ("0x0>>0x16&0x3c@", 8) if transport == "udp" else ("0x0>>0x16&0x3c@0xc>>0x1a&0x3c@", 0)
        guard = []
    elif transport == "udp":
        head, base, guard = "", 48, ["0x4>>0x8&0xff=0x11"]
    else:  # the TCP header's length is in the top four bits of its byte 12
        head, base, guard = "0x34>>0x1a&0x3c@", 40, ["0x4>>0x8&0xff=0x6"]
    found = [f"{head}0x{base + offset:x}{operations}={values}" for offset, operations, values in tests]
    return Match("u32", (Option("--u32", ("&&".join(guard + found),)),))


def starts_with(family: Family, transport: str, text: bytes, ignore_case: bool = False) -> Match:
    """The payload begins with these bytes; under ``ignore_case`` letters of either case (see ``payload``)."""
    tests = []
    for offset in range(0, len(text), 4):
        word = text[offset : offset + 4]
        # Bit 0x20 is what makes a letter a small one; bytes behind the end of the text may be anything.
        mask = bytes(0xDF if ignore_case and chr(byte).isalpha() else 0xFF for byte in word).ljust(4, b"\0")
        wanted = bytes(byte & bits for byte, bits in zip(word.ljust(4, b"\0"), mask))
        operations = "" if mask == b"\xff" * 4 else f"&0x{int.from_bytes(mask, 'big'):x}"
        tests.append((offset, operations, f"0x{int.from_bytes(wanted, 'big'):x}"))
    return payload(family, transport, *tests)


def client_hello(family: Family) -> Match:
    """The segment begins with a TLS record that holds a ClientHello (RFC 8446, sections 5.1 and 4)."""
    return payload(family, "tcp", (0, ">>0x10", "0x1603"), (4, ">>0x10&0xff", "0x1"))


def set_connmark(rule: Rule, value: int, mask: int) -> Rule:
    """The rule with a target that writes the masked bits of the connection mark and leaves the others."""
    return Rule(
        rule.chain, rule.matches, "CONNMARK", (Option("--set-xmark", (f"0x{value:x}/0x{mask:x}",)),), rule.header
    )


def set_packet_mark(rule: Rule, value: int, mask: int) -> Rule:
    return Rule(rule.chain, rule.matches, "MARK", (Option("--set-xmark", (f"0x{value:x}/0x{mask:x}",)),), rule.header)
