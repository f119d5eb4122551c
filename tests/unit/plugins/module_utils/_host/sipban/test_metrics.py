# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics as a strict reader of the text format sees them, and by the rules of promtool."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.metrics import render, write
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

Labels = tuple[tuple[str, str], ...]
STATUS: dict[str, Any] = {
    "uptime": 7200,
    "ami": True,
    "ami_hears": True,
    "diverted": 2,
    "ami_said": "connected to 127.0.0.1:5038",
    "ami_counters": {"events": 123456789, "malformed": 0},
    "bans": {"ipv4": 100000, "ipv6": 0},
    "known": {"ipv4": 3, "ipv6": None},
    "events": {"PJSIP InvalidPassword": 1234567, "SIP ChallengeSent": 2},
    "unproven": 12345678,
    "unproven_counts": False,
    "witness": True,
    "blocked": {"InvalidPassword": 5, "by hand": 1, "crowdsec": 2},
    "kept": {"has logged in": 1},
    "failed": 0,
    "remembered": 17,
    "fleet": {},
}


class Metric:
    def __init__(self, what: str) -> None:
        self.what = what
        self.kind = ""
        self.samples: dict[Labels, float] = {}


def parse(text: str) -> dict[str, Metric]:
    """The text format, version 0.0.4, strictly: HELP, then TYPE, then the samples, each metric in one place."""
    found: dict[str, Metric] = {}
    name = ""
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        about = re.fullmatch(r"# (HELP|TYPE) ([a-z_]+) (.+)", line)
        if about and about[1] == "HELP":
            name = about[2]
            assert name not in found, f"{name} has two places"
            assert "\\" not in about[3]
            found[name] = Metric(about[3])
        elif about:
            assert about[2] == name
            assert not found[name].kind
            assert not found[name].samples
            assert about[3] in ("counter", "gauge")
            found[name].kind = about[3]
        else:
            sample = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? ([0-9]+(?:\.[0-9]+)?(?:e\+[0-9]+)?)", line, re.DOTALL)
            assert sample, line
            assert sample[1] == name
            assert found[name].kind
            labels = read_labels(sample[2] or "")
            assert labels not in found[name].samples
            found[name].samples[labels] = float(sample[3])
    return found


def read_labels(text: str) -> Labels:
    labels = []
    while text:
        one = re.match(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"(?:,(?=[a-z])|\Z)', text)
        assert one, text
        value = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], one[2])
        labels.append((one[1], value))
        text = text[one.end() :]
    assert len(dict(labels)) == len(labels)
    return tuple(labels)


def test_what_is_counted_is_read_back() -> None:
    found = {name: metric.samples for name, metric in parse(render(STATUS)).items()}
    assert found == {
        "sipban_up_seconds": {(): 7200},
        "sipban_ami_connected": {(): 1},
        "sipban_ami_hears": {(): 1},
        "sipban_bans": {(("family", "ipv4"),): 100000, (("family", "ipv6"),): 0},
        "sipban_known": {(("family", "ipv4"),): 3},
        "sipban_events_total": {
            (("service", "PJSIP"), ("event", "InvalidPassword")): 1234567,
            (("service", "SIP"), ("event", "ChallengeSent")): 2,
        },
        "sipban_unproven_total": {(): 12345678},
        "sipban_diverted_total": {(): 2},
        "sipban_blocked_total": {
            (("why", "InvalidPassword"),): 5,
            (("why", "by hand"),): 1,
            (("why", "crowdsec"),): 2,
        },
        "sipban_kept_total": {(("why", "has logged in"),): 1},
        "sipban_failed_total": {(): 0},
        "sipban_ami_messages_total": {(("kind", "events"),): 123456789, (("kind", "malformed"),): 0},
        "sipban_remembered": {(): 17},
    }


def test_names_and_kinds_are_as_promtool_wants_them() -> None:
    for name, metric in parse(render(STATUS)).items():
        assert (metric.kind == "counter") is name.endswith("_total"), name
        assert re.fullmatch(r"[A-Z].*\.", metric.what), metric.what
        assert not re.search(r"_(count|sum|bucket|info|gauge|counter)$", name), name
        assert not re.search(r"milli|micro|minutes|hours|_ms\b", name), name


@pytest.mark.parametrize("count", [0, 1, 999_999, 1_000_001, 4_294_967_297, 99_999_999_999])
def test_a_counter_counts_each_event(count: int) -> None:
    # What counts in steps of ten has no rate.
    status = {**STATUS, "events": {"PJSIP ChallengeSent": count}, "unproven": count}
    found = parse(render(status))
    assert list(found["sipban_events_total"].samples.values()) == [count]
    assert found["sipban_unproven_total"].samples == {(): count}


@given(st.text(), st.text(), st.integers(0, 10**9))
def test_labels_are_read_as_they_were_meant(event: str, why: str, count: int) -> None:
    status = {**STATUS, "events": {f"PJSIP {event}": count}, "kept": {why: count}}
    found = parse(render(status))
    assert found["sipban_events_total"].samples == {(("service", "PJSIP"), ("event", event)): count}
    assert found["sipban_kept_total"].samples == {(("why", why),): count}


def test_without_sets_and_events_there_are_no_samples_of_them() -> None:
    empty = {
        "ami": False,
        "diverted": 0,
        "ami_hears": False,
        "ami_counters": {},
        "bans": {"ipv4": None, "ipv6": None},
        "events": {},
        "blocked": {},
    }
    found = parse(render({**STATUS, **empty}))
    assert found["sipban_bans"].samples == {}
    assert found["sipban_events_total"].samples == {}
    assert found["sipban_ami_connected"].samples == {(): 0}


# -- the file


def test_the_file_is_replaced_and_everybody_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "sipban.prom"
    before = os.umask(0o077)
    try:
        write(str(path), STATUS)
        first = path.stat()
        write(str(path), {**STATUS, "failed": 3})
    finally:
        os.umask(before)
    assert first.st_mode & 0o777 == 0o644
    assert path.stat().st_ino != first.st_ino
    assert parse(path.read_text())["sipban_failed_total"].samples == {(): 3}
    assert os.listdir(tmp_path) == ["sipban.prom"]


def test_the_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "sipban.prom.new").symlink_to(other)
    with pytest.raises(SipguardError, match=rf"^cannot write {tmp_path}/sipban\.prom: "):
        write(str(tmp_path / "sipban.prom"), STATUS)
    assert other.read_text() == "mine"


def test_without_its_directory_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SipguardError, match=r"^cannot write .*/none/sipban\.prom: No such file or directory$"):
        write(str(tmp_path / "none" / "sipban.prom"), STATUS)
