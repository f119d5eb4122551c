# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Letting an address in again: out of what was learned and observed, out of the bans, fail2ban's too, and past the blocklists."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Sequence

from .._netfilter import blocklist, sets
from .._netfilter.engine import DEFAULT_LOCK_TIMEOUT, Engine
from .._netfilter.names import FAMILIES, OBSERVED, OFFENDERS
from .._netfilter.persist import Store
from .._netfilter.runner import Runner
from .._netfilter.switch_guard import STATE_DIRECTORY
from .._sip.addresses import Network
from .._sip.errors import SipguardError
from . import bans
from .exceptions import Address, Exceptions, Exempt, read_lists, reload
from .jails import covering
from .jails import unban as out_of_jails

__all__ = ["forget", "unban"]

_LEARNED = (OFFENDERS, OBSERVED)


def unban(
    runner: Runner,
    networks: Sequence[Network],
    *,
    learned_only: bool = False,
    seconds: int = 0,
    reason: str = "",
    persist: bool = True,
    check: bool = False,
    directory: str = STATE_DIRECTORY,
    backend: str = "",
    lock_timeout: int = DEFAULT_LOCK_TIMEOUT,
) -> bans.Done:
    """Take addresses, or networks as they were banned, out of everything that stops them.

    An address that a named list has gets an exception, for ``seconds`` (0: for ever), so that no refresh brings the block back.
    Without a ``backend`` it is that of the files. ``learned_only`` leaves bans and lists, which somebody has set on purpose. Trust
    stays as it is in either case. Raises bans.Refusal, with nothing changed, for an address in a banned network, and SipguardError.
    """
    naming: dict[str, list[str]] = {}  # lists that name any address of a network
    if learned_only:
        done = bans.Done(removed={sets.member_text(network): [] for network in networks})
        _forget_learned(runner, networks, done, check=check)
    else:
        # What cannot be read is an error before anything has changed.
        exempt = Exceptions(directory).read()
        lists, errors = read_lists(directory)
        addresses = [network.network_address for network in networks if network.prefixlen == network.max_prefixlen]
        listed = [address for address in addresses if blocklist.find(lists, address.version, int(address))]
        _refuse_parts(runner, networks)
        done = bans.lift(runner, networks, persist=persist, check=check, directory=directory)
        done.warnings += errors
        _forget_learned(runner, networks, done, check=check)
        _free(runner, networks, done, check=check)
        if listed:
            changed = _except(exempt, listed, seconds, reason, done)
            if changed and not check:
                try:
                    Exceptions(directory).write(exempt.values())
                except SipguardError as error:
                    done.warnings.append(f"{error}; it gets through now, and until the lists are loaded again")
                    done.persisted = False
            engine = Engine(runner, backend or Store().backend(), lock_timeout)
            done.add(reload(engine, exempt.values(), persist=persist, check=check, directory=directory))
        for network in networks:
            ends = int(network.network_address), int(network.broadcast_address)
            names = (
                blocklist.touching(lists, network.version, *ends) if network.prefixlen < network.max_prefixlen else []
            )
            if names:
                naming[sets.member_text(network)] = names
    for text, names in done.removed.items():
        words = [f"taken out of {', '.join(names)}"] if names else []
        words += [done.exceptions[text].describe()] if text in done.exceptions else []
        if text in naming:
            words.append(
                f"still named by {', '.join(naming[text])}: exceptions are for single addresses; pbx_blocklists_never takes networks"
            )
        done.said[text] = "; ".join(words) or "nothing to take it out of"
    return done


def _refuse_parts(runner: Runner, networks: Sequence[Network]) -> None:
    """Raise Refusal for what a jail has banned as part of a network, of which no part can be taken."""
    refused = {
        text: f"{text} is banned as part of {member} by fail2ban's jail {jail}: unban {member}, or trust {text}"
        for text, (member, jail) in covering(runner, networks).items()
    }
    if refused:
        raise bans.Refusal(refused)


def _free(runner: Runner, networks: Sequence[Network], done: bans.Done, *, check: bool) -> None:
    """Out of fail2ban's jails, whoever has made them."""
    try:
        found, told = out_of_jails(runner, networks, check=check)
    except SipguardError as error:
        done.warnings.append(str(error))
        return
    if not told:
        done.warnings.append(
            "fail2ban does not run: what it remembers it bans again when it starts; unban once more then"
        )
    for text, jails in found.items():
        names = [f"fail2ban's jail {jail}" for jail in jails]
        done.before += "".join(f"{text} banned by {name}\n" for name in names)
        done.removed[text] += names
        done.changed = True


def _forget_learned(runner: Runner, networks: Sequence[Network], done: bans.Done, *, check: bool) -> None:
    script = ""
    headers = sets.read_headers(runner)
    for name in (base + family.suffix for base in _LEARNED for family in FAMILIES):
        members = sets.read_members(runner, name) if name in headers and headers[name].entries else {}
        for network in networks if members else ():
            there = _inside(members, network)
            # -exist: its time may run out just now.
            script += "".join(f"del {name} {member} -exist\n" for member in there)
            done.before += "".join(f"{name} {member}\n" for member in there)
            done.removed[sets.member_text(network)] += [name] if there else []
    done.changed |= bool(script)
    if not check:
        sets.restore(runner, script)


def _inside(members: Iterable[str], network: Network) -> list[str]:
    """Those of the members, single addresses, that lie in the network."""
    if network.prefixlen == network.max_prefixlen:
        text = sets.member_text(network)
        return [text] if text in members else []
    return [member for member in members if ipaddress.ip_address(member) in network]


def _except(
    exempt: dict[Address, Exempt], addresses: Iterable[Address], seconds: int, reason: str, done: bans.Done
) -> bool:
    """Add exceptions for these addresses to ``exempt``; whether that changed it."""
    now, changed = int(time.time()), False
    for address in addresses:
        old = exempt.get(address)
        if old is None or not bans.lasts(old.until and max(old.until - now, 1), seconds):
            until = now + seconds if seconds else 0
            why = reason or (old.reason if old else "")
            exempt[address] = Exempt(address, old.since if old else now, until, why)
            done.before += f"exception {address}\n" if old else ""
            done.after += f"exception {address}: {why}\n"
            changed = done.changed = True
        done.exceptions[str(address)] = exempt[address]
    return changed


def forget(
    runner: Runner,
    addresses: Iterable[Address],
    *,
    directory: str = STATE_DIRECTORY,
    lock_timeout: int = DEFAULT_LOCK_TIMEOUT,
) -> bans.Done:
    """Take exceptions back, so that the lists decide again. Raises SipguardError."""
    exceptions = Exceptions(directory)
    kept = exceptions.read()
    done = bans.Done()
    for address in addresses:
        if address in kept:
            done.exceptions[str(address)] = kept.pop(address)
    if done.exceptions:
        done.changed = True
        exceptions.write(kept.values())
    # Also where there is nothing to take back: a run that was killed may have left the sets as they were.
    done.add(reload(Engine(runner, Store().backend(), lock_timeout), kept.values(), directory=directory))
    return done
