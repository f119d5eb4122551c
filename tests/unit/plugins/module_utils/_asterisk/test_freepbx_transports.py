# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What files say of transports; that Asterisk does so is tried in tests/asterisk/test_freepbx_files.py."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.freepbx_transports import read, waiting

UDP = "[0.0.0.0-udp]\ntype=transport\nbind=0.0.0.0:5060\nallow_reload=no\n"
TLS = "[0.0.0.0-tls]\ntype=transport\npassword=first-secret\nlocal_net=192.0.2.0/24\n"
ELSE = "[1001]\ntype=endpoint\ntransport=0.0.0.0-udp\n[global]\ntype=global\n"


def written(folder: Path, transports: str, custom: str = "") -> Path:
    folder.mkdir()
    includes = "#include pjsip.transports.conf\n#include pjsip.transports_custom_post.conf\n"
    for name, text in {"": includes + ELSE, ".transports": transports, ".transports_custom_post": custom}.items():
        (folder / f"pjsip{name}.conf").write_text(text, encoding="utf-8")
    return folder


def between(folder: Path, before: str, after: str, custom: str = "") -> list[str]:
    read_before, read_after = (
        read(str(written(folder / name, text, custom))) for name, text in (("before", before), ("after", after))
    )
    return waiting(read_before, read_after)


def test_nothing_changed_is_nothing_to_wait_for(tmp_path: Path) -> None:
    assert between(tmp_path, UDP + TLS, "; another comment\n" + TLS + UDP) == []


def test_options_are_named_and_values_are_not(tmp_path: Path) -> None:
    after = UDP.replace("5060", "5070") + TLS.replace("first-secret", "second-secret").replace("192.0.2.0", "192.0.3.0")
    assert between(tmp_path, UDP + TLS, after + "method=tlsv1_2\n") == [
        "pjsip.transports.conf [0.0.0.0-udp] bind",
        "pjsip.transports.conf [0.0.0.0-tls] method",
        "pjsip.transports.conf [0.0.0.0-tls] password",
    ]


def test_a_custom_file_of_the_administrators_counts(tmp_path: Path) -> None:
    custom = "[0.0.0.0-udp](+)\nallow_reload=yes\n"
    assert between(tmp_path, UDP, UDP.replace("5060", "5070"), custom) == []


def test_a_name_may_be_anything(tmp_path: Path) -> None:
    assert between(tmp_path, UDP.replace("udp]", "ü\x1b]"), UDP) == ["pjsip.transports.conf [0.0.0.0-\\xfc\\x1b]"]


def test_no_pjsip_has_no_transports(tmp_path: Path) -> None:
    assert read(str(tmp_path)) == {}
