# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4, IPV6
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.options import (
    ARGUMENTS,
    BASE_ARGUMENTS,
    REJECT_WITH,
    Common,
    read_common,
    verdict,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import Selector
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from tests.unit.plugins.module_utils._netfilter.samples import common


def test_read_common_of_the_defaults() -> None:
    assert common() == Common(
        present=True,
        observe=False,
        selectors=(Selector("udp", "5060:5061"), Selector("tcp", "5060:5061")),
        families=FAMILIES,
        action="drop",
        reject_with="icmp-port-unreachable",
        table="filter",
        mask=0x0C000000,
    )


def test_read_common_of_a_module_that_selects_no_traffic() -> None:
    base = {name: argument["default"] for name, argument in BASE_ARGUMENTS.items()}
    assert ARGUMENTS.keys() - base.keys() == {"ports", "protocols", "interfaces"}
    assert read_common(base) == replace(common(), selectors=())


@pytest.mark.parametrize(
    ("entries", "lists"),
    [
        (["5060"], ["5060"]),
        ([5060], ["5060"]),
        (["5060:5061"], ["5060:5061"]),
        ([" 5060 "], ["5060"]),
        (["5080", "5060"], ["5060,5080"]),
        (["5060", "5060"], ["5060"]),
        (["5060", "5061"], ["5060:5061"]),
        (["5060:5070", "5065:5080"], ["5060:5080"]),
        (["5060:5070", "5062"], ["5060:5070"]),
        (["5060:5061", "5062:5063"], ["5060:5063"]),
        (["1:65535"], ["1:65535"]),
        (["5060:5060"], ["5060"]),
        ([str(port) for port in range(1, 31, 2)], [",".join(str(port) for port in range(1, 31, 2))]),
        ([str(port) for port in range(1, 33, 2)], [",".join(str(port) for port in range(1, 31, 2)), "31"]),
        # Seven ranges take fourteen slots, and the next needs two.
        (
            [f"{port}:{port + 1}" for port in range(10, 90, 10)],
            [",".join(f"{port}:{port + 1}" for port in range(10, 80, 10)), "80:81"],
        ),
        (
            [*(f"{port}:{port + 1}" for port in range(10, 80, 10)), "90"],
            [",".join([*(f"{port}:{port + 1}" for port in range(10, 80, 10)), "90"])],
        ),
    ],
)
def test_ports_become_lists_of_multiport(entries: list[Any], lists: list[str]) -> None:
    assert [selector.ports for selector in common(ports=entries, protocols=["udp"]).selectors] == lists


@given(
    st.lists(
        st.tuples(st.integers(1, 65535), st.integers(0, 40)).map(lambda pair: (pair[0], min(65535, sum(pair)))),
        min_size=1,
        max_size=40,
    )
)
def test_port_lists_hold_exactly_the_ports_in_fifteen_slots_each(ranges: list[tuple[int, int]]) -> None:
    lists = [one.ports for one in common(ports=[f"{a}:{b}" for a, b in ranges], protocols=["tcp"]).selectors]
    found: list[int] = []
    for text in lists:
        words = text.split(",")
        assert 1 <= sum(1 + (":" in word) for word in words) <= 15
        for word in words:
            first, last = int(word.split(":")[0]), int(word.split(":")[-1])
            found += range(first, last + 1)
    assert found == sorted({port for a, b in ranges for port in range(a, b + 1)})


@pytest.mark.parametrize(
    ("given", "selectors"),
    [
        ({"protocols": ["tcp"]}, [("tcp", "")]),
        ({"protocols": ["tcp", "udp", "tcp"]}, [("tcp", ""), ("udp", "")]),
        ({"protocols": ["udp"], "interfaces": ["eth0", "wg+", "eth0"]}, [("udp", "eth0"), ("udp", "wg+")]),
        ({"interfaces": ["eth0"]}, [("udp", "eth0"), ("tcp", "eth0")]),
    ],
)
def test_selectors_are_all_combinations(given: dict[str, Any], selectors: list[tuple[str, str]]) -> None:
    assert [(one.protocol, one.interface) for one in common(**given).selectors] == selectors


@pytest.mark.parametrize("name", ["eth0", "wg+", "enp0s31f6", "br-lan.7", "eth0:1", "a@b", "abcdefghijklmno", "ppp+"])
def test_interface_names_that_are_right(name: str) -> None:
    assert common(interfaces=[name]).selectors[0].interface == name


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("0x0c000000", 0x0C000000),
        ("0xC000000", 0x0C000000),
        ("3", 3),
        ("0x300", 0x300),
        ("0xff", 0xFF),
        ("0xff000000", 0xFF000000),
        ("0b110", 6),
    ],
)
def test_masks_that_are_right(text: str, mask: int) -> None:
    assert common(mark_mask=text).mask == mask


@pytest.mark.parametrize(
    ("given", "families"), [(["ipv6"], (IPV6,)), (["ipv6", "ipv4"], (IPV4, IPV6)), (["ipv4", "ipv4"], (IPV4,))]
)
def test_families_keep_their_order(given: list[str], families: tuple) -> None:
    assert common(families=given).families == families


BAD = [
    *(
        ("ports", [value], "a port from 1 to 65535, or a range such as 5060:5061")
        for value in ("70000", "0", "5061:5060", "5060-5061", "5060:", ":5060", "5060:5061:5062", "sip", "", "-1", "+5060",
                      "5060,5061", "5060 5061", "65536", "1:65536", "0:5060", "5060.5", "٥٠٦٠", True)
    ),
    ("ports", [], "at least one entry is needed"),
    ("protocols", [], "at least one entry is needed"),
    ("families", [], "at least one entry is needed"),
    *(
        ("interfaces", [value], "such as eth0 or wg+")
        for value in ("", "eth 0", "abcdefghijklmnop", "+", "eth+0", "eth0/1", "eth0\n", "!eth0",
                      "-", "-x", "--", "-eth0", "-x+", "abcdefghijklmno+", "ethö")
    ),
    *(
        ("mark_mask", value, "at least two neighbouring bits, such as 0x0c000000")
        for value in ("", "0", "1", "0x4000000", "0x0a000000", "0x5", "0x1ff", "0xffffffff", "0x300000000", "-3", "c000000",
                      "0x0c000000/0x0c000000", "two")
    ),
    *(("lock_timeout", value, "1 to 3600 seconds") for value in (0, -1, 3601)),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value", "right"), BAD, ids=lambda value: repr(value)[:40])
def test_read_common_refuses(option: str, value: Any, right: str) -> None:
    with pytest.raises(OptionError) as error:
        common(**{option: value})
    wrong = value[0] if isinstance(value, list) and value else value
    assert error.value.option == option
    assert error.value.value == wrong
    assert repr(wrong) in str(error.value)
    assert right in str(error.value)


def test_read_common_refuses_reject_in_mangle() -> None:
    with pytest.raises(
        OptionError, match="action: 'reject' cannot be used; REJECT exists in the filter table only: 'drop'"
    ):
        common(table="mangle", action="reject")
    assert common(table="mangle").table == "mangle"


@pytest.mark.parametrize(
    ("given", "ipv4", "ipv6"),
    [
        ({}, ["-j DROP"], ["-j DROP"]),
        (
            {"action": "reject"},
            ["-j REJECT --reject-with icmp-port-unreachable"],
            ["-j REJECT --reject-with icmp6-port-unreachable"],
        ),
        (
            {"action": "reject", "reject_with": "icmp-admin-prohibited"},
            ["-j REJECT --reject-with icmp-admin-prohibited"],
            ["-j REJECT --reject-with icmp6-adm-prohibited"],
        ),
        (
            {"action": "reject", "reject_with": "icmp-host-unreachable"},
            ["-j REJECT --reject-with icmp-host-unreachable"],
            ["-j REJECT --reject-with icmp6-addr-unreachable"],
        ),
        (
            {"action": "reject", "reject_with": "tcp-reset"},
            ["-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT --reject-with icmp-port-unreachable"],
            ["-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT --reject-with icmp6-port-unreachable"],
        ),
    ],
)
def test_verdict_speaks_each_familys_words(given: dict[str, Any], ipv4: list[str], ipv6: list[str]) -> None:
    for family, expected in ((IPV4, ipv4), (IPV6, ipv6)):
        assert [rule.render() for rule in verdict(common(**given), family, "X")] == [
            f"-A X {text}" for text in expected
        ]


def test_arguments_know_every_answer() -> None:
    assert ARGUMENTS["reject_with"]["choices"] == list(REJECT_WITH)
    for choice in REJECT_WITH:
        for family in FAMILIES:
            assert verdict(common(action="reject", reject_with=choice), family, "X")


def test_read_common_does_not_change_the_options() -> None:
    options = {name: argument["default"] for name, argument in ARGUMENTS.items()}
    before = {name: list(value) if isinstance(value, list) else value for name, value in options.items()}
    read_common(options)
    assert options == before
