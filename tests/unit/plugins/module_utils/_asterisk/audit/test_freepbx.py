# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FreePBX's firewall: every finding of a host that is badly off, and none of its healthy twin."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.finding import Finding
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.run import kinds
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.freepbx_firewall import Firewall, Host, Jail
from tests.unit.plugins.module_utils._asterisk.audit.configurations import KEPT, added, audit, changed, ids, one

BUILT = (
    "*filter",
    ":INPUT ACCEPT [0:0]",
    ":fpbxfirewall - [0:0]",
    ":fail2ban-SIP - [0:0]",
    ":rejsvc-nfs - [0:0]",
    "-A INPUT -j fail2ban-SIP",
    "-A INPUT -j fpbxfirewall",
    "-A fpbxinterfaces -i eth0 -j zone-external",
    "-A fail2ban-SIP -s 203.0.113.7/32 -j REJECT",
    "COMMIT",
)
BUILT6 = tuple(line.replace("203.0.113.7/32", "2001:db8::7/128") for line in BUILT)
BANNED = tuple(ipaddress.ip_network(address) for address in ("203.0.113.7", "2001:db8::7"))
SETTINGS = {**Firewall().settings, "customrules": "enabled", "safemode": "disabled"}
FIREWALL = Firewall(True, True, SETTINGS, frozenset({"pjsip"}), {"pjsip": ("internal",), "iax": ("external",)})
OWN = (("lo", "127.0.0.1"), ("eth0", "192.0.2.1"), ("eth0", "fe80::1"), ("eth0", "2001:db8::1"))
HEALTHY = Host(
    FIREWALL,
    {4: BUILT, 6: BUILT6},
    tuple((name, ipaddress.ip_address(address)) for name, address in OWN),
    (Jail("asterisk-iptables", BANNED, ("fail2ban-SIP", "f2b-SIP")),),
    "17.0.19",
)
ETC = {
    "/etc/hosts": (
        "127.0.0.1 localhost\n192.0.2.1 pbx\n::1 ip6-localhost\nff02::1 all\nnonsense\n# 203.0.113.1 x\n",
        0o644,
    ),
    "/etc/firewall-4.rules": ("# ours\n-w 10 -A INPUT -s 192.0.2.0/24 -j ACCEPT\n", 0o644),
}


@dataclass(frozen=True)
class Case:
    """What is wrong with a host that is healthy otherwise."""

    name: str
    severity: str
    subject: str
    host: Mapping[str, Any] = field(default_factory=dict)
    firewall: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    asterisk: Mapping[str, str] = field(default_factory=lambda: KEPT)
    detail: str = ""


def settings(**given: str) -> dict[str, Any]:
    return {"settings": {**SETTINGS, **given}}


def without(*parts: str) -> tuple[str, ...]:
    return tuple(line for line in BUILT if not any(part in line for part in parts))


def own_user(more: str = "", address: str = "127.0.0.1", deny: str = "deny=0.0.0.0/0.0.0.0") -> dict[str, str]:
    """The manager with FreePBX's own user, as FreePBX writes it, and ``more``."""
    acl = f"{deny}\npermit=127.0.0.1/255.255.255.0\n{more}\n"
    files = changed(KEPT, "manager.conf", "bindaddr=127.0.0.1", f"bindaddr={address}")
    return added(files, manager=f"[firewall]\nsecret = fpbxfirewall*secret\n{acl}read = all\nwrite = user\n")


CASES = [
    Case("freepbx-rules-writable", "high", "/etc/firewall-6.rules", files={"/etc/firewall-6.rules": ("", 0o666)}),
    Case("freepbx-rules-writable", "high", "/etc/firewall.nft", files={"/etc/firewall.nft": ("", 0o664)}),
    Case(
        "freepbx-rules-writable",
        "low",
        "/etc/firewall-6.rules",
        firewall=settings(customrules="disabled"),
        files={"/etc/firewall-6.rules": ("", 0o666)},
        detail="custom rules are off, so nobody loads them now",
    ),
    Case(
        "freepbx-interface-trusted",
        "high",
        "eth1",
        host={"rules": {4: (*BUILT, "-A fpbxinterfaces -i eth1 -m comment --comment x -j zone-trusted"), 6: BUILT6}},
    ),
    Case("freepbx-responsive-bypassed", "high", "SIP (pjsip)", firewall={"zones": {"pjsip": ("internal", "external")}}),
    Case(
        "freepbx-responsive-bypassed",
        "high",
        "IAX",
        firewall={"managed": frozenset({"iax"}), "zones": {"iax": ("external",)}},
    ),
    Case(
        "freepbx-hosts-trusted",
        "medium",
        "203.0.113.9, 2001:db8:9::1",
        files={"/etc/hosts": ("127.0.0.1 localhost\n203.0.113.9 trunk\n2001:db8:9::1 other # why\n", 0o644)},
    ),
    Case(
        "freepbx-flag-left",
        "medium",
        "firewall.enabled",
        firewall={"status": False},
        asterisk={**KEPT, "firewall.enabled": ""},
    ),
    Case(
        "freepbx-anonymous-calls",
        "medium",
        "ALLOW_SIP_ANON",
        asterisk=added(KEPT, extensions="[globals]\nALLOW_SIP_ANON = yes\n"),
    ),
    Case("freepbx-safe-mode", "low", "safemode", firewall=settings(safemode="enabled")),
    Case(
        "freepbx-safe-mode",
        "high",
        "safemode",
        firewall=settings(safemode="enabled"),
        files={"/var/run/firewalld.safemode": ("", 0o644)},
        detail="it stays away just now",
    ),
    Case("freepbx-ipv6-open", "high", "eth0", host={"rules": {4: BUILT, 6: ()}}),
    # its start: the chain is gone
    Case("freepbx-bans-lost", "high", "asterisk-iptables", host={"rules": {4: without("fail2ban"), 6: BUILT6}}),
    Case("freepbx-bans-lost", "high", "asterisk-iptables", host={"rules": {4: BUILT, 6: without("fail2ban")}}),
    # its reset: the chain and the jump are there again, the bans are not
    Case(
        "freepbx-bans-lost",
        "high",
        "asterisk-iptables",
        host={"rules": {4: without("-A fail2ban-SIP"), 6: without("-A fail2ban-SIP")}},
    ),
    Case(
        "freepbx-bans-lost",
        "high",
        "asterisk-iptables",
        host={"rules": {4: without("-A INPUT -j fail2ban"), 6: BUILT6}},
    ),
    # below what ends with a drop, in another table, and for somebody else
    Case(
        "freepbx-bans-lost",
        "high",
        "asterisk-iptables",
        host={"rules": {4: (*without("-A INPUT -j fail2ban"), "-A INPUT -j fail2ban-SIP"), 6: BUILT6}},
    ),
    Case(
        "freepbx-bans-lost",
        "high",
        "asterisk-iptables",
        host={"rules": {4: ("*mangle", *BUILT[1:]), 6: BUILT6}},
    ),
    Case(
        "freepbx-bans-lost",
        "high",
        "asterisk-iptables",
        host={"jails": (Jail("asterisk-iptables", (*BANNED, ipaddress.ip_network("203.0.113.8")), ("fail2ban-SIP",)),)},
    ),
    Case(
        "freepbx-bans-lost",
        "high",
        "asterisk-iptables",
        host={"rules": {4: (*without("-s 203"), "-A fail2ban-SIP -s 203.0.113.7/32 -j RETURN"), 6: BUILT6}},
    ),
    Case("freepbx-manager-user", "high", "firewall", asterisk=own_user("permit=0.0.0.0/0.0.0.0")),
    Case("freepbx-manager-user", "critical", "firewall", asterisk=own_user("permit=192.0.2.0/24", "0.0.0.0")),
    Case("freepbx-manager-user", "high", "firewall", asterisk=own_user(deny="")),
    # IPv4's rules keep nobody of IPv6 out
    Case("freepbx-manager-user", "critical", "firewall", asterisk=own_user(address="::")),
    Case(
        "freepbx-18-blocked",
        "info",
        "line 2, line 3, line 5, the block of sipguard",
        files={
            "/etc/firewall-4.rules": (
                "-A INPUT -j ACCEPT\n-I INPUT 1 -j DROP\n-t raw -A PREROUTING -j DROP\n\n"
                "-A INPUT -m string --hex-string |66| --algo bm -j DROP\n-w 10 -I SIPGUARD 1 -j DROP\n",
                0o644,
            )
        },
        detail="custom rules",
    ),
    Case(
        "freepbx-18-blocked",
        "info",
        "chain SIPGUARD, chain PREROUTING, chain INPUT",
        host={
            "rules": {
                4: (
                    *BUILT,
                    ":SIPGUARD - [0:0]",
                    "-A SIPGUARD -j DROP",
                    "-A PREROUTING -j SIPGUARD-PRE",
                    "-A INPUT -p udp",
                ),
                6: BUILT6,
            }
        },
        detail="rules of others",
    ),
    Case(
        "sip-port-in-rtp-range",
        "high",
        "udp, udp",
        # 5061 is TCP, which FreePBX does not open with the range
        asterisk=changed(KEPT, "rtp.conf", "rtpstart=10000\nrtpend=20000", "rtpstart=5000\nrtpend=5060"),
    ),
]


def found(tmp_path: Path, case: Case | None, **options: Any) -> list[Finding]:
    root = tmp_path / "root"
    (root / "var/run").mkdir(parents=True)
    (root / "etc").mkdir()
    for name, (text, mode) in {**ETC, **(case.files if case else {})}.items():
        path = root / name.lstrip("/")
        path.write_text(text, encoding="ascii")
        path.chmod(mode)
    firewall = replace(FIREWALL, **(case.firewall if case else {}))
    host = replace(HEALTHY, firewall=firewall, **(case.host if case else {}))
    given = {"freepbx": True, "root": str(root), "host": host, **options}
    return audit(tmp_path / "asterisk", dict(case.asterisk if case else KEPT), **given)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.name}-{number}" for number, case in enumerate(CASES)])
def test_bad_host(tmp_path: Path, case: Case) -> None:
    finding = one(found(tmp_path, case), case.name)
    assert (finding.severity, finding.subject, finding.detail) == (case.severity, case.subject, case.detail)
    assert all(finding.places)


def test_healthy_twin(tmp_path: Path) -> None:
    assert {name for name in ids(found(tmp_path, None)) if "freepbx" in name or "rtp-range" in name} == set()


def test_every_kind_has_a_case() -> None:
    assert {each.id for each in kinds() if each.id.startswith("freepbx-")} <= {case.name for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=[f"{case.name}-{number}" for number, case in enumerate(CASES)])
def test_nothing_of_it_without_freepbx(tmp_path: Path, case: Case) -> None:
    assert not [name for name in ids(found(tmp_path, case, freepbx=False)) if name.startswith("freepbx-")]


# What is right where something else is different as well: (what is wrong, and why it does no harm)
HARMLESS = {
    "responsive firewall off": Case(
        "freepbx-responsive-bypassed", "", "", firewall={"responsive": False, "zones": {"pjsip": ("external",)}}
    ),
    "hosts not imported": Case(
        "freepbx-hosts-trusted",
        "",
        "",
        firewall=settings(import_hosts="disabled"),
        files={"/etc/hosts": ("203.0.113.9 trunk\n", 0o644)},
    ),
    "own addresses not known": Case(
        "freepbx-hosts-trusted", "", "", host={"addresses": ()}, files={"/etc/hosts": ("203.0.113.9 trunk\n", 0o644)}
    ),
    "flag of one that is on": Case("freepbx-flag-left", "", "", asterisk={**KEPT, "firewall.enabled": ""}),
    "only link-local": Case(
        "freepbx-ipv6-open",
        "",
        "",
        host={"rules": {4: BUILT, 6: ()}, "addresses": (("eth0", ipaddress.ip_address("fe80::1")),)},
    ),
    "ip6tables not known": Case("freepbx-ipv6-open", "", "", host={"rules": {4: BUILT}}),
    "neither family": Case("freepbx-ipv6-open", "", "", host={"rules": {4: (), 6: ()}}),
    "fail2ban's own prefix": Case(
        "freepbx-bans-lost",
        "",
        "",
        host={"rules": {4: tuple(line.replace("fail2ban-", "f2b-") for line in BUILT), 6: BUILT6}},
    ),
    "families that are not known": Case("freepbx-bans-lost", "", "", host={"rules": {}}),
    "a jail that asks for a port": Case(
        "freepbx-bans-lost",
        "",
        "",
        host={"rules": {4: ("-A INPUT -p udp -m udp --dport 5060 -j fail2ban-SIP", *BUILT), 6: BUILT6}},
    ),
    "bans in sets": Case(
        "freepbx-bans-lost",
        "",
        "",
        host={
            "rules": {
                version: (
                    "*filter",
                    f"-A INPUT -p tcp -m set --match-set f2b-SIP{more} src -j REJECT",
                    "-A INPUT -j fpbxfirewall",
                )
                for version, more in ((4, ""), (6, "6"))
            }
        },
    ),
    "its own user, for this host": Case("freepbx-manager-user", "", "", asterisk=own_user()),
    "its own user, wherever the manager listens": Case(
        "freepbx-manager-user", "", "", asterisk=own_user(address="0.0.0.0")
    ),
    "a second network of this host": Case("freepbx-manager-user", "", "", asterisk=own_user("permit=127.0.0.2")),
    "both families": Case("freepbx-manager-user", "", "", asterisk=own_user("deny=::/0\npermit=::1", "::")),
    "no manager": Case(
        "freepbx-manager-user",
        "",
        "",
        asterisk=changed(own_user("permit=0.0.0.0/0"), "manager.conf", "enabled=yes", "enabled=no"),
    ),
    "FreePBX 18 itself": Case(
        "freepbx-18-blocked", "", "", host={"version": "18.0.1", "rules": {4: (*BUILT, ":X - [0:0]"), 6: BUILT6}}
    ),
    "nobody anonymous": Case(
        "freepbx-anonymous-calls", "", "", asterisk=added(KEPT, extensions="[globals]\nALLOW_SIP_ANON = no\n")
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(tmp_path: Path, name: str) -> None:
    assert HARMLESS[name].name not in ids(found(tmp_path, HARMLESS[name]))


def test_nothing_known_is_nothing_said(tmp_path: Path) -> None:
    said = ids(found(tmp_path, None, host=Host()))
    assert not [name for name in said if name.startswith("freepbx-")]


def test_bans_are_lost_in_the_family_that_is_named(tmp_path: Path) -> None:
    for version, command in ((4, "iptables"), (6, "ip6tables")):
        case = Case("", "", "", host={"rules": {4: BUILT, 6: BUILT6, version: without("-A fail2ban-SIP")}})
        assert one(found(tmp_path / command, case), "freepbx-bans-lost").places == (command,)


@pytest.mark.parametrize("more", ["", "permit=0.0.0.0/0.0.0.0"], ids=["as FreePBX has it", "for everybody"])
def test_secret_of_freepbxs_own_user_is_nobodys_to_change(tmp_path: Path, more: str) -> None:
    """Its firewall logs in with it. Of anybody else, and on another host, it is a secret that will be guessed."""
    name = "manager-weak-secret"
    case = Case("", "", "", asterisk=own_user(more))
    assert name not in ids(found(tmp_path / "own", case))
    assert one(found(tmp_path / "elsewhere", case, freepbx=False), name).subject == "manager user firewall"
    other = Case("", "", "", asterisk=changed(own_user(more), "manager.conf", "[firewall]", "[firewall2]"))
    assert one(found(tmp_path / "another", other), name).subject == "manager user firewall2"
    chosen = Case("", "", "", asterisk=changed(own_user(more), "manager.conf", "fpbxfirewall*secret", "firewall1"))
    assert one(found(tmp_path / "chosen", chosen), name).subject == "manager user firewall"


def test_remedy_of_freepbxs_own_user_leaves_the_secret(tmp_path: Path) -> None:
    finding = one(found(tmp_path, Case("", "", "", asterisk=own_user("permit=0.0.0.0/0"))), "freepbx-manager-user")
    assert "Leave its secret" in finding.remedy
    assert "127.0.0.1/255.255.255.0" in finding.remedy
    assert "fpbxfirewall" not in str(finding)
