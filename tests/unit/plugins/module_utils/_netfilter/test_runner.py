# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import runner
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.engine import Engine
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import (
    NEEDED,
    CommandError,
    Completed,
    FreshHost,
    HostRunner,
    explain,
    runner_for,
)

ECHO = "import sys, os; sys.stdout.write(sys.stdin.read()); print(os.environ['LC_ALL'], sys.argv[1:], file=sys.stderr); sys.exit(3)"


def test_run_returns_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    done = HostRunner().run([sys.executable, "-c", ECHO, "a b", "$HOME", "*"], "stdin\n")
    assert done == Completed(3, "stdin\n", "C ['a b', '$HOME', '*']\n")


def test_run_keeps_bytes_that_are_no_text() -> None:
    done = HostRunner().run([sys.executable, "-c", "import sys; sys.stdout.buffer.write(b'a\\xffb')"])
    assert done.stdout.encode("utf-8", "surrogateescape") == b"a\xffb"


@pytest.mark.parametrize("path", ["", "/nowhere", None])
def test_which_finds_commands_whatever_the_path(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    if path is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", path)
    found = HostRunner().which("sh")
    assert found in ("/usr/bin/sh", "/bin/sh")
    assert HostRunner().which("no-such-command-of-sipguard") is None


@pytest.mark.parametrize(
    ("completed", "message"),
    [
        (
            Completed(1, "", "iptables-restore v1.8.9: line 2\n  failed.\n"),
            "x failed: iptables-restore v1.8.9: line 2 failed.",
        ),
        (Completed(2, "only this\n", ""), "x failed: only this"),
        (Completed(4, "", ""), "x failed: exit status 4"),
    ],
)
def test_command_error_carries_the_commands_own_words(completed: Completed, message: str) -> None:
    error = CommandError(["/usr/sbin/x", "--noflush"], completed)
    assert str(error) == message
    assert error.completed == completed


@pytest.mark.parametrize(
    "said",
    [
        "iptables-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n",
        "ipset v7.17: Kernel error received: Operation not permitted\n",
    ],
)
def test_explain_says_what_to_do_without_rights(said: str) -> None:
    error = explain(["/usr/sbin/x"], Completed(1, "", said))
    assert str(error).startswith(
        "netfilter cannot be changed without root (or CAP_NET_ADMIN, in a container); become root"
    )


def test_explain_leaves_other_errors_to_their_words() -> None:
    assert str(explain(["/usr/sbin/x"], Completed(1, "", "no\n"))) == "x failed: no"


@pytest.mark.parametrize("missing", [None, *NEEDED])
@pytest.mark.parametrize("check", [True, False])
def test_runner_for_sees_a_fresh_host_in_check_mode_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None, check: bool
) -> None:
    monkeypatch.setattr(runner, "_EXTRA_PATH", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    for command in set(NEEDED) - {missing}:
        (tmp_path / command).write_text("#!/bin/sh\n")
        (tmp_path / command).chmod(0o755)
    assert isinstance(runner_for(check), FreshHost if check and missing else HostRunner)


def test_fresh_host_is_one_on_which_nothing_was_set_up() -> None:
    engine = Engine(FreshHost())
    assert engine.backend.name == "nft"
    snapshot = engine.snapshot()
    assert snapshot.headers == {}
    assert not any(ruleset.tables for ruleset in snapshot.rulesets.values())
