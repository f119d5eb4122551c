# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters as fail2ban itself reads and runs them, in each of the lab's images: one start of a container for any number of lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lab import images
from lab.engine import detect

__all__ = ["FILTERS", "IMAGES", "Found", "in_image", "run"]

CHECKOUT = Path(__file__).resolve().parents[2]
FILTERS = CHECKOUT / "roles/pbx_fail2ban/files/filter.d"
IMAGES = {
    "0.11.2": "debian11-asterisk16",
    "1.0.2": "debian12",
    "1.1.0": "debian13-fail2ban",
    "1.1.1": "sid-asterisk22",
}

# Runs in the image, by its Python and its fail2ban: how the server reads a filter and feeds it, without server and jail.
HARNESS = r"""
import json, sys, time
sys.path.insert(0, '/usr/lib/python3/dist-packages')
from fail2ban.client.filterreader import FilterReader
from fail2ban.helpers import extractOptions
from fail2ban.server.filter import FileContainer, Filter
from fail2ban.server.mytime import MyTime
from fail2ban.version import version

def load(text, base):
    name, options = extractOptions(text)
    reader = FilterReader(name, 'jail', options, basedir=base)
    assert reader.read(), text
    reader.getOptions(None)
    made = Filter(None)
    made.setUseDns('raw')  # a host name, if a filter took one, would come out as it is
    made.checkFindTime = False
    for command in reader.convert():
        values = command[3:] if command[0] == 'set' else command[3]
        if command[2] == 'prefregex':
            made.prefRegex = values[0]
        elif command[2] == 'addfailregex':
            for value in values:
                made.addFailRegex(value)
        elif command[2] == 'datepattern':
            made.setDatePattern(values[0])
    assert made.getFailRegex(), text
    return made

def feed(made, line):
    # The journal's lines come with a date, those of a file as bytes.
    if line.get('journal'):
        return made.processLine(('', '2026-03-05T07:08:09', line['text']), 1772694489)
    raw = line['text'].encode('utf-8', 'surrogateescape')
    return made.processLine(FileContainer.decode_line('log', 'UTF-8', raw))
"""

_MATCH = (
    HARNESS
    + r"""
asked = json.load(sys.stdin)
answer = {'version': version, 'found': {}, 'regexes': {}}
for text in asked['filters']:
    made = load(text, asked['base'])
    made.checkAllRegex = asked['all']
    answer['regexes'][text] = len(made.getFailRegex())
    answer['found'][text] = [
        [[index, str(address), date] for index, address, date, dummy in feed(made, line)] for line in asked['lines']
    ]
json.dump(answer, sys.stdout)
"""
)


@dataclass(frozen=True)
class Found:
    """What one version finds: by filter, for every line a list of (number of the regex, address, seconds since the epoch)."""

    version: str
    found: dict[str, list[list[tuple[int, str, float]]]]
    regexes: dict[str, int]


@cache
def _build() -> dict[str, str]:
    return images.build(detect(), set(IMAGES.values()))


def in_image(version: str, program: str, asked: Mapping[str, Any], *, seconds: float = 300) -> Any:
    """What a Python program in the image with that fail2ban prints as JSON, given ``asked`` as JSON; time is UTC there.

    Our filters are in /filters/filter.d, those of the package in /etc/fail2ban/filter.d.
    """
    argv = ["run", "--rm", "--interactive", "--network", "none", "--env", "TZ=UTC", "--env", "LC_ALL=C.UTF-8"]
    argv += ["--volume", f"{FILTERS}:/filters/filter.d:ro", _build()[IMAGES[version]], "python3", "-c", program]
    done = detect().call(*argv, stdin=json.dumps(asked), timeout=seconds)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(version: str, filters: Sequence[str], lines: Sequence[Mapping[str, Any]], *, every: bool = True) -> Found:
    """Each filter, with its options in brackets, on the lines in order; with ``every`` all regexes are tried on a line.

    A line is ``{"text": ..., "journal": bool}``.
    """
    asked = {"base": "/filters", "all": every, "filters": list(filters), "lines": list(lines)}
    answer = in_image(version, _MATCH, asked)
    assert answer["version"].startswith(version), answer["version"]
    return Found(answer["version"], answer["found"], answer["regexes"])
