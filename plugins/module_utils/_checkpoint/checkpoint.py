# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host before a run, written down, compared with what became of it, brought back, dropped.

What is kept is what the roles may change: rules and sets of ours, files of ours, Asterisk's configuration, settings of FreePBX that the
inventory names, and which units ran. Packages that were installed stay.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._netfilter.lock import exclusive
from .._netfilter.runner import NEEDED, Runner
from .._sip.errors import SipguardError
from . import files
from .health import examine, short_of_space, worse
from .kept import FOLDER, LOCK_TIMEOUT, Archive, Kept, changed, paths, user
from .places import GROWING, OWN_FOLDERS, units

__all__ = ["Checkpoint", "Request"]


@dataclass(frozen=True)
class Request:
    """The options of M(sipguard_checkpoint): where Asterisk's configuration is, the ports it should go on listening to, and the
    settings of FreePBX that the run may change (section -> key -> value)."""

    config_dir: str = "/etc/asterisk"
    ports: tuple[int, ...] = ()
    freepbx: Mapping[str, Any] = field(default_factory=dict)


class Checkpoint:
    """Those of one host. ``folder`` is where they are. What only some of the states need is loaded by those."""

    def __init__(self, runner: Runner, request: Request, folder: str = FOLDER) -> None:
        self._runner, self._request, self._archive = runner, request, Archive(folder)

    @staticmethod
    def require_space() -> None:
        """Raises SipguardError where a run would not find the room it needs."""
        full = short_of_space()
        if full:
            raise SipguardError("; ".join(full))

    def take(self) -> tuple[str, dict[str, Any]]:
        """Write the host down; returns the cookie and `Health.text`. Raises SipguardError; then nothing was changed."""
        self.require_space()
        with exclusive(LOCK_TIMEOUT):
            health = examine(self._runner, self._request.config_dir, self._request.ports).text()
            entries = {path: entry for path in paths(self._request.config_dir) if (entry := files.look(path))}
            entries.update({path: entry for path in files.find(GROWING) if (entry := files.look(path))})
            folders = {path: files.look_at_folder(path) for path in {*OWN_FOLDERS, *files.folders(entries)}}
            kept = Kept(
                entries,
                self._rules().render(),
                health,
                dict(units(self._runner)),
                {path: about for path, about in folders.items() if about},
                self._journal(),
                user(),
                self._request.config_dir,
                self._freepbx_settings(),
            )
            cookie = secrets.token_hex(8)
            self._archive.write(cookie, kept)
        return cookie, health

    def compare(self, cookie: str) -> tuple[list[str], dict[str, Any]]:
        """What the host did when the checkpoint was taken and does no more; and `Health.text` of now. Raises SipguardError."""
        kept = self._archive.read(cookie)
        now = examine(self._runner, kept.config_dir, self._request.ports)
        return worse(kept.health, now), now.text()

    def restore(self, cookie: str, check: bool = False) -> list[str]:
        """Make the host what it was; returns what was done. Raises SipguardError, after everything that could be done has been."""
        from .._netfilter.state import State, differences
        from .going_back import GoingBack

        kept = self._archive.read(cookie)
        if check:
            found = changed(kept, paths(kept.config_dir))[0]
            return [*differences(self._rules(), State.parse(kept.rules)), *(f"file {path}" for path in found)]
        return GoingBack(self._runner, kept).carry_out()

    # -- how

    def _rules(self) -> Any:
        from .._netfilter.state import State, capture

        if not all(self._runner.which(command) for command in NEEDED):
            return State()
        return capture(self._runner)

    @staticmethod
    def _journal() -> dict[str, Any] | None:
        from .._host.journal import Journal

        try:
            return Journal().record().mark()
        except SipguardError:
            return None

    def _freepbx_settings(self) -> dict[str, Any]:
        """What the inventory names, and in any case the setting that decides whether FreePBX bears our rules."""
        from .._asterisk import freepbx

        found = freepbx.detect()
        if found is None:
            return {}
        from .._asterisk import freepbx_custom_rules, freepbx_settings

        before: dict[str, Any] = {}
        if self._request.freepbx:
            before |= freepbx_settings.apply(
                found, self._runner, self._request.freepbx, reload=False, check=True
            ).before
        custom_rules = freepbx_custom_rules.read(self._runner)
        if custom_rules is not None:
            before["firewall"] = {"customrules": custom_rules or None, **before.get("firewall", {})}
        return before
