# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the module sipban_service as settings of sipband."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .._asterisk.companions import parse_manager
from .._host import bans
from .._host.sipban.settings import DEFAULT_THRESHOLDS, KINDS, Settings, Threshold
from .._netfilter.sets import member_text
from .._sip.errors import OptionError

__all__ = ["read_settings"]

_DAY = 86400
_MOST = 1000  # events that one source may be remembered for


def read_settings(options: Mapping[str, Any]) -> Settings:
    """Raises OptionError with the option, the value and what would be right."""
    parse_manager({"user": options["manager_user"]})
    longest = _time(options["ban_time_max"], "ban_time_max")
    ban_time = _time(options["ban_time"], "ban_time") if options["ban_time"] is not None else 3600
    if ban_time > longest and options["ban_time"] is None:
        raise OptionError("ban_time_max", options["ban_time_max"], "at least ban_time, 1 h, would be right")
    if ban_time > longest:
        raise OptionError(
            "ban_time", options["ban_time"], f"at most ban_time_max, {bans.span(longest)}, would be right"
        )
    port = options["console_port"]
    if not 0 <= port <= 65535:
        raise OptionError("console_port", port, "a port from 1 to 65535 would be right, or 0 for no console")
    crowdsec = options["crowdsec"] or {}
    wanted = Settings(
        ami_user=options["manager_user"],
        thresholds=_thresholds(options["thresholds"]),
        ban_time=ban_time,
        ban_time_max=longest,
        ban_time_unproven=_time(options["ban_time_unproven"], "ban_time_unproven"),
        remember=_time(options["remember"], "remember", "0 for no longer than the ban itself"),
        unproven=options["unproven"],
        known_for=_time(options["known_for"], "known_for", "0 for nobody"),
        white_list=tuple(member_text(each) for each in bans.parse_targets(options["white_list"], "white_list")),
        console_port=port,
        crowdsec_url=crowdsec.get("url", ""),
        crowdsec_machine=crowdsec.get("machine", ""),
        crowdsec_interval=_interval(crowdsec.get("interval", 10)),
        crowdsec_ca_file=crowdsec.get("ca_file") or "",
        crowdsec_max_time=_time(crowdsec.get("max_time", "1d"), "crowdsec.max_time"),
        crowdsec_allow_http=crowdsec.get("allow_http", False),
    )
    if options["crowdsec"] is not None:
        for name in ("password", "key"):
            if not crowdsec.get(name) or not crowdsec[name].isprintable():
                raise OptionError(
                    f"crowdsec.{name}", "(hidden)", "what cscli gave would be right, and not an empty one"
                )
        _check_crowdsec(wanted)
    return wanted


def _check_crowdsec(wanted: Settings) -> None:
    """Whether sipband could use it."""
    from .._host.sipban.crowdsec import CrowdSec  # a large file, and few hosts want it

    try:
        CrowdSec(
            url=wanted.crowdsec_url,
            machine_id=wanted.crowdsec_machine,
            interval=float(wanted.crowdsec_interval),
            full_every=3600.0,
            max_seconds=wanted.crowdsec_max_time,
            allow_http=wanted.crowdsec_allow_http,
        )
    except OptionError as error:
        name = {"machine_id": "machine", "max_seconds": "max_time"}.get(error.option, error.option)
        raise OptionError(f"crowdsec.{name}", error.value, error.expected) from None


def _time(value: Any, option: str, zero: str = "") -> int:
    """Seconds; ``zero`` says what 0 would mean, "" that it means nothing."""
    try:
        seconds = bans.parse_time(value, option)
    except OptionError:
        seconds = -1
    if seconds < 0 or (seconds == 0 and not zero):
        more = f", or {zero}" if zero else ""
        raise OptionError(option, value, f"a time such as 90, 30m, 1h or 7d would be right, at most 24 days{more}")
    return seconds


def _interval(seconds: int) -> int:
    if not 1 <= seconds <= 3600:
        raise OptionError("crowdsec.interval", seconds, "1 to 3600 seconds would be right")
    return seconds


def _thresholds(given: Mapping[str, Any]) -> dict[str, Threshold]:
    found = dict(DEFAULT_THRESHOLDS)
    for kind, value in given.items():
        option = f"thresholds.{kind}"
        if kind not in KINDS:
            raise OptionError("thresholds", kind, f"one of {', '.join(KINDS)} would be right")
        if not isinstance(value, Mapping) or not set(value) <= {"count", "seconds"}:
            raise OptionError(option, value, "a mapping such as {count: 5, seconds: 600} would be right")
        count = _number(value.get("count", found[kind].count), f"{option}.count", 0, _MOST)
        seconds = _number(value.get("seconds", found[kind].seconds), f"{option}.seconds", 1, _DAY)
        found[kind] = Threshold(count, seconds)
    return found


def _number(value: Any, option: str, least: int, most: int) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise OptionError(option, value, f"a number from {least} to {most} would be right")
    return int(text)
