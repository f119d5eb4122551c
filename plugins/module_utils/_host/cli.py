# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``sipguard`` on the host: what protects it, why an address is stopped, and loading it all at boot."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from .._netfilter.engine import DEFAULT_LOCK_TIMEOUT
from .._netfilter.lock import exclusive
from .._netfilter.persist import Store
from .._netfilter.runner import HostRunner
from .._sip.errors import SipguardError
from . import report, restore

__all__ = ["main"]

EXIT_OK, EXIT_NO, EXIT_ERROR = 0, 1, 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sipguard", description="Looks after the SIP firewall that sipguard.pbx set up on this host."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser(
        "status", help="what is protected, what was stopped; exit status 1 when the protection is not whole"
    )
    why = commands.add_parser(
        "why", help="whether and why packets of an address are stopped; exit status 1 when they are"
    )
    why.add_argument("address", help="an IPv4 or IPv6 address")
    commands.add_parser("restore", help="load sets and rules from /etc/sipguard, as at boot")
    for command in (status, why):
        command.add_argument("--json", action="store_true", help="for programs")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 (the answer is no) or 2 (it could not be found out)."""
    options = _parser().parse_args(arguments)
    runner, store = HostRunner(), Store()
    try:
        if options.command == "restore":
            return _restore(runner, store)
        if options.command == "why":
            try:
                address = ipaddress.ip_address(options.address)
            except ValueError:
                raise SipguardError(
                    f"{options.address!r} is not an address; 192.0.2.7 or 2001:db8::7 would be right"
                ) from None
            found, text, status = report.why(runner, address)
        else:
            found, text, status = report.status(runner, store)
    except SipguardError as error:
        _complain(str(error))
        return EXIT_ERROR
    _show(found, text, options.json)
    return status


def _show(found: dict[str, Any], text: str, as_json: bool) -> None:
    sys.stdout.write((json.dumps(found, indent=2, sort_keys=True) if as_json else text) + "\n")


def _restore(runner: HostRunner, store: Store) -> int:
    with exclusive(DEFAULT_LOCK_TIMEOUT):
        done, errors = restore.restore(runner, store)
    for line in done:
        sys.stdout.write(f"sipguard: {line}\n")
    for line in errors:
        _complain(line)
    return EXIT_ERROR if errors else EXIT_OK


def _complain(message: str) -> None:
    # Under systemd the prefix makes it a critical line of the journal (sd-daemon(3)).
    prefix = "<2>" if "JOURNAL_STREAM" in os.environ else ""
    sys.stderr.write(f"{prefix}sipguard: {message}\n")


if __name__ == "__main__":
    raise SystemExit(main())
