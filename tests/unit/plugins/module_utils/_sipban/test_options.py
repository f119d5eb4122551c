# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of sipban_service: what becomes of good ones, and what is said about bad ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.settings import (
    DEFAULT_THRESHOLDS,
    KINDS,
    Settings,
    Threshold,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import MAX_TIMEOUT
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.module_utils._sipban.options import read_settings

# As the module's argument_spec gives them.
DEFAULTS: dict[str, Any] = {
    "manager_user": "sipguard",
    "thresholds": {},
    "ban_time": None,
    "ban_time_max": "7d",
    "ban_time_unproven": "10m",
    "remember": "3w",
    "unproven": False,
    "known_for": "2h",
    "white_list": [],
    "console_port": 0,
    "crowdsec": None,
}
LAPI = {
    "url": "https://crowdsec.example.net:8080",
    "machine": "pbx1",
    "password": "hunter2",
    "key": "hunter3",
    "interval": 10,
    "ca_file": None,
    "max_time": "1d",
    "allow_http": False,
}


def read(**changes: Any) -> Settings:
    return read_settings({**DEFAULTS, **changes})


def test_without_options_there_are_the_defaults() -> None:
    assert read() == Settings()


def test_options_become_settings() -> None:
    found = read(
        manager_user="listener",
        thresholds={"FailedACL": {"count": "3"}, "ChallengeSent": {"count": 0, "seconds": " 90 "}},
        ban_time="30m",
        ban_time_max="1d",
        ban_time_unproven="90",
        remember=0,
        unproven=True,
        known_for="0",
        white_list=["192.0.2.0/24", "2001:0db8::1", "203.0.113.7-203.0.113.9", "192.0.2.0/24"],
        console_port=4451,
        crowdsec={**LAPI, "interval": 60, "max_time": "2h", "ca_file": "/etc/ca.pem", "allow_http": True},
    )
    assert found == Settings(
        ami_user="listener",
        thresholds={**DEFAULT_THRESHOLDS, "FailedACL": Threshold(3, 600), "ChallengeSent": Threshold(0, 90)},
        ban_time=1800,
        ban_time_max=86400,
        ban_time_unproven=90,
        remember=0,
        unproven=True,
        known_for=0,
        white_list=("192.0.2.0/24", "2001:db8::1", "203.0.113.7", "203.0.113.8/31"),
        console_port=4451,
        crowdsec_url="https://crowdsec.example.net:8080",
        crowdsec_machine="pbx1",
        crowdsec_interval=60,
        crowdsec_ca_file="/etc/ca.pem",
        crowdsec_max_time=7200,
        crowdsec_allow_http=True,
    )
    assert "hunter" not in found.render()
    assert Settings.parse(found.render()) == found


NUMBER = r"a number from \d+ to \d+ would be right"
TIME = r"a time such as 90, 30m(, 1h or 7d| or 1h) would be right.*"


@pytest.mark.parametrize(
    ("option", "value", "named", "right"),
    [
        ("manager_user", "", "manager.user", "a name of letters, .*would be right"),
        ("manager_user", "general", "manager.user", "a name of letters, .*would be right"),
        ("manager_user", "a]\n[b", "manager.user", "a name of letters, .*would be right"),
        ("manager_user", "a b", "manager.user", "a name of letters, .*would be right"),
        ("thresholds", {"Nonsense": {"count": 1}}, "thresholds", "one of InvalidAccountID, .* would be right"),
        ("thresholds", {"SuccessfulAuth": {"count": 1}}, "thresholds", "one of InvalidAccountID, .* would be right"),
        ("thresholds", {1: {"count": 1}}, "thresholds", "one of InvalidAccountID, .* would be right"),
        ("thresholds", {"FailedACL": 5}, "thresholds.FailedACL", "a mapping such as .* would be right"),
        ("thresholds", {"FailedACL": None}, "thresholds.FailedACL", "a mapping such as .* would be right"),
        ("thresholds", {"FailedACL": [5, 600]}, "thresholds.FailedACL", "a mapping such as .* would be right"),
        ("thresholds", {"FailedACL": {"amount": 5}}, "thresholds.FailedACL", "a mapping such as .* would be right"),
        *(
            ("thresholds", {"FailedACL": {"count": value}}, "thresholds.FailedACL.count", NUMBER)
            for value in (-1, 1001, "x", "", "1.5", 1.5, True, None, "٣", "1_0", [1], "9" * 5000)
        ),
        *(
            ("thresholds", {"FailedACL": {"seconds": value}}, "thresholds.FailedACL.seconds", NUMBER)
            for value in (0, -1, 86401, "10m", False)
        ),
        *(("ban_time", value, "ban_time", TIME) for value in ("", "0", "1y", "-1", "x", "25d", MAX_TIMEOUT + 1)),
        *(("ban_time_max", value, "ban_time_max", TIME) for value in ("0", "30d", "1.5h")),
        *(("ban_time_unproven", value, "ban_time_unproven", TIME) for value in ("0", "10 min")),
        *(("remember", value, "remember", TIME) for value in ("", "4w", "for ever")),
        *(("known_for", value, "known_for", TIME) for value in ("", "2 h", "-2h")),
        ("ban_time_max", "59m", "ban_time_max", "at least ban_time, 1 h, would be right"),
        ("white_list", ["192.0.2.1", "192.0.2.256"], "white_list", ".+"),
        ("white_list", ["192.0.2.1/24"], "white_list", ".+"),
        ("white_list", ["pbx.example.org"], "white_list", ".+"),
        ("white_list", [""], "white_list", ".+"),
        ("white_list", ["fe80::1%eth0"], "white_list", ".+"),
        ("console_port", -1, "console_port", "a port from 1 to 65535 would be right, or 0 for no console"),
        ("console_port", 65536, "console_port", "a port from 1 to 65535 would be right, or 0 for no console"),
        *(
            ("crowdsec", {**LAPI, "interval": value}, "crowdsec.interval", "1 to 3600 seconds would be right")
            for value in (0, -5, 3601)
        ),
        *(("crowdsec", {**LAPI, "machine": value}, "crowdsec.machine", ".+would be right") for value in ("", "a b")),
        ("crowdsec", {**LAPI, "max_time": "59"}, "crowdsec.max_time", ".+would be right"),
        ("crowdsec", {**LAPI, "url": "https://bob:hunter2@crowdsec.example.net"}, "crowdsec.url", ".+would be right"),
        *(("crowdsec", {**LAPI, "max_time": value}, "crowdsec.max_time", TIME) for value in ("0", "25d", "soon")),
        *(
            ("crowdsec", {**LAPI, "url": value}, "crowdsec.url", ".+would be right")
            for value in ("", "crowdsec.example.net", "ftp://crowdsec.example.net", "http://crowdsec.example.net:8080")
        ),
    ],
    ids=lambda value: ascii(value)[:60].rstrip("'"),
)
def test_a_bad_option_is_named_with_its_value_and_with_what_would_be_right(
    option: str, value: object, named: str, right: str
) -> None:
    with pytest.raises(OptionError, match=rf"^{named}: .* cannot be used; {right}$") as error:
        read(**{option: value})
    assert error.value.option == named
    assert "hunter" not in str(error.value)


@given(st.sampled_from(sorted(DEFAULTS)), st.one_of(st.text(), st.integers(), st.none(), st.booleans()))
def test_times_and_numbers_are_read_or_refused(option: str, value: object) -> None:
    kinds = {"ban_time", "ban_time_max", "ban_time_unproven", "remember", "known_for"}
    changes = {option: value} if option in kinds else {"thresholds": {"FailedACL": {"count": value}}}
    try:
        found = read(**changes)
    except OptionError:
        return
    found.check()
    assert Settings.parse(found.render()) == found


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_options_allow_the_settings_take(kind: str) -> None:
    for count, seconds in ((0, 1), (1000, 86400)):
        assert read(thresholds={kind: {"count": count, "seconds": seconds}}).thresholds[kind] == Threshold(
            count, seconds
        )
