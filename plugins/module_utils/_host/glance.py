# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seeing at a glance that a run would find everything as the last one left it.

The kernel and the files are asked, not a memory of them: a digest of everything that decides about a run, and of everything it would
look at, is compared with that of the last run that had nothing left to do. The kernel numbers its generations of nftables' rules;
iptables-legacy has no such number, and where its tables are in use there is no glance. What is loaded for a glance is a fifth of what
a run needs, and on a small host loading is most of a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from .._netfilter import netlink
from .._netfilter.names import BLOCKED, FAMILIES, TRUSTED, WATCHED
from .._netfilter.switch_guard import STATE_DIRECTORY, boot_identity
from .._sip.errors import SipguardError
from .surroundings import surroundings

__all__ = ["Glance"]

_NOTE = pathlib.Path(STATE_DIRECTORY, "lists", ".glance")
_LISTS = _NOTE.parent
_SETTINGS = pathlib.Path("/etc/sipguard")
_EXCEPTIONS = pathlib.Path(STATE_DIRECTORY, "exceptions")
_BOOT = ("/etc/systemd/system/sipguard-restore.service", "/usr/share/netfilter-persistent/plugins.d/90-sipguard")
_LEGACY = ("/proc/net/ip_tables_names", "/proc/net/ip6_tables_names")
_EXPIRES = re.compile(rb"\t[1-9]")
_MAX_FEED = 64 * 1024 * 1024  # bytes


class Glance:
    """For one list. ``options`` are those of the module."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    def known(self) -> dict[str, Any] | None:
        """What the last run with these options returned, if nothing has changed since, else None."""
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
            note = json.loads(_NOTE.read_text(encoding="utf-8"))[self._name]
            if note["seen"] == self._seen():
                found: dict[str, Any] = note["result"]
                return found
        return None

    def remember(self, result: Mapping[str, Any]) -> None:
        """To be called after a run, with what an unchanged one returns."""
        seen = self._seen()
        notes: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            read = json.loads(_NOTE.read_text(encoding="utf-8"))
            notes = read if isinstance(read, dict) else {}
        notes.pop(self._name, None)
        if seen is not None:
            notes[self._name] = {"seen": seen, "result": dict(result)}
        # It only saves work: what cannot be written is worked out anew.
        with contextlib.suppress(OSError):
            if not _LISTS.is_dir():
                return
            temporary = _NOTE.with_name(f"{_NOTE.name}.new")
            temporary.unlink(missing_ok=True)
            with os.fdopen(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as stream:
                json.dump(notes, stream)
            temporary.replace(_NOTE)

    @property
    def _name(self) -> str:
        return str(self._options["name"])

    def _seen(self) -> str | None:
        """A digest of everything that counts; None where that cannot be seen at a glance."""
        digest = hashlib.sha256()
        try:
            for part in self._parts():
                digest.update(f"{len(part)}:".encode() + part)
        except (OSError, ValueError, SipguardError):
            return None
        return digest.hexdigest()

    def _parts(self) -> Iterator[bytes]:
        """Raises ValueError where a glance is not enough."""
        if _EXCEPTIONS.exists() or any(_text(path) for path in _LEGACY):
            raise ValueError("what changes with time, or has no generation")
        yield from _code()
        yield json.dumps(dict(self._options), sort_keys=True).encode()
        if self._options.get("feed"):
            feed = pathlib.Path(self._options["feed"])
            if not feed.is_file() or feed.stat().st_size > _MAX_FEED:
                raise ValueError("no feed that can be read in one go")
            yield feed.read_bytes()
        for folder in (_SETTINGS, _LISTS):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                # Ours that begin with a point are notes; a file that was being written when a run was killed has another end.
                if not path.name.startswith(".") or path.name.endswith(".new"):
                    content = path.read_bytes()
                    if folder == _LISTS and _EXPIRES.search(content):
                        raise ValueError("entries that expire")
                    yield path.name.encode()
                    yield content
        yield repr(surroundings()).encode()
        for base in (TRUSTED, BLOCKED, WATCHED):
            for family in FAMILIES:
                for name in (base + family.suffix, f"{base}{family.suffix}-new"):
                    yield f"{name} {netlink.set_digest(name)}".encode()
        generation = netlink.Watch().generation()
        if generation is None:
            raise ValueError("no nftables")
        yield generation
        yield boot_identity().encode()
        yield repr([os.path.exists(path) for path in _BOOT]).encode()
        yield repr([os.path.realpath(shutil.which(name, path=_PATH) or "") for name in ("iptables", "ipset")]).encode()


_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


def _code() -> Iterator[bytes]:
    """What tells one version of this product from another, wherever Python has loaded it from."""
    archive = getattr(globals()["__loader__"], "archive", "")
    if archive:  # as Ansible sends it: with the time of each run, but also with a checksum of each file
        with zipfile.ZipFile(archive) as packed:
            yield repr(
                sorted((item.filename, item.CRC) for item in packed.infolist() if "/sipguard/" in item.filename)
            ).encode()
        return
    for path in sorted(pathlib.Path(__file__).parents[1].rglob("*.py")):
        yield path.read_bytes()


def _text(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="ascii")
    except OSError:
        return ""
