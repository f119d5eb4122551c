# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fail2ban's jails ban with our action, in the kernel: sets as the action makes them, without a fail2ban that would know of them."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.integration.harness import command, sip
from tests.integration.harness.command import install
from tests.integration.harness.lab import WAYS, Lab
from tests.integration.harness.modules import CHECKOUT

JAILED = {4: "198.18.7.7", 6: "2001:db8:bad::7:7"}
NETWORK = {4: "198.18.9.0/24", 6: "2001:db8:bad::9:0/112"}
NEIGHBOUR = {4: "198.18.7.8", 6: "2001:db8:bad::7:8"}
WITHIN = {4: "198.18.9.9", 6: "2001:db8:bad::9:9"}
ACTION = CHECKOUT / "roles/pbx_fail2ban/files/action.d/sipguard.conf"


def sipguard(lab: Lab, *arguments: str, status: int = 0) -> str:
    """What the command says; its exit status has to be the one expected."""
    done = command.sipguard(lab, *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def steps(name: str) -> list[str]:
    """The commands of one step of the action, as fail2ban would read them."""
    text = ACTION.read_text(encoding="utf-8")
    found = re.search(rf"^{name} = ((?:.+\n)(?:[ ]+.+\n)*)", text, flags=re.M)
    assert found
    return [line.strip().replace("%%", "%") for line in found[1].splitlines()]


def act(lab: Lab, step: str, jail: str, family: int, **tags: object) -> None:
    """Run a step for a jail and a family."""
    script = "\n".join(steps(step)).replace("<actionstart>", "\n".join(steps("actionstart")))
    values = {
        "set": f"jail-{jail}{family}",
        "list": f"sipguard-jails{family}",
        "inet": "inet6" if family == 6 else "inet",
        "name": jail,
        "time": f"{time.time():.5f}",
        **tags,
    }
    for tag, value in values.items():
        script = script.replace(f"<{tag}>", str(value))
    assert "<" not in script
    lab.pbx.run("sh", "-ec", script)


def jail(lab: Lab, name: str = "sipguard-asterisk", seconds: int = 600, **tags: object) -> None:
    for family in (4, 6):
        act(lab, "actionstart", name, family)
        for address in (JAILED[family], NETWORK[family]):
            act(lab, "actionban", name, family, ip=address, bantime=seconds, **tags)


def hears(lab: Lab, source: dict[int, str]) -> list[bool]:
    return [
        lab.reaches(lab.attacker, sip.request(), transport, family, source=source[family]) for transport, family in WAYS
    ]


@pytest.fixture
def jailing(lab: Lab) -> Lab:
    """A laboratory in which two jails ban, and a rule looks into their lists."""
    install(lab)
    lab.blocklist()
    jail(lab)
    jail(lab, "sshd", 60)
    sipguard(lab, "restore")
    return lab


def test_jailed_sources_are_not_heard_and_their_neighbours_are(jailing: Lab) -> None:
    assert not any(hears(jailing, JAILED))
    assert not any(hears(jailing, WITHIN))
    assert all(hears(jailing, NEIGHBOUR))
    jailing.trust(*JAILED.values())
    assert all(hears(jailing, JAILED))


def test_one_jails_unban_is_none_in_another(jailing: Lab) -> None:
    for family in (4, 6):
        act(jailing, "actionunban", "sshd", family, ip=JAILED[family])
    assert not any(hears(jailing, JAILED))
    for family in (4, 6):
        act(jailing, "actionunban", "sipguard-asterisk", family, ip=JAILED[family])
    assert all(hears(jailing, JAILED))
    for family in (4, 6):
        act(jailing, "actionstop", "sshd", family)
        act(jailing, "actionflush", "sipguard-asterisk", family)
    assert all(hears(jailing, WITHIN))
    assert "jail-sshd" not in jailing.pbx.run("ipset", "save")


def test_rule_and_sets_outlive_every_other_module(jailing: Lab) -> None:
    before = jailing.pbx.run("ipset", "save", "-sorted")
    members = re.findall(r"^add (?:jail|sipguard-jails)\S+ \S+", before, flags=re.M)
    assert len(members) == 12
    jailing.four_runs("sip_ua_blocklist", user_agents=["evilbot/"])
    jailing.apply("sip_ban", addresses=["203.0.113.9"])
    jailing.apply("sip_ban", state="cleared")
    jailing.four_runs("sip_ua_blocklist", state="absent")
    assert (
        re.findall(r"^add (?:jail|sipguard-jails)\S+ \S+", jailing.pbx.run("ipset", "save", "-sorted"), flags=re.M)
        == members
    )
    assert not any(hears(jailing, JAILED))
    assert all(hears(jailing, NEIGHBOUR))


@pytest.mark.parametrize(
    ("seconds", "left"),
    [(600, range(590, 601)), (-1, range(1)), (2147600, range(1)), (2147483, range(2147470, 2147484))],
)
def test_kernel_ends_what_it_can_count(nft_lab: Lab, seconds: int, left: range) -> None:
    jail(nft_lab, "sipguard-scan", seconds)
    said = re.findall(r"^add jail-\S+ \S+ timeout (\d+)", nft_lab.pbx.run("ipset", "save"), flags=re.M)
    assert len(said) == 4
    assert all(int(number) in left for number in said)


def test_ban_brings_back_what_somebody_has_taken_away(jailing: Lab) -> None:
    jailing.pbx.run("ipset", "flush", "sipguard-jails4")
    act(jailing, "actionban", "sshd", 4, ip="198.18.7.20", bantime=600)
    for name in ("jail-sshd6", "sipguard-jails6"):
        jailing.pbx.run("ipset", "flush", name)
    jailing.pbx.run("ipset", "destroy", "jail-sshd6")
    act(jailing, "actionban", "sshd", 6, ip="2001:db8:bad::7:20", bantime=600)
    assert not any(hears(jailing, {4: "198.18.7.20", 6: "2001:db8:bad::7:20"}))
    assert all(hears(jailing, NEIGHBOUR))


def test_ban_of_before_a_restart_lasts_no_longer_than_it_had_left(nft_lab: Lab) -> None:
    jail(nft_lab, "sipguard-asterisk", 600, time=int(time.time()) - 500)
    jail(nft_lab, "sipguard-scan", 600, time=int(time.time()) - 700)
    jail(nft_lab, "sshd", -1, time=int(time.time()) - 700)
    said = re.findall(r"^add jail-(\S+)4 \S+ timeout (\d+)", nft_lab.pbx.run("ipset", "save"), flags=re.M)
    left = {name: int(number) for name, number in said}
    assert 90 < left["sipguard-asterisk"] <= 100
    assert left.get("sipguard-scan", 0) <= 1
    assert left["sshd"] == 0


def test_clock_that_is_behind_makes_no_ban_longer(nft_lab: Lab) -> None:
    """As of a Raspberry Pi after a power cut, when fail2ban brings back what was banned "in the future"."""
    jail(nft_lab, "sipguard-asterisk", 600, time=int(time.time()) + 200 * 86400)
    jail(nft_lab, "sshd", -1, time=int(time.time()) + 200 * 86400)
    said = re.findall(r"^add jail-(\S+)4 \S+ timeout (\d+)", nft_lab.pbx.run("ipset", "save"), flags=re.M)
    left = {name: int(number) for name, number in said}
    assert 590 < left["sipguard-asterisk"] <= 600
    assert left["sshd"] == 0


def test_why_and_unban_know_of_jails(jailing: Lab) -> None:
    for family in (4, 6):
        report = json.loads(sipguard(jailing, "why", JAILED[family], "--json", status=1))
        jails = [each for each in report["findings"] if each["what"] == "jailed"]
        assert [each["jail"] for each in jails] == ["sipguard-asterisk", "sshd"]
        assert all(each["stops"] for each in jails)
        inside = sipguard(jailing, "why", WITHIN[family], status=1)
        assert f"banned as part of {NETWORK[family]} by fail2ban's jail sshd" in inside
        part = command.sipguard(jailing, "unban", WITHIN[family])
        assert part.returncode == 2
        assert f"{WITHIN[family]} is banned as part of {NETWORK[family]} by fail2ban's jail sshd: unban" in part.stderr
        said = sipguard(jailing, "unban", JAILED[family])
        assert "taken out of fail2ban's jail sipguard-asterisk, fail2ban's jail sshd" in said
    assert all(hears(jailing, JAILED))
    assert not any(hears(jailing, WITHIN))
    assert "jail-sshd4" in sipguard(jailing, "status")


def test_list_that_is_something_else_is_refused(nft_lab: Lab) -> None:
    install(nft_lab)
    nft_lab.pbx.run("ipset", "create", "sipguard-jails4", "list:set", "size", "8")
    nft_lab.pbx.run("ipset", "create", "other", "hash:ip")
    nft_lab.pbx.run("ipset", "create", "sipguard-jails6", "hash:net", "family", "inet6")
    nft_lab.pbx.run("ipset", "add", "sipguard-jails6", "2001:db8::1")
    done = command.sipguard(nft_lab, "restore")
    assert done.returncode == 2
    assert "the set sipguard-jails6 exists, but as hash:net with other properties than sipguard's" in done.stderr
