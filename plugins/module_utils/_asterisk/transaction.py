# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several configuration files change together or not at all, keep owner and mode, and can be put back.

The directory belongs to Asterisk's own user, and root writes there: no symbolic link is ever followed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .._sip.errors import SipguardError

__all__ = ["BACKUPS", "Original", "Transaction", "write_private"]

BACKUPS = "/var/backups/sipguard/asterisk"
_KEPT_BACKUPS = 10
_NEW_MODE = 0o640


@dataclass(frozen=True)
class Original:
    """A file as it was read: ``data`` is None where there was none."""

    data: bytes | None
    owner: int
    group: int
    mode: int
    modified: float
    identity: tuple[int, ...]


def _fail(path: str, error: OSError) -> SipguardError:
    return SipguardError(f"{path}: {error.strerror or error}; the configuration is as it was")


def _read(path: str) -> Original:
    """Raises SipguardError for what is no regular file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        folder = os.path.dirname(path)
        try:
            about = os.stat(folder)
        except OSError as error:
            raise _fail(folder, error) from error
        return Original(None, about.st_uid, about.st_gid, _NEW_MODE, 0.0, ())
    except OSError as error:
        if os.path.islink(path):
            raise SipguardError(
                f"{path}: a symbolic link, which root does not follow in a directory of another user; replace it by the file"
            ) from error
        raise _fail(path, error) from error
    with os.fdopen(handle, "rb") as stream:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise SipguardError(f"{path}: not a regular file")
        identity = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        try:
            data = stream.read()
        except OSError as error:
            raise _fail(path, error) from error
    return Original(data, about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode), about.st_mtime, identity)


@dataclass
class Transaction:
    """``files``: absolute path -> new content. Nothing is read or written before ``prepare``.

    ``expected``: path -> the content the plan was made from, None where there was no file.
    """

    files: Mapping[str, bytes]
    expected: Mapping[str, bytes | None]
    originals: dict[str, Original] = field(default_factory=dict)
    _ready: dict[str, str] = field(default_factory=dict)
    _done: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Write every new content beside its file. Raises SipguardError, and then nothing is left behind."""
        try:
            for path, content in self.files.items():
                self.originals[path] = _read(path)
                self._ready[path] = _beside(path, content, self.originals[path])
        except BaseException:
            self.forget()
            raise

    def backup(self, directory: str = BACKUPS) -> str:
        """Keep the files as they are in a new folder below ``directory``, readable by root alone; returns the folder."""
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            folder = _new_folder(directory)
            for path, original in self.originals.items():
                if original.data is not None:
                    target = os.path.join(folder, path.lstrip("/"))
                    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
                    _write(target, original.data, 0o600)
            _forget_older(directory)
        except OSError as error:
            self.forget()
            raise _fail(directory, error) from error
        return folder

    def commit(self) -> None:
        """Put the new contents in place; a file that somebody else has changed meanwhile stops it, with everything as it was."""
        try:
            for path in self.files:
                now = _read(path)
                if now.identity != self.originals[path].identity or now.data != self.expected.get(path):
                    raise SipguardError(f"{path}: somebody else has just changed it; nothing was changed, run again")
            for path in self.files:
                os.replace(self._ready.pop(path), path)
                self._done.append(path)
            for folder in {os.path.dirname(path) for path in self.files}:
                _sync(folder)
        except OSError as error:
            self.undo()
            raise _fail("the configuration", error) from error
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Put back what was there before; raises SipguardError when a file cannot be put back."""
        self.forget()
        wrong: list[str] = []
        for path in reversed(self._done):
            original = self.originals[path]
            try:
                if original.data is None:
                    os.unlink(path)
                else:
                    os.replace(_beside(path, original.data, original), path)
            except (OSError, SipguardError) as error:
                wrong.append(f"{path}: {error}")
        self._done.clear()
        if wrong:
            raise SipguardError(f"cannot put back {'; '.join(wrong)}; the backup has it")

    def again(self) -> None:
        """After ``undo``: prepare the same once more."""
        self.originals.clear()
        self.prepare()

    def forget(self) -> None:
        """Remove what was prepared and not used."""
        for name in self._ready.values():
            with contextlib.suppress(OSError):
                os.unlink(name)
        self._ready.clear()


def _beside(path: str, content: bytes, original: Original) -> str:
    """A new file in the same folder with the content, owner and mode; Asterisk's include patterns do not match its name."""
    name = os.path.join(os.path.dirname(path), f".sipguard-{secrets.token_hex(8)}.tmp")
    try:
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _fail(path, error) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            if (original.owner, original.group) != (os.geteuid(), os.getegid()):
                os.fchown(handle, original.owner, original.group)
            os.fchmod(handle, original.mode)
            # PJSIP passes over a file of the same size and time of change
            modified = time.time()
            if int(modified) <= int(original.modified):
                modified = int(original.modified) + 1.0
            os.utime(handle, (modified, modified))
            os.fsync(handle)
        if original.data is not None:
            _copy_attributes(path, name)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise _fail(path, error) from error
    return name


def _copy_attributes(source: str, target: str) -> None:
    """Extended attributes: access lists and security labels."""
    with contextlib.suppress(OSError):
        for attribute in os.listxattr(source, follow_symlinks=False):
            os.setxattr(target, attribute, os.getxattr(source, attribute, follow_symlinks=False), follow_symlinks=False)


def _write(path: str, content: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(handle)


def write_private(path: str, text: str) -> None:
    """Make a file of root's hold ``text`` in one moment. Raises OSError."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    name = os.path.join(folder, f".sipguard-{secrets.token_hex(8)}.tmp")
    _write(name, text.encode(), 0o600)
    os.replace(name, path)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _new_folder(directory: str) -> str:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for name in _names(stamp):
        folder = os.path.join(directory, name)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            continue
        return folder
    raise OSError(f"no free name for a folder in {directory}")


def _names(stamp: str) -> Iterator[str]:
    yield stamp
    for number in range(2, 1000):
        yield f"{stamp}-{number:03d}"


def _forget_older(directory: str) -> None:
    """Keep the newest backups."""
    import shutil

    names = sorted(name for name in os.listdir(directory) if name[:1].isdigit())
    for name in names[:-_KEPT_BACKUPS]:
        shutil.rmtree(os.path.join(directory, name), ignore_errors=True)
