# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._fail2ban.logs import check_dates, missing
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

HEAD = "Channel                             Type     Formatter  Status     Configuration\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "notices"


def asterisk(*rows: str) -> FakeHost:
    """A host whose Asterisk writes to these files; to none when it does not run."""
    made = FakeHost()
    made.commands |= {"asterisk", "timeout"}
    text = HEAD + "".join(f"{row:35} File     default    Enabled    - NOTICE WARNING \n" for row in rows)
    done = Completed(0, text, "") if rows else Completed(1, "", "Unable to connect to remote asterisk")
    made.interfere = lambda argv, stdin: done if any("asterisk" in word for word in argv) else None
    return made


@pytest.mark.parametrize(
    "line",
    [
        '{"hostname":"","timestamp":"2026-11-21 21:20:12","identifiers":{',
        '{"hostname": "pbx", "timestamp": "2026-11-21 21:20:12.123", "identifiers": {',
        "[2026-11-21 21:20:12] NOTICE[52] chan_sip.c: x",
        "[2026-11-21T21:20:12.123+0100] NOTICE[52]: chan_sip.c: x",
        "[Nov 21 21:20:12] WARNING[52][C-00000001] chan_sip.c: x",
        "[Nov  1 21:20:12] SECURITY[52] res_security_log.c: x",
        "whatever somebody's line feed has made of a message",
        "",
    ],
)
def test_check_dates_takes(log: Path, line: str) -> None:
    log.write_text(
        f"[21.11.2026 00:00:00] NOTICE[1] a.c: from before somebody set the format\n{line}\n"
        if "NOTICE" in line
        else line + "\n"
    )
    check_dates([str(log)])


@pytest.mark.parametrize(
    "line",
    [
        "[21.11.2026 21:20:12] NOTICE[52] chan_sip.c: x",
        "[11/21/26 21:20] NOTICE[52] chan_sip.c: x",
        "[1795295913] NOTICE[52] chan_sip.c: x",
        '{"hostname":"","timestamp":"21:20:12","identifiers":{',
    ],
)
def test_check_dates_refuses(log: Path, line: str) -> None:
    log.write_text(line + "\n")
    with pytest.raises(OptionError, match=r"dateformat=%F %T in \[general\] of logger\.conf would be right"):
        check_dates([str(log)])


def test_check_dates_reads_the_end_of_a_large_file_and_no_more(log: Path) -> None:
    log.write_text(
        "[21.11.2026 21:20:12] NOTICE[52] chan_sip.c: x\n" + "[2026-11-21 21:20:12] NOTICE[52] a.c: x\n" * 5000
    )
    check_dates([str(log)])


def test_missing_is_what_is_not_there(log: Path) -> None:
    assert missing(asterisk(), [str(log)]) == [str(log)]
    log.write_text("")
    assert missing(asterisk(), [str(log)]) == []


def test_missing_is_what_the_asterisk_that_runs_does_not_write(log: Path) -> None:
    log.write_text("")
    assert missing(asterisk("/var/log/asterisk/messages"), [str(log)]) == [str(log)]
    assert len(str(log)) > 35  # so that Asterisk shows only its beginning
    assert missing(asterisk("/var/log/asterisk/messages", str(log)[:35]), [str(log)]) == []


def test_missing_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="a log file of Asterisk's would be right"):
        missing(asterisk(), [str(tmp_path)])
