# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet in the lab and controllers of it. Whatever is asked of a host here goes through the container engine, not the network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["CHECKOUT", "Controller", "LabHost", "eventually", "lab"]

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = f"hosts{os.environ.get('PYTEST_XDIST_WORKER', '')}"  # two files of tests at a time have a fleet each
PATIENCE = 90.0  # s in which everything that is waited for has to happen
_SSH_SECONDS = 3  # until a new connection counts as refused


def lab(*argv: str, check: bool = True) -> str:
    """What a command of the lab prints."""
    command = [sys.executable, "-m", "lab", argv[0], "--project", PROJECT, *argv[1:]]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether a condition comes true in time. The conditions here start a process each, so nothing spins."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
    return True


class LabHost:
    """One host, by its name in the lab and in the inventory."""

    def __init__(self, name: str, image: str) -> None:
        self.name = name
        self.info: dict[str, Any] = json.loads(lab("host-up", name, "--image", image))

    def run(self, *argv: str) -> str:
        """What a command on the host prints, failed or not; by the back door."""
        return lab("exec", self.name, "--", *argv, check=False)

    def rules(self) -> str:
        """All rules of both families, counters and empty tables aside: iptables never takes a table away again."""
        families = []
        for command in ("iptables-save", "ip6tables-save"):
            lines = [
                re.sub(r"\[\d+:\d+\]", "", line) for line in self.run(command).splitlines() if not line.startswith("#")
            ]
            tables = re.split(r"^(?=\*)", "\n".join(lines) + "\n", flags=re.MULTILINE)
            families.append("".join(sorted(table for table in tables if re.search(r"^-|^:\S+ -", table, re.MULTILINE))))
        return "===\n".join(families)

    def state(self) -> tuple[str, str, str]:
        """Rules, sets, and the files for the next boot; not which conversations have named a domain, for who asks is one of them."""
        sets = self.run("ipset", "save", "-sorted")
        sets = re.sub(r" timeout \d+$| initval \w+|^add sipguard-named.*\n", "", sets, flags=re.MULTILINE)
        return self.rules(), sets, self.run("sh", "-c", "cd /etc/sipguard && sha256sum *")

    def pending(self) -> bool:
        """Whether a change waits to be confirmed."""
        return bool(json.loads(self.run("sipguard", "pending", "--json"))["pending"])

    def lets_in(self) -> bool:
        """Whether a new SSH connection gets through."""
        info = self.info
        options = ["BatchMode=yes", f"ConnectTimeout={_SSH_SECONDS}", "IdentitiesOnly=yes", "ControlPath=none"]
        options += [f"UserKnownHostsFile={info['known_hosts_file']}", "GlobalKnownHostsFile=/dev/null"]
        argv = ["ssh", "-F", "none", "-i", info["identity_file"], *(word for each in options for word in ("-o", each))]
        argv += [f"{info['user']}@{info['address']}", "true"]
        try:
            return subprocess.run(argv, capture_output=True, check=False, timeout=_SSH_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:  # a connection whose first words are dropped hangs
            return False


class Controller:
    """Somebody with an inventory of his own of the same fleet, and SSH connections of his own. ``domain`` follows each host's name.

    ``by_address`` names the hosts by their addresses, and nothing else says where they are.
    """

    def __init__(self, directory: Path, fleet: Sequence[LabHost], domain: str = "", by_address: bool = False) -> None:
        self.directory = directory
        self.fleet = fleet
        self.options: list[str] = []  # of ansible-playbook
        self._hosts: dict[str, dict[str, Any]] = {}
        for host in fleet:
            reach = {key: value for key, value in host.info["ansible"].items() if key != "ansible_control_path"}
            name = reach.pop("ansible_host") if by_address else host.name + domain
            self._hosts[name] = reach
        info = fleet[0].info
        self._every = {"pbx_admins": [info["controller"], info["controller6"]]}
        # The name of a socket has to be short (unix(7)).
        self._sockets = tempfile.TemporaryDirectory(prefix="sg")
        self.inventory = directory / "inventory.json"
        self._write()

    def _write(self) -> None:
        text = json.dumps({"all": {"hosts": self._hosts, "vars": self._every}})
        self.inventory.write_text(text, encoding="utf-8")

    def give(self, host: str, **variables: Any) -> None:
        """Variables of a host of the inventory, beside those it has; one that is not in it yet is added, reached as the first one is."""
        first, *dummy = self._hosts.values()
        self._hosts.setdefault(host, dict(first)).update(variables)
        self._write()

    def start(self, playbook: str, *hosts: LabHost, **variables: Any) -> subprocess.Popen[str]:
        """A playbook at work on some hosts (all by default); in a process group of its own."""
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.inventory)]
        argv += ["-l", ",".join(host.name for host in hosts)] if hosts else []
        argv += [*self.options, "-e", json.dumps(variables), str(CHECKOUT / "playbooks" / playbook)]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".cache"),
            "ANSIBLE_HOME": str(self.directory / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": self._sockets.name,
            "ANSIBLE_SSH_TIMEOUT": str(_SSH_SECONDS),
            "ANSIBLE_NOCOLOR": "1",
        }
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def play(self, playbook: str, *hosts: LabHost, **variables: Any) -> subprocess.CompletedProcess[str]:
        """A playbook run to its end."""
        process = self.start(playbook, *hosts, **variables)
        output = process.communicate(timeout=600)[0]
        return subprocess.CompletedProcess(process.args, process.returncode, output, "")

    def harden(self, *hosts: LabHost, **variables: Any) -> subprocess.CompletedProcess[str]:
        """The main job."""
        return self.play("harden-pbx.yml", *hosts, **variables)
