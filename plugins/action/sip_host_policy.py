# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of sip_host_policy."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import is_name
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.plugin_utils.resolve import Names

_LISTS = ("lan", "admins", "trunks", "phones", "protect")


def _sources(names: Names, value: object, option: str, families: object) -> object:
    """``from`` of one service with addresses in the place of names, of the managed families only; anything odd is left to the module.

    A name without a dot is a word, or a mistake. Raises OptionError.
    """
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list):
        return value
    found: list[object] = []
    for entry in entries:
        name = entry.strip() if isinstance(entry, str) else ""
        if "." not in name or not is_name(name):
            found.append(entry)
            continue
        addresses = [
            address
            for address in names.replace([name], option)
            if not families or ("ipv6" if ":" in address else "ipv4") in str(families)
        ]
        if not addresses:
            raise OptionError(option, name, f"it has no address of the families {families}")
        found += addresses
    return found


class ActionModule(ActionBase):
    """Run the module with addresses in the place of the names in all its lists of sources."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        names = Names()
        try:
            for option in _LISTS:
                if arguments.get(option):
                    arguments[option] = names.replace(arguments[option], option)
            if isinstance(arguments.get("lists"), dict):
                arguments["lists"] = {
                    name: names.replace(entries, f"lists[{name}]") for name, entries in arguments["lists"].items()
                }
            if isinstance(arguments.get("services"), list):
                arguments["services"] = [self._service(names, entry) for entry in arguments["services"]]
        except OptionError as error:
            return {**result, "failed": True, "msg": str(error)}
        names.warn("sip_host_policy", "is let in as")
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        if names.resolved:
            result["resolved"] = names.resolved
        return result

    def _service(self, names: Names, entry: object) -> object:
        if not isinstance(entry, dict) or "from" not in entry:
            return entry
        option = f"services[{entry.get('name')}].from"
        return {**entry, "from": _sources(names, entry["from"], option, self._task.args.get("families"))}
