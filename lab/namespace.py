# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount namespace with pure cgroup v2, for podman on a machine whose cgroups are not.

systemd 256 and later refuse to start under cgroup v1 or the hybrid layout. The machine's own mounts stay as they are: the lab
runs in a mount namespace of its own. Podman keeps a container's root and network as mounts, so every call has to be made in the same
one; it is kept by a bind mount under /run and goes when the machine's last lab is taken down.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from .paths import CHECKOUT, LabError

__all__ = ["inside", "needed", "run_inside"]

_HOME = Path("/run/sipguard-lab")
_PIN = _HOME / "mnt"
_MARK = "SIPGUARD_LAB_NAMESPACE"
_PURE = "umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"


def inside() -> bool:
    """Whether this process already runs in the lab's namespace."""
    return os.environ.get(_MARK) == "1"


def needed() -> bool:
    """Whether podman would be used and the machine's cgroups are anything but pure v2."""
    if os.environ.get("SIPGUARD_LAB_ENGINE") == "docker" or shutil.which("podman") is None:
        return False
    return os.geteuid() == 0 and not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def _mounted(path: Path) -> bool:
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        return any(line.split()[4] == str(path) for line in lines)


def _call(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"the lab's mount namespace: {' '.join(argv)}: {done.stderr.strip()}")


def _pin() -> None:
    if not _mounted(_HOME):
        # a namespace can be bound only below a mount that does not propagate
        _call("mount", "--bind", str(_HOME), str(_HOME))
        _call("mount", "--make-private", str(_HOME))
    if not _mounted(_PIN):
        _PIN.touch()
        _call("unshare", f"--mount={_PIN}", "sh", "-c", _PURE)


def _unpin() -> None:
    for path in (_PIN, _HOME):
        if _mounted(path):
            _call("umount", str(path))
    _PIN.unlink(missing_ok=True)


def run_inside(argv: list[str]) -> int:
    """Run ``python3 -m lab ARGV`` in the namespace and return its exit status; drop the namespace with its last container."""
    _HOME.mkdir(mode=0o700, exist_ok=True)
    guard = os.open(_HOME.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    enter = ["nsenter", f"--mount={_PIN}", sys.executable, "-m", "lab"]
    env = {
        **os.environ,
        _MARK: "1",
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    fcntl.flock(guard, fcntl.LOCK_EX)
    _pin()
    fcntl.flock(guard, fcntl.LOCK_SH)
    child = subprocess.Popen([*enter, *argv], env=env)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child too, which cleans up
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    status = child.wait()
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return status  # another lab command is at work; its end will look again
    left = subprocess.run(
        [*enter, "engine", "--", "ps", "-aq", "--filter", "label=org.sipguard.lab"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if left.returncode == 0 and not left.stdout.strip():
        _unpin()
    return status
