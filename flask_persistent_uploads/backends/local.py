"""Files in a folder: a persistent disk in production, or plain local files in development."""

from __future__ import annotations

import contextlib
import errno
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
_FILE_MODE, _FOLDER_MODE = 0o640, 0o750

_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


class LocalBackend(Backend):
    """Keeps files below ``directory``, which must be absolute; made with the first file.

    The law of this module: every file is reached through :meth:`filesystem_path`, and no symbolic link below
    ``directory`` is followed (``directory`` itself may be one).
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
        path = self.filesystem_path(key)
        temporary = path.with_name(_TEMPORARY + secrets.token_hex(8))
        try:
            self._make_folders(path.parent)
            self._refuse_links(path.parent, key)
            try:
                written, sha256 = _write(temporary, stream)
                if written != size:
                    raise WrongLength(key, expected=size, found=written)
                _publish(temporary, path, overwrite=overwrite)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)
        except FileExistsError:
            raise FileExists(key) from None
        except OSError as error:
            raise _translated(error, key) from error
        return sha256

    def open(self, key: str) -> IO[bytes]:
        path = self.filesystem_path(key)
        try:
            # O_NONBLOCK: a FIFO of that name must not make the request wait.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            file = os.fdopen(descriptor, "rb")
            try:
                # The links are looked for after opening, and the file must be the one that lies there without
                # them: a folder that was swapped for a link in between is noticed.
                self._refuse_links(path.parent, key)
                found = os.fstat(descriptor)
                if not stat_modes.S_ISREG(found.st_mode) or not os.path.samestat(found, os.lstat(path)):
                    raise FileMissing(key)
            except BaseException:
                file.close()
                raise
        except OSError as error:
            raise _translated(error, key) from error
        return file

    def stat(self, key: str) -> Stat | None:
        path = self.filesystem_path(key)
        try:
            self._refuse_links(path.parent, key)
            found = path.lstat()
        except FileMissing:
            return None
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise _translated(error, key) from error
        return _stat(key, found) if stat_modes.S_ISREG(found.st_mode) else None

    def delete(self, key: str) -> None:
        path = self.filesystem_path(key)
        if self.stat(key) is None:
            return
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
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

    def _make_folders(self, folder: Path) -> None:
        """Make what is missing, each readable by owner and group only, and each durable in the one above."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                path.chmod(_FOLDER_MODE)
                _sync_folder(path.parent)

    def _refuse_links(self, folder: Path, key: str) -> None:
        expected = Path(os.path.realpath(self.directory), folder.relative_to(self.directory))
        if os.path.realpath(folder) != str(expected):
            raise FileMissing(key)


def _write(path: Path, stream: IO[bytes]) -> tuple[int, str]:
    """Copy the stream into a new file, durably; what was written, as size and SHA-256."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE)
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


def _publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Some network file systems have no hard links: claim the name, then put the file in its place.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE))
        temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    """Make a new name in ``folder`` survive a power cut (fsync(2), "it does not necessarily ensure …")."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _stat(key: str, found: os.stat_result) -> Stat:
    return Stat(key, found.st_size, datetime.fromtimestamp(found.st_mtime, timezone.utc))


def _translated(error: OSError, key: str) -> BackendError:
    if error.errno in _MISSING:
        return FileMissing(key)
    if error.errno in _FULL:
        return BackendFull("The disk for uploads is full; nothing was stored.", key=key)
    if error.errno in _REFUSED:
        return BackendRefused("The folder for uploads refuses this process: give it the permission.", key=key)
    name = errno.errorcode.get(error.errno or 0, "unknown")
    return BackendUnavailable(f"The disk for uploads does not work ({name}).", key=key)
