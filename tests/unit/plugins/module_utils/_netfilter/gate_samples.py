# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies that use everything sip_domain_gate can write; their text is gate.v4 and gate.v6 in tests/unit/fixtures/rulesets.

After a wanted change of the rules: ``PYTHONPATH=.cache python -m tests.unit.plugins.module_utils._netfilter.gate_samples``
writes them anew; read the difference, and then let tests/unit/fixtures/capture load them on each release.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import gate
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import CHAIN_GATE, IPV4, IPV6, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.options import ARGUMENTS, read_common
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import Member, Policy, assemble
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import render_chains
from tests.unit.plugins.module_utils._netfilter import samples

__all__ = ["GENERATION", "SAMPLES", "member", "options", "policy"]

GENERATION = 0x4000000

SAMPLES: dict[Family, dict[str, Any]] = {
    IPV4: {
        "domains": ["tel.example.com", "pbx.example.org"],
        "trunks": ["203.0.113.7", "198.51.100.0/24", "2001:db8:3::/64"],
        "learn_for": 600,
        "never": ["192.0.2.7", "2001:db8::/32"],
        "tls_ports": ["5061", "5063"],
    },
    IPV6: {
        "trunks": ["203.0.113.7", "2001:db8:3::/64"],
        "methods": ["REGISTER", "invite"],
        "tls_unreadable": "drop",
        "other_traffic": "drop",
        "interfaces": ["eth0", "wg+"],
        "action": "reject",
        "reject_with": "tcp-reset",
    },
}


def options(**given: Any) -> dict[str, Any]:
    """Options of sip_domain_gate as Ansible hands them over, all defaults filled in, with one domain."""
    own = {
        "domains": ["tel.example.com"],
        "methods": [],
        "trunks": [],
        "tls_ports": ["5061"],
        "sni": True,
        "tls_unreadable": "accept",
        "other_traffic": "accept",
        "learn_for": 0,
        "never": [],
        "trusted_callers": None,
    }
    return {**{name: argument["default"] for name, argument in ARGUMENTS.items()}, **own, **given}


def member(family: Family, **given: Any) -> Member:
    whole = options(**given)
    common = read_common(whole)
    return gate.member(common, gate.read_options(whole, common), family)


def policy(family: Family, **given: Any) -> Policy:
    """The policy of one family when sip_domain_gate with these options is all there is."""
    shared = read_common(options(**given))
    return Policy(family, shared.table, {}, shared.mask).with_member(CHAIN_GATE, member(family, **given))


def _write() -> None:
    for family, given in SAMPLES.items():
        path = samples.FIXTURES / "rulesets" / f"gate.v{family.version}"
        path.write_text(render_chains(assemble(policy(family, **given), GENERATION)), encoding="utf-8")


if __name__ == "__main__":
    _write()
