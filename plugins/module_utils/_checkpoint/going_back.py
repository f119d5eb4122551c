# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a host what it was: rules, files, FreePBX's settings, Asterisk, fail2ban, units. What fails keeps nothing else from it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace

from .._asterisk import freepbx, freepbx_custom_rules, freepbx_settings
from .._asterisk import reload as reloading
from .._asterisk.cli import Cli
from .._asterisk.freepbx_api import Api
from .._asterisk.runner import within
from .._host.fail2ban import Fail2ban
from .._host.journal import Journal, Saved
from .._host.restore import restore_outside
from .._host.sipban import settings as _sipban
from .._host.switch import Switch
from .._netfilter import freepbx_rules
from .._netfilter.lock import exclusive
from .._netfilter.names import FAMILIES
from .._netfilter.runner import NEEDED, CommandError, Runner, output
from .._netfilter.state import State, bring_back, capture
from .._sip.errors import SipguardError
from . import files
from .kept import LOCK_TIMEOUT, Kept, changed, paths, user
from .places import OWN_FOLDERS, OWN_UNITS, Unit, units

__all__ = ["GoingBack"]

_FAIL2BAN, _ASTERISK, _FREEPBX = "fail2ban.service", "asterisk.service", "freepbx.service"
# Seconds in which Asterisk has to answer when it has been started, and those between two questions; seconds for all of FreePBX.
_BOOT, _PAUSE = 90.0, 0.5
_FREEPBX_START = 300


class GoingBack:
    """One way back. What fails does not keep the rest from coming back."""

    def __init__(self, runner: Runner, kept: Kept) -> None:
        self._runner, self._kept = runner, kept
        self._done: list[str] = []
        self._problems: list[str] = []

    def carry_out(self) -> list[str]:
        """Returns what was done. Raises SipguardError with what could not be."""
        self._take_back_pending()
        now = self._units()
        found: list[str] = []
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive(LOCK_TIMEOUT))
            except SipguardError as error:  # a host that is worse is worse than two at work
                self._problems.append(f"going back without the lock: {error}")
            for name in OWN_UNITS[:-2]:  # the two that load rules at boot have nothing running
                if name in now and now[name].active:
                    self._try("systemctl", "stop", name)
            self._user()
            self._custom_rules(on=True)
            self._rules()
            found = self._files()
            self._journal()
        if any(path.startswith("/etc/systemd/") for path in found) and now:
            self._try("systemctl", "daemon-reload")
        self._freepbx(found)
        self._asterisk([path for path in found if path.startswith(f"{self._kept.config_dir}/")])
        self._fail2ban(any(path.startswith("/etc/fail2ban/") for path in found), now)
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
        if self._kept.user is None or user() is not None:
            return
        number, group = (str(each) for each in self._kept.user)
        self._try("groupadd", "--system", "--force", "--gid", group, _sipban.USER)
        self._try(*_sipban.NEW_USER, "--uid", number, "--gid", group, "--comment", _sipban.COMMENT, _sipban.USER)

    def _rules(self) -> None:
        if not all(self._runner.which(command) for command in NEEDED):
            return
        try:
            back = bring_back(self._runner, State.parse(self._kept.rules))
            self._done += back.done
            self._problems += back.problems
        except SipguardError as error:
            self._problems.append(str(error))

    def _files(self) -> list[str]:
        """Returns the paths that were put back."""
        found, problems = changed(self._kept, paths(self._kept.config_dir))
        self._problems += problems
        needed = {*files.folders(path for path in found if path in self._kept.entries), *OWN_FOLDERS}
        for folder in sorted(needed & self._kept.folders.keys()):
            try:
                if files.put_folder(folder, *self._kept.folders[folder]):
                    self._done.append(f"folder {folder}")
            except SipguardError as error:
                self._problems.append(str(error))
        # What is put back first is there when that which points to it comes; but a disk that is full has room only afterwards.
        new = [path for path in found if path in self._kept.entries]
        old = [path for path in found if path not in self._kept.entries]
        again = [path for path in new if not self._put(path, last=False)]
        for path in old + again:
            self._put(path)
        return found

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
        journal = Journal()
        try:
            record = journal.record()
        except SipguardError:  # it leads nowhere, and says so itself
            return
        if before is None or record.mark() == before:
            return
        try:
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
            against = self._unknown_lines() if on else ""
            if freepbx_custom_rules.put_back(self._runner, value, against):
                self._done.append("FreePBX's setting customrules")
        except SipguardError as error:
            self._problems.append(f"FreePBX's setting customrules: {error}")

    def _unknown_lines(self) -> str:
        """Why FreePBX may not load its files of custom rules, which are brought back before: going back must shut nobody out."""
        against = freepbx_rules.unknown(FAMILIES, State.parse(self._kept.rules).others)
        loaded = [freepbx_rules.rules_path(family) for family in FAMILIES]
        return against if against and not all(self._put(path) for path in loaded) else ""

    def _freepbx(self, put_back: list[str]) -> None:
        """Its settings; where files that it generates are older than its database now, its pages say that something is to be applied."""
        self._custom_rules(on=False)
        settings = {
            section: {key: value for key, value in keys.items() if (section, key) != ("firewall", "customrules")}
            for section, keys in self._kept.freepbx.items()
        }
        found = freepbx.detect()
        if found is None:
            return
        try:
            if any(settings.values()) and freepbx_settings.restore(found, self._runner, settings):
                self._done.append("FreePBX's settings")
            elif any(found.keeps(path) for path in put_back):
                Api(found, self._runner).say_pending()
                self._done.append("FreePBX's note that something is to be applied")
        except SipguardError as error:
            self._problems.append(str(error))

    def _asterisk(self, put_back: list[str]) -> None:
        """Let Asterisk read what it had before; one that ran and does not any more is started."""
        if self._kept.health["asterisk"] != "runs":
            return
        cli = Cli(self._runner, self._kept.config_dir)
        try:
            if not cli.running():
                self._start_asterisk(cli)
            elif put_back:
                names = [name for name in reloading.FILES if os.path.exists(f"{self._kept.config_dir}/{name}")]
                reloading.reload(cli, names)
                self._done.append("Asterisk was reloaded")
                if {os.path.basename(path) for path in put_back} & set(reloading.RESTART):
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
            self._runner.run([*within(self._runner, _FREEPBX_START), found.fwconsole, "start"])
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
        if user() is not None and self._kept.user is None:
            self._try("userdel", _sipban.USER)
