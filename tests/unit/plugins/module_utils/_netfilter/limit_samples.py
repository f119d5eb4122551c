# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A policy that uses everything sip_ratelimit can write; its text is limits.v4 and limits.v6 in tests/unit/fixtures/rulesets.

After a wanted change of the rules: ``PYTHONPATH=.cache python -m tests.unit.plugins.module_utils._netfilter.limit_samples``
writes them anew; read the difference, and then let tests/unit/fixtures/capture load them on each release.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import limits
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import CHAIN_RATE, FAMILIES, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.options import ARGUMENTS, read_common
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import Member, Policy, assemble
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import render_chains
from tests.unit.plugins.module_utils._netfilter import samples

__all__ = ["GENERATION", "SAMPLE", "limit", "member", "options", "policy"]

GENERATION = 0x4000000


def limit(method: str = "REGISTER", rate: str = "12/minute", **more: Any) -> dict[str, Any]:
    """One entry of ``limits`` as Ansible hands it over, all defaults filled in."""
    defaults = {"burst": None, "engine": "hashlimit", "per": "source", "ban_for": 0}
    return {**defaults, "method": method, "rate": rate, **more}


SAMPLE: dict[str, Any] = {
    "limits": [
        limit("any", "100/second", burst=1000),
        limit("any", "3000/second", burst=6000, per="source_net"),
        # printed in another unit; with the default time to live, which is not printed, and with another one
        limit("REGISTER", "60/minute", burst=300),
        limit("REGISTER", "700/minute", burst=700, ban_for=600),
        limit("register", "2/day", burst=1, per="source_net"),
        limit("INVITE", "12/minute", burst=12),
        limit("INVITE", "12/minute", engine="recent"),
        limit("OPTIONS", "20/hour", engine="recent", per="source_net", ban_for=2147483),
        *(
            limit(method, "5/s")
            for method in ("ACK", "BYE", "CANCEL", "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "UPDATE", "PRACK", "INFO", "PUBLISH")
        ),
    ],
    "ssh": {"rate": "3/min", "burst": None, "ports": ["2222", "22"]},
    "never": ["192.0.2.7", "198.51.100.0/24", "2001:db8::/32"],
    "interfaces": ["eth0", "wg+"],
    "action": "reject",
    "reject_with": "tcp-reset",
}  # fmt: skip


def options(**given: Any) -> dict[str, Any]:
    """Options of sip_ratelimit as Ansible hands them over, all defaults filled in."""
    shared = {name: argument["default"] for name, argument in ARGUMENTS.items()}
    return {**shared, "presets": [], "limits": [], "ssh": None, "never": [], **given}


def member(family: Family, **given: Any) -> Member:
    whole = options(**given)
    return limits.member(read_common(whole), limits.read_options(whole), family)


def policy(family: Family, **given: Any) -> Policy:
    """The policy of one family when sip_ratelimit with these options is all there is."""
    shared = read_common(options(**given))
    return Policy(family, shared.table, {}, shared.mask).with_member(CHAIN_RATE, member(family, **given))


def _write() -> None:
    for family in FAMILIES:
        path = samples.FIXTURES / "rulesets" / f"limits.v{family.version}"
        path.write_text(render_chains(assemble(policy(family, **SAMPLE), GENERATION)), encoding="utf-8")


if __name__ == "__main__":
    _write()
