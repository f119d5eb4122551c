# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead-man's switch on the PBX of a laboratory: armed for moments only, over connections that are only said to be."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from typing import Any

from .lab import Lab
from .modules import environment, run_module

__all__ = ["NEW", "OLD", "Armed", "Switches", "exact"]

# Environments of a process that was started over SSH, before a change and after it.
OLD = {"SSH_CONNECTION": "198.51.100.9 40001 192.0.2.1 22"}
NEW = {"SSH_CONNECTION": "198.51.100.9 40002 192.0.2.1 22"}

_STATES = "/var/lib/sipguard"
# Any number of seconds, and the process stays, as one that is still changing rules.
_ARM = """\
import sys
from ansible_collections.sipguard.pbx.plugins.module_utils._host.switch import Switch, connections
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import HostRunner
pending, taken_back = Switch(HostRunner()).arm(float(sys.argv[1]), connections())
print(pending.cookie, flush=True)
sys.stdin.read()
"""
_TIMEOUT = 30.0  # seconds after which a change that has to end counts as not ending


def exact(lab: Lab) -> dict[Any, Any]:
    """Everything of ours and of others, in the order in which it is printed; a table that is empty is one nobody has used."""
    rules = {key: _used(saved) for key, saved in lab.snapshot().items() if isinstance(key, tuple)}
    return {**rules, "sets": lab.sets(), "files": lab.files()}


def _used(saved: str) -> str:
    """A saved rule set without tables in which there is nothing but policies: the kernel keeps a table once somebody has used it."""
    blocks = re.findall(r"^\*.*?^COMMIT$", saved, flags=re.M | re.S)
    return "\n".join(block for block in blocks if re.search(r"^(-A|:\S+ (?!ACCEPT))", block, flags=re.M))


class Armed:
    """A process that armed a change and has not ended."""

    def __init__(self, lab: Lab, seconds: float, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            lab.pbx.argv(sys.executable, "-c", _ARM, str(seconds)),
            cwd="/",
            env={**environment(), **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout
        self.cookie = self._process.stdout.readline().strip()
        assert self.cookie, "not armed"

    def kill(self) -> None:
        """The end of the process and of everything in its session, without a warning."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """Its end in peace."""
        self._process.communicate()


class Switches:
    """The switch of a laboratory's PBX, its command installed."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        result = run_module(lab.pbx, "sipguard_host", {})
        assert not result.get("failed"), result

    def module(self, state: str, *, check: bool = False, env: dict[str, str] | None = None, **options: Any) -> Any:
        """The result of sipguard_switch, failed or not."""
        return run_module(self.lab.pbx, "sipguard_switch", {"state": state, **options}, check=check, env=env)

    def apply(self, state: str, **options: Any) -> Any:
        """The result of sipguard_switch, which must succeed."""
        result = self.module(state, **options)
        assert not result.get("failed"), result
        return result

    def arm(self, seconds: float, env: dict[str, str] | None = None) -> str:
        """The cookie of a change that is armed for that long."""
        armed = Armed(self.lab, seconds, env or {})
        armed.end()
        return armed.cookie

    def confirm(self, cookie: str) -> None:
        """Keeps a change."""
        assert not self.apply("confirmed", cookie=cookie, env=NEW)["changed"]

    def keep(self, *changes: Any) -> None:
        """Calls each of ``changes`` with a cookie of its own, and confirms it."""
        for change in changes:
            cookie = self.arm(60)
            change(cookie)
            self.confirm(cookie)

    def sipguard(self, *argv: str, status: int = 0) -> str:
        """What the command says, on both of its outputs."""
        done = subprocess.run(
            self.lab.pbx.argv("sipguard", *argv),
            cwd="/",
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done
        return done.stdout + done.stderr

    def situation(self) -> dict[str, Any]:
        """What `sipguard pending` knows."""
        found: dict[str, Any] = json.loads(self.lab.pbx.run("sh", "-c", "sipguard pending --json || test $? = 1"))
        return found

    def await_end(self, cookie: str) -> dict[str, Any]:
        """How a change ended, as soon as it has and its process is gone."""
        self.await_timer(cookie)
        (found,) = [change for change in self.situation()["ended"] if change["cookie"] == cookie]
        assert isinstance(found, dict)
        return found

    def await_timer(self, cookie: str) -> None:
        """Returns when nothing waits for a change to be confirmed any more."""
        for pid in self.waiting(cookie):
            with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(pid)) as process:
                assert select.select([process], [], [], _TIMEOUT)[0], f"change {cookie} does not end"

    def waiting(self, cookie: str) -> list[int]:
        """The processes that wait for a change to be confirmed."""
        listed = subprocess.run(
            ["pgrep", "-f", f"sipguard watch {cookie}$"], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]

    def kill_timer(self, cookie: str) -> None:
        """The end of the process that waits, and of everybody else's knowledge of what it knew."""
        (pid,) = self.waiting(cookie)
        os.kill(pid, signal.SIGKILL)
        self.await_timer(cookie)

    def read(self, name: str) -> str:
        """A file of the switch."""
        return self.lab.pbx.run("cat", f"{_STATES}/{name}")

    def write(self, name: str, text: str) -> None:
        """Makes a file of the switch hold something else."""
        self.lab.pbx.run("tee", f"{_STATES}/{name}", stdin=text)

    def files(self) -> list[str]:
        """What lies where the switch keeps its files."""
        return self.lab.pbx.run("ls", "-A", _STATES).split()

    def expire(self) -> None:
        """Makes the pending change one whose time ran out long ago."""
        pending = json.loads(self.read("pending.json"))
        self.write("pending.json", json.dumps({**pending, "until": pending["until"] - 5000}))
