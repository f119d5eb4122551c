# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import freepbx
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.freepbx_custom_rules import put_back, read
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._asterisk.php import FakePhp, install

STATES: list[dict[str, Any]] = [{}, {"customrules": "disabled"}, {"customrules": "enabled"}]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with FreePBX."""
    install(tmp_path)
    monkeypatch.setattr(freepbx, "detect", partial(freepbx.detect, str(tmp_path)))
    return tmp_path


@pytest.mark.parametrize("before", STATES, ids=str)
@pytest.mark.parametrize("after", STATES, ids=str)
def test_it_comes_back(before: dict[str, Any], after: dict[str, Any]) -> None:
    others = {"lefilter": "disabled"}
    php = FakePhp(firewall={**before, **others})
    found = read(php)
    assert found is not None
    assert found == before.get("customrules", "")
    php.stored["firewall"] = {**after, **others}
    differs = (before == STATES[2]) != (after == STATES[2])
    assert put_back(php, found) is differs
    # What is not stored is off, and stays as it is.
    assert php.stored["firewall"] == {**(before if differs else after), **others}
    assert put_back(php, found) is False
    assert not php.need_reload


def test_it_is_not_switched_on_against_a_reason() -> None:
    php = FakePhp()
    with pytest.raises(SipguardError, match="lines of others"):
        put_back(php, "enabled", "lines of others")
    assert php.stored["firewall"] == {}
    # Where it is on, or is to go off, the reason says nothing.
    php.stored["firewall"] = {"customrules": "enabled"}
    assert put_back(php, "enabled", "lines of others") is False
    assert put_back(php, "", "lines of others") is True


@pytest.mark.parametrize("stored", [True, ["enabled"], 1, None], ids=str)
def test_whatever_else_is_stored_counts_as_off(stored: Any) -> None:
    assert read(FakePhp(firewall={"customrules": stored})) == ""


def test_nothing_is_known_without_freepbx(root: Path) -> None:
    (root / "etc/freepbx.conf").unlink()
    php = FakePhp()
    assert read(php) is None
    assert put_back(php, "enabled") is False
    assert php.asked == []


def test_nothing_is_known_without_its_firewall_module() -> None:
    php = FakePhp()
    php.firewall = False
    assert read(php) is None
    assert put_back(php, "enabled") is False
    assert php.asked == ["read", "read"]


class Broken(FakePhp):
    """No process can be started."""

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        raise OSError(12, "Cannot allocate memory")


def test_freepbx_that_does_not_answer() -> None:
    """Within a limit of time, which the fake insists on."""
    php = FakePhp()
    php.down = True
    for runner, said in ((php, "PHP ended before"), (Broken(), "Cannot allocate memory")):
        assert read(runner) is None
        with pytest.raises(SipguardError, match=said):
            put_back(runner, "enabled")


def test_freepbx_that_does_not_take_it() -> None:
    php = FakePhp()
    php.ignored = {"customrules"}
    with pytest.raises(SipguardError, match="did not take back the value of its setting customrules"):
        put_back(php, "enabled")
    php.refused = {"firewall"}
    with pytest.raises(SipguardError, match="FreePBX failed at the write"):
        put_back(php, "enabled")
