# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bans: single addresses and small networks of which the host hears nothing, for a time.

The kernel's sets sipguard-banned4 and -6 decide: when a ban ends, and why it is there. /var/lib/sipguard/bans is a picture of
them for the next boot, a line each: address, expiry (seconds since the epoch, 0: until unbanned), reason, with tabs in between.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pathlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .._netfilter import sets
from .._netfilter.engine import Engine, Snapshot
from .._netfilter.names import BANNED, FAMILIES, MAX_TIMEOUT, Family
from .._netfilter.persist import replace_file
from .._netfilter.runner import Runner, output
from .._netfilter.switch_guard import STATE_DIRECTORY
from .._sip.addresses import Network, parse_networks
from .._sip.errors import OptionError, SipguardError
from .exceptions import Exceptions, Exempt, reload
from .protected import Protected
from .sipban import ledger
from .sipban.client import tell

__all__ = [
    "DEFAULT_TIME",
    "MAX_REASON",
    "Ban",
    "Bans",
    "Done",
    "Picture",
    "Refusal",
    "ban",
    "clear",
    "containing",
    "lasts",
    "lift",
    "parse_reason",
    "parse_targets",
    "parse_time",
    "read_live",
    "require_bannable",
    "restore_bans",
    "span",
]

DEFAULT_TIME = "1d"
MAX_REASON = 255  # bytes; IPSET_MAX_COMMENT_SIZE (include/uapi/linux/netfilter/ipset/ip_set.h)

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIME = re.compile(r"([0-9]{1,10})([smhdw]?)\Z")
_MIN_PREFIX = {4: 16, 6: 32}
# What is no source of a packet that comes from elsewhere (RFC 6890), and what a host needs on its own link.
_NOBODY = [
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network"),
        ("127.0.0.0/8", "the host itself"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved addresses"),
        ("::/127", "the host itself"),
        ("fe80::/10", "its own link, on which IPv6 needs its neighbours and routers"),
        ("ff00::/8", "multicast"),
    )
]
# Who asks for the same time again a little later does not mean a longer one: this part of it may be over.
_SAME = 10
_SLACK = 60  # s by which the clock and the kernel's timers may drift apart
_ADDED = re.compile(r'add \S+ (\S+)(?: timeout (\d+))?(?: comment "(.*)")?')

_FILE = "bans"
_HEAD = "# Written by sipguard.pbx for the next boot. Changes made here are overwritten.\n"
_SAVED = "# saved "
_END = "# end\n"


@dataclass(frozen=True)
class Ban:
    """One member of the kernel's sets; ``left`` in seconds, 0 until somebody unbans it."""

    network: Network
    left: int
    reason: str = ""

    @property
    def member(self) -> str:
        """As ipset prints it."""
        return sets.member_text(self.network)

    def add(self, name: str) -> str:
        """The line for ipset restore; an older ban of the same member is replaced."""
        comment = f' comment "{self.reason}"' if self.reason else ""
        return f"add {name} {self.member} timeout {self.left}{comment} -exist\n"

    def result(self) -> dict[str, Any]:
        """For programs."""
        return {"entry": self.member, "seconds_left": self.left, "reason": self.reason}


def lasts(left: int, seconds: int) -> bool:
    """Whether what has ``left`` seconds does what something new for ``seconds`` would, 0 being for ever."""
    return not left or (seconds > 0 and left >= seconds - seconds // _SAME)


# The bans of a host, by family and by member as ipset prints it.
Bans = Mapping[Family, Mapping[str, Ban]]


class Refusal(SipguardError):
    """Some of what was asked for must not be done, and so nothing was. ``refused``: what -> the sentence why."""

    def __init__(self, refused: Mapping[str, str]) -> None:
        self.refused = dict(refused)
        super().__init__("; ".join(self.refused.values()) + "; nothing was changed")


# -- what somebody asks for, read into values


def parse_time(text: object, option: str = "time") -> int:
    """Seconds of "90", "30m", "1h", "7d", "2w"; 0 means until somebody takes it back. Raises OptionError."""
    found = _TIME.match(str(text).strip())
    seconds = int(found[1]) * _UNITS[found[2]] if found else -1
    if not 0 <= seconds <= MAX_TIMEOUT:
        raise OptionError(
            option,
            text,
            f"a time such as 90, 30m, 1h or 7d would be right, at most {MAX_TIMEOUT} seconds (24 days), or 0 for until it is taken back",
        )
    return seconds


def parse_reason(text: str, option: str = "reason") -> str:
    """The reason as the kernel can keep it: one line without double quotes, at most 255 bytes. Raises OptionError.

    It becomes part of a line for ipset restore, so nothing that could end that line, or the quotes around it, comes through.
    """
    reason = " ".join(text.split()).replace('"', "'")
    if not reason.isprintable():
        raise OptionError(option, ascii(text)[:80], "text without control characters would be right")
    if len(reason.encode("utf-8", "surrogateescape")) > MAX_REASON:
        raise OptionError(option, ascii(text)[:80], f"at most {MAX_REASON} bytes would be right")
    return reason


def parse_targets(entries: Iterable[object], option: str) -> list[Network]:
    """Addresses and networks, each once, in order. Raises OptionError."""
    return list(dict.fromkeys(network for entry in entries for network in parse_networks(entry, option)))


def require_bannable(networks: Iterable[Network], protected: Iterable[Protected]) -> None:
    """Raise Refusal for those that are too large, nobody's, or without which this host is no use."""
    guarded = [(ipaddress.ip_network(each.network), each.why) for each in protected]
    refused = {}
    for network in networks:
        why = _objection(network, guarded)
        if why:
            refused[sets.member_text(network)] = f"{sets.member_text(network)} cannot be banned: {why}"
    if refused:
        raise Refusal(refused)


def _objection(network: Network, guarded: Sequence[tuple[Network, str]]) -> str:
    if network.prefixlen < _MIN_PREFIX[network.version]:
        return f"it is larger than a /{_MIN_PREFIX[network.version]}; what is, belongs into a list (sip_blocklist)"
    for nobody, what in _NOBODY:
        if _overlap(network, nobody):
            return f"{nobody} is {what}"
    for other, why in guarded:
        if _overlap(network, other):
            return f"it is {why}" if other == network else f"{sets.member_text(other)} is {why}"
    return ""


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def span(seconds: int) -> str:
    """A time for people: the two largest units."""
    words = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count} {unit}")
        elif words:
            break
    return " ".join(words[:2]) or "0 s"


# -- what the kernel holds


def read_live(runner: Runner, headers: Mapping[str, sets.SetHeader]) -> dict[Family, dict[str, Ban]]:
    """Every ban there is; one command for each set that is not empty."""
    live: dict[Family, dict[str, Ban]] = {}
    for family in FAMILIES:
        name = BANNED + family.suffix
        live[family] = {}
        if name not in headers or not headers[name].entries:
            continue
        # Lines end with a newline only: a comment may hold what Python's splitlines takes for an end.
        for line in output(runner, [runner.which("ipset") or "ipset", "save", name]).split("\n"):
            found = _ADDED.match(line)
            if found:
                live[family][found[1]] = Ban(ipaddress.ip_network(found[1]), int(found[2] or 0), _plain(found[3] or ""))
    return live


def _plain(comment: str) -> str:
    """The comment of a member, whoever has added it, as ``parse_reason`` would have left it."""
    return "".join(char if char.isprintable() and char != '"' else "?" for char in " ".join(comment.split()))


def containing(members: Mapping[str, Any], network: Network) -> Iterator[str]:
    """Those of the members, as ipset prints them, in which the network lies, the smallest first; itself among them."""
    for prefix in range(network.prefixlen, 0, -1):
        member = sets.member_text(network.supernet(new_prefix=prefix))
        if member in members:
            yield member


def _family(network: Network) -> Family:
    return next(family for family in FAMILIES if family.version == network.version)


# -- the picture for the next boot


class Picture:
    """The file: 0600, replaced in one moment, with a last line by which a damaged one is known."""

    def __init__(self, directory: str = STATE_DIRECTORY) -> None:
        self._path = pathlib.Path(directory) / _FILE

    def read(self) -> tuple[dict[str, tuple[int, str]], float] | None:
        """Expiry and reason by member, and when that was so; None without a file. Raises SipguardError when it is damaged."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="surrogateescape")
            if not (text.startswith(_HEAD + _SAVED) and text.endswith(_END)):
                raise ValueError("its beginning or its end is missing")
            saved, *lines = text[len(_HEAD + _SAVED) : -len(_END)].split("\n")[:-1]
            found = {}
            for line in lines:
                member, expiry, reason = line.split("\t", 2)
                found[sets.member_text(ipaddress.ip_network(member))] = (int(expiry), parse_reason(reason))
            return found, _seconds(saved)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, OptionError) as error:
            raise SipguardError(
                f"{self._path} is damaged, so bans of before the last boot are not known: {error}; the next ban or unban writes it anew"
            ) from error

    def outdated(self, live: Bans) -> bool:
        """Whether it shows other bans than these."""
        wanted = _expiries(live, time.time())
        try:
            found = self.read()
        except SipguardError:
            return True
        there = {} if found is None else {name: ban for name, ban in found[0].items() if not _over(ban[0])}
        return there.keys() != wanted.keys() or any(
            there[name][1] != reason or bool(there[name][0]) != bool(expiry) or abs(there[name][0] - expiry) > _SLACK
            for name, (expiry, reason) in wanted.items()
        )

    def write(self, live: Bans) -> None:
        """Raises SipguardError."""
        now = time.time()
        lines = [f"{member}\t{expiry}\t{reason}\n" for member, (expiry, reason) in _expiries(live, now).items()]
        try:
            # Beside sipband's ledger, that there are none any more has to be written down as well.
            if not lines and not os.path.exists(ledger.PATH):
                self._path.unlink(missing_ok=True)
                return
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path, f"{_HEAD}{_SAVED}{now:.6f}\n{''.join(lines)}{_END}", 0o600)
        except OSError as error:
            raise SipguardError(f"cannot write {self._path}: {error}") from error

    def exists(self) -> bool:
        """Whether there is one; that there are no bans is worth a file beside sipband's ledger alone."""
        with contextlib.suppress(SipguardError):
            found = self.read()
            if found is not None and not found[0]:
                return not os.path.exists(ledger.PATH)
        return self._path.exists()


def _seconds(text: str) -> float:
    """A time as it is written in the file: digits, and as a rule six more behind a point. Raises ValueError."""
    if not text.isascii() or not text.replace(".", "", 1).isdigit():
        raise ValueError(f"'{text}' is no time")
    return float(text)


def _expiries(live: Bans, now: float) -> dict[str, tuple[int, str]]:
    return {
        ban.member: (int(now) + ban.left if ban.left else 0, ban.reason)
        for found in live.values()
        for ban in found.values()
    }


def _over(expiry: int) -> bool:
    return 0 < expiry <= time.time()


def restore_bans(runner: Runner, directory: str = STATE_DIRECTORY, of_sipband: str = ledger.PATH) -> list[str]:
    """Bring back the bans of the picture, and of sipband's ledger, that have time left and are not there; what was done, a sentence each.

    The sets are made where they are missing; rules are no business of this. Raises SipguardError; what can be brought back is then there.
    """
    problems = []
    bans: dict[str, _Kept] = {}
    saved = 0.0
    try:
        picture = Picture(directory).read()
        if picture is not None:
            saved = picture[1]
            bans = {member: _Kept(expiry, reason, saved) for member, (expiry, reason) in picture[0].items()}
    except SipguardError as error:
        problems.append(str(error))
    try:
        _continue(bans, saved, ledger.last_lines(of_sipband), ledger.written(of_sipband))
    except SipguardError as error:
        problems.append(str(error))
    count = _bring_back(runner, bans) if bans else 0
    if problems:
        raise SipguardError("; ".join(problems))
    return [f"{count} ban{'s' if count > 1 else ''} brought back"] if count else []


class _Kept(NamedTuple):
    """A ban as it was written down. It was ``since`` at the earliest that the host went down (seconds since the epoch)."""

    expiry: int
    reason: str
    since: float


def _continue(bans: dict[str, _Kept], saved: float, lines: Mapping[str, ledger.Line], written: int) -> None:
    """What sipband has done since the picture was taken."""
    # What a clock that was wrong once has written must not make all else look old.
    latest = max(int(time.time()), saved, written) + _SLACK
    since = [(member, line) for member, line in lines.items() if saved <= line.when <= latest]
    last = max([saved, *(line.when for dummy, line in since)])
    if any(member == ledger.ALL for member, dummy in since):
        bans.clear()
    for member, line in since:
        if line.network is None:
            continue
        if line.what == ledger.UNBAN:
            bans.pop(member, None)
        elif not _objection(line.network, ()):
            bans[member] = _Kept(line.until, line.reason, last)


def _bring_back(runner: Runner, bans: Mapping[str, _Kept]) -> int:
    headers = sets.read_headers(runner)
    live = read_live(runner, headers)
    script, count = "", 0
    for family in FAMILIES:
        name = BANNED + family.suffix
        networks = {
            member: network for member in bans if (network := ipaddress.ip_network(member)).version == family.version
        }
        lines = []
        for member, network in networks.items():
            kept = bans[member]
            # A clock that has not been set yet (a Raspberry Pi has no battery for one) must not make bans longer than they were.
            left = min(int(kept.expiry - max(time.time(), kept.since)), MAX_TIMEOUT) if kept.expiry else 0
            if member not in live[family] and (not kept.expiry or left > 0):
                lines.append(Ban(network, left, kept.reason).add(name))
        if lines:
            script += _make(name, headers, len(networks)) + "".join(lines)
            count += len(lines)
    sets.restore(runner, script)
    return count


def _make(name: str, headers: Mapping[str, sets.SetHeader], entries: int = 0) -> str:
    """The line that makes a set, "" where it is there. Raises SipguardError when it is there as something else."""
    wanted = sets.spec(name, entries)
    if name not in headers:
        return wanted.create() + "\n"
    if not headers[name].fits(wanted):
        raise SipguardError(
            f"the set {name} exists, but is none that sipguard has made; remove it with 'ipset destroy {name}'"
        )
    return ""


# -- banning


@dataclass
class Done:
    """What came of a request. ``before`` and ``after`` are for a diff, ``said`` has a few words for each address.

    ``bans`` is what bans each address now, ``removed`` the sets each was taken out of, ``exceptions`` those that each has now (after
    a ban: had until now), ``rules`` how many there are in each family, where they were looked at.
    """

    changed: bool = False
    before: str = ""
    after: str = ""
    persisted: bool = True
    warnings: list[str] = field(default_factory=list)
    rules: dict[str, int] | None = None
    said: dict[str, str] = field(default_factory=dict)
    bans: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed: dict[str, list[str]] = field(default_factory=dict)
    exceptions: dict[str, Exempt] = field(default_factory=dict)

    def add(self, result: Mapping[str, Any]) -> None:
        """What became of rules, or of the blocklists, as the common part of a module's result."""
        self.changed |= result["changed"]
        self.before += result["diff"]["before"]
        self.after += result["diff"]["after"]
        self.persisted &= result["persisted"]
        self.warnings += [warning for warning in result["warnings"] if warning not in self.warnings]
        self.rules = result.get("rules", self.rules)


def ban(
    engine: Engine,
    networks: Sequence[Network],
    seconds: int,
    reason: str,
    *,
    persist: bool = True,
    check: bool = False,
    directory: str = STATE_DIRECTORY,
) -> Done:
    """Ban what ``require_bannable`` had nothing against, for at least that time. Raises SipguardError.

    A ban that has at least nine tenths of the time left stays as it is. The rules that drop the banned are made where they are
    missing. An exception for exactly the address goes.
    """
    for network in networks:
        if _family(network) not in engine.families:
            raise SipguardError(f"{network} cannot be banned: this host's kernel has no {_family(network).name}")
    snapshot = engine.snapshot()
    live = read_live(engine.runner, snapshot.headers)
    exceptions = Exceptions(directory)
    exempt = exceptions.read()
    done = Done()
    _converge(engine, snapshot, {_family(network) for network in networks}, done, persist=persist, check=check)
    script = ""
    for network in networks:
        family, text = _family(network), sets.member_text(network)
        there = [live[family][member] for member in containing(live[family], network)]
        lasting = next((each for each in there if lasts(each.left, seconds)), None)
        if lasting is not None:
            inside = "" if lasting.member == text else f" as {lasting.member}"
            done.said[text] = f"banned already{inside}, {_until(lasting.left)}"
            done.bans[text] = lasting.result()
            continue
        old = live[family].get(text)
        new = Ban(network, seconds, reason or (old.reason if old else ""))
        done.before += _listing(old, "") if old else ""
        done.after += _listing(new, f" {_until(seconds)}")
        script += new.add(BANNED + family.suffix)
        live[family][text] = new
        done.said[text] = f"banned {_until(seconds)}"
        done.bans[text] = new.result()
    done.changed |= bool(script)
    if not check:
        sets.restore(engine.runner, script)
    banned = {network.network_address for network in networks if network.prefixlen == network.max_prefixlen}
    if banned & exempt.keys():
        done.changed = True
        done.exceptions = {str(address): each for address, each in exempt.items() if address in banned}
        done.before += "".join(f"exception {address}\n" for address in done.exceptions)
        kept = [each for address, each in exempt.items() if address not in banned]
        if not check:
            exceptions.write(kept)
        done.add(reload(engine, kept, persist=persist, check=check, directory=directory))
    _take_picture(engine.runner, live, done, persist=persist, check=check, directory=directory)
    return done


def _until(seconds: int) -> str:
    return f"for {span(seconds)}" if seconds else "until somebody unbans it"


def _listing(ban: Ban, until: str) -> str:
    return f"banned {ban.member}{until}" + (f": {ban.reason}" if ban.reason else "") + "\n"


def _converge(
    engine: Engine, snapshot: Snapshot, dropping: set[Family] | None, done: Done, *, persist: bool, check: bool
) -> None:
    """The rules that drop the banned, for these families as well; for None: for none any more."""
    targets = {}
    for family in engine.families:
        policy = snapshot.policy(family, "filter")
        targets[family] = policy.with_drop(BANNED, False) if dropping is None else policy
        if dropping and family in dropping:
            targets[family] = policy.with_drop(BANNED)
    outcome = engine.converge(targets, snapshot, persist=persist, check=check)
    done.add({**outcome.result(), "warnings": outcome.warnings})


def _take_picture(runner: Runner, wanted: Bans, done: Done, *, persist: bool, check: bool, directory: str) -> None:
    picture = Picture(directory)
    # What sipband has written down before counts less than a picture, so one is needed whatever it shows.
    outdated = picture.outdated(wanted) or (done.changed and os.path.exists(ledger.PATH))
    if outdated and persist:
        if not done.changed:
            done.before += f"{_FILE} for the next boot: outdated\n"
        done.changed = True
        if not check:
            try:
                picture.write(read_live(runner, sets.read_headers(runner)))
            except SipguardError as error:
                # A disk that is full is no reason to let in whom somebody wants out, or the other way round.
                done.warnings.append(f"{error}; what was asked for is in force, and forgotten at the next boot")
                done.persisted = False
    done.persisted &= not outdated or (persist and not check)


def clear(engine: Engine, *, persist: bool = True, check: bool = False, directory: str = STATE_DIRECTORY) -> Done:
    """Take away every ban and exception, the sets, the rules that drop them, and the files. Raises SipguardError."""
    snapshot = engine.snapshot()
    names = [name for name in (BANNED + family.suffix for family in FAMILIES) if name in snapshot.headers]
    _refuse_foreign_use(snapshot, names)
    done = Done()
    for found in read_live(engine.runner, snapshot.headers).values():
        done.before += "".join(_listing(each, "") for each in found.values())
    done.before += "".join(f"set {name}\n" for name in names)
    exceptions, picture = Exceptions(directory), Picture(directory)
    try:
        exempt = list(exceptions.read(0))
    except SipguardError:
        exempt = []  # damaged, and about to go
    done.before += "".join(f"exception {address}\n" for address in exempt)
    files = exceptions.exists() or picture.exists()
    _converge(engine, snapshot, None, done, persist=persist, check=check)
    if not check:
        sets.restore(engine.runner, "".join(f"destroy {name}\n" for name in names))
        exceptions.write(())
        picture.write({})
        with contextlib.suppress(OSError):  # what else the host keeps may be in it, or it may never have been there
            pathlib.Path(directory).rmdir()
    if files:
        done.add(reload(engine, (), persist=persist, check=check, directory=directory))
    done.changed |= bool(names) or files
    return done


def _refuse_foreign_use(snapshot: Snapshot, names: Iterable[str]) -> None:
    for ruleset in snapshot.rulesets.values():
        for line in (line for table in ruleset.tables.values() for line in table.foreign):
            for name in names:
                if f" {name} " in line:
                    raise SipguardError(
                        f"the set {name} cannot be removed: this rule, which is not ours, looks into it: {line}; remove that rule first"
                    )


def lift(
    runner: Runner,
    networks: Sequence[Network],
    *,
    persist: bool = True,
    check: bool = False,
    directory: str = STATE_DIRECTORY,
) -> Done:
    """Take bans away. Raises Refusal, with nothing changed, for an address that lies in a banned network."""
    live = read_live(runner, sets.read_headers(runner))
    refused = {}
    for network in networks:
        text = sets.member_text(network)
        for member in containing(live[_family(network)], network):
            if member != text:
                refused[text] = f"{text} is banned as part of {member}: unban {member}, or trust {text}"
    if refused:
        raise Refusal(refused)
    done, script = Done(), ""
    for network in networks:
        family, text = _family(network), sets.member_text(network)
        done.removed[text] = []
        old = live[family].pop(text, None)
        if old is not None:
            done.before += _listing(old, "")
            script += f"del {BANNED}{family.suffix} {text} -exist\n"  # -exist: its time may run out just now
            done.removed[text].append(BANNED + family.suffix)
    done.changed = bool(script)
    if not check:
        sets.restore(runner, script)
        for text in done.removed:
            # So that the next ban is not longer for one that was a mistake; and the fleet hears of it.
            if tell("unblock", text) is None:
                break
    _take_picture(runner, live, done, persist=persist, check=check, directory=directory)
    return done
