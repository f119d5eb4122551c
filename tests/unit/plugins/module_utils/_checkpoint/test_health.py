# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what a host did before and does no more is worse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint import health
from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint.health import Health

WELL = Health("runs", ["tcp 5060", "udp 5060"], ["sshd"], [], "listens to Asterisk")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"asterisk": "does not run"}, "Asterisk ran before and now does not run: see 'journalctl -u asterisk'"),
        ({"asterisk": ""}, "Asterisk ran before and now is gone"),
        ({"ports": ["tcp 5060"]}, "nothing listens to udp 5060 any more"),
        ({"jails": None}, "fail2ban answered before and does not any more"),
        ({"jails": ["recidive"]}, "fail2ban's jails sshd ran before and do not any more"),
        ({"failed": ["asterisk.service"]}, "asterisk.service failed: see 'systemctl status asterisk.service'"),
    ],
)
def test_what_is_worse_is_said(change: dict[str, Any], said: str) -> None:
    assert [text[: len(said)] for text in health.worse(WELL.text(), replace(WELL, **change))] == [said]


@pytest.mark.parametrize(
    "before",
    [
        replace(WELL, asterisk="does not run"),
        replace(WELL, ports=[], jails=None, failed=["asterisk.service"]),
        replace(WELL, sipband="does not answer"),
        replace(WELL, jails=["sshd", "sipguard-asterisk"], own_jails=["sshd", "sipguard-asterisk"]),
        Health(),
    ],
)
def test_what_was_so_before_or_is_better_is_not_worse(before: Health) -> None:
    after = replace(before, ports=[*before.ports, "udp 5061"], jails=[*(before.jails or ["sshd"]), "sipguard-asterisk"])
    assert health.worse(before.text(), after) == []
    assert health.worse(before.text(), before) == []


def test_jails_of_ours_may_go() -> None:
    ours = replace(WELL, jails=["sshd", "sipguard-scan", "web"], own_jails=["sshd", "sipguard-scan"])
    assert health.worse(ours.text(), replace(ours, jails=["web"], own_jails=[])) == []
    assert health.worse(ours.text(), replace(ours, jails=["sshd"])) != []
    assert health.worse(replace(ours, jails=["sshd"]).text(), replace(ours, jails=None)) == []


def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    assert health.short_of_space([str(tmp_path)], 1) == []
    found = health.short_of_space([str(tmp_path), str(tmp_path), str(tmp_path / "nowhere")], 1 << 60)
    assert len(found) == 1
    assert f"the disk of {tmp_path} is full" in found[0]
    assert "make room" in found[0]
