# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host remembers of its changes: the one that waits to be confirmed, the states it can go back to, and how each ended.

Three kinds of files, each replaced in one moment. pending.json is there while a change waits. record.json decides: a change whose
number is not above the record's has ended, whatever else is lying about. state-DIGEST.json is a state, named by its own content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
from dataclasses import asdict, dataclass, field
from typing import Any

from .._netfilter.persist import replace_file
from .._netfilter.state import State
from .._netfilter.switch_guard import PENDING, STATE_DIRECTORY, Pending, read_pending
from .._sip.errors import SipguardError

__all__ = ["HISTORY", "Journal", "Outcome", "Record", "Saved"]

HISTORY = 5
_OUTCOMES = 20
_RECORD = "record.json"


@dataclass(frozen=True)
class Saved:
    """A state that was kept: its digest, and since when (seconds since the epoch) and by which change it has been the one."""

    state: str
    at: float
    cookie: str


@dataclass(frozen=True)
class Outcome:
    """How a change ended, and when (seconds since the epoch); ``why`` says what ended it."""

    cookie: str
    confirmed: bool
    at: float
    why: str


@dataclass
class Record:
    """``number`` is that of the last change that ended; ``history`` are states before confirmed changes, the newest last."""

    number: int = 0
    confirmed: Saved | None = None
    history: list[Saved] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def mark(self) -> dict[str, Any]:
        """What tells one record from another, for JSON: the confirmed state, and the cookies of those before it."""
        confirmed = asdict(self.confirmed) if self.confirmed else None
        return {"confirmed": confirmed, "history": [saved.cookie for saved in self.history]}

    def outcome(self, cookie: str) -> Outcome | None:
        return next((outcome for outcome in self.outcomes if outcome.cookie == cookie), None)


class Journal:
    """The directory, 0700, and its files, 0600."""

    def __init__(self, directory: str = STATE_DIRECTORY) -> None:
        self.directory = directory
        self._path = pathlib.Path(directory)

    def pending(self) -> Pending | None:
        """The change that waits to be confirmed. Raises SipguardError when its file, or the record, is damaged."""
        found = read_pending(self.directory)
        return None if found is None or self.record().number >= found.number else found

    def ended(self, pending: Pending) -> bool:
        """Whether the change has been confirmed or taken back; a record that cannot be read does not say so."""
        try:
            return self.record().number >= pending.number
        except SipguardError:
            return False

    def record(self) -> Record:
        """Raises SipguardError when it is damaged."""
        path = self._path / _RECORD
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return Record(
                int(found["number"]),
                Saved(**found["confirmed"]) if found["confirmed"] else None,
                [Saved(**saved) for saved in found["history"]],
                [Outcome(**outcome) for outcome in found["outcomes"]],
            )
        except FileNotFoundError:
            return Record()
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise SipguardError(
                f"{path} is damaged ({type(error).__name__}: {error}): if the rules are as they should be, remove it, "
                f"and {PENDING} beside it; the history of confirmed changes goes with it"
            ) from error

    def state(self, digest: str) -> State:
        """A state that was kept. Raises SipguardError when it is not there as it was written."""
        path = self._state_path(digest)
        try:
            text = path.read_text(encoding="utf-8")
            if _digest(text) != digest:
                raise ValueError("its content is not what was written")
            return State.parse(text)
        except (OSError, ValueError) as error:
            raise SipguardError(f"{path} is damaged: {error}") from error

    def keep(self, state: State) -> str:
        """Write a state down; returns its digest. Raises SipguardError."""
        text = state.render()
        digest = _digest(text)
        self._write(self._state_path(digest), text)
        return digest

    def open(self, pending: Pending) -> None:
        """Write down that a change waits. Raises SipguardError."""
        self._write(self._path / PENDING, pending.render())

    def close(self, record: Record) -> None:
        """Write down how a change ended, and forget that it waited. Raises SipguardError."""
        record.history = record.history[-HISTORY:]
        record.outcomes = record.outcomes[-_OUTCOMES:]
        self._write(self._path / _RECORD, json.dumps(asdict(record), indent=1) + "\n")
        with contextlib.suppress(OSError):  # the record has decided
            (self._path / PENDING).unlink()
        self._sweep(record)

    def _state_path(self, digest: str) -> pathlib.Path:
        return self._path / f"state-{digest}.json"

    def _sweep(self, record: Record) -> None:
        """Remove states that nobody can go back to any more."""
        needed = {self._state_path(saved.state) for saved in (*record.history, record.confirmed) if saved}
        for path in (*self._path.glob("state-*.json"), *self._path.glob(".state-*.new")):
            if path not in needed:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _write(self, path: pathlib.Path, text: str) -> None:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.chmod(0o700)
            replace_file(path, text, 0o600)
            # The name as well has to be on the disk before the rules change.
            folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise SipguardError(f"cannot write {path}: {error}") from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
