# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.exceptions import Exceptions, Exempt
from ansible_collections.sipguard.pbx.plugins.module_utils._host.why import Scene, why
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.engine import Engine
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.lists import Entry, Lists, NamedList
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    BANNED,
    BLOCKED,
    CHAIN_GATE,
    CHAIN_HOST,
    CHAIN_RATE,
    CHAIN_UA,
    FAMILIES,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import read_policy
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import HOOKS, parse_save
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from tests.unit.plugins.module_utils._netfilter import known_samples, samples
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

MADE = {
    "trusted": "hash:net family {inet} maxelem 1024",
    "offenders": "hash:ip family {inet} maxelem 65536 timeout 3600 forceadd",
    "observed": "hash:ip family {inet} maxelem 65536 timeout 3600 forceadd",
    "banned": "hash:net family {inet} maxelem 262144 timeout 3600 comment",
    "blocked": "hash:net family {inet} maxelem 1024",
}
MEMBERS = {
    "sipguard-trusted4": {"192.0.2.0/24": ""},
    "sipguard-offenders4": {"203.0.113.9": " timeout 12", "192.0.2.9": " timeout 30"},
    "sipguard-observed4": {"203.0.113.10": " timeout 600"},
    "sipguard-banned4": {"203.0.113.9": ' timeout 3700 comment "guesses"', "198.51.100.0/24": " timeout 0"},
    "sipguard-blocked6": {"2001:db8:bad::/48": ""},
    "sipguard-blocked4": {"203.0.113.64/26": ""},
}


@pytest.fixture
def protected(host: FakeHost, tmp_path: Path) -> FakeHost:
    """A host with signatures that drops whoever is banned or blocked, and can be asked for members of sets."""
    engine = Engine(host, store=Store(str(tmp_path / "etc")))
    targets = {}
    for family in FAMILIES:
        ruleset = parse_save(samples.golden("enforce", family))
        policy, _generation = read_policy(family, {name: ruleset.own_chains(name) for name in HOOKS}, "filter")
        targets[family] = policy.with_drop(BANNED).with_drop(BLOCKED)
    engine.converge(targets, engine.snapshot(), persist=False, check=False)
    for name, made in MADE.items():
        for family in FAMILIES:
            full = f"sipguard-{name}{family.suffix}"
            host.sets[full] = (made.format(inet=family.inet), dict(MEMBERS.get(full, {})))
    host.interfere = lambda argv, stdin: _test(host, argv)
    host.read_only = True
    host.calls.clear()
    return host


def _test(host: FakeHost, argv: Sequence[str]) -> Completed | None:
    """``ipset test``."""
    if "test" not in argv:
        return None
    members = host.sets[argv[-2]][1]
    inside = any(ipaddress.ip_address(argv[-1]) in ipaddress.ip_network(member) for member in members)
    return Completed(int(not inside), "", "")


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A folder with two lists and an exception."""
    folder = str(tmp_path / "data")
    lists = Lists(f"{folder}/lists")
    hoster = NamedList("hoster", "static", "inventory", "enforce", 1777888530)
    lists.write(hoster.with_entries([Entry("203.0.113.64/26", 0, "seen"), Entry("198.18.0.0/15")]))
    feed = NamedList("feed", "feed", "https://example.org", "observe", 1777888530)
    lists.write(feed.with_entries([Entry("203.0.113.70-203.0.113.79")]))
    Exceptions(folder).write([Exempt(ipaddress.ip_address("198.18.0.7"), 1777888530, 0, "ticket")])
    return folder


JUDGED = "each new conversation to 5060:5061,5070 is judged by what it sends: signatures"


@pytest.mark.parametrize(
    ("address", "status", "found", "lines"),
    [
        ("198.51.99.1", 0, [], ["in none of sipguard's sets", JUDGED]),
        (
            "192.0.2.7",
            0,
            ["sipguard-trusted"],
            ["trusted as 192.0.2.0/24: never judged, limited, learned, banned or blocked (sipguard-trusted4)"],
        ),
        (
            "203.0.113.9",
            1,
            ["sipguard-offenders", "sipguard-banned"],
            [
                "learned as an offender, 12 s left: its SIP packets are dropped (sipguard-offenders4)",
                "banned, 1 h 1 min left, reason 'guesses': all its packets are dropped (sipguard-banned4)",
                JUDGED,
            ],
        ),
        (
            "198.51.100.9",
            1,
            ["sipguard-banned"],
            [
                "banned as part of 198.51.100.0/24, until somebody unbans it: all its packets are dropped (sipguard-banned4)",
                JUDGED,
            ],
        ),
        # Trusted always wins.
        (
            "192.0.2.9",
            0,
            ["sipguard-trusted", "sipguard-offenders"],
            [
                "trusted as 192.0.2.0/24: never judged, limited, learned, banned or blocked (sipguard-trusted4)",
                "learned as an offender, 30 s left: its SIP packets are dropped (sipguard-offenders4)",
                "trust comes first, so learned, banned and blocked entries stop nothing",
            ],
        ),
        (
            "203.0.113.10",
            0,
            ["sipguard-observed"],
            [JUDGED, "seen in observe mode: what it sent would have been stopped (sipguard-observed4)"],
        ),
        (
            "203.0.113.77",
            1,
            ["sipguard-blocked"],
            [
                "on the feed feed as 203.0.113.70-203.0.113.79 (fetched 2026-05-04 09:55 UTC): noted, not stopped (mode observe)",
                "on the list hoster as 203.0.113.64/26 (written 2026-05-04 09:55 UTC, note 'seen'): all its packets are dropped "
                "(sipguard-blocked4)",
                JUDGED,
            ],
        ),
        (
            "198.18.0.7",
            0,
            [],
            [
                "in none of sipguard's sets",
                "on the list hoster as 198.18.0.0/15 (written 2026-05-04 09:55 UTC): not blocked",
                "excepted by sipguard unban since 2026-05-04: ticket",
                JUDGED,
            ],
        ),
        (
            "2001:db8:bad::7",
            1,
            ["sipguard-blocked"],
            [
                "blocked, although no list has it, which the next refresh or run puts right: all its packets are dropped "
                "(sipguard-blocked6)",
                JUDGED,
            ],
        ),
        ("2001:db8::7", 0, [], ["in none of sipguard's sets", JUDGED]),
    ],
)
def test_why_says_what_stops_an_address(
    protected: FakeHost, data: str, address: str, status: int, found: list[str], lines: list[str]
) -> None:
    findings, text, code = why(protected, ipaddress.ip_address(address), data)
    head = f"{address}: {'STOPPED' if status else 'not stopped'}"
    assert text.splitlines() == [head, *(f"  {line}" for line in lines)]
    assert code == status
    assert (findings["address"], findings["stopped"]) == (address, status == 1)
    assert list(findings["found"]) == found
    assert all({"set", "entry", "seconds_left"} <= set(entry) for entry in findings["found"].values())
    assert json.loads(json.dumps(findings)) == findings
    assert [each["text"] for each in findings["findings"]] == [
        line for line in lines if not line.startswith(("in none", "trust comes"))
    ]


def test_set_that_no_rule_drops_stops_nothing(protected: FakeHost, data: str) -> None:
    protected.tables["iptables"].tables["raw"] = {"PREROUTING": [], "OUTPUT": []}
    findings, text, status = why(protected, ipaddress.ip_address("203.0.113.9"), data)
    assert (status, findings["stopped"]) == (0, False)
    assert (
        "banned, 1 h 1 min left, reason 'guesses': no rule drops that set now, see sipguard status (sipguard-banned4)"
        in text
    )


KNOWN4 = ("hash:ip family inet maxelem 65536 timeout 3600", {"203.0.113.9": " timeout 3000", "192.0.2.9": " timeout 9"})
LIMITS, SIGNATURES, LEARNED = "limits", "signatures", "learned offences"


def knowing(host: FakeHost, *slots: str) -> FakeHost:
    """The host with the policy of known_samples, of which these members are left; 203.0.113.9 and the trusted 192.0.2.9 are known."""
    host.read_only = False
    engine = Engine(host, store=Store("/nonexistent"))
    targets = {family: known_samples.policy(family).with_member(CHAIN_HOST, None) for family in FAMILIES}
    for family, policy in targets.items():
        for slot in set(policy.members) - set(slots):
            policy = policy.with_member(slot, None)
        targets[family] = policy
    engine.converge(targets, engine.snapshot(), persist=False, check=False)
    host.sets["sipguard-known4"] = KNOWN4
    host.sets["sipguard-banned4"][1].pop("203.0.113.9")
    host.read_only = True
    return host


@pytest.mark.parametrize(
    ("slots", "spares", "judged"),
    [
        ((CHAIN_RATE, CHAIN_GATE, CHAIN_UA), [LIMITS, SIGNATURES, LEARNED], "the domain gate"),
        ((CHAIN_RATE, CHAIN_UA), [LIMITS, SIGNATURES, LEARNED], ""),
        ((CHAIN_UA,), [SIGNATURES, LEARNED], ""),
    ],
)
def test_known_address_is_stopped_by_no_offence_that_was_learned(
    protected: FakeHost, data: str, slots: tuple[str, ...], spares: list[str], judged: str
) -> None:
    findings, text, status = why(knowing(protected, *slots), ipaddress.ip_address("203.0.113.9"), data)
    assert (status, findings["stopped"]) == (0, False)
    listed = ", ".join(spares[:-1]) + f" and {spares[-1]}"
    lines = [
        f"known because it has logged in, 50 min left: spared by {listed} (sipguard-known4)",
        "learned as an offender, 12 s left: stops nothing, because it is known (sipguard-offenders4)",
    ]
    lines += [f"each new conversation to 5060:5061 is judged by what it sends: {judged}"] if judged else []
    assert text.splitlines() == ["203.0.113.9: not stopped", *(f"  {line}" for line in lines)]
    known = findings["findings"][0]
    assert (known["what"], known["stops"], known["entry"]) == ("known", False, "203.0.113.9")
    assert (known["seconds_left"], known["set"]) == (3000, "sipguard-known4")
    assert known["spared_by"] == spares
    assert findings["found"]["sipguard-known"]["seconds_left"] == 3000


def test_known_address_is_stopped_by_a_ban(protected: FakeHost, data: str) -> None:
    host = knowing(protected, CHAIN_UA)
    host.sets["sipguard-banned4"][1]["203.0.113.9"] = " timeout 60"
    findings, text, status = why(host, ipaddress.ip_address("203.0.113.9"), data)
    assert status == 1
    assert [each["what"] for each in findings["findings"] if each["stops"]] == ["banned"]
    assert "learned as an offender, 12 s left: stops nothing, because it is known" in text


def test_address_in_a_set_of_known_sources_that_no_rule_asks_for(protected: FakeHost, data: str) -> None:
    protected.sets["sipguard-known4"] = KNOWN4
    findings, text, status = why(protected, ipaddress.ip_address("203.0.113.9"), data)
    assert status == 1
    assert "known because it has logged in, 50 min left: no rule spares known sources now (sipguard-known4)" in text
    assert {each["what"] for each in findings["findings"] if each["stops"]} == {"learned", "banned"}
    assert JUDGED in text


def test_what_rules_do_decides_whom_they_spare(protected: FakeHost, data: str) -> None:
    host = knowing(protected, CHAIN_RATE, CHAIN_UA)
    main = host.tables["iptables"].tables["filter"]["SIPGUARD"]
    main[0] = main[0].replace(" -m set ! --match-set sipguard-known4 src", "")
    host.tables["iptables"].tables["raw"]["SIPGUARD-PRE-SIP"].pop(1)
    text, status = why(host, ipaddress.ip_address("203.0.113.9"), data)[1:]
    assert status == 1
    assert "spared by signatures (sipguard-known4)" in text
    assert "learned as an offender, 12 s left: its SIP packets are dropped" in text


def test_trust_is_told_before_what_is_known(protected: FakeHost, data: str) -> None:
    findings = why(knowing(protected, CHAIN_UA), ipaddress.ip_address("192.0.2.9"), data)[0]
    assert [each["what"] for each in findings["findings"]] == ["trusted", "known", "learned"]
    assert "its SIP packets are dropped" in findings["findings"][2]["text"]


@pytest.mark.parametrize("known", [True, False])
def test_known_address_is_over_no_limit_but_that_of_ssh(
    protected: FakeHost, data: str, tmp_path: Path, known: bool
) -> None:
    host = knowing(protected, CHAIN_RATE)
    address = ipaddress.ip_address("203.0.113.9" if known else "203.0.113.8")
    tables = tmp_path / "proc/net/ipt_hashlimit"
    tables.mkdir(parents=True)
    for rule in host.tables["iptables"].rules():
        if "--hashlimit-name " in rule:
            name = rule.split("--hashlimit-name ")[1].split()[0]
            (tables / name).write_text(f"59 {address}:0->0.0.0.0:0 0 160000 32000\n", encoding="ascii")
    findings = Scene(host, data, str(tmp_path / "proc")).explain(address)[0]["findings"]
    over = [each["text"] for each in findings if each["what"] == "limit"]
    assert over[-1] == "over a limit now, SSH over 3/minute: what is more is dropped"
    assert len(over) == (1 if known else 3)


def test_foreign_sets_are_mentioned_by_their_family_only(protected: FakeHost, data: str) -> None:
    for name, made in (
        ("f2b-sshd", "hash:ip family inet"),
        ("fail2ban-\x1b[2J", "hash:net family inet"),
        ("f2b-ports", "hash:ip,port family inet"),
        ("mine", "hash:ip family inet"),
        ("f2b-six", "hash:ip family inet6"),
    ):
        protected.sets[name] = (f"{made} maxelem 9", {"203.0.113.9": ""})
    texts = [each["text"] for each in why(protected, ipaddress.ip_address("203.0.113.9"), data)[0]["findings"]]
    assert [text for text in texts if "fail2ban" in text] == [
        "in the set f2b-sshd of fail2ban, which is not sipguard's",
        "in the set fail2ban-\\x1b[2J of fail2ban, which is not sipguard's",
    ]


def test_damaged_files_hide_nothing(protected: FakeHost, data: str) -> None:
    (Path(data) / "lists/hoster").write_text("garbage")
    (Path(data) / "exceptions").write_text("garbage")
    findings, text, status = why(protected, ipaddress.ip_address("203.0.113.77"), data)
    assert status == 1
    problems = [each["text"] for each in findings["findings"] if each["what"] == "problem"]
    assert [problem.split(" ")[0:2] for problem in problems] == [["the", "list"], [f"{data}/exceptions", "is"]]
    assert text.count("is damaged") == 2


def test_one_look_is_enough_for_many_addresses(protected: FakeHost, data: str) -> None:
    scene = Scene(protected, data)
    for last in range(1, 40):
        scene.explain(ipaddress.ip_address(f"203.0.113.{last}"))
    read = [call for call in protected.calls if " test " not in call]
    assert len(read) == len(set(read))
