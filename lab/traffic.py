# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attackers and callers: what the lab's hosts do to a PBX, with sipvicious, sipsak and sipp, and what the PBX received of it."""

from __future__ import annotations

import itertools
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from .hosts import HOSTS, Lab
from .inventory import SIP_DOMAIN

__all__ = [
    "PHONES",
    "Outcome",
    "Way",
    "asked_by_controller",
    "flood",
    "received",
    "scenario",
    "sipsak",
    "ssh_banner",
    "svmap",
    "watch",
]

# number -> password, as in the images' Asterisk configuration
PHONES = {"1001": "pT4v-Zq81-mWx6-Hn30", "1002": "Gd72-rKc9-Ls05-vBy1"}

_ANSWER_SECONDS = 4
_SILENCE_SECONDS = 3  # who only wants to know whether somebody is there does not wait longer
_STRANGERS = ("knock", "options")

# a local port for each sipp, so that those that run at the same time on one host do not meet
_ports = itertools.count(20000)


@dataclass(frozen=True)
class Way:
    """How a request travels: ``transport`` udp or tcp, ``family`` 4 or 6."""

    transport: str
    family: int

    def __str__(self) -> str:
        return f"{self.transport.upper()} IPv{self.family}"

    def address(self, lab: Lab, name: str) -> str:
        suffix = HOSTS[name].suffix
        return lab.ipv6(suffix) if self.family == 6 else lab.ipv4(suffix)

    def target(self, lab: Lab, name: str) -> str:
        address = self.address(lab, name)
        return f"[{address}]:5060" if self.family == 6 else f"{address}:5060"


@dataclass(frozen=True)
class Outcome:
    """Whether the PBX answered as hoped for, and the tool's last words."""

    answered: bool
    detail: str


def _execute(lab: Lab, name: str, argv: list[str], seconds: int) -> tuple[int, str]:
    done = lab.engine.call("exec", lab.container(name), "timeout", str(seconds), *argv)
    return done.returncode, done.stdout + done.stderr


def svmap(lab: Lab, source: str, pbx: str, family: int) -> Outcome:
    """Scan the PBX with sipvicious over UDP, as it comes (User-Agent friendly-scanner)."""
    way = Way("udp", family)
    dummy, text = _execute(lab, source, ["svmap", *(["-6"] if family == 6 else []), way.address(lab, pbx)], 30)
    return Outcome(f"| {way.address(lab, pbx)}:5060 " in text, text)


def sipsak(lab: Lab, source: str, pbx: str) -> Outcome:
    """Ask the PBX with sipsak over TCP and IPv4 (it knows no IPv6), as it comes (User-Agent sipsak)."""
    uri = f"sip:100@{Way('tcp', 4).address(lab, pbx)}"
    dummy, text = _execute(lab, source, ["sipsak", "-v", "-v", "-E", "tcp", "-s", uri], _SILENCE_SECONDS)
    return Outcome(re.search(r"^SIP/2\.0 [2-6]\d\d ", text, re.MULTILINE) is not None, text)


def scenario(lab: Lab, source: str, pbx: str, way: Way, name: str, user: str, **keys: str) -> Outcome:
    """Run lab/scenarios/NAME.xml with sipp from ``source`` once; ``keys`` are the scenario's own (ua, called ...)."""
    seconds = _SILENCE_SECONDS if name in _STRANGERS else _ANSWER_SECONDS
    return _sipp(lab, source, pbx, way, name, user, keys, ["-m", "1", "-timeout", str(seconds)])


def flood(lab: Lab, source: str, pbx: str, way: Way, requests: int, rate: int, user_agent: str) -> Outcome:
    """Send so many REGISTER that name the domain, ``rate`` a second; ``answered`` is only whether all of them were sent."""
    more = ["-m", str(requests), "-r", str(rate), "-timeout", str(_ANSWER_SECONDS + requests // rate)]
    return _sipp(lab, source, pbx, way, "flood", "1001", {"ua": user_agent}, more)


def _sipp(
    lab: Lab, source: str, pbx: str, way: Way, name: str, user: str, keys: Mapping[str, str], more: list[str]
) -> Outcome:
    argv = [
        "sipp",
        "-nostdin",
        *more,
        "-timeout_error",
        "-sf",
        f"/scenarios/{name}.xml",
        "-t",
        "u1" if way.transport == "udp" else "t1",
        "-i",
        way.address(lab, source),
        "-p",
        str(next(_ports)),
        "-s",
        user,
    ]
    if user in PHONES:
        argv += ["-au", user, "-ap", PHONES[user]]
    for key, value in {"domain": SIP_DOMAIN, **keys}.items():
        argv += ["-key", key, value]
    status, text = _execute(lab, source, [*argv, way.target(lab, pbx)], 3 * _ANSWER_SECONDS)
    return Outcome(status == 0, text)


def ssh_banner(lab: Lab, source: str, pbx: str, way: Way) -> Outcome:
    """Connect to the PBX's SSH port and wait for its first words."""
    program = (
        "import socket, sys; print(socket.create_connection((sys.argv[1], 22), float(sys.argv[2])).recv(64).decode())"
    )
    argv = ["python3", "-c", program, way.address(lab, pbx), str(_SILENCE_SECONDS)]
    status, text = _execute(lab, source, argv, 2 * _SILENCE_SECONDS)
    return Outcome(status == 0 and text.startswith("SSH-"), text)


def asked_by_controller(lab: Lab, pbx: str, family: int, user_agent: str) -> Outcome:
    """One OPTIONS over UDP from this machine, the controller, itself; it needs no SIP tool for that."""
    address = Way("udp", family).address(lab, pbx)
    with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_ANSWER_SECONDS)
        sock.connect((address, 5060))
        host, port = sock.getsockname()[:2]
        here = f"[{host}]:{port}" if family == 6 else f"{host}:{port}"
        sock.send(
            "\r\n".join(
                [
                    f"OPTIONS sip:{SIP_DOMAIN} SIP/2.0",
                    f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{time.monotonic_ns()};rport",
                    "Max-Forwards: 70",
                    f"From: <sip:monitor@{SIP_DOMAIN}>;tag={time.monotonic_ns()}",
                    f"To: <sip:{SIP_DOMAIN}>",
                    f"Call-ID: {time.monotonic_ns()}@{host}",
                    "CSeq: 1 OPTIONS",
                    f"Contact: <sip:monitor@{here}>",
                    f"User-Agent: {user_agent}",
                    "Content-Length: 0",
                    "",
                    "",
                ]
            ).encode()
        )
        try:
            text = sock.recv(65535).decode(errors="replace")
        except OSError as error:
            return Outcome(False, str(error))
    return Outcome(text.startswith("SIP/2.0 "), text)


def watch(lab: Lab, pbx: str) -> None:
    """Let Asterisk log every SIP message that it receives."""
    command = "pjsip set logger on" if "22" in HOSTS[pbx].image else "sip set debug on"
    lab.engine.run("exec", lab.container(pbx), "asterisk", "-rx", command)


def received(lab: Lab, pbx: str, address: str) -> int:
    """How many requests from ``address`` the PBX itself has logged so far (since ``watch``): behind the firewall, not before it."""
    pattern = rf"(SIP read from|Received SIP request).*[:[]{re.escape(address)}[]:]"
    done = lab.engine.call("exec", lab.container(pbx), "grep", "-cE", pattern, "/var/log/asterisk/full")
    return int(done.stdout or 0)
