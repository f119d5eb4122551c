# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time of the first and of a repeated application, through Ansible, against one task per rule and against ping."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.harness.modules import collection_path, environment

from .pair import Pair

__all__ = ["PING_GOAL", "Runs", "measure", "table"]

PING_GOAL = 1.5  # times ansible.builtin.ping, for an unchanged run
RULES = 74
_CALLBACKS = Path(__file__).with_name("callback_plugins")
_TOOLS = (
    *(
        f"{family}tables{kind}-{tool}"
        for family in ("ip", "ip6")
        for kind in ("", "-nft", "-legacy")
        for tool in ("save", "restore")
    ),
    *("iptables", "ip6tables", "ipset", "nft", "conntrack"),
)


@dataclass(frozen=True)
class Runs:
    """Seconds of tasks, as Ansible sees them; `started` counts the programs an unchanged run started."""

    ping: float
    first: float
    repeated: float
    repeated_to_ping: float
    low: float
    high: float
    rules: int
    each_first: float
    each_repeated: float
    started: dict[str, int]


def _play(pair: Pair, folder: str, tasks: list[dict[str, Any]], path: str = "") -> list[tuple[str, float, bool]]:
    """(name, seconds, changed) of every task, run by ansible-playbook on the PBX itself."""
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    playbook, times = os.path.join(folder, "play.yml"), os.path.join(folder, "times.json")
    Path(playbook).write_text(json.dumps(play))
    env = environment()
    env |= {
        "PATH": f"{path}:{env['PATH']}" if path else env["PATH"],
        "ANSIBLE_COLLECTIONS_PATH": str(collection_path()),
        "ANSIBLE_CALLBACK_PLUGINS": str(_CALLBACKS),
        "ANSIBLE_CALLBACKS_ENABLED": "task_times",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_LOCAL_TEMP": folder,
        "ANSIBLE_REMOTE_TEMP": folder,
        "TASK_TIMES": times,
    }
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", playbook]
    done = subprocess.run(
        pair.pbx.argv(*argv), env=env, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(Path(times).read_text())
    return [(str(name), float(seconds), bool(changed)) for name, seconds, changed in found]


def _count_programs(folder: str) -> tuple[str, Path]:
    """A folder for PATH in which every netfilter program first writes its name into the file that is also returned."""
    path, log = os.path.join(folder, "counted"), Path(folder, "started")
    os.mkdir(path)
    log.touch()
    for tool in _TOOLS:
        script = Path(path, tool)
        script.write_text(f'#!/bin/sh\necho {tool} >>{log}\nexec /usr/sbin/{tool} "$@"\n')
        script.chmod(0o755)
    return path, log


def measure(backend: str, repeats: int, rules: int = RULES) -> Runs:
    """All times of one backend; `rules` is how many rules the task per rule loops over."""
    ours = {"name": "ours", "sipguard.pbx.sip_ua_blocklist": {"backend": backend}}
    ping = {"name": "ping", "ansible.builtin.ping": {}}
    # ansible.builtin.iptables has no string match: the nearest it can say is one source per rule.
    each = {
        "name": "each",
        "ansible.builtin.iptables": {
            "chain": "INPUT",
            "protocol": "udp",
            "destination_port": "5060",
            "source": "198.18.0.{{ item }}",
            "jump": "DROP",
        },
        "loop": f"{{{{ range(1, {rules + 1}) | list }}}}",
    }
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pair = Pair(backend)
        stack.callback(pair.close)
        timed = _play(pair, folder, [ping, ours, *[ping, ours] * repeats])
        assert [changed for name, dummy, changed in timed if name == "ours"] == [True, *[False] * repeats]
        pings = [seconds for name, seconds, dummy in timed if name == "ping"][1:]
        own = [seconds for name, seconds, dummy in timed if name == "ours"]
        path, log = _count_programs(folder)
        _play(pair, folder, [ours], path)
        started: dict[str, int] = {}
        for tool in log.read_text().split():
            started[tool] = started.get(tool, 0) + 1
        other = Pair(backend)
        stack.callback(other.close)
        loops = _play(other, folder, [each, each])
        assert [changed for *dummy, changed in loops] == [True, False]
    low, median, high = statistics.quantiles([mine / theirs for mine, theirs in zip(own[1:], pings, strict=True)], n=4)
    return Runs(
        statistics.median(pings),
        own[0],
        statistics.median(own[1:]),
        median,
        low,
        high,
        rules,
        loops[0][1],
        loops[1][1],
        started,
    )


def table(runs: Runs) -> str:
    """The times for people."""
    reached = "reached" if runs.repeated_to_ping <= PING_GOAL else "missed"
    saves = [count for tool, count in runs.started.items() if tool.endswith("-save")]
    restores = sum(count for tool, count in runs.started.items() if tool.endswith("-restore"))
    few = "reached" if all(count == 1 for count in saves) and not restores else "missed"
    started = ", ".join(f"{count} x {tool}" for tool, count in sorted(runs.started.items())) or "none"
    per_rule = f"one ansible.builtin.iptables item a rule ({runs.rules})"
    spread = f"quartiles {runs.low:.2f}-{runs.high:.2f}"
    return "\n".join(
        [
            f"{'':48}{'first':>10}{'repeated':>10}",
            f"{'ansible.builtin.ping':48}{'':10}{runs.ping:9.3f}s",
            f"{'ours, sip_ua_blocklist':48}{runs.first:9.3f}s{runs.repeated:9.3f}s",
            f"{per_rule:48}{runs.each_first:9.3f}s{runs.each_repeated:9.3f}s",
            "",
            f"repeated run / ping: {runs.repeated_to_ping:.2f} ({spread})   goal {PING_GOAL}: {reached}",
            f"programs started by an unchanged run: {started}   goal one save a family, no restore: {few}",
        ]
    )
