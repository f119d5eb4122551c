#!/usr/bin/env python
# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/audit-findings.md from the audit's own declarations in plugins/module_utils/_asterisk/audit.

usage: docs/bin/audit_findings.py [--check]

With --check nothing is written; the exit status is 1 when the page isn't what the code says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from generated import ROOT, cell, write_or_check

PAGE = ROOT / "docs" / "audit-findings.md"

INTRODUCTION = """\
<!-- Written by docs/bin/audit_findings.py from plugins/module_utils/_asterisk/audit; edit the code, not this page. -->

# The findings of the audit

How to run it, what its severities mean and how to accept a finding is in [its guide](guides/audit.md). An id never changes its
meaning. The severity is the usual one: a finding that is less sure, or that something else makes worse, says so itself.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join(parts())


def parts() -> Iterator[str]:
    """Yield the page piece by piece."""
    from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.finding import SEVERITIES
    from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.run import kinds

    yield INTRODUCTION
    found = list(kinds())
    yield f"{len(found)} findings.\n"
    for severity in SEVERITIES:
        yield f"## {severity.capitalize()}\n"
        yield "| id | what it means | why it matters | what to do |"
        yield "|---|---|---|---|"
        for each in found:
            if each.severity == severity:
                yield f"| `{each.id}` | {cell(each.title)} | {cell(each.why)} | {cell(each.remedy)} |"
        yield ""


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page, "the audit's code"))
