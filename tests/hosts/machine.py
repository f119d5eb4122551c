# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host of the lab, with systemd as its first process, that a test rebuilds, reboots and breaks: commands, modules, packages."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["CACHE", "Machine", "lab"]

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache"
_CODE = "/opt/under-test"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def lab(project: str, *argv: str) -> str:
    """What a command of the lab prints; an AssertionError when it fails."""
    command = [sys.executable, "-m", "lab", argv[0], "--project", project, *argv[1:]]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


class Machine:
    """A host of the image ``image`` in a lab of its own. Commands are run in its namespaces, which takes milliseconds."""

    def __init__(self, project: str, image: str) -> None:
        self.project, self.image = project, image
        lab(project, "down")
        self.info: dict[str, Any] = json.loads(lab(project, "host-up", "pbx", "--image", image))
        self._find()
        self._put_code()

    def _find(self) -> None:
        said = lab(self.project, "engine", "--", "inspect", "--format", "{{.State.Pid}}", str(self.info["container"]))
        self._enter = ["nsenter", f"--target={int(said)}", "--mount", "--uts", "--ipc", "--net", "--pid", "--"]

    def call(self, *argv: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """A command run to its end, as root of the host."""
        done = subprocess.run(
            [*self._enter, "env", "-i", f"PATH={_PATH}", "HOME=/root", "LC_ALL=C", *argv],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=False,
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """A command that goes on."""
        quiet = subprocess.DEVNULL
        argv = (*self._enter, "env", "-i", f"PATH={_PATH}", *argv)
        return subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet)

    def run(self, *argv: str, stdin: bytes | None = None) -> str:
        """What a command prints; an AssertionError when it fails."""
        done = self.call(*argv, stdin=stdin)
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path, stdin=text.encode())

    def restart(self) -> None:
        """A reboot: every process and everything the kernel kept for them is gone. Back when the host has booted."""
        lab(self.project, "host-restart", "pbx")
        self._find()

    def close(self) -> None:
        lab(self.project, "down")

    # -- modules

    def _put_code(self) -> None:
        """Ansible's and our code for managed hosts, as Ansible would send it."""
        import ansible

        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(Path(ansible.__file__).with_name("module_utils"), "ansible/module_utils", filter=_without_bytecode)
            tar.addfile(tarfile.TarInfo("ansible/__init__.py"))  # as in what Ansible sends
            for name in ("module_utils", "modules"):
                tar.add(CHECKOUT / "plugins" / name, f"{_OURS}/plugins/{name}", filter=_without_bytecode)
        self.run("sh", "-c", f"mkdir -p {_CODE} && tar -C {_CODE} -x", stdin=buffer.getvalue())

    def module(self, name: str, check: bool = False, **options: Any) -> dict[str, Any]:
        """The result of a module, failed or not."""
        arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
        file = "/run/arguments.json"
        self.write(file, json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        argv = ["env", f"PYTHONPATH={_CODE}", "PYTHONPYCACHEPREFIX=/run/under-test", "python3", "-m"]
        done = self.call(*argv, f"{_OURS}.plugins.modules.{name}".replace("/", "."), file)
        assert done.stdout.startswith("\n{"), done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert bool(result.get("failed")) == (done.returncode != 0), result
        return result

    def apply(self, name: str, check: bool = False, **options: Any) -> dict[str, Any]:
        """The result of a module that must succeed."""
        result = self.module(name, check, **options)
        assert not result.get("failed"), result
        return result

    # -- what is there

    def save(self, family: int = 4, backend: str = "") -> str:
        """The rules of a family without counters, comments and times."""
        tool = f"ip{'6' if family == 6 else ''}tables{'-' + backend if backend else ''}-save"
        lines = [line for line in self.run(tool).splitlines() if not line.startswith("#")]
        return re.sub(r"\[\d+:\d+\]", "[0:0]", "\n".join(lines))

    def files(self, *folders: str) -> str:
        """Every file and link below some folders, with its mode and a digest of its content."""
        script = 'find "$@" \\( -type f -exec sha256sum {} + \\) , \\( -type l -printf "%p -> %l\\n" \\) , -printf "%p %m %U\\n"'
        return "\n".join(sorted(self.call("sh", "-c", script, "sh", *folders).stdout.splitlines()))

    # -- packages

    def install(self, *names: str) -> None:
        """Install Debian packages, configured without a question. The host has no network: they come by way of this machine."""
        known = self.run("cat", "/var/lib/dpkg/status"), self.run("cat", "/etc/apt/sources.list")
        folder = _packages(self.image, *known, names)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for path in sorted(folder.glob("*.deb")):
                tar.add(path, path.name)
        self.run("sh", "-c", _INSTALL, stdin=buffer.getvalue())


# Nothing is started on the way (the policy is that of invoke-rc.d(8)).
_INSTALL = """
set -e
mkdir /var/tmp/debs
cd /var/tmp/debs
tar -x
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
DEBIAN_FRONTEND=noninteractive dpkg -i ./*.deb
rm -r /usr/sbin/policy-rc.d /var/tmp/debs
"""
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_OURS = "ansible_collections/sipguard/pbx"


def _without_bytecode(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    return None if "__pycache__" in entry.name else entry


def _packages(image: str, status: str, sources: str, names: Sequence[str]) -> Path:
    """A folder with what apt would install on a host of that image, from the sources it was made from; downloaded once."""
    installed = sorted(re.findall(r"^Package: (\S+)$", status, re.MULTILINE))
    known = CACHE / "lab" / "packages" / f"{image}-{'-'.join(names)}-{len(installed)}"
    if known.is_dir():
        return known
    root = CACHE / "lab" / "apt" / image
    for folder in ("lists/partial", "archives/partial"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    archives = known.with_name(known.name + ".new")
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    (root / "status").write_text(status, encoding="utf-8")
    signed = re.sub(r"^deb (\[.*?\] )?", f"deb [signed-by={_KEYS}] ", sources, flags=re.MULTILINE)
    (root / "list").write_text(signed, encoding="utf-8")
    options = {
        "Dir::State": root,
        "Dir::State::Lists": root / "lists",
        "Dir::State::status": root / "status",
        "Dir::Cache": root,
        "Dir::Cache::archives": archives,
        "Dir::Etc::sourcelist": root / "list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "Acquire::Check-Valid-Until": "false",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "APT::Get::AllowUnauthenticated": "false",
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "-q", "-y", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    for command in (["update"], ["install", "--download-only", *names]):
        done = subprocess.run(
            [*apt, *command], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
        assert done.returncode == 0, done.stdout + done.stderr
    archives.replace(known)
    return known
