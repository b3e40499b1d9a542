"""The promises of ``open``, ``stat``, ``delete`` and ``entries``, as tests."""

from __future__ import annotations

import hashlib

import pytest

from ..backends.base import Backend
from ..errors import FileMissing
from .fixtures import ContractFixtures


class ReadingContract(ContractFixtures):
    """Tests what the methods promise that read, delete and list files."""

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

    def test_stat_returns_the_key(self, backend: Backend, key: str) -> None:
        assert self.stat(backend, key).key == key

    def test_stat_returns_the_size_in_bytes(self, backend: Backend, key: str) -> None:
        assert self.stat(backend, key).size == 5

    def test_stat_returns_the_time_of_the_save_with_its_time_zone(self, backend: Backend, key: str) -> None:
        self.assert_recent(self.stat(backend, key))

    def test_stat_returns_the_sha256_or_none(self, backend: Backend, key: str) -> None:
        assert self.stat(backend, key).sha256 in {None, hashlib.sha256(b"12345").hexdigest()}

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
