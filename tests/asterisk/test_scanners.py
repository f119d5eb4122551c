# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sipvicious, the real scanner, against a real Asterisk: what svwar and svcrack find before, and what after."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .harness import PJSIP_TRANSPORTS, Pbx

MODULE = "asterisk_sip_hardening"
EXTENSIONS = {"1003", "1007"}
WEAK, STRONG = "1003", "Kd83-pPq0-zT5x-Lw91"

CHAN_SIP = f"""\
[general]
context=nowhere
allowguest=yes
alwaysauthreject=no
[1003]
type=friend
host=dynamic
secret={WEAK}
context=phones
[1007]
type=friend
host=dynamic
secret={STRONG}
context=phones
"""
PJSIP = PJSIP_TRANSPORTS + "".join(
    f"""\
[{name}]
type=endpoint
context=phones
disallow=all
allow=alaw
auth={name}
aors={name}
[{name}]
type=auth
auth_type=userpass
username={name}
password={secret}
[{name}]
type=aor
max_contacts=2
"""
    for name, secret in (("1003", WEAK), ("1007", STRONG))
)
# strangers are told which numbers there are, and whose password to guess
GUESTS = "[anonymous]\ntype=endpoint\ncontext=nowhere\ndisallow=all\nallow=alaw\n"


def scan(pbx: Pbx, tool: str, *arguments: str, home: Path) -> str:
    """What svwar or svcrack says of 127.0.0.1, from the container's network."""
    program = f"import sys; from sipvicious.{tool} import main; sys.argv[0] = '{tool}'; main()"
    argv = ["nsenter", f"--net=/proc/{pbx.pid}/ns/net", sys.executable, "-c", program, *arguments, "127.0.0.1"]
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HOME": str(home)},
    )
    return done.stdout + done.stderr


def found(said: str) -> set[str]:
    """The extensions in svwar's table."""
    assert "found nothing" in said or "| Extension" in said, said
    return set(re.findall(r"^\| (\d+) +\|", said, re.MULTILINE))


def cracked(said: str) -> str:
    """The password in svcrack's table."""
    assert "found nothing" in said or "| Password" in said, said
    match = re.search(r"^\| 1003 +\| (\S+) +\|", said, re.MULTILINE)
    return match.group(1) if match else ""


@pytest.mark.parametrize(
    ("version", "name", "config", "method"),
    [
        ("16", "sip.conf", CHAN_SIP, "REGISTER"),
        ("16", "pjsip.conf", PJSIP + GUESTS, "INVITE"),
        ("22", "pjsip.conf", PJSIP + GUESTS, "INVITE"),
    ],
    ids=["16-chan_sip", "16-pjsip", "22-pjsip"],
)
def test_there_is_nothing_to_enumerate(
    version: str, name: str, config: str, method: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pbx: Pbx = request.getfixturevalue(f"pbx{version}")
    pbx.configure({name: config, "extensions.conf": "[phones]\nexten => 600,1,Answer()\n"})
    other = "chan_sip.so" if name == "pjsip.conf" else "chan_pjsip.so\nnoload => res_pjsip.so"
    pbx.write("modules.conf", f"{pbx.read('modules.conf')}noload => {other}\n")
    pbx.start()
    war = ("-m", method, "-e", "1001-1009", "--force")
    assert found(scan(pbx, "svwar", *war, home=tmp_path)) == EXTENSIONS
    assert cracked(scan(pbx, "svcrack", "-u", "1003", "-r", "1000-1005", home=tmp_path)) == WEAK
    result = pbx.apply(MODULE, {})
    assert found(scan(pbx, "svwar", *war, home=tmp_path)) == set()
    # a secret that is weak stays weak: the audit names it, and nobody else learns it
    weak = [each for each in result["findings"] if each["id"].startswith("weak-secret") or "secret" in each["id"]]
    assert [each for each in weak if "1003" in each["subjects"]], result["findings"]
    assert not any("1007" in each["subjects"] for each in weak)
    pbx.write(name, re.sub(rf"(secret|password)={WEAK}\n", r"\1=Vr27-xNc4-Ha66-Qt08\n", pbx.read(name)))
    pbx.cli("sip reload" if name == "sip.conf" else "module reload res_pjsip.so")
    assert cracked(scan(pbx, "svcrack", "-u", "1003", "-r", "1000-1005", home=tmp_path)) == ""
    # those whom it is for get in
    for user, secret in (("1003", "Vr27-xNc4-Ha66-Qt08"), ("1007", STRONG)):
        phone = pbx.sip("127.0.0.9", user=user, password=secret)
        assert phone.register().status == 200
        assert phone.invite("600").status == 200


def test_the_name_of_a_trunk_lets_nobody_in(pbx: Pbx) -> None:
    """A trunk without a password is known by its addresses; by its name in From as well, if nobody says otherwise."""
    trunk = (
        "[carrier]\ntype=endpoint\ncontext=in\ndisallow=all\nallow=alaw\n"
        "[carrier-ip]\ntype=identify\nendpoint=carrier\nmatch=127.0.0.34\n"
    )
    pbx.boot(
        {
            "pjsip.conf": PJSIP_TRANSPORTS + trunk,
            "extensions.conf": "[in]\nexten => _X.,1,Answer()\n same => n,Wait(1)\n",
        }
    )
    assert pbx.sip("198.51.100.66", name="carrier").invite("4930123").status == 200
    result = pbx.apply(MODULE, {})
    assert ("identify_by", "ip") in {(each["option"], each["after"]) for each in result["settings"]}
    assert pbx.sip("198.51.100.67", name="carrier").invite("4930123").status == 401
    assert pbx.sip("127.0.0.34", name="carrier").invite("4930123").status == 200
    assert pbx.sip("127.0.0.34", name="03055501234").invite("4930123").status == 200


def test_insecure_for_all_is_told_and_taken_out_by_strict(pbx16: Pbx) -> None:
    """A trunk may live by it, so baseline only warns; the trunk that says it itself goes on."""
    general = "[general]\nallowguest=no\ninsecure=port,invite\ncontext=nowhere\n"
    phone = "[1003]\ntype=friend\nhost=dynamic\nsecret=Vr27-xNc4-Ha66-Qt08\ncontext=phones\n"
    trunk = "[carrier]\ntype=peer\nhost=127.0.0.34\ninsecure=port,invite\ncontext=phones\n"
    pbx16.configure({"sip.conf": general + phone + trunk, "extensions.conf": "[phones]\nexten => 600,1,Answer()\n"})
    pbx16.write("modules.conf", f"{pbx16.read('modules.conf')}noload => chan_pjsip.so\nnoload => res_pjsip.so\n")
    pbx16.start()
    assert pbx16.sip("198.51.100.66", name="1003").invite("600").status == 200
    warned = pbx16.apply(MODULE, {})
    assert [each for each in warned["warnings"] if "sip.conf:3" in str(each) and "without a password" in str(each)], (
        warned["warnings"]
    )
    strict = pbx16.apply(MODULE, {"profile": "strict"})
    assert not [each for each in strict.get("warnings", []) if "insecure" in str(each)]
    assert pbx16.sip("198.51.100.67", name="1003").invite("600").status == 401
    assert pbx16.sip("127.0.0.34", name="0305550").invite("600").status == 200
