# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and links as they are at one moment, and back to that, byte for byte.

Some of the folders belong to other users (Asterisk's own), and root writes there: no symbolic link that such a user could have made is
ever followed.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import secrets
import stat
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .._asterisk.transaction import open_folder
from .._sip.errors import SipguardError

__all__ = [
    "Entry",
    "differing",
    "find",
    "folders",
    "look",
    "look_at_folder",
    "pack",
    "put",
    "put_folder",
    "tree",
    "unpack",
]

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LARGEST = 64 << 20  # bytes of one file: no configuration, and no list of a million networks, is larger


@dataclass(frozen=True)
class Entry:
    """A regular file (``data``) or a symbolic link (``target``), with the owner's and group's numbers."""

    mode: int
    owner: int
    group: int
    data: bytes | None = None
    target: str = ""


def find(patterns: Iterable[str]) -> list[str]:
    """Absolute paths of what the patterns match now; ``**`` stands for any number of folders."""
    return sorted({path for pattern in patterns for path in glob.glob(pattern, recursive=True)})


def tree(folder: str) -> list[str]:
    """Every name of something that is no folder, in a folder and those below it."""
    return sorted(os.path.join(where, name) for where, dummy, names in os.walk(folder) for name in names)


def look(path: str) -> Entry | None:
    """What is there; None for nothing, and for what is neither file nor link. Raises SipguardError."""
    try:
        folder = open_folder(os.path.dirname(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _trouble("read", path, error) from error
    try:
        return _look(folder, os.path.basename(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _trouble("read", path, error) from error
    finally:
        os.close(folder)


def _look(folder: int, name: str) -> Entry | None:
    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(about.st_mode):
        return Entry(0o777, about.st_uid, about.st_gid, target=os.readlink(name, dir_fd=folder))
    if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST:
        return None
    with os.fdopen(os.open(name, _READ, dir_fd=folder), "rb") as stream:
        about = os.fstat(stream.fileno())
        if not stat.S_ISREG(about.st_mode):
            return None
        return Entry(stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid, data=stream.read(_LARGEST))


def differing(wanted: Mapping[str, Entry], now: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of the paths, wanted or there ``now``, that are not as wanted; and what is wrong with those that cannot be looked at."""
    found, problems = [], []
    for path in sorted({*wanted, *now}):
        try:
            if look(path) != wanted.get(path):
                found.append(path)
        except SipguardError as error:
            problems.append(str(error))
    return found, problems


def folders(paths: Iterable[str]) -> list[str]:
    """Those in which the paths are, and all above them."""
    found: set[str] = set()
    for path in paths:
        while (path := os.path.dirname(path)) not in found and path != "/":
            found.add(path)
    return sorted(found)


def look_at_folder(path: str) -> list[int] | None:
    """Mode, owner and group of a folder; None where there is none."""
    try:
        folder = open_folder(path)
    except OSError:
        return None
    try:
        about = os.fstat(folder)
        return [stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid]
    finally:
        os.close(folder)


def put_folder(path: str, mode: int, owner: int, group: int) -> bool:
    """Make a folder where there is none; whether there was none. The one above it has to be there. Raises SipguardError."""
    above, name = os.path.split(path)
    try:
        folder = open_folder(above)
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fchown(made, owner, group)
                os.fchmod(made, mode)
            finally:
                os.close(made)
        except FileExistsError:
            return False
        finally:
            os.close(folder)
    except OSError as error:
        raise _trouble("put back", path, error) from error
    return True


def put(path: str, entry: Entry | None) -> None:
    """Make a path what it was, in one moment; None removes it. The folder has to be there. Raises SipguardError."""
    try:
        folder = open_folder(os.path.dirname(path))
    except FileNotFoundError as error:
        if entry is None:
            return
        raise _trouble("put back", path, error) from error
    except OSError as error:
        raise _trouble("put back", path, error) from error
    name = os.path.basename(path)
    try:
        if entry is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        else:
            _put(folder, name, entry)
        os.fsync(folder)
    except OSError as error:
        raise _trouble("put back", path, error) from error
    finally:
        os.close(folder)


def _put(folder: int, name: str, entry: Entry) -> None:
    fresh = f".sipguard-{secrets.token_hex(8)}.tmp"
    try:
        if entry.data is None:
            os.symlink(entry.target, fresh, dir_fd=folder)
            os.chown(fresh, entry.owner, entry.group, dir_fd=folder, follow_symlinks=False)
        else:
            with os.fdopen(os.open(fresh, _NEW, 0o600, dir_fd=folder), "wb") as stream:
                stream.write(entry.data)
                stream.flush()
                os.fchown(stream.fileno(), entry.owner, entry.group)
                os.fchmod(stream.fileno(), entry.mode)
                os.fsync(stream.fileno())
        os.replace(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh, dir_fd=folder)
        raise


def pack(entries: Mapping[str, Entry], notes: Mapping[str, str]) -> bytes:
    """One archive of files and links; ``notes`` are texts beside them, by names that are no absolute paths."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT, compresslevel=3) as archive:
        for name, text in notes.items():
            _add(archive, tarfile.TarInfo(name), text.encode())
        for path, entry in entries.items():
            info = tarfile.TarInfo(f"root{path}")
            info.mode, info.uid, info.gid = entry.mode, entry.owner, entry.group
            if entry.data is None:
                info.type, info.linkname = tarfile.SYMTYPE, entry.target
            _add(archive, info, entry.data or b"")
    return out.getvalue()


def _add(archive: tarfile.TarFile, info: tarfile.TarInfo, data: bytes) -> None:
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def unpack(data: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    """What `pack` was given. Raises SipguardError for anything else."""
    entries: dict[str, Entry] = {}
    notes: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for info in archive:
                stream = archive.extractfile(info) if info.isreg() else None
                content = stream.read() if stream is not None else None
                if not info.name.startswith("root/"):
                    notes[info.name] = (content or b"").decode()
                    continue
                target = info.linkname if info.issym() else ""
                entries[info.name[4:]] = Entry(info.mode, info.uid, info.gid, content, target)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise SipguardError(f"the checkpoint is damaged: {error}") from error
    return entries, notes


def _trouble(verb: str, path: str, error: OSError) -> SipguardError:
    return SipguardError(f"cannot {verb} {ascii(path)[1:-1]}: {error.strerror or error}")
