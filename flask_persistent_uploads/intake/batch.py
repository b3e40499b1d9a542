"""Stores several files in a backend: all of them, or none."""

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
    """A file to store under ``key``, with the content type that the backend is told.

    ``field`` is the form field that it came in. ``started`` and ``error`` record what became of it.
    """

    key: str
    stream: IO[bytes]
    inspected: Inspected
    content_type: str
    field: str | None = None
    started: bool = False
    error: BaseException | None = None


def save(backend: Backend, jobs: Sequence[Job]) -> list[str]:
    """Store the files, side by side if the backend gains from it. Return their SHA-256 in order.

    Each stream then stands at its start. The first failure is raised; :func:`all_or_nothing` cleans up.
    """
    return _side_by_side(backend.parallel, lambda job: _save_one(backend, job), jobs)


@contextmanager
def all_or_nothing(backend: Backend, jobs: Sequence[Job]) -> Iterator[None]:
    """If the ``with`` block fails, delete the files that it stored, and log the keys that may be left."""
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
        if isinstance(error, UploadRejected):  # by a service that looks into files; it does not know the field
            error.field, error.filename = job.field, job.inspected.filename
        raise
    job.stream.seek(0)
    milliseconds = (time.perf_counter() - started) * 1000
    logger.info("saved %s (%d bytes) to %s in %.0f ms", job.key, job.inspected.size, backend.name, milliseconds)
    return sha256


def _delete_all(backend: Backend, jobs: Sequence[Job]) -> list[str]:
    """Delete the files of these jobs. Return the keys of those that may be left."""
    left = _side_by_side(backend.parallel, lambda job: "" if _delete_one(backend, job) else job.key, jobs)
    return [key for key in left if key]


def _delete_one(backend: Backend, job: Job) -> bool:
    """Return whether it is certain that the file is not in the store."""
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


def _side_by_side(workers: int, work: Callable[[Job], str], jobs: Sequence[Job]) -> list[str]:
    """Return the results of ``work``, in order. After the first failure no further job is started."""
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
