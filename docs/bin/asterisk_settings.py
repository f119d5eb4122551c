#!/usr/bin/env python
# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/asterisk-settings.md from the catalogue in plugins/module_utils/_asterisk/settings.

usage: docs/bin/asterisk_settings.py [--check]

With --check nothing is written; the exit status is 1 when the page isn't what the catalogue says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from generated import ROOT, write_or_check

PAGE = ROOT / "docs" / "asterisk-settings.md"

INTRODUCTION = """\
<!-- Written by docs/bin/asterisk_settings.py from plugins/module_utils/_asterisk/settings; edit the tables, not this page. -->

# The settings of Asterisk

What `asterisk_sip_hardening` sets in sip.conf and pjsip.conf. `profile: baseline` holds what no honest phone, trunk or user
notices. `profile: strict` adds the rest of the published advice: look through it first, and name what has to stay different
in `settings`, or for single peers, endpoints and AORs in `exceptions`. In both a value of null leaves an option as it is.

A value that is already there is left alone where the column "also right" covers it, and so is an option that is not there where
Asterisk's default does. "Default" is what Asterisk 16 to 22 does without the option. Numbers are seconds.
An option that the host's version does not know is left out: PJSIP discards a whole object for one of them.
"""

HEADINGS = {
    "general": "## sip.conf, [general]\n\nchan_sip, in Asterisk 16 to 20. Only the first [general] counts.\n",
    "peer": "## sip.conf, the peers\n\nThe same options said by a peer itself, which override [general].\n",
    "global": "## pjsip.conf, `type=global`\n",
    "endpoint": """\
## pjsip.conf, `type=endpoint`

PJSIP has no defaults for all endpoints: each endpoint, or a template of it, says it. `guests` is no option but the absence of an
endpoint named `anonymous`.
""",
    "aor": "## pjsip.conf, `type=aor`\n",
    "transport": "## pjsip.conf, `type=transport`\n\nAsterisk reads these again only when it is restarted.\n",
}


def cell(text: str) -> str:
    """Return text as the plain text of a cell."""
    return "".join(f"\\{char}" if char in "\\*_[]<>|" else char for char in text)


def code(text: str) -> str:
    """Return text as code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|") if text else ""


def page() -> str:
    """Return the whole page."""
    return "\n".join(parts())


def parts() -> Iterator[str]:
    """Yield the page piece by piece."""
    from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import catalogue, options

    yield INTRODUCTION
    for scope, heading in HEADINGS.items():
        yield heading
        yield "| option | value | profile | also right | default | only where | takes effect | why | source |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for setting in catalogue.SETTINGS:
            if setting.scope != scope:
                continue
            name = ", ".join(code(each) for each in (setting.option, *setting.aliases))
            since = options.option(setting.option, setting.driver, scope).since
            if since:
                name += " (since " + ", ".join(f"{major}.{minor}" for major, minor in since) + ")"
            columns = (
                name,
                code(setting.value),
                setting.profile,
                cell(setting.satisfied_by.text()),
                "what \\[general\\] says" if "own_line" in setting.when else code(setting.default) or "not set",
                ", ".join(code(word) for word in setting.when),
                "restart" if setting.reload == "restart" else "reload",
                cell(setting.why),
                cell(setting.source),
            )
            yield f"| {' | '.join(columns)} |"
        yield ""
    yield "## The conditions\n"
    yield (
        'Words of the column "only where". What the inventory says in `settings` keeps them, except `own_line`; '
        "`exceptions` keep none.\n"
    )
    yield "| word | it holds where |"
    yield "|---|---|"
    for word, meaning in catalogue.CONDITIONS.items():
        yield f"| {code(word)} | {meaning} |"
    yield "\n## The same option in both drivers\n"
    yield "`exceptions` take either name; where a driver has no such option for a single object it leaves the exception alone.\n"
    yield "| chan_sip | PJSIP |"
    yield "|---|---|"
    for option, there in catalogue.EQUIVALENTS.items():
        yield f"| {code(option)} | {', '.join(f'{code(name)} ({scope})' for scope, name in there)} |"
    yield ""


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page, "the catalogue of settings"))
