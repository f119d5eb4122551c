#!/usr/bin/env python
# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/presets.md from the tables of plugins/module_utils/_sip/presets.

usage: docs/bin/presets.py [--check]

With --check nothing is written; the exit status is 1 when the page isn't what the tables say.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

from generated import ROOT, cell, write_or_check

PAGE = ROOT / "docs" / "presets.md"

INTRODUCTION = """\
<!-- Written by docs/bin/presets.py from plugins/module_utils/_sip/presets; edit the tables, not this page. -->

# The presets

A preset is a list of signatures of scanners and dialling tools. `presets` names the lists to be used; entries of
them that are not wanted are named in `exclude`.

How an entry is compared (letter case is ignored unless `ignore_case` is false):

| match | the packet is dropped when |
|---|---|
| `exact` | the value of its User-Agent header is the entry |
| `prefix` | the value of its User-Agent header begins with the entry |
| `anywhere` | it has a User-Agent header, however spelt behind that name, and the entry stands anywhere in it |
| `payload` | the entry stands anywhere in it |

Before anything reaches the kernel every list goes through the same lint as your own entries: what another entry
covers is left out, and what would stop ordinary traffic is refused unless `allow_broad` is true. The last column says what
becomes of an entry when its preset is used alone.
"""

HEADINGS = {
    "scanners": """\
The default. Tier: safe. None of these entries may stop a phone, client, PBX or trunk in use: invented words are
searched for anywhere, common words must be the whole value of the header. An entry that stops a real product is a bug.
""",
    "aggressive": """\
Tier: aggressive. Signatures that old or rare products share, or that test tools send. Each says who may be hurt; look through
your own peers' User-Agents first.
""",
    "voipsupport": """\
Tier: published. The list as its author published it, in order, mistakes included. It names phones and clients that are in use;
the lint refuses those.
""",
    "elektronikbasteln": """\
Tier: published. The list as its author published it, in order, mistakes and duplicates included. `%20` is a blank that
the published rules never decoded, so those rules never matched; here they are decoded. Many of its entries stand in ordinary
traffic; the lint refuses those.
""",
    "hostfirewall": """\
Tier: published. The two User-Agent rules of a published firewall for Asterisk hosts.
""",
}


def code(text: str) -> str:
    """Return text as code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|")


def page() -> str:
    """Return the whole page."""
    return "\n".join(parts())


def parts() -> Iterator[str]:
    """Yield the page piece by piece."""
    from ansible_collections.sipguard.pbx.plugins.module_utils._sip.lint import lint
    from ansible_collections.sipguard.pbx.plugins.module_utils._sip.presets import PRESETS

    yield INTRODUCTION
    for name, signatures in PRESETS.items():
        result = lint(signatures)
        left = list(result.effective)
        rows = []
        counts = Counter[str]()
        for signature in signatures:
            entry = signature.entry
            reason = ""
            if signature in left:
                left.remove(signature)
                fate = "effective"
            elif entry in result.refused:
                fate, reason = "refused", f": {cell(result.refused[entry])}"
            else:
                fate, reason = "covered", f" by {code(result.covered[entry])}"
            counts[fate] += 1
            columns = (code(entry), signature.match, cell(signature.note), cell(signature.source), fate + reason)
            rows.append(f"| {' | '.join(columns)} |")
        yield f"## {name}\n\n{HEADINGS[name]}"
        tally = ", ".join(f"{counts[fate]} {fate}" for fate in ("effective", "covered", "refused"))
        yield f"{len(signatures)} entries: {tally}.\n"
        yield "| entry | match | what sends it | source | what becomes of it |"
        yield "|---|---|---|---|---|"
        yield from rows
        yield ""


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page, "the tables of the presets"))
