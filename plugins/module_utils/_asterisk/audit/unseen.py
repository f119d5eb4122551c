# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the files cannot tell, and what nobody writes down: realtime, programs that make configuration, logs."""

from __future__ import annotations

from ..document import Directive
from ..tree import fold
from .context import Context, tokens
from .finding import INFO, LOW, MEDIUM, Findings, kind

__all__ = ["check", "check_files"]

REALTIME = kind(
    "realtime",
    INFO,
    "Configuration that is in a database",
    "Endpoints, peers or the dialplan come from there as well; this audit has not seen them.",
    "Look through the tables by hand for the same mistakes.",
)
EXEC = kind(
    "exec-in-configuration",
    LOW,
    "A program writes a part of the configuration",
    "What #exec puts in at the next reload is in no file that could be looked at.",
    "Have the program write a file, and include that.",
)
FAIL2BAN = kind(
    "log-without-attacks",
    MEDIUM,
    "No log file gets what fail2ban reads",
    "Failed registrations and calls are messages of level notice and warning; without them in a file nobody is ever banned.",
    "Add a line such as messages => notice,warning,error to [logfiles] of logger.conf.",
)
SECURITY = kind(
    "security-log-missing",
    LOW,
    "No log file gets security events",
    "Who succeeded from where is in these events alone.",
    "Add sipguard-security => [json]security to [logfiles] of logger.conf (asterisk_sip_hardening with logger does).",
)

_SORCERY_LOCAL = {"config", "astdb", "memory", "memory_cache"}


def check(context: Context, findings: Findings) -> None:
    for section in context.sections("extconfig.conf"):
        if fold(section.name) == "settings":
            for variables in section.options.values():
                findings.add(REALTIME, variables[0].name, variables[0].place)
    for section in context.sections("sorcery.conf"):
        if fold(section.name).startswith("test_sorcery"):
            continue  # Asterisk's own tests
        for variables in section.options.values():
            for each in variables:
                if fold(each.value.partition(",")[0].strip()) not in _SORCERY_LOCAL:
                    findings.add(REALTIME, f"{section.name}, {each.name}", each.place)
    _logger(context, findings)


def check_files(context: Context, findings: Findings) -> None:
    """``#exec`` in any configuration that has been looked at, where Asterisk would run it."""
    if not context.directory.runs_exec:
        return
    for tree in context.trees:
        for name, document in tree.files.items():
            for statement in document.statements:
                if isinstance(statement, Directive) and statement.kind == "exec":
                    findings.add(EXEC, tree.name, f"{name}:{statement.line}")


def _logger(context: Context, findings: Findings) -> None:
    if not context.tree("logger.conf").exists:
        return
    logfiles = context.first("logger.conf", "logfiles")
    levels: set[str] = set()
    together = False
    for variables in logfiles.options.values():
        for each in variables:
            name = fold(each.name)
            if name == "console" or name.startswith("syslog."):
                continue
            # a formatter, such as [json], may stand before the levels
            here = {word.rpartition("]")[2].strip() for word in tokens(each.value)}
            here = {"notice", "warning", "security"} if "*" in here else here
            together = together or {"notice", "warning"} <= here
            levels |= here
    if not together:
        findings.add(FAIL2BAN, "logger.conf", logfiles.place)
    if "security" not in levels:
        findings.add(SECURITY, "logger.conf", logfiles.place)
