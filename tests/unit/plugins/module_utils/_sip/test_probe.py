# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._sip import probe
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.lint import lint
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.message import Request
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.presets import PRESETS, preset
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.signatures import Signature, signature_hits

DEFAULTS: dict[str, Any] = {
    "host": "192.0.2.1",
    "family": "any",
    "port": None,
    "transport": "udp",
    "profile": None,
    "method": None,
    "domain": None,
    "user": None,
    "user_agent": None,
    "source": None,
    "source_port": 0,
    "timeout": 3.0,
    "tls_verify": False,
    "server_name": None,
    "expect": "any",
}


def question(**options: Any) -> probe.Question:
    return probe.read_question({**DEFAULTS, **options})


def built(source: str = "192.0.2.9", **options: Any) -> Request:
    return probe.build(question(**options), source, 40112)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("host", "", "a name (pbx.example.com) would be right"),
        ("host", "192.0.2", "an address"),
        ("host", "pbx example.com", "an address"),
        ("host", "sip:pbx.example.com", "an address"),
        ("host", "pbx.example.com:5060", "an address"),
        ("host", "x" * 254 + ".y", "an address"),
        ("domain", "tel.example.com>\r\nEvil: 1", "a name"),
        ("domain", "fe80::1%eth0", "a name"),
        ("port", 0, "a port from 1 to 65535"),
        ("port", 65536, "a port from 1 to 65535"),
        ("source", "localhost", "an address (192.0.2.7, 2001:db8::7) would be right"),
        ("source_port", -1, "a port from 1 to 65535"),
        ("user", "al ice", "the user part of a SIP address"),
        ("user", "alice@pbx", "the user part of a SIP address"),
        ("user", "%2", "the user part of a SIP address"),
        ("user", "a\r\nVia: x", "the user part of a SIP address"),
        ("user_agent", "a\r\nVia: x", "at most 200 characters that can be printed"),
        ("user_agent", "x" * 201, "at most 200 characters"),
        ("server_name", "*.example.com", "a name"),
        ("timeout", 0.0, "more than 0 and at most 60 seconds"),
        ("timeout", float("nan"), "more than 0"),
        ("timeout", 61.0, "at most 60 seconds"),
    ],
)
def test_read_question_refuses(option: str, value: object, expected: str) -> None:
    with pytest.raises(OptionError) as error:
        probe.read_question({**DEFAULTS, option: value}, "questions[2].")
    assert error.value.option == f"questions[2].{option}"
    assert repr(error.value.value) == repr(value)
    assert expected in error.value.expected


@pytest.mark.parametrize("profile", [None, "phone", "trunk", "scanner"])
def test_read_question_calls_nobody_by_accident(profile: str | None) -> None:
    with pytest.raises(OptionError, match="the number to call would be right"):
        question(profile=profile, method="INVITE")


@pytest.mark.parametrize(
    ("options", "port", "method", "domain", "user", "server_name"),
    [
        ({}, 5060, "OPTIONS", "192.0.2.1", "", "192.0.2.1"),
        ({"transport": "tls", "domain": "tel.example.com"}, 5061, "OPTIONS", "tel.example.com", "", "tel.example.com"),
        ({"profile": "phone", "host": "[2001:db8::1]"}, 5060, "REGISTER", "2001:db8::1", "sipguard", "2001:db8::1"),
        ({"profile": "phone", "host": "fe80::1%eth0"}, 5060, "REGISTER", "fe80::1", "sipguard", "fe80::1"),
        ({"profile": "phone", "user": "1001", "port": 5070}, 5070, "REGISTER", "192.0.2.1", "1001", "192.0.2.1"),
        ({"profile": "trunk", "domain": "tel.example.com"}, 5060, "OPTIONS", "tel.example.com", "", ""),
        ({"profile": "scanner", "method": "REGISTER"}, 5060, "REGISTER", "192.0.2.1", "100", ""),
        ({"profile": "scanner", "server_name": "x.invalid"}, 5060, "OPTIONS", "192.0.2.1", "100", "x.invalid"),
        ({"profile": "phone", "server_name": ""}, 5060, "REGISTER", "192.0.2.1", "sipguard", ""),
    ],
)
def test_read_question_fills_in_what_the_profile_says(
    options: dict[str, Any], port: int, method: str, domain: str, user: str, server_name: str
) -> None:
    made = question(**options)
    assert (made.port, made.method, made.domain, made.user, made.server_name) == (
        port,
        method,
        domain,
        user,
        server_name,
    )


def test_build_a_phones_question() -> None:
    request = built(profile="phone", domain="tel.example.com", user="1001")
    assert request.first_line == "REGISTER sip:tel.example.com SIP/2.0"
    assert request.header("To") == "<sip:1001@tel.example.com>"
    assert request.header("From").startswith("<sip:1001@tel.example.com>;tag=")
    assert request.header("Via").startswith("SIP/2.0/UDP 192.0.2.9:40112;branch=z9hG4bK")
    assert request.header("Via").endswith(";rport")
    # A binding would be made otherwise, where the PBX asks for no password.
    assert not {"Contact", "Expires", "Authorization"} & {name for name, dummy in request.headers}


def test_build_a_trunks_question() -> None:
    request = built("2001:db8::9", profile="trunk", host="2001:db8::1", transport="tcp")
    assert request.first_line == "OPTIONS sip:[2001:db8::1] SIP/2.0"
    assert request.header("From").startswith("<sip:sipguard@[2001:db8::9]>;tag=")
    assert request.header("Via").startswith("SIP/2.0/TCP [2001:db8::9]:40112;branch=")
    assert request.header("Contact") == "<sip:sipguard@[2001:db8::9]:40112;transport=tcp>"


def test_build_a_scanners_question() -> None:
    """As svmap of sipvicious 0.3.8 sends it, but for its Contact without angle brackets and its port."""
    request = built(profile="scanner")
    assert request.first_line == "OPTIONS sip:100@192.0.2.1 SIP/2.0"
    assert [name for name, dummy in request.headers] == [
        *("Via", "Max-Forwards", "To", "From", "User-Agent", "Call-ID", "Contact", "CSeq", "Accept")
    ]
    assert request.header("To") == '"sipvicious"<sip:100@1.1.1.1>'
    assert request.header("User-Agent") == "friendly-scanner"


def test_build_a_call_without_media() -> None:
    request = built(profile="phone", domain="tel.example.com", method="INVITE", user="600")
    assert request.first_line == "INVITE sip:600@tel.example.com SIP/2.0"
    assert request.header("From").startswith("<sip:sipguard@tel.example.com>;tag=")
    assert b"\r\na=inactive\r\n" in request.body
    assert f"Content-Length: {len(request.body)}\r\n".encode() in request.render()


def test_build_leaves_an_empty_user_agent_out() -> None:
    assert b"User-Agent" not in built(profile="scanner", user_agent="").render()
    assert b"\r\nUser-Agent: Mine 1.0\r\n" in built(profile="phone", user_agent="Mine 1.0").render()


def test_build_never_uses_an_identifier_twice() -> None:
    made = [built() for dummy in range(50)]
    for name in ("Via", "From", "Call-ID"):
        assert len({request.header(name) for request in made}) == 50


def effective(name: str) -> list[Signature]:
    return list(lint(preset(name), allow_broad=False, ignore_case=True).effective)


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_stops_what_a_phone_or_a_trunk_asks(name: str) -> None:
    for profile in (None, "phone", "trunk"):
        for method in ("OPTIONS", "REGISTER", "INVITE"):
            packet = built(profile=profile, method=method, user="1001", domain="tel.example.com").render()
            assert [entry for entry in effective(name) if signature_hits(entry, packet)] == []


def test_the_default_preset_stops_what_a_scanner_asks() -> None:
    packet = built(profile="scanner").render()
    assert [entry.value for entry in effective("scanners") if signature_hits(entry, packet)]


QUESTION = question(profile="phone", host="192.0.2.1")


@pytest.mark.parametrize(
    ("expect", "outcome", "sentence"),
    [
        ("any", "silent", ""),
        ("any", "answered", ""),
        ("answer", "answered", ""),
        ("silence", "silent", ""),
        ("silence", "timeout", ""),
        ("answer", "silent", "an answer was expected, but nothing came back within 3 s"),
        ("answer", "timeout", "an answer was expected, but nobody answered the connection within 3 s"),
        (
            "answer",
            "refused",
            "an answer was expected, but it was refused (words): nothing listens there, or a firewall rejects it",
        ),
        ("answer", "unreachable", "an answer was expected, but there is no way to it (words)"),
        ("answer", "closed", "an answer was expected, but the connection was closed instead of an answer (words)"),
        ("answer", "tls_failed", "an answer was expected, but TLS failed (words)"),
        ("answer", "unrelated", "an answer was expected, but something came back that is no answer to it (words)"),
        ("silence", "answered", "silence was expected, but it answered 401 Unauthorized"),
        (
            "silence",
            "refused",
            "silence was expected, but it was refused (words): nothing listens there, or a firewall rejects it",
        ),
        ("silence", "unrelated", "silence was expected, but something came back that is no answer to it (words)"),
    ],
)
def test_unmet_says_what_came_instead(expect: str, outcome: str, sentence: str) -> None:
    finding = probe.Finding(outcome, "192.0.2.1", status=401, reason="Unauthorized", error="words")
    said = probe.unmet(dataclasses.replace(QUESTION, expect=expect), finding)
    assert said == (f"REGISTER as a phone over UDP to 192.0.2.1 port 5060: {sentence}" if sentence else "")


def test_every_outcome_has_words() -> None:
    said = {probe.words(probe.Finding(outcome, "192.0.2.1"), 3) for outcome in probe.OUTCOMES}
    assert len(said) == len(probe.OUTCOMES)


def test_sources_are_what_the_pbx_has_seen() -> None:
    findings = [
        probe.Finding("answered", "192.0.2.1", source="10.0.0.1", received="203.0.113.9"),
        probe.Finding("silent", "192.0.2.1", source="10.0.0.1"),
        probe.Finding("silent", "2001:db8::1", source="2001:db8::9"),
        probe.Finding("refused", "192.0.2.2"),
    ]
    assert probe.sources(findings) == ["2001:db8::9", "203.0.113.9"]


def test_result_says_nothing_where_nothing_is_known() -> None:
    result = probe.result(QUESTION, probe.Finding("silent", "192.0.2.1", source="192.0.2.9", source_port=1))
    assert (result["answered"], result["silent"], result["outcome"]) == (False, True, "silent")
    assert {result[name] for name in ("status", "reason", "latency_ms", "received", "rport", "server", "error")} == {
        None
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"host": f"{'x' * 64}.example"}, "it cannot be reached by that name"),
        ({"host": "192.0.2.1", "family": "ipv6"}, "as an IPv6 address"),
        ({"source": "2001:db8::9"}, "as an IPv6 address"),
        (
            {"source": "192.0.2.9", "family": "ipv6"},
            "source: '192.0.2.9' cannot be used; an address of the family ipv6",
        ),
    ],
)
def test_ask_all_sends_nothing_before_every_name_is_resolved(options: dict[str, Any], expected: str) -> None:
    good = question(host="127.0.0.1", source="192.0.2.250")  # would be refused, if it were asked
    with pytest.raises(OptionError) as error:
        probe.ask_all([good, question(**options)])
    assert expected in str(error.value)


def test_ask_all_refuses_a_flood() -> None:
    with pytest.raises(OptionError, match="at most 200 questions at a time"):
        probe.ask_all([QUESTION] * 201)


@pytest.mark.parametrize(
    ("options", "option"),
    [({"source": "192.0.2.250"}, "source"), ({"source": "192.0.2.250", "transport": "tcp"}, "source")],
)
def test_ask_all_refuses_a_source_that_is_not_ours(options: dict[str, Any], option: str) -> None:
    with pytest.raises(OptionError, match="one of this host would be right") as error:
        probe.ask_all([question(host="127.0.0.1", **options)])
    assert error.value.option == option
