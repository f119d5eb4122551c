# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sip_probe and sipguard_info return is what they document."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import yaml

from ansible_collections.sipguard.pbx.plugins.module_utils._sip import probe
from ansible_collections.sipguard.pbx.plugins.modules import sip_probe, sipguard_info
from tests.unit.plugins.hosts import BareHost

KINDS: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": float, "list": list, "dict": dict}


def documented(module: Any) -> dict[str, Any]:
    returned: dict[str, Any] = yaml.safe_load(module.RETURN)
    return returned


@pytest.fixture
def deaf() -> Any:
    """An address of this machine where somebody listens and never says anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield {"host": "127.0.0.1", "port": sock.getsockname()[1], "timeout": 0.1}


@pytest.mark.parametrize("check", [False, True])
def test_sip_probe_returns_what_it_documents(host: BareHost, deaf: dict[str, Any], check: bool) -> None:
    result = host.run_module("sip_probe", deaf, check=check)
    assert (result["changed"], result["outcome"]) == (False, "silent")
    known = {name: part for name, part in documented(sip_probe).items() if part["returned"] == "without questions"}
    assert result.keys() - {"invocation"} == known.keys() | {"changed"}
    for name, part in known.items():
        assert result[name] is None or isinstance(result[name], KINDS[part["type"]]), name
    assert host.read + host.refused == []


def test_sip_probe_returns_what_it_documents_of_each_question(host: BareHost, deaf: dict[str, Any]) -> None:
    result = host.run_module("sip_probe", {"questions": [deaf, {**deaf, "profile": "phone", "round": 2}]})
    returned = documented(sip_probe)
    together = {name for name, part in returned.items() if part["returned"] == "with questions"}
    assert result.keys() - {"invocation"} == together | {"changed"}
    assert [set(answer) for answer in result["answers"]] == [set(returned["answers"]["contains"])] * 2
    assert [answer["profile"] for answer in result["answers"]] == [None, "phone"]
    assert result["sources"] == ["127.0.0.1"]


def test_sip_probe_of_nothing_returns_nothing(host: BareHost) -> None:
    result = host.run_module("sip_probe", {"questions": []})
    assert (result["answers"], result["sources"]) == ([], [])


def test_sip_probe_offers_what_can_be_asked() -> None:
    spec = sip_probe.QUESTION
    assert spec["transport"]["choices"] == list(probe.TRANSPORTS)
    assert spec["method"]["choices"] == list(probe.METHODS)
    assert spec["expect"]["choices"] == list(probe.EXPECTATIONS)
    assert spec["family"]["choices"] == list(probe.FAMILIES)
    assert spec["profile"]["choices"] == [name for name in probe.PROFILES if name]
    said = yaml.safe_load(sip_probe.RETURN)["outcome"]["description"]
    assert [text.split("V(")[1].split(")")[0] for text in said] == list(probe.OUTCOMES)


def test_sip_probe_options_of_a_question_are_those_of_the_task() -> None:
    options = yaml.safe_load(sip_probe.DOCUMENTATION)["options"]
    inner = options["questions"]["suboptions"]
    for name in sip_probe.QUESTION:
        assert name == "host" or inner[name] == options[name]
    assert inner.keys() == sip_probe.QUESTION.keys() | {"round"}


def test_sipguard_info_returns_what_it_documents(host: BareHost) -> None:
    """On a host on which nothing is installed yet."""
    result = host.run_module("sipguard_info", {"addresses": ["192.0.2.7", "2001:db8::7"]}, commands=False)
    returned = documented(sipguard_info)
    assert result.keys() - {"invocation"} == returned.keys() | {"changed"}
    assert all(isinstance(result[name], KINDS[part["type"]]) for name, part in returned.items())
    assert (result["changed"], result["protected"], result["observing"]) == (False, False, False)
    assert {family["state"] for family in result["families"].values()} == {"not managed"}
    for family in result["families"].values():
        assert set(returned["families"]["sample"]["ipv4"]) <= set(family)
    assert {found["stopped"] for found in result["addresses"].values()} == {False}
    assert host.refused == []


@pytest.mark.parametrize("address", ["localhost", "192.0.2.0/24", "", "fe80::1%eth0"])
def test_sipguard_info_refuses_what_is_no_address(host: BareHost, address: str) -> None:
    result = host.run_module("sipguard_info", {"addresses": [address]})
    assert result["msg"] == f"addresses: {address!r} cannot be used; an address (192.0.2.7, 2001:db8::7) would be right"
    assert host.read == []
