# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is run, heard and shown; tests/asterisk/test_live.py has the real Asterisk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import reload as module
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.cli import Cli, NotRunning
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.reload import commands, reload
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

from .consoles import DOWN

STAMP = "[2026-11-21 17:36:02]"
FINE = "Module 'res_pjsip.so' reloaded successfully.\n"


class Asterisk:
    """A runner in place of an Asterisk with logs in `folder`; `says` are the lines that a reload of PJSIP logs.

    With `dynamic` false it takes no further log channel, and has one called full.
    """

    def __init__(self, folder: Path, says: Sequence[str] = (), dynamic: bool = True) -> None:
        self.folder, self.says, self.dynamic = folder, says, dynamic
        self.full = folder / "full"
        self.full.write_text(f"{STAMP} ERROR[9] old.c: long ago\n")
        self.channel: Path | None = None
        self.commands: list[str] = []
        self.busy = 0

    def which(self, command: str) -> str:
        return f"/usr/sbin/{command}"

    def _log(self, line: str) -> None:
        for path in (self.full, self.channel):
            if path:
                with path.open("a") as log:
                    log.write(f"{STAMP} {line}\n")

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        command = argv[-1]
        self.commands.append(command)
        if self.channel:
            self._log("VERBOSE[7] asterisk.c: Remote UNIX connection")
        return Completed(0, self._answer(command), "")

    def _answer(self, command: str) -> str:
        if command == "core show settings":
            return f"  Log directory:     {self.folder}\n"
        if command.startswith("logger add channel "):
            if not self.dynamic:
                return "ERROR: Unable to create log channel\n"
            self.channel = Path(command.split()[3])
            assert self.channel.parent.stat().st_mode & 0o777 == 0o700
            self.channel.write_text(f"{STAMP} Asterisk 16.28.0 built by nobody\n")
        elif command.startswith("logger remove channel "):
            self.channel = None
        elif command == "logger show channels":
            return f"{self.full}   File     default    Enabled    - WARNING ERROR \n"
        elif command == "module reload res_pjsip.so":
            if self.busy:
                self.busy -= 1
                return "A module reload request is already in progress; please be patient\n"
            for line in self.says:
                self._log(line)
            return FINE
        elif command == "module reload res_pjsip_outbound_registration.so":
            return "No such module 'res_pjsip_outbound_registration.so'\n"
        elif command == "dialplan reload":
            return "No such command 'dialplan reload' (type 'core show help dialplan reload' for other possible commands)\n"
        return ""


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], []),
        (["sip.conf"], ["sip reload"]),
        (["manager.conf", "logger.conf"], ["logger reload", "manager reload"]),
        (["sip.conf", "acl.conf"], ["module reload acl", "sip reload"]),
        (["extensions.conf", "extensions.conf"], ["dialplan reload"]),
    ],
)
def test_commands_of_files(files: list[str], expected: list[str]) -> None:
    assert commands(files) == expected


@pytest.mark.parametrize("name", ["modules.conf", "asterisk.conf", "x\n.conf"])
def test_files_that_cannot_be_read_again(name: str) -> None:
    with pytest.raises(SipguardError, match="without a restart"):
        commands(["sip.conf", name])


def test_nothing_to_do_asks_nothing(tmp_path: Path) -> None:
    asterisk = Asterisk(tmp_path)
    assert reload(Cli(asterisk), []).commands == ()
    assert asterisk.commands == []


def test_nothing_runs(tmp_path: Path) -> None:
    asterisk = Asterisk(tmp_path)
    asterisk.run = lambda argv, stdin="": DOWN  # type: ignore[method-assign]
    with pytest.raises(NotRunning):
        reload(Cli(asterisk), ["pjsip.conf"])


@pytest.mark.parametrize("dynamic", [True, False])
def test_complaints_are_heard_once_and_without_secrets(tmp_path: Path, dynamic: bool) -> None:
    says = [
        "ERROR[5] config_options.c: Error parsing md5_cred=leak one at line 3 of ",
        "ERROR[5] config_options.c: Error parsing md5_cred=leak one at line 3 of ",
        "WARNING[5][C-0000001a] acl.c: Invalid IP address: tellnoone",
        "ERROR[5] res_pjsip_config_wizard.c: Unable to load config file 'pjsip_wizard.conf'",
        "NOTICE[5] sorcery.c: Type 'system' is not reloadable, maintaining previous values",
        "ERROR[5] res_sorcery_config.c: Could not create an object of type 'auth' with id 'a\x1b[2J' from configuration file",
    ]
    asterisk = Asterisk(tmp_path, says, dynamic)
    done = reload(Cli(asterisk), ["pjsip.conf"], ["tellnoone", ""])
    refusal = r"ERROR res_sorcery_config.c: Could not create an object of type 'auth' with id 'a\x1b[2J' from configuration file"
    bad_value = "ERROR config_options.c: Error parsing md5_cred=*** at line 3 of "
    assert done.complaints == [bad_value, "WARNING acl.c: Invalid IP address: ***", refusal]
    assert done.refused == [bad_value, refusal]
    assert done.heard
    # what was there before is not a complaint, and nothing is left
    assert sorted(os.listdir(tmp_path)) == ["full"]
    assert asterisk.channel is None


def test_a_quiet_reload(tmp_path: Path) -> None:
    done = reload(Cli(Asterisk(tmp_path)), ["pjsip.conf"])
    assert (done.complaints, done.refused, done.heard) == ([], [], True)
    assert len(done.commands) == 3


def test_nothing_can_be_heard(tmp_path: Path) -> None:
    asterisk = Asterisk(tmp_path, ["ERROR[5] config.c: parse error"], dynamic=False)
    asterisk.full.unlink()
    asterisk.full.symlink_to("/dev/null")
    done = reload(Cli(asterisk), ["pjsip.conf"])
    assert (done.complaints, done.heard) == ([], False)


def test_a_reload_in_progress_is_waited_for(tmp_path: Path) -> None:
    asterisk = Asterisk(tmp_path)
    asterisk.busy = 3
    assert reload(Cli(asterisk), ["pjsip.conf"]).complaints == []
    assert asterisk.commands.count("module reload res_pjsip.so") == 4


def test_a_reload_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    asterisk = Asterisk(tmp_path)
    asterisk.busy = 10**6
    with pytest.raises(SipguardError, match=r"has not finished 'module reload res_pjsip\.so'"):
        reload(Cli(asterisk), ["pjsip.conf"])
    assert asterisk.channel is None
    assert sorted(os.listdir(tmp_path)) == ["full"]


def test_a_module_that_is_not_there_is_a_refusal(tmp_path: Path) -> None:
    done = reload(Cli(Asterisk(tmp_path)), ["extensions.conf"])
    assert len(done.refused) == 1
    assert "dialplan reload" in done.refused[0]


def test_the_folder_of_a_run_that_was_killed_is_removed(tmp_path: Path) -> None:
    stale, young = (tmp_path / f".sipguard-{digit * 16}" for digit in "ab")
    for folder in (stale, young):
        folder.mkdir()
        (folder / "log").write_text("")
    os.utime(stale, (0, 0))
    victim = tmp_path / "victim"
    victim.mkdir()
    link = tmp_path / f".sipguard-{'c' * 16}"
    link.symlink_to(victim)
    os.utime(link, (0, 0), follow_symlinks=False)
    asterisk = Asterisk(tmp_path)
    reload(Cli(asterisk), ["pjsip.conf"])
    assert f"logger remove channel {stale}/log" in asterisk.commands
    assert not stale.exists()
    assert young.exists()
    assert victim.exists()
