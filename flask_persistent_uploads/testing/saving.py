"""The promises of ``Backend.save``, as tests."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..backends.base import Backend
from ..errors import BackendError, BackendRefused, FileExists, UploadRejected
from .fixtures import ContractFixtures
from .samples import BrokenStream, ObservedStream, ShortStream


class SavingContract(ContractFixtures):
    """Tests what ``save`` promises."""

    def test_saved_content_is_read_back_unchanged(self, backend: Backend, key: str) -> None:
        content = bytes(range(256)) * 1000 + b"\r\n \n\r\0"
        self.save(backend, key, content)
        assert self.read(backend, key) == content

    def test_a_large_file_is_read_back_unchanged(self, backend: Backend, key: str) -> None:
        content = bytes(range(250)) * (self.large_size // 250) + b"the end of the last part" * 1000
        self.save(backend, key, content)
        is_unchanged = self.read(backend, key) == content
        assert is_unchanged

    def test_an_empty_file_is_stored_or_rejected(self, backend: Backend, key: str) -> None:
        if self.keeps_empty_files:
            self.save(backend, key, b"")
            assert self.read(backend, key) == b""
        else:
            with pytest.raises(UploadRejected, match="empty"):
                self.save(backend, key, b"")
            assert not self.is_listed(backend, key)

    @pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
    def test_save_returns_the_sha256_in_lower_case_hex(self, backend: Backend, key: str, is_large: bool) -> None:
        content = b"a" * (self.large_size if is_large else 3)
        assert self.save(backend, key, content) == hashlib.sha256(content).hexdigest()

    def test_save_starts_at_the_current_position_of_the_stream(self, backend: Backend, key: str) -> None:
        stream = io.BytesIO(b"skipped" + b"content")
        stream.seek(7)
        self.save_stream(backend, key, stream, 7)
        assert self.read(backend, key) == b"content"

    def test_save_reads_to_the_end_of_a_stream_that_returns_short_pieces(self, backend: Backend, key: str) -> None:
        content = bytes(range(250)) * 10
        self.save_stream(backend, key, ShortStream(content), len(content))
        assert self.read(backend, key) == content

    def test_save_leaves_the_stream_open(self, backend: Backend, key: str) -> None:
        stream = io.BytesIO(b"content")
        self.save_stream(backend, key, stream, 7)
        assert not stream.closed

    def test_a_failed_save_leaves_the_stream_open(self, backend: Backend, key: str) -> None:
        self.save(backend, key)
        taken, too_short = io.BytesIO(b"content"), io.BytesIO(b"content")
        with contextlib.suppress(BackendError):
            self.save_stream(backend, key, taken, 7)
        with contextlib.suppress(BackendError):
            self.save_stream(backend, f"{key}-other", too_short, 8)
        assert not taken.closed
        assert not too_short.closed

    @pytest.mark.parametrize("size", [6, 8])
    def test_a_stream_of_the_wrong_length_raises_backend_refused(self, backend: Backend, key: str, size: int) -> None:
        with pytest.raises(BackendRefused):
            self.save_stream(backend, key, io.BytesIO(b"content"), size)

    @pytest.mark.parametrize("size", [6, 8])
    def test_a_stream_of_the_wrong_length_stores_nothing(self, backend: Backend, key: str, size: int) -> None:
        with contextlib.suppress(BackendError):
            self.save_stream(backend, key, io.BytesIO(b"content"), size)
        assert not self.is_listed(backend, key)

    def test_an_error_of_the_stream_is_raised_unchanged(self, backend: Backend, key: str) -> None:
        with pytest.raises(RuntimeError, match="the stream broke"):
            self.save_stream(backend, key, BrokenStream(b"content", limit=3), 7)

    @pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
    def test_an_error_of_the_stream_leaves_nothing_behind(self, backend: Backend, key: str, is_large: bool) -> None:
        size = self.large_size if is_large else 8
        with contextlib.suppress(Exception):
            self.save_stream(backend, key, BrokenStream(bytes(size), limit=size * 3 // 4), size)
        assert not self.is_listed(backend, key)

    @pytest.mark.parametrize("before", [None, b"old"], ids=["new file", "overwritten file"])
    def test_no_reader_sees_an_unfinished_file(self, backend: Backend, key: str, before: bytes | None) -> None:
        def look() -> bytes | None:
            return self.read(backend, key) if self.is_listed(backend, key) else None

        content = b"new" * (1 << 20)
        if before is not None:
            self.save(backend, key, before)
        stream = ObservedStream(content, look)
        self.save_stream(backend, key, stream, len(content), overwrite=before is not None)
        unfinished = [seen for seen in stream.seen if seen not in {before, content}]
        assert unfinished == []

    @pytest.mark.parametrize(
        ("first", "second", "is_large"),
        [(b"first", b"second", False), (b"same", b"same", False), (b"1", b"2", True)],
        ids=["other content", "same content", "large files"],
    )
    def test_nothing_is_replaced_without_overwrite(
        self, backend: Backend, key: str, first: bytes, second: bytes, is_large: bool
    ) -> None:
        times = self.large_size if is_large else 1
        self.save(backend, key, first * times)
        with pytest.raises(FileExists):
            self.save(backend, key, second * times)
        is_unchanged = self.read(backend, key) == first * times
        assert is_unchanged

    def test_overwrite_replaces_the_whole_content(self, backend: Backend, key: str) -> None:
        self.save(backend, key, b"a longer first content")
        self.save(backend, key, b"second", overwrite=True)
        assert self.read(backend, key) == b"second"

    @pytest.mark.parametrize("size", [7, 8], ids=["broken stream", "wrong length"])
    def test_a_failed_overwrite_leaves_the_old_content(self, backend: Backend, key: str, size: int) -> None:
        self.save(backend, key, b"old")
        stream = BrokenStream(b"content", limit=3) if size == 7 else io.BytesIO(b"content")
        with contextlib.suppress(Exception):
            self.save_stream(backend, key, stream, size, overwrite=True)
        assert self.read(backend, key) == b"old"

    def test_exactly_one_of_many_concurrent_saves_of_one_key_succeeds(self, backend: Backend, key: str) -> None:
        barrier = threading.Barrier(6)

        def save(number: int) -> bytes | None:
            content = bytes([number]) * 10_000
            barrier.wait(30)
            try:
                self.save(backend, key, content)
            except BackendError:
                return None
            return content

        with ThreadPoolExecutor(6) as pool:
            saved = [content for content in pool.map(save, range(6)) if content]
        assert saved == [self.read(backend, key)]
