"""Stores files in a backend: all of them, or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import IO

from ..backends.base import Backend
from ..errors import BackendError, BackendTimeout, UploadRejected
from ..log import logger
from .validation import Inspected


@dataclass(slots=True)
class Job:
    """A file to store under ``key``, and the state of storing it.

    :attr:`content_type`  the type that the backend stores with the file
    :attr:`field`         the form field that the file came in, if it came in one
    :attr:`started`       whether saving it has begun
    :attr:`error`         what saving it raised
    """

    key: str
    stream: IO[bytes]
    inspected: Inspected
    content_type: str
    field: str | None = None
    started: bool = False
    error: BaseException | None = None


def save(backend: Backend, jobs: Sequence[Job]) -> list[str]:
    """Store the files, in parallel if the backend gains from it. Return their SHA-256 (hex) in order.

    Afterwards each stream is at its start. Raises the first failure; :func:`all_or_nothing` cleans up.
    """
    return _in_parallel(backend.parallel, lambda job: _save_one(backend, job), jobs)


@contextmanager
def all_or_nothing(backend: Backend, jobs: Sequence[Job]) -> Iterator[None]:
    """If the ``with`` block fails, delete the files that it stored, and log the keys of those that may be left."""
    try:
        yield
    except BaseException as error:
        orphans = _delete_all(backend, [job for job in jobs if job.started])
        if isinstance(error, BackendError):
            error.leave_behind(orphans)
            logger.error("an upload to %s failed: %s", backend.name, error)
        elif orphans:
            logger.error("an upload to %s failed and may have left %s", backend.name, ", ".join(orphans))
        raise


def _save_one(backend: Backend, job: Job) -> str:
    started = time.perf_counter()
    job.started = True
    try:
        sha256 = backend.save(
            job.key,
            job.stream,
            content_type=job.content_type,
            size=job.inspected.size,
            filename=job.inspected.filename or job.key.rpartition("/")[2],
        )
    except BaseException as error:
        job.error = error
        if isinstance(error, UploadRejected):  # by a service that inspects files; it does not know the field
            error.field, error.filename = job.field, job.inspected.filename
        raise
    job.stream.seek(0)
    milliseconds = (time.perf_counter() - started) * 1000
    logger.info("saved %s (%d bytes) to %s in %.0f ms", job.key, job.inspected.size, backend.name, milliseconds)
    return sha256


def _delete_all(backend: Backend, jobs: Sequence[Job]) -> list[str]:
    """Delete the files of these jobs. Return the keys of those that may be left."""
    left = _in_parallel(backend.parallel, lambda job: "" if _delete_one(backend, job) else job.key, jobs)
    return [key for key in left if key]


def _delete_one(backend: Backend, job: Job) -> bool:
    """Delete the file of this job, if it may be stored. Return whether it is certain that none is left."""
    error = job.error
    if isinstance(error, BackendError) and error.orphans:
        return False  # the backend itself tried to delete it
    if isinstance(error, UploadRejected) or (isinstance(error, BackendError) and error.nothing_stored):
        return True
    if isinstance(error, BackendTimeout):
        return False  # it may have been stored, but a silent backend would only time out again
    try:
        backend.delete(job.key)
    except BackendError as failure:
        logger.error("%s could not be deleted from %s: %s", job.key, backend.name, failure)
        return False
    except Exception:  # noqa: BLE001 - the failure that led here must not be hidden by another one
        logger.exception("%s could not be deleted from %s", job.key, backend.name)
        return False
    return True


def _in_parallel(workers: int, work: Callable[[Job], str], jobs: Sequence[Job]) -> list[str]:
    """Return the result of ``work`` for each job, in order. After the first failure, start no further job."""
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
            stop.set()  # set here, because a worker takes its next job before the main thread learns of the failure
            raise

    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            futures = [pool.submit(unless_stopped, job) for job in jobs]
            wait(futures)
        except BaseException:
            stop.set()  # on interrupt, stop the workers
            raise
    return [future.result() for future in futures]
