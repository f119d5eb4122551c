#!/usr/bin/env python
# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/range-presets.md from the tables of plugins/module_utils/_sip/range_presets.

usage: docs/bin/range_presets.py [--check]

With --check nothing is written; the exit status is 1 when the page isn't what the tables say.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator

from generated import ROOT, cell, write_or_check

PAGE = ROOT / "docs" / "range-presets.md"

INTRODUCTION = """\
<!-- Written by docs/bin/range_presets.py from plugins/module_utils/_sip/range_presets; edit the tables, not this page. -->

# The presets of ranges

Addresses and ranges that others have published, as they published them. `pbx_blocklists_presets` names those to be
used, and is empty by default: **no preset is on unless you name it.** What lists do with them: [blocklists](guides/blocklists.md).

| tier | what is in it |
|---|---|
| `hosters` | whole ranges, with other people's customers in them. Run it in mode observe for a week first |
| `addresses` | single sources, seen once. Old ones are most likely somebody else's by now |

*Reviewed* is the day on which the entries were last compared with their publication, and the warning was written. It does not say
that they still attack: nobody knows that of an undated list. What could not be verified is called so.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join(parts())


def parts() -> Iterator[str]:
    """Yield the page piece by piece."""
    from ansible_collections.sipguard.pbx.plugins.module_utils._sip.range_presets import RANGE_PRESETS, details
    from ansible_collections.sipguard.pbx.plugins.module_utils._sip.ranges import parse_range

    yield INTRODUCTION
    for name in RANGE_PRESETS:
        preset = details(name)
        spans = []
        for entry in preset.entries:
            version, first, last = parse_range(entry.value)
            if version != 4:
                raise SystemExit(f"{name}: {entry.value}: this page counts IPv4 addresses only")
            spans.append((ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)))
        networks = [network for span in spans for network in ipaddress.summarize_address_range(*span)]
        total = sum(network.num_addresses for network in ipaddress.collapse_addresses(networks))
        shortest = min(network.prefixlen for network in networks)
        yield f"## {name}\n"
        yield f"**{cell(preset.warning)}**\n"
        yield f"- Source: {cell(preset.source)}"
        yield f"- Published: {cell(preset.published)}. Reviewed: {preset.reviewed}. Tier: `{preset.tier}`"
        yield f"- {len(spans)} entries, {total:,} addresses; the widest network in it is a /{shortest}\n"
        yield "| entry | addresses | note |"
        yield "|---|---|---|"
        for entry, (begin, end) in zip(preset.entries, spans, strict=True):
            yield f"| `{entry.value}` | {int(end) - int(begin) + 1:,} | {cell(entry.note)} |"
        yield ""


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page, "the tables of the presets of ranges"))
