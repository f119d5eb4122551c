# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``sipguard`` on the PBX of a laboratory, installed there by its module."""

from __future__ import annotations

import subprocess
from typing import Any

from .lab import Lab
from .modules import environment, run_module

__all__ = ["COMMAND", "boot", "forget", "host", "install", "repair", "sipguard"]

COMMAND = "/usr/local/sbin/sipguard"


def host(lab: Lab, check: bool = False, **options: Any) -> dict[str, Any]:
    """The result of sipguard_host, failed or not."""
    return run_module(lab.pbx, "sipguard_host", options, check=check)


def install(lab: Lab, **options: Any) -> dict[str, Any]:
    """The result of sipguard_host, which must succeed."""
    result = host(lab, **options)
    assert not result.get("failed"), result
    return result


def sipguard(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command run to its end."""
    argv = lab.pbx.argv(COMMAND, *arguments)
    return subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False)


def repair(lab: Lab) -> str:
    """What a repair says, which must succeed."""
    done = sipguard(lab, "repair")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def forget(lab: Lab) -> None:
    """The kernel as it comes up."""
    lab.pbx.run("nft", "flush", "ruleset")
    tables = [(six, table) for six in ("", "6") for table in ("filter", "mangle", "raw")]
    commands = [f"ip{six}tables-legacy -w -t {table} {flag}" for six, table in tables for flag in ("-F", "-X")]
    lab.pbx.run("sh", "-ec", "; ".join([*commands, "ipset destroy"]))


def boot(lab: Lab) -> subprocess.CompletedProcess[str]:
    """What is loaded then, and says so."""
    forget(lab)
    return sipguard(lab, "restore")
