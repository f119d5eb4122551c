# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our rules in FreePBX's files of custom rules, loaded line by line as FreePBX loads them: what is stopped then, and what passes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.freepbx import custom_rules
from tests.fixtures.freepbx.jail import Jail
from tests.integration.harness import command, rules, sip
from tests.integration.harness.lab import NETWORKS, WAYS, Lab
from tests.integration.harness.switch import Switches

MODULE = "freepbx_custom_rules"
FOREIGN = "# the page of FreePBX edits this file as well\n-I INPUT 1 -s 192.0.2.222/32 -j DROP\n; mine\n"
# Everything that PHP escapes, that a shell would do something with, or that stands in quotes.
ODD = [
    "evil (scanner) [1.0]; x|y & z",
    "abc*def?ghi~j<k>l^m",
    "$HOME `w` {x} #y",
    "back\\slash",
    "two  blanks",
    "abc!def%ghi+jkl=m",
]


@pytest.fixture
def freepbx(lab: Lab) -> Lab:
    """A laboratory whose PBX has FreePBX's command and configuration."""
    lab.pbx.run(
        "sh",
        "-ec",
        "mkdir -p /var/lib/asterisk/bin; echo '<?php' >/etc/freepbx.conf; printf '#!/bin/sh\\n' >/var/lib/asterisk/bin/fwconsole; "
        "chmod 755 /var/lib/asterisk/bin/fwconsole",
    )
    return lab


def native(lab: Lab, **options: Any) -> dict[str, Any]:
    return lab.apply(MODULE, enable=False, **options)


def write(lab: Lab, family: int, text: str, mode: str = "0666") -> None:
    lab.pbx.run(
        "sh", "-ec", f"cat >/etc/firewall-{family}.rules; chmod {mode} /etc/firewall-{family}.rules", stdin=text
    )


def read(lab: Lab, family: int) -> str:
    return lab.pbx.run("cat", f"/etc/firewall-{family}.rules")


def flush(lab: Lab) -> None:
    """What FreePBX's firewall does before it builds its own chains, of which it needs one here."""
    for family in (4, 6):
        for words in ("-F", "-X", "-t nat -F", "-t nat -X"):
            lab.iptables(*words.split(), family=family)
        lab.restore(
            "*filter\n:fpbxfirewall - [0:0]\n-I INPUT -j fpbxfirewall\n-A fpbxfirewall -j ACCEPT\nCOMMIT\n", family
        )


def load(lab: Lab, family: int) -> list[str]:
    """Each line of the file to its own shell; what failed."""
    binary = f"ip{'6' if family == 6 else ''}tables-{lab.backend}"

    def run(arguments: str) -> tuple[int, str]:
        argv = lab.pbx.argv("sh", "-c", f"{binary} {arguments}")
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    return custom_rules.load(read(lab, family), run)


def forget_rules(lab: Lab) -> None:
    """Every table empty, of both families; the sets stay, as they do when FreePBX flushes."""
    for family in (4, 6):
        for table in ("filter", "mangle", "raw"):
            for flag in ("-F", "-X"):
                lab.iptables("-t", table, flag, family=family)


def own(lab: Lab) -> dict[int, str]:
    return {family: rules.own_part(lab.save(family)) for family in (4, 6)}


def test_four_runs_beside_the_lines_of_others(freepbx: Lab) -> None:
    lab = freepbx
    write(lab, 4, FOREIGN)
    write(lab, 6, FOREIGN.replace("192.0.2.222/32", "2001:db8:7::/64").rstrip("\n"), "0644")
    before = read(lab, 4), read(lab, 6)
    lab.blocklist()
    kernel = lab.save(4), lab.save(6)
    result = lab.four_runs(MODULE, enable=False)
    assert (lab.save(4), lab.save(6)) == kernel
    for family in (4, 6):
        name = f"ipv{family}"
        assert read(lab, family).startswith(before[family == 6])
        assert read(lab, family).count("-j DROP") >= 1
        assert result["files"][name]["lines"] == read(lab, family).count("-w 10 ")
        mode = lab.pbx.run("stat", "-c", "%a %U", f"/etc/firewall-{family}.rules").strip()
        assert mode == ("666 root" if family == 4 else "644 root")
        assert "# BEGIN sipguard.pbx" in result["diff"]["after"]
    lab.four_runs(MODULE, enable=False, families=["ipv4"])
    assert read(lab, 6) == before[1]
    lab.four_runs(MODULE, enable=False, state="absent")
    assert (read(lab, 4), read(lab, 6)) == before
    assert (lab.save(4), lab.save(6)) == kernel


def test_files_of_our_own_go_with_us(freepbx: Lab) -> None:
    freepbx.four_runs(MODULE, enable=False)
    assert "no rules in table filter" in read(freepbx, 4)
    freepbx.four_runs(MODULE, enable=False, state="absent")
    assert not freepbx.pbx.succeeds("sh", "-c", "ls /etc/firewall-?.rules")


def test_not_without_freepbx(lab: Lab) -> None:
    assert "FreePBX was not found" in lab.refused(MODULE)
    assert not lab.apply(MODULE, state="absent")["changed"]


def test_damaged_block_is_refused_and_says_where(freepbx: Lab) -> None:
    write(freepbx, 6, "# BEGIN sipguard.pbx\n-w 10 -N SIPGUARD\n")
    message = freepbx.refused(MODULE, enable=False)
    assert "/etc/firewall-6.rules is damaged" in message
    assert "in lines 1" in message
    # rules come first: nobody goes without protection because of this file
    result = freepbx.blocklist()
    assert any("is damaged" in str(warning) for warning in result["warnings"]), result
    assert not freepbx.reaches(freepbx.attacker, sip.request(sip.SCANNER))


def test_imported_block_alone_stops_scanners_and_nobody_else(freepbx: Lab) -> None:
    lab = freepbx
    lab.trust(*NETWORKS["trunk"].values())
    lab.apply("sip_ratelimit", ssh={"rate": "6/minute", "burst": 6, "ports": ["22"]})
    lab.apply("sip_domain_gate", domains=["sip.example"], tls_ports=["5061"], mode="observe")
    lab.blocklist(user_agents=[{"value": value, "match": "anywhere"} for value in ODD])
    native(lab)
    whole = own(lab)
    forget_rules(lab)
    flush(lab)
    for transport, family in WAYS:
        assert lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family), "nothing to show"
    for family in (4, 6):
        assert load(lab, family) == []
        assert lab.save(family).split("*filter")[1].split("-A INPUT ")[1].startswith("-j SIPGUARD\n")
    saved = own(lab)
    for family in (4, 6):
        filter_table = whole[family].split("*filter")[1].split("\n*")[0].strip()
        assert filter_table in saved[family]
        assert "*raw" not in saved[family]
        assert "*mangle" not in saved[family]
    for transport, family in WAYS:
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), transport, family)
        for value in ODD:
            assert not lab.reaches(lab.attacker, sip.request(value), transport, family), value
        assert lab.reaches(lab.phone, sip.request(), transport, family)
        # who is trusted may say what he likes
        assert lab.reaches(lab.trunk, sip.request(sip.SCANNER), transport, family)


def test_freepbx_flushes_and_loads_and_nothing_is_missing(freepbx: Lab) -> None:
    lab = freepbx
    command.install(lab)
    native(lab)
    lab.blocklist()
    whole = own(lab)
    flush(lab)
    assert own(lab) != whole
    for family in (4, 6):
        assert load(lab, family) == []
    assert own(lab) == whole
    assert command.repair(lab) == "sipguard: nothing was missing\n"
    assert not lab.blocklist()["changed"]
    assert not lab.module(MODULE, enable=False)["changed"]
    # somebody was faster than FreePBX: nothing may count twice
    for family in (4, 6):
        load(lab, family)
    assert "one hook only" in command.repair(lab)
    assert own(lab) == whole


def test_block_follows_whatever_changes_the_rules(freepbx: Lab) -> None:
    lab = freepbx
    command.install(lab)
    lab.trust(*NETWORKS["trunk"].values())
    native(lab)
    lab.four_runs("sip_ua_blocklist", user_agents=["evilbot/1.0"])
    written = read(lab, 4)
    assert b"evilbot/1.0".hex() in written
    lab.four_runs("sip_ua_blocklist", user_agents=["otherbot"])
    changed = read(lab, 4)
    assert b"evilbot/1.0".hex() not in changed
    # at boot the rules are those of the files, and so is the block
    write(lab, 4, changed.replace("-I SIPGUARD-UA", "-I SIPGUARD-UB"))
    booted = command.boot(lab)
    assert booted.returncode == 0, booted.stdout + booted.stderr
    assert read(lab, 4) == changed
    # a table that FreePBX does not flush needs no file
    lab.four_runs("sip_ua_blocklist", table="mangle")
    assert "no rules in table filter" in read(lab, 4)
    result = native(lab)
    assert any("table mangle" in str(warning) for warning in result.get("warnings", [])), result
    lab.four_runs("sip_ua_blocklist", state="absent")
    assert "no rules in table filter" in read(lab, 4)


def test_rollback_takes_the_block_back(freepbx: Lab) -> None:
    lab = freepbx
    write(lab, 4, FOREIGN)
    switches = Switches(lab)
    lab.blocklist(user_agents=["evilbot/1.0"])
    before = own(lab)
    cookie = switches.arm(60)
    native(lab)
    lab.blocklist(user_agents=["otherbot"])
    assert b"otherbot".hex() in read(lab, 4)
    assert switches.apply("rolled_back", cookie=cookie)["changed"]
    assert own(lab) == before
    assert read(lab, 4) == FOREIGN
    assert not lab.pbx.succeeds("test", "-e", "/etc/firewall-6.rules")
    native(lab)
    written = read(lab, 4)
    assert b"evilbot/1.0".hex() in written
    cookie = switches.arm(60)
    lab.blocklist(user_agents=["otherbot"])
    assert read(lab, 4) != written
    assert switches.apply("rolled_back", cookie=cookie)["changed"]
    assert read(lab, 4) == written


def test_what_is_lost_of_a_block_shuts_nobody_out(freepbx: Lab) -> None:
    """Without the sets a trusted source is not known as one: so nobody may be judged who would have been spared."""
    lab = freepbx
    lab.trust(*NETWORKS["trunk"].values())
    lab.apply("sip_ratelimit", limits=[{"method": "any", "rate": "2/hour", "burst": 1}])
    lab.blocklist()
    native(lab)
    forget_rules(lab)
    lab.pbx.run("ipset", "destroy")
    flush(lab)
    for family in (4, 6):
        failed = load(lab, family)
        assert any("sipguard-trusted" in line for line in failed)
        assert "-A INPUT -j SIPGUARD\n" in lab.save(family)
    for transport, family in WAYS:
        trunk = lab.trunk.flow(transport, family)
        for dummy in range(5):
            assert lab.passes(trunk, sip.request(sip.SCANNER))
        assert lab.reaches(lab.phone, sip.request(), transport, family)


# -- FreePBX's own settings


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: PHP generates its files."""
    return Jail(tmp_path_factory.mktemp("freepbx") / "built").root


@pytest.fixture
def jail(built: Path, tmp_path: Path, nft_lab: Lab) -> Jail:
    """A FreePBX in the namespaces of a laboratory's PBX."""
    made = Jail.__new__(Jail)
    made.root, made.php = shutil.copytree(built, tmp_path / "root", symlinks=True), True
    made.prefix = tuple(nft_lab.pbx.argv())
    made.set_firewall("status", "1")
    return made


def run(jail: Jail, check: bool = False, **options: Any) -> dict[str, Any]:
    return jail.module({"backend": "nft", **options}, check=check, name=MODULE)


def test_freepbx_is_told_to_load_custom_rules(jail: Jail) -> None:
    etc = jail.root / "etc"
    check = run(jail, check=True)
    assert check["changed"]
    assert jail.firewall() is None
    assert not (etc / "firewall-4.rules").exists()
    real = run(jail)
    assert real["diff"] == check["diff"]
    assert "customrules = enabled" in real["diff"]["after"]
    assert real["custom_rules"] == "enabled"
    assert jail.firewall()["customrules"] == "enabled"
    for again in (run(jail, check=True), run(jail)):
        assert not again["changed"]
    # whoever was there before keeps what he needs
    with (etc / "firewall-4.rules").open("a") as stream:
        stream.write("-A INPUT -s 192.0.2.0/24 -j ACCEPT\n")
    absent = run(jail, state="absent")
    assert absent["changed"]
    assert "stay on for 1 line of /etc/firewall-4.rules" in str(absent["warnings"])
    assert jail.firewall()["customrules"] == "enabled"
    assert (etc / "firewall-4.rules").read_text() == "-A INPUT -s 192.0.2.0/24 -j ACCEPT\n"
    assert not (etc / "firewall-6.rules").exists()


def test_custom_rules_go_off_again_where_we_switched_them_on(jail: Jail) -> None:
    run(jail)
    assert run(jail, state="absent", check=True)["changed"]
    assert run(jail, state="absent")["custom_rules"] == "disabled"
    assert jail.firewall()["customrules"] == "disabled"
    assert not run(jail, state="absent")["changed"]
    jail.set_firewall("advancedsettings", {"customrules": "enabled"})
    run(jail)
    run(jail, state="absent")
    assert jail.firewall() == {"customrules": "enabled"}


DRAFTS = {
    "firewall-4.rules": "# not yet\n-A INPUT -p tcp --dport 22 -j DROP\n-P INPUT DROP\n",
    "firewall-6.rules": "-P INPUT DROP\n",
}
DRAFTED = "2 lines of /etc/firewall-4.rules and 1 line of /etc/firewall-6.rules"


def put(jail: Jail, files: dict[str, str], mode: int = 0o666, owner: int = 0) -> None:
    for name, text in files.items():
        path = jail.root / "etc" / name
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, owner, owner)


def texts(jail: Jail) -> dict[str, str]:
    return {path.name: path.read_text() for path in (jail.root / "etc").glob("firewall-?.rules")}


def test_drafts_of_others_do_not_come_into_force_unasked(jail: Jail) -> None:
    put(jail, DRAFTS)
    for options in ({}, {"families": ["ipv4"]}, {"families": ["ipv6"]}):
        for check in (True, False):
            result = run(jail, check=check, **options)
            assert result.get("failed"), result
            assert f"have FreePBX load {DRAFTED}, which sipguard has not written" in result["msg"]
            assert "activate_others" in result["msg"]
            assert "pbx_firewall_freepbx_rules_others" in result["msg"]
    assert jail.firewall() is None
    assert texts(jail) == DRAFTS
    # what nobody would load is nobody's rule
    put(jail, dict.fromkeys(DRAFTS, "# -P INPUT DROP\n; -P INPUT DROP\n\n \n"))
    assert run(jail)["custom_rules"] == "enabled"


def test_drafts_of_others_that_somebody_wants(jail: Jail) -> None:
    put(jail, DRAFTS)
    check, real = run(jail, check=True, activate_others=True), run(jail, activate_others=True)
    assert check["diff"] == real["diff"]
    assert jail.firewall()["customrules"] == "enabled"
    assert all(texts(jail)[name].startswith(text) for name, text in DRAFTS.items())
    # it is done, whoever says so no more
    assert not run(jail)["changed"]
    assert not run(jail, activate_others=True)["changed"]
    # as it was found
    check, real = run(jail, check=True, state="absent"), run(jail, state="absent")
    assert check["diff"] == real["diff"]
    assert f"does not load {DRAFTED} any more" in str(real["warnings"])
    assert texts(jail) == DRAFTS
    assert jail.firewall()["customrules"] == "disabled"
    # as it is wanted
    run(jail, activate_others=True)
    kept = run(jail, state="absent", activate_others=True)
    assert f"stay on for {DRAFTED}" in str(kept["warnings"])
    assert texts(jail) == DRAFTS
    assert jail.firewall()["customrules"] == "enabled"


def test_drafts_that_were_changed_meanwhile_stay_in_force(jail: Jail) -> None:
    put(jail, DRAFTS)
    run(jail, activate_others=True)
    path = jail.root / "etc/firewall-6.rules"
    path.write_text(path.read_text().replace("-P INPUT DROP", "-A INPUT -s 2001:db8::/32 -j DROP"))
    absent = run(jail, state="absent")
    assert f"stay on for {DRAFTED}" in str(absent["warnings"])
    assert jail.firewall()["customrules"] == "enabled"


def test_who_switched_it_on_is_known_to_the_block_of_the_other_family(jail: Jail) -> None:
    run(jail, families=["ipv4"])
    run(jail, families=["ipv6"])
    assert list(texts(jail)) == ["firewall-6.rules"]
    assert run(jail, state="absent")["custom_rules"] == "disabled"


def test_files_that_anybody_can_write_are_a_warning_once(jail: Jail) -> None:
    put(jail, {"firewall-4.rules": ""})
    put(jail, {"firewall-6.rules": ""}, 0o644)
    for check in (True, False):
        (warning,) = run(jail, check=check)["warnings"]
        assert "/etc/firewall-4.rules can be written by others than root (mode 0666" in str(warning)
    assert not run(jail).get("warnings")
    assert (jail.root / "etc/firewall-4.rules").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("mine", [False, True])
def test_file_that_is_not_roots_would_not_be_loaded(jail: Jail, mine: bool) -> None:
    path = jail.root / "etc/firewall-4.rules"
    if mine:
        run(jail)
    else:
        jail.set_firewall("advancedsettings", {"customrules": "enabled"})
        put(jail, {"firewall-4.rules": "# nothing yet\n"})
    os.chown(path, 1234, 1234)
    check = run(jail, check=True)
    assert check["changed"]
    assert path.stat().st_uid == 1234
    assert "(of user 1234 and group 1234, so FreePBX loads nothing of it)" in check["diff"]["before"]
    real = run(jail)
    assert real["diff"] == check["diff"]
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)
    for again in (run(jail, check=True), run(jail)):
        assert not again["changed"]
    # what others have written in there was not loaded either
    path.write_text(path.read_text() + "-P INPUT DROP\n")
    os.chown(path, 1234, 1234)
    for check_mode in (True, False):
        result = run(jail, check=check_mode)
        assert result.get("failed"), result
        assert "/etc/firewall-4.rules is not root's" in result["msg"]
        assert "1 line of /etc/firewall-4.rules, which sipguard has not written" in result["msg"]
    assert path.stat().st_uid == 1234
    assert run(jail, activate_others=True)["changed"]
    assert path.stat().st_uid == 0


@pytest.mark.parametrize("why", ["is switched off", "no firewall module", "could not be started"])
def test_freepbx_that_would_load_nothing(jail: Jail, why: str) -> None:
    if why == "is switched off":
        jail.set_firewall("status", "")
    elif why == "no firewall module":
        (jail.root / "var/www/html/admin/modules/firewall/Firewall.class.php").unlink()
    else:
        (jail.root / "var/lib/asterisk/freepbx.sqlite").rename(jail.root / "gone")
    result = run(jail)
    assert result.get("failed"), result
    assert why in result["msg"]
    assert not list((jail.root / "etc").glob("firewall-*"))
