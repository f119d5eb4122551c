# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Raspberry Pi's story: as it comes, hardened over SSH, attacked, rebooted, unplugged, cleared.

Each test goes on where the one before it ended.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hosts.neighbours import PHONE, SCANNER
from tests.hosts.site import Caller

from .harness import PATIENCE, SILENCE, Figures, Footprint, Site, eventually

BAN_SECONDS = 120.0  # in which a log is read and a ban is made, on a machine that is starting
TRANSPORTS, FAMILIES = ("udp", "tcp"), (4, 6)
# What the rules need, which nobody has loaded by hand.
MODULES = {"ip_set", "ip_set_hash_net", "xt_set", "xt_string", "xt_hashlimit", "xt_connmark", "xt_conntrack", "xt_u32"}

# Everything of the system that lasts, but for what packages and Ansible bring, and what services remember; the content of what is
# configuration. The backups of users and groups (passwd-) show that one was there.
_LEFT_OUT = " ".join(
    f"! -path '{path}'"
    for path in (
        "/var/lib/dpkg*",
        "/var/lib/apt*",
        "/var/lib/systemd/*",
        "/var/lib/dhcp/*",
        "/var/lib/logrotate/*",
        "/var/lib/asterisk/astdb*",
        "/var/lib/fail2ban/*.sqlite3",
        "/etc/alternatives*",
        "/etc/ld.so.cache",
        "/home/pi/.ansible*",
        *(f"/etc/{name}-" for name in ("passwd", "shadow", "group", "gshadow")),
    )
)
LASTING = rf"""
find /etc /usr/local /opt /home /var/lib /var/spool -xdev {_LEFT_OUT} \
    \( -type f -printf '%p %m %u %g %s\n' -o -printf '%p %y %m %u %g %l\n' \) | sort
find /etc -type f {_LEFT_OUT} -exec sha256sum {{}} + | sort -k 2
"""


@pytest.fixture(scope="module")
def lasting() -> dict[str, list[str]]:
    """What the Pi held before sipguard came."""
    return {}


def svmap(site: Site, folder: Path) -> str:
    """What sipvicious, the real scanner, says of the Pi's network."""
    program = "import sys; from sipvicious.svmap import main; sys.argv[0] = 'svmap'; main()"
    source = site.newcomer()[4]
    with site.neighbours.reaching({4: source}, 4):  # which also gives this machine the address
        argv = [sys.executable, "-c", program, "-b", source, "-x", source, site.info["address"]]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={"HOME": str(folder), "PATH": "/usr/bin"},
        )
    return done.stdout + done.stderr


def is_guarded(site: Site) -> bool:
    """Whether a scanner hears nothing over any transport and family, where a phone that comes after it, and a friend, do."""
    trusted = site.neighbours.trusted
    asked = {}
    for transport in TRANSPORTS:
        for family in FAMILIES:
            scanner, call = site.asks(site.newcomer(), transport, family, SCANNER, SILENCE)
            phone, dummy = site.asks(site.newcomer(), transport, family, PHONE)
            friend, dummy = site.asks(trusted, transport, family, SCANNER)
            asked[call] = (scanner, phone, friend)
    assert all(
        phone.startswith("SIP/2.0 ") and friend.startswith("SIP/2.0 ") for dummy, phone, friend in asked.values()
    ), asked
    return all(scanner == "" for scanner, dummy, dummy in asked.values()) and site.heard(*asked) == set()


def is_banned_again(site: Site) -> bool:
    """Whether the guesser of before is not heard; fail2ban is among the last that a boot starts."""
    guesser = Caller(site.neighbours, 51, "tcp")
    asked = f"sipguard why {guesser.source[4]}"
    return (
        eventually(lambda: site.pi.call(asked).returncode == 1, BAN_SECONDS) and guesser.logs_in(4, answers=False) == 0
    )


# -- as it comes


def test_it_is_what_raspberry_pi_os_is(site: Site) -> None:
    run = site.pi.run
    assert run("uname -m") == "aarch64\n"
    assert 'VERSION_ID="12"' in run("cat /etc/os-release")
    for command in ("iptables", "ip6tables", "ipset"):
        assert site.pi.call(f"command -v {command}").returncode != 0
    assert run("nft list ruleset") == ""
    assert " /boot/firmware vfat " in run("cat /proc/mounts")
    assert "/dev/zram0 " in run("cat /proc/swaps")
    assert "memory" not in run("cat /sys/fs/cgroup/cgroup.controllers").split()
    assert int(re.findall(r"MemTotal: +(\d+)", run("cat /proc/meminfo"))[0]) < 1024 * 1024
    assert run("systemctl list-units --failed --plain --no-legend") == ""
    assert not MODULES & set(run("cut -d ' ' -f 1 /proc/modules").split())


def test_everybody_is_answered(site: Site, tmp_path: Path) -> None:
    site.pi.run("asterisk -rx 'sip set debug on'")
    calls = []
    for transport in TRANSPORTS:
        for family in FAMILIES:
            answer, call = site.asks(site.newcomer(), transport, family, SCANNER)
            assert answer.startswith("SIP/2.0 "), (transport, family)
            calls.append(call)
    assert site.heard(*calls) == set(calls)
    assert f"| {site.info['address']}:5060 " in svmap(site, tmp_path)


def test_it_is_measured_before(site: Site, figures: Figures, lasting: dict[str, list[str]]) -> None:
    """After a boot of its own: the first one has more to do."""
    with figures.step("reboot, bare"):
        site.pi.reboot()
    figures.footprints["bare"] = Footprint.of(site.pi)
    lasting["files"] = site.pi.run(LASTING).splitlines()


# -- hardened


def test_check_mode_changes_nothing(site: Site, lasting: dict[str, list[str]]) -> None:
    # a dry run does not refresh what apt knows; most Pis have done it before
    site.pi.run("apt-get update")
    done = site.play("first run, in check mode", "--check")
    assert done.recap["changed"] > 0
    assert site.pi.run(LASTING).splitlines() == lasting["files"]
    assert site.pi.call("command -v iptables").returncode != 0


def test_first_run(site: Site) -> None:
    done = site.play("first run")
    assert done.recap["changed"] > 0


def test_modules_were_loaded_by_themselves(site: Site) -> None:
    loaded = set(site.pi.run("cut -d ' ' -f 1 /proc/modules").split())
    assert loaded >= MODULES, sorted(MODULES - loaded)
    # nobody wrote down that they should be
    assert "sipguard" not in site.pi.run("cat /etc/modules /etc/modules-load.d/* 2>/dev/null; ls /etc/modprobe.d")


def test_attack_is_blocked_and_its_twin_passes(site: Site, tmp_path: Path) -> None:
    site.pi.run("asterisk -rx 'sip set debug on'")
    assert is_guarded(site)
    assert "found nothing" in svmap(site, tmp_path)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_phone_logs_in(site: Site, transport: str, family: int) -> None:
    assert Caller(site.neighbours, 21, transport).logs_in(family) == 200


def test_guesser_is_banned_and_its_twin_is_not(site: Site) -> None:
    guesser, twin = Caller(site.neighbours, 51, "tcp"), Caller(site.neighbours, 52, "tcp")
    guesser.guesses(4)
    # not by trying to log in: that would keep the machine busy that has to read its logs
    assert eventually(lambda: site.pi.call(f"sipguard why {guesser.source[4]}").returncode == 1, BAN_SECONDS)
    assert guesser.logs_in(4, answers=False) == 0
    assert twin.logs_in(4) == 200
    assert site.pi.call(f"sipguard why {twin.source[4]}").returncode == 0


def test_repeated_run_changes_nothing(site: Site) -> None:
    done = site.play("repeated run")
    assert done.recap["changed"] == done.recap["failed"] == done.recap["unreachable"] == 0


# -- rebooted, unplugged


def test_reboot_leaves_it_guarded(site: Site, figures: Figures) -> None:
    with figures.step("reboot, hardened"):
        site.pi.reboot()
    figures.footprints["hardened"] = Footprint.of(site.pi)
    assert site.pi.run("systemctl list-units --failed --plain --no-legend") == ""
    status = json.loads(site.pi.run("sipguard status --json"))
    assert status["protected"], status
    site.pi.run("asterisk -rx 'sip set debug on'")
    assert is_guarded(site)
    assert is_banned_again(site)
    assert Caller(site.neighbours, 52, "tcp").logs_in(4) == 200
    before = site.pi.run("systemctl show --value -p ActiveEnterTimestampMonotonic sipguard-restore.service")
    after = site.pi.run("systemctl show --value -p InactiveExitTimestampMonotonic asterisk.service")
    assert 0 < int(before) <= int(after)


def test_power_cut_and_a_clock_that_forgot_leave_it_guarded(site: Site, figures: Figures) -> None:
    """A Pi has no battery: after a power cut it believes to be in the past until somebody tells it the time."""
    site.pi.run("sync")
    site.pi.pull_the_plug()
    with figures.step("start after a power cut"):
        site.pi.switch_on(clock="2025-01-01T00:00:00")
    # systemd does not believe in a time before its own making
    assert int(site.pi.run("date +%s")) < time.time() - 86400
    assert site.pi.run("systemctl list-units --failed --plain --no-legend") == ""
    site.pi.run("asterisk -rx 'sip set debug on'")
    assert is_guarded(site)
    assert is_banned_again(site)
    assert Caller(site.neighbours, 52, "tcp").logs_in(4) == 200
    left = re.search(
        rf"^add \S+ {re.escape(site.neighbours.at(51)[4])} timeout (\d+)", site.pi.run("ipset save"), re.MULTILINE
    )
    assert left is not None
    assert int(left[1]) <= 3600  # what it had left, and not what a wrong clock makes of it


# -- cleared


def test_removed_leaves_nothing(site: Site, lasting: dict[str, list[str]]) -> None:
    site.play("removal", pbx_firewall_state="absent")
    assert site.play("removal, repeated", pbx_firewall_state="absent").recap["changed"] == 0
    assert site.pi.run(LASTING).splitlines() == lasting["files"]
    for command in ("iptables-save", "ip6tables-save", "ipset save"):
        assert not re.search(r"^-|^create", site.pi.run(command), re.MULTILINE)
    assert site.pi.run("systemctl list-units --all --plain --no-legend 'sipguard*' 'sipband*'") == ""
    answer, dummy = site.asks(site.newcomer(), "udp", 4, SCANNER, PATIENCE)
    assert answer.startswith("SIP/2.0 ")
