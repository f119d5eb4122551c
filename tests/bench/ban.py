# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fail2ban on a PBX: how long a ban takes, from the wrong password that is one too many to the first packet that Asterisk does not get;
and whether all our jails together read as fast as Asterisk writes in a flood.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from tests.fail2ban.attacks import Request
from tests.hosts.machine import Machine
from tests.hosts.neighbours import Neighbours

from .guessing import protected, until_dropped

__all__ = ["GOAL", "Figure", "measure", "table"]

_FLOOD = 5.0  # s
# What reads what, as in roles/pbx_fail2ban/templates/asterisk.conf.j2.
_JAILS = (
    ("sipguard-notices", "sipguard-asterisk[mode=login]"),
    ("sipguard-notices", "sipguard-asterisk[mode=scan]"),
    ("sipguard-security", "sipguard-asterisk-security[mode=stream, unknown=no]"),
    ("sipguard-security", "sipguard-asterisk-security[mode=udp, unknown=no]"),
)

GOAL = 2.0  # s
_IMAGES = {"Asterisk 16, fail2ban 0.11.2": "debian11-asterisk16", "Asterisk 22, fail2ban 1.1.1": "sid-asterisk22"}


@dataclass(frozen=True)
class Figure:
    """Seconds of each ban, by what banned on which PBX.

    ``lines`` is how many lines Asterisk wrote in a second of the flood, ``read`` how many of them all jails together read in one.
    """

    what: str
    seconds: list[float]
    lines: float
    read: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def _flood(host: Machine, neighbours: Neighbours) -> tuple[float, float]:
    """Lines a second that Asterisk writes while one source sends as fast as it can, and lines a second that the jails read of these."""
    host.run("systemctl", "stop", "fail2ban")
    logs = [f"/var/log/asterisk/{name}" for name in dict(_JAILS)]
    host.run("truncate", "-s", "0", *logs)
    with neighbours.reaching(neighbours.at(250), 4) as sock:
        here = "{}:{}".format(*sock.getsockname())
        start = time.monotonic()
        while time.monotonic() - start < _FLOOD:
            sock.send(Request(user="nobody", uri="sip:sip.lab.example").wire(here, "udp"))
    written = [int(host.run("sh", "-c", f"wc -l <{log}")) for log in logs]
    wall = time.monotonic() - start
    spent = 0.0
    for name, text in _JAILS:
        begin = time.monotonic()
        host.call("fail2ban-regex", "--print-no-missed", f"/var/log/asterisk/{name}", text)
        spent += time.monotonic() - begin
    return sum(written) / wall, sum(written) / spent


def measure(repeats: int) -> list[Figure]:
    """A figure for each PBX."""
    found = []
    for what, image in _IMAGES.items():
        with protected("benchban", image, "pbx_fail2ban") as host:
            neighbours = Neighbours(host)
            seconds = [until_dropped(neighbours, 203 + number) for number in range(repeats)]
            found.append(Figure(what, seconds, *_flood(host, neighbours)))
    return found


def table(figures: list[Figure]) -> str:
    """For people."""
    lines = [f"{'':34}{'median':>9}{'best':>9}{'worst':>9}"]
    for each in figures:
        numbers = (each.median, min(each.seconds), max(each.seconds))
        verdict = "reached" if each.median <= GOAL else "MISSED"
        lines.append(
            f"{each.what:34}" + "".join(f"{number:8.2f}s" for number in numbers) + f"   goal {GOAL:g} s: {verdict}"
        )
    lines.append("\nA source that sends as fast as it can, lines a second:\n")
    lines.append(f"{'':34}{'Asterisk writes':>18}{'all jails read':>18}")
    for each in figures:
        verdict = "reached" if each.read >= each.lines else "MISSED"
        ratio = f"{each.read / each.lines:.1f} times; goal 1: {verdict}" if each.lines else "nothing was written"
        lines.append(f"{each.what:34}{each.lines:18.0f}{each.read:18.0f}   {ratio}")
    return "\n".join(lines)
