# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.emergency import Settings, closed
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4, IPV6
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import assemble, read_policy
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import parse_save, render_chains
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError

SETTINGS = [
    Settings(),
    Settings("close", ("5060", "5080:5090", "5070"), ("22", "2222"), True),
    Settings("close", tuple(str(port) for port in range(5060, 5100, 2))),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_read_is_the_inverse_of_render(tmp_path: Path, settings: Settings) -> None:
    store = Store(str(tmp_path))
    store.write("boot.json", settings.render())
    assert Settings.read(store) == settings


DAMAGED: dict[str, Any] = {
    "empty": "",
    "cut": SETTINGS[1].render()[:-20],
    "no object": "[]",
    "number": "7",
    "binary": "\udcff",
    "other mode": SETTINGS[1].render().replace("close", "open"),
    "port": SETTINGS[1].render().replace("5080:5090", "5090:5080"),
    "no ports": json.dumps({**json.loads(SETTINGS[0].render()), "ports": []}, indent=1, sort_keys=True) + "\n",
    "missing key": json.dumps({"on_boot_failure": "fail"}),
    "another key": json.dumps({**json.loads(SETTINGS[0].render()), "more": 1}, indent=1, sort_keys=True) + "\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "boot.json").write_text(DAMAGED[name], errors="surrogateescape")
    with pytest.raises(SipguardError, match=r"/boot\.json is damaged: "):
        Settings.read(Store(str(tmp_path)))


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SipguardError, match=r"/boot\.json is missing"):
        Settings.read(Store(str(tmp_path)))


@pytest.mark.parametrize(
    ("ports", "ssh_ports", "option", "value"),
    [(["70000"], ["22"], "ports", "70000"), (["5060"], ["ssh"], "ssh_ports", "ssh"), ([], ["22"], "ports", [])],
    ids=str,
)
def test_bad_option_is_named(ports: list[str], ssh_ports: list[str], option: str, value: object) -> None:
    with pytest.raises(OptionError) as error:
        Settings.read_options("close", ports, ssh_ports, False)
    assert (error.value.option, error.value.value) == (option, value)


def test_known_settings_are_those_of_the_file_or_the_defaults(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert Settings.known(store) == Settings()
    store.write("boot.json", SETTINGS[1].render())
    assert Settings.known(store) == SETTINGS[1]
    store.write("boot.json", "{")
    assert Settings.known(store) == Settings()
    assert Settings.read_options("close", ["5060"], [], True).ssh_ports == ("22",)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("settings", SETTINGS)
def test_closed_rules_are_read_back_as_the_policy_they_are(settings: Settings, family: Any) -> None:
    policy = closed(settings, family)
    tables = assemble(policy, 0x4000000)
    assert list(tables) == ["mangle"]
    saved = parse_save(render_chains(tables))
    live = {name: saved.own_chains(name) for name in ("raw", "mangle", "filter")}
    assert read_policy(family, live, "filter")[0] == policy
    assert not any(rule.unread for rules in tables["mangle"].values() for rule in rules)


def lines(settings: Settings, family: Any) -> list[str]:
    chains = assemble(closed(settings, family), 0x4000000)["mangle"]
    return [rule.render().removeprefix("-A SIPGUARD-HOST ") for rule in chains["SIPGUARD-HOST"]]


REMARK = '-m comment --comment "closed: the rules for the boot could not be loaded"'


def test_closed_sip_ports() -> None:
    assert lines(Settings(), IPV4) == [
        "-i lo -j RETURN",
        "-m set --match-set sipguard-trusted4 src -j RETURN",
        f"-p udp -m multiport --dports 5060:5061 {REMARK} -j DROP",
        f"-p tcp -m multiport --dports 5060:5061 {REMARK} -j DROP",
    ]


def test_closed_host() -> None:
    assert lines(SETTINGS[1], IPV6) == [
        "-i lo -j RETURN",
        "-p udp -m multiport --dports 5060,5070,5080:5090 -m set --match-set sipguard-trusted6 src -j RETURN",
        "-p tcp -m multiport --dports 5060,5070,5080:5090 -m set --match-set sipguard-trusted6 src -j RETURN",
        "-m conntrack --ctstate ESTABLISHED --ctdir REPLY -j RETURN",
        "-m conntrack --ctstate RELATED -j RETURN",
        "-p ipv6-icmp -j RETURN",
        "-s fe80::/10 -p udp -m udp --sport 547 --dport 546 -j RETURN",
        "-p tcp -m multiport --dports 22,2222 -j RETURN",
        f"{REMARK} -j DROP",
    ]
    assert not any("icmp" in line or "546" in line for line in lines(SETTINGS[1], IPV4))
