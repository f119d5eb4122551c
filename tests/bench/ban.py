# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fail2ban on a PBX: how long a ban takes, from the wrong password that is one too many to the first packet that Asterisk does not get;
and whether all our jails together read as fast as Asterisk writes in a flood.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lab.paths import LabError
from tests.asterisk.phone import Message
from tests.fail2ban.attacks import Request, credentials
from tests.hosts.machine import CACHE, CHECKOUT, Machine
from tests.hosts.neighbours import Neighbours

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
_RETRIES = 5
_PATIENCE = 20.0  # s
_STEP = 0.01  # s between two probes
_PLAY = "- hosts: all\n  gather_facts: false\n  roles: [sipguard.pbx.pbx_fail2ban]\n"


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


@contextmanager
def _protected(image: str) -> Iterator[Machine]:
    """A PBX with the role pbx_fail2ban and nothing else."""
    host = Machine("benchban", image)
    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "play.yml").write_text(_PLAY, encoding="utf-8")
            inventory = {"all": {"hosts": {"pbx": host.info["ansible"]}}}
            (Path(folder) / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")
            argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", f"{folder}/inventory.json"]
            done = subprocess.run(
                [*argv, f"{folder}/play.yml"],
                cwd=CHECKOUT,
                env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(CACHE), "ANSIBLE_HOME": f"{folder}/ansible"},
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise LabError(done.stdout[-2000:])
        yield host
    finally:
        host.close()


def _guess(sock: socket.socket, here: str) -> float:
    """One wrong password; when its answer to the challenge went out."""
    request = Request(user="1001", uri="sip:sip.lab.example")
    sock.send(request.wire(here, "udp"))
    challenge = Message.parse(sock.recv(65535)).header("www-authenticate")
    header = credentials(challenge, request)
    sock.send(replace(request, headers=(header,), number=2).wire(here, "udp"))
    sent = time.monotonic()
    sock.recv(65535)
    return sent


def _once(neighbours: Neighbours, number: int) -> float:
    """Seconds from the last wrong password to the first request that is not answered, and none after it."""
    with neighbours.reaching(neighbours.at(number), 4) as sock:
        host, port = sock.getsockname()
        sent = 0.0
        for dummy in range(_RETRIES):
            sent = _guess(sock, f"{host}:{port}")
        asked: list[tuple[str, float]] = []
        answered: set[str] = set()
        sock.settimeout(_STEP)
        quiet = 0.0
        # When nothing has come for a second while requests went out, the first of those without an answer is the first one dropped.
        while quiet < 1.0:
            now = time.monotonic()
            if now - sent > _PATIENCE:
                raise TimeoutError("nobody was banned")
            request = Request(method="OPTIONS", user="1001", uri="sip:sip.lab.example")
            asked.append((request.unique, now))
            sock.send(request.wire(f"{host}:{port}", "udp"))
            try:
                while True:
                    answered.add(Message.parse(sock.recv(65535)).header("call-id"))
            except TimeoutError:
                last = max((when for name, when in asked if name in answered), default=sent)
                quiet = time.monotonic() - last
        return next(when for name, when in asked if when > last and name not in answered) - sent


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
        with _protected(image) as host:
            neighbours = Neighbours(host)
            seconds = [_once(neighbours, 203 + number) for number in range(repeats)]
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
