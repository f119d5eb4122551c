# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that change together or not at all, in a directory where somebody else may put what he likes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import transaction as transactions
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.transaction import (
    Transaction,
    sweep,
    write_private,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

OLD = {"a.conf": b"old a", "b.conf": b"old b"}


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A directory of another user's, with two files and no third."""
    made = tmp_path / "etc"
    made.mkdir()
    for name, data in OLD.items():
        (made / name).write_bytes(data)
        os.chmod(made / name, 0o604)
        os.chown(made / name, 12345, 23456)
    os.chown(made, 12345, 23456)
    return made


def begun(etc: Path, *names: str) -> Transaction:
    """A transaction that changes these files."""
    names = names or ("a.conf", "b.conf", "c.conf")
    made = Transaction(
        {str(etc / name): b"new " + name[:1].encode() for name in names},
        {str(etc / name): OLD.get(name) for name in names},
    )
    made.prepare()
    return made


def contents(etc: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted(etc.iterdir()) if each.is_file()}


def about(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@pytest.mark.parametrize("hold", [False, True])
def test_all_change_and_keep_owner_and_mode(etc: Path, hold: bool) -> None:
    made = begun(etc)
    assert contents(etc).items() >= OLD.items()
    made.commit(hold)
    made.forget()
    assert contents(etc) == {"a.conf": b"new a", "b.conf": b"new b", "c.conf": b"new c"}
    assert about(etc / "a.conf") == (12345, 23456, 0o604)
    assert about(etc / "c.conf") == (12345, 23456, 0o640)


@pytest.mark.parametrize("hold", [False, True])
def test_all_are_put_back(etc: Path, hold: bool) -> None:
    made = begun(etc)
    made.commit(hold)
    made.undo()
    made.forget()
    assert contents(etc) == OLD
    assert about(etc / "a.conf") == (12345, 23456, 0o604)
    made.again()
    made.commit(hold)
    made.forget()
    assert contents(etc)["b.conf"] == b"new b"


def test_what_was_held_is_the_very_file(etc: Path) -> None:
    before = (etc / "a.conf").stat()
    made = begun(etc)
    made.commit(hold=True)
    made.undo()
    after = (etc / "a.conf").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_time_of_change_is_always_another(etc: Path) -> None:
    os.utime(etc / "a.conf", (4e9, 4e9))
    made = begun(etc)
    made.commit()
    assert (etc / "a.conf").stat().st_mtime > 4e9


@pytest.mark.parametrize("how", ["content", "replaced", "gone", "there now"])
def test_a_change_in_between_stops_everything(etc: Path, how: str) -> None:
    made = begun(etc)
    if how == "content":
        (etc / "b.conf").write_bytes(b"his")
    elif how == "replaced":
        (etc / "his").write_bytes(OLD["b.conf"])
        (etc / "his").rename(etc / "b.conf")
    elif how == "gone":
        (etc / "b.conf").unlink()
    else:
        (etc / "c.conf").write_bytes(b"his")
    theirs = {name: data for name, data in contents(etc).items() if not name.startswith(".")}
    with pytest.raises(SipguardError, match="somebody else has just changed it"):
        made.commit()
    assert contents(etc) == theirs


def test_a_plan_of_an_older_file_is_not_carried_out(etc: Path) -> None:
    made = Transaction({str(etc / "a.conf"): b"new"}, {str(etc / "a.conf"): b"older"})
    made.prepare()
    with pytest.raises(SipguardError, match="somebody else"):
        made.commit()
    assert contents(etc) == OLD


@pytest.mark.parametrize("hold", [False, True])
def test_a_change_afterwards_is_not_undone(etc: Path, hold: bool) -> None:
    made = begun(etc)
    made.commit(hold)
    (etc / "a.conf").write_bytes(b"his own")
    with pytest.raises(SipguardError, match="somebody else has changed it meanwhile"):
        made.undo()
    made.forget()
    assert contents(etc) == {"a.conf": b"his own", "b.conf": OLD["b.conf"]}


LINKS = ["symbolic link to a file", "symbolic link to nothing", "folder", "pipe"]


@pytest.mark.parametrize("what", LINKS)
def test_what_is_no_file_is_refused(etc: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    path = etc / "b.conf"
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / ("victim" if what.endswith("file") else "nothing"))
    with pytest.raises(SipguardError, match=r"symbolic link|regular file"):
        begun(etc)
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert sorted(each.name for each in etc.iterdir()) == ["a.conf", "b.conf"]


def test_links_of_others_on_the_way_are_refused(etc: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (etc / "d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SipguardError, match="symbolic link"):
        begun(etc, "d/x.conf")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_links_of_root_on_the_way_are_followed(etc: Path, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    (tmp_path / "link").symlink_to(etc)
    made = begun(tmp_path / "link", "a.conf")
    made.commit()
    assert contents(etc)["a.conf"] == b"new a"


def test_a_folder_that_is_exchanged_is_still_the_one_that_was_opened(etc: Path, tmp_path: Path) -> None:
    made = begun(etc)
    etc.rename(tmp_path / "away")
    etc.symlink_to(tmp_path)
    (tmp_path / "a.conf").write_bytes(OLD["a.conf"])
    made.commit()
    assert (tmp_path / "a.conf").read_bytes() == OLD["a.conf"]
    assert contents(tmp_path / "away")["a.conf"] == b"new a"


def test_another_name_of_the_file_keeps_its_content(etc: Path, tmp_path: Path) -> None:
    os.link(etc / "a.conf", tmp_path / "second")
    made = begun(etc)
    made.commit(hold=True)
    made.forget()
    assert (tmp_path / "second").read_bytes() == OLD["a.conf"]


def test_rights_that_nobody_may_have_are_not_given_on(etc: Path) -> None:
    os.chmod(etc / "a.conf", 0o6755)
    made = begun(etc)
    made.commit()
    assert about(etc / "a.conf")[2] == 0o755


def test_leftovers_are_swept_and_nothing_else(etc: Path) -> None:
    for name in (".sipguard-0123456789abcdef.tmp", ".sipguard-mine.tmp", ".sipguard-0123456789abcdef.tmp.conf"):
        (etc / name).write_text("x")
    sweep([str(etc), str(etc / "none")])
    assert sorted(contents(etc)) == [".sipguard-0123456789abcdef.tmp.conf", ".sipguard-mine.tmp", "a.conf", "b.conf"]


def test_a_directory_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SipguardError, match=r"none: No such file.*as it was"):
        begun(tmp_path / "none")


def test_backups_are_for_root_alone_and_the_newest_stay(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups = tmp_path / "backups"
    made = begun(etc)
    folder = Path(made.backup(str(backups)))
    kept = folder / str(etc / "a.conf").lstrip("/")
    assert kept.read_bytes() == OLD["a.conf"]
    assert (about(backups)[2], about(folder)[2], about(kept)[2]) == (0o700, 0o700, 0o600)
    for name in ("20200101T000000Z", "2019-mine", "1"):
        (backups / name).mkdir()
    monkeypatch.setattr(transactions, "_KEPT_BACKUPS", 2)
    other = Path(made.backup(str(backups)))
    assert sorted(each.name for each in backups.iterdir()) == sorted(["1", "2019-mine", folder.name, other.name])


def test_a_backup_that_cannot_be_made_changes_nothing(etc: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = begun(etc)
    with pytest.raises(SipguardError, match="as it was"):
        made.backup(str(tmp_path / "file" / "x"))
    assert contents(etc) == OLD


def test_private_files(tmp_path: Path) -> None:
    path = tmp_path / "new" / "note"
    write_private(str(path), b"x")
    write_private(str(path), b"y")
    assert path.read_text() == "y"
    assert (about(path.parent)[2], about(path)[2]) == (0o700, 0o600)
    assert [each.name for each in path.parent.iterdir()] == ["note"]
