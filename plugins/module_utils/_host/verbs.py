# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that are about single addresses: why, ban, unban, exceptions, known."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._netfilter.engine import DEFAULT_LOCK_TIMEOUT, Engine
from .._netfilter.lock import exclusive
from .._netfilter.persist import Store
from .._netfilter.runner import Runner
from .._netfilter.switch_guard import STATE_DIRECTORY
from .._sip.errors import SipguardError
from . import bans, protected, registrations
from .exceptions import Address, Exceptions
from .unban import forget, unban
from .why import Scene, why

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["DIRECTORY", "VERBS", "add_parsers", "run"]

DIRECTORY = STATE_DIRECTORY

VERBS = ("why", "ban", "unban", "exceptions", "known")

Answer = tuple[dict[str, Any], str, int]


def add_parsers(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Their arguments."""
    asking = commands.add_parser("why", help="everything that stops an address; exit status 1 when something does")
    asking.add_argument("address", help="an IPv4 or IPv6 address")
    banning = commands.add_parser("ban", help="hear nothing of addresses for a time")
    banning.add_argument(
        "addresses", nargs="+", metavar="address", help="an address, or a network of at most a /16 (IPv6: /32)"
    )
    banning.add_argument(
        "--time",
        default=bans.DEFAULT_TIME,
        help="90 (seconds), 30m, 1h, 7d; 0: until somebody unbans it (default: %(default)s)",
    )
    banning.add_argument("--reason", default="", help="what 'sipguard why' shall say of it")
    freeing = commands.add_parser(
        "unban", help="let addresses in again: out of bans and what was learned, past every blocklist"
    )
    freeing.add_argument("addresses", nargs="+", metavar="address", help="an address, or a network as it was banned")
    freeing.add_argument(
        "--learned", action="store_true", help="only what sipguard learned by itself; bans and lists stay"
    )
    freeing.add_argument("--time", default="0", help="for how long no list may block it (default: 0, for ever)")
    freeing.add_argument("--reason", default="", help="why no list may block it")
    excepting = commands.add_parser(
        "exceptions", help="addresses that no list may block, because somebody has unbanned them"
    )
    excepting.add_argument(
        "addresses", nargs="*", metavar="remove ADDRESS", help="take exceptions back; without: list them"
    )
    knowing = commands.add_parser("known", help="sources that have logged in lately, which limits and signatures spare")
    knowing.add_argument(
        "learn", nargs="?", choices=["learn"], help="make every telephone known that is registered with Asterisk"
    )
    for parser in (asking, banning, freeing, excepting, knowing):
        parser.add_argument("--json", action="store_true", help="for programs")


def run(runner: Runner, options: argparse.Namespace) -> Answer:
    """Findings, the same as text, and the exit status. Raises SipguardError."""
    if options.command == "why":
        return why(runner, _address(options.address), DIRECTORY)
    if options.command == "ban":
        return _ban(runner, options)
    if options.command == "unban":
        return _unban(runner, options)
    if options.command == "known":
        return _known(runner, options.learn is not None)
    return _exceptions(runner, options.addresses)


def _known(runner: Runner, learn: bool) -> Answer:
    if learn:
        said = registrations.learn(runner)
        return {"said": said}, "\n".join(said), 0
    found = registrations.known(runner)
    lines = [f"{member}: for {bans.span(left)} more" for member, left in found.items()]
    return found, "\n".join(lines) or "nobody is known", 0


def _address(text: str) -> Address:
    try:
        address = ipaddress.ip_address(text)
        if "%" in text:
            raise ValueError("the kernel's sets know no zones")
    except ValueError:
        raise SipguardError(f"{text!r} is not an address; 192.0.2.7 or 2001:db8::7 would be right") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        raise SipguardError(f"the kernel sees {text!r} as IPv4; {address.ipv4_mapped} would be right")
    return address


def _ban(runner: Runner, options: argparse.Namespace) -> Answer:
    networks = bans.parse_targets(options.addresses, "address")
    seconds, reason = bans.parse_time(options.time), bans.parse_reason(options.reason)
    with exclusive(DEFAULT_LOCK_TIMEOUT):
        bans.require_bannable(networks, protected.find(runner, sessions=False))
        done = bans.ban(Engine(runner, Store().backend()), networks, seconds, reason, directory=DIRECTORY)
    found = {
        text: {**done.bans[text], "said": said, "exception_removed": text in done.exceptions}
        for text, said in done.said.items()
    }
    return found, "\n".join([f"{text}: {said}" for text, said in done.said.items()] + _warnings(done)), 0


def _unban(runner: Runner, options: argparse.Namespace) -> Answer:
    networks = bans.parse_targets(options.addresses, "address")
    seconds, reason = bans.parse_time(options.time), bans.parse_reason(options.reason)
    with exclusive(DEFAULT_LOCK_TIMEOUT):
        done = unban(
            runner, networks, learned_only=options.learned, seconds=seconds, reason=reason, directory=DIRECTORY
        )
    scene = Scene(runner, DIRECTORY)
    found: dict[str, Any] = {}
    lines = []
    for text, said in done.said.items():
        found[text] = {"removed": done.removed[text], "said": said}
        lines.append(f"{text}: {said}")
        if "/" not in text:
            report, after, dummy = scene.explain(ipaddress.ip_address(text))
            found[text] = {**report, **found[text]}
            lines.append(after)
    return found, "\n".join(lines + _warnings(done)), 0


def _exceptions(runner: Runner, words: Sequence[str]) -> Answer:
    if not words:
        exempt = Exceptions(DIRECTORY).read()
        text = "\n".join(f"{address}: {each.describe()}" for address, each in exempt.items())
        return {str(address): each.result() for address, each in exempt.items()}, text or "no exceptions", 0
    if words[0] != "remove" or len(words) == 1:
        raise SipguardError(f"{' '.join(words)!r} is no command; 'sipguard exceptions remove ADDRESS' would be right")
    addresses = [_address(word) for word in words[1:]]
    with exclusive(DEFAULT_LOCK_TIMEOUT):
        done = forget(runner, addresses, directory=DIRECTORY)
    found = {str(address): {"removed": str(address) in done.exceptions} for address in addresses}
    lines = [
        f"{address}: {'taken back: ' + done.exceptions[address].describe() if removed['removed'] else 'no exception'}"
        for address, removed in found.items()
    ]
    return found, "\n".join(lines + _warnings(done)), 0


def _warnings(done: bans.Done) -> list[str]:
    return [f"warning: {warning}" for warning in done.warnings]
