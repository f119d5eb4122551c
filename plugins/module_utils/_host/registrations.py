# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Telephones that are registered, by Asterisk's own database; made known, so that limits, signatures and sipband spare them.

Who logs in while sipband listens is known from that event. This is for those who did before, and for chan_sip, of whose events sipband
believes none. A telephone's own account is what gets an address in there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping

from .._netfilter import sets
from .._netfilter.names import FAMILIES, KNOWN
from .._netfilter.runner import Runner
from .._sip.errors import SipguardError
from .sipban.settings import Settings
from .sipban.values import Address, parse_address

__all__ = ["known", "learn", "parse_chan_sip", "parse_pjsip", "registered"]

_PATIENCE = "10"  # s, for an Asterisk that hangs
_LINE = re.compile(r"^/(?:registrar/contact|SIP/Registry)/.*?\s*: (.*)$")
# The user part may hold semicolons, and no "@".
_HOST = re.compile(r"sips?:(?:[^@>]*@)?(\[[^\]@]+\]|[^:;@>\s]+)(?:[:;>\s].*)?", re.IGNORECASE)


def _values(text: str) -> Iterator[str]:
    for line in text.splitlines():
        found = _LINE.match(line)
        if found:
            yield found[1]


def parse_pjsip(text: str) -> list[Address]:
    """``database show registrar/contact``: addresses of the contacts, as PJSIP has them after rewrite_contact."""
    found = []
    for value in _values(text):
        try:
            contact = json.loads(value)
            uri, until = str(contact["uri"]), float(contact.get("expiration_time", "inf"))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            continue
        # Asterisk's database cannot hold a semicolon as it is. An "@" behind the first one may be part of anything.
        uri = uri.replace("^3B", ";")
        host = _HOST.fullmatch(uri) if uri.count("@") <= 1 and until > time.time() else None
        address = parse_address(host[1].strip("[]")) if host else None
        if address is not None:
            found.append(address)
    return found


def parse_chan_sip(text: str) -> list[Address]:
    """``database show SIP/Registry``: where each peer has registered from, "192.0.2.7:5060:3600:1001:sip:...", IPv6 in brackets."""
    found = []
    for value in _values(text):
        host = re.match(r"(\[[^\]]+\]|[^:\[\]]+):\d+:", value)
        address = parse_address(host[1].strip("[]")) if host else None
        if address is not None:
            found.append(address)
    return found


def _ask(runner: Runner, command: str) -> str:
    asterisk, timeout = runner.which("asterisk"), runner.which("timeout")
    if asterisk is None:
        return ""
    limit = [timeout, "--kill-after=5", _PATIENCE] if timeout else []
    done = runner.run([*limit, asterisk, "-rx", command])
    return done.stdout if done.returncode == 0 else ""


def registered(runner: Runner) -> list[Address]:
    """Each address once; none without a running Asterisk."""
    found = parse_pjsip(_ask(runner, "database show registrar/contact"))
    found += parse_chan_sip(_ask(runner, "database show SIP/Registry"))
    return [address for address in dict.fromkeys(found) if not (address.is_loopback or address.is_unspecified)]


def known(runner: Runner, headers: Mapping[str, sets.SetHeader] | None = None) -> dict[str, int]:
    """Sources that have logged in lately, with the seconds each has left; ``headers`` are those of the live sets, if they are known.

    Raises SipguardError.
    """
    headers = sets.read_headers(runner) if headers is None else headers
    found: dict[str, int] = {}
    for name in (KNOWN + family.suffix for family in FAMILIES):
        if name in headers:
            found.update(sets.read_members(runner, name))
    return found


def learn(runner: Runner, addresses: Iterable[Address] | None = None) -> list[str]:
    """Make registered telephones known for as long as sipband's settings say; a sentence about what was done. Raises SipguardError."""
    seconds = Settings.read().known_for
    if not seconds:
        raise SipguardError("nobody is made known on this host: pbx_sipban_known_for is 0")
    headers = sets.read_headers(runner)
    script, count = "", 0
    for address in registered(runner) if addresses is None else addresses:
        name = f"{KNOWN}{address.version}"
        if name not in headers:
            raise SipguardError(f"there is no set {name}: run the role pbx_sipban")
        script += f"add {name} {address} timeout {seconds} -exist\n"
        count += 1
    sets.restore(runner, script)
    return [f"{count} registered telephone{'' if count == 1 else 's'} known"]
