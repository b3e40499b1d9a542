"""Files in a folder: a persistent disk in production, or plain local files in development."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat as stat_modes
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from .. import keys
from ..errors import BackendError, BackendFull, BackendRefused, BackendUnavailable, FileExists, FileMissing, WrongLength
from ..stored import Stat
from .base import Backend

_PIECE = 1 << 20
_TEMPORARY = f"{keys.RESERVED}-"
_LOCK = f"{keys.RESERVED}-lock"
_FILE_MODE, _FOLDER_MODE = 0o640, 0o750
_NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


class LocalBackend(Backend):
    """Keeps files below ``directory``, which must be absolute; made with the first file.

    The law of this module: a file is touched only through the descriptor of its folder, and :meth:`_folder` alone
    opens those, following no symbolic link below ``directory`` (which may be one itself). A folder that is swapped for
    a link while we work leads nowhere.
    """

    name = "local"

    def __init__(self, directory: Path) -> None:
        if not directory.is_absolute():
            raise ValueError("the directory of a LocalBackend must be absolute")
        self.directory = directory

    def __str__(self) -> str:
        return f"local, {self.directory}"

    def filesystem_path(self, key: str) -> Path:
        return self.directory / keys.check(key)

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        temporary = _TEMPORARY + secrets.token_hex(8)
        try:
            with self._folder(key, make=True) as (folder, name):
                try:
                    written, sha256 = _write(temporary, folder, stream)
                    if written != size:
                        raise WrongLength(key, expected=size, found=written)
                    _publish(temporary, name, folder, overwrite=overwrite)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(temporary, dir_fd=folder)
        except FileExistsError:
            raise FileExists(key) from None
        except OSError as error:
            if error.errno in _MISSING:
                raise BackendRefused(
                    "The folder for uploads cannot be made, or a file or link is in its place: see UPLOADS_DIR.",
                    key=key,
                ) from error
            raise _translated(error, key) from error
        return sha256

    def open(self, key: str) -> IO[bytes]:
        try:
            with self._folder(key) as (folder, name):
                # O_NONBLOCK: a FIFO of that name must not make the request wait.
                descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _NO_LINK, dir_fd=folder)
        except OSError as error:
            raise _translated(error, key) from error
        if not stat_modes.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileMissing(key)
        return os.fdopen(descriptor, "rb")

    def stat(self, key: str) -> Stat | None:
        try:
            with self._folder(key) as (folder, name):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise _translated(error, key) from error
        return _stat(key, found) if stat_modes.S_ISREG(found.st_mode) else None

    def delete(self, key: str) -> None:
        try:
            with self._folder(key) as (folder, name):
                if stat_modes.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in _MISSING:
                raise _translated(error, key) from error

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        return self._walk(self.directory, "", prefix)

    def _walk(self, folder: Path, below: str, prefix: str) -> Iterator[Stat]:
        try:
            with os.scandir(folder) as scan:
                found = [entry for entry in scan if not entry.name.startswith(keys.RESERVED)]
        except FileNotFoundError:
            return
        except OSError as error:
            raise _translated(error, below) from error
        for entry in found:
            key = below + entry.name
            if entry.is_dir(follow_symlinks=False) and (prefix.startswith(f"{key}/") or f"{key}/".startswith(prefix)):
                yield from self._walk(folder / entry.name, f"{key}/", prefix)
            elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):  # deleted while we walk
                    yield _stat(key, entry.stat(follow_symlinks=False))

    @contextlib.contextmanager
    def _folder(self, key: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The descriptor of the folder that a key lies in, and its name there; with ``make``, made if missing."""
        *parents, name = keys.check(key).split("/")
        if make:
            _make_root(self.directory)
        folder = os.open(self.directory, _FOLDER)
        try:
            for parent in parents:
                if make:
                    _make_folder(parent, folder)
                below = os.open(parent, _FOLDER | _NO_LINK, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder, name
        finally:
            os.close(folder)


def _make_root(directory: Path) -> None:
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        above = os.open(path.parent, _FOLDER)
        try:
            _make_folder(path.name, above)
        finally:
            os.close(above)


def _make_folder(name: str, folder: int) -> None:
    """Make a folder, unless it is there, for owner and group only, and durable in the one above."""
    try:
        os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
    except FileExistsError:
        return
    os.chmod(name, _FOLDER_MODE, dir_fd=folder)
    _sync(folder)


def _write(name: str, folder: int, stream: IO[bytes]) -> tuple[int, str]:
    """Copy the stream into a new file, durably; what was written, as size and SHA-256."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, _FILE_MODE, dir_fd=folder)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        os.fchmod(descriptor, _FILE_MODE)
        digest, size = hashlib.sha256(), 0
        while piece := stream.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
        os.fsync(descriptor)
    return size, digest.hexdigest()


def _publish(temporary: str, name: str, folder: int, *, overwrite: bool) -> None:
    """Give the finished file its name, durably, or not at all."""
    if overwrite:
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        _sync(folder)
        return
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _replace_if_free(temporary, name, folder)
    try:
        _sync(folder)
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise


def _replace_if_free(temporary: str, name: str, folder: int) -> None:
    """For network file systems without hard links: a lock keeps two savers of one key apart."""
    lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | _NO_LINK, _FILE_MODE, dir_fd=folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            raise FileExistsError(name)
    finally:
        os.close(lock)


def _sync(folder: int) -> None:
    """Make a new name in a folder survive a power cut: fsync(2) of the file alone does not."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _stat(key: str, found: os.stat_result) -> Stat:
    return Stat(key, found.st_size, datetime.fromtimestamp(found.st_mtime, timezone.utc))


def _translated(error: OSError, key: str) -> BackendError:
    if error.errno in _MISSING:
        return FileMissing(key)
    if error.errno in _FULL:
        return BackendFull("The disk for uploads is full; nothing was stored.", key=key)
    if error.errno in _REFUSED:
        return BackendRefused(
            "The folder for uploads refuses this process: give its user permission, or set UPLOADS_DIR.",
            key=key,
        )
    name = errno.errorcode.get(error.errno or 0, "unknown")
    return BackendUnavailable(f"The disk for uploads does not work ({name}).", key=key)
