# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nanoseconds per packet of a conversation and of an attack, for several policies side by side in one run."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.presets import PRESETS, preset

from .pair import Pair

__all__ = ["GOALS", "Figure", "measure", "table"]

BATCH = 100  # datagrams of one variant before the next has its turn
_WARM_UP = 5  # rounds that are not counted: caches, first packets, learning
_PUMP = Path(__file__).with_name("pump.c")

NONE = "no rules"
CONNTRACK = "no rules, conntrack in use"
PUBLISHED = "published list"
OURS = "ours, scanners"
OURS_ALL = "ours, all presets"
OURS_LIMITS = "ours, and limits"
OURS_WHOLE = "ours, everything"

ADMITTED = "admitted conversation"
NEW = "new conversation"
LEARNED = "attacker, learned"
UNKNOWN = "attacker, not yet learned"

# At most this many times what the packet costs without rules: signatures alone, and together with limits, gate and host policy.
GOALS = {(OURS, ADMITTED): 1.10, (OURS_ALL, ADMITTED): 1.10, (OURS_WHOLE, ADMITTED): 1.15}
GOALS |= {(policy, LEARNED): 1.00 for policy in (OURS, OURS_ALL, OURS_WHOLE)}

# The limits of the preset "standard", so high that the benchmark itself stays below them.
LIMITS = [
    {"method": method, "rate": "900000/second", "burst": 10000, "per": per}
    for method, per in (
        ("REGISTER", "source"),
        ("REGISTER", "source_net"),
        ("INVITE", "source"),
        ("INVITE", "source_net"),
        ("any", "source"),
    )
]


@dataclass(frozen=True)
class Figure:
    """Medians over all rounds. `ns` is the whole way, from send to the end of receive; `send_ns` leaves receive out.

    Ratios are medians of the ratios within each round; `low` and `high` are their quartiles.
    """

    policy: str
    traffic: str
    delivered: float
    ns: float
    send_ns: float
    to_none: float
    low: float
    high: float
    to_conntrack: float
    send_to_none: float


def message(user_agent: str) -> bytes:
    """An INVITE with a body, about 900 bytes."""
    body = (
        "v=0\r\no=- 20518 0 IN IP4 10.99.0.1\r\ns=-\r\nc=IN IP4 10.99.0.1\r\nt=0 0\r\nm=audio 11782 RTP/AVP 9 8 0\r\n"
    )
    body += "".join(f"a=rtpmap:{number} G722/8000\r\n" for number in range(96, 108))
    head = (
        "INVITE sip:200@pbx.example.org SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 10.99.0.1:5062;branch=z9hG4bK776asdhds;rport\r\n"
        "Max-Forwards: 70\r\n"
        'From: "Alice" <sip:100@pbx.example.org>;tag=1928301774\r\n'
        "To: <sip:200@pbx.example.org>\r\n"
        "Call-ID: a84b4c76e66710@10.99.0.1\r\n"
        "CSeq: 314159 INVITE\r\n"
        "Contact: <sip:100@10.99.0.1:5062>\r\n"
        f"User-Agent: {user_agent}\r\n"
        "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, REFER, NOTIFY, UPDATE\r\n"
        "Content-Type: application/sdp\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


PHONE = message("Yealink T46S 66.85.0.5")
SCANNER = message("friendly-scanner")


def published(strings: Sequence[str]) -> str:
    """The list as its author loads it: inserted one after the other, looked for in every packet to the port."""
    lines = "".join(f'-I INPUT -p udp --dport 5060 -m string --algo bm --string "{text}" -j DROP\n' for text in strings)
    return f"*filter\n{lines}COMMIT\n"


def _policies() -> dict[str, Callable[[Pair], None]]:
    strings = [signature.entry for signature in preset("elektronikbasteln")]
    # What would drop the conversation itself cannot be measured on it.
    harmless = [text for text in strings if text.encode() not in PHONE]

    def ours(*presets: str) -> Callable[[Pair], None]:
        def load(pair: Pair) -> None:
            pair.module("sip_trust", sources=["192.168.178.0/24", "203.0.113.7"], persist=False)
            pair.module("sip_ua_blocklist", presets=list(presets), backend=pair.backend, persist=False)

        return load

    def limited(pair: Pair) -> None:
        ours("scanners")(pair)
        pair.module("sip_ratelimit", limits=LIMITS, backend=pair.backend, persist=False)

    def whole(pair: Pair) -> None:
        limited(pair)
        pair.module("sip_domain_gate", domains=["pbx.example.org"], backend=pair.backend, persist=False)
        pair.module("sip_host_policy", lan=["192.168.178.0/24"], backend=pair.backend, persist=False)

    return {
        NONE: lambda pair: None,
        CONNTRACK: lambda pair: pair.restore("*filter\n-A INPUT -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n"),
        PUBLISHED: lambda pair: pair.restore(published(harmless)),
        OURS: ours("scanners"),
        OURS_ALL: ours(*PRESETS),
        OURS_LIMITS: limited,
        OURS_WHOLE: whole,
    }


def left_out() -> list[str]:
    """The published strings that would drop an ordinary INVITE."""
    return [signature.entry for signature in preset("elektronikbasteln") if signature.entry.encode() in PHONE]


# name, payload, whether each datagram comes from somebody new
_TRAFFIC = ((ADMITTED, PHONE, False), (NEW, PHONE, True), (LEARNED, SCANNER, False), (UNKNOWN, SCANNER, True))


def measure(backend: str, rounds: int) -> list[Figure]:
    """All figures of one backend."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pump = os.path.join(folder, "pump")
        subprocess.run(["gcc", "-O2", "-o", pump, _PUMP], check=True)
        files = {}
        for number, payload in enumerate({PHONE, SCANNER}):
            files[payload] = os.path.join(folder, str(number))
            Path(files[payload]).write_bytes(payload)
        variants: list[tuple[str, str]] = []
        lines = []
        for policy, load in _policies().items():
            pair = Pair(backend)
            stack.callback(pair.close)
            load(pair)
            for traffic, payload, fresh in _TRAFFIC:
                source = pair.newcomers() if fresh else pair.caller()
                kind = "fresh" if fresh else "flow"
                hosts = f"{pair.peer.name} {pair.pbx.name}"
                ends = f"4 {source} 5062 {pair.listener()} 5060"
                lines.append(f"{len(variants)} {hosts} {ends} {kind} {files[payload]}")
                variants.append((policy, traffic))
        # the last processor: interrupts and everybody else prefer the first
        cpu = max(os.sched_getaffinity(0))
        argv = [pump, str(cpu), str(rounds + _WARM_UP), str(BATCH)]
        out = subprocess.run(argv, input="\n".join(lines) + "\n", text=True, stdout=subprocess.PIPE, check=True).stdout
    return _figures(variants, out)


def _figures(variants: Sequence[tuple[str, str]], out: str) -> list[Figure]:
    whole: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    send: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    delivered: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in out.splitlines():
        number, turn, sent, received, send_ns, receive_ns = map(int, line.split())
        if turn < _WARM_UP:
            continue
        key = variants[number]
        whole[key][turn] = (send_ns + receive_ns) / sent
        send[key][turn] = send_ns / sent
        delivered[key].append(received / sent)

    def ratios(values: dict[tuple[str, str], dict[int, float]], key: tuple[str, str], base: str) -> list[float]:
        other = values[base, key[1]]
        return [value / other[turn] for turn, value in values[key].items()]

    figures = []
    for policy, traffic in variants:
        key = (policy, traffic)
        to_none = ratios(whole, key, NONE)
        low, median, high = statistics.quantiles(to_none, n=4)
        figures.append(
            Figure(
                policy,
                traffic,
                statistics.mean(delivered[key]),
                statistics.median(whole[key].values()),
                statistics.median(send[key].values()),
                median,
                low,
                high,
                statistics.median(ratios(whole, key, CONNTRACK)),
                statistics.median(ratios(send, key, NONE)),
            )
        )
    return figures


def table(figures: Sequence[Figure]) -> str:
    """The figures for people."""
    lines = [
        f"{'':55}{'delivered':>10}{'ns':>9}{'x none':>9}{'quartiles':>15}{'x conntrack':>13}{'send only, x none':>19}"
    ]
    for traffic in dict.fromkeys(figure.traffic for figure in figures):
        for figure in figures:
            if figure.traffic != traffic:
                continue
            goal = GOALS.get((figure.policy, traffic))
            said = ""
            if goal:
                reached = ["reached" if ratio <= goal else "missed" for ratio in (figure.to_none, figure.to_conntrack)]
                said = f"   goal {goal:.2f}: x none {reached[0]}, x conntrack {reached[1]}"
            lines.append(
                f"{traffic:27}{figure.policy:28}{figure.delivered:10.2f}{figure.ns:9.0f}{figure.to_none:9.3f}"
                f"{f'{figure.low:.3f}-{figure.high:.3f}':>15}{figure.to_conntrack:13.3f}{figure.send_to_none:19.3f}{said}"
            )
        lines.append("")
    return "\n".join(lines)


def as_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures for programs."""
    return [asdict(figure) for figure in figures]
