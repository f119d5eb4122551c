# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.counted import Over, over
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import IPV4, IPV6, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Rule, parse_rule

HASHLIMIT = (
    "-A SIPGUARD-RATE-REGISTER -m hashlimit --hashlimit-above 3/min --hashlimit-burst 5 --hashlimit-mode srcip "
    '--hashlimit-name table{mask} -m comment --comment "REGISTER over 3/minute" -g SIPGUARD-RATE-{target}'
)
RECENT = (
    "-A SIPGUARD-RATE-INVITE -m recent --rcheck --seconds 60 --hitcount 3 --name table --mask {mask} --rsource "
    '-m comment --comment "INVITE over 3/minute" -g SIPGUARD-RATE-STOP'
)
ANY6 = ":".join(["0000"] * 8)
FOUND = Over("table", "REGISTER over 3/minute", True)


def chains(*lines: str) -> dict[str, tuple[Rule, ...]]:
    rules = [
        parse_rule(line)
        for line in (*lines, "-A SIPGUARD-RATE-STOP -j DROP", "-A SIPGUARD-RATE-BAN9 -g SIPGUARD-RATE-STOP")
    ]
    return {chain: tuple(rule for rule in rules if rule.chain == chain) for chain in {rule.chain for rule in rules}}


def table(proc: Path, kind: str, text: str) -> None:
    folder = proc / "net" / kind
    folder.mkdir(parents=True)
    (folder / "table").write_text(text)


@pytest.mark.parametrize(
    ("family", "address", "mask", "line", "beyond"),
    [
        (IPV4, "198.18.7.7", "", "59 198.18.7.7:0->0.0.0.0:0 99 500 100", True),
        (IPV4, "198.18.7.7", "", "59 198.18.7.7:0->0.0.0.0:0 100 500 100", False),
        (IPV4, "198.18.7.7", "", "59 98.18.7.7:0->0.0.0.0:0 0 500 100\n59 198.18.7.70:0->0.0.0.0:0 0 5 1", False),
        (IPV4, "198.18.7.7", " --hashlimit-srcmask 24", "59 198.18.7.0:0->0.0.0.0:0 0 500 100", True),
        (IPV6, "2001:db8:bad::7:7", "", f"9 2001:0db8:0bad:0000:0000:0000:0007:0007:0->{ANY6}:0 1 9 5", True),
        (IPV6, "2001:db8:bad::7:7", " --hashlimit-srcmask 64", f"9 2001:0db8:0bad:0000:0000:0000:0000:0000:0->{ANY6}:0 1 9 5", True),
        (IPV4, "198.18.7.7", "", "59 198.18.7.7:0->0.0.0.0:0 99 500", False),
        (IPV4, "198.18.7.7", "", "", False),
    ],
)  # fmt: skip
def test_hashlimit_is_over_when_less_is_left_than_a_packet_costs(
    tmp_path: Path, family: Family, address: str, mask: str, line: str, beyond: bool
) -> None:
    table(tmp_path, "ipt_hashlimit" if family is IPV4 else "ip6t_hashlimit", line + "\n")
    live = chains(HASHLIMIT.format(mask=mask, target="BAN9"))
    assert over(live, family, ipaddress.ip_address(address), str(tmp_path)) == ([FOUND] if beyond else [])


def test_limit_that_only_observes_is_told_apart(tmp_path: Path) -> None:
    table(tmp_path, "ipt_hashlimit", "59 198.18.7.7:0->0.0.0.0:0 99 500 100\n")
    live = chains(
        HASHLIMIT.format(mask="", target="SEEN"), "-A SIPGUARD-RATE-SEEN -j SET --add-set sipguard-observed4 src"
    )
    assert [each.enforced for each in over(live, IPV4, ipaddress.ip_address("198.18.7.7"), str(tmp_path))] == [False]


def clock(proc: Path, per_second: int, uptime: int, wrapped: bool = False) -> int:
    """Write the kernel's clock; returns it in ticks."""
    now = (1 << 32) + (uptime - 300) * per_second
    now -= (1 << 32) if wrapped else 0
    text = f"Timer List Version: v0.10\nnow at {uptime * 1000000000} nsecs\n\ncpu: 0\n  .last_jiffies   : 7\njiffies: {now}\n\ncpu: 1\n"
    (proc / "timer_list").write_text(text)
    return now


@pytest.mark.parametrize("per_second", [100, 250, 300, 1000])
@pytest.mark.parametrize(("uptime", "wrapped"), [(90, False), (86400, False), (86400, True)])
@pytest.mark.parametrize(
    ("ages", "beyond"), [((1, 2, 59), True), ((1, 2, 61), False), ((1, 2), False), ((1, 1, 1, 70), True)]
)
def test_recent_counts_the_hits_of_the_window(
    tmp_path: Path, per_second: int, uptime: int, wrapped: bool, ages: tuple[int, ...], beyond: bool
) -> None:
    now = clock(tmp_path, per_second, uptime, wrapped)
    stamps = ", ".join(str(now - age * per_second) for age in reversed(ages))
    line = f"src=198.18.7.7 ttl: 64 last_seen: {now - ages[0] * per_second} oldest_pkt: {len(ages)} {stamps}\n"
    table(tmp_path, "xt_recent", f"src=198.18.7.70 ttl: 64 last_seen: 1 oldest_pkt: 1 1\n{line}")
    live = chains(RECENT.format(mask="255.255.255.255"))
    found = over(live, IPV4, ipaddress.ip_address("198.18.7.7"), str(tmp_path))
    assert found == ([Over("table", "INVITE over 3/minute", True)] if beyond else [])


def test_recent_is_looked_up_by_its_mask(tmp_path: Path) -> None:
    now = clock(tmp_path, 250, 5000)
    stamps = ", ".join([str(now)] * 3)
    table(
        tmp_path,
        "xt_recent",
        f"src=2001:0db8:0bad:0000:0000:0000:0000:0000 ttl: 64 last_seen: {now} oldest_pkt: 3 {stamps}\n",
    )
    live = chains(RECENT.format(mask="ffff:ffff:ffff:ffff::"))
    assert len(over(live, IPV6, ipaddress.ip_address("2001:db8:bad::7:7"), str(tmp_path))) == 1
    assert over(live, IPV6, ipaddress.ip_address("2001:db8:bae::7:7"), str(tmp_path)) == []


def test_without_tables_and_clock_nobody_is_over_a_limit(tmp_path: Path) -> None:
    live = chains(RECENT.format(mask="255.255.255.255"), HASHLIMIT.format(mask="", target="STOP"))
    assert over(live, IPV4, ipaddress.ip_address("198.18.7.7"), str(tmp_path)) == []
    table(tmp_path, "xt_recent", "src=198.18.7.7 ttl: 64 last_seen: 5 oldest_pkt: 3 5, 5, 5\n")
    assert over(live, IPV4, ipaddress.ip_address("198.18.7.7"), str(tmp_path)) == []
