# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bans against real packets: who is banned is not heard, whoever was admitted before; his neighbour is; and the way back."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.harness import sip
from tests.integration.harness.command import install, sipguard
from tests.integration.harness.lab import PBX, WAYS, Lab
from tests.integration.harness.modules import collection_path

GUESSER = {4: "198.18.7.7", 6: "2001:db8:bad::7:7"}
NEIGHBOUR = {4: "198.18.7.8", 6: "2001:db8:bad::7:8"}
DATA = "/var/lib/sipguard"
WAIT = 20  # seconds after which a thing that must happen counts as not having happened


def ban(lab: Lab, *addresses: str, **options: Any) -> dict[str, Any]:
    return lab.apply("sip_ban", addresses=list(addresses), **options)


def unban(lab: Lab, *addresses: str, **options: Any) -> dict[str, Any]:
    return ban(lab, *addresses, state="unbanned", **options)


def files(lab: Lab) -> dict[str, str]:
    """What lies in /var/lib/sipguard, by name."""
    names = lab.pbx.run("sh", "-c", f"! cd {DATA} 2>/dev/null || find . -type f").split()
    return {name[2:]: lab.pbx.run("cat", f"{DATA}/{name}") for name in names}


def banned(lab: Lab) -> list[str]:
    """Lines of ipset save, without times."""
    lines = re.findall(r"^add sipguard-banned.*$", lab.pbx.run("ipset", "save"), flags=re.M)
    return sorted(re.sub(r" timeout [1-9]\d*", "", line, count=1) for line in lines)


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    """A laboratory for tests that leave nobody banned."""
    made = Lab("nft")
    yield made
    made.close()


# -- packets


def test_banned_source_is_not_heard_and_its_neighbour_is(lab: Lab) -> None:
    flows = {
        (who, *way): lab.attacker.flow(*way, source=address[way[1]])
        for who, address in (("guesser", GUESSER), ("neighbour", NEIGHBOUR))
        for way in WAYS
    }
    lab.blocklist()
    for flow in flows.values():
        assert lab.passes(flow, sip.request())  # admitted, and not judged any more
    ban(lab, *GUESSER.values(), reason="guesses passwords")
    lost = {}
    for (who, *way), flow in flows.items():
        lost[who, way[0], way[1]] = sip.request()
        heard = lab.passes(flow, lost[who, way[0], way[1]])
        assert heard is (who == "neighbour"), (who, way)
    for transport, family in WAYS:
        assert not lab.reaches(lab.attacker, sip.request(), transport, family, source=GUESSER[family])
        assert lab.reaches(lab.attacker, sip.request(), transport, family, source=NEIGHBOUR[family])
        assert lab.reaches(lab.phone, sip.request(), transport, family)
    unban(lab, *GUESSER.values())
    for transport, family in WAYS:
        assert lab.reaches(lab.attacker, sip.request(), transport, family, source=GUESSER[family])
        if transport == "udp":
            assert lab.passes(flows["guesser", "udp", family], sip.request())
        else:  # TCP has kept it, and sends it again
            assert lab.sink.wait(lost["guesser", "tcp", family].token, WAIT)


def test_ban_holds_on_every_port(shared: Lab) -> None:
    ban(shared, GUESSER[4])
    for port in (5060, 5070):
        assert not shared.reaches(shared.attacker, sip.request(), source=GUESSER[4], port=port)
        assert shared.reaches(shared.attacker, sip.request(), source=NEIGHBOUR[4], port=port)
    unban(shared, GUESSER[4])


def test_network_is_banned_to_its_edges(nft_lab: Lab) -> None:
    ban(nft_lab, "198.18.7.0/24", "2001:db8:bad::7:0/112")
    heard = {
        address: nft_lab.reaches(nft_lab.attacker, sip.request(), family=6 if ":" in address else 4, source=address)
        for address in ("198.18.6.255", "198.18.7.1", "198.18.7.254", "198.18.8.1", GUESSER[6], "2001:db8:bad::8:1")
    }
    assert heard == {
        "198.18.6.255": True,
        "198.18.7.1": False,
        "198.18.7.254": False,
        "198.18.8.1": True,
        GUESSER[6]: False,
        "2001:db8:bad::8:1": True,
    }


def test_kernel_ends_a_ban(shared: Lab, family: int) -> None:
    ban(shared, GUESSER[family], time="3")
    assert not shared.reaches(shared.attacker, sip.request(), family=family, source=GUESSER[family])
    end = time.monotonic() + WAIT
    while shared.member("sipguard-banned", GUESSER[family]):
        assert time.monotonic() < end, "the ban does not end"
        time.sleep(0.1)
    assert shared.reaches(shared.attacker, sip.request(), family=family, source=GUESSER[family])


def test_ban_outlives_the_runs_of_other_modules(lab: Lab) -> None:
    ban(lab, GUESSER[4])
    lab.blocklist()
    lab.blocklist(state="absent")
    assert not lab.reaches(lab.attacker, sip.request(), source=GUESSER[4])
    assert lab.reaches(lab.attacker, sip.request(), source=NEIGHBOUR[4])


def test_boot_brings_back_what_has_time_left(nft_lab: Lab) -> None:
    lab = nft_lab
    ban(lab, GUESSER[4], "2001:db8:bad::/64", time="1h", reason='it\'s an "ü" \\ # test')
    ban(lab, NEIGHBOUR[4], time="0")
    ban(lab, "198.18.7.9", time="2")
    before = banned(lab)
    end = time.monotonic() + WAIT
    while lab.member("sipguard-banned", "198.18.7.9"):
        assert time.monotonic() < end, "the ban does not end"
        time.sleep(0.1)
    lab.pbx.run("iptables-nft", "-t", "raw", "-F")
    lab.pbx.run("ip6tables-nft", "-t", "raw", "-F")
    for name in ("sipguard-banned4", "sipguard-banned6"):
        lab.pbx.run("ipset", "destroy", name)
    code = (
        "from ansible_collections.sipguard.pbx.plugins.module_utils._host.bans import restore_bans\n"
        "from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import HostRunner\n"
        "print(restore_bans(HostRunner()), restore_bans(HostRunner()))\n"
    )
    said = lab.pbx.run("env", f"PYTHONPATH={collection_path()}", sys.executable, "-c", code)
    assert said == "['3 bans brought back'] []\n"
    assert banned(lab) == [line for line in before if "198.18.7.9" not in line]
    left = re.findall(r"^add sipguard-banned\d (\S+) timeout (\d+)", lab.pbx.run("ipset", "save"), flags=re.M)
    assert {address: 3000 < int(seconds) <= 3600 for address, seconds in left} == {
        GUESSER[4]: True,
        "2001:db8:bad::/64": True,
        NEIGHBOUR[4]: False,
    }


# -- four runs


def test_four_runs_of_each_state(lab: Lab) -> None:
    before = lab.snapshot()
    assert files(lab) == {}
    done = lab.four_runs("sip_ban", addresses=[*GUESSER.values(), "198.18.9.0/24"], time="7d", reason="a test")
    assert done["said"] == dict.fromkeys([*GUESSER.values(), "198.18.9.0/24"], "banned for 7 d")
    assert done["bans"][GUESSER[4]] == {"entry": GUESSER[4], "seconds_left": 604800, "reason": "a test"}
    assert (done["differs"], done["persisted"], done["exceptions"], done["removed"]) == (True, True, {}, {})
    assert "banned 198.18.7.7 for 7 d: a test\n" in done["diff"]["after"]
    assert banned(lab) == [
        'add sipguard-banned4 198.18.7.7 comment "a test"',
        'add sipguard-banned4 198.18.9.0/24 comment "a test"',
        'add sipguard-banned6 2001:db8:bad::7:7 comment "a test"',
    ]
    assert lab.pbx.run("stat", "-c", "%a", f"{DATA}/bans") == "600\n"
    done = lab.four_runs("sip_ban", addresses=[*GUESSER.values()], state="unbanned")
    assert done["removed"] == {GUESSER[4]: ["sipguard-banned4"], GUESSER[6]: ["sipguard-banned6"]}
    assert banned(lab) == ['add sipguard-banned4 198.18.9.0/24 comment "a test"']
    done = lab.four_runs("sip_ban", state="cleared")
    assert "banned 198.18.9.0/24: a test\n" in done["diff"]["before"]
    after = lab.snapshot()
    assert (after["sets"], after["files"], files(lab)) == (before["sets"], before["files"], {})
    assert "SIPGUARD" not in lab.save(4) + lab.save(6)


def test_cleared_leaves_the_rules_of_others(lab: Lab) -> None:
    lab.blocklist()
    lab.trust("203.0.113.0/24")
    before = lab.snapshot()
    ban(lab, GUESSER[4])
    lab.four_runs("sip_ban", state="cleared")
    assert lab.snapshot() == before


def test_longer_ban_extends_and_shorter_one_does_not(nft_lab: Lab) -> None:
    lab = nft_lab

    def left() -> int:
        saved = lab.pbx.run("ipset", "save", "sipguard-banned4")
        return int(re.search(r"198\.18\.7\.7 timeout (\d+)", saved)[1])  # type: ignore[index]

    ban(lab, GUESSER[4], time="1h", reason="first")
    shorter = ban(lab, GUESSER[4], time="30m", reason="second")
    assert (shorter["changed"], shorter["bans"][GUESSER[4]]["reason"]) == (False, "first")
    assert re.fullmatch(r"banned already, for (1 h|59 min( \d+ s)?)", shorter["said"][GUESSER[4]])
    longer = ban(lab, GUESSER[4], time="2h")
    assert (longer["changed"], left() > 7000) == (True, True)
    assert banned(lab) == ['add sipguard-banned4 198.18.7.7 comment "first"']
    assert ban(lab, GUESSER[4], time="0")["changed"]
    assert left() == 0
    assert not ban(lab, GUESSER[4], time="7d")["changed"]
    inside = ban(lab, "198.18.8.0/24", time="0") and ban(lab, "198.18.8.8")
    assert (inside["changed"], inside["said"]) == (
        False,
        {"198.18.8.8": "banned already as 198.18.8.0/24, until somebody unbans it"},
    )


# -- refusals


@pytest.fixture(scope="module")
def guarded() -> Iterator[Lab]:
    """A host with a resolver, a trusted network, a gateway, and a ban in force."""
    made = Lab("nft")
    made.trust("203.0.113.0/24", "2001:db8:3::/64")
    made.pbx.run("sh", "-c", "echo nameserver 198.18.53.53 >/etc/resolv.conf")
    ban(made, GUESSER[4], "198.18.9.0/24")
    yield made
    made.close()


REFUSED = {
    "trusted": ("203.0.113.9", "203.0.113.9 cannot be banned: 203.0.113.0/24 is trusted"),
    "trusted network": ("203.0.113.0/24", "203.0.113.0/24 cannot be banned: it is trusted"),
    "trusted within": ("2001:db8:3::/48", "2001:db8:3::/48 cannot be banned: 2001:db8:3::/64 is trusted"),
    "own": (PBX[4], f"{PBX[4]} cannot be banned: it is an address of this host"),
    "own IPv6": (PBX[6], f"{PBX[6]} cannot be banned: it is an address of this host"),
    "gateway": ("10.255.1.0/24", "10.255.1.0/24 cannot be banned: 10.255.1."),
    "resolver": ("198.18.53.53", "198.18.53.53 cannot be banned: it is a resolver of this host"),
    "ssh": ("198.18.22.22", "198.18.22.22 cannot be banned: it is the peer of an SSH connection"),
    "this network": ("0.1.2.3", "0.1.2.3 cannot be banned: 0.0.0.0/8 is this network"),
    "loopback": ("127.0.0.9", "127.0.0.9 cannot be banned: 127.0.0.0/8 is the host itself"),
    "loopback IPv6": ("::1", "::1 cannot be banned: ::/127 is the host itself"),
    "link": ("fe80::1", "fe80::1 cannot be banned: fe80::/10 is its own link"),
    "multicast": ("239.1.1.1", "239.1.1.1 cannot be banned: 224.0.0.0/4 is multicast"),
    "multicast IPv6": ("ff02::1", "ff02::1 cannot be banned: ff00::/8 is multicast"),
    "broadcast": ("255.255.255.255", "240.0.0.0/4 is reserved addresses"),
    "large": ("198.18.0.0/15", "198.18.0.0/15 cannot be banned: it is larger than a /16"),
    "large IPv6": ("2001:d00::/24", "it is larger than a /32; what is, belongs into a list (sip_blocklist)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_ban_is_refused(guarded: Lab, case: str) -> None:
    address, said = REFUSED[case]
    before, data = guarded.snapshot(), files(guarded)
    env = {"SSH_CONNECTION": "198.18.22.22 40000 192.0.2.1 22"} if case == "ssh" else None
    for check in (True, False):
        result = guarded.module("sip_ban", check=check, addresses=["198.18.8.1", address], env=env)
        assert result.get("failed"), result
        assert said in result["msg"]
        assert result["msg"].endswith("; nothing was changed")
        assert list(result["refused"]) == [address]
    assert (guarded.snapshot(), files(guarded)) == (before, data)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"addresses": []}, "addresses: [] cannot be used; at least one address is needed"),
    "name": ({"addresses": ["pbx.example.org"]}, "addresses: 'pbx.example.org' cannot be used; it is a name"),
    "everybody": ({"addresses": ["0.0.0.0/0"]}, "it means every address there is"),
    "octal": ({"addresses": ["198.018.007.001"]}, "addresses: '198.018.007.001' cannot be used"),
    "bits": ({"addresses": ["198.18.7.1/24"]}, "198.18.7.0/24 would be right"),
    "zone": ({"addresses": ["fe80::1%eth0"]}, "no zones"),
    "mapped": ({"addresses": ["::ffff:198.18.7.7"]}, "its IPv4 form would be right"),
    "options": ({"addresses": ["198.18.7.7 timeout 0"]}, "addresses: '198.18.7.7 timeout 0' cannot be used"),
    "line": ({"addresses": ["198.18.7.7\nflush"]}, "cannot be used"),
    "time": ({"addresses": ["198.18.7.7"], "time": "soon"}, "time: 'soon' cannot be used; a time such as 90, 30m"),
    "time below": ({"addresses": ["198.18.7.7"], "time": "-1"}, "time: '-1' cannot be used"),
    "time above": ({"addresses": ["198.18.7.7"], "time": "30d"}, "at most 2147483 seconds (24 days), or 0"),
    "time one above": ({"addresses": ["198.18.7.7"], "time": "2147484"}, "time: '2147484' cannot be used"),
    "reason": ({"addresses": ["198.18.7.7"], "reason": "x" * 256}, "at most 255 bytes would be right"),
    "reason bytes": ({"addresses": ["198.18.7.7"], "reason": "ü" * 128}, "at most 255 bytes would be right"),
    "reason escape": ({"addresses": ["198.18.7.7"], "reason": "a\x1b[2Jb"}, "without control characters"),
    "cleared": ({"addresses": ["198.18.7.7"], "state": "cleared"}, "none would be right with state 'cleared'"),
    "lock": ({"addresses": ["198.18.7.7"], "lock_timeout": 0}, "lock_timeout: 0 cannot be used"),
    "switch": (
        {"addresses": ["198.18.7.8"], "switch": "c0ffee"},
        "the rollback timer of this run (c0ffee) has run out",
    ),
    "inside": (
        {"addresses": [GUESSER[4], "198.18.9.9"], "state": "unbanned"},
        "198.18.9.9 is banned as part of 198.18.9.0/24: unban 198.18.9.0/24, or trust 198.18.9.9; nothing was changed",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_changes_nothing(guarded: Lab, case: str) -> None:
    options, said = BAD[case]
    data = files(guarded)
    assert said in guarded.refused("sip_ban", **options)
    assert files(guarded) == data


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ('x" -exist\nadd sipguard-banned4 198.18.66.66', "x' -exist add sipguard-banned4 198.18.66.66"),
        ("\r\nflush sipguard-banned4\r\n", "flush sipguard-banned4"),
        ('" timeout 1', "' timeout 1"),
        ("back\\slash \\\" 'single' # hash ; $(id) `id`", "back\\slash \\' 'single' # hash ; $(id) `id`"),
        ("tab\tand\x0bmore", "tab and more"),
        ("x" * 255, "x" * 255),
    ],
)
def test_reason_cannot_inject(shared: Lab, reason: str, kept: str) -> None:
    ban(shared, GUESSER[4], reason=reason)
    assert banned(shared) == [f'add sipguard-banned4 198.18.7.7 comment "{kept}"']
    assert not ban(shared, GUESSER[4], reason=reason)["changed"]
    unban(shared, GUESSER[4])
    assert banned(shared) == []


# -- lists


def test_unban_lets_a_listed_address_in_for_good(nft_lab: Lab) -> None:
    lab = nft_lab

    def heard(address: str) -> bool:
        return lab.reaches(lab.attacker, sip.request(), source=address)

    listed = {"name": "office", "sources": [{"value": "198.18.7.0/24", "note": "a hoster"}]}
    lab.apply("sip_blocklist", **listed)
    assert (heard(GUESSER[4]), heard(NEIGHBOUR[4])) == (False, False)
    done = lab.four_runs("sip_ban", addresses=[GUESSER[4]], state="unbanned", reason="ticket 4711")
    assert done["exceptions"][GUESSER[4]]["reason"] == "ticket 4711"
    assert (heard(GUESSER[4]), heard(NEIGHBOUR[4])) == (True, False)
    assert not lab.apply("sip_blocklist", **listed)["changed"]
    lab.apply("sip_blocklist", **{**listed, "sources": ["198.18.7.0/24", "198.18.99.0/24"]})
    assert (heard(GUESSER[4]), heard(NEIGHBOUR[4])) == (True, False)
    # A ban ends the exception, and leaves the list its word.
    done = lab.four_runs("sip_ban", addresses=[GUESSER[4]])
    assert list(done["exceptions"]) == [GUESSER[4]]
    lab.pbx.run("ipset", "del", "sipguard-banned4", GUESSER[4])
    assert not heard(GUESSER[4])
    unban(lab, GUESSER[4])
    assert heard(GUESSER[4])
    lab.four_runs("sip_ban", state="cleared")
    assert (heard(GUESSER[4]), heard(NEIGHBOUR[4]), "exceptions" in files(lab)) == (False, False, False)


# -- the command


def test_command_bans_and_unbans(nft_lab: Lab) -> None:
    lab = nft_lab
    install(lab)
    assert sipguard(lab, "ban", GUESSER[4], GUESSER[6], "--reason", "guesses", "--time", "7d").stdout.splitlines() == [
        "198.18.7.7: banned for 7 d",
        "2001:db8:bad::7:7: banned for 7 d",
    ]
    assert not lab.reaches(lab.attacker, sip.request(), source=GUESSER[4])
    again = sipguard(lab, "ban", GUESSER[4], "--json")
    assert json.loads(again.stdout)[GUESSER[4]]["reason"] == "guesses"
    done = sipguard(lab, "ban", "127.0.0.1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "sipguard: 127.0.0.1 cannot be banned: 127.0.0.0/8 is the host itself; nothing was changed\n"
    )
    done = sipguard(lab, "unban", GUESSER[4], "198.18.44.44")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == [
        "198.18.7.7: taken out of sipguard-banned4",
        "198.18.7.7: not stopped",
    ]
    assert "198.18.44.44: nothing to take it out of\n" in done.stdout
    assert lab.reaches(lab.attacker, sip.request(), source=GUESSER[4])


def test_command_lists_and_takes_back_exceptions(nft_lab: Lab) -> None:
    lab = nft_lab
    install(lab)
    lab.apply("sip_blocklist", name="office", sources=["198.18.7.0/24"])
    assert sipguard(lab, "exceptions").stdout == "no exceptions\n"
    said = sipguard(lab, "unban", GUESSER[4], "--reason", 'the "branch"', "--time", "1h").stdout
    assert re.match(
        r"198\.18\.7\.7: excepted by sipguard unban since \d{4}-\d\d-\d\d until \d{4}-\d\d-\d\d: the 'branch'\n", said
    )
    assert lab.reaches(lab.attacker, sip.request(), source=GUESSER[4])
    assert sipguard(lab, "exceptions").stdout.startswith("198.18.7.7: excepted by sipguard unban since ")
    assert json.loads(sipguard(lab, "exceptions", "--json").stdout)[GUESSER[4]]["reason"] == "the 'branch'"
    assert sipguard(lab, "exceptions", "remove", GUESSER[4]).stdout.startswith("198.18.7.7: taken back: excepted by ")
    assert not lab.reaches(lab.attacker, sip.request(), source=GUESSER[4])
    assert sipguard(lab, "exceptions", "remove", GUESSER[4]).stdout == "198.18.7.7: no exception\n"
    assert sipguard(lab, "exceptions", GUESSER[4]).returncode == 2
    assert lab.reaches(lab.phone, sip.request())
