"""Files in a folder: on a persistent disk in production, or on any disk in development."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat as stat_modes
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from .. import keys, parsers
from ..config import Setting, Settings
from ..errors import (
    BackendError,
    BackendFull,
    BackendRefused,
    BackendUnavailable,
    FileExists,
    FileMissing,
    Problem,
    WrongLength,
)
from ..stored import Stat
from .base import Backend
from .description import Description

_PIECE = 1 << 20  # bytes that are read and written at a time
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


#: Problems of a disk, for every place that reports them.
DISK_FULL = Problem("The disk for uploads is full.", "Free some space on it, or enlarge it.")
DISK_READ_ONLY = Problem("The disk for uploads is read-only.", "Mount it for writing.")


class LocalBackend(Backend):
    """Keeps files below ``directory``, an absolute path. The folder is created with the first file.

    The rule of this module: a file is accessed only through the descriptor of its folder, which :meth:`_folder` opens.
    It follows no symbolic link below ``directory``, which may be a link itself. An attacker who replaces a folder by a
    link during an operation gains nothing. Only :meth:`entries` uses paths: it reads no content.
    """

    name = "local"
    description = Description(
        settings=(
            Setting(
                "dir",
                parsers.folder,
                native=("MEDIA_ROOT",),
                shared=False,
                help="The folder that keeps the files. A relative path is relative to the working directory. Default: "
                "`uploads` in Flask's instance folder.",
            ),
            Setting(
                "accel_redirect",
                parsers.url_prefix,
                strict=True,
                help="The path of an internal location of nginx for the files in `UPLOADS_DIR`. nginx then sends the "
                "files: see [nginx](hosts.md#nginx). For Apache, set Flask's `USE_X_SENDFILE`.",
            ),
        ),
    )

    def __init__(self, directory: Path) -> None:
        if not directory.is_absolute():
            raise ValueError("directory is a relative path. Use an absolute path.")
        self.directory = directory

    @classmethod
    def argument(cls, setting: str) -> str:
        return "directory" if setting == "dir" else setting

    @classmethod
    def from_settings(cls, settings: Settings, *, environ: Mapping[str, str], instance_path: Path) -> LocalBackend:
        return cls(directory_of(settings, instance_path))

    def __str__(self) -> str:
        return f"local, {self.directory}"

    def filesystem_path(self, key: str) -> Path:
        return self.directory / keys.check(key)

    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        temporary = _TEMPORARY + secrets.token_hex(8)
        with self._errors(key, missing=self._no_folder), self._folder(key, make=True) as (folder, name):
            try:
                written, sha256 = _write(temporary, folder, stream)
                if written != size:
                    raise WrongLength(key, expected=size, found=written)
                _publish(temporary, name, folder, overwrite=overwrite)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
        return sha256

    def open(self, key: str) -> IO[bytes]:
        with self._errors(key), self._folder(key) as (folder, name):
            # With O_NONBLOCK, a FIFO of this name does not block the request.
            descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _NO_LINK, dir_fd=folder)
        if not stat_modes.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileMissing(key)
        return os.fdopen(descriptor, "rb")

    def stat(self, key: str) -> Stat | None:
        with contextlib.suppress(FileMissing), self._errors(key), self._folder(key) as (folder, name):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return _stat(key, found) if stat_modes.S_ISREG(found.st_mode) else None
        return None

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileMissing), self._errors(key), self._folder(key) as (folder, name):
            if stat_modes.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=folder)

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        return self._walk(self.directory, "", prefix)

    def _walk(self, folder: Path, start: str, prefix: str) -> Iterator[Stat]:
        """Yield the files below ``folder`` whose keys begin with ``prefix``. All keys below it begin with ``start``."""
        found: list[os.DirEntry[str]] = []
        gone = contextlib.suppress(FileNotFoundError)
        with self._errors(start, missing=self._no_folder), gone, os.scandir(folder) as scan:
            found = [entry for entry in scan if not entry.name.startswith(keys.RESERVED)]
        for entry in found:
            key = start + entry.name
            if entry.is_dir(follow_symlinks=False) and (prefix.startswith(f"{key}/") or f"{key}/".startswith(prefix)):
                yield from self._walk(folder / entry.name, f"{key}/", prefix)
            elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileMissing), self._errors(key):  # deleted in the meantime
                    yield _stat(key, entry.stat(follow_symlinks=False))

    @contextlib.contextmanager
    def _folder(self, key: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder of a key. Yield its descriptor and the file's name in it. ``make`` creates the folder."""
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

    # -- errors

    @contextlib.contextmanager
    def _errors(self, key: str, *, missing: Callable[[str], BackendError] = FileMissing) -> Iterator[None]:
        """Translate the errors of the operating system. ``missing`` makes the error for a path that does not exist."""
        try:
            yield
        except FileExistsError:
            raise FileExists(key) from None
        except OSError as error:
            if error.errno in _MISSING:
                raise missing(key) from error
            raise self._failure(error, key) from error

    def _no_folder(self, key: str) -> BackendRefused:
        variable = self.variable("directory")
        return BackendRefused(
            "The folder for uploads cannot be created, or a file or a link is in its place.",
            remedy=f"Correct {variable}, or remove what is in the way.",
            setting=variable,
            key=key,
        )

    def _failure(self, error: OSError, key: str) -> BackendError:
        variable = self.variable("directory")
        failure: type[BackendError] = BackendUnavailable
        message = f"The disk for uploads does not work ({errno.errorcode.get(error.errno or 0, 'unknown')})."
        remedy = f"Repair the disk, or set {variable} to a folder on another one."
        if error.errno in _FULL:
            failure, message = BackendFull, DISK_FULL.message
            remedy = f"{DISK_FULL.remedy} Or set {variable} to a folder on another disk."
        elif error.errno == errno.EROFS:
            message, remedy = DISK_READ_ONLY.message, DISK_READ_ONLY.remedy
        elif error.errno in _REFUSED:
            failure, message = BackendRefused, "This process has no permission to use the folder for uploads."
            remedy = f"Give its user permission, or set {variable} to another folder."
        return failure(message, remedy=remedy, setting=variable, key=key)


def directory_of(settings: Settings, instance_path: Path) -> Path:
    """Return the folder in the settings, relative to the working directory; ``<instance_path>/<name>`` by default."""
    return Path(settings["dir"]).absolute() if settings["dir"] else instance_path / settings.uploads


def _make_root(directory: Path) -> None:
    """Create the folder for uploads and the folders above it, if they do not exist."""
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
    """Create a folder durably, for its owner and group only. Do nothing if it exists."""
    try:
        os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
    except FileExistsError:
        return
    os.chmod(name, _FOLDER_MODE, dir_fd=folder)
    _sync(folder)


def _write(name: str, folder: int, stream: IO[bytes]) -> tuple[int, str]:
    """Copy the stream durably into a new file. Return the size and the SHA-256 (hex) of what was written."""
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
    """Give the finished file its name, durably. If that fails, leave no new file under that name."""
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
    """Rename the file, but raise ``FileExistsError`` if the name is taken, on file systems without hard links.

    A lock prevents two processes from saving the same key.
    """
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
    """Make a new name in a folder survive a power failure: fsync(2) of the file alone does not."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _stat(key: str, found: os.stat_result) -> Stat:
    return Stat(key, found.st_size, datetime.fromtimestamp(found.st_mtime, timezone.utc))
