# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our chains of table filter as a block in FreePBX's files of custom firewall rules.

Whenever FreePBX's firewall has flushed table filter and built its own chains anew, it runs each line of /etc/firewall-4.rules as the
arguments of iptables, and of /etc/firewall-6.rules as those of ip6tables, provided that its setting "customrules" is "enabled"
(firewall: phar/src/firewall.php, importCustomRules; drivers/Iptables.class.php, checkFpbxFirewall). What that asks of a line:

- A line goes through PHP's escapeshellcmd() and then a shell. A special character outside of quotes therefore arrives as itself; inside
  of quotes it arrives with a backslash, and the rule matches something else, with exit status 0. So nothing but blanks stands in quotes,
  and texts are hexadecimal.
- It is a comment only if its first byte is # or ;.
- Its exit status is ignored: the next line is run whatever became of this one. So each rule is inserted at its number. Where one is
  lost (a set that is not there, a lock that somebody held), every later one of its chain is refused, and a packet leaves the chain
  there: an exception can be lost only together with the drop that follows it.
- FreePBX adds no --wait, while fail2ban is started at the same time.
- The hook comes last and first in INPUT: no packet meets a chain that is half there, and none is accepted before it.

Tables raw and mangle survive what FreePBX flushes, and lines for them would add the same rules at each start once more, so there are
none. Nobody's lines but those between our two marks are ever changed, and the files' mode stays: FreePBX has its own ideas of it.

Of files that are not root's FreePBX loads nothing ("is not owned by root, skipping"), so one with our block becomes root's. Whatever makes
FreePBX load a file that it did not load before, be it the setting or the owner, would put other people's lines in there into force too:
they may be forgotten drafts, and the files' mode lets any user of the host write them. So that is for somebody to say.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .._sip.errors import SipguardError
from .names import Family
from .rule import Option, Rule
from .ruleset import HOOKS, Chains

__all__ = [
    "DIRECTORY",
    "ENABLED",
    "FILE",
    "TABLE",
    "Change",
    "Document",
    "Others",
    "commands",
    "count",
    "follow",
    "leaving",
    "memory",
    "others",
    "parse",
    "plan",
    "present",
    "remember",
    "rules_path",
    "settle",
    "unknown",
    "writable",
    "write_all",
]

DIRECTORY = "/etc"
# The table that FreePBX flushes, and into which it loads the files.
TABLE = "filter"
# What the first line of a block remembers, so that everything is as it was when the block goes: the file was not there; its last line
# had no end; we have switched FreePBX's custom rules on, and which lines of others that put into force, as a digest.
FILE, LINE, ENABLED, OTHERS = "file", "line", "enabled", "others="

_FLAGS = (FILE, LINE, ENABLED, OTHERS)
_BEGIN, _END = b"# BEGIN sipguard.pbx", b"# END sipguard.pbx"
_BEGIN_LINE = re.compile(rb"# BEGIN sipguard\.pbx(?: \(([a-z0-9=, ]*)\))?\s*")
_REMARKS = (
    "# sipguard's rules as they are in the kernel, for FreePBX to load when it has flushed them. Written anew whenever they change.",
    "# Lines above and below are never touched. A line below that begins with -I INPUT 1 is met before these.",
)
_NOTHING = "# (sipguard has no rules in table filter now)"
_WAIT = "-w 10 "  # seconds for the xtables lock
# The page of FreePBX that edits these files reads pieces of 4096 bytes (firewall: Firewall.class.php, read_file).
_MAX_LINE = 4000
_NEW_MODE = 0o644
_ROOT = (0, 0)


def rules_path(family: Family, directory: str = DIRECTORY) -> str:
    """The file of a family: /etc/firewall-4.rules or /etc/firewall-6.rules."""
    return str(pathlib.Path(directory) / f"firewall-{family.version}.rules")


# -- rules as lines


def commands(chains: Chains) -> list[str]:
    """Lines that make our chains of table filter anew, each the arguments of one call of iptables; none for no chains.

    Raises SipguardError for a rule that cannot be written so.
    """
    if not chains:
        return []
    names = sorted(chains)
    lines = [f"{_WAIT}-N {name}" for name in names]
    # There already, if somebody was faster than FreePBX: a rule that stands twice would count twice.
    lines += [f"{_WAIT}-F {name}" for name in names]
    for name in names:
        for number, rule in enumerate(chains[name], 1):
            lines.append(_checked(f"{_WAIT}-I {name} {number} {' '.join(_words(rule))}".rstrip(), rule))
    hook = HOOKS[TABLE]
    if hook.chain in chains:
        lines.append(f"{_WAIT}-I {hook.builtin} 1 -j {hook.chain}")
    return lines


def _checked(line: str, rule: Rule) -> str:
    if len(line) > _MAX_LINE:
        raise SipguardError(
            f"a rule of {rule.chain} is too long for FreePBX's page ({len(line)} characters): {line[:80]}..."
        )
    return line


def _words(rule: Rule) -> Iterator[str]:
    if rule.unread:
        raise SipguardError(f"a rule of {rule.chain} cannot be read, so FreePBX cannot be given it: {rule.unread}")
    for option in rule.header:
        yield from _option(option)
    for match in rule.matches:
        yield from ("-m", _word(match.name))
        for option in match.options:
            yield from _option(option)
    if rule.target:
        yield from ("-g" if rule.goto else "-j", _word(rule.target))
        for option in rule.target_options:
            yield from _option(option)


def _option(option: Option) -> Iterator[str]:
    if option.negated:
        yield "!"
    name, values = option.name, option.values
    if name == "--string":
        name, values = "--hex-string", tuple(f"|{value.encode('utf-8', 'surrogateescape').hex()}|" for value in values)
    yield name
    yield from (_word(value) for value in values)


def _word(value: str) -> str:
    """A word as it has to stand in the file, so that iptables gets ``value``."""
    if not all(" " <= character <= "~" for character in value) or "'" in value or '"' in value:
        raise SipguardError(f"FreePBX would not hand {value!r} on to iptables as it is")
    return re.sub(" +", lambda blanks: f'"{blanks[0]}"', value) or '""'


# -- the files


@dataclass(frozen=True)
class Document:
    """A file: what stands before our block, the block's flags (None: there is no block), and what stands after it."""

    before: bytes
    flags: frozenset[str] | None = None
    after: bytes = b""

    def with_block(self, flags: Iterable[str] = ()) -> Document:
        """With a block, at the end of the file if there was none; more ``flags`` if there was."""
        if self.flags is not None:
            return replace(self, flags=self.flags | frozenset(flags))
        found = {*flags}
        before = self.before
        if before and not before.endswith(b"\n"):
            before += b"\n"
            found.add(LINE)
        return Document(before, frozenset(found))

    def remembering(self, flags: frozenset[str]) -> Document:
        """With a block that says this, and nothing else, of who switched custom rules on."""
        return replace(self, flags=((self.flags or frozenset()) - _remembered(self.flags)) | flags)

    def others(self) -> list[bytes]:
        """The lines that FreePBX would give iptables and that are not ours."""
        lines = self.before.split(b"\n") + self.after.split(b"\n")
        return [line for line in lines if line.strip() and not line.startswith((b"#", b";"))]

    def without_block(self) -> bytes | None:
        """What the file holds without us; None when it was not there."""
        before = self.before
        if self.flags is None:
            return before
        if LINE in self.flags and not self.after:
            before = before[:-1]
        rest = before + self.after
        return None if FILE in self.flags and not rest else rest

    def render(self, lines: Sequence[str]) -> bytes:
        """The file with these lines in its block. There has to be one."""
        flags = ", ".join(flag for known in _FLAGS for flag in sorted(self.flags or ()) if _is(flag, known))
        begin = _BEGIN + (f" ({flags})".encode("ascii") if flags else b"")
        text = "".join(f"{line}\n" for line in (*_REMARKS, *(lines or (_NOTHING,))))
        return b"".join((self.before, begin, b"\n", text.encode("ascii"), _END, b"\n", self.after))


def _is(flag: str, known: str) -> bool:
    return flag.startswith(known) if known == OTHERS else flag == known


def _remembered(flags: Iterable[str] | None) -> frozenset[str]:
    """What a block's flags say of who switched custom rules on."""
    return frozenset(flag for flag in flags or () if _is(flag, ENABLED) or _is(flag, OTHERS))


def parse(data: bytes, path: str) -> Document:
    """Read a file. Raises SipguardError when our marks are not the two of one block."""
    lines = data.split(b"\n")
    begins = [number for number, line in enumerate(lines) if _BEGIN_LINE.fullmatch(line)]
    ends = [number for number, line in enumerate(lines) if line.rstrip() == _END]
    if not begins and not ends:
        return Document(data)
    if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0]:
        marks = ", ".join(str(number + 1) for number in sorted((*begins, *ends)))
        raise SipguardError(
            f"{path} is damaged: one line '{_BEGIN.decode()}' and after it one '{_END.decode()}' would be right, but these marks are in "
            f"lines {marks}; remove them and every line with SIPGUARD in it, and run again"
        )
    found = _BEGIN_LINE.fullmatch(lines[begins[0]])
    words = (found[1] or b"").decode("ascii").split(", ") if found else []
    before = b"".join(line + b"\n" for line in lines[: begins[0]])
    flags = frozenset(word for word in words if any(_is(word, known) for known in _FLAGS))
    return Document(before, flags, b"\n".join(lines[ends[0] + 1 :]))


def count(data: bytes) -> int:
    """How many lines for iptables there are in the block of a file that can be parsed."""
    inside = data.partition(_BEGIN)[2].partition(_END)[0]
    return sum(line.startswith(b"-") for line in inside.split(b"\n"))


@dataclass(frozen=True)
class Change:
    """What becomes of one file; None stands for a file that is not there.

    ``owner`` is whose the file is (user and group) if it is not root's, ``heir`` whose it becomes; None: it stays whose it is.
    """

    path: str
    before: bytes | None
    after: bytes | None
    owner: tuple[int, int] | None = None
    heir: tuple[int, int] | None = None

    @property
    def changed(self) -> bool:
        return self.before != self.after or self.heir is not None

    @property
    def skipped(self) -> bool:
        """Whether FreePBX will load nothing of this file, because of its owner."""
        return self.owner is not None and self.heir is None

    def undo(self) -> Change:
        """The way back."""
        return Change(self.path, self.after, self.before, self.heir, self.owner if self.heir else None)

    def write(self) -> None:
        """Carry it out in one moment; the mode stays. Raises SipguardError, and then the file is as it was."""
        if not self.changed:
            return
        path = pathlib.Path(self.path)
        if _read(self.path) != self.before:
            raise SipguardError(f"{path} was changed by somebody else while we were at it; run again")
        try:
            if self.after is None:
                path.unlink()
            else:
                _replace(path, self.after, self.heir)
        except OSError as error:
            raise SipguardError(f"cannot write {path}: {error}") from error


def _read(path: str) -> bytes | None:
    """A file's content, None when it is not there. Raises SipguardError."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise SipguardError(f"{path} is no regular file, so it is left alone")
        return pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SipguardError(f"cannot read {path}: {error}") from error


def _stranger(path: str) -> tuple[int, int] | None:
    """Whose a file is that is not root's, as user and group. Nobody but root could change that."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_uid, status.st_gid) if status.st_uid != _ROOT[0] and os.geteuid() == _ROOT[0] else None


def _replace(path: pathlib.Path, data: bytes, heir: tuple[int, int] | None) -> None:
    # Always the same name, so that the next run finds what a killed one has left.
    temporary = path.with_name(f".{path.name}.sipguard")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            try:
                status = os.lstat(path)
                os.fchown(stream.fileno(), *(heir or (status.st_uid, status.st_gid)))
                os.fchmod(stream.fileno(), stat.S_IMODE(status.st_mode))
            except FileNotFoundError:
                os.fchmod(stream.fileno(), _NEW_MODE)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def plan(
    family: Family,
    chains: Chains | None,
    directory: str = DIRECTORY,
    *,
    memory: frozenset[str] | None = None,
    adopt: bool = False,
) -> tuple[Change, Document]:
    """What makes a family's file hold a block with our ``chains`` of table filter, or no block for None; and the file as it is.

    ``memory`` is what the block is to say of who switched FreePBX's custom rules on; None: what it says. A file that is not root's
    becomes that, but with lines of others in it only for ``adopt``. Raises SipguardError.
    """
    path = rules_path(family, directory)
    data = _read(path)
    document = parse(data or b"", path)
    if chains is None:
        return Change(path, data, data if document.flags is None else document.without_block()), document
    wanted = document.with_block([FILE] if data is None else [])
    if memory is not None:
        wanted = wanted.remembering(memory)
    owner = _stranger(path)
    heir = _ROOT if owner and (adopt or not document.others()) else None
    return Change(path, data, wanted.render(commands(chains)), owner, heir), document


def present(families: Iterable[Family], directory: str = DIRECTORY) -> list[Family]:
    """The families whose file has a block, damaged ones included."""
    found = []
    for family in families:
        with contextlib.suppress(OSError):
            if _BEGIN in pathlib.Path(rules_path(family, directory)).read_bytes():
                found.append(family)
    return found


# -- what others have written, and who switched custom rules on


@dataclass(frozen=True)
class Others:
    """Lines for iptables that are not ours: how many, by file, and a digest of them, "" for none."""

    lines: Mapping[str, int]
    digest: str = ""

    def __bool__(self) -> bool:
        return bool(self.lines)

    def __str__(self) -> str:
        return " and ".join(f"{count} line{'s' * (count > 1)} of {path}" for path, count in self.lines.items())


def others(families: Iterable[Family], directory: str = DIRECTORY) -> Others:
    """What FreePBX would load besides our blocks, whoever owns the files: FreePBX makes them root's by itself.

    Raises SipguardError for a file that cannot be read, or holds damaged marks.
    """
    found: dict[str, int] = {}
    digest = hashlib.sha256()
    for family in families:
        path = rules_path(family, directory)
        lines = parse(_read(path) or b"", path).others()
        if lines:
            found[path] = len(lines)
            digest.update(b"\n".join((str(family.version).encode(), *lines, b"")))
    return Others(found, digest.hexdigest()[:16] if found else "")


def unknown(families: Iterable[Family], known: str | None, directory: str = DIRECTORY) -> str:
    """Why FreePBX may not be told again to load its files: lines of others are not those with the digest ``known``. "" if they are."""
    try:
        found = others(families, directory)
    except SipguardError as error:
        return str(error)
    if not found or found.digest == known:
        return ""
    return f"it stays off, because {found} would be loaded that sipguard has not written and that were not loaded then"


def writable(families: Iterable[Family], directory: str = DIRECTORY) -> list[tuple[str, int]]:
    """The files that not only root can write, with their modes."""
    found = []
    for family in families:
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(os.lstat(rules_path(family, directory)).st_mode)
            if mode & 0o022:
                found.append((rules_path(family, directory), mode))
    return found


def remember(found: Others) -> frozenset[str]:
    """What a block says when we switch custom rules on while there are these lines of others."""
    return frozenset({ENABLED, f"{OTHERS}{found.digest}"} if found else {ENABLED})


def memory(families: Iterable[Family], directory: str = DIRECTORY) -> frozenset[str]:
    """What the blocks say of who switched custom rules on, nothing if it was not us; a damaged one says nothing."""
    found: frozenset[str] = frozenset()
    for family in families:
        with contextlib.suppress(SipguardError):
            path = rules_path(family, directory)
            found |= _remembered(parse(_read(path) or b"", path).flags)
    return found


def leaving(found: Others, memory: frozenset[str], keep: bool = False) -> tuple[bool, str]:
    """Whether custom rules that we have switched on go off with us, and what has to be said about lines of others, "" for nothing.

    They go off where everything is as we found it. Lines that are new or different were written for custom rules that are on: without
    them the host could be more open than their author believes. ``keep`` is for those too that we have found.
    """
    if not found:
        return True, ""
    if not keep and f"{OTHERS}{found.digest}" in memory:
        return True, (
            f"FreePBX's custom rules are off again, as they were before sipguard switched them on: from the next rebuild on, FreePBX "
            f"does not load {found} any more"
        )
    return False, (
        f"FreePBX's custom rules stay on for {found}, which sipguard has not written; if nobody needs these, set firewall.customrules to "
        "disabled with freepbx_setting"
    )


# -- keeping up


def follow(targets: Mapping[Family, Chains], directory: str = DIRECTORY) -> tuple[list[Change], list[str]]:
    """What keeps the blocks that there are up to date, and a sentence for each one that cannot be."""
    return settle({family: targets[family] for family in present(targets, directory)}, directory)


def settle(
    targets: Mapping[Family, Chains | None], directory: str = DIRECTORY, *, memory: frozenset[str] | None = None
) -> tuple[list[Change], list[str]]:
    """What makes each family's file hold a block with these chains (None: no block), and a sentence for each one that cannot be done.

    ``memory`` is as in `plan`. A block whose rules FreePBX cannot be given becomes an empty one: rules of yesterday could shut out
    somebody who is let in today.
    """
    changes: list[Change] = []
    problems: list[str] = []
    for family, chains in targets.items():
        try:
            try:
                change = plan(family, chains, directory, memory=memory)[0]
            except SipguardError as error:
                change = plan(family, {}, directory, memory=memory)[0]
                problems.append(f"{change.path}: FreePBX is given no rules of ours: {error}")
            changes += [change] if change.changed else []
            if change.skipped:
                problems.append(
                    f"{change.path} is not root's, so FreePBX loads nothing of it, and it holds lines of others: look at them, and run "
                    "'chown root:root' on it"
                )
        except SipguardError as error:
            problems.append(f"FreePBX goes on with the rules it has: {error}")
    return changes, problems


def write_all(changes: Iterable[Change]) -> list[str]:
    """Carry changes out, each by itself; returns a sentence for each that failed."""
    problems = []
    for change in changes:
        try:
            change.write()
        except SipguardError as error:
            problems.append(f"FreePBX goes on with the rules it has: {error}")
    return problems
