# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's machines: their names and addresses, and how they come up and go."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from . import images, limits
from .engine import Engine
from .paths import CACHE, LAB, LabError, locked, progress

__all__ = ["HOSTS", "LABEL", "Host", "Lab"]

LABEL = "org.sipguard.lab"

_READY_SECONDS = 90
_FREE_SUFFIXES = range(100, 200)

# What has to hold before a host is ready, each a shell command in it.
_READY = {
    "systemd": "systemctl is-system-running --wait | grep -qxE 'running|degraded'",
    "ssh": "systemctl is-active --quiet ssh.service",
    "ipv6": 'test -z "$(ip -6 address show scope global tentative)"',
}
_READY_ASTERISK = {
    "asterisk": "asterisk -rx 'core waitfullybooted' | grep -q 'fully booted'",
    "udp": "ss -Hlnu 'sport = :5060' | grep -q .",
    "tcp": "ss -Hlnt 'sport = :5060' | grep -q .",
}


@dataclass(frozen=True)
class Host:
    """A machine of the lab; ``suffix`` is the last part of its addresses, 10.213.N.SUFFIX and fd5a:9c1e:77d2:N::SUFFIX."""

    name: str
    image: str
    suffix: int

    @property
    def managed(self) -> bool:
        """Whether it runs systemd and SSH (the tools image does not)."""
        return self.image != "tools"


HOSTS = {
    host.name: host
    for host in (
        Host("pbx16", "debian11-asterisk16", 11),
        Host("pbx22", "sid-asterisk22", 12),
        Host("plain12", "debian12", 13),
        Host("phone", "tools", 21),
        Host("trunk", "tools", 34),
        Host("roamer", "tools", 50),
        Host("attacker", "tools", 66),
        Host("attacker2", "tools", 67),
    )
}


class Lab:
    """One lab: a project name, its network, its machines. Labs of different projects do not touch each other."""

    def __init__(self, engine: Engine, project: str) -> None:
        if not project.isalnum() or not project.isascii() or len(project) > 20:
            raise LabError(f"--project {project!r}: one to 20 letters and digits expected")
        self.engine = engine
        self.project = project
        self.folder = CACHE / f"project-{project}"
        self.network = f"sipguard-{project}"
        self.key = self.folder / "id_ed25519"
        self._net: int | None = None

    # -- addresses

    @property
    def net(self) -> int:
        """The number that this lab's subnets carry, 10.213.NET.0/24 and fd5a:9c1e:77d2:NET::/64 (both written in decimal)."""
        if self._net is None:
            done = self.engine.call(
                "network", "inspect", "--format", f'{{{{index .Labels "{LABEL}.net"}}}}', self.network
            )
            if done.returncode:
                raise LabError(f"the lab {self.project!r} is not up")
            self._net = int(done.stdout)
        return self._net

    def ipv4(self, suffix: int | str) -> str:
        return f"10.213.{self.net}.{suffix}"

    def ipv6(self, suffix: int | str) -> str:
        return f"fd5a:9c1e:77d2:{self.net}::{suffix}"

    def container(self, name: str) -> str:
        return f"sipguard-{self.project}-{name}"

    # -- what is there

    def lock(self) -> AbstractContextManager[None]:
        """Held while the lab is being changed."""
        return locked(CACHE / "lock" / f"project-{self.project}")

    def containers(self) -> dict[str, dict[str, str]]:
        """Name -> ``state``, ``tag``, ``suffix`` of every container of this project, running or not."""
        found: dict[str, dict[str, str]] = {}
        idents = self.engine.run("ps", "-aq", "--filter", f"label={LABEL}={self.project}").split()
        labels = [f'{{{{index .Config.Labels "{LABEL}.{key}"}}}}' for key in ("host", "tag", "image", "suffix")]
        # a container may go away between the two calls
        done = (
            self.engine.call("inspect", "--format", "\t".join([*labels, "{{.State.Status}}"]), *idents)
            if idents
            else None
        )
        for line in done.stdout.splitlines() if done else ():
            host, tag, image, suffix, state = line.split("\t")
            found[host] = {"state": state, "tag": tag, "image": image, "suffix": suffix}
        return found

    def host(self, name: str) -> Host:
        """The machine ``name`` as it is in this lab now."""
        have = self.containers().get(name)
        if have is None:
            raise LabError(f"the lab {self.project!r} has no host {name!r}")
        return Host(name, have["image"], int(have["suffix"]))

    # -- up

    def up(self, hosts: Iterable[Host]) -> None:
        """Bring the hosts up (images, network, containers, SSH) from whatever is there; the caller holds the lock."""
        hosts = list(hosts)
        tags = images.build(self.engine, (host.image for host in hosts))
        self._make_key()
        self._create_network()
        have = self.containers()
        names = [host.name for host in hosts]
        with progress(f"starting {', '.join(names) if len(names) <= len(HOSTS) else f'{len(names)} hosts'}"):
            with ThreadPoolExecutor(max_workers=4) as pool:
                list(pool.map(lambda host: self._start(host, tags[host.image], have.get(host.name)), hosts))
            self._write_known_hosts()

    def new_host(self, name: str, image: str | None) -> Host:
        """The Host for ``lab host-up``: one of the lab's own, or any other name with an image, at the next free address."""
        have = self.containers()
        if image is None and name not in HOSTS and name not in have:
            raise LabError(f"host {name!r} is none of {', '.join(HOSTS)}: --image is needed")
        if name in have:
            return Host(name, image or have[name]["image"], int(have[name]["suffix"]))
        if name in HOSTS:
            return Host(name, image or HOSTS[name].image, HOSTS[name].suffix)
        if not name.replace("-", "").isalnum():
            raise LabError(f"host {name!r}: letters, digits and hyphens expected")
        used = {int(entry["suffix"]) for entry in have.values()}
        return Host(name, str(image), next(suffix for suffix in _FREE_SUFFIXES if suffix not in used))

    def _make_key(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.key.exists():
            self.folder.chmod(0o700)
            subprocess.run(
                [
                    "ssh-keygen",
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-C",
                    f"sipguard-lab-{self.project}",
                    "-f",
                    str(self.key),
                ],
                check=True,
                stdin=subprocess.DEVNULL,
            )

    def _create_network(self) -> None:
        if self.engine.call("network", "inspect", self.network).returncode == 0:
            return
        # 77 is the demo's own, docs/lab.md names its addresses; another project begins to look elsewhere
        first = 77 if self.project == "demo" else zlib.crc32(self.project.encode()) % 254
        numbers = [net for net in (*range(first, 255), *range(first)) if self.project == "demo" or net != 77]
        with locked(CACHE / "lock" / "network"):
            for net in numbers:
                self._net = net
                done = self.engine.call(
                    "network",
                    "create",
                    "--label",
                    f"{LABEL}={self.project}",
                    "--label",
                    f"{LABEL}.net={net}",
                    *self.engine.network_args(self.ipv4("0/24"), self.ipv4(1), self.ipv6("/64"), self.ipv6(1)),
                    self.network,
                )
                if done.returncode == 0:
                    return
                if not any(word in done.stderr for word in ("already used", "overlap", "in use")):
                    break
        self._net = None
        raise LabError(f"{self.engine.name} network create: {done.stderr.strip()}")

    def _start(self, host: Host, tag: str, have: dict[str, str] | None) -> None:
        container = self.container(host.name)
        if have and (have["tag"] != tag or have["state"] not in ("running", "exited")):
            self._remove([container])
            have = None
        if have is None:
            # a half-made one may be there without being listed
            self.engine.call("rm", "-f", container)
            self.engine.run(*self._run_args(host, tag, container))
        elif have["state"] == "exited":
            self.engine.run("start", container)
        if host.managed:
            self.wait_ready(host)
            public = self.key.with_suffix(".pub").read_text(encoding="ascii")
            self.engine.run(
                "exec",
                "-i",
                container,
                "sh",
                "-ec",
                "umask 077; mkdir -p /root/.ssh; cat > /root/.ssh/authorized_keys",
                stdin=public,
            )

    def _run_args(self, host: Host, tag: str, container: str) -> list[str]:
        labels = {"": self.project, ".host": host.name, ".tag": tag, ".image": host.image, ".suffix": host.suffix}
        args = [
            "run",
            "-d",
            "--pull=never",
            "--name",
            container,
            "--hostname",
            host.name,
            "--network",
            self.network,
            "--ip",
            self.ipv4(host.suffix),
            "--ip6",
            self.ipv6(host.suffix),
            # a restarted host keeps its address on the wire, as a real one does: nobody's neighbour cache goes stale
            "--mac-address",
            f"02:53:49:50:{self.net:02x}:{host.suffix:02x}",
            "--cap-add=NET_ADMIN",
            "--cap-add=NET_RAW",
        ]
        for key, value in labels.items():
            args += ["--label", f"{LABEL}{key}={value}"]
        for other in HOSTS.values():
            args += [
                "--add-host",
                f"{other.name}:{self.ipv4(other.suffix)}",
                "--add-host",
                f"{other.name}6:{self.ipv6(other.suffix)}",
            ]
        if host.managed:
            args += [*self.engine.systemd_args(), "--stop-signal=SIGRTMIN+3"]
        else:
            args += ["--stop-signal=SIGKILL", "--security-opt=label=disable", f"--volume={LAB}/scenarios:/scenarios:ro"]
        return [*args, tag]

    def wait_ready(self, host: Host) -> None:
        """Wait until the host has booted, its addresses are usable, SSH runs, and Asterisk, if it has one, listens; LabError after 90 s."""
        checks = {**_READY, **(_READY_ASTERISK if "asterisk" in host.image else {})}
        end = time.monotonic() + _READY_SECONDS
        for what, check in checks.items():
            while (done := self.engine.call("exec", self.container(host.name), "sh", "-c", check)).returncode:
                if time.monotonic() > end:
                    raise LabError(
                        f"{host.name}: {what} is not ready after {_READY_SECONDS} s: {done.stdout}{done.stderr}".strip()
                    )
                time.sleep(0.2)

    def restart(self, name: str) -> None:
        """Restart the host's container, which is a reboot for everything in it."""
        host = self.host(name)
        self._forget_connection(name)
        self.engine.run("restart", "-t", "20", self.container(name))
        if host.managed:
            self.wait_ready(host)
        self._write_known_hosts()

    # -- down

    def _remove(self, containers: list[str]) -> None:
        if containers:
            self.engine.call("kill", "--signal", "KILL", *containers)  # no orderly shutdown: it is thrown away
            self.engine.run("rm", "-f", "-v", *containers)

    def remove_hosts(self, names: Iterable[str]) -> None:
        """Remove those of the hosts that are there, and the lab itself with its last host."""
        have, gone = self.containers(), set(names)
        if set(have) <= gone:
            self.down()
        elif set(have) & gone:
            for name in set(have) & gone:
                self._forget_connection(name)
            self._remove([self.container(name) for name in sorted(set(have) & gone)])
            self._write_known_hosts()

    def down(self) -> None:
        """Remove every container and network that carries this project's label, and the project's key."""
        for name in self.containers():
            self._forget_connection(name)
        only = ["--filter", f"label={LABEL}={self.project}"]
        self._remove(self.engine.run("ps", "-aq", *only).split())
        for network in self.engine.run("network", "ls", "-q", *only).split():
            self.engine.run("network", "rm", network)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._net = None
        limits.release(self.project)

    # -- SSH

    def _write_known_hosts(self) -> None:
        lines = []
        for name, have in sorted(self.containers().items()):
            if have["image"] != "tools" and have["state"] == "running":
                keys = self.engine.run("exec", self.container(name), "sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub")
                names = f"{self.ipv4(have['suffix'])},{self.ipv6(have['suffix'])}"
                lines += [f"{names} {' '.join(key.split()[:2])}\n" for key in keys.splitlines()]
        path = self.folder / "known_hosts"
        temporary = path.with_name(f"known_hosts.{os.getpid()}")
        temporary.write_text("".join(lines), encoding="ascii")
        temporary.replace(path)

    def _control_path(self, name: str) -> Path:
        """Where Ansible's SSH keeps its connection to the host; our own place, so that it can be closed when the host restarts."""
        path = self.folder / f"ssh-{name}"
        # ssh appends 17 characters, and a socket's path has at most 107
        return (
            path
            if len(str(path)) <= 90
            else Path(tempfile.gettempdir()) / f"sipguard-{os.getuid()}-{self.project}-{name}"
        )

    def _forget_connection(self, name: str) -> None:
        path = self._control_path(name)
        if path.exists():
            subprocess.run(["ssh", "-F", "none", "-O", "exit", "-S", str(path), name], capture_output=True, check=False)

    def ssh_options(self) -> list[str]:
        """ssh's options with which only this lab's hosts, and only their own keys, are believed."""
        known = self.folder / "known_hosts"
        quoted = f'"{known}"' if " " in str(known) else str(known)  # as ssh's configuration parser wants it
        settings = (
            f"UserKnownHostsFile={quoted}",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
        )
        return [word for setting in settings for word in ("-o", setting)]

    def ssh_info(self, host: Host) -> dict[str, object]:
        """How to reach the host: plain facts, and the same as Ansible's variables."""
        return {
            "host": host.name,
            "address": self.ipv4(host.suffix),
            "address6": self.ipv6(host.suffix),
            "port": 22,
            "user": "root",
            "identity_file": str(self.key),
            "known_hosts_file": str(self.folder / "known_hosts"),
            "container": self.container(host.name),
            "controller": self.ipv4(1),
            "controller6": self.ipv6(1),
            "ansible": {
                "ansible_connection": "ssh",
                "ansible_host": self.ipv4(host.suffix),
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(self.key),
                "ansible_ssh_common_args": shlex.join(self.ssh_options()),
                "ansible_control_path": str(self._control_path(host.name)),
                "ansible_python_interpreter": "/usr/bin/python3",
            },
        }
