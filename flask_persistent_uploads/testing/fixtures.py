"""What all parts of the contract share."""

from __future__ import annotations

import io
import secrets
from datetime import datetime, timedelta, timezone
from typing import IO

import pytest

from ..backends.base import Backend
from ..stored import Stat


class ContractFixtures:
    """The fixtures, options and helpers of the contract."""

    #: Set this to ``False`` for a service that rejects empty files. The backend must then raise ``UploadRejected``.
    keeps_empty_files = True

    #: The size of a large file in bytes. Choose a size that the service stores in several parts, because its rules for
    #: parts may differ from those for a file in one request.
    large_size = 17 << 20

    @pytest.fixture
    def backend(self) -> Backend:
        """Return the backend to test."""
        raise NotImplementedError("override the fixture 'backend'")

    @pytest.fixture
    def key(self) -> str:
        """Return a key that no other test uses."""
        return f"contract/{secrets.token_hex(8)}/file.bin"

    @staticmethod
    def save_stream(backend: Backend, key: str, stream: IO[bytes], size: int, *, overwrite: bool = False) -> str:
        """Save a stream of ``size`` bytes as a binary file."""
        return backend.save(
            key,
            stream,
            content_type="application/octet-stream",
            size=size,
            filename="file.bin",
            overwrite=overwrite,
        )

    @classmethod
    def save(cls, backend: Backend, key: str, content: bytes = b"content", *, overwrite: bool = False) -> str:
        """Save ``content`` as a binary file."""
        return cls.save_stream(backend, key, io.BytesIO(content), len(content), overwrite=overwrite)

    @staticmethod
    def read(backend: Backend, key: str) -> bytes:
        """Return the whole content of a file."""
        with backend.open(key) as stream:
            return stream.read()

    @staticmethod
    def is_listed(backend: Backend, key: str) -> bool:
        """Tell whether ``entries`` yields the file."""
        return any(entry.key == key for entry in backend.entries(key))

    @staticmethod
    def url(
        backend: Backend,
        key: str,
        *,
        signed_at: int = 1_800_000_000,
        expires_in: int = 600,
        download_as: str | None = None,
    ) -> str | None:
        """Return the direct url of a file, by default for the same moment and lifetime."""
        return backend.url(key, signed_at=signed_at, expires_in=expires_in, download_as=download_as)

    def make_missing(self, backend: Backend, key: str, reason: str) -> None:
        """Make sure that no file has this key, for one of three reasons."""
        if reason == "deleted":
            self.save(backend, key)
            backend.delete(key)
        elif reason == "a folder":
            self.save(backend, f"{key}/file")

    def stat(self, backend: Backend, key: str) -> Stat:
        """Save five bytes and return what ``stat`` tells about them."""
        self.save(backend, key, b"12345")
        stat = backend.stat(key)
        assert stat is not None
        return stat

    @staticmethod
    def assert_recent(stat: Stat) -> None:
        """Check that a file was saved within the last minute, by a time that has its time zone."""
        assert stat.modified.tzinfo is not None
        assert abs(datetime.now(timezone.utc) - stat.modified) < timedelta(minutes=1)
