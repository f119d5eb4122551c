# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""logger.conf and manager.conf: what is asked for, what is written, and that no secret is ever told."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.companions import (
    LOG_FILES,
    parse_logger,
    parse_manager,
    plan_logger,
    plan_manager,
    secret_of,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.document import Document
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.edit import reverted
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.planner import Plan
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import ConfigDirectory, load
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError

LOGGER, MANAGER = "logger.conf", "manager.conf"
SECRET = "Nv83-kLqp-2mXz-old0"


def logger(text: str | None, options: dict[str, Any] | None = None) -> Plan:
    held = {} if text is None else {LOGGER: text.encode()}
    return plan_logger(ConfigDirectory("/nonexistent", held), parse_logger(options or {}), None)


def manager(text: str | None, options: dict[str, Any] | None = None) -> Plan:
    held = {} if text is None else {MANAGER: text.encode()}
    directory, wanted = ConfigDirectory("/nonexistent", held), parse_manager(options or {})
    return plan_manager(directory, wanted, secret_of(load(directory, MANAGER), wanted), None)


def after(plan: Plan, name: str) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for category in load(ConfigDirectory("/nonexistent", plan.files), name).objects():
        for each in category.variables:
            found.setdefault(category.name, {}).setdefault(each.name, []).append(each.value)
    return found


@pytest.mark.parametrize(
    "text", [None, "", "[general]\n", "[logfiles]\nfull => notice\n", "; nothing\n[general]\r\n[logfiles]"]
)
def test_log_files(text: str | None) -> None:
    plan = logger(text)
    says = after(plan, LOGGER)
    assert says["general"]["dateformat"] == ["%F %T"]
    assert {name: says["logfiles"][name] for name in LOG_FILES} == {
        name: [levels] for name, levels in LOG_FILES.items()
    }
    assert not logger(plan.files[LOGGER].decode()).files
    assert reverted(Document.parse(LOGGER, plan.files[LOGGER])) == (text or "").encode()


def test_a_date_with_its_year_stays() -> None:
    assert "dateformat" not in [each.option for each in logger("[general]\ndateformat=%Y %T\n").changes]
    (change,) = [each for each in logger("[general]\ndateformat=%b %e\n").changes if each.option == "dateformat"]
    assert (change.before, change.after) == ("%b %e", "%F %T")


def test_levels_of_ones_own() -> None:
    says = after(
        logger("[logfiles]\nmine => error ; r\n", {"files": {"mine": "[json]notice,verbose(3)"}, "dateformat": ""}),
        LOGGER,
    )
    assert says == {"logfiles": {"mine": ["[json]notice,verbose(3)"]}}


@pytest.mark.parametrize(
    "options",
    [
        [],
        {"file": {}},
        {"files": {"/etc/x": "notice"}},
        {"files": {"..": "notice"}},
        {"files": {"x": "notice;"}},
        {"files": {"x": ""}},
        {"files": {"x": ["notice"]}},
        {"files": {"x": "[html]notice"}},
        {"dateformat": "a\nb"},
        {"dateformat": 1},
    ],
)
def test_what_a_log_cannot_be(options: object) -> None:
    with pytest.raises(OptionError, match="would be right"):
        parse_logger(options)


@pytest.mark.parametrize(
    ("text", "general", "own"),
    [
        (None, {"enabled": ["yes"], "bindaddr": ["127.0.0.1"]}, []),
        ("[general]\nenabled=no\nbindaddr=192.0.2.1\n", {"enabled": ["yes"], "bindaddr": ["127.0.0.1"]}, []),
        ("[general]\nenabled=on\nbindaddr=0.0.0.0\n", {"enabled": ["on"], "bindaddr": ["0.0.0.0"]}, []),
        (
            "[general]\nenabled=on\nbindaddr=192.0.2.1\n",
            {"enabled": ["on"], "bindaddr": ["192.0.2.1"]},
            ["192.0.2.1/255.255.255.255"],
        ),
        (
            "[general]\nenabled=on\nbindaddr=[2001:db8::1]:5038\n",
            {"enabled": ["on"], "bindaddr": ["[2001:db8::1]:5038"]},
            ["2001:db8::1/128"],
        ),
    ],
    ids=["no file", "off", "on", "on-one-address", "on-one-address-of-ipv6"],
)
def test_a_user_who_only_listens(text: str | None, general: dict[str, list[str]], own: list[str]) -> None:
    plan = manager(text)
    says = after(plan, MANAGER)
    assert says["general"] == general
    assert re.fullmatch(r"[A-Za-z0-9_-]{40,}", says["sipguard"].pop("secret")[0])
    assert says["sipguard"] == {
        "deny": ["0.0.0.0/0.0.0.0", "::/0"],
        "permit": ["127.0.0.1/255.255.255.255", "::1/128", *own],
        "read": ["security"],
        "write": [""],
    }
    assert not manager(plan.files[MANAGER].decode()).files
    assert reverted(Document.parse(MANAGER, plan.files[MANAGER])) == (text or "").encode()


def test_a_user_with_too_many_rights_loses_them() -> None:
    text = f"[general]\nenabled=yes\n[sipguard]\nsecret = {SECRET}\nread = all\nwrite = command,originate ; r\n"
    plan = manager(text)
    says = after(plan, MANAGER)["sipguard"]
    assert (says["secret"], says["read"], says["write"]) == ([SECRET], ["security"], [""])
    assert reverted(Document.parse(MANAGER, plan.files[MANAGER])) == text.encode()


@pytest.mark.parametrize("old", [SECRET, "short"])
def test_no_secret_is_told(old: str) -> None:
    new = "T8xq-0000-1111-2222"
    plan = manager(f"[general]\nenabled=yes\n[sipguard]\nsecret={old} ; r\n", {"secret": new})
    assert after(plan, MANAGER)["sipguard"]["secret"] == [new]
    assert old not in plan.files[MANAGER].decode()
    told = str([each.result() for each in plan.changes]) + repr(plan.changes)
    assert new not in told
    assert old not in told


@pytest.mark.parametrize(
    "options",
    [
        {"user": "a b"},
        {"user": "General"},
        {"user": ""},
        {"secret": "Geheim-55"},
        {"secret": "Geheim-5512;-lang-genug"},
        {"x": 1},
        "Geheim",
    ],
)
def test_who_cannot_listen(options: object) -> None:
    with pytest.raises(OptionError, match="would be right") as caught:
        parse_manager(options)
    assert "Geheim-" not in str(caught.value)


@pytest.mark.parametrize("text", ["[sipguard]\npermit=192.0.2.0/24\n", "[sipguard]\ndeny=192.0.2.0/24\n"])
def test_rules_of_somebody_else_are_not_mixed_with_ours(text: str) -> None:
    with pytest.raises(SipguardError, match="by hand"):
        manager(text)


@pytest.mark.parametrize("text", ["[general\n", "[a](b)\n", "k=v --; x\n"])
def test_a_file_that_asterisk_refuses(text: str) -> None:
    with pytest.raises(SipguardError, match="put it right first"):
        manager(text)
    with pytest.raises(SipguardError, match="put it right first"):
        logger(text)
