# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Floods of REGISTER against real Asterisks while phones register and call: how many calls come through, and what it costs."""

from __future__ import annotations

import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.inventory import SIP_DOMAIN

from .flood_hosts import FAIL2BAN, OURS, PROTECTIONS, UNPROTECTED, Pbx, Site, site

__all__ = [
    "CALM",
    "GOAL_COMPLETED",
    "GOAL_PROCESSOR",
    "Attack",
    "Figure",
    "Sample",
    "completed",
    "figures",
    "measure",
    "table",
]

GOAL_COMPLETED = 0.99  # share of the calls
GOAL_PROCESSOR = 1.3  # times what Asterisk uses for the same calls without any attack

VERSIONS = ("16", "22")
RATE = 5000  # packets a second that the attackers send, whatever becomes of them
SECONDS = 5
CALLS = 20  # new calls a second
_FLOOD = Path(__file__).with_name("flood.c")


@dataclass(frozen=True)
class Attack:
    """Whether the attackers know the domain decides what they name in their requests: the bare address or the domain."""

    sources: int
    informed: bool = False

    def __str__(self) -> str:
        if not self.sources:
            return "no attack"
        many = "1 source" if self.sources == 1 else f"{self.sources} sources"
        return f"{many}, knows the domain" if self.informed else many


CALM = Attack(0)
_IGNORANT = (Attack(1), Attack(5000))
# To a protection that does not look for the domain they are the same as the ignorant ones.
_INFORMED = (Attack(1, True), Attack(5000, True))


@dataclass(frozen=True)
class Sample:
    """One run. ``processor`` and ``fail2ban`` are seconds of processor time a second while the attack lasted."""

    version: str
    protection: str
    attack: Attack
    calls: int
    completed: int
    sent: int
    reached: int
    processor: float
    fail2ban: float


@dataclass(frozen=True)
class Figure:
    """All rounds of one case.

    ``completed`` and ``reached`` are shares over all rounds, the others medians. ``ratio`` is to the same calls of the same
    round without any attack and without any protection, ``low`` and ``high`` its extremes.
    """

    version: str
    protection: str
    attack: str
    completed: float
    reached: float
    sent: int
    processor: float
    ratio: float
    low: float
    high: float
    fail2ban: float


def _cases() -> list[tuple[str, str, Attack]]:
    cases = []
    for version in VERSIONS:
        cases.append((version, UNPROTECTED, CALM))
        for protection in PROTECTIONS:
            attacks = (*_IGNORANT, *_INFORMED) if protection == OURS else _IGNORANT
            cases += [(version, protection, attack) for attack in attacks]
    return cases


def completed(screen: str) -> int:
    """How many calls sipp's last screen calls successful."""
    found = re.findall(r"^ *Successful call +\| +\d+ +\| +(\d+)", screen, re.MULTILINE)
    assert found, f"not a screen of sipp:\n{screen[-2000:]}"
    return int(found[-1])


def _run(place: Site, pbx: Pbx, attack: Attack, program: str, seconds: int) -> Sample:
    calls = CALLS * seconds
    first = pbx.newcomers(attack.sources)
    watched = ["asterisk.service", *(["fail2ban.service"] if pbx.protection == FAIL2BAN else [])]
    pbx.count()
    before = [pbx.processor_seconds(service) for service in watched]
    sipp = place.strangers.start_calls(pbx, calls, CALLS)
    try:
        started = time.monotonic()
        sent = 0
        if attack.sources:
            domain = SIP_DOMAIN if attack.informed else pbx.address
            sent = place.strangers.flood(program, first, attack.sources, pbx, domain, RATE, seconds)
        else:
            time.sleep(seconds)
        passed = time.monotonic() - started
        used = [pbx.processor_seconds(service) - then for service, then in zip(watched, before, strict=True)]
        screen = sipp.communicate(timeout=10 * seconds)[0]
    finally:
        sipp.kill()
        sipp.wait()
    reached = pbx.reached()
    if reached or pbx.protection == FAIL2BAN:
        pbx.fresh()  # what is left of the attack must not weigh on the next run
    shares = [seconds_used / passed for seconds_used in used]
    return Sample(
        pbx.version,
        pbx.protection,
        attack,
        calls,
        completed(screen),
        sent,
        reached,
        shares[0],
        shares[1] if len(shares) > 1 else 0.0,
    )


def measure(rounds: int, seconds: int = SECONDS) -> list[Figure]:
    """All cases take turns, in a random order in every round."""
    order = random.Random(1)
    samples: list[list[Sample]] = []
    with tempfile.TemporaryDirectory() as folder, site(VERSIONS) as place:
        program = f"{folder}/flood"
        subprocess.run(["gcc", "-O2", "-o", program, _FLOOD], check=True)
        pbxs = {(pbx.version, pbx.protection): pbx for pbx in place.pbxs}
        for turn in range(rounds):
            cases = _cases()
            order.shuffle(cases)
            samples.append([])
            for version, protection, attack in cases:
                sample = _run(place, pbxs[version, protection], attack, program, seconds)
                samples[-1].append(sample)
                print(
                    f"  round {turn + 1} of {rounds}: Asterisk {version}, {protection}, {attack}: "
                    f"{sample.completed} of {sample.calls} calls, {sample.reached} of {sample.sent} packets",
                    file=sys.stderr,
                    flush=True,
                )
    return figures(samples)


def figures(rounds: Sequence[Iterable[Sample]]) -> list[Figure]:
    """The samples of every round, put together case by case."""
    by_case: dict[tuple[str, str, Attack], list[tuple[Sample, float]]] = {}
    for turn in rounds:
        samples = list(turn)
        calm = {sample.version: sample.processor for sample in samples if sample.attack == CALM}
        for sample in samples:
            case = (sample.version, sample.protection, sample.attack)
            by_case.setdefault(case, []).append((sample, sample.processor / calm[sample.version]))
    found = []
    for (version, protection, attack), pairs in by_case.items():
        own, ratios = [sample for sample, dummy in pairs], [ratio for dummy, ratio in pairs]
        sent = sum(sample.sent for sample in own)
        found.append(
            Figure(
                version,
                protection,
                str(attack),
                sum(sample.completed for sample in own) / sum(sample.calls for sample in own),
                sum(sample.reached for sample in own) / sent if sent else 0.0,
                sent // len(own),
                statistics.median(sample.processor for sample in own),
                statistics.median(ratios),
                min(ratios),
                max(ratios),
                statistics.median(sample.fail2ban for sample in own),
            )
        )
    order = [(version, protection, str(attack)) for version, protection, attack in _cases()]
    return sorted(found, key=lambda figure: order.index((figure.version, figure.protection, figure.attack)))


def _goal(figure: Figure) -> str:
    """What is said of a case that the goal is about: ours, with thousands of sources."""
    if figure.protection != OURS or not figure.attack.startswith("5000"):
        return ""
    reached = [
        "reached" if good else "missed" for good in (figure.completed >= GOAL_COMPLETED, figure.ratio <= GOAL_PROCESSOR)
    ]
    return f"   goal {GOAL_COMPLETED:.0%}: {reached[0]}, {GOAL_PROCESSOR} x calm: {reached[1]}"


def table(found: Sequence[Figure]) -> str:
    """The figures for people."""
    lines = []
    for version in dict.fromkeys(figure.version for figure in found):
        lines.append(
            f"{f'Asterisk {version}':20}{'':32}{'calls':>8}{'Asterisk, s/s':>15}{'x calm':>8}{'extremes':>14}{'reached it':>12}"
        )
        for figure in found:
            if figure.version != version:
                continue
            extremes = f"{figure.low:.2f}-{figure.high:.2f}"
            said = f"   fail2ban itself {figure.fail2ban:.2f} s/s" if figure.protection == FAIL2BAN else _goal(figure)
            lines.append(
                f"{figure.protection:20}{figure.attack:32}{figure.completed:8.1%}{figure.processor:15.3f}"
                f"{figure.ratio:8.2f}{extremes:>14}{figure.reached if figure.sent else 0:12.2%}{said}"
            )
        lines.append("")
    return "\n".join(lines)


def as_json(found: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures for programs."""
    return [asdict(figure) for figure in found]
