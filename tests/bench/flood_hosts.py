# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of the floods: a lab of their own, in which every protection has a PBX to itself."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.inventory import SIP_DOMAIN
from lab.paths import CHECKOUT, LabError
from lab.traffic import PHONES

from . import flood_rules

__all__ = [
    "ATTACKERS",
    "FAIL2BAN",
    "OURS",
    "PROTECTIONS",
    "PUBLISHED",
    "UNPROTECTED",
    "Pbx",
    "Site",
    "Strangers",
    "site",
    "spread",
]

PROJECT = "bench"

UNPROTECTED, PUBLISHED, FAIL2BAN, OURS = PROTECTIONS = ("nothing", "published rules", "fail2ban", "ours")
_IMAGES = {"16": "debian11-asterisk16", "22": "sid-asterisk22"}

# Behind the attacker and behind the callers; the PBXs have a route to both.
ATTACKERS = "100.64.0.0/10"
CALLERS = "198.18.0.0/15"

_READY = "asterisk -rx 'core waitfullybooted' | grep -q 'fully booted' && ss -Hlnu 'sport = :5060' | grep -q ."
_READY_SECONDS = 60
# Packets are received on the processor of the PBX, not on that of whoever sends them. The engine has made sysfs read-only.
_STEER = (
    "mount -t sysfs sysfs /mnt && mount -o remount,rw /mnt && echo {mask:x} > /mnt/class/net/eth0/queues/rx-0/rps_cpus"
)
_PLAYBOOK = CHECKOUT / "playbooks" / "harden-pbx.yml"


def _lab(*argv: str) -> str:
    """Standard output of ``python -m lab ARGV`` for this project; LabError when it fails."""
    command, *rest = argv
    options = [] if command == "engine" else ["--project", PROJECT]
    done = subprocess.run(
        [sys.executable, "-m", "lab", command, *options, *rest],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"lab {' '.join(argv)} failed")
    return done.stdout


def blocks(network: str) -> int:
    """How many blocks of 256 addresses ``network`` has."""
    return ipaddress.ip_network(network).num_addresses // 256


def spread(network: str, number: int) -> str:
    """An address of ``network``. The next number is in the next block, so that no two of few are neighbours; as flood.c does it."""
    block, host = number % blocks(network), number // blocks(network) % 254
    return str(ipaddress.ip_network(network)[256 * block + 1 + host])


class _Host:
    """A container of the lab, entered from this machine without the engine: that takes milliseconds."""

    def __init__(self, name: str, image: str) -> None:
        found: dict[str, Any] = json.loads(_lab("host-up", name, "--image", image))
        self.name = name
        self.address: str = found["address"]
        self.pid = _lab("engine", "--", "inspect", "--format", "{{.State.Pid}}", found["container"]).strip()

    def argv(self, *argv: str) -> list[str]:
        """``argv`` as it has to be started to run in the container."""
        return ["nsenter", "-t", self.pid, "-a", *argv]

    def network_argv(self, *argv: str) -> list[str]:
        """``argv`` as it has to be started to run as a program of this machine on the container's network."""
        return ["nsenter", "-t", self.pid, "-n", *argv]

    def run(self, *argv: str, stdin: str | None = None) -> str:
        """Standard output of ``argv``, run in the container; LabError when it fails."""
        return _output(self.argv(*argv), stdin)

    def run_on_network(self, *argv: str, stdin: str | None = None) -> str:
        """The same for a program of this machine on the container's network."""
        return _output(self.network_argv(*argv), stdin)


def _output(argv: Sequence[str], stdin: str | None = None) -> str:
    done = subprocess.run(argv, input=stdin or "", capture_output=True, text=True, cwd="/", check=False)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Pbx(_Host):
    """An Asterisk under one protection, with everything else of its host on one processor."""

    def __init__(self, version: str, protection: str, processor: int) -> None:
        self.version, self.protection = version, protection
        image = _IMAGES[version] + ("-fail2ban" if protection == FAIL2BAN else "")
        super().__init__(f"{protection.split()[0]}{version}", image)
        _output(["taskset", "-cp", str(processor), self.pid])  # services started from now on inherit it
        self.run_on_network("unshare", "-m", "sh", "-c", _STEER.format(mask=1 << processor))
        self._attackers = 0

    def route(self, network: str, via: str) -> None:
        """``network`` is behind ``via``."""
        self.run_on_network("ip", "route", "replace", network, "via", via)

    def newcomers(self, count: int) -> int:
        """The first of ``count`` attackers who have not yet spoken to this PBX."""
        first, self._attackers = self._attackers, self._attackers + count
        return first

    def fresh(self) -> None:
        """A newly started Asterisk with empty logs, and a fail2ban that remembers nothing; nothing has reached it yet."""
        services = ["asterisk.service"]
        if self.protection == FAIL2BAN:
            services.append("fail2ban.service")
            # it may be far behind its log
            self.run("sh", "-c", "systemctl kill --signal=KILL fail2ban.service || true")
            self.run_on_network("nft", "flush", "ruleset")  # whatever it had banned; it has its host to itself
            self.run("rm", "-f", "/var/lib/fail2ban/fail2ban.sqlite3")
        self.run("sh", "-c", "for log in /var/log/asterisk/*; do [ -d $log ] || : > $log; done")
        self.run("systemctl", "reset-failed", *services)
        self.run("systemctl", "restart", *services)
        ready = [_READY, *(["fail2ban-client status asterisk"] if self.protection == FAIL2BAN else [])]
        end = time.monotonic() + _READY_SECONDS
        while subprocess.run(self.argv("sh", "-c", " && ".join(ready)), capture_output=True, check=False).returncode:
            if time.monotonic() > end:
                raise LabError(f"{self.name}: {', '.join(services)} not ready after {_READY_SECONDS} s")
            time.sleep(0.1)
        self.count()

    def count(self) -> None:
        """Count what reaches the SIP socket anew from here."""
        self.run_on_network("nft", "-f", "-", stdin=flood_rules.counters(ATTACKERS))

    def reached(self) -> int:
        """How many packets of attackers have passed every rule on their way to the SIP socket."""
        return flood_rules.reached(self.run_on_network("nft", "-j", "list", "table", "ip", "bench"))

    def processor_seconds(self, service: str) -> float:
        """What the service has used so far, all its threads and children."""
        return int(self.run("systemctl", "show", "--value", "-p", "CPUUsageNSec", service)) / 1e9


class Strangers:
    """Attackers and callers: whole networks behind two hosts of the lab, on a processor that is not the PBX's."""

    def __init__(self, processor: int) -> None:
        self._pin = ["taskset", "-c", str(processor)]
        self._phones = 0
        self.attacker = _Host("attacker", "tools")
        self.caller = _Host("roamer", "tools")
        for host, network in ((self.attacker, ATTACKERS), (self.caller, CALLERS)):
            # every address of it is the host's own
            host.run_on_network("ip", "route", "replace", "local", network, "dev", "lo")

    def flood(self, program: str, first: int, count: int, pbx: Pbx, domain: str, rate: int, seconds: int) -> int:
        """The packets that flood.c has sent at ``rate`` a second."""
        sources = [str(ipaddress.ip_network(ATTACKERS)[0]), str(blocks(ATTACKERS)), str(first), str(count)]
        argv = [program, *sources, pbx.address, domain, str(rate), str(seconds)]
        out = _output([*self._pin, "nice", "-n", "5", *self.attacker.network_argv(*argv)])
        return int(out.split()[0])

    def start_calls(self, pbx: Pbx, calls: int, rate: int) -> subprocess.Popen[str]:
        """Phones begin to register and call, ``rate`` a second, each from an address that nobody has used yet; sipp's last
        screen is on standard output."""
        addresses = [spread(CALLERS, self._phones + number) for number in range(calls)]
        self._phones += calls
        self.caller.run("sh", "-c", "cat > /tmp/phones", stdin="\n".join(["SEQUENTIAL", *addresses, ""]))
        user = "1002"
        argv = ["sipp", "-nostdin", "-sf", "/scenarios/subscriber.xml", "-s", user, "-au", user, "-ap", PHONES[user]]
        argv += ["-key", "domain", SIP_DOMAIN, "-key", "ua", "Linphone-Desktop/5.2.4", "-key", "called", "600"]
        argv += ["-t", "ui", "-inf", "/tmp/phones", "-ip_field", "0", "-max_socket", str(2 * calls)]
        argv += ["-m", str(calls), "-l", str(calls), "-r", str(rate), "-recv_timeout", "4000", f"{pbx.address}:5060"]
        return subprocess.Popen(
            [*self._pin, *self.caller.argv(*argv)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )


class Site:
    """All of them."""

    def __init__(self, versions: Sequence[str]) -> None:
        processors = sorted(os.sched_getaffinity(0))
        self.strangers = Strangers(processors[0])
        self.pbxs = [Pbx(version, protection, processors[-1]) for protection in PROTECTIONS for version in versions]
        for pbx in self.pbxs:
            pbx.route(ATTACKERS, self.strangers.attacker.address)
            pbx.route(CALLERS, self.strangers.caller.address)
        self._protect()
        for pbx in self.pbxs:
            pbx.fresh()

    def _protect(self) -> None:
        for pbx in self.pbxs:
            if pbx.protection == PUBLISHED:
                net = ipaddress.ip_interface(f"{pbx.address}/24").network
                pbx.run("ipset", "restore", stdin="\n".join(flood_rules.SETS) + "\n")
                pbx.run("iptables-restore", stdin=flood_rules.published(f"{net[16]}/28", str(net[34])))
        _harden([pbx.name for pbx in self.pbxs if pbx.protection == OURS])


def _harden(names: Sequence[str]) -> None:
    """The real playbook over SSH; LabError with its last words when it fails."""
    path = Path(sys.executable).with_name("ansible-playbook")
    env = os.environ | {
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".cache"),
        "PATH": f"{path.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    inventory = _lab("inventory").strip()
    argv = [str(path), "-i", inventory, "--limit", ",".join(names), str(_PLAYBOOK)]
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{_PLAYBOOK.name} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")


@contextmanager
def site(versions: Sequence[str]) -> Iterator[Site]:
    """The hosts, made anew and taken down at the end."""
    _lab("down")
    try:
        yield Site(versions)
    finally:
        _lab("down")
