# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where AMI is and who may listen there, as manager.conf has it. What Asterisk 16 and 22 make of each form was tried out with both."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from ansible_collections.sipguard.pbx.plugins.module_utils._sipban.manager import ManagerUser, read_user

SECRET = "Nv83-kLqp-2mXz-old0"
USER = f"[sipguard]\nsecret = {SECRET}\nread = security\nwrite =\n"
ON = "[general]\nenabled = yes\n"
NOBODY = "AMI has no user sipguard (manager.conf)"
DEAF = "AMI's user sipguard may not read security events (manager.conf)"
OFF = "AMI is off (manager.conf)"


def look(folder: Path, **files: str) -> ManagerUser:
    for name, text in files.items():
        (folder / f"{name}.conf").write_text(text, encoding="utf-8", errors="surrogateescape")
    return read_user(str(folder), "sipguard")


def test_the_user_that_is_wanted(tmp_path: Path) -> None:
    found = look(tmp_path, manager=ON + USER)
    assert found == ManagerUser("127.0.0.1", 5038, SECRET, "", "")
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "[general]\nenabled=yes\n[t](!)\nread=security\n[sipguard](t)\nsecret=SECRET\n",
        "[general]\nenabled=no\nenabled=yes\n[sipguard]\nsecret=old\nsecret=SECRET\nread=call\nread=security\n",
        ";[sipguard]\n;secret=old\n[general]\nenabled=on ; off\n[sipguard]\nsecret=SECRET;old\nread=security ; call\n",
        "[general]\nenabled => 1\n[sipguard]\nsecret => SECRET\nread => security\n",
        "[general]\n;--\nenabled=no\n--;\nenabled=yes\n[sipguard]\n;-- secret=old --;secret=SECRET\nread=security\n",
        "[general]\r\nenabled=yes\r\n[sipguard]\r\nsecret=SECRET\r\nread=security\r\n",
        "\ufeff[general]\nenabled=yes\n[sipguard]\nsecret=SECRET\nread=security\n",
        "[general]\nenabled=yes\n[sipguard]\nSecret=SECRET\nREAD=security\n",
        "[general]\nenabled=yes\n[sipguard]\nsecret=SECRET\n[sipguard](+)\nread=security\n",
    ],
)
def test_forms_of_the_same(tmp_path: Path, text: str) -> None:
    found = look(tmp_path, manager=text.replace("SECRET", SECRET))
    assert (found.secret, found.lacking, found.rights) == (SECRET, "", "")


def test_users_of_included_files(tmp_path: Path) -> None:
    folder = tmp_path / "manager.d"
    folder.mkdir()
    (folder / "sipguard.conf").write_text(USER)
    assert look(tmp_path, manager=ON + '#include "manager.d/*.conf"\n').secret == SECRET


def test_freepbx(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        manager="[general]\nenabled = yes\nport = 5038\nbindaddr = 127.0.0.1\ndisplayconnects=no\n\n"
        "[admin]\nsecret = other\ndeny=0.0.0.0/0.0.0.0\npermit=127.0.0.1/255.255.255.0\nread = all\nwrite = all\n\n"
        "#include manager_additional.conf\n#include manager_custom.conf\n",
        manager_additional="; generated\n[firewall]\nsecret = third\nread=all\n",
        manager_custom=f"{USER}deny=0.0.0.0/0.0.0.0\npermit=127.0.0.1/255.255.255.255\n",
    )
    assert found == ManagerUser("127.0.0.1", 5038, SECRET, "", "")


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        ("", OFF),
        (USER, OFF),
        ("[general]\nenabled=no\n" + USER, OFF),
        ("[general]\nenabled=\n" + USER, OFF),
        ("[general]\n;enabled=yes\n" + USER, OFF),
        ("[general]\nenabled=yes\nenabled=off\n" + USER, OFF),
        (f"{ON}", NOBODY),
        (f"{ON}[Other]\nsecret=x\nread=security\n", NOBODY),
        (f"{ON}[sipguard](!)\nsecret=x\nread=security\n", NOBODY),
        (f"{ON}[sipguard]\nread=security\n", NOBODY),
        (f"{ON}[sipguard]\nsecret=\nread=security\n", NOBODY),
        (f"{ON};[sipguard]\n;secret=x\n", NOBODY),
        (f"{ON}[sipguard]\nsecret=x\n", DEAF),
        (f"{ON}[sipguard]\nsecret=x\nread=\n", DEAF),
        (f"{ON}[sipguard]\nsecret=x\nread=system,call\nwrite=security\n", DEAF),
        (f"{ON}[sipguard]\nsecret=x\nread=SECURITY\n", DEAF),
        # the last one counts
        (f"{ON}[sipguard]\nsecret=x\nread=security\nread=call\n", DEAF),
        (f"{ON}[t](!)\nread=security\n[sipguard](t)\nsecret=x\nread=call\n", DEAF),
        # and a blank belongs to the word
        (f"{ON}[sipguard]\nsecret=x\nread=system, security\n", DEAF),
        (f"{ON}[sipguard]\nsecret=x\nread=security ,system\n", DEAF),
    ],
)
def test_what_is_lacking_is_said(tmp_path: Path, text: str, lacking: str) -> None:
    assert look(tmp_path, manager=text).lacking == lacking


@pytest.mark.parametrize(
    ("options", "rights"),
    [
        ("read=security\nwrite=\n", ""),
        ("read=security\n", ""),
        ("read=security,\n", ""),
        ("read=all\nwrite=\n", "all"),
        ("read=system,security,call\n", "call, system"),
        ("read=security\nwrite=command,originate\n", "command, originate"),
        ("read=call\nread=security\nwrite=all\nwrite=\n", ""),
    ],
)
def test_more_rights_than_needed_are_told(tmp_path: Path, options: str, rights: str) -> None:
    found = look(tmp_path, manager=f"{ON}[sipguard]\nsecret=x\n{options}")
    assert (found.lacking, found.rights) == ("", rights)


@pytest.mark.parametrize(
    ("written", "secret"),
    [
        ('a\\;b"c', 'a;b"c'),
        ("'quoted'", "'quoted'"),
        ("a=b=>c", "a=b=>c"),
        ("#include x", "#include x"),
        ("ü世", "ü世"),
        ("a b", "a b"),
        ("[x]", "[x]"),
        ("%s{0}$(id)`id`", "%s{0}$(id)`id`"),
        ("x;y", "x"),
    ],
)
def test_a_secret_with_odd_characters(tmp_path: Path, written: str, secret: str) -> None:
    assert look(tmp_path, manager=f"{ON}[sipguard]\nsecret={written}\nread=security\n").secret == secret


@pytest.mark.parametrize(
    ("bind", "host"),
    [
        ("", "127.0.0.1"),
        ("bindaddr=0.0.0.0\n", "127.0.0.1"),
        ("bindaddr=127.0.0.1\n", "127.0.0.1"),
        ("bindaddr=127.0.0.2 ; local\n", "127.0.0.2"),
        ("bindaddr=192.0.2.1\n", "192.0.2.1"),
        ("bindaddr=192.0.2.1\nbindaddr=192.0.2.2\n", "192.0.2.2"),
        ("bindaddr=192.0.2.1\nbindaddr=0.0.0.0\n", "127.0.0.1"),
        ("bindaddr=::\n", "127.0.0.1"),
        ("bindaddr=[::]\n", "127.0.0.1"),
        ("bindaddr=::1\n", "::1"),
        ("bindaddr=[::1]\n", "::1"),
        ("bindaddr=2001:0db8::1\n", "2001:db8::1"),
        # a port there is left out by Asterisk
        ("bindaddr=127.0.0.2:5039\n", "127.0.0.2"),
        ("bindaddr=[::1]:5039\n", "::1"),
        ("bindaddr=[::]:5039\n", "127.0.0.1"),
        # what is no address leaves the default
        ("bindaddr=nonsense.invalid\n", "127.0.0.1"),
        ("bindaddr=\n", "127.0.0.1"),
        ("bindaddr=0\n", "127.0.0.1"),
    ],
)
def test_where_it_can_be_reached(tmp_path: Path, bind: str, host: str) -> None:
    found = look(tmp_path, manager=f"[general]\nenabled=yes\n{bind}{USER}")
    assert (found.host, found.port, found.lacking) == (host, 5038, "")


@pytest.mark.parametrize(
    ("bind", "permits", "admitted"),
    [
        ("192.0.2.1", "", True),
        ("192.0.2.1", "deny=0.0.0.0/0.0.0.0\npermit=127.0.0.1/255.255.255.255\npermit=::1/128\n", False),
        ("192.0.2.1", "permit=127.0.0.1/255.255.255.255\npermit=192.0.2.0/255.255.255.0\n", True),
        ("192.0.2.1", "permit=127.0.0.1,192.0.2.1\n", True),
        ("2001:db8::1", "permit=127.0.0.1/255.255.255.255\npermit=nonsense\n", False),
        ("2001:db8::1", "permit=2001:db8::/32\n", True),
        ("127.0.0.2", "permit=192.0.2.0/24\n", True),
    ],
)
def test_whether_it_may_come_from_where_ami_listens(tmp_path: Path, bind: str, permits: str, admitted: bool) -> None:
    found = look(tmp_path, manager=f"[general]\nenabled=yes\nbindaddr={bind}\n{USER}{permits}")
    assert (found.lacking == "") is admitted
    assert admitted or f"AMI listens to {bind} alone" in found.lacking


def test_port(tmp_path: Path) -> None:
    assert look(tmp_path, manager=f"[general]\nenabled=yes\nport = 5044\n{USER}").port == 5044


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "5038x", "٣", "²"])
def test_a_port_that_is_none(tmp_path: Path, port: str) -> None:
    with pytest.raises(SipguardError, match=r"^manager\.conf: port=.* is no port$"):
        look(tmp_path, manager=f"[general]\nenabled=yes\nport={port}\n{USER}")


def test_without_a_file_ami_is_off(tmp_path: Path) -> None:
    assert look(tmp_path).lacking == OFF


@pytest.mark.parametrize("text", ["[general\n", "#include nowhere.conf\n", "[sipguard](nobody)\n"])
def test_what_asterisk_would_not_load(tmp_path: Path, text: str) -> None:
    with pytest.raises(SipguardError, match=r"manager\.conf") as error:
        look(tmp_path, manager=ON + USER + text)
    assert SECRET not in str(error.value)
