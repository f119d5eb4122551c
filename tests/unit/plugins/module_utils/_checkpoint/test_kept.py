# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs that never came to their end have left on a host goes, and what a run beside this one needs stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint.files import Entry
from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint.kept import Archive, Kept
from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint.places import Unit
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError

HOUR = 3600


def left(folder: Path, name: str, hours: float) -> None:
    """A file that is so old."""
    (folder / name).write_text("secrets")
    os.utime(folder / name, times=(time.time() - hours * HOUR,) * 2)


def test_what_earlier_runs_have_left_goes(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for hours in range(1, 8):
        left(tmp_path, f"checkpoint-{hours:016x}.tar.gz", hours)
    left(tmp_path, f"checkpoint-{'f' * 16}.tar.gz", 0)
    left(tmp_path, ".sipguard-0123456789abcdef.tmp", 2)
    left(tmp_path, ".sipguard-fedcba9876543210.tmp", 0)
    left(tmp_path, "20260101T000000Z", 9999)
    Archive(str(tmp_path)).forget_older()
    assert sorted(os.listdir(tmp_path)) == [
        ".sipguard-fedcba9876543210.tmp",
        "20260101T000000Z",
        *(f"checkpoint-{hours:016x}.tar.gz" for hours in range(1, 5)),
        f"checkpoint-{'f' * 16}.tar.gz",
    ]
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_what_is_kept_is_read_as_it_was_written(tmp_path: Path) -> None:
    kept = Kept(
        {"/etc/asterisk/sip.conf": Entry(0o640, 1, 2, b"secret=x")},
        "rules",
        {"asterisk": "runs"},
        {"asterisk.service": Unit(True, True, True, "active")},
        {"/etc/asterisk": [0o750, 1, 2]},
        {"confirmed": None, "history": ["abc"]},
        [3, 4],
        "/etc/asterisk",
        {"firewall": {"customrules": "enabled"}},
    )
    archive, cookie = Archive(str(tmp_path)), "0123456789abcdef"
    archive.write(cookie, kept)
    assert archive.read(cookie) == kept
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    assert archive.drop(cookie)
    assert not archive.drop(cookie)
    with pytest.raises(SipguardError, match="there is no checkpoint 0123456789abcdef on this host"):
        archive.read(cookie)


@pytest.mark.parametrize("cookie", ["", "../../etc/passwd", "0123456789ABCDEF", "0123456789abcdef\n"])
def test_a_cookie_is_no_path(tmp_path: Path, cookie: str) -> None:
    with pytest.raises(OptionError, match="cookie"):
        Archive(str(tmp_path)).drop(cookie)


def test_after_a_week_nothing_is_left(tmp_path: Path) -> None:
    left(tmp_path, f"checkpoint-{'a' * 16}.tar.gz", 24 * 7 + 1)
    left(tmp_path, f"checkpoint-{'b' * 16}.tar.gz", 24 * 7 - 1)
    Archive(str(tmp_path)).forget_older()
    assert os.listdir(tmp_path) == [f"checkpoint-{'b' * 16}.tar.gz"]
