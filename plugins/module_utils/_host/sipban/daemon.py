# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program sipband: everything wired together in one process with one loop, as systemd starts it (units.py)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..._sip.errors import SipguardError
from . import ledger, metrics, settings
from .ami import Ami
from .control import Control
from .guard import ALERT, INFO, WARNING, Guard, Outside, own_addresses
from .kernel import Sets, end_conversations
from .ledger import Ledger
from .settings import Settings, read_secret
from .values import Address
from .witness import Witness

if TYPE_CHECKING:
    from .crowdsec import Fleet

__all__ = ["EX_CONFIG", "main"]

EX_CONFIG = 78  # sysexits.h; the unit does not try again then
_LONG = 200000  # lines after which the ledger is written anew
_TICK = 5.0  # s
_GATHER = 0.1  # s
_METRICS, _REFRESH, _KEEP = 15.0, 30.0, 5.0  # s


def _say(priority: int, text: str) -> None:
    # Under systemd the prefix makes it a line of that priority in the journal (sd-daemon(3)).
    prefix = f"<{priority}>" if "JOURNAL_STREAM" in os.environ else ""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{prefix}{text}\n")
        sys.stderr.flush()


def _notify(*lines: str) -> None:
    """sd_notify(3); nothing without systemd."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.sendto("\n".join(lines).encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


class _Conversations:
    """Ends those of the banned, in a thread, all that have come together at a time."""

    def __init__(self) -> None:
        self._waiting: set[Address] = set()
        self._task: asyncio.Task[None] | None = None

    def end(self, address: Address) -> None:
        self._waiting.add(address)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            # A look through conntrack costs the kernel milliseconds, for one address as for a hundred.
            batch, self._waiting = self._waiting, set()
            try:
                await asyncio.get_running_loop().run_in_executor(None, end_conversations, batch)
            except (OSError, SipguardError) as error:
                # They are deaf and dumb all the same: the ban drops what they send before anybody asks for their conversation.
                _say(WARNING, f"conversations of the banned cannot be ended: {error}")
            await asyncio.sleep(_GATHER)


class Daemon:
    """sipband, from start to stop."""

    def __init__(self, given: Settings) -> None:
        self._settings = given
        self._stop = asyncio.Event()
        self._ledger = Ledger(settings.LEDGER)
        self._witness: Witness | None = None
        self._fleet: Fleet | None = None

    async def run(self) -> None:
        """Until SIGTERM. Raises SipguardError when it cannot even begin."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        given = self._settings
        _say(INFO, "SipBan Start")
        for each in given.white_list:
            _say(INFO, f"WHITE LIST => {each}")
        outside = Outside(_say, _Conversations().end, own=own_addresses)
        kernel = Sets()
        guard = Guard(given, kernel, self._ledger, settings.DUMP, outside)
        self._remember(guard)
        self._open_witness(loop, outside)
        ami = Ami(
            given.ami_host,
            given.ami_port,
            given.ami_user,
            lambda: read_secret(settings.AMI_SECRET),
            guard.on_event,
            _say,
            ping_every=given.ami_ping,
        )
        outside.ami = ami
        self._open_fleet(loop, guard, outside)
        control = Control(guard, settings.CONTROL)
        await control.start()
        console = None
        if given.console_port:
            from .console import Console  # only who has it needs the memory

            console = Console(guard, given.console_port, lambda: read_secret(settings.TOKEN), _say)
            try:
                await console.start()
            except (OSError, SipguardError) as error:
                _say(ALERT, f"the console cannot listen on 127.0.0.1:{given.console_port}: {error}")
                console = None
        tasks = [loop.create_task(ami.run()), loop.create_task(self._look_after(guard)), loop.create_task(_watchdog())]
        _notify("READY=1", f"MAINPID={os.getpid()}")
        waiting = loop.create_task(self._stop.wait())
        ended = (await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED))[0]
        _notify("STOPPING=1")
        for task in (waiting, *tasks):
            for dummy in range(5):
                # Before Python 3.12 wait_for may swallow the first one.
                task.cancel()
                await asyncio.wait([task], timeout=1)
                if task.done():
                    break
        await control.close()
        if console is not None:
            await console.close()
        if self._fleet is not None:
            await loop.run_in_executor(None, self._fleet.stop)
        if self._witness is not None:
            loop.remove_reader(self._witness.fileno())
            self._witness.close()
        self._ledger.sync()
        self._ledger.close()
        _say(INFO, "SipBan Stop")
        for task in ended - {waiting}:
            # Only a fault of ours ends one of them; systemd starts us anew.
            task.result()

    def _remember(self, guard: Guard) -> None:
        try:
            self._ledger.lines = guard.remember(ledger.read_lines(settings.LEDGER))
            self._ledger.open()
        except SipguardError as error:
            _say(ALERT, f"{error}; bans are in force, but will not grow, and be forgotten at the next boot")

    def _shorten(self, guard: Guard) -> None:
        try:
            self._ledger.rewrite(guard.lines())
        except SipguardError as error:
            _say(WARNING, str(error))

    def _open_witness(self, loop: asyncio.AbstractEventLoop, outside: Outside) -> None:
        try:
            self._witness = outside.witness = Witness()
        except SipguardError as error:
            _say(WARNING, f"{error}; what comes over UDP proves nothing then, and bans nobody unless told to")
            return
        loop.add_reader(self._witness.fileno(), self._witness.drain)

    def _open_fleet(self, loop: asyncio.AbstractEventLoop, guard: Guard, outside: Outside) -> None:
        given = self._settings
        if not given.crowdsec_url:
            try:
                guard.leave_fleet()
            except SipguardError as error:
                _say(WARNING, str(error))
            return
        from .crowdsec import CrowdSec, Fleet

        try:
            asked = CrowdSec(
                url=given.crowdsec_url,
                machine_id=given.crowdsec_machine,
                interval=float(given.crowdsec_interval),
                full_every=max(300.0, float(given.crowdsec_interval)),
                ca_file=given.crowdsec_ca_file,
                max_seconds=given.crowdsec_max_time,
                allow_http=given.crowdsec_allow_http,
            )
            standing = guard.of_the_fleet()
            own = guard.to_share()
        except SipguardError as error:
            _say(ALERT, f"bans are not shared: {error}")
            return
        self._fleet = outside.fleet = Fleet(
            asked,
            lambda: read_secret(settings.CROWDSEC_PASSWORD),
            lambda: read_secret(settings.CROWDSEC_KEY),
            guard.on_fleet_ban,
            guard.on_fleet_unban,
            _say,
            loop,
            standing,
            own,
        )
        self._fleet.start()

    async def _look_after(self, guard: Guard) -> None:
        loop = asyncio.get_running_loop()
        due = {"metrics": 0.0, "refresh": loop.time() + _REFRESH, "keep": loop.time() + _KEEP}
        synced, heard = self._ledger.lines, False
        while True:
            now = loop.time()
            hears = guard.outside.ami is not None and guard.outside.ami.hears
            if now >= due["metrics"] or hears is not heard:
                heard = hears
                due["metrics"] = now + _METRICS
                self._write_metrics(guard)
                _notify(f"STATUS={_status(guard)}")
            if now >= due["refresh"]:
                due["refresh"] = now + _REFRESH
                guard.refresh()
            if now >= due["keep"] and self._ledger.lines != synced:
                due["keep"], synced = now + _KEEP, self._ledger.lines
                await loop.run_in_executor(None, self._ledger.sync)
            # What is worth keeping may be as many by itself.
            if self._ledger.lines > self._ledger.kept + _LONG:
                self._shorten(guard)
            if self._witness is not None:
                try:
                    self._witness.ensure()
                except SipguardError as error:
                    _say(WARNING, str(error))
            await asyncio.sleep(_TICK)

    def _write_metrics(self, guard: Guard) -> None:
        with contextlib.suppress(SipguardError):  # the next one may work, and nobody is banned less for it
            metrics.write(settings.METRICS, guard.status())


async def _watchdog() -> None:
    """Tell systemd that the loop turns."""
    pause = int(os.environ.get("WATCHDOG_USEC", "0") or 0) / 2e6 or 3600.0
    while True:
        _notify("WATCHDOG=1")
        await asyncio.sleep(pause)


def _status(guard: Guard) -> str:
    """One line for systemctl status."""
    try:
        found = guard.status()
    except SipguardError as error:
        return str(error)
    banned = sum(count or 0 for count in found["bans"].values())
    return f"{'listening to' if found['ami'] else 'waiting for'} Asterisk; {banned} banned"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after a stop, EX_CONFIG for settings nobody can go by, 1 for anything else."""
    if sys.argv[1:] if arguments is None else arguments:
        _say(WARNING, "usage: sipband (started by systemd; sipbanctl is what to talk to it with)")
        return EX_CONFIG
    try:
        given = Settings.read()
    except SipguardError as error:
        _say(ALERT, str(error))
        return EX_CONFIG
    try:
        asyncio.run(_serve(given))
    except (OSError, SipguardError) as error:
        _say(ALERT, f"sipband cannot go on: {error}")
        return 1
    return 0


async def _serve(given: Settings) -> None:
    await Daemon(given).run()
