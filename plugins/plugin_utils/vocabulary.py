# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every variable this collection reads: the words of its playbooks, and the options of its roles with their types."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load  # in C where it can be: every fork reads these files

__all__ = ["WORDS", "misspelt", "roles", "unfit"]

_ROLES = Path(__file__).resolve().parents[2] / "roles"

# What is no option of one role: shared by all of them, or read by the playbooks.
WORDS: Mapping[str, str] = {
    **dict.fromkeys(("pbx_admins", "pbx_lan", "pbx_trunks", "pbx_phones"), "list"),
    **dict.fromkeys(("pbx_sip_ports", "pbx_tls_ports", "pbx_rtp_ports", "pbx_sip_domains"), "list"),
    "pbx_platform": "str",
    "pbx_hosts": "raw",
    "pbx_serial": "raw",
    "pbx_max_fail_percentage": "float",
    "pbx_rollback": "bool",
    "pbx_other_variables": "list",
    "pbx_verify": "raw",
    "pbx_verify_address": "raw",
    "pbx_verify_from": "str",
    "pbx_verify_patience": "int",
    "pbx_verify_strangers": "bool",
    "pbx_verify_timeout": "float",
    "pbx_verify_transports": "list",
    "pbx_verify_user": "str",
    "pbx_audit_common_secrets": "raw",
    "pbx_audit_fail_at": "raw",
    "pbx_audit_min_secret_length": "int",
    "pbx_audit_output": "raw",
    "pbx_audit_waive": "raw",
    **dict.fromkeys(("pbx_ban_addresses", "pbx_unban_addresses", "pbx_why_address"), "raw"),
    **dict.fromkeys(("pbx_ban_reason", "pbx_ban_time", "pbx_unban_reason", "pbx_unban_time"), "raw"),
}
# What playbooks of ours register under names without underscores before them.
_RESULTS = re.compile(r"pbx_(?:verify_result|audit|audit_(?:bad|severities|too_bad))\Z")
_PREFIX = "pbx_"
# Nothing stands for "as by default" in these: what is asked of it would be false, or 0.
_NEVER_EMPTY = ("bool", "int", "float")
_SECRET = re.compile(r"_(?:secrets?|passwords?|keys?|tokens?|pin)\Z")


@functools.lru_cache(maxsize=1)
def roles() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Role -> option -> its specification, of every entry point, without defaults: those are templates."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(_ROLES.glob("*/meta/argument_specs.yml")):
        specs = yaml_load(path.read_text(encoding="utf-8"))["argument_specs"]
        options = found.setdefault(path.parents[1].name, {})
        for entry in specs.values():
            for name, option in (entry.get("options") or {}).items():
                options[name] = _without_defaults(option)
    return found


def _without_defaults(option: Mapping[str, Any]) -> dict[str, Any]:
    wanted = ("type", "elements", "choices", "options", "required")
    kept = {name: option[name] for name in wanted if name in option}
    if "options" in kept:
        kept["options"] = {name: _without_defaults(inner) for name, inner in kept["options"].items()}
    return kept


@functools.lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(WORDS) | {name for options in roles().values() for name in options}


def misspelt(names: Iterable[str], others: Iterable[str] = ()) -> list[str]:
    """Names that begin as ours do and are none, a sentence each. ``others`` are names, with * and ?, that are somebody else's."""
    patterns = list(others)
    found = []
    for name in sorted(set(names)):
        if not name.startswith(_PREFIX) or name in _known() or _RESULTS.match(name):
            continue
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        close = get_close_matches(name, _known(), n=1, cutoff=0.75)
        meant = f"{close[0]} was probably meant" if close else "see docs/guides/inventory.md"
        found.append(f"{name}: no variable of sipguard.pbx; {meant} (one of your own: name it in pbx_other_variables)")
    return found


def unfit(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values of our variables, a sentence each: type, choice, options inside of options."""
    found = _against({name: {"type": kind} for name, kind in WORDS.items() if kind != "raw"}, values)
    for options in roles().values():
        found += _against(options, values)
    return list(dict.fromkeys(found))


def _against(options: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    given = {name: _bare(values[name]) for name in options if values.get(name) is not None}
    found = [
        f"{name}: it has no value; one would be right, or no such line"
        for name, option in options.items()
        if name in values and values[name] is None and (option["type"] in _NEVER_EMPTY or "choices" in option)
    ]
    for name, value in given.items():
        # One at a time, so that each sentence begins with the variable's name.
        checked = ArgumentSpecValidator({name: options[name]}).validate({name: value})
        for message in checked.error_messages:
            said = "its value cannot be used" if _SECRET.search(name) else message
            found.append(f"{name}: {said}")
    return found


def _bare(value: Any) -> Any:
    """The value in containers of Python's own. Ansible's hold their templates' surroundings, and the check copies all of that."""
    if isinstance(value, Mapping):
        return {key: _bare(inner) for key, inner in value.items()}
    return [_bare(inner) for inner in value] if isinstance(value, (list, tuple)) else value
