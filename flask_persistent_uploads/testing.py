"""Tests for the backend contract. Every backend inherits them, including yours. They require pytest.

class TestGcsBackend(BackendContract):
    @pytest.fixture
    def backend(self):
        return GcsBackend(bucket="test")
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import secrets
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import IO

import pytest

from . import content_types, keys
from .backends.base import Backend
from .errors import BackendError, BackendRefused, FileExists, FileMissing, InvalidKey, UploadRejected
from .stored import Stat

#: Keys found in the databases of older apps. Every backend accepts them unchanged.
ODD_KEYS = (
    "3b53b755-9895-4761-a52c-a521a9d7ec7aEVENT 3.webp",
    "🧩 CHAPTER 01_ (1).pdf",
    "a+b&c=d.png",
    "100% of it.png",
    "what?.png",
    "one, two.png",
    "it's (2) #1 [x] ~ !.png",
    "ÄÖÜ/日本語/e\u0301.txt",
    "no-extension",
    "...",
    "x" * 255,
    "a_20b.png",
    "a b.png",
    "two.png",
    "two.webp",
    "v1/two",
)

#: Keys that differ only in what many services decode, fold or drop. Each names a file of its own.
SIMILAR_KEYS = (
    "a b.png",
    "a+b.png",
    "a%20b.png",
    "a_20b.png",
    "A b.png",
    "two",
    "two.png",
    "two.webp",
    "v1/two",
    "\u00e9.txt",
    "e\u0301.txt",
)

#: Invalid keys. Every method raises ``InvalidKey`` for them.
NOT_KEYS = (
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/./b",
    "../a",
    "a/../b",
    "a\\b",
    "a\0b",
    "a\nb",
    ".uploads/x",
    "x" * 256,
)

# The smallest valid files of their types, because some services inspect what they receive.
_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
)
_WEBP = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
_BEGINNINGS = {"png": _PNG, "webp": _WEBP, "pdf": b"%PDF-1.7\n"}


def sample(key: str) -> bytes:
    """Return content that matches the extension of ``key`` and differs from that of every other key."""
    return _BEGINNINGS.get(content_types.extension(key), b"") + key.encode()


class BrokenStream(io.BytesIO):
    """A stream that raises ``RuntimeError`` when it is read beyond its first ``limit`` bytes."""

    def __init__(self, content: bytes, *, limit: int) -> None:
        super().__init__(content)
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        left = self._limit - self.tell()
        if size is None or size < 0 or left <= 0:
            raise RuntimeError("the stream broke")
        return super().read(min(size, left))


class ShortStream(io.BytesIO):
    """A stream that returns at most 1,000 bytes for each sized read, as a socket may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size if size is None or size < 0 else min(size, 1000))


class ObservedStream(io.BytesIO):
    """A stream that records what ``look`` returns each time it is read."""

    def __init__(self, content: bytes, look: Callable[[], object]) -> None:
        super().__init__(content)
        self.seen: list[object] = []
        self._look = look

    def read(self, size: int | None = -1) -> bytes:
        self.seen.append(self._look())
        return super().read(size)


class BackendContract:
    """Tests each promise of :class:`~flask_persistent_uploads.backends.base.Backend` once.

    Inherit from this class and override the ``backend`` fixture. The tests use fresh keys and leave their files
    behind, so several classes and runs may share one store.
    """

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

    # Saving

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

    # Opening

    def test_content_can_be_read_in_pieces(self, backend: Backend, key: str) -> None:
        content = bytes(range(250)) * 10
        self.save(backend, key, content)
        with backend.open(key) as stream:
            pieces = list(iter(lambda: stream.read(1000), b""))
        assert [len(piece) for piece in pieces if len(piece) > 1000] == []
        assert b"".join(pieces) == content

    def test_each_opened_stream_starts_at_the_beginning(self, backend: Backend, key: str) -> None:
        self.save(backend, key, b"content")
        with backend.open(key) as one, backend.open(key) as other:
            assert (one.read(), other.read()) == (b"content", b"content")

    @pytest.mark.parametrize("reason", ["never saved", "deleted", "a folder"])
    def test_opening_a_missing_file_raises_file_missing(self, backend: Backend, key: str, reason: str) -> None:
        self.make_missing(backend, key, reason)
        with pytest.raises(FileMissing):
            backend.open(key)

    # Facts about a file

    @pytest.mark.parametrize("reason", ["never saved", "deleted", "a folder"])
    def test_stat_of_a_missing_file_is_none(self, backend: Backend, key: str, reason: str) -> None:
        self.make_missing(backend, key, reason)
        assert backend.stat(key) is None

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

    def test_stat_returns_the_key(self, backend: Backend, key: str) -> None:
        assert self.stat(backend, key).key == key

    def test_stat_returns_the_size_in_bytes(self, backend: Backend, key: str) -> None:
        assert self.stat(backend, key).size == 5

    def test_stat_returns_the_time_of_the_save_with_its_time_zone(self, backend: Backend, key: str) -> None:
        self.assert_recent(self.stat(backend, key))

    def test_stat_returns_the_sha256_or_none(self, backend: Backend, key: str) -> None:
        assert self.stat(backend, key).sha256 in {None, hashlib.sha256(b"12345").hexdigest()}

    @staticmethod
    def assert_recent(stat: Stat) -> None:
        """Check that a file was saved within the last minute, by a time that has its time zone."""
        assert stat.modified.tzinfo is not None
        assert abs(datetime.now(timezone.utc) - stat.modified) < timedelta(minutes=1)

    # Deleting

    def test_a_deleted_file_is_no_longer_listed(self, backend: Backend, key: str) -> None:
        self.save(backend, key)
        backend.delete(key)
        assert not self.is_listed(backend, key)

    def test_deleting_a_missing_file_does_nothing(self, backend: Backend, key: str) -> None:
        backend.delete(key)
        self.save(backend, key)
        backend.delete(key)
        backend.delete(key)

    def test_delete_leaves_all_other_files(self, backend: Backend, key: str) -> None:
        others = [f"{key}x", f"{key}.txt", f"{key}-folder/a"]
        for name in [key, *others]:
            self.save(backend, name, name.encode())
        backend.delete(key)
        backend.delete(f"{key}-folder")
        assert [self.read(backend, name) for name in others] == [name.encode() for name in others]

    # Listing

    def test_entries_yields_each_file_below_the_prefix_once(self, backend: Backend, key: str) -> None:
        expected = [f"{key}/a", f"{key}/sub/b", f"{key}/sub/deep/c"]
        for name in [*expected, f"{key}-other"]:
            self.save(backend, name)
        assert sorted(entry.key for entry in backend.entries(f"{key}/")) == expected

    def test_a_prefix_may_end_within_a_name(self, backend: Backend, key: str) -> None:
        for name in ("alpha", "alps", "beta"):
            self.save(backend, f"{key}/{name}")
        assert sorted(entry.key for entry in backend.entries(f"{key}/alp")) == [f"{key}/alpha", f"{key}/alps"]

    def test_a_prefix_without_files_yields_nothing(self, backend: Backend, key: str) -> None:
        assert list(backend.entries(f"{key}/nothing/")) == []

    def test_entries_without_a_prefix_yields_every_file(self, backend: Backend, key: str) -> None:
        self.save(backend, key)
        assert any(entry.key == key for entry in backend.entries())

    def test_entries_yields_what_stat_returns(self, backend: Backend, key: str) -> None:
        self.save(backend, f"{key}/a", b"12345")
        (entry,) = backend.entries(f"{key}/")
        assert entry.size == 5
        assert entry.sha256 in {None, hashlib.sha256(b"12345").hexdigest()}
        self.assert_recent(entry)

    def test_entries_starts_listing_at_the_first_iteration(self, backend: Backend, key: str) -> None:
        entries = backend.entries(f"{key}/")
        self.save(backend, f"{key}/a")
        assert next(entries).key == f"{key}/a"
        assert list(entries) == []

    def test_files_can_be_deleted_while_they_are_listed(self, backend: Backend, key: str) -> None:
        names = [f"{key}/{number}" for number in range(5)]
        for name in names:
            self.save(backend, name)
        deleted = []
        for entry in backend.entries(f"{key}/"):
            backend.delete(entry.key)
            deleted.append(entry.key)
        assert sorted(deleted) == names

    # Keys

    @pytest.mark.parametrize("odd", ODD_KEYS)
    def test_an_odd_key_works_in_every_method(self, backend: Backend, key: str, odd: str) -> None:
        name = f"{key}/{odd}"
        self.save(backend, name, sample(name))
        assert self.read(backend, name) == sample(name)
        assert backend.stat(name) is not None
        backend.delete(name)
        self.save(backend, name, sample(name))  # raises FileExists if the file is still there

    def test_odd_keys_are_listed_unchanged(self, backend: Backend, key: str) -> None:
        names = [f"{key}/{odd}" for odd in ODD_KEYS]
        for name in names:
            self.save(backend, name, sample(name))
        assert sorted(entry.key for entry in backend.entries(f"{key}/")) == sorted(names)

    def test_similar_keys_name_different_files(self, backend: Backend, key: str) -> None:
        names = [f"{key}/{similar}" for similar in SIMILAR_KEYS]
        for name in names:
            self.save(backend, name, sample(name), overwrite=True)
        assert [name for name in names if self.read(backend, name) != sample(name)] == []

    def test_a_key_of_the_maximum_length_works(self, backend: Backend, key: str) -> None:
        folders = f"{key}/" + f"{'f' * 99}/" * 8
        longest = folders + "x" * (keys.MAX_KEY_BYTES - len(folders))
        self.save(backend, longest)
        assert self.read(backend, longest) == b"content"

    @pytest.mark.parametrize("bad", NOT_KEYS)
    def test_every_method_raises_invalid_key_for_an_invalid_key(self, backend: Backend, bad: str) -> None:
        with pytest.raises(InvalidKey):
            self.save(backend, bad)
        with pytest.raises(InvalidKey):
            backend.open(bad)
        with pytest.raises(InvalidKey):
            backend.stat(bad)
        with pytest.raises(InvalidKey):
            backend.delete(bad)
        with contextlib.suppress(InvalidKey):
            assert self.url(backend, bad) is None
        with contextlib.suppress(InvalidKey):
            assert backend.filesystem_path(bad) is None

    def test_a_reserved_key_works_in_every_method(self, backend: Backend) -> None:
        key = keys.reserved_key(f"{secrets.token_hex(8)}.json")
        self.save(backend, key, b"{}")
        self.save(backend, key, b'{"new": 1}', overwrite=True)
        assert self.read(backend, key) == b'{"new": 1}'
        assert backend.stat(key) is not None
        backend.delete(key)
        self.save(backend, key, b"{}")  # raises FileExists if the file is still there
        backend.delete(key)

    @pytest.mark.parametrize("prefix", ["", keys.RESERVED])
    def test_reserved_files_are_not_listed(self, backend: Backend, prefix: str) -> None:
        key = keys.reserved_key(f"{secrets.token_hex(8)}.json")
        self.save(backend, key, b"{}")
        assert [entry.key for entry in backend.entries(prefix) if entry.key.startswith(keys.RESERVED)] == []
        backend.delete(key)

    # Direct urls, for backends that have them

    def test_the_same_arguments_give_the_same_url(self, backend: Backend, key: str) -> None:
        assert len({self.url(backend, key) for _ in range(3)}) == 1

    def test_another_key_gives_another_url(self, backend: Backend, key: str) -> None:
        url = self.url(backend, key)
        assert url is None or url != self.url(backend, f"{key}-other")

    def test_a_url_that_expires_depends_on_its_moment_and_its_lifetime(self, backend: Backend, key: str) -> None:
        url = self.url(backend, key)
        if url is not None and not backend.permanent_urls:
            assert url != self.url(backend, key, signed_at=1_800_000_600)
            assert url != self.url(backend, key, expires_in=1200)

    def test_a_url_for_a_download_is_another_url(self, backend: Backend, key: str) -> None:
        url = self.url(backend, key)
        assert url is None or url != self.url(backend, key, download_as="other.bin")

    def test_making_a_url_uses_no_network(self, backend: Backend, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []

        def connect(_: socket.socket, address: object) -> None:
            calls.append(address)
            raise OSError("this test allows no connection")

        monkeypatch.setattr(socket.socket, "connect", connect)
        with contextlib.suppress(BackendError, OSError):
            self.url(backend, key)
        assert calls == []

    def test_urls_signed_now_still_work(self, backend: Backend) -> None:
        until = backend.valid_until()
        assert until is None or until > time.time()

    # Files on the disk of this machine, for backends that have them

    def test_filesystem_path_leads_to_the_content(self, backend: Backend, key: str) -> None:
        self.save(backend, key)
        path = backend.filesystem_path(key)
        assert path is None or path.read_bytes() == b"content"

    def test_filesystem_path_works_without_a_file(self, backend: Backend, key: str) -> None:
        path = backend.filesystem_path(key)
        assert path is None or not path.exists()

    # Threads

    def test_many_threads_save_and_read_their_own_files(self, backend: Backend, key: str) -> None:
        barrier = threading.Barrier(8)

        def save_and_read(thread: int) -> bool:
            barrier.wait(30)
            contents = {f"{key}/{thread}/{number}": f"{thread} {number}".encode() * 1000 for number in range(5)}
            for name, content in contents.items():
                self.save(backend, name, content)
            return all(self.read(backend, name) == content for name, content in contents.items())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(save_and_read, range(8)))
