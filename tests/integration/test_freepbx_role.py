# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role pbx_firewall on FreePBX: in the tables that it does not flush, in its own files of custom rules, and away again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.freepbx.jail import Jail
from tests.integration.harness import rules, sip
from tests.integration.harness.lab import Lab
from tests.integration.harness.modules import CHECKOUT, collection_path
from tests.integration.test_freepbx_rules import flush, load

PLAY = [{"hosts": "all", "gather_facts": False, "roles": ["sipguard.pbx.pbx_firewall"]}]
NATIVE = {"pbx_firewall_freepbx_rules": True}
FILES = ("/etc/firewall-4.rules", "/etc/firewall-6.rules")


class Site:
    """One PBX, and a controller beside it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nexec {" ".join(lab.pbx.argv(sys.executable))} "$@"\n')
        python.chmod(0o755)
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(python),
            "pbx_firewall_backend": "nft",
            "pbx_firewall_packages": False,
            "pbx_firewall_require_admin": False,
            # few rules, which are read and written quickly
            "pbx_firewall_limits": False,
            "pbx_firewall_ua_presets": [],
            "pbx_firewall_ua_user_agents": [sip.SCANNER],
        }
        (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": {"pbx": host}}}))
        (folder / "play.json").write_text(json.dumps(PLAY))

    def play(self, *argv: str, **variables: object) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "ANSIBLE_HOME": str(self.folder),
            "ANSIBLE_COLLECTIONS_PATH": str(collection_path()),
            "ANSIBLE_NOCOLOR": "true",
        }
        tool = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [tool, "-i", str(self.folder / "inventory.json"), "-e", json.dumps(variables)]
        command += [str(self.folder / "play.json"), *argv]
        return subprocess.run(command, env=env, cwd=CHECKOUT, text=True, capture_output=True, check=False)

    def changed(self, *argv: str, **variables: object) -> int:
        """How much a run has changed that has to succeed."""
        done = self.play(*argv, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        found = re.search(r"^pbx +: .*changed=(\d+)", done.stdout, flags=re.M)
        assert found
        return int(found[1])

    def refused(self, **variables: object) -> str:
        """What a run says that stops, with nothing changed."""
        before = self.lab.snapshot()
        done = self.play(**variables)
        assert done.returncode == 2, done.stdout + done.stderr
        assert self.lab.snapshot() == before
        return " ".join(done.stdout.split())

    def blocks(self) -> bool:
        """Whether the scanner is stopped; a phone has to get through."""
        for family in (4, 6):
            assert self.lab.reaches(self.lab.phone, sip.request(), "udp", family)
        return not any(
            self.lab.reaches(self.lab.attacker, sip.request(sip.SCANNER), transport, family)
            for transport in ("udp", "tcp")
            for family in (4, 6)
        )

    def table(self) -> str:
        """The table in which our rules of INPUT are."""
        saved = rules.own_part(self.lab.save(4))
        return next(part.split("\n")[0] for part in saved.split("*") if "-A INPUT -j SIPGUARD" in part)


@pytest.fixture
def site(nft_lab: Lab, tmp_path: Path) -> Site:
    return Site(nft_lab, tmp_path)


@pytest.fixture
def freepbx(site: Site, tmp_path: Path) -> Jail:
    """FreePBX on the site's PBX; its classes and its database are where the test's files are."""
    made = Jail(tmp_path / "freepbx")
    made.set_firewall("status", "1")
    site.lab.pbx.run("cp", "-a", f"{made.root}/var/lib/asterisk", "/var/lib/")
    site.lab.pbx.run(
        "sh", "-ec", "cat >/etc/freepbx.conf", stdin=f"<?php require_once '{made.root}/etc/freepbx.conf';\n"
    )
    return made


def test_not_without_freepbx(site: Site) -> None:
    assert "there is no FreePBX on this host" in site.refused(pbx_firewall_freepbx_rules=True)


def test_not_in_a_table_that_freepbx_does_not_load(site: Site, freepbx: Jail) -> None:
    said = site.refused(pbx_firewall_freepbx_rules=True, pbx_firewall_table="mangle")
    assert "'mangle' cannot be used with pbx_firewall_freepbx_rules" in said


def test_not_in_a_table_that_freepbx_empties(site: Site, freepbx: Jail) -> None:
    said = site.refused(pbx_firewall_table="filter")
    assert "'filter' cannot be used beside FreePBX" in said
    assert site.changed(pbx_firewall_table="filter", pbx_firewall_state="absent") == 0


def test_a_host_that_may_not_come_any_more_may_go(site: Site) -> None:
    """Its release has reached its end, packages may not be installed, and a number is none that a change could be confirmed within."""
    site.changed()
    assert site.blocks()
    system = "PRETTY_NAME='Debian 9'\nID=debian\nVERSION_ID=9\n"
    site.lab.pbx.run("sh", "-ec", "rm /etc/os-release; cat >/etc/os-release", stdin=system)
    unfit = {"pbx_firewall_persistence": "netfilter-persistent", "pbx_firewall_confirm_within": 1}
    said = site.refused(**unfit)
    assert "Debian 9 is not supported" in said
    assert "pbx_firewall_confirm_within" in said
    assert site.changed(pbx_firewall_state="absent", **unfit) > 0
    assert own(site) == {4: "", 6: ""}


def test_not_while_freepbx_would_only_flush(site: Site, freepbx: Jail) -> None:
    freepbx.set_firewall("status", "")
    assert "FreePBX's firewall is switched off" in site.refused(pbx_firewall_freepbx_rules=True)
    assert freepbx.firewall() is None


def test_not_where_drafts_of_others_would_come_into_force(site: Site, freepbx: Jail) -> None:
    site.lab.pbx.run("sh", "-ec", f"cat >{FILES[0]}; chmod 666 {FILES[0]}", stdin="-P INPUT DROP\n")
    said = site.refused(**NATIVE)
    assert "1 line of /etc/firewall-4.rules, which sipguard has not written" in said
    assert "pbx_firewall_freepbx_rules_others" in said
    assert freepbx.firewall() is None
    wanted = {**NATIVE, "pbx_firewall_freepbx_rules_others": True}
    assert site.changed(**wanted) > 0
    assert freepbx.firewall()["customrules"] == "enabled"
    assert site.changed(**NATIVE) == 0
    assert site.changed(pbx_firewall_state="absent", **NATIVE) > 0
    assert site.lab.pbx.run("cat", FILES[0]) == "-P INPUT DROP\n"
    assert freepbx.firewall()["customrules"] == "disabled"


def own(site: Site) -> dict[int, str]:
    return {family: rules.own_part(site.lab.save(family)) for family in (4, 6)}


def files(site: Site) -> list[bool]:
    return [site.lab.pbx.succeeds("test", "-e", path) for path in FILES]


def test_freepbx_loads_what_it_has_flushed(site: Site, freepbx: Jail) -> None:
    assert site.changed(**NATIVE) > 0
    assert site.table() == "filter"
    assert freepbx.firewall()["customrules"] == "enabled"
    assert site.blocks()
    whole = own(site)
    flush(site.lab)
    assert not site.blocks()
    for family in (4, 6):
        assert load(site.lab, family) == []
    assert own(site) == whole
    assert site.blocks()
    assert site.changed(**NATIVE) == 0
    # somebody has thrown away what FreePBX is to load
    written = site.lab.pbx.run("cat", FILES[1])
    site.lab.pbx.run("sed", "-i", "/SIPGUARD-UA/d", FILES[1])
    assert site.changed(**NATIVE) > 0
    assert site.lab.pbx.run("cat", FILES[1]) == written
    assert site.changed(pbx_firewall_state="absent", **NATIVE) > 0
    assert files(site) == [False, False]
    assert freepbx.firewall()["customrules"] == "disabled"
    assert all("SIPGUARD" not in site.lab.save(family) for family in (4, 6))


def test_there_and_back_again(site: Site, freepbx: Jail) -> None:
    assert site.changed() > 0
    assert site.table() == "mangle"
    flush(site.lab)
    assert site.blocks(), "FreePBX never flushes mangle"
    assert freepbx.firewall() is None
    assert files(site) == [False, False]
    assert site.changed("--check", **NATIVE) > 0
    assert site.table() == "mangle"
    assert site.changed(**NATIVE) > 0
    assert site.table() == "filter"
    assert files(site) == [True, True]
    assert site.changed() > 0
    assert site.table() == "mangle"
    assert site.blocks()
    assert files(site) == [False, False]
    assert freepbx.firewall()["customrules"] == "disabled"
