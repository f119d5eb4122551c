# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podman or Docker: everything in which the two differ for the lab is in this file."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from .paths import CACHE, LabError

__all__ = ["Engine", "detect"]

_CAP_SYS_RESOURCE = 24


class Engine:
    """One container engine. ``run`` and what builds on it raise LabError with the engine's own words."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        self.name = name
        self._env = env

    def argv(self, *args: str) -> list[str]:
        return [self.name, *args]

    def call(
        self, *args: str, stdin: str | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the engine with ``args``; the caller looks at the exit status. ``timeout`` in seconds."""
        return subprocess.run(
            self.argv(*args),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
            env={**os.environ, **self._env},
        )

    def run(self, *args: str, stdin: str | None = None) -> str:
        """As ``call``, but a failure raises LabError; returns standard output without the last newline."""
        done = self.call(*args, stdin=stdin)
        if done.returncode:
            raise LabError(f"{self.name} {' '.join(args[:2])}: {(done.stderr or done.stdout).strip()}")
        return done.stdout.strip()

    def replace_process(self, *args: str) -> None:
        """Become the engine: for ``lab exec`` and ``lab engine``, where the terminal is the user's."""
        os.execvpe(self.name, self.argv(*args), {**os.environ, **self._env})

    def import_args(self, tar: Path, tag: str, command: str) -> list[str]:
        return ["import", "--change", f"CMD {command}", str(tar), tag]

    def network_args(self, subnet4: str, gateway4: str, subnet6: str, gateway6: str) -> list[str]:
        """Options of ``network create``: both families, no way out of it, no name server on it."""
        both = [
            "--ipv6",
            "--subnet",
            subnet4,
            "--gateway",
            gateway4,
            "--subnet",
            subnet6,
            "--gateway",
            gateway6,
            "--internal",
        ]
        return [*both, "--disable-dns"] if self.name == "podman" else both

    def systemd_args(self) -> list[str]:
        """Options of ``run`` for a container whose first process is systemd."""
        if self.name == "podman":
            return ["--systemd=always"]
        return [
            "--cgroupns=host",
            "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
            "--env=container=docker",
            "--tmpfs=/run",
            "--tmpfs=/run/lock",
            "--tmpfs=/tmp",
            "--security-opt=apparmor=unconfined",
        ]


def _has_sys_resource() -> bool:
    with open("/proc/self/status", encoding="ascii") as lines:
        effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return bool(effective >> _CAP_SYS_RESOURCE & 1)


def _podman_environment() -> dict[str, str]:
    """A containers.conf of our own, only for what this machine needs and the user has not set himself."""
    if "CONTAINERS_CONF" in os.environ:
        return {}
    containers: list[str] = []
    engine: list[str] = []
    if not _has_sys_resource():
        containers += ['default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]', "pids_limit = 0"]
        if shutil.which("runc"):  # crun insists on raising a limit
            engine.append('runtime = "runc"')
    if not Path("/run/systemd/system").exists():
        engine += ['cgroup_manager = "cgroupfs"', 'events_logger = "file"']
    if not containers and not engine:
        return {}
    path = CACHE / "containers.conf"
    text = "\n".join(["[containers]", *containers, "[engine]", *engine, ""])
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=CACHE, delete=False, encoding="utf-8") as handle:
            handle.write(text)
        os.replace(handle.name, path)
    return {"CONTAINERS_CONF": str(path)}


def _usable(engine: Engine, question: str, wanted: str) -> bool:
    done = engine.call("info", "--format", question)
    return done.returncode == 0 and wanted in done.stdout


@cache
def detect() -> Engine:
    """podman as root if it works, else Docker; SIPGUARD_LAB_ENGINE=podman|docker decides otherwise.

    Rootless engines are not used: from the host their bridge networks cannot be reached, and the lab is managed by SSH.
    """
    wanted = os.environ.get("SIPGUARD_LAB_ENGINE", "")
    if wanted not in ("", "podman", "docker"):
        raise LabError(f"SIPGUARD_LAB_ENGINE is {wanted!r}: podman or docker expected")
    if wanted in ("", "podman") and shutil.which("podman") and os.geteuid() == 0:
        podman = Engine("podman", _podman_environment())
        if _usable(podman, "{{.Host.Security.Rootless}}", "false"):
            return podman
    if wanted in ("", "docker") and shutil.which("docker"):
        docker = Engine("docker", {})
        if _usable(docker, "{{.OSType}} {{.SecurityOptions}}", "linux") and not _usable(
            docker, "{{.SecurityOptions}}", "name=rootless"
        ):
            return docker
    raise LabError("no usable container engine: the lab needs podman (as root) or a Docker daemon this user may use")
