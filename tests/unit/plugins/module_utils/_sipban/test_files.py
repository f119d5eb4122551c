# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as values: compared, replaced, put back."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from ansible_collections.sipguard.pbx.plugins.module_utils._sipban.files import File, Files, Link

GROUP = next(each for each in grp.getgrall() if each.gr_gid not in (0, os.getgid()))


def state(folder: Path) -> dict[str, object]:
    """Everything below a folder: text, mode and group of files, targets of links."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = (path.read_bytes(), path.stat().st_mode & 0o7777, path.stat().st_gid)
    return found


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, File | Link]:
    return {
        f"{tmp_path}/sbin/program": File("#!/bin/true\n", 0o755),
        f"{tmp_path}/etc/settings": File("a\nb\n", 0o640, GROUP.gr_name),
        f"{tmp_path}/etc/secret": File("hunter2\n", 0o640, GROUP.gr_name, secret=True),
        f"{tmp_path}/wants/unit": Link("/etc/systemd/system/unit"),
    }


def test_files_are_written_with_their_mode_and_group(tmp_path: Path, wanted: dict[str, File | Link]) -> None:
    before = os.umask(0o077)
    try:
        Files([], wanted).write()
    finally:
        os.umask(before)
    assert state(tmp_path) == {
        "etc/secret": (b"hunter2\n", 0o640, GROUP.gr_gid),
        "etc/settings": (b"a\nb\n", 0o640, GROUP.gr_gid),
        "sbin/program": (b"#!/bin/true\n", 0o755, 0),
        "wants/unit": "/etc/systemd/system/unit",
    }
    again = Files([], wanted)
    assert again.outdated() == []
    assert again.diff() == ("", "")


def test_nothing_is_written_before_it_is_asked_for(tmp_path: Path, wanted: dict[str, File | Link]) -> None:
    files = Files([f"{tmp_path}/old"], wanted)
    assert files.outdated() == list(wanted)
    assert files.diff() == ("", "".join(f"{path}\n" for path in wanted))
    assert state(tmp_path) == {}


@pytest.mark.parametrize("change", ["text", "mode", "group", "link", "gone"])
def test_each_difference_is_seen_and_mended(tmp_path: Path, wanted: dict[str, File | Link], change: str) -> None:
    Files([], wanted).write()
    right = state(tmp_path)
    path = tmp_path / "etc" / "settings"
    if change == "text":
        path.write_text("a\nc\n")
    elif change == "mode":
        path.chmod(0o644)
    elif change == "group":
        os.chown(path, 0, 0)
    else:
        path.unlink()
        if change == "link":
            path.symlink_to("secret")
    files = Files([], wanted)
    assert files.outdated() == [str(path)]
    before, after = files.diff()
    assert (before, after) == {
        "text": (f"{path}\n  c\n", f"{path}\n  b\n"),
        "gone": ("", f"{path}\n"),
    }.get(change, (f"{path}\n", f"{path} (changed)\n"))
    files.write()
    assert state(tmp_path) == right
    files.undo()
    assert Files([], wanted).outdated() == [str(path)]


def test_what_is_in_a_secret_stands_in_no_difference(tmp_path: Path, wanted: dict[str, File | Link]) -> None:
    Files([], wanted).write()
    path = tmp_path / "etc" / "secret"
    path.write_text("old hunter\n")
    before, after = Files([], wanted).diff()
    assert (before, after) == (f"{path}\n", f"{path} (changed)\n")
    before, after = Files([str(path)], {}).diff()
    assert "hunter" not in before + after


def test_files_that_are_not_wanted_any_more_go_and_come_back(tmp_path: Path, wanted: dict[str, File | Link]) -> None:
    Files([], wanted).write()
    right = state(tmp_path)
    files = Files(list(wanted), {})
    assert files.diff() == ("".join(f"{path}\n" for path in wanted), "")
    files.write()
    assert state(tmp_path) == {}
    files.undo()
    assert state(tmp_path) == right


def test_undo_takes_away_what_was_new(tmp_path: Path, wanted: dict[str, File | Link]) -> None:
    (tmp_path / "etc").mkdir()
    old = tmp_path / "etc" / "settings"
    old.write_bytes(b"\xff no text\r\n")
    old.chmod(0o604)
    before = state(tmp_path)
    files = Files([], wanted)
    files.write()
    assert state(tmp_path) != before
    files.undo()
    assert state(tmp_path) == before


def test_a_group_that_is_still_to_be_made(tmp_path: Path) -> None:
    wanted: dict[str, File | Link] = {f"{tmp_path}/x": File("x", 0o640, "sipguard-no-such-group")}
    assert Files([], wanted).outdated() == [f"{tmp_path}/x"]
    Files([], wanted).write()
    # readable by nobody else meanwhile, and still outdated
    assert (tmp_path / "x").stat().st_gid == 0
    assert Files([], wanted).outdated() == [f"{tmp_path}/x"]


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "x").symlink_to(other)
    (tmp_path / ".x.new").symlink_to(other)  # what somebody has prepared, or a run has left
    Files([], {f"{tmp_path}/x": File("ours")}).write()
    assert other.read_text() == "mine"
    assert not (tmp_path / "x").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["other", "x"]


def test_text_is_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("there")
    (tmp_path / "l").symlink_to("x")
    files = Files([f"{tmp_path}/x", f"{tmp_path}/l", f"{tmp_path}/none"], {})
    assert [files.text(f"{tmp_path}/{name}") for name in ("x", "l", "none")] == ["there", None, None]


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_refused_before_anything_is_done(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    with pytest.raises(SipguardError, match=rf"^{path} is no file; move it away and run again$"):
        Files([], {str(path): File("x")})


def test_what_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SipguardError, match=rf"^cannot (read|write) {tmp_path}/file/x: Not a directory$"):
        Files([], {f"{tmp_path}/file/x": File("x")}).write()
