# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way of a run: find Asterisk and its drivers, plan, write, reload, read back, and put everything back on any doubt.

There is no program that checks a configuration without loading it. So Asterisk itself is the check: what it complains about while it
reads the new files, and what it says its settings are afterwards. If either is wrong the old files are put back and read again.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .._sip.errors import OptionError, SipguardError
from . import freepbx, notes, plans
from .cli import Cli, Version
from .companions import parse_logger, prepare_files
from .placing import Change
from .planner import Plan
from .readback import GLANCE, SAMPLE, missing, read_back
from .reload import Reloaded, reload
from .runner import Runner
from .transaction import BACKUPS, Transaction, forget_backup, sweep
from .tree import ConfigDirectory, load, shown

__all__ = ["Asterisk", "Outcome", "Request", "find", "harden"]

_NO_CHAN_SIP = 21
# Whoever has taken Asterisk over says where its logs are; it stands in a file of root's for logrotate.
_PLAIN = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._+-]+)+/?|/")


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
    only: Sequence[str] = plans.PARTS
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
    log_owner: tuple[str, str] = ("", "")

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
        if driver not in plans.DRIVERS:
            raise OptionError("drivers", driver, f"one of {', '.join(plans.DRIVERS)} would be right")
    directory = ConfigDirectory(config_dir)
    cli = Cli(runner, config_dir)
    running = cli.running()
    version = cli.version()
    if version is not None and not os.path.isdir(config_dir):
        raise OptionError("config_dir", request.config_dir, "the directory of Asterisk's configuration would be right")
    host = freepbx.detect()
    if host is not None and os.path.realpath(host.config_dir) != os.path.realpath(config_dir):
        host = None
    used = _used(directory, cli, version, running)
    for driver in request.drivers:
        if driver not in used:
            raise OptionError("drivers", driver, f"this host uses {', '.join(used) or 'neither'} ({config_dir})")
    logs = cli.directories()["astlogdir"] if version is not None else ""
    if request.logger is not None and request.state == "present" and not _PLAIN.fullmatch(logs or "/"):
        raise SipguardError(
            f"astlogdir is {shown(logs)}, which logrotate would read as something else; letters, digits and signs of ._+- between"
            " slashes would be right, or no log files of ours"
        )
    user = _user(cli) if running else ""
    owner = _log_owner(user, logs, request) if logs else ("", "")
    return Asterisk(cli, directory, version, running, tuple(request.drivers) or used, host, logs, user, owner)


def _user(cli: Cli) -> str:
    """Whose process Asterisk is; empty where that cannot be told."""
    try:
        with open(f"/proc/{cli.pid()}/status", encoding="ascii", errors="replace") as status:
            found = re.search(r"^Uid:\s+\d+\s+(\d+)", status.read(), re.MULTILINE)
        return pwd.getpwuid(int(found.group(1))).pw_name if found else ""
    except (OSError, KeyError):
        return ""


def _log_owner(user: str, logs: str, request: Request) -> tuple[str, str]:
    """Who may rotate log files there, and that user's group: who writes them. Of an Asterisk that does not run, whose they are.

    Then never root in a folder of somebody else, who could have root rotate any file.
    """
    names = parse_logger(request.logger).files if request.logger is not None else {}
    uid = 0
    for path in (logs, *(os.path.join(logs, name) for name in names)):
        with contextlib.suppress(OSError):
            uid = uid or os.lstat(path).st_uid
    try:
        entry = pwd.getpwnam(user) if user else pwd.getpwuid(uid)
        return entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name
    except KeyError:
        return "", ""


def _used(directory: ConfigDirectory, cli: Cli, version: Version | None, running: bool) -> tuple[str, ...]:
    """The drivers with a configuration that this Asterisk has loaded, or would load."""
    found = [driver for driver, file in plans.FILES.items() if directory.read(file) is not None]
    if "chan_sip" in found and version is not None and version.major >= _NO_CHAN_SIP:
        found.remove("chan_sip")
    if running:
        loaded = cli.modules()
        found = [driver for driver in found if {"chan_sip": "chan_sip", "pjsip": "res_pjsip"}[driver] in loaded]
    if "pjsip" in found:
        tree = load(directory, "pjsip.conf")
        if not tree.objects() and not tree.problems:
            # a sample in which everything is a comment
            found.remove("pjsip")
    return tuple(found)


def harden(asterisk: Asterisk, request: Request, check: bool) -> Outcome:
    """Make the host what ``request`` says. Raises SipguardError, and then everything is as it was."""
    if asterisk.version is None:
        return Outcome()
    wanted = plans.Wanted(
        asterisk.directory,
        asterisk.drivers,
        asterisk.number,
        asterisk.host,
        request.profile,
        request.settings,
        request.exceptions,
        request.logger,
        request.manager,
        tuple(request.only) or plans.PARTS,
    )
    made = plans.absent(wanted) if request.state == "absent" else plans.present(wanted)
    if not check:
        sweep(_folders(asterisk, made))
    outcome = Outcome()
    files: dict[str, bytes] = {}
    expected: dict[str, bytes | None] = {}
    for plan in made:
        for name, content in plan.files.items():
            if name in files and files[name] != content:
                raise SipguardError(
                    f"{shown(name)}: two configurations include it, so it cannot be edited for one of them"
                )
            files[name] = content
            document = plan.tree.files.get(name)
            expected[name] = document.render() if document else None
        outcome.changes += plan.changes
        outcome.warnings += plan.left
    outcome.changed = bool(files)
    outcome.files = files
    outcome.before, outcome.after = _diff(made)
    todo = sorted({plan.tree.name for plan in made if plan.files})
    reloads = request.reload and asterisk.running
    if files and request.reload and not asterisk.running:
        # What stood there before us, a log file and a user of AMI may wait for the next start. Settings of every telephone may not.
        unseen = f"Asterisk does not run, so nobody could see what it makes of {', '.join(todo)}"
        refused = request.state == "present" and "settings" in request.only
        if refused and not check:
            raise SipguardError(f"{unseen}; start it, or set reload to false")
        outcome.warnings.append(
            unseen + (": it has to be started first" if refused else ": it reads that when it starts")
        )
    if files and not check:
        full = {asterisk.directory.full(name): content for name, content in files.items()}
        before = {asterisk.directory.full(name): content for name, content in expected.items()}
        transaction = Transaction(full, before)
        transaction.prepare()
        try:
            if request.backup:
                outcome.backup = transaction.backup(request.backup_dir)
            _apply(asterisk, request, reloads, made, todo, transaction, outcome)
        except SipguardError:
            # a run that has changed nothing must not push out what an earlier one has kept
            if outcome.backup and transaction.is_undone():
                forget_backup(outcome.backup)
            raise
        finally:
            transaction.forget()
    elif not files and reloads:
        _look(asterisk, made, check, outcome)
    if not check:
        told = sorted(
            {f"{shown(each.file)} [{shown(each.section)}] {each.option}" for each in outcome.changes if each.restart}
        )
        if request.state == "absent":
            notes.forget(notes.RESTART)
        elif asterisk.running:
            notes.add(asterisk.cli, notes.RESTART, told)
    outcome.restart_needed = notes.read(asterisk.cli, notes.RESTART) if asterisk.running else []
    return outcome


def _folders(asterisk: Asterisk, made: Sequence[Plan]) -> set[str]:
    """Where a run that was killed may have left something."""
    names = {name for plan in made for name in plan.tree.files if not os.path.isabs(name)}
    return {asterisk.directory.path} | {os.path.dirname(asterisk.directory.full(name)) for name in names}


def _diff(made: Sequence[Plan]) -> tuple[str, str]:
    """What changes, a line each with its file and section; never a whole file: it may hold secrets."""
    before: list[str] = []
    after: list[str] = []
    for plan in made:
        for each in plan.changes:
            where = f"{shown(each.file)} [{shown(each.section)}] {shown(each.option)}"
            if each.before is not None:
                before.append(f"{where} = {shown(each.before)}")
            if each.after is not None:
                after.append(f"{where} = {shown(each.after)}")
    return "".join(f"{line}\n" for line in before), "".join(f"{line}\n" for line in after)


# -- write, reload, read back


def _apply(
    asterisk: Asterisk,
    request: Request,
    reloads: bool,
    made: Sequence[Plan],
    todo: Sequence[str],
    transaction: Transaction,
    outcome: Outcome,
) -> None:
    """Commit, let Asterisk read it, look, and undo on any doubt."""
    if asterisk.running:
        notes.add(asterisk.cli, notes.UNREAD, todo)
    if not reloads:
        transaction.commit()
        return
    if request.logger is not None and "logger.conf" in todo:
        prepare_files(asterisk.log_directory, parse_logger(request.logger).files, asterisk.user)
    old: Reloaded | None = None
    done, lost, wrong = _attempt(asterisk, made, todo, transaction, outcome)
    doubts = [*lost, *done.refused]
    if doubts and not wrong:
        # What is wrong with the old files as well is none of our doing.
        old = _undo(asterisk, todo, transaction)
        if (
            old is not None
            and _kinds(done.refused) <= _kinds(old.refused)
            and set(lost) <= set(missing(asterisk.cli, made))
        ):
            transaction.again()
            done, dummy, wrong = _attempt(asterisk, made, todo, transaction, outcome)
            outcome.warnings += [f"as before, and none of our doing: {each}" for each in doubts[:3]]
            doubts = []
    if wrong:
        old = _undo(asterisk, todo, transaction)
    if doubts or wrong:
        said = [*wrong, *doubts]
        more = f"; and {len(said) - 3} more" if len(said) > 3 else ""
        raise SipguardError(f"Asterisk did not take it over, so {_state(old)}: {'; '.join(said[:3])}{more}")
    notes.forget(notes.UNREAD)
    outcome.reloaded = list(done.commands)
    outcome.warnings += [each for each in done.complaints if each not in done.refused]


def _attempt(
    asterisk: Asterisk,
    made: Sequence[Plan],
    todo: Sequence[str],
    transaction: Transaction,
    outcome: Outcome,
) -> tuple[Reloaded, list[str], list[str]]:
    """Commit and reload; which objects are not there, and what Asterisk does not do as it should."""
    identity = asterisk.cli.identity()
    transaction.commit(hold=True)
    try:
        done = reload(asterisk.cli, todo)
        lost = missing(asterisk.cli, made)
        outcome.effective, wrong = read_back(asterisk.cli, made, SAMPLE, done.refused)
        if asterisk.cli.identity() != identity:
            wrong.append("Asterisk was restarted meanwhile")
    except SipguardError as error:
        raise SipguardError(f"{error}; {_state(_undo(asterisk, todo, transaction))}") from error
    except BaseException:
        _undo(asterisk, todo, transaction)
        raise
    return done, lost, wrong


def _state(undone: Reloaded | None) -> str:
    """What state things are in after `_undo`."""
    return f"the files were put back{' and read again' if undone else ', but Asterisk has not read them again'}"


def _kinds(complaints: Sequence[str]) -> set[str]:
    """Complaints without the numbers of lines, which move."""
    return {re.sub(r"(?<=line )\d+", "#", each) for each in complaints}


def _look(asterisk: Asterisk, made: Sequence[Plan], check: bool, outcome: Outcome) -> None:
    """The files are right; where Asterisk has not read them yet, it does now."""
    outcome.effective, wrong = read_back(asterisk.cli, made, GLANCE)
    since = notes.read(asterisk.cli, notes.UNREAD)
    wrong += [f"{shown(name)} has changed since Asterisk has read it" for name in since]
    if not wrong:
        return
    names = list(dict.fromkeys([*(plan.tree.name for plan in made), *since]))
    outcome.changed = True
    outcome.before = "".join(f"{each}\n" for each in wrong)
    outcome.after = "".join(f"{name} read again\n" for name in names)
    if check:
        return
    done = reload(asterisk.cli, names)
    outcome.reloaded = list(done.commands)
    outcome.effective, wrong = read_back(asterisk.cli, made, SAMPLE, done.refused)
    if wrong:
        raise SipguardError(f"the files are right, but Asterisk does not follow them: {'; '.join(wrong[:3])}")
    outcome.warnings += done.refused
    notes.forget(notes.UNREAD)


def _undo(asterisk: Asterisk, todo: Sequence[str], transaction: Transaction) -> Reloaded | None:
    """Put the old files back and let Asterisk read them; None when it has not."""
    transaction.undo()
    with contextlib.suppress(SipguardError):
        done = reload(asterisk.cli, todo)
        notes.forget(notes.UNREAD)
        return done
    return None
