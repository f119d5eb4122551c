# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit: every check, once, over one configuration."""

from __future__ import annotations

from . import dialling, freepbx, guests, host, manager, mistakes, network, secrets, tls, unseen
from .context import Context
from .finding import Finding, Findings, kinds

# kinds() is complete where it comes from here: each check declares its own when it is imported.
__all__ = ["kinds", "run"]


def run(context: Context) -> list[Finding]:
    """Findings by severity, then id. Raises SipguardError only when the disk fails."""
    findings = Findings()
    for each in (guests, secrets, manager, tls, dialling, network, mistakes, unseen, host, freepbx):
        each.check(context, findings)
    # after the others: these look at whatever has been read by then
    for name in ("asterisk.conf", "acl.conf"):
        context.tree(name)
    mistakes.check_files(context, findings)
    unseen.check_files(context, findings)
    host.check_files(context, findings)
    return findings.all()
