# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host before a run, kept on the host itself: written down, compared with what became of it, brought back, dropped.

It holds what the roles may change: rules and sets of ours, files of ours, Asterisk's configuration, settings of FreePBX that the
inventory names, and which units ran. Packages that were installed stay. It is root's alone, because it holds secrets of Asterisk.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .._asterisk import freepbx, freepbx_custom_rules, freepbx_settings
from .._asterisk import reload as reloading
from .._asterisk.cli import Cli
from .._asterisk.transaction import write_private
from .._host.fail2ban import Fail2ban
from .._host.journal import Journal, Saved
from .._host.restore import restore_outside
from .._host.sipban import settings as _sipban
from .._host.switch import Switch
from .._netfilter.lock import exclusive
from .._netfilter.runner import NEEDED, CommandError, Runner, output
from .._netfilter.state import State, bring_back, capture, differences
from .._sip.errors import OptionError, SipguardError
from . import files
from .files import Entry
from .health import examine, short_of_space, worse
from .places import GROWING, OWN_FOLDERS, OWN_UNITS, PATTERNS, Unit, units

__all__ = ["FOLDER", "Checkpoint", "Request"]

FOLDER = "/var/backups/sipguard"
_NAME = re.compile(r"checkpoint-[0-9a-f]{16}\.tar\.gz")
_MOST = 5
_LONGEST = 7 * 86400  # s that one of a run that never came to its end is kept
_UNFINISHED = re.compile(r"\.sipguard-[0-9a-f]+\.tmp")
_COOKIE = re.compile(r"[0-9a-f]{16}\Z")
_LOCK_TIMEOUT = 60  # s
_ABOUT, _RULES = "about.json", "rules.json"
_FAIL2BAN, _ASTERISK, _FREEPBX = "fail2ban.service", "asterisk.service", "freepbx.service"
# Seconds in which Asterisk has to answer when it has been started, and those between two questions; seconds for all of FreePBX.
_BOOT, _PAUSE = 90.0, 0.5
_FREEPBX_START = 300


@dataclass(frozen=True)
class Request:
    """The options of M(sipguard_checkpoint): where Asterisk's configuration is, the ports it should go on listening to, and the
    settings of FreePBX that the run may change (section -> key -> value)."""

    config_dir: str = "/etc/asterisk"
    ports: tuple[int, ...] = ()
    freepbx: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kept:
    """A checkpoint as it was read."""

    entries: dict[str, Entry]
    rules: State
    health: dict[str, Any]
    units: dict[str, Unit]
    folders: dict[str, list[int]]  # of all files, and ours: mode, owner, group
    journal: dict[str, Any] | None  # whether a state was confirmed, and the cookies of those before it; None: not known
    user: list[int] | None  # its number and its group's
    config_dir: str
    freepbx: dict[str, Any]


class Checkpoint:
    """Those of one host. ``folder`` is where they are."""

    def __init__(self, runner: Runner, request: Request, folder: str = FOLDER) -> None:
        self._runner, self._request, self._folder = runner, request, folder

    @staticmethod
    def require_space() -> None:
        """Raises SipguardError where a run would not find the room it needs."""
        full = short_of_space()
        if full:
            raise SipguardError("; ".join(full))

    # -- the four things a run asks for

    def take(self) -> tuple[str, dict[str, Any]]:
        """Write the host down; returns the cookie and `Health.text`. Raises SipguardError; then nothing was changed."""
        self.require_space()
        with exclusive(_LOCK_TIMEOUT):
            health = examine(self._runner, self._request.config_dir, self._request.ports).text()
            entries = {path: entry for path in self._paths(self._request.config_dir) if (entry := files.look(path))}
            entries.update({path: entry for path in files.find(GROWING) if (entry := files.look(path))})
            folders = {path: files.look_at_folder(path) for path in {*OWN_FOLDERS, *files.folders(entries)}}
            about = {
                "health": health,
                "units": {name: asdict(unit) for name, unit in units(self._runner).items()},
                "folders": {path: about for path, about in folders.items() if about},
                "journal": _journal(),
                "user": _user(),
                "config_dir": self._request.config_dir,
                "freepbx": self._freepbx_settings(),
            }
            data = files.pack(entries, {_ABOUT: json.dumps(about), _RULES: self._rules().render()})
            cookie = secrets.token_hex(8)
            try:
                write_private(self._path(cookie), data)
            except OSError as error:
                raise SipguardError(
                    f"cannot write {self._path(cookie)}: {error.strerror}; nothing was changed"
                ) from error
            self._forget_older()
        return cookie, health

    def compare(self, cookie: str) -> tuple[list[str], dict[str, Any]]:
        """What the host did when the checkpoint was taken and does no more; and `Health.text` of now. Raises SipguardError."""
        kept = self._read(cookie)
        now = examine(self._runner, kept.config_dir, self._request.ports)
        return worse(kept.health, now), now.text()

    def restore(self, cookie: str, check: bool = False) -> list[str]:
        """Make the host what it was; returns what was done. Raises SipguardError, after everything that could be done has been."""
        kept = self._read(cookie)
        if check:
            paths = _changed(kept, self._paths(kept.config_dir))[0]
            return [*differences(self._rules(), kept.rules), *(f"file {path}" for path in paths)]
        return _Return(self._runner, kept, self._paths).carry_out()

    def drop(self, cookie: str) -> bool:
        """Forget a checkpoint; whether there was one. Raises SipguardError."""
        path = self._path(cookie)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise SipguardError(f"cannot remove {path}: {error.strerror}") from error
        return True

    # -- how

    def _path(self, cookie: str) -> str:
        if not _COOKIE.match(cookie):
            raise OptionError("cookie", cookie, "the cookie that state 'taken' returned would be right")
        return os.path.join(self._folder, f"checkpoint-{cookie}.tar.gz")

    def _forget_older(self) -> None:
        """Remove those that runs which were killed have left, but none of a run that may be at work beside this one."""
        with contextlib.suppress(OSError):
            os.chmod(self._folder, 0o700)
        kept = {}
        for name in os.listdir(self._folder):
            path = os.path.join(self._folder, name)
            with contextlib.suppress(OSError):  # another run may drop its own
                age = time.time() - os.lstat(path).st_mtime
                if _UNFINISHED.fullmatch(name) and age > 3600:
                    os.unlink(path)
                elif _NAME.fullmatch(name):
                    kept[path] = age
        newest = sorted(kept, key=kept.__getitem__)[:_MOST]
        for path, age in kept.items():
            if path not in newest or age > _LONGEST:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def _rules(self) -> State:
        if not all(self._runner.which(command) for command in NEEDED):
            return State()
        return capture(self._runner)

    @staticmethod
    def _paths(config_dir: str) -> list[str]:
        return sorted({*files.find(PATTERNS), *files.tree(config_dir)})

    def _freepbx_settings(self) -> dict[str, Any]:
        """What the inventory names, and in any case the setting that decides whether FreePBX bears our rules."""
        found = freepbx.detect()
        if found is None:
            return {}
        before: dict[str, Any] = {}
        if self._request.freepbx:
            before |= freepbx_settings.apply(
                found, self._runner, self._request.freepbx, reload=False, check=True
            ).before
        custom_rules = freepbx_custom_rules.read(self._runner)
        if custom_rules is not None:
            before["firewall"] = {"customrules": custom_rules or None, **before.get("firewall", {})}
        return before

    def _read(self, cookie: str) -> _Kept:
        path = self._path(cookie)
        try:
            with open(path, "rb") as stream:
                data = stream.read()
        except FileNotFoundError:
            raise SipguardError(
                f"there is no checkpoint {cookie} on this host; it was dropped, or never taken"
            ) from None
        except OSError as error:
            raise SipguardError(f"cannot read {path}: {error.strerror}") from error
        entries, notes = files.unpack(data)
        try:
            about = json.loads(notes[_ABOUT])
            return _Kept(
                entries,
                State.parse(notes[_RULES]),
                about["health"],
                {name: Unit(**unit) for name, unit in about["units"].items()},
                about["folders"],
                about.get("journal"),
                about["user"],
                about["config_dir"],
                about["freepbx"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SipguardError(f"{path} is damaged: {type(error).__name__}") from error


class _Return:
    """One way back. What fails does not keep the rest from coming back."""

    def __init__(self, runner: Runner, kept: _Kept, paths: Any) -> None:
        self._runner, self._kept, self._paths = runner, kept, paths
        self._done: list[str] = []
        self._problems: list[str] = []

    def carry_out(self) -> list[str]:
        """Returns what was done. Raises SipguardError with what could not be."""
        self._take_back_pending()
        now = self._units()
        changed: list[str] = []
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive(_LOCK_TIMEOUT))
            except SipguardError as error:  # a host that is worse is worse than two at work
                self._problems.append(f"going back without the lock: {error}")
            for name in OWN_UNITS[:-2]:  # the two that load rules at boot have nothing running
                if name in now and now[name].active:
                    self._try("systemctl", "stop", name)
            self._user()
            self._custom_rules(on=True)
            self._rules()
            changed = self._files()
            self._journal()
        if any(path.startswith("/etc/systemd/") for path in changed) and now:
            self._try("systemctl", "daemon-reload")
        self._freepbx()
        self._asterisk([path for path in changed if path.startswith(f"{self._kept.config_dir}/")])
        self._fail2ban(any(path.startswith("/etc/fail2ban/") for path in changed), now)
        self._own_units(now)
        self._leftovers()
        if self._problems:
            raise SipguardError(f"not everything could be brought back: {'; '.join(self._problems)}")
        return self._done

    def _units(self) -> Mapping[str, Unit]:
        try:
            return units(self._runner)
        except SipguardError as error:
            self._problems.append(str(error))
            return {}

    def _try(self, *argv: str) -> None:
        try:
            output(self._runner, list(argv))
        except CommandError as error:
            self._problems.append(f"{' '.join(argv)}: {error}")

    def _take_back_pending(self) -> None:
        """A change that waits to be confirmed would go back by itself later, over what is brought back here."""
        switch = Switch(self._runner)
        try:
            if switch.journal.pending() is not None:
                self._done.append(switch.rollback().said)
        except SipguardError as error:
            self._problems.append(str(error))

    def _user(self) -> None:
        """sipband's user, with the numbers that its files have."""
        if self._kept.user is None or _user() is not None:
            return
        number, group = (str(each) for each in self._kept.user)
        self._try("groupadd", "--system", "--force", "--gid", group, _sipban.USER)
        self._try(*_sipban.NEW_USER, "--uid", number, "--gid", group, "--comment", _sipban.COMMENT, _sipban.USER)

    def _rules(self) -> None:
        if not all(self._runner.which(command) for command in NEEDED):
            return
        try:
            back = bring_back(self._runner, self._kept.rules)
            self._done += back.done
            self._problems += back.problems
        except SipguardError as error:
            self._problems.append(str(error))

    def _files(self) -> list[str]:
        """Returns the paths that were put back."""
        changed, problems = _changed(self._kept, self._paths(self._kept.config_dir))
        self._problems += problems
        needed = {*files.folders(path for path in changed if path in self._kept.entries), *OWN_FOLDERS}
        for folder in sorted(needed & self._kept.folders.keys()):
            try:
                if files.put_folder(folder, *self._kept.folders[folder]):
                    self._done.append(f"folder {folder}")
            except SipguardError as error:
                self._problems.append(str(error))
        # What is put back first is there when that which points to it comes; but a disk that is full has room only afterwards.
        new = [path for path in changed if path in self._kept.entries]
        old = [path for path in changed if path not in self._kept.entries]
        for path in [path for path in new if not self._put(path, last=False)]:
            old.append(path)
        for path in old:
            self._put(path)
        return changed

    def _put(self, path: str, last: bool = True) -> bool:
        """Whether a file is as it was; what is wrong with it is written down where this is the ``last`` attempt."""
        try:
            files.put(path, self._kept.entries.get(path))
            self._done.append(f"file {path}")
        except SipguardError as error:
            if last:
                self._problems.append(str(error))
            return False
        return True

    def _journal(self) -> None:
        """What the run has confirmed is no state to go back to: the panic command would bring it on again."""
        before = self._kept.journal
        if before is None or _journal() in (before, None):
            return
        try:
            journal = Journal()
            record = journal.record()
            record.history = [saved for saved in record.history if saved.cookie in before["history"]]
            record.confirmed = None
            if before["confirmed"]:
                setting = self._kept.freepbx.get("firewall", {})
                custom_rules = setting["customrules"] or "" if "customrules" in setting else None
                state = replace(capture(self._runner), custom_rules=custom_rules).lasting()
                record.confirmed = Saved(journal.keep(state), time.time(), "")
            journal.close(record)
        except SipguardError as error:
            self._problems.append(str(error))

    def _custom_rules(self, on: bool) -> None:
        """FreePBX's setting customrules, if it was what ``on`` says: it is on for as long as rules of ours may be in table filter."""
        kept = self._kept.freepbx.get("firewall", {})
        value = kept.get("customrules") or ""
        if "customrules" not in kept or freepbx_custom_rules.is_on(value) != on:
            return
        try:
            if freepbx_custom_rules.put_back(self._runner, value):
                self._done.append("FreePBX's setting customrules")
        except SipguardError as error:
            self._problems.append(f"FreePBX's setting customrules: {error}")

    def _freepbx(self) -> None:
        self._custom_rules(on=False)
        settings = {
            section: {key: value for key, value in keys.items() if (section, key) != ("firewall", "customrules")}
            for section, keys in self._kept.freepbx.items()
        }
        found = freepbx.detect() if any(settings.values()) else None
        if found is None:
            return
        try:
            if freepbx_settings.restore(found, self._runner, settings):
                self._done.append("FreePBX's settings")
        except SipguardError as error:
            self._problems.append(str(error))

    def _asterisk(self, changed: list[str]) -> None:
        """Let Asterisk read what it had before; one that ran and does not any more is started."""
        if self._kept.health["asterisk"] != "runs":
            return
        cli = Cli(self._runner, self._kept.config_dir)
        try:
            if not cli.running():
                self._start_asterisk(cli)
            elif changed:
                names = [name for name in reloading.FILES if os.path.exists(f"{self._kept.config_dir}/{name}")]
                reloading.reload(cli, names)
                self._done.append("Asterisk was reloaded")
                if {os.path.basename(path) for path in changed} & set(reloading.RESTART):
                    self._done.append("Asterisk has to be restarted for asterisk.conf and modules.conf")
        except SipguardError as error:
            self._problems.append(str(error))

    def _start_asterisk(self, cli: Cli) -> None:
        """By what starts it on this host. Raises SipguardError when it does not answer afterwards."""
        found = freepbx.detect()
        name = _ASTERISK if found is None else _FREEPBX
        unit = units(self._runner, (name,)).get(name)
        if unit is not None and unit.loaded:
            # FreePBX's unit stays active when Asterisk dies, so starting it would do nothing. And systemd starts nothing that has failed
            # too often.
            self._runner.run(["systemctl", "reset-failed", name])
            output(self._runner, ["systemctl", "restart", name])
        elif found is not None:
            # Its exit status tells little.
            limit = [self._runner.which("timeout") or "timeout", "--kill-after=5", str(_FREEPBX_START)]
            self._runner.run([*limit, found.fwconsole, "start"])
        else:
            raise SipguardError(
                f"Asterisk ran before and does not any more, and there is no {name} to start it: start it by hand"
            )
        end = time.monotonic() + _BOOT
        while not cli.running():
            if time.monotonic() >= end:
                raise SipguardError(f"Asterisk does not answer {_BOOT:.0f} s after it was started: see its log")
            time.sleep(_PAUSE)
        self._done.append("Asterisk was started")

    def _fail2ban(self, changed: bool, now: Mapping[str, Unit]) -> None:
        before = self._kept.units.get(_FAIL2BAN)
        there = now.get(_FAIL2BAN)
        if before is None or there is None or not there.loaded:
            return
        if there.enabled and not before.enabled:
            self._try("systemctl", "--quiet", "disable", _FAIL2BAN)
        if there.active and not before.active:
            self._try("systemctl", "stop", _FAIL2BAN)
        elif before.active and not there.active:
            self._try("systemctl", "restart", _FAIL2BAN)
        elif there.active and changed:
            try:
                Fail2ban(self._runner).reload()
                self._done.append("fail2ban was reloaded")
            except SipguardError:
                self._try("systemctl", "restart", _FAIL2BAN)

    def _own_units(self, now: Mapping[str, Unit]) -> None:
        for name in reversed(OWN_UNITS):
            before = self._kept.units.get(name)
            if before is not None and before.active:
                self._try("systemctl", "start", name)
            elif name in now and now[name].active:
                # Its file is gone by now; systemd remembers a unit of "active (exited)".
                self._runner.run(["systemctl", "stop", name])
        if now:
            self._runner.run(["systemctl", "reset-failed", *OWN_UNITS])
        if any(self._kept.units.get(name, Unit(False, False, False)).loaded for name in OWN_UNITS):
            dummy, errors = restore_outside(self._runner)
            self._problems += errors

    def _leftovers(self) -> None:
        for path in OWN_FOLDERS:
            if os.path.isdir(path) and path not in self._kept.folders:
                shutil.rmtree(path, ignore_errors=True)
                self._done.append(path)
        for tree in files.find(["/usr/local/lib/sipguard-*"]):
            if os.path.isdir(tree) and not any(path.startswith(f"{tree}/") for path in self._kept.entries):
                shutil.rmtree(tree, ignore_errors=True)
        if _user() is not None and self._kept.user is None:
            self._try("userdel", _sipban.USER)


def _user() -> list[int] | None:
    """Number and group of sipband's user, None where there is none."""
    try:
        found = pwd.getpwnam(_sipban.USER)
    except KeyError:
        return None
    return [found.pw_uid, found.pw_gid]


def _journal() -> dict[str, Any] | None:
    """What of the switch's journal tells one record from another; None where it cannot be read."""
    try:
        record = Journal().record()
    except SipguardError:
        return None
    confirmed = asdict(record.confirmed) if record.confirmed else None
    return {"confirmed": confirmed, "history": [saved.cookie for saved in record.history]}


def _changed(kept: _Kept, paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """Paths that are not as they were, and what is wrong with those that cannot be looked at."""
    changed, problems = files.differing(kept.entries, paths)
    alive = set(files.find(GROWING))
    return [path for path in changed if path not in alive], problems
