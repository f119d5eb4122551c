# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trunks whose calls the gate would only let in while their UDP conversation is warm: asked of the running Asterisk. Reads only.

A provider's INVITE does not name our domain. It passes as an answer does, on the conversation that our own registration or
OPTIONS has opened, until connection tracking forgets that one.
"""

from __future__ import annotations

import ipaddress
import pathlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .._netfilter.runner import Runner
from .._sip.addresses import Network, is_name, parse_networks

__all__ = ["Trunk", "cold_flows", "parse_pjsip_aor", "parse_pjsip_aors", "parse_sip_peers", "trunks", "udp_timeout"]

_TIMEOUT_FILE = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream"
_DEFAULT_TIMEOUT = 120  # s, Linux 5.0 and later
_MOST = 20  # trunks that are looked at one by one
_AOR = re.compile(r"^ +Aor: +(\S+) +(\d+)\s*$")
_PARAMETER = re.compile(r"^ (\w+) *: (.*)$")
_URI_HOST = re.compile(r"sips?:(?:[^@]*@)?(\[[^\]]+\]|[^:;>\s]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Trunk:
    """One trunk that Asterisk knows by address: ``interval`` is how often it is asked, in seconds, 0 for never."""

    name: str
    host: str
    interval: int
    setting: str


def udp_timeout() -> int:
    """After how many silent seconds this host forgets a UDP conversation that has had answers."""
    try:
        return int(pathlib.Path(_TIMEOUT_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _DEFAULT_TIMEOUT


def parse_pjsip_aors(text: str) -> list[str]:
    """Names of the AORs in ``pjsip show aors`` at which nobody can register: trunks, by their configured contacts."""
    found = [_AOR.match(line) for line in text.splitlines()]
    return [match[1] for match in found if match and match[2] == "0"]


def parse_pjsip_aor(name: str, text: str) -> list[Trunk]:
    """The trunks of one AOR in ``pjsip show aor NAME``, one for each contact over UDP."""
    pairs = [match.groups() for match in map(_PARAMETER.match, text.splitlines()) if match]
    interval = next((int(value) for key, value in pairs if key == "qualify_frequency" and value.isdigit()), 0)
    found = []
    for key, value in pairs:
        uri = _URI_HOST.match(value) if key == "contact" else None
        if uri and not re.search(r";transport=(tcp|tls|wss?)\b", value, re.IGNORECASE):
            found.append(Trunk(name, uri[1].strip("[]"), interval, "qualify_frequency"))
    return found


def parse_sip_peers(text: str) -> list[tuple[str, str, bool]]:
    """Peers with a fixed address in ``sip show peers``: (name, cut at 25 characters; address; whether it is asked)."""
    lines = text.splitlines()
    head = next((line for line in lines if line.startswith("Name/username")), "")
    name_end, host_end = head.find("Host"), head.find("Dyn")
    found = []
    for line in lines[lines.index(head) + 1 :] if head else ():
        host, rest = line[name_end:host_end].strip(), line[host_end:].split()
        # A registering peer has a D in the column Dyn; the last line is a summary.
        if host and rest and rest[0] != "D" and _address(host):
            found.append((line[:name_end].split("/")[0].strip(), host, "Unmonitored" not in rest))
    return found


def _address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ask(runner: Runner, command: str) -> str:
    """What Asterisk's console says; nothing where there is no running Asterisk."""
    asterisk = runner.which("asterisk")
    if asterisk is None:
        return ""
    done = runner.run([asterisk, "-rx", command])
    return done.stdout if done.returncode == 0 else ""


def trunks(runner: Runner) -> list[Trunk]:
    """Every trunk of the running Asterisk, of PJSIP and of chan_sip."""
    found = []
    for name in parse_pjsip_aors(_ask(runner, "pjsip show aors"))[:_MOST]:
        found += parse_pjsip_aor(name, _ask(runner, f"pjsip show aor {name}"))
    for name, host, asked in parse_sip_peers(_ask(runner, "sip show peers"))[:_MOST]:
        frequency = re.search(r"^ +Qualify Freq : (\d+) ms", _ask(runner, f"sip show peer {name}"), re.MULTILINE)
        if asked and frequency is None:
            continue  # its name was cut
        found.append(Trunk(name, host, int(frequency[1]) // 1000 if asked and frequency else 0, "qualifyfreq"))
    return found


def cold_flows(found: Sequence[Trunk], callers: Sequence[str], timeout: int) -> list[str]:
    """A sentence for each trunk that is none of the ``callers`` and is not asked often enough to keep its conversation warm."""
    names = {caller.rstrip(".").lower() for caller in callers if is_name(caller)}
    networks: list[Network] = []
    for caller in callers:
        networks += [] if is_name(caller) else parse_networks(caller, "callers")
    warnings = []
    for trunk in found:
        known = (
            any(ipaddress.ip_address(trunk.host) in network for network in networks)
            if _address(trunk.host)
            else trunk.host.rstrip(".").lower() in names
        )
        if known or 0 < trunk.interval < timeout:
            continue
        often = f"every {trunk.interval} s" if trunk.interval else "never"
        warnings.append(
            f"the trunk {trunk.name} ({trunk.host}) is asked {often}, but this host forgets a UDP conversation after {timeout} silent "
            f"seconds (nf_conntrack_udp_timeout_stream), and the gate then stops its calls: name it in pbx_trunks, or set "
            f"{trunk.setting} below {timeout}"
        )
    return list(dict.fromkeys(warnings))
