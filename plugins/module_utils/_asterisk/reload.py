# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let Asterisk read changed files again, wait until it has, and listen to what it complains about meanwhile.

As Asterisk 16.28 and 22.10 behave:

- No answer on the command line says that a file was bad (``Module 'res_pjsip.so' reloaded successfully`` even so); only the log does.
  An unparsable file leaves everything as it was: ``parse error: ...`` (config.c), then ``Contents of ... are invalid and cannot be
  parsed`` (chan_sip.c, res_sorcery_config.c). A PJSIP object with an unknown option or a bad value is not created, or stays as it was:
  ``Could not find option suitable for category``, ``Could not create an object of type``. chan_sip says nothing about unknown options.
- ``module reload`` of PJSIP returns when it is done; it passes over a file whose size and time of change (to the nanosecond) are the
  same. ``sip reload`` only asks the monitor thread to do it and returns at once.
- Messages go through a queue, so they may be in a file a little after the command has returned.
- ``logger add channel`` makes a log of our own, at once and with a first line; the name may be an absolute path. ``logger reload``
  takes away every such channel. The file stays when the channel is removed.
- ``res_pjsip.so`` reads the objects of all PJSIP modules again (acl and identify as well); ``res_pjsip_acl.so`` cannot be reloaded.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from secrets import token_hex

from .._sip.errors import SipguardError
from .cli import Cli, NoSuchCommand, clean
from .effective import Effective
from .transaction import open_folder_of

__all__ = ["FILES", "RESTART", "Reloaded", "commands", "reload"]

# In this order: logger.conf takes the log channel away, and the others refer to named ACLs.
_COMMANDS = {
    "logger.conf": ("logger reload",),
    "acl.conf": ("module reload acl",),
    "manager.conf": ("manager reload",),
    "rtp.conf": ("module reload res_rtp_asterisk.so",),
    "extensions.conf": ("dialplan reload",),
    "sip.conf": ("sip reload",),
    "pjsip.conf": (
        "module reload res_pjsip.so",
        "module reload res_pjsip_endpoint_identifier_ip.so",
        "module reload res_pjsip_outbound_registration.so",
    ),
}
FILES = tuple(_COMMANDS)
RESTART = ("asterisk.conf", "modules.conf")  # read at a start only
_OPTIONAL = ("res_pjsip_endpoint_identifier_ip.so", "res_pjsip_outbound_registration.so")

_PATIENCE = 30.0  # seconds in which a reload has to be done
_PAUSE = 0.05  # seconds between two looks
_STALE = 3600  # seconds after which a folder of ours in the log directory is one of a run that was killed
_LIMIT = 200  # characters of a complaint that are shown
_MOST = 50  # complaints that are shown

_LINE = re.compile(r"^\[.*?\] (WARNING|ERROR|VERBOSE)\[\d+\](?:\[C-[0-9a-f]+\])? (\S+?): (.*)$")
_CONNECTED = "Remote UNIX connection"
_BEGUN = "Reloading SIP"
# What says that a file or an object was not taken over.
_REFUSED = re.compile(
    r"are invalid and cannot be parsed|could not be loaded|Could not create an object|Could not find option suitable"
    r"|parse error|category '.*' does not exist|listed as a #include but|Failing to load|Bad ACL|Unable to (?:open|load)"
    r"|configuration is invalid|Could not reload|Error parsing|No category context"
)
# What a host says at every reload, whatever has changed.
_USUAL = re.compile(r"Unable to load config file 'pjsip_wizard\.conf'")
_SECRET = re.compile(r"(?i)\b(\w*(?:secret|password|passwd|md5|digest|token)\w*)=.*?(?= at line|$)")


@dataclass(frozen=True)
class Reloaded:
    """What was done. ``complaints`` are Asterisk's warnings and errors meanwhile, ``refused`` those that say it did not take
    something over; both are empty when ``heard`` is false: then Asterisk could not be listened to."""

    commands: tuple[str, ...]
    complaints: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    heard: bool = True


def commands(files: Iterable[str]) -> list[str]:
    """The commands that read these files again; names as ``pjsip.conf``, an included file by the name of what includes it.

    Raises SipguardError for a file that only a restart reads, or that is not known.
    """
    wanted = set(files)
    unknown = sorted(wanted - set(_COMMANDS))
    if unknown:
        raise SipguardError(f"{clean(unknown[0])} cannot be read again without a restart of Asterisk")
    return [command for name, several in _COMMANDS.items() if name in wanted for command in several]


def reload(cli: Cli, files: Iterable[str], secrets: Iterable[str] = ()) -> Reloaded:
    """Read the files again (as in `commands`); ``secrets`` are values that must not be in a complaint.

    Raises NotRunning when Asterisk does not run, SipguardError when it has not finished in time.
    """
    todo = commands(files)
    if not todo:
        return Reloaded(())
    cli.command("core waitfullybooted")
    said: list[str] = []
    if todo[0] == "logger reload":
        said += _command(cli, todo[0])
    ear = _Ear(cli)
    try:
        for command in todo:
            against = _command(cli, command) if command != "logger reload" else []
            if command == "sip reload" and not against:
                _await_chan_sip(cli, ear)
            said += against
        said += ear.complaints()
    finally:
        ear.close()
    hidden = [value for value in secrets if value]
    shown = list(dict.fromkeys(_without_secrets(text, hidden) for text in said))[:_MOST]
    return Reloaded(tuple(todo), shown, [text for text in shown if _REFUSED.search(text)], ear.works)


def _without_secrets(text: str, hidden: Iterable[str]) -> str:
    text = _SECRET.sub(r"\1=***", text)
    for value in hidden:
        text = text.replace(value, "***")
    return clean(text, _LIMIT)


def _command(cli: Cli, command: str) -> list[str]:
    """Run one command until it has run; what Asterisk has against it."""
    for dummy in _until_done(command):
        try:
            answer = cli.command(command).strip()
        except NoSuchCommand as error:
            return [f"{command}: Could not reload: {error}"]
        if "already in progress" not in answer and "request queued" not in answer:
            break
    fine = not answer or " reloaded" in answer
    absent = command.endswith(_OPTIONAL) and ("No such module" in answer or "not properly initialized" in answer)
    if fine or absent or "does not support reloads" in answer:
        return []
    return [f"{command}: Could not reload: {answer}"]


def _until_done(what: str) -> Iterator[None]:
    """As often as it takes, with a pause; raises SipguardError when the time is over."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        yield
        time.sleep(_PAUSE)
    raise SipguardError(f"Asterisk has not finished {what!r} within {_PATIENCE:.0f} seconds")


def _await_chan_sip(cli: Cli, ear: _Ear) -> None:
    """Wait until ``sip reload`` is done.

    The monitor thread does one reload after the other and says so as it begins. When it begins one that was asked for later, the first
    has ended. Who cannot hear it waits until two looks show the same.
    """
    if not ear.own:
        before: object = None
        for dummy in _until_done("sip reload"):
            now = cli.command("sip show settings"), cli.command("sip show objects")
            if now == before:
                return
            before = now
    for dummy in _until_done("sip reload"):
        if ear.heard(_BEGUN):
            break
    begun = ear.heard(_BEGUN)
    cli.command("sip reload")
    for dummy in _until_done("sip reload"):
        if ear.heard(_BEGUN) > begun:
            return


class _Ear:
    """A log channel of our own in a folder that only Asterisk's user can read, and that is gone afterwards.

    Where it cannot be made, the end of a log that is there has to do.
    The log directory belongs to Asterisk's user, so nothing in it is trusted: the folder is made and held by its descriptor.
    """

    def __init__(self, cli: Cli) -> None:
        self._cli = cli
        self._asked = 0
        self._logs = cli.directories()["astlogdir"].rstrip("/")
        self._name = f".sipguard-{token_hex(8)}"
        self._path = f"{self._logs}/{self._name}/log"
        self._folder: int | None = None
        self._tails: dict[str, int] = {}
        self.own = False
        if cli.usable(self._path):
            with contextlib.suppress(OSError):
                self._remove_stale()
                self._folder = self._make()
                answer = cli.command(f"logger add channel {self._path} verbose(3),warning,error")
                self.own = not answer.strip() and bool(os.listdir(self._folder))
        if not self.own:
            self._tails = self._existing()
        self.works = self.own or bool(self._tails)

    def _existing(self) -> dict[str, int]:
        """A log that has warnings and errors, and its length in bytes."""
        for path, levels in Effective(self._cli).log_channels().items():
            if {"warning", "error"} <= levels and os.path.isfile(path):
                return {path: os.path.getsize(path)}
        return {}

    def _make(self) -> int:
        user, group = self._owner()
        logs = open_folder_of(self._logs, user, group)
        try:
            os.mkdir(self._name, 0o700, dir_fd=logs)
            folder = os.open(self._name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=logs)
            if os.fstat(folder).st_uid == os.geteuid() and not os.listdir(folder):
                os.fchown(folder, user, group)
            return folder
        finally:
            os.close(logs)

    def _owner(self) -> tuple[int, int]:
        """User and group of Asterisk's process (the owner of its /proc folder is root). Raises OSError where that cannot be told."""
        with open(f"/proc/{self._cli.pid()}/status", encoding="utf-8", errors="replace") as status:
            found = re.findall(r"^[UG]id:\s+\d+\s+(\d+)", status.read(), re.MULTILINE)
        if len(found) != 2:
            raise OSError("nobody knows whose process Asterisk is")
        return int(found[0]), int(found[1])

    def _remove_stale(self) -> None:
        for name in os.listdir(self._logs):
            path = os.path.join(self._logs, name)
            old = re.fullmatch(r"\.sipguard-[0-9a-f]{16}", name) and time.time() - os.lstat(path).st_mtime > _STALE
            if old and os.path.isdir(path) and not os.path.islink(path):
                self._cli.command(f"logger remove channel {path}/log")
                shutil.rmtree(path, ignore_errors=True)

    def _lines(self) -> list[re.Match[str]]:
        """What is in the log so far. ``appendhostname`` may have made its name longer."""
        text = b""
        places = dict.fromkeys(os.listdir(self._folder), 0) if self.own and self._folder is not None else self._tails
        for name, start in places.items():
            with contextlib.suppress(OSError):
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
                with os.fdopen(file, "rb") as log:
                    log.seek(start)
                    text += log.read()
        matches = (_LINE.match(line) for line in text.decode("utf-8", "replace").split("\n"))
        return [match for match in matches if match]

    def heard(self, words: str) -> int:
        """How often Asterisk has begun a message with these words."""
        return sum(match[1] == "VERBOSE" and match[3] == words for match in self._lines())

    def complaints(self) -> list[str]:
        """All warnings and errors until now, the last ones too.

        Each connection to the command line is itself a message in the queue, after all that was said before. It has come when there are
        as many as we made; other consoles may make some too, and ``hideconnect`` shows none, so nothing may be new any more either.
        """
        if not self.works:
            return []
        before = -1
        for dummy in _until_done("writing its log"):
            self._cli.command("core show uptime seconds")
            self._asked += 1
            lines = self._lines()
            made = self.heard(_CONNECTED)
            said = [match for match in lines if match[1] != "VERBOSE"]
            if len(said) == before and (not self.own or made == 0 or made >= self._asked):
                break
            before = len(said)
        return [f"{match[1]} {match[2]}: {match[3]}" for match in said if not _USUAL.search(match[3])]

    def close(self) -> None:
        """Takes the channel and its folder away."""
        if self._folder is None:
            return
        with contextlib.suppress(SipguardError):
            self._cli.command(f"logger remove channel {self._path}")
        os.close(self._folder)
        shutil.rmtree(f"{self._logs}/{self._name}", ignore_errors=True)
