# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""harden_pbx over 1 to 150 hosts at once: seconds, processor, memory, tasks; beside setup and as many pings on the same hosts."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

__all__ = [
    "COUNTS",
    "RATIO_GOAL",
    "SETTINGS",
    "Fleet",
    "Played",
    "Settings",
    "Size",
    "measure",
    "settings_table",
    "table",
    "try_settings",
]

COUNTS = (1, 10, 25, 50)
RATIO_GOAL = 1.3  # a repeated run, as times setup and as many pings
PROJECT = "bench"

_CHECKOUT = Path(__file__).resolve().parents[2]
_CALLBACKS = Path(__file__).with_name("callback_plugins")
_SAMPLE_SECONDS = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Settings:
    """How Ansible goes about it."""

    forks: int = 25
    pipelining: bool = True
    strategy: str = "linear"
    facts: bool = False  # gather them first, cached as JSON files

    def __str__(self) -> str:
        words = [self.strategy, f"{self.forks} forks", "pipelining" if self.pipelining else "no pipelining"]
        return ", ".join([*words, *(["facts gathered and cached"] if self.facts else [])])


# One thing changed at a time, beside the settings of everything else.
SETTINGS = (
    Settings(),
    Settings(strategy="free"),
    Settings(strategy="host_pinned"),
    Settings(forks=5),
    Settings(forks=10),
    Settings(forks=50),
    Settings(pipelining=False),
    Settings(facts=True),
)


@dataclass(frozen=True)
class Played:
    """One ansible-playbook: seconds on the clock, processor seconds of controller and hosts, MiB that all its processes held at most.

    ``tasks`` counts what one host was asked, skipped tasks included, ``modules`` what ran on it, and ``changed`` is that of all hosts.
    """

    seconds: float
    controller: float
    hosts: float
    mib: float
    tasks: int
    skipped: int
    modules: int
    changed: int

    @property
    def processor(self) -> float:
        """Processor seconds of everything."""
        return self.controller + self.hosts


@dataclass(frozen=True)
class Size:
    """So many hosts: the first run, repeated ones, and the references in turns with those.

    ``reference`` has as many pings as the repeated run has tasks that ran, ``strict`` as many as it ran modules on a host.
    """

    hosts: int
    first: Played
    repeated: list[Played]
    reference: list[Played]
    strict: list[Played]

    def median(self, what: str, runs: str = "repeated") -> float:
        """The median of a figure of the repeated runs or of the reference's."""
        return statistics.median(getattr(each, what) for each in getattr(self, runs))

    def ratio(self, what: str, runs: str = "reference") -> float:
        """The median of what a repeated run took, as times what the reference right after it took."""
        pairs = zip(self.repeated, getattr(self, runs), strict=True)
        return statistics.median(getattr(mine, what) / getattr(theirs, what) for mine, theirs in pairs)


@dataclass
class Fleet:
    """A fleet that is up, and a folder for what Ansible needs."""

    count: int
    project: str = PROJECT
    image: str = "debian12"
    inventory: str = ""
    namespaces: set[str] = field(default_factory=set)

    def __enter__(self) -> Fleet:
        self.inventory = self._lab("fleet-up", str(self.count), "--image", self.image).strip()
        started = self._lab("engine", "--", "ps", "-q", "--filter", f"label=org.sipguard.lab={self.project}").split()
        first = self._lab("engine", "--", "inspect", "--format", "{{.State.Pid}}", *started).split()
        self.namespaces = {os.readlink(f"/proc/{pid}/ns/pid") for pid in first}
        return self

    def __exit__(self, *dummy: object) -> None:
        self._lab("fleet-down")

    def _lab(self, command: str, *rest: str) -> str:
        argv = [
            sys.executable,
            "-m",
            "lab",
            command,
            *([] if command == "engine" else ["--project", self.project]),
            *rest,
        ]
        return subprocess.run(argv, cwd=_CHECKOUT, stdout=subprocess.PIPE, text=True, check=True).stdout

    def processor(self) -> float:
        """Processor seconds that all hosts have used since they came up: of processes that run, and of those that were waited for."""
        ticks = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "ns" / "pid") in self.namespaces:
                    # proc_pid_stat(5): utime, stime, cutime, cstime
                    ticks += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:15]))
            except OSError:  # gone meanwhile, or not to be looked at, and then none of ours
                continue
        return ticks / _TICKS

    def play(self, playbook: str, hosts: int, settings: Settings, **variables: Any) -> Played:
        """One run over the first ``hosts`` of the fleet; AssertionError with what it printed if it fails."""
        with tempfile.TemporaryDirectory() as folder:
            counts, config = Path(folder, "counts.json"), Path(folder, "ansible.cfg")
            config.touch()  # nobody's own counts
            argv = [sys.executable, "-m", "ansible", "playbook", "-i", self.inventory, "-l", f"all[0:{hosts - 1}]"]
            argv += ["-f", str(settings.forks), "-e", json.dumps(variables), playbook]
            env = {
                **os.environ,
                "ANSIBLE_CONFIG": str(config),
                "ANSIBLE_COLLECTIONS_PATH": str(_CHECKOUT / ".cache"),
                "ANSIBLE_HOME": folder,
                "ANSIBLE_CALLBACK_PLUGINS": str(_CALLBACKS),
                "ANSIBLE_CALLBACKS_ENABLED": "fleet_counts",
                "ANSIBLE_PIPELINING": str(settings.pipelining),
                "ANSIBLE_STRATEGY": settings.strategy,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false",
                "FLEET_COUNTS": str(counts),
            }
            hosts_before, before, start = self.processor(), _children(), monotonic()
            process = subprocess.Popen(
                argv, env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            most = _Memory(process.pid)
            said = process.communicate()[0]
            seconds, spent, mib = monotonic() - start, _children() - before, most.stop()
            on_hosts = self.processor() - hosts_before
            assert process.returncode == 0, said
            found = json.loads(counts.read_text(encoding="utf-8"))
        assert len(found) == hosts, f"{sorted(found)}: {hosts} hosts expected"
        one = max(found.values(), key=lambda each: len(each["modules"]))
        changed = sum(int(each["changed"]) for each in found.values())
        asked = int(one["ok"]) + int(one["skipped"])
        return Played(seconds, spent, on_hosts, mib, asked, int(one["skipped"]), len(one["modules"]), changed)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Memory:
    """The most that a process and all below it hold together, in MiB; what forks share counts once (Pss, proc_pid_smaps_rollup(5))."""

    def __init__(self, pid: int) -> None:
        self._pid, self._most, self._done = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._done.set()
        self._thread.join()
        return self._most / 1024

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self._most = max(self._most, self._held(self._pid))

    def _held(self, pid: int) -> int:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            held = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            below = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return held + sum(self._held(int(child)) for child in below)


def reference(tasks: int) -> list[dict[str, Any]]:
    """The play that a repeated run is compared with: ansible.builtin.setup, and as many pings."""
    pings: list[dict[str, Any]] = [{"ansible.builtin.ping": {}} for dummy in range(tasks)]
    return [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.setup": {}}, *pings]}]


def _harden(fleet: Fleet, hosts: int, settings: Settings, **variables: Any) -> Played:
    with tempfile.TemporaryDirectory() as folder:
        plays = [{"ansible.builtin.import_playbook": "sipguard.pbx.harden_pbx"}]
        path = Path(folder, "harden.yml")
        path.write_text(json.dumps(plays), encoding="utf-8")
        # One batch: what a canary costs is another question.
        return fleet.play(str(path), hosts, settings, pbx_serial="100%", **variables)


def _roles(fleet: Fleet, hosts: int, settings: Settings) -> Played:
    """The roles of the main job in a play of its own: harden_pbx itself keeps to the strategy linear."""
    names = [f"sipguard.pbx.pbx_{name}" for name in ("firewall", "blocklists", "asterisk", "fail2ban", "sipban")]
    known = {"__pbx_fail2ban_missing": "skip", "__pbx_sipban_missing": "skip"}
    plays = [{"hosts": "all", "become": True, "gather_facts": settings.facts, "vars": known, "roles": names}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "roles.yml")
        path.write_text(json.dumps(plays), encoding="utf-8")
        return fleet.play(str(path), hosts, settings)


def _setup_and_pings(fleet: Fleet, hosts: int, settings: Settings, tasks: int) -> Played:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "reference.yml")
        path.write_text(json.dumps(reference(tasks)), encoding="utf-8")
        return fleet.play(str(path), hosts, settings)


def measure(fleet: Fleet, counts: Sequence[int], rounds: int, settings: Settings | None = None) -> list[Size]:
    """All figures; every repeated run has to change nothing, or AssertionError."""
    settings = settings or Settings()
    sizes = []
    for position, hosts in enumerate(counts):
        if position:
            _harden(fleet, hosts, settings, pbx_firewall_state="absent")
        first = _harden(fleet, hosts, settings)
        repeated, compared, strict = [], [], []
        for dummy in range(rounds):
            again = _harden(fleet, hosts, settings)
            assert again.changed == 0, f"{again.changed} changes in a repeated run over {hosts} hosts"
            repeated.append(again)
            compared.append(_setup_and_pings(fleet, hosts, settings, again.tasks - again.skipped))
            strict.append(_setup_and_pings(fleet, hosts, settings, again.modules))
        sizes.append(Size(hosts, first, repeated, compared, strict))
        print(table(sizes[-1:]), file=sys.stderr, flush=True)
    return sizes


def try_settings(fleet: Fleet, hosts: int, rounds: int) -> list[tuple[Settings, Played]]:
    """The median repeated run of the roles under each of SETTINGS, in turns."""
    _harden(fleet, hosts, Settings())
    _roles(fleet, hosts, Settings())
    played: list[list[Played]] = [[] for dummy in SETTINGS]
    for dummy in range(rounds):
        for runs, settings in zip(played, SETTINGS, strict=True):
            runs.append(_roles(fleet, hosts, settings))
            assert runs[-1].changed == 0, f"{settings}: {runs[-1].changed} changes in a repeated run"
    middle = [sorted(runs, key=lambda each: each.seconds)[len(runs) // 2] for runs in played]
    return list(zip(SETTINGS, middle, strict=True))


def table(sizes: list[Size]) -> str:
    """The figures for people."""
    heads = {"hosts": 7, "first": 10, "repeated": 10, "tasks": 10, "ratio": 7, "CPU": 7, "modules": 10}
    widths = [*heads.items(), ("ratio", 7), ("CPU", 7), ("CPU", 9), ("MiB", 7), ("ran", 6), ("skipped", 9)]
    lines = [
        f"{'':27}{'setup and as many pings as ran':^48}{'of the repeated run, controller':^31}",
        "".join(f"{head:>{width}}" for head, width in widths),
    ]
    for size in sizes:
        last = size.repeated[-1]
        line = f"{size.hosts:7}{size.first.seconds:9.1f}s{size.median('seconds'):9.1f}s"
        for runs in ("reference", "strict"):
            ratios = f"{size.ratio('seconds', runs):7.2f}{size.ratio('processor', runs):7.2f}"
            line += f"{size.median('seconds', runs):9.1f}s{ratios}"
        line += (
            f"{size.median('controller'):8.1f}s{size.median('mib'):7.0f}{last.tasks - last.skipped:6}{last.skipped:9}"
        )
        lines.append(line)
    worst = sizes[-1].ratio("seconds")
    judged = "reached" if worst <= RATIO_GOAL else "missed"
    lines.append(
        f"ratio, {sizes[-1].hosts} hosts: {worst:.2f}   goal {RATIO_GOAL}: {judged}   changed=0 on every host: yes"
    )
    return "\n".join(lines)


def settings_table(found: list[tuple[Settings, Played]]) -> str:
    """The settings for people."""
    lines = [f"{'':52}{'repeated':>12}{'controller':>12}{'MiB':>8}"]
    for settings, run in found:
        lines.append(f"{settings!s:52}{run.seconds:11.1f}s{run.controller:11.1f}s{run.mib:8.0f}")
    return "\n".join(lines)
