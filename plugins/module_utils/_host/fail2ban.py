# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fail2ban's server on this host, as fail2ban-client shows it. Commands and answers are those of fail2ban 0.11.2 to 1.1.1."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .._netfilter.runner import Completed, Runner
from .._sip.errors import SipguardError

__all__ = ["CLIENT", "Fail2ban", "Jail"]

CLIENT = "fail2ban-client"
_ACTIONS = re.compile(r"has the following actions:\n(.*)")
_PROMPT = "fail2ban> "
_PATIENCE = 60  # s for one answer: a server that hangs must not hang whoever asks it
_JAIL_LIST = re.compile(r"Jail list:[ \t]*(.*)")
# Its log on standard error: date, module, process, level, words, which may go on for some lines.
_ENTRY = re.compile(r"^\S+ \S+ fail2ban\S* *\[\d+\]: ([A-Z]+) +", re.MULTILINE)
_VERDICT = re.compile(r"^(?:\S+ \S+ fail2ban\S* *\[\d+\]: ERROR +)?ERROR: test configuration failed$", re.MULTILINE)


# As fail2ban's server does it (server/filter.py), with its own classes, for the commands that its client would send: a list a line.
_COMPILE = """
import ast, sys
from fail2ban.server.failregex import FailRegex, Regex
prefixes, several = {}, {}
for line in sys.stdin:
    try:
        words = ast.literal_eval(line.strip())
    except (SyntaxError, ValueError):
        continue
    if not isinstance(words, list) or len(words) < 4:
        continue
    jail, kind, values = words[1:4]
    try:
        if kind == "maxlines":
            several[jail] = int(values) > 1
        elif kind == "prefregex":
            prefixes[jail] = Regex(values)
        elif kind == "addignoreregex":
            for value in values if isinstance(values, list) else [values]:
                Regex(value)
        elif kind == "addfailregex":
            for value in values if isinstance(values, list) else [values]:
                FailRegex(value, prefRegex=prefixes.get(jail), multiline=several.get(jail, False))
    except Exception as error:
        print("jail %s, %s: %s" % (jail, kind, error))
        sys.exit(3)
"""


@dataclass(frozen=True)
class Jail:
    """What a jail that runs does; None where nobody asked."""

    actions: tuple[str, ...] | None = None
    idle: bool = False


def _actions(answer: str) -> tuple[str, ...]:
    found = _ACTIONS.search(answer)
    return tuple(found[1].replace(",", " ").split()) if found else ()


class Fail2ban:
    """fail2ban-client, one process a question (a tenth of a second and more)."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def installed(self) -> bool:
        return self._runner.which(CLIENT) is not None

    def _run(self, *words: str, stdin: str = "") -> Completed:
        timeout = self._runner.which("timeout")
        limit = [timeout, "--kill-after=5", str(_PATIENCE)] if timeout else []
        return self._runner.run([*limit, self._runner.which(CLIENT) or CLIENT, *words], stdin)

    def version(self) -> tuple[int, ...]:
        """Such as (0, 11, 2). Raises SipguardError when it does not even start."""
        done = self._run("-V")
        found = re.search(r"^v?(\d+(?:\.\d+)+)", done.stdout, re.MULTILINE)
        if not found:
            raise SipguardError(f"fail2ban does not work on this host: {_said(done)}")
        return tuple(int(part) for part in found[1].split("."))

    def jails(self, about: Iterable[str] = ()) -> dict[str, Jail] | None:
        """The jails that run, with what those in ``about`` do; None when no server answers.

        A jail without an action bans nobody, and one that a reload has left idle reads nothing; both say all the same that they run.
        """
        names = list(about)
        # Its shell, so that any number of questions costs one process. What comes back is in their order.
        script = "".join(f"get {name} {what}\n" for name in names for what in ("actions", "idle"))
        dummy, *answers = self._run("-i", stdin=f"status\n{script}").stdout.split(_PROMPT)
        found = _JAIL_LIST.search(answers[0]) if answers else None
        if not found:
            return None
        answers += [""] * (2 * len(names))
        told = {
            name: Jail(_actions(actions), idle.strip() == "True")
            for name, actions, idle in zip(names, answers[1::2], answers[2::2])
        }
        return {name: told.get(name, Jail()) for name in re.split(r",\s*", found[1].strip()) if name}

    def objection(self, directory: str) -> str:
        """What fail2ban has against a directory of configuration, "" for nothing."""
        done = self._run("-c", directory, "-t")
        return _said(done) if done.returncode else ""

    def refused(self, directory: str) -> str:
        """The first expression in a directory of configuration that its server would refuse, "" for none.

        A reload that ends with such an error leaves every jail idle (server.py), and fail2ban's own test does not see it.
        """
        python = self._runner.which("fail2ban-python")
        stream = self._run("-c", directory, "-d")
        if python is None or stream.returncode:
            return ""
        done = self._runner.run([python, "-c", _COMPILE], stream.stdout)
        return ascii(done.stdout.strip())[1:-1][:300] if done.returncode == 3 else ""

    def reload(self, restart: str = "") -> None:
        """Bans and jails that stay the same go on; a jail to ``restart`` gets its bans back. Raises SipguardError.

        A reload takes away the old action of a jail that gets another one, and forgets the new one (server/actions.py, 0.11.2 to
        1.1.1); only a restart of that jail helps.
        """
        done = self._run("reload", *(["--restart", restart] if restart else []))
        if done.returncode:
            raise SipguardError(f"fail2ban cannot reload: {_said(done)}")

    def start(self) -> None:
        """Without systemd. Raises SipguardError."""
        done = self._run("start")
        if done.returncode:
            raise SipguardError(f"fail2ban does not start: {_said(done)}")

    def stop(self, jail: str = "") -> None:
        """The server, however it was started, or one jail."""
        self._run("stop", *([jail] if jail else []))

    def banning(self, entries: Sequence[str]) -> list[list[str]] | None:
        """For each address, or network as it was banned, the jails that ban it; None where no server answers."""
        if not entries or not self.installed():
            return [[] for dummy in entries]
        done = self._run("banned", *entries)
        try:
            found = ast.literal_eval(done.stdout.strip()) if done.returncode == 0 else None
        except (SyntaxError, ValueError):
            return None
        if not isinstance(found, list) or len(found) != len(entries):
            return None
        return [[str(jail) for jail in jails] for jails in found]

    def unban(self, entries: Sequence[str]) -> None:
        """In every jail, and in what it remembers for its next start. Raises SipguardError."""
        done = self._run("unban", *entries)
        if done.returncode:
            raise SipguardError(f"fail2ban does not unban {', '.join(entries)}: {_said(done)}")


def _said(done: Completed) -> str:
    """The reason among all that it prints, in one line."""
    text = _VERDICT.sub("", f"{done.stderr}\n{done.stdout}")
    dummy, *entries = _ENTRY.split(text)
    complaints = [words for level, words in zip(entries[::2], entries[1::2]) if level in ("ERROR", "CRITICAL")]
    lines = [line for line in text.split("\n") if line.strip()]
    said = complaints[0] if complaints else lines[-1] if lines else f"exit status {done.returncode}"
    return ascii(" ".join(said.split()))[1:-1][:300]
