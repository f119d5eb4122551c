# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``sipguard feeds`` says and does on a host whose lists are all its own, when somebody has been at the rules or the sets."""

from __future__ import annotations

from tests.integration.harness.command import install, sipguard
from tests.integration.harness.feeds import LISTED, TWIN, passes, refresh, status
from tests.integration.harness.lab import Lab


def test_status_tells_of_lists_that_no_rule_looks_into(lab: Lab) -> None:
    install(lab)
    lab.apply("sip_blocklist", name="ours", sources=LISTED)
    assert status(lab)[0] == 0
    for family in (4, 6):
        lab.iptables("-t", "raw", "-F", family=family)
        assert passes(lab, next(each for each in LISTED if (":" in each) is (family == 6)))
    code, found = status(lab)
    assert code == 1
    (said,) = found["errors"]
    assert said.startswith("no rule looks into sipguard-blocked4, sipguard-blocked6, so nobody in there is stopped")
    assert sipguard(lab, "repair").returncode == 0
    assert status(lab) == (0, {**found, "errors": []})
    assert not any(passes(lab, address) for address in LISTED)
    assert passes(lab, TWIN)


def test_refresh_fills_the_sets_also_without_any_feed(nft_lab: Lab) -> None:
    install(nft_lab)
    nft_lab.apply("sip_blocklist", name="ours", sources=LISTED)
    nft_lab.pbx.run("ipset", "flush", "sipguard-blocked4")
    assert "'sipguard feeds refresh' loads them" in status(nft_lab)[1]["errors"][0]
    assert passes(nft_lab, LISTED[0])
    assert "sipguard-blocked4: 4 members" in refresh(nft_lab)
    assert status(nft_lab)[0] == 0
    assert not any(passes(nft_lab, address) for address in LISTED)
    assert passes(nft_lab, TWIN)
    assert refresh(nft_lab) == "sipguard: this host has no feeds\n"
