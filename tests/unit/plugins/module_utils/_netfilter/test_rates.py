# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rates import Rate, parse_rate
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError

UNITS = {"sec": "second", "min": "minute", "hour": "hour", "day": "day"}
rates = st.builds(Rate, st.integers(1, 1_000_000), st.sampled_from(list(UNITS.values()))).filter(
    lambda rate: rate.max_burst > 0
)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("12/minute", Rate(12, "minute")),
        ("12/min", Rate(12, "minute")),
        (" 3/S ", Rate(3, "second")),
        ("3/sec", Rate(3, "second")),
        ("5/second", Rate(5, "second")),
        ("10/h", Rate(10, "hour")),
        ("10/hour", Rate(10, "hour")),
        ("2/d", Rate(2, "day")),
        ("1000000/second", Rate(1000000, "second")),
        ("60000000/minute", Rate(60000000, "minute")),
    ],
)
def test_parse_rate_reads(text: str, rate: Rate) -> None:
    assert parse_rate(text, "limits.rate") == rate


@pytest.mark.parametrize(
    ("text", "right"),
    [
        *(
            (text, "such as 12/minute, would be right")
            for text in (
                "12", "", "/minute", "12/", "0/minute", "-1/minute", "1.5/s", "12/month", "12/m", "12 / minute", "1e3/s", "12/minute/s", 12,
                None, "twelve/minute", "1_0/s", "٣/s",
            )
        ),
        ("1000001/second", "at most 1000000/second would be right"),
        ("60000001/minute", "at most 1000000/second would be right"),
        ("1/day", "at least 2/day would be right"),
    ],
)  # fmt: skip
def test_parse_rate_refuses(text: object, right: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_rate(text, "limits.rate")
    assert (error.value.option, error.value.value) == ("limits.rate", text)
    assert error.value.expected.endswith(right)


@pytest.mark.parametrize(
    ("rate", "printed"),
    [  # libxt_hashlimit of 1.8.9; the integration tests ask the one that is installed about a thousand more
        ("12/minute", ("12/min", 60)),
        ("60/minute", ("1/sec", 1)),
        ("61/minute", ("61/min", 60)),
        ("700/minute", ("700/min", 60)),
        ("720/hour", ("12/min", 60)),
        ("3600/hour", ("1/sec", 1)),
        ("24/day", ("1/hour", 3600)),
        ("25/day", ("25/day", 86400)),
        ("3000/second", ("3003/sec", 1)),
        ("1000000/second", ("1000000/sec", 1)),
    ],
)
def test_saved_is_what_iptables_prints(rate: str, printed: tuple[str, int]) -> None:
    assert parse_rate(rate, "").saved() == printed


@given(rates)
def test_saved_stays_what_it_is(rate: Rate) -> None:
    """What is printed is what is loaded the next time, and printed again."""
    text, seconds = rate.saved()
    count, unit = text.split("/")
    again = Rate(int(count), UNITS[unit])
    assert (again.saved(), again.seconds, again.period) == ((text, seconds), seconds, rate.period)


@given(rates)
def test_saved_is_nearly_what_was_asked_for(rate: Rate) -> None:
    """Each of the two divisions costs less than a microsecond a packet."""
    assert abs(rate.period - rate.seconds * 1_000_000 / rate.count) < 2


@given(rates)
def test_bursts_fit_into_the_kernels_bucket(rate: Rate) -> None:
    """64 bits hold what comes in a day at least, whatever the clock (CONFIG_HZ); two fillings are added up."""
    assert rate.max_burst <= 1_000_000
    for hertz in (100, 250, 300, 1000):
        per_jiffy = 1 << (((1 << 64) - 1) // (hertz * 86400)).bit_length() - 1
        credits = rate.period * (hertz * per_jiffy // 1_000_000)
        assert 2 * rate.max_burst * credits < 1 << 64
        # a tick brings no more than the smallest bucket holds
        assert rate.min_burst * rate.period * hertz >= 1_000_000
    assert 1 <= rate.min_burst <= rate.max_burst
