# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way of a run: find Asterisk and its drivers, plan, write, reload, read back, and put everything back on any doubt.

There is no program that checks a configuration without loading it. So Asterisk itself is the check: what it complains about while it
reads the new files, and what it says its settings are afterwards. If either is wrong the old files are put back and read again.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pwd
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .._sip.errors import OptionError, SipguardError
from . import catalogue, companions, freepbx, options, planner
from .cli import Cli, NoSuchCommand, Version
from .document import Document
from .edit import marked, reverted
from .effective import Effective, same
from .placing import Change
from .proof import require_editable
from .reload import Reloaded, reload
from .runner import Runner
from .transaction import BACKUPS, Transaction, write_private
from .tree import ConfigDirectory, load

__all__ = ["Asterisk", "Outcome", "Request", "find", "harden"]

DRIVERS = ("chan_sip", "pjsip")
_FILES = {"chan_sip": "sip.conf", "pjsip": "pjsip.conf"}
_NO_CHAN_SIP = 21
# what each restart is still needed for, with the process that has not been restarted
_RESTART = "/var/lib/sipguard/asterisk-restart"
# objects of a kind that are read back one by one, after a change and otherwise
_SAMPLE = 40
_GLANCE = 3
_KINDS = ("endpoint", "aor", "transport")


@dataclass(frozen=True)
class Request:
    """The options of M(asterisk_sip_hardening), checked only as far as a module's argument_spec checks them."""

    config_dir: str = "/etc/asterisk"
    state: str = "present"
    profile: str = "baseline"
    drivers: Sequence[str] = ()
    settings: object = None
    exceptions: object = None
    logger: object = None
    manager: object = None
    reload: bool = True
    backup: bool = True
    backup_dir: str = BACKUPS


@dataclass(frozen=True)
class Asterisk:
    """What there is on the host. ``version`` is None where no Asterisk is installed, ``drivers`` those that are in use."""

    cli: Cli
    directory: ConfigDirectory
    version: Version | None
    running: bool
    drivers: tuple[str, ...]
    host: freepbx.FreePBX | None
    log_directory: str = ""
    user: str = ""

    @property
    def number(self) -> tuple[int, int]:
        return (self.version.major, self.version.minor) if self.version else (0, 0)


@dataclass
class Outcome:
    """``files``: name -> new content. ``before`` and ``after`` are the changes as texts, without any secret."""

    changed: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    before: str = ""
    after: str = ""
    effective: dict[str, dict[str, str]] = field(default_factory=dict)
    reloaded: list[str] = field(default_factory=list)
    restart_needed: list[str] = field(default_factory=list)
    backup: str = ""
    warnings: list[str] = field(default_factory=list)


def find(runner: Runner, request: Request) -> Asterisk:
    """Raises SipguardError, or OptionError for a driver that is none."""
    config_dir = os.path.normpath(request.config_dir)
    if not os.path.isabs(request.config_dir):
        raise OptionError("config_dir", request.config_dir, "an absolute path such as /etc/asterisk would be right")
    for driver in request.drivers:
        if driver not in DRIVERS:
            raise OptionError("drivers", driver, f"one of {', '.join(DRIVERS)} would be right")
    directory = ConfigDirectory(config_dir)
    cli = Cli(runner, config_dir)
    running = cli.running()
    version = cli.version()
    host = freepbx.detect()
    if host is not None and os.path.realpath(host.config_dir) != os.path.realpath(config_dir):
        host = None
    used = _used(directory, cli, version, running)
    for driver in request.drivers:
        if driver not in used:
            raise OptionError("drivers", driver, f"this host uses {', '.join(used) or 'neither'} ({config_dir})")
    logs = cli.directories()["astlogdir"] if version is not None else ""
    return Asterisk(
        cli, directory, version, running, tuple(request.drivers) or used, host, logs, _user(cli) if running else ""
    )


def _user(cli: Cli) -> str:
    """Whose process Asterisk is; empty where that cannot be told."""
    try:
        with open(f"/proc/{cli.pid()}/status", encoding="ascii", errors="replace") as status:
            found = re.search(r"^Uid:\s+\d+\s+(\d+)", status.read(), re.MULTILINE)
        return pwd.getpwuid(int(found.group(1))).pw_name if found else ""
    except (OSError, KeyError):
        return ""


def _used(directory: ConfigDirectory, cli: Cli, version: Version | None, running: bool) -> tuple[str, ...]:
    """The drivers with a configuration that this Asterisk has loaded, or would load."""
    found = [driver for driver, file in _FILES.items() if directory.read(file) is not None]
    if "chan_sip" in found and version is not None and version.major >= _NO_CHAN_SIP:
        found.remove("chan_sip")
    if running:
        loaded = cli.modules()
        found = [driver for driver in found if {"chan_sip": "chan_sip", "pjsip": "res_pjsip"}[driver] in loaded]
    if "pjsip" in found and not load(directory, "pjsip.conf").objects():
        # a sample in which everything is a comment
        found.remove("pjsip")
    return tuple(found)


def harden(asterisk: Asterisk, request: Request, check: bool) -> Outcome:
    """Make the host what ``request`` says. Raises SipguardError, and then everything is as it was."""
    if asterisk.version is None:
        return Outcome()
    plans = _plans(asterisk, request)
    outcome = Outcome()
    files: dict[str, bytes] = {}
    expected: dict[str, bytes | None] = {}
    for plan in plans:
        for name, content in plan.files.items():
            if name in files and files[name] != content:
                raise SipguardError(f"{name}: two configurations include it, so it cannot be edited for one of them")
            files[name] = content
            document = plan.tree.files.get(name)
            expected[name] = document.render() if document else None
        outcome.changes += plan.changes
        outcome.warnings += plan.left
    outcome.changed = bool(files)
    outcome.files = files
    outcome.before, outcome.after = _diff(plans)
    todo = sorted({plan.tree.name for plan in plans if plan.files})
    if files and request.reload and not asterisk.running:
        raise SipguardError(
            f"Asterisk does not run, so nobody could see what it makes of {', '.join(todo)}; start it, or set reload to false"
        )
    if files and not check:
        full = {asterisk.directory.full(name): content for name, content in files.items()}
        before = {asterisk.directory.full(name): content for name, content in expected.items()}
        transaction = Transaction(full, before)
        transaction.prepare()
        if request.backup:
            outcome.backup = transaction.backup(request.backup_dir)
        _apply(asterisk, request, plans, todo, transaction, outcome)
    elif not files and asterisk.running and request.reload and request.state == "present":
        _look(asterisk, plans, check, outcome)
    if not check:
        _remember_restart(asterisk, [each for each in outcome.changes if each.restart])
    outcome.restart_needed = _restart_needed(asterisk)
    return outcome


# -- plans


def _plans(asterisk: Asterisk, request: Request) -> list[planner.Plan]:
    given = request.settings
    catalogue.check_settings(given)
    if request.state == "absent":
        return _reverted(asterisk)
    documented = options.documented() or None
    plans: list[planner.Plan] = []
    for driver in DRIVERS:
        wanted = catalogue.wanted(request.profile, driver, asterisk.number, documented)
        if driver not in asterisk.drivers:
            continue
        settings = catalogue.override(given, wanted, driver, asterisk.number, documented)
        exceptions = catalogue.parse_exceptions(request.exceptions, driver, asterisk.number, documented)
        tree = load(asterisk.directory, _FILES[driver])
        plans.append(planner.make(asterisk.directory, tree, driver, settings, exceptions, asterisk.host))
    if request.logger is not None:
        plans.append(companions.plan_logger(asterisk.directory, companions.parse_logger(request.logger), asterisk.host))
    if request.manager is not None:
        manager = companions.parse_manager(request.manager)
        plans.append(companions.plan_manager(asterisk.directory, manager, asterisk.host))
    return plans


def _reverted(asterisk: Asterisk) -> list[planner.Plan]:
    """What takes our lines out of every file that has some."""
    plans: list[planner.Plan] = []
    for name in ("sip.conf", "pjsip.conf", "logger.conf", "manager.conf"):
        tree = load(asterisk.directory, name)
        plan = planner.Plan(tree)
        for file, document in tree.files.items():
            content = reverted(document)
            if content != document.render():
                plan.files[file] = content
                plan.changes += _taken_back(file, document)
        if plan.files:
            require_editable(tree)
            require_editable(load(ConfigDirectory(asterisk.directory.path, plan.files), name))
            plans.append(plan)
    return plans


def _taken_back(file: str, document: Document) -> list[Change]:
    why = "sipguard takes back what it has written"
    return [
        Change(file, line.number, line.section, line.option, line.now, line.was, why, "", False)
        for line in marked(document)
    ]


def _diff(plans: Sequence[planner.Plan]) -> tuple[str, str]:
    """What changes, a line each with its file and section; never a whole file: it may hold secrets."""
    before: list[str] = []
    after: list[str] = []
    for plan in plans:
        for each in plan.changes:
            where = f"{each.file} [{each.section}] {each.option}"
            if each.before is not None:
                before.append(f"{where} = {each.before}")
            if each.after is not None:
                after.append(f"{where} = {each.after}")
    return "".join(f"{line}\n" for line in before), "".join(f"{line}\n" for line in after)


# -- write, reload, read back


def _apply(
    asterisk: Asterisk,
    request: Request,
    plans: Sequence[planner.Plan],
    todo: Sequence[str],
    transaction: Transaction,
    outcome: Outcome,
) -> None:
    """Commit, let Asterisk read it, look, and undo on any doubt."""
    if not request.reload:
        transaction.commit()
        return
    missing = _missing(asterisk, plans)
    done, doubts, wrong = _attempt(asterisk, plans, todo, transaction, outcome, missing)
    if doubts and not wrong:
        # What Asterisk says of the old files as well is none of our doing.
        old = _undo(asterisk, todo, transaction)
        if old is not None and _kinds(doubts) <= _kinds(old.refused):
            transaction.again()
            done, dummy, wrong = _attempt(asterisk, plans, todo, transaction, outcome, missing)
            outcome.warnings += [f"Asterisk complains, as it did before: {each}" for each in doubts[:3]]
            doubts = []
    if wrong:
        _undo(asterisk, todo, transaction)
    if doubts or wrong:
        said = [*wrong, *doubts]
        more = f"; and {len(said) - 3} more" if len(said) > 3 else ""
        raise SipguardError(
            f"Asterisk did not take it over, so the files were put back and read again: {'; '.join(said[:3])}{more}"
        )
    outcome.reloaded = list(done.commands)
    outcome.warnings += [each for each in done.complaints if each not in done.refused]


def _attempt(
    asterisk: Asterisk,
    plans: Sequence[planner.Plan],
    todo: Sequence[str],
    transaction: Transaction,
    outcome: Outcome,
    missing: Sequence[str],
) -> tuple[Reloaded, list[str], list[str]]:
    """Commit and reload; what Asterisk refuses, and what it does not do as it should."""
    identity = asterisk.cli.identity()
    transaction.commit()
    try:
        done = reload(asterisk.cli, todo)
        outcome.effective, wrong = _read_back(asterisk, plans, missing)
        if asterisk.cli.identity() != identity:
            wrong.append("Asterisk was restarted meanwhile")
    except BaseException:
        _undo(asterisk, todo, transaction)
        raise
    return done, list(done.refused), wrong


def _kinds(complaints: Sequence[str]) -> set[str]:
    """Complaints without numbers: lines move."""
    return {re.sub(r"\d+", "#", each) for each in complaints}


def _look(asterisk: Asterisk, plans: Sequence[planner.Plan], check: bool, outcome: Outcome) -> None:
    """The files are right; where Asterisk has not read them yet, it does now."""
    missing = _missing(asterisk, plans)
    outcome.effective, wrong = _read_back(asterisk, plans, missing, _GLANCE)
    if not wrong:
        return
    names = [plan.tree.name for plan in plans]
    outcome.changed = True
    outcome.before = "".join(f"{each}\n" for each in wrong)
    outcome.after = "".join(f"{name} read again\n" for name in names)
    if check:
        return
    outcome.reloaded = list(reload(asterisk.cli, names).commands)
    outcome.effective, wrong = _read_back(asterisk, plans, missing)
    if wrong:
        raise SipguardError(f"the files are right, but Asterisk does not follow them: {'; '.join(wrong[:3])}")


def _undo(asterisk: Asterisk, todo: Sequence[str], transaction: Transaction) -> Reloaded | None:
    """Put the old files back and let Asterisk read them."""
    transaction.undo()
    with contextlib.suppress(SipguardError):
        return reload(asterisk.cli, todo)
    return None


def _missing(asterisk: Asterisk, plans: Sequence[planner.Plan]) -> list[str]:
    """The objects of the files that Asterisk does not have already now, as ``kind name``."""
    found: list[str] = []
    reader = Effective(asterisk.cli)
    for plan in plans:
        for kind, names in _names(plan).items():
            with contextlib.suppress(NoSuchCommand):
                found += [f"{kind} {name}" for name in reader.missing(kind, names)]
    return found


def _names(plan: planner.Plan) -> dict[str, list[str]]:
    """The objects that have to be there afterwards, by kind."""
    kinds = ("peer",) if plan.tree.name == "sip.conf" else _KINDS
    return {kind: plan.names[kind] for kind in kinds if plan.names.get(kind)}


def _read_back(
    asterisk: Asterisk, plans: Sequence[planner.Plan], missing: Sequence[str], most: int = _SAMPLE
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """What Asterisk says now, by object, of the options that were wanted; and what of it is not as it should be."""
    reader = Effective(asterisk.cli)
    found: dict[str, dict[str, str]] = {}
    wrong: list[str] = []
    for plan in plans:
        for kind, names in _names(plan).items():
            with contextlib.suppress(NoSuchCommand):
                lost = [name for name in reader.missing(kind, names) if f"{kind} {name}" not in missing]
                wrong += [f"the {kind} {name!a} is gone" for name in lost]
        changed = {each.section for each in plan.changes}
        for scope, objects in plan.wanted.items():
            for name in _sample(list(objects), changed, most):
                said = _said(reader, plan.tree.name, scope, name)
                if said is None:
                    continue
                wanted = {each.option: each for each in objects[name] if each.option in said}
                found[f"{plan.tree.name} {scope} {name}" if name != scope else f"{plan.tree.name} {scope}"] = {
                    option: said[option] for option in wanted
                }
                wrong += [
                    f"{option} of {name!a} is {said[option]!a} for Asterisk"
                    for option, setting in wanted.items()
                    if setting.reload != "restart"
                    and not (setting.satisfied(said[option]) or same(setting.value, said[option]))
                ]
    return found, wrong


def _sample(names: list[str], changed: set[str], most: int) -> list[str]:
    """Those that were changed first, then others from all over the list."""
    first = [name for name in names if name in changed][:most]
    rest = [name for name in names if name not in first]
    room = most - len(first)
    step = max(1, len(rest) // room) if room else 1
    return first + (rest[::step][:room] if room else [])


def _said(reader: Effective, file: str, scope: str, name: str) -> dict[str, str] | None:
    with contextlib.suppress(NoSuchCommand, OptionError):
        if (file, scope) == ("sip.conf", "general"):
            return reader.sip_general()
        if (file, scope) == ("sip.conf", "peer"):
            return reader.sip_peer(name)
        if (file, scope) == ("pjsip.conf", "global"):
            return reader.pjsip_global()
        if file == "pjsip.conf" and scope in _KINDS:
            return reader.pjsip(scope, name)
    return None


# -- what only a restart brings


def _remember_restart(asterisk: Asterisk, changes: Sequence[Change]) -> None:
    """Write down what this process of Asterisk has not read yet; forget it when there is another process."""
    path = pathlib.Path(_RESTART)
    waiting = _restart_needed(asterisk)
    waiting += [
        each for each in sorted({f"{one.file} [{one.section}] {one.option}" for one in changes}) if each not in waiting
    ]
    if waiting and asterisk.running:
        text = json.dumps({"process": asterisk.cli.identity(), "for": waiting}) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_private(_RESTART, text)
    elif path.exists():
        path.unlink()


def _restart_needed(asterisk: Asterisk) -> list[str]:
    if not asterisk.running:
        return []
    try:
        noted: Mapping[str, object] = json.loads(pathlib.Path(_RESTART).read_text(encoding="utf-8"))
        waiting = noted["for"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if noted.get("process") != asterisk.cli.identity() or not isinstance(waiting, list):
        return []
    return [str(each) for each in waiting]
