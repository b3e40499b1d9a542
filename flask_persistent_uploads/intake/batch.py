"""Several files on their way into a backend: all of them are stored, or none is left."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import IO

from ..backends.base import Backend
from ..errors import (
    BackendError,
    BackendFull,
    BackendRefused,
    BackendTimeout,
    FileExists,
    InvalidKey,
    UploadRejected,
)
from .validation import Inspected

logger = logging.getLogger("flask_persistent_uploads")


# Refusals: the backend has said that it stored nothing.
_NOTHING_STORED = (BackendRefused, BackendFull, FileExists, InvalidKey, UploadRejected)


@dataclass(slots=True)
class Job:
    """One file to be stored under ``key``; ``kept_as`` is the content type that the backend is told."""

    key: str
    stream: IO[bytes]
    seen: Inspected
    kept_as: str
    begun: bool = False
    error: BaseException | None = None


def save(backend: Backend, jobs: Sequence[Job]) -> list[str]:
    """Store the files, side by side where that pays; their SHA-256, in order. Each stream then stands at its start."""
    return _side_by_side(backend.parallel, lambda job: _save_one(backend, job), jobs)


@contextmanager
def all_or_nothing(backend: Backend, jobs: Sequence[Job]) -> Iterator[None]:
    """If what is done within fails, delete what it stored, and name what could not be deleted."""
    try:
        yield
    except BaseException as error:
        orphans = _remove_again(backend, [job for job in jobs if job.begun])
        if isinstance(error, BackendError):
            if orphans:
                error.leave_behind(orphans)
            logger.error("an upload to %s failed: %s", backend.name, error)  # noqa: TRY400 - the app answers it
        elif orphans:
            logger.error("an upload to %s failed and left %s", backend.name, ", ".join(orphans))  # noqa: TRY400
        raise


def _save_one(backend: Backend, job: Job) -> str:
    begun = time.perf_counter()
    job.begun = True
    try:
        sha256 = backend.save(
            job.key,
            job.stream,
            content_type=job.kept_as,
            size=job.seen.size,
            filename=job.seen.filename or job.key.rpartition("/")[2],
        )
    except BaseException as error:
        job.error = error
        raise
    job.stream.seek(0)
    took = (time.perf_counter() - begun) * 1000
    logger.info("saved %s (%d bytes) to %s in %.0f ms", job.key, job.seen.size, backend.name, took)
    return sha256


def _remove_again(backend: Backend, jobs: Sequence[Job]) -> list[str]:
    """Delete the files of these jobs; the keys of those that may be left."""

    def delete(job: Job) -> str:
        if isinstance(job.error, BackendError) and job.error.orphans:
            return job.key  # the backend has tried
        if isinstance(job.error, _NOTHING_STORED):
            return ""
        if isinstance(job.error, BackendTimeout):
            return job.key  # it may have arrived; a backend that is silent is not asked a second time
        try:
            backend.delete(job.key)
        except BackendError as error:
            logger.error("%s could not be removed from %s again: %s", job.key, backend.name, error)  # noqa: TRY400
            return job.key
        except Exception:
            logger.exception("%s could not be removed from %s again", job.key, backend.name)
            return job.key
        return ""

    return [key for key in _side_by_side(backend.parallel, delete, jobs) if key]


def _side_by_side(workers: int, work: Callable[[Job], str], jobs: Sequence[Job]) -> list[str]:
    """The results of ``work``, in order; at the first failure no further job is begun."""
    workers = min(workers, len(jobs))
    if workers < 2:
        return [work(job) for job in jobs]
    stop = Event()

    def unless_stopped(job: Job) -> str:
        if stop.is_set():
            return ""
        try:
            return work(job)
        except BaseException:
            stop.set()  # here, as a worker takes its next job before anybody else learns of the failure
            raise

    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            futures = [pool.submit(unless_stopped, job) for job in jobs]
            wait(futures)
        except BaseException:  # what interrupts the waiting must not leave the workers at it
            stop.set()
            raise
    return [future.result() for future in futures]
