# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asterisk with the files of a FreePBX: what stands in the places for settings is what Asterisk then does."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import freepbx_transports
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.freepbx import PLACES, CustomPlace, place_for
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import ConfigDirectory, load
from tests.asterisk.harness import Pbx
from tests.fixtures.freepbx import asterisk_files, build

# (file, scope), section, options, CLI command, what it says when they count. Names exist as FreePBX's fixture has them.
SETTINGS = [
    ("pjsip.conf", "global", "", {"max_forwards": "33"}, "pjsip show settings", "max_forwards : 33"),
    ("pjsip.conf", "endpoint", "1001", {"allow_transfer": "no"}, "pjsip show endpoint 1001", "allow_transfer : false"),
    (
        "pjsip.conf",
        "endpoint",
        "provider",
        {"allow_overlap": "no"},
        "pjsip show endpoint provider",
        "allow_overlap : false",
    ),
    ("pjsip.conf", "aor", "1001", {"minimum_expiration": "77"}, "pjsip show aor 1001", "minimum_expiration : 77"),
    ("pjsip.conf", "aor", "provider", {"qualify_frequency": "33"}, "pjsip show aor provider", "qualify_frequency : 33"),
    ("pjsip.conf", "auth", "1001-auth", {"nonce_lifetime": "33"}, "pjsip show auth 1001-auth", "nonce_lifetime : 33"),
    ("pjsip.conf", "auth", "provider", {"nonce_lifetime": "44"}, "pjsip show auth provider", "nonce_lifetime : 44"),
    (
        "pjsip.conf",
        "transport",
        "0.0.0.0-udp",
        {"allow_reload": "yes"},
        "pjsip show transport 0.0.0.0-udp",
        "allow_reload : true",
    ),
    (
        "pjsip.conf",
        "identify",
        "provider",
        {"srv_lookups": "no"},
        "pjsip show identify provider",
        "srv_lookups : false",
    ),
    (
        "pjsip.conf",
        "registration",
        "provider",
        {"max_retries": "3"},
        "pjsip show registration provider",
        "max_retries : 3",
    ),
    ("pjsip.conf", "system", "system", {"type": "system", "timer_t1": "600"}, "pjsip show settings", "timer_t1 : 600"),
    (
        "manager.conf",
        "general",
        "general",
        {"bindaddr": "127.0.0.1"},
        "manager show settings",
        "TCP Bindaddress: 127.0.0.1:5038",
    ),
    (
        "manager.conf",
        "user",
        "sipguard",
        {"secret": "x-fixture", "read": "security"},
        "manager show user sipguard",
        "security",
    ),
    (
        "logger.conf",
        "logfiles",
        "",
        {"sipguard": "security"},
        "logger show channels",
        "sipguard File default Enabled - SECURITY",
    ),
    (
        "extensions.conf",
        "context",
        "from-internal-custom",
        {"exten": "777,1,Hangup()"},
        "dialplan show 777@from-internal",
        "Hangup()",
    ),
]
CHAN_SIP = [
    ("sip.conf", "general", "", {"allowguest": "no"}, "sip show settings", "Allow unknown access: No"),
    ("sip.conf", "general", "", {"maxexpiry": "601"}, "sip show settings", "Reg. max duration: 601 secs"),
    ("sip.conf", "peer", "1002", {"allowtransfer": "no"}, "sip show peer 1002", "Transfer mode: closed"),
    ("sip.conf", "peer", "1002", {"callcounter": "yes", "call-limit": "3"}, "sip show peer 1002", "Call limit : 3"),
]
Setting = tuple[str, str, str, dict[str, str], str, str]


@pytest.fixture(scope="module")
def freepbx(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of /etc/asterisk, links followed."""
    files = asterisk_files(build(tmp_path_factory.mktemp("freepbx") / "root"))
    # Which modules there are is a matter of the container.
    return {name: text for name, text in files.items() if name not in ("asterisk.conf", "modules.conf")}


def written(files: dict[str, str], folder: Path, settings: list[Setting]) -> dict[str, str]:
    """The files with the settings at their places."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    added = dict(files)
    for file, scope, section, options, _command, _said in settings:
        place = place_for(file, scope)
        header = place.header(load(ConfigDirectory(str(folder)), file), section)
        lines = [header] if header else []
        if place.type == "acl":
            lines.append("type = acl")
        added[place.file] += "".join(
            f"{line}\n" for line in [*lines, *(f"{key} = {value}" for key, value in options.items())]
        )
    return added


def words(text: str) -> str:
    return " ".join(text.split())


def complaints(pbx: Pbx) -> set[str]:
    """What Asterisk could not make of its configuration."""
    sources = ("config.c: ", "config_options.c: Could", "res_sorcery_config.c: ")
    found = {line.split(": ", 1)[1] for line in pbx.log().splitlines() if any(each in line for each in sources)}
    return {line for line in found if "does not exist" in line or "Could not" in line}


def test_every_place_is_tried() -> None:
    tried = {each[:2] for each in (*SETTINGS, *CHAN_SIP)}
    # No command shows an ACL of PJSIP or the date format of logs: they have tests of their own.
    assert set(PLACES) - tried == {("pjsip.conf", "acl"), ("logger.conf", "general")}


def test_settings_count_at_their_places(pbx: Pbx, freepbx: dict[str, str], tmp_path: Path) -> None:
    settings: list[Setting] = SETTINGS if pbx.version == "22" else [*SETTINGS, *CHAN_SIP]
    pbx.boot(freepbx)
    before = {command: words(pbx.cli(command)) for *_rest, command, _said in settings}
    # The twin: none of it is so without the lines.
    assert [said for *_rest, command, said in settings if said in before[command]] == []
    # FreePBX's own identify without a match is one.
    complained = complaints(pbx)
    pbx.boot(written(freepbx, tmp_path, settings))
    after = {command: words(pbx.cli(command)) for *_rest, command, _said in settings}
    assert [(command, said) for *_rest, command, said in settings if said not in after[command]] == []
    assert complaints(pbx) == complained


def test_an_acl_keeps_strangers_out(pbx: Pbx, freepbx: dict[str, str], tmp_path: Path) -> None:
    rule: Setting = ("pjsip.conf", "acl", "sipguard", {"deny": "0.0.0.0/0.0.0.0", "permit": "192.0.2.1"}, "", "")
    pbx.boot(freepbx)
    assert answer(pbx) == 401
    pbx.boot(written(freepbx, tmp_path, [rule]))
    assert answer(pbx) == 403


def answer(pbx: Pbx) -> int:
    """The status of a REGISTER's answer."""
    return pbx.sip(name="1001").register().status


def test_the_general_section_of_the_logger(pbx: Pbx, freepbx: dict[str, str], tmp_path: Path) -> None:
    """First wins here: what FreePBX writes itself, the date's format, cannot be changed."""
    options = {"appendhostname": "yes", "dateformat": "date-%s"}
    pbx.boot(written(freepbx, tmp_path, [("logger.conf", "general", "", options, "", "")]))
    host = pbx.check(["cat", "/proc/sys/kernel/hostname"]).strip()
    assert f"/full.{host} " in pbx.cli("logger show channels")
    assert "[date-" not in pbx.log(f"full.{host}")


@pytest.mark.parametrize(
    ("line", "hit"), [("[1001](+^type$=^aor$)", True), ("[1001](+)", False)], ids=["with a filter", "without"]
)
def test_an_addition_without_filter_hits_the_endpoint(pbx: Pbx, freepbx: dict[str, str], line: str, hit: bool) -> None:
    """Both are in the same place. The second is what the advice on the web says, and takes the telephone away at the next start."""
    place: CustomPlace = place_for("pjsip.conf", "aor")
    pbx.boot({**freepbx, place.file: f"{line}\nremove_existing = no\n"})
    assert ("remove_existing : false" in words(pbx.cli("pjsip show aor 1001"))) is hit
    assert ("Unable to find object 1001" not in words(pbx.cli("pjsip show endpoint 1001"))) is hit


def test_an_addition_to_nothing_loses_what_is_below_it(pbx: Pbx, freepbx: dict[str, str]) -> None:
    """Why the header wants to see the configuration first. Asterisk goes on with the files after it as if nothing were wrong."""
    place = place_for("pjsip.conf", "endpoint")
    ours = "[1001](+^type$=^endpoint$)\nallow_transfer = no\n"
    pbx.boot({**freepbx, place.file: f"[9999](+^type$=^endpoint$)\n{ours}"})
    assert "allow_transfer : true" in words(pbx.cli("pjsip show endpoint 1001"))
    pbx.boot({**freepbx, place.file: ours})
    assert "allow_transfer : false" in words(pbx.cli("pjsip show endpoint 1001"))


TRANSPORTS = "pjsip.transports.conf"
UDP = "[0.0.0.0-udp]\ntype=transport\nprotocol=udp\nbind=0.0.0.0:5060\nallow_reload=no\n"
TLS = (
    "[0.0.0.0-tls]\ntype=transport\nprotocol=tls\nbind=0.0.0.0:5061\nmethod=tlsv1_2\nverify_client=no\n"
    "external_media_address=192.0.2.1\nallow_reload=no\n"
)
TCP = "[0.0.0.0-tcp]\ntype=transport\nprotocol=tcp\nbind=0.0.0.0:5060\nallow_reload=no\n"
ALLOWED = "allow_reload=yes\n"


def changed(old: str, new: str, before: str = UDP + TLS) -> tuple[str, str]:
    assert old in before
    return before, before.replace(old, new, 1)


def allowed(text: str) -> str:
    return text.replace("allow_reload=no\n", ALLOWED)


# What FreePBX has written, what it writes anew, and what of that waits for a restart.
CHANGES = {
    "port": (*changed("0:5060", "0:5070"), ["[0.0.0.0-udp] bind"]),
    "port, from now on reloadable": (*changed(UDP, allowed(UDP).replace("0:5060", "0:5070")), []),
    "method": (*changed("tlsv1_2", "tlsv1_1"), ["[0.0.0.0-tls] method"]),
    "method, from now on reloadable": (*changed(TLS, allowed(TLS).replace("tlsv1_2", "tlsv1_1")), []),
    "verification": (*changed("verify_client=no", "verify_client=yes"), ["[0.0.0.0-tls] verify_client"]),
    "address behind a NAT": (*changed("address=192.0.2.1", "address=192.0.2.2"), []),
    "a new one": (*changed(UDP, UDP + TCP), []),
    "one less": (*changed(TLS, ""), ["[0.0.0.0-tls]"]),
    "one less, reloadable": (*changed(allowed(TLS), "", UDP + allowed(TLS)), ["[0.0.0.0-tls]"]),
}


def transports(pbx: Pbx) -> tuple[str, str]:
    """The sockets of SIP, and what Asterisk says of its transports."""
    said = [words(pbx.cli(f"pjsip show transport 0.0.0.0-{each}")) for each in ("udp", "tls", "tcp")]
    listed = pbx.check(["ss", "-Hlntu"]).splitlines()
    sockets = {" ".join(line.split()[0:5:4]) for line in listed}
    return " ".join(sorted(each for each in sockets if each.rpartition(":")[2] in ("5060", "5061", "5070"))), str(said)


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_reload_does_not_bring_waits_for_a_restart(
    pbx: Pbx, freepbx: dict[str, str], tmp_path: Path, name: str
) -> None:
    *texts, waits = CHANGES[name]
    assert UDP in freepbx[TRANSPORTS]
    files = [{**freepbx, TRANSPORTS: freepbx[TRANSPORTS].replace(UDP, str(text))} for text in texts]
    read = []
    for number, each in enumerate(files):
        folder = tmp_path / str(number)
        folder.mkdir()
        for file, content in each.items():
            (folder / file).write_text(content, encoding="utf-8")
        read.append(freepbx_transports.read(str(folder)))
    assert freepbx_transports.waiting(*read) == [f"{TRANSPORTS} {each}" for each in waits]
    pbx.boot(files[0])
    pbx.write(TRANSPORTS, files[1][TRANSPORTS])
    pbx.cli("core reload")
    reloaded = transports(pbx)
    pbx.restart()
    assert (reloaded != transports(pbx)) is bool(waits), reloaded
