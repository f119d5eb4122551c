# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that are killed in the middle: by the nth deed, a change of a file or of the kernel."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from .lab import Lab
from .modules import environment, module_process

__all__ = ["killed"]

# Python runs this before the module: the process dies right before its nth deed. Reading and trying do not count, nor
# does netlink before the first deed, which is only asked what it can do.
_KILLER = """\
import os
import signal
import sys

at = int(os.environ["DIE_AT"])
deeds = 0
OURS = ("/etc/sipguard", "/var/lib/sipguard")


def before(event, args):
    global deeds
    if event == "subprocess.Popen":
        deed = not str(args[0]).endswith("-save") and not {"--test", "list", "save", "--version"} & set(args[1])
    elif event == "open":
        deed = str(args[0]).startswith(OURS) and args[2] & (os.O_WRONLY | os.O_RDWR)
    elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
        deed = str(args[0]).startswith(OURS)
    else:
        deed = event == "socket.bind" and deeds  # netlink
    if deed:
        deeds += 1
        if deeds == at:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(before)
"""


def killed(lab: Lab, folder: Path, at: int, module: str, options: dict[str, Any]) -> bool:
    """Runs the module and kills it right before its nth deed; whether it came to that."""
    (folder / "sitecustomize.py").write_text(_KILLER)
    env = {"PYTHONPATH": f"{folder}:{environment()['PYTHONPATH']}", "DIE_AT": str(at)}
    with module_process(lab.pbx, module, lab.options(module, **options), env=env) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGKILL), out + err
    return process.returncode != 0
