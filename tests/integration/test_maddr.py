# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""maddr= in a Via, by which a stranger chooses the address in chan_sip's security events: dropped in every packet, however admitted."""

from __future__ import annotations

import pytest

from tests.integration.harness import sip
from tests.integration.harness.lab import WAYS, Lab

FORGED = (
    b"Via: SIP/2.0/UDP 192.0.2.98:5060;branch=z9hG4bKx;rport;maddr=203.0.113.99\r\n",
    b"v: SIP/2.0/UDP 192.0.2.98:5060;MAddr=203.0.113.99;branch=z9hG4bKx\r\n",
)
# The word alone is nothing that chan_sip would take an address from.
HONEST = b"Subject: a maddr, and its madder = sign\r\n"


@pytest.mark.parametrize("forged", FORGED, ids=["via", "compact"])
def test_maddr_is_not_heard_in_a_conversation_that_was_admitted_either(lab: Lab, forged: bytes) -> None:
    lab.four_runs("sip_ua_blocklist", no_maddr=True)
    lab.trust("203.0.113.0/24", "2001:db8:3::/64")
    for transport, family in WAYS:
        flow, trunk = (host.flow(transport, family) for host in (lab.attacker, lab.trunk))
        for each in (flow, trunk):
            assert lab.passes(each, sip.request())
        assert lab.passes(trunk, sip.request(more=forged))
        assert lab.passes(flow, sip.request(more=HONEST))
        assert not lab.passes(flow, sip.request(more=forged))


def test_maddr_is_let_in_where_nobody_asked(nft_lab: Lab) -> None:
    nft_lab.blocklist()
    for transport, family in WAYS:
        assert nft_lab.passes(nft_lab.phone.flow(transport, family), sip.request(more=FORGED[0]))


def test_maddr_is_only_noted_in_observe_mode(nft_lab: Lab) -> None:
    nft_lab.four_runs("sip_ua_blocklist", no_maddr=True, mode="observe")
    for transport, family in WAYS:
        flow = nft_lab.attacker.flow(transport, family)
        assert nft_lab.passes(flow, sip.request(more=FORGED[0]))
        assert flow.source in nft_lab.pbx.run("ipset", "list", f"sipguard-observed{family}")


def test_maddr_rule_goes_with_the_option_and_with_the_signatures(lab: Lab) -> None:
    lab.blocklist(no_maddr=True)
    assert "SIPGUARD-UA-MADDR" in str(lab.snapshot())
    lab.blocklist()
    assert "SIPGUARD-UA-MADDR" not in str(lab.snapshot())
    lab.blocklist(no_maddr=True)
    lab.four_runs("sip_ua_blocklist", state="absent")
    assert "SIPGUARD" not in str(lab.snapshot())
