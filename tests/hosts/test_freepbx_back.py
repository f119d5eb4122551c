# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with FreePBX (docs/freepbx-standin.md) goes back, and nothing that somebody did on its pages is lost without a word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .machine import Machine

CUSTOM, GENERATED = "/etc/asterisk/pjsip_custom_post.conf", "/etc/asterisk/pjsip.endpoint.conf"
FLAG = "/etc/asterisk/firewall.enabled"
EXTENSION = [("sipdriver", "chan_pjsip"), ("secret", "x-fixture-1004"), ("context", "from-internal")]


def query(host: Machine, sql: str) -> str:
    """What the database of FreePBX answers."""
    program = 'include "/etc/freepbx.conf"; $all = FreePBX::Database()->query($argv[1]); echo json_encode($all ? $all->fetchAll() : []);'
    return host.run("php", "-r", program, sql)


def applied(host: Machine) -> bool:
    """Whether no page says "Apply Config"."""
    return "false" in query(host, "SELECT value FROM admin WHERE variable = 'need_reload'")


@pytest.fixture(scope="module")
def host() -> Iterator[Machine]:
    made = Machine("freepbxback", "sid-asterisk22-freepbx17")
    made.run("fwconsole", "reload")
    yield made
    made.close()


def add(host: Machine) -> None:
    """Extension 1004, as its page writes it: not in force before somebody presses "Apply Config"."""
    rows = ", ".join(f"('1004', '{key}', '{value}', {flag})" for flag, (key, value) in enumerate(EXTENSION))
    query(host, f"INSERT INTO sip VALUES {rows}")
    query(host, "UPDATE admin SET value = 'true' WHERE variable = 'need_reload'")


def remove(host: Machine) -> None:
    query(host, "DELETE FROM sip WHERE id = '1004'")
    host.run("fwconsole", "reload")


@pytest.mark.parametrize("ours", [False, True], ids=["applied by somebody", "applied by a setting of ours"])
def test_what_was_applied_meanwhile_is_not_lost_without_a_word(host: Machine, ours: bool) -> None:
    host.run("rm", "-f", FLAG)
    setting = {"sipsettings": {"allowguest": "no"}}
    cookie = host.apply("sipguard_checkpoint", state="taken", freepbx_settings=setting)["cookie"]
    before = host.run("cat", CUSTOM)
    add(host)
    if ours:
        assert host.apply("freepbx_setting", settings=setting, reload=True)["changed"]
    else:
        host.run("fwconsole", "reload")
    host.run("touch", FLAG)
    host.run("sh", "-c", f"echo '; a line of a run' >>{CUSTOM}")
    assert "[1004]" in host.run("cat", GENERATED)
    assert applied(host)

    told = host.apply("sipguard_checkpoint", check=True, state="restored", cookie=cookie)
    assert FLAG not in str(told)
    host.apply("sipguard_checkpoint", state="restored", cookie=cookie)
    assert host.run("cat", CUSTOM) == before
    assert host.call("test", "-e", FLAG).returncode == 0
    # one of ours is taken back by FreePBX itself, which generates its files from what it knows now
    assert ("[1004]" in host.run("cat", GENERATED)) is ours
    assert applied(host) is ours
    host.run("fwconsole", "reload")
    assert "1004" in host.run("asterisk", "-rx", "pjsip show endpoints")
    assert '"allowguest"' not in str(
        host.apply("freepbx_setting", check=True, settings={"sipsettings": {"allowguest": "yes"}})["diff"]
    )
    remove(host)
    host.apply("sipguard_checkpoint", state="dropped", cookie=cookie)
