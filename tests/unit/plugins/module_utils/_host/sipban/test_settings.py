# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of sipband: read as they were written, and refused in one line where they cannot be."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.settings import (
    DEFAULT_THRESHOLDS,
    KINDS,
    Settings,
    Threshold,
    read_secret,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import MAX_TIMEOUT
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

BROKEN = r"^/etc/sipban/settings\.json is damaged: .+; run the role pbx_sipban again$"
times = st.integers(1, MAX_TIMEOUT)


@given(
    st.builds(
        Settings,
        ami_host=st.sampled_from(["127.0.0.1", "::1", "192.0.2.1"]),
        ami_port=st.integers(1, 65535),
        ami_user=st.text(max_size=20),
        thresholds=st.dictionaries(
            st.sampled_from(KINDS), st.builds(Threshold, st.integers(0, 1000), st.integers(1, 86400))
        ).map(lambda given: {**DEFAULT_THRESHOLDS, **given}),
        ban_time=st.integers(1, 1000),
        ban_time_max=st.integers(1000, MAX_TIMEOUT),
        ban_time_unproven=times,
        remember=st.integers(0, MAX_TIMEOUT),
        unproven=st.booleans(),
        known_for=st.integers(0, MAX_TIMEOUT),
        white_list=st.lists(st.sampled_from(["203.0.113.7", "192.0.2.0/24", "2001:db8::/32"])).map(tuple),
        console_port=st.integers(0, 65535),
        crowdsec_url=st.text(max_size=40),
        crowdsec_interval=st.integers(1, 3600),
        crowdsec_allow_http=st.booleans(),
    )
)
def test_settings_are_read_as_they_were_written(wanted: Settings) -> None:
    assert Settings.parse(wanted.render()) == wanted


def test_an_empty_file_of_settings_means_the_defaults() -> None:
    assert Settings.parse("{}") == Settings()
    Settings().check()


def test_kinds_that_are_not_given_keep_their_default() -> None:
    found = Settings.parse('{"thresholds": {"FailedACL": {"count": 0, "seconds": 1}}}')
    assert found.thresholds == {**DEFAULT_THRESHOLDS, "FailedACL": Threshold(0, 1)}
    assert set(found.thresholds) == set(KINDS)


def test_settings_are_a_file_that_people_can_read() -> None:
    text = Settings(white_list=("192.0.2.0/24",)).render()
    assert text.endswith("}\n")
    assert json.loads(text)["white_list"] == ["192.0.2.0/24"]
    assert json.loads(text)["thresholds"]["FailedACL"] == {"count": 10, "seconds": 600}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"x"', "{}{}", "\0", '{"thresholds": null}', "[" * 10**5])
def test_what_is_no_file_of_settings_is_refused(text: str) -> None:
    with pytest.raises(SipguardError, match=BROKEN):
        Settings.parse(text)


@pytest.mark.parametrize(
    "found",
    [
        {"nonsense": 1},
        {"ami_port": 65536},
        {"ami_port": -1},
        {"ami_port": "5038"},
        {"ami_port": True},
        {"ami_port": 5038.0},
        {"ami_port": None},
        {"ami_host": 1},
        {"ami_ping": 0},
        {"console_port": 65536},
        {"console_port": -1},
        {"ban_time": 0},
        {"ban_time": MAX_TIMEOUT + 1},
        {"ban_time": -5},
        {"ban_time": "1h"},
        {"ban_time": float("nan")},
        {"ban_time": 10**400},
        {"ban_time_max": 0},
        {"ban_time": 7200, "ban_time_max": 7199},
        {"ban_time_unproven": 0},
        {"known_for": -1},
        {"known_for": MAX_TIMEOUT + 1},
        {"remember": -1},
        {"unproven": "no"},
        {"unproven": 1},
        {"thresholds": {"Nonsense": {"count": 1, "seconds": 1}}},
        {"thresholds": {"SuccessfulAuth": {"count": 1, "seconds": 1}}},
        {"thresholds": {"FailedACL": {"count": 1}}},
        {"thresholds": {"FailedACL": {"count": -1, "seconds": 1}}},
        {"thresholds": {"FailedACL": {"count": 1, "seconds": 0}}},
        {"thresholds": {"FailedACL": {"count": 1, "seconds": 86401}}},
        {"thresholds": {"FailedACL": {"count": "x", "seconds": 1}}},
        {"thresholds": {"FailedACL": 5}},
        {"thresholds": []},
        {"white_list": "192.0.2.1"},
        {"white_list": ["192.0.2.1/24"]},
        {"white_list": ["nobody"]},
        {"white_list": [1]},
        {"white_list": [True]},
        {"white_list": [None]},
        {"white_list": 5},
        {"crowdsec_interval": 0},
        {"crowdsec_max_time": -1},
        {"crowdsec_url": None},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_one_line(found: dict[str, object]) -> None:
    with pytest.raises(SipguardError, match=BROKEN) as error:
        Settings.parse(json.dumps(found))
    assert len(str(error.value)) < 700


def test_settings_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    wanted = replace(Settings(), ban_time=77, white_list=("2001:db8::/32",))
    path.write_text(wanted.render())
    assert Settings.read(str(path)) == wanted
    path.write_bytes(b"\xff\xfe{}")
    for bad in (path, tmp_path, tmp_path / "none"):
        with pytest.raises(SipguardError, match=rf"^cannot read {bad}: "):
            Settings.read(str(bad))


# -- secrets


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        ("abc\n", "abc"),
        ("abc", "abc"),
        ("  a b=~/+ \nsecond\n", "a b=~/+"),
        ("", ""),
        ("ü\r\n", "ü"),
        ("x" * 2000, "x" * 1024),
    ],
)
def test_a_secret_is_one_line(tmp_path: Path, content: str, secret: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content.encode())
    assert read_secret(str(path)) == secret


def test_of_a_secret_that_cannot_be_read_only_the_path_is_told(tmp_path: Path) -> None:
    secret = tmp_path / "binary"
    secret.write_bytes(b"\xffhunter2\n")
    link = tmp_path / "link"
    link.symlink_to(secret)
    before = len(os.listdir("/proc/self/fd"))
    for path in (secret, link, tmp_path, tmp_path / "none"):
        with pytest.raises(SipguardError, match=rf"^cannot read {path}: .*; run the role pbx_sipban again$") as error:
            read_secret(str(path))
        assert "hunter2" not in str(error.value)
        assert error.value.__cause__ is None
    assert len(os.listdir("/proc/self/fd")) == before
