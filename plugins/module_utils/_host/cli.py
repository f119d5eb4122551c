# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``sipguard`` on the host: what protects it, why an address is stopped, and loading it all at boot."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import socket
import sys
import syslog
from collections.abc import Sequence
from typing import Any

from .._netfilter.engine import DEFAULT_LOCK_TIMEOUT
from .._netfilter.lock import exclusive
from .._netfilter.persist import Store
from .._netfilter.runner import HostRunner
from .._sip.errors import SipguardError
from . import repair, report, restore, verbs
from .feeds import refresh as feed_refresh
from .feeds import status as feed_status
from .sipban import client
from .switch import READY, Switch, check_seconds, connections, when

__all__ = ["main"]

EXIT_OK, EXIT_NO, EXIT_ERROR = 0, 1, 2
_PATIENCE = 120  # s, for another refresh


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sipguard", description="Looks after the SIP firewall that sipguard.pbx set up on this host."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser(
        "status", help="what is protected, what was stopped; exit status 1 when the protection is not whole"
    )
    verbs.add_parsers(commands)
    client.add_parser(commands)
    restoring = commands.add_parser("restore", help="load sets and rules from /etc/sipguard, as at boot")
    restoring.add_argument("--sets", action="store_true", help="only make the sets that saved rules name")
    repairing = commands.add_parser("repair", help="put back what another program has flushed")
    repairing.add_argument("--watch", action="store_true", help="whenever it happens, until stopped")
    confirm = commands.add_parser("confirm", help="keep a change of the rules; over a connection made after it")
    confirm.add_argument("cookie", help="what 'sipguard pending' calls the change")
    rollback = commands.add_parser(
        "rollback", help="go back: from a pending change, else to the confirmed rules, else to those before them"
    )
    rollback.add_argument("--cookie", default="", help="only this pending change")
    rollback.add_argument("--seconds", type=int, default=0, help="go forward again unless confirmed within this time")
    pending = commands.add_parser(
        "pending", help="the change that waits to be confirmed; exit status 1 when there is one"
    )
    watch = commands.add_parser("watch", help="wait for a confirmation, else go back; started by the switch itself")
    watch.add_argument("cookie")
    feeds = commands.add_parser("feeds", help="lists that this host fetches by itself")
    feed_commands = feeds.add_subparsers(dest="feed_command", required=True)
    refreshing = feed_commands.add_parser(
        "refresh", help="fetch them and load the blocklists; exit status 1 when one has failed"
    )
    refreshing.add_argument("names", nargs="*", metavar="name", help="a feed (default: all)")
    refreshing.add_argument("--due", action="store_true", help="only those whose time has come, as the timer does")
    refreshing.add_argument(
        "--accept-change", action="store_true", help="also what shrinks or grows by more than max_change"
    )
    freshness = feed_commands.add_parser(
        "status", help="how fresh every list is; exit status 1 when one has failed, or is out of date"
    )
    for command in (status, confirm, rollback, pending, refreshing, freshness):
        command.add_argument("--json", action="store_true", help="for programs")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 (the answer is no) or 2 (it could not be found out)."""
    options = _parser().parse_args(arguments)
    runner, store = HostRunner(), Store()
    try:
        if options.command == "bans":
            return client.run(options)
        if options.command == "restore":
            return _restore(runner, store, options.sets)
        if options.command == "repair":
            return _repair(runner, store, options.watch)
        if options.command == "watch":
            return _watch(Switch(runner), options.cookie)
        if options.command in verbs.VERBS:
            found, text, status = verbs.run(runner, options)
        elif options.command == "feeds" and options.feed_command == "refresh":
            return _refresh(runner, options)
        elif options.command == "feeds":
            found, text, status = feed_status.status(runner)
        elif options.command in ("confirm", "rollback", "pending"):
            found, text, status = _switch(Switch(runner), options)
        else:
            found, text, status = report.status(runner, store)
    except SipguardError as error:
        _complain(str(error))
        return EXIT_ERROR
    _show(found, text, options.json)
    return status


def _show(found: dict[str, Any], text: str, as_json: bool) -> None:
    sys.stdout.write((json.dumps(found, indent=2, sort_keys=True) if as_json else text) + "\n")


def _switch(switch: Switch, options: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    if options.command == "pending":
        found, text = switch.situation()
        return found, text, EXIT_NO if found["pending"] else EXIT_OK
    if options.command == "confirm":
        done = switch.confirm(options.cookie, connections())
    else:
        seconds = check_seconds(options.seconds) if options.seconds else 0
        done = switch.rollback(options.cookie, seconds, connections())
    found = {"said": done.said, "changed": done.changed, "cookie": done.pending.cookie if done.pending else ""}
    text = f"sipguard: {done.said}"
    if done.pending:
        text += (
            f"\nsipguard: confirm it over a new connection until {when(done.pending.deadline)}, or the host goes forward again: "
            f"sipguard confirm {done.pending.cookie}"
        )
    return found, text, EXIT_OK


def _watch(switch: Switch, cookie: str) -> int:
    """Without a terminal, a session, or anybody to read what it says but the journal or the log."""

    def ready() -> None:
        with contextlib.suppress(OSError):  # the last one to be killed when memory runs out (proc(5))
            pathlib.Path("/proc/self/oom_score_adj").write_text("-1000", encoding="ascii")
        address = os.environ.get("NOTIFY_SOCKET", "")
        if address:  # sd_notify(3)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.sendto(b"READY=1", address.replace("@", "\0", 1) if address[0] == "@" else address)
            return
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)

    def complain(message: str) -> None:
        if "JOURNAL_STREAM" not in os.environ:
            syslog.openlog("sipguard")
            syslog.syslog(syslog.LOG_CRIT, message)
        _complain(message)

    switch.watch(cookie, ready, complain)
    return EXIT_OK


def _restore(runner: HostRunner, store: Store, sets_only: bool) -> int:
    with exclusive(DEFAULT_LOCK_TIMEOUT):
        settled, doubts = Switch(runner).settle_at_boot()
        done, errors = restore.create_sets(runner, store) if sets_only else restore.restore(runner, store, doubts)
    return _tell(settled + done, errors)


def _repair(runner: HostRunner, store: Store, watching: bool) -> int:
    if watching:
        repair.watch(runner, store, _log)
        return EXIT_OK
    result = repair.repair(runner, store)
    missing = [f"missing: {part}" for part in result.missing]
    return _tell(missing + result.done or ["nothing was missing"], result.errors)


def _refresh(runner: HostRunner, options: argparse.Namespace) -> int:
    wait = 0 if options.due else _PATIENCE
    done = feed_refresh.refresh(runner, options.names, options.due, options.accept_change, wait=wait)
    if options.json:
        _show(done.result(), "", True)
        return EXIT_OK if done.ok and (options.due or not done.busy) else EXIT_NO
    if done.busy:
        said = "another refresh is at work"
        return _tell([f"{said}; nothing to do"], []) if options.due else _tell([], [said])
    # The timer comes by often; what it has not even asked for is not worth a line in the journal.
    results = [each for each in done.results if each.outcome != feed_refresh.NOT_DUE or not options.due or each.changed]
    failed = [each for each in results if each.outcome == feed_refresh.FAILED]
    lines = [f"{each.name}: {each.outcome}: {each.said}" for each in results if each not in failed]
    lines += [f"{name}: {count} members" for name, count in done.loaded.members.items() if done.loaded.changed]
    if not lines and not done.results:
        lines = ["this host has no feeds"]
    _tell(lines, [*(f"{each.name}: failed: {each.said}" for each in failed), *done.errors])
    return EXIT_OK if done.ok else EXIT_NO


def _tell(done: Sequence[str], errors: Sequence[str]) -> int:
    for line in done:
        sys.stdout.write(f"sipguard: {line}\n")
    for line in errors:
        _complain(line)
    return EXIT_ERROR if errors else EXIT_OK


def _log(priority: int, message: str) -> None:
    # Under systemd the prefix makes it a line of that priority in the journal (sd-daemon(3)).
    prefix = f"<{priority}>" if "JOURNAL_STREAM" in os.environ else ""
    sys.stderr.write(f"{prefix}sipguard: {message}\n")
    sys.stderr.flush()


def _complain(message: str) -> None:
    _log(repair.CRITICAL, message)


if __name__ == "__main__":
    raise SystemExit(main())
