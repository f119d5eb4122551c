# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host without any rules, made of a few commands: what is read is empty, and everything else is written down and refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CACHE", "BareHost", "bare_host", "run_task"]

CACHE = Path(__file__).resolve().parents[3] / ".cache"

_COMMAND = """\
#!/bin/sh
name=${0##*/}
case "$name $*" in
    *"-save "|"ipset list -terse") echo "$name $*" >>"$SIPGUARD_READ" ;;
    *) echo "$name $*" >>"$SIPGUARD_REFUSED"; exit 9 ;;
esac
"""


# The places in which the product looks for commands besides PATH are those of this machine, so they are taken away.
_WITHOUT_COMMANDS = """\
import runpy, sys
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import runner
runner._EXTRA_PATH = ()
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class BareHost:
    """``read`` and ``refused`` are the commands that were started, in order."""

    root: Path

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.root / 'bin'}:{os.defpath}",
            "PYTHONPATH": str(CACHE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
            "HOME": str(self.root),
            "SIPGUARD_READ": str(self.root / "read"),
            "SIPGUARD_REFUSED": str(self.root / "refused"),
        }

    def _lines(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def read(self) -> list[str]:
        return self._lines("read")

    @property
    def refused(self) -> list[str]:
        return self._lines("refused")

    def run_module(
        self, name: str, options: dict[str, Any], *, check: bool = False, commands: bool = True
    ) -> dict[str, Any]:
        """A module's result, failed or not: the real module in a process of its own. Without ``commands`` there is none at all."""
        arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
        file = self.root / "arguments.json"
        file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        module = f"ansible_collections.sipguard.pbx.plugins.modules.{name}"
        argv = [sys.executable, *(["-m"] if commands else ["-c", _WITHOUT_COMMANDS]), module, str(file)]
        environment = self.environment() if commands else {**self.environment(), "PATH": str(self.root / "nowhere")}
        done = subprocess.run(argv, cwd="/", env=environment, capture_output=True, text=True, check=False)
        assert done.stdout.startswith("\n{"), done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert bool(result.get("failed")) == (done.returncode != 0), result
        return result


def bare_host(root: Path) -> BareHost:
    commands = root / "bin"
    commands.mkdir()
    names = ["ipset", *(f"{binary}-{name}" for binary in ("iptables", "ip6tables") for name in ("nft", "legacy"))]
    names += [f"{name}-{tool}" for name in names[1:] for tool in ("save", "restore")]
    for name in names:
        (commands / name).write_text(_COMMAND)
        (commands / name).chmod(0o755)
    (commands / "iptables").symlink_to("iptables-nft")
    return BareHost(root)


def run_task(host: BareHost, module: str, options: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A real Ansible's task in check mode, with its action plugin. A resolver out of reach gets one second."""
    environment = {
        **host.environment(),
        "ANSIBLE_COLLECTIONS_PATH": str(CACHE),
        "ANSIBLE_HOME": str(host.root / "ansible"),
        "ANSIBLE_REMOTE_TEMP": str(host.root / "remote"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
        "COLUMNS": "1000",
        "RES_OPTIONS": "timeout:1 attempts:1",
    }
    del environment["PYTHONPATH"]
    argv = [str(Path(sys.executable).parent / "ansible"), "localhost", "--connection", "local", "--check", *arguments]
    argv += ["--extra-vars", f"ansible_python_interpreter={sys.executable}"]
    argv += ["--module-name", f"sipguard.pbx.{module}", "--args", json.dumps(options)]
    environment["PATH"] = f"{host.root / 'bin'}:{Path(sys.executable).parent}:{os.defpath}"
    return subprocess.run(argv, env=environment, cwd=host.root, capture_output=True, text=True, check=False)
