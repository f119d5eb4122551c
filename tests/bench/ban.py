# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes from the wrong password that is one too many to the first packet that Asterisk does not get."""

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

from tests.asterisk.phone import Message
from tests.fail2ban.attacks import Request, credentials
from tests.hosts.machine import CACHE, CHECKOUT, Machine
from tests.hosts.neighbours import Neighbours

__all__ = ["GOAL", "Figure", "measure", "table"]

GOAL = 2.0  # s
_IMAGES = {"Asterisk 16, fail2ban 0.11.2": "debian11-asterisk16", "Asterisk 22, fail2ban 1.1.1": "sid-asterisk22"}
_RETRIES = 5
_PATIENCE = 20.0  # s
_STEP = 0.01  # s between two probes
_PLAY = "- hosts: all\n  gather_facts: false\n  roles: [sipguard.pbx.pbx_fail2ban]\n"


@dataclass(frozen=True)
class Figure:
    """Seconds of each ban, by what banned on which PBX."""

    what: str
    seconds: list[float]

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
            subprocess.run(
                [*argv, f"{folder}/play.yml"],
                cwd=CHECKOUT,
                env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(CACHE), "ANSIBLE_HOME": f"{folder}/ansible"},
                check=True,
                stdout=subprocess.DEVNULL,
            )
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


def measure(repeats: int) -> list[Figure]:
    """A figure for each PBX."""
    found = []
    for what, image in _IMAGES.items():
        with _protected(image) as host:
            neighbours = Neighbours(host)
            found.append(Figure(what, [_once(neighbours, 100 + number) for number in range(repeats)]))
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
    return "\n".join(lines)
