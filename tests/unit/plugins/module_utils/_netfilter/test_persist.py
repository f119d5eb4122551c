# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import persist
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4, IPV6, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store, rules_file
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import parse_save
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter.samples import golden


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "sipguard"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_rules_file_is_named_after_its_family() -> None:
    assert [rules_file(family) for family in FAMILIES] == ["rules.v4", "rules.v6"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_write_makes_files_that_only_root_can_read(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Store(str(directory)).write("sets", "text\n")
    finally:
        os.umask(before)
    assert (mode(directory), mode(directory / "sets")) == (0o700, 0o600)
    assert (directory / "sets").read_text() == "text\n"


def test_write_of_the_same_text_touches_nothing(directory: Path) -> None:
    store = Store(str(directory))
    store.write("sets", "text\n")
    before = (directory / "sets").stat()
    assert store.differs("sets", "text\n") is False
    store.write("sets", "text\n")
    after = (directory / "sets").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_write_replaces_the_file_in_one_moment(directory: Path) -> None:
    store = Store(str(directory))
    store.write("sets", "old\n")
    with open(directory / "sets") as reader:  # whoever reads meanwhile has the old file whole
        store.write("sets", "new\n")
        assert reader.read() == "old\n"
    assert store.read("sets") == "new\n"
    assert sorted(os.listdir(directory)) == ["manifest", "sets"]


def test_write_that_fails_leaves_the_old_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(directory))
    store.write("sets", "old\n")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SipguardError, match=r"cannot write .*/sets: .*No space left"):
            store.write("sets", "new\n")
    assert store.read("sets") == "old\n"
    # What that left is cleared away by the next run, whatever it wants.
    assert store.differs("sets", "old\n") is True
    store.write("sets", "old\n")
    assert sorted(os.listdir(directory)) == ["manifest", "sets"]
    assert store.differs("sets", "old\n") is False


def test_write_of_none_removes_the_file_and_the_empty_directory(directory: Path) -> None:
    store = Store(str(directory))
    store.write("sets", "text\n")
    store.write("rules.v4", "text\n")
    store.write("sets", None)
    assert sorted(os.listdir(directory)) == ["manifest", "rules.v4"]
    store.write("rules.v4", None)
    assert not directory.exists()
    assert store.differs("rules.v4", None) is False
    store.write("rules.v4", None)


def test_write_of_none_clears_away_what_a_killed_run_left(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / ".sets.new").write_text("half of")
    store = Store(str(directory))
    assert store.differs("sets", None) is True
    store.write("sets", None)
    assert not directory.exists()


def test_write_of_none_keeps_a_directory_with_other_files(directory: Path) -> None:
    store = Store(str(directory))
    store.write("sets", "text\n")
    (directory / "notes").write_text("the administrator's own\n")
    store.write("sets", None)
    assert os.listdir(directory) == ["notes"]


def test_read_is_none_without_a_file(directory: Path) -> None:
    assert Store(str(directory)).read("sets") is None
    assert Store(str(directory)).read_rules(IPV4) is None


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_read_rules_is_the_inverse_of_rules_text(directory: Path, family: Family, backend: str) -> None:
    store = Store(str(directory))
    text = golden("enforce", family)
    store.write(rules_file(family), store.rules_text(text, backend))
    found = store.read_rules(family)
    assert found is not None
    assert found[0] == parse_save(text)
    assert found[1] == backend


def test_rules_text_says_who_wrote_it_and_is_none_without_rules() -> None:
    text = Store.rules_text(golden("enforce", IPV6), "nft")
    assert text is not None
    assert text.startswith("# Written by sipguard.pbx")
    assert text.endswith(golden("enforce", IPV6) + "# end\n")
    assert Store.rules_text("", "nft") is None


WHOLE = Store.rules_text(golden("enforce", IPV4), "nft") or ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage\n",
        WHOLE[: len(WHOLE) // 2],
        WHOLE.removesuffix("COMMIT\n# end\n"),
        WHOLE.removesuffix("# end\n"),
        WHOLE.replace("# backend: nft\n", ""),
        WHOLE.replace("COMMIT\n", "-A INPUT -j ACCEPT\nCOMMIT\n", 1),
        WHOLE.replace("-A SIPGUARD-UA ", "-A SIPGUARD-UA word ", 1),
        "# backend: nft\n",
    ],
    ids=["empty", "garbage", "cut", "no commit", "no end", "no backend", "foreign rule", "unreadable rule", "no rules"],
)
def test_read_rules_refuses_a_damaged_file(directory: Path, text: str) -> None:
    store = Store(str(directory))
    store.write("rules.v4", text)
    with pytest.raises(SipguardError, match=r"/rules\.v4 is damaged: "):
        store.read_rules(IPV4)


def test_bytes_that_are_no_text_are_damage_and_the_next_write_repairs_it(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "rules.v4").write_bytes(b"\xff\xfe\n")
    store = Store(str(directory))
    with pytest.raises(SipguardError, match=r"/rules\.v4 is damaged: "):
        store.read_rules(IPV4)
    assert store.differs("rules.v4", WHOLE) is True
    store.write("rules.v4", WHOLE)
    assert store.read_rules(IPV4) is not None


def test_read_refuses_what_is_no_file(directory: Path) -> None:
    (directory / "sets").mkdir(parents=True)
    with pytest.raises(SipguardError, match=r"cannot read .*/sets"):
        Store(str(directory)).read("sets")


# -- which files there have to be


def test_list_follows_what_is_written_and_removed(directory: Path) -> None:
    store = Store(str(directory))
    assert store.listed() == frozenset()
    store.write("sets", "text\n")
    store.write("rules.v4", "text\n")
    assert store.listed() == {"sets", "rules.v4"}
    (directory / "rules.v4").unlink()  # by somebody else
    assert store.listed() == {"sets", "rules.v4"}
    store.write("rules.v4", None)
    assert store.listed() == {"sets"}
    assert mode(directory / "manifest") == 0o600


def test_unchanged_list_is_not_written_again(directory: Path) -> None:
    store = Store(str(directory))
    store.write("sets", "old\n")
    before = (directory / "manifest").stat()
    store.write("sets", "new\n")
    assert (directory / "manifest").stat().st_ino == before.st_ino


@pytest.mark.parametrize("damage", ["", "# half of it\nse", "\xff"])
def test_damaged_list_is_an_error_and_the_next_write_repairs_it(directory: Path, damage: str) -> None:
    store = Store(str(directory))
    store.write("sets", "text\n")
    store.write("rules.v6", "text\n")
    (directory / "notes").write_text("the administrator's own\n")
    (directory / "manifest").write_text(damage, encoding="latin-1")
    with pytest.raises(SipguardError, match=r"/manifest is damaged: its end is missing"):
        store.listed()
    assert store.differs("sets", "text\n") is True
    store.write("sets", "text\n")
    assert store.listed() == {"sets", "rules.v6"}
    assert store.differs("rules.v6", "text\n") is False


def test_file_that_is_not_listed_is_written_again(directory: Path) -> None:
    """A run was killed between the file and the list."""
    directory.mkdir(parents=True)
    (directory / "sets").write_text("text\n")
    store = Store(str(directory))
    assert store.differs("sets", "text\n") is True
    store.write("sets", "text\n")
    assert store.listed() == {"sets"}


# -- what loads them


@pytest.mark.parametrize(
    ("there", "loader"),
    [
        ([], None),
        (["unit"], "systemd"),
        (["plugin"], None),
        (["package"], None),
        (["plugin", "package"], "netfilter-persistent"),
    ],
    ids=str,
)
def test_loader_is_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: list[str], loader: str | None
) -> None:
    for name, constant in (("unit", "BOOT_UNIT"), ("plugin", "BOOT_PLUGIN"), ("package", "NETFILTER_PERSISTENT")):
        monkeypatch.setattr(persist, constant, str(tmp_path / name))
        if name in there:
            (tmp_path / name).touch()
    assert persist.boot_loader() == loader
    warning = persist.boot_warning()
    assert (warning is None) is (loader is not None)
    assert warning is None or "sipguard_host" in warning
