# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The presets of ranges: as published, readable, documented, and what they would block known to the address."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.range_presets import (
    RANGE_PRESETS,
    RangeEntry,
    details,
    range_preset,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.ranges import parse_range
from tests.unit.repository.checkout import TOP

HOSTERS = "hosters"
# Name, tier, entries, addresses, shortest prefix; reckoned by hand from what was published.
EXPECTED = [
    ("voipsupport-ponytelecom", HOSTERS, 10, 5 * 65536 + 16384 + 4 * 8192, 16),
    ("voipsupport-vitox", HOSTERS, 7, 7 * 256, 24),
    ("elektronikbasteln-addresses", "addresses", 9, 9, 32),
    ("elektronikbasteln-ranges", HOSTERS, 3, 4 + 256 + 8192, 19),
    ("elektronikbasteln-microsoft", HOSTERS, 2, (128 - 33 + 1) * 65536 + (107 - 64 + 1) * 65536, 10),
]


def networks(value: str) -> list[ipaddress.IPv4Network]:
    version, first, last = parse_range(value)
    assert version == 4
    return list(ipaddress.summarize_address_range(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)))


def all_networks(name: str) -> list[ipaddress.IPv4Network]:
    return [network for entry in range_preset(name) for network in networks(entry.value)]


def lies_in(value: str, name: str) -> bool:
    return all(any(network.subnet_of(other) for other in all_networks(name)) for network in networks(value))


def test_presets_are_these() -> None:
    assert [name for name, *_rest in EXPECTED] == list(RANGE_PRESETS)


@pytest.mark.parametrize(("name", "tier", "entries", "addresses", "prefix"), EXPECTED)
def test_preset_names_what_was_published(name: str, tier: str, entries: int, addresses: int, prefix: int) -> None:
    found = all_networks(name)
    assert details(name).tier == tier
    assert len(range_preset(name)) == len({entry.value for entry in range_preset(name)}) == entries
    # Each address is counted once, and is in one entry only.
    assert sum(network.num_addresses for network in found) == addresses
    assert sum(network.num_addresses for network in ipaddress.collapse_addresses(found)) == addresses
    assert min(network.prefixlen for network in found) == prefix


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("voipsupport-ponytelecom", 0, "62.210.0.0/16"),
        ("voipsupport-ponytelecom", -1, "151.115.0.0/16"),
        ("voipsupport-vitox", 0, "77.247.109.0/255.255.255.0"),
        ("voipsupport-vitox", -1, "77.247.110.0/255.255.255.0"),
        ("elektronikbasteln-addresses", 0, "92.204.184.94"),
        ("elektronikbasteln-addresses", -1, "104.149.138.66"),
        ("elektronikbasteln-ranges", 0, "87.119.220.200-87.119.220.203"),
        ("elektronikbasteln-ranges", -1, "216.244.64.0-216.244.95.255"),
        ("elektronikbasteln-microsoft", 0, "20.33.0.0-20.128.255.255"),
        ("elektronikbasteln-microsoft", -1, "13.64.0.0-13.107.255.255"),
    ],
)
def test_masks_and_ranges_stay_as_they_were_written(name: str, place: int, value: str) -> None:
    assert range_preset(name)[place].value == value


@pytest.mark.parametrize("name", RANGE_PRESETS)
def test_no_preset_holds_what_nobody_can_send_from(name: str) -> None:
    assert [network for network in all_networks(name) if not network.is_global or network.is_multicast] == []


@pytest.mark.parametrize("name", RANGE_PRESETS)
def test_every_preset_is_documented(name: str) -> None:
    preset = details(name)
    assert preset.name == name
    assert preset.source.startswith(name.partition("-")[0] + ", ")
    assert preset.published
    assert date.fromisoformat(preset.reviewed) >= date(2026, 11, 21)
    assert "unverified" in preset.warning
    for entry in preset.entries:
        # A note is one field of a line of a list file, and people read it on a terminal.
        assert entry.note.isascii()
        assert entry.note.isprintable()
        assert name.partition("-")[0] in entry.note


def test_single_addresses_of_microsofts_ranges_say_so() -> None:
    entries = range_preset("elektronikbasteln-addresses")
    inside = {entry.value for entry in entries if lies_in(entry.value, "elektronikbasteln-microsoft")}
    said = {entry.value for entry in entries if "Microsoft" in entry.note}
    assert inside == said == {"20.36.8.51"}


def test_warning_of_microsofts_ranges_names_what_is_in_them() -> None:
    for service in ("13.107.128.0/22", "13.107.136.0/22", "13.107.64.0/18"):
        assert f"({service})" in details("elektronikbasteln-microsoft").warning
        assert lies_in(service, "elektronikbasteln-microsoft")


def test_preset_is_its_entries() -> None:
    assert range_preset("elektronikbasteln-ranges")[0] == RangeEntry(
        "87.119.220.200-87.119.220.203", "range without a name (elektronikbasteln, undated)"
    )


@pytest.mark.parametrize("name", ["ponytelecom", "", None, ["voipsupport-vitox"]])
def test_unknown_preset_is_refused_with_those_there_are(name: object) -> None:
    with pytest.raises(OptionError) as caught:
        range_preset(name)
    assert (caught.value.option, caught.value.value) == ("presets", name)
    assert ", ".join(RANGE_PRESETS) in str(caught.value)


def run(top: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(top / "docs/bin/range_presets.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_page_is_current() -> None:
    done = run(TOP, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_changed_table_is_noticed_then_written(tmp_path: Path) -> None:
    for name in ("docs/bin/generated.py", "docs/bin/range_presets.py", "docs/range-presets.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, tmp_path / name)
    vocabulary = "plugins/module_utils/_sip"
    shutil.copytree(TOP / vocabulary, tmp_path / vocabulary, ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / vocabulary / "range_presets/voipsupport.py"
    table.write_text(table.read_text(encoding="utf-8").replace("51.15.0.0/16", "51.15.0.0/17"), encoding="utf-8")
    page = tmp_path / "docs/range-presets.md"
    before = page.read_text(encoding="utf-8")
    noticed = run(tmp_path, "--check")
    assert noticed.returncode == 1
    assert "run docs/bin/range_presets.py" in noticed.stderr
    assert page.read_text(encoding="utf-8") == before
    assert run(tmp_path).returncode == 0
    assert "| `51.15.0.0/17` | 32,768 |" in page.read_text(encoding="utf-8")
    assert run(tmp_path, "--check").returncode == 0
