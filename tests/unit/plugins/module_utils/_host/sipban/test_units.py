# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs and units of sipband. What systemd makes of them is tested on whole hosts (tests/hosts)."""

from __future__ import annotations

import compileall
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import settings
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.units import (
    CONTROLLER,
    KNOWN_SERVICE,
    KNOWN_TIMER,
    PROGRAM,
    SERVICE,
    programs,
    units,
)

Unit = dict[str, dict[str, list[str]]]
EVERY = [
    dict(zip(("alone", "known", "sealed"), each, strict=True)) for each in itertools.product((True, False), repeat=3)
]
# What may be there more than once.
LISTS = {"ExecStartPre", "Environment", "IPAddressAllow"}


def parse(text: str) -> Unit:
    """Strictly: sections, comments of a whole line, each option once."""
    found: Unit = {}
    section = ""
    for line in text.splitlines():
        head = re.fullmatch(r"\[([A-Z][a-z]+)\]", line)
        if head:
            section = head[1]
            assert section not in found
            found[section] = {}
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert re.fullmatch(r"[A-Z][A-Za-z]+", name), line
            assert equals, line
            assert value, line
            assert value == value.strip(), line
            found[section].setdefault(name, []).append(value)
    for options in found.values():
        for name, values in options.items():
            assert len(values) == 1 or name in LISTS, name
    return found


def one(unit: Unit, section: str, name: str) -> str:
    (value,) = unit[section].get(name, [""])
    return value


@pytest.mark.parametrize("given", EVERY, ids=str)
def test_units_are_whole_whatever_is_wanted(given: dict[str, Any]) -> None:
    found = units("1.2.3", **given)
    assert set(found) == {SERVICE, *([KNOWN_SERVICE, KNOWN_TIMER] if given["known"] else [])}
    for path, text in found.items():
        assert text.startswith("# Written by sipguard.pbx. Changes made here are overwritten; use 'systemctl edit'"), (
            path
        )
        assert text.endswith("\n")
        assert "{" not in text
        parse(text)
    service = parse(found[SERVICE])
    assert set(service) == {"Unit", "Service", "Install"}
    assert one(service, "Service", "Environment") == "SIPGUARD_VERSION=1.2.3"
    assert ("ExecStartPre" in service["Service"]) is given["known"]
    assert ("IPAddressDeny" in service["Service"]) is given["alone"]
    assert ("SystemCallFilter" in service["Service"]) is given["sealed"]


@pytest.mark.parametrize("given", EVERY, ids=str)
def test_sipband_never_has_more_than_one_right(given: dict[str, Any]) -> None:
    service = parse(units("1", **given)[SERVICE])["Service"]
    assert service["User"] == service["Group"] == [settings.USER]
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"] == ["CAP_NET_ADMIN"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["ProtectHome"] == ["yes"]
    assert service["UMask"] == ["0077"]


def test_the_service_comes_back_is_watched_and_has_its_places() -> None:
    service = parse(units("1", alone=True, known=True, sealed=True)[SERVICE])
    options = service["Service"]
    assert options["Type"] == ["notify"]
    assert options["Restart"] == ["always"]
    assert int(one(service, "Service", "WatchdogSec")) <= 60
    # EX_CONFIG: settings that nobody can go by will not be better at the next start
    assert options["RestartPreventExitStatus"] == ["78"]
    assert options["ExecStart"] == [PROGRAM]
    assert f"/var/lib/{one(service, 'Service', 'StateDirectory')}" == settings.STATE
    assert f"/run/{one(service, 'Service', 'RuntimeDirectory')}" == settings.RUN
    # as root, and its failure is no reason not to start
    assert options["ExecStartPre"] == ["-+/usr/local/sbin/sipguard known learn"]
    after = one(service, "Unit", "After").split()
    assert "sipguard-restore.service" in after  # the bans of before the boot come first
    assert service["Install"] == {"WantedBy": ["multi-user.target"]}


def test_sealed_it_may_speak_to_what_it_needs() -> None:
    options = parse(units("1", alone=True, known=True, sealed=True)[SERVICE])["Service"]
    families = options["RestrictAddressFamilies"][0].split()
    assert set(families) == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}
    assert options["IPAddressAllow"] == ["localhost"]


@pytest.mark.parametrize(
    ("ami_host", "allowed"),
    [("127.0.0.2", ""), ("::1", ""), ("192.0.2.1", " 192.0.2.1"), ("2001:db8::1", " 2001:db8::1")],
)
def test_it_may_speak_to_where_ami_listens(ami_host: str, allowed: str) -> None:
    service = parse(units("1", ami_host=ami_host, alone=True, known=True, sealed=True)[SERVICE])
    assert one(service, "Service", "IPAddressAllow") == "localhost" + allowed


def test_the_timer_starts_what_makes_telephones_known() -> None:
    found = units("1", alone=True, known=True, sealed=True)
    assert parse(found[KNOWN_SERVICE])["Service"]["ExecStart"] == ["/usr/local/sbin/sipguard known learn"]
    timer = parse(found[KNOWN_TIMER])
    assert timer["Install"] == {"WantedBy": ["timers.target"]}
    # the unit that a timer starts is that of its name
    assert KNOWN_TIMER.replace(".timer", ".service") == KNOWN_SERVICE
    assert "Unit" not in timer["Timer"]


def test_programs_are_python_and_find_nothing_but_our_library(tmp_path: Path) -> None:
    found = programs()
    assert set(found) == {PROGRAM, CONTROLLER}
    for number, (path, text) in enumerate(found.items()):
        # isolated: neither the environment nor the current directory chooses what is imported
        assert text.startswith("#!/usr/bin/python3 -I\n"), path
        file = tmp_path / f"program{number}.py"
        file.write_text(text)
        assert compileall.compile_file(file, quiet=2)
    assert "sipguard._host.sipban.daemon" in found[PROGRAM]
    assert "sipguard._host.sipban.client" in found[CONTROLLER]
