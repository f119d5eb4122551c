# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import switch_guard
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.switch_guard import (
    Pending,
    boot_identity,
    now,
    read_pending,
    require_armed,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError


def pending(seconds: float = 60) -> Pending:
    moment = time.time()
    connections = ("192.0.2.7 40001", "2001:db8::7 40002")
    return Pending(
        "c0ffee", 7, moment, moment + seconds, boot_identity(), now() + seconds, connections, "ab12", "change"
    )


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ``require_armed`` looks."""
    monkeypatch.setattr(read_pending, "__defaults__", (str(tmp_path),))
    return tmp_path


def test_pending_is_read_as_it_was_written(directory: Path) -> None:
    assert read_pending() is None
    written = pending()
    (directory / "pending.json").write_text(written.render())
    assert read_pending() == written


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"c0ffee"', "{}", '{"cookie": "c0ffee"}', "\x00" * 40], ids=lambda text: text[:8]
)
def test_damaged_pending_is_said(directory: Path, text: str) -> None:
    (directory / "pending.json").write_text(text)
    with pytest.raises(SipguardError, match=r"pending\.json is damaged .* 'sipguard rollback'"):
        read_pending()


@pytest.mark.parametrize("key", json.loads(pending().render()))
@pytest.mark.parametrize("value", [None, {}])
def test_pending_with_a_part_of_another_kind_is_damaged_or_text(key: str, value: object) -> None:
    found = {**json.loads(pending().render()), key: value}
    if key in ("cookie", "boot", "state", "kind"):
        assert getattr(Pending.parse(json.dumps(found)), key) == str(value)
    elif key == "connections" and value == {}:
        assert Pending.parse(json.dumps(found)).connections == ()
    else:
        with pytest.raises(ValueError, match="Error"):
            Pending.parse(json.dumps(found))


def test_time_left_is_that_of_this_start_of_the_host() -> None:
    assert 59 < pending().left() <= 60
    assert -61 < pending(-60).left() <= -60
    assert replace(pending(), boot="another").left() == -math.inf


def test_boot_identity_is_that_of_the_machine_and_of_pid_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = boot_identity()
    assert first == boot_identity()
    assert len(first.split("/")) == 3
    (tmp_path / "id").write_text("another\n")
    monkeypatch.setattr(switch_guard, "_BOOT_ID", str(tmp_path / "id"))
    assert boot_identity().split("/") == ["", "another", first.split("/")[2]]


@pytest.mark.parametrize(
    ("cookie", "waiting", "armed"),
    [
        ("", None, True),
        ("", pending(9000), True),
        ("c0ffee", pending(9000), True),
        ("c0ffee", None, False),
        ("c0ffee", pending(-1), False),
        ("c0ffee", replace(pending(9000), boot="another"), False),
        ("c0ffee", replace(pending(9000), cookie="decade"), False),
    ],
    ids=["no_switch", "no_switch_while_another_waits", "armed", "gone", "run_out", "restarted", "another"],
)
def test_only_an_armed_run_may_go_on(directory: Path, cookie: str, waiting: Pending | None, armed: bool) -> None:
    if waiting is not None:
        (directory / "pending.json").write_text(waiting.render())
    if armed:
        require_armed(cookie)
        return
    with pytest.raises(
        SipguardError, match=r"timer of this run \(c0ffee\) has run out.*nothing was changed: run again"
    ):
        require_armed(cookie)
