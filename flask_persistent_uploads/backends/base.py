"""The contract of a backend: the place where files are kept. :mod:`.memory` is the shortest one that keeps it.

``None`` means "not here"; an exception means "broken". A refusal or an outage is never "not there". What a backend's
service or SDK raises is translated into :mod:`flask_persistent_uploads.errors` in the backend's own module.
``flask_persistent_uploads.testing.BackendContract`` is this page as tests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, ClassVar

from ..stored import Stat, Ticket, Variant


class Backend(ABC):
    """Keeps files under keys. Constructors keep their arguments and do no I/O; every method is thread-safe.

    Every method calls :func:`flask_persistent_uploads.keys.check` first, so that one gate raises ``InvalidKey``.
    """

    #: How it is called in ``UPLOADS_BACKEND``, in messages and in the log.
    name: ClassVar[str]

    #: How many files of one request are worth saving side by side: more than 1 where the time goes into waiting.
    parallel: ClassVar[int] = 1

    #: Whether direct urls may be public, so that they open the file to anybody, for ever.
    permanent_urls: bool = False

    def __str__(self) -> str:
        """Which place it is, for the start-up line; no secret."""
        return self.name

    @abstractmethod
    def save(
        self, key: str, stream: IO[bytes], *, content_type: str, size: int, filename: str, overwrite: bool = False
    ) -> str:
        """Store what ``stream`` holds from where it stands to its end; return its SHA-256 (hex) when it is durable.

        All or nothing: no reader ever sees a part, and a failure leaves what was there. What is stored is verified
        to be what was hashed. ``size`` is what the stream must hold, in bytes; another length raises
        ``BackendRefused`` and nothing is stored. The stream is left open. Without ``overwrite`` a key that is taken
        raises ``FileExists``.
        """

    @abstractmethod
    def open(self, key: str) -> IO[bytes]:
        """The content, to be read from the start and closed by the caller. Raises ``FileMissing``."""

    @abstractmethod
    def stat(self, key: str) -> Stat | None:
        """What is known of a file; ``None`` only when the backend itself says that it is not there."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove that file and no other; silent when it is gone already."""

    @abstractmethod
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        """All files whose key begins with ``prefix``, lazily, in no promised order; none that is reserved for us.

        Reserved is what begins with ``keys.RESERVED``: what we keep about the store.
        """

    def url(
        self, key: str, *, signed_at: int, expires_in: int, method: str = "GET", download_as: str | None = None
    ) -> str | None:
        """A direct url, valid for ``expires_in`` seconds from ``signed_at`` (Unix seconds). No network is touched.

        The same arguments give the same bytes in every process. ``download_as`` asks the browser to save the file
        under that name as ``application/octet-stream``; without it, the url answers with the type that the key's
        extension claims. ``None``: the app serves the file itself.
        """
        return None

    def valid_until(self) -> float | None:
        """The moment (Unix seconds) after which no url that is signed now works, as temporary credentials end then."""
        return None

    def filesystem_path(self, key: str) -> Path | None:
        """Where the file lies on this machine's disk, if it does; the file need not exist."""
        return None

    def variant_url(self, key: str, variant: Variant, *, signed_at: int, expires_in: int) -> str | None:
        """A direct url of a derived image that the service makes itself; ``None`` where it does not. No network."""
        return None

    def sign_upload(
        self, key: str, *, content_type: str, max_size: int, signed_at: int, expires_in: int
    ) -> Ticket | None:
        """Leave to store this one file from a browser; ``None`` where the backend cannot give it. No network.

        What a service cannot be told to refuse, ``stat`` must show before the key is kept: the file may be larger
        than ``max_size`` bytes where the service signs no size, and is not there where another kind was sent.
        """
        return None
