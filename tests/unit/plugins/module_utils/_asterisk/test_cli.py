# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.cli import (
    Cli,
    NoSuchCommand,
    NotRunning,
    Version,
    clean,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError

from .consoles import DOWN, RELEASES, Console


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Asterisk 16.28.0~dfsg-0+deb11u10 built by nobody @ buildd", (16, 28, 0)),
        ("Asterisk 22.10.1+dfsg+~cs6.17.60671434-1\n", (22, 10, 1)),
        ("Asterisk certified/18.9-cert4 built by root", (18, 9, 0)),
        ("Asterisk certified-20.7-cert2", (20, 7, 0)),
        ("Asterisk GIT-18-a1b2c3d built by", (18, 0, 0)),
        ("Asterisk 13.38", (13, 38, 0)),
    ],
)
def test_version_of_every_kind_of_asterisk(text: str, expected: tuple[int, int, int]) -> None:
    version = Version.parse(text)
    assert version is not None
    assert (version.major, version.minor, version.patch) == expected


@pytest.mark.parametrize("text", ["", "Asterisk", "Asterisk SVN-trunk", "sh: asterisk: not found"])
def test_version_of_something_else_is_none(text: str) -> None:
    assert Version.parse(text) is None


def test_versions_compare_by_number() -> None:
    assert Version(16, 9) < Version(16, 28) < Version(22, 1)
    assert Version(16, 28, 0, "16.28.0") == Version(16, 28, 0, "16.28.0~dfsg")


@pytest.mark.parametrize(("release", "major"), [("16.28", 16), ("22.10", 22)])
def test_what_runs(release: str, major: int) -> None:
    cli = Cli(Console(release))
    assert cli.running()
    version = cli.version()
    assert version is not None
    assert version.major == major
    assert version.text.startswith(release)
    assert cli.channels() == 1
    assert {"res_pjsip", "chan_pjsip", "res_pjsip_outbound_registration", "acl"} <= cli.modules()
    assert ("chan_sip" in cli.modules()) == (major == 16)
    # loaded, but not running
    assert "app_festival" not in cli.modules()
    assert cli.directories() == {
        "astetcdir": "/etc/asterisk",
        "astlogdir": "/var/log/asterisk",
        "astrundir": "/var/run/asterisk",
        "astdatadir": "/usr/share/asterisk",
    }


def test_nothing_runs() -> None:
    answers = dict.fromkeys(("core show version", "core show settings", "core show channels count"), DOWN)
    cli = Cli(Console("16.28", {**answers, "-V": "Asterisk 16.28.0\n"}))
    assert not cli.running()
    assert cli.version() == Version(16, 28, 0)
    for ask in (cli.channels, cli.identity):
        with pytest.raises(NotRunning, match="it is not running"):
            ask()


def test_nothing_is_installed() -> None:
    cli = Cli(Console("16.28", installed=False))
    assert not cli.running()
    assert cli.version() is None


def test_folders_of_an_asterisk_that_does_not_run_are_those_of_asterisk_conf(tmp_path: Path) -> None:
    text = "[directories](!)\nastlogdir => /srv/log ; here\n;astrundir => /nowhere\nastdatadir=/srv/data\nastrundir => relative\n"
    (tmp_path / "asterisk.conf").write_text(text)
    console = Console("16.28", {"core show settings": DOWN})
    found = Cli(console, str(tmp_path)).directories()
    assert found == {
        "astetcdir": str(tmp_path),
        "astlogdir": "/srv/log",
        "astrundir": "/var/run/asterisk",
        "astdatadir": "/srv/data",
    }
    # another folder is told to the program
    assert console.asked == [["-C", f"{tmp_path}/asterisk.conf", "-rx", "core show settings"]]


@pytest.mark.parametrize("release", RELEASES)
def test_unknown_command(release: str) -> None:
    with pytest.raises(NoSuchCommand, match="'sip nonsense'"):
        Cli(Console(release)).command("sip nonsense")


def test_remarks_and_colours_are_no_answer() -> None:
    text = "No ethernet interface found for seeding global EID.\n\x1b[0;37mone\x1b[0m\ntwo\n"
    assert Cli(Console("16.28", {"x": text})).command("x") == "one\ntwo"


@pytest.mark.parametrize("status", [124, 137])
def test_an_asterisk_that_hangs_is_not_waited_for(status: int) -> None:
    with pytest.raises(SipguardError, match="has not answered 'core show version'"):
        Cli(Console("16.28", {"core show version": Completed(status, "", "")})).running()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a\tb",
        "a\nb",
        'a"b',
        "a'b",
        "a\\b",
        "a;b",
        "a\x00b",
        "a\x1bb",
        "a\u00a0b",
        "a\udcffb",
        "\u2028",
        "x" * 201,
    ],
)
def test_a_name_that_could_be_something_else_is_refused(name: str) -> None:
    console = Console("22.10")
    with pytest.raises(OptionError) as error:
        Cli(console).argument(name)
    assert len(str(error.value)) < 250
    assert str(error.value).isascii()


@pytest.mark.parametrize(
    "name", ["1001", "carrier-1_a.b", "user@example.org", "+49301234", "grün", "a/b", "!x", "$(id)", "|"]
)
def test_other_names_can_be_asked_for(name: str) -> None:
    assert Cli.argument(name) == name


def test_text_to_show_is_ascii_and_short() -> None:
    assert clean("a\nb\x1b[2Jé") == r"a\nb\x1b[2J\xe9"
    assert len(clean("x" * 1000)) == 80
