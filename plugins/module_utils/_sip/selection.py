# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of sip_ua_blocklist to the signatures that reach the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import OptionError
from .lint import LintResult, lint
from .presets import preset
from .signatures import PAYLOADS, USER_AGENTS, Signature, parse_entry

__all__ = ["select"]


def select(options: Mapping[str, Any]) -> LintResult:
    """Collect presets, user_agents and payloads, and judge them together.

    A dangerous entry of a preset is refused and reported; one of the administrator's own raises OptionError.
    """
    own = [parse_entry(entry, USER_AGENTS) for entry in options["user_agents"]]
    own += [parse_entry(entry, PAYLOADS) for entry in options["payloads"]]
    published: list[Signature] = [signature for name in options["presets"] for signature in preset(name)]
    judge = {"allow_broad": options["allow_broad"], "ignore_case": options["ignore_case"]}
    for signature in own:
        for reason in lint([signature], **judge).refused.values():
            raise OptionError(signature.origin, signature.entry, f"it {reason}")
    return lint([*published, *own], exclude=options["exclude"], **judge)
