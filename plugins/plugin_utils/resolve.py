# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names in a module's options become addresses on the controller, so that a PBX does not depend on its resolver to know its friends."""

from __future__ import annotations

import socket
from typing import Any

from ansible.utils.display import Display

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import is_name
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError

__all__ = ["Names", "run_with_addresses"]


def _addresses(name: str, option: str) -> list[str]:
    """Every address a name has now, IPv4 first. Raises OptionError."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise OptionError(
            option, name, f"the controller cannot resolve it ({error}); an address would be right"
        ) from error
    return sorted({str(entry[4][0]) for entry in found}, key=lambda address: (":" in address, address))


def _as_list(value: object, option: str) -> list[str]:
    """The option as Ansible itself would read a list of text. Raises OptionError."""
    entries = [] if value is None else value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list):
        raise OptionError(option, value, "a list of addresses, networks, ranges and names would be right")
    for entry in entries:
        if not isinstance(entry, str):
            raise OptionError(option, entry, "an address, a network, a range or a name, as text, would be right")
    return [str(entry).strip() for entry in entries]


class Names:
    """The names in one task's options. ``resolved`` are the addresses each of them stands for, in the order they were met."""

    def __init__(self) -> None:
        self.resolved: dict[str, list[str]] = {}

    def replace(self, value: object, option: str) -> list[str]:
        """The entries of an option (a list, text with commas, or None) with addresses in the place of names.

        Each name is resolved once. Raises OptionError, which names ``option``.
        """
        found: list[str] = []
        for entry in _as_list(value, option):
            if not is_name(entry):
                found.append(entry)
                continue
            if entry not in self.resolved:
                self.resolved[entry] = _addresses(entry, option)
            found += self.resolved[entry]
        return found

    def warn(self, module: str, what: str) -> None:
        """Say of each name which addresses it stood for: "sip_trust: NAME is trusted as ADDRESSES; ..."."""
        for name, addresses in self.resolved.items():
            Display().warning(f"{module}: {name} {what} {', '.join(addresses)}; run again when its addresses change")


def run_with_addresses(
    action: Any, result: dict[str, Any], option: str, what: str, task_vars: dict[str, Any] | None
) -> dict[str, Any]:
    """Run the module of an action plugin, with addresses in the place of the names in one of its options.

    ``result`` is what the plugin's own base class has to say; for ``what`` see ``Names.warn``.
    """
    names = Names()
    task = action._task
    try:
        arguments = {**task.args, option: names.replace(task.args.get(option), option)}
    except OptionError as error:
        return {**result, "failed": True, "msg": str(error)}
    names.warn(task.action.rsplit(".", 1)[-1], what)
    result.update(action._execute_module(module_args=arguments, task_vars=task_vars))
    if names.resolved:
        result["resolved"] = names.resolved
    return result
