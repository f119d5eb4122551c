# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is trusted: the two sets sipguard-trusted4 and sipguard-trusted6, in the kernel and on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._sip.addresses import Network, collapse, parse_networks
from .._sip.errors import OptionError, SipguardError
from . import sets
from .engine import Outcome
from .names import FAMILIES, TRUSTED, Family
from .persist import SETS_FILE, Store
from .runner import Runner

__all__ = ["Members", "converge", "read_file", "read_live", "require", "wanted_members"]

# Networks of one family as ipset prints them, sorted.
Members = Mapping[Family, Sequence[str]]

_END = "# end\n"
_HEAD = "# Written by sipguard.pbx for the next boot (sipguard restore). Changes made here are overwritten.\n"


def wanted_members(networks: Sequence[Network], families: Sequence[Family]) -> Members:
    """What the sets are to hold: as few networks as possible, none for a family that is not wanted."""
    return {
        family: [sets.member_text(network) for network in collapse(networks, family.version, "sources")]
        if family in families
        else []
        for family in FAMILIES
    }


def require(networks: Sequence[Network], needed: Sequence[str]) -> None:
    """Raise OptionError unless each of the needed addresses is trusted."""
    for entry in needed:
        for wanted in parse_networks(entry, "must_include"):
            if not any(wanted.version == network.version and wanted.subnet_of(network) for network in networks):  # type: ignore[arg-type]
                raise OptionError(
                    "sources",
                    [str(network) for network in networks],
                    f"{entry}, from which this host is administered, has to be among them (pbx_admins, in the role pbx_firewall)",
                )


def read_live(runner: Runner, headers: Mapping[str, sets.SetHeader]) -> Members:
    """What the kernel's sets hold now; one command for each that is not empty."""
    live = {}
    for family in FAMILIES:
        name = TRUSTED + family.suffix
        header = headers.get(name)
        live[family] = list(sets.read_members(runner, name)) if header is not None and header.entries else []
    return live


def _file_text(members: Members) -> str | None:
    lines = [f"add {TRUSTED}{family.suffix} {member}\n" for family in FAMILIES for member in members[family]]
    return _HEAD + "".join(lines) + _END if lines else None


def read_file(store: Store) -> Members | None:
    """What the file for the next boot holds, None when there is none. Raises SipguardError when it is damaged."""
    text = store.read(SETS_FILE)
    if text is None:
        return None
    networks: list[Network] = []
    if not text.endswith(_END):
        raise SipguardError(f"the file {SETS_FILE} for the next boot is damaged: its end is missing")
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3 or words[0] != "add" or words[1] not in {TRUSTED + family.suffix for family in FAMILIES}:
            raise SipguardError(f"the file {SETS_FILE} for the next boot is damaged: {line!r}")
        networks += parse_networks(words[2], SETS_FILE)
    return wanted_members(networks, FAMILIES)


def converge(runner: Runner, store: Store, wanted: Members, *, present: bool, persist: bool, check: bool) -> Outcome:
    """Make the trusted sets hold exactly ``wanted`` and say what that changed.

    Not ``present`` also removes them where no rule needs them.
    """
    headers = sets.read_headers(runner)
    live = read_live(runner, headers)
    script = ""
    for family in FAMILIES:
        name = TRUSTED + family.suffix
        target = sets.spec(name, len(wanted[family]))
        header = headers.get(name)
        if header is not None and not header.fits(target):
            raise SipguardError(
                f"the set {name} exists, but as {header.type}; remove it with 'ipset destroy {name}' and run again"
            )
        if not present and header is not None and header.references == 0:
            script += f"destroy {name}\n" + sets.leftover_script(target, headers)
        elif set(live[family]) != set(wanted[family]) or (present and header is None):
            script += sets.fill_script(target, wanted[family], headers)
        else:
            script += sets.leftover_script(target, headers)
    text = _file_text(wanted)
    outdated = persist and store.differs(SETS_FILE, text)
    if not check:
        sets.restore(runner, script)
        if persist:
            store.write(SETS_FILE, text)
    return Outcome(
        changed=bool(script) or outdated,
        before=_listing(live),
        after=_listing(wanted),
        rules={},
        persisted=store.read(SETS_FILE) == text,
        warnings=[],
    )


def _listing(members: Members) -> str:
    return "".join(f"{TRUSTED}{family.suffix} {member}\n" for family in FAMILIES for member in sorted(members[family]))
