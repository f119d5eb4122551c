# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several configuration files change together or not at all, keep owner and mode, and can be put back.

The directory belongs to Asterisk's own user, and root writes there: no symbolic link that this user could have made is ever followed,
and what is done to a folder is done to the one that was opened first, whatever its path means meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .._sip.errors import SipguardError
from .tree import shown

__all__ = [
    "BACKUPS",
    "Original",
    "Transaction",
    "forget_backup",
    "open_folder",
    "open_folder_of",
    "sweep",
    "write_private",
]

BACKUPS = "/var/backups/sipguard/asterisk"
_KEPT_BACKUPS = 10
_BACKUP = re.compile(r"[0-9]{8}T[0-9]{6}Z(-[0-9]{3})?")
_NEW_MODE = 0o640
_TEMPORARY = re.compile(r"\.sipguard-[0-9a-f]{16}\.tmp")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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
    return SipguardError(f"{shown(path)}: {error.strerror or error}; the configuration is as it was")


def open_folder(path: str) -> int:
    """The folder's descriptor. A symbolic link on the way is followed only where nobody but root can have put it. Raises OSError."""
    handle = os.open("/", _FOLDER)
    try:
        for name in filter(None, path.split("/")):
            about = os.fstat(handle)
            trusted = about.st_uid == 0 and not about.st_mode & 0o022
            inner = os.open(name, _FOLDER if trusted else _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
    except BaseException:
        os.close(handle)
        raise
    return handle


def open_folder_of(path: str, user: int, group: int) -> int:
    """The same of a folder in which this user, or this group, may make files anyway. Raises OSError for any other.

    Asterisk itself says where its logs are. Who has taken it over could name any folder, and root would make files for him there.
    """
    folder = open_folder(path)
    about = os.fstat(folder)
    if user in (0, about.st_uid) or (about.st_gid == group and about.st_mode & 0o020):
        return folder
    os.close(folder)
    raise PermissionError(errno.EACCES, "it belongs to somebody else than Asterisk", path)


def _read(folder: int, path: str) -> Original:
    """Raises SipguardError for what is no regular file."""
    name = os.path.basename(path)
    try:
        handle = os.open(name, _READ, dir_fd=folder)
    except FileNotFoundError:
        about = os.fstat(folder)
        return Original(None, about.st_uid, about.st_gid, _NEW_MODE, 0.0, ())
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SipguardError(
                f"{shown(path)}: a symbolic link, which root does not follow in a directory of another user; replace it by the file"
            ) from error
        raise _fail(path, error) from error
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise SipguardError(f"{shown(path)}: not a regular file")
    with os.fdopen(handle, "rb") as stream:
        try:
            data = stream.read()
        except OSError as error:
            raise _fail(path, error) from error
    mode = stat.S_IMODE(about.st_mode) & 0o777
    return Original(data, about.st_uid, about.st_gid, mode, about.st_mtime, (*_same(about), about.st_ctime_ns))


def _same(about: os.stat_result) -> tuple[int, ...]:
    """What stays of a file that is renamed, and changes with its content."""
    return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)


def sweep(folders: Iterable[str]) -> None:
    """Remove what a run that was killed has left in these folders. Only for who holds the lock."""
    for path in folders:
        with contextlib.suppress(OSError):
            folder = open_folder(path)
            try:
                _sweep(folder)
            finally:
                os.close(folder)


def _sweep(folder: int) -> None:
    for name in os.listdir(folder):
        if _TEMPORARY.fullmatch(name):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)


@dataclass
class Transaction:
    """``files``: absolute path -> new content. Nothing is read or written before ``prepare``.

    ``expected``: path -> the content the plan was made from, None where there was no file.
    """

    files: Mapping[str, bytes]
    expected: Mapping[str, bytes | None]
    originals: dict[str, Original] = field(default_factory=dict)
    _folders: dict[str, int] = field(default_factory=dict)
    # path -> name of the new file beside it, and what tells that it is still the same afterwards
    _ready: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    _done: dict[str, tuple[int, ...]] = field(default_factory=dict)
    # path -> another name of the old file
    _held: dict[str, str] = field(default_factory=dict)

    def _folder(self, path: str) -> int:
        folder = os.path.dirname(path)
        if folder not in self._folders:
            try:
                self._folders[folder] = open_folder(folder)
            except NotADirectoryError as error:
                raise SipguardError(
                    f"{shown(folder)}: no folder, or a symbolic link in a directory of another user, which root does not follow"
                ) from error
            except OSError as error:
                raise _fail(folder, error) from error
            _sweep(self._folders[folder])
        return self._folders[folder]

    def prepare(self) -> None:
        """Write every new content beside its file. Raises SipguardError, and then nothing is left behind."""
        try:
            for path, content in self.files.items():
                folder = self._folder(path)
                self.originals[path] = _read(folder, path)
                self._ready[path] = _beside(folder, path, content, self.originals[path])
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

    def commit(self, hold: bool = False) -> None:
        """Put the new contents in place; a file that somebody else has changed meanwhile stops it, with everything as it was.

        With ``hold`` the old files stay beside them until ``forget``: they can then be put back on a full disk as well.
        """
        try:
            for path in self.files:
                now = _read(self._folder(path), path)
                if now.identity != self.originals[path].identity or now.data != self.expected.get(path):
                    raise SipguardError(
                        f"{shown(path)}: somebody else has just changed it; nothing was changed, run again"
                    )
            for path in self.files:
                folder, name = self._folder(path), os.path.basename(path)
                if hold and self.originals[path].data is not None:
                    self._hold(folder, path)
                new, identity = self._ready[path]
                os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)
                del self._ready[path]
                self._done[path] = identity
            for folder in self._folders.values():
                os.fsync(folder)
        except OSError as error:
            self.undo()
            raise _fail("the configuration", error) from error
        except BaseException:
            self.undo()
            raise

    def _hold(self, folder: int, path: str) -> None:
        held = _temporary()
        with contextlib.suppress(OSError):  # not every file system has hard links
            os.link(os.path.basename(path), held, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            self._held[path] = held

    def undo(self) -> None:
        """Put back what was there before; raises SipguardError when a file cannot be put back."""
        self._drop_ready()
        wrong: list[str] = []
        for path, identity in reversed(self._done.items()):
            folder, name, original = self._folder(path), os.path.basename(path), self.originals[path]
            try:
                if _same(os.stat(name, dir_fd=folder, follow_symlinks=False)) != identity:
                    wrong.append(f"{shown(path)}: somebody else has changed it meanwhile")
                elif original.data is None:
                    os.unlink(name, dir_fd=folder)
                else:
                    old = self._held.pop(path, None) or _beside(folder, path, original.data, original)[0]
                    os.replace(old, name, src_dir_fd=folder, dst_dir_fd=folder)
            except (OSError, SipguardError) as error:
                wrong.append(f"{shown(path)}: {error}")
        self._done.clear()
        if wrong:
            raise SipguardError(f"cannot put back {'; '.join(wrong)}; the backup has it")

    def again(self) -> None:
        """After ``undo``: prepare the same once more."""
        self.originals.clear()
        self.prepare()

    def _drop_ready(self) -> None:
        for path, (name, dummy) in self._ready.items():
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder(path))
        self._ready.clear()

    def is_undone(self) -> bool:
        """Whether every file says what it said before."""
        try:
            return all(_read(self._folder(path), path).data == self.expected.get(path) for path in self.files)
        except SipguardError:
            return False

    def forget(self) -> None:
        """Remove whatever is left beside the files; they can no more be put back."""
        self._drop_ready()
        for path, name in self._held.items():
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder(path))
        self._held.clear()
        self._done.clear()
        for folder in self._folders.values():
            os.close(folder)
        self._folders.clear()


def _temporary() -> str:
    """A name that Asterisk's include patterns do not match."""
    return f".sipguard-{secrets.token_hex(8)}.tmp"


def _beside(folder: int, path: str, content: bytes, original: Original) -> tuple[str, tuple[int, ...]]:
    """A new file in the same folder with the content, owner and mode: its name and identity."""
    name = _temporary()
    try:
        handle = os.open(name, _NEW, 0o600, dir_fd=folder)
    except OSError as error:
        raise _fail(path, error) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            if (original.owner, original.group) != (os.geteuid(), os.getegid()):
                os.fchown(handle, original.owner, original.group)
            os.fchmod(handle, original.mode)
            if original.data is not None:
                _copy_attributes(folder, os.path.basename(path), handle)
            # PJSIP passes over a file of the same size and time of change
            modified = time.time()
            if int(modified) <= int(original.modified):
                modified = int(original.modified) + 1.0
            os.utime(handle, (modified, modified))
            os.fsync(handle)
            return name, _same(os.fstat(handle))
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise _fail(path, error) from error


def _copy_attributes(folder: int, source: str, target: int) -> None:
    """Extended attributes: access lists and security labels. By descriptors, for a name may mean another file in a moment."""
    with contextlib.suppress(OSError):
        handle = os.open(source, _READ, dir_fd=folder)
        try:
            for attribute in os.listxattr(handle):
                os.setxattr(target, attribute, os.getxattr(handle, attribute))
        finally:
            os.close(handle)


def _write(path: str, content: bytes, mode: int) -> None:
    handle = os.open(path, _NEW, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(handle)


def write_private(path: str, content: bytes) -> None:
    """Make a file of root's, 0600, hold ``content`` in one moment. Raises OSError."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    name = os.path.join(folder, _temporary())
    try:
        _write(name, content, 0o600)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


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


def forget_backup(folder: str) -> None:
    """Remove one backup."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _forget_older(directory: str) -> None:
    """Keep the newest backups."""
    import shutil

    names = sorted(name for name in os.listdir(directory) if _BACKUP.fullmatch(name))
    for name in names[:-_KEPT_BACKUPS]:
        shutil.rmtree(os.path.join(directory, name), ignore_errors=True)
