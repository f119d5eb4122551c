# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Going back: to which state, with files that cannot be read, and after a start of the host."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.harness.lab import NETWORKS, Lab
from tests.integration.harness.switch import NEW, OLD, Switches, exact

TRUNK = list(NETWORKS["trunk"].values())


def _both(lab: Lab, *argv: str) -> None:
    for family in (4, 6):
        lab.iptables(*argv, family=family)


# -- which state


def test_rollback_goes_from_pending_to_confirmed_to_before_that(lab: Lab) -> None:
    """(a) the change that is pending, (b) what somebody changed by hand, (c) the confirmed changes, the newest first."""
    switches = Switches(lab)
    states = [exact(lab)]
    for sources in (["203.0.113.1"], ["203.0.113.1", "203.0.113.2"]):
        switches.keep(
            lambda cookie, sources=sources: (lab.trust(*sources, switch=cookie), lab.blocklist(switch=cookie))
        )
        states.append(exact(lab))
    nothing, first, second = states

    cookie = switches.arm(60)
    lab.blocklist(switch=cookie, user_agents=["evilbot/1.0"])
    said = switches.sipguard("rollback")
    assert f"change {cookie}, armed at" in said
    assert "ipv4 rules of table filter" in said
    assert exact(lab) == second
    assert not switches.await_end(cookie)["confirmed"]

    _both(lab, "-F", "SIPGUARD-UA")
    lab.pbx.run("ipset", "add", "sipguard-trusted4", "203.0.113.9")
    lab.pbx.run("rm", "/etc/sipguard/rules.v6")
    said = switches.sipguard("rollback")
    assert "was not as confirmed" in said
    for what in ("ipv4 rules of table filter", "ipv6 rules", "set sipguard-trusted4", "file rules.v6"):
        assert what in said
    assert exact(lab) == second

    said = switches.sipguard("rollback")
    assert "is taken back" in said
    assert exact(lab) == first
    result = json.loads(switches.sipguard("rollback", "--json"))
    assert result["changed"]
    assert exact(lab) == nothing
    assert "nothing to go back to" in switches.sipguard("rollback", status=2)
    assert exact(lab) == nothing


def test_history_is_five_long(nft_lab: Lab) -> None:
    switches = Switches(nft_lab)
    for number in range(7):
        switches.keep(lambda cookie, number=number: nft_lab.trust(f"203.0.113.{number}", switch=cookie))
    assert len([name for name in switches.files() if name.startswith("state-")]) == 6
    for number in (5, 4, 3, 2, 1):
        switches.sipguard("rollback")
        assert nft_lab.member("sipguard-trusted", f"203.0.113.{number}")
    assert "nothing to go back to" in switches.sipguard("rollback", status=2)


def test_going_far_back_has_to_be_confirmed_too(nft_lab: Lab) -> None:
    """It may shut the controller out just like going forward."""
    lab = nft_lab
    switches = Switches(lab)
    states = []
    for source in ("203.0.113.1", "203.0.113.2", "203.0.113.3"):
        switches.keep(lambda cookie, source=source: lab.trust(source, switch=cookie))
        states.append(exact(lab))
    back = switches.apply("rolled_back", env=OLD)
    assert exact(lab) == states[1]
    assert "proves nothing" in switches.module("confirmed", cookie=back["cookie"], env=OLD)["msg"]
    switches.apply("rolled_back", cookie=back["cookie"])
    assert exact(lab) == states[2]
    for state in (states[1], states[0]):
        back = switches.apply("rolled_back", env=OLD)
        switches.confirm(back["cookie"])
        assert exact(lab) == state


def test_unconfirmed_going_back_goes_forward_by_itself(nft_lab: Lab) -> None:
    lab = nft_lab
    switches = Switches(lab)
    for source in ("203.0.113.1", "203.0.113.2"):
        switches.keep(lambda cookie, source=source: lab.trust(source, switch=cookie))
    now = exact(lab)
    said = switches.sipguard("rollback", "--seconds", "10")
    cookie = re.findall("sipguard confirm ([0-9a-f]{16})", said)[0]
    assert exact(lab) != now
    assert not switches.await_end(cookie)["confirmed"]
    assert exact(lab) == now
    assert lab.member("sipguard-trusted", "203.0.113.2")


# -- with files that cannot be read


def _cut(text: str) -> str:
    return text[: len(text) // 2]


DAMAGE: dict[str, Callable[[str], str]] = {"empty": lambda text: "", "cut": _cut, "other": lambda text: "{}"}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_do_not_stop_the_timer(nft_lab: Lab, damage: str) -> None:
    lab = nft_lab
    switches = Switches(lab)
    switches.keep(lambda cookie: lab.blocklist(switch=cookie))
    before = exact(lab)
    cookie = switches.arm(3)
    lab.blocklist(switch=cookie, user_agents=["evilbot/1.0"])
    for name in switches.files():
        switches.write(name, DAMAGE[damage](switches.read(name)))
    assert "is damaged" in switches.module("confirmed", cookie=cookie, env=NEW)["msg"]
    switches.await_timer(cookie)
    assert exact(lab) == before


@pytest.mark.parametrize("name", ["pending.json", "state-"])
def test_damaged_change_goes_back_to_what_was_confirmed(nft_lab: Lab, name: str) -> None:
    """The timer is dead, the file is damaged: the host goes back to what somebody has once confirmed, and says so."""
    lab = nft_lab
    switches = Switches(lab)
    switches.keep(lambda cookie: lab.blocklist(switch=cookie))
    before = exact(lab)
    known = switches.files()
    cookie = switches.arm(60)
    lab.blocklist(switch=cookie, user_agents=["evilbot/1.0"])
    switches.kill_timer(cookie)
    (damaged,) = [found for found in switches.files() if found.startswith(name) and found not in known]
    switches.write(damaged, _cut(switches.read(damaged)))
    if name == "pending.json":
        assert "is damaged" in switches.sipguard("pending", status=2)
        assert "is damaged" in lab.refused("sip_trust", sources=["203.0.113.1"], switch=cookie)
    else:
        switches.expire()
    result = switches.apply("armed")
    assert "is damaged" in result["said"]
    assert "confirmed at" in result["said"]
    assert result["changed"]
    assert exact(lab) == before
    switches.confirm(result["cookie"])


def test_damaged_first_change_leaves_nothing_of_ours(nft_lab: Lab) -> None:
    lab = nft_lab
    switches = Switches(lab)
    before = exact(lab)
    cookie = switches.arm(60)
    lab.blocklist(switch=cookie)
    switches.kill_timer(cookie)
    switches.write("pending.json", "")
    assert "all of sipguard's rules are removed" in switches.sipguard("rollback")
    assert exact(lab) == before


def test_damaged_record_is_said_and_nothing_is_guessed(nft_lab: Lab) -> None:
    lab = nft_lab
    switches = Switches(lab)
    switches.keep(lambda cookie: lab.blocklist(switch=cookie), lambda cookie: lab.trust(*TRUNK, switch=cookie))
    before = exact(lab)
    switches.write("record.json", _cut(switches.read("record.json")))
    for state in ("armed", "rolled_back", "settled"):
        message = switches.module(state)["msg"]
        assert "record.json is damaged" in message
        assert "remove it" in message
    assert exact(lab) == before
    lab.pbx.run("rm", "/var/lib/sipguard/record.json")
    switches.keep(lambda cookie: lab.trust("203.0.113.1", switch=cookie))
    switches.sipguard("rollback")
    assert exact(lab) == before


# -- and after a start of the host


def _made_anew(state: dict[Any, Any]) -> dict[Any, Any]:
    """Sets that are made anew have another start of their hash."""
    return {**state, "sets": re.sub(r" initval \S+", "", state["sets"])}


def _restart(lab: Lab) -> None:
    """What a start of the host does to the kernel, and to whom it belongs."""
    for family in (4, 6):
        for table in ("raw", "mangle", "filter"):
            lab.iptables("-t", table, "-F", family=family)
            lab.iptables("-t", table, "-X", family=family)
    lab.pbx.run("ipset", "destroy")
    lab.pbx.run(
        "sh",
        "-c",
        "echo 5c1ab0d2-0000-4000-8000-000000000000 >/run/boot_id && mount --bind /run/boot_id /proc/sys/kernel/random/boot_id",
    )


def test_change_that_was_pending_is_not_loaded_at_boot(lab: Lab) -> None:
    switches = Switches(lab)
    lab.trust(*TRUNK)
    lab.blocklist()
    before = exact(lab)
    cookie = switches.arm(60)
    lab.trust("203.0.113.1", switch=cookie)
    lab.blocklist(switch=cookie, user_agents=["evilbot/1.0"], table="mangle")
    switches.kill_timer(cookie)
    _restart(lab)
    said = switches.sipguard("restore")
    assert f"change {cookie}, armed at" in said
    assert _made_anew(exact(lab)) == _made_anew(before)
    assert "started anew" in switches.await_end(cookie)["why"]
    assert cookie not in switches.sipguard("restore")
    assert "taken back" in switches.module("confirmed", cookie=cookie, env=NEW)["msg"]


def test_damaged_change_is_not_loaded_at_boot_either(nft_lab: Lab) -> None:
    lab = nft_lab
    switches = Switches(lab)
    switches.keep(lambda cookie: (lab.trust(*TRUNK, switch=cookie), lab.blocklist(switch=cookie)))
    before = exact(lab)
    cookie = switches.arm(60)
    lab.blocklist(switch=cookie, state="absent")
    switches.kill_timer(cookie)
    switches.write("pending.json", "{")
    _restart(lab)
    assert "is damaged" in switches.sipguard("restore")
    assert _made_anew(exact(lab)) == _made_anew(before)


def test_restore_by_hand_leaves_a_pending_change_alone(nft_lab: Lab) -> None:
    lab = nft_lab
    switches = Switches(lab)
    lab.blocklist()
    cookie = switches.arm(60)
    lab.blocklist(switch=cookie, user_agents=["evilbot/1.0"])
    changed = exact(lab)
    assert cookie not in switches.sipguard("restore")
    assert exact(lab) == changed
    switches.confirm(cookie)
