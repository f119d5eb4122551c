# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the published SIPban: its dump of bans, its white list, its configuration.

What cannot be read is refused with the number of its line, and then nothing of the file counts.
"""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from ..._netfilter.persist import replace_file
from ..._netfilter.sets import member_text
from ..._sip.addresses import Network, parse_networks
from ..._sip.errors import OptionError, SipguardError

__all__ = [
    "Published",
    "drop_dump",
    "load_dump",
    "read_conf",
    "read_dump",
    "read_white_list",
    "save_dump",
    "write_dump",
]

_HEAD = re.compile(r"# \[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]\Z", re.ASCII)
_BAN = re.compile(r"([0-9A-Fa-f.:/]+),([0-9]{1,12})\Z")
# ipset save
_CREATE = re.compile(r"create (\S+) (\S+)((?: \S+)*)\Z")
_ADD = re.compile(
    r'add (\S+) ([0-9A-Fa-f.:/]+)(?: timeout ([0-9]{1,10}))?(?: packets [0-9]+ bytes [0-9]+)?(?: comment ".*")?\Z'
)
_TIMEOUT = re.compile(r" timeout ([0-9]{1,10})(?: |\Z)")

_SECTION = re.compile(r"\[([A-Za-z0-9_]{1,40})\]\s*(?:[#;].*)?\Z")
_OPTION = re.compile(r'([A-Za-z0-9_]{1,40})\s*=\s*(?:"([^"]*)"|([^"\s#;]\S*(?:\s+[^\s#;]\S*)*)|)\s*(?:[#;].*)?\Z')


# -- the dump of bans


def read_dump(text: str, name: str = "sipban.dump", saved: float | None = None) -> list[tuple[Network, int]]:
    """Networks and when their bans end, in seconds since the epoch, 0 for never; whether that has been is no question here.

    The dump is that of 2019 (a comment with the time, then ``ip,epoch``) or of 2024 (made by ``ipset save``). The latter holds the
    seconds that were left when it was ``saved`` (epoch; the file's time of change would be right; default: now). Raises SipguardError.
    """
    if not text.strip():
        raise SipguardError(f"{name} is empty; nothing of it was taken")
    lines = text.split("\n")
    if lines.pop():
        # An expiry that has lost its last digits would be a time long ago.
        raise _corrupt(name, len(lines) + 1, "the end of the file is missing")
    lines = [line.rstrip("\r") for line in lines]
    moment = int(time.time() if saved is None else saved)
    found = _ipset(lines, name, moment) if lines[0].startswith("create ") else _dumped(lines, name)
    longest: dict[Network, int] = {}
    for network, expiry in found:
        other = longest.get(network, 1)
        longest[network] = 0 if 0 in (other, expiry) else max(other, expiry)
    return list(longest.items())


def _dumped(lines: list[str], name: str) -> list[tuple[Network, int]]:
    if not _HEAD.match(lines[0]):
        raise _corrupt(name, 1, f"{_quoted(lines[0])} is no beginning; # [2019-06-12 12:01:50] would be right")
    found = []
    for number, line in enumerate(lines[1:], 2):
        if not line or line.startswith("#"):
            continue
        ban = _BAN.match(line)
        if not ban:
            raise _corrupt(name, number, f"{_quoted(line)} is no ban; 203.0.113.7,1767225600 would be right")
        found.append((_network(ban[1], name, number), int(ban[2])))
    return found


def _ipset(lines: list[str], name: str, saved: int) -> list[tuple[Network, int]]:
    found = []
    create = _CREATE.match(lines[0])
    if not create or create[2] not in ("hash:ip", "hash:net"):
        raise _corrupt(name, 1, f"{_quoted(lines[0])} makes no set of addresses (hash:ip or hash:net)")
    unless = _TIMEOUT.search(create[3])
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        member = _ADD.match(line)
        if not member or member[1] != create[1]:
            raise _corrupt(name, number, f"{_quoted(line)} is no address of the set {_quoted(create[1])}")
        left = int(member[3] or (unless[1] if unless else 0))
        found.append((_network(member[2], name, number), saved + left if left else 0))
    return found


def write_dump(entries: Iterable[tuple[Network, int]], now: float) -> str:
    """The dump of 2019, of networks and when their bans end (as ``read_dump`` gives them), made ``now``."""
    ordered = sorted(entries, key=lambda each: (each[0].version, int(each[0].network_address), each[0].prefixlen))
    lines = [f"{member_text(network)},{expiry}\n" for network, expiry in ordered]
    return time.strftime("# [%Y-%m-%d %H:%M:%S]\n", time.localtime(now)) + "".join(lines)


def save_dump(path: str, entries: Iterable[tuple[Network, int]], now: float) -> None:
    """``write_dump`` into a file of mode 0600, in one moment. Raises SipguardError."""
    try:
        replace_file(pathlib.Path(path), write_dump(entries, now), 0o600)
    except OSError as error:
        raise SipguardError(f"cannot write {path}: {error.strerror or error}") from error


def load_dump(path: str) -> list[tuple[Network, int]]:
    """``read_dump`` of a file. Raises SipguardError, also when there is none."""
    file = pathlib.Path(path)
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        saved = file.stat().st_mtime
    except FileNotFoundError as error:
        raise SipguardError(f"no dump file to restore rules: {path}") from error
    except OSError as error:
        raise SipguardError(f"cannot read {path}: {error.strerror or error}") from error
    return read_dump(text, path, saved)


def drop_dump(path: str) -> None:
    """Delete the file, if it is there. Raises SipguardError."""
    try:
        pathlib.Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise SipguardError(f"cannot delete {path}: {error.strerror or error}") from error


def _network(text: str, name: str, number: int) -> Network:
    try:
        return parse_networks(text, "address")[0]
    except OptionError as error:
        raise _corrupt(name, number, f"{_quoted(text)} is no address; {error.expected}") from error


def _corrupt(name: str, number: int, what: str) -> SipguardError:
    return SipguardError(f"{name}, line {number}: {what}; nothing of the file was taken")


def _quoted(text: str) -> str:
    return ascii(text[:80])


# -- the white list


def read_white_list(text: str, name: str = "sipban.wl") -> list[Network]:
    """An address or a network a line, ``#`` begins a comment. Raises SipguardError."""
    found: list[Network] = []
    for number, line in enumerate(text.split("\n"), 1):
        word = line.split("#")[0].strip()
        if not word:
            continue
        try:
            found += parse_networks(word, name)
        except OptionError as error:
            raise _corrupt(name, number, f"{_quoted(word)} cannot be used; {error.expected}") from error
    return list(dict.fromkeys(found))


# -- the configuration


@dataclass(frozen=True)
class Published:
    """What sipban.conf says, else what the published program does without it; times in seconds.

    ``given`` are the options that are there, as "section.option"; ``unknown`` those of no published version; ``ignored`` those that have
    no counterpart, and why. ``secret`` is AMI's, and for no eye.
    """

    ami_host: str = "127.0.0.1"
    ami_port: int = 5038
    ami_user: str = "sipban"
    secret: str = field(default="", repr=False)
    ping: int = 600
    control_port: int = 4451
    control_address: str = ""
    ban: int = 86400
    white_list: str = "/etc/sipban.wl"
    dump: str = "/etc/sipban.dump"
    rule: str = ""
    rule6: str = ""
    chain: str = ""
    scope: str = ""
    interface: str = ""
    log_file: str = ""
    flood_count: int = 0
    flood_interval: int = 0
    given: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()
    ignored: dict[str, str] = field(default_factory=dict)


# Option -> field, of the versions of 2019 and 2024; "" where only its being there matters.
_FIELDS = {
    "ami.host": "ami_host",
    "ami.port": "ami_port",
    "ami.user": "ami_user",
    "ami.pass": "secret",
    "ami.ping": "ping",
    "control.port": "control_port",
    "control.address": "control_address",
    "timer.ban": "ban",
    "iptables.path": "",
    "iptables.chain": "chain",
    "iptables.rule": "rule",
    "iptables.rule6": "rule6",
    "iptables.scope": "scope",
    "iptables.interface": "interface",
    "iptables.white_list": "white_list",
    "iptables.dump": "dump",
    "ipset.path": "",
    "ipset.set_name": "",
    "ipset.dump": "dump",
    "ipset.timeout": "ban",
    "log.file": "log_file",
    "flood.count": "flood_count",
    "flood.interval": "flood_interval",
}
_SECRET = "ami.pass"
_NUMBERS = {each.name for each in fields(Published) if each.type == "int"}
_LIMITS = {"ami_port": (1, 65535), "control_port": (1, 65535)}
_NO_COUNTERPART = {
    "ami.pass": "the host makes a secret of its own",
    "iptables.path": "programs are found by themselves",
    "iptables.chain": "bans are members of sipguard's own sets",
    "iptables.scope": "a ban is for every port",
    "iptables.interface": "a ban is for every interface",
    "ipset.path": "programs are found by themselves",
    "ipset.set_name": "bans are members of sipguard's own sets",
    "log.file": "the log is the journal",
}
_REJECTS = "a ban drops: an answer would tell the attacker that somebody is there"


def read_conf(text: str, name: str = "sipban.conf") -> Published:
    """Raises SipguardError; no value of the section with the secret is ever quoted."""
    values: dict[str, str | int] = {}
    given: dict[str, int] = {}
    unknown = []
    ignored = {}
    section = ""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        begins = _SECTION.match(line)
        if begins:
            section = begins[1].lower()
            continue
        found = _OPTION.match(line)
        if not found or not section:
            raise _corrupt(name, number, 'a section such as [ami], or an option such as port = "5038", would be right')
        option = f"{section}.{found[1].lower()}"
        value = (found[2] if found[2] is not None else found[3] or "").strip()
        if option in given:
            raise _corrupt(name, number, f"{option} is there already, in line {given[option]}")
        given[option] = number
        if option not in _FIELDS:
            unknown.append(option)
            continue
        why = _objection(option, value)
        if why:
            ignored[option] = why
        target = _FIELDS[option]
        if target:
            if target in values and values[target] != _value(target, value, option, name, number):
                raise _corrupt(name, number, f"{option} contradicts what was said before")
            values[target] = _value(target, value, option, name, number)
    return Published(given=frozenset(given), unknown=tuple(unknown), ignored=ignored, **values)  # type: ignore[arg-type]


def _objection(option: str, value: str) -> str:
    """Why an option has no counterpart, "" when it has one."""
    if option in ("iptables.rule", "iptables.rule6"):
        return "" if value.upper() == "DROP" else _REJECTS
    if option == "control.address":
        return "" if value in ("127.0.0.1", "localhost") else "the console is on 127.0.0.1 only"
    if option == "iptables.scope" and not value:
        return ""
    return _NO_COUNTERPART.get(option, "")


def _value(target: str, value: str, option: str, name: str, number: int) -> str | int:
    if target not in _NUMBERS:
        if target != "secret" and not value.isprintable():
            raise _corrupt(name, number, f"{option} has characters that nobody can see")
        return value
    low, high = _LIMITS.get(target, (0, 10**9))
    if not re.fullmatch(r"[0-9]{1,10}", value) or not low <= int(value) <= high:
        raise _corrupt(name, number, f"{option} is a number from {low} to {high}")
    return int(value)
