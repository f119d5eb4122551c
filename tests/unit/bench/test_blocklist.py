# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The feeds that the benchmark of blocklists makes, and what it makes of what the pump says."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.lists import Criteria, accept
from ansible_collections.sipguard.pbx.plugins.module_utils._sip import ranges
from tests.bench import blocklist


def test_a_feed_is_taken_whole_and_has_the_shape_of_one() -> None:
    words = blocklist.feed(10_000)
    accepted = accept(words, Criteria())
    assert (len(accepted.words), accepted.junk, accepted.refused) == (10_000, 0, 0)
    lengths = Counter(int(word.partition("/")[2] or 32) for word in words)
    assert set(lengths) == set(range(16, 33))
    assert 0.965 < lengths[32] / 10_000 < 0.975
    assert lengths.most_common(2)[1][0] == 24
    assert words[-1] == "198.51.100.7"


def test_a_feed_is_the_same_every_time() -> None:
    assert blocklist.feed(500) == blocklist.feed.__wrapped__(500)
    assert blocklist.feed(0) == ()


@pytest.mark.parametrize("turn", [0, 1, 7, 300])
def test_a_changed_feed_has_a_hundred_others(turn: int) -> None:
    words = blocklist.feed(2_000)
    other = blocklist.changed(words, turn)
    assert len(other) == len(set(other)) == 2_000
    fresh = set(other) - set(words)
    assert len(fresh) == 100
    assert accept(other, Criteria()).refused == 0
    # Neighbours would become one network.
    numbers = sorted(ranges.parse_range(word)[1] for word in fresh)
    assert min(after - before for before, after in pairwise(numbers)) > 1
    assert words[-1] in other


def test_ratios_are_those_within_a_round() -> None:
    variants = [
        ("no rules", "admitted source", None, 0),
        ("ours, without a list", "admitted source", None, 0),
        ("ours, 1,000 entries", "admitted source", 1000, 2),
        ("ours, 1,000 entries", "listed source", 1000, 2),
    ]
    lines = []
    for turn in range(10):
        slow = 1 + turn  # the machine is ever busier
        for number, (ns, received) in enumerate(((2000, 100), (4000, 100), (4200, 100), (1000, 0))):
            # Five rounds are for warming up: what they say must not count.
            spent = ns * slow * 100 if turn >= 5 else 1
            lines.append(f"{number} {turn} 100 {received} {spent} 0")
    none, without, admitted, listed = blocklist.figures(variants, "\n".join(lines))
    assert (none.to_none, none.to_without) == (1.0, 0.5)
    assert (without.to_none, without.ns) == (2.0, 4000 * 8)
    assert admitted.to_without == pytest.approx(1.05)
    assert (admitted.delivered, admitted.entries, admitted.lengths) == (1.0, 1000, 2)
    assert (listed.to_none, listed.to_without, listed.delivered) == (0.5, 0.25, 0.0)


@pytest.mark.parametrize(("ratio", "said"), [(1.05, "reached"), (1.051, "missed")])
def test_a_goal_is_for_admitted_sources_of_lists_as_they_are_loaded(ratio: float, said: str) -> None:
    def one(policy: str, traffic: str, entries: int | None) -> blocklist.Packet:
        return blocklist.Packet(policy, traffic, entries, 2, 1.0, 4000, 1.3, ratio, ratio, ratio)

    found = blocklist.Blocklists(
        packets={
            "nft": [
                one("ours, without a list", "admitted source", None),
                one("ours, 1,000 entries", "admitted source", 1000),
                one("as they come, 1,000 entries", "admitted source", 1000),
                one("ours, 1,000 entries", "listed source", 1000),
            ]
        }
    )
    judged = [line for line in blocklist.table(found).splitlines() if "goal" in line]
    assert len(judged) == 1
    assert judged[0].startswith("admitted source   ours, 1,000 entries")
    assert judged[0].endswith(said)
