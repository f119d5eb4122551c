# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Includes, templates and what is hostile. That it is as Asterisk sees it: tests/asterisk/test_grammar.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import tree as trees
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import (
    ConfigDirectory,
    Place,
    Tree,
    fold,
    is_true,
    load,
    shown,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.asterisk.configurations import configurations, sites


def loaded(files: dict[str, bytes], name: str = "x.conf") -> Tree:
    return load(ConfigDirectory("/nonexistent", files), name)


def said(tree: Tree) -> list[tuple[str, list[str]]]:
    return [(each.name, [f"{one.name}={one.value}@{one.place}" for one in each.variables]) for each in tree.objects()]


CASES: dict[str, tuple[dict[str, bytes], list[tuple[str, list[str]]]]] = {
    "templates of templates": (
        {"x.conf": b"[t](!)\nk=1\n[u](!,t)\nk=2\n[a](u)\nk=3\n"},
        [("a", ["k=1@x.conf:2", "k=2@x.conf:4", "k=3@x.conf:6"])],
    ),
    "several bases": (
        {"x.conf": b"[t](!)\nk=1\n[u](!)\nk=2\n[a](u,t)\n"},
        [("a", ["k=2@x.conf:4", "k=1@x.conf:2"])],
    ),
    "a base that is no template": (
        {"x.conf": b"[a]\nk=1\n[b](a)\n"},
        [("a", ["k=1@x.conf:2"]), ("b", ["k=1@x.conf:2"])],
    ),
    "additions": ({"x.conf": b"[a]\nk=1\n[b]\n[a](+)\nk=2\n"}, [("a", ["k=1@x.conf:2", "k=2@x.conf:5"]), ("b", [])]),
    "joined values": ({"x.conf": b"[a]\nk=1\nk += 2\n"}, [("a", ["k=1 2@x.conf:2"])]),
    "an include": (
        {"x.conf": b"[a]\n#include y.conf\nl=2\n", "y.conf": b"k=1\n[b]\n"},
        [("a", ["k=1@y.conf:1", "l=2@x.conf:3"]), ("b", [])],
    ),
    "included twice": ({"x.conf": b"#include y.conf\n#include y.conf\n", "y.conf": b"[a]\n"}, [("a", []), ("a", [])]),
}


@pytest.mark.parametrize(("files", "result"), CASES.values(), ids=CASES)
def test_what_it_says(files: dict[str, bytes], result: list[tuple[str, list[str]]]) -> None:
    tree = loaded(files)
    assert said(tree) == result
    assert not tree.problems


def test_the_last_of_a_name_in_any_case() -> None:
    category = loaded({"x.conf": b"[a]\nK=1\nk=2\nx=3\n"}).objects()[0]
    assert [each.value for each in category.all("k")] == ["1", "2"]
    last, first = category.last("K"), category.first("k")
    assert last is not None
    assert first is not None
    assert (last.value, first.value, category.last("z")) == ("2", "1", None)


@given(st.one_of(configurations(), st.binary()), st.one_of(configurations(), st.binary()))
def test_load_never_raises(one: bytes, two: bytes) -> None:
    tree = loaded({"x.conf": b"#include y.conf\n" + one, "y.conf": two, "asterisk.conf": two})
    assert tree.exists
    assert all(each.place.file in tree.files for category in tree.categories for each in category.variables)


@given(sites("pjsip"))
def test_nothing_is_lost(files: dict[str, bytes]) -> None:
    tree = loaded(files, "pjsip.conf")
    for name, document in tree.files.items():
        assert document.render() == files[name]


HOSTILE = {
    "doubling inheritance": b"[a0](!)\nk=v\n"
    + b"".join(b"[a%d](!,a%d,a%d)\n" % (n, n - 1, n - 1) for n in range(1, 60)),
    "doubling inclusion": b"[a]\n" + b"#include x.conf\n" * 20,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_would_never_end_ends(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_MOST_FILES", 200)
    monkeypatch.setattr(trees, "_MOST_VARIABLES", 10000)
    assert loaded({"x.conf": text}).unsure


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.conf")
    (tmp_path / "folder.conf").mkdir()
    (tmp_path / "broken.conf").symlink_to("nothing")
    directory = ConfigDirectory(str(tmp_path))
    assert [directory.read(name) for name in ("pipe.conf", "folder.conf", "broken.conf", "none.conf")] == [None] * 4


def test_a_file_without_an_end_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "x.conf", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SipguardError, match="no configuration"):
        ConfigDirectory(str(tmp_path)).read("x.conf")


def test_patterns(tmp_path: Path) -> None:
    for name in ("b.conf", "a.conf", ".sipguard-0123456789abcdef.tmp", ".hidden.conf", "c.txt"):
        (tmp_path / name).write_text("")
    directory = ConfigDirectory(str(tmp_path))
    assert directory.matching("*.conf") == ["a.conf", "b.conf"]
    assert directory.matching("*") == ["a.conf", "b.conf", "c.txt"]
    assert directory.matching("{c.txt,a.conf}") == ["c.txt", "a.conf"]
    assert directory.matching("/etc/x") == ["/etc/x"]


@pytest.mark.parametrize(("text", "runs"), [("execincludes=yes", True), ("execincludes=no", False), ("", False)])
def test_programs_are_never_run(tmp_path: Path, text: str, runs: bool) -> None:
    (tmp_path / "asterisk.conf").write_text(f"[options]\n{text}\n")
    (tmp_path / "x.conf").write_text(f"[a]\n#exec touch {tmp_path}/ran\n")
    tree = load(ConfigDirectory(str(tmp_path)), "x.conf")
    assert bool(tree.unsure) is runs
    assert not (tmp_path / "ran").exists()


def test_how_text_is_shown() -> None:
    assert shown("1001") == "1001"
    assert shown("\x1b[31m\udcfc") == "\\x1b[31m\\udcfc"
    assert len(shown("\u00fc" * 100)) == 80
    assert str(Place("a\nb.conf", 1)) == "a\\nb.conf:1"


def test_a_variable_never_shows_its_value() -> None:
    variable = loaded({"x.conf": b"[a]\nsecret=pT4v-Zq81\n"}).objects()[0].variables[0]
    assert "pT4v" not in repr(variable)


@pytest.mark.parametrize(
    ("word", "true"), [("yes", True), ("On", True), ("t", True), ("no", False), ("enabled", False), ("", False)]
)
def test_what_is_true(word: str, true: bool) -> None:
    assert is_true(word) is true


def test_only_ascii_loses_its_case() -> None:
    assert (fold("AbC"), fold("\u00c4B")) == ("abc", "\u00c4b")
