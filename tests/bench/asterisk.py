# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seconds that asterisk_sip_hardening takes for 50, 500 and 5,000 endpoints of a real Asterisk, and how they grow."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from tests.asterisk.harness import PJSIP_TRANSPORTS, Pbx, remove_stale

__all__ = ["GOAL", "SIZES", "Timed", "measure", "table"]

GOAL = 3.0  # s, for 5,000 endpoints
SIZES = (50, 500, 5000)
MODULE = "asterisk_sip_hardening"
_OPTIONS = "context=phones\ndisallow=all\nallow=alaw\n"


@dataclass(frozen=True)
class Timed:
    """Medians in seconds for one size and shape. ``files`` edits without Asterisk, ``first`` also reloads and reads back, ``repeated``
    finds nothing to do, ``audit`` only looks; ``lines`` is how many were written. ``start`` is what Python and Ansible's basic module
    take, which every run has in it."""

    endpoints: int
    shape: str
    start: float
    files: float
    first: float
    repeated: float
    audit: float
    lines: int


def _configuration(endpoints: int, shape: str) -> str:
    """``templates``: the options are said once. ``flat``: each endpoint says its own, as a web interface writes them."""
    parts = [PJSIP_TRANSPORTS]
    if shape == "templates":
        parts.append(
            f"[phone](!)\ntype=endpoint\n{_OPTIONS}[login](!)\ntype=auth\nauth_type=userpass\n[place](!)\ntype=aor\nmax_contacts=1\n"
        )
    for number in range(10000, 10000 + endpoints):
        auth = f"username={number}\npassword=Qx{number}-vT7-mK{number}\n"
        if shape == "templates":
            parts.append(
                f"[{number}](phone)\nauth={number}\naors={number}\n[{number}](login)\n{auth}[{number}](place)\n"
            )
        else:
            parts.append(
                f"[{number}]\ntype=endpoint\n{_OPTIONS}auth={number}\naors={number}\n"
                f"[{number}]\ntype=auth\nauth_type=userpass\n{auth}[{number}]\ntype=aor\nmax_contacts=1\n"
            )
    return "".join(parts)


def _seconds(pbx: Pbx, **options: object) -> tuple[float, dict[str, object]]:
    begun = time.monotonic()
    result = pbx.apply(MODULE, {"profile": "strict", **options})
    return time.monotonic() - begun, result


def _nothing(pbx: Pbx) -> float:
    begun = time.monotonic()
    pbx.check(["python3", "-c", "import ansible.module_utils.basic"])
    return time.monotonic() - begun


def measure(repeats: int) -> list[Timed]:
    """Each size in each shape, on Asterisk 22."""
    remove_stale()
    found = []
    with Pbx("22") as pbx:
        for endpoints in SIZES:
            for shape in ("templates", "flat"):
                text = _configuration(endpoints, shape)
                times: dict[str, list[float]] = {key: [] for key in ("start", "files", "first", "repeated", "audit")}
                lines = 0
                for dummy in range(repeats):
                    pbx.boot({"pjsip.conf": text})
                    times["start"].append(_nothing(pbx))
                    times["audit"].append(_seconds(pbx, audit_only=True)[0])
                    seconds, result = _seconds(pbx, audit=False)
                    assert result["changed"], result
                    lines = len(result["settings"])  # type: ignore[arg-type]
                    times["first"].append(seconds)
                    before = pbx.digest("pjsip.conf")
                    seconds, result = _seconds(pbx, audit=False)
                    assert not result["changed"], result
                    assert pbx.digest("pjsip.conf") == before
                    times["repeated"].append(seconds)
                    pbx.write("pjsip.conf", text)
                    times["files"].append(_seconds(pbx, audit=False, reload=False)[0])
                medians = {key: statistics.median(values) for key, values in times.items()}
                found.append(Timed(endpoints=endpoints, shape=shape, lines=lines, **medians))
    return found


def table(found: list[Timed]) -> str:
    """The figures for people."""
    rows = [
        f"{'endpoints':>9}  {'shape':9} {'lines':>7} {'start':>7} {'files':>7} {'first':>7} {'again':>7} {'audit':>7}"
    ]
    for each in found:
        rows.append(
            f"{each.endpoints:>9}  {each.shape:9} {each.lines:>7} {each.start:>7.2f} {each.files:>7.2f} {each.first:>7.2f}"
            f" {each.repeated:>7.2f} {each.audit:>7.2f} s"
            + (
                f"   goal {GOAL:.0f}: {'reached' if each.first <= GOAL else 'missed'}"
                if each.endpoints == SIZES[-1]
                else ""
            )
        )
    for shape in ("templates", "flat"):
        mine = {each.endpoints: each.files - each.start for each in found if each.shape == shape}
        rows.append(
            f"{shape}: ten times the endpoints (500 to 5,000), {mine[5000] / mine[500]:.1f} times the time without the start"
        )
    return "\n".join([*rows, ""])
