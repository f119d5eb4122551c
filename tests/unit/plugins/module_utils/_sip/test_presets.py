# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The presets: complete, documented, and held against corpora that were gathered on their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.lint import lint
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.ordinary import MESSAGES
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.presets import PRESETS, preset
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.signatures import (
    EXACT,
    MATCHES,
    PAYLOAD,
    PREFIX,
    decode,
    signature_hits,
    strip_header,
)

CORPUS = Path(__file__).parents[4] / "corpus"
TIERS = {
    "scanners": "safe",
    "aggressive": "aggressive",
    "voipsupport": "published",
    "elektronikbasteln": "published",
    "hostfirewall": "published",
}


def rows(name: str) -> list[list[str]]:
    lines = (CORPUS / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def packets(agent: str) -> list[bytes]:
    """Put a User-Agent into every complete ordinary request that has one."""
    found = []
    for _name, packet in MESSAGES:
        head, separator, rest = packet.partition(b"\r\nUser-Agent: ")
        if separator:
            found.append(head + separator + agent.encode() + rest[rest.index(b"\r\n") :])
    return found


PHONES = rows("phones.tsv")
SCANNERS = rows("scanners.tsv")


def test_corpora_are_large_and_every_line_has_a_source() -> None:
    assert len({agent for agent, _source in PHONES}) == len(PHONES) >= 150
    assert len({agent for agent, _stopped, _source in SCANNERS}) == len(SCANNERS) >= 50
    assert all(source for *_columns, source in PHONES + SCANNERS)


@pytest.mark.parametrize("agent", [agent for agent, _source in PHONES])
def test_scanners_stops_no_real_device(agent: str) -> None:
    effective = lint(preset("scanners")).effective
    carriers = packets(agent)
    assert len(carriers) >= 5
    for packet in carriers:
        assert not [signature for signature in effective if signature_hits(signature, packet)]


@pytest.mark.parametrize(("agent", "stopped"), [(agent, stopped) for agent, stopped, _source in SCANNERS])
def test_scanners_stops_known_scanners(agent: str, stopped: str) -> None:
    effective = lint(preset("scanners")).effective
    results = {any(signature_hits(signature, packet) for signature in effective) for packet in packets(agent)}
    assert results == {stopped == "yes"}


@pytest.mark.parametrize(
    "line",
    [
        "User-agent:friendly-scanner",
        "USER-AGENT: FRIENDLY-SCANNER",
        "User-Agent:  friendly-scanner",
        "User-Agent:\tfriendly-scanner",
        "User-Agent :friendly-scanner",
        "User-Agent:\r\n friendly-scanner",
        "User-Agent: Mozilla friendly-scanner",
    ],
)
def test_scanners_is_not_evaded_by_an_odd_header(line: str) -> None:
    packet = f"OPTIONS sip:192.0.2.1 SIP/2.0\r\n{line}\r\nCSeq: 1 OPTIONS\r\n\r\n".encode()
    assert any(signature_hits(signature, packet) for signature in lint(preset("scanners")).effective)


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        (
            "sipvicious -c",
            'v: SIP/2.0/UDP 192.0.2.9\r\nf: "sipvicious"<sip:100@1.1.1.1>;tag=1\r\nm: sip:123@1.1.1.1\r\n',
        ),
        ("svmap with another name", 'From: "john"<sip:100@1.1.1.1>;tag=1\r\nUser-Agent: Yealink\r\n'),
        ("svwar with another User-Agent", "Contact: sip:123@1.1.1.1\r\nUser-Agent: Yealink\r\n"),
        ("nmap -sV", "From: <sip:nm@nm>;tag=root\r\nTo: <sip:nm2@nm2>\r\nContact: <sip:nm@nm>\r\n"),
        ("Metasploit", "From: sip:abc@192.0.2.9:5060;tag=70c00e8c\r\n"),
        ("sippts with another User-Agent", "User-Agent: Yealink\r\n\r\nv=0\r\ns=SIPPTS\r\n"),
        ("sipcli with another User-Agent", "User-Agent: Yealink\r\n\r\nv=0\r\no=sipcli-Session 1 1 IN IP4 1\r\n"),
        ("SQL injection", "To: <sip:a'or'3=3--@192.0.2.1>\r\n"),
        ("sundayddr", 'From: "sipsscuser"<sip:100@192.0.2.1>;tag=1\r\n'),
    ],
)
def test_scanners_knows_tools_without_their_user_agent(tool: str, text: str) -> None:
    packet = f"OPTIONS sip:192.0.2.1 SIP/2.0\r\n{text}\r\n".encode()
    assert [signature for signature in lint(preset("scanners")).effective if signature_hits(signature, packet)], tool


def test_scanners_leaves_the_neighbours_of_its_payloads_alone() -> None:
    packet = b"INVITE sip:201@192.0.2.1 SIP/2.0\r\nFrom: <sip:nm@nmtele.example>;tag=70c00e8\r\nUser-Agent: SipClient/2\r\n\r\n"
    assert not [signature for signature in lint(preset("scanners")).effective if signature_hits(signature, packet)]


@pytest.mark.parametrize("name", ["scanners", "aggressive"])
def test_own_presets_are_effective_as_they_stand(name: str) -> None:
    # Without its tier each line is judged by all the ordinary traffic, as an administrator's own would be.
    unproven = tuple(replace(signature, tier="") for signature in preset(name))
    result = lint(unproven)
    assert result.effective == unproven
    assert not result.covered
    assert not result.refused


def test_aggressive_adds_to_scanners_only() -> None:
    both = preset("scanners") + preset("aggressive")
    assert lint(both).effective == both


def test_aggressive_is_exact_or_the_text_of_one_tool() -> None:
    assert {signature.match for signature in preset("aggressive")} == {EXACT, PAYLOAD}


@pytest.mark.parametrize("name", PRESETS)
def test_every_line_is_documented(name: str) -> None:
    for signature in preset(name):
        assert signature.match in MATCHES
        assert signature.tier == TIERS[name]
        assert signature.origin == name
        assert signature.note
        assert signature.source


@pytest.mark.parametrize("name", ["voipsupport", "elektronikbasteln", "hostfirewall"])
def test_published_list_is_complete_and_in_order(name: str) -> None:
    published = [line for (line,) in rows(f"{name}.txt")]
    assert [signature.entry for signature in preset(name)] == published


@pytest.mark.parametrize("name", ["voipsupport", "hostfirewall"])
def test_published_header_lines_are_prefixes(name: str) -> None:
    for signature in preset(name):
        headed = signature.entry.startswith("User-Agent: ")
        assert signature.match == (PREFIX if headed else PAYLOAD)
        assert signature.value == decode(strip_header(signature.entry))


def test_published_substrings_are_payloads_and_decoded() -> None:
    signatures = preset("elektronikbasteln")
    assert {signature.match for signature in signatures} == {PAYLOAD}
    assert sum("%20" in signature.entry for signature in signatures) == 15
    assert not [signature for signature in signatures if "%20" in signature.value]
    assert signatures[-1].value == "PolycomVVX-VVX_300-UA/4.1.6.4835 v11.0.0"


def test_published_minus_never_reaches_the_kernel() -> None:
    for allow_broad in (False, True):
        result = lint(preset("elektronikbasteln"), allow_broad=allow_broad)
        assert "nearly every SIP request" in result.refused["-"]
        assert "-" not in {signature.value for signature in result.effective}


@pytest.mark.parametrize("name", ["scanner", "", None, ["scanners"]])
def test_unknown_preset_is_refused(name: object) -> None:
    with pytest.raises(OptionError, match="one of scanners, aggressive, voipsupport, elektronikbasteln, hostfirewall"):
        preset(name)
