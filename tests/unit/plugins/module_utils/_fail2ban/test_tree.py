# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._fail2ban.tree import Tree, check_files, enabled_jails
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError

JAIL = "[sipguard-web]\nenabled = true\n[sipguard-off]\nenabled = no\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory as the package makes it, with something of the administrator's."""
    for folder in ("action.d", "filter.d", "jail.d", "fail2ban.d"):
        (tmp_path / folder).mkdir()
    (tmp_path / "jail.conf").write_text("[DEFAULT]\nbantime = 10m\n[sshd]\n")
    (tmp_path / "jail.d/defaults-debian.conf").write_text("[sshd]\nenabled = true\n")
    (tmp_path / "jail.local").write_text("[own]\nfilter = sshd[mode=extra]\n")
    (tmp_path / "filter.d/own.conf").write_text("secret = kept\n")
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        "jail.local",
        "jail.d/other.conf",
        "jail.d/sipguard.local",
        "jail.d/../jail.local",
        "/etc/passwd",
        "jail.d/sipguard/x.conf",
        "filter.d/sipguard\n.conf",
        "jail.d/sipguard.conf ",
        7,
    ],
)
def test_check_files_refuses_a_path(path: object) -> None:
    with pytest.raises(OptionError, match=r"^files: ") as caught:
        check_files({path: JAIL}, "files")
    assert "sipguard*.conf in one of" in str(caught.value)


@pytest.mark.parametrize("text", ["", "no end", "a\0b\n", 7, "x" * 1048577 + "\n"])
def test_check_files_refuses_a_text(text: object) -> None:
    with pytest.raises(OptionError, match="lines of text"):
        check_files({"filter.d/sipguard.conf": text}, "files")


def test_check_files_refuses_a_jail_that_cannot_be_read() -> None:
    with pytest.raises(SipguardError, match=r"jail\.d/sipguard\.conf"):
        check_files({"jail.d/sipguard.conf": "[sipguard\nenabled\n"}, "files")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bantime = abc", "a time such as 600, 10m, 1h or 7d would be right"),
        ("findtime = 10x", "a time such as"),
        ("bantime.maxtime =", "a time such as"),
        ("bantime = 0", "a time such as"),
        ("findtime = -1", "a time such as"),
        ("bantime = 9999999999999999999999999", "at most ten years"),
        ("dbpurgeage = 0", "a time such as"),
        ("bantime = 2w\nbantime.maxtime = 1w", "at most bantime.maxtime .1w. would be right"),
        ("maxretry = 0", "a number of 1 or more would be right"),
        ("maxretry = five", "a number of 1 or more"),
        ("action = sipguard[name=a-name-of-twenty-six-chars]", "at most 25 characters"),
        ("action = sipguard[name=%(__name__)s-and-sixteen-more]", "at most 25 characters"),
    ],
)
def test_check_files_refuses_what_only_the_server_would(line: str, words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        check_files({"jail.d/sipguard.conf": f"[sipguard-web]\n{line}\n"}, "files")
    assert f"[sipguard-web] {line.partition(' ')[0]}" in str(caught.value)


def test_check_files_takes_a_name_of_25_characters() -> None:
    text = "[sipguard-web]\naction = sipguard[name=a-name-of-25-characters-x]\n"
    assert check_files({"jail.d/sipguard.conf": text}, "files")


@pytest.mark.parametrize("value", ["600", "-1", "10m", "1h", "1d 12h", "2 weeks", "3 months", "%(bantime)s"])
def test_check_files_takes_a_time(value: str) -> None:
    assert check_files({"jail.d/sipguard.conf": f"[sipguard-web]\nbantime = {value}\n"}, "files")


def test_enabled_jails_are_those_that_are_on() -> None:
    assert enabled_jails({"jail.d/sipguard.conf": JAIL, "filter.d/sipguard.conf": JAIL}) == ["sipguard-web"]


def test_own_files_are_ours_alone(root: Path) -> None:
    tree = Tree(str(root))
    assert tree.own() == {}
    tree.put({"jail.d/sipguard-web.conf": JAIL, "filter.d/sipguard.conf": "x\n"}, [])
    assert tree.own() == {"jail.d/sipguard-web.conf": JAIL, "filter.d/sipguard.conf": "x\n"}
    assert (root / "jail.d/sipguard-web.conf").stat().st_mode & 0o777 == 0o644
    tree.put({}, ["filter.d/sipguard.conf", "filter.d/sipguard-gone.conf"])
    assert tree.own() == {"jail.d/sipguard-web.conf": JAIL}
    assert (root / "filter.d/own.conf").read_text() == "secret = kept\n"


def test_put_clears_away_what_a_killed_run_has_left(root: Path) -> None:
    left = root / "jail.d/.sipguard-web.conf.new"
    left.write_text("half")
    Tree(str(root)).put({}, [])
    assert not left.exists()


def test_foreign_are_the_administrators_sections(root: Path) -> None:
    (root / "jail.d/sipguard-web.conf").write_text(JAIL)
    (root / "jail.d/zz.local").write_text("[sipguard-web]\nmaxretry = 3\n")
    (root / "jail.d/broken.conf").write_text("[half\n")
    found = {(each.name, Path(each.file).name, each.filter) for each in Tree(str(root)).foreign()}
    assert found == {("own", "jail.local", "sshd"), ("sipguard-web", "zz.local", "sipguard-web")}


def test_staged_is_what_the_directory_would_be(root: Path) -> None:
    (root / "jail.d/sipguard-old.conf").write_text(JAIL)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with Tree(str(root)).staged({"jail.d/sipguard-web.conf": JAIL}) as aside:
        folder = Path(aside)
        assert folder.stat().st_mode & 0o777 == 0o700
        shown = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert shown == {
            "jail.conf",
            "jail.local",
            "jail.d/defaults-debian.conf",
            "jail.d/sipguard-web.conf",
            "filter.d/own.conf",
        }
        assert (folder / "filter.d/own.conf").is_symlink()
    assert not folder.exists()
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_put_that_fails_says_where(root: Path) -> None:
    (root / "jail.d").rename(root / "elsewhere")
    (root / "jail.d").write_text("a file")
    with pytest.raises(SipguardError, match="cannot write"):
        Tree(str(root)).put({"jail.d/sipguard-web.conf": JAIL}, [])
