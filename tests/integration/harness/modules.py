# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules of the collection run on a host of namespaces, as real processes and without Ansible's transport."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .netns import Namespace

__all__ = ["CHECKOUT", "collection_path", "environment", "finish", "module_process", "run_module"]

CHECKOUT = Path(__file__).resolve().parents[3]
_TIMEOUT = 120  # seconds after which a module run counts as hanging


def collection_path() -> Path:
    """The folder that holds `ansible_collections`, made where the setup has not made it yet."""
    link = CHECKOUT / ".cache/ansible_collections/sipguard/pbx"
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(CHECKOUT)
    return CHECKOUT / ".cache"


def environment() -> dict[str, str]:
    """The environment a module is started with: nothing of the tests' own."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": str(collection_path()),
        "LANG": "C.UTF-8",
        "HOME": "/root",
    }


@contextlib.contextmanager
def module_process(
    host: Namespace,
    name: str,
    options: dict[str, Any],
    *,
    check: bool = False,
    env: dict[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[subprocess.Popen[str]]:
    """A module at work on `host`, its result on standard output; `prefix` is a command that starts it, `env` more variables."""
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as handle:
        json.dump({"ANSIBLE_MODULE_ARGS": arguments}, handle)
        handle.flush()
        argv = [*prefix, sys.executable, "-m", f"ansible_collections.sipguard.pbx.plugins.modules.{name}", handle.name]
        with subprocess.Popen(
            host.argv(*argv),
            cwd="/",
            env={**environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            yield process


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The result of a module that is left to end by itself."""
    out, err = process.communicate(timeout=_TIMEOUT)
    try:
        result: dict[str, Any] = json.loads(out)
    except ValueError:
        raise AssertionError(f"the module ended with {process.returncode}\n{out}\n{err}") from None
    assert bool(result.get("failed")) == (process.returncode != 0), result
    return result


def run_module(
    host: Namespace, name: str, options: dict[str, Any], *, check: bool = False, env: dict[str, str] | None = None
) -> dict[str, Any]:
    """The result of a module run on `host`, failed or not."""
    with module_process(host, name, options, check=check, env=env) as process:
        return finish(process)
