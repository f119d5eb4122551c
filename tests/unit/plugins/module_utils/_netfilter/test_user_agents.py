# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4, IPV6, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import assemble
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Rule
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import render_chains
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.sets import sets_in_rules
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.user_agents import ODD_SPELLINGS, read_options
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.presets import PRESETS
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.signatures import (
    ANYWHERE,
    EXACT,
    PAYLOAD,
    PREFIX,
    Signature,
)
from tests.unit.plugins.module_utils._netfilter import samples

UA, HEADER, ODD, HIT, STOP = (f"SIPGUARD-UA{name}" for name in ("", "-HEADER", "-ODD", "-HIT", "-STOP"))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("sample", sorted(samples.SAMPLES))
def test_ruleset_is_the_golden_one(sample: str, family: Family) -> None:
    tables = assemble(samples.policy(family, **samples.SAMPLES[sample]), samples.GENERATIONS[sample])
    assert render_chains(tables) == samples.golden(sample, family)


def chains(*signatures: Signature, family: Family = IPV4, **given: Any) -> dict[str, tuple[Rule, ...]]:
    return dict(samples.policy(family, signatures, **given).members[UA].chains)


def rendered(rules: tuple[Rule, ...]) -> list[str]:
    return [rule.render() for rule in rules]


SCANNER = Signature("friendly-scanner", ANYWHERE)


def test_options_decide_which_rules_there_are() -> None:
    """One option at a time against the same list, so that a wrong default cannot hide in a golden text."""
    usual = chains(SCANNER)
    for given, chain in (
        ({"no_user_agent": False}, HEADER),
        ({"missing_user_agent": True}, UA),
        ({"learn_for": 0}, HIT),
        ({"learn_for": 60}, HIT),
        ({"never": ["192.0.2.7"]}, HIT),
        ({"action": "reject"}, STOP),
    ):
        other = chains(SCANNER, **given)
        assert [name for name in usual if usual[name] != other[name]] == [chain], given


def test_hit_does_not_learn_whom_it_must_not() -> None:
    never = ["192.0.2.7", "198.51.100.0/25", "198.51.100.128/25", "203.0.113.1-203.0.113.2", "2001:db8::7"]
    hit = rendered(chains(SCANNER, never=never)[HIT])
    learns = next(place for place, line in enumerate(hit) if "--add-set" in line)
    after = [line for line in hit[learns:] if "--add-set" not in line]
    assert [line.split()[3] for line in hit[:learns] if " -s " in line] == [
        "192.0.2.7/32",
        "198.51.100.0/24",
        "203.0.113.1/32",
        "203.0.113.2/32",
    ]
    assert all(line.endswith(f"-g {STOP}") for line in hit[:learns])
    assert after == hit[-1:] == [f"-A {HIT} -g {STOP}"]
    six = rendered(chains(SCANNER, never=never, family=IPV6)[HIT])
    assert [line.split()[3] for line in six if " -s " in line] == ["2001:db8::7/128"]


LEARN = "-j SET --add-set sipguard-offenders4 src --exist --timeout 3600"


@pytest.mark.parametrize(
    ("given", "learning"),
    [
        ({"protocols": ["udp"]}, [f"-p udp {LEARN}"]),
        ({"protocols": ["tcp"]}, [f"-p tcp -m conntrack --ctstatus ASSURED {LEARN}"]),
        ({"ports": [str(port) for port in range(5060, 5092, 2)], "interfaces": ["eth0", "eth1"]},
         [f"-p udp {LEARN}", f"-p tcp -m conntrack --ctstatus ASSURED {LEARN}"]),
    ],
)  # fmt: skip
def test_hit_learns_a_tcp_source_after_its_handshake_only(given: dict[str, Any], learning: list[str]) -> None:
    """Each rule says when to learn, never when not to: an invalid packet matches no conntrack option, negated or not."""
    assert rendered(chains(SCANNER, **given)[HIT]) == [f"-A {HIT} {line}" for line in (*learning, f"-g {STOP}")]


def test_hit_without_learning_names_no_set_and_nobody() -> None:
    hit = chains(SCANNER, learn_for=0, never=["192.0.2.7"])[HIT]
    assert rendered(hit) == [f"-A {HIT} -g {STOP}"]
    assert "raw" not in assemble(samples.policy(IPV4, (SCANNER,), learn_for=0), 0x4000000)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_observe_stops_nothing(family: Family) -> None:
    tables = assemble(samples.policy(family, mode="observe", action="reject"), 0x4000000)
    rules = [rule for table in tables.values() for found in table.values() for rule in found]
    assert {rule.target for rule in rules} & {"DROP", "REJECT"} == set()
    assert sets_in_rules(rules) == [f"sipguard-trusted{family.suffix}", f"sipguard-observed{family.suffix}"]
    assert list(tables) == ["filter"]


def test_observed_conversations_are_not_admitted() -> None:
    """What observe would have stopped stays unjudged, so that each of its packets is counted, and enforcing bites at once."""
    judge = assemble(samples.policy(IPV4, mode="observe"), 0x4000000)["filter"]["SIPGUARD-JUDGE"]
    marked = next(place for place, rule in enumerate(judge) if rule.match("mark"))
    admits = next(place for place, rule in enumerate(judge) if rule.target == "CONNMARK")
    assert judge[marked].target == "RETURN"
    assert marked < admits


def patterns(rules: tuple[Rule, ...], target: str) -> list[bytes]:
    """What the rules to a target search for, the first string of each."""
    found = []
    for rule in rules:
        string = rule.match("string")
        if rule.target == target and string is not None:
            option = string.options[0]
            text = option.values[0]
            found.append(text.encode() if option.name == "--string" else bytes.fromhex(text.strip("|")))
    return found


@pytest.mark.parametrize(
    ("signature", "chain", "needle"),
    [
        (Signature("sipcli", PREFIX), HEADER, b"\r\nUser-Agent: sipcli"),
        (Signature("-", EXACT), HEADER, b"\r\nUser-Agent: -\r\n"),
        (Signature("friendly-scanner", ANYWHERE), HEADER, b"friendly-scanner"),
        (Signature("sip:nm@nm", PAYLOAD), UA, b"sip:nm@nm"),
    ],
)
def test_signature_is_searched_where_its_match_says(signature: Signature, chain: str, needle: bytes) -> None:
    made = chains(signature, no_user_agent=False)
    assert {name for name, rules in made.items() if needle in patterns(rules, HIT)} == {chain}


@pytest.mark.parametrize("match", [PREFIX, EXACT])
def test_odd_spellings_are_searched_for_anchored_signatures(match: str) -> None:
    odd = patterns(chains(Signature("sipcli", match))[ODD], HIT)
    assert len(odd) == len(set(odd))
    ending = b"" if match == PREFIX else b"\r"
    usual_without_crlf = [] if match == PREFIX else [b"User-Agent: sipcli\n"]
    assert odd == [b"User-Agent" + between + b"sipcli" + ending for between in ODD_SPELLINGS] + usual_without_crlf


def test_odd_spellings_begin_with_the_headers_name() -> None:
    """Behind a colon alone stands anybody's subject, session name or host."""
    for preset in PRESETS.values():
        assert all(needle.startswith(b"User-Agent") for needle in patterns(chains(*preset)[ODD], HIT))


@pytest.mark.parametrize("match", [ANYWHERE, PAYLOAD])
def test_odd_spellings_are_not_searched_for_the_others(match: str) -> None:
    made = chains(Signature("sipcli-or-so", match))
    assert made[ODD] == ()
    assert not any(rule.target == ODD for rules in made.values() for rule in rules)


@pytest.mark.parametrize("spare", [0, 1, 5, 60])
@pytest.mark.parametrize("match", [PREFIX, EXACT, ANYWHERE, PAYLOAD])
def test_no_search_is_longer_than_the_kernel_allows(match: str, spare: int) -> None:
    around = len(Signature("", match).needle)
    signature = Signature("x" * (128 - around - spare), match)
    assert len(signature.needle) == 128 - spare
    made = chains(signature, missing_user_agent=True)
    for rules in made.values():
        for rule in rules:
            for one in rule.matches:
                if one.name == "string":
                    text = one.options[0].values[0]
                    size = len(text) if one.options[0].name == "--string" else (len(text) - 2) // 2
                    assert 1 <= size <= 128


def test_ignore_case_is_said_to_the_kernel() -> None:
    for ignore_case in (True, False):
        rules = chains(*samples.SIGNATURES, ignore_case=ignore_case, no_user_agent=False)
        hits = [rule for found in (*rules.values(),) for rule in found if rule.target == HIT]
        assert {"--icase" in rule.render() for rule in hits} == {ignore_case}


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_preset_renders_on_single_lines_of_printable_ascii(preset: str, family: Family) -> None:
    text = render_chains(assemble(samples.policy(family, PRESETS[preset], allow_broad=True), 0x4000000))
    assert text.isascii()
    assert all(line.isprintable() for line in text.splitlines())
    assert text.count('--comment "') >= len(PRESETS[preset])


@pytest.mark.parametrize("seconds", [-1, 2147484])
def test_read_options_refuses_learn_for(seconds: int) -> None:
    with pytest.raises(
        OptionError, match=rf"learn_for: {seconds} cannot be used; 0 \(off\) to 2147483 seconds"
    ) as error:
        read_options(samples.options(learn_for=seconds), ())
    assert (error.value.option, error.value.value) == ("learn_for", seconds)


@pytest.mark.parametrize("seconds", [0, 1, 2147483])
def test_read_options_takes_learn_for(seconds: int) -> None:
    assert read_options(samples.options(learn_for=seconds), ()).learn_for == seconds


@pytest.mark.parametrize("entry", ["sip.example.com", "localhost", "0.0.0.0/0", "192.0.2.1/24", "192.0.2", ""])
def test_read_options_refuses_in_never(entry: str) -> None:
    with pytest.raises(OptionError) as error:
        read_options(samples.options(never=["192.0.2.7", entry]), ())
    assert (error.value.option, error.value.value) == ("never", entry)
