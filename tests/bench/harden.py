# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seconds that harden_pbx takes with everything on, from a controller to a container over SSH, beside what Ansible takes to say hello."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.harness import Controller, LabHost, lab

__all__ = ["FIRST_GOAL", "REPEATED_GOAL", "Timed", "measure", "table"]

FIRST_GOAL, REPEATED_GOAL = 12.0, 8.0  # s
_EVERYTHING = {
    "pbx_sip_domains": ["pbx.example.test"],
    "pbx_trunks": ["203.0.113.0/24"],
    "pbx_firewall_gate": True,
    "pbx_firewall_limits_ssh": {"rate": "10/minute", "burst": 30},
    "pbx_firewall_host_policy": True,
}


@dataclass(frozen=True)
class Timed:
    """Medians in seconds: the first run on a host that has its packages, one that finds nothing to do, and a ping that gathers facts."""

    first: float
    repeated: float
    ping: float


def measure(repeats: int) -> Timed:
    """Bring one host up, and harden it that many times from nothing."""
    lab("down")
    try:
        host = LabHost("pbx", "debian12")
        with tempfile.TemporaryDirectory() as folder:
            controller = Controller(Path(folder), [host])
            hello = Path(folder) / "hello.yml"
            hello.write_text(json.dumps([{"hosts": "all", "tasks": [{"ansible.builtin.ping": {}}]}]), encoding="utf-8")
            first, repeated, ping = [], [], []
            for dummy in range(repeats):
                ping.append(_seconds(lambda: controller.play(str(hello)))[0])
                first.append(_seconds(lambda: controller.harden(**_EVERYTHING))[0])
                seconds, said = _seconds(lambda: controller.harden(**_EVERYTHING))
                assert "changed=0" in said, said
                repeated.append(seconds)
                _seconds(lambda: controller.harden(pbx_firewall_state="absent"))
    finally:
        lab("down")
    return Timed(*(statistics.median(values) for values in (first, repeated, ping)))


def _seconds(play: Callable[[], subprocess.CompletedProcess[str]]) -> tuple[float, str]:
    """How long a play took, and what it said."""
    begun = time.monotonic()
    done = play()
    assert done.returncode == 0, done.stdout
    return time.monotonic() - begun, done.stdout


def table(timed: Timed) -> str:
    """The figures for people."""

    def line(what: str, seconds: float, goal: float | None = None) -> str:
        said = "" if goal is None else f"   goal {goal:.0f}: {'reached' if seconds <= goal else 'missed'}"
        return f"{what:58}{seconds:8.1f} s{said}"

    return "\n".join(
        [
            line("first run, everything on, packages are there", timed.first, FIRST_GOAL),
            line("repeated run, changed=0", timed.repeated, REPEATED_GOAL),
            line("a play that gathers facts and pings, for comparison", timed.ping),
            "",
        ]
    )
