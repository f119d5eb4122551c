# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A policy of every member that spares known sources; its text is known.v4 and known.v6 in tests/unit/fixtures/rulesets.

After a wanted change of the rules: ``PYTHONPATH=.cache python -m tests.unit.plugins.module_utils._netfilter.known_samples``
writes them anew; read the difference, and then let tests/unit/fixtures/capture load them on each release.
"""

from __future__ import annotations

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    BANNED,
    CHAIN_GATE,
    CHAIN_HOST,
    CHAIN_RATE,
    FAMILIES,
    Family,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import Policy, assemble
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import render_chains
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.signatures import ANYWHERE, Signature
from tests.unit.plugins.module_utils._netfilter import gate_samples, limit_samples, samples
from tests.unit.plugins.module_utils._netfilter.strategies import host_member

__all__ = ["GENERATION", "golden", "policy"]

GENERATION = 0x4000000
LIMITS = [limit_samples.limit("any", "100/second"), limit_samples.limit("REGISTER", "12/minute", ban_for=600)]
SSH = {"rate": "3/min", "burst": None, "ports": ["22"]}


def policy(family: Family) -> Policy:
    """Signatures, limits with one on SSH, a gate, the host's own policy, bans."""
    whole = samples.policy(family, (Signature("friendly-scanner", ANYWHERE),), no_maddr=True)
    whole = whole.with_member(CHAIN_RATE, limit_samples.member(family, limits=LIMITS, ssh=SSH))
    whole = whole.with_member(CHAIN_GATE, gate_samples.member(family)).with_member(CHAIN_HOST, host_member())
    return whole.with_drop(BANNED).with_known()


def golden(family: Family) -> str:
    """What iptables-restore is given for it."""
    return (samples.FIXTURES / "rulesets" / f"known.v{family.version}").read_text(encoding="utf-8")


def _write() -> None:
    for family in FAMILIES:
        path = samples.FIXTURES / "rulesets" / f"known.v{family.version}"
        path.write_text(render_chains(assemble(policy(family), GENERATION)), encoding="utf-8")


if __name__ == "__main__":
    _write()
