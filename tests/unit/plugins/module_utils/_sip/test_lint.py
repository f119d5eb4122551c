# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lint: every entry ends in exactly one of effective, covered, refused; and nothing ordinary is ever hit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.breadth import MIN_ANCHORED, MIN_LOOSE
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.lint import LintResult, lint
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.ordinary import GENERIC, MAKERS, MESSAGES, USER_AGENTS
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.presets import PRESETS, preset
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.signatures import (
    ANYWHERE,
    EXACT,
    MATCHES,
    MAX_NEEDLE,
    PAYLOAD,
    PREFIX,
    Signature,
    parse_entry,
    signature_hits,
)


def linted(*entries: tuple[str, str], allow_broad: bool = False, ignore_case: bool = True) -> LintResult:
    signatures = [Signature(value, match, origin="user_agents") for match, value in entries]
    return lint(signatures, allow_broad=allow_broad, ignore_case=ignore_case)


def values(result: LintResult) -> list[str]:
    return [signature.value for signature in result.effective]


@pytest.mark.parametrize(
    ("broad", "narrow"),
    [
        ((PREFIX, "sipcli"), (PREFIX, "sipcli/v1.8")),
        ((PREFIX, "sipcli"), (EXACT, "sipcli/v1.8")),
        ((PREFIX, "sipcli"), (EXACT, "sipcli")),
        ((PREFIX, "sipcli"), (PREFIX, "SIPCLI/v2")),
        ((PREFIX, "sipcli"), (PREFIX, "sipcli")),
        ((ANYWHERE, "scanner-x"), (PREFIX, "my scanner-x 1")),
        ((ANYWHERE, "scanner-x"), (EXACT, "my scanner-x 1")),
        ((ANYWHERE, "scanner-x"), (ANYWHERE, "my scanner-x 1")),
        ((PAYLOAD, "scanner-x"), (PREFIX, "my scanner-x 1")),
        ((PAYLOAD, "scanner-x"), (EXACT, "my scanner-x 1")),
        ((PAYLOAD, "scanner-x"), (ANYWHERE, "scanner-x")),
        ((PAYLOAD, "scanner-x"), (PAYLOAD, "Subject: scanner-x")),
        ((PAYLOAD, "User-Agent: scanner-x"), (PREFIX, "scanner-x")),
    ],
)
def test_covering_entry_wins_in_either_order(broad: tuple[str, str], narrow: tuple[str, str]) -> None:
    for order in ((broad, narrow), (narrow, broad)):
        result = linted(*order)
        assert [(signature.match, signature.value) for signature in result.effective] in ([broad], [order[0]])
        assert list(result.covered) == [narrow[1]] or (broad[0] == narrow[0] and broad[1].lower() == narrow[1].lower())
        assert not result.refused


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((PREFIX, "scanner-x"), (PREFIX, "my scanner-x")),
        ((EXACT, "sipcli"), (PREFIX, "sipcli/v1.8")),
        ((EXACT, "sipcli"), (EXACT, "sipcli/v1.8")),
        ((ANYWHERE, "scanner-x"), (PAYLOAD, "Subject: scanner-x")),
        ((PREFIX, "scanner-x"), (ANYWHERE, "scanner-x-y")),
        ((PREFIX, "scanner-x"), (PAYLOAD, "User-Agent: scanner-x 1")),
    ],
)
def test_neither_covers_the_other(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert len(linted(one, other).effective) == 2


def test_case_makes_no_duplicate_unless_ignored() -> None:
    pair = ((PREFIX, "Gazllove"), (PREFIX, "gazllove"))
    assert values(linted(*pair)) == ["Gazllove"]
    assert values(linted(*pair, ignore_case=False)) == ["Gazllove", "gazllove"]


def test_order_is_kept() -> None:
    entries = ((PREFIX, "zulu-scan"), (PAYLOAD, "alpha-scan"), (EXACT, "x"), (ANYWHERE, "mike-scan"))
    assert values(linted(*entries)) == ["zulu-scan", "alpha-scan", "x", "mike-scan"]


def test_chain_of_covers_names_the_effective_one() -> None:
    result = linted((EXACT, "sipcli/v1.8 b"), (PREFIX, "sipcli/v1.8"), (PREFIX, "sipcli"))
    assert values(result) == ["sipcli"]
    assert result.covered == {"sipcli/v1.8 b": "sipcli", "sipcli/v1.8": "sipcli"}


def test_entries_are_decoded_and_reported_as_written() -> None:
    result = lint(
        [
            parse_entry("bad%20scanner", "user_agents"),
            parse_entry("User-Agent: Cisco", "user_agents"),
            Signature("a%62cdefg"),
        ]
    )
    assert values(result) == ["bad scanner", "abcdefg"]
    assert [signature.entry for signature in result.effective] == ["bad%20scanner", "a%62cdefg"]
    assert list(result.refused) == ["User-Agent: Cisco"]


def test_an_escaped_escape_is_decoded_once() -> None:
    (signature,) = lint([parse_entry("scanner%2520x", "user_agents")]).effective
    assert signature.value == "scanner%20x"


BROAD = [
    (PREFIX, "SIP", "Sip"),
    (PREFIX, "Cisco", "Cisco-CP"),
    (PREFIX, "cisco", "Cisco-CP"),
    (PREFIX, "voip", "Voip Phone 1.0"),
    (PREFIX, "eyeBeam", "eyeBeam release"),
    (PREFIX, "CSipSimple", "CSipSimple_"),
    (PREFIX, "FPBX", "FPBX-"),
    (PREFIX, "FreeSWITCH", "FreeSWITCH"),
    (PREFIX, "Asterisk PBX", "Asterisk PBX"),
    (PREFIX, "Linksys", "Linksys/"),
    (PREFIX, "Z 3", "Z 3.15"),
    (PREFIX, "X-Lite", "X-Lite release"),
    (PREFIX, "Avaya IP Phone 1120E", "Avaya IP Phone 1120E"),
    (PREFIX, "Yealink SIP-T99", "products of Yealink"),
    (PREFIX, "snom", "snom190"),
    (PREFIX, "Test", "anybody's own client"),
    (PREFIX, "Custom", "anybody's own client"),
    (PREFIX, "-", "too short"),
    (PREFIX, "x", "X-Lite"),
    (PREFIX, "qqq", "too short"),
    (EXACT, "Asterisk PBX", "Asterisk PBX"),
    (EXACT, "FRITZ!OS", "FRITZ!OS"),
    (ANYWHERE, "PBX", "Asterisk PBX"),
    (ANYWHERE, "ims", "ordinary traffic"),
    (ANYWHERE, "qqqqq", "too short"),
    (PAYLOAD, "ims", "ordinary traffic"),
    (PAYLOAD, "mmtel", "an IMS trunk's INVITE"),
    (PAYLOAD, "0000000000", "nil UUID"),
    (PAYLOAD, "TEST", "TANDBERG"),
    (PAYLOAD, "n@n", "ordinary traffic"),
    (PAYLOAD, "sip:n@n", "too short"),
    (PAYLOAD, "X-cisco-", "a Cisco phone's REGISTER"),
    (PAYLOAD, "s=Asterisk", "ordinary traffic"),
    (PAYLOAD, "multipart/mixed;boundary", "Cisco gateway"),
    (PAYLOAD, "User-Agent: Fanvil", "Fanvil"),
]


@pytest.mark.parametrize(("match", "value", "because"), BROAD)
def test_broad_entry_is_refused_by_name(match: str, value: str, because: str) -> None:
    result = linted((match, value))
    assert not result.effective
    assert because in result.refused[value]


@pytest.mark.parametrize(("match", "value", "because"), BROAD)
def test_broad_entry_is_admitted_when_asked_for(match: str, value: str, because: str) -> None:
    result = linted((match, value), allow_broad=True)
    assert values(result) == [value], because


@pytest.mark.parametrize("match", [ANYWHERE, PAYLOAD])
@pytest.mark.parametrize(
    "value", ["-", ":", "sip", "SIP/2.0", "a", "CSeq", "Max-Forwards: ", "Call-ID:", "branch=z9hG4bK"]
)
def test_what_every_request_contains_is_refused_even_then(match: str, value: str) -> None:
    for allow_broad in (False, True):
        result = linted((match, value), allow_broad=allow_broad)
        assert not result.effective
        assert "nearly every SIP request" in result.refused[value]


@pytest.mark.parametrize("value", ["-", "cisco", "TEST", "SIP", "x", "voip", "PBX", "ims", "0000000000", "a"])
def test_exact_makes_any_word_harmless(value: str) -> None:
    assert values(linted((EXACT, value))) == [value]


@pytest.mark.parametrize("agent", USER_AGENTS)
def test_no_real_product_can_be_named(agent: str) -> None:
    for match in MATCHES:
        assert list(linted((match, agent)).refused) == [agent]


@pytest.mark.parametrize("maker", MAKERS)
def test_no_maker_can_be_named_inexactly(maker: str) -> None:
    for match in (PREFIX, ANYWHERE, PAYLOAD):
        assert maker.lower() in linted((match, maker + " 99.x")).refused[maker + " 99.x"].lower()


@pytest.mark.parametrize("word", GENERIC)
def test_generic_word_only_exact(word: str) -> None:
    assert list(linted((PREFIX, word.title())).refused) == [word.title()]
    assert values(linted((EXACT, word))) == [word]


def test_short_is_counted_in_letters_and_digits() -> None:
    assert values(linted((PREFIX, "q" * MIN_ANCHORED))) == ["q" * MIN_ANCHORED]
    assert linted((PREFIX, "q-q-q---")).refused
    assert values(linted((PAYLOAD, "q" * MIN_LOOSE))) == ["q" * MIN_LOOSE]
    assert linted((PAYLOAD, "<qqqqq>")).refused


@pytest.mark.parametrize(
    ("match", "around"),
    [(EXACT, len("\r\nUser-Agent: \r\n")), (PREFIX, len("\r\nUser-Agent: ")), (ANYWHERE, 0), (PAYLOAD, 0)],
)
def test_the_kernels_limit_counts_the_header(match: str, around: int) -> None:
    longest = "q" * (MAX_NEEDLE - around)
    assert values(linted((match, longest))) == [longest]
    reason = linted((match, longest + "q"), allow_broad=True).refused[longest + "q"]
    assert reason.startswith(f"has {MAX_NEEDLE + 1} bytes")


def test_bytes_are_counted_not_characters() -> None:
    assert linted((PAYLOAD, "é" * 65)).refused["é" * 65].startswith("has 130 bytes")


@pytest.mark.parametrize(
    ("value", "because"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("%20", "empty"),
        ("scanner\r\nVia: x", "line break"),
        ("scanner%0d%0aVia", "line break"),
        ("scanner\x00", "control"),
        ("scanner\x85x", "control"),
        ("scanner\ud800", "Unicode"),
    ],
)
@pytest.mark.parametrize("match", MATCHES)
def test_unusable_value_is_refused_whatever_is_allowed(match: str, value: str, because: str) -> None:
    result = linted((match, value), allow_broad=True)
    assert not result.effective
    assert because in result.refused[value]


@pytest.mark.parametrize(
    "excluded", ["sipsak", "SIPSAK", "User-Agent: sipsak", "AGFEO%20SIP%20V3.00.15%20b%20%20", "AGFEO SIP V3.00.15 b  "]
)
def test_exclude_takes_out_of_a_preset(excluded: str) -> None:
    everything = preset("scanners") + preset("elektronikbasteln")
    word = excluded.replace("User-Agent: ", "").split("%")[0].split(" ")[0].lower()
    result = lint(everything, exclude=[excluded])
    reports = [signature.entry for signature in result.effective] + list(result.covered) + list(result.refused)
    assert not [entry for entry in reports if entry.lower().startswith(word)]


def test_exclude_leaves_what_the_administrator_asked_for() -> None:
    own = parse_entry("sipsak", "user_agents")
    assert lint([*preset("scanners"), own], exclude=["sipsak"]).effective[-1] == own


def test_exclude_of_nothing_known_is_fine() -> None:
    assert lint(preset("scanners"), exclude=["no such scanner", ""]) == lint(preset("scanners"))


def test_samples_contain_a_user_agent_of_every_kind() -> None:
    assert len(USER_AGENTS) >= 120
    assert len(set(USER_AGENTS)) == len(USER_AGENTS)
    methods = {packet.split(b" ", 1)[0] for _name, packet in MESSAGES}
    assert methods >= {b"REGISTER", b"INVITE", b"OPTIONS", b"BYE", b"ACK", b"SUBSCRIBE", b"SIP/2.0"}
    for name, packet in MESSAGES:
        head, dummy, body = packet.partition(b"\r\n\r\n")
        assert b"\n" not in packet.replace(b"\r\n", b""), name
        assert head.split(b"\r\n")[0].count(b" ") >= 2, name
        assert (b"\r\nContent-Type:" in head) == bool(body), name


WORDS = st.sampled_from(
    [
        "sipcli",
        "sipcli/v1.8",
        "SIPCLI",
        "friendly-scanner",
        "friendly-scanner 2",
        "Cisco",
        "-",
        "x",
        "voip",
        "scan",
        "%20",
        "Z%203.14",
        "nm@nm",
        "sip:nm@nm",
        "sip:",
        "é" * 70,
        "pplsip",
        "User-Agent: pplsip",
        "",
        "q" * 130,
        "a\r\nb",
        "%2541scan",
    ]
)
SIGNATURES = st.lists(
    st.builds(
        Signature,
        st.one_of(WORDS, st.text(max_size=12)),
        st.sampled_from(MATCHES),
        origin=st.sampled_from(["user_agents", "payloads", "scanners"]),
    ),
    max_size=12,
)
FLAGS = st.booleans()


@settings(max_examples=200, deadline=None)
@given(SIGNATURES, FLAGS, FLAGS)
def test_lint_is_a_fixed_point(signatures: list[Signature], allow_broad: bool, ignore_case: bool) -> None:
    once = lint(signatures, allow_broad=allow_broad, ignore_case=ignore_case)
    again = lint(once.effective, allow_broad=allow_broad, ignore_case=ignore_case)
    assert again == LintResult(once.effective, {}, {})


@settings(max_examples=200, deadline=None)
@given(SIGNATURES, FLAGS, FLAGS)
def test_lint_loses_and_invents_nothing(signatures: list[Signature], allow_broad: bool, ignore_case: bool) -> None:
    result = lint(signatures, allow_broad=allow_broad, ignore_case=ignore_case)
    effective = {signature.entry for signature in result.effective}
    entries = {signature.entry for signature in signatures}
    assert effective | set(result.covered) | set(result.refused) == entries
    assert set(result.covered.values()) <= effective
    assert all(len(signature.needle) <= MAX_NEEDLE for signature in result.effective)


@settings(max_examples=200, deadline=None)
@given(SIGNATURES, FLAGS)
def test_dropping_what_is_covered_loses_no_packet(signatures: list[Signature], ignore_case: bool) -> None:
    usable = [signature for signature in signatures if not lint([signature], allow_broad=True).refused]
    effective = lint(usable, allow_broad=True, ignore_case=ignore_case).effective
    for signature in usable:
        (decoded,) = lint([signature], allow_broad=True).effective
        packet = b"INVITE sip:x\r\nUser-Agent: a\r\n" if decoded.match == ANYWHERE else b"INVITE sip:x"
        packet += decoded.needle + b"\r\n\r\n"
        assert any(signature_hits(kept, packet, ignore_case) for kept in effective)


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_effective_hits_nothing_ordinary(name: str) -> None:
    effective = lint(preset(name)).effective
    for label, packet in MESSAGES:
        assert not [signature for signature in effective if signature_hits(signature, packet)], label
    for agent in USER_AGENTS:
        packet = f"REGISTER sip:a\r\nUser-Agent: {agent}\r\n\r\n".encode()
        assert not [signature for signature in effective if signature_hits(signature, packet)], agent
