# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible inventory of a lab that is up."""

from __future__ import annotations

import json
from pathlib import Path

from .hosts import Host, Lab

__all__ = ["SIP_DOMAIN", "build", "to_yaml", "write"]

SIP_DOMAIN = "sip.lab.example"


def build(lab: Lab) -> dict[str, object]:
    """The inventory as a value. PBXs are in group ``pbx``, other managed hosts in group ``plain``.

    PBXs get everything that is off by default as well.
    The LAN is only the part of the lab's subnets where the desk phone is: the roaming phone and the attackers are strangers to it.
    """
    groups: dict[str, dict[str, object]] = {"pbx": {}, "plain": {}}
    for name, have in sorted(lab.containers().items()):
        host = Host(name, have["image"], int(have["suffix"]))
        if host.managed:
            groups["pbx" if "asterisk" in host.image else "plain"][name] = lab.ssh_info(host)["ansible"]
    everywhere = {
        "pbx_admins": [lab.ipv4(1), lab.ipv6(1)],
        "pbx_lan": [lab.ipv4("16/28"), lab.ipv6("20/124")],
        "pbx_phones": [lab.ipv4(21), lab.ipv6(21)],
        "pbx_trunks": [lab.ipv4(34), lab.ipv6(34)],
        "pbx_sip_domains": [SIP_DOMAIN],
        "pbx_sip_ports": ["5060:5061"],
        "pbx_rtp_ports": ["10000:20000"],
    }
    return {
        "all": {
            "vars": everywhere,
            "children": {
                "pbx": {
                    "hosts": groups["pbx"],
                    "vars": {"pbx_platform": "asterisk", "pbx_firewall_gate": True, "pbx_firewall_host_policy": True},
                },
                "plain": {"hosts": groups["plain"]},
            },
        }
    }


def to_yaml(value: object, indent: str = "") -> str:
    """``value`` (mappings, lists of scalars, scalars) as YAML; the standard library has no writer."""
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            nested = isinstance(item, (dict, list)) and item
            text = to_yaml(item, indent + "  ")
            lines.append(f"{indent}{key}:\n{text}" if nested else f"{indent}{key}: {json.dumps(item)}\n")
        return "".join(lines)
    if isinstance(value, list):
        return "".join(f"{indent}- {json.dumps(item)}\n" for item in value)
    return f"{indent}{json.dumps(value)}\n"


def write(lab: Lab) -> Path:
    """Write the inventory into the lab's folder and return its path."""
    path = lab.folder / "inventory.yml"
    path.write_text("---\n" + to_yaml(build(lab)), encoding="utf-8")
    return path
