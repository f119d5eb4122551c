# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook verify as a whole: ansible-playbook, a PBX, a stranger and a friend, each in a namespace of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness.lab import PBX, Lab
from tests.integration.harness.modules import CHECKOUT, collection_path, run_module
from tests.integration.harness.netns import Namespace

DOMAIN = "tel.example.org"
ROW = re.compile(
    r'^ +"(phone|trunk|scanner) +(UDP|TCP|TLS) +(\S+) +(.*?) +(right|WRONG|-)(?: +(.*?))?",?$', re.MULTILINE
)
STRANGER = ("10.255.3.2", "fd00:3::2")
FRIEND = ("10.255.1.2", "fd00:1::2")


@dataclass(frozen=True)
class Verified:
    """What the playbook has shown: (who, transport) -> what came, verdict, note, the same for both families; and why it failed."""

    rows: dict[tuple[str, str], tuple[str, str, str]]
    head: str
    failure: str
    changed: bool


class Site:
    """An inventory of three: `pbx`, and `stranger` and `friend` who can ask it. A Python in its namespace stands for each."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        namespaces = {"pbx": lab.pbx, "stranger": lab.attacker.namespace, "friend": lab.phone.namespace}
        hosts = {name: self._host(name, namespace) for name, namespace in namespaces.items()}
        self._inventory = folder / "inventory.json"
        self._inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        assert not run_module(lab.pbx, "sipguard_host", {}).get("failed")
        lab.trust(*FRIEND)

    def _host(self, name: str, namespace: Namespace) -> dict[str, str]:
        python = self.folder / f"python-{name}"
        python.write_text(f'#!/bin/sh\nexec {" ".join(namespace.argv(sys.executable))} "$@"\n')
        python.chmod(0o755)
        return {"ansible_connection": "local", "ansible_python_interpreter": str(python), "ansible_become": "false"}

    def verify(self, asker: str, *argv: str, **variables: Any) -> Verified:
        known = {
            "pbx_hosts": "pbx",
            "pbx_verify_from": asker,
            "pbx_verify_address": list(PBX.values()),
            "pbx_verify_timeout": 1,
            "pbx_sip_domains": [DOMAIN],
            **variables,
        }
        env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "ANSIBLE_HOME": str(self.folder),
            "ANSIBLE_COLLECTIONS_PATH": str(collection_path()),
            "ANSIBLE_NOCOLOR": "true",
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self._inventory)]
        command += ["-e", json.dumps(known), *argv, "sipguard.pbx.verify"]
        done = subprocess.run(command, env=env, cwd=CHECKOUT, text=True, capture_output=True, check=False)
        shown = done.stdout + done.stderr
        head = re.search(r'"(.*); asked from ', shown)
        assert head, shown
        rows: dict[tuple[str, str], tuple[str, str, str]] = {}
        for who, transport, where, what, verdict, note in ROW.findall(shown):
            row = (
                re.sub(r"silence|no connection", "nothing", what.strip()),
                verdict,
                note.replace(FRIEND[1], FRIEND[0]),
            )
            # Both families, one after the other, are treated alike.
            assert rows.setdefault((who, transport), row) == row, (where, shown)
        failure = re.search(r"^fatal: \[pbx\]: FAILED! => (\{.*\})$", shown, re.MULTILINE)
        assert (done.returncode != 0) == bool(failure), shown
        return Verified(rows, head[1], json.loads(failure[1])["msg"] if failure else "", "changed=0" not in shown)


@pytest.fixture
def site(nft_lab: Lab, tmp_path: Path) -> Site:
    nft_lab.blocklist()
    return Site(nft_lab, tmp_path)


def offenders(lab: Lab) -> list[str]:
    """Everybody who has been learned or observed."""
    return [line.split()[2] for line in lab.sets().splitlines() if re.match("add sipguard-(offenders|observed)", line)]


PHONES = {("phone", transport): ("answers 200", "right", "") for transport in ("UDP", "TCP")}
NO_GATE = {("trunk", transport): ("answers 200", "-", "no gate stops strangers there") for transport in ("UDP", "TCP")}
STOPPED = {("scanner", transport): ("nothing", "right", "stopped") for transport in ("UDP", "TCP")}


def test_stranger_sees_scanners_stopped_and_is_no_offender_afterwards(site: Site) -> None:
    seen = site.verify("stranger")
    assert (seen.head, seen.failure, seen.changed) == ("protected", "", False)
    assert seen.rows == {**PHONES, **NO_GATE, **STOPPED}
    assert site.lab.packets("SIPGUARD-UA-STOP") + site.lab.packets("SIPGUARD-PRE-SIP") > 0
    assert offenders(site.lab) == []


def test_ban_by_somebody_else_stays(site: Site) -> None:
    site.lab.pbx.run("ipset", "create", "sipguard-banned4", "hash:ip", "timeout", "600")
    site.lab.pbx.run("ipset", "add", "sipguard-banned4", STRANGER[0])
    assert site.verify("stranger").failure == ""  # no rule drops that set
    assert offenders(site.lab) == []
    assert site.lab.member("sipguard-banned", STRANGER[0])


def test_friend_is_answered_and_told_that_it_proves_nothing_about_strangers(site: Site) -> None:
    site.lab.apply("sip_domain_gate", domains=[DOMAIN])
    seen = site.verify("friend")
    assert (seen.head, seen.failure, seen.changed) == ("protected", "", False)
    assert {row for (who, dummy), row in seen.rows.items() if who != "scanner"} == {("answers 200", "right", "trusted")}
    why = "not asked: 10.255.1.2 is trusted there; set pbx_verify_from to a host that is not"
    assert {row for (who, dummy), row in seen.rows.items() if who == "scanner"} == {("", "-", why)}


def test_gate_stops_a_trunk_that_is_not_trusted(site: Site) -> None:
    site.lab.apply("sip_domain_gate", domains=[DOMAIN])
    seen = site.verify("stranger")
    assert (seen.head, seen.failure) == ("protected", "")
    trunks = {("trunk", transport): ("nothing", "right", "stopped") for transport in ("UDP", "TCP")}
    assert seen.rows == {**PHONES, **trunks, **STOPPED}
    assert offenders(site.lab) == []
    wrong = site.verify("stranger", pbx_sip_domains=["other.example.org"]).failure
    assert "pbx: a phone over UDP to 192.0.2.1 port 5060 should be answered, but nothing came back within 1 s" in wrong


def test_check_mode_leaves_nothing_behind(site: Site) -> None:
    before = site.lab.snapshot()
    seen = site.verify("stranger", "--check")
    assert (seen.failure, seen.changed) == ("", False)
    assert {row[2] for (who, dummy), row in seen.rows.items() if who == "scanner"} == {
        "not asked: this is check mode, and the address would be learned"
    }
    assert {**PHONES, **NO_GATE}.items() <= seen.rows.items()
    assert site.lab.snapshot() == before


def test_observing_pbx_stops_nobody_and_that_is_right(site: Site) -> None:
    site.lab.blocklist(mode="observe")
    site.lab.apply("sip_domain_gate", domains=[DOMAIN], mode="observe")
    seen = site.verify("stranger")
    assert (seen.head, seen.failure) == ("only observing", "")
    scanners = {("scanner", transport): ("", "-", "not asked: this PBX only observes") for transport in ("UDP", "TCP")}
    assert seen.rows == {**PHONES, **NO_GATE, **scanners}
    # What the trunk asked was noted by the gate.
    assert offenders(site.lab) == []


def test_pbx_without_protection_is_found_out(site: Site) -> None:
    site.lab.apply("sip_ua_blocklist", state="absent")
    seen = site.verify("stranger")
    assert seen.head == "NOT PROTECTED"
    assert {row[:2] for (who, dummy), row in seen.rows.items() if who == "scanner"} == {("answers 200", "WRONG")}
    sentences = seen.failure.split("; pbx: ")
    assert len(sentences) == 4
    assert sentences[0] == (
        "pbx: a scanner over UDP to 192.0.2.1 port 5060 should be stopped, but it answered 200; "
        "10.255.3.2 is not trusted there, and ipv4 is not managed"
    )


def test_rules_that_somebody_edited_are_found_out(site: Site) -> None:
    site.lab.iptables("-D", "INPUT", "-j", "SIPGUARD", family=6)
    failure = site.verify("friend").failure
    assert re.fullmatch(r"pbx: ipv6 is edited by somebody, or damaged.*\(sipguard status\)", failure)


def test_pbx_that_does_not_run_is_found_out(site: Site) -> None:
    """Unless there is none at all: not installed, and nothing listens."""
    seen = site.verify("friend", pbx_sip_ports=["5999"])
    assert {row[1:] for (who, dummy), row in seen.rows.items() if who != "scanner"} == {
        ("-", "there is no Asterisk, and nothing listens")
    }
    asterisk = "/usr/local/sbin/asterisk"
    site.lab.pbx.run("sh", "-ec", f"printf '#!/bin/sh\nexit 1\n' >{asterisk}; chmod 755 {asterisk}")
    seen = site.verify("friend", pbx_sip_ports=["5999"])
    assert {row[:2] for (who, dummy), row in seen.rows.items() if who != "scanner"} == {("refused", "WRONG")}
    assert seen.failure.count("see whether Asterisk runs") == 8


def test_tls_that_was_promised_has_to_be_there(site: Site) -> None:
    seen = site.verify("friend", pbx_tls_ports=["5999"])
    assert {key for key, row in seen.rows.items() if row[1] == "WRONG"} == {("phone", "TLS"), ("trunk", "TLS")}
    assert "pbx_tls_ports says that the PBX speaks TLS there" in seen.failure


def test_learned_asker_is_told_why_it_gets_no_answer(site: Site) -> None:
    for family, address in zip((4, 6), STRANGER, strict=True):
        site.lab.pbx.run("ipset", "add", f"sipguard-offenders{family}", address)
    seen = site.verify("stranger")
    assert "; 10.255.3.2 is a learned offender there (sipguard why 10.255.3.2)" in seen.failure
    # It was not this run that got it there.
    assert sorted(offenders(site.lab)) == sorted(STRANGER)
