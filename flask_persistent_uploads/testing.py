"""The contract of a backend as tests, for ours and for yours (needs pytest).

class TestGcsBackend(BackendContract):
    @pytest.fixture
    def backend(self):
        return GcsBackend(bucket="test")
"""

from __future__ import annotations

import base64
import hashlib
import io
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from . import content_types, keys
from .backends.base import Backend
from .errors import BackendError, BackendRefused, FileExists, FileMissing, InvalidKey, UploadRejected

#: Keys that databases of older apps hold; every backend must take them as they are.
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

#: Not keys; every method must refuse them with ``InvalidKey``.
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


# The smallest files of their type, for services that look into what they are sent.
_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
)
_WEBP = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
_BEGINNINGS = {"png": _PNG, "webp": _WEBP, "pdf": b"%PDF-1.7\n"}


def sample(key: str) -> bytes:
    """Content that the extension of ``key`` does not belie, and no other key's."""
    return _BEGINNINGS.get(content_types.extension(key), b"") + key.encode()


class BackendContract:
    """Inherit it and give it a fixture ``backend``; each promise is one test."""

    #: Set it to ``False`` for a service that refuses empty files: this must then be an ``UploadRejected``.
    keeps_empty_files = True

    @pytest.fixture
    def backend(self) -> Backend:
        raise NotImplementedError("give the class a fixture 'backend'")

    @pytest.fixture
    def key(self) -> str:
        """A key that no other test uses."""
        return f"contract/{secrets.token_hex(8)}.bin"

    @staticmethod
    def save(backend: Backend, key: str, content: bytes = b"content", *, overwrite: bool = False) -> str:
        return backend.save(
            key,
            io.BytesIO(content),
            content_type="application/octet-stream",
            size=len(content),
            filename="file.bin",
            overwrite=overwrite,
        )

    @staticmethod
    def read(backend: Backend, key: str) -> bytes:
        with backend.open(key) as stream:
            return stream.read()

    def test_what_is_saved_is_read_back_byte_for_byte(self, backend: Backend, key: str) -> None:
        content = bytes(range(256)) * 1000
        self.save(backend, key, content)
        assert self.read(backend, key) == content

    def test_an_empty_file_is_kept_or_refused_in_words(self, backend: Backend, key: str) -> None:
        if self.keeps_empty_files:
            self.save(backend, key, b"")
            assert self.read(backend, key) == b""
        else:
            with pytest.raises(UploadRejected, match="empty"):
                self.save(backend, key, b"")
            assert backend.stat(key) is None

    def test_a_large_file_is_kept(self, backend: Backend, key: str) -> None:
        content = secrets.token_bytes(1 << 20) * 21
        assert self.save(backend, key, content) == hashlib.sha256(content).hexdigest()
        assert hashlib.sha256(self.read(backend, key)).digest() == hashlib.sha256(content).digest()

    def test_save_answers_with_the_sha256_of_the_content(self, backend: Backend, key: str) -> None:
        assert self.save(backend, key, b"abc") == hashlib.sha256(b"abc").hexdigest()

    def test_save_reads_from_where_the_stream_stands_and_leaves_it_open(self, backend: Backend, key: str) -> None:
        stream = io.BytesIO(b"skipped" + b"content")
        stream.seek(7)
        backend.save(key, stream, content_type="text/plain", size=7, filename="a.txt")
        assert self.read(backend, key) == b"content"
        assert not stream.closed

    @pytest.mark.parametrize("size", [6, 8])
    def test_a_stream_of_another_length_is_refused_and_nothing_is_stored(
        self, backend: Backend, key: str, size: int
    ) -> None:
        with pytest.raises(BackendRefused):
            backend.save(key, io.BytesIO(b"content"), content_type="text/plain", size=size, filename="a.txt")
        assert backend.stat(key) is None

    def test_a_stream_that_breaks_leaves_nothing_behind(self, backend: Backend, key: str) -> None:
        class Breaking(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if size is None or size < 0 or self.tell() > 0:
                    raise RuntimeError("the stream broke")
                return super().read(3)

        with pytest.raises(RuntimeError, match="the stream broke"):
            backend.save(key, Breaking(b"content"), content_type="text/plain", size=7, filename="a.txt")
        assert backend.stat(key) is None
        assert [entry.key for entry in backend.entries(key)] == []

    def test_nothing_is_replaced_unless_told(self, backend: Backend, key: str) -> None:
        self.save(backend, key, b"first")
        with pytest.raises(FileExists):
            self.save(backend, key, b"second")
        with pytest.raises(FileExists):
            self.save(backend, key, b"first")
        assert self.read(backend, key) == b"first"

    def test_overwrite_replaces_the_whole_content(self, backend: Backend, key: str) -> None:
        self.save(backend, key, b"a longer first content")
        self.save(backend, key, b"second", overwrite=True)
        assert self.read(backend, key) == b"second"

    def test_of_many_savers_of_one_key_exactly_one_wins(self, backend: Backend, key: str) -> None:
        barrier = threading.Barrier(6)

        def save(number: int) -> bytes | None:
            content = bytes([number]) * 10_000
            barrier.wait()
            try:
                self.save(backend, key, content)
            except BackendError:
                return None
            return content

        with ThreadPoolExecutor(6) as pool:
            kept = [content for content in pool.map(save, range(6)) if content]
        assert kept == [self.read(backend, key)]

    def test_open_of_a_missing_file_says_so(self, backend: Backend, key: str) -> None:
        with pytest.raises(FileMissing):
            backend.open(key)

    def test_stat_tells_size_and_time_and_none_where_nothing_is(self, backend: Backend, key: str) -> None:
        assert backend.stat(key) is None
        self.save(backend, key, b"12345")
        stat = backend.stat(key)
        assert stat is not None
        assert (stat.key, stat.size) == (key, 5)
        assert abs(datetime.now(timezone.utc) - stat.modified) < timedelta(minutes=1)
        assert stat.sha256 in {None, hashlib.sha256(b"12345").hexdigest()}

    def test_a_deleted_file_is_gone_and_deleting_again_is_silent(self, backend: Backend, key: str) -> None:
        self.save(backend, key)
        backend.delete(key)
        backend.delete(key)
        assert backend.stat(key) is None

    def test_delete_removes_that_key_and_no_other(self, backend: Backend, key: str) -> None:
        others = [f"{key}x", f"{key}.txt", f"{key}-dir/a"]
        for other in [key, *others]:
            self.save(backend, other)
        backend.delete(key)
        backend.delete(f"{key}-dir")
        assert all(backend.stat(other) for other in others)

    def test_entries_are_lazy_and_are_exactly_what_begins_with_the_prefix(self, backend: Backend, key: str) -> None:
        wanted = {f"{key}/{name}": len(name) for name in ("a", "sub/bb", "sub/deep/ccc")}
        for name, size in wanted.items():
            self.save(backend, name, b"x" * size)
        self.save(backend, f"{key}-other")
        assert {entry.key: entry.size for entry in backend.entries(f"{key}/")} == wanted
        assert {entry.key for entry in backend.entries(f"{key}/su")} == {f"{key}/sub/bb", f"{key}/sub/deep/ccc"}
        assert list(backend.entries(f"{key}/nothing")) == []
        assert iter(backend.entries()) is not None

    @pytest.mark.parametrize("odd", ODD_KEYS)
    def test_keys_of_older_apps_are_taken_as_they_are(self, backend: Backend, key: str, odd: str) -> None:
        name = f"{key}/{odd}"
        self.save(backend, name, sample(name))
        assert self.read(backend, name) == sample(name)
        assert [entry.key for entry in backend.entries(f"{key}/")] == [name]
        backend.delete(name)
        assert backend.stat(name) is None

    def test_no_two_keys_share_a_file(self, backend: Backend, key: str) -> None:
        names = [f"{key}/{odd}" for odd in ODD_KEYS]
        for name in names:
            self.save(backend, name, sample(name))
        assert sorted(entry.key for entry in backend.entries(f"{key}/")) == sorted(names)
        assert [name for name in names if self.read(backend, name) != sample(name)] == []

    def test_what_we_keep_about_the_store_is_kept_and_not_listed(self, backend: Backend) -> None:
        key = keys.reserved_key(f"{secrets.token_hex(8)}.json")
        self.save(backend, key, b"{}")
        self.save(backend, key, b'{"new": 1}', overwrite=True)
        assert self.read(backend, key) == b'{"new": 1}'
        assert list(backend.entries(keys.RESERVED)) == []
        assert backend.stat(key) is not None
        with pytest.raises(InvalidKey):
            backend.open(str(key))
        backend.delete(key)
        assert backend.stat(key) is None

    @pytest.mark.parametrize("bad", NOT_KEYS)
    def test_what_is_no_key_is_refused_by_every_method(self, backend: Backend, bad: str) -> None:
        with pytest.raises(InvalidKey):
            self.save(backend, bad)
        with pytest.raises(InvalidKey):
            backend.open(bad)
        with pytest.raises(InvalidKey):
            backend.stat(bad)
        with pytest.raises(InvalidKey):
            backend.delete(bad)
        path_or_url = backend.filesystem_path("probe"), backend.url("probe", signed_at=int(time.time()), expires_in=60)
        if path_or_url[0] is not None:
            with pytest.raises(InvalidKey):
                backend.filesystem_path(bad)
        if path_or_url[1] is not None:
            with pytest.raises(InvalidKey):
                backend.url(bad, signed_at=int(time.time()), expires_in=60)

    def test_a_direct_url_is_the_same_bytes_each_time(self, backend: Backend, key: str) -> None:
        moment = int(time.time())
        urls = {backend.url(key, signed_at=moment, expires_in=600) for _ in range(3)}
        assert len(urls) == 1

    def test_many_threads_do_not_mix_their_files_up(self, backend: Backend, key: str) -> None:
        def round_trip(number: int) -> bool:
            content = bytes([number]) * (1000 + number)
            self.save(backend, f"{key}/{number}", content)
            return self.read(backend, f"{key}/{number}") == content

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(round_trip, range(40)))
