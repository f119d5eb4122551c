# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong around the module on a real Asterisk: it says so, the files are as they were, and the next run puts things right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.freepbx import PASSWORDS, asterisk_files, build

from .harness import Pbx, eventually
from .test_hardening import EXTENSIONS, MODULE, PJSIP_CONF, SECRETS, SIP_CONF, say

PJSIP = {"pjsip.conf": PJSIP_CONF, "extensions.conf": EXTENSIONS}
NO_CHAN_SIP = "noload => chan_sip.so\n"
LEFT = "find /etc/asterisk -name '.sipguard-*'"
WRAPPER = "/usr/local/sbin/asterisk"
PARENT = "$(ps -o ppid= -p $PPID)"

# What happens in the very moment in which the module runs a command, once.
PREPARED = "ls /etc/asterisk/.sipguard-*.tmp"
RELOADING = 'case "$*" in *"module reload res_pjsip.so") :;; *) false;; esac'


@pytest.fixture
def pbx(pbx22: Pbx) -> Iterator[Pbx]:
    """Asterisk 22 that welcomes strangers, and nothing of a test left afterwards."""
    pbx22.boot(PJSIP)
    yield pbx22
    pbx22.run(["rm", "-f", WRAPPER, "/root/once"])


def meanwhile(pbx: Pbx, when: str, action: str) -> None:
    """Have something happen once, as soon as a condition of the shell is true."""
    once = f"if [ ! -e /root/once ] && {when} >/dev/null 2>&1; then : >/root/once; {action}; fi"
    pbx.write(WRAPPER, f'#!/bin/sh\n{once}\nexec /usr/sbin/asterisk "$@"\n', owner="root", mode=0o755)


def killed(pbx: Pbx, options: dict[str, Any]) -> None:
    """A run that something kills on its way."""
    run = pbx.spawn(pbx.module_argv(MODULE, options))
    run.communicate()
    assert run.returncode == -9 or run.returncode == 137


def test_a_full_disk_leaves_everything_as_it_was(pbx: Pbx) -> None:
    pbx.check(["sh", "-ec", "mount -t tmpfs -o size=64k,mode=755 tmpfs /etc/asterisk; chown asterisk: /etc/asterisk"])
    try:
        pbx.configure(PJSIP)
        pbx.run(["sh", "-c", "dd if=/dev/zero of=/etc/asterisk/filler bs=1k"])
        assert "No space left" in pbx.module(MODULE, {})["msg"]
        assert pbx.read("pjsip.conf") == PJSIP_CONF
        assert pbx.check(["sh", "-c", LEFT]) == ""
        assert ": PBX" not in pbx.cli("pjsip show settings")
        pbx.check(["rm", "/etc/asterisk/filler"])
        assert pbx.apply(MODULE, {})["changed"]
    finally:
        pbx.check(["umount", "/etc/asterisk"])


def test_files_are_put_back_on_a_disk_that_is_full_by_then(pbx: Pbx) -> None:
    pbx.check(["sh", "-ec", "mount -t tmpfs -o size=64k,mode=755 tmpfs /etc/asterisk; chown asterisk: /etc/asterisk"])
    try:
        pbx.configure(PJSIP)
        before = pbx.snapshot()
        fill = "dd if=/dev/zero of=/etc/asterisk/filler bs=1k 2>/dev/null; kill -9 $(cat /run/asterisk/asterisk.pid)"
        meanwhile(pbx, RELOADING, fill)
        said = pbx.module(MODULE, {})["msg"]
        assert "the files were put back, but Asterisk has not read them again" in said
        pbx.check(["rm", "/etc/asterisk/filler"])
        after = pbx.snapshot()
        name = "/etc/asterisk/pjsip.conf"
        assert (after[name], after[f"{name} content"]) == (before[name], before[f"{name} content"])
    finally:
        pbx.check(["umount", "/etc/asterisk"])


def test_a_file_that_somebody_changes_meanwhile_is_theirs(pbx: Pbx) -> None:
    meanwhile(pbx, PREPARED, "echo '; mine' >>/etc/asterisk/pjsip.conf")
    said = pbx.module(MODULE, {})["msg"]
    assert "somebody else has just changed it" in said
    assert pbx.read("pjsip.conf") == f"{PJSIP_CONF}; mine\n"
    assert pbx.check(["sh", "-c", LEFT]) == ""
    assert pbx.apply(MODULE, {})["changed"]
    assert "; mine\n" in pbx.read("pjsip.conf")


def test_a_change_during_the_reload_is_not_lost(pbx: Pbx) -> None:
    """Asterisk refuses what somebody adds just then; what they have written stays all the same."""
    meanwhile(pbx, RELOADING, "echo '[9](nothing)' >>/etc/asterisk/pjsip.conf")
    said = pbx.module(MODULE, {})["msg"]
    assert "somebody else has changed it meanwhile" in said
    assert "the backup has it" in said
    assert "[9](nothing)\n" in pbx.read("pjsip.conf")


@pytest.mark.parametrize(
    ("moment", "state", "left"),
    [(PREPARED, "present", 1), (RELOADING, "present", 1), (RELOADING, "absent", 1)],
    ids=["before the change", "before the reload", "on the way back"],
)
def test_the_run_after_a_killed_one_puts_things_right(pbx: Pbx, moment: str, state: str, left: int) -> None:
    """No file is ever half written, and Asterisk reads in the end what the files say."""
    pbx.write("pjsip.conf", f"#tryinclude *.conf.d/*\n#tryinclude .*.conf\n{PJSIP_CONF}")
    start = pbx.read("pjsip.conf")
    if state == "absent":
        pbx.apply(MODULE, {})
    before = pbx.read("pjsip.conf")
    meanwhile(pbx, moment, f"kill -9 {PARENT}")
    killed(pbx, {"state": state})
    if moment == PREPARED:
        assert pbx.read("pjsip.conf") == before
    assert len(pbx.check(["sh", "-c", LEFT]).split()) == left
    pbx.cli("module reload res_pjsip.so")
    assert ".sipguard" not in pbx.cli("config list")
    repaired = pbx.apply(MODULE, {"state": state})
    assert repaired["changed"]
    assert repaired["reloaded"]
    assert not pbx.apply(MODULE, {"state": state})["changed"]
    assert pbx.check(["sh", "-c", LEFT]) == ""
    assert (pbx.read("pjsip.conf") == start) is (state == "absent")
    guest = "Endpoint:  anonymous" in pbx.cli("pjsip show endpoint anonymous")
    assert guest is (state == "absent")


def test_asterisk_that_dies_over_it(pbx: Pbx) -> None:
    before = pbx.digest("pjsip.conf")
    meanwhile(pbx, RELOADING, "kill -9 $(cat /run/asterisk/asterisk.pid)")
    said = pbx.module(MODULE, {})["msg"]
    assert "does not answer" in said
    assert "the files were put back, but Asterisk has not read them again" in said
    assert pbx.digest("pjsip.conf") == before
    assert pbx.check(["sh", "-c", LEFT]) == ""


def test_a_reload_that_does_nothing_is_noticed(pbx: Pbx) -> None:
    before = pbx.digest("pjsip.conf")
    answer = "echo \"Module 'res_pjsip.so' reloaded successfully.\"; exit"
    pbx.write(WRAPPER, f'#!/bin/sh\nif {RELOADING}; then {answer}; fi\nexec /usr/sbin/asterisk "$@"\n', mode=0o755)
    said = pbx.module(MODULE, {})["msg"]
    assert "Asterisk did not take it over, so the files were put back" in said
    assert "for Asterisk" in said
    assert pbx.digest("pjsip.conf") == before
    pbx.check(["rm", WRAPPER])
    assert pbx.apply(MODULE, {})["changed"]


BROKEN = "[1003](phone)\nno_such_option=1\naors=1001\n[John Doe](phone)\naors=1001\n[m\u00fcller](phone)\naors=1001\n"


@pytest.mark.parametrize("late", [False, True], ids=["from the start", "since"])
def test_what_was_refused_before_stays_refused(pbx: Pbx, late: bool) -> None:
    """The others are hardened, whatever they are called; that one is as it was."""
    if late:
        # it works, with an option that it may say, and is broken then
        pbx.boot({**PJSIP, "pjsip.conf": PJSIP_CONF + BROKEN.replace("no_such_option=1", "allow_transfer=yes")})
        pbx.write("pjsip.conf", PJSIP_CONF + BROKEN)
    else:
        pbx.boot({**PJSIP, "pjsip.conf": PJSIP_CONF + BROKEN})
    before = pbx.cli("pjsip show endpoint 1003")
    assert ("Unable to find" in before) is not late
    result = pbx.apply(MODULE, {"profile": "strict"})
    assert result["changed"]
    assert any("1003" in str(each) for each in result["warnings"])
    assert pbx.cli("pjsip show endpoint 1003") == before
    for name in ("1001", "1002"):
        assert "allow_transfer                     : false" in pbx.cli(f"pjsip show endpoint {name}")
    assert pbx.cli("pjsip show endpoints").count("m\u00fcller") == 1
    if not late:
        assert not pbx.apply(MODULE, {"profile": "strict"})["changed"]
    # and what is broken anew is our doing, and refused
    assert "allow_transfr" in pbx.refused(MODULE, {"settings": {"pjsip": {"endpoint": {"allow_transfr": "no"}}}})


def test_links_are_neither_followed_nor_replaced(pbx: Pbx) -> None:
    pbx.check(["sh", "-c", "echo 'x-root:$6$x-hash:1:0:9::::' >>/etc/shadow"])
    shadow = pbx.digest("/etc/shadow")
    pbx.write("/root/other.conf", "[2001]\ntype=endpoint\ncontext=x-hidden\n", owner="root", mode=0o600)
    for target, words in (("/etc/shadow", "pjsip.conf:1"), ("/root/other.conf", "symbolic link")):
        pbx.check(["ln", "-sf", target, "/etc/asterisk/pjsip.conf"])
        result = pbx.module(MODULE, {})
        assert result["failed"], result
        assert words in result["msg"], result
        assert not any(word in json.dumps(result) for word in ("x-root", "x-hash", "x-hidden"))
        assert pbx.check(["readlink", "/etc/asterisk/pjsip.conf"]).strip() == target
    assert pbx.digest("/etc/shadow") == shadow
    assert pbx.read("/root/other.conf") == "[2001]\ntype=endpoint\ncontext=x-hidden\n"
    # a folder on the way
    pbx.check(["sh", "-ec", "rm /etc/asterisk/pjsip.conf; mkdir /root/d; cp /root/other.conf /root/d/a.conf"])
    pbx.check(["ln", "-s", "/root/d", "/etc/asterisk/d"])
    pbx.write("pjsip.conf", "#include d/*.conf\n")
    assert "symbolic link" in pbx.module(MODULE, {"profile": "strict", "reload": False})["msg"]
    assert pbx.read("/root/d/a.conf") == "[2001]\ntype=endpoint\ncontext=x-hidden\n"
    # a second name of the file
    pbx.check(["rm", "/etc/asterisk/d"])
    pbx.write("pjsip.conf", PJSIP_CONF)
    pbx.check(["ln", "/etc/asterisk/pjsip.conf", "/root/second"])
    assert pbx.apply(MODULE, {})["changed"]
    assert pbx.read("/root/second") == PJSIP_CONF
    pbx.check(["rm", "-r", "/root/d", "/root/second", "/root/other.conf"])


def test_a_pipe_or_a_folder_in_the_place_of_a_file(pbx: Pbx) -> None:
    pbx.check(["sh", "-ec", "cd /etc/asterisk; mkfifo pipe.conf; mkdir folder.conf"])
    pbx.write("pjsip.conf", f"{PJSIP_CONF}#tryinclude pipe.conf\n#tryinclude folder.conf\n")
    assert pbx.apply(MODULE, {"reload": False})["changed"]
    pbx.check(["rm", "/etc/asterisk/pjsip.conf"])
    pbx.check(["mkfifo", "/etc/asterisk/pjsip.conf"])
    assert not pbx.apply(MODULE, {"reload": False})["changed"]


def test_a_folder_that_asterisk_cannot_read(pbx: Pbx) -> None:
    before = pbx.digest("pjsip.conf")
    pbx.check(["chmod", "000", "/etc/asterisk"])
    pbx.check(["chown", "root:", "/etc/asterisk"])
    try:
        said = pbx.module(MODULE, {})
    finally:
        pbx.check(["chmod", "755", "/etc/asterisk"])
    assert said["failed"]
    assert "the files were put back" in said["msg"]
    assert pbx.digest("pjsip.conf") == before
    assert pbx.check(["sh", "-c", LEFT]) == ""


def test_another_folder(pbx: Pbx) -> None:
    pbx.check(["mkdir", "-p", "/srv/ast"])
    pbx.write("/srv/ast/asterisk.conf", "[directories]\nastetcdir => /srv/ast\nastrundir => /srv/ast\n")
    pbx.write("/srv/ast/pjsip.conf", PJSIP_CONF)
    before = pbx.snapshot()
    assert "does not run" in pbx.refused(MODULE, {"config_dir": "/srv/ast"})
    result = pbx.apply(MODULE, {"config_dir": "/srv/ast", "reload": False})
    assert result["changed"]
    assert "sipguard" in pbx.read("/srv/ast/pjsip.conf")
    assert pbx.snapshot() == before
    pbx.check(["rm", "-r", "/srv/ast"])


def test_a_host_without_asterisk_is_left_alone(pbx: Pbx) -> None:
    pbx.check(["mv", "/usr/sbin/asterisk", "/usr/sbin/away"])
    try:
        before = pbx.snapshot()
        result = pbx.apply(MODULE, {"logger": {}, "manager": {}})
        assert not result["changed"]
        assert result["version"] == ""
        assert pbx.snapshot() == before
    finally:
        pbx.check(["mv", "/usr/sbin/away", "/usr/sbin/asterisk"])


def elsewhere(pbx: Pbx, folder: str) -> None:
    """Asterisk with its logs in that folder, as who has taken Asterisk over may say."""
    pbx.reset(PJSIP)
    pbx.write("asterisk.conf", f"[directories]\nastlogdir => {folder}\n" + pbx.read("asterisk.conf"))
    pbx.start()


def test_nothing_is_made_for_asterisk_where_it_may_make_nothing_itself(pbx: Pbx) -> None:
    pbx.check(["mkdir", "-m", "755", "/srv/roots"])
    try:
        elsewhere(pbx, "/srv/roots")
        pbx.apply(MODULE, {"logger": {}})
        assert pbx.check(["find", "/srv/roots", "-mindepth", "1"]) == ""
    finally:
        pbx.check(["rm", "-r", "/srv/roots"])


@pytest.mark.parametrize("folder", ["/srv/*", "/srv/a { rotate 1", "/srv/../etc"])
def test_a_folder_that_logrotate_would_misread_is_refused(pbx: Pbx, folder: str) -> None:
    elsewhere(pbx, folder)
    assert "astlogdir is " + folder in pbx.refused(MODULE, {"logger": {}})
    assert pbx.apply(MODULE, {})["changed"]
    pbx.four_runs(MODULE, {"state": "absent", "logger": {}})
    assert pbx.read("pjsip.conf") == PJSIP_CONF


def test_log_files_are_rotated_by_whom_they_belong_to(pbx: Pbx) -> None:
    """Also where Asterisk is root, as when it was built by hand, and where it does not run at the time."""
    pbx.reset(PJSIP)
    pbx.start(as_root=True)
    by_root = pbx.apply(MODULE, {"logger": {}})
    assert (by_root["log_user"], by_root["log_group"]) == ("root", "root")
    assert pbx.check(["stat", "-c", "%U %a", "/var/log/asterisk/sipguard-security"]).split() == ["root", "640"]
    pbx.boot(PJSIP)
    by_asterisk = pbx.apply(MODULE, {"logger": {}})
    assert (by_asterisk["log_user"], by_asterisk["log_group"]) == ("asterisk", "asterisk")
    pbx.stop()
    assert pbx.apply(MODULE, {"logger": {}})["log_user"] == "asterisk"
    # Of a folder of root's, whose the files are.
    pbx.check(["chown", "root:root", "/var/log/asterisk"])
    try:
        assert pbx.apply(MODULE, {"logger": {}})["log_user"] == "asterisk"
        pbx.check(["rm", "-f", "/var/log/asterisk/sipguard-security", "/var/log/asterisk/sipguard-notices"])
        assert pbx.apply(MODULE, {"logger": {}})["log_user"] == "root"
    finally:
        pbx.check(["chown", "asterisk:asterisk", "/var/log/asterisk"])


def test_who_reads_the_log_and_who_listens(pbx: Pbx) -> None:
    result = pbx.four_runs(MODULE, {"logger": {}, "manager": {}})
    text = pbx.read("manager.conf")
    secret = text.partition("secret=")[2].partition(" ;")[0]
    assert len(secret) >= 40
    assert secret not in say(result)
    again = pbx.apply(MODULE, {"logger": {}, "manager": {"user": "sipguard"}})
    assert not again["changed"]
    assert secret not in say(again)
    assert "********" not in say(again)
    for log in ("sipguard-security", "sipguard-notices"):
        assert pbx.check(["stat", "-c", "%U %a", f"/var/log/asterisk/{log}"]).split() == ["asterisk", "640"]
    assert pbx.check(["stat", "-c", "%U %a", "/etc/asterisk/manager.conf"]).split() == ["asterisk", "640"]
    ami = pbx.ami()
    assert ami.login("sipguard", secret)["Response"] == "Success"
    for action, headers in {
        "Command": {"Command": "core show version"},
        "Originate": {"Channel": "Local/1@phones", "Application": "NoOp"},
        "GetConfig": {"Filename": "manager.conf"},
    }.items():
        assert ami.action(action, **headers)["Message"] == "Permission denied", action
    assert pbx.sip("198.51.100.7", user="1001", password="wrong").register().status == 401
    event = ami.event("ChallengeResponseFailed")
    assert event["AccountID"] == "1001"
    assert "198.51.100.7" in event["RemoteAddress"]
    assert eventually(lambda: "ChallengeResponseFailed" in pbx.log("sipguard-security"))
    # the first line of each log is Asterisk's own banner
    lines = [json.loads(line) for line in pbx.log("sipguard-security").splitlines()[1:]]
    assert any("198.51.100.7" in str(line) for line in lines)
    assert pbx.ami(source="198.51.100.7").login("sipguard", secret)["Response"] == "Error"
    pbx.apply(MODULE, {"state": "absent"})
    assert pbx.run(["cat", "/etc/asterisk/manager.conf"]).stdout == ""


def test_who_listens_comes_in_where_the_manager_interface_has_one_address_alone(pbx: Pbx) -> None:
    """As for a program for the telephonists, on another machine: to this address this host itself comes from it."""
    own = "198.51.100.7"
    pbx.boot({**PJSIP, "manager.conf": f"[general]\nenabled=yes\nbindaddr={own}\n"})
    pbx.four_runs(MODULE, {"only": ["manager"], "manager": {}})
    secret = pbx.read("manager.conf").partition("secret=")[2].partition(" ;")[0]
    assert pbx.ami(source=own, address=own).login("sipguard", secret)["Response"] == "Success"
    assert pbx.ami(source="198.51.100.8", address=own).login("sipguard", secret)["Response"] == "Error"


def test_a_restart_is_needed_until_it_has_come(pbx: Pbx) -> None:
    tls = "[tls]\ntype=transport\nprotocol=tls\nbind=127.0.0.1:5061\nmethod=tlsv1\n"
    pbx.boot({**PJSIP, "pjsip.conf": PJSIP_CONF + tls})
    options = {"profile": "strict"}
    assert pbx.apply(MODULE, options)["restart_needed"] == ["pjsip.conf [tls] method"]
    again = pbx.apply(MODULE, options)
    assert not again["changed"]
    assert again["restart_needed"] == ["pjsip.conf [tls] method"]
    pbx.restart()
    assert pbx.apply(MODULE, options)["restart_needed"] == []


def test_only_the_excepted_phone_transfers(pbx: Pbx) -> None:
    exceptions = [{"name": "1002", "settings": {"allowtransfer": True}}]
    pbx.apply(MODULE, {"profile": "strict", "exceptions": exceptions})
    for user, secret, good in (("1001", SECRETS[0], False), ("1002", SECRETS[1], True)):
        phone = pbx.sip("127.0.0.2", user=user, password=secret)
        assert phone.register().status == 200
        assert phone.invite("1003").status == 200
        assert (phone.refer("1004").status == 202) is good


def test_chan_sip_is_put_back_too(pbx16: Pbx) -> None:
    pbx16.boot({"sip.conf": SIP_CONF, "extensions.conf": EXTENSIONS})
    before = pbx16.digest("sip.conf")
    dying = 'case "$*" in *"sip reload") :;; *) false;; esac'
    meanwhile(pbx16, dying, "kill -9 $(cat /run/asterisk/asterisk.pid)")
    try:
        assert "the files were put back" in pbx16.module(MODULE, {})["msg"]
    finally:
        pbx16.check(["rm", "-f", WRAPPER, "/root/once"])
    assert pbx16.digest("sip.conf") == before
    assert pbx16.check(["sh", "-c", LEFT]) == ""


@pytest.fixture
def freepbx(pbx22: Pbx, tmp_path: Path) -> Iterator[Pbx]:
    """Asterisk 22 with the files and links of a FreePBX."""
    root = build(tmp_path / "root")
    files = asterisk_files(root)
    pbx22.reset({name: text for name, text in files.items() if name not in ("asterisk.conf", "modules.conf")})
    links = {path.name: path.readlink() for path in (root / "etc/asterisk").iterdir() if path.is_symlink()}
    for name, target in links.items():
        pbx22.write(str(target), files[name])
        pbx22.check(["ln", "-sf", str(target), f"/etc/asterisk/{name}"])
    pbx22.write("/etc/freepbx.conf", "<?php\n", owner="root")
    pbx22.write("/usr/sbin/fwconsole", "#!/bin/sh\n", owner="root", mode=0o755)
    pbx22.start()
    yield pbx22
    pbx22.check(["rm", "-rf", "/etc/freepbx.conf", "/usr/sbin/fwconsole", "/var/www/html/admin"])


def test_freepbx_keeps_its_files(freepbx: Pbx) -> None:
    def custom(path: str) -> bool:
        return "_custom" in path or path == "/etc/asterisk"

    freepbx.write("pjsip_custom_post.conf", "; mine\n[mine]\ntype=acl\n")
    before = freepbx.snapshot()
    result = freepbx.four_runs(MODULE, {"profile": "strict"})
    after = freepbx.snapshot()
    changed = {path for path in before if before[path] != after.get(path)} | (set(after) - set(before))
    changed = {path for path in changed if path.startswith("/etc/asterisk")}
    assert changed, result
    assert all(custom(path) for path in changed), changed
    assert not any(word in say(result) for word in PASSWORDS)
    shown = " ".join(freepbx.cli("pjsip show endpoint 1001").split())
    assert "allow_transfer : false" in shown
    assert "user_agent : PBX" in " ".join(freepbx.cli("pjsip show settings").split())
    freepbx.four_runs(MODULE, {"state": "absent"})
    back = freepbx.snapshot()
    kept = {path for path in before if path.endswith(" content") and path.startswith("/etc/asterisk")}
    assert {path for path in kept if back.get(path) != before[path]} == set()


def remove(freepbx: Pbx, extension: str) -> None:
    """What FreePBX does when somebody removes it on its page: what it generates lacks it, custom files are as they were."""
    for name in ("pjsip.endpoint.conf", "pjsip.aor.conf", "pjsip.auth.conf"):
        blocks = re.split(r"(?m)^(?=\[)", freepbx.read(name))
        freepbx.write(name, "".join(each for each in blocks if not re.match(rf"\[{extension}(-auth)?\]", each)))
    freepbx.cli("module reload res_pjsip.so")
    assert eventually(lambda: "Unable to find object" in freepbx.cli(f"pjsip show endpoint {extension}"), pause=0.1)


@pytest.mark.parametrize("arguments", [{"profile": "strict"}, {"profile": "baseline"}, {"state": "absent"}], ids=str)
def test_extension_of_freepbx_that_was_removed_takes_its_addition_along(
    freepbx: Pbx, arguments: dict[str, Any]
) -> None:
    """Asterisk reads nothing behind an addition to what is not there: it is ours, so we put it right."""
    name = "pjsip.endpoint_custom_post.conf"
    theirs = "[provider](+^type$=^endpoint$)\nlanguage = xx\n"
    freepbx.write(name, theirs)
    freepbx.apply(MODULE, {"profile": "strict"})
    own, mine = freepbx.read(name).split(theirs)[::-1]
    assert "[1001](+" in own
    freepbx.write(name, own + theirs + mine)  # as where the page of an extension was before theirs
    remove(freepbx, "1001")
    assert "language : xx" not in " ".join(freepbx.cli("pjsip show endpoint provider").split())
    freepbx.four_runs(MODULE, arguments)
    text = freepbx.read(name)
    assert "[1001]" not in text
    assert theirs in text
    shown = " ".join(freepbx.cli("pjsip show endpoint provider").split())
    assert "language : xx" in shown
    assert ("allow_transfer : false" in shown) is (arguments.get("profile") == "strict")


def test_a_line_that_somebody_wrote_for_a_removed_extension_is_his(freepbx: Pbx) -> None:
    name = "pjsip.endpoint_custom_post.conf"
    freepbx.write(name, "[1001](+^type$=^endpoint$)\nlanguage = xx\n")
    freepbx.apply(MODULE, {"profile": "strict"})
    remove(freepbx, "1001")
    before = freepbx.snapshot()
    for arguments in ({"profile": "strict"}, {"state": "absent"}):
        assert "put it right first" in freepbx.module(MODULE, arguments)["msg"]
    assert freepbx.snapshot() == before


def test_what_the_wizard_makes_is_told(pbx: Pbx) -> None:
    assert "pjsip_wizard.conf" not in str(pbx.apply(MODULE, {"reload": False}).get("warnings"))
    wizard = "[3001]\ntype=wizard\nendpoint/context=phones\n"
    pbx.write("pjsip_wizard.conf", wizard)
    assert "pjsip_wizard.conf has objects of its own" in str(pbx.apply(MODULE, {})["warnings"])
    assert pbx.read("pjsip_wizard.conf") == wizard
