# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and links go back to what they were, whatever became of them, and no link leads root astray."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint import files
from ansible_collections.sipguard.pbx.plugins.module_utils._checkpoint.files import Entry
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
entries = st.builds(
    Entry, st.integers(0, 0o777), st.integers(0, 2**31), st.integers(0, 2**31), st.binary(max_size=300)
) | st.builds(Entry, st.just(0o777), st.just(0), st.just(0), st.none(), names)


def snapshot(folder: Path) -> dict[str, Entry]:
    return {path: entry for path in files.tree(str(folder)) if (entry := files.look(path))}


def go_back(folder: Path, wanted: dict[str, Entry]) -> list[str]:
    changed, problems = files.differing(wanted, files.tree(str(folder)))
    assert problems == []
    for path in files.folders(wanted):
        files.put_folder(path, 0o750, os.getuid(), os.getgid())
    for path in changed:
        files.put(path, wanted.get(path))
    return changed


@given(st.dictionaries(names.map(lambda name: f"/etc/{name}"), entries, max_size=5), st.text(max_size=50))
def test_what_is_packed_comes_out_again(found: dict[str, Entry], note: str) -> None:
    assert files.unpack(files.pack(found, {"about.json": note})) == (found, {"about.json": note})


@pytest.mark.parametrize("data", [b"", b"junk", files.pack({}, {"a": "b"})[:40]], ids=["empty", "junk", "half"])
def test_a_damaged_archive_is_told(data: bytes) -> None:
    with pytest.raises(SipguardError, match="the checkpoint is damaged"):
        files.unpack(data)


def test_everything_comes_back(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, text in {"kept": "same", "edited": "before", "gone": "secret", "sub/mode": "x"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "gone").chmod(0o640)
    (tmp_path / "link").symlink_to("kept")
    os.mkfifo(tmp_path / "pipe")
    before = snapshot(tmp_path)
    assert len(before) == 5
    (tmp_path / "edited").write_text("after")
    (tmp_path / "gone").unlink()
    (tmp_path / "sub/mode").chmod(0o600)
    (tmp_path / "link").unlink()
    (tmp_path / "link").write_text("a file now")
    (tmp_path / "new").write_text("new")
    changed = go_back(tmp_path, before)
    assert [os.path.basename(path) for path in changed] == ["edited", "gone", "link", "new", "mode"]
    assert snapshot(tmp_path) == before
    assert (tmp_path / "gone").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "pipe").is_fifo()
    assert go_back(tmp_path, before) == []


def test_a_folder_that_went_comes_back_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/file").write_text("x")
    before = snapshot(tmp_path)
    (tmp_path / "lib/file").unlink()
    (tmp_path / "lib").rmdir()
    assert go_back(tmp_path, before) == [str(tmp_path / "lib/file")]
    assert snapshot(tmp_path) == before
    assert files.look_at_folder(str(tmp_path / "lib")) == [0o750, os.getuid(), os.getgid()]
    assert files.look_at_folder(str(tmp_path / "lib/file")) is None


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir(0o711)
    assert not files.put_folder(str(tmp_path / "lib"), 0o700, 12345, 12345)
    assert files.look_at_folder(str(tmp_path / "lib")) == [0o711, os.getuid(), os.getgid()]


def test_what_cannot_be_looked_at_keeps_nothing_else_from_coming_back(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("before")
    (tmp_path / "real").mkdir()
    before = {**snapshot(tmp_path), str(tmp_path / "conf/x"): Entry(0o600, 0, 0, b"x")}
    (tmp_path / "kept").write_text("after")
    tmp_path.chmod(0o777)
    (tmp_path / "conf").symlink_to("conf")
    changed, problems = files.differing(before, [])
    assert str(tmp_path / "kept") in changed
    assert len(problems) + len(changed) == 2


def test_the_link_of_another_user_is_not_followed(tmp_path: Path) -> None:
    """The folder is writable for others, so what is in it may be anybody's."""
    tmp_path.chmod(0o777)
    (tmp_path / "real").mkdir()
    (tmp_path / "real/shadow").write_text("root's")
    (tmp_path / "conf").symlink_to("real")
    with pytest.raises(SipguardError, match="cannot put back"):
        files.put(str(tmp_path / "conf/shadow"), Entry(0o644, 0, 0, b"evil"))
    with pytest.raises(SipguardError, match="cannot put back"):
        files.put_folder(str(tmp_path / "conf/deeper"), 0o755, 0, 0)
    assert os.listdir(tmp_path / "real") == ["shadow"]
    assert (tmp_path / "real/shadow").read_text() == "root's"
    (tmp_path / "sip.conf").symlink_to("real/shadow")
    files.put(str(tmp_path / "sip.conf"), Entry(0o600, os.getuid(), os.getgid(), b"ours"))
    assert not (tmp_path / "sip.conf").is_symlink()
    assert (tmp_path / "real/shadow").read_text() == "root's"


def test_nothing_is_left_beside_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(SipguardError, match="cannot put back"):
        files.put(str(tmp_path / "taken"), Entry(0o600, os.getuid(), os.getgid(), b"x"))
    assert os.listdir(tmp_path) == ["taken"]
