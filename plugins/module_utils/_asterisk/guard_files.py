# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the dialplan's guard: written, included, read by Asterisk, and taken away again."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._sip.errors import OptionError, SipguardError
from . import dialplan_guard as guards
from . import freepbx
from .audit.dialplan import read as read_dialplan
from .cli import Cli
from .reload import reload as reload_files
from .runner import Runner
from .transaction import Transaction, forget_backup
from .tree import ConfigDirectory, Tree, fold, load, shown

__all__ = ["Place", "apply"]

_DIALPLAN = "extensions.conf"
_LEADS = re.compile(r"\bsipguard-(?:guard|outbound)\b")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,80}\.conf")


@dataclass(frozen=True)
class Place:
    """Where the files are. ``include_into`` is empty when somebody includes the file himself. Raises OptionError."""

    config_dir: str
    file: str
    include_into: str

    def __post_init__(self) -> None:
        if not os.path.isdir(self.config_dir):
            raise OptionError("config_dir", self.config_dir, "a directory that is there is expected")
        for option in ("file", "include_into"):
            value = getattr(self, option)
            if not _NAME.fullmatch(value) and (option == "file" or value):
                raise OptionError(
                    option, value, "the name of a file below 'config_dir' that ends with .conf is expected"
                )
        if self.file in (_DIALPLAN, self.include_into):
            raise OptionError("file", self.file, "a name of its own is expected")
        host = freepbx.detect()
        if host is not None and self.include_into and os.path.samefile(host.config_dir, self.config_dir):
            permission = host.may_edit(self.include_into)
            if not permission:
                raise OptionError("include_into", self.include_into, f"{permission.why}; use 'extensions_custom.conf'")


def apply(place: Place, guard: guards.Guard | None, runner: Runner, *, reload: bool, check: bool) -> dict[str, Any]:
    """Make the files what ``guard`` says, None: gone. Returns the module's result. Raises SipguardError, and then all is as it was."""
    directory = ConfigDirectory(place.config_dir)
    program = guards.pin_file(place.file)
    before = {name: directory.read(name) for name in (place.file, program, place.include_into) if name}
    for name in (place.file, program):
        if before[name] is not None and not guards.is_ours(before[name] or b""):
            raise OptionError(
                "file", place.file, f"{name} was not written by this module; choose another name or remove it"
            )
    taken, warnings = _own_emergency(place, directory, guard)
    wanted = _wanted(place, guard, before, taken)
    changed = [name for name in wanted if wanted[name] != before[name]]
    text = (wanted[place.file] or b"").decode()
    result: dict[str, Any] = {
        "changed": bool(changed),
        "diff": {"before": _shown(place, before, changed), "after": _shown(place, wanted, changed)},
        "file": directory.full(place.file),
        "contexts": list(dict.fromkeys(re.findall(r"^\[([^]]+)\]", text, re.MULTILINE))),
        "reloaded": False,
        "backup": "",
        "warnings": warnings,
    }
    if not changed:
        return result
    _require_sound(
        place, directory, {name: data for name, data in wanted.items() if data is not None}, guard is not None
    )
    cli = Cli(runner, place.config_dir)
    needed = reload and changed != [program]
    if needed and not cli.running():
        unseen = "Asterisk does not run, so nobody could see what it makes of the dialplan"
        if guard is not None:
            raise SipguardError(f"{unseen}; start it, or set reload to false")
        warnings.append(f"{unseen}: it reads that when it starts")
        needed = False
    if not check:
        _carry_out(directory, before, wanted, changed, cli if needed else None, result)
    return result


def _own_emergency(
    place: Place, directory: ConfigDirectory, guard: guards.Guard | None
) -> tuple[dict[str, set[str]], list[str]]:
    """The emergency extensions that the phones' contexts have themselves, and a warning for each that does not lead to the guard."""
    taken: dict[str, set[str]] = {}
    warnings: list[str] = []
    if guard is None or not guard.contexts:
        return taken, warnings
    tree = load(ConfigDirectory(directory.path, {place.file: b""}), _DIALPLAN)
    dialplan = read_dialplan(tree)
    for context in dict.fromkeys(guard.contexts):
        found = _extensions(tree, context, dialplan.filled)
        for extension, where in found.items():
            number, dummy, caller = extension.partition("/")
            if number not in guard.first_extensions:
                continue
            if not caller:
                taken.setdefault(context, set()).add(number)
            if not any(_LEADS.search(line) for dummy, line in where):
                warnings.append(
                    f"{where[0][0]}: [{context}] has the emergency number {shown(extension)} itself, and that does not lead to the guard;"
                    " see to it that such calls get through, or remove it"
                )
        for other in dialplan.closure(context)[1:]:
            warnings += [
                f"{other.extensions[number].place}: [{context}] does not reach the emergency number {number} of [{shown(other.name)}] any"
                f" more, but the trunk of the guard; to have it otherwise, write it into [{context}]"
                for number in guard.first_extensions
                if number in other.extensions and number not in taken.get(context, ())
            ]
    return taken, warnings


def _extensions(tree: Tree, context: str, filled: Callable[[str], str]) -> dict[str, list[tuple[str, str]]]:
    """Extension (with the caller's number after a slash, if it is for that alone) -> place and text of each of its priorities."""
    found: dict[str, list[tuple[str, str]]] = {}
    for category in tree.objects():
        extension = ""
        for variable in category.variables if category.name == context else ():
            name, text = fold(variable.name), variable.value
            if name == "exten":
                extension, dummy, text = text.partition(",")
                # Asterisk skips hyphens; a pattern of one number alone is as good as the extension
                extension = re.sub(r"\[(.)\]", r"\1", filled(extension).strip().replace("-", "")).removeprefix("_")
            elif name != "same":
                continue
            if fold(text.partition(",")[0].strip()) != "hint":
                found.setdefault(extension, []).append((str(variable.place), text))
    return found


def _wanted(
    place: Place, guard: guards.Guard | None, before: dict[str, bytes | None], taken: dict[str, set[str]]
) -> dict[str, bytes | None]:
    program = guards.pin_file(place.file)
    wanted: dict[str, bytes | None] = {place.file: None, program: None}
    if guard is not None:
        salt = guards.reused_prefix_salt(_text(before[place.file]), guard.prefix) or secrets.token_hex(
            guards.SALT_BYTES
        )
        wanted[place.file] = guards.render(guard, place.file, salt, taken).encode()
        if guard.pin:
            salt = guards.reused_pin_salt(_text(before[program]), guard.pin) or secrets.token_hex(guards.SALT_BYTES)
            wanted[program] = guards.render_pin(guard.pin, salt).encode()
    if place.include_into:
        data = before[place.include_into]
        if data is None and guard is not None:
            raise OptionError("include_into", place.include_into, f"it is not in {place.config_dir}")
        if data is not None:
            edit = guards.with_include if guard is not None else guards.without_include
            data = edit(data, place.file)
        wanted[place.include_into] = data
    return wanted


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def _shown(place: Place, files: dict[str, bytes | None], changed: list[str]) -> str:
    """For the diff. Of a foreign file nothing but our own line."""
    shown = ""
    for name in changed:
        data = files[name]
        if data is None:
            continue
        if name == place.include_into:
            text = f'#include "{place.file}"\n' if guards.without_include(data, place.file) != data else ""
        else:
            text = guards.masked(_text(data))
        shown += f"# {name}\n{text}"
    return shown


def _require_sound(place: Place, directory: ConfigDirectory, files: dict[str, bytes], present: bool) -> None:
    """That Asterisk can read the dialplan, and that the guard is in it once these files are there."""
    tree = load(ConfigDirectory(directory.path), _DIALPLAN)
    if tree.fatal is not None:
        raise SipguardError(f"{tree.fatal}; Asterisk refuses the dialplan as it is, so it is not edited")
    if (
        present
        and place.include_into
        and not load(ConfigDirectory(directory.path, files), _DIALPLAN).named(guards.CONTEXTS[0])
    ):
        raise SipguardError(
            f"{_DIALPLAN} would not include {place.file}: an open comment, or nothing includes {place.include_into}; nothing was changed"
        )


def _carry_out(
    directory: ConfigDirectory,
    before: dict[str, bytes | None],
    wanted: dict[str, bytes | None],
    changed: list[str],
    cli: Cli | None,
    result: dict[str, Any],
) -> None:
    written = {directory.full(name): data for name in changed if (data := wanted[name]) is not None}
    transaction = Transaction(written, {directory.full(name): before[name] for name in changed})
    transaction.prepare()
    removed = [name for name in changed if wanted[name] is None]
    try:
        result["backup"] = transaction.backup()
        transaction.commit(hold=cli is not None)
        if cli is not None:
            _take_over(cli, transaction, expected=not any(name.endswith(".conf") for name in removed))
            result["reloaded"] = True
    except SipguardError:
        # a run that has changed nothing must not push out what an earlier one has kept
        if result["backup"] and transaction.is_undone():
            forget_backup(result["backup"])
        raise
    finally:
        transaction.forget()
    # Last: until here nothing refers to them any more.
    for name in removed:
        try:
            os.unlink(directory.full(name))
        except OSError as error:
            raise SipguardError(
                f"cannot remove {directory.full(name)}: {error}; nothing includes it any more"
            ) from error


def _take_over(cli: Cli, transaction: Transaction, *, expected: bool) -> None:
    """Let Asterisk read the files; on any doubt they are put back, and it reads them again."""
    try:
        _reload(cli, expected=expected)
    except BaseException:
        transaction.undo()
        reload_files(cli, [_DIALPLAN])
        raise


def _reload(cli: Cli, *, expected: bool) -> None:
    done = reload_files(cli, [_DIALPLAN])
    if done.refused:
        raise SipguardError(f"Asterisk has not taken the dialplan over: {done.refused[0]}; the files are as they were")
    there = f"Context '{guards.CONTEXTS[0]}'" in cli.command(f"dialplan show {guards.CONTEXTS[0]}")
    if expected and not there:
        raise SipguardError("Asterisk has read the dialplan, and the guard is not in it; the files are as they were")
