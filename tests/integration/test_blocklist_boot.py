# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the lists at boot, after a flush, and on a full disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.harness import sip
from tests.integration.harness.command import boot, forget, install, repair, sipguard
from tests.integration.harness.lab import Lab

MODULE = "sip_blocklist"
LISTS = "/var/lib/sipguard/lists"
ONE, TWO = {4: "198.18.200.0/24", 6: "2001:db8:bad::f000/116"}, {4: "198.18.210.0/24", 6: "2001:db8:bad::d000/116"}


def of(listed: dict[int, str], family: int, number: int) -> str:
    """A source on one of the two lists."""
    start = listed[family]
    return start.replace("0/24", str(number)) if family == 4 else start.replace("000/116", f"{number:03x}")


def heard(lab: Lab, source: str) -> bool:
    return lab.reaches(lab.attacker, sip.request(), "udp", 6 if ":" in source else 4, source=source)


def run(lab: Lab, name: str, listed: dict[int, str], *more: str, **options: Any) -> dict[str, Any]:
    return lab.apply(MODULE, name=name, sources=[*listed.values(), *more], **options)


def state(lab: Lab) -> tuple[bool, bool, bool]:
    """Whether sources of the first list, of the second one, and of none are heard; the same over both families."""
    found = {
        (heard(lab, of(ONE, family, 7)), heard(lab, of(TWO, family, 7)), heard(lab, lab.attacker.address(family)))
        for family in (4, 6)
    }
    assert len(found) == 1, found
    return found.pop()


# What is read from files is the same whatever the rules are loaded with.
NFT = pytest.mark.parametrize("backend", ["nft"], indirect=True, scope="session")
BOTH, FIRST, SECOND = (False, False, True), (False, True, True), (True, False, True)


@pytest.fixture(scope="module")
def installed(backend: str) -> Iterator[Lab]:
    made = Lab(backend)
    install(made)
    yield made
    made.close()


@pytest.fixture
def pbx(installed: Lab) -> Iterator[Lab]:
    """A PBX with two lists, and the command."""
    run(installed, "one", ONE)
    run(installed, "two", TWO)
    assert state(installed) == BOTH
    yield installed
    forget(installed)
    installed.pbx.run("rm", "-rf", "/var/lib/sipguard", "/etc/sipguard/rules.v4", "/etc/sipguard/rules.v6")
    installed.trust(state="absent")
    installed.apply(MODULE, state="absent")
    install(installed)


def sets_without_chance(lab: Lab) -> str:
    """The sets without the random start of their hash, and its size, which depends on how they were filled."""
    return re.sub(r" (initval|hashsize) \S+", "", lab.sets())


# -- boot


def test_boot_brings_the_lists_back_by_itself(pbx: Lab) -> None:
    """Nothing but the files is needed: there is nobody to be asked."""
    before = sets_without_chance(pbx), pbx.files()
    done = boot(pbx)
    assert (done.returncode, done.stderr) == (0, "")
    assert "blocked sources loaded: 4 networks from 2 lists" in done.stdout
    assert (sets_without_chance(pbx), pbx.files()) == before
    assert state(pbx) == BOTH
    again = sipguard(pbx, "restore")
    assert "blocked sources unchanged" in again.stdout
    for name, listed in (("one", ONE), ("two", TWO)):
        assert not run(pbx, name, listed)["changed"]


def test_boot_protects_who_was_protected_the_last_time(pbx: Lab) -> None:
    """At boot a host knows neither its gateways nor its resolvers yet; who was connected by SSH then is no matter any more."""
    lab = pbx
    lab.trust(of(ONE, 4, 44))
    lab.pbx.run("tee", "/etc/resolv.conf", stdin=f"nameserver {of(ONE, 4, 53)}\n")
    env = {"SSH_CONNECTION": f"{of(ONE, 4, 22)} 40000 192.0.2.1 22"}
    run(lab, "one", ONE, never=[of(ONE, 4, 60)], env=env)
    assert [heard(lab, of(ONE, 4, number)) for number in (7, 22, 44, 53, 60)] == [False, True, True, True, True]
    lab.pbx.run("tee", "/etc/resolv.conf", stdin="")
    assert boot(lab).returncode == 0
    assert [heard(lab, of(ONE, 4, number)) for number in (7, 22, 44, 53, 60)] == [False, False, True, True, True]
    assert run(lab, "one", ONE, never=[of(ONE, 4, 60)])["changed"]
    assert not heard(lab, of(ONE, 4, 53))


DAMAGE = {
    "cut": "truncate --size=-20 one",
    "edited": "sed -i s/198.18.200.0/0.0.0.0/ one",
    "junk_inside": "sed -i s/198.18.200.0/example.com/ one",
    "empty": ": > one",
    "bytes": "dd if=/dev/urandom of=one bs=4k count=2",
    "another": "cp two one",
}


@NFT
@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_list_costs_that_list_only(pbx: Lab, name: str) -> None:
    lab = pbx
    lab.pbx.run("sh", "-c", f"cd {LISTS} && {DAMAGE[name]}")
    done = boot(lab)
    assert done.returncode == 2
    assert f"the list one is damaged ({LISTS}/one: " in done.stderr
    assert done.stderr.isascii()
    assert state(lab) == SECOND
    result = run(lab, "two", TWO)
    assert any("the list one is damaged" in str(warning) for warning in result["warnings"])
    assert run(lab, "one", ONE)["changed"]
    assert state(lab) == BOTH
    assert boot(lab).stderr == ""


@NFT
def test_damaged_list_can_be_removed(pbx: Lab) -> None:
    lab = pbx
    lab.pbx.run("truncate", "--size=-20", f"{LISTS}/one")
    assert lab.apply(MODULE, name="one", state="absent")["changed"]
    assert "one" not in lab.pbx.run("ls", LISTS)
    assert state(lab) == SECOND
    assert boot(lab).stderr == ""


NOTES = {
    "missing": "rm -f .loaded",
    "cut": "truncate --size=-20 .loaded",
    "nonsense": """printf '{"version": 1}' > .loaded""",
    "list": "printf '[1, 2]' > .loaded",
    "bytes": "dd if=/dev/urandom of=.loaded bs=4k count=1",
    "junk_inside": "sed -i s/192.0.2.1/example.com/ .loaded",
    "no_network": """sed -i 's/"192.0.2.1"/7/' .loaded""",
    "no_members": r"""sed -i 's/"members": {[^}]*}/"members": 7/' .loaded""",
}


@NFT
@pytest.mark.parametrize("name", NOTES)
def test_note_of_the_last_time_only_saves_work(pbx: Lab, name: str) -> None:
    """Whatever became of it, a boot, a repair and a run come to the same end."""
    lab = pbx
    for act in ("boot", "repair", "run"):
        lab.pbx.run("sh", "-c", f"cd {LISTS} && {NOTES[name]}")
        if act == "boot":
            assert boot(lab).stderr == ""
        elif act == "repair":
            assert repair(lab) is not None
        else:
            assert not run(lab, "one", ONE)["changed"]
        assert state(lab) == BOTH


@NFT
def test_lists_that_are_there_block_at_boot_whatever_was_written(pbx: Lab) -> None:
    """With persist: false there is no file with the rule; the list is there all the same."""
    lab = pbx
    lab.apply(MODULE, state="absent")
    run(lab, "one", ONE, persist=False)
    assert state(lab) == FIRST
    assert boot(lab).returncode == 0
    assert state(lab) == FIRST
    run(lab, "one", ONE)
    assert state(lab) == FIRST
    assert boot(lab).returncode == 0
    assert state(lab) == FIRST


# -- somebody interferes


INTERFERENCE = {
    "flushed": "ipset flush sipguard-blocked4; ipset flush sipguard-blocked6",
    "one_flushed": "ipset flush sipguard-blocked6",
    "rules_gone": "for t in ip ip6; do ${t}tables-$B -t raw -F; done",
    "destroyed": "for t in ip ip6; do ${t}tables-$B -t raw -F; done; ipset destroy sipguard-blocked4; ipset destroy sipguard-blocked6",
    "all_destroyed": "for t in ip ip6; do ${t}tables-$B -t raw -F; ${t}tables-$B -t raw -X; done; ipset destroy",
}


@pytest.mark.parametrize("name", INTERFERENCE)
def test_repair_puts_back_what_somebody_took(pbx: Lab, name: str) -> None:
    lab = pbx
    before = sets_without_chance(lab), lab.save(4), lab.save(6)
    lab.pbx.run("sh", "-ec", f"B={lab.backend}; {INTERFERENCE[name]}")
    assert "sipguard: missing: " in repair(lab)
    assert (sets_without_chance(lab), lab.save(4), lab.save(6)) == before
    assert state(lab) == BOTH
    assert repair(lab) == "sipguard: nothing was missing\n"


TAKEN = {
    **INTERFERENCE,
    "one_taken": "ipset del sipguard-blocked4 198.18.200.0/24; ipset add sipguard-blocked4 203.0.113.9",
    "one_added": "ipset add sipguard-blocked6 2001:db8:1::/64",
    "hole": "ipset add sipguard-blocked4 198.18.200.7 nomatch",
}


@NFT
@pytest.mark.parametrize("name", TAKEN)
def test_next_run_puts_back_what_somebody_took(pbx: Lab, name: str) -> None:
    lab = pbx
    before = sets_without_chance(lab), lab.save(4), lab.save(6)
    lab.pbx.run("sh", "-ec", f"B={lab.backend}; {TAKEN[name]}")
    assert lab.module(MODULE, name="one", sources=list(ONE.values()), check=True)["changed"]
    assert run(lab, "one", ONE)["changed"]
    assert (sets_without_chance(lab), lab.save(4), lab.save(6)) == before
    assert state(lab) == BOTH
    assert not run(lab, "one", ONE)["changed"]


# -- a full disk


@NFT
def test_full_disk_changes_nothing(pbx: Lab) -> None:
    lab = pbx
    many = [f"9.{high}.{low}.1" for high in range(40) for low in range(256)]
    lab.pbx.run(
        "sh", "-ec", "cp -a /var/lib/sipguard /var/lib/kept; mount -t tmpfs -o size=64k,mode=700 full /var/lib/sipguard"
    )
    try:
        lab.pbx.run("sh", "-ec", "cp -a /var/lib/kept/. /var/lib/sipguard/")
        message = lab.refused(MODULE, name="three", sources=many)
        assert "No space left on device" in message
        assert state(lab) == BOTH
        assert ".new" not in lab.pbx.run("ls", "-A", LISTS)
        assert "three" not in lab.pbx.run("ls", LISTS)
        message = lab.refused(MODULE, name="one", sources=many)
        assert "No space left on device" in message
        assert state(lab) == BOTH
    finally:
        lab.pbx.run("sh", "-ec", "umount /var/lib/sipguard; rm -r /var/lib/kept")
    assert run(lab, "one", {}, *many)["changed"]
    assert state(lab) == SECOND


@NFT
def test_directory_that_cannot_be_written_changes_nothing(pbx: Lab) -> None:
    lab = pbx
    lab.pbx.run("mount", "--bind", "-o", "ro", LISTS, LISTS)
    try:
        assert "Read-only" in lab.refused(MODULE, name="one", sources=["203.0.113.9"])
        assert "Read-only" in lab.refused(MODULE, name="one", state="absent")
        assert not run(lab, "one", ONE)["changed"]
    finally:
        lab.pbx.run("umount", LISTS)
    assert state(lab) == BOTH
