# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the main job says of variables, hosts and batches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.sipguard.pbx.plugins.filter.run import (
    askers,
    batch_outcome,
    kept_out,
    readable,
    run_failure,
    run_report,
    silenced,
    variable_objections,
)
from ansible_collections.sipguard.pbx.plugins.plugin_utils.vocabulary import WORDS, misspelt, roles
from tests.unit.repository.checkout import TOP

FAILURE = {"task": "Look", "reason": "the disk is full", "remedy": "make room"}
BATCH = {"failed": False, "bad": ["pbx1"], "lost": [], "said": []}
ANSWER = {"profile": "phone", "host": "192.0.2.1", "port": 5060, "transport": "udp", "answered": True}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("pbx_trunk", "pbx_trunks"),
        ("pbx_sip_domain", "pbx_sip_domains"),
        ("pbx_firewal_mode", "pbx_firewall_mode"),
        ("pbx_sipban_treshold", "pbx_sipban_thresholds"),
    ],
)
def test_a_misspelt_name_is_told_with_what_was_meant(name: str, meant: str) -> None:
    assert [text.split(" (")[0] for text in variable_objections({name: "x"})] == [
        f"{name}: no variable of sipguard.pbx; {meant} was probably meant"
    ]


class Dear(list[str]):
    """As Ansible's own lists: a copy of one copies everything around it."""

    def __deepcopy__(self, memo: object) -> Dear:
        raise AssertionError("copied")


def test_what_ansible_hands_over_is_not_copied() -> None:
    assert variable_objections({"pbx_admins": Dear(["192.0.2.7"]), "pbx_sipban_thresholds": {"x": Dear(["y"])}}) == []


def test_a_name_that_resembles_nothing_is_told_where_to_look() -> None:
    assert "see docs/guides/inventory.md" in variable_objections({"pbx_colour_of_the_box": "grey"})[0]


def test_names_of_somebody_else_are_left_alone() -> None:
    mine = {"pbx_colour_of_the_box": "grey", "pbx_site_1": 1, "ansible_host": "192.0.2.1"}
    assert len(variable_objections(mine)) == 2
    assert variable_objections(mine, ["pbx_colour*", "pbx_site_?"]) == []
    assert len(variable_objections(mine, "pbx_site_1")) == 1


def test_every_variable_that_a_page_of_a_playbook_lists_is_known() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted((TOP / "docs/playbooks").glob("*.md")))
    listed = re.findall(r"^\| `(pbx_\w+)` \|", pages, re.MULTILINE)
    assert {"pbx_serial", "pbx_unban_reason"} <= set(listed)
    assert misspelt(listed) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("pbx_firewall_mode", "enforced", r"pbx_firewall_mode: .*enforce, observe.*enforced"),
        ("pbx_firewall_confirm_within", "soon", r"pbx_firewall_confirm_within: .*int"),
        ("pbx_sipban_unproven", "perhaps", r"pbx_sipban_unproven: .*bool"),
        ("pbx_trunks", {"a": 1}, r"pbx_trunks: .*list"),
        ("pbx_verify", "perhaps", r"pbx_verify: 'perhaps' cannot be used; auto, true or false would be right"),
        ("pbx_max_fail_percentage", 101, r"pbx_max_fail_percentage: 101 cannot be used; 0 to 100 would be right"),
        ("pbx_max_fail_percentage", "ten", r"pbx_max_fail_percentage: .*float"),
        ("pbx_verify", None, r"pbx_verify: None cannot be used; auto, true or false would be right"),
        ("pbx_verify_timeout", 3000, r"pbx_verify_timeout: 3000.0 cannot be used; more than 0 and at most 60 seconds"),
        ("pbx_verify_timeout", "0", r"pbx_verify_timeout: 0.0 cannot be used"),
        ("pbx_verify_user", "bad user", r"pbx_verify_user: 'bad user' cannot be used; the user part"),
        ("pbx_verify_address", "10.0.0.1:5060", r"pbx_verify_address: '10.0.0.1:5060' cannot be used; an address"),
        ("pbx_verify_address", ["192.0.2.1", "a b"], r"pbx_verify_address: 'a b' cannot be used; an address"),
        ("pbx_verify_address", {"a": 1}, r"pbx_verify_address: .* cannot be used; an address"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_with_what_would_be_right(name: str, value: Any, said: str) -> None:
    found = variable_objections({name: value})
    assert len(found) == 1
    assert re.fullmatch(f"{said}.*", found[0])


@pytest.mark.parametrize(
    "name",
    ["pbx_rollback", "pbx_max_fail_percentage", "pbx_verify_strangers", "pbx_firewall_state", "pbx_firewall_persist"],
)
def test_no_value_is_not_taken_for_false(name: str) -> None:
    """A line with nothing behind its colon, in a file of variables."""
    assert variable_objections({name: None}) == [f"{name}: it has no value; one would be right, or no such line"]
    assert variable_objections({"pbx_trunks": None, "pbx_verify_user": None, "pbx_verify_address": None}) == []


@pytest.mark.parametrize(
    "addresses", ["192.0.2.1", "[2001:db8::1]", "fe80::1%eth0", "pbx_1", ["pbx.example.com", "192.0.2.1"], []]
)
def test_where_a_phone_asks_is_an_address_or_a_name(addresses: object) -> None:
    assert (
        variable_objections({"pbx_verify_address": addresses, "pbx_verify_user": "1001", "pbx_verify_timeout": 2.5})
        == []
    )


@pytest.mark.parametrize("text", ["yes", "false", True, 1, "auto", "AUTO"])
def test_every_way_to_say_whether_to_verify_is_understood(text: object) -> None:
    assert variable_objections({"pbx_verify": text}) == []


def test_a_secret_is_in_no_objection() -> None:
    secret = {"not": "a text", "pT4v": "secret"}
    every = [name for options in roles().values() for name in options]
    names = [name for name in every if re.search(r"_(secret|password|key|keys|pin)$", name)]
    assert len(names) > 4
    for name in names:
        assert "pT4v" not in " ".join(variable_objections({name: [secret]}))


@pytest.mark.parametrize("path", sorted((TOP / "roles").glob("*/defaults/main.yml")), ids=lambda path: path.parts[-3])
def test_the_roles_own_defaults_are_no_mistake(path: Path) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    plain = {name: value for name, value in values.items() if "{{" not in str(value)}
    assert len(plain) > 3
    assert variable_objections(plain) == []
    assert misspelt(values) == []


def test_every_word_of_the_inventory_guide_is_known() -> None:
    text = (TOP / "docs/guides/inventory.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`(pbx_[a-z0-9_]+)`", text))
    assert len(words) > 10
    assert misspelt(words) == []
    assert words >= {word for word in WORDS if re.match(r"pbx_(admins|lan|trunks|phones|platform|.*_ports)$", word)}


def test_a_failure_has_its_reason_and_a_remedy() -> None:
    full = run_failure({"failed": True, "msg": "cannot write /etc/x: No space left on device"}, "Write")
    assert full == {
        "task": "Write",
        "reason": "cannot write /etc/x: No space left on device",
        "remedy": "make room on the host, then run again for it",
    }
    lost = run_failure({"unreachable": True, "msg": "Failed to connect to the host via ssh"}, "Look")
    assert lost["reason"].startswith("unreachable: ")
    assert "ansible HOST -m ping" in lost["remedy"]
    assert "read the task" in run_failure({"failed": True, "msg": "something odd"}, "Look")["remedy"]


def test_of_a_loop_only_what_failed_is_told() -> None:
    results = [{"failed": False, "msg": "fine"}, {"failed": True, "msg": "bad"}, {"failed": True, "msg": "bad"}]
    assert run_failure({"msg": "One or more items failed", "results": results}, "x")["reason"] == "bad"


def test_what_a_host_says_cannot_become_a_template() -> None:
    evil = "{{ lookup('pipe', 'id') }} {% x %}\n\x1b[31mred"
    found = run_failure({"failed": True, "msg": evil}, evil)
    assert not re.search(r"[{}\x1b\n]", "".join(found.values()))
    assert len(run_failure({"msg": "x" * 5000}, "x")["reason"]) < 700


def test_what_is_worse_is_the_reason() -> None:
    assert (
        run_failure({"failed": True, "wrong": ["Asterisk ran before"], "msg": "no"}, "x")["reason"]
        == "Asterisk ran before"
    )


@pytest.mark.parametrize(
    ("message", "stderr", "reason", "remedy"),
    [
        ("a phone got an answer before the run, and it no longer answers", "", "no longer answers$", "playbook verify"),
        ("pbx1: a scanner over UDP should be stopped, but it answered 200", "", "200$", "playbook verify"),
        ("pbx1: ipv4 is damaged (sipguard status)", "", "damaged", "playbook verify"),
        ("fail2ban does not run the jails sshd", "", "sshd$", "/var/log/fail2ban.log"),
        ("pbx1: Asterisk does not run, so nobody could see", "", "^pbx1", "start Asterisk"),
        ("Asterisk has not answered 'core show version' within 30 seconds", "", "seconds$", "start Asterisk"),
        ("pjsip.conf:3: x: Asterisk refuses pjsip.conf as a whole because of it", "", "of it$", "correct the line"),
        ("pbx1: no new connection gets in; the host takes its rules back", "", "back$", "pbx_admins"),
        (
            "Module result deserialization failed",
            "Traceback\n  File x\nFileNotFoundError: [Errno 2] No usable temporary directory\nShared connection to pbx1 closed.\r\n",
            r"^Module .* failed: FileNotFoundError.*directory$",
            "make room",
        ),
        ("cannot lock /run/sipguard.lock: [Errno 13] Permission denied; it takes root", "", "root$", "become root"),
        ("Timeout (12s) waiting for privilege escalation prompt", "", "prompt$", "become root"),
        ("another run of sipguard has been at work on this host for 30 s", "", "s$", "the other run has ended"),
        ("Failed to update apt cache: timed out", "", "out$", "package manager"),
        ("[Errno 30] Read-only file system: '/etc/sipguard'", "", "'$", "writable"),
        ("ansible-core requires a minimum of Python version 3.8", "", "3.8$", "install python3"),
        ("", "/bin/sh: 1: /usr/bin/python3: not found", "found$", "install python3"),
        ("Failed to connect to the host via ssh: Permission denied (publickey)", "", "publickey.$", "SSH key"),
        ("", "", "^failed$", "read the task"),
    ],
)
def test_every_reason_has_what_helps(message: str, stderr: str, reason: str, remedy: str) -> None:
    found = run_failure({"failed": True, "msg": message, "module_stderr": stderr}, "x")
    assert re.search(reason, found["reason"])
    assert remedy in found["remedy"]


def test_a_long_reason_keeps_its_remedy_in_the_report_of_its_batch() -> None:
    failure = run_failure({"failed": True, "msg": "No space left on device " + "x" * 5000}, "x")
    assert "make room" in batch_outcome({"pbx1": failure}, ["pbx1"], ["pbx1"])["said"][1]


def test_variables_of_a_host_whose_variables_are_broken_are_not_looked_at() -> None:
    task = "Stop at variables that cannot be meant"
    play = (TOP / "playbooks/harden_pbx.yml").read_text(encoding="utf-8")
    assert f"- name: {task}\n" in play
    broken = run_failure({"failed": True, "msg": "'x' is undefined"}, task)
    assert readable({"a": FAILURE, "b": broken, "c": {}}) == ["a", "c"]


def reached(allowed: dict[str, list[str]] | None, stops: bool = False) -> dict[str, Any]:
    """What sipguard_info says of who asked."""
    policy = [] if allowed is None else [{"what": "host", "stops": stops, "text": "x", "allowed": allowed}]
    return {"198.51.100.9": {"findings": [{"what": "judged", "stops": False, "text": "x"}, *policy]}}


@pytest.mark.parametrize(
    ("addresses", "kept"),
    [
        (reached({"udp": ["10000:20000"], "tcp": ["5060"]}), ["UDP from 198.51.100.9 to port 5060"]),
        (reached({}, stops=True), ["UDP from 198.51.100.9 to port 5060", "TCP from 198.51.100.9 to port 5060"]),
        (reached({"udp": ["5000:5080"], "tcp": ["5060"]}), []),
        (reached({}), []),
        (reached(None), []),
        ({}, []),
    ],
)
def test_what_the_host_policy_keeps_out_is_told_from_what_got_lost(addresses: dict[str, Any], kept: list[str]) -> None:
    before = [{**ANSWER, "received": "198.51.100.9"}, {**ANSWER, "transport": "tcp", "source": "198.51.100.9"}]
    assert askers(before, []) == ["198.51.100.9"]
    found = kept_out(before, [], addresses)
    assert [sentence.partition("no ")[2] for sentence in found] == kept
    assert len(silenced(before, [], addresses)) == 2 - len(kept)
    assert kept_out(before, before, addresses) == silenced(before, before, addresses) == []


def test_who_says_nonsense_about_who_asked_is_not_believed() -> None:
    before = [{**ANSWER, "received": "{{ evil }}"}]
    assert askers(before, []) == []
    assert kept_out(before, [], reached({}, stops=True)) == []


def test_only_an_answer_that_was_there_before_can_be_missed() -> None:
    tcp = {**ANSWER, "transport": "tcp", "answered": False}
    assert silenced([ANSWER, tcp], [ANSWER, tcp]) == []
    assert silenced([ANSWER, tcp], [tcp]) == silenced([ANSWER], [])
    assert silenced([], [tcp]) == []
    assert silenced([tcp], [{**tcp, "answered": True}]) == []


@pytest.mark.parametrize(
    ("bad", "size", "limit", "failed"),
    [(0, 1, 10, False), (1, 1, 10, True), (1, 10, 10, False), (2, 10, 10, True), (1, 2, 50, False), (1, 50, 0, True)],
)
def test_a_batch_fails_when_more_than_the_limit_do(bad: int, size: int, limit: float, failed: bool) -> None:
    hosts = [f"pbx{number}" for number in range(size)]
    failures = {host: FAILURE if number < bad else {} for number, host in enumerate(hosts)}
    found = batch_outcome(failures, hosts, hosts, limit)
    assert found["failed"] is failed
    assert found["bad"] == hosts[:bad]
    assert found["said"][0] == f"{size - bad} of {size} hosts are as they should be"
    assert ("every host of it goes back" in found["said"][-1]) is failed
    assert "goes back" not in batch_outcome(failures, hosts, hosts, limit, False)["said"][-1]


def test_a_host_that_got_lost_counts() -> None:
    found = batch_outcome({"pbx1": {}}, ["pbx1", "pbx2"], ["pbx1"])
    assert (found["failed"], found["lost"], found["bad"]) == (True, ["pbx2"], ["pbx2"])
    assert "pbx2: lost on the way" in found["said"][1]


@pytest.mark.parametrize(
    ("checkpoint", "returns", "state"),
    [
        ({}, [{"skipped": True}], "nothing was changed on it"),
        ({"cookie": "5f"}, [{"done": ["file x"]}, {"skipped": True}], "it is what it was before this run"),
        ({"cookie": "5f"}, [{"skipped": True}, {"done": []}], "it is what it was before this run"),
        ({"cookie": "5f"}, [{}, {}], "what had been done by then stays"),
        (
            {"cookie": "5f"},
            [{"msg": "cannot put back", "failed": True}],
            "cannot put back; what it was like is in .*5f",
        ),
    ],
)
def test_the_last_sentence_says_what_the_host_is_like(
    checkpoint: dict[str, str], returns: list[dict[str, Any]], state: str
) -> None:
    assert re.fullmatch(
        f"the disk is full; {state}.*; what to do: make room", run_report(FAILURE, BATCH, checkpoint, returns)
    )


def test_a_host_that_goes_back_with_its_batch_names_the_others() -> None:
    said = run_report({}, {**BATCH, "failed": True}, {"cookie": "5f"}, [{}, {"done": []}])
    assert said.startswith("too many hosts of its batch failed (pbx1); it is what it was")
    assert "pbx_max_fail_percentage" in said
