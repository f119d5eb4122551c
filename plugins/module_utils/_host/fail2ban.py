# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fail2ban on this host: its server as fail2ban-client shows it, and the kernel's sets that its jails fill with the action "sipguard".

Each jail has sets of its own, jail-NAME4 and jail-NAME6, which stand in the lists sipguard-jails4 and -6 that SIPGUARD-PRE drops; so an
unban in one jail is none in another, as people know it from fail2ban. Commands and answers are those of fail2ban 0.11.2 to 1.1.1.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence

from .._netfilter import sets
from .._netfilter.names import FAMILIES, JAILS, Family
from .._netfilter.runner import Completed, Runner, output
from .._sip.addresses import Network
from .._sip.errors import SipguardError

__all__ = ["CLIENT", "Fail2ban", "jail_name", "jail_sets", "unban"]

CLIENT = "fail2ban-client"
_PREFIX = "jail-"
_JAIL_LIST = re.compile(r"Jail list:[ \t]*(.*)")
# Lines of its log on standard error: date, module, process, level, words.
_COMPLAINT = re.compile(r"^\S+ \S+ fail2ban\S* *\[\d+\]: (?:ERROR|CRITICAL) +(.+)$", re.MULTILINE)
_VERDICT = "ERROR: test configuration failed"


class Fail2ban:
    """fail2ban-client, one process a question (a tenth of a second and more)."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def installed(self) -> bool:
        return self._runner.which(CLIENT) is not None

    def _run(self, *words: str) -> Completed:
        return self._runner.run([self._runner.which(CLIENT) or CLIENT, *words])

    def version(self) -> tuple[int, ...]:
        """Such as (0, 11, 2). Raises SipguardError when it does not even start."""
        done = self._run("-V")
        found = re.search(r"^v?(\d+(?:\.\d+)+)", done.stdout, re.MULTILINE)
        if not found:
            raise SipguardError(f"fail2ban does not work on this host: {_said(done)}")
        return tuple(int(part) for part in found[1].split("."))

    def jails(self) -> list[str] | None:
        """The jails that run; None when no server answers."""
        done = self._run("status")
        found = _JAIL_LIST.search(done.stdout)
        if done.returncode or not found:
            return None
        return [name for name in re.split(r",\s*", found[1].strip()) if name]

    def objection(self, directory: str) -> str:
        """What fail2ban has against a directory of configuration, "" for nothing."""
        done = self._run("-c", directory, "-t")
        return _said(done) if done.returncode else ""

    def reload(self) -> None:
        """Bans and jails that stay the same go on. Raises SipguardError."""
        done = self._run("reload")
        if done.returncode:
            raise SipguardError(f"fail2ban cannot reload: {_said(done)}")

    def start(self) -> None:
        """Without systemd. Raises SipguardError."""
        done = self._run("start")
        if done.returncode:
            raise SipguardError(f"fail2ban does not start: {_said(done)}")

    def banning(self, entries: Sequence[str]) -> list[list[str]]:
        """For each address, or network as it was banned, the jails that ban it; empty lists where no server answers."""
        nothing: list[list[str]] = [[] for dummy in entries]
        if not entries or not self.installed():
            return nothing
        done = self._run("banned", *entries)
        try:
            found = ast.literal_eval(done.stdout.strip()) if done.returncode == 0 else None
        except (SyntaxError, ValueError):
            return nothing
        if not isinstance(found, list) or len(found) != len(entries):
            return nothing
        return [[str(jail) for jail in jails] for jails in found]

    def unban(self, entries: Sequence[str]) -> None:
        """In every jail, and in what it remembers for its next start. Raises SipguardError."""
        done = self._run("unban", *entries)
        if done.returncode:
            raise SipguardError(f"fail2ban does not unban {', '.join(entries)}: {_said(done)}")


def _said(done: Completed) -> str:
    """The reason among all that it prints, in one line."""
    text = f"{done.stderr}\n{done.stdout}"
    complaints = [found for found in _COMPLAINT.findall(text) if found != _VERDICT]
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    said = complaints[0] if complaints else lines[-1] if lines else f"exit status {done.returncode}"
    return ascii(said)[1:-1][:300]


def jail_name(set_name: str) -> str:
    """The jail to which a set belongs."""
    return set_name[len(_PREFIX) : -1] if set_name.startswith(_PREFIX) else set_name


def jail_sets(runner: Runner, headers: Mapping[str, sets.SetHeader]) -> dict[Family, list[str]]:
    """The sets that stand in the lists, by family."""
    found: dict[Family, list[str]] = {}
    for family in FAMILIES:
        name = JAILS + family.suffix
        filled = name in headers and headers[name].entries
        found[family] = list(sets.read_members(runner, name)) if filled else []
    return found


def unban(runner: Runner, networks: Sequence[Network], *, check: bool = False) -> dict[str, list[str]]:
    """Take addresses out of every jail of fail2ban's; jails by address, or network, for those that some jail had banned.

    What stands in the kernel without a server that knows of it (it was killed, or stopped) goes as well. Raises SipguardError.
    """
    texts = [sets.member_text(network) for network in networks]
    server = Fail2ban(runner)
    found = {text: jails for text, jails in zip(texts, server.banning(texts)) if jails}
    if found and not check:
        server.unban(list(found))
    headers = sets.read_headers(runner)
    script = ""
    for family, names in jail_sets(runner, headers).items():
        for name in names:
            members = sets.read_members(runner, name) if name in headers and headers[name].entries else {}
            for network, text in zip(networks, texts):
                if network.version == family.version and text in members:
                    script += f"del {name} {text} -exist\n"
                    jails = found.setdefault(text, [])
                    if jail_name(name) not in jails:
                        jails.append(jail_name(name))
    if script and not check:
        output(runner, [runner.which("ipset") or "ipset", "restore"], script)
    return found
