# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead-man's switch: whoever is locked out gets in again by waiting, and what was confirmed stays."""

from __future__ import annotations

import contextlib

import pytest

from tests.integration.harness import sip
from tests.integration.harness.lab import NETWORKS, WAYS, Lab
from tests.integration.harness.modules import finish, module_process
from tests.integration.harness.services import MARKER, services_lab
from tests.integration.harness.switch import NEW, OLD, Armed, Switches, exact

TRUNK = list(NETWORKS["trunk"].values())


def shut_out(lab: Lab) -> None:
    """Nothing from the controller, which is where the phones are, gets through our chains any more."""
    for family in (4, 6):
        source = NETWORKS["phone"][family]
        lab.iptables("-I", "SIPGUARD", "-s", source, "-j", "DROP", family=family)
        lab.iptables("-t", "raw", "-I", "SIPGUARD-PRE", "-s", source, "-j", "DROP", family=family)


def is_shut_out(lab: Lab) -> bool:
    answers = {lab.reaches(lab.phone, sip.request(), transport, family) for transport, family in WAYS}
    assert len(answers) == 1
    return answers == {False}


@pytest.fixture
def switches(lab: Lab) -> Switches:
    """A PBX with rules that nobody minds, and the command that goes back to them."""
    lab.trust(*TRUNK)
    lab.blocklist()
    return Switches(lab)


@pytest.fixture
def nft_switches(nft_lab: Lab) -> Switches:
    nft_lab.trust(*TRUNK)
    nft_lab.blocklist()
    return Switches(nft_lab)


def test_host_that_shuts_out_its_controller_comes_back(lab: Lab, switches: Switches) -> None:
    before = exact(lab)
    cookie = switches.arm(5, OLD)
    lab.trust(switch=cookie)
    lab.blocklist(switch=cookie, user_agents=["evilbot/1.0"])
    shut_out(lab)
    assert is_shut_out(lab)
    ended = switches.await_end(cookie)
    assert (ended["confirmed"], ended["why"]) == (False, "because its time had run out")
    assert exact(lab) == before
    assert not is_shut_out(lab)
    for family in (4, 6):
        assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER), "udp", family)
        assert lab.reaches(lab.trunk, sip.request(sip.SCANNER), "udp", family)
    assert switches.files() == ["record.json"]


def test_wrong_address_of_the_administrator(backend: str) -> None:
    """Everything at once, and a host policy that lets nobody but a stranger log in."""
    with contextlib.closing(services_lab(backend)) as lab:
        switches = Switches(lab)
        before = exact(lab)
        cookie = switches.arm(8, OLD)
        lab.trust(*TRUNK, switch=cookie)
        lab.apply("sip_ratelimit", switch=cookie)
        lab.apply("sip_domain_gate", domains=["tel.example.com"], switch=cookie)
        lab.blocklist(switch=cookie)
        lab.apply("sip_host_policy", services=[MARKER], admins=["203.0.113.99"], switch=cookie)
        for family in (4, 6):
            assert not lab.reaches(lab.phone, sip.request(), "tcp", family, port=22)
        assert not switches.await_end(cookie)["confirmed"]
        assert exact(lab) == before
        for family in (4, 6):
            assert lab.reaches(lab.phone, sip.request(), "tcp", family, port=22)


def test_confirmed_change_stays(lab: Lab, switches: Switches) -> None:
    cookie = switches.arm(60, OLD)
    assert switches.waiting(cookie)
    lab.blocklist(switch=cookie, user_agents=["evilbot/1.0"])
    changed = exact(lab)
    assert switches.sipguard("confirm", cookie) == f"sipguard: change {cookie} is confirmed\n"
    assert switches.await_end(cookie)["confirmed"]
    assert switches.sipguard("confirm", cookie).startswith(f"sipguard: change {cookie} was confirmed at ")
    assert exact(lab) == changed
    assert not lab.reaches(lab.attacker, sip.request("evilbot/1.0"))
    assert "pending.json" not in switches.files()


def test_only_another_connection_proves_anything(nft_switches: Switches) -> None:
    switches = nft_switches
    for armed, confirmed, kept in (
        (OLD, OLD, False),
        (OLD, NEW, True),
        (OLD, {"SSH_CONNECTION": "198.51.100.10 40001 192.0.2.1 22"}, True),
        (OLD, {}, True),  # somebody at the console
        ({}, {}, True),  # the connection plugins local, docker, podman: there is nothing to be cut
        ({}, NEW, True),
    ):
        cookie = switches.arm(60, armed)
        result = switches.module("confirmed", cookie=cookie, env=confirmed)
        assert bool(result.get("failed")) is not kept, result
        assert ("proves nothing" in result.get("msg", "")) is not kept
        if not kept:
            assert switches.waiting(cookie)
            assert switches.apply("rolled_back", cookie=cookie)["said"].startswith(f"change {cookie}")
        assert switches.await_end(cookie)["confirmed"] is kept
    cookie = switches.arm(60, OLD)
    switches.apply("confirmed", cookie=cookie, new_connection=False, env=OLD)


def test_session_killed_with_everything_in_it(lab: Lab, switches: Switches) -> None:
    before = exact(lab)
    armed = Armed(lab, 3, OLD)
    shut_out(lab)
    armed.kill()
    assert switches.waiting(armed.cookie)
    assert not switches.await_end(armed.cookie)["confirmed"]
    assert exact(lab) == before


def test_session_killed_before_anything_changed(nft_lab: Lab, nft_switches: Switches) -> None:
    lab, switches = nft_lab, nft_switches
    before = exact(lab)
    armed = Armed(lab, 1, OLD)
    armed.kill()
    assert not switches.await_end(armed.cookie)["confirmed"]
    assert exact(lab) == before


def test_confirmation_at_the_last_moment_is_whole_or_none(nft_lab: Lab, nft_switches: Switches) -> None:
    """More and more time, until it is enough: whichever comes first, the other one changes nothing any more."""
    lab, switches = nft_lab, nft_switches
    before = exact(lab)
    seconds, kept = 0.1, False
    while not kept:
        seconds *= 1.2
        cookie = switches.arm(seconds)
        lab.module("sip_trust", sources=["203.0.113.7"], switch=cookie)
        confirmation = switches.module("confirmed", cookie=cookie, env=NEW)
        kept = switches.await_end(cookie)["confirmed"]
        assert kept is not bool(confirmation.get("failed")), confirmation
        assert lab.member("sipguard-trusted", "203.0.113.8") is not kept
        assert kept or exact(lab) == before
    assert seconds > 0.12, "the first one had no time at all"


@pytest.mark.parametrize("state", ["armed", "settled"])
def test_killed_timer_is_made_up_for(nft_lab: Lab, nft_switches: Switches, state: str) -> None:
    """Whoever comes by next takes back what the timer cannot any more."""
    lab, switches = nft_lab, nft_switches
    before = exact(lab)
    cookie = switches.arm(60)
    shut_out(lab)
    switches.kill_timer(cookie)
    switches.expire()
    result = switches.apply(state)
    assert result["changed"]
    assert f"change {cookie}, armed at" in result["said"]
    assert exact(lab) == before
    assert not switches.await_end(cookie)["confirmed"]
    if result["cookie"]:
        switches.confirm(result["cookie"])
    assert not switches.apply("settled")["changed"]


def test_modules_of_a_run_that_was_taken_back_change_nothing(nft_lab: Lab, nft_switches: Switches) -> None:
    lab, switches = nft_lab, nft_switches
    cookie = switches.arm(1)
    switches.await_end(cookie)
    for name, options in (
        ("sip_trust", {"sources": ["203.0.113.7"]}),
        ("sip_trust", {"state": "absent"}),
        ("sip_ua_blocklist", {"user_agents": ["evilbot/1.0"]}),
        ("sip_ua_blocklist", {"state": "absent"}),
    ):
        message = lab.refused(name, **options, switch=cookie)
        assert cookie in message
        assert "run again" in message
    other = switches.arm(60)
    assert cookie in lab.refused("sip_trust", sources=["203.0.113.7"], switch=cookie)
    assert lab.trust("203.0.113.7", switch=other)["changed"]
    switches.apply("rolled_back", cookie=other)
    assert other in lab.refused("sip_trust", sources=["203.0.113.7"], switch=other)


def test_expired_change_takes_no_more_changes_and_no_confirmation(nft_lab: Lab, nft_switches: Switches) -> None:
    """Between the end of its time and the moment in which the host has gone back."""
    switches = nft_switches
    cookie = switches.arm(60)
    switches.expire()
    assert "has run out" in nft_lab.refused("sip_trust", sources=["203.0.113.7"], switch=cookie)
    assert "time ran out" in switches.module("confirmed", cookie=cookie, env=NEW)["msg"]
    assert switches.waiting(cookie), "what is in its memory decides, not what stands in a file"
    switches.apply("rolled_back")


def test_second_run_waits_until_the_first_is_confirmed(nft_lab: Lab, nft_switches: Switches) -> None:
    lab, switches = nft_lab, nft_switches
    first = switches.arm(60)
    lab.trust("203.0.113.7", switch=first)
    with module_process(lab.pbx, "sipguard_switch", {"state": "armed"}, env=OLD) as process:
        assert "203.0.113.7" in lab.sets()
        assert process.poll() is None
        assert switches.situation()["pending"]["cookie"] == first
        switches.confirm(first)
        second = finish(process)
    assert second["cookie"] not in ("", first)
    assert not second["changed"]
    lab.trust("203.0.113.8", switch=second["cookie"])
    assert switches.apply("confirmed", cookie=first, env=NEW)["said"].startswith(f"change {first} was confirmed at ")
    assert "was confirmed" in switches.module("rolled_back", cookie=first)["msg"]
    assert lab.member("sipguard-trusted", "203.0.113.8")
    switches.apply("rolled_back", cookie=second["cookie"])
    assert lab.member("sipguard-trusted", "203.0.113.7")
    assert not lab.member("sipguard-trusted", "203.0.113.8")


def test_second_run_waits_until_the_first_has_gone_back(nft_lab: Lab, nft_switches: Switches) -> None:
    lab, switches = nft_lab, nft_switches
    before = exact(lab)
    first = switches.arm(2)
    lab.trust("203.0.113.7", switch=first)
    second = switches.apply("armed")
    assert exact(lab) == before
    assert not second["changed"]
    message = switches.module("confirmed", cookie=first, env=NEW)["msg"]
    assert "taken back at" in message
    assert "because its time had run out" in message
    assert not switches.apply("rolled_back", cookie=first)["changed"]
    switches.confirm(second["cookie"])


def test_unknown_cookie(nft_lab: Lab, nft_switches: Switches) -> None:
    switches = nft_switches
    cookie = switches.arm(60)
    before = exact(nft_lab)
    for state in ("confirmed", "rolled_back"):
        message = switches.module(state, cookie="0123456789abcdef", env=NEW)["msg"]
        assert "'0123456789abcdef'" in message
        assert cookie in message
    assert "no change on this host" in switches.sipguard("confirm", "0123456789abcdef", status=2)
    assert exact(nft_lab) == before
    assert switches.situation()["pending"]["cookie"] == cookie
    switches.confirm(cookie)


def test_switch_refuses_bad_options(nft_lab: Lab, nft_switches: Switches) -> None:
    for options, said in (
        ({"state": "armed", "seconds": 0}, "seconds: 0 cannot be used; 10 to 3600 seconds"),
        ({"state": "armed", "seconds": 9}, "seconds: 9"),
        ({"state": "armed", "seconds": 3601}, "seconds: 3601"),
        ({"state": "armed", "seconds": -60}, "seconds: -60"),
        ({"state": "rolled_back", "seconds": 1}, "seconds: 1"),
        ({"state": "confirmed"}, "cookie: ''"),
    ):
        before = exact(nft_lab)
        message = nft_switches.module(**options)["msg"]
        assert said in message
        assert exact(nft_lab) == before
        assert nft_switches.situation()["pending"] is None
    assert "seconds: 5" in nft_switches.sipguard("rollback", "--seconds", "5", status=2)


def test_nothing_is_armed_when_the_timer_does_not_start(nft_lab: Lab, nft_switches: Switches) -> None:
    lab, switches = nft_lab, nft_switches
    before = exact(lab)
    lab.pbx.run("tee", "/usr/local/sbin/sipguard", stdin="#!/bin/sh\necho no such thing as Python >&2\nexit 127\n")
    message = switches.module("armed")["msg"]
    assert "nothing was changed" in message
    assert "no such thing as Python" in message
    lab.pbx.run("rm", "/usr/local/sbin/sipguard")
    message = switches.module("armed")["msg"]
    assert "/usr/local/sbin/sipguard" in message
    assert "sipguard_host" in message
    assert exact(lab) == before
    Switches(lab)
    assert switches.situation()["pending"] is None


def test_switch_in_check_mode_does_nothing(nft_lab: Lab, nft_switches: Switches) -> None:
    lab, switches = nft_lab, nft_switches
    result = switches.apply("armed", check=True)
    assert (result["cookie"], result["changed"]) == ("", False)
    assert switches.situation()["pending"] is None
    before = exact(lab)
    cookie = switches.arm(60)
    lab.trust("203.0.113.7", switch=cookie)
    changed = exact(lab)
    assert not switches.apply("confirmed", cookie=cookie, check=True)["changed"]
    assert not switches.apply("settled", check=True)["changed"]
    asked = switches.apply("rolled_back", cookie=cookie, check=True)
    assert asked["changed"]
    assert "+add sipguard-trusted4 203.0.113.0/24" in _diff(asked)
    assert "-add sipguard-trusted4 203.0.113.7" in _diff(asked)
    assert exact(lab) == changed
    assert switches.situation()["pending"]["cookie"] == cookie
    done = switches.apply("rolled_back", cookie=cookie)
    assert done["changed"]
    assert _diff(done) == _diff(asked)
    assert exact(lab) == before


def _diff(result: dict[str, dict[str, str]]) -> set[str]:
    before, after = (set(result["diff"][side].splitlines()) for side in ("before", "after"))
    return {f"-{line}" for line in before - after} | {f"+{line}" for line in after - before}
