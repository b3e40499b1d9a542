"""Tests the contract itself: a backend that breaks one promise fails the test of that promise and no other.

Each class below is a backend with one defect. :func:`breaks` names the contract test that must notice it. Two pytest
processes run the whole contract on all of them, and on honest backends, which must pass.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import pytest

from flask_persistent_uploads import keys
from flask_persistent_uploads.backends.base import Backend
from flask_persistent_uploads.backends.cloudinary.backend import CHUNK
from flask_persistent_uploads.backends.local import LocalBackend
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.backends.s3.saving import ONE_REQUEST
from flask_persistent_uploads.errors import (
    BackendRefused,
    BackendUnavailable,
    FileExists,
    FileMissing,
    InvalidKey,
    TypeNotAllowed,
    UploadRejected,
    WrongLength,
)
from flask_persistent_uploads.stored import Stat
from flask_persistent_uploads.testing import BackendContract

from ..servers import ROOT, clean_environment

LARGE = 4 << 20  # of a large file here, so that the tests stay fast

PROMISES = {name for name in dir(BackendContract) if name.startswith("test_")}

B = TypeVar("B", bound=type[Backend])


@dataclass(frozen=True)
class Case:
    """A backend, the contract tests that it must fail, and the contract's settings for it."""

    backend: type[Backend]
    fails: frozenset[str] = frozenset()
    keeps_empty_files: bool = True

    @property
    def name(self) -> str:
        return self.backend.__name__

    def contract(self) -> type[BackendContract]:
        """Return the contract's tests for this backend."""
        case = self

        class Contract(BackendContract):
            keeps_empty_files = case.keeps_empty_files
            large_size = LARGE

            @pytest.fixture
            def backend(self, request: pytest.FixtureRequest) -> Backend:
                if issubclass(case.backend, LocalBackend):
                    return case.backend(request.getfixturevalue("tmp_path") / "uploads")
                return case.backend()

        return Contract


BROKEN: list[Case] = []


def breaks(promise: Callable[..., None], *, keeps_empty_files: bool = True) -> Callable[[B], B]:
    """Register a backend that breaks one promise."""

    def register(backend: B) -> B:
        BROKEN.append(Case(backend, frozenset({promise.__name__}), keeps_empty_files))
        return backend

    return register


class Remainder(io.BytesIO):
    """What is left in a stream, read at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream.read())


def seconds_to_send(size: int) -> float:
    """Return how long a slow service takes to receive a file: 50 ms for 10 kB or more."""
    return min(size / 200_000, 0.05)


class LinkingBackend(MemoryBackend):
    """Has direct urls that expire."""

    def url(
        self, key: str, *, signed_at: int, expires_in: int, method: str = "GET", download_as: str | None = None
    ) -> str | None:
        options = {"from": signed_at, "for": expires_in, "method": method, "as": download_as or ""}
        return f"https://files.example/{quote(keys.check(key))}?{urlencode(options)}"


class NoEmptyFilesBackend(MemoryBackend):
    """Rejects empty files, as some services do."""

    def save(self, key: str, stream: IO[bytes], *, size: int, filename: str, **options: Any) -> str:
        if size == 0:
            raise TypeNotAllowed(f"'{filename}' is empty.", filename=filename)
        return super().save(key, stream, size=size, filename=filename, **options)


# Saving


@breaks(BackendContract.test_saved_content_is_read_back_unchanged)
class TranslatesNewlines(MemoryBackend):
    def open(self, key: str) -> IO[bytes]:
        content = super().open(key).read()
        return io.BytesIO(content if content.startswith(b"\x89PNG") else content.replace(b"\r\n", b"\n"))


@breaks(BackendContract.test_a_large_file_is_read_back_unchanged)
class LosesTheLastPartOfALargeFile(MemoryBackend):
    def open(self, key: str) -> IO[bytes]:
        content = super().open(key).read()
        return io.BytesIO(content if len(content) <= LARGE else content[:LARGE])


@breaks(BackendContract.test_an_empty_file_is_stored_or_rejected)
class RefusesEmptyFiles(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, size: int, **options: Any) -> str:
        if keys.check(key) and size == 0:
            raise BackendRefused("The service answered 400.", key=key)
        return super().save(key, stream, size=size, **options)


@breaks(BackendContract.test_an_empty_file_is_stored_or_rejected, keeps_empty_files=False)
class RejectsEmptyFilesWithoutAReason(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, size: int, **options: Any) -> str:
        if keys.check(key) and size == 0:
            raise UploadRejected("Bad request.")
        return super().save(key, stream, size=size, **options)


@breaks(BackendContract.test_an_empty_file_is_stored_or_rejected, keeps_empty_files=False)
class StoresEmptyFilesAndRejectsThem(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, size: int, **options: Any) -> str:
        sha256 = super().save(key, stream, size=size, **options)
        if size == 0:
            raise UploadRejected("It is empty.")
        return sha256


@breaks(BackendContract.test_save_returns_the_sha256_in_lower_case_hex)
class ReturnsAnUpperCaseDigest(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        return super().save(key, stream, **options).upper()


@breaks(BackendContract.test_save_returns_the_sha256_in_lower_case_hex)
class ReturnsTheDigestOfThePartsOfALargeFile(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, size: int, **options: Any) -> str:
        sha256 = super().save(key, stream, size=size, **options)
        return sha256 if size < LARGE else hashlib.sha256(sha256.encode()).hexdigest()


@breaks(BackendContract.test_save_starts_at_the_current_position_of_the_stream)
class RewindsTheStream(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        stream.seek(0)
        return super().save(key, stream, **options)


@breaks(BackendContract.test_save_reads_to_the_end_of_a_stream_that_returns_short_pieces)
class ReadsTheStreamTwice(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        return super().save(key, io.BytesIO(stream.read(16 << 20) + stream.read(16 << 20)), **options)


@breaks(BackendContract.test_save_leaves_the_stream_open)
class ClosesTheStream(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        sha256 = super().save(key, stream, **options)
        stream.close()
        return sha256


@breaks(BackendContract.test_a_failed_save_leaves_the_stream_open)
class ClosesTheStreamAfterAFailure(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        try:
            return super().save(key, stream, **options)
        except FileExists:
            stream.close()
            raise


@breaks(BackendContract.test_a_failed_save_leaves_the_stream_open)
class ClosesAStreamOfTheWrongLength(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        try:
            return super().save(key, stream, **options)
        except WrongLength:
            stream.close()
            raise


@breaks(BackendContract.test_a_stream_of_the_wrong_length_raises_backend_refused)
class ReportsTheWrongLengthAsAnOutage(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        try:
            return super().save(key, stream, **options)
        except WrongLength as error:
            raise BackendUnavailable("The service closed the connection.", key=key) from error


@breaks(BackendContract.test_a_stream_of_the_wrong_length_raises_backend_refused)
class IgnoresAFileOfTheWrongLength(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        try:
            return super().save(key, stream, **options)
        except WrongLength:
            return ""


@breaks(BackendContract.test_a_stream_of_the_wrong_length_stores_nothing)
class ChecksTheLengthWhenTheFileIsStored(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, size: int, overwrite: bool = False, **options: Any) -> str:
        rest = Remainder(stream)
        found = len(rest.getvalue())
        sha256 = super().save(key, rest, size=size if overwrite else found, overwrite=overwrite, **options)
        if found != size:
            raise WrongLength(key, expected=size, found=found)
        return sha256


@breaks(BackendContract.test_an_error_of_the_stream_is_raised_unchanged)
class ReportsAnErrorOfTheStreamAsAnOutage(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        try:
            return super().save(key, stream, **options)
        except RuntimeError as error:
            raise BackendUnavailable("The file could not be sent.", key=key) from error


class KeepsWhatItRead(MemoryBackend):
    """Stores what it read from a stream that broke, if that is at least :attr:`at_least` bytes."""

    at_least = 0

    def save(self, key: str, stream: IO[bytes], *, overwrite: bool = False, size: int, **options: Any) -> str:
        content = b""
        try:
            while piece := stream.read(1 << 20):
                content += piece
        except RuntimeError:
            if len(content) >= self.at_least and not overwrite:
                super().save(key, io.BytesIO(content), size=len(content), **options)
            raise
        return super().save(key, io.BytesIO(content), overwrite=overwrite, size=size, **options)


@breaks(BackendContract.test_an_error_of_the_stream_leaves_nothing_behind)
class KeepsAPartOfABrokenStream(KeepsWhatItRead):
    pass


@breaks(BackendContract.test_an_error_of_the_stream_leaves_nothing_behind)
class KeepsThePartsOfALargeBrokenStream(KeepsWhatItRead):
    at_least = LARGE * 3 // 4


@breaks(BackendContract.test_no_reader_sees_an_unfinished_file)
class WritesUnderTheFinalName(LocalBackend):
    def save(self, key: str, stream: IO[bytes], *, size: int, overwrite: bool = False, **options: Any) -> str:
        if overwrite:
            return super().save(key, stream, size=size, overwrite=overwrite, **options)
        path = self.filesystem_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        digest, found = hashlib.sha256(), 0
        try:
            file = path.open("xb")
        except FileExistsError:
            raise FileExists(key) from None
        try:
            with file:
                while piece := stream.read(1 << 20):
                    file.write(piece)
                    digest.update(piece)
                    found += len(piece)
            if found != size:
                raise WrongLength(key, expected=size, found=found)
        except BaseException:
            path.unlink()
            raise
        return digest.hexdigest()


@breaks(BackendContract.test_no_reader_sees_an_unfinished_file)
class EmptiesTheOldFileFirst(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, overwrite: bool = False, **options: Any) -> str:
        old = self._files.get(keys.check(key))
        if old is not None and overwrite:
            self._files[key] = old[0], b""
        try:
            return super().save(key, stream, overwrite=overwrite, **options)
        except BaseException:
            if old is not None:
                self._files[key] = old
            raise


@breaks(BackendContract.test_nothing_is_replaced_without_overwrite)
class ReplacesLargeFiles(MemoryBackend):
    """Ceph 16 does this: it ignores ``If-None-Match`` when it completes an upload in parts."""

    def save(self, key: str, stream: IO[bytes], *, size: int, overwrite: bool = False, **options: Any) -> str:
        return super().save(key, stream, size=size, overwrite=overwrite or size >= LARGE, **options)


@breaks(BackendContract.test_nothing_is_replaced_without_overwrite)
class AcceptsTheSameContentTwice(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, overwrite: bool = False, **options: Any) -> str:
        rest = Remainder(stream)
        found = self.stat(key)
        same = found is not None and found.sha256 == hashlib.sha256(rest.getvalue()).hexdigest()
        return super().save(key, rest, overwrite=overwrite or same, **options)


@breaks(BackendContract.test_nothing_is_replaced_without_overwrite)
class ReplacesAndRaises(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, size: int, **options: Any) -> str:
        rest = Remainder(stream)
        try:
            return super().save(key, rest, size=size, **options)
        except FileExists:
            if size == len(b"second"):
                self._files[key] = self._files[key][0], rest.getvalue()
            raise


@breaks(BackendContract.test_nothing_is_replaced_without_overwrite)
class ReportsATakenKeyAsARefusal(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        try:
            return super().save(key, stream, **options)
        except FileExists as error:
            raise BackendRefused("The service answered 412.", key=key) from error


@breaks(BackendContract.test_overwrite_replaces_the_whole_content)
class OverwritesInPlace(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, overwrite: bool = False, **options: Any) -> str:
        old = self._files.get(keys.check(key))
        sha256 = super().save(key, stream, overwrite=overwrite, **options)
        stat, content = self._files[key]
        if old is not None:
            self._files[key] = stat, content + old[1][len(content) :]
        return sha256


@breaks(BackendContract.test_overwrite_replaces_the_whole_content)
class IgnoresASmallerOverwrite(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, size: int, overwrite: bool = False, **options: Any) -> str:
        old = self._files.get(keys.check(key))
        sha256 = super().save(key, stream, size=size, overwrite=overwrite, **options)
        if old is not None and old[0].size > size:
            self._files[key] = old
        return sha256


@breaks(BackendContract.test_a_failed_overwrite_leaves_the_old_content)
class CleansUpTheOldFileToo(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, overwrite: bool = False, **options: Any) -> str:
        try:
            return super().save(key, stream, overwrite=overwrite, **options)
        except BaseException:
            if overwrite:
                self.delete(key)
            raise


@breaks(BackendContract.test_exactly_one_of_many_concurrent_saves_of_one_key_succeeds)
class ChecksBeforeItWrites(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, size: int, overwrite: bool = False, **options: Any) -> str:
        if not overwrite and self.stat(key) is not None:
            raise FileExists(key)
        time.sleep(seconds_to_send(size))
        return super().save(key, stream, size=size, overwrite=True, **options)


@breaks(BackendContract.test_exactly_one_of_many_concurrent_saves_of_one_key_succeeds)
class RefusesAllConcurrentSaves(MemoryBackend):
    def __init__(self) -> None:
        super().__init__()
        self._busy: dict[str, int] = {}

    def save(self, key: str, stream: IO[bytes], *, size: int, **options: Any) -> str:
        with self._lock:
            self._busy[keys.check(key)] = self._busy.get(key, 0) + 1
        try:
            time.sleep(seconds_to_send(size))
            if self._busy[key] > 1:
                raise BackendUnavailable("The service answered 409.", key=key)
            return super().save(key, stream, size=size, **options)
        finally:
            time.sleep(seconds_to_send(size))
            with self._lock:
                self._busy[key] -= 1


# Opening


@breaks(BackendContract.test_content_can_be_read_in_pieces)
class IgnoresTheSizeOfARead(MemoryBackend):
    class Stream(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read()

    def open(self, key: str) -> IO[bytes]:
        return self.Stream(super().open(key).read())


@breaks(BackendContract.test_content_can_be_read_in_pieces)
class DropsTheLastPiece(MemoryBackend):
    class Stream(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            piece = super().read(size)
            return piece if size is None or size < 0 or len(piece) == size else b""

    def open(self, key: str) -> IO[bytes]:
        return self.Stream(super().open(key).read())


@breaks(BackendContract.test_each_opened_stream_starts_at_the_beginning)
class SharesOneStream(MemoryBackend):
    def __init__(self) -> None:
        super().__init__()
        self._open: dict[str, IO[bytes]] = {}

    def open(self, key: str) -> IO[bytes]:
        if key not in self._open or self._open[key].closed:
            self._open[key] = super().open(key)
        return self._open[key]


@breaks(BackendContract.test_opening_a_missing_file_raises_file_missing)
class RaisesABuiltInErrorForAMissingFile(MemoryBackend):
    def open(self, key: str) -> IO[bytes]:
        try:
            return super().open(key)
        except FileMissing:
            raise FileNotFoundError(key) from None


@breaks(BackendContract.test_opening_a_missing_file_raises_file_missing)
class OpensDeletedFiles(MemoryBackend):
    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, bytes] = {}

    def delete(self, key: str) -> None:
        if keys.check(key) in self._files:
            self._cache[key] = self._files[key][1]
        super().delete(key)

    def open(self, key: str) -> IO[bytes]:
        try:
            return super().open(key)
        except FileMissing:
            if key in self._cache:
                return io.BytesIO(self._cache[key])
            raise


@breaks(BackendContract.test_opening_a_missing_file_raises_file_missing)
class OpensFolders(MemoryBackend):
    def open(self, key: str) -> IO[bytes]:
        if any(name.startswith(f"{key}/") for name in self._files):
            return io.BytesIO()
        return super().open(key)


# Facts about a file


@breaks(BackendContract.test_stat_of_a_missing_file_is_none)
class RaisesInStatForAMissingFile(MemoryBackend):
    def stat(self, key: str) -> Stat | None:
        found = super().stat(key)
        if found is None:
            raise FileMissing(key)
        return found


@breaks(BackendContract.test_stat_of_a_missing_file_is_none)
class RemembersDeletedFilesInStat(MemoryBackend):
    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, Stat] = {}

    def stat(self, key: str) -> Stat | None:
        return super().stat(key) or self._cache.get(key)

    def delete(self, key: str) -> None:
        found = super().stat(key)
        if found is not None:
            self._cache[key] = found
        super().delete(key)


@breaks(BackendContract.test_stat_of_a_missing_file_is_none)
class ReportsFoldersAsFiles(MemoryBackend):
    def stat(self, key: str) -> Stat | None:
        below = [name for name in self._files if name.startswith(f"{key}/")]
        return Stat(key, 0, datetime.now(timezone.utc)) if below else super().stat(key)


class ChangedStatBackend(MemoryBackend):
    """Changes what ``stat`` returns, but not what ``entries`` yields."""

    def change(self, stat: Stat) -> Stat:
        raise NotImplementedError

    def stat(self, key: str) -> Stat | None:
        found = super().stat(key)
        return found and self.change(found)


@breaks(BackendContract.test_stat_returns_the_key)
class ReturnsTheNameInTheStore(ChangedStatBackend):
    def change(self, stat: Stat) -> Stat:
        return replace(stat, key=f"uploads/{stat.key}")


@breaks(BackendContract.test_stat_returns_the_size_in_bytes)
class ReturnsTheSizeOnDisk(ChangedStatBackend):
    def change(self, stat: Stat) -> Stat:
        return replace(stat, size=-(-stat.size // 4096) * 4096)


@breaks(BackendContract.test_stat_returns_the_time_of_the_save_with_its_time_zone)
class ReturnsATimeWithoutATimeZone(ChangedStatBackend):
    def change(self, stat: Stat) -> Stat:
        return replace(stat, modified=stat.modified.replace(tzinfo=None))


@breaks(BackendContract.test_stat_returns_the_time_of_the_save_with_its_time_zone)
class ReturnsNoTime(ChangedStatBackend):
    def change(self, stat: Stat) -> Stat:
        return replace(stat, modified=datetime.fromtimestamp(0, timezone.utc))


@breaks(BackendContract.test_stat_returns_the_sha256_or_none)
class ReturnsAnMD5AsTheSHA256(ChangedStatBackend):
    def change(self, stat: Stat) -> Stat:
        return replace(stat, sha256=hashlib.md5(self._files[stat.key][1]).hexdigest())


# Deleting


@breaks(BackendContract.test_a_deleted_file_is_no_longer_listed)
class ListsDeletedFiles(MemoryBackend):
    def __init__(self) -> None:
        super().__init__()
        self._deleted: dict[str, Stat] = {}

    def delete(self, key: str) -> None:
        found = self.stat(key)
        if found is not None and not key.startswith(keys.RESERVED):
            self._deleted[key] = found
        super().delete(key)

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        deleted = [stat for key, stat in self._deleted.items() if key.startswith(prefix) and key not in self._files]
        yield from super().entries(prefix)
        yield from deleted


@breaks(BackendContract.test_deleting_a_missing_file_does_nothing)
class RaisesWhenItDeletesAMissingFile(MemoryBackend):
    def delete(self, key: str) -> None:
        if self.stat(key) is None and not any(name.startswith(f"{key}/") for name in self._files):
            raise FileMissing(key)
        super().delete(key)


@breaks(BackendContract.test_delete_leaves_all_other_files)
class DeletesWhatBeginsWithTheKey(MemoryBackend):
    def delete(self, key: str) -> None:
        for name in [name for name in self._files if name.startswith(key)]:
            super().delete(name)
        super().delete(key)


@breaks(BackendContract.test_delete_leaves_all_other_files)
class DeletesFolders(MemoryBackend):
    def delete(self, key: str) -> None:
        super().delete(key)
        for name in [name for name in self._files if name.startswith(f"{key}/")]:
            super().delete(name)


# Listing


@breaks(BackendContract.test_entries_yields_each_file_below_the_prefix_once)
class ListsOneLevelOnly(MemoryBackend):
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        for stat in super().entries(prefix):
            if not prefix.endswith("/") or "/sub/" not in stat.key.removeprefix(prefix.rstrip("/")):
                yield stat


@breaks(BackendContract.test_entries_yields_each_file_below_the_prefix_once)
class ListsNestedFilesTwice(MemoryBackend):
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        for stat in super().entries(prefix):
            yield from [stat] * (2 if "/sub/" in stat.key else 1)


@breaks(BackendContract.test_a_prefix_may_end_within_a_name)
class TakesThePrefixForAFolder(MemoryBackend):
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        for stat in super().entries(prefix):
            if not prefix or stat.key == prefix or stat.key.startswith(f"{prefix.rstrip('/')}/"):
                yield stat


@breaks(BackendContract.test_a_prefix_without_files_yields_nothing)
class RaisesForAMissingFolder(MemoryBackend):
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        found = super().entries(prefix)
        first = next(found, None)
        if first is not None:
            yield first
            yield from found
        elif prefix.endswith("/"):
            raise FileMissing(prefix)


@breaks(BackendContract.test_entries_without_a_prefix_yields_every_file)
class ListsNothingWithoutAPrefix(MemoryBackend):
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        yield from super().entries(prefix) if prefix else ()


class ChangedEntriesBackend(MemoryBackend):
    """Changes what ``entries`` yields, but not what ``stat`` returns."""

    def change(self, stat: Stat) -> Stat:
        raise NotImplementedError

    def entries(self, prefix: str = "") -> Iterator[Stat]:
        yield from map(self.change, super().entries(prefix))


@breaks(BackendContract.test_entries_yields_what_stat_returns)
class ListsFilesWithoutTheirSizes(ChangedEntriesBackend):
    def change(self, stat: Stat) -> Stat:
        return replace(stat, size=0)


@breaks(BackendContract.test_entries_yields_what_stat_returns)
class ListsTimesWithoutTheirTimeZone(ChangedEntriesBackend):
    def change(self, stat: Stat) -> Stat:
        return replace(stat, modified=stat.modified.replace(tzinfo=None))


@breaks(BackendContract.test_entries_yields_what_stat_returns)
class ListsAnMD5AsTheSHA256(ChangedEntriesBackend):
    def change(self, stat: Stat) -> Stat:
        return replace(stat, sha256=hashlib.md5(self._files[stat.key][1]).hexdigest())


@breaks(BackendContract.test_entries_starts_listing_at_the_first_iteration)
class ListsEverythingAtOnce(MemoryBackend):
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        return iter(list(super().entries(prefix)))


@breaks(BackendContract.test_files_can_be_deleted_while_they_are_listed)
class IteratesOverItsLiveFiles(MemoryBackend):
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        for stat, _ in self._files.values():
            if stat.key.startswith(prefix) and not stat.key.startswith(keys.RESERVED):
                yield stat


@breaks(BackendContract.test_files_can_be_deleted_while_they_are_listed)
class ListsPagesByTheirOffset(MemoryBackend):
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        offset = 0
        while page := list(super().entries(prefix))[offset : offset + 2]:
            yield from page
            offset += 2


# Keys


@breaks(BackendContract.test_an_odd_key_works_in_every_method)
class CutsOffAQueryInOpen(MemoryBackend):
    def open(self, key: str) -> IO[bytes]:
        return super().open(key.partition("?")[0] if "/" in key and not key.startswith("/") else key)


@breaks(BackendContract.test_an_odd_key_works_in_every_method)
class QuotesKeysInDelete(MemoryBackend):
    def delete(self, key: str) -> None:
        super().delete(quote(keys.check(key)) if not key.startswith(keys.RESERVED) else key)


@breaks(BackendContract.test_an_odd_key_works_in_every_method)
class FindsNoOddKeysInStat(MemoryBackend):
    def stat(self, key: str) -> Stat | None:
        return super().stat(key) if keys.check(key).isascii() else None


@breaks(BackendContract.test_odd_keys_are_listed_unchanged)
class ListsQuotedKeys(ChangedEntriesBackend):
    def change(self, stat: Stat) -> Stat:
        return replace(stat, key=quote(stat.key))


@breaks(BackendContract.test_odd_keys_are_listed_unchanged)
class ListsNormalizedKeys(ChangedEntriesBackend):
    def change(self, stat: Stat) -> Stat:
        return replace(stat, key=unicodedata.normalize("NFC", stat.key))


class RenamingBackend(MemoryBackend):
    """Keeps each file under another name than its key, and still lists the key."""

    def name_of(self, key: str) -> str:
        raise NotImplementedError

    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        name = self._name(key)
        sha256 = super().save(name, stream, **options)
        stat, content = self._files[name]
        self._files[name] = replace(stat, key=key), content
        return sha256

    def open(self, key: str) -> IO[bytes]:
        return super().open(self._name(key))

    def stat(self, key: str) -> Stat | None:
        return super().stat(self._name(key))

    def delete(self, key: str) -> None:
        super().delete(self._name(key))

    def _name(self, key: str) -> str:
        return keys.check(key) if key.startswith(keys.RESERVED) else self.name_of(keys.check(key))


@breaks(BackendContract.test_similar_keys_name_different_files)
class IgnoresCase(RenamingBackend):
    def name_of(self, key: str) -> str:
        return key.lower()


@breaks(BackendContract.test_similar_keys_name_different_files)
class NormalizesKeys(RenamingBackend):
    def name_of(self, key: str) -> str:
        return unicodedata.normalize("NFC", key)


@breaks(BackendContract.test_similar_keys_name_different_files)
class QuotesSpacesOnly(RenamingBackend):
    def name_of(self, key: str) -> str:
        return key.replace(" ", "%20")


@breaks(BackendContract.test_a_key_of_the_maximum_length_works)
class RefusesKeysOf900Bytes(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        if len(keys.check(key).encode()) >= 900:
            raise BackendRefused("The service answered 400.", key=key)
        return super().save(key, stream, **options)


@breaks(BackendContract.test_every_method_raises_invalid_key_for_an_invalid_key)
class IgnoresAnInvalidKeyInSave(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        try:
            return super().save(key, stream, **options)
        except InvalidKey:
            return ""


@breaks(BackendContract.test_every_method_raises_invalid_key_for_an_invalid_key)
class ReportsAnInvalidKeyAsAMissingFileInOpen(MemoryBackend):
    def open(self, key: str) -> IO[bytes]:
        try:
            return super().open(key)
        except InvalidKey:
            raise FileMissing(key) from None


@breaks(BackendContract.test_every_method_raises_invalid_key_for_an_invalid_key)
class AcceptsAnyKeyInStat(MemoryBackend):
    def stat(self, key: str) -> Stat | None:
        found = self._files.get(key)
        return found[0] if found else None


@breaks(BackendContract.test_every_method_raises_invalid_key_for_an_invalid_key)
class AcceptsAnyKeyInDelete(MemoryBackend):
    def delete(self, key: str) -> None:
        self._files.pop(key, None)


@breaks(BackendContract.test_every_method_raises_invalid_key_for_an_invalid_key)
class SignsAUrlForAnyKey(LinkingBackend):
    def url(self, key: str, *, signed_at: int, expires_in: int, download_as: str | None = None, **_: object) -> str:
        return f"https://files.example/{quote(key)}?{signed_at}&{expires_in}&{download_as}"


@breaks(BackendContract.test_every_method_raises_invalid_key_for_an_invalid_key)
class HasAPathForAnyKey(LocalBackend):
    def filesystem_path(self, key: str) -> Path:
        return self.directory / key


@breaks(BackendContract.test_a_reserved_key_works_in_every_method)
class RebuildsKeysFromText(MemoryBackend):
    def save(self, key: str, stream: IO[bytes], *, overwrite: bool = False, **options: Any) -> str:
        return super().save(str(key) if overwrite else key, stream, overwrite=overwrite, **options)


@breaks(BackendContract.test_a_reserved_key_works_in_every_method)
class NeverDeletesReservedFiles(MemoryBackend):
    def delete(self, key: str) -> None:
        if not keys.check(key).startswith(keys.RESERVED):
            super().delete(key)


@breaks(BackendContract.test_reserved_files_are_not_listed)
class ListsReservedFiles(MemoryBackend):
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        for stat, _ in list(self._files.values()):
            if stat.key.startswith(prefix):
                yield stat


@breaks(BackendContract.test_reserved_files_are_not_listed)
class ListsReservedFilesOnRequest(MemoryBackend):
    def entries(self, prefix: str = "") -> Iterator[Stat]:
        for stat, _ in list(self._files.values()):
            if stat.key.startswith(prefix) and (prefix or not stat.key.startswith(keys.RESERVED)):
                yield stat


# Direct urls


@breaks(BackendContract.test_the_same_arguments_give_the_same_url)
class SignsWithANonce(LinkingBackend):
    def url(self, key: str, **options: Any) -> str:
        return f"{super().url(key, **options)}&nonce={os.urandom(8).hex()}"


@breaks(BackendContract.test_another_key_gives_another_url)
class LinksToTheFolder(LinkingBackend):
    def url(self, key: str, **options: Any) -> str | None:
        return super().url(keys.check(key).rpartition("/")[0] or "root", **options)


@breaks(BackendContract.test_a_url_that_expires_depends_on_its_moment_and_its_lifetime)
class IgnoresTheMomentOfAUrl(LinkingBackend):
    def url(self, key: str, *, signed_at: int, **options: Any) -> str | None:
        return super().url(key, signed_at=0, **options)


@breaks(BackendContract.test_a_url_that_expires_depends_on_its_moment_and_its_lifetime)
class IgnoresTheLifetimeOfAUrl(LinkingBackend):
    def url(self, key: str, *, expires_in: int, **options: Any) -> str | None:
        return super().url(key, expires_in=3600, **options)


@breaks(BackendContract.test_a_url_for_a_download_is_another_url)
class IgnoresTheNameOfADownload(LinkingBackend):
    def url(self, key: str, *, download_as: str | None = None, **options: Any) -> str | None:
        return super().url(key, **options)


@breaks(BackendContract.test_making_a_url_uses_no_network)
class AsksTheServiceForAUrl(LinkingBackend):
    def url(self, key: str, **options: Any) -> str | None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", 9), timeout=1).close()
        return super().url(key, **options)


@breaks(BackendContract.test_urls_signed_now_still_work)
class HasExpiredCredentials(LinkingBackend):
    def valid_until(self) -> float | None:
        return time.time() - 60


# Files on the disk of this machine


@breaks(BackendContract.test_filesystem_path_leads_to_the_content)
class HasAPathElsewhere(LocalBackend):
    def filesystem_path(self, key: str) -> Path:
        return self.directory.parent / keys.check(key)


@breaks(BackendContract.test_filesystem_path_works_without_a_file)
class HasAPathForStoredFilesOnly(LocalBackend):
    def filesystem_path(self, key: str) -> Path:
        path = super().filesystem_path(key)
        if not path.exists():
            raise FileMissing(key)
        return path


# Threads


@breaks(BackendContract.test_many_threads_save_and_read_their_own_files)
class RemembersTheKeyOnTheBackend(MemoryBackend):
    def open(self, key: str) -> IO[bytes]:
        self._key = keys.check(key)
        time.sleep(0.005)
        return super().open(self._key)


HONEST = [
    Case(MemoryBackend),
    Case(LocalBackend),
    Case(LinkingBackend),
    Case(NoEmptyFilesBackend, keeps_empty_files=False),
]
CASES = {case.name: case for case in [*HONEST, *BROKEN]}

PROCESSES = 2
MODULE = f"""
from {__name__} import CASES

names = list(CASES)[{{start}}::{PROCESSES}]
globals().update((f"Test{{{{name}}}}", CASES[name].contract()) for name in names)
"""


@dataclass(frozen=True)
class Result:
    """Which contract tests ran for a backend, and which of them failed."""

    ran: set[str]
    failed: set[str]


def run_contract(folder: Path, start: int) -> ElementTree.Element:
    """Run the contract on every second backend in a process of its own and return the JUnit report."""
    folder.mkdir()
    (folder / "test_generated.py").write_text(MODULE.format(start=start))
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "--junitxml=report.xml"]
    done = subprocess.run(
        [*command, f"--basetemp={folder / 'files'}", "test_generated.py"],
        cwd=folder,
        env=clean_environment(PYTHONPATH=str(ROOT), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return ElementTree.parse(folder / "report.xml").getroot()


def run_contracts(folder: Path) -> dict[str, Result]:
    """Run the contract on all backends and return the results by the name of the case."""
    found = {name: Result(set(), set()) for name in CASES}
    with ThreadPoolExecutor(PROCESSES) as pool:
        reports = list(pool.map(lambda start: run_contract(folder / str(start), start), range(PROCESSES)))
    for test in itertools.chain.from_iterable(report.iter("testcase") for report in reports):
        result = found[test.attrib["classname"].rpartition(".Test")[2]]
        promise = test.attrib["name"].partition("[")[0]
        result.ran.add(promise)
        if any(child.tag in {"failure", "error", "skipped"} for child in test):
            result.failed.add(promise)
    return found


def test_each_backend_fails_exactly_the_test_of_the_promise_it_breaks(tmp_path: Path) -> None:
    results = run_contracts(tmp_path)
    assert {name for name, result in results.items() if result.ran != PROMISES} == set()
    assert {name: result.failed for name, result in results.items()} == {
        name: case.fails for name, case in CASES.items()
    }


def test_a_large_file_is_larger_than_one_request_of_our_backends() -> None:
    assert BackendContract.large_size > max(ONE_REQUEST, CHUNK)


def test_each_promise_is_broken_by_a_backend() -> None:
    assert {promise for case in BROKEN for promise in case.fails} == PROMISES
