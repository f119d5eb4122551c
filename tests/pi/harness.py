# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Pi's controller, those who call it, and what is measured of it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.paths import progress
from lab.pi import ADDRESS4, ADDRESS6, Pi, startup_seconds
from tests.hosts.neighbours import Neighbours

__all__ = ["CHECKOUT", "DOMAIN", "Figures", "Footprint", "Run", "Site", "eventually"]

CHECKOUT = Path(__file__).resolve().parents[2]
DOMAIN = "sip.lab.example"
CONTROLLER = "10.0.2.2"  # as the Pi sees it: QEMU's user network
PATIENCE, SILENCE = 20.0, 3.0  # s; an answer takes tens of milliseconds there
RUN_SECONDS = 1800
# Everything that is off by default as well.
VARIABLES: dict[str, Any] = {
    "pbx_admins": [CONTROLLER, "10.213.76.201", "fd5a:9c1e:77d2:76::201"],
    "pbx_trunks": ["10.213.76.34", "fd5a:9c1e:77d2:76::34"],
    "pbx_sip_domains": [DOMAIN],
    # It has as much time as a machine needs whose processor is emulated, on a controller that may have other things to do.
    "pbx_firewall_confirm_within": 1800,
    "pbx_firewall_gate": True,
    "pbx_firewall_host_policy": True,
}
SERVICES = ("asterisk", "fail2ban", "sipband", "sipguard-repair")


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether a condition comes true in time. The conditions here ask the Pi or wait for silence, so nothing spins."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
    return True


@dataclass(frozen=True)
class Run:
    """One ansible-playbook: its output, the host's line of the recap, and how long it took."""

    output: str
    recap: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class Footprint:
    """What a machine that has just booted has spent: MiB in use, seconds of its start, MiB of each service."""

    used: float
    startup: dict[str, float]
    services: dict[str, float]

    @classmethod
    def of(cls, pi: Pi) -> Footprint:
        # Caches can be given back: without them it is the same each time. Every connection open is counted before and after alike.
        pi.run("sync; echo 3 > /proc/sys/vm/drop_caches")
        memory = dict(re.findall(r"^(\w+): +(\d+) kB", pi.run("cat /proc/meminfo"), re.MULTILINE))
        services = {}
        for name in SERVICES:
            # proportional set size of all its processes: the memory controller is off, as on a real one
            pids = pi.call(f"systemctl show -p ControlGroup --value {name}.service").stdout.strip()
            script = f"for p in $(cat /sys/fs/cgroup{pids}/cgroup.procs); do cat /proc/$p/smaps_rollup; done"
            sizes = re.findall(r"^Pss: +(\d+) kB", pi.call(script).stdout, re.MULTILINE) if pids else []
            if sizes:
                services[name] = sum(map(int, sizes)) / 1024
        used = (int(memory["MemTotal"]) - int(memory["MemAvailable"])) / 1024
        return cls(used, startup_seconds(pi.run("systemd-analyze time")), services)


@dataclass
class Figures:
    """What the run prints at its end."""

    steps: list[tuple[str, float]] = field(default_factory=list)
    footprints: dict[str, Footprint] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Time a step, and say that it goes on."""
        started = time.monotonic()
        with progress(what):
            yield
        self.steps.append((what, time.monotonic() - started))

    def table(self) -> list[str]:
        """All of it, a line each."""
        lines = [f"{what:44} {seconds:7.1f} s" for what, seconds in self.steps]
        lines.append(
            f"(the controller, {os.cpu_count()} cores, was busy with {os.getloadavg()[2]:.1f} processes in the last 15 min)"
        )
        for when, footprint in self.footprints.items():
            startup = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in footprint.startup.items())
            services = ", ".join(f"{name} {size:.1f}" for name, size in footprint.services.items())
            lines += [f"{when}: {footprint.used:.1f} MiB in use ({services})", f"{when}: start: {startup}"]
        return lines + self.lines


class Site:
    """The Pi, its controller with an inventory, and its neighbours."""

    def __init__(self, pi: Pi, folder: Path, figures: Figures) -> None:
        self.pi, self.figures, self._folder = pi, figures, folder
        self.neighbours = Neighbours(self)
        self._numbers = itertools.count(210)  # last parts of addresses that the Pi has not heard of yet
        inventory = {"all": {"hosts": {"pi": pi.ansible()}, "vars": VARIABLES}}
        (folder / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")

    @property
    def info(self) -> dict[str, str]:
        """Where it is, as the neighbours ask for it."""
        return {"address": ADDRESS4, "address6": ADDRESS6}

    def play(self, what: str, *argv: str, **variables: Any) -> Run:
        """The main job; ``what`` is the step's name among the figures. An AssertionError with all it said when it fails."""
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self._folder / "inventory.json")]
        command += ["-e", json.dumps(variables), *argv, str(CHECKOUT / "playbooks/harden-pbx.yml")]
        started = time.monotonic()
        with self.figures.step(what):
            done = subprocess.run(
                command,
                env={
                    **os.environ,
                    "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".cache"),
                    "ANSIBLE_HOME": str(self._folder / "ansible"),
                    "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._folder),
                    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=1800",
                    "ANSIBLE_NOCOLOR": "1",
                },
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=RUN_SECONDS,
            )
        seconds = time.monotonic() - started
        assert done.returncode == 0, done.stdout + done.stderr
        line = re.search(r"^pi +: (.*)$", done.stdout, re.MULTILINE)
        assert line is not None, done.stdout
        recap = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line[1])}
        self.figures.lines.append(f"{what}: {recap['ok']} tasks, {recap['changed']} of them changed something")
        return Run(done.stdout, recap, seconds)

    # -- callers

    def newcomer(self) -> dict[int, str]:
        """A stranger of whom the Pi has not heard yet, by his address of each family."""
        return self.neighbours.at(next(self._numbers))

    def asks(
        self, source: dict[int, str], transport: str, family: int, user_agent: str, patience: float = PATIENCE
    ) -> tuple[str, str]:
        """The answer's first line to OPTIONS for the PBX's domain ("" for silence within ``patience`` seconds), and the Call-ID."""
        ident, kind = uuid.uuid4().hex, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        try:
            with self.neighbours.reaching(source, family, kind, patience=patience) as sock:
                host, port = sock.getsockname()[:2]
                here = f"[{host}]:{port}" if family == 6 else f"{host}:{port}"
                lines = [
                    f"OPTIONS sip:{DOMAIN} SIP/2.0",
                    f"Via: SIP/2.0/{transport.upper()} {here};branch=z9hG4bK{ident};rport",
                    "Max-Forwards: 70",
                    f"From: <sip:100@{DOMAIN}>;tag={ident[:8]}",
                    f"To: <sip:100@{DOMAIN}>",
                    f"Call-ID: {ident}",
                    "CSeq: 1 OPTIONS",
                    f"Contact: <sip:100@{here}>",
                    f"User-Agent: {user_agent}",
                    "Content-Length: 0",
                ]
                sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
                return sock.recv(65535).decode(errors="replace").partition("\r\n")[0], ident
        except OSError:
            return "", ident

    def heard(self, *call_ids: str) -> set[str]:
        """Which of the requests Asterisk itself has received; it logs every message once ``sip set debug on`` was said."""
        found = self.pi.call("cat /var/log/asterisk/full").stdout
        return {ident for ident in call_ids if ident in found}
