# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.lint import LintResult
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.presets import PRESETS
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.selection import select


def selected(**given: Any) -> LintResult:
    return select(
        {
            "presets": [],
            "user_agents": [],
            "payloads": [],
            "exclude": [],
            "allow_broad": False,
            "ignore_case": True,
            **given,
        }
    )


def chosen(**given: Any) -> list[tuple[str, str, str]]:
    return [(one.value, one.match, one.origin) for one in selected(**given).effective]


def test_select_of_nothing_is_nothing() -> None:
    assert selected() == LintResult((), {}, {})


def test_select_takes_presets_first_and_keeps_the_order() -> None:
    found = chosen(
        presets=["hostfirewall"], user_agents=["gazllove", {"value": "-", "match": "exact"}], payloads=["sip:nm@nm"]
    )
    assert found == [
        ("VaxSIPUserAgent", "prefix", "hostfirewall"),
        ("friendly-scanner", "prefix", "hostfirewall"),
        ("gazllove", "prefix", "user_agents"),
        ("-", "exact", "user_agents"),
        ("sip:nm@nm", "payload", "payloads"),
    ]


def test_select_judges_presets_and_own_entries_together() -> None:
    found = selected(
        presets=["hostfirewall"], user_agents=["friendly-scanner/1.0", {"value": "VaxSIP", "match": "prefix"}]
    )
    assert [one.value for one in found.effective] == ["friendly-scanner", "VaxSIP"]
    assert found.covered == {
        "friendly-scanner/1.0": "User-Agent: friendly-scanner",
        "User-Agent: VaxSIPUserAgent": "VaxSIP",
    }


@pytest.mark.parametrize(
    ("option", "entry", "why"),
    [
        ("user_agents", "-", "nearly every|too short"),
        ("user_agents", "Cisco", "Cisco"),
        ("user_agents", "Asterisk PBX", "would also stop"),
        ("user_agents", "x" * 129, "at most 128"),
        ("user_agents", "", "is empty"),
        ("user_agents", {"value": "ims", "match": "anywhere"}, "would also stop"),
        ("user_agents", "a\nb", "control character"),
        ("payloads", "SIP/2.0", "nearly every SIP request"),
        ("payloads", "x" * 129, "at most 128"),
        ("payloads", "xq7", "too short"),
    ],
)
def test_select_fails_for_an_own_entry_that_would_hurt(option: str, entry: Any, why: str) -> None:
    with pytest.raises(OptionError, match=why) as error:
        selected(presets=["scanners"], **{option: [entry]})
    value = entry["value"] if isinstance(entry, dict) else entry
    assert (error.value.option, error.value.value) == (option, value)


@pytest.mark.parametrize(
    ("option", "entry"),
    [
        ("user_agents", 5),
        ("user_agents", {"value": "x", "match": "payload"}),
        ("user_agents", {"valeu": "x"}),
        ("payloads", {"value": "sip:nm@nm", "match": "prefix"}),
        ("presets", "no-such-preset"),
    ],
)
def test_select_fails_for_an_entry_of_the_wrong_form(option: str, entry: Any) -> None:
    with pytest.raises(OptionError) as error:
        selected(**{option: [entry]})
    assert (error.value.option, error.value.value) == (option, entry)


def test_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(OptionError, match=", ".join(PRESETS)):
        selected(presets=["scaners"])


def test_select_refuses_dangerous_entries_of_a_preset_and_says_so() -> None:
    found = selected(presets=["elektronikbasteln"])
    assert found.refused
    assert found.effective
    assert not {one.entry for one in found.effective} & found.refused.keys()


def test_allow_broad_lets_more_through() -> None:
    narrow, broad = selected(presets=["elektronikbasteln"]), selected(presets=["elektronikbasteln"], allow_broad=True)
    assert broad.refused.keys() < narrow.refused.keys()
    assert chosen(user_agents=["Cisco"], allow_broad=True) == [("Cisco", "prefix", "user_agents")]


def test_exclude_takes_entries_of_presets_out() -> None:
    assert chosen(presets=["hostfirewall"], exclude=["vaxsipuseragent"]) == [
        ("friendly-scanner", "prefix", "hostfirewall")
    ]


def test_exclude_leaves_own_entries_alone() -> None:
    assert chosen(user_agents=["friendly-scanner"], exclude=["friendly-scanner"]) == [
        ("friendly-scanner", "prefix", "user_agents")
    ]


def test_ignore_case_decides_what_covers_what() -> None:
    both = ["Gazllove", "gazllove-2"]
    assert selected(user_agents=both).covered == {"gazllove-2": "Gazllove"}
    assert selected(user_agents=both, ignore_case=False).covered == {}
