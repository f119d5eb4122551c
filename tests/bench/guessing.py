# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PBX with some of our roles, and somebody who guesses passwords there until he is no longer answered."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from lab.paths import LabError
from tests.asterisk.phone import Message
from tests.fail2ban.attacks import Request, credentials
from tests.hosts.machine import CACHE, CHECKOUT, Machine
from tests.hosts.site import speak

__all__ = ["RETRIES", "Reaching", "protected", "until_dropped"]

RETRIES = 5  # wrong passwords that fail2ban's jails and sipband allow for, the last one included
_PATIENCE = 20.0  # s


class Reaching(Protocol):
    """Who can send from many addresses (tests/hosts/neighbours.py)."""

    def at(self, number: int) -> dict[int, str]: ...

    def reaching(self, source: dict[int, str], family: int) -> socket.socket: ...


@contextlib.contextmanager
def protected(project: str, image: str, *roles: str, driver: str = "") -> Iterator[Machine]:
    """A PBX with these roles and nothing else; its Asterisk 16 with that ``driver``, "" for the one it has."""
    host = Machine(project, image)
    try:
        if driver:
            speak(host, driver)
        with tempfile.TemporaryDirectory() as folder:
            names = [f"sipguard.pbx.{role}" for role in roles]
            play = [{"hosts": "all", "gather_facts": False, "roles": names}]
            (Path(folder) / "play.yml").write_text(json.dumps(play), encoding="utf-8")
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
    """One wrong password; when its answer to the challenge went out, that is just before it did: whoever gets it may be served first."""
    request = Request(user="1001", uri="sip:sip.lab.example")
    sock.send(request.wire(here, "udp"))
    challenge = Message.parse(sock.recv(65535)).header("www-authenticate")
    header = credentials(challenge, request)
    wire = replace(request, headers=(header,), number=2).wire(here, "udp")
    sent = time.monotonic()
    sock.send(wire)
    sock.recv(65535)
    return sent


def until_dropped(
    neighbours: Reaching, number: int, *, guesses: int = RETRIES, step: float = 0.01, quiet: float = 1.0
) -> float:
    """Seconds from the last wrong password to the first request that is not answered, and none after it.

    Requests go out every ``step`` seconds, until none of the last ``quiet`` seconds has been answered. Raises TimeoutError.
    """
    with neighbours.reaching(neighbours.at(number), 4) as sock:
        host, port = sock.getsockname()
        sent = 0.0
        for dummy in range(guesses):
            sent = _guess(sock, f"{host}:{port}")
        asked: dict[str, float] = {}
        answered = sent  # when the last request went out that has been answered
        sock.settimeout(step)
        while not asked or time.monotonic() - answered < quiet:
            now = time.monotonic()
            if now - sent > _PATIENCE:
                raise TimeoutError("nobody was banned")
            request = Request(method="OPTIONS", user="1001", uri="sip:sip.lab.example")
            asked[request.unique] = now
            sock.send(request.wire(f"{host}:{port}", "udp"))
            with contextlib.suppress(TimeoutError):
                while True:
                    call = Message.parse(sock.recv(65535)).header("call-id")
                    answered = max(answered, asked.get(call, answered))
        return min(when for when in asked.values() if when > answered) - sent
