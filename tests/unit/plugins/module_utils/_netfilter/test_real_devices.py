# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The default list as it is rendered, against whole messages of real devices and scanners, in usual and odd spellings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import IPV4
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.lint import lint
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.ordinary import MESSAGES
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.presets import preset
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.signatures import PREFIX, Signature
from tests.unit.plugins.module_utils._netfilter import samples
from tests.unit.plugins.module_utils._netfilter.kernel import Kernel

CORPUS = Path(__file__).parents[4] / "corpus"
UA = "SIPGUARD-UA"

# What stands around the value: RFC 3261 section 7.3.1 allows all of it.
SPELLINGS = {
    "usual": b"User-Agent: %b\r\n",
    "no blank": b"User-Agent:%b\r\n",
    "two blanks": b"User-Agent:  %b\r\n",
    "tab": b"User-Agent:\t%b\r\n",
    "blank and tab": b"User-Agent: \t%b\r\n",
    "blank before the colon": b"User-Agent : %b\r\n",
    "blank before the colon only": b"User-Agent :%b\r\n",
    "folded": b"User-Agent:\r\n %b\r\n",
    "blank and folded": b"User-Agent: \r\n %b\r\n",
    "lower case": b"user-agent:%b\r\n",
    "upper case": b"USER-AGENT: %b\r\n",
}
# Text that signatures are made of, where it means nothing: it must not matter where else a packet has it.
AROUND = (
    b"Subject: Test\r\nOrganization: PBX\r\nAlert-Info: x\r\nX-Cisco:cisco\r\nX-Model:\tCustom\r\nPriority: -\r\nCall-Info:x\r\n"
    b"X-Tag: SIP\r\nSubject:\r\n Test\r\nOrganization : China\r\nError-Info:  VOIP\r\n"
)
SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.21\r\ns=-\r\nc=IN IP4 192.0.2.21\r\nt=0 0\r\nm=audio 10000 RTP/AVP 8\r\n"
HOSTS = (b"sip-scania.example", b"applsip.example", b"smap.example", b"test.example", b"x.example")


def rows(name: str) -> list[list[str]]:
    lines = (CORPUS / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def carriers() -> list[tuple[bytes, bytes]]:
    """Every ordinary message with a User-Agent, in two pieces around that line: as it is, and in bad company."""
    found = []
    for place, (_name, packet) in enumerate(MESSAGES):
        head, separator, rest = packet.partition(b"\r\nUser-Agent: ")
        if not separator:
            continue
        tail = rest[rest.index(b"\r\n") + 2 :]
        found.append((head + b"\r\n", tail))
        host = HOSTS[place % len(HOSTS)]
        renamed = re.sub(rb"[a-z.]*example(?:\.com|\.org|\.net)?", host, head)
        headers, dummy, body = tail.partition(b"\r\n\r\n")
        found.append((renamed + b"\r\n" + AROUND, headers + b"\r\n" + AROUND + b"\r\n" + (body or SDP)))
        found.append(
            (head + b"\r\n", AROUND + headers + b"\r\nReferred-By: <sip:sip-scan@" + host + b">\r\n\r\n" + SDP)
        )
    return found


CARRIERS = carriers()
PHONES = [agent for agent, _source in rows("phones.tsv")]
SCANNERS = [(agent, stopped) for agent, stopped, _source in rows("scanners.tsv")]


def kernel(*signatures: Signature) -> Kernel:
    chains = samples.policy(IPV4, signatures).members[UA].chains
    return Kernel({name: [rule.render() for rule in rules] for name, rules in chains.items() if name in SEARCHING}, HIT)


HIT = f"{UA}-HIT"
SEARCHING = (UA, f"{UA}-HEADER", f"{UA}-ODD")
DEFAULT = kernel(*lint(preset("scanners")).effective)


def test_carriers_are_many_and_in_bad_company() -> None:
    assert len(CARRIERS) >= 15
    assert all(any(host in head + tail for head, tail in CARRIERS) for host in HOSTS[:2])
    assert sum(b"\r\ns=-\r\n" in tail for _head, tail in CARRIERS) >= 5


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_not_one_real_device_is_stopped(spelling: str) -> None:
    line = SPELLINGS[spelling]
    stopped = {
        (agent, DEFAULT.hit(UA, head + line % agent.encode() + tail)) for agent in PHONES for head, tail in CARRIERS
    }
    assert stopped == {(agent, None) for agent in PHONES}


# Behind a blank and a tab nothing but distinctive words are looked for.
@pytest.mark.parametrize("spelling", sorted(SPELLINGS.keys() - {"blank and tab"}))
def test_every_known_scanner_is_stopped_however_it_spells_the_header(spelling: str) -> None:
    line = SPELLINGS[spelling]
    results = {
        (agent, "yes" if DEFAULT.hit(UA, head + line % agent.encode() + tail) else "no")
        for agent, _stopped in SCANNERS
        for head, tail in CARRIERS
    }
    assert results == set(SCANNERS)


@pytest.mark.parametrize("value", ["", " ", "\r\n x", "\r\n\tx", " \r\n x", "  "], ids=repr)
def test_only_an_empty_header_is_empty(value: str) -> None:
    """A folded value begins on the next line."""
    (head, tail) = CARRIERS[0]
    alone = kernel(Signature("nobody-sends-this", PREFIX))
    found = alone.hit(UA, head + b"User-Agent:" + value.encode() + b"\r\n" + tail)
    assert (found is not None) is (value in ("", " "))


def test_interpreter_follows_jumps_gotos_and_negations() -> None:
    rules = {
        "A": ['-A A -m string --string "one" --algo kmp -j B', '-A A -m string --string "two" --algo kmp -g STOP'],
        "B": ['-A B -m string ! --hex-string "|4f4e|e" --algo kmp --icase -g STOP', "-A B -g C"],
        "C": [
            '-A C -m string --string "back" --algo kmp -j RETURN',
            '-A C -m string --string "stop" --algo kmp -g STOP',
        ],
    }
    model = Kernel(rules, "STOP")
    assert model.hit("A", b"nothing") is None
    assert model.hit("A", b"two") == rules["A"][1]
    assert model.hit("A", b"one") is None
    assert model.hit("A", b"one stop") == rules["C"][1]
    assert model.hit("A", b"one back stop two") == rules["A"][1]
    assert model.hit("B", b"ON") == rules["B"][0]
    with pytest.raises(AssertionError):
        Kernel({"A": ["-A A -m u32 --u32 0=0 -j STOP"]}, "STOP")
