# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m tests.bench: prints both tables with the goals beside the figures. Needs root and gcc."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.integration.harness.modules import collection_path
from tests.integration.harness.netns import remove_stale

sys.path.insert(0, str(collection_path()))

from . import packets, runs

parser = argparse.ArgumentParser(prog="python -m tests.bench", description="What a packet and what a run costs.")
parser.add_argument("--quick", action="store_true", help="fewer rounds and repeats, for a first impression")
parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
parser.add_argument("--backend", choices=["nft", "legacy"], action="append", help="default: both")


def main() -> None:
    """Measures and prints."""
    wanted = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("run this as root: it makes network namespaces")
    remove_stale()
    rounds, repeats, rules = (60, 4, 10) if wanted.quick else (400, 12, runs.RULES)
    kept: dict[str, Any] = {"kernel": platform.release(), "processors": os.cpu_count(), "rounds": rounds}
    for backend in wanted.backend or ["nft", "legacy"]:
        figures = packets.measure(backend, rounds)
        kept[f"packets_{backend}"] = packets.as_json(figures)
        size, batch = len(packets.PHONE), packets.BATCH
        print(f"\nCost of a packet: INVITE of {size} bytes over UDP and IPv4, {backend}, {rounds} rounds of {batch}\n")
        print(packets.table(figures))
        print(f"Left out of the published list, because they drop this INVITE: {', '.join(packets.left_out())}")
        sys.stdout.flush()
        timed = runs.measure(backend, repeats, rules)
        kept[f"runs_{backend}"] = asdict(timed)
        print(f"\nTime of a run, as Ansible sees its tasks, {backend}, median of {repeats}\n")
        print(runs.table(timed), flush=True)
    if wanted.json:
        wanted.json.write_text(json.dumps(kept, indent=2) + "\n")


main()
