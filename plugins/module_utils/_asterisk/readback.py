# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Asterisk says after a change: are all objects still there, and do they have the values that were wanted?

Asking for one object takes about 20 ms, so of hundreds only some are asked for: those that were changed first, then others from all over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from .._sip.errors import OptionError
from .cli import Cli, NoSuchCommand
from .effective import Effective, same
from .planner import Plan
from .tree import shown

__all__ = ["GLANCE", "SAMPLE", "missing", "read_back"]

# objects of a kind that are read back, after a change and otherwise
SAMPLE = 12
GLANCE = 2
_KINDS = ("endpoint", "aor", "transport")


def missing(cli: Cli, plans: Sequence[Plan]) -> list[str]:
    """A sentence about each object of the files that Asterisk does not have. All of them are looked for."""
    found: list[str] = []
    reader = Effective(cli)
    for plan in plans:
        for kind in ("peer",) if plan.tree.name == "sip.conf" else _KINDS:
            names = plan.names.get(kind)
            if names:
                with contextlib.suppress(NoSuchCommand):
                    found += [f"the {kind} {name!a} is not there" for name in reader.missing(kind, names)]
    return found


def read_back(
    cli: Cli, plans: Sequence[Plan], most: int, refused: Sequence[str] = ()
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """What Asterisk says now, by object, of the options that were wanted; and a sentence about each that is not as it should be.

    ``refused`` are Asterisk's complaints: an object that one of them names stays as it was, which is told already.
    """
    reader = Effective(cli)
    found: dict[str, dict[str, str]] = {}
    wrong: list[str] = []
    for plan in plans:
        changed = {each.section for each in plan.changes}
        for scope, objects in plan.wanted.items():
            for name in _sample(list(objects), changed, most):
                said = _said(reader, plan.tree.name, scope, name)
                if said is None or any(f"'{name}'" in each for each in refused):
                    continue
                wanted = {each.option: each for each in objects[name] if each.option in said}
                where = f"{plan.tree.name} {scope}" if name == scope else f"{plan.tree.name} {scope} {shown(name)}"
                found[where] = {option: said[option] for option in wanted}
                wrong += [
                    f"{option} of {name!a} is {said[option]!a} for Asterisk"
                    for option, setting in wanted.items()
                    if setting.reload != "restart"
                    and not setting.satisfied(said[option])
                    and not same(setting.value, said[option])
                ]
    return found, wrong


def _sample(names: list[str], changed: set[str], most: int) -> list[str]:
    first = [name for name in names if name in changed][:most]
    chosen = set(first)
    rest = [name for name in names if name not in chosen]
    room = most - len(first)
    step = max(1, len(rest) // room) if room else 1
    return first + rest[::step][:room]


def _said(reader: Effective, file: str, scope: str, name: str) -> dict[str, str] | None:
    """None for an object that is not there, or that cannot be asked for."""
    with contextlib.suppress(NoSuchCommand, OptionError):
        if (file, scope) == ("sip.conf", "general"):
            return reader.sip_general()
        if (file, scope) == ("sip.conf", "peer"):
            return reader.sip_peer(name)
        if (file, scope) == ("pjsip.conf", "global"):
            return reader.pjsip_global()
        if file == "pjsip.conf" and scope in _KINDS:
            return reader.pjsip(scope, name)
    return None
