"""What the backends over a network share: one client a process, one clock a call, one reading of a file.

Optional SDKs and urllib3 are imported by the functions that need them.
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
from threading import Lock, Thread
from typing import IO, TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from urllib.parse import urljoin

from ..errors import (
    BackendError,
    BackendFull,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    FileExists,
    FileMissing,
    UploadRejected,
    WrongLength,
)
from ..stored import Stat

if TYPE_CHECKING:
    import urllib3

T = TypeVar("T")

_REDIRECTS = 3
_AT_ONCE = 5  # seconds: what asks us to wait longer is not asked a second time

PIECE = 1 << 18  # bytes that are read, hashed and sent at a time


def timed_out(key: str | None = None) -> BackendTimeout:
    return BackendTimeout("The store for uploads did not answer in time.", key=key)


def unreachable(key: str | None = None) -> BackendUnavailable:
    return BackendUnavailable("The store for uploads cannot be reached.", key=key)


def full(key: str | None = None) -> BackendFull:
    return BackendFull("The store for uploads is full; nothing was stored.", key=key)


def second_attempt(first: BackendUnavailable, call: Callable[[], T]) -> T:
    """What ``call`` returns, after ``first`` ended a first attempt; ``first`` itself where the service asks us to wait.

    Where the second attempt is refused, ``first`` is raised as well: what came of the first attempt is not known.
    """
    if isinstance(first.retry_after, int) and first.retry_after > _AT_ONCE:
        raise first
    try:
        return call()
    except (FileExists, BackendTimeout):
        raise
    except (BackendError, UploadRejected) as error:
        raise first from error


def take_back(key: str, service: str, delete: Callable[[], object]) -> BackendRefused:
    """Delete what a service made of a file that it altered; the error to raise."""
    error = BackendRefused(
        f"{service} stored something else than it was sent: a setting of the account, such as a default upload "
        f"preset, alters files.",
        key=key,
    )
    try:
        delete()
    except (BackendError, UploadRejected) as reason:
        error.leave_behind([key])
        error.__cause__ = reason
    return error


@contextlib.contextmanager
def naming(filename: str) -> Iterator[None]:
    """Say which file it is that a service rejects."""
    try:
        yield
    except UploadRejected as error:
        error.filename = filename
        error.description = f"'{filename}' is refused: {error.description}"
        raise


class _ForkGuard:
    """A lock that a child process does not inherit in the locked state."""

    def __init__(self) -> None:
        self.lock = Lock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = Lock()


_building = _ForkGuard()


class PerProcess(Generic[T]):
    """What is built once in each process: a client used before a fork mixes up the answers of its children."""

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._built: dict[int, T] = {}

    def get(self) -> T:
        pid = os.getpid()
        if pid not in self._built:
            with _building.lock:
                if pid not in self._built:
                    self._built[pid] = self._build()  # its parent's is kept: closing it might wait for its threads
        return self._built[pid]


def within(seconds: float, call: Callable[[], T], key: str | None = None) -> T:
    """What ``call`` returns, or ``BackendTimeout`` by our own clock.

    The timeouts of SDKs are for one read each, and some try again by themselves: a service that sends a byte now and
    then would keep us for ever. The thread that waits for it then ends with its connection.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            answer.set_exception(error)

    Thread(target=run, name="uploads-call", daemon=True).start()
    try:
        return answer.result(seconds)
    except FutureTimeout:
        raise timed_out(key) from None


def patience(seconds: float) -> urllib3.Timeout:
    """How long urllib3 waits for a connection, and for each answer."""
    import urllib3

    return urllib3.Timeout(connect=min(3.0, seconds / 2), read=seconds)


class Digests(NamedTuple):
    md5: hashlib._Hash
    sha256: hashlib._Hash


def read_through(key: str, stream: IO[bytes], size: int) -> Digests:
    """The digests of what is left in ``stream``, which then stands where it stood; ``WrongLength`` if not ``size``.

    One reading gives both: what a service confirms by its MD5, our SHA-256 names.
    """
    start, found = stream.tell(), 0
    digests = Digests(hashlib.md5(usedforsecurity=False), hashlib.sha256())
    while piece := stream.read(PIECE):
        found += len(piece)
        for digest in digests:
            digest.update(piece)
    if found != size:
        raise WrongLength(key, expected=size, found=found)
    stream.seek(start)
    return digests


def read_fully(stream: IO[bytes], size: int) -> bytes:
    """The next ``size`` bytes, fewer only at the end, also of a stream that reads short."""
    pieces = []
    while size > 0 and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Rest:
    """What follows the place where a stream stands, as a body: SDKs rewind to 0 before they send it (again)."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._start = stream.tell()

    def read(self, size: int = -1) -> bytes:
        # The SDKs ask for 16 or 64 KB at a time, and send as well what is more.
        return self._stream.read(size if size < 0 else max(size, PIECE))

    def tell(self) -> int:
        return self._stream.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._stream.seek(offset + self._start if whence == io.SEEK_SET else offset, whence)
        return self.tell()


class Download(io.RawIOBase):
    """The body of an answer as a stream, whose failures are ours and which ends only where the file does."""

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


def _connections() -> urllib3.PoolManager:
    import urllib3

    return urllib3.PoolManager(maxsize=16)


_pool: PerProcess[urllib3.PoolManager] = PerProcess(_connections)


def download(key: str, url: str, *, timeout: float, stat: Callable[[str], Stat | None]) -> IO[bytes]:
    """The file behind a signed url, from its start. The url is in no error: it opens the file for whoever reads it.

    What is not found there is missing only if ``stat`` says so, too.
    """
    with _transfer_errors(key):
        answer = within(timeout, lambda: _follow(url, timeout), key)
    if answer.status == 200:
        return io.BufferedReader(Download(answer, lambda: _transfer_errors(key)), PIECE)
    answer.close()
    if answer.status == 404 and stat(key) is None:
        raise FileMissing(key)
    raise _refusal(key, answer)


def _follow(url: str, timeout: float) -> urllib3.BaseHTTPResponse:
    """The answer at the end of a few redirects."""
    from urllib3.exceptions import HTTPError, ProtocolError

    for _ in range(_REDIRECTS + 1):
        try:
            answer = _get(url, timeout)
        except ProtocolError:  # a kept connection had been closed meanwhile
            answer = _get(url, timeout)
        location = answer.get_redirect_location()
        if not location:
            return answer
        answer.close()
        try:
            url = urljoin(url, location)
        except ValueError:
            raise HTTPError("a redirect to no address") from None
    raise HTTPError("too many redirects")


def _get(url: str, timeout: float) -> urllib3.BaseHTTPResponse:
    return _pool.get().request(
        "GET",
        url,
        headers={"Accept-Encoding": "identity"},
        preload_content=False,
        # urllib3 logs the urls of what it tries again and of where it is sent on to.
        retries=False,
        redirect=False,
        timeout=patience(timeout),
    )


@contextlib.contextmanager
def _transfer_errors(key: str) -> Iterator[None]:
    from urllib3 import exceptions

    try:
        yield
    except exceptions.HTTPError as error:
        raise (timed_out(key) if is_timeout(error) else unreachable(key)) from None


def is_timeout(error: BaseException | None) -> bool:
    """Whether an error of urllib3, or the one that it was wrapped around, says that time ran out."""
    from urllib3 import exceptions

    cause = getattr(error, "reason", None) or error
    # A connection that was refused is a kind of timeout to urllib3.
    return isinstance(cause, exceptions.TimeoutError) and not isinstance(cause, exceptions.NewConnectionError)


def _refusal(key: str, answer: urllib3.BaseHTTPResponse) -> BackendError:
    if answer.status >= 500 or answer.status in {420, 429}:
        wait = answer.headers.get("Retry-After", "")
        return BackendUnavailable(
            f"The store for uploads is not available now ({answer.status}).",
            key=key,
            retry_after=int(wait) if wait.isdecimal() else 5,
        )
    if answer.status == 404:
        return BackendRefused(
            "The file is stored, but not found where files are delivered: correct its address.", key=key
        )
    return BackendRefused(f"The store for uploads refused to hand out the file ({answer.status}).", key=key)
