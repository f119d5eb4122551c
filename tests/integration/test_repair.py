# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``sipguard repair`` puts back what another program has flushed, and leaves everything else alone."""

from __future__ import annotations

import itertools
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.harness import command, rules, sip
from tests.integration.harness.command import COMMAND, repair, sipguard
from tests.integration.harness.lab import NETWORKS, Lab
from tests.integration.harness.modules import environment

PATIENCE = 10  # s within which a flush has to be repaired
TRUNK = list(NETWORKS["trunk"].values())
# What makes each table's every rule and chain go; {binary} is iptables or ip6tables of the backend.
EVERYTHING = [f"-t {table} {command}" for table in ("filter", "nat", "mangle", "raw") for command in ("-F", "-X")]
# name -> options of iptables, each for both families; whether a scanner gets through then; what the repair says was missing
FLUSHES: dict[str, tuple[list[str], bool, str]] = {
    "flush": (["-F"], True, "chains of table filter"),
    "freepbx": (["-F", "-X", "-t nat -F", "-t nat -X"], True, "SIPGUARD-UA"),
    "everything": (EVERYTHING, True, "SIPGUARD-UA"),
    "input": (["-F INPUT"], True, "the hook in INPUT of table filter"),
    "hook": (["-D INPUT -j SIPGUARD"], True, "the hook in INPUT of table filter"),
    "one_chain": (["-F SIPGUARD-UA"], True, "the rules of SIPGUARD-UA"),
    "one_rule": (["-I SIPGUARD -j RETURN"], True, "chains of table filter"),
    "raw": (["-t raw -F", "-t raw -X"], False, "chains of table raw"),
    "raw_hook": (["-t raw -F PREROUTING"], False, "the hook in PREROUTING of table raw"),
}


def flush(lab: Lab, *commands: str, families: tuple[int, ...] = (4, 6)) -> None:
    for family, words in itertools.product(families, commands):
        lab.iptables(*words.split(), family=family)


def own(lab: Lab) -> dict[int, str]:
    return {family: rules.own_part(lab.save(family)) for family in (4, 6)}


def foreign(lab: Lab) -> dict[int, str]:
    return {family: rules.foreign_part(lab.save(family)) for family in (4, 6)}


@pytest.fixture
def guarded(lab: Lab) -> Lab:
    """A PBX with rules, and the command."""
    install(lab)
    return lab


@pytest.fixture(scope="module")
def flushed(backend: str) -> Iterator[Lab]:
    """The same for many tests, each of which repairs what it has flushed."""
    lab = Lab(backend)
    install(lab)
    yield lab
    lab.close()


def install(lab: Lab, **options: Any) -> None:
    command.install(lab, **options)
    lab.trust(*TRUNK)
    lab.blocklist()


def sets(lab: Lab) -> str:
    return re.sub(r" initval \w+", "", lab.sets())


@pytest.mark.parametrize("name", FLUSHES)
def test_flush_is_repaired(flushed: Lab, name: str) -> None:
    lab = flushed
    commands, opens, missing = FLUSHES[name]
    lab.iptables("-A", "FORWARD", "-s", "192.0.2.99", "-j", "DROP")
    before = own(lab)
    flush(lab, *commands)
    left = foreign(lab)
    assert own(lab) != before
    assert lab.reaches(lab.attacker, sip.request(sip.SCANNER)) is opens
    said = repair(lab)
    assert f"sipguard: missing: ipv4: {missing}\n" in said
    assert f"sipguard: missing: ipv6: {missing}\n" in said
    assert own(lab) == before
    assert foreign(lab) == left
    for family in (4, 6):
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)
        assert lab.reaches(lab.phone, sip.request(), "tcp", family)
        assert lab.reaches(lab.trunk, sip.request(sip.SCANNER), "udp", family)
    assert repair(lab) == "sipguard: nothing was missing\n"


def test_one_family_is_repaired_without_touching_the_other(flushed: Lab) -> None:
    lab = flushed
    before = own(lab)
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", 6)
    counted = lab.packets("SIPGUARD-UA-STOP", 6)
    flush(lab, "-F", families=(4,))
    said = repair(lab)
    assert "ipv6" not in said
    assert own(lab) == before
    assert lab.packets("SIPGUARD-UA-STOP", 6) == counted > 0


def test_sets_that_were_destroyed_come_back(flushed: Lab) -> None:
    lab = flushed
    lab.pbx.run("ipset", "flush", "sipguard-offenders4")
    lab.pbx.run("ipset", "flush", "sipguard-offenders6")
    before, held = own(lab), sets(lab)
    flush(lab, *EVERYTHING)
    lab.pbx.run("ipset", "destroy")
    assert lab.sets() == ""
    repair(lab)
    assert (own(lab), sets(lab)) == (before, held)
    assert lab.reaches(lab.trunk, sip.request(sip.SCANNER))


def test_trusted_sources_that_were_flushed_come_back(flushed: Lab) -> None:
    lab = flushed
    lab.pbx.run("ipset", "flush", "sipguard-trusted4")
    assert not lab.reaches(lab.trunk, sip.request(sip.SCANNER))
    assert "missing: ipv4: the trusted sources\n" in repair(lab)
    assert lab.reaches(lab.trunk, sip.request(sip.SCANNER))


def test_ruleset_that_was_flushed_by_nft_comes_back(nft_lab: Lab) -> None:
    install(nft_lab)
    before = own(nft_lab)
    nft_lab.pbx.run("nft", "flush", "ruleset")
    assert nft_lab.reaches(nft_lab.attacker, sip.request(sip.SCANNER))
    repair(nft_lab)
    assert own(nft_lab) == before
    assert not nft_lab.reaches(nft_lab.attacker, sip.request(sip.SCANNER))


def test_what_is_whole_is_left_alone_whatever_the_files_say(guarded: Lab) -> None:
    lab = guarded
    lab.blocklist(user_agents=["evilbot/1.0"], persist=False)
    before = lab.snapshot()
    assert repair(lab) == "sipguard: nothing was missing\n"
    assert lab.snapshot() == before
    assert not lab.reaches(lab.attacker, sip.request("evilbot/1.0"))


def test_hook_that_lost_the_first_place_is_left_there(guarded: Lab) -> None:
    lab = guarded
    for family in (4, 6):
        lab.iptables("-I", "INPUT", "-p", "icmp" if family == 4 else "ipv6-icmp", "-j", "ACCEPT", family=family)
    before = lab.snapshot()
    assert repair(lab) == "sipguard: nothing was missing\n"
    assert lab.snapshot() == before
    status = sipguard(lab, "status")
    assert status.returncode == 1
    assert "not first in INPUT of table filter: -A INPUT -p icmp -j ACCEPT stands there" in status.stdout
    assert lab.blocklist()["changed"]
    assert sipguard(lab, "status").returncode == 0


def test_host_without_rules_is_left_alone(lab: Lab) -> None:
    command.install(lab)
    lab.iptables("-A", "INPUT", "-s", "192.0.2.99", "-j", "DROP")
    before = lab.snapshot()
    assert repair(lab) == "sipguard: nothing was missing\n"
    assert lab.snapshot() == before


def test_rules_in_the_other_backend_are_whole(guarded: Lab) -> None:
    """The files are for one backend, a run with ``persist: false`` has moved the rules to the other."""
    lab = guarded
    lab.blocklist(backend={"nft": "legacy", "legacy": "nft"}[lab.backend], persist=False)
    before = lab.snapshot()
    assert repair(lab) == "sipguard: nothing was missing\n"
    assert lab.snapshot() == before


@pytest.fixture
def closing(backend: str) -> Iterator[Lab]:
    """A laboratory in which strangers may find the SIP ports closed."""
    made = Lab(backend, marker_port=5070)
    yield made
    made.close()


@pytest.mark.parametrize("mode", ["fail", "close"])
def test_flush_with_a_damaged_file(closing: Lab, mode: str) -> None:
    lab = closing
    install(lab, on_boot_failure=mode)
    lab.pbx.run("truncate", "--size=-40", "/etc/sipguard/rules.v4")
    flush(lab, "-F", "-X")
    done = sipguard(lab, "repair")
    assert done.returncode == 2
    assert "sipguard: ipv4 is not protected: /etc/sipguard/rules.v4 is damaged" in done.stderr
    for family, opened in ((4, mode == "fail"), (6, False)):
        assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family) is opened
        assert lab.reaches(lab.trunk, sip.request(sip.SCANNER), "tcp", family)
    assert lab.reaches(lab.phone, sip.request(), "udp", 4) is (mode == "fail")
    assert lab.reaches(lab.phone, sip.request(), "udp", 6)
    lab.blocklist(user_agents=["evilbot/1.0"])
    assert "is damaged" not in sipguard(lab, "status").stdout


class Watch:
    """``sipguard repair --watch`` at work, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for line in self._process.stderr or ():
            with self._news:
                self._lines.append(line)
                self._news.notify_all()

    def heard(self, words: str) -> bool:
        """Whether something with these words in it is said in time; it is forgotten then."""
        with self._news:
            found = self._news.wait_for(lambda: any(words in line for line in self._lines), PATIENCE)
            self._lines.clear()
        return found


@contextmanager
def watching(lab: Lab) -> Iterator[Watch]:
    argv = lab.pbx.argv(COMMAND, "repair", "--watch")
    with subprocess.Popen(argv, env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as it:
        yield Watch(it)
        it.terminate()
        assert it.wait(PATIENCE) == 0


def test_watch_repairs_in_time(guarded: Lab) -> None:
    lab = guarded
    before = own(lab)
    flush(lab, *EVERYTHING)
    with watching(lab) as watch:
        assert watch.heard("ipv6 rules loaded")
        assert own(lab) == before
        flush(lab, "-F", "-X")
        assert watch.heard("missing were ipv4: ")
        assert own(lab) == before
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))
        lab.pbx.run("ipset", "flush", "sipguard-trusted6")
        assert watch.heard("ipv6: the trusted sources")
        assert lab.reaches(lab.trunk, sip.request(sip.SCANNER), "udp", 6)
    if lab.backend == "nft":  # asking has made no table that would cost every packet
        assert (
            lab.pbx.run("sh", "-c", "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || :") == ""
        )
