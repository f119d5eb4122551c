# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which limits of SIPGUARD-RATE a source is over now, read from the kernel's tables of sources (xt_hashlimit, xt_recent)."""

from __future__ import annotations

import ipaddress
import pathlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Union

from .._netfilter.names import CHAIN_RATE, Family
from .._netfilter.rule import Match, Rule

__all__ = ["Over", "over"]

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

# Ticks of the kernel's clock in a second: what its makers let one choose from (kernel/Kconfig.hz), and what Alpha and others have.
_HZ = (100, 250, 300, 1000, 1024)
_START = 300  # s before its first overflow at which the clock begins (include/linux/jiffies.h)
_NOW = re.compile(r"^now at (\d+) nsecs$.*?^jiffies: (\d+)$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Over:
    """One limit: ``what`` as its rule's comment has it, and whether what is over it is dropped."""

    table: str
    what: str
    enforced: bool


def over(
    chains: Mapping[str, tuple[Rule, ...]],
    family: Family,
    address: Address,
    proc: str = "/proc",
    only: Collection[str] | None = None,
) -> list[Over]:
    """Every limit that the source is over, in the order of the rules. A table that cannot be read has nobody in it.

    ``only`` are the chains that its packets come to, None for all.
    """
    found = []
    for name, rules in chains.items():
        for rule in rules if name.startswith(CHAIN_RATE) and (only is None or name in only) else ():
            limit, recent, remark = rule.match("hashlimit"), rule.match("recent"), rule.match("comment")
            if limit is not None:
                table, beyond = _hashlimit(limit, family, address, proc)
            elif recent is not None:
                table, beyond = _recent(recent, family, address, proc)
            else:
                continue
            if beyond:
                what = remark.options[0].values[0] if remark is not None else table
                found.append(Over(table, what, _drops(chains, rule.target)))
    return list(dict.fromkeys(found))


def _drops(chains: Mapping[str, tuple[Rule, ...]], name: str, depth: int = 4) -> bool:
    """Whether a chain, or one it leads to, drops or rejects anything."""
    return depth > 0 and any(
        rule.target in ("DROP", "REJECT") or _drops(chains, rule.target, depth - 1) for rule in chains.get(name, ())
    )


def _values(match: Match) -> dict[str, str]:
    return {option.name: option.values[0] if option.values else "" for option in match.options}


def _line(path: str, key: str) -> str:
    """The line of a table that holds the key, "" when there is none."""
    try:
        with pathlib.Path(path).open(encoding="ascii", errors="replace") as handle:
            return next((line for line in handle if key in line), "")
    except OSError:
        return ""


def _base(family: Family, address: Address, prefix: str) -> Address:
    """The address under which a table counts the source, with every digit, as the kernel prints it."""
    return ipaddress.ip_network((int(address), family.max_prefix)).supernet(new_prefix=int(prefix)).network_address


def _hashlimit(match: Match, family: Family, address: Address, proc: str) -> tuple[str, bool]:
    values = _values(match)
    table = values.get("--hashlimit-name", "")
    prefix = values.get("--hashlimit-srcmask", str(family.max_prefix))
    key = f" {_base(family, address, prefix).exploded}:0->"
    line = _line(f"{proc}/net/{'ipt' if family.version == 4 else 'ip6t'}_hashlimit/{table}", key)
    # Seconds until it is forgotten, source and destination, what is left, its maximum, and what a packet costs
    # (dl_seq_real_show in net/netfilter/xt_hashlimit.c).
    words = line.split()
    return table, len(words) == 5 and int(words[2]) < int(words[4])


def _recent(match: Match, family: Family, address: Address, proc: str) -> tuple[str, bool]:
    values = _values(match)
    table = values.get("--name", "")
    if "--rcheck" not in values:
        return table, False
    everywhere = "0.0.0.0" if family.version == 4 else "::"
    mask = values.get("--mask", "")
    prefix = bin(int(ipaddress.ip_address(mask))).count("1") if mask and mask != everywhere else family.max_prefix
    line = _line(f"{proc}/net/xt_recent/{table}", f"src={_base(family, address, str(prefix)).exploded} ")
    # "src=192.0.2.7 ttl: 64 last_seen: 4301205276 oldest_pkt: 2 4301205276, 4301205276" (net/netfilter/xt_recent.c), in ticks.
    stamps = [int(word) for word in re.findall(r"\d+", line.partition("oldest_pkt: ")[2])[1:]]
    clock = _clock(proc)
    if not stamps or clock is None:
        return table, False
    now, per_second = clock
    since = now - int(values.get("--seconds", "0")) * per_second
    return table, sum(stamp > since for stamp in stamps) >= int(values.get("--hitcount", "1"))


def _clock(proc: str) -> tuple[int, int] | None:
    """The kernel's clock in ticks, and how many there are in a second; None where it cannot be read, as in some containers."""
    try:
        found = _NOW.search(pathlib.Path(f"{proc}/timer_list").read_text(encoding="ascii", errors="replace"))
    except OSError:
        return None
    if found is None:
        return None
    uptime, now = int(found[1]) / 1e9, int(found[2])

    def off(per_second: int) -> float:
        difference = ((uptime - _START) * per_second - now) % (1 << 32)
        return min(difference, (1 << 32) - difference)

    return now, min(_HZ, key=off)
