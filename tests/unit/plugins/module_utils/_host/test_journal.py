# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.journal import HISTORY, Journal, Outcome, Record, Saved
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.state import SetState, State
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.switch_guard import Pending, boot_identity, now
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

CHANGE = Pending("c0ffee", 7, 1.0, 61.0, boot_identity(), now() + 60, ("192.0.2.7 40001",), "ab12", "change")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "states"))


def names(journal: Journal) -> list[str]:
    return sorted(path.name for path in Path(journal.directory).iterdir())


def states(number: int) -> State:
    return State(
        taken=float(number), files={"sets": f"a\udcff{number}"}, sets={"sipguard-trusted4": SetState("x", None)}
    )


def test_nothing_is_known_at_first(journal: Journal) -> None:
    assert journal.pending() is None
    assert journal.record() == Record()
    assert not journal.ended(CHANGE)
    assert not Path(journal.directory).exists()


def test_everything_is_read_as_it_was_written(journal: Journal) -> None:
    digest = journal.keep(states(1))
    assert journal.state(digest) == states(1)
    assert journal.keep(states(1)) == digest != journal.keep(states(2))
    journal.open(CHANGE)
    assert journal.pending() == CHANGE
    record = Record(
        6, Saved(digest, 5.0, "decade"), [Saved(digest, 4.0, "facade")], [Outcome("decade", True, 5.0, "so")]
    )
    journal.close(record)
    assert journal.record() == record
    assert journal.pending() is None


def test_only_root_can_read_it(journal: Journal) -> None:
    Path(journal.directory).mkdir(mode=0o755)
    journal.keep(states(1))
    journal.open(CHANGE)
    folder = Path(journal.directory)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize(("number", "ended"), [(6, False), (7, True), (8, True)])
def test_the_record_says_what_has_ended(journal: Journal, number: int, ended: bool) -> None:
    """Also while the file of the change is still there, because whoever ended it was killed."""
    journal.close(Record(number))
    journal.open(CHANGE)
    assert journal.ended(CHANGE) is ended
    assert (journal.pending() is None) is ended


def test_damaged_record_ends_nothing(journal: Journal) -> None:
    journal.close(Record(9))
    journal.open(CHANGE)
    for text in ("", "{", "[]", "{}", '{"number": 9, "confirmed": {"a": 1}, "history": [], "outcomes": []}'):
        (Path(journal.directory) / "record.json").write_text(text)
        assert not journal.ended(CHANGE)
        with pytest.raises(SipguardError, match=r"record\.json is damaged .* remove it, and pending\.json"):
            journal.record()
        with pytest.raises(SipguardError, match=r"record\.json is damaged"):
            journal.pending()


@pytest.mark.parametrize("damage", [lambda text: text[:-2], lambda text: text.replace("1.0", "1.1"), lambda text: ""])
def test_state_that_is_not_what_was_written_is_refused(journal: Journal, damage: Callable[[str], str]) -> None:
    digest = journal.keep(states(1))
    path = Path(journal.directory) / f"state-{digest}.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(SipguardError, match=r"state-.*\.json is damaged: its content is not what was written"):
        journal.state(digest)
    path.unlink()
    with pytest.raises(SipguardError, match=r"is damaged: .*No such file"):
        journal.state(digest)


def test_state_of_another_version_is_refused(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "render", lambda self: '{"version": 99}\n')
    digest = journal.keep(states(1))
    with pytest.raises(SipguardError, match="version 99"):
        journal.state(digest)


def test_history_is_limited_and_nothing_else_is_left_over(journal: Journal) -> None:
    record = Record(confirmed=Saved(journal.keep(states(99)), 1.0, "last"))
    for number in range(30):
        record.history.append(Saved(journal.keep(states(number)), float(number), f"c{number}"))
        record.outcomes.append(Outcome(f"c{number}", True, float(number), ""))
        journal.close(record)
    (Path(journal.directory) / ".state-1234.json.new").touch()
    journal.keep(states(77))
    journal.open(CHANGE)
    journal.close(record)
    assert [saved.cookie for saved in journal.record().history] == [f"c{number}" for number in range(25, 30)]
    assert HISTORY == 5
    assert len(names(journal)) == 1 + 1 + 5
    assert len(journal.record().outcomes) == 20
    assert journal.record().outcome("c29") == record.outcomes[-1]
    assert journal.record().outcome("c9") is None
    for saved in (*record.history, record.confirmed):
        assert saved
        assert journal.state(saved.state).exact


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "states").write_text("not a folder")
    journal = Journal(str(tmp_path / "states"))
    for act in (lambda: journal.keep(states(1)), lambda: journal.open(CHANGE), lambda: journal.close(Record())):
        with pytest.raises(SipguardError, match="cannot write"):
            act()


def test_a_later_change_is_another_one(journal: Journal) -> None:
    journal.close(Record(7))
    journal.open(replace(CHANGE, number=8))
    assert journal.pending() == replace(CHANGE, number=8)
