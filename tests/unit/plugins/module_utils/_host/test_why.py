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
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import BANNED, BLOCKED, FAMILIES
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import read_policy
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import HOOKS, parse_save
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from tests.unit.plugins.module_utils._netfilter import samples
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
