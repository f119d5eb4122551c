# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgements of the playbook verify: which answer is right, given what the PBX says of itself and of whoever asked."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.sipguard.pbx.plugins.filter.verify import FilterModule
from ansible_collections.sipguard.pbx.plugins.module_utils._sip import probe
from ansible_collections.sipguard.pbx.plugins.modules import sip_probe
from tests.unit.repository.checkout import TOP, load_yaml

FILTERS = FilterModule().filters()
PBX = {"ipv4": "192.0.2.1", "ipv6": "2001:db8::1"}
US = {"ipv4": "203.0.113.9", "ipv6": "2001:db8:9::9"}


def answer(
    profile: str = "phone",
    outcome: str = "answered",
    transport: str = "udp",
    family: str = "ipv4",
    status: int = 401,
    **more: Any,
) -> dict[str, Any]:
    """One of the answers of sip_probe, asked from behind NAT; only who was answered knows the address that the PBX sees."""
    answered = outcome == "answered"
    return {
        "profile": profile,
        "transport": transport,
        "host": PBX[family],
        "address": PBX[family],
        "port": 5061 if transport == "tls" else 5060,
        "outcome": outcome,
        "answered": answered,
        "status": status if answered else None,
        "error": None,
        "source": "10.0.0.9" if family == "ipv4" else US["ipv6"],
        "received": US[family] if answered else None,
        **more,
    }


GATE, UA, RATE, HOST = "SIPGUARD-GATE", "SIPGUARD-UA", "SIPGUARD-RATE", "SIPGUARD-HOST"


def info(
    *stopping: str,
    members: tuple[str, ...] | None = None,
    state: str = "protected",
    found: tuple[str, ...] = (),
    tls_ports: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What sipguard_info says, the same for both families; ``found`` are the sets that we are in."""
    members = stopping if members is None else members
    family = {"state": state, "members": list(members), "stopping": list(stopping), "tls_ports": list(tls_ports)}
    sets = {name: {"set": f"{name}4", "entry": "x", "seconds_left": 9} for name in found}
    addresses = {address: {"found": sets} for address in (*US.values(), "10.0.0.9")}
    return {
        "protected": state == "protected",
        "observing": state == "observing",
        "families": {"ipv4": family, "ipv6": family},
        "addresses": addresses,
        "asterisk": True,
        "listening": [],
    }


TRUSTED = ("sipguard-trusted",)
KNOWN = ("sipguard-known",)
PROTECTED = info(RATE, UA)
GATED = info(RATE, GATE, UA, tls_ports=("5061",))
OBSERVING = info(members=(GATE, UA), state="observing")


def verdicts(answers: list[dict[str, Any]], about: dict[str, Any], **options: Any) -> list[tuple[str, str, str]]:
    """Who, verdict and note of each row; sentences belong to wrong rows and to no others."""
    result = FILTERS["verify_rows"](answers, about, "pbx1", **options)
    assert len(result["table"]) == len(result["rows"]) + 1
    assert all(bool(row["sentence"]) == (row["verdict"] == "WRONG") for row in result["rows"])
    assert [row["sentence"] for row in result["rows"] if row["sentence"]] == [
        sentence for sentence in result["wrong"] if "(sipguard status)" not in sentence
    ]
    assert json.loads(json.dumps(result)) == result
    return [(row["who"], row["verdict"], row["note"]) for row in result["rows"]]


def sentences(answers: list[dict[str, Any]], about: dict[str, Any], **options: Any) -> list[str]:
    found: list[str] = FILTERS["verify_rows"](answers, about, "pbx1", **options)["wrong"]
    return found


# -- questions


def asked(addresses: Any = "192.0.2.1", **options: Any) -> list[dict[str, Any]]:
    return list(FILTERS["verify_questions"](addresses, **{"sip_ports": ["5060:5061"], **options}))


def test_questions_are_those_of_a_phone_and_then_of_a_trunk() -> None:
    made = asked(domains=["tel.example.com", "two.example.com"], tls_ports=["5063"], user="1001", timeout=2)
    assert [(each["profile"], each["round"], each["transport"], each["port"]) for each in made] == [
        ("phone", 1, "udp", 5060),
        ("phone", 1, "tcp", 5060),
        ("phone", 1, "tls", 5063),
        ("trunk", 2, "udp", 5060),
        ("trunk", 2, "tcp", 5060),
        ("trunk", 2, "tls", 5063),
    ]
    assert {each.get("domain") for each in made if each["profile"] == "phone"} == {"tel.example.com"}
    assert {each.get("user") for each in made if each["profile"] == "phone"} == {"1001"}
    assert {(each.get("domain"), each.get("user")) for each in made if each["profile"] == "trunk"} == {(None, None)}
    assert {each["timeout"] for each in made} == {2}


@pytest.mark.parametrize(
    ("options", "transports"),
    [
        ({}, ["udp", "tcp"]),
        ({"transports": ["udp"]}, ["udp"]),
        ({"transports": ["tls"]}, ["tls"]),
        ({"transports": ["udp"], "tls_ports": ["5061"]}, ["udp"]),
    ],
)
def test_questions_go_over_the_transports_that_are_wanted(options: dict[str, Any], transports: list[str]) -> None:
    assert [each["transport"] for each in asked(**options) if each["profile"] == "phone"] == transports


def test_questions_go_to_every_address_and_are_what_the_module_takes() -> None:
    made = asked(["192.0.2.1", "2001:db8::1"], tls_ports=["5061"])
    assert [each["host"] for each in made if each["transport"] == "udp"] == ["192.0.2.1", "2001:db8::1"] * 2
    for each in (*made, *plan([answer(transport="tls")], GATED)["scanners"]):
        assert each.keys() <= {*sip_probe.QUESTION, "round"}
        spec = {name: option.get("default") for name, option in sip_probe.QUESTION.items()}
        assert probe.read_question({**spec, **each})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"addresses": []}, "pbx_verify_address: [] cannot be used"),
        ({"addresses": [""]}, "pbx_verify_address"),
        ({"addresses": {"a": 1}}, "pbx_verify_address"),
        ({"sip_ports": {"a": 1}}, "pbx_sip_ports: {'a': 1} cannot be used; a list of ports would be right"),
        ({"sip_ports": "sip"}, "pbx_sip_ports: 'sip' cannot be used"),
        ({"sip_ports": []}, "pbx_sip_ports"),
        ({"sip_ports": ["70000"]}, "pbx_sip_ports: '70000' cannot be used"),
        ({"tls_ports": ["tls"]}, "pbx_tls_ports: 'tls' cannot be used"),
        (
            {"transports": {"udp": 1}},
            "pbx_verify_transports: {'udp': 1} cannot be used; a list of udp, tcp, tls would be right",
        ),
        ({"transports": "udp,sctp"}, "pbx_verify_transports: 'sctp' cannot be used; udp, tcp, tls would be right"),
        ({"domains": True}, "pbx_sip_domains: True cannot be used; a list of domains"),
        ({"transports": ["sctp"]}, "pbx_verify_transports: 'sctp' cannot be used; udp, tcp, tls would be right"),
    ],
)
def test_questions_refuse_what_cannot_be_asked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        asked(**options)
    assert said in str(error.value)


def test_text_with_commas_is_a_list_as_from_the_command_line() -> None:
    lists = {
        "sip_ports": ["5070", "5080:5090"],
        "tls_ports": ["5071"],
        "domains": ["a.example", "b.example"],
        "transports": ["udp", "tls"],
    }
    texts = {name: ", ".join(value) for name, value in lists.items()}
    assert asked(**texts) == asked(**lists)
    assert asked(sip_ports=5070, tls_ports=5071) == asked(sip_ports=["5070"], tls_ports=["5071"])


# -- the plan


def plan(answers: list[dict[str, Any]], about: dict[str, Any], **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = FILTERS["verify_plan"](answers, about, **options)
    return made


def test_plan_asks_as_a_scanner_where_a_phone_was_answered() -> None:
    answers = [answer(), answer(transport="tcp"), answer(family="ipv6"), answer("trunk"), answer("phone", "silent")]
    made = plan(answers, PROTECTED, timeout=2)
    assert [(each["host"], each["transport"], each["port"]) for each in made["scanners"]] == [
        ("192.0.2.1", "udp", 5060),
        ("192.0.2.1", "tcp", 5060),
        ("2001:db8::1", "udp", 5060),
    ]
    assert {(each["profile"], each["timeout"]) for each in made["scanners"]} == {("scanner", 2)}
    assert made["unban"] == sorted(US.values())


@pytest.mark.parametrize(
    ("transport", "about", "options", "scans", "unban"),
    [
        ("udp", PROTECTED, {}, 1, [US["ipv4"]]),
        ("udp", GATED, {}, 1, [US["ipv4"]]),
        # Nothing protects it: it has to be shown that a scanner gets through.
        ("udp", info(state="not managed"), {}, 1, []),
        ("udp", info(state="unprotected"), {}, 1, []),
        ("udp", info(RATE, UA, found=TRUSTED), {}, 0, []),
        # Signatures spare who has logged in, and the gate does not.
        ("udp", info(RATE, UA, found=KNOWN), {}, 0, [US["ipv4"]]),
        ("udp", info(RATE, GATE, UA, found=KNOWN), {}, 1, [US["ipv4"]]),
        # The gate's question may have been observed, or learned.
        ("udp", OBSERVING, {}, 0, [US["ipv4"]]),
        ("udp", info(RATE), {}, 0, [US["ipv4"]]),
        ("udp", PROTECTED, {"check": True}, 0, []),
        ("tls", GATED, {}, 1, [US["ipv4"]]),
        ("tls", PROTECTED, {}, 0, [US["ipv4"]]),
        ("tls", info(GATE, tls_ports=("5062:5063,5070",)), {}, 0, [US["ipv4"]]),
        ("tls", info(GATE, tls_ports=("5060:5061",)), {}, 1, [US["ipv4"]]),
        ("tls", info(UA, members=(GATE, UA), tls_ports=("5061",)), {}, 0, [US["ipv4"]]),
    ],
)
def test_plan(transport: str, about: dict[str, Any], options: dict[str, Any], scans: int, unban: list[str]) -> None:
    made = plan([answer(transport=transport)], about, **options)
    assert (len(made["scanners"]), made["unban"]) == (scans, unban)


def test_plan_names_no_domain_of_ours_in_a_handshake() -> None:
    assert [each["server_name"] for each in plan([answer(transport="tls")], GATED)["scanners"]] == ["scanner.invalid"]
    assert "server_name" not in plan([answer()], GATED)["scanners"][0]


def test_plan_leaves_those_alone_who_were_stopped_before_anything_was_asked() -> None:
    assert plan([answer(outcome="silent")], info(UA, found=("sipguard-offenders",))) == {"scanners": [], "unban": []}


# -- the verdicts


@pytest.mark.parametrize(
    ("outcome", "about", "options", "verdict", "note"),
    [
        ("answered", PROTECTED, {}, "right", ""),
        ("answered", info(UA, found=TRUSTED), {}, "right", "trusted"),
        ("silent", PROTECTED, {}, "WRONG", "should be answered"),
        ("refused", PROTECTED, {}, "WRONG", "should be answered"),
        ("unrelated", PROTECTED, {}, "WRONG", "should be answered"),
        # Only known addresses may speak SIP there.
        ("silent", info(HOST), {"strangers": False}, "right", "stopped"),
        ("timeout", info(HOST), {"strangers": False}, "right", "stopped"),
        ("refused", info(HOST), {"strangers": False}, "right", "stopped"),
        ("answered", info(HOST), {"strangers": False}, "WRONG", "should be stopped"),
        ("answered", info(HOST, found=TRUSTED), {"strangers": False}, "right", "trusted"),
        ("silent", info(HOST, found=TRUSTED), {"strangers": False}, "WRONG", "should be answered"),
    ],
)
def test_verdict_on_a_phone(
    outcome: str, about: dict[str, Any], options: dict[str, Any], verdict: str, note: str
) -> None:
    assert verdicts([answer(outcome=outcome)], about, **options)[0] == ("phone", verdict, note)


@pytest.mark.parametrize(
    ("asterisk", "listening", "verdict"),
    [(True, [], "WRONG"), (False, [], "-"), (False, ["tcp 5060"], "WRONG"), (False, ["udp 5060"], "WRONG")],
)
def test_a_host_without_a_pbx_answers_no_phone(asterisk: bool, listening: list[str], verdict: str) -> None:
    """As a machine that only asks, or a plain host of a mixed inventory."""
    about = {**PROTECTED, "asterisk": asterisk, "listening": listening}
    assert verdicts([answer(outcome="silent")], about)[0][1] == verdict
    two = [answer(outcome="answered"), answer(transport="tls", port=5061, outcome="refused")]
    assert verdicts(two, about)[1][1] == "WRONG"


@pytest.mark.parametrize(
    ("transports", "udp", "verdict", "note"),
    [
        ([], "answered", "-", "nothing listens there"),
        (["udp", "tcp"], "answered", "WRONG", "should be answered"),
        ([], "silent", "WRONG", "should be answered"),
        ([], "refused", "WRONG", "should be answered"),
    ],
)
def test_tcp_need_not_be_there_unless_it_was_promised(transports: list[str], udp: str, verdict: str, note: str) -> None:
    answers = [answer(outcome=udp), answer(transport="tcp", outcome="refused")]
    assert verdicts(answers, PROTECTED, transports=transports)[1] == ("phone", verdict, note)


@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_udp_and_a_tls_port_have_to_be_there(transport: str) -> None:
    answers = [answer(transport="tcp"), answer(transport=transport, outcome="refused")]
    assert verdicts(answers, PROTECTED)[1] == ("phone", "WRONG", "should be answered")


@pytest.mark.parametrize(
    ("outcome", "about", "transport", "verdict", "note"),
    [
        ("answered", info(GATE, found=TRUSTED), "udp", "right", "trusted"),
        ("silent", info(GATE, found=TRUSTED), "udp", "WRONG", "should be answered"),
        ("answered", GATED, "udp", "WRONG", "should be stopped"),
        ("silent", GATED, "udp", "right", "stopped"),
        ("closed", GATED, "tcp", "right", "stopped"),
        ("answered", PROTECTED, "udp", "-", "no gate stops strangers there"),
        ("silent", PROTECTED, "udp", "-", "no gate stops strangers there"),
        ("answered", OBSERVING, "udp", "-", "no gate stops strangers there"),
        ("answered", GATED, "tls", "-", "TLS without a server name, from a stranger"),
        ("answered", info(GATE, found=TRUSTED), "tls", "right", "trusted"),
    ],
)
def test_verdict_on_a_trunk(outcome: str, about: dict[str, Any], transport: str, verdict: str, note: str) -> None:
    answers = [answer(transport=transport), answer("trunk", outcome, transport)]
    assert verdicts(answers, about)[1] == ("trunk", verdict, note)


def test_silence_says_nothing_where_the_phone_was_met_with_it_too() -> None:
    answers = [answer(outcome="silent"), answer("trunk", "silent")]
    assert verdicts(answers, GATED)[1] == ("trunk", "-", "the phone got no answer there either")


@pytest.mark.parametrize(
    ("outcome", "transport", "verdict"),
    [
        ("silent", "udp", "right"),
        ("refused", "udp", "right"),
        ("unreachable", "udp", "right"),
        ("timeout", "tcp", "right"),
        ("closed", "tcp", "right"),
        ("answered", "udp", "WRONG"),
        ("unrelated", "udp", "WRONG"),
        # Whoever gets as far as an alert has met the PBX.
        ("tls_failed", "tls", "WRONG"),
        ("timeout", "tls", "right"),
    ],
)
def test_verdict_on_a_scanner(outcome: str, transport: str, verdict: str) -> None:
    scanned = [answer("scanner", outcome, transport)]
    rows = verdicts([answer(transport=transport)], GATED, scanners=scanned)
    assert [row[:2] for row in rows] == [("phone", "right"), ("scanner", verdict)]


@pytest.mark.parametrize(
    ("phone", "about", "options", "why"),
    [
        (
            answer(),
            info(UA, found=TRUSTED),
            {},
            "203.0.113.9 is trusted there; set pbx_verify_from to a host that is not",
        ),
        (answer(), OBSERVING, {}, "this PBX only observes"),
        (answer(transport="tls"), PROTECTED, {}, "nothing there looks into TLS"),
        (answer(), PROTECTED, {"check": True}, "this is check mode, and the address would be learned"),
        (answer(outcome="silent"), PROTECTED, {}, "the phone got no answer there either"),
    ],
)
def test_row_of_a_scanner_that_was_not_asked_says_why(
    phone: dict[str, Any], about: dict[str, Any], options: dict[str, Any], why: str
) -> None:
    assert plan([phone], about, **options)["scanners"] == []
    assert verdicts([phone], about, **options)[-1] == ("scanner", "-", f"not asked: {why}")


def test_trust_is_looked_up_by_the_address_that_the_pbx_sees() -> None:
    """The question over TCP got no answer that could say it; the one over UDP did."""
    about = info(UA)
    about["addresses"] = {US["ipv4"]: {"found": {"sipguard-trusted": {}}}, "10.0.0.9": {"found": {}}}
    result = FILTERS["verify_rows"]([answer(), answer(transport="tcp", outcome="silent")], about, "pbx1")
    assert [(row["from"], row["trusted"]) for row in result["rows"][:2]] == [(US["ipv4"], True)] * 2


def test_families_are_judged_by_their_own_rules() -> None:
    about = info(GATE)
    about["families"]["ipv6"] = {"state": "not managed", "members": [], "stopping": [], "tls_ports": []}
    answers = [answer(family=family) for family in PBX] + [answer("trunk", family=family) for family in PBX]
    assert [row[1] for row in verdicts(answers, about)][2:4] == ["WRONG", "-"]
    del about["families"]["ipv6"]  # a kernel without it
    assert [row[1] for row in verdicts(answers, about)][2:4] == ["WRONG", "-"]


@pytest.mark.parametrize(
    ("answers", "about", "end"),
    [
        (
            [answer(), answer("trunk", status=404)],
            GATED,
            "a trunk over UDP to 192.0.2.1 port 5060 should be stopped, but it answered 404; "
            "203.0.113.9 is not trusted there, and ipv4 is protected",
        ),
        ([answer(outcome="refused", error="Connection refused")], PROTECTED, "; see whether Asterisk runs"),
        (
            [answer(transport="tls", outcome="refused")],
            PROTECTED,
            "; pbx_tls_ports says that the PBX speaks TLS there",
        ),
        (
            [answer(outcome="silent")],
            info(UA, found=("sipguard-offenders",)),
            "nothing came back within 3 s; 10.0.0.9 is a learned offender there (sipguard why 10.0.0.9)",
        ),
        (
            [answer(outcome="silent")],
            info(UA, found=("sipguard-banned",)),
            "10.0.0.9 is banned there (sipguard why 10.0.0.9)",
        ),
        (
            [answer(outcome="silent")],
            info(UA, found=("sipguard-banned", *TRUSTED)),
            "no set of sipguard stops 10.0.0.9: look at Asterisk, at other firewalls and at the way there",
        ),
        (
            [answer(outcome="silent")],
            info(HOST),
            "where the host policy admits known addresses only, set pbx_verify_strangers to false",
        ),
    ],
)
def test_sentence_says_what_may_be_the_cause(answers: list[dict[str, Any]], about: dict[str, Any], end: str) -> None:
    said = sentences(answers, about)
    assert len(said) == 1
    assert said[0].startswith("pbx1: a ")
    assert said[0].endswith(end)


@pytest.mark.parametrize(
    ("state", "wrong"),
    [("protected", 0), ("observing", 0), ("not managed", 0), ("edited by somebody, or damaged", 2), ("unprotected", 2)],
)
def test_rules_that_are_not_whole_are_wrong(state: str, wrong: int) -> None:
    said = sentences([answer()], info(members=(), state=state))
    assert len(said) == wrong
    assert all(
        sentence == f"pbx1: {family} is {state} (sipguard status)" for sentence, family in zip(said, PBX, strict=False)
    )


@pytest.mark.parametrize(
    ("about", "head"),
    [
        (PROTECTED, "protected; asked from 203.0.113.9 (not trusted)"),
        (info(UA, found=TRUSTED), "protected; asked from 203.0.113.9 (trusted)"),
        (OBSERVING, "only observing; asked from 203.0.113.9 (not trusted)"),
        (info(state="not managed"), "NOT PROTECTED; asked from 203.0.113.9 (not trusted)"),
    ],
)
def test_table_begins_with_who_asked_whom(about: dict[str, Any], head: str) -> None:
    assert FILTERS["verify_rows"]([answer()], about, "pbx1")["table"][0] == head


def test_table_has_columns() -> None:
    answers = [answer(), answer(family="ipv6", transport="tcp", outcome="timeout")]
    assert FILTERS["verify_rows"](answers, info(UA, found=TRUSTED), "pbx1")["table"][1:3] == [
        "phone    UDP  192.0.2.1:5060      answers 401    right  trusted",
        "phone    TCP  [2001:db8::1]:5060  no connection  WRONG  should be answered",
    ]


def test_nothing_that_other_machines_say_can_become_a_template() -> None:
    evil = "{{ lookup('pipe', 'id') }}{% x %}"
    answers = [answer() | {name: evil} for name in ("error", "source", "received", "address", "host", "transport")]
    answers += [answer(outcome="refused", error=evil), answer(outcome="silent", source=evil), answer(reason=evil)]
    about = info(UA, state=evil)
    for made in (FILTERS["verify_rows"](answers, about, "pbx1", scanners=answers), plan(answers, about)):
        assert "{{" not in json.dumps(made)
        assert "{%" not in json.dumps(made)
        assert "lookup" in json.dumps(made)
    assert plan(answers, about)["unban"] == [US["ipv4"]]


# -- what stands beside the code


def test_filters_are_documented() -> None:
    for name, function in FILTERS.items():
        page = load_yaml(TOP / f"plugins/filter/{name}.yml")
        assert page["DOCUMENTATION"]["name"] == name
        assert yaml.safe_load(page["EXAMPLES"])
        wrapped = inspect.unwrap(function)
        names = wrapped.__code__.co_varnames[: wrapped.__code__.co_argcount]
        assert [*page["DOCUMENTATION"]["options"]] == ["_input", *names[1:]]
