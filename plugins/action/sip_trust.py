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


class ActionModule(ActionBase):
    """Run the module with addresses in the place of names."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        sources = arguments.get("sources") or []
        resolved: dict[str, list[str]] = {}
        if isinstance(sources, list):
            try:
                for source in sources:
                    if isinstance(source, str) and is_name(source.strip()):
                        resolved[source] = _addresses(source.strip())
            except OptionError as error:
                return {**result, "failed": True, "msg": str(error)}
            arguments["sources"] = [address for source in sources for address in resolved.get(source, [source])]
        for name, addresses in resolved.items():
            Display().warning(
                f"sip_trust: {name} is trusted as {', '.join(addresses)}; run again when its addresses change"
            )
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val))
        if resolved:
            result["resolved"] = resolved
        return result
