# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published host rule set as variables (docs/examples/published-host-firewall.yml) does what the published one says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.integration.harness import sip
from tests.integration.harness.lab import NETWORKS, Host, Lab
from tests.integration.harness.modules import CHECKOUT
from tests.integration.harness.services import MARKER, Probe, arrived, echo_arrives, services_lab

VARIABLES: dict[str, Any] = yaml.safe_load((CHECKOUT / "docs/examples/published-host-firewall.yml").read_text("utf-8"))
LAN, PROXY = list(NETWORKS["phone"].values()), list(NETWORKS["trunk"].values())

ALL, LOCAL, NONE = {"lan", "proxy", "outside"}, {"lan"}, set[str]()
# Its lines, and their edges: transport, port, from whom.
LINES = [
    ("udp", 10000, ALL),
    ("udp", 20000, ALL),
    ("udp", 2727, ALL),
    ("udp", 4569, ALL),
    ("udp", 5060, ALL),
    ("tcp", 5060, ALL),
    ("tcp", 5061, ALL),
    ("tcp", 80, ALL),
    ("tcp", 443, ALL),
    *(("tcp", port, LOCAL) for port in (137, 138, 139, 445, 10000, 22, 123, 5038, 58080, 55050, 514)),
    ("udp", 123, LOCAL),
    ("udp", 514, LOCAL),
    *(("udp", port, NONE) for port in (9999, 20001, 22, 53, 80, 137, 138, 139, 443, 445)),
    *(("tcp", port, NONE) for port in (3306, 4569, 2727, 8088, 20000)),
]


@pytest.fixture
def published(backend: str) -> Iterator[Lab]:
    """A PBX set up with the example's variables, as the role does it; without limits, which all probes together would exceed."""
    lab = services_lab(backend)
    given = {name.removeprefix("pbx_firewall_"): value for name, value in VARIABLES.items()}
    lab.trust(*LAN, *PROXY)
    lab.blocklist(ports=given["pbx_sip_ports"], presets=given["ua_presets"], learn_for=0)
    lab.apply(
        "sip_host_policy",
        lan=LAN,
        trunks=PROXY,
        services=[
            {"name": "sip", "ports": given["pbx_sip_ports"]},
            {"name": "rtp", "ports": given["pbx_rtp_ports"]},
            *given["host_policy"],
            MARKER,
        ],
    )
    yield lab
    lab.close()


def sources(lab: Lab) -> dict[str, Host]:
    return {"lan": lab.phone, "proxy": lab.trunk, "outside": lab.attacker}


def test_each_line_for_each_source(published: Lab, family: int) -> None:
    lab = published
    probes = {
        Probe(host, host.address(family), transport, port): (transport, port, kind)
        for kind, host in sources(lab).items()
        for transport, port, dummy in LINES
    }
    found = {probes[probe] for probe in arrived(lab, probes)}
    assert found == {(transport, port, kind) for transport, port, kinds in LINES for kind in kinds}
    pings = {kind for kind, host in sources(lab).items() if echo_arrives(lab, host, host.address(family))}
    assert pings == LOCAL


def test_signatures_and_limits_hold_for_strangers_only(published: Lab, family: int) -> None:
    lab = published
    lab.apply("sip_ratelimit", ports=VARIABLES["pbx_sip_ports"], presets=VARIABLES["pbx_firewall_limits_presets"])
    for kind, host in sources(lab).items():
        for agent in ("VaxSIPUserAgent", "friendly-scanner"):
            assert lab.reaches(host, sip.request(agent), "udp", family) is (kind != "outside"), agent
        source, messages = host.address(family), [sip.request() for dummy in range(40)]
        flow = host.udp(family, source=source)
        flow.send(*(message.wire for message in messages))
        lab.barrier()
        passed = sum(lab.sink.has(message.token) for message in messages)
        assert 1 <= passed <= 12 if kind == "outside" else passed == 40
