# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces as hosts: made, entered and removed, after a crash too."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["Namespace", "in_namespace", "remove_stale", "run"]

T = TypeVar("T")

PREFIX = "sgt"
_NAME = re.compile(rf"{PREFIX}(\d+)-\d+-\w+")
_counter = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1

# What a host must not share with the machine: its configuration, the xtables lock, what it installs for itself.
_PRIVATE = ("/etc", "/usr/local", "/var/lib")
_HOLD = f"""
set -e
mount -t tmpfs -o mode=755 sipguard-test /mnt
for d in {" ".join(_PRIVATE)}; do
    mkdir -p /mnt/up$d /mnt/work$d
    mount -t overlay -o lowerdir=$d,upperdir=/mnt/up$d,workdir=/mnt/work$d sipguard-test $d
done
mount -t tmpfs -o mode=755 sipguard-test /run
mount -t sysfs sysfs /sys
echo ready
read -r _
"""


def run(*argv: str, stdin: str | None = None) -> str:
    """Standard output of `argv`; an AssertionError with its standard error when it fails."""
    done = subprocess.run(
        argv,
        input=stdin,
        text=True,
        errors="surrogateescape",
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr or done.stdout}\n{stdin or ''}"
    return done.stdout


def remove_stale() -> None:
    """Removes the namespaces of runs whose process is gone."""
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        owner = _NAME.fullmatch(name)
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            run("ip", "netns", "delete", name)


def in_namespace(name: str, act: Callable[[], T]) -> T:
    """What `act` returns when it runs in the network namespace `name`. A socket stays where it was made."""
    result: list[T] = []
    error: list[BaseException] = []

    def enter() -> None:
        try:
            fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(fd, _CLONE_NEWNET):  # of this thread only
                    raise OSError(ctypes.get_errno(), f"setns {name}")
            finally:
                os.close(fd)
            result.append(act())
        except BaseException as exc:
            error.append(exc)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return result[0]


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Namespace:
    """A network namespace; with `private_files` also its own /etc, /run, /usr/local and /var/lib, kept by a process."""

    def __init__(self, role: str, private_files: bool = False) -> None:
        self.name = f"{PREFIX}{os.getpid()}-{next(_counter)}-{role}"
        self._holder: subprocess.Popen[str] | None = None
        self._enter = [f"--net=/run/netns/{self.name}"]
        run("ip", "netns", "add", self.name)
        if private_files:
            self._hold()

    def _hold(self) -> None:
        self._holder = subprocess.Popen(
            ["nsenter", *self._enter, "unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=_die_with_parent,
        )
        stdout = self._holder.stdout
        assert stdout is not None
        assert stdout.readline() == "ready\n"
        self._enter.append(f"--mount=/proc/{self._holder.pid}/ns/mnt")

    def argv(self, *argv: str) -> list[str]:
        """`argv` as it has to be started to run inside."""
        return ["nsenter", *self._enter, *argv]

    def run(self, *argv: str, stdin: str | None = None) -> str:
        """Standard output of `argv`, run inside; an AssertionError when it fails."""
        return run(*self.argv(*argv), stdin=stdin)

    def succeeds(self, *argv: str) -> bool:
        """Whether `argv`, run inside, exits with 0."""
        return subprocess.run(self.argv(*argv), capture_output=True, check=False).returncode == 0

    def ip(self, lines: Sequence[str]) -> None:
        """Runs `ip` commands inside, in one batch."""
        run("ip", "-n", self.name, "-batch", "-", stdin="\n".join(lines) + "\n")

    def sysctl(self, settings: dict[str, str]) -> None:
        """Writes settings that belong to the namespace; keys are paths below /proc/sys."""

        def write() -> None:
            for key, value in settings.items():
                with open(f"/proc/sys/{key}", "w") as handle:  # /proc/sys/net is that of the opening thread
                    handle.write(value)

        in_namespace(self.name, write)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket inside."""
        return in_namespace(self.name, lambda: socket.socket(family, kind, protocol))

    def close(self) -> None:
        """Removes the namespace and ends its holder."""
        if self._holder:
            self._holder.kill()
            self._holder.wait()
            for pipe in (self._holder.stdin, self._holder.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
        run("ip", "netns", "delete", self.name)
