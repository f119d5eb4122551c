# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is wanted to a fail2ban that runs with it: look, try aside, then rule, files and server, and back again on any doubt."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import unified_diff

from .._host import fail2ban, protected
from .._host.fail2ban import Jail
from .._host.jails import jail_sets
from .._host.surroundings import SSH
from .._netfilter import sets
from .._netfilter.engine import Engine, Snapshot
from .._netfilter.names import FAMILIES, JAILS, Family
from .._netfilter.persist import Store, boot_loader
from .._netfilter.policy import Policy
from .._netfilter.runner import NEEDED, Runner, output
from .._sip.addresses import Network, parse_networks
from .._sip.errors import SipguardError
from . import logs
from .tree import DIRECTORY, Section, Tree, enabled_jails, sections

__all__ = ["ADDRESSES", "Outcome", "Request", "apply"]

ADDRESSES = "jail.d/sipguard-addresses.conf"
_OLDEST = (0, 11)
_UNIT = "fail2ban.service"
_PATIENCE = 30  # s, for a server that starts
_POLL = 0.2  # s
# Files that say nothing of this host: where one comes or goes as a whole, its name says enough.
_BULK = ("action.d/", "filter.d/")
_ACTION = "sipguard"
_OURS = "sipguard"  # how the names of our own jails begin
_MODULES = "/usr/lib/python3/dist-packages"
# What Debian's fail2ban only recommends: without the first it polls its files, without the second it cannot read the journal.
_WISHED = {"pyinotify.py": "python3-pyinotify", "systemd": "python3-systemd"}


@dataclass(frozen=True)
class Request:
    """The options of M(fail2ban_jails). ``asterisk_files`` are for hosts that have an Asterisk, which writes ``logs``."""

    state: str = "present"
    files: Mapping[str, str] = field(default_factory=dict)
    asterisk_files: Mapping[str, str] = field(default_factory=dict)
    logs: Sequence[str] = ()
    ignore: Sequence[str] = ()
    config_dir: str = DIRECTORY
    backend: str = "auto"
    persist: bool = True
    lock_timeout: int = 30


@dataclass
class Outcome:
    """What a run did, or in check mode would have done. ``left_out`` are jails of ours that somebody else has written about."""

    before: str = ""
    after: str = ""
    changed: bool = False
    asterisk: bool = False
    version: str = ""
    jails: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    missing_packages: list[str] = field(default_factory=list)
    # Without these it works, but not as well.
    wished_packages: list[str] = field(default_factory=list)
    missing_logs: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    persisted: bool = True
    boot: str = ""

    def add(self, before: str, after: str) -> None:
        if before != after:
            self.before += before
            self.after += after
            self.changed = True


def apply(host: Runner, netfilter: Runner, request: Request, check: bool) -> Outcome:
    """``netfilter`` is the host, but in check mode while iptables is still to be installed (runner_for).

    Raises SipguardError, and then everything is as it was.
    """
    job = _Job(host, netfilter, request, check)
    return job.absent() if request.state == "absent" else job.present()


class _Job:
    """One run."""

    def __init__(self, host: Runner, netfilter: Runner, request: Request, check: bool) -> None:
        self._host, self._netfilter, self._request, self._check = host, netfilter, request, check
        self._server = fail2ban.Fail2ban(host)
        self._tree = Tree(request.config_dir)
        self._out = Outcome(boot=boot_loader() or "")
        self._ours: frozenset[str] = frozenset()

    # -- present

    def present(self) -> Outcome:
        out, request = self._out, self._request
        out.asterisk = self._host.which("asterisk") is not None
        networks = [network for entry in request.ignore for network in parse_networks(entry, "ignore")]
        out.missing_packages = self._missing_packages()
        out.wished_packages = self._wished_packages()
        if out.asterisk:
            out.missing_logs = logs.missing(self._host, request.logs)
            logs.check_dates(request.logs)
        self._require()
        if not out.missing_packages:
            version = self._server.version()
            out.version = ".".join(str(part) for part in version)
            if version[:2] < _OLDEST:
                raise SipguardError(
                    f"fail2ban {out.version} is too old: 0.11.2 or later would be right, as in Debian 11 and Ubuntu 22.04"
                )
        snapshot, engine = self._snapshot()
        out.ignored = self._ignored(networks, snapshot)
        foreign = self._tree.foreign()
        wanted = self._files(foreign)
        own = self._tree.own()
        enabled = self._enabled()
        gone = sorted(own.keys() - wanted.keys())
        # Whatever the administrator says of our jails counts, so it is not missed.
        last = [section for section in foreign if section.counts]
        off = {section.name for section in last if section.off}
        jails = out.jails = [name for name in enabled_jails(wanted) if name not in off]
        self._ours = _with_our_action(wanted) - {section.name for section in last if "action" in section.options}
        running = None if out.missing_packages else self._running(jails)
        wanted[ADDRESSES] += _remark(
            own, running is None and not out.missing_packages, not enabled and not out.missing_packages
        )
        lacking = self._lacking(jails, running)
        if not (out.missing_packages or out.missing_logs):
            self._try(wanted, thoroughly=own != wanted or bool(lacking))
        strays = self._strays(jails, snapshot)
        out.add(
            "".join(f"{name}: not in {lists}\n" for name, lists in strays),
            "".join(f"{name}: in {lists}\n" for name, lists in strays),
        )
        self._packages_diff()
        before = {family: snapshot.policy(family, "filter") for family in engine.families}
        self._converge(engine, snapshot, {family: policy.with_drop(JAILS) for family, policy in before.items()})
        self._files_diff(own, wanted)
        out.add(
            "".join(f"jail {name}: {what}\n" for name, what in lacking.items()),
            "".join(f"jail {name}: on\n" for name in lacking),
        )
        out.add("" if enabled else f"{_UNIT}: not started at boot\n", "" if enabled else f"{_UNIT}: started at boot\n")
        if self._check:
            return out
        sets.restore(self._netfilter, "".join(f"add {lists} {name} -exist\n" for name, lists in strays))
        try:
            self._tree.put({name: text for name, text in wanted.items() if own.get(name) != text}, gone)
            if running is None:
                self._start()
            elif own != wanted or lacking:
                self._server.reload()
                out.done.append("reloaded")
            if running is None or own != wanted or lacking:
                self._await(jails)
                self._restart_others(set(enabled_jails(own)) - set(jails))
        except SipguardError as error:
            problems = self._undo(own, wanted, running, engine, before)
            raise SipguardError("; going back failed as well: ".join([str(error), *problems])) from error
        except BaseException:
            self._undo(own, wanted, running, engine, before)
            raise
        if not enabled:
            output(self._host, ["systemctl", "--quiet", "enable", _UNIT])
            out.done.append("enabled")
        return out

    def _strays(self, jails: Iterable[str], snapshot: Snapshot) -> list[tuple[str, str]]:
        """Sets of our jails that are not in their lists, because somebody has emptied these. Raises SipguardError for other sets."""
        found = []
        listed = jail_sets(self._netfilter, snapshot.headers)
        for family in FAMILIES:
            for name in (f"jail-{jail}{family.suffix}" for jail in sorted(set(jails) & self._ours)):
                header = snapshot.headers.get(name)
                if header is None:
                    continue
                if (header.type, header.has_timeout, header.has_comment) != ("hash:net", True, True):
                    raise SipguardError(
                        f"the set {name} exists, but is none that sipguard's action has made; remove it with 'ipset destroy {name}'"
                    )
                if name not in listed[family]:
                    found.append((name, JAILS + family.suffix))
        return found

    def _lacking(self, jails: Iterable[str], running: Mapping[str, Jail] | None) -> dict[str, str]:
        """Those of the jails that do not ban as they should, and what they do instead."""
        found = {}
        for name in sorted(jails):
            jail = (running or {}).get(name)
            if jail is None:
                found[name] = "off"
            elif jail.idle:
                found[name] = "reads nothing"
            elif not jail.actions or (name in self._ours and jail.actions != (_ACTION,)):
                found[name] = f"bans with {', '.join(jail.actions or ()) or 'nothing'}"
        return found

    def _missing_packages(self) -> list[str]:
        found = [name for name in ("iptables", "ipset") if self._host.which(name) is None]
        return found if self._server.installed() else [*found, "fail2ban"]

    def _wished_packages(self) -> list[str]:
        if self._server.installed() and not os.path.isdir(f"{_MODULES}/fail2ban"):
            return []  # not Debian's, so whoever has put it there sees to them
        return [name for path, name in _WISHED.items() if not os.path.exists(f"{_MODULES}/{path}")]

    def _require(self) -> None:
        """In check mode what is missing is only told."""
        out = self._out
        if self._check:
            return
        if out.missing_packages:
            raise SipguardError(f"packages are missing: {', '.join(out.missing_packages)}; install them first")
        if out.missing_logs:
            raise SipguardError(
                f"Asterisk does not write {', '.join(out.missing_logs)}: logger.conf needs a line for it, as the module "
                "asterisk_sip_hardening makes with its option logger, and Asterisk has to run once; where its logs are elsewhere "
                "(astlogdir in asterisk.conf), the paths of that folder would be right"
            )

    def _snapshot(self) -> tuple[Snapshot, Engine]:
        backend = Store().backend() if self._request.backend == "auto" else self._request.backend
        engine = Engine(self._netfilter, backend, self._request.lock_timeout)
        return engine.snapshot(), engine

    def _ignored(self, networks: Sequence[Network], snapshot: Snapshot) -> list[str]:
        """Whoever must never be banned, each once. Who happens to be logged in is no part of a configuration."""
        mine = [
            each.network
            for each in protected.find(self._netfilter, snapshot.headers, sessions=False)
            if each.why != SSH
        ]
        every = [*(ipaddress.ip_network(each) for each in mine), *networks]
        ipv4 = ipaddress.collapse_addresses(each for each in every if isinstance(each, ipaddress.IPv4Network))
        ipv6 = ipaddress.collapse_addresses(each for each in every if isinstance(each, ipaddress.IPv6Network))
        return [*(sets.member_text(each) for each in ipv4), *(sets.member_text(each) for each in ipv6)]

    def _files(self, foreign: Sequence[Section]) -> dict[str, str]:
        """Ours as they shall be, without jails about which somebody else has decided."""
        request, out = self._request, self._out
        found = {**request.files, **(request.asterisk_files if out.asterisk else {})}
        for path in [path for path in found if path.startswith("jail.d/")]:
            for name, options in sections(found[path], path).items():
                taken = _taken(name, options, foreign)
                if self._blind and options.get("backend") == "systemd":
                    del found[path]
                    out.left_out.append(name)
                    out.warnings.append(
                        f"without the package python3-systemd the jail {name} cannot read the journal, and is left out"
                    )
                    break
                if taken:
                    del found[path]
                    out.left_out.append(name)
                    out.warnings.append(
                        f"{taken.file} has a jail [{taken.name}] of its own, so sipguard's jail {name} is left out"
                    )
                    break
        found[ADDRESSES] = _HEAD + f"[DEFAULT]\nsipguard_ignoreip = {' '.join(out.ignored)}\n"
        return found

    def _try(self, wanted: Mapping[str, str], *, thoroughly: bool) -> None:
        """Raise SipguardError when fail2ban does not take these files, and say whose fault that is."""
        objection = self._objection(wanted)
        if thoroughly and not objection:
            with self._tree.staged(wanted) as aside:
                objection = self._server.refused(aside)
        if not objection:
            return
        ours = [name for name in self._out.jails if re.search(rf"\b{re.escape(name)}\b", objection)]
        if "sipguard" in objection or (ours and self._objection({}) != objection):
            raise SipguardError(f"fail2ban does not take sipguard's jails: {objection}; nothing was changed")
        raise SipguardError(
            f"fail2ban's configuration in {self._tree.directory} is wrong with or without sipguard: {objection}; nothing was "
            "changed: mend it, then run again"
        )

    def _objection(self, files: Mapping[str, str]) -> str:
        with self._tree.staged(files) as aside:
            return self._server.objection(aside).replace(aside, self._tree.directory)

    @property
    def _blind(self) -> bool:
        """Whether fail2ban cannot read the journal, and nobody is about to change that."""
        return not self._out.missing_packages and _WISHED["systemd"] in self._out.wished_packages

    # -- parts of a diff, and what they are about

    def _packages_diff(self) -> None:
        names = self._out.missing_packages
        if names:
            names = [*names, *self._out.wished_packages]
        self._out.add("", "".join(f"package {name}\n" for name in names))
        logs_missing = self._out.missing_logs
        self._out.add("", "".join(f"log {name}\n" for name in logs_missing))

    def _files_diff(self, own: Mapping[str, str], wanted: Mapping[str, str]) -> None:
        """Whole files that come or go, and of the others the lines that change."""
        for name in sorted({*own, *wanted}):
            old, new = own.get(name), wanted.get(name)
            if old == new:
                continue
            path = f"{self._tree.directory}/{name}"
            whole = old is None or new is None
            lines: list[str] = []
            if not (whole and name.startswith(_BULK)):
                lines = list(unified_diff((old or "").splitlines(), (new or "").splitlines(), lineterm="", n=0))[2:]
            self._out.add(
                f"{path}\n" * (old is not None) + "".join(f"  {line[1:]}\n" for line in lines if line[0] == "-"),
                f"{path}\n" * (new is not None) + "".join(f"  {line[1:]}\n" for line in lines if line[0] == "+"),
            )
            self._out.changed = True

    def _converge(self, engine: Engine, snapshot: Snapshot, targets: Mapping[Family, Policy]) -> None:
        outcome = engine.converge(targets, snapshot, persist=self._request.persist, check=self._check)
        self._out.add(outcome.before if outcome.changed else "", outcome.after if outcome.changed else "")
        self._out.changed |= outcome.changed
        self._out.persisted = outcome.persisted
        self._out.warnings += outcome.warnings

    # -- the server

    def _systemd(self) -> bool:
        return os.path.isdir("/run/systemd/system") and self._host.which("systemctl") is not None

    def _enabled(self) -> bool:
        if self._out.missing_packages or not self._systemd():
            return not self._out.missing_packages
        return self._host.run(["systemctl", "--quiet", "is-enabled", _UNIT]).returncode == 0

    def _active(self) -> bool:
        return self._systemd() and self._host.run(["systemctl", "--quiet", "is-active", _UNIT]).returncode == 0

    def _running(self, jails: Sequence[str]) -> dict[str, Jail] | None:
        """The jails that run, None for no server. Raises SipguardError for one that does not answer, also after a while."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            running = self._server.jails(jails)
            if running is not None or not self._active():
                return running
            if time.monotonic() > deadline:  # the package may just have started it
                raise SipguardError(
                    "fail2ban runs, but does not answer; nothing was changed: see what it does, and restart it "
                    "(systemctl restart fail2ban)"
                )
            time.sleep(_POLL)

    def _start(self) -> None:
        if self._systemd():
            self._host.run(["systemctl", "reset-failed", _UNIT])
            output(self._host, ["systemctl", "start", _UNIT])
        else:
            self._server.start()
        self._out.done.append("started")

    def _await(self, jails: Sequence[str]) -> None:
        """Raise SipguardError when they do not run, or do not ban."""
        lacking: dict[str, str] = {}
        restarted: set[str] = set()
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            running = self._server.jails(jails)
            lacking = self._lacking(jails, running)
            if not lacking:
                return
            for name in [name for name in lacking if name in (running or {}) and name not in restarted]:
                self._server.reload(name)
                restarted.add(name)
            time.sleep(_POLL)
        raise SipguardError(
            f"fail2ban does not run the jails {', '.join(lacking)}, so its files were put back: see /var/log/fail2ban.log"
        )

    def _restart_others(self, jails: Iterable[str]) -> None:
        """Those that were ours and are somebody else's now: what a reload has left of them bans nobody."""
        for name in sorted(set(jails) & set(self._server.jails() or {})):
            self._server.reload(name)

    def _undo(
        self,
        own: Mapping[str, str],
        wanted: Mapping[str, str],
        running: Mapping[str, Jail] | None,
        engine: Engine,
        before: Mapping[Family, Policy],
    ) -> list[str]:
        """Files, server and rule as they were, as far as each can be; what went wrong with that, a sentence each."""
        problems = []
        for step in (
            lambda: self._tree.put(own, sorted(wanted.keys() - own.keys())),
            lambda: self._stop() if running is None else self._go_on(set(enabled_jails(wanted)) & set(running)),
            lambda: engine.converge(before, engine.snapshot(), persist=self._request.persist, check=False),
        ):
            try:
                step()
            except SipguardError as error:
                problems.append(str(error))
        return problems

    def _go_on(self, jails: Iterable[str]) -> None:
        """With the files as they are."""
        try:
            self._server.reload()
        except SipguardError:
            # A reload that fails in the middle leaves every jail idle; only a new start brings them, and their bans, back.
            if not self._systemd():
                raise
            output(self._host, ["systemctl", "restart", _UNIT])
            return
        self._restart_others(jails)

    def _stop(self) -> None:
        if self._systemd():
            self._host.run(["systemctl", "stop", _UNIT])
        if self._server.jails() is not None:  # somebody started it otherwise
            self._server.stop()

    # -- absent

    def absent(self) -> Outcome:
        out = self._out
        own = self._tree.own() if self._tree.exists() else {}
        running = self._server.jails() if own and self._server.installed() else None
        objection = ""
        if running is not None:
            objection = self._objection({})
        ours = set(enabled_jails(own))
        was = _REMARKED.search(own.get(ADDRESSES, ""))
        before = was[1] if was else ""
        self._files_diff(own, {})
        if not self._check:
            self._tree.put({}, own)
            if running is not None and "stopped" in before and set(running) <= ours:
                self._stop()
                out.done.append("stopped")
            elif running is not None and objection:
                out.warnings.append(
                    f"without sipguard's files fail2ban's configuration does not load ({objection}); what else it does goes on "
                    "until it is restarted"
                )
                for name in sorted(ours & set(running)):
                    self._server.stop(name)
            elif running is not None:
                self._go_on(ours)
                out.done.append("reloaded")
            if "disabled" in before and self._systemd():
                self._host.run(["systemctl", "--quiet", "disable", _UNIT])
                out.done.append("disabled")
        if all(self._netfilter.which(command) for command in NEEDED):
            self._take_rule_away()
        return out

    def _take_rule_away(self) -> None:
        snapshot, engine = self._snapshot()
        names = [name for name in (JAILS + family.suffix for family in FAMILIES) if name in snapshot.headers]
        targets = {
            family: snapshot.policy(family, "filter").with_drop(JAILS, wanted=False) for family in engine.families
        }
        self._converge(engine, snapshot, targets)
        self._out.add("".join(f"set {name}\n" for name in names), "")
        if self._check or not names:
            return
        # Sets are left of a server that was killed.
        left = jail_sets(self._netfilter, sets.read_headers(self._netfilter)).values()
        sets.restore(
            self._netfilter,
            "".join(f"destroy {name}\n" for name in [*names, *(each for found in left for each in found)]),
        )


# What the service was before, in the words of the file: it is that again when the file goes.
_REMARKED = re.compile(r"^# Before sipguard fail2ban was (.+)\.$", re.MULTILINE)
_HEAD = "# Written by sipguard.pbx. Changes made here are overwritten; what jail.local or jail.d/*.local say counts.\n"


def _remark(own: Mapping[str, str], stopped: bool, disabled: bool) -> str:
    """The line that is there, or that a first run writes; "" where the service was on."""
    if ADDRESSES in own:
        found = _REMARKED.search(own[ADDRESSES])
        return f"{found[0]}\n" if found else ""
    words = ["stopped"] * stopped + ["disabled"] * disabled
    return f"# Before sipguard fail2ban was {' and '.join(words)}.\n" if words else ""


def _taken(name: str, options: Mapping[str, str], foreign: Iterable[Section]) -> Section | None:
    """What somebody else says of a jail that is not ours by name: of the same one, or of another with the same filter."""
    if name.startswith(_OURS):
        return None
    mine = Section(name, "", options)
    for section in foreign:
        if section.name == name or section.filter == mine.filter:
            return section
    return None


def _with_our_action(files: Mapping[str, str]) -> frozenset[str]:
    """Jails that ban with our action, and with nothing else."""
    return frozenset(
        name
        for path, text in files.items()
        if path.startswith("jail.d/")
        for name, options in sections(text, path).items()
        if re.fullmatch(rf"{_ACTION}(?:\[[^\]]*\])?", options.get("action", "").strip())
    )
