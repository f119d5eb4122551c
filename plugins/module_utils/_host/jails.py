# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's sets that fail2ban's jails fill with the action "sipguard".

Each jail has sets of its own, jail-NAME4 and jail-NAME6, which stand in the lists sipguard-jails4 and -6 that SIPGUARD-PRE drops; so an
unban in one jail is none in another, as people know it from fail2ban.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .._netfilter import sets
from .._netfilter.names import FAMILIES, JAILS, Family
from .._netfilter.runner import Runner
from .._sip.addresses import Network
from .bans import containing
from .fail2ban import Fail2ban

__all__ = ["covering", "jail_name", "jail_sets", "unban"]

_PREFIX = "jail-"


def jail_name(set_name: str) -> str:
    """The jail to which a set belongs."""
    return set_name[len(_PREFIX) : -1] if set_name.startswith(_PREFIX) else set_name


def jail_sets(runner: Runner, headers: Mapping[str, sets.SetHeader]) -> dict[Family, list[str]]:
    """The sets that stand in the lists, by family."""
    found: dict[Family, list[str]] = {}
    for family in FAMILIES:
        name = JAILS + family.suffix
        filled = name in headers and headers[name].entries
        found[family] = list(sets.read_members(runner, name)) if filled else []
    return found


def _banned(runner: Runner) -> Iterator[tuple[Family, str, dict[str, int]]]:
    """Every set in the lists that bans anybody: its family, its name, its members with the seconds that each has left."""
    headers = sets.read_headers(runner)
    for family, names in jail_sets(runner, headers).items():
        for name in names:
            if name in headers and headers[name].entries:
                yield family, name, sets.read_members(runner, name)


def covering(runner: Runner, networks: Sequence[Network]) -> dict[str, tuple[str, str]]:
    """For each address, or network, that some jail bans as part of a larger network: that network, and the jail."""
    found = {}
    for family, name, members in _banned(runner):
        for network in networks:
            text = sets.member_text(network)
            for member in containing(members, network) if network.version == family.version else ():
                if member != text:
                    found[text] = (member, jail_name(name))
    return found


def unban(runner: Runner, networks: Sequence[Network], *, check: bool = False) -> tuple[dict[str, list[str]], bool]:
    """Take addresses out of every jail of fail2ban's; jails by address, or network, for those that some jail had banned.

    And whether a server was there to be told, where fail2ban is installed: else it may ban them again when it starts.

    What stands in the kernel without a server that knows of it (it was killed, or stopped) goes as well. Raises SipguardError.
    """
    texts = [sets.member_text(network) for network in networks]
    server = Fail2ban(runner)
    told = server.banning(texts)
    found = {text: jails for text, jails in zip(texts, told or ()) if jails}
    if found and not check:
        server.unban(list(found))
    script = ""
    for dummy, name, members in _banned(runner):
        for text in texts:
            if text in members:
                script += f"del {name} {text} -exist\n"
                jails = found.setdefault(text, [])
                if jail_name(name) not in jails:
                    jails.append(jail_name(name))
    if not check:
        sets.restore(runner, script)
    return found, told is not None
