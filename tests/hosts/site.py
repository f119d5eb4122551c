# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole PBXs under one controller, and who calls them: telephones, and those who would like to be one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.asterisk.phone import Message
from tests.fail2ban.attacks import FIRST_PACKET_NONCE, Request, credentials

from .harness import CHECKOUT, eventually
from .machine import CACHE, Machine
from .neighbours import Neighbours

__all__ = ["DOMAIN", "PASSWORD", "Caller", "Site", "changed", "machines", "speak"]

PASSWORD = "pT4v-Zq81-mWx6-Hn30"  # of the lab's telephone 1001
DOMAIN = "sip.lab.example"
_PATIENCE, _SILENCE = 60.0, 0.8  # s


class Caller:
    """Somebody with addresses of his own, next to one PBX."""

    def __init__(self, neighbours: Neighbours, number: int, transport: str = "udp") -> None:
        self._neighbours, self.source, self.transport = neighbours, neighbours.at(number), transport

    @contextlib.contextmanager
    def _line(self, family: int, patience: float = _PATIENCE) -> Iterator[tuple[socket.socket, str]]:
        """A new socket, and what its end is called in SIP."""
        kind = socket.SOCK_DGRAM if self.transport == "udp" else socket.SOCK_STREAM
        with self._neighbours.reaching(self.source, family, kind, patience=patience) as sock:
            host, port = sock.getsockname()[:2]
            yield sock, f"[{host}]:{port}" if family == 6 else f"{host}:{port}"

    def asks_for_challenges(self, *via: str) -> None:
        """A REGISTER for each, all at once, with that at the end of its Via; whoever gets the answers."""
        with self._line(4) as (sock, here):
            for each in via:
                sock.send(Request(user="1001", uri=f"sip:{DOMAIN}", via=each).wire(here, "udp"))

    @staticmethod
    def _answer(sock: socket.socket) -> Message:
        """The next final answer. Raises OSError for silence."""
        while True:
            data = sock.recv(65535)
            while data and b"\r\n\r\n" not in data:
                data += sock.recv(65535)
            if not data:
                raise ConnectionResetError
            answer = Message.parse(data)
            if answer.status >= 200:
                return answer

    def logs_in(
        self, family: int, password: str = PASSWORD, user: str = "1001", via: str = ";rport", *, answers: bool = True
    ) -> int:
        """Status of the last answer to a REGISTER; 0 for silence, which is taken at its word where none is expected."""
        request = Request(user=user, uri=f"sip:{DOMAIN}", via=via)
        try:
            with self._line(family, _PATIENCE if answers else _SILENCE) as (sock, here):
                sock.sendall(request.wire(here, self.transport))
                answer = self._answer(sock)
                if answer.status == 401:
                    header = credentials(answer.header("www-authenticate"), request, password=password)
                    sock.sendall(replace(request, headers=(header,), number=2).wire(here, self.transport))
                    answer = self._answer(sock)
                return answer.status
        except OSError:
            return 0

    def guesses(self, family: int, times: int = 5) -> None:
        """Wrong passwords, each of which is refused."""
        for dummy in range(times):
            assert self.logs_in(family, "wrong") in (401, 403)

    def is_spoken_for(self, family: int, times: int) -> None:
        """What anybody who can write this source address on a packet would send, and never hears the answer to: answers to a
        challenge that nobody was sent, and the names of users.
        """
        with self._line(family) as (sock, here):
            for number in range(times):
                known = Request(user="1001", uri=f"sip:{DOMAIN}")
                header = credentials(f'Digest realm="{DOMAIN}", nonce="{FIRST_PACKET_NONCE}"', known)
                for request in (replace(known, headers=(header,)), Request(user=f"9{number}", uri=f"sip:{DOMAIN}")):
                    sock.send(request.wire(here, "udp"))


@dataclass
class Site:
    """Some PBXs and their controller; ``runs`` are the first four runs of the role, ``before`` what was there before them."""

    hosts: dict[str, Machine]
    folder: Path
    runs: list[subprocess.CompletedProcess[str]] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    checked: dict[str, Any] = field(default_factory=dict)

    def prepare(self, role: str, hosts: Mapping[str, Mapping[str, Any]] | None = None, **variables: Any) -> None:
        """The inventory and a play with that role; ``hosts`` instead of one name for each host."""
        found = hosts or {name: host.info["ansible"] for name, host in self.hosts.items()}
        self._inventory.write_text(json.dumps({"all": {"hosts": found, "vars": variables}}))
        play = {"hosts": "all", "become": True, "gather_facts": False, "roles": [role]}
        (self.folder / "role.yml").write_text(json.dumps([play]))

    @property
    def _inventory(self) -> Path:
        return self.folder / "inventory.json"

    def play(self, playbook: str, *argv: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """A playbook by its path, or by its name in the collection."""
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self._inventory)]
        return subprocess.run(
            [*command, "--diff", "-e", json.dumps(variables), *argv, playbook],
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(CACHE),
                "ANSIBLE_HOME": str(self.folder / "ansible"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORKS": "10",
            },
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )

    def role(self, *argv: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        return self.play(str(self.folder / "role.yml"), *argv, **variables)

    def on(self, host: Machine, *argv: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """The role on one of them."""
        return self.role("-l", self.name(host), *argv, **variables)

    def name(self, host: Machine) -> str:
        return next(name for name, each in self.hosts.items() if each is host)


def changed(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many tasks changed something, by host; an AssertionError when the play failed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: int(count) for name, count in re.findall(r"^(\S+) +: .*changed=(\d+)", done.stdout, re.MULTILINE)}


_ABSENT = {"pjsip": "chan_sip.so", "chan_sip": "res_pjsip.so"}


def speak(host: Machine, driver: str) -> None:
    """Have Asterisk 16, which has both, speak SIP with one driver alone; with PJSIP it is configured as the lab's Asterisk 22."""
    host.write("/etc/asterisk/pjsip.conf", (CHECKOUT / "lab/images/sid-asterisk22/etc/asterisk/pjsip.conf").read_text())
    host.run("sed", "-i", "/^noload => \\(chan_sip\\|res_pjsip\\).so$/d", "/etc/asterisk/modules.conf")
    host.run("sed", "-i", f"s/^autoload=yes$/&\\nnoload => {_ABSENT[driver]}/", "/etc/asterisk/modules.conf")
    host.run("systemctl", "restart", "asterisk")
    question = {"pjsip": "pjsip show endpoint 1001", "chan_sip": "sip show peer 1001"}[driver]
    assert eventually(lambda: "1001" in host.call("asterisk", "-rx", question).stdout.replace(question, ""), 30)


def machines(prefix: str, images: Mapping[str, str]) -> dict[str, Machine]:
    """Hosts by their names, each in a lab of its own."""
    with ThreadPoolExecutor() as pool:
        found = pool.map(Machine, [prefix + name for name in images], images.values())
        return dict(zip(images, found, strict=True))
