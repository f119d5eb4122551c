# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import lock
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.lock import exclusive
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

HOLD = "import fcntl, sys\nfile = open(sys.argv[1], 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sipguard.lock"
    monkeypatch.setattr(lock, "LOCK_FILE", str(path))
    return path


@pytest.fixture
def holder(file: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its standard input ends."""
    argv = [sys.executable, "-c", HOLD, str(file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_exclusive_can_be_had_again_and_again(file: Path) -> None:
    for dummy in range(2):
        with exclusive(0):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(KeyError), exclusive(0):
        raise KeyError
    with exclusive(0):
        pass


def test_exclusive_gives_up_while_another_run_is_at_work(holder: subprocess.Popen[str]) -> None:
    with pytest.raises(SipguardError, match=r"another run of sipguard .* for 0 s; nothing was changed"), exclusive(0):
        raise AssertionError("entered")


def test_exclusive_waits_for_another_run(holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        holder.kill()
        holder.wait()

    monkeypatch.setattr(time, "sleep", wait)
    with exclusive(60):
        assert len(waits) == 1


def test_lock_is_free_when_its_holder_was_killed(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with exclusive(0):
        pass


def test_check_mode_needs_no_lock(file: Path, holder: subprocess.Popen[str]) -> None:
    with exclusive(0, wanted=False):
        pass


def test_check_mode_makes_no_file(file: Path) -> None:
    with exclusive(0, wanted=False):
        assert not file.exists()


def test_lock_is_not_made_through_a_link(file: Path, tmp_path: Path) -> None:
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SipguardError, match="cannot lock"), exclusive(0):
        raise AssertionError("entered")
    assert os.listdir(tmp_path) == ["sipguard.lock"]
