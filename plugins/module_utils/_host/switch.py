# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead-man's switch: a change of the rules stays only if somebody who has just come in by a new connection says so.

Arming writes down everything of ours and starts a process that needs nothing of the run it belongs to: not its connection, not
its session, not the files (it holds the state in memory). When the time has run out, and nobody has confirmed, it brings the state
back. It is running, and has said so, before the first rule changes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from .._asterisk import freepbx_custom_rules
from .._netfilter import freepbx_rules
from .._netfilter.lock import exclusive
from .._netfilter.names import FAMILIES
from .._netfilter.persist import DIRECTORY
from .._netfilter.runner import CommandError, Runner
from .._netfilter.state import Back, State, bring_back, capture, differences, put_files
from .._netfilter.switch_guard import STATE_DIRECTORY, Pending, boot_identity, now, read_pending
from .._sip.errors import OptionError, SipguardError
from .journal import Journal, Outcome, Record, Saved
from .places import COMMAND
from .restore import restore_outside
from .ssh import ssh_connections

__all__ = [
    "COMMAND",
    "MAX_SECONDS",
    "MIN_SECONDS",
    "READY",
    "Report",
    "Switch",
    "check_seconds",
    "connections",
    "when",
]

T = TypeVar("T")

MIN_SECONDS, MAX_SECONDS = 10, 3600
# What the process that waits says on its standard output when nothing can keep it from going back any more.
READY = "ready"

_UNIT = "sipguard-rollback-"
_LOCK_TIMEOUT = 60  # s
_START_TIMEOUT = 30  # s
_POLL = 0.5  # s
_MARGIN = 15  # s after its deadline that a change is left to its own timer
_PAUSES = (5, 10, 20, 40, 80, 160, 300)  # s between attempts to go back

# What a confirmation makes of the state before: one to go back to, nothing, or the one that is used up.
_CHANGE, _AGAIN, _FURTHER = "change", "again", "further"


@dataclass(frozen=True)
class Report:
    """What was done. ``before`` and ``after`` are listings for a diff; ``pending`` is set when it has to be confirmed."""

    said: str
    changed: bool = False
    before: str = ""
    after: str = ""
    pending: Pending | None = None


@dataclass(frozen=True)
class _Target:
    """A state to go back to. ``because`` begins the sentence about it; ``kind`` is what a confirmation would make of it."""

    state: State
    because: str
    kind: str


def check_seconds(seconds: int) -> int:
    """The same, or OptionError: too little for a connection, or so much that nobody would wait for it."""
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise OptionError(
            "seconds",
            seconds,
            f"{MIN_SECONDS} to {MAX_SECONDS} seconds would be right: a timer has to leave time to confirm",
        )
    return seconds


def connections() -> tuple[str, ...]:
    """The SSH connections over which this process was started, each "ADDRESS PORT" of the client; none on a console or locally."""
    return tuple(f"{connection.client} {connection.client_port}" for connection in ssh_connections())


def when(moment: float) -> str:
    """Seconds since the epoch, for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


class Switch:
    """The switch of one host. ``directory`` is the journal's, ``files`` that of what the host loads at boot."""

    def __init__(self, runner: Runner, directory: str = STATE_DIRECTORY, files: str = DIRECTORY) -> None:
        self.journal = Journal(directory)
        self._runner = runner
        self._files = files

    # -- the four things a run asks for

    def arm(self, seconds: float, over: Sequence[str]) -> tuple[Pending, list[str]]:
        """Start the timer of a change, as soon as no other one is waiting. ``over`` are ``connections()``.

        Returns the change, and what of other runs had to be taken back first. Raises SipguardError; then nothing was changed.
        """
        if not os.access(COMMAND, os.X_OK):
            raise SipguardError(
                f"{COMMAND}, which takes changes back, is not on this host; the module sipguard_host installs it"
            )
        return self._once_settled(lambda: self._start(self._capture(), seconds, over, _CHANGE))

    def confirm(self, cookie: str, over: Sequence[str]) -> Report:
        """Keep a change. ``over`` are ``connections()``. Raises SipguardError when that proves nothing, or comes too late."""
        with exclusive(_LOCK_TIMEOUT):
            pending = self.journal.pending()
            if pending is None or pending.cookie != cookie:
                outcome = self._outcome(cookie, pending)
                if outcome.confirmed:
                    return Report(f"change {cookie} was confirmed at {when(outcome.at)}")
                raise SipguardError(
                    f"change {cookie} cannot be confirmed: it was taken back at {when(outcome.at)}, {outcome.why}"
                )
            if pending.left() <= 0:
                raise SipguardError(
                    f"change {cookie} cannot be confirmed: its time ran out at {when(pending.deadline)}, and the host goes back"
                )
            if set(over) & set(pending.connections):
                raise SipguardError(
                    f"change {cookie} cannot be confirmed over the connection over which it was made ({', '.join(over)}): that one goes on "
                    "through rules that let no new one in, and proves nothing; open a new one ('meta: reset_connection' in a play)"
                )
            record = self.journal.record()
            moment = time.time()
            if pending.kind == _CHANGE:
                before = self.journal.keep(self.journal.state(pending.state).lasting())
                record.history.append(Saved(before, moment, cookie))
            elif pending.kind == _FURTHER:
                record.history = record.history[:-1]
            record.confirmed = Saved(self.journal.keep(self._capture().lasting()), moment, cookie)
            self._close(
                record, pending, Outcome(cookie, True, moment, "over a new connection" if over else "without SSH")
            )
            return Report(f"change {cookie} is confirmed")

    def rollback(self, cookie: str = "", seconds: float = 0, over: Sequence[str] = (), check: bool = False) -> Report:
        """Go back: what is pending; else to the confirmed state, where the host is not in it; else to the one before that.

        With a ``cookie`` only that pending change. ``seconds`` puts going back to a state of long ago under a timer of its own, whose
        cookie has to be confirmed; a pending change goes back to what the host was minutes ago, and needs none. ``check`` only says
        what would be done. Raises SipguardError.
        """
        with exclusive(_LOCK_TIMEOUT, not check):
            pending, damage = self._pending_or_damage()
            if cookie and (pending is None or pending.cookie != cookie):
                outcome = self._outcome(cookie, pending)
                if not outcome.confirmed:
                    return Report(f"change {cookie} was taken back at {when(outcome.at)}, {outcome.why}")
                raise SipguardError(
                    f"change {cookie} was confirmed at {when(outcome.at)}; to go back all the same, leave the cookie out"
                )
            if not pending and not damage:
                live = self._capture()
                target = self._earlier(live)
                if not check:
                    return self._go_back(target, live, seconds, over)
            else:
                target = self._before(pending, damage)
                try:
                    live = self._capture()
                except SipguardError:  # it serves the diff only, and must not keep anything from coming back
                    live = State()
                if not check:
                    return self._report(
                        target, live, self._take_back(target.state, pending, "because that was asked for")
                    )
            return self._report(target, live, differences(live, target.state))

    def settle(self) -> list[str]:
        """Wait until no change is pending; one whose own timer failed is taken back. Returns what was. Raises SipguardError."""
        return self._once_settled(lambda: None)[1]

    def settle_overdue(self) -> list[str]:
        """Take back a change whose own timer should have done so, without waiting for anything. Returns what was. Raises SipguardError."""
        done: list[str] = []
        with exclusive(_LOCK_TIMEOUT):
            self._is_settled(done)
        return done

    def settle_at_boot(self) -> tuple[list[str], list[str]]:
        """Put back the files of the state before a change that was pending when the host went down: its timer is gone.

        To be called at boot, with the lock held, before the files are loaded. Returns what was done and what went wrong, a sentence
        each; after an error the files may be those of a change that nobody confirmed.
        """
        try:
            damage = ""
            pending = read_pending(self.journal.directory)
        except SipguardError as error:
            pending, damage = None, str(error)
        if not damage and (pending is None or pending.boot == boot_identity() or self.journal.ended(pending)):
            return [], []
        try:
            target = self._before(pending, damage)
        except SipguardError as error:
            return [], [f"a change that nobody confirmed may be loaded: {error}"]
        done, problems = put_files(target.state, self._files)
        if problems:
            return [], [f"a change that nobody confirmed may be loaded: {_list(problems)}"]
        said = [f"{target.because}: {_list(done)}"]
        try:
            outcome = Outcome(
                pending.cookie if pending else "", False, time.time(), "because the host was started anew"
            )
            self._close(self.journal.record(), pending, outcome)
        except SipguardError as error:
            said.append(str(error))
        return said, []

    def situation(self) -> tuple[dict[str, Any], str]:
        """What is pending, what it would go back to, and how the last changes ended; the same as text. Raises SipguardError."""
        pending, record = self.journal.pending(), self.journal.record()
        found = {
            "pending": None
            if pending is None
            else {
                "cookie": pending.cookie,
                "armed": when(pending.armed),
                "deadline": when(pending.deadline),
                "seconds_left": max(0, int(pending.left())),
                "connections": list(pending.connections),
            },
            "confirmed": when(record.confirmed.at) if record.confirmed else "",
            "history": [when(saved.at) for saved in record.history],
            "ended": [{**asdict(outcome), "at": when(outcome.at)} for outcome in record.outcomes],
        }
        lines = ["sipguard: no change is pending"]
        if pending is not None:
            lines = [f"sipguard: change {pending.cookie} has to be confirmed until {when(pending.deadline)}"]
            lines += [f"  armed over the connection of {connection}" for connection in pending.connections]
        lines += [f"  the rules were confirmed at {found['confirmed']}"] if record.confirmed else []
        lines += [f"  'sipguard rollback' can go back {len(record.history)} times"] if record.history else []
        for outcome in record.outcomes[-3:]:
            ended = "confirmed" if outcome.confirmed else "taken back"
            lines.append(f"  {when(outcome.at)}: {outcome.cookie or 'a damaged change'} {ended}, {outcome.why}")
        return found, "\n".join(lines)

    # -- the process that waits

    def watch(self, cookie: str, ready: Callable[[], None], complain: Callable[[str], None]) -> None:
        """Wait until the change has ended; take it back when nobody has ended it in time.

        ``ready`` is called when everything needed is in memory; ``complain`` with each sentence somebody should read.
        Raises SipguardError when there is no such change.
        """
        pending = self.journal.pending()
        if pending is None or pending.cookie != cookie:
            raise SipguardError(f"no change {cookie} is pending")
        state = self.journal.state(pending.state)
        ready()
        while pending.left() > 0:
            if self.journal.ended(pending):
                return
            time.sleep(min(_POLL, max(0.0, pending.left())))
        for pause in (0, *_PAUSES):
            time.sleep(pause)
            with self._lock_at_any_price(complain) as locked:
                if self.journal.ended(pending):
                    return
                try:
                    if locked:
                        done = self._take_back(state, pending, "because its time had run out")
                        complain(f"change {cookie} was not confirmed in time and is taken back: {_list(done)}")
                        return
                    # Whoever holds the lock may still be about to change something: this was not the last time.
                    self._bring_back(state)
                except (OSError, SipguardError) as error:
                    complain(f"change {cookie} was not confirmed in time and cannot be taken back: {error}")

    # -- how

    def _capture(self) -> State:
        """Everything of ours as it stands, and whether FreePBX bears it. Raises SipguardError."""
        return replace(capture(self._runner, self._files), custom_rules=freepbx_custom_rules.read(self._runner))

    def _bring_back(self, state: State) -> Back:
        """Bring back a state, with FreePBX's custom rules on for as long as there are rules of ours in table filter.

        A state of long ago leaves them alone unless they are about rules of ours: by now somebody may have custom rules of his own.
        Raises SipguardError.
        """
        on, off = state.custom_rules_on is True, state.custom_rules_on is False
        memory = freepbx_rules.memory(FAMILIES)
        if not state.exact:
            on = on and bool(state.blocks)
            off = off and not state.blocks and freepbx_rules.ENABLED in memory
        setting = self._put_back_custom_rules(state) if on else Back()
        back = bring_back(self._runner, state, self._files, switched_on=bool(setting.done))
        if off and not back.problems:
            off, said = (True, "") if state.exact else self._leaving(memory)
            back.notes += [said] if said else []
            setting = self._put_back_custom_rules(state) if off else setting
        back.done += setting.done
        back.notes += setting.notes
        return back

    def _put_back_custom_rules(self, state: State) -> Back:
        """It is no problem when FreePBX does not take it: the rules count, and its database may be down for long.

        It is not switched on for lines that it did not load then: going back must not be what shuts somebody out.
        """
        against = freepbx_rules.unknown(FAMILIES, state.others) if state.custom_rules_on else ""
        try:
            changed = freepbx_custom_rules.put_back(self._runner, state.custom_rules or "", against)
        except SipguardError as error:
            return Back(notes=[f"FreePBX's setting customrules is not what it was: {error}"])
        return Back(["FreePBX's setting customrules"] if changed else [])

    @staticmethod
    def _leaving(memory: frozenset[str]) -> tuple[bool, str]:
        try:
            return freepbx_rules.leaving(freepbx_rules.others(FAMILIES), memory)
        except SipguardError as error:
            return False, f"FreePBX's custom rules stay on: {error}"

    def _once_settled(self, act: Callable[[], T]) -> tuple[T, list[str]]:
        """Do something, with the lock held, in a moment at which no change is pending."""
        done: list[str] = []
        while True:
            with exclusive(_LOCK_TIMEOUT):
                if self._is_settled(done):
                    return act(), done
            time.sleep(_POLL)

    def _is_settled(self, done: list[str]) -> bool:
        pending, damage = self._pending_or_damage()
        if damage or (pending is not None and pending.left() < -_MARGIN):
            target = self._before(pending, damage)
            why = (
                "because nothing else had taken it back when its time had run out"
                if pending
                else "because it could not be read"
            )
            self._take_back(target.state, pending, why)
            done.append(target.because)
            return True
        return pending is None

    def _pending_or_damage(self) -> tuple[Pending | None, str]:
        """The pending change, or what is wrong with its file. Raises SipguardError when the record is damaged."""
        self.journal.record()
        try:
            return self.journal.pending(), ""
        except SipguardError as error:
            return None, str(error)

    def _outcome(self, cookie: str, pending: Pending | None) -> Outcome:
        """How a change ended that is not pending. Raises SipguardError for one that nobody here has heard of."""
        outcome = self.journal.record().outcome(cookie)
        if outcome is None:
            waiting = f"; the one that is pending is {pending.cookie}" if pending else ""
            raise SipguardError(f"cookie {cookie!r} is that of no change on this host{waiting}")
        return outcome

    def _before(self, pending: Pending | None, damage: str) -> _Target:
        """The state before the pending change; when that is damaged, the last confirmed one, and without one nothing of ours."""
        if pending is not None:
            try:
                state = self.journal.state(pending.state)
                return _Target(state, f"change {pending.cookie}, armed at {when(pending.armed)}, is taken back", "")
            except SipguardError as error:
                damage = str(error)
        confirmed = self.journal.record().confirmed
        if confirmed is None:
            return _Target(
                State(exact=False), f"{damage}; nothing was ever confirmed, so all of sipguard's rules are removed", ""
            )
        return _Target(
            self.journal.state(confirmed.state),
            f"{damage}; the rules confirmed at {when(confirmed.at)} are brought back",
            "",
        )

    def _earlier(self, live: State) -> _Target:
        """Where to go back to with nothing pending. Raises SipguardError when there is nothing."""
        record = self.journal.record()
        if record.confirmed is not None:
            confirmed = self.journal.state(record.confirmed.state)
            found = differences(live, confirmed)
            if found:
                return _Target(
                    confirmed,
                    f"the host was not as confirmed at {when(record.confirmed.at)} ({_list(found)}), and is brought back to that",
                    _AGAIN,
                )
        if not record.history:
            raise SipguardError(
                "there is nothing to go back to: no change was ever confirmed on this host, or all of them were taken back"
            )
        saved = record.history[-1]
        return _Target(
            self.journal.state(saved.state),
            f"change {saved.cookie}, confirmed at {when(saved.at)}, is taken back",
            _FURTHER,
        )

    def _go_back(self, target: _Target, live: State, seconds: float, over: Sequence[str]) -> Report:
        """To a state of long ago. What fails leads to where the host was."""
        pending = self._start(live, seconds, over, target.kind) if seconds else None
        back = self._bring_back(target.state)
        if back.problems:
            self._bring_back(live)
            if pending is not None:
                self._close(
                    self.journal.record(), pending, Outcome(pending.cookie, False, time.time(), "because it failed")
                )
            raise SipguardError(f"nothing was brought back, the host is as it was: {_list(back.problems)}")
        if pending is None:
            record = self.journal.record()
            if target.kind == _FURTHER:
                record.history = record.history[:-1]
            record.confirmed = Saved(self.journal.keep(self._capture().lasting()), time.time(), "")
            self.journal.close(record)
        return replace(self._report(target, live, [*back.done, *back.notes, *self._outside(back)]), pending=pending)

    def _outside(self, back: Back) -> list[str]:
        """Lists and bans are no part of any state: what of them a state that was brought back has taken away, comes back."""
        if not back.done or self._files != DIRECTORY:
            return []
        done, errors = restore_outside(self._runner)
        return [line for line in done if " unchanged" not in line] + errors

    def _report(self, target: _Target, live: State, done: Sequence[str]) -> Report:
        changed = bool(done)
        listings = (live.listing(), target.state.listing()) if changed else ("", "")
        return Report(f"{target.because}: {_list(done)}", changed, *listings)

    def _take_back(self, state: State, pending: Pending | None, why: str) -> list[str]:
        """Bring back the state before a change, and then write that down. Raises SipguardError when a part did not come back."""
        back = self._bring_back(state)
        if back.problems:
            raise SipguardError(f"not everything could be brought back: {_list(back.problems)}")
        done = [*back.done, *back.notes, *self._outside(back)]
        try:
            outcome = Outcome(pending.cookie if pending else "", False, time.time(), why)
            self._close(self.journal.record(), pending, outcome)
        except SipguardError as error:  # the host is what it was, and that is what counts
            done.append(str(error))
        return done

    def _close(self, record: Record, pending: Pending | None, outcome: Outcome) -> None:
        record.number = _next_number(record) if pending is None else pending.number
        record.outcomes.append(outcome)
        self.journal.close(record)

    def _start(self, state: State, seconds: float, over: Sequence[str], kind: str) -> Pending:
        """Write a change down and start its timer; returns when that is running. Raises SipguardError."""
        number = _next_number(self.journal.record())
        digest = self.journal.keep(state)
        armed = time.time()
        pending = Pending(
            secrets.token_hex(8),
            number,
            armed,
            armed + seconds,
            boot_identity(),
            now() + seconds,
            tuple(over),
            digest,
            kind,
        )
        self.journal.open(pending)
        try:
            _start_watch(self._runner, pending.cookie)
        except SipguardError:
            outcome = Outcome(pending.cookie, False, armed, "because its timer could not be started")
            self._close(self.journal.record(), pending, outcome)
            raise
        return pending

    @contextlib.contextmanager
    def _lock_at_any_price(self, complain: Callable[[str], None]) -> Iterator[bool]:
        """Hold the host's lock, or say that it cannot be had: a host that is locked out is worse than two at work."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive(_LOCK_TIMEOUT))
            except SipguardError as error:
                complain(f"going back without the lock: {error}")
                yield False
            else:
                yield True


def _next_number(record: Record) -> int:
    # The clock makes it grow even when the record was lost.
    return max(record.number + 1, time.time_ns())


def _list(parts: Sequence[str]) -> str:
    return "; ".join(parts) or "nothing differed"


def _start_watch(runner: Runner, cookie: str) -> None:
    """Start ``sipguard watch COOKIE`` as something that outlives this process and its session. Raises SipguardError."""
    said = []
    for start in (_by_systemd, _by_process) if _systemd_is_ours() else (_by_process,):
        try:
            start(runner, cookie)
            return
        except SipguardError as error:
            said.append(str(error))
    raise SipguardError(f"the rollback timer cannot be started, so nothing was changed: {'; '.join(said)}")


def _systemd_is_ours() -> bool:
    """Whether PID 1 is systemd (sd_booted(3)) and lives in our network and among our files, so that what it starts does as well."""
    shared = [("/proc/1/ns/net", "/proc/self/ns/net")]
    shared += [(f"/proc/1/root{path}", path) for path in ("/etc", "/run", "/usr/local", "/var/lib")]
    try:
        return os.path.isdir("/run/systemd/system") and all(os.path.samefile(*pair) for pair in shared)
    except OSError:
        return False


def _by_systemd(runner: Runner, cookie: str) -> None:
    """A transient service; systemd-run returns when it has said that it is ready."""
    command = runner.which("systemd-run")
    if command is None:
        raise SipguardError("systemd-run is not installed")
    argv = [command, "--quiet", "--collect", f"--unit={_UNIT}{cookie}", "--service-type=notify"]
    argv += [
        "--description=sipguard: go back unless the change is confirmed",
        f"--property=TimeoutStartSec={_START_TIMEOUT}",
    ]
    # Killed, it is started again; exit status 2 says that there is nothing to wait for.
    argv += ["--property=Restart=on-failure", "--property=RestartPreventExitStatus=2"]
    done = runner.run([*argv, COMMAND, "watch", cookie])
    if done.returncode != 0:
        raise CommandError(argv, done)


def _by_process(runner: Runner, cookie: str) -> None:
    """A process in a session of its own, which nobody's hanging up reaches."""
    try:
        process = subprocess.Popen(
            [COMMAND, "watch", cookie],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise SipguardError(f"cannot start {COMMAND}: {error}") from error
    stream: Any = process.stdout
    with stream:
        heard = select.select([stream], [], [], _START_TIMEOUT)[0]
        said = os.read(stream.fileno(), 4096).decode("utf-8", "replace").strip() if heard else "it says nothing"
    if said != READY:
        process.kill()
        process.wait()
        raise SipguardError(f"{COMMAND} watch: {said or 'it ended at once'}")
    process.returncode = 0  # nobody waits for it
