# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demonstration calls as it should be, and what not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.demo import Row, Seen, _as_it_should, _table
from lab.traffic import Outcome, Way

CALL = Row("somebody", "does something", Way("udp", 4), lambda lab, pbx: Outcome(True, ""))
SCAN = replace(CALL, attack=True)
SSH = replace(SCAN, logged=False)
FLOOD = replace(SCAN, requests=600)
WORKED, FAILED = Seen(True, -1, ""), Seen(False, -1, "refused")


def heard(answered: bool, received: int) -> Seen:
    return Seen(answered, received, "")


@pytest.mark.parametrize(
    ("what", "before", "after", "good"),
    [
        (CALL, WORKED, WORKED, True),
        (CALL, WORKED, FAILED, False),
        (CALL, FAILED, WORKED, False),
        (SCAN, heard(True, 1), heard(False, 0), True),
        (SCAN, heard(True, 1), heard(False, 1), False),
        (SCAN, heard(True, 1), heard(True, 0), False),
        (SCAN, heard(False, 0), heard(False, 0), False),
        (SSH, WORKED, FAILED, True),
        (SSH, WORKED, WORKED, False),
        (SSH, FAILED, FAILED, False),
        (FLOOD, heard(True, 600), heard(True, 307), True),
        (FLOOD, heard(True, 600), heard(True, 599), False),
        (FLOOD, heard(True, 600), heard(True, 0), False),
        (FLOOD, heard(True, 307), heard(True, 307), False),
    ],
)
def test_a_row_is_as_it_should_be_only_if_it_was_the_other_way_round_before(
    what: Row, before: Seen, after: Seen, good: bool
) -> None:
    assert _as_it_should(what, before, after) is good


@pytest.mark.parametrize(
    "shut_out", [[(True, "pbx16: back"), (True, "pbx22: back")], [(True, "pbx16: back"), (False, "pbx22: gone")]]
)
def test_the_table_is_good_only_if_the_lockout_was(
    shut_out: list[tuple[bool, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = {"pbx16": [WORKED], "pbx22": [WORKED]}
    good = all(one for one, dummy in shut_out)
    assert _table([CALL], seen, seen, shut_out) is good
    out = capsys.readouterr().out
    assert all(text in out for dummy, text in shut_out)
    assert ("Everything is as it should be." in out) is good
