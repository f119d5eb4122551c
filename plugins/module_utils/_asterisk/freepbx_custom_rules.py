# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FreePBX's setting "customrules", kept and brought back.

While it is on, FreePBX's firewall bears rules of others in table filter, and loads the files of custom rules after each flush. Rules of
ours that come back without it would be flushed every half a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._sip.errors import SipguardError
from . import freepbx
from .freepbx_api import Api, Settings
from .runner import Completed, Runner, within

__all__ = ["ON", "is_on", "put_back", "read"]

ON = "enabled"
_SECTION, _KEY = "firewall", "customrules"
_ASKED: Settings = {_SECTION: {_KEY: None}}
# Seconds for one PHP process. Whoever goes back because nobody can get in any more must not wait for a database for ever.
_TIME_LIMIT = 15


class _Bounded:
    """A runner whose commands end in time."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def which(self, command: str) -> str | None:
        return self._runner.which(command)

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        try:
            return self._runner.run([*within(self._runner, _TIME_LIMIT), *argv], stdin)
        except OSError as error:
            raise SipguardError(f"cannot start {argv[0]}: {error}") from error


def is_on(value: str) -> bool:
    """FreePBX takes whatever else is stored for off."""
    return value == ON


def read(runner: Runner) -> str | None:
    """What is stored, "" for nothing, which counts as off; None without FreePBX or its firewall module, or where it does not answer."""
    api = _api(runner)
    try:
        return None if api is None else _stored(api)
    except SipguardError:
        return None


def put_back(runner: Runner, value: str, against: str = "") -> bool:
    """Make the setting what ``read`` has found; whether that was a change. Raises SipguardError.

    ``against`` is why it may not be switched on, "" for nothing; it is raised only where the setting would have to be. Without FreePBX,
    or its firewall module, nothing is changed.
    """
    api = _api(runner)
    now = None if api is None else _stored(api)
    if api is None or now is None or is_on(now) == is_on(value):
        return False
    if against and is_on(value):
        raise SipguardError(against)
    api.write({_SECTION: {_KEY: value or None}})
    if is_on(_stored(api) or "") != is_on(value):
        raise SipguardError("FreePBX did not take back the value of its setting customrules")
    return True


def _api(runner: Runner) -> Api | None:
    found = freepbx.detect()
    return None if found is None else Api(found, _Bounded(runner))


def _stored(api: Api) -> str | None:
    """The value, None without the firewall module."""
    found: Any = api.read(_ASKED)[_SECTION][_KEY]
    if found is None:
        return None
    return found["value"] if found["stored"] and isinstance(found["value"], str) else ""
