# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FreePBX's transports: what the Asterisk that runs does not follow when FreePBX has written them anew.

FreePBX says `allow_reload=no` for each unless told otherwise (core, functions.inc/drivers/PJSip.class.php). Asterisk then says in its log
that the transport "is not fully reloadable", and `fwconsole reload` says nothing. As Asterisk 16.28 and 22.10 behave:

- A transport that has changed keeps protocol, address, port, TLS and priority of its packets; what it says of itself to the other side
  of a NAT changes. With `allow_reload=yes`, which may come with the same reload, all of it changes.
- A new one is opened at once. One that is gone stays open until a restart, whatever allow_reload was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .tree import ConfigDirectory, fold, is_true, load, shown

__all__ = ["Options", "Transports", "keys", "read", "waiting"]

# Of sipsettings, those that are written into transports and kept there.
_KEYS = re.compile(r"binds|method|verify_client|verify_server|pjsipcertid|(udp|tcp|tls)port-.+")
_FOLLOWED = {
    "allow_reload",
    "domain",
    "external_media_address",
    "external_signaling_address",
    "external_signaling_port",
    "local_net",
}

Options = Mapping[str, tuple[str, ...]]
Transports = Mapping[str, Options]


def keys(changed: Iterable[str]) -> list[str]:
    """Those of sipsettings' keys by which a transport changes in a way that a reload does not bring."""
    return [key for key in changed if _KEYS.fullmatch(key)]


def read(config_dir: str) -> Transports:
    """File and name -> option -> its values, as the files have them. Raises SipguardError when the disk fails."""
    found = {}
    for each in load(ConfigDirectory(config_dir), "pjsip.conf").objects():
        kind = each.last("type")
        if kind is not None and fold(kind.value) == "transport":
            options: dict[str, tuple[str, ...]] = {}
            for variable in each.variables:
                name = fold(variable.name)
                options[name] = (*options.get(name, ()), variable.value)
            found[f"{shown(each.place.file)} [{shown(each.name)}]"] = options
    return found


def waiting(before: Transports, after: Transports) -> list[str]:
    """What Asterisk, which has read ``before`` and then ``after``, does only after a restart. No values: there may be a secret."""
    made = []
    for name, old in before.items():
        new = after.get(name)
        if new is None:
            made.append(name)
        elif not is_true(new.get("allow_reload", ("no",))[-1]):
            differ = sorted(option for option in {*old, *new} - _FOLLOWED if old.get(option) != new.get(option))
            made += [f"{name} {shown(option)}" for option in differ]
    return made
