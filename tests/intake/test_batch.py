"""Several files are stored all together or not at all, and what may be left is named."""

from __future__ import annotations

import io
import logging
import threading
from typing import IO, Any

import pytest

from flask_persistent_uploads import (
    BackendError,
    BackendFull,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    TypeNotAllowed,
)
from flask_persistent_uploads.backends.memory import MemoryBackend
from flask_persistent_uploads.intake import batch
from flask_persistent_uploads.intake.batch import Job
from flask_persistent_uploads.intake.validation import Inspected


class Failing(MemoryBackend):
    """Raises the error that is given for a key when that key is saved."""

    def __init__(self, errors: dict[str, Exception], *, delete: Exception | None = None, parallel: int = 1) -> None:
        super().__init__()
        self.errors, self.delete_error, self.workers = errors, delete, parallel
        self.saved: list[str] = []
        self.deleted: list[str] = []

    @property
    def parallel(self) -> int:  # type: ignore[override]
        return self.workers

    def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
        self.saved.append(key)
        if key in self.errors:
            raise self.errors[key]
        return super().save(key, stream, **options)

    def delete(self, key: str) -> None:
        self.deleted.append(key)
        if self.delete_error is not None:
            raise self.delete_error
        super().delete(key)


def jobs(*keys: str) -> list[Job]:
    inspected = Inspected("photo.png", "image/png", "png", 7)
    return [Job(key, io.BytesIO(b"content"), inspected, "image/png", f"field-{key}") for key in keys]


def store(backend: MemoryBackend, *keys: str) -> list[str]:
    found = jobs(*keys)
    with batch.all_or_nothing(backend, found):
        return batch.save(backend, found)


def fail_after(digests: list[str]) -> None:
    raise RuntimeError("a receiver failed")


def left(backend: MemoryBackend) -> set[str]:
    return {entry.key for entry in backend.entries()}


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.parametrize("parallel", [1, 4])
def test_digests_come_in_the_order_of_the_files_and_streams_are_rewound(parallel: int) -> None:
    found = jobs("a", "b", "c")
    for number, job in enumerate(found):
        job.stream = io.BytesIO(b"%07d" % number)
    backend = Failing({}, parallel=parallel)
    digests = batch.save(backend, found)
    assert digests == [stat.sha256 for key in "abc" if (stat := backend.stat(key))]
    assert len(set(digests)) == 3
    assert [job.stream.tell() for job in found] == [0, 0, 0]


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("error", [BackendUnavailable("down"), RuntimeError("a bug"), KeyError("another")])
def test_after_a_failure_nothing_is_left(parallel: int, error: Exception) -> None:
    backend = Failing({"b": error}, parallel=parallel)
    with pytest.raises(type(error)) as raised:
        store(backend, "a", "b", "c")
    assert raised.value is error
    assert left(backend) == set()
    assert getattr(error, "orphans", ()) == ()


def test_a_failure_after_the_files_are_stored_deletes_them_too() -> None:
    backend, found = Failing({}), jobs("a", "b")
    with pytest.raises(RuntimeError, match="a receiver"), batch.all_or_nothing(backend, found):
        fail_after(batch.save(backend, found))
    assert left(backend) == set()


@pytest.mark.parametrize(
    "error",
    [
        BackendRefused("no"),
        BackendFull("full"),
        BackendUnavailable("not reached", nothing_stored=True),
        TypeNotAllowed("not a picture"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_file_that_is_certainly_not_stored_is_not_deleted(error: Exception) -> None:
    backend = Failing({"a": error}, delete=BackendUnavailable("down"))
    with pytest.raises(type(error)):
        store(backend, "a")
    assert backend.deleted == []
    assert getattr(error, "orphans", ()) == ()


def test_a_silent_backend_is_not_asked_again_and_the_file_is_named() -> None:
    backend = Failing({"a": BackendTimeout("No answer.")})
    with pytest.raises(BackendTimeout) as raised:
        store(backend, "a")
    assert backend.deleted == []
    assert raised.value.orphans == ("a",)


def test_a_file_that_the_backend_could_not_delete_is_named_once() -> None:
    error = BackendUnavailable("The file was altered, and could not be deleted.", key="b")
    error.leave_behind(["b"])
    backend = Failing({"b": error})
    with pytest.raises(BackendUnavailable):
        store(backend, "a", "b")
    assert (backend.deleted, error.orphans) == (["a"], ("b",))


@pytest.mark.parametrize("failure", [BackendUnavailable("down"), ConnectionResetError("reset")])
def test_files_that_cannot_be_deleted_are_named_in_the_error_and_in_the_log(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Failing({"b": BackendUnavailable("The store went away.", remedy="Bring it back.")}, delete=failure)
    with pytest.raises(BackendError) as raised:
        store(backend, "a", "b")
    assert raised.value.orphans == ("a", "b")
    assert "a, b" in str(raised.value)
    assert raised.value.description is not None
    assert "a, b" not in raised.value.description
    assert len(logged(caplog)) == 3
    assert logged(caplog)[-1] == f"an upload to memory failed: {raised.value}"


def test_files_that_are_left_by_a_bug_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError):
        store(Failing({"b": RuntimeError("a bug")}, delete=BackendUnavailable("down")), "a", "b")
    assert logged(caplog)[-1] == "an upload to memory failed and may have left a, b"


def test_no_further_file_is_started_after_a_failure() -> None:
    backend = Failing({"b": BackendUnavailable("down")})
    with pytest.raises(BackendUnavailable):
        store(backend, "a", "b", "c", "d")
    assert backend.saved == ["a", "b"]


def test_workers_start_no_further_file_after_a_failure() -> None:
    both = threading.Barrier(2, timeout=10)

    class Paired(Failing):
        def save(self, key: str, stream: IO[bytes], **options: Any) -> str:
            if len(self.saved) < 2:
                both.wait()
            return super().save(key, stream, **options)

    keys = [f"{number}" for number in range(40)]
    backend = Paired({"0": BackendUnavailable("down"), "1": BackendUnavailable("down")}, parallel=2)
    with pytest.raises(BackendUnavailable):
        store(backend, *keys)
    assert set(backend.saved) == {"0", "1"}


def test_a_refusal_by_the_service_has_the_field_and_the_name_of_the_file() -> None:
    error = TypeNotAllowed("The service cannot read this picture.")
    with pytest.raises(TypeNotAllowed):
        store(Failing({"b": error}), "a", "b")
    assert (error.field, error.filename) == ("field-b", "photo.png")
    assert error.data["errors"] == {"files": {"field-b": ["The service cannot read this picture."]}}
