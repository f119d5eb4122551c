# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration: scan two real PBXs, harden them, scan again; phones and the trunk still get through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import inventory, traffic
from .hosts import HOSTS, Lab
from .paths import CHECKOUT, LabError, progress, say
from .traffic import Outcome, Way

__all__ = ["run"]

PLAYBOOK = CHECKOUT / "playbooks" / "harden-pbx.yml"
LOCKOUT = CHECKOUT / "lab" / "lockout.yml"
PBXS = ("pbx16", "pbx22")
DESK_PHONE = "Yealink SIP-T46U 108.86.0.90"
SOFT_PHONE = "Linphone-Desktop/5.2.4"
_LOG_SECONDS = 5
_FLOOD = 600  # requests, at _FLOOD_RATE a second
_FLOOD_RATE = 300
_LOCKOUT_SECONDS = 40
_FLOOD_LEFT = 400  # that may get through: the limit's burst of 300, its rate, and time for a slow machine


@dataclass(frozen=True)
class Seen:
    """What came of one row at one PBX; ``received`` is what the PBX itself logged of it, -1 where that was not asked for."""

    good: bool
    received: int
    detail: str


@dataclass(frozen=True)
class Row:
    """One line of the table: somebody (a host of the lab, or the controller) tries something at each PBX.

    ``logged`` says whether it is SIP, which Asterisk logs; ``requests`` is more than one for a flood, of which only that counts.
    ``refused``: nobody stops it on the way, Asterisk itself refuses it.
    """

    who: str
    what: str
    way: Way
    act: Callable[[Lab, str], Outcome]
    attack: bool = False
    logged: bool = True
    requests: int = 1
    refused: bool = False

    def word(self, seen: Seen) -> str:
        if self.requests > 1:
            return f"{seen.received} in"
        if self.refused:
            return "gets in" if seen.good else "refused"
        return ("answers" if seen.good else "silence") if self.attack else ("works" if seen.good else "fails")


def _calls(source: str, user: str, user_agent: str, way: Way) -> Callable[[Lab, str], Outcome]:
    def act(lab: Lab, pbx: str) -> Outcome:
        for name in ("register", "call"):
            outcome = traffic.scenario(lab, source, pbx, way, name, user, ua=user_agent, called="600")
            if not outcome.answered:
                break
        return outcome

    return act


def _scans(way: Way) -> Callable[[Lab, str], Outcome]:
    return lambda lab, pbx: traffic.svmap(lab, "attacker", pbx, way.family)


def _monitors(way: Way) -> Callable[[Lab, str], Outcome]:
    return lambda lab, pbx: traffic.asked_by_controller(lab, pbx, way.family, "sipsak 0.9.8.1")


def _knocks(source: str, way: Way) -> Callable[[Lab, str], Outcome]:
    return lambda lab, pbx: traffic.scenario(lab, source, pbx, way, "knock", "1001", ua=DESK_PHONE)


def _floods(source: str, way: Way) -> Callable[[Lab, str], Outcome]:
    return lambda lab, pbx: traffic.flood(lab, source, pbx, way, _FLOOD, _FLOOD_RATE, DESK_PHONE)


def _asks(source: str, user_agent: str, way: Way) -> Callable[[Lab, str], Outcome]:
    return lambda lab, pbx: traffic.scenario(lab, source, pbx, way, "options", "100", ua=user_agent)


def _delivers(way: Way) -> Callable[[Lab, str], Outcome]:
    return lambda lab, pbx: traffic.scenario(
        lab, "trunk", pbx, way, "trunk", "03055501234", ua="Carrier SBC 7.2", called="493012345600"
    )


def _logs_in(way: Way, seconds: int = 10) -> Callable[[Lab, str], Outcome]:
    def act(lab: Lab, pbx: str) -> Outcome:
        options = [*lab.ssh_options(), "-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds}", "-i", str(lab.key)]
        argv = ["ssh", "-F", "none", *options, f"root@{way.address(lab, pbx)}", "true"]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=2 * seconds, check=False
            )
        except subprocess.TimeoutExpired as error:  # cut in the middle: ssh itself would wait on
            return Outcome(False, str(error))
        return Outcome(done.returncode == 0, done.stderr)

    return act


def _rows() -> list[Row]:
    """What happens, in this order.

    No row but the one that says so is silent only because of one before it: addresses are marked by a signature alone, and that
    comes late. Whoever does not name the domain is stopped before his signature is looked for.
    """
    u4, u6, t4, t6 = Way("udp", 4), Way("udp", 6), Way("tcp", 4), Way("tcp", 6)
    rows = [
        Row("attacker2", "registers at the bare address", u4, _knocks("attacker2", u4), True),
        Row("attacker2", "registers at the bare address", t6, _knocks("attacker2", t6), True),
        Row(
            "attacker2",
            "names the domain, and calls without a password",
            u4,
            lambda lab, pbx: traffic.scenario(
                lab, "attacker2", pbx, u4, "guest", "cashier", ua=DESK_PHONE, called="600"
            ),
            True,
            logged=False,
            refused=True,
        ),
        Row(
            "attacker2",
            f"floods: {_FLOOD} REGISTER that name the domain",
            u6,
            _floods("attacker2", u6),
            True,
            requests=_FLOOD,
        ),
        Row(
            "attacker2",
            "tries the SSH port",
            t4,
            lambda lab, pbx: traffic.ssh_banner(lab, "attacker2", pbx, t4),
            True,
            logged=False,
        ),
        Row("attacker", "scans with svmap (friendly-scanner)", u4, _scans(u4), True),
        Row("attacker", "scans with svmap (friendly-scanner)", u6, _scans(u6), True),
        Row("attacker2", "asks with sipsak", t4, lambda lab, pbx: traffic.sipsak(lab, "attacker2", pbx), True),
        Row("attacker2", "names the domain, but as sipcli/v1.8", t6, _asks("attacker2", "sipcli/v1.8", t6), True),
        Row("attacker2", "comes back, disguised as a phone", u6, _asks("attacker2", DESK_PHONE, u6), True),
    ]
    rows += [
        Row(
            "roamer",
            "a phone nobody lists names the domain and calls",
            way,
            _calls("roamer", "1002", SOFT_PHONE, way),
        )
        for way in (u4, u6, t4, t6)
    ]
    rows += [
        Row("phone", "the desk phone registers and calls", way, _calls("phone", "1001", DESK_PHONE, way))
        for way in (u4, t6)
    ]
    rows += [
        Row("trunk", "the carrier delivers a call without the domain", way, _delivers(way)) for way in (u4, u6, t4, t6)
    ]
    rows += [Row("controller", "monitoring asks, User-Agent sipsak", way, _monitors(way)) for way in (u4, u6)]
    rows += [Row("controller", "the administrator logs in by SSH", way, _logs_in(way)) for way in (t4, t6)]
    return rows


def _try(lab: Lab, pbx: str, row: Row) -> Seen:
    if not row.attack or not row.logged:
        outcome = row.act(lab, pbx)
        return Seen(outcome.answered, -1, outcome.detail)
    address = row.way.address(lab, row.who)
    before = traffic.received(lab, pbx, address)
    outcome = row.act(lab, pbx)
    end = time.monotonic() + _LOG_SECONDS
    count = traffic.received(lab, pbx, address) - before
    # Asterisk writes its log a little later than its answer, and that of a flood in many pieces
    while outcome.answered and count < row.requests and time.monotonic() < end:
        time.sleep(0.3)
        last, count = count, traffic.received(lab, pbx, address) - before
        if last == count > 0:
            break
    return Seen(outcome.answered, count, outcome.detail)


def _try_all(lab: Lab, rows: list[Row]) -> dict[str, list[Seen]]:
    """Each PBX gets all attacks in order, and at the same time all else in order; the PBXs are busy side by side."""
    stopped = threading.Event()

    def some(job: tuple[str, bool]) -> dict[int, Seen]:
        pbx, attacks = job
        results: dict[int, Seen] = {}
        for number, row in enumerate(rows):
            if stopped.is_set():
                break
            if row.attack is attacks:
                results[number] = _try(lab, pbx, row)
                say(f"    {pbx}: {row.who} {row.what}, {row.way}: {row.word(results[number])}")
        return results

    jobs = [(pbx, attacks) for pbx in PBXS for attacks in (True, False)]
    for pbx in PBXS:
        traffic.watch(lab, pbx)
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        try:
            found = dict(zip(jobs, pool.map(some, jobs), strict=True))
        except BaseException:
            stopped.set()  # else the pool would wait for all the rows that are left
            raise
    return {pbx: [found[pbx, row.attack][number] for number, row in enumerate(rows)] for pbx in PBXS}


def _ansible_playbook() -> Path:
    """The command that belongs to the Python that runs this."""
    command = Path(sys.executable).with_name("ansible-playbook")
    for needed in (command, PLAYBOOK):
        if not needed.exists():
            raise LabError(
                f"{needed} is missing; `make demo` runs the demo with the Python and the Ansible of its own environment"
            )
    return command


def _play(lab: Lab, command: Path, playbook: Path) -> subprocess.Popen[bytes]:
    """``playbook`` at work on the PBXs; what it says goes to standard error."""
    env = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".cache"),
        "PATH": f"{command.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    argv = [str(command), "-i", str(inventory.write(lab)), "--limit", ",".join(PBXS), str(playbook)]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=env)


def _harden(lab: Lab, command: Path) -> None:
    if _play(lab, command, PLAYBOOK).wait():
        raise LabError(f"{PLAYBOOK.name} failed")


def _rules(lab: Lab, pbx: str) -> list[str]:
    """All rules of the PBX, without counters and remarks."""
    script = "iptables-save; ip6tables-save"
    lines = lab.engine.run("exec", lab.container(pbx), "sh", "-c", script).splitlines()
    return [line.split(" [")[0] for line in lines if not line.startswith("#")]


def _seconds_shut_out(lab: Lab, pbx: str) -> float:
    """How long no login got through to the PBX; 0.0 if that never happened, infinity if it did not end."""
    log_in = _logs_in(Way("tcp", 4), seconds=1)
    end = time.monotonic() + _LOCKOUT_SECONDS
    failed: list[float] = []  # when, without a success in between
    while (now := time.monotonic()) < end:
        if not log_in(lab, pbx).answered:
            failed.append(now)
        elif len(failed) > 1:
            return now - failed[0]
        else:
            failed.clear()  # one alone may be a busy machine
        time.sleep(0.2)
    return float("inf") if failed else 0.0


def _lock_out(lab: Lab, command: Path) -> list[tuple[bool, str]]:
    """A change shuts Ansible out of both PBXs and nobody confirms it: whether each comes back by itself as it was, and a sentence."""
    before = {pbx: _rules(lab, pbx) for pbx in PBXS}
    play = _play(lab, command, LOCKOUT)
    try:
        with ThreadPoolExecutor(max_workers=len(PBXS)) as pool:
            seconds = dict(zip(PBXS, pool.map(lambda pbx: _seconds_shut_out(lab, pbx), PBXS), strict=True))
        with suppress(subprocess.TimeoutExpired):
            play.wait(_LOCKOUT_SECONDS)  # its connection was cut; it goes on now that the hosts answer again
    finally:
        play.kill()
        play.wait()
    found = []
    for pbx in PBXS:
        good = 0 < seconds[pbx] < float("inf") and _rules(lab, pbx) == before[pbx]
        if good:
            said = f"after {seconds[pbx]:.0f} s it had taken that back by itself."
        elif not seconds[pbx]:
            said = "it did not."
        else:
            said = "it did not go back to the rules before."
        found.append((good, f"{pbx}: a mistyped address shut the administrator out; {said}"))
    return found


def _as_it_should(row: Row, before: Seen, after: Seen) -> bool:
    if row.requests > 1:
        # an honest phone may come from the same address: what is below the limit still gets through
        return before.received >= row.requests * 0.9 and 0 < after.received <= _FLOOD_LEFT
    if row.attack and row.logged:
        # heard before; afterwards not even the PBX itself may have seen it
        return before.good and before.received > 0 and not after.good and after.received == 0
    if row.attack:
        return before.good and not after.good
    return before.good and after.good


def _table(
    rows: list[Row], before: dict[str, list[Seen]], after: dict[str, list[Seen]], locked_out: list[tuple[bool, str]]
) -> bool:
    """Print the table, what came of the lockout, and what went wrong; True if nothing did."""
    lines = [
        ["", "", "", *(name for pbx in PBXS for name in (pbx, ""))],
        ["who", "does what", "over", *["before", "after"] * len(PBXS)],
    ]
    wrong = []
    for index, row in enumerate(rows):
        line = [row.who, row.what, str(row.way)]
        for pbx in PBXS:
            then, now = before[pbx][index], after[pbx][index]
            line += [row.word(then), row.word(now)]
            if not _as_it_should(row, then, now):
                line[-1] += " !"
                wrong.append(
                    f"{pbx}: {row.who} {row.what}, {row.way}: before {row.word(then)} ({then.received} received), "
                    f"after {row.word(now)} ({now.received} received)\n{(now if then.good else then).detail.strip()[-1500:]}"
                )
        lines.append(line)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    print()
    for number, line in enumerate(lines):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
        if number == 1 or number == 1 + sum(
            row.attack for row in rows
        ):  # below the heading and below the attacks, which come first
            print("  ".join("-" * width for width in widths))
    print("\nsilence: no answer, and nothing of it reached Asterisk. works: Asterisk answered the whole conversation.")
    print("in: requests of the flood that reached Asterisk. refused: Asterisk wanted a password.\n")
    for good, text in locked_out:
        print(text)
        if not good:
            wrong.append(text)
    for text in wrong:
        print(f"\nNOT AS IT SHOULD BE  {text}")
    if wrong:
        print(f"\n{len(wrong)} of {(len(rows) + 1) * len(PBXS)} are not as they should be.", flush=True)
    else:
        print("\nEverything is as it should be.", flush=True)
    return not wrong


@contextmanager
def _phase(name: str, times: dict[str, float]) -> Iterator[None]:
    say(f"{name}:")
    started = time.monotonic()
    try:
        yield
    finally:
        times[name] = time.monotonic() - started


def run(lab: Lab, keep: bool) -> int:
    """The whole demonstration from a new lab; exit status 0 if every row of the table is as it should be. The caller holds the lock."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    command = _ansible_playbook()
    rows = _rows()
    times: dict[str, float] = {}
    good = False
    try:
        with _phase("bring the lab up", times):
            lab.down()
            lab.up(host for host in HOSTS.values() if not host.managed or host.name in PBXS)
        with _phase("before", times):
            before = _try_all(lab, rows)
        with _phase(f"run playbooks/{PLAYBOOK.name}", times), progress("ansible-playbook"):
            _harden(lab, command)
        with _phase("after", times):
            after = _try_all(lab, rows)
        with _phase("shut the administrator out", times), progress("waiting for the dead-man's switch"):
            locked_out = _lock_out(lab, command)
        good = _table(rows, before, after, locked_out)
    finally:
        if keep:
            say(f"the lab is left up: python3 -m lab status --project {lab.project}")
        else:
            with _phase("take the lab down", times):
                lab.down()
        for name, seconds in times.items():
            say(f"{seconds:6.1f} s  {name}")
        say(f"{sum(times.values()):6.1f} s  in all")
    return 0 if good else 1
