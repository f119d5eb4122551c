# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FreePBX's settings in memory, behind the command php, which is asked and answers as in freepbx_api.py."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed

__all__ = ["FakePhp", "install"]


def install(root: Path) -> str:
    """The files by which FreePBX is found; returns its command."""
    command = root / "usr/sbin/fwconsole"
    command.parent.mkdir(parents=True)
    command.touch(mode=0o755)
    (root / "etc").mkdir()
    (root / "etc/freepbx.conf").touch()
    return str(command)


class FakePhp:
    """A runner. ``stored`` is section -> key -> value; ``firewall`` is whether there is that module.

    ``refused`` are sections of which nothing can be written, ``ignored`` keys that keep their value, and ``down`` says that nothing
    answers. ``asked`` is what was run, without limits of time: "read", "write SECTION.KEY=VALUE ..." or "fwconsole ...".
    """

    def __init__(self, **stored: dict[str, Any]) -> None:
        self.stored: dict[str, dict[str, Any]] = {"sipsettings": {}, "chan_sip": {}, "firewall": {}, "advanced": {}}
        self.stored.update(copy.deepcopy(stored))
        self.types = {"HTTPENABLED": "bool"}
        self.firewall = True
        self.need_reload = False
        self.reloads = True
        self.down = False
        self.refused: set[str] = set()
        self.ignored: set[str] = set()
        self.asked: list[str] = []

    @property
    def custom_rules(self) -> str | None:
        value: str | None = self.stored["firewall"].get("customrules")
        return value

    def which(self, command: str) -> str | None:
        return f"/usr/bin/{command}"

    def run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        if os.path.basename(argv[0]) == "timeout":
            assert argv[1].startswith("--kill-after=")
            assert argv[2].isdigit()
            argv = argv[3:]
        if os.path.basename(argv[0]) == "fwconsole":
            self.asked.append(f"fwconsole {argv[1]}")
            self.need_reload = self.need_reload and not self.reloads
            return Completed(0, "", "")
        assert os.path.basename(argv[0]) == "php", argv
        if self.down:
            return Completed(124, "", "")
        asked = json.loads(stdin)
        answer = getattr(self, f"_{asked['do']}")({section: asked[section] or {} for section in self.stored})
        return Completed(0, f"PHP Deprecated: whatever\n\nsipguard-answer:{json.dumps(answer)}\n", "")

    def _read(self, asked: dict[str, dict[str, Any]]) -> dict[str, Any]:
        self.asked.append("read")
        # PHP makes a list of an array without keys.
        read: dict[str, Any] = {
            section: {key: self._look(section, key) for key in keys} or [] for section, keys in asked.items()
        }
        return {"stage": "done", **read, "need_reload": self.need_reload}

    def _pending(self, asked: dict[str, dict[str, Any]]) -> dict[str, Any]:
        self.asked.append("pending")
        self.need_reload = True
        return {"stage": "done"}

    def _look(self, section: str, key: str) -> dict[str, Any] | None:
        keys = self.stored[section]
        if section == "advanced":
            return {"stored": True, "value": keys[key], "type": self.types.get(key, "text")} if key in keys else None
        if section == "firewall" and not self.firewall:
            return None
        return {"stored": key in keys, "value": keys.get(key)}

    def _write(self, asked: dict[str, dict[str, Any]]) -> dict[str, Any]:
        changes = {f"{section}.{key}": value for section, keys in asked.items() for key, value in keys.items()}
        self.asked.append(" ".join(["write", *(f"{name}={json.dumps(value)}" for name, value in changes.items())]))
        if any(name.split(".")[0] in self.refused for name in changes):
            return {"stage": "write", "class": "Exception"}
        assert all(key in self.stored["advanced"] for key in asked["advanced"]), "FreePBX ends here"
        for section, keys in asked.items():
            for key, value in keys.items():
                if key in self.ignored:
                    continue
                if value is None:
                    self.stored[section].pop(key, None)
                else:
                    self.stored[section][key] = ("1" if value else "0") if isinstance(value, bool) else value
                self.need_reload = self.need_reload or section != "firewall"
        return {"stage": "done"}
