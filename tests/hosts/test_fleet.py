# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job on many hosts of which some are not as they should be: each goes back alone, or its batch does, and the report says why."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from .harness import Controller, LabHost, eventually, lab

HERE = {"pbx_firewall_confirm_within": 30}
# Of a whole fleet one host may fail, whatever its size; the others go on.
LENIENT = {"pbx_serial": "100%", "pbx_max_fail_percentage": 90}


def has_asterisk(host: LabHost) -> bool:
    """Whether one answers."""
    return "Asterisk 22" in host.run("asterisk", "-rx", "core show version")


@pytest.fixture(scope="module")
def mixed() -> Iterator[dict[str, LabHost]]:
    """Two plain hosts and two PBXs."""
    lab("down")
    images = {"good": "debian12", "plain": "debian12", "pbx": "sid-asterisk22", "other": "sid-asterisk22"}
    hosts = {name: LabHost(name, image) for name, image in images.items()}
    for name in ("pbx", "other"):
        assert eventually(partial(has_asterisk, hosts[name]))
    yield hosts
    lab("down")


@pytest.fixture
def office(mixed: dict[str, LabHost], tmp_path: Path) -> Controller:
    return Controller(tmp_path, list(mixed.values()))


def everything(host: LabHost) -> tuple[str, str]:
    """Rules, and every file that a run may write, with owner and mode: what must be the same after going back."""
    script = (
        "find /etc/asterisk /etc/fail2ban /etc/sipguard /etc/sipban /etc/systemd/system /etc/logrotate.d /usr/local "
        "-not -name __pycache__ -not -type d -printf '%p %m %u %g %l ' -exec sh -c 'sha256sum < \"$1\" || :' sh {} ';' 2>/dev/null | sort"
    )
    return host.rules(), host.run("sh", "-c", script)


def as_machine(host: LabHost, *argv: str) -> None:
    """A command in the host's mount namespace with this machine's rights: a container may mount nothing."""
    pid = lab("engine", "--", "inspect", "--format", "{{.State.Pid}}", str(host.info["container"])).strip()
    subprocess.run(["nsenter", f"--target={int(pid)}", "--mount", "--", *argv], check=True)


def reports(output: str) -> dict[str, str]:
    """Host -> the sentence with which its run ended."""
    last = output.rpartition("TASK [Say why this host is not as it should be]")[2]
    return {
        name: " ".join(said.split())
        for name, said in re.findall(r'fatal: \[([^\]]+)\]: FAILED! => .*?"msg": "(.*?)"\}', last, re.DOTALL)
    }


def recap(output: str, host: str) -> dict[str, int]:
    found = re.search(rf"^{host}\s*:(.*)$", output.rpartition("PLAY RECAP")[2], re.MULTILINE)
    assert found, output
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", found[1])}


def test_each_host_that_cannot_be_hardened_stops_alone_and_says_why(
    office: Controller, mixed: dict[str, LabHost]
) -> None:
    """An address where nobody is, a full disk, a misspelt variable, an Asterisk that does not run; and a good host beside them."""
    nobody = re.sub(r"\.\d+$", ".253", mixed["good"].info["address"])
    office.give("nobody", ansible_host=nobody)
    office.give("typo", pbx_trunk=["192.0.2.7"])
    full, broken, good = mixed["plain"], mixed["pbx"], mixed["good"]
    as_machine(full, "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", "/usr/local")
    broken.run("systemctl", "stop", "asterisk")
    before = {host.name: everything(host) for host in (full, broken)}
    try:
        done = office.harden(**HERE, **LENIENT)
        said = reports(done.stdout)
        assert done.returncode == 2, done.stdout
        assert set(said) == {"nobody", "typo", "plain", "pbx"}, done.stdout
        assert re.search(
            r"nobody: unreachable: .*nothing was changed.*what to do: check the host's power", said["nobody"]
        )
        assert re.search(r"pbx_trunk: .*pbx_trunks was probably meant.*nothing was changed", said["typo"])
        assert re.search(r"the disk of /usr/local is full: .*nothing was changed.*what to do: make room", said["plain"])
        assert re.search(r"Asterisk does not run.*it is what it was before.*journalctl -u asterisk", said["pbx"])
        for host in (full, broken):
            assert everything(host) == before[host.name], host.name
        assert recap(done.stdout, "good")["failed"] == 0
        assert "SIPGUARD" in good.rules()
        assert "SIPGUARD" in mixed["other"].rules()
        assert "2 of 6 hosts are as they should be" in done.stdout
    finally:
        as_machine(full, "umount", "/usr/local")
        broken.run("systemctl", "start", "asterisk")
        assert eventually(partial(has_asterisk, broken))
    done = office.harden(**LENIENT)
    assert done.returncode == 2  # the two that only the inventory can put right
    assert set(reports(done.stdout)) == {"nobody", "typo"}
    assert "SIPGUARD" in full.rules()
    assert "SIPGUARD" in broken.rules()
    again = office.harden(*mixed.values())
    assert again.returncode == 0, again.stdout
    assert not [name for name in mixed if recap(again.stdout, name)["changed"]], again.stdout


def test_a_host_whose_phones_get_no_answer_any_more_goes_back(office: Controller, mixed: dict[str, LabHost]) -> None:
    """From where nobody is trusted, a phone was answered before. Host policy for known addresses alone silences it: not what was meant."""
    pbx, other = mixed["pbx"], mixed["other"]
    office.harden(pbx, other, pbx_firewall_state="absent")
    before = everything(pbx)
    asked = {"pbx_verify_from": "good", "pbx_verify_timeout": 1, "pbx_verify_patience": 2}
    policy = [{"name": "sip", "from": ["lan"]}]
    office.give("pbx", pbx_firewall_host_policy=policy, pbx_lan=["192.0.2.0/24"], **asked)
    office.give("other", **asked)
    done = office.harden(pbx, other, mixed["good"], **HERE, **LENIENT)
    said = reports(done.stdout)
    assert set(said) == {"pbx"}, done.stdout
    assert re.search(
        r"a phone got an answer over UDP from \S+ port 5060 before the run.*it is what it was", said["pbx"]
    )
    assert everything(pbx) == before
    assert has_asterisk(pbx)
    assert pbx.run("systemctl", "is-active", "sipband").strip() != "active"
    assert pbx.run("getent", "passwd", "sipban") == ""
    assert "SIPGUARD" in other.rules()


def test_whom_only_the_inventory_s_name_tells_where_it_is_is_asked_itself(
    mixed: dict[str, LabHost], tmp_path: Path
) -> None:
    """Neither host has an ansible_host. And who asks needs no root, whatever the inventory says: he has no such command."""
    pbx, asker = mixed["pbx"], mixed["good"]
    where, command = pbx.info["address"], "/usr/local/bin/to-root"
    office = Controller(tmp_path, [pbx, asker], by_address=True)
    for address in (where, asker.info["address"]):
        office.give(address, ansible_become=True, ansible_become_exe=command)
    pbx.run("ln", "-s", "/usr/bin/sudo", command)
    before = everything(pbx)
    asked = {"pbx_verify_from": asker.info["address"], "pbx_verify_timeout": 1, "pbx_verify_patience": 2}
    try:
        done = office.harden(
            **HERE,
            pbx_hosts=where,
            pbx_firewall_host_policy=[{"name": "sip", "from": ["lan"]}],
            pbx_lan=["192.0.2.0/24"],
            **asked,
        )
        (said,) = reports(done.stdout).values()
        assert f"a phone got an answer over UDP from {where} port 5060 before the run" in said, done.stdout
        assert everything(pbx) == before
        done = office.play("verify.yml", pbx_hosts=where, **asked)
        assert re.search(rf"phone +UDP +{re.escape(where)}:5060 +answers \d+ +right", done.stdout), done.stdout
    finally:
        pbx.run("rm", command)


def test_a_host_policy_that_admits_no_phone_from_the_controller_is_no_fault(
    office: Controller, mixed: dict[str, LabHost]
) -> None:
    """Nobody has said that a phone may come from there. The run says that it cannot tell."""
    pbx = mixed["pbx"]
    office.harden(pbx, pbx_firewall_state="absent")
    office.give("pbx", pbx_firewall_host_policy=[{"name": "sip", "from": ["lan"]}], pbx_lan=["192.0.2.0/24"])
    done = office.harden(pbx, pbx_verify_timeout=1, pbx_verify_patience=2, **HERE)
    assert done.returncode == 0, done.stdout
    assert re.search(r"the host policy admits no UDP from \S+ to port 5060", done.stdout)
    assert "name a machine that it admits in pbx_verify_from" in done.stdout
    assert "SIPGUARD-HOST" in pbx.rules()
    again = office.harden(pbx, pbx_verify_timeout=1)
    assert recap(again.stdout, "pbx")["changed"] == 0, again.stdout


def test_who_only_looks_changes_nothing_and_what_others_need_of_asterisk_stays(
    office: Controller, mixed: dict[str, LabHost], tmp_path: Path
) -> None:
    """Somebody's own play, in check mode without --check; then all but Asterisk's own settings."""
    pbx = mixed["pbx"]
    assert office.harden(pbx, **HERE).returncode == 0
    before = everything(pbx)
    report = tmp_path / "report.yml"
    roles = "".join(f"    - sipguard.pbx.pbx_{name}\n" for name in ("firewall", "asterisk", "fail2ban", "sipban"))
    report.write_text(
        f"- hosts: all\n  become: true\n  gather_facts: false\n  check_mode: true\n  roles:\n{roles}", encoding="utf-8"
    )
    other = {
        "pbx_asterisk_profile": "strict",
        "pbx_fail2ban_max_retry": 7,
        "pbx_sipban_remember": "3d",
        "pbx_firewall_learn_for": 60,
    }
    done = office.play(str(report), pbx, **other)
    assert done.returncode == 0, done.stdout
    assert recap(done.stdout, "pbx")["changed"] >= 4, done.stdout
    assert everything(pbx) == before

    done = office.harden(pbx, pbx_asterisk_state="absent", **HERE)
    assert done.returncode == 0, done.stdout
    assert "; sipguard" not in pbx.run("cat", "/etc/asterisk/pjsip.conf")
    assert pbx.run("systemctl", "is-active", "sipband").strip() == "active"
    again = office.harden(pbx, pbx_asterisk_state="absent")
    assert recap(again.stdout, "pbx")["changed"] == 0, again.stdout


def test_a_host_whose_asterisk_does_not_run_can_be_hardened_without_it_and_left(
    office: Controller, mixed: dict[str, LabHost]
) -> None:
    """As the report of a host that was refused says."""
    pbx = mixed["pbx"]
    office.harden(pbx, pbx_firewall_state="absent")
    pbx.run("systemctl", "stop", "asterisk")
    before = everything(pbx)
    try:
        done = office.harden(pbx, pbx_asterisk_mode="observe", **HERE)
        assert done.returncode == 0, done.stdout
        assert "SIPGUARD" in pbx.rules()
        again = office.harden(pbx, pbx_asterisk_mode="observe")
        assert again.returncode == 0, again.stdout
        assert recap(again.stdout, "pbx")["changed"] == 0, again.stdout
        done = office.harden(pbx, pbx_firewall_state="absent")
        assert done.returncode == 0, done.stdout
        assert everything(pbx) == before
    finally:
        pbx.run("systemctl", "start", "asterisk")
        assert eventually(partial(has_asterisk, pbx))


def test_who_goes_back_from_taking_everything_away_has_its_bans_again(
    office: Controller, mixed: dict[str, LabHost]
) -> None:
    """Bans, exceptions and what sipband remembers are cleared early, and the role after that fails."""
    pbx = mixed["pbx"]
    assert office.harden(pbx, **LENIENT).returncode == 0
    pbx.run("sipguard", "ban", "203.0.113.9", "--reason", "by hand")
    before = everything(pbx)
    as_machine(pbx, "mount", "--bind", "/etc/asterisk", "/etc/asterisk")
    as_machine(pbx, "mount", "-o", "remount,bind,ro", "/etc/asterisk")
    try:
        done = office.harden(pbx, **LENIENT, pbx_firewall_state="absent")
        said = reports(done.stdout)
        assert done.returncode == 2, done.stdout
        assert "it is what it was before this run" in said["pbx"], done.stdout
    finally:
        # umount(8) looks into a /proc that knows nothing of this process
        as_machine(pbx, "python3", "-c", "import ctypes; assert not ctypes.CDLL(None).umount2(b'/etc/asterisk', 0)")
    assert everything(pbx) == before
    assert "by hand" in pbx.run("sipguard", "why", "203.0.113.9")
    assert pbx.run("systemctl", "is-active", "sipband").strip() == "active"


def test_the_panic_command_leads_back_and_not_to_what_has_failed(office: Controller, mixed: dict[str, LabHost]) -> None:
    """The run's rules were confirmed before its phones were found to get no answer."""
    pbx = mixed["pbx"]
    assert office.harden(pbx, **LENIENT, pbx_firewall_state="absent").returncode == 0
    assert office.harden(pbx, **LENIENT).returncode == 0
    good = pbx.rules()
    office.give(
        "pbx",
        pbx_firewall_host_policy=[{"name": "sip", "from": ["lan"]}],
        pbx_lan=["192.0.2.0/24"],
        pbx_verify_from="good",
        pbx_verify_timeout=1,
        pbx_verify_patience=2,
    )
    done = office.harden(pbx, mixed["good"], **HERE, **LENIENT)
    assert set(reports(done.stdout)) == {"pbx"}, done.stdout
    assert pbx.rules() == good
    pbx.run("sipguard", "rollback")
    assert "SIPGUARD-HOST" not in pbx.rules()
    assert "SIPGUARD" not in pbx.rules()  # before the first run there was nothing


def test_a_machine_that_asks_and_is_lost_loses_nobody(office: Controller, mixed: dict[str, LabHost]) -> None:
    """It is not the PBX that cannot be reached, and the report says so."""
    pbx = mixed["pbx"]
    office.give("pbx", pbx_verify=True, pbx_verify_from="nobody")
    office.give("nobody", ansible_host=re.sub(r"\.\d+$", ".253", pbx.info["address"]))
    done = office.harden(pbx, **LENIENT)
    said = reports(done.stdout)
    assert set(said) == {"pbx"}, done.stdout
    assert re.search(r"cannot ask from nobody: .*it is what it was.*pbx_verify_from", said["pbx"])
    assert recap(done.stdout, "pbx")["unreachable"] == 0


def test_a_canary_that_fails_stops_the_fleet(office: Controller, mixed: dict[str, LabHost]) -> None:
    hosts = list(mixed.values())
    office.harden(*hosts, pbx_firewall_state="absent")
    before = {host.name: everything(host) for host in hosts}
    office.give(hosts[0].name, pbx_firewall_modee="observe")
    done = office.harden(**HERE)
    assert done.returncode == 2
    assert set(reports(done.stdout)) == {hosts[0].name}
    assert "pbx_firewall_mode was probably meant" in done.stdout
    assert {host.name: everything(host) for host in hosts} == before


def test_a_batch_in_which_too_many_fail_goes_back_as_a_whole(office: Controller, mixed: dict[str, LabHost]) -> None:
    """The canary is fine and stays; in the second batch one host fails, and the others of it go back."""
    hosts = list(mixed.values())
    office.harden(*hosts, pbx_firewall_state="absent")
    before = {host.name: everything(host) for host in hosts}
    office.give("other", pbx_admins=[])
    serial = {"pbx_serial": [1, "100%"], "pbx_max_fail_percentage": 20}
    done = office.harden(**HERE, **serial)
    said = reports(done.stdout)
    assert set(said) == {host.name for host in hosts[1:]}, done.stdout
    assert re.search(r"pbx_admins", said["other"])
    assert re.search(r"too many hosts of its batch failed \(other\); it is what it was before this run", said["pbx"])
    assert "SIPGUARD" in hosts[0].rules()
    assert {host.name: everything(host) for host in hosts[1:]} == {host.name: before[host.name] for host in hosts[1:]}
    # What was written down of the hosts is gone.
    assert [host.name for host in hosts if "checkpoint" in host.run("ls", "/var/backups/sipguard")] == []


def test_check_mode_says_the_same_and_leaves_nothing(office: Controller, mixed: dict[str, LabHost]) -> None:
    hosts = list(mixed.values())
    office.harden(*hosts, pbx_firewall_state="absent")
    before = {host.name: everything(host) for host in hosts}
    office.give("plain", pbx_firewall_mode="enforced")
    office.options = ["--check", "--diff"]
    done = office.harden(**LENIENT)
    said = reports(done.stdout)
    assert set(said) == {"plain"}, done.stdout
    assert "pbx_firewall_mode" in said["plain"]
    assert "enforce, observe" in said["plain"]
    assert "nothing was changed on it" in said["plain"]
    assert recap(done.stdout, "pbx")["changed"] > 0
    assert {host.name: everything(host) for host in hosts} == before
