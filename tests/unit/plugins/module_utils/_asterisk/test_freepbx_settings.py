# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back of FreePBX's settings; everything else of them is tried with real PHP, in tests/integration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.freepbx import FreePBX
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.freepbx_settings import apply, restore
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError
from tests.unit.plugins.module_utils._asterisk.php import FakePhp

FREEPBX = FreePBX("/nonexistent", "/usr/sbin/fwconsole", "17.0.19")
# What pages of FreePBX have stored, and an inventory could not ask for.
STORED: dict[str, dict[str, Any]] = {
    "chan_sip": {"tlsbindport": "", "rtptimeout": "", "allowguest": "1"},
    "sipsettings": {"allowguest": "on", "rtpstart": "10000 ", "externip": "192.0.2.1\nsecond", "localnets": ""},
    "advanced": {"SIPUSERAGENT": "a\tb", "HTTPENABLED": "1"},
}
WANTED: dict[str, dict[str, Any]] = {
    "chan_sip": {"tlsbindport": 5061, "rtptimeout": 60, "allowguest": False, "tlsenable": True},
    "sipsettings": {
        "allowguest": "no",
        "rtpstart": 12000,
        "externip": "192.0.2.2",
        "localnets": [{"net": "192.0.2.0"}],
    },
    "advanced": {"SIPUSERAGENT": "PBX", "HTTPENABLED": False},
}


def hardened() -> tuple[FakePhp, dict[str, Any]]:
    """A FreePBX after a run, and what it was before, as it comes out of a checkpoint."""
    php = FakePhp(**STORED)
    advanced = {"options": "", "emptyok": True, "default": ""}
    look = php._look
    php._look = lambda section, key: {**(look(section, key) or {}), **advanced}  # type: ignore[method-assign]
    done = apply(FREEPBX, php, WANTED, reload=True, check=False)
    del php._look
    assert all(php.stored[section] != STORED[section] for section in STORED)
    php.asked.clear()
    before: dict[str, Any] = json.loads(json.dumps(done.before))
    return php, before


def test_values_that_nobody_may_ask_for_come_back() -> None:
    php, before = hardened()
    assert before["chan_sip"] == {**STORED["chan_sip"], "tlsenable": None}
    with pytest.raises(OptionError):
        apply(FREEPBX, php, before, reload=True, check=False)
    assert restore(FREEPBX, php, before) is True
    assert {section: php.stored[section] for section in STORED} == STORED
    assert php.asked[-2:] == ["fwconsole reload", "read"]
    assert not php.need_reload


def test_what_is_as_it_was_is_not_written() -> None:
    php, before = hardened()
    restore(FREEPBX, php, before)
    php.asked.clear()
    assert restore(FREEPBX, php, before) is False
    assert php.asked == ["read"]
    # A run has put the values back itself, and could not have them applied.
    php.need_reload = True
    assert restore(FREEPBX, php, before) is True
    assert php.asked[1:] == ["read", "fwconsole reload", "read"]


@pytest.mark.parametrize("section", STORED)
def test_a_section_that_cannot_be_written_keeps_no_other_from_coming_back(section: str) -> None:
    php, before = hardened()
    changed = php.stored[section]
    php.refused = {section}
    with pytest.raises(SipguardError, match=rf"^FreePBX's settings: {section}: FreePBX failed at the write"):
        restore(FREEPBX, php, before)
    assert {name: php.stored[name] for name in STORED} == {**STORED, section: changed}
    assert "fwconsole reload" in php.asked


def test_a_setting_that_is_gone_keeps_no_other_from_coming_back() -> None:
    php, before = hardened()
    del php.stored["advanced"]["SIPUSERAGENT"]
    php.firewall = False
    before["firewall"] = {"safemode": "enabled"}
    with pytest.raises(SipguardError) as error:
        restore(FREEPBX, php, before)
    assert str(error.value) == (
        "FreePBX's settings: advanced.SIPUSERAGENT is no setting of this FreePBX any more; "
        "firewall.safemode is no setting of this FreePBX any more"
    )
    assert php.stored["advanced"] == {"HTTPENABLED": "1"}
    assert php.stored["chan_sip"] == STORED["chan_sip"]


def test_a_value_that_is_not_taken_back_is_said() -> None:
    php, before = hardened()
    php.ignored = {"rtptimeout"}
    with pytest.raises(SipguardError, match=r"^FreePBX's settings: FreePBX did not take back .* chan_sip\.rtptimeout$"):
        restore(FREEPBX, php, before)
    assert php.stored["sipsettings"] == STORED["sipsettings"]
    assert "fwconsole reload" in php.asked


def test_a_reload_that_fails_is_said() -> None:
    php, before = hardened()
    php.reloads = False
    with pytest.raises(SipguardError, match="fwconsole reload did not apply the settings"):
        restore(FREEPBX, php, before)
    assert {section: php.stored[section] for section in STORED} == STORED


def test_what_only_the_firewall_is_told_applies_nothing() -> None:
    """Somebody may have changes on a page that he does not want to be applied yet."""
    php = FakePhp(firewall={"safemode": "disabled"})
    php.need_reload = True
    assert restore(FREEPBX, php, {"firewall": {"safemode": None}, "chan_sip": {}}) is True
    assert php.stored["firewall"] == {}
    assert "fwconsole reload" not in php.asked


@pytest.mark.parametrize(
    ("changes", "stored", "told"),
    [
        ({"udpport-0.0.0.0": 5070}, {}, ["udpport-0.0.0.0"]),
        ({"udpport-0.0.0.0": 5060}, {}, []),
        ({"method": "tlsv1_2", "verify_client": "no", "pjsipcertid": "1", "binds": {}}, {}, ["method", "pjsipcertid"]),
        ({"tcpport-::": None, "verify_server": True}, {}, ["verify_server"]),
        ({"externip": "192.0.2.1", "udpdomain-0.0.0.0": "x", "allowguest": "no"}, {}, []),
        ({"udpport-0.0.0.0": 5070}, {"pjsip_allow_reload": "yes"}, []),
        ({"udpport-0.0.0.0": 5070, "pjsip_allow_reload": "yes"}, {}, []),
        ({"udpport-0.0.0.0": 5070, "pjsip_allow_reload": "no"}, {"pjsip_allow_reload": "yes"}, ["udpport-0.0.0.0"]),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_transports_that_asterisk_does_not_follow(
    changes: dict[str, Any], stored: dict[str, Any], told: list[str], check: bool
) -> None:
    php = FakePhp(sipsettings={"udpport-0.0.0.0": "5060", "verify_client": "no", "binds": {}, **stored})
    done = apply(FREEPBX, php, {"sipsettings": changes}, reload=False, check=check)
    assert [each.removeprefix("FreePBX sipsettings.") for each in done.transports] == told
    assert set(done.before["sipsettings"]) == set(changes)


def test_its_store_is_not_asked_for_what_is_not_in_it() -> None:
    """FreePBX's module may be away."""
    php = FakePhp()
    asked: list[Any] = []
    look = php._look
    php._look = lambda section, key: asked.append(section) or look(section, key)  # type: ignore[method-assign,func-returns-value]
    apply(FREEPBX, php, {"firewall": {"safemode": "disabled"}}, reload=False, check=True)
    assert set(asked) == {"firewall"}
