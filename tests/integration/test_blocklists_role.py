# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role pbx_blocklists as a whole: lists of the inventory, presets and feeds, fetched by each host or once by the controller."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness.feed_server import Apiban, FeedServer, Page
from tests.integration.harness.feeds import KEY, exists, passes
from tests.integration.harness.lab import Lab
from tests.integration.harness.modules import CHECKOUT, collection_path
from tests.integration.harness.netns import Namespace

LISTED, FED, BANNED = "198.18.9.1", "2001:db8:bad::9", "198.18.9.3"
SHIELDED, FREE = "198.18.9.5", "198.18.9.9"
PLAY = [{"hosts": "all", "gather_facts": False, "roles": ["sipguard.pbx.pbx_blocklists"]}]


@dataclass
class Site:
    """Two hosts with the same variables, and the servers: one on the PBX itself, one where the controller is."""

    lab: Lab
    folder: Path
    near: FeedServer
    far: FeedServer

    def variables(self, server: FeedServer) -> dict[str, Any]:
        return {
            "pbx_blocklists_static": {"seen at night": [LISTED, {"value": ["198.18.9.4/30"], "note": "a whole team"}]},
            "pbx_blocklists_presets": ["voipsupport-vitox"],
            "pbx_blocklists_feeds": [
                {"name": "sip", "kind": "url", "url": server.url("/sip"), "allow_http": True},
                {"name": "apiban", "kind": "apiban", "url": server.url("/api/"), "allow_http": True},
            ],
            "pbx_blocklists_apiban_key": KEY,
            "pbx_blocklists_never": [SHIELDED, "localhost"],  # a name stands for its addresses
        }

    def play(self, *argv: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run the role on both hosts."""
        extra = self.folder / "extra.json"
        extra.write_text(json.dumps(variables))
        env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "ANSIBLE_HOME": str(self.folder),
            "ANSIBLE_COLLECTIONS_PATH": str(collection_path()),
            "ANSIBLE_NOCOLOR": "true",
        }
        tool = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [tool, "-i", str(self.folder / "inventory.json"), "-e", f"@{extra}", str(self.folder / "play.json")]
        done = subprocess.run([*command, *argv], env=env, cwd=CHECKOUT, text=True, capture_output=True, check=False)
        assert KEY not in done.stdout + done.stderr
        return done

    def changed(self, *argv: str, **variables: Any) -> list[int]:
        """How much that changed, by host."""
        done = self.play(*argv, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return [int(count) for count in re.findall(r"^\w+ +: .*changed=(\d+)", done.stdout, flags=re.M)]

    def blocks(self) -> list[bool]:
        """Whether the listed ones are stopped, in the order inventory, feed, APIBAN; the others have to get through."""
        assert passes(self.lab, SHIELDED)
        assert passes(self.lab, FREE)
        return [not passes(self.lab, address) for address in (LISTED, FED, BANNED)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    pages = {"/sip": Page(f"# two\n{FED}\n10.0.0.1\n")}
    lab, other = Lab("nft"), Namespace("other", private_files=True)
    other.ip(["link set lo up"])
    hosts = {}
    for name, namespace in (("pbx", lab.pbx), ("other", other)):
        python = folder / f"python-{name}"
        python.write_text(f'#!/bin/sh\nexec {" ".join(namespace.argv(sys.executable))} "$@"\n')
        python.chmod(0o755)
        hosts[name] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(python),
            "pbx_blocklists_backend": "nft",
        }
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (folder / "play.json").write_text(json.dumps(PLAY))
    with (
        FeedServer(pages, Apiban(KEY, [BANNED]), host=lab.pbx) as near,
        FeedServer(pages, Apiban(KEY, [BANNED])) as far,
    ):
        yield Site(lab, folder, near, far)
    other.close()
    lab.close()


def test_role_blocks_what_is_listed_and_goes_away_again(site: Site) -> None:
    """Each step is what comes next in the life of a host: one order, one test."""
    before = site.lab.snapshot()
    only = ("--limit", "pbx")
    near, far = site.variables(site.near), site.variables(site.far)

    # The host fetches.
    assert site.changed("--check", *only, **near)[0] > 0
    assert site.lab.snapshot() == before
    assert site.changed("--diff", *only, **near)[0] > 0
    assert site.blocks() == [True, True, True]
    assert exists(site.lab, "/etc/systemd/system/sipguard-feeds.timer")
    after = site.lab.snapshot()
    assert site.changed("--check", "--diff", *only, **near) == [0]
    assert site.changed(*only, **near) == [0]
    assert site.lab.snapshot() == after

    # The controller fetches, once for two hosts, and no key comes to them.
    assert all(count > 0 for count in site.changed(**far, pbx_blocklists_fetch="controller"))
    assert [request.path for request in site.far.requests].count("/sip") == 1
    assert site.blocks() == [True, True, True]
    assert not exists(site.lab, "/etc/sipguard/feed-keys.json")
    assert not exists(site.lab, "/etc/systemd/system/sipguard-feeds.timer")
    assert site.changed(**far, pbx_blocklists_fetch="controller") == [0, 0]

    # A feed leaves the inventory, and its list the host; the rest stays.
    far["pbx_blocklists_feeds"].pop(0)
    assert all(count > 0 for count in site.changed(**far, pbx_blocklists_fetch="controller"))
    assert site.blocks() == [True, False, True]

    # The host fetches again, what it was given is taken over.
    assert site.changed(*only, **near)[0] > 0
    assert site.blocks() == [True, True, True]

    # Whoever only watches, stops nobody.
    assert site.changed(*only, **near, pbx_blocklists_mode="observe")[0] > 0
    assert site.blocks() == [False, False, False]
    assert site.lab.member("sipguard-observed", LISTED)
    assert not site.lab.member("sipguard-observed", SHIELDED)

    # Nothing is left; the command and what loads at boot belong to the firewall's role.
    assert site.changed(pbx_blocklists_state="absent")[0] > 0
    assert site.changed(pbx_blocklists_state="absent") == [0, 0]
    # An empty table stays, which no version of iptables removes.
    assert [line for family in (4, 6) for line in site.lab.save(family).splitlines() if "SIPGUARD" in line] == []
    assert site.lab.sets() == before["sets"]
    assert set(site.lab.files()) == {"etc/sipguard/boot.json", "etc/sipguard/manifest"}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"pbx_blocklists_feeds": ["voipbll"]}, ("pbx_blocklists_feeds", "voipbll", "voipbl, apiban, blocklist_de")),
        ({"pbx_blocklists_feeds": ["apiban"]}, ("apiban", "pbx_blocklists_apiban_key")),
        ({"pbx_blocklists_presets": ["voipsupport"]}, ("presets", "voipsupport-vitox")),
        ({"pbx_blocklists_static": {"x": ["pbx.example.com"]}}, ("sources", "pbx.example.com", "an address")),
        ({"pbx_blocklists_static": {"x": ["8.0.0.0/7"]}}, ("sources", "8.0.0.0/7", "min_prefix")),
        ({"pbx_blocklists_never": ["300.1.1.1"]}, ("never", "300.1.1.1", "an address")),
        ({"pbx_blocklists_fetch": "both"}, ("pbx_blocklists_fetch", "host, controller")),
    ],
)
def test_role_refuses_what_cannot_be_used(site: Site, variables: dict[str, Any], words: tuple[str, ...]) -> None:
    before = site.lab.snapshot()
    basis = {"pbx_blocklists_static": {"ours": [LISTED]}} if "pbx_blocklists_never" in variables else {}
    done = site.play("--limit", "pbx", **basis, **variables)
    assert done.returncode != 0
    assert all(word in done.stdout + done.stderr for word in words), done.stdout + done.stderr
    assert {**site.lab.snapshot(), "files": {}} == {**before, "files": {}}
