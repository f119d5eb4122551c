# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of FreePBX are ours, and what is written where. What Asterisk makes of it: tests/asterisk/test_freepbx_files.py."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import freepbx
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import ConfigDirectory, Tree, load
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError


@pytest.fixture
def found(tmp_path: Path) -> freepbx.FreePBX:
    for name in ("etc/freepbx.conf", "usr/sbin/fwconsole"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    (tmp_path / "usr/sbin/fwconsole").chmod(0o755)
    (tmp_path / "etc/asterisk").mkdir()
    made = freepbx.detect(str(tmp_path))
    assert made is not None
    return made


def test_no_freepbx_is_none(tmp_path: Path) -> None:
    assert freepbx.detect(str(tmp_path)) is None


def test_a_command_that_cannot_be_run_is_none(found: freepbx.FreePBX) -> None:
    assert freepbx.detect(found.root) == found
    os.chmod(found.fwconsole, 0o644)
    assert freepbx.detect(found.root) is None


@pytest.mark.parametrize(
    ("xml", "version"),
    [
        ("<module><version>17.0.19.27</version></module>", "17.0.19.27"),
        ("<module><version> 16.0.40 </version></module>", "16.0.40"),
        ("<module><version>17; rm -rf</version></module>", None),
        ("", None),
    ],
)
def test_version(found: freepbx.FreePBX, xml: str, version: str | None) -> None:
    path = Path(found.root, "var/www/html/admin/modules/framework/module.xml")
    path.parent.mkdir(parents=True)
    path.write_text(xml)
    again = freepbx.detect(found.root)
    assert again is not None
    assert again.version == version


EDITABLE = [
    "sip_general_custom.conf",
    "sip_custom_post.conf",
    "pjsip_custom.conf",
    "pjsip.endpoint_custom_post.conf",
    "manager_custom.conf",
    "extensions_custom.conf",
]
GENERATED = [
    "sip_general_additional.conf",
    "extensions_additional.conf",
    "sip_custom_additional.conf",
    "sip_registrations.conf",
    "pjsip.conf",
    "pjsip.endpoint.conf",
    "pjsip.transports.conf",
]
FOREIGN = [
    "manager.conf",
    "modules.conf",
    "sip_nat.conf",
    "extensions_override_freepbx.conf",
    "custom.conf",
    "x_custom.conf.bak",
]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, "") for name in EDITABLE),
        *((name, "at every reload") for name in GENERATED),
        *((name, "only its *_custom*.conf files") for name in FOREIGN),
    ],
)
def test_only_custom_files_may_be_edited(found: freepbx.FreePBX, name: str, why: str, exists: bool) -> None:
    path = Path(found.config_dir, name)
    if exists:
        path.write_text("")
    for asked in (name, str(path)):
        answer = found.may_edit(asked)
        assert bool(answer) is (not why)
        assert why in answer.why


def test_links_and_folders_may_not_be_edited(found: freepbx.FreePBX) -> None:
    etc = Path(found.config_dir)
    (etc / "a_custom.conf").symlink_to("/var/www/html/admin/modules/core/etc/a_custom.conf")
    (etc / "b_custom.conf").mkdir()
    assert "link to a file of a FreePBX module" in found.may_edit("a_custom.conf").why
    assert "not a regular file" in found.may_edit("b_custom.conf").why


@pytest.mark.parametrize("path", ["/etc/passwd", "../sip_custom.conf", "keys/sip_custom.conf", "/x_custom.conf"])
def test_files_elsewhere_may_not_be_edited(found: freepbx.FreePBX, path: str) -> None:
    assert "is not in" in found.may_edit(path).why


def test_a_folder_that_leads_elsewhere_is_elsewhere(found: freepbx.FreePBX, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Path(found.config_dir, "keys").symlink_to(tmp_path / "elsewhere")
    assert not found.may_edit("keys/sip_custom.conf")


def test_a_hostile_name_is_shown_in_one_line(found: freepbx.FreePBX) -> None:
    why = found.may_edit("a\nb\x1b[2J" + "c" * 200 + ".conf").why
    assert why.isprintable()
    assert len(why) < 200


def test_a_new_file_is_like_its_neighbours(found: freepbx.FreePBX) -> None:
    etc = Path(found.config_dir)
    for name, mode in (
        ("a_custom.conf", 0o660),
        ("b_custom.conf", 0o660),
        ("c_custom.conf", 0o600),
        ("sip.conf", 0o777),
    ):
        (etc / name).write_text("")
        (etc / name).chmod(mode)
    assert found.attributes() == freepbx.Attributes(os.getuid(), os.getgid(), 0o660)


def test_a_new_file_without_neighbours_is_not_for_others(
    found: freepbx.FreePBX, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    assert found.attributes() == freepbx.Attributes(os.getuid(), os.getgid(), 0o640)


# --- Places

PJSIP = """\
[tmpl](!)
type = endpoint
[1001]
type = endpoint
[1001]
type = aor
[only]
type = aor
[from-tmpl](tmpl)
context = x
[0.0.0.0-udp]
type = transport
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "pjsip.conf").write_text(PJSIP)
    return load(ConfigDirectory(str(tmp_path)), "pjsip.conf")


def test_every_place_is_a_file_of_ours(found: freepbx.FreePBX) -> None:
    assert [place.file for place in freepbx.PLACES.values() if not found.may_edit(place.file)] == []


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(OptionError, match=r"rtp.conf general.*pjsip.conf aor"):
        freepbx.place_for("rtp.conf", "general")


@pytest.mark.parametrize(
    ("scope", "name", "header"),
    [
        ("global", "", None),
        ("endpoint", "1001", "[1001](+^type$=^endpoint$)"),
        ("endpoint", "from-tmpl", "[from-tmpl](+^type$=^endpoint$)"),
        ("aor", "1001", "[1001](+^type$=^aor$)"),
        ("aor", "ONLY", "[ONLY](+^type$=^aor$)"),
        ("transport", "0.0.0.0-udp", "[0.0.0.0-udp](+^type$=^transport$)"),
        ("acl", "anything", "[anything]"),
    ],
)
def test_header(tree: Tree, scope: str, name: str, header: str | None) -> None:
    assert freepbx.place_for("pjsip.conf", scope).header(tree, name) == header


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        ("endpoint", "1002"),
        ("endpoint", "only"),
        ("endpoint", "tmpl"),
        ("auth", "1001"),
        ("endpoint", ""),
        ("endpoint", "1001](+)\n[x"),
        ("acl", "a]b"),
        ("acl", "a;b"),
        ("acl", "two\nlines"),
        ("acl", " a"),
    ],
)
def test_header_that_would_hit_nothing_or_break_the_file_is_refused(tree: Tree, scope: str, name: str) -> None:
    with pytest.raises(OptionError):
        freepbx.place_for("pjsip.conf", scope).header(tree, name)


def test_a_peer_needs_no_filter(tmp_path: Path) -> None:
    (tmp_path / "sip.conf").write_text("[general]\n[1002]\nhost=dynamic\n")
    tree = load(ConfigDirectory(str(tmp_path)), "sip.conf")
    assert freepbx.place_for("sip.conf", "peer").header(tree, "1002") == "[1002](+)"
    with pytest.raises(OptionError, match="lose every line below it"):
        freepbx.place_for("sip.conf", "peer").header(tree, "1003")


def test_the_header_adds_to_what_it_names(tree: Tree, tmp_path: Path) -> None:
    """Our own reading of the configuration agrees with Asterisk's."""
    header = freepbx.place_for("pjsip.conf", "aor").header(tree, "1001")
    (tmp_path / "pjsip.conf").write_text(f"{PJSIP}{header}\nremove_existing = yes\n")
    again = load(ConfigDirectory(str(tmp_path)), "pjsip.conf")
    kinds = [each.last("type") for each in again.named("1001") if each.last("remove_existing")]
    assert [kind.value for kind in kinds if kind] == ["aor"]
    assert again.problems == []
