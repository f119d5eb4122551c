# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates as administrators write them, as the kernel counts them, and as iptables-save prints them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .._sip.errors import OptionError

__all__ = ["MAX_BURST", "Rate", "parse_rate"]

MAX_BURST = 1000000  # XT_HASHLIMIT_BURST_MAX of libxt_hashlimit.c
# The kernel keeps a bucket in 64 bits that hold a little more than what comes in a day, and adds up what was left and what has
# come since before it compares (rateinfo_recalc() in net/netfilter/xt_hashlimit.c). Of what does not fit it refuses a part, and
# loads the rest with a bucket of another size. Two halves of a day always fit.
_MAX_FILLING = 12 * 3600 * 1000000  # us
# It fills a bucket once in a tick of its clock, which is a hundredth of a second on the slowest kernels (CONFIG_HZ): a smaller
# bucket than comes in a tick would be a lower rate than was asked for.
_TICK = 10000  # us

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_UNITS = {
    **{unit: unit for unit in _SECONDS},
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
}
_PRINTED = (("day", 86400), ("hour", 3600), ("min", 60), ("sec", 1))


@dataclass(frozen=True)
class Rate:
    """``count`` packets in each ``unit``: second, minute, hour or day."""

    count: int
    unit: str

    def __str__(self) -> str:
        return f"{self.count}/{self.unit}"

    @property
    def seconds(self) -> int:
        """The length of the unit."""
        return _SECONDS[self.unit]

    def saved(self) -> tuple[str, int]:
        """As iptables-save prints it, "12/min", and the printed unit in seconds.

        Printed is the smallest unit in which little is lost, and it is read back as a period in whole microseconds: so the
        text is fed to itself until it stays (print_rate() and parse_rate() of libxt_hashlimit.c).
        """
        count, name, seconds = _print(_period(self.count, self.seconds))
        while (again := _print(_period(count, seconds))) != (count, name, seconds):
            count, name, seconds = again
        return f"{count}/{name}", seconds

    @property
    def period(self) -> int:
        """What the kernel waits from one packet to the next, in microseconds."""
        text, seconds = self.saved()
        return _period(int(text.partition("/")[0]), seconds)

    @property
    def min_burst(self) -> int:
        """The smallest burst with which the kernel reaches this rate, in packets."""
        return -(-_TICK // self.period)

    @property
    def max_burst(self) -> int:
        """The largest burst the kernel can count at this rate, in packets."""
        return min(MAX_BURST, _MAX_FILLING // self.period)


def _period(count: int, seconds: int) -> int:
    return seconds * 1000000 // count


def _print(period: int) -> tuple[int, str, int]:
    chosen = _PRINTED[0]
    for unit in _PRINTED[1:]:
        count, rest = divmod(unit[1] * 1000000, period)
        if count < max(rest, 1):
            break
        chosen = unit
    return chosen[1] * 1000000 // period, *chosen


def parse_rate(text: object, option: str) -> Rate:
    """Read "12/minute". Raises OptionError for anything else, and for a rate that the kernel cannot count."""
    found = re.fullmatch(r"([0-9]{1,9})/([a-z]+)", text.strip().lower()) if isinstance(text, str) else None
    if not found or found[2] not in _UNITS or int(found[1]) == 0:
        raise OptionError(
            option, text, "a number of packets a second, minute, hour or day, such as 12/minute, would be right"
        )
    rate = Rate(int(found[1]), _UNITS[found[2]])
    if _period(rate.count, rate.seconds) == 0:
        raise OptionError(option, text, "the kernel counts in microseconds: at most 1000000/second would be right")
    if rate.max_burst == 0:
        raise OptionError(
            option, text, "the kernel's buckets hold what comes in 12 hours: at least 2/day would be right"
        )
    return rate
