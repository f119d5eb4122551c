# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of sip_trust: names become addresses here, so that a PBX does not depend on its resolver to know its friends."""

from __future__ import annotations

import socket
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import is_name
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError


def _addresses(name: str) -> list[str]:
    """Every address a name has now, IPv4 first. Raises OptionError."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise OptionError(
            "sources", name, f"the controller cannot resolve it ({error}); an address would be right"
        ) from error
    return sorted({str(entry[4][0]) for entry in found}, key=lambda address: (":" in address, address))


def _as_list(value: object) -> list[str]:
    """The option as Ansible itself would read a list of text. Raises OptionError."""
    entries = [] if value is None else value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list):
        raise OptionError("sources", value, "a list of addresses, networks, ranges and names would be right")
    for entry in entries:
        if not isinstance(entry, str):
            raise OptionError("sources", entry, "an address, a network, a range or a name, as text, would be right")
    return [str(entry).strip() for entry in entries]


class ActionModule(ActionBase):
    """Run the module with addresses in the place of names."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        resolved: dict[str, list[str]] = {}
        try:
            sources = _as_list(arguments.get("sources"))
            for source in sources:
                if is_name(source):
                    resolved[source] = _addresses(source)
        except OptionError as error:
            return {**result, "failed": True, "msg": str(error)}
        arguments["sources"] = [address for source in sources for address in resolved.get(source, [source])]
        for name, addresses in resolved.items():
            addresses_text = ", ".join(addresses)
            Display().warning(f"sip_trust: {name} is trusted as {addresses_text}; run again when its addresses change")
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        if resolved:
            result["resolved"] = resolved
        return result
