#!/usr/bin/env python
# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw docs/images/demo.svg, a terminal, from docs/images/demo.txt: what `make demo` printed on standard output.

usage: docs/bin/demo_picture.py [--check]
       make demo | docs/bin/demo_picture.py --record

With --check nothing is written; the exit status is 1 when the picture isn't what the text says. --record takes a new text from
standard input first, and refuses that of a run in which something went wrong.
"""

from __future__ import annotations

import re
import sys
from html import escape

from generated import ROOT, write_or_check

TEXT = ROOT / "docs" / "images" / "demo.txt"
PICTURE = TEXT.with_suffix(".svg")
HEAD = """\
# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What a run of make demo printed; docs/bin/demo_picture.py --record wrote it down.
"""
GOOD_END = "Everything is as it should be."

# Pixels: the advance of a character at this size in the monospaced fonts that systems have, and the distance of two lines.
SIZE, ADVANCE, LEADING, MARGIN, BAR = 13, 7.8, 18, 18, 34
# A word of the table's last columns -> what it is: bad for whom is protected, good, or neither.
WORDS = {
    "answers": "bad",
    "gets in": "bad",
    "fails": "bad",
    "silence": "good",
    "refused": "good",
    "works": "good",
}
COLOURS = {"plain": "#d7dae0", "faint": "#7f8694", "good": "#8fd18a", "bad": "#ff8f83", "title": "#f0f2f5"}
PIECE = re.compile(r"\S+(?: \S+)*")  # words with one blank between them: columns are at least two apart


def style(line: str, piece: re.Match[str], in_table: bool) -> str:
    """Return the class of a piece of a line."""
    word = piece[0]
    if set(line) <= {"-", " "}:
        return "faint"
    if in_table and piece.start() > 0 and word in WORDS:
        return WORDS[word]
    if in_table and re.fullmatch(r"\d+ in", word):
        columns = [found[0] for found in re.finditer(r"\d+ in", line[: piece.end()])]
        return "bad" if len(columns) % 2 else "good"
    if word == GOOD_END:
        return "good"
    return "plain"


def picture() -> str:
    """Return the whole file."""
    lines = [line.rstrip() for line in TEXT.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    while not lines[0]:
        del lines[0]
    width = round(2 * MARGIN + ADVANCE * max(map(len, lines)))
    height = BAR + 2 * MARGIN + LEADING * len(lines)
    out = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<!--",
        "Copyright (c) 2026 The sipguard.pbx contributors",
        "GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
        "SPDX-License-Identifier: GPL-3.0-or-later",
        "Written by docs/bin/demo_picture.py from demo.txt.",
        "-->",
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
        "<title>What make demo prints: two PBXs before and after the playbook</title>",
        "<style>",
        f"text {{ font: {SIZE}px 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre; }}",
        *(f".{name} {{ fill: {colour}; }}" for name, colour in COLOURS.items()),
        "</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#1c1f26"/>',
        *(
            f'<circle cx="{MARGIN + 18 * number}" cy="{BAR // 2}" r="5.5" fill="{colour}"/>'
            for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
        ),
        f'<text class="title" x="{width // 2}" y="{BAR // 2 + 4}" text-anchor="middle">make demo</text>',
    ]
    in_table = False
    for number, line in enumerate(lines):
        if set(line) == {"-", " "}:
            in_table = True
        elif not line:
            in_table = False
        for piece in PIECE.finditer(line):
            x = f"{MARGIN + ADVANCE * piece.start():.1f}"
            y = BAR + MARGIN + LEADING * number + SIZE
            # the length is fixed, so that columns stay columns in any font
            length = f"{ADVANCE * len(piece[0]):.1f}"
            out.append(
                f'<text class="{style(line, piece, in_table)}" x="{x}" y="{y}" textLength="{length}">{escape(piece[0])}</text>'
            )
    return "\n".join([*out, "</svg>", ""])


def record(text: str) -> None:
    """Write down what a run printed; SystemExit where something in it is not as it should be."""
    if not text.rstrip().endswith(GOOD_END):
        raise SystemExit(f"docs/bin/demo_picture.py: this is not the end of a good run: {text.rstrip()[-200:]!r}")
    TEXT.parent.mkdir(exist_ok=True)
    TEXT.write_text(HEAD + text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--record"]:
        record(sys.stdin.read())
        del sys.argv[1:]
    sys.exit(write_or_check(PICTURE, picture, "docs/images/demo.txt"))
