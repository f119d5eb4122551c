# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.plugins.hosts import BareHost, run_task


def run(host: BareHost, **options: Any) -> tuple[dict[str, Any], str]:
    """The task's result, ``failed`` always in it, and what Ansible said beside it. A resolver out of reach gets one second."""
    return run_with_diff(host, **options)[:2]


def run_with_diff(host: BareHost, **options: Any) -> tuple[dict[str, Any], str, str]:
    """The same with the difference that Ansible showed."""
    done = run_task(host, "sip_host_policy", options, "--diff")
    assert "=> " in done.stdout, done.stderr
    state, dummy, text = done.stdout.partition("=> ")
    found, end = json.JSONDecoder().raw_decode(text)
    result: dict[str, Any] = {**found, "failed": "FAILED" in state}
    return result, " ".join(done.stderr.split()), state + text[end:]


def test_names_become_addresses_wherever_sources_stand(host: BareHost) -> None:
    result, said, shown = run_with_diff(
        host,
        lan=["localhost", "192.0.2.0/24"],
        admins="localhost",
        trunks=["localhost"],
        phones=["localhost"],
        protect=["localhost"],
        lists={"branch": ["localhost"]},
        services=[{"name": "ami", "from": "branch"}, {"name": "ssh", "from": "192.0.2.9"}],
    )
    assert result["failed"] is False
    assert "127.0.0.1" in result["resolved"]["localhost"]
    for word in ("LAN", "ADMINS", "TRUNKS", "BRANCH"):
        assert f"+-A SIPGUARD-HOST-{word}-S -s 127.0.0.1/32 -j RETURN\n" in shown
    assert "+-A SIPGUARD-HOST -s 127.0.0.1/32 -p tcp -m multiport --dports 22 -j RETURN\n" in shown
    addresses = ", ".join(result["resolved"]["localhost"])
    assert f"sip_host_policy: localhost is let in as {addresses}; run again when its addresses change" in said
    assert host.refused == []


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"services": [{"name": "ami", "from": ["lan", "x.invalid"]}]}, "services[ami].from"),
        ({"services": [{"name": "ami", "from": "lan, x.invalid"}]}, "services[ami].from"),
        ({"lan": ["x.invalid"]}, "lan"),
        ({"protect": ["x.invalid"]}, "protect"),
        ({"lists": {"branch": "x.invalid"}}, "lists[branch]"),
    ],
    ids=str,
)
def test_name_that_cannot_be_resolved_fails_before_the_host_is_touched(
    host: BareHost, options: dict[str, Any], option: str
) -> None:
    result, dummy = run(host, **{"lan": ["192.0.2.0/24"], **options})
    assert result["failed"] is True
    assert result["msg"].startswith(f"{option}: 'x.invalid' cannot be used; the controller cannot resolve it (")
    assert (host.read, host.refused) == ([], [])


@pytest.mark.parametrize("word", ["lan", "branch", "nobody"])
def test_words_are_not_taken_for_names(host: BareHost, word: str) -> None:
    result, dummy = run(
        host, lan=["192.0.2.0/24"], lists={"branch": ["192.0.2.7"]}, services=[{"name": "ami", "from": word}]
    )
    assert (result["failed"], result["services"]["ami"]["from"]) == (False, [word])
    assert "resolved" not in result


def test_word_that_does_not_exist_is_not_asked_of_a_resolver(host: BareHost) -> None:
    result, dummy = run(host, lan=["192.0.2.0/24"], services=[{"name": "ami", "from": ["localhost"]}])
    assert result["failed"] is True
    assert result["msg"].startswith("services[ami].from: 'localhost' cannot be used; one of everyone, nobody, lan")


@pytest.mark.parametrize(
    "options",
    [
        {"services": "ssh"},
        {"services": [7]},
        {"services": [{"name": "ssh", "from": {"a": 1}}]},
        {"lists": "branch"},
        {"lan": {"a": 1}},
        {"lists": {"branch": [7]}},
    ],
    ids=str,
)
def test_what_has_the_wrong_shape_fails_before_the_host_is_touched(host: BareHost, options: dict[str, Any]) -> None:
    result, dummy = run(host, **{"lan": ["192.0.2.0/24"], **options})
    assert result["failed"] is True
    assert "Traceback" not in str(result)
    assert (host.read, host.refused) == ([], [])
