# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of all scenarios share: strangers who talk SIP to a host, and what the host holds and hears.

The fixture ``host`` is testinfra's; every test runs once for each host of the scenario.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Host = Any  # testinfra is not annotated

PATIENCE = 60.0  # s in which everything that is waited for has to happen
SILENCE = 1.0  # s without an answer; Asterisk answers within milliseconds
FIRST_RETRY = 0.5  # s until a request over UDP is sent again (RFC 3261 section 17.1.1.2, T1)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known that says which hosts a test is about."""
    config.addinivalue_line("markers", "where(variable): only on hosts of which this variable of the inventory is true")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not about a host: a matter of the inventory alone, never of what a host turns out to be."""
    wanted: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        marks = [mark.args[0] for mark in item.iter_markers("where")]
        variables = _variables(item.callspec.params["_testinfra_host"]) if marks else {}  # type: ignore[attr-defined]
        wanted[all(variables[name] for name in marks)].append(item)
    items[:] = wanted[True]
    config.hook.pytest_deselected(items=wanted[False])


def _variables(host: Host) -> dict[str, Any]:
    """The host's variables as the inventory has them, templates and all."""
    return dict(host.ansible.get_variables())


@dataclass(frozen=True)
class Way:
    """How a request travels: ``transport`` udp or tcp, ``family`` 4 or 6."""

    transport: str
    family: int

    def __str__(self) -> str:
        return f"{self.transport}{self.family}"


WAYS = [Way(transport, family) for transport in ("udp", "tcp") for family in (4, 6)]


class Caller:
    """Somebody at ``source``, an address of this machine, with one conversation to port ``port`` of ``target``.

    ``domain`` is what he calls the PBX, "" for its address.
    """

    def __init__(self, way: Way, source: str, target: str, port: int, domain: str = "") -> None:
        self.way, self.source, self.target, self.domain = way, source, target, domain
        self.call_id = uuid.uuid4().hex
        self._asked = b""
        kind = socket.SOCK_DGRAM if way.transport == "udp" else socket.SOCK_STREAM
        self._socket = socket.socket(socket.AF_INET6 if way.family == 6 else socket.AF_INET, kind)
        self._socket.settimeout(PATIENCE)
        self._socket.bind((source, 0))
        self._socket.connect((target, port))

    def ask(self, user_agent: str, method: str = "OPTIONS") -> None:
        """Send a request: OPTIONS (RFC 3261 section 11), or INVITE to call 600."""
        host, port = self._socket.getsockname()[:2]
        here = f"[{host}]:{port}" if self.way.family == 6 else f"{host}:{port}"
        there = self.domain or (f"[{self.target}]" if self.way.family == 6 else self.target)
        ident = self.call_id
        lines = [
            f"{method} sip:{'600@' if method == 'INVITE' else ''}{there} SIP/2.0",
            f"Via: SIP/2.0/{self.way.transport.upper()} {here};branch=z9hG4bK{ident};rport",
            "Max-Forwards: 70",
            f"From: <sip:100@{there}>;tag={ident[:8]}",
            f"To: <sip:100@{there}>",
            f"Call-ID: {ident}",
            f"CSeq: 1 {method}",
            f"Contact: <sip:100@{here}>",
            f"User-Agent: {user_agent}",
            "Accept: application/sdp",
            "Content-Length: 0",
        ]
        self._asked = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._socket.sendall(self._asked)

    def answer(self, seconds: float = PATIENCE) -> str:
        """The first line of what came back in the end, "" when nothing did. Raises ConnectionRefusedError where nobody listens."""
        end = time.monotonic() + seconds
        retry = FIRST_RETRY if self.way.transport == "udp" else seconds
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(min(left, retry))
            with contextlib.suppress(TimeoutError):
                said = self._socket.recv(65535).decode(errors="replace").split("\r\n")
                # one piece of a stream may hold a provisional answer and the final one
                first = [line for line in said if line.startswith("SIP/2.0 ") and not line.startswith("SIP/2.0 1")]
                if first or not said[0].startswith("SIP/2.0 1"):
                    return first[0] if first else said[0]
                continue
            if self.way.transport == "udp":
                self._socket.sendall(self._asked)
                retry *= 2
        return ""

    def silence(self) -> bool:
        """Whether nothing comes back."""
        return self.answer(SILENCE) == ""

    def close(self) -> None:
        if self.way.transport == "tcp":  # no farewell that would be retransmitted into a wall
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class Neighbourhood:
    """A host's network as seen from this machine, which has one address there that is trusted, and any number that are not."""

    def __init__(self, host: Host) -> None:
        variables = _variables(host)
        self._host = host
        self._targets = {4: str(variables["ansible_host"]), 6: str(variables["lab_address6"])}
        # Phones say what they are configured with.
        self.domain = str(variables["pbx_sip_domains"][0]) if variables.get("pbx_firewall_gate") else ""
        self._trusted = {6 if ":" in address else 4: str(address) for address in variables["pbx_admins"]}
        self._bridge = json.loads(_ip("-j", "route", "get", self._targets[4]))[0]["dev"]
        self._numbers = itertools.count(201)  # the lab gives its hosts lower ones
        self._callers: list[Caller] = []
        self._strangers: list[tuple[int, str]] = []

    def target(self, family: int) -> str:
        return self._targets[family]

    def trusted(self, family: int) -> str:
        return self._trusted[family]

    def stranger(self, family: int, number: int = 0) -> str:
        """An address of this machine, by default one that the host has not heard of yet; a ``number`` is its last part."""
        target = self._targets[family]
        address = target[: target.rindex(":" if family == 6 else ".") + 1] + str(number or next(self._numbers))
        # nodad: usable at once. preferred_lft 0: nobody but who binds to it comes from it.
        options = ["preferred_lft", "0", *(["nodad"] if family == 6 else [])]
        _ip("address", "replace", f"{address}/{128 if family == 6 else 32}", "dev", self._bridge, *options)
        self._strangers.append((family, address))
        return address

    def caller(self, way: Way, source: str = "", port: int = 5060, domain: str | None = None) -> Caller:
        """A caller from ``source``, by default a stranger, who names the host's domain (if it wants to hear it) or another."""
        named = self.domain if domain is None else domain
        made = Caller(way, source or self.stranger(way.family), self._targets[way.family], port, named)
        self._callers.append(made)
        return made

    def refuses(self, family: int, port: int) -> bool:
        """Whether the host itself refuses a stranger's TCP connection; when it does not, nothing comes back."""
        with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM) as made:
            made.settimeout(SILENCE)
            made.bind((self.stranger(family), 0))
            try:
                made.connect((self._targets[family], port))
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                return False
        raise AssertionError(f"somebody listens on port {port}")

    def connects(self, source: str, port: int = 5060) -> bool:
        """Whether a TCP connection from this address comes about; when it does not, nothing comes back."""
        family = 6 if ":" in source else 4
        with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM) as made:
            made.settimeout(SILENCE)
            made.bind((source, 0))
            try:
                made.connect((self._targets[family], port))
            except TimeoutError:
                return False
            return True

    def close(self) -> None:
        """End the conversations, and let the host forget what it has learned: the next test comes from the same addresses.

        They stay where they are until the network goes with its hosts: a host that asks for one (NDP) always finds it.
        """
        for caller in self._callers:
            caller.close()
        for family, address in self._strangers:
            self._host.run("ipset del sipguard-offenders%s %s", str(family), address)
        # The same of FreePBX's responsive firewall, which lets ten requests a minute through.
        self._host.run("for each in /proc/net/xt_recent/*; do [ ! -e $each ] || echo / >$each; done")


@pytest.fixture(scope="module")
def traits(host: Host) -> dict[str, Any]:
    """The host's variables, among them what kind of host it is (common/inventory/kinds.yml)."""
    return _variables(host)


@pytest.fixture
def neighbours(host: Host) -> Iterator[Neighbourhood]:
    """The host's neighbourhood; conversations and grudges end with the test."""
    made = Neighbourhood(host)
    yield made
    made.close()


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    """Each transport over each family."""
    return Way(request.param.transport, request.param.family)


@pytest.fixture(scope="session")
def udp() -> Callable[[int], Way]:
    """UDP over one family."""
    return lambda family: Way("udp", family)


@pytest.fixture
def scanned(neighbours: Neighbourhood, tmp_path: Path) -> dict[int, bool]:
    """Whether sipvicious, the real scanner, has found the host over UDP, from a stranger's address of each family."""
    svmap = [sys.executable, "-c", "import sys; from sipvicious.svmap import main; sys.argv[0] = 'svmap'; main()"]
    running = {}
    for family, options in ((4, []), (6, ["-6"])):
        source = neighbours.stranger(family)
        # -x is what it puts into its headers, where it forgets that IPv6 needs brackets
        options += ["-b", source, "-x", f"[{source}]" if family == 6 else source]
        running[family] = subprocess.Popen(
            [*svmap, *options, neighbours.target(family)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )
    found = {}
    for family, process in running.items():
        said = process.communicate(timeout=PATIENCE)[0]
        found[family] = f"| {neighbours.target(family)}:5060 " in said
        assert found[family] or "found nothing" in said, said
    return found


@pytest.fixture(scope="module")
def heard(host: Host, traits: dict[str, Any]) -> Callable[[Caller], bool]:
    """Whether the PBX itself, behind any firewall, has received what a caller asked: it logs every message."""
    if not traits["lab_stand_in"]:
        chan_sip = "chan_sip.so" in host.check_output("asterisk -rx 'module show like chan_sip.so'")
        said = host.check_output("asterisk -rx %s", "sip set debug on" if chan_sip else "pjsip set logger on")
        assert "nabled" in said, said
    return lambda caller: bool(host.run("grep -qF %s %s", caller.call_id, traits["lab_heard"]).rc == 0)


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Whether a condition comes true in time. The conditions here ask a host, which takes its time: no need to wait in between."""

    def wait(condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                return False
        return True

    return wait


# Files of the system with what would change if they did; the container engine writes three of them at each start, and two only
# note what was loaded the last time. What is written and written back (put_back, files and folders) counts by its content.
_FILES = (
    r"(sha256sum /etc/group /etc/gshadow /etc/passwd /etc/shadow;"
    r" for folder in {put_back}; do if [ -e $folder ]; then"
    r" find $folder -printf '%p %m %u %g\n'; find $folder -type f -exec sha256sum {{}} +; fi; done;"
    r" find /etc /usr /var/lib/systemd $(ls -d /var/lib/sipguard 2>/dev/null) -xdev{others}"
    r" ! -path '*/__pycache__*' ! -path /etc/hosts ! -path /etc/hostname ! -path /etc/resolv.conf"
    r" ! -path '/var/lib/sipguard/lists/.*'"
    # When the system's own timers were last due.
    r" ! \( -path '/var/lib/systemd/timers/*' ! -name '*sipguard*' \)"
    # A user that has come and gone leaves these as they were, but written later; and their backups show that it was there.
    r" ! -path '/etc/group*' ! -path '/etc/gshadow*' ! -path '/etc/passwd*' ! -path '/etc/shadow*' ! -path /etc/.pwd.lock"
    r" \( -type f -printf '%p %m %u %g %s %T@\n' -o -printf '%p %y %m %u %g %l\n' \)) | sort"
)
_OURS = re.compile(r"^:SIPGUARD|^-A SIPGUARD| -j SIPGUARD(-PRE)?$|^(create|add) (sipguard|jail)-")


@dataclass(frozen=True)
class State:
    """What a host holds: rules of both families, sets, and files, each as text."""

    rules4: str
    rules6: str
    sets: str
    files: str

    @classmethod
    def of(cls, host: Host, put_back: list[str]) -> State:
        others = "".join(f" ! -path '{folder}' ! -path '{folder}/*'" for folder in put_back)
        return cls(
            _rules(host.check_output("iptables-save")),
            _rules(host.check_output("ip6tables-save")),
            # initval is a random number that newer versions show; the time that a member has left runs down
            re.sub(
                r" initval \w+|(?<=\d) timeout \d+$", "", host.check_output("ipset save -sorted"), flags=re.MULTILINE
            ),
            host.check_output(_FILES.format(put_back=" ".join(put_back), others=others)),
        )

    def foreign(self) -> State:
        """The same without sipguard's rules, hooks and sets, and without files."""
        return State(_rules(_not_ours(self.rules4)), _rules(_not_ours(self.rules6)), _not_ours(self.sets), "")


def _not_ours(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not _OURS.search(line))


def _rules(saved: str) -> str:
    """What iptables-save shows, without comments, counters and tables that hold nothing.

    nft shows tables in the order in which they were made, and no version of iptables removes an empty one again.
    """
    text = re.sub(r"\[\d+:\d+\]", "[0:0]", "\n".join(line for line in saved.splitlines() if not line.startswith("#")))
    tables = re.split(r"^(?=\*)", text.strip() + "\n", flags=re.MULTILINE)
    return "".join(sorted(table for table in tables if re.search(r"^-|^:\S+ (?!ACCEPT)", table, re.MULTILINE)))


@pytest.fixture
def read_state(host: Host, traits: dict[str, Any]) -> Callable[[], State]:
    """What the host holds at the time of the call."""
    return lambda: State.of(host, traits["lab_put_back"])


@pytest.fixture
def state(read_state: Callable[[], State]) -> State:
    """What the host holds when the test begins."""
    return read_state()


def scratch(name: str) -> Path:
    """A file that lives as long as the scenario's hosts."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / name


@pytest.fixture
def noted(traits: dict[str, Any]) -> Path:
    """Where test_before.py notes what the host held."""
    return scratch(f"before-{traits['inventory_hostname']}.json")


@pytest.fixture
def before(noted: Path) -> State:
    """What the host held before sipguard came."""
    return State(**json.loads(noted.read_text(encoding="utf-8")))


@pytest.fixture
def last_run(traits: dict[str, Any]) -> dict[str, int]:
    """The host's line in the recap of the last ansible-playbook: ok, changed, failed and so on."""
    name = traits["inventory_hostname"]
    recap = scratch("ansible.log").read_text(encoding="utf-8").rpartition("PLAY RECAP")[2]
    line = next(line for line in recap.splitlines() if re.search(rf"\| {re.escape(name)} +:", line))
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}
