# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks ban, unban and why as a whole: ansible-playbook, a PBX that is protected, and a host that nobody has set up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.harness import sip
from tests.integration.harness.lab import Lab
from tests.integration.harness.modules import CHECKOUT, collection_path
from tests.integration.harness.netns import Namespace

GUESSER = "198.18.7.7"


@dataclass
class Site:
    """An inventory of two: `pbx`, and `bare`, on which nothing was ever set up."""

    lab: Lab
    folder: Path

    def play(self, name: str, *argv: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "ANSIBLE_HOME": str(self.folder),
            "ANSIBLE_COLLECTIONS_PATH": str(collection_path()),
            "ANSIBLE_NOCOLOR": "true",
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.folder / "inventory.json")]
        return subprocess.run(
            [*command, f"sipguard.pbx.{name}", *argv],
            env=env,
            cwd=CHECKOUT,
            text=True,
            capture_output=True,
            check=False,
        )

    def changed(self, done: subprocess.CompletedProcess[str]) -> dict[str, int]:
        assert done.returncode == 0, done.stdout + done.stderr
        return {host: int(count) for host, count in re.findall(r"^(\w+) +: .*changed=(\d+)", done.stdout, flags=re.M)}

    def heard(self) -> bool:
        return self.lab.reaches(self.lab.attacker, sip.request(), source=GUESSER)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    lab, bare = Lab("nft"), Namespace("bare", private_files=True)
    hosts = {}
    for name, namespace in (("pbx", lab.pbx), ("bare", bare)):
        python = folder / f"python-{name}"
        python.write_text(f'#!/bin/sh\nexec {" ".join(namespace.argv(sys.executable))} "$@"\n')
        python.chmod(0o755)
        hosts[name] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(python),
            "ansible_become": "false",
        }
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    lab.blocklist()
    yield Site(lab, folder)
    bare.close()
    lab.close()


def test_address_is_banned_explained_and_let_in_over_the_fleet(site: Site) -> None:
    assert site.heard()
    wanted = ["-e", f"pbx_ban_addresses={GUESSER}", "-e", "pbx_ban_time=1h", "-e", '{"pbx_ban_reason": "a test"}']
    assert site.changed(site.play("ban", "--check", *wanted)) == {"pbx": 1, "bare": 0}
    assert site.heard()
    done = site.play("ban", *wanted)
    assert site.changed(done) == {"pbx": 1, "bare": 0}
    assert f'"{GUESSER}: banned for 1 h"' in done.stdout
    assert '"bare: sipguard protects nothing here (harden_pbx makes it), so nobody was banned"' in done.stdout
    assert not site.heard()
    assert site.changed(site.play("ban", *wanted)) == {"pbx": 0, "bare": 0}

    done = site.play("why", "-e", f"pbx_why_address={GUESSER}")
    assert site.changed(done) == {"pbx": 0, "bare": 0}
    assert f'"pbx: {GUESSER}: STOPPED"' in done.stdout
    assert re.search(rf"\"pbx: {GUESSER}: banned, .* left, reason 'a test': all its packets are dropped ", done.stdout)
    assert '"bare: sipguard protects nothing here (harden_pbx makes it), so it stops nobody"' in done.stdout

    lists = json.dumps({"pbx_unban_addresses": [GUESSER, "2001:db8::7"]})
    assert site.changed(site.play("unban", "-e", f"pbx_unban_addresses={GUESSER}")) == {"pbx": 1, "bare": 0}
    assert site.heard()
    done = site.play("unban", "-e", lists)
    assert site.changed(done) == {"pbx": 0, "bare": 0}
    assert '"2001:db8::7: nothing to take it out of"' in done.stdout


@pytest.mark.parametrize(
    ("playbook", "argv", "said"),
    [
        ("ban", [], "pbx_ban_addresses has to say whom to ban: "),
        ("ban", ["-e", "pbx_ban_addresses="], "pbx_ban_addresses has to say whom to ban: "),
        ("unban", [], "pbx_unban_addresses has to say whom to let in: "),
        ("why", [], "pbx_why_address has to say whom to look for: "),
        ("ban", ["-e", "pbx_ban_addresses=localhost"], "addresses: 'localhost' cannot be used; it is a name"),
        ("ban", ["-e", "pbx_ban_addresses=192.0.2.1"], "192.0.2.1 cannot be banned: it is an address of this host"),
        ("why", ["-e", "pbx_why_address=192.0.2.0/24"], "addresses: '192.0.2.0/24' cannot be used"),
    ],
)
def test_playbook_fails_with_a_sentence(site: Site, playbook: str, argv: list[str], said: str) -> None:
    before = site.lab.snapshot()
    done = site.play(playbook, *argv, "--limit", "pbx")
    assert done.returncode == 2
    assert said in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert site.lab.snapshot() == before
