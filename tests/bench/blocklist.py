# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What large blocklists cost: a packet of somebody who is on none, a run of the module, a refresh on the host, and memory."""

from __future__ import annotations

import functools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.sipguard.pbx.plugins.module_utils._host.protected import Protected
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import blocklist, lists, sets
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import BLOCKED, FAMILIES
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import HostRunner
from tests.integration.harness.modules import collection_path, environment, run_module
from tests.integration.harness.netns import in_namespace

from . import packets
from .pair import Pair
from .runs import _play as play

__all__ = ["Blocklists", "Packet", "Refresh", "Run", "feed", "measure", "table"]

SIZES = (1_000, 10_000, 100_000, 500_000)
GOAL_SIZE = 100_000
CHANGED = 100
FIRST_GOAL, MEMORY_GOAL, CHANGE_GOAL = 3.0, 60.0, 1.0  # s, MiB, s
PING_GOAL = 1.5  # times ansible.builtin.ping, for an unchanged run
PACKET_GOAL = 1.05  # times the same policy without a list, for an admitted source

NONE, WITHOUT = "no rules", "ours, without a list"
ADMITTED, LISTED = "admitted source", "listed source"
_SET = f"{BLOCKED}4"
_WARM_UP = 5  # rounds that are not counted
_LISTED = "198.51.100.7"  # on every list
# No feed names these first bytes: of some a part is private or reserved and would not be loaded; the last is for ``changed``.
_NOBODY = frozenset({10, 100, 127, 169, 172, 192, 198, 203, 223})
# Of a hundred networks so many of each prefix length: a feed's are mostly /24, and every length occurs.
_NETWORKS = {16: 2, 17: 2, 18: 3, 19: 4, 20: 5, 21: 5, 22: 10, 23: 10, 24: 40} | dict.fromkeys(range(25, 30), 3)
_NETWORKS |= {30: 2, 31: 2}
_SINGLE = 0.97

# Prints what a command, started as its child, took at most, in KiB: the process itself, the largest process it started, and all of
# them at the same moment. A process that has only been forked, and not yet become another program, still is its parent.
_WATCH = """
import json, os, sys, time
pid = os.fork()
if not pid:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execv(sys.argv[1], sys.argv[1:])
own = child = together = 0
while True:
    done, status, usage = os.wait4(pid, os.WNOHANG)
    if done:
        break
    known, live = {pid}, {}
    for number in sorted(int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) >= pid):
        try:
            with open(f'/proc/{number}/status') as handle:
                fields = dict(line.split(':', 1) for line in handle)
            if number != pid and int(fields['PPid']) not in known:
                continue
            known.add(number)
            live[number] = [fields['Name'].strip()] + [int(fields[key].split()[0]) for key in ('VmHWM', 'VmRSS')]
        except (OSError, KeyError):
            continue
    if pid not in live:
        continue
    others = [found for number, found in live.items() if number != pid and found[0] != live[pid][0]]
    own = max(own, live[pid][1])
    child = max([child, *(found[1] for found in others)])
    together = max(together, live[pid][2] + sum(found[2] for found in others))
    time.sleep(0.001)
json.dump([os.waitstatus_to_exitcode(status), own, child, together], sys.stdout)
"""


@dataclass(frozen=True)
class Packet:
    """One policy's packet: medians of nanoseconds, and of ratios within a round, with their quartiles.

    ``entries`` is the size of the list, None for a policy without one; ``lengths`` says how many prefix lengths its set has.
    """

    policy: str
    traffic: str
    entries: int | None
    lengths: int
    delivered: float
    ns: float
    to_none: float
    to_without: float
    low: float
    high: float


@dataclass(frozen=True)
class Memory:
    """MiB at most: of the process, of the largest one it starts, and of all at the same moment."""

    own: float
    child: float
    together: float


@dataclass(frozen=True)
class Run:
    """A module run with a feed of ``GOAL_SIZE``: seconds from start to end of what Ansible sends to the host, and as tasks of one play."""

    ping: float
    first: float
    change: float
    ping_memory: Memory
    first_memory: Memory
    change_memory: Memory
    ping_task: float
    unchanged_task: float
    to_ping: float
    low: float
    high: float


@dataclass(frozen=True)
class Refresh:
    """Seconds of one size on the host, in process, and what the kernel's set is then: members, prefix lengths, MiB.

    ``plain`` are the same lengths and MiB of a set that holds the entries as they come.
    """

    entries: int
    accept: float
    fill: float
    unchanged: float
    change: float
    members: int
    lengths: int
    memory: float
    plain_lengths: int
    plain_memory: float


@dataclass
class Blocklists:
    """Everything; packets and runs by backend."""

    packets: dict[str, list[Packet]] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    refreshes: list[Refresh] = field(default_factory=list)


@functools.cache
def feed(entries: int) -> tuple[str, ...]:
    """A made-up feed of that many addresses and networks, the same every time; the last of them is _LISTED."""
    pick = random.Random(entries)
    lengths, weights = list(_NETWORKS), list(_NETWORKS.values())
    words: dict[str, None] = {}
    while len(words) < entries - 1:
        address = pick.randrange(1 << 24, 224 << 24)
        if address >> 24 in _NOBODY:
            continue
        if pick.random() < _SINGLE:
            words[socket.inet_ntoa(address.to_bytes(4, "big"))] = None
        else:
            length = pick.choices(lengths, weights)[0]
            network = address >> 32 - length << 32 - length
            words[f"{socket.inet_ntoa(network.to_bytes(4, 'big'))}/{length}"] = None
    return (*words, _LISTED)[-entries:] if entries else ()


def changed(words: Sequence[str], turn: int) -> list[str]:
    """A feed in which ``CHANGED`` other addresses, no two of them neighbours, stand in place of as many; other ones each turn."""
    start = turn * CHANGED % (len(words) - CHANGED)
    fresh = [f"223.{turn % 256}.{number}.77" for number in range(CHANGED)]
    return [*words[:start], *fresh, *words[start + CHANGED :]]


def _timed(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def _kernel(pair: Pair) -> tuple[int, int, float]:
    """Members of the set, how many prefix lengths they have, and MiB."""
    saved = pair.pbx.run("ipset", "save", _SET)
    members = [line.split()[2] for line in saved.splitlines() if line.startswith("add ")]
    header = dict(
        line.split(": ", 1) for line in pair.pbx.run("ipset", "list", "-terse", _SET).splitlines() if ": " in line
    )
    found = {member.partition("/")[2] for member in members}
    return len(members), len(found), int(header["Size in memory"]) / 2**20


def _as_they_come(pair: Pair, words: Sequence[str]) -> None:
    """Make the set hold the entries themselves."""
    headers = sets.parse_terse(pair.pbx.run("ipset", "list", "-terse"))
    pair.pbx.run("ipset", "restore", stdin=sets.fill_script(sets.spec(_SET, len(words)), words, headers))


# --- packets


def _packet_policies(folder: str, sizes: Sequence[int]) -> dict[str, tuple[int | None, Callable[[Pair], None]]]:
    """Size of the list and how to load it, by policy."""

    def without(pair: Pair) -> None:
        pair.module("sip_ua_blocklist", presets=["scanners"], backend=pair.backend, persist=False)

    def ours(entries: int) -> Callable[[Pair], None]:
        def load(pair: Pair) -> None:
            without(pair)
            what: dict[str, Any] = {"feed": str(_write(folder, feed(entries)))} if entries else {"sources": []}
            options = {"name": "bench", "backend": pair.backend, "persist": False, **what}
            result = run_module(pair.pbx, "sip_blocklist", options)
            assert not result.get("failed"), result

        return load

    def plain(entries: int) -> Callable[[Pair], None]:
        def load(pair: Pair) -> None:
            ours(0)(pair)
            _as_they_come(pair, feed(entries))

        return load

    found: dict[str, tuple[int | None, Callable[[Pair], None]]] = {NONE: (None, lambda pair: None)}
    found[WITHOUT] = (None, without)
    for size in (0, *sizes):
        found[f"ours, {size:,} entries"] = (size, ours(size))
    for size in sizes:
        found[f"as they come, {size:,} entries"] = (size, plain(size))
    return found


def _write(folder: str, words: Sequence[str]) -> Path:
    path = Path(folder, "feed.txt")
    path.write_text("".join(f"{word}\n" for word in words), encoding="ascii")
    return path


def _packets(backend: str, rounds: int, sizes: Sequence[int]) -> list[Packet]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pump, payload = os.path.join(folder, "pump"), Path(folder, "invite")
        subprocess.run(["gcc", "-O2", "-o", pump, Path(packets.__file__).with_name("pump.c")], check=True)
        payload.write_bytes(packets.PHONE)
        lines: list[str] = []
        variants: list[tuple[str, str, int | None, int]] = []
        for policy, (entries, load) in _packet_policies(folder, sizes).items():
            pair = Pair(backend)
            stack.callback(pair.close)
            load(pair)
            lengths = _kernel(pair)[1] if entries else 0
            sources = {ADMITTED: pair.caller()}
            if entries or policy == NONE:
                pair.peer.ip([f"addr add {_LISTED}/32 dev lo"])
                pair.pbx.ip([f"route add {_LISTED}/32 via 10.99.0.1"])
                sources[LISTED] = _LISTED
            for traffic, source in sources.items():
                ends = f"4 {source} 5062 {pair.listener()} 5060"
                lines.append(f"{len(variants)} {pair.peer.name} {pair.pbx.name} {ends} flow {payload}")
                variants.append((policy, traffic, entries, lengths))
        # the last processor: interrupts and everybody else prefer the first
        argv = [pump, str(max(os.sched_getaffinity(0))), str(rounds + _WARM_UP), str(packets.BATCH)]
        out = subprocess.run(argv, input="\n".join(lines) + "\n", text=True, stdout=subprocess.PIPE, check=True).stdout
    return figures(variants, out)


def figures(variants: Sequence[tuple[str, str, int | None, int]], out: str) -> list[Packet]:
    """What the pump said, by variant: policy, traffic, entries, prefix lengths."""
    spent: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    delivered: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in out.splitlines():
        number, turn, sent, received, send_ns, receive_ns = map(int, line.split())
        if turn >= _WARM_UP:
            key = variants[number][:2]
            spent[key][turn] = (send_ns + receive_ns) / sent
            delivered[key].append(received / sent)

    def ratios(policy: str, traffic: str, base: str) -> list[float]:
        # What becomes of a listed source without a list is the same as what becomes of any other.
        other = spent.get((base, traffic)) or spent[base, ADMITTED]
        return [value / other[turn] for turn, value in spent[policy, traffic].items()]

    found = []
    for policy, traffic, entries, lengths in variants:
        low, median, high = statistics.quantiles(ratios(policy, traffic, WITHOUT), n=4)
        mean = statistics.mean(delivered[policy, traffic])
        ns = statistics.median(spent[policy, traffic].values())
        to_none = statistics.median(ratios(policy, traffic, NONE))
        found.append(Packet(policy, traffic, entries, lengths, mean, ns, to_none, median, low, high))
    return found


# --- runs


def _payload(pair: Pair, folder: str, module: str, options: Mapping[str, object]) -> str:
    """The program that Ansible sends to a host for one module run, which runs once here, too."""
    known = set(Path(folder).glob("ansible-tmp-*/AnsiballZ_*"))
    env = environment() | {
        "ANSIBLE_COLLECTIONS_PATH": str(collection_path()),
        "ANSIBLE_KEEP_REMOTE_FILES": "1",
        "ANSIBLE_LOCAL_TEMP": folder,
        "ANSIBLE_REMOTE_TEMP": folder,
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    }
    argv = [sys.executable, "-m", "ansible", "adhoc", "-i", "localhost,", "-c", "local", "localhost", "-m", module]
    done = subprocess.run(
        pair.pbx.argv(*argv, *(["-a", json.dumps(options)] if options else [])),
        env=env,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = set(Path(folder).glob("ansible-tmp-*/AnsiballZ_*")) - known
    return str(path)


def _watched(pair: Pair, payload: str) -> Memory:
    python = "/usr/bin/python3"
    status, *peaks = json.loads(pair.pbx.run(python, "-c", _WATCH, python, payload))
    assert status == 0, payload
    return Memory(*(peak / 1024 for peak in peaks))


def _run(backend: str, repeats: int) -> Run:
    words = feed(GOAL_SIZE)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path = _write(folder, words)
        pair = Pair(backend)
        stack.callback(pair.close)
        options = {"name": "bench", "feed": str(path), "backend": backend}
        ours = _payload(pair, folder, "sipguard.pbx.sip_blocklist", options)
        ping = _payload(pair, folder, "ansible.builtin.ping", {})
        tasks = [{"name": "ping", "ansible.builtin.ping": {}}, {"name": "ours", "sipguard.pbx.sip_blocklist": options}]
        timed = play(pair, folder, tasks * (repeats + 1))[2:]
        assert not any(differs for *dummy, differs in timed), timed
        pings, own = ([seconds for name, seconds, dummy in timed if name == which] for which in ("ping", "ours"))
        low, median, high = statistics.quantiles([mine / theirs for mine, theirs in zip(own, pings, strict=True)], n=4)

        def start(payload: str) -> float:
            return _timed(lambda: pair.pbx.run("/usr/bin/python3", payload))

        seconds: dict[str, list[float]] = defaultdict(list)
        memory: dict[str, list[Memory]] = defaultdict(list)
        turn = 0
        for number in range(repeats):
            watched = number % 3 == 0  # whoever is watched is not timed: looking costs the time of one processor
            pair.module("sip_blocklist", state="absent", backend=backend)
            _write(folder, words)
            for what, payload in (("ping", ping), ("first", ours), ("change", ours)):
                if what == "change":
                    turn += 1
                    _write(folder, changed(words, turn))
                if watched:
                    memory[what].append(_watched(pair, payload))
                else:
                    seconds[what].append(start(payload))
        entries = _kernel(pair)[0]
        assert entries >= GOAL_SIZE, entries
    middle = {what: statistics.median(values) for what, values in seconds.items()}
    largest = {what: max(values, key=lambda each: each.together) for what, values in memory.items()}
    return Run(
        middle["ping"],
        middle["first"],
        middle["change"],
        largest["ping"],
        largest["first"],
        largest["change"],
        statistics.median(pings),
        statistics.median(own),
        median,
        low,
        high,
    )


# --- refreshes


def _refresh(entries: int, repeats: int) -> Refresh:
    words = feed(entries)
    runner = HostRunner()
    shields = [Protected("192.0.2.1", "a gateway of this host")]
    took: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pair = Pair("nft")
        stack.callback(pair.close)

        def named(lines: Sequence[str]) -> lists.NamedList:
            accepted = lists.accept(lines, lists.Criteria())
            return lists.NamedList("bench", kind="feed").with_words(accepted.words)

        def fill(wanted: lists.NamedList, expected: bool) -> None:
            loaded = blocklist.fill(runner, {"bench": wanted}, shields, FAMILIES, directory=directory, check=False)
            assert loaded.changed == expected

        def rounds() -> None:
            for turn in range(repeats):
                for path in directory.glob(".*"):
                    path.unlink()
                blocklist.remove_sets(runner, list(sets.read_headers(runner)), check=False)
                took["accept"].append(_timed(lambda: named(words)))
                first, other = named(words), named(changed(words, turn))
                for what, wanted, expected in (
                    ("fill", first, True),
                    ("unchanged", first, False),
                    ("change", other, True),
                ):
                    took[what].append(_timed(functools.partial(fill, wanted, expected)))

        in_namespace(pair.pbx.name, rounds)
        found = _kernel(pair)
        _as_they_come(pair, words)
        plain = _kernel(pair)
    middle = {what: statistics.median(values) for what, values in took.items()}
    return Refresh(entries, middle["accept"], middle["fill"], middle["unchanged"], middle["change"], *found, *plain[1:])


def measure(backends: Sequence[str], rounds: int, repeats: int, sizes: Sequence[int] = SIZES) -> Blocklists:
    """All figures; ``rounds`` of packets, ``repeats`` of runs."""
    found = Blocklists()
    for backend in backends:
        found.runs[backend] = _run(backend, repeats)
        found.packets[backend] = _packets(backend, rounds, sizes)
    found.refreshes = [_refresh(size, max(3, repeats // 4)) for size in sizes]
    return found


def table(found: Blocklists) -> str:
    """The figures for people."""
    lines = []
    for backend, run in found.runs.items():
        lines += [f"A run with {GOAL_SIZE:,} entries, {backend}", "", *_run_lines(run), ""]
    for backend, figured in found.packets.items():
        lines += [f"Cost of a packet, {backend}", "", *_packet_lines(figured), ""]
    lines += ["A refresh on the host, in process: seconds, and the kernel's set", "", *_refresh_lines(found.refreshes)]
    return "\n".join(lines)


def _goal(value: float, goal: float, unit: str = "") -> str:
    return f"   goal {goal:g}{unit}: {'reached' if value <= goal else 'missed'}"


def _run_lines(run: Run) -> list[str]:
    lines = [f"{'':28}{'seconds':>9}{'MiB':>8}{'module':>8}{'child':>8}"]
    for what, seconds, memory, said in (
        ("ansible.builtin.ping", run.ping, run.ping_memory, ""),
        (
            "first load",
            run.first,
            run.first_memory,
            _goal(run.first, FIRST_GOAL, " s") + _goal(run.first_memory.together, MEMORY_GOAL, " MiB"),
        ),
        (f"{CHANGED} others", run.change, run.change_memory, _goal(run.change, CHANGE_GOAL, " s")),
    ):
        figures = f"{memory.together:8.1f}{memory.own:8.1f}{memory.child:8.1f}"
        lines.append(f"{what:28}{seconds:9.3f}{figures}{said}")
    spread = f"quartiles {run.low:.2f}-{run.high:.2f}"
    lines.append(
        f"unchanged, as a task: {run.unchanged_task:.3f} s, ping {run.ping_task:.3f} s: {run.to_ping:.2f} ({spread})"
        f"{_goal(run.to_ping, PING_GOAL)}"
    )
    return lines


def _packet_lines(figured: Sequence[Packet]) -> list[str]:
    lines = [f"{'':50}{'lengths':>9}{'delivered':>10}{'ns':>8}{'x none':>9}{'x no list':>11}{'quartiles':>15}"]
    for traffic in dict.fromkeys(each.traffic for each in figured):
        for each in figured:
            if each.traffic != traffic:
                continue
            aimed = traffic == ADMITTED and each.policy.startswith("ours") and each.entries is not None
            said = _goal(each.to_without, PACKET_GOAL) if aimed else ""
            lines.append(
                f"{traffic:18}{each.policy:32}{each.lengths:9}{each.delivered:10.2f}{each.ns:8.0f}{each.to_none:9.3f}"
                f"{each.to_without:11.3f}{f'{each.low:.3f}-{each.high:.3f}':>15}{said}"
            )
    return lines


def _refresh_lines(refreshes: Sequence[Refresh]) -> list[str]:
    words = ("entries", "read", "fill", "unchanged", "100 others", "members", "lengths", "MiB", "plain lengths", "MiB")
    lines = ["".join(f"{word:>15}" for word in words)]
    for each in refreshes:
        cells: list[str] = [f"{each.entries:,}"]
        cells += [f"{value:.3f}" for value in (each.accept, each.fill, each.unchanged, each.change)]
        cells += [f"{each.members:,}", str(each.lengths), f"{each.memory:.2f}"]
        cells += [str(each.plain_lengths), f"{each.plain_memory:.2f}"]
        lines.append("".join(f"{cell:>15}" for cell in cells))
    return lines
