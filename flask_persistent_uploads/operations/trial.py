"""Try a store with a small file: save it, read it in every way, and delete it."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from .. import keys
from ..backends import remote
from ..backends.base import Backend
from ..config import Settings
from ..errors import BackendError, FileMissing, UploadRejected
from . import web
from .bucket import Bucket
from .platform import Host

T = TypeVar("T")

CALL_SECONDS = 5.0  # for one call to the store
_REMOVAL_SECONDS = 2.0  # for removing the file after a call that failed
_ATTEMPTS, _PAUSE_SECONDS = 6, 0.5
_URL_SECONDS = 300  # for which the direct url is signed


class StoreTrial:
    """A small file and the store it is tried on. On exit, the file and the folders created for it are removed."""

    def __init__(self, backend: Backend, settings: Settings, host: Host) -> None:
        self.backend, self.settings, self.host = backend, settings, host
        self.bucket = Bucket.of(backend)
        self.key = keys.reserved_key(f"doctor-{secrets.token_hex(8)}.txt")
        self.missing_key = keys.reserved_key(f"missing-{secrets.token_hex(8)}.txt")
        self.content = f"flask uploads doctor {secrets.token_hex(16)}\n".encode()
        self._signed_at = int(time.time())
        self.may_exist = False
        self._service_response: web.Response | None = None
        self._unreachable = False
        self._new_folders: list[Path] = []

    def __enter__(self) -> StoreTrial:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
        for folder in self._new_folders:
            with contextlib.suppress(OSError):  # it was not created, or another program uses it now
                folder.rmdir()

    @property
    def place(self) -> str:
        """Return the name of the file in the store, by which an operator can find and delete it."""
        return f"{self.bucket.backend.prefix}/{self.key}" if self.bucket else self.key

    # -- the store

    def reach(self) -> None:
        """Open a file that does not exist. Raises ``BackendError`` unless the store answers that it does not exist."""
        with contextlib.suppress(FileMissing):  # not stat(): the response to a HEAD request has no error code
            self.call(lambda: self.backend.open(self.missing_key).close())

    def call(self, function: Callable[[], T]) -> T:
        """Return the result of a call to the store. Raises ``BackendTimeout`` after :data:`CALL_SECONDS`."""
        return remote.call_with_deadline(CALL_SECONDS, function)

    def save(self) -> None:
        """Save the file. If this fails, :meth:`remove` removes what may have been stored."""
        self._new_folders = _missing_parents(self.backend.filesystem_path(self.key))
        self.may_exist = True
        try:
            self.call(self._save)
        except UploadRejected:
            self.may_exist = False
            raise
        except BackendError as error:
            self.may_exist = bool(error.orphans) or not error.nothing_stored
            raise

    def _save(self) -> None:
        content, size = BytesIO(self.content), len(self.content)
        self.backend.save(self.key, content, content_type="text/plain", size=size, filename="doctor.txt")

    def read(self) -> bytes:
        """Return the content of the file according to the store."""

        def read() -> bytes:
            with self.backend.open(self.key) as stream:
                return stream.read()

        return self.call(read)

    def stored_size(self) -> int | None:
        """Return the size of the file according to the store; ``None`` if the store does not know the file."""
        found = self.call(lambda: self.backend.stat(self.key))
        return found.size if found else None

    def delete(self) -> None:
        """Delete the file. If this raises an error, :meth:`remove` does not try again; after an interrupt, it does."""
        try:
            self.call(lambda: self.backend.delete(self.key))
        except Exception:
            self.may_exist = False
            raise
        self.may_exist = False

    def remove(self) -> bool:
        """Delete the file if it may exist. Return whether it is gone, as far as can be known."""
        if self.may_exist:
            with contextlib.suppress(Exception):  # the report says that the file may be left
                remote.call_with_deadline(_REMOVAL_SECONDS, lambda: self.backend.delete(self.key))
                self.may_exist = False
        gone, self.may_exist = not self.may_exist, False
        return gone

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Return whether a condition is met within a few seconds. The search index of some services lags behind."""
        for _ in range(_ATTEMPTS):
            try:
                if condition():
                    return True
            except BackendError:  # another check reports it
                return True
            time.sleep(_PAUSE_SECONDS)
        return False

    # -- the service, as a browser requests it

    @property
    def address(self) -> str | None:
        """Return the address of the service; ``None`` if the store has no direct urls."""
        if self.bucket is not None:
            return self.bucket.backend.api_url
        url = self.url("GET")
        return f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/" if url else None

    @property
    def service_response(self) -> web.Response | None:
        """Return the response of the service to a request without credentials; ``None`` if it has no address.

        The request is sent once. Raises ``web.Unreachable``.
        """
        if self._service_response is None and self.address is not None:
            self._service_response = web.request(self.address, method="HEAD", seconds=CALL_SECONDS)
        return self._service_response

    def url(self, method: str) -> str | None:
        """Return the direct url; ``None`` if there is none, or if :meth:`request` could not reach it."""
        if self._unreachable:
            return None
        return self.backend.url(self.key, signed_at=self._signed_at, expires_in=_URL_SECONDS, method=method)

    def request(self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> web.Response:
        """Request a direct url. Raises ``web.Unreachable``; then :meth:`url` returns ``None``."""
        try:
            return web.request(url, method=method, headers=headers, seconds=CALL_SECONDS)
        except web.Unreachable:
            self._unreachable = True
            raise


def _missing_parents(path: Path | None) -> list[Path]:
    """Return the folders that saving a file at ``path`` creates, the innermost first."""
    return [folder for folder in path.parents if not folder.exists()] if path is not None else []
