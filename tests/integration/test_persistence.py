# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does at boot with files that are whole, and with files that are not: never silently open.

A boot here is a kernel without rules and sets, and then ``sipguard restore``; tests/hosts has real ones.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.harness import rules, sip
from tests.integration.harness.command import COMMAND, boot, forget, host, install, sipguard
from tests.integration.harness.lab import NETWORKS, Lab
from tests.integration.harness.modules import run_module

FILES = "/etc/sipguard"
TRUNK = list(NETWORKS["trunk"].values())


@pytest.fixture(scope="module")
def booted(backend: str) -> Iterator[Lab]:
    """A PBX with rules, trusted sources and the command; strangers may find its SIP ports closed. Its files are kept aside."""
    lab = Lab(backend, marker_port=5070)
    install(lab)
    lab.trust(*TRUNK)
    lab.blocklist(learn_for=0)
    lab.pbx.run("cp", "-a", FILES, "/etc/kept")
    yield lab
    lab.close()


@pytest.fixture
def whole(booted: Lab) -> Lab:
    """The same with its files whole again."""
    booted.pbx.run("sh", "-c", f"rm -rf {FILES} && cp -a /etc/kept {FILES}")
    return booted


def reached(lab: Lab, family: int) -> tuple[bool, bool, bool]:
    """Whether a scanner, a phone, and a trunk that calls itself a scanner get through."""
    return (
        lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family),
        lab.reaches(lab.phone, sip.request(), "tcp", family),
        lab.reaches(lab.trunk, sip.request(sip.SCANNER), "udp", family),
    )


# A scanner, a phone, a trunk
OPEN, WHOLE, CLOSED, UNTRUSTED = (True, True, True), (False, True, True), (False, False, True), (False, True, False)


def test_boot_brings_back_what_was_there(whole: Lab) -> None:
    before = {family: rules.own_part(whole.save(family)) for family in (4, 6)}
    done = boot(whole)
    assert (done.returncode, done.stderr) == (0, "")
    assert {family: rules.own_part(whole.save(family)) for family in (4, 6)} == before
    assert [reached(whole, family) for family in (4, 6)] == [WHOLE, WHOLE]
    assert sipguard(whole, "restore").stdout.count("unchanged") == 3


# What becomes of the files -> what is said, and what a boot then comes to over IPv4 and over IPv6, under fail and under close.
CUT = "truncate --size=-60 "
DAMAGE: dict[str, tuple[str, str, list[tuple[bool, bool, bool]], list[tuple[bool, bool, bool]]]] = {
    "rules_cut": (CUT + "rules.v4", "rules.v4 is damaged", [OPEN, WHOLE], [CLOSED, WHOLE]),
    "rules_end": ("sed -i '$d' rules.v4", "rules.v4 is damaged: its end is missing", [OPEN, WHOLE], [CLOSED, WHOLE]),
    "rules_bytes": ("dd if=/dev/urandom of=rules.v6 bs=4k count=4", "rules.v6 is damaged", [WHOLE, OPEN], [WHOLE, CLOSED]),
    "rules_empty": (": > rules.v6", "rules.v6 is damaged", [WHOLE, OPEN], [WHOLE, CLOSED]),
    "rules_missing": ("rm rules.v4", "rules.v4 is missing", [OPEN, WHOLE], [CLOSED, WHOLE]),
    "rules_unreadable": ("rm rules.v4; mkdir rules.v4", "rules.v4: [Errno 21]", [OPEN, WHOLE], [CLOSED, WHOLE]),
    "rules_of_others": ("sed -i 's/^COMMIT/-A INPUT -j ACCEPT\\nCOMMIT/' rules.v4", "not ours", [OPEN, WHOLE], [CLOSED, WHOLE]),
    "all_rules": ("rm rules.v?", "rules.v6 is missing", [OPEN, OPEN], [CLOSED, CLOSED]),
    "sets_cut": (CUT + "sets", "the file sets for the next boot is damaged", [UNTRUSTED] * 2, [UNTRUSTED] * 2),
    "sets_missing": ("rm sets", "nobody is trusted: /etc/sipguard/sets is missing", [UNTRUSTED] * 2, [UNTRUSTED] * 2),
    "settings_cut": ("truncate --size=20 boot.json", "boot.json is damaged", [WHOLE] * 2, [WHOLE] * 2),
    "settings_missing": ("rm boot.json", "boot.json is missing", [WHOLE] * 2, [WHOLE] * 2),
    "settings_and_rules": (": > boot.json; rm rules.v4", "boot.json is damaged", [CLOSED, WHOLE], [CLOSED, WHOLE]),
    "list_cut": (CUT + "manifest", "manifest is damaged", [WHOLE] * 2, [WHOLE] * 2),
    "list_missing": ("rm manifest", "manifest is missing", [WHOLE] * 2, [WHOLE] * 2),
    "list_and_rules": ("rm manifest rules.v6", "rules.v6 is missing", [WHOLE, OPEN], [WHOLE, CLOSED]),
}  # fmt: skip


# What the kernel is told is the same in both; one damage of each kind for the second.
CASES = [("nft", name, mode) for name in DAMAGE for mode in ("fail", "close")]
CASES += [("legacy", name, "close") for name in ("rules_cut", "all_rules", "sets_missing")]


@pytest.mark.parametrize(("backend", "name", "mode"), CASES, indirect=["backend"], scope="session")
def test_damage_is_said_and_never_opens_a_host_that_is_to_be_closed(whole: Lab, name: str, mode: str) -> None:
    lab = whole
    script, said, failing, closing = DAMAGE[name]
    install(lab, on_boot_failure=mode)
    lab.pbx.run("sh", "-c", f"cd {FILES} && {script}")
    done = boot(lab)
    assert done.returncode == 2
    assert said in done.stderr
    assert [reached(lab, family) for family in (4, 6)] == (failing if mode == "fail" else closing)
    assert ("closed" in done.stderr) is (CLOSED in (failing if mode == "fail" else closing))


def test_nothing_left_at_all_closes_the_host(whole: Lab) -> None:
    """Nobody can know any more what was to be loaded, nor what the administrator wanted then."""
    whole.pbx.run("rm", "-r", FILES)
    done = boot(whole)
    assert done.returncode == 2
    for name in ("boot.json", "manifest", "rules.v4", "rules.v6", "sets"):
        assert f"{FILES}/{name} is missing" in done.stderr
    for family in (4, 6):
        assert not any(reached(whole, family))


def connects_out(lab: Lab, family: int) -> bool:
    """Whether the PBX gets an answer to a connection of its own."""
    inet = socket.AF_INET6 if family == 6 else socket.AF_INET
    address = lab.attacker.address(family)
    with (
        lab.attacker.namespace.socket(inet, socket.SOCK_STREAM) as server,
        lab.pbx.socket(inet, socket.SOCK_STREAM) as client,
    ):
        server.setsockopt(*((socket.IPPROTO_IPV6, 78) if family == 6 else (socket.IPPROTO_IP, 15)), 1)  # free binding
        server.bind((address, 80))
        server.listen()
        client.settimeout(5)
        return client.connect_ex((address, 80)) == 0


@pytest.mark.parametrize("missing", ["trusted_too", "rules_only"])
def test_closed_host_with_a_policy_lets_in_ssh_and_answers_only(whole: Lab, missing: str) -> None:
    lab = whole
    install(lab, on_boot_failure="close", host_policy=True, ssh_ports=["5070"])
    lab.pbx.run("sh", "-c", f"cd {FILES} && rm rules.v? {'sets' if missing == 'trusted_too' else ''}")
    done = boot(lab)
    assert done.returncode == 2
    assert "everything but SSH is closed" in done.stderr
    for family in (4, 6):
        assert lab.phone.tcp(family, port=5070).connected(5)
        for port, trusted in ((5060, True), (5061, True), (5070, False)):
            stranger, trunk = lab.phone.udp(family, port=port), lab.trunk.udp(family, port=port)
            trunk.send(sip.request(method="OPTIONS").wire)
            stranger.send(sip.request(method="OPTIONS").wire)
            answers = missing == "rules_only" and trusted
            assert bool(trunk.answer(5 if answers else 0.2)) is answers
            assert not stranger.answer(0.2)
        assert connects_out(lab, family)


def test_next_run_opens_again_what_was_closed(whole: Lab) -> None:
    lab = whole
    install(lab, on_boot_failure="close")
    lab.pbx.run("sh", "-c", f"cd {FILES} && rm rules.v? sets")
    assert boot(lab).returncode == 2
    lab.trust(*TRUNK)
    lab.apply("sip_host_policy", state="absent")
    lab.blocklist(learn_for=0)
    assert [reached(lab, family) for family in (4, 6)] == [WHOLE, WHOLE]
    done = boot(lab)
    assert (done.returncode, done.stderr) == (0, "")


def test_rules_that_stand_whole_are_not_closed(whole: Lab) -> None:
    """``sipguard restore`` by hand on a running host, whose file has got damaged."""
    lab = whole
    install(lab, on_boot_failure="close")
    assert boot(lab).returncode == 0
    lab.pbx.run("sh", "-c", f"cd {FILES} && rm rules.v4")
    before = lab.snapshot()
    done = sipguard(lab, "restore")
    assert done.returncode == 2
    assert "rules.v4 is missing; the rules that stand are left alone" in done.stderr
    assert lab.snapshot() == before


def test_sets_are_there_before_saved_rules_name_them(whole: Lab) -> None:
    """Somebody has saved our rules, an older version of them among his own; the kernel takes them only when the sets are there."""
    lab = whole
    boot(lab)
    lab.blocklist()
    saved = lab.pbx.run(f"iptables-{lab.backend}-save").replace("sipguard-offenders4", "sipguard-observed4")
    lab.pbx.run("mkdir", "-p", "/etc/iptables")
    lab.pbx.run("tee", "/etc/iptables/rules.v4", stdin=saved)
    forget(lab)
    load = [f"iptables-{lab.backend}-restore"]
    assert not lab.pbx.succeeds("sh", "-c", f"{load[0]} < /etc/iptables/rules.v4")
    done = sipguard(lab, "restore", "--sets")
    assert (done.returncode, done.stderr) == (0, "")
    assert "SIPGUARD" not in lab.save(4)
    assert lab.member("sipguard-trusted", TRUNK[0].replace("0/24", "9"))
    lab.pbx.run("sh", "-c", f"{load[0]} < /etc/iptables/rules.v4")
    assert "sipguard-observed4" in lab.save(4)
    done = sipguard(lab, "restore")
    assert (done.returncode, done.stderr) == (0, "")
    assert "sipguard-observed4" not in lab.save(4) + lab.sets()
    assert [reached(lab, family) for family in (4, 6)] == [WHOLE, WHOLE]
    lab.pbx.run("rm", "-r", "/etc/iptables")


# -- the module


MODES: list[dict[str, Any]] = [
    {},
    {"repair": False},
    {"persistence": "none"},
    {"on_boot_failure": "close", "host_policy": True, "ports": ["5060", "5080:5090"], "ssh_ports": ["2222"]},
]


@pytest.mark.parametrize("options", MODES, ids=["default", "no_repair", "none", "close"])
def test_four_runs(nft_lab: Lab, options: dict[str, Any]) -> None:
    before = _everything(nft_lab)
    check = host(nft_lab, check=True, **options)
    assert _everything(nft_lab) == before
    real = host(nft_lab, **options)
    after = _everything(nft_lab)
    runs = [check, real, host(nft_lab, check=True, **options), host(nft_lab, **options)]
    assert [run.get("changed") for run in runs] == [True, True, False, False], runs
    assert check["diff"] == real["diff"]
    assert _everything(nft_lab) == after
    there = nft_lab.pbx.run("find", "/etc/systemd/system", "-name", "sipguard*")
    assert ("sipguard-restore.service" in there) is (options.get("persistence") != "none")
    assert ("sipguard-repair.service" in there) is (
        options.get("persistence") != "none" and options.get("repair", True)
    )
    gone = [host(nft_lab, check=check, state="absent") for check in (True, False, True, False)]
    assert [run.get("changed") for run in gone] == [True, True, False, False], gone
    assert gone[0]["diff"] == gone[1]["diff"]
    assert _everything(nft_lab) == before


def _everything(lab: Lab) -> str:
    places = "/etc/systemd/system /etc/sipguard /usr/local/lib/sipguard* /usr/local/sbin /var/lib/sipguard"
    script = f'for f in $(find {places} 2>/dev/null); do echo $(stat -c "%N %a" $f; test -d $f || sha256sum <$f); done'
    return "\n".join(sorted(lab.pbx.run("sh", "-c", script).splitlines()))


def test_modes_follow_each_other_without_leaving_anything(nft_lab: Lab) -> None:
    lab = nft_lab
    before = _everything(lab)
    states = []
    for options in (*MODES, *MODES):
        install(lab, **options)
        states.append(_everything(lab))
    assert states[: len(MODES)] == states[len(MODES) :]
    assert len(set(states)) == len(MODES)
    assert host(lab, state="absent")["changed"]
    assert _everything(lab) == before


def test_settings_are_for_root_only_and_say_what_was_asked_for(nft_lab: Lab) -> None:
    host(nft_lab, on_boot_failure="close", host_policy=True, ports=["5070"], ssh_ports=[])
    assert nft_lab.pbx.run("stat", "-c", "%a %U", FILES, f"{FILES}/boot.json").split() == ["700", "root", "600", "root"]
    assert json.loads(nft_lab.pbx.run("cat", f"{FILES}/boot.json")) == {
        "on_boot_failure": "close",
        "host_policy": True,
        "ports": ["5070"],
        "ssh_ports": ["22"],
    }


def test_ports_of_ssh_that_nobody_knows_are_those_of_the_run_before(nft_lab: Lab) -> None:
    install(nft_lab, ssh_ports=["2222"])
    assert not install(nft_lab, ssh_ports=[])["changed"]
    assert json.loads(nft_lab.pbx.run("cat", f"{FILES}/boot.json"))["ssh_ports"] == ["2222"]


def test_absent_takes_the_files_of_the_next_boot_along_and_leaves_the_rules(nft_lab: Lab) -> None:
    lab = nft_lab
    install(lab)
    lab.trust(*TRUNK)
    lab.blocklist()
    loaded = [lab.save(4), lab.save(6), lab.sets()]
    assert host(lab, state="absent")["changed"]
    assert [lab.save(4), lab.save(6), lab.sets()] == loaded
    assert not lab.pbx.succeeds("test", "-e", FILES)
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))


def test_absent_is_refused_while_a_change_waits(nft_lab: Lab) -> None:
    install(nft_lab)
    armed = run_module(nft_lab.pbx, "sipguard_switch", {"state": "armed", "seconds": 60})
    before = _everything(nft_lab)
    message = host(nft_lab, state="absent")["msg"]
    assert armed["cookie"] in message
    assert "sipguard rollback" in message
    assert _everything(nft_lab) == before
    nft_lab.pbx.run(COMMAND, "rollback")


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "mode": ({"persistence": "cron"}, ["persistence", "cron", "netfilter-persistent"]),
    "failure": ({"on_boot_failure": "open"}, ["on_boot_failure", "open", "close"]),
    "port": ({"ports": ["70000"]}, ["ports", "70000", "65535"]),
    "no_ports": ({"ports": []}, ["ports", "[]", "at least one"]),
    "ssh_port": ({"ssh_ports": ["ssh"]}, ["ssh_ports", "ssh", "65535"]),
    "no_package": (
        {"persistence": "netfilter-persistent"},
        ["persistence", "package 'netfilter-persistent'", "systemd"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_option_is_refused(nft_lab: Lab, name: str) -> None:
    options, said = BAD[name]
    before = _everything(nft_lab)
    done = host(nft_lab, **options)
    assert done.get("failed"), done
    assert all(words in done["msg"] for words in said), done["msg"]
    assert _everything(nft_lab) == before
