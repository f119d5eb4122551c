# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists and bans are no part of a change that is taken back, and what was blocked by a list that got damaged stays blocked."""

from __future__ import annotations

import json

from tests.integration.harness.command import install, sipguard
from tests.integration.harness.feeds import LISTED, TWIN, passes
from tests.integration.harness.lab import Lab
from tests.integration.harness.switch import Switches

BANNED = "198.18.202.1"


def _stopped(lab: Lab, *addresses: str) -> bool:
    """Whether all of them are, and a neighbour is not."""
    assert passes(lab, TWIN)
    return not any(passes(lab, address) for address in addresses)


def test_change_that_is_taken_back_leaves_lists_and_bans(lab: Lab) -> None:
    install(lab)
    lab.blocklist()
    switches = Switches(lab)
    cookie = switches.arm(60)
    lab.apply("sip_blocklist", name="ours", sources=LISTED)
    lab.apply("sip_ban", addresses=[BANNED])
    lab.blocklist(user_agents=["acme-auditor"])
    assert _stopped(lab, BANNED, *LISTED)
    switches.apply("rolled_back", cookie=cookie)
    assert "acme-auditor" not in lab.save(4)
    assert _stopped(lab, BANNED, *LISTED)
    assert json.loads(sipguard(lab, "status", "--json").stdout)["protected"]


def test_rule_that_is_gone_alone_is_put_back(lab: Lab) -> None:
    """The set is full, and nobody looks into it: no other rule is missing."""
    install(lab)
    lab.apply("sip_ban", addresses=[BANNED], persist=False)
    for family in (4, 6):
        lab.iptables("-t", "raw", "-F", family=family)
    assert passes(lab, BANNED)
    done = sipguard(lab, "repair")
    assert done.returncode == 0, done.stderr
    assert _stopped(lab, BANNED)


def test_list_that_got_damaged_still_blocks_until_the_next_boot(lab: Lab) -> None:
    install(lab)
    lab.apply("sip_blocklist", name="cut", sources=LISTED[:2])
    lab.apply("sip_blocklist", name="whole", sources=LISTED[2:])
    lab.pbx.run("sh", "-c", "printf '# nothing' > /var/lib/sipguard/lists/cut")
    done = sipguard(lab, "unban", LISTED[2])
    assert done.returncode == 0
    assert "the list cut is damaged" in done.stdout
    assert passes(lab, LISTED[2])
    assert _stopped(lab, *LISTED[:2], *LISTED[3:])
    again = lab.module("sip_blocklist", name="whole", sources=LISTED[2:])
    assert not again["changed"], again["diff"]
    # Made anew, it can be made smaller again.
    lab.apply("sip_blocklist", name="cut", sources=LISTED[:1])
    assert passes(lab, LISTED[1])
    assert _stopped(lab, LISTED[0], *LISTED[3:])
