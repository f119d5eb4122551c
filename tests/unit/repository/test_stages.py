# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/bin/stages, which make test is made of: what one target says is seen, and one that fails is not overlooked."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.repository.checkout import TOP

# "meets" and "met" end only when they run at the same time; "endless" ends only when it is ended.
MAKEFILE = """
.PHONY: setup good meets met bad endless
setup:
\t@true
good:
\t@echo 5 passed
meets:
\t@echo hello > one; cat two; echo 7 passed
met:
\t@cat one; echo hello > two; echo 9 passed
bad:
\t@echo it is broken; exit 3
endless:
\t@echo $$$$ > pid; sleep 100000
"""


@pytest.fixture
def stages(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the script in a folder with that Makefile."""
    place = tmp_path / "tests/bin"
    place.mkdir(parents=True)
    shutil.copy(TOP / "tests/bin/stages", place)
    (tmp_path / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    subprocess.run(["mkfifo", "one", "two"], cwd=tmp_path, check=True)

    def run(*targets: str) -> subprocess.CompletedProcess[str]:
        argv = [str(place / "stages"), *targets]
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_targets_run_one_after_the_other(stages: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = stages("good", "good")
    assert done.returncode == 0
    assert done.stdout.count("5 passed") == 2
    assert "everything passed: good good" in done.stdout


def test_joined_targets_run_side_by_side_and_say_what_they_said(
    stages: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = stages("meets+met", "good")
    assert done.returncode == 0, done.stdout
    for words in ("7 passed", "9 passed", "5 passed", "everything passed"):
        assert words in done.stdout
    assert (tmp_path / ".cache/stages/meets.log").read_text(encoding="utf-8") == "hello\n7 passed\n"


def test_first_that_fails_ends_the_run(stages: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = stages("good", "bad", "met")
    assert done.returncode != 0
    assert "it is broken" in done.stdout
    assert "bad failed; what comes after it did not run" in done.stdout


def test_failure_ends_what_runs_beside_it(
    stages: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = stages("endless+bad", "good")
    assert done.returncode != 0
    assert "it is broken" in done.stdout
    assert "5 passed" not in done.stdout
    started = tmp_path / "pid"
    assert not started.exists() or not Path("/proc", started.read_text().strip()).exists()
