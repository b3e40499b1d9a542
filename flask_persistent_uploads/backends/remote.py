"""Errors, clients, deadlines and streams that all backends with a service share.

urllib3 is imported only by the functions that need it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock, Thread
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import (
    BackendError,
    BackendFull,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    FileExists,
    TypeNotAllowed,
    UploadRejected,
    WrongLength,
)

if TYPE_CHECKING:
    import urllib3

T = TypeVar("T")

#: The type of ``Backend.variable``, which returns what a message calls an argument of the constructor.
Variable = Callable[[str], str]

PIECE = 1 << 18  # bytes that are read, hashed and sent at a time

_LONGEST_WAIT = 5  # seconds; if a service asks for a longer wait, the call is not repeated


# -- errors


def timed_out(key: str | None = None, *, nothing_stored: bool = False) -> BackendTimeout:
    """Return the error for a service that did not answer in time."""
    error = BackendTimeout("The service did not answer in time.", key=key)
    error.nothing_stored = nothing_stored
    return error


def unreachable(key: str | None = None, *, nothing_stored: bool = False) -> BackendUnavailable:
    """Return the error for a service that did not answer, or for a response that is not the service's own."""
    return BackendUnavailable("The service cannot be reached.", key=key, nothing_stored=nothing_stored)


def unavailable(key: str | None = None, *, status: int | None = None, retry_after: int = 5) -> BackendUnavailable:
    """Return the error for a service that responds that it is down or overloaded."""
    suffix = f" ({status})" if status is not None else ""
    return BackendUnavailable(f"The service is not available at the moment{suffix}.", key=key, retry_after=retry_after)


def full(key: str | None = None, *, service_code: str | None = None) -> BackendFull:
    """Return the error for a service that has no room left."""
    return BackendFull(
        "The account or bucket is full. Nothing was stored.",
        remedy="Delete files that you do not need, or choose a larger plan.",
        key=key,
        service_code=service_code,
    )


def empty_file(filename: str) -> TypeNotAllowed:
    """Return the error for an empty file, which some services cannot store."""
    return TypeNotAllowed(f"'{filename}' is empty. Empty files cannot be stored.", filename=filename)


def connection_error(error: BaseException | None, key: str | None) -> BackendTimeout | BackendUnavailable:
    """Translate an error of urllib3, or the error that it wraps. If no connection was made, nothing was stored."""
    from urllib3 import exceptions

    cause = getattr(error, "reason", None) or error
    no_connection = isinstance(cause, exceptions.ConnectTimeoutError)
    # In urllib3, NewConnectionError (a refused connection, an unknown host) is a subclass of TimeoutError.
    if isinstance(cause, exceptions.TimeoutError) and not isinstance(cause, exceptions.NewConnectionError):
        return timed_out(key, nothing_stored=no_connection)
    return unreachable(key, nothing_stored=no_connection)


def second_attempt(first: BackendUnavailable, call: Callable[[], T]) -> T:
    """Return what ``call`` returns, after a first attempt failed with ``first``.

    Raises ``first`` at once if the service asks for a longer wait. If both attempts fail, the error claims that nothing
    was stored only if that is true of both. ``FileExists`` is the exception: the caller knows that the first attempt
    may have stored the file.
    """
    if isinstance(first.retry_after, int) and first.retry_after > _LONGEST_WAIT:
        raise first
    try:
        return call()
    except FileExists:
        raise
    except (BackendError, UploadRejected) as error:
        in_doubt = isinstance(error, BackendTimeout) and not error.nothing_stored
        if first.nothing_stored or in_doubt:
            raise
        raise first from error


def discard_altered_upload(key: str, service: str, delete: Callable[[], object]) -> BackendRefused:
    """Delete a file that the service altered while storing it. Return the error to raise."""
    error = BackendRefused(
        f"{service} stored other bytes than it was sent: a setting of the account alters uploads.",
        remedy=f"Turn that setting off in {service}'s console; it may be a default upload preset.",
        key=key,
    )
    try:
        delete()
    except (BackendError, UploadRejected) as reason:
        error.leave_behind([key])
        error.__cause__ = reason
    return error


@contextlib.contextmanager
def name_rejected_file(filename: str) -> Iterator[None]:
    """Add the file's name to the error, and to the sentence that tells a visitor why the service rejected the file."""
    try:
        yield
    except UploadRejected as error:
        error.filename = filename
        error.description = f"'{filename}' was rejected. {error.description}"
        raise


# -- clients and deadlines


class _ForkGuard:
    """A lock that is never locked at the start of a child process."""

    def __init__(self) -> None:
        self.lock = Lock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = Lock()


_building = _ForkGuard()


class PerProcess(Generic[T]):
    """An object that each process builds for itself.

    If child processes used the client of their parent, each could read the responses of the others.
    """

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._built: dict[int, T] = {}

    def get(self) -> T:
        pid = os.getpid()
        if pid not in self._built:
            with _building.lock:
                if pid not in self._built:
                    # The parent's object is kept: closing it could wait for threads that only the parent has.
                    self._built[pid] = self._build()
        return self._built[pid]


def call_with_deadline(seconds: float, call: Callable[[], T], key: str | None = None) -> T:
    """Return what ``call`` returns. Raises ``BackendTimeout`` after ``seconds``.

    The timeout of an SDK limits one read, and some SDKs try again by themselves. So a service that sends a byte now and
    then could keep the request waiting forever. After a timeout, the call goes on in its thread until its connection
    ends.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the thread that waits for the result raises it
            future.set_exception(error)

    Thread(target=run, name="uploads-call", daemon=True).start()
    try:
        return future.result(seconds)
    except FutureTimeout:
        raise timed_out(key) from None


def urllib3_timeout(seconds: float) -> urllib3.Timeout:
    """Return the limits for urllib3: how long it waits for a connection, and for each read of a response."""
    import urllib3

    return urllib3.Timeout(connect=min(3.0, seconds / 2), read=seconds)


# -- streams


@dataclass(frozen=True, slots=True)
class Digests:
    """The digests of the content of one file."""

    md5: hashlib._Hash
    sha256: hashlib._Hash


def read_through(key: str, stream: IO[bytes], size: int) -> Digests:
    """Return the digests of the rest of ``stream``, and leave it at its current position.

    The content is read once for both: services confirm a file by its MD5, and this package by its SHA-256. Raises
    ``WrongLength`` if the rest does not have ``size`` bytes.
    """
    start, found = stream.tell(), 0
    digests = Digests(hashlib.md5(usedforsecurity=False), hashlib.sha256())
    while piece := stream.read(PIECE):
        found += len(piece)
        digests.md5.update(piece)
        digests.sha256.update(piece)
    if found != size:
        raise WrongLength(key, expected=size, found=found)
    stream.seek(start)
    return digests


def read_fully(stream: IO[bytes], size: int) -> bytes:
    """Return the next ``size`` bytes, or fewer at the end of the stream. A single ``read`` may return less."""
    pieces = []
    while size > 0 and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class StreamTail:
    """The rest of a stream as a request body. SDKs seek to 0 before they send a body (again)."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._start = stream.tell()

    def read(self, size: int = -1) -> bytes:
        # The SDKs ask for 16 or 64 kB at a time, but also send larger pieces.
        return self._stream.read(size if size < 0 else max(size, PIECE))

    def tell(self) -> int:
        return self._stream.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._stream.seek(offset + self._start if whence == io.SEEK_SET else offset, whence)
        return self.tell()


class Download(io.RawIOBase):
    """The body of a response as a stream. ``errors`` translates the errors of reading it."""

    def __init__(self, body: Any, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._body = body
        self._errors = errors

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._errors():
            data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()
