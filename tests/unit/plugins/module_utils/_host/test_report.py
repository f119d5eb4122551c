# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import report
from ansible_collections.sipguard.pbx.plugins.module_utils._host.emergency import Settings
from ansible_collections.sipguard.pbx.plugins.module_utils._host.restore import restore
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import trust
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import CommandError, Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import parse_networks
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter import known_samples, samples
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(str(tmp_path / "sipguard"))
    found.write("boot.json", Settings().render())
    return found


@pytest.fixture
def protected(host: FakeHost, store: Store) -> FakeHost:
    """A host as the sample "enforce" leaves it, with one trusted network."""
    for family in FAMILIES:
        store.write(f"rules.v{family.version}", store.rules_text(samples.golden("enforce", family), "nft"))
    networks = parse_networks("192.0.2.0/24", "sources")
    trust.converge(host, store, trust.wanted_members(networks, FAMILIES), present=True, persist=True, check=False)
    assert restore(host, store)[1] == []
    host.calls.clear()
    host.read_only = True
    return host


def test_status_of_a_protected_host(protected: FakeHost, store: Store) -> None:
    found, text, status = report.status(protected, store)
    assert status == 0
    assert json.loads(json.dumps(found)) == found
    assert (found["protected"], found["backend"]) == (True, "nft")
    assert found["sets"] == {
        "sipguard-offenders4": 0,
        "sipguard-offenders6": 0,
        "sipguard-trusted4": 1,
        "sipguard-trusted6": 0,
    }
    for family in FAMILIES:
        part = found["families"][family.name]
        rules = samples.golden("enforce", family).count("\n-A ")
        assert {name: part[name] for name in ("state", "table", "members", "rules")} == {
            "state": "protected",
            "table": "filter",
            "members": ["SIPGUARD-UA"],
            "rules": rules,
        }
        # Each rule of the fake has counted seven packets: three of this policy drop, and none observes.
        assert (part["stopped_packets"], part["observed_packets"]) == (21, 0)
        assert len(part["top"]) == 5
    assert text.startswith("sipguard: protected (iptables-nft)\n  ipv4: protected, ")
    assert "\n  sipguard-trusted4: 1 entries" in text


def test_status_sorts_signatures_by_what_they_stopped(protected: FakeHost, store: Store) -> None:
    table = "*filter\n:INPUT ACCEPT [0:0]\n"
    lines = [
        f'[{packets}:100] -A SIPGUARD-UA-HEADER -m string --string "x" --algo kmp -m comment --comment "{name}" -g SIPGUARD-UA-HIT\n'
        for packets, name in ((0, "prefix none"), (3, "prefix b"), (4, "prefix c"), (3, "prefix a"), (2, "prefix b"))
    ]
    counted = table + "[9:900] -A INPUT -j DROP\n" + "".join(lines) + "[12:0] -A SIPGUARD-UA-STOP -j DROP\nCOMMIT\n"
    protected.interfere = lambda argv, stdin: Completed(0, counted, "") if "--counters" in argv else None
    found, text, _status = report.status(protected, store)
    part = found["families"]["ipv4"]
    assert part["top"] == [
        {"signature": "prefix b", "packets": 5},
        {"signature": "prefix c", "packets": 4},
        {"signature": "prefix a", "packets": 3},
    ]
    assert part["stopped_packets"] == 12
    assert text.index("prefix b") < text.index("prefix c") < text.index("prefix a")
    assert "prefix none" not in text


def test_status_counts_known_sources_and_takes_their_rules_for_its_own(host: FakeHost, store: Store) -> None:
    for family in FAMILIES:
        store.write(f"rules.v{family.version}", store.rules_text(known_samples.golden(family), "nft"))
    assert restore(host, store)[1] == []
    host.sets["sipguard-known4"][1]["203.0.113.9"] = " timeout 3000"
    assert restore(host, store)[0][-2:] == [f"{family.name} rules unchanged: {_rules(family)}" for family in FAMILIES]
    host.read_only = True
    found, text, status = report.status(host, store)
    assert (status, found["protected"]) == (0, True)
    assert {part["state"] for part in found["families"].values()} == {"protected"}
    assert (found["sets"]["sipguard-known4"], found["sets"]["sipguard-known6"]) == (1, 0)
    assert "\n  sipguard-known4: 1 entries" in text


def _rules(family: Family) -> int:
    return known_samples.golden(family).count("\n-A ")


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("*raw\n-D SIPGUARD-PRE-SIP -m set --match-set sipguard-known4 src -j RETURN\nCOMMIT\n", "chains of table raw"),
        ("*raw\n:SIPGUARD-KNOWN - [0:0]\n-X SIPGUARD-KNOWN\nCOMMIT\n", "chains of table raw"),
        (
            "*filter\n-D SIPGUARD -p udp -m multiport --dports 5060:5061 -m set ! --match-set sipguard-known4 src "
            "-j SIPGUARD-RATE\n-I SIPGUARD -p udp -m multiport --dports 5060:5061 -j SIPGUARD-RATE\nCOMMIT\n",
            "chains of table filter",
        ),
    ],
)
def test_status_sees_that_known_sources_are_spared_no_more(
    host: FakeHost, store: Store, script: str, state: str
) -> None:
    for family in FAMILIES:
        store.write(f"rules.v{family.version}", store.rules_text(known_samples.golden(family), "nft"))
    restore(host, store)
    host.tables["iptables"].restore(script, list(host.sets))
    found = report.status(host, store)[0]
    assert found["families"]["ipv4"]["state"] == f"edited by somebody, or damaged: {state}"
    assert found["families"]["ipv6"]["state"] == "protected"
    assert restore(host, store)[1] == []
    assert report.status(host, store)[2] == 0


DAMAGED = "edited by somebody, or damaged"
DAMAGES = {
    "hook gone": ("*filter\n-D INPUT -j SIPGUARD\nCOMMIT\n", f"{DAMAGED}: the hook in INPUT of table filter"),
    "hook behind an accept": (
        "*filter\n-I INPUT -j ACCEPT\nCOMMIT\n",
        "not first in INPUT of table filter: -A INPUT -j ACCEPT stands there; the next run puts it right",
    ),
    "hook in two places": (
        "*filter\n-A INPUT -j SIPGUARD\nCOMMIT\n",
        "edited by somebody, or damaged: one hook only in INPUT of table filter",
    ),
    "chain emptied": (
        "*filter\n:SIPGUARD-JUDGE - [0:0]\nCOMMIT\n",
        f"{DAMAGED}: chains of table raw, chains of table filter",
    ),
    "rule added": ("*filter\n-I SIPGUARD -j ACCEPT\nCOMMIT\n", f"{DAMAGED}: chains of table filter"),
    "accepted before it is judged": (
        "*filter\n-I SIPGUARD-UA -s 192.0.2.7/32 -j ACCEPT\nCOMMIT\n",
        f"{DAMAGED}: chains of table filter",
    ),
    "rule that cannot be read": ("*filter\n-A SIPGUARD-UA word\nCOMMIT\n", f"{DAMAGED}: chains of table filter"),
    "signature removed": ("*filter\n:SIPGUARD-UA-HEADER - [0:0]\nCOMMIT\n", "not as at the next boot"),
    "everything flushed": ("", "unprotected"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_status_of_a_damaged_host(protected: FakeHost, store: Store, damage: str) -> None:
    script, state = DAMAGES[damage]
    if script:
        protected.tables["ip6tables"].restore(script, list(protected.sets))
    else:
        protected.tables["ip6tables"].tables.clear()
    found, text, status = report.status(protected, store)
    assert (status, found["protected"]) == (1, False)
    assert {name: part["state"] for name, part in found["families"].items()} == {"ipv4": "protected", "ipv6": state}
    assert text.startswith("sipguard: NOT PROTECTED (iptables-nft)\n")
    assert f"  ipv6: {state}, " in text


def test_status_of_a_host_without_anything(host: FakeHost, store: Store) -> None:
    host.read_only = True
    found, _text, status = report.status(host, store)
    assert (status, found["protected"], found["sets"]) == (1, False, {})
    assert {part["state"] for part in found["families"].values()} == {"not managed"}


@pytest.mark.parametrize(("sample", "head"), [("enforce", "protected"), ("observe", "OBSERVING, nothing is stopped")])
def test_status_does_not_blame_a_family_that_was_left_out(host: FakeHost, store: Store, sample: str, head: str) -> None:
    store.write("rules.v4", store.rules_text(samples.golden(sample, FAMILIES[0]), "nft"))
    restore(host, store)
    found, text, status = report.status(host, store)
    assert (status, found["protected"], found["observing"]) == (0, sample == "enforce", sample == "observe")
    assert found["families"]["ipv6"]["state"] == "not managed"
    assert text.startswith(f"sipguard: {head} (iptables-nft)\n")
    host.tables["iptables"].tables.clear()
    found, text, status = report.status(host, store)
    assert (status, found["families"]["ipv4"]["state"]) == (1, "unprotected")


def test_status_looks_where_the_files_say(host: FakeHost, store: Store) -> None:
    """The command iptables may have been switched to the other backend since."""
    for family in FAMILIES:
        store.write(f"rules.v{family.version}", store.rules_text(samples.golden("enforce", family), "legacy"))
    restore(host, store)
    found, _text, status = report.status(host, store)
    assert (status, found["backend"]) == (0, "legacy")


def test_status_that_cannot_be_read_is_an_error(protected: FakeHost, store: Store) -> None:
    protected.interfere = lambda argv, stdin: Completed(4, "", "cannot be read\n") if "--counters" in argv else None
    with pytest.raises(CommandError, match="iptables-nft-save failed: cannot be read"):
        report.status(protected, store)


def test_status_without_rights_says_so(protected: FakeHost, store: Store) -> None:
    protected.interfere = lambda argv, stdin: Completed(4, "", "Permission denied\n") if "--counters" in argv else None
    with pytest.raises(SipguardError, match="without root"):
        report.status(protected, store)


def test_status_tells_of_a_damaged_file_beside_what_the_kernel_does(protected: FakeHost, store: Store) -> None:
    store.write("rules.v6", "garbage\n")
    found, text, status = report.status(protected, store)
    assert (status, found["protected"]) == (1, False)
    assert found["families"]["ipv4"]["state"] == "protected"
    assert found["families"]["ipv6"]["state"].startswith("not safe at the next boot: ")
    assert "rules.v6 is damaged" in text


def test_status_of_a_host_that_only_observes(host: FakeHost, store: Store) -> None:
    for family in FAMILIES:
        store.write(f"rules.v{family.version}", store.rules_text(samples.golden("observe", family), "nft"))
    restore(host, store)
    found, text, status = report.status(host, store)
    assert (status, found["protected"], found["observing"]) == (0, False, True)
    assert {part["state"] for part in found["families"].values()} == {"observing"}
    # Seven packets at the one rule that notes a source.
    assert {(part["stopped_packets"], part["observed_packets"]) for part in found["families"].values()} == {(0, 7)}
    assert text.startswith("sipguard: OBSERVING, nothing is stopped (iptables-nft)\n")


@pytest.mark.parametrize("loader", ["systemd", "netfilter-persistent", None])
@pytest.mark.parametrize("running", [True, False])
def test_status_says_what_loads_and_repairs_the_rules(
    protected: FakeHost, store: Store, monkeypatch: pytest.MonkeyPatch, loader: str | None, running: bool
) -> None:
    monkeypatch.setattr(report, "boot_loader", lambda: loader)
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/run/systemd/system")
    protected.commands.add("systemctl")
    protected.interfere = lambda argv, stdin: Completed(3 * (not running), "", "") if "is-active" in argv else None
    found, text, status = report.status(protected, store)
    assert (status, found["boot"], found["repair"]) == (0, loader or "", running)
    assert f"at boot: {f'loaded by {loader}' if loader else 'NOTHING loads the rules'}" in text
    assert ("put back by sipguard-repair.service" in text) is running
