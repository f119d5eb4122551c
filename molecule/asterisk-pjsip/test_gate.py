# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asterisk hears who names the PBX's domain, and nobody who calls it by its address."""

from __future__ import annotations

from typing import Any

import pytest

PHONE = "Yealink SIP-T46U 108.86.0.90"


@pytest.mark.parametrize("domain", ["", "other.example.test", "xpbx.example.test", "pbx.example.test.evil.example"])
def test_stranger_who_names_anything_else_is_not_heard(
    neighbours: Any, heard: Any, eventually: Any, way: Any, domain: str
) -> None:
    stranger, phone = neighbours.caller(way, domain=domain), neighbours.caller(way)
    stranger.ask(PHONE)
    phone.ask(PHONE)
    assert phone.answer().startswith("SIP/2.0 ")
    assert stranger.silence()
    assert eventually(lambda: heard(phone))
    assert not heard(stranger)


def test_phone_may_write_the_domain_as_it_likes(neighbours: Any, way: Any) -> None:
    phone = neighbours.caller(way, domain="PBX.Example.TEST")
    phone.ask(PHONE)
    assert phone.answer().startswith("SIP/2.0 ")


def test_trusted_source_need_not_know_the_domain(neighbours: Any, way: Any) -> None:
    trunk = neighbours.caller(way, neighbours.trusted(way.family), domain="")
    trunk.ask("Carrier SBC 7.2")
    assert trunk.answer().startswith("SIP/2.0 ")


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_mistake_is_forgiven(neighbours: Any, udp: Any, family: int) -> None:
    """A phone that was set up with the address is not shut out: it works as soon as that is put right."""
    wrong = neighbours.caller(udp(family), domain="")
    wrong.ask(PHONE)
    assert wrong.silence()
    right = neighbours.caller(udp(family), wrong.source)
    right.ask(PHONE)
    assert right.answer().startswith("SIP/2.0 ")
