# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is wanted to a sipband that hears Asterisk: look, then user, files, rules and service; and back again on any doubt."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import pwd
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._asterisk.cli import Cli
from .._host import bans, protected, registrations
from .._host.install import Installation
from .._host.sipban import published, settings, units
from .._host.sipban.client import plain, tell
from .._host.sipban.settings import Settings
from .._host.sipban.values import OURS
from .._netfilter import sets
from .._netfilter.engine import Engine, Snapshot
from .._netfilter.names import BANNED, FAMILIES, KNOWN, MAX_TIMEOUT, TRUSTED, Family, is_own_set
from .._netfilter.persist import Store, boot_loader
from .._netfilter.policy import Policy
from .._netfilter.runner import NEEDED, Runner, output
from .._netfilter.sets import LEARNED
from .._sip.addresses import Network
from .._sip.errors import OptionError, SipguardError
from .files import File, Files, Link
from .manager import ManagerUser, read_user

__all__ = ["Outcome", "Request", "apply"]

_UNIT = "sipband.service"
_TIMER = "sipguard-known.timer"
_SYSTEMD = "/etc/systemd/system"
_WANTS = {
    units.SERVICE: f"{_SYSTEMD}/multi-user.target.wants/{_UNIT}",
    units.KNOWN_TIMER: f"{_SYSTEMD}/timers.target.wants/{_TIMER}",
}
# What a sipband that runs has read when it started.
_RESTARTS = frozenset(
    [
        *units.programs(),
        units.SERVICE,
        settings.SETTINGS,
        settings.AMI_SECRET,
        settings.TOKEN,
        settings.CROWDSEC_PASSWORD,
        settings.CROWDSEC_KEY,
    ]
)
_METRICS_LINK = "sipban.prom"
_PATIENCE = 20.0  # s, for a service that starts and logs in
_POLL = 0.1  # s
_FLEET_PATIENCE = 5.0  # s, for a CrowdSec somewhere else
_CAP_SYS_ADMIN = 21  # linux/capability.h
_SYSTEMD_LIBRARIES = ("/usr/lib/systemd", "/lib/systemd", "/usr/lib/*-linux-gnu*/systemd")
_SEALS_ALWAYS = 252
# Where the published program puts itself.
_OLD = ("/etc/systemd/system/sipban.service", "/lib/systemd/system/sipban.service", "/etc/init.d/sipban")


@dataclass(frozen=True)
class Request:
    """The options of M(sipban_service). ``wanted`` are the settings without what is found out on the host (the way to AMI)."""

    state: str = "present"
    wanted: Settings = field(default_factory=Settings)
    # Times that nobody has given are those of a published configuration, where there is one.
    ban_time_given: bool = True
    config_dir: str = "/etc/asterisk"
    manager_user: str = "sipguard"
    # A published sipban.conf to take over, "" for none.
    published: str = ""
    crowdsec_password: str = field(default="", repr=False)
    crowdsec_key: str = field(default="", repr=False)
    metrics_dir: str = ""
    backend: str = "auto"
    persist: bool = True
    lock_timeout: int = 30


@dataclass
class Outcome:
    """What a run did, or in check mode would have done."""

    before: str = ""
    after: str = ""
    changed: bool = False
    asterisk: bool = False
    ami: str = ""
    missing_packages: list[str] = field(default_factory=list)
    missing_manager: str = ""
    done: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    imported: int = 0
    persisted: bool = True
    boot: str = ""
    # After absent: whether nothing else on the host needs sipguard's command and units.
    alone: bool = False

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
        self._out = Outcome(boot=boot_loader() or "")
        self._dump: list[tuple[Network, int]] = []
        self._digest = ""

    # -- present

    def present(self) -> Outcome:
        out, request = self._out, self._request
        out.asterisk = self._host.which("asterisk") is not None
        out.missing_packages = [name for name in ("iptables", "ipset") if self._host.which(name) is None]
        if not out.asterisk:
            self._refuse("there is no Asterisk on this host, so nothing that sipband could listen to")
            return out
        if not _booted():
            self._refuse("sipband is a service of systemd, which does not run here")
            return out
        if request.wanted.crowdsec_ca_file and not os.path.isfile(request.wanted.crowdsec_ca_file):
            raise OptionError("crowdsec.ca_file", request.wanted.crowdsec_ca_file, "a file on the host would be right")
        manager = read_user(request.config_dir, request.manager_user)
        out.missing_manager = manager.lacking
        self._require()
        if manager.rights:
            out.warnings.append(
                f"AMI's user {request.manager_user} may do more than read security events ({manager.rights}); sipband needs no more"
            )
        wanted = self._settings(manager)
        library = Installation(self._host).install_command(check=True)
        files = self._files(wanted, manager, library.version)
        user = _user_exists()
        snapshot, engine = self._snapshot()
        before = {family: snapshot.policy(family, "filter") for family in engine.families}
        targets = {
            family: policy.with_drop(BANNED).with_known(bool(wanted.known_for)) for family, policy in before.items()
        }
        running, enabled = self._active(_UNIT), not wanted.known_for or self._active(_TIMER)
        out.add("", "".join(f"package {name}\n" for name in out.missing_packages))
        out.add("", f"manager.conf: {out.missing_manager}\n" if out.missing_manager else "")
        out.add("", "" if user else f"user {settings.USER}\n")
        out.add(library.before if library.changed else "", library.after if library.changed else "")
        out.add(*files.diff())
        out.changed |= bool(files.outdated())
        self._converge(engine, snapshot, targets)
        bans_now = self._imported(snapshot, wanted)
        out.add("", "".join(f"banned {each.member}: {each.reason}\n" for each in bans_now))
        out.imported = len(bans_now)
        out.add("" if running else f"{_UNIT}: stopped\n", "" if running else f"{_UNIT}: running\n")
        out.add("" if enabled else f"{_TIMER}: stopped\n", "" if enabled else f"{_TIMER}: running\n")
        if self._check:
            return out
        try:
            restart = not running or bool(_RESTARTS.intersection(files.outdated()))
            self._carry_out(files, wanted, bans_now, user=user, restart=restart)
        except BaseException as error:
            problems = self._undo(files, running, user, engine, before)
            if isinstance(error, SipguardError):
                raise SipguardError("; going back failed as well: ".join([str(error), *problems])) from error
            raise
        out.ami = self._hears(wanted, changed=bool(out.done), engine=engine, undo=(files, running, user, before))
        return out

    def _refuse(self, why: str) -> None:
        """In check mode the role asks what there is."""
        if not self._check:
            raise SipguardError(why)

    def _require(self) -> None:
        """In check mode what is missing is only told."""
        out = self._out
        if self._check:
            return
        if out.missing_packages:
            raise SipguardError(f"packages are missing: {', '.join(out.missing_packages)}; install them first")
        if out.missing_manager:
            raise SipguardError(
                f"{out.missing_manager}: the role pbx_sipban makes such a user unless pbx_sipban_manager is false, and so does the "
                "module asterisk_sip_hardening with its option manager"
            )

    def _settings(self, manager: ManagerUser) -> Settings:
        """With the way to AMI, and with what the published program knew. Raises SipguardError."""
        request = self._request
        wanted = replace(
            request.wanted,
            ami_host=manager.host,
            ami_port=manager.port,
            ami_user=request.manager_user,
            ami_web=manager.web,
        )
        if not request.published:
            return wanted
        conf = published.read_conf(_read(request.published), request.published)
        self._out.ignored = {**conf.ignored, **dict.fromkeys(conf.unknown, "no option of any published version")}
        white = [str(each) for each in _optional(conf.white_list, published.read_white_list)]
        wanted = replace(wanted, white_list=tuple(dict.fromkeys([*wanted.white_list, *white])))
        if not request.ban_time_given:
            seconds = min(conf.ban, MAX_TIMEOUT)
            wanted = replace(wanted, ban_time=seconds, ban_time_max=max(seconds, wanted.ban_time_max))
        if os.path.exists(conf.dump):
            text = _read(conf.dump)
            self._digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
            self._dump = published.read_dump(text, conf.dump, os.stat(conf.dump).st_mtime)
        old = [path for path in _OLD if os.path.exists(path)]
        if old:
            self._out.warnings.append(
                f"the published SIPban is still on this host ({old[0]}): stop and remove it, or both ban, each for itself"
            )
        return wanted

    def _files(self, wanted: Settings, manager: ManagerUser, version: str) -> Files:
        group = settings.USER
        known = bool(wanted.known_for)
        found: dict[str, File | Link] = {path: File(text, 0o755) for path, text in units.programs().items()}
        texts = units.units(
            version, ami_host=wanted.ami_host, alone=not wanted.crowdsec_url, known=known, sealed=_can_seal()
        )
        found.update({path: File(text) for path, text in texts.items()})
        found.update({_WANTS[path]: Link(path) for path in texts if path in _WANTS})
        found[settings.SETTINGS] = File(wanted.render(), 0o640, group)
        found[settings.AMI_SECRET] = File(f"{manager.secret}\n", 0o640, group, secret=True)
        if wanted.console_port:
            token = (_there(settings.TOKEN) or secrets.token_urlsafe(24)).strip()
            found[settings.TOKEN] = File(f"{token}\n", 0o640, group, secret=True)
        if wanted.crowdsec_url:
            for path, secret in (
                (settings.CROWDSEC_PASSWORD, self._request.crowdsec_password),
                (settings.CROWDSEC_KEY, self._request.crowdsec_key),
            ):
                found[path] = File(f"{secret}\n", 0o640, group, secret=True)
        taken = _there(settings.IMPORTED).split()
        if self._digest and self._digest not in taken:
            taken.append(self._digest)
        else:
            self._dump = []
        if taken:
            found[settings.IMPORTED] = File("".join(f"{each}\n" for each in taken), 0o644)
        folder = self._request.metrics_dir
        if folder and os.path.isdir(folder):
            found[f"{folder}/{_METRICS_LINK}"] = Link(settings.METRICS)
        return Files(_every(folder), found)

    def _imported(self, snapshot: Snapshot, wanted: Settings) -> list[bans.Ban]:
        """Bans of a published dump that have time left and are none yet; who must not be banned is left out."""
        if not self._dump:
            return []
        guarded = protected.find(self._netfilter, snapshot.headers, sessions=False)
        guarded += [protected.Protected(each, "on the white list") for each in wanted.white_list]
        known = registrations.known(self._netfilter, snapshot.headers)
        guarded += [protected.Protected(each, "a source that has logged in") for each in known]
        live = bans.read_live(self._netfilter, snapshot.headers)
        found = []
        for network, until in self._dump:
            left = min(until - int(time.time()), MAX_TIMEOUT) if until else 0
            family = next(each for each in FAMILIES if each.version == network.version)
            if (until and left <= 0) or sets.member_text(network) in live[family]:
                continue
            try:
                bans.require_bannable([network], guarded)
            except bans.Refusal as error:
                why = "; ".join(error.refused.values())
                self._out.warnings.append(f"a ban of the published SIPban is not taken over: {why}")
                continue
            found.append(bans.Ban(network, left, f"{OURS}from the published SIPban"))
        return found

    def _snapshot(self) -> tuple[Snapshot, Engine]:
        backend = Store().backend() if self._request.backend == "auto" else self._request.backend
        engine = Engine(self._netfilter, backend, self._request.lock_timeout)
        return engine.snapshot(), engine

    def _converge(self, engine: Engine, snapshot: Snapshot, targets: Mapping[Family, Policy]) -> None:
        outcome = engine.converge(targets, snapshot, persist=self._request.persist, check=self._check)
        self._out.add(outcome.before if outcome.changed else "", outcome.after if outcome.changed else "")
        self._out.changed |= outcome.changed
        self._out.persisted = outcome.persisted
        self._out.warnings += outcome.warnings

    # -- the service

    def _systemctl(self, *words: str) -> None:
        output(self._host, ["systemctl", "--quiet", *words])

    def _active(self, unit: str) -> bool:
        return self._host.run(["systemctl", "--quiet", "is-active", unit]).returncode == 0

    def _carry_out(
        self, files: Files, wanted: Settings, taken: Sequence[bans.Ban], *, user: bool, restart: bool
    ) -> None:
        """Raises SipguardError."""
        out = self._out
        if not user:
            output(self._host, [*settings.NEW_USER, "--user-group", "--comment", settings.COMMENT, settings.USER])
        Installation(self._host).install_command(check=False)
        changed = files.outdated()
        if changed:
            os.makedirs(settings.DIRECTORY, exist_ok=True)
            os.chown(settings.DIRECTORY, 0, pwd.getpwnam(settings.USER).pw_gid)
            os.chmod(settings.DIRECTORY, 0o750)
        if not wanted.known_for and self._active(_TIMER):
            self._systemctl("stop", _TIMER)
        # Now that its group is there.
        files.write()
        sets.restore(self._netfilter, "".join(each.add(f"{BANNED}{each.network.version}") for each in taken))
        if any(path.startswith(_SYSTEMD) for path in changed):
            self._systemctl("daemon-reload")
        if restart:
            if self._failed():
                self._systemctl("reset-failed", _UNIT)
            self._restart()
            out.done.append("restarted" if units.SERVICE in files.before else "started")
        if wanted.known_for and not self._active(_TIMER):
            self._systemctl("start", _TIMER)

    def _restart(self) -> None:
        """Raises SipguardError with what the service, or systemd, has said."""
        done = self._host.run(["systemctl", "--quiet", "restart", _UNIT])
        if done.returncode:
            since = ["--no-pager", "--quiet", "--output=cat", "--lines=8"]
            said = self._host.run(["journalctl", *since, f"--unit={_UNIT}", "--priority=warning"]).stdout.splitlines()
            lines = [ascii(line)[1:-1] for line in said if line.strip()][-3:]
            raise SipguardError(f"sipband does not start: {'; '.join(lines) or done.stderr.strip()}")

    def _failed(self) -> bool:
        return self._host.run(["systemctl", "--quiet", "is-failed", _UNIT]).returncode == 0

    def _hears(self, wanted: Settings, *, changed: bool, engine: Engine, undo: Any) -> str:
        """What the service says of AMI. Raises SipguardError when it cannot log in to an Asterisk that runs."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            found = tell("status") or {}
            said = plain(found.get("ami_said") or "sipband does not answer")
            if found.get("ami") and found.get("ami_hears"):
                if wanted.crowdsec_url and changed:
                    self._ask_fleet()
                return said
            if not changed or not Cli(self._host, self._request.config_dir).running():
                self._out.warnings.append(f"sipband does not hear Asterisk: {said}")
                return said
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        files, running, user, before = undo
        problems = self._undo(files, running, user, engine, before)
        raise SipguardError(
            "; going back failed as well: ".join([f"sipband cannot listen to Asterisk: {said}", *problems])
        )

    def _ask_fleet(self) -> None:
        """Warn where bans are not shared; they go on without."""
        deadline = time.monotonic() + _FLEET_PATIENCE
        said = ""
        while time.monotonic() < deadline:
            found = (tell("status") or {}).get("fleet")
            found = found if isinstance(found, dict) else {}
            if found.get("reachable"):
                return
            said = plain(found.get("said") or "it is not asked")
            time.sleep(_POLL)
        self._out.warnings.append(f"bans are not shared: {said}")

    def _undo(
        self, files: Files, running: bool, user: bool, engine: Engine, before: Mapping[Family, Policy]
    ) -> list[str]:
        """Files, service, user and rules as they were, as far as each can be; what went wrong with that, a sentence each."""
        problems = []
        for step in (
            lambda: self._systemctl("stop", _UNIT) if self._active(_UNIT) and not running else None,
            files.undo,
            lambda: self._systemctl("daemon-reload"),
            lambda: self._systemctl("restart", _UNIT) if running else None,
            lambda: None if user else self._remove_user(),
            lambda: engine.converge(before, engine.snapshot(), persist=self._request.persist, check=False),
        ):
            try:
                step()
            except SipguardError as error:
                problems.append(str(error))
        with contextlib.suppress(OSError):
            os.rmdir(settings.DIRECTORY)
        return problems

    # -- absent

    def absent(self) -> Outcome:
        """Service, files, user, bans of sipband's and rules go; bans of others stay."""
        out = self._out
        files = Files(_every(self._request.metrics_dir), {})
        out.add(*files.diff())
        folders = [path for path in (settings.STATE, settings.DIRECTORY) if os.path.isdir(path)]
        out.add("".join(f"{path}\n" for path in folders), "")
        user = _user_exists()
        out.add(f"user {settings.USER}\n" if user else "", "")
        if not self._check:
            for unit in (_UNIT, _TIMER, units.KNOWN_SERVICE.rpartition("/")[2]):
                if _booted() and self._active(unit):
                    self._systemctl("stop", unit)
            files.write()
            for path in folders:
                shutil.rmtree(path, ignore_errors=True)
            if files.before and _booted():
                self._systemctl("daemon-reload")
                self._host.run(["systemctl", "--quiet", "reset-failed", _UNIT])
            if user:
                self._remove_user()
        out.alone = True
        if all(self._netfilter.which(command) for command in NEEDED):
            self._take_rules_away()
        return out

    def _remove_user(self) -> None:
        output(self._host, ["userdel", settings.USER])

    def _take_rules_away(self) -> None:
        snapshot, engine = self._snapshot()
        live = bans.read_live(self._netfilter, snapshot.headers)
        mine = [each for found in live.values() for each in found.values() if each.reason.startswith(OURS)]
        self._out.add("".join(f"banned {each.member}: {each.reason}\n" for each in mine), "")
        rest = sum(len(found) for found in live.values()) - len(mine)
        if not self._check:
            script = "".join(f"del {BANNED}{each.network.version} {each.member} -exist\n" for each in mine)
            sets.restore(self._netfilter, script)
        targets = {}
        for family in engine.families:
            policy = snapshot.policy(family, "filter").with_known(wanted=False)
            targets[family] = policy if rest else policy.with_drop(BANNED, wanted=False)
        self._converge(engine, snapshot, targets)
        mine_too = (BANNED, KNOWN, *LEARNED)
        others = [
            name
            for name, header in snapshot.headers.items()
            if is_own_set(name)
            and not name.startswith(mine_too)
            and not (name.startswith(TRUSTED) and not header.entries)
        ]
        self._out.alone = not (rest or others or any(each.members or each.drops for each in targets.values()))
        if rest:
            return
        names = [name for name in (BANNED + family.suffix for family in FAMILIES) if name in snapshot.headers]
        self._out.add("".join(f"set {name}\n" for name in names), "")
        picture = bans.Picture()
        if not self._check:
            sets.restore(self._netfilter, "".join(f"destroy {name}\n" for name in names))
            picture.write({})


def _every(metrics_dir: str) -> list[str]:
    """All files there may be."""
    found = [*units.programs(), units.SERVICE, units.KNOWN_SERVICE, units.KNOWN_TIMER, *_WANTS.values()]
    found += [settings.SETTINGS, settings.AMI_SECRET, settings.TOKEN, settings.IMPORTED]
    found += [settings.CROWDSEC_PASSWORD, settings.CROWDSEC_KEY]
    return [*found, f"{metrics_dir}/{_METRICS_LINK}"] if metrics_dir else found


def _booted() -> bool:
    return os.path.isdir("/run/systemd/system")


def _can_seal() -> bool:
    """Whether systemd can filter a service's system calls here (see units.py)."""
    try:
        with open("/proc/1/status", encoding="ascii", errors="replace") as file:
            bounds = next((line.split()[1] for line in file if line.startswith("CapBnd:")), "0")
    except OSError:
        return True
    if int(bounds, 16) >> _CAP_SYS_ADMIN & 1:
        return True
    libraries = [path for folder in _SYSTEMD_LIBRARIES for path in glob.glob(f"{folder}/libsystemd-shared-*.so")]
    versions = [re.search(r"-(\d+)[^/]*\.so\Z", path) for path in libraries]
    return bool(versions) and all(found is not None and int(found[1]) <= _SEALS_ALWAYS for found in versions)


def _user_exists() -> bool:
    try:
        pwd.getpwnam(settings.USER)
    except KeyError:
        return False
    return True


def _read(path: str) -> str:
    """Raises SipguardError."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        raise SipguardError(f"cannot read {path}: {error.strerror}") from error


def _there(path: str) -> str:
    try:
        return _read(path)
    except SipguardError:
        return ""


def _optional(path: str, read: Any) -> list[Network]:
    return list(read(_read(path), path)) if os.path.exists(path) else []
