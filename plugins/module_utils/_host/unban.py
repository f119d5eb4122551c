# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking addresses out of the sets that name single ones for a time: learned offenders, bans, what was observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._netfilter import sets
from .._netfilter.names import BANNED, OBSERVED, OFFENDERS
from .._netfilter.runner import Runner
from . import report

__all__ = ["unban"]

_LEARNED = (OFFENDERS, OBSERVED)
_ALL = (OFFENDERS, BANNED, OBSERVED)


def unban(
    runner: Runner, addresses: Sequence[report.Address], *, learned_only: bool = False
) -> tuple[dict[str, Any], str, int]:
    """Take the addresses out; findings by address, the same as text, and the exit status: 0, also for one that was in no set.

    ``learned_only`` leaves the bans, which somebody has set on purpose. Trust and blocklists stay as they are in either case.
    Raises SipguardError with ipset's own words.
    """
    findings: dict[str, Any] = {}
    texts = []
    for address in addresses:
        before = report.why(runner, address)[0]["found"]
        removed = [before[base]["set"] for base in (_LEARNED if learned_only else _ALL) if base in before]
        # -exist: its time may run out just now.
        sets.restore(runner, "".join(f"del {name} {address} -exist\n" for name in removed))
        found, text, dummy = report.why(runner, address)
        findings[str(address)] = {**found, "removed": removed}
        done = f"taken out of {', '.join(removed)}" if removed else "nothing to take it out of"
        texts.append(f"{address}: {done}\n{text}")
    return findings, "\n".join(texts), 0
