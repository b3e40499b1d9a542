"""Several files on their way into a backend: all of them are stored, or none is left."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from ..backends.base import Backend
from ..errors import BackendError, BackendTimeout, InvalidKey
from .validation import Inspected

logger = logging.getLogger("flask_persistent_uploads")


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
        if orphans:
            named = ", ".join(orphans)
            logger.error("an upload failed; left behind in %s: %s", backend.name, named)  # noqa: TRY400 - it is raised
        if orphans and isinstance(error, BackendError):
            error.leave_behind(orphans)
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
        if isinstance(job.error, BackendTimeout):
            return job.key  # it may have arrived; a backend that is silent is not asked a second time
        try:
            backend.delete(job.key)
        except InvalidKey:
            return ""
        except BackendError:
            return job.key
        return ""

    return [key for key in _side_by_side(backend.parallel, delete, jobs) if key]


def _side_by_side(workers: int, work: Callable[[Job], str], jobs: Sequence[Job]) -> list[str]:
    """The results of ``work``, in order; at the first failure no further job is begun."""
    workers = min(workers, len(jobs))
    if workers < 2:
        return [work(job) for job in jobs]
    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise
