# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sipband on a PBX: how soon it bans, beside fail2ban and what the published program does; how many events it takes; what bans weigh."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hosts.machine import CHECKOUT, Machine, lab
from tests.hosts.neighbours import Neighbours

from . import ami_source, one_strike
from .guessing import RETRIES, protected, until_dropped

__all__ = ["ROUND", "Figures", "Latency", "Load", "Memory", "counted", "late", "measure", "table"]

LATENCY_GOAL = 0.05  # s
RATE = 5000  # events a second
RESIDENT_GOAL = 60.0  # MiB
BANS = {"ipv4": 70000, "ipv6": 30000}
SIPBAND, FAIL2BAN, PUBLISHED = "sipband", "fail2ban", "stand-in for the published one, one strike"

_PROJECT = "benchsipban"
_IMAGES = {"Asterisk 16": "debian11-asterisk16", "Asterisk 22": "sid-asterisk22"}
_LOADED = "Asterisk 16"
ROUND = 5  # bans in a row, before it is another one's turn
_STEP, _QUIET = 0.001, 0.3  # s
_STEADY = 20  # s
_FLAT = 100000  # events
_POLL = 0.25  # s
_GRACE = 1.0  # s after which an event has to have been counted
_PAUSE = 0.1  # s between two questions
_PATIENCE = 300.0  # s
_MANAGER_USER = "sipguard"
_SECRET = "/etc/sipban/ami-secret"
_LOGS = ("/var/log/asterisk/sipguard-notices", "/var/log/asterisk/sipguard-security")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Latency:
    """Seconds from the last wrong answer to the first packet dropped, by who banned, on one PBX."""

    pbx: str
    seconds: dict[str, list[float]]

    def median(self, who: str) -> float:
        return statistics.median(self.seconds[who])


@dataclass(frozen=True)
class Load:
    """``sent`` events in ``seconds``, of which ``late`` were not counted a second later. ``slowest``: events in the slowest full second.

    ``processor``: seconds of it that an event took. ``ping``, ``block``: seconds of each such question over the control socket meanwhile.
    """

    sent: int
    seconds: float
    late: int
    slowest: float
    processor: float
    ping: list[float]
    block: list[float]

    @property
    def rate(self) -> float:
        return self.sent / self.seconds


@dataclass(frozen=True)
class Memory:
    """MiB resident: with nothing to do, with all bans, the most of that time, after all was listed, and after a restart with them.

    Seconds: until all were banned, of a listing by sipbanctl, of the slowest ping during it, of ``status``, and of a start.
    """

    bans: dict[str, int]
    remembered: int
    idle: float
    resident: float
    peak: float
    listed: float
    restarted: float
    banning: float
    listing: float
    listing_ping: float
    status: float
    starting: float


@dataclass(frozen=True)
class Figures:
    """All of one run."""

    latencies: list[Latency]
    steady: Load
    flat: Load
    memory: Memory


# -- how soon


@contextlib.contextmanager
def _service(host: Machine, name: str) -> Iterator[None]:
    host.run("systemctl", "start", name)
    try:
        yield
    finally:
        host.run("systemctl", "stop", name)


@contextlib.contextmanager
def _sipband(host: Machine) -> Iterator[None]:
    with _service(host, "sipband"):
        _eventually(lambda: bool(json.loads(host.call("sipbanctl", "--json", "status").stdout)["ami"]))
        yield


@contextlib.contextmanager
def _fail2ban(host: Machine) -> Iterator[None]:
    host.run("truncate", "-s", "0", *_LOGS)  # or it would first read them again
    with _service(host, "fail2ban"):
        _eventually(lambda: host.call("fail2ban-client", "ping").returncode == 0)
        yield


@contextlib.contextmanager
def _published(host: Machine) -> Iterator[None]:
    host.write("/root/one_strike.py", Path(one_strike.__file__).read_text(encoding="utf-8"))
    for argv in (["-N", one_strike.CHAIN], ["-I", "INPUT", "-p", "udp", "-j", one_strike.CHAIN]):
        host.run("iptables", *argv)
    before = _listeners(host)
    running = host.start("sh", "-c", f"exec python3 /root/one_strike.py {_MANAGER_USER} <{_SECRET}")
    try:
        _eventually(lambda: _listeners(host) > before)
        yield
    finally:
        running.kill()
        running.wait()
        for argv in (
            ["-D", "INPUT", "-p", "udp", "-j", one_strike.CHAIN],
            ["-F", one_strike.CHAIN],
            ["-X", one_strike.CHAIN],
        ):
            host.run("iptables", *argv)


def _listeners(host: Machine) -> int:
    return host.run("asterisk", "-rx", "manager show connected").count(_MANAGER_USER)


def _eventually(found: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not found():
        if time.monotonic() > end:
            raise TimeoutError("a service has not come up")
        time.sleep(0.1)


def _latency(pbx: str, host: Machine, rounds: int) -> Latency:
    """They take turns, so that whatever else the machine does hits all of them alike."""
    host.run("systemctl", "stop", "fail2ban", "sipband")
    neighbours = Neighbours(host)
    contenders = {SIPBAND: (_sipband, RETRIES), PUBLISHED: (_published, 1), FAIL2BAN: (_fail2ban, RETRIES)}
    seconds: dict[str, list[float]] = {who: [] for who in contenders}
    number = 101
    for dummy in range(rounds):
        for who, (protecting, guesses) in contenders.items():
            with protecting(host):
                for dummy in range(ROUND):
                    found = until_dropped(neighbours, number, guesses=guesses, step=_STEP, quiet=_QUIET)
                    seconds[who].append(found)
                    number += 1
    return Latency(pbx, seconds)


# -- how much


class _Sipband:
    """sipband of a host, as seen from outside: its control socket, its process, and the Asterisk that it believes to hear."""

    def __init__(self, host: Machine) -> None:
        self.host = host
        said = lab(host.project, "engine", "--", "inspect", "--format", "{{.State.Pid}}", str(host.info["container"]))
        self._root = f"/proc/{int(said)}/root"
        host.run("systemctl", "stop", "asterisk", "sipband")
        argv = ["nsenter", f"--net=/proc/{int(said)}/ns/net", sys.executable, "-m", ami_source.__name__]
        self._source = subprocess.Popen(argv, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._said()
        self.start()

    def close(self) -> None:
        self._source.kill()
        self._source.wait()

    def start(self) -> float:
        """Seconds until systemd says that it is ready."""
        begun = time.monotonic()
        self.host.run("systemctl", "start", "sipband")
        seconds = time.monotonic() - begun
        found = self.host.run("systemctl", "show", "-p", "MainPID", "--value", "sipband")
        self._process = f"{self._root}/proc/{int(found)}"
        with self.asking() as ask:
            _eventually(lambda: bool(ask("status")[0]["ami"]))
        return seconds

    def stop(self) -> None:
        self.host.run("systemctl", "stop", "sipband")

    def tell(self, *words: object) -> None:
        """Tell the source what to send."""
        print(*words, file=self._source.stdin, flush=True)

    def told(self) -> tuple[int, float, float]:
        """Wait until it has sent it; how many events it were, in how many seconds, and when the last one went."""
        count, seconds = self._said()
        return count, seconds, time.monotonic()

    def _said(self) -> Any:
        line = self._source.stdout.readline() if self._source.stdout else ""
        if not line:
            raise RuntimeError("the source of events has died")
        return json.loads(line)

    @contextlib.contextmanager
    def asking(self) -> Iterator[Callable[..., tuple[Any, float]]]:
        """A function that gives the data of an answer, and the seconds it took."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_PATIENCE)
            link.connect(f"{self._root}/run/sipban/control")
            with link.makefile("rb") as file:

                def ask(*words: str) -> tuple[Any, float]:
                    begun = time.monotonic()
                    link.sendall(json.dumps({"words": words}).encode() + b"\n")
                    line = file.readline()
                    took = time.monotonic() - begun
                    given = json.loads(line)
                    if given.get("error") or not (given["ok"] or words == ("status",)):
                        raise RuntimeError(given["text"])
                    return given["data"], took

                yield ask

    def processor(self) -> float:
        """Seconds of processor that it has used."""
        words = Path(f"{self._process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICKS

    def resident(self, what: str = "VmRSS") -> float:
        """MiB now, or the most there ever was (VmHWM)."""
        for line in Path(f"{self._process}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"no {what} in {self._process}/status")


def _taken(status: dict[str, Any]) -> int:
    """Security events that it has counted."""
    return sum(status["events"].values())


def counted(samples: list[tuple[float, int]], span: float = 1.0) -> list[float]:
    """Events a second in each full span of time; samples are seconds, and the events until then."""
    rates = []
    start, before = samples[0]
    for when, now in samples:
        if when - start >= span:
            rates.append((now - before) / (when - start))
            start, before = when, now
    return rates


def late(samples: list[tuple[float, int]], sent: int, ended: float) -> int:
    """How many of the events were not yet counted a second after the last one had been sent."""
    return max((sent - taken for when, taken in samples if when >= ended + _GRACE), default=0)


class _Questions:
    """Somebody who asks all the time, in a thread, and blocks addresses of ``network``, the first 48 bits. Seconds of each answer."""

    def __init__(self, sipband: _Sipband, network: str) -> None:
        self.ping: list[float] = []
        self.block: list[float] = []
        self._sipband, self._network = sipband, network
        self._stop = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Questions:
        self._thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failed:
            raise self._failed[0]

    def _run(self) -> None:
        try:
            with self._sipband.asking() as ask:
                while not self._stop.wait(_PAUSE):
                    self.ping.append(ask("ping")[1])
                    number = len(self.block)
                    self.block.append(ask("block", f"{self._network}:{number:x}::7")[1])
        except BaseException as error:
            self._failed.append(error)


def _load(sipband: _Sipband, network: str, *what: object) -> Load:
    """What becomes of what the source is told to send."""
    with sipband.asking() as ask, _Questions(sipband, network) as questions:
        before, used, begun = _taken(ask("status")[0]), sipband.processor(), time.monotonic()
        samples = [(begun, 0)]
        sipband.tell(*what)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            telling = pool.submit(sipband.told)
            while (
                not telling.done()
                or samples[-1][1] < telling.result()[0]
                or samples[-1][0] < telling.result()[2] + _GRACE
            ):
                time.sleep(_POLL)
                samples.append((time.monotonic(), _taken(ask("status")[0]) - before))
                if samples[-1][0] - begun > _PATIENCE:
                    raise TimeoutError(f"{samples[-1][1]} events have been counted")
        sent, seconds, ended = telling.result()
        processor = sipband.processor() - used
    # Until when not all of them were counted.
    seconds = max([seconds, *(when - begun for when, taken in samples if taken < sent)])
    return Load(
        sent=sent,
        seconds=seconds,
        late=late(samples, sent, ended),
        slowest=min(counted([each for each in samples if each[0] <= begun + seconds]), default=sent / seconds),
        processor=processor / sent,
        ping=questions.ping,
        block=questions.block,
    )


def _memory(sipband: _Sipband) -> Memory:
    sipband.host.run("sipbanctl", "flush")
    sipband.stop()
    sipband.host.run("rm", "-f", "/var/lib/sipban/bans")
    sipband.start()
    idle = sipband.resident()
    begun = time.monotonic()
    sipband.tell("bans", *BANS.values())
    sipband.told()
    with sipband.asking() as ask:
        status = ask("status")[0]
        while status["bans"] != BANS and time.monotonic() - begun < _PATIENCE:
            time.sleep(_POLL)
            status = ask("status")[0]
        banning = time.monotonic() - begun
        resident, peak = sipband.resident(), sipband.resident("VmHWM")
        asked = statistics.median(ask("status")[1] for dummy in range(5))
        with _Questions(sipband, "2001:db8:ffff") as questions:
            begun = time.monotonic()
            lines = sipband.host.run("sipbanctl", "block").count("\n")
            listing = time.monotonic() - begun
    if lines < sum(BANS.values()):
        raise RuntimeError(f"{lines} bans are listed")
    listed = sipband.resident("VmHWM")
    sipband.stop()
    starting = sipband.start()
    return Memory(
        bans=status["bans"],
        remembered=status["remembered"],
        idle=idle,
        resident=resident,
        peak=peak,
        listed=listed,
        restarted=sipband.resident("VmHWM"),
        banning=banning,
        listing=listing,
        listing_ping=max(questions.ping + questions.block, default=0.0),
        status=asked,
        starting=starting,
    )


def measure(rounds: int) -> Figures:
    """``rounds`` of five bans by each contender on each PBX; the rest on one of them."""
    latencies = []
    for pbx, image in _IMAGES.items():
        # chan_sip proves nothing, so that sipband bans nobody for what it tells.
        driver = "pjsip" if "asterisk16" in image else ""
        with protected(_PROJECT, image, "pbx_sipban", "pbx_fail2ban", driver=driver) as host:
            latencies.append(_latency(pbx, host, rounds))
            if pbx == _LOADED:
                sipband = _Sipband(host)
                try:
                    steady = _load(sipband, "2001:db8:fffd", "steady", RATE, _STEADY, 0)
                    flat = _load(sipband, "2001:db8:fffe", "flat", _FLAT, 1)
                    memory = _memory(sipband)
                finally:
                    sipband.close()
    return Figures(latencies, steady, flat, memory)


# -- for people


def _verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def _latency_table(latencies: list[Latency]) -> Iterator[str]:
    yield f"{'':56}{'median':>10}{'best':>10}{'worst':>10}{'times fail2ban':>16}"
    for each in latencies:
        for who, seconds in each.seconds.items():
            numbers = (each.median(who), min(seconds), max(seconds))
            line = f"{f'{each.pbx}, {who}':56}" + "".join(f"{1000 * number:7.1f} ms" for number in numbers)
            line += f"{each.median(who) / each.median(FAIL2BAN):16.3f}"
            if who == SIPBAND:
                line += f"   goal {1000 * LATENCY_GOAL:g} ms: {_verdict(each.median(who) <= LATENCY_GOAL)}"
            yield line


def _load_line(what: str, load: Load) -> str:
    asked = "".join(f"{1000 * statistics.median(each):9.1f}{1000 * max(each):8.1f}" for each in (load.ping, load.block))
    processor = f"{1e6 * load.processor:14.0f} us{100 * load.processor * load.rate:5.0f} %"
    return f"{what:30}{load.rate:10.0f}{load.slowest:10.0f}{load.late:8}{processor}{asked}"


def table(figures: Figures) -> str:
    """For people."""
    steady, memory = figures.steady, figures.memory
    kept_up = steady.late == 0 and steady.rate >= 0.99 * RATE
    lines = [
        *_latency_table(figures.latencies),
        "",
        f"Events from a scripted manager interface, on {_LOADED}'s host:",
        "",
    ]
    heads = f"{'a second':>10}{'slowest s':>10}{'late':>8}{'processor: an event':>24}"
    lines.append(f"{'':30}{heads}{'ping, ms':>9}{'worst':>8}{'block, ms':>9}{'worst':>8}")
    lines.append(f"{_load_line(f'{RATE} a second, {_STEADY} s', steady)}   goal {RATE}, none late: {_verdict(kept_up)}")
    lines.append(_load_line(f"{_FLAT} as fast as it goes", figures.flat))
    count = sum(memory.bans.values())
    lines += [
        "",
        f"{count} live bans, each of {ami_source.STRIKES} events; {memory.remembered} of them remembered:",
        "",
    ]

    def line(what: str, value: float, unit: str, reached: bool | None = None, goal: str = "") -> None:
        said = "" if reached is None else f"   goal {goal}: {_verdict(reached)}"
        lines.append(f"{what:58}{value:10.2f} {unit}{said}")

    enough = f"{sum(BANS.values())} live bans"
    line("until all of them were banned", memory.banning, "s", memory.bans == BANS, enough)
    line("resident with nothing to do", memory.idle, "MiB")
    for what, size in (
        ("resident with all of them", memory.resident),
        ("the most until then", memory.peak),
        ("the most after all were listed", memory.listed),
        ("the most after a start with all of them", memory.restarted),
    ):
        line(what, size, "MiB", size <= RESIDENT_GOAL, f"at most {RESIDENT_GOAL:g}")
    line("sipbanctl block, all of them listed", memory.listing, "s")
    line("the slowest other question meanwhile", memory.listing_ping, "s")
    line("status, the same figures as the metrics", memory.status, "s")
    line("a start with all of them, until it is ready", memory.starting, "s")
    return "\n".join(lines)
