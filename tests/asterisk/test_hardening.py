# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on a real Asterisk: what strangers could do before and cannot afterwards, and what phones can all the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from .harness import PJSIP_TRANSPORTS, Pbx

MODULE = "asterisk_sip_hardening"

SIP_CONF = """\
; the site's own remark
[general]
context = unknown
allowguest = yes\t; everybody is welcome
udpbindaddr=[::]:5060
tcpenable=yes
tcpbindaddr=[::]:5060
disallow=all
allow=alaw
;-- once
allowtransfer=no
--;
[phone](!)
type=friend
host=dynamic
context=phones
allowtransfer=yes
[1001](phone)
secret=pT4v-Zq81-mWx6-Hn30
[1002](phone)
secret=Gd72-rKc9-Ls05-vBy1
"""
PJSIP_CONF = (
    PJSIP_TRANSPORTS
    + """\
; the site's own remark
[phone](!)
type=endpoint
context=phones
disallow=all
allow=alaw
[auth](!)
type=auth
auth_type=userpass
[aor](!)
type=aor
max_contacts=1
[1001](phone)
auth=1001
aors=1001
[1001](auth)
username=1001
password=pT4v-Zq81-mWx6-Hn30
[1001](aor)
[1002](phone)
auth=1002
aors=1002
allow_transfer = yes   ; the reception
[1002](auth)
username=1002
password=Gd72-rKc9-Ls05-vBy1
[1002](aor)
[anonymous]
type=endpoint
context=unknown
disallow=all
allow=alaw
"""
)
EXTENSIONS = """\
[phones]
exten => _100X,1,Answer()
 same => n,Wait(20)
[unknown]
exten => _X.,1,Verbose(1,a stranger is in)
 same => n,Answer()
 same => n,Wait(2)
"""
DRIVERS = [("16", "chan_sip"), ("16", "pjsip"), ("22", "pjsip")]
SECRETS = ("pT4v-Zq81-mWx6-Hn30", "Gd72-rKc9-Ls05-vBy1")

Boot = Callable[[], Pbx]


def files(driver: str) -> dict[str, str]:
    other = {"chan_sip": "chan_pjsip.so\nnoload => res_pjsip.so", "pjsip": "chan_sip.so"}[driver]
    name, text = ("sip.conf", SIP_CONF) if driver == "chan_sip" else ("pjsip.conf", PJSIP_CONF)
    return {name: text, "extensions.conf": EXTENSIONS, "noload": other}


@pytest.fixture(params=DRIVERS, ids=["-".join(each) for each in DRIVERS])
def hosted(request: pytest.FixtureRequest) -> tuple[Pbx, str]:
    """An Asterisk that has one driver and welcomes strangers, and the name of its file."""
    version, driver = request.param
    pbx: Pbx = request.getfixturevalue(f"pbx{version}")
    content = files(driver)
    noload = content.pop("noload")
    pbx.configure(content)
    modules = pbx.read("modules.conf")
    pbx.write("modules.conf", f"{modules}noload => {noload}\n")
    pbx.start()
    return pbx, "sip.conf" if driver == "chan_sip" else "pjsip.conf"


def say(result: dict[str, Any]) -> str:
    return str({key: value for key, value in result.items() if key != "invocation"})


def test_four_runs_and_back(hosted: tuple[Pbx, str]) -> None:
    pbx, name = hosted
    before = pbx.read_bytes(name)
    owner = pbx.check(["stat", "-c", "%U:%G %a", f"/etc/asterisk/{name}"])
    options = {"profile": "strict", "exceptions": [{"name": "1002", "settings": {"allow_transfer": True}}]}
    result = pbx.four_runs(MODULE, options)
    assert pbx.check(["stat", "-c", "%U:%G %a", f"/etc/asterisk/{name}"]) == owner
    assert result["drivers"] == ["chan_sip" if name == "sip.conf" else "pjsip"]
    assert result["reloaded"]
    assert result["effective"]
    assert result["backup"]
    assert not any(secret in say(result) for secret in SECRETS)
    backed_up = pbx.check(["cat", f"{result['backup']}/etc/asterisk/{name}"]).encode()
    assert backed_up == before
    assert pbx.check(["stat", "-c", "%U %a", result["backup"]]).split() == ["root", "700"]
    # what was not asked for stands as it stood
    kept = [line for line in before.splitlines() if not re.match(rb"allow(guest|_?transfer)|\[anonymous\]", line)]
    after = pbx.read_bytes(name).splitlines()
    assert [line for line in after if line in kept] == kept
    pbx.four_runs(MODULE, {"state": "absent"})
    assert pbx.read_bytes(name) == before


def test_strangers_are_refused_and_phones_are_not(hosted: tuple[Pbx, str]) -> None:
    pbx, _name = hosted
    stranger = pbx.sip("198.51.100.7", name="bob")
    assert stranger.invite("12345").status == 200, "before, a stranger reaches a context"
    pbx.apply(MODULE, {})
    for transport in ("udp", "tcp"):
        for source in ("198.51.100.8", "2001:db8::8"):
            assert pbx.sip(source, transport, name="bob").invite("12345").status in (401, 403, 407)
    phone = pbx.sip("127.0.0.2", user="1001", password=SECRETS[0])
    assert phone.register().status == 200
    assert phone.invite("1002").status == 200


def test_a_call_goes_on_through_the_reload(hosted: tuple[Pbx, str]) -> None:
    pbx, _name = hosted
    phone = pbx.sip("127.0.0.2", user="1001", password=SECRETS[0])
    assert phone.register().status == 200
    assert phone.invite("1002").status == 200
    channel = re.findall(r"^(?:SIP|PJSIP)/1001-\w+", pbx.cli("core show channels"), re.MULTILINE)
    assert channel
    result = pbx.apply(MODULE, {"profile": "strict"})
    assert result["changed"]
    assert result["reloaded"]
    assert re.findall(r"^(?:SIP|PJSIP)/1001-\w+", pbx.cli("core show channels"), re.MULTILINE) == channel
    assert phone.bye().status == 200


def test_names_cannot_be_told_apart(hosted: tuple[Pbx, str]) -> None:
    pbx, _name = hosted
    pbx.apply(MODULE, {"profile": "strict"})
    answers = {
        (user, phone.register().status, phone.options().status)
        for user in ("1001", "nobody")
        for phone in [pbx.sip("198.51.100.9", user=user, password="wrong")]
    }
    assert len({answer[1:] for answer in answers}) == 1, answers


def test_bad_input_changes_nothing(hosted: tuple[Pbx, str]) -> None:
    pbx, name = hosted
    key = "sip" if name == "sip.conf" else "pjsip"
    scope = "general" if key == "sip" else "endpoint"
    good = "allowtransfer" if key == "sip" else "allow_transfer"
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"settings": {key: {scope: {"allow_transfr": "no"}}}}, ["allow_transfr", good]),
        ({"settings": {key: {scope: {good: "maybe"}}}}, [good, "maybe", "yes or no"]),
        ({"settings": {"iax": {}}}, ["iax", "pjsip"]),
        ({"settings": {key: {"nothing": {}}}}, ["nothing", scope]),
        ({"settings": {key: {scope: {good: "no\n[x]"}}}}, [good]),
        ({"exceptions": [{"name": "1001", "settings": {"secret": "Geheim-5512"}}]}, ["secret"]),
        ({"drivers": ["chan_sip" if key == "pjsip" else "pjsip"]}, ["drivers", "pjsip"]),
        ({"config_dir": "etc"}, ["config_dir", "absolute"]),
        ({"config_dir": "/etc/astersik", "audit_only": True}, ["config_dir", "/etc/astersik"]),
        ({"settings": {"sip": {"general": {"nope": 1}}, "pjsip": {"endpoint": {"nope": 1}}}}, ["nope"]),
        ({"logger": {"files": {"../x": "notice"}}}, ["logger.files", "../x"]),
        ({"logger": {"files": {"x": "noise"}}}, ["logger.files.x", "noise"]),
        ({"manager": {"secret": "short"}}, ["manager.secret", "16"]),
        ({"waive": [{"waive": "no-such-finding", "reason": "x"}]}, ["no-such-finding"]),
        ({"min_secret_length": 0}, ["min_secret_length", "1 to 128"]),
    ]
    for options, words in cases:
        said = pbx.refused(MODULE, options)
        assert all(word in said for word in words), said
        assert "Geheim" not in said
        assert "short'" not in said
    assert "Asterisk" in pbx.cli("core show version")


def test_files_that_asterisk_refuses_are_not_edited(hosted: tuple[Pbx, str]) -> None:
    pbx, name = hosted
    good = pbx.read(name)
    for bad, words in {
        "[1003](nothing)\n": "inheritance",
        "#include missing.conf\n": "does not exist",
        "[1003\n": "closing ]",
        "k=v --; x\n": "block comment",
    }.items():
        pbx.write(name, f"{good}{bad}")
        said = pbx.refused(MODULE, {})
        assert words in said
        assert f"{name}:" in said
    pbx.write(name, good)
    assert pbx.apply(MODULE, {})["changed"]


def test_asterisk_that_does_not_run_is_not_guessed_at(hosted: tuple[Pbx, str]) -> None:
    pbx, _name = hosted
    pbx.stop()
    assert "does not run" in pbx.refused(MODULE, {})
    edited = pbx.apply(MODULE, {"reload": False})
    assert edited["changed"]
    assert not edited["reloaded"]
    pbx.start()
    again = pbx.apply(MODULE, {})
    assert not again["changed"]
    assert again["effective"]


def test_asterisk_that_does_not_run_can_be_asked_about_and_left(hosted: tuple[Pbx, str]) -> None:
    """A look says what differs; what may wait for the next start is written, and so is what stood there before us."""
    pbx, name = hosted
    text = pbx.read(name)
    pbx.apply(MODULE, {})
    pbx.stop()
    looked = pbx.apply(MODULE, {"profile": "strict"}, check=True)
    assert looked["changed"]
    assert not looked["running"]
    assert "it has to be started first" in str(looked["warnings"])
    companions = pbx.four_runs(MODULE, {"logger": {}, "manager": {}, "only": ["logger", "manager"]})
    assert "it reads that when it starts" in str(companions["warnings"])
    pbx.four_runs(MODULE, {"state": "absent"})
    assert pbx.read(name) == text
    assert "sipguard" not in pbx.read("manager.conf") + pbx.read("logger.conf")
    pbx.start()
    assert not pbx.apply(MODULE, {"state": "absent"})["changed"]


def test_what_was_edited_and_never_read_is_read(hosted: tuple[Pbx, str]) -> None:
    pbx, _name = hosted
    pbx.apply(MODULE, {"reload": False})
    stranger = pbx.sip("198.51.100.7", name="bob")
    assert stranger.invite("12345").status == 200, "nobody has told Asterisk yet"
    result = pbx.apply(MODULE, {})
    assert result["changed"]
    assert result["reloaded"]
    assert not pbx.apply(MODULE, {})["changed"]
    assert pbx.sip("198.51.100.8", name="bob").invite("12345").status in (401, 403)


def test_the_inventory_alone_decides_what_is_written(hosted: tuple[Pbx, str]) -> None:
    """What is not wanted any more goes, and what stood there before comes back."""
    pbx, name = hosted
    before = pbx.read_bytes(name)
    pbx.four_runs(MODULE, {"profile": "baseline"})
    baseline = pbx.read_bytes(name)
    key, scope, option = (
        ("sip", "general", "rtptimeout") if name == "sip.conf" else ("pjsip", "endpoint", "rtp_timeout")
    )
    exceptions = [{"name": "1002", "settings": {"allow_transfer": True}}]
    result = pbx.four_runs(MODULE, {"profile": "strict", "exceptions": exceptions, "logger": {}, "manager": {}})
    assert result["settings"]
    assert all(each["before"] != each["after"] for each in result["settings"]), result["settings"]
    assert transfers(pbx, name) == {"1001": "no", "1002": "yes"}
    result = pbx.four_runs(MODULE, {"profile": "strict"})
    assert transfers(pbx, name) == {"1001": "no", "1002": "no"}
    assert ("sipguard", "secret") in {(each["section"], each["option"]) for each in result["settings"]}
    assert "sipguard" not in pbx.read("manager.conf") + pbx.read("logger.conf")
    pbx.four_runs(MODULE, {"profile": "strict", "settings": {key: {scope: {option: None}}}})
    result = pbx.four_runs(MODULE, {"profile": "baseline"})
    assert {each["why"] for each in result["settings"]} == {"it is not wanted any more"}
    assert pbx.read_bytes(name) == baseline
    pbx.apply(MODULE, {"state": "absent"})
    assert pbx.read_bytes(name) == before


def transfers(pbx: Pbx, name: str) -> dict[str, str]:
    """Whether each telephone may transfer, as Asterisk says."""
    found = {}
    for phone in ("1001", "1002"):
        if name == "sip.conf":
            said = pbx.cli(f"sip show peer {phone}")
            found[phone] = {"open": "yes", "closed": "no"}[re.findall(r"Transfer mode\s*: (\w+)", said)[0]]
        else:
            said = pbx.cli(f"pjsip show endpoint {phone}")
            found[phone] = {"true": "yes", "false": "no"}[re.findall(r"allow_transfer\s*: (\w+)", said)[0]]
    return found
