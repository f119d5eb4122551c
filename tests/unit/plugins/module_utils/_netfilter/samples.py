# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three small policies that use everything sip_ua_blocklist can write; their text is in tests/unit/fixtures/rulesets.

After a wanted change of the rules: ``PYTHONPATH=.cache python -m tests.unit.plugins.module_utils._netfilter.samples``
writes them anew; read the difference, and then let tests/unit/fixtures/capture load them on each release.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import user_agents
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    CHAIN_UA,
    FAMILIES,
    IPV4,
    IPV6,
    Family,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.options import ARGUMENTS, Common, read_common
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import Policy, assemble
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import render_chains
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.signatures import (
    ANYWHERE,
    EXACT,
    PAYLOAD,
    PREFIX,
    Signature,
)

__all__ = ["FIXTURES", "GENERATIONS", "SAMPLES", "SIGNATURES", "common", "golden", "options", "policy", "saved"]

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"

SIGNATURES = (
    Signature("friendly-scanner", ANYWHERE),
    Signature("sipcli", PREFIX),
    Signature("-", EXACT),
    Signature("§cänner", PREFIX),
    Signature("sip:nm@nm", PAYLOAD),
    Signature("a'or'3=3--", PAYLOAD),
    Signature('"; drop table `users`', PAYLOAD),
    Signature("back\\slash", PAYLOAD),
    Signature('two\\\\ and \\"quote', PAYLOAD),
    Signature("at the end\\", PAYLOAD),
)

SAMPLES: dict[str, dict[str, Any]] = {
    "enforce": {
        "ports": ["5060:5061", "5070"],
        "learn_for": 600,
        "never": ["192.0.2.7", "2001:db8::/32"],
        "no_maddr": True,
    },
    "observe": {
        "mode": "observe",
        "protocols": ["udp"],
        "table": "mangle",
        "ignore_case": False,
        "missing_user_agent": True,
    },
    "reject": {
        "action": "reject",
        "reject_with": "tcp-reset",
        "interfaces": ["eth0", "wg+"],
        "ports": [str(port) for port in range(5060, 5092, 2)],
        "learn_for": 0,
        "no_user_agent": False,
        "mark_mask": "0x300",
    },
}
# Generation under which each of them admits, in its text.
GENERATIONS = {"enforce": 0x8000000, "observe": 0xC000000, "reject": 0x100}

_OWN_DEFAULTS: dict[str, Any] = {
    "presets": [],
    "user_agents": [],
    "payloads": [],
    "exclude": [],
    "allow_broad": False,
    "ignore_case": True,
    "no_user_agent": True,
    "missing_user_agent": False,
    "learn_for": 3600,
    "never": [],
    "no_maddr": False,
}


def options(**given: Any) -> dict[str, Any]:
    """Options of sip_ua_blocklist as Ansible hands them over, all defaults filled in."""
    shared = {name: argument["default"] for name, argument in ARGUMENTS.items()}
    return {**shared, **_OWN_DEFAULTS, **given}


def common(**given: Any) -> Common:
    return read_common(options(**given))


def policy(family: Family, signatures: tuple[Signature, ...] = SIGNATURES, **given: Any) -> Policy:
    """The policy of one family when sip_ua_blocklist with these options is all there is."""
    shared = common(**given)
    wanted = user_agents.read_options(options(**given), signatures)
    empty = Policy(family, shared.table, {}, shared.mask)
    return empty.with_member(CHAIN_UA, user_agents.member(shared, wanted, family))


def golden(sample: str, family: Family) -> str:
    """What iptables-restore is given for a sample."""
    return (FIXTURES / "rulesets" / f"{sample}.v{family.version}").read_text(encoding="utf-8")


def saved(sample: str) -> dict[str, tuple[Family, str]]:
    """What iptables-save printed for a sample: "1.8.9 nft" -> family and text."""
    found = {}
    for path in sorted((FIXTURES / "saved").glob(f"iptables-save_*_{sample}.v?")):
        dummy, version, backend, name = path.name.split("_")
        found[f"{version} {backend}"] = (IPV4 if name.endswith("4") else IPV6, path.read_text(encoding="utf-8"))
    return found


def _write() -> None:
    for sample, given in SAMPLES.items():
        for family in FAMILIES:
            tables = assemble(policy(family, **given), GENERATIONS[sample])
            path = FIXTURES / "rulesets" / f"{sample}.v{family.version}"
            path.write_text(render_chains(tables), encoding="utf-8")


if __name__ == "__main__":
    _write()
