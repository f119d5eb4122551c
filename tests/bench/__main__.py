# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m tests.bench [PART ...]: prints the tables with the goals beside the figures. Needs root and gcc; the floods, the lab."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.integration.harness.modules import collection_path
from tests.integration.harness.netns import remove_stale

sys.path.insert(0, str(collection_path()))

from . import ami_clients, asterisk, ban, blocklist, filters, fleet, flood, harden, packets, runs, sipban

ASKED = ("fleet", "settings")  # only when asked for: they take a quarter of an hour
PARTS = ("packet", "run", "blocklist", "asterisk", "filters", "ban", "sipban", "ami", "harden", "flood")

parser = argparse.ArgumentParser(
    prog="python -m tests.bench",
    description="What a packet and what a run costs, and what becomes of calls in a flood.",
)
parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all); {', '.join(ASKED)}")
parser.add_argument("--quick", action="store_true", help="fewer rounds and repeats, for a first impression")
parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
parser.add_argument("--backend", choices=["nft", "legacy"], action="append", help="default: both")

parser.add_argument("--hosts", default=",".join(map(str, fleet.COUNTS)), help="fleet: how many (default: %(default)s)")
parser.add_argument("--image", default="debian12", help="fleet: what the hosts are made of (default: %(default)s)")

parser.add_argument("--project", default=fleet.PROJECT, help="fleet: whose hosts in the lab (default: %(default)s)")


def _packet(backend: str, rounds: int) -> Any:
    figures = packets.measure(backend, rounds)
    size, batch = len(packets.PHONE), packets.BATCH
    print(f"\nCost of a packet: INVITE of {size} bytes over UDP and IPv4, {backend}, {rounds} rounds of {batch}\n")
    print(packets.table(figures))
    print(f"Left out of the published list, because they drop this INVITE: {', '.join(packets.left_out())}", flush=True)
    return packets.as_json(figures)


def _run(backend: str, repeats: int, rules: int) -> Any:
    timed = runs.measure(backend, repeats, rules)
    print(f"\nTime of a run, as Ansible sees its tasks, {backend}, median of {repeats}\n")
    print(runs.table(timed), flush=True)
    return asdict(timed)


def _blocklist(backends: list[str], rounds: int, repeats: int) -> Any:
    found = blocklist.measure(backends, rounds, repeats)
    print(f"\nBlocklists: medians of {repeats} runs, {rounds} rounds of {packets.BATCH} packets\n")
    print(blocklist.table(found), flush=True)
    return asdict(found)


def _asterisk(repeats: int) -> Any:
    found = asterisk.measure(repeats)
    print(f"\nasterisk_sip_hardening, profile strict, on Asterisk 22: medians of {repeats} runs\n")
    print(asterisk.table(found), flush=True)
    return [asdict(each) for each in found]


def _filters(rounds: int) -> Any:
    found = filters.measure(rounds)
    print(f"\nfail2ban's filters for Asterisk: medians of {rounds} runs\n")
    print(filters.table(found), flush=True)
    return asdict(found)


def _ban(repeats: int) -> Any:
    found = ban.measure(repeats)
    print(f"\nFrom the wrong password that is one too many to the first packet dropped, {repeats} bans each\n")
    print(ban.table(found), flush=True)
    return [asdict(each) for each in found]


def _sipban(rounds: int) -> Any:
    found = sipban.measure(rounds)
    print(
        f"\nFrom the wrong password that is one too many to the first packet dropped, {sipban.ROUND * rounds} bans each\n"
    )
    print(sipban.table(found), flush=True)
    return asdict(found)


def _ami(repeats: int) -> Any:
    found = ami_clients.measure(repeats)
    print(f"\nClients of the manager interface, each a process of its own: medians of {repeats} runs\n")
    print(ami_clients.table(found), flush=True)
    return asdict(found)


def _harden(repeats: int) -> Any:
    timed = harden.measure(repeats)
    print(f"\nTime of the main job over SSH, median of {repeats}\n")
    print(harden.table(timed), flush=True)
    return asdict(timed)


def _flood(rounds: int) -> Any:
    found = flood.measure(rounds)
    print(
        f"\nFloods: {flood.RATE} REGISTER a second over UDP and IPv4 for {flood.SECONDS} s, "
        f"{flood.CALLS} calls a second, {rounds} rounds\n"
    )
    print(flood.table(found), flush=True)
    return flood.as_json(found)


def _fleet(counts: list[int], project: str, image: str, rounds: int) -> Any:
    with fleet.Fleet(max(counts), project, image) as up:
        found = fleet.measure(up, counts, rounds)
    print(f"\nharden_pbx over a fleet, {fleet.Settings()}: medians of {rounds} rounds\n")
    print(fleet.table(found), flush=True)
    return [asdict(each) for each in found]


def _settings(hosts: int, project: str, image: str, rounds: int) -> Any:
    with fleet.Fleet(hosts, project, image) as up:
        found = fleet.try_settings(up, hosts, rounds)
    print(f"\nA repeated run over {hosts} hosts: medians of {rounds} rounds\n")
    print(fleet.settings_table(found), flush=True)
    return [{**asdict(settings), **asdict(run)} for settings, run in found]


def main() -> None:
    """Measures and prints."""
    wanted = parser.parse_args()
    parts = wanted.parts or PARTS
    unknown = [part for part in parts if part not in (*PARTS, *ASKED)]
    if unknown:
        parser.error(f"no part is called {unknown[0]!r}: {', '.join((*PARTS, *ASKED))} expected")
    if os.geteuid() != 0:
        parser.error("run this as root: it makes network namespaces")
    signal.signal(signal.SIGTERM, lambda *dummy: sys.exit(143))  # what is up is taken down first
    remove_stale()
    rounds, repeats, rules, turns = (60, 4, 10, 1) if wanted.quick else (400, 12, runs.RULES, 3)
    kept: dict[str, Any] = {"kernel": platform.release(), "processors": os.cpu_count(), "rounds": rounds}
    for backend in wanted.backend or ["nft", "legacy"]:
        if "packet" in parts:
            kept[f"packets_{backend}"] = _packet(backend, rounds)
        if "run" in parts:
            kept[f"runs_{backend}"] = _run(backend, repeats, rules)
    if "blocklist" in parts:
        kept["blocklist"] = _blocklist(wanted.backend or ["nft", "legacy"], rounds, repeats)
    if "asterisk" in parts:
        kept["asterisk"] = _asterisk(1 if wanted.quick else 5)
    if "filters" in parts:
        kept["filters"] = _filters(1 if wanted.quick else 5)
    if "ban" in parts:
        kept["ban"] = _ban(3 if wanted.quick else 20)
    if "sipban" in parts:
        kept["sipban"] = _sipban(1 if wanted.quick else 4)
    if "ami" in parts:
        kept["ami"] = _ami(2 if wanted.quick else 5)
    if "harden" in parts:
        kept["harden"] = _harden(3)
    if "flood" in parts:
        kept["floods"] = _flood(turns)
    counts = [int(count) for count in wanted.hosts.split(",")]
    if "fleet" in parts:
        kept["fleet"] = _fleet(counts, wanted.project, wanted.image, 1 if wanted.quick else 3)
    if "settings" in parts:
        kept["settings"] = _settings(counts[-1], wanted.project, wanted.image, 1 if wanted.quick else 3)
    if wanted.json:
        wanted.json.write_text(json.dumps(kept, indent=2) + "\n")


main()
