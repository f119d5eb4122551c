# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asterisk 16 and 22, attacked over the wire: which lines that makes, who can forge them, and whom the filters find in them."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.asterisk.harness import IMAGES, Pbx, eventually

from .attack_table import (
    ATTACKS,
    GUESTS,
    PASSWORD,
    PORTS,
    VICTIM,
    Attack,
    configuration,
    iax_peer,
    manager_user,
    sip_conf,
)
from .attacks import DOMAIN, Caller, Iax, Request, credentials

FILTERS = "roles/pbx_fail2ban/files/filter.d"
NOTICES, SECURITY, ERRORS = "sipguard-notices", "sipguard-security", "sipguard-errors"
PLAIN_NOTICES, PLAIN_SECURITY = "plain-notices", "plain-security"
FILES = (NOTICES, SECURITY, PLAIN_NOTICES, PLAIN_SECURITY)
OF_FILE = {NOTICES: "sipguard-asterisk", SECURITY: "sipguard-asterisk-security"}
CHALLENGE = "sipguard-asterisk-challenge"
MODES = {NOTICES: ("login", "scan", "all"), SECURITY: ("stream", "udp", "all")}
ATTACKED = "/root/attacked"
MARKER = "127.0.0.250"

# What a careful filter for plain files looks for: anchored at both ends, nothing of the attacker's before the address.
WHOLE_LINE = re.compile(
    r"^\[[\d -]{11}[\d:]{8}\] (?:NOTICE|WARNING|SECURITY)\[\d+\](?:\[C-\w+\])? \S+: "
    r"(?:(?P<a>[\d.]+) failed to authenticate|Registration from '[^']*' failed for '(?P<b>[\d.]+):\d+' - Wrong password)$",
    re.MULTILINE,
)


@dataclass
class Lines:
    """What one sender has left in each file."""

    source: str
    written: dict[str, bytes]

    def messages(self, name: str) -> list[str]:
        """The messages of a file in JSON; of a line that Asterisk cut off, the line."""
        found = []
        for line in self.written[name].splitlines():
            try:
                found.append(json.loads(line)["logmsg"]["message"])
            except ValueError:
                found.append(line.decode("utf-8", "surrogateescape"))
        return found


class Site:
    """One Asterisk, and what it has written of each attack."""

    def __init__(self, pbx: Pbx) -> None:
        self.pbx = pbx
        self._hosts = 0
        self._offsets = dict.fromkeys((*FILES, ERRORS), 0)
        self._found: dict[tuple[str, ...], set[str]] = {}
        pbx.boot(configuration(pbx))
        pbx.check(
            ["sh", "-c", f"cp /opt/under-test/ansible_collections/sipguard/pbx/{FILTERS}/* /etc/fail2ban/filter.d/"]
        )
        self.watch(str)  # what is said at the start
        self.left = {name: self.attack(each) for name, each in self._mine(hardened=False)}
        if pbx.version == "16":
            pbx.write("sip.conf", sip_conf(hardened=True))
            pbx.cli("sip reload")
            settings = "Allow unknown access:   No"
            assert eventually(lambda: settings in pbx.cli("sip show settings")), pbx.cli("sip show settings")
            self.left |= {name: self.attack(each) for name, each in self._mine(hardened=True)}
        pbx.check(["sh", "-c", f"mkdir -p {ATTACKED} && cp /var/log/asterisk/*-* {ATTACKED}"])

    def _mine(self, *, hardened: bool) -> Iterator[tuple[str, Attack]]:
        for name, each in ATTACKS.items():
            if self.pbx.version in each.versions() and each.hardened == hardened:
                yield name, each

    def read(self, name: str) -> bytes:
        """A log as it is now."""
        with contextlib.suppress(FileNotFoundError):
            return Path(f"/proc/{self.pbx.pid}/root/var/log/asterisk/{name}").read_bytes()
        return b""

    def address(self, family: int = 4) -> str:
        """An address that nobody has had."""
        self._hosts += 1
        return f"2001:db8::{self._hosts:x}" if family == 6 else f"198.51.100.{self._hosts}"

    def attack(self, attack: Attack) -> Lines:
        """What is written of an attack."""
        return self.watch(lambda source: attack.run(self.pbx, source), family=attack.family, silent=attack.silent)

    def watch(self, act: Callable[[str], Any], *, family: int = 4, silent: bool = False) -> Lines:
        """What is written while somebody acts from the address given; of who gets no answer there has to be a line."""
        source = self.address(family)
        act(source)
        if silent:
            assert eventually(lambda: self._new(source), pause=0.001), f"nothing was written of {source}"
        # what was said before is written before, in each file
        marker = f"marker-{self._hosts}-{family}"
        if self.pbx.version == "16":  # chan_sip answers first and speaks then, but takes one request after another
            with Caller(self.pbx, MARKER, PORTS["chan_sip"]) as caller:
                assert caller.ask(Request(method="OPTIONS")).status, marker
        with Caller(self.pbx, MARKER, PORTS["pjsip"]) as caller:
            caller.ask(Request(call_id=marker))
        assert eventually(lambda: all(marker.encode() in self.read(name) for name in FILES), pause=0.001), marker
        written = {}
        for name, offset in self._offsets.items():
            data = self.read(name)[offset:]
            self._offsets[name] = offset + len(data)
            kept = [line for line in data.splitlines(keepends=True) if MARKER.encode() not in line]
            written[name] = b"".join(kept)
        return Lines(source, written)

    def _new(self, source: str) -> bool:
        return any(source.encode() in self.read(name)[self._offsets[name] :] for name in FILES)

    def found(self, name: str, log: str, **options: str) -> set[str]:
        """The addresses that one of our filters finds in a log as it was after all attacks."""
        given = ",".join(f"{key}={value}" for key, value in options.items())
        key = (name, log, given)
        if key not in self._found:
            done = self.pbx.run(["fail2ban-regex", "--out", "ip", f"{ATTACKED}/{log}", f"{name}[{given}]"])
            assert done.returncode in (0, 1), done.stdout + done.stderr
            assert "ERROR" not in done.stderr, done.stderr
            self._found[key] = set(done.stdout.split()) - {MARKER}
        return self._found[key]

    def search(self, left: Lines, log: str, mode: str) -> set[str]:
        """The addresses found in what was written of one sender, in a file for notices."""
        self.pbx.write(f"{ATTACKED}/{left.source}", left.written[log])
        return self.found("sipguard-asterisk", left.source, mode=mode)


CASES = [
    pytest.param(version, name, id=f"{version}, {name}")
    for version in IMAGES
    for name, each in ATTACKS.items()
    if version in each.versions()
]
FORGED = [case for case in CASES if ATTACKS[str(case.values[1])].forges]


@pytest.fixture(scope="module")
def site16(container16: Pbx) -> Site:
    """Asterisk 16 after all attacks."""
    return Site(container16)


@pytest.fixture(scope="module")
def site22(container22: Pbx) -> Site:
    """Asterisk 22 after all attacks."""
    return Site(container22)


@pytest.fixture(params=list(IMAGES))
def site(request: pytest.FixtureRequest) -> Site:
    """Each Asterisk after all attacks."""
    made: Site = request.getfixturevalue(f"site{request.param}")
    return made


@pytest.mark.parametrize(("version", "name"), CASES)
def test_the_true_source_is_found_where_it_counts(version: str, name: str, request: pytest.FixtureRequest) -> None:
    site: Site = request.getfixturevalue(f"site{version}")
    attack, left = ATTACKS[name], site.left[name]
    for log, wanted in ((NOTICES, attack.notices), (SECURITY, attack.security)):
        seen = {mode for mode in MODES[log] if left.source in site.found(OF_FILE[log], log, mode=mode)}
        assert seen == ({*wanted.split(), "all"} if wanted else set()), (log, left.messages(log))


def test_nobody_else_is_found_in_json(site: Site) -> None:
    sources = {left.source for left in site.left.values()}
    for log, modes in MODES.items():
        for mode in modes:
            assert site.found(OF_FILE[log], log, mode=mode) <= sources, (log, mode)
    assert site.found("sipguard-asterisk", NOTICES, mode="all", authenticated_callers="yes") <= sources
    assert site.found(CHALLENGE, SECURITY, udp="yes") <= sources


def test_a_known_phone_with_a_wrong_number_is_found_only_if_asked_for(site: Site) -> None:
    callers = {left.source for name, left in site.left.items() if name.endswith("named phone, wrong number")}
    found = site.found("sipguard-asterisk", NOTICES, mode="scan", authenticated_callers="yes")
    assert callers <= found
    assert found - callers == site.found("sipguard-asterisk", NOTICES, mode="scan")


def test_maddr_chooses_the_address_in_events_of_chan_sip(site16: Site) -> None:
    """Therefore they are not read unless somebody asks for it."""
    event = "".join(site16.left["chan_sip, maddr, foreign domain"].messages(SECURITY))
    assert f'RemoteAddress="IPV4/UDP/{VICTIM}/' in event
    assert VICTIM in site16.found("sipguard-asterisk-security", SECURITY, mode="udp", chan_sip="yes")
    assert VICTIM not in site16.found("sipguard-asterisk-security", SECURITY, mode="stream", chan_sip="yes")


def test_a_line_in_json_is_whole_or_cut_off(site: Site) -> None:
    """It is never two, and what is cut off has no end that a filter would take."""
    for log in OF_FILE:
        head, *lines = site.pbx.read_bytes(f"{ATTACKED}/{log}").splitlines()
        assert b"] Asterisk " in head
        for line in lines:
            assert line.startswith(b'{"hostname":"","timestamp":"')
            try:
                assert json.loads(line)["logmsg"]["level"] in ("NOTICE", "WARNING", "SECURITY")
            except ValueError:
                assert len(line) == 8191
                assert not line.endswith(b'"}}')


@pytest.mark.parametrize(("version", "name"), FORGED)
def test_whole_lines_can_be_forged_in_plain_files_only(version: str, name: str, request: pytest.FixtureRequest) -> None:
    site: Site = request.getfixturevalue(f"site{version}")
    left, plain = site.left[name], ATTACKS[name].forges
    text = left.written[plain].decode("utf-8", "surrogateescape")
    assert {found["a"] or found["b"] for found in WHOLE_LINE.finditer(text)} == {VICTIM}, text
    json_log = plain.replace("plain", "sipguard")
    assert [line for line in left.messages(json_log) if VICTIM in line], "the attack has not reached the file in JSON"
    assert not WHOLE_LINE.search(left.written[json_log].decode())


def test_an_escape_character_erases_text_in_a_plain_file(site: Site) -> None:
    """Everything up to the next m: Asterisk takes it for a colour."""
    left = site.left["pjsip, escape in the Call-ID"]
    for name, erased in ((SECURITY, "LocalAddress"), (NOTICES, "No matching endpoint")):
        assert erased in "".join(left.messages(name))
        assert erased.encode() not in left.written[name.replace("sipguard", "plain")]


# -- what a line proves of its sender


def forged_login(user: str, challenge: str = 'realm="asterisk"') -> Request:
    """A REGISTER with a wrong password that answers a challenge which its sender may never have seen."""
    return Request(user=user, headers=(credentials(challenge, Request(user=user)),))


def challenged(site: Site, request: Request, port: int) -> str:
    """The challenge that somebody else is sent."""
    with Caller(site.pbx, site.address(), port) as caller:
        return caller.ask(request).header("www-authenticate")


def spoof(site: Site, port: int, *requests: Request, silent: bool = True) -> Lines:
    """What is written of packets without anybody at their source who could read an answer."""

    def act(source: str) -> None:
        with Caller(site.pbx, source, port) as caller:
            for number, request in enumerate(requests, requests[0].number):
                caller.send(replace(request, number=number))

    return site.watch(act, silent=silent)


def masked(line: str) -> str:
    """An event without what differs from one to the next of the same kind."""
    return re.sub(r'(EventTV|SessionID|Challenge|Response)="[^"]*"|(?<=RemoteAddress="IPV4/UDP/)[^"]*', r"\1", line)


@pytest.mark.parametrize("user", ["1001", "unknown"])
def test_pjsip_says_failed_to_authenticate_of_a_single_forged_packet(site: Site, user: str) -> None:
    """A nonce that nobody was given, and one that somebody else was given, fail like a wrong password; no word differs."""
    port = PORTS["pjsip"]
    genuine = site.left["pjsip, wrong password" if user == "1001" else "pjsip, unknown user and a password"]
    for challenge in ('realm="asterisk"', challenged(site, Request(user=user), port)):
        left = spoof(site, port, forged_login(user, challenge))
        lines = [line for line in left.messages(NOTICES) if line.endswith(" - Failed to authenticate\n")]
        assert [f"failed for '{left.source}:" in line for line in lines] == [True]
        events = [line for line in left.messages(SECURITY) if "ChallengeResponseFailed" in line]
        assert [f'RemoteAddress="IPV4/UDP/{left.source}/' in line for line in events] == [True]
        assert masked(events[0]) in [masked(line) for line in genuine.messages(SECURITY)]


def test_pjsip_says_failed_to_authenticate_of_an_old_nonce(site: Site) -> None:
    question = Request(user="1006")
    challenge = challenged(site, question, PORTS["pjsip"])
    source = site.address()

    def status(password: str) -> int:
        header = credentials(challenge, question, password=password)
        with Caller(site.pbx, source, PORTS["pjsip"]) as caller:
            return caller.ask(Request(user="1006", headers=(header,))).status

    assert eventually(lambda: status(PASSWORD) == 401, pause=0.1)
    left = site.watch(lambda dummy: status("wrong"))
    assert [line for line in left.messages(NOTICES) if source in line and line.endswith(" - Failed to authenticate\n")]


def test_the_nonce_is_not_in_what_pjsip_says_of_a_challenge(site: Site) -> None:
    """So an answer cannot be joined with the challenge that it answers."""
    sent = [line for line in site.left["pjsip, wrong password"].messages(SECURITY) if "ChallengeSent" in line]
    assert [line.endswith(',Challenge=""\n') for line in sent] == [True]


def reasons(left: Lines) -> list[str]:
    """Why, as chan_sip says, this sender's registrations failed."""
    pattern = rf"(?s)Registration from '.*' failed for '{re.escape(left.source)}:\d+' - (.*)\n"
    return [found for line in left.messages(NOTICES) for found in re.findall(pattern, line)]


def test_chan_sip_answers_a_forged_nonce_with_a_challenge(site16: Site) -> None:
    """That much is as it should be."""
    header = credentials('realm="asterisk", nonce="0badcafe"', Request(user="1001"))
    answer = Request(user="1001", call_id="one-dialog", tag="t", headers=(header,))
    question = replace(answer, headers=())
    assert reasons(spoof(site16, 5060, answer, question, answer, silent=False)) == []


def test_chan_sip_says_wrong_password_of_a_single_forged_packet(site16: Site) -> None:
    """Who has no sip: in To is refused as if the password were wrong, and was never asked for it."""
    assert reasons(spoof(site16, 5060, Request(to=f"<mailto:1001@{DOMAIN}>"))) == ["Wrong password"]


def test_chan_sip_says_that_names_differ_without_a_look_at_the_nonce(site16: Site) -> None:
    question = Request(user="1001", call_id="another-dialog", tag="t")
    header = credentials('realm="asterisk", nonce="0badcafe"', question, user="1002")
    left = spoof(site16, 5060, question, replace(question, headers=(header,)))
    assert reasons(left) == ["Username/auth name mismatch"]


@pytest.mark.parametrize("user", ["1001", "1002"])
def test_chan_sip_takes_the_second_packet_of_a_dialog_from_anywhere(site16: Site, user: str) -> None:
    """An attacker asks for the challenge himself, and lets the answer come from somebody else."""
    question = Request(user=user, call_id=f"shared-{user}", tag="t")
    header = credentials(challenged(site16, question, 5060), question)
    answer = replace(question, headers=(header,), number=2)
    assert reasons(spoof(site16, 5060, answer)) == ["Wrong password"]


@pytest.mark.parametrize(("user", "reflected"), [("1001", True), ("1003", True), ("1002", False)])
def test_chan_sip_sends_the_challenge_where_via_says(site16: Site, user: str, reflected: bool) -> None:
    """maddr makes it send the challenge to the attacker, unless the peer has nat=force_rport."""
    attacker, port = site16.address(), 5062
    with site16.pbx.socket(4, socket.SOCK_DGRAM, attacker, port) as listener:
        listener.settimeout(0.3)

        def act(source: str) -> None:
            with Caller(site16.pbx, source, 5060, source_port=port) as caller:
                caller.send(Request(user=user, via=f";maddr={attacker}"))
            heard = b""
            with contextlib.suppress(TimeoutError):
                heard = listener.recv(65535)
            assert (b"WWW-Authenticate" in heard) == reflected, heard

        site16.watch(act)


@pytest.mark.parametrize("stolen", [False, True])
def test_iax2_says_nothing_of_a_name_before_the_sender_has_returned_his_token(site: Site, stolen: bool) -> None:
    """None, or that of another address, does not help: what the filter takes is of senders who hear us."""
    with Iax(site.pbx, site.address()) as other:
        token = other.token(b"nobody") if stolen else b""

    def act(source: str) -> None:
        with Iax(site.pbx, source) as client, contextlib.suppress(TimeoutError):
            client.register(b"nobody", token)

    left = site.watch(act)
    said = [line for name in (NOTICES, ERRORS) for line in left.messages(name) if left.source in line]
    assert ["CallToken" in line for line in said] == [True], said
    assert site.search(left, NOTICES, "all") == set()


# -- who hides


EVENTS = {SECURITY, PLAIN_SECURITY}
# What is sent, and the files in which its sender's address is still found.
HIDDEN = {
    "Call-ID": (Attack("", "pjsip", request={"call_id": "\udcff-hidden"}), {PLAIN_NOTICES}),
    "wrong password": (
        Attack("", "pjsip", request={"user": "1001", "call_id": "\udcff-guessing"}, login={}),
        {PLAIN_NOTICES},
    ),
    "long Call-ID": (Attack("", "pjsip", request={"call_id": "\u00e9" * 400}), {PLAIN_NOTICES, *EVENTS}),
    "name": (Attack("", "pjsip", request={"sender": f'"\udcff" <sip:zz@{DOMAIN}>'}), {PLAIN_NOTICES, *EVENTS}),
    "escaped user": (Attack("", "pjsip", request={"sender": f"<sip:%ff@{DOMAIN}>"}), set(FILES)),
    "extension": (
        Attack("", "pjsip", request={"method": "INVITE", "uri": f"sip:9%ff@{DOMAIN}", "sender": f"<sip:b@{GUESTS}>"}),
        {PLAIN_NOTICES},
    ),
    "chan_sip, To": (
        Attack("", "chan_sip", request={"user": "1001", "to": f'"\udcff" <sip:1001@{DOMAIN}>'}, login={}),
        {PLAIN_NOTICES, *EVENTS},
    ),
    "iax2": (Attack("", "iax2", act=iax_peer(b"\xff")), {PLAIN_NOTICES}),
    "ami": (Attack("", "ami", act=manager_user(b"\xff"), silent=True), {PLAIN_NOTICES}),
}


@pytest.mark.parametrize(
    ("version", "part"),
    [(version, part) for version in IMAGES for part, (each, dummy) in HIDDEN.items() if version in each.versions()],
)
def test_what_is_no_utf8_is_missing_in_json(version: str, part: str, request: pytest.FixtureRequest) -> None:
    site: Site = request.getfixturevalue(f"site{version}")
    attack, traces = HIDDEN[part]
    left = site.attack(attack)
    assert {name for name in FILES if left.source.encode() in left.written[name]} == traces
    assert left.source.encode() not in left.written[ERRORS]
    if part == "escaped user":  # it was challenged, the events say, and no more
        assert not [line for line in left.messages(SECURITY) if "InvalidAccountID" in line]
    else:
        assert "Invalid UTF-8 string" in "".join(left.messages(ERRORS))
    # bytes like these are no obstacle to fail2ban
    mode = "login" if part in ("wrong password", "chan_sip, To", "ami") else "scan"
    assert site.search(left, PLAIN_NOTICES, mode) == {left.source}


def test_syslog_gets_what_is_no_utf8_and_every_message_as_one(site: Site) -> None:
    """So a file that rsyslog writes, with its control characters escaped, has neither of the two weaknesses."""
    path = f"/proc/{site.pbx.pid}/root/dev/log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        Path(path).chmod(0o666)
        listener.settimeout(3)
        try:
            site.pbx.cli("logger add channel syslog.local0 notice")
            hidden = site.attack(HIDDEN["Call-ID"][0])
            forging = site.attack(ATTACKS["pjsip, extension with a line"])
            heard: list[bytes] = []
            while not any(forging.source.encode() in each for each in heard):
                heard.append(listener.recv(65535))
        finally:
            site.pbx.cli("logger remove channel syslog.local0")
            Path(path).unlink()
    assert [b"\xff-hidden" in each for each in heard if hidden.source.encode() in each] == [True]
    assert [f"\n[2026-11-21 12:00:00] NOTICE[1] a: {VICTIM}".encode() in each for each in heard][-1]
